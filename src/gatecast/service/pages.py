"""The pages: the dictionaries of a view -> HTML, made on the server with the report's templates, words and figures."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from gatecast.errors import StoreError
from gatecast.explanations.moments import NOT_COME
from gatecast.files import sha256_of
from gatecast.live.book import left_out_in_words
from gatecast.live.exposure import cut_in_words
from gatecast.live.scored import sessions_passed
from gatecast.live.today import WHY_UNDECIDED
from gatecast.report import drawing
from gatecast.report.book import to_trade
from gatecast.report.described import described
from gatecast.report.exposure import exposure, shortfall_of
from gatecast.report.figures import book_data, coverage_data, selection_data, tuning_data
from gatecast.report.offline import style_sheet
from gatecast.report.page import drawn, environment_of
from gatecast.report.scripts import MAP_STYLE, packed, plotly_script, source
from gatecast.service.view import Answer, UnknownSymbolError, View
from gatecast.service.watching import Watched
from gatecast.trading.cuts import GATES, kept_off

PAGES = {"/": "This morning", "/orders": "Orders", "/risk": "Risk", "/models": "Models", "/health": "Health"}
"""Path -> what the navigation calls it."""
POLICY_HEADERS = {"cache-control": "no-store"}
FOREVER = {"cache-control": "public, max-age=31536000, immutable"}
CORRELATED = 12
"""Symbols of the table of correlations, those with most of the risk."""
PAST_SHOWN = 40
"""Earlier decisions that the page of a symbol shows."""
TINY = 5e-4
"""Change of a holding that is worth a line, as a share of equity."""


# ── what each page says ───────────────────────────────────────────────────────────────────────────


def morning(view: View) -> Answer:
    """The first page: the book, its trades, what changed, what to look at, and every symbol."""
    told, rows = view.today(), list(view.rows.values())
    book = told["book"]
    trades = sorted(
        (row for row in rows if row.get("trade")), key=lambda row: (-abs(float(row["target"] or 0.0)), row["symbol"])
    )
    moved = [row for row in rows if abs(_held(row) - _held(row, "held_before")) >= TINY]
    held = {row["symbol"]: at_close(row) for row in (book or {}).get("holdings") or []}
    return {
        "headline": f"Out of date: {told['out_of_date']}" if told["stale"] else to_trade(rows),
        "risk": told.get("risk") or {}, "at_close": held, "live": live_equity(view),
        "missed": cut_in_words(*((told.get("risk") or {}).get(name) or {} for name in ("bound", "costs"))),
        "sentence": told["book_sentence"], "book": book, "trades": trades,
        "moved": sorted(moved, key=lambda row: -abs(_held(row) - _held(row, "held_before"))),
        "rows": sorted(rows, key=lambda row: (-abs(_held(row)), row["symbol"])),
        "undecided": told["undecided"], "why_undecided": WHY_UNDECIDED,
        "left_out": left_out_in_words((book or {}).get("left_out") or {}),
        "findings": to_look_at(view), "look": count_to_look_at(view),
        "long": sum(max(_held(row), 0.0) for row in rows), "short": sum(max(-_held(row), 0.0) for row in rows),
        "ages": model_ages(view), "horizon": view.horizon, "titles": view.titles(),
        "waiting": sorted(view.store.state.waiting), "kept_from": _kept_from(rows),
        "ordered": view.orders(view.now)["sentence"],
    }  # fmt: skip


def to_look_at(view: View) -> list[Answer]:
    """The findings and alarms that the first page lists; what every page says first is not among them."""
    return [one for one in view.findings()["findings"] if one["kind"] not in ("behind", "lost")]


def count_to_look_at(view: View) -> int:
    """How many findings and alarms there are, with what every page says first."""
    return len(view.findings()["findings"])


def _kept_from(rows: Sequence[Mapping[str, Any]]) -> str:
    """What keeps holdings from targets that they lie away from, where nothing is traded; "" where nothing does.

    >>> _kept_from([{"held": 0.0, "target": 0.02, "kept_by": "lot"}, {"held": 0.1, "target": 0.1}])
    'nothing is traded: less than a lot is left to be traded, 1 symbol.'
    """
    counts = Counter(
        gate for row in rows for gate in kept_off(str(row.get("kept_by") or ""), _held(row), _held(row, "target"))
    )
    said = (f"{GATES[gate]}, {number} symbol{'s' * (number > 1)}" for gate, number in counts.most_common())
    return f"nothing is traded: {'; '.join(said)}." if counts else ""


def _held(row: Mapping[str, Any], name: str = "held") -> float:
    return float(row.get(name) or 0.0)


def model_ages(view: View) -> list[Answer]:
    """Asset class -> the last refit of the model in force, and its age in days by the view's clock."""
    model = view.store.state.model(view.store.state.serving)
    return [
        {"asset_class": name, "refit": cutoff[:10], "days": (view.now.date() - date.fromisoformat(cutoff[:10])).days}
        for name, cutoff in sorted((model.cutoffs if model else {}).items())
    ]


