"""Hostile requests, made from a seed, and what every answer to one must keep to."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from gatecast.service.app import AS_JSON
from gatecast.service.security import HEADERS, OPEN_PATH

TOKEN = "a-token-of-32-characters-exactly"
TELLING = ("Traceback", 'File "', "site-packages", "root:", "/home/", "/tmp/", "/usr/", TOKEN)
"""Words of the machine that are in no answer."""
PATHS = (
    "/", "/orders", "/risk", "/models", "/health", "/symbols", "/symbols/", "/static/", "/static/style.css",
    "/openapi.json", "/docs", "/api", "/api/", "/api/today", "/api/symbols", "/api/book", "/api/orders",
    "/api/findings", "/api/models", "/api/refits", "/api/verdicts", "/api/drift", "/api/runs", "/api/decisions",
    "/api/nothing", "/api/symbols//bars", "/api/symbols/{}/bars", "/api/symbols/{}/forecast", "/api/symbols/{}/chart",
    "/api/symbols/{}/explain", "/symbols/{}", "/static/{}", "/health/live", "/health/ready", "/health/live/",
    "//health/live", "/HEALTH/LIVE", "/health/{}", "/{}",
)  # fmt: skip
TEXTS = (
    "", ".", "..", "../", "../../etc/passwd", "..\\..\\windows", "/etc/passwd", "%2e%2e%2f", "\0", "a\0b",
    "\r\nset-cookie: a=b", "\u202e", "💩", "\ufeff", "é" * 60, "A" * 199, "A" * 201, "A" * 3_000,
    "<script>alert(1)</script>", "'; DROP TABLE bars;--", "{{7*7}}", "${7*7}", "%s%n", "__proto__", "null", "NaN",
    "[]", "{}", "true", " ", "\t", "A/B", "a/b/c", "nothing",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "1.0", "1e3", "0x10", "1_0", " 5", "5001", "9" * 30, "-" + "9" * 30, "inf", "nan", "١", "true", "",
    "+1", "9223372036854775808", "1,000", "[1]",
)  # fmt: skip
MOMENTS = (
    "2024-01-31", "2024-01-31T21:00+00:00", "2024-02-30", "0001-01-01", "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00+14:00", "yesterday", "2024", "0", "-1", "2024-01-31T25:00", "2024-01-31T00:00Z", "２０２４-01-31",
    "2024-W05-3", "20240131", "1e9", "2024-01-31 21:00", "T", "2024-01-31T21:00:00.123456789+00:00",
)  # fmt: skip
ALSO = ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "ODD")
METHODS = ("GET",) * 5 + ALSO
HOSTS = (
    "127.0.0.1", "localhost", "[::1]:80", "evil.example", "127.0.0.1.evil.example", "localhost.evil",
    "", "a b", "[::1", "127.0.0.1:x", "127.0.0.1@evil.example", "xn--80ak6aa92e.com", "\xff",
)  # fmt: skip
SERVED = HOSTS[:3]
BEFORE = ("",) * 12 + (
    "http://127.0.0.1", "http://127.0.0.1", "HTTP://localhost", "http://evil.example", "http://127.0.0.1@evil.example",
    "http://", "http://[", "ftp://127.0.0.1", "127.0.0.1:80", "*", "x[",
)  # fmt: skip
"""What stands before the path: nothing, the rest of a whole address, or what no request has."""
WRONG = (
    "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", f"Basic {TOKEN}",
    TOKEN, "Basic %%%", "Basic Og==", f"Digest {TOKEN}", f"Bearer \xe9{TOKEN}", f"Token {TOKEN}",
    f"Bearer {TOKEN} {TOKEN}",
)  # fmt: skip
ODD_HEADERS = (
    ("accept", "text/html;q=\xff"), ("accept", "nothing/at-all"), ("accept-encoding", "gzip;q=nan, br, *;q=-1"),
    ("accept-encoding", "identity;q=0"), ("range", "bytes=-1,5-2"), ("if-modified-since", "yesterday"),
    ("if-none-match", '"' + "x" * 900), ("content-type", "application/json; charset=utf-7"),
    ("content-encoding", "br"), ("cookie", "a=" + "b" * 1_000), ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-host", "evil.example"), ("x-http-method-override", "DELETE"), ("x-original-url", "/api/book"),
    ("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"),
    ("transfer-encoding", "chunked"), ("expect", "100-continue"), ("upgrade", "websocket"), ("connection", "upgrade"),
    ("content-length", "9" * 30), ("content-length", "-1"), ("content-length", "1001"), ("referer", "\xfe\xff"),
)  # fmt: skip
BODIES = (b"", b"", b"", b"{}", b'{"a": NaN}', b"\xff\xfe\x00", b"[" * 500, b"x" * 1_000, b"x" * 5_000)


@dataclass(frozen=True)
class Asked:
    """A request as a server hands it on: `target` is the path or whole address with the query, as bytes of the line."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, unquoted as the server does it."""
        return unquote(self._host_and_path[1])

    @property
    def hosts(self) -> list[str]:
        """The hosts that it names: of a whole address its own, whatever the headers name."""
        own = self._host_and_path[0]
        return [value.decode("latin-1") if own is None else own for value in self.of(b"host")]

    @property
    def _host_and_path(self) -> tuple[str | None, str]:
        target = self.target.partition(b"?")[0].decode("ascii")
        found = re.fullmatch("https?://([^/]*)(.*)", target, re.IGNORECASE)
        return (found[1], found[2] or "/") if found else (None, target)

    def of(self, name: bytes) -> list[bytes]:
        """The values of a header."""
        return [value for own, value in self.headers if own == name]


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def of(self, name: str) -> str:
        """A header; "" without it."""
        return next((value.decode("latin-1") for own, value in self.headers if own.decode() == name), "")


