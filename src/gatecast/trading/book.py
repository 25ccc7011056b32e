"""The book: forecasts of variance, a core and a tilt -> what is held session by session, and what it earned.

Every line of a comparison goes through the same loop: the same core, caps, band, lots, fills and costs. Lines differ in
the forecasts of variance alone, which say how large the core is; and one has a tilt, what strategies add to it.

    decided at a session's close      filled at the next session's open or close      valued at its close
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from gatecast.compute.parallel import fan_out
from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.forecasting.panel import ENSEMBLE, RIVAL, SIZED_BY
from gatecast.market.actions import PAYS, with_terms
from gatecast.market.bars import session_date
from gatecast.market.classes import currencies_of
from gatecast.market.steps import Level, in_one_unit, splits_so_far
from gatecast.market.universe import INSIDE, is_inside, stays_inside
from gatecast.settings import Settings
from gatecast.trading.core import Core, CoreState
from gatecast.trading.costs import MoneySettings
from gatecast.trading.covariance import book_variance
from gatecast.trading.desk import Desk, moment_of, without_tables
from gatecast.trading.grid import (
    FUNDING,
    INTEREST,
    LOANS,
    MONTH,
    QUARTER,
    Grid,
    carry_of,
    forward_filled,
    funding_of,
    grid_of,
    loans_of,
    mean_of_last,
)
from gatecast.trading.line import Close, Learned, LineState, Squares, Step, Terms
from gatecast.trading.money import (
    CONTRACTS,
    ROLLS,
    UNKNOWN_BENCHMARK,
    End,
    Event,
    Instruments,
    Roll,
    Session,
    can_be_lent,
    cash_rates,
    conversion_rates,
    earned_on_cash,
    events_of,
    to_frame,
)
from gatecast.trading.risk import METHODS, tail_paths
from gatecast.trading.sizing import BookSettings
from gatecast.trading.strategies import MARKET
from gatecast.trading.terms import as_table

if TYPE_CHECKING:
    from gatecast.market.facts import Facts
    from gatecast.trading.decisions import Decided

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CARRIED = 60
"""Sessions for which a forecast of variance stands while no newer one comes, as through a halt."""
WAITED = 7
"""Days for which a line waits for a class that its core wants and that has no forecast yet."""
DOLLAR = "USD"
"""Currency whose interest is known, see `trading.money.cash_rates`."""


class Book(Settings):
    """What the book holds, how large it is, and what it pays."""

    core: Core = Core()
    """What is held whatever is forecast of returns."""
    size: BookSettings = BookSettings()
    """How large the book is, and what it may not exceed."""
    money: MoneySettings = MoneySettings()
    """What an account of units pays and earns."""
    benchmark: str | None = Field(default=None, examples=["SPY"])
    """symbol whose price stands beside the lines, bought and held at no cost; left out: none. It decides nothing"""

    def refuse_unknown(self, symbols: Collection[str]) -> None:
        """Raises `SettingsError` where the bars do not have the benchmark."""
        if self.benchmark is not None and self.benchmark not in symbols:
            advice = did_you_mean(self.benchmark, list(symbols))
            raise SettingsError(f"book.benchmark: the bars have no symbol {self.benchmark!r}. {advice}")

    def with_file_read(self) -> Book:
        """The same with weights and tables in place of the files that have them, so that settings travel without."""
        read: Book = self.replace(core=self.core.with_file_read(), money=self.money.with_files_read())
        return read

    def priced_in(self, currencies: Mapping[str, str]) -> Book:
        """The same with the currencies of symbols that the settings do not name."""
        own = {**currencies, **self.money.currencies}
        if own == self.money.currencies:
            return self
        named: Book = self.replace(money=self.money.replace(currencies=own))
        return named


@dataclass(frozen=True)
class Sessions:
    """The bars of all classes by session, of the symbols whose money can be counted. Arrays are (sessions, symbols).

    Attributes
    ----------
    grid: prices and volumes; volumes of classes that count them in units, else NaN. classes: (symbols,) asset class.
    known: whether there is a bar that is known in time for the session's decision; without one the grid has none. bars:
    microseconds since 1970 of its close, 0 without one. returns: simple, from close to close, with what actions give,
    NaN without such a bar, outside of the universe and where a listing begins. total: the same with what actions gave
    that became known later, by the last close: for who looks back from it. listed: whether the symbol has begun,
    its end is not known, and its currency has a rate. inside: whether it stays in its universe after the session.
    split: product of the ratios of splits up to each session: prices times it are on one level. lent: whether a short
    that is decided can be borrowed at the next fill; recalled: whether it has to be bought there. loans, carry,
    funding: what tables say, see `trading.money.Session`. events: actions and ends of symbols, by session.
    benchmark: (sessions,) interest a year. rate: money of the book for one unit of a symbol's currency.
    per_year: (symbols,) sessions a year of the symbol's class. left_out: symbol -> why its money cannot be counted.
    """

    grid: Grid
    classes: tuple[str, ...]
    known: BoolArray
    bars: NDArray[np.int64]
    returns: FloatArray
    total: FloatArray
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
            listed=self.listed[:count], split=self.split[:count], inside=self.inside[:count], lent=self.lent[:count],
            recalled=self.recalled[:count],
            loans={name: one[:count] for name, one in self.loans.items()},
            carry=None if self.carry is None else self.carry[:count],
            funding=None if self.funding is None else self.funding[:count],
            benchmark=self.benchmark[:count], rate=self.rate[:count],
        )  # fmt: skip


def sessions_by(
    facts: Facts, settings: Book, *, level: Level = "first", default_ends: bool = True,
    decided: Mapping[date, datetime] | None = None,
) -> Sessions:  # fmt: skip
    """The bars of all classes, session by session, as they were traded: not adjusted for splits.

    `decided`: session -> the newest close that was seen when it was decided, of sessions that stay as they are: what
    became known after that is booked later, whatever bars of the session came since. `level`: which bars are on the
    level that splits brought all to; of a store "first", of a file that was read "newest". `default_ends`: whether a
    symbol that ends on terms that nobody knows is booked on the usual ones, else at no loss.
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
    times, early = _in_time(bars, facts.fill_times[own], grid)
    known = times > 0  # a bar that comes later is none: nobody could act on it, and what waits for it waits on
    grid = grid.only(known, np.where(early, grid.close, grid.fill), grid.at_open & ~early, instruments.has_volume)
    returns, gone = grid.returns, _gone(facts, grid)
    actions, not_given = _of_the_book(in_one_unit(facts.actions, level), grid.symbols)
    split = splits_so_far(actions, grid.days, grid.symbols)
    split, whole = split[:-1], split[-1]
    raw = (whole if level == "newest" else 1.0) / split
    grid = replace(grid, fill=grid.fill * raw, close=grid.close * raw)
    outside, inside = ~_of_sessions(is_inside(bars), bars, grid), _of_sessions(stays_inside(bars), bars, grid)
    ends = _sold_ends(facts.ends.filter(pl.col("symbol").is_in(grid.symbols)), inside, grid)
    closes = _closes(bars, times, grid.days, decided or {})
    events = events_of(actions, grid.days, ends, terms.rolls_of(grid.symbols), closes)
    events = {day: tuple(_at_close(one, day, grid) for one in booked) for day, booked in events.items()}
    _add_rolls(returns, events, grid)
    _add_given(returns, actions, closes, split, instruments, grid)
    total = returns.copy()
    _add_given(total, actions, closes, split, instruments, grid, late=True)
    more = dict[date, list[Event]]()
    for row, column in _starts(bars, facts.starts[own], grid):
        # another instrument under the name ends the old one for good
        returns[row, column] = total[row, column] = np.nan
        more.setdefault(grid.days[row], []).append(End(grid.symbols[column], float(instruments.end_return[column])))
    begun = np.maximum.accumulate(np.isfinite(grid.close), axis=0)
    rate = grid.rates(instruments, settings.money.currency)
    lent, recalled, loans = _loans(terms.table("borrow", LOANS), grid, rate, instruments, settings.money)
    rates, funding = terms.table("rates", INTEREST), terms.table("funding", FUNDING)
    return Sessions(
        grid=grid, classes=tuple(classes.values()), known=known, bars=times,
        returns=np.where(outside, np.nan, returns), total=np.where(outside, np.nan, total),
        listed=begun & ~gone & np.isfinite(rate), split=split, inside=inside, lent=lent,
        recalled=recalled, loans=loans,
        carry=None if rates is None else carry_of(rates, instruments, grid),
        funding=None if funding is None else funding_of(funding, instruments, grid),
        events={day: (*events.get(day, ()), *more.get(day, ())) for day in {*events, *more}},
        benchmark=_benchmark(grid.days, settings.money), rate=rate,
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
        pairs = {"".join(pair) for name, kind in classes.items() if kind == "fx" and (pair := currencies_of(name))}
        closes = {name: np.ones(1) for name in pairs}
        for name, kind in classes.items():
            try:
                (currency,) = self.instruments({name: kind}).currency
                conversion_rates([currency], home, closes, 1)
                kept[name] = kind
            except BarsError as error:
                left_out[name] = said if repr(name) in (said := str(error)) else f"{name!r}: {said}"
        return kept, left_out


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
    returns: FloatArray, actions: pl.DataFrame, closes: Sequence[datetime], split: FloatArray,
    instruments: Instruments, grid: Grid, *, late: bool = False,
) -> None:  # fmt: skip
    """Returns of the first session at or after an action with what it gives: money, or units of a spin-off.

    Of what is known at the session's close; `late`: of what became known later, by the last close. Units count at their
    close in it, else at the newest before; without either, and in another currency, the return is not known: NaN.
    """
    newest = forward_filled(grid.close)
    given = actions.filter(pl.col("kind").is_in([*PAYS, "spin_off"]), pl.col("kind") != "merger")
    for row in given.sort("date", "symbol", "kind").iter_rows(named=True):
        place, column = bisect_left(grid.days, row["date"]), grid.symbols.index(row["symbol"])
        if not 0 < place < len(grid.days) or np.isnan(returns[place, column]):
            continue
        known = row["known_at"] or closes[place]
        if (known > closes[place]) != late or known > closes[-1]:
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
    bars: pl.DataFrame, times: NDArray[np.int64], days: Sequence[date], decided: Mapping[date, datetime]
) -> list[datetime]:  # fmt: skip
    """The last close of each session that is known in time, at which it is decided; where none is, its last close.

    `times`: see `_in_time`. `decided`: see `sessions_by`.
    """
    last = bars.group_by(session_date(pl.col("time"))).agg(last=pl.col("time").max()).sort("last")["last"].to_list()
    found = [
        moment_of(seen) if seen else close
        for seen, close in zip(times.max(axis=1, initial=0).tolist(), last, strict=True)
    ]
    return [min(close, decided.get(day, close)) for day, close in zip(days, found, strict=True)]


