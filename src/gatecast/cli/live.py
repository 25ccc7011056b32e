"""A new bar in, a forecast out: `gatecast forecast`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gatecast.cli.options import (
    AsJson,
    RunFolder,
    as_moment,
    with_bars_options,
)
from gatecast.cli.show import make_console, print_json, show_forecasts

if TYPE_CHECKING:
    import polars as pl


@with_bars_options("start", "end", "as_of")
def forecast(
    folder: RunFolder,
    bars: Annotated[str, typer.Option(help="File with the newest bars.")],
    *,
    options: dict[str, Any],
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 for stale, missing or revised bars.")] = False,
    now: Annotated[str | None, typer.Option(help="Moment that bars are old against.", show_default="the clock")] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast from the newest bar with the run's last models; bars are read as the run read its own.

    A history that was re-based as a whole since the run is brought to the run's level; a step that looks like a split
    and that no common bar explains is refused. Exit status 0 with warnings; with --strict 1 when a symbol's newest bar
    is more than a session behind its class, a class's older than a gap may be, or bars are missing or were revised. A
    symbol whose end is known (--actions, or 60 sessions without a bar) is shown as ended and is no reason for 1.
    """
    import polars as pl

    from gatecast.live import forecast as forecast_live
    from gatecast.market.actions import read_actions
    from gatecast.market.sources import read_with_findings, symbols_of
    from gatecast.store import load_run

    known = load_run(folder)
    names = known.bars["symbol"].unique().sort().to_list()
    own = {
        name: value
        for name, value in known.experiment.bars.options.items()
        if name not in ("symbols", "start", "end", "as_of") and value is not None
    }
    if len(names) == 1:  # it names bars that carry no symbol
        own["symbols"] = names
    asked = {**own, **options}
    reading = read_with_findings(bars, **asked)
    newest, listed = reading.bars, reading.actions.filter(kind="split")  # of both tables
    table: pl.DataFrame | Literal[False] | None = listed if len(listed) else None
    if asked.get("splits") is False:
        table = False
    chosen = "symbols" in options or known.experiment.bars.symbols is not None  # of more: who chooses knows the others
    if chosen and newest["symbol"].is_in(names).any():
        newest = newest.filter(newest["symbol"].is_in(names))
    others = symbols_of(bars) if len(names) == 1 and not chosen else []
    delisted = reading.actions.filter(kind="delisting")
    if asked.get("actions"):  # of symbols that ended, and so have no bar here, as well
        every = read_actions(asked["actions"]).filter(kind="delisting")
        delisted = delisted.vstack(every.filter(~pl.col("symbol").is_in(newest["symbol"].unique().to_list())))
    found = forecast_live(
        folder, newest, splits=table, actions=delisted, now=as_moment(now), findings=reading.findings, others=others
    )  # fmt: skip
    if as_json:
        print_json({"path": str(folder), "strict": strict, "doubtful": known.doubtful, **found.to_dict()})
    else:
        show_forecasts(found.rows, found.warnings, known.experiment.horizon, make_console())
    if known.doubtful:
        raise typer.Exit(3)
    if strict and not found.sound:
        raise typer.Exit(1)
