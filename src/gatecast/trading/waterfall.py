"""The waterfall of a decision: votes of the models, step by step, -> what is held of a symbol after its order.

Every step is a number that the decision really went through, in units of weight: of the symbol by itself up to the
evidence, in shares of equity from there on. So the changes add up to what is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatecast.trading.cuts import binding, cuts_of, sentence_of
from gatecast.trading.sizing import SLACK, STAGES, BookView, Cut, Sized

SENTENCES = {
    "vote": "one vote a model, for the side of its own forecast",
    "ensemble": "the side of the ensemble's expected simple return, at full size",
    "strategy": "what the strategy in force holds of it",
    "tilt": "what the book takes of that: alarms make it smaller, and the market held long is left to the core",
    "evidence": "times the evidence factor",
    "core": "what is held whatever is forecast of returns",
    "core size": "the core is scaled to the volatility that is aimed at",
    "tilt share": "what forecasts of returns add is cut to its share of the volatility (`tilt_share`)",
    "volatility": "core and tilt are scaled together to the volatility that is aimed at",
    "caps": "caps on symbol, class, gross, margin and net",
    "band": "what is near enough to the target is not traded",
    "volume": "the share of a session's volume that may be traded",
    "caps again": "the same caps on what is then held, which within the band may be more than the target",
    "lots": "rounded to whole lots",
    "ticket": "trades below the smallest ticket are dropped",
    "cash": "what can be paid for",
}
"""Step -> what it does."""
OF_STRATEGIES = ("strategy", "evidence")
"""Steps at which the strategies' gate stands; the gates of all others are the book's."""


@dataclass(frozen=True)
class Proposed:
    """What the strategies' side decided of a symbol at a close.

    `votes`: model -> its vote, in weight; `ensemble`: the ensemble's side at full size; `strategy`, `proposed`: the
    strategy in force and its weight; `tilt`: what the book takes of it; `evidence`: the factor. `gate`, `sentence`: the
    first gate that closed on the strategies' side, "" where none did.
    """

    votes: Mapping[str, float]
    ensemble: float
    strategy: str
    proposed: float
    tilt: float
    evidence: float
    gate: str = ""
    sentence: str = ""


@dataclass(frozen=True)
class Step:
    """One step: `name` of `SENTENCES`, what it changes, and the weight after it.

    `of`: the model whose vote it is, or the strategy in force. `gate`: the gates that cut there, in order, with commas
    between them, and `sentence` what each means, with semicolons; "" where none did.
    """

    name: str
    change: float
    after: float
    of: str = ""
    gate: str = ""
    sentence: str = ""


@dataclass(frozen=True)
class Waterfall:
    """The steps of a decision; their changes add up to `held`, the share of equity after the order.

    `before`: the share held before it; `order`: the change, and `units` to trade; None without a book, where `held` is
    the strategies' weight. `gate`: what binds, as a step with that gate alone and the change by it: of the book see
    `cuts.binding`; where nothing of the book cut, the strategies' gate, but for evidence that changed nothing.
    """

    steps: tuple[Step, ...]
    held: float
    before: float | None = None
    order: float | None = None
    units: float | None = None
    gate: Step | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, each step with its `words`; `gate` and `gate_sentence`: of the step `gate`."""
        gate = self.gate
        return {
            **vars(self), "steps": [{**vars(one), "words": SENTENCES[one.name]} for one in self.steps],
            "gate": gate.gate if gate else "", "gate_sentence": gate.sentence if gate else "",
        }  # fmt: skip


def waterfall_of(proposed: Proposed, view: BookView | None, sized: Sized | None, symbol: str) -> Waterfall:
    """The steps from the models' votes to what is held of a symbol.

    `view`, `sized`: what sizing saw at the close of its session, and what it made of it (`sizing.trades_of`); without
    them, or where they do not have the symbol, the steps end at the evidence.

    >>> one = waterfall_of(Proposed({"a": 0.2, "b": -0.2}, 0.4, "trend", 0.3, 0.3, 0.5), None, None, "A")
    >>> [(step.name, round(step.change, 6)) for step in one.steps], one.held
    ([('vote', 0.2), ('vote', -0.2), ('ensemble', 0.4), ('strategy', -0.1), ('tilt', 0.0), ('evidence', -0.15)], 0.15)
    """
    steps, now = list[Step](), 0.0
    for model, vote in proposed.votes.items():
        steps.append(Step("vote", vote, now + vote, model))
        now += vote
    if view is None or sized is None or symbol not in view.names:
        reached = _of_strategies(proposed, proposed.tilt, proposed.evidence)
        told = _with(steps, now, reached, proposed, {})
        return Waterfall(told, reached["evidence"], gate=_of_strategy(told))
    place = view.names.index(symbol)
    reached = _of_strategies(proposed, float(view.tilt[place]), float(view.evidence[place]))
    reached["core"] = reached["evidence"] + float(view.core[place])
    reached |= {name: float(sized.stages[name][place]) for name in STAGES}
    held, units = reached[STAGES[-1]], float(sized.trades[place])
    before = _share(view, place)
    cuts, gates = cuts_of(sized, place), dict[str, list[Cut]]()
    for cut in cuts:
        gates.setdefault(cut.stage, []).append(cut)
    told, one = _with(steps, now, reached, proposed, gates), binding(cuts)
    gate = Step(one.stage, one.change, reached[one.stage], "", one.gate, sentence_of(one)) if one else None
    return Waterfall(told, held, before, held - before, units, gate or _of_strategy(told))


def _of_strategy(steps: Sequence[Step]) -> Step | None:
    """The step of the strategies' gate, see `Waterfall`; None where it is open."""
    closed = (one for one in steps if one.name in OF_STRATEGIES and one.gate)
    return next((one for one in closed if one.name != "evidence" or abs(one.change) > SLACK), None)


def _of_strategies(proposed: Proposed, tilt: float, evidence: float) -> dict[str, float]:
    """Step of the strategies after the votes -> weight after it."""
    return {
        "ensemble": proposed.ensemble, "strategy": proposed.proposed, "tilt": tilt, "evidence": tilt * evidence,
    }  # fmt: skip


def _share(view: BookView, place: int) -> float:
    """What is held of a name before its trade, as a share of equity; of a book without any, of 1 as in sizing."""
    units = float(view.held[place])
    return 0.0 if units == 0 else units * float(view.price[place]) / (view.equity if view.equity > 0 else 1.0)


def _with(
    votes: list[Step],
    now: float,
    reached: Mapping[str, float],
    proposed: Proposed,
    gates: Mapping[str, Sequence[Cut]],
) -> tuple[Step, ...]:
    """The votes and a step for each weight that was reached; `gates`: step -> gates of the book, in order."""
    steps = list(votes)
    closed = "evidence" if proposed.gate in ("evidence", "too good", "doubtful", "late claim") else "strategy"
    for name, after in reached.items():
        own = gates.get(name, ())
        gate, sentence = ", ".join(one.gate for one in own), "; ".join(map(sentence_of, own))
        if name == closed and proposed.gate:
            gate, sentence = proposed.gate, proposed.sentence
        of = proposed.strategy if name == "strategy" else ""
        steps.append(Step(name, after - now, after, of, gate, sentence))
        now = after
    return tuple(steps)
