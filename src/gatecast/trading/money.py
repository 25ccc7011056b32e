"""The account of a book: units held and cash, session by session, each kind of profit and cost apart.

An `Account` holds units of symbols, cash in the currency of the book, and money that is earned and not yet paid.
`book_session` takes it through one session: what happened since the last close is booked on what was held there, then
orders are filled, then all is valued at the close.

    equity     = cash + value of what is funded + money due
    equity now = before + gain + currency + dividend + carry + interest
                 - withheld - commission - spread - impact - borrow - funding

A symbol that is not funded (a future, a perpetual contract, a currency pair) has no value of its own: its gain is cash.
Results are before income tax. Nothing here decides: orders come from outside, and money that is not there is borrowed
at the rate of negative cash. An account whose equity is 0 or less is ruined; who decides has to stop.
"""

from __future__ import annotations

import gzip
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError, did_you_mean
from gatecast.market.actions import GIVES, GOES, with_terms
from gatecast.market.bars import UTC_TIME, session_date
from gatecast.market.classes import END_RETURN_OF_EXCHANGE, asset_class, class_by_name, currencies_of, rate_pair
from gatecast.market.given import conversion_of
from gatecast.trading.costs import BASIS_POINT, MoneySettings

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DAYS_OF_RATES = 360
"""Days of the year by which interest, borrowing and carry are counted (actual/360)."""
NEAR = 10
"""Days between a merger and the end of its symbol, within which they are one."""
LATE_DAYS = 400
"""Calendar days after its date up to which what an action gives is booked, once it is known."""
UNKNOWN_BENCHMARK = 0.02
"""Interest a year on cash without spread, where neither a series nor the settings say it."""
UNKNOWN_DEVIATION = 0.02
"""Standard deviation a session, for the impact of an order whose symbol has no forecast."""
WITH_VOLUME = ("equity", "etf")
"""Classes of which a symbol without a known volume counts as small: no short is assumed to be lent."""
CONTRACTS: dict[str, type[pl.DataType]] = {
    "symbol": pl.String, "multiplier": pl.Float64, "tick": pl.Float64, "currency": pl.String, "margin": pl.Float64,
    "last_trade": pl.Date,
}  # fmt: skip
"""Columns of a table of contracts; `last_trade` is empty for a series of several contracts, and for perpetual ones,
which have a further column `funding_hours`."""
ROLLS: dict[str, type[pl.DataType]] = {"symbol": pl.String, "date": pl.Date, "gap": pl.Float64}
"""Columns of a table of rolls: the first session of the new contract, and its close of the session before minus the old
one's; 0 in a series that was adjusted by differences."""


