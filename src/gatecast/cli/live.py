"""`gatecast forecast`: the newest forecasts of a saved run on newer bars."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatecast.cli.options import (
    AsJson,
    RunFolder,
    as_moment,
    with_bars_options,
)
from gatecast.cli.show import make_console, print_json, show_forecasts


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
    and that no common bar explains is refused. Exit status 0 with warnings; 1 where a
    forecast is not finite, of whose symbol there is no position; with --strict 1 when a symbol's newest bar
    is more than a session behind its class, a class more than a session behind its calendar (holidays are none) or its
    newest bar older than a gap may be, or bars are missing or were revised. A
    symbol whose end is known (--actions, or 60 sessions without a bar) is shown as ended and is no reason for 1.
    """
    from gatecast.live import forecast as forecast_live
    from gatecast.live import read_newest
    from gatecast.store import load_run

    known = load_run(folder)
    read = read_newest(known, bars, **options)
    found = forecast_live(
        known, read.bars, splits=read.splits, actions=read.actions, now=as_moment(now), findings=read.findings,
        others=read.others, calendars=read.calendars,
    )  # fmt: skip
    if as_json:
        print_json({"path": str(folder), "strict": strict, "doubtful": known.doubtful, **found.to_dict()})
    else:
        show_forecasts(found.rows, found.warnings, known.experiment, make_console())
    if known.doubtful:
        raise typer.Exit(3)
    if found.broken or (strict and not found.sound):
        raise typer.Exit(1)
