"""Leaks planted one at a time in a working chain are named with their stage; clean chains are left in peace."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import gatecast.market.sources as sources
from gatecast.audits.full import Cuts, audit
from gatecast.audits.leaks import Audit, dated_back, level_features
from gatecast.audits.quick import quick_audit
from gatecast.audits.tables import Garbage
from gatecast.chain import make_chain
from gatecast.errors import HistoryTooShortError
from gatecast.experiment import Experiment
from gatecast.forecasting import schedule
from gatecast.forecasting.combining import ensemble
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.markov import FittedMarkov, HiddenMarkov
from gatecast.forecasting.scaling import Scaler
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import make_bars, synthetic
from gatecast.market.reading import BarsSettings
from gatecast.samples import targets, windows
from gatecast.samples.features import FEATURES, register
from gatecast.samples.targets import Target, to_times
from gatecast.samples.windows import Samples
from gatecast.trading import signals

Patch = pytest.MonkeyPatch
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
FEW = Cuts(samples=4, fits=2)
SMALL: dict[str, Any] = {
    "models": ("forest", "ridge"),
    "model": {
        "forest": Forest(trees=3),
    },
    "features": ("ret_log_1", "rv_5"),
    "schedule": Schedule(refit="6M"),
    "ensemble": {"members": ("forest",), "volatility_members": ("har", "constant"), "minimum_days": 10},
    "too_good": ("planted",),
    "signals": {"model": "ridge", "confirmed_by": "forest", "minimum": 20},
    "selection": {"minimum_days": 20, "evidence": 0.5},
}


def small(bars: Any = None, **changes: Any) -> Experiment:
    return Experiment(bars=WALK if bars is None else bars, **SMALL | changes)


WALK = synthetic.a1(560, seed=1)


@pytest.fixture(autouse=True)
def _catalogue() -> Iterator[None]:
    """Features that a test registers are its own."""
    before = set(FEATURES)
    yield
    for name in set(FEATURES) - before:
        FEATURES.remove(name)


# ── features of the user's ────────────────────────────────────────────────────────────────────────


def returns(close: FloatArray) -> FloatArray:
    return np.r_[0.0, np.diff(np.log(close))]


def tomorrow(close: FloatArray) -> FloatArray:
    """L1: the next return under a hundred times as much noise."""
    noise = np.random.default_rng(0).standard_normal(len(close))
    return np.r_[returns(close)[1:], 0.0] + noise


def z_score_of_all(close: FloatArray) -> FloatArray:
    """L2: over the whole series."""
    r = returns(close)
    return (r - r.mean()) / (r.std() + 1e-12)


def window_around(close: FloatArray) -> FloatArray:
    """L2b: normalised with rows after t."""
    padded = np.pad(returns(close), 3, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 7)
    return (returns(close) - around.mean(1)) / (around.std(1) + 1e-12)


def best_of_many(close: FloatArray) -> FloatArray:
    """L4: the lag that has worked best on all data."""
    r = returns(close)
    lags = [np.r_[np.zeros(k), r[: len(r) - k]] for k in range(1, 30)]
    return max(lags, key=lambda lag: abs(np.dot(lag[:-1], r[1:]))) if len(r) > 60 else lags[0]


def centred_mean(close: FloatArray) -> FloatArray:
    """L7."""
    return np.convolve(np.pad(returns(close), 2, mode="edge"), np.ones(5) / 5, mode="valid")


def back_filled(close: FloatArray) -> FloatArray:
    """L7: the first values are filled with a later one."""
    if len(close) < 20:
        return np.full(len(close), np.nan)
    mean = np.convolve(returns(close), np.ones(20) / 20, mode="valid")
    return np.r_[np.full(19, mean[0]), mean]


def interpolated(close: FloatArray) -> FloatArray:
    """L7: every third value is the mean of its neighbours."""
    r = returns(close)
    r[1:-1:3] = (r[:-2:3][: len(r[1:-1:3])] + r[2::3][: len(r[1:-1:3])]) / 2
    return r


def off_by_one(close: FloatArray) -> FloatArray:
    """L13: joined by row number."""
    return np.roll(returns(close), -1)


@pytest.mark.parametrize(
    ("function", "bars_ahead"),
    [(tomorrow, 1), (z_score_of_all, None), (window_around, 3), (best_of_many, None), (centred_mean, 2),
     (back_filled, None), (interpolated, 1), (off_by_one, 1)],
)  # fmt: skip
def test_a_feature_that_looks_ahead_is_named(function: Callable[..., FloatArray], bars_ahead: int | None) -> None:
    register("mine", warmup=0)(function)
    found = audit(small(features=("ret_log_1", "mine")), cuts=FEW, full=False)
    assert found.guilty == ("features",)
    (leak,) = found.findings
    assert leak.column == "mine"
    assert not found.clean
    assert json.loads(json.dumps(found.to_dict()))["findings"][0]["column"] == "mine"
    if bars_ahead is not None:
        times = WALK["time"].unique().sort()
        row, reached = times.search_sorted(leak.time), times.search_sorted(leak.reacts_to)
        assert 1 <= reached - row <= bars_ahead


def test_a_feature_that_is_never_the_same_is_said_to_be_so() -> None:
    draw = np.random.default_rng(0)
    register("mine", warmup=0)(lambda close: draw.standard_normal(len(close)))
    (leak,) = audit(small(features=("ret_log_1", "mine")), cuts=FEW, full=False).findings
    assert leak.column == "mine"
    assert "run again" in leak.sentence


def test_a_price_level_is_flagged_by_its_nature() -> None:
    """L5: as one's own function, and as a column of the bars; ratios and dollar volumes are none."""
    register("level", warmup=0)(lambda close: np.log(close))
    register("illiquid", warmup=1, needs=("close", "volume"))(lambda c, v: np.abs(returns(c)) / (c * v))
    adjusted = WALK.with_columns(adjusted=pl.col("close") * pl.int_range(pl.len()).mul(1e-4).exp())
    found = audit(small(adjusted, features=("ret_log_1", "level", "illiquid", "adjusted")), cuts=FEW, full=False)
    assert {(leak.stage, leak.column, leak.kind) for leak in found.findings} == {
        ("features", "level", "nature"), ("features", "adjusted", "nature"),
    }  # fmt: skip
    assert found.consequences == ()


