"""A source as tables, and a table as rows of bars: place, symbol, day or time, and numbers, as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.errors import BarsError, BarsFileError, did_you_mean
from gatecast.libraries import shipped_table
from gatecast.market.bars import COLUMNS, PRICES, UTC_TIME
from gatecast.market.columns import MARKS, fill_symbols, name_columns, to_numbers, without_nested
from gatecast.market.frames import read_frame
from gatecast.market.known import OWN, SUFFIX, parse_known
from gatecast.market.reading import BarsSettings
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import Choose, Notes, Table, Wish, find_files, read_tables
from gatecast.market.times import read_times, within_reach
from gatecast.market.vendors import vendor_of

Source = Any  # a path, paths, a folder, a glob, "embedded", "VENDOR:request", or a pandas or Polars frame
NEWEST_EMPTY = "newest_without_price"


def tables_of(
    source: Source, header: Sequence[str] | None, wanted: Sequence[str] | None, choose: Choose
) -> list[Table]:
    """The tables of a source, of each what `choose` asks for. Raises `BarsError` for what is no source."""
    if isinstance(source, list | tuple):
        if not source:
            raise BarsError("the list of sources is empty: give at least one file.")
        if any(isinstance(one, list | tuple) for one in source):
            raise BarsError("the list of sources has a list in it: give one list of files or frames.")
        single = wanted if len(source) == 1 else None
        return [table for one in source for table in tables_of(one, header, single, choose)]
    if isinstance(source, str) and source == "embedded":
        return _embedded()
    if isinstance(source, str | Path):
        files = find_files(source)
        if wanted is not None and len(wanted) == 1 and len(files) == 1:  # whatever the file is called
            choose = partial(_named, choose=choose, symbol=wanted[0])
        tables = [table for path in files for table in read_tables(path, header, choose)]
    else:
        tables = read_frame(source)
    if wanted is not None and len(wanted) == 1 and len(tables) == 1:
        return [replace(tables[0], symbol=wanted[0])]
    return tables


def _named(schema: Mapping[str, pl.DataType], _: str, *, choose: Choose, symbol: str) -> Wish | None:
    """What is wanted of a file that stands for a symbol of another name."""
    return choose(schema, symbol)


def _embedded() -> list[Table]:
    """Two indices that `arch` ships, day by day from 1999 to 2018."""
    tables = []
    for symbol in ("SP500", "NASDAQ"):
        own = symbol.lower()
        table = shipped_table("arch", "data", own, f"{own}.csv.gz").drop("Adj Close")
        day = pl.col("Date").str.to_datetime("%m/%d/%Y", time_unit="us")
        tables.append(Table(table.with_columns(day, asset_class=pl.lit("index")), None, 1, symbol))
    return tables


def rows_of(
    table: Table, number: int, settings: BarsSettings, known_at: Mapping[str, str], notes: Notes,
    lengths: Mapping[str, timedelta] | None,
) -> pl.DataFrame:  # fmt: skip
    """One table's rows with a price: their place, symbol, day or time with its stamp, and numbers."""
    frame, alone = name_columns(table)
    scale = settings.scale
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    if texts:
        stripped = pl.col(texts).str.strip_chars()
        frame = frame.with_columns(pl.when(stripped != "").then(stripped))
    blank = pl.all_horizontal(pl.all().is_null())
    line = (pl.int_range(pl.len()) if table.rows is None else pl.lit(table.rows)) + table.first_line
    frame = frame.with_columns(blank.alias("_blank"), line.alias("_line"), pl.lit(number).alias("_table"))
    frame = frame.filter(~pl.col("_blank")).drop("_blank")
    moments = {"time", "open_time", "close_time", "known_at", *(snake(name) for name in known_at.values())}
    moments |= {name for name in frame.columns if name.endswith(SUFFIX)}
    frame = within_reach(frame, moments, notes)
    for name, value in (
        ("symbol", table.symbol or "UNNAMED"),
        ("asset_class", None),
        ("segment", None),
    ):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(value).alias(name))
    frame = parse_known(frame, known_at, settings.timezone, settings.date_format, table.file, notes)
    timed = [name.removeprefix(OWN) for name in frame.columns if name.startswith(OWN)]
    frame = fill_symbols(without_nested(frame, notes), notes)
    frame = to_numbers(frame, table, notes, {*timed, *known_at, *(settings.columns or ())})

    empty = pl.all_horizontal(pl.col(PRICES).is_null())
    without = frame.filter(empty)
    if "delisting" in frame.columns:
        ends = frame.filter(empty & pl.col("delisting").is_not_null())
        if ends.height:
            problem, advice = "the row of a delisting has no price.", "Put it into the last row that has one."
            notes.refuse(ends.row(0, named=True), problem, advice, "delisting", ends["delisting"][0])
    notes.add_counts("info", "empty_row", without, "Rows without any price are left out.")
    frame = frame.filter(~empty)
    if alone:
        advice = (
            "No columns for open, high and low: all are the close. No range and no open is known: volatility is that of"
            " squared returns, and orders are filled at the next close. If other columns hold them, rename these."
        )
        notes.add_counts("warning", "closes_only", frame, advice)
    if frame.is_empty():
        advice = "Give a file with bars."
        raise BarsFileError("no row has a price.", file=table.file, line=table.first_line, advice=advice)
    if scale is None and table.lean and bool(frame.select((pl.col(PRICES) % 1 == 0).all()).row(0) == (True,) * 4):
        scale = 1e-4
        notes.add_counts("info", "scaled", frame, "Whole-number prices of this format are ten-thousandths.")
    if scale is not None:
        frame = frame.with_columns(pl.col(*PRICES, "adjusted_close") * scale)
    are_bars = set(table.frame.columns) >= set(COLUMNS)
    frame = read_times(frame, settings.timezone, settings.stamp, settings.date_format, are_bars, notes, lengths)
    _tell_newest_empty(without, frame, notes)
    further = [name for name in frame.columns if name not in SPELLINGS and not re.match("_(?!known:)", name)]
    further += [name for name in ("delisting", *MARKS) if name in frame.columns]
    frame = frame.with_columns(pl.col("asset_class").cast(pl.String))
    return frame.select(
        *("_table", "_line", "symbol", "asset_class", "_day", "time", "_stamp"),
        *(*PRICES, "adjusted_close", "volume", "known_at", pl.col("segment").cast(pl.Int32, strict=False)),
        *further,
    )


