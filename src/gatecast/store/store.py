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
import json
import os
import shlex
import tomllib
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import InfiniteError, SettingsError, StoreError, shown, symbol_fault
from gatecast.experiment import Experiment
from gatecast.files import full_path, read, sweep, sync_folder, write, write_whole
from gatecast.formats import NotFinite, json_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.actions import misnamed
from gatecast.market.calendar import fill_times
from gatecast.market.universe import UNIVERSE
from gatecast.processes import is_dead, mark
from gatecast.settings import to_toml
from gatecast.store.artefacts import FOLDER as ARTEFACTS
from gatecast.store.artefacts import REMEDY, Artefacts
from gatecast.store.carried import carried_of
from gatecast.store.desks import desk_of
from gatecast.store.folders import acquired, discard, written_beside
from gatecast.store.history import History, actions_of, parquet, refuse_naive
from gatecast.store.indexed import append_to_file
from gatecast.store.journal import FOLDER as JOURNAL
from gatecast.store.journal import (
    SNAPSHOT,
    Journal,
    Line,
    Record,
    canonical,
    first_number,
    moment_of,
    parts_named,
    text_of,
)
from gatecast.store.parts import Parts, models_of
from gatecast.store.pieces import read_pieces
from gatecast.store.schema import (
    HOLDINGS,
    KEYS,
    TABLES,
    TIME,
    AlarmsOfClasses,
    Count,
    FillsFile,
    Name,
    OrdersFile,
    PositionsFile,
    Provenance,
    Schema,
    Scores,
    fault_of,
)
from gatecast.store.state import ALARMS, DESK_OF, ISSUED, BarsPart, State, refuse_misfit

if TYPE_CHECKING:
    from gatecast.audits.leaks import Leak
    from gatecast.store.carried import ChangesOf
    from gatecast.store.index import Index
    from gatecast.store.issued import Piece
    from gatecast.store.state import Model
    from gatecast.trading.book import Carried
    from gatecast.trading.desk import Desk
    from gatecast.trading.orders import OrderSettings

FORMAT, VERSION = "gatecast store", 2
ABOUT, HEARTBEAT, LOCK, INDEX, KEPT = "store.json", "heartbeat", "lock", "index.sqlite", "kept"
ABOUT_BYTES = 100_000
MOST_LEAKS = 20
INSTANT = timedelta(microseconds=1)
"""Before a decision: rows of several files may come at one moment."""
SYMBOLS_FILE, UNIVERSE_FILE = "symbols_file", "universe"
SYMBOLS = dict.fromkeys(("symbol", "asset_class", "close", "calendar"), pl.String)
"""Columns of a symbols file that is kept; one of an earlier version has no currencies."""
"""Columns of the table of symbols that a store keeps."""
KEPT_SNAPSHOTS = 2
"""Snapshots whose artefacts `prune` leaves, the newest of all."""
POWER = timedelta(minutes=10)
"""How long before its end a record's files may still have been on their way to the disk."""
KEPT_CARRIED = 60
"""Newest records of which `prune` leaves what the book goes on from."""
SNAPSHOT_EVERY = 100
"""Records after which `maintain` takes a snapshot."""
DOCUMENTS: dict[str, type[Schema]] = {"orders": OrdersFile, "fills": FillsFile, "positions": PositionsFile}
"""Role of an artefact of a record about orders -> what it must be."""
UPGRADES: dict[int, Callable[[Path], None]] = {1: lambda place: None}
"""Schema version -> what brings a store's folder from it to the next one. It must bear being begun twice.

2 has orders, what they are made of, and changes of units in what the book goes on from: a gatecast that knows 1 alone
cannot read that. What is there of 1 stays as it is, and `carried` reads it.
"""


