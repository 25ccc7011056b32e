"""Bytes of a file that anybody may have made -> JSON, arrays or a table, refused before they take up memory.

Each reader raises `ValueError` with what was expected and what came, in words that follow a file's name.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl

from gatecast.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from polars._typing import PolarsDataType

    Further = PolarsDataType | tuple[PolarsDataType, ...] | None
    """The type that further columns of a table have, or their types; None: there may be none."""

LARGEST_WHOLE_NUMBER = 2**53
"""Beyond it JSON readers disagree on what a number is."""
DEEPEST = 60
"""Tables and lists within each other."""
LONGEST_TEXT = 100_000
LONGEST_NUMBER = 40
"""Characters of a number as text."""
HEADER_BYTES = 4_000_000
MOST_ARRAYS = 20_000
MOST_DIMENSIONS = 4
KINDS = {
    "F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""Kinds of numbers that a file of arrays may hold, as safetensors calls them."""
PACKED = 250
"""Times that a table may be larger in memory than in its file; those of real runs are at most 10."""
SMALL_TABLE = 2**27
"""Bytes in memory that a table may always have."""
LONGEST_CELL = 1_000
"""Bytes of a text in a table."""
TEXT_BYTES = 16
"""What a text takes in memory beside its characters."""


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)


def json_of(content: bytes) -> Any:
    """JSON in UTF-8 -> its value. Raises `ValueError` for all that two readers could read in two ways.

    That is a name twice in a table, NaN and infinities, numbers too large for a float, whole numbers beyond 2^53,
    nesting deeper than 60 and texts longer than 100,000 characters.

    >>> json_of(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> json_of(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: it has 'a' twice in a table
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_table, parse_constant=lambda name: _refuse(f"it has {name}"),
            parse_int=_whole_number, parse_float=_number,
        )  # fmt: skip
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError(f"it is no JSON with at most {DEEPEST} tables within each other") from None
    _refuse_deep(value)
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {_short(twice)} twice in a table")
    return table


def _whole_number(text: str) -> int:
    if len(text) > LONGEST_NUMBER or abs(int(text)) > LARGEST_WHOLE_NUMBER:
        raise ValueError(f"it has the whole number {_short(text)}, beyond 2^53")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise ValueError(f"it has the number {_short(text)}, which no float holds")
    return value


def _refuse_deep(value: Any) -> None:
    """Raises `ValueError` for values within more than `DEEPEST` others, and for texts beyond `LONGEST_TEXT`."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"it is no JSON with at most {DEEPEST} tables within each other")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str) and len(one) > LONGEST_TEXT:
                raise ValueError(f"it has a text of {len(one):,} characters, expected at most {LONGEST_TEXT:,}")
            if isinstance(one, dict):
                inner += [*one.values(), *one]
            elif isinstance(one, list):
                inner += one
        level, depth = inner, depth + 1


def arrays_of(content: bytes) -> dict[str, NDArray[Any]]:
    """A file of arrays (safetensors) -> name -> array. Raises `ValueError` where its header does not fit the file.

    The header is checked before an array is made: its size, the number of arrays, their kinds and shapes, and that
    they fill the file without a gap. The arrays are read-only views of the content: years of forecasts are not copied.

    >>> from safetensors.numpy import save
    >>> arrays_of(save({"a": np.arange(3)}))["a"].tolist()
    [0, 1, 2]
    """
    first, entries = _header_of(content)
    return {
        name: np.frombuffer(
            content, KINDS[one["dtype"]], math.prod(one["shape"]), first + one["data_offsets"][0]
        ).reshape(one["shape"])
        for name, one in entries.items()
    }  # fmt: skip


def _header_of(content: bytes) -> tuple[int, dict[str, dict[str, Any]]]:
    """The byte at which the arrays of a file begin, and name -> kind, shape and place of each, which fit the file."""
    size = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 2 <= size <= min(HEADER_BYTES, len(content) - 8):
        raise ValueError(f"it is no file of arrays: {len(content):,} bytes, and a header of {max(size, 0):,}")
    header = json_of(content[8 : 8 + size])
    if not isinstance(header, dict) or len(header) > MOST_ARRAYS:
        raise ValueError(f"its header is no table of at most {MOST_ARRAYS:,} arrays")
    places, entries = [], {name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"its array {_short(name)} is not described by kind, shape and place")
        kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
        if (
            not isinstance(kind, str)
            or kind not in KINDS
            or not _are_sizes(shape)
            or len(shape) > MOST_DIMENSIONS
            or not _are_sizes(place, 2)
        ):
            raise ValueError(f"its array {_short(name)} is of no known kind, shape or place")
        begin, end = place
        if end - begin != math.prod(shape) * np.dtype(KINDS[kind]).itemsize:
            raise ValueError(f"its array {_short(name)} has {end - begin:,} bytes, which its shape does not ask for")
        places.append((begin, end))
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise ValueError(f"its arrays overlap or leave a gap at byte {reached:,}")
        reached = end
    if reached != len(content) - 8 - size:
        raise ValueError(f"its arrays have {reached:,} bytes, the file has {len(content) - 8 - size:,} of them")
    return 8 + size, entries


def _are_sizes(values: Any, count: int | None = None) -> bool:
    """Whether it is a list of whole numbers from 0 on, of `count` where that is given."""
    fits = isinstance(values, list) and (count is None or len(values) == count)
    return fits and all(type(value) is int and value >= 0 for value in values)


