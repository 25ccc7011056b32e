"""Significance tests: Diebold-Mariano, Clark-West, means with fixed-b critical values, Holm, SPA, sequential.

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

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from gatecast.metrics.forecast import FloatArray, rows
from gatecast.metrics.many import Interval as Interval
from gatecast.metrics.many import block_bootstrap_interval as block_bootstrap_interval
from gatecast.metrics.many import block_length as block_length
from gatecast.metrics.many import bootstrap_means, gains, long_run_variance, out_of_range
from gatecast.metrics.many import holm as holm

BARS_PER_HORIZON = 15
"""A test over overlapping answers of h bars has too few rows for a verdict below this many times h."""

BOUND = 1.6448536269514722
"""The quantile of the standard normal distribution at either end of a 90 % interval."""
BEYOND = 0.842
"""Standard errors beyond the critical value at which an effect is found in 80 of 100 cases."""


def _through(at_5: float, at_1: float) -> tuple[float, float]:
    """a and c of a z + c z³ through two values: at 1.6449 (5 %) and at 2.3263 (1 %)."""
    points = np.array([1.6449, 2.3263])
    a, c = np.linalg.solve(np.column_stack([points, points**3]), np.array([at_5, at_1]))
    return float(a), float(c)


FIXED_B = np.array([_through(2.1859, 4.1618), _through(0.3142, 0.5368), _through(-0.3427, -0.9060)]).T
"""(2, 3) of z and z³ in the coefficients of b, b² and b³: Kiefer and Vogelsang (2005), Bartlett kernel."""


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
class FixedB(Test):
    """`Test`, one-sided for an effect above 0, with critical values for the share of rows that its variance spans.

    `share`: b, the bandwidth over the number of rows.
    """

    share: float = 0.0

    @classmethod
    def of(cls, test: Test, share: float) -> FixedB:
        """The same effect and error, the p-value by fixed-b; `share` beyond 1 counts as 1."""
        share = min(share, 1.0)
        own = {field.name: getattr(test, field.name) for field in fields(Test)}
        return cls(**{**own, "pvalue": fixed_b_pvalue(test.statistic, share)}, share=share)

    @property
    def low(self) -> float:
        """Lower end of the 90 % interval of the effect."""
        return self.effect - fixed_b_critical(BOUND, self.share) * self.standard_error

    @property
    def high(self) -> float:
        """Upper end of the 90 % interval of the effect."""
        return self.effect + fixed_b_critical(BOUND, self.share) * self.standard_error

    @property
    def detectable(self) -> float:
        """The smallest effect that is found in 80 of 100 cases, at the standard error that there is."""
        return (fixed_b_critical(BOUND, self.share) + BEYOND) * self.standard_error


@dataclass(frozen=True)
class Sequential:
    """A test that may be looked at on every row: `evidence` (rows,) against the null so far, 1 before there is any.

    `pvalue` is 1 over the largest evidence: it stays valid whenever one looks, and stops where one likes.
    """

    evidence: FloatArray
    pvalue: float
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
    a, b = _rows(horizon, error_a, error_b)
    n = a.size
    enough = n >= BARS_PER_HORIZON * horizon
    if not (reason := _unusable(horizon + 1, a, b)):
        a, b = losses[loss](a), losses[loss](b)
        difference = a - b
        reason = _constant(difference, "the two losses differ by a constant", a, b)
    if reason:
        return DieboldMariano(np.nan, np.nan, reason, n, enough=False)
    apart = _student(difference[::horizon])
    variance = long_run_variance(difference, horizon - 1, bartlett=False)
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
    line = _fit_line(rose, bullish, lag=3 * horizon // 2 + 10)
    error = 2 * line.spread * np.sqrt(line.covariance[1, 1])  # slope x 2 p (1 - p) is the effect
    if error <= 1e-12:
        reason = "every direction was hit, or every one missed: no variance is left to test with"
        return Test(np.nan, np.nan, reason, n, enough=False)
    return _normal(2 * line.spread * line.slope, error, "greater", n, enough)


def mincer_zarnowitz(actual: ArrayLike, forecast: ArrayLike, horizon: int = 1) -> Regression:
    """Is a forecast unbiased: intercept 0 and slope 1 when `actual` is regressed on it? A small p-value: no.

    F of 2 and n - 2 degrees for h = 1; for more Wald's χ² of 2 degrees with a long-run variance (Bartlett,
    lag h - 1), which rejects too often where the forecast persists: 13 % for 5 % at h = 5 and 1,000 bars of an AR(.9).
    `effect` is the slope. Mincer and Zarnowitz (1969), Economic Forecasts and Expectations.

    >>> test = mincer_zarnowitz([1.1, 1.9, 3.2, 3.8], [1, 2, 3, 4])
    >>> round(test.intercept, 3), round(test.slope, 3)
    (0.15, 0.94)
    """
    actual, forecast = _rows(horizon, actual, forecast)
    n = actual.size
    reason = _unusable(horizon + 2, actual, forecast) or _constant(forecast, "the forecast is constant")
    if reason:
        return Regression(np.nan, np.nan, reason, n, enough=False)
    line = _fit_line(actual, forecast, lag=horizon - 1 if horizon > 1 else None)
    slope, error = line.slope / line.spread, np.sqrt(line.covariance[1, 1]) / line.spread
    found = {
        "effect": float(slope),
        "standard_error": float(error),
        "intercept": float(line.level - slope * line.centre),
        "slope": float(slope),
    }
    least, most = np.linalg.eigvalsh(line.covariance)
    if most <= (1e-12 * np.abs(actual).max()) ** 2 or least <= 1e-12 * most:
        reason = "the line fits too well: no variance is left to test with"
        return Regression(np.nan, np.nan, reason, n, enough=False, **found)
    from scipy.special import chdtrc, fdtrc

    off = np.array([line.level - line.centre, line.slope - line.spread])
    wald = off @ np.linalg.solve(line.covariance, off)
    statistic, pvalue = (wald / 2, fdtrc(2, n - 2, wald / 2)) if horizon == 1 else (wald, chdtrc(2, wald))
    enough = n >= BARS_PER_HORIZON * horizon
    return Regression(float(statistic), float(pvalue), "", n, enough=enough, **found)


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


def fixed_b_critical(z: float, share: float) -> float:
    """The value that a t statistic with Bartlett weights exceeds as often as a standard normal number exceeds `z`.

    Parameters
    ----------
    z: a quantile of the standard normal distribution, such as 1.645 for 5 % one-sided.
    share: b, the bandwidth over the number of rows, from 0 (the answer is z) to 1.

    Returns
    -------
    z + A b + B b² + C b³. A, B and C are odd cubic polynomials of z through the published coefficients at 5 % and
    1 % one-sided, so that any level has a value; it rises with z for every b up to 1.

    Raises
    ------
    ValueError for a share outside 0 to 1.

    References
    ----------
    Kiefer and Vogelsang (2005), Econometric Theory 21.

    >>> round(fixed_b_critical(1.6449, 0.1), 4), round(fixed_b_critical(2.3263, 0.1), 4)
    (1.8663, 2.7469)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be the bandwidth over the number of rows, from 0 to 1, got {share}.")
    powers = share ** np.arange(1, 4)
    return float(z + (FIXED_B[0] * z + FIXED_B[1] * z**3) @ powers)


