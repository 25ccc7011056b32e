"""`gatecast serve`: a store as pages and JSON, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatecast.cli.options import AsJson, as_moment
from gatecast.cli.show import print_json, say
from gatecast.cli.store import Now, StoreFolder


def serve(
    folder: StoreFolder,
    host: Annotated[str, typer.Option(help="Address to listen at; another than this machine's needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token that each request must bring.", show_default="none"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Name by which it may be asked, beside localhost.", show_default="none"),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="Site whose pages may read it.", show_default="none"),
    ] = None,
    now: Now = None,
    as_json: AsJson = False,
) -> None:
    """Serve a store as pages and a JSON API until interrupted; nothing is ever written to it.

    The first page is this morning: the book, its trades and what changed. /openapi.json describes the API. New
    decisions are seen within a second. It needs pip install 'gatecast[serve]'.
    """
    from gatecast.libraries import require

    for package in ("fastapi", "uvicorn"):
        require(package, "gatecast serve", extra="serve")
    from gatecast.service.app import rules_of
    from gatecast.service.app import serve as serve_store

    rules = rules_of(host, token_file, tuple(allow_host or ()), tuple(allow_origin or ()))

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "store": str(folder)})
        else:
            say(f"{folder} is served at {address} (Ctrl-C ends it).")

    serve_store(folder, host=host, port=port, rules=rules, now=as_moment(now), ready=ready)
