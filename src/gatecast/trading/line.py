"""One line of the book: its state, and what the close of a session brings -> the state after it, and what was decided.

A session costs as much as there are pairs of names, however long the history is. A later part of the sessions goes on
from the state of the earlier part, to the bit; a name that joins changes nothing before it is there.

    decided at a session's close      filled at the next session's open or close      valued at its close
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import repeat
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gatecast.samples.targets import DECAY
from gatecast.trading.charges import UNKNOWN_DEVIATION, margin_shares
from gatecast.trading.costs import MoneySettings
from gatecast.trading.covariance import (
    Correlations,
    book_variance,
    covariance_of,
    places_of,
    running_sums,
    spiked,
)
from gatecast.trading.events import Dividend, Exchange, Session
from gatecast.trading.instruments import Instruments
from gatecast.trading.money import LATE_DAYS, Account, Booked, book_session
from gatecast.trading.sizing import BookSettings, BookState, BookView, Finding, trades_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

LEAST_RETURNS = 22
"""Returns of a name before its past deviation is known."""


@dataclass(frozen=True)
class Squares:
    """Exponential mean of squared returns of names, decay .94 a return; `total`, `weight`, `count`: (names,) each.

    >>> squares = Squares.start(1)
    >>> for _ in range(22):
    ...     squares = squares.after(np.array([0.01]))
    >>> squares.deviation.round(6).tolist()
    [0.01]
    """

    total: FloatArray
    weight: FloatArray
    count: FloatArray

    @classmethod
    def start(cls, count: int) -> Self:
        """Of so many names, before the first session."""
        return cls(np.zeros(count), np.zeros(count), np.zeros(count))

    def after(self, returns: FloatArray) -> Self:
        """One session later; `returns`: (names,) simple, NaN where there is none, which is no step."""
        there = np.isfinite(returns)
        square = np.where(there, returns, 0.0) ** 2
        return type(self)(
            np.where(there, self.total * DECAY + square, self.total),
            np.where(there, self.weight * DECAY + 1.0, self.weight), self.count + there,
        )  # fmt: skip

    @property
    def deviation(self) -> FloatArray:
        """(names,) root of the mean; NaN before 22 returns."""
        mean = np.divide(self.total, self.weight, out=np.full_like(self.total, np.nan), where=self.weight > 0)
        return np.asarray(np.where(self.count >= LEAST_RETURNS, np.sqrt(mean), np.nan), np.float64)


@dataclass(frozen=True)
class Learned:
    """What is known of returns after a session, whatever is held: it follows from returns and forecasts alone.

    `correlations`, `squares`: of returns so far. `ahead`: (names,) newest forecast deviation; `scale`: (names,) that by
    which the next return is measured. Lines with the same forecasts share it, see `lines.learned_of`.
    """

    correlations: Correlations
    squares: Squares
    ahead: FloatArray
    scale: FloatArray

    @classmethod
    def start(cls, names: Sequence[str], classes: Sequence[str]) -> Self:
        """Before the first session."""
        unknown = np.full(len(names), np.nan)
        return cls(Correlations.start(names, classes), Squares.start(len(names)), unknown, unknown)

    def after(self, returns: FloatArray, deviations: FloatArray) -> Self:
        """One session later; `returns`, `deviations`: see `Close`."""
        correlations, squares = self.correlations.after(returns, self.scale), self.squares.after(returns)
        told = np.isfinite(deviations)
        return type(self)(
            correlations, squares, np.where(told, deviations, self.ahead),
            np.where(told, deviations, squares.deviation),
        )  # fmt: skip

    def correlation_of(self, deviation: FloatArray) -> tuple[FloatArray, IntArray]:
        """(names, names) correlations, NaN where a name has no deviation, and the places of the others."""
        which = np.flatnonzero(deviation > 0)
        correlation = np.full((len(deviation), len(deviation)), np.nan)
        correlation[np.ix_(which, which)] = self.correlations.correlation(which)
        return correlation, which

    @cached_property
    def correlation(self) -> tuple[FloatArray, IntArray]:
        """`correlation_of` the newest forecasts."""
        return self.correlation_of(self.ahead)


@dataclass(frozen=True)
class Past:
    """What is known of returns `before` a session, the `first`, and after it and each that follows: what
    `Learned.after` says session by session, to the bit, found for all of them at once.

    `correlations`, `squares`, `ahead`, `scale`: as in `Learned`, each array with the sessions as its first axis.
    """

    first: int
    before: Learned
    correlations: Correlations
    squares: Squares
    ahead: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, before: Learned, returns: FloatArray, deviations: FloatArray, first: int) -> Self:
        """`returns`, `deviations`: (sessions, names), see `Close`, of the sessions from place `first` on."""
        there, told = np.isfinite(returns), np.isfinite(deviations)
        decay, old = np.where(there, DECAY, 1.0), before.squares
        squares = Squares(
            running_sums(old.total, np.where(there, returns, 0.0) ** 2, decay),
            running_sums(old.weight, there, decay),
            running_sums(old.count, there, repeat(1.0)),
        )
        newest = np.maximum.accumulate(np.where(told, np.arange(1, len(told) + 1)[:, None], 0), axis=0)
        ahead = np.take_along_axis(np.vstack([before.ahead, deviations]), newest, axis=0)
        scale = np.where(told, deviations, squares.deviation)
        correlations = before.correlations.after_each(returns, np.vstack([before.scale, scale])[:-1])
        return cls(first, before, correlations, squares, ahead, scale)

    @property
    def end(self) -> int:
        """The place after the last of the sessions."""
        return self.first + len(self.ahead)

    def after(self, place: int) -> Learned:
        """What is known after the session at a place."""
        at = place - self.first
        made = Learned(
            self.correlations.at(at),
            Squares(self.squares.total[at], self.squares.weight[at], self.squares.count[at]),
            self.ahead[at], self.scale[at],
        )  # fmt: skip
        if "correlation" in vars(self):
            vars(made)["correlation"] = self.correlation[at], np.flatnonzero(self.ahead[at] > 0)
        return made

    @cached_property
    def correlation(self) -> FloatArray:
        """(sessions, names, names) `Learned.correlation` after each session."""
        found = np.full(self.correlations.same.total.shape, np.nan)
        forecast, number = np.unique(self.ahead > 0, axis=0, return_inverse=True)
        for one, some in enumerate(forecast):
            rows, which = np.flatnonzero(number == one), np.flatnonzero(some)
            found[np.ix_(rows, which, which)] = self.correlations.at(rows).correlation(which)
        return found


@dataclass(frozen=True)
class Terms:
    """What is the same at each session of a line.

    `names`, `classes`: symbol and asset class. `per_year`: (names,) sessions a year. `rebalanced`: False: what is
    bought first is held.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    instruments: Instruments
    per_year: FloatArray
    size: BookSettings
    money: MoneySettings
    rebalanced: bool = True


