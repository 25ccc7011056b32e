"""Is a difference more than luck? Tests of forecasts, of means, and of many models at once.

Every test returns a frozen `Test`. Where it is undefined, its numbers are NaN and `reason` says why: it never
raises for what the values are, only for arguments that cannot be meant (lengths that differ, a horizon of 0).
Rows are in order of time, one a bar; a row in which any argument is NaN is left out. `horizon` is the number
of bars that an answer spans: answers over h bars overlap, and h - 1 neighbours are correlated.

>>> draws = np.random.default_rng(0).standard_normal((2, 250))
>>> forecast, actual = draws[0], 0.3 * draws[0] + draws[1]
>>> clark_west(actual, np.zeros(250), 0.3 * forecast).pvalue < 0.001
True
>>> clark_west(actual, np.zeros(250), np.zeros(250)).reason
'the two forecasts are the same'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.metrics.forecast import FloatArray, rows

BARS_PER_HORIZON = 15
"""A test over overlapping answers of h bars has too few rows for a verdict below this many times h."""

BOOTSTRAP_CELLS = 1_000_000  # draws x rows held at a time


@dataclass(frozen=True)
class Test:
    """What a test found.

    `statistic` and `pvalue` are NaN, and `reason` says why, where the test is undefined. `n` is the number of
    rows it rests on, `effect` what was tested (each test says of what) and `standard_error` its own, both in
    the unit of the arguments. `enough` is False where n is too small for a verdict at this horizon.
    """

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test

    statistic: float
    pvalue: float
    reason: str = ""
    n: int = 0
    effect: float = np.nan
    standard_error: float = np.nan
    enough: bool = True


@dataclass(frozen=True)
class DieboldMariano(Test):
    """`Test` and, in `non_overlapping`, Student's t of every h-th row, which shares no bar with another."""

    non_overlapping: Test | None = None


@dataclass(frozen=True)
class Regression(Test):
    """`Test` and the line that was fitted: intercept + slope x."""

    intercept: float = np.nan
    slope: float = np.nan