# ── what is traded ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Instruments:
    """What is fixed about the symbols of a book, each (symbols,); made by `Instruments.of`.

    Attributes
    ----------
    currency: of the prices; home: whether it is that of the book.
    multiplier: money that one unit gains when the price rises by 1.
    tick: least step of the price, 0 where there is none. margin: money a lot, 0 where there is none.
    lot: least units that can be traded, 0 for any fraction.
    funded: whether a purchase takes money. pair: whether it is a currency pair, which earns a carry.
    intervals: of funding a day, 0 for what has none.
    lendable, has_volume: whether shorts can be assumed to be lent, and whether its class has volumes.
    commission, half_spread: shares of the value traded. borrow: a fraction a year.
    end_return: of a long holding, where the symbol ends on unknown terms.
    """

    symbols: tuple[str, ...]
    currency: tuple[str, ...]
    home: BoolArray
    multiplier: FloatArray
    tick: FloatArray
    margin: FloatArray
    lot: FloatArray
    funded: BoolArray
    pair: BoolArray
    intervals: FloatArray
    lendable: BoolArray
    has_volume: BoolArray
    commission: FloatArray
    half_spread: FloatArray
    borrow: FloatArray
    end_return: FloatArray

    @classmethod
    def of(
        cls,
        classes: Mapping[str, str],
        settings: MoneySettings,
        *,
        contracts: pl.DataFrame | None = None,
        rolls: pl.DataFrame | None = None,
        currencies: Mapping[str, str] | None = None,
        exchanges: Mapping[str, str] | None = None,
        lots: Mapping[str, float] | None = None,
        last_bars: Mapping[str, date] | None = None,
    ) -> Instruments:
        """Symbols and their classes -> what is fixed about each, in the order of `classes`.

        Parameters
        ----------
        contracts: columns of `CONTRACTS`, of futures and perpetual contracts. rolls: columns of `ROLLS`.
        currencies: symbol -> currency of its prices; left out: the second one of a pair's name, else that of the book.
        exchanges: symbol -> exchange, for what a holder loses at an end on unknown terms.
        lots: symbol -> least units that can be traded; left out: 1, and any fraction of a coin.
        last_bars: symbol -> session of its last bar, so that a splice of contracts is seen.

        Raises `BarsError` for a future without a contract, a splice of contracts without dates of rolls, a table
        without its columns, and a multiplier out of range.

        >>> Instruments.of({"ES=F": "future"}, MoneySettings())
        Traceback (most recent call last):
            ...
        gatecast.errors.BarsError: 'ES=F' is a future: its money needs a row in the table of contracts (symbol, \
multiplier, tick, currency, margin, last_trade). Give the row, or leave the symbol out of the book; forecasts do \
without it.
        """
        contract = {row["symbol"]: row for row in rows_of(contracts, CONTRACTS, "contracts")}
        rolled = {row["symbol"] for row in rows_of(rolls, ROLLS, "rolls")}
        rows = []
        for symbol, name in classes.items():
            known, own = asset_class(name), contract.get(symbol)
            _refuse_unknown_terms(symbol, name, own, symbol in rolled, (last_bars or {}).get(symbol))
            funded, told = known.funded and own is None, own or {}
            hours = told.get("funding_hours")
            end = END_RETURN_OF_EXCHANGE.get((exchanges or {}).get(symbol, "")) if name == "equity" else None
            pair = currencies_of(symbol) if name == "fx" else None
            usual = pair[1] if pair else settings.currency
            currency = told.get("currency") or (currencies or {}).get(symbol, usual)
            rows.append({
                "currency": currency, "home": currency == settings.currency,
                "multiplier": told.get("multiplier", 1.0), "tick": told.get("tick") or 0.0,
                "margin": told.get("margin") or 0.0, "funded": funded, "pair": name == "fx" and own is None,
                "lot": (lots or {}).get(symbol, 0.0 if name == "crypto" and funded else 1.0),
                "intervals": 24 / hours if hours else 0.0, "lendable": known.lendable or not funded,
                "has_volume": name in WITH_VOLUME, "end_return": known.end_return if end is None else end,
                "commission": _bps(settings.commission_bps, known.commission_bps),
                "half_spread": _bps(settings.half_spread_bps, known.half_spread_bps),
                "borrow": _bps(settings.borrow_bps_per_year, known.borrow_bps_per_year) if funded else 0.0,
            })  # fmt: skip
        kinds = {one.name: bool if one.type == "BoolArray" else float for one in fields(cls)}
        names = [name for name in kinds if name not in ("symbols", "currency")]
        arrays: dict[str, Any] = {name: np.array([row[name] for row in rows], kinds[name]) for name in names}
        return cls(symbols=tuple(classes), currency=tuple(row["currency"] for row in rows), **arrays)

    def rate_pairs(self, classes: Sequence[str]) -> dict[str, int]:
        """Pair of currencies -> the place of the symbol whose price is its rate; `classes`: of the symbols."""
        rows = zip(self.symbols, classes, self.currency, self.pair, self.funded, strict=True)
        found = [
            (rate_pair(symbol, name, currency), place)
            for place, (symbol, name, currency, pair, funded) in enumerate(rows) if pair or funded
        ]  # fmt: skip
        return {name: place for name, place in reversed(found) if name is not None}

    def converters(self, classes: Sequence[str], book: str) -> NDArray[np.int64]:
        """(symbols,) the place of the symbol whose price values each in money of the book, -1 where none is needed.

        Raises `BarsError` for a currency without a pair with that of the book.
        """
        pairs = self.rate_pairs(classes)
        names = [conversion_of(currency, book, pairs)[0] for currency in self.currency]
        return np.array([-1 if name is None else pairs[name] for name in names], np.int64)

    @cached_property
    def places(self) -> dict[str, int]:
        """Symbol -> its place in all arrays."""
        return {symbol: place for place, symbol in enumerate(self.symbols)}

    def place(self, symbol: str) -> int:
        """The place of a symbol; `BarsError` for one that the book does not have."""
        try:
            return self.places[symbol]
        except KeyError:
            known = did_you_mean(symbol, self.symbols)
            raise BarsError(f"the book has no symbol {symbol!r}. {known}") from None

    def lot_values(self, price: FloatArray, rate: FloatArray | float = 1.0) -> FloatArray:
        """(symbols,) the value of one lot in the currency of the book; 0 where any fraction can be traded."""
        return self.lot * self.multiplier * price * rate

    def without_default_ends(self) -> Instruments:
        """The same with nothing lost where a symbol ends on unknown terms."""
        return replace(self, end_return=np.zeros(len(self.symbols)))


def _bps(own: float | None, of_class: float) -> float:
    return (of_class if own is None else own) * BASIS_POINT


def rows_of(table: pl.DataFrame | None, columns: Mapping[str, Any], holds: str) -> list[dict[str, Any]]:
    """The rows of a table of what it `holds`, as dictionaries. Raises `BarsError` for a column that is missing."""
    if table is None:
        return []
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise BarsError(
            f"a table of {holds} needs the columns {', '.join(columns)}; missing: {', '.join(missing)}; found: "
            f"{', '.join(table.columns)}."
        )
    return table.to_dicts()


def _refuse_unknown_terms(
    symbol: str, name: str, contract: Mapping[str, Any] | None, rolled: bool, last_bar: date | None
) -> None:
    """Raises `BarsError` for a future whose money cannot be counted."""
    if contract is None:
        if "future" in (name, class_by_name(symbol)):
            raise BarsError(
                f"{symbol!r} is a future: its money needs a row in the table of contracts ({', '.join(CONTRACTS)}). "
                "Give the row, or leave the symbol out of the book; forecasts do without it."
            )
        return
    multiplier = contract["multiplier"]
    if multiplier is None or not 1e-9 <= multiplier <= 1e9:
        raise BarsError(f"{symbol!r}: the multiplier of a contract is a number from 1e-9 to 1e9, got {multiplier}.")
    last = contract["last_trade"]
    if contract.get("funding_hours") or rolled or (last is not None and (last_bar is None or last_bar <= last)):
        return
    why = "has no last_trade" if last is None else f"trades until {last}, its bars go on to {last_bar}"
    raise BarsError(
        f"{symbol!r}: the contract {why}, so that its bars are a splice of several, and no roll is dated: their money "
        f"is refused. Give the table of rolls ({', '.join(ROLLS)}), or the bars of one contract."
    )


