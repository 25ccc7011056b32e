"""Bars from files and frames: every vendor's table becomes the one Bars frame, or is refused with the place.

The way through is `read_with_findings`, top to bottom. Rows that cannot be bars are left out and listed,
never changed in silence; what cannot be known from the file is asked for, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import polars as pl

from gatecast.arguments import checked, takes
from gatecast.errors import BarsError, BarsFileError, SettingsError, cut, did_you_mean, symbol_fault
from gatecast.libraries import without_matplotlib
from gatecast.market import feeds as feeds  # whose vendors are found by name
from gatecast.market.actions import (
    LEVELS,
    join_actions,
    no_actions,
    read_actions,
    read_splits,
    refuse_contradicted,
    refuse_paid_twice,
    take_delistings,
    told_twice,
    with_known_at,
)
from gatecast.market.bars import (
    COLUMNS,
    PRICES,
    UTC_TIME,
    WEEKEND_SHARE,
    Finding,
    compare_levels,
    make_bars,
    session_date,
    without_idle,
)
from gatecast.market.bars import resample as resample_bars
from gatecast.market.calendar import OLDEST_SESSIONS, fill_times
from gatecast.market.classes import ASSET_CLASSES, CURRENCY, AssetClass, looks_like_another
from gatecast.market.classes import asset_class as class_named
from gatecast.market.cleaning import (
    BAD_MIN,
    BAD_SHARE,
    adjust,
    look_over,
    quarantine,
    refuse_mixed_spacing,
    refuse_splits,
    tell_ends,
    widen,
    without_repeats,
)
from gatecast.market.columns import MARKS, fill_symbols, name_columns, to_numbers, wish_of, without_nested
from gatecast.market.frames import read_frame
from gatecast.market.given import Currencies, refuse_above_price, with_ends
from gatecast.market.known import OWN, SUFFIX, check_known, join_known, parse_known, take_known
from gatecast.market.reading import BarsSettings, as_utc
from gatecast.market.sessions import calendar_of
from gatecast.market.spellings import SPELLINGS, snake
from gatecast.market.tables import Choose, Notes, Table, Wish, find_files, is_file, read_tables, shown_path
from gatecast.market.times import check_zone, close_times, read_times, within_reach
from gatecast.market.universe import read_universe, with_universe
from gatecast.market.vendors import fetched, vendor_of

Source = Any  # a path, paths, a folder, a glob, "embedded", "VENDOR:request", or a pandas or Polars frame
ActionsTable = str | Path | pl.DataFrame | Any | None
"""A file, or a frame of Polars or pandas."""
Splits = ActionsTable | Literal[False]
CLASS_RULES = {"file": "symbols file", "column": "column", "given": "given default", "built-in": "built-in default"}
"""Where a symbol's asset class may come from, in words."""
NEWEST_EMPTY = "newest_without_price"
LEFT_OUT = (
    NEWEST_EMPTY, "unfinished", "missing_price", "not_finite", "non_positive", "out_of_bounds", "high_below_low",
    "outside_range", "spike", "bad_volume",
)  # fmt: skip
"""Rules of findings about rows that were left out."""
OF_SYMBOLS = ("symbol", "asset_class", "close", "calendar", "currency")
"""Columns of a symbols file; it needs the first two."""
PRICED = ("symbol", "asset_class", "time", "close")
"""Columns of bars by which what actions give is priced."""
MOST_NAMED = 20  # symbols whose actions do not apply, named one by one


@dataclass(frozen=True)
class Reading:
    """Bars, and what was done to the rows on the way: left out, filled, adjusted, widened.

    `actions`: as `gatecast.market.actions.read_actions` gives them, with `known_at` filled; a merger and a change of
    symbol are delistings as well.
    `classes`: symbol, asset_class, rule (in words, where the class came from), calendar (`market.sessions`) and
    currency, null where the symbols file says none.
    """

    bars: pl.DataFrame
    findings: tuple[Finding, ...]
    actions: pl.DataFrame = field(default_factory=no_actions)
    classes: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema=dict.fromkeys(("symbol", "asset_class", "rule", "calendar", "currency"), pl.String)
        )
    )

    @property
    def calendars(self) -> dict[str, str]:
        """symbol -> calendar, of the symbols for which the symbols file names another than their class's."""
        rows = self.classes.select("symbol", "asset_class", "calendar").iter_rows()
        return {symbol: calendar for symbol, name, calendar in rows if calendar != ASSET_CLASSES[name].calendar}

    @property
    def currencies(self) -> dict[str, str]:
        """symbol -> currency of its prices, of the symbols for which the symbols file names one."""
        return dict(self.classes.filter(pl.col("currency").is_not_null()).select("symbol", "currency").iter_rows())


