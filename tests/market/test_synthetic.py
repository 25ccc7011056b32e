"""The planted markets: their moments, their optima as an oracle reaches them, and no leak."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import SettingsError
from gatecast.market.bars import COLUMNS, opens_are_real
from gatecast.market.synthetic import MARKETS, STATE_DEVIATION, STATE_MEAN, STAY, truth_of
from gatecast.metrics.forecast import hit_rate, qlike, r2_zero

LONG = 100_000


def standardised(bars: pl.DataFrame, scale: float = 0.01) -> np.ndarray:
    """r_0, r_1, ...: the log return of every bar over the previous close, in units of scale."""
    return np.diff(np.log([100.0, *bars["close"]])) / scale


def path(name: str, n: int = LONG, **parameters: float) -> tuple[pl.DataFrame, np.ndarray]:
    bars = MARKETS[name](n, 7, **parameters)
    return bars, standardised(bars)


# ── the frame ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MARKETS)
def test_every_market_is_a_bars_frame_of_business_days(name: str) -> None:
    bars = MARKETS[name](300, 1)
    assert tuple(bars.columns[: len(COLUMNS)]) == COLUMNS
    assert bars["symbol"].unique().to_list() == [name.upper()]
    assert bars["asset_class"].unique().to_list() == ["index"]
    local = bars["time"].dt.convert_time_zone("America/New_York")
    assert set(local.dt.hour()) == {16}
    assert local.dt.date().diff().drop_nulls().dt.total_days().is_in([1, 3]).all()
    assert bars["segment"].max() == 0
    assert bars.null_count().sum_horizontal().item() == 0
    assert (bars["known_at"] == bars["time"]).all()


@pytest.mark.parametrize("name", MARKETS)
def test_the_seed_decides_and_a_longer_market_begins_with_the_shorter(name: str) -> None:
    market = MARKETS[name]
    assert_frame_equal(market(120, 5), market(120, 5), check_exact=True)
    assert_frame_equal(market(400, 5).head(120), market(120, 5), check_exact=True)
    assert not np.array_equal(market(120, 5)["close"], market(120, 6)["close"])


def test_a_further_symbol_changes_no_other() -> None:
    two, three = (MARKETS["b1"](200, 3, symbols=k) for k in (2, 3))
    assert three["symbol"].unique().sort().to_list() == ["B1_0", "B1_1", "B1_2"]
    assert_frame_equal(three.filter(pl.col("symbol") != "B1_2"), two, check_exact=True)
    x, y = (two.filter(pl.col("symbol") == s)["x"].to_numpy() for s in ("B1_0", "B1_1"))
    assert abs(np.corrcoef(x - 0.95 * np.roll(x, 1), y - 0.95 * np.roll(y, 1))[0, 1]) < 0.25


def test_scale_is_the_unit_of_the_log_return() -> None:
    small, large = MARKETS["g1"](200, 3, scale=0.001), MARKETS["g1"](200, 3, scale=0.02)
    np.testing.assert_allclose(standardised(small, 0.001), standardised(large, 0.02), atol=1e-9)
    np.testing.assert_allclose(small["h_true"] * 400, large["h_true"])


@pytest.mark.parametrize("parameters", [{"n": 0}, {"scale": 0.0}, {"symbols": 0}, {"r2": 1.0}, {"phi": 1.0}])
def test_settings_out_of_range_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(parameters))):
        MARKETS["b1"](**{"n": 10, "seed": 0, **parameters})


# ── within the bar ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a1", "b1", "g1", "g3", "d2"])
def test_opens_are_real_and_ranges_are_as_wide_as_the_variance(name: str) -> None:
    bars, r = path(name, 40_000)
    assert all(opens_are_real(bars).values())
    log = {column: np.log(bars[column].to_numpy()) / 0.01 for column in ("open", "high", "low", "close")}
    gap = log["open"][1:] - log["close"][:-1]
    day = log["close"] - log["open"]
    span = log["high"] - log["low"]
    total = np.mean(r**2)
    assert np.mean(gap**2) == pytest.approx(0.1 * total, rel=0.1)
    assert np.mean(day**2) == pytest.approx(0.9 * total, rel=0.1)
    parkinson = np.mean(span**2) / (4 * np.log(2))
    garman_klass = np.mean(0.5 * span**2 - (2 * np.log(2) - 1) * day**2)
    assert parkinson == pytest.approx(0.9 * total, rel=0.05)
    assert garman_klass == pytest.approx(0.9 * total, rel=0.05)


def test_the_gap_says_no_more_than_its_share() -> None:
    _, r = path("a1", 40_000)
    bars = MARKETS["a1"](40_000, 7)
    gap = np.log(bars["open"].to_numpy()[1:] / bars["close"].to_numpy()[:-1]) / 0.01
    assert np.corrcoef(gap, r[1:])[0, 1] == pytest.approx(math.sqrt(0.1), abs=0.02)
    assert abs(np.corrcoef(gap, r[1:] - gap)[0, 1]) < 0.02
    width = np.log(bars["high"] / bars["low"]).to_numpy()
    assert abs(np.corrcoef(width[:-1], r[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(width[:-1], np.abs(r[1:]))[0, 1]) < 0.02


def test_volume_is_the_exponential_of_a_standard_normal() -> None:
    v = np.log(path("a1", 40_000)[0]["volume"].to_numpy())
    assert (v.mean(), v.std()) == pytest.approx((0, 1), abs=0.02)


# ── nothing to find ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a1", "a2", "a3", "a4", "b1", "g1", "g3", "g4"])
def test_standardised_returns_have_variance_one(name: str) -> None:
    _, r = path(name)
    assert r.std() == pytest.approx(1, abs=0.05)
    assert r.mean() == pytest.approx(0.05 if name == "a3" else 0, abs=0.02)


@pytest.mark.parametrize("name", ["a1", "a2", "a3", "g1", "g3", "g4"])
def test_returns_are_no_guide_to_returns(name: str) -> None:
    _, r = path(name)
    for lag in (1, 2, 5):
        assert abs(np.corrcoef(r[lag:], r[:-lag])[0, 1]) < 0.03


def test_noise_features_persist_and_predict_nothing() -> None:
    bars, r = path("a4", 20_000)
    noise = bars.select(pl.col("^noise_.*$")).to_numpy()
    assert noise.shape[1] == 30
    shocks = noise[1:] - 0.995 * noise[:-1]
    assert shocks.std() == pytest.approx(math.sqrt(1 - 0.995**2), rel=0.02)
    assert noise.std() == pytest.approx(1, abs=0.1)
    correlation = np.corrcoef(shocks[:-1].T, r[2:])[-1, :-1]
    assert np.abs(correlation).max() < 0.03


def test_drift_walk() -> None:
    truth = truth_of("a3")
    _, r = path("a3", 400_000)
    assert r2_zero(r, np.full(r.size, 0.05)) == pytest.approx(truth["r2"], abs=0.0006)
    assert hit_rate(r, np.ones(r.size)) == pytest.approx(truth["hit_rate"], abs=0.003)


# ── something to find ────────────────────────────────────────────────────────────────────────────


def test_b1_truth_is_the_published_one() -> None:
    by_horizon = truth_of("b1", r2=0.01, phi=0.95)["r2_by_horizon"]
    assert by_horizon[1] == pytest.approx(0.01)  # type: ignore[index]
    assert by_horizon[5] == pytest.approx(0.03951, abs=5e-6)  # type: ignore[index]
    assert by_horizon[20] == pytest.approx(0.07244, abs=5e-6)  # type: ignore[index]


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_b1_oracle_reaches_its_optimum(horizon: int) -> None:
    truth = truth_of("b1", r2=0.05)
    bars, r = path("b1", 300_000, r2=0.05)
    x = bars["x"].to_numpy()
    total = np.convolve(r, np.ones(horizon), "valid")  # of rows t..t+h-1
    forecast = math.sqrt(0.05) * (1 - 0.95**horizon) / 0.05 * x
    actual, forecast = total[1:], forecast[: total.size - 1]  # x_t against r_{t+1} + ... + r_{t+h}
    assert r2_zero(actual, forecast) == pytest.approx(truth["r2_by_horizon"][horizon], rel=0.1)  # type: ignore[index]
    assert hit_rate(actual, forecast) == pytest.approx(
        truth["hit_rate_by_horizon"][horizon],  # type: ignore[index]
        abs=0.006,
    )


def test_b1_signal_persists_and_knows_only_its_next_bars() -> None:
    bars, r = path("b1", r2=0.05)
    x = bars["x"].to_numpy()
    assert np.corrcoef(x[1:], x[:-1])[0, 1] == pytest.approx(0.95, abs=0.01)
    shock = r[1:] - math.sqrt(0.05) * x[:-1]  # of bar t+1
    for lead in range(4):
        assert abs(np.corrcoef(x[: x.size - 1 - lead], shock[lead:])[0, 1]) < 0.012


def test_b2_oracle_reaches_its_optimum_and_nothing_linear_does() -> None:
    truth = truth_of("b2", b=0.3)
    bars, r = path("b2", b=0.3)
    z = bars["z"].to_numpy()
    forecast = 0.3 * np.sign(z[4:-1] * z[:-5])
    assert truth["r2"] == pytest.approx(0.08257, abs=5e-6)
    assert truth["hit_rate"] == pytest.approx(0.6179, abs=5e-5)
    assert r2_zero(r[5:], forecast) == pytest.approx(truth["r2"], abs=0.006)
    assert hit_rate(r[5:], forecast) == pytest.approx(truth["hit_rate"], abs=0.006)
    lags = np.column_stack([z[5 - k : z.size - k] for k in range(1, 6)])
    fitted = lags @ np.linalg.lstsq(lags, r[5:], rcond=None)[0]
    assert r2_zero(r[5:], fitted) == pytest.approx(0, abs=0.0005)


@pytest.mark.parametrize(("c", "optimum"), [(0.5, 0.0058), (1.0, 0.023)])
def test_b3_holds_as_often_and_explains_as_much_as_it_should(c: float, optimum: float) -> None:
    truth = truth_of("b3", c=c)
    bars, r = path("b3", 300_000, c=c)
    state = bars["state"].to_numpy()
    assert 0.0235 < state.mean() < 0.0262
    assert state.mean() == pytest.approx(truth["state_share"], rel=0.05)
    assert truth["r2"] == pytest.approx(optimum, rel=0.06)
    assert r2_zero(r[1:], c * state[:-1]) == pytest.approx(truth["r2"], rel=0.15)
    assert hit_rate(r[1:], np.where(state[:-1] == 1, 1, -1)) == pytest.approx(truth["hit_rate"], abs=0.004)


def test_b3_state_follows_the_pattern_in_the_bars() -> None:
    bars, r = path("b3", 20_000, c=0.5)
    v, state = np.log(bars["volume"].to_numpy()), bars["state"].to_numpy()
    complete = [t >= 4 and (r[t - 4 : t - 1] < 0).all() and v[t - 1] > 1 and 0 < r[t] < 0.7 for t in range(20_000)]
    expected = [any(complete[max(t - 4, 0) : t + 1]) for t in range(20_000)]
    np.testing.assert_array_equal(state, expected)


# ── regimes and variances ────────────────────────────────────────────────────────────────────────


def test_d1_changes_at_its_bar() -> None:
    bars, r = path("d1", 40_000, change=20_000, variance=4.0, mean=0.1)
    assert (r[:20_000].mean(), r[:20_000].std()) == pytest.approx((0, 1), abs=0.03)
    assert (r[20_000:].mean(), r[20_000:].std()) == pytest.approx((0.1, 2), abs=0.06)
    assert np.flatnonzero(bars["state"].to_numpy())[0] == 20_000


def test_d2_filter_reaches_the_honest_accuracy() -> None:
    truth = truth_of("d2")
    bars, r = path("d2")
    state = bars["state"].to_numpy()
    likelihood = np.exp(-0.5 * ((r[:, None] - STATE_MEAN) / STATE_DEVIATION) ** 2) / STATE_DEVIATION
    move = np.array([[STAY[0], 1 - STAY[0]], [1 - STAY[1], STAY[1]]])
    predicted, filtered, now = np.empty((LONG, 2)), np.empty((LONG, 2)), np.array([0.75, 0.25])
    for t in range(LONG):
        predicted[t] = now
        filtered[t] = now * likelihood[t] / (now @ likelihood[t])
        now = filtered[t] @ move
    accuracy, loss = truth["accuracy"], truth["log_loss"]
    assert np.mean(state == 0) == pytest.approx(accuracy["base"], abs=0.015)  # type: ignore[index]
    for kind, belief in (("predicted", predicted), ("filtered", filtered)):
        right = np.mean(belief.argmax(1) == state)
        assert right == pytest.approx(accuracy[kind], abs=0.004)  # type: ignore[index]
    assert -np.mean(np.log(predicted[np.arange(LONG), state.astype(int)])) == pytest.approx(
        loss["predicted"],  # type: ignore[index]
        abs=0.01,
    )


@pytest.mark.parametrize("name", ["a2", "g1", "g3", "g4"])
def test_true_variance_reaches_the_floor_and_simple_rivals_do_not(name: str) -> None:
    truth = truth_of(name)
    scores = []
    for seed in range(4):
        bars = MARKETS[name](LONG, seed)
        squared = (0.01 * standardised(bars)) ** 2
        known = bars["h_true"].to_numpy()
        ewma = np.empty(LONG)
        ewma[0] = 1e-4
        for t in range(1, LONG):
            ewma[t] = 0.94 * ewma[t - 1] + 0.06 * squared[t]
        answer, rows = squared[1:], slice(0, -1)
        constant = np.full(LONG - 1, answer.mean())
        scores.append([qlike(answer, known[rows]), qlike(answer, constant), qlike(answer, ewma[rows])])
    oracle, constant_score, ewma_score = np.mean(scores, axis=0)
    assert oracle == pytest.approx(truth["qlike"], abs=0.008)
    if name != "a2":
        assert constant_score == pytest.approx(truth["qlike_constant"], abs=0.02)
        assert ewma_score == pytest.approx(truth["qlike_ewma"], abs=0.012)


def test_h_true_is_the_recipe_one_bar_ahead() -> None:
    bars, r = path("g4", 2000)
    h = bars["h_true"].to_numpy() / 1e-4
    expected = 0.02 + np.where(r[1:] < 0, 0.14, 0.02) * r[1:] ** 2 + 0.90 * h[:-1]
    np.testing.assert_allclose(h[1:], expected, rtol=1e-9)


# ── the truth ────────────────────────────────────────────────────────────────────────────────────


def test_truth_is_known_for_every_market_and_refuses_what_it_does_not_know() -> None:
    assert all(truth_of(name) for name in MARKETS)
    with pytest.raises(SettingsError, match="Did you mean 'b1'"):
        truth_of("b11")
    with pytest.raises(SettingsError, match="r2"):
        truth_of("b1", r_2=0.01)
