"""What each model is worth, in words: the rows of `evaluation.credit` -> sentences, a small picture and a table a head.

Where there are several asset classes, words and picture are of all together; the table has each by itself as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatecast.evaluation.verdict import SKILL
from gatecast.report.figures import Data
from gatecast.report.scorecard import simpler, stretch
from gatecast.report.words import is_number, named, percent

Row = Mapping[str, Any]

FORECASTS = {
    "return": "the forecast of returns",
    "direction": "the probability of a rise",
    "volatility": "the volatility forecast",
    "regime": "the probability of turbulence",
}
NETWORKS = {
    ("lstm",): "the LSTM",
    ("residual_lstm",): "the LSTM's correction of the linear forecasts",
    ("lstm", "residual_lstm"): "the LSTM and its correction",
}
WORTH = {"helps": "helps", "hurts": "does harm", "unclear": "may be luck", "nothing": "has no part"}


def credit(rows: Iterable[Row], in_force: Iterable[Row] = ()) -> list[Data]:
    """One entry a head: `head`, `says` (sentences), `bars` (the picture) and `rows` (the table).

    `in_force`: see `results.changes_of`.
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
                    chosen([row for row in changes if row["head"] == head]),
                    *(sentence(row) for row in whole if tuple(row["models"]) in NETWORKS),
                    others(whole),
                ],
                "bars": [_bar(row) for row in whole],
                "rows": [{**row, "label": label(row), "worth": WORTH.get(row.get("worth", ""), "")} for row in every
                         if row["head"] == head],
                "classes": scopes if len(scopes) > 1 else [],
            }
        )  # fmt: skip
    return found


