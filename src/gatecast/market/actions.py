"""The actions of companies that prices alone do not say: splits, dividends, mergers, new names, and last returns.

An actions table has a row per symbol, kind and date. `known_at` says when the row became known, so that nothing that
decides at a time uses a later one. Splits and other units change the level of prices, delistings end a symbol; all
other kinds are money of who holds it, and change no forecast. See `read_actions`.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import BarsError, BarsFileError, cut, did_you_mean, symbol_fault
from gatecast.market.bars import UTC_TIME, Finding, session_date
from gatecast.market.calendar import LONGEST_HALT, usual_spacing
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.columns import PER_CENT, with_points
from gatecast.market.frames import read_frame
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import Notes, Table, is_file, read_tables, shown_path
from gatecast.market.times import known_times, read_dates, within_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

RATIO_LIMITS = (1e-6, 1e6)
"""The least and the largest ratio of an action: of levels of prices, and of units that are given for each share."""


def is_ratio(value: float) -> bool:
    """Whether a number may be the ratio of an action, see `RATIO_LIMITS`.

    >>> is_ratio(0.5), is_ratio(1e9), is_ratio(float("nan"))
    (True, False, False)
    """
    return RATIO_LIMITS[0] <= value <= RATIO_LIMITS[1]


WITHIN = "from 1e-6 to 1e6"
KINDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "split": (is_ratio, f"a positive ratio {WITHIN}: 2 is two for one, 0.125 one for eight, 1 a true move"),
    "unit": (is_ratio, f"a positive ratio {WITHIN}: 0.01 where pence stand for pounds from then on"),
    "delisting": (lambda value: -1 <= value <= 1, "a last return is a fraction, such as -0.3, from -1 to 1"),
    "dividend": (lambda value: value > 0, "money a share, in the currency of its prices"),
    "special_dividend": (lambda value: value > 0, "money a share, in the currency of its prices"),
    "return_of_capital": (lambda value: value > 0, "money a share, in the currency of its prices"),
    "rights": (lambda value: value > 0, "what the rights of one share were sold for, in the currency of its prices"),
    "spin_off": (is_ratio, f"units of the symbol in `into` for each share, {WITHIN}"),
    "merger": (lambda value: value >= 0, "money a share, 0 where there is none"),
    "symbol_change": (is_ratio, f"units of the symbol in `into` for each share, {WITHIN}, mostly 1"),
}
"""Kinds of actions: what a value must be, as a rule and in words."""
LEVELS = ("split", "unit")
"""Kinds that change the level of prices: from the date on, times the value, they are on the level before.

