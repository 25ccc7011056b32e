"""Regressions on the last one-bar return alone: the simplest forecasts of returns and of direction that learn a slope.

Prices that are smoothed, stale or bounce between bid and ask are forecast by them; a model must do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.models.naive import numbers_of
from gatecast.forecasting.models.shares import symbol_shares
from gatecast.forecasting.schedule import Fold
from gatecast.forecasting.stored import array_of, number_in, symbols_in, text_in
from gatecast.samples.targets import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

PRIOR_ROWS = 400.0
"""Rows without overlap that a slope must outweigh: its prior is normal around the class's (the class's around 0) with a
standard deviation of .05 in standardised returns."""
PRIOR_ODDS = 0.1
"""Standard deviation of the prior of a slope in log-odds a standardised return, of about the same strength."""
NEWTON_STEPS = 30


def last_return(samples: Samples, ends: IntArray) -> FloatArray:
    """(bars,) the log return of bar-level rows over the bar before, in trailing volatilities; 0 where there is none."""
    before = np.maximum(ends - 1, 0)
    same = (samples.symbol[before] == samples.symbol[ends]) & (samples.segment[before] == samples.segment[ends])
    step = np.where(same & (before < ends), samples.targets["return"].value[before, 0], 0.0)
    return np.nan_to_num(step / samples.facts.sigma[ends])


@dataclass(frozen=True)
class FittedLag:
    """Of each symbol an intercept (symbols,) and slopes (symbols, outputs); those of the class for any other symbol."""

    head: str
    offset: FloatArray
    table: FloatArray
    base: float
    pooled: FloatArray
    symbols: tuple[str, ...]

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; the one head that it was fitted for."""
        ends = samples.ends[rows]
        slope = numbers_of(samples, self.symbols, ends, self.table, self.pooled)
        offset = numbers_of(samples, self.symbols, ends, self.offset[:, None], np.array([self.base]))
        encoded = offset + slope * last_return(samples, ends)[:, None]
        if self.head == "direction":
            encoded = 1 / (1 + np.exp(-np.clip(encoded, -30, 30)))
        return {self.head: decode(self.head, encoded, samples.facts.sigma[ends], samples.facts.baseline[ends])}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays = {"offset": self.offset, "table": self.table, "pooled": self.pooled}
        return arrays, {"head": self.head, "base": self.base, "symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedLag:
        """The inverse of `state`."""
        symbols, pooled = symbols_in(settings), array_of(arrays, "pooled", None)
        offset, table = array_of(arrays, "offset", len(symbols)), array_of(arrays, "table", len(symbols), len(pooled))
        head = text_in(settings, "head", among=("return", "direction"))
        return cls(head, offset, table, number_in(settings, "base"), pooled, symbols)


@FORECASTERS.add
class LogisticLag(Forecaster):
    """The probability of a rise on the last one-bar standardised return: a slope a symbol, shrunk to its class's.

    Without that return it is the symbol's own past share, as in `base_rate`; rows count as in `RidgeLag`.

    >>> LogisticLag().name
    'logistic_lag'
    """

    kind: ClassVar = "logistic_lag"
    traits: ClassVar = Traits("logistic regression on the last return", ("direction",), Seconds(1e-3, 0, 5e-7))
    fitted: ClassVar = FittedLag

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLag]:
        """One set of slopes a fold."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedLag:
        samples, (rows, answer) = fold.data, fold.answered("direction")
        ends = samples.ends[rows]
        symbol, overlap = samples.symbol[ends], samples.horizon_sessions
        shares, of_class = symbol_shares(answer, symbol, len(samples.symbols), overlap)
        offset, lag = _odds(shares), last_return(samples, ends)
        pooled = _slopes(lag, answer, offset[symbol], np.zeros_like(symbol), 1, 1.0 / overlap, 0.0)
        own = _slopes(lag, answer, offset[symbol], symbol, len(shares), 1.0 / overlap, float(pooled[0]))
        base = float(_odds(np.array([of_class]))[0])
        return FittedLag("direction", offset, own[:, None], base, pooled, samples.symbols)


@FORECASTERS.add
class RidgeLag(Forecaster):
    """The standardised return path on the last one-bar standardised return: a slope a symbol, shrunk to its class's.

    Learned from every row whose answer is known at the cutoff, each counting one over the sessions that its answer
    spans; there is no intercept. Hoerl and Kennard (1970), Technometrics 12.

    >>> RidgeLag().name
    'ridge_lag'
    """

    kind: ClassVar = "ridge_lag"
    traits: ClassVar = Traits("ridge regression on the last return", ("return",), Seconds(5e-4, 0, 1e-7))
    fitted: ClassVar = FittedLag

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLag]:
        """One set of slopes a fold."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedLag:
        samples, rows = fold.data, fold.record
        answer = samples.answers[rows, : samples.horizon]
        known = np.isfinite(answer).all(axis=1)
        rows, answer = rows[known], answer[known]
        ends = samples.ends[rows]
        lag, weight = last_return(samples, ends), 1.0 / samples.horizon_sessions
        pooled = weight * lag @ answer / (weight * lag @ lag + PRIOR_ROWS)
        symbol, count = samples.symbol[ends], len(samples.symbols)
        square = np.bincount(symbol, lag**2, count)
        left = (
            np.bincount(symbol, lag * (column - lag * slope), count)
            for column, slope in zip(answer.T, pooled, strict=True)
        )
        table = pooled + weight * np.column_stack(list(left)) / (weight * square + PRIOR_ROWS)[:, None]
        return FittedLag("return", np.zeros(len(table)), table, 0.0, pooled, samples.symbols)


def _slopes(
    lag: FloatArray, answer: FloatArray, offset: FloatArray, group: NDArray[np.int32], groups: int, weight: float,
    centre: float,
) -> FloatArray:  # fmt: skip
    """(groups,) the most probable slope of each group's logistic regression with fixed offsets; Newton's method.

    The prior of a slope is normal around `centre`; a group without rows keeps that.
    """
    slopes, precision = np.full(groups, centre), 1 / PRIOR_ODDS**2
    for _ in range(NEWTON_STEPS):  # the loss is strictly convex, and the prior keeps every step small
        chance = 1 / (1 + np.exp(-np.clip(offset + slopes[group] * lag, -30, 30)))
        gradient = weight * np.bincount(group, lag * (chance - answer), groups) + precision * (slopes - centre)
        step = gradient / (weight * np.bincount(group, lag**2 * chance * (1 - chance), groups) + precision)
        slopes = slopes - step
        if np.abs(step).max() < 1e-12:
            break
    return slopes


def _odds(share: FloatArray) -> FloatArray:
    clipped = np.clip(share, 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))
