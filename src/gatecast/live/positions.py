"""Files of a desk: what an account holds, its open orders, its fills, and symbols that may not be traded.

A file is read whole or refused with the line: what cannot be read is never taken for nothing held.

```
# as_of: 2024-06-28
# account: main
# currency: USD
symbol,units
SPY,1200
TLT,-300
```
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.arguments import MOST_NAME
from gatecast.errors import BarsFileError, SettingsError, cut, did_you_mean, shown, symbol_fault, text_fault
from gatecast.market.columns import MISSING
from gatecast.market.reading import as_day
from gatecast.market.spellings import snake
from gatecast.market.tables import decoded, is_file, read_tables, shown_path

ABOUT = ("as_of", "account", "currency", "splits_until", "positions")
"""Lines `# name: value` above a table, or columns that say the same in each row."""
MOST_UNITS = 1e15
MOST_ROWS = 100_000
MOST_LINES = 64
"""Lines of a file in which those above the table may stand."""
NUMBERS = ("units", "remaining", "price", "value")
"""Columns of numbers."""
GROUPED, POINTED = r"[+-]?[1-9]\d{0,2}\.\d{3}", r"[+-]?\d*\.\d*"
"""A number whose point may be that of thousands, and any with a point."""
ALIKE = {"quantity": "units", "qty": "units", "position": "units", "ticker": "symbol", "id": "order_id"}
"""Other names of columns."""
DAY_ENDS = time(23, 59, 59, 999999)
INSTANT = timedelta(microseconds=1)
"""What the end of a date falls short of midnight, when a session of all hours closes."""
Clock = Callable[[str, datetime], date]
"""Symbol and moment -> the day of the moment on the clock of the symbol's exchange, see `market.sessions.day_of`."""


@dataclass(frozen=True)
class Positions:
    """What an account holds: symbol -> units, below 0 where it is short.

    `as_of`: the moment, UTC; of a date its end. `day`: its date as it was written. `splits_until`: the last session
    whose splits are in the units, None where the file does not say. `prices`, `values`: what the file says of them,
    prices in the symbol's currency and values in the book's.
    """

    units: Mapping[str, float]
    as_of: datetime
    day: date
    account: str = ""
    currency: str = ""
    splits_until: date | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: `units` by symbol, without zeros, `as_of`, and `splits_until` where the file says it."""
        units = {symbol: units for symbol, units in sorted(self.units.items()) if units != 0}
        until = {} if self.splits_until is None else {"splits_until": self.splits_until.isoformat()}
        return {"units": units, "as_of": self.as_of.isoformat(), **until}

    def split_day(self, symbol: str, clock: Clock) -> date:
        """See `split_day`."""
        return split_day(symbol, self.as_of, self.splits_until, clock)


def split_day(symbol: str, as_of: datetime, splits_until: date | None, clock: Clock) -> date:
    """The last day whose splits can be in the units of a symbol at a moment; those of days before it are.

    `splits_until`: what the file says: then those of the day are in the units, too. Where it says nothing it is the
    file's date; of a moment the day on the clock of the symbol's exchange.
    """
    if splits_until is not None:
        return splits_until
    return as_of.date() if as_of.timetz() == DAY_ENDS.replace(tzinfo=UTC) else clock(symbol, as_of - INSTANT)


@dataclass(frozen=True)
class Fill:
    """A fill: units above 0, price in the symbol's currency, when (UTC)."""

    fill_id: str
    order_id: str
    symbol: str
    side: str
    units: float
    price: float
    time: datetime

    @property
    def signed(self) -> float:
        """Units, below 0 where they were sold."""
        return self.units if self.side == "buy" else -self.units

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**self.__dict__, "time": self.time.isoformat()}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Fill:
        """A row of `to_dict`. Raises `ValueError` or `KeyError` for what is none."""
        texts = {name: str(row[name]) for name in ("fill_id", "order_id", "symbol", "side")}
        return cls(
            **texts, units=float(row["units"]), price=float(row["price"]), time=datetime.fromisoformat(row["time"])
        )