class NotFinite(ValueError):
    """A number that is not finite where none may be."""


def refuse_infinite(arrays: Mapping[str, NDArray[Any]], *, nan: bool = False, inf: bool = False) -> None:
    """Raises `NotFinite` for an array with a number that is not finite; `nan`, `inf`: which of these are allowed.

    >>> refuse_infinite({"a": np.array([1.0, np.nan])})
    Traceback (most recent call last):
        ...
    gatecast.formats.NotFinite: 'a' has NaN in 1 of 2 places, expected finite numbers
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        for word, found, allowed in (("NaN", np.isnan, nan), ("infinity", np.isinf, inf)):
            if not allowed and (wrong := found(array)).any():
                count = int(wrong.sum())
                raise NotFinite(f"{_short(name)} has {word} in {count} of {array.size} places, expected finite numbers")


def table_of(
    content: bytes, columns: Mapping[str, PolarsDataType], *, further: Further = None,
    most_rows: int | None = None, longest: int = LONGEST_CELL,
) -> pl.DataFrame:  # fmt: skip
    """Parquet -> a table with these columns, and further ones where their type is given.

    `longest`: bytes that a text may have.

    Raises `ValueError` where it has other columns, types or more rows, or where it would be far larger in memory than
    any real table of its size: that is read from its footer, before a row is.

    >>> table = pl.DataFrame({"a": [1.0]})
    >>> table.write_parquet(file := io.BytesIO())
    >>> table_of(file.getvalue(), {"a": pl.Float64}).equals(table)
    True
    """
    refuse_table(content, columns, further=further, most_rows=most_rows)
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError) as error:
        refuse_environment(str(error))
        raise ValueError(f"it is no table: {_short(str(error))}") from None
    _refuse_columns(dict(table.schema), columns, further)
    for name in (name for name, kind in table.schema.items() if kind == pl.String):
        found = table[name].str.len_bytes().max()
        if isinstance(found, int) and found > longest:
            raise ValueError(f"its column {name!r} has a text of {found:,} bytes, expected at most {longest:,}")
    total, limit = text_bytes(table), max(SMALL_TABLE, PACKED * len(content))
    if total > limit:
        raise ValueError(f"it has {total:,} bytes of text in a file of {len(content):,}, expected at most {limit:,}")
    return table


def refuse_environment(why: str) -> None:
    """Raises `StoreError` where no table at all can be read: then it is not the file that is at fault."""
    file = io.BytesIO()
    try:
        pl.DataFrame({"a": [1]}).write_parquet(file)
        pl.read_parquet(io.BytesIO(file.getvalue()))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError, OSError):
        raise StoreError(
            f"no table can be read in this environment: {_short(why)}. The files are not at fault: look at the "
            "variables that begin with POLARS_, such as POLARS_MAX_THREADS."
        ) from None


def text_bytes(table: pl.DataFrame) -> int:
    """Bytes of all texts of a table, each counted in every row that has it, however often it is in memory.

    >>> text_bytes(pl.DataFrame({"a": ["b", "cd", None], "c": [1.0, 2.0, 3.0]}))
    3
    """
    texts = (table[name] for name, kind in table.schema.items() if kind in (pl.String, pl.Categorical, pl.Enum))
    return sum(int(one.cast(pl.String).str.len_bytes().cast(pl.UInt64).sum()) for one in texts)


def refuse_table(
    content: bytes, columns: Mapping[str, PolarsDataType], *, further: Further = None,
    most_rows: int | None = None,
) -> int:  # fmt: skip
    """Checks a Parquet file as `table_of` does without reading a row; returns the number of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(io.BytesIO(content))
        schema = dict(pl.read_parquet_schema(io.BytesIO(content)))
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        refuse_environment(str(error))
        raise ValueError(f"it is no table: {_short(str(error))}") from None
    _refuse_columns(schema, columns, further)
    rows = footer.num_rows
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if rows < 0 or rows != sum(group.num_rows for group in groups):
        raise ValueError("it is no table: the numbers of its rows do not agree")
    if most_rows is not None and rows > most_rows:
        raise ValueError(f"it has {rows:,} rows, expected at most {most_rows:,}")
    width = sum(TEXT_BYTES if kind == pl.String else 8 for kind in schema.values())
    stored = sum(max(group.total_byte_size, 0) for group in groups)
    size, limit = rows * width + stored, max(SMALL_TABLE, PACKED * len(content))
    if size > limit:
        raise ValueError(
            f"it would take {size:,} bytes in memory out of a file of {len(content):,}, expected at most {limit:,}"
        )
    return int(rows)


def _refuse_columns(
    found: Mapping[str, PolarsDataType],
    columns: Mapping[str, PolarsDataType],
    further: Further,
) -> None:
    for name, kind in columns.items():
        if found.get(name) != kind:
            came = "none" if name not in found else _short(str(found[name]))
            raise ValueError(f"its column {name!r} is {came}, expected {kind}")
    kinds = further if isinstance(further, tuple) else () if further is None else (further,)
    for name, kind in found.items():
        if name not in columns and kind not in kinds:
            wanted = f"{' or '.join(map(str, kinds))} in a further column" if kinds else ", ".join(columns)
            raise ValueError(f"it has the column {_short(name)} of {_short(str(kind))}, expected {wanted}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]} ...")