class About(Schema):
    """`store.json`."""

    format: Name
    version: Count
    id: Name
    gatecast: Name | None = None


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store: the file, and what; `is_harmless` where nothing is lost by it."""

    file: Path
    what: str
    is_harmless: bool = False

    @property
    def sentence(self) -> str:
        """It in words."""
        return f"{self.file}: {self.what}"


@dataclass(frozen=True)
class Pruning:
    """What `prune` removes: artefacts no record names, those of older snapshots and sessions of the book, of models."""

    unnamed: Mapping[str, int]
    superseded: Mapping[str, int]
    models: Mapping[str, int]

    @property
    def all(self) -> dict[str, int]:
        """Name -> bytes of all of them."""
        return {**self.unnamed, **self.superseded, **self.models}


def refuse_taken(place: Path) -> None:
    """Raises `StoreError` where no store can be made at a path: it is a file, or a folder that holds something."""
    try:
        if place.exists() and not place.is_dir():
            raise StoreError(f"{place} is a file: give a folder for the store.")
        if place.is_dir() and any(place.iterdir()):
            raise StoreError(f"{place} holds something that is no store: give another folder, or empty this one.")
    except PermissionError as error:
        raise StoreError(f"{place} cannot be read: {error.strerror}. Give another folder.") from None


class Store:
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
        self.folder, self.id, self.machine = folder, str(about["id"]), machine
        self.artefacts = Artefacts(folder)
        self.bars = History(self.artefacts, lambda: self.state, self._bars_that_came)
        self._holds = 0
        self._wrote = False
        self.journal, self.state, self._lost = self._read()

    # ── making and opening ────────────────────────────────────────────────────────────────────────

    @classmethod
    @checked
    def create(
        cls, folder: str | Path, experiment: Experiment, *, now: datetime | None = None, machine: Machine = ONE_CORE
    ) -> Store:
        """Makes a store in a folder that is absent or empty. Raises `StoreError`; then nothing has changed."""
        place = full_path(folder)
        if (place / ABOUT).is_file():
            raise StoreError(f"{place} is a store already: open it, or give another folder.")
        refuse_taken(place)
        from importlib.metadata import version

        about = {"format": FORMAT, "version": VERSION, "id": uuid.uuid4().hex, "gatecast": version("gatecast")}
        moment = now or datetime.now(UTC)
        refuse_naive(moment)
        follows = "Nothing was made; make room or give another folder."
        with written_beside(place, follows) as temporary:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            write(temporary / ABOUT, _json(about))
            settings = Artefacts(temporary).put(to_toml(experiment).encode(), ".toml")
            body = {**about, "parts": {"settings": settings}}
            del body["format"]
            Journal.open(temporary).append("created", body, moment)
            for inner in (temporary, temporary / ARTEFACTS):
                sync_folder(inner)
            if place.exists():
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
        about = _about(place)
        if about["version"] < VERSION:
            if not upgrades:
                raise StoreError(
                    f"{place} is a store of schema version {about['version']}, and is not written to here: "
                    f"`gatecast store list {place}` brings it to version {VERSION}."
                )
            about = upgrade(place)
        return cls(place, about, machine)

    def as_of(self, moment: datetime) -> Store:
        """The store after its records up to a moment, to be read only, with the bars that had come by then.

        Where files of them were pruned since, all bars of now take their place, each with its moment. Raises
        `StoreError` where it had no record yet.
        """
        refuse_naive(moment)
        records = [one for one in self.journal.records() if not self._lost or one.number < self._lost]
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

    def _read(self) -> tuple[Journal, State, int | None]:
        """The journal, the state, and the number of the first record whose files are lost.

        The state is that of the newest snapshot that is whole and of the records after it, up to the first lost one.
        """
        journal = Journal.open(self.folder)
        if journal.last is None:
            raise StoreError(f"{self.folder / JOURNAL} has no record. Restore the store from a copy.")
        lost = self._first_lost(journal)
        state = State()
        for snapshot in journal.snapshots():
            if lost and snapshot.number >= lost:
                continue
            try:
                found = State.of_json(self.artefacts.json(snapshot.parts["state"]), snapshot)
            except (StoreError, ValueError, KeyError) as error:
                warnings.warn(
                    f"the snapshot of record {snapshot.number} in {self.folder} cannot be used, the records before it "
                    f"are: {error}",
                    stacklevel=2,
                )
                continue
            state = found
            break
        since = journal.records(since=state.number + 1)
        state = state.after_all(one for one in since if not lost or one.number < lost)
        if state.id != self.id:
            raise StoreError(
                f"{self.folder / ABOUT} is of the store {self.id}, the journal of {state.id}: files of two stores were "
                "mixed. Restore the store from a copy."
            )
        return journal, state, lost

    def _first_lost(self, journal: Journal) -> int | None:
        """The number of the first of the newest records whose files a loss of power took, which is said; else None.

        Files come to the disk before their record. Where a disk that lost power did not keep that order, a record has
        not happened: the newest version of the store that is whole is the one before it. Files that are older than
        `POWER` before the last record were on the disk: where one of them is gone, the store is damaged.
        """
        assert journal.last is not None
        end = journal.last.time
        *before, last = journal.files()
        newest = list(journal.records(since=first_number(last)))
        if before and end - newest[0].time <= POWER:
            newest = list(journal.records(since=first_number(before[-1])))
        recent = [one for one in newest if end - one.time <= POWER and one.kind != SNAPSHOT]
        named = parts_named(recent)
        first = next((one for one in recent if any(map(self.artefacts.is_lost, named & {*one.parts.values()}))), None)
        if first is None or first.number == 1:
            return None
        count = journal.last.number - first.number + 1
        warnings.warn(
            f"{self.folder}: files of record {first.number} ({first.kind}) never came to the disk, as after a loss of "
            f"power. The store is what it was before it; the last {count} of its records count no more. Give the bars "
            "of that time again.",
            stacklevel=2,
        )
        return first.number

    def _bars_that_came(self) -> Iterator[BarsPart]:
        """The artefacts of bars as they came, whatever snapshots brought together since."""
        for record in self.journal.records():
            if record.kind == "bars":
                yield from State(number=record.number - 1).after(record).bars

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as it lasts no other process writes; inside itself it does nothing.

        What others wrote before is read first. The lock of a process that runs no more is taken over, and said. Raises
        `StoreError` that says who has it.
        """
        if self._holds:
            yield
            return
        with _locked(self.folder) as was_left:
            self._holds, self._wrote = 1, was_left  # the index of a process that was killed is behind
            try:
                for place in (self.folder, self.folder / JOURNAL):
                    sweep(place)
                self._catch_up()
                if self._lost:
                    self._take_away(self._lost)
                with self.bars.read_once():
                    yield
                if self._wrote:
                    self._index_quietly()
            finally:
                self._holds = 0

    def _catch_up(self) -> None:
        """Reads what others have written since."""
        newest = Journal.open(self.folder)
        if newest.last is None or self.journal.last is None or newest.last.hash != self.journal.last.hash:
            self.journal, self.state, self._lost = self._read()

    def _take_away(self, number: int) -> None:
        """Takes the records from a number on, whose files are lost, out of the journal, which has that as a record."""
        last = self.journal.last
        assert last is not None
        self.journal.cut_from(number)
        self.journal, self.state, self._lost = self._read()
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
            for look in self._looks(after, self.state):
                look()
            for part in after.bars:
                if part not in self.state.bars:
                    self.bars.of_state(after).read(part)
            if record.kind == SNAPSHOT:
                self._state_of(record)
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
            state = self.put(_json(after.to_json()), ".json")
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
            write_whole(self.folder / HEARTBEAT, _json({**content, "record": self.state.number}))
        except OSError as error:
            warnings.warn(
                f"{self.folder / HEARTBEAT} cannot be written: {error.strerror or error}. The store itself is whole.",
                stacklevel=2,
            )

    def heartbeat(self) -> dict[str, Any] | None:
        """What the heartbeat says; None where there is none, or it cannot be read."""
        try:
            value = json_of(read(self.folder / HEARTBEAT, at_most=ABOUT_BYTES, follow=False))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    # ── what is in it ─────────────────────────────────────────────────────────────────────────────

    @property
    def experiment(self) -> Experiment:
        """The settings in force. Raises `StoreError` where they cannot be read."""
        return self._settings_of(str(self.state.settings))

    def _settings_of(self, name: str) -> Experiment:
        try:
            return Experiment(**tomllib.loads(self.artefacts.get(name).decode()))
        except (SettingsError, TypeError, ValueError, RecursionError) as error:
            raise self.artefacts.fault(name, f"these are no settings of this gatecast: {str(error)[:300]}") from None

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
        return self._table_of(name, self.state.tables[name])

    def _table_of(self, name: str, part: str) -> pl.DataFrame:
        if name == SYMBOLS_FILE:
            return self.artefacts.table(part, SYMBOLS, further=(pl.String,))
        if name == UNIVERSE_FILE:
            return self.artefacts.table(part, UNIVERSE)
        return actions_of(self.artefacts, part)

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
            lambda one: self._forecasts_of(one.forecasts) if one.forecasts else None, TABLES["forecasts"]
        )  # fmt: skip

    def _issued(self, table: Callable[[Any], pl.DataFrame | None], schema: Mapping[str, Any]) -> pl.DataFrame:
        frames = [pl.DataFrame(schema={**schema, "record": pl.Int64, "issued": TIME})]
        for one in self.state.issued:
            found = table(one)
            if found is not None:
                moment = pl.lit(datetime.fromisoformat(one.now)).cast(TIME)
                frames.append(found.with_columns(pl.lit(one.record, pl.Int64).alias("record"), moment.alias("issued")))
        return pl.concat(frames, how="diagonal_relaxed")

    def decisions_of(self, name: str, texts: Collection[str] = ()) -> pl.DataFrame:
        """The decisions of an artefact. Raises `StoreError` for a table that is none, or lacks one of the `texts`."""
        kinds = (pl.Float64, pl.Int8, pl.Int32, pl.Int64, pl.Boolean, pl.String, TIME)
        frame = self.artefacts.table(name, {**KEYS, **dict.fromkeys(texts, pl.String)}, further=kinds)
        if frame.select(
            pl.struct(*KEYS).is_duplicated().any() | pl.any_horizontal(pl.col(*KEYS).is_null()).any()
        ).item():
            raise self.artefacts.fault(name, "it has two decisions of one symbol and time, or one without")
        return frame

    def holdings_of(self, name: str) -> pl.DataFrame:
        """What the book holds, of an artefact; see `trading.book.holdings_of`. Raises `StoreError` for what is none."""
        return self.artefacts.table(name, HOLDINGS)

    def carried_of(self, name: str, changes: ChangesOf | None = None) -> Carried:
        """What the book goes on from, of an artefact; `changes`: see `carried.carried_of`. Raises `StoreError` for what
        is none, an `InfiniteError` for one with numbers that are not finite."""
        try:
            return carried_of(self.artefacts.get(name), changes)
        except NotFinite as error:
            raise InfiniteError(
                f"{self.artefacts.path(name)}: {error}. An earlier gatecast wrote it where an action gave more than "
                f"anybody can hold. `gatecast update {self.folder}` decides again from a session before it."
            ) from None
        except ValueError as error:
            raise self.artefacts.fault(name, str(error)) from None

    def _check_carried(self, name: str, *, is_newest: bool) -> None:
        """Raises `StoreError` for what the book cannot go on from; numbers that are not finite are no fault once a
        later record has others."""
        with contextlib.suppress(*([] if is_newest else [InfiniteError])):
            self.carried_of(name)

    def desk_of(self, name: str) -> tuple[Desk, OrderSettings]:
        """What orders of a session are made of, and their limits. Raises `StoreError` for what is none."""
        try:
            return desk_of(self.artefacts.get(name))
        except ValueError as error:
            raise self.artefacts.fault(name, str(error)) from None

    def put_document(self, value: Any, schema: type[Schema]) -> str:
        """Writes JSON of a schema as an artefact and returns its name, see `put`; `document` reads it.

        Raises `StoreError` for a value that could not be read again; then nothing is written.
        """
        if fault := fault_of(schema, value):
            raise StoreError(f"{schema.__name__} cannot be stored: {fault}. Nothing was written; correct the input.")
        return self.put(canonical(value), ".json")

    def document(self, name: str, schema: type[Schema]) -> Any:
        """An artefact that is JSON of a schema. Raises `StoreError` for what is none."""
        value = self.artefacts.json(name)
        if fault := fault_of(schema, value):
            raise self.artefacts.fault(name, fault)
        return value

    def _forecasts_of(self, name: str) -> pl.DataFrame:
        return self.artefacts.table(name, TABLES["forecasts"])

    def index(self) -> Index:
        """The index of this machine's choice; see `Machine.index`."""
        from gatecast.store.index import Index

        return Index(self.folder, self.id, self.machine.index)

    def _index_quietly(self) -> None:
        """Brings the index up to date; what fails is said and ends nothing."""
        if self.machine.index is None and append_to_file(self.folder, self.id, self.journal, self.decisions_of):
            return
        from gatecast.store.index import OtherJournalError

        index = self.index()
        try:
            index.follow(self.journal, self.decisions_of)
        except OtherJournalError as error:
            warnings.warn(f"{self.folder}: {error}", stacklevel=3)
        except StoreError as error:
            if index.file is None:
                warnings.warn(f"{error} The store itself is whole.", stacklevel=3)
                return
            try:
                index.rebuild(self.journal, self.decisions_of)
            except StoreError as again:
                warnings.warn(f"{again} The store itself is whole.", stacklevel=3)

    # ── checking and pruning ──────────────────────────────────────────────────────────────────────

    @classmethod
    def faults(cls, folder: str | Path, *, machine: Machine = ONE_CORE) -> list[Fault]:
        """Everything that is wrong with the store in a folder, also where it cannot be opened; see `check`.

        Raises `StoreError` where the folder is no store.
        """
        place = full_path(folder)
        try:
            about = _about(place)
        except StoreError as error:
            if not (place / JOURNAL).is_dir():
                raise
            return [Fault(place / ABOUT, str(error))]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                store = cls(place, about, machine)
            except StoreError as error:
                records, found = _faults_of_journal(place)
                found += _faults_of_artefacts(place, records) if records else []
                return found if any(not one.is_harmless for one in found) else [*found, Fault(place, str(error))]
            return [*(Fault(place, str(one.message)) for one in said), *store.check()]

    def check(self) -> list[Fault]:
        """Everything that is wrong: each line of the journal, each artefact, the snapshot, the bars, the index.

        Of each artefact the hash is computed again; the state is folded from all records and compared with the newest
        snapshot. Harmless faults are those by which nothing is lost: what killed processes left, a missing index.
        """
        records, found = _faults_of_journal(self.folder)
        found += _faults_of_artefacts(self.folder, records)
        if any(not fault.is_harmless for fault in found):
            return found
        found += self._faults_of_about(records)
        for look in (lambda: self._check_state(records), *self._looks(self.state, State()), self._check_bars):
            try:
                look()
            except StoreError as error:
                found.append(Fault(self.folder, str(error)))
        with contextlib.suppress(StoreError):  # which was said
            found += [Fault(self.folder, leak.sentence, is_harmless=True) for leak in self.dated_back()]
            found += self._misnamed(records)
        return found + self._faults_of_index(records)

    def dated_back(self, since: int = 0) -> list[Leak]:
        """Rows that came after a decision and claim to have been known at it, see `audits.leaks.dated_back`.

        So does a row that came after the fill of its close, which was decided on, and claims to have been known by it.
        `since`: number of the record from which on they came. Of a row that came before its fill, of a history before a
        symbol's first row, and of new symbols nothing is said. At most `MOST_LEAKS` records are looked into.
        """
        from gatecast.audits.leaks import dated_back

        versions, issued = self.bars.versions(), pl.DataFrame(
            {"decided": [one.record for one in self.state.issued], "moment": [one.now for one in self.state.issued]},
            schema={"decided": pl.Int64, "moment": pl.String},
        ).with_columns(pl.col("moment").str.to_datetime(time_unit="us", time_zone="UTC") - INSTANT)  # fmt: skip
        came = versions.filter(pl.col("record") > since).sort("record")
        if came.is_empty() or issued.is_empty():
            return []
        came_at = {one.number: one.now for one in self.journal.records(since=since + 1) if one.kind == "bars"}
        for clock in self.state.clocks:  # what came while the clock was ahead
            right = datetime.fromisoformat(clock.now)
            came_at |= {number: min(one, right) for number, one in came_at.items() if number < clock.record}
        moments = pl.DataFrame(
            {"record": list(came_at), "came": list(came_at.values())},
            schema={"record": came.schema["record"], "came": pl.Datetime("us", "UTC")},
        )
        whole = self.bars.as_of(datetime.max.replace(tzinfo=UTC))
        fills = whole.select("symbol", "time", fill=fill_times(whole))
        came = came.join_asof(issued, left_on="record", right_on="decided")
        came = came.join(fills, on=["symbol", "time"], how="left").join(moments, on="record", how="left")
        by_fill = pl.col("time") <= pl.col("moment"), pl.col("came") > pl.col("fill")
        until = pl.when(*by_fill).then(pl.max_horizontal("moment", "fill")).otherwise("moment")
        claims = came.with_columns(until=until).filter(pl.col("known_at") <= pl.col("until"))
        until = pl.when(pl.col("known_at") <= pl.col("moment")).then("moment").otherwise("until")
        leaks: dict[tuple[Any, ...], Leak] = {}
        for record, decided, moment, arrival in (
            claims.select("record", "decided", until.alias("moment"), "came").unique().sort("record", "moment").rows()
        ):
            seen, later = (self.bars.as_of(moment, record=number) for number in (decided, record))
            begun = seen.group_by("symbol").agg(_begun=pl.col("time").min())
            later = later.filter(fill_times(later) <= arrival).join(begun, on="symbol", maintain_order="left")
            later = later.filter(pl.col("time") >= pl.col("_begun")).drop("_begun")
            for leak in dated_back(seen.filter(fill_times(seen) <= arrival), moment, later):
                leaks.setdefault((record, leak.symbol, leak.time, leak.column), leak)
            if len(leaks) >= MOST_LEAKS:
                break
        return list(leaks.values())[:MOST_LEAKS]

    def _misnamed(self, records: list[Record]) -> Iterator[Fault]:
        """Actions of symbols that are none, which earlier versions took, with their record and what takes them back."""
        others = (SYMBOLS_FILE, UNIVERSE_FILE)
        tables = {part: self.table(name) for name, part in self.state.tables.items() if name not in others}
        for part, table in {**tables, str(self.state.actions): self.actions}.items():
            number = next((one.number for one in records if part in one.parts.values()), 0)
            for symbol, kind, day, into in misnamed(table).select("symbol", "kind", "date", "into").iter_rows():
                given = f" into {shown(into)}" if into else ""
                why = symbol_fault(symbol) or symbol_fault(into)
                what = f"record {number} has a {kind} of {shown(symbol)} on {day}{given}: {why}"
                own = f"--symbol {shlex.quote(symbol)} --date {day} --kind {kind}"
                back = f"`gatecast actions remove {self.folder} {own}` takes it back"
                if symbol not in self.state.symbols:
                    back = "the store has no such symbol, and nothing comes of it"
                yield Fault(self.folder, f"{what}; {back}", is_harmless=True)

    def _faults_of_about(self, records: list[Record]) -> list[Fault]:
        """Whether `store.json` is what the records say that was written there."""
        about: dict[str, Any] = {"format": FORMAT, "version": 1, "id": self.id, "gatecast": None}
        may_be = [about]
        for one in records:
            if one.kind in ("created", "upgraded"):
                before = {**about, "version": one.body.get("before", 1)}
                about = {
                    **about, "version": one.body.get("after", one.body.get("version", 1)),
                    "gatecast": one.body.get("gatecast"),
                }  # fmt: skip
                may_be = [about, before] if one is records[-1] else [about]  # a killed upgrade is made up for
        file = self.folder / ABOUT
        if read(file, at_most=ABOUT_BYTES, follow=False) in map(_json, may_be):
            return []
        return [Fault(file, f"it was changed; expected {json.dumps(about)}. Restore it from a copy.")]

    def _check_state(self, records: list[Record]) -> None:
        folded, named = State(), parts_named(records)
        for record in records:
            folded = folded.after(record)
            if record.kind == SNAPSHOT and (part := record.parts["state"]) in named:
                state = self._state_of(record)
                if _json(state.to_json()) != _json(folded.to_json()):
                    raise self.artefacts.fault(part, "it is not what the records before it add up to")

    def _check_bars(self) -> None:
        self.bars.as_of(datetime.max.replace(tzinfo=UTC))

    def _state_of(self, snapshot: Record) -> State:
        """The state of a snapshot; one of an earlier version lacks fields, which then are empty."""
        part = snapshot.parts["state"]
        try:
            return State.of_json(self.artefacts.json(part), snapshot)
        except ValueError as error:
            raise self.artefacts.fault(part, str(error)) from None

    def _looks(self, state: State, before: State) -> Iterator[Callable[[], object]]:
        """Each thing to read of a state that the one before it has not, but for bars: settings, actions and other
        tables, what was issued, orders, models. Each raises `StoreError`."""
        if state.settings != before.settings:
            yield partial(self._settings_of, str(state.settings))
        if state.actions != before.actions:
            yield lambda: self.bars.of_state(state).actions
        for name, part in state.tables.items():
            if part != before.tables.get(name):
                yield partial(self._table_of, name, part)
        for one in state.issued[len(before.issued) :]:
            yield partial(self.decisions_of, one.decisions)
            if one.forecasts:
                yield partial(self._forecasts_of, one.forecasts)
            if one.pieces:
                yield partial(self._pieces_of, one.pieces)
            if one.book:
                yield partial(self.holdings_of, one.book)
            if one.carried and self.artefacts.has(one.carried):  # an older one may have been pruned
                yield partial(self._check_carried, one.carried, is_newest=one is state.issued[-1])
            for name in one.desks.values():
                yield partial(self.desk_of, name)
        for event in state.orders[len(before.orders) :]:
            for role, part in (event.get("parts") or {}).items():
                yield partial(self.document, part, DOCUMENTS[role])
        for model in state.models[len(before.models) :]:
            if ISSUED in model.parts:
                yield partial(self._pieces_of, model.parts[ISSUED])
            yield partial(self._check_model, model)

    def _pieces_of(self, name: str) -> dict[str, Piece]:
        return read_pieces(self.artefacts, name, self.experiment.horizon)

    def _check_model(self, model: Model) -> None:
        """Reads settings, scores and fits of a model, as far as none of them was pruned. Raises `StoreError`."""
        names = {role: name for role, name in model.parts.items() if role != ISSUED}
        if not all(self.artefacts.has(name) for name in names.values()):
            return
        parts = Parts.of_content(self.folder, {role: self.artefacts.get(name) for role, name in names.items()})
        for role, schema in (("scores.json", Scores), ("provenance.json", Provenance), (ALARMS, AlarmsOfClasses)):
            if role in parts:
                parts.json(role, schema)
        if "experiment.toml" in parts:
            self._settings_of(names["experiment.toml"])
        for within in ("models/", "refused/"):
            models_of(parts, within)

    def _faults_of_index(self, records: list[Record]) -> list[Fault]:
        from gatecast.store.index import REBUILD as rebuild
        from gatecast.store.index import OtherJournalError

        index = self.index()
        place = index.file or self.folder / INDEX
        try:
            if index.file is not None and not index.file.exists():
                return [Fault(place, f"there is no index; {rebuild}", is_harmless=True)]
            number, found = index.last()
            count = index.count()
        except StoreError as error:
            return [Fault(place, str(error), is_harmless=index.file is None)]
        if number > len(records) or (number and records[number - 1].hash != found):
            return [Fault(self.folder / JOURNAL, str(OtherJournalError(number, len(records))))]
        if number and count != number:
            return [Fault(place, f"the index is not of this journal; {rebuild}")]
        if number < len(records):
            return [Fault(place, f"the index ends with record {number}; {rebuild}", is_harmless=True)]
        return []

    def rebuild_index(self) -> int:
        """Makes the index again from the journal; how many records it has then."""
        with self.locked():
            return self.index().rebuild(self.journal, self.decisions_of)

    def prunable(self, keep: int | None = None) -> Pruning:
        """What `prune` would remove. `keep`: how many models stay, the newest accepted ones, besides the one that
        serves and the one before it; None: all. What an older model issued stays: it is a part of the past."""
        if keep is not None and keep < 1:
            raise SettingsError(f"keep = {keep}: at least one model stays.")
        records = list(self.journal.records())
        named = parts_named(records)
        snapshots = [one for one in records if one.kind == SNAPSHOT]
        old = {one.number for one in snapshots[:-KEPT_SNAPSHOTS]}
        gone = [] if keep is None else self._old_models(keep)
        held = parts_named(one for one in records if one.number not in old)
        superseded = (parts_named(one for one in records if one.number in old) & named) - held
        carried = [one.carried for one in self.state.issued if one.carried]
        superseded |= ({*carried[:-KEPT_CARRIED]} & named) - {*carried[-KEPT_CARRIED:]}
        numbers = old | {one.record for one in gone}
        without = parts_named(one for one in records if one.number not in numbers)
        without |= {one.parts[ISSUED] for one in self.state.models if ISSUED in one.parts}
        models = ({name for one in gone for name in one.parts.values()} & named) - without
        unnamed = dict(self.artefacts.unreferenced(named))
        return Pruning(unnamed, self._sizes(superseded - models), self._sizes(models))

    def _old_models(self, keep: int) -> list[Any]:
        accepted = [one.record for one in self.state.models if one.status == "accepted"]
        stay = {*accepted[-keep:], self.state.serving, self.state.previous}
        newest = max((one.record for one in self.state.models), default=0)
        return [
            one for one in self.state.models
            if one.record not in stay and not (one.status == "candidate" and one.record == newest)
        ]  # fmt: skip

    def _sizes(self, names: set[str]) -> dict[str, int]:
        return {name: self.artefacts.path(name).lstat().st_size for name in sorted(names) if self.artefacts.has(name)}

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


