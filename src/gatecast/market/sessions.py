"""Sessions of exchanges by their published calendars: dates, opens and closes, past and to come, for what is live.

They say what should be there at a moment: the age of a feed, the month whose refit is due. What the bars that are
there mean stays with `market.calendar` (usual spacing, halts, by when a row must be known): that is the rule inside the
chain, and it reads observed bars alone, so that no forecast depends on the version of a table of holidays.

The tables are made by the library exchange_calendars, which takes about a second, and are kept as Parquet files in the
user's cache folder. Which session is the first of a month is said by `Schedule.due` on the closes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from gatecast.errors import BarsError, StoreError, cut, did_you_mean
from gatecast.files import cache_folder, opened, read, sha256_of, write_whole
from gatecast.formats import table_of
from gatecast.market.bars import UTC_TIME, session_date
from gatecast.market.calendar import ROUND_THE_CLOCK, deadlines, fill_times, usual_spacing
from gatecast.market.classes import ASSET_CLASSES, AssetClass, asset_class

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from polars._typing import PolarsDataType

    DayArray = NDArray[np.datetime64]
    TimeArray = NDArray[np.datetime64]
    IntArray = NDArray[np.int64]

BEGIN = date(1990, 1, 1)
"""First day of a table, unless an earlier one is asked for."""
AHEAD = 2  # whole years that a table reaches beyond the one that is asked for
GRACE = timedelta(minutes=60)
"""Time that a vendor has after a close until its bar is missed."""
LONGER = timedelta(days=4)  # a usual spacing above it is of weeks or months, whose bars are counted, not sessions
FIT_SESSIONS, FIT_LEAST, FIT_SHARE = 252, 20, 0.03  # of the last 252 sessions bars may lack 3 %, if there are 20
NEW_YORK_DAYS = ("24/5", "CMES", "us_futures")
"""Calendars whose sessions end at 17:00 in New York, as the bars of currencies and futures do; the table that the
library has for them ends an hour or more later."""
COLUMNS: dict[str, PolarsDataType] = {"session": pl.Date, "open": UTC_TIME, "close": UTC_TIME, "published": pl.Boolean}
MOST_BYTES, MOST_ROWS = 2**24, 200_000
_FILE = re.compile(r".+-(\d{4})-(\d{4})-([0-9a-f]{32})\.parquet")


@dataclass(frozen=True, eq=False)
class Calendar:
    """The sessions of one exchange, in order.

    `name`: of exchange_calendars, such as XNYS. `session` (n,) datetime64[D]; `open`, `close` (n,) datetime64[us], UTC.
    `published` (n,) bool: False where the library knows no holidays any more, so that every weekday is a session.
    `note`: a sentence where the table could not be kept, else empty.

    >>> new_york = calendar_of("XNYS", datetime(2026, 1, 1, tzinfo=UTC))
    >>> begin, end = (datetime(2024, 7, day, tzinfo=UTC) for day in (3, 6))
    >>> for session in new_york.between(begin, end).select("open", "close").iter_rows():
    ...     print(*(f"{moment:%Y-%m-%d %H:%M}" for moment in session))
    2024-07-03 13:30 2024-07-03 17:00
    2024-07-05 13:30 2024-07-05 20:00
    """

    name: str
    session: DayArray
    open: TimeArray
    close: TimeArray
    published: NDArray[np.bool_]
    note: str = ""

    def between(self, begin: datetime, end: datetime) -> pl.DataFrame:
        """The sessions that close after `begin` and not after `end`: `session`, `open`, `close`, `published`."""
        rows = slice(*np.searchsorted(self.close, [_moment(begin), _moment(end)], side="right").tolist())
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return pl.DataFrame(
            {name: pl.Series(values).dt.replace_time_zone("UTC") if name in ("open", "close") else values
             for name, values in columns.items()}
        )  # fmt: skip

    def next_open(self, moments: TimeArray) -> TimeArray:
        """(n,) UTC -> (n,) the first open after each moment; NaT beyond the table."""
        opens: TimeArray = np.r_[self.open, np.datetime64("NaT", "us")]
        return opens[np.searchsorted(self.open, moments.astype("datetime64[us]"), side="right")]

    def last_closed(self, now: datetime, grace: timedelta = GRACE) -> int:
        """The number (place in the arrays) of the last session that closed at least `grace` before `now`; -1: none."""
        return int(np.searchsorted(self.close, _moment(now - grace), side="right")) - 1

    def missed(self, newest: DayArray, now: datetime, grace: timedelta = GRACE) -> IntArray:
        """(n,) session dates of newest bars -> (n,) sessions after each that closed at least `grace` before `now`."""
        after = np.searchsorted(self.session, newest.astype("datetime64[D]"), side="right")
        counted: IntArray = np.maximum(self.last_closed(now, grace) + 1 - after, 0).astype(np.int64)
        return counted

    def fits(self, days: DayArray) -> bool:
        """Whether bars of these session dates (n,) are of this exchange, as far as holidays can tell.

        They are unless they lack more than 3 % of the last 252 sessions up to the newest bar, or up to the first one.
        Fewer than 20 sessions say nothing against it.
        """
        days = np.unique(days.astype("datetime64[D]"))
        if len(days) == 0:
            return True
        own = self.session[(self.session >= days[0]) & (self.session <= days[-1])][-FIT_SESSIONS:]
        return len(own) < FIT_LEAST or bool(np.mean(~np.isin(own, days)) <= FIT_SHARE)


def calendar_named(name: str) -> str:
    """A calendar's own name, of its name or another one of the same exchange; a BarsError names the closest known one.

    >>> calendar_named("NYSE"), calendar_named("24/7")
    ('XNYS', '24/7')
    """
    if name in {known.calendar for known in ASSET_CLASSES.values()}:
        return name
    library = _library()
    if name not in library.get_calendar_names(include_aliases=True):
        raise BarsError(f"the calendar {name!r} is unknown. {did_you_mean(name, calendar_names())}")
    return str(library.resolve_alias(name))


def calendar_names() -> list[str]:
    """The names that a calendar may have, sorted: those of exchange_calendars, other names of an exchange included."""
    return sorted(_library().get_calendar_names(include_aliases=True))


def calendar_of(
    name: str, until: datetime | None = None, *, begin: date = BEGIN, folder: Path | None = None
) -> Calendar:
    """The sessions of an exchange from `begin` (or its first known session) to beyond `until`.

    Parameters
    ----------
    name: as in `calendar_named`. until: a moment from which the table reaches at least one whole year ahead (default:
        the clock). begin: a day; the table begins with its year, and not after 1990. folder: where tables are kept
        (default: the folder `sessions` of the user's cache).

    A table is kept under its calendar, the versions of the library and of the time zones, its years and its content's
    hash. One that is missing, damaged, of other versions or too short is made again. One that cannot be kept is said in
    `Calendar.note`.

    Raises `BarsError` for an unknown name, for one whose sessions the library fails to make, and for years that no
    table has.
    """
    last = (until or datetime.now(UTC)).year
    first = min(begin.year, BEGIN.year)
    if not 1700 <= first <= last <= 2200:
        raise BarsError(f"a calendar was asked for from {first} to {last}: expected years from 1700 to 2200.")
    return _read(name, first, last, folder)


@lru_cache(maxsize=64)
def _read(name: str, first: int, last: int, folder: Path | None) -> Calendar:
    note, place = "", folder
    with suppress(StoreError):
        place = folder or cache_folder("sessions")
    table = None if place is None else _recall(place, name, first, last + 1)
    if table is None and (own := calendar_named(name)) != name:
        return _read(own, first, last, folder)
    if table is None:
        table = _make(name, date(first, 1, 1), date(last + AHEAD, 12, 31))
        if place is not None:
            try:
                _keep(place, name, first, last + AHEAD, table)
            except OSError as error:
                note = f"the sessions of {name} could not be kept in {place} ({error.strerror or error})."
    columns = {column: table[column].to_numpy() for column in ("session", "published")}
    moments = {column: table[column].dt.replace_time_zone(None).to_numpy() for column in ("open", "close")}
    return Calendar(name, **columns, **moments, note=note)


def closes_of(names: Collection[str], begin: datetime, until: datetime, *, folder: Path | None = None) -> TimeArray:
    """(n,) closes, UTC and ascending, of all sessions of these calendars after `begin` and up to `until`.

    It is what `Schedule.due_at` asks for of a class whose symbols trade on several exchanges. `folder`: see
    `calendar_of`, which says what is raised.

    >>> day = datetime(2024, 7, 4, tzinfo=UTC)  # a holiday in New York
    >>> closes_of(["XNYS", "XLON"], day, day + timedelta(days=2)).astype("datetime64[m]").astype(str).tolist()
    ['2024-07-04T15:30', '2024-07-05T15:30', '2024-07-05T20:00']
    """
    closes = [calendar_of(name, until, begin=begin.date(), folder=folder).close for name in names]
    every: TimeArray = np.unique(np.concatenate(closes))
    return every[(every > _moment(begin)) & (every <= _moment(until))]


def versions() -> dict[str, str]:
    """What decides the tables: the version of exchange_calendars, and of the time zones that Python reads here.

    >>> sorted(versions())
    ['exchange_calendars', 'time_zones']
    """
    return {"exchange_calendars": version("exchange_calendars"), "time_zones": _zones_version()}


@lru_cache(maxsize=1)
def _zones_version() -> str:
    """The system's, which zoneinfo reads first, else that of the package tzdata."""
    from zoneinfo import TZPATH

    for folder in TZPATH:
        with suppress(OSError), opened(Path(folder, "tzdata.zi"), at_most=2**24) as file:
            if found := re.match(rb"# version (\w{1,20})\s", file.readline(100)):
                return found[1].decode()
    with suppress(ImportError):
        return str(__import__("tzdata").IANA_VERSION)
    return "unknown"


def day_of(moment: datetime, known: AssetClass, calendar: str | None = None) -> date:
    """The day of a moment on the clock of a symbol's exchange: from which splits of a day count.

    It begins at midnight there; where a market pauses for an hour at most, when the session of the day before closes.
    `calendar`: the exchange's; None: that of the class. Raises `BarsError` for a calendar that is not known.

    >>> evening = datetime(2017, 12, 22, 1, tzinfo=UTC)  # 20:00 in New York
    >>> print(day_of(evening, ASSET_CLASSES["equity"]), day_of(evening, ASSET_CLASSES["crypto"]))
    2017-12-21 2017-12-22
    >>> print(day_of(evening, ASSET_CLASSES["fx"]), day_of(evening, ASSET_CLASSES["equity"], "XTKS"))
    2017-12-22 2017-12-22
    """
    local = moment.astimezone(ZoneInfo(known.timezone if calendar in (None, known.calendar) else _zone_of(calendar)))
    ends_early = known.pause <= ROUND_THE_CLOCK and known.close_time.hour > 0
    return (local + timedelta(hours=24 - known.close_time.hour) if ends_early else local).date()


@lru_cache(maxsize=64)
def _zone_of(calendar: str) -> str:
    """The time zone of an exchange, as exchange_calendars names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(_library().get_calendar(calendar_named(calendar), "2020-01-01", "2020-12-31").tz.key)


def named_calendars(bars: pl.DataFrame, calendars: Mapping[str, str] | None) -> dict[str, str]:
    """Symbol -> calendar by which its sessions are told from those of others, where its class has several.

    In: `symbol, asset_class`; symbol -> calendar where it is not that of its class. Of a class in which one has
    another, the others have the class's; of other classes nothing is said.

    >>> pair = pl.DataFrame({"symbol": ["A", "B", "C"], "asset_class": ["etf", "etf", "fx"]})
    >>> named_calendars(pair, {"B": "XLON"})
    {'A': 'XNYS', 'B': 'XLON'}
    """
    if not calendars:
        return {}
    classes = dict(bars.select("symbol", "asset_class").unique("symbol").sort("symbol").iter_rows())
    several = {name for symbol, name in classes.items() if symbol in calendars}
    return {
        symbol: calendars.get(symbol, asset_class(name).calendar)
        for symbol, name in classes.items() if name in several
    }  # fmt: skip


def open_days(bars: pl.DataFrame, calendars: Mapping[str, str] | None) -> dict[str, frozenset[date]]:
    """Symbol -> the sessions of its calendar up to the newest bar, of the symbols of `named_calendars`."""
    newest = bars["time"].max()
    if not calendars or not isinstance(newest, datetime):
        return {}
    named = named_calendars(bars, calendars)
    days = {name: frozenset(calendar_of(name, newest).session.tolist()) for name in set(named.values())}
    return {symbol: days[name] for symbol, name in named.items()}


def orders_until(
    bars: pl.DataFrame, calendars: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> pl.Series:  # fmt: skip
    """(bars,) until when a decision at each close can be traded: `deadlines`, of a symbol's newest bar the next open.

    The open is that of the symbol's exchange (`calendars`: symbol -> calendar, where it is not that of its class),
    where a session ends with the bar; markets that pause for an hour at most have none. `bars` sorted by symbol and
    time. It says whether bars came in time, which the store keeps as their `known_at`: no forecast asks it again.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1).filter(pl.col("time") < datetime(2000, 1, 15, tzinfo=UTC))
    >>> str(bars["time"][-1]), str(orders_until(bars)[-1])  # the 17th was a holiday
    ('2000-01-14 21:00:00+00:00', '2000-01-18 14:30:00+00:00')
    """
    pauses = [name for name, known in ASSET_CLASSES.items() if known.pause > ROUND_THE_CLOCK]
    rows = bars.select("symbol", "asset_class", "time", until=deadlines(bars), _fill=fill_times(bars))
    newest = pl.col("time") == pl.col("time").max().over("symbol")
    ends = rows.select(newest & (pl.col("_fill") > pl.col("time")) & pl.col("asset_class").is_in(pauses)).to_series()
    opens: dict[tuple[str, datetime], datetime] = {}
    for symbol, name, time in rows.filter(ends).select("symbol", "asset_class", "time").iter_rows():
        calendar = (calendars or {}).get(symbol, asset_class(name).calendar)
        table = calendar_of(calendar, time, begin=time.date(), folder=folder)
        opens[symbol, time] = table.next_open(np.array([_moment(time)]))[0].item().replace(tzinfo=UTC)
    schema: dict[str, PolarsDataType] = {"symbol": pl.String, "time": UTC_TIME, "_open": UTC_TIME}
    found = pl.DataFrame([(*key, moment) for key, moment in opens.items()], schema=schema, orient="row")
    rows = rows.join(found, on=["symbol", "time"], how="left", maintain_order="left")
    return rows.select(until=pl.max_horizontal("until", "_open")).to_series()


# ── how old a feed is ─────────────────────────────────────────────────────────────────────────────


def sessions_missed(
    newest: datetime,
    now: datetime,
    known: AssetClass,
    spacing: timedelta | None = None,
    calendar: str | None = None,
    *,
    grace: timedelta = timedelta(),
    tolerated: int = 0,
    folder: Path | None = None,
) -> int:
    """Sessions that closed after the session of a newest bar and at least `grace` before `now`.

    Parameters
    ----------
    newest: close of the newest bar. known: its class. spacing: its usual one; where that is of weeks or months, bars
        are counted. calendar: the exchange's; None: that of the class, whose sessions are weekdays at most and close
        with its bars, so that its table is read only where more weekdays than `tolerated` are missing.

    >>> christmas, after = (datetime(2023, 12, day, 21, tzinfo=UTC) for day in (22, 26))
    >>> sessions_missed(christmas, after, ASSET_CLASSES["equity"])  # the 25th is a holiday
    1
    """
    until = now - grace
    if spacing is not None and spacing > LONGER:
        return max((until - newest) // spacing, 0)
    begin, end = (pl.select(session_date(pl.lit(time).cast(UTC_TIME))).item() for time in (newest, until))
    if calendar is None or calendar == known.calendar:
        days = pl.DataFrame({"day": pl.date_range(begin, end + timedelta(days=1), closed="right", eager=True)})
        if known.periods_per_year != 365:
            days = days.filter(pl.col("day").dt.weekday() <= 5)
        most = int(days.select((known.close_of(pl.col("day")) <= until).sum()).item())
        if most <= tolerated or known.periods_per_year == 365:
            return most
    else:
        most = (end - begin).days + 1
    table = calendar_of(calendar or known.calendar, now, begin=begin, folder=folder)
    return min(most, int(table.missed(np.array([begin], "datetime64[D]"), now, grace)[0]))


def feed_age(
    bars: pl.DataFrame,
    now: datetime,
    calendars: Mapping[str, str] | None = None,
    *,
    grace: timedelta = GRACE,
    folder: Path | None = None,
) -> pl.DataFrame:
    """How many sessions the newest bar of each symbol, and of its class, is behind what should be there at `now`.

    Parameters
    ----------
    bars: `symbol, asset_class, time` at least. now: a moment with its zone. calendars: symbol -> calendar, where it is
        not that of its class (`Reading.calendars`). grace: time after a close until its bar is missed. folder: see
        `calendar_of`.

    Returns
    -------
    One row a symbol, sorted: `symbol, asset_class, calendar, newest_bar, sessions_behind, class_behind` (the least of
    its class's symbols). Of bars of weeks or months, bars are counted.

    >>> from gatecast.market import read_bars
    >>> bars = read_bars("embedded", end="2018-11-20")
    >>> thanksgiving = datetime(2018, 11, 23, 23, tzinfo=UTC)  # the 22nd was a holiday
    >>> feed_age(bars, thanksgiving)["sessions_behind"].to_list()
    [2, 2]
    """
    calendars = calendars or {}
    spacings = {name: usual_spacing(own) for (name,), own in bars.group_by("asset_class")}
    rows = bars.group_by("symbol").agg(pl.col("asset_class").last(), newest_bar=pl.col("time").max()).sort("symbol")
    counts: dict[tuple[Any, ...], int] = {}
    found = []
    for symbol, name, newest in rows.iter_rows():
        known = asset_class(name)
        calendar = calendars.get(symbol, known.calendar)
        case = (name, calendar, newest)
        if case not in counts:
            counts[case] = sessions_missed(newest, now, known, spacings[name], calendar, grace=grace, folder=folder)
        found.append((symbol, name, calendar, newest, counts[case]))
    schema: dict[str, PolarsDataType] = {
        "symbol": pl.String, "asset_class": pl.String, "calendar": pl.String, "newest_bar": UTC_TIME,
        "sessions_behind": pl.Int64,
    }  # fmt: skip
    frame = pl.DataFrame(found, schema=schema, orient="row")
    return frame.with_columns(class_behind=pl.col("sessions_behind").min().over("asset_class"))


# ── tables: made, kept, read back ─────────────────────────────────────────────────────────────────


def _library() -> Any:
    """exchange_calendars, which brings pandas: loaded when it is first needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exchange_calendars
    return exchange_calendars


def _moment(time: datetime) -> np.datetime64:
    """A moment with its zone -> UTC, datetime64[us]."""
    if time.tzinfo is None:
        raise BarsError(f"the time {time} has no zone. Give one: replace(tzinfo=datetime.UTC) for UTC.")
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "us")