IN_MEMORY = ("source", "frame", "splits", "actions", "delisting")
"""Settings of bars that arguments of `read_bars` stand for, since they may be frames."""


@checked(error=BarsError)
@takes(BarsSettings, without=IN_MEMORY)
def read_bars(
    source: Source,
    *,
    splits: Splits = None,
    actions: ActionsTable = None,
    delisting: ActionsTable = None,
    now: datetime | None = None,
    **options: Any,
) -> pl.DataFrame:
    """The Bars frame (Polars, see `gatecast.market.bars`) of a source.

    - source: a CSV, CSV.GZ or Parquet file, a list of them, a folder (also partitioned as `symbol=AAPL/`), a
      glob, a pandas or Polars frame, "embedded" (S&P 500 and NASDAQ, daily 1999-2018: SP500, NASDAQ),
      "VENDOR:request" of a vendor of one's own (see `gatecast.market.vendors`), or a `BarsSettings`, whose options are
      changed by those given here.
    - splits: a table (CSV, Parquet, frame) of symbol, date, ratio (2 = two for one from that session on,
      1 = a true move) of splits that the prices do not contain; False: every step is a true move.
    - actions: a table of symbol, kind (split, unit, delisting, dividend, special_dividend, return_of_capital, rights,
      spin_off, merger or symbol_change), date, value and, if wanted, known_at, pay_date, into, ratio. delisting: a
      table of symbol, date, value (the last return, such as -0.3). See `gatecast.market.actions`.
    - now: bars that close after it (a time with a zone) are left out as unfinished (default: the computer's clock).

    Of versions and columns with a `known_at` of their own, each row has the latest value that was known by its fill,
    see `gatecast.market.known`. Parquet is scanned: of a file, or of a folder partitioned as
    `asset_class=equity/symbol=AAPL/` or by one of the two, only the symbols, sessions and columns that are asked for
    are read.

    An adjusted close scales all four prices. Bars that cannot be true are left out and listed by
    `read_with_findings`; a symbol with more than 5 % of them is refused.

    Raises BarsError, or BarsFileError with file, line, column, value and what to do.

    >>> bars = read_bars("embedded", symbols="SP500", start="2018-12-28")
    >>> [(symbol, f"{time:%Y-%m-%d %H:%M}", close) for symbol, time, close in
    ...  bars.select("symbol", "time", "close").iter_rows()]
    [('SP500', '2018-12-28 21:00', 2485.73999), ('SP500', '2018-12-31 21:00', 2506.850098)]
    """
    return read_with_findings(source, splits=splits, actions=actions, delisting=delisting, now=now, **options).bars