# ── what a session brings ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Dividend:
    """Money a unit, in the symbol's currency, earned by who held at the close before the session (the ex-date).

    `paid_on`: None: at once. `withheld`: share of it that a long holding does not get; None: that of the settings. A
    return of capital, or rights that are sold, has 0. `ex_date`: of one that became known after its session, earned by
    who held at the close before that date; None: the session.
    """

    symbol: str
    amount: float
    paid_on: date | None = None
    withheld: float | None = None
    ex_date: date | None = None


@dataclass(frozen=True)
class Exchange:
    """Of each unit held at the close before: `keep` units stay, `cash` is paid, `ratio` units of `into` are given.

    A split of two for one keeps 2; a spin-off keeps 1 and gives units; a merger keeps 0 and gives units, cash or both;
    a symbol that changes keeps 0 and gives 1. `into` that has no price before takes over what the old one was worth
    less cash, and 0 where the old one stays. `ex_date`: see `Dividend`; where the old one goes, what ended on unknown
    terms before is given for, too.
    """

    symbol: str
    keep: float = 0.0
    cash: float = 0.0
    into: str = ""
    ratio: float = 1.0
    ex_date: date | None = None


@dataclass(frozen=True)
class Roll:
    """The next contract of a future: its close of the session before minus the old one's."""

    symbol: str
    gap: float


@dataclass(frozen=True)
class End:
    """The end of a symbol; `value`: simple return on its last close, None where the terms are unknown.

    Unknown terms are the worse for the holder: the class's for a long holding, 0 for a short one. `vendor`: the source
    ended, not the symbol, which is sold at its last close and pays for it. A symbol that trades again after either is
    sold at its first fill, and what was booked is taken back. `at_close`: after the session's fill, on its close.
    """

    symbol: str
    value: float | None = None
    vendor: bool = False
    at_close: bool = False


Event = Dividend | Exchange | Roll | End


@dataclass(frozen=True)
class Session:
    """What one session brings, arrays (symbols,) in the order of the `Instruments`; None: nothing is known.

    Attributes
    ----------
    fill, close: prices in the symbol's currency, NaN without a bar; raw, so that dividends and splits are events.
    at_open: whether orders are filled at the open, else at the close. None: at the open.
    rate: money of the book for one unit of the symbol's currency, at the close. None: 1 where that is the book's.
    deviation, usual_deviation: forecast standard deviation a session, and its mean over 63 sessions.
    volume, usual_volume: money traded in the session, and its mean over 21, in the symbol's currency.
    carry: of a pair the interest rate of its first currency less that of its second, a fraction a year.
    funding: of a perpetual contract the sum of its rates since the last session, paid by the long side.
    borrow: fraction a year that a short pays. lent: whether shorts can be borrowed, 1 or 0, NaN where nobody says.
    recalled: whether lent units are wanted back; they are bought at the session's fill.
    benchmark: interest on cash without spread, a fraction a year. None: that of the settings.
    events: booked in this order on what was held at the close before.
    """

    day: date
    fill: FloatArray
    close: FloatArray
    at_open: BoolArray | None = None
    rate: FloatArray | None = None
    deviation: FloatArray | None = None
    usual_deviation: FloatArray | None = None
    volume: FloatArray | None = None
    usual_volume: FloatArray | None = None
    carry: FloatArray | None = None
    funding: FloatArray | None = None
    borrow: FloatArray | None = None
    lent: FloatArray | None = None
    recalled: BoolArray | None = None
    benchmark: float | None = None
    events: tuple[Event, ...] = ()


def events_of(
    actions: pl.DataFrame,
    sessions: Sequence[date],
    ends: pl.DataFrame | None = None,
    rolls: pl.DataFrame | None = None,
    closes: Sequence[datetime] | None = None,
    first: Sequence[datetime] | None = None,
) -> dict[date, tuple[Event, ...]]:
    """A table of actions (`market.actions`) -> session -> the events that are booked in it, for raw bars.

    `sessions`: rising. An action is booked in the first session at or after its date, a delisting in the first after
    it; what comes after the last session is left out. `first`, `closes`: the first and the last close of each session,
    UTC. No action but a split is booked before the session by whose first close it is known, so that it is the same
    session after whichever of its closes a store decides; where that is later, who held before its date is paid.
    Splits come first, ends last. A `unit` is no event: prices are in one unit. `ends`: those that
    `market.facts.Facts.ends` finds, booked in the session by whose last close each is known, in place of the
    delistings of the table. An end that is that of a merger or of a change of symbol is none. `rolls`: columns of
    `ROLLS`.

    >>> table = pl.DataFrame({"symbol": ["A"], "kind": ["split"], "date": [date(2024, 1, 6)], "value": [2.0]})
    >>> table = table.with_columns(known_at=None)
    >>> events_of(table, [date(2024, 1, 5), date(2024, 1, 8)])
    {datetime.date(2024, 1, 8): (Exchange(symbol='A', keep=2.0, cash=0.0, into='', ratio=1.0, ex_date=None),)}
    """
    rows = with_terms(actions).sort("date", "symbol", "kind").to_dicts()
    gone = [(row["symbol"], row["date"]) for row in rows if row["kind"] in GOES]
    splits = [(row["symbol"], row["date"], row["value"]) for row in rows if row["kind"] == "split"]
    booked: list[tuple[date, int, Event, datetime | None]] = [
        (row["date"], 1, Roll(row["symbol"], row["gap"]), None) for row in rows_of(rolls, ROLLS, "rolls")
    ]
    for row in rows:
        if row["kind"] == "split":
            booked.append((row["date"], 0, _event_of(row), None))  # prices are on one level, whoever knew it
        elif row["kind"] == "delisting":
            if ends is None:
                booked.append((row["date"] + timedelta(days=1), 2, End(row["symbol"], row["value"]), row["known_at"]))
        elif row["kind"] != "unit":
            booked.append((row["date"], 1, _event_of(row), row["known_at"]))
    if ends is not None:
        told = ends.select(
            "symbol", "kind", "value", day=session_date(pl.col("time")), at=pl.col("time").cast(UTC_TIME)
        )
        for symbol, kind, value, day, at in told.sort("day", "symbol").iter_rows():
            booked.append((day, 2, End(symbol, value if kind == "known" else None, kind == "vendor"), at))
    found: dict[date, list[tuple[int, Event]]] = {}
    for day, rank, event, known_at in booked:
        place = in_time = bisect_left(sessions, day)
        by = closes if isinstance(event, End) or first is None else first
        if by is not None and known_at is not None:
            place = max(place, bisect_left(by, known_at))
        if in_time < place < len(sessions):
            event = _late(event, day, sessions[place], splits)
        merged = isinstance(event, End) and not event.vendor and event.value is not None
        if merged and any(event.symbol == symbol and abs(day - then).days <= NEAR for symbol, then in gone):
            continue
        if place < len(sessions):
            found.setdefault(sessions[place], []).append((rank, event))
    return {day: tuple(one for _, one in sorted(events, key=itemgetter(0))) for day, events in sorted(found.items())}


