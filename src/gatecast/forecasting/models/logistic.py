"""Logistic regression: direction and regime from the window's summaries, and the regime's own simplest rival."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.models.linear import FittedLinear, design, scaled_inputs, with_memory
from gatecast.forecasting.schedule import EXPANDING, Fold, HalfLife, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


CHOOSING = 1e-4
"""Slope of the mean loss at which the fits end that a penalty is chosen by."""
LEAST_SLOPE = 1e-8
"""That at which the last one ends; forecasts are then within 1e-6 of the exact ones."""

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
    """inverse penalties, scikit-learn's C, to choose from on the validation block"""
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
        chosen = self._chosen(fold) if len(self.strengths) > 1 else {}
        scaler, limits, inputs = scaled_inputs(whole, self.inputs)
        counts = whole.recency(self.half_life)
        weights = {}
        for head in self.heads:
            strength, start = chosen.get(head, (self.strengths[0], None))
            answer = samples.targets[head].value[samples.decided[whole.train]]
            weights[head] = _regression(inputs, answer, counts, strength, start)
        return FittedLinear(self.inputs, scaler, weights, limits=limits)

    def _chosen(self, fold: Fold) -> dict[str, tuple[float, FloatArray]]:
        """Head -> the strength with the smallest validation log loss, and the weights that were learned with it.

        A head without an answer on the validation block is left out.
        """
        scaler, limits, train = scaled_inputs(fold, self.inputs)
        validation = scaler.transform(design(fold.data, fold.validation, self.inputs, limits))
        counts, chosen = fold.recency(self.half_life), {}
        for head in self.heads:
            answers = fold.data.targets[head].value
            target, check = (answers[fold.data.decided[rows]] for rows in (fold.train, fold.validation))
            checked = np.isfinite(check)
            if not checked.any():
                continue
            losses: list[float] = []
            fits: list[FloatArray] = []
            for strength in self.strengths:
                weights = _regression(train, target, counts, strength, fits[-1] if fits else None, CHOOSING)
                odds = weights[0, 0] + validation[checked] @ weights[1:, 0]
                losses.append(float(np.mean(np.logaddexp(0, odds) - check[checked] * odds)))
                fits.append(weights)
            best = int(np.argmin(losses))
            chosen[head] = self.strengths[best], fits[best]
        return chosen


def _regression(
    inputs: FloatArray, target: FloatArray, counts: FloatArray, strength: float,
    start: FloatArray | None = None, slope: float = LEAST_SLOPE,
) -> FloatArray:  # fmt: skip
    """(1 + inputs, 1) intercept and weights; where only one outcome is known, its share is all there is to learn.

    `start`: weights to begin with, else 0. `slope`: the mean loss's slope at which it ends.
    """
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(target)
    answer = target[known]
    if len(answer) == 0 or answer.min() == answer.max():
        rate = (answer.sum() + 1) / (len(answer) + 2)
        return np.asarray([[np.log(rate / (1 - rate))], *([0.0] for _ in inputs.T)])
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=slope, max_iter=50, warm_start=True)
    if start is not None:
        model.classes_, model.intercept_, model.coef_ = np.unique(answer), start[0].copy(), start[1:].T.copy()
    rows = inputs if known.all() else inputs[known]
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, answer, sample_weight=counts[known])
    weights: FloatArray = np.vstack([model.intercept_, model.coef_.T])
    return weights
