"""Bars to decisions to a book: the pipeline on one screen, nothing judged or recorded yet. Start reading here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from threading import Lock
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.compute.disk import Disk
from gatecast.compute.estimate import Work
from gatecast.compute.memory import give_back
from gatecast.compute.parallel import side_by_side
from gatecast.errors import BarsError, SettingsError
from gatecast.evaluation.rivals import with_rival
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.intervals import Intervals, with_intervals
from gatecast.forecasting.drift import Alarm, Alarms, position_factor, watch_inputs, watch_losses
from gatecast.forecasting.forecaster import ALONE, Task
from gatecast.forecasting.guard import GUARD
from gatecast.forecasting.panel import ENSEMBLE, MADE_OF_OTHERS
from gatecast.forecasting.schedule import work_of
from gatecast.forecasting.walkforward import Fits, Forecasts, Issued, Laid, NoRecordError, walk_forward
from gatecast.history import enough_history, history_needed
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.bars import session_date
from gatecast.market.facts import Facts, facts_of
from gatecast.metrics.returns import returns_of_levels
from gatecast.notebook import html
from gatecast.samples.windows import Samples
from gatecast.trading.backtest import Backtest, backtest_of, net_of_class
from gatecast.trading.book import Book, Carried, Course, carry_on
from gatecast.trading.costs import Costs
from gatecast.trading.decisions import Decisions, keys_of, make_decisions
from gatecast.trading.selection import Selection, select_strategy
from gatecast.trading.signals import Signals, make_signals
from gatecast.trading.strategies import Proposals, propose

FloatArray = NDArray[np.float64]

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is to do."""
Refit = Literal["due", "asked", "never"]
Plan = Callable[[dict[str, Work]], None]
"""Called with the work of each asset class, before anything is fitted."""


@dataclass(frozen=True)
class ClassResult:
    """One asset class on its way through: arrays over its samples and bars, and the alarms of drift in time order.

    `inputs`: alarms of the inputs among them, with the refits that they add.
    """

    samples: Samples
    forecasts: Forecasts
    signals: Signals
    proposals: Proposals
    selection: Selection
    net: FloatArray
    alarms: tuple[Alarm, ...] = ()
    inputs: Alarms = field(default_factory=Alarms)

    def with_nothing_held(self, disk: Disk | None = None) -> ClassResult:
        """The same with every weight 0, and no evidence; of several classes, on disk."""
        choice = self.selection
        nothing = np.zeros(len(choice.weight))
        doubtful = np.ones(len(nothing), bool)
        flat = Selection(choice.chosen, choice.score, nothing, choice.proposed, nothing, doubtful, choice.left)
        own = replace(self, selection=flat)
        return disk.store(replace(own, selection=disk.store(flat))) if disk else own

    def with_inputs(self, inputs: Alarms) -> ClassResult:
        """The same with alarms of the inputs, in order of time."""
        alarms = tuple(sorted([*self.alarms, *inputs.alarms], key=lambda one: one.time))
        return replace(self, alarms=alarms, inputs=inputs)

    def as_issued(self, weights: pl.DataFrame) -> ClassResult:
        """The same, weights that were issued as they were: symbol, time, weight; others are left out."""
        at = self.samples.decided[self.forecasts.rows]
        keys = keys_of(self.samples, at).with_columns(_at=pl.Series(at))
        issued = keys.join(weights, on=["symbol", "time"], how="inner")
        weight = self.selection.weight.copy()
        weight[issued["_at"].to_numpy()] = issued["weight"].to_numpy()
        return replace(self, selection=replace(self.selection, weight=weight))

    def stored_on(self, disk: Disk, samples: Samples) -> ClassResult:
        """The same with its arrays on disk; `samples`: its own as they are there already, see `stored_samples`."""
        own = ClassResult(
            samples, self.forecasts.stored_on(disk, samples),
            disk.store(self.signals), disk.store(self.proposals), disk.store(self.selection), self.net, self.alarms,
            self.inputs,
        )  # fmt: skip
        return disk.store(own)


def stored_samples(samples: Samples, disk: Disk) -> Samples:
    """The same on disk: features, answers and facts; what says which row is which stays in memory."""
    targets = {head: disk.store(target) for head, target in samples.targets.items()}
    kept = replace(samples, targets=targets, facts=disk.store(samples.facts))
    return disk.store(kept, "features", "listing", "missed", "known_at_bar", "known_by_bar")