@dataclass(frozen=True)
class Close:
    """What a session brings to a line, and what is wanted at its close. Arrays are (names,).

    Attributes
    ----------
    session: prices, volumes and events, see `events.Session`.
    returns: simple, NaN without a bar. listed: whether the symbol has begun and its end is not known. inside: whether
        it belongs to its universe. known: whether it has a bar that is known in time. lent, recalled: whether a
        short can be borrowed at the next fill, or has to be bought there.
    grown: what splits of the session made of one unit; split: what all up to it did.
    volume: mean money of the book traded a session over 21 days, NaN where nobody knows.
    deviations: standard deviation forecast of the next session's return, NaN where there is none.
    core, tilt, evidence: see `sizing.BookView`.
    bars: microseconds since 1970 of the close of each name's bar, 0 without one.
    told: whether the volatility with each class falling together is told, and what sizing saw is kept.
    learned: what is known of returns after the session, where that was found before; None: it is found by the line.
    spans: sessions of its own that each return is over, see `by_session.Sessions`; None: 1 each.
    """

    session: Session
    returns: FloatArray
    listed: BoolArray
    inside: BoolArray
    known: BoolArray
    lent: BoolArray
    recalled: BoolArray
    grown: FloatArray
    split: FloatArray
    volume: FloatArray
    deviations: FloatArray
    core: FloatArray
    tilt: FloatArray
    evidence: FloatArray
    bars: IntArray
    told: bool = False
    learned: Learned | None = field(default=None, repr=False)
    spans: IntArray | None = None


