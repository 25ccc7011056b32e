"""Columns with their own known time: joined to bars as the latest value known by the fill.

A vendor's column may become known weeks after its row: short interest, inventories, results. Its time stands beside it
in the file (`<name>_known_at`, or any column that the settings name), or the settings say a delay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from gatecast.errors import BarsError, BarsFileError, did_you_mean
from gatecast.market.bars import INTERNAL, PRICES, UTC_TIME, session_date
from gatecast.market.calendar import fill_times
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import Notes
from gatecast.market.times import known_times

OWN = "_known:"  # in front of a column's name: the column of its own known times
SUFFIX = "_known_at"
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def delay_of(text: str) -> timedelta | None:
    """A delay such as 30m, 2h, 16d or 3w; None for any other text.

    >>> delay_of("16d"), delay_of("published")
    (datetime.timedelta(days=16), None)
    """
    found = re.fullmatch(r"(\d{1,5})\s*([mhdw])", text.strip())
    return int(found[1]) * UNITS[found[2]] if found else None


def check_known(known_at: Mapping[str, str] | None) -> dict[str, str]:
    """`known_at` with names in snake case. Raises BarsError for columns that have no known time of their own, and where
    the name of a column of times is that of the row's own."""
    wanted = {snake(name): value for name, value in (known_at or {}).items()}
    for name, value in wanted.items():
        if _meaning_of(name) is not None:
            raise BarsError(
                f"known_at names {name!r}: prices, volume and the row's own columns are known with their row (column"
                " known_at). Name further columns of numbers."
            )
        if not isinstance(value, str) or not value.strip():
            raise BarsError(f"known_at of {name!r} must be a delay such as '16d' or the name of a time column.")
        if snake(value) == name:
            raise BarsError(f"known_at of {name!r} names the column itself: {_EXPECTED}.")
        if _meaning_of(snake(value)) in ("time", "open_time", "close_time", "known_at"):
            raise BarsError(
                f"known_at of {name!r} names {value!r}, the row's own time: without known_at a column is known with its"
                f" row. {_EXPECTED[0].upper()}{_EXPECTED[1:]}, or leave it out."
            )
    return wanted


_EXPECTED = "give a delay after the row's close, such as '16d', or the name of another column of times"


def _meaning_of(name: str) -> str | None:
    """Which of a row's own columns a name in snake case spells, if one."""
    return next((meaning for meaning, spelt in SPELLINGS.items() if name == meaning or name in spelt), None)


def _further(names: Iterable[str]) -> list[str]:
    """The names of further columns among them."""
    return [name for name in names if not name.startswith(INTERNAL) and name not in SPELLINGS]


def parse_known(
    frame: pl.DataFrame,
    known_at: Mapping[str, str],
    timezone: str | None,
    date_format: str | None,
    file: str | None,
    notes: Notes,
) -> pl.DataFrame:
    """The frame of one file with a column of moments (UTC) for each column that has its own known time in the file.

    Those that `known_at` names win over those that are called `<name>_known_at`. The columns of times themselves are
    left out.
    """
    spelt = {name[: -len(SUFFIX)]: name for name in frame.columns if name.endswith(SUFFIX) and name != SUFFIX}
    for name in ("volume", "adjusted_close", *PRICES):
        if name in spelt:
            problem, advice = "prices and volume have no known time of their own.", "Call it known_at."
            raise BarsFileError(problem, file=file, column=spelt[name], advice=advice)
    for name in (name for name in spelt if name in SPELLINGS and name in frame.columns):
        problem = f"{name} is known with its row and has no known time of its own."
        raise BarsFileError(problem, file=file, column=spelt[name], advice="Call it known_at, or leave it out.")
    spelt = {name: column for name, column in spelt.items() if name in frame.columns and name not in known_at}
    for name, value in known_at.items():
        if name in frame.columns and delay_of(value) is None:
            if snake(value) not in frame.columns:
                have = [one for one in _further(frame.columns) if one != name and not frame.schema[one].is_float()]
                problem = f"known_at says that {name!r} is known at {value!r}: no delay such as '16d', and no column."
                advice = did_you_mean(snake(value), have) if have else "The source has no column of times beside."
                raise BarsFileError(problem, file=file, advice=advice)
            spelt[name] = snake(value)
    for name, column in spelt.items():
        times = known_times(frame, column, timezone, date_format, notes, optional=True)
        frame = frame.with_columns(times.alias(OWN + name))
    return frame.drop({*spelt.values(), *(name + SUFFIX for name in known_at)}, strict=False)


