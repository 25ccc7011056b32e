"""Tests of many models: losses of all -> those that beat a benchmark, and the model confidence set, by bootstrap.

Losses are (times, models), rows in order of time, one a bar or day; a row with a NaN is left out. `significance.spa`
asks the question before these: whether any of them is better at all. StepM, the confidence set, block lengths and the
draws of the stationary bootstrap are those of `arch`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.libraries import without_matplotlib
from gatecast.metrics.forecast import FloatArray

LEAST_ROWS = 30
LEAST_BLOCK_ROWS = 20  # below which a block length is no estimate
BOOTSTRAP_CELLS = 1_000_000  # draws x rows x models held at a time


@dataclass(frozen=True)
class Superior:
    """`models`: the columns that beat the benchmark, ascending; `reason` says why where nothing could be tested."""

    models: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class ConfidenceSet:
    """`pvalues` (models,) that each is the best, `included` the columns that can be; NaN, none and a `reason` else."""

    pvalues: FloatArray
    included: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; both NaN, and `reason` says why, where it is undefined."""

    low: float
    high: float
    reason: str = ""


def step_m(
    benchmark_losses: ArrayLike,
    model_losses: ArrayLike,
    *,
    level: float = 0.05,
    block: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Superior:
    """Which models beat the benchmark, with at most `level` of a chance that any of them does not.

    `benchmark_losses` (times,), `model_losses` (times, models). Gains are divided by their standard errors first, so
    that a noisy model does not hide a good one; the draws are not divided by their own, as those of `significance.spa`
    are, and so a level of 5 % is 12 % where losses are few (250), skewed and dependent. Romano and Wolf (2005),
    Econometrica 73.

    >>> losses = np.random.default_rng(0).standard_normal((500, 6))
    >>> losses[:, 2] -= 0.3
    >>> step_m(losses[:, 0], losses[:, 1:]).models
    (1,)
    """
    gain, differing, reason = gains(benchmark_losses, model_losses, LEAST_ROWS)
    if reason:
        return Superior((), reason)
    gain = gain[:, differing]
    block = _check(block_length(gain) if block is None else block, draws)
    variance = np.array([long_run_variance(column, int(np.ceil(block))) for column in gain.T])
    with without_matplotlib():
        from arch.bootstrap import StepM

    # the last column is the benchmark itself: arch fails once all columns are found to be better
    scaled = np.column_stack([gain / np.sqrt(variance), np.zeros(len(gain))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = StepM(
            np.zeros(len(scaled)), -scaled, size=level, block_size=round(block), reps=draws,
            studentize=False, seed=seed,
        )  # fmt: skip
        test.compute()
    found = differing[np.asarray(test.superior_models, np.int64)]
    return Superior(tuple(sorted(int(column) for column in found)))


def model_confidence_set(
    losses: ArrayLike, *, level: float = 0.1, block: float | None = None, draws: int = 1000, seed: int = 0
) -> ConfidenceSet:
    """Which models can be the best, given how noisy their losses are: a set that holds it with 1 - `level`.

    Models whose losses are the same share one answer; one that always loses the same amount more than another has a
    p-value of 0. Hansen, Lunde and Nason (2011), Econometrica 79.

    >>> losses = np.random.default_rng(1).standard_normal((500, 3))
    >>> losses[:, 2] += 0.5
    >>> model_confidence_set(losses).included
    (0, 1)
    """
    table = np.asarray(losses, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"expected losses (times, models), got shape {table.shape}.")
    count = table.shape[1]
    table = table[~np.isnan(table).any(axis=1)]
    if reason := _unusable(table, LEAST_ROWS) or out_of_range(table):
        return ConfidenceSet(np.full(count, np.nan), (), reason)
    table = table - table.mean(axis=1, keepdims=True)
    best = _best_twins(table)
    own = np.unique(best[best >= 0])
    pvalues = np.zeros(count)
    pvalues[own] = _confidence(table[:, own], block, draws, seed) if len(own) > 1 else 1.0
    pvalues = np.where(best >= 0, pvalues[best], 0.0)
    return ConfidenceSet(pvalues, tuple(int(column) for column in np.flatnonzero(pvalues > level)))


def losing_less(losses: ArrayLike, *, block: float | None = None, draws: int = 1000, seed: int = 0) -> FloatArray:
    """P-values (models, models) that the model of the column loses less than that of the row, from one set of draws.

    Each row is corrected for all models that are held against its own, by steps from the largest t down, so that its
    smallest p-value is that of `significance.spa`: whether any model is better. A model can be the best, with a
    confidence of 1 - `level`, where no p-value of its row is below `level`. NaN for a model against itself and against
    one with the same losses, and throughout where there are too few rows. Every draw is divided by its own standard
    error, and models that are clearly worse do not weaken the others. Hsu, Hsu and Kuan (2010), Journal of Empirical
    Finance 17; Hansen (2005), Journal of Business & Economic Statistics 23.

    >>> losses = np.random.default_rng(3).standard_normal((500, 3))
    >>> losses[:, 2] -= 0.4
    >>> (losing_less(losses, draws=300) < 0.05).tolist()
    [[False, False, True], [False, False, True], [False, False, False]]
    """
    table = np.asarray(losses, np.float64)
    if table.ndim != 2:
        raise ValueError(f"expected losses (times, models), got shape {table.shape}.")
    count = table.shape[1]
    pvalues = np.full((count, count), np.nan)
    table = table[~np.isnan(table).any(axis=1)]
    if _unusable(table, LEAST_ROWS) or out_of_range(table):
        return pvalues
    n, rounding = len(table), 1e-12 * np.abs(table).max()
    table = table - table.mean(axis=1, keepdims=True)
    block = _check(block_length(table) if block is None else block, draws)
    drawn, squares = _means_and_products(table, block, draws, seed)
    clearly = -np.sqrt(2 * np.log(np.log(n)))
    for row in range(count):
        mean = table[:, row].mean() - table.mean(axis=0)
        varies = np.ptp(table[:, [row]] - table, axis=0) > rounding
        of_draw = drawn[:, [row]] - drawn
        error = np.where(varies, of_draw.std(axis=0), 1.0)
        own = squares[:, row, row, None] + np.einsum("dmm->dm", squares) - 2 * squares[:, row]
        own_error = np.sqrt(np.maximum(own, 0.0)) / n
        t = np.where(varies, mean / error, np.where(np.abs(mean) > rounding, np.copysign(np.inf, mean), np.nan))
        recentred = np.where(t >= clearly, mean, 0.0)
        drawn_t = np.full_like(of_draw, np.inf)  # a draw of one block has no error of its own: it counts as larger
        np.divide(of_draw - recentred, own_error, out=drawn_t, where=own_error > 1e-6 * error)
        drawn_t[:, ~varies] = -np.inf
        pvalues[row] = _stepped(t, drawn_t)
    return pvalues


def _stepped(t: FloatArray, drawn_t: FloatArray) -> FloatArray:
    """P-values of (models,) statistics, largest first, each beside the draws of itself and all smaller ones."""
    pvalues, largest = np.full(len(t), np.nan), 0.0
    order = [int(place) for place in np.argsort(-t) if np.isfinite(t[place]) or np.isinf(t[place])]
    for done, place in enumerate(order):
        rest = np.maximum(drawn_t[:, order[done:]].max(axis=1), 0.0)
        largest = max(largest, float((1 + np.sum(rest >= max(0.0, t[place]))) / (1 + len(rest))))
        pvalues[place] = largest
    return pvalues


def _means_and_products(table: FloatArray, block: float, draws: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """The mean of every draw, (draws, models), and the products of its block sums, (draws, models, models)."""
    at_once = max(1, BOOTSTRAP_CELLS // table.size)
    means, products = [], []
    for batch in _stationary_bootstrap(len(table), block, draws, seed, at_once):
        mean, sums, first = _block_sums(table, batch)
        means.append(mean)
        products += [part.T @ part for part in np.split(sums, first[1:])]
    return np.concatenate(means), np.array(products)


def _confidence(table: FloatArray, block: float | None, draws: int, seed: int) -> FloatArray:
    """arch's p-value of each column; ties of their means, of which arch makes an error, are broken far below noise."""
    with without_matplotlib():
        from arch.bootstrap import MCS

    block = _check(block_length(table) if block is None else block, draws)
    table = table / table.std()
    table = table + 1e-10 * np.random.default_rng(0).random(table.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = MCS(table, size=0.5, reps=draws, block_size=round(block), seed=seed)
        test.compute()
        pvalues = np.empty(table.shape[1])
        pvalues[test.pvalues.index.to_numpy().astype(np.int64)] = test.pvalues["Pvalue"].to_numpy()
    return pvalues


def _best_twins(table: FloatArray) -> NDArray[np.int64]:
    """For each column the first with the same losses; -1 where another one always loses a constant amount less."""
    rounding = 1e-12 * np.abs(table).max()
    best = np.empty(table.shape[1], np.int64)
    for column in range(len(best)):
        apart = table - table[:, [column]]
        alike = np.flatnonzero(np.ptp(apart, axis=0) <= rounding)
        offset = apart[:, alike].mean(axis=0)
        best[column] = alike[np.abs(offset) <= rounding][0] if offset.min() >= -rounding else -1
    return best


def holm(pvalues: ArrayLike) -> FloatArray:
    """P-values adjusted for their number: those at or below a level are claims at that level, jointly.

    A NaN stays NaN and counts as a test that was made. Holm (1979), Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.atleast_1d(np.asarray(pvalues, np.float64))
    order = np.argsort(raw)  # NaN last
    stepped = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(pvalues: ArrayLike) -> FloatArray:
    """P-values adjusted so that of those at or below a level that share at most are false, in the mean.

    For tests that are independent or move together. A NaN stays NaN and counts as a test that was made. Benjamini and
    Hochberg (1995), Journal of the Royal Statistical Society B 57.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(6).tolist()
    [0.04, 0.053333, 0.053333, 0.5]
    """
    raw = np.atleast_1d(np.asarray(pvalues, np.float64))
    order = np.argsort(raw)  # NaN last
    grown = raw[order] * raw.size / np.arange(1, raw.size + 1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.fmin.accumulate(grown[::-1])[::-1] if raw.size else grown
    return np.where(np.isnan(raw), np.nan, np.minimum(adjusted, 1.0))


# ── what can be tested ────────────────────────────────────────────────────────────────────────────


def gains(
    benchmark_losses: ArrayLike, model_losses: ArrayLike, least: int
) -> tuple[FloatArray, NDArray[np.int64], str]:
    """How much less than the benchmark each model loses, the models of which it varies, and why nothing can be tested.

    Losses (times,) and (times, models), or (times,) for one model; rows with a NaN are left out and at least `least`
    are needed. `ValueError` where the shapes do not go together.
    """
    benchmark, models = np.asarray(benchmark_losses, np.float64), np.asarray(model_losses, np.float64)
    models = models[:, None] if models.ndim == 1 else models
    if benchmark.ndim != 1 or models.ndim != 2 or len(benchmark) != len(models):
        raise ValueError(
            f"expected losses (times,) and (times, models), got shapes {benchmark.shape} and {models.shape}."
        )
    complete = ~(np.isnan(benchmark) | np.isnan(models).any(axis=1))
    benchmark, models = benchmark[complete, None], models[complete]
    if reason := _unusable(models, least) or out_of_range(benchmark, models):
        return models, np.zeros(0, np.int64), reason
    gain = benchmark - models
    scale = np.maximum(np.abs(benchmark).max(), np.abs(models).max(axis=0))
    differing = np.flatnonzero(np.ptp(gain, axis=0) > 1e-13 * scale)
    return gain, differing, "" if differing.size else "no model differs from the benchmark by more than a constant"


def out_of_range(*series: FloatArray) -> str:
    """Why the variance of the squares of these columns cannot be computed, or nothing."""
    largest = np.concatenate([np.atleast_1d(np.abs(each).max(axis=0, initial=0.0)) for each in series])
    if np.isinf(largest).any():
        return "a value is infinite"
    squared = (largest == 0) | ((largest > 1e-70) & (largest < 1e70))
    return "" if squared.all() else "the values are too large or too small to be squared"


def _unusable(table: FloatArray, least: int) -> str:
    if table.shape[1] == 0:
        return "there are no models"
    return f"{len(table)} rows are too few, at least {least} are needed" if len(table) < least else ""


# ── the bootstrap ─────────────────────────────────────────────────────────────────────────────────


def block_bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[FloatArray], float] = np.mean,
    *,
    block: float | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """A percentile interval for a statistic of dependent rows, by the stationary bootstrap.

    `values` has shape (times,) or (times, columns), whose rows stay together; `statistic` takes such an array
    and gives a number. `block` is the mean length in bars of the blocks, `block_length` when left out. Politis
    and Romano (1994), Journal of the American Statistical Association 89.

    >>> interval = block_bootstrap_interval(np.sin(np.arange(200.0)))
    >>> interval.low < 0 < interval.high
    True
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    array = _complete(values)
    n = len(array)
    if reason := f"{n} rows are too few" if n < 2 else out_of_range(array):
        return Interval(np.nan, np.nan, reason)
    block = block_length(array) if block is None else block
    batches = _stationary_bootstrap(n, block, draws, seed, max(1, BOOTSTRAP_CELLS // n))
    found = [statistic(array[drawn]) for batch in batches for drawn in batch]
    if not np.isfinite(found).all():
        return Interval(np.nan, np.nan, "the statistic is undefined on some draws")
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def block_length(values: ArrayLike) -> float:
    """The mean block length in bars that suits the dependence of (times,) or (times, columns): the longest.

    Rows with a NaN are left out; 1 where nothing can be estimated. Politis and White (2004), Econometric Reviews 23,
    with the correction of Patton, Politis and White (2009), Econometric Reviews 28.

    >>> noise = np.random.default_rng(0).standard_normal(1000)
    >>> block_length(noise) < 5 < block_length(np.convolve(noise, np.ones(10), "valid"))
    True
    """
    table = _complete(values)
    if len(table) < 2 or out_of_range(table):
        return 1.0
    return max((_column_block_length(column) for column in table.reshape(len(table), -1).T), default=1.0)


def _complete(values: ArrayLike) -> FloatArray:
    """The rows of (times,) or (times, columns) without a NaN."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    complete: FloatArray = array[~np.isnan(array).any(axis=tuple(range(1, array.ndim)))]
    return complete


def _column_block_length(values: FloatArray) -> float:
    """arch's length of one column, from 1 up; 1 where there are too few rows for it, or nothing varies."""
    with without_matplotlib():
        from arch.bootstrap import optimal_block_length

    if values.size < LEAST_BLOCK_ROWS or np.ptp(values) <= 1e-13 * np.abs(values).max():
        return 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        found = float(optimal_block_length(values / np.abs(values).max())["stationary"].iloc[0])
    return max(1.0, found) if np.isfinite(found) else 1.0


def bootstrap_means(gain: FloatArray, block: float, draws: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """The mean of every draw of (times, models) and its standard error by its own blocks, (draws, models) each."""
    at_once = max(1, BOOTSTRAP_CELLS // gain.size)
    batches = [_means(gain, batch) for batch in _stationary_bootstrap(len(gain), block, draws, seed, at_once)]
    mean, error = (np.concatenate(part) for part in zip(*batches, strict=True))
    return mean, error


def _means(gain: FloatArray, batch: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """The mean of every draw and its standard error by the spread of its block sums, (draws, models) each."""
    mean, sums, first = _block_sums(gain, batch)
    return mean, np.sqrt(np.add.reduceat(sums**2, first)) / len(gain)


def _block_sums(gain: FloatArray, batch: NDArray[np.int64]) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Means (draws, models), sums of each block beyond its draw's mean (blocks, models), first block of each draw."""
    n = len(gain)
    begins = np.diff(batch, axis=1, prepend=0) % n != 1
    begins[:, 0] = True
    drawn = gain[batch]
    mean = drawn.mean(axis=1)
    first = np.flatnonzero(begins)
    sums = np.add.reduceat((drawn - mean[:, None]).reshape(-1, gain.shape[1]), first)
    return mean, sums, np.searchsorted(first, np.arange(len(batch)) * n)


def _autocovariances(values: FloatArray, lag: int) -> FloatArray:
    """γ_0 to γ_lag, as far as there are rows, with the divisor n."""
    centred = values - values.mean()
    n = values.size
    return np.array([centred[k:] @ centred[: n - k] for k in range(min(lag, n - 1) + 1)]) / n


def long_run_variance(values: FloatArray, lag: int, bartlett: bool = True) -> float:
    """Σ w_k γ_k over |k| <= lag, w_k = 1 - k / (lag + 1) or 1."""
    gamma = _autocovariances(values, lag)
    k = np.arange(1, gamma.size)
    return float(gamma[0] + 2 * np.sum((1 - k / (lag + 1) if bartlett else 1.0) * gamma[1:]))


def _stationary_bootstrap(n: int, block: float, draws: int, seed: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers, (at_once draws, n) at a time: blocks of geometric length from anywhere, wrapped round."""
    with without_matplotlib():
        from arch.bootstrap import StationaryBootstrap

    bootstrap = StationaryBootstrap(_check(block, draws), np.arange(n), seed=seed)  # type: ignore[arg-type]
    for done in range(0, draws, at_once):
        yield np.array([bootstrap.update_indices() for _ in range(min(at_once, draws - done))])


def _check(block: float, draws: int) -> float:
    if not block >= 1:
        raise ValueError(f"block must be a mean length in bars, 1 or more, got {block}.")
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, got {draws}.")
    return block
