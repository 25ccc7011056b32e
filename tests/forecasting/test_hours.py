"""The hour of the session: where a bar stands in it, what that does to variance, and rivals that know it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from gatecast.errors import StoreError
from gatecast.evaluation.knowing import knowing
from gatecast.forecasting.forecaster import Forecaster, from_state, state_of
from gatecast.forecasting.models.har import HARLevels, LinearVariance, LogHAR, SmoothHAR
from gatecast.forecasting.models.hours import ByHour, FittedByHour, HourEffects, hour_effects
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market import nulls, synthetic
from gatecast.market.bars import make_bars
from gatecast.market.calendar import session_minutes
from gatecast.samples.windows import Samples, make_samples

VARIANCE: tuple[Forecaster, ...] = (
    *(Naive(rule=rule) for rule in ("ewma", "ewma_range", "constant")),
    LogHAR(), HARLevels(), LogHAR(falls=True), LinearVariance(),
    LinearVariance(pooled=True), SmoothHAR(),
)  # fmt: skip
REGIME: tuple[Forecaster, ...] = (
    PANEL["threshold"].forecaster.of,
    PANEL["har_regime"].forecaster.of,
    PANEL["har_regime_falls"].forecaster.of,
)


def bars_at(closes: list[datetime], asset_class: str = "equity") -> pl.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    return make_bars(pl.DataFrame({"symbol": "A", "asset_class": asset_class, "time": closes, **prices}))


def last_fold(samples: Samples) -> Fold:
    return Schedule(refit="2M", minimum="4M").folds(samples.times, samples.known_at)[-1].on(samples)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return make_samples(nulls.hourly(1), ("ret_log_1", "hour"))["index"]


# ── the place in the session ──────────────────────────────────────────────────────────────────────


def test_summer_time_and_half_days_move_no_bar_to_another_place() -> None:
    bars = nulls.hourly(3, bars=2100)
    assert bars["time"].dt.hour().n_unique() == 8  # seven hours, and one more for summer time
    assert (session_minutes(bars) == 60 * bars["hour"]).all()


def test_a_session_that_passes_midnight_is_one_and_a_missing_bar_moves_no_other() -> None:
    first = datetime(2024, 3, 4, 22, tzinfo=UTC)
    closes = [first + timedelta(days=day, hours=hour) for day in range(4) for hour in range(6) if (day, hour) != (2, 3)]
    expected = [60.0 * hour for day in range(4) for hour in range(6) if (day, hour) != (2, 3)]
    assert session_minutes(bars_at(closes)).to_list() == expected


def test_a_market_without_a_first_bar_has_the_clock_of_its_class() -> None:
    closes = [datetime(2024, 3, 7, tzinfo=UTC) + timedelta(hours=hour) for hour in range(120)]
    assert session_minutes(bars_at(closes, "crypto"))[:3].to_list() == [0.0, 60.0, 120.0]
    york = [time.astimezone(ZoneInfo("America/New_York")).hour * 60.0 for time in closes]
    assert session_minutes(bars_at(closes, "fx")).to_list() == york  # over the change to summer time on 10 March


def test_daily_bars_have_no_place_and_their_forecasts_do_not_change_by_a_bit() -> None:
    daily = make_samples(synthetic.a2(900, seed=2, symbols=2), ("ret_log_1",))["index"]
    assert not daily.facts.minutes.any()
    fold = last_fold(daily)
    for one in (*VARIANCE, *REGIME):
        (plain,), (known) = one.fit_many([fold]), ByHour(of=one).fit_many([fold])
        assert type(known[0]) is type(plain)
        for head, values in plain.predict(daily, fold.test).items():
            np.testing.assert_array_equal(known[0].predict(daily, fold.test)[head], values)


# ── the effect ────────────────────────────────────────────────────────────────────────────────────


def test_an_effect_is_the_mean_shrunk_by_the_moments_of_dersimonian_and_laird() -> None:
    rng = np.random.default_rng(1)
    place = rng.permutation(np.repeat([0, 1, 2], [400, 300, 50]))
    values = rng.standard_normal(750) + np.array([0.3, 0.0, -0.4])[place]
    found = hour_effects(values[:, None], np.zeros(750, np.int64), place, 1)[0, :, 0]
    means = np.array([values[place == one].mean() for one in range(3)])
    count = np.bincount(place).astype(float)
    noise = sum(((values[place == one] - means[one]) ** 2).sum() for one in range(3)) / 747
    off = means - values.mean()
    between = ((count * off**2).sum() - 2 * noise) / (750 - (count**2).sum() / 750)
    np.testing.assert_allclose(found, off * between / (between + noise / count), rtol=1e-12)


def test_places_that_differ_by_luck_alone_have_next_to_no_effect() -> None:
    size = []
    for seed in range(40):
        values = np.random.default_rng(seed).standard_normal((700, 1))
        size.append(np.abs(hour_effects(values, np.zeros(700, np.int64), np.arange(700) % 7, 1)).max())
    assert np.mean(np.array(size) == 0) > 0.4
    assert np.mean(size) < 0.06  # a mean of 100 values has a standard error of .1


def test_a_symbol_has_a_shape_of_its_own_as_far_as_its_record_bears_it_out(samples: Samples) -> None:
    hours = np.array(nulls.U_SHAPE)
    effects = HourEffects.learned(last_fold(samples))
    assert effects.minutes.tolist() == [60.0 * hour for hour in range(7)]
    np.testing.assert_allclose(effects.table[:, :, 0], np.tile(np.log(hours) - np.log(hours).mean(), (2, 1)), atol=0.1)


# ── rivals that know it ───────────────────────────────────────────────────────────────────────────


def qlike(samples: Samples, rows: np.ndarray, forecast: np.ndarray) -> float:
    ratio = samples.targets["volatility"].value[samples.decided[rows]] - np.log(forecast)
    return float(np.nanmean(np.exp(ratio) - ratio - 1))


@pytest.mark.parametrize("horizon", [1, 5])
def test_on_a_planted_u_a_rival_with_hours_comes_near_the_truth(horizon: int) -> None:
    market = make_samples(nulls.hourly(2, bars=4200), ("ret_log_1",), horizon=horizon)["index"]
    fold = Schedule(refit="4M", minimum="1Y").folds(market.times, market.known_at)[-2].on(market)
    rows = fold.test
    hour = market.facts.minutes / 60
    ahead = np.array([sum(nulls.U_SHAPE[(one + step) % 7] for step in range(1, horizon + 1)) for one in range(7)])
    true = ahead[hour[market.ends[rows]].astype(int)]
    answer = np.exp(market.targets["volatility"].value[market.decided[rows]])
    best = qlike(market, rows, true * np.nanmean(answer / true))  # the level is given to the truth
    for one in (Naive(rule="constant"), LogHAR(), HARLevels(), LogHAR(falls=True), SmoothHAR()):
        (plain,), (known,) = one.fit_many([fold]), ByHour(of=one).fit_many([fold])
        assert qlike(market, rows, known.predict(market, rows)["volatility"]) < 1.06 * best
        assert qlike(market, rows, plain.predict(market, rows)["volatility"]) > 1.2 * best


def test_the_regime_rivals_know_how_likely_turbulence_is_at_each_hour(samples: Samples) -> None:
    fold = last_fold(samples)
    answer = samples.targets["regime"].value[samples.decided[fold.test]]
    for one in REGIME:
        (plain,), (known,) = one.fit_many([fold]), ByHour(of=one).fit_many([fold])
        brier = [np.nanmean((answer - made.predict(samples, fold.test)["regime"]) ** 2) for made in (plain, known)]
        assert brier[1] < 0.9 * brier[0]


def test_a_row_is_forecast_by_itself_as_among_others_and_a_stored_model_forecasts_the_same(samples: Samples) -> None:
    fold = last_fold(samples)
    for one in (*VARIANCE, *REGIME):
        (fitted,) = ByHour(of=one).fit_many([fold])
        assert isinstance(fitted, FittedByHour)
        again = from_state(*state_of(ByHour(of=one), fitted))
        for head, values in fitted.predict(samples, fold.test).items():
            alone = [fitted.predict(samples, fold.test[i : i + 1])[head][0] for i in (0, 5, 40)]
            assert alone == values[[0, 5, 40]].tolist()
            np.testing.assert_array_equal(again.predict(samples, fold.test)[head], values)
    arrays, settings = state_of(ByHour(of=one), fitted)
    with pytest.raises(StoreError, match="lacks or mangles"):
        from_state({name: array for name, array in arrays.items() if name != "table"}, settings)
    with pytest.raises(StoreError, match="lacks or mangles"):
        from_state(arrays, settings | {"symbols": ["A"]})


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_a_column_with_the_hour_is_no_leak_and_one_with_the_coming_variance_is(horizon: int) -> None:
    bars = nulls.hourly(1)
    assert knowing(bars, ("hour",), horizon) == []
    range_ = (pl.col("high") / pl.col("low")).log().log()
    leaking = bars.with_columns(seen=range_.shift(-1).over("symbol").fill_null(strategy="forward"))
    (found,) = knowing(leaking, ("seen",), horizon)
    assert (found.columns, found.of) == (("seen",), "variance")


# ── the law of the past ───────────────────────────────────────────────────────────────────────────

later = pl.col("time") > pl.col("cut")


def first_bars_go_missing(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(~later | (pl.col("hour") > 0))


def sessions_end_early(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(~later | (pl.col("hour") < 3))


def rows_come_late(bars: pl.DataFrame) -> pl.DataFrame:
    wait = pl.when(later & (pl.int_range(pl.len()) % 9 == 0)).then(timedelta(hours=30)).otherwise(timedelta())
    return bars.with_columns(known_at=pl.col("known_at") + wait)


def another_clock(bars: pl.DataFrame) -> pl.DataFrame:
    move = pl.when(later).then(timedelta(minutes=-30)).otherwise(timedelta())
    return bars.with_columns(pl.col("time", "known_at") + move)


def another_is_listed(bars: pl.DataFrame) -> pl.DataFrame:
    other = bars.filter(later & (pl.col("symbol") == "A1_0")).with_columns(symbol=pl.lit("A_FIRST"))
    return pl.concat([bars, other])


@pytest.mark.parametrize(
    "change", [first_bars_go_missing, sessions_end_early, rows_come_late, another_clock, another_is_listed]
)
def test_no_forecast_before_a_moment_depends_on_bars_after_it(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    bars = nulls.hourly(5, bars=1750).with_columns(row=pl.int_range(pl.len()))
    odd = (pl.col("row") % 97 == 0) | ((pl.col("hour") == 0) & (pl.col("row") % 13 == 0))  # sessions that begin late
    wait = pl.when(pl.col("row") % 61 == 0).then(timedelta(hours=26)).otherwise(timedelta())
    bars = bars.filter(~odd).with_columns(known_at=pl.col("known_at") + wait).drop("row", "segment")
    cut = bars["time"].unique().sort()[1300]
    changed = make_bars(change(bars.with_columns(cut=pl.lit(cut))).drop("cut"))
    whole, part = (
        make_samples(one, ("ret_log_1",), lookback=10)["index"]
        for one in (changed, changed.filter(pl.col("known_at") <= cut))
    )
    moment = np.datetime64(cut.replace(tzinfo=None), "us")
    schedule = Schedule(refit="1M", minimum="4M")
    made = []
    for market in (whole, part):
        folds = [fold.on(market) for fold in schedule.folds(market.times, market.known_at) if fold.cutoff <= moment]
        fits = {one.name: ByHour(of=one).fit_many(folds) for one in (*VARIANCE, *REGIME)}
        said = {}
        for name, several in fits.items():
            for fold, fitted in zip(folds, several, strict=True):
                rows = fold.test[market.times[fold.test] <= moment]
                (values,) = fitted.predict(market, rows).values()
                symbols = np.array(market.symbols)[market.symbol[market.ends[rows]]].tolist()
                keys = zip([name] * len(rows), symbols, market.times[rows].tolist(), strict=True)
                said |= dict(zip(keys, values.tolist(), strict=True))
        made.append(said)
    assert len(made[1]) > 12 * 400
    assert {key: made[0][key] for key in made[1]} == made[1]