def _tell_newest_empty(empty: pl.DataFrame, rows: pl.DataFrame, notes: Notes) -> None:
    """A finding for each symbol whose newest rows, by their place in the table, have no price at all."""
    if empty.is_empty():
        return
    moment = pl.coalesce("time", pl.col("_day").cast(UTC_TIME))
    ends = rows.group_by("symbol").agg(
        first=pl.col("_line").min(), last=pl.col("_line").max(),
        forward=moment.sort_by("_line").first() <= moment.sort_by("_line").last(),
    )  # fmt: skip
    later = pl.when("forward").then(pl.col("_line") > pl.col("last")).otherwise(pl.col("_line") < pl.col("first"))
    newest = empty.join(ends, on="symbol", maintain_order="left").filter(later)
    advice = "The newest rows have no price: they are left out, and nothing is forecast from them. Fill them, or wait."
    notes.add_counts("warning", NEWEST_EMPTY, newest.drop("time", strict=False), advice)


def symbols_of(source: Source) -> list[str]:
    """The symbols that a column of the source names, sorted; nothing else is read of it, or interpreted.

    A vendor is not asked for all that it has: none.
    """
    if vendor_of(source):
        return []

    def only_symbols(schema: Mapping[str, pl.DataType], _: str) -> Wish | None:
        named = [name for name in schema if snake(name) in SPELLINGS["symbol"]]
        return Wish(named, None, None) if named else None

    found: set[str] = set()
    for table in tables_of(source, None, None, only_symbols):
        for name in table.frame.columns:
            if snake(name) in SPELLINGS["symbol"]:
                found |= set(table.frame[name].cast(pl.String).str.strip_chars().drop_nulls().unique())
                break
    return sorted(found - {""})


