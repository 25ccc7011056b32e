"""A vendor's times as closes in UTC: dates, clocks with and without zones, counts since 1970.

What the text does not say is asked for, never guessed: a zone, the order of day and month, whether a stamp is
the bar's start or its end.
"""

from __future__ import annotations

from datetime import time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from gatecast.errors import BarsError
from gatecast.market.bars import UTC_TIME
from gatecast.market.tables import Notes

Stamp = Literal["open", "close"]

FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p",
    "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y", "%Y-%b-%d",
)  # fmt: skip
EPOCH_UNITS = {  # how many make a second; counts between 1e8 and 1e10 seconds are the years 1973 to 2286
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}
ZONE = r"\s*(Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})$"
DAILY = timedelta(hours=20)  # times at least so far apart are of daily or coarser bars
COARSE = timedelta(days=5)  # dates usually so far apart are weekly or coarser


def check_zone(name: str | None) -> None:
    """Raises BarsError for a time zone that is unknown."""
    try:
        ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        advice = "Use an IANA name such as 'UTC' or 'America/New_York'."
        raise BarsError(f"time zone {name!r} is unknown. {advice}") from None


def read_times(
    frame: pl.DataFrame,
    timezone: str | None,
    stamp: Stamp | None,
    date_format: str | None,
    are_bars: bool,
    notes: Notes,
) -> pl.DataFrame:
    """Adds what the rows' time is: `day` for daily and coarser rows, else `time` (UTC), and `known_at`.

    `stamp` says of what: the bar's open, its close, or null where nobody said. `are_bars` marks rows of a
    Bars frame, whose times are closes already. A `known_at` that is a date means the end of that day, UTC.
    """
    column = next(name for name in ("close_time", "time", "open_time") if name in frame.columns)
    if column == "close_time" or are_bars:
        stamp = "close"
    elif column == "open_time":
        stamp = "open"
    wall, moment = _clocks(frame, column, timezone, date_format, notes)
    frame = frame.with_columns(wall.alias("_wall"), moment.alias("_moment"), pl.lit(stamp, pl.String).alias("_stamp"))
    exact = column == "close_time" or are_bars or (stamp == "close" and moment.null_count() == 0)
    if not exact and _are_dates(frame):
        frame = frame.with_columns(wall.dt.date().alias("_day"), pl.lit(None, UTC_TIME).alias("time"))
    else:
        _refuse_unplaced(frame, column, timezone, notes)
        at = pl.col("_moment")
        if column == "close_time":  # 11:59:59.999 is noon
            noon = (at + timedelta(seconds=1)).dt.truncate("1m")
            at = pl.when(at.dt.second() == 59).then(noon).otherwise(at)
        frame = frame.with_columns(pl.lit(None, pl.Date).alias("_day"), at.alias("time"))
    if "known_at" not in frame.columns:
        return frame.with_columns(pl.lit(None, UTC_TIME).alias("known_at"))
    wall, known = _clocks(frame, "known_at", timezone, date_format, notes)
    if not are_bars and bool((wall.dt.time() == time()).all()):
        known = (wall + timedelta(days=1)).dt.replace_time_zone("UTC")
    return frame.with_columns(known.alias("known_at"))


def _are_dates(frame: pl.DataFrame) -> bool:
    """Whether the clock always shows midnight, at most once a day for each symbol."""
    if not bool((frame["_wall"].dt.time() == time()).all()):
        return False
    steps = frame.sort("symbol", "_wall").select(pl.col("_wall").diff().over("symbol")).to_series()
    closest = steps.filter(steps > timedelta()).min()
    return not isinstance(closest, timedelta) or closest >= DAILY


def _refuse_unplaced(frame: pl.DataFrame, column: str, timezone: str | None, notes: Notes) -> None:
    unplaced = frame.filter(pl.col("_moment").is_null())
    if unplaced.height:
        row = unplaced.row(0, named=True)
        if timezone is None:
            problem = "the time has no zone."
            advice = "Say which with timezone=, for example timezone='America/New_York'."
        else:
            problem = f"the clock in {timezone} shows this time twice or never."
            advice = "Give times in UTC or with their offset, such as 2024-11-03 01:30:00-05:00."
        notes.refuse(row, problem, advice, column, str(row["_wall"]))
    row = frame.row(0, named=True)
    if row["_stamp"] is None:
        problem = "is this time the bar's start or its end?"
        notes.refuse(row, problem, "Say stamp='open' or stamp='close'.", column, str(row["_wall"]))


