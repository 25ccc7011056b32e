"""A vendor's times as closes in UTC: dates, clocks with and without zones, counts since 1970.

What the text does not say is asked for, never guessed: a zone, the order of day and month, whether a stamp is
the bar's start or its end.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import polars as pl

from gatecast.errors import BarsError, BarsFileError
from gatecast.market.bars import UTC_TIME
from gatecast.market.calendar import FIRST
from gatecast.market.tables import Notes, Table

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
YEARS = (1900, 2200)
"""First and last year of a bar."""
LIKELY = tuple(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1990, 2100))
"""Seconds since 1970 within which a time that was read in another unit is guessed."""
UNIT_NAMES = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
REACH = ((date(2, 1, 1) - date(1970, 1, 1)).days, (date(9998, 12, 31) - date(1970, 1, 1)).days)
ZONE = r"\s*(Z|z|UTC|GMT|(?:UTC|GMT)?[+-]\d{1,2}:?\d{2}|(?:UTC|GMT)?[+-]\d{2})$"
FURTHEST = 15 * 60  # minutes; no clock is further from UTC
DAILY = timedelta(hours=20)  # times at least so far apart are of daily or coarser bars
COARSE = timedelta(days=5)  # dates usually so far apart are weekly or coarser
JITTER = timedelta(seconds=5)  # a stamp so near to a whole minute is that minute
GRAINS = tuple(timedelta(minutes=minutes) for minutes in (24 * 60, 30, 15, 5, 1))
LIVE_MIN = 5  # rows on a grid of times before a last row off that grid is a live one
ZONES = (
    "America/New_York", "America/Chicago", "America/Toronto", "America/Sao_Paulo", "Europe/London", "Europe/Berlin",
    "Europe/Helsinki", "Asia/Kolkata", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney",
)  # fmt: skip
"""Zones of exchanges, whose midnights are recognised in times that are shown in UTC."""


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
    lengths: Mapping[str, timedelta] | None = None,
) -> pl.DataFrame:
    """Adds what the rows' time is: `day` for daily and coarser rows, else `time` (UTC), and `known_at`.

    `stamp` says of what: the bar's open, its close, or null where nobody said. `are_bars` marks rows of a
    Bars frame, whose times are closes already. A `known_at` that is a date means the end of that day, UTC. `lengths`:
    symbol -> usual spacing of the bars that the rows go on from: where it is of an hour, midnight is no date.
    """
    within_day = any((lengths or {}).get(symbol, DAILY) < DAILY for symbol in frame["symbol"].unique())
    column = next(name for name in ("close_time", "time", "open_time") if name in frame.columns)
    if column == "close_time" or are_bars:
        stamp = "close"
    elif column == "open_time":
        stamp = "open"
    wall, moment = _clocks(frame, column, timezone, date_format, notes)
    _refuse_other_unit(frame, column, wall, notes)
    frame = frame.with_columns(wall.alias("_wall"), moment.alias("_moment"), pl.lit(stamp, pl.String).alias("_stamp"))
    exact = column == "close_time" or are_bars
    frame = _at_whole_minutes(frame, exact, notes)
    if not exact:
        frame = _without_live_rows(frame, notes)
        exact = stamp == "close" and frame["_moment"].null_count() == 0
    if not exact:
        frame = frame if within_day else _midnights_in(frame, column, timezone, stamp, notes)
    if not exact and not within_day and _are_dates(frame):
        frame = frame.with_columns(pl.col("_wall").dt.date().alias("_day"), pl.lit(None, UTC_TIME).alias("time"))
    else:
        if not exact:
            _refuse_mixture(frame, column, notes)
        _refuse_unplaced(frame, column, timezone, notes)
        frame = frame.with_columns(pl.lit(None, pl.Date).alias("_day"), pl.col("_moment").alias("time"))
    if "known_at" not in frame.columns:
        return frame.with_columns(pl.lit(None, UTC_TIME).alias("known_at"))
    known = known_times(frame, "known_at", timezone, date_format, notes)
    close = pl.when(pl.col("time").is_between(known, known + JITTER)).then("time").otherwise(known)
    return frame.with_columns(close.alias("known_at"))


def within_reach(frame: pl.DataFrame, wanted: Container[str], notes: Notes) -> pl.DataFrame:
    """The frame without dates and times outside the years 2 to 9998, with which nothing can reckon.

    Such a cell of a `wanted` column is refused with its place; of any other it becomes empty.
    """
    for name, kind in frame.schema.items():
        if kind != pl.Date and not isinstance(kind, pl.Datetime):
            continue
        counts = frame[name].to_physical().cast(pl.Int64)
        unit = kind.time_unit if isinstance(kind, pl.Datetime) else None
        per_day = 86_400 * EPOCH_UNITS[UNIT_NAMES[unit]] if unit is not None else 1
        far = (~(counts // per_day).is_between(*REACH)).fill_null(False)
        if far.any() and name in wanted:
            row = frame.select("_table", "_line").filter(far).row(0, named=True)
            count = counts.filter(far)[0]
            guess = _other_unit(count * 86_400_000_000 // per_day)
            advice = "Write times as 2024-01-31 or 2024-01-31 16:00:00-05:00, or give date_format=."
            notes.refuse(row, f"not a time that is recognised.{guess}", advice, name, str(count))
        if far.any():
            frame = frame.with_columns(frame[name].set(far, None))
    return frame


NO_TEXTS = (pl.Object, pl.Binary, pl.Duration, pl.Time)
"""Types of columns that have no dates, numbers or texts."""


def texts_of(table: Table, columns: Mapping[str, str]) -> pl.DataFrame:
    """Columns of a table, as name wanted -> name in the table, as texts without spaces around; dates as 2024-01-31.

    Raises `BarsFileError` for a column of another type than texts, numbers or dates, and for a date outside the years 2
    to 9998.
    """
    for name in columns.values():
        if (kind := table.frame.schema[name]).is_nested() or kind in NO_TEXTS:
            advice = "Convert it to text, numbers or dates."
            raise BarsFileError(f"the column holds {kind}.", file=table.file, column=name, advice=advice)
    frame = table.frame.select(pl.col(name).alias(wanted) for wanted, name in columns.items())
    placed = frame.with_row_index("_line", table.first_line).with_columns(_table=pl.lit(0))
    frame = within_reach(placed, columns, Notes((table.file,))).select(list(columns))
    return frame.with_columns(pl.col(pl.Datetime).dt.date()).cast(pl.String).with_columns(pl.all().str.strip_chars())


def known_times(
    frame: pl.DataFrame,
    column: str,
    timezone: str | None,
    date_format: str | None,
    notes: Notes,
    *,
    optional: bool = False,
) -> pl.Series:
    """A column of moments at which something became known, in UTC. A date means the end of that day, UTC.

    `optional`: empty cells stay empty; elsewhere they are refused, as is a clock time without a zone.
    """
    given = frame.filter(pl.col(column).is_not_null()) if optional else frame
    if given.is_empty():
        return pl.Series(column, [None] * len(frame), UTC_TIME)
    wall, moment = _clocks(given, column, None, date_format, notes)  # moments only where the data say a zone
    local = pl.lit(None, UTC_TIME) if timezone is None else _moments_in(wall, timezone)
    table = given.select(
        "_table", "_line", pl.col(column).cast(pl.String).alias("value"),
        wall=wall, moment=moment, local=local,
    )  # fmt: skip
    end_of_day = (pl.col("wall") + timedelta(days=1)).dt.replace_time_zone("UTC")
    by_clock = pl.when(pl.col("wall").dt.time() == time()).then(end_of_day).otherwise("local")
    table = table.with_columns(pl.coalesce("moment", by_clock).alias("known"))
    unplaced = table.filter(pl.col("known").is_null())
    if unplaced.height:
        row = unplaced.row(0, named=True)
        advice = "Say which with timezone=, or give times with their offset."
        notes.refuse(row, "the time has no zone, or its clock shows it twice.", advice, column, row["value"])
    if not optional:
        return table["known"].alias(column)
    known = frame.select(at=pl.int_range(pl.len()), given=pl.col(column).is_not_null())
    placed = known.filter("given").with_columns(table["known"])
    return known.join(placed, on="at", how="left", maintain_order="left")["known"].alias(column)


def read_dates(frame: pl.DataFrame, column: str, notes: Notes) -> pl.Series:
    """A column of dates in any notation as dates; a cell that is none is refused with its line."""
    return _clocks(frame, column, None, None, notes)[0].dt.date().alias(column)


def _first_steps(column: str) -> pl.Expr:
    """The symbol's first distances between its different times, seconds apart or more."""
    return pl.col(column).dt.round("10s").unique().sort().diff().drop_nulls().head(FIRST)


