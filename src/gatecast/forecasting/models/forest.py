"""A random forest on summaries of the window: one multi-output forest for all heads, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.forecaster import (
    ALONE,
    FORECASTERS,
    Forecaster,
    Task,
    Traits,
    centre_and_spread,
    fit_every,
    seed_of,
)
from gatecast.forecasting.scaling import smearing_factor
from gatecast.forecasting.schedule import Fold, HalfLife, Window
from gatecast.forecasting.stored import array_of, number_in
from gatecast.samples.targets import HEADS, columns_of, decode
from gatecast.settings import LARGEST_SEED, MOST_BARS, SHARED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class FittedForest:
    """All trees as one set of nodes: `feature` (-1 in a leaf), `threshold`, `left`, `right`, `value` (nodes, outputs).

    `roots` is each tree's first node. Values are in the encoded table's unit.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    roots: NDArray[np.int32]
    horizon: int
    smear: float = 1.0

    @classmethod
    def from_trees(cls, trees: list[Any], centre: FloatArray, spread: FloatArray, horizon: int) -> FittedForest:
        """From scikit-learn's trees, whose values are scaled answers."""
        counts = np.array([tree.node_count for tree in trees])
        roots = np.r_[0, np.cumsum(counts)[:-1]]
        left = np.concatenate(
            [np.where(t.children_left < 0, -1, t.children_left + r) for t, r in zip(trees, roots, strict=True)]
        )
        right = np.concatenate(
            [np.where(t.children_right < 0, -1, t.children_right + r) for t, r in zip(trees, roots, strict=True)]
        )
        feature = np.concatenate([np.where(t.feature < 0, -1, t.feature) for t in trees])
        value = np.concatenate([t.value[:, :, 0] for t in trees]) * spread + centre
        return cls(
            feature.astype(np.int32), np.concatenate([t.threshold for t in trees]), left.astype(np.int32),
            right.astype(np.int32), value, roots.astype(np.int32), horizon,
        )  # fmt: skip

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; all heads."""
        outputs, ends = self._outputs(samples, rows), samples.ends[rows]
        outputs[:, columns_of(self.horizon)["volatility"]] += np.log(self.smear)
        sigma, baseline = samples.facts.sigma[ends], samples.facts.baseline[ends]
        return {
            head: decode(head, outputs[:, part], sigma, baseline) for head, part in columns_of(self.horizon).items()
        }

    def _outputs(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(rows, outputs): all trees are walked at once, a level at a time."""
        inputs = samples.summaries_of(rows).astype(np.float32)
        node = np.tile(self.roots, (len(rows), 1))
        number = np.arange(len(rows))[:, None]
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                mean: FloatArray = self.value[node].mean(1)
                return mean
            goes_left = inputs[number, np.maximum(feature, 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        names = ("feature", "threshold", "left", "right", "value", "roots")
        return {name: getattr(self, name) for name in names}, {
            "horizon": self.horizon, "smear": self.smear,
        }  # fmt: skip

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedForest:
        """The inverse of `state`; refuses trees whose children do not come after their parents."""
        horizon = int(number_in(settings, "horizon", 1, 22))
        feature = array_of(arrays, "feature", None, dtype=np.int32)
        nodes = len(feature)
        left, right = (array_of(arrays, name, nodes, dtype=np.int32) for name in ("left", "right"))
        forest = cls(
            feature, array_of(arrays, "threshold", nodes), left, right, array_of(arrays, "value", nodes, horizon + 3),
            array_of(arrays, "roots", None, dtype=np.int32), horizon, number_in(settings, "smear", 0.5, 2.0),
        )  # fmt: skip
        number, inner = np.arange(nodes), feature >= 0
        for child in (left, right):
            if np.any(child[inner] <= number[inner]) or np.any(child[inner] >= nodes):
                raise ValueError("a tree's child, which does not come after its parent")
        if len(forest.roots) == 0 or forest.roots.min() < 0 or forest.roots.max() >= nodes or feature.max() >= 10_000:
            raise ValueError("the first node of a tree, or the feature of one")
        return forest


@FORECASTERS.add
class Forest(Forecaster):
    """A random forest with the mean of all heads in every leaf: Breiman (2001), Machine Learning 45.

    Thresholds are drawn at random, one for each input that is tried, and the best of them splits: Geurts, Ernst and
    Wehenkel (2006), Machine Learning 63.
    """

    kind: ClassVar = "forest"
    traits: ClassVar = Traits(
        "random forest", HEADS, Seconds(0.007, 5e-6, parallel=True), member_of=("return", "direction", "regime")
    )
    fitted: ClassVar = FittedForest

    trees: Annotated[int, Field(ge=1, le=2000)] = 20
    """number of trees"""
    depth: Annotated[int, Field(ge=1, le=30)] = 6
    """depth of a tree, at most"""
    leaf: Annotated[int, Field(ge=1, le=MOST_BARS)] = 20
    """rows in a leaf, at least"""
    columns: Annotated[float, Field(gt=0, le=1)] = 0.66
    """share of inputs tried at a split"""
    rows: Annotated[float, Field(gt=0, le=1)] = 0.5
    """share of the rows drawn for each tree; answers over h bars overlap, so that most rows of a window say the same"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    half_life: HalfLife | None = None
    """years of age that halve a row's weight; left out: none do"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), SHARED] = 0
    """what is drawn follows from it"""

    def relative_work(self) -> float:
        """By the number of trees."""
        return self.trees / 20

    def lightened(self) -> Forest:
        """Five trees."""
        light: Forest = self.replace(trees=5)
        return light

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedForest]:
        """One forest a fold, from its training rows alone (the validation rows give its signals their scale)."""
        return fit_every(self._fit, folds, 1, task, jobs=task.jobs)

    def _fit(self, fold: Fold) -> FittedForest:
        fold = fold.windowed(self.window)
        samples = fold.data
        table = samples.answers[fold.train]
        centre, spread = centre_and_spread(table)
        answers = np.nan_to_num((table - centre) / spread)  # no answer counts as the average one
        weight = np.ones(len(table)) if self.half_life is None else fold.recency(self.half_life)
        draw = np.random.default_rng(seed_of(self.seed, samples.asset_class, fold.cutoff))
        trees = self._grow(samples.summaries[fold.train].astype(np.float32), answers, weight, draw)
        forest = FittedForest.from_trees(trees, centre, spread, samples.horizon)
        column = columns_of(samples.horizon)["volatility"].start
        error = samples.answers[fold.validation, column] - forest._outputs(samples, fold.validation)[:, column]
        return FittedForest(**{**forest.__dict__, "smear": smearing_factor(error)})

    def _grow(
        self, inputs: NDArray[np.float32], answers: FloatArray, weight: FloatArray, draw: np.random.Generator
    ) -> list[Any]:
        """Each tree on rows drawn with replacement, in proportion to their weight.

        scikit-learn's forest is these trees, with a copy of all settings and checks of all inputs for each, which cost
        more than the tree.
        """
        from sklearn import config_context
        from sklearn.tree import ExtraTreeRegressor

        drawn, chance = max(int(self.rows * weight.sum()), 1), weight / weight.sum()
        grown = []
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for _ in range(self.trees):
                times = np.bincount(draw.choice(len(weight), drawn, p=chance), minlength=len(weight))
                tree = ExtraTreeRegressor(
                    max_depth=self.depth, min_samples_leaf=min(self.leaf, max(1, len(weight) // 4)),
                    max_features=self.columns, random_state=int(draw.integers(LARGEST_SEED)),
                )  # fmt: skip
                grown.append(tree.fit(inputs, answers, times.astype(np.float64), check_input=False).tree_)
        return grown