def _event_of(row: Mapping[str, Any]) -> Event:
    symbol, kind, value, into = row["symbol"], row["kind"], row["value"], row["into"] or ""
    if kind == "split":
        return Exchange(symbol, keep=value)
    if kind == "merger":
        return Exchange(symbol, cash=value, into=into, ratio=row["ratio"] or 1.0)
    if kind in GIVES:
        return Exchange(symbol, keep=0.0 if kind in GOES else 1.0, into=into, ratio=value)
    taxed = kind in ("dividend", "special_dividend")
    return Dividend(symbol, value, row["pay_date"], None if taxed else 0.0)


def _late(event: Event, day: date, booked: date, splits: Sequence[tuple[str, date, float]]) -> Event:
    """An event of a day that became known later, as it is booked: of the units held before the day.

    What is given is given in units of the session in which it is booked.
    """
    if isinstance(event, Dividend):
        return replace(event, ex_date=day)
    if not isinstance(event, Exchange):
        return event
    since = (value for symbol, split, value in splits if symbol == event.into and day < split <= booked)
    return replace(event, ex_date=day, ratio=event.ratio * math.prod(since))


# ── the account ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Account:
    """What a book holds at a close, arrays (symbols,).

    `price` in the symbol's currency and `rate` to the book's are those of the newest close, NaN before the first.
    `due`: money of the book that is earned and will be paid, by day. `parked` units ended on unknown terms, of which
    `parked_value` was booked. `day`: the session, None before the first. `changes` of units, oldest first: a date, the
    place of a symbol, and the units that what it gives up to that date is earned by; those of the last `LATE_DAYS`.
    """

    cash: float
    units: FloatArray
    price: FloatArray
    rate: FloatArray
    parked: FloatArray
    parked_value: FloatArray
    due: tuple[tuple[date, float], ...] = ()
    day: date | None = None
    changes: tuple[tuple[date, int, float], ...] = ()

    @classmethod
    def opened(cls, cash: float, symbols: int) -> Account:
        """An account of cash alone, for so many symbols."""
        nothing, unknown = np.zeros(symbols), np.full(symbols, np.nan)
        return cls(cash, nothing, unknown, unknown, nothing, nothing)

    def exposure(self, instruments: Instruments) -> FloatArray:
        """(symbols,) the value of what is held, in the currency of the book, negative where it is short."""
        value = self.units * instruments.multiplier * self.price * self.rate
        return np.asarray(np.where(self.units == 0, 0.0, value), np.float64)

    def equity(self, instruments: Instruments) -> float:
        """Cash, what is funded at its newest price, and money due."""
        value = float(self.exposure(instruments)[instruments.funded].sum())
        return self.cash + value + sum(money for _, money in self.due)

    def units_before(self, place: int, ex_date: date) -> float:
        """Units of a symbol that were held at the close before a date; 0 where nobody knows, `LATE_DAYS` later."""
        if self.day is not None and ex_date <= self.day - timedelta(days=LATE_DAYS):
            return 0.0
        since = (units for until, of, units in self.changes if of == place and until >= ex_date)
        return next(since, float(self.units[place]))

    def margin(self, instruments: Instruments) -> float:
        """Cash that is tied up by contracts, in the currency of the book."""
        rate = np.where(self.units == 0, 0.0, self.rate)
        return float(np.sum(np.abs(self.units) * instruments.margin * rate))


@dataclass(frozen=True)
class Booked:
    """What a session did to an account, in the currency of the book; arrays (symbols,).

    Gains are signed as they change the equity, costs are positive where they are paid. `gain` is that of prices,
    `currency` that of conversion rates on what is funded. `units`: what was filled of the orders, `traded` its value,
    rolls included. `lag`: what the orders would have saved at the close before; it is part of the gain, no cost.
    `late`: what actions of sessions before gave, which became known since; it is part of dividends and gains.
    """

    day: date
    before: float
    equity: float
    interest: float
    gain: FloatArray
    currency: FloatArray
    dividend: FloatArray
    carry: FloatArray
    withheld: FloatArray
    commission: FloatArray
    spread: FloatArray
    impact: FloatArray
    borrow: FloatArray
    funding: FloatArray
    units: FloatArray
    traded: FloatArray
    lag: FloatArray
    late: float = 0.0

    @property
    def net(self) -> FloatArray:
        """(symbols,) gains less costs, without interest."""
        earned = self.gain + self.currency + self.dividend + self.carry
        return earned - self.cost - self.borrow - self.funding - self.withheld

    @property
    def cost(self) -> FloatArray:
        """(symbols,) what trading cost."""
        return self.commission + self.spread + self.impact

    @property
    def difference(self) -> float:
        """The equity less what it should be: 0 but for rounding."""
        return self.equity - (self.before + float(self.net.sum()) + self.interest)


