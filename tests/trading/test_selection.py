"""Which strategy is in force, against slow plain implementations, and how evidence reaches the money."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up import made_up, with_answers

from gatecast.errors import SettingsError
from gatecast.forecasting.ensemble import Ensemble
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market.bars import session_date
from gatecast.metrics.significance import clark_west
from gatecast.samples.windows import Samples
from gatecast.trading.selection import (
    SelectionSettings,
    evidence_factor,
    expanding_t,
    fixed_share_record,
    select_strategy,
)
from gatecast.trading.strategies import STRATEGIES, Proposals

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
TARGET, COST = 0.01, 0.0005
KINDS = len(STRATEGIES)


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.03)))


@pytest.fixture(scope="module")
def net(samples: Samples) -> FloatArray:
    table = 0.01 * np.random.default_rng(2).standard_normal((len(samples.time), KINDS))
    table[:, 0] = 0.0
    table[:, 3] += 0.002  # one strategy earns
    return table


def made_up_proposals(forecasts: Forecasts, seed: int = 3) -> Proposals:
    samples, rng = forecasts.samples, np.random.default_rng(seed)
    at, bars = samples.ends[forecasts.rows], len(samples.time)
    weights = np.zeros((bars, KINDS))
    weights[at] = rng.uniform(-1, 1, (len(at), KINDS))
    weights[:, 0] = 0.0
    expected = np.zeros(bars)
    expected[at] = 0.003 * rng.standard_normal(len(at))
    return Proposals(weights, at, expected, np.zeros(bars), np.ones(bars, bool), np.zeros(bars, bool))


def plain_fixed_share(net: FloatArray, time: Any, at: Any, memory: int, rate: float) -> dict[Any, list[float]]:
    """moment -> promise of each strategy, with Python floats and one moment after the other."""
    weights, found = [1 / KINDS] * KINDS, {}
    forecast = set(at.tolist())
    for moment in np.unique(time):
        rows = [row for row in np.flatnonzero(time == moment).tolist() if row in forecast]
        if rows:
            gains = [sum(net[row, k] for row in rows) / len(rows) / TARGET for k in range(KINDS)]
            grown = [w * np.exp(rate * min(max(g, -10), 10)) for w, g in zip(weights, gains, strict=True)]
            weights = [(1 - 1 / memory) * g / sum(grown) + 1 / memory / KINDS for g in grown]
        found[moment] = [np.log(w / weights[0]) * TARGET / (rate * memory) for w in weights]
    return found


@pytest.mark.parametrize(("memory", "rate"), [(504, 0.05), (50, 0.3)])
def test_the_record_is_that_of_fixed_share_experts(
    forecasts: Forecasts, net: FloatArray, memory: int, rate: float
) -> None:
    samples = forecasts.samples
    at = samples.ends[forecasts.rows]
    settings = SelectionSettings(memory_bars=memory, learning_rate=rate)
    record = fixed_share_record(net, samples.time, at, TARGET, settings)
    plain = plain_fixed_share(net, samples.time, at, memory, rate)
    for row in range(0, len(samples.time), 37):
        np.testing.assert_allclose(record[row], plain[samples.time[row]], rtol=1e-8, atol=1e-15)
    assert (record[:, 0] == 0).all()
    assert (record[: at[0]] == 0).all()
    assert record[at[-1]].argmax() == 3


@pytest.mark.parametrize(("share", "tolerance"), [(0.005, 0.1), (0.05, 0.35)])
def test_the_record_promises_about_what_was_earned(share: float, tolerance: float) -> None:
    """A steady gain becomes a promise of about as much a bar."""
    time = np.arange(4000).astype("datetime64[D]").astype("datetime64[us]")
    net = np.zeros((4000, KINDS))
    net[:, 1] = share * TARGET
    promise = fixed_share_record(net, time, np.arange(4000), TARGET, SelectionSettings())[-1, 1]
    assert promise == pytest.approx(share * TARGET, rel=tolerance)


def test_the_record_forgets(net: FloatArray) -> None:
    time = np.arange(2000).astype("datetime64[D]").astype("datetime64[us]")
    table = np.zeros((2000, KINDS))
    table[:300, 2], table[300:, 2] = 0.005, -0.005
    record = fixed_share_record(table, time, np.arange(2000), TARGET, SelectionSettings(memory_bars=100))
    assert record[299, 2] > 0
    assert record[-1, 2] < 0


def test_the_choice_is_the_best_score_after_the_cost_of_getting_there(forecasts: Forecasts, net: FloatArray) -> None:
    samples, proposals = forecasts.samples, made_up_proposals(forecasts)
    selection = select_strategy(forecasts, proposals, net, COST, TARGET)
    plain = plain_fixed_share(net, samples.time, proposals.forecast_at, 504, 0.05)
    held, kind, previous = 0.0, 0, None
    for row in proposals.forecast_at.tolist():
        if previous is None or samples.symbol[row] != samples.symbol[previous]:
            held, kind = 0.0, 0
        weights = proposals.weights[row]
        score = [
            promise + w * proposals.expected[row] / samples.horizon
            for promise, w in zip(plain[samples.time[row]], weights, strict=True)
        ]
        after = [s - COST / samples.horizon * abs(w - held) for s, w in zip(score, weights, strict=True)]
        if max(after) > after[kind] + 1e-15:
            kind = int(np.argmax(after))
        assert selection.chosen[row] == kind
        np.testing.assert_allclose(selection.score[row], score, rtol=1e-7, atol=1e-12)
        held, previous = weights[kind], row
    assert len(np.unique(selection.chosen)) > 3


def test_flat_scores_nothing_and_is_in_force_where_nothing_promises_more(forecasts: Forecasts) -> None:
    proposals = made_up_proposals(forecasts)
    bars = len(forecasts.samples.time)
    losing = np.full((bars, KINDS), -0.002)
    losing[:, 0] = 0.0
    hopeless = replace(proposals, expected=np.zeros(bars))
    selection = select_strategy(forecasts, hopeless, losing, COST, TARGET)
    assert (selection.score[:, 0] == 0).all()
    # on the very first bar all records are equal, and nothing beats doing nothing
    assert (selection.chosen == 0).all()
    assert (selection.weight == 0).all()


def test_costs_keep_a_strategy_in_force(forecasts: Forecasts, net: FloatArray) -> None:
    proposals = made_up_proposals(forecasts)
    steady = np.where(proposals.weights != 0, np.linspace(-1, 1, KINDS), 0.0)  # every weight stays what it is
    steady[:, 0] = 0.0
    changes = [
        int(
            np.count_nonzero(
                np.diff(select_strategy(forecasts, replace(proposals, weights=steady), net, cost, TARGET).chosen)
            )
        )
        for cost in (0.0, COST, 10 * COST)
    ]
    assert changes[0] > 1.2 * changes[1] > 1.2 * changes[2]


def test_outside_the_forecasts_nothing_is_chosen(forecasts: Forecasts, net: FloatArray) -> None:
    proposals = made_up_proposals(forecasts)
    selection = select_strategy(forecasts, proposals, net, COST, TARGET)
    outside = np.delete(np.arange(len(net)), proposals.forecast_at)
    assert (selection.chosen[outside] == 0).all()
    assert (selection.weight[outside] == 0).all()
    np.testing.assert_array_equal(selection.weight, selection.proposed * selection.evidence)


# ── evidence ──────────────────────────────────────────────────────────────────────────────────────


def plain_statistic(forecasts: Forecasts, moment: np.datetime64) -> tuple[float, int]:
    """Clark-West on session means of what was answered in the sessions before the moment's own."""
    samples = forecasts.samples
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    answer = samples.targets["return"].value[samples.ends, -1] / unit
    forecast = forecasts.values["ensemble"]["return"][:, -1] / unit
    answered = session_date(samples.known_at)
    today = session_date(np.array([moment]))[0]
    rows = np.flatnonzero(np.isfinite(forecast) & np.isfinite(answer) & (answered < today))
    days = np.unique(answered[rows])
    if len(days) < 2:
        return 0.0, len(days)
    # the test wants series: sign and size of a day's mean product as an "answer" times a "forecast" of 1
    product = np.array([(answer * forecast)[rows[answered[rows] == day]].mean() for day in days])
    test = clark_west(product, np.zeros(len(days)), np.ones(len(days)), horizon=samples.horizon)
    return test.statistic, len(days)