@dataclass(frozen=True)
class Sequential:
    """A test that may be looked at on every row: `evidence` (rows,) against the null so far, 1 before there is any.

    `pvalue` is 1 over the largest evidence: it stays valid whenever one looks, and stops where one likes.
    """

    evidence: FloatArray
    pvalue: float
    reason: str = ""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; both NaN, and `reason` says why, where it is undefined."""

    low: float
    high: float
    reason: str = ""


# ── two forecasts ─────────────────────────────────────────────────────────────────────────────────


def diebold_mariano(
    error_a: ArrayLike,
    error_b: ArrayLike,
    horizon: int = 1,
    loss: Literal["squared", "absolute", "identity"] = "squared",
) -> DieboldMariano:
    """Have two series of forecast errors the same mean loss? Two-sided; a positive statistic: **a is worse**.

    `effect` is the mean of L(a) - L(b), tested with autocovariances up to h - 1, the correction of Harvey,
    Leybourne and Newbold and Student's t of n - 1 degrees. `loss` "identity" takes the arguments for losses.
    Where the variance estimate is not positive for h > 1, the non-overlapping t stands in, `reason` says so.
    Not for a fitted model against a benchmark nested in it: that is `clark_west`.

    Diebold and Mariano (1995), Journal of Business & Economic Statistics 13; Harvey, Leybourne and Newbold
    (1997), International Journal of Forecasting 13.

    >>> test = diebold_mariano([0, 1, 2, 3, 4, 5], [0, 2, 3, 3, 5, 6])
    >>> round(test.statistic, 4), round(test.pvalue, 5)
    (-2.4905, 0.05513)
    """
    losses: dict[str, Callable[[FloatArray], FloatArray]] = {
        "squared": np.square,
        "absolute": np.abs,
        "identity": np.asarray,
    }
    if loss not in losses:
        raise ValueError(f"loss must be one of {', '.join(losses)}, got {loss!r}.")
    a, b = (losses[loss](error) for error in _rows(horizon, error_a, error_b))
    n = a.size
    enough = n >= BARS_PER_HORIZON * horizon
    if not (reason := _unusable(horizon + 1, a, b)):
        difference = a - b
        reason = _constant(difference, "the two losses differ by a constant", a, b)
    if reason:
        return DieboldMariano(np.nan, np.nan, reason, n, enough=False)
    apart = _student(difference[::horizon])
    variance = _long_run_variance(difference, horizon - 1, bartlett=False)
    if variance <= 1e-12 * difference.var():
        reason = apart.reason or "the variance estimate is not positive: this is the t of every h-th row"
        statistic, pvalue, error = apart.statistic, apart.pvalue, apart.standard_error
    else:
        correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
        error = np.sqrt(variance / n / correction)
        statistic = float(difference.mean() / error)
        pvalue = _student_two_sided(statistic, n - 1)
    effect = float(difference.mean())
    return DieboldMariano(statistic, pvalue, reason, n, effect, float(error), enough, apart)


def clark_west(actual: ArrayLike, benchmark: ArrayLike, model: ArrayLike, horizon: int = 1) -> Test:
    """Does a fitted model forecast better than the benchmark nested in it (zero, the mean)? One-sided.

    A small p-value: there is signal. `effect` is the mean of e1² - (e2² - (f1 - f2)²), the gain in squared
    error as it would be without the noise of fitting; standard normal, for h > 1 with a long-run variance
    (Bartlett, lag h - 1). Together with a negative R² it says that there is signal and the model wastes it.

    Clark and West (2007), Journal of Econometrics 138.
    """
    actual, benchmark, model = _rows(horizon, actual, benchmark, model)
    n = actual.size
    reason = _unusable(horizon + 1, actual, benchmark, model) or _constant(
        np.append(benchmark - model, 0.0), "the two forecasts are the same", benchmark, model
    )
    if reason:
        return Test(np.nan, np.nan, reason, n, enough=False)
    gain = (actual - benchmark) ** 2 - ((actual - model) ** 2 - (benchmark - model) ** 2)
    return _mean_test(gain, horizon - 1, "greater", n >= BARS_PER_HORIZON * horizon)


# ── one forecast ──────────────────────────────────────────────────────────────────────────────────


def pesaran_timmermann(actual: ArrayLike, forecast: ArrayLike, horizon: int = 1) -> Test:
    """Does a forecast of direction hit more often than its own and the market's ups alone would? One-sided.

    Only signs count, zero as down. `effect` is the hit rate minus the one expected of independent signs. The
    published term of order 1/n² is dropped, so that statistic² is Pearson's χ² of the two-by-two table. For
    h > 1 it is the t of the slope of one sign on the other with a long-run variance (Bartlett, lag
    floor(1.5 h) + 10).

    Pesaran and Timmermann (1992), Journal of Business & Economic Statistics 10, and (2009), Journal of the
    American Statistical Association 104.
    """
    actual, forecast = _rows(horizon, actual, forecast)
    rose, bullish = (actual > 0).astype(np.float64), (forecast > 0).astype(np.float64)
    n = rose.size
    reason = (
        _unusable(horizon + 1, actual, forecast)
        or _constant(bullish, "the forecast always has the same direction")
        or _constant(rose, "the answer always has the same direction")
    )
    if reason:
        return Test(np.nan, np.nan, reason, n, enough=False)
    enough = n >= BARS_PER_HORIZON * horizon
    p_rose, p_bullish = rose.mean(), bullish.mean()
    by_chance = p_rose * p_bullish + (1 - p_rose) * (1 - p_bullish)
    effect = float((rose == bullish).mean() - by_chance)
    if horizon == 1:
        error = 2 * np.sqrt(p_rose * (1 - p_rose) * p_bullish * (1 - p_bullish) / n)
        return _normal(effect, error, "greater", n, enough)
    lag = 3 * horizon // 2 + 10
    coefficients, covariance = _least_squares(rose, bullish, lag)
    if not covariance[1, 1] > 0:
        return Test(np.nan, np.nan, "the variance estimate is not positive", n, enough=False)
    scale = 2 * p_bullish * (1 - p_bullish)  # the slope times this is the effect
    return _normal(scale * coefficients[1], scale * np.sqrt(covariance[1, 1]), "greater", n, enough)


def mincer_zarnowitz(actual: ArrayLike, forecast: ArrayLike, horizon: int = 1) -> Regression:
    """Is a forecast unbiased: intercept 0 and slope 1 when `actual` is regressed on it? A small p-value: no.

    F of 2 and n - 2 degrees for h = 1; for more Wald's χ² of 2 degrees with a long-run variance (Bartlett,
    lag h - 1). `effect` is the slope. Mincer and Zarnowitz (1969), Economic Forecasts and Expectations.

    >>> test = mincer_zarnowitz([1.1, 1.9, 3.2, 3.8], [1, 2, 3, 4])
    >>> round(test.intercept, 3), round(test.slope, 3)
    (0.15, 0.94)
    """
    actual, forecast = _rows(horizon, actual, forecast)
    n = actual.size
    reason = _unusable(horizon + 2, actual, forecast) or _constant(forecast, "the forecast is constant", actual)
    if reason:
        return Regression(np.nan, np.nan, reason, n, enough=False)
    scale = np.abs(forecast).max()  # variances can be so small that the covariance would look singular
    coefficients, covariance = _least_squares(actual / scale, forecast / scale, horizon - 1 if horizon > 1 else None)
    slope, error = float(coefficients[1]), float(np.sqrt(max(covariance[1, 1], 0.0)))
    line = {
        "effect": slope,
        "standard_error": error,
        "intercept": float(coefficients[0] * scale),
        "slope": slope,
    }
    if error <= 1e-12 * max(1.0, abs(slope)) or np.linalg.matrix_rank(covariance, hermitian=True) < 2:
        reason = "the line fits too well: no variance is left to test with"
        return Regression(np.nan, np.nan, reason, n, enough=False, **line)
    from scipy.special import chdtrc, fdtrc

    off = coefficients - [0.0, 1.0]
    wald = off @ np.linalg.solve(covariance, off)
    statistic, pvalue = (wald / 2, fdtrc(2, n - 2, wald / 2)) if horizon == 1 else (wald, chdtrc(2, wald))
    enough = n >= BARS_PER_HORIZON * horizon
    return Regression(float(statistic), float(pvalue), "", n, enough=enough, **line)


# ── means ─────────────────────────────────────────────────────────────────────────────────────────


def hac_mean(values: ArrayLike, lag: int) -> Test:
    """Is the mean 0? Two-sided, standard normal, with a long-run variance (Bartlett weights up to `lag`).

    `effect` is the mean, `standard_error` its own. Newey and West (1987), Econometrica 55.

    >>> test = hac_mean([1.0, 2.0, 0.0, 1.0, 3.0, 1.0], lag=1)
    >>> round(test.effect, 4), round(test.standard_error, 4)
    (1.3333, 0.3143)
    """
    (values,) = rows(values, allow_infinite=True)
    return _mean_test(values, _checked_lag(lag), "two-sided", enough=values.size >= BARS_PER_HORIZON)


def sequential_mean(values: ArrayLike, lag: int = 0, *, learning: int = 60, effect: float = 0.1) -> Sequential:
    """Is the mean above 0, asked again on every row? One-sided; evidence of 20 once is significant at 5 %, for good.

    The evidence is the likelihood ratio of a positive mean, half-normal with a spread of `effect` standard deviations,
    against 0, a martingale where there is no skill; the first `learning` rows only teach the variance, which is the
    long-run one of all rows so far (Bartlett weights up to `lag`). Exact for independent Gaussian rows of known
    variance, asymptotic otherwise. A 5 % test looked at every day for three years alarms falsely in 18 % and more.

    Robbins (1970), Annals of Mathematical Statistics 41; Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of
    Statistics 49; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52.

    >>> rows_of_skill = np.random.default_rng(0).standard_normal(1000) + 0.2
    >>> sequential_mean(rows_of_skill).pvalue < 0.01, sequential_mean(-rows_of_skill).pvalue > 0.5
    (True, True)
    """
    (values,) = rows(values, allow_infinite=True)
    n, lag = values.size, _checked_lag(lag)
    least = max(learning, 2 * (lag + 1)) + 1
    if reason := _unusable(least, values) or _constant(values, "the values are constant"):
        return Sequential(np.ones(n), np.nan, reason)
    from scipy.special import log_ndtr

    seen = np.arange(1, n + 1)
    mean = np.cumsum(values) / seen
    variance = np.zeros(n)
    for k in range(lag + 1):
        product = np.r_[np.zeros(k), np.cumsum(values[k:] * values[: n - k])]
        ends = np.cumsum(values) - np.r_[np.cumsum(values)[:k], np.full(n - k, np.sum(values[:k]))]
        starts = np.r_[np.zeros(k), np.cumsum(values[: n - k])]
        gamma = (product - mean * (ends + starts) + np.maximum(seen - k, 0) * mean**2) / seen
        variance += (1.0 if k == 0 else 2 * (1 - k / (lag + 1))) * gamma
    first = least - 1
    count = seen[first:] - first
    deviation = np.sqrt(np.maximum(variance[first:], 1e-300))
    total = np.cumsum(values[first:]) / deviation
    spread = 1 + effect**2 * count
    score = effect * total / np.sqrt(spread)
    log_evidence = np.log(2) - 0.5 * np.log(spread) + 0.5 * score**2 + log_ndtr(score)
    evidence = np.r_[np.ones(first), np.exp(np.minimum(log_evidence, 700.0))]
    return Sequential(evidence, float(min(1.0, 1 / evidence.max())))


def hac_alpha(returns: ArrayLike, benchmark: ArrayLike, lag: int) -> Regression:
    """Does a strategy earn what its benchmark's risk does not explain: is the intercept 0? Two-sided.

    `returns` and `benchmark` are simple returns of the same bars; `effect` and `intercept` are alpha per bar,
    `slope` is beta; standard normal, long-run variance as in `hac_mean`.
    """
    returns, benchmark = rows(returns, benchmark, allow_infinite=True)
    n = returns.size
    reason = _unusable(3, returns, benchmark) or _constant(benchmark, "the benchmark's return is constant", returns)
    if reason:
        return Regression(np.nan, np.nan, reason, n, enough=False)
    (alpha, beta), covariance = _least_squares(returns, benchmark, _checked_lag(lag))
    error = np.sqrt(max(covariance[0, 0], 0.0))
    if error <= 1e-12 * np.abs(returns).max():
        reason = "the benchmark explains the returns to the last digit"
        return Regression(np.nan, np.nan, reason, n, float(alpha), enough=False, slope=float(beta))
    test = _normal(alpha, error, "two-sided", n, n >= BARS_PER_HORIZON)
    return Regression(**vars(test), intercept=float(alpha), slope=float(beta))


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
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array).any(axis=tuple(range(1, array.ndim)))]
    n = len(array)
    if n < 2:
        return Interval(np.nan, np.nan, f"{n} rows are too few")
    block = block_length(array) if block is None else block
    batches = _stationary_bootstrap(n, block, draws, seed, max(1, BOOTSTRAP_CELLS // n))
    found = [statistic(array[drawn]) for batch in batches for drawn in batch]
    if not np.isfinite(found).all():
        return Interval(np.nan, np.nan, "the statistic is undefined on some draws")
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def block_length(values: ArrayLike) -> float:
    """The mean block length in bars that suits the dependence of (times,) or (times, columns): the longest.

    Politis and White (2004), Econometric Reviews 23, with the correction of Patton, Politis and White (2009),
    Econometric Reviews 28.

    >>> noise = np.random.default_rng(0).standard_normal(1000)
    >>> block_length(noise) < 5 < block_length(np.convolve(noise, np.ones(10), "valid"))
    True
    """
    table = np.asarray(values, np.float64)
    return max(_column_block_length(column) for column in table.reshape(len(table), -1).T)


def _column_block_length(values: FloatArray) -> float:
    n = values.size
    window = max(5, int(np.sqrt(np.log10(n))))
    gamma = _autocovariances(values, int(np.ceil(np.sqrt(n))) + window)
    lags = gamma.size - 1
    if gamma[0] <= 0 or lags < window:
        return 1.0
    small = np.abs(gamma[1:]) < 2 * np.sqrt(np.log10(n) / n) * gamma[0]
    quiet = np.lib.stride_tricks.sliding_window_view(small, window).all(axis=1)
    last = min(2 * max(int(quiet.argmax()), 1), lags) if quiet.any() else lags
    k = np.arange(1, last + 1)
    weighted = np.minimum(1, 2 * (1 - k / last)) * gamma[1 : last + 1]
    spectrum = float(gamma[0] + 2 * weighted.sum())
    longest = float(max(1.0, min(3 * np.sqrt(n), n / 3)))
    if spectrum <= 0:
        return longest
    length = (2 * abs(float(k @ weighted)) / spectrum) ** (2 / 3) * n ** (1 / 3)
    return float(np.clip(length, 1.0, longest))


# ── many models ───────────────────────────────────────────────────────────────────────────────────


def spa(
    benchmark_losses: ArrayLike,
    model_losses: ArrayLike,
    *,
    block: float | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Test:
    """Is the best of many models better than the benchmark, given that it is the best of many? One-sided.

    `benchmark_losses` has shape (times,), `model_losses` (times, models) or (times,) for one. The studentised
    test of superior predictive ability with the consistent recentring: models that are clearly worse do not
    weaken it. Every bootstrap draw is divided by its own standard error, from its own blocks, which keeps the
    size where losses are skewed or few. `effect` is the mean gain of the model with the largest t, `block` the
    mean length in bars of the blocks, the longest `block_length` of the gains when left out.

    Hansen (2005), Journal of Business & Economic Statistics 23; Götze and Künsch (1996), Annals of Statistics
    24.

    >>> losses = np.random.default_rng(0).standard_normal((500, 11))
    >>> losses[:, 3] -= 0.3
    >>> spa(losses[:, 0], losses[:, 1:]).pvalue < 0.01
    True
    """
    benchmark, models = np.asarray(benchmark_losses, np.float64), np.asarray(model_losses, np.float64)
    models = models[:, None] if models.ndim == 1 else models
    if benchmark.ndim != 1 or models.ndim != 2 or len(benchmark) != len(models):
        raise ValueError(
            f"expected losses (times,) and (times, models), got shapes {benchmark.shape} and {models.shape}."
        )
    if np.isinf(benchmark).any() or np.isinf(models).any():
        return Test(np.nan, np.nan, "a loss is infinite", len(benchmark), enough=False)
    gain = benchmark[:, None] - models
    gain = gain[~np.isnan(gain).any(axis=1)]
    n = len(gain)
    gain = gain[:, np.ptp(gain, axis=0) > 0] if n else gain  # a model that only repeats the benchmark drops out
    if n < 3 or not gain.shape[1]:
        reason = f"{n} rows are too few" if n < 3 else "no model differs from the benchmark"
        return Test(np.nan, np.nan, reason, n, enough=False)
    mean = gain.mean(axis=0)
    block = block_length(gain) if block is None else block
    at_once = max(1, BOOTSTRAP_CELLS // gain.size)
    batches = [_bootstrap_means(gain, batch) for batch in _stationary_bootstrap(n, block, draws, seed, at_once)]
    drawn, own_error = (np.concatenate(part) for part in zip(*batches, strict=True))
    error = drawn.std(axis=0)
    t = mean / error
    recentred = np.where(t >= -np.sqrt(2 * np.log(np.log(n))), mean, 0.0)
    drawn_t = np.full_like(drawn, np.inf)  # a draw of one block has no error of its own: it counts as larger
    np.divide(drawn - recentred, own_error, out=drawn_t, where=own_error > 1e-9 * error)
    statistic = max(0.0, float(t.max()))
    pvalue = (1 + np.sum(np.maximum(drawn_t.max(axis=1), 0.0) >= statistic)) / (1 + draws)
    best = int(t.argmax())
    return Test(statistic, float(pvalue), "", n, float(mean[best]), float(error[best]), n >= BARS_PER_HORIZON)


def _bootstrap_means(gain: FloatArray, batch: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """The mean of every draw and its standard error by the spread of its block sums, (draws, models) each."""
    n = len(gain)
    begins = np.diff(batch, axis=1, prepend=0) % n != 1
    begins[:, 0] = True
    drawn = gain[batch]
    mean = drawn.mean(axis=1)
    first = np.flatnonzero(begins)
    sums = np.add.reduceat((drawn - mean[:, None]).reshape(-1, gain.shape[1]), first)
    draw = np.searchsorted(first, np.arange(len(batch)) * n)
    return mean, np.sqrt(np.add.reduceat(sums**2, draw)) / n


def holm(pvalues: ArrayLike) -> FloatArray:
    """P-values adjusted for their number: those at or below a level are claims at that level, jointly.

    A NaN stays NaN and counts as a test that was made. Holm (1979), Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(pvalues, np.float64)
    order = np.argsort(raw)  # NaN last
    stepped = np.maximum.accumulate(raw[order] * np.arange(raw.size, 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# ── the machinery ─────────────────────────────────────────────────────────────────────────────────


def _rows(horizon: int, *series: ArrayLike) -> tuple[FloatArray, ...]:
    if horizon < 1:
        raise ValueError(f"horizon must be a number of bars, 1 or more, got {horizon}.")
    return rows(*series, allow_infinite=True)


def _checked_lag(lag: int) -> int:
    if lag < 0:
        raise ValueError(f"lag must be a number of bars, 0 or more, got {lag}.")
    return lag


def _unusable(least: int, *series: FloatArray) -> str:
    """Why nothing can be tested with these series, or nothing."""
    if series[0].size < least:
        return f"{series[0].size} rows are too few, at least {least} are needed"
    return "a value is infinite" if np.isinf(series).any() else ""


def _constant(values: FloatArray, reason: str, *of_scale: FloatArray) -> str:
    """`reason` if the values differ by no more than rounding at the scale of the numbers they come from."""
    scale = max(float(np.abs(series).max()) for series in (values, *of_scale))
    return reason if np.ptp(values) <= 1e-13 * scale else ""


def _normal(effect: float, error: float, side: Literal["greater", "two-sided"], n: int, enough: bool) -> Test:
    from scipy.special import ndtr

    statistic = float(effect / error)
    pvalue = ndtr(-statistic) if side == "greater" else 2 * ndtr(-abs(statistic))
    return Test(statistic, float(pvalue), "", n, float(effect), float(error), enough)


def _mean_test(values: FloatArray, lag: int, side: Literal["greater", "two-sided"], enough: bool) -> Test:
    if reason := _unusable(2, values) or _constant(values, "the values are constant"):
        return Test(np.nan, np.nan, reason, values.size, enough=False)
    variance = _long_run_variance(values, lag)
    if variance <= 0:
        return Test(np.nan, np.nan, "the variance estimate is not positive", values.size, enough=False)
    return _normal(values.mean(), np.sqrt(variance / values.size), side, values.size, enough)


def _student(values: FloatArray) -> Test:
    n = values.size
    if reason := _unusable(2, values) or _constant(values, "the values are constant"):
        return Test(np.nan, np.nan, reason, n, enough=False)
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    statistic = mean / error
    return Test(statistic, _student_two_sided(statistic, n - 1), "", n, mean, error, n >= BARS_PER_HORIZON)


def _student_two_sided(statistic: float, degrees: int) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(statistic)))