def at_close(row: Mapping[str, Any]) -> float | None:
    """The share of the equity that is held of a symbol at a close, before its order; None where all of it is sold.

    row: of `trading.book.holdings_of`. The share after the order, for as many units.

    >>> at_close({"units": 300.0, "trade": 100.0, "held": 0.2}), at_close({"units": 0.0, "trade": 5.0, "held": 0.1})
    (0.15, 0.0)
    """
    units, after = _held(row, "units"), _held(row, "units") + _held(row, "trade")
    if not units:
        return 0.0
    return _held(row) * units / after if after else None


def live_equity(view: View) -> Answer:
    """What the book earned in its newest session, and since the store's first decision, with its `sessions` since.

    `spans`: see `morning.sessions_of_book`, mostly 1.
    """
    said = view.sessions_of_book()
    if not said:
        return {}
    newest, first = said[-1], said[0]
    equity = float(newest["equity"])
    before, begun = (float(said[-2]["equity"]), float(first["equity"])) if len(said) > 1 else (None, None)
    return {
        "session": str(newest["session"])[:10], "since": str(first["session"])[:10],
        "sessions": sessions_passed(said), "spans": newest.get("spans", 1),
        "share": equity / before - 1.0 if before and begun else None,
        "money": equity - before if before is not None else None,
        "whole": equity / begun - 1.0 if begun else None,
    }  # fmt: skip


def symbol_page(view: View, symbol: str) -> Answer:
    """The page of a symbol. Raises `UnknownSymbolError`."""
    said, data = view.forecast(symbol), view.candles(symbol)
    names = sorted(view.store.state.symbols)
    place = names.index(symbol)
    past = view.decisions(symbol, None, None, PAST_SHOWN)["decisions"]
    return {
        "symbol": symbol, "asset_class": view.store.state.symbols[symbol], "row": said["decision"] or {},
        "path": said["path"], "path_time": said["path_time"], "symbols": names,
        "previous": names[place - 1] if place else None,
        "next": names[place + 1] if place + 1 < len(names) else None, "horizon": view.horizon, "past": past,
        "not_come": NOT_COME, "since": view.since, "titles": view.titles(),
        "can_agree": view.store.experiment.signals.can_agree,
        "waits": view.store.state.waiting.get(symbol),
        "figures": drawn({"candles": {symbol: data}}) if data else {},
        "candles": {symbol: data} if data else {}, "fanned": bool(data and data["fan"]), "charted": charted_of(data),
    }  # fmt: skip


def charted_of(data: Answer | None) -> Answer:
    """How many `bars` a chart has, `of` how many in the store, and the date of the `first`; {} without a chart."""
    if not data:
        return {}
    return {"first": data["closes"][0][:10], "bars": len(data["closes"]), "of": data["bars_in_store"]}


def orders_page(view: View, now: datetime) -> Answer:
    """The page of orders: where those of the newest session stand, differences, halts, and the sessions before."""
    told = view.orders(now)
    rows = told["orders"]
    return {
        **told,
        "current": [one for one in rows if one["current"]],
        "rest": [one for one in rows if not one["current"]],
    }


