"""Arrays and settings of a stored model -> the same, once they have the shape, kind and numbers that they must have.

Each raises `ValueError` in words that follow "it lacks or mangles".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.forecasting.scaling import Scaler
from gatecast.formats import refuse_infinite

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_WEIGHT = 1e9
"""A learned number of more is none that a fit gives."""


def array_of(
    arrays: Mapping[str, NDArray[Any]], name: str, *shape: int | None, dtype: type = np.float64, nan: bool = False,
    inf: bool = False,
) -> NDArray[Any]:  # fmt: skip
    """The array of this name, shape (None: any length) and kind, finite but for what `nan` and `inf` allow.

    >>> array_of({"line": np.zeros(2)}, "line", 2).tolist()
    [0.0, 0.0]
    >>> array_of({"line": np.zeros(3)}, "line", 2)
    Traceback (most recent call last):
        ...
    ValueError: 'line', which is float64 (3,), expected float64 (2,)
    """
    if name not in arrays:
        raise ValueError(f"{name!r}, which is missing")
    array = arrays[name]
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        wanted = f"{np.dtype(dtype)} ({', '.join('any' if one is None else str(one) for one in shape)}"
        end = ",)" if len(shape) == 1 else ")"
        raise ValueError(f"{name!r}, which is {array.dtype} {array.shape}, expected {wanted}{end}")
    refuse_infinite({name: array}, nan=nan, inf=inf)
    if array.dtype.kind == "f" and array.size and np.abs(array[np.isfinite(array)]).max(initial=0.0) > LARGEST_WEIGHT:
        raise ValueError(f"{name!r}, which has numbers beyond {LARGEST_WEIGHT:g}")
    return array


def scaler_of(arrays: Mapping[str, NDArray[Any]], columns: int | None = None, *, begin: str = "scaler.") -> Scaler:
    """The scaler of a stored model; the spread of a constant column is infinite."""
    centre = array_of(arrays, f"{begin}centre", columns)
    return Scaler(centre, spread_of(arrays, f"{begin}spread", len(centre)))


def spread_of(arrays: Mapping[str, NDArray[Any]], name: str, columns: int) -> NDArray[Any]:
    """(columns,) divisors: above 0, infinite for a constant column."""
    spread = array_of(arrays, name, columns, inf=True)
    if not (spread > 0).all():
        raise ValueError(f"{name!r}, which is not above 0 everywhere")
    return spread


def symbols_in(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The symbols of a stored model, each once."""
    symbols = settings["symbols"]
    if not isinstance(symbols, list | tuple) or not all(isinstance(one, str) for one in symbols):
        raise ValueError("'symbols', which is no list of names")
    if len(set(symbols)) < len(symbols):
        raise ValueError("'symbols', of which one is there twice")
    return tuple(symbols)


def number_in(settings: Mapping[str, Any], name: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A number of a stored model, finite and from `low` to `high`."""
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name!r}, which is no finite number")
    if not low <= value <= high:
        raise ValueError(f"{name!r} = {value:g}, expected {low:g} to {high:g}")
    return value


def text_in(settings: Mapping[str, Any], name: str, *, among: tuple[str, ...]) -> Any:
    """One of these words."""
    value = settings[name]
    if value not in among:
        raise ValueError(f"{name!r} = {str(value)[:40]!r}, expected one of {', '.join(among)}")
    return value
