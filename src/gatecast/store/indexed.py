"""What an index has of a record, and the one beside a store brought up to date without SQLAlchemy.

To import that takes longer than to write all that an update writes, so that what is simple is done with Python's own
sqlite3: rows of new records into tables that are there. All else is the work of `store.index`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from gatecast.errors import StoreError, shown
from gatecast.files import is_regular, opened
from gatecast.store.journal import LINE_BYTES, Journal, Record, canonical
from gatecast.store.state import refuse_misfit

FILE = "index.sqlite"
FILE_BYTES = 20_000_000_000
ROWS = 5_000
"""Rows of one insertion."""
RECORDS, BARS, REFITS, DECISIONS = (f"gatecast_{name}" for name in ("records", "bars", "refits", "decisions"))
"""The names of the tables."""
NUMBERS = (
    "return_log", "return_simple", "probability_up", "variance", "regime_probability", "z", "evidence", "score_bps",
    "weight", "book",
)  # fmt: skip
COLUMNS: dict[str, dict[str, str]] = {
    RECORDS: {
        "store": "VARCHAR(64)", "record": "BIGINT", "time": "DATETIME", "now": "DATETIME", "kind": "VARCHAR(40)",
        "hash": "VARCHAR(64)", "body": "TEXT",
    },
    BARS: {
        "store": "VARCHAR(64)", "record": "BIGINT", "year": "INTEGER", "part": "VARCHAR(100)", "rows": "BIGINT",
    },
    REFITS: {
        "store": "VARCHAR(64)", "record": "BIGINT", "now": "DATETIME", "cutoffs": "TEXT", "status": "VARCHAR(20)",
        "reason": "TEXT",
    },
    DECISIONS: {
        "store": "VARCHAR(64)", "symbol": "TEXT", "time": "DATETIME", "record": "BIGINT", "model": "BIGINT",
        **dict.fromkeys(NUMBERS, "FLOAT"), "signal": "INTEGER", "consensus": "BOOLEAN", "strategy": "TEXT",
        "gate": "TEXT", "reason": "TEXT",
    },
}  # fmt: skip
"""Table -> its columns, each with its type in SQL. Of several decisions of a symbol and close the one that counts."""
KEYS = {
    RECORDS: ("store", "record"), BARS: ("store", "record", "year"), REFITS: ("store", "record"),
    DECISIONS: ("store", "symbol", "time"),
}  # fmt: skip
"""Table -> the columns of its key."""


def _made_by(table: str) -> str:
    """The text that makes a table, as SQLAlchemy writes it."""
    columns = [f"{name} {kind}{' NOT NULL' * (name in KEYS[table])}" for name, kind in COLUMNS[table].items()]
    return f"CREATE TABLE {table} (\n\t" + ", \n\t".join([*columns, f"PRIMARY KEY ({', '.join(KEYS[table])})"]) + "\n)"


SCHEMA = (*map(_made_by, COLUMNS), f"CREATE INDEX ix_{RECORDS}_kind ON {RECORDS} (kind)")
"""All that makes the index beside a store. One of another schema is a damaged one: it can compute without end."""
OF_REFITS = ("refit", "accepted", "refused")
"""Records that say something of a refit."""

NEWEST = f"SELECT record, hash FROM {RECORDS} WHERE store = ? ORDER BY record DESC LIMIT 1"

GLANCE_SECONDS, READ_SECONDS, WRITE_SECONDS = 1.0, 5.0, 60.0
"""How long a file that somebody else may have written is read and written; a new one is made without an end."""
STEPS = 100_000
"""Steps of SQLite between two looks at the clock."""
OF_SEVERAL_FILES = bytes.fromhex("d9d505f920a163d7")
"""The end of a journal of SQLite that names a further file, which it deletes."""
MOST_KINDS = 10
"""Kinds of lost records that are named."""

ReadDecisions = Callable[[str], pl.DataFrame]
"""The table of decisions of an artefact, by its name."""
Rows = list[dict[str, Any]]


REBUILD = "`gatecast store check --rebuild` makes it again"
OF_BROKER = ("approved", "exported", "fills")
"""Records of what may have gone to a broker."""


LOCKED = "is locked by another process: it was waited for in vain. Try again, or end that process."
HALF_WRITTEN = "was left half-written by a process that was killed: the next command that writes undoes it."


class BusyIndexError(StoreError):
    """Another process has locked the index, or left it half-written, so that a reader does not see what is in it."""

    def __init__(self, place: object, why: str = LOCKED) -> None:
        super().__init__(f"the index at {place} {why}")


def is_busy(error: BaseException) -> bool:
    """Whether an error of SQLite says that another process has locked the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def told_kinds(kinds: Iterable[str]) -> str:
    """Which records were lost, by kind, and that orders of them may be at a broker.

    >>> told_kinds(["bars", "issued", "issued"])
    '(1 bars, 2 issued).'
    >>> told_kinds(["exported", "x\\n"])
    "(1 exported, 1 'x\\\\n'). Orders of them may be at a broker: look there before orders are made again."
    """
    counts = Counter(kinds)
    named = [f"{count} {kind if kind.isidentifier() else shown(kind)}" for kind, count in counts.items()]
    rest = f" and {len(named) - MOST_KINDS:,} further kinds" if len(named) > MOST_KINDS else ""
    broker = " Orders of them may be at a broker: look there before orders are made again."
    return f"({', '.join(named[:MOST_KINDS])}{rest}).{broker * is_of_broker(counts)}"


