"""Columns of a frame as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def to_array(frame: pl.DataFrame, *names: str) -> FloatArray:
    """Columns as float64 with NaN for null: (rows,) for one name, (rows, names) for several."""
    table = frame.select(pl.col(*names).cast(pl.Float64).fill_null(float("nan")))
    made: FloatArray = table.to_numpy(order="c") if len(names) > 1 else table.to_series().to_numpy()
    return made


def to_times(frame: pl.DataFrame, name: str) -> NDArray[np.datetime64]:
    """A UTC time column as datetime64[us]."""
    return frame[name].dt.replace_time_zone(None).cast(pl.Datetime("us")).to_numpy().astype("datetime64[us]")


def to_unit(values: FloatArray) -> FloatArray:
    """(n,) finite values over the largest in size, so that their squares neither vanish nor overflow; zeros stay.

    >>> to_unit(np.array([-2e200, 1e200])).tolist()
    [-1.0, 0.5]
    """
    largest = np.abs(values).max(initial=0)
    unit: FloatArray = values / largest if largest > 0 else values
    return unit
