"""An explanation in words: sentences and tables of text, which the command and a notebook show alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gatecast.forecasting.attribution import RECURRENT
from gatecast.notebook import share_text
from gatecast.trading.cuts import ROUNDING
from gatecast.trading.waterfall import OF_STRATEGIES, SENTENCES

if TYPE_CHECKING:
    from gatecast.explanations.forecasts import HeadSays
    from gatecast.explanations.reasons import Explanation
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
BRIEF = ("symbol", "close", "expected, log", "most by", "held", "order", "cut by")
"""Columns of `brief`."""


class Table(NamedTuple):
    """A table of text: its title, the names of its columns, and its rows."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def brief(one: Explanation, titles: Mapping[str, str]) -> tuple[str, ...]:
    """A line of the table of all symbols; without a forecast where none was issued, as in `today`."""
    most, heads = "", () if one.not_issued else one.heads
    for head in heads[:1]:
        adds = {model.model: model.adds for model in head.models if abs(model.adds or 0.0) >= SMALL}
        if adds:
            name = max(adds, key=lambda each: abs(adds[each] or 0.0))
            most = f"{titles.get(name, name)} {share_text(adds[name], '+.2%')}"
    return (
        one.symbol, f"{one.time:%Y-%m-%d %H:%M}", share_text(heads[0].value if heads else None, "+.2%"), most,
        share_text(one.decision.held, "+.1%"), share_text(one.decision.order, "+.1%"), _cut_by(one),
    )  # fmt: skip


def _cut_by(one: Explanation) -> str:
    """What cut it most: of the book, else the strategies' gate, also where nothing was left for it to cut."""
    gates = (each for each in one.decision.steps if each.name in OF_STRATEGIES and each.gate)
    step = one.decision.gate or next(gates, None)
    return "" if step is None else f"{'strategies: ' if step.name in OF_STRATEGIES else ''}{step.gate}"


def told(one: Explanation, titles: Mapping[str, str], *, whole: bool = False) -> Iterator[str | Table]:
    """A symbol's explanation: what was decided, the models, their inputs, the steps; `whole`: every model's inputs."""
    by = f"model {one.model}, refitted" if one.model is not None else "refitted"
    yield (
        f"{one.symbol} ({one.asset_class}) at {one.time:%Y-%m-%d %H:%M} UTC, {by} at {one.refit[:10]}, "
        f"the next {one.horizon} bars."
    )
    yield from filter(None, (one.caution, one.since))
    if one.known:
        words = one.known_words
        yield "Known: " + "; ".join(f"{words[name]} {value:.4g}" for name, value in one.known.items()) + "."
    yield f"What came is not known: {one.not_come}." if one.came is None else f"Came: {one.came:+.2%} (log return)."
    for head in one.heads if whole else ():
        columns = ("model", "says", "adds", "part", "input", "lag", "input adds")
        yield Table(f"{head.head}: {_whole(head)} ({head.unit})", columns, list(_rows(head, titles)))
    if one.heads and not whole:
        said = [(NAMES.get(head.head, head.head), _whole(head), _models(head, titles)) for head in one.heads]
        yield Table("What is forecast", ("head", "forecast", "the models say"), said)
    for head in one.heads:
        if head.standard_deviation is not None and head.value == head.value:
            yield (
                f"The s.d. is of the return over the horizon, from close to close. The variance itself is that of the "
                f"proxy, of each bar's range mostly: its root is {math.exp(head.value / 2):.2%}."
            )
        yield from filter(None, [head.simple_words])
    if made := [line for head in one.heads for line in _sum(head, titles)]:
        yield Table("From the models to the forecast", ("head", "model", "says", "adds", "forecast after it"), made)
    if one.heads and not whole:
        most = [line for head in one.heads for line in _most(head, titles)]
        yield Table("Why", ("head", "model", "part", "as usual", "says", "what adds most"), most)
    rows = [
        (step_name(each, titles), SENTENCES[each.name], f"{each.change:+.2%}", f"{each.after:+.2%}", _gate(each))
        for each in shown_steps(one)
    ]
    yield Table("From votes to what is held", ("step", "what it does", "change", "weight after", "cut by"), rows)
    if one.decision.before is not None and one.decision.order is not None:
        yield (
            f"Held before {share_text(one.decision.before, '+.2%')}, "
            f"{_order(one.decision.order, one.decision.units or 0.0)}, "
            f"held after it {share_text(one.decision.held, '+.2%')}."
        )
    else:
        yield "The book holds nothing of it at this session, or nothing is kept of it: the steps end at the evidence."


def _order(share: float, units: float) -> str:
    """The order in words.

    >>> _order(0.0123, 1200.0), _order(-1e-17, 0.0)
    ('order +1.23% of equity (+1,200 units)', 'no order')
    """
    return f"order {share_text(share, '+.2%')} of equity ({units:+,.6g} units)" if units else "no order"


def shown_steps(one: Explanation) -> list[Step]:
    """The steps that are worth a line: those that change something, or at which a gate closed."""
    return [
        step for step in one.decision.steps
        if abs(step.change) >= SMALL or step.name in ALWAYS or step.gate not in ("", ROUNDING)
    ]  # fmt: skip


def step_name(step: Step, titles: Mapping[str, str]) -> str:
    """A step, with the model whose vote it is, or the strategy in force."""
    name = f"vote of the {titles.get(step.of, step.of)}" if step.name == "vote" else step.name
    return f"{name}: {step.of.replace('_', ' ')}" if step.name == "strategy" and step.of else name


def _gate(step: Step) -> str:
    return f"{step.gate}: {step.sentence}" if step.gate else ""


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


def _sum(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
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


def _most(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """A line for each part of the networks, and of the linear model that adds most, or is the first."""
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


def _rows(head: HeadSays, titles: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """The lines of a head's table: each model, and under it the inputs that add most."""
    for one in head.models:
        said = number(head.head, one.value), "" if one.adds is None else number(head.head, one.adds, signed=True)
        name = titles.get(one.model, one.model)
        inputs = [(part.part, *each) for part in one.parts for each in part.inputs[:SHOWN_INPUTS]]
        if not inputs:
            yield (name, *said, "", "", "", "")
        for place, (part, given, lag, adds) in enumerate(inputs):
            own = (name, *said) if place == 0 else ("", "", "")
            yield (*own, part, given, str(lag) if part == RECURRENT else "", number(head.head, adds, signed=True))


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
