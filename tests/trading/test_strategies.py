"""What each strategy proposes, against plain rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import talib
from made_up import made_up

from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.intervals import IntervalForecasts, Intervals, with_intervals
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.windows import Samples
from gatecast.trading.signals import Signals, make_signals
from gatecast.trading.strategies import Proposals, StrategySettings, propose

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
ROUND_TRIP, PERIODS = 0.0010, 252.0


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill={"lstm": 0.5, "forest": 0.5, "logistic": 0.5}))


@pytest.fixture(scope="module")
def signals(forecasts: Forecasts) -> Signals:
    return make_signals(forecasts)


@pytest.fixture(scope="module")
def proposals(forecasts: Forecasts, signals: Signals, market: pl.DataFrame) -> Proposals:
    return propose(forecasts, signals, market, ROUND_TRIP, PERIODS)


def weight(proposals: Proposals, name: str) -> FloatArray:
    return proposals.of(name)


def size_of(forecasts: Forecasts, at: np.ndarray[Any, Any]) -> FloatArray:
    """Target volatility over the ensemble's, close to close and a bar, never above 1."""
    samples = forecasts.samples
    variance = forecasts.values["ensemble"]["volatility"][forecasts.rows] * samples.facts.ratio[at]
    return np.minimum(1.0, (0.15 / np.sqrt(PERIODS)) / np.sqrt(variance / samples.horizon))


def test_buy_and_hold_is_sized_by_forecast_volatility(forecasts: Forecasts, proposals: Proposals) -> None:
    at = proposals.forecast_at
    np.testing.assert_array_equal(at, forecasts.samples.ends[forecasts.rows])
    np.testing.assert_allclose(weight(proposals, "held_long")[at], size_of(forecasts, at), rtol=1e-12)
    assert 0 < weight(proposals, "held_long")[at].min() < weight(proposals, "held_long")[at].max() <= 1


def test_nothing_is_proposed_where_nothing_was_forecast(proposals: Proposals) -> None:
    assert (np.delete(proposals.weights, proposals.forecast_at, axis=0) == 0).all()
    assert (weight(proposals, "flat") == 0).all()
    assert (np.abs(proposals.weights) <= 1).all()
    for name in proposals.names[1:]:
        assert (weight(proposals, name) != 0).any(), name


def test_trend_follows_the_return_over_120_bars(
    forecasts: Forecasts, proposals: Proposals, market: pl.DataFrame
) -> None:
    close = market["close"].to_numpy()
    for row, size in zip(proposals.forecast_at, size_of(forecasts, proposals.forecast_at), strict=True):
        expected = size * np.sign(close[row] / close[row - 120] - 1)
        assert weight(proposals, "trend")[row] == pytest.approx(expected)


def test_mean_reversion_buys_below_30_sells_above_70_and_leaves_at_50(
    forecasts: Forecasts, proposals: Proposals, market: pl.DataFrame
) -> None:
    side = []
    for symbol in market["symbol"].unique(maintain_order=True):
        rsi = talib.RSI(market.filter(pl.col("symbol") == symbol)["close"].to_numpy(), 14)
        state, above = 0.0, None
        for value in rsi:
            if value < 30:
                state = 1.0
            elif value > 70:
                state = -1.0
            elif above is not None and (value > 50) != above:
                state = 0.0
            above = value > 50
            side.append(state)
    at = proposals.forecast_at
    late = np.zeros(len(market), bool)
    late[at[(at % 1400) > 1000]] = True  # both indicators have settled by then
    found, expected = weight(proposals, "mean_reversion"), np.array(side)
    np.testing.assert_array_equal(np.sign(found[late]), expected[late])
    assert {-1.0, 0.0, 1.0} == set(expected[late])