def _benchmark(days: Sequence[date], settings: MoneySettings) -> FloatArray:
    """(sessions,) interest a year on cash: that of the settings, else of dollars that of bills."""
    if settings.benchmark_rate is not None:
        return np.full(len(days), settings.benchmark_rate)
    return cash_rates(days) if settings.currency == DOLLAR and days else np.full(len(days), UNKNOWN_BENCHMARK)


def _in_time(
    bars: pl.DataFrame, fills: NDArray[np.datetime64], grid: Grid
) -> tuple[NDArray[np.int64], BoolArray]:  # fmt: skip
    """(sessions, symbols) close of a session's last bar, in microseconds since 1970, if it is known when all decide,
    else 0; and whether the order before it waits for its close.

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
    seen = pl.when(pl.col("known_at") <= pl.col("_fill")).then(pl.col("time").cast(pl.Int64)).otherwise(0)
    times[at] = last.select(seen).to_series().to_numpy()
    early[at] = last["_early"].to_numpy()
    return times, early


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


def _carried(values: FloatArray, most: int) -> FloatArray:
    """Values with the newest that is known where there is none, at most so many sessions old."""
    known = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    age = np.arange(len(values))[:, None] - np.maximum.accumulate(known, axis=0)
    return np.asarray(np.where(age > most, np.nan, forward_filled(values)), np.float64)


def past_deviations(returns: FloatArray) -> FloatArray:
    """(sessions, names) root of the exponential mean of squared returns, see `line.Squares`.

    What returns are measured by in correlations where nothing was forecast yet.
    """
    squares, found = Squares.start(returns.shape[1]), np.full(returns.shape, np.nan)
    for place, one in enumerate(returns):
        squares = squares.after(one)
        found[place] = squares.deviation
    return found


# ── forecasts, by session ─────────────────────────────────────────────────────────────────────────


def deviations_of(classes: Mapping[str, Decided], sessions: Sessions, model: str) -> FloatArray:
    """(sessions, names) standard deviation of a session's return that a model forecast at its close.

    The variance over the horizon, close to close, shared out over its bars; the newest forecast for up to 60 sessions.
    """
    table = np.full(sessions.grid.close.shape, np.nan)
    for one in classes.values():
        heads = one.forecasts.values.get(model, {})
        if "volatility" not in heads:
            continue
        samples, rows = one.samples, one.forecasts.rows
        variance = heads["volatility"][rows] * samples.facts.ratio[samples.ends[rows]]
        per_session = variance / samples.horizon * samples.session_bars
        _lay(table, sessions, one, np.sqrt(per_session))
    return _carried(np.where(sessions.known, table, np.nan), CARRIED)


def tilt_of(
    classes: Mapping[str, Decided], sessions: Sessions, market: str, late: int = 0
) -> tuple[FloatArray, FloatArray]:
    """(sessions, names) weights that strategies propose at each close, before evidence, and the evidence.

    The market held long is no tilt: where it is in force nothing is proposed. `late`: bars by which both are late.
    """
    weights, evidence = np.zeros(sessions.grid.close.shape), np.zeros(sessions.grid.close.shape)
    for one in classes.values():
        choice, at = one.selection, one.samples.decided[one.forecasts.rows]
        names = np.array(one.proposals.names, dtype=object)
        proposed = np.where(names[choice.chosen[at]] == market, 0.0, choice.proposed[at] * choice.left[at])
        factor = np.where(choice.too_good[at] & (choice.evidence[at] <= 0), 0.0, choice.evidence[at])
        symbol = one.samples.symbol[at]
        _lay(weights, sessions, one, _delayed(proposed, symbol, late))
        _lay(evidence, sessions, one, _delayed(factor, symbol, late))
    return weights, evidence


def tilted_at(classes: Mapping[str, Decided], sessions: Sessions, late: int = 0) -> BoolArray:
    """(sessions,) whether strategies add anything to the core at the close; `late`: see `tilt_of`."""
    weights, evidence = tilt_of(classes, sessions, MARKET, late)
    return np.asarray((weights * evidence != 0).any(axis=1), np.bool_)


def _delayed(values: FloatArray, symbol: NDArray[np.int32], late: int) -> FloatArray:
    """Values of rows in order of symbol and time, each so many rows of its symbol late; 0 before its first."""
    if late == 0:
        return values
    moved = np.zeros(len(values))
    same = symbol[late:] == symbol[:-late]
    moved[late:][same] = values[:-late][same]
    return moved


def _lay(table: FloatArray, sessions: Sessions, one: Decided, values: FloatArray) -> None:
    """Puts values of a class's forecasts where their sessions and names are; of several a session the last."""
    at = one.samples.decided[one.forecasts.rows]
    days = np.array(sessions.days, dtype="datetime64[D]")
    own = np.array([sessions.place.get(name, -1) for name in one.samples.symbols])[one.samples.symbol[at]]
    day = session_date(one.samples.time[at]).astype("datetime64[D]")
    row = np.searchsorted(days, day)
    here = (own >= 0) & (row < len(days))
    here[here] &= days[row[here]] == day[here]
    table[row[here], own[here]] = values[here]


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────