def test_a_column_joined_one_row_early_is_flagged_by_its_nature() -> None:
    """L13 in the file: nothing is left to be cut, but no market lets a fifth of a return be known before."""
    index = WALK["close"].log().diff().fill_null(0.0) + 0.01 * pl.Series(
        np.random.default_rng(1).normal(size=len(WALK))
    )
    right, wrong = (WALK.with_columns(other=index.shift(-k, fill_value=0.0)) for k in (0, 1))
    assert level_features(right, ["other"]) == []
    (leak,) = level_features(wrong, ["other"])
    assert (leak.column, leak.kind) == ("other", "nature")


# ── the chain's own stages ────────────────────────────────────────────────────────────────────────


def resampled_to_the_left(patch: Patch) -> None:
    """L9: a coarse bar is stamped with its first part."""

    def leaky(bars: pl.DataFrame, every: str) -> pl.DataFrame:
        honest = original(bars, every)
        first = pl.col("time").shift(1).over("symbol") + timedelta(days=1)
        stamped = honest.with_columns(time=first).drop_nulls("time")
        return make_bars(stamped.with_columns(known_at=pl.col("time")))

    original = sources.resample_bars
    patch.setattr(sources, "resample_bars", leaky)


def chosen_on_all_data(patch: Patch) -> None:
    """L4: the two features that correlate best with the next return over all bars."""

    def leaky(bars: pl.DataFrame, names: Any = None) -> tuple[list[str], dict[str, str]]:
        kept, left_out = original(bars, names)
        frame = windows.compute_features(bars, kept).fill_null(0.0)
        ahead = np.r_[returns(bars["close"].to_numpy())[1:], 0.0]
        kept = sorted(kept, key=lambda name: -abs(np.dot(frame[name].to_numpy(), ahead)))
        return sorted(kept[:2]), left_out | dict.fromkeys(kept[2:], "of no use")

    original = windows.available_features
    patch.setattr(windows, "available_features", leaky)


