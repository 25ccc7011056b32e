"""GARCH and GJR-GARCH: arch's own recursion and forecasts, planted markets, and nothing of what comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from arch import arch_model
from arch.univariate import GARCH, StudentsT, ZeroMean
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import SettingsError, StoreError
from gatecast.forecasting.forecaster import Task, from_state
from gatecast.forecasting.models.garch import FittedGarch, Garch, GarchModel, fit_garch, known_returns
from gatecast.forecasting.models.har import LogHAR
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.market.bars import make_bars
from gatecast.samples.windows import Samples, make_samples

Array = np.ndarray
BOTH = [Garch(minimum=300), Garch(minimum=300, asymmetric=True)]
GJR = GarchModel(0.0005, 2e-6, 0.03, 0.1, 0.9, 1e-4)


def returns_of(bars: pl.DataFrame) -> Array:
    """Log returns of one symbol, the first NaN."""
    return np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Two symbols whose variance rises after falls, with a column that holds a variance of half the size."""
    market = synthetic.g4(1100, seed=5, symbols=2)
    return market.with_columns(half=0.5 * pl.col("close").log().diff().over("symbol").fill_null(0.0).pow(2) + 1e-7)


@pytest.fixture(scope="module")
def samples(bars: pl.DataFrame) -> Samples:
    return make_samples(bars, ("ret_log_1",))["index"]


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return Schedule(refit="6M").folds(samples.times, samples.known_at)[-2].on(samples)


# ── the recursion and the fit against arch ────────────────────────────────────────────────────────


@pytest.mark.parametrize("asymmetric", [False, True], ids=["garch", "gjr"])
def test_variance_and_forecasts_are_archs(asymmetric: bool) -> None:
    returns = returns_of(synthetic.g4(1200, seed=2))
    unit = float(np.std(returns[1:]))
    model = fit_garch(returns[1:], asymmetric=asymmetric)
    assert model is not None
    theirs = arch_model(returns[1:] / unit, mean="Constant", o=int(asymmetric), dist="t", rescale=False)
    found = theirs.fit(disp="off", backcast=1.0)
    ours = model.next_variance(returns)
    np.testing.assert_allclose(ours[:-1], (unit * found.conditional_volatility) ** 2, rtol=1e-9)
    ahead = unit**2 * found.forecast(horizon=22, start=1000).variance.to_numpy()
    for horizon in (1, 5, 22):
        expected = ahead[:, :horizon].sum(axis=1) + horizon * model.mean**2
        np.testing.assert_allclose(model.expected_square(ours[1001:], horizon), expected, rtol=1e-9)


def test_the_expected_square_is_the_mean_of_simulated_paths() -> None:
    draw, paths, horizon = np.random.default_rng(0), 200_000, 4
    variance, total = np.full(paths, 3e-4), np.zeros(paths)
    for _ in range(horizon):
        error = np.sqrt(variance) * draw.standard_normal(paths)
        total += (GJR.mean + error) ** 2
        variance = GJR.omega + (GJR.alpha + GJR.gamma * (error < 0)) * error**2 + GJR.beta * variance
    expected = GJR.expected_square(np.array([3e-4]), horizon)[0]
    assert abs(total.mean() - expected) < 4 * total.std() / np.sqrt(paths)


def test_planted_parameters_are_found() -> None:
    planted = ZeroMean(volatility=GARCH(o=1), distribution=StudentsT(seed=np.random.default_rng(4)), rescale=False)
    path = planted.simulate([0.02, 0.03, 0.10, 0.90, 6.0], 8000, burn=500)["data"].to_numpy()
    model = fit_garch(0.01 * path, asymmetric=True)
    assert model is not None
    np.testing.assert_allclose([model.alpha, model.gamma, model.beta], [0.03, 0.10, 0.90], atol=0.03)
    assert model.omega == pytest.approx(0.02e-4, rel=0.5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 299), garbage=st.sampled_from([0.0, 0.9, -5.0, 1e6]))
