"""Notices: what this machine could not do for a run that goes on without it, one sentence each.

A file that cannot be kept ends no run. What follows from it is said once: in the scores of the run that is being made
(`notices`), and outside of a run as a warning of Python's.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_open: list[list[str]] = []
_warned: set[str] = set()


@contextmanager
def notices() -> Iterator[list[str]]:
    """Collects the sentences given to `notice` inside, each once, from every thread of this process.

    Of two inside each other, both have what the inner one found.

    >>> with notices() as found:
    ...     notice("the disk is full.")
    ...     notice("the disk is full.")
    >>> found
    ['the disk is full.']
    """
    found: list[str] = []
    with _lock:
        _open.append(found)
    try:
        yield found
    finally:
        with _lock:
            _open[:] = [one for one in _open if one is not found]


def notice(sentence: str) -> None:
    """Says a sentence once: to all that collect, or, where nobody does, as a `UserWarning`.

    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     for _ in range(2):
    ...         notice("the folder cannot be written.")
    >>> len(seen)
    1
    """
    with _lock:
        for found in _open:
            if sentence not in found:
                found.append(sentence)
        if _open or sentence in _warned:
            return
        _warned.add(sentence)
    warnings.warn(sentence, UserWarning, stacklevel=2)


def reason(error: object) -> str:
    """Why the system refused, in its words.

    >>> reason(OSError(28, "No space left on device"))
    'No space left on device'
    """
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
