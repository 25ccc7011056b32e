"""Commands of studies: `gatecast audit`, `unseal`, `truth`, `placebo`, `tune`, `cadence`, `capacity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.costs import seeded
from gatecast.cli.options import (
    READING,
    AsJson,
    Backend,
    Jobs,
    RunFolder,
    Scheduler,
    Storage,
    as_folder,
    core_count,
    experiment_of,
    machine_of,
    output_file,
    with_bars_options,
    write_output,
)
from gatecast.cli.show import draw_page, make_console, make_table, page_line, print_json, say
from gatecast.compute.progress import TerminalBars, printable
from gatecast.errors import InterruptedRunError, SettingsError, hidden
from gatecast.market.reading import TABLES
from gatecast.notebook import share_text


@with_bars_options()
def audit(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")
    ] = None,
    *,
    options: dict[str, Any],
    quick: Annotated[bool, typer.Option("--quick", help="Only what needs no fitting.")] = False,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Rerun the chain with later bars removed or replaced and list leaks; exit status 1 if one is found."""
    from gatecast.audits.full import audit as audit_chain

    experiment = experiment_of(config, {"bars": {"source": bars, **options}})
    with TerminalBars() as progress:
        result = audit_chain(experiment, full=not quick, progress=progress, machine=machine_of(jobs))
    if as_json:
        print_json(result.to_dict())
    else:
        make_console().print(result.summary(), markup=False, soft_wrap=True)
    if not result.clean:
        raise typer.Exit(1)


@with_bars_options(*READING.keys() - {*TABLES})
def unseal(
    folder: RunFolder,
    bars: Annotated[str, typer.Option(help="The run's bars with those of the hold-out: as for `gatecast run`.")],
    *,
    options: dict[str, Any],
    again: Annotated[bool, typer.Option("--again", help="Open it once more; the report says so.")] = False,
    jobs: Jobs = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Open the hold-out of a run, once: each gain before and in the hold-out.

    Bars are read as the run read its own; the files are named here, as the settings in a run's folder open no other.
    """
    from gatecast.store import check_place, load_run, locked, replacement, save_run
    from gatecast.studies.unseal import unseal as open_holdout

    sealed = load_run(folder)
    with locked(check_place(folder)):
        with TerminalBars() as progress:
            run = open_holdout(
                sealed, bars=bars, again=again, progress=progress, machine=machine_of(jobs, storage), **options
            )
        run = save_run(run, folder)
        replaced = replacement(run)
        page = draw_page(run, folder)
    found = run.scores["holdout"]
    if as_json:
        print_json({"path": str(folder), "report": str(page) if page else None, "replaced": replaced, **found})
    else:
        for line in (*(one["sentence"] for one in found["heads"]), found["sentence"], *page_line(page)):
            make_console().print(printable(line), markup=False, soft_wrap=True)
    say(replaced)


def truth(
    long: Annotated[bool, typer.Option("--long", help="With as many runs as the gates were made for.")] = False,
    nulls: Annotated[
        bool, typer.Option("--nulls", help="Instead: markets without skill, and who claims some.")
    ] = False,
    runs: Annotated[int | None, typer.Option(help="Of each null; the limits were made for 30.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measured and best attainable scores on simulated markets; exit status 1 if a required score is missed.

    With --nulls the chain without its networks runs 30 times on each of 15 markets without skill.
    """
    from gatecast.studies.nulls import RUNS, Nulls
    from gatecast.studies.nulls import nulls as run_nulls
    from gatecast.studies.truth import Truth
    from gatecast.studies.truth import truth as run_bench

    if runs is not None and not nulls:
        raise SettingsError("--runs is for --nulls: the other bench has --long.")
    found: Nulls | Truth
    with TerminalBars() as progress:
        if nulls:
            found = run_nulls(runs=RUNS if runs is None else runs, jobs=core_count(), progress=progress)
        else:
            found = run_bench(long=long, jobs=core_count(), progress=progress)
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(found.summary(), markup=False, soft_wrap=True)
    if not found.passed:
        raise typer.Exit(1)


@with_bars_options()
def placebo(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")
    ] = None,
    *,
    options: dict[str, Any],
    copies: Annotated[int, typer.Option(help="Copies without predictability; 199 for a p-value of .005.")] = 199,
    out: Annotated[Path | None, typer.Option(help="Where copies are kept.", show_default="runs/<name>.placebo")] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Rank a run among runs on copies of its market without predictability.

    Every copy is kept as it ends: stopped, the same command goes on.
    """
    from gatecast.studies.placebo import placebo as rank

    experiment = experiment_of(config, {"bars": {"source": bars, **options}})
    name = experiment.name if config else Path(bars or "embedded").stem or "bars"
    folder = out or Path("runs") / f"{as_folder(name)}.placebo"
    try:
        with TerminalBars() as progress:
            found = rank(experiment, copies=copies, folder=folder, progress=progress, machine=machine_of(jobs))
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted. Finished copies are kept in {printable(folder)}: the same command goes on from there."
        ) from None
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(found.summary(), markup=False, soft_wrap=True)


@with_bars_options()
def tune(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")
    ] = None,
    *,
    options: dict[str, Any],
    trials: Annotated[int | None, typer.Option(help="Candidates a class and date.", show_default="8")] = None,
    every: Annotated[str | None, typer.Option(help="From one search to the next: 1Y, 3M, 1M.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Instead, a budget of time a class and date.")] = None,
    storage: Storage = None,
    jobs: Jobs = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run it belongs to.", show_default="runs/<name>")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search for the LSTM's settings at every tuning date; compare gain and cost with the given settings.

    Candidates are kept as they end: stopped, the same command goes on, and `gatecast run` with the same settings makes
    no search twice. The file of studies is Optuna's: optuna-dashboard opens it.
    """
    from gatecast.compute.cluster import cluster
    from gatecast.forecasting.tuning.search import file_of
    from gatecast.store import check_place, discard, locked, studies, unfinished
    from gatecast.studies.tune import tune as search

    changes = {
        "name": None if config else "embedded" if bars is None else Path(bars).stem or "bars",
        "bars": {"source": bars, **options},
        "tuning": {"trials": trials, "every": every, "seconds": seconds},
    }
    experiment = experiment_of(config, changes)
    place = check_place(out or Path("runs") / as_folder(experiment.name))
    kept = unfinished(place)
    machine = machine_of(jobs, storage or studies(place), kept)
    address = hidden(str(file_of(machine.studies) or machine.studies))
    try:
        with locked(place), cluster(backend, scheduler), TerminalBars() as progress:
            found = search(experiment, progress=progress, machine=machine)
            discard(kept)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted. Candidates that were tried are kept in {printable(address)}: the same command goes on "
            "from there."
        ) from None
    if as_json:
        print_json({"studies": address, **found.to_dict()})
    else:
        make_console().print(printable(found.summary()), markup=False, soft_wrap=True)