@checked(error=BarsError)
@takes(BarsSettings, without=IN_MEMORY)
def read_with_findings(
    source: Source,
    *,
    splits: Splits = None,
    actions: ActionsTable = None,
    delisting: ActionsTable = None,
    now: datetime | None = None,
    reference: pl.DataFrame | None = None,
    sealed: str | date | None = None,
    lengths: Mapping[str, timedelta] | None = None,
    before: pl.DataFrame | None = None,
    currencies: Currencies | None = None,
    **options: Any,
) -> Reading:
    """As `read_bars`, with the list of what was left out, filled, adjusted or widened on the way, and the actions.

    `sealed` is the first session of a hold-out: nothing is read that became known in it or later, be it a row, a
    version of a row, a column's value or an action. `reference` is a second Bars frame whose closes are compared
    (`gatecast.market.bars.compare_levels`). `lengths`: symbol -> usual spacing of the bars that these go on from, where
    there are some: a few rows do not say how long they are. `before`: raw bars (symbol, asset_class, time, close) that
    price, beside these, what actions give. `currencies`: of prices, over those of the symbols file. What is odd in the
    bars that were kept is told by
    `gatecast.market.bars.findings`.
    """
    settings = _settings_of(source, options)
    if isinstance(source, BarsSettings):
        source = source.source if source.frame is None else source.frame
    splits, actions, delisting = (
        getattr(settings, name) if given is None else given
        for name, given in (("splits", splits), ("actions", actions), ("delisting", delisting))
    )
    wanted: Sequence[str] | None = settings.symbols
    start, end, columns = settings.start, settings.end, settings.columns
    now = None if now is None else as_utc(now, "now")
    check_zone(settings.timezone)
    class_named(settings.asset_class or "equity")
    if wanted is not None and not wanted:
        raise BarsError("symbols is an empty list: name at least one symbol, or leave symbols out to read all.")
    classes, told_currencies = _read_classes(settings.symbols_file)
    delays = check_known(settings.known_at)
    moment = None if settings.as_of is None else _as_moment(settings.as_of)
    seal = None if sealed is None else _as_date(sealed, "sealed")

    first, last = (None if day is None else _as_date(day, name) for day, name in ((start, "start"), (end, "end")))
    kept = None if columns is None else [*columns, *(f"{name}{SUFFIX}" for name in columns), *delays, *delays.values()]
    whole = partial(wish_of, columns=kept)
    chosen = partial(whole, symbols=wanted, first=first, last=last)

    source = fetched(source, wanted, first, last)

    def read(choose: Choose) -> tuple[pl.DataFrame, Notes] | None:
        tables = _load(source, settings.header, wanted, choose)
        notes = Notes(tuple(table.file for table in tables))
        rows = [_read_rows(table, n, settings, delays, notes, lengths) for n, table in enumerate(tables)]
        return (_join_files(pl.concat(rows, how="diagonal_relaxed"), tables, wanted, notes), notes) if rows else None

    found = read(chosen)
    if found is None or not set(wanted or ()) <= set(found[0]["symbol"].unique()):
        found = read(whole)  # what is missing may be spelt otherwise, and the message names what there is
    if found is None:
        raise BarsError("the source has no rows: give a file with bars.")
    rows, notes = found
    rows = _choose_symbols(rows, wanted, len(notes.files) > 1)
    listed = join_actions(
        read_splits(splits),
        read_actions(delisting, "delisting") if delisting is not None else no_actions(),
        read_actions(actions) if actions is not None else no_actions(),
    )
    listed = _listed_here(listed, found[0]["symbol"].unique().to_list(), wanted, now, notes)
    rows, told = _classify(rows, classes, settings.asset_class, end, notes)
    rows = close_times(rows, notes, lengths)
    rows = _cut(rows, start, end, moment, seal, now, notes)
    order = rows.columns
    rows = look_over(
        rows,
        [name for name in order if name not in SPELLINGS and name in (order if columns is None else columns)],
        notes,
    )
    rows, events = take_known(rows, delays, as_of=moment, sealed=seal)
    rows = without_repeats(rows, notes, settings.versions if moment is None else "newest")
    rows = join_known(rows, events, order)
    if columns is not None:
        unknown = next((name for name in columns if name not in rows.columns), None)
        if unknown is not None:
            have = [name for name in rows.columns if name[0] != "_" and name not in SPELLINGS]
            advice = did_you_mean(unknown, have) if have else "It has none."
            raise BarsError(f"columns names {unknown!r}, which is no further column of numbers of the source. {advice}")
        rows = rows.drop({name for name in rows.columns if name[0] != "_"} - {*columns, *SPELLINGS})
    rows, ends = take_delistings(rows, notes)
    listed = with_known_at(join_actions(listed, ends), rows)
    priced_in, priced = (currencies or Currencies()).after(told_currencies), rows.select(PRICED)
    if before is not None:
        priced = pl.concat([priced, before.select(PRICED)]).unique(["symbol", "time"], keep="first")
    listed = with_ends(_actions_within(listed, last, moment, seal, now, notes), priced, priced_in)
    notes.findings.extend(told_twice(listed))
    refuse_contradicted(listed, rows, first)
    refuse_above_price(listed, priced, priced_in)
    refuse_mixed_spacing(rows, notes)
    rows = quarantine(rows, notes)
    applied = listed.filter(pl.col("kind").is_in(LEVELS))
    rows = adjust(rows, applied, notes)
    scaled = {str(one.symbol) for one in notes.findings if one.rule == "adjusted"}
    refuse_paid_twice(listed, None if settings.adjusted else scaled)
    if splits is not False:
        refuse_splits(rows, applied, notes)
    rows = widen(rows, notes)
    rows = _without_idle(rows, notes)
    tell_ends(rows, [name for name in order if name not in SPELLINGS and name in rows.columns], notes)
    if columns is not None:
        rows = rows.drop(set(MARKS) - set(columns), strict=False)
    bars = make_bars(rows.drop("_table", "_line", "adjusted_close"))
    if settings.resample is not None:
        bars = resample_bars(bars, settings.resample)
        if bars.is_empty():
            raise BarsError(f"no period of resample={settings.resample!r} is over in these bars: give a shorter one.")
    bars = bars if settings.universe is None else with_universe(bars, read_universe(settings.universe))
    compared = compare_levels(bars, reference) if reference is not None else []
    told = told.filter(pl.col("symbol").is_in(bars["symbol"].unique().implode()))
    own_currency = pl.col("symbol").replace_strict(told_currencies, default=None, return_dtype=pl.String)
    told = told.with_columns(currency=own_currency)
    return Reading(bars, (*notes.findings, *_late(bars), *_guesses(told), *compared), listed, told)


