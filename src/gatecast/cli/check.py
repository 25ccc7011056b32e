"""`gatecast check`: reads bars and lists what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gatecast.cli.options import (
    AsJson,
    with_bars_options,
    with_options,
)
from gatecast.cli.show import counted, make_console, make_table, print_json, value_text
from gatecast.notebook import moment_text


@with_bars_options()
def check(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="CSV or Parquet file, folder, glob, embedded or VENDOR:request.")],
    *,
    options: dict[str, Any],
    reference: Annotated[str | None, typer.Option(help="Second source whose closes are compared.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is wrong or odd in bars, and how many more a run takes; exit status 1 when rows had to be left out."""
    from dataclasses import asdict, replace

    from gatecast.experiment import Experiment
    from gatecast.history import history_lacking
    from gatecast.market.bars import findings
    from gatecast.market.classes import asset_class
    from gatecast.market.ends import say_ends
    from gatecast.market.facts import Facts
    from gatecast.market.sources import read_bars, read_with_findings
    from gatecast.market.stale import stale_prices

    whole = {name: value for name, value in options.items() if name not in ("start", "end")}
    compared = read_bars(reference, **whole) if reference else None
    reading = read_with_findings(file, **options, reference=compared)
    known = {str(param.name) for param in context.command.params}
    rank = {"error": 0, "warning": 1, "info": 2}
    noticed = {(one.rule, one.symbol) for one in reading.findings}  # such as late, which is a warning there
    stopped = say_ends(reading.bars, Facts(reading.bars, reading.actions).symbols_ended, reading.actions)
    noted = (*findings(reading.bars), *stale_prices(reading.bars.sort("symbol", "time")), *stopped)
    odd = [one for one in noted if (one.rule, one.symbol) not in noticed]
    found = [
        replace(one, advice=with_options(one.advice, known))
        for one in sorted((*reading.findings, *odd), key=lambda finding: rank[finding.severity])
    ]
    counts = {severity: sum(finding.severity == severity for finding in found) for severity in rank}
    bars, names = len(reading.bars), reading.bars["symbol"].unique().sort().to_list()
    usual = Experiment()
    lacking = history_lacking(reading.bars, usual.schedule, usual.sampling) if bars else {}
    if as_json:
        print_json(
            {
                "file": file,
                "bars": bars,
                "symbols": names,
                "classes": reading.classes.to_dicts(),
                "actions": reading.actions.to_dicts(),
                "history": lacking,
                "counts": counts,
                "findings": [asdict(finding) for finding in found],
            }
        )
    else:
        rows = (
            (one.severity, one.symbol, moment_text(one.time), one.line, one.rule, value_text(one.value), one.advice)
            for one in found
        )
        console = make_console()
        if found:
            console.print(make_table(("severity", "symbol", "time", "line", "rule", "value", "advice"), rows))
        for (name, rule, calendar), own in reading.classes.group_by(
            "asset_class", "rule", "calendar", maintain_order=True
        ):
            shown = ", ".join(own["symbol"].head(8)) + (f" and {len(own) - 8} more" if len(own) > 8 else "")
            named = "" if calendar == asset_class(name).calendar else f", calendar {calendar}"
            console.print(f"class {name} ({rule}){named}: {shown}", markup=False, soft_wrap=True)
        if len(reading.actions):
            verb = "applies" if len(reading.actions) == 1 else "apply"
            console.print(f"{counted(len(reading.actions), 'action')} {verb}.", markup=False, soft_wrap=True)
        summary = ", ".join(counted(count, severity) for severity, count in counts.items() if count)
        told = f"{bars:,} bars of {counted(len(names), 'symbol')} can be used; {summary or 'nothing to note'}."
        console.print(told, markup=False, soft_wrap=True)
        for name, said in lacking.items():
            console.print(f"Too short for a run with default settings ({name}): {said}", markup=False, soft_wrap=True)
    if counts["error"]:
        raise typer.Exit(1)
