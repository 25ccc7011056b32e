"""Bars from files and frames: every vendor's table becomes the one Bars frame, or is refused with the place.

The way through is `read_with_findings`, top to bottom. Rows that cannot be bars are left out and listed,
never changed in silence; what cannot be known from the file is asked for, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from gatecast.arguments import checked, takes
from gatecast.errors import BarsError, SettingsError, did_you_mean
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
from gatecast.market.bars import Finding, compare_levels, make_bars, without_idle
from gatecast.market.bars import resample as resample_bars
from gatecast.market.bounds import actions_of, actions_within, date_of, moment_of, within
from gatecast.market.calendar import OLDEST_SESSIONS, fill_times
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.classes import asset_class as class_named
from gatecast.market.cleaning import (
    adjust,
    look_over,
    quarantine,
    refuse_mixed_spacing,
    refuse_splits,
    tell_ends,
    widen,
    without_repeats,
)
from gatecast.market.columns import MARKS, wish_of
from gatecast.market.given import Currencies, refuse_above_price, with_ends
from gatecast.market.known import SUFFIX, check_known, join_known, take_known
from gatecast.market.reading import BarsSettings, as_utc
from gatecast.market.rows import NEWEST_EMPTY, Source, choose_symbols, join_files, rows_of, tables_of
from gatecast.market.spellings import SPELLINGS
from gatecast.market.symbols import class_guesses, classify, read_classes
from gatecast.market.tables import Choose, Notes
from gatecast.market.times import check_zone, close_times
from gatecast.market.universe import read_universe, with_universe
from gatecast.market.vendors import fetched

ActionsTable = str | Path | pl.DataFrame | Any | None
"""A file, or a frame of Polars or pandas."""
Splits = ActionsTable | Literal[False]
LEFT_OUT = (
    NEWEST_EMPTY, "unfinished", "missing_price", "not_finite", "non_positive", "out_of_bounds", "high_below_low",
    "outside_range", "spike", "bad_volume",
)  # fmt: skip
"""Rules of findings about rows that were left out."""
PRICED = ("symbol", "asset_class", "time", "close")
"""Columns of bars by which what actions give is priced."""


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
    classes, told_currencies = read_classes(settings.symbols_file)
    delays = check_known(settings.known_at)
    moment = None if settings.as_of is None else moment_of(settings.as_of)
    seal = None if sealed is None else date_of(sealed, "sealed")

    first, last = (None if day is None else date_of(day, name) for day, name in ((start, "start"), (end, "end")))
    kept = None if columns is None else [*columns, *(f"{name}{SUFFIX}" for name in columns), *delays, *delays.values()]
    whole = partial(wish_of, columns=kept)
    chosen = partial(whole, symbols=wanted, first=first, last=last)

    source = fetched(source, wanted, first, last)

    def read(choose: Choose) -> tuple[pl.DataFrame, Notes] | None:
        tables = tables_of(source, settings.header, wanted, choose)
        notes = Notes(tuple(table.file for table in tables))
        rows = [rows_of(table, n, settings, delays, notes, lengths) for n, table in enumerate(tables)]
        return (join_files(pl.concat(rows, how="diagonal_relaxed"), tables, wanted, notes), notes) if rows else None

    found = read(chosen)
    if found is None or not set(wanted or ()) <= set(found[0]["symbol"].unique()):
        found = read(whole)  # what is missing may be spelt otherwise, and the message names what there is
    if found is None:
        raise BarsError("the source has no rows: give a file with bars.")
    rows, notes = found
    rows = choose_symbols(rows, wanted, len(notes.files) > 1)
    listed = join_actions(
        read_splits(splits),
        read_actions(delisting, "delisting") if delisting is not None else no_actions(),
        read_actions(actions) if actions is not None else no_actions(),
    )
    listed = actions_of(listed, found[0]["symbol"].unique().to_list(), wanted, now, notes)
    rows, told = classify(rows, classes, settings.asset_class, end, notes)
    rows = close_times(rows, notes, lengths)
    rows = within(rows, start, end, moment, seal, now, notes)
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
    listed = with_ends(actions_within(listed, last, moment, seal, now, notes), priced, priced_in)
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
    return Reading(bars, (*notes.findings, *_late(bars), *class_guesses(told), *compared), listed, told)


def _settings_of(source: Source, options: dict[str, Any]) -> BarsSettings:
    """The options given, over those of a `BarsSettings` given as source. Raises BarsError for what they may not be."""
    try:
        return source.replace(**options) if isinstance(source, BarsSettings) else BarsSettings(**options)
    except SettingsError as error:
        raise BarsError(str(error).removeprefix(f"{BarsSettings.__name__}: ")) from None


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
