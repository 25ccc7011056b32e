"""Bars of all classes -> arrays (sessions, symbols), as a book that decides once a session sees them.

A session is a date: symbols whose classes close at different hours share it. A symbol without a bar in a session is NaN
there, never 0 and never the price before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.market.bars import session_date
from gatecast.market.classes import currencies_of
from gatecast.market.given import conversion_rates
from gatecast.trading.events import Event, Session
from gatecast.trading.instruments import Instruments, rows_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
MONTH, QUARTER = 21, 63
"""Sessions that a usual volume and a usual deviation are the mean of."""


@dataclass(frozen=True)
class Grid:
    """Bars by session and symbol; arrays (sessions, symbols).

    Attributes
    ----------
    days: (sessions,) rising dates. symbols: (symbols,) sorted.
    fill, close: where orders of the session before are filled, and the last close of the session.
    at_open: whether they are filled at an open. volume: money traded, NaN where it is not known.
    usual_volume: its mean over the 21 sessions before that have one, known before the session.
    """

    days: tuple[date, ...]
    symbols: tuple[str, ...]
    fill: FloatArray
    close: FloatArray
    at_open: BoolArray
    volume: FloatArray
    usual_volume: FloatArray

    @property
    def returns(self) -> FloatArray:
        """Simple returns from close to close, each since the symbol's newest close before; NaN without a bar."""
        before = forward_filled(self.close)[:-1]
        first = np.full((1, len(self.symbols)), np.nan)
        return np.concatenate([first, self.close[1:] / before - 1]) if len(self.days) else self.close

    def only(self, known: BoolArray, fill: FloatArray, at_open: BoolArray, counted: BoolArray) -> Grid:
        """The same with other fills, and nothing of the cells that are not `known`; volumes of `counted` symbols alone.

        `known`, `fill`, `at_open`: (sessions, symbols). `counted`: (symbols,).
        """
        volume = np.where(known & counted, self.volume, np.nan)
        close, fill = np.where(known, self.close, np.nan), np.where(known, fill, np.nan)
        return Grid(self.days, self.symbols, fill, close, at_open, volume, _before(volume))

    def rates(self, instruments: Instruments, classes: Sequence[str], book: str) -> FloatArray:
        """Money of the book for one unit of each symbol's currency, from the pairs among the symbols.

        `classes`: of the symbols. The newest close of a pair, or of a coin such as USDT-USD, counts until its next; NaN
        before its first. Raises `BarsError` for a currency without one.
        """
        closes = forward_filled(self.close)
        pairs = {name: closes[:, place] for name, place in instruments.rate_pairs(classes).items()}
        return conversion_rates(instruments.currency, book, pairs, len(self.days))

    def sessions(
        self,
        *,
        deviation: FloatArray | None = None,
        events: Mapping[date, tuple[Event, ...]] | None = None,
        benchmark: Sequence[float] | FloatArray | None = None,
        **arrays: FloatArray | BoolArray,
    ) -> list[Session]:
        """What each session brings an account, see `trading.events.Session`.

        `deviation`: (sessions, symbols) forecast the close before, a session; its usual value is the mean of the last
        63, this one included. `benchmark`: (sessions,) interest a year. `events`: see `trading.events.events_of`.
        `arrays`: further fields of `Session`, (sessions, symbols) each.
        """
        usual = None if deviation is None else mean_of_last(deviation, QUARTER)
        found = []
        for row, day in enumerate(self.days):
            more: dict[str, Any] = {name: one[row] for name, one in arrays.items()}
            if deviation is not None and usual is not None:
                more |= {"deviation": deviation[row], "usual_deviation": usual[row]}
            found.append(
                Session(
                    day, self.fill[row], self.close[row], self.at_open[row], volume=self.volume[row],
                    usual_volume=self.usual_volume[row], events=(events or {}).get(day, ()),
                    benchmark=None if benchmark is None else float(benchmark[row]), **more,
                )
            )  # fmt: skip
        return found


