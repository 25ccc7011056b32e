"""What happened: bars of any market, from any file, with nothing in them that was not known."""

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
from gatecast.market.sources import Reading, read_bars, read_with_findings

__all__ = [
    "ASSET_CLASSES",
    "AssetClass",
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
