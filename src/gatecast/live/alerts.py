"""Where alerts of a store go: posted to an address as JSON, or sent by mail; what cannot be sent is an `OSError`.

Addresses and answers of servers may hold secrets: no error here repeats them.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import smtplib
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from functools import partial
from typing import Any

from gatecast.errors import SettingsError, StoreError

Alert = Callable[[str, str, bool], None]
"""Called with the name of an alarm, a sentence, and whether it begins (True) or is over."""
PATIENCE_SECONDS = 10.0
"""For which a server is waited for, from the first byte to the last."""
ANSWER_BYTES = 100_000
"""At most so much of what a server answers is read."""


class _Bounded(io.RawIOBase):
    """What a socket receives, until a moment of `time.monotonic` and up to a number of bytes; then an `OSError`."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self._until, self._left = connection, until, ANSWER_BYTES
        self._source = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        with memoryview(buffer) as whole, whole[: max(self._left, 1)] as part:
            count = self._source.readinto(part)
        self._left -= count or 0
        if self._left < 0:
            raise OSError("the server's answer does not end")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def _answer(until: float, connection: Any, *given: Any, **named: Any) -> http.client.HTTPResponse:
    """An answer of a server that is read as `_Bounded` says."""
    found = http.client.HTTPResponse(connection, *given, **named)
    found.fp.close()
    found.fp = io.BufferedReader(_Bounded(connection, until))
    return found


def _opener(until: float) -> urllib.request.OpenerDirector:
    """What opens addresses, and reads no answer beyond a moment."""

    class Plain(http.client.HTTPConnection):
        response_class = staticmethod(partial(_answer, until))  # type: ignore[assignment]

    class Secure(http.client.HTTPSConnection):
        response_class = staticmethod(partial(_answer, until))  # type: ignore[assignment]

    class OpenPlain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, request)

    class OpenSecure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, request)

    return urllib.request.build_opener(OpenPlain, OpenSecure)


class _Mailer(smtplib.SMTP):
    """A server for mail, whose answers are read as `_Bounded` says."""

    def __init__(self, host: str, port: int, until: float) -> None:
        self._until = until
        super().__init__(host, port, timeout=PATIENCE_SECONDS)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(_Bounded(self.sock, self._until))
        return super().getreply()


def webhook(address: str) -> Alert:
    """An alert that posts JSON to an address: name, text, begins. Raises `StoreError` for a wrong one.

    >>> webhook("file:///etc/passwd")
    Traceback (most recent call last):
        ...
    gatecast.errors.StoreError: a webhook's address begins with http:// or https://.
    """
    if not address.startswith(("http://", "https://")):
        raise StoreError("a webhook's address begins with http:// or https://.")
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        parts = None
    if parts is None or not parts.hostname:
        raise StoreError("a webhook's address names a host after http:// or https://, and this one does not.")
    if "@" in parts.netloc:
        raise StoreError(
            "a webhook's address has a user or password before its host, which is not sent: give one without, such as "
            "one with a token in its path."
        )

    def post(name: str, text: str, begins: bool) -> None:
        content = json.dumps({"name": name, "text": text, "begins": begins}).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
        with _opener(time.monotonic() + PATIENCE_SECONDS).open(request, timeout=PATIENCE_SECONDS):
            pass

    return in_time(post)


def mail(to: str, server: str | None) -> Alert:
    """An alert that mails a sentence to an address through a server, "HOST:PORT", that asks for no password.

    Raises `SettingsError` for what is no address, and for no server.

    >>> mail("me@example.com", None)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: mail needs a server: set GATECAST_SMTP to HOST:PORT, such as localhost:25.
    """
    if not re.fullmatch(r"[^\s@<>,;:\"]{1,64}@[^\s@<>,;:\"]{1,255}", to):
        raise SettingsError("--mail is no address such as me@example.com: give one.")
    found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", server or "")
    if found is None or not 0 < int(found[2]) < 65536:
        raise SettingsError("mail needs a server: set GATECAST_SMTP to HOST:PORT, such as localhost:25.")
    host, port = found[1].strip("[]"), int(found[2])

    def send(name: str, text: str, begins: bool) -> None:
        message = EmailMessage()
        message["From"], message["To"] = to, to
        message["Subject"] = f"gatecast: {'' if begins else 'over: '}{' '.join(name.split())[:100]}"
        message.set_content(f"{text}\n")
        with _Mailer(host, port, time.monotonic() + PATIENCE_SECONDS) as connection:
            connection.send_message(message)

    return in_time(send)


def each_of(alerts: Sequence[Alert]) -> Alert | None:
    """One alert that goes to all of these, whichever of them fail; None for none."""

    def send(name: str, text: str, begins: bool) -> None:
        failed = []
        for alert in alerts:
            try:
                alert(name, text, begins)
            except OSError as error:
                failed.append(str(error))
        if failed:
            raise OSError("; ".join(failed))

    return send if alerts else None


def in_time(alert: Alert) -> Alert:
    """The same, which fails with an `OSError` after `PATIENCE_SECONDS` however slowly a server answers.

    The alerts here end by themselves then: none reads on behind the back of who waited.
    Whatever goes wrong becomes an `OSError` that says what kind of error it was, and nothing of the address.
    """

    def send(name: str, text: str, begins: bool) -> None:
        ended: list[str] = []

        def work() -> None:
            try:
                alert(name, text, begins)
                ended.append("")
            except (OSError, ValueError, http.client.HTTPException) as error:
                ended.append(_kind_of(error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE_SECONDS)
        said = ended[0] if ended else f"no answer within {PATIENCE_SECONDS:g} seconds"
        if said:
            raise OSError(said)

    return send


def _kind_of(error: BaseException) -> str:
    """What went wrong with a server, in words of the system's: its own may repeat what it was asked."""
    if isinstance(error, urllib.error.HTTPError):
        with contextlib.suppress(OSError):
            error.close()
        return f"the server answered with status {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server answered with status {error.smtp_code}"
    reason = getattr(error, "reason", None)
    inner = reason if isinstance(reason, OSError) else error
    if isinstance(inner, TimeoutError) and not inner.strerror:
        return f"no answer within {PATIENCE_SECONDS:g} seconds"
    return (isinstance(inner, OSError) and inner.strerror) or type(inner).__name__