def _faults_of_journal(folder: Path) -> tuple[list[Record], list[Fault]]:
    """The records that can be read, and what does not fit."""
    journal = Journal(folder / JOURNAL, None)
    found = []
    try:
        lines: list[Line] = list(journal.lines())
        torn = journal.tail()
    except StoreError as error:
        return [], [Fault(folder / JOURNAL, str(error))]
    found += [Fault(line.file, f"line {line.number}: {line.fault}") for line in lines if line.fault]
    if torn and not found:
        said = f"its last {torn:,} bytes are a record that a killed process did not finish: it never happened"
        found.append(Fault(journal.files()[-1], said, is_harmless=True))
    if not lines:
        found.append(Fault(folder / JOURNAL, "it has no record"))
    known = {file.name for file in journal.files()}
    with contextlib.suppress(OSError):
        found += [
            Fault(folder / JOURNAL / name, "it is no file of the journal", is_harmless=True)
            for name in sorted(os.listdir(folder / JOURNAL)) if name not in known and not name.startswith(".")
        ]  # fmt: skip
    return [line.record for line in lines if line.record is not None], found


def _faults_of_artefacts(folder: Path, records: list[Record]) -> list[Fault]:
    """Artefacts that records name and that are missing or damaged; and what lies among them that is none."""
    artefacts = Artefacts(folder)
    found = []
    named = parts_named(records)
    for name in sorted(named):
        try:
            artefacts.get(name)
        except StoreError as error:
            found.append(Fault(artefacts.folder, str(error)))
    for name, size in artefacts.unreferenced(named):
        said = f"no record names this artefact of {size:,} bytes; `gatecast store prune` removes it"
        found.append(Fault(artefacts.path(name), said, is_harmless=True))
    strange = [Fault(path, "it is no artefact of the store", is_harmless=True) for path in artefacts.strangers()]
    return found + strange


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _about(place: Path, newest: int = VERSION) -> dict[str, Any]:
    """The content of `store.json`. Raises `StoreError` for a folder that is no store, or of a newer version."""
    path = place / ABOUT
    try:
        about = json_of(read(path, at_most=ABOUT_BYTES, follow=False))
    except (FileNotFoundError, NotADirectoryError):
        why = f"it has no {ABOUT}" if place.is_dir() else "there is no such folder"
        raise StoreError(f"{place} is no gatecast store: {why}. Give a store's folder.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}. Restore it from a copy.") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. Restore it from a copy.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise StoreError(f"{path} is not of a gatecast store. Give a store's folder.")
    if fault := fault_of(About, about):
        raise StoreError(f"{path} is damaged: {fault}. Restore it from a copy.")
    if about["version"] > newest:
        raise StoreError(
            f"{place} is a store of schema version {about['version']}, this gatecast reads up to {newest}: use the "
            f"version that wrote it ({str(about.get('gatecast'))[:40]}) or a newer one."
        )
    return dict(about)


