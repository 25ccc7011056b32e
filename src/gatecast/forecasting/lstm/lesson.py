"""A fold prepared for the network: its bars, inputs and targets, scaled by the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.scaling import Scaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PreparedFold:
    """One fold, ready for the network: scaled inputs and answers of the bars it reads, rows counted among those.

    `counts`: (bars,) how much each label counts.
    """

    scaler: Scaler
    centre: FloatArray
    spread: FloatArray
    inputs: NDArray[np.float32]
    table: NDArray[np.float32]
    train: IntArray
    validation: IntArray
    counts: NDArray[np.float32]


def bars_read(ends: IntArray, lookback: int, bars: int) -> NDArray[np.bool_]:
    """(bars,) which bar-level rows the windows that end at `ends` read."""
    read = np.zeros(bars, bool)
    for step in range(lookback):
        read[ends - step] = True
    return read


def read_windows(
    scaler: Scaler, samples: Samples, ends: IntArray, lookback: int
) -> tuple[NDArray[np.float32], IntArray]:
    """The scaled bars that these windows read, and where each ends among them: windows stay whole, runs apart."""
    read = bars_read(ends, lookback, len(samples.features))
    inputs = scaler.transform(samples.features[read]).astype(np.float32)
    return inputs, (np.cumsum(read) - 1)[ends]
