"""Logistic regression: direction and regime from the window's summaries, and the regime's own simplest rival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.models.linear import FittedLinear, scaled_inputs, with_memory
from gatecast.forecasting.schedule import EXPANDING, Fold, HalfLife, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


MOST_STEPS = 50
LEAST_CURVATURE = 1e-12  # a row, so that inputs without a spread do not matter

ABOUT = {
    "summaries": ("logistic", "logistic regression", "the logistic regression"),
    "distance": ("threshold", "distance to the level", "the distance to the level alone"),
    "har": ("har_regime", "logistic regression on HAR terms", "the logistic regression on the HAR's terms"),
    "har_falls": (
        "har_regime_falls", "logistic regression on HAR terms and falls",
        "the logistic regression on the HAR's terms and falls",
    ),
}  # fmt: skip
"""What it reads -> the name where no other is given, the title, and the title within a sentence."""


@FORECASTERS.add
class Logistic(Forecaster):
    """L2-penalised logistic regression of `heads` on the window's summaries, or on distances to the regime's level.

    The penalty is the one of `strengths` with the smallest validation log loss; with it the weights are learned from
    training and validation rows together.
    """

    kind: ClassVar = "logistic"
    traits: ClassVar = Traits(
        "logistic regression", ("direction", "regime"), Seconds(0.015, 4.5e-6),
        member_of=("return", "direction", "regime"), linear=True,
    )  # fmt: skip
    fitted: ClassVar = FittedLinear

    inputs: Literal["summaries", "distance", "har", "har_falls"] = "summaries"
    """summaries of the window, distance of recent variance to the regime's level, har: also of the mean variances over
    1, 5 and 22 bars, or har_falls: also the falls of 1 and 5 bars"""
    heads: tuple[str, ...] = ("direction", "regime")
    """what it forecasts"""
    strengths: tuple[Annotated[float, Field(gt=0, le=1e12)], ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    """inverse penalties, to choose from on the validation block"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    half_life: HalfLife | None = None
    """years of age that halve a row's weight; left out: none do"""
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    """refits from one training to the next"""

    @property
    def name(self) -> str:
        """`logistic`, or that of the regime's rival which reads the same."""
        return ABOUT[self.inputs][0]

    def traits_with_settings(self) -> Traits:
        """The time that it takes hangs on what it reads, and how far back."""
        if self.inputs != "summaries":
            return replace(self.traits, seconds=Seconds(3e-3, 0, 6e-7))
        return replace(self.traits, seconds=Seconds(7e-3, 0, 1.3e-6)) if self.window == EXPANDING else self.traits

    def title(self) -> str:
        """With what it reads, and what it learns from where that is everything."""
        return with_memory(ABOUT[self.inputs][1], self.window if self.inputs == "summaries" else None)

    def phrase(self) -> str:
        """The title within a sentence."""
        return f"the {self.title()}" if self.inputs == "summaries" else ABOUT[self.inputs][2]

    def member_heads(self) -> tuple[str, ...]:
        """None as the regime's rival."""
        return self.traits.member_of if self.inputs == "summaries" else ()

    def output_heads(self) -> tuple[str, ...]:
        """Its `heads`."""
        return self.heads

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLinear]:
        """One fit a fold, the penalty chosen on its validation rows."""
        return fit_every(self._fit, folds, self.every, task, light=True)

    def _fit(self, fold: Fold) -> FittedLinear:
        fold = fold.windowed(self.window)
        samples, whole = fold.data, replace(fold, train=np.r_[fold.train, fold.validation])
        *_, train, validation = scaled_inputs(fold, self.inputs)
        scaler, limits, inputs, _ = scaled_inputs(whole, self.inputs)
        counts, whole_counts = fold.recency(self.half_life), whole.recency(self.half_life)
        weights = {}
        for head in self.heads:
            answers = samples.targets[head].value
            target, check = answers[samples.decided[fold.train]], answers[samples.decided[fold.validation]]
            strength, start = self._strength(train, target, counts, validation, check)
            weights[head] = regression(inputs, np.r_[target, check], whole_counts, strength, start)[:, None]
        return FittedLinear(self.inputs, scaler, weights, limits=limits)

    def _strength(
        self, train: FloatArray, target: FloatArray, counts: FloatArray, validation: FloatArray, check: FloatArray
    ) -> tuple[float, FloatArray | None]:
        """The one with the smallest validation log loss, and the weights that were learned with it, if any were."""
        checked = np.isfinite(check)
        if len(self.strengths) == 1 or not checked.any():
            return self.strengths[0], None
        losses: list[float] = []
        fits: list[FloatArray] = []
        for strength in self.strengths:
            weights = regression(train, target, counts, strength, fits[-1] if fits else None)
            odds = weights[0] + validation[checked] @ weights[1:]
            losses.append(float(np.mean(np.logaddexp(0, odds) - check[checked] * odds)))
            fits.append(weights)
        best = int(np.argmin(losses))
        return self.strengths[best], fits[best]


def regression(
    inputs: FloatArray, target: FloatArray, counts: FloatArray, strength: float, start: FloatArray | None = None
) -> FloatArray:
    """(1 + inputs,) intercept and weights of an L2-penalised logistic regression, by Newton's method.

    Where only one outcome is known, its share is all there is to learn. NaN in `target` are left out.

    Parameters
    ----------
    counts: (rows,) how much each counts. strength: inverse penalty of the weights; the intercept has none. start: where
        the search begins, which changes no more than rounding; left out: at 0.

    References
    ----------
    Le Cessie and van Houwelingen (1992), Applied Statistics 41.

    >>> inputs = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> regression(inputs, np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4), 1.0).round(4).tolist()
    [-0.2264, 0.4529]
    """
    from scipy.special import expit

    known = np.isfinite(target)
    answer = target[known]
    if len(answer) == 0 or answer.min() == answer.max():
        rate = (answer.sum() + 1) / (len(answer) + 2)
        return np.array([np.log(rate / (1 - rate)), *(0.0 for _ in inputs.T)])
    table = np.column_stack([np.ones(len(answer)), inputs[known]])
    counts, penalty = counts[known], np.full(table.shape[1], 1 / strength)
    penalty[0] = 0.0

    def slopes_at(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        chance = expit(table @ weights)
        return table.T @ (counts * (chance - answer)) + penalty * weights, chance

    weights = np.zeros(table.shape[1]) if start is None else start
    gradient, chance = slopes_at(weights)
    for _ in range(MOST_STEPS):
        root = table * np.sqrt(counts * chance * (1 - chance))[:, None]
        curvature = root.T @ root
        curvature[np.diag_indices_from(curvature)] += penalty + LEAST_CURVATURE * len(answer)
        step = np.linalg.solve(curvature, gradient)
        slope = float(gradient @ step)
        for _ in range(MOST_STEPS):
            gradient, chance = slopes_at(weights - step)
            if gradient @ step >= -0.5 * slope:  # else the step went far beyond the lowest point on its way
                break
            step = step / 2
            slope /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-4:  # its square is the error that remains
            break
    return weights
