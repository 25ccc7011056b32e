r"""The journal of a store: what happened, one record a line, each with the hash of the one before.

```
journal/000000001.jsonl        records from number 1 on
journal/000000107.jsonl        begins with record 107, a snapshot of the state before it
```

A snapshot begins a new file, and so does a record after a file that has become long.

Something has happened once its line is on the disk. A process that was killed while it wrote leaves a last line
without an end: it never happened, is ignored when the journal is read and cut off by the next append. Whatever else
does not fit is an error with file and line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from gatecast.errors import StoreError, cut, hint_of, remedy_of, shown
from gatecast.files import opened, read_at_most, remove, sha256_of, sync_folder, write_whole
from gatecast.formats import json_of

FOLDER = "journal"
SNAPSHOT = "snapshot"
FIRST_HASH = "0" * 64
"""What stands for the hash before the first record."""
LINE_BYTES = 4_000_000
ENDS = 3
"""Places at which a record may end that are looked at in a line without an end, from the back: each is read whole."""
FILE_BYTES = 200_000_000
LONG_FILE_BYTES = 20_000_000
"""Bytes of a file after which the next record begins a new one."""
FIELDS = {"number", "time", "now", "kind", "body", "before", "hash"}
NAME = re.compile(r"(\d{9})\.jsonl")
REMEDY = "Restore the journal from a copy of the store; `gatecast store check` lists all that does not fit."
MOST_FAULTS = 200
"""Faults of a journal that are listed."""


@dataclass(frozen=True)
class Record:
    """One thing that happened.

    Attributes
    ----------
    number: 1, 2, ...
    time: UTC at which it was written, never before that of the record before.
    now: UTC that the command was told, or the clock's.
    kind: such as "bars"; see `state.KINDS`.
    body: JSON; its "parts" name the artefacts that came with it.
    before: hash of the record before; hash: SHA-256 of the canonical JSON of all the rest.
    """

    number: int
    time: datetime
    now: datetime
    kind: str
    body: Mapping[str, Any]
    before: str
    hash: str = field(default="")

    @property
    def parts(self) -> dict[str, str]:
        """Role -> name of each artefact that came with it."""
        parts = self.body.get("parts")
        named = parts.items() if isinstance(parts, Mapping) else ()
        return {role: name for role, name in named if isinstance(name, str)}

    @property
    def line(self) -> bytes:
        """The record as it stands in the journal, with its end."""
        return canonical(self.to_dict()) + b"\n"

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON holds it."""
        return {**self._hashed(), "hash": self.hash}

    def _hashed(self) -> dict[str, Any]:
        return {
            "number": self.number, "time": text_of(self.time), "now": text_of(self.now), "kind": self.kind,
            "body": dict(self.body), "before": self.before,
        }  # fmt: skip

    @classmethod
    def make(cls, number: int, time: datetime, now: datetime, kind: str, body: Mapping[str, Any], before: str) -> Self:
        """A record with its hash."""
        plain = cls(number, time, now, kind, body, before)
        return cls(number, time, now, kind, body, before, sha256_of(canonical(plain._hashed())))

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """The record of a line without its end. Raises `ValueError` with what does not fit."""
        value = json_of(line)
        if not isinstance(value, dict) or value.keys() != FIELDS:
            raise ValueError("it is no record: expected the fields " + ", ".join(sorted(FIELDS)))
        texts = {name: value[name] for name in ("time", "now", "kind", "before", "hash")}
        if type(value["number"]) is not int or not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("it is no record: its number is no whole number, or a text is none")
        if not isinstance(value["body"], dict):
            raise ValueError("it is no record: its body is no table")
        time, now = (moment_of(texts[name]) for name in ("time", "now"))
        made = cls.make(value["number"], time, now, texts["kind"], value["body"], texts["before"])
        if made.hash != texts["hash"]:
            raise ValueError(f"its hash is {cut(texts['hash'], 64)}, expected {made.hash}: the record was changed")
        if made.line != line + b"\n":
            raise ValueError("it is not spelt as gatecast writes records: the line was changed")
        return made


