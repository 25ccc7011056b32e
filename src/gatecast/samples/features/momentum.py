"""Momentum features: returns over several spans, oscillators, distance from moving averages."""

from __future__ import annotations

import numpy as np

from gatecast.libraries import without_pandas
from gatecast.samples.features.rolling import FloatArray, lagged, rolling_mean, rolling_sum


def log_return(close: FloatArray, bars: int) -> FloatArray:
    """Log of the close over the close `bars` bars earlier.

    >>> log_return(np.array([100.0, 110.0]), 1).round(6).tolist()
    [nan, 0.09531]
    """
    return np.log(close / lagged(close, bars))


def relative_strength(close: FloatArray, bars: int) -> FloatArray:
    """Wilder's RSI in [0, 100]; 50 where nothing has moved.

    Wilder (1978), New Concepts in Technical Trading Systems.
    """
    with without_pandas():
        import talib

    strength: FloatArray = talib.RSI(close, bars)
    moved = rolling_sum(np.abs(close - lagged(close, 1)), bars)
    strength[(strength == 0) & (moved == 0)] = 50.0  # TA-Lib says 0, as after falls alone
    return strength


def macd_histogram(close: FloatArray, fast: int = 12, slow: int = 26, signal: int = 9) -> FloatArray:
    """Moving average convergence divergence minus its signal line, as a fraction of the price (Appel)."""
    with without_pandas():
        import talib

    histogram: FloatArray = talib.MACD(close, fast, slow, signal)[2]
    return histogram / close


def sma_distance(close: FloatArray, bars: int) -> FloatArray:
    """Close over its simple moving average of the last `bars` bars, minus 1."""
    return close / rolling_mean(close, bars) - 1.0
