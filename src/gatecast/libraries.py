"""arch, imported without matplotlib: it needs that for plots alone, and its first import looks for all fonts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_importing = Lock()


@contextmanager
def without_matplotlib() -> Iterator[None]:
    """For as long as it lasts matplotlib counts as not installed, unless it was imported before.

    For the first `import arch`, whose `arch.univariate` imports matplotlib where it can.

    >>> with without_matplotlib():
    ...     import arch
    >>> sys.modules.get("matplotlib", "not imported") is None
    False
    """
    with _importing:
        if "arch" in sys.modules or "matplotlib" in sys.modules:
            yield
            return
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules["matplotlib"]
