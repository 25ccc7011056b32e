"""Frames in memory as raw tables: every column becomes numbers, text or times, or is refused by its name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import narwhals as nw
import polars as pl

from gatecast.errors import BarsError, BarsFileError, described
from gatecast.market.bars import PRICES
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import MAX_COLUMNS, Table, from_arrow, refuse_twice, zone_is_known


def read_frame(source: Any) -> list[Table]:
    """A frame of Polars, pandas, Arrow or another library that Narwhals knows as raw tables; rows count from 1.

    One table, or one per ticker for a pandas frame with columns of two levels (field and ticker, in either order).
    Raises BarsFileError with the column for one that is there twice or that nobody can read, BarsError for what is no
    frame, and for a frame that its library fails to hand over, such as a lazy one whose file is gone.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"close": [1.0, "n/a"]}, index=pd.to_datetime(["2024-01-02", "2024-01-03"]))
    >>> read_frame(frame)[0].frame["close"].to_list()
    ['1.0', 'n/a']
    """
    try:
        tables = _tables_of(source)
    except (BarsError, MemoryError):
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # whatever the libraries make of strange cells
        raise BarsError(
            f"the frame cannot be read ({described(error)}). Convert its columns to numbers, text or times."
        ) from None
    widest = max((table.frame.width for table in tables), default=0)
    if widest > MAX_COLUMNS:
        raise BarsError(f"the frame has {widest:,} columns; at most {MAX_COLUMNS:,} are read. Choose columns of it.")
    return tables


def _tables_of(source: Any) -> list[Table]:
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if nw.dependencies.is_pandas_dataframe(source):
        return _from_pandas(source)
    if nw.dependencies.is_pyarrow_table(source):
        return [Table(from_arrow(source), None, 1)]
    try:
        return [Table(nw.from_native(source, eager_only=True).to_polars(), None, 1)]
    except TypeError:
        raise BarsError(
            "bars are read from a path, a list of paths, a folder, a glob, 'embedded', or a pandas or Polars"
            f" frame; got {type(source).__name__}."
        ) from None


def _from_pandas(frame: Any) -> list[Table]:
    refuse_twice(list(frame.columns))
    if frame.columns.nlevels > 1:
        return _side_by_side(frame)
    index = frame.index
    if index.nlevels > 1 or index.name is not None or index.dtype.kind == "M" or str(index.dtype).startswith("period"):
        names = [str(name) if name is not None else "time" for name in index.names]
        for level, name in enumerate(names):
            if name in frame.columns and frame[name].array.equals(index.get_level_values(level).array):
                frame = frame.drop(columns=name)  # the same values a second time
        refuse_twice([*names, *map(str, frame.columns)])
        frame = frame.rename_axis(index=names).reset_index()
    frame = frame.rename(columns=str)
    refuse_twice(list(frame.columns))
    return [Table(pl.DataFrame([_column(frame[name], name) for name in frame.columns]), None, 1)]


def _column(values: Any, name: str) -> pl.Series:
    """A pandas column as Polars has it: mixed objects and times that Polars has no zone for as text."""
    import pandas as pd

    kind = values.dtype
    if isinstance(kind, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    elif isinstance(kind, pd.DatetimeTZDtype) and not zone_is_known(str(kind.tz)):
        values = values.dt.strftime("%Y-%m-%d %H:%M:%S.%f%z").astype(object).where(values.notna(), None).astype("str")
    elif (
        kind.kind == "O"
        and kind.name == "object"
        and pd.api.types.infer_dtype(values, skipna=True) not in ("string", "empty")
    ):
        values = values.map(_text, na_action=None).astype("str")
    try:
        series: pl.Series = nw.from_native(values.rename(name), series_only=True).to_polars()
    except (Exception, pl.exceptions.PanicException):  # whatever the libraries make of a strange type
        advice = "Convert it to numbers, text or times."
        raise BarsFileError(f"the column holds {kind}.", column=name, advice=advice) from None
    return series


def _text(value: Any) -> str | None:
    """A cell of a mixed column as text, None where it is missing."""
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)


def _side_by_side(frame: Any) -> list[Table]:
    """A pandas frame with columns (field, ticker) or (ticker, field): one table per ticker.

    A column of which one level is empty, such as a date that was the index before, belongs to every ticker.
    """
    if frame.columns.nlevels > 2:
        raise BarsError(
            f"the frame's columns have {frame.columns.nlevels} levels; field and ticker are read: drop the others."
        )
    pairs = [tuple("" if part is None else str(part) for part in pair) for pair in frame.columns]
    prices = [set(SPELLINGS[price]) for price in PRICES]
    own = [pair for pair in pairs if all(pair)]
    first, second = (sum(any(snake(pair[level]) in names for pair in own) for names in prices) for level in (0, 1))
    field, ticker = (0, 1) if first >= second else (1, 0)
    index = frame.index
    tables = []
    for symbol in dict.fromkeys(pair[ticker] for pair in own):
        chosen = [n for n, pair in enumerate(pairs) if pair[ticker] == symbol or not all(pair)]
        part = frame.iloc[:, chosen]
        part.columns = [pairs[n][field] if all(pairs[n]) else "".join(pairs[n]) for n in chosen]
        part.index = index
        (table,) = _from_pandas(part)
        tables.append(Table(table.frame, None, 1, symbol))
    if not tables:
        raise BarsError("the frame's columns name no ticker: expected (field, ticker), as ('Close', 'AAPL').")
    return tables