def _clocks(
    frame: pl.DataFrame, column: str, timezone: str | None, date_format: str | None, notes: Notes
) -> tuple[pl.Series, pl.Series]:
    """What the clock on the wall shows, and the moments in UTC (null where no zone is known)."""
    values = frame[column]
    kind = values.dtype
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        wall, moment = values.dt.replace_time_zone(None), values.dt.convert_time_zone("UTC")
    elif kind == pl.Date or isinstance(kind, pl.Datetime):
        wall, moment = values, None
    elif kind.is_numeric():
        wall, moment = _from_numbers(frame, column, values.cast(pl.Float64), notes)
    elif kind == pl.String:
        if column == "time" and "_clock" in frame.columns:
            values = values + " " + frame["_clock"].cast(pl.String)
        counts = values.drop_nulls().str.contains(r"^([0-9]{1,11}(\.0*)?|[0-9]{13}|[0-9]{16}|[0-9]{19})$")
        if date_format is None and bool(counts.all()) and counts.len():
            wall, moment = _from_numbers(frame, column, values.cast(pl.Float64), notes)
        else:
            wall, moment = _from_text(frame, column, values, date_format, notes)
    else:
        notes.refuse(frame.row(0, named=True), f"the column holds {kind}.", "Convert it to times.", column)
    wall = wall.cast(pl.Datetime("us"))
    bad = frame.filter((~wall.dt.year().is_between(1800, 2200)).fill_null(True))
    if bad.height:
        value = bad[column][0]
        notes.refuse(
            bad.row(0, named=True),
            "the time is missing." if value is None else "not a time that is recognised.",
            "Write times as 2024-01-31 or 2024-01-31 16:00:00-05:00, or give date_format=.",
            column,
            None if value is None else str(value),
        )
    if moment is None and timezone is not None:
        local = wall.dt.replace_time_zone(timezone, ambiguous="null", non_existent="null")
        moment = local.dt.convert_time_zone("UTC")
    if moment is None:
        moment = pl.Series([None] * len(wall), dtype=UTC_TIME)
    return wall, moment.cast(UTC_TIME)


def _from_numbers(
    frame: pl.DataFrame, column: str, values: pl.Series, notes: Notes
) -> tuple[pl.Series, pl.Series | None]:
    """Dates like 20240131, or counts since 1970, which are UTC."""
    if values.null_count() == 0 and bool(values.is_between(18000101, 22001231).all()):
        return values.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False), None
    unit = pl.lit(None, pl.String)
    for name, per_second in EPOCH_UNITS.items():
        fits = pl.col("value").is_between(1e8 * per_second, 1e10 * per_second)
        unit = pl.when(fits).then(pl.lit(name)).otherwise(unit)
    table = frame.select("_table", "_line", value=values).with_columns(unit.alias("unit"))
    first = table["unit"][0]
    other = table.filter(pl.lit(first is None) | (pl.col("unit") != pl.lit(first)).fill_null(True))
    if other.height:
        row = other.row(0, named=True)
        guess = f"It looks like {row['unit']}" if row["unit"] else "It is neither a date nor a count since 1970"
        notes.refuse(
            row,
            f"{guess}, the first row like {first or 'neither'}.",
            "Give all times in one unit, or as 2024-01-31 16:00:00+00:00.",
            column,
            None if row["value"] is None else f"{row['value']:.0f}",
        )
    wall = (values * (1e6 / EPOCH_UNITS[first])).round().cast(pl.Int64).cast(pl.Datetime("us"))
    return wall, wall.dt.replace_time_zone("UTC")


