"""A new bar in, a forecast out: `gatecast forecast`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gatecast.cli.options import (
    Actions,
    AsJson,
    AssetClass,
    DateFormat,
    Resample,
    RunFolder,
    Splits,
    Stamp,
    Symbols,
    SymbolsFile,
    Timezone,
    Versions,
    as_moment,
    only_given,
    reading_options,
)
from gatecast.cli.show import make_console, print_json, show_forecasts

if TYPE_CHECKING:
    import polars as pl


def forecast(
    folder: RunFolder,
    bars: Annotated[str, typer.Option(help="File with the newest bars.")],
    symbols: Symbols = None,
    symbols_file: SymbolsFile = None,
    asset_class: AssetClass = None,
    timezone: Timezone = None,
    stamp: Stamp = None,
    resample: Resample = None,
    date_format: DateFormat = None,
    splits: Splits = None,
    actions: Actions = None,
    versions: Versions = None,
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
        if name not in ("symbols", "start", "end", "as_of")
    }
    own["symbols"] = names if len(names) == 1 else None  # a single one names bars that carry no symbol
    given = only_given(
        reading_options(
            symbols, symbols_file, asset_class, timezone, stamp, resample, date_format, splits, actions, versions
        )
    )
    options = only_given(own) | given
    reading = read_with_findings(bars, **options)
    newest, listed = reading.bars, reading.actions.filter(kind="split")  # of both tables
    table: pl.DataFrame | Literal[False] | None = listed if len(listed) else None
    if options.get("splits") is False:
        table = False
    chosen = symbols is not None or known.experiment.bars.symbols is not None  # of more: who chooses knows the others
    if chosen and newest["symbol"].is_in(names).any():
        newest = newest.filter(newest["symbol"].is_in(names))
    others = symbols_of(bars) if len(names) == 1 and not chosen else []
    delisted = reading.actions.filter(kind="delisting")
    if options.get("actions"):  # of symbols that ended, and so have no bar here, as well
        every = read_actions(options["actions"]).filter(kind="delisting")
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
