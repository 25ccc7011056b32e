"""How many independent trials several are worth, by their daily profits, and whether the best of them is good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.evaluation.trial import Trial
from gatecast.metrics import significance
from gatecast.metrics.overfitting import effective_trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

DRAWS = 500  # of the bootstrap of a test over all trials
BOOTSTRAP_CELLS = 2e7  # rows x trials x draws that it may take: one or two seconds


def profits(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray | None = None
) -> FloatArray:
    """(sessions, trials) net profit of the trials whose profit is known; 0 on days that a trial did not cover.

    With `benchmark`, the (sessions,) simple return of buy and hold: what is beyond each trial's own exposure to it.
    """
    days = pl.DataFrame({"session": pl.Series(sessions.astype("datetime64[D]"), dtype=pl.Date)})
    table = np.zeros((len(days), sum(trial.profit is not None for trial in trials)))
    known = (trial.profit for trial in trials if trial.profit is not None)
    for own, profit in zip(table.T, known, strict=True):
        net = days.join(profit, on="session", how="left", maintain_order="left")["net"]
        covered = net.is_not_null().to_numpy()
        own[covered] = net.drop_nulls().to_numpy()
        if benchmark is not None and own.any():
            own[covered] = _beyond(own[covered], benchmark[covered])
    return table


def _beyond(net: FloatArray, benchmark: FloatArray) -> FloatArray:
    """The profit beyond beta times buy and hold; 0 throughout where that is rounding."""
    centred = benchmark - benchmark.mean()
    beyond: FloatArray = net - benchmark * (centred @ net / max(float(centred @ centred), 1e-300))
    return np.where(np.abs(beyond).max() > 1e-6 * np.abs(net).max(), beyond, 0.0)


def independent_trials(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray | None = None
) -> float:
    """How many independent trials these are worth, by `effective_trials` of their profits.

    With `benchmark` (see `profits`) books that are alike in no more than being long are not taken for alike. Trials
    whose profit is unknown or does not vary count one each, since nothing shows that they were alike.
    """
    table = profits(trials, sessions, benchmark)
    unknown = len(trials) - table.shape[1]
    return float(unknown + (effective_trials(table) if table.shape[1] else 0.0))


def best_of_trials(
    trials: Sequence[Trial], sessions: NDArray[np.datetime64], benchmark: FloatArray
) -> significance.Test:
    """Does the best of the trials beat buy and hold at its own exposure, given that it is the best of them? One-sided.

    One question alone: the verdict on the strategy is corrected for all questions of the run, and decides.

    The test of superior predictive ability on each trial's profit beyond its beta times `benchmark`, the (sessions,)
    simple return of buy and hold; where trials are many, on sums over several days. Undefined where fewer than two
    trials had a profit or loss of their own: there is no best of them.
    """
    table = profits(trials, sessions, benchmark)
    table = table[:, np.ptp(table, axis=0) > 0] if len(table) else table[:, :0]
    if table.shape[1] < 2:
        reason = f"{'one trial' if table.shape[1] else 'no trial'} had a profit or loss of its own"
        return significance.Test(np.nan, np.nan, reason, len(table), enough=False)
    together = min(int(np.ceil(table.size * DRAWS / BOOTSTRAP_CELLS)), max(1, len(table) // 60))
    table = np.add.reduceat(table[len(table) % together :], np.arange(0, len(table) // together * together, together))
    return significance.spa(np.zeros(len(table)), -table, draws=DRAWS)
