"""Text on the terminal: results on standard output, everything else on standard error; tables, JSON, a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatecast.compute.progress import printable
from gatecast.notebook import interval_text, moment_text, share_text

if TYPE_CHECKING:
    from rich.console import Console

    from gatecast.compute.estimate import Cost
    from gatecast.experiment import Experiment
    from gatecast.runs import Run


TABLE_WIDTH = 140
"""Columns of a terminal that are enough for every table: one that is wider folds its cells."""


def make_console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=160)


def say(text: str) -> None:
    """A line that is no result, on standard error."""
    make_console(stderr=True).print(printable(text), markup=False, soft_wrap=True)


def draw_page(run: Run, folder: Path) -> Path | None:
    """Draws the page of a saved run and returns its path; where it cannot be written, says so and returns None.

    The run is saved without it, so that this is no reason to end without a verdict.
    """
    from gatecast.errors import StoreError
    from gatecast.report import render
    from gatecast.store import write_page

    try:
        return write_page(folder, render(run))
    except StoreError as error:
        say(f"warning: {error}")
        return None


def page_line(page: Path | None) -> list[str]:
    """The line that says where the page is; none where it could not be written."""
    return [f"Report: {brief_path(page)}"] if page else []


def complain(text: str) -> None:
    try:
        from rich.text import Text

        message = Text.assemble(("error: ", "bold red"), printable(text))
        make_console(stderr=True).print(message, soft_wrap=True)
    except (ImportError, MemoryError):  # where memory is short, the last thing that is said
        print(f"error: {printable(text)}", file=sys.stderr)


def print_json(value: dict[str, Any]) -> None:
    from gatecast.files import jsonable

    sys.stdout.write(json.dumps(jsonable(value), allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def make_table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str | None = None) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(cell)) for cell in row))
    return table


def show_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console, narrow: Sequence[str] = ()
) -> Sequence[str]:
    """A table with a line for each row; where it does not fit its columns `narrow`, else a line for each cell.

    Returns the columns that it shows.
    """
    from rich.text import Text

    cells = [tuple("-" if cell is None else str(cell) for cell in row) for row in rows]
    needed = sum(max(map(len, column)) + 3 for column in zip(columns, *cells, strict=True))
    if console.width >= min(needed, TABLE_WIDTH):
        console.print(make_table(columns, cells))
        return columns
    if narrow:
        places = [columns.index(name) for name in narrow]
        console.print(make_table(narrow, ([row[place] for place in places] for row in cells)))
        return narrow
    for row in cells:
        for place, (name, cell) in enumerate(zip(columns, row, strict=True)):
            console.print(Text(f"{'  ' * (place > 0)}{name}: {printable(cell)}"), soft_wrap=True)
        console.print()
    return columns


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def value_text(value: object) -> object:
    """A value of a table: a number in four digits, a dash where it is none."""
    return share_text(value, ".4g") if isinstance(value, float) else value


def _interval(verdict: dict[str, Any]) -> str:
    """The gain and its interval in percent, or a dash; where all of it is nothing, 0.0% once.

    >>> _interval({"effect": 1e-9, "low": -1e-9, "high": 1e-9}), _interval({"effect": 2e-4, "low": 1e-4, "high": 4e-4})
    ('0.0%', '+0.020% (+0.010% to +0.040%)')
    """
    effect, low, high = (verdict[name] for name in ("effect", "low", "high"))
    if effect is None or low is None or high is None:
        return "-"
    from gatecast.evaluation.conclusion import in_percent

    if max(abs(one) for one in (effect, low, high)) < 0.5e-6:
        return "0.0%"
    return in_percent(effect, low, high)


def brief_path(path: Path) -> Path:
    """Relative to the current folder where it is inside."""
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:  # the current folder was removed
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path


def show_run(run: Run, page: Path | None, cost: Cost, console: Console) -> None:
    """The verdict first, then what it rests on and where to read on."""
    from rich.text import Text

    from gatecast.evaluation.findings import said_of
    from gatecast.evaluation.risk import quoted
    from gatecast.forecasting.panel import model_phrase

    summary, scores = run.scores.get("summary") or {}, run.scores
    console.print(Text(printable(summary.get("headline", "")), style="bold"))
    console.print(Text(printable(summary.get("subline", ""))))
    rows = (
        (
            head, verdict["verdict"],
            _interval(verdict), "-" if verdict["pvalue_trials"] is None else f"{verdict['pvalue_trials']:.3f}",
            model_phrase(verdict.get("most_in_force") or verdict["rival"]),
        )
        for head, verdict in run.verdicts.items()
    )  # fmt: skip
    console.print(
        make_table(
            ("head", "verdict", "gain (90 % interval)", "p, corrected", "against"),
            rows,
            printable(run.experiment.name),
        )
    )
    for head, verdict in run.verdicts.items():
        if verdict["effect"] is None and verdict.get("sentence"):
            console.print(Text(printable(f"{head}: {verdict['sentence']}")), soft_wrap=True)
    for sentence in quoted(run.verdicts.get("risk") or {}):
        console.print(Text(printable(sentence)), soft_wrap=True)
    control = scores.get("control")
    if control:
        found = [head for head, verdict in control["verdicts"].items() if verdict["verdict"] == "evidence of skill"]
        said = f"evidence of skill in {', '.join(found)}" if found else "no evidence of skill"
        what = f"Planted market {control['name']}, beside it: {said}. {control.get('sentence') or ''}"
        console.print(Text(printable(what.strip())), soft_wrap=True)
    for line in said_of(scores.get("findings") or []):
        console.print(Text(printable(line)), soft_wrap=True)
    warnings = scores.get("warnings") or []
    for warning in warnings[:5]:
        console.print(Text(f"warning: {printable(warning)}", style="yellow"), soft_wrap=True)
    if len(warnings) > 5:
        console.print(Text(f"and {len(warnings) - 5} more warnings, in the report", style="yellow"))
    refits: dict[str, int] = {}
    for fold in scores.get("folds") or []:
        refits[fold["asset_class"]] = refits.get(fold["asset_class"], 0) + 1
    told = ", ".join(f"{name} {count}" for name, count in refits.items())
    every = run.experiment.schedule.refit
    console.print(Text(f"Refits ({every}): {told}. Time: {int(cost.seconds // 60)} min {cost.seconds % 60:.0f} s."))
    if refused := len(scores.get("refused") or []):
        console.print(Text(f"{counted(refused, 'refit')} refused by the guard, with reasons in the report."))
    peak = cost.peak_memory_bytes
    memory = f"{peak / 1e9:.2f} GB of memory at most in the main process, " if peak else ""
    symbols = counted(run.bars["symbol"].n_unique(), "symbol")
    console.print(
        Text(f"{len(run.bars):,} bars of {symbols}: {memory}{cost.bars_per_second:,.1f} bars a second, all included.")
    )
    for line in page_line(page) or [f"Run: {run.path}"]:
        console.print(Text(printable(line)), soft_wrap=True)


def show_forecasts(
    rows: list[dict[str, Any]], warnings: Iterable[str], experiment: Experiment, console: Console
) -> None:  # fmt: skip
    """A table with a line for each symbol, or on a narrow terminal a line for each number; then notes and warnings."""
    from rich.text import Text

    signals = rows[0]["signal_title"] if rows else "model"
    overridden = [one for one in dict.fromkeys(warnings) if "the settings set evidence = " in one][:1]
    for first in overridden:
        console.print(Text(printable(first), style="yellow"), soft_wrap=True)
    columns = (
        "symbol", "bar", "P(rise)", "expected return, log", f"s.d. over {experiment.horizon} bars, close to close",
        "interval, log", "P(turbulent)", f"{signals} signal", f"{signals} z", "strategy", "position alone", "position",
    )  # fmt: skip
    can_agree = experiment.signals.can_agree
    show_rows(columns, [_forecast_cells(row, can_agree) for row in rows], console)
    console.print(
        Text(
            "P(rise) to P(turbulent): forecasts of the ensemble. Position alone: before the symbols share the capital."
        )
    )
    book = [row["book"] for row in rows if row["book"] is not None]
    if book:
        long, short = (sum(side * weight for weight in book if side * weight > 0) for side in (1, -1))
        console.print(Text(f"The strategies' positions: {long:.1%} of capital long, {short:.1%} short."))
    for row in rows:
        reason = [f"{row['reason']}."] if row["current"] and row.get("reason") else []
        for said in (*row["notes"], *reason):
            console.print(Text(f"{printable(row['symbol'])}: {printable(said)}"), soft_wrap=True)
    for warning in [one for one in dict.fromkeys(warnings) if one not in overridden]:
        console.print(Text(f"warning: {printable(warning)}", style="yellow"), soft_wrap=True)


def _forecast_cells(row: dict[str, Any], can_agree: bool) -> tuple[str, ...]:
    """One line of the table of forecasts; dashes where there is none of today's bar."""
    words = {1: "bullish", 0: "none", -1: "bearish"}
    states = {"no bar": "no bar today", "no trade": "no trade today", "ended": row["end"]}
    moment = f"{moment_text(row['newest_bar'])}"
    if not row["current"]:
        return (row["symbol"], f"{moment}, {states.get(row['today'], 'no forecast')}", *["-"] * 10)
    base = "base rate" if row["base_rate_up"] is None else f"base rate {row['base_rate_up']:.1%}"
    beyond = base if row["probability_beyond_base_rate"] else f"not beyond {base}"
    expected = share_text(row["expected_return_log"], "+.2%")
    return (
        row["symbol"], moment, f"{share_text(row['probability_up'], '.1%')} ({beyond})",
        expected if row["beyond_base_rate"] else f"{expected} (not beyond the base rate)",
        share_text(row["standard_deviation"], ".2%"), _ends(row["intervals"]),
        share_text(row["regime_probability"], ".1%"),
        words[int(row["signal"])] + (", consensus" if row["consensus"] and can_agree else ""),
        share_text(row["z"], "+.2f"),
        row["strategy_title"], share_text(row["weight"], "+.1%"), share_text(row["book"], "+.2%"),
    )  # fmt: skip


def _ends(intervals: list[dict[str, Any]]) -> str:
    """The narrowest interval of the last step, as simple returns."""
    if not intervals:
        return "-"
    return f"{intervals[0]['level']:.0%}: {interval_text(intervals[0]['low'][-1], intervals[0]['high'][-1])}"