def _refuse_other_unit(frame: pl.DataFrame, column: str, wall: pl.Series, notes: Notes) -> None:
    """Bars of January 1970 of a symbol that has none in the year before or after are counts in another unit."""
    near = wall.is_between(datetime(1969, 1, 1), datetime(1971, 1, 31, 23))
    first = near & (wall.dt.year() == 1970) & (wall.dt.month() == 1)
    if not first.any():
        return
    table = frame.select("symbol", "_table", "_line", wall=wall, first=first, near=near & ~first)
    alone = table.filter(pl.col("first") & ~pl.col("near").any().over("symbol"))
    if alone.height:
        row = alone.row(0, named=True)
        guess = _other_unit(int(alone["wall"].dt.epoch("us")[0]))
        problem = f"a bar of January 1970, and none in the year before or after.{guess}"
        notes.refuse(row, problem, "Give times in their unit, or correct the date.", column, str(row["wall"]))


def _not_a_time(wall: pl.Series) -> str:
    """Why the first of these times is refused: it could not be read, or is of other years."""
    year, micros = wall.dt.year()[0], wall.to_physical()[0]  # numbers: Python has no year 0
    if year is None:
        return "not a time that is recognised."
    return f"not a time of the years {YEARS[0]} to {YEARS[1]}, but of {year}.{_other_unit(micros)}"