def _refuse_core(sessions: Sessions, settings: Core) -> None:
    """Raises `SettingsError` for weights in a file that was not read, and for symbols that the bars do not have."""
    if settings.file is not None:
        raise SettingsError(f"the core's weights in {settings.file} were not read: use Core.with_file_read() first.")
    if settings.kind != "none":
        settings.refuse_unknown((*sessions.names, *sessions.left_out), set(sessions.classes))


def core_path(sessions: Sessions, settings: Core) -> FloatArray:
    """(sessions, names) weights of the core, decided at each close from the returns up to it; the same for every line.

    Raises `SettingsError` for a symbol or class that the settings name and the bars do not have.
    """
    _refuse_core(sessions, settings)
    if settings.kind == "none":
        return np.zeros(sessions.grid.close.shape)
    state, weights = CoreState.start(sessions.names, sessions.classes, settings), []
    for day, returns, listed in zip(sessions.days, sessions.returns, sessions.listed & sessions.inside, strict=True):
        state = state.after(day, returns, listed, settings)
        weights.append(state.weights)
    return np.array(weights, np.float64).reshape(sessions.grid.close.shape)


@dataclass(frozen=True)
class Line:
    """What one set of variance forecasts held and earned, from the first session on. Arrays over its sessions.

    Attributes
    ----------
    frame: one row a session: day, equity, each kind of profit and cost in money (see `money.Booked`), net, excess (net
        less what cash earns), gross exposure after it, volatility of the target a year, spiked, reached; earned,
        expected and level, see `line.Step`.
    held: (sessions, names) shares of equity after the close's trades were decided. gates: session -> names' gates.
    core_variance: (sessions,) variance of the core's next session, by the line's own covariance, of the symbols that
        trade in it (of all for the last session). core_return: (sessions,) simple return of the core that was decided
        the close before. findings: kind of `sizing.Finding` -> number of closes, and the newest sentence. holdings: see
        `holdings_of`.
    """

    frame: pl.DataFrame
    held: FloatArray
    gates: tuple[tuple[str, ...], ...]
    core_variance: FloatArray
    core_return: FloatArray
    findings: Mapping[str, tuple[int, str]]
    holdings: pl.DataFrame

    @classmethod
    def of(cls, steps: Sequence[Step], names: Sequence[str], cash: FloatArray) -> Line:
        """The line of several sessions; `cash`: (sessions,) what cash earned in each."""
        findings = dict[str, tuple[int, str]]()
        for step in steps:
            for kind, sentence in dict(step.findings).items():
                findings[kind] = (findings.get(kind, (0, ""))[0] + 1, sentence)
        more = pl.DataFrame(
            {
                "net": [step.net for step in steps], "cash": [step.cash for step in steps],
                "gross": [float(np.abs(step.weights).sum()) for step in steps],
                **{
                    name: [getattr(step, name) for step in steps]
                    for name in ("volatility", "spiked", "reached", "earned", "expected", "level")
                },
            }
        )  # fmt: skip
        frame = pl.concat([to_frame([step.booked for step in steps]), more], how="horizontal")
        return cls(
            frame.with_columns(excess=pl.col("net") - pl.Series(cash)), np.array([step.weights for step in steps]),
            tuple(step.gate for step in steps), np.array([step.variance for step in steps]),
            np.array([step.core_return for step in steps]), findings, holdings_of(steps, names),
        )  # fmt: skip

    @property
    def net(self) -> FloatArray:
        """(sessions,) simple return, all costs paid."""
        return self.frame["net"].to_numpy()

    @property
    def excess(self) -> FloatArray:
        """(sessions,) simple return less what cash earns."""
        return self.frame["excess"].to_numpy()

    @property
    def days(self) -> NDArray[np.datetime64]:
        """(sessions,) dates."""
        return np.asarray(self.frame["day"].to_numpy(), "datetime64[D]")

    @property
    def earned(self) -> FloatArray:
        """(sessions,) return without interest."""
        return self.frame["earned"].to_numpy()

    @property
    def expected(self) -> FloatArray:
        """(sessions,) variance of `earned` that was forecast, without the multiplier."""
        return self.frame["expected"].to_numpy()

    @property
    def level(self) -> FloatArray:
        """(sessions,) the multiplier of a volatility."""
        return self.frame["level"].to_numpy()


