"""The strategy in force: past net returns of the strategies -> one for each symbol and bar, and the evidence factor."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from gatecast.market.bars import numbered_days, session_date
from gatecast.metrics.significance import sequential_mean
from gatecast.settings import MOST_BARS, Settings
from gatecast.trading.plausible import too_good_so_far, too_much_money_so_far
from gatecast.trading.strategies import MARKET

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.trading.strategies import Proposals

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

EVIDENCE = 20.0  # of a sequential test, for each class of the run: 1 in 20 markets without skill ever has as much
GAIN_SESSIONS = 250  # of record, over which a gain below 0 takes the evidence back
LATE_BARS = (1, 2)  # of delay that skill must survive
RETIRED = ("weak", "strong")  # settings of older versions


class SelectionSettings(Settings):
    """How strategies are scored and how evidence reaches the money.

    `weak` and `strong` of older settings files are ignored, with a warning: a sequential test decides now.
    """

    memory_bars: Annotated[int, Field(ge=20, le=MOST_BARS)] = 504
    """how slowly the record forgets: a fixed share of 1 / memory_bars each bar"""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """weight of one bar's net profit, in units of the target volatility"""
    minimum_days: Annotated[int, Field(ge=20, le=MOST_BARS)] = 120
    """sessions of record before there is a position"""
    evidence: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, examples=[1.0])
    """overrides what the evidence allows, and the report says so"""

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: Any) -> Any:
        found = [name for name in RETIRED if isinstance(values, dict) and name in values]
        if not found:
            return values
        names = " and ".join(f"selection.{name}" for name in found)
        text = "a sequential test decides on positions (see docs/scorecard.md). Remove the line from the settings."
        warnings.warn(f"{names}: no longer a setting, ignored: {text}", UserWarning, stacklevel=2)
        return {name: value for name, value in values.items() if name not in RETIRED}


@dataclass(frozen=True)
class Selection:
    """Over the bars of one class, decided at each close.

    `chosen`: index into the names of `Proposals` (0 flat, also where nothing is forecast). `score`: (bars, strategies),
    expected net return of a bar. `evidence`: (bars,) 0 or 1, or the override. `proposed`: the chosen weight before,
    `weight` after evidence. `too_good`: (bars,) where the record so far is better than an honest market allows, so that
    nothing is held, unless the settings override the evidence. `left`: (bars,) share of the weight that alarms of the
    losses leave, already in `weight`.
    """

    chosen: IntArray
    score: FloatArray
    evidence: FloatArray
    proposed: FloatArray
    weight: FloatArray
    too_good: BoolArray
    left: FloatArray

    def scaled(self, left: FloatArray) -> Selection:
        """The same with a share (bars,) of the weight."""
        return replace(self, weight=self.weight * left, left=left)


def select_strategy(
    forecasts: Forecasts,
    proposals: Proposals,
    net: FloatArray,
    cost_per_side: float,
    target_per_bar: float,
    settings: SelectionSettings | None = None,
    class_starts: ArrayLike = (),
    allowed: Collection[str] = (),
) -> Selection:
    """The strategy in force at every bar of one class.

    A strategy's score is its own past net record, pooled over the class's symbols and shrunk to equal (Herbster and
    Warmuth's fixed share, 1998, Machine Learning 32), plus what the ensemble's calibrated forecast adds to its proposed
    weight now, less the cost of getting there spread over the horizon. `flat` scores 0.

    Parameters
    ----------
    net: (bars, strategies) net simple return of each strategy, realised and known at that row's close.
    target_per_bar: target volatility of one bar. cost_per_side: as a fraction.
    class_starts: see `evidence_factor`. allowed: what may be better than an honest market allows, see
        `too_good_so_far`; else such a record holds nothing.

    What is held through a gap is held: the weight before it is where the next choice within the listing starts from.
    """
    settings = settings or SelectionSettings()
    samples = forecasts.samples
    known = np.maximum(samples.time, samples.known_by_bar)
    record = fixed_share_record(net, samples.time, proposals.forecast_at, target_per_bar, settings, known)
    edge = proposals.expected / samples.horizon
    evidence = evidence_factor(forecasts, settings, class_starts)
    count, kinds = proposals.weights.shape
    chosen = np.zeros(count, np.int64)
    score = np.zeros((count, kinds))
    at = proposals.forecast_at
    score[at] = record[at] + proposals.weights[at] * edge[at, None]
    per_unit = cost_per_side / samples.horizon
    owner = np.column_stack([samples.symbol, samples.listing])[at]
    starts = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]).any(1)])[: len(at)]
    lengths = np.diff(np.r_[starts, len(at)])
    starts, lengths = starts[np.argsort(-lengths)], np.sort(lengths)[::-1]  # those that go on longest come first
    held, kind, number = np.zeros(len(starts)), np.zeros(len(starts), np.int64), np.arange(len(starts))
    for step in range(lengths.max(initial=0)):  # one close after the other, all symbols at once
        going = int(np.searchsorted(-lengths, -step))  # those of more closes
        rows, places, before = at[starts[:going] + step], number[:going], kind[:going]
        weights = proposals.weights[rows]
        after_cost = score[rows] - per_unit * np.abs(weights - held[:going, None])
        best = after_cost.argmax(1)
        kind[:going] = np.where(after_cost[places, best] > after_cost[places, before], best, before)
        held[:going] = weights[places, kind[:going]]
        chosen[rows] = kind[:going]
    proposed = proposals.weights[np.arange(count), chosen]
    too_good = _too_good(forecasts, proposals, net, chosen, allowed)
    if settings.evidence is None:
        evidence = np.where(too_good, 0.0, evidence)
    return Selection(chosen, score, evidence, proposed, proposed * evidence, too_good, np.ones(count))


