"""Volatility features, from closes and from ranges."""

from __future__ import annotations

import numpy as np

from gatecast.libraries import without_pandas
from gatecast.samples.features.momentum import log_return
from gatecast.samples.features.rolling import FloatArray, lagged, rolling_mean

HAR_FLOOR = 1e-10  # variance of a bar: (0.1 basis points)², so that the log of a bar that does not move exists


def gap(open: FloatArray, close: FloatArray) -> FloatArray:
    """Log of the open over the previous close.

    >>> gap(np.array([100.0, 101.0]), np.array([100.0, 103.0])).round(6).tolist()
    [nan, 0.00995]
    """
    return np.log(open / lagged(close, 1))


def realised_volatility(close: FloatArray, bars: int) -> FloatArray:
    """Root of the mean squared log return over the last `bars` bars, per bar (not annualised)."""
    return np.sqrt(rolling_mean(np.square(log_return(close, 1)), bars))


def downside_semivariance(close: FloatArray, bars: int) -> FloatArray:
    """Mean over the last `bars` bars of the squared log return where it fell, 0 where it rose.

    Barndorff-Nielsen, Kinnebrock and Shephard (2010), Measuring downside risk: realised semivariance.
    """
    return rolling_mean(np.square(np.minimum(log_return(close, 1), 0.0)), bars)


def parkinson(high: FloatArray, low: FloatArray, bars: int) -> FloatArray:
    """Volatility per bar from the log range over the last `bars` bars, overnight gaps not included.

    Parkinson (1980), Journal of Business 53, 61-65.
    """
    variance: FloatArray = rolling_mean(np.square(np.log(high / low)), bars) / (4 * np.log(2))
    return np.sqrt(variance)


def garman_klass(open: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, bars: int) -> FloatArray:
    """Volatility per bar from the four prices over the last `bars` bars, overnight gaps not included.

    Garman and Klass (1980), Journal of Business 53, 67-78.
    """
    return np.sqrt(rolling_mean(_garman_klass_variance(open, high, low, close), bars))


def har(open: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, bars: int) -> FloatArray:
    """Log of the mean variance over the last `bars` bars, never below log(HAR_FLOOR) = -23.03.

    The variance of a bar is its squared gap plus Garman-Klass, so that the whole move from close to close is
    counted; one squared return would say too little about a single bar.

    Corsi (2009), Journal of Financial Econometrics 7, 174-196.
    """
    variance = np.square(gap(open, close)) + _garman_klass_variance(open, high, low, close)
    return np.log(np.maximum(rolling_mean(variance, bars), HAR_FLOOR))


def average_true_range(high: FloatArray, low: FloatArray, close: FloatArray, bars: int) -> FloatArray:
    """Wilder's average true range as a fraction of the close."""
    with without_pandas():
        import talib

    average: FloatArray = talib.ATR(high, low, close, bars)
    return average / close


def _garman_klass_variance(open: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray) -> FloatArray:
    squared_range, squared_body = np.square(np.log(high / low)), np.square(np.log(close / open))
    variance: FloatArray = 0.5 * squared_range - (2 * np.log(2) - 1) * squared_body
    return np.maximum(variance, 0.0)  # below 0 only where open or close lie outside the range
