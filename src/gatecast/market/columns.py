"""A vendor's columns as ours: names in any spelling, numbers in any notation, symbols as text."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock
from zoneinfo import ZoneInfo

import polars as pl

from gatecast.errors import BarsFileError, cut, symbol_fault
from gatecast.market.bars import PRICES
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import Notes, Table, Wish

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "<na>")
TIMES = {"time", "open_time", "close_time"}
DATES = ("date", "trade_date", "trading_date", "dtyyyymmdd", "day", "dt")  # beside which a column time is a clock
EARLIEST, LATEST = date(1900, 1, 1), date(2200, 12, 31)  # no bar is older or newer
MARKS = ("traded", "suspended")
PER_CENT = r"^[+-]?[\d.,]+(e[+-]?\d+)?\s*%$"  # a number with its sign
YES_AND_NO = {"true": 1.0, "yes": 1.0, "t": 1.0, "y": 1.0, "false": 0.0, "no": 0.0, "f": 0.0, "n": 0.0}


def name_columns(table: Table) -> tuple[pl.DataFrame, bool]:
    """The frame under our names (the keys of SPELLINGS, `_clock` for a time of day beside a date), others in
    snake case; and whether it has closes alone, which then are open, high and low, too.

    Columns without a name are dropped, but the first may hold the time if nothing else does.
    """
    frame = table.frame
    spelt = {name: snake(name) for name in frame.columns}
    unnamed = [name for name in spelt if re.fullmatch(r"(unnamed_?\d*|index|level_0|)", spelt[name])]
    ours: dict[str, str] = {}
    for meaning, spellings in SPELLINGS.items():
        present = [spelling for spelling in spellings if spelling in spelt.values()]
        if present:
            first, *others = [name for name in spelt if spelt[name] == present[0]]
            if others:
                raise BarsFileError(
                    f"the columns {first!r} and {others[0]!r} mean the same.",
                    file=table.file,
                    column=others[0],
                    advice="Keep one of them.",
                )
            ours[meaning] = first
    dates = [name for meaning in DATES for name in spelt if spelt[name] == meaning]
    if dates and "time" in ours and spelt[ours["time"]] == "time":
        clock = _clock_of(frame[ours["time"]])
        if clock is not None:
            ours["_clock"], ours["time"] = ours["time"], dates[0]
            frame = frame.with_columns(clock.alias(ours["_clock"]))
    if not TIMES & set(ours) and unnamed:
        ours["time"] = unnamed[0]

    names = {original: meaning for meaning, original in ours.items()}
    for name in frame.columns:
        if name not in names and name not in unnamed:
            free = spelt[name] or "column"
            while free in names.values() or free in SPELLINGS:
                free += "_"
            names[name] = free
    frame = _with_mid_prices(frame.select(list(names)).rename(names))
    lacking = [name for name in PRICES if name not in frame.columns]
    alone = lacking == ["open", "high", "low"] and bool(TIMES & set(frame.columns))
    if alone:
        return frame.with_columns(pl.col("close").alias(name) for name in lacking), True
    if not TIMES & set(frame.columns):
        lacking.insert(0, "time")
    if lacking:
        have = ", ".join(repr(cut(name, 40)) for name in table.frame.columns[:30])
        raise BarsFileError(
            f"no column for {', '.join(lacking)}; found: {have}.",
            file=table.file,
            line=max(table.first_line - 1, 1) if table.file else None,
            advice="Bars need a time, open, high, low and close (or a time and the close alone): rename the columns.",
        )
    return frame, False


def wish_of(
    schema: Mapping[str, pl.DataType],
    symbol: str,
    symbols: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    columns: Sequence[str] | None = None,
) -> Wish | None:
    """What of a Parquet file is wanted, so that it is read and the rest is not; None where it has none of `symbols`.

    `symbol` is what the file stands for if no column says. `columns` are further ones to keep (None: all), `first` and
    `last` session dates; of time columns that hold dates or times rows up to a year before and a week after stay, since
    a stamp may be the first day of the bar's year. What is not certain stays.
    """
    spelt = {name: snake(name) for name in schema}

    def column_of(meaning: str) -> str | None:
        named = (name for spelling in SPELLINGS[meaning] for name in spelt if spelt[name] == spelling)
        return next(named, None)

    known = {spelling for group in SPELLINGS.values() for spelling in group}
    kept = [
        name for name in schema
        if columns is None or name in columns or spelt[name] in (*columns, *known)
        or re.match(r"(unnamed|index|level_0|bid_|ask_|$)", spelt[name])
    ]  # fmt: skip
    conditions = []
    by = column_of("symbol")
    if symbols is not None and by is None and symbol not in symbols:
        return None
    by = None if symbols is None or by is None or schema[by] != pl.String else by
    if by is not None:
        conditions.append(pl.col(by).is_in(list(symbols or ())) | pl.col(by).is_null())
    time = column_of("close_time") or column_of("time") or column_of("open_time")
    kind = schema[time] if time else None
    if time and (kind == pl.Date or isinstance(kind, pl.Datetime)):
        for day, margin, sign in ((first, -370, 1), (last, 7, -1)):
            if day is not None and EARLIEST < day < LATEST:
                zone = ZoneInfo(kind.time_zone) if isinstance(kind, pl.Datetime) and kind.time_zone else None
                bound = datetime.combine(day, clock(), zone) + timedelta(days=margin)
                limit = pl.lit(bound.date() if kind == pl.Date else bound).cast(kind)
                conditions.append(
                    (pl.col(time) >= limit if sign > 0 else pl.col(time) <= limit) | pl.col(time).is_null()
                )
    rows = pl.all_horizontal(conditions) if len(conditions) > 1 else conditions[0] if conditions else None
    return Wish(kept, rows, by)


def _clock_of(values: pl.Series) -> pl.Series | None:
    """A column of times of day as text such as 09:30:00, or None where it holds something else.

    A vendor may write 093000 or 0930, as text or as a whole number.
    """
    if values.dtype == pl.Time:
        return values.cast(pl.String)
    if values.dtype.is_integer():
        digits = 6 if (values.max() or 0) >= 10_000 else 4  # type: ignore[operator]
        text = values.cast(pl.String).str.zfill(digits)
    elif values.dtype == pl.String:
        text = values.str.strip_chars()
    else:
        return None
    shown = text.drop_nulls()
    if bool(shown.str.contains(r"^\d{1,2}:\d{2}").all()):
        return text
    if not bool(shown.str.contains(r"^(\d{4}|\d{6})$").all()):
        return None
    whole = text.str.pad_end(6, "0")
    return whole.str.replace(r"^(\d\d)(\d\d)(\d\d)$", "$1:$2:$3")


def _with_mid_prices(frame: pl.DataFrame) -> pl.DataFrame:
    """Prices half-way between bid and ask, where these are all there is."""
    sides = {f"{side}_{part}" for side in ("bid", "ask") for part in PRICES}
    if not sides <= set(frame.columns) or set(PRICES) & set(frame.columns):
        return frame
    mids = [(pl.col(f"bid_{part}", f"ask_{part}").cast(pl.Float64, strict=False)) for part in PRICES]
    return frame.with_columns(
        pl.mean_horizontal(mid, ignore_nulls=False).alias(part) for part, mid in zip(PRICES, mids, strict=True)
    ).drop(*sides, "bid_size", "ask_size", strict=False)


def to_numbers(frame: pl.DataFrame, table: Table, notes: Notes, needed: Container[str] = ()) -> pl.DataFrame:
    """Prices, volume and all further numbers as Float64 (NaN is null); other columns of text are dropped.

    A further column of numbers that some cell makes text is dropped with a finding that shows the cell, and refused
    where it is `needed`. One whose cells are all per cent is read as fractions, one with decimal commas as the prices
    are. Marks of sessions without trade (true, yes, 1) are 1 and 0; a column of mostly other numbers holds amounts.
    """
    ours = [name for name in (*PRICES, "adjusted_close", "volume", "delisting") if name in frame.columns]
    for name in (name for name in MARKS if name in frame.columns):
        mark = pl.col(name).cast(pl.String).str.to_lowercase()
        number = mark.replace_strict(YES_AND_NO, default=mark.cast(pl.Float64, strict=False), return_dtype=pl.Float64)
        shown = frame.select("_table", "_line", text=mark.str.strip_chars(), number=number)
        given = shown.filter(~pl.col("text").is_in(MISSING))
        known = given.filter(pl.col("number").is_in([0.0, 1.0]))
        if given.is_empty() or (known.is_empty() and given["number"].null_count() == len(given)):
            frame = frame.drop(name)  # words of another meaning
        elif len(known) < len(given) and not (given["number"].null_count() == 0 and 2 * len(known) < len(given)):
            row = given.filter(~pl.col("number").is_in([0.0, 1.0]).fill_null(False)).row(0, named=True)
            notes.refuse(row, "no mark.", "Expected 1, true or yes, or 0, false or no.", name, row["text"])
        else:
            frame = frame.with_columns(number.alias(name))
    further = [name for name in frame.columns if name not in SPELLINGS and not name.startswith("_")]
    texts = [name for name in (*ours, *further) if frame.schema[name] == pl.String]
    if texts:
        cells = pl.col(texts)
        frame = frame.with_columns(pl.when(~cells.str.to_lowercase().is_in(MISSING)).then(cells))
        frame = _without_commas(frame, table, [name for name in texts if name in ours], notes)
        signs = [name for name in texts if name == "delisting" or name not in ours]
        frame = _without_signs(frame, table, signs, notes)
    for name in texts:
        number = _volume_number() if name == "volume" else pl.col(name).cast(pl.Float64, strict=False)
        parsed = frame.select("_line", "_table", pl.col(name).alias("text"), number.alias("number"))
        bad = parsed.filter(pl.col("number").is_null() & pl.col("text").is_not_null())
        if bad.height and name in ours:
            row = bad.row(0, named=True)
            notes.refuse(row, "not a number.", "Correct or empty the cell.", name, row["text"])
        if bad.height:
            _tell_text(frame, name, parsed, bad, notes, name in needed)
        frame = frame.drop(name) if bad.height else frame.with_columns(parsed["number"].alias(name))
    for name, kind in frame.select(*ours, pl.col(r"^.*$").exclude(*ours)).schema.items():
        if name in ours and not (kind.is_numeric() or kind == pl.Null):
            notes.refuse(frame.row(0, named=True), f"the column holds {kind}.", "Convert it to numbers.", name)
        if name in further and not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            if name in needed and frame.height:
                row = frame.row(0, named=True)
                notes.refuse(row, f"the column holds {kind}, no numbers.", "Convert it, or leave it out.", name)
            frame = frame.drop(name)
    lacking = [name for name in ("adjusted_close", "volume") if name not in frame.columns]
    frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in lacking)
    floats = [name for name in (*ours, *further, *MARKS) if name in frame.columns]
    return frame.with_columns(pl.col(floats).cast(pl.Float64).fill_nan(None))


def _tell_text(
    frame: pl.DataFrame, name: str, parsed: pl.DataFrame, bad: pl.DataFrame, notes: Notes, needed: bool
) -> None:
    """A finding, or where the column is `needed` a refusal, at the first cell of a further column that is text.

    Nothing is said of a column most of whose cells are text: it was never one of numbers.
    """
    cell = bad.row(0, named=True)
    numbers = len(parsed) - parsed["number"].null_count()
    words = f"{bad.height} cell(s) of the column {name!r} are text, the first {cell['text'][:40]!r}"
    if needed:
        advice = "Correct or empty the cell, or leave the column out."
        notes.refuse(cell, f"the column is asked for, but {words}.", advice, name, cell["text"])
    if numbers > bad.height:
        row = frame.select("symbol", "_table", "_line").row(parsed["text"].eq(cell["text"]).arg_max() or 0, named=True)
        advice = f"{words}: the whole column is left out. Correct or empty the cell."
        notes.add("warning", "column_dropped", row, cell["text"], advice)


def _without_signs(frame: pl.DataFrame, table: Table, names: Sequence[str], notes: Notes) -> pl.DataFrame:
    """Further columns `names` of text with decimal commas, or per cent in every cell, as text of plain numbers."""
    for name in names:
        cells = frame[name]
        cells = with_points(cells) if table.decimal_comma else cells
        shown = cells.drop_nulls()
        if len(shown) and shown.str.contains(PER_CENT).all():
            number = cells.str.strip_suffix("%").str.strip_chars().cast(pl.Float64, strict=False) / 100
            if number.null_count() == cells.null_count():
                cells = number.cast(pl.String)
                rows = frame.filter(cells.is_not_null())
                advice = f"Cells of the column {name!r} are per cent, and read as fractions: 15% is 0.15."
                notes.add_counts("info", "per_cent", rows, advice)
        frame = frame.with_columns(cells.alias(name))
    return frame


def with_points(cells: pl.Series) -> pl.Series:
    """A column of text whose numbers have decimal commas with points; any other column as it is.

    All cells must be numbers, and some comma must be one that cannot separate thousands.

    >>> with_points(pl.Series(["-0,3", "1"])).to_list(), with_points(pl.Series(["1,000"])).to_list()
    (['-0.3', '1'], ['1,000'])
    """
    shown = cells.drop_nulls()
    numbers = shown.str.contains(r"^[+-]?\d*(,\d+)?\s*%?$")
    decimal = shown.str.contains(",", literal=True) & ~shown.str.contains(r"^[+-]?[1-9]\d{0,2},\d{3}\s*%?$")
    return cells.str.replace(",", ".", literal=True) if numbers.all() and decimal.any() else cells


def without_nested(frame: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Columns of lists, bytes and Python objects are dropped, or refused where bars need them."""
    for name, kind in frame.schema.items():
        if kind.is_nested() or kind in (pl.Object, pl.Binary):
            if name in SPELLINGS and frame.height:
                row = frame.select("_table", "_line").row(0, named=True)
                notes.refuse(row, f"the column holds {kind}.", "Convert it to numbers, text or times.", name)
            frame = frame.drop(name)
    return frame