A split divides the volume by its value; another unit does not change it.
"""
GIVES = ("spin_off", "merger", "symbol_change")
"""Kinds that give units of the symbol in `into`; after a merger and a change of symbol the old one is gone."""
GOES = ("merger", "symbol_change")
PAYS = ("dividend", "special_dividend", "return_of_capital", "rights", "merger")
"""Kinds that pay money, on the date in `pay_date` where there is one."""
OTHER_NAMES = {
    "redenomination": "unit", "stock_split": "split", "spinoff": "spin_off", "cash_dividend": "dividend",
    "ticker_change": "symbol_change", "name_change": "symbol_change", "acquisition": "merger",
}  # fmt: skip
"""Names of kinds in other tables, in small letters with underscores."""
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "kind": pl.String,
    "date": pl.Date,
    "value": pl.Float64,
    "known_at": UTC_TIME,
}
TERMS: dict[str, pl.DataType | type[pl.DataType]] = {"pay_date": pl.Date, "into": pl.String, "ratio": pl.Float64}
"""Further columns, empty where a kind has none: `ratio` is of a merger, the units of `into` for each share."""
WHOLE = {**SCHEMA, **TERMS}
"""All columns of a table of actions."""
DATE_NAMES = ("ex_date", "date", "exdate", "effective_date")
TERM_NAMES = {
    "pay_date": ("pay_date", "paydate", "payment_date", "paid_on"),
    "into": ("into", "new_symbol", "acquirer"),
    "ratio": ("ratio",),
}
VALUE_NAMES = {
    "split": ("value", "ratio", "split_ratio"),
    "delisting": ("value", *SPELLINGS["delisting"], "return", "ratio"),
}


def no_actions() -> pl.DataFrame:
    """An empty frame of actions: symbol, kind, date, value, known_at (Datetime[us, UTC]), pay_date, into, ratio.

    >>> no_actions().columns
    ['symbol', 'kind', 'date', 'value', 'known_at', 'pay_date', 'into', 'ratio']
    """
    return pl.DataFrame(schema=WHOLE)


def with_terms(actions: pl.DataFrame) -> pl.DataFrame:
    """A table of actions with the columns of `TERMS`, empty where it did not have them."""
    missing = [pl.lit(None, kind).alias(name) for name, kind in TERMS.items() if name not in actions.columns]
    return actions.with_columns(missing).select(list(WHOLE))


def read_splits(splits: str | Path | pl.DataFrame | bool | None) -> pl.DataFrame:
    """A table of splits (symbol, date, ratio) as actions; none for None, and for False: every step is a true move."""
    return no_actions() if splits is None or splits is False else read_actions(splits, "split")


def read_actions(source: str | Path | pl.DataFrame | Any, kind: str | None = None) -> pl.DataFrame:
    """A table of actions: symbol, kind, date, value, known_at (null where it does not say), and `TERMS`; sorted.

    Parameters
    ----------
    source: CSV or Parquet file, or frame, with the columns symbol, kind, date (or ex_date: the first session that it
        moves; of a delisting the last one), value, and optionally known_at, pay_date, into (another symbol) and ratio;
        others, such as source, are left out.
    kind: of every row of a table without that column: "split" (its value may be called ratio) or "delisting".

    Of several versions of an action the first known stays. Raises BarsError for a column that is missing, BarsFileError
    with the line for an unknown kind, a value that is none of its kind, and two values of one action known together.

    >>> table = pl.DataFrame({"symbol": ["A"], "kind": ["split"], "ex_date": ["2014-06-09"], "value": [7.0]})
    >>> read_actions(table).row(0)[:5]
    ('A', 'split', datetime.date(2014, 6, 9), 7.0, None)
    """
    table = _table_of(source)
    named = {snake(name): name for name in reversed(table.frame.columns)}

    def column_of(names: tuple[str, ...]) -> str | None:
        return next((named[name] for name in names if name in named), None)

    values = VALUE_NAMES[kind] if kind else ("value",)
    columns = {"symbol": column_of(SPELLINGS["symbol"]), "date": column_of(DATE_NAMES), "value": column_of(values)}
    columns |= {"kind": column_of(("kind", "type", "action"))} if kind is None else {}
    missing = [name for name, found in columns.items() if found is None]
    if missing:
        plural, wanted = {
            "split": ("splits", "symbol, date and ratio (such as 7 or 0.125)"),
            "delisting": ("delistings", "symbol, date and value (such as -0.3)"),
        }.get(kind or "", ("actions", "symbol, kind (such as split or dividend), date and value"))
        raise BarsError(
            f"a table of {plural} needs the columns {wanted}; missing: {', '.join(missing)}; found the columns"
            f" {cut(', '.join(map(cut, table.frame.columns)), 500)}."
        )
    known_at = column_of(SPELLINGS["known_at"])
    terms = {name: column_of(names) for name, names in TERM_NAMES.items()}
    terms = {name: None if found == columns["value"] else found for name, found in terms.items()}
    notes = Notes((table.file,))
    for name in (name for name in (*columns.values(), known_at, *terms.values()) if name is not None):
        kind_of = table.frame.schema[name]
        if kind_of.is_nested() or kind_of in (pl.Object, pl.Binary):
            advice = "Convert it to numbers, text or dates."
            raise BarsFileError(f"the column holds {kind_of}.", file=table.file, column=name, advice=advice)
    rows = table.frame.with_row_index("_line", table.first_line).select(
        pl.lit(0).alias("_table"),
        "_line",
        pl.col(str(columns["symbol"])).cast(pl.String).str.strip_chars().alias("symbol"),
        (pl.lit(kind) if kind else _kinds(pl.col(str(columns["kind"])))).alias("kind"),
        pl.col(str(columns["date"])).alias("date"),
        pl.col(str(columns["value"])).cast(pl.String).str.strip_chars().alias("_text"),
        (pl.lit(None, pl.String) if known_at is None else pl.col(known_at)).alias("known_at"),
        *((pl.lit(None, pl.String) if found is None else pl.col(found)).alias(name) for name, found in terms.items()),
    )
    rows = rows.with_columns(_values(rows, table.decimal_comma)).with_columns(_own_terms(rows))
    rows = rows.filter(~pl.all_horizontal(pl.col("symbol", "date", "_text").is_null()))
    if rows.is_empty():
        return no_actions()
    rows = within_reach(rows, ("date", "known_at", "pay_date"), notes)
    for row in rows.iter_rows(named=True):
        _refuse_unsound(row, notes)
    rows = rows.with_columns(
        read_dates(rows, "date", notes), known_times(rows, "known_at", None, None, notes, optional=True)
    )
    rows = rows.drop("pay_date").join(
        _pay_dates(rows, notes), on=["_table", "_line"], how="left", maintain_order="left"
    )
    for row in rows.filter(pl.col("kind").is_in([*GIVES, *PAYS])).iter_rows(named=True):
        if problem := problem_of_terms(row):
            notes.refuse(row, problem, "Correct the row, or leave it out.", "kind", row["kind"])
    return _first_known(rows, notes).select(list(WHOLE)).cast(WHOLE)  # type: ignore[arg-type]


def _kinds(names: pl.Expr) -> pl.Expr:
    """Kinds as tables of others write them -> those of `KINDS`, where they are known."""
    written = names.cast(pl.String).str.strip_chars()
    plain = written.str.to_lowercase().str.replace_all(r"[\s-]+", "_")
    known = plain.replace(OTHER_NAMES)
    return pl.when(known.is_in(list(KINDS))).then(known).otherwise(written)


def _own_terms(rows: pl.DataFrame) -> list[pl.Expr]:
    """The further columns, empty where the kind has none; `ratio` as a number, `pay_date` as it is written."""
    kind, into = pl.col("kind"), pl.col("into").cast(pl.String).str.strip_chars()
    ratio = pl.col("ratio").cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    return [
        pl.when(kind.is_in(GIVES) & (into != "")).then(into).alias("into"),
        pl.when(kind == "merger").then(ratio).alias("ratio"),
        pl.when(kind.is_in(PAYS)).then("pay_date").alias("pay_date"),
    ]


def _pay_dates(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """The place of each row that has a date of payment, and that date."""
    given = rows.select("_table", "_line", "symbol", "pay_date").filter(pl.col("pay_date").is_not_null())
    if given.schema["pay_date"] == pl.String:
        given = given.filter(pl.col("pay_date").str.strip_chars() != "")
    dates = read_dates(given, "pay_date", notes) if len(given) else pl.Series("pay_date", [], pl.Date)
    return given.select("_table", "_line").with_columns(dates)


def problem_of_terms(row: Mapping[str, Any]) -> str:
    """What is wrong with the further columns of an action of `GIVES` or `PAYS`, in a sentence; "" where nothing is.

    >>> problem_of_terms({"kind": "spin_off", "symbol": "A", "value": 0.5, "into": None, "pay_date": None})
    'a spin_off needs the symbol that is given in `into`, another than its own.'
    """
    kind, into, ratio = row["kind"], row["into"], row.get("ratio")
    if kind in GIVES and (into == row["symbol"] or (into is None and kind != "merger")):
        return f"a {kind} needs the symbol that is given in `into`, another than its own."
    if kind == "merger":
        if (into is None) != (ratio is None) or (ratio is not None and not is_ratio(ratio)):
            return f"a merger has both the symbol that is given in `into` and its `ratio` {WITHIN}, or neither."
        if into is None and not row["value"] > 0:
            return "a merger needs money a share as its value, or `into` and `ratio`."
    if row.get("pay_date") is not None and row["pay_date"] < row["date"]:
        return f"it is paid on {row['pay_date']}, before its date of {row['date']}."
    return ""


def _table_of(source: Any) -> Table:
    if not isinstance(source, str | Path):
        try:
            return read_frame(source)[0]
        except BarsFileError:
            raise
        except BarsError:
            kind = type(source).__name__
            raise BarsError(f"a table of actions is a CSV or Parquet file, or a frame; got {kind}.") from None
    if not is_file(source):
        raise BarsFileError("there is no such table of actions.", file=shown_path(source), advice="Check the path.")
    return read_tables(Path(source), holds="actions: symbol, kind, date, value")[0]


def _values(rows: pl.DataFrame, decimal_comma: bool) -> pl.Series:
    """The column `value` as numbers: -0.3, of a delisting also -30%, with another separator of columns also -0,3."""
    if decimal_comma:
        rows = rows.with_columns(with_points(rows["_text"]))
    plain = pl.col("_text")
    per_cent = (pl.col("kind") == "delisting") & plain.str.contains(PER_CENT)
    number = plain.str.strip_suffix("%").str.strip_chars().cast(pl.Float64, strict=False)
    value = pl.when(per_cent).then(number / 100).otherwise(plain.cast(pl.Float64, strict=False))
    return rows.select(value.alias("value")).to_series()


def _refuse_unsound(row: dict[str, Any], notes: Notes) -> None:
    if row["symbol"] is None:
        notes.refuse(row, "the symbol is missing.", "Fill the cell.", "symbol")
    for name in ("symbol", "into"):
        if (text := row.get(name)) is not None and (fault := symbol_fault(text)):
            notes.refuse(row, f"{fault}.", "Correct the cell.", name, text)
    if row["kind"] not in KINDS:
        notes.refuse(row, "the kind of action is unknown.", did_you_mean(str(row["kind"]), KINDS), "kind", row["kind"])
    fits, words = KINDS[row["kind"]]
    value = row["value"]
    if value is None or not fits(value) or value == float("inf"):
        text = row.get("_text")
        shown = f"{value:g}" if value is not None else repr(text)[:80] if text else "an empty cell"
        found = text if value is None else value
        notes.refuse(row, f"no value of a {row['kind']}.", f"Expected: {words}; got {shown}.", "value", found)


def _first_known(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """One row an action: the version known first; two values that are known together are refused."""
    key = ["symbol", "kind", "date"]
    once = rows.unique([*key, "value", "known_at"], keep="first", maintain_order=True)
    clash = once.filter(once.select(*key, "known_at").is_duplicated())
    if clash.height:
        row = clash.row(1, named=True)
        problem = f"{row['symbol']!r} has two values of its {row['kind']} on {row['date']}."
        notes.refuse(row, problem, "Keep one, or say with known_at which came later.", "value", row["value"])
    first = once.sort("known_at", nulls_last=False, maintain_order=True).unique(key, keep="first", maintain_order=True)
    return first.sort(key)


def misnamed(actions: pl.DataFrame) -> pl.DataFrame:
    """The rows of a table of actions whose symbol is none, or which give one that is none, see `symbol_fault`.

    `read_actions` refuses them; stores of earlier versions may have some.

    >>> given = {"symbol": ["A", "A"], "kind": "symbol_change", "date": ["2024-01-02", "2024-01-03"], "value": 1.0}
    >>> misnamed(read_actions(pl.DataFrame({**given, "into": ["B", "C"]}))).height
    0
    """
    names = pl.concat([actions["symbol"], actions["into"]]).drop_nulls().unique()
    odd = [name for name in names if symbol_fault(name)]
    return actions.filter(pl.any_horizontal(pl.col("symbol", "into").is_in(odd)).fill_null(False))


def recorded_delistings(rows: Sequence[Mapping[str, Any]] | None) -> pl.DataFrame:
    """The delistings that a run has recorded in its scores, as actions; an empty frame where it has none.

    >>> recorded_delistings(None).height
    0
    """
    return read_actions(pl.DataFrame(rows)) if rows else no_actions()


def join_actions(*tables: pl.DataFrame) -> pl.DataFrame:
    """Tables of actions as one. Raises BarsError where two of them say different values of one action.

    >>> split = read_actions(pl.DataFrame({"symbol": ["A"], "date": ["2014-06-09"], "ratio": [7.0]}), kind="split")
    >>> join_actions(split, split).height
    1
    """
    key = ["symbol", "kind", "date"]
    rows = pl.concat([no_actions(), *map(with_terms, tables)]).unique(
        [*key, "value"], keep="first", maintain_order=True
    )
    clash = rows.filter(rows.select(key).is_duplicated())
    if clash.height:
        symbol, kind, day, value = clash.row(0)[:4]
        raise BarsError(
            f"two tables differ in the {kind} of {symbol!r} on {day}: {value:g} and {clash['value'][1]:g}. Keep one."
        )
    return rows.sort(key)


def with_known_at(actions: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Actions with `known_at` filled: a delisting's at its session's close, others' at the start (UTC) of their date.

    `bars` has symbol, time (the close, UTC) and asset_class. The session's close is that of the symbol's bar on the
    date, else that of its class. An action of a symbol without bars is left out.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> table = {"symbol": [bars["symbol"][0]], "date": [bars["time"][-1].date()], "value": [-0.3]}
    >>> ends = with_known_at(read_actions(pl.DataFrame(table), kind="delisting"), bars)
    >>> ends["known_at"][0] == bars["time"][-1]
    True
    """
    own = bars.group_by("symbol", session_date(pl.col("time")).alias("date")).agg(pl.col("time").max().alias("_close"))
    classes = bars.group_by("symbol").agg(pl.col("asset_class").first())
    rows = actions.join(classes, on="symbol", how="inner", maintain_order="left")
    rows = rows.join(own, on=["symbol", "date"], how="left", maintain_order="left")
    usual = pl.lit(None, UTC_TIME)
    for name in rows["asset_class"].unique().sort():
        usual = (
            pl.when(pl.col("asset_class") == name).then(ASSET_CLASSES[name].close_of(pl.col("date"))).otherwise(usual)
        )
    start = pl.col("date").dt.combine(time()).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    default = pl.when(pl.col("kind") == "delisting").then(pl.coalesce("_close", usual)).otherwise(start)
    return with_terms(rows.with_columns(pl.coalesce("known_at", default).alias("known_at")))


