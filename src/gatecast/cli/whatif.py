"""`gatecast whatif` and `sensitivity`: a run with other settings of what comes after its forecasts, without a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gatecast.cli.options import AsJson, RunFolder, as_setting, output_file, write_output
from gatecast.cli.show import make_console, make_table, print_json
from gatecast.compute.progress import TerminalBars, printable


def whatif(
    folder: RunFolder,
    to: Annotated[list[str], typer.Option("--set", help="NAME=VALUE, as book.size.book_band=0.1; may be given again.")],
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="Judge it as well, which takes as long as for a run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The money of a run with other settings of what comes after its forecasts; nothing is fitted, and one trial added.

    Settings of signals, strategies, selection, costs and book, by their names in the settings; a name alone where no
    other section has it; band and target are the book's band and target volatility; none leaves a setting out.
    """
    from gatecast.report.sensitivity import value_text
    from gatecast.report.words import measured
    from gatecast.store import load_run
    from gatecast.whatif import FIGURES

    changes = dict(as_setting(text, "--set") for text in to)
    with TerminalBars() as progress:
        progress("chain", 0, 2)
        run = load_run(folder)
        before = run.stored.itself.figures
        progress("chain", 1, 2)
        found = run.with_(**changes)
        after, said = found.to_dict(), found.verdicts if verdicts else {}
        progress("chain", 2, 2)
    if as_json:
        more = {"verdicts": said} if verdicts else {}
        print_json({"run": str(folder), **after, "before": before, **more})
        return
    console = make_console()
    for name, (one, other) in found.changes.items():
        console.print(printable(f"{name}: {value_text(one)} -> {value_text(other)}"), markup=False, soft_wrap=True)
    rows = [
        (FIGURES[name], *(measured(one[name], name) for one in (before, found.figures))) for name in FIGURES
    ]  # fmt: skip
    console.print(make_table((after["of"], "as it is", "what if"), rows))
    lines = [f"{head}: {one['verdict']}" for head, one in said.items()]
    known = "not known" if after["trials"] is None else f"{after['trials']:,}"
    for line in (*lines, *after["unread"], f"Trials on this market, this one included: {known}."):
        console.print(printable(line), markup=False, soft_wrap=True)


def sensitivity(
    folder: RunFolder,
    over: Annotated[list[str], typer.Option(help="NAME=VALUE,VALUE,...: a setting and its values; twice.")],
    metric: Annotated[str, typer.Option(help="sharpe, certainty_equivalent or turnover.")] = "sharpe",
    out: Annotated[Path | None, typer.Option(help="Draw it into this HTML or SVG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """A map of two settings of a run: its money in each cell on the stored forecasts; every cell is a trial.

    The run's own setting is among the cells. A cliff is told where it is better than all its neighbours by more than
    two standard errors. Settings are named as for `gatecast whatif`.
    """
    from gatecast.report.sensitivity import number, render_sensitivity, sensitivity_svg, value_text
    from gatecast.store import load_run
    from gatecast.studies.sensitivity import sensitivity as make_map

    place = None if out is None else output_file(out, (".html", ".svg"))
    asked: dict[str, Any] = dict(as_setting(text, "--over", several=True) for text in over)
    with TerminalBars() as progress:
        found = make_map(load_run(folder), asked, metric=metric, progress=progress)
    if place is not None:
        write_output(place, (sensitivity_svg if place.suffix.lower() == ".svg" else render_sensitivity)(found))
    if as_json:
        print_json({"path": str(folder), "picture": None if out is None else str(out), **found.to_dict()})
        return
    console, (rows, columns) = make_console(), found.axes
    cells = [
        (value_text(value), *(f"{number(one, metric)}{' *' * ((row, column) == found.chosen)}"
                              for column, one in enumerate(found.values[row].tolist())))
        for row, value in enumerate(rows)
    ]  # fmt: skip
    title = f"{metric.replace('_', ' ')} of the {found.own}; across: {found.settings[1]}; * the run's own"
    console.print(make_table((found.settings[0], *map(value_text, columns)), cells, title))
    for line in (*found.sentences, *([f"Picture: {out}"] if out else [])):
        console.print(printable(line), markup=False, soft_wrap=True)