def read_positions(path: str | Path) -> Positions:
    """What an account holds, of a CSV file with a header line and the columns symbol and units.

    Further columns are price and value; above it stand lines `# as_of: 2024-06-28` (a date means its end, UTC),
    account, currency, `# splits_until: DATE` (the last session whose splits are in the units) and `# positions: N`
    (the number of rows, 0 for an account that holds nothing). Raises `BarsFileError` for a row that cannot be read.
    """
    rows = _Rows.of(path, ("symbol", "units"), ("price", "value", *ABOUT), "positions")
    about = rows.about()
    units, prices, values = dict[str, float](), dict[str, float](), dict[str, float]()
    for row in rows:
        symbol = rows.symbol(row)
        if symbol in units:
            rows.refuse(row, "symbol", "the symbol has a row before", "Give one row a symbol, with all of its units.")
        units[symbol] = rows.number(row, "units", lambda one: abs(one) <= MOST_UNITS, "a number of units")
        for name, found in (("price", prices), ("value", values)):
            if row.get(name):
                found[symbol] = rows.number(row, name, lambda one: abs(one) <= MOST_UNITS, f"a {name}")
    said = about.get("positions")
    if said is None and not units:
        advice = "For an account that holds nothing write `# positions: 0` above the table."
        raise BarsFileError("there is no position in it.", file=path, advice=advice)
    if said is not None and said != str(len(units)):
        raise BarsFileError(
            f"it says {cut(said)} positions and has {len(units)}.", file=path, advice="Give the whole file."
        )
    if "as_of" not in about:
        raise BarsFileError(
            "it does not say when it was so.", file=path, advice="Write a line such as `# as_of: 2024-06-28` above it."
        )
    as_of, day = _moment(about["as_of"], path, "as_of")
    until = about.get("splits_until")
    return Positions(
        units, as_of, day, about.get("account", ""), about.get("currency", "").upper(),
        None if until is None else _moment(until, path, "splits_until")[1], prices, values,
    )  # fmt: skip


def read_open_orders(path: str | Path, account: str | None = None) -> dict[str, tuple[str, float]]:
    """Id of each open order -> its symbol and what is left of it, below 0 to sell: columns order_id, symbol, side and
    remaining.

    A file without a row is refused unless it has a line `# positions: 0`: then no order is open. Where it says whose
    they are, above the table or in a column, they must be of `account`.
    """
    rows = _Rows.of(path, ("order_id", "symbol", "side", "remaining"), ("account", "positions"), "open orders")
    found = dict[str, tuple[str, float]]()
    for row in rows:
        name = rows.text(row, "order_id")
        if name in found:
            rows.refuse(row, "order_id", "the order has a row before", "Give one row an order.")
        left = rows.number(row, "remaining", lambda one: 0 <= one <= MOST_UNITS, "what is left, 0 or more units")
        found[name] = rows.symbol(row), left if rows.side(row) == "buy" else -left
    refuse_other_account(path, rows.about().get("account"), account)
    if not found and rows.about().get("positions") != "0":
        advice = "Where no order is open leave the file out, or write `# positions: 0` above the table."
        raise BarsFileError("there is no order in it.", file=path, advice=advice)
    return found


def read_fills(path: str | Path) -> tuple[list[Fill], str | None]:
    """Fills, of a CSV file with the columns fill_id, order_id, symbol, side, units, price and time (UTC without zone);
    and the account that the file says they are of, None where it says none.

    A row that repeats one before it counts once. Raises `BarsFileError` for a row that cannot be read, and for two
    fills of one id that differ.
    """
    names = ("fill_id", "order_id", "symbol", "side", "units", "price", "time")
    rows, found = _Rows.of(path, names, ("account",), "fills"), dict[str, Fill]()
    for row in rows:
        moment = rows.text(row, "time")
        if re.fullmatch(r"\d{4}-?\d\d-?\d\d", moment):
            rows.refuse(
                row, "time", "a date is no moment", "Give the time of the fill as well, such as 2024-07-01T13:30."
            )
        fill = Fill(
            rows.text(row, "fill_id"), rows.text(row, "order_id"), rows.symbol(row), rows.side(row),
            rows.number(row, "units", lambda one: 0 < one <= MOST_UNITS, "units above 0"),
            rows.number(row, "price", lambda one: 0 < one <= MOST_UNITS, "a price above 0"),
            _moment(moment, path, "time", row["_line"])[0],
        )  # fmt: skip
        if found.setdefault(fill.fill_id, fill) != fill:
            rows.refuse(row, "fill_id", "a row before has this id and says something else", "Each fill has its own id.")
    if not found:
        raise BarsFileError("there is no fill in it.", file=path, advice="Give a file with fills, or none.")
    return list(found.values()), rows.about().get("account")


