"""The volatility head's yardstick: the log-HAR of Corsi (2009), one a symbol, on all that is known by each refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.forecasting.forecaster import Progress, fan_out
from gatecast.forecasting.naive import match_symbols
from gatecast.forecasting.schedule import Fold
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class LogHAR(Settings):
    """Log variance over the next h bars on logs of mean variance over 1, 5 and 22 bars, by least squares per symbol.

    Fitted on the whole record known at the cutoff; a symbol with fewer than `minimum` rows takes the class's pooled
    coefficients. Lognormal correction: half the residual variance. Corsi (2009), Journal of Financial Econometrics 7.
    """

    minimum: int = 250

    @property
    def name(self) -> str:
        """`har`."""
        return "har"

    def fit_many(self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None) -> list[FittedLogHAR]:
        """One set of per-symbol regressions a fold."""
        return fan_out(self._fit, folds, progress=progress)

    def _fit(self, fold: Fold) -> FittedLogHAR:
        samples = fold.data
        ends = samples.ends[fold.record]
        inputs = np.column_stack([np.ones(len(ends)), samples.facts.har[ends]])
        answers = samples.targets["volatility"].value[ends]
        pooled = _least_squares(inputs, answers)
        table = np.tile(pooled, (len(samples.symbols), 1))
        for number in range(len(samples.symbols)):
            mine = samples.symbol[ends] == number
            if np.count_nonzero(mine) >= self.minimum:
                table[number] = _least_squares(inputs[mine], answers[mine])
        return FittedLogHAR(table, pooled, samples.symbols)


@dataclass(frozen=True)
class FittedLogHAR:
    """Coefficients (symbols, 5): intercept, three terms, half the residual variance; and the same pooled, (5,)."""

    table: FloatArray
    pooled: FloatArray
    symbols: tuple[str, ...]

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        ends = samples.ends[rows]
        number = match_symbols(samples, self.symbols, ends)
        weights = np.where((number >= 0)[:, None], self.table[number], self.pooled)
        log_variance = weights[:, 0] + (weights[:, 1:4] * samples.facts.har[ends]).sum(1) + weights[:, 4]
        return {"volatility": np.exp(np.clip(log_variance, -60, 20))}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        return {"table": self.table, "pooled": self.pooled}, {"kind": "har", "symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedLogHAR:
        """The inverse of `state`."""
        return cls(arrays["table"], arrays["pooled"], tuple(settings["symbols"]))


def _least_squares(inputs: FloatArray, answers: FloatArray) -> FloatArray:
    weights, *_ = np.linalg.lstsq(inputs, answers, rcond=None)
    return np.append(weights, 0.5 * np.var(answers - inputs @ weights))