def _settings_of(source: Source, options: dict[str, Any]) -> BarsSettings:
    """The options given, over those of a `BarsSettings` given as source. Raises BarsError for what they may not be."""
    try:
        return source.replace(**options) if isinstance(source, BarsSettings) else BarsSettings(**options)
    except SettingsError as error:
        raise BarsError(str(error).removeprefix(f"{BarsSettings.__name__}: ")) from None


def _listed_here(
    actions: pl.DataFrame, known: Sequence[str], wanted: Sequence[str] | None, now: datetime | None, notes: Notes
) -> pl.DataFrame:
    """Actions dated up to now, of symbols that the source has; the others are findings.

    Where only some symbols are `wanted`, nothing is told of others, but for another spelling of one of them.
    """
    today = session_date(pl.lit(now or datetime.now(UTC)).cast(UTC_TIME))
    unmatched = actions.filter(~pl.col("symbol").is_in(list(known)))
    if wanted is not None:
        spelt = [name.lower() for name in wanted]
        unmatched = unmatched.filter(pl.col("symbol").str.to_lowercase().is_in(spelt))
    names = unmatched["symbol"].unique(maintain_order=True).to_list()
    for name in names[:MOST_NAMED]:
        row = unmatched.filter(pl.col("symbol") == name).row(0, named=True)
        advice = f"A {row['kind']} on {row['date']} of a symbol without bars: not applied. {_meant(name, known)}"
        notes.findings.append(Finding("warning", name, None, "action_unmatched", row["value"], advice))
    if names[MOST_NAMED:]:
        advice = f"Actions of as many further symbols without bars are not applied, the first {names[MOST_NAMED]!r}."
        notes.findings.append(Finding("warning", None, None, "action_unmatched", len(names) - MOST_NAMED, advice))
    actions = actions.filter(pl.col("symbol").is_in(list(known)))
    for row in actions.filter(pl.col("date") > today).iter_rows(named=True):
        advice = f"A {row['kind']} dated {row['date']}, which has not come yet: not applied. Correct the date, or wait."
        notes.findings.append(Finding("warning", row["symbol"], None, "action_to_come", row["value"], advice))
    return actions.filter(pl.col("date") <= today)


