"""Adaptive conformal intervals: the tracker by a plain loop, coverage, and nothing from later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import made_up, with_answers
from scipy.stats import norm

from gatecast.errors import SettingsError
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.intervals import (
    TRACK,
    IntervalForecasts,
    Intervals,
    Standing,
    coverage,
    make_intervals,
    with_intervals,
)
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
RATE, LEAST = 0.05, 60


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill={"lstm": 0.3, "forest": 0.3}))


def steady(bars: pl.DataFrame) -> Forecasts:
    """No return, and the exponential average of the variance: a rival that is wrong about tails and crises."""
    samples = make_samples(bars, ("ret_log_1",))["index"]
    made = walk_forward([Naive(rule="zero"), Naive(rule="ewma")], samples, Schedule(minimum="1Y"))
    return made.with_model("ensemble", {**made.values["zero"], **made.values["ewma"]})


def test_the_ends_are_those_of_a_plain_loop(forecasts: Forecasts) -> None:
    """Day by day: every end moves by its rate times (share it should have below it, less the share it had)."""
    samples, heads = forecasts.samples, forecasts.values["ensemble"]
    step = samples.horizon - 1  # the last one: its answers are known when the row's are
    variance = heads["volatility"] * samples.facts.ratio[samples.ends]
    unit = np.sqrt(variance)
    error = (samples.targets["return"].value[samples.ends, step] - heads["return"][:, step]) / unit
    turbulent = (samples.facts.recent > samples.facts.level)[samples.ends]
    chance = np.array([0.025, 0.1, 0.9, 0.975])
    both, own = np.zeros(4), {False: np.zeros(4), True: np.zeros(4)}
    days = np.unique(samples.sessions)
    opening = {day: samples.times[samples.sessions == day].min() for day in days.tolist()}
    todo = [row for row in np.flatnonzero(np.isfinite(error)).tolist() if not np.isnat(samples.known_at[row])]
    in_force: dict[int, FloatArray] = {}
    found = make_intervals(forecasts)
    record = 0
    for day in days.tolist():
        learned = [row for row in todo if samples.known_at[row] <= opening[day]]
        todo = [row for row in todo if samples.known_at[row] > opening[day]]
        if learned:
            record += 1
            move = {regime: np.zeros(4) for regime in own}
            for row in learned:
                below = error[row] < in_force[row]
                move[bool(turbulent[row])] += (chance - below) * RATE / np.sqrt(step + 1) / len(learned)
            both = both + move[False] + move[True]
            own = {regime: own[regime] + move[regime] for regime in own}
        for row in np.flatnonzero(samples.sessions == day).tolist():
            tracked = np.sort(norm.ppf(chance) + both + own[bool(turbulent[row])])
            in_force[row] = tracked
            ends = (tracked if record >= LEAST else norm.ppf(chance)) * unit[row] + heads["return"][row, step]
            mine = np.r_[found.low[row, step, ::-1], found.high[row, step]]
            np.testing.assert_allclose(mine, ends, rtol=1e-9, atol=1e-12)
    assert record > 5 * LEAST
    assert np.abs(both).max() > 0.02


@pytest.mark.parametrize("market", ["g1", "g3"])
def test_intervals_hold_what_they_promise_where_normal_ones_do_not(market: str) -> None:
    forecasts = steady(synthetic.MARKETS[market](4000, 3))
    made = coverage(forecasts, make_intervals(forecasts, Intervals(rate=0.05)))
    fixed = coverage(forecasts, make_intervals(forecasts, Intervals(rate=0.0)))
    step = forecasts.samples.horizon
    off = {}
    for name, table in (("made", made), ("fixed", fixed)):
        whole = table.filter(step=step, scope="overall").sort("level")
        off[name] = (whole["coverage"] - whole["level"]).to_numpy()
    assert np.abs(off["made"]).max() < 0.01
    assert abs(off["made"][1]) < abs(off["fixed"][1]) - 0.005  # the tails are fatter than normal
    years = made.filter(pl.col("days") > 200, scope="year", step=step)
    assert (years["coverage"] - years["level"]).abs().max() < 0.12  # type: ignore[operator]  # 52 answers a year


def test_errors_twice_as_wide_as_forecast_are_learned(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=2))
    heads = forecasts.values["ensemble"]
    timid = forecasts.with_model("ensemble", {**heads, "volatility": heads["volatility"] / 4})
    made, fixed = (make_intervals(timid, Intervals(rate=rate)) for rate in (0.05, 0.0))
    rows = timid.folds[-1].test
    wider = (made.high - made.low)[rows] / (fixed.high - fixed.low)[rows]
    assert wider[:, -1, 0].mean() > 1.5


def test_ends_are_in_order_and_widen_with_the_regime(forecasts: Forecasts) -> None:
    made = make_intervals(forecasts, Intervals(levels=(0.5, 0.8, 0.95)))
    rows = forecasts.rows
    ends = np.concatenate([made.low[:, :, ::-1], made.high], axis=-1)[rows]
    assert (np.diff(ends, axis=-1) >= 0).all()
    variance = forecasts.values["ensemble"]["volatility"][rows]
    width = (made.high - made.low)[rows, -1, 1]
    assert np.corrcoef(np.sqrt(variance), width)[0, 1] > 0.4
    assert np.isnan(np.delete(made.low, rows, axis=0)).all()


def test_what_is_answered_later_changes_nothing(forecasts: Forecasts) -> None:
    samples = forecasts.samples
    moment = forecasts.folds[len(forecasts.folds) // 2].cutoff
    value = samples.targets["return"].value.copy()
    rng = np.random.default_rng(0)
    later = np.zeros(len(samples.time), bool)
    later[samples.ends[samples.times > moment]] = True
    value[later] = rng.normal(0, 9, value[later].shape)
    before = make_intervals(forecasts)
    after = make_intervals(with_answers(forecasts, "return", value))
    early, newer = samples.times <= moment, samples.times > moment + np.timedelta64(90, "D")
    np.testing.assert_array_equal(before.low[early], after.low[early])
    np.testing.assert_array_equal(before.high[early], after.high[early])
    assert np.nanmax(np.abs(before.high[newer] - after.high[newer])) > 1e-3


@pytest.mark.parametrize("refit", [0, 7, -1])
def test_a_longer_record_goes_on_from_the_last_refit_to_the_bit(forecasts: Forecasts, refit: int) -> None:
    samples, whole = forecasts.samples, with_intervals(forecasts)
    done = forecasts.folds[: refit % len(forecasts.folds) + 1]
    learned = with_intervals(replace(forecasts, folds=done)).learned[TRACK]
    old = forecasts.rows[samples.times[forecasts.rows] < done[-1].cutoff + np.timedelta64(20, "D")]
    past = replace(whole.issued(old), cutoffs=tuple(fold.cutoff for fold in done))
    fresh = np.setdiff1d(forecasts.rows, old)
    standing = Standing.of(learned, samples.horizon, 4)
    assert standing is not None

    def made(numbers: FloatArray) -> Forecasts:
        return with_intervals(forecasts, issued=replace(past, learned={TRACK: numbers}))

    nothing_kept = replace(standing, days=standing.days[:0], quantile=standing.quantile[:0]).numbers
    another_day = replace(standing, days=standing.days + 1).numbers
    odd = [nothing_kept, another_day, learned[:-1], np.full_like(learned, np.nan)]  # then the whole record is run
    for same in (made(numbers) for numbers in (learned, *odd)):
        assert np.array_equal(same.learned[TRACK], whole.learned[TRACK])
        for head in ("return_low_80", "return_high_95"):
            ends = same.values["ensemble"][head]
            np.testing.assert_array_equal(ends[fresh], whole.values["ensemble"][head][fresh])
            assert np.isnan(ends[old]).all()
    wide = made(replace(standing, offset=standing.offset + 1, count=standing.count + 99).numbers)
    assert not np.array_equal(
        wide.values["ensemble"]["return_low_80"][fresh], whole.values["ensemble"]["return_low_80"][fresh]
    )


def test_heads_and_back(forecasts: Forecasts) -> None:
    made = with_intervals(forecasts)
    heads = made.values["ensemble"]
    assert {"return_low_80", "return_high_80", "return_low_95", "return_high_95"} <= set(heads)
    again, direct = IntervalForecasts.of_heads(heads), make_intervals(forecasts)
    assert again is not None
    assert again.levels == direct.levels == (0.8, 0.95)
    np.testing.assert_array_equal(again.low, direct.low)
    np.testing.assert_array_equal(again.high, direct.high)
    assert IntervalForecasts.of_heads(forecasts.values["ensemble"]) is None
    normal = make_intervals(forecasts, Intervals(rate=0))
    samples, rows = forecasts.samples, forecasts.rows
    variance = forecasts.values["ensemble"]["volatility"] * samples.facts.ratio[samples.ends]
    np.testing.assert_allclose(normal.deviation[rows], np.sqrt(variance[rows]), rtol=1e-9)
    frame = made.to_frame().filter(model="ensemble", head="return_low_80")
    assert frame["step"].n_unique() == samples.horizon


def test_coverage_counts_answers_inside(forecasts: Forecasts) -> None:
    samples, made = forecasts.samples, make_intervals(forecasts)
    answer = samples.targets["return"].value[samples.ends, -1]
    rows = np.flatnonzero(np.isfinite(answer + made.low[:, -1, 0]))
    inside = (made.low[rows, -1, 0] <= answer[rows]) & (answer[rows] <= made.high[rows, -1, 0])
    table = coverage(forecasts, made).filter(step=samples.horizon, level=0.8)
    whole = table.row(by_predicate=pl.col("scope") == "overall", named=True)
    assert whole["coverage"] == pytest.approx(inside.mean())
    assert whole["forecasts"] == len(rows)
    year = samples.sessions[rows].astype("datetime64[Y]").astype(str)
    for row in table.filter(scope="year").iter_rows(named=True):
        assert row["coverage"] == pytest.approx(inside[year == row["part"]].mean())


def test_a_model_without_what_intervals_need_is_refused(forecasts: Forecasts) -> None:
    with pytest.raises(SettingsError, match="'logistic' has"):
        make_intervals(forecasts, model="logistic")
    with pytest.raises(SettingsError, match="ascending order"):
        Intervals(levels=(0.95, 0.8))
    empty = replace(forecasts, folds=(), values={})
    assert with_intervals(empty) is empty
