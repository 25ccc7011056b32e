"""The JSON API: each route gives one dictionary of the newest view, with the record and model that it is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gatecast.errors import SettingsError
from gatecast.files import jsonable
from gatecast.market.reading import as_utc, close_named
from gatecast.service.events import Events
from gatecast.service.security import OPEN_PATH
from gatecast.service.turns import Turns
from gatecast.service.view import Answer, View
from gatecast.service.watching import Watched

MOST_BARS, MOST_DECISIONS, MOST_RUNS = 5_000, 1_000, 1_000
NO_STORE = {"cache-control": "no-store"}
Rows = list[dict[str, Any]]


class Told(BaseModel):
    """A part of an answer; further fields are those of the commands' `--json`."""

    model_config = ConfigDict(extra="allow")


class Head(Told):
    """Of which store, record of its journal and model in force (number of its refit's record) an answer is."""

    store: str
    record: int
    hash: str
    model: int | None


class Answered(Told):
    """Every answer has its head. A number that is not there is null, and `missing` or `reason` says why."""

    head: Head


class Symbols(Answered):
    """Every symbol and what was decided of it last."""

    symbols: Rows


class OfToday(Answered):
    """As `gatecast today --json`."""

    decisions: Rows


class Forecast(Answered):
    """The newest decision of a symbol, and the path that is forecast."""

    symbol: str
    decision: dict[str, Any] | None
    path: Rows
    path_time: str | None


class Bars(Answered):
    """Bars of a symbol, the oldest first; `more`: whether older ones lie in the range."""

    symbol: str
    bars: Rows
    more: bool


class Chart(Answered):
    """The data of a symbol's chart; null without bars."""

    symbol: str
    chart: dict[str, Any] | None


class OfSymbol(Answered):
    """Why a symbol was forecast and held as it was, as `gatecast explain --json`; null with a `reason`."""

    symbol: str
    explanation: dict[str, Any] | None
    titles: dict[str, str]


class Changes(Answered):
    """What the refit before the newest decisions changed in each model; `titles`: model -> what it is called."""

    changes: Rows
    titles: dict[str, str]


class Decisions(Answered):
    """Decisions, the newest first, with what came after each over `horizon` bars."""

    decisions: Rows
    horizon: int
    more: bool


class OfBook(Answered):
    """What the book holds; null before the first decision."""

    book: dict[str, Any] | None


class OfOrders(Answered):
    """Where orders stand, what accounts lack, halts in force, and the newest records about them; `sentence` in short.

    `next` of each: what can be done, and the command that does it. Nothing is done here.
    """

    session: str
    sentence: str
    orders: Rows
    accounts: Rows
    halts: Rows
    restricted: Rows
    history: Rows


class Findings(Answered):
    """What somebody should look at."""

    findings: Rows


class OfRisk(Answered):
    """What the book may lose."""

    today: dict[str, Any] | None


class Models(Answered):
    """All refits, the newest first."""

    models: Rows


class Refits(Answered):
    """The refits of the model in force, and those that the guard refused."""

    refits: Rows
    refused: Rows


class Verdicts(Answered):
    """The verdicts of the newest refit."""

    verdicts: dict[str, Any]


class Drift(Answered):
    """Alarms of drift that are on, and the newest alarms of any kind."""

    on: Rows
    told: Rows


class Runs(Answered):
    """What commands did: records of the journal, the newest first."""

    runs: Rows
    more: bool


class Live(Told):
    """The process runs."""

    status: str


class Ready(Told):
    """Whether what the store says is of today (`behind` says why not), and how old its data are."""

    ready: bool
    behind: str = ""
    sentence: str
    newest_bar: str | None = None
    sessions_behind: int | None = None


class Refused(BaseModel):
    """Why there is no answer, in a sentence."""

    error: str = Field(examples=["the store has no symbol 'SPZ'. Did you mean 'SPY'?"])


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "The request is no HTTP, or names no path."},
    401: {"model": Refused, "description": "No token, or a wrong one."},
    403: {"model": Refused, "description": "A page of another site asked."},
    404: {"model": Refused, "description": "There is no such symbol or path."},
    413: {"model": Refused, "description": "The request has a body that is too long."},
    414: {"model": Refused, "description": "The address is too long."},
    421: {"model": Refused, "description": "The request names a host that is not served."},
    422: {"model": Refused, "description": "A parameter is not what it must be."},
    429: {"model": Refused, "description": "Too many requests."},
    503: {"model": Refused, "description": "The store cannot be read now, or too many wait for such an answer."},
}
"""Status -> what it means; each comes with a sentence."""