def test_nothing_at_t_depends_on_later_bars(seed: int, cut: int, garbage: float) -> None:
    returns = np.r_[np.nan, 0.02 * np.random.default_rng(seed).standard_t(3, 299)]
    broken = np.r_[returns[:cut], np.full(300 - cut, garbage)]
    whole = GJR.next_variance(returns)
    assert (whole > 0).all()
    assert whole[:cut].tobytes() == GJR.next_variance(returns[:cut]).tobytes()
    assert whole[:cut].tobytes() == GJR.next_variance(broken)[:cut].tobytes()


@pytest.mark.parametrize(
    "returns",
    [np.zeros(0), np.zeros(800), np.full(800, 0.01), np.full(800, np.nan), np.r_[np.zeros(700), 5.0, np.zeros(300)]],
    ids=["none", "zero", "constant", "nan", "one jump"],
)
def test_returns_without_a_variance_of_their_own_have_no_model(returns: Array) -> None:
    assert fit_garch(returns) is None
    assert fit_garch(returns, asymmetric=True) is None


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["cauchy", "zeros", "outlier", "tiny", "step", "coin"]))
def test_no_returns_are_too_wild(seed: int, kind: str) -> None:
    draw = np.random.default_rng(seed)
    noise = 0.01 * draw.standard_normal(600)
    returns = {
        "cauchy": draw.standard_cauchy(600), "zeros": np.where(draw.random(600) < 0.9, 0.0, noise),
        "outlier": np.r_[noise, -3.0], "tiny": 1e-5 * noise, "step": np.r_[1e-3 * noise, 100 * noise],
        "coin": np.sign(noise),
    }[kind]  # fmt: skip
    model = fit_garch(returns, asymmetric=True)
    if model is not None:
        variance = model.expected_square(model.next_variance(np.r_[np.nan, returns]), 5)
        assert np.isfinite(variance).all()


# ── the forecaster ────────────────────────────────────────────────────────────────────────────────


def test_each_symbol_is_fitted_on_all_its_returns_known_at_the_cutoff(samples: Samples, fold: Fold) -> None:
    bars_of = len(samples.time) // 2
    for number, returns in enumerate(known_returns(fold)):
        own = slice(number * bars_of, (number + 1) * bars_of)
        closes = np.cumsum(np.r_[0.0, returns])
        assert len(returns) == np.count_nonzero(samples.time[own] <= fold.cutoff) - 1
        step = samples.targets["return"].value[own, 0][: len(returns)]
        np.testing.assert_allclose(closes[1:], np.cumsum(step))


@pytest.mark.parametrize("forecaster", BOTH, ids=lambda one: one.name)
def test_the_forecast_is_the_recursions_in_the_proxys_unit(
    forecaster: Garch, bars: pl.DataFrame, samples: Samples, fold: Fold
) -> None:
    fitted = forecaster.fit_many([fold])[0]
    ends = samples.ends[fold.test]
    expected = np.concatenate(
        [
            model.expected_square(model.next_variance(returns_of(bars.filter(pl.col("symbol") == symbol))), 5)
            for symbol, model in zip(samples.symbols, fitted.models, strict=True)
        ]
    )[ends]
    ours = fitted.predict(samples, fold.test)["volatility"]
    np.testing.assert_allclose(ours, expected / samples.facts.ratio[ends], rtol=1e-9)
    half = make_samples(bars, ("ret_log_1",), volatility_proxy="half")["index"]
    np.testing.assert_allclose(half.facts.ratio[ends], 2.0, rtol=0.05)
    rescaled = fitted.predict(half, fold.test)["volatility"] * half.facts.ratio[ends]
    np.testing.assert_allclose(rescaled, expected, rtol=1e-9)


