"""What a model hands over, checked: one that fails or forecasts what cannot be is refused by its name, in one sentence.

Everything that `walk_forward` is given by a model goes through here, be the model ours, a user's, or a stored one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gatecast.errors import ForecasterError, GatecastError
from gatecast.forecasting.forecaster import FittedForecaster, Forecaster, SeedEnsemble, Task
from gatecast.plugins import is_ours
from gatecast.samples.targets import HEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Answer = TypeVar("Answer")
LARGEST = 20.0
"""A log return, or a variance of one, beyond which a forecast is none: a price times or over 485 million."""
MOST_UNITS, LEAST_UNIT = 1e3, 1e-3  # trailing standard deviations that a user's forecast may be, and the least of one
LONGEST = 300  # characters of another's message that are shown
UNEXPECTED = (ValueError, TypeError, KeyError, IndexError, AttributeError)


def fits_of(name: str, forecaster: Forecaster, folds: Sequence[Fold], task: Task) -> Sequence[FittedForecaster]:
    """The forecaster's fits of the folds from `task.since` on. Raises `ForecasterError` where they are not as expected.

    A user's model is also asked for the state of its last fit, and to come back from it: before hours of other work,
    not after.
    """
    ours = is_ours(type(forecaster))
    fits = _asked(name, "be fitted", lambda: forecaster.fit_many(folds, task), Exception if not ours else ())
    if ours:
        return fits
    wanted, kind = len(folds) - task.since, forecaster.fitted
    got = f"{len(fits)}" if isinstance(fits, Sequence) else repr(type(fits).__name__)
    if not isinstance(fits, Sequence) or len(fits) != wanted:
        raise ForecasterError(f"the model {name!r}: fit_many returned {got}, expected {wanted} fits, one a fold.")
    for one in fits:
        if not isinstance(one, kind):
            raise ForecasterError(
                f"the model {name!r}: fit_many returned a {type(one).__name__}, expected a {kind.__name__}, as its "
                "`fitted` says."
            )
    if fits:
        _asked(name, "be stored", lambda: _stored_and_back(forecaster, fits[-1]), Exception)
    return fits


def _stored_and_back(forecaster: Forecaster, fitted: FittedForecaster) -> None:
    state = fitted.state()
    if not (isinstance(state, tuple) and len(state) == 2 and all(isinstance(one, dict) for one in state)):
        raise TypeError("state() must return a dictionary of arrays and one of JSON-able settings")
    for key, array in state[0].items():
        if not isinstance(array, np.ndarray) or array.dtype == object:
            raise TypeError(f"state() has {key!r} = {type(array).__name__} among its arrays, expected a NumPy array")
    forecaster.fitted.from_state(state[0], json.loads(json.dumps(state[1], allow_nan=False)))


def predictions_of(
    name: str, forecaster: Forecaster | None, fitted: FittedForecaster, samples: Samples, rows: IntArray
) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
    """The forecasts at these rows, and those of each seed alone where there are several.

    `forecaster`: whose fit it is, which says what it must forecast; None: not known. Raises `ForecasterError` for a
    fit that fails, heads, shapes or numbers that cannot be. NaN is no forecast; what was returned is copied.
    """
    if isinstance(fitted, SeedEnsemble):
        both, each = _asked(name, "forecast", lambda: fitted.predict_members(samples, rows), UNEXPECTED)
    else:
        caught = UNEXPECTED if is_ours(type(fitted)) else Exception
        both, each = _asked(name, "forecast", lambda: fitted.predict(samples, rows), caught), []
    if len(rows) == 0:
        return (both, each) if isinstance(both, dict) else ({}, [])
    if not isinstance(both, dict):
        raise ForecasterError(
            f"the model {name!r}: predict returned a {type(both).__name__}, expected a dictionary, head -> array."
        )
    promised = () if forecaster is None else forecaster.output_heads()
    if lacking := [head for head in promised if head not in both]:
        raise ForecasterError(
            f"the model {name!r} forecasts no {' and no '.join(lacking)}, which its traits promise: expected "
            f"{', '.join(promised)}, got {', '.join(map(str, both)) or 'nothing'}."
        )
    checked = {head: _checked(name, head, values, samples, len(rows)) for head, values in both.items()}
    if not is_ours(type(fitted)):
        _refuse_absurd(name, checked, samples, rows)
    return checked, each


def _checked(name: str, head: str, values: Any, samples: Samples, rows: int) -> FloatArray:
    """A copy of what was forecast, where it can be."""
    if head not in HEADS:
        raise ForecasterError(f"the model {name!r} forecasts {head!r}: expected heads of {', '.join(HEADS)}.")
    shape = (rows, samples.horizon) if head == "return" else (rows,)
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.shape != shape:
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ForecasterError(f"the model {name!r}: its {head} is {got}, expected an array of floats {shape}.")
    copy: FloatArray = values.astype(np.float64)
    known = copy[~np.isnan(copy)]
    high, low = {"return": (np.inf, -np.inf), "volatility": (np.inf, 0.0)}.get(head, (1.0, 0.0))
    wrong = ~np.isfinite(known) | (known < low) | (known > high) | ((head == "volatility") & (known == 0))
    if wrong.any():
        wanted = {"return": "finite log returns", "volatility": "variances above 0"}.get(head, "probabilities")
        raise ForecasterError(
            f"the model {name!r}: its {head} is {known[wrong][0]:g} in {int(wrong.sum())} places, expected {wanted}, "
            "or NaN where there is no forecast."
        )
    return copy


def _refuse_absurd(name: str, forecasts: Mapping[str, FloatArray], samples: Samples, rows: IntArray) -> None:
    """Raises `ForecasterError` for a return or variance that no market has: 1,000 standard deviations, or above 20.

    The standard deviation is the trailing one over as many bars, taken as a thousandth where it is less.
    """
    unit = samples.unit[rows]
    unit = np.where(np.isfinite(unit), np.maximum(unit, LEAST_UNIT), np.inf)
    room = {"return": MOST_UNITS * unit, "volatility": (MOST_UNITS * unit[:, -1]) ** 2}
    for head in ("return", "volatility"):
        if head not in forecasts:
            continue
        size, most = np.abs(forecasts[head]), np.minimum(room[head], LARGEST)
        wrong = size > most
        if wrong.any():
            where = np.flatnonzero(wrong.reshape(len(rows), -1).any(1))
            first = int(where[0])
            row = samples.decided[rows[first]]
            symbol, time = samples.symbols[samples.symbol[row]], str(samples.time[row])[:16]
            came, may = size[first][wrong[first]].flat[0], most[first][wrong[first]].flat[0]
            raise ForecasterError(
                f"the model {name!r}: its {head} of {symbol!r} at {time} is "
                f"{came:g} in size, and no market's is above {may:g} there ({len(where)} of {len(rows)} forecasts are "
                f"so): return {'log returns' if head == 'return' else 'variances of log returns'}, and NaN where there "
                "is no forecast."
            )


def _asked(name: str, what: str, work: Callable[[], Answer], caught: Any) -> Answer:
    """What the model gives. Raises `ForecasterError` where it fails with one of `caught`."""
    try:
        return work()
    except (GatecastError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise ForecasterError(f"the model {name!r} cannot {what}: it wants to end the program ({error}).") from error
    except caught as error:
        said = str(error)
        said = said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."
        raise ForecasterError(f"the model {name!r} cannot {what}: {type(error).__name__}: {said}") from error
