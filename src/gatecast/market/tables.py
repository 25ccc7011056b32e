"""Files as raw tables: CSV text and Parquet, within limits, with the place of every row.

A table is not bars yet: its columns have the names and the text that the file has, and its rows their
lines, so that whoever finds a fault can say where it is.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

import polars as pl

from gatecast import files, formats
from gatecast.errors import BarsFileError, SettingsError, shown
from gatecast.market.bars import PRICES, Finding, Severity
from gatecast.market.spellings import SPELLINGS, snake

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES = 2**30
MAX_LINE_BYTES = 2**20
MAX_COLUMNS = 1000
MAX_ROWS = 100_000_000
MORE_BYTES = "GATECAST_MAX_BYTES"  # the environment's variable that sets another limit
CELL_BYTES = 8  # at least; so many cells are read as these fill the bytes
MAX_TEXT_BYTES = 1000  # of a cell of a Parquet file
MAX_ENTRIES = 200_000  # of a folder that is searched for files
MAX_PAGES = 200_000  # of a Parquet file, of all its columns
LEAST_DECODED_BYTES = 2**26  # up to which a packed file may grow however small it is
MOST_PACKED = 100  # times by which a larger one may grow: bars are packed to a third or a tenth
SUFFIXES = (".csv", ".csv.gz", ".txt", ".tsv", ".parquet", ".pq")

LEAN_TRADES = ("date", "open", "high", "low", "close", "volume")
OFFSET = r"[+-]\d{2}:?\d{2}"  # a time zone that is a fixed distance from UTC, such as +05:30
LEAN_QUOTES = ("date", *(f"{side}_{part}" for side in ("bid", "ask") for part in (*LEAN_TRADES[1:5], "size")))


@dataclass(frozen=True)
class Table:
    """Raw columns; `file` is None for a frame in memory, `first_line` the 1-based line (or row) of row 0.

    `symbol` is the name to use where no column has one. `lean` says that the file is in LEAN's headerless
    format, `decimal_comma` that commas may be decimal points (another sign separates the columns). `rows` counts the
    frame's rows in the file from 0, where not all were read.
    """

    frame: pl.DataFrame
    file: str | None
    first_line: int
    symbol: str | None = None
    lean: bool = False
    decimal_comma: bool = False
    rows: pl.Series | None = None


@dataclass(frozen=True)
class Wish:
    """What of a Parquet file is wanted: rows where `rows` holds (None: all), and of those these `columns`.

    `symbol` is the column that `rows` chooses symbols by, if it does.
    """

    columns: list[str]
    rows: pl.Expr | None = None
    symbol: str | None = None


Choose = Callable[[Mapping[str, pl.DataType], str], Wish | None]
"""From columns and types of a Parquet file (those of its folders among them) and the symbol its name stands for to what
is wanted of it; None: nothing."""


@dataclass(frozen=True)
class Notes:
    """What is to be told about rows, which carry `table` and `line`: refusals raised, findings collected."""

    files: tuple[str | None, ...]
    findings: list[Finding] = field(default_factory=list)

    def refuse(
        self, row: Mapping[str, Any], problem: str, advice: str, column: str = "", value: object = None
    ) -> NoReturn:
        """Raise a BarsFileError with the row's place."""
        file = self.files[row["_table"]]
        raise BarsFileError(problem, file=file, line=row["_line"], column=column or None, value=value, advice=advice)

    def add(self, severity: Severity, rule: str, row: Mapping[str, Any], value: object, advice: str) -> None:
        """Collect a finding with the row's place."""
        file, time = self.files[row["_table"]], row.get("time")
        time = time if isinstance(time, datetime) else None  # a file's own text is no close yet
        self.findings.append(Finding(severity, row["symbol"], time, rule, value, advice, file, row["_line"]))

    def add_counts(self, severity: Severity, rule: str, rows: pl.DataFrame, advice: str) -> None:
        """Collect one finding per symbol: its first row's place, and how many rows it has."""
        for _, own in rows.group_by("symbol", maintain_order=True):
            self.add(severity, rule, own.row(0, named=True), own.height, advice)


