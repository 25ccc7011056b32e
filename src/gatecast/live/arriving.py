"""Bars that come to a store: read as it reads them, and what of them and of their actions it does not have yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from gatecast.errors import BarsError
from gatecast.files import is_regular
from gatecast.files import opened as opened_file
from gatecast.live.actions import far_ahead, known_since_told
from gatecast.live.newest import NOT_OF_NEWEST, say_findings, say_missed, usable, without_untraded
from gatecast.live.tables import KINDS, Beside
from gatecast.market.actions import (
    GIVES,
    GOES,
    LEVELS,
    PAYS,
    join_actions,
    no_actions,
    refuse_contradicted,
    with_known_at,
    with_terms,
)
from gatecast.market.bars import COLUMNS, UTC_TIME, session_date, session_of
from gatecast.market.cleaning import refuse_splits
from gatecast.market.given import Currencies, refuse_above_price, unpriced, with_ends
from gatecast.market.merging import DataProblem, merge_bars, names_of
from gatecast.market.reading import BarsSettings
from gatecast.market.rows import Source
from gatecast.market.sources import PRICED, Reading, read_with_findings
from gatecast.market.steps import Step, brought_to_level, on_one_level
from gatecast.market.tables import Notes, most_bytes
from gatecast.market.times import usual_steps
from gatecast.store.store import Store

LAST_BYTES = 10_000
"""Of a file that are looked at for a line's end."""


def say_far_ahead(tables: Beside, now: datetime) -> list[str]:
    """Sentences on actions of the tables that were given, see `actions.far_ahead`."""
    told = [far_ahead(tables.given[name], now) for name in KINDS if name in tables.given]
    return [one for one in told if one]


