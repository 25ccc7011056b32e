"""The book, for the page: scores -> the table of its lines, three answers, and what kept it from its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatecast.evaluation.findings import REACHED
from gatecast.evaluation.risk import sentences_of
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.report.exposure import exposure
from gatecast.report.figures import Data
from gatecast.report.words import counted, is_number, percent
from gatecast.trading.book import BOUGHT
from gatecast.trading.cuts import cut_by, limited_by

if TYPE_CHECKING:
    from gatecast.trading.sizing import BookSettings

Scores = Mapping[str, Any]
OF_CONTROL = ("spread", "worst")
"""Numbers of a line that stand among those of the verdict on risk."""


def book(scores: Scores, size: BookSettings | None = None) -> Data | None:
    """The section on the book: `answers` and `notes` (sentences), `rows` (a line each), `target` and `today`.

    In: a run's scores without NaN, and the settings of its book, whose caps are told; None without a book. `tails`: its
    sentence, and rows of methods and of years; `gate`: a sentence. `facts`: what the first screen says: what is held
    now, long plus short, the row of the line that is held, and that of its core bought and held.
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
        "holds": [
            {**row, "limited": row["limited_by"] if "limited_by" in row else limited_by(row, size)}
            for row in sorted(held, key=lambda row: not row.get("trade"))
        ],
        "held": _held(held),
        "target": found.get("target_volatility"),
        "gate": (risk.get("gate") or {}).get("sentence"),
        "tails": risk.get("tails") or None,
        "today": exposure(risk.get("today")),
        "notes": [
            *(note for line in own for note in _target(line, found.get("target_volatility"))),
            *_left_out(found.get("left_out") or {}),
            *_cash(found),
            *(_dividends(line) for line in own),
        ],
    }


def to_trade(rows: Sequence[Scores]) -> str:
    """What there is to do at the next fill, in a few words. In: a row a symbol, `trade` the units to trade, and the
    gate that keeps it from one (`kept_by`, or `gate`); an order without a bar to trade at waits.

    >>> to_trade([{}]), to_trade([{"trade": 1.0}, {"trade": 0.0}]), to_trade([])
    ('The book has nothing to trade', 'One trade for the next session', 'Nothing was decided yet')
    >>> to_trade([{"trade": 1.0}, {"trade": 2.0, "kept_by": "halt"}]), to_trade([{"trade": 2.0, "kept_by": "halt"}])
    ('One trade for the next session, one order waits', 'The book has nothing to trade, one order waits')
    """
    if not rows:
        return "Nothing was decided yet"
    ordered = [row for row in rows if row.get("trade")]
    waits = sum("halt" in (row.get("kept_by"), row.get("gate")) for row in ordered)
    trades = len(ordered) - waits
    waiting = f", {'one order waits' if waits == 1 else f'{waits} orders wait'}" if waits else ""
    if not trades:
        return f"The book has nothing to trade{waiting}"
    return f"{'One trade' if trades == 1 else f'{trades} trades'} for the next session{waiting}"


def _held(rows: list[dict[str, Any]]) -> str:
    """What stands above the table of holdings.

    >>> _held([{"session": "2024-01-02", "held": 0.3}, {"session": "2024-01-02", "held": -0.1}])
    'After the close of 2024-01-02: 30.0 % long, 10.0 % short, in shares of equity.'
    """
    if not rows:
        return ""
    shares = [row["held"] for row in rows if is_number(row.get("held"))]
    long, short = (sum(side * share for share in shares if side * share > 0) for side in (1, -1))
    return (
        f"After the close of {rows[0].get('session')}: {percent(long)} long, {percent(short)} short, in shares of "
        "equity."
    )


def _target(line: Scores, target: Any) -> list[str]:
    """How often the target volatility was reached, which caps kept the book below it, and what trading cost.

    Nothing of the target where it was reached at too few closes: that is a finding.

    >>> line = {"reached": 0.75, "sessions": 400, "caps": {"gross": 90, "spike": 4}}
    >>> print(_target(line, 0.1)[0].replace(". At", ".\\nAt"))
    The target of 10.0 % a year was reached at 300 of 400 closes.
    At the others (one close may count twice): gross cap at 90, spike of correlations at 4.
    >>> _target(line | {"reached": 1.0, "caps": {}}, 0.1)
    ['The target of 10.0 % a year was reached at every close.']
    """
    share, closes = line.get("reached"), line.get("sessions")
    if not (is_number(share) and is_number(closes)):
        return []
    caps = [f"{cut_by(cap)} at {counted(n)}" for cap, n in (line.get("caps") or {}).items()]
    why = f" At the others (one close may count twice): {', '.join(caps)}." if caps and share < 1 else ""
    where = "every close" if share >= 1 else f"{counted(round(share * closes))} of {counted(closes)} closes"
    told = [f"The target of {percent(target)} a year was reached at {where}.{why}"] if share >= REACHED else []
    costs = [line.get(name) for name in ("commission", "spread", "impact")]
    paid = []
    if all(is_number(one) for one in costs):
        names = ("commission", "half the spread", "impact")
        parts = ", ".join(f"{name} {percent(one, 2)}" for name, one in zip(names, costs, strict=True))
        paid = [f"Trading cost gatecast's line a year: {parts} of the equity; [costs] is what the strategies pay."]
    return [*told, *paid]


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
