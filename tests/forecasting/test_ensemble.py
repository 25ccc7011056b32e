"""The meta-ensemble against plain formulas, and its purge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import made_up, with_answers, with_values
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_info, threadpool_limits

from gatecast.errors import SettingsError
from gatecast.forecasting.combining.choice import choose
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.variance import correct_variance
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.windows import Samples, make_samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
MEMBERS = ("lstm", "forest", "logistic")


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return made_up(samples, seed=1, skill={"lstm": 0.10, "forest": 0.05, "logistic": 0.02})


def odds(probability: FloatArray) -> FloatArray:
    probability = np.clip(probability, 1e-3, 1 - 1e-3)  # more certain is nobody
    return np.log(probability / (1 - probability))


def record_of(forecasts: Forecasts, number: int, head: str) -> tuple[FloatArray, FloatArray]:
    """Rows with an answer at a refit, by a plain loop, and their weights: a day weighs 1 over the horizon."""
    samples, cutoff = forecasts.samples, forecasts.folds[number].cutoff
    answer = samples.targets[head].value[samples.ends]
    answer = answer[:, -1] if answer.ndim == 2 else answer
    rows = [
        row
        for fold in forecasts.folds[:number]
        for row in fold.test.tolist()
        if np.isfinite(answer[row]) and samples.known_at[row] <= cutoff
    ]
    days = samples.sessions[rows].tolist()
    weights = [1 / (samples.horizon * days.count(day)) for day in days]
    return np.array(rows, int), np.array(weights)


def standardised(forecasts: Forecasts) -> tuple[FloatArray, FloatArray]:
    """(rows, 2) the mean of all members' forecasts and of the linear one's, and the answer, both over sigma · √h."""
    samples = forecasts.samples
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    base = forecasts.values["base_rate"]["direction"]
    opinions = [forecasts.values[name]["return"][:, -1] / unit for name in ("lstm", "forest")]
    opinions.append(norm.ppf(forecasts.values["logistic"]["direction"]) - norm.ppf(base))
    means = np.column_stack([np.mean(opinions, axis=0), opinions[-1]])
    return means, samples.targets["return"].value[samples.ends, -1] / unit


@pytest.mark.parametrize("number", [2, 6, -1])
def test_the_return_slopes_are_a_ridge_without_intercept(forecasts: Forecasts, number: int) -> None:
    samples, number = forecasts.samples, number % len(forecasts.folds)
    equal = Ensemble().combine(forecasts).values["equal_weight"]["return"]
    mean, answer = standardised(forecasts)
    rows, weight = record_of(forecasts, number, "return")
    ridge = Ridge(alpha=1 / 0.5**2, fit_intercept=False, positive=True, tol=1e-10)
    ridge.fit(mean[rows], answer[rows], weight)
    test = forecasts.folds[number].test
    expected = mean[test] @ ridge.coef_ * samples.facts.sigma[samples.ends[test]] * np.sqrt(samples.horizon)
    np.testing.assert_allclose(equal[test, -1], expected, rtol=1e-3, atol=1e-7)
    assert ridge.coef_[0] > 0.05


def test_returns_start_from_the_bayesian_ridge_where_it_runs(forecasts: Forecasts) -> None:
    """Slopes are those of what members add to it, and explain what it leaves; without a record it stands alone."""
    samples, number = forecasts.samples, len(forecasts.folds) - 1
    mean, answer = standardised(forecasts)
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    start = 0.1 * np.nan_to_num(answer) + 0.05 * np.random.default_rng(9).standard_normal(len(answer))
    path = (start * unit)[:, None] * np.sqrt(np.arange(1, samples.horizon + 1) / samples.horizon)
    path[np.isnan(forecasts.values["zero"]["return"])] = np.nan
    combined = Ensemble().combine(with_values(forecasts, "bayes", **{"return": path}))
    rows, weight = record_of(forecasts, number, "return")
    added = mean - start[:, None]
    ridge = Ridge(alpha=1 / 0.5**2, fit_intercept=False, positive=True, tol=1e-10)
    ridge.fit(added[rows], answer[rows] - start[rows], weight)
    test = forecasts.folds[-1].test
    expected = (start[test] + added[test] @ ridge.coef_) * unit[test]
    np.testing.assert_allclose(combined.values["equal_weight"]["return"][test, -1], expected, rtol=1e-3, atol=1e-7)
    first = forecasts.folds[0].test
    np.testing.assert_allclose(combined.values["ensemble"]["return"][first], path[first])
    assert set(combined.in_force["return"]) <= {"equal_weight", "stacked", "bayes"}


@pytest.mark.parametrize("number", [2, -1])
def test_stacked_returns_have_a_slope_each_and_none_below_zero(samples: Samples, number: int) -> None:
    forecasts = made_up(samples, seed=3, skill={"lstm": 0.4, "forest": -0.3, "logistic": 0.3})
    number %= len(forecasts.folds)
    unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
    base = forecasts.values["base_rate"]["direction"]
    opinions = np.column_stack(
        [
            *(forecasts.values[name]["return"][:, -1] / unit for name in ("lstm", "forest")),
            norm.ppf(forecasts.values["logistic"]["direction"]) - norm.ppf(base),
        ]
    )
    answer = samples.targets["return"].value[samples.ends, -1] / unit
    rows, weight = record_of(forecasts, number, "return")
    ridge = Ridge(alpha=3 / 0.5**2, fit_intercept=False, positive=True, tol=1e-10)
    ridge.fit(opinions[rows], answer[rows], weight)
    test = forecasts.folds[number].test
    found = Ensemble().combine(forecasts).values["stacked"]["return"][test, -1]
    np.testing.assert_allclose(found, opinions[test] @ ridge.coef_ * unit[test], rtol=1e-3, atol=1e-8)
    assert ridge.coef_[1] == 0
    assert min(ridge.coef_[[0, 2]]) > 0.05


def test_a_mean_that_is_wrong_every_time_gets_no_weight_rather_than_a_negative_one(samples: Samples) -> None:
    wrong = made_up(samples, seed=2, skill=dict.fromkeys(MEMBERS, -0.3))
    heads = Ensemble().combine(wrong).values["ensemble"]
    rows = wrong.rows
    assert (heads["return"][rows] == 0).all()
    np.testing.assert_allclose(heads["direction"][rows], wrong.values["base_rate"]["direction"][rows])


def test_the_path_keeps_the_members_shape(forecasts: Forecasts) -> None:
    """Steps grow as the members' do: a slope is common to the whole path."""
    only_lstm = Ensemble(members=("lstm",)).combine(forecasts)
    path, members = only_lstm.values["ensemble"]["return"], forecasts.values["lstm"]["return"]
    rows = forecasts.folds[-1].test
    ratio = path[rows] / members[rows]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)