def may_be_cut(source: Source) -> str:
    """Says that the last line of a file of text has no end, which those before it have; "" for all others."""
    place = Path(source) if isinstance(source, str | Path) else None
    if place is None or place.suffix not in (".csv", ".txt") or not is_regular(place):
        return ""
    try:
        with opened_file(place, at_most=most_bytes()) as file:
            file.seek(-min(LAST_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            end = file.read(LAST_BYTES)
    except OSError:
        return ""
    if end.rstrip(b"\0").endswith((b"\n", b"\r")) or not (b"\n" in end or b"\r" in end):
        return ""
    return f"{place.name}: its last line has no end, as of a file that was cut: if it was, give the whole file."


def is_bars(source: Source) -> bool:
    """Whether a source is a Bars frame, which is taken as it is."""
    return isinstance(source, pl.DataFrame) and set(COLUMNS) <= set(source.columns)


def read_new(
    settings: BarsSettings, source: Source, tables: Beside, now: datetime, options: Mapping[str, Any],
    prices: Currencies, store: Store | None = None, known: pl.DataFrame | None = None,
) -> Reading:  # fmt: skip
    """The bars of a source as the store's settings say, with the tables beside them. A Bars frame is taken as it is.

    `prices`: currencies of them. `known`: the bars before, by which a few rows show how long they are, and beside which
    steps that look like a split are judged; what actions give is priced by all that the `store` has.
    """
    gives = store is not None and tables.actions["kind"].is_in(GIVES).any()
    before = store.bars.as_of(now).select(PRICED) if store is not None and gives else None
    if is_bars(source):
        priced = source.select(PRICED)
        if before is not None:
            priced = pl.concat([priced, before]).unique(["symbol", "time"], keep="first")
        return Reading(source, (), with_ends(with_known_at(tables.actions, source), priced, prices))
    settings.refuse_tables(tables.names)
    asked = {name: one for name, one in settings.options.items() if name not in (*NOT_OF_NEWEST, *tables.names)}
    if known is None or known.is_empty():
        return read_with_findings(source, now=now, currencies=prices, **{**asked, **options, **tables.options})
    lengths = dict(usual_steps(known).select("symbol", "_step").iter_rows())
    given = {"splits": False, **asked, **options, **tables.options}
    return read_with_findings(source, now=now, lengths=lengths, before=before, currencies=prices, **given)


def other_currencies(store: Store, told: Mapping[str, str]) -> str:
    """Says that a symbols file names other currencies than those in which a store counts; "" where it does not."""
    money = store.experiment.book.money
    other = [name for name, one in sorted(told.items()) if money.currencies.get(name, money.currency) != one]
    if not other:
        return ""
    named = ", ".join(f'{name} = "{told[name]}"' for name in other)
    return (
        f"{names_of(other)}: the symbols file says another currency than the store counts in, which stays. For another "
        f"one give [book.money.currencies] {named} with `gatecast retrain {store.folder} --settings FILE`."
    )


def with_actions_of_others(store: Store, reading: Reading, told: pl.DataFrame, now: datetime) -> Reading:
    """A reading with the actions, dated up to now, of a store's symbols without a bar in it, as of one that is gone.

    Raises `BarsError` for one that the store's bars contradict.
    """
    own = pl.col("symbol").is_in(list(store.state.symbols)) & ~pl.col("symbol").is_in(reading.bars["symbol"].implode())
    others = told.filter(own, ~pl.col("kind").is_in(LEVELS), pl.col("date") <= session_of(now))
    names = set(others["symbol"])
    findings = [one for one in reading.findings if one.rule != "action_unmatched" or one.symbol not in names]
    reading = replace(reading, findings=tuple(findings))
    others = others.join(store.actions, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
    if others.is_empty():
        return reading
    bars = store.bars.as_of(now)
    others = with_ends(with_known_at(others, bars), bars, store.experiment.book.money.prices)
    refuse_contradicted(others, bars)
    return replace(reading, actions=pl.concat([reading.actions, others]))


def refuse_above_close(
    store: Store | None, reading: Reading, told: pl.DataFrame, now: datetime, prices: Currencies
) -> None:
    """Raises `BarsError` for money a share of tables that is more than the close before it, by the store's bars too.

    Bars of a file were looked at as they were read: of these the newest counts alone, for what is still to come. What
    the store was told is judged as well where the symbol that it gives, or the rate of its currency, has its first bars
    now.
    """
    names = {*reading.bars["symbol"].unique(), *(store.state.symbols if store is not None else ())}
    new = pl.concat([with_terms(told), with_terms(reading.actions)]).unique(["symbol", "kind", "date"])
    new = new.filter(pl.col("symbol").is_in(sorted(names)), pl.col("kind").is_in([*PAYS, *GIVES]))
    newest = reading.bars.group_by("symbol").agg(pl.col("time").max())
    came = reading.bars.select(PRICED).join(newest, on=["symbol", "time"])
    if store is None:
        last = newest.select("symbol", _last=session_date(pl.col("time")))
        new = new.join(last, on="symbol").filter(pl.col("date") > pl.col("_last")).drop("_last")
    else:
        new = new.join(store.actions, on=["symbol", "kind", "date"], how="anti")
        priced_now = bool(names - set(store.state.symbols)) and store.actions["into"].is_not_null().any()
        before = store.bars.as_of(now).select(PRICED) if len(new) or priced_now else came.clear()
        came = pl.concat([before, came]).unique(["symbol", "time"], keep="first")
        try:
            if priced_now:
                refuse_above_price(unpriced(store.actions, before, prices), came, prices)
        except BarsError as error:
            taken_back = f"`gatecast actions remove {store.folder}` takes back what the store was told."
            raise BarsError(f"{error} {taken_back}") from None
    refuse_above_price(new, came, prices)


def new_to_store(
    store: Store, known: pl.DataFrame, reading: Reading, splits: Any, now: datetime, calendars: Mapping[str, str], *,
    was_read: bool,
) -> tuple[pl.DataFrame, tuple[DataProblem, ...], tuple[Step, ...] | None]:  # fmt: skip
    """What of a reading the store does not have, what must be said of the bars, and since which step a symbol waits.

    The steps are None where none of the store's symbols came: then nothing changes. `calendars`: symbol -> calendar
    where it is not that of its class. `was_read`: the bars came as a Bars frame, read and looked at before.
    """
    came, problems = usable(known, reading.bars, now) if len(known) else (reading.bars, [])
    problems += say_findings(known, reading.findings, others=True)
    symbols = known["symbol"].unique().sort().to_list()
    others = came.filter(~pl.col("symbol").is_in(symbols))
    if symbols and len(others):
        problems.append(_say_new_symbols(others["symbol"].unique().sort().to_list()))
    own = store.bars.without_left_out(came.filter(pl.col("symbol").is_in(symbols)))
    if len(known) and splits is None and not was_read:
        _refuse_old_splits(known, came)
    if own.is_empty():
        none_of = [DataProblem("missing", tuple(symbols), f"the bars have none of {names_of(symbols)}.")]
        return others, (*problems, *(none_of if symbols else ())), None
    listed = reading.actions.filter(pl.col("kind") == "split")
    table: pl.DataFrame | Literal[False] | None = listed if len(listed) else None
    if splits is False:
        table = False
    factors = store.bars.actions_as_of(now)
    own, waiting = brought_to_level(known, own, factors), store.bars.waiting(now)
    if not was_read:
        own, untraded = without_untraded(known, own)
        problems += say_findings(known, untraded)
        if own.is_empty():
            return others, tuple(problems), None
    try:
        merged = merge_bars(known, own, table, reading.actions, corrections="kept", waiting=waiting)
    except BarsError as error:
        raise BarsError(of_store(str(error))) from None
    problems += [DataProblem(one.kind, one.symbols, of_store(one.sentence)) for one in merged.problems]
    problems += say_missed(known, merged.bars, calendars)
    columns = [name for name in others.columns if name in merged.news.columns]
    news = merged.news.select(columns)
    news = on_one_level(news, pl.concat([factors, splits_told(store, known, reading, now)]), back=True)
    return pl.concat([news, others.select(columns)]), tuple(problems), merged.steps


def splits_told(store: Store, known: pl.DataFrame, reading: Reading, now: datetime) -> pl.DataFrame:
    """The splits of a reading's table after a symbol's last known bar that a store does not have: it knows them now."""
    last = known.group_by("symbol").agg(_last=session_date(pl.col("time")).max())
    splits = reading.actions.filter(pl.col("kind") == "split", pl.col("value") != 1).join(last, on="symbol")
    new = splits.filter(pl.col("date") > pl.col("_last")).drop("_last")
    new = new.join(store.actions, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
    return with_terms(new.with_columns(known_at=pl.lit(now, UTC_TIME)))


def _refuse_old_splits(known: pl.DataFrame, bars: pl.DataFrame) -> None:
    """Raises `BarsError` for a step that looks like a split in bars up to the first one that is known of a symbol."""
    first = known.group_by("symbol").agg(_first=pl.col("time").min())
    placed = bars.join(first, on="symbol", how="left", maintain_order="left")
    old = placed.filter((pl.col("time") <= pl.col("_first")).fill_null(True)).drop("_first")
    refuse_splits(old.with_columns(_table=pl.lit(0), _line=pl.lit(None, pl.Int64)), no_actions(), Notes((None,)))


def _say_new_symbols(symbols: Sequence[str]) -> DataProblem:
    """What is said of symbols that a store did not have."""
    are, them = ("is", "it is") if len(symbols) == 1 else ("are", "they are")
    said = (
        f"{names_of(symbols)} {are} new to the store: no model has learned from {'it' if are == 'is' else 'them'} yet; "
        f"{them} forecast by the model of the class once the window is full, and part of the next refit."
    )
    return DataProblem("new symbol", tuple(symbols), said)


def of_store(text: str) -> str:
    """A sentence on a run's bars, said of a store's.

    >>> of_store("the new bars of 'A' are longer than the run's.")
    "the new bars of 'A' are longer than the store's."
    """
    return text.replace("the run", "the store")


def actions_with(store: Store, found: pl.DataFrame, tables: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The actions of a store, with those that it does not know yet and that leave the level of prices as it is.

    `tables`: as they were given, with `known_at` where they say it.
    """
    known = store.actions
    new = found.filter(~pl.col("kind").is_in(LEVELS)).join(
        known, on=["symbol", "date", "kind"], how="anti", maintain_order="left"
    )
    said = tables.filter(pl.col("known_at").is_not_null())
    every = join_actions(known, known_since_told(store, new, now, said)) if len(new) else known
    if not new["kind"].is_in(GOES).any():
        return every
    return with_ends(every, store.bars.as_of(now), store.experiment.book.money.prices)