Symbol = Annotated[str, Path(min_length=1, max_length=200, description="A symbol of the store.")]
Moment = Annotated[
    str | None,
    Query(
        max_length=40,
        description="A session, 2024-01-31, or the moment of a close, 2024-01-31T21:00+00:00; UTC without a zone.",
    ),
]
From = Annotated[Moment, Query(alias="from")]


def ask_for_token(description: dict[str, Any]) -> None:
    """Says in an OpenAPI description that every path but `OPEN_PATH` asks for a token, in either way."""
    ways = {name: {"type": "http", "scheme": name} for name in ("bearer", "basic")}
    description.setdefault("components", {})["securitySchemes"] = ways
    description["security"] = [{name: []} for name in ways]
    description["paths"][OPEN_PATH]["get"]["security"] = []


def close_of(text: str | None, name: str) -> datetime | date | None:
    """The session (a date) or moment that a parameter names; None where none is given.

    Raises `SettingsError` for a text that is neither.

    >>> close_of("2024-01-31", "from")
    datetime.date(2024, 1, 31)
    """
    if text is None:
        return None
    try:
        named = close_named(text)
        return as_utc(named, name) if isinstance(named, datetime) else named
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{name}={text!r} is no moment: give a date such as 2024-01-31, or 2024-01-31T21:00:00+00:00."
        ) from None


