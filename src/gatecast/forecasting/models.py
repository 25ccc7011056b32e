"""Which class rebuilds a stored model: the closed list that a file's `kind` is looked up in, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatecast.errors import StoreError, did_you_mean
from gatecast.forecasting.forest import FittedForest
from gatecast.forecasting.garch import FittedGarch
from gatecast.forecasting.highway import FittedHighway
from gatecast.forecasting.hours import KIND as BY_HOUR
from gatecast.forecasting.hours import FittedByHour, HourEffects
from gatecast.forecasting.lag import FittedLag
from gatecast.forecasting.linear import FittedLinear
from gatecast.forecasting.lstm import FittedLSTM
from gatecast.forecasting.naive import FittedNaive
from gatecast.forecasting.regimes import FittedMarkov
from gatecast.forecasting.transformer import FittedTFT
from gatecast.forecasting.volatility import FittedHARLevels, FittedLinearVariance, FittedLogHAR, FittedSmoothHAR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster

Fitted = (
    type[FittedLSTM] | type[FittedForest] | type[FittedLinear] | type[FittedLinearVariance] | type[FittedLogHAR]
    | type[FittedSmoothHAR] | type[FittedHighway] | type[FittedNaive] | type[FittedMarkov] | type[FittedTFT]
    | type[FittedGarch] | type[FittedHARLevels] | type[FittedLag]
)  # fmt: skip

FITTED: dict[str, Fitted] = {
    "lstm": FittedLSTM,
    "forest": FittedForest,
    "linear": FittedLinear,
    "lag": FittedLag,
    "har": FittedLogHAR,
    "har_levels": FittedHARLevels,
    "linear_variance": FittedLinearVariance,
    "smooth_har": FittedSmoothHAR,
    "highway": FittedHighway,
    "naive": FittedNaive,
    "markov": FittedMarkov,
    "tft": FittedTFT,
    "garch": FittedGarch,
}
"""`kind` in a stored model's settings -> the class whose `from_state` rebuilds it."""


def from_state(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedForecaster:
    """The fitted forecaster whose `state()` gave these arrays and settings.

    Raises `StoreError` for a kind that is not in `FITTED`, and for arrays or settings that do not make up such a model.

    >>> import numpy as np
    >>> zero = FittedNaive("zero", {}, np.array([np.nan]), ("SP500",))
    >>> from_state(*zero.state()).rule
    'zero'
    """
    kind = settings.get("kind")
    if kind == BY_HOUR:
        return _by_hour(arrays, settings)
    if kind not in FITTED:
        raise StoreError(f"a stored model is of the unknown kind {kind!r}. {did_you_mean(str(kind), FITTED)}")
    try:
        return FITTED[kind].from_state(arrays, settings)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _mangled(kind, error) from None


def _by_hour(arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedByHour:
    """A model that knows the hour, around one of the list."""
    own = {name.removeprefix("of/"): array for name, array in arrays.items() if name.startswith("of/")}
    try:
        symbols, of = tuple(settings["symbols"]), dict(settings["of"])
        effects = HourEffects(arrays["minutes"], arrays["pooled"], arrays["table"], symbols)
        if of.get("kind") == BY_HOUR or effects.table.shape != (len(symbols), *effects.pooled.shape):
            raise ValueError("the number of its symbols")
        if len(effects.pooled) != len(effects.minutes):
            raise ValueError("the number of its hours")
    except (KeyError, TypeError, ValueError) as error:
        raise _mangled(BY_HOUR, error) from None
    return FittedByHour(effects, from_state(own, of))


def _mangled(kind: str, error: Exception) -> StoreError:
    return StoreError(
        f"a stored model of kind {kind!r} lacks or mangles {error}: it was written by another version, or damaged."
    )
