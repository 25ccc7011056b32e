"""Which of several forecasts is in force: the one whose past says so, and the one before it until that is certain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]

LEAST_DAYS = 500  # of record, before anything is learned from it: two years
CERTAIN = 2.0  # standard errors by which another forecast must have been better


def choose(forecasts: Forecasts, losses: FloatArray) -> list[int]:
    """For each fold the number of the candidate in force, from the losses whose answers were known at its cutoff.

    In: (samples, candidates) losses of forecasts as they were issued, NaN where there is no answer. The first candidate
    is in force until another has lost less over at least two years of days, by more than two standard errors (the
    overlap of answers counted); then that one is, until the same can be said of another. So the choice holds where
    the difference may be luck.
    """
    from gatecast.metrics.significance import hac_mean

    chosen, now = [], 0
    for _, loss in daily_losses(forecasts, losses):
        if len(loss) >= LEAST_DAYS:
            best = int(np.argmin(loss.mean(axis=0)))
            better = hac_mean(loss[:, now] - loss[:, best], 2 * forecasts.samples.horizon_sessions)
            now = best if better.statistic > CERTAIN else now
        chosen.append(now)
    return chosen


def daily_losses(forecasts: Forecasts, losses: FloatArray) -> Iterator[tuple[Fold, FloatArray]]:
    """For each fold (days, candidates): the mean over symbols on each day whose answers are known at its cutoff.

    In: (samples, candidates); rows where one is NaN take no part.
    """
    samples = forecasts.samples
    issued = forecasts.rows
    issued = issued[np.isfinite(losses[issued]).all(axis=1)]
    day = samples.day
    order = np.argsort(samples.known_at[issued], kind="stable")  # as answers become known
    known_at, at, loss = samples.known_at[issued][order], day[issued][order], losses[issued][order]
    total, count, done = np.zeros((int(day.max()) + 1, loss.shape[1])), np.zeros(int(day.max()) + 1), 0
    for fold in forecasts.folds:
        until = int(np.searchsorted(known_at, fold.cutoff, side="right"))
        np.add.at(total, at[done:until], loss[done:until])
        count += np.bincount(at[done:until], minlength=len(count))
        done = until
        answered = np.flatnonzero(count)
        yield fold, total[answered] / count[answered, None]