def _other_unit(micros: int) -> str:
    """Microseconds since 1970 that cannot be -> the unit in which they would be a likely time, as a sentence.

    >>> _other_unit(1_718_913_600_000)
    ' Was a unit taken for another? Times 1,000 it would be 2024-06-20 20:00 UTC.'
    >>> _other_unit(17)
    ''
    """
    for factor in (10**3, 10**6, 10**9):
        for said, seconds in (("Times", micros * factor // 10**6), ("Over", micros // factor // 10**6)):
            if LIKELY[0] <= seconds < LIKELY[1]:
                moment = datetime.fromtimestamp(seconds, UTC)
                return f" Was a unit taken for another? {said} {factor:,} it would be {moment:%Y-%m-%d %H:%M} UTC."
    return ""


def _of_days(count: float | None) -> str:
    """What a number is that is no date and no count of seconds or less: days, as Excel or since 1970, if likely.

    >>> _of_days(45463.0)
    'It is no count of seconds since 1970, but as days of Excel it would be 2024-06-20'
    """
    for name, first in (("of Excel", date(1899, 12, 30)), ("since 1970", date(1970, 1, 1))):
        seconds = None if count is None else (first - date(1970, 1, 1)).total_seconds() + count * 86_400
        if seconds is not None and LIKELY[0] <= seconds < LIKELY[1]:
            day = datetime.fromtimestamp(seconds, UTC).date()
            return f"It is no count of seconds since 1970, but as days {name} it would be {day}"
    return "It is neither a date nor a count since 1970"


def _at_whole_minutes(frame: pl.DataFrame, closes: bool, notes: Notes) -> pl.DataFrame:
    """Times within five seconds of a whole minute are that minute, for bars of a minute or longer.

    Clocks of vendors are late by milliseconds; a bar stamped at 00:00:00.002 would belong to the next session, and
    would not meet the bar of another symbol. `closes`: 11:59:59.999 is how a vendor writes noon, and is not told.
    """
    whole = pl.col("_wall").dt.round("1m")
    move = whole - pl.col("_wall")
    if bool(frame.select((move == timedelta()).all()).item()):
        return frame
    usual = frame.group_by("symbol").agg(_first_steps("_wall").median().alias("_usual"))
    frame = frame.join(usual, on="symbol", how="left", maintain_order="left")
    long = (pl.col("_usual") >= timedelta(minutes=1)).fill_null(True)
    moved = long & (move.abs() <= JITTER) & (move != timedelta())
    if not closes:
        advice = "Times within 5 seconds of a whole minute are read as that minute."
        notes.add_counts("info", "rounded_time", frame.filter(moved).drop("time", strict=False), advice)
    move = pl.when(moved).then(move).otherwise(timedelta())
    return frame.with_columns(pl.col("_wall") + move, pl.col("_moment") + move).drop("_usual")


def _without_live_rows(frame: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """A symbol's last row is left out where its clock is off the grid of all others: its bar is unfinished.

    The grid are midnights, half hours, quarters, five minutes or minutes: the first of them that holds all others.
    """
    clock = pl.col("_wall") - pl.col("_wall").dt.truncate("1d")
    is_last = pl.col("_wall") == pl.col("_wall").max().over("symbol")
    fits = [(pl.col("_clock_of_row") % grain.total_seconds() == 0) for grain in GRAINS]
    table = frame.with_columns((clock.dt.total_microseconds() / 1e6).alias("_clock_of_row"), is_last.alias("_last"))
    others = ~pl.col("_last")
    grids = table.group_by("symbol").agg(
        pl.col("_wall").filter(others).n_unique().alias("_others"),
        *(fit.filter(others).all().alias(f"_all_{n}") for n, fit in enumerate(fits)),
    )
    table = table.join(grids, on="symbol", how="left", maintain_order="left")
    off = pl.lit(False)
    for n, fit in reversed(list(enumerate(fits))):
        off = pl.when(pl.col(f"_all_{n}")).then(~fit).otherwise(off)
    live = pl.col("_last") & off & (pl.col("_others") >= LIVE_MIN)
    rows = table.filter(live)
    if rows.is_empty():
        return frame
    for row in rows.unique(["symbol", "_wall"], maintain_order=True).iter_rows(named=True):
        advice = "The last row's clock is off the times of all others: its bar is unfinished and left out."
        notes.add("warning", "unfinished", {**row, "time": row["_moment"]}, f"{row['_wall']}", advice)
    return table.filter(~live.fill_null(False)).select(frame.columns)


def _midnights_in(
    frame: pl.DataFrame, column: str, timezone: str | None, stamp: Stamp | None, notes: Notes
) -> pl.DataFrame:
    """Daily moments that are midnights in `timezone` show that zone's dates: 05:00 UTC is New York's midnight.

    Where they are midnights of an exchange that nobody named, or a bar's open whose day would end on the next one, the
    refusal asks for what is missing.
    """
    clocks = frame["_wall"].dt.time()
    if bool((clocks == time()).all()) or not _are_daily(frame):
        return frame

    def shown_in(zone: str) -> pl.Series:
        return frame["_moment"].dt.convert_time_zone(zone).dt.replace_time_zone(None)

    if frame["_moment"].null_count() == 0:
        if timezone is not None and bool((shown_in(timezone).dt.time() == time()).all()):
            return frame.with_columns(shown_in(timezone).alias("_wall"))
        for zone in ZONES:
            wall = shown_in(zone)
            at_midnight = bool((wall.dt.time() == time()).all())
            if at_midnight and not (stamp == "open" and bool((wall.dt.weekday() > 5).any())):
                row = frame.row(0, named=True)
                problem = f"the daily times are midnights of {zone}, shown in another zone."
                notes.refuse(row, problem, f"Say timezone={zone!r}.", column, str(row["_wall"]))
    wall = frame["_wall"] if timezone is None or frame["_moment"].null_count() else shown_in(timezone)
    if stamp == "open" and bool((wall.dt.weekday() == 5).any()) and not bool((wall.dt.weekday() > 5).any()):
        row = frame.filter(wall.dt.weekday() == 5).row(0, named=True)
        if bool((clocks != time()).sum() > len(frame) / 2):
            problem = "daily bars of weekdays that begin at this time would end a day later, Friday's on Saturday."
            advice = "Give the date of each session without a clock, or its close with stamp='close'."
            notes.refuse(row, problem, advice, column, str(row["_wall"]))
    return frame


def _are_daily(frame: pl.DataFrame) -> bool:
    """Whether each symbol's different times are almost a day apart, or more."""
    steps = frame.sort("symbol", "_wall").select(pl.col("_wall").diff().over("symbol")).to_series()
    closest = steps.filter(steps > timedelta()).min()
    return not isinstance(closest, timedelta) or closest >= DAILY


def _refuse_mixture(frame: pl.DataFrame, column: str, notes: Notes) -> None:
    """A few rows with a clock among dates are refused by their place; nothing is said of rows that are right."""
    shows_clock = frame["_wall"].dt.time() != time()
    odd, dates = frame.filter(shows_clock), frame.filter(~shows_clock)
    if 0 < odd.height <= max(LIVE_MIN, len(frame) // 20) and odd.height < dates.height and _are_daily(dates):
        row = odd.row(0, named=True)
        problem = f"{odd.height} of {len(frame)} rows have a clock, the others are dates; this is the first."
        notes.refuse(row, problem, "Give the row its session's date, or leave it out.", column, str(row["_wall"]))


def _are_dates(frame: pl.DataFrame) -> bool:
    """Whether the clock always shows midnight, at most once a day for each symbol."""
    return bool((frame["_wall"].dt.time() == time()).all()) and _are_daily(frame)


def _refuse_unplaced(frame: pl.DataFrame, column: str, timezone: str | None, notes: Notes) -> None:
    unplaced = frame.filter(pl.col("_moment").is_null())
    if unplaced.height:
        row = unplaced.row(0, named=True)
        if frame.schema[column] == pl.Date:
            problem = "a date without a time of day, where times were expected."
            advice = "Give dates with times of day, or call the column date."
        elif timezone is None:
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
    if column == "time" and "_clock" in frame.columns:
        values, date_format = _with_clock(values, frame["_clock"], date_format)
    values = values.cast(pl.Date) if values.dtype == pl.Null else values
    kind = values.dtype
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        wall, moment = values.dt.replace_time_zone(None), values.dt.convert_time_zone("UTC")
    elif kind == pl.Date or isinstance(kind, pl.Datetime):
        wall, moment = values, None
    elif kind.is_numeric():
        wall, moment = _from_numbers(frame, column, values.cast(pl.Float64), notes)
    elif kind == pl.String:
        counts = values.drop_nulls().str.contains(r"^([0-9]{1,11}(\.0*)?|[0-9]{13}|[0-9]{16}|[0-9]{19})$")
        if date_format is None and bool(counts.all()) and counts.len():
            wall, moment = _from_numbers(frame, column, values.cast(pl.Float64), notes)
        else:
            wall, moment = _from_text(frame, column, values, date_format, notes)
    else:
        problem, advice = f"the column holds {kind}.", "Give dates, or dates with times of day."
        notes.refuse(frame.row(0, named=True), problem, advice, column)
    wall = wall.cast(pl.Datetime("us"), strict=False)
    faulty = (~wall.dt.year().is_between(*YEARS)).fill_null(True)
    bad = values.filter(faulty)
    if len(bad):
        far = wall.filter(faulty).is_null()[0] and not kind.is_numeric() and kind != pl.String
        value = None if bad.is_null()[0] else bad.to_physical()[0] if far else bad[0]
        notes.refuse(
            frame.select("_table", "_line").filter(faulty).row(0, named=True),
            "the time is missing." if value is None else _not_a_time(wall.filter(faulty)),
            "Write times as 2024-01-31 or 2024-01-31 16:00:00-05:00, or give date_format=.",
            column,
            None if value is None else str(value),
        )
    if moment is None and timezone is not None:
        moment = _moments_in(wall, timezone)
    elif moment is not None and moment.null_count() and timezone is not None:
        moment = moment.fill_null(_moments_in(wall, timezone))  # rows without an offset among others
    if moment is None:
        moment = pl.Series([None] * len(wall), dtype=UTC_TIME)
    return wall, moment.cast(UTC_TIME)


def _moments_in(wall: pl.Series, timezone: str) -> pl.Series:
    """What a clock in the zone shows, in UTC; null where it shows that twice or never."""
    local = wall.dt.replace_time_zone(timezone, ambiguous="null", non_existent="null")
    return local.dt.convert_time_zone("UTC").cast(UTC_TIME)


def _with_clock(days: pl.Series, clock: pl.Series, date_format: str | None) -> tuple[pl.Series, str | None]:
    """A column of dates and the times of day beside it as one text, and the format of both."""
    if days.dtype == pl.Date or isinstance(days.dtype, pl.Datetime):
        days = days.dt.strftime("%Y-%m-%d")
    elif days.dtype.is_integer():
        days = days.cast(pl.String)
    elif days.dtype != pl.String:
        return days, date_format
    if date_format is not None and "%H" not in date_format and "%I" not in date_format:
        long = bool(clock.drop_nulls().str.contains(r"^\d{1,2}:\d{2}:\d{2}").all())
        date_format += " %H:%M:%S%.f" if long else " %H:%M"
    return days + " " + clock, date_format


def _from_numbers(
    frame: pl.DataFrame, column: str, values: pl.Series, notes: Notes
) -> tuple[pl.Series, pl.Series | None]:
    """Dates like 20240131, or counts since 1970, which are UTC."""
    if values.null_count() == 0 and bool(values.is_between(YEARS[0] * 10_000 + 101, YEARS[1] * 10_000 + 1231).all()):
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
        guess = f"It looks like {row['unit']}" if row["unit"] else _of_days(row["value"])
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
    if zone.null_count() == len(zone):
        return wall, None
    parts = r"([+-])(\d{1,2}?):?(\d{2})?$"  # none in Z, UTC and GMT
    hours, minutes = (zone.str.extract(parts, group).cast(pl.Int64).fill_null(0) for group in (2, 3))
    sign = zone.str.contains("-", literal=True).fill_null(False)
    total = hours * 60 + minutes
    ahead = (total.zip_with(~sign, -total) * 60_000_000).cast(pl.Duration("us"))
    wall = wall.set((total > FURTHEST) | (minutes > 59), None)
    moment = (wall - ahead).dt.replace_time_zone("UTC")
    return wall, moment.set(zone.is_null(), None)


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


def close_times(rows: pl.DataFrame, notes: Notes, lengths: Mapping[str, timedelta] | None = None) -> pl.DataFrame:
    """Rows sorted by symbol and time, where `time` is the bar's close and `known_at` is filled with it.

    A day ends at `session_close`. A stamp at the open is moved by the usual spacing, that of `lengths` (by symbol) or
    `usual_steps` of the rows; a week, month, quarter or year stamped with its first day ends with its last.
    """
    rows = rows.with_columns(pl.coalesce("time", pl.col("_day").cast(UTC_TIME)).alias("_shown"))
    rows = rows.sort("symbol", "_shown", maintain_order=True)
    rows = rows.join(usual_steps(rows, "_shown"), on="symbol", how="left", maintain_order="left")
    if lengths:
        given = pl.col("symbol").replace_strict(lengths, default=None, return_dtype=pl.Duration("us"))
        told = pl.when(given.is_not_null()).then(FIRST).otherwise("_steps")
        rows = rows.with_columns(pl.coalesce(given, "_step").alias("_step"), told.alias("_steps"))
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


def usual_steps(rows: pl.DataFrame, time: str = "time") -> pl.DataFrame:
    """symbol, `_step` (the most frequent of its first 20 spacings) and `_steps` (how many spacings); rows sorted."""
    steps = rows.select("symbol", _step=pl.col(time).diff().over("symbol")).filter(pl.col("_step") > timedelta())
    return steps.group_by("symbol", maintain_order=True).agg(
        pl.col("_step").head(FIRST).mode().min(), pl.len().alias("_steps")
    )
