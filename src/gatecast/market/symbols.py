"""What a symbol is: its asset class, close, calendar and currency, by the symbols file, a column or the default."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

from gatecast.errors import BarsError, BarsFileError, cut, did_you_mean, symbol_fault
from gatecast.market.bars import UTC_TIME, WEEKEND_SHARE, Finding
from gatecast.market.bounds import date_of
from gatecast.market.classes import ASSET_CLASSES, CURRENCY, AssetClass, looks_like_another
from gatecast.market.classes import asset_class as class_named
from gatecast.market.sessions import calendar_of
from gatecast.market.spellings import snake
from gatecast.market.tables import Notes, is_file, read_tables, shown_path

CLASS_RULES = {"file": "symbols file", "column": "column", "given": "given default", "built-in": "built-in default"}
"""Where a symbol's asset class may come from, in words."""
OF_SYMBOLS = ("symbol", "asset_class", "close", "calendar", "currency")
"""Columns of a symbols file; it needs the first two."""


def class_guesses(classes: pl.DataFrame) -> list[Finding]:
    """Symbols whose name looks like another class than the one they have."""
    found = []
    for symbol, name, rule in classes.select("symbol", "asset_class", "rule").iter_rows():
        guess = looks_like_another(symbol, name)
        if guess is not None:
            advice = (
                f"The name looks like {guess}, but the class is {name} ({rule}), with its costs, hours and bars a year."
                f" If it is {guess}, give that asset class, or a symbols file."
            )
            found.append(Finding("warning", symbol, None, "class_guess", guess, advice))
    return found


def read_classes(symbols_file: str | Path | None) -> tuple[dict[str, AssetClass], dict[str, str]]:
    """The class of each symbol that the file lists, with the symbol's own close and calendar where it says them; and
    the currencies that it says."""
    if symbols_file is None:
        return {}, {}
    path = Path(symbols_file)
    rows, first_line, kind = _symbols_in(path)
    classes, currencies = dict[str, AssetClass](), dict[str, str]()
    for line, (symbol, name, own_close, calendar, currency) in enumerate(rows.iter_rows(), first_line):
        if symbol is None:
            continue
        if fault := symbol_fault(str(symbol)):
            raise BarsFileError(f"{fault}.", file=path, line=line, column="symbol", value=symbol, advice="Correct it.")
        if name not in ASSET_CLASSES:
            raise BarsFileError(
                "the asset class is unknown.", file=path, line=line, column=kind, value=name,
                advice=did_you_mean(str(name), ASSET_CLASSES),
            )  # fmt: skip
        if currency is not None and not re.fullmatch(CURRENCY, currency):
            raise BarsFileError(
                "no currency.", file=path, line=line, column="currency", value=currency,
                advice="Write three letters, such as EUR, or GBX for prices in pence; or that of a coin, such as USDT.",
            )  # fmt: skip
        known = _with_calendar(_with_close(ASSET_CLASSES[name], own_close, path, line), calendar, path, line)
        again = symbol in classes and currencies.get(symbol) != currency
        if again or classes.setdefault(symbol, known) != known:
            raise BarsFileError(
                f"{symbol!r} has another class, close, calendar or currency in a line before.", file=path, line=line,
                column=kind, value=name, advice="Keep one of the lines.",
            )  # fmt: skip
        if currency is not None:
            currencies[symbol] = currency
    return classes, currencies


def read_symbols(symbols_file: str | Path) -> pl.DataFrame:
    """The rows of a symbols file: symbol, asset_class, close, calendar, currency; all text, null where it says none."""
    read_classes(symbols_file)  # or what is wrong is said
    return _symbols_in(Path(symbols_file))[0].cast(pl.String)


def _symbols_in(path: Path) -> tuple[pl.DataFrame, int, str]:
    """The rows of `read_symbols`, the line of the first, and what the file calls the asset class."""
    if not is_file(path):
        raise BarsFileError("there is no such symbols file.", file=shown_path(path), advice="Check the path.")
    table = read_tables(path, holds="symbols and their classes")[0]
    names = {snake(name): name for name in reversed(table.frame.columns)}
    kind = names.get("asset_class", names.get("class", ""))
    if "symbol" not in names or not kind:
        found = cut(", ".join(map(cut, table.frame.columns)), 500)
        advice = "It needs the columns symbol and asset_class."
        raise BarsFileError(f"no symbols file; found: {found}.", file=path, line=1, advice=advice)
    own = [pl.col(names[one]) if one in names else pl.lit(None, pl.String) for one in OF_SYMBOLS[2:]]
    columns = (pl.col(names["symbol"]), pl.col(kind), *own)
    rows = table.frame.select(one.alias(text) for one, text in zip(columns, OF_SYMBOLS, strict=True))
    return rows, table.first_line, kind


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