def to_frame(booked: Sequence[Booked]) -> pl.DataFrame:
    """Sessions of an account -> a frame, one row a session: day, before, equity, interest, and all else summed.

    >>> to_frame([]).columns[:6]
    ['day', 'before', 'equity', 'interest', 'gain', 'currency']
    """
    names = [one.name for one in fields(Booked) if one.name != "units"]
    schema = {name: pl.Date if name == "day" else pl.Float64 for name in names}
    single = ("day", "before", "equity", "interest", "late")
    columns = {
        name: [getattr(one, name) if name in single else float(getattr(one, name).sum()) for one in booked]
        for name in names
    }
    return pl.DataFrame(columns, schema=schema)


def book_session(
    account: Account, session: Session, orders: FloatArray, instruments: Instruments, settings: MoneySettings
) -> tuple[Account, Booked]:
    """An account, a session and orders (symbols,) in units -> the account at the session's close, and what was booked.

    Orders are in units of the close before; a split changes them with what is held. An order without a bar, or of a
    symbol that has ended, is not filled; a short that cannot be borrowed is cut; what is recalled is bought. Raises
    `BarsError` where the conversion rate of what is held or traded is missing, for an order that is no number, for an
    event of a symbol that the book does not have, and for a session that is not after the account's.
    """
    if not np.isfinite(orders).all():
        place = int(np.flatnonzero(~np.isfinite(orders))[0])
        raise BarsError(f"an order is a number of units; that of {instruments.symbols[place]!r} is {orders[place]}.")
    if account.day is not None and session.day <= account.day:
        raise BarsError(f"the account stands at {account.day}: a session after it is expected, got {session.day}.")
    work = _Work(account, session, np.array(orders, np.float64), instruments, settings)
    work.revalue()
    work.pass_nights()
    late = [event for event in session.events if isinstance(event, End) and event.at_close]
    for event in session.events:
        if event not in late:
            work.book(event)
    work.take_back_ends()
    work.fill()
    for event in late:
        work.book(event)
    return work.closed()


