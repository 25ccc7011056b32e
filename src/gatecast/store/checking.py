"""What is wrong with a store: each line of its journal, each artefact, `store.json`, the index, and what came late.

Each function looks at one of them, also where the store cannot be opened; `Store.check` asks them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.errors import StoreError, shown, symbol_fault
from gatecast.files import read
from gatecast.market.actions import misnamed
from gatecast.market.calendar import deadlines, fill_times
from gatecast.market.sessions import orders_until
from gatecast.store.artefacts import Artefacts
from gatecast.store.history import History
from gatecast.store.identity import ABOUT, ABOUT_BYTES, FORMAT, indented
from gatecast.store.indexed import FILE
from gatecast.store.indexed import REBUILD as rebuild
from gatecast.store.journal import FOLDER, Journal, Line, Record, parts_named
from gatecast.store.state import State

if TYPE_CHECKING:
    from gatecast.audits.leaks import Leak
    from gatecast.store.index import Index

MOST_LEAKS = 20
INSTANT = timedelta(microseconds=1)
"""Before a decision: rows of several files may come at one moment."""


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


def faults_of_journal(folder: Path) -> tuple[list[Record], list[Fault]]:
    """The records that can be read, and what does not fit."""
    journal = Journal(folder / FOLDER, None)
    found = []
    try:
        lines: list[Line] = list(journal.lines())
        torn = journal.tail()
    except StoreError as error:
        return [], [Fault(folder / FOLDER, str(error))]
    found += [Fault(line.file, f"line {line.number}: {line.fault}") for line in lines if line.fault]
    if torn and not found:
        said = f"its last {torn:,} bytes are a record that a killed process did not finish: it never happened"
        found.append(Fault(journal.files()[-1], said, is_harmless=True))
    if not lines:
        found.append(Fault(folder / FOLDER, "it has no record"))
    known = {file.name for file in journal.files()}
    with contextlib.suppress(OSError):
        found += [
            Fault(folder / FOLDER / name, "it is no file of the journal", is_harmless=True)
            for name in sorted(os.listdir(folder / FOLDER)) if name not in known and not name.startswith(".")
        ]  # fmt: skip
    return [line.record for line in lines if line.record is not None], found


def faults_of_artefacts(artefacts: Artefacts, records: list[Record]) -> list[Fault]:
    """Artefacts that records name and that are missing or damaged; and what lies among them that is none."""
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


def faults_of_about(folder: Path, store: str, records: list[Record]) -> list[Fault]:
    """Whether `store.json` is what the records say that was written there."""
    about: dict[str, Any] = {"format": FORMAT, "version": 1, "id": store, "gatecast": None}
    may_be = [about]
    for one in records:
        if one.kind in ("created", "upgraded"):
            before = {**about, "version": one.body.get("before", 1)}
            about = {
                **about, "version": one.body.get("after", one.body.get("version", 1)),
                "gatecast": one.body.get("gatecast"),
            }  # fmt: skip
            may_be = [about, before] if one is records[-1] else [about]  # a killed upgrade is made up for
    file = folder / ABOUT
    if read(file, at_most=ABOUT_BYTES, follow=False) in map(indented, may_be):
        return []
    return [Fault(file, f"it was changed; expected {json.dumps(about)}. Restore it from a copy.")]


def faults_of_index(index: Index, records: list[Record], unnamed: int = 0) -> list[Fault]:
    """Where the index is missing, behind the journal, or of another one.

    `unnamed`: artefacts that no record names. Without an index they are all that can show that records were lost.
    """
    place = index.file or index.folder / FILE
    try:
        if index.file is not None and not index.file.exists():
            return [Fault(place, f"there is no index; {rebuild}. {_may_be_lost(records, unnamed)}", is_harmless=True)]
        number, _ = index.last()
        count = index.count()
        other = index.other_journal(Journal.open(index.folder))
    except StoreError as error:
        return [Fault(place, str(error), is_harmless=index.file is None)]
    if other is not None:
        return [Fault(index.folder / FOLDER, str(other))]
    if number and count != number:
        return [Fault(place, f"the index is not of this journal; {rebuild}")]
    if number < len(records):
        return [Fault(place, f"the index ends with record {number}; {rebuild}", is_harmless=True)]
    return []


def _may_be_lost(records: list[Record], unnamed: int) -> str:
    """What is known, without an index, of records that the end of the journal may have lost."""
    said = "Whether the journal lost its last records cannot be seen without one"
    last = f"its last record is {records[-1].number}, of {records[-1].now:%Y-%m-%d %H:%M} UTC"
    if not unnamed:
        return f"{said}: {last}"
    files = "1 file of `parts/` is" if unnamed == 1 else f"{unnamed:,} files of `parts/` are"
    return (
        f"{said}, and {files} named by no record: a killed command leaves such files, and so do lost records. Compare "
        f"the end of the journal with a copy ({last}) before you rebuild or prune"
    )


def misnamed_actions(
    folder: Path, tables: Mapping[str, pl.DataFrame], symbols: Collection[str], records: list[Record]
) -> Iterator[Fault]:
    """Actions of symbols that are none, which earlier versions took, with their record and what takes them back.

    `tables`: artefact -> table of actions. `symbols`: those of the store.
    """
    for part, table in tables.items():
        number = next((one.number for one in records if part in one.parts.values()), 0)
        for symbol, kind, day, into in misnamed(table).select("symbol", "kind", "date", "into").iter_rows():
            given = f" into {shown(into)}" if into else ""
            why = symbol_fault(symbol) or symbol_fault(into)
            what = f"record {number} has a {kind} of {shown(symbol)} on {day}{given}: {why}"
            own = f"--symbol {shlex.quote(symbol)} --date {day} --kind {kind}"
            back = f"`gatecast actions remove {folder} {own}` takes it back"
            if symbol not in symbols:
                back = "the store has no such symbol, and nothing comes of it"
            yield Fault(folder, f"{what}; {back}", is_harmless=True)


def rows_dated_back(bars: History, state: State, journal: Journal, since: int = 0) -> list[Leak]:
    """Rows that came after a decision and claim to have been known at it, see `audits.leaks.dated_back`.

    So does a row that came after the fill of its close, which was decided on, and claims to have been known by it.
    `since`: number of the record from which on they came. Of a row that came before its fill, of one that was not there
    before and came in time (see `market.sessions.orders_until`), of a history before a symbol's first row, and of new
    symbols nothing is said. At most `MOST_LEAKS` records are looked into.
    """
    from gatecast.audits.leaks import dated_back

    versions, issued = bars.versions(), pl.DataFrame(
        {"decided": [one.record for one in state.issued], "moment": [one.now for one in state.issued]},
        schema={"decided": pl.Int64, "moment": pl.String},
    ).with_columns(pl.col("moment").str.to_datetime(time_unit="us", time_zone="UTC") - INSTANT)  # fmt: skip
    came = versions.filter(pl.col("record") > since).sort("record")
    if came.is_empty() or issued.is_empty():
        return []
    came_at = {one.number: one.now for one in journal.records(since=since + 1) if one.kind == "bars"}
    for clock in state.clocks:  # what came while the clock was ahead
        right = datetime.fromisoformat(clock.now)
        came_at |= {number: min(one, right) for number, one in came_at.items() if number < clock.record}
    moments = pl.DataFrame(
        {"record": list(came_at), "came": list(came_at.values())},
        schema={"record": came.schema["record"], "came": pl.Datetime("us", "UTC")},
    )
    whole = bars.as_of(datetime.max.replace(tzinfo=UTC))
    fills = whole.select("symbol", "time", fill=fill_times(whole), deadline=deadlines(whole))
    is_first = pl.struct("symbol", "time").is_first_distinct()
    new = versions.sort("record").filter(is_first).select("symbol", "time", "record", is_new=True)
    came = came.join(new, on=["symbol", "time", "record"], how="left", maintain_order="left")
    came = came.join_asof(issued, left_on="record", right_on="decided")
    came = came.join(fills, on=["symbol", "time"], how="left").join(moments, on="record", how="left")
    by_fill = pl.col("time") <= pl.col("moment"), pl.col("came") > pl.col("fill")
    until = pl.when(*by_fill).then(pl.max_horizontal("moment", "fill")).otherwise("moment")
    in_time = pl.col("is_new").fill_null(False) & (pl.col("came") <= pl.col("deadline"))
    claims = came.with_columns(until=until).filter(pl.col("known_at") <= pl.col("until"), ~in_time)
    until = pl.when(pl.col("known_at") <= pl.col("moment")).then("moment").otherwise("until")
    leaks: dict[tuple[Any, ...], Leak] = {}
    for record, decided, moment, arrival in (
        claims.select("record", "decided", until.alias("moment"), "came").unique().sort("record", "moment").rows()
    ):
        seen, later = (bars.as_of(moment, record=number) for number in (decided, record))
        begun = seen.group_by("symbol").agg(_begun=pl.col("time").min())
        first = later.select("symbol", "time").join(
            new.filter(pl.col("record") == record), on=["symbol", "time"], how="left", maintain_order="left"
        )
        deadline = pl.when(first["is_new"].fill_null(False)).then(orders_until(later, state.calendars))
        later = later.filter(deadline.otherwise(fill_times(later)) <= arrival)
        later = later.join(begun, on="symbol", maintain_order="left")
        later = later.filter(pl.col("time") >= pl.col("_begun")).drop("_begun")
        for leak in dated_back(seen.filter(fill_times(seen) <= arrival), moment, later):
            leaks.setdefault((record, leak.symbol, leak.time, leak.column), leak)
        if len(leaks) >= MOST_LEAKS:
            break
    return list(leaks.values())[:MOST_LEAKS]
