"""Logistic regression: direction and regime from the window's summaries, and the regime's own simplest rival."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.forecaster import Progress, fan_out
from gatecast.forecasting.linear import FittedLinear, scaled_inputs
from gatecast.forecasting.schedule import Fold
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


class Logistic(Settings):
    """L2-penalised logistic regression of `heads` on the window's summaries, or on the distance to the regime's level.

    The penalty is the one of `strengths` (inverse, as scikit-learn's C) with the smallest validation log loss.
    """

    inputs: str = "summaries"
    heads: tuple[str, ...] = ("direction", "regime")
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    label: str = "logistic"

    @property
    def name(self) -> str:
        """`logistic`, or the label of a special one."""
        return self.label

    def fit_many(self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None) -> list[FittedLinear]:
        """One fit a fold: weights from its training rows, the penalty from its validation rows."""
        return fan_out(self._fit, folds, jobs=jobs, progress=progress)

    def _fit(self, fold: Fold) -> FittedLinear:
        samples = fold.data
        scaler, train, validation = scaled_inputs(fold, self.inputs)
        weights = {}
        for head in self.heads:
            answers = samples.targets[head].value
            target, check = answers[samples.ends[fold.train]], answers[samples.ends[fold.validation]]
            weights[head] = self._weights(train, target, validation, check)
        return FittedLinear(self.inputs, scaler, weights)

    def _weights(self, train: FloatArray, target: FloatArray, validation: FloatArray, check: FloatArray) -> FloatArray:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        known, checked = np.isfinite(target), np.isfinite(check)
        rate = (np.nansum(target) + 1) / (known.sum() + 2)
        best, best_loss = np.zeros((1 + train.shape[1], 1)), np.inf
        best[0] = np.log(rate / (1 - rate))
        if len(np.unique(target[known])) < 2:  # only one outcome so far: its share is all there is to learn
            return best
        for strength in self.strengths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=50).fit(
                    train[known], target[known]
                )
            weights = np.r_[model.intercept_, model.coef_[0]][:, None]
            odds = weights[0, 0] + validation[checked] @ weights[1:, 0]
            loss = float(np.mean(np.logaddexp(0, odds) - check[checked] * odds)) if checked.any() else 0.0
            if loss < best_loss:
                best, best_loss = weights, loss
        return best


def threshold_rival() -> Logistic:
    """A label made by a threshold is partly known from the distance to it: the regime head's own rival."""
    return Logistic(inputs="distance", heads=("regime",), strengths=(1.0,), label="threshold")