@pytest.mark.parametrize("head", ["direction", "regime"])
@pytest.mark.parametrize("number", [3, -1])
def test_slopes_of_probabilities_are_the_most_probable_ones(samples: Samples, head: str, number: int) -> None:
    """Against a bounded search; one member is wrong, so that its slope stands at 0."""
    forecasts = made_up(samples, seed=3, skill={"lstm": 0.4, "forest": -0.3, "logistic": 0.3})
    number %= len(forecasts.folds)
    combined = Ensemble().combine(forecasts)
    rival = {"direction": "base_rate", "regime": "har_regime"}[head]
    base = odds(forecasts.values[rival][head])
    members = {"direction": MEMBERS, "regime": (*MEMBERS, "density")}[head]
    opinions = np.column_stack([odds(combined.values[name][head]) for name in members]) - base[:, None]
    answer = samples.targets[head].value[samples.ends]
    rows, weight = record_of(forecasts, number, head)
    target = answer[rows]
    test = forecasts.folds[number].test
    found = {}
    for name, inputs in (("equal_weight", opinions.mean(1, keepdims=True)), ("stacked", opinions)):

        def loss(slopes: FloatArray, x: FloatArray = inputs[rows]) -> float:
            total = base[rows] + x @ slopes
            prior = x.shape[1] * (slopes @ slopes) / (2 * 0.5**2)
            return float(weight @ (np.logaddexp(0, total) - target * total) + prior)

        width = inputs.shape[1]
        best = minimize(loss, np.full(width, 0.1), bounds=[(0, None)] * width, tol=1e-14)
        found[name] = 1 / (1 + np.exp(-(base[test] + inputs[test] @ best.x)))
        np.testing.assert_allclose(combined.values[name][head][test], found[name], atol=5e-6)
        if name == "stacked" and head == "direction":
            assert best.x[1] == pytest.approx(0, abs=1e-6)
            assert best.x[0] > 0.05
    chosen, name = combined.values["ensemble"][head][test], combined.in_force[head][number]
    np.testing.assert_array_equal(chosen, combined.values[name][head][test])


