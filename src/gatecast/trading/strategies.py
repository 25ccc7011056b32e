"""Strategies: each proposes a weight for every bar from what is known at its close, sized by forecast volatility."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
from pydantic import Field

from gatecast.forecasting.conformal import IntervalForecasts
from gatecast.forecasting.titles import model_title
from gatecast.samples.targets import to_array
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.trading.signals import Signals

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

STRATEGIES = (
    "flat", "held_long", "trend", "mean_reversion", "model_signal", "consensus_signal", "ensemble_signal",
)  # fmt: skip
FORMER_NAMES = {"buy_and_hold": "held_long", "lstm_signal": "model_signal"}
"""Names of strategies in the folders of older runs."""


class StrategySettings(Settings):
    """What the strategies have in common."""

    target_volatility: Annotated[float, Field(gt=0, le=2)] = 0.15
    """yearly volatility of a full position; a weight never exceeds 1"""
    consensus_boost: Annotated[float, Field(ge=1, le=5)] = 1.5
    """how much larger positions are when both models of the signal agree, at equal average risk"""
    abstain: Annotated[float, Field(ge=0, le=1)] = 0.05
    """share of the narrowest interval's half width below which an expected return is not entered"""
    trend_bars: Annotated[int, Field(ge=2)] = 120
    """bars of past return whose sign is the trend"""
    oversold: Annotated[float, Field(gt=0, lt=50)] = 30.0
    """RSI below which mean reversion buys"""
    overbought: Annotated[float, Field(gt=50, lt=100)] = 70.0
    """RSI above which it sells"""


@dataclass(frozen=True)
class Proposals:
    """(bars, strategies) weights in [-1, 1] proposed at each close, 0 where nothing is forecast out of sample.

    `forecast_at` are the bar-level rows that were forecast. `expected` is the ensemble's expected simple return over
    the horizon, `signal` the signal, `telling` whether the interval leaves the expected return any meaning, `traded`
    whether a signal's is telling and exceeds the round trip; all (bars,).
    """

    weights: FloatArray
    forecast_at: IntArray
    expected: FloatArray
    signal: FloatArray
    telling: NDArray[np.bool_]
    traded: NDArray[np.bool_]

    def without(self, rows: NDArray[np.bool_]) -> Proposals:
        """The same with nothing proposed at some rows, (bars,)."""
        if not rows.any():
            return self
        return replace(self, weights=np.where(rows[:, None], 0.0, self.weights), traded=self.traded & ~rows)


def strategy_titles(model: str = "", confirmed_by: str = "") -> dict[str, str]:
    """Strategy -> its title for a reader, former names included.

    `model`, `confirmed_by`: the models whose forecasts make a run's signals (`SignalSettings`); empty: unknown.

    >>> titles = strategy_titles("ridge", "forest")
    >>> titles["held_long"], titles["model_signal"], titles["consensus_signal"]
    ('held long, sized by volatility', 'ridge regression signal', 'ridge regression signal, larger with random forest')
    >>> strategy_titles()["model_signal"]
    'signal of one model'
    """
    signal = f"{model_title(model)} signal" if model else "signal of one model"
    other = model_title(confirmed_by) if confirmed_by else "another model"
    titles = {
        "flat": "flat",
        "held_long": "held long, sized by volatility",
        "trend": "trend",
        "mean_reversion": "mean reversion",
        "model_signal": signal,
        "consensus_signal": f"{signal}, larger with {other}",
        "ensemble_signal": "ensemble signal",
    }
    return titles | {former: titles[name] for former, name in FORMER_NAMES.items()}


