"""The contribution of each model, for the page: rows of `evaluation.credit` -> sentences, bars and a table a head.

Of several asset classes, sentences and bars are of all together; the table also has a row for each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.evaluation.verdict import SKILL
from gatecast.forecasting.panel import NETWORK, NETWORKS
from gatecast.report.figures import Data
from gatecast.report.scorecard import simpler, stretch
from gatecast.report.words import Names, begun, is_number, named, percent, phrased

Row = Mapping[str, Any]

FORECASTS = {
    "return": "the forecast of returns",
    "direction": "the probability of a rise",
    "volatility": "the volatility forecast",
    "regime": "the probability of turbulence",
}
WORTH = {"helps": "helps", "hurts": "hurts", "unclear": "not significant", "nothing": "no effect"}
"""Outcome of a model's test -> its words in a table."""


def credit(rows: Iterable[Row], in_force: Iterable[Row] = (), names: Names | None = None) -> list[Data]:
    """One entry a head: `head`, `says` (sentences), `bars` (the picture) and `rows` (the table).

    `in_force`: see `scores.changes_of`; `names`: model -> title, of the run.
    """
    every, changes = list(rows), list(in_force)
    scopes = list(dict.fromkeys(row["asset_class"] for row in every))
    found: list[Data] = []
    for head in dict.fromkeys(row["head"] for row in every):
        whole = [row for row in every if row["head"] == head and row["asset_class"] == scopes[0]]
        found.append(
            {
                "head": head,
                "says": [
                    chosen([row for row in changes if row["head"] == head], names),
                    *(sentence(row, names) for row in whole if tuple(row["models"]) in NETWORKS),
                    others(whole, names),
                ],
                "bars": [_bar(row, names) for row in whole],
                "rows": [
                    {**row, "label": label(row, names), "worth": WORTH.get(row.get("worth", ""), "")}
                    for row in every if row["head"] == head
                ],
                "classes": scopes if len(scopes) > 1 else [],
            }
        )  # fmt: skip
    return found


def gains(verdicts: Mapping[str, Row], rows: Iterable[Row]) -> list[Data]:
    """One row a head: the gain of the forecast in force over the rival, and the network's contribution to it.

    In: head -> verdict, and the rows of `evaluation.credit`. `more`, `statistic`, `worth` are of the network, with its
    correction where it has one, over all asset classes together.

    >>> verdict = {"rival": "zero", "effect": -0.001, "low": -0.004, "high": 0.002, "pvalue": 0.7}
    >>> row = {"asset_class": "index", "head": "return", "models": ["lstm"], "more": 0.002, "statistic": 0.4}
    >>> gains({"return": verdict}, [row | {"worth": "unclear"}])[0]["more"]
    0.002
    """
    every = list(rows)
    found = []
    for head in (head for head in verdicts if head in FORECASTS):
        of_head = [row for row in every if row["head"] == head and tuple(row["models"]) in NETWORKS]
        own = max(
            of_head, key=lambda row: (row["asset_class"] == of_head[0]["asset_class"], len(row["models"])), default={}
        )
        found.append(
            {"head": head, **{key: verdicts[head].get(key) for key in ("rival", "effect", "low", "high", "pvalue")},
             **{key: own.get(key) for key in ("more", "statistic")}, "worth": WORTH.get(own.get("worth", ""), "")}
        )  # fmt: skip
    return found


def alone(
    models: Iterable[Row],
    verdicts: Mapping[str, Row],
    window: str | int | None = None,
    many: Mapping[str, Row] | None = None,
    names: Names | None = None,
) -> list[str]:
    """The gains of the network alone, and the heads with evidence of skill: two sentences, none without a network.

    In: rows of `scores["models"]`, whose `gain` is over the rival in force, as a share of its loss; head -> verdict;
    the window that the network is trained on; `scores["many"]`, which says whether a gain is significant; model ->
    title.

    >>> rows = [{"model": "lstm", "head": head, "gain": gain} for head, gain in (("return", -0.0041), ("regime", -0.1))]
    >>> verdicts = {"regime": {"verdict": "evidence of skill", "simpler": "base_rate"}}
    >>> alone(rows[:1], verdicts, "2Y")[0]
    'The LSTM alone, trained on the last 2 years, has a larger loss than the rival in every head: return 0.41 %.'
    >>> print(alone(rows, verdicts)[1])
    Evidence of skill: regime (ensemble of all models). In regime, the past share is not shown to be worse.
    >>> alone([rows[0] | {"gain": 0.001}], {})[0]
    'The LSTM alone has a smaller loss than the rival in every head: return 0.10 % (not significant).'
    """
    gains = {row["head"]: row["gain"] for row in models if row.get("model") == NETWORK and is_number(row.get("gain"))}
    if not gains:
        return []
    sure = {
        head for head, one in (many or {}).items() for row in one.get("models") or ()
        if row.get("model") == NETWORK and row.get("beats_rival")
    }  # fmt: skip

    def listed(won: bool) -> str:
        parts = {head: value for head, value in gains.items() if (value > 0) == won}
        return ", ".join(
            f"{named(head)} {percent(abs(value), 2 if abs(value) < 0.1 else 1)}"
            + (" (not significant)" if won and head not in sure else "")
            for head, value in parts.items()
        )

    span = "all past bars" if window == "expanding" else stretch(window) if window else ""
    trained = f", trained on {span}," if span else ""
    won, lost = listed(True), listed(False)
    compared = (
        f"has a smaller loss than the rival in {won}, and a larger one in {lost}" if won and lost
        else f"has a smaller loss than the rival in every head: {won}" if won
        else f"has a larger loss than the rival in every head: {lost}"
    )  # fmt: skip
    skilled = [head for head, verdict in verdicts.items() if verdict.get("verdict") == SKILL]
    by = " (ensemble of all models)" if any(head in FORECASTS for head in skilled) else ""
    shown = f"{' and '.join(named(head) for head in skilled)}{by}" if skilled else "none"
    simple = {head: simpler(verdicts[head]) for head in skilled}
    as_good = [
        f"In {named(head)}, {phrased(name, names)} is not shown to be worse." for head, name in simple.items() if name
    ]
    return [
        f"{begun(phrased(NETWORK, names))} alone{trained} {compared}.",
        " ".join([f"Evidence of skill: {shown}.", *as_good]),
    ]


