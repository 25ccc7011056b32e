"""Market data: files and frames -> checked bars with `known_at`, actions, calendars; simulated markets.

Files and frames become the one Bars frame (`read_bars`), what is odd is told (`findings`), and simulated markets whose
truth is known stand in `gatecast.market.synthetic`. Names are imported when they are first used.

>>> from gatecast.market import findings, read_bars
>>> bars = read_bars("embedded", symbols="SP500", start="2018-06-01")
>>> len(bars), [finding.rule for finding in findings(bars)]
(147, ['short_history'])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatecast.market.actions import read_actions
    from gatecast.market.bars import (
        Finding,
        as_of,
        compare_levels,
        findings,
        make_bars,
        open_fills,
        opens_are_real,
        resample,
        session_date,
        without_idle,
    )
    from gatecast.market.classes import ASSET_CLASSES, AssetClass, asset_class
    from gatecast.market.reading import BarsSettings
    from gatecast.market.sources import Reading, read_bars, read_with_findings

__all__ = [
    "ASSET_CLASSES",
    "AssetClass",
    "BarsSettings",
    "Finding",
    "Reading",
    "as_of",
    "asset_class",
    "compare_levels",
    "findings",
    "make_bars",
    "open_fills",
    "opens_are_real",
    "read_actions",
    "read_bars",
    "read_with_findings",
    "resample",
    "session_date",
    "without_idle",
]

_HOMES = {
    "actions": ("read_actions",),
    "bars": (
        "Finding", "as_of", "compare_levels", "findings", "make_bars", "open_fills", "opens_are_real", "resample",
        "session_date", "without_idle",
    ),
    "classes": ("ASSET_CLASSES", "AssetClass", "asset_class"),
    "reading": ("BarsSettings",),
    "sources": ("Reading", "read_bars", "read_with_findings"),
}  # fmt: skip
"""Module -> the names that it offers here."""


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
