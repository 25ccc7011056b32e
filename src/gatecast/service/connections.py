"""Connections before there is a request: who sends none, or reads no answer, gives way to who does.

The protocol of uvicorn with four limits. They are kept here since the application sees whole requests alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 200
MOST_OF_ADDRESS = 100
"""Connections at once, of all addresses and of one."""
REQUEST_SECONDS = 10.0
"""Time for a whole request's headers, from the connection or the end of the answer before."""
UNREAD_SECONDS = 20.0
"""Time in which a client must have read more of an answer that waits for it."""
BUSY = (503, "Service Unavailable", "as many connections are answered as may be: ask again soon.")
NO_REQUEST = (400, "Bad Request", "expected a request of HTTP/1.1, other bytes came.")


class Connection(H11Protocol):
    """A connection: it is closed where no whole request comes in time, and where an answer is not read.

    Where there are as many connections as may be, of all or of one address, a further one takes the place of the one
    that has waited longest without a request; where every one of them is being answered it is told to come again.
    """

    begun = 0.0
    _request: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether no request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)
        self.begun = time.monotonic()
        self._expect()
        others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
        same = [one for one in others if self.client and one.client and one.client[0] == self.client[0]]
        for rivals, most in ((same, MOST_OF_ADDRESS), (others, MOST_CONNECTIONS)):
            if len(rivals) < most:
                continue
            waiting = [one for one in rivals if one.waits]
            if not waiting:
                self._refuse(*BUSY)
            else:
                min(waiting, key=lambda one: one.begun).end()
            return

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end."""
        for timer in (self._request, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request: more of its headers give it no more time."""
        super().data_received(data)
        if not self.waits:
            self._answered()
        elif self._request is None:
            self._expect()

    def on_response_complete(self) -> None:
        """The answer is sent: the next request may come."""
        self.begun = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.end)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """What came is no request: it is said as the service says every error."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.end()  # in the middle of an answer nothing can be said
        else:
            self._refuse(*NO_REQUEST)

    def _refuse(self, status: int, reason: str, sentence: str) -> None:
        body = json.dumps({"error": sentence})
        again = "retry-after: 1\r\n" if status == 503 else ""
        head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{again}connection: close\r\n\r\n{body}".encode("ascii"))
        self.transport.close()

    def end(self) -> None:
        """Closes it at once, without waiting for what is to be sent."""
        self.connections.discard(self)
        self.transport.abort()

    def _expect(self) -> None:
        self._request = self.loop.call_later(REQUEST_SECONDS, self.end)

    def _answered(self) -> None:
        if self._request is not None:
            self._request.cancel()
            self._request = None
