"""Known answers, statsmodels, SciPy and arch as oracles, and the size of the tests on simulated nulls."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from gatecast.metrics.many import model_confidence_set, step_m
from gatecast.metrics.overfitting import (
    deflated_sharpe,
    effective_trials,
    expected_max_sharpe,
    min_track_record_length,
    pbo,
    probabilistic_sharpe,
)
from gatecast.metrics.significance import (
    Test,
    block_bootstrap_interval,
    block_length,
    clark_west,
    diebold_mariano,
    fixed_b_critical,
    fixed_b_mean,
    fixed_b_pvalue,
    hac_alpha,
    hac_mean,
    holm,
    mincer_zarnowitz,
    pesaran_timmermann,
    sequential_mean,
    spa,
)

NAN = float("nan")

# errors of two forecasts of R's WWWusage[81:100], from the documentation of forecast::dm.test
ETS = """
.002241270 -.000661906 -1.200002613 -4.000218178 3.799373533 3.401005111 -1.199692125 -.800490048 -1.200048999
3.399847229 7.000708948 2.200989241 -4.800165569 -1.201043375 3.400167556 3.000709085 .400267950 -6.800169207
-2.401259050 1.200112198"""
ARIMA = """
.1209998 8.0622269 -.9189429 -1.7952436 5.3431277 2.0459823 -.6073261 .5516816 -.7633238 4.1229472 5.8785333
1.2828331 -3.4854233 1.1971370 3.1709314 2.3408457 .4962286 -5.9841362 .1537114 .4207951"""


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), float)


def moving_sum(rng: np.random.Generator, n: int, horizon: int) -> np.ndarray:
    return np.convolve(rng.standard_normal(n + horizon - 1), np.ones(horizon), "valid")


# ── Diebold-Mariano ──────────────────────────────────────────────────────────────────────────────


def test_diebold_mariano_by_hand() -> None:
    test = diebold_mariano([0, 1, 2, 3, 4, 5], [0, 2, 3, 3, 5, 6])
    assert test.statistic == pytest.approx(-2.4905, abs=5e-5)
    assert test.pvalue == pytest.approx(0.05513, abs=5e-6)
    assert test.effect == pytest.approx(-28 / 6)
    assert not test.enough


@pytest.mark.parametrize(("horizon", "statistic", "pvalue"), [(1, -0.143918, 0.887081), (10, -0.081126, 0.936190)])
def test_diebold_mariano_of_the_published_case(horizon: int, statistic: float, pvalue: float) -> None:
    test = diebold_mariano(numbers(ETS), numbers(ARIMA), horizon)
    assert test.statistic == pytest.approx(statistic, abs=1e-6)
    assert test.pvalue == pytest.approx(pvalue, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "horizon", "factor"), [(20, 1, 0.974679), (20, 10, 0.524404), (100, 5, 0.954987), (250, 20, 0.921998)]
)
def test_small_sample_correction(n: int, horizon: int, factor: float) -> None:
    rng = np.random.default_rng(1)
    while True:
        a, b = moving_sum(rng, n, horizon), moving_sum(rng, n, horizon)
        d = a**2 - b**2
        c = d - d.mean()
        variance = (c @ c + 2 * sum(c[k:] @ c[:-k] for k in range(1, horizon))) / n
        if variance > 0:
            break
    plain = d.mean() / np.sqrt(variance / n)
    assert diebold_mariano(a, b, horizon).statistic / plain == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize(("loss", "criterion"), [("squared", "mse"), ("absolute", "mad")])
def test_diebold_mariano_equals_statsmodels(loss, criterion) -> None:
    from statsmodels.tsa.stattools import diebold_mariano_test

    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(80), 1.2 * rng.standard_normal(80)
    theirs = diebold_mariano_test(np.zeros(80), -a, -b, lags=0, criterion=criterion, harvey_adj=True)
    ours = diebold_mariano(a, b, loss=loss)
    assert ours.statistic == pytest.approx(float(theirs.statistic), abs=1e-9)
    assert ours.pvalue == pytest.approx(float(theirs.pvalue), abs=1e-9)


def test_a_positive_statistic_says_that_a_is_worse() -> None:
    rng = np.random.default_rng(3)
    assert diebold_mariano(2 * rng.standard_normal(200), rng.standard_normal(200)).statistic > 3


def test_identity_takes_losses() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 90))
    assert diebold_mariano(a**2, b**2, loss="identity") == diebold_mariano(a, b)
    with pytest.raises(ValueError, match="loss"):
        diebold_mariano(a, b, loss="cubed")  # type: ignore[arg-type]


def test_non_overlapping_t_is_students() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(5)
    a, b = moving_sum(rng, 300, 5), moving_sum(rng, 300, 5)
    apart = diebold_mariano(a, b, 5).non_overlapping
    theirs = ttest_1samp((a**2 - b**2)[::5], 0)
    assert apart is not None
    assert (apart.statistic, apart.pvalue, apart.n) == pytest.approx((theirs.statistic, theirs.pvalue, 60))


def test_a_variance_that_is_not_positive_is_said() -> None:
    a = np.tile([1.0, 0.0], 30) + 0.001 * np.random.default_rng(6).standard_normal(60)  # γ1 = -γ0
    test = diebold_mariano(a, np.zeros(60), 2, loss="identity")
    assert test.non_overlapping is not None
    assert "every h-th" in test.reason
    assert test.statistic == test.non_overlapping.statistic


def test_enough_says_when_there_are_too_few_rows_for_a_verdict() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((2, 75))
    assert diebold_mariano(a, b, 5).enough
    assert not diebold_mariano(a[:74], b[:74], 5).enough


# ── Clark-West ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("horizon", [1, 5])
def test_clark_west_is_the_hac_t_of_its_adjusted_gain(horizon: int) -> None:
    import statsmodels.api as sm
    from scipy.stats import norm

    rng = np.random.default_rng(8)
    actual, benchmark = moving_sum(rng, 200, horizon), np.full(200, 0.05)
    model = 0.1 * actual + 0.5 * rng.standard_normal(200)
    gain = 2 * (actual - benchmark) * (model - benchmark)
    fit = sm.OLS(gain, np.ones(200)).fit(cov_type="HAC", cov_kwds={"maxlags": horizon - 1, "use_correction": False})
    test = clark_west(actual, benchmark, model, horizon)
    assert test.statistic == pytest.approx(fit.tvalues[0], abs=1e-9)
    assert test.pvalue == pytest.approx(norm.sf(fit.tvalues[0]), abs=1e-9)
    assert (test.effect, test.standard_error) == pytest.approx((gain.mean(), fit.bse[0]))


def test_clark_west_finds_a_signal_that_a_model_wastes() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal(4000)
    actual = 0.1 * x + rng.standard_normal(4000)
    model = 0.5 * x  # five times too bold: worse than zero
    assert np.mean((actual - model) ** 2) > np.mean(actual**2)
    assert clark_west(actual, np.zeros(4000), model).pvalue < 0.001


def test_clark_west_keeps_its_size_where_a_coefficient_is_fitted_to_nothing() -> None:
    claims = 0
    for seed in range(400):
        x, actual = np.random.default_rng([10, seed]).standard_normal((2, 300))
        slope = np.cumsum(x * actual) / np.cumsum(x * x)
        model = np.concatenate([[0.0], slope[:-1]]) * x
        claims += clark_west(actual[100:], np.zeros(200), model[100:]).pvalue < 0.05
    assert 0.005 < claims / 400 < 0.07


# ── Pesaran-Timmermann ───────────────────────────────────────────────────────────────────────────


def table(up_up: int, up_down: int, down_up: int, down_down: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers and forecasts with these counts, the forecast first."""
    counts = [up_up, up_down, down_up, down_down]
    return np.repeat([1.0, -1, 1, -1], counts), np.repeat([1.0, 1, -1, -1], counts)


