"""Windows over the last bars of one series: their value depends on the bars inside and on nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def lagged(series: FloatArray, bars: int) -> FloatArray:
    """The series as it was `bars` bars earlier; NaN where there was none.

    >>> lagged(np.array([1.0, 2.0, 3.0]), 1).tolist()
    [nan, 1.0, 2.0]
    """
    earlier = np.full_like(series, np.nan)
    earlier[bars:] = series[: len(series) - bars]
    return earlier


def rolling_sum(series: FloatArray, bars: int) -> FloatArray:
    """Sum over the last `bars` bars, this one included; NaN for the first `bars - 1`.

    Sums of 1, 2, 4, ... bars are doubled up and put together. A running total would be faster but carries its
    rounding along: a value would depend on where the series began, and live would not equal batch to the bit.

    >>> rolling_sum(np.array([1.0, 2.0, 3.0, 4.0]), 3).tolist()
    [nan, nan, 6.0, 9.0]
    """
    total, covered = np.zeros_like(series), 0
    power, length = series, 1
    while True:
        if bars & length:
            total = total + (lagged(power, covered) if covered else power)
            covered += length
        if covered == bars:
            return total
        power, length = power + lagged(power, length), 2 * length


def rolling_mean(series: FloatArray, bars: int) -> FloatArray:
    """Mean over the last `bars` bars, this one included; NaN for the first `bars - 1`."""
    return rolling_sum(series, bars) / bars
