"""Facts of bars: bars and actions -> fills, listings, ends and calendars, each computed once for the whole chain.

Every fact of a bar is read from bars up to it, so that later bars never change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.market.actions import no_actions
from gatecast.market.bars import open_fills, session_date
from gatecast.market.calendar import fill_times, listings, periods_of, sessions_of
from gatecast.market.ends import Ended, find_ends_and_returns, has_ended, symbols_ended
from gatecast.market.universe import exits, is_inside

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Facts:
    """Facts of the bars of all asset classes, each found when it is first asked for.

    `bars`: the Bars, sorted by symbol and time. `actions`: the delistings that are known, see `market.actions`.

    >>> from gatecast.market import synthetic
    >>> facts = Facts(synthetic.a1(300, seed=1))
    >>> bool(facts.fills.all()), bool(facts.ended.any()), int(facts.starts.sum()), facts.bars_per_year
    (True, False, 0, 252.0)
    """

    bars: pl.DataFrame
    actions: pl.DataFrame = field(default_factory=no_actions, repr=False)

    @cached_property
    def fills(self) -> BoolArray:
        """(bars,) whether an order that was decided the close before is filled at each bar's open, else at its close.

        See `market.bars.open_fills`.
        """
        return open_fills(self.bars)

    @cached_property
    def fill_times(self) -> NDArray[np.datetime64]:
        """(bars,) by when each row must be known, UTC; see `market.calendar.fill_times`."""
        return np.asarray(fill_times(self.bars).dt.replace_time_zone(None).to_numpy(), "datetime64[us]")

    @cached_property
    def starts(self) -> BoolArray:
        """(bars,) whether a listing after the symbol's first begins at each bar, see `market.calendar.listings`."""
        starts = (pl.col("listing").diff().over("symbol") != 0).fill_null(False)
        table = self.bars.select("symbol").with_columns(listing=listings(self.bars))
        return np.asarray(table.select(starts).to_series().to_numpy(), np.bool_)

    @cached_property
    def ends(self) -> pl.DataFrame:
        """The ends of symbols: see `market.ends.find_ends_and_returns`."""
        return find_ends_and_returns(self.bars, self.actions)

    @cached_property
    def ended(self) -> BoolArray:
        """(bars,) whether the symbol's end is known at each bar's close, or it is outside of its universe there.

        See `market.ends.has_ended` and `market.universe.is_inside`.
        """
        return has_ended(self.bars, self.ends) | ~is_inside(self.bars)

    @cached_property
    def leaves(self) -> pl.DataFrame:
        """symbol, time: when symbols end, or leave their universe, sorted by time."""
        ends = self.ends.select("symbol", pl.col("time").cast(self.bars.schema["time"]))
        return pl.concat([ends, exits(self.bars)]).sort("time", maintain_order=True)

    @cached_property
    def symbols_ended(self) -> dict[str, Ended]:
        """Symbol -> how it ended, of those that have ended and not returned by the last bar."""
        return symbols_ended(self.bars, self.ends)

    @cached_property
    def class_starts(self) -> NDArray[np.datetime64]:
        """(classes,) the first close of each asset class, UTC without a zone; in no order."""
        first = self.bars.group_by("asset_class").agg(pl.col("time").min())
        return first["time"].dt.replace_time_zone(None).to_numpy()

    @cached_property
    def sessions_per_year(self) -> float:
        """Sessions a year, the mean over classes; see `market.calendar.sessions_of`."""
        return sessions_of(self.bars)

    @cached_property
    def sessions_a_year(self) -> dict[str, float]:
        """Asset class -> sessions a year; see `market.calendar.sessions_of`."""
        return {name: sessions_of(own) for (name,), own in self.bars.group_by("asset_class", maintain_order=True)}

    @cached_property
    def bars_per_year(self) -> float:
        """Bars a year of one symbol; see `market.calendar.periods_of`."""
        return periods_of(self.bars)

    def since(self, day: date) -> Facts:
        """The same facts of the bars of sessions from a day on, and of each symbol's newest bar before that is known.

        What is read from a class's first bars is that of all bars.
        """
        times = {name: self.bars[name].dt.replace_time_zone(None).to_numpy() for name in ("time", "known_at")}
        older = session_date(times["time"]) < np.datetime64(day, "D")
        symbol = self.bars["symbol"].rle_id().to_numpy()
        known = np.flatnonzero(older & (times["known_at"] <= self.fill_times))
        kept = ~older
        kept[known[np.diff(symbol[known], append=-1) != 0]] = True
        made, listing = Facts(self.bars.filter(pl.Series(kept)), self.actions), np.cumsum(self.starts)[kept]
        starts = (np.diff(listing, prepend=0) != 0) & (np.diff(symbol[kept], prepend=-1) == 0)
        vars(made).update(
            fills=self.fills[kept], fill_times=self.fill_times[kept], starts=starts, ends=self.ends,
            sessions_a_year=self.sessions_a_year,
        )  # fmt: skip
        return made

    def of_class(self, name: str) -> ClassFacts:
        """The facts of one asset class's bars."""
        own = (self.bars["asset_class"] == name).to_numpy()
        bars = self.bars.filter(pl.Series(own))
        return ClassFacts(
            bars, self.fills[own], self.starts[own], self.ended[own], self.ends, self.class_starts, periods_of(bars)
        )


def facts_of(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> Facts:
    """The facts of bars; `actions`: the delistings that are known, None where there are none."""
    return Facts(bars) if actions is None else Facts(bars, actions)


@dataclass(frozen=True)
class ClassFacts:
    """The facts of one asset class: `bars`, and of each `fills`, `starts` and `ended`, all (bars,); see `Facts`.

    `ends` and `class_starts` are those of all classes. `bars_per_year`: of one symbol of this class.
    """

    bars: pl.DataFrame
    fills: BoolArray
    starts: BoolArray
    ended: BoolArray
    ends: pl.DataFrame
    class_starts: NDArray[np.datetime64]
    bars_per_year: float
