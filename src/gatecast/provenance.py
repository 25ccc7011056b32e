"""Where a run comes from: hashes of data and settings, versions, seeds and the clock."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.trial import DIGITS, NO_WEEK, Data, market_of
from gatecast.market.bars import COLUMNS, session_date
from gatecast.market.sessions import versions

if TYPE_CHECKING:
    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.samples.windows import Samples

EPOCH = date(1970, 1, 1).toordinal() - 1  # days since the first Monday of the calendar
LIBRARIES = ("numpy", "polars", "numba", "scikit-learn", "ta-lib", "scipy", "arch")
"""Those of every run; models may need more, see `Forecaster.packages`."""
UNKNOWN = "unknown"


def hash_of(settings: Any) -> str:
    """SHA-256 of canonical JSON.

    >>> hash_of({"b": 1, "a": 2}) == hash_of({"a": 2, "b": 1})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_settings(settings: Mapping[str, Any], plugins: Mapping[str, str]) -> str:
    """SHA-256 of settings and of where the plug-ins that they name come from, so that changed code is another hash.

    >>> plain = hash_of_settings({"seed": 0}, {})
    >>> plain == hash_of({"seed": 0}), plain == hash_of_settings({"seed": 0}, {"strategy/mine": "mine==1.0"})
    (True, False)
    """
    return hash_of({**settings, "plugins": plugins} if plugins else settings)


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


def data_of(bars: pl.DataFrame, samples: Iterable[Samples], own: Collection[str]) -> Data:
    """What enters a trial: its bars' hash and returns, and a fingerprint of the user's columns and features in `own`.

    Columns of the bars that are neither prices nor in `own` do not enter. The fingerprint is of the values that the
    samples hold, so that a function of the user's that changed under the same name is other data.
    """
    market = market_of(bars)
    exact = hash_of_bars(bars.select(name for name in bars.columns if name in COLUMNS or name in own))
    sums: dict[int, int] = {}
    for one in samples:
        places = [place for place, name in enumerate(one.names) if name in own]
        if not places:
            continue
        days = session_date(one.time).astype("datetime64[D]")
        week = (days.astype(np.int64) + EPOCH) // 7
        values = one.features[:, places].astype("<f4")
        edges = np.flatnonzero(np.r_[True, (np.diff(week) != 0) | (np.diff(one.symbol) != 0)])
        for begin, end in zip(edges, np.r_[edges[1:], len(week)], strict=True):
            number = int.from_bytes(hashlib.sha256(values[begin:end].tobytes()).digest()[:8])
            sums[int(week[begin])] = sums.get(int(week[begin]), 0) + number
    if not sums:
        return Data(exact, market_key=market.key, market=market)
    first, last = min(sums), max(sums)
    weeks = [f"{sums[week] % 16**DIGITS:0{DIGITS}x}" if week in sums else NO_WEEK for week in range(first, last + 1)]
    return Data(exact, str(date.fromordinal(first * 7 + 1)), "".join(weeks), market.key, market)


def of_run(
    settings: dict[str, Any],
    bars: pl.DataFrame,
    forecasts: Mapping[str, Forecasts],
    seconds: Mapping[str, float],
    plugins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The provenance of a run.

    `plugins`: sort and name of every part that is not gatecast's own -> where it comes from.
    But for `clock`, `seconds`, the time that each model's training took, and the `cost` that a run adds, two runs of
    the same settings on the same data have the same.
    """
    return {
        "gatecast": _version("gatecast"),
        "data_hash": hash_of_bars(bars),
        "settings_hash": hash_of_settings(settings, plugins or {}),
        "plugins": dict(plugins or {}),
        "first_bar": bars["time"].min().isoformat(),  # type: ignore[union-attr]
        "last_bar": bars["time"].max().isoformat(),  # type: ignore[union-attr]
        "bars": len(bars),
        "symbols": bars["symbol"].unique().sort().to_list(),
        "seed": settings["seed"],
        "refits": {name: len(one.folds) for name, one in forecasts.items()},
        "features": {name: list(one.samples.names) for name, one in forecasts.items()},
        "libraries": libraries_of(one.panel for one in forecasts.values()),
        "calendars": versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": {model: round(taken, 2) for model, taken in seconds.items()},
        "clock": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def libraries_of(panels: Iterable[Mapping[str, Forecaster]]) -> dict[str, str]:
    """Library -> its version here, of those that the forecasts of models depend on."""
    needed = {package for panel in panels for one in panel.values() for package in one.packages()}
    return {name: _version(name) for name in (*LIBRARIES, *sorted(needed))}


def other_versions(provenance: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name -> version then and here, of all that computes forecasts and is another here than where a run was made.

    >>> here = {"gatecast": _version("gatecast"), "python": platform.python_version(), "machine": platform.machine()}
    >>> here["libraries"] = {name: _version(name) for name in LIBRARIES}
    >>> other_versions(here), other_versions({**here, "python": "3.4"})["python"][0]
    ({}, '3.4')
    """
    libraries = provenance.get("libraries")
    then = {**(libraries if isinstance(libraries, dict) else {})}
    then |= {name: provenance.get(name) for name in ("gatecast", "python", "machine")}
    now = {name: _version(name) for name in ("gatecast", *LIBRARIES)}
    now |= {name: _version(name) for name in then if name not in now and _version(name) != UNKNOWN}
    now |= {"python": platform.python_version(), "machine": platform.machine()}
    return {name: (str(then.get(name, UNKNOWN)), now[name]) for name in now if then.get(name) != now[name]}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return UNKNOWN