def first_session(forecasts: Sequence[FloatArray], wanted: FloatArray, sessions: Sessions | None = None) -> int:
    """The first session at whose close all lines have a forecast of something that is wanted; -1: none.

    `sessions`: a class that is wanted and has no forecast yet, as shares on a weekend of coins, is waited for a week.
    """
    known = np.ones(wanted.shape, np.bool_)
    for one in forecasts:
        known &= np.isfinite(one)
    ready = (known & (wanted != 0)).any(axis=1)
    if not ready.any():
        return -1
    first = int(np.argmax(ready))
    if sessions is None:
        return first
    days = np.array(sessions.days, "datetime64[D]")
    whole = np.ones(len(ready), np.bool_)
    for kind in set(sessions.classes):
        own = np.array([one == kind for one in sessions.classes])
        whole &= (known & (wanted != 0))[:, own].any(axis=1) | ~(wanted != 0)[:, own].any(axis=1)
    begins = ready & (whole | (days >= days[first] + WAITED))
    return int(np.argmax(begins)) if begins.any() else -1


def run_line(
    sessions: Sessions,
    core: FloatArray,
    deviations: FloatArray,
    settings: Book,
    *,
    begin: int,
    tilt: FloatArray | None = None,
    evidence: FloatArray | None = None,
    rebalanced: bool = True,
    learned: Sequence[Learned] | None = None,
) -> Line:
    """The account of one line from the close of session `begin` on, with cash alone before.

    `core`, `deviations`, `tilt`, `evidence`: (sessions, names), decided at each close. `rebalanced`: False: what is
    bought first is held. `learned`: see `learned_of`; None: found on the way.
    """
    state = LineState.start(sessions.names, sessions.classes, settings.size.capital)
    terms, steps = terms_of(sessions, settings, rebalanced=rebalanced), list[Step]()
    for place, close in enumerate(closes_of(sessions, core, deviations, tilt, evidence, learned=learned)):
        if place < begin:
            state = state.watched(close)
            continue
        before, (state, step) = state, state.after(close, terms)
        if steps and before.covariance is not None:  # of what trades in the session, as its return is
            variance = book_variance(steps[-1].share, before.covariance, np.isfinite(close.returns)) or np.nan
            steps[-1] = replace(steps[-1], variance=variance)
        if steps and not rebalanced:
            step = replace(step, volatility=steps[0].volatility, reached=steps[0].reached, gate=steps[0].gate)
        steps.append(step)
    return Line.of(steps, sessions.names, cash_returns(sessions, begin))


