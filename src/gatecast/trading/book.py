"""The book: forecasts of variance, a core and a tilt -> what is held session by session, and what it earned.

Every line of a comparison goes through the same loop: the same core, caps, band, lots, fills and costs. Lines differ in
the forecasts of variance alone, which say how large the core is; and one has a tilt, what strategies add to it.

    decided at a session's close      filled at the next session's open or close      valued at its close
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from gatecast.compute.parallel import fan_out
from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.forecasting.panel import ENSEMBLE, RIVAL, SIZED_BY
from gatecast.market.actions import with_terms
from gatecast.market.bars import session_date
from gatecast.market.calendar import fill_times, sessions_of
from gatecast.market.classes import currencies_of
from gatecast.market.steps import Level, in_one_unit, splits_so_far
from gatecast.market.universe import INSIDE, is_inside
from gatecast.samples.targets import DECAY
from gatecast.settings import Settings
from gatecast.trading.core import Core, CoreState
from gatecast.trading.costs import MoneySettings
from gatecast.trading.covariance import Correlations, book_variance, covariance_of, spiked
from gatecast.trading.grid import (
    INTEREST,
    LOANS,
    MONTH,
    QUARTER,
    Grid,
    carry_of,
    forward_filled,
    grid_of,
    loans_of,
    mean_of_last,
)
from gatecast.trading.money import (
    CONTRACTS,
    DAYS_OF_RATES,
    ROLLS,
    UNKNOWN_BENCHMARK,
    UNKNOWN_DEVIATION,
    Account,
    Booked,
    End,
    Event,
    Instruments,
    Roll,
    Session,
    book_session,
    can_be_lent,
    cash_rates,
    conversion_rates,
    events_of,
    margin_shares,
    to_frame,
)
from gatecast.trading.risk import METHODS, tail_paths
from gatecast.trading.sizing import BookSettings, BookState, BookView, trades_of
from gatecast.trading.strategies import MARKET
from gatecast.trading.terms import as_table

if TYPE_CHECKING:
    from gatecast.market.facts import Facts
    from gatecast.trading.decisions import Decided

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CARRIED = 60
"""Sessions for which a forecast of variance stands while no newer one comes, as through a halt."""
LEAST_RETURNS = 22
"""Returns of a name before its past deviation is known."""
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
    known: whether there is a bar that is known in time for the session's decision. returns: simple, from close to
    close, NaN without such a bar and where a listing begins. listed: whether the symbol has begun, its end is not
    known, and its currency has a rate. inside: whether it belongs to its universe. split: product of the ratios of
    splits up to each session: prices times it are on one level. lent: whether a short that is decided can be borrowed
    at the next fill; recalled: whether it has to be bought there. loans, carry: what tables say, see
    `trading.money.Session`. events: actions and ends of symbols, by session.
    benchmark: (sessions,) interest a year. rate: money of the book for one unit of a symbol's currency.
    per_year: (symbols,) sessions a year of the symbol's class. left_out: symbol -> why its money cannot be counted.
    """

    grid: Grid
    classes: tuple[str, ...]
    known: BoolArray
    returns: FloatArray
    listed: BoolArray
    split: FloatArray
    inside: BoolArray
    lent: BoolArray
    recalled: BoolArray
    loans: Mapping[str, FloatArray | BoolArray]
    carry: FloatArray | None
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
    def price(self) -> FloatArray:
        """(sessions, symbols) the newest known close in the book's currency, as it is after the splits since."""
        level = np.where(self.known, self.grid.close * self.split, np.nan)
        return forward_filled(level) / self.split * self.rate

    def grown(self, place: int) -> FloatArray:
        """(symbols,) what splits made of one unit in a session."""
        return np.asarray(self.split[place] / self.split[max(place - 1, 0)], np.float64)

    def least_units(self, place: int, held: FloatArray) -> FloatArray | None:
        """(symbols,) units that no holding may be below from the next fill on, see `sizing.BookView`."""
        lent, recalled = self.lent[place], self.recalled[place]
        if lent.all() and not recalled.any():
            return None
        return np.where(recalled, 0.0, np.where(lent, -np.inf, np.minimum(held, 0.0)))

    def until(self, count: int) -> Sessions:
        """The first `count` sessions alone."""
        grid = self.grid
        grid = Grid(
            grid.days[:count], grid.symbols, grid.fill[:count], grid.close[:count], grid.at_open[:count],
            grid.volume[:count], grid.usual_volume[:count],
        )  # fmt: skip
        return replace(
            self, grid=grid, known=self.known[:count], returns=self.returns[:count], listed=self.listed[:count],
            split=self.split[:count], inside=self.inside[:count], lent=self.lent[:count],
            recalled=self.recalled[:count],
            loans={name: one[:count] for name, one in self.loans.items()},
            carry=None if self.carry is None else self.carry[:count],
            benchmark=self.benchmark[:count], rate=self.rate[:count],
        )  # fmt: skip


