"""The mark of a process in names of temporary files: whether what it left may be removed, since it runs no more."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import cache
from pathlib import Path

MARK = r"[0-9a-f]{8}-\d{1,10}-\d{1,20}"
"""What `mark` gives, as a regular expression: machine, number and start of a process."""


def mark() -> str:
    """This process: machine, number, and start in clock ticks since the machine's own, 0 where that is not known.

    >>> bool(re.fullmatch(MARK, mark())), is_dead(mark())
    (True, False)
    """
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid()) or 0}"


def is_dead(marked: str) -> bool:
    """Whether the process of a mark surely runs no more: False for one of another machine, of which nothing is known.

    >>> machine = mark().split("-")[0]
    >>> is_dead(f"{machine}-{2**22 + 1}-1"), is_dead("00000000-1-1"), is_dead("no mark")
    (True, False, False)
    """
    if not re.fullmatch(MARK, marked):
        return False
    machine, number, start = marked.split("-")
    if machine != _machine():
        return False
    if not _process_alive(int(number)):
        return True
    found = _start(int(number))
    return found is not None and start != "0" and found != int(start)  # another process has its number now


def _process_alive(number: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return _stat(number)[:1] not in (["Z"], ["X"])  # it has ended, and whoever started it has not asked yet


def _start(number: int) -> int | None:
    """When a process began, in clock ticks; None where the system does not say."""
    try:
        return int(_stat(number)[19])
    except (ValueError, IndexError):
        return None


def _stat(number: int) -> list[str]:
    """What the system says of a process after its name, its state first; nothing where it does not say."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


@cache
def _machine() -> str:
    """Name of the machine and of its space of process numbers, hashed: containers on one machine have several."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return hashlib.sha256(f"{platform.node()}/{space}".encode()).hexdigest()[:8]