def terms_of(sessions: Sessions, settings: Book, *, rebalanced: bool = True) -> Terms:
    """What is the same at each session of a line."""
    return Terms(
        sessions.names, sessions.classes, sessions.instruments, sessions.per_year, settings.size, settings.money,
        rebalanced,
    )  # fmt: skip


def closes_of(
    sessions: Sessions, core: FloatArray, deviations: FloatArray, tilt: FloatArray | None = None,
    evidence: FloatArray | None = None, since: int = 0, learned: Sequence[Learned] | None = None, told: int = 1,
) -> Iterator[Close]:  # fmt: skip
    """What each session from place `since` on brings to a line, see `run_line`; `core`: of these sessions alone.

    `told`: so many of the newest sessions of which what sizing saw is kept, see `Close.told`.
    """
    usual = mean_of_last(deviations, QUARTER)
    nothing = np.zeros(len(sessions.names))
    for place, weights in enumerate(core, since):
        yield Close(
            session=money_session(sessions, place, deviations, usual), returns=sessions.returns[place],
            listed=sessions.listed[place], inside=sessions.inside[place], known=sessions.known[place],
            lent=sessions.lent[place], recalled=sessions.recalled[place], grown=sessions.grown(place),
            split=sessions.split[place], volume=sessions.usual_volume[place],
            deviations=deviations[place], core=weights, tilt=nothing if tilt is None else tilt[place],
            evidence=nothing if evidence is None else evidence[place], bars=sessions.bars[place],
            told=place >= len(sessions.days) - told, learned=None if learned is None else learned[place],
        )  # fmt: skip


