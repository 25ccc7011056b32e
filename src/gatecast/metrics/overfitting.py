"""Measures of overfitting: probabilistic and deflated Sharpe ratio, probability of backtest overfitting (PBO).

Sharpe ratios are per bar, **not** a year: an annual one over the root of the bars a year. `kurtosis` is raw,
3 for a Gaussian. A number that is undefined is `Undefined`: NaN, with a `reason`.

>>> round(deflated_sharpe(2.5 / 250**0.5, 1250, -3, 10, n_trials=100, variance=0.5 / 250), 6)
0.900397
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gatecast.metrics.forecast import FloatArray

MOST_BLOCKS = 20
"""Of `pbo`: 184,756 ways to choose half of them."""


class Undefined(float):
    """Not a number, and `reason` says why.

    >>> expected_max_sharpe(0, 1), expected_max_sharpe(0, 1).reason
    (nan, 'a best of 0 trials: at least 1 is needed')
    """

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        self = super().__new__(cls, "nan")
        self.reason = reason
        return self


def expected_max_sharpe(n_trials: float, variance: float) -> float:
    """The Sharpe ratio to expect of the best of `n_trials` without skill, 0 for one trial.

    `variance` is that of the trials' own Sharpe ratios; an effective number of trials need not be whole. Bailey and
    López de Prado (2014), Journal of Portfolio Management 40.

    >>> round(expected_max_sharpe(100, 0.5 / 250), 6)
    0.113172
    """
    from scipy.special import ndtri

    if not 1 <= n_trials < np.inf:
        return Undefined(f"a best of {n_trials} trials: at least 1 is needed")
    if not 0 <= variance < np.inf:
        return Undefined(f"a variance of {variance} between the trials' Sharpe ratios is none")
    if n_trials == 1:
        return 0.0
    best = -(1 - np.euler_gamma) * ndtri(1 / n_trials) - np.euler_gamma * ndtri(1 / n_trials / np.e)
    return float(np.sqrt(variance) * max(best, 0.0))


def probabilistic_sharpe(sharpe: float, n: int, skew: float = 0, kurtosis: float = 3, benchmark: float = 0) -> float:
    """The probability that the true Sharpe ratio exceeds `benchmark`, given the one seen on `n` bars.

    Bailey and López de Prado (2012), Journal of Risk 15.

    >>> round(probabilistic_sharpe(0.1, 252), 4)
    0.943
    """
    from scipy.special import ndtr

    if isinstance(benchmark, Undefined):
        return benchmark
    if not 1 < n < np.inf:
        return Undefined(f"{n} bars are too few, at least 2 are needed")
    spread = _spread(sharpe, skew, kurtosis)
    if isinstance(spread, Undefined):
        return spread
    if not np.isfinite(benchmark):
        return Undefined("the Sharpe ratio to exceed is not a finite number")
    above = float(sharpe) - float(benchmark)
    return float(ndtr(above * math.sqrt((float(n) - 1) / spread))) if above else 0.5


def deflated_sharpe(sharpe: float, n: int, skew: float, kurtosis: float, n_trials: float, variance: float) -> float:
    """`probabilistic_sharpe` against what the best of `n_trials` would show without skill.

    Bailey and López de Prado (2014), Journal of Portfolio Management 40.
    """
    return probabilistic_sharpe(sharpe, n, skew, kurtosis, expected_max_sharpe(n_trials, variance))


def min_track_record_length(
    sharpe: float, benchmark: float, skew: float = 0, kurtosis: float = 3, confidence: float = 0.95
) -> float:
    """How many bars it takes until `probabilistic_sharpe` reaches `confidence`; not rounded.

    Undefined where `sharpe` does not exceed `benchmark`: no record is long enough. A `confidence` of one half or less
    takes one bar. Bailey and López de Prado (2012), Journal of Risk 15.

    >>> round(min_track_record_length(2 / 252**0.5, 1 / 252**0.5) / 252, 4)
    2.731
    """
    from scipy.special import ndtri

    if not 0 < confidence < 1:
        return Undefined(f"a confidence of {confidence} is none, it lies between 0 and 1")
    spread = _spread(sharpe, skew, kurtosis)
    if isinstance(spread, Undefined):
        return spread
    if not -np.inf < benchmark < sharpe:
        return Undefined(f"no record is long enough to show that {sharpe} exceeds {benchmark}")
    ratio = max(float(ndtri(confidence)), 0.0) / (float(sharpe) - float(benchmark))
    length = 1 + spread * ratio * ratio
    return length if length < np.inf else Undefined("the two Sharpe ratios are too near to each other")


def effective_trials(returns: ArrayLike) -> float:
    """How many independent trials these are worth, where the best of them is looked at.

    `returns` (times, trials) are profits of the same bars; rows with a NaN are left out. Between 1, where all earn and
    lose together, and N. A column that does not vary counts 1: nothing shows that it was like another. Noise in the
    correlations keeps it below the number of rows.
    (Σ√λ)² / Σλ of the correlation matrix's eigenvalues λ: Galwey (2009), Genetic Epidemiology 33. (The participation
    ratio counts degrees of freedom; as a number of trials it is far too small: .35 claims at .05 among 200.)

    >>> profits = np.random.default_rng(0).standard_normal((1000, 3))
    >>> round(effective_trials(np.column_stack([profits, profits])), 1)
    3.0
    """
    table = np.asarray(returns, np.float64)
    if table.size == 0 and (table.ndim < 2 or table.shape[1] == 0):
        return Undefined("there are no trials")
    if table.ndim != 2:
        raise ValueError(f"returns must have shape (times, trials), got {table.shape}.")
    count = table.shape[1]
    table = table[~np.isnan(table).any(axis=1)]
    if np.isinf(table).any():
        return Undefined("a profit is infinite")
    if len(table) < 2:
        return float(count)
    largest = np.abs(table).max(axis=0)
    table = table / np.where(largest > 0, largest, 1.0)  # the unit of a column has no effect but on rounding
    varying = table[:, np.ptp(table, axis=0) > 1e-13]
    if not varying.shape[1]:
        return float(count)
    correlation = np.atleast_2d(np.corrcoef(varying, rowvar=False))
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(correlation), 0.0))
    return float(count - varying.shape[1] + roots.sum() ** 2 / len(roots))


def pbo(performance: ArrayLike, blocks: int = 16, statistic: Literal["sharpe", "mean"] = "sharpe") -> float:
    """The probability that the best configuration in sample is no better than the median out of sample.

    `performance` (times, configurations) are returns, one row a bar. The rows are cut into `blocks` equal
    ones, an even number; times that do not divide are dropped from the start. Every choice of half of the
    blocks is in sample once: the share of those whose winner's relative rank on the other half is at most one
    half. Weak by itself: on noise it ranges from .26 to .80. Rows with a NaN are dropped; undefined for fewer rows
    than blocks, fewer than two configurations, or configurations that are all the same. Bailey, Borwein, López de
    Prado and Zhu (2017), Journal of Computational Finance 20.

    >>> returns = [[3, 0.1, -1], [2, 0, 1.2], [-1, 0.2, 2], [1, -0.1, -1.1]]
    >>> round(pbo(returns, blocks=4, statistic="mean"), 6), pbo(returns, blocks=4)
    (0.666667, 1.0)
    """
    if not 2 <= blocks <= MOST_BLOCKS or blocks % 2:
        raise ValueError(f"blocks must be an even number from 2 to {MOST_BLOCKS}, got {blocks}.")
    if statistic not in ("sharpe", "mean"):
        raise ValueError(f"statistic must be 'sharpe' or 'mean', got {statistic!r}.")
    table = np.asarray(performance, np.float64)
    if table.size == 0:
        return Undefined("there are no profits")
    if table.ndim != 2:
        raise ValueError(f"performance must have shape (times, configurations), got {table.shape}.")
    table = table[~np.isnan(table).any(axis=1)]
    length, count = len(table) // blocks, table.shape[1]
    if length < 1 or count < 2:
        return Undefined(f"{len(table)} rows and {count} configurations: {blocks} rows and 2 are needed")
    if np.isinf(table).any():
        return Undefined("a profit is infinite")
    table = table[len(table) - length * blocks :]
    largest = np.abs(table).max()
    if not np.ptp(table, axis=1).max() > 1e-13 * largest:
        return Undefined("the configurations are all the same")
    if statistic == "sharpe" and not np.ptp(table, axis=0).max() > 1e-13 * largest:
        return Undefined("no configuration varies: they have no Sharpe ratio")
    parts = (table / largest).reshape(blocks, length, count)
    inside = np.array(list(combinations(range(blocks), blocks // 2)))
    chosen = np.zeros((len(inside), blocks))
    np.put_along_axis(chosen, inside, 1, axis=1)
    within, beyond = (np.round(_score(parts, halves, statistic), 12) for halves in (chosen, 1 - chosen))
    # rounded, so that equal configurations tie whatever the order of their sums
    winner = np.take_along_axis(beyond, within.argmax(axis=1)[:, None], axis=1)
    rank = (beyond < winner).sum(axis=1) + ((beyond == winner).sum(axis=1) + 1) / 2  # ties: the average
    return float(np.mean(rank / (count + 1) <= 0.5))


def _score(parts: FloatArray, halves: FloatArray, statistic: str) -> FloatArray:
    """The statistic of every configuration on every half, (halves, configurations)."""
    n = parts.shape[1] * halves.shape[1] / 2
    mean: FloatArray = halves @ parts.sum(axis=1) / n
    if statistic == "mean":
        return mean
    variance = halves @ (parts**2).sum(axis=1) / n - mean**2
    deviation = np.sqrt(np.maximum(variance, 1e-14 * mean**2))  # without spread: very good or very bad
    score = np.zeros_like(mean)
    np.divide(mean, deviation, out=score, where=deviation > 0)
    return score


def _spread(sharpe: float, skew: float, kurtosis: float) -> float:
    """(n - 1) times the variance of an estimated Sharpe ratio."""
    if not np.isfinite([sharpe, skew, kurtosis]).all():
        return Undefined("the Sharpe ratio or a moment is not a finite number")
    if kurtosis < 1:
        return Undefined(f"a kurtosis of {kurtosis} is impossible: raw, not excess, it is 1 or more")
    sharpe, skew, kurtosis = float(sharpe), float(skew), float(kurtosis)  # Python's own overflow in silence
    spread = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe * sharpe
    return spread if 0 < spread < np.inf else Undefined("no returns have these moments at this Sharpe ratio")