def requests(seed: int, count: int, *, token: bool) -> Iterator[Asked]:
    """So many hostile requests; where a token is asked for, half of them bring it and others a wrong one or none."""
    draw = random.Random(seed)
    for _ in range(count):
        symbol = draw.choice(TEXTS)
        path = draw.choice(PATHS).format(
            symbol if draw.random() < 0.1 else quote(symbol, safe="" if draw.random() < 0.5 else "/")
        )
        asked = {}
        for name, values in (
            ("from", MOMENTS),
            ("to", MOMENTS),
            ("time", MOMENTS),
            ("limit", NUMBERS),
            ("symbol", TEXTS),
        ):
            if draw.random() < 0.25:
                asked[name] = draw.choice(values if draw.random() < 0.7 else TEXTS)
        query = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
        query += draw.choice(("", "", "", "&limit=1&limit=2", "&&==&;", "&x[$ne]=1", "&" + "y=1&" * 600))
        target = draw.choice(BEFORE) + path + (f"?{query}" if query else "")
        headers = [("host", "127.0.0.1" if draw.random() < 0.8 else draw.choice(HOSTS))]
        headers += [headers[0]] * (draw.random() < 0.02)
        headers += draw.sample(ODD_HEADERS, draw.choice((0, 0, 1, 2)))
        if token:
            sent = f"Bearer {TOKEN}" if draw.random() < 0.5 else draw.choice(WRONG)
            headers += [("authorization", sent)] if sent else []
        body = draw.choice(BODIES)
        yield Asked(
            draw.choice(METHODS), quote(target, safe="/?&=%+:;,@!$'()*[]~-._").encode(),
            tuple((name.encode(), value.encode("latin-1")) for name, value in headers), body,
        )  # fmt: skip


def answered(app: Any, asked: list[Asked]) -> list[Answered]:
    """The answers of an application, one after the other, given the requests as a server hands them on."""

    async def all_of_them() -> list[Answered]:
        return [await _answer(app, one) for one in asked]

    return asyncio.run(all_of_them())


async def _answer(app: Any, asked: Asked) -> Answered:
    path, _, query = asked.target.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked.method, "scheme": "http",
        "path": unquote(path.decode("ascii")), "raw_path": path, "query_string": query, "root_path": "",
        "headers": list(asked.headers),
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(3_600)  # the client stays
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [one["type"] for one in sent[:1]] == ["http.response.start"]
    body = b"".join(one.get("body", b"") for one in sent[1:])
    return Answered(sent[0]["status"], tuple(sent[0]["headers"]), body)


def assert_harmless(asked: Asked, found: Answered, store: Path, *, token: bool) -> None:
    """No error of the server's, nobody in without the token, no word of the machine, errors in the API's own form.

    Of places on the machine the folder of the store alone, and that only where somebody is let in.
    """
    why = (asked, found.status, found.body[:300])
    assert found.status in (200, 204, 303, 400, 401, 403, 404, 405, 411, 413, 414, 421, 422, 503), why
    body = gzip.decompress(found.body) if found.of("content-encoding") == "gzip" and found.body else found.body
    if not asked.path.startswith("/static/") or found.status != 200:
        text = body.decode() + repr(found.headers)
        if found.status == 200:  # who is let in reads commands to copy, which name the store
            text = text.replace(str(store), "STORE")
        assert not [word for word in (*TELLING, str(store)) if word in text], why
    for name, value in HEADERS.items():
        assert found.of(name) == value or name == "cross-origin-resource-policy", why
    assert not any(byte in value for _, value in found.headers for byte in (b"\r", b"\n", b"\0")), why
    assert not found.of("set-cookie"), why
    if asked.method == "HEAD":
        assert found.body == b"", why
    elif found.status not in (200, 303) and found.of("content-type").startswith("application/json"):
        told = json.loads(body)
        assert list(told) == ["error"], why
        assert told["error"].endswith((".", "?")), why
    elif found.status not in (200, 204, 303):
        assert not asked.path.startswith(AS_JSON), why
    if found.status == 200 and asked.path.startswith(("/api", "/openapi.json", "/health/")) and asked.method == "GET":
        assert isinstance(json.loads(body, parse_constant=_no_json), dict), why
    if found.status in (200, 303):
        assert len(asked.hosts) == 1, why
        assert asked.hosts[0].lower() in SERVED, why
        assert asked.method in ("GET", "HEAD"), why
        if token and asked.path != OPEN_PATH:
            assert asked.of(b"authorization") == [f"Bearer {TOKEN}".encode()], why


def _no_json(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")
