"""Permutation importance: a planted column is worth most, one that says nothing nothing, and it is repeated."""

from __future__ import annotations

import numpy as np
import pytest

from gatecast.forecasting.importance import OutOfSample, _out_of_order, permutation_importance
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.har import LinearVariance
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples


@pytest.fixture(scope="module")
def planted() -> Samples:
    """x predicts 8 % of the next bar's variance, `ret_log_1` nothing."""
    return make_samples(synthetic.b1(1500, seed=2, r2=0.08, symbols=2), ("ret_log_1", "x"))["index"]


def blocks_of(samples: Samples, forecaster: Ridge | Forest | LinearVariance) -> list[OutOfSample]:
    """Each refit and the block that it forecast."""
    folds = [fold.on(samples) for fold in Schedule(refit="1Y").folds(samples.times, samples.known_at)]
    fits = forecaster.fit_many(folds)
    return [OutOfSample(fit, samples, fold.test, fold.cutoff) for fit, fold in zip(fits, folds, strict=True)]


@pytest.mark.parametrize("forecaster", [Ridge(), Forest(trees=30)])
def test_the_planted_column_is_worth_most(planted: Samples, forecaster: Ridge | Forest) -> None:
    found = permutation_importance(blocks_of(planted, forecaster), "return")
    assert found[0].input == "x"
    assert found[0].rise > 5 * found[0].spread
    assert found[0].rise > 5 * abs(found[1].rise)


def test_the_loss_is_that_of_the_forecasts_as_they_are(planted: Samples) -> None:
    blocks = blocks_of(planted, Ridge())
    losses = []
    for one in blocks:
        answer = planted.targets["return"].value[planted.decided[one.rows], -1]
        error = answer - one.fit.predict(planted, one.rows)["return"][:, -1]
        losses.append(error**2 / planted.unit[one.rows, -1] ** 2)
    known = np.concatenate(losses)
    known = known[np.isfinite(known)]
    found = permutation_importance(blocks, "return")[0]
    assert found.loss == pytest.approx(known.mean(), rel=1e-12)
    assert found.rows == len(known)


def test_the_same_again_and_whatever_inputs_stand_beside_it(planted: Samples) -> None:
    blocks = blocks_of(planted, LinearVariance(pooled=True))
    once, again = (permutation_importance(blocks, "volatility", repeats=2) for _ in range(2))
    assert once == again
    assert {one.input for one in once} & set(planted.names) == set()  # it reads none of them
    bare = make_samples(synthetic.b1(1500, seed=2, r2=0.08, symbols=2), ("x",))["index"]
    fewer = permutation_importance(blocks_of(bare, LinearVariance(pooled=True)), "volatility", repeats=2)
    assert {one.input: one.rise for one in fewer} == pytest.approx({one.input: one.rise for one in once})


def test_blocks_change_places_within_a_symbol_and_no_later_bar_is_read(planted: Samples) -> None:
    one = blocks_of(planted, Ridge())[0]
    moved = _out_of_order(one, "x", 10, 0, 0)
    place = planted.names.index("x")
    before, after = planted.features[:, place], moved.features[:, place]
    ends, changed = planted.ends[one.rows], np.flatnonzero(before != after)
    assert changed.max() <= ends.max()
    assert len(changed) > 100
    for number in range(2):
        own = (planted.symbol == number) & np.isfinite(before)
        np.testing.assert_array_equal(np.sort(before[own]), np.sort(after[own]))
    inside = np.diff(np.searchsorted(np.sort(before[np.isfinite(before)]), after[changed[:200]]))
    same = np.diff(np.searchsorted(np.sort(before[np.isfinite(before)]), before))
    assert np.isin(inside, same).mean() > 0.6  # most neighbours are as they were: blocks, not single bars
    np.testing.assert_array_equal(planted.features[:, 0], moved.features[:, 0])


def test_nothing_of_a_head_that_is_not_forecast(planted: Samples) -> None:
    assert permutation_importance(blocks_of(planted, Ridge()), "regime") == []