def test_without_a_prior_the_slopes_are_those_of_a_binomial_regression_with_an_offset(samples: Samples) -> None:
    import statsmodels.api as sm

    forecasts = made_up(samples, seed=4, skill={"lstm": 0.4, "forest": 0.3, "logistic": 0.3})
    combined = Ensemble(prior_sd=1e4).combine(forecasts)
    number = len(forecasts.folds) - 1
    base = odds(forecasts.values["base_rate"]["direction"])
    opinions = np.column_stack([odds(forecasts.values[name]["direction"]) for name in MEMBERS]) - base[:, None]
    rows, weight = record_of(forecasts, number, "direction")
    answer = samples.targets["direction"].value[samples.ends]
    model = sm.GLM(answer[rows], opinions[rows], sm.families.Binomial(), offset=base[rows], freq_weights=weight).fit()
    test = forecasts.folds[number].test
    expected = model.predict(opinions[test], offset=base[test])
    assert (model.params > 0).all()
    np.testing.assert_allclose(combined.values["stacked"]["direction"][test], expected, atol=1e-7)


def test_nothing_is_learned_before_there_is_a_record(forecasts: Forecasts) -> None:
    patient = Ensemble(minimum_days=400).combine(forecasts)
    samples, base = forecasts.samples, forecasts.values["base_rate"]["direction"]
    sizes = [
        len(np.unique(samples.sessions[record_of(forecasts, i, "return")[0]])) for i in range(len(forecasts.folds))
    ]
    for fold, days in zip(forecasts.folds, sizes, strict=True):
        path = patient.values["ensemble"]["return"][fold.test]
        chance = patient.values["ensemble"]["direction"][fold.test]
        if days < 400:
            assert (path == 0).all()
            np.testing.assert_allclose(chance, base[fold.test])
        else:
            assert np.ptp(path) > 0
            assert np.ptp(chance) > 0
    assert min(sizes) < 400 < max(sizes)


@pytest.mark.parametrize("head", ["return", "direction", "regime"])
def test_what_is_in_force_holds_until_another_was_surely_better_for_two_years(samples: Samples, head: str) -> None:
    import statsmodels.api as sm

    # one member knows, two are noise: stacking wins once it has learned that
    forecasts = made_up(samples, seed=5, skill={"lstm": 0.6, "forest": -0.6})
    combined = Ensemble().combine(forecasts)
    rival = {"return": "zero", "direction": "base_rate", "regime": "har_regime"}[head]
    names = ("equal_weight", "stacked", rival)
    answer = samples.targets[head].value[samples.ends]
    every = np.stack([combined.values[name][head] for name in names], axis=-1)
    if head == "return":
        unit = samples.facts.sigma[samples.ends] * np.sqrt(samples.horizon)
        answer, every = answer[:, -1] / unit, every[:, -1] / unit[:, None]
    losses = (every - answer[:, None]) ** 2
    now, switched = 0, []
    for number, fold in enumerate(forecasts.folds):
        rows, _ = record_of(forecasts, number, head)
        _, day = np.unique(samples.sessions[rows], return_inverse=True)
        if len(rows) and day.max() + 1 >= 500:
            daily = np.column_stack([np.bincount(day, losses[rows, k]) / np.bincount(day) for k in range(3)])
            best = int(np.argmin(daily.mean(0)))
            if best != now:
                gain = daily[:, now] - daily[:, best]
                lags = {"maxlags": 2 * samples.horizon}
                if sm.OLS(gain, np.ones(len(gain))).fit(cov_type="HAC", cov_kwds=lags).tvalues[0] > 2:
                    now = best
                    switched.append(number)
        assert combined.in_force[head][number] == names[now]
        issued = combined.values["ensemble"][head][fold.test]
        np.testing.assert_array_equal(issued, combined.values[names[now]][head][fold.test])
    assert switched
    assert combined.in_force[head][0] == "equal_weight"
    assert combined.in_force[head][-1] == "stacked"


