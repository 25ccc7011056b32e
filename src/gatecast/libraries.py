"""Libraries that are not always there, and those imported without another one that is not needed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from threading import Lock

from gatecast.errors import SettingsError

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


def require(package: str, needed_by: str) -> None:
    """Raises `SettingsError` where a package is not installed; the extra of gatecast's that has it goes by its name.

    >>> require("numpy", "the model 'lstm'")
    >>> require("torsh", "the model 'tft'")
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: the model 'tft' needs the package torsh, which is not installed. Install it: \
pip install 'gatecast[torsh]'.
    """
    there = sys.modules[package] is not None if package in sys.modules else find_spec(package) is not None
    if not there:
        raise SettingsError(
            f"{needed_by} needs the package {package}, which is not installed. Install it: pip install "
            f"'gatecast[{package}]'."
        )