def grid_of(bars: pl.DataFrame, at_open: BoolArray) -> Grid:
    """Bars and whether each one's orders are filled at its open -> the grid of all sessions that any symbol has.

    `bars`: the Bars, sorted by symbol and time; `at_open`: (bars,), see `market.facts.Facts.fills`. Of several bars in
    a session the first is filled and the last closes it; the money that they traded is added.

    >>> from gatecast.market import synthetic
    >>> from gatecast.market.facts import Facts
    >>> bars = synthetic.a1(30, seed=1, symbols=2)
    >>> grid = grid_of(bars, Facts(bars).fills)
    >>> grid.close.shape, grid.symbols == tuple(bars["symbol"].unique().sort())
    ((30, 2), True)
    """
    price = pl.when("_open").then("open").otherwise("close")
    table = (
        bars.with_columns(_open=pl.Series(at_open, dtype=pl.Boolean), day=session_date(pl.col("time")))
        .group_by("symbol", "day", maintain_order=True)
        .agg(
            fill=price.first(), at_open=pl.col("_open").first(), close=pl.col("close").last(),
            volume=pl.when(pl.col("volume").is_not_null().any()).then((pl.col("volume") * pl.col("close")).sum()),
        )
    )  # fmt: skip
    days, symbols = table["day"].unique().sort(), table["symbol"].unique().sort()
    place = days.search_sorted(table["day"]).to_numpy(), symbols.search_sorted(table["symbol"]).to_numpy()

    def spread(name: str) -> FloatArray:
        array = np.full((len(days), len(symbols)), np.nan)
        array[place] = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return array

    volume = spread("volume")
    return Grid(
        tuple(days.to_list()), tuple(symbols.to_list()), spread("fill"), spread("close"),
        np.nan_to_num(spread("at_open"), nan=1.0) > 0, volume, _before(volume),
    )  # fmt: skip


def _before(volume: FloatArray) -> FloatArray:
    """(sessions, symbols) the mean volume of the last 21 sessions before each."""
    first = np.full((1, volume.shape[1]), np.nan)
    return np.concatenate([first, mean_of_last(volume, MONTH)[:-1]])[: len(volume)]


# ── what tables say of each session ───────────────────────────────────────────────────────────────

LOANS: dict[str, type[pl.DataType]] = {
    "symbol": pl.String, "date": pl.Date, "available": pl.Boolean, "rate": pl.Float64, "recall": pl.Boolean,
}  # fmt: skip
"""Columns of a table of what can be borrowed: `rate` a fraction a year; each row holds until the symbol's next."""
INTEREST: dict[str, type[pl.DataType]] = {"currency": pl.String, "date": pl.Date, "rate": pl.Float64}
"""Columns of a table of interest rates, a fraction a year; each row holds until the currency's next."""


def loans_of(table: pl.DataFrame, grid: Grid) -> dict[str, FloatArray | BoolArray]:
    """A table of `LOANS` -> `lent`, `borrow` and `recalled` of `Session`, (sessions, symbols) each.

    A row is known at the close of its date, so that a recall is bought at the next session's fill. NaN where no row
    says, `recalled` 0. Raises `BarsError` for a missing column.
    """
    rows_of(table, LOANS, "loans")
    lent, rate, recalled = (
        newest_before(table, "symbol", column, grid.symbols, grid.days) for column in ("available", "rate", "recall")
    )
    return {"lent": lent, "borrow": rate, "recalled": recalled == 1}


def carry_of(table: pl.DataFrame, instruments: Instruments, grid: Grid) -> FloatArray:
    """A table of `INTEREST` -> the `carry` of `Session`, (sessions, symbols).

    The rate of a pair's first currency less that of its second, of dates before the session; NaN where one is not
    known, and for what is no pair.
    """
    rows_of(table, INTEREST, "interest rates")
    pairs = [currencies_of(symbol) for symbol in instruments.symbols]
    pairs = [pair if own else None for pair, own in zip(pairs, instruments.pair, strict=True)]
    first, second = (
        newest_before(table, "currency", "rate", [pair[leg] if pair else "" for pair in pairs], grid.days)
        for leg in (0, 1)
    )
    return first - second


