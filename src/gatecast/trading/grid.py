"""Bars of all classes -> arrays (sessions, symbols), as a book that decides once a session sees them.

A session is a date: symbols whose classes close at different hours share it. A symbol without a bar in a session is NaN
there, never 0 and never the price before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.market.bars import session_date
from gatecast.market.classes import currencies_of
from gatecast.trading.money import Event, Instruments, Session, conversion_rates

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

    def rates(self, instruments: Instruments, book: str) -> FloatArray:
        """Money of the book for one unit of each symbol's currency, from the pairs among the symbols.

        The newest close of a pair counts until its next; NaN before its first. Raises `BarsError` for a currency
        without a pair.
        """
        closes = forward_filled(self.close)
        pairs = {
            "".join(pair): closes[:, place] for place, symbol in enumerate(self.symbols)
            if instruments.pair[place] and (pair := currencies_of(symbol))
        }  # fmt: skip
        return conversion_rates(instruments.currency, book, pairs, len(self.days))

    def sessions(
        self,
        *,
        deviation: FloatArray | None = None,
        events: Mapping[date, tuple[Event, ...]] | None = None,
        benchmark: Sequence[float] | FloatArray | None = None,
        **arrays: FloatArray | BoolArray,
    ) -> list[Session]:
        """What each session brings an account, see `trading.money.Session`.

        `deviation`: (sessions, symbols) forecast the close before, a session; its usual value is the mean of the last
        63, this one included. `benchmark`: (sessions,) interest a year. `events`: see `trading.money.events_of`.
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
    before = np.concatenate([np.full((1, len(symbols)), np.nan), mean_of_last(volume, MONTH)[:-1]])
    return Grid(
        tuple(days.to_list()), tuple(symbols.to_list()), spread("fill"), spread("close"),
        np.nan_to_num(spread("at_open"), nan=1.0) > 0, volume, before[: len(days)],
    )  # fmt: skip


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
