"""`explain`: why forecasts and positions of a run or a store are what they are, and what the last refit changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from gatecast.arguments import checked
from gatecast.compute.progress import Progress, shown
from gatecast.errors import SettingsError, StoreError, did_you_mean
from gatecast.explanations.changes import Change, changes_of, importances_of
from gatecast.explanations.decisions import decision_of
from gatecast.explanations.forecasts import HeadSays, forecasts_of, told_models
from gatecast.explanations.moments import NO_BAR, Moment, Origin, Refit, origin_of
from gatecast.explanations.reasons import Explanation
from gatecast.explanations.words import BRIEF, brief, shown_steps, step_name, told
from gatecast.files import jsonable
from gatecast.forecasting.panel import model_titles
from gatecast.live.gates import WITHOUT_FORECAST
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.reading import as_utc
from gatecast.notebook import Shown, draw_steps, html
from gatecast.runs import Run
from gatecast.samples.targets import HEADS

EXPLAINING = "explaining"
"""The stage as which progress is told."""
MOST_REFITS = 120
SAME = 1e-9
"""Shares of equity that differ by no more are the same."""
ONE_REFIT = "there is one refit alone whose fits are there, so that it is compared with none"
NO_PART = "no model of both refits says what its inputs add, or none of their inputs adds anything"
SHOWN = 10
"""Symbols that a text of the whole shows."""


@dataclass(frozen=True)
class Explained(Shown):
    """What `explain` found: an explanation a symbol, `changes` since the refits before, `importance` of the inputs.

    `path`: the folder, None of a run in memory; `kind`: run or store. `titles`: model -> title. `left_out`: symbol ->
    why it could not be explained, where all were asked for. `unchanged`: asset class -> why no refits were compared,
    where they should have been.
    """

    path: Path | None
    kind: str
    explanations: tuple[Explanation, ...]
    changes: tuple[Change, ...] = ()
    importance: tuple[Mapping[str, Any], ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict, repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict)
    unchanged: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        count = len(self.explanations)
        lines = [f"Explained: {count} symbol{'s' * (count != 1)}" + (f" of {self.path}" if self.path else "")]
        lines += [f"  {one!r}" for one in self.explanations[:SHOWN]]
        lines += [f"  and {count - SHOWN} more"] if count > SHOWN else []
        return "\n".join([*lines, *(f"  {name}: {why}" for name, why in self.left_out.items())])

    def plot(self) -> Any:
        """A Plotly figure: the steps of each decision that change something, and at their end what is held."""
        several, steps = len(self.explanations) > 1, list[tuple[str, float | None, float]]()
        for one in self.explanations:
            whose = f"{one.symbol}: " if several else ""
            steps += [(whose + step_name(step, self.titles), step.change, step.after) for step in shown_steps(one)]
            end = "the strategies' weight" if one.decision.order is None else "held after the order"
            steps.append((whose + end, None, one.decision.held))
        of = "" if several or not steps else f" of {self.explanations[0].symbol}, {self.explanations[0].time:%Y-%m-%d}"
        return draw_steps(steps, f"From votes to what is held{of}", "weight")

    def _repr_html_(self) -> str:
        """As `gatecast explain` shows it: of one symbol why, of several a line each."""
        if len(self.explanations) == 1:
            said = list(told(self.explanations[0], self.titles))
            sentences = [part for part in said if isinstance(part, str)]
            tables = {
                one.title: [dict(zip(one.columns, row, strict=True)) for row in one.rows]
                for one in said
                if not isinstance(one, str)
            }
        else:
            sentences = [f"{one.symbol}: {one.since}" for one in self.explanations if one.since]
            tables = {"": [dict(zip(BRIEF, brief(one, self.titles), strict=True)) for one in self.explanations]}
        sentences += [f"{name}: {why}" for name, why in self.left_out.items()]
        return html(type(self).__name__, "\n".join(sentences), tables)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = jsonable(
            {
                "path": None if self.path is None else str(self.path), "kind": self.kind,
                "explanations": [one.to_dict() for one in self.explanations],
                "titles": dict(self.titles), "left_out": dict(self.left_out),
                "unchanged": dict(self.unchanged),
                "changes": [one.to_dict() for one in self.changes],
                "importance": [dict(one) for one in self.importance],
            }
        )  # fmt: skip
        return found


@checked
def explain(
    of: Run | str | Path,
    symbol: str | None = None,
    time: datetime | date | None = None,
    *,
    heads: Sequence[str] | None = None,
    refits: int | None = None,
    importance: bool = False,
    now: datetime | None = None,
    progress: Progress | bool | None = None,
    machine: Machine = ONE_CORE,
) -> Explained:
    """Why a symbol is forecast and held as it is: what each model and each input adds, and each step to the order.

    Parameters
    ----------
    of: a run, or the folder of a run or a store. symbol: None for all, each at its newest close. time: the close; a
        date, or a midnight that is no close: the newest of that session; None: the newest. heads: of the forecasts;
        None: all.
    refits: so many refits, the one in force and those before it, are compared; None: two where a symbol is named, else
        one, which is compared with none. A run keeps its last fits alone: earlier ones are fitted again.
    importance: also what forecasts out of sample lose without each input, over the blocks of these refits.
    now: up to which bars of a store count (default: the clock).
    progress: called with "explaining", symbols done and symbols there are; True shows bars, as in `run`.
    machine: where it is made; without effect on the result.

    Raises `SettingsError` for a symbol, close or head that is not there, saying what is; `StoreError` for a folder that
    cannot be read, and for a model whose files are gone.

    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=synthetic.b1(900, seed=1), features=("x",), schedule={"refit": "1Y"}, **few))
    >>> found = explain(done, "B1").explanations[0]
    >>> [one.head for one in found.heads], [one.name for one in found.decision.steps][-1]
    (['return', 'direction', 'volatility', 'regime'], 'cash')
    """
    if isinstance(time, datetime):
        time = as_utc(time, "time")
    with shown(progress) as told:
        if told:
            told(EXPLAINING, 0, 1)
        return explained(
            origin_of(of, None if now is None else as_utc(now, "now")), symbol, time, heads, refits, importance,
            machine.jobs, told,
        )  # fmt: skip


def explained(
    origin: Origin, symbol: str | None = None, time: datetime | date | None = None, heads: Sequence[str] | None = None,
    refits: int | None = None, importance: bool = False, jobs: int = 1, report: Progress | None = None,
) -> Explained:  # fmt: skip
    """As `explain`, of an origin, which may be asked again. `jobs`: cores; `report`: see `progress` there."""
    asked = _heads(heads)
    count = (2 if symbol else 1) if refits is None else refits
    if not 1 <= count <= MOST_REFITS:
        raise SettingsError(f"refits = {count}: expected a number from 1 to {MOST_REFITS}.")
    moments, left_out, report = list[Moment](), dict[str, str](), report or (lambda stage, done, of: None)
    report(EXPLAINING, 0, 1 if symbol is not None else len(origin.newest()))
    for name in (symbol,) if symbol is not None else origin.newest():
        try:
            moments += origin.moments([(name, origin.close(name, time))])
        except (SettingsError, StoreError) as error:
            left_out[name] = str(error)
            if symbol is not None:
                raise
    if left_out and not moments:
        raise SettingsError(f"nothing can be explained: {next(iter(left_out.values()))}")
    found, changes, told = dict[tuple[str, datetime], Explanation](), list[Change](), list[Mapping[str, Any]]()
    titles, unchanged = dict[str, str](), dict[str, str]()
    for group in _groups(moments):
        first = group[0]
        also = {name for head in asked for name in told_models(first.result.forecasts, head)} if importance else ()
        earlier = origin.refits(first, count, also)
        if count > 1 and len(earlier) < 2:
            unchanged[first.asset_class] = ONE_REFIT
        titles |= model_titles(first.result.forecasts.panel)
        says = forecasts_of(group, earlier[0], origin.experiment, asked, jobs=jobs)
        came = {(symbol, time): told for symbol, time, *told in origin.came({one.symbol for one in group}).iter_rows()}
        for one in group:
            key = one.symbol, one.time
            found[key] = _explanation(origin, one, earlier[0], says.get(key, ()), *came.get(key, (None, NO_BAR)))
        new = changes_of(first, earlier, asked)
        if count > 1 and not new:
            unchanged.setdefault(first.asset_class, NO_PART)
        changes += new
        told += importances_of(first, earlier, asked) if importance else []
        report(EXPLAINING, len(found), len(moments))
    each = tuple(found[one.symbol, one.time] for one in moments)
    return Explained(origin.path, origin.kind, each, tuple(changes), tuple(told), titles, left_out, unchanged)


def _heads(heads: Sequence[str] | None) -> tuple[str, ...]:
    for head in heads or ():
        if head not in HEADS:
            raise SettingsError(f"heads: unknown head {head!r}. {did_you_mean(str(head), HEADS)}")
    return tuple(head for head in HEADS if heads is None or head in heads)


def _groups(moments: Sequence[Moment]) -> list[list[Moment]]:
    """Moments of one class, model and fold together, as far as they are of the same bars."""
    found: dict[tuple[str, int | None, int, int], list[Moment]] = {}
    for one in moments:
        found.setdefault((one.asset_class, one.model, one.fold, id(one.result)), []).append(one)
    return list(found.values())


def _explanation(
    origin: Origin, moment: Moment, refit: Refit, heads: tuple[HeadSays, ...], came: float | None, not_come: str | None
) -> Explanation:
    samples, experiment = moment.result.samples, origin.experiment
    decision = decision_of(moment, experiment, origin.book(moment.session))
    known = dict[str, float]()
    if moment.row >= 0:
        known = dict(zip(samples.names, samples.features[samples.ends[moment.row]].tolist(), strict=True))
    issued = origin.holdings(moment.session, moment.symbol)
    same = abs(float(issued["held"]) - decision.held) <= SAME if issued and decision.order is not None else None
    return Explanation(
        moment.symbol, moment.asset_class, moment.time, moment.model, str(refit.cutoff), samples.horizon, known, heads,
        decision, same, came, not_come or "", moment.sentence if moment.row < 0 else "",
        moment.sentence if moment.row >= 0 and moment.gate in WITHOUT_FORECAST else "", moment.corrected,
    )  # fmt: skip