def _volume_number() -> pl.Expr:
    """Volume may be written as 1.2M."""
    text = pl.col("volume")
    powers = {"k": 1e3, "m": 1e6, "b": 1e9}
    unit = text.str.extract(r"[0-9.]\s*([kKmMbB])$").str.to_lowercase()
    power = unit.replace_strict(powers, default=1.0, return_dtype=pl.Float64)
    return text.str.replace(r"\s*[kKmMbB]$", "").cast(pl.Float64, strict=False) * power


def _without_commas(frame: pl.DataFrame, table: Table, names: list[str], notes: Notes) -> pl.DataFrame:
    """Numbers with decimal commas or thousands separators as plain ones: one notation for the whole file."""
    prices = [frame.select("_table", "_line", text=pl.col(name)) for name in names if name != "volume"]
    text, cells = pl.col("text"), pl.col(names)
    all_prices = pl.concat(prices) if prices else frame.select("_table", "_line", text=pl.lit(""))
    commas = all_prices.filter(text.str.contains(",", literal=True))
    grouped = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
    decimal = commas.filter(~text.str.contains(grouped))
    if decimal.height:
        certain = commas.filter(text.str.contains(r",.*[,.]"))
        if certain.height or not table.decimal_comma:
            row = decimal.row(0, named=True)
            notes.refuse(
                row, "the comma is neither a thousands separator nor a decimal point in all rows.",
                "Write numbers with a decimal point and without commas.", value=row["text"],
            )  # fmt: skip
        return frame.with_columns(cells.str.replace_all(".", "", literal=True).str.replace(",", "."))
    if commas.height and not all_prices.select(text.str.contains(".", literal=True).any()).item():
        row = commas.row(0, named=True)
        notes.refuse(
            row, "the comma may be a decimal point or a thousands separator.",
            "Write numbers with a decimal point and without commas.", value=row["text"],
        )  # fmt: skip
    plain = cells.str.replace_all(",", "", literal=True)
    return frame.with_columns(pl.when(cells.str.contains(grouped)).then(plain).otherwise(cells)) if names else frame


def fill_symbols(frame: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Symbols as text; empty cells are filled where the file has one symbol only."""
    frame = frame.with_columns(pl.col("symbol").cast(pl.String))
    names = frame["symbol"].drop_nulls().unique().to_list()
    empty = frame.filter(pl.col("symbol").is_null())
    if empty.height and len(names) != 1:
        problem = "the symbol is empty, and the file has several." if names else "no row has a symbol."
        advice = "Fill the column." if names else "Fill the column, or leave it out."
        notes.refuse(empty.row(0, named=True), problem, advice, "symbol")
    for name in names:
        if fault := symbol_fault(name):
            row = frame.filter(pl.col("symbol") == name).row(0, named=True)
            notes.refuse(row, f"{fault}.", "Correct it.", "symbol", name)
    if empty.height:
        frame = frame.with_columns(pl.col("symbol").fill_null(names[0]))
        filled = empty.with_columns(pl.lit(names[0]).alias("symbol"))
        notes.add_counts("warning", "symbol_filled", filled, "Empty cells were given the file's only symbol.")
    return frame