def encoded(content: Mapping[str, Any]) -> bytes:
    """JSON without NaN; its numbers are read back as they are."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def routes(watched: Watched, events: Events) -> APIRouter:
    """All routes of the API on a store that is watched."""
    router, turns = APIRouter(responses=REFUSALS), Turns()

    def told(view: View, content: Answer) -> Response:
        body = encoded({"head": view.head, **content})
        return Response(body, media_type="application/json", headers=NO_STORE)

    def once(name: str, make: Callable[[View], Answer], of: View | None = None) -> Response:
        """An answer without parameters: it is made once for each view."""
        view = of or watched.view
        body = view.once(f"json {name}", lambda: encoded(view.answer(make(view))))
        return Response(body, media_type="application/json", headers=NO_STORE)

    async def in_turn(name: str, make: Callable[[View], Answer], request: Request) -> Response:
        """As `once`, of an answer that takes seconds."""
        view = await run_in_threadpool(lambda: watched.view)
        if view.has(f"json {name}") or view.has(name):
            return await run_in_threadpool(once, name, make, view)
        return await turns.take(lambda: once(name, make, view), request.is_disconnected)

    @router.get("/api/today", response_model=OfToday, tags=["today"])
    def today() -> Response:
        """What to hold of every symbol and why it changed, as `gatecast today --json` says it."""
        return once("today", View.today)

    @router.get("/api/symbols", response_model=Symbols, tags=["today"])
    def symbols() -> Response:
        """Every symbol with its class and its newest decision in short."""
        return once("symbols", View.symbols)

    @router.get("/api/symbols/{symbol:path}/forecast", response_model=Forecast, tags=["symbol"])
    def forecast(symbol: Symbol) -> Response:
        """The newest decision of a symbol with its forecast, intervals, signal, strategy and reasons."""
        known = watched.view.known(symbol)
        return once(f"forecast of {known}", lambda view: view.forecast(known))

    @router.get("/api/symbols/{symbol:path}/bars", response_model=Bars, tags=["symbol"])
    def bars(
        symbol: Symbol, since: From = None, to: Moment = None,
        limit: Annotated[int, Query(ge=1, le=MOST_BARS, description="Most bars, the newest.")] = 500,
    ) -> Response:  # fmt: skip
        """Bars of a symbol that close from one moment to another."""
        view = watched.view
        return told(view, view.bars(symbol, close_of(since, "from"), close_of(to, "to"), limit))

    @router.get("/api/symbols/{symbol:path}/chart", tags=["symbol"], response_model=Chart)
    def chart(symbol: Symbol) -> Response:
        """The data of a symbol's chart: bars, signals, weights, strategies, the fan and what was forecast before."""
        known = watched.view.known(symbol)
        return once(f"chart of {known}", lambda view: {"symbol": known, "chart": view.candles(known)})

    @router.get("/api/symbols/{symbol:path}/explain", response_model=OfSymbol, tags=["symbol"])
    async def explain(request: Request, symbol: Symbol, time: Moment = None) -> Response:
        """Why a symbol was forecast and held as it was at its newest close, or at a close or the newest of a day: what
        models and inputs add, and each step from the models' votes to the order."""
        view = await run_in_threadpool(lambda: watched.view)
        known, moment = view.known(symbol), close_of(time, "time")
        if moment is None:
            return await in_turn(f"explanation of {known}", lambda view: view.explain(known), request)
        return await turns.take(lambda: told(view, view.explain(known, moment)), request.is_disconnected)

    @router.get("/api/changes", response_model=Changes, tags=["models"])
    async def changes(request: Request) -> Response:
        """How the shares of the inputs differ from those of the refit before, model by model; takes some seconds."""
        return await in_turn("changes", View.changes, request)

    @router.get("/api/decisions", response_model=Decisions, tags=["today"])
    def decisions(
        symbol: Annotated[str | None, Query(max_length=200, description="Of this symbol alone.")] = None,
        since: From = None, to: Moment = None,
        limit: Annotated[int, Query(ge=1, le=MOST_DECISIONS, description="Most decisions, the newest.")] = 100,
    ) -> Response:  # fmt: skip
        """What was decided, and what came after it."""
        view = watched.view
        return told(view, view.decisions(symbol, close_of(since, "from"), close_of(to, "to"), limit))

    @router.get("/api/book", response_model=OfBook, tags=["book"])
    def book() -> Response:
        """What the book holds, aims at and trades, and why that changed."""
        return once("book", View.book)

    @router.get("/api/risk", response_model=OfRisk, tags=["book"])
    async def risk(request: Request) -> Response:
        """What the book may lose: tails, contributions, correlations, stress; the first call takes some seconds."""
        return await in_turn("risk", View.risk, request)

    @router.get("/api/orders", response_model=OfOrders, tags=["book"])
    def orders() -> Response:
        """Orders of the last sessions: where they stand, by whom and when; differences, halts, and what comes next."""
        view = watched.view
        return told(view, view.orders(watched.now))

    @router.get("/api/findings", response_model=Findings, tags=["today"])
    def findings() -> Response:
        """What somebody should look at."""
        return once("findings", View.findings)

    @router.get("/api/models", response_model=Models, tags=["models"])
    def models() -> Response:
        """All refits and what became of them."""
        return once("models", View.models)

    @router.get("/api/refits", response_model=Refits, tags=["models"])
    def refits() -> Response:
        """The refits that the model in force is made of."""
        return once("refits", View.refits)

    @router.get("/api/verdicts", response_model=Verdicts, tags=["models"])
    def verdicts() -> Response:
        """Whether the forecasts were worth anything."""
        return once("verdicts", View.verdicts)

    @router.get("/api/drift", response_model=Drift, tags=["models"])
    def drift() -> Response:
        """Alarms of drift."""
        return once("drift", View.drift)

    @router.get("/api/runs", response_model=Runs, tags=["store"])
    def runs(limit: Annotated[int, Query(ge=1, le=MOST_RUNS, description="Most records.")] = 100) -> Response:
        """What commands did to the store."""
        view = watched.view
        return told(view, view.runs(limit))

    @router.get(OPEN_PATH, response_model=Live, tags=["health"])
    async def live() -> Response:
        """That the process runs; no token is asked for."""
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    @router.get("/health/ready", response_model=Ready, tags=["health"])
    def ready() -> Response:
        """Whether the store can be read and its journal is whole (503 where not), whether what it says is of today
        (`ready`), and how old its data are."""
        view, found, said = watched.view, watched.health(), watched.told_health()
        newest = view.all_bars["time"].max()
        behind = max(found.behind.values(), default=None)
        late, lost = (view.today()[name] for name in ("behind", "lost"))
        content = {
            "ready": not (late or lost), "behind": late, "sentence": said["checks"][0]["sentence"],
            "level": found.level, "head": view.head,
            "newest_bar": newest, "sessions_behind": behind, "checks": said["checks"], "now": found.now,
        }  # fmt: skip
        return Response(
            encoded(jsonable(content)), 503 if lost else 200, media_type="application/json", headers=NO_STORE
        )

    @router.get("/events", include_in_schema=False)
    async def stream() -> Response:
        """The newest record as server-sent events."""
        headers = {**NO_STORE, "x-accel-buffering": "no"}
        return StreamingResponse(events.listen(), media_type="text/event-stream", headers=headers)

    return router