def lstm_side(forecasts: Forecasts, signals: Signals, expected: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(side, whether agreed) by a slow loop: the latest traded signal, for a horizon."""
    samples, rows = forecasts.samples, forecasts.rows
    signal, consensus = np.zeros(len(samples.time)), np.zeros(len(samples.time), bool)
    signal[samples.ends[rows]], consensus[samples.ends[rows]] = signals.signal[rows], signals.consensus[rows]
    side, agreed = np.zeros(len(signal)), np.zeros(len(signal), bool)
    for row in range(len(signal)):
        for back in range(samples.horizon):
            then = row - back
            if then < 0 or samples.symbol[then] != samples.symbol[row]:
                break
            if signal[then] != 0 and signal[then] * expected[then] > ROUND_TRIP:
                if side[row] == 0:
                    side[row] = signal[then]
                if consensus[then] and not agreed[row]:
                    agreed[row] = signal[then] == side[row]
                    break
    return side, agreed


def test_a_signal_is_held_for_a_horizon_and_only_where_it_pays_its_round_trip(
    forecasts: Forecasts, signals: Signals, proposals: Proposals
) -> None:
    side, _ = lstm_side(forecasts, signals, proposals.expected)
    at = proposals.forecast_at
    np.testing.assert_allclose(weight(proposals, "model_signal")[at], side[at] * size_of(forecasts, at), rtol=1e-12)
    shown = proposals.signal != 0
    assert 0 < proposals.worth_its_cost.sum() < shown.sum()  # all are shown, some are traded
    assert not proposals.worth_its_cost[~shown].any()
    assert (proposals.signal * proposals.expected)[proposals.worth_its_cost].min() > ROUND_TRIP


def test_dear_trading_means_none(forecasts: Forecasts, signals: Signals, market: pl.DataFrame) -> None:
    dear = propose(forecasts, signals, market, 0.5, PERIODS)
    for name in ("model_signal", "consensus_signal", "ensemble_signal"):
        assert (weight(dear, name) == 0).all()
    assert (dear.signal != 0).any()


def test_consensus_enlarges_at_equal_average_risk(
    forecasts: Forecasts, signals: Signals, proposals: Proposals, market: pl.DataFrame
) -> None:
    side, agreed = lstm_side(forecasts, signals, proposals.expected)
    single, both = weight(proposals, "model_signal"), weight(proposals, "consensus_signal")
    small = propose(forecasts, signals, market, ROUND_TRIP, PERIODS, StrategySettings(target_volatility=0.01))
    ratio = np.divide(
        weight(small, "consensus_signal"), weight(small, "model_signal"), where=side != 0, out=np.ones(len(side))
    )
    held = side != 0
    assert (ratio[held & agreed] > 1).all()
    assert (ratio[held & ~agreed] < 1 + 1e-12).all()
    moments = forecasts.samples.time
    for time in np.unique(moments[held])[[50, 200]]:  # within one moment a consensus is exactly half as large again
        now = ratio[held & (moments == time) & agreed]
        before = held & (moments < time)
        mean = (np.where(agreed, 1.5, 1.0)[before].sum() + 100) / (before.sum() + 100)
        np.testing.assert_allclose(now, 1.5 / mean, rtol=1e-9)
    assert ratio[held].mean() == pytest.approx(1.0, abs=0.1)
    assert (np.abs(both) <= 1).all()
    np.testing.assert_array_equal(np.sign(single), np.sign(both))


def test_the_ensemble_signal_enters_beyond_the_round_trip_and_leaves_when_the_sign_turns(
    forecasts: Forecasts, proposals: Proposals
) -> None:
    samples, at = forecasts.samples, proposals.forecast_at
    expected, state, previous, side = proposals.expected, 0.0, None, {}
    for row in at:
        if previous is None or row != previous + 1 or samples.symbol[row] != samples.symbol[previous]:
            state = 0.0
        if np.sign(expected[row]) != state:
            state = 0.0
        if abs(expected[row]) > ROUND_TRIP:
            state = float(np.sign(expected[row]))
        side[row], previous = state, row
    np.testing.assert_allclose(
        weight(proposals, "ensemble_signal")[at],
        np.array([side[row] for row in at]) * size_of(forecasts, at),
        rtol=1e-12,
    )


def test_a_gap_ends_what_is_held(forecasts: Forecasts, signals: Signals, market: pl.DataFrame) -> None:
    """The bars after a new segment's start owe nothing to those before it."""
    samples = forecasts.samples
    cut = int(samples.ends[forecasts.rows[300]])
    later = (np.arange(len(samples.time)) >= cut) & (samples.symbol == samples.symbol[cut])
    segment = samples.segment + later.astype(np.int32)
    gap = replace(forecasts, samples=replace(samples, segment=segment))
    apart = propose(gap, signals, market.with_columns(segment=pl.Series(segment)), ROUND_TRIP, PERIODS)
    fresh = apart.signal * apart.worth_its_cost
    side = np.sign(weight(apart, "model_signal"))
    assert side[cut] == fresh[cut]
    np.testing.assert_array_equal(weight(apart, "trend")[cut : cut + 120], np.zeros(120))


def test_positions_are_sized_by_the_interval_and_shrink_where_it_has_been_too_narrow(
    forecasts: Forecasts, signals: Signals, market: pl.DataFrame
) -> None:
    heads = forecasts.values["ensemble"]
    small = StrategySettings(target_volatility=0.01)  # far below the cap of 1
    timid = forecasts.with_model("ensemble", {**heads, "volatility": heads["volatility"] / 100})
    normal, learned = (
        propose(with_intervals(timid, Intervals(rate=rate)), signals, market, ROUND_TRIP, PERIODS, small)
        for rate in (0, 0.05)
    )
    plain = propose(timid, signals, market, ROUND_TRIP, PERIODS, small)
    size = [weight(one, "held_long") for one in (plain, normal, learned)]
    np.testing.assert_allclose(size[1], size[0], rtol=1e-9)  # the normal interval is the volatility
    last = timid.samples.ends[timid.folds[-1].test]
    assert size[2][last].mean() < 0.8 * size[0][last].mean()


def test_an_expected_return_that_is_lost_in_its_interval_is_not_entered(
    forecasts: Forecasts, signals: Signals, market: pl.DataFrame
) -> None:
    wide = with_intervals(forecasts)
    made = IntervalForecasts.of_heads(wide.values["ensemble"])
    assert made is not None
    half = (made.high - made.low)[forecasts.rows, -1, 0] / 2
    entered = {}
    for abstain in (0.0, 0.3, 1.0):
        found = propose(wide, signals, market, 0.0, PERIODS, StrategySettings(abstain=abstain))
        expected = np.abs(found.expected[found.forecast_at])
        np.testing.assert_array_equal(found.above_noise[found.forecast_at], expected >= abstain * half)
        assert not (found.worth_its_cost & ~found.above_noise).any()
        entered[abstain] = [np.count_nonzero(weight(found, name)) for name in ("model_signal", "ensemble_signal")]
    assert entered[0.0] > entered[0.3] > entered[1.0]