@dataclass(frozen=True)
class Past:
    """What a chain has issued up to a moment: all that a chain over more bars takes over.

    `forecasts`: asset class -> what it issued, and its last fits. `features`: asset class -> names of the features that
    these read. `weights`: symbol, time, weight and book, as they were decided. `settings`: what the forecasts were made
    with, see `Experiment.forecasting`; empty: not known. `alarms`: asset class -> alarms of the inputs; they are looked
    for from there on, or from the first close where a class has none. `carried`: gives what the book goes on from, the
    newest session last, see `trading.book.carry_on`; nothing: it begins at the session `begins`, or as in a run.
    `settled`: the newest session that is carried is not decided again.
    """

    forecasts: Mapping[str, Issued]
    features: Mapping[str, tuple[str, ...]]
    weights: pl.DataFrame
    settings: Mapping[str, Any] = field(default_factory=dict)
    alarms: Mapping[str, Alarms] = field(default_factory=dict)
    carried: Callable[[], Sequence[Carried]] = tuple
    begins: date | None = None
    settled: bool = False


@dataclass(frozen=True, repr=False)
class Chain:
    """What the pipeline made of bars, before anything is judged: by asset class, and the book of all together.

    `facts`: of the bars of all classes, and the delistings that are known. `seconds`: model -> wall-clock time of its
    training, other work at the same time or not. `left_out`: asset class without a single refit -> what it would take.
    `disk`: where the arrays of several classes are. `default_ends`: whether the end of a symbol on terms that nobody
    knows is booked on the usual ones. `book`: settings of the book; `carried`, `begins`, `settled`: see `Past`.
    """

    facts: Facts
    classes: dict[str, ClassResult]
    decisions: Decisions
    costs: Costs
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    disk: Disk | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    default_ends: bool = True
    book: Book = field(default=Book(), repr=False)
    carried: Callable[[], Sequence[Carried]] = tuple
    begins: date | None = None
    settled: bool = False

    def __repr__(self) -> str:
        """At most ten lines: the bars, then a class a line."""
        names = list(self.classes)
        lines = [
            f"  {name}: {len(one.forecasts.rows)} rows forecast by {', '.join(list(one.forecasts.panel)[:12])}"
            for name, one in [*self.classes.items()][:8]
        ]
        rest = [f"  and {len(names) - 8} more classes"] if len(names) > 8 else []
        symbols = self.bars["symbol"].n_unique()
        head = f"Chain: {len(self.bars)} bars of {symbols} symbol{'s' * (symbols != 1)}"
        return "\n".join([head, *lines, *rest])

    def _repr_html_(self) -> str:
        return html("Chain", repr(self))

    def plot(self) -> Any:
        """A Plotly figure: wealth of the strategies, net of costs, and of their benchmark."""
        return self.result.plot()

    @property
    def bars(self) -> pl.DataFrame:
        """The Bars of all classes."""
        return self.facts.bars

    @property
    def actions(self) -> pl.DataFrame:
        """The delistings that are known, see `market.actions`."""
        return self.facts.actions

    @property
    def past(self) -> Past:
        """What it has issued, for a chain that goes on from it."""
        return Past(
            {name: one.forecasts.issued() for name, one in self.classes.items()},
            {name: one.samples.names for name, one in self.classes.items()},
            self.weights, self.settings, {name: one.inputs for name, one in self.classes.items()}, self._carries(),
            self.begins,
        )  # fmt: skip

    @cached_property
    def course(self) -> Course:
        """What the book decided at the sessions since what was carried; made when it is asked for."""
        return carry_on(
            self.classes, self.facts, self.book, self.carried(), self.begins, settled=self.settled
        )  # fmt: skip

    def _carries(self) -> Callable[[], Sequence[Carried]]:
        """What gives what the book goes on from; where that is known the chain need not be kept for it."""
        if "course" not in vars(self):
            return lambda: self.course.carried
        known = self.course.carried
        return lambda: known

    @cached_property
    def result(self) -> Backtest:
        """The profit and loss of the book, made when it is asked for: live decisions do without."""
        made = backtest_of(self.decisions.weights.select("symbol", "time", "weight"), self.facts, self.costs)
        return made if self.default_ends else made.without_default_ends()

    def with_nothing_held(self) -> Chain:
        """The same with every weight 0: a run whose outcome is in doubt holds nothing."""
        classes = {name: one.with_nothing_held(self.disk) for name, one in self.classes.items()}
        return replace(self, classes=classes, decisions=self.decisions.with_nothing_held(classes))

    def with_book(self, book: Book) -> Chain:
        """The same with another book; what the strategies earned does not depend on it, and is not counted again."""
        other = replace(self, book=book)
        vars(other)["result"] = self.result
        return other

    @property
    def weights(self) -> pl.DataFrame:
        """symbol, time, weight of the symbol by itself, and book: its share of the portfolio."""
        return self.decisions.weights

    @property
    def forecasts(self) -> dict[str, Forecasts]:
        """Asset class -> forecasts, the ensemble's among them."""
        return {name: one.forecasts for name, one in self.classes.items()}

    @property
    def takes_default_terms(self) -> bool:
        """Whether the backtest books the end of a symbol on terms that nobody knows."""
        return self.result.equity_without_default_ends is not None

    def without_default_ends(self) -> Chain:
        """The same with nothing lost where a symbol ends on unknown terms."""
        return replace(self, default_ends=False)

    @property
    def net(self) -> FloatArray:
        """(sessions,) net simple return of the book."""
        return self.result.equity["net"].to_numpy()

    @property
    def benchmark(self) -> FloatArray:
        """(sessions,) simple return of buy and hold, from its wealth."""
        return returns_of_levels(self.result.equity["benchmark"].to_numpy())

    @property
    def sessions(self) -> NDArray[np.datetime64]:
        """(sessions,) date of each."""
        return session_date(self.result.equity["time"].dt.replace_time_zone(None).to_numpy()).astype("datetime64[D]")


