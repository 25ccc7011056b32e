"""The book, for the page: scores -> the table of its lines, three answers, and what kept it from its target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.evaluation.risk import sentences_of
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.report.exposure import exposure
from gatecast.report.figures import Data
from gatecast.report.words import begun, counted, is_number, percent
from gatecast.trading.book import BOUGHT

Scores = Mapping[str, Any]
GATES = {
    "spike": "spike_sizes", "borrow": "what can be borrowed",
    "participation": "volume (participation)", "lot": "lots", "ticket": "minimum_ticket",
    "cash": "cash", "stop": "drawdown_stop", "halt": "halts",
}  # fmt: skip
"""What cut a symbol -> what a reader calls it; of others the setting of the cap."""
MOST_HELD = 30
"""Symbols whose holding is shown, the largest."""
OF_CONTROL = ("spread", "worst")
"""Numbers of a line that stand among those of the verdict on risk."""


def book(scores: Scores) -> Data | None:
    """The section on the book: `answers` and `notes` (sentences), `rows` (a line each), `target` and `today`.

    In: a run's scores without NaN; None without a book. `tails`: its sentence, and rows of methods and of years;
    `gate`: a sentence. `facts`: what the first screen says: what is held now, long plus short, the row of the line that
    is held, and that of its core bought and held.
    """
    found = scores.get("book") or {}
    if not found:
        return None
    lines, risk = found.get("lines") or [], found.get("risk") or {}
    control = risk.get("lines") or {}
    rows = [
        {**line, **{name: (control.get(line.get("line")) or {}).get(name) for name in OF_CONTROL},
         "mine": line.get("line") == ENSEMBLE}
        for line in lines
    ]  # fmt: skip
    held = found.get("holds") or []
    own = [line for line in lines if line.get("line") == ENSEMBLE]
    by_name = {line.get("line"): line for line in lines}
    name = (risk.get("today") or {}).get("line") or ENSEMBLE
    return {
        "facts": {
            "held": sum(abs(row["held"]) for row in held if is_number(row.get("held"))) if held else None,
            "row": by_name.get(name) or by_name.get(ENSEMBLE),
            "beside": by_name.get(BOUGHT) or {},
        }
        if own
        else None,
        "answers": sentences_of((scores.get("verdicts") or {}).get("risk") or {}),
        "rows": rows,
        "holds": [{**row, "cut": GATES.get(row.get("gate"), row.get("gate"))} for row in held[:MOST_HELD]],
        "held": _held(held),
        "target": found.get("target_volatility"),
        "gate": (risk.get("gate") or {}).get("sentence"),
        "tails": risk.get("tails") or None,
        "today": exposure(risk.get("today")),
        "notes": [
            *(note for line in own for note in (*_target(line, found.get("target_volatility")), *_findings(line))),
            *_left_out(found.get("left_out") or {}),
            *_cash(found),
            *(_dividends(line) for line in own),
        ],
    }


def _held(rows: list[dict[str, Any]]) -> str:
    """What stands above the table of holdings.

    >>> _held([{"session": "2024-01-02", "held": 0.3}, {"session": "2024-01-02", "held": -0.1}])
    'After the close of 2024-01-02: 30.0 % long, 10.0 % short, in shares of equity.'
    """
    if not rows:
        return ""
    shares = [row["held"] for row in rows if is_number(row.get("held"))]
    long, short = (sum(side * share for share in shares if side * share > 0) for side in (1, -1))
    shown = f" The {MOST_HELD} largest of {counted(len(rows))} symbols." if len(rows) > MOST_HELD else ""
    return (
        f"After the close of {rows[0].get('session')}: {percent(long)} long, {percent(short)} short, in shares of "
        f"equity.{shown}"
    )


def _target(line: Scores, target: Any) -> list[str]:
    """How often the target volatility was reached, and which caps kept the book below it.

    >>> line = {"reached": 0.75, "sessions": 400, "caps": {"gross": 90, "spike": 4}}
    >>> print(*_target(line, 0.1))
    The target of 10.0 % a year was reached at 300 of 400 closes. What kept it lower: gross_cap 90, spike_sizes 4.
    >>> _target(line | {"reached": 1.0, "caps": {}}, 0.1)
    ['The target of 10.0 % a year was reached at every close.']
    """
    share, closes = line.get("reached"), line.get("sessions")
    if not (is_number(share) and is_number(closes)):
        return []
    first = f"The target of {percent(target)} a year was reached at"
    if share >= 1:
        return [f"{first} every close."]
    caps = [f"{GATES.get(cap, f'{cap}_cap')} {counted(n)}" for cap, n in (line.get("caps") or {}).items()]
    why = f" What kept it lower: {', '.join(caps)}." if caps else ""
    few = (
        " The caps decided the size at most closes, so that the lines differ little: a lower target_volatility shows "
        "what the forecasts do."
        if caps and share < 0.5 else ""
    )  # fmt: skip
    costs = [line.get(name) for name in ("commission", "spread", "impact")]
    paid = []
    if all(is_number(one) for one in costs):
        names = ("commission", "half the spread", "impact")
        parts = ", ".join(f"{name} {percent(one, 2)}" for name, one in zip(names, costs, strict=True))
        paid = [f"Trading cost gatecast's line a year: {parts} of the equity; [costs] is what the strategies pay."]
    return [f"{first} {counted(round(share * closes))} of {counted(closes)} closes.{why}{few}", *paid]


def _findings(line: Scores) -> list[str]:
    """What sizing found, a sentence a kind.

    >>> _findings({"findings": [{"kind": "lot", "closes": 3, "newest": "A: one lot is too large"}]})
    ['A: one lot is too large (at 3 closes, this was the newest).']
    """
    return [
        f"{begun(one['newest'])} (at {counted(one['closes'])} close{'s, this was the newest' * (one['closes'] != 1)})."
        for one in line.get("findings") or []
    ]


def _left_out(symbols: Mapping[str, str]) -> list[str]:
    return [f"Not in the book: {why.rstrip('.')}." for why in symbols.values()]


def _cash(found: Scores) -> list[str]:
    rate = found.get("cash_rate")
    if not is_number(rate):
        return []
    of_bills = found.get("currency") == "USD" and not is_number(found.get("benchmark_rate"))
    source = "the rate of one-month bills up to November 2018, its last value since" if of_bills else (
        "the setting benchmark_rate of [book.money]"
    )  # fmt: skip
    return [
        f"Cash, in the picture and in the Sharpe ratios, earned {percent(rate)} a year: {source}. What a line leaves "
        "in cash earns less, by credit_spread."
    ]


def _dividends(line: Scores) -> str:
    """What gatecast's line earned by dividends.

    >>> _dividends({"dividends": 0.0123})
    'Dividends added 1.2 % of the equity a year, after what is withheld.'
    """
    earned = line.get("dividends")
    if is_number(earned) and earned != 0:
        return f"Dividends added {percent(earned)} of the equity a year, after what is withheld."
    return (
        "No dividends are booked: the table of actions has none of what was held. Prices that are adjusted for "
        "dividends hold them."
    )
