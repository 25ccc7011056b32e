"""Training at every n-th refit, and warm starts: what a start may have seen, and that nothing else changes a byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM, FittedLSTM
from gatecast.forecasting.lstm import training as t
from gatecast.forecasting.schedule import Fold, Schedule, warm_starts
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.targets import Target
from gatecast.samples.windows import Samples, make_samples

TINY = LSTM(units=16, layers=1, seeds=1, epochs=2)
WARM = TINY.replace(warm_start=True)
CHOOSY = WARM.replace(epochs=12, patience=12, averaging=0.0, learning_rate=1e-2)
"""Trains long enough for early stopping to choose among epochs, by the answers of its validation block."""
WALK = make_samples(synthetic.a1(1600, seed=3), ("ret_log_1",))["index"]


def refits(samples: Samples, schedule: Schedule | None = None) -> list[Fold]:
    schedule = schedule or Schedule(train="1Y", refit="3M", validation=0.4)
    return [fold.on(samples) for fold in schedule.folds(samples.times, samples.known_at)]


def same(ours: FittedLSTM, theirs: FittedLSTM) -> bool:
    """Whether all weights of all members are the same bytes."""
    return all(
        weights.tobytes() == member[name].tobytes()
        for one, member in zip(ours.members, theirs.members, strict=True)
        for name, weights in one.items()
    )


def answered_otherwise(samples: Samples, after: np.datetime64) -> Samples:
    """The same market, but every answer that became known after a moment is another one."""
    draw = np.random.default_rng(0)

    def other(head: str, target: Target) -> Target:
        value = target.value.copy()
        late = target.known_at > after
        value[late] = draw.permutation(value[late]) if head in ("direction", "regime") else 0.05 - 3 * value[late]
        return replace(target, value=value)

    return replace(samples, targets={head: other(head, target) for head, target in samples.targets.items()})


# ── which fit may be a start ──────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(
    train=st.sampled_from(["1Y", "2Y", "18M", 150, 252]),
    refit=st.sampled_from(["1M", "1W", "3M", "1Y", "10D", 5, 21]),
    share=st.sampled_from([0.05, 0.2, 0.5]),
    expanding=st.booleans(),
    every=st.integers(1, 4),
)
def test_a_start_has_seen_no_answer_of_the_new_validation_block(
    train: str | int, refit: str | int, share: float, expanding: bool, every: int
) -> None:
    schedule = Schedule(train=train, refit=refit, validation=share, expanding=expanding, minimum="6M")
    folds = refits(WALK, schedule)[::every]
    starts = warm_starts(folds)
    known, times = WALK.known_at, WALK.times
    for number, (fold, start) in enumerate(zip(folds, starts, strict=True)):
        block = times[fold.validation].min()
        newest = 0 if start is None else start + 1
        assert all(later.cutoff > block for later in folds[newest:number])
        while start is not None:  # nor has any fit that the start itself began from
            seen = np.r_[folds[start].train, folds[start].validation]
            assert (known[seen] <= block).all()
            assert not np.isin(seen, fold.validation).any()
            start = starts[start]
    assert len(folds) < 20 or any(start is not None for start in starts)


def test_a_later_fit_would_have_seen_the_block_it_is_to_be_validated_on(samples: Samples) -> None:
    folds = refits(samples)
    starts = warm_starts(folds)
    number = next(place for place, start in enumerate(starts) if start is not None and start < place - 1)
    start, unguarded, block = starts[number], number - 1, samples.times[folds[number].validation].min()
    assert start is not None
    other = answered_otherwise(samples, block)
    before, after = CHOOSY.fit_many(folds), CHOOSY.fit_many([fold.on(other) for fold in folds])
    assert same(before[start], after[start])  # whatever comes out in the block
    assert not same(before[unguarded], after[unguarded])
    assert not same(before[number], after[number])  # which answers are its own to learn from


def test_what_an_unguarded_start_would_have_shown(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beginning at last quarter's fit, the weights depend on the block's answers before the first step is made."""
    folds = refits(samples)[:6]
    starts = warm_starts(folds)
    block = samples.times[folds[5].validation].min()
    begun: list[dict[str, np.ndarray]] = []

    def train(*arguments: object) -> t.Fit:
        begun.append(arguments[-1])  # type: ignore[arg-type]
        return t.train_network(*arguments)  # type: ignore[arg-type]

    def last_start(market: Samples) -> dict[str, np.ndarray]:
        CHOOSY.fit_many([fold.on(market) for fold in folds])
        return begun[-1]

    monkeypatch.setattr("gatecast.forecasting.lstm.forecaster.train_network", train)
    other = answered_otherwise(samples, block)
    assert starts[5] is not None
    assert all(last_start(samples)[name].tobytes() == w.tobytes() for name, w in last_start(other).items())

    def newest(folds: list[Fold]) -> list[int | None]:
        return [None, *range(len(folds) - 1)]

    monkeypatch.setattr("gatecast.forecasting.lstm.forecaster.warm_starts", newest)
    assert any(last_start(samples)[name].tobytes() != w.tobytes() for name, w in last_start(other).items())


