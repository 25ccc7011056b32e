"""Which strategy is in force, against slow plain implementations, and how evidence reaches the money."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up import made_up, with_answers

from gatecast.errors import SettingsError
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market.bars import session_date
from gatecast.metrics.significance import sequential_mean
from gatecast.samples.windows import Samples
from gatecast.trading.selection import (
    SelectionSettings,
    evidence_factor,
    fixed_share_record,
    select_strategy,
    session_products,
    watch,
)
from gatecast.trading.strategies import NAMES, Proposals

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
TARGET, COST = 0.01, 0.0005
KINDS = len(NAMES)


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
    return Proposals(NAMES, weights, at, expected, np.zeros(bars), np.ones(bars, bool), np.zeros(bars, bool))


def plain_fixed_share(net: FloatArray, time: Any, at: Any, memory: int, rate: float) -> dict[Any, list[float]]:
    """moment -> promise of each strategy, with Python floats and one moment after the other."""
    weights, found = [1 / KINDS] * KINDS, {}
    forecast = set(at.tolist())
    for moment in np.unique(time):
        rows = np.flatnonzero(time == moment).tolist()  # what is held earns without a forecast, too
        count = max(sum(row in forecast for row in rows), 1)
        if any(net[row].any() for row in rows):
            gains = [sum(net[row, k] for row in rows) / count / TARGET for k in range(KINDS)]
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


def test_what_is_held_through_a_gap_is_where_the_next_choice_starts(forecasts: Forecasts, net: FloatArray) -> None:
    """A gap of ten forecasts changes nothing after it as long as the listing is the same; a new listing starts flat."""
    samples, proposals = forecasts.samples, made_up_proposals(forecasts)
    at = proposals.forecast_at
    own = at[samples.symbol[at] == 0]
    steady = np.where(proposals.weights != 0, 0.5, 0.0)
    steady[:, 0] = 0.0
    gap, after = own[300:310], own[310]
    kept = np.setdiff1d(at, gap)
    halted = replace(proposals, weights=steady, forecast_at=kept, expected=np.zeros(len(samples.time)))
    earning = np.zeros_like(net)
    earning[samples.time < samples.time[own[200]], 3] = 0.002
    promise = fixed_share_record(earning, samples.time, kept, TARGET, SelectionSettings())[:, 3]
    cost = samples.horizon * (promise[own].max() + promise[after])  # to enter pays at the best promise, not at the last
    assert select_strategy(forecasts, halted, earning, cost, TARGET).chosen[[own[299], after]].tolist() == [3, 3]
    listing = samples.listing.copy()
    listing[(samples.symbol == 0) & (np.arange(len(listing)) >= after)] += 1
    renewed = replace(forecasts, samples=replace(samples, listing=listing))
    assert select_strategy(renewed, halted, earning, cost, TARGET).chosen[[own[299], after]].tolist() == [3, 0]


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


def plain_products(forecasts: Forecasts) -> dict[Any, list[list[float]]]:
    """session -> each bar's part of each forecast's products, against zero and the past mean, in plain loops."""
    samples, found = forecasts.samples, {}
    value, horizon = samples.targets["return"].value, samples.horizon
    for row in forecasts.rows.tolist():
        end = int(samples.ends[row])
        unit = samples.facts.sigma[end] ** 2 * horizon
        forecast = forecasts.values["ensemble"]["return"][row, -1]
        for step in range(horizon):
            if end + step + 1 >= len(samples.time) or samples.symbol[end + step + 1] != samples.symbol[end]:
                continue
            bar = value[end, step] - (value[end, step - 1] if step else 0.0)
            if not np.isfinite(bar * forecast):
                continue
            day = session_date(samples.time[[end + step + 1]])[0]
            mean = samples.facts.mean[end]
            pair = [2 * bar * forecast / unit, 2 * (bar - mean) * (forecast - horizon * mean) / unit]
            found.setdefault(day, []).append(pair)
    return found


def test_a_session_holds_the_parts_of_the_products_that_became_known_in_it(forecasts: Forecasts) -> None:
    days, products = session_products(forecasts)
    plain = plain_products(forecasts)
    assert days.tolist() == sorted(plain)
    for day, product in zip(days[::17], products[::17], strict=True):
        np.testing.assert_allclose(product, np.mean(plain[day], axis=0), rtol=1e-9, atol=1e-15)


def test_the_parts_sum_to_the_clark_west_statistic(forecasts: Forecasts) -> None:
    """Against zero, Clark and West's term is 2 answer forecast: here the same sum, bar by bar."""
    samples = forecasts.samples
    rows = forecasts.rows[np.isfinite(samples.targets["return"].value[samples.ends[forecasts.rows], -1])]
    ends = samples.ends[rows]
    unit = samples.facts.sigma[ends] * np.sqrt(samples.horizon)
    answer = samples.targets["return"].value[ends, -1] / unit
    forecast = forecasts.values["ensemble"]["return"][rows, -1] / unit
    term = answer**2 - ((answer - forecast) ** 2 - forecast**2)
    values = forecasts.values["ensemble"]["return"].copy()
    values[np.setdiff1d(np.arange(len(samples)), rows)] = np.nan  # answers that are known in part
    whole = forecasts.with_model("ensemble", {**forecasts.values["ensemble"], "return": values})
    parts = plain_products(whole)
    total = sum(len(parts[day]) * row[0] for day, row in zip(*session_products(whole), strict=True))
    assert total == pytest.approx(term.sum(), rel=1e-9)


