"""Where a run comes from: hashes of data and settings, versions, seeds and the clock."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from gatecast.forecasting.walkforward import Forecasts

LIBRARIES = ("numpy", "polars", "torch", "scikit-learn", "ta-lib", "scipy", "arch")


def hash_of(settings: Any) -> str:
    """SHA-256 of canonical JSON.

    >>> hash_of({"b": 1, "a": 2}) == hash_of({"a": 2, "b": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_bars(bars: pl.DataFrame) -> str:
    """SHA-256 of the rows by symbol and time: text, microseconds and little-endian float64, a null as NaN."""
    digest = hashlib.sha256()
    ordered = bars.sort("symbol", "time", "known_at")
    for name in sorted(ordered.columns):
        column = ordered[name]
        digest.update(name.encode())
        if column.dtype == pl.String:
            digest.update("\x00".join(column.to_list()).encode())
        else:
            numbers = column.to_physical().cast(pl.Float64).fill_null(float("nan")).to_numpy()
            digest.update(numbers.astype("<f8").tobytes())
    return digest.hexdigest()


def of_run(
    settings: dict[str, Any],
    bars: pl.DataFrame,
    forecasts: Mapping[str, Forecasts],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The provenance of a run.

    But for `clock`, `seconds`, the time that each model's training took, and the `cost` that a run adds, two runs of
    the same settings on the same data have the same.
    """
    return {
        "gatecast": _version("gatecast"),
        "data_hash": hash_of_bars(bars),
        "settings_hash": hash_of(settings),
        "first_bar": bars["time"].min().isoformat(),  # type: ignore[union-attr]
        "last_bar": bars["time"].max().isoformat(),  # type: ignore[union-attr]
        "bars": len(bars),
        "symbols": bars["symbol"].unique().sort().to_list(),
        "seed": settings["seed"],
        "refits": {name: len(one.folds) for name, one in forecasts.items()},
        "features": {name: list(one.samples.names) for name, one in forecasts.items()},
        "libraries": {name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": {model: round(taken, 2) for model, taken in seconds.items()},
        "clock": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
