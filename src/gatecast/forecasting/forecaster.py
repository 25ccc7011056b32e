"""The interface of everything that forecasts: settings that fit, and fitted numbers that predict."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Progress = Callable[[int], None]


class FittedForecaster(Protocol):
    """Learned numbers, scaler included. Nothing in it changes after `fit`."""

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """Forecasts made at the close of each row, from its window and facts alone.

        Returns head -> array: `return` (rows, horizon) cumulative log returns; `direction` and `regime` (rows,)
        probabilities; `volatility` (rows,) variance over the horizon in the proxy's unit, above 0.
        """
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON-able settings from which `from_state` of the same class rebuilds it."""
        ...


@runtime_checkable
class SeedEnsemble(FittedForecaster, Protocol):
    """A fitted forecaster made of several that differ by their seed alone."""

    def predict_members(
        self, samples: Samples, rows: IntArray
    ) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
        """What `predict` returns, and what each seed by itself would have."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Settings only; `fit` is `fit_many` of one fold, and `fit_many` is what fans refits out over the cores."""

    @property
    def name(self) -> str:
        """The name in `forecasts.parquet`."""
        ...

    def fit_many(
        self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None
    ) -> Sequence[FittedForecaster]:
        """One fitted forecaster a fold, each from its own train and validation rows; `progress(n)` after n more."""
        ...


def centre_and_spread(answers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(columns,) means and standard deviations of the answers that are known: 0 and 1 where there is nothing to see.

    >>> import numpy as np
    >>> centre, spread = centre_and_spread(np.array([[1.0, np.nan, 5.0], [3.0, np.nan, 5.0]]))
    >>> centre.tolist(), spread.tolist()
    ([2.0, 0.0, 5.0], [1.0, 1.0, 1.0])
    """
    known = np.isfinite(answers).any(axis=0)
    centre, spread = np.zeros(answers.shape[1]), np.ones(answers.shape[1])
    centre[known] = np.nanmean(answers[:, known], axis=0)
    spread[known] = np.nanstd(answers[:, known], axis=0)
    return centre, np.where(spread > 0, spread, 1.0)


def seed_of(seed: int, asset_class: str, cutoff: np.datetime64, member: int = 0) -> int:
    """A seed that depends on the class, the cut-off and the member alone: what else is in the run changes nothing.

    >>> seed_of(0, "index", np.datetime64("2010-01-04T21:00")) == seed_of(0, "index", np.datetime64("2010-01-04T21:00"))
    True
    """
    moment = int(cutoff.astype("datetime64[s]").astype(np.int64))
    key = (zlib.crc32(asset_class.encode()), moment, member)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1)[0])


@dataclass(frozen=True)
class Timed:
    """A forecaster that adds the wall-clock seconds of its training to `seconds`, under its name.

    >>> from gatecast.forecasting.naive import Naive
    >>> seconds: dict[str, float] = {}
    >>> Timed(Naive(rule="zero"), seconds).fit_many([])
    []
    >>> list(seconds)
    ['zero']
    """

    forecaster: Forecaster
    seconds: dict[str, float]

    @property
    def name(self) -> str:
        """The forecaster's own."""
        return self.forecaster.name

    def fit_many(
        self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None
    ) -> Sequence[FittedForecaster]:
        """The forecaster's own fits."""
        begin = time.perf_counter()
        fits = self.forecaster.fit_many(folds, jobs=jobs, progress=progress)
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.perf_counter() - begin
        return fits