def gains(verdicts: Mapping[str, Row], rows: Iterable[Row]) -> list[Data]:
    """One row a head: what the forecast in force gained over the strongest rival, and the LSTM's own part in it.

    In: head -> verdict, and the rows of `evaluation.credit`. `more`, `statistic`, `worth` are of the LSTM, with its
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
) -> list[str]:
    """What the LSTM is worth by itself, and what the run shows: two sentences, or none without an LSTM.

    In: rows of `scores["models"]`, whose `gain` is over the strongest simple rival, as a share of its loss; head ->
    verdict; the window that the LSTM learns from; `scores["many"]`, which says whether luck explains a gain.

    >>> rows = [{"model": "lstm", "head": head, "gain": gain} for head, gain in (("return", -0.0041), ("regime", -0.1))]
    >>> verdicts = {"regime": {"verdict": "evidence of skill", "simpler": "har_regime"}}
    >>> alone(rows[:1], verdicts, "2Y")[0]
    'The LSTM alone, on the last 2 years, loses to the simple rival in every head, its loss larger by 0.41 % (return).'
    >>> print(alone(rows, verdicts)[1])
    Shown: skill in regime, by the ensemble of all models. In regime, logistic regression on HAR terms is as good.
    >>> alone([rows[0] | {"gain": 0.001}], {})[0]
    'The LSTM alone gains on the simple rival in every head, its loss smaller by 0.10 % (return; it may be luck).'
    """
    gains = {row["head"]: row["gain"] for row in models if row.get("model") == "lstm" and is_number(row.get("gain"))}
    if not gains:
        return []
    sure = {
        head for head, one in (many or {}).items() for row in one.get("models") or ()
        if row.get("model") == "lstm" and row.get("beats_rival")
    }  # fmt: skip

    def listed(won: bool) -> str:
        parts = {head: value for head, value in gains.items() if (value > 0) == won}
        return ", ".join(
            f"{percent(abs(value), 2 if abs(value) < 0.1 else 1)} ({named(head)}"
            + ("; it may be luck)" if won and head not in sure else ")")
            for head, value in parts.items()
        )

    learnt = ", on everything known," if window == "expanding" else f", on {stretch(window)}," if window else ""
    won, lost = listed(True), listed(False)
    said = (
        f"gains on the simple rival in some heads, its loss smaller by {won}, and loses to it in others, its loss "
        f"larger by {lost}" if won and lost
        else f"gains on the simple rival in every head, its loss smaller by {won}" if won
        else f"loses to the simple rival in every head, its loss larger by {lost}"
    )  # fmt: skip
    skilled = [head for head, verdict in verdicts.items() if verdict.get("verdict") == SKILL]
    by = ", by the ensemble of all models" if any(head in FORECASTS for head in skilled) else ""
    shown = f"skill in {' and '.join(named(head) for head in skilled)}{by}" if skilled else "no skill in any head"
    simple = {head: simpler(verdicts[head]) for head in skilled}
    as_good = [f"In {named(head)}, {named(name)} is as good." for head, name in simple.items() if name]
    return [f"The LSTM alone{learnt} {said}.", " ".join([f"Shown: {shown}.", *as_good])]


def chosen(changes: Iterable[Row]) -> str:
    """Which forecast of a head was in force, and since when.

    >>> rows = [{"asset_class": "index", "since": "2001-03-01", "model": "equal_weight"},
    ...         {"asset_class": "index", "since": "2009-05-04", "model": "stacked"}]
    >>> chosen(rows)
    'In force: equal weight from 2001-03-01, a weight for each model from 2009-05-04.'
    >>> chosen([*rows[:1], {"asset_class": "fx", "since": "2004-01-05", "model": "base_rate"}])
    'In force: index: equal weight from 2001-03-01; fx: past share from 2004-01-05.'
    >>> chosen([])
    ''
    """
    classes: dict[str, list[str]] = {}
    for row in changes:
        name = "a weight for each model" if row["model"] == "stacked" else named(row["model"])
        classes.setdefault(row["asset_class"], []).append(f"{name} from {row['since']}")
    parts = [
        ", ".join(one) if len(classes) == 1 else f"{named(name)}: {', '.join(one)}" for name, one in classes.items()
    ]
    return f"In force: {'; '.join(parts)}." if parts else ""


def sentence(row: Row) -> str:
    """What would have been without the models of a row.

    >>> row = {"head": "volatility", "models": ["lstm"], "more": 0.0123, "statistic": 2.14}
    >>> sentence(row | {"worth": "unclear"})
    'Without the LSTM, the volatility forecast would have lost 1.23 % more (t 2.1): it may be luck.'
    >>> sentence(row | {"more": -0.02, "statistic": -4.0, "worth": "hurts"})
    'Without the LSTM, the volatility forecast would have lost 2.00 % less (t −4.0): more than luck explains.'
    >>> sentence(row | {"models": ["lstm", "residual_lstm"], "worth": "nothing"})
    'Without the LSTM and its correction, the volatility forecast would have been the same.'
    >>> sentence(row | {"models": ["forest"], "more": -1e-6, "worth": "unclear"})
    'Without the random forest, the volatility forecast would have been as good.'
    """
    who = NETWORKS.get(tuple(row["models"]), f"the {label(row)}")
    start = f"Without {who}, {FORECASTS.get(row['head'], named(row['head']))} would have"
    more, statistic = row.get("more"), row.get("statistic")
    if row.get("worth") == "nothing":
        return f"{start} been the same."
    if not is_number(more):
        return f"{start} had a loss that nobody can tell."
    if round(100 * more, 2) == 0:
        return f"{start} been as good."
    t = f" (t {f'{statistic:.1f}'.replace('-', '−')})" if is_number(statistic) else ""
    sure = "more than luck explains" if row.get("worth") in ("helps", "hurts") else "it may be luck"
    return f"{start} lost {percent(abs(more), 2)} {'more' if more >= 0 else 'less'}{t}: {sure}."


def others(rows: Iterable[Row]) -> str:
    """Who else of a head is missed or does harm, beyond what luck explains.

    >>> rows = [{"models": [name], "more": more, "worth": worth} for name, more, worth in
    ...         (("forest", 0.01, "helps"), ("constant", -0.005, "hurts"), ("har", 0.001, "unclear"))]
    >>> others(rows)
    'Missed would be: random forest (1.00 %). Better left out: constant (0.50 %).'
    >>> others(rows[2:])
    'The other models neither help nor harm by more than luck explains.'
    """
    rest = [row for row in rows if tuple(row["models"]) not in NETWORKS]
    parts = []
    for worth, start in (("helps", "Missed would be"), ("hurts", "Better left out")):
        names = [f"{label(row)} ({percent(abs(row['more']), 2)})" for row in rest if row.get("worth") == worth]
        if names:
            parts.append(f"{start}: {', '.join(names)}.")
    if not rest:
        return ""
    return " ".join(parts) or "The other models neither help nor harm by more than luck explains."


def label(row: Row) -> str:
    """The models of a row.

    >>> label({"models": ["lstm", "residual_lstm"]})
    'LSTM and LSTM correction'
    """
    return " and ".join(named(name) for name in row["models"])


def _bar(row: Row) -> Data:
    text = label(row)
    return {
        "label": text[:1].upper() + text[1:],
        "text": percent(row.get("more"), 2, sign=True),
        "value": row.get("more") if is_number(row.get("more")) else None,
        "mine": tuple(row["models"]) in NETWORKS,
    }
