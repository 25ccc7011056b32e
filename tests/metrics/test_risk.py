"""Known answers of scores and tests of risk, SciPy and plain formulas as oracles, and the size of the tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, false_discovery_control
from scipy.stats import t as student

from gatecast.metrics.many import benjamini_hochberg
from gatecast.metrics.risk import (
    acerbi_szekely,
    basel_zone,
    binomial_coverage,
    certainty_equivalent,
    certainty_equivalent_gain,
    christoffersen_independence,
    clustered_coverage,
    fz0_losses,
    kupiec,
    realised_by_forecast,
    realised_utility,
    sharpe_difference,
    shortfall_exceedance,
    spread_of_volatility,
    utility_level,
    utility_levels,
    volatility_ratios,
)
from gatecast.metrics.significance import bandwidth_of

REALISED, FORECAST = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0])


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def count_beyond(count: int, n: int) -> np.ndarray:
    return np.arange(n) < count


# ── utility ──────────────────────────────────────────────────────────────────────────────────────


def test_utility_of_known_forecasts() -> None:
    scaled = FORECAST * REALISED.mean() / FORECAST.mean()
    levelled = FORECAST * utility_level(REALISED, FORECAST)
    found = [realised_utility(REALISED, one) for one in (FORECAST, scaled, levelled)]
    assert np.round(found, 6).tolist() == [3.542472, 3.907860, 3.908494]
    root = 1 + 2 * np.sqrt(2)  # Σ sqrt(RV/F): at its level the utility is 4 (Σ sqrt(RV/F))² / (n Σ RV/F)
    assert found[2] == pytest.approx(4 * root**2 / (3 * 5))


def test_the_level_is_the_one_that_makes_utility_largest() -> None:
    realised, forecast = np.exp(rng(0).standard_normal((2, 200)))
    best = minimize_scalar(lambda k: -realised_utility(realised, k * forecast), bounds=(0.1, 10), method="bounded")
    assert utility_level(realised, forecast) == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize("horizon", [1, 3])
def test_levels_use_answers_that_are_known_alone_and_go_on_from_sums(horizon: int) -> None:
    realised, forecast = np.exp(rng(1).standard_normal((2, 30)))
    realised[4] = np.nan
    levels = utility_levels(realised, forecast, horizon)
    for row in range(30):
        known = utility_level(realised[: max(row - horizon + 1, 0)], forecast[: max(row - horizon + 1, 0)])
        assert levels[row] == pytest.approx(1.0 if np.isnan(known) else known)
    cut = 20
    ratio = (realised / forecast)[: cut - horizon + 1]
    later = utility_levels(
        realised[cut - horizon + 1 :], forecast[cut - horizon + 1 :], horizon,
        (np.nansum(ratio), np.nansum(np.sqrt(ratio))),
    )  # fmt: skip
    np.testing.assert_allclose(later[horizon - 1 :], levels[cut:], rtol=1e-12)


def test_impossible_variances_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0, got 0"):
        realised_utility([1.0], [0.0])
    with pytest.raises(ValueError, match="negative, got -1"):
        realised_utility([-1.0], [1.0])


# ── value at risk and expected shortfall ─────────────────────────────────────────────────────────


def test_fz0_known_answers() -> None:
    found = fz0_losses([-0.05, -0.02 + 1e-12, 0.3, np.nan], [-0.02] * 4, [-0.03] * 4)
    assert np.round(found[:3], 6).tolist() == [36.160109, -3.839891, -3.839891]
    assert np.isnan(found[3])


def test_fz0_prefers_the_true_pair() -> None:
    y = rng(2).standard_t(5, 200_000) / 100
    v = student.ppf(0.025, 5) / 100
    e = y[y <= v].mean()
    means = {(a, b): fz0_losses(y, np.full(y.size, a * v), np.full(y.size, b * e)).mean()
             for a, b in [(1, 1), (0.8, 1), (1.2, 1), (1, 0.85), (1, 1.2), (1.2, 1.2), (0.8, 0.8)]}  # fmt: skip
    assert min(means, key=lambda pair: means[pair]) == (1, 1)


@pytest.mark.parametrize(("v", "e", "words"), [(-0.02, 0.0, "below 0"), (-0.03, -0.02, "at or below")])
def test_pairs_that_cannot_be_are_refused(v: float, e: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fz0_losses([0.0], [v], [e])
    with pytest.raises(ValueError, match=words):
        acerbi_szekely([0.0], [v], [e])


def test_coverage_is_exact() -> None:
    assert round(binomial_coverage(count_beyond(0, 250), 0.01).or_fewer, 6) == 0.081059
    assert round(binomial_coverage(count_beyond(5, 250), 0.01).or_more, 6) == 0.107812
    for count in (0, 3, 30):
        found = binomial_coverage(count_beyond(count, 500), 0.025)
        assert found.or_fewer == pytest.approx(binom.cdf(count, 500, 0.025), rel=1e-9)
        assert found.or_more == pytest.approx(binom.sf(count - 1, 500, 0.025), rel=1e-6, abs=1e-15)
        assert (found.beyond, found.n) == (count, 500)
    assert binomial_coverage([], 0.01).reason == "there are no rows"


def test_basel_zones() -> None:
    assert [round(float(binom.cdf(count, 250, 0.01)), 6) for count in (4, 9)] == [0.892188, 0.999750]
    assert [basel_zone(count, 250) for count in (0, 4, 5, 9, 10)] == ["green", "green", "yellow", "yellow", "red"]


@pytest.mark.parametrize(
    ("n", "count", "level", "ratio"),
    [(250, 5, 0.01, 1.956810), (1000, 15, 0.01, 2.189248), (500, 30, 0.05, 0.992111), (250, 0, 0.01, 5.025168)],
)
def test_kupiec_known_answers(n: int, count: int, level: float, ratio: float) -> None:
    assert round(kupiec(count_beyond(count, n), level).statistic, 6) == ratio


def test_kupiec_pvalue_of_none() -> None:
    assert round(kupiec(count_beyond(0, 250), 0.01).pvalue, 6) == 0.024982


def test_independence_known_answer() -> None:
    beyond = np.isin(np.arange(100), (10, 11, 12, 40, 70, 71))
    test = christoffersen_independence(beyond)
    assert round(test.statistic, 6) == 10.445253
    assert test.effect == pytest.approx(3 / 6 - 3 / 93)
    assert christoffersen_independence([False] * 10).reason == "no session lies beyond"


def test_a_level_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"97\.5 % is 0\.025"):
        binomial_coverage([True], 97.5)
    with pytest.raises(ValueError, match=r"True or False; got 2\.0"):
        kupiec([2.0], 0.05)


def test_z2_is_right_in_size_on_fat_tails_and_sees_half_a_shortfall() -> None:
    random, n = rng(3), 500
    v = student.ppf(0.025, 5)
    e = -student.pdf(v, 5) / 0.025 * (5 + v**2) / 4
    pair = np.full(n, v), np.full(n, e)
    true = [acerbi_szekely(random.standard_t(5, n), *pair, draws=100, seed=draw).pvalue <= 0.05 for draw in range(60)]
    wrong = [
        acerbi_szekely(1.4 * random.standard_t(5, n), *pair, draws=100, seed=draw).pvalue <= 0.05 for draw in range(20)
    ]
    assert sum(true) <= 8
    assert sum(wrong) >= 15


def test_z2_by_hand_and_the_same_again() -> None:
    returns, v, e = [-0.05, -0.01, 0.02, 0.03], [-0.02] * 4, [-0.03] * 4
    test = acerbi_szekely(returns, v, e, 0.25)
    assert test.statistic == pytest.approx(1 - (0.05 / 0.03) / (4 * 0.25))
    assert test == acerbi_szekely(returns, v, e, 0.25)
    assert test.critical < 0


def test_days_on_which_all_fall_together_count_once() -> None:
    one = (rng(4).random(400) < 0.05)[:, None]
    alone = clustered_coverage(one, 0.05)
    together = clustered_coverage(np.repeat(one, 8, axis=1), 0.05)
    assert together.standard_error == pytest.approx(alone.standard_error)
    apart = clustered_coverage(rng(5).random((400, 8)) < 0.05, 0.05)
    assert apart.standard_error < alone.standard_error / 2
    missing = np.where(rng(6).random((400, 8)) < 0.5, np.nan, 0.0)
    missing[0] = 1.0
    assert clustered_coverage(missing, 0.05).effect == pytest.approx(8 / (~np.isnan(missing)).sum() - 0.05)


def test_benjamini_hochberg_is_scipys() -> None:
    pvalues = rng(7).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(pvalues), false_discovery_control(pvalues))
    with_missing = benjamini_hochberg([0.01, np.nan, 0.03])
    assert np.isnan(with_missing[1])
    assert with_missing[[0, 2]].tolist() == pytest.approx([0.03, 0.045])
    assert benjamini_hochberg([]).size == 0


# ── control and money ────────────────────────────────────────────────────────────────────────────


def full_delta_method(mine: np.ndarray, other: np.ndarray, lag: int) -> float:
    """The standard error of a difference of Sharpe ratios, written out as in the paper with Bartlett weights."""
    n = mine.size
    moments = np.column_stack([mine, other, mine**2, other**2])
    a, b, c, d = moments.mean(axis=0)
    gradient = np.array(
        [c / (c - a**2) ** 1.5, -d / (d - b**2) ** 1.5, -a / (2 * (c - a**2) ** 1.5), b / (2 * (d - b**2) ** 1.5)]
    )
    centred = moments - moments.mean(axis=0)
    psi = centred.T @ centred / n
    for k in range(1, lag + 1):
        gamma = centred[k:].T @ centred[:-k] / n
        psi += (1 - k / (lag + 1)) * (gamma + gamma.T)
    return float(np.sqrt(gradient @ psi @ gradient / n))


def test_sharpe_difference_is_the_delta_method() -> None:
    draws = rng(8).standard_normal((2, 600))
    mine, other = 0.01 * draws[0] + 0.0008, 0.02 * (0.6 * draws[0] + 0.8 * draws[1]) + 0.0003
    test = sharpe_difference(mine, other)
    assert test.effect == pytest.approx(mine.mean() / mine.std() - other.mean() / other.std())
    assert test.standard_error == pytest.approx(full_delta_method(mine, other, bandwidth_of(600) - 1), rel=1e-9)


def test_sharpe_difference_of_independent_rows_is_memmels() -> None:
    draws = rng(9).standard_normal((2, 40_000))
    mine, other = draws[0] + 0.1, 0.5 * draws[0] + np.sqrt(0.75) * draws[1] + 0.05
    test = sharpe_difference(mine, other)
    memmel = np.sqrt((2 - 2 * 0.5 + 0.5 * (0.1**2 + 0.05**2 - 2 * 0.1 * 0.05 * 0.5**2)) / 40_000)
    assert full_delta_method(mine, other, 0) == pytest.approx(memmel, rel=0.02)
    assert test.standard_error == pytest.approx(memmel, rel=0.15)


def test_sharpe_difference_is_right_in_size() -> None:
    random = rng(10)
    claims = sum(sharpe_difference(*random.standard_t(5, (2, 500))).pvalue <= 0.05 for _ in range(200))
    assert claims <= 20


def test_more_of_the_same_is_worth_nothing_and_constants_are_undefined() -> None:
    returns = rng(11).standard_normal(300) / 100
    assert sharpe_difference(3 * returns, returns).reason == "the two returns are the same"
    assert sharpe_difference(np.full(300, 0.01), returns).reason == "one of the two returns is constant"
    assert np.isnan(sharpe_difference([], []).pvalue)


def test_the_gain_at_equal_volatility_is_a_difference_of_certainty_equivalents() -> None:
    draws = rng(12).standard_normal((2, 2000)) / 100
    mine, other = draws[0] + 0.0006, 2 * draws[1] + 0.0004
    target = 0.10 / np.sqrt(252)
    scaled = [target * one / one.std() for one in (mine, other)]
    by_hand = 252 * (certainty_equivalent(scaled[0], 0) - certainty_equivalent(scaled[1], 0))
    gain = certainty_equivalent_gain(mine, other, volatility=0.10)
    assert gain.effect == pytest.approx(by_hand)
    assert 252 * (certainty_equivalent(scaled[0]) - certainty_equivalent(scaled[1])) == pytest.approx(by_hand, abs=1e-4)
    assert gain.pvalue == sharpe_difference(mine, other).pvalue
    assert gain.low < gain.effect < gain.high


def test_spread_of_volatility() -> None:
    calm = rng(13).standard_normal(2000)
    wild = calm * np.repeat([1.0, 3.0], 1000)
    assert spread_of_volatility(calm) == pytest.approx(1 / np.sqrt(2 * 20), rel=0.15)
    assert spread_of_volatility(wild) > 0.4
    assert spread_of_volatility(wild) == pytest.approx(spread_of_volatility(7 * wild))
    assert np.isnan(spread_of_volatility(calm[:21]))


def test_realised_by_forecast_takes_fifths_of_the_forecast() -> None:
    forecast = np.arange(1.0, 101.0)
    realised = np.where(forecast > 80, 2, 1) * forecast
    assert realised_by_forecast(realised, forecast).round(12).tolist() == [1, 1, 1, 1, 2]


def test_control_of_volatility_and_of_shortfall() -> None:
    deviation = np.repeat([0.01, 0.03], 1000)
    returns = deviation * rng(14).standard_normal(2000)
    ratios = volatility_ratios(returns, deviation)
    assert ratios.size == 1980
    assert ratios.mean() == pytest.approx(1, abs=0.04)
    assert volatility_ratios(returns, np.full(2000, 0.02)).std() > 3 * ratios.std()
    assert volatility_ratios(returns[:20], deviation[:20]).size == 0
    assert shortfall_exceedance(returns, -1.96 * deviation, -2.34 * deviation) == pytest.approx(1, abs=0.05)
    assert np.isnan(shortfall_exceedance([0.1], [-0.1], [-0.2]))
