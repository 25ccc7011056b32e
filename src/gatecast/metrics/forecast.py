"""Scores of forecasts: two R², QLIKE, Brier, log loss, hit rate, rank correlation, calibration.

Arguments are one-dimensional and of one length, in order of time where a benchmark grows with it. A row in
which any argument is NaN is left out (nothing was forecast, or the answer is not known yet); an infinite
value is a ValueError. A score that is undefined, as on no rows at all, is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

VARIANCE_FLOOR = 1e-16
"""A realised variance below this (an unchanged price gives 0) counts as this: the square of 0.0001 bp."""

PROBABILITY_FLOOR = 1e-12
"""The log loss takes no probability for nearer to 0 or 1 than this."""


# ── returns ───────────────────────────────────────────────────────────────────────────────────────


def r2_zero(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Out-of-sample R² against a forecast of zero: 1 - Σ(r-f)² / Σr², pooled over all rows, nothing demeaned.

    `actual` and `forecast` are returns over one horizon in one unit. Gu, Kelly and Xiu (2020), Review of
    Financial Studies 33.

    >>> round(r2_zero([1, -2, 3], [0.5, -0.5, 1]), 6)
    0.535714
    """
    actual, forecast = rows(actual, forecast)
    return r2_against(actual, forecast, np.zeros_like(actual))


def r2_mean(actual: ArrayLike, forecast: ArrayLike, history: ArrayLike, horizon: int = 1) -> float:
    """Out-of-sample R² against the mean of all answers known at each forecast.

    `actual[t]` and `forecast[t]` belong to one row a bar: the answer of row t is known at row t + horizon.
    `history` holds the answers known when the first forecast was made. Rows before any answer is known are
    left out. Campbell and Thompson (2008), Review of Financial Studies 21.

    >>> round(r2_mean([1, -2, 3], [0.5, -0.5, 1], history=[0, 2]), 6)
    0.607547
    """
    return r2_against(actual, forecast, known_mean(actual, history, horizon))


def r2_against(actual: ArrayLike, forecast: ArrayLike, benchmark: ArrayLike) -> float:
    """Out-of-sample R² against any benchmark: 1 - Σ(r-f)² / Σ(r-b)².

    >>> r2_against([1, 2, 3], [1, 2, 3], benchmark=[2, 2, 2])
    1.0
    """
    actual, forecast, benchmark = rows(actual, forecast, benchmark)
    total = np.sum((actual - benchmark) ** 2)
    return float(1 - np.sum((actual - forecast) ** 2) / total) if total > 0 else np.nan


