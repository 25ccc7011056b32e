"""Files that are there whole or not at all (written beside their place, then renamed); values as JSON holds them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol

import numpy as np
import polars as pl

from gatecast.errors import StoreError, cut
from gatecast.processes import MARK, is_dead, mark

Content = bytes | Path
"""What a file shall hold: bytes, or a file that is copied."""
PART = rf"\..+\.({MARK})\.[0-9a-f]{{12}}\.part"
"""A name of `free_name`, with the mark of its process."""
CHUNK_BYTES = 2**20


class SupportsRead(Protocol):
    """What bytes can be read from, a part at a time."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A free name in the folder of `place`, to write to first; whatever is left of it in the end is removed.

    What killed processes left in that folder is removed as well.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with beside(Path(folder) / "a") as temporary:
    ...         write(temporary, b"half")
    ...     list(Path(folder).iterdir())
    []
    """
    sweep(place.parent)
    temporary = free_name(place)
    try:
        yield temporary
    finally:
        _delete(temporary)


def full_path(path: str | Path) -> Path:
    """The absolute path of what a user names, ~ and links followed; nothing needs to be there.

    Raises `StoreError` for a path that no file can have, or into which this user may not look.

    >>> full_path("/a/../b" if os.name == "posix" else "b").name
    'b'
    """
    name = cut(str(path))
    try:
        place = Path(path).expanduser()
    except RuntimeError:
        raise StoreError(f"{name}: this user has no home folder here. Write the whole path, without ~.") from None
    try:
        here = place if place.is_absolute() else Path.cwd() / place
    except FileNotFoundError:
        raise StoreError(
            f"{name}: the folder that this command was started in was removed. Change to another, or give an absolute "
            "path."
        ) from None
    try:
        whole = here.resolve()
        with suppress(FileNotFoundError, NotADirectoryError):
            whole.lstat()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that lead to each other
        why = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"{name} cannot be used: {why}. Give another path.") from None
    return whole


def cache_folder(name: str) -> Path | None:
    """The folder of a cache: `name` below $GATECAST_CACHE, else below the user's cache folder; None: there is none.

    Nothing is made. Raises `StoreError` for a place that is no absolute path: it would depend on the current folder.
    """
    from platformdirs import user_cache_path

    for variable in ("GATECAST_CACHE", "XDG_CACHE_HOME"):
        place = os.environ.get(variable)
        if place and not os.path.isabs(place):
            raise StoreError(f"{variable} is {cut(place)!r}, where an absolute path was expected: give one.")
        if place and variable == "GATECAST_CACHE":  # of the other one platformdirs knows
            return Path(place) / name
    try:
        folder = user_cache_path("gatecast") / name
    except RuntimeError:  # a user without a home
        return None
    return folder if folder.is_absolute() else None


def free_name(place: Path) -> Path:
    """A free hidden name in the folder of `place`, which says what process it is of: see `sweep`."""
    return place.with_name(f".{place.name[:100]}.{mark()}.{uuid.uuid4().hex[:12]}.part")


def remove(place: Path) -> None:
    """Removes a file or folder: renamed first, so that a half removed one is never found under its name.

    Nothing happens where it is not there. Raises `OSError` where it cannot be renamed.
    """
    away = free_name(place)
    try:
        os.replace(place, away)
    except FileNotFoundError:
        return
    _delete(away)


def _delete(path: Path) -> None:
    """Removes a file or folder as far as that can be done; a link itself, never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str = PART) -> list[Path]:
    """Removes from a folder what processes that run no more have left there; returns what that was.

    `pattern`: a regular expression of names, with the mark of a process in its first group. Names of other forms, and
    of processes that still run or are of another machine, stay. No error is raised.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> left = f".a.{mark().split('-')[0]}-4194305-1.0123456789ab.part"
    >>> for name in ("a.part", left, free_name(folder / "b").name):
    ...     write(folder / name, b"half")
    >>> [path.name == left for path in sweep(folder)], len(list(folder.iterdir()))
    ([True], 2)
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = [folder / name for name in names if (fits := re.fullmatch(pattern, name)) and is_dead(fits[1])]
    for path in found:
        _delete(path)
    return found


def write(path: Path, content: Content) -> None:
    """Writes a new file and brings it to the disk. Raises `OSError`; the file may then be there in part."""
    with path.open("xb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: Content) -> None:
    """Writes or replaces a file, whole or not at all; its folder is made. Raises `OSError`; then nothing changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as temporary:
        write(temporary, content)
        os.replace(temporary, path)
    sync_folder(path.parent)


