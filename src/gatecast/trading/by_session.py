"""The bars of all classes, session by session, as a book sees them: prices, actions, ends, loans and interest."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.market.actions import PAYS, with_terms
from gatecast.market.bars import session_date
from gatecast.market.classes import currencies_of
from gatecast.market.given import conversion_rates
from gatecast.market.steps import Level, in_one_unit, splits_so_far
from gatecast.market.universe import INSIDE, is_inside, stays_inside
from gatecast.trading.book_settings import Book
from gatecast.trading.charges import UNKNOWN_BENCHMARK, can_be_lent, cash_rates
from gatecast.trading.costs import MoneySettings
from gatecast.trading.desk import moment_of
from gatecast.trading.events import End, Event, Roll, events_of
from gatecast.trading.grid import (
    FUNDING,
    INTEREST,
    LOANS,
    MONTH,
    Grid,
    carry_of,
    forward_filled,
    funding_of,
    grid_of,
    loans_of,
    mean_of_last,
)
from gatecast.trading.instruments import CONTRACTS, ROLLS, Instruments
from gatecast.trading.terms import as_table

if TYPE_CHECKING:
    from gatecast.market.facts import Facts


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DOLLAR = "USD"
"""Currency whose interest is known, see `trading.charges.cash_rates`."""
NEVER = np.iinfo(np.int64).max
"""Moment of what there is not."""


@dataclass(frozen=True)
class Sessions:
    """The bars of all classes by session, of the symbols whose money can be counted. Arrays are (sessions, symbols).

    Attributes
    ----------
    grid: prices and volumes; volumes of classes that count them in units, else NaN. classes: (symbols,) asset class.
    known: whether there is a bar that is known in time for the session's decision. A session of which no bar is, as
    where several are caught up with at once, is booked by its bars all the same, and nothing can be traded on it; any
    other bar that comes later is none, and the grid has none. bars: microseconds since 1970 of its close, 0 where it is
    not known in time. returns: simple, from close to close, with what actions give, NaN where the grid has no bar,
    outside of the universe and where a listing begins. total: the same with what actions gave that became known later,
    by the last close: for who looks back from it. spans: sessions of the symbol's own that a return is over: 1, and one
    for each bar that came too late since the one before it. listed: whether the symbol has begun, its end is not known,
    and its currency has a rate. inside: whether it stays in its universe after the session. split: product of the
    ratios of splits up to each session: prices times it are on one level. lent: whether a short that is decided can be
    borrowed at the next fill; recalled: whether it has to be bought there. loans, carry, funding: what tables say, see
    `trading.events.Session`. events: actions and ends of symbols, by session.
    benchmark: (sessions,) interest a year. rate: money of the book for one unit of a symbol's currency. converts:
    whether the price of a symbol is the rate of another one that is listed in the session.
    per_year: (symbols,) sessions a year of the symbol's class. left_out: symbol -> why its money cannot be counted.
    """

    grid: Grid
    classes: tuple[str, ...]
    known: BoolArray
    bars: NDArray[np.int64]
    returns: FloatArray
    total: FloatArray
    spans: NDArray[np.int64]
    listed: BoolArray
    split: FloatArray
    inside: BoolArray
    lent: BoolArray
    recalled: BoolArray
    loans: Mapping[str, FloatArray | BoolArray]
    carry: FloatArray | None
    funding: FloatArray | None
    events: Mapping[date, tuple[Event, ...]]
    benchmark: FloatArray
    rate: FloatArray
    converts: BoolArray
    per_year: FloatArray
    left_out: Mapping[str, str]
    instruments: Instruments

    @property
    def days(self) -> tuple[date, ...]:
        """The date of each session."""
        return self.grid.days

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols."""
        return self.grid.symbols

    @cached_property
    def place(self) -> dict[str, int]:
        """Symbol -> its column."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def usual_volume(self) -> FloatArray:
        """(sessions, symbols) mean value traded a session over 21, in money of the book."""
        return np.asarray(mean_of_last(self.grid.volume, MONTH) * self.rate, np.float64)

    def grown(self, place: int) -> FloatArray:
        """(symbols,) what splits made of one unit in a session."""
        return np.asarray(self.split[place] / self.split[max(place - 1, 0)], np.float64)

    @property
    def decided(self) -> int:
        """How many there are up to the last that could be decided in time. Those after it, of which all bars came too
        late, wait for the next that is decided: whether a bar of theirs counts shows there, see `_caught_up`."""
        return int(np.flatnonzero(self.known.any(axis=1)).max(initial=-1)) + 1

    def until(self, count: int) -> Sessions:
        """The first `count` sessions alone."""
        grid = self.grid
        grid = Grid(
            grid.days[:count], grid.symbols, grid.fill[:count], grid.close[:count], grid.at_open[:count],
            grid.volume[:count], grid.usual_volume[:count],
        )  # fmt: skip
        return replace(
            self, grid=grid, known=self.known[:count], bars=self.bars[:count], returns=self.returns[:count],
            total=self.returns[:count],  # nothing that became known later
            spans=self.spans[:count],
            listed=self.listed[:count], split=self.split[:count], inside=self.inside[:count], lent=self.lent[:count],
            recalled=self.recalled[:count],
            loans={name: one[:count] for name, one in self.loans.items()},
            carry=None if self.carry is None else self.carry[:count],
            funding=None if self.funding is None else self.funding[:count],
            benchmark=self.benchmark[:count], rate=self.rate[:count], converts=self.converts[:count],
        )  # fmt: skip


def sessions_by(
    facts: Facts, settings: Book, *, level: Level = "first", default_ends: bool = True,
    decided: Mapping[date, tuple[datetime, datetime]] | None = None,
) -> Sessions:  # fmt: skip
    """The bars of all classes, session by session, as they were traded: not adjusted for splits.

    `decided`: session -> the first and the newest close that were seen when it was decided, of sessions that stay as
    they are: what became known after that is booked later, whatever bars of the session came since. `level`: which
    bars are on the level that splits brought all to; of a store "first", of a file that was read "newest".
    `default_ends`: whether a symbol that ends on terms that nobody knows is booked on the usual ones, else at no loss.
    """
    last_bars = dict(facts.bars.group_by("symbol").agg(session_date(pl.col("time")).max()).iter_rows())
    classes = dict(facts.bars.group_by("symbol").agg(pl.col("asset_class").first()).sort("symbol").iter_rows())
    for name in settings.size.lots:
        if name not in classes:
            raise SettingsError(f"lots: the bars have no symbol {name!r}. {did_you_mean(name, list(classes))}")
    terms = _Terms.of(settings, last_bars)
    classes, left_out = terms.countable(classes)
    instruments = terms.instruments(classes)
    instruments = instruments if default_ends else instruments.without_default_ends()
    own = facts.bars["symbol"].is_in(list(classes)).to_numpy()
    bars = facts.bars.filter(pl.Series(own))
    grid = grid_of(bars, facts.fills[own])
    times, early, caught_up, spans = _in_time(bars, facts.fill_times[own], grid)
    known = times > 0  # a bar that comes later is none: nobody could act on it, and what waits for it waits on
    grid = grid.only(
        known | caught_up, np.where(early, grid.close, grid.fill), grid.at_open & ~early, instruments.has_volume
    )
    returns, gone = grid.returns, _gone(facts, grid)
    actions, not_given = _of_the_book(in_one_unit(facts.actions, level), grid.symbols)
    split = splits_so_far(actions, grid.days, grid.symbols)
    split, whole = split[:-1], split[-1]
    raw = (whole if level == "newest" else 1.0) / split
    grid = replace(grid, fill=grid.fill * raw, close=grid.close * raw)
    outside, inside = ~_of_sessions(is_inside(bars), bars, grid), _of_sessions(stays_inside(bars), bars, grid)
    ends = _sold_ends(facts.ends.filter(pl.col("symbol").is_in(grid.symbols)), inside, grid)
    first, closes = _closes(bars, times, grid.days, decided or {})
    events = events_of(actions, grid.days, ends, terms.rolls_of(grid.symbols), closes, first)
    events = {day: tuple(_at_close(one, day, grid) for one in booked) for day, booked in events.items()}
    _add_rolls(returns, events, grid)
    _add_given(returns, actions, first, split, instruments, grid)
    total = returns.copy()
    _add_given(total, actions, first, split, instruments, grid, late_until=closes[-1] if closes else None)
    more = dict[date, list[Event]]()
    for row, column in _starts(bars, facts.starts[own], grid):
        # another instrument under the name ends the old one for good
        returns[row, column] = total[row, column] = np.nan
        more.setdefault(grid.days[row], []).append(End(grid.symbols[column], float(instruments.end_return[column])))
    begun = np.maximum.accumulate(np.isfinite(grid.close), axis=0)
    rate = grid.rates(instruments, tuple(classes.values()), settings.money.currency)
    listed = begun & ~gone & np.isfinite(rate)
    lent, recalled, loans = _loans(terms.table("borrow", LOANS), grid, rate, instruments, settings.money)
    rates, funding = terms.table("rates", INTEREST), terms.table("funding", FUNDING)
    return Sessions(
        grid=grid, classes=tuple(classes.values()), known=known, bars=times,
        returns=np.where(outside, np.nan, returns), total=np.where(outside, np.nan, total),
        spans=spans, listed=listed, split=split, inside=inside, lent=lent,
        recalled=recalled, loans=loans,
        carry=None if rates is None else carry_of(rates, instruments, grid),
        funding=None if funding is None else funding_of(funding, instruments, grid),
        events={day: (*events.get(day, ()), *more.get(day, ())) for day in {*events, *more}},
        benchmark=_benchmark(grid.days, settings.money), rate=rate,
        converts=_converts(listed, instruments.converters(tuple(classes.values()), settings.money.currency)),
        per_year=np.array([facts.sessions_a_year[kind] for kind in classes.values()]),
        left_out=left_out | not_given, instruments=instruments,
    )  # fmt: skip


@dataclass(frozen=True)
class _Terms:
    """What settings and tables say of symbols. `last_bars`: symbol -> session of its last bar."""

    settings: Book
    last_bars: Mapping[str, date]
    contracts: pl.DataFrame | None
    rolls: pl.DataFrame | None

    @classmethod
    def of(cls, settings: Book, last_bars: Mapping[str, date]) -> _Terms:
        """The terms of a book's settings."""
        money = settings.money
        contracts, rolls = as_table(money.contracts, CONTRACTS, "contracts"), as_table(money.rolls, ROLLS, "rolls")
        return cls(settings, last_bars, contracts, rolls)

    def table(
        self, name: Literal["borrow", "rates", "funding"], columns: dict[str, type[pl.DataType]]
    ) -> pl.DataFrame | None:
        """A table of the settings of money."""
        return as_table(getattr(self.settings.money, name), columns, name)

    def rolls_of(self, symbols: Sequence[str]) -> pl.DataFrame | None:
        """The rolls of these symbols."""
        return None if self.rolls is None else self.rolls.filter(pl.col("symbol").is_in(symbols))

    def instruments(self, classes: Mapping[str, str]) -> Instruments:
        """What is fixed about symbols. Raises `BarsError` for one whose money cannot be counted."""
        pairs = {name: pair[1] for name, kind in classes.items() if kind == "fx" and (pair := currencies_of(name))}
        return Instruments.of(
            classes, self.settings.money, contracts=self.contracts, rolls=self.rolls, last_bars=self.last_bars,
            lots=self.settings.size.lots, currencies={**self.settings.money.currencies, **pairs},
        )  # fmt: skip

    def countable(self, classes: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Symbol -> class of those whose money can be counted, and symbol -> why of the others."""
        kept, left_out, home = dict[str, str](), dict[str, str](), self.settings.money.currency
        known, closes = dict[str, str](), dict[str, FloatArray]()
        for name, kind in classes.items():
            try:
                own = self.instruments({name: kind})
            except BarsError as error:
                left_out[name] = _of(name, error)
                continue
            known[name] = own.currency[0]
            closes |= dict.fromkeys(own.rate_pairs((kind,)), np.ones(1))
        for name, currency in known.items():
            try:
                conversion_rates([currency], home, closes, 1)
                kept[name] = classes[name]
            except BarsError as error:
                left_out[name] = _of(name, error)
        return kept, left_out


def not_countable(settings: Book, classes: Mapping[str, str]) -> dict[str, str]:
    """Symbol -> why its money cannot be counted, so that a book leaves it out. `classes`: symbol -> asset class."""
    return _Terms.of(settings, {}).countable(classes)[1]


def converters_of(settings: Book, classes: Mapping[str, str]) -> dict[str, str | None]:
    """Currency of prices that is not the book's -> the symbol whose price converts it; None of a hundredth of it.

    `classes`: symbol -> class; of those whose money can be counted.

    >>> book = Book().priced_in({"VOD": "GBX", "BTC-USDT": "USDT"})
    >>> names = {"VOD": "equity", "GBPUSD": "fx", "BTC-USDT": "crypto", "USDT-USD": "crypto", "SPY": "etf"}
    >>> converters_of(book, names)
    {'GBX': 'GBPUSD', 'USDT': 'USDT-USD'}
    """
    terms, home = _Terms.of(settings, {}), settings.money.currency
    kept, _ = terms.countable(classes)
    own = terms.instruments(kept)
    places = own.converters(tuple(kept.values()), home).tolist()
    found = {one: own.symbols[at] if at >= 0 else None for one, at in zip(own.currency, places, strict=True)}
    return {currency: symbol for currency, symbol in sorted(found.items()) if currency != home}


def _of(name: str, error: BarsError) -> str:
    """What an error says, with the symbol that it is about."""
    return said if repr(name) in (said := str(error)) else f"{name!r}: {said}"


def _loans(
    table: pl.DataFrame | None, grid: Grid, rate: FloatArray, instruments: Instruments, money: MoneySettings
) -> tuple[BoolArray, BoolArray, Mapping[str, FloatArray | BoolArray]]:
    """(sessions, symbols) what can be sold short and what is recalled, decided at the close; and `loans_of`."""
    told = np.full(grid.close.shape, np.nan)
    recalled, loans = np.zeros(grid.close.shape, np.bool_), dict[str, FloatArray | BoolArray]()
    if table is not None:
        loans, tomorrow = loans_of(table, grid), tuple(day + timedelta(days=1) for day in grid.days)
        at_close = loans_of(table, replace(grid, days=tomorrow))
        told, recalled = at_close["lent"].astype(np.float64), at_close["recalled"].astype(np.bool_)
    usual = mean_of_last(grid.volume, MONTH) * rate
    rows = [can_be_lent(instruments, money, usual[row], told[row]) for row in range(len(grid.days))]
    lent = np.array(rows, np.bool_).reshape(grid.close.shape)
    return lent, recalled & instruments.funded, loans


def _add_rolls(returns: FloatArray, events: Mapping[date, Sequence[Event]], grid: Grid) -> None:
    """Returns of the first session of a next contract, from its own close before. Raises `BarsError` where it has none.

    That is so where the gap is as large as the old contract's close, or larger.
    """
    before = forward_filled(grid.close)
    for day, booked in events.items():
        for one in (one for one in booked if isinstance(one, Roll)):
            row, column = grid.days.index(day), grid.symbols.index(one.symbol)
            if not row or np.isnan(returns[row, column]):
                continue
            old = float(before[row - 1, column])
            if not old + one.gap > 0:
                raise BarsError(
                    f"{one.symbol!r}: the roll of {day} has the gap {one.gap:g}, the contract before closed at "
                    f"{old:g}: the close of the next one before would not be above 0. Correct the gap."
                )
            returns[row, column] = grid.close[row, column] / (old + one.gap) - 1


def _add_given(
    returns: FloatArray, actions: pl.DataFrame, first: Sequence[datetime], split: FloatArray,
    instruments: Instruments, grid: Grid, *, late_until: datetime | None = None,
) -> None:  # fmt: skip
    """Returns of the first session at or after an action with what it gives: money, or units of a spin-off.

    Of what is known at its `first` close; `late_until`: of what became known after that, up to a moment. Units count at
    their close in the session, else at the newest before; without either, and in another currency, the return is not
    known: NaN.
    """
    newest = forward_filled(grid.close)
    given = actions.filter(pl.col("kind").is_in([*PAYS, "spin_off"]), pl.col("kind") != "merger")
    for row in given.sort("date", "symbol", "kind").iter_rows(named=True):
        place, column = bisect_left(grid.days, row["date"]), grid.symbols.index(row["symbol"])
        if not 0 < place < len(grid.days) or np.isnan(returns[place, column]):
            continue
        known = row["known_at"] or first[place]
        if known > first[place] if late_until is None else not first[place] < known <= late_until:
            continue
        value = row["value"]
        if row["kind"] == "spin_off":
            into = grid.symbols.index(row["into"])
            same = instruments.currency[into] == instruments.currency[column]
            value = value * newest[place, into] if same else np.nan
        before = newest[place - 1, column] * split[place - 1, column] / split[place, column]
        returns[place, column] += value / before


def _of_the_book(actions: pl.DataFrame, symbols: Sequence[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """The actions of symbols of the book that give nothing but symbols of the book; and symbol -> why it is not given.

    What is given and has no bars counts as nothing; where the old symbol goes, its end is booked with its return.
    """
    table = with_terms(actions).filter(pl.col("symbol").is_in(symbols))
    unknown = pl.col("into").is_not_null() & ~pl.col("into").is_in(symbols)
    why = {
        row["into"]: f"{row['into']!r}, which a {row['kind']} of {row['symbol']!r} on {row['date']} gives, is not in "
        "the book: what is given counts as nothing."
        for row in table.filter(unknown, pl.col("kind") == "spin_off").iter_rows(named=True)
    }  # fmt: skip
    return table.filter(~unknown), why


def _at_close(event: Event, day: date, grid: Grid) -> Event:
    """An event of a session; the end of a symbol that has a bar in it comes after that bar."""
    if not isinstance(event, End):
        return event
    traded = np.isfinite(grid.close[grid.days.index(day), grid.symbols.index(event.symbol)])
    return replace(event, at_close=bool(traded))


def _closes(
    bars: pl.DataFrame, times: NDArray[np.int64], days: Sequence[date],
    decided: Mapping[date, tuple[datetime, datetime]],
) -> tuple[list[datetime], list[datetime]]:  # fmt: skip
    """The first and the last close of each session that are known in time; where none is, its last close.

    `times`: see `_in_time`. `decided`: see `sessions_by`.
    """
    last = bars.group_by(session_date(pl.col("time"))).agg(last=pl.col("time").max()).sort("last")["last"].to_list()
    found = [first_and_last(seen) or (close, close) for seen, close in zip(times, last, strict=True)]
    stay = [decided.get(day, one) for day, one in zip(days, found, strict=True)]
    return [first for first, _ in stay], [min(one[1], end) for one, (_, end) in zip(found, stay, strict=True)]


def first_and_last(bars: NDArray[np.int64]) -> tuple[datetime, datetime] | None:
    """The first and the last of a session's closes, in microseconds since 1970; 0 stands for no bar."""
    seen = bars[bars > 0]
    return (moment_of(int(seen.min())), moment_of(int(seen.max()))) if len(seen) else None


def _benchmark(days: Sequence[date], settings: MoneySettings) -> FloatArray:
    """(sessions,) interest a year on cash: that of the settings, else of dollars that of bills."""
    if settings.benchmark_rate is not None:
        return np.full(len(days), settings.benchmark_rate)
    return cash_rates(days) if settings.currency == DOLLAR and days else np.full(len(days), UNKNOWN_BENCHMARK)


def _converts(listed: BoolArray, converters: NDArray[np.int64]) -> BoolArray:
    """(sessions, symbols) whether a symbol is the converter of a listed one, see `Instruments.converters`."""
    found = np.zeros(listed.shape, np.bool_)
    for place in np.flatnonzero(converters >= 0).tolist():
        found[:, converters[place]] |= listed[:, place]
    return found


def _in_time(
    bars: pl.DataFrame, fills: NDArray[np.datetime64], grid: Grid
) -> tuple[NDArray[np.int64], BoolArray, BoolArray, NDArray[np.int64]]:  # fmt: skip
    """(sessions, symbols) close of a session's last bar, in microseconds since 1970, if it is known when all decide,
    else 0; whether the order before it waits for its close; `_caught_up`; and `Sessions.spans`.

    A session decides at its latest close. A symbol that may open again before that cannot be filled at that open: it is
    filled at its next close.
    """
    fill = pl.Series(fills).dt.replace_time_zone("UTC")
    table = bars.with_columns(_fill=fill, day=session_date(pl.col("time")))
    table = table.with_columns(_end=pl.col("time").max().over("day"))
    last = table.group_by("symbol", "day", maintain_order=True).last()
    opens = pl.col("_fill") < pl.col("_end")
    last = last.with_columns(_early=opens.shift(1).over("symbol").fill_null(opens))
    days, symbols = pl.Series(grid.days, dtype=pl.Date), pl.Series(grid.symbols)
    at = days.search_sorted(last["day"]).to_numpy(), symbols.search_sorted(last["symbol"]).to_numpy()
    times, early = np.zeros(grid.close.shape, np.int64), np.zeros(grid.close.shape, np.bool_)
    came, until = np.full(grid.close.shape, NEVER), np.full(grid.close.shape, NEVER)
    seen = pl.when(pl.col("known_at") <= pl.col("_fill")).then(pl.col("time").cast(pl.Int64)).otherwise(0)
    times[at] = last.select(seen).to_series().to_numpy()
    early[at] = last["_early"].to_numpy()
    came[at], until[at] = (last[name].cast(pl.Int64).fill_null(NEVER).to_numpy() for name in ("known_at", "_fill"))
    caught_up = _caught_up(came, until, times > 0)
    return times, early, caught_up, _spans(came, until, caught_up | (times > 0))


def _caught_up(came: NDArray[np.int64], until: NDArray[np.int64], known: BoolArray) -> BoolArray:
    """(sessions, symbols) bars of sessions that nobody could decide in time, as all of them came too late, that were
    there when the next session was decided: by its symbol's own fill, of a symbol without a bar in time there by the
    last fill of the others; before any is decided, all. Of these those count that go on from a bar that counts. A
    symbol whose bars are late day by day has none.

    `came`: when each bar became known, `until`: when its orders are filled, in microseconds since 1970; NEVER without a
    bar. `known`: whether it is known by then.
    """
    there, decided = came < NEVER, known.any(axis=1)
    last = np.where(known, until, 0).max(axis=1, initial=0)
    limits = np.vstack([np.where(known, until, last[:, None]), np.full((1, known.shape[1]), NEVER - 1)])
    newest = np.maximum.accumulate(np.where(there, np.arange(len(came))[:, None], -1), axis=0)
    following = np.minimum.accumulate(np.where(decided, np.arange(len(came)), len(came))[::-1])[::-1]
    counts = np.vstack([known, np.zeros((1, known.shape[1]), np.bool_)])  # the last row is that of no bar
    for row in np.flatnonzero(~decided).tolist():
        before = newest[row - 1] if row else np.full(known.shape[1], -1)
        in_hand = there[row] & (came[row] <= limits[following[row]])
        counts[row] = in_hand & counts[before, np.arange(known.shape[1])]
    return counts[:-1] & ~known


def _spans(came: NDArray[np.int64], until: NDArray[np.int64], seen: BoolArray) -> NDArray[np.int64]:
    """See `Sessions.spans` and `_caught_up`; `seen`: whether the grid has the bar. A bar that comes after the next one
    was decided on is not counted: nobody knew of it there.
    """
    found = np.ones(seen.shape, np.int64)
    late = (came < NEVER) & ~seen
    for column in np.flatnonzero(late.any(axis=0)).tolist():
        there, missed = np.flatnonzero(seen[:, column]), np.flatnonzero(late[:, column])
        after = np.searchsorted(there, missed)
        missed, after = missed[after < len(there)], there[after[after < len(there)]]
        np.add.at(found[:, column], after[came[missed, column] <= until[after, column]], 1)
    return found


def _of_sessions(inside: BoolArray, bars: pl.DataFrame, grid: Grid) -> BoolArray:
    """(sessions, symbols) what is said of bars and their universe, as at each symbol's newest bar."""
    if INSIDE not in bars.columns:
        return np.ones(grid.close.shape, np.bool_)
    last = bars.select("symbol", day=session_date(pl.col("time")), inside=pl.Series(inside))
    last = last.group_by("symbol", "day", maintain_order=True).last()
    days, symbols = pl.Series(grid.days, dtype=pl.Date), pl.Series(grid.symbols)
    found = np.full(grid.close.shape, np.nan)
    found[days.search_sorted(last["day"]).to_numpy(), symbols.search_sorted(last["symbol"]).to_numpy()] = last["inside"]
    return np.asarray(forward_filled(found) > 0, np.bool_)


def _sold_ends(ends: pl.DataFrame, inside: BoolArray, grid: Grid) -> pl.DataFrame:
    """Ends, those on unknown terms of symbols that had left their universe before as a sale at the last close."""
    days, kinds = np.array(grid.days, dtype="datetime64[D]"), list[str]()
    for symbol, kind, day in ends.select("symbol", "kind", day=session_date(pl.col("time"))).iter_rows():
        row = min(int(np.searchsorted(days, np.datetime64(day, "D"))), len(days) - 1)
        left = kind == "default" and not inside[row, grid.symbols.index(symbol)]
        kinds.append("vendor" if left else kind)
    return ends.with_columns(kind=pl.Series(kinds, dtype=pl.String))


def _gone(facts: Facts, grid: Grid) -> BoolArray:
    """(sessions, symbols) whether the symbol's end is known at the session's close."""
    days = np.array(grid.days, dtype="datetime64[D]")
    column = {name: place for place, name in enumerate(grid.symbols)}
    gone = np.zeros(grid.close.shape, np.bool_)
    table = facts.ends.select("symbol", "back", day=session_date(pl.col("time")))
    for symbol, back, day in table.iter_rows():
        if symbol in column:
            until = len(days) if back is None else int(np.searchsorted(days, np.datetime64(back, "D")))
            gone[int(np.searchsorted(days, np.datetime64(day, "D"))) : until, column[symbol]] = True
    return gone


def _starts(bars: pl.DataFrame, starts: BoolArray, grid: Grid) -> list[tuple[int, int]]:
    """Session and symbol of the first bar that was known in time of each listing after a symbol's first."""
    row = {day: place for place, day in enumerate(grid.days)}
    column = {name: place for place, name in enumerate(grid.symbols)}
    first = bars.filter(pl.Series(starts)).select("symbol", day=session_date(pl.col("time")))
    found = []
    for symbol, day in first.iter_rows():
        there = np.flatnonzero(np.isfinite(grid.close[row[day] :, column[symbol]]))
        found += [(row[day] + int(there[0]), column[symbol])] if len(there) else []
    return found