def canonical(value: Any) -> bytes:
    """A value as JSON in the one spelling that is hashed: names sorted, no spaces, ASCII.

    >>> canonical({"b": 1, "a": [0.5, None]})
    b'{"a":[0.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def text_of(moment: datetime) -> str:
    """A moment as the journal spells it. Raises `ValueError` for one without time zone.

    >>> text_of(datetime(2024, 1, 2, tzinfo=UTC))
    '2024-01-02T00:00:00.000000Z'
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone: a moment such as datetime(2024, 1, 2, tzinfo=UTC) was expected")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def moment_of(text: str) -> datetime:
    """The moment of such a text. Raises `ValueError` for any other.

    >>> moment_of("2024-01-02T00:00:00.000000Z").year
    2024
    """
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text, re.ASCII):
            raise ValueError
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no moment such as 2024-01-02T00:00:00.000000Z") from None


@dataclass(frozen=True)
class Line:
    """A line of the journal: its record, or what is wrong with it and what to do."""

    file: Path
    number: int
    record: Record | None
    fault: str = ""
    remedy: str = REMEDY

    def error(self) -> StoreError:
        """The error that says so."""
        return StoreError(f"{self.file}, line {self.number}: {self.fault}. {self.remedy}")


class Journal:
    """The journal of a store's folder; one process at a time may append, under the store's lock.

    >>> import tempfile
    >>> journal = Journal.open(Path(tempfile.mkdtemp()))
    >>> record = journal.append("created", {"a": 1}, now=datetime(2024, 1, 2, tzinfo=UTC))
    >>> record.number, [one.kind for one in Journal.open(journal.folder.parent).records()]
    (1, ['created'])
    """

    def __init__(self, folder: Path, last: Record | None) -> None:
        self.folder, self.last = folder, last

    @classmethod
    def open(cls, store: Path) -> Self:
        """The journal in a store's folder, read from its newest file; one without records where there is none."""
        journal = cls(store / FOLDER, None)
        journal.refresh()
        return journal

    def refresh(self) -> list[Record]:
        """Reads what was appended since by others; returns the records of the newest file. Raises `StoreError`."""
        records = []
        files = self.files()
        for file in files[-1:]:
            records = [*self._of_file(file, last=True)]
        if files and not records:
            raise StoreError(f"{files[-1]} has no whole record. {REMEDY}")
        self.last = records[-1] if records else None
        return records

    def files(self) -> list[Path]:
        """The files of the journal, the oldest first; without a newest one that never came to the disk.

        Raises `StoreError` for a folder that cannot be read.
        """
        return self._files()[0]

    def _files(self) -> tuple[list[Path], list[Path]]:
        """The files of the journal, and the newest one where it never came to the disk."""
        if self.folder.is_symlink():
            raise StoreError(f"{self.folder} is a link, and is not read: the journal lies in the store itself.")
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return [], []
        except OSError as error:
            why = f"{error.strerror or error}. {remedy_of(error, REMEDY)}"
            raise StoreError(f"{self.folder} cannot be read: {why}") from None
        found = [self.folder / name for name in sorted(names) if NAME.fullmatch(name)]
        count = len(found) - (len(found) > 1 and _is_blank(found[-1]))
        return found[:count], found[count:]

    def records(self, since: int = 1) -> Iterator[Record]:
        """The records from a number on, in order, each checked. Raises `StoreError` for the first that does not fit.

        The chain is checked from the file on that holds `since`; a file that begins later than it should is an error.
        """
        files = self.files()
        begin = max((place for place, file in enumerate(files) if first_number(file) <= since), default=0)
        before: Record | None = None
        for file in files[begin:]:
            if before is None and begin == 0 and first_number(file) != 1:
                raise StoreError(f"{self.folder} begins with record {first_number(file)}, expected 1. {REMEDY}")
            for record in self._of_file(file, before, last=file == files[-1]):
                before = record
                if record.number >= since:
                    yield record

    def record(self, number: int) -> Record:
        """The record of a number. Raises `StoreError` where it is not there, as where the folder was moved away."""
        for one in self.records(since=number):
            if one.number == number:
                return one
            break
        raise StoreError(f"{self.folder} has no record {number}, which was read from it before. {REMEDY}")

    def snapshots(self) -> Iterator[Record]:
        """The records that begin a file with a snapshot, the newest first; those that cannot be read are left out."""
        for file in reversed(self.files()):
            with contextlib.suppress(StoreError):
                record = next(iter(self._of_file(file, last=True)), None)
                if record is not None and record.kind == SNAPSHOT:
                    yield record

    def _of_file(self, file: Path, before: Record | None = None, *, last: bool) -> Iterator[Record]:
        for line in lines_of(file, before, last=last):
            if line.record is None:
                raise line.error()
            yield line.record

    def append(self, kind: str, body: Mapping[str, Any], now: datetime, time: datetime | None = None) -> Record:
        """Writes a record and brings it to the disk: from then on it has happened.

        `time`: of the append, the clock's where it is left out; it is moved on to that of the record before where it
        lies before it. A record of the kind "snapshot" begins a new file. Raises `StoreError` where the record cannot
        be written, or is no JSON; then nothing has changed.
        """
        number, before = (self.last.number + 1, self.last.hash) if self.last else (1, FIRST_HASH)
        time = datetime.now(UTC) if time is None else time
        time = max(time, self.last.time) if self.last else time
        try:
            record = Record.make(number, time, now, kind, dict(body), before)
            if Record.of_line(record.line[:-1]) != record:
                raise ValueError("it comes back as something else")
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"a record {kind!r} cannot be written: {cut(str(error))}.") from None
        if len(record.line) > LINE_BYTES:
            raise StoreError(
                f"a record {kind!r} has {len(record.line):,} bytes, expected at most {LINE_BYTES:,}: put it into an "
                "artefact."
            )
        files, blank = self._files()
        try:
            for one in blank:
                remove(one)
            new = not files or kind == SNAPSHOT or files[-1].lstat().st_size > LONG_FILE_BYTES
            file = self.folder / f"{number:09}.jsonl" if new else files[-1]
            for newest in files[-1:]:
                _cut_tail(newest)
            if new:
                _begin(file, record.line)
            else:
                _append(file, record.line)
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written: {error.strerror or error}. The store is as it was; "
                f"{hint_of(error)}, then do the same again."
            ) from None
        self.last = record
        return record

    def cut_from(self, number: int) -> None:
        """Takes away the records from a number on, the newest first. Raises `StoreError`; then some may be gone."""
        try:
            for file in reversed(self.files()):
                if first_number(file) >= number:
                    remove(file)
                    continue
                lines = [line for _, line in _split(file, last=True)][: number - first_number(file)]
                os.truncate(file, sum(len(line) + 1 for line in lines))
                break
            sync_folder(self.folder)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be written: {error.strerror or error}.") from None
        self.refresh()

    def check(self) -> list[str]:
        """All that does not fit in the whole journal, in words with file and line; empty where it is whole."""
        return [fault for line in self.lines() for fault in [_said(line)] if fault][:MOST_FAULTS]

    def lines(self) -> Iterator[Line]:
        """Every line of every file with its record or its fault; after a fault reading goes on with the next line."""
        before: Record | None = None
        files = self.files()
        if files and first_number(files[0]) != 1:
            yield Line(files[0], 1, None, f"the journal begins with record {first_number(files[0])}, expected 1")
        for file in files:
            for line in lines_of(file, before, last=file == files[-1], all_of_them=True):
                yield line
                before = line.record or before

    def tail(self) -> int:
        """Bytes of a last line without an end, which a killed process left; 0 where there is none."""
        files = self.files()
        return _torn_bytes(files[-1]) if files else 0


