"""What a model costs: the time that its training takes, kept beside the forecasts and never among them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gatecast.forecasting.forecaster import FittedForecaster, Forecaster, Progress
from gatecast.forecasting.schedule import Fold


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
