"""The leak audit: the whole chain again at many cuts, and the first stage that knew what came after is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import polars as pl
from pydantic import Field

from gatecast.arguments import checked
from gatecast.audits.leaks import (
    Audit,
    Kind,
    Leak,
    broken_rules,
    early_answers,
    first_guilty,
    knowing_columns,
    level_features,
    moment_of,
    stubborn_scaler,
    worded,
)
from gatecast.audits.quick import NEVER_SEEN
from gatecast.audits.tables import (
    Garbage,
    Table,
    bars_table,
    chosen_table,
    decisions_table,
    differences,
    features_table,
    folds_table,
    forecasts_tables,
    rows_table,
    samples_tables,
    scalers_tables,
    signals_tables,
    up_to,
)
from gatecast.chain import ClassResult, Progress, decide, forecast_class
from gatecast.compute.progress import shown
from gatecast.errors import BarsError
from gatecast.experiment import Experiment, read_before
from gatecast.forecasting.forecaster import ALONE, Task
from gatecast.history import enough_history
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.facts import Facts
from gatecast.market.reading import BarsSettings
from gatecast.market.sources import read_bars
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.samples.targets import to_times
from gatecast.settings import LARGEST_SEED, Settings
from gatecast.trading.decisions import make_decisions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold, Schedule
    from gatecast.forecasting.walkforward import Fits
    from gatecast.samples.windows import Samples

    TimeArray = NDArray[np.datetime64]

__all__ = ["Audit", "Cuts", "Leak", "audit"]

Item = TypeVar("Item")
STEPS = ("bars", "features", "forecasts", "signals", "weights")
"""Where a rerun can stop."""
EARLY = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)  # bars from a start, where warm-ups show what they do


class Cuts(Settings):
    """Where the chain is cut."""

    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """random moments for the stages that fit nothing, and as many, up to 39, in the first bars of a few series"""
    fits: Annotated[int, Field(ge=1, le=10_000)] = 12
    """moments around refits and between them, for the stages that fit"""
    light: bool = True
    """small models instead of the experiment's own, since a leak of the chain shows in any model"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """seed of the random moments and of the garbage"""