def answers_off_by_one(patch: Patch) -> None:
    """L13: answers joined by number, one row off: each is the one of the row after."""

    def leaky(*arguments: Any) -> Any:
        found, facts = original(*arguments)
        one = found["return"]
        return found | {"return": Target(np.roll(one.value, -1, axis=0), one.known_at)}, facts

    original = windows.make_targets
    patch.setattr(windows, "make_targets", leaky)


def answers_known_too_early(patch: Patch) -> None:
    """L3b by the answers' own claim: a day after the bar, whatever the horizon."""

    def leaky(*arguments: Any) -> Any:
        found, facts = original(*arguments)
        return {
            head: replace(one, known_at=np.r_[one.known_at[:1], one.known_at[:-1]]) for head, one in found.items()
        }, facts

    original = windows.make_targets
    patch.setattr(windows, "make_targets", leaky)


def level_of_all(patch: Patch) -> None:
    """The regime's level from all bars."""

    def leaky(value: FloatArray, known_at: Any, times: Any) -> FloatArray:
        return np.full(len(times), np.nanquantile(value, 2 / 3))

    patch.setattr(targets, "expanding_level", leaky)


def shuffled(patch: Patch) -> None:
    """L3: validation rows drawn at random among overlapping answers."""

    def leaky(self: Schedule, times: Any, known_at: Any, rows: Any) -> Any:
        chance = np.random.default_rng(0).random(len(rows)) < self.validation
        return rows[~chance], rows[chance]

    patch.setattr(Schedule, "split", leaky)


def not_purged(patch: Patch) -> None:
    """L3b: answers that run past the first forecast."""
    patch.setattr(schedule, "known_by", lambda known_at, moment: known_at <= moment + np.timedelta64(6, "D"))


def stopped_on_tests(patch: Patch) -> None:
    """L8: validation rows are the test's."""

    def leaky(self: Schedule, *given: Any, **named: Any) -> list[Fold]:
        honest = original(self, *given, **named)
        return [replace(fold, validation=np.r_[fold.validation, fold.test]) for fold in honest]

    original = Schedule.folds
    patch.setattr(Schedule, "folds", leaky)


def scaled_on_all_rows(patch: Patch) -> None:
    """L2: whatever it is asked to fit, the scaler takes all rows of the caller's samples."""

    def leaky(values: FloatArray, kind: str = "zscore") -> Scaler:
        caller = sys._getframe(1).f_locals
        every = caller["fold"].data.summaries if "fold" in caller and "inputs" in caller else values
        return original(every if every.shape[1] == values.shape[1] else values, kind)

    original = Scaler.fit
    patch.setattr(Scaler, "fit", leaky)


def scaled_by_heart(patch: Patch) -> None:
    """L2: a scaler fitted once, somewhere else."""
    patch.setattr(
        Scaler, "fit", lambda values, kind="zscore": Scaler(np.zeros(values.shape[1]), np.ones(values.shape[1]))
    )


def fitted_on_all_rows(patch: Patch) -> None:
    """L8 inside a model: it learns from every answer there is."""

    def leaky(self: Forest, folds: Sequence[Fold], *given: Any) -> Any:
        answered = [np.flatnonzero(~np.isnat(fold.data.known_at)) for fold in folds]
        return original(self, [replace(fold, train=rows) for fold, rows in zip(folds, answered, strict=True)], *given)

    original = Forest.fit_many
    patch.setattr(Forest, "fit_many", leaky)


def weighed_with_later_answers(patch: Patch) -> None:
    """The ensemble's record takes answers of the next month."""
    patch.setattr(ensemble, "known_by", lambda known_at, moment: known_at <= moment + np.timedelta64(30, "D"))


def thresholds_of_all(patch: Patch) -> None:
    """L10: one mean and standard deviation over all forecasts."""

    def leaky(forecasts: Forecasts, model: str, minimum: int) -> FloatArray:
        issued = forecasts.values[model]["return"][:, -1]
        return (issued - np.nanmean(issued)) / np.nanstd(issued)

    patch.setattr(signals, "z_scores", leaky)