def upgrade(
    place: Path, *, steps: Mapping[int, Callable[[Path], None]] = UPGRADES, newest: int = VERSION
) -> dict[str, Any]:  # fmt: skip
    """Brings a store's folder to the newest schema version, one step after the other; its `store.json` then.

    `steps`: see `UPGRADES`. After each step a record says so, then `store.json`. Raises `StoreError` for a version
    from which no step leads on, and where another process writes to the store.
    """
    from importlib.metadata import version

    with _locked(place):
        about = _about(place, newest)  # another process may have done it meanwhile
        before = int(about["version"])
        while about["version"] < newest:
            if about["version"] not in steps:
                raise StoreError(
                    f"{place} is a store of schema version {about['version']}, which this gatecast no longer reads: "
                    "open it with an older version first."
                )
            try:
                steps[about["version"]](place)
                body = {"before": about["version"], "after": about["version"] + 1, "gatecast": version("gatecast")}
                journal = Journal.open(place)
                moment = journal.last.now if journal.last else datetime.now(UTC)  # no command's moment: time stays
                journal.append("upgraded", body, moment)
                about |= {"version": body["after"], "gatecast": body["gatecast"]}
                write_whole(place / ABOUT, _json(about))
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{place} cannot be upgraded: {error.strerror or error}.") from None
        if before < newest:
            warnings.warn(f"{place} was brought from schema version {before} to {newest}.", stacklevel=3)
    return about


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """For as long as it lasts no other process writes to the store in a folder. Raises `StoreError`.

    Gives whether a process left the lock that runs no more.
    """
    from filelock import Timeout

    file = folder / LOCK
    try:
        lock = acquired(file)
    except Timeout:
        raise StoreError(
            f"another process writes to {folder} ({_holder(file)}): wait until it ends, or stop it."
        ) from None
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{folder} cannot be locked: {error.strerror or error}.") from None
    try:
        was_left = _say_taken_over(file)
        with contextlib.suppress(OSError):
            _write_holder(file, f"{mark()} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}\n")
        yield was_left
    finally:
        with contextlib.suppress(OSError):
            _write_holder(file, "")
        lock.release()


def _holder(file: Path) -> str:
    """Who has the lock, in words."""
    try:
        text = read(file, at_most=1_000, follow=False).decode("ascii", "replace").strip()
    except OSError:
        text = ""
    process, _, since = text.partition(" ")
    parts = process.split("-")
    return f"process {parts[1]}, since {since} UTC" if len(parts) == 3 and since else "which one is not known"


def _say_taken_over(file: Path) -> bool:
    """Says that the lock was left by a process that runs no more; whether it was."""
    with contextlib.suppress(OSError):
        process = read(file, at_most=1_000, follow=False).decode("ascii", "replace").partition(" ")[0]
        if is_dead(process):
            warnings.warn(
                f"{file}: process {process.split('-')[1]} ended without a word; its lock was taken over.", stacklevel=3
            )
            return True
    return False


def _write_holder(file: Path, text: str) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)
