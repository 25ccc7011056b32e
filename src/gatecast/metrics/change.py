"""Has a stream of numbers changed? Distances between two samples, and charts with a stated number of false alarms.

Charts are sequential: each row is judged from it and the rows before it. Given the state that a chart ended with, the
rest of a stream gives the same numbers, to the bit, as the whole stream in one piece.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

STATES = 160  # of the Markov chain that a chart's run length is computed with
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the events whose autocorrelation shortens a sample
POWERS = (0.1, 0.3, 0.5, 0.7)  # of the bets against a p-value


# ── two samples ───────────────────────────────────────────────────────────────────────────────────


def psi(reference: ArrayLike, latest: ArrayLike, bins: int = 10) -> float:
    """Population stability index of two samples, (n,) and (m,): the sum over bins of (q - p) ln(q / p); 0: alike.

    The bins are quantiles of the reference; values that are often the same may leave fewer. p and q are the shares of
    the reference and of the latest sample, with half a row added to each bin. NaN where one of the two is empty.

    >>> round(psi([1, 1, 2, 2], [2, 2, 2, 2], bins=2), 4)
    0.8789
    """
    old, new = np.sort(np.asarray(reference, np.float64)), np.sort(np.asarray(latest, np.float64))
    if not (old.size and new.size):
        return float("nan")
    quantiles = old[np.ceil(old.size * (np.arange(1, bins) / bins) - 1).clip(0).astype(np.int64)].tolist()
    edges = np.array(sorted({one for one in quantiles if one < old[-1]}), np.float64)
    p, q = (_shares(one, edges) for one in (old, new))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    """(bins,) shares of ascending values up to each edge, and of those above the last; half a row is added to each."""
    above = np.concatenate([[0], values.searchsorted(edges, side="right"), [values.size]])
    count = above[1:] - above[:-1] + 0.5
    shares: FloatArray = count / count.sum()
    return shares


def psi_pvalue(index: float, reference: float, latest: float, bins: int = 10) -> float:
    """The chance of as large an index where nothing has changed; `reference` and `latest`: independent rows of each.

    The index is about (1/n + 1/m) times a chi-squared number with bins - 1 degrees of freedom (Yurdakul, 2018, Western
    Michigan University).

    >>> round(psi_pvalue(0.25, 1000, 100), 3)
    0.007
    """
    from scipy.special import chdtrc

    return float(chdtrc(bins - 1, index / (1 / reference + 1 / latest)))


def ks_distance(reference: ArrayLike, latest: ArrayLike) -> float:
    """Largest distance between the distribution functions of two samples, (n,) and (m,): Kolmogorov and Smirnov's.

    >>> ks_distance([1.0, 2.0, 3.0, 4.0], [3.0, 4.0])
    0.5
    """
    a, b = np.sort(np.asarray(reference, np.float64)), np.sort(np.asarray(latest, np.float64))
    at = b if b.size <= a.size else a  # between two values of a sample the distance is largest just above or below them
    if at.size == 0:
        return float("nan")
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    below = [np.searchsorted(a, at, side) / a.size - np.searchsorted(b, at, side) / b.size for side in sides]
    return float(np.abs(below).max())


def ks_pvalue(distance: float, reference: float, latest: float) -> float:
    """The chance of as large a distance where nothing has changed; `reference` and `latest`: independent rows of each.

    Kolmogorov's limit; with few rows the true chance is smaller.

    >>> round(ks_pvalue(0.2, 500, 60), 4)
    0.0275
    """
    from scipy.special import kolmogorov

    return float(kolmogorov(distance * np.sqrt(reference * latest / (reference + latest))))


def rows_that_hang_together(values: ArrayLike) -> float:
    """(n,) series in time order -> how many rows tell as much as one independent row does: at least 1.

    It is 1 + 2 · the sum of autocorrelations of the event that a value is below its 10 %, 25 %, 50 %, 75 % or 90 %
    quantile, of these the largest: what a distribution function is estimated with. The sum ends at the first pair of
    lags whose sum is not positive (Geyer, 1992, Statistical Science 7). NaN are left out. A series of fewer than 20
    rows is one row.

    >>> draw = np.random.default_rng(0).standard_normal(4000)
    >>> slow = np.convolve(draw, np.ones(10) / 10, mode="valid")
    >>> rows_that_hang_together(draw) < 1.3, 5 < rows_that_hang_together(slow) < 13
    (True, True)
    """
    rows = np.asarray(values, np.float64)
    rows = rows[np.isfinite(rows)]
    if rows.size < 20:
        return max(1.0, float(rows.size))
    events = (rows[:, None] <= np.quantile(rows, LEVELS)).astype(np.float64)
    events -= events.mean(0)
    size = 1 << int(2 * rows.size - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(events, size, axis=0)) ** 2
    covariance = np.fft.irfft(spectrum, size, axis=0)[: rows.size // 2]
    moving = covariance[0] > 1e-12 * rows.size
    if not moving.any():
        return float(rows.size)  # a constant says one thing
    correlation = covariance[:, moving] / covariance[0, moving]
    pairs = correlation[: 2 * (len(correlation) // 2)].reshape(-1, 2, correlation.shape[1]).sum(1)
    going = np.cumprod(pairs > 0, axis=0)
    return float(max(1.0, (2 * (pairs * going).sum(0) - 1).max()))


def tail_threshold(values: ArrayLike, chance: float, share: float = 0.1) -> float:
    """(n,) positive numbers -> what a further one exceeds with this chance, also where that is beyond all of them.

    Where the chance is below `share` the upper tail is a power law, with Hill's exponent of the largest `share` of the
    values (Weissman, 1978, Journal of the American Statistical Association 73). NaN for fewer than 20 values.

    >>> draw = 1 / np.random.default_rng(0).random(20000)
    >>> 500 < tail_threshold(draw, 0.001) < 2000
    True
    """
    rows = np.sort(np.asarray(values, np.float64))
    rows = rows[np.isfinite(rows) & (rows > 0)]
    if rows.size < 20:
        return float("nan")
    if chance >= share:
        return float(np.quantile(rows, 1 - chance))
    top = max(5, int(share * rows.size))
    base = rows[-top - 1]
    exponent = float(np.mean(np.log(rows[-top:] / base)))
    return float(base * (top / (rows.size * chance)) ** exponent)


# ── charts ────────────────────────────────────────────────────────────────────────────────────────


def cusum(steps: ArrayLike, threshold: float, start: float = 0.0) -> tuple[FloatArray, IntArray, float]:
    """Page's (1954) one-sided sum of (n,) steps, never below 0, and set to 0 after each alarm.

    A row is an alarm where the sum is above the threshold. Returns the (n,) sums (before they are set to 0), the rows
    of alarms, and the sum to go on from as `start`. A step that is NaN changes nothing.

    >>> cusum([1.0, -3.0, 2.0, 2.0, 1.0], 3.5)
    (array([1., 0., 2., 4., 1.]), array([3]), 1.0)
    """
    sums, alarms, total = [], [], start
    for row, step in enumerate(np.asarray(steps, np.float64).tolist()):
        total = max(0.0, total + step) if step == step else total  # NaN is not itself
        sums.append(total)
        if total > threshold:
            alarms.append(row)
            total = 0.0
    return np.array(sums, np.float64), np.array(alarms, np.int64), total


def mean_run_length(threshold: float, allowance: float = 0.5, shift: float = 0.0) -> float:
    """Mean number of rows up to an alarm of a CUSUM with steps x - allowance, x normal with this mean and variance 1.

    Brook and Evans (1972), Biometrika 59: the sum is a Markov chain on a grid.

    >>> round(mean_run_length(4.0), 0), round(mean_run_length(4.0, shift=1.0), 2)
    (335.0, 8.38)
    """
    from scipy.special import ndtr

    width = threshold / (STATES - 0.5)
    edge = np.arange(-STATES + 1, STATES + 1) * width
    return _run_length(ndtr(np.r_[edge - width / 2] + allowance - shift), width)


def variance_run_length(threshold: float, ratio: float, variance: float = 1.0) -> float:
    """Mean number of rows up to an alarm of a CUSUM of log likelihood ratios, see `variance_steps`.

    `variance`: that of the normal rows; 1 where nothing has changed.

    >>> bool(variance_run_length(4.0, 2.0) > 20 * variance_run_length(4.0, 2.0, variance=4.0))
    True
    """
    from scipy.special import chdtr

    slope, offset = 0.5 * (1 - 1 / ratio), 0.5 * np.log(ratio)
    width = threshold / (STATES - 0.5)
    edge = np.arange(-STATES + 1, STATES + 1) * width - width / 2
    square = np.maximum(0.0, (edge + offset) / slope)
    return _run_length(chdtr(1, square / variance), width)


def _run_length(below: FloatArray, width: float) -> float:
    """From the chances (2 STATES,) that a step is below (k - 1/2) widths, k from 1 - STATES on."""
    n = STATES
    place = np.arange(n)
    upper = below[n + place[None, :] - place[:, None]]  # chance of a step to state j or lower, from state i
    chance = np.diff(upper, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(n) - chance, np.ones(n))[0])


def variance_steps(scores: ArrayLike, ratio: float) -> FloatArray:
    """(n,) normal scores -> log likelihood ratio of a variance of `ratio` against 1.

    >>> variance_steps([0.0, 2.0], 4.0).round(3).tolist()
    [-0.693, 0.807]
    """
    steps: FloatArray = 0.5 * (1 - 1 / ratio) * np.asarray(scores, np.float64) ** 2 - 0.5 * np.log(ratio)
    return steps


@lru_cache(maxsize=4096)
def variance_threshold(rows: float, ratio: float) -> float:
    """The threshold at which a chart of `variance_steps` has one false alarm in so many rows, in the mean.

    >>> h = variance_threshold(1000.0, 2.0)
    >>> round(variance_run_length(h, 2.0))
    1000
    """
    return _root(lambda h: float(np.log(variance_run_length(h, ratio) / rows)), 0.05, float(np.log(rows)) + 3)


@lru_cache(maxsize=4096)
def mean_threshold(rows: float, allowance: float = 0.5) -> float:
    """The threshold at which a CUSUM of normal rows less `allowance` has one false alarm in so many rows, in the mean.

    >>> round(mean_threshold(930.9), 2)
    5.0
    """
    high = float(np.log(rows)) / (2 * allowance) + 6
    return _root(lambda h: float(np.log(mean_run_length(h, allowance) / rows)), 0.05, high)


def _root(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises through 0 between two numbers is 0, to 1e-9 of a number.

    By false position, the value at an end that stays halved (Illinois): an update of a store has no time to load an
    optimiser.
    """
    below, above, side = rises(low), rises(high), 0
    for _ in range(100):
        if high - low < 1e-9:
            break
        middle = (low * above - high * below) / (above - below)
        value = rises(middle)
        if abs(value) < 1e-12:
            return middle
        if value > 0:
            high, above, below, side = middle, value, below / 2 if side > 0 else below, 1
        else:
            low, below, above, side = middle, value, above / 2 if side < 0 else above, -1
    return (low + high) / 2


