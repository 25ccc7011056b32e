"""A store: one folder in which bars, what was issued, and models live for years; its journal is the authority.

```
<store>/
├── store.json              schema version, id, the version of gatecast that made it
├── journal/                records, see `journal`: a record is written before its effect can be seen
├── parts/                  artefacts named by their hash, see `artefacts`
├── index.sqlite            made from the journal, see `index`
├── kept/                   networks of a refit that is under way or was killed, so that the next one goes on from them
├── heartbeat               when somebody last looked after the store
└── lock                    who writes to it now
```

One process at a time writes, under the lock; any number may read. No pickle anywhere, and nothing through a link.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import MAKE_ROOM, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path, is_regular, read, remove, sweep, sync_folder, write, write_whole
from gatecast.formats import json_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.processes import mark
from gatecast.settings import to_toml
from gatecast.store.artefacts import FOLDER as ARTEFACTS
from gatecast.store.artefacts import REMEDY, Artefacts
from gatecast.store.checking import (
    Fault,
    faults_of_about,
    faults_of_artefacts,
    faults_of_index,
    faults_of_journal,
    misnamed_actions,
    rows_dated_back,
)
from gatecast.store.contents import SYMBOLS_FILE, UNIVERSE_FILE, Contents
from gatecast.store.folders import discard, written_beside
from gatecast.store.history import History, parquet, refuse_naive
from gatecast.store.identity import ABOUT, ABOUT_BYTES, FORMAT, VERSION, about_of, indented, refuse_taken, upgrade
from gatecast.store.indexed import BusyIndexError, OtherJournalError, append_to_file, files_of, other_journal
from gatecast.store.journal import FOLDER as JOURNAL
from gatecast.store.journal import SNAPSHOT, Journal, Record, canonical, moment_of, parts_named, text_of
from gatecast.store.lock import locked
from gatecast.store.pruning import Pruning
from gatecast.store.schema import KEYS, TABLES, TIME, Schema, fault_of
from gatecast.store.state import DESK_OF, BarsPart, State, refuse_misfit
from gatecast.store.whole import newest_whole

if TYPE_CHECKING:
    from gatecast.store.index import Index

HEARTBEAT, KEPT = "heartbeat", "kept"
SNAPSHOT_EVERY = 100
"""Records after which `maintain` takes a snapshot."""


class Store(Contents):
    """A store that is open: `Store.create` makes one, `Store.open` opens one.

    Attributes
    ----------
    folder, id: where it is, and the name by which an index knows it.
    state: what its records add up to. journal, artefacts: its records and files. bars: its bars, see `History`.

    >>> import tempfile
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> store = Store.create(tempfile.mkdtemp(), Experiment())
    >>> now = bars["time"].max()
    >>> record = store.add_bars(bars, now)
    >>> record.body["counts"]["new"], store.add_bars(bars, now), Store.open(store.folder).bars.as_of(now).equals(bars)
    (300, None, True)
    """

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None, machine: Machine = ONE_CORE) -> None:
        if about is None:
            raise StoreError(f"use Store.open({str(folder)!r}) to open a store, Store.create(...) to make one.")
        super().__init__(folder)
        self.id, self.machine = str(about["id"]), machine
        self.bars = History(self.artefacts, lambda: self.state, self._bars_that_came)
        self._holds = 0
        self._wrote = False
        self._read()

    # ── making and opening ────────────────────────────────────────────────────────────────────────

    @classmethod
    @checked
    def create(
        cls, folder: str | Path, experiment: Experiment, *, now: datetime | None = None, machine: Machine = ONE_CORE
    ) -> Store:
        """Makes a store in a folder that is absent or empty. Raises `StoreError`; then nothing has changed."""
        place = full_path(folder)
        refuse_taken(place)
        from importlib.metadata import version

        about = {"format": FORMAT, "version": VERSION, "id": uuid.uuid4().hex, "gatecast": version("gatecast")}
        moment = now or datetime.now(UTC)
        refuse_naive(moment)
        follows = f"Nothing was made; {MAKE_ROOM} or give another folder."
        with written_beside(place, follows) as temporary:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            write(temporary / ABOUT, indented(about))
            settings = Artefacts(temporary).put(to_toml(experiment).encode(), ".toml")
            body = {**about, "parts": {"settings": settings}}
            del body["format"]
            Journal.open(temporary).append("created", body, moment)
            for inner in (temporary, temporary / ARTEFACTS):
                sync_folder(inner)
            refuse_taken(place)  # by another process, meanwhile
            with contextlib.suppress(FileNotFoundError):
                place.rmdir()
            os.replace(temporary, place)
            sync_folder(place.parent)
        return cls(place, about, machine)

    @classmethod
    @checked
    def open(cls, folder: str | Path, *, machine: Machine = ONE_CORE, upgrades: bool = True) -> Store:
        """The store in a folder; one of an older schema version is brought to this one first.

        Raises `StoreError` for a folder that is no store, is of a newer version, or cannot be read. What a process left
        that was killed does no harm: it never happened. `upgrades`: False: nothing is written, and a store of an older
        version is refused.
        """
        place = full_path(folder)
        about = about_of(place)
        if about["version"] < VERSION:
            if not upgrades:
                raise StoreError(
                    f"{place} is a store of schema version {about['version']}, and is not written to here: "
                    f"`gatecast store list {place}` brings it to version {VERSION}."
                )
            about = upgrade(place)
        found = cls(place, about, machine)
        try:
            lost = str(other_journal(place, found.id, found.journal) or "")
        except BusyIndexError as error:
            lost = f"whether records of the journal were lost is not known now: {error}"
        if lost:
            warnings.warn(f"{place}: {lost}", stacklevel=2)
        return found

    @property
    def lost(self) -> str:
        """That records of the journal were lost, which the index beside the store has, or files of them; "" where none
        were.

        Until they are restored from a copy, or `rebuild_index` accepts the loss, nothing is written.
        """
        of_files = self._lost.sentence if self._lost and self._lost.must_be_accepted else ""
        with contextlib.suppress(BusyIndexError):  # which `open` says
            return str(other_journal(self.folder, self.id, self.journal) or of_files)
        return of_files

    def records(self) -> Iterator[Record]:
        """The records that the store has read, in order."""
        return (one for one in self.journal.records() if one.number <= self.state.number)

    def as_of(self, moment: datetime | None) -> Store:
        """The store after its records up to a moment, to be read only, with the bars that had come by then.

        It is the store itself where it has no later record, and where `moment` is None. Where files of the bars were
        pruned since, all bars of now take their place, each with its moment. Raises `StoreError` where it had no record
        yet.
        """
        if moment is None:
            return self
        refuse_naive(moment)
        if moment_of(self.state.now) <= moment:
            return self
        records = [one for one in self.journal.records() if not self._lost or one.number < self._lost.first]
        last = max((one.number for one in records if one.now <= moment), default=0)
        if not last:
            first = f"{records[0].now:%Y-%m-%d %H:%M}"
            raise StoreError(f"{self.folder} had no record by {moment:%Y-%m-%d %H:%M} UTC; its first is of {first}.")
        found, now = copy(self), self.state
        found.state = State().after_all(records[:last])
        if not all(found.artefacts.has(one.part) for one in found.state.bars):
            found.state = found.state.model_copy(update={"bars": now.bars})
        found.bars = History(found.artefacts, lambda: found.state, found._bars_that_came)
        return found

    def _read(self) -> None:
        self.journal, self.state, self._lost = newest_whole(self.folder, self.id, self.artefacts)

    def _bars_that_came(self) -> Iterator[BarsPart]:
        """The artefacts of bars as they came, whatever snapshots brought together since."""
        for record in self.journal.records():
            if record.kind == "bars":
                yield from State(number=record.number - 1).after(record).bars

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def locked(self, *, accepts_loss: bool = False) -> Iterator[None]:
        """For as long as it lasts no other process writes; inside itself it does nothing.

        What others wrote before is read first. The lock of a process that runs no more is taken over, and said. Raises
        `StoreError` that says who has it; and where records of the journal were lost, unless `accepts_loss`.
        """
        if self._holds:
            yield
            return
        with locked(self.folder) as was_left:
            self._holds, self._wrote = 1, was_left  # the index of a process that was killed is behind
            try:
                for place in (self.folder, self.folder / JOURNAL):
                    sweep(place)
                self._catch_up()
                error = self._other_journal()
                if error and not accepts_loss:
                    raise StoreError(f"{self.folder}: {error}")
                if self._lost and self._lost.must_be_accepted and not accepts_loss:
                    raise StoreError(f"{self.folder}: {self._lost.sentence}")
                if self._lost:
                    self._take_away(self._lost.first)
                with self.bars.read_once():
                    yield
                if self._wrote and (
                    self.machine.index is not None
                    or not append_to_file(self.folder, self.id, self.journal, self.decisions_of)
                ):
                    self.index().follow_quietly(self.journal, self.decisions_of)
            finally:
                self._holds = 0

    def _other_journal(self) -> OtherJournalError | None:
        """The error where an index has records that the journal has not; a shared one that cannot be asked has none.

        Under the store's lock. Raises `BusyIndexError` where the one beside the store is locked.
        """
        if self.machine.index is None:
            return other_journal(self.folder, self.id, self.journal, writes=True)
        with contextlib.suppress(StoreError):
            return self.index().other_journal(self.journal)
        return None

    def _catch_up(self) -> None:
        """Reads what others have written since."""
        newest = Journal.open(self.folder)
        if newest.last is None or self.journal.last is None or newest.last.hash != self.journal.last.hash:
            self._read()

    def _take_away(self, number: int) -> None:
        """Takes the records from a number on, whose files are lost, out of the journal, which has that as a record."""
        last = self.journal.last
        assert last is not None
        for file in files_of(self.folder):  # made again below; killed before, it must not have more than the journal
            if is_regular(file) and not file.is_symlink():
                remove(file)
        self.journal.cut_from(number)
        self._read()
        body = {"count": last.number - number + 1, "last": last.hash}
        self.append("lost", body, datetime.fromisoformat(self.state.now))
        try:
            self.index().rebuild(self.journal, self.decisions_of)
        except StoreError as error:
            warnings.warn(f"{error} The store itself is whole.", stacklevel=3)

    def append(
        self, kind: str, body: Mapping[str, Any], now: datetime, *, time: datetime | None = None
    ) -> Record:  # fmt: skip
        """Writes a record, from when on it has happened. Artefacts that it names in "parts" must be there already.

        What they hold is read as it will be read from then on. Raises `StoreError` for a body that does not fit its
        kind, for artefacts that could not be read again, and where it cannot be written; then nothing has changed. See
        `state.KINDS`, `Journal.append`.
        """
        with self.locked():
            refuse_misfit(kind, body)
            refuse_naive(now)
            missing = [name for name in (body.get("parts") or {}).values() if name and not self.artefacts.has(name)]
            if missing:
                raise StoreError(
                    f"a record {kind!r} names the artefact {missing[0]}, which is not there: put it first."
                )
            number = self.journal.last.number + 1 if self.journal.last else 1
            draft = Record.make(number, now, now, kind, body, self.state.hash)
            self._refuse_unreadable(draft, self.state.after(draft))
            record = self.journal.append(kind, body, now, time)
            self.state = self.state.after(record)
            self._wrote = True
            return record

    def _refuse_unreadable(self, record: Record, after: State) -> None:
        """Raises `StoreError` where the artefacts of a record that is to be written could not be read again."""
        try:
            for look in self.looks(after, self.state):
                look()
            for part in after.bars:
                if part not in self.state.bars:
                    self.bars.of_state(after).read(part)
            if record.kind == SNAPSHOT:
                self.state_of(record)
        except StoreError as error:
            self._discard(record.parts)
            why = str(error).partition(f" {REMEDY}")[0]
            raise StoreError(f"a record {record.kind!r} is not written: {why} Correct what it is made of.") from None

    def _discard(self, parts: Mapping[str, str]) -> None:
        """Removes artefacts that were written for a record which is not."""
        self.artefacts.discard({*parts.values()} - parts_named(self.journal.records()))

    @contextlib.contextmanager
    def refitting(self) -> Iterator[Path]:
        """The folder that keeps the networks of a refit under way; at the end they are removed.

        Where the refit fails or is killed they stay, and the next one goes on from them. Raises `StoreError` where
        something else is in the folder's place.
        """
        with self.locked():
            kept = self.folder / KEPT
            if kept.is_symlink() or (kept.exists() and not kept.is_dir()):
                raise StoreError(f"{kept} is no folder: it is where networks of a refit are kept. Move it away first.")
            yield kept
            discard(kept)

    def put(self, content: bytes, suffix: str) -> str:
        """Writes an artefact under the lock and returns its name; it counts once a record names it."""
        with self.locked():
            return self.artefacts.put(content, suffix)

    @checked
    def add_bars(
        self, bars: pl.DataFrame, now: datetime, *, stated: bool | None = None, problems: tuple[str, ...] = (),
        calendars: Mapping[str, str] | None = None, accept: Callable[[pl.DataFrame], object] | None = None,
        waits: Sequence[Mapping[str, Any]] = (),
    ) -> Record | None:  # fmt: skip
        """Stores what a Bars frame that came at `now` has that the store has not; None where it has all.

        `stated`: see `History.arrived`. `problems`: sentences that the record shall hold. `calendars`: symbol -> its
        calendar, where it is not that of its class. `accept`: called with all bars as of `now` before they count; what
        it raises keeps them out. `waits`: bars that wait from now on or no more, see `state.NewWait`. Raises
        `BarsError` for bars that are none, or not as the store's; `StoreError` where they cannot be written. Then
        nothing has changed.
        """
        with self.locked():
            arrived = self.bars.arrived(bars, now, stated)
            if not arrived.years:
                return None
            parts = {f"{year:04}": self.put(parquet(rows), ".parquet") for year, rows in arrived.years.items()}
            body = {
                "parts": parts, "rows": {f"{year:04}": len(rows) for year, rows in arrived.years.items()},
                "counts": dict(arrived.counts), "symbols": dict(arrived.symbols), "columns": list(arrived.columns),
                "problems": [*problems, *arrived.problems], "calendars": dict(calendars or {}),
                "waits": [dict(one) for one in waits],
            }  # fmt: skip
            if accept is not None:
                draft = self.state.after(Record.make(self.state.number + 1, now, now, "bars", body, self.state.hash))
                try:
                    accept(self.bars.of_state(draft).for_chain(now))
                except Exception:
                    self._discard(parts)
                    raise
            return self.append("bars", body, now)

    @checked
    def issue(
        self, decisions: pl.DataFrame, now: datetime, *, forecasts: pl.DataFrame | None = None,
        pieces: bytes | None = None, model: int | None = None, more: Mapping[str, Any] | None = None,
        holdings: pl.DataFrame | None = None, carried: bytes | None = None,
        desks: Mapping[str, bytes] | None = None,
    ) -> Record:  # fmt: skip
        """Stores decisions that were issued, and their forecasts. `model`: the number of its refit's record.

        `decisions`: one row a symbol and time, with further columns of numbers, texts, times and truth values.
        `pieces`: what was issued, see `issued.bytes_of_pieces`. `more`: what else the record shall hold, as JSON.
        `holdings`, `carried`: what the book holds (`trading.book.holdings_of`) and what it goes on from
        (`carried.bytes_of_carried`); then `more` has its figures as "book", see `schema.BookOfRecord`. `desks`:
        session -> what orders of it are made of, see `desks.bytes_of_desk`; the last one is of the newest session.
        """
        with self.locked():
            parts = {"decisions": self.put(parquet(decisions), ".parquet")}
            if forecasts is not None:
                parts["forecasts"] = self.put(parquet(forecasts), ".parquet")
            if pieces is not None:
                parts["pieces"] = self.put(pieces, ".safetensors")
            if holdings is not None and carried is not None:
                parts["book"] = self.put(parquet(holdings), ".parquet")
                parts["carried"] = self.put(carried, ".safetensors")
            for session, desk in (desks or {}).items():
                newest = session == max(desks or {})
                parts["desk" if newest else f"{DESK_OF}{session}"] = self.put(desk, ".safetensors")
            return self.append("issued", {**(more or {}), "parts": parts, "model": model}, now)

    def snapshot(self, now: datetime) -> Record:
        """Brings the bars into one artefact a calendar year and writes a snapshot, from which the store opens."""
        with self.locked():
            refuse_naive(now)
            kept = {part.year: part for part in self.state.bars if part.record is None}
            bars: list[dict[str, Any]] = [
                {"year": year, "part": self.put(parquet(rows), ".parquet"), "rows": len(rows), "record": None}
                for year, rows in self.bars.compacted()
            ]
            done = {one["year"] for one in bars}
            bars += [part.model_dump() for year, part in kept.items() if year not in done]
            bars.sort(key=lambda one: one["year"])
            draft: dict[str, Any] = {"bars": bars, "parts": {"state": "0" * 64 + ".json"}}
            number = self.state.number + 1
            after = self.state.after(Record.make(number, now, now, SNAPSHOT, draft, self.state.hash))
            state = self.put(indented(after.to_json()), ".json")
            parts = {"state": state} | {f"{one['year']:04}": one["part"] for one in bars}
            return self.append(SNAPSHOT, {"bars": bars, "parts": parts}, now)

    def keep_time(self, now: datetime) -> str:
        """Records that the clock was ahead, where bars are known after `now` and a record came after it.

        Then they count as known by `now`; else they would be hidden until then. Out: what is said of it; nothing where
        there are no such bars.
        """
        with self.locked():
            ahead = self.state.now
            if not ahead or now >= moment_of(ahead):
                return ""
            hidden = self.bars.versions().filter(pl.col("known_at") > now, pl.col("time") <= now)
            if hidden.is_empty():
                return ""
            self.append("clock", {}, now)
            return (
                f"{len(hidden)} rows of the store came when the clock was ahead (up to {ahead[:16]} UTC): they count "
                f"as known by {now:%Y-%m-%d %H:%M} UTC. What was decided then stays."
            )

    def maintain(self, now: datetime) -> Record | None:
        """Takes a snapshot where the newest file of the journal has become long; None where it has not."""
        with self.locked():
            newest = self.journal.files()[-1:]
            begun = int(newest[0].name[:9]) if newest else 1
            return self.snapshot(now) if self.state.number - begun >= SNAPSHOT_EVERY else None

    def beat(self, now: datetime, **said: Any) -> None:
        """Writes the heartbeat: that somebody looked after the store at `now`, by which process, and what it says.

        Where it cannot be written, that is said and ends nothing: no record depends on it.
        """
        refuse_naive(now)
        content = {"now": text_of(now), "time": text_of(datetime.now(UTC)), "process": mark(), **said}
        try:
            write_whole(self.folder / HEARTBEAT, indented({**content, "record": self.state.number}))
        except OSError as error:
            warnings.warn(
                f"{self.folder / HEARTBEAT} cannot be written: {error.strerror or error}. The store itself is whole.",
                stacklevel=2,
            )

    def heartbeat(self) -> dict[str, Any] | None:
        """What the heartbeat says; None where there is none, nothing where it cannot be read."""
        try:
            value = json_of(read(self.folder / HEARTBEAT, at_most=ABOUT_BYTES, follow=False))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    # ── what is in it ─────────────────────────────────────────────────────────────────────────────

    @property
    def experiment(self) -> Experiment:
        """The settings in force. Raises `StoreError` where they cannot be read."""
        return self.settings_of(str(self.state.settings))

    @property
    def actions(self) -> pl.DataFrame:
        """All actions that are known, as `market.actions.read_actions` gives them."""
        return self.bars.actions

    def table(self, name: str) -> pl.DataFrame:
        """A table that was given beside the bars, by the name of its option: of symbols as text, of a universe, or of
        actions.

        Raises `StoreError` for one that is none, and where there is none.
        """
        if name not in self.state.tables:
            raise StoreError(f"{self.folder} keeps no table {name!r}: it has {sorted(self.state.tables)}.")
        return self.table_of(name, self.state.tables[name])

    def set_actions(self, actions: pl.DataFrame, now: datetime, more: Mapping[str, Any] | None = None) -> Record:
        """Stores the table of all actions that are known. `more`: what else the record shall hold, as JSON."""
        with self.locked():
            parts = {"actions": self.put(parquet(actions), ".parquet")}
            return self.append("actions", {**(more or {}), "parts": parts}, now)

    def decisions(self, texts: Collection[str] = ()) -> pl.DataFrame:
        """All decisions that were issued, the oldest first, each with `record` and `issued` (when).

        `texts`: columns that each table must have. Raises `StoreError` for a table that is none.
        """
        return self._issued(lambda one: self.decisions_of(one.decisions, texts), KEYS)

    def forecasts(self) -> pl.DataFrame:
        """All forecasts that were issued, the oldest first, each with `record` and `issued` (when)."""
        return self._issued(
            lambda one: self.forecasts_of(one.forecasts) if one.forecasts else None, TABLES["forecasts"]
        )  # fmt: skip

    def _issued(self, table: Callable[[Any], pl.DataFrame | None], schema: Mapping[str, Any]) -> pl.DataFrame:
        frames = [pl.DataFrame(schema={**schema, "record": pl.Int64, "issued": TIME})]
        for one in self.state.issued:
            found = table(one)
            if found is not None:
                moment = pl.lit(datetime.fromisoformat(one.now)).cast(TIME)
                frames.append(found.with_columns(pl.lit(one.record, pl.Int64).alias("record"), moment.alias("issued")))
        return pl.concat(frames, how="diagonal_relaxed")

    def put_document(self, value: Any, schema: type[Schema]) -> str:
        """Writes JSON of a schema as an artefact and returns its name, see `put`; `document` reads it.

        Raises `StoreError` for a value that could not be read again; then nothing is written.
        """
        if fault := fault_of(schema, value):
            raise StoreError(f"{schema.__name__} cannot be stored: {fault}. Nothing was written; correct the input.")
        return self.put(canonical(value), ".json")

    def index(self) -> Index:
        """The index of this machine's choice; see `Machine.index`."""
        from gatecast.store.index import Index

        return Index(self.folder, self.id, self.machine.index)

    # ── checking and pruning ──────────────────────────────────────────────────────────────────────

    @classmethod
    def faults(cls, folder: str | Path, *, machine: Machine = ONE_CORE) -> list[Fault]:
        """Everything that is wrong with the store in a folder, also where it cannot be opened; see `check`.

        Raises `StoreError` where the folder is no store.
        """
        place = full_path(folder)
        try:
            about = about_of(place)
        except StoreError as error:
            if not (place / JOURNAL).is_dir():
                raise
            return [Fault(place / ABOUT, str(error))]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                store = cls(place, about, machine)
            except StoreError as error:
                records, found = faults_of_journal(place)
                found += faults_of_artefacts(Artefacts(place), records) if records else []
                return found if any(not one.is_harmless for one in found) else [*found, Fault(place, str(error))]
            return [*(Fault(place, str(one.message)) for one in said), *store.check()]

    def check(self) -> list[Fault]:
        """Everything that is wrong: each line of the journal, each artefact, the snapshot, the bars, the index.

        Of each artefact the hash is computed again; the state is folded from all records and compared with the newest
        snapshot. Harmless faults are those by which nothing is lost: what killed processes left, a missing index.
        """
        records, found = faults_of_journal(self.folder)
        found += faults_of_artefacts(self.artefacts, records)
        if any(not fault.is_harmless for fault in found):
            return found
        found += faults_of_about(self.folder, self.id, records)
        of_records: Callable[[], object] = partial(self.check_snapshots, records)
        of_bars: Callable[[], object] = partial(self.bars.as_of, datetime.max.replace(tzinfo=UTC))
        for look in (of_records, *self.looks(self.state, State()), of_bars):
            try:
                look()
            except StoreError as error:
                found.append(Fault(self.folder, str(error)))
        with contextlib.suppress(StoreError):  # which was said
            leaks = rows_dated_back(self.bars, self.state, self.journal)
            found += [Fault(self.folder, leak.sentence, is_harmless=True) for leak in leaks]
            given = [name for name in self.state.tables if name not in (SYMBOLS_FILE, UNIVERSE_FILE)]
            actions = {self.state.tables[name]: self.table(name) for name in given}
            actions[str(self.state.actions)] = self.actions
            found += misnamed_actions(self.folder, actions, self.state.symbols, records)
        unnamed = sum(1 for _ in self.artefacts.unreferenced(parts_named(records)))
        return found + faults_of_index(self.index(), records, unnamed)

    def rebuild_index(self) -> int:
        """Makes the index again from the journal; how many records it has then.

        Where it had records that the journal has not, that loss is accepted: how many they were becomes a record.
        """
        with self.locked(accepts_loss=True):
            if error := self._other_journal():
                body = {"count": error.count, "last": error.hash}
                self.append("lost", body, datetime.fromisoformat(self.state.now))
            return self.index().rebuild(self.journal, self.decisions_of)

    def prunable(self, keep: int | None = None) -> Pruning:
        """What `prune` would remove. `keep`: how many models stay, the newest accepted ones, besides the one that
        serves and the one before it; None: all. What an older model issued stays: it is a part of the past."""
        return Pruning.of([*self.journal.records()], self.state, self.artefacts, keep)

    def prune(self, now: datetime, keep: int | None = None) -> Pruning:
        """Removes what `prunable` says, after it was written into the journal; what was removed."""
        with self.locked():
            self.artefacts.sweep()
            found = self.prunable(keep)
            if found.all:
                body = {
                    "removed": sorted({**found.superseded, **found.models}), "count": len(found.all),
                    "bytes": sum(found.all.values()), "keep": keep,
                }  # fmt: skip
                self.append("pruned", body, now)
                self.artefacts.discard([*found.all])
            return found