def sessions_by(facts: Facts, settings: Book, *, level: Level = "first", default_ends: bool = True) -> Sessions:
    """The bars of all classes, session by session, as they were traded: not adjusted for splits.

    `level`: which bars are on the level that splits brought all to; of a store "first", of a file that was read
    "newest". `default_ends`: whether a symbol that ends on terms that nobody knows is booked on the usual ones, else at
    no loss.
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
    counted = [np.where(instruments.has_volume, one, np.nan) for one in (grid.volume, grid.usual_volume)]
    grid = replace(grid, volume=counted[0], usual_volume=counted[1])
    known, early = _in_time(bars, grid)
    grid = replace(grid, fill=np.where(early, grid.close, grid.fill), at_open=grid.at_open & ~early)
    returns, gone = np.where(known, grid.returns, np.nan), _gone(facts, grid)
    actions, not_given = _of_the_book(in_one_unit(facts.actions, level), grid.symbols)
    split = splits_so_far(actions, grid.days, grid.symbols)
    split, whole = split[:-1], split[-1]
    raw = (whole if level == "newest" else 1.0) / split
    grid = replace(grid, fill=grid.fill * raw, close=grid.close * raw)
    ends = facts.ends.filter(pl.col("symbol").is_in(grid.symbols))
    events = events_of(actions, grid.days, ends, terms.rolls_of(grid.symbols), _closes(bars))
    events = {day: tuple(_at_close(one, day, grid) for one in booked) for day, booked in events.items()}
    _add_rolls(returns, events, grid)
    more = dict[date, list[Event]]()
    for row, column in _starts(bars, facts.starts[own], grid):
        returns[row, column] = np.nan  # another instrument under the name ends the old one for good
        more.setdefault(grid.days[row], []).append(End(grid.symbols[column], float(instruments.end_return[column])))
    begun = np.maximum.accumulate(np.isfinite(grid.close), axis=0)
    rate = grid.rates(instruments, settings.money.currency)
    lent, recalled, loans = _loans(terms.table("borrow", LOANS), grid, rate, instruments, settings.money)
    rates = terms.table("rates", INTEREST)
    return Sessions(
        grid=grid, classes=tuple(classes.values()), known=known, returns=returns,
        listed=begun & ~gone & np.isfinite(rate), split=split, inside=_inside(bars, grid), lent=lent,
        recalled=recalled, loans=loans,
        carry=None if rates is None else carry_of(rates, instruments, grid),
        events={day: (*events.get(day, ()), *more.get(day, ())) for day in {*events, *more}},
        benchmark=_benchmark(grid.days, settings.money), rate=rate,
        per_year=np.array([sessions_of(bars.filter(pl.col("asset_class") == kind)) for kind in classes.values()]),
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

    def table(self, name: Literal["borrow", "rates"], columns: dict[str, type[pl.DataType]]) -> pl.DataFrame | None:
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


def _closes(bars: pl.DataFrame) -> list[datetime]:
    """The last close of each session."""
    return bars.group_by(session_date(pl.col("time"))).agg(last=pl.col("time").max()).sort("last")["last"].to_list()


def _benchmark(days: Sequence[date], settings: MoneySettings) -> FloatArray:
    """(sessions,) interest a year on cash: that of the settings, else of dollars that of bills."""
    if settings.benchmark_rate is not None:
        return np.full(len(days), settings.benchmark_rate)
    return cash_rates(days) if settings.currency == DOLLAR and days else np.full(len(days), UNKNOWN_BENCHMARK)


def _in_time(bars: pl.DataFrame, grid: Grid) -> tuple[BoolArray, BoolArray]:
    """(sessions, symbols) whether a session's last bar is known when all decide; (symbols,) who opens before that.

    A session decides at its latest close. A symbol that may open again before that cannot be filled at that open: it is
    filled at its next close.
    """
    table = bars.with_columns(_fill=fill_times(bars), day=session_date(pl.col("time")))
    table = table.with_columns(_end=pl.col("time").max().over("day"))
    last = table.group_by("symbol", "day", maintain_order=True).last()
    days, symbols = pl.Series(grid.days, dtype=pl.Date), pl.Series(grid.symbols)
    at = days.search_sorted(last["day"]).to_numpy(), symbols.search_sorted(last["symbol"]).to_numpy()
    known = np.zeros(grid.close.shape, np.bool_)
    known[at] = (last["known_at"] <= pl.Series(last["_fill"])).to_numpy()
    early = np.zeros(len(grid.symbols), np.bool_)
    early[np.unique(at[1][(last["_fill"] < last["_end"]).to_numpy()])] = True
    return known, early


def _inside(bars: pl.DataFrame, grid: Grid) -> BoolArray:
    """(sessions, symbols) whether the symbol belongs to its universe, as at its newest bar."""
    if INSIDE not in bars.columns:
        return np.ones(grid.close.shape, np.bool_)
    last = bars.select("symbol", day=session_date(pl.col("time")), inside=pl.Series(is_inside(bars)))
    last = last.group_by("symbol", "day", maintain_order=True).last()
    days, symbols = pl.Series(grid.days, dtype=pl.Date), pl.Series(grid.symbols)
    found = np.full(grid.close.shape, np.nan)
    found[days.search_sorted(last["day"]).to_numpy(), symbols.search_sorted(last["symbol"]).to_numpy()] = last["inside"]
    return np.asarray(forward_filled(found) > 0, np.bool_)


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
    """Session and symbol of each listing after a symbol's first."""
    row = {day: place for place, day in enumerate(grid.days)}
    column = {name: place for place, name in enumerate(grid.symbols)}
    first = bars.filter(pl.Series(starts)).select("symbol", day=session_date(pl.col("time")))
    return [(row[day], column[symbol]) for symbol, day in first.iter_rows()]


