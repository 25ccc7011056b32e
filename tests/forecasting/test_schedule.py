"""Refits by session date, and the purge: nothing is fitted on whose answer is not known at the next block's start."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import SettingsError, TrainingError
from gatecast.forecasting.schedule import Schedule, back
from gatecast.forecasting.walkforward import Fold
from gatecast.market.bars import session_date

LENGTHS = st.sampled_from(["1Y", "2Y", "18M", "60W", "400D", 150, 252])
REFITS = st.sampled_from(["1M", "1W", "3M", "1Y", "10D", 5, 21])


def business_days(first: str, count: int, hour: int = 21) -> np.ndarray:
    days = np.busday_offset(first, np.arange(count), roll="forward")
    return days.astype("datetime64[us]") + np.timedelta64(hour, "h")


def answered(times: np.ndarray, horizon: int) -> np.ndarray:
    known = np.full(len(times), np.datetime64("NaT", "us"))
    known[: len(times) - horizon] = times[horizon:]
    return known


@settings(max_examples=150, deadline=None)
@given(
    train=LENGTHS,
    refit=REFITS,
    expanding=st.booleans(),
    share=st.sampled_from([0.1, 0.2, 0.5]),
    count=st.integers(300, 900),
    symbols=st.integers(1, 3),
    seed=st.integers(0, 10_000),
)
def test_no_row_is_fitted_before_its_answer_is_known(
    train: str | int, refit: str | int, expanding: bool, share: float, count: int, symbols: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    parts, answers = [], []
    for _ in range(symbols):  # own holidays, own horizon for every row, some never answered
        times = business_days("2015-01-01", count)[draw.random(count) > 0.05]
        reach = draw.integers(1, 21, len(times))
        later = np.arange(len(times)) + reach
        known = np.where(later < len(times), times[np.minimum(later, len(times) - 1)], np.datetime64("NaT", "us"))
        parts.append(times)
        answers.append(known)
    times, known = np.concatenate(parts), np.concatenate(answers)
    schedule = Schedule(train=train, refit=refit, expanding=expanding, validation=share, minimum="6M")
    folds = schedule.folds(times, known)
    assert folds
    for fold in folds:
        assert fold.cutoff == times[fold.test].min()
        assert (known[fold.validation] <= fold.cutoff).all()
        assert (known[fold.train] <= times[fold.validation].min()).all()
        assert times[fold.train].max() < times[fold.validation].min()
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    assert set(tested) == set(np.flatnonzero(times >= folds[0].cutoff))


def test_a_horizon_of_five_leaves_out_four_rows_at_both_borders() -> None:
    times = business_days("2015-01-01", 800)
    for fold in Schedule(train="2Y").folds(times, answered(times, 5)):
        assert fold.test[0] - fold.validation[-1] - 1 == 4
        assert fold.validation[0] - fold.train[-1] - 1 == 4


def test_refits_are_at_each_months_first_session_and_windows_reach_two_years_back() -> None:
    times = business_days("2015-01-01", 1500)
    folds = Schedule().folds(times, answered(times, 5))
    sessions = session_date(times)
    months = sessions.astype("datetime64[M]")
    for fold in folds:
        first = fold.test[0]
        assert months[first] != months[first - 1]
        assert len(np.unique(months[fold.test])) == 1
        oldest = sessions[fold.train[0]]
        assert oldest >= back(sessions[first], "2Y")
        if sessions[0] <= back(sessions[first], "2Y"):
            assert sessions[fold.train[0] - 1] < back(sessions[first], "2Y")
    assert sessions[folds[0].test[0]] == np.datetime64("2016-01-01")


def test_a_bar_that_closes_at_midnight_belongs_to_the_day_before() -> None:
    times = np.arange("2018-01-02", "2020-03-01", dtype="datetime64[D]").astype("datetime64[us]")  # 24:00 UTC
    cutoffs = [fold.cutoff for fold in Schedule(train="1Y").folds(times, answered(times, 1))]
    assert all(str(cutoff)[8:10] == "02" for cutoff in cutoffs)


def test_expanding_windows_keep_everything() -> None:
    times = business_days("2015-01-01", 1200)
    folds = Schedule(expanding=True).folds(times, answered(times, 1))
    assert all(fold.train[0] == 0 for fold in folds)


@pytest.mark.parametrize("wrong", [{"train": "2 years"}, {"refit": "M"}, {"validation": 0.9}, {"trian": "2Y"}])
def test_what_is_no_schedule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_a_month_end_stays_inside_the_month() -> None:
    assert back(np.datetime64("2024-05-31"), "3M") == np.datetime64("2024-02-29")


def test_a_fold_without_samples_says_so() -> None:
    empty = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="not bound"):
        _ = Fold(0, empty, empty, empty, np.datetime64("2020-01-01")).record


def random_times(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled times of a few symbols with holes, shared closes and closes twice; and when each answer is known."""
    parts = []
    for _ in range(draw.integers(1, 4)):
        days = np.cumsum(draw.integers(0, 9, draw.integers(20, 60)))
        hours = draw.choice([16, 21, 24], len(days)) if draw.random() < 0.3 else 21
        parts.append(24 * days + hours)
    hour = draw.permutation(np.concatenate(parts))
    times = np.datetime64("2015-01-01T00", "us") + hour * np.timedelta64(1, "h")
    known = times + draw.integers(0, 60 * 24, len(times)) * np.timedelta64(1, "h")
    known[draw.random(len(times)) < 0.1] = np.datetime64("NaT")
    return times, known