def learned_of(sessions: Sessions, deviations: FloatArray) -> list[Learned]:
    """What is known of returns after each session: the same for all lines with these forecasts, however they trade.

    Of many names it is large: four squares of names a session.
    """
    known, found = Learned.start(sessions.names, sessions.classes), list[Learned]()
    for returns, forecast in zip(sessions.returns, deviations, strict=True):
        known = known.after(returns, forecast)
        found.append(known)
    return found


def holdings_of(steps: Sequence[Step], names: Sequence[str]) -> pl.DataFrame:
    """A row a session and symbol that has a bar or is held: what a line holds, and what it decided at its close.

    session; symbol; time: the close of its bar, null without one; units held; held: share of equity after the trade;
    target; core, tilt: its parts before the caps; share: of the core before it is scaled; trade: units ordered; gate:
    what cut it last.
    """
    day = np.array([step.booked.day for step in steps], "datetime64[D]")
    arrays = {
        label: np.array([getattr(step, name) for step in steps]).reshape(len(steps), len(names))
        for label, name in HELD.items()
    }
    bars = np.array([step.bars for step in steps], np.int64).reshape(len(steps), len(names))
    row, column = np.nonzero((bars > 0) | (arrays["units"] != 0) | (arrays["trade"] != 0))
    time = pl.Series(bars[row, column].astype("datetime64[us]")).dt.replace_time_zone("UTC")
    gates = np.array([step.gate for step in steps], dtype=object).reshape(len(steps), len(names))
    return pl.DataFrame(
        {
            "session": pl.Series(day[row], dtype=pl.Date),
            "symbol": pl.Series(np.array(names, dtype=object)[column], dtype=pl.String),
            "time": time.set(pl.Series(bars[row, column] == 0), None),
            **{label: pl.Series(values[row, column], dtype=pl.Float64) for label, values in arrays.items()},
            "gate": pl.Series(gates[row, column], dtype=pl.String),
        }
    )


def no_holdings() -> pl.DataFrame:
    """The table of `holdings_of` without a row."""
    return holdings_of((), ())


HELD = {
    "units": "units", "held": "weights", "target": "target", "core": "core", "tilt": "tilt", "share": "share",
    "trade": "trades",
}  # fmt: skip
"""Column of `holdings_of` -> the field of a `line.Step` that it is."""


def cash_returns(sessions: Sessions, begin: int) -> FloatArray:
    """(sessions,) what cash earned since the session before, from `begin` on; 0 in the first."""
    return earned_on_cash(sessions.days[begin:], sessions.benchmark[begin:])


def money_session(sessions: Sessions, place: int, deviations: FloatArray, usual: FloatArray) -> Session:
    """What a session brings to an account; deviations are those forecast at the close before."""
    grid, last = sessions.grid, max(place - 1, 0)
    return Session(
        day=grid.days[place], fill=grid.fill[place], close=grid.close[place], at_open=grid.at_open[place],
        rate=sessions.rate[place], deviation=deviations[last], usual_deviation=usual[last], volume=grid.volume[place],
        usual_volume=grid.usual_volume[place], carry=None if sessions.carry is None else sessions.carry[place],
        funding=None if sessions.funding is None else sessions.funding[place],
        **{name: one[place] for name, one in sessions.loans.items()}, benchmark=float(sessions.benchmark[place]),
        events=sessions.events.get(grid.days[place], ()),
    )  # fmt: skip


# ── gatecast's line, from day to day ──────────────────────────────────────────────────────────────

SESSIONS_BEFORE = 130
"""Sessions before the first new one from which all that counts of bars and forecasts can be read again."""