def chosen(changes: Iterable[Row], names: Names | None = None) -> str:
    """Which forecast of a head was in force, and since when.

    >>> rows = [{"asset_class": "index", "since": "2001-03-01", "model": "equal_weight"},
    ...         {"asset_class": "index", "since": "2009-05-04", "model": "stacked"}]
    >>> chosen(rows)
    'In force: equal weights from 2001-03-01, stacked weights from 2009-05-04.'
    >>> chosen([*rows[:1], {"asset_class": "fx", "since": "2004-01-05", "model": "base_rate"}])
    'In force: index: equal weights from 2001-03-01; fx: past share from 2004-01-05.'
    >>> chosen([])
    ''
    """
    classes: dict[str, list[str]] = {}
    for row in changes:
        classes.setdefault(row["asset_class"], []).append(f"{named(row['model'], names)} from {row['since']}")
    parts = [
        ", ".join(one) if len(classes) == 1 else f"{named(name)}: {', '.join(one)}" for name, one in classes.items()
    ]
    return f"In force: {'; '.join(parts)}." if parts else ""


def sentence(row: Row, names: Names | None = None) -> str:
    """How the loss of the forecast in force changes without the models of a row, and whether that is significant.

    >>> row = {"head": "volatility", "models": ["lstm"], "more": 0.0123, "statistic": 2.14}
    >>> sentence(row | {"worth": "unclear"})
    'Without the LSTM, the loss of the volatility forecast is 1.23 % higher (t 2.1, not significant).'
    >>> sentence(row | {"more": -0.02, "statistic": -4.0, "worth": "hurts"})
    'Without the LSTM, the loss of the volatility forecast is 2.00 % lower (t −4.0, significant).'
    >>> sentence(row | {"models": ["lstm", "residual_lstm"], "worth": "nothing"})
    'Without the LSTM and the LSTM correction, the volatility forecast is the same.'
    >>> sentence(row | {"models": ["forest"], "more": -1e-6, "worth": "unclear"})
    'Without the random forest, the loss of the volatility forecast changes by less than 0.01 %.'
    """
    forecast = FORECASTS.get(row["head"], named(row["head"]))
    without = f"Without {' and '.join(phrased(name, names) for name in row['models'])},"
    more, statistic = row.get("more"), row.get("statistic")
    if row.get("worth") == "nothing":
        return f"{without} {forecast} is the same."
    if not is_number(more):
        return f"{without} the loss of {forecast} cannot be computed."
    if round(100 * more, 2) == 0:
        return f"{without} the loss of {forecast} changes by less than 0.01 %."
    t = f"t {statistic:.1f}, ".replace("-", "−") if is_number(statistic) else ""
    significance = "significant" if row.get("worth") in ("helps", "hurts") else "not significant"
    change = f"{percent(abs(more), 2)} {'higher' if more >= 0 else 'lower'}"
    return f"{without} the loss of {forecast} is {change} ({t}{significance})."


def others(rows: Iterable[Row], names: Names | None = None) -> str:
    """The models beside the networks that significantly lower or raise the loss of the forecast in force.

    >>> rows = [{"models": [name], "more": more, "worth": worth} for name, more, worth in
    ...         (("forest", 0.01, "helps"), ("constant", -0.005, "hurts"), ("har", 0.001, "unclear"))]
    >>> others(rows)
    'Lowers the loss: random forest (1.00 %). Raises the loss: constant variance (0.50 %).'
    >>> others([{"models": ["ridge"], "more": -1e-6, "worth": "hurts"}, {"models": ["lstm"]}])
    'Raises the loss: ridge regression (less than 0.01 %).'
    >>> others(rows[2:]), others([*rows[2:], {"models": ["lstm"]}])
    ('No model has a significant effect.', 'No model beside the networks has a significant effect.')
    """
    rows = list(rows)
    rest = [row for row in rows if tuple(row["models"]) not in NETWORKS]
    parts = []
    for worth, start in (("helps", "Lowers the loss"), ("hurts", "Raises the loss")):
        models = [f"{label(row, names)} ({_size(row['more'])})" for row in rest if row.get("worth") == worth]
        if models:
            parts.append(f"{start}: {', '.join(models)}.")
    if not rest:
        return ""
    beside = " beside the networks" if len(rest) < len(rows) else ""
    return " ".join(parts) or f"No model{beside} has a significant effect."


def _size(more: float) -> str:
    """A change of the loss without its side."""
    return percent(abs(more), 2) if abs(more) >= 5e-5 else "less than 0.01 %"


def label(row: Row, names: Names | None = None) -> str:
    """The titles of the models of a row.

    >>> label({"models": ["lstm", "residual_lstm"]})
    'LSTM and LSTM correction'
    """
    return " and ".join(named(name, names) for name in row["models"])


def _bar(row: Row, names: Names | None) -> Data:
    text = label(row, names)
    return {
        "label": text[:1].upper() + text[1:],
        "text": percent(row.get("more"), 2, sign=True),
        "value": row.get("more") if is_number(row.get("more")) else None,
        "mine": tuple(row["models"]) in NETWORKS,
    }
