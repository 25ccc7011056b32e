"""Rows that may still come: sessions in which a class traded and a symbol that hardly ever misses one has no bar.

Such a row is late, or there is none. Who decides at the newest close cannot know which, so that the row counts as one
that is not known yet: what a later run does that has it. That lasts for three sessions, its own among them: an older
row no window may end at either. Then it counts as none: a session without a trade, over which a window steps, as in a
history that lacks it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from typing import cast

import polars as pl

from gatecast.market.bars import UTC_TIME, make_bars, session_date
from gatecast.market.calendar import OLDEST_SESSIONS, fill_times

SEEN = (
    250  # closes of the class, the latest that were known before, in which a symbol has shown how often it misses one
)
MISSES = 0.01  # a symbol that missed more of them has pauses of its own


def with_awaited(
    known: pl.DataFrame | int, bars: pl.DataFrame, ended: Collection[str] = (),
    days: Mapping[str, Collection[date]] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """The bars with a row for each one that may still come, and the symbol and time of these.

    A row is awaited of a symbol at a close after its last known bar, at which at least half of the other symbols of
    its class have a bar and it has none, if it is of one of the three latest sessions of its class. It is known
    after all others, and repeats the row before it: nothing reads it.

    Parameters
    ----------
    known: Bars frame of before, which shows who misses closes: of more than 1 in 100 nothing is awaited. A number
        stands for the bars of each symbol up to the first of so many newest ones, its window: then the bars alone
        decide.
    bars: the same rows and newer ones. ended: symbols of which nothing is awaited. days: symbol -> the sessions of its
        exchange, where they are not those of all: none is awaited on another day.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1, symbols=3)
    >>> day, first = bars["time"].unique().sort()[-2], bars["symbol"][0]
    >>> newest = bars.filter((pl.col("symbol") != first) | (pl.col("time") != day))
    >>> all_rows, awaited = with_awaited(bars.filter(pl.col("time") < day), newest)
    >>> len(all_rows) - len(newest), awaited.rows() == [(first, day)]
    (1, True)
    """
    before = begun(bars, known) if isinstance(known, int) else known
    parts = [
        _of_class(before.filter(pl.col("asset_class") == name), own)
        for (name,), own in bars.group_by("asset_class", maintain_order=True)
    ]
    awaited = pl.concat(parts).filter(~pl.col("symbol").is_in(list(ended))).sort("symbol", "time")
    for symbol, own in (days or {}).items():
        day = session_date(pl.col("time"))
        awaited = awaited.filter((pl.col("symbol") != symbol) | day.is_in(sorted(own)))
    if len(awaited) == 0:
        return bars, awaited
    after_all = cast(datetime, fill_times(bars).max()) + timedelta(days=1)
    rows = awaited.sort("time").join_asof(
        bars.rename({"time": "_time"}).sort("_time"),
        left_on="time",
        right_on="_time",
        by="symbol",
        strategy="backward",
        check_sortedness=False,
    )
    rows = rows.with_columns(known_at=pl.lit(after_all).cast(UTC_TIME)).select(bars.columns)
    return make_bars(pl.concat([bars, rows])), awaited


def begun(bars: pl.DataFrame, window: int) -> pl.DataFrame:
    """The bars of each symbol up to the first of its newest `window` ones."""
    back = pl.int_range(pl.len(), 0, -1).over("symbol")
    return bars.sort("symbol", "time").filter(back >= window)


def _of_class(known: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Symbol and time of the rows that may still come, of one asset class."""
    ends = known.group_by("symbol").agg(_last=pl.col("time").max())
    punctual = ends.join(_missed(known).filter(pl.col("missed") <= MISSES), on="symbol").select("symbol", "_last")
    span = bars.group_by("symbol").agg(_newest=pl.col("time").max()).join(punctual, on="symbol")
    since = punctual["_last"].min()
    later = bars.filter(pl.col("time") > since) if since is not None else bars.clear()
    closes = later.group_by("time").agg(_traded=pl.len()).sort("time")
    newest = session_date(pl.col("time")).rank("dense", descending=True) <= OLDEST_SESSIONS
    latest = closes.filter(newest).select(_latest=pl.col("time").min())
    others = bars["symbol"].n_unique() - 1
    absent = (
        span.join(closes, how="cross")
        .join(latest, how="cross")
        .filter(pl.col("time") > pl.col("_last"), pl.col("_traded") >= max(others / 2, 1))
        .join(bars.select("symbol", "time"), on=["symbol", "time"], how="anti")
    )
    goes_on = pl.col("_newest") >= pl.col("_latest")  # a symbol that stopped before is none that is late
    return absent.filter(pl.col("time") >= pl.col("_latest"), goes_on).select("symbol", "time")


def _missed(known: pl.DataFrame) -> pl.DataFrame:
    """Each symbol's share of the latest closes of its class, since its own first bar, at which it has none."""
    half = pl.col("symbol").n_unique() / 2
    closes = known.group_by("time").agg(pl.len()).filter(pl.col("len") >= known.select(half).item())
    closes = closes.sort("time").tail(SEEN).select("time")
    span = known.group_by("symbol").agg(_first=pl.col("time").min(), _last=pl.col("time").max())
    asked = span.join(closes, how="cross").filter(pl.col("time").is_between("_first", "_last"))
    absent = asked.join(known.select("symbol", "time"), on=["symbol", "time"], how="anti")
    counts = asked.group_by("symbol").len("asked").join(absent.group_by("symbol").len("gone"), on="symbol", how="left")
    return counts.select("symbol", missed=pl.col("gone").fill_null(0) / pl.col("asked"))
