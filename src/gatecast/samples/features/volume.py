"""Volume features."""

from __future__ import annotations

import numpy as np

from gatecast.samples.features.rolling import FloatArray, rolling_mean


def volume_ratio(volume: FloatArray, bars: int) -> FloatArray:
    """Volume over its mean of the last `bars` bars, this one included; 1 where all of them traded nothing.

    >>> volume_ratio(np.array([1.0, 3.0, 0.0, 0.0]), 2).tolist()
    [nan, 1.5, 0.0, 1.0]
    """
    mean = rolling_mean(volume, bars)
    return np.divide(volume, mean, out=np.where(np.isnan(mean), np.nan, 1.0), where=mean > 0)