def make_chain(
    experiment: Experiment,
    bars: pl.DataFrame,
    progress: Progress | None = None,
    plan: Plan | None = None,
    actions: pl.DataFrame | None = None,
    *,
    past: Chain | Past | None = None,
    refit: Refit = "due",
    watch: bool = True,
    classes: Collection[str] | None = None,
    asked: Mapping[str, Sequence[np.datetime64]] | None = None,
    machine: Machine = ONE_CORE,
) -> Chain:
    """The pipeline, bars to profit and loss; nothing is judged or recorded yet.

    With several cores two classes at a time, the largest first, and two models of each: what one of them does on one
    core is done beside the fits of the other. Of several classes only those at work are in memory, see `compute.disk`.
    `actions`: the delistings that are known, see `gatecast.market.ends`.

    The one law: with the bars up to any moment it says of that moment what it says with all of them; and with what it
    said then as `past` it says the same of all of them, to the bit, and nothing is fitted again. What was issued stays
    whatever bars are corrected; what follows from the record is made of the whole record again. `classes`: those that
    are forecast; None: all. `asked`: asset class -> closes at which a refit is added because somebody asked for it.
    `refit`: with a past, "asked" adds those refits alone and "never" none: the last fits forecast on, and classes that
    the past does not have are left out; `watch=False` then looks for no alarms of the inputs, which could only add
    refits. `machine`: where it runs.

    Raises `HistoryTooShortError` as `run` does, `BarsError` for bars whose rows the past does not fit, `SettingsError`
    for a past that was made with other settings.
    """
    before = past.past if isinstance(past, Chain) else past
    if before is not None:
        _refuse_other_settings(before.settings, experiment.forecasting)
    names = bars["asset_class"].unique().sort().to_list()
    if refit != "due" and before is not None:
        names = [name for name in names if name in before.forecasts]
    names = [name for name in names if classes is None or name in classes]
    disk, sampling = Disk.for_classes(len(names)), experiment.sampling
    made: dict[str, Samples] = {}
    for name in names:
        own = bars.filter(pl.col("asset_class") == name)
        reads = before.features.get(name) if before else None
        made |= (sampling if reads is None else replace(sampling, features=reads)).make(own)
        _refuse_lost(made[name], reads)
        made[name] = stored_samples(made[name], disk) if disk else made[name]
    samples = enough_history(made, bars, experiment.schedule, sampling)
    left_out = {
        name: history_needed(bars.filter(pl.col("asset_class") == name), experiment.schedule, sampling)
        for name in made if name not in samples
    }  # fmt: skip
    if plan:
        plan({name: work_of(one, experiment.schedule.folds(one.times, one.known_at)) for name, one in samples.items()})
    facts, seconds, hearing = facts_of(bars, actions), dict[str, float](), Lock()

    def made_of(name: str, go_on: Callable[[], None]) -> ClassResult:
        """One class, from its samples to its strategy in force; `go_on`: see `side_by_side`."""

        def told(stage: str, done: int, total: int) -> None:
            go_on()
            if progress:
                with hearing:
                    progress(stage, done, total)

        def clock(fits: Fits) -> None:
            with hearing:
                seconds[fits.name] = seconds.get(fits.name, 0.0) + fits.seconds

        at_work = deepcopy(samples[name]) if disk else samples[name]  # a copy is in memory
        issued = before.forecasts.get(name) if before else None
        unwatched = refit != "due" and not watch
        watched = before.alarms.get(name, Alarms()) if before else Alarms()
        if not unwatched:
            watched = watch_inputs(at_work, experiment.drift, experiment.schedule, watched)
        added = (*(watched.refits if refit == "due" else ()), *(asked or {}).get(name, ()))
        forecasts = forecast_class(
            experiment, at_work, told, clock, past=issued, refit=refit, alarms=added, task=machine.task
        )
        result = decide(experiment, forecasts, facts).with_inputs(watched)
        result = result.as_issued(before.weights) if before else result
        at_work.forget()
        result = result.stored_on(disk, samples[name]) if disk else result
        if refit == "due":  # a live forecast is done sooner with what it has
            give_back()
        return result

    largest_first = sorted(samples, key=lambda name: -len(samples[name]))
    results = dict(zip(largest_first, side_by_side(made_of, largest_first, jobs=min(2, machine.jobs)), strict=True))
    results = {name: results[name] for name in samples}
    spent = {name: seconds[name] for name in experiment.panel if name in seconds}
    titles, override = experiment.strategy_titles, experiment.selection.evidence
    issued_weights = before.weights if before else None
    decisions = make_decisions(results, facts, titles=titles, override=override, issued=issued_weights)
    book, begins = experiment.book, before.begins if before else None
    return Chain(
        facts, results, decisions, experiment.costs, spent, left_out, disk, experiment.forecasting, book=book,
        carried=before.carried if before else tuple, begins=begins, settled=before is not None and before.settled,
    )  # fmt: skip


