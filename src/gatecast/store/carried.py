"""What gatecast's line of the book carries from one session to the next, as a file of arrays.

A file of an earlier version is brought to the shape of today as it is read, one step a version (`UPGRADES`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.formats import arrays_of, json_of, refuse_infinite
from gatecast.store.schema import CarriedTable, fault_of
from gatecast.trading.book import Carried
from gatecast.trading.core import CoreState
from gatecast.trading.covariance import Correlations, Ewma, Sums
from gatecast.trading.line import LineState, Squares
from gatecast.trading.money import Account
from gatecast.trading.sizing import BookState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Changes = tuple[tuple[date, int, float], ...]
"""Changes of units, see `trading.money.Account`."""
ChangesOf = Callable[[Sequence[str], date], Changes]
"""Names of a line and its session -> their changes of units up to then."""

VERSION = 2
"""Of the shape that is written. 1 is without changes of units, or does not say its version."""
TABLE = "table"
MAY_BE_UNKNOWN = ("price", "rate", "ahead", "scale", "last")
"""Arrays in which a name may have no number."""
OF_NAMES = (
    "units", "price", "rate", "parked", "parked_value", "orders", "ahead", "scale", "last", "held_core", "core",
    "squares", "squares_weight", "squares_count", "split",
)  # fmt: skip
OF_CHANGES = ("changed_place", "changed_units")
WHOLE = ("bars", "changed_place")
"""Arrays of whole numbers."""
OF_PAIRS = ("same", "same_weight", "lagged", "lagged_weight", "returns", "returns_weight")
NUMBERS = ("cash", "equity", "surprise", "peak", "correlations_half_life", "core_half_life")
"""What the array `numbers` has, in this order."""


def bytes_of_carried(carried: Carried) -> bytes:
    """All that a line goes on from, as one file of arrays; `carried_of` is the inverse, to the bit."""
    from safetensors.numpy import save

    line, core = carried.line, carried.core
    account, sizing, correlations = line.account, line.sizing, line.correlations
    table = {
        "version": VERSION, "names": list(line.names), "classes": list(line.classes), "session": str(carried.day),
        "due": [str(day) for day, _ in account.due], "changed": [str(day) for day, _, _ in account.changes],
        "month": core.month, "flat_left": sizing.flat_left,
    }  # fmt: skip
    numbers = (
        account.cash, line.equity, sizing.surprise, sizing.peak, correlations.half_life, core.ewma.half_life
    )  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {
        TABLE: np.frombuffer(json.dumps(table, sort_keys=True).encode(), np.uint8),
        "numbers": np.array(numbers, np.float64), "due": np.array([money for _, money in account.due], np.float64),
        "changed_place": np.array([place for _, place, _ in account.changes], np.int64),
        "changed_units": np.array([units for _, _, units in account.changes], np.float64),
        "units": account.units, "price": account.price, "rate": account.rate, "parked": account.parked,
        "parked_value": account.parked_value, "orders": line.orders, "ahead": line.ahead, "scale": line.scale,
        "held_core": line.core, "core": core.weights, "last": correlations.last, "bars": line.bars, "split": line.split,
        "squares": line.squares.total, "squares_weight": line.squares.weight, "squares_count": line.squares.count,
        "targets": sizing.targets, "same": correlations.same.total, "same_weight": correlations.same.weight,
        "lagged": correlations.lagged.total, "lagged_weight": correlations.lagged.weight,
        "returns": core.ewma.sums.total, "returns_weight": core.ewma.sums.weight,
    }  # fmt: skip
    return save({name: np.array(array, order="C", copy=True) for name, array in sorted(arrays.items())})


def carried_of(content: bytes, changes: ChangesOf | None = None) -> Carried:
    """A file of `bytes_of_carried` -> what it was made of. Raises `ValueError`, in words, for what is none.

    `changes`: gives the changes of units where a file of an earlier version has none; None: none are known then.
    """
    arrays = arrays_of(content)
    told = arrays.pop(TABLE, None)
    if told is None or told.dtype != np.uint8:
        raise ValueError(f"it lacks its array {TABLE}")
    table = json_of(told.tobytes())
    if fault := fault_of(CarriedTable, table):
        raise ValueError(fault)
    names, classes = tuple(table["names"]), tuple(table["classes"])
    count = len(names)
    if len(classes) != count or len({*names}) != count:
        raise ValueError(f"it has {count} names, {len({*names})} of them different, and {len(classes)} classes")
    if table.get("version", 1) > VERSION:
        raise ValueError(f"it is of version {table['version']}, this gatecast reads up to {VERSION}")
    for version in range(table.get("version", 1), VERSION):
        UPGRADES[version](table, arrays, changes)
    _refuse_other_shapes(arrays, count, {name: len(table.get(name, ())) for name in ("due", "changed")})
    numbers = dict(zip(NUMBERS, arrays["numbers"].tolist(), strict=True))
    day = date.fromisoformat(table["session"][:10])
    due, changed = ([date.fromisoformat(one[:10]) for one in table.get(name, ())] for name in ("due", "changed"))
    dated = zip(changed, arrays["changed_place"].tolist(), arrays["changed_units"].tolist(), strict=True)
    account = Account(
        numbers["cash"], arrays["units"], arrays["price"], arrays["rate"], arrays["parked"], arrays["parked_value"],
        tuple(zip(due, arrays["due"].tolist(), strict=True)), day, tuple(dated),
    )  # fmt: skip
    correlations = Correlations(
        names, classes, numbers["correlations_half_life"], Sums(arrays["same"], arrays["same_weight"]),
        Sums(arrays["lagged"], arrays["lagged_weight"]), arrays["last"],
    )  # fmt: skip
    line = LineState(
        names, classes, account,
        BookState(names, arrays["targets"], numbers["surprise"], numbers["peak"], table["flat_left"]), correlations,
        Squares(arrays["squares"], arrays["squares_weight"], arrays["squares_count"]), arrays["orders"],
        arrays["ahead"], arrays["scale"], arrays["held_core"], numbers["equity"], arrays["bars"],
        arrays["split"],
    )  # fmt: skip
    ewma = Ewma(names, numbers["core_half_life"], Sums(arrays["returns"], arrays["returns_weight"]))
    return Carried(line.with_covariance(), CoreState(names, classes, ewma, arrays["core"], table["month"]))


def _with_changes(table: dict[str, Any], arrays: dict[str, NDArray[Any]], changes: ChangesOf | None) -> None:
    """Adds the changes of units to a file of version 1 that has none."""
    if {"changed", *OF_CHANGES} & {*table, *arrays}:
        return
    found = changes(table["names"], date.fromisoformat(table["session"][:10])) if changes else ()
    table["changed"] = [str(day) for day, _, _ in found]
    arrays["changed_place"] = np.array([place for _, place, _ in found], np.int64)
    arrays["changed_units"] = np.array([units for _, _, units in found], np.float64)


UPGRADES: dict[int, Callable[[dict[str, Any], dict[str, NDArray[Any]], ChangesOf | None], None]] = {1: _with_changes}
"""Version of a file -> what brings its table and arrays to the next one."""


def changes_of(holdings: pl.DataFrame, splits: pl.DataFrame, names: Sequence[str]) -> Changes:
    """The changes of units of an account, oldest first, from what it held at the close of each session.

    `holdings`: session, symbol, units; a symbol without a row holds nothing. `splits`: session in which each was
    booked, symbol, ratio. See `trading.money.Account` for what a change is.

    >>> day = [date(2024, 1, 2), date(2024, 1, 3)]
    >>> held = pl.DataFrame({"session": day, "symbol": ["A", "A"], "units": [5.0, 8.0]})
    >>> split = pl.DataFrame({"session": day[1:], "symbol": ["A"], "ratio": [2.0]})
    >>> [(str(until), place, units) for until, place, units in changes_of(held, split, ["A"])]
    [('2024-01-02', 0, 5.0), ('2024-01-03', 0, 10.0)]
    """
    units = {(day, name): one for day, name, one in holdings.select("session", "symbol", "units").iter_rows()}
    days = sorted({day for day, _ in units})
    found = list[tuple[date, int, float]]()
    for before, day in pairwise(days):
        entitled = [units.get((before, name), 0.0) for name in names]
        booked = splits.filter(pl.col("session") == day, pl.col("symbol").is_in(list(names)), pl.col("ratio") != 1)
        for name, ratio in booked.select("symbol", "ratio").sort("symbol").iter_rows():
            place = names.index(name)
            if entitled[place] != 0:
                found.append((before, place, entitled[place]))
            entitled[place] *= ratio
        for place, name in enumerate(names):
            if units.get((day, name), 0.0) != entitled[place]:
                found.append((day, place, entitled[place]))
    return tuple(found)


def _refuse_other_shapes(arrays: dict[str, NDArray[Any]], count: int, lengths: Mapping[str, int]) -> None:
    """Raises `ValueError` for arrays of so many names that are others than those of `bytes_of_carried`.

    `lengths`: of the sums due, and of the changes of units.
    """
    wanted: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(OF_NAMES, (count,)), **dict.fromkeys(OF_PAIRS, (count, count)), "numbers": (len(NUMBERS),),
        "due": (lengths["due"],), "bars": (count,), **dict.fromkeys(OF_CHANGES, (lengths["changed"],)),
    }  # fmt: skip
    if arrays.keys() != {*wanted, "targets"}:
        odd = sorted(arrays.keys() ^ {*wanted, "targets"})
        raise ValueError(f"it lacks the array {odd[0][:80]!r}, or has it and should not")
    for name, array in arrays.items():
        kind = np.int64 if name in WHOLE else np.float64
        shape = wanted.get(name, (len(array), count) if array.ndim == 2 else (0, count))
        if array.dtype != kind or array.shape != shape:
            raise ValueError(f"its {name!r} is {array.dtype} {array.shape}, expected {np.dtype(kind)} {shape}")
    refuse_infinite({name: arrays[name] for name in MAY_BE_UNKNOWN}, nan=True)
    refuse_infinite({name: one for name, one in arrays.items() if name not in (*MAY_BE_UNKNOWN, *WHOLE)}, nan=False)
    places = arrays["changed_place"]
    if not ((places >= 0) & (places < count)).all():
        raise ValueError(f"units of a name changed that is none of its {count}")
    if not all(math.isfinite(one) and one > 0 for one in arrays["numbers"][-2:].tolist()):
        raise ValueError("its half-lives are not above 0")
