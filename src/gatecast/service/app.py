"""The application: routes of the API and pages behind the guard; and the server that runs it."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatecast.errors import GatecastError, SettingsError, StoreError, shown
from gatecast.service import api, pages
from gatecast.service.connections import MOST_CONNECTIONS, Connection
from gatecast.service.events import Events, TooManyClientsError
from gatecast.service.security import Guard, Rules, is_loopback, is_origin, read_token
from gatecast.service.turns import BusyError, LeftError
from gatecast.service.view import UnknownSymbolError
from gatecast.service.watching import Watched

AS_JSON = ("/api", "/health/", "/events", "/openapi.json")
"""Paths whose errors are told as JSON, others as a page."""
AGAIN = {"retry-after": "1"}
ENDS_SECONDS = 2
"""Time that open streams have to end when the server does."""
STATUS: dict[type[Exception], int] = {
    UnknownSymbolError: 404, SettingsError: 422, TooManyClientsError: 503, BusyError: 503, LeftError: 503,
    StoreError: 503, GatecastError: 503, OSError: 503,
}  # fmt: skip
"""Error -> status of the answer that says it."""


def make_app(folder: str | Path, rules: Rules | None = None, *, now: datetime | None = None) -> FastAPI:
    """The application on the store of a folder, which it reads and never writes.

    `rules`: who may ask, see `security.Rules`; by default this machine without a token. `now`: the moment up to which
    bars count; None: the clock. `app.state.watched` is the store that is watched. A store that is damaged or missing is
    said with status 503 until it can be read.
    """
    watched, rules = Watched(Path(folder), now, pages.prepare), rules or Rules()
    events = Events(watched)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.begin()
        watched.start()
        yield
        events.stop()
        watched.stop()

    app = FastAPI(
        title="gatecast", version=version("gatecast"), lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        description="The book, forecasts, models and health of a store. Nothing can be changed through it.",
    )  # fmt: skip
    app.state.watched, app.state.events = watched, events
    app.include_router(api.routes(watched, events))
    app.include_router(pages.routes(watched))
    if rules.token:
        api.ask_for_token(app.openapi())  # which it keeps
    for kind, status in STATUS.items():
        app.add_exception_handler(kind, _told(status))
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_parameters)
    app.add_middleware(Unforeseen, watched=watched)
    app.add_middleware(Guard, rules=rules)
    return app


class Unforeseen:
    """The application; an error that nobody foresaw is one sentence for who asked, and one line on standard error.

    Where the store changed under the request, as while it is moved or restored, it is status 503.
    """

    def __init__(self, app: Any, watched: Watched) -> None:
        self.app, self.watched = app, watched

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if not begun and scope["type"] == "http" and await run_in_threadpool(self.watched.is_unsettled):
                said = f"{self.watched.name} changes now: ask again in a second."
                await _answer(scope["path"], 503, said, AGAIN)(scope, receive, send)
                return
            print(f"error: {scope.get('path')}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            if begun or scope["type"] != "http":
                raise
            said = "an error that nobody foresaw; the server's output names it."
            await _answer(scope["path"], 500, said)(scope, receive, send)


def _answer(path: str, status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    if path.startswith(AS_JSON):
        return JSONResponse({"error": sentence}, status, headers={**api.NO_STORE, **(headers or {})})
    page = pages.error_page(status, sentence)
    page.headers.update(headers or {})
    return page


def _told(status: int) -> Callable[[Request, Exception], Response]:
    def told(request: Request, error: Exception) -> Response:
        watched: Watched = request.app.state.watched
        return _answer(request.url.path, status, watched.said(error), AGAIN if status == 503 else None)

    return told


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is no such path: see /openapi.json.", 405: "the service is only read: use GET."}
    return _answer(request.url.path, error.status_code, said.get(error.status_code, str(error.detail)))


def _of_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])[:40]
    return _answer(request.url.path, 422, f"{name}: {str(first['msg'])[:200].rstrip('.').lower()}.")


def rules_of(
    host: str, token_file: Path | None, allow_hosts: tuple[str, ...] = (), allow_origins: tuple[str, ...] = ()
) -> Rules:
    """What a server at an address allows. Raises `SettingsError` where it needs a token and none is given.

    >>> rules_of("127.0.0.1", None).hosts
    ('127.0.0.1',)
    """
    if token_file is None and not is_loopback(host):
        raise SettingsError(
            f"--host {host} can be reached from other machines: a token is needed there. Write one into a file that "
            "only you can read (openssl rand -hex 32) and name it with --token-file."
        )
    token = read_token(token_file) if token_file else ""
    odd = [one for one in allow_origins if not is_origin(one)]
    if odd:
        raise SettingsError(f"--allow-origin {shown(odd[0])}: expected a site such as https://example.org.")
    return Rules(token=token, hosts=tuple(one.lower() for one in (*allow_hosts, host)), origins=allow_origins)


def serve(
    folder: Path, *, host: str, port: int, rules: Rules, now: datetime | None = None,
    ready: Callable[[str], object] = print,
) -> None:  # fmt: skip
    """Serves a store until the process is interrupted. `ready` is told the address once it answers.

    Raises `StoreError` where the folder is no store or cannot be read, `SettingsError` where the port cannot be had.
    """
    app = make_app(folder, rules, now=now)
    assert app.state.watched.view is not None
    app.state.watched.health()
    with listening(host, port) as at:
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, server_header=False, date_header=False, lifespan="on",
            ws="none", http=Connection, limit_concurrency=2 * MOST_CONNECTIONS, proxy_headers=False,
            timeout_graceful_shutdown=ENDS_SECONDS,
        )  # fmt: skip
        name, number = at.getsockname()[:2]
        ready(f"http://[{name}]:{number}/" if ":" in name else f"http://{name}:{number}/")
        uvicorn.Server(config).run(sockets=[at])


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address and port, 0: a free one, in which connections wait from now on.

    Raises `SettingsError` where it cannot be had.
    """
    at = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        at.bind((host, port))
        at.listen(MOST_CONNECTIONS)
    except OSError as error:
        at.close()
        raise SettingsError(
            f"{host}, port {port} cannot be had: {error.strerror or error}. Give another --port, or a --host that is "
            "an address of this machine."
        ) from None
    return at