def is_of_broker(kinds: Iterable[str]) -> bool:
    """Whether orders of records of these kinds may be at a broker."""
    return not {*OF_BROKER}.isdisjoint(kinds)


class OtherJournalError(StoreError):
    """The index has records that the journal has not. `count` of them, `hash`: of the last."""

    def __init__(self, last: int, lost: list[tuple[int, str, str]]) -> None:
        self.count, self.number, self.hash = len(lost), lost[-1][0], lost[-1][1]
        begins = (
            f"the index has record {self.number}, the journal ends with {last}: records were lost"
            if self.number > last
            else f"record {self.number} of the index is another one in the journal: records were lost, or it is the "
            "index of another journal"
        )
        super().__init__(
            f"{begins} {told_kinds(kind for *_, kind in lost)} Nothing is written until the journal is restored from a "
            f"copy of the store, or the loss is accepted: {REBUILD}."
        )

    @classmethod
    def of(cls, journal: Journal, rows: Iterable[tuple[int, str, str]]) -> OtherJournalError:
        """Of number, hash and kind of all records of the index."""
        there = {(one.number, one.hash) for one in journal.records()}
        lost = [row for row in sorted(rows) if row[:2] not in there]
        return cls(journal.last.number if journal.last else 0, lost)


def not_in(journal: Journal, number: int, found: str) -> Journal | None:
    """The journal as it is on the disk now, where it has no record of this number and hash; None where it has.

    It is read again, as another process may have written since: that writes its journal before an index.
    """
    if journal.last is None or (journal.last.number, journal.last.hash) == (number, found):
        return None
    if number > journal.last.number:
        journal = Journal.open(journal.folder.parent)
    same = next(journal.records(since=number), None)
    return journal if same is None or (same.number, same.hash) != (number, found) else None


def other_journal(folder: Path, store: str, journal: Journal, *, writes: bool = False) -> OtherJournalError | None:
    """The error where the index beside a store has records that its journal has not: then they were lost.

    None where it has not, or where there is no index that can be read. `writes`: the caller has the store's lock: what
    a killed process left half-written in the index is undone first. Raises `BusyIndexError` for one that is locked or,
    for a reader, half-written, and for who `writes` `StoreError` for one that this user may not read: it may be all
    that shows what was lost.
    """
    file = folder / FILE
    if file not in files_of(folder) or any(map(_is_odd, files_of(folder))):
        if writes and (why := unreadable(file)):
            raise StoreError(why)
        return None
    mode, seconds = ("rw", READ_SECONDS) if writes else ("ro", GLANCE_SECONDS)
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode={mode}", seconds, uri=True)) as connection:
            guard(connection, READ_SECONDS)
            last = connection.execute(NEWEST, (store,)).fetchone()
            if last is None or (same := not_in(journal, *last)) is None:
                return None
            rows = connection.execute(f"SELECT record, hash, kind FROM {RECORDS} WHERE store = ?", (store,))
            return OtherJournalError.of(same, rows.fetchall())
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        if is_busy(error):
            raise BusyIndexError(file) from None
        if not writes and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
            raise BusyIndexError(file, HALF_WRITTEN) from None
        return None


