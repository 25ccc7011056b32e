"""`gatecast explain`: why a forecast and a position are what they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.cli.options import AsJson, as_close, as_moment
from gatecast.cli.show import make_console, make_table, print_json, say, show_rows
from gatecast.cli.store import Now
from gatecast.compute.progress import TerminalBars, printable

if TYPE_CHECKING:
    from gatecast.explanations.changes import Change

AT_A_TIME = 2
"""Models that are asked at a time: to count the cores takes longer than more of them would save."""
NO_REFIT = "there was no refit of it: it is the fit before"


def explain(
    folder: Annotated[Path, typer.Argument(metavar="RUN|STORE", help="Folder of a run, or of a store.")],
    symbol: Annotated[str | None, typer.Option(help="The symbol.", show_default="all, in brief")] = None,
    time: Annotated[
        str | None, typer.Option(help="The close, or a session's date: its newest close.", show_default="the newest")
    ] = None,
    head: Annotated[list[str] | None, typer.Option(help="return, direction, volatility or regime.")] = None,
    refits: Annotated[
        int | None,
        typer.Option(help="Refits that are compared, the one in force among them.", show_default="2 with --symbol"),
    ] = None,
    importance: Annotated[
        bool, typer.Option("--importance", help="Also what forecasts lose without each input; takes longer.")
    ] = False,
    now: Now = None,
    as_json: AsJson = False,
) -> None:
    """Show why a symbol is forecast and held as it is: what models and inputs add, and each step to the order.

    The inputs of a model add up to its forecast, the models to the ensemble's expected return, and the steps from the
    models' votes to what is held. Stability compares the inputs' shares with those of the refit before: 1 where they
    are the same. A run keeps its last fits alone: those of earlier refits are fitted again.
    """
    from gatecast.explanations import explain as explained
    from gatecast.explanations.words import BRIEF, brief, told
    from gatecast.machine import Machine

    with TerminalBars() as progress:
        found = explained(
            folder, symbol, as_close(time, "--time"), heads=head or None, refits=refits, importance=importance,
            now=as_moment(now), progress=progress, machine=Machine(jobs=AT_A_TIME),
        )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
        return
    console = make_console()
    if symbol is None:
        if not found.explanations:
            say("nothing was decided yet.")
            return
        show_rows(BRIEF, (brief(one, found.titles) for one in found.explanations), console)
        since = {one.symbol: one.since for one in found.explanations if one.since}
        for name, why in {**since, **found.left_out}.items():
            console.print(printable(f"{name}: {why}"), markup=False, soft_wrap=True)
    for one in found.explanations if symbol is not None else ():
        for part in told(one, found.titles, whole=bool(head)):
            if isinstance(part, str):
                console.print(printable(part), markup=False, soft_wrap=True)
            else:
                console.print(make_table(part.columns, part.rows, part.title), markup=False)
    for name, why in found.unchanged.items():
        console.print(printable(f"What the last refit changed ({name}): {why}."), markup=False, soft_wrap=True)
    if found.changes:
        changed = ("head", "model", "part", "refits", "stability", "between seeds", "most changed")
        title = "What changed since the refit before (1: the inputs add as before)"
        console.print(make_table(changed, map(partial(_change, found.titles), found.changes), title))
    if found.importance:
        columns = ("head", "model", "input", "loss", "more without its order", "forecasts")
        rows = (_importance(one, found.titles) for one in found.importance)
        console.print(make_table(columns, rows, "What inputs are worth out of sample"))


def _change(titles: Mapping[str, str], one: Change) -> tuple[object, ...]:
    """A line of what changed since the refit before."""
    moved = "; ".join(
        f"{each.input}{f' {each.lag} bars ago' if each.lag else ''} {each.before:.1%} to {each.now:.1%}"
        f"{', the other way round' if each.turned else ''}"
        for each in one.moved[:2]
    )
    seeds = "" if one.between_seeds is None else f"{one.between_seeds:.2f}"
    refits = f"{one.before[:10]}, {one.refit[:10]}"
    if not one.refitted:
        return (one.head, titles.get(one.model, one.model), one.part, refits, "not refitted", "", NO_REFIT)
    return (one.head, titles.get(one.model, one.model), one.part, refits, f"{one.stability:.2f}", seeds, moved)


def _importance(one: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[object, ...]:
    """A line of what an input is worth."""
    return (
        one["head"], titles.get(one["model"], one["model"]), one["input"], f"{one['loss']:.4g}",
        f"{one['rise']:+.2g} ± {one['spread']:.2g}", f"{one['rows']:,}",
    )  # fmt: skip
