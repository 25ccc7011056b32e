"""The lock of a store: one process at a time writes; that of a process that runs no more is taken over, and said."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gatecast.errors import StoreError
from gatecast.files import read
from gatecast.processes import is_dead, mark
from gatecast.store.folders import acquired

LOCK = "lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
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