honest_states = FittedMarkov.states


def changed_states(patch: Patch, change: Callable[[FloatArray, FloatArray], FloatArray]) -> None:
    """L6: the states of all of a symbol's samples, (samples, states), are made of what the filter says of all."""

    def leaky(self: FittedMarkov, samples: Samples, rows: Any) -> FloatArray:
        table = honest_states(self, samples, np.arange(len(samples)))
        for number, model in enumerate(self.models):
            mine = samples.symbol[samples.decided] == number
            if model is not None and mine.any():
                table[mine] = change(table[mine], model.transition)
        return table[rows]

    patch.setattr(FittedMarkov, "states", leaky)


def regimes_smoothed(patch: Patch) -> None:
    """L6: the probability of a state given all bars (Kim, 1994)."""

    def smooth(filtered: FloatArray, transition: FloatArray) -> FloatArray:
        found = filtered.copy()
        for t in range(len(found) - 2, -1, -1):
            ahead = np.maximum(filtered[t] @ transition, 1e-300)
            found[t] = filtered[t] * (transition @ (found[t + 1] / ahead))
        return found

    changed_states(patch, smooth)


def regimes_on_the_likeliest_path(patch: Patch) -> None:
    """L6: Viterbi's path through all bars; the filter's step tells each bar's own likelihood."""

    def likeliest(filtered: FloatArray, transition: FloatArray) -> FloatArray:
        moves = np.log(np.maximum(transition, 1e-300))
        own = np.log(np.maximum(filtered[1:] / np.maximum(filtered[:-1] @ transition, 1e-300), 1e-300))
        best, came_from = np.log(np.maximum(filtered[0], 1e-300)), []
        for one in own:
            came_from.append((best[:, None] + moves).argmax(0))
            best = (best[:, None] + moves).max(0) + one
        path = [int(best.argmax())]
        for back in came_from[::-1]:
            path.append(int(back[path[-1]]))
        return np.eye(len(transition))[path[::-1]]

    changed_states(patch, likeliest)


WITH_REGIMES: dict[str, Any] = {
    "models": ("forest", "ridge", "markov"), "model": {"forest": Forest(trees=3), "markov": HiddenMarkov(starts=1)},
}  # fmt: skip
CHAIN: list[tuple[Callable[[Patch], None], str, dict[str, Any]]] = [
    (chosen_on_all_data, "features", {"features": ("ret_log_1", "ret_log_2", "ret_log_3", "rv_5", "gap_log")}),
    (answers_off_by_one, "targets", {}),
    (answers_known_too_early, "targets", {}),
    (level_of_all, "regimes", {}),
    (shuffled, "folds", {}),
    (not_purged, "folds", {}),
    (stopped_on_tests, "folds", {}),
    (scaled_on_all_rows, "scaler", {}),
    (scaled_by_heart, "scaler", {}),
    (fitted_on_all_rows, "forecasts", {}),
    (weighed_with_later_answers, "ensemble", {}),
    (thresholds_of_all, "thresholds", {}),
    (regimes_smoothed, "forecasts", WITH_REGIMES),
    (regimes_on_the_likeliest_path, "forecasts", WITH_REGIMES),
]


