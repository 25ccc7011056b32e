"""The extended linear forecasts of variance, and the LSTM that corrects them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import ref

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from gatecast.forecasting.models import residual_lstm
from gatecast.forecasting.models.har import FittedLinearVariance, LinearVariance
from gatecast.forecasting.models.residual_lstm import FittedResidualLSTM, ResidualLSTM
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market import synthetic
from gatecast.market.sources import read_bars
from gatecast.samples.variance import VARIANCE_INPUTS
from gatecast.samples.windows import Samples, make_samples

QUICK = {"units": 16, "epochs": 2, "seeds": 2}


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    samples = make_samples(synthetic.g1(1500, seed=3, symbols=2), ("ret_log_1",), horizon=5)["index"]
    return [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)]


def answers(fold: Fold) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    samples = fold.data
    ends = samples.ends[fold.record]
    return samples.facts.variance[ends], samples.targets["volatility"].value[ends], ends


def test_pooled_without_a_ridge_is_weighted_least_squares(folds: list[Fold]) -> None:
    fold = folds[-1]
    inputs, answer, ends = answers(fold)
    age = (fold.cutoff - fold.data.time[ends]) / np.timedelta64(1, "D") / 365.25
    weight = 0.5 ** (age / 2)
    fitted = LinearVariance(pooled=True, penalty=0.0, half_lives=(2.0,)).fit_record(fold)
    line = sm.WLS(answer, sm.add_constant(inputs), weights=weight).fit()
    residual = line.resid[fold.data.symbol[ends] == 1]
    level = 0.5 * np.average(residual**2, weights=weight[fold.data.symbol[ends] == 1])
    rows = fold.test[fold.data.symbol[fold.data.ends[fold.test]] == 1]
    expected = line.predict(sm.add_constant(fold.data.facts.variance[fold.data.ends[rows]])) + level
    np.testing.assert_allclose(np.log(fitted.predict(fold.data, rows)["volatility"]), expected, rtol=1e-5)


def test_a_symbol_by_itself_is_near_its_own_regression_and_a_short_one_takes_the_class(folds: list[Fold]) -> None:
    fold = folds[-1]
    inputs, answer, ends = answers(fold)
    mine = fold.data.symbol[ends] == 0
    weight = 0.5 ** ((fold.cutoff - fold.data.time[ends][mine]) / np.timedelta64(1, "D") / 365.25 / 2)
    line = sm.WLS(answer[mine], sm.add_constant(inputs[mine]), weights=weight).fit()
    rows = fold.test[fold.data.symbol[fold.data.ends[fold.test]] == 0]
    ends_now = fold.data.ends[rows]
    median = LinearVariance(penalty=0.0, half_lives=(2.0,)).fit_record(fold).at(fold.data, ends_now, corrected=False)
    np.testing.assert_allclose(
        np.log(median), line.predict(sm.add_constant(fold.data.facts.variance[ends_now])), atol=2e-3
    )
    short = LinearVariance(minimum=10_000).fit_record(fold)
    assert (short.table == short.pooled).all()


def test_memories_are_averaged_in_logs(folds: list[Fold]) -> None:
    fold = folds[-1]

    def logs(**settings: Any) -> Any:
        return np.log(
            LinearVariance(pooled=True, **settings).fit_record(fold).predict(fold.data, fold.test)["volatility"]
        )

    short, long = logs(half_lives=(2.0,)), logs(half_lives=(None,))
    np.testing.assert_allclose(logs(), (short + long) / 2, rtol=1e-12)
    inputs, answer, _ = answers(fold)
    line = sm.OLS(answer, sm.add_constant(inputs)).fit()
    seen = sm.add_constant(fold.data.facts.variance[fold.data.ends[fold.test]])
    forgetless = logs(half_lives=(None,), penalty=0.0, minimum=10**6)
    np.testing.assert_allclose(forgetless, line.predict(seen) + 0.5 * np.mean(line.resid**2), rtol=1e-5)


def test_variance_is_positive_and_beats_the_constant(folds: list[Fold]) -> None:
    ratio = []
    for fold in folds[2:]:
        known = fold.test[np.isfinite(fold.data.targets["volatility"].value[fold.data.ends[fold.test]])]
        forecast = LinearVariance().fit_record(fold).predict(fold.data, known)["volatility"]
        assert (forecast > 0).all()
        x = np.exp(fold.data.targets["volatility"].value[fold.data.ends[known]])
        constant = np.exp(fold.data.targets["volatility"].value[fold.data.ends[fold.record]]).mean()
        ratio.append(np.mean(x / forecast - np.log(x / forecast)) - np.mean(x / constant - np.log(x / constant)))
    assert np.mean(ratio) < 0


def test_a_network_that_has_learned_nothing_leaves_the_linear_forecast(folds: list[Fold]) -> None:
    fold = folds[-1]
    (fitted,) = ResidualLSTM(**{**QUICK, "epochs": 1, "learning_rate": 1e-9}).fit_many([fold])
    linear = np.sqrt(
        LinearVariance().fit_record(fold).predict(fold.data, fold.test)["volatility"]
        * LinearVariance(pooled=True).fit_record(fold).predict(fold.data, fold.test)["volatility"]
    )
    np.testing.assert_allclose(fitted.predict(fold.data, fold.test)["volatility"], linear, rtol=1e-4)


def test_networks_are_trained_now_and_then_and_the_linear_part_always(folds: list[Fold]) -> None:
    some = folds[:5]
    fits = ResidualLSTM(**QUICK, every=2).fit_many(some)
    assert fits[0].network is fits[1].network is not fits[2].network
    assert fits[2].network is fits[3].network
    assert len({fit.linear[0].table.tobytes() for fit in fits}) == 5


def test_nothing_after_the_cutoff_is_learned_from(folds: list[Fold]) -> None:
    fold = folds[-1]
    samples = fold.data
    later = samples.time > fold.cutoff
    target = samples.targets["volatility"]
    unknown = later | (target.known_at > fold.cutoff) | np.isnat(target.known_at)
    answer = np.where(unknown, 3.0, target.value)
    garbage: Samples = replace(
        samples,
        targets={**samples.targets, "volatility": replace(target, value=answer)},
        facts=replace(
            samples.facts,
            variance=np.where(later[:, None], 9.0, samples.facts.variance),
            concentration=np.where(later[:, None], 9.0, samples.facts.concentration),
        ),
    )
    ours, theirs = (ResidualLSTM(**QUICK).fit_many([one])[0] for one in (fold, fold.on(garbage)))
    for (a, _), (b, _) in zip((ours.state(),), (theirs.state(),), strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)


def other_answers(fold: Fold, rows: np.ndarray, change: float) -> Fold:
    """The fold with answers of some rows moved by so much log variance."""
    samples = fold.data
    target = samples.targets["volatility"]
    moved = target.value.copy()
    moved[samples.decided[rows]] += change
    own = replace(samples, targets={**samples.targets, "volatility": replace(target, value=moved)})
    return fold.on(own)


def test_the_newest_answers_are_learned_from(folds: list[Fold]) -> None:
    fold = folds[-1]
    record = fold.record
    newest = record[np.argsort(fold.data.times[record], kind="stable")[-5:]]
    alternating = other_answers(fold, newest[::2], 0.2)  # small enough to leave the scale as it is
    once = ResidualLSTM(units=16, epochs=1, seeds=1)  # with one epoch there is none to choose
    (ours,), (theirs,) = (once.fit_many([one]) for one in (fold, alternating))
    assert not np.array_equal(ours.network.members[0]["head.w"], theirs.network.members[0]["head.w"])


def test_a_few_far_answers_move_the_linear_forecast_and_the_correction_moves_back(folds: list[Fold]) -> None:
    fold = folds[-1]

    def correction(one: Fold) -> float:
        (fitted,) = ResidualLSTM(units=16, epochs=6, seeds=1, learning_rate=1e-2).fit_many([one])
        logs = [np.log(fit.predict(fold.data, fold.test)["volatility"]).mean() for fit in (fitted, *fitted.linear)]
        return float(logs[0] - np.mean(logs[1:]))

    assert correction(other_answers(fold, fold.record[::10], 8.0)) < correction(fold) - 0.2  # unweighted: no change


def weekday_market() -> pl.DataFrame:
    """1,500 bars without memory whose deviation is twice as large on Fridays."""
    draw = np.random.default_rng(5)
    day = np.busday_offset("2010-01-04", np.arange(1500), roll="forward").astype("datetime64[us]")
    friday = (day.astype("datetime64[D]").astype(np.int64) + 3) % 7 == 4
    close = 100 * np.exp(np.cumsum(0.01 * draw.standard_normal(1500) * np.where(friday, 2.0, 1.0)))
    opens = np.r_[100.0, close[:-1]]
    bars = {"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close), "close": close}
    columns = {"symbol": "A", "time": day + np.timedelta64(21, "h"), **bars, "volume": np.full(1500, 1e6)}
    return read_bars(pl.DataFrame(columns), asset_class="index", timezone="UTC", stamp="close")


def test_the_weekday_is_known() -> None:
    samples = make_samples(weekday_market(), ("ret_log_1",), horizon=1, volatility_proxy="close_to_close")["index"]
    fold = Schedule(refit="1Y").folds(samples.times, samples.known_at)[-1].on(samples)
    (fitted,) = ResidualLSTM(horizon=1, units=16, epochs=6, seeds=1, learning_rate=1e-2).fit_many([fold])
    rows = fold.test
    logs = [np.log(one.predict(samples, rows)["volatility"]) for one in (fitted, *fitted.linear)]
    correction = logs[0] - np.mean(logs[1:], axis=0)
    thursday = samples.times[rows].astype("datetime64[D]").astype(np.int64) % 7 == 0
    assert correction[thursday].mean() > correction[~thursday].mean() + 0.5


def test_over_many_sessions_the_correction_keeps_the_level() -> None:
    samples = make_samples(synthetic.g1(1500, seed=3, symbols=2), ("ret_log_1",), horizon=22)["index"]
    fold = Schedule(refit="1Y").folds(samples.times, samples.known_at)[-1].on(samples)
    (fitted,) = ResidualLSTM(horizon=22, units=16, epochs=4, seeds=1, learning_rate=1e-2).fit_many([fold])
    _, newest = Schedule().split(samples.times, samples.known_at, fold.record)
    linear = np.sqrt(np.prod([one.predict(samples, newest)["volatility"] for one in fitted.linear], axis=0))
    correction = fitted.predict(samples, newest)["volatility"] / linear
    assert correction.std() > 0.01
    assert correction.mean() == pytest.approx(1, abs=1e-6)


def test_a_fit_of_an_older_version_reads_what_it_learned_from(folds: list[Fold]) -> None:
    fold, old = folds[-1], len(VARIANCE_INPUTS)
    (fitted,) = ResidualLSTM(**QUICK).fit_many([fold])
    arrays, settings = fitted.state()
    for name in arrays:
        if name.startswith("network/scaler.") or name.endswith(".0.wx"):
            arrays[name] = arrays[name][:old]
    older = FittedResidualLSTM.from_state(arrays, settings)
    assert np.isfinite(older.predict(fold.data, fold.test)["volatility"]).all()


def test_a_stored_one_forecasts_the_same(folds: list[Fold]) -> None:
    fold = folds[-1]
    (fitted,) = ResidualLSTM(**QUICK).fit_many([fold])
    again = FittedResidualLSTM.from_state(*fitted.state())
    together, each = fitted.predict_members(fold.data, fold.test)
    assert np.array_equal(again.predict(fold.data, fold.test)["volatility"], together["volatility"])
    assert len(each) == 2
    linear = FittedLinearVariance.from_state(*fitted.linear[0].state())
    assert np.array_equal(linear.table, fitted.linear[0].table)


def test_the_linear_part_is_fitted_once_for_all_who_ask(folds: list[Fold]) -> None:
    samples = replace(folds[0].data)  # on which nothing was fitted yet
    own = [fold.on(samples) for fold in folds[:3]]
    corrected = ResidualLSTM(**QUICK).fit_many(own)
    alone = [LinearVariance(pooled=pooled).fit_many(own) for pooled in (False, True)]
    assert all(one.linear[0] is a and one.linear[1] is b for one, a, b in zip(corrected, *alone, strict=True))
    others = LinearVariance(penalty=7.0).fit_many(own)
    assert all(one is not other for one, other in zip(alone[0], others, strict=True))  # other settings, another fit
    samples.forget()
    again = LinearVariance().fit_record(own[0])
    assert again is not alone[0][0]
    np.testing.assert_array_equal(again.table, alone[0][0].table)


def test_few_lessons_are_alive_at_once_and_their_number_changes_no_fit(
    folds: list[Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made, most = ResidualLSTM(every=1, **QUICK), list[ref[Samples]](), list[int]()
    before = model.fit_many(folds)
    lesson = residual_lstm._lesson

    def counted(*parts: Any) -> Fold:
        one = lesson(*parts)
        made.append(ref(one.data))
        most.append(sum(alive() is not None for alive in made))
        return one

    monkeypatch.setattr(residual_lstm, "_lesson", counted)
    monkeypatch.setattr(residual_lstm, "LESSONS_AT_ONCE", 1)
    after = model.fit_many(folds)
    assert len(made) == len(folds) > 2
    assert max(most) <= 2  # that which is made, and the one before until its name is taken
    for one, other in zip(before, after, strict=True):
        for mine, theirs in zip(one.network.members, other.network.members, strict=True):
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
