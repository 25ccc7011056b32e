"""The rivals that know the symbol, one lag, falls and levels, each beside someone else's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize_scalar, nnls
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as LinearRidge

from gatecast.forecasting.forecaster import from_state, state_of
from gatecast.forecasting.models.har import HARLevels, LogHAR
from gatecast.forecasting.models.lag import PRIOR_ODDS, PRIOR_ROWS, LogisticLag, RidgeLag, last_return
from gatecast.forecasting.models.naive import Naive, range_average
from gatecast.forecasting.models.shares import LEAST_STRENGTH, symbol_shares
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return Schedule().folds(samples.times, samples.known_at)[4].on(samples)


# ── shares ────────────────────────────────────────────────────────────────────────────────────────


def test_symbols_that_differ_by_luck_alone_share_their_class_and_others_keep_their_own() -> None:
    rng = np.random.default_rng(0)
    symbol = np.repeat(np.arange(8), 500)
    alike = (rng.random(4000) < 0.53).astype(float)
    shares, of_class = symbol_shares(alike, symbol, 8, 5)
    assert of_class == pytest.approx((alike.sum() / 5 + 1) / (4000 / 5 + 2))
    own = alike.reshape(8, 500).mean(1)
    assert np.abs(shares - of_class).max() < 0.3 * np.abs(own - of_class).max()
    apart = alike.copy()
    apart[symbol == 2] = 0.0
    shares, _ = symbol_shares(apart, symbol, 8, 5)
    assert shares[2] < 0.05
    assert shares[3] == pytest.approx(own[3], abs=0.06)


def test_a_share_is_the_mean_of_the_beta_distribution_that_moments_say() -> None:
    """Shares drawn from a beta distribution: the strength that is found is the one that made them."""
    rng, strength, symbols, n = np.random.default_rng(1), 40.0, 4000, 100
    true = rng.beta(0.3 * strength, 0.7 * strength, symbols)
    answer = (rng.random((symbols, n)) < true[:, None]).astype(float)
    shares, of_class = symbol_shares(answer.ravel(), np.repeat(np.arange(symbols), n), symbols, 1)
    own = answer.mean(1)
    moved = own != of_class
    found = n * (own - shares)[moved] / (shares - of_class)[moved]
    assert np.median(found) == pytest.approx(strength, rel=0.1)
    assert ((shares - true) ** 2).mean() < ((own - true) ** 2).mean()


def test_nothing_known_is_one_half_and_a_new_symbol_has_its_class() -> None:
    shares, of_class = symbol_shares(np.array([np.nan, np.nan]), np.array([0, 1]), 2, 5)
    assert of_class == 0.5
    assert shares.tolist() == [0.5, 0.5]
    rose = np.r_[np.zeros(300), np.ones(300), np.full(10, np.nan)]
    shares, of_class = symbol_shares(rose, np.repeat([0, 1, 2], [300, 300, 10]), 3, 1)
    assert shares[2] == of_class == 0.5
    assert shares[0] == pytest.approx(0.5 * LEAST_STRENGTH / (300 + LEAST_STRENGTH))


def test_a_symbol_that_never_rises_is_known_to_its_own_base_rate() -> None:
    """Knowing which symbol it is was counted as skill while the rival was the share of the class."""
    walk = synthetic.a1(900, seed=1).with_columns(symbol=pl.lit("WALK"))
    falling = walk.with_columns(
        symbol=pl.lit("DOWN"), **{name: pl.lit(5.0) * 0.999 ** pl.int_range(900) for name in ("open", "close")}
    ).with_columns(high=pl.col("open"), low=pl.col("close").shift(-1).fill_null(pl.col("close")))
    samples = make_samples(pl.concat([falling, walk]), ("ret_log_1",), horizon=5)["index"]
    forecasts = walk_forward([Naive(rule="base_rate")], samples, Schedule(refit="6M", minimum="1Y"))
    chance = forecasts.values["base_rate"]["direction"]
    last = forecasts.folds[-1].test
    down, other = (chance[last][samples.symbol[samples.ends[last]] == number].mean() for number in (0, 1))
    assert samples.symbols == ("DOWN", "WALK")
    assert down < 0.06
    assert 0.3 < other < 0.7


# ── one lag ───────────────────────────────────────────────────────────────────────────────────────


def test_the_last_return_is_the_last_feature_over_the_volatility(samples: Samples) -> None:
    ends = samples.ends
    expected = samples.features[ends, samples.names.index("ret_log_1")] / samples.facts.sigma[ends]
    np.testing.assert_allclose(last_return(samples, ends), expected, rtol=1e-9, atol=1e-12)
    assert last_return(samples, np.array([0])).tolist() == [0.0]


def test_ridge_on_one_lag_is_scikit_learns(samples: Samples, fold: Fold) -> None:
    fitted, ends = RidgeLag().fit_many([fold])[0], samples.ends[fold.record]
    lag, answer = last_return(samples, ends)[:, None], samples.answers[fold.record, : samples.horizon]
    penalty = PRIOR_ROWS * samples.horizon_sessions
    pooled = LinearRidge(alpha=penalty, fit_intercept=False).fit(lag, answer).coef_[:, 0]
    np.testing.assert_allclose(fitted.pooled, pooled, rtol=1e-9)
    for number in (0, 1):
        mine = samples.symbol[ends] == number
        own = LinearRidge(alpha=penalty, fit_intercept=False).fit(lag[mine], answer[mine] - lag[mine] * pooled)
        np.testing.assert_allclose(fitted.table[number], pooled + own.coef_[:, 0], rtol=1e-8)
    forecast = fitted.predict(samples, fold.test)["return"]
    at = samples.ends[fold.test]
    unit = samples.facts.sigma[at, None] * np.sqrt(np.arange(1, 6))
    slope = fitted.table[samples.symbol[at]]
    np.testing.assert_allclose(forecast, slope * last_return(samples, at)[:, None] * unit, rtol=1e-9)


def test_logistic_on_one_lag_is_the_smallest_penalised_loss(samples: Samples, fold: Fold) -> None:
    fitted, ends = LogisticLag().fit_many([fold])[0], samples.ends[fold.record]
    lag, rose = last_return(samples, ends), samples.targets["direction"].value[ends]
    offset, overlap = fitted.offset[samples.symbol[ends]], samples.horizon_sessions

    def loss(slope: float, rows: np.ndarray, centre: float) -> float:
        odds = offset[rows] + slope * lag[rows]
        return float(
            (np.logaddexp(0, odds) - rose[rows] * odds).sum() / overlap + (slope - centre) ** 2 / 2 / PRIOR_ODDS**2
        )

    every = np.arange(len(ends))
    pooled = minimize_scalar(loss, args=(every, 0.0), bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert fitted.pooled[0] == pytest.approx(pooled, abs=1e-6)
    mine = np.flatnonzero(samples.symbol[ends] == 1)
    own = minimize_scalar(loss, args=(mine, pooled), bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    assert fitted.table[1, 0] == pytest.approx(own, abs=1e-6)
    at = samples.ends[fold.test]
    odds = fitted.offset[samples.symbol[at]] + fitted.table[samples.symbol[at], 0] * last_return(samples, at)
    np.testing.assert_allclose(fitted.predict(samples, fold.test)["direction"], 1 / (1 + np.exp(-odds)), rtol=1e-9)


def test_one_lag_finds_prices_that_bounce_and_nothing_in_a_walk() -> None:
    draw = np.random.default_rng(5)
    walk = synthetic.a1(2000, seed=5)
    side = np.where(draw.random(2000) < 0.5, 1.008, 0.992)
    bounced = walk.with_columns(close=pl.col("close") * pl.Series(side)).with_columns(
        high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close")
    )
    for bars, least, most in ((bounced, 0.04, 1.0), (walk, -0.01, 0.005)):
        samples = make_samples(bars, ("ret_log_1",), horizon=1)["index"]
        models = [RidgeLag(), LogisticLag(), Naive(rule="zero"), Naive(rule="base_rate")]
        forecasts = walk_forward(models, samples, Schedule(refit="6M", minimum="1Y"))
        answer, rose = (
            samples.targets["return"].value[samples.ends, 0],
            samples.targets["direction"].value[samples.ends],
        )
        error = {
            name: np.nanmean((answer - forecasts.values[name]["return"][:, 0]) ** 2) for name in ("ridge_lag", "zero")
        }
        assert least < 1 - error["ridge_lag"] / error["zero"] < most
        miss = {n: np.nanmean((rose - forecasts.values[n]["direction"]) ** 2) for n in ("logistic_lag", "base_rate")}
        assert 0.5 * least < 1 - miss["logistic_lag"] / miss["base_rate"] < most


# ── variance ──────────────────────────────────────────────────────────────────────────────────────


def test_the_log_har_with_falls_is_statsmodels_least_squares(samples: Samples, fold: Fold) -> None:
    forecast = LogHAR(falls=True).fit_many([fold])[0].predict(samples, fold.test)["volatility"]
    ends, at = samples.ends[fold.record], samples.ends[fold.test]
    fall = np.maximum(-last_return(samples, np.arange(len(samples.time))), 0.0)
    mean = np.array([fall[max(0, row - 4) : row + 1].mean() for row in range(len(fall))])
    inputs = np.column_stack([samples.facts.har, fall, mean])
    mine = ends[(samples.symbol[ends] == 0) & (ends > 40)]
    model = sm.OLS(samples.targets["volatility"].value[mine], sm.add_constant(inputs[mine])).fit()
    own = samples.symbol[at] == 0
    expected = model.predict(sm.add_constant(inputs[at[own]], has_constant="add")) + 0.5 * np.mean(model.resid**2)
    np.testing.assert_allclose(forecast[own], np.exp(expected), rtol=1e-6)


def test_falls_forecast_a_market_with_leverage_and_no_other() -> None:
    gains = {}
    for market in ("g1", "g4"):
        total = np.zeros(2)
        for seed in (1, 2):
            samples = make_samples(synthetic.MARKETS[market](3000, seed), ("ret_log_1",), horizon=1)["index"]
            models = [LogHAR(), LogHAR(falls=True)]
            forecasts = walk_forward(models, samples, Schedule(refit="1Y", minimum="2Y"))
            answer = samples.targets["volatility"].value[samples.ends]
            ratio = [answer - np.log(forecasts.values[name]["volatility"]) for name in ("har", "har_falls")]
            total += [np.nanmean(np.exp(one) - one - 1) for one in ratio]
        gains[market] = 1 - total[1] / total[0]
    assert gains["g4"] > 0.02
    assert abs(gains["g1"]) < 0.008


def test_the_har_in_levels_is_scipys_and_follows_shocks(samples: Samples, fold: Fold) -> None:
    fitted, ends = HARLevels().fit_many([fold])[0], samples.ends[fold.record]
    har, mean = np.exp(samples.facts.har), samples.facts.smoothed[:, 4]
    size = np.exp(samples.facts.har @ [0.2, 0.4, 0.4])
    answer = np.exp(samples.targets["volatility"].value) / samples.horizon
    mine = ends[samples.symbol[ends] == 1]
    inputs = np.column_stack([mean, har])[mine] / size[mine, None]  # everything over the row's own size
    weights = nnls(inputs, answer[mine] / size[mine])[0]
    np.testing.assert_allclose(fitted.table[1, :4], weights, rtol=1e-7, atol=1e-12)
    at = samples.ends[fold.test]
    at = at[samples.symbol[at] == 1]
    expected = 5 * np.column_stack([mean, har])[at] @ weights
    rows = fold.test[samples.symbol[samples.ends[fold.test]] == 1]
    np.testing.assert_allclose(fitted.predict(samples, rows)["volatility"], expected, rtol=1e-7)
    shock = samples.facts.har.copy()
    shock[at[0]] += 3.0  # a variance 20 times as large, beyond all that was seen, is followed
    shocked = replace(samples, facts=replace(samples.facts, har=shock))
    beyond = fitted.predict(shocked, rows[:1])["volatility"][0]
    assert beyond == pytest.approx(5 * (weights[0] * mean[at[0]] + np.exp(shock[at[0]]) @ weights[1:]), rel=1e-6)


@pytest.mark.parametrize(
    "forecaster", [LogHAR(falls=True), HARLevels(), RidgeLag(), LogisticLag(), Naive(rule="ewma_range")]
)
def test_a_row_is_forecast_alike_by_itself_and_among_others(forecaster: object, samples: Samples, fold: Fold) -> None:
    fitted = from_state(*state_of(forecaster, forecaster.fit_many([fold])[0]))
    for head, values in fitted.predict(samples, fold.test).items():
        for place in (0, 7, len(fold.test) - 1):
            alone = fitted.predict(samples, fold.test[place : place + 1])[head]
            assert alone.tobytes() == values[place : place + 1].tobytes()


def test_a_symbol_nobody_has_seen_takes_the_classes_numbers(samples: Samples, fold: Fold) -> None:
    other = replace(samples, symbols=("NEW", samples.symbols[1]))
    rows = fold.test[samples.symbol[samples.ends[fold.test]] == 0]
    for forecaster in (LogHAR(falls=True), HARLevels(), RidgeLag(), LogisticLag(), Naive(rule="base_rate")):
        fitted = forecaster.fit_many([fold])[0]
        for values in fitted.predict(other, rows).values():
            assert np.isfinite(values).all()
    shares = Naive(rule="base_rate").fit_many([fold])[0]
    assert set(shares.predict(other, rows)["direction"]) == {shares.learned["rise"]}


def test_the_averages_of_the_range_never_cross_a_segment(samples: Samples) -> None:
    cut = samples.segment.copy()
    place = int(samples.ends[300])
    cut[place:] += 1
    apart = replace(samples, segment=cut)
    assert range_average(apart)[place] == pytest.approx(np.exp(samples.facts.har[place, 0]))
    np.testing.assert_array_equal(range_average(apart)[:place], range_average(samples)[:place])


def test_the_regime_with_falls_is_scikit_learns(samples: Samples, fold: Fold) -> None:
    fitted = PANEL["har_regime_falls"].forecaster.of.replace(half_life=None).fit_many([fold])[0]
    facts, answers = samples.facts, samples.targets["regime"].value[samples.ends]
    distances = np.nan_to_num(
        np.column_stack([facts.har, facts.recent])[samples.ends] - facts.level[samples.ends, None]
    )
    fall = np.maximum(-last_return(samples, samples.ends), 0.0)
    inputs = np.column_stack([distances, fall, facts.variance[samples.ends, 5]])
    wide = fold.windowed("expanding")
    every = np.r_[wide.train, wide.validation]
    rows = every[np.isfinite(answers[every])]
    centre, spread = inputs[every].mean(0), inputs[every].std(0)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit((inputs[rows] - centre) / spread, answers[rows])
    expected = model.predict_proba((inputs[fold.test] - centre) / spread)[:, 1]
    np.testing.assert_allclose(fitted.predict(samples, fold.test)["regime"], np.clip(expected, 1e-3, 0.999), atol=2e-4)
