"""Logistic regression: direction and regime from the window's summaries, and the regime's own simplest rival."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gatecast.forecasting.forecaster import Progress
from gatecast.forecasting.linear import FittedLinear, fit_seldom, scaled_inputs
from gatecast.forecasting.schedule import EXPANDING, Fold, HalfLife, Window
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


class Logistic(Settings):
    """L2-penalised logistic regression of `heads` on the window's summaries, or on distances to the regime's level.

    The penalty is the one of `strengths` with the smallest validation log loss; with it the weights are learned from
    training and validation rows together.
    """

    inputs: str = "summaries"
    """summaries of the window, distance of recent variance to the regime's level, har: also of the mean variances over
    1, 5 and 22 bars, or har_falls: also the falls of 1 and 5 bars"""
    heads: tuple[str, ...] = ("direction", "regime")
    """what it forecasts"""
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    """inverse penalties, scikit-learn's C, to choose from on the validation block"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    half_life: HalfLife | None = None
    """years of age that halve a row's weight; left out: none do"""
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    """refits from one training to the next"""
    label: str = "logistic"
    """its name in the forecasts"""

    @property
    def name(self) -> str:
        """`logistic`, or the label of a special one."""
        return self.label

    def fit_many(self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None) -> list[FittedLinear]:
        """One fit a fold, the penalty chosen on its validation rows."""
        return fit_seldom(self._fit, folds, self.every, progress)

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
            strength = self._strength(train, target, counts, validation, check)
            weights[head] = _regression(inputs, np.r_[target, check], whole_counts, strength)
        return FittedLinear(self.inputs, scaler, weights, limits=limits)

    def _strength(
        self, train: FloatArray, target: FloatArray, counts: FloatArray, validation: FloatArray, check: FloatArray
    ) -> float:
        """The one with the smallest validation log loss."""
        checked = np.isfinite(check)
        if len(self.strengths) == 1 or not checked.any():
            return self.strengths[0]
        losses = []
        for strength in self.strengths:
            weights = _regression(train, target, counts, strength)
            odds = weights[0, 0] + validation[checked] @ weights[1:, 0]
            losses.append(float(np.mean(np.logaddexp(0, odds) - check[checked] * odds)))
        return self.strengths[int(np.argmin(losses))]


def _regression(inputs: FloatArray, target: FloatArray, counts: FloatArray, strength: float) -> FloatArray:
    """(1 + inputs, 1) intercept and weights; where only one outcome is known, its share is all there is to learn."""
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(target)
    if len(np.unique(target[known])) < 2:
        rate = (np.nansum(target) + 1) / (known.sum() + 2)
        return np.asarray([[np.log(rate / (1 - rate))], *([0.0] for _ in inputs.T)])
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=50).fit(
            inputs[known], target[known], counts[known]
        )
    weights: FloatArray = np.r_[model.intercept_, model.coef_[0]][:, None]
    return weights


def threshold_rival() -> Logistic:
    """Logistic regression of the regime on log variance minus the regime's level: a baseline of that head."""
    return Logistic(inputs="distance", heads=("regime",), strengths=(1.0,), label="threshold")


def har_regime_rival() -> Logistic:
    """With the distances of the HAR's three mean variances too, on everything known: the strongest cheap rival."""
    return Logistic(
        inputs="har", heads=("regime",), strengths=(1.0,), window=EXPANDING, half_life=4.0, label="har_regime"
    )


def har_regime_falls_rival() -> Logistic:
    """The same with the falls of one and five bars: variance rises after falls (Corsi and Renò 2012)."""
    changed: Logistic = har_regime_rival().replace(inputs="har_falls", label="har_regime_falls")
    return changed
