"""Libraries imported without another one that they would import and that is not needed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

_importing = Lock()


def without_matplotlib() -> AbstractContextManager[None]:
    """For the first `import arch`: it needs matplotlib for plots alone, whose first import looks for all fonts.

    >>> with without_matplotlib():
    ...     import arch
    >>> sys.modules.get("matplotlib", "not imported") is None
    False
    """
    return _without("matplotlib", "arch")


def without_pandas() -> AbstractContextManager[None]:
    """For the first `import talib`, which takes Series of pandas where that is installed; here it gets arrays alone.

    >>> with without_pandas():
    ...     import talib
    >>> sys.modules.get("pandas", "not imported") is None
    False
    """
    return _without("pandas", "talib")


@contextmanager
def _without(name: str, importing: str) -> Iterator[None]:
    """For as long as it lasts the library `name` counts as not installed, unless it or `importing` was imported."""
    with _importing:
        if importing in sys.modules or name in sys.modules:
            yield
            return
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules[name]