def test_a_choice_between_equals_is_rare(samples: Samples) -> None:
    """Candidates of the same quality: hardly ever more than two standard errors apart."""
    forecasts = made_up(samples, seed=6)
    rng = np.random.default_rng(1)
    runs = [choose(forecasts, rng.standard_normal((len(samples), 3)) ** 2) for _ in range(100)]
    assert np.mean([run[-1] != 0 for run in runs]) < 0.15
    poor = np.column_stack([np.full(len(samples), 2.0), np.full(len(samples), 1.0)])
    poor += 0.1 * rng.standard_normal(poor.shape)
    assert choose(forecasts, poor)[-1] == 1


def test_turbulence_follows_from_the_forecast_of_variance_and_its_past_errors(forecasts: Forecasts) -> None:
    combined = Ensemble().combine(forecasts)
    samples, number = forecasts.samples, len(forecasts.folds) - 1
    answer = samples.targets["volatility"].value[samples.ends]
    forecast = np.log(combined.values["ensemble"]["volatility"])
    rows, weight = record_of(forecasts, number, "volatility")
    error = answer[rows] - forecast[rows]
    centre = np.average(error, weights=weight)
    spread = np.sqrt(np.average((error - centre) ** 2, weights=weight))
    test = forecasts.folds[-1].test
    above = norm.sf((samples.facts.level[samples.ends[test]] - forecast[test] - centre) / spread)
    np.testing.assert_allclose(combined.values["density"]["regime"][test], above, rtol=1e-9)
    first = forecasts.folds[0].test
    expected = forecasts.values["har_regime"]["regime"][first]
    np.testing.assert_array_equal(combined.values["density"]["regime"][first], expected)


def test_answers_that_are_not_known_at_the_cutoff_change_nothing(forecasts: Forecasts) -> None:
    """The base | meta boundary: garbage in what is answered later, at every refit."""
    samples = forecasts.samples
    rng = np.random.default_rng(0)
    before = Ensemble().combine(forecasts)
    for fold in forecasts.folds[2::4]:
        late = np.zeros(len(samples.time), bool)
        late[samples.ends[~(samples.known_at <= fold.cutoff)]] = True
        early = np.zeros(len(samples.time), bool)
        early[samples.ends[np.concatenate([f.test for f in forecasts.folds[:2]])]] = True
        for where, equal in ((late, True), (early, False)):
            spoiled = forecasts
            for head in ("return", "direction", "volatility", "regime"):
                value = samples.targets[head].value.copy()
                value[where] = rng.permutation(value[where])
                if head in ("direction", "regime"):
                    value[where] = 1 - value[where]
                spoiled = with_answers(spoiled, head, value)
            after = Ensemble().combine(spoiled)
            changed = [
                not np.array_equal(after.values[name][head][fold.test], array[fold.test], equal_nan=True)
                for name in ("equal_weight", "stacked", "ensemble")
                for head, array in before.values[name].items()
            ]
            assert not any(changed) if equal else any(changed)


def test_the_answer_that_is_known_at_the_cutoff_itself_counts(forecasts: Forecasts) -> None:
    samples, fold = forecasts.samples, forecasts.folds[-1]
    last = np.flatnonzero(samples.known_at == fold.cutoff)
    value = samples.targets["return"].value.copy()
    value[samples.ends[last]] += 0.5
    a, b = (
        Ensemble().combine(one).values["ensemble"]["return"]
        for one in (forecasts, with_answers(forecasts, "return", value))
    )
    assert len(last) == 2
    assert not np.array_equal(a[fold.test], b[fold.test])


def test_the_expected_simple_return_has_half_the_variance(forecasts: Forecasts) -> None:
    samples, heads = forecasts.samples, Ensemble().combine(forecasts).values["ensemble"]
    rows = forecasts.rows
    variance = heads["volatility"] * samples.facts.ratio[samples.ends]  # of close-to-close returns over the horizon
    np.testing.assert_allclose(
        heads["return_simple"][rows], np.exp(heads["return"][rows, -1] + variance[rows] / 2) - 1, rtol=1e-9
    )
    # what that is for: the mean of simple returns whose logs are normal
    draws = np.random.default_rng(0).normal(0.01, 0.2, 400_000)
    assert np.expm1(0.01 + 0.2**2 / 2) == pytest.approx(np.expm1(draws).mean(), abs=1e-3)


