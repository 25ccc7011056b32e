"""New bars into a store, and out of it a decision for every symbol: what `gatecast update` does."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from gatecast.arguments import checked, takes
from gatecast.chain import Chain, make_chain
from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path, is_regular
from gatecast.files import opened as opened_file
from gatecast.forecasting.drift import Drift, alarms_on
from gatecast.live.actions import (
    changed_waits,
    far_ahead,
    known_since_told,
    say_told_twice,
    say_waiting,
    without_waiting,
)
from gatecast.live.book import HeldNow, book_now, course_of, desk_bytes, figures_of, of_symbol
from gatecast.live.gates import (
    late_symbols,
    old_models,
    other_zones,
    say_no_window,
    say_old,
    say_without_model,
    with_gate,
    without_forecasts,
)
from gatecast.live.kept import Served, pieces_from, serve
from gatecast.live.newest import (
    NOT_OF_NEWEST,
    OTHER_VERSIONS,
    say_awaited,
    say_ended,
    say_findings,
    say_missed,
    stale,
    told_of,
    usable,
    without_untraded,
)
from gatecast.live.parity import newest_difference
from gatecast.live.tables import KINDS, Beside, beside, keep, named_in
from gatecast.live.versions import misfit_of
from gatecast.machine import ONE_CORE, Machine
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
from gatecast.market.awaited import with_awaited
from gatecast.market.bars import COLUMNS, UTC_TIME, session_date, session_of
from gatecast.market.cleaning import refuse_splits
from gatecast.market.facts import facts_of
from gatecast.market.given import Currencies, refuse_above_price, unpriced, with_ends
from gatecast.market.merging import DataProblem, merge_bars, names_of
from gatecast.market.reading import BarsSettings, as_utc
from gatecast.market.sessions import open_days, versions
from gatecast.market.sources import IN_MEMORY, PRICED, Reading, Source, read_with_findings
from gatecast.market.steps import Step, brought_to_level, on_one_level
from gatecast.market.tables import Notes, most_bytes
from gatecast.market.times import usual_steps
from gatecast.notebook import Shown
from gatecast.runs import without_doubtful
from gatecast.store.carried import bytes_of_carried
from gatecast.store.issued import bytes_of_pieces
from gatecast.store.pieces import read_pieces
from gatecast.store.store import ABOUT, Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.trading.book import Course

    FloatArray = NDArray[np.float64]

NO_MODEL = "no model yet"
IN_A_STORE = "store"
"""Source of bars in the settings of a store: whatever is handed to it."""
LAST_BYTES = 10_000
"""Of a file that are looked at for a line's end."""
UNCHANGED = "The store is as it was"
"""What errors of single writes say, which is not so once another one was made."""
NUMBERS = (
    "close", "expected_return_log", "expected_return_simple", "probability_up", "base_rate_up", "volatility",
    "standard_deviation", "regime_probability", "z", "signal_return_log", "evidence", "weight", "book",
)  # fmt: skip
TEXTS = ("asset_class", "today", "strategy", "gate", "reason")