def least_units(held: FloatArray, lent: BoolArray, recalled: BoolArray) -> FloatArray | None:
    """(names,) units that no holding may be below from the next fill on, see `sizing.BookView`; `lent`, `recalled`: see
    `Close`.

    >>> least_units(np.array([-5.0, 5.0]), np.array([False, True]), np.array([False, True])).tolist()
    [-5.0, 0.0]
    """
    if lent.all() and not recalled.any():
        return None
    return np.where(recalled, 0.0, np.where(lent, -np.inf, np.minimum(held, 0.0)))


@dataclass(frozen=True)
class Step:
    """What a session did to a line, and what was decided at its close. Arrays are (names,).

    `booked`: see `money.Booked`; `cash` after it. `units`: held, before the orders. `trades`: units ordered for the
    next fill, those that waited for it among them. `weights`: shares of equity after them; `target`: what was aimed at;
    `core`, `tilt`: its parts before the caps. `share`: of the core before it is scaled. `gate`: what cut a name last.
    `volatility`: of the target, a year; `held_volatility`: of what is held after the trades; `spiked`: of the
    target with each class falling together, NaN where that is not asked for;
    `reached`: whether what is held has the volatility that is aimed at.
    `variance`: of the core's next session; `core_return`: of the core that was decided the close before. `bars`: see
    `Close`. `earned`: the return without interest and without what became known late, `expected` the variance of it
    that was forecast of what was held after the fill, of a return over several sessions also of what was held before,
    without `level`, the multiplier of a volatility that was known the close before. `view`, `sizing`: what the trades
    were made of, see `sizing.trades_of`, where `Close.told` asks for it, else None.
    """

    booked: Booked
    cash: float
    units: FloatArray
    trades: FloatArray
    weights: FloatArray
    target: FloatArray
    core: FloatArray
    tilt: FloatArray
    share: FloatArray
    gate: tuple[str, ...]
    volatility: float
    reached: bool
    variance: float
    core_return: float
    bars: IntArray
    earned: float
    expected: float
    level: float
    findings: tuple[Finding, ...] = ()
    spiked: float = np.nan
    held_volatility: float = np.nan
    view: BookView | None = field(default=None, repr=False)
    sizing: BookState | None = field(default=None, repr=False)

    @property
    def net(self) -> float:
        """The simple return of the session, all costs paid."""
        return self.booked.equity / self.booked.before - 1 if self.booked.before > 0 else 0.0