def test_evidence_is_the_clark_west_statistic_known_at_the_time(forecasts: Forecasts) -> None:
    settings = SelectionSettings(weak=-3.0, strong=5.0, minimum_days=20)
    factor = evidence_factor(forecasts, settings)
    samples = forecasts.samples
    moments = np.unique(samples.times[forecasts.rows])
    seen = []
    for moment in moments[[100, 200, 500, 777, -1]]:
        statistic, days = plain_statistic(forecasts, moment)
        expected = np.clip((statistic + 3) / 8, 0, 1) if days > 20 else 0.0
        for value in factor[samples.time == moment]:
            assert value == pytest.approx(expected, abs=1e-9)
        seen.append(expected)
    assert np.ptp(seen) > 0.1


def test_one_symbol_whose_products_need_no_mean_is_clark_west_itself(forecasts: Forecasts) -> None:
    samples = forecasts.samples
    first = samples.symbol[samples.ends] == 0
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    answer = samples.targets["return"].value[samples.ends, -1] / unit
    forecast = forecasts.values["ensemble"]["return"][:, -1] / unit
    rows = np.flatnonzero(first & np.isfinite(answer) & np.isfinite(forecast))
    product = 2 * (answer * forecast)[rows]
    statistics = expanding_t(product, samples.horizon - 1)
    for n in (300, 700, len(rows)):
        test = clark_west(answer[rows[:n]], np.zeros(n), forecast[rows[:n]], horizon=samples.horizon)
        assert statistics[n - 1] == pytest.approx(test.statistic, rel=1e-9)


