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

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError
from gatecast.trading.charges import (
    DAYS_OF_RATES,
    UNKNOWN_BENCHMARK,
    can_be_lent,
    carry_nights,
    interest_of,
    trading_costs,
)
from gatecast.trading.costs import MoneySettings
from gatecast.trading.events import Dividend, End, Event, Exchange, Session
from gatecast.trading.instruments import Instruments

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
LATE_DAYS = 400
"""Calendar days after its date up to which what an action gives is booked, once it is known."""


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