def risk_page(view: View) -> Answer:
    """What the book may lose, where it comes from, and how the tails held."""
    told = view.risk()
    today = told["today"] or {}
    table = today.get("correlations") or {}
    order = [row["symbol"] for row in sorted(today.get("symbols") or [], key=lambda row: -abs(row.get("share") or 0.0))]
    names = [name for name in order if name in table][:CORRELATED]
    curve = book_data(view.recent)
    shown = exposure(today or None)
    if shown and today.get("gross"):
        shown["said"] = shown["said"][2:]  # the volatility and the shortfall are told once, as on the first page
    return {
        "exposure": shown, "reason": told.get("reason"), "tails": told.get("tails"),
        "book": view.today()["book"], "risk": view.today().get("risk") or {}, "all_bars": shortfall_of(today),
        "names": names,
        "correlations": [{"symbol": one, "values": [table[one].get(two) for two in names]} for one in names],
        "more": max(len(table) - len(names), 0), "sentence": view.today().get("book_sentence"),
        "figures": drawn({"book": curve}),
        "described": described({"book": curve}),
    }  # fmt: skip


def models_page(view: View) -> Answer:
    """Refits, the guard's decisions, verdicts, drift."""
    run = view.recent
    pictures = {"selection": selection_data(run), "tuning": tuning_data(run), "coverage": coverage_data(run)}
    refits = view.refits()
    return {
        **view.models(), **refits, **view.verdicts(), "drift": view.drift(), "ages": model_ages(view),
        "newest_refits": _newest_of_each_class(refits["refits"]), "folder": str(view.store.folder),
        "figures": drawn(pictures), "described": described(pictures),
    }  # fmt: skip


def _newest_of_each_class(folds: Sequence[Answer]) -> list[Answer]:
    """Asset class, its number of refits, and the newest of them.

    >>> _newest_of_each_class([{"asset_class": "fx", "refit": "2020"}, {"asset_class": "fx", "refit": "2021"}])
    [{'asset_class': 'fx', 'refit': '2021', 'count': 2}]
    """
    newest = {one["asset_class"]: one for one in folds}
    counts = {name: sum(one["asset_class"] == name for one in folds) for name in newest}
    return [{**one, "count": counts[name]} for name, one in sorted(newest.items())]


# ── HTML ──────────────────────────────────────────────────────────────────────────────────────────


def render(
    template: str, title: str, at: str, head: Answer | None, titles: Mapping[str, str], data: Answer, behind: str = ""
) -> str:
    """A page; everything in `data` is text to show, never markup. `at`: its path; `titles`: model -> title; `behind`:
    why what stands on it is not of today."""
    environment = environment_of(json.dumps(dict(titles), sort_keys=True), "gatecast.service")
    return environment.get_template(template).render(
        title=title,
        at=at,
        pages=PAGES,
        head=head,
        behind=behind,
        light=drawing.LIGHT,
        dark=drawing.DARK,
        files=FILES,
        map_style=MAP_STYLE,
        drawings=packed({name: data.get(name) or {} for name in ("figures", "candles")}),
        **data,
    )


@lru_cache(maxsize=1)
def static_files() -> dict[str, tuple[bytes, bytes, str]]:
    """Name -> content, the same compressed, and its media type: scripts, styles, and the report's bundle of Plotly."""
    style = style_sheet(source("service.css", "gatecast.service"))
    texts = {
        "style.css": (style, "text/css"), "page.js": (source("service.js", "gatecast.service"), "text/javascript"),
        "tables.js": (source("tables.js"), "text/javascript"), "figures.js": (source("report.js"), "text/javascript"),
        "plotly.js": (plotly_script(), "text/javascript"),
        "icon.svg": (ICON, "image/svg+xml"),
    }  # fmt: skip
    return {
        name: (text.encode(), gzip.compress(text.encode(), 6, mtime=0), kind) for name, (text, kind) in texts.items()
    }


ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2f5d8c"/>'
    '<path d="M5 21l7-7 5 4 10-11" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)


