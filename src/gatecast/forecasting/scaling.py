"""Scalers: fitted on training rows inside `fit`, stored with the fitted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Kind = Literal["zscore", "minmax"]

ROUNDING = 1e-15  # a spread that the rounding of numbers around 1 makes by itself


@dataclass(frozen=True)
class Scaler:
    """(value - centre) / spread, clipped to `limit` spreads; a constant column becomes 0. Arrays are (columns,)."""

    centre: FloatArray
    spread: FloatArray
    limit: float = 8.0

    @classmethod
    def fit(cls, values: FloatArray, kind: Kind = "zscore") -> Scaler:
        """From (rows, columns) of training data: mean and standard deviation, or minimum and range.

        >>> Scaler.fit(np.array([[1.0], [3.0]])).transform(np.array([[2.0], [4.0]])).ravel().tolist()
        [0.0, 2.0]
        """
        if kind == "minmax":
            centre, spread = values.min(0), np.ptp(values, axis=0)
        else:
            centre, spread = values.mean(0), values.std(0)
        constant = spread <= np.maximum(ROUNDING, 1e-12 * np.abs(centre))
        return cls(centre, np.where(constant, np.inf, spread))

    def transform(self, values: FloatArray) -> FloatArray:
        """Scaled values, same shape; NaN stays NaN."""
        return np.clip((values - self.centre) / self.spread, -self.limit, self.limit)


def smearing_factor(log_error: FloatArray) -> float:
    """Mean of exp(error of a log forecast), kept in [1/2, 2]: Duan (1983), JASA 78.

    >>> smearing_factor(np.array([0.0, 0.0]))
    1.0
    """
    return float(np.clip(np.mean(np.exp(np.clip(log_error[np.isfinite(log_error)], -5, 5))), 0.5, 2.0))