def guard(connection: sqlite3.Connection, seconds: float, *, of_others: bool = False) -> None:
    """Ends what is done by a connection to a file after some seconds; no value may be longer than records can be.

    Raises `sqlite3.DatabaseError` where the file has other tables than an index; not where it is one `of_others`.

    >>> guard(connection := sqlite3.connect(":memory:"), 1.0, of_others=True)
    >>> made = connection.execute("CREATE VIEW squares AS SELECT 1")
    >>> guard(connection, 1.0)
    Traceback (most recent call last):
    sqlite3.DatabaseError: it has other tables than an index
    """
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * LINE_BYTES)
    if of_others:
        return
    wanted = {*SCHEMA}
    for (made_by,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
        if made_by not in wanted:
            raise sqlite3.DatabaseError("it has other tables than an index")
        wanted.remove(made_by)
    if wanted:
        raise sqlite3.DatabaseError("it lacks tables of an index")


def files_of(folder: Path) -> list[Path]:
    """The files of an index beside a store, and those that SQLite keeps with it, as far as they are there."""
    files = [folder / f"{FILE}{ending}" for ending in ("", "-journal", "-wal", "-shm")]
    return [file for file in files if file.is_symlink() or file.exists()]


def rows_of(store: str, record: Record, decisions: ReadDecisions | None) -> Iterator[tuple[str, Rows]]:
    """Names of tables, each with the rows that a record of a store adds to it; they may have more than its columns.

    A decision takes the place of an earlier one of its symbol and time. Of a damaged artefact there are none, which
    `store check` says.
    """
    refuse_misfit(record.kind, record.body)
    own = {"store": store, "record": record.number}
    body = canonical(dict(record.body)).decode()
    yield (
        RECORDS,
        [{**own, "time": record.time, "now": record.now, "kind": record.kind, "hash": record.hash, "body": body}],
    )
    match record.kind:
        case "bars":
            rows = record.body["rows"]
            yield (
                BARS,
                [
                    {**own, "year": int(year), "part": part, "rows": rows.get(year, 0)}
                    for year, part in record.parts.items()
                ],
            )
        case "refit":
            cutoffs = canonical(record.body.get("cutoffs", {})).decode()
            yield REFITS, [{**own, "now": record.now, "cutoffs": cutoffs, "status": "candidate", "reason": ""}]
        case "issued" if decisions is not None:
            try:
                table = decisions(record.parts["decisions"])
            except StoreError:
                return
            plain = table.with_columns(cs.string().str.replace_all("\0", "\ufffd", literal=True))
            for piece in plain.iter_slices(ROWS) if len(plain) else ():
                yield DECISIONS, [{**row, **own, "model": record.body.get("model")} for row in piece.to_dicts()]


def append_to_file(folder: Path, store: str, journal: Journal, decisions: ReadDecisions | None) -> bool:
    """Adds the records that the index beside a store does not have; whether that was possible.

    It is where the file and its tables are there, its last record is the journal's of that number, and none since is of
    a refit. Else nothing is written.
    """
    files = files_of(folder)
    if journal.last is None or not files or files[0].name != FILE or any(map(_is_odd, files)):
        return False
    try:
        with contextlib.closing(sqlite3.connect(files[0])) as connection, connection:
            guard(connection, WRITE_SECONDS)
            return _append(connection, store, journal, decisions)
    except (sqlite3.Error, StoreError, OverflowError):
        return False


def _is_odd(file: Path) -> bool:
    return bool(irregular(file) or foreign(file))


def irregular(file: Path) -> str:
    """Why a file of an index is neither read nor removed; "" for one that may be."""
    if file.is_symlink() or not is_regular(file):
        return f"{file} is no regular file: it is where the index lies. Move it away."
    if why := unreadable(file):
        return why
    size = file.stat().st_size
    return f"{file} has {size:,} bytes, expected at most {FILE_BYTES:,}." if size > FILE_BYTES else ""


def unreadable(file: Path) -> str:
    """That a file which is there may not be read; "" for one that may."""
    there = file.exists() and not os.access(file, os.R_OK)
    return f"{file}, the index, may not be read: allow yourself to read it, or move it away." if there else ""


def foreign(file: Path) -> str:
    """What a file of an index has that gatecast never writes, so that SQLite may not open it; "" for one of its own.

    SQLite deletes what a journal of several files names; a write-ahead log is written by who reads.
    """
    if file.name != FILE and not file.name.endswith("-journal"):
        return f"{file.name} is of a write-ahead log"
    try:
        with opened(file, at_most=FILE_BYTES, follow=False) as handle:
            if file.name == FILE:
                return f"{file.name} has a write-ahead log" if handle.read(20)[18:] not in (b"", b"\1\1") else ""
            handle.seek(max(0, file.stat().st_size - len(OF_SEVERAL_FILES)))
            return f"{file.name} names a further file" if handle.read(8) == OF_SEVERAL_FILES else ""
    except OSError:  # which SQLite says
        return ""


def _append(connection: sqlite3.Connection, store: str, journal: Journal, decisions: ReadDecisions | None) -> bool:
    last = connection.execute(NEWEST, (store,)).fetchone()
    if last is None or journal.last is None:
        return False
    records = list(journal.records(since=last[0]))
    if not records or (records[0].number, records[0].hash) != last or any(one.kind in OF_REFITS for one in records[1:]):
        return False
    columns = {
        table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        for table in (RECORDS, BARS, DECISIONS)
    }
    for record in records[1:]:
        for table, rows in rows_of(store, record, decisions):
            names = columns[table]
            found = [[_plain(row.get(name)) for name in names] for row in rows]
            if table == DECISIONS:
                keys = [(store, row["symbol"], _plain(row["time"])) for row in rows]
                connection.executemany(f"DELETE FROM {table} WHERE store = ? AND symbol = ? AND time = ?", keys)
            places = ", ".join("?" * len(names))
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", found)
    return True


def _plain(value: Any) -> Any:
    """A value as SQLAlchemy has it in SQLite, where times have no zone."""
    return value.replace(tzinfo=None).isoformat(" ", "microseconds") if isinstance(value, datetime) else value