def _with_calendar(known: AssetClass, calendar: str | None, path: Path, line: int) -> AssetClass:
    if calendar is None:
        return known
    try:
        return replace(known, calendar=calendar_of(calendar).name)
    except BarsError as error:
        raise BarsFileError(
            "the calendar cannot be used.", file=path, line=line, column="calendar", value=calendar, advice=str(error)
        ) from None


def classify(
    rows: pl.DataFrame, classes: dict[str, AssetClass], default: str | None, end: str | date | None, notes: Notes
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with the class (symbols file, own column, default) and `session_close`, when the row's day ends; and of each
    symbol its class and the rule it came from.

    Currencies, metals and futures that have bars dated Sunday have days that end at midnight UTC, a day that ends at
    17:00 in New York has none: all days where a Sunday is among the symbol's first three weeks, else those from the
    first Sunday on.
    """
    listed = {symbol: known.name for symbol, known in classes.items()}
    in_file = pl.col("symbol").replace_strict(listed, default=None, return_dtype=pl.String)
    stated = rows.filter(pl.col("asset_class").is_not_null() & ~pl.col("symbol").is_in(list(listed)))
    stated = stated.with_columns(pl.col("asset_class").first().over("symbol").alias("_first"))
    other = stated.filter(pl.col("asset_class") != pl.col("_first"))
    if other.height:
        row = other.row(0, named=True)
        problem = f"{row['symbol']!r} is of the class {row['_first']} in its first row, and of another here."
        notes.refuse(row, problem, "Give a symbol one class in all rows.", "asset_class", row["asset_class"])
    rule = (
        pl.when(in_file.is_not_null()).then(pl.lit(CLASS_RULES["file"]))
        .when(pl.col("asset_class").is_not_null()).then(pl.lit(CLASS_RULES["column"]))
        .otherwise(pl.lit(CLASS_RULES["given" if default else "built-in"]))
    )  # fmt: skip
    rows = rows.with_columns(pl.col("asset_class").fill_null(pl.col("asset_class").drop_nulls().first().over("symbol")))
    by_default = pl.lit(default or "equity")
    rows = rows.with_columns(rule.alias("_rule"), pl.coalesce(in_file, "asset_class", by_default).alias("asset_class"))
    told = rows.select("symbol", "asset_class", rule="_rule").unique("symbol", keep="first", maintain_order=True)
    usual = pl.col("asset_class").replace_strict(
        {name: known.calendar for name, known in ASSET_CLASSES.items()}, default=None, return_dtype=pl.String
    )
    named = {symbol: known.calendar for symbol, known in classes.items()}
    own_calendar = pl.col("symbol").replace_strict(named, default=None, return_dtype=pl.String)
    told = told.with_columns(calendar=pl.coalesce(own_calendar, usual))
    rows = rows.drop("_rule")
    for name in rows["asset_class"].unique():
        class_named(name)
    if classes:
        unlisted = rows.filter(~pl.col("symbol").is_in(list(classes)))
        advice = "The symbols file does not list the symbol: the default class or its own column was taken."
        notes.add_counts("warning", "not_listed", unlisted.drop("time"), advice)
    own = {
        symbol: known for symbol, known in classes.items()
        if replace(known, calendar=ASSET_CLASSES[known.name].calendar) != ASSET_CLASSES[known.name]
    }  # fmt: skip
    close = pl.lit(None, UTC_TIME)
    for column, sessions in (("asset_class", ASSET_CLASSES), ("symbol", own)):
        for name in rows[column].unique():
            if name in sessions:
                close = pl.when(pl.col(column) == name).then(sessions[name].close_of(pl.col("_day"))).otherwise(close)
    sunday = (pl.col("_day").dt.weekday() == 7).fill_null(False)
    if end is not None:  # what comes later has no say in when earlier days ended
        sunday &= (pl.col("_day") <= date_of(end, "end")).fill_null(False)
    since = pl.col("_day").filter(sunday).min().over("symbol")
    early = since < pl.col("_day").min().over("symbol") + timedelta(weeks=3)
    to_midnight = (early | (pl.col("_day") >= since)).fill_null(False)
    to_midnight &= pl.col("asset_class").is_in(["fx", "metal", "future", "commodity"])
    advice = "Bars dated Sunday: days end at 00:00 UTC, not 17:00 New York"
    never_closes = (pl.col("_day").dt.weekday() > 5).mean().over("symbol") >= WEEKEND_SHARE
    for some, then in ((~never_closes, "; resample='1d' joins Sunday to Monday."), (never_closes, ".")):
        dated = rows.filter(to_midnight & sunday & some.fill_null(then != "."))
        notes.add_counts("warning", "sunday", dated.drop("time"), advice + then)
    midnight = ASSET_CLASSES["crypto"].close_of(pl.col("_day"))
    rows = rows.with_columns(pl.when(to_midnight).then(midnight).otherwise(close).alias("_session_close"))
    return rows, told.sort("symbol")