@pytest.mark.parametrize(("plant", "stage", "changes"), CHAIN, ids=[plant.__name__ for plant, _, _ in CHAIN])
def test_a_leak_in_the_chain_is_named_with_its_stage(
    plant: Callable[[Patch], None], stage: str, changes: dict[str, Any], monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    found = audit(small(**changes), cuts=FEW)
    assert found.guilty == (stage,)
    assert all(leak.sentence.startswith(f"{stage}:") for leak in found.findings)
    assert stage not in found.consequences


def test_resampling_with_left_labels_is_named(monkeypatch: Patch) -> None:
    weekly = small(
        BarsSettings(frame=synthetic.a1(1600, seed=2), resample="1w"), features=("ret_log_1",),
        schedule=Schedule(minimum=100, train=100, refit=60),
    )  # fmt: skip
    assert audit(weekly, cuts=FEW, full=False).clean
    resampled_to_the_left(monkeypatch)
    assert audit(weekly, cuts=FEW, full=False).guilty == ("bars",)


def test_a_correction_that_is_dated_back_is_named() -> None:
    """L12: what a store holds of a moment must be what was seen at it."""
    now, place = WALK["time"][400], pl.int_range(pl.len())
    seen = WALK[:401]
    corrected = WALK.with_columns(close=pl.when(place == 350).then(pl.col("close") * 1.002).otherwise("close"))
    (leak,) = dated_back(seen, now, corrected)
    assert (leak.stage, leak.column, leak.time, leak.reacts_to) == ("bars", "close", WALK["time"][350], now)
    assert leak.value == pytest.approx(1.002 * WALK["close"][350])
    assert leak.other == WALK["close"][350]
    assert leak.sentence.startswith("bars: the close of")
    later = pl.when(place == 350).then(pl.lit(now) + timedelta(days=1)).otherwise("known_at")
    assert dated_back(seen, now, corrected.with_columns(known_at=later)) == []
    assert dated_back(seen, now, WALK) == []
    (leak,) = dated_back(seen.filter(place != 350), now, WALK)
    assert (leak.column, leak.value, leak.other) == ("row", "there", "not there")
    (leak,) = dated_back(seen, now, WALK.filter(place != 350))
    assert (leak.column, leak.value, leak.other) == ("row", "not there", "there")
    emptied = WALK.with_columns(volume=pl.when(place == 9).then(None).otherwise("volume"))
    assert [one.column for one in dated_back(seen, now, emptied)] == ["volume"]


# ── clean chains ──────────────────────────────────────────────────────────────────────────────────


def hourly(count: int) -> pl.DataFrame:
    """Coins on hourly bars, one hour in a hundred missing."""
    hour = (pl.datetime(2024, 1, 1, time_zone="UTC") + pl.duration(hours=pl.int_range(1, pl.len() + 1))).cast(
        pl.Datetime("us", "UTC")
    )
    bars = synthetic.b1(count, seed=6, r2=0.1).with_columns(asset_class=pl.lit("crypto"))
    return bars.with_columns(time=hour, known_at=hour).filter(pl.int_range(pl.len()) % 101 != 0)


def late(seed: int) -> pl.DataFrame:
    """Two symbols, one row in thirty known days later, one halt of a month."""
    bars = synthetic.b1(600, seed=seed, r2=0.05, symbols=2)
    rng = np.random.default_rng(seed)
    days = np.where(rng.random(len(bars)) < 1 / 30, rng.choice([1, 2, 4, 8, 90], len(bars)), 0)
    wait = pl.Series([timedelta(days=int(one)) for one in days], dtype=pl.Duration("us"))
    place = pl.int_range(pl.len()).over("symbol")
    halt = pl.when((pl.col("symbol") == "B1_1") & (place >= 380)).then(timedelta(days=28)).otherwise(timedelta())
    return make_bars(bars.with_columns(time=pl.col("time") + halt, known_at=pl.col("time") + halt + wait))


def sessions_of_seven(count: int) -> pl.DataFrame:
    """Hourly bars of a market that is open for seven hours."""
    day = pl.lit(np.datetime64("2023-01-02")).cast(pl.Date).dt.add_business_days(pl.int_range(pl.len()) // 7)
    close = day.cast(pl.Datetime("us")) + pl.duration(hours=15 + pl.int_range(pl.len()) % 7)
    bars = synthetic.a1(count, seed=8).with_columns(close.dt.replace_time_zone("UTC").alias("time"))
    return make_bars(bars.drop("segment").with_columns(known_at=pl.col("time")))


@pytest.mark.parametrize(
    "experiment",
    [
        small(synthetic.b1(600, seed=2, r2=0.05, symbols=2), features=("x", "volume_ratio_20"), horizon=1),
        small(hourly(900), features=("ret_log_1", "x"), schedule=Schedule(train=400, refit=168, minimum=300)),
        small(features=("rsi_14", "atr_14", "turn_of_month"), horizon=12, lookback=12,
              schedule=Schedule(expanding=True, refit="3M", minimum=120)),
        small(late(4), features=("x", "ret_log_1"), schedule=Schedule(refit="3M", minimum=200)),
        small(sessions_of_seven(900), features=("ret_log_1",), horizon=7,
              schedule=Schedule(train=300, refit=140, minimum=300)),
    ],
    ids=["two symbols", "hourly", "expanding", "known late", "a horizon of one session"],
)  # fmt: skip
def test_nothing_is_found_in_a_clean_chain(experiment: Experiment) -> None:
    found = audit(experiment, cuts=FEW)
    assert found.findings == ()
    assert found.consequences == ()
    assert any("survivorship" in text for text in found.not_checked)


def test_bars_read_before_they_are_known_are_named(monkeypatch: Patch) -> None:
    experiment = small(late(4), features=("x", "ret_log_1"), schedule=Schedule(refit="3M", minimum=200))
    monkeypatch.setattr(windows, "delays", lambda bars: np.zeros(len(bars), np.int64))
    monkeypatch.setattr(windows, "known_so_far", lambda bars, used, context: to_times(bars, "time"))
    found = audit(experiment, cuts=Cuts(samples=60, fits=2), full=False)
    assert "features" in found.guilty


def test_an_own_honest_feature_is_left_in_peace() -> None:
    register("body", warmup=0, needs=("open", "high", "low", "close"))(lambda o, h, l, c: (c - o) / (h - l + 1e-9))
    register("slow", warmup=40)(lambda close: np.r_[np.full(40, np.nan), np.log(close[40:] / close[:-40])])
    assert audit(small(features=("body", "slow")), cuts=FEW, full=False).clean


def test_too_short_a_history_is_refused_as_the_chain_refuses_it() -> None:
    with pytest.raises(HistoryTooShortError, match="are needed"):
        audit(small(WALK[:100]), cuts=FEW)


# ── the other future ──────────────────────────────────────────────────────────────────────────────


def test_garbage_is_plausible_and_changes_the_future_alone() -> None:
    bars = synthetic.b1(400, seed=3, r2=0.05, symbols=2).with_columns(empty=pl.lit(None, pl.Float64))
    moment = bars["time"].dt.replace_time_zone(None).to_numpy()[250]
    other = Garbage(bars).after(moment)
    assert make_bars(other).equals(other)
    past = pl.Series(bars["time"].dt.replace_time_zone(None).to_numpy() <= moment)
    assert other.filter(past).equals(bars.filter(past))
    for name in ("open", "high", "low", "close", "volume", "x"):
        assert (other.filter(~past)[name] != bars.filter(~past)[name]).mean() > 0.95
    assert other["empty"].null_count() == len(bars)
    assert other.select(pl.col("close").log().diff().over("symbol").abs().max()).item() <= 0.31


# ── the cheap one ─────────────────────────────────────────────────────────────────────────────────


def audited(experiment: Experiment) -> Audit:
    return quick_audit(experiment, make_chain(experiment, experiment.read().bars))


def test_the_quick_audit_of_a_clean_chain_finds_nothing() -> None:
    found = audited(small(synthetic.b1(600, seed=2, r2=0.05, symbols=2), features=("x", "rv_5")))
    assert found.findings == ()
    assert "gatecast audit" in found.summary()


QUICK = {
    "answers_off_by_one": "targets",
    "level_of_all": "regimes",
    "not_purged": "folds",
    "scaled_by_heart": "scaler",
    "weighed_with_later_answers": "ensemble",
    "thresholds_of_all": "thresholds",
}


@pytest.mark.parametrize("plant", [plant for plant, _, _ in CHAIN if plant.__name__ in QUICK], ids=lambda p: p.__name__)
def test_the_quick_audit_names_what_needs_no_refit(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    assert audited(small()).guilty == (QUICK[plant.__name__],)


def test_an_audit_says_it_in_words_and_in_json() -> None:
    register("mine", warmup=0)(off_by_one)
    found = audited(small(features=("ret_log_1", "mine")))
    assert isinstance(found, Audit)
    assert "'mine' of A1" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["guilty"] == ["features"]
