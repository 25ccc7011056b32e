"""What takes seconds is made one at a time, apart from what is quick, and few may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from gatecast.errors import GatecastError

Made = TypeVar("Made")
MOST_WAITING = 8
"""Requests that may wait for their turn, beside the one whose turn it is."""
LOOK_SECONDS = 0.05
"""Time between two looks whether it is one's turn, and whether who asked is still there."""


class BusyError(GatecastError):
    """As many wait for an answer that takes seconds as may."""


class LeftError(GatecastError):
    """Who asked is gone."""


class Turns:
    """One thing that takes seconds at a time, in a thread of its own; at most `most` more wait for their turn."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self.most = most
        self._asked: list[object] = []

    async def take(self, make: Callable[[], Made], is_gone: Callable[[], Awaitable[bool]]) -> Made:
        """What `make` gives, once it is its turn: first come, first served.

        Raises `BusyError` where too many wait, and `LeftError` where who asked is gone before the turn; what has begun
        is finished, and the next turn begins after it.
        """
        if len(self._asked) > self.most:
            raise BusyError(f"{self.most} requests wait already for answers that take seconds: ask again soon.")
        own = object()
        self._asked.append(own)
        try:
            while self._asked[0] is not own:
                await asyncio.sleep(LOOK_SECONDS)
                if await is_gone():
                    raise LeftError("who asked is gone.")
            if await is_gone():
                raise LeftError("who asked is gone.")
            return await run_sync(partial(make), limiter=CapacityLimiter(1))
        finally:
            self._asked.remove(own)