def _actions_within(
    actions: pl.DataFrame,
    end: date | None,
    as_of: datetime | None,
    sealed: date | None,
    now: datetime | None,
    notes: Notes,
) -> pl.DataFrame:
    """Actions (`known_at` filled) of the bounds within which bars are read: neither dated nor known beyond any of them.

    A delisting is booked at the later of both, so that one beyond a bound would be booked after the last bar. Prices
    show a split on its date, so that `end` asks only for that. A delisting that is known after now is a finding.
    """
    known, ends = session_date(pl.col("known_at")), pl.col("kind") == "delisting"
    late = actions.filter(ends & (pl.col("known_at") > (now or datetime.now(UTC))))
    for row in late.iter_rows(named=True):
        moment = f"{row['known_at']:%Y-%m-%d %H:%M} UTC"
        advice = f"A delisting of {row['date']}, known at {moment}, which has not come yet: not applied."
        notes.findings.append(Finding("warning", row["symbol"], None, "action_to_come", row["value"], advice))
    kept = actions.join(late, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
    if end is not None:
        kept = kept.filter(pl.col("date") <= end, ~ends | (known <= end))
    if as_of is not None:
        last = session_date(pl.lit(as_of).cast(UTC_TIME))
        kept = kept.filter(pl.col("date") <= last, pl.col("known_at") <= as_of)
    if sealed is not None:
        kept = kept.filter(pl.col("date") < sealed, known < sealed)
    return kept


def _meant(symbol: str, known: Sequence[str]) -> str:
    same = [name for name in known if name.lower() == symbol.lower()]
    if same:
        return f"Did you mean {same[0]!r}?"
    advice = did_you_mean(symbol, known)
    return (
        advice if len(known) <= MOST_NAMED or advice.startswith("Did") else "Correct the symbol, or leave the row out."
    )


def _without_idle(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Rows of sessions in which something was traded; one finding for each symbol that had others."""
    kept, counts = without_idle(rows)
    left = set(kept["symbol"].unique())
    counts = counts.rename({"first": "time", "last": "_last", "bars": "_bars"})
    starts = rows.join(counts, on=["symbol", "time"], how="inner", maintain_order="left")
    for row in starts.iter_rows(named=True):
        span = f"{row['time']:%Y-%m-%d} to {row['_last']:%Y-%m-%d}"
        if row["symbol"] in left:
            advice = f"Sessions without a trade, {span}: no observations, neither learned from nor scored."
        else:
            advice = f"Nothing was traded, {span}: the symbol is left out."
        notes.add("warning", "no_trade", row, row["_bars"], advice)
    if kept.is_empty():
        raise BarsError(
            f"nothing was traded: no price of {len(counts)} symbol(s) moves and no volume is above 0 in"
            f" {counts['_bars'].sum()} bars. There is nothing to forecast; give another file or other symbols."
        )
    return kept


def _late(bars: pl.DataFrame) -> list[Finding]:
    """Symbols with bars that are known only after their fill, with their number."""
    rows = bars.with_columns(fill_times(bars).alias("_fill")).filter(pl.col("known_at") > pl.col("_fill"))
    counted = rows.group_by("symbol", maintain_order=True).agg(pl.col("time").first(), pl.len())
    advice = (
        "Bars known only after their next fill: a forecast at such a close is made from the bars known by then, if the"
        f" newest is at most {OLDEST_SESSIONS} sessions old; else there is none."
    )
    return [Finding("warning", symbol, at, "late", count, advice) for symbol, at, count in counted.iter_rows()]


def _guesses(classes: pl.DataFrame) -> list[Finding]:
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


def _load(source: Source, header: Sequence[str] | None, wanted: Sequence[str] | None, choose: Choose) -> list[Table]:
    if isinstance(source, list | tuple):
        if not source:
            raise BarsError("the list of sources is empty: give at least one file.")
        if any(isinstance(one, list | tuple) for one in source):
            raise BarsError("the list of sources has a list in it: give one list of files or frames.")
        single = wanted if len(source) == 1 else None
        return [table for one in source for table in _load(one, header, single, choose)]
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
    with without_matplotlib():
        from arch.data import nasdaq, sp500

    tables = []
    for symbol, load in (("SP500", sp500.load), ("NASDAQ", nasdaq.load)):
        (table,) = read_frame(load())
        frame = table.frame.drop("Adj Close").with_columns(pl.lit("index").alias("asset_class"))
        tables.append(replace(table, frame=frame, symbol=symbol))
    return tables


def _read_rows(
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
    for table in _load(source, None, None, only_symbols):
        for name in table.frame.columns:
            if snake(name) in SPELLINGS["symbol"]:
                found |= set(table.frame[name].cast(pl.String).str.strip_chars().drop_nulls().unique())
                break
    return sorted(found - {""})


def _join_files(
    rows: pl.DataFrame, tables: Sequence[Table], wanted: Sequence[str] | None, notes: Notes
) -> pl.DataFrame:
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


def _choose_symbols(rows: pl.DataFrame, wanted: Sequence[str] | None, by_stem: bool) -> pl.DataFrame:
    if wanted is None:
        return rows
    have = rows["symbol"].unique().to_list()
    for symbol in wanted:
        if symbol not in have:
            files = " A file without a symbol column stands for the symbol it is named after." if by_stem else ""
            table = " (a table of symbols and classes is given as symbols_file)" if Path(symbol).suffix else ""
            raise BarsError(f"the source has no bars of {symbol!r}{table}. {did_you_mean(symbol, have)}{files}")
    return rows.filter(pl.col("symbol").is_in(wanted))


def _read_classes(symbols_file: str | Path | None) -> tuple[dict[str, AssetClass], dict[str, str]]:
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
    _read_classes(symbols_file)  # or what is wrong is said
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


def _classify(
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
        sunday &= (pl.col("_day") <= _as_date(end, "end")).fill_null(False)
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


def _cut(
    rows: pl.DataFrame,
    start: str | date | None,
    end: str | date | None,
    as_of: datetime | None,
    sealed: date | None,
    now: datetime | None,
    notes: Notes,
) -> pl.DataFrame:
    """The sessions from start to end, known at as_of and before the sealed session, without bars still to close."""
    closed = pl.col("time") <= (now or datetime.now(UTC))
    unfinished = rows.filter(~closed)
    if unfinished.height > max(BAD_SHARE * rows.height, BAD_MIN):
        row = unfinished.row(0, named=True)
        problem = f"{unfinished.height} of {rows.height} bars close in the future."
        notes.refuse(row, problem, "Correct the dates or the clock, or say now=.", "time", str(row["time"]))
    notes.add_counts("warning", "unfinished", unfinished, "Bars that have not closed yet are left out.")
    session = session_date(pl.col("time"))
    kept = rows.filter(
        closed,
        pl.lit(True) if start is None else session >= _as_date(start, "start"),
        pl.lit(True) if end is None else session <= _as_date(end, "end"),
        pl.lit(True) if as_of is None else pl.col("known_at") <= as_of,
        pl.lit(True) if sealed is None else session_date(pl.col("known_at")) < sealed,
    )
    if kept.is_empty():
        first, last = rows["time"].min(), rows["time"].max()
        given = (("start", start), ("end", end), ("as_of", as_of), ("holdout", sealed))
        cut = ", ".join(f"{name}={value}" for name, value in given if value is not None)
        raise BarsError(f"no bars are left with {cut or 'the present clock'}; the source has {first!s} to {last!s}.")
    return kept


def _as_date(value: str | date, name: str) -> date:
    try:
        given = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise BarsError(f"{name} must be a date such as 2018-12-31, got {value!r}.") from None
    return given.date() if isinstance(given, datetime) else given


def _as_moment(value: str | date) -> datetime:
    """A moment in UTC; a date means its end."""
    try:
        given = value
        if isinstance(value, str):
            given = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        if not isinstance(given, datetime) and isinstance(given, date):
            return datetime.combine(min(given, date(9999, 12, 30)), time(), UTC) + timedelta(days=1)
        if isinstance(given, datetime) and given.tzinfo is not None:
            return given
    except ValueError:
        pass
    raise BarsError(f"as_of must be a date or a time with its offset (2018-12-31T21:00:00+00:00), got {str(value)!r}.")