@pytest.mark.parametrize(("horizon", "needed"), [(1, 100), (3, 300), (5, 500)])
def test_the_variance_in_force_weighs_mixtures_by_what_they_lost_so_far(
    market: pl.DataFrame, horizon: int, needed: int
) -> None:
    """All mixtures in thirds, by past loss (later days, longer records count more) and distance to the first.

    From a hundred answers on that do not overlap.
    """
    samples = make_samples(market, ("ret_log_1", "x"), horizon=horizon)["index"]
    forecasts = made_up(samples, seed=6, skill={"lstm": 0.5})
    chosen = Ensemble().combine(forecasts).values["ensemble"]["volatility"]
    names = ("har_smooth", "lstm", "constant", "har")
    logs = np.log(np.column_stack([forecasts.values[name]["volatility"] for name in names]))
    middle = np.median(logs, axis=1, keepdims=True)
    logs = np.clip(logs, middle - 1, middle + 1)
    answer = samples.targets["volatility"].value[samples.ends]
    first = np.array([0.5, 0, 0, 0.5])  # two of the five base members are there
    grid = np.array([first, *(one for one in np.ndindex(4, 4, 4, 4) if sum(one) == 3)])
    grid[1:] /= 3
    learned = []
    for number, fold in enumerate(forecasts.folds):
        rows, _ = record_of(forecasts, number, "volatility")
        days, day = np.unique(samples.sessions[rows], return_inverse=True)
        weights = first
        if len(days) >= needed:
            age = 0.5 ** ((len(days) - 1 - np.arange(len(days))) / 500)
            losses = []
            for one in grid:
                ratio = answer[rows] - logs[rows] @ one
                loss = np.bincount(day, np.exp(ratio) - ratio - 1) / np.bincount(day)
                losses.append(age @ loss / age.sum())
            worse = np.array(losses) / min(losses) - 1
            trust = min(1, len(days) / 2500) if horizon > 1 else 1
            share = np.exp(-worse * trust * age.sum() / horizon - np.abs(grid - first).sum(1) / 2)
            weights = (share / share.sum()) @ grid
        learned.append(weights)
        np.testing.assert_allclose(chosen[fold.test], np.exp(logs[fold.test] @ weights), rtol=1e-12)
    assert learned[0].tolist() == [0.5, 0, 0, 0.5]
    assert learned[-1][1] >= 0.3  # the member with skill


def test_a_missing_answer_does_not_stop_the_choice_of_variance(samples: Samples) -> None:
    forecasts = made_up(samples, seed=6, skill={"lstm": 0.5})
    value = samples.targets["volatility"].value.copy()
    value[samples.ends[forecasts.folds[0].test[0]]] = np.nan
    with_hole = Ensemble().combine(with_answers(forecasts, "volatility", value)).values["ensemble"]["volatility"]
    whole = Ensemble().combine(forecasts).values["ensemble"]["volatility"]
    test = forecasts.folds[-1].test
    np.testing.assert_allclose(with_hole[test], whole[test], rtol=1e-3)
    assert np.abs(np.log(whole / forecasts.values["har"]["volatility"])[test]).max() > 0.01  # a choice was made


def test_probabilities_stay_inside_and_every_row_is_forecast(forecasts: Forecasts) -> None:
    certain = with_values(
        forecasts, "lstm", direction=np.where(np.isnan(forecasts.values["lstm"]["direction"]), np.nan, 1.0)
    )
    heads = Ensemble().combine(certain).values["ensemble"]
    rows = forecasts.rows
    for head in ("direction", "regime"):
        assert ((heads[head][rows] > 0) & (heads[head][rows] < 1)).all()
    for array in heads.values():
        assert np.isfinite(array[rows]).all()
        assert np.isnan(np.delete(array, rows, axis=0)).all()


def test_no_refit_no_ensemble(samples: Samples) -> None:
    folds = Schedule(minimum=5000).folds(samples.times, samples.known_at)
    assert folds == []
    assert Ensemble().combine(Forecasts(samples, (), {})).values == {}