@dataclass(frozen=True)
class Carried:
    """All that gatecast's line goes on from at the close of a session: the line's state, and that of the core."""

    line: LineState
    core: CoreState

    @property
    def day(self) -> date:
        """The session."""
        assert self.line.day is not None
        return self.line.day

    @property
    def close(self) -> datetime:
        """The newest close that was seen."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(self.line.bars.max(initial=0)))

    def among(self, names: Sequence[str], classes: Sequence[str]) -> Carried:
        """The same for these names in this order."""
        return Carried(self.line.among(names, classes), self.core.among(names, classes))


@dataclass(frozen=True)
class Course:
    """What gatecast's line decided at the newest sessions.

    `steps`: one a session that was decided; `names`: the symbols. `carried`: what the next session goes on from, and
    before it the same of the session before, from which the newest one is decided again where more of its bars come.
    `desks`: the sessions as a desk reads them: all that were decided, of a line that carries nothing the newest alone;
    what a calendar says of them is not known here.
    """

    steps: tuple[Step, ...]
    names: tuple[str, ...]
    carried: tuple[Carried, ...]
    desks: tuple[Desk, ...] = field(default=(), repr=False)

    @cached_property
    def holdings(self) -> pl.DataFrame:
        """See `holdings_of`."""
        return holdings_of(self.steps, self.names)


def carry_on(
    classes: Mapping[str, Decided], facts: Facts, settings: Book, carried: Sequence[Carried] = (),
    begins: date | None = None, *, settled: bool = False, level: Level = "first",
) -> Course:  # fmt: skip
    """gatecast's line, with what strategies add, from what it `carried` on, the newest last.

    Where more bars of the newest session have come, known in time, it is decided again, unless it is `settled`.
    `begins`: the first session of a line that carries nothing; None: the first at which all lines of a comparison have
    a forecast. `level`: see `sessions_by`. A session costs as much as there are pairs of names, plus what it takes to
    read the newest 130.
    """
    recent = facts.since(_before(facts, carried[0].day)) if carried else facts
    decided = {one.day: one.close for one in carried if one.line.bars.any()}
    sessions = sessions_by(recent, settings, decided=decided, level=level)
    if carried and not settled and _has_more(sessions, carried[-1].line):
        if len(carried) == 1:
            return carry_on(classes, facts, settings, begins=carried[0].day, level=level)
        return carry_on(classes, facts, settings, carried[:-1], settled=True, level=level)
    _refuse_core(sessions, settings.core)
    names, terms = sessions.names, terms_of(sessions, settings)
    tilt = tilt_of(classes, sessions, MARKET)
    deviations = deviations_of(classes, sessions, ENSEMBLE)
    if carried:
        before = carried[-1].among(names, sessions.classes)
        first = begin = sum(day <= before.day for day in sessions.days)
    else:
        before = Carried(
            LineState.start(names, sessions.classes, settings.size.capital),
            CoreState.start(names, sessions.classes, settings.core),
        )
        first, begin = 0, _beginning(classes, sessions, settings, tilt, begins)
    if begin < 0 or begin >= len(sessions.days):
        return Course((), names, tuple(carried))
    steps, desks, last = list[Step](), list[Desk](), deque(carried[-1:], maxlen=2)
    core, line = before.core, before.line
    cores, weights = list[CoreState](), list[FloatArray]()
    for place in range(first, len(sessions.days)):
        listed = sessions.listed[place] & sessions.inside[place]
        core = core.after(sessions.days[place], sessions.returns[place], listed, settings.core)
        cores, weights = [*cores[-1:], core], [*weights, core.weights]
    left, usual = len(sessions.days) - begin, mean_of_last(deviations, QUARTER)
    closes = closes_of(sessions, np.array(weights), deviations, *tilt, since=first, told=left if carried else 1)
    for place, close in enumerate(closes, first):
        if place < begin:
            line = line.watched(close)
            continue
        line, step = line.after(close, terms)
        if step.view is not None:
            desks.append(_desk_of(step, line, sessions, place, deviations[place], usual[place], settings))
        steps.append(replace(step, view=None, sizing=None))
        if left <= len(cores):
            last.append(Carried(line, cores[-left]))
        left -= 1
    return Course(tuple(steps), names, tuple(last), tuple(desks))


def _desk_of(
    step: Step, line: LineState, sessions: Sessions, place: int, deviation: FloatArray, usual_deviation: FloatArray,
    settings: Book,
) -> Desk:  # fmt: skip
    """What a desk needs of the session at a place, but for what a calendar says; `line`: after it."""
    assert step.view is not None
    assert step.sizing is not None
    view = step.view if settings.size.spike_sizes else replace(step.view, spiked=None)  # else no trade depends on it
    nothing = np.zeros(len(line.names), np.int64)
    return Desk(
        day=sessions.days[place], view=view, sizing=step.sizing, instruments=sessions.instruments,
        lent=sessions.lent[place], recalled=sessions.recalled[place], price=line.account.price,
        bars=sessions.bars[: place + 1].max(axis=0), age=nothing, rate=line.account.rate, deviation=deviation,
        usual_deviation=usual_deviation, volume=sessions.usual_volume[place],
        until=nothing, size=settings.size, money=without_tables(settings.money),
    )  # fmt: skip


def _before(facts: Facts, day: date) -> date:
    """The session from which bars are read where sessions after a day are new."""
    days = facts.bars.select(session_date(pl.col("time"))).to_series().unique().sort()
    return days.filter(days <= day).tail(SESSIONS_BEFORE).min() or day  # type: ignore[return-value]


def _has_more(sessions: Sessions, line: LineState) -> bool:
    """Whether more bars of a line's session are there than it has seen, of the symbols that it has."""
    if line.day not in sessions.days:
        return False
    seen = dict(zip(line.names, line.bars.tolist(), strict=True))
    there = sessions.bars[sessions.days.index(line.day)].tolist()
    return any(bar > seen.get(name, bar) for name, bar in zip(sessions.names, there, strict=True))