# ── what a start does ─────────────────────────────────────────────────────────────────────────────


def test_training_begins_at_the_start_and_elsewhere_without_one(samples: Samples) -> None:
    folds = refits(samples)
    starts = warm_starts(folds)
    slow = WARM.replace(learning_rate=1e-12, seeds=2)
    fits = slow.fit_many(folds)
    for number, start in enumerate(starts):
        if start is not None:  # the same member's weights, not another's
            for ours, theirs in zip(fits[number].members, fits[start].members, strict=True):
                for name, weights in ours.items():
                    np.testing.assert_allclose(weights, theirs[name], atol=1e-7)
    cold = slow.replace(warm_start=False).fit_many(folds)
    assert [same(a, b) for a, b in zip(fits, cold, strict=True)] == [start is None for start in starts]
    assert not same(cold[0], cold[-1])


def test_both_engines_start_alike(samples: Samples) -> None:
    folds = refits(samples)[:4]
    assert warm_starts(folds)[-1] is not None
    quick = WARM.replace(epochs=1, dropout=0.0)
    ours, theirs = (quick.replace(engine=engine).fit_many(folds)[-1] for engine in ("compiled", "torch"))
    for name, weights in ours.members[0].items():
        np.testing.assert_allclose(weights, theirs.members[0][name], atol=2e-3)


def test_a_start_that_has_learned_already_still_runs_out_of_patience(samples: Samples) -> None:
    """What counts as learned is measured from the mean's forecast, not from a good start, which it could never beat."""
    fits = WARM.replace(epochs=60, patience=2, learning_rate=5e-3).fit_many(refits(samples))
    assert all(epochs < 60 for fit in fits for epochs in fit.trained)
    assert all(kept <= epochs for fit in fits for kept, epochs in zip(fit.epochs, fit.trained, strict=True))


def test_jobs_change_no_byte_of_a_chain(samples: Samples) -> None:
    folds = refits(samples)
    both = WARM.replace(seeds=2)
    for ours, theirs in zip(both.fit_many(folds), both.fit_many(folds, Task(jobs=2)), strict=True):
        assert same(ours, theirs)


def test_networks_kept_of_a_chain_are_taken_for_no_others(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = refits(samples)
    starts = warm_starts(folds)
    cold, warm = TINY.fit_many(folds), WARM.fit_many(folds)
    kept, trained = Task(resume=tmp_path), []

    def train(*arguments: object) -> t.Fit:
        if len(trained) == len(folds) - 1:
            raise KeyboardInterrupt
        trained.append(arguments)
        return t.train_network(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("gatecast.forecasting.lstm.forecaster.train_network", train)
    with pytest.raises(KeyboardInterrupt):
        WARM.fit_many(folds, kept)
    trained.clear()
    again = WARM.fit_many(folds, kept)
    assert len(trained) == 1  # the rest goes on from the folder
    assert all(same(a, b) for a, b in zip(again, warm, strict=True))
    trained.clear()
    beside = TINY.fit_many(folds, kept)
    assert len(trained) == sum(start is not None for start in starts)  # those that began cold are the same networks
    assert all(same(a, b) for a, b in zip(beside, cold, strict=True))
    trained.clear()
    TINY.replace(every=2).fit_many(folds, kept)
    assert trained == []


# ── every ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_folds_in_between_use_the_last_fit(samples: Samples, every: int) -> None:
    folds = refits(samples)
    monthly, seldom = TINY.fit_many(folds), TINY.replace(every=every).fit_many(folds)
    assert len(seldom) == len(folds)
    for number, fit in enumerate(seldom):
        assert fit is seldom[number - number % every]
        assert same(fit, monthly[number - number % every])


def test_a_trained_fold_is_told_once_and_forecasts_go_on(samples: Samples) -> None:
    told: list[tuple[str, int]] = []
    schedule = Schedule(train="1Y", refit="3M")
    variants = {"lstm": TINY, "seldom": TINY.replace(every=3, seeds=2, selection=True)}

    def note(model: str, count: int) -> None:
        told.append((model, count))

    report: Callable[[str, int], None] = note
    forecasts = walk_forward(variants, samples, schedule, progress=report)
    trained = -(-len(forecasts.folds) // 3)
    assert sum(count for model, count in told if model == "seldom") == 2 * trained
    assert {"lstm", "seldom"} == set(forecasts.values)
    for heads in forecasts.values.values():
        assert np.isfinite(heads["direction"][forecasts.rows]).all()
    selected = forecasts.fitted["seldom"].selected  # type: ignore[attr-defined]
    assert selected.shape == (trained, 2)
    first = forecasts.folds[0].test
    assert not np.array_equal(*(forecasts.values[name]["direction"][first] for name in ("lstm", "seldom")))