@dataclass(frozen=True)
class LineState:
    """All that a line carries from one session to the next. Arrays are (names,).

    Attributes
    ----------
    names, classes: symbol and asset class.
    account: units, cash and money due. sizing: what sizing remembers. correlations, squares: of returns so far.
    orders: units, for the next fill. ahead: newest forecast deviation; scale: that by which the next return is
        measured. core: weights decided at the last close. equity: at the last close, by the prices known there.
    bars, split: see `Close`, of the last session.
    covariance: (names, names) forecast for the next session; None before anything was decided.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    account: Account
    sizing: BookState
    correlations: Correlations
    squares: Squares
    orders: FloatArray
    ahead: FloatArray
    scale: FloatArray
    core: FloatArray
    equity: float
    bars: IntArray
    split: FloatArray
    covariance: FloatArray | None = field(default=None, repr=False)

    @classmethod
    def start(cls, names: Sequence[str], classes: Sequence[str], capital: float) -> Self:
        """Before the first session, with cash alone."""
        count = len(names)
        nothing, unknown = np.zeros(count), np.full(count, np.nan)
        return cls(
            tuple(names), tuple(classes), Account.opened(capital, count), BookState.start(names),
            Correlations.start(names, classes), Squares.start(count), nothing, unknown, unknown, nothing, capital,
            np.zeros(count, np.int64), np.ones(count),
        )  # fmt: skip

    @property
    def day(self) -> date | None:
        """The last session that was decided, None before the first."""
        return self.account.day

    def among(self, names: Sequence[str], classes: Sequence[str]) -> Self:
        """The same for these names in this order, the old ones among them; one that is new has no session yet."""
        if tuple(names) == self.names:
            return self
        at = places_of(names, self.names)

        def laid(values: NDArray[np.generic], missing: float) -> FloatArray:
            return np.where(at >= 0, values[at], np.asarray(missing, values.dtype))

        def known(values: FloatArray) -> FloatArray:
            return laid(values, np.nan)

        account, squares = self.account, self.squares
        made = replace(
            self, names=tuple(names), classes=tuple(classes),
            account=replace(
                account, units=laid(account.units, 0), price=known(account.price), rate=known(account.rate),
                parked=laid(account.parked, 0), parked_value=laid(account.parked_value, 0),
                changes=tuple((day, int(np.flatnonzero(at == of)[0]), units) for day, of, units in account.changes),
            ),
            sizing=self.sizing.among(names), correlations=self.correlations.among(names, classes),
            squares=Squares(laid(squares.total, 0), laid(squares.weight, 0), laid(squares.count, 0)),
            orders=laid(self.orders, 0), ahead=known(self.ahead), scale=known(self.scale), core=laid(self.core, 0),
            bars=laid(self.bars, 0).astype(np.int64), split=laid(self.split, 1), covariance=None,
        )  # fmt: skip
        return made if self.covariance is None else made.with_covariance()

    @property
    def deviation(self) -> FloatArray:
        """(names,) of the next return; of what is held and was never forecast its past one, else the usual one."""
        unforecast = np.isnan(self.ahead) & (self.account.units != 0)
        return np.where(unforecast, np.nan_to_num(self.scale, nan=UNKNOWN_DEVIATION), self.ahead)

    @property
    def learned(self) -> Learned:
        """What is known of returns."""
        return Learned(self.correlations, self.squares, self.ahead, self.scale)

    def with_covariance(self) -> Self:
        """The same with the covariance, which follows from the rest."""
        deviation = self.deviation
        return replace(self, covariance=covariance_of(self.learned.correlation_of(deviation)[0], deviation))

    def covariance_over(self, spans: IntArray | None) -> FloatArray:
        """(names, names) the covariance of returns over so many sessions each, the last of them common; see `Close`.

        Of sessions that do not depend on each other: of two names it is that of one session times those they share.
        """
        assert self.covariance is not None
        return self.covariance if spans is None else self.covariance * np.minimum.outer(spans, spans)

    def variance_before(self, instruments: Instruments, close: Close) -> float:
        """What is expected of the sessions before the last of those that returns are over: nothing was filled there."""
        own = self.account
        worth = _worth(own.units, own.price * own.rate, instruments)
        earlier = self.covariance_over(close.spans) - self.covariance_over(None)
        return book_variance(worth / self.equity, earlier, np.isfinite(close.returns))

    def knowing(self, known: Learned, core: FloatArray, bars: IntArray, split: FloatArray) -> Self:
        """After a session of which nothing but what is learned of returns is new."""
        return replace(
            self, correlations=known.correlations, squares=known.squares, ahead=known.ahead, scale=known.scale,
            core=core, bars=bars, split=split,
        )  # fmt: skip

    def late_splits(self, close: Close) -> FloatArray:
        """(names,) what splits of sessions before made of one unit that were told after the last session; mostly 1."""
        late = close.split / (self.split * close.grown)
        return np.where(np.abs(late - 1) < 1e-9, 1.0, late)

    def watched(self, close: Close) -> Self:
        """After a session in which nothing is decided yet: what is learned of returns alone."""
        known = close.learned or self.learned.after(close.returns, close.deviations)
        return self.knowing(known, close.core, close.bars, close.split)

    def after(self, close: Close, terms: Terms) -> tuple[Self, Step]:
        """After a session: its money is booked, then orders are decided at its close."""
        instruments, size, late = terms.instruments, terms.size, self.late_splits(close)
        told = [Exchange(self.names[place], keep=float(late[place])) for place in np.flatnonzero(late != 1)]
        session, grown = close.session, close.grown * late
        if told:
            session = replace(session, events=(*told, *session.events))
        begun, nothing = self.day is not None, np.zeros(len(self.names))
        account, booked = book_session(self.account, session, self.orders, instruments, terms.money)
        filled = np.isfinite(session.fill) | ~close.listed
        waiting = np.where(filled, 0.0, self.orders * grown)  # for the name's next bar
        equity, sizing = account.equity(instruments), self.sizing
        earned, expected, level = np.nan, np.nan, np.nan
        if begun and self.covariance is not None and self.equity > 0:
            price = self.account.price * self.account.rate / grown
            worth = _worth(account.units, price, instruments)
            earned = (equity - booked.late) / self.equity - 1 - booked.interest / self.equity
            expected = book_variance(worth / self.equity, self.covariance, np.isfinite(close.returns))
            if close.spans is not None:
                expected += self.variance_before(instruments, close)
            level = sizing.level
            sizing = sizing.after_return(earned, expected)
        sizing = sizing.after_equity(equity, size, bool(close.known.any()))
        seen = replace(self.watched(close), account=account)
        known = close.learned or seen.learned
        all_forecast = not (np.isnan(seen.ahead) & (account.units != 0)).any()
        deviation = seen.ahead if all_forecast else seen.deviation
        correlation, which = known.correlation if all_forecast else known.correlation_of(deviation)
        yearly, covariance = deviation * np.sqrt(terms.per_year), covariance_of(correlation, deviation)
        wanted = np.where(close.deviations > 0, close.core, 0.0)
        past = float(np.nansum(self.core * np.nan_to_num(close.returns)))
        step = Step(
            booked, account.cash, account.units, waiting, account.exposure(instruments) / max(equity, 1e-12), nothing,
            nothing, nothing, wanted, ("",) * len(self.names), np.nan, False,
            book_variance(wanted, covariance) or np.nan, past, close.bars, earned, expected, level,
        )  # fmt: skip
        if terms.rebalanced or not begun:
            wide = None
            if size.spike_sizes or close.told:  # else nobody reads it
                wide = np.full_like(correlation, np.nan)
                own = correlation[np.ix_(which, which)]
                wide[np.ix_(which, which)] = spiked(own, [terms.classes[one] for one in which])
            year, value = covariance_of(correlation, yearly), account.price * account.rate * instruments.multiplier
            has_margin = bool(instruments.margin.any())
            view = BookView(
                names=self.names, classes=terms.classes, core=wanted,
                tilt=np.where(close.deviations > 0, close.tilt, 0.0), evidence=close.evidence, covariance=year,
                equity=equity, held=np.where(value > 0, account.units + waiting, 0.0), price=value,
                lot=instruments.lot, volume=close.volume,
                margin=margin_shares(instruments, account.price) if has_margin else nothing,
                funded=instruments.funded, least=least_units(account.units + waiting, close.lent, close.recalled),
                cost=instruments.commission + instruments.half_spread, tradable=close.listed & close.known,
                closing=~(close.listed & close.inside),
                spiked=None if wide is None else covariance_of(wide, yearly),
            )  # fmt: skip
            sized = trades_of(view, sizing, size)
            if close.told:
                step = replace(step, view=view, sizing=sizing)
            sizing, has = sized.state, sized.state.level * book_variance(sized.weights, year) ** 0.5
            step = replace(
                step, trades=sized.trades + waiting, weights=sized.weights, target=sized.target, core=sized.core,
                tilt=sized.tilt, gate=sized.gate, volatility=sized.volatility, findings=sized.findings,
                spiked=sized.spiked, held_volatility=float(has),
                reached=bool(has >= size.target_volatility * (1 - size.book_band) * (1 - 1e-6)),
            )  # fmt: skip
        step = replace(step, findings=(*_paid_late(self.account, session, self.names), *step.findings))
        return replace(seen, sizing=sizing, orders=step.trades, equity=equity, covariance=covariance), step


def _worth(units: FloatArray, price: FloatArray, instruments: Instruments) -> FloatArray:
    """(names,) money of the book that units are worth, 0 where none is held; `price`: of the book's currency."""
    return np.where(units == 0, 0.0, units * price * instruments.multiplier)


def _paid_late(account: Account, session: Session, names: Sequence[str]) -> list[Finding]:
    """What actions of past sessions that are known since the last one gave, a sentence each."""
    found = []
    for one in session.events:
        if not isinstance(one, Dividend | Exchange) or one.ex_date is None:
            continue
        units = account.units_before(names.index(one.symbol), one.ex_date)
        booked = (session.day - one.ex_date).days <= LATE_DAYS
        what = f"an action of {one.symbol} on {one.ex_date} became known by {session.day}"
        if not booked:
            found.append(Finding("not_booked", f"{what}, more than {LATE_DAYS} days later: it is not booked"))
        elif units:
            found.append(Finding("late", f"{what}: it is booked on the {units:g} units held before its date"))
    return found
