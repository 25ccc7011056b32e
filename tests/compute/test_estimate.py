"""What there is to do is counted before it is done, and the time left follows rows and what was timed."""

from __future__ import annotations

import numpy as np
import pytest

from gatecast.compute.estimate import COMBINING, SCORING, Cost, Estimate, Work, peak_memory
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Schedule, known_by, work_of
from gatecast.samples.windows import Samples

MODELS = ("lstm", "forest", "logistic", "har", "ensemble", "scores")
USUAL = {name: PANEL[name].forecaster.traits_with_settings().seconds for name in MODELS[:4]} | {
    "ensemble": COMBINING,
    "scores": SCORING,
}
SMALL, LARGE = Work(3_000, 2, 240, 100_000, 400_000), Work(90_000, 60, 240, 3_000_000, 12_000_000)
SLOWER = {"lstm": 3.0, "forest": 1.5, "logistic": 2.0, "har": 2.5, "ensemble": 2.0, "scores": 2.0}


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def truth(work: Work, model: str) -> float:
    """The seconds that a model needs on a machine that is slower, for each model in its own way."""
    usual = USUAL[model]
    each = usual.refit * work.refits + usual.row * work.rows + usual.record * work.record
    return SLOWER[model] * (each + usual.bar * work.bars)


def played(classes: dict[str, Work], until: str) -> tuple[Estimate, float]:
    """An estimate after the classes up to that one ran, and the seconds that the others will take."""
    clock = Clock()
    estimate = Estimate(USUAL, clock=clock)
    clock.now += 50  # of reading, which is no stage's
    compiling = {"lstm": 100.0}
    estimate.plan(classes)
    left = sum(truth(work, model) for work in classes.values() for model in MODELS)
    for name, work in classes.items():
        for model in MODELS[:-1]:
            for done in range(1, work.refits + 1):
                clock.now += truth(work, model) / work.refits + compiling.pop(model, 0.0)
                estimate.done(name, model, done, work.refits)
            left -= truth(work, model)
        if name == until:
            break
    return estimate, left


def test_the_work_is_counted_from_the_folds(samples: Samples) -> None:
    folds = [fold.on(samples) for fold in Schedule(refit="3M").folds(samples.times, samples.known_at)]
    work = work_of(samples, folds)
    assert (work.bars, work.symbols, work.refits) == (len(samples.time), 2, len(folds))
    assert work.rows == sum(len(fold.train) + len(fold.validation) for fold in folds)
    assert work.record == sum(np.count_nonzero(known_by(samples.known_at, fold.cutoff)) for fold in folds)
    assert work_of(samples, []) == Work(len(samples.time), 2, 0, 0, 0)


def test_a_small_class_tells_how_long_a_large_one_takes() -> None:
    estimate, left = played({"metal": SMALL, "equity": LARGE}, until="metal")
    assert left > 15 * (estimate.passed - 150)  # a guess by the number of classes would be wrong by as much
    assert estimate.left == pytest.approx(left, rel=0.15)


def test_the_estimate_shrinks_to_what_is_counted_at_the_end() -> None:
    first, _ = played({"metal": SMALL, "equity": LARGE}, until="metal")
    last, left = played({"metal": SMALL, "equity": LARGE}, until="equity")
    assert last.left < first.left
    assert last.left == pytest.approx(left, rel=0.5)  # scores were never timed: 1.5 to 3 times as slow, as the others


def test_before_anything_was_timed_it_is_the_usual_cost() -> None:
    estimate = Estimate(USUAL)
    assert estimate.left == 0
    estimate.plan({"metal": SMALL, "equity": LARGE})
    usual = sum(truth(work, model) / SLOWER[model] for work in (SMALL, LARGE) for model in MODELS)
    assert estimate.left == pytest.approx(usual)
    halved = Estimate({name: one.times(0.5) for name, one in USUAL.items()})
    halved.plan({"metal": SMALL, "equity": LARGE})
    assert halved.left == pytest.approx(usual / 2)


def test_networks_that_were_kept_make_the_rest_look_short() -> None:
    clock = Clock()
    estimate = Estimate({"lstm": USUAL["lstm"]}, clock=clock)
    estimate.plan({"metal": SMALL, "equity": LARGE})
    before = estimate.left
    clock.now += 0.01
    estimate.done("metal", "lstm", 60, 60)
    assert estimate.left < before / 5


def test_a_model_without_a_usual_cost_counts_for_nothing() -> None:
    clock = Clock()
    estimate = Estimate(USUAL, clock=clock)
    estimate.plan({"metal": SMALL})
    before = estimate.left
    clock.now += 5
    estimate.done("metal", "zero", 60, 60)
    assert estimate.left == pytest.approx(before)


def test_what_a_run_took() -> None:
    cost = Cost.since(-1e12, 10**12)  # longer ago than any clock goes back
    assert cost.seconds > 1e12
    assert cost.bars_per_second == pytest.approx(1.0, abs=0.1)
    peak = peak_memory()
    if peak is not None:
        held = np.ones(30_000_000)  # a quarter of a gigabyte
        assert held.nbytes < peak_memory()  # type: ignore[operator]
        assert peak > 20e6
