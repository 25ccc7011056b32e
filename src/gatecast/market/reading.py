"""How a source of bars is to be read: the one list of options, with their words.

`read_bars`, the section `[bars]` of an experiment and the options of the command are made from `BarsSettings`. The
module loads no data library, so that the command starts quickly.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from gatecast.errors import BarsError, SettingsError, shown, symbol_fault
from gatecast.settings import Settings

FIRST_DAY: Final = "1700-01-01"
"""First day that settings may name."""
NEWEST_DAY: Final = "2200-12-31"
"""Last day that settings may name."""
TABLES: Final = ("symbols_file", "splits", "actions", "delisting", "universe")
"""Settings that name a file beside the source."""
LONGEST_PERIODS: Final = {"m": 5_256_000, "h": 87_600, "d": 3650, "w": 520, "mo": 120, "q": 40, "y": 10}
"""Minutes, hours, days, weeks, months, quarters and years of the longest bars that are made of others: ten years."""


class BarsSettings(Settings):
    """Where bars come from and how they are to be understood; `gatecast.read_bars` takes the same options.

    >>> BarsSettings(source="bars.csv", stamp="middle")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: BarsSettings: stamp = 'middle': input should be 'open' or 'close' (which end of its \
bar an intraday, weekly or monthly time is).
    """

    source: str = "embedded"
    """a CSV or Parquet file, a folder, a glob, embedded, or VENDOR:request of a vendor of one's own"""
    symbols: str | tuple[str, ...] | None = Field(default=None, examples=[["SP500"]])
    """keep only these; a single one names bars that carry no symbol (else the file's name does)"""
    symbols_file: str | Path | None = Field(default=None, examples=["symbols.csv"])
    """a CSV with symbol and asset_class; a column close ("17:30 Europe/Berlin") gives a symbol a close of its own, a
    column calendar ("XETR") the sessions that a live feed of it is held to, a column currency ("EUR") that of its
    prices, where it is not the book's"""
    asset_class: str | None = Field(default=None, examples=["index"])
    """for symbols without a class of their own; left out: equity"""
    timezone: str | None = Field(default=None, examples=["Europe/Berlin"])
    """zone of times without one"""
    stamp: Literal["open", "close"] | None = Field(default=None, examples=["open"])
    """which end of its bar an intraday, weekly or monthly time is; a daily date stands for its session, which ends at
    the close of its class"""
    resample: str | None = Field(default=None, examples=["1w"])
    """coarser bars to make of these, such as 4h, 1d, 1w or 1mo; at most 10y"""
    start: str | date | None = Field(default=None, examples=["2005-01-01"])
    """first session"""
    end: str | date | None = Field(default=None, examples=["2018-12-31"])
    """last session; no action that is dated after it, and no delisting that is known after it, is read"""
    as_of: str | date | None = Field(default=None, examples=["2018-12-31"])
    """only what was known then; a date: at its end, UTC; of several versions of a row the newest then"""
    versions: Literal["first", "newest"] = "first"
    """of several versions of a row: the first known, which forecasts could use, or the newest"""
    known_at: dict[str, str] | None = Field(default=None, examples=[{"short_interest": "16d"}])
    """when further columns become known: a delay after the row's close, or a column of times; a column
    <name>_known_at does so by itself"""
    date_format: str | None = Field(default=None, examples=["%d/%m/%Y"])
    """format of dates like 03/04/2024; without it they are read only where a day above 12 shows the order"""
    header: tuple[str, ...] | None = Field(default=None, examples=[["date", "open", "high", "low", "close", "volume"]])
    """names of the columns of a file without a header line"""
    scale: float | None = Field(default=None, gt=0, le=1e12, examples=[0.01])
    """what prices are multiplied by"""
    adjusted: bool = False
    """whether prices are adjusted for dividends, so that a table of actions may have none; an adjusted close is"""
    splits: str | Literal[False] | None = Field(default=None, examples=["splits.csv"])
    """a table of symbol, date, ratio of splits that the prices do not contain; false: every step is a true move"""
    actions: str | None = Field(default=None, examples=["actions.csv"])
    """a table of symbol, kind, date, value; the kind is split, unit (another unit of prices), delisting, dividend,
    special_dividend, return_of_capital, rights, spin_off, merger or symbol_change"""
    delisting: str | None = Field(default=None, examples=["delisting.csv"])
    """a table of symbol, date, value of ends; the value is the last return, such as -0.3"""
    universe: str | Path | None = Field(default=None, examples=["universe.csv"])
    """a table of symbol, from, to: a symbol is forecast and held inside its dates alone; left out: always, and whether
    the symbols were chosen with hindsight is not known"""
    columns: tuple[str, ...] | None = Field(default=None, examples=[["sentiment"]])
    """further columns to read; left out: all that hold numbers"""
    frame: Any = Field(default=None, exclude=True, repr=False)
    """bars handed over in memory, instead of a source; in no file"""

    @field_validator("symbols")
    @classmethod
    def _one_or_more(cls, symbols: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = (symbols,) if isinstance(symbols, str) else symbols
        for name in names or ():
            if fault := symbol_fault(name):
                raise ValueError(f"{shown(name)}: {fault}")
        return names

    @field_validator("symbols_file", "universe")
    @classmethod
    def _as_text(cls, path: str | Path | None) -> str | None:
        return None if path is None else str(path)

    @field_validator("resample")
    @classmethod
    def _of_a_length(cls, every: str | None) -> str | None:
        if every is not None:
            period_unit(every, "a period")
        return every

    @field_validator("start", "end", "as_of", mode="before")
    @classmethod
    def _on_a_day_of_markets(cls, value: Any, about: ValidationInfo) -> Any:
        """Refuses years in which no market has bars; what is no date is refused by `read_bars`."""
        text = value.isoformat() if isinstance(value, date) else value
        if isinstance(text, int | float):  # which would be taken for seconds since 1970
            raise ValueError(f"expected a date as text, such as 2005-01-01; got the number {text!r}")
        if isinstance(text, str) and re.match(r"\d{4}", text) and not FIRST_DAY[:4] <= text[:4] <= NEWEST_DAY[:4]:
            as_day(text[:10], str(about.field_name))
        return text

    @property
    def options(self) -> dict[str, Any]:
        """The options of `gatecast.read_bars` that were given; neither the source nor the frame is among them."""
        return self.model_dump(exclude={"source"}, exclude_unset=True)

    def refuse_tables(self, named: Collection[str] = ()) -> None:
        """Raises `SettingsError` for a table that these settings name, unless it is among those `named` again.

        Settings that came with a folder may be anybody's: they open no file that the user does not name.

        >>> BarsSettings(splits="splits.csv", actions="actions.csv").refuse_tables(["splits"])
        Traceback (most recent call last):
            ...
        gatecast.errors.SettingsError: the run's bars were read with actions = 'actions.csv'; a run's own settings \
open no file outside its folder. Name the file again: actions='...', or --actions FILE.
        """
        for name in TABLES:
            if (table := getattr(self, name)) and name not in named:
                raise SettingsError(
                    f"the run's bars were read with {name} = {reprlib.repr(table)}; a run's own settings open no file "
                    f"outside its folder. Name the file again: {name}='...', or --{name.replace('_', '-')} FILE."
                )


def as_day(value: str | date, name: str = "holdout") -> date:
    """A date from ISO text. Raises `SettingsError` for anything else, and for days on which no market has bars.

    >>> as_day("0001-01-01")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: holdout = '0001-01-01': expected a date from 1700 to 2200, such as 2017-01-01.
    """
    try:
        day = value if isinstance(value, date) else date.fromisoformat(value)
    except (ValueError, TypeError):
        day = date.min
    if not FIRST_DAY <= str(day)[:10] <= NEWEST_DAY:
        came = shown(str(value) if isinstance(value, date) else value)
        raise SettingsError(f"{name} = {came}: expected a date from 1700 to 2200, such as 2017-01-01.")
    return day.date() if isinstance(day, datetime) else day


def period_unit(every: str, name: str = "every") -> str:
    """The unit (m, h, d, w, mo, q or y) of a period such as 4h.

    Raises `BarsError` for what is no period, and for one longer than ten years.

    >>> period_unit("4h")
    'h'
    >>> period_unit("100000w")
    Traceback (most recent call last):
        ...
    gatecast.errors.BarsError: every must be at most '520w' (ten years), got '100000w'.
    """
    found = re.fullmatch(r"([1-9]\d*)(m|h|d|w|mo|q|y)", every, re.ASCII)
    if found is None:
        raise BarsError(f"{name} must be like '15m', '4h', '1d', '1w' or '1mo', got {shown(every)}.")
    count, unit = found.groups()
    most = LONGEST_PERIODS[unit]
    if len(count) > len(str(most)) or int(count) > most:
        raise BarsError(f"{name} must be at most '{most}{unit}' (ten years), got {shown(every)}.")
    return unit


def as_utc(moment: datetime, name: str) -> datetime:
    """A moment with a time zone in UTC. Raises `BarsError` for one without, and for one of years without markets.

    >>> as_utc(datetime(9999, 12, 31, 23, tzinfo=UTC), "now")
    Traceback (most recent call last):
        ...
    gatecast.errors.BarsError: now must be a time of the years 1700 to 2200, got 9999-12-31 23:00:00+00:00.
    """
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise BarsError(f"{name} must be a time with a zone, such as datetime.now(timezone.utc), got {shown(moment)}.")
    if not FIRST_DAY <= str(moment.date()) <= NEWEST_DAY:
        raise BarsError(f"{name} must be a time of the years 1700 to 2200, got {moment}.")
    return moment.astimezone(UTC)


def close_named(text: str) -> datetime | date:
    """What names a close: a date, which is a session, or a moment, UTC where it has no zone. Raises `ValueError`.

    >>> close_named("2024-01-31"), close_named("2024-01-31T00:00")
    (datetime.date(2024, 1, 31), datetime.datetime(2024, 1, 31, 0, 0, tzinfo=datetime.timezone.utc))
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        try:
            moment.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(str(error)) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
