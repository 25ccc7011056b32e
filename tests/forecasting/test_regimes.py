"""The hidden Markov model: statsmodels' filter, the oracle of a planted market, and nothing of what comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from gatecast.errors import SettingsError, StoreError, TrainingError
from gatecast.forecasting.forecaster import Task, from_state
from gatecast.forecasting.models.markov import (
    HiddenMarkov,
    MarkovModel,
    filter_states,
    fit_markov,
    log_likelihood,
    predict_states,
)
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.market.bars import make_bars
from gatecast.samples.windows import Samples, make_samples

Array = np.ndarray
SCALE = 0.01
ORACLE = MarkovModel(np.array([0.05, -0.05]), np.array([0.7, 1.8]), np.array([[0.99, 0.01], [0.03, 0.97]]))
THREE = MarkovModel(
    np.array([0.1, 0.0, -0.2]),
    np.array([0.5, 1.0, 2.5]),
    np.array([[0.95, 0.04, 0.01], [0.03, 0.95, 0.02], [0.02, 0.08, 0.90]]),
)


def returns_of(bars: pl.DataFrame) -> Array:
    """Log returns of one symbol in units of the recipe, the first NaN."""
    return np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan) / SCALE


@pytest.fixture(scope="module")
def two() -> pl.DataFrame:
    """Two independent symbols of the planted hidden Markov market."""
    return synthetic.d2(1500, seed=3, symbols=2)


@pytest.fixture(scope="module")
def samples(two: pl.DataFrame) -> Samples:
    return make_samples(two, ("ret_log_1",))["index"]


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return Schedule(refit="6M", expanding=True).folds(samples.times, samples.known_at)[-2].on(samples)


@pytest.mark.parametrize("model", [ORACLE, THREE], ids=["two", "three"])
def test_the_filter_is_statsmodels(model: MarkovModel) -> None:
    returns = returns_of(synthetic.d2(800, seed=5))[1:]
    states = len(model.mean)
    moves = model.transition[:, :-1].T.ravel()  # theirs: p[0->0], p[1->0], ..., p[0->1], ...
    theirs = MarkovRegression(returns, k_regimes=states, switching_variance=True).filter(
        np.r_[moves, model.mean, model.deviation**2]
    )
    filtered, predicted = filter_states(returns, model), predict_states(returns, model)
    np.testing.assert_allclose(filtered, theirs.filtered_marginal_probabilities, atol=1e-6)
    np.testing.assert_allclose(predicted[:-1], theirs.predicted_marginal_probabilities[1:], atol=1e-6)
    np.testing.assert_allclose(model.stationary, theirs.predicted_marginal_probabilities[0], atol=1e-6)
    np.testing.assert_allclose(log_likelihood(returns, model), theirs.llf, rtol=1e-9)


def test_the_fit_is_no_worse_than_statsmodels_maximum() -> None:
    returns = returns_of(synthetic.d2(1500, seed=8))[1:]
    model = fit_markov([returns])
    theirs = MarkovRegression(returns, k_regimes=2, switching_variance=True).fit(maxiter=200, disp=False)
    assert log_likelihood(returns, model) > theirs.llf - 0.05
    order = np.argsort(theirs.params[-2:])
    np.testing.assert_allclose(model.deviation, np.sqrt(theirs.params[-2:])[order], rtol=0.02)
    stays = np.diag(theirs.regime_transition[:, :, 0])[order]
    np.testing.assert_allclose(np.diag(model.transition), stays, atol=0.003)


def test_the_expected_square_is_the_mean_of_simulated_paths() -> None:
    draw, paths = np.random.default_rng(0), 200_000
    for start in range(3):
        state, total = np.full(paths, start), np.zeros(paths)
        for _ in range(4):
            state = (draw.random(paths)[:, None] > THREE.transition.cumsum(axis=1)[state]).sum(axis=1)
            total += (THREE.mean[state] + THREE.deviation[state] * draw.standard_normal(paths)) ** 2
        error = total.std() / np.sqrt(paths)
        assert abs(total.mean() - THREE.expected_square(4)[start]) < 4 * error


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 299), garbage=st.sampled_from([0.0, np.nan, 50.0, -1e6]))
def test_nothing_at_t_depends_on_later_bars(seed: int, cut: int, garbage: float) -> None:
    returns = 2 * np.random.default_rng(seed).standard_normal(300)
    broken = np.r_[returns[:cut], np.full(300 - cut, garbage)]
    for arrow in (filter_states, predict_states):
        whole = arrow(returns, THREE)
        np.testing.assert_allclose(whole.sum(axis=1), 1.0, rtol=1e-12)
        assert ((whole >= 0) & (whole <= 1)).all()
        assert whole[:cut].tobytes() == arrow(returns[:cut], THREE).tobytes() == arrow(broken, THREE)[:cut].tobytes()


def test_a_gap_teaches_nothing_but_time_goes_on() -> None:
    returns = np.array([3.0, np.nan, np.inf, 0.1])
    filtered = filter_states(returns, ORACLE)
    np.testing.assert_allclose(filtered[1], filtered[0] @ ORACLE.transition, rtol=1e-12)
    np.testing.assert_allclose(filtered[2], filtered[1] @ ORACLE.transition, rtol=1e-12)
    np.testing.assert_allclose(filter_states(np.full(3, np.nan), ORACLE), np.tile([0.75, 0.25], (3, 1)), rtol=1e-9)


def test_states_that_are_never_left_are_equally_likely_before_the_first_bar() -> None:
    never = MarkovModel(np.zeros(2), np.array([1.0, 2.0]), np.eye(2))
    np.testing.assert_allclose(never.stationary, 0.5, atol=1e-3)
    np.testing.assert_allclose(filter_states(np.array([np.nan, 0.0]), never)[1], [2 / 3, 1 / 3], atol=1e-3)


def test_no_return_is_too_wild_for_the_filter() -> None:
    filtered = filter_states(np.array([0.0, 1e6, -1e9, 0.0]), ORACLE)
    np.testing.assert_allclose(filtered[1:3, 1], 1.0)
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0)


def test_the_fitted_filter_gains_what_the_oracle_filter_gains() -> None:
    """2,500 bars to fit, 2,000 to score: the state of each bar, filtered at it and predicted the bar before."""
    base = synthetic.truth_of("d2")["log_loss"]["base"]
    assert base == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-3)
    gains = {"fitted": [], "oracle": []}
    for seed in range(5):
        bars = synthetic.d2(4500, seed)
        returns, state = returns_of(bars), bars["state"].to_numpy()[2500:]
        for name, model in (("fitted", fit_markov([returns[:2500]])), ("oracle", ORACLE)):
            scores = []
            for chance in (filter_states(returns, model)[2500:, 1], predict_states(returns, model)[2499:-1, 1]):
                right = np.where(state == 1, chance, 1 - chance)
                flat = np.where(state == 1, 0.25, 0.75)
                scores += [np.mean(right > 0.5) - np.mean(flat > 0.5), np.mean(np.log(right) - np.log(flat))]
            gains[name].append(scores)
    fitted, oracle = np.mean(gains["fitted"], axis=0), np.mean(gains["oracle"], axis=0)
    assert (oracle > [0.15, 0.3, 0.15, 0.3]).all()  # accuracy and log loss, filtered and predicted
    ratio = fitted / oracle
    assert (ratio > 0.95).all(), ratio
    assert (ratio < 1.01).all(), ratio


@pytest.mark.parametrize("states", [2, 3])
def test_states_are_ordered_by_variance_whatever_the_start(states: int) -> None:
    returns = returns_of(synthetic.d2(1000, seed=2))
    fits = [fit_markov([returns], states, seed=seed) for seed in (0, 0, 1)]
    for model in fits:
        assert (np.diff(model.deviation) > 0).all()
        np.testing.assert_allclose(model.transition.sum(axis=1), 1.0)
    assert fits[0].transition.tobytes() == fits[1].transition.tobytes()
    if states == 2:
        np.testing.assert_allclose(fits[2].deviation, fits[0].deviation, rtol=0.01)


def test_the_fit_goes_with_the_unit_and_forgets_between_histories() -> None:
    returns = returns_of(synthetic.d2(1200, seed=4))
    model, small = fit_markov([returns]), fit_markov([SCALE * returns])
    np.testing.assert_allclose(small.deviation, SCALE * model.deviation, rtol=1e-6)
    np.testing.assert_allclose(small.transition, model.transition, rtol=1e-5)
    halves = [returns[:600], returns[600:]]
    np.testing.assert_allclose(
        fit_markov(halves).transition, fit_markov(halves[::-1]).transition, rtol=1e-6
    )  # in whatever order


@pytest.mark.parametrize("returns", [np.zeros(500), np.full(500, 0.01), np.full(500, np.nan), np.zeros(0)])
def test_returns_without_anything_to_learn_are_refused(returns: Array) -> None:
    with pytest.raises(TrainingError, match="needs"):
        fit_markov([returns])


def test_too_short_a_history_says_how_much_is_needed() -> None:
    with pytest.raises(TrainingError, match=r"needs 250 returns, got 100"):
        fit_markov([np.random.default_rng(0).standard_normal(100)])


def test_mostly_zero_returns_make_no_state_of_their_own() -> None:
    draw = np.random.default_rng(0)
    returns = np.where(draw.random(600) < 0.6, 0.0, draw.standard_normal(600))
    model = fit_markov([returns])
    assert (model.deviation >= 0.099 * returns.std()).all()
    assert np.isfinite(filter_states(returns, model)).all()


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="sum to 1"):
        MarkovModel(np.zeros(2), np.ones(2), np.ones((2, 2)))
    with pytest.raises(SettingsError, match="2 rows"):
        MarkovModel(np.zeros(2), np.ones(2), np.eye(3))
    with pytest.raises(SettingsError, match="above 0"):
        MarkovModel(np.zeros(2), np.array([1.0, 0.0]), np.eye(2))
    with pytest.raises(SettingsError, match="one number a state"):
        MarkovModel(np.zeros(2), np.ones(3), np.eye(2))


def test_each_symbol_is_fitted_on_its_own_training_bars(samples: Samples, fold: Fold, two: pl.DataFrame) -> None:
    fitted = HiddenMarkov().fit_many([fold])[0]
    ends = samples.ends[np.r_[fold.train, fold.validation]]
    for number, symbol in enumerate(samples.symbols):
        returns = SCALE * returns_of(two.filter(pl.col("symbol") == symbol))
        mine = ends[samples.symbol[ends] == number] - number * 1500
        slice_ = np.r_[np.nan, returns[mine.min() + 1 : mine.max() + 1]]
        model = fitted.models[number]
        assert log_likelihood(slice_, model) > log_likelihood(slice_, fit_markov([slice_], seed=5)) - 0.05
        rows = fold.test[samples.symbol[samples.ends[fold.test]] == number]
        expected = filter_states(returns, model)[samples.ends[rows] - number * 1500]
        np.testing.assert_allclose(fitted.states(samples, rows), expected, rtol=1e-9)


def test_a_symbol_changes_no_other_symbols_states(fold: Fold, two: pl.DataFrame, samples: Samples) -> None:
    alone = make_samples(two.filter(pl.col("symbol") == "D2_0"), ("ret_log_1",))["index"]
    folds = Schedule(refit="6M", expanding=True).folds(alone.times, alone.known_at)
    same = next(one for one in folds if one.cutoff == fold.cutoff).on(alone)
    both = fold.test[samples.symbol[samples.ends[fold.test]] == 0]
    ours = HiddenMarkov().fit_many([fold])[0].states(samples, both)
    assert ours.tobytes() == HiddenMarkov().fit_many([same])[0].states(alone, same.test).tobytes()


def test_the_regime_head_knows_more_than_its_rivals_where_states_are_hidden() -> None:
    """Squared returns alone show the variance here, so that the state has to be inferred."""
    market = synthetic.d2(2000, seed=1, symbols=3)
    samples = make_samples(market, ("ret_log_1",), volatility_proxy="close_to_close")["index"]
    rivals = [HiddenMarkov(), PANEL["threshold"].forecaster.of, Naive(rule="base_rate"), Naive(rule="last")]
    forecasts = walk_forward(rivals, samples, Schedule(refit="6M", minimum="3Y", train="3Y"))
    rows = forecasts.rows[np.isfinite(samples.targets["regime"].value[samples.ends[forecasts.rows]])]
    answer = samples.targets["regime"].value[samples.ends[rows]]
    loss = {}
    for name in ("markov", "threshold", "base_rate", "last"):
        chance = forecasts.values[name]["regime"][rows]
        assert ((chance > 0) & (chance < 1)).all()
        loss[name] = -np.mean(np.where(answer == 1, np.log(chance), np.log(1 - chance)))
    assert loss["markov"] < 0.95 * min(loss["threshold"], loss["last"])
    assert loss["markov"] < 0.8 * loss["base_rate"]
    assert abs(forecasts.values["markov"]["regime"][rows].mean() - answer.mean()) < 0.05


def test_at_the_cut(two: pl.DataFrame) -> None:
    """Forecasts made by t are the same bytes whether later bars are there, missing, or garbage."""
    schedule, forecaster = Schedule(refit="1Y", minimum="3Y"), HiddenMarkov(starts=2)
    whole = make_samples(two, ("ret_log_1",))["index"]
    reference = walk_forward([forecaster], whole, schedule)
    moments = np.unique(whole.times)
    middle = np.searchsorted(moments, reference.folds[1].cutoff)
    for moment in (moments[middle], moments[middle - 1], moments[middle + 37]):
        later = pl.col("time") > pl.lit(moment).dt.replace_time_zone("UTC")
        garbage = two.with_columns(
            pl.when(later).then(pl.col(name) * 7.3).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
        )
        for bars in (two.filter(~later), garbage):
            other = walk_forward([forecaster], make_samples(bars, ("ret_log_1",))["index"], schedule)
            ours = reference.values["markov"]["regime"][whole.times <= moment]
            theirs = other.values["markov"]["regime"][other.samples.times <= moment]
            assert np.isfinite(ours).any()
            assert ours.tobytes() == theirs.tobytes()


def test_stored_and_back_is_the_same_bytes_and_a_damaged_one_is_refused(samples: Samples, fold: Fold) -> None:
    fitted = HiddenMarkov(minimum=250).fit_many([fold])[0]
    partly = replace(fitted, models=(fitted.models[0], None))
    for one in (fitted, partly):
        arrays, stored = one.state()
        assert all(array.dtype == np.float64 for array in arrays.values())
        again = from_state(arrays, {"kind": "markov", **stored})
        for ours, theirs in (
            (one.predict(samples, fold.test)["regime"], again.predict(samples, fold.test)["regime"]),
            (one.states(samples, fold.test), again.states(samples, fold.test)),
        ):
            assert ours.tobytes() == theirs.tobytes()
    arrays, stored = fitted.state()
    for name, broken in (
        ("transition", arrays["transition"] * 2), ("deviation", arrays["deviation"][:1]), ("line", np.zeros(3)),
        ("mean", arrays["mean"][:, :1]),
    ):  # fmt: skip
        with pytest.raises(StoreError, match="markov"):
            from_state({**arrays, name: broken}, {"kind": "markov", **stored})


def test_the_same_settings_give_the_same_bytes_on_any_number_of_jobs(samples: Samples) -> None:
    folds = [one.on(samples) for one in Schedule(refit="1Y", minimum="3Y").folds(samples.times, samples.known_at)]
    chances = [
        [fit.predict(samples, fold.test)["regime"].tobytes() for fit, fold in zip(fits, folds, strict=True)]
        for fits in (HiddenMarkov().fit_many(folds), HiddenMarkov().fit_many(folds, Task(jobs=2)))
    ]
    assert chances[0] == chances[1]


def test_too_short_or_unknown_a_symbol_takes_the_base_rate(samples: Samples, fold: Fold) -> None:
    fitted = HiddenMarkov(minimum=5000).fit_many([fold])[0]
    answer = samples.targets["regime"].value[samples.ends[np.r_[fold.train, fold.validation]]]
    expected = (np.nansum(answer) + 1) / (np.isfinite(answer).sum() + 2)
    np.testing.assert_allclose(fitted.predict(samples, fold.test)["regime"], expected)
    assert np.isnan(fitted.states(samples, fold.test)).all()
    stranger = replace(samples, symbols=("NEW_0", "NEW_1"))
    known = HiddenMarkov().fit_many([fold])[0]
    np.testing.assert_allclose(known.predict(stranger, fold.test)["regime"], expected)


def test_a_gap_begins_anew_and_a_constant_symbol_takes_the_base_rate(two: pl.DataFrame) -> None:
    bars = two.with_row_index().filter(~pl.col("index").is_between(700, 760)).drop("index", "segment", "known_at")
    still = two.filter(pl.col("symbol") == "D2_1").select(
        pl.lit("STILL").alias("symbol"), "asset_class", "time",
        *(pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close")), "volume", "state",
    )  # fmt: skip
    samples = make_samples(make_bars(pl.concat([bars, still])), ("ret_log_1",))["index"]
    assert samples.segment.max() == 1
    fold = Schedule(expanding=True).folds(samples.times, samples.known_at)[-3].on(samples)
    fitted = HiddenMarkov().fit_many([fold])[0]
    number = samples.symbols.index("STILL")
    assert [model is None for model in fitted.models] == [n == number for n in range(3)]
    chance = fitted.predict(samples, fold.test)["regime"]
    constant = samples.symbol[samples.ends[fold.test]] == number
    np.testing.assert_allclose(chance[constant], fitted.rate)
    assert len(np.unique(chance[~constant])) > 5
    rows = np.flatnonzero((samples.symbol[samples.ends] == 0) & (samples.segment[samples.ends] == 1))
    first = np.flatnonzero((samples.symbol == 0) & (samples.segment == 1))[0]
    closes = bars.filter(pl.col("symbol") == "D2_0")["close"].to_numpy()
    after = np.diff(np.log(closes[first:]), prepend=np.nan)
    expected = filter_states(after, fitted.models[0])[samples.ends[rows] - first]
    np.testing.assert_allclose(fitted.states(samples, rows), expected, rtol=1e-9)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="states"):
        HiddenMarkov(states=1)
