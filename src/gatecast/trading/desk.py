"""What a desk needs of the book at the close of a session: what sizing saw, prices, costs and cut-offs.

The book decides with holdings of its own; a desk asks the same function what to trade with holdings that are real.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from gatecast.errors import SettingsError, did_you_mean
from gatecast.trading.charges import trading_costs
from gatecast.trading.costs import MoneySettings
from gatecast.trading.instruments import Instruments
from gatecast.trading.line import least_units
from gatecast.trading.sizing import BookSettings, BookState, BookView, Sized, trades_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Desk:
    """A session of the book, as a desk reads it. Arrays are (names,).

    Attributes
    ----------
    day: the session. view, sizing: what `sizing.trades_of` was given at its close; instruments: what is fixed.
    lent, recalled: whether a short can be borrowed at the next fill, or has to be bought there.
    price: newest close, in the symbol's currency. bars: microseconds since 1970 of the bar that it is of, 0 without one
        in the last 130 sessions; age: sessions of the symbol's calendar that have closed since.
    rate: money of the book for one unit of the symbol's currency.
    deviation: forecast of the next session's return; usual_deviation: its mean over 63 sessions.
    volume: mean money traded a session over 21, in the book's currency.
    until: microseconds since 1970 of the next open by the calendar, 0 without a bar in this session.
    size, money: settings of the book, without its tables.
    """

    day: date
    view: BookView
    sizing: BookState
    instruments: Instruments
    lent: BoolArray
    recalled: BoolArray
    price: FloatArray
    bars: IntArray
    age: IntArray
    rate: FloatArray
    deviation: FloatArray
    usual_deviation: FloatArray
    volume: FloatArray
    until: IntArray
    size: BookSettings
    money: MoneySettings

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols of the book."""
        return self.view.names

    def cut_off(self, place: int) -> datetime | None:
        """Until when an order of a name can be placed, UTC; None where the name had no bar."""
        micros = int(self.until[place])
        return moment_of(micros) if micros else None

    @property
    def close(self) -> datetime | None:
        """When the session was over, UTC: the latest close of a name that had a bar in it; None where none had."""
        micros = int(self.bars[self.until > 0].max(initial=0))
        return moment_of(micros) if micros else None

    @property
    def last_cut_off(self) -> datetime | None:
        """The latest of the cut-offs; None where no name had a bar."""
        return max((one for place in range(len(self.names)) if (one := self.cut_off(place))), default=None)

    def of(self, units: Mapping[str, float], holds: str) -> FloatArray:
        """(names,) units of what a table `holds`, symbol by symbol; 0 for others.

        Raises `SettingsError` for a symbol that the book does not have.
        """
        for symbol in units:
            if symbol not in self.names:
                raise SettingsError(
                    f"{holds}: the book has no symbol {symbol!r}. {did_you_mean(symbol, self.names)} Leave out what is "
                    "not of this book."
                )
        return np.array([units.get(name, 0.0) for name in self.names], np.float64)

    def sized(self, held: FloatArray, capital: float, *, flatten: bool = False, without: Collection[str] = ()) -> Sized:
        """What to trade with so many units `held`, those of open orders among them, and so much money in all.

        The targets are the book's, in shares of `capital`. `flatten`: everything is closed. `without`: symbols that
        are not traded. Raises `SettingsError` for a holding without a price or a conversion rate, and for one that
        cannot be sold and of whose risk nothing is known.
        """
        view = self.view
        for place in np.flatnonzero((held != 0) & ~(view.price > 0)).tolist():
            name, known = self.names[place], self.price[place] > 0
            what = f"rate from {self.instruments.currency[place]} to {self.money.currency}" if known else "price"
            raise SettingsError(
                f"{name!r} is held, and there is no {what} of {self.day}: its value is not known. Bring the bars that "
                "lack with `gatecast update`."
            )
        named = np.isin(np.array(self.names, dtype=object), list(without))
        own = replace(
            view, equity=capital, held=held, least=least_units(held, self.lent, self.recalled),
            tradable=view.tradable & ~named, closing=view.closing | flatten,
        )  # fmt: skip
        return trades_of(own, self.sizing, self.size)

    def costs(self, units: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(names,) commission, half spread and impact expected of orders of so many units, in the book's currency.

        At the newest close, with the volume that is usual.
        """
        value = np.where(units != 0, np.abs(units) * np.nan_to_num(self.view.price), 0.0)
        return trading_costs(
            np.abs(units), value, self.instruments, self.money, self.rate, self.deviation, self.usual_deviation,
            self.volume,
        )  # fmt: skip


def moment_of(micros: int) -> datetime:
    """Microseconds since 1970 as a moment in UTC.

    >>> str(moment_of(1_000_000))
    '1970-01-01 00:00:01+00:00'
    """
    return EPOCH + timedelta(microseconds=micros)


def without_tables(money: MoneySettings) -> MoneySettings:
    """Settings of money without what no cost of an order reads."""
    plain: MoneySettings = money.replace(borrow=None, rates=None, contracts=None, rolls=None, currencies={})
    return plain


def micros_of(moments: Sequence[datetime | None]) -> IntArray:
    """Moments as microseconds since 1970, 0 for none.

    >>> micros_of([datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None]).tolist()
    [1000000, 0]
    """
    return np.array([0 if one is None else (one - EPOCH) // timedelta(microseconds=1) for one in moments], np.int64)