def _beginning(
    classes: Mapping[str, Decided], sessions: Sessions, settings: Book, tilt: tuple[FloatArray, FloatArray],
    begins: date | None,
) -> int:  # fmt: skip
    """The first session of a line, -1 where there is none; `begins`: see `carry_on`."""
    if begins is not None:
        return sum(day < begins for day in sessions.days)
    forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
    return _first_of(forecasts, core_path(sessions, settings.core), tilt, sessions)


def _first_of(
    forecasts: Mapping[str, FloatArray], core: FloatArray, tilt: tuple[FloatArray, FloatArray], sessions: Sessions
) -> int:
    """The first session at whose close all lines have a forecast of what is wanted; -1: none, or none of gatecast."""
    told = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
    wanted = np.abs(core) + np.abs(tilt[0] * tilt[1])
    return first_session(list(told.values()), wanted, sessions) if ENSEMBLE in told else -1


# ── lines of a comparison ─────────────────────────────────────────────────────────────────────────

TILTED, BOUGHT, CASH, OWN_BENCHMARK = "tilted", "bought_and_held", "cash", "benchmark"
"""Lines beside those of `SIZED_BY`: with what strategies add, without any trade after the first, nothing held, and the
price of the user's benchmark."""


@dataclass(frozen=True)
class Work:
    """What one line is made of, see `run_line`."""

    sessions: Sessions
    core: FloatArray
    deviations: FloatArray
    settings: Book
    begin: int
    tilt: tuple[FloatArray, FloatArray] | None = None
    rebalanced: bool = True
    learned: Sequence[Learned] | None = None

    def run(self) -> Line:
        """The line."""
        weights, evidence = self.tilt or (None, None)
        return run_line(
            self.sessions, self.core, self.deviations, self.settings, begin=self.begin, tilt=weights,
            evidence=evidence, rebalanced=self.rebalanced, learned=self.learned,
        )  # fmt: skip


def tail_paths_of(
    classes: Mapping[str, Decided], sessions: Sessions, line: Line, level: float = 0.025
) -> dict[str, FloatArray]:
    """Method -> (sessions of the line, 2) the tails that it says of each, the close before, see `risk.tail_paths`.

    Of what the line was to hold over the session, where it trades in it, by the forecasts that size gatecast's line;
    `filtered_rival`: the same method by those of the best simple forecast so far.
    """
    begin, returns = len(sessions.days) - len(line.frame), sessions.returns
    trades, past = np.isfinite(returns), past_deviations(returns)
    weights = np.zeros(returns.shape)
    weights[begin + 1 :] = line.held[:-1]
    paths = dict[str, FloatArray]()
    for model, methods in ((ENSEMBLE, METHODS), (RIVAL, {"filtered": METHODS["filtered"]})):
        deviations = deviations_of(classes, sessions, model)
        scales = np.where(np.isfinite(deviations), deviations, past)
        before = np.vstack([np.full((1, len(sessions.names)), np.nan), scales[:-1]])
        made = tail_paths(
            returns, before, np.where(trades, weights, 0.0), sessions.classes, level, methods, since=begin + 1
        )
        paths |= {name if model == ENSEMBLE else f"{name}_rival": one[begin:] for name, one in made.items()}
    return paths


def lines_of(
    classes: Mapping[str, Decided],
    sessions: Sessions,
    settings: Book,
    *,
    only: Collection[str] | None = None,
    late: int = 0,
    jobs: int = 1,
    learned: Sequence[Learned] | None = None,
) -> dict[str, Line]:
    """Line -> what it held and earned, all from the same session on; none where nothing was ever forecast of the core.

    `tilted` is there where strategies had any evidence. `only`: the lines that are made. `late`: see `tilt_of`.
    `learned`: of gatecast's forecasts, see `learned_of`; None: each line finds its own.
    """
    core = core_path(sessions, settings.core)
    forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
    forecasts = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
    tilt = tilt_of(classes, sessions, MARKET)
    begin = _first_of(forecasts, core, tilt, sessions)
    if begin < 0:
        return {}
    work = {name: Work(sessions, core, one, settings, begin) for name, one in forecasts.items()}
    tilt = tilt_of(classes, sessions, MARKET, late) if late else tilt
    own = work[ENSEMBLE] = replace(work[ENSEMBLE], learned=learned)
    if (tilt[0] * tilt[1])[begin:].any():
        work[TILTED] = replace(own, tilt=tilt)
    work[BOUGHT] = replace(own, rebalanced=False)
    work = {name: one for name, one in work.items() if only is None or name in only}
    made = fan_out(Work.run, work.values(), jobs=jobs, processes=jobs > 1)
    return dict(zip(work, made, strict=True))
