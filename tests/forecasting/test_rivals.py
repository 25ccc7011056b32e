"""Every rival against someone else's numbers, and all of them against the cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as LinearRidge
from sklearn.metrics import log_loss

from gatecast.forecasting.forecaster import from_state, seed_of, state_of
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import FittedForest, Forest
from gatecast.forecasting.models.har import HARLevels, LogHAR
from gatecast.forecasting.models.lag import LogisticLag, RidgeLag
from gatecast.forecasting.models.linear import BayesRidge, FittedLinear, Ridge
from gatecast.forecasting.models.logistic import Logistic, _regression
from gatecast.forecasting.models.naive import RULES, Naive
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

ALL = [
    LSTM(units=16, layers=1, seeds=1, epochs=2),
    Forest(trees=5),
    Ridge(),
    BayesRidge(),
    Logistic(),
    PANEL["threshold"].forecaster.of,
    PANEL["har_regime"].forecaster.of,
    PANEL["har_regime_falls"].forecaster.of,
    LogHAR(),
    LogHAR(falls=True),
    HARLevels(),
    RidgeLag(),
    LogisticLag(),
    *(Naive(rule=rule) for rule in RULES),
]


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return Schedule().folds(samples.times, samples.known_at)[4].on(samples)


def test_the_log_har_is_statsmodels_least_squares(samples: Samples, fold: Fold) -> None:
    fitted = LogHAR().fit_many([fold])[0]
    forecast = fitted.predict(samples, fold.test)["volatility"]
    ends = samples.ends[fold.record]
    for number in (0, 1):
        mine = ends[samples.symbol[ends] == number]
        model = sm.OLS(samples.targets["volatility"].value[mine], sm.add_constant(samples.facts.har[mine])).fit()
        at = samples.symbol[samples.ends[fold.test]] == number
        inputs = sm.add_constant(samples.facts.har[samples.ends[fold.test[at]]], has_constant="add")
        expected = np.exp(model.predict(inputs) + 0.5 * np.mean(model.resid**2))
        np.testing.assert_allclose(forecast[at], expected, rtol=1e-8)


def test_the_forests_arrays_predict_as_scikit_learns_trees(samples: Samples, fold: Fold) -> None:
    draw = np.random.default_rng(0)
    answers = draw.standard_normal((len(fold.train), samples.horizon + 3))
    inputs = samples.summaries[fold.train].astype(np.float32)
    model = RandomForestRegressor(20, max_depth=5, random_state=1).fit(inputs, answers)
    zero, one = np.zeros(answers.shape[1]), np.ones(answers.shape[1])
    forest = FittedForest.from_trees([tree.tree_ for tree in model.estimators_], zero, one, samples.horizon)
    expected = model.predict(samples.summaries[fold.test].astype(np.float32))
    np.testing.assert_allclose(forest._outputs(samples, fold.test), expected, rtol=1e-9, atol=1e-12)


def test_a_damaged_tree_is_refused(samples: Samples, fold: Fold) -> None:
    arrays, settings = Forest(trees=2).fit_many([fold])[0].state()
    inner = np.flatnonzero(arrays["feature"] >= 0)[0]
    arrays["left"] = arrays["left"].copy()
    arrays["left"][inner] = inner  # a cycle would never end
    with pytest.raises(ValueError, match="parent"):
        FittedForest.from_state(arrays, settings)


def test_logistic_is_scikit_learns(samples: Samples, fold: Fold) -> None:
    fitted = Logistic(strengths=(0.01,)).fit_many([fold])[0]
    rows = np.r_[fold.train, fold.validation]
    inputs = samples.summaries[rows]
    scaled = np.clip((inputs - inputs.mean(0)) / inputs.std(0), -8, 8)
    target = samples.targets["direction"].value[samples.ends[rows]]
    model = LogisticRegression(C=0.01, tol=1e-10, max_iter=1000).fit(scaled, target)
    tests = np.clip((samples.summaries[fold.test] - inputs.mean(0)) / inputs.std(0), -8, 8)
    expected = model.predict_proba(tests)[:, 1]
    np.testing.assert_allclose(fitted.predict(samples, fold.test)["direction"], expected, atol=1e-6)


@pytest.mark.parametrize("start", [False, True])
def test_a_fit_has_the_bytes_of_scikit_learns(start: bool) -> None:
    rng = np.random.default_rng(4)
    inputs, counts = rng.standard_normal((300, 6)), rng.uniform(0.5, 2.0, 300)
    target = (inputs[:, 0] + rng.standard_normal(300) > 0.3).astype(np.float64)
    target[::17] = np.nan
    known, begin = np.isfinite(target), rng.standard_normal((7, 1)) / 10
    theirs = LogisticRegression(C=0.02, solver="newton-cholesky", tol=1e-7, max_iter=50, warm_start=True)
    if start:
        theirs.intercept_, theirs.coef_ = begin[0], begin[1:].T
    theirs.fit(inputs[known], target[known], counts[known])
    ours = _regression(inputs, target, counts, 0.02, begin if start else None, 1e-7)
    assert ours[:, 0].tobytes() == np.r_[theirs.intercept_, theirs.coef_[0]].tobytes()


def test_logistic_chooses_on_the_validation_rows_and_learns_from_all(samples: Samples, fold: Fold) -> None:
    strengths = (1e-4, 1e-2, 1.0)
    inputs = samples.summaries[fold.train]
    scale = lambda rows: np.clip((samples.summaries[rows] - inputs.mean(0)) / inputs.std(0), -8, 8)  # noqa: E731
    target, check = (samples.targets["direction"].value[samples.ends[rows]] for rows in (fold.train, fold.validation))
    losses = [
        log_loss(check, LogisticRegression(C=c, max_iter=1000).fit(scale(fold.train), target).predict_proba(
            scale(fold.validation)
        )[:, 1])
        for c in strengths
    ]  # fmt: skip
    best = Logistic(heads=("direction",), strengths=(strengths[int(np.argmin(losses))],)).fit_many([fold])[0]
    chosen = Logistic(heads=("direction",), strengths=strengths).fit_many([fold])[0]
    np.testing.assert_allclose(chosen.weights["direction"], best.weights["direction"], rtol=1e-6)


def test_the_har_regime_reads_the_hars_terms_less_the_level(samples: Samples, fold: Fold) -> None:
    fitted = PANEL["har_regime"].forecaster.of.replace(half_life=None).fit_many([fold])[0]
    facts, answers = samples.facts, samples.targets["regime"].value[samples.ends]
    inputs = np.column_stack([facts.har, facts.recent])[samples.ends] - facts.level[samples.ends, None]
    inputs = np.nan_to_num(inputs)
    wide = fold.windowed("expanding")
    rows = np.r_[wide.train, wide.validation]
    rows = rows[np.isfinite(answers[rows])]
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000)
    every = np.r_[wide.train, wide.validation]
    centre, spread = inputs[every].mean(0), inputs[every].std(0)
    model.fit((inputs[rows] - centre) / spread, answers[rows])
    expected = model.predict_proba((inputs[fold.test] - centre) / spread)[:, 1]
    np.testing.assert_allclose(fitted.predict(samples, fold.test)["regime"], np.clip(expected, 1e-3, 0.999), atol=2e-4)


def test_logistic_knows_only_one_outcome_when_there_is_one(samples: Samples, fold: Fold) -> None:
    target = samples.targets["direction"]
    ones = replace(target, value=np.where(np.isnan(target.value), np.nan, 1.0))
    other = replace(samples, targets={**samples.targets, "direction": ones})
    fitted = Logistic(heads=("direction",)).fit_many([replace(fold, samples=other)])[0]
    count = len(fold.train) + len(fold.validation)
    expected = (count + 1) / (count + 2)
    np.testing.assert_allclose(fitted.predict(other, fold.test)["direction"], expected)


def test_ridge_is_the_closed_form(samples: Samples, fold: Fold) -> None:
    fitted = Ridge(penalties=(0.1,)).fit_many([fold])[0]
    inputs = samples.summaries[fold.train]
    scaled = np.clip((inputs - inputs.mean(0)) / inputs.std(0), -8, 8)
    answers = samples.table[samples.ends[fold.train], : samples.horizon]
    wide = np.vstack([scaled, np.sqrt(0.1 * len(scaled)) * np.eye(scaled.shape[1])])  # ridge as more rows of data
    expected, *_ = np.linalg.lstsq(wide, np.vstack([answers, np.zeros((scaled.shape[1], answers.shape[1]))]))
    np.testing.assert_allclose(fitted.weights["return"][1:], expected, rtol=1e-6, atol=1e-10)


def test_the_bayesian_ridge_is_the_mean_over_its_priors(samples: Samples, fold: Fold) -> None:
    """Every prior by the plain density of the answers, and each posterior mean by its own formula."""
    from scipy.stats import multivariate_normal

    short = replace(fold, cutoff=np.unique(samples.times)[40])
    rows = short.record
    fitted = BayesRidge(nothing=0.3, shares=(0.01, 0.3)).fit_many([short])[0]
    inputs = samples.summaries[rows]
    scaled = np.clip((inputs - inputs.mean(0)) / inputs.std(0), -8, 8)
    answers = samples.table[samples.ends[rows], : samples.horizon]
    days = samples.sessions[rows].tolist()
    share = np.array([1 / days.count(day) for day in days])
    total = np.average((scaled**2).sum(1), weights=share)
    densities, means = np.zeros((samples.horizon, 3)), np.zeros((3, scaled.shape[1], samples.horizon))
    for step in range(samples.horizon):
        answer = answers[:, step]
        variance = np.average(answer**2, weights=share)
        noise = np.diag(variance * (step + 1) / share)
        for number, part in enumerate((0.0, 0.01, 0.3)):
            prior = part * variance / total
            spread = noise + prior * scaled @ scaled.T
            densities[step, number] = multivariate_normal.logpdf(answer, np.zeros(len(rows)), spread)
            means[number, :, step] = prior * scaled.T @ np.linalg.solve(spread, answer)
    odds = np.log([0.3, 0.35, 0.35]) + densities.mean(0)
    belief = np.exp(odds - odds.max()) / np.exp(odds - odds.max()).sum()
    np.testing.assert_allclose(fitted.weights["return"][1:], np.tensordot(belief, means, 1), rtol=1e-6, atol=1e-9)
    assert not fitted.weights["return"][0].any()
    assert belief.min() > 1e-3


def test_the_bayesian_ridge_trusts_what_is_planted_and_nothing_else() -> None:
    """Nearer to the truth than ridge; a tenth of its size on a walk; and a twin of the symbol is no more evidence."""
    schedule = Schedule(train=1500, minimum=1500, refit="1Y", expanding=True)
    off = {"bayes": 0.0, "ridge": 0.0, "zero": 0.0}
    for seed in range(4):
        market = synthetic.b1(3000, seed, r2=0.02)
        samples = make_samples(market, ("x",))["index"]
        forecasts = walk_forward([BayesRidge(), Ridge(), Naive(rule="zero")], samples, schedule)
        known = np.sqrt(0.02) * 0.01 * (1 - 0.95**5) / 0.05 * market["x"].to_numpy()[samples.ends]
        for model in off:
            off[model] += float(np.nanmean((forecasts.values[model]["return"][:, -1] - known) ** 2))
    assert off["bayes"] < 0.8 * off["ridge"]
    assert off["ridge"] < 0.5 * off["zero"]
    twins = pl.concat([market, market.with_columns(symbol=pl.lit("TWIN"))]).sort("symbol", "time")
    again = walk_forward([BayesRidge()], make_samples(twins, ("x",))["index"], schedule).values["bayes"]["return"]
    np.testing.assert_allclose(again[: len(samples)], forecasts.values["bayes"]["return"], rtol=1e-6, atol=1e-10)
    noise = make_samples(synthetic.a4(3000, seed=3), ("ret_log_1", *(f"noise_{n}" for n in range(1, 6))))["index"]
    values = walk_forward([BayesRidge(), Ridge()], noise, schedule).values
    assert np.nanstd(values["bayes"]["return"]) < 0.1 * np.nanstd(values["ridge"]["return"])


def test_the_naive_rules_are_what_they_say(samples: Samples, fold: Fold, market: pl.DataFrame) -> None:
    fits = {rule: Naive(rule=rule).fit_many([fold])[0].predict(samples, fold.test) for rule in RULES}
    ends, record = samples.ends[fold.test], samples.ends[fold.record]
    assert not fits["zero"]["return"].any()
    row, symbol = ends[3], samples.symbol[ends[3]]
    closes = market.filter(pl.col("symbol") == samples.symbols[symbol])["close"].to_numpy()
    place = row - np.flatnonzero(samples.symbol == symbol)[0]
    returns = np.diff(np.log(closes[: place + 1]))
    np.testing.assert_allclose(fits["mean"]["return"][3], returns.mean() * np.arange(1, 6), rtol=1e-9)
    np.testing.assert_allclose(fits["last"]["return"][3, -1], returns[-5:].sum(), rtol=1e-9)
    weights = 0.94 ** np.arange(len(returns))[::-1]
    ewma = (weights * returns**2).sum() / weights.sum()
    expected = 5 * ewma / samples.facts.ratio[row]
    np.testing.assert_allclose(fits["ewma"]["volatility"][3], expected, rtol=1e-9)
    proxies = np.exp(samples.facts.har[: row + 1, 0][samples.symbol[: row + 1] == symbol])
    proxies = proxies[np.isfinite(proxies)]
    weights = 0.94 ** np.arange(len(proxies))[::-1]
    expected = 5 * (weights * proxies).sum() / weights.sum()
    np.testing.assert_allclose(fits["ewma_range"]["volatility"][3], expected, rtol=1e-9)
    mine = record[samples.symbol[record] == symbol]
    past = np.exp(samples.targets["volatility"].value[mine]).mean()
    np.testing.assert_allclose(fits["constant"]["volatility"][3], past, rtol=1e-9)


@pytest.mark.parametrize("forecaster", ALL, ids=lambda f: f.name)
def test_at_the_cut(forecaster: object, market: pl.DataFrame) -> None:
    """Forecasts made by t are the same bytes whether later bars are there, missing, or garbage."""
    schedule = Schedule(refit="6M")
    features = ("ret_log_1", "x")
    whole = make_samples(market, features)["index"]
    reference = walk_forward([forecaster], whole, schedule)
    cutoffs = [fold.cutoff for fold in reference.folds]
    moments = np.unique(whole.times)
    middle = np.searchsorted(moments, cutoffs[2])
    for moment in (moments[middle], moments[middle - 1], moments[middle + 37]):
        limit = pl.lit(moment).dt.replace_time_zone("UTC")
        past = market.filter(pl.col("time") <= limit)
        later = pl.col("time") > limit
        garbage = market.with_columns(
            pl.when(later).then(pl.col(name) * 7.3).otherwise(pl.col(name))
            for name in ("open", "high", "low", "close", "x")
        )
        for bars in (past, garbage):
            other = walk_forward([forecaster], make_samples(bars, features)["index"], schedule)
            for head, values in reference.values[forecaster.name].items():
                ours, theirs = values[whole.times <= moment], other.values[forecaster.name][head]
                theirs = theirs[other.samples.times <= moment]
                assert np.isfinite(ours).any()
                assert ours.tobytes() == theirs.tobytes(), head


@pytest.mark.parametrize("forecaster", ALL, ids=lambda f: f.name)
def test_stored_and_back_is_the_same_bytes(forecaster: object, samples: Samples, fold: Fold) -> None:
    fitted = forecaster.fit_many([fold])[0]
    again = from_state(*state_of(forecaster, fitted))
    for head, values in fitted.predict(samples, fold.test).items():
        assert values.tobytes() == again.predict(samples, fold.test)[head].tobytes()


def test_ridge_finds_what_is_planted_and_nothing_in_a_walk() -> None:
    found = {}
    for name, market in {
        "b1": synthetic.b1(3000, seed=3, r2=0.05),
        "a1": synthetic.a1(3000, seed=3),
    }.items():
        samples = make_samples(market, ("ret_log_1", "x") if name == "b1" else ("ret_log_1",))["index"]
        forecasts = walk_forward([Ridge(), Naive(rule="zero")], samples, Schedule(refit="3M"))
        rows = forecasts.rows[np.isfinite(samples.targets["return"].value[samples.ends[forecasts.rows], -1])]
        answer = samples.targets["return"].value[samples.ends[rows], -1]
        error = answer - forecasts.values["ridge"]["return"][rows, -1]
        found[name] = 1 - (error**2).sum() / (answer**2).sum()
    assert found["b1"] > 0.05
    assert found["a1"] < 0.01


def test_seeds_depend_on_class_cutoff_and_member_alone() -> None:
    moment = np.datetime64("2010-01-04T21:00")
    seeds = {
        seed_of(0, "index", moment), seed_of(1, "index", moment), seed_of(0, "equity", moment),
        seed_of(0, "index", moment + 1), seed_of(0, "index", moment, 1),
    }  # fmt: skip
    assert len(seeds) == 5


def test_linear_reads_unknown_features_as_average(samples: Samples, fold: Fold) -> None:
    fitted = Ridge().fit_many([fold])[0]
    assert isinstance(fitted, FittedLinear)
    broken = replace(samples)
    broken.summaries[fold.test[0]] = np.nan
    forecast = fitted.predict(broken, fold.test[:1])["return"]
    np.testing.assert_array_equal(forecast, np.zeros_like(forecast))


def test_recency_weights_are_other_peoples_sample_weights(samples: Samples, fold: Fold) -> None:
    inputs, counts = samples.summaries[fold.train], fold.recency(0.7)
    scaled = np.clip((inputs - inputs.mean(0)) / inputs.std(0), -8, 8)
    tests = np.clip((samples.summaries[fold.test] - inputs.mean(0)) / inputs.std(0), -8, 8)
    ridge = Ridge(penalties=(0.1,), half_life=0.7).fit_many([fold])[0]
    answers = samples.table[samples.ends[fold.train], : samples.horizon]
    theirs = LinearRidge(0.1 * len(scaled), fit_intercept=False).fit(scaled, answers, counts)
    np.testing.assert_allclose(ridge.weights["return"][1:], theirs.coef_.T, rtol=1e-6, atol=1e-10)
    logistic = Logistic(strengths=(0.01,), half_life=0.7).fit_many([fold])[0]
    whole = replace(fold, train=np.r_[fold.train, fold.validation])
    inputs, counts = samples.summaries[whole.train], whole.recency(0.7)
    scaled = np.clip((inputs - inputs.mean(0)) / inputs.std(0), -8, 8)
    tests = np.clip((samples.summaries[fold.test] - inputs.mean(0)) / inputs.std(0), -8, 8)
    target = samples.targets["direction"].value[samples.ends[whole.train]]
    model = LogisticRegression(C=0.01, tol=1e-10, max_iter=1000).fit(scaled, target, counts)
    expected = model.predict_proba(tests)[:, 1]
    np.testing.assert_allclose(logistic.predict(samples, fold.test)["direction"], expected, atol=2e-4)


@pytest.mark.parametrize("model", [Ridge(), Logistic(), Forest(trees=3)])
def test_a_window_of_its_own_is_a_schedule_of_that_length(samples: Samples, model: Ridge | Logistic | Forest) -> None:
    times, known = samples.times, samples.known_at
    mine, theirs = (one.folds(times, known)[-1].on(samples) for one in (Schedule(train="1Y"), Schedule(train="3Y")))
    expected = model.fit_many([theirs])[0].predict(samples, theirs.test)
    for head, values in model.replace(window="3Y").fit_many([mine])[0].predict(samples, mine.test).items():
        np.testing.assert_array_equal(values, expected[head])


def test_a_forest_hears_the_weights(samples: Samples, fold: Fold) -> None:
    plain, recent = (Forest(trees=3, half_life=years).fit_many([fold])[0] for years in (None, 0.3))
    assert (plain.predict(samples, fold.test)["regime"] != recent.predict(samples, fold.test)["regime"]).any()


def test_a_fit_stays_in_force_for_so_many_refits(samples: Samples) -> None:
    folds = [fold.on(samples) for fold in Schedule().folds(samples.times, samples.known_at)][:5]
    fits, alone = Ridge(every=2).fit_many(folds), Ridge().fit_many(folds)
    for number in range(5):
        expected = alone[number - number % 2].weights["return"]
        np.testing.assert_array_equal(fits[number].weights["return"], expected)


# ── wild cells in the features ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", [Ridge(), BayesRidge(), Logistic()], ids=lambda model: model.name)
def test_wild_cells_of_a_column_do_not_hide_what_it_tells(model: Ridge | BayesRidge | Logistic) -> None:
    """Three cells in a thousand are a million: each counts as twenty robust s.d., in the window's means too."""
    bars = synthetic.b1(1600, seed=3, r2=0.1, symbols=2)
    rng = np.random.default_rng(7)
    wild = pl.when(pl.Series(rng.random(len(bars)) < 0.003)).then(1e6).otherwise("x").alias("x")
    clean, broken = (make_samples(one, ("ret_log_1", "x"))["index"] for one in (bars, bars.with_columns(wild)))
    fold = Schedule().folds(clean.times, clean.known_at)[-1]
    one, other = (model.fit_many([fold.on(samples)])[0] for samples in (clean, broken))
    assert one.limits is None
    assert other.limits is not None
    ends = broken.ends[fold.on(broken).record if isinstance(model, BayesRidge) else fold.train]
    assert np.abs(other.limits[:, 1]).max() < 25 * broken.features[ends, 1].std()
    assert np.isinf(other.limits[:, 0]).all()
    rows = fold.test
    near = [np.abs(broken.features[end - 40 : end + 1, 1]).max() < 100 for end in broken.ends[rows]]
    rows = np.concatenate([rows[near], np.flatnonzero(np.abs(broken.features[broken.ends, 1]) > 100)[:3]])
    head = "direction" if isinstance(model, Logistic) else "return"
    theirs, ours = (fit.predict(samples, rows)[head] for fit, samples in ((one, clean), (other, broken)))
    last = (lambda values: values[:-3, -1]) if head == "return" else (lambda values: values[:-3])
    assert np.corrcoef(last(theirs), last(ours))[0, 1] > 0.9
    for place, row in enumerate(rows.tolist()):
        assert np.array_equal(other.predict(broken, np.array([row]))[head][0], ours[place])
    loaded = type(other).from_state(*other.state())
    assert np.array_equal(loaded.predict(broken, rows)[head], ours)