def test_evidence_waits_for_its_minimum_of_sessions(forecasts: Forecasts) -> None:
    settings = SelectionSettings(weak=-1e9, strong=-1e8, minimum_days=200)  # any statistic at all would do
    factor = evidence_factor(forecasts, settings)
    samples = forecasts.samples
    for moment in np.unique(samples.time)[::23]:
        _, days = plain_statistic(forecasts, moment)
        assert factor[samples.time == moment].tolist() == [float(days > 200)] * 2


def test_answers_of_the_session_that_is_going_on_change_nothing_yet(forecasts: Forecasts) -> None:
    samples, settings = forecasts.samples, SelectionSettings(weak=-3.0, strong=5.0, minimum_days=20)
    before = evidence_factor(forecasts, settings)
    for moment in np.unique(samples.times[forecasts.rows])[[150, 400, 900]]:
        value = samples.targets["return"].value.copy()
        late = samples.ends[~(session_date(samples.known_at) < session_date(np.array([moment])))]
        value[late] = 0.5
        after = evidence_factor(with_answers(forecasts, "return", value), settings)
        past = samples.time <= moment
        np.testing.assert_array_equal(after[past], before[past])
        assert not np.array_equal(after, before)


def test_a_users_evidence_overrides_the_record(forecasts: Forecasts, net: FloatArray) -> None:
    proposals = made_up_proposals(forecasts)
    selection = select_strategy(forecasts, proposals, net, COST, TARGET, SelectionSettings(evidence=0.25))
    assert (selection.evidence == 0.25).all()
    np.testing.assert_allclose(selection.weight, 0.25 * selection.proposed)


@pytest.mark.parametrize(("weak", "strong"), [(2.0, 2.0), (3.0, 2.0)])
def test_weak_evidence_is_weaker_than_strong(weak: float, strong: float) -> None:
    with pytest.raises(SettingsError, match="weak must lie below strong"):
        SelectionSettings(weak=weak, strong=strong)
