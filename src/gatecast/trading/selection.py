"""Which strategy is in force, per symbol and bar, `flat` included, and how much of it the evidence allows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, model_validator

from gatecast.market.bars import session_date
from gatecast.settings import Settings
from gatecast.trading.plausible import too_good_so_far, too_much_money_so_far
from gatecast.trading.strategies import STRATEGIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.trading.strategies import Proposals

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


class SelectionSettings(Settings):
    """How strategies are scored and how evidence reaches the money.

    Attributes
    ----------
    memory_bars: how slowly the record forgets (fixed share 1/memory). learning_rate: weight of one bar's net profit,
        in units of the target volatility. weak, strong: the Clark-West statistic of the ensemble's return forecast at
        which positions begin and at which they are whole. minimum_days: sessions of record before anything is held.
        evidence: a number 0-1 that overrides what the record says.
    """

    memory_bars: Annotated[int, Field(ge=20)] = 504
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    weak: float = 2.0
    strong: float = 3.0
    minimum_days: Annotated[int, Field(ge=20)] = 120
    evidence: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> SelectionSettings:
        if self.weak >= self.strong:
            raise ValueError(f"weak must lie below strong, got weak = {self.weak:g} and strong = {self.strong:g}.")
        return self


@dataclass(frozen=True)
class Selection:
    """Over the bars of one class, decided at each close.

    `chosen`: index into STRATEGIES (0 flat, also where nothing is forecast). `score`: (bars, strategies), expected net
    return of a bar. `evidence`: (bars,) factor 0-1. `proposed`: the chosen weight before, `weight` after evidence.
    `too_good`: (bars,) where the record so far is better than an honest market allows, so that nothing is held, unless
    the settings override the evidence.
    """

    chosen: IntArray
    score: FloatArray
    evidence: FloatArray
    proposed: FloatArray
    weight: FloatArray
    too_good: BoolArray


def select_strategy(
    forecasts: Forecasts,
    proposals: Proposals,
    net: FloatArray,
    cost_per_side: float,
    target_per_bar: float,
    settings: SelectionSettings | None = None,
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
    allowed: what may be better than an honest market allows, see `too_good_so_far`; else such a record holds nothing.
    """
    settings = settings or SelectionSettings()
    samples = forecasts.samples
    record = fixed_share_record(net, samples.time, proposals.forecast_at, target_per_bar, settings)
    edge = proposals.expected / samples.horizon
    evidence = evidence_factor(forecasts, settings)
    count, kinds = proposals.weights.shape
    chosen = np.zeros(count, np.int64)
    score = np.zeros((count, kinds))
    at = proposals.forecast_at
    score[at] = record[at] + proposals.weights[at] * edge[at, None]
    per_unit = cost_per_side / samples.horizon
    held, kind, previous = 0.0, 0, -2
    for row in at.tolist():
        if row != previous + 1 or samples.symbol[row] != samples.symbol[previous]:
            held, kind = 0.0, 0
        after_cost = score[row] - per_unit * np.abs(proposals.weights[row] - held)
        best = int(np.argmax(after_cost))
        if after_cost[best] > after_cost[kind]:
            kind = best
        held, previous = proposals.weights[row, kind], row
        chosen[row] = kind
    proposed = proposals.weights[np.arange(count), chosen]
    too_good = _too_good(forecasts, proposals, net, chosen, allowed)
    if settings.evidence is None:
        evidence = np.where(too_good, 0.0, evidence)
    return Selection(chosen, score, evidence, proposed, proposed * evidence, too_good)


def _too_good(
    forecasts: Forecasts, proposals: Proposals, net: FloatArray, chosen: IntArray, allowed: Collection[str]
) -> BoolArray:
    """(bars,) where the record of the forecasts or of the strategies in force is too good to be true so far."""
    samples = forecasts.samples
    before = np.r_[0, chosen[:-1]]  # what earned a bar's return was in force at the close before
    earned = np.where(np.r_[True, np.diff(samples.symbol) != 0], 0.0, net[np.arange(len(net)), before])
    market = net[:, STRATEGIES.index("buy_and_hold")]
    money = too_much_money_so_far(samples, earned, market, proposals.forecast_at, allowed)
    return too_good_so_far(forecasts, allowed) | money