def append_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Adds objects to a file, one a line as JSON, with a single write that is brought to the disk. Raises `OSError`.

    It begins with an empty line where a crash left half of one, so that nothing is joined to it.
    """
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _refuse_irregular(path.stat())
    with path.open("a+b", buffering=0) as file:
        torn = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        text = ("\n" * torn + "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)).encode()
        if file.write(text) != len(text):
            raise OSError(f"{path} could be written in part only")
        os.fsync(file.fileno())


def read(path: Path, *, at_most: int, follow: bool = True) -> bytes:
    """The bytes of a regular file of at most `at_most` bytes; its size is asked for before anything is read.

    Where `follow` is False, a link is refused. Raises `OSError`, at once, for all that is no regular file (a folder, a
    pipe, a socket, a device, a file of /proc, whose size nobody knows before), and for a file that is larger, or grows
    larger while it is read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "a", b"four")
    ...     read(Path(folder) / "a", at_most=4)
    ...     read(Path(folder) / "a", at_most=3)
    Traceback (most recent call last):
        ...
    OSError: it has 4 bytes: at most 3 are read
    """
    with opened(path, at_most=at_most, follow=follow) as file:
        return read_at_most(file, at_most, max(CHUNK_BYTES, os.fstat(file.fileno()).st_size))


def read_at_most(file: SupportsRead, at_most: int, at_once: int = CHUNK_BYTES) -> bytes:
    """The rest of an open file, or of what unpacks one; raises `OSError` once it is more than `at_most` bytes.

    `at_once`: bytes of one reading; what comes in one is not copied.
    """
    parts, have = [], 0
    while part := file.read(min(at_once, at_most + 1 - have)):
        parts.append(part)
        have += len(part)
        if have > at_most:
            raise OSError(f"it has more than {at_most:,} bytes")
    return b"".join(parts)


@contextmanager
def opened(path: Path, *, at_most: int, follow: bool = True) -> Iterator[BinaryIO]:
    """A regular file of at most `at_most` bytes, open for reading. Raises `OSError` as `read` does.

    The file may grow while it is open: a reader counts what it reads, as `read_at_most` does.
    """
    flags = os.O_RDONLY
    for name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK", *([] if follow else ["O_NOFOLLOW"])):
        flags |= getattr(os, name, 0)  # not every system has them
    try:
        _refuse_irregular(path.stat() if follow else path.lstat())  # a device is not even opened
        handle = os.open(path, flags)
    except ValueError:
        raise OSError("no file can have this name") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)  # it may be another file by now
        _refuse_irregular(found)
        if found.st_size > at_most:
            raise OSError(f"it has {found.st_size:,} bytes: at most {at_most:,} are read")
        if found.st_size == 0 and file.peek(1) and os.fstat(handle).st_size == 0:
            raise OSError("it has no size and is not empty, as files of /proc: a regular file was expected")
        yield file


def is_regular(path: Path) -> bool:
    """Whether a regular file is there, links followed; False also for what no file can be called."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _refuse_irregular(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError("it is a link: a regular file was expected")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is a folder, pipe or device: a regular file was expected")


def sync_folder(folder: Path) -> None:
    """Brings a folder's entries to the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(content: Content) -> str:
    """SHA-256 of bytes or of a file, as hexadecimal digits.

    >>> sha256_of(b"")[:8]
    'e3b0c442'
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def jsonable(value: Any) -> Any:
    """The same content in what JSON can hold; numbers that are not finite become None.

    >>> jsonable({"a": float("nan"), "b": (1, 2), "c": date(2024, 1, 2)})
    {'a': None, 'b': [1, 2], 'c': '2024-01-02'}
    """
    match value:
        case None | str():
            return value
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): jsonable(item) for key, item in value.items()}
        case bool() | np.bool_():
            return bool(value)
        case int() | np.integer():
            return int(value)
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case date():
            return value.isoformat()
        case pl.DataFrame():
            return jsonable(value.to_dicts())
        case pl.Series() | np.ndarray():
            return jsonable(value.tolist() if isinstance(value, np.ndarray) else value.to_list())
        case PurePath():
            return str(value)
        case Iterable():
            return [jsonable(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return jsonable({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    return str(value)
