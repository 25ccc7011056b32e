"""Alarms: what changes is found, what does not is left in peace, and nothing that comes later changes an alarm."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.audits.tables import up_to
from gatecast.errors import SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.intervals import Intervals, with_intervals
from gatecast.forecasting.drift import Alarm, Alarms, Drift, position_factor, watch_inputs, watch_losses
from gatecast.forecasting.drift.alarms import INPUTS
from gatecast.forecasting.drift.residuals import ResidualModel, fit_residuals
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import make_bars, synthetic
from gatecast.samples.windows import Samples, make_samples
from gatecast.trials import configuration

FEATURES = ("ret_log_1", "rv_5", "moved")
OFTEN = Drift(false_alarms=30.0, filter_every=3, filter_minimum=200, reference=150, least_sessions=5)
RULES = Schedule(train="1Y", refit="2M")


def market(count: int = 900, seed: int = 1, *, symbols: int = 2, growth: float = 2.0, at: int = 700) -> pl.DataFrame:
    """A walk whose returns are `growth` times as large from row `at` on; a column moves then; some rows are late."""
    bars = synthetic.a1(count, seed=seed, symbols=symbols)
    place = pl.int_range(pl.len()).over("symbol")
    r = pl.col("close").log().diff().over("symbol").fill_null(0.0)
    ratio = (pl.when(place >= at).then((growth - 1) * r).otherwise(0.0).cum_sum().over("symbol")).exp()
    before = ratio.shift(1).over("symbol").fill_null(1.0)
    frame = bars.with_columns(
        open=pl.col("open") * before, high=pl.max_horizontal(pl.col("high"), pl.col("open"), pl.col("close")) * ratio,
        low=pl.col("low") * ratio, close=pl.col("close") * ratio,
    )  # fmt: skip
    frame = frame.with_columns(
        high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close"),
        moved=pl.Series(np.random.default_rng(seed).standard_normal(len(bars))) + 1.5 * (place >= at),
    )  # fmt: skip
    wait = np.where(np.random.default_rng(seed).random(len(bars)) < 1 / 40, 3, 0)
    late = pl.Series([timedelta(days=int(days)) for days in wait], dtype=pl.Duration("us"))
    return make_bars(frame.with_columns(known_at=pl.col("time") + late))


def samples_of(bars: pl.DataFrame) -> Samples:
    return make_samples(bars, FEATURES, lookback=10, horizon=2)["index"]


def forecasts_of(samples: Samples) -> Forecasts:
    """No change, and a variance that forgets nothing: the mean of all so far."""
    made = walk_forward([Naive(rule="zero"), Naive(rule="constant")], samples, RULES)
    both = {**made.values["zero"], "volatility": made.values["constant"]["volatility"]}
    return with_intervals(made.with_model("ensemble", both), Intervals(rate=0.0))


BARS = market()
SAMPLES = samples_of(BARS)
CUTS = np.unique(SAMPLES.times)[np.sort(np.random.default_rng(0).integers(250, len(np.unique(SAMPLES.times)), 5))]
LATER = {"settings": OFTEN.replace(on_inputs="refit"), "schedule": RULES}


def test_what_grows_is_found_and_said() -> None:
    found = watch_inputs(SAMPLES, Drift(filter_minimum=200), RULES)
    change = BARS.filter(symbol="A1_1")["time"][700].replace(tzinfo=None)
    later = [one for one in found.alarms if one.time >= np.datetime64(change)]
    assert "variance" in {one.kind for one in later}
    first = next(one for one in later if one.kind == "variance")
    assert first.symbol in ("A1_0", "A1_1")
    assert first.time - np.datetime64(change) < np.timedelta64(25, "D")
    assert first.statistic > first.threshold
    assert "variance" in first.sentence
    assert f"{first.statistic:.1f}" in first.sentence
    assert [one.time for one in found.alarms] == sorted(one.time for one in found.alarms)


def test_a_feature_that_moves_is_named_and_a_slow_one_is_left_alone() -> None:
    rng = np.random.default_rng(4)
    slow = np.zeros(900)
    for k in range(1, 900):
        slow[k] = 0.99 * slow[k - 1] + rng.standard_normal()
    moved = np.where(np.arange(900) < 700, 0.0, 1.5) + rng.standard_normal(900)
    bars = synthetic.a1(900, seed=4).with_columns(moved=moved, slow=slow)
    samples = make_samples(bars, ("ret_log_1", "moved", "slow"), lookback=10, horizon=2)["index"]
    found = watch_inputs(samples, Drift(), RULES).of_kinds(("psi", "ks"))
    assert {one.kind for one in found} == {"psi", "ks"}
    assert all("'moved'" in one.sentence for one in found)
    sessions = np.searchsorted(bars["time"].dt.replace_time_zone(None).to_numpy(), [one.time for one in found])
    assert sessions.min() > 700
    assert sessions.min() < 745


@pytest.mark.parametrize("settings", [OFTEN, OFTEN.replace(on_inputs="refit"), OFTEN.replace(most_symbols=1)])
def test_later_bars_change_no_alarm_of_the_inputs(settings: Drift) -> None:
    whole = watch_inputs(SAMPLES, settings, RULES)
    assert {one.kind for one in whole.alarms} == set(INPUTS)
    assert bool(whole.refits) == (settings.on_inputs == "refit")
    past: Alarms | None = None
    for cut in CUTS:
        part = samples_of(up_to(BARS, cut))
        alone = watch_inputs(part, settings, RULES)
        assert replace(alone, state={}) == replace(whole.up_to(cut), until=alone.until)
        past = watch_inputs(part, settings, RULES, None if past is None else through_json(past))
        assert past == alone
    assert watch_inputs(SAMPLES, settings, RULES, past) == whole
    assert watch_inputs(SAMPLES, settings, RULES, whole) == whole


def test_a_past_without_an_alarm_stays_when_its_bars_are_corrected() -> None:
    settings = Drift(filter_minimum=200, false_alarms=0.01, most_symbols=1)

    def watched(growth: float, until: np.datetime64 | None = None, past: Alarms | None = None) -> Alarms:
        bars = market(growth=growth, at=500)
        bars = bars if until is None else up_to(bars, until)
        return watch_inputs(make_samples(bars, FEATURES[:1], lookback=10, horizon=2)["index"], settings, RULES, past)

    until = np.unique(SAMPLES.times)[560]
    past = watched(1.0, until)
    assert (past.alarms, past.until) == ((), until)
    assert min(one.time for one in watched(6.0).alarms) <= until
    assert all(one.time > until for one in watched(6.0, past=through_json(past)).alarms)


def test_later_bars_change_no_alarm_of_the_losses() -> None:
    whole = watch_losses(forecasts_of(SAMPLES), OFTEN)
    assert {one.kind for one in whole.alarms} == {"loss", "bets", "calibration"}
    past: Alarms | None = None
    for cut in CUTS:
        part = forecasts_of(samples_of(up_to(BARS, cut)))
        alone = watch_losses(part, OFTEN)
        assert replace(alone, state={}) == replace(whole.up_to(cut), until=alone.until)
        past = watch_losses(part, OFTEN, None if past is None else through_json(past))
        assert past == alone
    assert watch_losses(forecasts_of(SAMPLES), OFTEN, past) == whole


def test_a_symbol_that_begins_later_and_sorts_first_changes_no_alarm_before_it() -> None:
    begin = BARS["time"].unique().sort()[600]
    fresh = market(seed=5, symbols=1).with_columns(symbol=pl.lit("A0")).filter(pl.col("time") >= begin)
    both = samples_of(make_bars(pl.concat([BARS.drop("segment"), fresh.drop("segment")])))
    cut = np.datetime64(begin.replace(tzinfo=None)) - np.timedelta64(1, "D")
    past = watch_inputs(samples_of(up_to(BARS, cut)), OFTEN, RULES)
    whole = watch_inputs(both, OFTEN, RULES)
    assert whole.up_to(cut).alarms == past.alarms
    assert watch_inputs(both, OFTEN, RULES, past) == whole


def test_hourly_bars_are_watched_by_session() -> None:
    hours = pl.Series(np.tile(np.arange(15, 22), 300))
    day = np.busday_offset("2020-01-01", np.repeat(np.arange(300), 7), roll="forward").astype("datetime64[us]")
    time = (pl.Series(day) + pl.Series([timedelta(hours=int(h)) for h in hours])).dt.replace_time_zone("UTC")
    bars = market(2100, seed=3, symbols=1, at=1700).drop("segment").with_columns(time=time, known_at=time)
    samples = make_samples(make_bars(bars), FEATURES, lookback=10, horizon=2)["index"]
    settings = OFTEN.replace(filter_minimum=100, false_alarms=100.0, block=20, reference=100)
    rules = Schedule(train="6M", refit="1M", minimum="3M")
    whole = watch_inputs(samples, settings, rules)
    assert "variance" in {one.kind for one in whole.alarms}
    assert all(str(one.time)[11:13] == "15" for one in whole.of_kinds(("variance", "psi", "ks")))
    moments = np.unique(samples.times)
    for cut in moments[[-400, -397, -3]]:
        part = make_samples(make_bars(up_to(bars, cut)), FEATURES, lookback=10, horizon=2)["index"]
        past = watch_inputs(part, settings, rules)
        assert past.alarms == whole.up_to(cut).alarms
        assert watch_inputs(samples, settings, rules, past) == whole


def test_an_alarm_of_the_inputs_adds_a_refit_and_no_more_often_than_is_set() -> None:
    found = watch_inputs(SAMPLES, OFTEN.replace(on_inputs="refit", least_sessions=30), RULES)
    assert found.refits
    sessions = np.unique(SAMPLES.sessions)
    assert (np.diff(np.searchsorted(sessions, [one.astype("datetime64[D]") for one in found.refits])) >= 30).all()
    raised = {one.time for one in found.alarms}
    assert set(found.refits) <= raised
    usual = [fold.cutoff for fold in RULES.folds(SAMPLES.times, SAMPLES.known_at)]
    folds = RULES.folds(SAMPLES.times, SAMPLES.known_at, alarms=found.refits)
    assert [fold.cutoff for fold in folds] == sorted({*usual, *found.refits})
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    until = found.refits[0] - np.timedelta64(1, "us")
    done = [fold.cutoff for fold in folds if fold.cutoff <= until]
    went_on = RULES.folds(SAMPLES.times, SAMPLES.known_at, done, until, found.refits)
    assert [fold.cutoff for fold in went_on] == [fold.cutoff for fold in folds]


def test_a_refit_is_added_at_the_first_close_after_an_alarm_between_closes() -> None:
    moments = np.unique(SAMPLES.times)
    folds = RULES.folds(SAMPLES.times, SAMPLES.known_at, alarms=[moments[500] - np.timedelta64(1, "h")])
    assert moments[500] in [fold.cutoff for fold in folds]
    late = RULES.folds(SAMPLES.times, SAMPLES.known_at, alarms=[moments[-1] + np.timedelta64(1, "h")])
    assert len(late) == len(folds) - 1


def test_what_is_off_raises_nothing() -> None:
    assert len(watch_inputs(SAMPLES, OFTEN.replace(watch=False), RULES)) == 0
    assert len(watch_losses(forecasts_of(SAMPLES), OFTEN.replace(watch=False))) == 0
    empty = watch_inputs(samples_of(BARS.head(20)), OFTEN, RULES)
    assert empty == Alarms(state=empty.state)


@pytest.mark.parametrize(("consequence", "left"), [("say", 1.0), ("smaller", 0.25), ("flat", 0.0)])
def test_an_alarm_of_the_losses_makes_positions_smaller_for_a_while(consequence: Any, left: float) -> None:
    times = np.arange("2020-01-01T21", "2020-02-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    settings = Drift(on_losses=consequence, smaller=0.25, least_sessions=5)
    alarms = tuple(
        Alarm(times[k], "index", None, kind, 2.0, 1.0, "") for k, kind in ((3, "loss"), (6, "bets"), (20, "variance"))
    )
    shuffled = np.random.default_rng(0).permutation(len(times))
    expected = np.ones(len(times))
    expected[3:11] = left
    assert position_factor(Alarms(alarms), times[shuffled], settings).tolist() == expected[shuffled].tolist()


def test_the_filter_is_archs() -> None:
    """The variances of a fitted GARCH, bar by bar, against `arch`'s own."""
    from arch import arch_model

    draw = np.random.default_rng(3)
    returns, variance = np.zeros(1500), 1.0
    for k in range(1500):
        returns[k] = np.sqrt(variance) * draw.standard_t(5) / np.sqrt(5 / 3)
        variance = 0.02 + 0.08 * returns[k] ** 2 + 0.90 * variance
    model = fit_residuals(returns)
    assert model is not None
    error = returns[1:] - model.slope * returns[:-1]
    theirs = arch_model(error, mean="Constant", p=1, q=1, dist="t", rescale=False)
    fixed = theirs.fix(
        [model.mean, model.omega, model.alpha, model.beta, model.degrees],
    )
    residuals, _, last = model.filtered(returns)
    assert np.allclose(residuals[400:], fixed.std_resid[399:], rtol=1e-6)
    assert last == returns[-1]
    assert 3.5 < model.degrees < 9
    scores = model.scores(residuals[1:])
    assert (scores**2).mean() == pytest.approx(1.0, abs=0.05)
    assert (scores > 1.96).mean() == pytest.approx(0.05, abs=0.02)


def test_what_does_not_move_has_no_filter() -> None:
    assert fit_residuals(np.zeros(600)) is None
    assert fit_residuals(np.r_[np.zeros(600), 1.0]) is None
    assert ResidualModel(*fit_residuals(np.random.default_rng(0).normal(size=300)).to_list()).degrees > 4  # type: ignore[union-attr]


def test_alarms_that_are_only_said_make_no_other_trial() -> None:
    plain = configuration(Experiment())
    for said in ({"false_alarms": 3.0}, {"watch": False, "on_losses": "flat"}):
        assert configuration(Experiment(drift=said)) == plain
    for acting in ({"on_losses": "flat"}, {"on_inputs": "refit"}):
        assert configuration(Experiment(drift=acting)) != plain


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="false_alarms"):
        Drift(false_alarms=0)


def through_json(alarms: Alarms) -> Alarms:
    return Alarms.from_dict(json.loads(json.dumps(alarms.to_dict())))
