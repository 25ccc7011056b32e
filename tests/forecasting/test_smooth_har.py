"""The HAR of smoothed variances: coefficients of at least 0, fitted on what was known, linear in variance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from gatecast.errors import StoreError
from gatecast.forecasting.forecaster import from_state
from gatecast.forecasting.models.har import FittedSmoothHAR, LogHAR, SmoothHAR
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market import synthetic
from gatecast.samples.variance import SMOOTHED
from gatecast.samples.windows import Samples, make_samples


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    samples = make_samples(synthetic.g4(1500, seed=3, symbols=2), ("ret_log_1",), horizon=5)["index"]
    return [fold.on(samples) for fold in Schedule(refit="6M").folds(samples.times, samples.known_at)]


def fitted(fold: Fold, **settings: tuple[float | None, ...]) -> FittedSmoothHAR:
    (one,) = SmoothHAR(**settings).fit_many([fold])
    return one


def test_it_is_least_squares_of_relative_errors_with_a_bound_at_0(folds: list[Fold]) -> None:
    fold, found = folds[-1], []
    samples = fold.data
    ends = samples.ends[fold.record]
    size = np.exp(samples.facts.har[ends] @ [0.2, 0.4, 0.4])
    answer = np.exp(samples.targets["volatility"].value[ends]) / 5
    age = (fold.cutoff - samples.time[ends]) / np.timedelta64(1, "D") / 365.25
    for half_life in (2.0, np.inf):
        root = 0.5 ** (age / half_life / 2) / size
        found.append(lsq_linear(samples.facts.smoothed[ends] * root[:, None], answer * root, (0, np.inf)).x)
        alone = fitted(fold, half_lives=(half_life if half_life < 99 else None,))
        now = samples.facts.smoothed[samples.ends[fold.test]]
        expected = 5 * now @ found[-1]
        np.testing.assert_allclose(alone.predict(samples, fold.test)["volatility"], expected, rtol=1e-3)
    both = fitted(fold).predict(samples, fold.test)["volatility"]
    np.testing.assert_allclose(both, 5 * now @ np.mean(found, axis=0), rtol=1e-3)


def test_nothing_after_the_cutoff_is_learned_from(folds: list[Fold]) -> None:
    fold = folds[3]
    samples = fold.data
    target = samples.targets["volatility"]
    unknown = ~(target.known_at <= fold.cutoff)
    garbage: Samples = replace(
        samples,
        targets={**samples.targets, "volatility": replace(target, value=np.where(unknown, 3.0, target.value))},
        facts=replace(
            samples.facts, smoothed=np.where((samples.time > fold.cutoff)[:, None], 9.0, samples.facts.smoothed)
        ),
    )
    np.testing.assert_array_equal(fitted(fold).weights, fitted(fold.on(garbage)).weights)


def test_where_falls_raise_variance_it_beats_the_har(folds: list[Fold]) -> None:
    loss = []
    for fold in folds[1:]:
        samples = fold.data
        rows = fold.test[np.isfinite(samples.targets["volatility"].value[samples.ends[fold.test]])]
        answer = samples.targets["volatility"].value[samples.ends[rows]]
        (har,) = LogHAR().fit_many([fold])
        both = [model.predict(samples, rows)["volatility"] for model in (fitted(fold), har)]
        assert (both[0] > 0).all()
        loss.append([np.mean(np.exp(answer) / one - answer + np.log(one)) for one in both])
    ours, theirs = np.mean(loss, axis=0) - 1
    assert ours < theirs


def test_it_is_linear_in_variance_and_never_0(folds: list[Fold]) -> None:
    fold = folds[-1]
    samples, one = fold.data, fitted(fold)
    whole = one.predict(samples, fold.test)["volatility"]
    shocked = replace(samples, facts=replace(samples.facts, smoothed=10 * samples.facts.smoothed))
    np.testing.assert_allclose(one.predict(shocked, fold.test)["volatility"], 10 * whole)
    np.testing.assert_array_equal(one.predict(samples, fold.test[3:9])["volatility"], whole[3:9])
    nothing = FittedSmoothHAR(np.zeros(len(SMOOTHED)))
    assert (nothing.predict(samples, fold.test)["volatility"] > 0).all()


def test_a_stored_one_forecasts_the_same(folds: list[Fold]) -> None:
    fold = folds[-1]
    one = fitted(fold)
    again = type(one).from_state(*one.state())
    assert np.array_equal(
        again.predict(fold.data, fold.test)["volatility"], one.predict(fold.data, fold.test)["volatility"]
    )
    with pytest.raises(StoreError, match="lacks or mangles"):
        from_state({"weights": np.ones(3)}, {"kind": "smooth_har"})