@checked
def audit(
    experiment: Experiment, *, cuts: Cuts | None = None, full: bool = True, progress: Progress | bool | None = None,
    machine: Machine = ONE_CORE,
) -> Audit:  # fmt: skip
    """Rerun the chain with the future removed and with another future, and compare it at the cut, bit for bit.

    Parameters
    ----------
    experiment: any experiment; its own features and columns are audited with it. cuts: how many, see `Cuts`.
    full: also the stages that fit; without it bars, features, targets, regimes, the folds' rules and natures alone.
    progress: called with the kind of cut, how many are done and how many there are; True shows bars, as in `run`.
    machine: its cores serve; nothing of an audit is kept.

    Returns
    -------
    An `Audit`: `.clean`, or `.findings` that name stage, column, row, the two values and the latest later bar that
    the value reacts to. The first guilty stage is the finding; stages that inherit it are its `consequences`.

    Raises what the chain itself raises on these bars: `HistoryTooShortError`, `BarsError`, `FeatureError`.

    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.market import synthetic
    >>> walk = Experiment(bars=synthetic.a1(500, seed=1), features=("ret_log_1",), schedule=Schedule(refit="6M"))
    >>> audit(walk, cuts=Cuts(samples=5), full=False).clean
    True
    """
    cuts = cuts or Cuts()
    experiment = experiment.replace(control=None)
    if cuts.light:
        experiment = experiment.replace(model={name: one.lightened() for name, one in experiment.model.items()})
    raw = experiment.replace(bars=experiment.bars.replace(resample=None)).read().bars
    again = partial(rerun, experiment, task=Task(jobs=machine.jobs))
    whole = again(raw, STEPS[-1] if full else "features")
    if whole.error is not None:
        raise whole.error
    if full:
        enough_history(whole.samples, whole.bars, experiment.schedule, experiment.sampling)
    natures, broken = _without_reruns(whole, experiment.schedule, experiment.horizon, experiment.too_good)

    garbage, names = Garbage(raw, cuts.seed), experiment.features or DEFAULT_FEATURES
    near, fits = _sample_moments(whole, cuts), _fit_moments(whole, cuts) if full else []
    plan = [(moment, "features") for moment in near] + [(moment, STEPS[-1]) for moment in fits]
    found: dict[tuple[str, str], tuple[Leak, np.datetime64]] = {}

    def keep(leaks: Sequence[Leak], moment: np.datetime64) -> None:
        for leak in leaks:
            found.setdefault((leak.stage, leak.column), (leak, moment))

    with shown(progress) as told:
        for done, (moment, last) in enumerate(plan):
            if last == "features" or not (found or broken) or moment == fits[len(fits) // 2]:
                for kind in ("garbage", "cut"):  # once a leak is found, one cut tells what follows from it
                    other = again(changed(raw, garbage, moment, kind), last)
                    keep(
                        _compared(whole, other, moment, kind, experiment.bars.resample, names),
                        moment,
                    )
            if told:
                told(f"audit: {'features' if last == 'features' else 'refits'}", done + 1, len(plan))
    for moment in fits or _thin(near, cuts.fits):
        keep(_as_known(experiment, whole, moment), moment)

    named, consequences = first_guilty([leak for leak, _ in found.values()], broken, natures)
    findings: list[Leak] = []
    measured: set[str] = set()  # one a stage: each takes a dozen reruns
    for leak in named:
        if (leak.stage, leak.column) in found and not leak.sentence and leak.stage not in measured:
            measured.add(leak.stage)
            leak = _with_reach(again, whole, raw, garbage, leak, found[leak.stage, leak.column][1])
        findings.append(worded(leak))
    return Audit(
        tuple(findings),
        consequences,
        _checked(near, fits, full),
        _not_checked(cuts, full, from_a_source=experiment.bars.frame is None),
    )


def _without_reruns(
    whole: Rerun, schedule: Schedule, horizon: int, allowed: Sequence[str]
) -> tuple[list[Leak], list[Leak]]:
    """What columns are by nature, and the rules that the folds break."""
    natures, broken = [], []
    for name, one in whole.samples.items():
        own_bars = whole.bars.filter(pl.col("asset_class") == name)
        natures += level_features(own_bars, one.names)
        natures += knowing_columns(own_bars, one.names, horizon, allowed)
        broken += early_answers(one, whole.bars)
        own = [fold.on(one) for fold in schedule.folds(one.times, one.known_at)]
        for folds in whole.folds.get(name) or [own]:
            broken += broken_rules(folds, one)
            natures += stubborn_scaler([*folds[:1], *folds[-1:]])
    return natures, broken


# ── the chain, step by step ──────────────────────────────────────────────────────────────────────


@dataclass
class Rerun:
    """What one pass through the chain said at each step, as far as it came; `failed` is the step that raised."""

    tables: dict[str, list[Table]] = field(default_factory=dict)
    bars: pl.DataFrame = field(default_factory=pl.DataFrame)
    samples: dict[str, Samples] = field(default_factory=dict)
    folds: dict[str, list[Sequence[Fold]]] = field(default_factory=dict)
    failed: str = ""
    error: Exception | None = None


def rerun(experiment: Experiment, raw: pl.DataFrame, last: str, task: Task = ALONE) -> Rerun:
    """The chain on raw bars (before they are resampled), up to and including a step of `STEPS`."""
    result = Rerun()
    plain = last == "features" and experiment.bars.resample is None  # reading takes longer than all features
    steps = _steps(experiment, raw, result, task, reading=not plain)
    for step in STEPS[: STEPS.index(last) + 1]:
        try:
            result.tables[step] = next(steps)
        except Exception as error:  # whatever the user's own feature raises
            result.failed, result.error = step, error
            break
    return result


def _steps(
    experiment: Experiment, raw: pl.DataFrame, result: Rerun, task: Task, reading: bool
) -> Iterator[list[Table]]:
    """The lines of `experiment.run` with a stop after each; what they make is put into `result` as well."""
    settings = BarsSettings(frame=raw, resample=experiment.bars.resample)
    bars = result.bars = read_bars(settings) if reading else raw
    yield [bars_table(bars)]
    samples = result.samples = experiment.make_samples(bars)
    yield [table for one in samples.values() for table in samples_tables(one)]
    forecasts, tables = {}, []
    for name, one in samples.items():
        if experiment.schedule.folds(one.times, one.known_at):
            fitted: list[Fits] = []
            forecasts[name] = forecast_class(experiment, one, on_fits=fitted.append, task=task)
            result.folds[name] = list({id(fits.folds): fits.folds for fits in fitted}.values())
            tables += [chosen_table(one, forecasts[name].folds)]
            tables += [folds_table(one, folds, number) for number, folds in enumerate(result.folds[name])]
            tables += [table for fits in fitted for table in scalers_tables(fits.name, fits.folds, fits.fits)]
            own = [fits.name for fits in fitted]
            tables += forecasts_tables("forecasts", forecasts[name], own)
            tables += forecasts_tables("ensemble", forecasts[name], set(forecasts[name].values) - set(own))
    yield tables
    facts = Facts(bars)
    classes: dict[str, ClassResult] = {name: decide(experiment, one, facts) for name, one in forecasts.items()}
    yield [table for one in classes.values() for table in _decisions(one)]
    yield (
        [decisions_table("weights", make_decisions(classes, facts).weights, forecasts.values(), "weight", "book")]
        if classes
        else []
    )


def _decisions(one: ClassResult) -> list[Table]:
    """Thresholds, signals and the strategy in force at every forecast."""
    rows = one.forecasts.rows
    at = one.samples.decided[rows]
    strategy = {"strategy in force": one.selection.chosen[at], "evidence": one.selection.evidence[at]}
    for label, array in (("score", one.selection.score), ("proposed", one.proposals.weights)):
        strategy |= {f"{label} of {kind}": array[at, k] for k, kind in enumerate(one.proposals.names)}
    profit = {f"net of {kind}": one.net[at, k] for k, kind in enumerate(one.proposals.names)}
    profits = rows_table("strategy", f"{one.samples.asset_class} net", one.samples, rows, profit)
    known = np.maximum(one.samples.times, one.samples.known_by_bar[one.samples.decided])[rows]
    return [
        *signals_tables(one.forecasts, one.signals),
        rows_table("strategy", one.samples.asset_class, one.samples, rows, strategy),
        replace(profits, since=known),
    ]


# ── the cuts ─────────────────────────────────────────────────────────────────────────────────────


def changed(raw: pl.DataFrame, garbage: Garbage, moment: np.datetime64, kind: Kind) -> pl.DataFrame:
    """The raw bars with the future of a moment removed ("cut") or replaced ("garbage")."""
    return up_to(raw, moment) if kind == "cut" else garbage.after(moment)


def _sample_moments(whole: Rerun, cuts: Cuts) -> list[np.datetime64]:
    """Random moments, the first bars of a few series, and the last moment that has a future."""
    times = to_times(whole.bars, "time")
    moments = np.unique(times)[:-1]
    draw = np.random.default_rng(cuts.seed)
    chosen = draw.choice(moments, min(cuts.samples, len(moments)), replace=False)
    run = whole.bars.select(pl.struct("symbol", "segment").rle_id()).to_series().to_numpy()
    starts = np.flatnonzero(np.diff(run, prepend=-1)).tolist()
    early = [times[min(start + k, len(times) - 1)] for start in starts[:1] + _thin(starts[1:], 2) for k in EARLY]
    every = np.unique(np.r_[chosen, _thin(early, cuts.samples), moments[-1:]])
    return [*every[every < times.max()]]


def _fit_moments(whole: Rerun, cuts: Cuts) -> list[np.datetime64]:
    """The bar before a refit, the refit, the bar after it and the middle of its block, for refits spread evenly."""
    found: set[np.datetime64] = set()
    for name, given in whole.folds.items():
        moments = np.unique(whole.samples[name].times)
        begins = np.searchsorted(moments, [fold.cutoff for fold in given[0]])
        blocks = np.column_stack([begins, np.r_[begins[1:], len(moments)]]).tolist()
        for begin, end in _thin(blocks, -(-cuts.fits // (4 * len(whole.folds)))):
            rows = np.array([begin - 1, begin, begin + 1, (begin + end) // 2])
            found |= {*moments[np.clip(rows, 0, len(moments) - 2)]}
    return _thin(sorted(found), cuts.fits)


def _thin(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of them, spread evenly."""
    at = ((np.arange(count) + 0.5) * len(items) / count).astype(int) if len(items) > count else np.arange(len(items))
    return [items[k] for k in at.tolist()]


def _compared(
    whole: Rerun, other: Rerun, moment: np.datetime64, kind: Kind, resample: str | None, features: Sequence[str]
) -> list[Leak]:
    """What the chain says differently at a cut, and what it can no longer say.

    `resample`: coarser bars that the chain makes. `features`: names of those that it reads.
    """
    if kind == "cut" and resample is not None and "bars" in other.tables:
        (mine,), (theirs,) = whole.tables["bars"], other.tables["bars"]
        if len(mine.until(moment).time) > len(theirs.time):
            # the newest coarse bar is not known to be over before the next one: what there is can be compared
            return differences([mine.rows_of(theirs)], [theirs], moment, kind)
    leaks = [
        leak for step, tables in other.tables.items() for leak in differences(whole.tables[step], tables, moment, kind)
    ]
    if other.failed == "features":
        return leaks + _feature_by_feature(features, whole, other.bars, moment, kind)
    if other.error is not None:
        leaks.append(_failure(other.failed, "all of it", moment, kind, other.error))
    return leaks


def _feature_by_feature(
    features: Sequence[str], whole: Rerun, bars: pl.DataFrame, moment: np.datetime64, kind: Kind
) -> list[Leak]:
    """Where samples cannot be made, often because it is too early for any feature: each feature by itself."""
    leaks = []
    for name in features:
        try:
            tables = [features_table(part, (name,)) for part in bars.partition_by("asset_class")]
        except Exception as error:  # whatever the user's own feature raises
            leaks.append(_failure("features", name, moment, kind, error))
            continue
        parts = {(table.stage, table.part) for table in tables}
        mine = [table for table in whole.tables["features"] if (table.stage, table.part) in parts]
        leaks += differences(mine, tables, moment, kind)
    return leaks


def _failure(stage: str, column: str, moment: np.datetime64, kind: Kind, error: Exception) -> Leak:
    how = "no bars" if kind == "cut" else "other bars"
    text = f"{stage}: {column} fails with {how} after {str(moment)[:16]}, and not with the true ones: {error}"
    return Leak(stage, column, kind, None, None, None, None, type(error).__name__, text)


def _as_known(experiment: Experiment, whole: Rerun, moment: np.datetime64) -> list[Leak]:
    """The source read as of the moment: a bar must not be read differently once later ones are there."""
    try:
        source = experiment.bars.replace(as_of=f"{moment}+00:00")
        then = read_before(experiment.holdout, source, experiment.book.money.prices).bars
    except BarsError:
        return []  # too little to be read at all
    theirs = bars_table(then)
    return differences([whole.tables["bars"][0].rows_of(theirs)], [theirs], moment, "cut")


def _with_reach(
    again: Callable[[pl.DataFrame, str], Rerun], whole: Rerun, raw: pl.DataFrame, garbage: Garbage, leak: Leak,
    moment: np.datetime64,
) -> Leak:  # fmt: skip
    """The leak with the latest later bar that moves it, by bisection over where the other future begins.

    `again`: bars and the last step to come to -> what the chain says of them.
    """
    steps = (
        step
        for step, tables in whole.tables.items()
        for one in tables
        if one.stage == leak.stage and leak.column in one.columns
    )
    step = next(steps, None)
    if step is None:  # a row that only one of the two has
        return leak
    if _said(again(raw, step), step, leak) != _said(whole, step, leak):
        text = f"{leak.stage}: {leak.column!r} is another one when the same bars are run again: no cut can judge it."
        return replace(leak, sentence=text)
    times = to_times(raw, "time")
    later = np.unique(times[times > moment])

    def moved(k: int) -> bool:
        """Whether the leak's value is another one when later[k] and what follows is changed."""
        before = later[k - 1] if k else moment
        other = again(changed(raw, garbage, before, leak.kind), step)
        return _said(other, step, leak) != _said(whole, step, leak)

    low, high = 0, len(later)  # moved(low) is known, moved(high) is not so
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if moved(middle) else (low, middle)
    return replace(leak, reacts_to=moment_of(later[low]))


def _said(of: Rerun, step: str, leak: Leak) -> float | None:
    """The value at a leak's row and column, None where there is none."""
    for table in of.tables.get(step, []):
        if table.stage == leak.stage and leak.column in table.columns:
            return table.at(leak.symbol, leak.time, leak.column)
    return None


# ── in words ─────────────────────────────────────────────────────────────────────────────────────


def _checked(near: Sequence[np.datetime64], fits: Sequence[np.datetime64], full: bool) -> tuple[str, ...]:
    words = [
        f"bars, features, answers and their known_at, regime levels: at {len(near)} cuts, with the future removed and "
        "with another future",
        "every refit's rows against the rules: known by the first validation row, by the first forecast",
        "the reading of the source as of "
        f"{len(fits) or 'a few'} moments; features for price levels; the scaler for following its rows",
    ]
    if full:
        words.append(
            "features in use, folds, scalers, forecasts of every model, ensemble, thresholds, signals, strategy in "
            f"force and weights: at {len(fits)} cuts around refits and between them, in the same two ways"
        )
    return tuple(words)


def _not_checked(cuts: Cuts, full: bool, *, from_a_source: bool) -> tuple[str, ...]:
    words = [] if full else ["scalers, forecasts, ensemble, thresholds, signals, strategies and weights"]
    if cuts.light:
        words.append("the models' own sizes: small networks and forests were fitted in their place")
    words.append("tuned settings: this chain tunes none")
    words.append("what a model keeps in this process from one pass to the next: it has seen the whole in the first")
    words.append("moments between the cuts: a leak that shows on few bars can be missed")
    words.append("the backtest's fills and costs, the verdicts, runs that are already on disk")
    if from_a_source:
        words.append("rows of the source that were left out when it was read")
    return (*words, *NEVER_SEEN)