@dataclass(frozen=True)
class Updated(Shown):
    """What an update did.

    `counts` of the bars that came: new, repeated, corrected, late, unfinished. `model`: number of the record of the
    model that forecasts, None where there is none. `decisions`: a row a symbol, see `newest.newest_rows`, with `gate`
    and `reason`; `issued` says which of them are new. `wrote`: numbers of the records that were written.
    """

    store: Path
    now: datetime
    created: bool
    counts: Mapping[str, int]
    model: int | None
    decisions: Sequence[Mapping[str, Any]] = ()
    problems: tuple[DataProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    wrote: tuple[int, ...] = ()
    horizon: int = 0
    book: HeldNow | None = None

    @property
    def message(self) -> str:
        """The outcome in a sentence."""
        if refused := _refused_model(self.problems):
            return f"no decisions: {refused}"
        if self.model is None:
            return f"{NO_MODEL}: `gatecast retrain {self.store}` trains one from the bars that are stored."
        tilted = sum(1 for row in self.decisions if row.get("weight"))
        held = sum(1 for row in self.decisions if row.get("held"))
        book = f", {held} held by the book" if self.book else ""
        return f"{len(self.decisions)} decisions: {tilted} with a position of a strategy{book}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = [asdict(problem) for problem in self.problems]
        return {
            "store": str(self.store), "now": self.now, "created": self.created, "bars": dict(self.counts),
            "model": self.model, "decisions": list(self.decisions), "book": self.book.to_dict() if self.book else None,
            "data_problems": found,
            "warnings": list(self.warnings), "wrote": list(self.wrote), "message": self.message,
        }  # fmt: skip


@checked
@takes(BarsSettings, without=(*IN_MEMORY, "start", "end", "as_of"))
def update(
    store: str | Path,
    bars: Source,
    *,
    now: datetime | None = None,
    experiment: Experiment | None = None,
    splits: Any = None,
    actions: Any = None,
    machine: Machine = ONE_CORE,
    **options: Any,
) -> Updated:
    """Stores new bars and issues a decision for every symbol from its newest complete bar.

    Parameters
    ----------
    store: its folder; one that is not there is made. bars: a path, or a frame: new, late, repeated, corrected and
        unfinished bars in any order. now: the moment at which they came (default: the clock).
    experiment: settings of a store that is made here; None: the default ones. A store that is there keeps its own,
        see `retrain`.
    splits, actions: as `read_bars` takes them. options: of `read_bars`; those that a store is made with hold for all
        later bars. Tables (splits, actions, delistings, symbols) are kept by their content, until others are given.

    The seam between what is stored and what comes is checked as the inside of a file is. What was issued stays. The
    same bars again change nothing but the heartbeat.

    Raises `BarsError` for bars that cannot be trusted, `StoreError` where the store cannot be read or written; then
    nothing has changed, or the bars are stored and nothing is issued yet, as where the disk fills between the two: the
    error says so, and the same update again makes the decisions.
    """
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    place = full_path(store)
    created = not (place / ABOUT).exists()
    given = {**options, **{name: one for name, one in (("splits", splits), ("actions", actions)) if one is not None}}
    if created:
        settings = experiment or Experiment()
        settings = settings.replace(book=settings.book.with_file_read())
        given = {**settings.bars.options, **given}
        named = named_in(given)
        options = {name: one for name, one in given.items() if name not in named}
        if settings.holdout is not None:
            raise SettingsError(
                f"holdout = {settings.holdout}: a store forecasts every new bar, so nothing can be held out. Leave it"
                " out, and judge on a hold-out with `gatecast run` and `unseal`."
            )
        kept = {name: one for name, one in options.items() if name not in NOT_OF_NEWEST}
        settings = settings.replace(bars={**kept, "source": IN_A_STORE})
        tables = beside(None, named)
        _far_ahead(tables, moment)
        prices = settings.book.money.prices
        reading = _read(settings.bars, bars, tables, moment, options, prices)  # bad bars make no store
        settings = settings.replace(book=settings.book.priced_in(reading.currencies))
        _refuse_above_price(None, reading, tables.actions, moment, settings.book.money.prices)
        opened = Store.create(place, settings, now=moment, machine=machine)
    else:
        opened, reading = Store.open(place, machine=machine), None
    with warnings.catch_warnings(record=True, action="always") as said, opened.locked():
        if experiment is not None and not _are_settings_of(opened, experiment):
            warnings.warn(
                f"{place} keeps the settings that it has: those given here do not count. `gatecast retrain {place} "
                "--settings FILE` changes them.", stacklevel=2,
            )  # fmt: skip
        before = opened.state.number
        _refuse_earlier(opened, moment)
        if ahead := opened.keep_time(moment):
            warnings.warn(ahead, stacklevel=2)
        known = opened.bars.for_chain(moment)
        if reading is None:
            named = named_in(given)
            tables = beside(opened, named)
            options = {name: one for name, one in given.items() if name not in named}
            prices = opened.experiment.book.money.prices
            reading = _read(opened.experiment.bars, bars, tables, moment, options, prices, opened, known)
            reading = _with_actions_of_others(opened, reading, tables.actions, moment)
            _refuse_above_price(opened, reading, tables.actions, moment, prices)
            if other := _other_currencies(opened, reading.currencies):
                warnings.warn(other, stacklevel=2)
        for one in _far_ahead(tables, moment):
            warnings.warn(one, stacklevel=2)
        if cut_off := _may_be_cut(bars):
            warnings.warn(cut_off, stacklevel=2)
        calendars, was_read = {**opened.state.calendars, **reading.calendars}, is_bars(bars)
        fresh, problems, steps = _to_store(opened, known, reading, splits, moment, calendars, was_read=was_read)
        decided = _decided_on(opened, known, moment)
        if decided is not known:
            with contextlib.suppress(BarsError):  # other bars than those that came before
                problems = _to_store(opened, decided, reading, splits, moment, calendars, was_read=was_read)[1]
        known_actions, made = _actions_with(opened, reading.actions, tables.actions, moment), list[Made | None]()
        problems = (*problems, *say_told_twice(known, known_actions, moment))
        if len(splits_now := _splits_told(opened, known, reading, moment)) and len(fresh):
            known_actions = pl.concat([known_actions, splits_now]).sort("symbol", "kind", "date")
            opened.set_actions(known_actions, moment)  # before the bars, which are stored as they were traded
        served, why_not = _serving(opened)

        def decide(bars: pl.DataFrame) -> Made | None:
            made.append(_make(served, bars, known_actions, calendars) if served else None)
            return made[-1]

        counts: Mapping[str, int] = {"repeated": len(reading.bars)}
        if len(fresh):
            stated = bool((reading.bars["known_at"] != reading.bars["time"]).any())
            said_of = tuple(one.sentence for one in problems)
            record = opened.add_bars(
                fresh, moment, stated=stated, problems=said_of, calendars=reading.calendars, accept=decide,
                waits=changed_waits(opened, steps, moment),
            )  # fmt: skip
            if record:
                took: Mapping[str, int] = record.body["counts"]
                others = sum(took[name] for name in ("new", "corrected", "unfinished"))
                counts = {**took, "repeated": len(reading.bars) - others}
        decided_now = made[-1] if made else decide(opened.bars.for_chain(moment))  # before tables and actions count
        with _said_as_stored(opened, took_bars=counts.keys() != {"repeated"}):
            keep(opened, tables, moment)
            _keep_actions(opened, known_actions, moment)
            problems = (*problems, *why_not)
            done = _issue(opened, decided_now, problems, moment)
            opened.maintain(moment)
            opened.beat(moment, message=done.message)
    wrote = tuple(range(before + 1, opened.state.number + 1))
    told = tuple(dict.fromkeys([*done.warnings, *(str(one.message) for one in said)]))
    return Updated(
        place, moment, created, counts, done.model, done.decisions, done.problems, told, wrote, done.horizon, done.book
    )  # fmt: skip


@contextlib.contextmanager
def _said_as_stored(store: Store, *, took_bars: bool) -> Iterator[None]:
    """What cannot be written after the bars were stored: its `StoreError` says what is there."""
    issued = len(store.state.issued)
    try:
        yield
    except StoreError as error:
        why, unchanged, _ = str(error).partition(f" {UNCHANGED}")
        decided = len(store.state.issued) > issued
        if not unchanged or not (took_bars or decided):
            raise
        what = "The bars and decisions are stored" if decided else "The bars are stored, decisions are not issued yet"
        does = "finishes it" if decided else "makes them"
        raise StoreError(f"{why} {what}: make room, then the same update again {does}.") from None


def _far_ahead(tables: Beside, now: datetime) -> list[str]:
    """Sentences on actions of the tables that were given, see `actions.far_ahead`."""
    told = [far_ahead(tables.given[name], now) for name in KINDS if name in tables.given]
    return [one for one in told if one]


def _may_be_cut(source: Source) -> str:
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


def _decided_on(store: Store, known: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The bars that were there when decisions were last made; `known`: all that are there.

    They differ where an update was killed after it stored its bars: it is then done as if they came again.
    """
    beat = (store.heartbeat() or {}).get("record")
    if not isinstance(beat, int) or not any((part.record or 0) > beat for part in store.state.bars):
        return known
    return store.bars.for_chain(now, record=beat)


def _refuse_earlier(store: Store, now: datetime) -> None:
    """Raises `StoreError` for a moment before the newest close that was decided on: nothing could go on from there."""
    newest = latest(store)["time"].max()
    if isinstance(newest, datetime) and now < newest:
        raise StoreError(
            f"now = {now:%Y-%m-%d %H:%M} UTC is before the store's newest decision, {newest:%Y-%m-%d %H:%M} UTC: give "
            "a later --now, or mend the computer's clock. If it was ahead when that was decided, wait until then, or "
            "go on from a copy of the store of before."
        )


def _are_settings_of(store: Store, experiment: Experiment) -> bool:
    """Whether settings are those of a store, but for bars and for currencies that its symbols file named."""
    kept = store.experiment
    book = experiment.book.priced_in(kept.book.money.currencies)
    return bool(experiment.replace(bars=kept.bars, book=book) == kept)


def is_bars(source: Source) -> bool:
    """Whether a source is a Bars frame, which is taken as it is."""
    return isinstance(source, pl.DataFrame) and set(COLUMNS) <= set(source.columns)


def _read(
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


def _other_currencies(store: Store, told: Mapping[str, str]) -> str:
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


def _with_actions_of_others(store: Store, reading: Reading, told: pl.DataFrame, now: datetime) -> Reading:
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


def _refuse_above_price(
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


def _to_store(
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
        problems.append(_new_to_store(others["symbol"].unique().sort().to_list()))
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
    news = on_one_level(news, pl.concat([factors, _splits_told(store, known, reading, now)]), back=True)
    return pl.concat([news, others.select(columns)]), tuple(problems), merged.steps


def _splits_told(store: Store, known: pl.DataFrame, reading: Reading, now: datetime) -> pl.DataFrame:
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


def _new_to_store(symbols: Sequence[str]) -> DataProblem:
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


def _actions_with(store: Store, found: pl.DataFrame, tables: pl.DataFrame, now: datetime) -> pl.DataFrame:
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


def _keep_actions(store: Store, actions: pl.DataFrame, now: datetime) -> None:
    """Stores actions where the store has fewer."""
    if len(actions) > len(store.actions):
        store.set_actions(actions, now)


@dataclass(frozen=True)
class Made:
    """A chain over all bars with the model that serves, before anything of it is issued."""

    served: Served
    chain: Chain
    bars: pl.DataFrame
    awaited: pl.DataFrame
    course: Course


def _make(served: Served, bars: pl.DataFrame, actions: pl.DataFrame, calendars: Mapping[str, str]) -> Made:
    """The chain over `bars`, with the rows that may still come; `calendars`: symbol -> calendar where it is not that of
    its class.

    Raises `BarsError` where the bars are not those that the model was made of, or the book is worth no finite number.
    """
    bars, awaited = with_awaited_of(served.run.experiment, bars, actions, calendars)
    experiment = served.run.experiment.replace(bars=bars)
    chain = make_chain(experiment, bars, actions=actions, past=served.past, refit="never")
    course = course_of(served.past.carried(), without_doubtful(served.run, chain))
    return Made(served, chain, bars, awaited, course)


def with_awaited_of(
    experiment: Experiment, bars: pl.DataFrame, actions: pl.DataFrame, calendars: Mapping[str, str]
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """The bars of a store with a row for each that may still come within a window, and symbol and time of these."""
    window = max(experiment.lookback, experiment.context)
    ended = facts_of(bars, actions).symbols_ended
    return with_awaited(window, bars, ended, open_days(bars, calendars))


@dataclass(frozen=True)
class Issued:
    """What was issued at an update."""

    model: int | None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    problems: tuple[DataProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    horizon: int = 0
    book: HeldNow | None = None

    @property
    def message(self) -> str:
        """For the heartbeat."""
        if _refused_model(self.problems):
            return "no decisions: the model in force forecasts other numbers under the versions that are installed"
        return NO_MODEL if self.model is None else f"{len(self.decisions)} decisions"


def _refused_model(problems: Sequence[DataProblem]) -> str:
    """Why the model in force may not forecast; "" where it may."""
    return next((one.sentence for one in problems if one.kind == OTHER_VERSIONS), "")


def _serving(store: Store) -> tuple[Served | None, tuple[DataProblem, ...]]:
    """The model in force, or the one before it where its files are damaged, which is said; None without a model.

    None as well, with the reason, for one that forecasts other numbers under the versions that are installed here.
    """
    model, before = (store.state.model(number) for number in (store.state.serving, store.state.previous))
    if model is None:
        return None, ()
    try:
        served = serve(store, model)
    except StoreError as error:
        if before is None:
            raise
        served = serve(store, before)
        warnings.warn(
            f"model {model.record} cannot be used, model {before.record} before it forecasts: {error}", stacklevel=2
        )
    if misfit := misfit_of(store, served):
        return None, (DataProblem(OTHER_VERSIONS, tuple(store.state.symbols), misfit),)
    return served, ()


def _issue(store: Store, made: Made | None, problems: Sequence[DataProblem], now: datetime) -> Issued:
    """Forecasts and decisions from the newest bars; those that were not issued yet are stored."""
    if made is None:
        problems = (*problems, *say_waiting(store))
        return Issued(None, problems=tuple(problems), warnings=tuple(one.sentence for one in problems))
    if said := other_zones(made.served.run.provenance.get("calendars") or {}, versions()):
        warnings.warn(said, stacklevel=2)
    every = (*problems, *say_awaited(made.bars, made.awaited))
    unlike = _unlike_before(store, made.chain)
    done = issue_chain(store, made.served, made.chain, every, now, awaited=made.awaited, course=made.course)
    return replace(done, warnings=(*unlike, *done.warnings))


def issue_chain(
    store: Store, served: Served, chain: Chain, problems: Sequence[DataProblem], now: datetime, *,
    again: bool = False, awaited: pl.DataFrame | None = None, classes: Collection[str] | None = None,
    course: Course | None = None,
) -> Issued:  # fmt: skip
    """The newest rows of a chain, told and stored.

    `again`: they take the place of what was issued at these closes before. `awaited`: symbol and time of rows that may
    still come, of which nothing is issued. `classes`: of which something is issued; None: of all.
    `course`: of the book, where it was decided already.
    """
    ended = chain.facts.symbols_ended
    model = store.state.model(served.number)
    assert model is not None
    old = old_models(model.cutoffs, store.experiment.schedule, chain.bars)
    problems = (*problems, *say_old(old, store.state.symbols), *say_without_model(chain, store.state.symbols))
    problems = (*problems, *say_waiting(store), *say_ended(ended))
    problems = (*problems, *stale(chain.bars, now, {*ended, *store.state.waiting}, store.state.calendars))
    chain, late = without_doubtful(served.run, chain), late_symbols(chain.bars)
    nobody = chain.bars.clear().select("symbol", "time")
    problems = (*problems, *say_no_window(chain, nobody if awaited is None else awaited, late))
    newest = told_of(served.run, served.past, chain, problems, awaited, store.state.calendars)
    told = without_waiting(without_forecasts(newest.rows, old, late), store, now)
    rows = [with_gate(row, served.run, served.number) for row in told]
    experiment = served.run.experiment
    signals = (experiment.signals.model, experiment.signals.confirmed_by)
    pieces = {
        name: replace(piece, again=again, weights=_nothing(piece.weights) if name in old else piece.weights)
        for name, piece in pieces_from(chain, served.past, signals, awaited).items() if len(piece.issued.time)
    }  # fmt: skip
    if classes is not None:
        rows = [row for row in rows if row["asset_class"] in classes]
        pieces = {name: piece for name, piece in pieces.items() if name in classes}
    table = decisions_table(rows)
    if not again:
        issued = latest(store)
        held = issued.filter(pl.col("weight").fill_null(0) != 0)  # what was traded stays, whatever gate closes later
        table = table.join(issued, on=["symbol", "time", "gate"], how="anti", maintain_order="left")
        table = table.join(held, on=["symbol", "time"], how="anti", maintain_order="left")
    course = course_of(served.past.carried(), chain, again=again) if course is None else course
    if len(table) or pieces or course.steps:
        content = bytes_of_pieces(pieces) if pieces else None
        more = _alarms_at(chain, experiment.drift)
        holdings, carried, desks = None, None, dict[str, bytes]()
        if course.steps:
            holdings, carried = course.holdings, bytes_of_carried(course.carried[-1])
            desks = {
                str(one.day): desk_bytes(one, chain, experiment.orders, store.state.calendars) for one in course.desks
            }
            more["book"] = figures_of(course, experiment.book)
        store.issue(
            table, now, model=served.number, pieces=content, more=more, holdings=holdings, carried=carried,
            desks=desks,
        )  # fmt: skip
    now_held = book_now(store)
    rows = [{**row, **of_symbol(now_held, row["symbol"])} for row in rows]
    return Issued(served.number, rows, newest.problems, newest.warnings, experiment.horizon, now_held)


def _alarms_at(chain: Chain, settings: Drift) -> dict[str, Any]:
    """What a record of decisions says of drift: alarms that are on, and closes at which alarms add a refit."""
    on = {name: alarms_on(one.alarms, one.samples.times, settings) for name, one in chain.classes.items()}
    added = {name: [str(time) for time in one.inputs.refits] for name, one in chain.classes.items()}
    return {
        "alarms": {name: [alarm.to_dict() for alarm in alarms] for name, alarms in on.items() if alarms},
        "added": {name: times for name, times in added.items() if times},
    }


def _unlike_before(store: Store, chain: Chain) -> tuple[str, ...]:
    """In words, where a chain no longer says of the newest close that was issued what was issued there; mostly ().

    Its features are compared, where no row up to that close has come or changed since.
    """
    last = next((one for one in reversed(store.state.issued) if one.pieces is not None), None)
    if last is None or last.pieces is None:
        return ()
    counts = [one.body for one in store.journal.records(since=last.record) if one.kind == "bars"]
    if any(body["counts"].get("corrected") or body["counts"].get("late") or body.get("symbols") for body in counts):
        return ()
    found = newest_difference(read_pieces(store.artefacts, last.pieces, store.experiment.horizon), chain)
    if found is None:
        return ()
    return (
        f"What was issued is no longer what the chain says. {found.sentence} `gatecast parity` compares all of it.",
    )


def _nothing(weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Weights -> 0 for each."""
    return {name: np.zeros_like(one) for name, one in weights.items()}


def decisions_table(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of decisions as a table: symbol, time (the newest close of the symbol's class), numbers, gate and reason."""
    schema: dict[str, Any] = {
        "symbol": pl.String, "time": pl.Datetime("us", "UTC"), "forecast_time": pl.Datetime("us", "UTC"),
        **dict.fromkeys(TEXTS, pl.String), **dict.fromkeys(NUMBERS, pl.Float64), "signal": pl.Int8,
        "consensus": pl.Boolean, "low_80": pl.Float64, "high_80": pl.Float64, "flags": pl.String,
    }  # fmt: skip
    made = []
    for row in rows:
        narrow = next(iter(row.get("intervals") or ()), None)
        made.append(
            {
                **{name: row.get(name) for name in (*TEXTS, *NUMBERS, "symbol", "signal", "consensus")},
                "time": row["class_newest_bar"], "forecast_time": row.get("time"),
                "low_80": narrow["low"][-1] if narrow else None, "high_80": narrow["high"][-1] if narrow else None,
                "flags": ", ".join(row.get("flags") or ()),
            }
        )  # fmt: skip
    return pl.DataFrame(made, schema=schema, strict=False).sort("symbol")


def latest(store: Store) -> pl.DataFrame:
    """The newest decision of every symbol that was issued: symbol, time, gate, weight."""
    schema: dict[str, Any] = {
        "symbol": pl.String, "time": pl.Datetime("us", "UTC"), "gate": pl.String, "weight": pl.Float64,
    }  # fmt: skip
    frames = [pl.DataFrame(schema=schema)]
    for one in reversed(store.state.issued[-LOOKED_AT:]):
        table = store.decisions_of(one.decisions, ("gate",))
        weight = pl.col("weight") if table.schema.get("weight") == pl.Float64 else pl.lit(None, pl.Float64)
        frames.append(table.select("symbol", "time", "gate", weight=weight))
    return pl.concat(frames).unique("symbol", keep="first", maintain_order=True)


LOOKED_AT = 20
"""Latest records of decisions in which a symbol's newest is looked for."""