def _too_good(
    forecasts: Forecasts, proposals: Proposals, net: FloatArray, chosen: IntArray, allowed: Collection[str]
) -> BoolArray:
    """(bars,) where the record of the forecasts or of the strategies in force is too good to be true so far."""
    samples = forecasts.samples
    before = np.r_[0, chosen[:-1]]  # what earned a bar's return was in force at the close before
    earned = np.where(np.r_[True, np.diff(samples.symbol) != 0], 0.0, net[np.arange(len(net)), before])
    market = net[:, proposals.names.index(MARKET)]
    money = too_much_money_so_far(samples, earned, market, proposals.forecast_at, allowed)
    return too_good_so_far(forecasts, allowed) | money


def fixed_share_record(
    net: FloatArray,
    time: NDArray[np.datetime64],
    forecast_at: IntArray,
    target_per_bar: float,
    settings: SelectionSettings,
    known: NDArray[np.datetime64] | None = None,
) -> FloatArray:
    """(bars, strategies) net return a bar that each strategy's past record promises beyond flat, known at the close.

    The record is the class's: the mean over its symbols at each moment. The log weights of fixed-share experts grow
    with net profit and are mixed with 1/memory of equality, so that the record forgets and can always come back.
    `known`: (bars,) when each bar's profit is known, where that is later than its `time`.
    """
    moments, inverse = np.unique(time, return_inverse=True)
    place = np.searchsorted(moments, time if known is None else known)  # the first moment that knows it
    counted = forecast_at[place[forecast_at] < len(moments)]
    count = np.bincount(place[counted], minlength=len(moments))
    every = np.flatnonzero(place < len(moments))  # what is held goes on to earn where no forecast is made
    total = np.column_stack([np.bincount(place[every], column[every], len(moments)) for column in net.T])
    gain = total / np.maximum(count, 1)[:, None] / target_per_bar
    kinds, share = net.shape[1], 1.0 / settings.memory_bars
    weights = np.full(kinds, 1.0 / kinds)
    promise = np.zeros((len(moments), kinds))
    unit = target_per_bar / (settings.learning_rate * settings.memory_bars)
    for i in range(len(moments)):
        if count[i] or total[i].any():
            weights = weights * np.exp(settings.learning_rate * np.clip(gain[i], -10, 10))
            weights = (1 - share) * weights / weights.sum() + share / kinds
        promise[i] = np.log(weights / weights[0]) * unit
    return promise[inverse]


def evidence_factor(forecasts: Forecasts, settings: SelectionSettings, class_starts: ArrayLike = ()) -> FloatArray:
    """Forecasts of a class -> (bars,) 1 where a sequential test has found skill in returns, else 0.

    At each close the test knows the sessions that are over, see `session_products`. There are six series: against a
    forecast of zero and against the symbol's past mean, at once and with the forecast one and two bars late (stale,
    smoothed and bouncing prices can be forecast, and not traded: bars later little is left of it). The evidence of each
    (`sequential_mean`) must exceed 20 times the number of classes that the run has by then, and the gain at once must
    not be negative over the last 250 sessions of record against either rival. The factor is then 1 until it is, and
    from there on 0 until a new test, of the sessions since, has found as much. On at most 1 in 20 runs without skill
    the factor is ever 1, however often it is looked at.

    Parameters
    ----------
    class_starts: (classes,) datetime64, the first close of every asset class of the run; empty: one class.

    >>> from gatecast.chain import forecast_class
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> models = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> experiment = Experiment(features=("x",), schedule={"refit": "1Y"}, **models)
    >>> samples = experiment.make_samples(synthetic.b1(1500, seed=1, r2=0.1))["index"]
    >>> sorted(set(evidence_factor(forecast_class(experiment, samples), SelectionSettings()).tolist()))
    [0.0, 1.0]
    """
    samples = forecasts.samples
    if settings.evidence is not None:
        return np.full(len(samples.time), settings.evidence)
    factor = np.zeros(len(samples.time))
    if not forecasts.folds:
        return factor
    (days, products), *later = _products(forecasts, (0, *LATE_BARS))
    late = np.zeros((len(days), len(LATE_BARS) * products.shape[1]))
    for place, (known, found) in enumerate(later):
        late[np.searchsorted(days, known), 2 * place : 2 * place + 2] = found
    starts = np.sort(session_date(np.asarray(class_starts, dtype="datetime64[us]")))
    classes = np.maximum(np.searchsorted(starts, days, side="right"), 1)
    allowed = watch(products, EVIDENCE * classes, settings.minimum_days, late).astype(float)
    last = np.searchsorted(days, session_date(samples.time)) - 1  # the latest session that is over
    if len(days):
        factor = np.where(last >= 0, allowed[np.maximum(last, 0)], 0.0)
    return factor