def decided_again(experiment: Experiment, chain: Chain) -> Chain:
    """A chain with its forecasts as they are, and what follows from them made again by the settings of `experiment`.

    Nothing is fitted. What comes before the forecasts (`Experiment.forecasting`) must be as the chain has it.
    """
    decided = {
        name: decide(experiment, one.forecasts, chain.facts).with_inputs(one.inputs)
        for name, one in chain.classes.items()
    }
    titles, override = experiment.strategy_titles, experiment.selection.evidence
    decisions = make_decisions(decided, chain.facts, titles=titles, override=override)
    return replace(chain, classes=decided, decisions=decisions, costs=experiment.costs, book=experiment.book)


def _refuse_other_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises `SettingsError` where a past was made with another setting; a model may come or go."""
    for name in sorted(theirs.keys() & ours.keys()):
        if theirs[name] != ours[name]:
            raise SettingsError(
                f"the past was made with {name} = {theirs[name]}, this experiment has {ours[name]}: give the settings "
                "that the past was made with, or begin without a past."
            )


def _refuse_lost(samples: Samples, features: tuple[str, ...] | None) -> None:
    """Raises `BarsError` where the samples lack a feature that the models of the past read."""
    for name in features or ():
        if name not in samples.names:
            why = samples.left_out.get(name, "the samples do not have it")
            raise BarsError(
                f"{samples.asset_class}: the run's models use the feature {name!r}, these bars do not have it: {why}."
            )


def forecast_class(
    experiment: Experiment,
    samples: Samples,
    progress: Progress | None = None,
    on_fits: Callable[[Fits], None] | None = None,
    *,
    past: Issued | None = None,
    refit: Refit = "due",
    alarms: Sequence[np.datetime64] | None = None,
    task: Task = ALONE,
) -> Forecasts:
    """Walk-forward forecasts of one asset class by every model, with the ensemble on top.

    `on_fits`: called with the fits of each model once they are done. `past`, `refit`, `task`: see `walk_forward`.
    `alarms`: closes at which a refit is added; None: alarms of the inputs are looked for where the settings let them.
    The ensemble takes over what it has learned at the past's last refit, and learns anew from there on; its intervals
    go on from where their quantiles stood there; what was issued of them stays.
    """
    if alarms is None:
        added = experiment.drift.adds_refits
        alarms = watch_inputs(samples, experiment.drift, experiment.schedule).refits if added else ()
    folds = len(experiment.schedule.folds(samples.times, samples.known_at, alarms=alarms)) if progress else 0
    before = min(folds, len(past.cutoffs)) if past else 0  # those that are fitted already
    panel = experiment.panel
    done: dict[str, int] = {}

    def report(model: str, count: int) -> None:
        done[model] = done.get(model, 0) + count
        if progress:
            fits = panel[model].fit_count if model in panel else int
            total = fits(folds) - fits(before)
            progress(f"{samples.asset_class}: {model}", done[model], total)

    def on_search(count: int, of: int, best: str) -> None:
        if progress:
            progress(f"{samples.asset_class}: tuning", count, of)

    forecasts = walk_forward(
        panel, samples, experiment.schedule, replace(task, on_search=on_search), past=past, refit=refit,
        alarms=alarms, progress=report, on_fits=on_fits,
    )  # fmt: skip
    new = {fold.cutoff for fold in forecasts.folds[len(past.cutoffs) if past else 0 :]}
    refused = sum(cutoff in new for one in forecasts.refused.values() for cutoff in one)
    if progress and refused:
        progress(f"{samples.asset_class}: {GUARD}", refused, refused)
    since = len(past.cutoffs) - 1 if past and ENSEMBLE in past.values else 0
    combined = combine(forecasts, experiment.ensemble, experiment.intervals, since, past).as_issued(past)
    report(ENSEMBLE, folds - before)
    return combined


def combine(
    forecasts: Forecasts, ensemble: Ensemble, intervals: Intervals, since: int = 0, past: Issued | None = None
) -> Forecasts:
    """The rival in force, the ensemble of the models, and intervals; `since`, `past`: see `Ensemble.combine`."""
    made = _combined_since(forecasts, ensemble, intervals, past) if past else None
    if made is None:
        made = ensemble.combine(with_rival(forecasts, past), since, issued=past)
    return with_intervals(made, intervals, issued=past)


def _combined_since(
    forecasts: Forecasts, ensemble: Ensemble, intervals: Intervals, past: Issued
) -> Forecasts | None:  # fmt: skip
    """The rival and the ensemble, made at the rows alone that a past has not issued; None where that does not do.

    It does where no refit has come since, and all that was learned and chosen at the last one was issued: then nothing
    is learned from the record, and what is forecast at a row follows from that row.
    """
    laid = {
        name: heads for name, heads in forecasts.values.items() if name in MADE_OF_OTHERS and isinstance(heads, Laid)
    }
    test = forecasts.folds[-1].test if len(forecasts.folds) == len(past.cutoffs) else np.zeros(0, np.int64)
    rows = test[past.places_in(forecasts.samples)[test] < 0]
    if not len(rows):
        return None
    try:
        made = ensemble.combine(with_rival(forecasts.of(rows), past), len(past.cutoffs) - 1, issued=past)
    except NoRecordError:
        return None
    own = {name: dict(heads) for name, heads in made.values.items() if name in MADE_OF_OTHERS}
    wanted = {name: {*heads, *(intervals.heads if name == ENSEMBLE else ())} for name, heads in own.items()}
    if wanted != {name: {*heads} for name, heads in laid.items()}:
        return None
    for name, heads in laid.items():
        for head, values in own[name].items():
            heads.put(head, rows, values)
    return replace(forecasts, in_force=made.in_force, rivals=made.rivals, learned=made.learned)


def decide(experiment: Experiment, forecasts: Forecasts, facts: Facts) -> ClassResult:
    """Signals, every strategy's proposal and profit, alarms of the losses, and the strategy in force, for one class.

    `facts`: of the bars of all classes. An end without a bar counts in the records at the class's first forecast at or
    after it; a symbol whose end is known at a close has no weight there.
    """
    samples = forecasts.samples
    own, per_side = facts.of_class(samples.asset_class), experiment.costs.per_side(samples.asset_class)
    signals = make_signals(forecasts, experiment.signals)
    proposals = propose(
        forecasts, signals, own.bars, 2 * per_side, own.bars_per_year, experiment.strategies, experiment.strategy
    ).without(own.ended)
    net, booked = net_of_class(proposals.weights, own, experiment.costs)
    at = proposals.forecast_at[np.argsort(samples.time[proposals.forecast_at], kind="stable")]
    for moment, profit in booked:
        place = int(np.searchsorted(samples.time[at], moment))
        if place < len(at):
            net[at[place]] += profit
    target = experiment.strategies.target_volatility / np.sqrt(own.bars_per_year)
    selection = select_strategy(
        forecasts, proposals, net, per_side, target, experiment.selection, own.class_starts, experiment.too_good
    )
    losses = watch_losses(forecasts, experiment.drift)
    if losses.alarms and experiment.drift.on_losses != "say":
        selection = selection.scaled(position_factor(losses, samples.time, experiment.drift))
    return ClassResult(samples, forecasts, signals, proposals, selection, net, losses.alarms)
