"""Searches for settings: nested, dated, the same again, and better where there is something to find."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.compute.notices import notices
from gatecast.errors import SettingsError, StoreError, TrainingError
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Fold, Schedule, known_by
from gatecast.forecasting.tuning import tuned as tuning
from gatecast.forecasting.tuning.search import open_storage
from gatecast.forecasting.tuning.tuned import TunedLSTM, Tuning, search_once, tuning_dates, with_params
from gatecast.market import synthetic
from gatecast.samples.targets import to_times
from gatecast.samples.windows import Samples, make_samples

SMALL = LSTM(units=16, layers=1, epochs=3, seeds=1)
QUICK = Tuning(trials=6, units=(16, 32), layers=(1, 2), lookback=(10, 60))
NAMES = ("ret_log_1", "x")


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(900, seed=5, r2=0.05, symbols=2)


@pytest.fixture(scope="module")
def wide(bars: pl.DataFrame) -> Samples:
    return make_samples(bars, NAMES, context=60)["index"]


def folds_of(samples: Samples, refit: str = "6M") -> list[Fold]:
    return [fold.on(samples) for fold in Schedule(refit=refit).folds(samples.times, samples.known_at)]


def found_by(fold: Fold, lstm: LSTM = SMALL, how: Tuning = QUICK, **options: Any) -> dict[str, Any]:
    with open_storage(None) as storage:
        return search_once(lstm, how, fold, [], storage, **options)


def test_a_search_reads_nothing_after_its_date(bars: pl.DataFrame, wide: Samples) -> None:
    fold = folds_of(wide)[2]
    whole = found_by(fold)
    assert len(whole["trials"]) == 6
    cut = bars.filter(pl.Series(to_times(bars, "time") <= fold.cutoff))
    short = make_samples(cut, NAMES, context=60)["index"]
    at_end = Fold(2, fold.train[:0], fold.train[:0], fold.test[:0], fold.cutoff, short)
    assert found_by(at_end) == whole
    draw = np.random.default_rng(0)
    later = pl.Series(to_times(bars, "time") > fold.cutoff)
    noise = pl.Series(draw.uniform(0.5, 2.0, len(bars)))
    garbage = bars.with_columns(
        [pl.when(later).then(pl.col(name) * noise).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")]
        + [pl.when(later).then(-9.0).otherwise(pl.col("x")).alias("x")]
    )
    other = make_samples(garbage, NAMES, context=60)["index"]
    at = next(one for one in folds_of(other) if one.cutoff == fold.cutoff)
    assert found_by(at) == whole


def test_cores_and_storage_change_nothing(wide: Samples, tmp_path: Any) -> None:
    folds = folds_of(wide)
    tuned = TunedLSTM(lstm=SMALL, tuning=QUICK)
    alone, both = (tuned.fit_many(folds, Task(jobs=jobs)) for jobs in (1, 2))
    on_file = Task(studies=f"sqlite:///{tmp_path}/studies.db")
    kept, again = (tuned.fit_many(folds, on_file) for _ in range(2))
    for other in (both, kept, again):
        for one, two in zip(alone, other, strict=True):
            assert one.settings.model_dump() == two.settings.model_dump()
            assert one.searches == two.searches
            np.testing.assert_array_equal(one.predict(wide, folds[-1].test)["return"],
                                          two.predict(wide, folds[-1].test)["return"])  # fmt: skip


@pytest.fixture(scope="module")
def searched(wide: Samples) -> list[dict[str, Any]]:
    """The searches of two dates, in memory."""
    return TunedLSTM(lstm=SMALL, tuning=QUICK).search_all(folds_of(wide)[:2])


@pytest.mark.parametrize("fault", ["no database", "a folder", "a pipe", "no place"])
def test_a_search_goes_on_in_memory_where_its_file_fails(
    fault: str, wide: Samples, searched: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = Path("/proc/no/studies.db") if fault == "no place" else tmp_path / "studies.db"
    match fault:
        case "no database":
            file.write_bytes(b"no database" * 1000)
        case "a folder":
            file.mkdir()
        case "a pipe":
            os.mkfifo(file)
    tuned = TunedLSTM(lstm=SMALL, tuning=QUICK)
    with notices() as found:
        assert tuned.search_all(folds_of(wide)[:2], Task(studies=f"sqlite:///{file}")) == searched
    (sentence,) = found
    assert str(file) in sentence
    assert sentence.endswith("The search goes on in memory: if it is interrupted, it begins anew.")
    with pytest.raises(StoreError):  # a server is asked for, and nothing stands in for it
        tuned.search_all(folds_of(wide)[:1], Task(studies="nonsense"))


def test_a_search_goes_on_in_memory_when_the_disk_is_full_in_the_middle(
    wide: Samples, searched: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "studies.db"
    with open_storage(f"sqlite:///{file}"):
        pass
    resource = pytest.importorskip("resource", reason="needs limits on files")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    tuned, told = TunedLSTM(lstm=SMALL, tuning=QUICK), []
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        with notices() as found:
            task = Task(studies=f"sqlite:///{file}", on_search=lambda done, of, best: told.append(done))
            assert tuned.search_all(folds_of(wide)[:2], task) == searched
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert any("cannot be read or written" in one and "goes on in memory" in one for one in found)
    assert told.count(0) == 2  # the search of the first date began anew


def test_settings_are_used_from_their_date_on_alone(wide: Samples) -> None:
    folds = folds_of(wide)
    fits = TunedLSTM(lstm=SMALL, tuning=QUICK.replace(margin=0.0)).fit_many(folds)
    dated = tuning_dates(folds, "1Y")
    assert dated[:2] == [0, 2]
    for number, fitted in enumerate(fits):
        so_far = [date for date in dated if date <= number]
        assert len(fitted.searches) == len(so_far)
        assert fitted.searches[-1]["date"] == str(np.datetime_as_string(folds[so_far[-1]].cutoff, "s"))
        chosen = with_params(SMALL, fitted.searches[-1]["chosen"], wide)
        assert fitted.settings.model_dump() == chosen.model_dump()
    assert len({fitted.settings.model_dump_json() for fitted in fits}) > 1  # with no margin something is replaced


def test_the_best_of_one_date_is_tried_early_at_the_next(wide: Samples) -> None:
    searches = TunedLSTM(lstm=SMALL, tuning=QUICK).fit_many(folds_of(wide))[-1].searches
    for before, after in pairwise(searches):
        done = sorted((one for one in before["trials"] if one["state"] == "complete"), key=lambda one: one["loss"])
        first = [one["params"] for one in after["trials"][:3]]
        assert all(one["params"] in first for one in done[:2])


def test_a_stored_model_knows_how_its_settings_came_about(wide: Samples) -> None:
    import json

    fitted = TunedLSTM(lstm=SMALL, tuning=QUICK).fit_many(folds_of(wide))[-1]
    arrays, said = fitted.state()
    back = type(fitted).from_state(arrays, json.loads(json.dumps(said)))
    assert list(back.searches) == json.loads(json.dumps(fitted.searches))  # type: ignore[attr-defined]
    rows = np.arange(len(wide) - 3, len(wide))
    np.testing.assert_array_equal(back.predict(wide, rows)["return"], fitted.predict(wide, rows)["return"])


def test_candidates_that_explode_are_recorded_and_the_search_goes_on(
    wide: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tuning.relative_losses

    def fragile(fitted: Any, fold: Fold, heads: Any) -> Any:
        if fitted.settings.lookback > 40:
            raise TrainingError("the LSTM's loss is no longer finite in epoch 2")
        return sound(fitted, fold, heads)

    monkeypatch.setattr(tuning, "relative_losses", fragile)
    found = found_by(folds_of(wide)[2], how=QUICK.replace(trials=8))
    failed = [one for one in found["trials"] if one["state"] == "failed"]
    assert failed
    assert all("no longer finite" in one["reason"] and one["params"]["lookback"] > 40 for one in failed)
    assert len(found["trials"]) == 8
    assert found["chosen"]["lookback"] <= 40


def test_a_lucky_candidate_does_not_replace_the_given_settings(wide: Samples) -> None:
    fold = folds_of(wide)[2]
    free, strict = (found_by(fold, how=QUICK.replace(margin=margin)) for margin in (0.0, 50.0))
    assert free["trials"] == strict["trials"]
    assert strict["chosen"] == QUICK.given(SMALL, wide)
    assert not strict["replaced"]
    assert free["loss"] <= free["given_loss"]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(60, 400), st.integers(1, 4), st.floats(0.1, 0.9), st.sampled_from(["1Y", "6M", 50, "expanding"]),
    st.integers(1, 15), st.integers(0, 2**31),
)  # fmt: skip
def test_inner_folds_keep_their_blocks_apart(
    bars: int, count: int, share: float, window: str | int, horizon: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    day = np.sort(draw.choice(1200, bars, replace=False))
    times = (np.datetime64("2015-01-01T21:00") + day * np.timedelta64(1, "D")).astype("datetime64[us]")
    known_at = np.r_[times[horizon:], np.full(horizon, np.datetime64("NaT"))]
    at = int(draw.integers(40, bars))
    samples: Any = type("Rows", (), {"times": times, "moments": np.unique(times), "known_at": known_at})()
    fold = Fold(0, times[:0], times[:0], times[:0], times[at], samples)
    scored: set[int] = set()
    for inner in fold.inner(window, count, share):
        fitted = np.r_[inner.train, inner.validation]
        assert known_by(known_at[fitted], inner.cutoff).all()
        assert known_by(known_at[inner.test], fold.cutoff).all()
        assert times[inner.test].min() == inner.cutoff
        assert known_by(known_at[inner.train], times[inner.validation].min()).all()
        assert (times[np.r_[fitted, inner.test]] >= fold.since(window)).all()
        assert scored.isdisjoint(inner.test.tolist())
        assert np.isin(fitted, inner.record).all()
        scored |= set(inner.test.tolist())


def test_ranges_hold_what_is_given_and_refuse_what_no_lstm_takes(wide: Samples) -> None:
    lstm = SMALL.replace(dropout=0.05, lookback=12, units=24)
    space = QUICK.replace(lookback=(20, 60), features=True).space(lstm, wide)
    for name, value in QUICK.replace(features=True).given(lstm, wide).items():
        assert space[name]._contains(space[name].to_internal_repr(value))
    with pytest.raises(SettingsError, match="lookback = 5"):
        Tuning(lookback=(5, 30))
    with pytest.raises(SettingsError, match="smaller end first"):
        Tuning(units=(64, 16))
    with pytest.raises(SettingsError, match="Did you mean 'direction'"):
        Tuning(head="directoin")


def test_features_in_or_out(wide: Samples) -> None:
    params = QUICK.replace(features=True).given(SMALL, wide)
    one = with_params(SMALL, {**params, "feature: x": False}, wide)
    assert one.features == ("ret_log_1",)
    assert one.reads(wide).names == ("ret_log_1",)
    assert with_params(SMALL, {**params, "feature: x": False, "feature: ret_log_1": False}, wide).features == NAMES
    only = make_samples(synthetic.b1(900, seed=5, r2=0.05, symbols=2), ("ret_log_1",), context=60)["index"]
    fold, alone = folds_of(wide)[1], folds_of(only)[1]
    np.testing.assert_array_equal(
        one.fit_many([fold])[0].predict(wide, fold.test)["return"],
        SMALL.fit_many([alone])[0].predict(only, alone.test)["return"],
    )
    with pytest.raises(SettingsError, match="the LSTM reads 'y'"):
        SMALL.replace(features=("y",)).reads(wide)


def test_a_window_that_the_samples_cannot_give_is_refused(wide: Samples) -> None:
    with pytest.raises(SettingsError, match="60 bars of context"):
        SMALL.replace(lookback=61).fit(wide)
    SMALL.replace(lookback=60).fit(wide)


def test_an_address_among_the_settings_is_ignored_with_a_word() -> None:
    with pytest.warns(UserWarning, match=r"storage is no setting .* ignored: --storage, GATECAST_STORAGE"):
        read = Tuning(storage="postgresql+psycopg://me:secret@host/studies", trials=3)
    assert read == Tuning(trials=3)
    assert "secret" not in repr(read)
