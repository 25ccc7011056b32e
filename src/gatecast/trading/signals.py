"""Signals: a model's return forecasts -> z, standardised by its own past forecasts; bullish or bearish beyond 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gatecast.forecasting.panel import NETWORK, SECOND
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]


class SignalSettings(Settings):
    """When a forecast is a signal."""

    threshold: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """standard deviations of the forecast's own past beyond which it is bullish or bearish"""
    minimum: Annotated[int, Field(ge=2, le=MOST_BARS)] = 60
    """earlier forecasts of the same fit that a z-score needs"""
    model: str = NETWORK
    """whose forecast signals"""
    confirmed_by: str = SECOND
    """whose agreement makes a consensus"""

    @property
    def can_agree(self) -> bool:
        """Whether a consensus says more than the signal: it takes two models."""
        return self.confirmed_by != self.model


@dataclass(frozen=True)
class Signals:
    """Over the samples of a class: `z` (NaN where undefined), `signal` in {-1, 0, 1}, and whether both models agree."""

    z: FloatArray
    z_confirming: FloatArray
    signal: FloatArray
    consensus: BoolArray


def make_signals(forecasts: Forecasts, settings: SignalSettings | None = None) -> Signals:
    """z = (forecast - mean) / s.d. of the same fit's forecasts of that symbol before t, validation block included.

    The forecast is the return over the whole horizon. A refit brings its own scale with it, so that no signal is owed
    to the change of models; the full sample is never used.
    """
    settings = settings or SignalSettings()
    z, confirming = (z_scores(forecasts, name, settings.minimum) for name in (settings.model, settings.confirmed_by))
    side, other = (np.where(np.abs(np.nan_to_num(s)) > settings.threshold, np.sign(s), 0.0) for s in (z, confirming))
    return Signals(z, confirming, side, (side != 0) & (side == other))


def z_scores(forecasts: Forecasts, model: str, minimum: int) -> FloatArray:
    """(samples,) z-score of each out-of-sample forecast against the same fit's earlier ones; NaN before `minimum`."""
    samples = forecasts.samples
    z = np.full(len(samples), np.nan)
    if not forecasts.folds:
        return z
    issued = forecasts.values[model]["return"][:, -1]
    number = samples.symbol[samples.ends]
    for fold, scale in zip(forecasts.folds, forecasts.scale[model], strict=True):
        symbols, row = np.unique(number[fold.test], return_inverse=True)  # sorted, as samples are
        of_scale = number[fold.validation]
        own = np.isfinite(scale) & np.isin(of_scale, symbols)  # rows that came later have none
        row_before = np.searchsorted(symbols, of_scale[own])
        before, after = (np.bincount(one, minlength=len(symbols)) for one in (row_before, row))
        column_before = _counted(row_before, before)
        column = before[row] + _counted(row, after)
        every = np.zeros((len(symbols), int((before + after).max(initial=0))))  # of a symbol one row, in time order
        every[row_before, column_before] = scale[own]
        every[row, column] = issued[fold.test]
        centred = every - every[:, :1]  # sums of squares of tiny numbers keep their digits
        count = np.arange(every.shape[1])
        total, squares = (_sum_before(one) for one in (centred, centred**2))
        mean = total / np.maximum(count, 1)
        variance = (squares - count * mean**2) / np.maximum(count - 1, 1)
        spread = np.sqrt(np.maximum(variance, 0.0))
        usable = (count >= minimum) & (spread > 1e-12)
        score = np.where(usable, (centred - mean) / np.where(usable, spread, 1.0), np.nan)
        z[fold.test] = score[row, column]
    return z


def _counted(group: NDArray[np.integer], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """(n,) ascending groups -> the place of each within its group; `sizes`: how many each group has."""
    place: NDArray[np.int64] = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group]
    return place


def _sum_before(values: FloatArray) -> FloatArray:
    """(rows, n) the sum of the values of each row before each."""
    made = np.zeros_like(values)
    np.cumsum(values[:, :-1], axis=1, out=made[:, 1:])
    return made