def known_mean(actual: ArrayLike, history: ArrayLike, horizon: int = 1) -> FloatArray:
    """The mean of the answers known at each row t, `history` and `actual[: t - horizon + 1]`; NaN for none.

    NaN answers are left out of the mean.

    >>> known_mean([1, -2, 3], history=[0, 2]).tolist()
    [1.0, 1.0, 0.25]
    """
    if horizon < 1:
        raise ValueError(f"horizon must be a number of bars, 1 or more, got {horizon}.")
    past, actual = vector(history), vector(actual)
    answers = np.concatenate([past, np.full(horizon, np.nan), actual])  # each where it becomes known
    now = past.size + np.arange(actual.size)
    count = np.cumsum(~np.isnan(answers))[now]
    total = np.nancumsum(answers)[now]
    mean = np.full(actual.size, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def hit_rate(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Share of rows where `forecast` has the sign of `actual`; zero counts as down in both.

    >>> hit_rate([0.01, -0.02, 0.0, 0.03], [1, -1, -1, -1])
    0.75
    """
    actual, forecast = rows(actual, forecast)
    return _mean((actual > 0) == (forecast > 0))


def information_coefficient(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their average rank; NaN where either side is constant.

    >>> information_coefficient([1, 2, 3, 4], [1, 3, 2, 9])
    0.8
    """
    actual, forecast = (_centred_ranks(side) for side in rows(actual, forecast))
    norm = np.sqrt((actual @ actual) * (forecast @ forecast))
    return float(actual @ forecast / norm) if norm > 0 else np.nan


def _centred_ranks(values: FloatArray) -> FloatArray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    average = np.cumsum(count) - (count - 1) / 2
    return np.asarray(average[place] - (values.size + 1) / 2, np.float64)


# ── variances ─────────────────────────────────────────────────────────────────────────────────────


def qlike(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean of x/h - ln(x/h) - 1, where x is a realised variance and h the variance forecast for it.

    It ranks forecasts rightly for any unbiased proxy x, squared returns included; with those even the true
    variance scores 1.270363 (Gaussian). An x of 0 counts as VARIANCE_FLOOR, which adds the same to every
    forecast's score. Raises ValueError where h <= 0 or x < 0. Patton (2011), Journal of Econometrics 160.

    >>> round(qlike([1, 2, 4], [1, 1, 2]), 6)
    0.204569
    """
    return _mean(qlike_losses(*rows(actual, forecast)))


def qlike_losses(actual: ArrayLike, forecast: ArrayLike) -> FloatArray:
    """The loss of every row whose mean is `qlike`; NaN where an argument is.

    >>> qlike_losses([1, 2], [1, 1]).round(6).tolist()
    [0.0, 0.306853]
    """
    ratio = np.exp(_log_ratio(actual, forecast))
    return np.asarray(ratio - np.log(ratio) - 1, np.float64)


def log_mse(actual: ArrayLike, forecast: ArrayLike) -> float:
    """Mean of (ln x - ln h)², the squared error of a log variance; x and h as in `qlike`.

    >>> round(log_mse([1, 2, 4], [1, 1, 2]), 6)
    0.320302
    """
    return _mean(_log_ratio(*rows(actual, forecast)) ** 2)


def _log_ratio(actual: ArrayLike, forecast: ArrayLike) -> FloatArray:
    actual, forecast = vector(actual), vector(forecast)
    if np.any(forecast <= 0):
        raise ValueError(f"a variance forecast must be above 0, got {np.nanmin(forecast)}.")
    if np.any(actual < 0):
        raise ValueError(f"a realised variance cannot be negative, got {np.nanmin(actual)}.")
    return np.asarray(np.log(np.maximum(actual, VARIANCE_FLOOR)) - np.log(forecast), np.float64)


# ── probabilities ─────────────────────────────────────────────────────────────────────────────────


def brier(outcome: ArrayLike, probability: ArrayLike) -> float:
    """Mean of (p - y)²; `outcome` y is 0 or 1. Brier (1950), Monthly Weather Review 78.

    >>> round(brier([1, 0, 1], [0.9, 0.2, 0.6]), 6)
    0.07
    """
    outcome, probability = _events(outcome, probability)
    return _mean((probability - outcome) ** 2)


def log_loss(outcome: ArrayLike, probability: ArrayLike) -> float:
    """Mean of -ln(the probability given to what happened), in nats; `outcome` is 0 or 1.

    Probabilities are kept PROBABILITY_FLOOR away from 0 and 1.

    >>> round(log_loss([1, 0], [0.5, 0.5]), 6)
    0.693147
    """
    outcome, probability = _events(outcome, probability)
    right = np.where(outcome == 1, probability, 1 - probability)
    return _mean(-np.log(np.clip(right, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)))


def calibration_error(outcome: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: |share that happened - mean probability| of each bin, averaged over rows.

    Bins hold equally many rows, equal probabilities always in one bin. True probabilities score above 0 too:
    compare with `calibration_noise_floor`.

    >>> round(calibration_error([0, 1, 1, 1], [0.2, 0.4, 0.7, 0.9], bins=2), 6)
    0.2
    """
    outcome, probability = _events(outcome, probability)
    return _binned_error(outcome - probability, _equal_mass_bins(probability, bins))


def calibration_noise_floor(
    probability: ArrayLike,
    bins: int = 10,
    *,
    quantile: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> float:
    """What `calibration_error` shows when `probability` is the truth: the mean, or a quantile, over draws.

    Outcomes are drawn from the probabilities themselves, `draws` times. Bröcker and Smith (2007), Weather and
    Forecasting 22.

    >>> 0.07 < calibration_noise_floor(np.linspace(0.45, 0.55, 250)) < 0.09
    True
    """
    (probability,) = rows(probability)
    _refuse_improbable(probability)
    if not probability.size:
        return np.nan
    random, bin_of = np.random.default_rng(seed), _equal_mass_bins(probability, bins)
    errors = [
        _binned_error((random.random(probability.size) < probability) - probability, bin_of) for _ in range(draws)
    ]
    return float(np.mean(errors) if quantile is None else np.quantile(errors, quantile))


def _equal_mass_bins(probability: FloatArray, bins: int) -> NDArray[np.int64]:
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}.")
    rank = np.searchsorted(np.sort(probability), probability)  # ties share the lowest, and so a bin
    return np.asarray(rank * bins // max(probability.size, 1), np.int64)


def _binned_error(surprise: FloatArray, bin_of: NDArray[np.int64]) -> float:
    return float(np.abs(np.bincount(bin_of, surprise)).sum() / surprise.size) if surprise.size else np.nan


def _events(outcome: ArrayLike, probability: ArrayLike) -> tuple[FloatArray, FloatArray]:
    outcome, probability = rows(outcome, probability)
    odd = outcome[(outcome != 0) & (outcome != 1)]
    if odd.size:
        raise ValueError(f"an outcome is 0 or 1, got {odd[0]}.")
    _refuse_improbable(probability)
    return outcome, probability


def _refuse_improbable(probability: FloatArray) -> None:
    odd = probability[(probability < 0) | (probability > 1)]
    if odd.size:
        raise ValueError(f"a probability lies between 0 and 1, got {odd[0]}.")


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────


def vector(values: ArrayLike) -> FloatArray:
    """`values` as one dimension of float64; ValueError for more dimensions."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one dimension, got shape {array.shape}; score one series at a time.")
    return array


def rows(*series: ArrayLike, allow_infinite: bool = False) -> tuple[FloatArray, ...]:
    """The series without the rows in which any is NaN.

    Raises ValueError for series of different lengths and, unless allowed, for an infinite value.

    >>> [side.tolist() for side in rows([1, 2, 3], [1, float("nan"), 5])]
    [[1.0, 3.0], [1.0, 5.0]]
    """
    arrays = [vector(values) for values in series]
    if len({array.size for array in arrays}) > 1:
        raise ValueError(f"expected series of one length, got {', '.join(str(a.size) for a in arrays)} rows.")
    if not allow_infinite and np.isinf(arrays).any():
        raise ValueError("expected finite values or NaN, got an infinite one; look for a division by zero.")
    complete = ~np.isnan(arrays).any(axis=0)
    return tuple(array[complete] for array in arrays)


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if values.size else np.nan
