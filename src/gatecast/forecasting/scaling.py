"""Scalers: fitted on training rows inside `fit`, stored with the fitted model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Kind = Literal["zscore", "minmax"]
FAR = 20.0  # robust standard deviations from the median: a value further away counts as so many
OUTLIERS = 0.25  # share of a column's values that can be outliers; where more are far, the column has several scales
CONSTANT = 1e-12  # a spread of no more, in units of the value or of 1, is rounding

ROUNDING = 1e-15  # a spread that the rounding of numbers around 1 makes by itself


@dataclass(frozen=True)
class Scaler:
    """(value - centre) / spread, clipped to `limit` spreads; a constant column becomes 0. Arrays are (columns,)."""

    centre: FloatArray
    spread: FloatArray
    limit: float = 8.0

    @classmethod
    def fit(cls, values: FloatArray, kind: Kind = "zscore") -> Scaler:
        """From (rows, columns) of training data without far values: mean and standard deviation, or minimum and range.

        See `limit_far`.

        >>> Scaler.fit(np.array([[1.0], [3.0]])).transform(np.array([[2.0], [4.0]])).ravel().tolist()
        [0.0, 2.0]
        """
        values = limit_far(values)
        if kind == "minmax":
            centre, spread = values.min(0), np.ptp(values, axis=0)
        else:
            centre = values.mean(0)
            spread = values.std(0, mean=centre[None])
        constant = spread <= np.maximum(ROUNDING, CONSTANT * np.abs(centre))
        return cls(centre, np.where(constant, np.inf, spread))

    def transform(self, values: FloatArray) -> FloatArray:
        """Scaled values, same shape; NaN stays NaN."""
        scaled = values - self.centre
        scaled /= self.spread
        return np.clip(scaled, -self.limit, self.limit, out=scaled)


def robust_spread(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(columns,) median and robust standard deviation of (rows, columns) values.

    The latter is 1.4826 times the median distance from the median; where most values are the median, that of the
    others; infinite where all are.

    >>> robust_spread(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 5.0]]))
    (array([2., 0.]), array([1.4826, 7.413 ]))
    """
    return _distances(values)[:2]


def _distances(values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """See `robust_spread`; and the (columns, rows) distances from the median, in no order."""
    columns = np.array(values.T, order="C")
    with np.errstate(invalid="ignore"):
        middle = _medians(columns)
        away = np.abs(np.subtract(columns, middle[:, None], out=columns), out=columns)
        typical = _medians(away)
    rounding = CONSTANT * np.maximum(1.0, np.abs(middle))
    for column in np.flatnonzero(typical <= rounding):
        others = away[column][away[column] > rounding[column]]
        typical[column] = np.median(others) if len(others) else np.inf
    return middle, 1.4826 * typical, away


def _medians(columns: FloatArray) -> FloatArray:
    """(columns,) medians of (columns, rows), whose rows it reorders; NaN where a value is.

    Partitioning in place takes a tenth of the time of `np.median`.
    """
    half, odd = columns.shape[1] // 2, columns.shape[1] % 2
    columns.partition(half, axis=1)
    upper = columns[:, half]
    middle = upper.copy() if odd else (columns[:, :half].max(axis=1) + upper) / 2
    middle[np.isnan(columns[:, half:].max(axis=1))] = np.nan
    return middle


def far_limits(values: FloatArray) -> FloatArray | None:
    """(2, columns) the least and the most that a value counts as, from (rows, columns) training data; None: no limit.

    They are `FAR` robust standard deviations from the median, in the columns that have a value further away. A column
    of which more than a share `OUTLIERS` is so far away has none: it has more than one scale.

    >>> limits = far_limits(np.array([[-1.0], [0.0], [1.0], [0.0], [1e6]]))
    >>> limits.round(2).tolist(), far_limits(np.array([[-1.0], [0.0], [1.0]])) is None
    ([[-29.65], [29.65]], True)
    """
    middle, spread, away = _distances(values)
    with np.errstate(invalid="ignore"):
        limited = away.max(axis=1) > FAR * spread
        for column in np.flatnonzero(limited):
            limited[column] = (away[column] > FAR * spread[column]).mean() <= OUTLIERS
    if not limited.any():
        return None
    reach = np.where(limited, FAR * spread, np.inf)
    return np.stack([middle - reach, middle + reach])


def limit_far(values: FloatArray) -> FloatArray:
    """(rows, columns) training data within their `far_limits`; the same array where there are none."""
    limits = far_limits(values)
    return values if limits is None else np.clip(values, *limits)


def smearing_factor(log_error: FloatArray) -> float:
    """Mean of exp(error of a log forecast), kept in [1/2, 2]: Duan (1983), JASA 78.

    >>> smearing_factor(np.array([0.0, 0.0]))
    1.0
    """
    return float(np.clip(np.mean(np.exp(np.clip(log_error[np.isfinite(log_error)], -5, 5))), 0.5, 2.0))