class _Work:
    """An account on its way through one session; all arrays (symbols,)."""

    def __init__(
        self, account: Account, session: Session, orders: FloatArray, instruments: Instruments, settings: MoneySettings
    ) -> None:
        self.account, self.session, self.orders = account, session, orders
        self.instruments, self.settings = instruments, settings
        self.count = len(instruments.symbols)
        self.cash, self.units, self.price = account.cash, account.units.copy(), account.price.copy()
        self.parked, self.parked_value = account.parked.copy(), account.parked_value.copy()
        self.due, self.entitled = list(account.due), account.units.copy()
        self.changes = [one for one in account.changes if one[0] > session.day - timedelta(days=LATE_DAYS)]
        rate = np.where(instruments.home, 1.0, np.nan) if session.rate is None else session.rate
        active = (account.units != 0) | (orders != 0) | (account.parked != 0)
        self.rate = np.where(np.isnan(rate) & ~active, account.rate, rate)
        for place in np.flatnonzero(active).tolist():
            self.rate_of(place)
        zeros = [np.zeros(self.count) for _ in range(13)]
        self.gain, self.currency, self.dividend, self.carry, self.withheld, self.commission, *zeros = zeros
        self.spread, self.impact, self.borrow, self.funding, self.filled, self.traded, self.lag = zeros
        self.interest, self.late, self.ended = 0.0, 0.0, np.zeros(self.count, np.bool_)

    def rate_of(self, place: int) -> float:
        """The conversion rate of a symbol that is held, traded or given. Raises `BarsError` where it is missing."""
        rate = float(self.rate[place])
        if not 0 < rate < math.inf:
            symbol, own = self.instruments.symbols[place], self.instruments.currency[place]
            raise BarsError(
                f"{symbol!r} on {self.session.day}: no rate from {own} to {self.settings.currency}, got {rate:g}: its "
                "money cannot be counted. Give the rate of that session, or leave the symbol out of the book."
            )
        return rate

    def value(self) -> FloatArray:
        """What is held at the price before, in the currency of the book."""
        value = self.units * self.instruments.multiplier * self.price * self.rate
        return np.asarray(np.where(self.units == 0, 0.0, value), np.float64)

    def receive(self, money: float, day: date | None = None) -> None:
        """Money in the currency of the book, now or on a day."""
        if day is None or day <= self.session.day:
            self.cash += money
        elif money:
            self.due.append((day, money))

    # ── before the fill ──

    def revalue(self) -> None:
        """What is funded moves with the conversion rates."""
        move = self.value() - self.account.exposure(self.instruments)
        self.currency += np.where(self.instruments.funded, move, 0.0)

    def pass_nights(self) -> None:
        """Interest, borrowing, carry and money due, for the nights since the account's session."""
        due, self.due = self.due, []
        for day, money in due:
            self.receive(money, day)
        if self.account.day is None:
            return
        settings, instruments, session = self.settings, self.instruments, self.session
        days = (session.day - self.account.day).days
        usual = UNKNOWN_BENCHMARK if settings.benchmark_rate is None else settings.benchmark_rate
        benchmark = usual if session.benchmark is None else session.benchmark
        self.interest = interest_of(self.account.cash, benchmark, days, settings)
        value = self.value()
        rate = instruments.borrow
        if session.borrow is not None:
            rate = np.where(np.isnan(session.borrow) | ~instruments.funded, rate, session.borrow)
        self.borrow += np.maximum(-value, 0.0) * settings.borrow_collateral * rate * days / DAYS_OF_RATES
        nights = carry_nights(self.account.day, session.day)
        worst = -settings.unknown_carry * np.abs(value)
        earned = worst if session.carry is None else np.where(np.isnan(session.carry), worst, session.carry * value)
        self.carry += np.where(instruments.pair, earned * nights / DAYS_OF_RATES, 0.0)
        self.cash += self.interest - float(self.borrow.sum()) + float(self.carry.sum())

    def book(self, event: Event) -> None:
        """An event, on what was held at the close before."""
        place = self.instruments.place(event.symbol)
        units = float(self.units[place])
        if isinstance(event, Exchange):
            self.exchange(place, event)
        elif isinstance(event, End):
            self.end(place, event)
        elif isinstance(event, Dividend):
            units = self.earning(place, event)
            if units == 0:
                return
            money = units * event.amount * self.rate_of(place)
            share = self.settings.withholding if event.withheld is None else event.withheld
            withheld = max(money, 0.0) * share
            self.dividend[place] += money
            self.withheld[place] += withheld
            self.late += money - withheld if event.ex_date else 0.0
            self.receive(money - withheld, event.paid_on)
        else:
            old = self.value()[place]
            self.price[place] += event.gap
            for value in (old, self.value()[place]):
                self.charge(place, abs(units), abs(value))

    def earning(self, place: int, event: Dividend | Exchange) -> float:
        """The units that what an event gives is counted by."""
        return float(self.units[place]) if event.ex_date is None else self.account.units_before(place, event.ex_date)

    def exchange(self, place: int, event: Exchange) -> None:
        if event.keep == 0:
            self.take_back(place)
        units, price = float(self.units[place]), float(self.price[place])
        earning = self.earning(place, event) if event.keep > 0 else units
        self.units[place] = units * event.keep
        if event.keep > 0:
            self.price[place] = price / event.keep
            self.orders[place] *= event.keep
            if units != 0 and event.keep != 1 and self.account.day is not None:
                self.changes.append((self.account.day, place, units))
            self.entitled[place] *= event.keep
        else:
            self.ended[place] = True
        if event.into:
            into = self.instruments.place(event.into)
            if math.isnan(self.price[into]):
                self.price[into] = 0.0 if event.keep > 0 else max(price - event.cash, 0.0) / event.ratio
        if units == earning == 0:
            return
        new = earning * event.cash * self.rate_of(place)
        self.receive(new)
        if event.keep > 0:
            new += units * price * float(self.instruments.multiplier[place]) * self.rate_of(place)
        if event.into:
            given = earning * event.ratio
            self.units[into] += given
            new += given * float(self.price[into]) * float(self.instruments.multiplier[into]) * self.rate_of(into)
        old = units * price * float(self.instruments.multiplier[place]) * self.rate_of(place)
        self.gain[place] += new - old
        self.late += new - old if event.ex_date and event.keep > 0 else 0.0

    def end(self, place: int, event: End) -> None:
        self.ended[place] = True
        units, value = float(self.units[place]), float(self.value()[place])
        if event.value is not None and not event.vendor:
            self.parked[place] = self.parked_value[place] = 0.0  # what was booked before on unknown terms is final
        if units == 0:
            return
        worst = float(self.instruments.end_return[place]) if units > 0 else 0.0
        gain = 0.0 if event.vendor else value * (worst if event.value is None else event.value)
        self.gain[place] += gain
        self.cash += gain + (value if self.instruments.funded[place] else 0.0)
        self.units[place] = 0.0
        if event.vendor:
            self.charge(place, abs(units), abs(value))
        if event.vendor or event.value is None:
            self.parked[place], self.parked_value[place] = units, value + gain

    def take_back_ends(self) -> None:
        """What ended on unknown terms and trades again is sold at the fill, in place of what was booked."""
        for place in np.flatnonzero((self.parked != 0) & self.trades()).tolist():
            units, fill = float(self.parked[place]), float(self.session.fill[place])
            value = units * fill * float(self.instruments.multiplier[place]) * self.rate_of(place)
            gain = value - float(self.parked_value[place])
            self.gain[place] += gain
            self.cash += gain
            self.charge(place, abs(units), abs(value))
            self.parked[place] = self.parked_value[place] = 0.0

    def take_back(self, place: int) -> None:
        """What ended on unknown terms is held again at its last close, in place of what was booked."""
        units, booked = float(self.parked[place]), float(self.parked_value[place])
        if units == 0:
            return
        self.parked[place] = self.parked_value[place] = 0.0
        self.units[place] += units
        value = units * float(self.price[place]) * float(self.instruments.multiplier[place]) * self.rate_of(place)
        self.gain[place] += value - booked
        self.cash -= booked

    def charge(self, place: int, units: float, value: float) -> None:
        """What it costs to trade units of one symbol, worth so much; paid at once."""
        one = np.zeros(self.count)
        one[place] = 1.0
        self.pay(one * units, one * value)

    # ── the fill ──

    def trades(self) -> BoolArray:
        """Whether an order can be filled: not where nobody traded."""
        there = np.isfinite(self.session.fill) & np.isfinite(self.session.close) & ~self.ended
        return there if self.session.volume is None else there & (self.session.volume != 0)

    def filled_units(self) -> FloatArray:
        """The orders, as far as they can be filled."""
        session, instruments = self.session, self.instruments
        after = self.units + self.orders
        recalled = np.zeros(self.count, np.bool_) if session.recalled is None else session.recalled & instruments.funded
        lent = self.lent() & ~recalled
        after = np.where(lent, after, np.maximum(after, np.minimum(self.units, 0.0)))
        after = np.where(recalled, np.maximum(after, 0.0), after)
        return np.asarray(np.where(self.trades(), after - self.units, 0.0), np.float64)

    def lent(self) -> BoolArray:
        """Whether units can be sold short."""
        usual = self.session.usual_volume
        value = None if usual is None else usual * self.rate
        return can_be_lent(self.instruments, self.settings, value, self.session.lent)

    def fill(self) -> None:
        """Orders are filled, and all is valued at the close."""
        session, instruments = self.session, self.instruments
        self.filled = self.filled_units()
        there = np.isfinite(session.close)
        close = np.where(there, session.close, self.price)
        fill = np.where(there & np.isfinite(session.fill), session.fill, close)
        before = np.where(np.isnan(self.price), fill, self.price)
        held, after = self.units, self.units + self.filled
        active = (held != 0) | (after != 0)
        unit = np.where(active, instruments.multiplier * self.rate, 0.0)
        before, fill, last = (np.where(active, one, 0.0) for one in (before, fill, close))
        move = (held * (fill - before) + after * (last - fill)) * unit
        value = self.filled * fill * unit
        self.gain += move
        self.lag += self.filled * (fill - before) * unit
        self.pay_funding(held * before * unit, after * fill * unit)
        self.cash += float(np.where(instruments.funded, -value, move).sum())
        self.pay(np.abs(self.filled), np.abs(value))
        self.units, self.price = after, close

    def pay_funding(self, held: FloatArray, after: FloatArray) -> None:
        """Funding of perpetual contracts, on the value held while it was fixed."""
        session, instruments = self.session, self.instruments
        perpetual = instruments.intervals > 0
        if not perpetual.any():
            return
        at_open = np.ones(self.count, np.bool_) if session.at_open is None else session.at_open
        base = np.where(at_open, after, held)
        days = 0 if self.account.day is None else (session.day - self.account.day).days
        worst = np.maximum(base, 0.0) * self.settings.unknown_funding * instruments.intervals * days
        paid = worst if session.funding is None else np.where(np.isnan(session.funding), worst, session.funding * base)
        self.funding += np.where(perpetual, paid, 0.0)
        self.cash -= float(self.funding.sum())

    def pay(self, units: FloatArray, value: FloatArray) -> None:
        """What it costs to trade so many units of each symbol, worth so much; units and value at or above 0."""
        commission, spread, impact = trading_costs(
            units, value, self.instruments, self.settings, self.rate, self.session.deviation,
            self.session.usual_deviation, self.session.volume,
        )  # fmt: skip
        self.commission += commission
        self.spread += spread
        self.impact += impact
        self.traded += value
        self.cash -= float((commission + spread + impact).sum())

    def closed(self) -> tuple[Account, Booked]:
        """The account at the close, and what was booked."""
        changed = np.flatnonzero(self.units != self.entitled).tolist()
        changes = (*self.changes, *((self.session.day, place, float(self.entitled[place])) for place in changed))
        after = Account(
            self.cash, self.units, self.price, self.rate, self.parked, self.parked_value, tuple(self.due),
            self.session.day, changes,
        )  # fmt: skip
        booked = Booked(
            self.session.day, self.account.equity(self.instruments), after.equity(self.instruments), self.interest,
            self.gain, self.currency, self.dividend, self.carry, self.withheld, self.commission, self.spread,
            self.impact, self.borrow, self.funding, self.filled, self.traded, self.lag, self.late,
        )  # fmt: skip
        return after, booked


