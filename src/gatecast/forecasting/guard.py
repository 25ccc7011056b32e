"""The guard of a refit: a new fit beside the one in force, on the new fit's validation rows -> which of them forecasts.

Early stopping, or the choice of a penalty, has seen these rows: the guard catches disasters. That a fit was not refused
is no evidence that it is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gatecast.compute.parallel import stream_out
from gatecast.forecasting.checks import impossible
from gatecast.metrics.significance import fixed_b_mean, holm
from gatecast.samples.targets import CAP, standardised_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Predicted = tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]

GUARD = "guard"
"""The stage as which progress is told how many refits were refused."""
MOST_TIMES = 1.5
"""Times the mean loss of the fit in force, or of a forecast that knows nothing, that a head of a new fit may lose."""
LEVEL = 0.01
"""P-value, over all heads that are tested, below which a new fit is worse by more than luck."""
TESTED = ("return", "direction", "volatility")
"""Heads that are tested. A regime lasts for months: a validation block has one observation of it or two."""

Ask = Callable[["FittedForecaster", "IntArray"], "Predicted"]
"""A fit and rows -> what it forecasts there, and what each of its seeds alone."""


@dataclass(frozen=True)
class Compared:
    """One head of a new fit beside the fit in force: mean losses of a day, standardised and capped.

    `days`: with an answer and a forecast of both. `plain`: what a forecast that knows nothing loses, see `compare`.
    `pvalue`: one-sided, that the new fit loses more; 1 where it does not, NaN where the head is not tested or has too
    few days for their overlap.
    """

    head: str
    days: int
    new: float
    old: float
    plain: float
    pvalue: float


def compare(
    new: Mapping[str, FloatArray], old: Mapping[str, FloatArray], samples: Samples, rows: IntArray
) -> list[Compared]:
    """Two fits' forecasts at the same rows, whose answers are known -> how both did, head by head.

    The unit is the day: the mean over the symbols of losses, see `samples.targets.standardised_loss`, each at most
    `CAP`. Of a path the last step counts. A forecast that knows nothing is no change, the trailing variance, or one
    half. A head without a day that both forecast is left out.
    """
    found = []
    days, place = np.unique(samples.day[rows], return_inverse=True)
    decided, unit = samples.decided[rows], samples.unit[rows, -1] ** 2
    nothing = {"return": np.zeros(len(rows)), "volatility": samples.facts.baseline[samples.ends[rows]]}
    for head in [one for one in new if one in old]:
        answer = samples.targets[head].value[decided]
        answer = answer[:, -1] if head == "return" else answer
        plain = nothing.get(head, np.full(len(rows), 0.5))
        losses = [
            np.minimum(standardised_loss(head, answer, forecast, unit), CAP)
            for forecast in (_last(head, new[head]), _last(head, old[head]), plain)
        ]
        scored = np.isfinite(losses[0]) & np.isfinite(losses[1]) & np.isfinite(losses[2])
        count = np.bincount(place[scored], minlength=len(days))
        seen = count > 0
        if not seen.any():
            continue
        daily = [np.bincount(place[scored], one[scored], len(days))[seen] / count[seen] for one in losses]
        mine, theirs, nothings = (float(one.mean()) for one in daily)
        pvalue = 1.0 if head in TESTED else np.nan  # it counts among the heads, though nothing need be computed
        if head in TESTED and mine > theirs:
            test = fixed_b_mean(daily[0] - daily[1], samples.horizon_sessions)
            pvalue = test.pvalue if test.enough else np.nan
        found.append(Compared(head, len(daily[0]), mine, theirs, nothings, pvalue))
    return found


def fault_of(new: Mapping[str, FloatArray], old: Mapping[str, FloatArray], samples: Samples, rows: IntArray) -> str:
    """Why a new fit is refused, one sentence; "" where nothing speaks against it.

    In: forecasts of the new fit and of the one in force at the new fit's validation rows. Refused is a forecast that is
    no possible number where the fit in force has one; a head whose mean loss is above `MOST_TIMES` times that of the
    fit in force and of a forecast that knows nothing; and a new fit that loses more with p < `LEVEL` over all heads
    that are tested (Holm). In a calm block a probability of turbulence of .02 loses four times as much as one of .01:
    that is no disaster, so that what knows nothing counts as well.
    """
    for head in old:
        lost = ~_possible(head, new[head]) & _possible(head, old[head]) if head in new else _possible(head, old[head])
        if lost.any():
            return f"{head}: no possible number in {int(lost.sum())} of {len(rows)} validation rows."
    found = compare(new, old, samples, rows)
    for one in found:
        if one.new > MOST_TIMES * max(one.old, one.plain):
            return (
                f"{one.head}: the mean loss on {one.days} validation days is {one.new:.3g}, more than {MOST_TIMES:g} "
                f"times that of the fit in force, {one.old:.3g}."
            )
    known = [one for one in found if np.isfinite(one.pvalue)]
    for one, pvalue in zip(known, holm([one.pvalue for one in known]), strict=True):
        if pvalue < LEVEL:
            return (
                f"{one.head}: the mean loss on {one.days} validation days is {one.new:.3g}, above that of the fit in "
                f"force, {one.old:.3g}, with p = {pvalue:.1g}."
            )
    return ""


def _last(head: str, forecast: FloatArray) -> FloatArray:
    """(rows,) forecasts with NaN where they are no possible number."""
    forecast = forecast[:, -1] if head == "return" else forecast
    return np.where(impossible(head, forecast), np.nan, forecast)


def _possible(head: str, forecast: FloatArray) -> NDArray[np.bool_]:
    """(rows,) whether each forecast is one, and can be."""
    there = ~np.isnan(forecast) & ~impossible(head, forecast)
    possible: NDArray[np.bool_] = np.all(there.reshape(len(there), -1), axis=1)
    return possible


# ── which fit is in force ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Block:
    """What one fit is asked: the rows that it was validated on, the rows that are to be forecast; both ascending.

    `cutoff`: of its refit. A fit that was in force before has no validation rows here.
    """

    fit: FittedForecaster
    validation: IntArray
    test: IntArray
    cutoff: np.datetime64


@dataclass
class Served:
    """The fit in force at one block, and what it forecasts at any rows: each row is asked once."""

    fit: FittedForecaster
    ask: Ask
    rows: IntArray
    both: dict[str, FloatArray]
    each: list[dict[str, FloatArray]] = field(default_factory=list)

    def at(self, rows: IntArray) -> Predicted:
        """What it forecasts at these rows, and what each seed alone."""
        count = len(rows)
        if count and np.array_equal(rows, self.rows[:count]):
            return _taken(self.both, slice(count)), [_taken(one, slice(count)) for one in self.each]
        rest = np.setdiff1d(rows, self.rows, assume_unique=True)
        if len(rest):
            both, each = self.ask(self.fit, rest)
            self.both = _joined(self.both, both) if len(self.rows) else both
            self.each = [_joined(*two) for two in zip(self.each, each, strict=True)] if len(self.rows) else each
            self.rows = np.r_[self.rows, rest]
        order = np.argsort(self.rows, kind="stable")
        place = order[np.searchsorted(self.rows, rows, sorter=order)]
        return _taken(self.both, place), [_taken(one, place) for one in self.each]


def _joined(first: dict[str, FloatArray], second: dict[str, FloatArray]) -> dict[str, FloatArray]:
    return {head: np.concatenate([first[head], second[head]]) for head in first}


def _taken(heads: dict[str, FloatArray], place: IntArray | slice) -> dict[str, FloatArray]:
    return {head: values[place] for head, values in heads.items()}


def served(
    blocks: Sequence[Block], ask: Ask, samples: Samples, newest: FittedForecaster | None, *, guarded: bool, jobs: int
) -> Iterator[tuple[Block, Served, str]]:
    """The fit in force at each block, and why the block's own is refused ("" where it is not).

    Parameters
    ----------
    blocks: of one model, in time order; the first is in force without a question. A fit that is the same object as the
        one made before it is no candidate: what is in force stays.
    newest: the fit that was made last before the second block, where that is not the first block's; else None.
    ask: see `Ask`. guarded: whether fits can be refused.

    Of what is in force the next validation rows are asked along with its own: most of them it has forecast already.
    """
    before: list[FittedForecaster | None] = [None, *(block.fit for block in blocks[:-1])]
    before[1:2] = [newest or one for one in before[1:2]]
    fresh = [block.fit is not one for block, one in zip(blocks, before, strict=True)]
    asked: list[IntArray] = []
    for number, block in enumerate(blocks):
        rows = np.r_[block.validation, block.test]
        if guarded and number + 1 < len(blocks) and fresh[number + 1]:
            rows = np.r_[rows, np.setdiff1d(blocks[number + 1].validation, rows, assume_unique=True)]
        asked.append(rows)
    nothing: Predicted = ({}, [])
    answers = stream_out(
        lambda pair: ask(pair[0].fit, pair[1]) if len(pair[1]) else nothing,
        zip(blocks, asked, strict=True), jobs=jobs, light=True,
    )  # fmt: skip
    current: Served | None = None
    with closing(answers):
        for block, rows, is_new, (both, each) in zip(blocks, asked, fresh, answers, strict=True):
            own, reason = Served(block.fit, ask, rows, both, each), ""
            if guarded and is_new and current is not None:
                new, old = (one.at(block.validation)[0] for one in (own, current))
                reason = fault_of(new, old, samples, block.validation)
            if current is None or (is_new and not reason) or block.fit is current.fit:
                current = own
            yield block, current, reason