def _from_text(
    frame: pl.DataFrame, column: str, text: pl.Series, date_format: str | None, notes: Notes
) -> tuple[pl.Series, pl.Series | None]:
    """Times as text; moments only where every one has an offset."""
    zone = text.str.extract(":.*?" + ZONE)
    text = text.str.replace("(:.*?)" + ZONE, "$1")
    if date_format is not None:
        wall = text.str.strptime(pl.Datetime("us"), date_format, strict=False)
    else:
        text = text.str.replace(r"^(\d{4})[-/.]?(\d{1,2})[-/.]?(\d{1,2})(T|\s|$)", "$1-$2-$3 ")
        text = text.str.replace(r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?$", "$1-$2-$3 $4:$5").str.strip_chars()
        text = _year_first(frame, column, text, notes)
        wall = pl.Series([None] * len(text), dtype=pl.Datetime("us"))
        for known in FORMATS:
            if wall.null_count():
                wall = wall.fill_null(text.str.strptime(pl.Datetime("us"), known, strict=False))
    if zone.null_count():
        return wall, None
    digits = zone.str.replace_all(r"[^0-9]", "").str.pad_end(4, "0").cast(pl.Int64)
    minutes = digits // 100 * 60 + digits % 100
    signed = minutes.zip_with(~zone.str.starts_with("-"), -minutes)
    return wall, (wall - (signed * 60_000_000).cast(pl.Duration("us"))).dt.replace_time_zone("UTC")


def _year_first(frame: pl.DataFrame, column: str, text: pl.Series, notes: Notes) -> pl.Series:
    """Dates with the year last, year first, where some day above 12 tells day from month."""
    pattern = r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})"
    first, second = (text.str.extract(pattern, group).cast(pl.Int64) for group in (1, 2))
    if first.null_count() == len(text):
        return text
    day_first, month_first = bool((first > 12).any()), bool((second > 12).any())
    if day_first == month_first:
        row = frame.filter(first.is_not_null()).row(0, named=True)
        problem = "the order of day and month changes." if day_first else "day and month cannot be told apart."
        advice = "Say which with date_format=, for example '%d/%m/%Y' or '%m/%d/%Y'."
        notes.refuse(row, problem, advice, column, str(row[column]))
    return text.str.replace(pattern, "$3-$2-$1" if day_first else "$3-$1-$2")


def close_times(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Rows sorted by symbol and time, where `time` is the bar's close and `known_at` is filled with it.

    A day ends at `session_close`. A stamp at the open is moved by the symbol's usual spacing; a week, month,
    quarter or year stamped with its first day ends with its last.
    """
    rows = rows.with_columns(pl.coalesce("time", pl.col("_day").cast(UTC_TIME)).alias("_shown"))
    rows = rows.sort("symbol", "_shown", maintain_order=True)
    steps = rows.select("symbol", _step=pl.col("_shown").diff().over("symbol")).filter(pl.col("_step") > timedelta())
    usual = steps.group_by("symbol").agg(pl.col("_step").mode().min(), pl.len().alias("_steps"))
    rows = rows.join(usual, on="symbol", how="left", maintain_order="left")
    is_open, is_day = (pl.col("_stamp") == "open").fill_null(False), pl.col("_day").is_not_null()
    coarse = is_day & (pl.col("_step") >= COARSE) & (pl.col("_steps") >= 4)
    unsaid = rows.filter(coarse & pl.col("_stamp").is_null())
    if unsaid.height:
        row = unsaid.row(0, named=True)
        problem = f"bars every {row['_step'].days} days: is the date their first or their last day?"
        notes.refuse(row, problem, "Say stamp='open' or stamp='close'.", "time", str(row["_day"]))
    every = pl.lit("1y")
    for days, name in ((200, "3mo"), (60, "1mo"), (20, "1w")):
        every = pl.when(pl.col("_step") < timedelta(days=days)).then(pl.lit(name)).otherwise(every)
    rest = pl.col("_day").dt.offset_by(every) - pl.duration(days=1) - pl.col("_day")
    close = (
        pl.when(coarse & is_open).then(pl.col("_session_close") + rest)
        .when(is_day).then("_session_close")
        .when(is_open).then(pl.col("time") + pl.col("_step"))
        .otherwise("time")
    )  # fmt: skip
    rows = rows.with_columns(close.alias("time"))
    single, early = pl.col("time").is_null(), pl.col("known_at") < pl.col("time")
    for column, fault, problem, advice in (
        ("time", single, "a single intraday bar has no length.", "Give more bars, or stamp='close'."),
        ("known_at", early, "known before the bar closes.", "Correct known_at, stamp= or timezone=."),
    ):
        bad = rows.filter(fault)
        if bad.height:
            row = bad.row(0, named=True)
            notes.refuse(row, problem, advice, column, str(row[column]))
    known_at = pl.coalesce("known_at", "time").alias("known_at")
    return rows.with_columns(known_at).drop("_shown", "_step", "_steps", "_session_close", "_stamp", "_day")