def is_file(path: str | Path) -> bool:
    """Whether a path names a file; False also for what no file can be called (too long, a zero byte in it).

    >>> is_file("a" * 5000)
    False
    """
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def find_files(source: str | Path) -> list[Path]:
    """The data files that a path, a folder (searched to the bottom) or a glob names, sorted."""
    path = Path(source)
    if is_file(path):
        return [path]
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError):
        is_folder = False
    if is_folder:
        found = [
            inner
            for inner in _entries(path.rglob("*"), source)
            if files.is_regular(inner)
            and inner.name.lower().endswith(SUFFIXES)
            and not any(part.startswith((".", "_")) for part in inner.relative_to(path).parts)
        ]
        advice = f"Put files ending in {', '.join(SUFFIXES)} there."
    elif any(sign in str(source) for sign in "*?["):
        root = Path(path.anchor) if path.anchor else Path()
        try:
            found = [one for one in _entries(root.glob(str(path.relative_to(root))), source) if files.is_regular(one)]
        except (OSError, ValueError, NotImplementedError) as error:
            raise BarsFileError(f"no pattern of files ({error}).", file=shown_path(source), advice=_CHECK) from None
        advice = "Nothing matches the pattern."
    elif os.path.exists(path):  # False, too, for what no file can be called
        what = "this is a device, a pipe or a socket: a regular file was expected."
        raise BarsFileError(what, file=shown_path(source), advice="Write its content to a file.")
    else:
        raise BarsFileError("there is no such file or folder.", file=shown_path(source), advice=_CHECK)
    if not found:
        raise BarsFileError("no data files found.", file=source, advice=advice)
    return sorted(found)


_CHECK = "Check the path."


def _entries(found: Iterator[Path], source: str | Path) -> Iterator[Path]:
    """The entries of a folder; raises BarsFileError beyond `MAX_ENTRIES`."""
    for count, inner in enumerate(found):
        if count >= MAX_ENTRIES:
            problem = f"more than {MAX_ENTRIES:,} files and folders: this is no folder of bars."
            raise BarsFileError(problem, file=shown_path(source), advice="Name a folder below it, or the files.")
        yield inner


def shown_path(path: str | Path) -> str | Path:
    """A path as an error shows it: of a long one the beginning.

    >>> shown_path("bars.csv")
    'bars.csv'
    """
    text = str(path)
    return path if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"


def read_tables(
    path: Path, header: Sequence[str] | None = None, choose: Choose | None = None, holds: str = "bars"
) -> list[Table]:
    """The tables of one file: one, or one per ticker where a downloader wrote several side by side.

    `header` names the columns of a file that has no header line. `holds` says in words what the rows are. Folders of
    the form `symbol=AAPL` above the file become columns. Of a Parquet file only what `choose` wants is read: no table
    where that is nothing. Raises BarsFileError beyond the limits and for what is not a table.
    """
    with suppress(OSError):  # which reading says
        _within(path, "bytes", path.stat().st_size, most_bytes())
    folders = {
        key: unquote(value) for key, _, value in (part.partition("=") for part in path.parts[:-1])
        if value and re.fullmatch(r"\w+", key)
    }  # fmt: skip
    if path.name.lower().endswith((".parquet", ".pq")):
        for key, value in folders.items():
            if choose and key.lower() in ("symbol", "ticker") and choose({}, value) is None:
                return []  # not even opened
        return _read_parquet(path, folders, choose)
    tables = _read_text(path, header, holds)
    return [replace(one, frame=_with_folders(one.frame.lazy(), folders).collect()) for one in tables]


