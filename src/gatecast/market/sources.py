"""Bars from files and frames: every vendor's table becomes the one Bars frame, or is refused with the place.

The way through is `read_with_findings`, top to bottom. Rows that cannot be bars are left out and listed,
never changed in silence; what cannot be known from the file is asked for, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import narwhals as nw
import polars as pl

from gatecast.errors import BarsError, BarsFileError, did_you_mean
from gatecast.market.bars import COLUMNS, PRICES, UTC_TIME, Finding, compare_levels, make_bars, session_date
from gatecast.market.bars import resample as resample_bars
from gatecast.market.classes import ASSET_CLASSES, AssetClass
from gatecast.market.classes import asset_class as class_named
from gatecast.market.cleaning import (
    BAD_MIN,
    BAD_SHARE,
    adjust,
    quarantine,
    read_splits,
    refuse_mixed_spacing,
    refuse_splits,
    widen,
    without_repeats,
)
from gatecast.market.columns import SPELLINGS, fill_symbols, name_columns, snake, to_numbers, wish_of
from gatecast.market.ends import no_actions
from gatecast.market.tables import Choose, Notes, Table, Wish, find_files, read_tables
from gatecast.market.times import Stamp, check_zone, close_times, read_times

Source = Any  # a path, paths, a folder, a glob, "embedded", or a pandas or Polars frame
OWN = {"_table", "_line", *SPELLINGS, "_day", "_stamp"}
"""Columns of rows that are no further ones."""
Splits = str | Path | pl.DataFrame | Literal[False] | None


@dataclass(frozen=True)
class Reading:
    """Bars, and what was done to the rows on the way: left out, filled, adjusted, widened.

    `actions`: the delistings that the source tells, see `gatecast.market.ends`.
    """

    bars: pl.DataFrame
    findings: tuple[Finding, ...]
    actions: pl.DataFrame = field(default_factory=no_actions)


def read_bars(
    source: Source,
    *,
    symbols: str | Sequence[str] | None = None,
    symbols_file: str | Path | None = None,
    asset_class: str = "equity",
    timezone: str | None = None,
    stamp: Stamp | None = None,
    resample: str | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    as_of: str | date | None = None,
    date_format: str | None = None,
    header: Sequence[str] | None = None,
    scale: float | None = None,
    splits: Splits = None,
    now: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """The Bars frame (Polars, see `gatecast.market.bars`) of a source.

    - source: a CSV, CSV.GZ or Parquet file, a list of them, a folder (also partitioned as `symbol=AAPL/`), a
      glob, a pandas or Polars frame, or "embedded" (S&P 500 and NASDAQ, daily 1999-2018: SP500, NASDAQ).
    - symbols: keep only these; a single one names bars that carry no symbol (else the file's name does).
    - symbols_file: a CSV with `symbol`, `asset_class` (or `class`) and, if wanted, `close`, such as
      "17:30 Europe/Berlin". asset_class: of symbols that neither it nor a column of the source classifies.
    - timezone: of times without one. stamp: whether an intraday, weekly or monthly time is the bar's "open"
      or "close"; a daily date stands for its session, which ends at the close of its class.
    - resample: coarser bars, as `gatecast.market.bars.resample` makes them.
    - start, end: first and last session date, both included. as_of: only what was known at that moment (a
      date: at its end, UTC).
    - date_format: of dates like 03/04/2024, which are refused without it ("%d/%m/%Y").
    - header: column names of a file without a header line. scale: what prices are multiplied by.
    - splits: a table (CSV, Parquet, frame) of symbol, date, ratio (2 = two for one from that session on,
      1 = a true move) of splits that the prices do not contain; False: every step is a true move.
    - now: bars that close after it are left out as unfinished (default: the computer's clock).
    - columns: further columns to keep (default: all that hold numbers).

    Parquet is scanned: of a file, or of a folder partitioned as `asset_class=equity/symbol=AAPL/` or by one of the two,
    only the symbols, sessions and columns that are asked for are read.

    An adjusted close scales all four prices. Bars that cannot be true are left out and listed by
    `read_with_findings`; a symbol with more than 5 % of them is refused.

    Raises BarsError, or BarsFileError with file, line, column, value and what to do.

    >>> bars = read_bars("embedded", symbols="SP500", start="2018-12-28")
    >>> [(symbol, f"{time:%Y-%m-%d %H:%M}", close) for symbol, time, close in
    ...  bars.select("symbol", "time", "close").iter_rows()]
    [('SP500', '2018-12-28 21:00', 2485.73999), ('SP500', '2018-12-31 21:00', 2506.850098)]
    """
    return read_with_findings(
        source,
        symbols=symbols,
        symbols_file=symbols_file,
        asset_class=asset_class,
        timezone=timezone,
        stamp=stamp,
        resample=resample,
        start=start,
        end=end,
        as_of=as_of,
        date_format=date_format,
        header=header,
        scale=scale,
        splits=splits,
        now=now,
        columns=columns,
    ).bars


def read_with_findings(
    source: Source,
    *,
    symbols: str | Sequence[str] | None = None,
    symbols_file: str | Path | None = None,
    asset_class: str = "equity",
    timezone: str | None = None,
    stamp: Stamp | None = None,
    resample: str | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
    as_of: str | date | None = None,
    date_format: str | None = None,
    header: Sequence[str] | None = None,
    scale: float | None = None,
    splits: Splits = None,
    now: datetime | None = None,
    columns: Sequence[str] | None = None,
    reference: pl.DataFrame | None = None,
) -> Reading:
    """As `read_bars`, with the list of what was left out, filled, adjusted or widened on the way.

    `reference` is a second Bars frame whose closes are compared (`gatecast.market.bars.compare_levels`). What
    is odd in the bars that were kept is told by `gatecast.market.bars.findings`.
    """
    if stamp not in (None, "open", "close"):
        raise BarsError(f"stamp must be 'open' or 'close', got {stamp!r}.")
    check_zone(timezone)
    class_named(asset_class)
    wanted = [symbols] if isinstance(symbols, str) else symbols
    classes = _read_classes(symbols_file)

    first, last = (None if day is None else _as_date(day, name) for day, name in ((start, "start"), (end, "end")))
    whole = partial(wish_of, columns=columns)
    chosen = partial(whole, symbols=wanted, first=first, last=last)

    def read(choose: Choose) -> tuple[pl.DataFrame, Notes] | None:
        tables = _load(source, header, wanted, choose)
        notes = Notes(tuple(table.file for table in tables))
        rows = [_read_rows(table, n, timezone, stamp, date_format, scale, notes) for n, table in enumerate(tables)]
        return (pl.concat(rows, how="diagonal_relaxed"), notes) if rows else None

    found = read(chosen)
    if found is None or not set(wanted or ()) <= set(found[0]["symbol"].unique()):
        found = read(whole)  # what is missing may be spelt otherwise, and the message names what there is
    if found is None:
        raise BarsError("the source has no rows: give a file with bars.")
    rows, notes = found
    rows = _choose_symbols(rows, wanted)
    if columns is not None:
        rows = rows.drop(set(rows.columns) - set(columns) - OWN)
    rows = _classify(rows, classes, asset_class, end, notes)
    rows = close_times(rows, notes)
    rows = _cut(rows, start, end, as_of, now, notes)
    rows = without_repeats(rows, notes)
    refuse_mixed_spacing(rows, notes)
    rows = quarantine(rows, notes)
    listed = read_splits(None if splits is False else splits)
    rows = adjust(rows, listed, notes)
    if splits is not False:
        refuse_splits(rows, listed, notes)
    rows = widen(rows, notes)
    bars = make_bars(rows.drop("_table", "_line", "adjusted_close"))
    if resample is not None:
        bars = resample_bars(bars, resample)
    compared = compare_levels(bars, reference) if reference is not None else []
    return Reading(bars, (*notes.findings, *compared))


def _load(source: Source, header: Sequence[str] | None, wanted: Sequence[str] | None, choose: Choose) -> list[Table]:
    if isinstance(source, list | tuple):
        if not source:
            raise BarsError("the list of sources is empty: give at least one file.")
        single = wanted if len(source) == 1 else None
        return [table for one in source for table in _load(one, header, single, choose)]
    if isinstance(source, str) and source == "embedded":
        return _embedded()
    if isinstance(source, str | Path):
        files = find_files(source)
        if wanted is not None and len(wanted) == 1 and len(files) == 1:  # whatever the file is called
            choose = partial(_named, choose=choose, symbol=wanted[0])
        tables = [table for path in files for table in read_tables(path, header, choose)]
    else:
        tables = _from_frame(source)
    if wanted is not None and len(wanted) == 1 and len(tables) == 1:
        return [replace(tables[0], symbol=wanted[0])]
    return tables


def _named(schema: Mapping[str, pl.DataType], _: str, *, choose: Choose, symbol: str) -> Wish | None:
    """What is wanted of a file that stands for a symbol of another name."""
    return choose(schema, symbol)


def _embedded() -> list[Table]:
    from arch.data import nasdaq, sp500

    tables = []
    for symbol, load in (("SP500", sp500.load), ("NASDAQ", nasdaq.load)):
        (table,) = _from_frame(load())
        frame = table.frame.drop("Adj Close").with_columns(pl.lit("index").alias("asset_class"))
        tables.append(replace(table, frame=frame, symbol=symbol))
    return tables


def _from_frame(source: Any) -> list[Table]:
    """A frame in memory; rows count from 1."""
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if nw.dependencies.is_pandas_dataframe(source):
        if source.columns.nlevels > 1:
            return _side_by_side(source)
        index = source.index
        if index.nlevels > 1 or index.name is not None or index.dtype.kind == "M":
            names = [str(name) if name is not None else "time" for name in index.names]
            source = source.rename_axis(index=names).reset_index()
        source = source.rename(columns=str)
    try:
        return [Table(nw.from_native(source, eager_only=True).to_polars(), None, 1)]
    except TypeError:
        raise BarsError(
            "bars are read from a path, a list of paths, a folder, a glob, 'embedded', or a pandas or Polars"
            f" frame; got {type(source).__name__}."
        ) from None


def _side_by_side(source: Any) -> list[Table]:
    """A pandas frame with columns (field, ticker) or (ticker, field): one table per ticker."""
    spellings = {spelling for group in SPELLINGS.values() for spelling in group}
    fields_first = any(snake(str(name)) in spellings for name in source.columns.get_level_values(0))
    level = 1 if fields_first else 0
    tables = []
    for ticker in source.columns.get_level_values(level).unique():
        (table,) = _from_frame(source.xs(ticker, axis=1, level=level))
        tables.append(replace(table, symbol=str(ticker)))
    return tables


def _read_rows(
    table: Table,
    number: int,
    timezone: str | None,
    stamp: Stamp | None,
    date_format: str | None,
    scale: float | None,
    notes: Notes,
) -> pl.DataFrame:
    """One table's rows with a price: their place, symbol, day or time with its stamp, and numbers."""
    frame = name_columns(table)
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    if texts:
        stripped = pl.col(texts).str.strip_chars()
        frame = frame.with_columns(pl.when(stripped != "").then(stripped))
    blank = pl.all_horizontal(pl.all().is_null())
    line = (pl.int_range(pl.len()) if table.rows is None else pl.lit(table.rows)) + table.first_line
    frame = frame.with_columns(blank.alias("_blank"), line.alias("_line"), pl.lit(number).alias("_table"))
    frame = frame.filter(~pl.col("_blank")).drop("_blank")
    for name, value in (
        ("symbol", table.symbol or "UNNAMED"),
        ("asset_class", None),
        ("segment", None),
    ):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(value).alias(name))
    frame = fill_symbols(to_numbers(frame, table, notes), notes)

    empty = pl.all_horizontal(pl.col(PRICES).is_null())
    notes.add_counts("info", "empty_row", frame.filter(empty), "Rows without any price are left out.")
    frame = frame.filter(~empty)
    if frame.is_empty():
        advice = "Give a file with bars."
        raise BarsFileError("no row has a price.", file=table.file, line=table.first_line, advice=advice)
    if scale is None and table.lean and bool(frame.select((pl.col(PRICES) % 1 == 0).all()).row(0) == (True,) * 4):
        scale = 1e-4
        notes.add_counts("info", "scaled", frame, "Whole-number prices of this format are ten-thousandths.")
    if scale is not None:
        frame = frame.with_columns(pl.col(*PRICES, "adjusted_close") * scale)
    are_bars = set(table.frame.columns) >= set(COLUMNS)
    frame = read_times(frame, timezone, stamp, date_format, are_bars, notes)
    further = [name for name in frame.columns if name not in SPELLINGS and not name.startswith("_")]
    return frame.select(
        *("_table", "_line", "symbol", "asset_class", "_day", "time", "_stamp"),
        *(*PRICES, "adjusted_close", "volume", "known_at", pl.col("segment").cast(pl.Int32, strict=False)),
        *further,
    )


def _choose_symbols(rows: pl.DataFrame, wanted: Sequence[str] | None) -> pl.DataFrame:
    if wanted is None:
        return rows
    have = rows["symbol"].unique().to_list()
    for symbol in wanted:
        if symbol not in have:
            raise BarsError(f"the source has no bars of {symbol!r}. {did_you_mean(symbol, have)}")
    return rows.filter(pl.col("symbol").is_in(wanted))


def _read_classes(symbols_file: str | Path | None) -> dict[str, AssetClass]:
    """The class of each symbol that the file lists, with the symbol's own close where it says one."""
    if symbols_file is None:
        return {}
    path = Path(symbols_file)
    if not path.is_file():
        raise BarsFileError("there is no such symbols file.", file=path, advice="Check the path.")
    table = read_tables(path)[0]
    names = {snake(name): name for name in reversed(table.frame.columns)}
    kind = names.get("asset_class", names.get("class", ""))
    if "symbol" not in names or not kind:
        found = ", ".join(table.frame.columns)
        advice = "It needs the columns symbol and asset_class."
        raise BarsFileError(f"no symbols file; found: {found}.", file=path, line=1, advice=advice)
    close = pl.col(names["close"]) if "close" in names else pl.lit(None, pl.String)
    rows = table.frame.select(pl.col(names["symbol"]), pl.col(kind), close.alias("own_close"))
    classes: dict[str, AssetClass] = {}
    for line, (symbol, name, own_close) in enumerate(rows.iter_rows(), table.first_line):
        if symbol is None:
            continue
        if name not in ASSET_CLASSES:
            raise BarsFileError(
                "the asset class is unknown.", file=path, line=line, column=kind, value=name,
                advice=did_you_mean(str(name), ASSET_CLASSES),
            )  # fmt: skip
        known = _with_close(ASSET_CLASSES[name], own_close, path, line)
        if classes.setdefault(symbol, known) != known:
            raise BarsFileError(
                f"{symbol!r} has another class or close in a line before.", file=path, line=line, column=kind,
                value=name, advice="Keep one of the lines.",
            )  # fmt: skip
    return classes


def _with_close(known: AssetClass, close: str | None, path: Path, line: int) -> AssetClass:
    if close is None:
        return known
    try:
        clock, zone = close.split()
        hour, minute = (int(part) for part in clock.split(":"))
        return replace(known, close_time=time(hour % 24, minute), timezone=ZoneInfo(zone).key)
    except (KeyError, ValueError, OSError):
        advice = "Write it like 17:30 Europe/Berlin."
        raise BarsFileError("not a close.", file=path, line=line, column="close", value=close, advice=advice) from None


def _classify(
    rows: pl.DataFrame, classes: dict[str, AssetClass], default: str, end: str | date | None, notes: Notes
) -> pl.DataFrame:
    """Adds the class (symbols file, own column, default) and `session_close`, when the row's day ends.

    Currencies, metals and futures that have bars dated Sunday have days that end at midnight UTC: a day that
    ends at 17:00 in New York has none.
    """
    listed = {symbol: known.name for symbol, known in classes.items()}
    in_file = pl.col("symbol").replace_strict(listed, default=None, return_dtype=pl.String)
    rows = rows.with_columns(pl.coalesce(in_file, "asset_class", pl.lit(default)).alias("asset_class"))
    for name in rows["asset_class"].unique():
        class_named(name)
    if classes:
        unlisted = rows.filter(~pl.col("symbol").is_in(list(classes)))
        advice = "The symbols file does not list the symbol: the default class or its own column was taken."
        notes.add_counts("warning", "not_listed", unlisted.drop("time"), advice)
    own = {symbol: known for symbol, known in classes.items() if known != ASSET_CLASSES[known.name]}
    close = pl.lit(None, UTC_TIME)
    for column, sessions in (("asset_class", ASSET_CLASSES), ("symbol", own)):
        for name in rows[column].unique():
            if name in sessions:
                close = pl.when(pl.col(column) == name).then(sessions[name].close_of(pl.col("_day"))).otherwise(close)
    sunday = (pl.col("_day").dt.weekday() == 7).fill_null(False)
    if end is not None:  # what comes later has no say in when earlier days ended
        sunday &= (pl.col("_day") <= _as_date(end, "end")).fill_null(False)
    to_midnight = sunday.any().over("symbol") & pl.col("asset_class").is_in(["fx", "metal", "future", "commodity"])
    advice = "Bars dated Sunday: days end at 00:00 UTC, not 17:00 New York; resample='1d' joins Sunday to Monday."
    notes.add_counts("warning", "sunday", rows.filter(to_midnight & sunday).drop("time"), advice)
    midnight = ASSET_CLASSES["crypto"].close_of(pl.col("_day"))
    return rows.with_columns(pl.when(to_midnight).then(midnight).otherwise(close).alias("_session_close"))


def _cut(
    rows: pl.DataFrame,
    start: str | date | None,
    end: str | date | None,
    as_of: str | date | None,
    now: datetime | None,
    notes: Notes,
) -> pl.DataFrame:
    """The sessions from start to end, as known at as_of, without bars that have not closed yet."""
    closed = pl.col("time") <= (now or datetime.now(UTC))
    unfinished = rows.filter(~closed)
    if unfinished.height > max(BAD_SHARE * rows.height, BAD_MIN):
        row = unfinished.row(0, named=True)
        problem = f"{unfinished.height} of {rows.height} bars close in the future."
        notes.refuse(row, problem, "Correct the dates or the clock, or say now=.", "time", str(row["time"]))
    notes.add_counts("warning", "unfinished", unfinished, "Bars that have not closed yet are left out.")
    session = session_date(pl.col("time"))
    kept = rows.filter(
        closed,
        pl.lit(True) if start is None else session >= _as_date(start, "start"),
        pl.lit(True) if end is None else session <= _as_date(end, "end"),
        pl.lit(True) if as_of is None else pl.col("known_at") <= _as_moment(as_of),
    )
    if kept.is_empty():
        first, last = rows["time"].min(), rows["time"].max()
        cut = ", ".join(f"{k}={v}" for k, v in (("start", start), ("end", end), ("as_of", as_of)) if v is not None)
        raise BarsError(f"no bars are left with {cut or 'the present clock'}; the source has {first!s} to {last!s}.")
    return kept


def _as_date(value: str | date, name: str) -> date:
    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise BarsError(f"{name} must be a date such as 2018-12-31, got {value!r}.") from None
    return given.date() if isinstance(given, datetime) else given


def _as_moment(value: str | date) -> datetime:
    """A moment in UTC; a date means its end."""
    try:
        given = value
        if isinstance(value, str):
            given = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        if not isinstance(given, datetime) and isinstance(given, date):
            return datetime.combine(given, time(), UTC) + timedelta(days=1)
        if isinstance(given, datetime) and given.tzinfo is not None:
            return given
    except ValueError:
        pass
    raise BarsError(f"as_of must be a date or a time with its offset (2018-12-31T21:00:00+00:00), got {str(value)!r}.")