def propose(
    forecasts: Forecasts,
    signals: Signals,
    bars: pl.DataFrame,
    round_trip: float,
    periods_per_year: float,
    settings: StrategySettings | None = None,
) -> Proposals:
    """Weights of every strategy in `STRATEGIES` for the bars of one class, decided at each close.

    `bars`: the Bars frame that the samples were made from, same rows. `round_trip`: cost in and out, as a fraction.
    A position is sized by the width of the narrowest interval, where there are intervals, else by forecast volatility:
    the same as long as the ends are the normal ones, smaller where answers have lain beyond them.
    """
    from scipy.special import ndtri

    settings = settings or StrategySettings()
    samples, horizon = forecasts.samples, forecasts.samples.horizon
    rows = forecasts.rows
    at = samples.decided[rows]
    count = len(samples.time)

    def at_bars(values: FloatArray) -> FloatArray:
        table = np.zeros(count)
        table[at] = np.nan_to_num(values[rows])
        return table

    ensemble = forecasts.values["ensemble"]
    intervals = IntervalForecasts.of_heads(ensemble)
    if intervals:
        deviation = np.maximum(at_bars(intervals.deviation), 1e-12)
        least = settings.abstain * ndtri(0.5 + intervals.levels[0] / 2) * deviation
    else:
        deviation = np.sqrt(at_bars(ensemble["volatility"] * samples.facts.ratio[samples.ends]))
        least = np.zeros(count)
    per_bar = settings.target_volatility / np.sqrt(periods_per_year)
    size = np.zeros(count)
    size[at] = np.minimum(1.0, per_bar * np.sqrt(horizon) / deviation[at])
    expected, signal = at_bars(ensemble["return_simple"]), at_bars(signals.signal)
    consensus = at_bars(signals.consensus.astype(float))
    telling = np.abs(expected) >= least
    traded = (signal != 0) & (signal * expected > round_trip) & telling

    group = samples.symbol.astype(np.int64) * (samples.segment.max() + 1) + samples.segment
    side = _held_for(signal * traded, group, horizon)
    agreed = _held_for(signal * traded * consensus, group, horizon) == side
    boost = np.where((side != 0) & agreed, settings.consensus_boost, 1.0)
    boosted = boost / _past_mean(boost, side != 0, samples.time)
    known = np.zeros(count, np.int64)
    known[at] = samples.ends[rows]  # the newest row known at each decision
    rules = {name: sign[known] for name, sign in _rules(bars, settings).items()}
    weights = {
        "flat": np.zeros(count),
        "held_long": size,
        "trend": size * rules["trend"],
        "mean_reversion": size * rules["mean_reversion"],
        "model_signal": size * side,
        "consensus_signal": np.clip(size * side * boosted, -1.0, 1.0),
        "ensemble_signal": size * _until_it_turns(expected, np.maximum(round_trip, least), group),
    }
    table = np.column_stack([weights[name] for name in STRATEGIES])
    covered = np.zeros(count, bool)
    covered[at] = True
    return Proposals(np.where(covered[:, None], table, 0.0), at, expected, signal, telling, traded)


def _rules(bars: pl.DataFrame, settings: StrategySettings) -> dict[str, FloatArray]:
    """The sides of the rules that need bars alone: trend and mean reversion."""
    from gatecast.samples.features import compute_features

    group = ["symbol", "segment"]
    rsi = compute_features(bars, ["rsi_14"])["rsi_14"]
    frame = bars.select(*group, "close").with_columns(rsi=rsi)
    above = pl.col("rsi") > 50
    event = (
        pl.when(pl.col("rsi") < settings.oversold)
        .then(1.0)
        .when(pl.col("rsi") > settings.overbought)
        .then(-1.0)
        .when(above != above.shift(1).over(group))
        .then(0.0)
    )
    frame = frame.with_columns(
        trend=(pl.col("close") / pl.col("close").shift(settings.trend_bars).over(group) - 1).sign(),
        event=event,
    ).with_columns(mean_reversion=pl.col("event").forward_fill().over(group))
    return {name: np.nan_to_num(to_array(frame, name)) for name in ("trend", "mean_reversion")}


def _held_for(side: FloatArray, group: IntArray, bars: int) -> FloatArray:
    """The latest non-zero side of the last `bars` bars of the same group, 0 if there was none."""
    number = np.arange(len(side))
    latest = np.maximum.accumulate(np.where(side != 0, number, -1))
    fresh = (latest >= 0) & (number - latest < bars) & (group[np.maximum(latest, 0)] == group)
    return np.where(fresh, side[np.maximum(latest, 0)], 0.0)


def _until_it_turns(expected: FloatArray, least: FloatArray, group: IntArray) -> FloatArray:
    """Side of the expected return once it exceeds so much, kept until the expectation changes sign."""
    enters = np.where(np.abs(expected) > least, np.sign(expected), 0.0)
    number = np.arange(len(expected))
    turns = np.r_[True, (np.sign(expected[1:]) != np.sign(expected[:-1])) | (group[1:] != group[:-1])]
    since = np.maximum.accumulate(np.where(turns, number, 0))
    latest = np.maximum.accumulate(np.where(enters != 0, number, -1))
    return np.where(latest >= since, enters[np.maximum(latest, 0)], 0.0)


def _past_mean(boost: FloatArray, held: NDArray[np.bool_], time: NDArray[np.datetime64]) -> FloatArray:
    """Mean boost over the positions of all symbols held before each time: dividing by it keeps the average risk."""
    moments, inverse = np.unique(time, return_inverse=True)
    total = np.bincount(inverse[held], boost[held], len(moments))
    count = np.bincount(inverse[held], minlength=len(moments))
    before_total, before_count = np.r_[0.0, np.cumsum(total)[:-1]], np.r_[0, np.cumsum(count)[:-1]]
    prior = 100  # positions of size 1 that the mean starts from
    mean: FloatArray = (before_total + prior) / (before_count + prior)
    return mean[inverse]