def session_products(forecasts: Forecasts, late: int = 0) -> tuple[NDArray[np.datetime64], FloatArray]:
    """Forecasts of a class -> sessions (n,), and (n, 2) mean Clark-West products known at the end of each.

    The rivals are a forecast of zero and the symbol's past mean. The product of a forecast of h bars, 2 (answer -
    rival) (forecast - rival) in units of the variance at the forecast, is a sum over the bars of its answer, and each
    bar's part (after a halt, in units of the sessions that the bar spans) counts in the session in which the bar
    becomes known (as in Hodrick 1992, Review of Financial Studies 5). So no two sessions share a bar, and there is no
    overlap to allow for: where returns cannot be forecast the parts are a martingale difference. A session is the mean
    of the parts of all symbols. `late`: bars by which every forecast is late; it is then held against the answer of the
    close so many bars after its own.
    """
    return _products(forecasts, (late,))[0]


def _products(forecasts: Forecasts, delays: Sequence[int]) -> list[tuple[NDArray[np.datetime64], FloatArray]]:
    """`session_products` of each of several delays, in bars."""
    samples, horizon = forecasts.samples, forecasts.samples.horizon
    spans = np.diff(samples.unit**2, axis=1, prepend=0.0)  # of each bar of the answer: more over a halt
    issued = np.full(len(samples.time), np.nan)
    issued[samples.decided] = forecasts.values["ensemble"]["return"][:, -1]
    bars = np.diff(samples.targets["return"].value[samples.decided], axis=1, prepend=0.0)
    rivals = (np.zeros(len(samples)), samples.facts.mean[samples.ends])  # of one bar's return
    days, day = numbered_days(session_date(samples.answered))
    found = []
    for late in delays:
        before = samples.decided - late
        same = (before >= 0) & (samples.symbol[before] == samples.symbol[samples.decided])
        same &= samples.listing[before] == samples.listing[samples.decided]
        forecast = np.where(same & np.isfinite(issued[samples.decided]), issued[before], np.nan)
        parts = [2 * (bars - one[:, None]) * (forecast - horizon * one)[:, None] / (horizon * spans) for one in rivals]
        usable = np.logical_and.reduce([np.isfinite(one) for one in parts]) & (day >= 0)
        own = day[usable]
        count = np.bincount(own, minlength=len(days))
        there = count > 0
        sums = [np.bincount(own, one[usable], len(days))[there] for one in parts]
        found.append((days[there], np.column_stack(sums) / count[there, None]))
    return found


def watch(
    products: FloatArray, threshold: FloatArray, minimum: int, late: FloatArray | None = None
) -> NDArray[np.bool_]:
    """(sessions, rivals) products -> (sessions,) whether skill is found at the end of each, from it and those before.

    `threshold`: (sessions,) of evidence; `minimum`: sessions before the first; `late`: (sessions, series) products of
    late forecasts, whose evidence must be as strong. The rule is that of `evidence_factor`.

    >>> rng = np.random.default_rng(0)
    >>> products = rng.standard_normal((1500, 1)) + np.repeat([0.3, -0.3, 0.3], (500, 200, 800))[:, None]
    >>> np.flatnonzero(np.diff(watch(products, np.full(1500, 20.0), 60))).tolist()
    [136, 615, 858]
    """
    count = len(products)
    found = np.zeros(count, bool)
    total = np.r_[np.zeros((1, products.shape[1])), products.cumsum(0)]
    rows = np.arange(1, count + 1)
    losing = (total[rows] < total[np.maximum(rows - GAIN_SESSIONS, 0)]).any(1)
    series = products if late is None else np.column_stack([products, late])
    start = 0
    while start < count:
        evidence = np.min([sequential_mean(one).evidence for one in series[start:].T], axis=0)
        passes = (evidence > threshold[start:]) & ~losing[start:] & (rows[start:] >= minimum)
        if not passes.any():
            break
        first = start + int(passes.argmax())
        stop = first + int(losing[first:].argmax()) if losing[first:].any() else count
        found[first:stop] = True
        start = stop
    return found