def refuse_paid_twice(actions: pl.DataFrame, adjusted: Collection[str] | None) -> None:
    """Raises BarsError for money a share of symbols whose prices are `adjusted` for it; None: those of all are.

    >>> paid = {"symbol": ["A"], "kind": ["dividend"], "date": ["2024-01-05"], "value": [0.5]}
    >>> refuse_paid_twice(read_actions(pl.DataFrame(paid)), ["A"])
    Traceback (most recent call last):
        ...
    gatecast.errors.BarsError: the prices of 'A' are adjusted for dividends, and a table of actions has a dividend of \
0.5 on 2024-01-05: it would be earned twice. Give prices that are not adjusted, or leave the row out.
    """
    money = actions.filter(pl.col("kind").is_in(PAYS), pl.col("kind") != "merger").sort("symbol", "date")
    twice = money if adjusted is None else money.filter(pl.col("symbol").is_in(list(adjusted)))
    for row in twice.iter_rows(named=True):
        raise BarsError(
            f"the prices of {row['symbol']!r} are adjusted for dividends, and a table of actions has a {row['kind']} "
            f"of {row['value']:g} on {row['date']}: it would be earned twice. Give prices that are not adjusted, or "
            "leave the row out."
        )


REPEATED = 3
"""Weekdays between two ordinary dividends of the same amount within which they may be one that two sources date
otherwise. Who pays each week does so five weekdays later, four where a holiday moves the date."""