def _make(name: str, begin: date, end: date) -> pl.DataFrame:
    """The table of a calendar for all its sessions from `begin` to `end`; weekdays follow where the library ends."""
    library = _library()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = type(library.get_calendar(name, start=f"{end.year - AHEAD}-01-01", end=f"{end.year - AHEAD}-12-31"))
            low, high = kind.bound_min(), kind.bound_max()
            first, last = max(begin, low.date() if low else begin), min(end, high.date() if high else end)
            made = library.get_calendar(name, start=first.isoformat(), end=last.isoformat())
            opens, closes = (made.schedule[column].dt.tz_localize(None).to_numpy() for column in ("open", "close"))
    except Exception as error:  # the library's own, and pandas'
        says = f"{type(error).__name__}: {cut(str(error))}"
        raise BarsError(
            f"exchange_calendars {version('exchange_calendars')} fails to make the calendar {name} ({says}). Name the "
            "calendar of an exchange with the same sessions, or use another version."
        ) from error
    moments = {"open": opens, "close": closes}
    table = pl.DataFrame(
        {name: pl.Series(one.astype("datetime64[us]")).dt.replace_time_zone("UTC") for name, one in moments.items()}
    ).with_columns(session=pl.Series(made.schedule.index.to_numpy().astype("datetime64[D]")), published=True)
    table = table.select(*COLUMNS)
    if last < end:
        table = table.vstack(_weekdays(table, made.tz.key, made.weekmask, last, end))
    if name in NEW_YORK_DAYS:
        at_five = ASSET_CLASSES["fx"].close_of
        table = table.with_columns(close=pl.min_horizontal("close", at_five(pl.col("session"))))
        if name == "24/5":  # Monday begins on Sunday, when Sydney opens
            table = table.with_columns(open=at_five(pl.col("session").dt.offset_by("-1d")))
    return table