class _Files:
    """Name of a file of the pages -> its address, which changes with its content, so that it can be kept for ever."""

    def __getitem__(self, name: str) -> str:
        return f"/static/{name}?v={sha256_of(static_files()[name][0])[:12]}"


FILES = _Files()


def error_page(status: int, sentence: str) -> Response:
    """A page that says why there is none."""
    text = render("error.html.j2", f"{status}", "", None, {}, {"sentence": sentence})
    return Response(text, status, media_type="text/html", headers=POLICY_HEADERS)


def page(view: View, path: str, template: str, title: str, data: Any, stage: int = 0) -> Response:
    """The page of a view at a path, made when it is first asked for, and once more at each further stage."""
    text = view.once(
        f"page {path} {stage}",
        lambda: render(template, title, path, view.head, view.names(), data(), view.alert).encode(),
    )
    return Response(text, media_type="text/html", headers=POLICY_HEADERS)


def prepare(view: View) -> None:
    """Makes what the first reader of a view would wait for: its pages, and one of those of the symbols."""
    static_files()
    page(view, "/", "morning.html.j2", "This morning", lambda: morning(view))
    page(view, "/risk", "risk.html.j2", "Risk", lambda: risk_page(view))
    page(view, "/models", "models.html.j2", "Models", lambda: models_page(view))
    page(view, "/orders", "orders.html.j2", "Orders", lambda: orders_page(view, view.now), view.stage(view.now))
    if view.rows:
        first = min(view.rows)
        page(view, f"/symbols/{first}", "symbol.html.j2", first, lambda: symbol_page(view, first))


def routes(watched: Watched) -> APIRouter:
    """The pages of a store that is watched."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def this_morning() -> Response:
        view = watched.view
        return page(view, "/", "morning.html.j2", "This morning", lambda: morning(view))

    @router.get("/symbols")
    def chosen(symbol: Annotated[str, Query(max_length=200)] = "") -> Response:
        known = watched.view.known(symbol)
        return RedirectResponse(f"/symbols/{quote(known, safe='')}{'%2F' if known in ('.', '..') else ''}", 303)

    @router.get("/symbols/{symbol:path}")
    def one_symbol(symbol: Annotated[str, Path(max_length=200)]) -> Response:
        view = watched.view
        known = view.known(symbol)
        return page(view, f"/symbols/{known}", "symbol.html.j2", known, lambda: symbol_page(view, known))

    @router.get("/orders")
    def orders() -> Response:
        view, now = watched.view, watched.now
        return page(view, "/orders", "orders.html.j2", "Orders", lambda: orders_page(view, now), view.stage(now))

    @router.get("/risk")
    def risk() -> Response:
        view = watched.view
        return page(view, "/risk", "risk.html.j2", "Risk", lambda: risk_page(view))

    @router.get("/models")
    def models() -> Response:
        view = watched.view
        return page(view, "/models", "models.html.j2", "Models", lambda: models_page(view))

    @router.get("/health")
    def health() -> Response:
        try:
            view = watched.view
        except StoreError as error:
            sentence, head, runs, alert, look = watched.said(error), None, [], "", 0
        else:
            sentence, head, runs, alert = "", view.head, view.runs(20)["runs"], view.alert
            look = count_to_look_at(view)
        told = watched.told_health()
        text = render(
            "health.html.j2",
            "Health",
            "/health",
            head,
            {},
            {"health": told, "runs": runs, "sentence": sentence, "look": look},
            alert,
        )
        return Response(text, media_type="text/html", headers=POLICY_HEADERS)

    @router.get("/static/{name}")
    def static(name: str, request: Request) -> Response:
        if name not in static_files():
            raise UnknownSymbolError(f"there is no file {name[:80]!r}.")
        content, small, kind = static_files()[name]
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                small, media_type=kind, headers={**FOREVER, "content-encoding": "gzip", "vary": "accept-encoding"}
            )
        return Response(content, media_type=kind, headers={**FOREVER, "vary": "accept-encoding"})

    @router.get("/favicon.ico")
    def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml", headers=FOREVER)

    return router