@pytest.mark.parametrize(
    ("counts", "statistic", "pvalue"),
    [((30, 20, 20, 30), 2.000000, 0.022750), ((60, 40, 50, 50), 1.421338, 0.077609)],
)
def test_pesaran_timmermann_known_answers(counts, statistic: float, pvalue: float) -> None:
    test = pesaran_timmermann(*table(*counts))
    assert test.statistic == pytest.approx(statistic, abs=1e-6)
    assert test.pvalue == pytest.approx(pvalue, abs=1e-6)


def test_pesaran_timmermann_squared_is_pearsons_chi2() -> None:
    from scipy.stats import chi2_contingency

    counts = (51, 34, 40, 61)
    chi2 = chi2_contingency(np.reshape(counts, (2, 2)), correction=False).statistic
    assert pesaran_timmermann(*table(*counts)).statistic ** 2 == pytest.approx(chi2, abs=1e-9)
    wrong = pesaran_timmermann(*table(34, 51, 61, 40))
    assert wrong.statistic < 0
    assert wrong.pvalue > 0.5


def test_zero_counts_as_down() -> None:
    actual, forecast = table(30, 20, 20, 30)
    assert pesaran_timmermann(np.maximum(actual, 0), np.maximum(forecast, 0)) == pesaran_timmermann(actual, forecast)


