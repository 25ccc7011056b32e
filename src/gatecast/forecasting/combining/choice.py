"""The forecast in force: past losses of several forecasts -> the name at each refit; it changes only if significant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

MIN_RECORD_DAYS = 500  # of record, before anything is learned from it: two years
MAX_SLOPE = 1e3  # beyond which a slope was not learned but is damage
SWITCH_Z = 2.0  # standard errors by which another forecast must have been better


@dataclass(frozen=True)
class Learning:
    """What a combination learns from the record, fold by fold from `since` on: the earlier folds stay as issued.

    `known`: part -> numbers that a past has learned at fold `since`, from the answers known at its cutoff: they are
    taken over. `found`: part -> the numbers of the last fold.
    """

    since: int = 0
    known: Mapping[str, FloatArray] = field(default_factory=dict)
    found: dict[str, FloatArray] = field(default_factory=dict)

    def has(self, part: str, sizes: Sequence[int], fits: Callable[[FloatArray], bool] | None = None) -> bool:
        """Whether the past has numbers of a part, one of these `sizes`, that are finite and pass the check `fits`."""
        taken = self.known.get(part)
        if taken is None or taken.size not in sizes or not np.isfinite(taken).all():
            return False
        return fits is None or fits(taken)

    def at(
        self, part: str, fold: int, sizes: Sequence[int], learn: Callable[[], FloatArray],
        fits: Callable[[FloatArray], bool] | None = None,
    ) -> FloatArray:  # fmt: skip
        """The numbers of a part at a fold, see `has`: of the past where it has them, else learned now."""
        self.found[part] = self.known[part] if fold == self.since and self.has(part, sizes, fits) else learn()
        return self.found[part]


def are_weights(numbers: FloatArray) -> bool:
    """Whether numbers are the weights of a mixture.

    >>> are_weights(np.array([0.25, 0.75])), are_weights(np.array([1.5, -0.5])), are_weights(np.array([0.5, 0.4]))
    (True, False, False)
    """
    return bool((numbers >= 0).all() and abs(numbers.sum() - 1) <= 1e-6)


def is_share(numbers: FloatArray) -> bool:
    """Whether each number is between 0 and 1.

    >>> is_share(np.array([1.0])), is_share(np.array([-4.0]))
    (True, False)
    """
    return bool(((numbers >= 0) & (numbers <= 1 + 1e-6)).all())


def is_density(numbers: FloatArray) -> bool:
    """Whether numbers are the mean and the spread of errors in logs, or none.

    >>> is_density(np.array([0.1, 0.5])), is_density(np.array([0.1, -0.5])), is_density(np.zeros(0))
    (True, False, True)
    """
    return bool((np.abs(numbers) <= MAX_SLOPE).all() and (numbers[1:] > 0).all())


def are_slopes(numbers: FloatArray) -> bool:
    """Whether numbers can be slopes of a combination: inputs are in units of their scale.

    >>> are_slopes(np.array([-0.3, 2.0])), are_slopes(np.array([1e6]))
    (True, False)
    """
    return bool((np.abs(numbers) <= MAX_SLOPE).all())


def choose(forecasts: Forecasts, losses: FloatArray) -> list[int]:
    """For each fold the number of the candidate in force, from the losses whose answers were known at its cutoff.

    In: (samples, candidates) losses of forecasts as they were issued, NaN where there is no answer. The first candidate
    is in force until another has lost less over at least two years of days, by more than two standard errors (the
    overlap of answers counted); then that one is, until the same can be said of another. So the choice holds where
    the difference may be luck.
    """
    from gatecast.metrics.significance import hac_mean

    chosen, now = [], 0
    for _, loss in daily_losses(forecasts, lambda rows: losses[rows]):
        if len(loss) >= MIN_RECORD_DAYS:
            best = int(np.argmin(loss.mean(axis=0)))
            better = hac_mean(loss[:, now] - loss[:, best], 2 * forecasts.samples.horizon_sessions)
            now = best if better.statistic > SWITCH_Z else now
        chosen.append(now)
    return chosen


def daily_losses(
    forecasts: Forecasts, losses_of: Callable[[IntArray], FloatArray]
) -> Iterator[tuple[Fold, FloatArray]]:
    """For each fold (days, candidates): the mean over symbols on each day whose answers are known at its cutoff.

    In: rows of the samples -> (rows, candidates), asked for the rows that became known since the fold before: of all at
    once they can be a hundred numbers a row. Rows where one is NaN take no part.
    """
    forecasts.refuse_some()
    samples = forecasts.samples
    issued = forecasts.rows
    day = samples.day
    issued = issued[np.argsort(samples.known_at[issued], kind="stable")]  # as answers become known, NaT last
    known_at, candidates = samples.known_at[issued], losses_of(issued[:0]).shape[1]
    total, count, done = np.zeros((int(day.max()) + 1, candidates)), np.zeros(int(day.max()) + 1), 0
    for fold in forecasts.folds:
        until = int(np.searchsorted(known_at, fold.cutoff, side="right"))
        loss = losses_of(issued[done:until])
        scored = np.isfinite(loss).all(axis=1)
        at = day[issued[done:until]][scored]
        np.add.at(total, at, loss[scored])
        count += np.bincount(at, minlength=len(count))
        done = until
        answered = np.flatnonzero(count)
        yield fold, total[answered] / count[answered, None]
