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
        of_scale, of_test = number[fold.validation], number[fold.test]  # sorted, as samples are
        for symbol in np.unique(of_test):
            past = scale[slice(*np.searchsorted(of_scale, [symbol, symbol + 1]))]
            past = past[np.isfinite(past)]  # rows that came later have none
            rows = fold.test[slice(*np.searchsorted(of_test, [symbol, symbol + 1]))]
            every = np.r_[past, issued[rows]]
            centred = every - every[0]  # sums of squares of tiny numbers keep their digits
            count = np.arange(len(every))
            total, squares = np.r_[0.0, np.cumsum(centred)[:-1]], np.r_[0.0, np.cumsum(centred**2)[:-1]]
            mean = total / np.maximum(count, 1)
            variance = (squares - count * mean**2) / np.maximum(count - 1, 1)
            spread = np.sqrt(np.maximum(variance, 0.0))
            usable = (count >= minimum) & (spread > 1e-12)
            score = np.where(usable, (centred - mean) / np.where(usable, spread, 1.0), np.nan)
            z[rows] = score[len(past) :]
    return z