def test_it_knows_what_is_planted() -> None:
    """A fit on half of a path: QLIKE against squared returns, between a constant and the true variance."""
    market = synthetic.g4(3000, seed=1, symbols=2)
    samples = make_samples(market, ("ret_log_1",), horizon=1, volatility_proxy="close_to_close")["index"]
    schedule = Schedule(refit="1Y", minimum="5Y", expanding=True)
    rivals = [Garch(every=3), Garch(every=3, asymmetric=True), Naive(rule="constant"), Naive(rule="ewma"), LogHAR()]
    forecasts = walk_forward(rivals, samples, schedule)
    truth = market["h_true"].to_numpy()[samples.ends]
    rows = forecasts.rows[np.isfinite(samples.targets["volatility"].value[samples.ends[forecasts.rows]])]
    square = samples.targets["return"].value[samples.ends[rows], 0] ** 2
    loss = {name: np.mean(square / one["volatility"][rows] + np.log(one["volatility"][rows]))
            for name, one in forecasts.values.items() if "volatility" in one}  # fmt: skip
    best = np.mean(square / truth[rows] + np.log(truth[rows]))
    share = {name: (loss["constant"] - one) / (loss["constant"] - best) for name, one in loss.items()}
    assert share["gjr"] > 0.95
    assert share["gjr"] > share["garch"] > share["har"]
    assert share["garch"] > share["ewma"] - 0.02


def test_parameters_stay_in_force_and_the_variance_goes_on(samples: Samples) -> None:
    folds = [one.on(samples) for one in Schedule(refit="3M").folds(samples.times, samples.known_at)][-4:]
    done: list[int] = []
    fits = Garch(every=3, minimum=300).fit_many(folds, Task(on_fit=done.append))
    alone = Garch(minimum=300).fit_many(folds[3:])
    assert done == [3, 1]
    assert fits[0].models == fits[1].models == fits[2].models
    assert fits[3].models == alone[0].models != fits[0].models
    late = fits[0].predict(samples, folds[2].test)["volatility"]
    assert len(np.unique(late)) == len(late)


@pytest.mark.parametrize("forecaster", BOTH, ids=lambda one: one.name)
def test_at_the_cut(forecaster: Garch, bars: pl.DataFrame) -> None:
    """Forecasts made by t are the same bytes whether later bars are there, missing, or garbage."""
    schedule, forecaster = Schedule(refit="6M"), forecaster.replace(every=2)
    whole = make_samples(bars, ("ret_log_1",))["index"]
    reference = walk_forward([forecaster], whole, schedule)
    moments = np.unique(whole.times)
    middle = np.searchsorted(moments, reference.folds[2].cutoff)
    for moment in (moments[middle], moments[middle - 1], moments[middle + 37]):
        later = pl.col("time") > pl.lit(moment).dt.replace_time_zone("UTC")
        garbage = bars.with_columns(
            pl.when(later).then(pl.col(name) * 7.3).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
        )
        for other in (bars.filter(~later), garbage):
            again = walk_forward([forecaster], make_samples(other, ("ret_log_1",))["index"], schedule)
            ours = reference.values[forecaster.name]["volatility"][whole.times <= moment]
            theirs = again.values[forecaster.name]["volatility"][again.samples.times <= moment]
            assert np.isfinite(ours).any()
            assert ours.tobytes() == theirs.tobytes()


def test_a_row_is_forecast_as_among_others_and_a_symbol_too(bars: pl.DataFrame, samples: Samples, fold: Fold) -> None:
    fitted = BOTH[1].fit_many([fold])[0]
    rows = fold.test[samples.symbol[samples.ends[fold.test]] == 1]
    together = fitted.predict(samples, fold.test)["volatility"][samples.symbol[samples.ends[fold.test]] == 1]
    for row, value in zip(rows[-5:], together[-5:], strict=True):
        assert fitted.predict(samples, np.array([row]))["volatility"][0] == value
    alone = make_samples(bars.filter(pl.col("symbol") == samples.symbols[1]), ("ret_log_1",))["index"]
    folds = Schedule(refit="6M").folds(alone.times, alone.known_at)
    same = next(one for one in folds if one.cutoff == fold.cutoff).on(alone)
    assert together.tobytes() == BOTH[1].fit_many([same])[0].predict(alone, same.test)["volatility"].tobytes()


