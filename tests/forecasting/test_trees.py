"""Trees in bins: scikit-learn's where every value has a bin of its own, and what holds of every tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from gatecast.forecasting.models.trees import BINS, Tree, bagged, grow, in_bins

FloatArray = NDArray[np.float64]


def walked(tree: Tree, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """(rows,) the leaf of each row."""
    found = np.zeros(len(inputs), np.int64)
    for row, values in enumerate(inputs):
        node = 0
        while tree.feature[node] >= 0:
            goes_left = values[tree.feature[node]] <= tree.threshold[node]
            node = tree.left[node] if goes_left else tree.right[node]
        found[row] = node
    return found


def predicted(trees: list[Tree], inputs: NDArray[np.float32]) -> FloatArray:
    mean: FloatArray = np.mean([tree.value[walked(tree, inputs)] for tree in trees], axis=0)
    return mean


@pytest.mark.parametrize("seed", range(3))
def test_where_each_value_has_a_bin_the_tree_is_scikit_learns(seed: int) -> None:
    draw = np.random.default_rng(seed)
    inputs = draw.integers(0, BINS, (64 * 20, 4)).astype(np.float32)
    inputs[:, 0] = np.repeat(np.arange(BINS), 20)  # each value as often: the quantiles fall between them
    inputs[:, 1:] = draw.permuted(inputs[:, [0, 0, 0]], axis=0)
    answers = np.sin(inputs[:, :2] / 9) + draw.standard_normal((len(inputs), 2)) / 4
    times = draw.integers(1, 4, len(inputs)).astype(np.float64)
    edges, bins = in_bins(inputs)
    nodes = 127
    feature, left, right = (np.full(nodes, -1, np.int32) for _ in range(3))
    cut, value, order = (
        np.zeros(nodes, np.int32),
        np.zeros((nodes, 2)),
        np.tile(np.arange(4, dtype=np.int32), (nodes, 1)),
    )
    sums = np.column_stack([answers * times[:, None], times])
    count = grow(bins, sums, order, 4, 5, 20, feature, cut, left, right, value)
    threshold = edges[np.maximum(feature, 0), cut]
    tree = Tree(feature[:count], threshold[:count], left[:count], right[:count], value[:count])
    theirs = DecisionTreeRegressor(max_depth=5, min_samples_leaf=20).fit(inputs, answers, times)
    np.testing.assert_allclose(predicted([tree], inputs), theirs.predict(inputs), rtol=1e-9, atol=1e-12)
    assert count == theirs.tree_.node_count


def test_the_forest_forecasts_as_well_as_scikit_learns() -> None:
    draw = np.random.default_rng(4)
    inputs = draw.standard_normal((3000, 10)).astype(np.float32)
    truth = np.column_stack([np.sin(2 * inputs[:, 0]), inputs[:, 1] * (inputs[:, 2] > 0)])
    answers = truth + draw.standard_normal(truth.shape) / 2
    learned, asked = slice(0, 2000), slice(2000, None)
    mine = bagged(
        inputs[learned], answers[learned], np.ones(2000), draw, trees=60, drawn=1000, columns=3, depth=6, leaf=20
    )
    theirs = RandomForestRegressor(
        60, max_depth=6, min_samples_leaf=20, max_features=0.33, max_samples=1000, random_state=1
    ).fit(inputs[learned], answers[learned])
    errors = [
        ((one - truth[asked]) ** 2).mean() for one in (predicted(mine, inputs[asked]), theirs.predict(inputs[asked]))
    ]
    assert errors[0] < 1.05 * errors[1] < 0.4 * truth.var()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(2, 300), leaf=st.integers(1, 60), depth=st.integers(1, 8),
    values=st.integers(1, 200),
)  # fmt: skip
def test_what_holds_of_every_tree(seed: int, rows: int, leaf: int, depth: int, values: int) -> None:
    draw = np.random.default_rng(seed)
    inputs = draw.integers(0, values, (rows, 3)).astype(np.float32)
    answers, weight = draw.standard_normal((rows, 2)), draw.random(rows) + 1e-3
    trees = bagged(inputs, answers, weight, draw, trees=2, drawn=rows, columns=1, depth=depth, leaf=leaf)
    for tree in trees:
        inner, number = tree.feature >= 0, np.arange(len(tree.feature))
        assert (tree.left[inner] > number[inner]).all()
        assert (tree.right[inner] > number[inner]).all()
        assert sorted([0, *tree.left[inner], *tree.right[inner]]) == number.tolist()  # each node has one parent
        assert tree.value.min() >= answers.min() - 1e-12
        assert tree.value.max() <= answers.max() + 1e-12
        reached = np.bincount(walked(tree, inputs), minlength=len(number))
        assert (reached[~inner] >= (leaf if inner.any() else 0)).all()  # of all rows; more than of those drawn


def test_a_row_without_weight_is_never_drawn() -> None:
    draw = np.random.default_rng(5)
    inputs = np.arange(200, dtype=np.float32)[:, None]
    answers = np.where(inputs < 100, 1.0, 1e6)
    weight = (inputs[:, 0] < 100).astype(np.float64)
    trees = bagged(inputs, answers, weight, draw, trees=5, drawn=100, columns=1, depth=3, leaf=5)
    assert all((tree.value == 1.0).all() for tree in trees)


def test_the_same_seed_is_the_same_forest_and_another_is_another() -> None:
    draw = np.random.default_rng(6)
    inputs, answers = draw.standard_normal((300, 4)).astype(np.float32), draw.standard_normal((300, 1))
    some = [
        bagged(
            inputs, answers, np.ones(300), np.random.default_rng(seed), trees=3, drawn=150, columns=2, depth=4, leaf=10
        )
        for seed in (1, 1, 2)
    ]
    values = [b"".join(tree.value.tobytes() for tree in trees) for trees in some]
    assert values[0] == values[1] != values[2]
