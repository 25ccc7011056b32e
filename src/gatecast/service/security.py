"""Who may ask the service, how often and how much: one layer around the application, before any route."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import os
import re
import shlex
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gatecast.errors import SettingsError
from gatecast.files import read
from gatecast.report.scripts import allowed

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "OPTIONS")
"""Nothing can be changed through the service."""
OPEN_PATH = "/health/live"
"""The one path that no token is asked for: it says that the process runs, and nothing of the store."""
BODY_BYTES = 1_000
TARGET_BYTES = 2_000
"""Most bytes of a request's body, and of its path with the query."""
PER_SECOND, AT_ONCE = 100.0, 300.0
"""Requests a second of one address, and how many it may make at once."""
WRONG_TOKEN = 20.0
"""A wrong token counts as so many requests."""
MOST_ADDRESSES = 1_000
TOKEN_LENGTHS = (16, 1_000)
"""Fewest and most characters of a token."""

HEADERS = {
    "content-security-policy": (
        f"default-src 'self'; script-src 'self'; style-src 'self' {allowed('')}; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer. Neither styles nor scripts may stand in a page; Plotly fills an empty style sheet."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> [is_loopback(one) for one in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_origin(text: str) -> bool:
    """Whether a text is the origin of a site as browsers send it: scheme, host in lower case, and port if need be.

    >>> [is_origin(one) for one in ("https://a.example:8443", "http://[::1]", "https://a b", "https://a/", "*")]
    [True, True, False, False, False]
    """
    found = re.fullmatch(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", text)
    return found is not None and int((found[2] or ":1")[1:]) <= 65535


def host_named(header: str) -> str:
    """The host of a `Host` header in lower case, without port, brackets and the last dot; "" where it is none.

    >>> [host_named(one) for one in ("LOCALHOST:8000", "[::1]:80", "a.example.", "a b", "")]
    ['localhost', '::1', 'a.example', '', '']
    """
    text = header.strip().lower()
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        port = port.removeprefix(":") if port.startswith(":") or not port else "none"
        if not closed:
            return ""
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return ""
    host = host.removesuffix(".")
    return host if all(one.isalnum() or one in "-._:%" for one in host) else ""


def is_allowed(host: str, named: Collection[str]) -> bool:
    """Whether a request may name this host: an address in numbers, `localhost`, or one of those that were named.

    A page of a stranger reaches a service on this machine by a name of its own that leads here (DNS rebinding); its
    requests name that host. Addresses in numbers lead nowhere else.

    >>> [is_allowed(one, ["pi.lan"]) for one in ("127.0.0.1", "localhost", "pi.lan", "evil.example", "")]
    [True, True, True, False, False]
    """
    if host == "localhost" or host in named:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def origin_form(scope: Scope) -> Scope:
    """A request for a whole address (RFC 9112, 3.2.2) as one for its path, at the host that the address names.

    >>> asked = {"raw_path": b"http://pi.lan:80/a%20b", "headers": [(b"host", b"localhost")]}
    >>> [origin_form(asked)[name] for name in ("path", "headers")]
    ['/a b', [(b'host', b'pi.lan:80')]]
    """
    found = re.fullmatch(rb"(?i:https?)://([^/]*)(/.*)?", scope.get("raw_path") or b"")
    if found is None:
        return scope
    path = found[2] or b"/"
    headers = [(name, found[1] if name == b"host" else value) for name, value in scope["headers"]]
    return {**scope, "raw_path": path, "path": unquote(path.decode("ascii")), "headers": headers}


def read_token(path: Path) -> str:
    """The token in a file: one line of 16 to 1,000 printable ASCII characters. Raises `SettingsError`."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SettingsError(
                f"{path}: others than you can read or change the token. Run `chmod 600 {shlex.quote(str(path))}`, and "
                "make another token if someone else may have read this one."
            )
        text = read(path, at_most=10_000).decode("ascii").strip()
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: a token is one line of ASCII characters, other bytes came.") from None
    except OSError as error:
        raise SettingsError(
            f"{path}: the token cannot be read: {error.strerror or error}. Name another file."
        ) from None
    least, most = TOKEN_LENGTHS
    if not least <= len(text) <= most or not text.isprintable() or " " in text:
        raise SettingsError(
            f"{path}: expected one line of {least} to {most:,} characters without spaces, {len(text):,} came. "
            "Make one: `openssl rand -hex 32`."
        )
    return text


def token_of(header: str) -> str:
    """The token of an `Authorization` header: `Bearer TOKEN`, or `Basic`, where it is the password; "" without one.

    >>> token_of("Bearer abc"), token_of("Basic " + base64.b64encode(b"anyone:abc").decode()), token_of("Digest x")
    ('abc', 'abc', '')
    """
    kind, _, rest = header.strip().partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


@dataclass(frozen=True)
class Rules:
    """What `Guard` allows.

    `token`: what a request must bring; "" where none is asked for. `hosts`: names by which the service may be asked,
    beside addresses in numbers and `localhost`. `origins`: sites whose pages may read the answers.
    `per_second`, `at_once`: requests of one address.
    """

    token: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    per_second: float = PER_SECOND
    at_once: float = AT_ONCE


class Buckets:
    """How many requests each address may still make: `at_once`, refilled by `per_second`.

    >>> clock = [0.0]
    >>> buckets = Buckets(1.0, 2.0, lambda: clock[0])
    >>> [buckets.takes("a") for _ in range(3)], buckets.takes("b")
    ([True, True, False], True)
    >>> clock[0] = 1.0
    >>> buckets.takes("a"), buckets.takes("a")
    (True, False)
    """

    def __init__(self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.at_once, self.clock = per_second, at_once, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def takes(self, address: str, count: float = 1.0) -> bool:
        """Whether an address may make so many requests now, which then count."""
        now = self.clock()
        left, since = self._left.pop(address, (self.at_once, now))
        left = min(self.at_once, left + (now - since) * self.per_second)
        allowed = left >= 1.0
        self._left[address] = (max(left - count, 0.0) if allowed else left, now)
        while len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return allowed


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: status, a sentence, and further headers."""

    status: int
    sentence: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """The application with what `Rules` allow: every request is looked at before it reaches a route."""

    def __init__(self, app: ASGIApp, rules: Rules, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.rules = app, rules
        self.buckets = Buckets(rules.per_second, rules.at_once, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; those that are refused get a sentence as JSON."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope = origin_form(scope)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        origin = headers.get("origin", "")
        head_alone, ended = scope["method"] == "HEAD", list[bool]()
        scope = {**scope, "method": "GET"} if head_alone else scope

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.body" and head_alone:
                message = {"type": "http.response.body", "body": b""}
                if ended:
                    return
                ended.append(True)
            if message["type"] == "http.response.start":
                more = dict(HEADERS)
                if origin and origin in self.rules.origins:
                    more |= {"access-control-allow-origin": origin, "vary": "origin"}
                    more["cross-origin-resource-policy"] = "cross-origin"
                    if scope["method"] == "OPTIONS":
                        more |= {
                            "access-control-allow-methods": "GET, HEAD",
                            "access-control-allow-headers": "authorization",
                        }
                own = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _names(more)]
                message = {**message, "headers": [*own, *_encoded(more)]}
            await send(message)

        if refusal is not None:
            await _refuse(refusal, guarded)
        elif scope["method"] == "OPTIONS":
            await _refuse(Refusal(204, "", {"allow": ", ".join(METHODS)}), guarded)
        else:
            await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is not answered; None where it is."""
        address = str((scope.get("client") or ("unknown",))[0])
        if not self.buckets.takes(address):
            said = f"more than {self.rules.per_second:g} requests a second came from this address: wait a little."
            return Refusal(429, said, {"retry-after": "1"})
        if sum(name == b"host" for name, _ in scope["headers"]) != 1 or not is_allowed(
            host_named(headers.get("host", "")), self.rules.hosts
        ):
            return Refusal(421, "this host is not served: ask by its address in numbers, or start with --allow-host.")
        if scope["method"] not in METHODS:
            return Refusal(405, "the service is only read: use GET.", {"allow": ", ".join(METHODS)})
        if not scope["path"].startswith("/") and scope["method"] != "OPTIONS":
            return Refusal(400, "a request names a path such as /health, or the whole address of one.")
        target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
        if target > TARGET_BYTES:
            return Refusal(414, f"the address has {target:,} bytes, at most {TARGET_BYTES:,} are read.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 10) or int(length) > BODY_BYTES:
            return Refusal(413, f"a request's body may have {BODY_BYTES:,} bytes at most: send none.")
        if "transfer-encoding" in headers:
            return Refusal(
                411, f"a body without a length is not read, with one {BODY_BYTES:,} bytes at most: send none."
            )
        strange = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if strange and headers.get("origin", "") not in self.rules.origins:
            return Refusal(403, "a page of another site may not read this: start with --allow-origin.")
        if self.rules.token and scope["path"] != OPEN_PATH and scope["method"] != "OPTIONS":
            given = token_of(headers.get("authorization", ""))
            if not hmac.compare_digest(given.encode(), self.rules.token.encode()):
                if given:
                    self.buckets.takes(address, WRONG_TOKEN)
                said = "a token is needed: send it as `Authorization: Bearer TOKEN`, or as the password in a browser."
                return Refusal(401, said, {"www-authenticate": 'Basic realm="gatecast", charset="UTF-8"'})
        return None


def _names(headers: Mapping[str, str]) -> set[bytes]:
    return {name.encode() for name in headers}


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"error": refusal.sentence}).encode() if refusal.sentence else b""
    headers = {"cache-control": "no-store", **refusal.headers}
    if body:
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    await send({"type": "http.response.start", "status": refusal.status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": body})