def _said(line: Line) -> str:
    return f"{line.file}, line {line.number}: {line.fault}" if line.fault else ""


def first_number(file: Path) -> int:
    """The number of the first record of a file of the journal, from its name."""
    return int(file.name[:9])


def lines_of(
    file: Path, before: Record | None = None, *, last: bool, all_of_them: bool = False
) -> Iterator[Line]:  # fmt: skip
    """The lines of a file of the journal, each with its record or its fault; nothing after a first fault.

    `before`: the record before the file, None where it was not read. `last`: whether it is the newest file, whose last
    line may have no end. `all_of_them`: go on after a fault.
    """
    expected = first_number(file)
    number = 0
    try:
        for number, line in _split(file, last):
            record, fault = None, ""
            try:
                _refuse_long(line)
                record = Record.of_line(line)
                fault = _misfit(record, before, expected)
            except ValueError as error:
                fault = str(error)
            if fault and not all_of_them:
                yield Line(file, number, None, fault)
                return
            yield Line(file, number, record, fault)
            before, expected = (record, record.number + 1) if record else (None, expected + 1)
        if number == 0:
            yield Line(file, 1, None, "it has no whole record")
    except OSError as error:
        why = f"it cannot be read: {error.strerror or error}"
        yield Line(file, number + 1, None, why, remedy_of(error, REMEDY))


