"""Connections that send nothing, half a request, or read nothing keep nobody out; few wait for what takes seconds."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from gatecast.service import connections
from gatecast.service.connections import Connection
from gatecast.service.turns import BusyError, LeftError, Turns

GET = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
LARGE = 32_000_000


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """`/` at once; `/held` once the client is gone; `/large` more than buffers hold."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/held":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b"x" * LARGE if scope["path"] == "/large" else b"hello"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server in a thread, of at most 6 connections, 4 of one address."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 6)
    monkeypatch.setattr(connections, "MOST_OF_ADDRESS", 4)
    config = uvicorn.Config(answers, port=0, log_level="error", lifespan="off", ws="none", http=Connection)
    at = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield int(at.getsockname()[1])
    server.should_exit = server.force_exit = True
    thread.join(timeout=20)


def connected(port: int, said: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(said)
    return one


def first(one: socket.socket) -> bytes:
    """What comes first; nothing where the connection was closed."""
    try:
        return one.recv(12)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("said", [b"", GET[:20]])
def test_connections_without_a_request_give_way(port: int, said: bytes) -> None:
    idle = [connected(port, said) for _ in range(12)]
    for _ in range(3):
        with connected(port, GET) as one:
            assert first(one) == b"HTTP/1.1 200"
    assert first(idle[0]) == b""
    for each in idle:
        each.close()


def test_those_that_are_answered_do_not_give_way(port: int) -> None:
    held = [connected(port, GET.replace(b"/ ", b"/held ", 1)) for _ in range(4)]
    assert [first(one) for one in held] == [b"HTTP/1.1 200"] * 4
    with connected(port) as one:
        assert first(one) == b"HTTP/1.1 503"
    held.pop().close()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with connected(port, GET) as one:
            if first(one) == b"HTTP/1.1 200":
                break
    else:
        pytest.fail("no room was made by one that left")
    for each in held:
        each.close()


@pytest.mark.parametrize("before", [b"", GET])
def test_half_a_request_has_so_much_time(port: int, before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    with connected(port, before + GET[:9]) as one:
        said = b""
        while part := first(one):
            said += part
            one.sendall(b"a")  # more of it gives no more time
    assert said.count(b"200 OK") == (before != b"")


def test_an_answer_that_is_not_read_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)
    ended = threading.Event()
    end = Connection.end

    def noted(self: Connection) -> None:
        end(self)
        ended.set()

    monkeypatch.setattr(Connection, "end", noted)
    with connected(port, GET.replace(b"/ ", b"/large ", 1)) as one:
        assert ended.wait(30)
        one.settimeout(30)
        assert first(one)


def test_a_large_answer_that_is_read_comes_whole(port: int) -> None:
    with connected(
        port, GET.replace(b"/ ", b"/large ", 1).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    ) as one:
        count = 0
        while part := one.recv(1_000_000):
            count += len(part)
    assert count > LARGE


@pytest.mark.parametrize(
    "said",
    [b"hello\r\n\r\n", b"\xff\xfe\x00\r\n\r\n", b"GET HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n"],
)
def test_what_is_no_request_is_told_as_json(port: int, said: bytes) -> None:
    with connected(port, said) as one:
        whole = b""
        while part := one.recv(10_000):
            whole += part
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert f"content-length: {len(body)}".encode() in head
    assert list(json.loads(body)) == ["error"]


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────


async def here() -> bool:
    return False


async def gone() -> bool:
    return True


def test_turns_are_taken_one_after_the_other_and_few_may_wait() -> None:
    turns, done, free = Turns(most=2), list[int](), threading.Event()
    running: list[int] = []

    def make(number: int) -> int:
        running.append(number)
        assert len(running) == 1
        free.wait(30)
        done.append(number)
        running.remove(number)
        return number

    async def ask() -> list[Any]:
        asked = [asyncio.create_task(turns.take(lambda n=n: make(n), here)) for n in range(3)]  # type: ignore[misc]
        while not running:
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="2 requests wait already"):
            await turns.take(lambda: 4, here)
        free.set()
        return [*await asyncio.gather(*asked), await turns.take(lambda: 5, here)]

    assert asyncio.run(ask()) == [0, 1, 2, 5]
    assert done == [0, 1, 2]


def test_who_left_gives_its_turn_to_the_next() -> None:
    turns, made, free = Turns(most=3), list[int](), threading.Event()

    def make(number: int) -> None:
        free.wait(30)
        made.append(number)

    async def ask() -> list[Any]:
        asked = [
            asyncio.create_task(turns.take(lambda n=n: make(n), gone if n in (1, 2) else here))  # type: ignore[misc]
            for n in range(4)
        ]
        done, _ = await asyncio.wait(asked[1:3])
        assert all(isinstance(one.exception(), LeftError) for one in done)
        free.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(ask())
    assert made == [0, 3]


def test_an_error_gives_the_turn_on() -> None:
    turns = Turns()

    async def ask() -> int:
        with pytest.raises(ZeroDivisionError):
            await turns.take(lambda: 1 // 0, here)
        return await turns.take(lambda: 3, here)

    assert asyncio.run(ask()) == 3
