"""Memory that was freed, back to the system: of many arrays made and freed again, the C library keeps most."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Gives the system what is free, between two stages of a run: it takes milliseconds.

    Where the system's C library has no `malloc_trim` (outside of Linux with glibc) nothing is done.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda kept: None
    return trim