def _with_folders(frame: pl.LazyFrame, folders: Mapping[str, str]) -> pl.LazyFrame:
    have = {name.lower() for name in frame.collect_schema()}
    return frame.with_columns(pl.lit(value).alias(key) for key, value in folders.items() if key.lower() not in have)


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def _read_parquet(path: Path, folders: Mapping[str, str], choose: Choose | None) -> list[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        _refuse_swollen(path)
        with files.opened(path, at_most=most_bytes()) as file, pq.ParquetFile(file) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            rows, columns = metadata.num_rows, metadata.num_columns
    except BarsFileError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        wide = _wide_column(path) if isinstance(error, pa.ArrowNotImplementedError) else None
        raise BarsFileError(f"not a readable Parquet file ({error}).", file=path, column=wide, advice=_ANEW) from None
    refuse_twice(schema.names, path)
    _within(path, "uncompressed bytes", max(sum(sizes), rows * columns), most_bytes())
    _within(path, "rows", rows, MAX_ROWS)
    _within(path, "columns", columns, MAX_COLUMNS)
    _within(path, "cells", rows * columns, _most_cells(path))
    for column in schema:
        kind = column.type
        strange = isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_binary(kind)
        if strange or pa.types.is_nested(kind) or pa.types.is_decimal256(kind):
            raise BarsFileError(
                "only plain text, number and time columns are read.",
                file=path,
                column=column.name,
                value=str(column.type),
                advice="Write the file without that column.",
            )
    zoned = [column.name for column in schema if not _zone_is_known(column.type)]
    try:
        if zoned:  # Polars has no such zone: the offset goes into the text
            texts = [column.name for column in schema if pa.types.is_string(column.type)]
            with (
                files.opened(path, at_most=most_bytes()) as file,
                pq.ParquetFile(file, read_dictionary=texts) as opened,  # a long text is there once
            ):
                table = _without_dictionaries(opened.read(), path)
            lazy = _with_folders(from_arrow(table, path).lazy(), folders)
        else:
            lazy = _with_folders(pl.scan_parquet(path, hive_partitioning=False), folders)
        if choose is None:
            return [Table(_with_short_texts(lazy.collect(), path), str(path), 1, _stem(path))]
        wish = choose(lazy.collect_schema(), _stem(path))
        if wish is None:
            return []
        at = "_row"  # tells a row's place after others were left out
        chosen = lazy.with_row_index(at).select(at, *wish.columns)
        frame = chosen.collect() if wish.rows is None else chosen.filter(wish.rows).collect()
        if wish.symbol and frame[wish.symbol].null_count():  # an empty cell may be filled if the file has one symbol
            frame = chosen.collect()
        frame = _with_short_texts(frame, path)
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        formats.refuse_environment(str(error))
        problem = f"not a readable Parquet file ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        raise BarsFileError(problem, file=path, advice=_ANEW) from None
    return [Table(frame.drop(at), str(path), 1, _stem(path), rows=frame[at].cast(pl.Int64))] if len(frame) else []


_ANEW = "Write it anew, with columns of text, of dates and times, and of numbers of at most 64 bits."


def _wide_column(path: Path) -> str | None:
    """The first column of a Parquet file whose integers have more than 64 bits, which Arrow opens no file with."""
    try:
        kinds = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None
    return next((name for name, kind in kinds.items() if kind in (pl.Int128, pl.UInt128)), None)


def _most_cells(path: Path) -> int:
    """Cells that a file may have, by its size."""
    return min(most_bytes() // CELL_BYTES, _may_grow_to(path.stat().st_size) // CELL_BYTES)


def _may_grow_to(size: int) -> int:
    """Bytes that a file of a size may have unpacked."""
    return max(LEAST_DECODED_BYTES, MOST_PACKED * size)


def _refuse_swollen(path: Path) -> None:
    """Raises BarsFileError where the pages of a Parquet file unpack to more than `_may_grow_to` bytes.

    The footer is whatever a writer put there; what a reader makes room for is the size in each page's own head. Nothing
    is read twice: columns that share bytes of the file are refused, and more than `MAX_PAGES` pages.
    """
    import pyarrow.parquet as pq

    with files.opened(path, at_most=most_bytes()) as file:
        size = os.fstat(file.fileno()).st_size
        metadata = pq.read_metadata(file)
        _within(path, "columns", metadata.num_columns, MAX_COLUMNS)
        _within(path, "parts of columns", metadata.num_row_groups * metadata.num_columns, MAX_PAGES)
        total = pages = heads = reached = 0
        for at, end in sorted(_chunks(metadata)):
            if at < reached:
                raise BarsFileError("columns of it share the same bytes.", file=path, advice="Write the file anew.")
            reached = max(end, at)
            while at < min(end, size):
                file.seek(at)
                unpacked, packed, length = page_sizes(file.read(MAX_HEAD_BYTES))
                total, pages, heads = total + unpacked, pages + 1, heads + length
                _within(path, "unpacked bytes", total, min(most_bytes(), _may_grow_to(size)))
                _within(path, "pages", pages, MAX_PAGES)
                _within(path, "bytes of heads of pages", heads, size)
                at += length + packed


def _chunks(metadata: Any) -> Iterator[tuple[int, int]]:
    """Where each column of each group of rows begins in a Parquet file and where it ends, both from 0 on."""
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for number in range(metadata.num_columns):
            chunk = columns.column(number)
            first = chunk.dictionary_page_offset
            data = chunk.data_page_offset  # 0 of a column without a row, as Arrow writes it
            at = data if first is None else min(first, data or first)
            if at >= 0:
                yield at, at + chunk.total_compressed_size


MAX_HEAD_BYTES = 2**16
"""Bytes of the head of a page, its statistics among them."""


def page_sizes(head: bytes) -> tuple[int, int, int]:
    """Unpacked and packed bytes of a Parquet page, and the bytes of its head, from the head (Thrift, compact).

    Raises `ValueError` for what is no head of a page.

    >>> page_sizes(bytes([0x15, 0, 0x15, 20, 0x15, 8, 0]))
    (10, 4, 7)
    """
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = head[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def skip(kind: int) -> None:
        nonlocal at
        match kind:
            case 1 | 2:  # a field that is true or false has no bytes
                pass
            case 3:
                at += 1
            case 4 | 5 | 6:
                number()
            case 7:
                at += 8
            case 8:
                length = number()  # it moves `at`, too
                at += length
            case 12:
                for inner in fields():
                    skip(inner[1])
            case _:
                raise ValueError("a field that no page has")

    def fields() -> Iterator[tuple[int, int]]:
        nonlocal at
        name = 0
        while byte := head[at]:
            at += 1
            step = byte >> 4
            if step:
                name += step
            else:
                coded = number()
                name = coded >> 1 ^ -(coded & 1)
            yield name, byte & 15
        at += 1

    sizes = {}
    try:
        for name, kind in fields():
            if name in (2, 3) and kind == 5:
                coded = number()
                sizes[name] = coded >> 1 ^ -(coded & 1)
            else:
                skip(kind)
    except (IndexError, RecursionError):
        raise ValueError("the head of a page is cut short") from None
    if set(sizes) != {2, 3} or min(sizes.values()) < 0:
        raise ValueError("the head of a page has no sizes")
    return sizes[2], sizes[3], at


def _without_dictionaries(table: pa.Table, path: Path) -> pa.Table:
    """Columns of text that were read as dictionaries as plain text; see `_with_short_texts` for what is refused."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for position, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type) and not pa.types.is_nested(column.type.value_type):
            values = table.column(position)
            lengths = [pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in values.chunks]
            _refuse_long(path, column.name, max(lengths, default=0))
            for chunk in values.chunks:
                total += pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
            _within(path, "bytes of text", total, min(most_bytes(), _may_grow_to(path.stat().st_size)))
            table = table.set_column(position, column.name, values.cast(column.type.value_type))
    return table


def _with_short_texts(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The frame of a file, its texts as such; raises BarsFileError for one longer than `MAX_TEXT_BYTES`, and for too
    much text in all.

    A text that many rows share is there once in a file and in the frame, and once a row in what is made of it.
    """
    for name, kind in frame.schema.items():
        if kind in (pl.String, pl.Categorical, pl.Enum):
            texts = frame[name] if kind == pl.String else frame[name].unique().cast(pl.String)
            longest: Any = texts.str.len_bytes().max()
            _refuse_long(path, name, longest or 0)
    total = formats.text_bytes(frame)
    _within(path, "bytes of text", total, min(most_bytes(), _may_grow_to(path.stat().st_size)))
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _refuse_long(path: Path, column: str, longest: int) -> None:
    if longest > MAX_TEXT_BYTES:
        problem = f"a text of {longest:,} bytes; at most {MAX_TEXT_BYTES:,} are read."
        raise BarsFileError(problem, file=path, column=column, advice="Write the file without that column.")


def _zone_is_known(kind: pa.DataType) -> bool:
    """Whether Polars has the time zone of an Arrow type; types without a zone need none."""
    zone = getattr(kind, "tz", None)
    return zone is None or zone_is_known(zone)


def zone_is_known(zone: str) -> bool:
    """Whether Polars has a time zone of that name. A fixed offset such as +05:30 is no name.

    >>> zone_is_known("Asia/Kolkata"), zone_is_known("+05:30")
    (True, False)
    """
    if re.fullmatch(OFFSET, zone):
        return False
    try:
        pl.select(pl.lit(0).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone))
    except pl.exceptions.PolarsError:
        return False
    return True


def from_arrow(table: pa.Table, file: str | Path | None = None) -> pl.DataFrame:
    """An Arrow table as a Polars frame; times with a fixed offset become text that ends with it.

    Raises BarsFileError for a column that is there twice, and for a time zone that nobody knows; Arrow's own
    error for cells that are not what their type says, such as text that is no UTF-8.

    >>> import pyarrow as pa
    >>> from_arrow(pa.table({"at": pa.array([0], pa.timestamp("s", "+05:30"))})).item()
    '1970-01-01 05:30:00.000000+05:30'
    """
    import pyarrow as pa

    refuse_twice(table.column_names, file)
    table.validate(full=True)  # text that is no UTF-8 ends Polars later, not here
    for position, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(position, column.name, _within_years(table.column(position)))
    texts = {}
    for position, column in enumerate(table.schema):
        if _zone_is_known(column.type):
            continue
        zone = column.type.tz
        if not re.fullmatch(OFFSET, zone):
            raise BarsFileError(
                "the time zone is unknown.", file=file, column=column.name, value=zone,
                advice="Write the times in UTC, or in a zone such as America/New_York.",
            )  # fmt: skip
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        ahead = pl.duration(minutes=(60 * hours + minutes) * (-1 if zone[0] == "-" else 1))
        moments = pl.Series(column.name, table.column(position).cast(pa.timestamp("us", "UTC"), safe=False))
        wall = pl.col(column.name).dt.replace_time_zone(None) + ahead
        texts[column.name] = moments.to_frame().select(wall.dt.strftime("%Y-%m-%d %H:%M:%S%.6f") + zone).to_series()
    plain = pl.DataFrame(pl.from_arrow(table.drop_columns(list(texts))))
    return plain.with_columns(**texts).select(table.column_names)


def _within_years(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of an Arrow column that Polars cannot hold or shift, as ones of the years 1 and 9999, which none takes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = moments.type
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    counts = moments.cast(pa.int64())
    for limit, clip in ((-62_130_000_000, pc.max_element_wise), (253_400_000_000, pc.min_element_wise)):
        if abs(limit) * per_second < 2**63:
            counts = clip(counts, pa.scalar(limit * per_second, pa.int64()), skip_nulls=False)
    return counts.cast(kind)


def refuse_twice(names: Sequence[object], file: str | Path | None = None, line: int | None = None) -> None:
    """Raises BarsFileError where two columns have the same name."""
    have = list(names)
    twice = next((name for name, count in Counter(have).items() if count > 1), None)
    if twice is not None:
        shown = ", ".join(map(str, twice)) if isinstance(twice, tuple) else str(twice)
        raise BarsFileError(
            "the column is there twice.", file=file, line=line, column=shown, advice="Rename or drop one of them."
        )


def _within(path: Path, what: str, have: int, limit: int) -> None:
    if have > limit:
        raise BarsFileError(f"{have:,} {what}; at most {limit:,} are read.", file=path, advice=_smaller(limit))


def _smaller(limit: int) -> str:
    """What to do about a file beyond a limit."""
    if limit not in (most_bytes(), most_bytes() // CELL_BYTES):
        return "Split the file."
    return f"Split the file, or, if it is your own, set {MORE_BYTES} to more than {most_bytes():,}."


def most_bytes() -> int:
    """Bytes of a file that are read, packed and unpacked: a gibibyte, or the number in the variable GATECAST_MAX_BYTES.

    What a small file may grow to stays limited. Raises `SettingsError` where the variable is no such number.
    """
    text = os.environ.get(MORE_BYTES)
    if not text:
        return MAX_BYTES
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        raise SettingsError(f"{MORE_BYTES} = {shown(text)}: expected a whole number of bytes, such as {4 * MAX_BYTES}.")
    return int(text)


def _read_text(path: Path, header: Sequence[str] | None, holds: str) -> Iterator[Table]:
    data = decoded(path)
    lines = _first_lines(path, data, 64)
    skipped = 0
    while skipped < len(lines) and (not lines[skipped].strip(" ,;\t") or lines[skipped].startswith(("#", "sep="))):
        skipped += 1
    if skipped == len(lines):
        raise BarsFileError("the file is empty.", file=path, line=1, advice=f"Give a file with {holds}.")
    separator = max(",;\t|", key=lambda sign: (lines[skipped].count(sign), sign == ","))
    head = [_cells(line, separator) for line in lines[skipped : skipped + 3]]
    first = head[0]
    _within(path, "columns", len(first), MAX_COLUMNS)

    two = _two_headers(head)
    if two is not None:
        yield from _read_side_by_side(path, data, skipped, separator, *two, holds)
        return
    lean = False
    headless = any(_is_number(cell) for cell in first)
    if headless and header is None:
        lean = re.fullmatch(r"\d{8} \d\d:\d\d", first[0]) is not None
        known = {len(names): names for names in (LEAN_TRADES, LEAN_QUOTES)} if lean else {}
        if len(first) not in known:
            raise BarsFileError(
                "the file has no header line.",
                file=path,
                line=skipped + 1,
                value=lines[skipped][:80],
                advice=f"Name its {len(first)} columns with header=[...], for example"
                " header=['date', 'open', 'high', 'low', 'close', 'volume'].",
            )
        header = known[len(first)]
    names = list(header) if headless and header is not None else first
    if len(names) != len(first):
        raise BarsFileError(
            f"header= names {len(names)} columns, the file has {len(first)}.", file=path, line=skipped + 1
        )
    names = [name or f"unnamed_{position}" for position, name in enumerate(names)]
    refuse_twice(names, path, skipped + 1)
    start = skipped if headless else skipped + 1
    frame = _body(path, data, start, separator, names, holds)
    yield Table(frame, str(path), start + 1, _stem(path), lean, decimal_comma=separator != ",")


def _two_headers(head: list[list[str]]) -> tuple[list[str], list[str], int] | None:
    """Fields, tickers and the number of header lines, where two lines name each column together; else None.

    The line of fields has names for open, high, low and close; the other one tickers, of which no cell in front is a
    date. A third line may name the index, as pandas writes it. The first field is the column of times.
    """
    if len(head) < 2 or len(head[0]) != len(head[1]):
        return None
    price_names = [set(SPELLINGS[price]) for price in PRICES]
    scores = [sum(any(snake(cell) in names for cell in line[1:]) for names in price_names) for line in head[:2]]
    fields, tickers = (head[0], head[1]) if scores[0] >= scores[1] else (head[1], head[0])
    if max(scores) < len(PRICES) or not any(tickers[1:]) or re.search(r"\d", tickers[0]):
        return None
    index = head[2] if len(head) == 3 and re.fullmatch(r"\D+", head[2][0]) and not any(head[2][1:]) else None
    named = snake(tickers[0]) in ("tickers", *SPELLINGS["symbol"])
    below = tickers is head[1]  # where a row of bars stands in other files
    if below and index is None and not named and (tickers[0] or any(_is_number(cell) for cell in tickers[1:] if cell)):
        return None
    at = next((line[0] for line in (fields, tickers) if snake(line[0]) in SPELLINGS["time"]), "Date")
    filled = list(tickers)
    for position in range(2, len(filled)):  # a merged cell is empty but for its first column
        filled[position] = filled[position] or filled[position - 1]
    return [index[0] if index else at, *fields[1:]], filled, 3 if index else 2


def _read_side_by_side(
    path: Path,
    data: bytes,
    skipped: int,
    separator: str,
    fields: list[str],
    tickers: list[str],
    lines: int,
    holds: str,
) -> Iterator[Table]:
    """The columns under header lines of fields and tickers: one table per ticker."""
    refuse_twice(list(zip(fields, tickers, strict=True)), path, skipped + 1)
    time_name = fields[0]
    names = [time_name, *(str(n) for n in range(1, len(fields)))]
    frame = _body(path, data, skipped + lines, separator, names, holds)
    for ticker in dict.fromkeys(tickers[1:]):
        own = {str(n): fields[n] for n in range(1, len(fields)) if tickers[n] == ticker}
        yield Table(frame.select(time_name, *own).rename(own), str(path), skipped + lines + 1, ticker)


def decoded(path: Path) -> bytes:
    """The text of a CSV file (UTF-8 or UTF-16) as UTF-8 without byte-order mark, lines ended by newlines.

    Raises `BarsFileError` for a file that cannot be read, or is no text.
    """
    limit = most_bytes()
    try:
        if path.name.lower().endswith(".gz"):
            limit = min(limit, _may_grow_to(path.stat().st_size))
            with files.opened(path, at_most=most_bytes()) as file, gzip.GzipFile(fileobj=file) as packed:
                data = files.read_at_most(packed, limit)
        else:
            data = files.read(path, at_most=most_bytes())
    except (OSError, EOFError, zlib.error) as error:
        advice = _smaller(limit) if str(error).endswith(("bytes", "are read")) else ""
        raise BarsFileError(f"cannot be read ({error}).", file=path, advice=advice) from None
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            data = data.decode("utf-16").encode()
        data = data.removeprefix(b"\xef\xbb\xbf")
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BarsFileError(
            "the text is not UTF-8 or UTF-16.",
            file=path,
            line=line,
            value=data[error.start : error.start + 8],
            advice="Save the file as UTF-8.",
        ) from None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise BarsFileError(
            "a zero byte: this is not CSV text.",
            file=path,
            line=line,
            advice="Save the file as UTF-8 CSV or Parquet.",
        )
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _first_lines(path: Path, data: bytes, count: int) -> list[str]:
    lines: list[str] = []
    at = 0
    while at < len(data) and len(lines) < count:
        end = data.find(b"\n", at, at + MAX_LINE_BYTES)
        if end < 0:
            if len(data) - at > MAX_LINE_BYTES:
                raise BarsFileError(
                    f"the line is longer than {MAX_LINE_BYTES:,} bytes.",
                    file=path,
                    line=len(lines) + 1,
                    advice="This is not a CSV of bars.",
                )
            end = len(data)
        lines.append(data[at:end].decode())
        at = end + 1
    return lines


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [""])]
    except csv.Error:  # a cell beyond the reader's own limit
        return [line.strip()]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d[\d.,]*(e[+-]?\d+)?", cell.strip().lower()) is not None


def _readable(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows up to the first that the reader of the standard library refuses."""
    with suppress(csv.Error):
        yield from rows


def _body(path: Path, data: bytes, skip: int, separator: str, names: list[str], holds: str) -> pl.DataFrame:
    """All rows after `skip` lines as text; blank lines are rows of nulls, so rows count lines."""
    lines = data.count(b"\n") + 1
    _within(path, "rows", lines, MAX_ROWS)
    _within(path, "cells", lines * len(names), min(_most_cells(path), len(data) + 2**22))  # a cell has a separator
    try:
        return pl.read_csv(
            data,
            has_header=False,
            skip_lines=skip,
            schema=dict.fromkeys(names, pl.String),
            separator=separator,
            infer_schema=False,
            missing_columns="insert",  # where every row is cut off
        )
    except pl.exceptions.NoDataError:
        raise BarsFileError(
            "the file has a header and no rows.", file=path, line=skip, advice=f"Give a file with {holds}."
        ) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        formats.refuse_environment(str(error))
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.count(b'"') % 2:
                raise BarsFileError(
                    "a quote is opened and not closed.",
                    file=path,
                    line=number,
                    value=line.decode()[:80],
                    advice="Close it in its cell, or take it out.",
                ) from None
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
        for number, cells in enumerate(_readable(csv.reader(text, delimiter=separator)), start=1):
            if number > skip and len(cells) > len(names):
                raise BarsFileError(
                    f"the row has {len(cells)} cells, the header {len(names)}.",
                    file=path,
                    line=number,
                    value=separator.join(cells)[:80],
                    advice="Quote cells that hold the separator.",
                ) from None
        problem = f"not a CSV table ({str(error).splitlines()[0]})."
        raise BarsFileError(problem, file=path, advice="Write it anew as CSV, or as Parquet.") from None
