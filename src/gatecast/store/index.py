"""An index of stores in SQL: what is in the journals, to be asked quickly; always made from them, never an authority.

`index.sqlite` in the store's folder, or a PostgreSQL database that several stores share: every table has the store's
id. It is brought up to date after each command that wrote; where it is missing, damaged or does not fit it is made
again, but not where it has records that the journal has not: those were lost, which is said. What fails here never
fails a store. A file of another schema than gatecast writes is a damaged one, see `indexed.SCHEMA`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from gatecast.errors import StoreError, cut, hidden
from gatecast.files import free_name, remove
from gatecast.store import indexed
from gatecast.store.indexed import (
    FILE,
    REBUILD,
    SCHEMA,
    WRITE_SECONDS,
    BusyIndexError,
    OtherJournalError,
    ReadDecisions,
    files_of,
    foreign,
    guard,
    irregular,
    is_busy,
    not_in,
    rows_of,
)
from gatecast.store.journal import Journal, Record

_META = MetaData()


_TYPES: dict[str, TypeEngine[Any]] = {
    "VARCHAR(20)": String(20), "VARCHAR(40)": String(40), "VARCHAR(64)": String(64), "VARCHAR(100)": String(100),
    "TEXT": Text(), "BIGINT": BigInteger(), "INTEGER": Integer(), "FLOAT": Float(), "BOOLEAN": Boolean(),
    "DATETIME": DateTime(timezone=True),
}  # fmt: skip


def _table(table: str) -> Table:
    columns = [
        Column(
            name, _TYPES[kind], primary_key=name in indexed.KEYS[table], autoincrement=False,
            index=(table, name) == (indexed.RECORDS, "kind") or None,
        )
        for name, kind in indexed.COLUMNS[table].items()
    ]  # fmt: skip
    return Table(table, _META, *columns)


RECORDS, BARS, REFITS, DECISIONS = map(_table, indexed.COLUMNS)

_OF_ONE = delete(DECISIONS).where(
    DECISIONS.c.symbol == bindparam("_symbol"), DECISIONS.c.time == bindparam("_time")
)  # fmt: skip


class Index:
    """An index at an address. Raises `StoreError` where it cannot be read or written, without its password.

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> folder = Path(tempfile.mkdtemp())
    >>> journal = Journal.open(folder)
    >>> record = journal.append("alarm", {"name": "stale"}, now=datetime(2024, 1, 2, tzinfo=UTC))
    >>> index = Index(folder, "me")
    >>> index.follow(journal)
    1
    >>> index.follow(journal), index.last()[0]
    (0, 1)
    """

    def __init__(self, folder: Path, store: str, address: str | None = None) -> None:
        self.folder, self.store = folder, store
        self.file = folder / FILE if address is None else None
        self.address = address or f"sqlite:///{folder / FILE}"

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A transaction. Raises `StoreError` for whatever goes wrong with the database."""
        engine: Engine | None = None
        try:
            files = self._files()
            if why := next(filter(None, map(foreign, files)), ""):
                raise sqlite3.DatabaseError(why)
            engine = create_engine(self.address, poolclass=NullPool)
            with engine.begin() as connection:
                plain = connection.connection.driver_connection
                if isinstance(plain, sqlite3.Connection) and (files or self.file is None):
                    guard(plain, WRITE_SECONDS, of_others=self.file is None)
                yield connection
        except ModuleNotFoundError as error:
            raise StoreError(
                f"the index at {hidden(self.address)} needs a driver (it lacks {error.name}): pip install "
                "'gatecast[postgresql]', and begin the address with postgresql+psycopg://."
            ) from None
        except ArgumentError:
            raise StoreError(
                f"{cut(hidden(self.address))!r} is no address of an index: expected sqlite:///index.sqlite or "
                "postgresql+psycopg://user@host/name."
            ) from None
        except (SQLAlchemyError, sqlite3.Error, OSError, ValueError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            origin = getattr(error, "orig", None) or error
            if is_busy(origin):
                raise BusyIndexError(hidden(self.address)) from None
            cause = str(origin).strip().splitlines()
            why = cut(hidden(cause[0] if cause else type(error).__name__), 300)
            raise StoreError(
                f"the index at {hidden(self.address)} cannot be read or written: {why}. {REBUILD}."
            ) from None
        finally:
            if engine is not None:
                engine.dispose()

    def _files(self) -> list[Path]:
        """The files of the index beside the store. Raises `StoreError` where one may neither be read nor removed."""
        files = [] if self.file is None else files_of(self.folder)
        if why := next(filter(None, map(irregular, files)), ""):
            raise StoreError(why)
        return files

    def last(self) -> tuple[int, str]:
        """Number and hash of the last record that the index has; 0 and "" of none."""
        if self.file is not None and not self.file.exists():
            return 0, ""
        with self._connected() as connection:
            if not inspect(connection).has_table(RECORDS.name):
                return 0, ""
            row = connection.execute(
                select(RECORDS.c.record, RECORDS.c.hash)
                .where(RECORDS.c.store == self.store)
                .order_by(RECORDS.c.record.desc())
                .limit(1)
            ).first()
        return (int(row[0]), str(row[1])) if row else (0, "")

    def count(self) -> int:
        """How many records of the store the index has."""
        if self.file is not None and not self.file.exists():
            return 0
        with self._connected() as connection:
            if not inspect(connection).has_table(RECORDS.name):
                return 0
            counted = select(func.count()).select_from(RECORDS).where(RECORDS.c.store == self.store)
            return int(connection.execute(counted).scalar_one())

    def follow(self, journal: Journal, decisions: ReadDecisions | None = None) -> int:
        """Adds the records that the index does not have; how many that were. Nothing is written where it has all.

        Raises `OtherJournalError` where its last record is not the journal's of that number: then nothing is changed,
        since the index may be the one place that still shows what was lost.
        """
        number, found = self.last()
        if journal.last is None or (journal.last.number, journal.last.hash) == (number, found):
            return 0
        if error := self.other_journal(journal):
            raise error
        records = journal.records(since=max(number, 1))
        if number:
            next(records)
        return self._add(records, decisions)

    def other_journal(self, journal: Journal) -> OtherJournalError | None:
        """The error where it has records that the journal has not; None where it has none. Raises `StoreError`."""
        number, found = self.last()
        if not number or (same := not_in(journal, number, found)) is None:
            return None
        wanted = select(RECORDS.c.record, RECORDS.c.hash, RECORDS.c.kind).where(RECORDS.c.store == self.store)
        with self._connected() as connection:
            rows = [(int(row[0]), str(row[1]), str(row[2])) for row in connection.execute(wanted)]
        return OtherJournalError.of(same, rows)

    def follow_quietly(self, journal: Journal, decisions: ReadDecisions | None = None) -> None:
        """As `follow`; what fails is said and ends nothing, and a file that is damaged is made again."""
        try:
            self.follow(journal, decisions)
        except OtherJournalError as error:
            warnings.warn(f"{self.folder}: {error}", stacklevel=3)
        except StoreError as error:
            if self.file is None or isinstance(error, BusyIndexError):
                warnings.warn(f"{error} The store itself is whole.", stacklevel=3)
                return
            try:
                self.rebuild(journal, decisions)
            except StoreError as again:
                warnings.warn(f"{again} The store itself is whole.", stacklevel=3)

    def rebuild(self, journal: Journal, decisions: ReadDecisions | None = None) -> int:
        """Makes the index again from the whole journal; how many records it has then.

        A file takes the place of the one that is there once it is whole: what that shows of lost records is not lost
        where the disk is full.
        """
        if self.file is not None:
            return self._replace(self.file, journal, decisions)
        with self._connected() as connection:
            _META.create_all(connection)
            for table in _META.sorted_tables:
                connection.execute(delete(table).where(table.c.store == self.store))
        return self._add(journal.records(), decisions)

    def _replace(self, file: Path, journal: Journal, decisions: ReadDecisions | None) -> int:
        files, aside = self._files(), free_name(file)
        try:
            aside.mkdir()
            fresh = Index(aside, self.store)
            count = fresh._add(journal.records(), decisions)
            for old in files:
                if old != file:  # SQLite would bring it into the new file
                    remove(old)
            os.replace(aside / FILE, file)
        except StoreError as error:
            raise StoreError(str(error).replace(str(aside), str(self.folder))) from None
        except OSError as error:
            raise StoreError(f"{file} cannot be made again: {error.strerror or error}.") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return count

    def _add(self, records: Iterable[Record], decisions: ReadDecisions | None) -> int:
        count = 0
        with self._connected() as connection:
            if self.file is None or inspect(connection).has_table(RECORDS.name):
                _META.create_all(connection)
            else:
                for made_by in SCHEMA:
                    connection.exec_driver_sql(made_by)
            for record in records:
                self._add_record(connection, record, decisions)
                count += 1
        return count

    def _add_record(self, connection: Connection, record: Record, decisions: ReadDecisions | None) -> None:
        for name, rows in rows_of(self.store, record, decisions):
            table = _META.tables[name]
            if table is DECISIONS:
                before = [{"_symbol": row["symbol"], "_time": row["time"]} for row in rows]
                connection.execute(_OF_ONE.where(DECISIONS.c.store == self.store), before)  # records come in order
            connection.execute(table.insert(), [{one.name: row.get(one.name) for one in table.c} for row in rows])
        if record.kind in ("accepted", "refused"):
            of = (REFITS.c.store == self.store) & (REFITS.c.record == record.body["model"])
            reason = record.body.get("reason", "").replace("\0", "\ufffd")  # PostgreSQL has no such text
            connection.execute(update(REFITS).where(of).values(status=record.kind, reason=reason))

    def decisions(self, symbol: str | None = None) -> list[Mapping[str, Any]]:
        """The decisions in the index, of one symbol or of all, by time and symbol."""
        wanted = select(DECISIONS).where(DECISIONS.c.store == self.store)
        if symbol is not None:
            wanted = wanted.where(DECISIONS.c.symbol == symbol)
        with self._connected() as connection:
            rows = connection.execute(wanted.order_by(DECISIONS.c.time, DECISIONS.c.symbol)).mappings()
            return [{**row, "time": _aware(row["time"])} for row in rows]

    def refits(self) -> list[Mapping[str, Any]]:
        """The refits in the index, the oldest first."""
        with self._connected() as connection:
            wanted = select(REFITS).where(REFITS.c.store == self.store).order_by(REFITS.c.record)
            return [{**row, "now": _aware(row["now"])} for row in connection.execute(wanted).mappings()]


def _aware(time: datetime) -> datetime:
    """A moment of the database, which is UTC; SQLite has no zones."""
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