def test_a_gap_begins_anew(bars: pl.DataFrame) -> None:
    cut = bars.with_row_index().filter(~pl.col("index").is_between(700, 760)).drop("index", "segment", "known_at")
    samples = make_samples(make_bars(cut), ("ret_log_1",))["index"]
    fold = Schedule(refit="6M").folds(samples.times, samples.known_at)[-1].on(samples)
    fitted = Garch(minimum=300).fit_many([fold])[0]
    rows = np.flatnonzero((samples.symbol[samples.ends] == 0) & (samples.segment[samples.ends] == 1))
    first = np.flatnonzero((samples.symbol == 0) & (samples.segment == 1))[0]
    after = returns_of(cut.filter(pl.col("symbol") == samples.symbols[0]))[first:]
    model, ends = fitted.models[0], samples.ends[rows]
    expected = model.expected_square(model.next_variance(np.r_[np.nan, after[1:]]), 5)[ends - first]
    np.testing.assert_allclose(fitted.predict(samples, rows)["volatility"] * samples.facts.ratio[ends], expected)
    assert len(known_returns(fold)[0]) == np.count_nonzero(samples.time[samples.symbol == 0] <= fold.cutoff) - 2


def test_too_few_returns_or_none_that_vary_take_the_trailing_variance(bars: pl.DataFrame) -> None:
    still = bars.filter(pl.col("symbol") == bars["symbol"][0]).with_columns(
        symbol=pl.lit("STILL"), **dict.fromkeys(("open", "high", "low", "close"), pl.lit(100.0))
    )
    samples = make_samples(make_bars(pl.concat([bars, still]).drop("segment", "known_at")), ("ret_log_1",))["index"]
    fold = Schedule(refit="6M").folds(samples.times, samples.known_at)[-2].on(samples)
    trailing = Naive(rule="ewma").fit_many([fold])[0].predict(samples, fold.test)["volatility"]
    for forecaster in (Garch(minimum=5000), Garch(minimum=300)):
        fitted = forecaster.fit_many([fold])[0]
        of_none = np.array([model is None for model in fitted.models])
        assert of_none.any()
        ours = fitted.predict(samples, fold.test)["volatility"]
        plain = of_none[samples.symbol[samples.ends[fold.test]]]
        np.testing.assert_allclose(ours[plain], trailing[plain], rtol=1e-12)
        assert (ours > 0).all()
    assert of_none.tolist() == [symbol == "STILL" for symbol in samples.symbols]
    stranger = replace(samples, symbols=("A", "B", "C"))
    np.testing.assert_allclose(fitted.predict(stranger, fold.test)["volatility"], trailing, rtol=1e-12)


def test_stored_and_back_is_the_same_bytes_and_a_damaged_one_is_refused(samples: Samples, fold: Fold) -> None:
    fitted = BOTH[1].fit_many([fold])[0]
    for one in (fitted, FittedGarch((None, fitted.models[1]), fitted.symbols)):
        arrays, stored = one.state()
        again = from_state(arrays, {"kind": "garch", **stored}).predict(samples, fold.test)["volatility"]
        assert again.tobytes() == one.predict(samples, fold.test)["volatility"].tobytes()
    arrays, stored = fitted.state()
    with pytest.raises(StoreError, match="garch"):
        from_state({"table": arrays["table"][:1]}, {"kind": "garch", **stored})


def test_the_number_of_cores_changes_nothing(samples: Samples) -> None:
    folds = [one.on(samples) for one in Schedule(refit="6M").folds(samples.times, samples.known_at)][-2:]
    one, two = (Garch(every=1, minimum=300).fit_many(folds, Task(jobs=jobs)) for jobs in (1, 2))
    assert one == two


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="every"):
        Garch(every=0)
