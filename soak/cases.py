"""One thing that was tried on a store, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What was done in a part of the soak, and what is wrong after it; empty where nothing is."""

    part: str
    done: str
    wrong: str = ""