def test_parts_of_overlapping_answers_do_not_overlap() -> None:
    """A forecast of 20 bars from noise: the lagged correlation of products, .95 at lag 1 by whole answers, is 0."""
    from gatecast.market import synthetic
    from gatecast.samples.windows import make_samples

    samples = make_samples(synthetic.a1(2500, seed=4), ("ret_log_1",), horizon=20)["index"]
    found = Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.0)))
    noise = np.full((len(samples), 20), np.nan)
    noise[found.rows, -1] = 0.002 + 0.001 * np.random.default_rng(0).standard_normal(len(found.rows))
    found = found.with_model("ensemble", {**found.values["ensemble"], "return": noise})
    product = session_products(found)[1][:, 0]
    whole = (noise[:, -1] * samples.targets["return"].value[samples.ends, -1])[found.rows]
    whole = whole[np.isfinite(whole)]
    correlations = [np.corrcoef(series[1:], series[:-1])[0, 1] for series in (product, whole)]
    assert abs(correlations[0]) < 3 / np.sqrt(len(product))
    assert correlations[1] > 0.7


def plain_watch(products: FloatArray, threshold: FloatArray, minimum: int) -> list[bool]:
    """The rule with one session after the other, each seeing only the sessions before it."""
    start, holds, found = 0, False, []
    for now in range(1, len(products) + 1):
        losing = (products[max(0, now - 250) : now].sum(0) < 0).any()
        if holds and losing:
            holds, start = False, now
        elif not holds and now >= minimum and not losing:
            evidence = min(sequential_mean(one[start:now]).evidence[-1] for one in products.T)
            holds = evidence > threshold[now - 1]
        found.append(holds)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_watched_is_decided_from_the_past_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    products = rng.standard_normal((900, 2)) + np.repeat([0.35, -0.35, 0.35], 300)[:, None]
    threshold = np.full(900, 20.0)
    found = watch(products, threshold, 120).tolist()
    assert found == plain_watch(products, threshold, 120)
    assert 1 < np.count_nonzero(np.diff(found)) < 20
    for cut in (130, 299, 500, 650):
        assert watch(products[:cut], threshold[:cut], 120).tolist() == found[:cut]


def test_both_rivals_must_be_beaten() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.standard_normal(800) + 0.3, rng.standard_normal(800)
    threshold = np.full(800, 20.0)
    assert watch(np.column_stack([good, good]), threshold, 60).any()
    assert not watch(np.column_stack([good, bad]), threshold, 60).any()
    assert not watch(np.column_stack([bad, good]), threshold, 60).any()


def test_skill_that_is_gone_a_bar_later_holds_nothing() -> None:
    rng = np.random.default_rng(1)
    good, gone = rng.standard_normal((800, 2)) + 0.3, rng.standard_normal((800, 2))
    threshold = np.full(800, 20.0)
    assert watch(good, threshold, 60, good + 0.1 * gone).any()
    assert not watch(good, threshold, 60, gone).any()


