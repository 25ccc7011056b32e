"""The engine's own source, as a hash: machine code, kept networks and searches of older code are not taken up."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def engine_code() -> bytes:
    """SHA-256 of the modules of this folder, 32 bytes.

    >>> len(engine_code())
    32
    """
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
