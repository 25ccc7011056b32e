"""Measures of a series of returns, with quantstats' names, signs and conventions.

`returns` are **simple** returns, one a bar, as fractions (0.01 is one per cent), in order of time, without a
risk-free rate; NaN bars are left out. A drawdown is a fraction at or below 0. Measures of spread divide by
n - 1. A measure that is undefined (no bars, no spread, no losses) is NaN.

Wealth stops at 0: after a loss of 100 % or more nothing is left to earn with, so that the compounded return and
the deepest drawdown are -1 whatever follows. quantstats goes on with negative wealth there, and two losses of
more than 100 % make a gain; for returns above -1 the two agree.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.metrics.forecast import FloatArray, rows

# ── return and risk ──────────────────────────────────────────────────────────────────────────────


def sharpe(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Mean over standard deviation, a year: times the root of `periods_per_year`.

    Sharpe (1994), Journal of Portfolio Management 21.

    >>> round(sharpe([0.01, -0.01, 0.02, 0.0]), 4)
    6.1482
    """
    values = _observed(returns)
    return _ratio(_mean(values), _deviation(values)) * math.sqrt(periods_per_year)


def sortino(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Mean over the root of the mean squared loss, a year.

    Sortino and Price (1994), Journal of Investing 3.

    >>> round(sortino([0.01, -0.01, 0.02, 0.0]), 4)
    15.8745
    """
    values = _observed(returns)
    downside = np.sqrt(_mean(np.minimum(values, 0) ** 2))
    return _ratio(_mean(values), float(downside)) * math.sqrt(periods_per_year)


def volatility(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Standard deviation, a year.

    >>> round(volatility([0.01, -0.01, 0.02, 0.0]), 4)
    0.2049
    """
    return _deviation(_observed(returns)) * math.sqrt(periods_per_year)


def levels(returns: ArrayLike) -> FloatArray:
    """Wealth after each bar that is not NaN, from 1 before the first; 0 from the first loss of 100 % or more on.

    >>> levels([0.1, -0.5]).tolist(), levels([-1.5, 2.0]).tolist()
    ([1.1, 0.55], [0.0, 0.0])
    """
    return np.asarray(np.cumprod(np.maximum(1 + _observed(returns), 0.0)), np.float64)


def returns_of_levels(wealth: ArrayLike) -> FloatArray:
    """Simple return of each bar from the wealth after it, which starts from 1; 0 where nothing was left before.

    >>> returns_of_levels([1.1, 0.55, 0.0, 0.0]).round(6).tolist()
    [0.1, -0.5, -1.0, 0.0]
    """
    after = np.asarray(wealth, np.float64)
    before = np.r_[1.0, after[:-1]]
    return np.asarray(np.divide(after - before, before, out=np.zeros(len(after)), where=before > 0), np.float64)


def per_session(returns: FloatArray, sessions: NDArray[np.datetime64]) -> tuple[NDArray[np.datetime64], FloatArray]:
    """(bars,) simple returns in order of time -> the days, datetime64[D], and (days,) the simple return of each.

    Returns of the bars of a day are compounded; wealth stops at 0.

    >>> days = np.array(["2024-01-02", "2024-01-02", "2024-01-03"], "datetime64[D]")
    >>> per_session(np.array([0.1, 0.1, 0.5]), days)[1].round(6).tolist()
    [0.21, 0.5]
    """
    day, first = np.unique(sessions.astype("datetime64[D]"), return_index=True)
    if len(day) == len(returns):
        return day, returns
    return day, np.multiply.reduceat(np.maximum(1 + returns, 0.0), first) - 1


def comp(returns: ArrayLike) -> float:
    """Compounded return over all bars, at least -1.

    >>> round(comp([0.1, 0.1]), 6), comp([-1.9, 0.0, -1.9])
    (0.21, -1.0)
    """
    wealth = levels(returns)
    return float(wealth[-1] - 1) if wealth.size else np.nan


def cagr(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Compounded return a year, -1 once everything is lost.

    >>> round(cagr([0.1, 0.1], periods_per_year=1), 6)
    0.1
    """
    values = _observed(returns)
    return float((comp(values) + 1) ** (periods_per_year / values.size) - 1) if values.size else np.nan


def drawdown(returns: ArrayLike) -> FloatArray:
    """At every bar that is not NaN the wealth over its highest so far, minus 1; wealth starts at 1.

    >>> drawdown([0.1, -0.5, 1.0]).tolist()
    [0.0, -0.5, 0.0]
    """
    wealth = levels(returns)
    return np.asarray(wealth / np.maximum(np.maximum.accumulate(wealth), 1.0) - 1, np.float64)


def max_drawdown(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """The deepest drawdown, at or below 0; the same whatever the periods.

    >>> max_drawdown([0.1, -0.5, 1.0])
    -0.5
    """
    depth = drawdown(returns)
    return float(depth.min()) if depth.size else np.nan


def longest_drawdown(returns: ArrayLike) -> float:
    """The most bars in a row below an earlier height of wealth.

    >>> longest_drawdown([0.1, -0.5, 0.2, 2.0, -0.1])
    2.0
    """
    return _longest(drawdown(returns) < 0)


def calmar(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Compounded return a year over the depth of the deepest drawdown. Young (1991), Futures 20."""
    return _ratio(cagr(returns, periods_per_year), abs(max_drawdown(returns)))


def ulcer_index(returns: ArrayLike) -> float:
    """Root of the sum of squared drawdowns over n - 1. Martin and McCann (1989), The Investor's Guide."""
    depth = drawdown(returns)
    return float(np.sqrt(np.sum(depth**2) / (depth.size - 1))) if depth.size > 1 else np.nan


def recovery_factor(returns: ArrayLike) -> float:
    """Size of the sum of returns over the depth of the deepest drawdown."""
    return _ratio(abs(float(np.sum(_observed(returns)))), abs(max_drawdown(returns)))


# ── the distribution ─────────────────────────────────────────────────────────────────────────────


def skew(returns: ArrayLike) -> float:
    """Skewness, corrected for bias.

    >>> round(skew([0.0, 0.0, 0.01]), 4)
    1.7321
    """
    values = _observed(returns)
    n = values.size
    if n < 3:
        return np.nan
    return _ratio(_moment(values, 3), _moment(values, 2) ** 1.5) * math.sqrt(n * (n - 1)) / (n - 2)


def kurtosis(returns: ArrayLike) -> float:
    """Kurtosis beyond the 3 of a Gaussian, corrected for bias.

    >>> round(kurtosis([-0.01, 0.0, 0.01, 0.02]), 6)
    -1.2
    """
    values = _observed(returns)
    n = values.size
    if n < 4:
        return np.nan
    raw = _ratio(_moment(values, 4), _moment(values, 2) ** 2)
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * raw - 3 * (n - 1))


def value_at_risk(returns: ArrayLike, confidence: float = 0.95) -> float:
    """The Gaussian quantile of returns at 1 - confidence: a loss is negative."""
    from scipy.special import ndtri

    values = _observed(returns)
    return float(_mean(values) + _deviation(values) * ndtri(1 - confidence))


def cvar(returns: ArrayLike, confidence: float = 0.95) -> float:
    """The mean of Gaussian returns below `value_at_risk`."""
    from scipy.special import ndtri

    values = _observed(returns)
    density = np.exp(-(ndtri(1 - confidence) ** 2) / 2) / np.sqrt(2 * np.pi)
    return float(_mean(values) - _deviation(values) * density / (1 - confidence))


def tail_ratio(returns: ArrayLike, cutoff: float = 0.95) -> float:
    """Size of the quantile at `cutoff` over that at 1 - cutoff."""
    values = _observed(returns)
    if not values.size:
        return np.nan
    low, high = np.quantile(values, [1 - cutoff, cutoff])
    return abs(_ratio(float(high), float(low)))


# ── wins and losses ──────────────────────────────────────────────────────────────────────────────


def win_rate(returns: ArrayLike, periods_per_year: float = 252) -> float:
    """Share of the bars with a return other than 0 on which it is positive; the same whatever the periods.

    >>> win_rate([0.01, -0.01, 0.02, 0.0, 0.0, 0.01])
    0.75
    """
    values = _observed(returns)
    return _mean(values[values != 0] > 0)


def avg_win(returns: ArrayLike) -> float:
    """Mean of the positive returns."""
    values = _observed(returns)
    return _mean(values[values > 0])


def avg_loss(returns: ArrayLike) -> float:
    """Mean of the negative returns, itself negative."""
    values = _observed(returns)
    return _mean(values[values < 0])


def payoff_ratio(returns: ArrayLike) -> float:
    """Mean win over the size of the mean loss."""
    return _ratio(avg_win(returns), abs(avg_loss(returns)))


def profit_factor(returns: ArrayLike) -> float:
    """Sum of the wins over the size of the sum of the losses.

    >>> round(profit_factor([0.03, -0.01, -0.01]), 6)
    1.5
    """
    values = _observed(returns)
    return _ratio(float(values[values > 0].sum()), -float(values[values < 0].sum()))


def kelly_criterion(returns: ArrayLike) -> float:
    """The share of wealth that Kelly would bet: win rate - loss rate over payoff ratio."""
    rate = win_rate(returns)
    return rate - _ratio(1 - rate, payoff_ratio(returns))


# ── trading ──────────────────────────────────────────────────────────────────────────────────────


def turnover(weights: ArrayLike, periods_per_year: float = 252) -> float:
    """Value traded a year, buys and sells together, as a multiple of wealth; the first weights are bought.

    `weights` (times,) or (times, symbols) are fractions of wealth; NaN counts as 0.

    >>> turnover([1.0, 1.0, -1.0, -1.0], periods_per_year=4)
    3.0
    """
    held = np.nan_to_num(np.asarray(weights, np.float64), nan=0.0)
    if not held.size:
        return np.nan
    traded = np.abs(np.diff(held, axis=0, prepend=np.zeros_like(held[:1])))
    return float(traded.sum() / len(held) * periods_per_year)


# ── the sheet ────────────────────────────────────────────────────────────────────────────────────


def tear_sheet(returns: ArrayLike, periods_per_year: float = 252) -> dict[str, float]:
    """Every measure of this module by name, most of them quantstats' function names with the same numbers.

    `time_in_market` is the share of bars with a return other than 0, `longest_drawdown` counts bars.

    >>> sheet = tear_sheet([0.01, -0.02, 0.03, 0.0], periods_per_year=252)
    >>> sheet["time_in_market"], sheet["best"]
    (0.75, 0.03)
    """
    values = _observed(returns)
    return {
        "comp": comp(values),
        "cagr": cagr(values, periods_per_year),
        "volatility": volatility(values, periods_per_year),
        "sharpe": sharpe(values, periods_per_year),
        "sortino": sortino(values, periods_per_year),
        "calmar": calmar(values, periods_per_year),
        "max_drawdown": max_drawdown(values),
        "longest_drawdown": longest_drawdown(values),
        "ulcer_index": ulcer_index(values),
        "recovery_factor": recovery_factor(values),
        "skew": skew(values),
        "kurtosis": kurtosis(values),
        "value_at_risk": value_at_risk(values),
        "cvar": cvar(values),
        "tail_ratio": tail_ratio(values),
        "best": float(values.max()) if values.size else np.nan,
        "worst": float(values.min()) if values.size else np.nan,
        "win_rate": win_rate(values),
        "avg_win": avg_win(values),
        "avg_loss": avg_loss(values),
        "payoff_ratio": payoff_ratio(values),
        "profit_factor": profit_factor(values),
        "kelly_criterion": kelly_criterion(values),
        "consecutive_wins": _longest(values > 0),
        "consecutive_losses": _longest(values < 0),
        "time_in_market": _mean(values != 0),
    }


def _observed(returns: ArrayLike) -> FloatArray:
    return rows(returns)[0]


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else np.nan


def _deviation(values: FloatArray) -> float:
    """Standard deviation; exactly 0 for equal values, where rounding would leave a trace."""
    if values.size < 2:
        return np.nan
    return float(np.std(values, ddof=1)) if np.ptp(values) > 0 else 0.0


def _moment(values: FloatArray, power: int) -> float:
    return _mean((values - values.mean()) ** power) if np.ptp(values) > 0 else 0.0


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0 else np.nan


def _longest(condition: NDArray[np.bool_]) -> float:
    """The longest run of True."""
    if not condition.size:
        return np.nan
    count = np.arange(1, condition.size + 1)
    return float((count - np.maximum.accumulate(np.where(condition, 0, count))).max())
