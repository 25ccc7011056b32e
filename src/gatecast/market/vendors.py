"""Vendors: bars that a user's own code fetches, asked for by name and then read like any other frame.

    @VENDORS.add
    class Archive(Vendor):
        kind = "archive"

        def fetch(self, request, *, symbols, start, end): ...

`source = "archive:eod/us"` asks it for `eod/us`. gatecast itself opens a connection only where `source` names one of
the two vendors of `feeds`. See docs/plugins.md.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

from gatecast.errors import BarsError, PluginError, described, did_you_mean
from gatecast.market.tables import shown_path
from gatecast.plugins import Registry, subclass_of

_NAMED = re.compile(r"([A-Za-z_]\w+):(.*)", re.DOTALL)  # of one letter it is the drive of a path


class Vendor(ABC):
    """Where bars are fetched from. `kind` is the name that stands before the colon of a source."""

    kind: ClassVar[str]

    @abstractmethod
    def fetch(self, request: str, *, symbols: Sequence[str] | None, start: date | None, end: date | None) -> Any:
        """Bars as a Polars or pandas frame, with the columns that a file would have.

        `request`: what follows the colon, whatever that means to the vendor. `symbols`: those that are wanted, `start`,
        `end`: the first and last session that are wanted, both included; None: all. What is beyond them is left out
        afterwards, and every check of a file applies.
        """


VENDORS = Registry[type[Vendor]]("vendor", "gatecast.vendors", fault=subclass_of(Vendor))
"""Name -> class of every vendor: added by `@VENDORS.add`, or of an installed package."""


def vendor_of(source: Any) -> tuple[str, str] | None:
    """The vendor's name and the request of a source such as "archive:eod/us"; None for any other source.

    A file or folder that exists wins over a vendor.

    Raises `BarsError` for a source of that form that is no file and whose vendor nobody offers.

    >>> vendor_of("bars.csv"), vendor_of("C:bars.csv")
    (None, None)
    """
    found = _NAMED.fullmatch(source) if isinstance(source, str) else None
    if found is None or _exists(source):
        return None
    name, request = found.groups()
    if name in VENDORS:
        return name, request
    if any(sign in source for sign in "*?["):  # a pattern of files
        return None
    known = list(VENDORS)
    advice = did_you_mean(name, known) if known else "Check the path, or install the vendor's package."
    raise BarsError(f"{shown_path(source)}: there is no such file or folder, and no vendor {name!r}. {advice}")


def fetched(source: Any, symbols: Sequence[str] | None, start: date | None, end: date | None) -> Any:
    """The frame that a vendor gives, where a source names one; any other source as it is.

    Raises `BarsError` with the vendor's name for whatever it raises, `PluginError` where its package is not there.
    """
    asked = vendor_of(source)
    if asked is None:
        return source
    name, request = asked
    try:
        return VENDORS.find(name)().fetch(request, symbols=symbols, start=start, end=end)
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit, and a panic of Rust
        raise BarsError(f"the vendor {name!r} gave no bars for {request!r}: {described(error)}.") from error


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False
