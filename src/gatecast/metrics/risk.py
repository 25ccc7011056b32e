"""Scores and tests of risk: forecasts of variance, value at risk and expected shortfall -> how well they did.

Returns are simple returns, one a row, as fractions and in order of time. A value at risk and an expected shortfall are
returns too, so that both are negative where they are losses, and `level` is the share of returns that should fall at or
below the value at risk: 0.025 for "97.5 %". Rows in which any argument is NaN are left out.

>>> draws = np.random.default_rng(0).standard_normal(1000) / 100
>>> beyond = draws <= -0.0196
>>> binomial_coverage(beyond, 0.025).pvalue > 0.05, basel_zone(int(beyond.sum()), beyond.size, 0.025)
(True, 'green')
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.metrics.forecast import VARIANCE_FLOOR, FloatArray, rows, vector
from gatecast.metrics.many import long_run_variance
from gatecast.metrics.significance import BARS_PER_HORIZON, FixedB, Test, bandwidth_of

Zone = Literal["green", "yellow", "red"]
YELLOW, RED = 0.95, 0.9999
"""Probability of so many or fewer sessions beyond, from which on the Basel Committee's zones begin (1996)."""
MONTH = 21
"""Sessions of a window of volatility."""
TAIL_SHAPE = 0.2
"""Shape of the generalised Pareto tail from which `acerbi_szekely` draws, that of Student's t of 5 degrees."""


# ── utility of a forecast of variance ─────────────────────────────────────────────────────────────


def utility_level(realised: ArrayLike, forecast: ArrayLike) -> float:
    """The factor of a forecast variance that makes its `realised_utility` largest; NaN without rows.

    `realised` and `forecast` are variances over the same bars: (Σ RV/F / Σ sqrt(RV/F))².

    >>> round(utility_level([1, 2, 4], [1, 1, 2]), 6)
    1.705687
    """
    ratio = _ratios(*rows(realised, forecast))
    return float(ratio.sum() / np.sqrt(ratio).sum()) ** 2 if ratio.size else math.nan