def bets(pvalues: ArrayLike) -> FloatArray:
    """(n,) p-values -> what a bet of 1 that they are too small has become: in the mean at most 1 where they are not.

    The mean of e p^(e - 1) over the `POWERS` e. NaN: 1, no bet.

    >>> bets([1.0, 0.01]).round(2).tolist()
    [0.4, 5.41]
    """
    p = np.asarray(pvalues, np.float64)
    power = np.array(POWERS)
    return np.asarray(np.where(np.isnan(p), 1.0, (power * p[..., None] ** (power - 1)).mean(-1)), np.float64)


def detect_by_bets(won: ArrayLike, rows: float, start: float = 0.0) -> tuple[FloatArray, IntArray, float]:
    """A new bettor begins at each row: the (n,) sum of all their wealth; an alarm where it reaches `rows`.

    Where every bet's mean is at most 1 given the past, an alarm comes after at least `rows` rows in the mean, whatever
    the distribution: an e-detector (Shin, Ramdas and Rinaldo, 2024, New England Journal of Statistics in Data Science
    2). After an alarm it begins again. Returns sums, rows of alarms, and the sum to go on from.

    >>> detect_by_bets([1.0, 1.0, 2.0, 3.0], 10.0)
    (array([ 1.,  2.,  6., 21.]), array([3]), 0.0)
    """
    sums, alarms, total = [], [], start
    for row, bet in enumerate(np.asarray(won, np.float64).tolist()):
        total = (total + 1.0) * bet
        sums.append(total)
        if total >= rows:
            alarms.append(row)
            total = 0.0
    return np.array(sums, np.float64), np.array(alarms, np.int64), total