def told_twice(actions: pl.DataFrame, since: datetime | None = None) -> list[Finding]:
    """A warning for each ordinary dividend that may have been told twice: the same amount a few sessions before.

    Amounts are the same that differ by less than a thousandth, as of rounding. Both are booked. `since`: of dividends
    alone of which one is dated, or became known, since then.

    >>> paid = {"symbol": "A", "kind": "dividend", "date": ["2017-12-20", "2017-12-21"], "value": [1.2, 1.2]}
    >>> [(one.rule, one.symbol, one.value) for one in told_twice(read_actions(pl.DataFrame(paid)))]
    [('dividend_twice', 'A', 1.2)]
    """
    found = []
    ordinary = actions.filter(pl.col("kind") == "dividend").sort("symbol", "date")
    newest = pl.max_horizontal(pl.col("date").cast(UTC_TIME), "known_at")
    ordinary = ordinary.with_columns(_new=True if since is None else newest >= since)
    for (symbol,), own in ordinary.group_by("symbol", maintain_order=True):
        rows = own.select("date", "value", "_new").rows()
        for place, (day, value, new) in enumerate(rows):
            for before, other, was_new in reversed(rows[max(0, place - REPEATED - 2) : place]):
                near = (new or was_new) and sessions_between(before, day, every_day=False) <= REPEATED
                if near and isclose(value, other, rel_tol=1e-3):
                    said = (
                        f"Dividends of {other:g} on {before} and of {value:g} on {day}: both are booked. If they are "
                        "one that two sources date otherwise, take one row out (of a store: gatecast actions remove)."
                    )
                    found.append(Finding("warning", str(symbol), None, "dividend_twice", value, said))
                    break
    return found