# ── single rules ──────────────────────────────────────────────────────────────────────────────────


def can_be_lent(
    instruments: Instruments, settings: MoneySettings, usual_volume: FloatArray | None, told: FloatArray | None = None
) -> BoolArray:
    """(symbols,) whether units can be sold short; what takes no money always can.

    `told`: 1 or 0, NaN where nobody says. There it is assumed by the class and `usual_volume`, the mean value traded a
    session in the currency of the book (NaN where it is not known).
    """
    assumed = instruments.lendable & ~instruments.has_volume
    if usual_volume is not None:
        known, large = ~np.isnan(usual_volume), usual_volume >= settings.least_lent_volume
        assumed = instruments.lendable & np.where(known, large, ~instruments.has_volume)
    if told is not None:
        assumed = np.where(np.isnan(told), assumed, told > 0)
    return np.asarray(assumed | ~instruments.funded, np.bool_)


def trading_costs(
    units: FloatArray,
    value: FloatArray,
    instruments: Instruments,
    settings: MoneySettings,
    rate: FloatArray | float = 1.0,
    deviation: FloatArray | None = None,
    usual_deviation: FloatArray | None = None,
    volume: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Commission, half spread and impact of orders, (symbols,) each, in the currency of the book.

    `units` and `value` (in the currency of the book) of the orders, at or above 0; the rest as in `Session`. The
    commission of an order is at least the minimum. The spread widens with the forecast deviation over its mean, and
    does not become narrower. Without a volume the order is taken to be `unknown_share_of_volume` of one, or, of a class
    that has volumes, `unknown_share_of_small`.
    """
    traded = units > 0
    commission = value * instruments.commission
    if settings.commission_per_unit is not None:
        commission = units * settings.commission_per_unit * rate
    commission = np.where(traded, np.maximum(commission, settings.commission_minimum), 0.0)
    wider = np.ones(len(units))
    if deviation is not None and usual_deviation is not None:
        ratio = np.divide(deviation, usual_deviation, out=np.ones(len(units)), where=usual_deviation > 0)
        wider = np.fmax(ratio, 1.0)
    spread = value * instruments.half_spread * wider
    sigma = np.full(len(units), UNKNOWN_DEVIATION)
    if deviation is not None:
        sigma = np.where(np.isnan(deviation), sigma, deviation)
    share = np.where(instruments.has_volume, settings.unknown_share_of_small, settings.unknown_share_of_volume)
    if volume is not None:
        money = volume * rate
        np.divide(value, money, out=share, where=money > 0)
    impact = settings.impact * market_impact(value, share, sigma)
    return (
        np.asarray(np.where(traded, commission, 0.0), np.float64),
        np.asarray(np.where(traded, spread, 0.0), np.float64),
        np.asarray(np.where(traded, impact, 0.0), np.float64),
    )


def margin_shares(instruments: Instruments, price: FloatArray) -> FloatArray:
    """(symbols,) the margin of a holding as a share of its value; `price` in the symbol's currency, NaN where unknown.

    >>> table = {"symbol": ["A"], "multiplier": [50.0], "tick": [0.25], "currency": ["USD"], "margin": [12500.0]}
    >>> last = pl.DataFrame({**table, "last_trade": [date(2024, 6, 21)]})
    >>> own = Instruments.of({"A": "future"}, MoneySettings(), contracts=last, last_bars={"A": date(2024, 6, 3)})
    >>> margin_shares(own, np.array([5000.0])).tolist()
    [0.05]
    """
    value = instruments.multiplier * price
    return np.divide(instruments.margin, value, out=np.zeros(len(value)), where=(instruments.margin > 0) & (value > 0))


def market_impact(value: Any, share: Any, deviation: Any) -> Any:
    """Cost of an order by its value, its share of the session's volume and the deviation of returns a session.

    The square root law σ |x| sqrt(x / V) = σ |x|^1.5 / sqrt(V). Sato and Kanazawa (2024), arXiv 2411.13965.

    >>> round(market_impact(1e6, 1e6 / 1e8, 0.02), 6)
    2000.0
    """
    return deviation * value * share**0.5


def interest_of(cash: float, benchmark: float, days: int, settings: MoneySettings) -> float:
    """Interest on cash for so many calendar days, in its unit; negative where cash is.

    >>> round(interest_of(-0.6, 0.0533, 1, MoneySettings()), 10)
    -0.0001138333
    """
    credit = max(benchmark - settings.credit_spread, 0.0)
    return cash * (benchmark + settings.debit_spread if cash < 0 else credit) * days / DAYS_OF_RATES


def carry_nights(since: date, until: date) -> int:
    """Nights of interest that a currency pair held from one day to another earns: three for that of a Wednesday.

    The nights after weekdays count, that of a Wednesday for the weekend, as spot is settled two days later.

    >>> [carry_nights(date(2024, 1, day), date(2024, 1, day + 1)) for day in range(1, 8)]
    [1, 1, 3, 1, 1, 0, 0]
    """
    nights = (since + timedelta(days=number) for number in range((until - since).days))
    return sum((1, 1, 3, 1, 1, 0, 0)[night.weekday()] for night in nights)


def earned_on_cash(days: Sequence[date], rates: FloatArray) -> FloatArray:
    """(days,) simple return of cash since the day before, 0 on the first, from the interest a year at each.

    >>> earned_on_cash([date(2024, 1, 5), date(2024, 1, 8)], np.array([0.036, 0.036])).round(6).tolist()
    [0.0, 0.0003]
    """
    dates = np.array(days, dtype="datetime64[D]")
    nights = np.diff(dates, prepend=dates[:1]).astype(np.float64)
    return np.asarray(rates * nights / DAYS_OF_RATES, np.float64)


def cash_rates(days: Sequence[date]) -> FloatArray:
    """(days,) interest a year on bills of one month, known at each day: Kenneth French's, and their last one after.

    The months from July 1926 to November 2018 that `arch` ships, a month's rate twelve times; `benchmark_rate` of the
    settings is for other currencies. Before the first month its rate.

    >>> cash_rates([date(2008, 10, 1), date(2024, 1, 2)]).round(4).tolist()
    [0.0096, 0.0216]
    """
    months, rates = _bills()
    wanted = np.array([100 * day.year + day.month for day in days], np.int64)
    place = np.clip(np.searchsorted(months, wanted, side="right") - 1, 0, len(months) - 1)
    return np.asarray(rates[place] * 12 / 100, np.float64)


@cache
def _bills() -> tuple[NDArray[np.int64], FloatArray]:
    """(months,) year times 100 and month, and the rate of one-month bills in per cent a month.

    Read from the table that `arch` ships, without the package, which takes a second to start.
    """
    found = find_spec("arch")
    assert found is not None
    assert found.origin is not None
    packed = Path(found.origin).parent / "data" / "frenchdata" / "frenchdata.csv.gz"
    table = pl.read_csv(gzip.decompress(packed.read_bytes()), columns=["Date", "RF"])
    return table["Date"].cast(pl.Int64).to_numpy(), table["RF"].cast(pl.Float64).to_numpy()