def test_a_late_forecast_is_held_against_the_answer_of_a_later_close(forecasts: Forecasts) -> None:
    """The same products as of forecasts that were moved by hand to the next row of their symbol."""
    samples = forecasts.samples
    values = forecasts.values["ensemble"]["return"]
    moved = np.full_like(values, np.nan)
    moved[1:] = values[:-1]
    moved[1:][np.diff(samples.symbol[samples.ends]) != 0] = np.nan
    moved[~np.isfinite(values[:, -1])] = np.nan
    other = forecasts.with_model("ensemble", {**forecasts.values["ensemble"], "return": moved})
    for one, two in zip(session_products(forecasts, late=1), session_products(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_at_most_one_series_in_twenty_without_skill_is_ever_held() -> None:
    """1,000 series of 1,500 sessions, products of persistent forecasts: the size is below its nominal 5 %."""
    rng = np.random.default_rng(7)
    forecast = _persistent(rng.standard_normal((1700, 1000)), 0.97)[200:]
    products = forecast * rng.standard_normal((1500, 1000))
    ever = [watch(one[:, None], np.full(1500, 20.0), 120).any() for one in products.T]
    assert np.mean(ever) <= 0.05


def _persistent(shocks: FloatArray, phi: float) -> FloatArray:
    from scipy.signal import lfilter

    path: FloatArray = lfilter([1.0], [1.0, -phi], shocks, axis=0)
    return path


def skilled(forecasts: Forecasts, skill: float = 0.2) -> Forecasts:
    """The ensemble's return forecast made of the answers, so that the test passes."""
    samples = forecasts.samples
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    values = forecasts.values["ensemble"]["return"].copy()
    answer = np.nan_to_num(samples.targets["return"].value[samples.ends, -1])
    for number in range(len(samples.symbols)):  # a forecast that lasts for some days
        own = samples.symbol[samples.ends] == number
        answer[own] = 3 * np.convolve(answer[own], np.ones(5) / 5)[4:]
    noise = np.random.default_rng(5).standard_normal(len(samples)) * unit
    values[:, -1] = np.where(np.isfinite(values[:, -1]), skill * (0.2 * answer + noise), np.nan)
    return forecasts.with_model("ensemble", {**forecasts.values["ensemble"], "return": values})


def test_evidence_begins_when_it_is_known_and_not_before_its_minimum(forecasts: Forecasts) -> None:
    good = skilled(forecasts)
    samples = good.samples
    days, products = session_products(good)
    factor = evidence_factor(good, SelectionSettings(minimum_days=20))
    late = [session_products(good, bars) for bars in (1, 2)]
    assert all(set(known) <= set(days) for known, _ in late)
    table = np.zeros((len(days), 4))
    for k, (known, one) in enumerate(late):
        table[np.isin(days, known), 2 * k : 2 * k + 2] = one
    allowed = watch(products, np.full(len(days), 20.0), 20, table)
    first = days[int(allowed.argmax())]
    assert set(factor.tolist()) == {0.0, 1.0}
    assert samples.time[factor == 1].min() == samples.time[session_date(samples.time) > first].min()
    late = evidence_factor(good, SelectionSettings(minimum_days=700))
    assert session_date(samples.time[late == 1]).min() > days[699]


def test_classes_share_the_level_from_their_first_bar_on(forecasts: Forecasts) -> None:
    good = skilled(forecasts, 0.15)
    settings, samples = SelectionSettings(minimum_days=20), good.samples
    alone = evidence_factor(good, settings)
    starts = np.r_[samples.time[:1], samples.time[:1] - np.timedelta64(9, "D")]
    many = evidence_factor(good, settings, np.repeat(starts, 500))
    assert alone.sum() > many.sum()
    later = np.repeat(samples.time.max() + np.timedelta64(9, "D"), 500)
    np.testing.assert_array_equal(alone, evidence_factor(good, settings, np.r_[starts[:1], later]))


def test_answers_of_the_session_that_is_going_on_change_nothing_yet(forecasts: Forecasts) -> None:
    good, settings = skilled(forecasts), SelectionSettings(minimum_days=20)
    samples, before = good.samples, evidence_factor(good, SelectionSettings(minimum_days=20))
    begins = samples.time[before == 1].min()
    value = samples.targets["return"].value
    for moment in (begins, begins + np.timedelta64(90, "D"), begins - np.timedelta64(60, "D")):
        changed = value.copy()
        for step in range(samples.horizon):
            known = samples.answered_at(np.arange(len(value)), step + 1)
            late = np.isnat(known) | (session_date(known) >= session_date(np.array([moment]))[0])
            changed[late, step:] = -5.0
        after = evidence_factor(with_answers(good, "return", changed), settings)
        past = samples.time <= moment
        np.testing.assert_array_equal(after[past], before[past])
        assert not np.array_equal(after, before)


def test_a_users_evidence_overrides_the_record(forecasts: Forecasts, net: FloatArray) -> None:
    proposals = made_up_proposals(forecasts)
    selection = select_strategy(forecasts, proposals, net, COST, TARGET, SelectionSettings(evidence=0.25))
    assert (selection.evidence == 0.25).all()
    np.testing.assert_allclose(selection.weight, 0.25 * selection.proposed)


def test_settings_of_older_versions_are_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"selection.weak and selection.strong: no longer a setting, ignored"):
        settings = SelectionSettings(weak=2.0, strong=3.0, minimum_days=50)
    assert settings == SelectionSettings(minimum_days=50)
    with pytest.raises(SettingsError, match="unknown setting 'weka'"):
        SelectionSettings(weka=1)
