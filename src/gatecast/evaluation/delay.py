"""Gains with delayed decisions: a claim in returns or money that vanishes one bar later comes from stale prices.

A price that repeats an old one, a mean of old prices, or a trade now at the bid and now at the ask can be forecast and
not be traded: who decides a bar later has no more of it. Where prices are means over several bars, decisions are also
made as many bars late as returns go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.estimate import Estimate, Tilt, estimate_alpha, estimate_gain, yardsticks
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.record import day_means
from gatecast.evaluation.verdict import SKILL, Verdict
from gatecast.forecasting.panel import ENSEMBLE, RIVAL
from gatecast.market.stale import untradable
from gatecast.metrics.returns import returns_of_levels
from gatecast.notebook import number_text
from gatecast.trading.backtest import backtest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record
    from gatecast.market.facts import Facts
    from gatecast.trading.costs import Costs

    FloatArray = NDArray[np.float64]

DIES = "no evidence: dies with one bar of delay (stale or bouncing prices)"
REPEATED = "no evidence: highs and lows repeat from bar to bar"


@dataclass(frozen=True)
class Later:
    """A head's effect with every decision so many bars late, its 90 % interval, the one-sided p-value, and days.

    In the unit of the head's verdict, before any correction.
    """

    head: str
    bars: int
    effect: float
    low: float
    high: float
    pvalue: float
    n: int

    @property
    def lives(self) -> bool:
        """Whether the effect would still be significant by itself."""
        return bool(self.pvalue < LEVEL and self.low > 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "lives": self.lives}


def one_bar_later(
    records: Mapping[str, Record],
    weights: pl.DataFrame,
    facts: Facts,
    costs: Costs,
    tilted: Callable[[int], Tilt] | None = None,
) -> list[Later]:
    """The effects of "return", "direction" and "strategy" with decisions one bar late; only those that are defined.

    A forecast of a return: the one issued a bar earlier stands against the answer that begins now. The strategy: each
    symbol's weight is the one that was decided a bar earlier, through the same backtest. Where `untradable` finds
    smoothed prices, each effect is there a second time, as many bars late as returns go together.

    Parameters
    ----------
    records: head -> record with the ensemble and the rival in force in it.
    weights: symbol, time, weight in [-1, 1], decided at the close `time`; facts: of the bars; costs: as for `backtest`.
    tilted: bars late -> what strategies add to a core so many bars late, in place of the weights; None: there is none.
    """
    spans = [one.span for one, kind in untradable(facts.bars.sort("symbol", "time")).values() if kind == "smoothed"]
    found = []
    for late in sorted({1, *(span for span in spans if span > 1)}):
        for head in (one for one in ("return", "direction") if one in records):
            record = delayed(records[head], late)
            days = day_means(record, ENSEMBLE, RIVAL)
            if len(days.day) > 2 * record.overlap:
                found.append(_later(head, late, estimate_gain(days, record.overlap, yardsticks(record, ENSEMBLE))))
        if tilted is not None:
            tilt = tilted(late)
            found += [_later("strategy", late, tilt.alpha())] if tilt.held.any() else []
        elif (weights["weight"] != 0).any():
            found.append(_strategy_later(weights, facts, costs, late))
    return [one for one in found if np.isfinite(one.pvalue)]


def _later(head: str, late: int, found: Estimate) -> Later:
    return Later(head, late, found.effect, found.low, found.high, found.pvalue, len(found.series))


def delayed(record: Record, late: int) -> Record:
    """The record with the ensemble's forecasts so many bars late.

    Each row has the forecast that its symbol had that many bars earlier, where that bar is in the same stretch without
    a gap and had one; else NaN.
    """
    bar = record.bar + np.int64(2**40) * record.number  # one number a bar of all classes
    order = np.argsort(bar, kind="stable")
    place = np.minimum(np.searchsorted(bar[order], bar - late), len(bar) - 1)
    before = order[place]
    same = (bar[before] == bar - late) & (record.symbol[before] == record.symbol)
    same &= record.segment[before] == record.segment
    return record.with_forecasts(ENSEMBLE, np.where(same, record.forecasts[ENSEMBLE][before], np.nan))


def _strategy_later(weights: pl.DataFrame, facts: Facts, costs: Costs, late: int) -> Later:
    """The alpha a year of the same weights, each decided so many bars late."""
    rows = weights.sort("symbol", "time").select(
        "symbol", "time", pl.col("weight").shift(late).over("symbol").fill_null(0.0).alias("weight")
    )
    result = backtest_of(rows, facts, costs)
    held = returns_of_levels(result.equity["benchmark"].to_numpy())
    return _later("strategy", late, estimate_alpha(result.equity["net"].to_numpy(), held, result.rows_per_year))


def without_what_dies(verdicts: Mapping[str, Verdict], later: Sequence[Later]) -> dict[str, Verdict]:
    """The verdicts, in which a claim of returns or money that does not outlive the delay is no evidence any more."""
    dead = {one.head: one for one in reversed(later) if not one.lives}
    return {
        head: _dead(verdict, dead[head]) if head in dead and verdict.verdict == SKILL else verdict
        for head, verdict in verdicts.items()
    }


def without_repeated_ranges(verdicts: Mapping[str, Verdict], symbols: Sequence[str]) -> dict[str, Verdict]:
    """The verdicts, without claims of variance where highs and lows are not the bars' own (`symbols`: whose)."""
    if not symbols:
        return dict(verdicts)
    return {
        head: replace(verdict, verdict=REPEATED, sentence=_repeated(symbols, verdict.sentence))
        if head in ("volatility", "regime") and verdict.verdict == SKILL
        else verdict
        for head, verdict in verdicts.items()
    }


def _repeated(symbols: Sequence[str], sentence: str) -> str:
    return (
        f"Highs and lows repeat from bar to bar in {', '.join(symbols)}: they belong to several bars, the first of "
        f"which could not know them. As they stand: {sentence}"
    )


def _dead(verdict: Verdict, late: Later) -> Verdict:
    when = "one bar later" if late.bars == 1 else f"{late.bars} bars later, over which its prices are smoothed,"
    text = (
        f"With decisions {when} the gain is {number_text(late.effect, '+.2%')} ({number_text(late.low, '+.2%')} to "
        f"{number_text(late.high, '+.2%')}): the claim "
        f"rests on stale prices or bid-ask bounce, at which nobody can trade. Without delay: {verdict.sentence}"
    )
    return replace(verdict, verdict=DIES, sentence=text)
