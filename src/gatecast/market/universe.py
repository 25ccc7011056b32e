"""A dated universe: which symbols belonged to it, from when until when, so that none is chosen with hindsight.

Bars carry it as a further column, `in_universe`: 1 inside a symbol's dates, 2 in the last session of a stay, 0 outside.
Outside nothing is forecast, learned or held; windows reach back over bars from before.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.errors import BarsError, BarsFileError, cut, did_you_mean, symbol_fault
from gatecast.market.bars import session_date
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.sessions import calendar_of
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import is_file, read_tables, shown_path
from gatecast.market.times import texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.market.tables import Table

INSIDE = "in_universe"
"""Column of bars: 1 where the symbol belongs to the universe in the bar's session, else 0; 2 in its last session."""
LAST = 2.0
UNIVERSE: dict[str, type[pl.DataType]] = {"symbol": pl.String, "from": pl.Date, "to": pl.Date}
"""Columns of a universe: first and last session of a stay, empty where it has none; a symbol may have several rows."""


def read_universe(path: str | Path) -> pl.DataFrame:
    """A CSV or Parquet file with the columns symbol, from and to -> a frame of `UNIVERSE`.

    Raises `BarsFileError` with line, column and value for a missing symbol, what is no date such as 2024-01-31, and a
    stay that ends before it begins.
    """
    if not is_file(path):
        raise BarsFileError("there is no such universe file.", file=shown_path(path), advice="Check the path.")
    table = read_tables(Path(path), holds="rows of symbol, from and to")[0]
    columns = {snake(name): name for name in reversed(table.frame.columns)}
    named = next((columns[name] for name in SPELLINGS["symbol"] if name in columns), None)
    if named is None or not {"from", "to"} <= columns.keys():
        found = cut(", ".join(map(cut, table.frame.columns)), 500)
        advice = "It needs the columns symbol, from and to; an empty cell of the last two is an open end."
        raise BarsFileError(f"no universe file; found: {found}.", file=path, line=1, advice=advice)
    own = {"symbol": named, "from": columns["from"], "to": columns["to"]}
    rows = texts_of(table, own).with_columns(pl.when(pl.col(name) != "").then(name).alias(name) for name in own)
    dates = rows.with_columns(pl.col("from", "to").str.to_date("%Y-%m-%d", strict=False))
    _refuse_unsound(rows, dates, table, own)
    stays = dates.filter(pl.col("symbol").is_not_null())
    if stays.is_empty():
        raise BarsFileError("it has no rows.", file=path, line=table.first_line, advice="List the symbols.")
    return stays.select(list(UNIVERSE)).sort("symbol", "from")


def _refuse_unsound(texts: pl.DataFrame, dates: pl.DataFrame, table: Table, own: dict[str, str]) -> None:
    rows = zip(texts.iter_rows(named=True), dates.iter_rows(named=True), strict=True)
    for line, (text, row) in enumerate(rows, table.first_line):
        if not any(text.values()):
            continue
        if row["symbol"] is None:
            raise BarsFileError(
                "the symbol is missing.", file=table.file, line=line, column=own["symbol"], advice="Fill it."
            )
        if fault := symbol_fault(row["symbol"]):
            raise BarsFileError(
                f"{fault}.", file=table.file, line=line, column=own["symbol"], value=row["symbol"],
                advice="Correct it.",
            )  # fmt: skip
        for name in ("from", "to"):
            if (row[name] is None) != (text[name] is None) or (row[name] and not 1700 <= row[name].year <= 2200):
                raise BarsFileError(
                    "no date from 1700 to 2200.", file=table.file, line=line, column=own[name], value=text[name],
                    advice="Write it like 2024-01-31.",
                )  # fmt: skip
        if row["from"] and row["to"] and row["to"] < row["from"]:
            raise BarsFileError(
                f"it ends on {row['to']}, before it begins on {row['from']}.", file=table.file, line=line,
                column=own["to"], value=text["to"], advice="Correct the dates.",
            )  # fmt: skip


