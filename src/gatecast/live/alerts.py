"""Where alerts of a store go: posted to an address as JSON, or sent by mail; what cannot be sent is an `OSError`.

Addresses and answers of servers may hold secrets: no error here repeats them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import smtplib
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import EmailMessage

from gatecast.errors import SettingsError, StoreError

Alert = Callable[[str, str, bool], None]
"""Called with the name of an alarm, a sentence, and whether it begins (True) or is over."""
PATIENCE_SECONDS = 10.0
"""For which a server is waited for, from the first byte to the last."""


def webhook(address: str) -> Alert:
    """An alert that posts JSON to an address: name, text, begins. Raises `StoreError` for one that is not http(s).

    >>> webhook("file:///etc/passwd")
    Traceback (most recent call last):
        ...
    gatecast.errors.StoreError: a webhook's address begins with http:// or https://.
    """
    if not address.startswith(("http://", "https://")):
        raise StoreError("a webhook's address begins with http:// or https://.")

    def post(name: str, text: str, begins: bool) -> None:
        content = json.dumps({"name": name, "text": text, "begins": begins}).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
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
        with smtplib.SMTP(host, port, timeout=PATIENCE_SECONDS) as connection:
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
    return (isinstance(inner, OSError) and inner.strerror) or type(inner).__name__
