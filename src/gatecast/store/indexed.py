"""What an index has of a record, and the one beside a store brought up to date without SQLAlchemy.

To import that takes longer than to write all that an update writes, so that what is simple is done with Python's own
sqlite3: rows of new records into tables that are there. All else is the work of `store.index`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from gatecast.errors import StoreError
from gatecast.files import is_regular
from gatecast.store.journal import Journal, Record, canonical
from gatecast.store.state import refuse_misfit

FILE = "index.sqlite"
FILE_BYTES = 20_000_000_000
ROWS = 5_000
"""Rows of one insertion."""
RECORDS, BARS, REFITS, DECISIONS = (f"gatecast_{name}" for name in ("records", "bars", "refits", "decisions"))
"""The names of the tables."""
OF_REFITS = ("refit", "accepted", "refused")
"""Records that say something of a refit."""

ReadDecisions = Callable[[str], pl.DataFrame]
"""The table of decisions of an artefact, by its name."""
Rows = list[dict[str, Any]]


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
            return _append(connection, store, journal, decisions)
    except (sqlite3.Error, StoreError, OverflowError):
        return False


def _is_odd(file: Path) -> bool:
    return file.is_symlink() or not is_regular(file) or file.stat().st_size > FILE_BYTES


def _append(connection: sqlite3.Connection, store: str, journal: Journal, decisions: ReadDecisions | None) -> bool:
    newest = f"SELECT record, hash FROM {RECORDS} WHERE store = ? ORDER BY record DESC LIMIT 1"
    last = connection.execute(newest, (store,)).fetchone()
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