def with_universe(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """Bars with the column `in_universe` by a frame of `UNIVERSE`; a symbol that it does not list is outside always.

    The last session of a stay is that after which the next day on which the class trades, by its exchange's calendar
    (else the next weekday), is outside, whatever bars there are. Raises `BarsError` where no bar is inside.

    >>> from datetime import date
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(4, seed=1)
    >>> stay = {"symbol": [bars["symbol"][0]], "from": [date(2000, 1, 4)], "to": [date(2000, 1, 5)]}
    >>> with_universe(bars, pl.DataFrame(stay))["in_universe"].to_list()
    [0.0, 1.0, 2.0, 0.0]
    """
    stays = universe.select(list(UNIVERSE)).rows()

    def inside(day: pl.Expr) -> pl.Expr:
        found = pl.lit(False)
        for symbol, first, last in stays:
            stay = pl.col("symbol") == symbol
            stay &= day >= first if first else True
            found |= stay & (day <= last if last else True)
        return found

    day = session_date(pl.col("time"))
    days = bars.select("asset_class", _day=day).unique().sort("asset_class", "_day")
    after = [
        own.with_columns(_next=pl.Series(_next_days(name, own["_day"].to_numpy()), dtype=pl.Date))
        for (name,), own in days.group_by("asset_class", maintain_order=True)
    ]
    placed = bars.with_columns(_day=day).join(pl.concat(after), on=["asset_class", "_day"], maintain_order="left")
    value = pl.when(inside(pl.col("_next"))).then(1.0).otherwise(LAST)
    found = placed.with_columns(pl.when(inside(day)).then(value).otherwise(0.0).alias(INSIDE)).drop("_day", "_next")
    if not (found[INSIDE] > 0).any():
        known = bars["symbol"].unique().sort().to_list()
        name = universe["symbol"][0]
        raise BarsError(f"the universe has no bar of these symbols inside its dates. {did_you_mean(name, known)}")
    return found


def _next_days(asset_class: str, days: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """(days,) the next day after each on which a class trades."""
    known, days = ASSET_CLASSES[asset_class], days.astype("datetime64[D]")
    if known.periods_per_year > 300:
        return days + 1
    found = np.busday_offset(days + 1, 0, roll="forward")
    sessions = calendar_of(known.calendar, datetime.combine(days.max().item(), time(), UTC)).session
    there = days >= sessions[0]
    found[there] = sessions[np.searchsorted(sessions, days[there], side="right")]
    return found


def is_inside(bars: pl.DataFrame) -> NDArray[np.bool_]:
    """(bars,) whether each bar's symbol belongs to its universe in the bar's session; always where nobody says."""
    if INSIDE not in bars.columns:
        return np.ones(len(bars), np.bool_)
    return np.asarray((bars[INSIDE].fill_null(1.0) != 0).to_numpy(), np.bool_)


def stays_inside(bars: pl.DataFrame) -> NDArray[np.bool_]:
    """(bars,) whether each bar's symbol still belongs to its universe after the bar's session; see `is_inside`."""
    if INSIDE not in bars.columns:
        return np.ones(len(bars), np.bool_)
    return is_inside(bars) & np.asarray((bars[INSIDE].fill_null(1.0) != LAST).to_numpy(), np.bool_)


def exits(bars: pl.DataFrame) -> pl.DataFrame:
    """symbol, time: the first bar outside after each stay in the universe. `bars` sorted by symbol and time."""
    if INSIDE not in bars.columns:
        return bars.select("symbol", "time").clear()
    inside = pl.Series(INSIDE, is_inside(bars))
    left = ~pl.col(INSIDE) & pl.col(INSIDE).shift().over("symbol").fill_null(False)
    return bars.select("symbol", "time").with_columns(inside).filter(left).select("symbol", "time")
