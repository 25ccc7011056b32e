"""What a desk needs of a session of the book, with the limits of orders that were in force, as a file of arrays."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.errors import SettingsError
from gatecast.formats import arrays_of, json_of, refuse_infinite
from gatecast.store.schema import DeskTable, fault_of
from gatecast.trading.costs import MoneySettings
from gatecast.trading.desk import Desk
from gatecast.trading.instruments import Instruments
from gatecast.trading.orders import OrderSettings
from gatecast.trading.sizing import BookSettings, BookState, BookView

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

TABLE = "table"
OF_DESK = ("lent", "recalled", "price", "bars", "age", "rate", "deviation", "usual_deviation", "volume", "until")
OF_VIEW = (
    "core", "tilt", "evidence", "held", "price", "lot", "volume", "margin", "funded", "cost", "tradable", "closing",
)  # fmt: skip
OF_PAIRS = ("covariance", "spiked")
OF_INSTRUMENTS = tuple(one.name for one in fields(Instruments) if one.name not in ("symbols", "currency"))
BOOLEAN = (
    "lent", "recalled", "view.funded", "view.tradable", "view.closing", "fixed.home", "fixed.funded", "fixed.pair",
    "fixed.lendable", "fixed.has_volume",
)  # fmt: skip
WHOLE = ("bars", "age", "until")
KNOWN = ("view.core", "view.tilt", "view.evidence", "view.held", "view.lot", "view.margin", "view.cost", "targets")
"""Arrays in which each name has a number."""
NUMBERS = ("equity", "surprise", "peak")


def bytes_of_desk(desk: Desk, orders: OrderSettings) -> bytes:
    """A desk and the limits of its orders as one file of arrays; `desk_of` is the inverse, to the bit."""
    from safetensors.numpy import save

    view, sizing = desk.view, desk.sizing
    table = {
        "names": list(view.names), "classes": list(view.classes), "currencies": list(desk.instruments.currency),
        "session": str(desk.day), "flat_left": sizing.flat_left, "stress": view.stress,
        "size": desk.size.model_dump(mode="json"), "money": desk.money.model_dump(mode="json"),
        "orders": orders.model_dump(mode="json"),
    }  # fmt: skip
    count = len(view.names)
    arrays: Arrays = {
        TABLE: np.frombuffer(json.dumps(table, sort_keys=True).encode(), np.uint8),
        "numbers": np.array([view.equity, sizing.surprise, sizing.peak]), "targets": sizing.targets,
        "covariance": view.covariance,
        "spiked": np.zeros((0, count)) if view.spiked is None else view.spiked,
        **{name: getattr(desk, name) for name in OF_DESK},
        **{f"view.{name}": getattr(view, name) for name in OF_VIEW},
        **{f"fixed.{name}": getattr(desk.instruments, name) for name in OF_INSTRUMENTS},
    }  # fmt: skip
    return save({name: np.array(array, order="C", copy=True) for name, array in sorted(arrays.items())})


def desk_of(content: bytes) -> tuple[Desk, OrderSettings]:
    """A file of `bytes_of_desk` -> what it was made of. Raises `ValueError`, in words, for what is none."""
    arrays = arrays_of(content)
    told = arrays.pop(TABLE, None)
    if told is None or told.dtype != np.uint8:
        raise ValueError(f"it lacks its array {TABLE}")
    table = json_of(told.tobytes())
    if fault := fault_of(DeskTable, table):
        raise ValueError(fault)
    names, classes, currencies = (tuple(table[name]) for name in ("names", "classes", "currencies"))
    count = len(names)
    if not count == len(classes) == len(currencies) == len({*names}):
        raise ValueError(f"it has {count} names, {len({*names})} of them different, and {len(classes)} classes")
    _refuse_misfit(arrays, count)
    try:
        size, money = BookSettings(**table["size"]), MoneySettings(**table["money"])
        orders = OrderSettings(**table["orders"])
    except (SettingsError, TypeError) as error:
        raise ValueError(f"its settings are none of this gatecast: {str(error)[:300]}") from None
    numbers = dict(zip(NUMBERS, arrays["numbers"].tolist(), strict=True))
    view = BookView(
        names=names, classes=classes, covariance=arrays["covariance"], equity=numbers["equity"],
        spiked=arrays["spiked"] if len(arrays["spiked"]) else None, stress=table["stress"],
        **{name: arrays[f"view.{name}"] for name in OF_VIEW},
    )  # fmt: skip
    sizing = BookState(names, arrays["targets"], numbers["surprise"], numbers["peak"], table["flat_left"])
    fixed = Instruments(
        symbols=names, currency=currencies, **{name: arrays[f"fixed.{name}"] for name in OF_INSTRUMENTS}
    )  # fmt: skip
    day = date.fromisoformat(table["session"][:10])
    desk = Desk(
        day=day, view=view, sizing=sizing, instruments=fixed, size=size, money=money,
        **{name: arrays[name] for name in OF_DESK},
    )  # fmt: skip
    return desk, orders


def _refuse_misfit(arrays: Arrays, count: int) -> None:
    """Raises `ValueError` for arrays of so many names that are others than those of `bytes_of_desk`."""
    single = (*OF_DESK, *(f"view.{name}" for name in OF_VIEW), *(f"fixed.{name}" for name in OF_INSTRUMENTS))
    wanted = {**dict.fromkeys(single, (count,)), "covariance": (count, count), "numbers": (len(NUMBERS),)}
    if odd := sorted(arrays.keys() ^ {*wanted, "targets", "spiked"}):
        raise ValueError(f"it lacks the array {odd[0][:80]!r}, or has it and should not")
    for name, array in arrays.items():
        kind = np.dtype(bool if name in BOOLEAN else np.int64 if name in WHOLE else np.float64)
        shape = wanted.get(name, (len(array), count) if array.ndim == 2 else (0, count))
        if name == "spiked" and array.ndim == 2 and len(array):
            shape = (count, count)
        if array.dtype != kind or array.shape != shape:
            raise ValueError(f"its {name!r} is {array.dtype} {array.shape}, expected {kind} {shape}")
    numbers = {name: one for name, one in arrays.items() if one.dtype == np.float64}
    refuse_infinite({name: one for name, one in numbers.items() if name not in (*KNOWN, "numbers")}, nan=True)
    refuse_infinite({name: one for name, one in numbers.items() if name in (*KNOWN, "numbers")}, nan=False)
    if not all(((arrays[name] >= 0) & (arrays[name] < 2**57)).all() for name in WHOLE):
        raise ValueError("its moments or ages are none")