def _weekdays(table: pl.DataFrame, zone: str, weekmask: str, last: date, end: date) -> pl.DataFrame:
    """The days of a week's sessions after `last`, at the usual hours of the last year on the clock of the zone."""
    days = np.arange(np.datetime64(last) + 1, np.datetime64(end) + 1)
    frame = pl.DataFrame({"session": pl.Series(days[np.is_busday(days, weekmask=weekmask)])})
    for name in ("open", "close"):
        local = table.tail(252)[name].dt.convert_time_zone(zone).dt.replace_time_zone(None)
        usual = (local - table.tail(252)["session"].cast(pl.Datetime("us"))).mode().sort()[0]
        moment = (pl.col("session").cast(pl.Datetime("us")) + usual).dt.replace_time_zone(
            zone, ambiguous="earliest", non_existent="null"
        )
        frame = frame.with_columns(moment.dt.convert_time_zone("UTC").alias(name))
    return frame.with_columns(published=pl.lit(False)).drop_nulls().select(*COLUMNS)


def _key(name: str) -> str:
    """What the name of a kept table begins with: the calendar and all versions that decide it."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]", "_", part) for part in (name, *versions().values()))


def _recall(folder: Path, name: str, first: int, last: int) -> pl.DataFrame | None:
    """A kept table that is whole and has all these years; None: it must be made."""
    paths: list[Path] = []
    with suppress(OSError):
        paths = sorted(folder.glob(f"{_key(name)}-*.parquet"))
    for path in paths:
        found = _FILE.fullmatch(path.name)
        if found is None or int(found[1]) > first or int(found[2]) < last:
            continue
        with suppress(OSError, ValueError):
            content = read(path, at_most=MOST_BYTES, follow=False)
            if sha256_of(content)[:32] == found[3]:
                return _refuse_disorder(table_of(content, COLUMNS, most_rows=MOST_ROWS))
    return None


def _refuse_disorder(table: pl.DataFrame) -> pl.DataFrame:
    """The table. Raises `ValueError` where it has empty cells, or sessions that are not in order and apart."""
    days, opens, closes = (table[name] for name in ("session", "open", "close"))
    apart = (
        (opens < closes).all()
        and (closes[:-1] <= opens[1:]).all()
        and (days.diff().drop_nulls().dt.total_days() > 0).all()
    )
    if sum(table.null_count().row(0)) or not apart or table.is_empty():
        raise ValueError("its sessions are not in order, each after the one before")
    return table.select(*COLUMNS)


def _keep(folder: Path, name: str, first: int, last: int, table: pl.DataFrame) -> None:
    """Files a table and removes earlier ones of the same calendar. Raises `OSError` where it cannot be written."""
    file = io.BytesIO()
    table.write_parquet(file)
    content = file.getvalue()
    path = folder / f"{_key(name)}-{first}-{last}-{sha256_of(content)[:32]}.parquet"
    write_whole(path, content)
    for other in folder.glob(f"{re.sub(r'[^A-Za-z0-9.]', '_', name)}-*.parquet"):
        if other.name != path.name and _FILE.fullmatch(other.name):
            with suppress(OSError):
                other.unlink()
