"""Asset classes: when a session closes, how many bars a year has, what trading costs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time, timedelta

import polars as pl

from gatecast.errors import BarsError, did_you_mean


@dataclass(frozen=True)
class AssetClass:
    """What all symbols of one kind have in common.

    `close_time` is the wall-clock end of the daily session in `timezone`; 00:00 means the midnight that
    ends the day. `periods_per_year` is the number of daily bars a year. `cost_bps` is commission and
    slippage together, in basis points of the value traded, per side. `borrow_bps_per_year` is paid on the
    value of a short position. Two bars further apart than `gap_limit` belong to different segments.
    `end_return` is the simple return that a holder is taken to have had where a symbol ends on unknown terms:
    -30 % for equities (Shumway 1997, Journal of Finance 52), -90 % for coins (an assumption), 0 for what cannot
    become worthless from one day to the next.
    """

    name: str
    close_time: time
    timezone: str
    periods_per_year: int
    cost_bps: float
    borrow_bps_per_year: float
    gap_limit: timedelta
    end_return: float = 0.0

    def close_of(self, session: pl.Expr) -> pl.Expr:
        """The closing moments (Datetime[us, UTC]) of session dates (a Date expression).

        >>> from datetime import date
        >>> pl.select(ASSET_CLASSES["equity"].close_of(pl.lit(date(2024, 7, 3)))).item().isoformat()
        '2024-07-03T20:00:00+00:00'
        >>> pl.select(ASSET_CLASSES["crypto"].close_of(pl.lit(date(2024, 7, 3)))).item().isoformat()
        '2024-07-04T00:00:00+00:00'
        """
        day = session.dt.offset_by("1d") if self.close_time == time() else session
        local = day.dt.combine(self.close_time, "us").dt.replace_time_zone(self.timezone)
        return local.dt.convert_time_zone("UTC")


def _five_pm(name: str, periods: int, cost_bps: float, borrow_bps_per_year: float) -> AssetClass:
    return AssetClass(name, time(17), "America/New_York", periods, cost_bps, borrow_bps_per_year, timedelta(days=10))


def _four_pm(name: str, cost_bps: float, borrow_bps_per_year: float, end_return: float = 0.0) -> AssetClass:
    return AssetClass(
        name, time(16), "America/New_York", 252, cost_bps, borrow_bps_per_year, timedelta(days=10), end_return
    )


ASSET_CLASSES: dict[str, AssetClass] = {
    known.name: known
    for known in (
        _four_pm("index", cost_bps=2.0, borrow_bps_per_year=30.0),
        _four_pm("etf", cost_bps=2.0, borrow_bps_per_year=30.0),
        _four_pm("equity", cost_bps=5.0, borrow_bps_per_year=50.0, end_return=-0.3),
        _five_pm("future", 252, cost_bps=2.0, borrow_bps_per_year=0.0),
        _five_pm("commodity", 252, cost_bps=3.0, borrow_bps_per_year=0.0),
        _five_pm("metal", 252, cost_bps=3.0, borrow_bps_per_year=50.0),
        _five_pm("fx", 260, cost_bps=1.0, borrow_bps_per_year=0.0),
        AssetClass("crypto", time(), "UTC", 365, 10.0, 500.0, timedelta(days=3), end_return=-0.9),
    )
}
"""The classes by name. A short future or currency is the other side of a contract: nothing is borrowed."""


def asset_class(name: str) -> AssetClass:
    """The class of that name; a BarsError names the closest known one.

    >>> asset_class("crypto").periods_per_year
    365
    """
    try:
        return ASSET_CLASSES[name]
    except KeyError:
        raise BarsError(f"asset class {name!r} is unknown. {did_you_mean(name, ASSET_CLASSES)}") from None