def test_pesaran_timmermann_over_horizons_is_a_hac_t() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(11)
    actual, forecast = moving_sum(rng, 400, 5), moving_sum(rng, 400, 5)
    fit = sm.OLS((actual > 0) * 1.0, sm.add_constant((forecast > 0) * 1.0)).fit(
        cov_type="HAC", cov_kwds={"maxlags": 17, "use_correction": False}
    )
    test = pesaran_timmermann(actual, forecast, 5)
    assert test.statistic == pytest.approx(fit.tvalues[1], abs=1e-9)
    up, bull = (actual > 0).mean(), (forecast > 0).mean()
    chance = up * bull + (1 - up) * (1 - bull)
    assert test.effect == pytest.approx(((actual > 0) == (forecast > 0)).mean() - chance)


# ── regressions and means ────────────────────────────────────────────────────────────────────────


def test_mincer_zarnowitz_known_answer() -> None:
    f, error = np.arange(1, 11), np.array([0.3, -0.2, 0.1, -0.4, 0.5, -0.1, 0.2, -0.3, 0.4, -0.5])
    test = mincer_zarnowitz(f + error, f)
    assert test.intercept == pytest.approx(0.126667, abs=1e-6)
    assert test.slope == pytest.approx(0.976970, abs=1e-6)
    assert test.statistic == pytest.approx(0.165710, abs=1e-6)
    assert test.pvalue == pytest.approx(0.850127, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_mincer_zarnowitz_over_horizons_is_walds(scale: float) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(12)
    f = np.exp(0.5 * rng.standard_normal(300))
    y = 0.2 + 0.9 * f + 0.3 * moving_sum(rng, 300, 5)
    fit = sm.OLS(y, sm.add_constant(f)).fit(cov_type="HAC", cov_kwds={"maxlags": 4, "use_correction": False})
    theirs = fit.wald_test((np.eye(2), np.array([0.0, 1.0])), use_f=False, scalar=True)
    test = mincer_zarnowitz(scale * y, scale * f, 5)
    assert test.statistic == pytest.approx(float(theirs.statistic), rel=1e-6)
    assert test.pvalue == pytest.approx(float(theirs.pvalue), abs=1e-9)
    assert (test.intercept / scale, test.slope) == pytest.approx(tuple(fit.params))


@pytest.mark.parametrize("lag", [0, 7])
def test_hac_mean_and_alpha_equal_statsmodels(lag: int) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(13)
    x = rng.standard_normal(250)
    y = 0.1 + 0.5 * x + moving_sum(rng, 250, 3)
    options = {"cov_type": "HAC", "cov_kwds": {"maxlags": lag, "use_correction": False}}
    mean, line = sm.OLS(y, np.ones(250)).fit(**options), sm.OLS(y, sm.add_constant(x)).fit(**options)
    ours = hac_mean(y, lag)
    assert (ours.effect, ours.standard_error) == pytest.approx((mean.params[0], mean.bse[0]))
    assert (ours.statistic, ours.pvalue) == pytest.approx((mean.tvalues[0], mean.pvalues[0]))
    alpha = hac_alpha(y, x, lag)
    assert (alpha.statistic, alpha.pvalue) == pytest.approx((line.tvalues[0], line.pvalues[0]))
    assert (alpha.intercept, alpha.slope) == pytest.approx(tuple(line.params))


def test_interval_of_a_mean_widens_with_dependence() -> None:
    rng = np.random.default_rng(14)
    noise = rng.standard_normal(600)
    interval = block_bootstrap_interval(noise, block=1, draws=3000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / np.sqrt(600), rel=0.1)
    sums = moving_sum(rng, 600, 10)
    wide = block_bootstrap_interval(sums, block=40, draws=500)
    assert wide.high - wide.low > 2 * (2 * 1.96 * sums.std() / np.sqrt(600))
    assert block_bootstrap_interval(noise) == block_bootstrap_interval(noise)
    assert block_bootstrap_interval(noise, seed=1) != block_bootstrap_interval(noise)


def test_interval_of_any_statistic_keeps_rows_together() -> None:
    x = np.random.default_rng(15).standard_normal(300)
    interval = block_bootstrap_interval(
        np.column_stack([x, 2 * x]), lambda rows: float(np.corrcoef(rows.T)[0, 1]), draws=100
    )
    assert (interval.low, interval.high) == pytest.approx((1, 1))


# ── many models ──────────────────────────────────────────────────────────────────────────────────


def losses(seed: int, models: int = 10, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([16, seed])
    return rng.chisquare(1, n), rng.chisquare(1, (n, models))


@pytest.mark.parametrize("seed", [0, 4])
def test_spa_agrees_with_arch_where_all_gains_vary_alike(seed: int) -> None:
    from arch.bootstrap import SPA

    rng = np.random.default_rng([16, seed])
    gain = rng.standard_normal((1000, 10))
    gain = (gain - gain.mean(axis=0)) / gain.std(axis=0) + rng.normal(0, 1000**-0.5, 10)
    gain[:, 0] += 0.05
    theirs = SPA(np.zeros(1000), -gain, block_size=2, reps=2000, bootstrap="stationary", seed=1)
    theirs.compute()
    assert spa(np.zeros(1000), -gain, block=2).pvalue == pytest.approx(float(theirs.pvalues["consistent"]), abs=0.05)


@pytest.mark.parametrize("span", [3, 10, 20])
def test_block_length_agrees_with_arch(span: int) -> None:
    from arch.bootstrap import optimal_block_length

    sums = moving_sum(np.random.default_rng(18), 1000, span)
    theirs = float(optimal_block_length(sums)["stationary"].iloc[0])
    assert block_length(sums) == pytest.approx(theirs, rel=0.1)
    noise = np.random.default_rng(19).standard_normal(1000)
    assert block_length(noise) < 5
    assert block_length(np.column_stack([noise, sums])) == block_length(sums)


def test_spa_sees_one_good_model_among_ten_noisy_ones() -> None:
    rng = np.random.default_rng(17)
    benchmark = rng.standard_normal(500) ** 2
    models = benchmark[:, None] + 4 * rng.standard_normal((500, 11))
    models[:, 0] = benchmark - 0.05 + 0.2 * rng.standard_normal(500)
    test = spa(benchmark, models)
    assert test.pvalue < 0.005
    assert test.effect == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("null", ["equal", "noisy", "worse", "overlapping"])
def test_spa_keeps_its_size(null: str) -> None:
    claims = 0
    for seed in range(200):
        benchmark, models = losses(seed, models=6, n=200)
        if null == "noisy":
            models = benchmark[:, None] + (models - 1) * [0.1, 0.3, 1, 1, 3, 10]
        if null == "worse":
            models[:, 2:] += 0.5
        if null == "overlapping":
            rng = np.random.default_rng([20, seed])
            models = benchmark[:, None] + np.column_stack([moving_sum(rng, 200, 5) for _ in range(6)])
        claims += spa(benchmark, models, draws=300, seed=seed).pvalue < 0.05
    assert claims / 200 <= 0.08


def test_spa_of_worse_models_only() -> None:
    benchmark, models = losses(1)
    assert spa(benchmark, models + 2).pvalue == 1
    assert spa(benchmark, models[:, 0]).n == 300
    with pytest.raises(ValueError, match="shape"):
        spa(benchmark[:-1], models)


def test_holm_equals_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    raw = [0.01, 0.2, 0.03, 0.009, 0.9, 0.03]
    np.testing.assert_allclose(holm(raw), multipletests(raw, method="holm")[1])
    np.testing.assert_allclose(holm([0.02, NAN, 0.01]), [0.04, NAN, 0.03])


# ── what is undefined says so ────────────────────────────────────────────────────────────────────

FLAT, WAVE = np.full(50, 0.3), np.sin(np.arange(50.0))
ZIGZAG = np.arange(50) % 2.0


@pytest.mark.parametrize(
    "test",
    [
        diebold_mariano([], []),
        diebold_mariano(WAVE, WAVE),
        diebold_mariano(FLAT, FLAT + 1),
        diebold_mariano(WAVE[:5], FLAT[:5], 5),
        diebold_mariano([np.inf, *WAVE], [1, *WAVE]),
        clark_west(WAVE, FLAT, FLAT),
        clark_west(WAVE, FLAT * 0.1, FLAT * 0.1 + 1e-18),
        clark_west([1.0, NAN], [0, 0], [1, 1]),
        clark_west([np.inf, *WAVE], [0, *FLAT], [0, *WAVE]),
        pesaran_timmermann(WAVE, FLAT),
        pesaran_timmermann(FLAT, WAVE, 5),
        pesaran_timmermann(WAVE, np.full(50, NAN)),
        pesaran_timmermann(WAVE, WAVE, 5),
        pesaran_timmermann(WAVE, np.where(WAVE > 0, -1, 1), 5),
        mincer_zarnowitz(WAVE, FLAT),
        mincer_zarnowitz(WAVE, WAVE),
        mincer_zarnowitz(FLAT, WAVE),
        mincer_zarnowitz(2 * WAVE, WAVE, 5),
        mincer_zarnowitz([1, 2], [1, 2]),
        mincer_zarnowitz(np.where(WAVE > 0, ZIGZAG, 1), WAVE > 0, 2),  # without error wherever the forecast is 0
        hac_mean(FLAT, 3),
        hac_mean([NAN], 0),
        hac_alpha(WAVE, FLAT, 0),
        hac_alpha(2 * WAVE, WAVE, 2),
        spa(WAVE, WAVE),
        spa(WAVE, WAVE[:, None] + [-1, 0, 1e-17]),
        spa(WAVE, np.zeros((50, 0))),
        spa([], []),
        spa([np.inf, *WAVE], [0, *WAVE]),
    ],
)
def test_undefined_is_nan_with_a_reason(test: Test) -> None:
    assert np.isnan(test.statistic)
    assert np.isnan(test.pvalue)
    assert test.reason
    assert not test.enough


def test_undefined_interval() -> None:
    assert block_bootstrap_interval([]).reason
    assert block_bootstrap_interval([np.inf, *WAVE]).reason
    assert block_bootstrap_interval([1.0, NAN]).reason
    assert block_bootstrap_interval(WAVE, lambda rows: NAN, draws=10).reason


def test_arguments_that_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="one length"):
        clark_west([1, 2], [1, 2], [1])
    with pytest.raises(ValueError, match="horizon"):
        diebold_mariano([1, 2], [1, 2], 0)
    with pytest.raises(ValueError, match="whole number"):
        clark_west([1, 2], [1, 2], [1, 2], 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws"):
        spa(WAVE, -WAVE, draws=0)
    with pytest.raises(ValueError, match="lag"):
        hac_mean([1, 2], -1)
    with pytest.raises(ValueError, match="confidence"):
        block_bootstrap_interval(WAVE, confidence=95)
    with pytest.raises(ValueError, match="block"):
        block_bootstrap_interval(WAVE, block=0.5)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("horizon", [1, 5])
def test_statistics_have_no_unit(scale: float, horizon: int) -> None:
    rng = np.random.default_rng(21)
    forecast = rng.standard_normal(200)
    actual = forecast + moving_sum(rng, 200, horizon)
    for test in (diebold_mariano, clark_west, pesaran_timmermann, mincer_zarnowitz, hac_alpha):
        series = (actual, 0 * actual, forecast) if test is clark_west else (actual, forecast)
        one, scaled = test(*series, horizon), test(*(scale * side for side in series), horizon)
        assert (scaled.statistic, scaled.pvalue) == pytest.approx((one.statistic, one.pvalue), rel=1e-6)


def test_forecasts_that_hardly_vary_beside_their_level_are_tested_all_the_same() -> None:
    """An inverted matrix of squares has lost all digits at a level of 1e8; slope and bias have not."""
    rng = np.random.default_rng(22)
    x, noise = rng.standard_normal((2, 200))
    near, far = mincer_zarnowitz(x + noise, x, 3), mincer_zarnowitz(1e8 + x + noise, 1e8 + x, 3)
    assert (far.statistic, far.slope) == pytest.approx((near.statistic, near.slope), rel=1e-6)
    tiny = mincer_zarnowitz(x + noise, 1e-20 * x)
    assert tiny.pvalue < 1e-20
    assert tiny.slope == pytest.approx(1e20 * mincer_zarnowitz(x + noise, x).slope)
    alpha = hac_alpha(1e8 + x + noise, 1e8 + x, 3)
    assert alpha.slope == pytest.approx(near.slope, rel=1e-6)


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────

NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.0, 1.0, 1.0, -1.0, NAN, np.inf, -np.inf]),
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1, 1).map(lambda x: 1e-12 * x),
    st.floats(-1, 1).map(lambda x: 1e12 * x),
)
SHAPES = st.sampled_from([(0, 1), (1, 2), (2, 2), (5, 3), (17, 3), (40, 2), (70, 3)])


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """(times, columns) of a few numbers again and again, of noise in any unit, or of both; columns often repeat."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    drawn = np.array(draw(st.lists(NUMBERS, min_size=1, max_size=6)), float)
    table = rng.choice(drawn, shape)
    if draw(st.booleans()):
        table = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.1])), table, rng.standard_normal(shape))
        with np.errstate(over="ignore"):
            table = table * 10.0 ** draw(st.integers(-200, 100))
    return table[:, rng.integers(0, shape[1], 3)] if draw(st.booleans()) else np.resize(table, (shape[0], 3))


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([1, 2, 5]))
def test_no_statistic_raises_or_gives_a_number_that_it_says_is_none(table: np.ndarray, horizon: int) -> None:
    a, b, c = table.T
    for test in (
        diebold_mariano(a, b, horizon),
        diebold_mariano(a, b, horizon, "absolute"),
        clark_west(a, b, c, horizon),
        clark_west(a, np.zeros(len(a)), c, horizon),
        pesaran_timmermann(a, b, horizon),
        mincer_zarnowitz(a, b, horizon),
        mincer_zarnowitz(a, a, horizon),
        hac_mean(a, horizon),
        hac_alpha(a, b, horizon),
        spa(a, table[:, 1:], draws=20),
    ):
        stands_in = "every h-th row" in test.reason
        assert np.isfinite(test.statistic) == np.isfinite(test.pvalue) == (not test.reason or stands_in), test
        assert np.isnan(test.pvalue) or 0 <= test.pvalue <= 1
    watched = sequential_mean(a, horizon)
    assert np.isnan(watched.pvalue) == bool(watched.reason)
    assert np.isfinite(watched.evidence).all()
    assert watched.evidence.shape == (np.sum(~np.isnan(a)),)
    interval = block_bootstrap_interval(a, draws=5)
    assert np.isfinite(interval.low) == np.isfinite(interval.high) == (not interval.reason)
    best = model_confidence_set(table, draws=20)
    assert np.isfinite(best.pvalues).all() == (not best.reason)
    assert not (step := step_m(a, table[:, 1:], draws=20)).reason or not step.models
    for number in (pbo(table, 4), pbo(table, 4, "mean"), effective_trials(table)):
        assert np.isfinite(number) != hasattr(number, "reason")


@settings(max_examples=300, deadline=None)
@given(*[NUMBERS] * 6)
def test_no_ratio_raises_or_gives_a_number_that_it_says_is_none(
    sharpe: float, n: float, skew: float, kurtosis: float, trials: float, variance: float
) -> None:
    for number in (
        expected_max_sharpe(trials, variance),
        probabilistic_sharpe(sharpe, n, skew, kurtosis, variance),  # type: ignore[arg-type]
        deflated_sharpe(sharpe, n, skew, kurtosis, trials, variance),  # type: ignore[arg-type]
        min_track_record_length(sharpe, variance, skew, kurtosis),
        min_track_record_length(sharpe, variance, skew, kurtosis, trials),
    ):
        assert np.isfinite(number) != hasattr(number, "reason")


# ── fixed-b ───────────────────────────────────────────────────────────────────────────────────────

PUBLISHED = {  # Kiefer and Vogelsang (2005), table I, Bartlett kernel: quantile, then the coefficients of b, b², b³
    0.100: (1.2816, 1.3040, 0.5135, -0.3386),
    0.050: (1.6449, 2.1859, 0.3142, -0.3427),
    0.025: (1.9600, 2.9694, 0.4160, -0.5324),
    0.010: (2.3263, 4.1618, 0.5368, -0.9060),
}


@pytest.mark.parametrize("level", PUBLISHED)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1, 0.3, 1.0])
def test_fixed_b_critical_values_are_the_published_ones(level: float, share: float) -> None:
    """The two that the polynomials go through to the digit; those between and beside them nearly."""
    z, *coefficients = PUBLISHED[level]
    published = z + sum(one * share ** (power + 1) for power, one in enumerate(coefficients))
    rel = 1e-9 if level in (0.05, 0.01) else 0.02 if share <= 0.1 else 0.06
    assert fixed_b_critical(z, share) == pytest.approx(published, rel=rel)
    assert fixed_b_pvalue(published, share) == pytest.approx(level, rel=0.15)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_fixed_b_pvalues_invert_and_fall_with_the_statistic(share: float) -> None:
    statistics = np.linspace(-30, 30, 301)
    pvalues = np.array([fixed_b_pvalue(one, share) for one in statistics])
    assert (np.diff(pvalues) <= 0).all()
    np.testing.assert_allclose(pvalues + pvalues[::-1], 1.0)
    for z in (0.3, 1.0, 2.0, 3.5, 6.0):
        assert fixed_b_pvalue(fixed_b_critical(z, share), share) == pytest.approx(norm.sf(z), rel=1e-9)
    if share == 0:
        np.testing.assert_allclose(pvalues, norm.sf(statistics), rtol=1e-9)


def test_fixed_b_refuses_what_cannot_be_meant() -> None:
    for share in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="from 0 to 1"):
            fixed_b_critical(1.6449, share)
    with pytest.raises(ValueError, match="overlap must be a whole number"):
        fixed_b_mean(np.arange(50.0), 0)
    assert np.isnan(fixed_b_pvalue(np.nan, 0.1))
    nothing = fixed_b_mean(np.ones(50))
    assert nothing.reason == "the values are constant"
    assert np.isnan([nothing.pvalue, nothing.low, nothing.high]).all()


@pytest.mark.parametrize(("n", "overlap", "width"), [(4500, 5, 50), (1000, 20, 100), (4500, 1, 10), (60, 5, 10)])
def test_a_fixed_b_mean_is_statsmodels_error_and_the_published_bound(n: int, overlap: int, width: int) -> None:
    values = np.convolve(np.random.default_rng(n).standard_normal(n + overlap - 1), np.ones(overlap), "valid") + 0.1
    found, share = fixed_b_mean(values, overlap), width / n
    fit = sm.OLS(values, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": width - 1, "use_correction": False})
    bound = 1.6449 + 2.1859 * share + 0.3142 * share**2 - 0.3427 * share**3
    assert found.statistic == pytest.approx(fit.tvalues[0])
    assert found.effect - found.low == pytest.approx(bound * fit.bse[0], rel=1e-4)
    assert found.high - found.effect == pytest.approx(bound * fit.bse[0], rel=1e-4)
    assert (found.pvalue < 0.05) == (found.low > 0)