@with_bars_options()
def cadence(
    config: Annotated[Path | None, typer.Argument(help="Settings (TOML); `gatecast init` writes one.")] = None,
    bars: Annotated[
        str | None, typer.Option(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")
    ] = None,
    *,
    options: dict[str, Any],
    seeds: Annotated[int | None, typer.Option(help="Networks in the LSTM ensemble.")] = None,
    jobs: Jobs = None,
    out: Annotated[Path | None, typer.Option(help="Draw it into this HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score and cost of LSTMs refitted monthly, quarterly, yearly and never, and of warm starts, on the same rows."""
    from gatecast.studies.cadence import cadence as compare

    out = None if out is None else output_file(out)
    experiment = experiment_of(config, {"model": seeded(seeds), "bars": {"source": bars, **options}})
    with TerminalBars() as progress:
        found = compare(experiment, progress=progress, machine=machine_of(jobs))
    if out is not None:
        from gatecast.report.cadence import render_cadences

        write_output(out, render_cadences(found))
    if as_json:
        print_json(found.to_dict())
    else:
        make_console().print(found.summary(), markup=False, soft_wrap=True)


def capacity(
    folder: RunFolder,
    costs: Annotated[list[float] | None, typer.Option(help="Multiple of the costs; may be given again.")] = None,
    capital: Annotated[list[float] | None, typer.Option(help="Money to begin with; may be given again.")] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """The net result of a run's book at multiples of its costs, and with more and less money.

    Without options: 0, 0.5, 1, 2, 3 and 5 times the costs, and 10,000 to a billion. The book is run again for each with
    the forecasts of the run: three seconds of a core for two symbols over 17 years.
    """
    from datetime import date

    from gatecast.store import chain_of, load_run
    from gatecast.studies.capacity import CAPITALS, COSTS
    from gatecast.studies.capacity import capacity as run_again

    run = load_run(folder)
    days = ((run.scores.get("book") or {}).get("curve") or {}).get("day") or []
    found = run_again(
        run.experiment, chain_of(run), costs=costs or COSTS, capitals=capital or CAPITALS,
        since=date.fromisoformat(days[0]) if days else None,
        jobs=core_count() if jobs is None else jobs, actions_known=run.actions is not None,
    )  # fmt: skip
    if as_json:
        print_json({"run": str(folder), **found.to_dict()})
        return
    console = make_console()
    for title, name, rows in (
        ("Costs", "times the costs", [(f"{one.costs:g}", one) for one in found.costs]),
        ("Capital", f"capital, {found.currency}", [(f"{one.capital:,.0f}", one) for one in found.capital]),
    ):
        columns = (name, "result a year", "beyond cash", "volatility", "Sharpe ratio", "cost", "turnover", "gross")
        cells = [
            (first, *(share_text(value, ".2%") for value in (one.result, one.excess, one.volatility)),
             share_text(one.sharpe, ".2f"), share_text(one.cost, ".2%"), f"{one.turnover:.2f}", f"{one.gross:.2f}")
            for first, one in rows
        ]  # fmt: skip
        console.print(make_table(columns, cells, title))
    for line in found.sentences:
        console.print(printable(line), markup=False, soft_wrap=True)
