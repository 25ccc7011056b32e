"""The forest's trees: as good as scikit-learn's own forest of them, on rows drawn by weight, within the limits set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from gatecast.forecasting.models.forest import FittedForest, Forest

FloatArray = NDArray[np.float64]


def grown(
    forest: Forest, inputs: NDArray[np.float32], answers: FloatArray, weight: FloatArray, seed: int = 0
) -> list[Any]:
    return forest._grow(inputs, answers, weight, np.random.default_rng(seed))


def test_the_forest_forecasts_as_well_as_scikit_learns() -> None:
    draw = np.random.default_rng(4)
    inputs = draw.standard_normal((3000, 10)).astype(np.float32)
    truth = np.column_stack([np.sin(2 * inputs[:, 0]), inputs[:, 1] * (inputs[:, 2] > 0)])
    answers = truth + draw.standard_normal(truth.shape) / 2
    learned, asked = slice(0, 2000), slice(2000, None)
    mine = grown(Forest(trees=60), inputs[learned], answers[learned], np.ones(2000))
    theirs = ExtraTreesRegressor(
        60, max_depth=6, min_samples_leaf=20, max_features=0.66, bootstrap=True, max_samples=1000, random_state=1
    ).fit(inputs[learned], answers[learned])
    forecast = np.mean([tree.predict(inputs[asked])[:, :, 0] for tree in mine], axis=0)
    errors = [((one - truth[asked]) ** 2).mean() for one in (forecast, theirs.predict(inputs[asked]))]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[0] < 0.6 * truth.var()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(2, 300), leaf=st.integers(1, 60), depth=st.integers(1, 8),
    values=st.integers(1, 200),
)  # fmt: skip
def test_what_holds_of_every_tree(seed: int, rows: int, leaf: int, depth: int, values: int) -> None:
    draw = np.random.default_rng(seed)
    inputs = draw.integers(0, values, (rows, 3)).astype(np.float32)
    answers, weight = draw.standard_normal((rows, 2)), draw.random(rows) + 1e-3
    trees = grown(Forest(trees=2, depth=depth, leaf=leaf), inputs, answers, weight, seed)
    for tree in trees:
        reached = np.bincount(tree.apply(inputs), minlength=tree.node_count)[tree.children_left < 0]
        assert tree.max_depth <= depth
        assert tree.node_count == 1 or reached.min() >= min(leaf, max(1, rows // 4))  # more than of those drawn
        assert answers.min() - 1e-12 <= tree.value.min() <= tree.value.max() <= answers.max() + 1e-12
    arrays, told = FittedForest.from_trees(trees, np.zeros(2), np.ones(2), 5).state()
    assert len(arrays["roots"]) == 2
    assert told["horizon"] == 5


def test_rows_are_drawn_by_their_weight() -> None:
    inputs = np.arange(200, dtype=np.float32)[:, None]
    answers = np.where(inputs < 100, 1.0, 1e6)
    none = np.where(inputs[:, 0] < 100, 1.0, 0.0)
    assert all((tree.value == 1.0).all() for tree in grown(Forest(trees=5, leaf=5), inputs, answers, none))
    weight = 2 * inputs[:, 0].astype(np.float64) / 199
    roots = [tree.value[0, 0, 0] for tree in grown(Forest(trees=300), inputs, inputs.astype(np.float64), weight)]
    expected = np.average(inputs[:, 0], weights=weight)
    assert abs(np.mean(roots) - expected) < 4 * np.std(roots) / np.sqrt(300)