def fixed_share_record(
    net: FloatArray,
    time: NDArray[np.datetime64],
    forecast_at: IntArray,
    target_per_bar: float,
    settings: SelectionSettings,
) -> FloatArray:
    """(bars, strategies) net return a bar that each strategy's past record promises beyond flat, known at the close.

    The record is the class's: the mean over its symbols at each moment. The log weights of fixed-share experts grow
    with net profit and are mixed with 1/memory of equality, so that the record forgets and can always come back.
    """
    moments, inverse = np.unique(time, return_inverse=True)
    covered = np.zeros(len(time), bool)
    covered[forecast_at] = True
    count = np.bincount(inverse[covered], minlength=len(moments))
    total = np.column_stack([np.bincount(inverse[covered], column[covered], len(moments)) for column in net.T])
    gain = total / np.maximum(count, 1)[:, None] / target_per_bar
    kinds, share = net.shape[1], 1.0 / settings.memory_bars
    weights = np.full(kinds, 1.0 / kinds)
    promise = np.zeros((len(moments), kinds))
    unit = target_per_bar / (settings.learning_rate * settings.memory_bars)
    for i in range(len(moments)):
        if count[i]:
            weights = weights * np.exp(settings.learning_rate * np.clip(gain[i], -10, 10))
            weights = (1 - share) * weights / weights.sum() + share / kinds
        promise[i] = np.log(weights / weights[0]) * unit
    return promise[inverse]


def evidence_factor(forecasts: Forecasts, settings: SelectionSettings) -> FloatArray:
    """(bars,) between 0 and 1 from the walk-forward Clark-West statistic of the ensemble's return forecast.

    At each close it looks at the answers that became known in earlier sessions, against a forecast of zero; a session
    counts once, as the mean over the class's symbols of standardised products, and the overlap of answers is allowed
    for (Bartlett weights). The session that is going on waits for the next: how many answers it will bring is not known
    before its end. Below `weak` nothing is held, from `strong` on everything.
    """
    samples = forecasts.samples
    if settings.evidence is not None:
        return np.full(len(samples.time), settings.evidence)
    factor = np.zeros(len(samples.time))
    if not forecasts.folds:
        return factor
    unit = (samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)) ** 2
    forecast = forecasts.values["ensemble"]["return"][:, -1]
    answer = samples.targets["return"].value[samples.decided, -1]
    product = 2 * answer * forecast / unit
    rows = np.flatnonzero(np.isfinite(product))
    if len(rows) == 0:
        return factor
    days, day = np.unique(session_date(samples.known_at[rows]), return_inverse=True)
    mean = np.bincount(day, product[rows]) / np.bincount(day)
    statistic = expanding_t(mean, samples.horizon_sessions - 1)
    value = np.clip((statistic - settings.weak) / (settings.strong - settings.weak), 0.0, 1.0)
    value[: settings.minimum_days] = 0.0
    last = np.searchsorted(days, session_date(samples.time)) - 1  # the latest session that is over
    return np.where(last >= 0, value[np.maximum(last, 0)], 0.0)


def expanding_t(values: FloatArray, lags: int) -> FloatArray:
    """(n,) the t statistic of the mean of values[: i + 1], Bartlett weights over `lags`; 0 where undefined.

    >>> expanding_t(np.array([1.0, 2.0, 3.0]), 0).round(4).tolist()
    [0.0, 4.2426, 4.2426]
    """
    count = np.arange(1, len(values) + 1)
    sums = np.cumsum(values)
    mean = sums / count
    total = np.maximum(np.cumsum(values**2) / count - mean**2, 0.0)
    for lag in range(1, min(lags, len(values) - 1) + 1):
        product = np.r_[np.zeros(lag), np.cumsum(values[lag:] * values[:-lag])]
        early = np.r_[np.zeros(lag), sums[:-lag]]  # sum of values[: i + 1 - lag]
        late = sums - sums[lag - 1]  # sum of values[lag : i + 1]
        covariance = (product - mean * (early + late) + np.maximum(count - lag, 0) * mean**2) / count
        total += 2 * (1 - lag / (lags + 1)) * np.where(count > lag, covariance, 0.0)
    return np.where(total > 1e-300, mean / np.sqrt(np.maximum(total, 1e-300) / count), 0.0)
