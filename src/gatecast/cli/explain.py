"""`gatecast explain`: why a forecast and a position are what they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.cli.options import AsJson, as_close, as_moment
from gatecast.cli.show import make_console, make_table, moment_text, print_json, say, share_text, show_rows
from gatecast.cli.store import Now
from gatecast.compute.progress import TerminalBars, printable

if TYPE_CHECKING:
    from gatecast.explanations import Explanation
    from gatecast.explanations.changes import Change
    from gatecast.explanations.forecasts import HeadSays
    from gatecast.trading.waterfall import Step

SHOWN_INPUTS = 5
"""Inputs of a model that are shown."""
BRIEFLY = 3
"""Inputs that are shown in one cell."""
NAMES = {
    "return": "return, log", "direction": "direction, P(rise)", "volatility": "volatility, log of the variance",
    "regime": "regime, P(turbulent)",
}  # fmt: skip
"""Head -> what its number is."""
SMALL = 5e-5
"""A step that changes a weight by less is left out, unless a gate closed there; a model that adds less adds nothing."""
ALWAYS = ("ensemble", "cash")
"""Steps that are always shown."""
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
    from gatecast.machine import Machine

    with TerminalBars() as progress:
        progress("explaining", 0, 1)
        found = explained(
            folder, symbol, as_close(time, "--time"), heads=head or None, refits=refits, importance=importance,
            now=as_moment(now), machine=Machine(jobs=AT_A_TIME),
        )  # fmt: skip
        progress("explaining", 1, 1)
    if as_json:
        print_json(found.to_dict())
        return
    console = make_console()
    if symbol is None:
        if not found.explanations:
            say("nothing was decided yet.")
            return
        show_rows(BRIEF, (_brief(one, found.titles) for one in found.explanations), console)
        for name, why in found.left_out.items():
            console.print(printable(f"{name}: {why}"), markup=False, soft_wrap=True)
    for one in found.explanations if symbol is not None else ():
        for part in _tables(one, found.titles, whole=bool(head)):
            console.print(part, markup=False, soft_wrap=isinstance(part, str))
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


BRIEF = ("symbol", "close", "expected, log", "most by", "held", "order", "cut by")


def _brief(one: Explanation, titles: Mapping[str, str]) -> tuple[object, ...]:
    """A line of the table of all symbols."""
    most = ""
    for head in one.heads[:1]:
        adds = {model.model: model.adds for model in head.models if abs(model.adds or 0.0) >= SMALL}
        if adds:
            name = max(adds, key=lambda each: abs(adds[each] or 0.0))
            most = f"{titles.get(name, name)} {share_text(adds[name], '+.2%')}"
    return (
        one.symbol, moment_text(one.time), share_text(one.heads[0].value if one.heads else None, "+.2%"), most,
        share_text(one.decision.held, "+.1%"), share_text(one.decision.order, "+.1%"), _cut_by(one),
    )  # fmt: skip


def _cut_by(one: Explanation) -> str:
    """What cut it most: of the book, else of the strategies."""
    from gatecast.trading.waterfall import OF_STRATEGIES

    step = one.decision.gate
    return "" if step is None else f"{'strategies: ' if step.name in OF_STRATEGIES else ''}{step.gate}"


def _tables(one: Explanation, titles: Mapping[str, str], *, whole: bool) -> Iterator[Any]:
    """A symbol's explanation: what was decided, the models, their inputs, the steps; `whole`: every model's inputs."""
    by = f"model {one.model}, refitted" if one.model is not None else "refitted"
    yield printable(
        f"{one.symbol} ({one.asset_class}) at {moment_text(one.time)} UTC, {by} at {one.refit[:10]}, "
        f"the next {one.horizon} bars."
    )
    if one.reason:
        yield printable(f"Nothing was forecast: {one.reason}.")
    if one.not_issued:
        yield printable(
            f"Nobody could trade on what follows: the store issued no forecast at this close ({one.not_issued}). Its "
            "fits say of this bar:"
        )
    if one.known:
        words = one.known_words
        yield printable("Known: " + "; ".join(f"{words[name]} {value:.4g}" for name, value in one.known.items()) + ".")
    if one.came is not None:
        yield f"Came: {one.came:+.2%} (log return)."
    for head in one.heads if whole else ():
        columns = ("model", "says", "adds", "part", "input", "lag", "input adds")
        yield make_table(columns, _rows(head, titles), f"{head.head}: {_whole(head)} ({head.unit})")
    if one.heads and not whole:
        said = ((NAMES.get(head.head, head.head), _whole(head), _models(head, titles)) for head in one.heads)
        yield make_table(("head", "forecast", "the models say"), said, "What is forecast")
    for head in one.heads:
        if head.standard_deviation is not None and head.value == head.value:
            yield printable(
                f"The s.d. is of the return over the horizon, from close to close. The variance itself is that of the "
                f"proxy, of each bar's range mostly: its root is {math.exp(head.value / 2):.2%}."
            )
    if made := [line for head in one.heads for line in _sum(head, titles)]:
        yield make_table(
            ("head", "model", "says", "adds", "forecast after it"), made, "From the models to the forecast"
        )
    if one.heads and not whole:
        most = (line for head in one.heads for line in _most(head, titles))
        yield make_table(("head", "model", "part", "as usual", "says", "what adds most"), most, "Why")
    steps = [each for each in one.decision.steps if _is_shown(each)]
    rows = ((*_step_name(each, titles), f"{each.change:+.2%}", f"{each.after:+.2%}", _gate(each)) for each in steps)
    yield make_table(("step", "what it does", "change", "weight after", "cut by"), rows, "From votes to what is held")
    if one.decision.before is not None and one.decision.order is not None:
        units = one.decision.units or 0.0
        yield (
            f"Held before {one.decision.before:+.2%}, order {one.decision.order:+.2%} of equity "
            f"({units:+,.6g} units), held after it {one.decision.held:+.2%}."
        )
    else:
        yield "The book holds nothing of it at this session, or nothing is kept of it: the steps end at the evidence."
    if one.same is False:
        yield "The book was issued with another holding: bars or settings were corrected since."


def _is_shown(step: Step) -> bool:
    """Whether a step is worth a line: it changes something, or a gate closed there."""
    from gatecast.trading.cuts import ROUNDING

    return abs(step.change) >= SMALL or step.name in ALWAYS or step.gate not in ("", ROUNDING)


def _whole(head: HeadSays) -> str:
    """What is forecast of a head, beside what it is read against: of a variance the s.d., of a rise the base rate."""
    said = _with_deviation(head, head.value)
    return said if head.base_rate_up is None else f"{said} (base rate {number(head.head, head.base_rate_up)})"


def _with_deviation(head: HeadSays, value: float) -> str:
    """A value of a head; of the log of a variance the standard deviation from close to close that follows from it."""
    said = number(head.head, value)
    if head.standard_deviation is None or value != value:
        return said
    return f"{said} (s.d. {head.standard_deviation * math.exp((value - head.value) / 2):.2%})"


def _models(head: HeadSays, titles: Mapping[str, str]) -> str:
    """What the models say of a head, in one cell."""
    said = []
    for one in head.models:
        value = number(head.head, one.value)
        said.append(f"{titles.get(one.model, one.model)} {'by its probability' if value == '-' else value}")
    return "; ".join(said)


def _sum(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
    """A line for what the ensemble starts from and for each model that adds to it; none of a head that is no sum."""
    total = 0.0
    for one in head.models:
        if one.adds is None:
            continue
        total += one.adds
        says, adds = number(head.head, one.value), number(head.head, one.adds, signed=True)
        begins = one.model == head.starts_from
        name = titles.get(one.model, one.model) + (", the start" if begins else "")
        yield (head.head, name, says, "" if begins else adds, _with_deviation(head, total))


def _most(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
    """A line for each part of the networks, and of the linear model that adds most, or is the first."""
    from gatecast.forecasting.attribution import RECURRENT

    told = [one for one in head.models if any(part.part == RECURRENT for part in one.parts)]
    others = [one for one in head.models if one.parts and one not in told]
    for one in [*told, *sorted(others, key=lambda each: -abs(each.adds or 0.0))[:1]]:
        for part in one.parts:
            inputs = "; ".join(
                f"{name}{f' {lag} bars ago' if lag else ''} {number(head.head, adds, signed=True)}"
                for name, lag, adds in part.inputs[:BRIEFLY]
            )
            base, says = (number(head.head, value) for value in (part.base, part.output))
            yield (head.head, titles.get(one.model, one.model), part.part, base, says, inputs)


def _rows(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
    """The lines of a head's table: each model, and under it the inputs that add most."""
    from gatecast.forecasting.attribution import RECURRENT

    for one in head.models:
        said = number(head.head, one.value), "" if one.adds is None else number(head.head, one.adds, signed=True)
        name = titles.get(one.model, one.model)
        inputs = [(part.part, *each) for part in one.parts for each in part.inputs[:SHOWN_INPUTS]]
        if not inputs:
            yield (name, *said, "", "", "", "")
        for place, (part, given, lag, adds) in enumerate(inputs):
            own = (name, *said) if place == 0 else ("", "", "")
            yield (*own, part, given, lag if part == RECURRENT else "", number(head.head, adds, signed=True))


def number(head: str, value: float | None, *, signed: bool = False) -> str:
    """A value of a head, or what is added to it, as text.

    >>> number("return", 0.0123), number("volatility", -7.5), number("direction", -0.02, signed=True)
    ('+1.23%', '-7.500', '-2.00%')
    """
    if value is None or value != value:
        return "-"
    if head == "volatility":
        return f"{value:{'+' if signed else ''}.3f}"
    return share_text(value, "+.2%" if signed or head == "return" else ".2%")


def _gate(step: Step) -> str:
    return f"{step.gate}: {step.sentence}" if step.gate else ""


def _step_name(step: Step, titles: Mapping[str, str]) -> tuple[str, str]:
    from gatecast.trading.waterfall import SENTENCES

    name = f"vote of the {titles.get(step.of, step.of)}" if step.name == "vote" else step.name
    name = f"{name}: {step.of.replace('_', ' ')}" if step.name == "strategy" and step.of else name
    return name, SENTENCES[step.name]


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
