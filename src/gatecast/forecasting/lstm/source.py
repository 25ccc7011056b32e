"""The engine's own source, as a hash: kept networks and searches of older code are not taken up."""

from __future__ import annotations

from pathlib import Path

from gatecast.compute.source import source_of


def engine_code() -> bytes:
    """SHA-256 of the modules of this folder, 32 bytes.

    >>> len(engine_code())
    32
    """
    return source_of(Path(__file__).parent)
