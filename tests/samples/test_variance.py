"""What is known about variance: each input against a formula, and the class's mean joined by what was known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.errors import SettingsError
from gatecast.forecasting.models.har import LinearVariance
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.samples.targets import make_targets
from gatecast.samples.variance import CONCENTRATION, SMOOTHED, VARIANCE_INPUTS, class_mean
from gatecast.samples.windows import make_samples


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(300, seed=4, r2=0.05, symbols=2)


def column(facts_variance: np.ndarray, name: str) -> np.ndarray:
    return facts_variance[:, VARIANCE_INPUTS.index(name)]


def test_each_input_is_what_it_says(bars: pl.DataFrame) -> None:
    _, facts = make_targets(bars, 5, "garman_klass")
    one = bars.filter(pl.col("symbol") == bars["symbol"][0])
    o, h, low, c, v = (one[name].to_numpy() for name in ("open", "high", "low", "close", "volume"))
    t, table = 200, facts.variance
    gk = 0.5 * np.log(h / low) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2
    r = np.r_[np.nan, np.diff(np.log(c))]
    sigma = facts.sigma[: len(one)]
    last = slice(t - 4, t + 1)
    assert column(table, "har_5")[t] == pytest.approx(np.log(gk[last].mean()))
    assert column(table, "har_66")[t] == pytest.approx(np.log(gk[t - 65 : t + 1].mean() / gk[t - 21 : t + 1].mean()))
    assert column(table, "fall")[t] == pytest.approx(max(-r[t], 0) / sigma[t])
    assert column(table, "fall_5")[t] == pytest.approx((np.maximum(-r[last], 0) / sigma[last]).mean())
    gap = np.abs(np.log(o[t] / c[t - 1])) / sigma[t]
    assert column(table, "gap")[t] == pytest.approx(min(gap, 6))
    parkinson = np.log(h / low) ** 2 / (4 * np.log(2))
    assert column(table, "range_5")[t] == pytest.approx(np.log(parkinson[last].mean() / gk[last].mean()))
    assert column(table, "close_22")[t] == pytest.approx(
        np.log((r[t - 21 : t + 1] ** 2).mean() / gk[t - 21 : t + 1].mean())
    )
    assert column(table, "volume")[t] == pytest.approx(np.log(v[t] / v[t - 21 : t + 1].mean()))
    both = table.reshape(2, len(one), -1)[:, t]
    excess = both[:, VARIANCE_INPUTS.index("har_1")] - both[:, VARIANCE_INPUTS.index("har_22")]
    assert column(table, "class_1")[t] == pytest.approx(excess.mean())


def test_each_smoothed_variance_is_what_it_says(bars: pl.DataFrame) -> None:
    _, facts = make_targets(bars, 5, "garman_klass")
    one = bars.filter(pl.col("symbol") == bars["symbol"][0])
    o, h, low, c = (one[name].to_numpy() for name in ("open", "high", "low", "close"))
    t, n = 200, len(one)
    found = dict(zip(SMOOTHED, facts.smoothed[t], strict=True))
    gk = 0.5 * np.log(h / low) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2
    r = np.r_[0.0, np.diff(np.log(c))]
    falls = np.minimum(r, 0) ** 2 / facts.ratio[t]
    for age in (1, 5, 25, 125):
        weight = (age / (1 + age)) ** np.arange(t, -1, -1)
        assert found[f"smooth_{age}"] == pytest.approx(np.average(gk[: t + 1], weights=weight), rel=1e-3)  # floors
        if age != 125:
            assert found[f"fall_{age}"] == pytest.approx(np.average(falls[: t + 1], weights=weight), rel=1e-9)
    assert found["mean"] == pytest.approx(gk[: t + 1].mean(), rel=1e-3)
    har = facts.variance.reshape(2, n, -1)[:, t, :3]
    assert found["class_5"] == pytest.approx(np.exp(har[0, 2] + (har[:, 1] - har[:, 2]).mean()))
    assert (np.isfinite(facts.smoothed) == np.isfinite(facts.variance[:, :1])).all()
    assert np.nanmin(facts.smoothed) >= 0


def test_smoothed_variances_know_nothing_of_later_bars_and_start_afresh_after_a_gap(bars: pl.DataFrame) -> None:
    one = bars.filter(pl.col("symbol") == bars["symbol"][0])
    _, whole = make_targets(one, 5, "garman_klass")
    _, part = make_targets(one.head(200), 5, "garman_klass")
    np.testing.assert_array_equal(part.smoothed, whole.smoothed[:200])
    late = pl.int_range(pl.len()) >= 200
    gap = one.with_columns(segment=pl.when(late).then(1).otherwise(0).cast(pl.Int32))
    _, after = make_targets(gap, 5, "garman_klass")
    _, alone = make_targets(one.tail(100), 5, "garman_klass")
    for name in ("smooth_5", "fall_25"):
        number = SMOOTHED.index(name)
        unit = (after.ratio[260] / alone.ratio[60]) if name == "fall_25" else 1.0
        assert after.smoothed[260, number] * unit == pytest.approx(alone.smoothed[60, number], rel=1e-3)
    assert np.isnan(after.smoothed[200:221]).all()
    assert after.smoothed[260, SMOOTHED.index("mean")] == pytest.approx(
        whole.smoothed[260, SMOOTHED.index("mean")], rel=1e-3
    )


def test_a_market_without_volume_or_range_has_inputs_all_the_same(bars: pl.DataFrame) -> None:
    flat = bars.with_columns(
        volume=pl.lit(None, pl.Float64), high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )
    close_only = flat.with_columns(open="close", high="close", low="close")
    for market, proxy in ((flat, "garman_klass"), (close_only, "close_to_close")):
        _, facts = make_targets(market, 5, proxy)
        usable = np.isfinite(facts.har).all(1) & np.isfinite(facts.sigma)
        assert np.isfinite(facts.variance[usable]).all()
        assert np.isfinite(facts.smoothed[usable]).all()
        assert (column(facts.variance, "volume")[usable] == 0).all()


def test_the_class_is_joined_by_what_was_known_never_by_date() -> None:
    """Tokyo closes before New York: at its close it knows New York's bar of the day before."""
    day = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 10), "1d", eager=True, time_zone="UTC")
    tokyo = pl.DataFrame({"symbol": "N225", "time": day + timedelta(hours=6)})
    york = pl.DataFrame({"symbol": "SPX", "time": day + timedelta(hours=21)})
    frame = pl.concat([tokyo, york]).with_columns(known_at="time")
    value = np.r_[np.arange(10.0), 100 + np.arange(10.0)]
    mean = class_mean(frame, value)
    assert mean[0] == 0.0  # nobody else yet
    assert mean[5] == (5 + 104) / 2
    assert mean[15] == (5 + 105) / 2
    late = frame.with_columns(
        known_at=pl.when(pl.col("symbol") == "SPX").then(pl.col("time") + timedelta(days=1)).otherwise("time")
    )
    assert class_mean(late, value)[5] == (5 + 103) / 2
    gone = np.where(np.arange(20) > 11, np.nan, value)  # New York ends on the second day
    assert class_mean(frame, gone)[3] == (3 + 101) / 2
    assert class_mean(frame, gone)[9] == 9


