"""Server-sent events: a new decision is told to every page that is open, by one watcher for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from gatecast.errors import GatecastError, StoreError
from gatecast.service.watching import Watched

MOST_CLIENTS = 32
ALIVE_SECONDS = 15.0
"""After which a line without meaning is sent, so that both sides notice a connection that is gone."""


class TooManyClientsError(GatecastError):
    """As many pages listen as may."""


class Events:
    """Who listens, and what is told to them.

    `begin` is called in the server's loop; `stop` ends every stream.
    """

    def __init__(self, watched: Watched, most: int = MOST_CLIENTS, alive_seconds: float = ALIVE_SECONDS) -> None:
        self.watched, self.most, self.alive_seconds = watched, most, alive_seconds
        self._listening: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        watched.on_change(self._tell)

    @property
    def count(self) -> int:
        """How many listen."""
        return len(self._listening)

    def begin(self) -> None:
        """From now on changes are told in the loop that runs."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Ends every stream."""
        self._loop = None
        for queue in list(self._listening):
            self._put(queue, None)

    def _tell(self) -> None:
        loop, text = self._loop, event("record", head_of(self.watched))
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended meanwhile
                loop.call_soon_threadsafe(lambda: [self._put(one, text) for one in list(self._listening)])

    @staticmethod
    def _put(queue: asyncio.Queue[str | None], text: str | None) -> None:
        if queue.full():  # a page that does not read needs the newest alone
            queue.get_nowait()
        queue.put_nowait(text)

    def listen(self) -> AsyncIterator[str]:
        """What a new client gets: the newest record at once, then each one as it comes.

        Raises `TooManyClientsError`.
        """
        if len(self._listening) >= self.most:
            raise TooManyClientsError(f"{self.most} pages listen already: close one of them.")
        queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=4)
        self._listening.add(queue)
        return self._stream(queue)

    async def _stream(self, queue: asyncio.Queue[str | None]) -> AsyncIterator[str]:
        try:
            yield event("record", head_of(self.watched))
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), self.alive_seconds)
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if text is None:
                    return
                yield text
        finally:
            self._listening.discard(queue)


def head_of(watched: Watched) -> dict[str, Any]:
    """The newest record, the newest decisions' record, and the model; a sentence where the store cannot be read."""
    try:
        view = watched.view
    except StoreError as error:
        return {"error": watched.said(error)}
    issued = view.store.state.issued
    return {**view.head, "decided": issued[-1].record if issued else None}


def event(name: str, content: dict[str, Any]) -> str:
    r"""A server-sent event.

    >>> event("record", {"record": 7})
    'event: record\ndata: {"record": 7}\n\n'
    """
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