def fixed_b_pvalue(statistic: float, share: float) -> float:
    """The one-sided p-value of a t statistic with Bartlett weights, the inverse of `fixed_b_critical`; NaN of NaN.

    `share`: b, the bandwidth over the number of rows, from 0 to 1; `ValueError` for any other.

    >>> round(fixed_b_pvalue(1.8663, 0.1), 3), round(fixed_b_pvalue(-1.8663, 0.1), 3), fixed_b_pvalue(0.0, 0.5)
    (0.05, 0.95, 0.5)
    """
    from scipy.special import ndtr

    size = min(abs(statistic), 1e6)  # beyond it every p-value is 0
    low, high = 0.0, size
    if not np.isfinite(size):
        return float("nan")
    for _ in range(200):  # the critical value is never below z, and rises with it
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if fixed_b_critical(middle, share) < size else (low, middle)
    return float(ndtr(-high if statistic > 0 else high))


def bandwidth_of(n: int, overlap: int = 1) -> int:
    """Rows that a long-run variance of n rows reaches over, where each shares bars with `overlap` - 1 after it.

    Ten times the overlap, at most a tenth of the rows, at least 10 (of fewer rows all): with fixed-b critical values
    the size of the test is near its level at overlaps of 1, 5 and 20, see `gatecast truth`.

    >>> bandwidth_of(4500, 5), bandwidth_of(1000, 20), bandwidth_of(4500), bandwidth_of(60, 5)
    (50, 100, 10, 10)
    """
    return max(1, min(n, max(10, min(10 * overlap, n // 10))))


def fixed_b_mean(values: ArrayLike, overlap: int = 1, rows_of: int | None = None) -> FixedB:
    """Is the mean above 0? One-sided, for rows that share bars with the `overlap` - 1 rows after them.

    A long-run variance with Bartlett weights over `bandwidth_of` rows and Kiefer and Vogelsang's critical values.
    `effect` is the mean, `standard_error` its own, `low` and `high` its 90 % interval. `rows_of`: the number of rows
    that tell something, where it is smaller than that of all (None: all).

    >>> test = fixed_b_mean(np.sin(np.arange(200.0)) + 0.2)
    >>> test.low < test.effect < test.high, test.pvalue < 0.01
    (True, True)
    """
    (values,) = rows(values, allow_infinite=True)
    width = bandwidth_of(values.size, _checked_overlap(overlap))
    test = _mean_test(values, width - 1, "greater", values.size >= BARS_PER_HORIZON * overlap)
    return FixedB.of(test, width / max(1, min(values.size, rows_of or values.size)))


def sequential_mean(values: ArrayLike, lag: int = 0, *, learning: int = 60, effect: float = 0.1) -> Sequential:
    """Is the mean above 0, asked again on every row? One-sided; evidence of 20 once is significant at 5 %, for good.

    The evidence is the likelihood ratio of a positive mean, half-normal with a spread of `effect` standard deviations,
    against 0, a martingale where there is no skill. The first `learning` rows, and never fewer than 15 for each of the
    lag + 1 rows that hang together, only teach the variance, which is the long-run one of all rows so far (Bartlett
    weights up to `lag`). Exact for independent Gaussian rows of known variance, asymptotic otherwise: sums over h bars
    need a lag above h - 1, where those weights still miss a third of the variance. A 5 % test looked at every day for
    three years alarms falsely in 18 % and more.

    Robbins (1970), Annals of Mathematical Statistics 41; Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of
    Statistics 49; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52.

    >>> rows_of_skill = np.random.default_rng(0).standard_normal(1000) + 0.2
    >>> sequential_mean(rows_of_skill).pvalue < 0.01, sequential_mean(-rows_of_skill).pvalue > 0.5
    (True, True)
    """
    if not effect > 0:
        raise ValueError(f"effect must be a number of standard deviations above 0, got {effect}.")
    (values,) = rows(values, allow_infinite=True)
    first = max(learning, BARS_PER_HORIZON * (_checked_lag(lag) + 1))
    evidence = np.ones(values.size)
    if reason := _unusable(first + 1, values) or _constant(values, "the values are constant"):
        return Sequential(evidence, np.nan, reason)
    from scipy.special import log_ndtr

    variance = _running_variance(values, lag)[first:]
    moved = variance > (1e-13 * np.maximum.accumulate(np.abs(values))[first:]) ** 2  # by more than rounding
    total = np.cumsum(values[first:])[moved] / np.sqrt(variance[moved])
    spread = 1 + effect**2 * np.arange(1, moved.size + 1)[moved]
    score = effect * total / np.sqrt(spread)
    log_evidence = np.log(2) - 0.5 * np.log(spread) + 0.5 * score**2 + log_ndtr(score)
    evidence[first:][moved] = np.exp(np.minimum(log_evidence, 700.0))
    return Sequential(evidence, float(min(1.0, 1 / evidence.max())))


def hac_alpha(returns: ArrayLike, benchmark: ArrayLike, lag: int) -> Regression:
    """Does a strategy earn what its benchmark's risk does not explain: is the intercept 0? Two-sided.

    `returns` and `benchmark` are simple returns of the same bars; `effect` and `intercept` are alpha per bar,
    `slope` is beta; standard normal, long-run variance as in `hac_mean`.
    """
    returns, benchmark = rows(returns, benchmark, allow_infinite=True)
    n = returns.size
    reason = _unusable(3, returns, benchmark) or _constant(benchmark, "the benchmark's return is constant")
    if reason:
        return Regression(np.nan, np.nan, reason, n, enough=False)
    line = _fit_line(returns, benchmark, _checked_lag(lag))
    beta = line.slope / line.spread
    alpha = line.level - beta * line.centre
    weights = np.array([1.0, -line.centre / line.spread])
    error = np.sqrt(max(weights @ line.covariance @ weights, 0.0))
    if error <= 1e-12 * max(np.abs(returns).max(), abs(beta) * np.abs(benchmark).max()):
        reason = "the benchmark explains the returns to the last digit"
        return Regression(np.nan, np.nan, reason, n, float(alpha), enough=False, slope=float(beta))
    test = _normal(alpha, error, "two-sided", n, n >= BARS_PER_HORIZON)
    return Regression(**vars(test), intercept=float(alpha), slope=float(beta))


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
    gain, differing, reason = gains(benchmark_losses, model_losses, 3)
    n = len(gain)
    if reason:
        return Test(np.nan, np.nan, reason, n, enough=False)
    gain = gain[:, differing]
    mean = gain.mean(axis=0)
    drawn, own_error = bootstrap_means(gain, block_length(gain) if block is None else block, draws, seed)
    error = drawn.std(axis=0)
    t = mean / error
    recentred = np.where(t >= -np.sqrt(2 * np.log(np.log(n))), mean, 0.0)
    drawn_t = np.full_like(drawn, np.inf)  # a draw of one block has no error of its own: it counts as larger
    np.divide(drawn - recentred, own_error, out=drawn_t, where=own_error > 1e-9 * error)
    statistic = max(0.0, float(t.max()))
    pvalue = (1 + np.sum(np.maximum(drawn_t.max(axis=1), 0.0) >= statistic)) / (1 + draws)
    best = int(t.argmax())
    return Test(statistic, float(pvalue), "", n, float(mean[best]), float(error[best]), n >= BARS_PER_HORIZON)


# ── the machinery ─────────────────────────────────────────────────────────────────────────────────


def _rows(horizon: int, *series: ArrayLike) -> tuple[FloatArray, ...]:
    if not isinstance(horizon, (int, np.integer)) or horizon < 1:
        raise ValueError(f"horizon must be a whole number of bars, 1 or more, got {horizon}.")
    return rows(*series, allow_infinite=True)


def _checked_lag(lag: int) -> int:
    if not isinstance(lag, (int, np.integer)) or lag < 0:
        raise ValueError(f"lag must be a whole number of bars, 0 or more, got {lag}.")
    return lag


def _checked_overlap(overlap: int) -> int:
    if not isinstance(overlap, (int, np.integer)) or overlap < 1:
        raise ValueError(f"overlap must be a whole number of rows, 1 or more, got {overlap}.")
    return int(overlap)


def _unusable(least: int, *series: FloatArray) -> str:
    """Why nothing can be tested with these series, or nothing."""
    if series[0].size < least:
        return f"{series[0].size} rows are too few, at least {least} are needed"
    return out_of_range(*series)


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
    variance = long_run_variance(values, lag)
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


def _running_variance(values: FloatArray, lag: int) -> FloatArray:
    """(rows,) `long_run_variance` of the rows up to each one."""
    n = values.size
    centred = values - values[0]  # of no effect but on rounding
    total, seen = np.cumsum(centred), np.arange(1, n + 1)
    mean = total / seen
    variance = np.zeros(n)
    for k in range(lag + 1):
        sums = total[: n - k] + total[k:] - (total[k - 1] if k else 0.0)  # without the last, without the first k rows
        products = np.cumsum(centred[k:] * centred[: n - k])
        gamma = (products - mean[k:] * sums + (seen[k:] - k) * mean[k:] ** 2) / seen[k:]
        variance[k:] += (2 * (1 - k / (lag + 1)) if k else 1.0) * gamma
    return variance


@dataclass(frozen=True)
class _Line:
    """y = level + slope (x - centre) / spread, and the covariance (2, 2) of level and slope."""

    level: float
    slope: float
    covariance: FloatArray
    centre: float
    spread: float


def _fit_line(y: FloatArray, x: FloatArray, lag: int | None) -> _Line:
    """Least squares; the covariance has Bartlett weights up to `lag`, the classical one for None."""
    n, centre, spread = y.size, float(x.mean()), float(x.std())
    z = (x - centre) / spread  # so that the matrix of squares is n on its diagonal, whatever the unit
    level = float(y.mean())
    slope = float(z @ (y - level)) / n
    residual = y - level - slope * z
    if lag is None:
        return _Line(level, slope, np.eye(2) * (residual @ residual) / (n - 2) / n, centre, spread)
    score = np.column_stack([residual, residual * z])
    meat = score.T @ score
    for k in range(1, min(lag, n - 1) + 1):
        cross = score[k:].T @ score[:-k]
        meat += (1 - k / (lag + 1)) * (cross + cross.T)
    return _Line(level, slope, meat / n**2, centre, spread)