FUNDING: dict[str, type[pl.DataType]] = {"symbol": pl.String, "date": pl.Date, "rate": pl.Float64}
"""Columns of a table of funding rates: a fraction an interval from the date on, to the symbol's next row."""


def funding_of(table: pl.DataFrame, instruments: Instruments, grid: Grid) -> FloatArray:
    """A table of `FUNDING` -> the `funding` of `Session`, (sessions, symbols); NaN where a day has no rate.

    A day's rate is paid at each of its intervals, on every day since the session before.
    """
    rows_of(table, FUNDING, "funding rates")
    found = np.full(grid.close.shape, np.nan)
    if len(grid.days) < 2:
        return found
    count = (grid.days[-1] - grid.days[0]).days
    days = [grid.days[0] + timedelta(days=number + 1) for number in range(count + 1)]  # dated up to the day before each
    rates = newest_before(table, "symbol", "rate", grid.symbols, days) * instruments.intervals
    at = np.array([(day - grid.days[0]).days for day in grid.days])
    for place in range(1, len(at)):
        found[place] = rates[at[place - 1] + 1 : at[place] + 1].sum(axis=0)
    return found


def newest_before(table: pl.DataFrame, key: str, column: str, names: Sequence[str], days: Sequence[date]) -> FloatArray:
    """(days, names) the newest number of a column of a table with `date`, dated before each day; NaN without one.

    >>> rates = pl.DataFrame({"currency": ["EUR"], "date": [date(2024, 1, 2)], "rate": [0.04]})
    >>> days = [date(2024, 1, 2), date(2024, 1, 3)]
    >>> newest_before(rates, "currency", "rate", ["EUR"], days).ravel().tolist()
    [nan, 0.04]
    """
    found = np.full((len(days), len(names)), np.nan)
    for place, name in enumerate(names):
        own = table.filter(pl.col(key) == name, pl.col(column).is_not_null()).sort("date", maintain_order=True)
        if len(own):
            number = np.searchsorted(own["date"].to_numpy(), np.array(days, "datetime64[D]"), side="left") - 1
            values = own[column].cast(pl.Float64).to_numpy()
            found[:, place] = np.where(number >= 0, values[np.maximum(number, 0)], np.nan)
    return found


# ── arrays ────────────────────────────────────────────────────────────────────────────────────────


def forward_filled(values: FloatArray) -> FloatArray:
    """(sessions, symbols) with each missing cell that of the newest session before it; NaN before the first.

    >>> forward_filled(np.array([[np.nan], [1.0], [np.nan]])).ravel().tolist()
    [nan, 1.0, 1.0]
    """
    newest = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    newest = np.maximum.accumulate(newest, axis=0) if len(values) else newest
    filled = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
    return np.asarray(np.where(newest < 0, np.nan, filled), np.float64)


def mean_of_last(values: FloatArray, count: int) -> FloatArray:
    """(sessions, symbols) the mean of the last so many sessions, those that are there; NaN where none is.

    >>> mean_of_last(np.array([[1.0], [np.nan], [3.0], [5.0]]), 2).ravel().tolist()
    [1.0, 1.0, 3.0, 4.0]
    """
    total, there = np.zeros(values.shape), np.zeros(values.shape)
    for back in range(min(count, len(values))):  # the same sum for each row, whatever rows are before and after
        shifted = values[: len(values) - back]
        total[back:] += np.nan_to_num(shifted, nan=0.0)
        there[back:] += ~np.isnan(shifted)
    return np.asarray(np.where(there > 0, total / np.maximum(there, 1), np.nan), np.float64)
