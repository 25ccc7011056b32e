"""`gatecast run`, `init` and `report`: a run, a settings file, the page of a saved run."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.costs import seeded, slow_models, usual_costs
from gatecast.cli.options import (
    AsJson,
    Backend,
    Jobs,
    RunFolder,
    Scheduler,
    Storage,
    as_folder,
    as_length,
    experiment_of,
    machine_of,
    with_bars_options,
)
from gatecast.cli.progress import RunProgress
from gatecast.cli.show import brief_path, counted, draw_page, make_console, print_json, say, show_run
from gatecast.cli.unforeseen import OutputError
from gatecast.compute.progress import printable
from gatecast.errors import InterruptedRunError, SettingsError


@with_bars_options()
def run(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")
    ] = None,
    *,
    options: dict[str, Any],
    horizon: Annotated[int | None, typer.Option(help="Bars ahead, 1-22.")] = None,
    lookback: Annotated[int | None, typer.Option(help="Bars in a window, 10-100.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Networks in the LSTM ensemble.")] = None,
    refit: Annotated[str | None, typer.Option(help="Period between refits: 1M, 1W, 3M, 1Y, or bars.")] = None,
    train: Annotated[str | None, typer.Option(help="Training window: 2Y, 18M, or bars.")] = None,
    expanding: Annotated[bool | None, typer.Option("--expanding", help="Train on everything so far.")] = None,
    name: Annotated[str | None, typer.Option(help="Names the run and its folder.")] = None,
    jobs: Jobs = None,
    storage: Storage = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/<name>")] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")] = False,
) -> None:
    """Forecast, judge and report. Without CONFIG and --bars: the embedded market, and a simulated one.

    Exit status 3 when a leak was found or an outcome is too good to be true; the run and its report are written.
    """
    from dataclasses import asdict

    from gatecast.compute.cluster import cluster
    from gatecast.compute.estimate import Cost
    from gatecast.compute.memory import give_back
    from gatecast.runs import run as run_experiment
    from gatecast.store import check_place, discard, locked, replacement, save_run, studies, unfinished

    demonstration = config is None and bars is None
    changes = {
        "name": name or (None if config else "embedded" if demonstration else Path(str(bars)).stem or "bars"),
        "seed": seed, "horizon": horizon, "lookback": lookback,
        "bars": {"source": bars, **options},
        "schedule": {"refit": as_length(refit), "train": as_length(train), "expanding": expanding},
        "model": seeded(seeds),
        "control": {"market": "b1"} if demonstration else None,
    }  # fmt: skip
    experiment = experiment_of(config, changes)
    place = check_place(out or Path("runs") / as_folder(experiment.name))
    with locked(place):
        kept, began = unfinished(place), time.monotonic()
        there = len(list(kept.glob("*.safetensors")))
        if there and not quiet:
            verb = "is" if there == 1 else "are"
            say(
                f"{counted(there, 'network')} of an interrupted run {verb} kept in {brief_path(kept)}: what has the "
                "same settings and bars is used, and not trained again."
            )
        machine = machine_of(jobs, storage or studies(place), kept)
        costs = usual_costs(experiment.panel, experiment.tuning, experiment.schedule.refit, machine.jobs)
        slow = slow_models({name: experiment.model[name] for name in experiment.models})
        try:
            with cluster(backend, scheduler), RunProgress(costs, slow, quiet) as progress:
                result = run_experiment(experiment, progress=progress, plan=progress.plan, machine=machine)
        except KeyboardInterrupt:
            networks = counted(len(list(kept.glob("*.safetensors"))), "network")
            raise InterruptedRunError(
                f"interrupted. {networks} kept in {printable(kept)}: the same command goes on from there."
            ) from None
        replaces = place.is_dir() and any(place.iterdir())
        result = save_run(result, place)
        replaced = replacement(result) if replaces else ""
        discard(kept)
        give_back()
        page = draw_page(result, place)
        cost = Cost.since(began, len(result.bars))
    try:
        if not quiet:
            show_run(result, page, cost, make_console(stderr=as_json))
        if replaced:
            say(replaced)
        if as_json:
            own: dict[str, Any] = {"path": str(place), "report": str(page) if page else None}
            own |= {"replaced": replaced or None, "seconds": cost.seconds, "cost": asdict(cost)}
            print_json({**own, "doubtful": result.doubtful, **result.scores})
        sys.stdout.flush()
    except OutputError:
        say(f"The run is saved in {brief_path(place)}, whatever becomes of the output.")
        raise
    if result.doubtful:
        raise typer.Exit(3)


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("gatecast.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented settings file with all defaults."""
    from gatecast.experiment import Experiment
    from gatecast.files import full_path
    from gatecast.settings import to_toml

    place = full_path(file)
    if place.exists() and not force:
        raise SettingsError(f"{file} is there already: give another name, or --force to overwrite it.")
    try:
        place.write_text(to_toml(Experiment()), encoding="utf-8", newline="\n")
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}.") from None
    make_console().print(
        f"Wrote {printable(file)}. Edit it, then: gatecast run {printable(file)}", markup=False, soft_wrap=True
    )


def report(
    folder: RunFolder,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Draw report.html again from what the run stored."""
    from gatecast.report import render_saved
    from gatecast.store import write_page

    page = write_page(folder, render_saved(folder))
    make_console().print(printable(brief_path(page)), markup=False, soft_wrap=True)
    if open_it:
        import webbrowser

        webbrowser.open(page.as_uri())