def corrected(forecasts: Forecasts, quality: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(forecast, what a correction learned, answer) where the correction holds so much of what is left."""
    samples = forecasts.samples
    variance = forecasts.values["har"]["volatility"]
    answer = samples.targets["volatility"].value[samples.ends]
    left = np.nan_to_num(answer - np.log(variance))
    noise = 0.2 * np.random.default_rng(8).standard_normal(len(left))
    return variance, quality * left + noise, answer


@pytest.mark.parametrize("quality", [0.5, 0.0])
def test_a_correction_is_used_once_two_years_have_shown_that_it_pays(samples: Samples, quality: float) -> None:
    forecasts = made_up(samples, seed=6)
    variance, correction, answer = corrected(forecasts, quality)
    found = correct_variance(forecasts, variance, correction, np.full(len(samples), np.nan))
    rows = forecasts.rows
    with np.errstate(invalid="ignore"):
        share = np.log(found / variance) / correction
    days = np.unique(samples.sessions[rows])
    early = rows[samples.sessions[rows] < days[500]]
    np.testing.assert_allclose(share[early], 0, atol=1e-9)
    number = len(forecasts.folds) - 1
    known, _ = record_of(forecasts, number, "volatility")
    _, day = np.unique(samples.sessions[known], return_inverse=True)
    age = 0.5 ** ((day.max() - np.arange(day.max() + 1)) / 500)
    parts = np.arange(5) / 4
    losses = []
    for part in parts:
        square = (answer[known] - np.log(variance[known]) - part * correction[known]) ** 2
        losses.append(age @ (np.bincount(day, square) / np.bincount(day)) / age.sum())
    worse = np.array(losses) / min(losses) - 1
    odds_of = np.exp(-worse * age.sum() / samples.horizon_sessions - 3 * parts)
    last = share[forecasts.folds[-1].test]
    np.testing.assert_allclose(last, odds_of @ parts / odds_of.sum(), rtol=1e-6)
    assert (last > 0.5).all() if quality else (last < 0.3).all()


@pytest.mark.parametrize("correct", [False, True])
def test_the_variance_in_force_is_a_start_and_what_each_model_adds_to_it(samples: Samples, correct: bool) -> None:
    """At every refit: weight times distance from the start, a share of the correction, and they are what was issued."""
    forecasts, noise = made_up(samples, seed=6, skill={"lstm": 0.1, "forest": 0.5}), np.random.default_rng(3)
    names = ("har_symbol", "har_class", "lstm", "constant")
    ensemble = Ensemble(volatility_members=names, volatility_base=names[:2])
    for name in names[:2]:
        apart = noise.normal(0, 0.3, len(samples))
        forecasts = with_values(forecasts, name, volatility=forecasts.values["har"]["volatility"] * np.exp(apart))
    if correct:
        forecasts = with_values(forecasts, "residual_lstm", volatility=forecasts.values["forest"]["volatility"])
    forecasts = ensemble.combine(forecasts)
    logs = {name: np.log(heads["volatility"]) for name, heads in forecasts.values.items() if "volatility" in heads}
    members = np.column_stack([logs[name] for name in names])
    middle = np.median(members, axis=1, keepdims=True)
    near, shares = np.clip(members, middle - 1, middle + 1), []
    for number, fold in enumerate(forecasts.folds):
        rows = fold.test
        start, parts = ensemble.parts_of_variance(forecasts, rows, number)
        assert start == "har_symbol"
        assert list(parts) == [*names, *(["residual_lstm"] if correct else [])]
        np.testing.assert_allclose(sum(parts.values()), logs["ensemble"][rows], rtol=0, atol=1e-12)
        away = near[rows] - logs[start][rows, None]
        weights = [np.median(parts[name] / away[:, place]) for place, name in enumerate(names) if place]
        for place, weight in enumerate(weights, 1):
            np.testing.assert_allclose(parts[names[place]], weight * away[:, place], rtol=1e-9, atol=1e-12)
        weights = [1 - sum(weights), *weights]
        assert min(weights) >= 0
        whole = near[rows] @ weights
        if correct:
            correction = logs["residual_lstm"][rows] - (logs["har_symbol"][rows] + logs["har_class"][rows]) / 2
            shares.append(np.median(parts["residual_lstm"] / correction))
            np.testing.assert_allclose(parts["residual_lstm"], shares[-1] * correction, rtol=1e-9, atol=1e-12)
            whole = whole + shares[-1] * correction
        np.testing.assert_allclose(whole, logs["ensemble"][rows], rtol=0, atol=1e-11)
    assert not correct or (shares[0] == 0 and shares[-1] > 0)


def test_a_correction_learns_from_nothing_that_was_not_known(samples: Samples) -> None:
    forecasts = made_up(samples, seed=6)
    variance, correction, _ = corrected(forecasts, 0.5)
    fold = forecasts.folds[-1]
    value = samples.targets["volatility"].value.copy()
    value[samples.targets["volatility"].known_at > fold.cutoff] = 9.0
    held = np.full(len(samples), np.nan)
    whole, changed = (
        correct_variance(one, variance, correction, held.copy())
        for one in (forecasts, with_answers(forecasts, "volatility", value))
    )
    np.testing.assert_array_equal(whole[forecasts.rows], changed[forecasts.rows])


def test_the_combination_does_not_depend_on_the_number_of_cores(
    forecasts: Forecasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    plain = np.linalg.solve

    def solve(*given: Any) -> FloatArray:
        seen.update(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return plain(*given)

    monkeypatch.setattr(np.linalg, "solve", solve)
    with threadpool_limits(2, user_api="blas"):
        Ensemble().combine(forecasts)
    assert seen == {1}  # with two, sums over a long record end in other digits


# ── members without an opinion on a head ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("members", "without"),
    [(("ridge",), ("direction", "regime")), (("logistic",), ()), (("nobody",), ("return", "direction"))],
)
def test_a_head_on_which_no_member_has_an_opinion_is_its_rivals(
    forecasts: Forecasts, members: tuple[str, ...], without: tuple[str, ...]
) -> None:
    ridge = {"return": forecasts.values["lstm"]["return"]}
    known = forecasts.with_model("ridge", ridge)
    combined = Ensemble(members=members).combine(known)
    rivals = {"return": "zero", "direction": "base_rate", "regime": "har_regime"}
    for head, rival in rivals.items():
        own, theirs = combined.values["ensemble"][head], known.values[rival][head]
        np.testing.assert_array_equal(np.isfinite(own), np.isfinite(theirs))
        if head in without and head != "regime":  # of which the variance has an opinion always
            np.testing.assert_array_equal(own, theirs)
            assert set(combined.in_force[head]) == {rival}
    folds = len(known.folds)
    again = Ensemble(members=members).combine(combined, since=folds // 2)
    for head in rivals:
        np.testing.assert_array_equal(again.values["ensemble"][head], combined.values["ensemble"][head])


def test_what_was_learned_at_the_last_refit_of_a_past_is_taken_over(forecasts: Forecasts) -> None:
    whole = Ensemble().combine(forecasts)
    last, issued = len(whole.folds) - 1, whole.issued()
    again, other, of_others, odd, wild = (
        Ensemble().combine(whole, since=last, issued=replace(issued, learned=learned))
        for learned in (
            issued.learned,
            {
                part: np.eye(1, numbers.size)[0] if part.startswith("volatility") else 2 * numbers
                for part, numbers in issued.learned.items()
            },
            {f"{part},another": 2 * numbers for part, numbers in issued.learned.items()},  # of other members
            {part: np.r_[numbers, numbers, np.nan] for part, numbers in issued.learned.items()},  # no such numbers
            {part: np.full_like(numbers, -1e6) for part, numbers in issued.learned.items()},  # nor these
        )
    )
    test = whole.folds[-1].test
    for name, head in (("equal_weight", "return"), ("stacked", "direction"), ("ensemble", "volatility")):
        values = whole.values[name][head]
        for same in (again, of_others, odd, wild):
            np.testing.assert_array_equal(same.values[name][head], values)
        assert not np.array_equal(other.values[name][head][test], values[test])
        np.testing.assert_array_equal(np.delete(other.values[name][head], test, 0), np.delete(values, test, 0))


def test_an_ensemble_without_a_forecast_of_variance_says_which_there_are(forecasts: Forecasts) -> None:
    with pytest.raises(SettingsError, match=r"ensemble.volatility_members = gjr: expected .* lstm, forest, har"):
        Ensemble(volatility_members=("gjr",)).combine(forecasts)