def _refuse_long(line: bytes) -> None:
    """Raises `ValueError` for a line without its end that is longer than a record."""
    if len(line) >= LINE_BYTES:
        raise ValueError(f"it has {len(line) + 1:,} bytes, expected at most {LINE_BYTES:,}")


def _misfit(record: Record, before: Record | None, expected: int) -> str:
    """Why a record does not follow the one before; "" where it does."""
    if record.number != expected:
        return f"it is record {record.number}, expected {expected}"
    if record.number == 1 and record.before != FIRST_HASH:
        return f"the first record follows {record.before[:12]}..., expected nothing"
    if before is not None and record.before != before.hash:
        return (
            f"it follows the record with the hash {cut(record.before, 12)}, but the one before it has "
            f"{before.hash[:12]}...: one of them was changed"
        )
    if before is not None and record.time < before.time:
        return f"it was written at {text_of(record.time)}, before the record before it"
    return ""


def _split(file: Path, last: bool) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and content of each line, without its end. Raises `OSError`."""
    with opened(file, at_most=FILE_BYTES, follow=False) as handle:
        content = read_at_most(handle, FILE_BYTES)
    *lines, rest = content.split(b"\n")
    yield from enumerate(lines, 1)
    if rest and not (last and _is_torn(rest)):
        yield len(lines) + 1, rest


def _is_torn(rest: bytes) -> bool:
    """Whether bytes without the end of a line are what a killed append leaves: the beginning of one, or zeros.

    A whole record with other bytes behind it is none: there its end was changed. Nor is what is longer than a record.
    """
    begin = rest.rstrip(b"\0")
    if len(begin) > LINE_BYTES:
        return False
    for found in deque(re.finditer(rb'"time":"[^"]{27}"\}', begin), maxlen=ENDS):
        try:
            Record.of_line(begin[: found.end()])
        except ValueError:
            continue
        return rest[found.end() :] == b""
    return True


def _is_blank(file: Path) -> bool:
    """Whether a file is empty or all zeros, as a loss of power leaves one that never came to the disk."""
    try:
        with opened(file, at_most=FILE_BYTES, follow=False) as handle:
            return not handle.read(1).strip(b"\0") and not read_at_most(handle, FILE_BYTES).strip(b"\0")
    except OSError:
        return False


def _torn_bytes(file: Path) -> int:
    try:
        with opened(file, at_most=FILE_BYTES, follow=False) as handle:
            content = read_at_most(handle, FILE_BYTES)
    except OSError:
        return 0
    return len(content) - (content.rfind(b"\n") + 1)


def _begin(file: Path, line: bytes) -> None:
    """Writes a new file of the journal with its first record. Raises `OSError`; then it is not there."""
    try:
        write_whole(file, line)
    except OSError:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        raise


def _append(file: Path, line: bytes) -> None:
    """Adds a line to a file and brings it to the disk. Raises `OSError`; then the file ends where it did.

    (As far as the disk still lets itself be written; else the line is torn, or whole: it may have happened.)
    """
    flags = os.O_WRONLY | os.O_APPEND
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW"):
        flags |= getattr(os, name, 0)
    handle = os.open(file, flags)
    try:
        size = os.fstat(handle).st_size
        try:
            written = os.write(handle, line)
            if written != len(line):
                raise OSError(f"{written:,} of {len(line):,} bytes were written")
            os.fsync(handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _cut_tail(file: Path) -> None:
    """Cuts off a last line without an end. Raises `OSError`."""
    torn = _torn_bytes(file)
    if torn:
        os.truncate(file, file.stat().st_size - torn)


def parts_named(records: Iterable[Record]) -> set[str]:
    """Names of all artefacts that records name and that no later record has pruned."""
    named: set[str] = set()
    for record in records:
        if record.kind == "pruned":
            removed = record.body.get("removed")
            named -= {name for name in (removed if isinstance(removed, list) else ()) if isinstance(name, str)}
        named |= set(record.parts.values())
    return named