TRAINS, MINIMA = ("1Y", "6M", "30W", "90D", 20, 60), ("3M", "40D", 20)
BLOCKS = ("1M", "2M", "1Y", "2W", "5W", "10D", "25D", "3M", 1, 7, 12, 20)


def test_ten_thousand_random_histories_break_no_rule() -> None:
    """All ways to cut: calendar and bar windows, sliding and expanding; which rows are allowed is spelt out again."""
    draw, folds_seen = np.random.default_rng(0), 0
    for case in range(10_000):
        times, known = random_times(draw)
        schedule = Schedule.model_construct(
            train=TRAINS[case % 6], refit=BLOCKS[case // 6 % 12], expanding=bool(draw.integers(2)),
            validation=(0.1, 0.2, 0.5)[draw.integers(3)], minimum=MINIMA[draw.integers(3)],
        )  # fmt: skip
        tested = np.zeros(len(times), int)
        for fold in schedule.folds(times, known):
            moment, oldest = times[fold.validation].min(), times[fold.train].min()
            trainable = (oldest <= times) & (times < moment) & (known <= moment)  # NaT is never <=
            assert np.array_equal(fold.train, trainable.nonzero()[0])
            validates = (moment <= times) & (known <= times[fold.test].min())
            assert np.array_equal(fold.validation, validates.nonzero()[0])
            assert times[fold.test].min() == fold.cutoff
            tested[fold.test] += 1
            folds_seen += 1
        assert tested.max() <= 1
    assert folds_seen > 30_000


def bound(folds: list[Fold], times: np.ndarray, known: np.ndarray) -> list[Fold]:
    """Folds on samples of which only the times matter here."""
    data = SimpleNamespace(times=times, known_at=known, moments=np.unique(times))
    return [fold.on(data) for fold in folds]  # type: ignore[arg-type]


def test_a_window_of_ones_own_is_what_a_schedule_of_that_length_has_at_the_same_cutoff() -> None:
    """And no row of it is fitted on before its answer is known."""
    draw, seen = np.random.default_rng(1), 0
    for case in range(1500):
        times, known = random_times(draw)
        window, share = (*TRAINS, "expanding")[case % 7], (0.1, 0.2, 0.5)[draw.integers(3)]
        common = {"refit": BLOCKS[case // 7 % 12], "validation": share, "minimum": MINIMA[case % 3]}
        here = Schedule.model_construct(train="4M", expanding=False, **common).folds(times, known)
        train = {"train": "1Y", "expanding": True} if window == "expanding" else {"train": window, "expanding": False}
        there = {fold.cutoff: fold for fold in Schedule.model_construct(**train, **common).folds(times, known)}
        for fold in bound(here, times, known):
            if fold.cutoff not in there:  # nothing to train or to validate on
                with pytest.raises(TrainingError, match="too few rows"):
                    fold.windowed(window)
                continue
            other, expected = fold.windowed(window), there[fold.cutoff]
            np.testing.assert_array_equal(other.train, expected.train)
            np.testing.assert_array_equal(other.validation, expected.validation)
            np.testing.assert_array_equal(other.test, fold.test)
            assert (known[other.validation] <= fold.cutoff).all()
            assert (known[other.train] <= times[other.validation].min()).all()
            assert times[other.train].max() < times[other.validation].min()
            seen += 1
    assert seen > 3000


def test_no_window_of_ones_own_is_the_schedules() -> None:
    times = business_days("2015-01-01", 700)
    fold = bound(Schedule().folds(times, answered(times, 5)), times, answered(times, 5))[0]
    assert fold.windowed(None) is fold


def test_a_row_weighs_half_for_every_half_life_of_age() -> None:
    times = business_days("2010-01-01", 1500)
    fold = bound(Schedule(expanding=True).folds(times, answered(times, 5)), times, answered(times, 5))[-1]
    weights = fold.recency(2.0)
    years = (fold.cutoff - times[fold.train]) / np.timedelta64(1, "D") / 365.25
    np.testing.assert_allclose(np.diff(np.log2(weights)), -np.diff(years) / 2, atol=1e-12)
    assert weights.mean() == pytest.approx(1)
    assert (fold.recency(None) == 1).all()


@pytest.mark.parametrize("length", ["999999Y", "10001D", "201Y", "9" * 4000 + "D"])
def test_lengths_have_an_end(length: str) -> None:
    for name in ("train", "refit", "minimum"):
        with pytest.raises(ValueError, match="at most 10,000 of its unit and 200 years"):
            Schedule(**{name: length})
    assert Schedule(train="10000D", refit="200Y").refit == "200Y"


# ── going on from earlier refits ──────────────────────────────────────────────────────────────────


def test_refits_go_on_as_if_all_were_planned_at_once() -> None:
    times = np.arange("2015-01-01T21", "2018-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    known, schedule = answered(times, 5), Schedule(train="1Y", refit="3M")
    whole = schedule.folds(times, known)
    for until in times[400:-1:37]:
        part = schedule.folds(times[times <= until], known[times <= until])
        on = schedule.folds(times, known, [fold.cutoff for fold in part], until)
        for mine, theirs in zip(on, whole, strict=True):
            assert mine.cutoff == theirs.cutoff
            for rows in ("train", "validation", "test"):
                np.testing.assert_array_equal(getattr(mine, rows), getattr(theirs, rows))
        (*_, last) = never = schedule.folds(times, known, [fold.cutoff for fold in part])
        assert len(never) == len(part)
        assert last.test[-1] == len(times) - 1


def test_a_refit_that_was_not_made_is_made_up_for_at_the_next_close() -> None:
    times = np.arange("2015-01-01T21", "2018-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    known, schedule = answered(times, 5), Schedule(train="1Y", refit="3M")
    whole = schedule.folds(times, known)
    until = whole[4].cutoff + np.timedelta64(9, "D")
    on = schedule.folds(times, known, [fold.cutoff for fold in whole[:3]], until)  # refits 3 and 4 were not made
    planned = [fold.cutoff for fold in whole]
    assert [fold.cutoff for fold in on] == [*planned[:3], until + np.timedelta64(1, "D"), *planned[5:]]
    assert on[2].test[-1] + 1 == on[3].test[0]


def test_a_refit_that_is_out_of_force_again_is_not_made_up_for_and_one_that_is_asked_for_is_added() -> None:
    times = np.arange("2015-01-01T21", "2018-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    known, schedule = answered(times, 5), Schedule(train="1Y", refit="3M")
    planned = [fold.cutoff for fold in schedule.folds(times, known)]
    until, asked = planned[4] + np.timedelta64(9, "D"), planned[4] + np.timedelta64(20, "D")
    for passed in (planned[4], planned[4] + np.timedelta64(3, "D")):
        on = schedule.folds(times, known, planned[:4], until, passed=passed)
        assert [fold.cutoff for fold in on] == [*planned[:4], *planned[5:]]
        on = schedule.folds(times, known, planned[:4], until, (asked,), passed)
        assert [fold.cutoff for fold in on] == [*planned[:4], asked, *planned[5:]]


def test_a_period_with_nothing_to_fit_on_has_no_forecasts_either_way() -> None:
    """After two years without a bar a window of one year has no rows: planned at once or one after the other."""
    times = np.arange("2015-01-01T21", "2020-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    times = times[(times < np.datetime64("2016-12-20")) | (times > np.datetime64("2019-01-08"))]
    known, schedule = answered(times, 5), Schedule(train="1Y", refit="1M")
    whole = schedule.folds(times, known)
    until = np.datetime64("2019-01-20T21", "us")
    part = schedule.folds(times[times <= until], known[times <= until])
    on = schedule.folds(times, known, [fold.cutoff for fold in part], until)
    assert [fold.cutoff for fold in on] == [fold.cutoff for fold in whole]
    assert [fold.test.tolist() for fold in on] == [fold.test.tolist() for fold in whole]
    rows = np.concatenate([fold.test for fold in on])
    assert not np.isin(np.flatnonzero((times > np.datetime64("2019-01-08")) & (times <= until)), rows).any()