def utility_levels(
    realised: ArrayLike, forecast: ArrayLike, horizon: int = 1, state: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """(rows,) the `utility_level` of the rows that are known at each, one row a bar; 1 where none is.

    The answer of row t is known at row t + `horizon`. `state`: the sums of RV/F and sqrt(RV/F) known before.

    >>> utility_levels([1, 2, 4], [1, 1, 2]).round(6).tolist()
    [1.0, 1.0, 1.544156]
    """
    if horizon < 1:
        raise ValueError(f"horizon must be a number of bars, 1 or more, got {horizon}.")
    ratio = np.nan_to_num(_ratios(vector(realised), vector(forecast)), nan=0.0)
    late = np.concatenate([np.zeros(horizon), ratio])[: ratio.size]
    total, roots = state[0] + np.cumsum(late), state[1] + np.cumsum(np.sqrt(late))
    level = np.ones(ratio.size)
    np.divide(total, roots, out=level, where=roots > 0)
    return level**2


def realised_utility(realised: ArrayLike, forecast: ArrayLike) -> float:
    """Realised utility of a forecast variance, per cent a year: 4 - 4 mean((1 - sqrt(RV/F))²), at most 4.

    A squared error of standardised volatility, not money: neither costs nor returns are in it. `realised` and
    `forecast` are variances over the same bars. Bollerslev, Hood, Huss and Pedersen (2018), Review of Financial
    Studies 31.

    >>> round(realised_utility([1, 2, 4], [1, 1, 2]), 6)
    3.542472
    """
    losses = utility_losses(*rows(realised, forecast))
    return float(4 - losses.mean()) if losses.size else math.nan


def utility_losses(realised: ArrayLike, forecast: ArrayLike) -> FloatArray:
    """(rows,) what each row takes from a utility of 4, per cent a year: 4 (1 - sqrt(RV/F))²; NaN where one is."""
    return np.asarray(4 * (1 - np.sqrt(_ratios(vector(realised), vector(forecast)))) ** 2, np.float64)


def _ratios(realised: FloatArray, forecast: FloatArray) -> FloatArray:
    if np.any(forecast <= 0):
        raise ValueError(f"a variance forecast must be above 0, got {np.nanmin(forecast)}.")
    if np.any(realised < 0):
        raise ValueError(f"a realised variance cannot be negative, got {np.nanmin(realised)}.")
    return np.asarray(np.maximum(realised, VARIANCE_FLOOR) / forecast, np.float64)


# ── value at risk and expected shortfall ──────────────────────────────────────────────────────────


def fz0_losses(returns: ArrayLike, value_at_risk: ArrayLike, shortfall: ArrayLike, level: float = 0.025) -> FloatArray:
    """(rows,) the joint loss FZ0 of a value at risk v and an expected shortfall e; NaN where an argument is.

    -1{y<=v} (v-y) / (level e) + v/e + log(-e) - 1: the smallest in the mean for the true pair. `ValueError` where
    e >= 0 or v < e. Patton, Ziegel and Chen (2019), Journal of Econometrics 211.

    >>> fz0_losses([-0.05, 0.01], [-0.02, -0.02], [-0.03, -0.03]).round(6).tolist()
    [36.160109, -3.839891]
    """
    y, v, e = vector(returns), vector(value_at_risk), vector(shortfall)
    _refuse_improbable(level)
    if np.any(e >= 0):
        raise ValueError(f"an expected shortfall is a return below 0, got {np.nanmax(e)}.")
    if np.any(v < e):
        row = int(np.flatnonzero(v < e)[0])
        raise ValueError(f"an expected shortfall is at or below its value at risk, got {e[row]} above {v[row]}.")
    return np.asarray((y <= v) * (v - y) / (-level * e) + v / e + np.log(-e) - 1, np.float64)


@dataclass(frozen=True)
class Coverage(Test):
    """`Test` of a count: `beyond` of the `n` rows, the exact probability of so many or fewer, and of so many or more.

    `effect` is the share beyond minus the one that was meant, `statistic` the count.
    """

    beyond: int = 0
    or_fewer: float = np.nan
    or_more: float = np.nan


def binomial_coverage(beyond: ArrayLike, level: float) -> Coverage:
    """Do as many rows lie beyond as should, a share `level`? Exact binomial, two-sided (twice the smaller tail).

    `beyond`: (rows,) whether each return was at or below its value at risk; True, False or NaN.

    >>> none = binomial_coverage([False] * 250, 0.01)
    >>> five = binomial_coverage([True] * 5 + [False] * 245, 0.01)
    >>> round(none.or_fewer, 6), round(five.or_more, 6)
    (0.081059, 0.107812)
    """
    hit = _beyond(beyond)
    _refuse_improbable(level)
    n, count = hit.size, int(hit.sum())
    if n == 0:
        return Coverage(np.nan, np.nan, "there are no rows", enough=False)
    fewer, more = _cumulative(count, n, level), 1 - _cumulative(count - 1, n, level)
    share = count / n - level
    pvalue = min(1.0, 2 * min(fewer, more))
    error = math.sqrt(level * (1 - level) / n)
    return Coverage(float(count), pvalue, "", n, share, error, n * level >= 1, count, fewer, more)


def basel_zone(beyond: int, n: int, level: float = 0.01) -> Zone:
    """The zone of so many of n sessions beyond the value at risk: green, yellow or red.

    Yellow from a cumulative probability of 95 % on, red from 99.99 % on: of 250 sessions at 1 % green to 4, yellow
    to 9. Basel Committee on Banking Supervision (1996).

    >>> [basel_zone(count, 250) for count in (4, 5, 9, 10)]
    ['green', 'yellow', 'yellow', 'red']
    """
    _refuse_improbable(level)
    below = _cumulative(beyond, n, level)
    return "red" if below >= RED else "yellow" if below >= YELLOW else "green"


def kupiec(beyond: ArrayLike, level: float) -> Test:
    """Kupiec's likelihood ratio of the share beyond, χ² of one degree: badly sized where few rows lie beyond.

    `beyond` as in `binomial_coverage`, which is exact. Kupiec (1995), Journal of Derivatives 3.

    >>> test = kupiec([True] * 5 + [False] * 245, 0.01)
    >>> round(test.statistic, 6), round(test.effect, 6)
    (1.95681, 0.01)
    """
    hit = _beyond(beyond)
    _refuse_improbable(level)
    n, count = hit.size, int(hit.sum())
    if n == 0:
        return Test(np.nan, np.nan, "there are no rows", enough=False)
    ratio = 2 * (_log_likelihood(count, n, count / n) - _log_likelihood(count, n, level))
    return _chi_square(ratio, n, count / n - level, n * level >= 1)


def christoffersen_independence(beyond: ArrayLike) -> Test:
    """Do sessions beyond come in runs? Likelihood ratio of two states against none, χ² of one degree.

    `beyond` as in `binomial_coverage`, in order of time. `effect` is the share beyond after a session beyond, minus
    the share after others. Christoffersen (1998), International Economic Review 39.

    >>> beyond = np.isin(np.arange(100), (10, 11, 12, 40, 70, 71))
    >>> round(christoffersen_independence(beyond).statistic, 6)
    10.445253
    """
    hit = _beyond(beyond)
    before, after = hit[:-1], hit[1:]
    in_calm, in_run = int((~before).sum()), int(before.sum())
    if not in_calm or not in_run:
        reason = "no session lies beyond" if not in_run else "every session lies beyond"
        return Test(np.nan, np.nan, reason, hit.size, enough=False)
    from_calm, from_run = int(after[~before].sum()), int(after[before].sum())
    both = from_calm + from_run
    ratio = 2 * (
        _log_likelihood(from_calm, in_calm, from_calm / in_calm)
        + _log_likelihood(from_run, in_run, from_run / in_run)
        - _log_likelihood(both, after.size, both / after.size)
    )
    return _chi_square(ratio, hit.size, from_run / in_run - from_calm / in_calm, in_run >= 5)


@dataclass(frozen=True)
class Shortfall(Test):
    """`Test` of an expected shortfall, one-sided: `critical` is the value of Z below which 5 % of true ones lie."""

    critical: float = np.nan


def acerbi_szekely(
    returns: ArrayLike, value_at_risk: ArrayLike, shortfall: ArrayLike, level: float = 0.025, *, draws: int = 2000,
    seed: int = 0,
) -> Shortfall:  # fmt: skip
    """Is the expected shortfall too near to 0? Acerbi and Szekely's Z2 with a simulated p-value, one-sided.

    Z2 = 1 - Σ y 1{y<=v} / (n level e), 0 in the mean where both are right and negative where losses are larger. Its
    null is drawn `draws` times: a share `level` of rows lies beyond, by a generalised Pareto tail of shape
    `TAIL_SHAPE` whose mean is e. `statistic` is Z2. Acerbi and Szekely (2014), Risk 27.

    >>> test = acerbi_szekely([-0.05, *[0.01] * 39], [-0.02] * 40, [-0.03] * 40)
    >>> round(test.statistic, 6), test.pvalue > 0.05
    (-0.666667, True)
    """
    y, v, e = rows(returns, value_at_risk, shortfall)
    fz0_losses(y, v, e, level)  # refuses what no pair can be
    n = y.size
    if n == 0:
        return Shortfall(np.nan, np.nan, "there are no rows", enough=False)
    found = float(1 - np.sum(y / e * (y <= v)) / (n * level))
    random, ratio = np.random.default_rng(seed), v / e
    simulated = np.empty(draws)
    for draw in range(draws):
        hit = np.flatnonzero(random.random(n) < level)
        excess = (random.random(hit.size) ** -TAIL_SHAPE - 1) / TAIL_SHAPE * (1 - TAIL_SHAPE)  # of mean 1
        simulated[draw] = 1 - np.sum(ratio[hit] + (1 - ratio[hit]) * excess) / (n * level)
    pvalue = float((1 + np.sum(simulated <= found)) / (draws + 1))
    critical = float(np.quantile(simulated, 0.05))
    return Shortfall(found, pvalue, "", n, found, float(simulated.std()), n * level >= 5, critical)


def clustered_coverage(beyond: ArrayLike, level: float, overlap: int = 1) -> Test:
    """Do as many cells of (days, symbols) lie beyond as should? Two-sided, with errors clustered by day.

    `beyond`: True, False or NaN (no bar). `effect` is the share beyond minus `level`. Days on which all symbols fall
    together count once: the variance is that of a day's sum of (beyond - level), with Bartlett weights over
    `overlap` - 1 days.

    >>> test = clustered_coverage(np.repeat(np.arange(200) % 20 == 0, 5).reshape(200, 5), 0.05)
    >>> round(test.effect, 6), round(test.standard_error, 4)
    (0.0, 0.0154)
    """
    cells = np.asarray(beyond, np.float64)
    if cells.ndim != 2:
        raise ValueError(f"expected cells (days, symbols), got shape {cells.shape}.")
    there = ~np.isnan(cells)
    days = np.where(there, cells - level, 0.0).sum(axis=1)[there.any(axis=1)]
    count = int(there.sum())
    if days.size < 2 or np.ptp(days) == 0:
        return Test(np.nan, np.nan, "every day has the same count", days.size, enough=False)
    from scipy.special import ndtr

    share = float(days.sum() / count)
    error = math.sqrt(max(long_run_variance(days, overlap - 1), 0.0) * days.size) / count
    if error == 0:
        return Test(np.nan, np.nan, "the variance estimate is not positive", days.size, share, enough=False)
    statistic = share / error
    pvalue = float(2 * ndtr(-abs(statistic)))
    return Test(statistic, pvalue, "", days.size, share, error, days.size >= BARS_PER_HORIZON * overlap)


def _beyond(beyond: ArrayLike) -> NDArray[np.bool_]:
    (hit,) = rows(np.asarray(beyond, np.float64))
    odd = hit[(hit != 0) & (hit != 1)]
    if odd.size:
        raise ValueError(f"a row lies beyond or it does not, True or False; got {odd[0]}.")
    return np.asarray(hit == 1, np.bool_)


def _refuse_improbable(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is the share of returns beyond, above 0 and below 1, got {level}: 97.5 % is 0.025.")


def _cumulative(count: int, n: int, level: float) -> float:
    from scipy.special import bdtr

    return float(bdtr(count, n, level)) if count >= 0 else 0.0


def _log_likelihood(count: int, n: int, share: float) -> float:
    from scipy.special import xlog1py, xlogy

    return float(xlogy(count, share) + xlog1py(n - count, -share))


def _chi_square(ratio: float, n: int, effect: float, enough: bool) -> Test:
    from scipy.special import chdtrc

    return Test(max(ratio, 0.0), float(chdtrc(1, max(ratio, 0.0))), "", n, effect, enough=enough)


# ── control and money ─────────────────────────────────────────────────────────────────────────────


def spread_of_volatility(returns: ArrayLike, window: int = MONTH) -> float:
    """Standard deviation of the volatility over windows of so many rows, over its mean; 0 is perfect control.

    Every window that ends at a row counts; NaN for fewer than two.

    >>> round(spread_of_volatility([1, -1, 1, -1, 2, -2, 2, -2], window=2), 6)
    0.333333
    """
    (values,) = rows(returns)
    if values.size <= window:
        return math.nan
    volatility = np.lib.stride_tricks.sliding_window_view(values, window).std(axis=1, ddof=1)
    mean = float(volatility.mean())
    return float(volatility.std(ddof=1)) / mean if mean > 0 else math.nan


def volatility_ratios(returns: ArrayLike, deviation: ArrayLike, window: int = MONTH) -> FloatArray:
    """(windows,) realised over forecast volatility, of each window of so many rows; none for fewer rows than that.

    `deviation`: the standard deviation of each return that was forecast. Their standard deviation and their largest
    say how well a risk is controlled.

    >>> volatility_ratios([0.01, -0.01, 0.03], [0.01, 0.01, 0.01], window=2).round(4).tolist()
    [1.0, 2.2361]
    """
    values, forecast = rows(returns, deviation)
    if values.size < window:
        return np.zeros(0)
    squares = (np.lib.stride_tricks.sliding_window_view(one**2, window).mean(axis=1) for one in (values, forecast))
    realised, expected = squares
    return np.asarray(np.sqrt(realised / expected), np.float64)


def shortfall_exceedance(returns: ArrayLike, value_at_risk: ArrayLike, shortfall: ArrayLike) -> float:
    """Mean of y/e over the rows beyond the value at risk: 1 is right, more is a larger loss than was said; NaN of none.

    >>> round(shortfall_exceedance([-0.05, 0.01], [-0.02, -0.02], [-0.04, -0.04]), 6)
    1.25
    """
    y, v, e = rows(returns, value_at_risk, shortfall)
    beyond = y <= v
    return float(np.mean(y[beyond] / e[beyond])) if beyond.any() else math.nan


def realised_by_forecast(realised: ArrayLike, forecast: ArrayLike, groups: int = 5) -> FloatArray:
    """(groups,) mean realised over mean forecast variance, from the lowest forecasts to the highest; 1 is right.

    The groups hold equally many rows. NaN where there are fewer rows than groups.

    >>> realised_by_forecast([1, 1, 3, 5], [1, 1, 4, 4], groups=2).tolist()
    [1.0, 1.0]
    """
    realised, forecast = rows(realised, forecast)
    if realised.size < groups:
        return np.full(groups, np.nan)
    parts = np.array_split(np.argsort(forecast, kind="stable"), groups)
    return np.array([realised[part].mean() / forecast[part].mean() for part in parts])


AVERSION = 2.0
"""Aversion to risk γ of a certainty equivalent, mean(r - γ r²/2)."""


def certain_values(returns: ArrayLike, aversion: float = AVERSION) -> FloatArray:
    """(rows,) r - aversion r²/2 of simple returns, whose mean is the certainty equivalent.

    >>> certain_values([0.1, -0.1]).round(6).tolist()
    [0.09, -0.11]
    """
    values = vector(returns)
    return values - aversion * values**2 / 2


def certainty_equivalent(returns: ArrayLike, aversion: float = AVERSION) -> float:
    """The sure return a row that is worth as much: mean(r - aversion r²/2); NaN without rows.

    >>> round(certainty_equivalent([0.01, -0.01, 0.03]), 6)
    0.009633
    """
    (values,) = rows(returns)
    return float(np.mean(certain_values(values, aversion))) if values.size else math.nan


def sharpe_difference(returns: ArrayLike, benchmark: ArrayLike, overlap: int = 1) -> FixedB:
    """Is the Sharpe ratio above the benchmark's? One-sided; `effect` is the difference a row, not a year.

    Both are excess returns of the same rows. The delta method on means and second moments, with a long-run variance
    (Bartlett) and Kiefer and Vogelsang's critical values, as in `fixed_b_mean`. Ledoit and Wolf (2008), Journal of
    Empirical Finance 15.

    >>> draws = np.random.default_rng(1).standard_normal((2, 1000))
    >>> sharpe_difference(draws[0] + 0.3, draws[0] + draws[1]).pvalue < 0.001
    True
    """
    mine, other = rows(returns, benchmark)
    n = mine.size
    undefined = Test(np.nan, np.nan, "", n, enough=False)
    if n < 3:
        return FixedB.of(replace(undefined, reason="there are fewer than three rows"), 1.0)
    if min(np.ptp(mine), np.ptp(other)) <= 1e-13 * max(np.abs(mine).max(), np.abs(other).max()):
        return FixedB.of(replace(undefined, reason="one of the two returns is constant"), 1.0)
    found, influence = (np.array(part) for part in zip(sharpe_influence(mine), sharpe_influence(other), strict=True))
    effect, steps = float(found[0] - found[1]), influence[0] - influence[1]
    width = bandwidth_of(n, overlap)
    variance = long_run_variance(steps, width - 1)
    if variance <= 1e-24:
        return FixedB.of(replace(undefined, reason="the two returns are the same", effect=effect), 1.0)
    error = math.sqrt(variance / n)
    enough = n >= BARS_PER_HORIZON * overlap
    return FixedB.of(Test(effect / error, np.nan, "", n, effect, error, enough), width / n)


def certainty_equivalent_gain(
    returns: ArrayLike, benchmark: ArrayLike, volatility: float, rows_per_year: float = 252, overlap: int = 1
) -> FixedB:
    """What the returns are worth beyond the benchmark's at one volatility, a fraction a year; one-sided.

    Scaled to the same `volatility` a year, the difference of mean(r - aversion r²/2) is the volatility times the
    difference of the Sharpe ratios, whatever the aversion: see `sharpe_difference`.

    >>> draws = np.random.default_rng(1).standard_normal((2, 1000)) / 100
    >>> test = certainty_equivalent_gain(2 * draws[0], draws[0], volatility=0.1)
    >>> test.reason
    'the two returns are the same'
    """
    if not volatility > 0:
        raise ValueError(f"volatility must be a fraction a year above 0, got {volatility}.")
    test, scale = sharpe_difference(returns, benchmark, overlap), volatility * math.sqrt(rows_per_year)
    own = {field.name: getattr(test, field.name) for field in fields(FixedB)}
    own |= {"effect": test.effect * scale, "standard_error": test.standard_error * scale}
    return FixedB(**own)


class Influence(NamedTuple):
    """A Sharpe ratio a row, and (rows,) what each row adds to it."""

    sharpe: float
    steps: FloatArray


def sharpe_influence(values: FloatArray) -> Influence:
    """(rows,) excess returns -> their Sharpe ratio a row, and what each row adds to it, by the delta method.

    >>> ratio, steps = sharpe_influence(np.array([0.02, -0.01, 0.03, 0.0]))
    >>> round(ratio, 4), bool(abs(steps.sum()) < 1e-12)
    (0.6325, True)
    """
    mean, square = float(values.mean()), float(np.mean(values**2))
    variance = float(values.var())
    by_mean, by_square = square / variance**1.5, -mean / (2 * variance**1.5)
    steps = by_mean * (values - mean) + by_square * (values**2 - square)
    return Influence(mean / math.sqrt(variance), steps)
