"""Libraries that are not always there, those imported without another one that is not needed here, and their tables."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from gatecast.errors import PluginError, described

if TYPE_CHECKING:
    import polars as pl

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


def shipped_table(package: str, *place: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table that an installed package ships, read without importing the package, which may take a second.

    `place`: folders and the name of the file in the package, CSV packed by gzip; the type of a column is that of all
    its cells. `columns`: those that are read; None: all.

    >>> shipped_table("arch", "data", "sp500", "sp500.csv.gz", columns=["Date", "Close"]).row(0)
    ('1/4/1999', 1228.099976)
    """
    import polars as pl

    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    packed = Path(found.origin).parent.joinpath(*place)
    return pl.read_csv(gzip.decompress(packed.read_bytes()), columns=columns, infer_schema_length=None)


def require(package: str, needed_by: str, has: str = "__version__", extra: str = "") -> Any:
    """A package, imported; raises `PluginError` where it is not installed, cannot be imported, or is another one.

    `extra`: the extra of gatecast's that has it; "": it goes by its name. `has`: a name that the package must have.

    >>> require("numpy", "the model 'lstm'").__name__
    'numpy'
    >>> require("torsh", "the model 'tft'")
    Traceback (most recent call last):
        ...
    gatecast.errors.PluginError: the model 'tft' needs the package torsh, which is not installed. Install it: \
pip install 'gatecast[torsh]'.
    """
    why, again = "", " again"
    try:
        module = import_module(package)
        if not hasattr(module, has):
            why = f"which is there without {has!r}: another package or file has its name"
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            why, again = "which is not installed", ""
        else:
            why = f"which cannot be imported ({described(error)})"
    if why:
        raise PluginError(
            f"{needed_by} needs the package {package}, {why}. "
            f"Install it{again}: pip install 'gatecast[{extra or package}]'."
        )
    return module
