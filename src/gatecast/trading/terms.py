"""Tables of what an account pays and trades: rows of settings, and the files that have them.

A file is read once, when a run or a store begins; its rows are settings from then on, and travel with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import polars as pl
from pydantic import Field, field_validator

from gatecast.errors import BarsFileError, SettingsError, cut
from gatecast.market.classes import CURRENCY
from gatecast.market.columns import MISSING
from gatecast.market.reading import as_day
from gatecast.market.spellings import snake
from gatecast.market.tables import is_file, read_tables, shown_path
from gatecast.market.times import texts_of
from gatecast.settings import Settings

Currency = Annotated[str, Field(pattern=CURRENCY)]
"""Three letters, such as EUR, or a coin of up to ten capital letters and digits, such as USDT."""
MOST_ROWS = 3000
"""Rows of a table that settings hold."""


class Row(Settings):
    """A row of a table."""

    @property
    def key(self) -> tuple[str, ...]:
        """Its symbol or currency, and its date where it has one: a table has one such row."""
        names = (next(iter(type(self).model_fields)), "date")
        return tuple(str(getattr(self, name)) for name in names if name in type(self).model_fields)

    @field_validator("date", "last_trade", mode="after", check_fields=False)
    @classmethod
    def _of_markets(cls, day: date | None) -> date | None:
        return None if day is None else as_day(day, "the date")


class Loan(Row):
    """Whether a symbol can be sold short, from the session after a date on, up to the symbol's next row."""

    symbol: str
    """symbol"""
    date: date
    """day at whose close the row is known"""
    available: bool | None = None
    """whether more can be borrowed; left out: as before"""
    rate: Annotated[float, Field(ge=0, le=10)] | None = None
    """what it costs, a fraction a year; left out: as before"""
    recall: bool | None = None
    """whether what is lent is wanted back: it is bought at the next fill; left out: as before"""


class InterestRate(Row):
    """The interest rate of a currency, from the session after a date on, up to the currency's next row."""

    currency: Currency
    """currency"""
    date: date
    """day at whose close the row is known"""
    rate: Annotated[float, Field(ge=-1, le=10)]
    """a fraction a year"""


class Funding(Row):
    """The funding rate of a perpetual contract from a date on, up to the symbol's next row."""

    symbol: str
    """symbol"""
    date: date
    """first day on which the rate is paid"""
    rate: Annotated[float, Field(ge=-0.1, le=0.1)]
    """a fraction of the value an interval, paid by the long side; below 0 by the short side"""


class Contract(Row):
    """A future or a perpetual contract."""

    symbol: str
    """symbol"""
    multiplier: Annotated[float, Field(ge=1e-9, le=1e9)]
    """money that one contract gains when the price rises by 1"""
    tick: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """least step of the price"""
    currency: Currency | None = None
    """currency of the price; left out: that of the book"""
    margin: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """money a contract that is tied up, in its currency"""
    last_trade: date | None = None
    """last session of the contract; left out: the symbol is a series of several, or a perpetual contract"""
    funding_hours: Annotated[float, Field(gt=0, le=24)] | None = None
    """of a perpetual contract the hours from one funding to the next"""


class RollDate(Row):
    """The change from one contract of a series to the next."""

    symbol: str
    """symbol"""
    date: date
    """first session of the new contract"""
    gap: Annotated[float, Field(ge=-1e9, le=1e9)]
    """its close of the session before less that of the old one; 0 where the series was adjusted by differences"""


R = TypeVar("R", bound=Row)


def read_rows(path: str | Path, kind: type[R]) -> tuple[R, ...]:
    """A CSV or Parquet file with a column for each setting of a kind of rows -> the rows; other columns are left out.

    A row that repeats the newest one of its symbol or currency but for the date is left out. Raises `BarsFileError`
    with the line for a row that is none, and for more than `MOST_ROWS`.
    """
    holds = f"rows of {', '.join(kind.model_fields)}"
    if not is_file(path):
        raise BarsFileError(f"there is no such file with {holds}.", file=shown_path(path), advice="Check the path.")
    table = read_tables(Path(path), holds=holds)[0]
    columns = {snake(name): name for name in reversed(table.frame.columns)}
    needed = [name for name, field in kind.model_fields.items() if field.is_required()]
    if missing := [name for name in needed if name not in columns]:
        found = cut(", ".join(map(cut, table.frame.columns)), 500)
        advice = f"It needs the columns {', '.join(needed)}."
        raise BarsFileError(f"no column {missing[0]}; found: {found}.", file=path, line=1, advice=advice)
    own = {name: columns[name] for name in kind.model_fields if name in columns}
    rows = dict[tuple[str, ...], R]()
    for line, texts in enumerate(texts_of(table, own).iter_rows(named=True), table.first_line):
        given = {name: text for name, text in texts.items() if text and text.lower() not in MISSING}
        if not given:
            continue
        if name := next((name for name in needed if name not in given), ""):
            raise BarsFileError("the cell is empty.", file=path, line=line, column=own[name], advice="Fill it.")
        try:
            row = kind(**given)
            refuse_contradicting([*filter(None, [rows.get(row.key)]), row])
        except SettingsError as error:
            raise BarsFileError(str(error), file=path, line=line, advice="Correct the row, or leave it out.") from None
        rows[row.key] = row
    changes = _changes(list(rows.values()))
    if len(changes) > MOST_ROWS:
        raise BarsFileError(
            f"{len(changes):,} rows; at most {MOST_ROWS:,} are taken.", file=path,
            advice="Keep the rows of the symbols that are held, and of dates on which something changes.",
        )  # fmt: skip
    return tuple(changes)


def refuse_contradicting(rows: Sequence[Row]) -> None:
    """Raises `SettingsError` for two rows of one symbol or currency and date that say different things.

    >>> refuse_contradicting([RollDate(symbol="A", date="2024-03-01", gap=gap) for gap in (1, 2)])
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: two rows of A and 2024-03-01 differ: give one.
    """
    first = dict[tuple[str, ...], Row]()
    for row in rows:
        if first.setdefault(row.key, row) != row:
            raise SettingsError(f"two rows of {' and '.join(row.key)} differ: give one.")


def _changes(rows: Sequence[R]) -> list[R]:
    """Rows by key and date, without those that say what the one before of their key says; of rolls all."""
    if not rows or not isinstance(rows[0], Loan | InterestRate | Funding):
        return list(rows)
    key = next(iter(type(rows[0]).model_fields))
    ordered = sorted(rows, key=lambda row: (getattr(row, key), row.date))  # type: ignore[attr-defined]
    same = [one.model_dump(exclude={"date"}) == next_.model_dump(exclude={"date"}) for one, next_ in pairwise(ordered)]
    return [row for row, repeats in zip(ordered, [False, *same], strict=True) if not repeats]


def as_table(rows: str | Sequence[Row] | None, columns: dict[str, Any], setting: str) -> pl.DataFrame | None:
    """Rows of settings as a frame with these columns; None where there are none.

    Raises `SettingsError` where the setting still names a file.
    """
    if isinstance(rows, str):
        raise SettingsError(f"{setting} = {rows}: the file was not read: use Book.with_file_read() first.")
    return pl.DataFrame([row.model_dump() for row in rows], schema_overrides=columns) if rows else None