def join_files(rows: pl.DataFrame, tables: Sequence[Table], wanted: Sequence[str] | None, notes: Notes) -> pl.DataFrame:
    """Several files of one symbol, which none is named after and no column says, as that symbol's rows.

    They are files whose names are the symbol and a number or date (BTC-2024, BTC-2025), or the same name but for digits
    (2024-01, 2024-02), and that do not overlap in time.
    """
    if wanted is None or len(wanted) != 1 or len(tables) < 2 or wanted[0] in rows["symbol"].unique():
        return rows
    (symbol,) = wanted
    unnamed = [
        n for n, table in enumerate(tables)
        if table.file and table.symbol and not {snake(name) for name in table.frame.columns} & {*SPELLINGS["symbol"]}
    ]  # fmt: skip
    own = [n for n in unnamed if _is_part_of(str(tables[n].symbol), symbol)]
    letters = {re.sub(r"[\W\d_]+", "", str(tables[n].symbol)).lower() for n in unnamed}
    if not own and len(letters) == 1 and len(unnamed) == len(tables):
        own = unnamed
    if not own:
        return rows
    shown = pl.coalesce("time", pl.col("_day").cast(UTC_TIME))
    parts = rows.filter(pl.col("_table").is_in(own))
    spans = parts.group_by("_table").agg(shown.min().alias("first"), shown.max().alias("last")).sort("first")
    overlap = spans.filter(pl.col("first") <= pl.col("last").shift())
    if overlap.height:
        at = spans["_table"].to_list().index(overlap["_table"][0])
        one, other = (tables[spans["_table"][n]].file for n in (at - 1, at))
        raise BarsFileError(
            f"the file overlaps in time with {one}, so they are not read as one symbol {symbol!r}.", file=other,
            advice="Files without a symbol column are named by their stem: give each a column symbol, or cut one.",
        )  # fmt: skip
    joined = parts.with_columns(pl.lit(symbol).alias("symbol"))
    advice = f"{len(own)} files without a symbol column, which follow one another, are read as this symbol."
    notes.add("info", "joined_files", joined.drop("time").row(0, named=True), len(own), advice)
    return pl.concat([rows.filter(~pl.col("_table").is_in(own)), joined])


def _is_part_of(stem: str, symbol: str) -> bool:
    """Whether a file's stem is a symbol's name with a number, date or mark of its own before or after it.

    >>> [_is_part_of(stem, "BTC") for stem in ("BTC-2024", "2024_btc", "BTC2-2024", "BTCUSDT-1d-2024")]
    [True, True, False, False]
    """
    name = re.escape(symbol)
    return re.search(rf"^{name}([-_. ]|(19|20)\d\d)|[-_. ]{name}$", stem, re.IGNORECASE) is not None


def choose_symbols(rows: pl.DataFrame, wanted: Sequence[str] | None, by_stem: bool) -> pl.DataFrame:
    """The rows of the symbols that are wanted; `by_stem`: they may be named after files. Raises `BarsError`."""
    if wanted is None:
        return rows
    have = rows["symbol"].unique().to_list()
    for symbol in wanted:
        if symbol not in have:
            files = " A file without a symbol column stands for the symbol it is named after." if by_stem else ""
            table = " (a table of symbols and classes is given as symbols_file)" if Path(symbol).suffix else ""
            raise BarsError(f"the source has no bars of {symbol!r}{table}. {did_you_mean(symbol, have)}{files}")
    return rows.filter(pl.col("symbol").is_in(wanted))