def _carried(values: FloatArray, most: int) -> FloatArray:
    """Values with the newest that is known where there is none, at most so many sessions old."""
    known = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    age = np.arange(len(values))[:, None] - np.maximum.accumulate(known, axis=0)
    return np.asarray(np.where(age > most, np.nan, forward_filled(values)), np.float64)


def past_deviations(returns: FloatArray) -> FloatArray:
    """(sessions, names) root of the exponential mean of squared returns, decay .94; NaN before 22 of them.

    What returns are measured by in correlations where nothing was forecast yet.
    """
    square = pl.DataFrame(returns**2).fill_nan(None)
    mean = square.select(pl.all().ewm_mean(alpha=1 - DECAY, adjust=True, min_samples=LEAST_RETURNS, ignore_nulls=True))
    return np.asarray(np.sqrt(mean.fill_null(np.nan).to_numpy()), np.float64)


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
    return _carried(table, CARRIED)


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


def core_path(sessions: Sessions, settings: Core) -> FloatArray:
    """(sessions, names) weights of the core, decided at each close from the returns up to it; the same for every line.

    Raises `SettingsError` for a symbol or class that the settings name and the bars do not have.
    """
    if settings.file is not None:
        raise SettingsError(f"the core's weights in {settings.file} were not read: use Core.with_file_read() first.")
    if settings.kind == "none":
        return np.zeros(sessions.grid.close.shape)
    settings.refuse_unknown((*sessions.names, *sessions.left_out), set(sessions.classes))
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
        less what cash earns), gross exposure after it, volatility of the target a year, target_reached; earned: the
        return without interest, by the prices that were known; expected: the variance of it that was forecast of what
        was held after the fill, without the multiplier; level: that multiplier, of a volatility, known the close
        before.
    held: (sessions, names) shares of equity after the close's trades were decided. gates: session -> names' gates.
    core_variance: (sessions,) variance of the core's next session, by the line's own covariance, of the symbols that
        trade in it (of all for the last session). core_return: (sessions,) simple return of the core that was decided
        the close before. findings: kind of `sizing.Finding` -> number of closes, and the newest sentence.
    """

    frame: pl.DataFrame
    held: FloatArray
    gates: tuple[tuple[str, ...], ...]
    core_variance: FloatArray
    core_return: FloatArray
    findings: Mapping[str, tuple[int, str]]

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


def first_session(forecasts: Sequence[FloatArray], wanted: FloatArray) -> int:
    """The first session at whose close all lines have a forecast of something that is wanted; -1: none."""
    known = np.ones(wanted.shape, np.bool_)
    for one in forecasts:
        known &= np.isfinite(one)
    ready = (known & (wanted != 0)).any(axis=1)
    return int(np.argmax(ready)) if ready.any() else -1


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
) -> Line:
    """The account of one line from the close of session `begin` on, with cash alone before.

    `core`, `deviations`, `tilt`, `evidence`: (sessions, names), decided at each close. `rebalanced`: False: what is
    bought first is held.
    """
    names, instruments, size = sessions.names, sessions.instruments, settings.size
    usual, known = mean_of_last(deviations, QUARTER), forward_filled(deviations)
    scales = np.where(np.isfinite(deviations), deviations, past_deviations(sessions.returns))
    unforecast = np.nan_to_num(forward_filled(scales), nan=UNKNOWN_DEVIATION)
    correlations = Correlations.start(names, sessions.classes)
    for place in range(1, begin + 1):
        correlations = correlations.after(sessions.returns[place], scales[place - 1])
    account, state = Account.opened(size.capital, len(names)), BookState.start(names)
    orders, covariance, weights, equity = np.zeros(len(names)), None, np.zeros(len(names)), size.capital
    nothing, margins = np.zeros(len(names)), bool(instruments.margin.any())
    wanted, price = nothing, sessions.price
    usual_volume = mean_of_last(sessions.grid.volume, MONTH)  # known at the close
    booked, rows, held, gates = list[Booked](), list[dict[str, float | bool]](), list[FloatArray](), []
    variances, earned, findings = [], [], dict[str, tuple[int, str]]()
    for place in range(begin, len(sessions.days)):
        session = money_session(sessions, place, deviations, usual)
        before = account
        account, done = book_session(account, session, orders, instruments, settings.money)
        waiting = np.where(np.isfinite(session.fill) | ~sessions.listed[place], 0.0, orders * sessions.grown(place))
        net = done.equity / done.before - 1 if done.before > 0 else 0.0
        late = np.where(sessions.known[place] | (account.units == 0) | ~instruments.funded, 0.0, account.units)
        booked_at = account.price * account.rate
        newest = np.where(np.isnan(price[place]), booked_at, price[place])  # what was given may have no bar yet
        unseen = np.where(late == 0, 0.0, late * instruments.multiplier * (newest - booked_at))
        seen, equity = equity, account.equity(instruments) + float(unseen.sum())  # by the prices that are known
        if place > begin:
            correlations = correlations.after(sessions.returns[place], scales[place - 1])
        earned_net, expected, level = math.nan, math.nan, math.nan
        if covariance is not None:  # of what trades in the session, as the returns are
            variances[-1] = book_variance(wanted, covariance, np.isfinite(sessions.returns[place])) or np.nan
        if covariance is not None and seen > 0:
            worth = np.where(
                account.units == 0, 0.0, account.units * before.price * before.rate / sessions.grown(place)
            )
            filled, trades = worth * instruments.multiplier / seen, np.isfinite(sessions.returns[place])
            earned_net = equity / seen - 1 - done.interest / seen
            expected, level = book_variance(filled, covariance, trades), state.level
            state = state.after_return(earned_net, expected)
        state = state.after_equity(equity, size)
        ahead = np.where(np.isnan(known[place]) & (account.units != 0), unforecast[place], known[place])
        which = np.flatnonzero(ahead > 0)
        correlation = np.full((len(names), len(names)), np.nan)
        own = correlations.correlation(which)
        correlation[np.ix_(which, which)] = own
        covariance = covariance_of(correlation, ahead)
        year = covariance_of(correlation, ahead * np.sqrt(sessions.per_year))
        wide = None
        if size.spike_sizes or place == len(sessions.days) - 1:  # else nobody reads it
            wide = np.full_like(correlation, np.nan)
            wide[np.ix_(which, which)] = spiked(own, [sessions.classes[one] for one in which])
        tradable = sessions.listed[place] & sessions.known[place]
        wanted = np.where(deviations[place] > 0, core[place], 0.0)
        least = sessions.least_units(place, account.units + waiting)
        margin = margin_shares(instruments, newest / sessions.rate[place]) if margins else nothing
        if rebalanced or place == begin:
            sized = trades_of(
                BookView(
                    names=names, classes=sessions.classes, core=wanted,
                    tilt=nothing if tilt is None else np.where(deviations[place] > 0, tilt[place], 0.0),
                    evidence=nothing if evidence is None else evidence[place], covariance=year, equity=equity,
                    held=np.where(newest > 0, account.units + waiting, 0.0), price=newest * instruments.multiplier,
                    lot=instruments.lot,
                    volume=usual_volume[place], margin=margin, funded=instruments.funded, least=least,
                    cost=instruments.commission + instruments.half_spread, tradable=tradable,
                    closing=~(sessions.listed[place] & sessions.inside[place]),
                    spiked=None if wide is None else covariance_of(wide, ahead * np.sqrt(sessions.per_year)),
                ),
                state, size,
            )  # fmt: skip
            state, orders, weights = sized.state, sized.trades + waiting, sized.weights
            volatility, gate = sized.volatility, sized.gate
            has = state.level * book_variance(weights, year) ** 0.5
            reached = has >= size.target_volatility * (1 - size.book_band) * (1 - 1e-6)
            for kind, sentence in dict(sized.findings).items():
                findings[kind] = (findings.get(kind, (0, ""))[0] + 1, sentence)
        else:
            orders, weights = waiting, account.exposure(instruments) / max(equity, 1e-12)
        booked.append(done)
        rows.append(
            {
                "net": net,
                "cash": account.cash,
                "gross": float(np.abs(weights).sum()),
                "volatility": volatility,
                "reached": reached,
                "earned": earned_net,
                "expected": expected,
                "level": level,
            }
        )
        held.append(weights)
        gates.append(gate)
        variances.append(book_variance(wanted, covariance) or np.nan)
        past = core[place - 1] if place else nothing
        earned.append(float(np.nansum(past * np.nan_to_num(sessions.returns[place]))))
    frame = pl.concat([to_frame(booked), pl.DataFrame(rows)], how="horizontal")
    frame = frame.with_columns(excess=pl.col("net") - pl.Series(cash_returns(sessions, begin)))
    return Line(frame, np.array(held), tuple(gates), np.array(variances), np.array(earned), findings)


def cash_returns(sessions: Sessions, begin: int) -> FloatArray:
    """(sessions,) what cash earned since the session before, from `begin` on; 0 in the first."""
    days = np.array(sessions.days[begin:], dtype="datetime64[D]")
    nights = np.diff(days, prepend=days[:1]).astype(np.float64)
    return np.asarray(sessions.benchmark[begin:] * nights / DAYS_OF_RATES, np.float64)


def money_session(sessions: Sessions, place: int, deviations: FloatArray, usual: FloatArray) -> Session:
    """What a session brings to an account; deviations are those forecast at the close before."""
    grid, last = sessions.grid, max(place - 1, 0)
    return Session(
        day=grid.days[place], fill=grid.fill[place], close=grid.close[place], at_open=grid.at_open[place],
        rate=sessions.rate[place], deviation=deviations[last], usual_deviation=usual[last], volume=grid.volume[place],
        usual_volume=grid.usual_volume[place], carry=None if sessions.carry is None else sessions.carry[place],
        **{name: one[place] for name, one in sessions.loans.items()}, benchmark=float(sessions.benchmark[place]),
        events=sessions.events.get(grid.days[place], ()),
    )  # fmt: skip


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

    def run(self) -> Line:
        """The line."""
        weights, evidence = self.tilt or (None, None)
        return run_line(
            self.sessions, self.core, self.deviations, self.settings, begin=self.begin, tilt=weights,
            evidence=evidence, rebalanced=self.rebalanced,
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
) -> dict[str, Line]:
    """Line -> what it held and earned, all from the same session on; none where nothing was ever forecast of the core.

    `tilted` is there where strategies had any evidence. `only`: the lines that are made. `late`: see `tilt_of`.
    """
    core = core_path(sessions, settings.core)
    forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
    forecasts = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
    tilt = tilt_of(classes, sessions, MARKET)
    wanted = np.abs(core) + np.abs(tilt[0] * tilt[1])
    begin = first_session(list(forecasts.values()), wanted) if ENSEMBLE in forecasts else -1
    if begin < 0:
        return {}
    work = {name: Work(sessions, core, one, settings, begin) for name, one in forecasts.items()}
    own, tilt = work[ENSEMBLE], tilt_of(classes, sessions, MARKET, late) if late else tilt
    if (tilt[0] * tilt[1])[begin:].any():
        work[TILTED] = replace(own, tilt=tilt)
    work[BOUGHT] = replace(own, rebalanced=False)
    work = {name: one for name, one in work.items() if only is None or name in only}
    made = fan_out(Work.run, work.values(), jobs=jobs, processes=jobs > 1)
    return dict(zip(work, made, strict=True))