def take_delistings(rows: pl.DataFrame, notes: Notes) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows without the column `delisting`, and its values as actions: the last return on the symbol's last row.

    `rows` sorted by symbol and time. Raises BarsFileError for a value on any other row and for one outside -1 to 1.
    """
    if "delisting" not in rows.columns:
        return rows, no_actions()
    last = pl.col("time") == pl.col("time").max().over("symbol")
    stated = rows.with_columns(last.alias("_last")).filter(pl.col("delisting").is_not_null())
    early = stated.filter(~pl.col("_last"))
    if early.height:
        advice = "Leave the cells of all other rows empty, or give the table delisting= (symbol, date, value)."
        problem = "a delisting is the last return, on the symbol's last row alone."
        notes.refuse(early.row(0, named=True), problem, advice, "delisting", early["delisting"][0])
    for row in stated.iter_rows(named=True):
        _refuse_unsound({**row, "kind": "delisting", "value": row["delisting"]}, notes)
    actions = stated.select(
        "symbol",
        pl.lit("delisting").alias("kind"),
        session_date(pl.col("time")).alias("date"),
        pl.col("delisting").alias("value"),
        "known_at",
    )
    return rows.drop("delisting"), actions


def refuse_contradicted(actions: pl.DataFrame, bars: pl.DataFrame, start: date | None = None) -> None:
    """Raises BarsError for a delisting that the symbol's own bars contradict.

    So does a bar within 60 sessions after it, but for those of the first five weekdays, in which last trades are still
    cleared; a delisting before the symbol's first bar (where `start` does not cut these off); and two delistings
    without a bar between them. `bars`: symbol, time (the close, UTC) and asset_class.
    """
    told = actions.filter(pl.col("kind") == "delisting").sort("symbol", "date")
    named = bars.filter(pl.col("symbol").is_in(told["symbol"].unique().implode()))
    for (symbol,), own in named.sort("symbol", "time").group_by("symbol", maintain_order=True):
        rows = told.filter(pl.col("symbol") == symbol)
        sessions = own.select(session_date(pl.col("time"))).to_series().unique().sort()
        days = rows["date"].to_list()
        if start is None and days[0] < sessions[0] - timedelta(days=length_of(own)):
            raise BarsError(
                f"the delisting of {symbol!r} on {days[0]} comes before the symbol's first bar, of {sessions[0]}."
                " Correct the date or the symbol, or leave the row out."
            )
        every_day = ASSET_CLASSES[own["asset_class"][0]].periods_per_year == 365
        for number, day in enumerate(days):
            cleared = cleared_by(day, length_of(own))
            later = sessions.filter(sessions > cleared)
            after = next((session for session in sessions.to_list() if session > day), None)
            if len(later) and sessions_between(day, later[0], every_day) <= LONGEST_HALT:
                raise BarsError(
                    f"{symbol!r} has a delisting on {day}, but trades on: its next bar is that of {after}. A"
                    " delisting is the last return, on the symbol's last session. Correct the date, or leave the row"
                    " out."
                )
            if number + 1 < len(days) and not (len(later) and later[0] <= days[number + 1]):
                raise BarsError(
                    f"{symbol!r} has a delisting on {day} and another on {days[number + 1]}, but no bar between them."
                    " Keep one of them."
                )


def length_of(bars: pl.DataFrame) -> int:
    """Days that a bar of weeks or months reaches back from its session; 0 of a finer one."""
    days = (usual_spacing(bars) or timedelta()).days
    return days if days > 4 else 0


def cleared_by(day: date, length: int) -> date:
    """Until when bars after a delisting clear its last trades: five weekdays, or the bar of `length` days it lies in.

    >>> cleared_by(date(2024, 1, 5), 0), cleared_by(date(2024, 1, 5), 31)
    (datetime.date(2024, 1, 12), datetime.date(2024, 2, 5))
    """
    return day + timedelta(days=max(7, length))


def sessions_between(day: date, later: date, every_day: bool) -> int:
    """Sessions after a day up to a later one: weekdays, or all days of a market that never closes."""
    return (later - day).days if every_day else int(np.busday_count(day + timedelta(days=1), later + timedelta(days=1)))
