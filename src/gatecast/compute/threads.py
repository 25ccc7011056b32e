"""Linear algebra on one thread: a second one slows the other jobs, and changes the last digits with the machine."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_AS_LOADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What a library reads when it is loaded."""
_limiting = threading.Lock()
_inside = 0  # of `one_thread`, in all threads
_before: dict[str, str | None] = {}  # what was set outside
_limits: list[tuple[Any, Any]] = []  # the libraries that were found, and what gives them back their threads


def one_thread_each() -> None:
    """Libraries that are loaded from here on have one thread, unless the environment says how many."""
    for name in _AS_LOADED:
        os.environ.setdefault(name, "1")


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS on one thread, also that of a library which is loaded inside, and then keeps to one.

    Where several threads are inside, the last one to leave gives the other libraries back what they had.
    """
    global _inside
    with _limiting:
        found = _libraries(len(sys.modules))
        limit = found.limit(limits=1)
        if not _limits or _limits[-1][0] is not found:
            _limits.append((found, limit))
        if not _inside:
            _before.update({name: os.environ.get(name) for name in _AS_LOADED})
            os.environ.update(dict.fromkeys(_AS_LOADED, "1"))
        _inside += 1
    try:
        yield
    finally:
        with _limiting:
            _inside -= 1
            while _limits and not _inside:
                _limits.pop()[1].restore_original_limits()
            for name, value in (_before if not _inside else {}).items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> Any:
    # Looking for the libraries takes 5 ms, and a run asks a hundred times; more come with more modules alone.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
