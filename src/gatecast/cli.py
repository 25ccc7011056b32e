"""The command: parse, call one function, render. Everything heavy is imported inside the command that needs it.

Results go to standard output, everything else to standard error. Exit status: 0; 1 when `check` found errors,
`audit` a leak, `truth` a gate that was missed or `forecast --strict` bars that are stale, missing or revised; 2 for a
wrong setting, file or option; 3 when `run` found a leak or an outcome too good to be true, or `forecast` goes on from
such a run; 130 when interrupted.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gatecast.errors import GatecastError, InterruptedRunError, SettingsError

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from gatecast.compute.estimate import Cost, Seconds, Work
    from gatecast.experiment import Experiment
    from gatecast.runs import Run

app = typer.Typer(
    name="gatecast",
    help="Walk-forward market forecasts with LSTM networks, honest rivals and a verdict in plain words.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Symbols = Annotated[str | None, typer.Option(help="Keep only these, separated by commas.")]
SymbolsFile = Annotated[Path | None, typer.Option(help="CSV with symbol and asset_class.")]
AssetClass = Annotated[str | None, typer.Option(help="For symbols without their own: index, equity, fx, ...")]
Timezone = Annotated[str | None, typer.Option(help="Of times without one, such as Europe/Berlin.")]
Stamp = Annotated[str | None, typer.Option(help="Whether an intraday time is the bar's open or close.")]
Resample = Annotated[str | None, typer.Option(help="To coarser bars: 4h, 1d, 1w, 1mo.")]
DateFormat = Annotated[str | None, typer.Option(help="Of dates like 03/04/2024, such as %d/%m/%Y.")]
Splits = Annotated[str | None, typer.Option(help="CSV with symbol, date, ratio; false: all such steps are true moves.")]
Actions = Annotated[Path | None, typer.Option(help="CSV with symbol, kind (split, delisting), date, value.")]
Versions = Annotated[str | None, typer.Option(help="Of several versions of a row: first (known) or newest.")]
Start = Annotated[str | None, typer.Option(help="First session, 2005-01-31.")]
End = Annotated[str | None, typer.Option(help="Last session.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of standard output.")]
Backend = Annotated[str, typer.Option(help="Where the jobs are done: local, dask, ray; changes no result.")]
Scheduler = Annotated[str | None, typer.Option(help="Of the backend dask, such as tcp://10.0.0.1:8786.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"gatecast {version_of('gatecast')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[str | None, typer.Option(help="CSV or Parquet file, folder, glob, or embedded.")] = None,
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
    start: Start = None,
    end: End = None,
    horizon: Annotated[int | None, typer.Option(help="Bars ahead, 1-22.")] = None,
    lookback: Annotated[int | None, typer.Option(help="Bars in a window, 10-100.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Networks in the LSTM ensemble.")] = None,
    refit: Annotated[str | None, typer.Option(help="Period between refits: 1M, 1W, 3M, 1Y, or bars.")] = None,
    train: Annotated[str | None, typer.Option(help="Training window: 2Y, 18M, or bars.")] = None,
    expanding: Annotated[bool | None, typer.Option("--expanding", help="Train on everything so far.")] = None,
    name: Annotated[str | None, typer.Option(help="Names the run and its folder.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Cores to use; changes no result.", show_default="all")] = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name>")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> None:
    """Bars in, verdict and report out. Without CONFIG and --bars: the embedded market, a planted one beside it.

    Exit status 3 when a leak was found or an outcome is too good to be true; the run and its report are written.
    """
    from dataclasses import asdict

    from gatecast.compute.cluster import cluster
    from gatecast.compute.estimate import Cost
    from gatecast.experiment import Experiment
    from gatecast.runs import run as run_experiment
    from gatecast.store import check_place, discard, replacement, save_run, studies, unfinished

    demonstration = config is None and bars is None
    changes = {
        "name": name or (None if config else "embedded" if demonstration else Path(str(bars)).stem or "bars"),
        "seed": seed, "horizon": horizon, "lookback": lookback, "jobs": jobs or _cores(),
        "bars": {"source": bars, "start": start, "end": end}
        | _reading(
            symbols, symbols_file, asset_class, timezone, stamp, resample, date_format, splits, actions, versions
        ),
        "schedule": {"refit": _length(refit), "train": _length(train), "expanding": expanding},
        "model": _seeded(seeds),
        "control": {"market": "b1"} if demonstration else None,
    }  # fmt: skip
    experiment = Experiment.from_toml(config, **_given(changes)) if config else Experiment(**_given(changes))
    place = check_place(out or Path("runs") / _as_folder(experiment.name))
    kept = unfinished(place)
    began = time.monotonic()
    try:
        with cluster(backend, scheduler), _Progress(experiment, quiet) as progress:
            kept_by = experiment.replace(unfinished=kept, studies=studies(place))
            result = run_experiment(kept_by, progress=progress, plan=progress.plan)
    except KeyboardInterrupt:
        networks = _count(len(list(kept.glob("*.safetensors"))), "network")
        raise InterruptedRunError(
            f"interrupted. {networks} kept in {_shown(kept)}: the same command goes on from there."
        ) from None
    replaces = place.is_dir() and any(place.iterdir())
    result = save_run(result, place)
    replaced = replacement(result) if replaces else ""
    discard(kept)
    page = _draw(result, place)
    cost = Cost.since(began, len(result.bars))
    if not quiet:
        _show_run(result, page, cost, _console(stderr=as_json))
    if replaced:
        _say(replaced)
    if as_json:
        own: dict[str, Any] = {"path": str(place), "report": str(page) if page else None, "replaced": replaced or None}
        own |= {"seconds": cost.seconds, "cost": asdict(cost), "doubtful": result.doubtful}
        _print_json({**own, **result.scores})
    if result.doubtful:
        raise typer.Exit(3)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("gatecast.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented settings file with all defaults."""
    from gatecast.experiment import Experiment
    from gatecast.settings import to_toml

    if file.exists() and not force:
        raise SettingsError(f"{file} is there already: give another name, or --force to overwrite it.")
    try:
        file.write_text(to_toml(Experiment()), encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}.") from None
    _console().print(f"Wrote {_shown(file)}. Edit it, then: gatecast run {_shown(file)}", markup=False, soft_wrap=True)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="CSV or Parquet file, folder, glob, or embedded.")],
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
    start: Start = None,
    end: End = None,
    reference: Annotated[str | None, typer.Option(help="Second source whose closes are compared.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is wrong or odd in bars; exit status 1 when rows had to be left out."""
    from dataclasses import asdict, replace

    from gatecast.market.bars import findings
    from gatecast.market.ends import say_ends
    from gatecast.market.sources import read_bars, read_with_findings
    from gatecast.market.stale import stale_prices

    options = _given(
        _reading(symbols, symbols_file, asset_class, timezone, stamp, resample, date_format, splits, actions, versions)
    )
    compared = read_bars(reference, **options) if reference else None
    reading = read_with_findings(file, **options, **_given({"start": start, "end": end}), reference=compared)
    rank = {"error": 0, "warning": 1, "info": 2}
    noticed = {(one.rule, one.symbol) for one in reading.findings}  # such as late, which is a warning there
    stopped = say_ends(reading.bars, reading.actions)
    noted = (*findings(reading.bars), *stale_prices(reading.bars.sort("symbol", "time")), *stopped)
    odd = [one for one in noted if (one.rule, one.symbol) not in noticed]
    found = [
        replace(one, advice=_with_options(one.advice))
        for one in sorted((*reading.findings, *odd), key=lambda finding: rank[finding.severity])
    ]
    counts = {severity: sum(finding.severity == severity for finding in found) for severity in rank}
    bars, names = len(reading.bars), reading.bars["symbol"].unique().sort().to_list()
    if as_json:
        _print_json(
            {
                "file": file,
                "bars": bars,
                "symbols": names,
                "classes": reading.classes.to_dicts(),
                "actions": reading.actions.to_dicts(),
                "counts": counts,
                "findings": [asdict(finding) for finding in found],
            }
        )
    else:
        rows = (
            (one.severity, one.symbol, _moment(one.time), one.line, one.rule, _number(one.value), one.advice)
            for one in found
        )
        console = _console()
        if found:
            console.print(_table(("severity", "symbol", "time", "line", "rule", "value", "advice"), rows))
        for (name, rule), own in reading.classes.group_by("asset_class", "rule", maintain_order=True):
            shown = ", ".join(own["symbol"].head(8)) + (f" and {len(own) - 8} more" if len(own) > 8 else "")
            console.print(f"class {name} ({rule}): {shown}", markup=False, soft_wrap=True)
        if len(reading.actions):
            verb = "applies" if len(reading.actions) == 1 else "apply"
            console.print(f"{_count(len(reading.actions), 'action')} {verb}.", markup=False, soft_wrap=True)
        summary = ", ".join(_count(count, severity) for severity, count in counts.items() if count)
        told = f"{bars:,} bars of {_count(len(names), 'symbol')} can be used; {summary or 'nothing to note'}."
        console.print(told, markup=False, soft_wrap=True)
    if counts["error"]:
        raise typer.Exit(1)


@app.command()
def audit(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[str | None, typer.Option(help="CSV or Parquet file, folder, glob, or embedded.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only what needs no fitting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rerun the chain with the future removed and replaced, and name what noticed; exit status 1 when anything did."""
    from gatecast.audits.full import audit as audit_chain
    from gatecast.experiment import Experiment

    changes = {"jobs": _cores(), "bars": {"source": bars}}
    experiment = Experiment.from_toml(config, **_given(changes)) if config else Experiment(**_given(changes))
    with _Stages() as progress:
        result = audit_chain(experiment, full=not quick, progress=progress)
    if as_json:
        _print_json(result.to_dict())
    else:
        _console().print(result.summary(), markup=False, soft_wrap=True)
    if not result.clean:
        raise typer.Exit(1)


@app.command()
def unseal(
    folder: RunFolder,
    bars: Annotated[str | None, typer.Option(help="Where the run's bars are now, if they were moved.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Open it once more; the report says so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open the hold-out of a sealed run, once: the chain without the seal, and what is left of each gain."""
    from gatecast.store import load_run, replacement, save_run
    from gatecast.studies.unseal import unseal as open_holdout

    with _Stages() as progress:
        run = open_holdout(load_run(folder), bars=bars, again=again, jobs=_cores(), progress=progress)
    run = save_run(run, folder)
    replaced = replacement(run)
    page = _draw(run, folder)
    found = run.scores["holdout"]
    if as_json:
        _print_json({"path": str(folder), "report": str(page) if page else None, "replaced": replaced, **found})
    else:
        for line in (*(one["sentence"] for one in found["heads"]), found["sentence"], *_where(page)):
            _console().print(_shown(line), markup=False, soft_wrap=True)
    _say(replaced)


@app.command()
def truth(
    long: Annotated[bool, typer.Option("--long", help="With as many runs as the gates were made for.")] = False,
    nulls: Annotated[
        bool, typer.Option("--nulls", help="Instead: markets without skill, and who claims some.")
    ] = False,
    runs: Annotated[int | None, typer.Option(help="Of each null; the limits were made for 30.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the bench of planted markets: measured beside the best attainable; exit status 1 when a gate is missed.

    With --nulls the chain without its networks runs 30 times on each of 14 markets without skill.
    """
    from gatecast.studies.nulls import RUNS, Nulls
    from gatecast.studies.nulls import nulls as run_nulls
    from gatecast.studies.truth import Truth
    from gatecast.studies.truth import truth as run_bench

    if runs is not None and not nulls:
        raise SettingsError("--runs is for --nulls: the other bench has --long.")
    found: Nulls | Truth
    with _Stages() as progress:
        if nulls:
            found = run_nulls(runs=RUNS if runs is None else runs, jobs=_cores(), progress=progress)
        else:
            found = run_bench(long=long, jobs=_cores(), progress=progress)
    if as_json:
        _print_json(found.to_dict())
    else:
        _console().print(found.summary(), markup=False, soft_wrap=True)
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def placebo(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[str | None, typer.Option(help="CSV or Parquet file, folder, glob, or embedded.")] = None,
    copies: Annotated[int, typer.Option(help="Copies without predictability; 199 for a p-value of .005.")] = 199,
    out: Annotated[Path | None, typer.Option(help="Where copies are kept.", show_default="runs/<name>.placebo")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole chain on copies of the market without predictability, and say how many of them the run beats.

    Every copy is kept as it ends: stopped, the same command goes on.
    """
    from gatecast.experiment import Experiment
    from gatecast.studies.placebo import placebo as rank

    changes = {"jobs": _cores(), "bars": {"source": bars}}
    experiment = Experiment.from_toml(config, **_given(changes)) if config else Experiment(**_given(changes))
    name = experiment.name if config else Path(bars or "embedded").stem or "bars"
    folder = out or Path("runs") / f"{_as_folder(name)}.placebo"
    try:
        with _Stages() as progress:
            found = rank(experiment, copies=copies, folder=folder, jobs=experiment.jobs, progress=progress)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted. Finished copies are kept in {_shown(folder)}: the same command goes on from there."
        ) from None
    if as_json:
        _print_json(found.to_dict())
    else:
        _console().print(found.summary(), markup=False, soft_wrap=True)


@app.command()
def tune(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[str | None, typer.Option(help="CSV or Parquet file, folder, glob, or embedded.")] = None,
    symbols: Symbols = None,
    symbols_file: SymbolsFile = None,
    asset_class: AssetClass = None,
    start: Start = None,
    end: End = None,
    trials: Annotated[int | None, typer.Option(help="Candidates a class and date.", show_default="8")] = None,
    every: Annotated[str | None, typer.Option(help="From one search to the next: 1Y, 3M, 1M.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Instead, a budget of time a class and date.")] = None,
    storage: Annotated[str | None, typer.Option(help="Address of the studies.", show_default="a file")] = None,
    jobs: Annotated[int | None, typer.Option(help="Cores to use; changes no result.", show_default="all")] = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run it belongs to.", show_default="runs/<name>")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search for the LSTM's settings at every date, and say whether that beat the settings given, and at what cost.

    Candidates are kept as they end: stopped, the same command goes on, and `gatecast run` with the same settings makes
    no search twice. The file of studies is Optuna's: optuna-dashboard opens it.
    """
    from gatecast.compute.cluster import cluster
    from gatecast.experiment import Experiment
    from gatecast.store import check_place, discard, studies, unfinished
    from gatecast.studies.tune import tune as search

    changes = {
        "name": None if config else "embedded" if bars is None else Path(bars).stem or "bars",
        "jobs": jobs or _cores(),
        "bars": {"source": bars, "start": start, "end": end}
        | _reading(symbols, symbols_file, asset_class, None, None, None, None),
        "tuning": {"trials": trials, "every": every, "seconds": seconds, "storage": storage},
    }
    experiment = Experiment.from_toml(config, **_given(changes)) if config else Experiment(**_given(changes))
    place = check_place(out or Path("runs") / _as_folder(experiment.name))
    file, kept = studies(place), unfinished(place)
    try:
        with cluster(backend, scheduler), _Stages() as progress:
            found = search(experiment.replace(studies=file, unfinished=kept), progress=progress)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted. Candidates that were tried are kept in {_shown(file)}: the same command goes on from there."
        ) from None
    discard(kept)
    if as_json:
        _print_json({"studies": str(file), **found.to_dict()})
    else:
        _console().print(_shown(found.summary()), markup=False, soft_wrap=True)


@app.command()
def cadence(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[str | None, typer.Option(help="CSV or Parquet file, folder, glob, or embedded.")] = None,
    symbols: Symbols = None,
    symbols_file: SymbolsFile = None,
    asset_class: AssetClass = None,
    start: Start = None,
    end: End = None,
    seeds: Annotated[int | None, typer.Option(help="Networks in the LSTM ensemble.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Cores to use; changes no score.", show_default="all")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw it into this HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score and cost of LSTMs refitted monthly, quarterly, yearly and never, and of warm starts, on the same rows."""
    from gatecast.experiment import Experiment
    from gatecast.studies.cadence import cadence as compare

    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise SettingsError(f"{out} cannot be written: give the name of a file in a folder that is there.")
    changes = {
        "jobs": jobs or _cores(), "model": _seeded(seeds),
        "bars": {"source": bars, "start": start, "end": end}
        | _reading(symbols, symbols_file, asset_class, None, None, None, None),
    }  # fmt: skip
    experiment = Experiment.from_toml(config, **_given(changes)) if config else Experiment(**_given(changes))
    with _Stages() as progress:
        found = compare(experiment, progress=progress)
    if out is not None:
        from gatecast.report.cadence import render_cadences

        try:
            out.write_text(render_cadences(found), encoding="utf-8", newline="\n")
        except OSError as error:
            raise SettingsError(f"{out} cannot be written: {error.strerror}.") from None
    if as_json:
        _print_json(found.to_dict())
    else:
        _console().print(found.summary(), markup=False, soft_wrap=True)


@app.command()
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
    given = _reading(
        symbols, symbols_file, asset_class, timezone, stamp, resample, date_format, splits, actions, versions
    )
    options = _given(own) | _given(given)
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
        folder, newest, splits=table, actions=delisted, now=_as_moment(now), findings=reading.findings, others=others
    )  # fmt: skip
    if as_json:
        _print_json({"path": str(folder), "strict": strict, "doubtful": known.doubtful, **found.to_dict()})
    else:
        _show_forecasts(found.rows, found.warnings, known.experiment.horizon, _console())
    if known.doubtful:
        raise typer.Exit(3)
    if strict and not found.sound:
        raise typer.Exit(1)


@app.command()
def report(
    folder: RunFolder,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw report.html again from what the run stored."""
    from gatecast.report import render
    from gatecast.store import load_run, write_page

    page = write_page(folder, render(load_run(folder)))
    _console().print(_shown(_brief(page)), markup=False, soft_wrap=True)
    if open_it:
        import webbrowser

        webbrowser.open(page.as_uri())


def main() -> None:
    """Entry point: runs the command, and turns every error of the domain into one message and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # text that the terminal's encoding lacks is replaced, not fatal
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # what interrupted processes leave is swept
    if sys.argv[1:2] == ["forecast"]:
        _start_light()
    try:
        status = app(standalone_mode=False)
        if status == 130:  # typer's own answer to Ctrl-C
            _complain("interrupted.")
    except (GatecastError, typer.TyperException) as error:
        status = 130 if isinstance(error, InterruptedRunError) else 2
        text = error.format_message() if isinstance(error, typer.TyperException) else _with_options(str(error))
        _complain(text)
        if "--json" in sys.argv:
            _print_json({"error": text, "kind": type(error).__name__})
    except (KeyboardInterrupt, typer.Abort):
        status = 130
        _complain("interrupted.")
    if status == 130:  # networks in the making are not waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _start_light() -> None:
    """Half a second less: a short process needs no garbage collector, nor pandas, which TA-Lib loads to wrap itself."""
    import gc
    from importlib import import_module

    gc.disable()
    import_module("polars")  # it asks whether pandas is there, once, and reads frames of pandas later
    if "pandas" not in sys.modules:
        sys.modules["pandas"] = None  # type: ignore[assignment]
        try:
            import_module("talib")
        finally:
            del sys.modules["pandas"]


# ── from options to settings ──────────────────────────────────────────────────────────────────────


def _reading(
    symbols: str | None,
    symbols_file: Path | None,
    asset_class: str | None,
    timezone: str | None,
    stamp: str | None,
    resample: str | None,
    date_format: str | None,
    splits: str | None = None,
    actions: Path | None = None,
    versions: str | None = None,
) -> dict[str, Any]:
    """How bars are to be understood, as `read_bars` takes it."""
    return {
        "symbols": [part.strip() for part in symbols.split(",") if part.strip()] if symbols else None,
        "symbols_file": str(symbols_file) if symbols_file else None,
        "asset_class": asset_class, "timezone": timezone, "stamp": stamp, "resample": resample,
        "date_format": date_format, "splits": False if splits in ("false", "False") else splits,
        "actions": str(actions) if actions else None, "versions": versions,
    }  # fmt: skip


def _with_options(text: str) -> str:
    """A text that speaks of arguments (timezone='UTC') with the options of the command that runs (--timezone UTC).

    Arguments that the command has no option for stay as they are, and so does a text that names options itself.
    """
    if "--" in text:
        return text
    commands = getattr(typer.main.get_command(app), "commands", {})
    command = commands.get(next(iter(sys.argv[1:]), ""))
    reading = {*signature(_reading).parameters, "start", "end", "reference", "now"}
    options = reading & {param.name for param in command.params} if command else set()

    def spelt(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        if name not in options or (name == "asset_class" and "/" in value):  # else a folder's name
            return found[0]
        value = value.strip("'") if re.fullmatch(r"'[\w/:.+-]+'", value) else value
        return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")

    return re.sub(r"(?<![\w/-])([a-z_]+)=('[^']*'|[^\s,;.)('\[]+)?", spelt, text)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, through all levels; sections without any are left out."""
    inner = {key: _given(value) if isinstance(value, dict) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


def _as_moment(text: str | None) -> datetime | None:
    """A date or a time, UTC where it has no zone; raises `SettingsError` for anything else."""
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--now must be a date or a time such as 2024-01-31T21:00, got {text!r}.") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _length(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() else text


def _cores() -> int:
    from joblib import cpu_count

    return int(cpu_count())


def _as_folder(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=160)


def _shown(value: object) -> str:
    """Text that cannot steer a terminal: control characters are written out."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def _say(text: str) -> None:
    """A line that is no result, on standard error."""
    _console(stderr=True).print(_shown(text), markup=False, soft_wrap=True)


def _draw(run: Run, folder: Path) -> Path | None:
    """Draws the page of a saved run and returns its path; where it cannot be written, says so and returns None.

    The run is saved without it, so that this is no reason to end without a verdict.
    """
    from gatecast.errors import StoreError
    from gatecast.report import render
    from gatecast.store import write_page

    try:
        return write_page(folder, render(run))
    except StoreError as error:
        _say(f"warning: {error}")
        return None


def _where(page: Path | None) -> list[str]:
    """The line that says where the page is; none where it could not be written."""
    return [f"Report: {_brief(page)}"] if page else []


def _complain(text: str) -> None:
    from rich.text import Text

    message = Text.assemble(("error: ", "bold red"), _shown(text))
    _console(stderr=True).print(message, soft_wrap=True)


def _print_json(value: dict[str, Any]) -> None:
    from gatecast.files import jsonable

    sys.stdout.write(json.dumps(jsonable(value), allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str | None = None) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else _shown(cell)) for cell in row))
    return table


def _moment(moment: datetime | str | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if isinstance(moment, datetime) else moment or ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _number(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _interval(verdict: dict[str, Any]) -> str:
    """The gain and its interval in percent, or a dash."""
    effect, low, high = (verdict[name] for name in ("effect", "low", "high"))
    if effect is None or low is None or high is None:
        return "-"
    return f"{100 * effect:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _brief(path: Path) -> Path:
    """Relative to the current folder where it is inside."""
    here = Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _show_run(run: Run, page: Path | None, cost: Cost, console: Console) -> None:
    """The verdict first, then what it rests on and where to read on."""
    from rich.text import Text

    from gatecast.forecasting.panel import model_phrase

    summary, scores = run.scores.get("summary") or {}, run.scores
    console.print(Text(_shown(summary.get("headline", "")), style="bold"))
    console.print(Text(_shown(summary.get("subline", ""))))
    rows = (
        (
            head, verdict["verdict"],
            _interval(verdict), "-" if verdict["pvalue_trials"] is None else f"{verdict['pvalue_trials']:.3f}",
            model_phrase(verdict.get("most_in_force") or verdict["rival"]),
        )
        for head, verdict in run.verdicts.items()
    )  # fmt: skip
    console.print(
        _table(
            ("head", "verdict", "gain % (90 % interval)", "p, corrected", "against"),
            rows,
            _shown(run.experiment.name),
        )
    )
    control = scores.get("control")
    if control:
        found = [head for head, verdict in control["verdicts"].items() if verdict["verdict"] == "evidence of skill"]
        said = f"evidence of skill in {', '.join(found)}" if found else "no evidence of skill"
        console.print(Text(f"Planted market {control['name']}, beside it: {said}."))
    warnings = scores.get("warnings") or []
    for warning in warnings[:5]:
        console.print(Text(f"warning: {_shown(warning)}", style="yellow"), soft_wrap=True)
    if len(warnings) > 5:
        console.print(Text(f"and {len(warnings) - 5} more warnings, in the report", style="yellow"))
    refits: dict[str, int] = {}
    for fold in scores.get("folds") or []:
        refits[fold["asset_class"]] = refits.get(fold["asset_class"], 0) + 1
    told = ", ".join(f"{name} {count}" for name, count in refits.items())
    every = run.experiment.schedule.refit
    console.print(Text(f"Refits ({every}): {told}. Took {int(cost.seconds // 60)} min {cost.seconds % 60:.0f} s."))
    memory = f"{cost.peak_memory_bytes / 1e9:.2f} GB of memory at most, " if cost.peak_memory_bytes else ""
    symbols = _count(run.bars["symbol"].n_unique(), "symbol")
    console.print(
        Text(f"{len(run.bars):,} bars of {symbols}: {memory}{cost.bars_per_second:,.1f} bars a second, all included.")
    )
    for line in _where(page) or [f"Run: {run.path}"]:
        console.print(Text(_shown(line)), soft_wrap=True)


def _show_forecasts(rows: list[dict[str, Any]], warnings: Iterable[str], horizon: int, console: Console) -> None:
    """A table a symbol a line, whose number each is in its title; then what must be said of each, and warnings."""
    from rich.text import Text

    from gatecast.forecasting.titles import model_title

    signals = model_title(rows[0]["signal_model"]) if rows else "model"
    overridden = [one for one in dict.fromkeys(warnings) if "the settings set evidence = " in one][:1]
    for first in overridden:
        console.print(Text(_shown(first), style="yellow"), soft_wrap=True)
    columns = (
        "symbol", "bar", "P(rise)", "expected log return", f"s.d. over {horizon} bars, close to close", "interval",
        "turbulent", f"{signals} signal", f"{signals} z", "strategy", "weight alone", "weight in book",
    )  # fmt: skip
    console.print(_table(columns, (_forecast_cells(row) for row in rows)))
    console.print(Text("P(rise) to turbulent: the ensemble's forecast. Weight alone: of the symbol by itself."))
    book = [row["book"] for row in rows if row["book"] is not None]
    if book:
        long, short = (sum(side * weight for weight in book if side * weight > 0) for side in (1, -1))
        console.print(Text(f"The book of all symbols: {long:.1%} of capital long, {short:.1%} short."))
    for row in rows:
        reason = [f"{row['reason']}."] if row["current"] and row.get("reason") else []
        for said in (*row["notes"], *reason):
            console.print(Text(f"{_shown(row['symbol'])}: {_shown(said)}"), soft_wrap=True)
    for warning in [one for one in dict.fromkeys(warnings) if one not in overridden]:
        console.print(Text(f"warning: {_shown(warning)}", style="yellow"), soft_wrap=True)


def _forecast_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table of forecasts; dashes where there is none of today's bar."""
    words = {1: "bullish", 0: "none", -1: "bearish"}
    states = {"no bar": "no bar today", "no trade": "no trade today", "ended": row["end"]}
    moment = f"{_moment(row['newest_bar'])}"
    if not row["current"]:
        return (row["symbol"], f"{moment}, {states.get(row['today'], 'no forecast')}", *["-"] * 10)
    base = "base rate" if row["base_rate_up"] is None else f"base rate {row['base_rate_up']:.1%}"
    beyond = base if row["probability_beyond_base_rate"] else f"not beyond {base}"
    expected = _share(row["expected_return_log"], "+.2%")
    return (
        row["symbol"], moment, f"{_share(row['probability_up'], '.1%')} ({beyond})",
        expected if row["beyond_base_rate"] else "no forecast beyond the base rate",
        _share(row["standard_deviation"], ".2%"), _ends(row["intervals"]), _share(row["regime_probability"], ".1%"),
        words[int(row["signal"])] + (", agreed" if row["consensus"] else ""), _share(row["z"], "+.2f"),
        row["strategy_title"], _share(row["weight"], "+.1%"), _share(row["book"], "+.2%"),
    )  # fmt: skip


def _share(value: float | None, form: str) -> str:
    """A number in a format, a dash for none; what rounds to 0 is +0."""
    return "-" if value is None else format(round(value, 6) + 0.0, form)


def _ends(intervals: list[dict[str, Any]]) -> str:
    """The narrowest interval of the last step, as simple returns."""
    if not intervals:
        return "-"
    low, high = (math.expm1(intervals[0][side][-1]) for side in ("low", "high"))
    return f"{intervals[0]['level']:.0%}: {low:+.2%} to {high:+.2%}"


class _Stages:
    """One bar a stage on a terminal, nothing elsewhere; on standard error. What follows " | " may change as it goes."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> _Stages:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        name, _, now = stage.partition(" | ")
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(_shown(name), total=total)
        text = f"{name}, {now}" if now else name
        self.bar.update(self.tasks[name], completed=done, total=total, description=_shown(text))


ANNOUNCED_STAGES = ("tuning", "lstm", "forest", "logistic", "ensemble")
"""Stages whose end is worth a line."""


class _Progress:
    """One bar for the whole run on a terminal, one line a finished stage elsewhere; on standard error.

    A stage is "class: model". What is left is estimated from the rows of each class, known before anything is fitted,
    and from what the stages took so far: see `Estimate`.
    """

    def __init__(self, experiment: Experiment, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from gatecast.compute.estimate import Estimate

        console = Console(stderr=True)
        self.quiet, self.live = quiet, console.is_terminal and not quiet
        self.estimate = Estimate(_usual_costs(experiment))
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.bar = Progress(*columns, console=console, disable=not self.live, transient=True)
        self.task = self.bar.add_task("reading bars", total=None, left="")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def plan(self, work: dict[str, Work]) -> None:
        """Tells what there is to do, and how long that usually takes."""
        self.estimate.plan(work)
        bars, symbols, refits = (
            sum(getattr(one, name) for one in work.values()) for name in ("bars", "symbols", "refits")
        )
        text = f"{', '.join(work)}: {bars:,} bars of {_count(symbols, 'symbol')}, {_count(refits, 'refit')}"
        self._say(f"{_shown(text)}; {_about(self.estimate.left)}, a guess until fits are timed")

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        group, _, model = stage.rpartition(": ")
        self.estimate.done(group, model, done, total)
        left, passed = self.estimate.left, self.estimate.passed
        self.bar.update(
            self.task, description=_shown(stage), completed=passed, total=passed + left, left=f"{_about(left)} left"
        )
        if done == total and model in ANNOUNCED_STAGES:
            what = {"ensemble": "combined", "tuning": f"{total} candidates tried"}.get(model, f"{total} fits done")
            self._say(f"{_shown(stage)}: {what}; {_about(left)} left")

    def _say(self, line: str) -> None:
        if not self.live and not self.quiet:
            _console(stderr=True).print(line, markup=False, soft_wrap=True)


def _about(seconds: float) -> str:
    """A time that claims no more precision than it has.

    >>> [_about(seconds) for seconds in (20, 100, 5000, 40000)]
    ['under a minute', 'about 2 min', 'about 1 h 25 min', 'about 11 h']
    """
    minutes = seconds / 60
    if minutes < 1:
        return "under a minute"
    if minutes < 60:
        return f"about {math.ceil(minutes)} min"
    hours, rest = divmod(5 * math.ceil(minutes / 5), 60)
    return f"about {hours} h" + (f" {rest} min" if rest and hours < 10 else "")


def _seeded(seeds: int | None) -> dict[str, Any]:
    """The number of networks as a table of `model`."""
    from gatecast.forecasting.panel import NETWORK

    return {} if seeds is None else {NETWORK: {"seeds": seeds}}


def _usual_costs(experiment: Experiment) -> dict[str, Seconds]:
    """Model or stage -> what it usually takes with these settings, over the cores that share it."""
    from gatecast.compute.estimate import COMBINING, SCORING
    from gatecast.forecasting.panel import ENSEMBLE, NETWORK

    cores = min(experiment.jobs, _cores())
    found = {
        name: one.about().seconds.times(one.relative_work() / (cores if one.about().seconds.parallel else 1))
        for name, one in experiment.panel.items()
    }
    if (tuning := experiment.tuning) is not None:
        # half of a slice and half of a network's size are what a candidate takes in the mean
        fits = tuning.trials * tuning.folds * tuning.seeds / tuning.refits_between(experiment.schedule.refit)
        largest = max(tuning.layers[1] / 2 * (tuning.units[1] / 64) ** 2, 0.1)
        network = experiment.panel[NETWORK].about().seconds
        found["tuning"] = network.times(fits / 2 * largest / 2 / 3 / cores)  # those seconds are of three networks
    return {**found, ENSEMBLE: COMBINING, "scores": SCORING}


if __name__ == "__main__":
    main()
