"""New bars into a store, and out of it a decision for every symbol: what `gatecast update` does."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.arguments import checked, takes
from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path
from gatecast.live.actions import changed_waits, say_told_twice
from gatecast.live.arriving import (
    actions_with,
    is_bars,
    may_be_cut,
    new_to_store,
    other_currencies,
    read_new,
    refuse_above_close,
    say_far_ahead,
    splits_told,
    with_actions_of_others,
)
from gatecast.live.book import HeldNow
from gatecast.live.gates import late_in_words
from gatecast.live.issuing import NO_MODEL, Made, chain_on, issue_made, latest, model_in_force, refused_model
from gatecast.live.newest import NOT_OF_NEWEST
from gatecast.live.stages import superseded
from gatecast.live.tables import beside, keep, named_in
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.merging import DataProblem
from gatecast.market.reading import BarsSettings, as_utc
from gatecast.market.rows import Source
from gatecast.market.sources import IN_MEMORY
from gatecast.notebook import Shown
from gatecast.store.about import counted
from gatecast.store.identity import is_store
from gatecast.store.store import Store

IN_A_STORE = "store"
"""Source of bars in the settings of a store: whatever is handed to it."""
UNCHANGED = "The store is as it was"
"""What errors of single writes say, which is not so once another one was made."""


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
        if refused := refused_model(self.problems):
            return f"no decisions: {refused}"
        if self.model is None:
            return f"{NO_MODEL}: `gatecast retrain {self.store}` trains one from the bars that are stored."
        tilted = sum(1 for row in self.decisions if row.get("weight"))
        held = sum(1 for row in self.decisions if row.get("held"))
        book = f", {held} held by the book" if self.book else ""
        return f"{counted(len(self.decisions), 'decision')}: {tilted} with a position of a strategy{book}."

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
    created = not is_store(place)
    given = {**options, **{name: one for name, one in (("splits", splits), ("actions", actions)) if one is not None}}
    if created:
        settings = experiment or Experiment()
        settings = settings.replace(book=settings.book.with_file_read())
        own = {**settings.bars.options, **given}
        named = named_in(own)
        options = {name: one for name, one in own.items() if name not in named}
        if settings.holdout is not None:
            raise SettingsError(
                f"holdout = {settings.holdout}: a store forecasts every new bar, so nothing can be held out. Leave it"
                " out, and judge on a hold-out with `gatecast run` and `unseal`."
            )
        kept = {name: one for name, one in options.items() if name not in NOT_OF_NEWEST}
        settings = settings.replace(bars={**kept, "source": IN_A_STORE})
        tables = beside(None, named)
        say_far_ahead(tables, moment)
        prices = settings.book.money.prices
        reading = read_new(settings.bars, bars, tables, moment, options, prices)  # bad bars make no store
        settings = settings.replace(book=settings.book.priced_in(reading.currencies))
        refuse_above_close(None, reading, tables.actions, moment, settings.book.money.prices)
        try:
            opened = Store.create(place, settings, now=moment, machine=machine)
        except StoreError:
            if not is_store(place):
                raise
            created = False  # another process made it meanwhile
    if not created:
        opened = Store.open(place, machine=machine)
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
        if not created:
            named = named_in(given)
            tables = beside(opened, named)
            options = {name: one for name, one in given.items() if name not in named}
            prices = opened.experiment.book.money.prices
            reading = read_new(opened.experiment.bars, bars, tables, moment, options, prices, opened, known)
            reading = with_actions_of_others(opened, reading, tables.actions, moment)
            refuse_above_close(opened, reading, tables.actions, moment, prices)
            if other := other_currencies(opened, reading.currencies):
                warnings.warn(other, stacklevel=2)
        for one in say_far_ahead(tables, moment):
            warnings.warn(one, stacklevel=2)
        if cut_off := may_be_cut(bars):
            warnings.warn(cut_off, stacklevel=2)
        calendars, was_read = {**opened.state.calendars, **reading.calendars}, is_bars(bars)
        fresh, problems, steps = new_to_store(opened, known, reading, splits, moment, calendars, was_read=was_read)
        decided = _decided_on(opened, known, moment)
        if decided is not known:
            with contextlib.suppress(BarsError):  # other bars than those that came before
                problems = new_to_store(opened, decided, reading, splits, moment, calendars, was_read=was_read)[1]
        known_actions, made = actions_with(opened, reading.actions, tables.actions, moment), list[Made | None]()
        problems = (*problems, *say_told_twice(known, known_actions, moment))
        if len(splits_now := splits_told(opened, known, reading, moment)) and len(fresh):
            known_actions = pl.concat([known_actions, splits_now]).sort("symbol", "kind", "date")
            opened.set_actions(known_actions, moment)  # before the bars, which are stored as they were traded
        served, why_not = model_in_force(opened)

        def decide(bars: pl.DataFrame) -> Made | None:
            made.append(chain_on(served, bars, known_actions, calendars) if served else None)
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
            done = issue_made(opened, decided_now, problems, moment)
            opened.maintain(moment)
            opened.beat(moment, message=done.message)
    wrote = tuple(range(before + 1, opened.state.number + 1))
    files = [*late_in_words(done.decisions), *superseded(opened, moment)]
    told = tuple(dict.fromkeys([*done.warnings, *(str(one.message) for one in said), *files]))
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
        why, unchanged, rest = str(error).partition(f" {UNCHANGED}")
        decided = len(store.state.issued) > issued
        if not unchanged or not (took_bars or decided):
            raise
        what = "The bars and decisions are stored" if decided else "The bars are stored, decisions are not issued yet"
        does = "finishes it" if decided else "makes them"
        hint = rest.removeprefix("; ").partition(", then")[0]
        raise StoreError(f"{why} {what}: {hint}, then the same update again {does}.") from None


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


def _keep_actions(store: Store, actions: pl.DataFrame, now: datetime) -> None:
    """Stores actions where the store has fewer."""
    if len(actions) > len(store.actions):
        store.set_actions(actions, now)