@pytest.fixture(scope="module")
def with_implied() -> pl.DataFrame:
    """Bars with an implied volatility that is the root of the next five bars' variance, with noise; some unknown."""
    market = synthetic.g1(1500, seed=5)
    draw = np.random.default_rng(3)
    step = pl.col("close").log().diff().pow(2)
    ahead = step.rolling_mean(5).shift(-5).fill_null(strategy="forward")
    vix = (ahead.sqrt() * pl.Series(np.exp(draw.normal(0, 0.2, len(market))))).alias("vix")
    return market.with_columns(vix).with_columns(
        pl.when(pl.int_range(pl.len()).is_between(100, 110)).then(None).otherwise("vix").alias("vix")
    )


def test_an_implied_volatility_is_measured_by_its_own_past(with_implied: pl.DataFrame) -> None:
    _, facts = make_targets(with_implied, 5, implied="vix")
    _, plain = make_targets(with_implied, 5)
    width, t = len(CONCENTRATION), 400
    np.testing.assert_array_equal(facts.concentration[:, :width], plain.concentration)
    vix = with_implied["vix"].to_numpy()
    for place, bars in enumerate((5, 22, 250)):
        assert facts.concentration[t, width + place] == pytest.approx(np.log(vix[t] / vix[t - bars + 1 : t + 1].mean()))
    assert (facts.concentration[101:110, width:] == 0).all()  # not known
    _, part = make_targets(with_implied.head(300), 5, implied="vix")
    np.testing.assert_array_equal(part.concentration, facts.concentration[:300])


def test_the_regression_with_concentration_reads_an_implied_volatility(with_implied: pl.DataFrame) -> None:
    model = LinearVariance(pooled=True, concentration=True)
    found = {}
    for implied in (None, "vix"):
        (samples,) = make_samples(with_implied, ("ret_log_1",), horizon=5, implied=implied).values()
        fold = Schedule(minimum="1Y").folds(samples.times, samples.known_at)[-12].on(samples)
        fitted = model.fit_record(fold)
        kept = type(fitted).from_state(*fitted.state())
        forecast = kept.predict(samples, fold.test)["volatility"]
        answer = samples.targets["volatility"].value[samples.ends[fold.test]]
        found[implied] = np.nanmean((np.log(forecast) - answer) ** 2)
    assert found["vix"] < 0.8 * found[None]


def test_an_implied_volatility_must_be_a_column_of_numbers(with_implied: pl.DataFrame) -> None:
    with pytest.raises(SettingsError, match=r"volatility.implied = 'vox' is no further column of the bars.*'vix'\?"):
        make_targets(with_implied, 5, implied="vox")
