"""Plain questions to a cluster: who is there, of which versions, before anything of its answers is unpickled.

Dask's own reader unpickles whatever an answer says is a pickle, from its first message on. This one speaks the same
protocol (length, frames, msgpack) and decodes text and numbers alone, within a limit of bytes and seconds in all.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

MOST_BYTES = 2**24  # of an answer: a kilobyte a worker
MOST_FRAMES = 2**16


class PlainError(Exception):
    """What was asked does not answer as a scheduler would: why."""


class Deadline:
    """So many seconds for all steps together."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left. Raises `PlainError` when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise PlainError(f"it has not answered within {self.seconds:g} s")
        return left


class Scheduler:
    """A connection to a Dask scheduler that takes text and numbers from it and nothing else.

    Parameters
    ----------
    host, port: where it listens. secure: an SSL context for an address that begins with tls://, else None.
    deadline: of all that is asked.

    Raises
    ------
    PlainError where nobody listens, nothing or too much is answered, or something else than a scheduler answers.
    """

    def __init__(self, host: str, port: int, secure: ssl.SSLContext | None, deadline: Deadline) -> None:
        self.deadline = deadline
        self.socket = connected(host, port, deadline)
        try:
            if secure:
                self.socket.settimeout(deadline.left())
                self.socket = secure.wrap_socket(self.socket, server_hostname=host)
            self._send({"compression": None, "python": tuple(sys.version_info)[:3], "pickle-protocol": 5})
            greeting = self._receive()
            if not isinstance(greeting, Mapping) or "pickle-protocol" not in greeting:
                raise PlainError("what answers is no Dask scheduler")
        except (OSError, PlainError) as error:
            self.close()
            raise _plain(error, deadline) from None

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self.socket.close()

    def ask(self, op: str, **arguments: Any) -> Any:
        """The answer to one of the scheduler's own operations: dictionaries, lists, text, numbers, None."""
        try:
            self._send({"op": op, "reply": True, "serializers": ["msgpack"], **arguments})
            return self._receive()
        except OSError as error:
            raise _plain(error, self.deadline) from None

    def _send(self, message: Mapping[str, Any]) -> None:
        import msgpack

        frame = msgpack.dumps(message, use_bin_type=True)
        content = struct.pack("<QQ", 1, len(frame)) + frame
        self.socket.settimeout(self.deadline.left())
        self.socket.sendall(struct.pack("<Q", len(content)) + content)

    def _receive(self) -> Any:
        (size,) = struct.unpack("<Q", self._read(8))
        if not 16 <= size <= MOST_BYTES:
            raise PlainError("what answers is no Dask scheduler")
        content = self._read(size)
        (count,) = struct.unpack_from("<Q", content)
        begin = 8 * (count + 1)
        if not 1 <= count <= MOST_FRAMES or begin > size:
            raise PlainError("what answers is no Dask scheduler")
        lengths = struct.unpack_from(f"<{count}Q", content, 8)
        if sum(lengths) + begin > MOST_BYTES:
            raise PlainError("its answer is too long")
        content += self._read(sum(lengths) + begin - size) if sum(lengths) + begin > size else b""
        frames = []
        for length in lengths:
            frames.append(content[begin : begin + length])
            begin += length
        return decoded(frames)

    def _read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            self.socket.settimeout(self.deadline.left())
            part = self.socket.recv(min(missing, 2**16))
            if not part:
                raise PlainError("it ended the connection")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def decoded(frames: list[bytes]) -> Any:
    """Text and numbers from the frames of an answer. Raises `PlainError` for a pickle and whatever else there may be.

    >>> decoded([bytes([0x81, 0xA1]) + b"a" + bytes([7])])
    {'a': 7}
    """
    import msgpack

    def loads(frame: bytes) -> Any:
        return msgpack.loads(frame, object_hook=part, use_list=False, strict_map_key=False)

    def part(mapping: dict[Any, Any]) -> Any:
        if "__Pickled__" in mapping:
            raise PlainError("it answers with an error, or with something that this program does not open")
        place = mapping.get("__Serialized__", 0)
        if not place:
            return mapping
        if not isinstance(place, int) or not 0 < place < len(frames) - 1:
            raise PlainError("what answers is no Dask scheduler")
        header = msgpack.loads(frames[place], use_list=False, strict_map_key=False)
        if (
            not isinstance(header, dict)
            or header.get("serializer") != "msgpack"
            or any(header.get("compression") or ())
        ):
            raise PlainError("it answers with something that this program does not open")
        return msgpack.loads(frames[place + 1], use_list=False, strict_map_key=False)

    try:
        return loads(frames[0])
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PlainError(f"what answers is no Dask scheduler ({type(error).__name__})") from None


def connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A socket to the first address of a host that takes it. Raises `PlainError`."""
    found: list[Any] = []

    def resolve() -> None:  # the system's resolver knows no deadline
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not found or isinstance(found[0], Exception):
        raise PlainError(f"the name {host[:80]!r} is not known" if found else "its name could not be looked up in time")
    last: OSError | None = None
    for family, kind, protocol, _, address in found[0]:
        one = socket.socket(family, kind, protocol)
        try:
            one.settimeout(deadline.left())
            one.connect(address)
        except (OSError, PlainError) as error:
            one.close()
            if isinstance(error, PlainError):
                raise
            last = error
        else:
            return one
    raise _plain(last or OSError("it has no address"), deadline)


def _plain(error: Exception, deadline: Deadline) -> PlainError:
    if isinstance(error, PlainError):
        return error
    if isinstance(error, TimeoutError):
        return PlainError(f"it has not answered within {deadline.seconds:g} s")
    return PlainError(str(getattr(error, "strerror", None) or error) or type(error).__name__)


def with_scheduler(
    host: str, port: int, secure: ssl.SSLContext | None, seconds: float, talk: Callable[[Scheduler], Any]
) -> Any:
    """What `talk` returns of a connection that is closed in the end; all of it within so many seconds."""
    found = Scheduler(host, port, secure, Deadline(seconds))
    try:
        return talk(found)
    finally:
        found.close()


def printable(text: object, most: int = 60) -> str:
    """Text from elsewhere as it may be shown: short, and without what would steer a terminal.

    >>> printable("1.26" + chr(27) + "[2J")
    '1.26?[2J'
    """
    return "".join(one if one.isprintable() else "?" for one in str(text)[:most])


def speaks_http2(host: str, port: int, seconds: float) -> None:
    """Whether what listens answers HTTP/2, as Ray's gRPC does. Raises `PlainError` where it does not, in time."""
    deadline = Deadline(seconds)
    with connected(host, port, deadline) as one:
        answer = b""
        try:
            one.settimeout(deadline.left())
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            while len(answer) < 9:
                one.settimeout(deadline.left())
                part = one.recv(9 - len(answer))
                if not part:
                    break
                answer += part
        except OSError as error:
            raise _plain(error, deadline) from None
    if len(answer) < 9 or answer[3] != 4 or answer[5:] != bytes(4):  # a frame of settings, of the connection itself
        raise PlainError("what answers is no Ray cluster")


def ray_address() -> tuple[str, int] | None:
    """Host and port of the variable RAY_ADDRESS; None where it names neither: this machine, or none at all.

    >>> os.environ["RAY_ADDRESS"] = "ray://10.0.0.1:10001"
    >>> ray_address()
    ('10.0.0.1', 10001)
    >>> del os.environ["RAY_ADDRESS"]
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d{1,5})", os.environ.get("RAY_ADDRESS", "").strip())
    return (found[1], int(found[2])) if found else None