def take_known(
    rows: pl.DataFrame,
    known_at: Mapping[str, str],
    *,
    as_of: datetime | None = None,
    sealed: date | None = None,
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Rows without the columns that have their own known time, and of each its values: symbol, row, known, value.

    `row` is the close of the value's row. A value is known no earlier than its row closes or, where the row says one,
    than the row's `known_at`; a delay counts from the close. A value without a known time is never known. Values known
    after `as_of`, or in the session `sealed` or later, are left out.
    """
    names = [name.removeprefix(OWN) for name in rows.columns if name.startswith(OWN)]
    further = _further(rows.columns)
    missing = [name for name in known_at if name not in further]
    if missing:
        advice = did_you_mean(missing[0], further) if further else "There is no further column of numbers."
        raise BarsError(f"known_at names {missing[0]!r}, which no file has. {advice}")
    events = {}
    for name in dict.fromkeys([*names, *known_at]):
        delay = delay_of(known_at.get(name, ""))
        own = pl.col(OWN + name) if delay is None else pl.col("time") + delay
        table = rows.filter(pl.col(name).is_not_null(), own.is_not_null()).select(
            "symbol",
            pl.col("time").alias("row"),
            pl.max_horizontal(own, "time", "known_at").alias("known"),
            pl.col(name).alias("value"),
        )
        if as_of is not None:
            table = table.filter(pl.col("known") <= as_of)
        if sealed is not None:
            table = table.filter(session_date(pl.col("known")) < sealed)
        events[name] = table
    return rows.drop(*events, *(OWN + name for name in events), strict=False), events


def join_known(rows: pl.DataFrame, events: Mapping[str, pl.DataFrame], order: Sequence[str] = ()) -> pl.DataFrame:
    """Rows with each column of `events`: the latest value known by the row's fill, null before the first is known.

    `rows` sorted by symbol and time, one a bar; for the fill see `market.calendar.fill_times`. Of the values known by
    then the newest row's counts, of several versions of that row the one known last. `order`: names of the columns in
    the order wanted.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1).with_row_index("x")
    >>> late = bars.select("symbol", pl.col("time").alias("row"), known=pl.col("time") + timedelta(days=2), value="x")
    >>> join_known(bars.drop("x"), {"x": late})["x"].to_list()[:8]
    [None, None, 0, 1, 2, 4, 4, 5]
    """
    if not events:
        return rows
    fill = fill_times(rows).alias("_fill")
    for name, table in events.items():
        known = table.sort("symbol", "known", "row", maintain_order=True)
        newest = known.filter(pl.col("row") >= pl.col("row").cum_max().over("symbol"))
        newest = newest.select(
            "symbol", pl.col("known").cast(UTC_TIME).alias("_known"), pl.col("value").alias("_value")
        )
        newest = newest.sort("_known", maintain_order=True)
        asked = rows.select("symbol").with_columns(fill).with_row_index("_at").sort("_fill")
        found = asked.join_asof(
            newest, left_on="_fill", right_on="_known", by="symbol", strategy="backward", check_sortedness=False
        )
        rows = rows.with_columns(found.sort("_at")["_value"].alias(name))
    return rows.select([name for name in order if name in rows.columns] or rows.columns)