def _autocovariances(values: FloatArray, lag: int) -> FloatArray:
    """γ_0 to γ_lag, as far as there are rows, with the divisor n."""
    centred = values - values.mean()
    n = values.size
    return np.array([centred[k:] @ centred[: n - k] for k in range(min(lag, n - 1) + 1)]) / n


def _long_run_variance(values: FloatArray, lag: int, bartlett: bool = True) -> float:
    """Σ w_k γ_k over |k| <= lag, w_k = 1 - k / (lag + 1) or 1."""
    gamma = _autocovariances(values, lag)
    k = np.arange(1, gamma.size)
    return float(gamma[0] + 2 * np.sum((1 - k / (lag + 1) if bartlett else 1.0) * gamma[1:]))


def _least_squares(y: FloatArray, x: FloatArray, lag: int | None) -> tuple[FloatArray, FloatArray]:
    """Intercept and slope of y on x, and their covariance: Bartlett up to `lag`, classical for None."""
    design = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ (design.T @ y)
    residual = y - design @ coefficients
    if lag is None:
        return coefficients, bread * (residual @ residual) / (y.size - 2)
    score = design * residual[:, None]
    meat = score.T @ score
    for k in range(1, min(lag, y.size - 1) + 1):
        cross = score[k:].T @ score[:-k]
        meat += (1 - k / (lag + 1)) * (cross + cross.T)
    return coefficients, bread @ meat @ bread


def _stationary_bootstrap(n: int, block: float, draws: int, seed: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers, (at_once draws, n) at a time: blocks of geometric length from anywhere, wrapped round."""
    if not block >= 1:
        raise ValueError(f"block must be a mean length in bars, 1 or more, got {block}.")
    random, place = np.random.default_rng(seed), np.arange(n)
    for done in range(0, draws, at_once):
        shape = (min(at_once, draws - done), n)
        start = random.integers(n, size=shape)
        begins = random.random(shape) < 1 / block
        begins[:, 0] = True
        latest = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        yield (np.take_along_axis(start, latest, axis=1) + place - latest) % n