def refuse_other_account(path: str | Path, said: str | None, account: str | None) -> None:
    """Raises `BarsFileError` for a file that says it is of another account."""
    if said and account and said != account:
        raise BarsFileError(
            f"it is of the account {cut(said)!r}, not of {cut(account)!r}.", file=path,
            advice="Give the file of that account.",
        )  # fmt: skip


def read_restricted(path: str | Path, account: str | None = None) -> frozenset[str]:
    """The symbols of a restricted list: a CSV file with a column symbol.

    A file without a row is refused unless it has a line `# positions: 0`: then no symbol is restricted. Where it says
    whose list it is, above the table or in a column, it must be of `account`.
    """
    rows = _Rows.of(path, ("symbol",), ("account", "positions"), "a restricted list")
    found = frozenset(rows.symbol(row) for row in rows)
    refuse_other_account(path, rows.about().get("account"), account)
    if not found and rows.about().get("positions") != "0":
        advice = "Where no symbol is restricted leave the file out, or write `# positions: 0` above the table."
        raise BarsFileError("there is no symbol in it.", file=path, advice=advice)
    return found


@dataclass(frozen=True)
class _Rows:
    """The rows of a file as texts, by column, each with its `_line`; and what is said above them.

    `may_group`: whether a point may be that of thousands, since no comma separates the columns and no number of the
    file shows that its points are those of decimals.
    """

    path: Path
    rows: list[dict[str, Any]]
    above: Mapping[str, str]
    may_group: bool

    @classmethod
    def of(cls, path: str | Path, needed: tuple[str, ...], further: tuple[str, ...], holds: str) -> _Rows:
        """Reads a file; raises `BarsFileError` where a column is missing."""
        place = Path(path)
        if not is_file(place):
            raise BarsFileError(f"there is no such file with {holds}.", file=shown_path(path), advice="Check the path.")
        if place.suffix.lower() not in (".csv", ".txt"):
            raise BarsFileError(f"{holds} are read from CSV.", file=place, advice="Give a file that ends in .csv.")
        above = _above(place)
        table = read_tables(place, holds=holds)[0]
        columns = dict[str, str]()
        for name in table.frame.columns:
            known = ALIKE.get(snake(name), snake(name))
            if columns.setdefault(known, name) != name:
                raise BarsFileError(f"two columns for {known}: {cut(columns[known])} and {cut(name)}.", file=path)
        for name in needed:
            if name not in columns:
                advice = f"It needs the columns {', '.join(needed)}. {did_you_mean(name, table.frame.columns)}"
                raise BarsFileError(f"no column {name}.", file=path, advice=advice)
        if len(table.frame) > MOST_ROWS:
            raise BarsFileError(f"{len(table.frame):,} rows; at most {MOST_ROWS:,} are read.", file=path)
        own = {name: columns[name] for name in (*needed, *further) if name in columns}
        texts = table.frame.select(
            pl.col(given).cast(pl.String).str.strip_chars().alias(name) for name, given in own.items()
        )
        rows = [{**row, "_line": line} for line, row in enumerate(texts.iter_rows(named=True), table.first_line)]
        numbers = [row[name] or "" for row in rows for name in NUMBERS if name in own]
        shows = any(re.fullmatch(POINTED, one) and not re.fullmatch(GROUPED, one) for one in numbers)
        filled = [row for row in rows if any(row[name] for name in own)]
        return cls(place, filled, above, table.decimal_comma and not shows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def about(self) -> dict[str, str]:
        """What is said of all rows: above them, or in columns that say the same in each."""
        found = dict(self.above)
        for name in ABOUT:
            for row in self.rows:
                if (text := row.get(name)) and found.setdefault(name, text) != text:
                    self.refuse(row, name, f"the file says {shown(found[name])} before", "Give one value for all rows.")
        return found

    def refuse(self, row: Mapping[str, Any], column: str, problem: str, advice: str) -> None:
        """Raises `BarsFileError` with the place."""
        raise BarsFileError(
            f"{problem}.", file=self.path, line=row["_line"], column=column, value=row.get(column), advice=advice
        )

    def _filled(self, row: Mapping[str, Any], column: str) -> str:
        """A cell that must not be empty."""
        text = str(row[column] or "")
        if not text:
            self.refuse(row, column, "the cell is empty", "Fill it, or leave the row out.")
        return text

    def text(self, row: Mapping[str, Any], column: str) -> str:
        """A cell that is a plain text, and none that stands for a missing one."""
        text = self._filled(row, column)
        if text.lower() in MISSING:
            self.refuse(row, column, "this stands for a missing value", "Fill it, or leave the row out.")
        if fault := text_fault(text, MOST_NAME):
            self.refuse(row, column, fault, "Give a plain text of one line.")
        return text

    def symbol(self, row: Mapping[str, Any]) -> str:
        """The cell of the symbol; `NA` is one, as in bars."""
        text = self._filled(row, "symbol")
        if fault := symbol_fault(text):
            self.refuse(row, "symbol", fault, "Correct it.")
        return text

    def side(self, row: Mapping[str, Any]) -> str:
        """buy or sell."""
        text = self.text(row, "side").lower()
        if text not in ("buy", "sell"):
            self.refuse(row, "side", "a side is buy or sell", "Correct it.")
        return text

    def number(self, row: Mapping[str, Any], column: str, fits: Callable[[float], bool], words: str) -> float:
        """A cell that is a finite number which fits. In a file of another separator than the comma `1.000` is refused
        where it may be a thousand."""
        text = self.text(row, column)
        if self.may_group and re.fullmatch(GROUPED, text):
            plain = text.replace(".", "")
            self.refuse(row, column, "the point may be that of thousands or of decimals", f"Write {plain}, or {text}0.")
        try:
            number = float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not fits(number):
            self.refuse(row, column, f"expected {words}", "Write a plain number, with a point for decimals.")
        return number


def _above(path: Path) -> dict[str, str]:
    """The lines `# name: value`, or `# name = value`, above a table; other lines that begin with # are comments.

    Raises `BarsFileError` for a line of this form whose name is unknown, so that no guard is lost by a slip.
    """
    found = dict[str, str]()
    for number, line in enumerate(decoded(path).decode().split("\n"), 1):
        if line.strip(" ,;\t") and not line.startswith(("#", "sep=")):
            break
        if number >= MOST_LINES:
            raise BarsFileError(
                f"{MOST_LINES} lines and no table yet.", file=path, advice="Leave out lines above the table."
            )
        matched = re.fullmatch(r"#+\s*([A-Za-z]\w*(?:[ _-]\w+)?)\s*[:=](.*)", line.strip(" ,;\t"))
        if matched is None:
            continue
        name, value = snake(matched[1]), matched[2].strip()
        if name not in ABOUT:
            raise BarsFileError(
                f"nothing is known of {cut(matched[1])!r}.", file=path, line=number,
                advice=f"{did_you_mean(name, ABOUT)} Write a comment without a colon.",
            )  # fmt: skip
        if fault := text_fault(value, MOST_NAME):
            raise BarsFileError(f"{name}: {fault}.", file=path, line=number, advice="Give it, or no such line.")
        if found.setdefault(name, value) != value:
            raise BarsFileError(f"two lines say {name}.", file=path, line=number, advice="Give one.")
    return found


def _moment(text: str, path: str | Path, name: str, line: int | None = None) -> tuple[datetime, date]:
    """A moment in UTC, of a date its end, and the date as it is written. Raises `BarsFileError` for what is none."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = as_day(date.fromisoformat(text))
            return datetime.combine(day, DAY_ENDS, UTC), day
        if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
            raise ValueError
        moment = datetime.fromisoformat(text)
        as_day(moment.date())
    except (ValueError, SettingsError):
        raise BarsFileError(
            f"{name} is no moment: expected one such as 2024-06-28 or 2024-06-28T20:00+00:00.", file=path, line=line,
            value=text, advice="Correct it.",
        ) from None  # fmt: skip
    day = moment.date()
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC), day
