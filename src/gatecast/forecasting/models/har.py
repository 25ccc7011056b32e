"""Linear forecasts of log variance: the yardstick, and the strongest of them, on all that is known by each refit.

The yardstick is the log-HAR of Corsi (2009), one a symbol; beside it stand one with terms of falls and one in levels.
The extended ones add what else is known of a bar's
variance, one for each symbol and one pooled over the class; each is the mean of two fits, of which one forgets. The
last is linear in variances themselves, not in their logs: it follows large shocks further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.compute.threads import one_thread
from gatecast.forecasting.attribution import LINEAR, Attribution
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.models.linear import FALLS
from gatecast.forecasting.models.naive import numbers_of
from gatecast.forecasting.schedule import Fold
from gatecast.forecasting.stored import array_of, spread_of, symbols_in
from gatecast.samples.targets import VARIANCE_FLOOR
from gatecast.samples.variance import CONCENTRATION, IMPLIED, SMOOTHED, VARIANCE_INPUTS
from gatecast.settings import MOST_BARS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


HAR_TERMS = 3
HalfLives = Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)] | None, ...], Field(min_length=1)]
"""Years after which a row counts half, one for each fit that is averaged; None: never."""


@dataclass(frozen=True)
class SymbolTable:
    """Numbers a symbol, `table` (symbols, numbers), and those of the class, `pooled`, for a symbol without its own."""

    lengths: ClassVar[tuple[int, ...]] = ()
    """how many numbers there may be"""

    table: FloatArray
    pooled: FloatArray
    symbols: tuple[str, ...]

    def of(self, samples: Samples, ends: IntArray) -> FloatArray:
        """(bars, numbers) those of each bar-level row's symbol."""
        return numbers_of(samples, self.symbols, ends, self.table, self.pooled)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        return {"table": self.table, "pooled": self.pooled}, {"symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        symbols, pooled = symbols_in(settings), array_of(arrays, "pooled", None)
        if len(pooled) not in cls.lengths:
            raise ValueError(f"'pooled', which has {len(pooled)} numbers")
        return cls(array_of(arrays, "table", len(symbols), len(pooled)), pooled, symbols)


@dataclass(frozen=True)
class FittedLogHAR(SymbolTable):
    """Coefficients (symbols, terms + 2): intercept, terms, half the residual variance; and the same pooled.

    Of three terms they are those of the HAR, of five those of the falls beside them.
    """

    lengths: ClassVar = (HAR_TERMS + 2, HAR_TERMS + 4)

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        ends = samples.ends[rows]
        weights = self.of(samples, ends)
        terms = har_terms(samples, ends, falls=len(self.pooled) > HAR_TERMS + 2)
        log_variance = weights[:, 0] + weights[:, -1]
        for column in range(terms.shape[1]):
            log_variance = log_variance + weights[:, column + 1] * terms[:, column]
        return {"volatility": np.exp(np.clip(log_variance, -60, 20))}


@FORECASTERS.add
class LogHAR(Forecaster):
    """Log variance over the next h bars on logs of mean variance over 1, 5 and 22 bars, by least squares per symbol.

    With `falls` also on the fall of the bar and the mean fall of 5 bars, in trailing volatilities: variance rises after
    falls. Fitted on the whole record known at the cutoff; a symbol with fewer than `minimum` rows takes the class's
    pooled coefficients. Lognormal correction: half the residual variance.

    References
    ----------
    Corsi (2009), Journal of Financial Econometrics 7; Corsi and Renò (2012), Journal of Business & Economic Statistics
    30: the terms of falls.
    """

    kind: ClassVar = "har"
    traits: ClassVar = Traits("log-HAR", ("volatility",), Seconds(1e-3, 0, 1.5e-7), linear=True)
    fitted: ClassVar = FittedLogHAR

    falls: bool = False
    """also on the fall of the bar and the mean fall of 5 bars, in trailing volatilities"""
    minimum: Annotated[int, Field(ge=1, le=MOST_BARS)] = 250
    """rows that a symbol needs; with fewer it takes the class's pooled coefficients"""

    def member_heads(self) -> tuple[str, ...]:
        """Without falls it joins the ensemble: the plainest member, which bursts lead astray the least."""
        return () if self.falls else ("volatility",)

    @property
    def name(self) -> str:
        """`har`, or `har_falls`."""
        return "har_falls" if self.falls else "har"

    def title(self) -> str:
        """With or without falls."""
        return f"{self.traits.title} with falls" if self.falls else self.traits.title

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLogHAR]:
        """One set of per-symbol regressions a fold."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedLogHAR:
        samples, (rows, answers) = fold.data, fold.answered("volatility")
        ends = samples.ends[rows]
        inputs = np.column_stack([np.ones(len(ends)), har_terms(samples, ends, falls=self.falls)])
        pooled = _least_squares(inputs, answers)
        table = np.tile(pooled, (len(samples.symbols), 1))
        for number in range(len(samples.symbols)):
            mine = samples.symbol[ends] == number
            if np.count_nonzero(mine) >= self.minimum:
                table[number] = _least_squares(inputs[mine], answers[mine])
        return FittedLogHAR(table, pooled, samples.symbols)


@dataclass(frozen=True)
class FittedHARLevels(SymbolTable):
    """(symbols, 4) intercept and three terms, none below 0; and the same pooled, (4,)."""

    lengths: ClassVar = (HAR_TERMS + 1,)

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        ends = samples.ends[rows]
        weights = self.of(samples, ends)
        design = _levels(samples, ends)
        forecast = np.zeros(len(ends))
        for column in range(design.shape[1]):
            forecast = forecast + weights[:, column] * design[:, column]
        variance = forecast * _mean_so_far(samples, ends)
        return {"volatility": samples.horizon * np.maximum(variance, VARIANCE_FLOOR * _scale(samples, ends))}


@FORECASTERS.add
class HARLevels(Forecaster):
    """Mean variance of the next h bars, linear in the mean variances of 1, 5 and 22 bars, per symbol.

    Everything is a multiple of the symbol's mean variance so far. Coefficients >= 0 by least squares of relative errors
    (each row over the geometric mean of its HAR terms, weighted .2, .4, .4), on the whole record known at the cutoff; a
    symbol with fewer than `minimum` rows takes the class's. With such coefficients no forecast is ever below 0 or
    absurd, so that none is replaced: the training mean in place of forecasts beyond the training range would lose most
    where it matters, in the first days of a crisis.

    >>> HARLevels().name
    'har_levels'
    """

    kind: ClassVar = "har_levels"
    traits: ClassVar = Traits("HAR in levels", ("volatility",), Seconds(1e-3, 0, 3e-7))
    fitted: ClassVar = FittedHARLevels

    minimum: Annotated[int, Field(ge=1, le=MOST_BARS)] = 250
    """rows that a symbol needs; with fewer it takes the class's coefficients"""

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedHARLevels]:
        """One set of per-symbol regressions a fold."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedHARLevels:
        samples, (rows, answers) = fold.data, fold.answered("volatility")
        ends = samples.ends[rows]
        mean = _mean_so_far(samples, ends)
        answer = np.exp(answers) / (samples.horizon * mean)
        design, size = _levels(samples, ends), _scale(samples, ends) / mean
        pooled = _bounded_line(design, answer, size)
        table = np.tile(pooled, (len(samples.symbols), 1))
        for number in range(len(samples.symbols)):
            mine = samples.symbol[ends] == number
            if np.count_nonzero(mine) >= self.minimum:
                table[number] = _bounded_line(design[mine], answer[mine], size[mine])
        return FittedHARLevels(table, pooled, samples.symbols)


def har_terms(samples: Samples, ends: IntArray, *, falls: bool = False) -> FloatArray:
    """(bars, 3) logs of mean variance over 1, 5 and 22 bars; with `falls` (bars, 5), the falls of 1 and 5 bars last."""
    har = samples.facts.har[ends]
    terms: FloatArray = np.column_stack([har, samples.facts.variance[ends][:, FALLS]]) if falls else har
    return terms


def _mean_so_far(samples: Samples, ends: IntArray) -> FloatArray:
    """(bars,) the symbol's mean variance of one bar so far, never 0."""
    mean = samples.facts.smoothed[ends, SMOOTHED.index("mean")]
    positive: FloatArray = np.maximum(mean, VARIANCE_FLOOR * _scale(samples, ends))
    return positive


def _levels(samples: Samples, ends: IntArray) -> FloatArray:
    """(bars, 4) one, and the mean variances of 1, 5 and 22 bars over the symbol's mean so far."""
    over = np.exp(samples.facts.har[ends]) / _mean_so_far(samples, ends)[:, None]
    return np.column_stack([np.ones(len(ends)), over])


def _bounded_line(design: FloatArray, answer: FloatArray, size: FloatArray) -> FloatArray:
    """(4,) coefficients >= 0 of least squares of errors over `size`."""
    from scipy.optimize import nnls

    weights: FloatArray = nnls(design / size[:, None], answer / size)[0]
    return weights


@dataclass(frozen=True)
class FittedLinearVariance:
    """(symbols, inputs + 2) constant, coefficients of standardised inputs, half the residual variance; and pooled."""

    table: FloatArray
    pooled: FloatArray
    centre: FloatArray
    spread: FloatArray
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        plain, concentrated = len(VARIANCE_INPUTS), len(VARIANCE_INPUTS) + len(CONCENTRATION)
        if len(self.centre) not in (plain, concentrated, concentrated + len(IMPLIED)):
            raise ValueError(f"'centre', which has {len(self.centre)} numbers")

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        return {"volatility": self.at(samples, samples.ends[rows])}

    def at(self, samples: Samples, ends: IntArray, *, corrected: bool = True) -> FloatArray:
        """(bars,) the forecast made at bar-level rows; without its lognormal correction the median."""
        weights, inputs = self._weights_and_inputs(samples, ends)
        log_variance = weights[:, 0] + (weights[:, -1] if corrected else 0.0)
        for column in range(inputs.shape[1]):  # in order: a matrix product's last bits depend on the number of rows
            log_variance = log_variance + weights[:, column + 1] * inputs[:, column]
        variance: FloatArray = np.exp(np.clip(log_variance, -60, 20))
        return variance

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """See `Attributable`: weight times standardised input, in logs."""
        if head != "volatility" or len(rows) == 0:
            return ()
        weights, inputs = self._weights_and_inputs(samples, samples.ends[rows])
        values, base = weights[:, 1:-1] * inputs, weights[:, 0] + weights[:, -1]
        names = (*VARIANCE_INPUTS, *CONCENTRATION, *IMPLIED)[: inputs.shape[1]]
        return (Attribution(LINEAR, head, names, names, values[:, None], base, base + values.sum(axis=1)),)

    def _weights_and_inputs(self, samples: Samples, ends: IntArray) -> tuple[FloatArray, FloatArray]:
        """(bars, inputs + 2) the numbers of each row's symbol, and (bars, inputs) standardised inputs."""
        weights = numbers_of(samples, self.symbols, ends, self.table, self.pooled)
        concentrated = len(self.centre) > len(VARIANCE_INPUTS)
        return weights, (_inputs(samples, ends, concentrated=concentrated) - self.centre) / self.spread

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays = {"table": self.table, "pooled": self.pooled, "centre": self.centre, "spread": self.spread}
        return arrays, {"symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedLinearVariance:
        """The inverse of `state`."""
        symbols, centre = symbols_in(settings), array_of(arrays, "centre", None)
        spread, numbers = spread_of(arrays, "spread", len(centre)), len(centre) + 2
        table, pooled = array_of(arrays, "table", len(symbols), numbers), array_of(arrays, "pooled", numbers)
        return cls(table, pooled, centre, spread, symbols)


@FORECASTERS.add
class LinearVariance(Forecaster):
    """Log variance over the next h bars on all `VARIANCE_INPUTS`, pooled over the class or for each symbol by itself.

    With `concentration` also on how much of the past variance came in few bars, and on an implied volatility where the
    settings name one, see `samples.variance`.

    Least squares once for each of `half_lives`, with weights that halve after so many years (None: never), and the mean
    of these fits: a short memory follows a market that changes, a long one remembers its crises (Pesaran and Timmermann
    2007, Journal of Econometrics 137). Inputs beyond the HAR's are shrunk by a ridge that counts as `penalty` rows
    times the horizon. Lognormal correction: half the weighted residual variance of the symbol. A symbol with fewer than
    `minimum` rows takes the class's numbers.
    """

    kind: ClassVar = "linear_variance"
    traits: ClassVar = Traits(
        "extended log-HAR per symbol", ("volatility",), Seconds(1e-3, 0, 1e-7, parallel=True),
        member_of=("volatility",), linear=True,
    )  # fmt: skip
    fitted: ClassVar = FittedLinearVariance

    pooled: bool = False
    """one regression of the class, instead of one a symbol"""
    concentration: bool = False
    """also on how much of the past variance came in few bars"""
    half_lives: HalfLives = (2.0, None)
    """years after which a row counts half, one for each fit that is averaged; None: never"""
    penalty: Annotated[float, Field(ge=0, le=1e12)] = 100.0
    """rows, times the horizon, that the ridge on inputs beyond the HAR's counts as"""
    minimum: Annotated[int, Field(ge=1, le=MOST_BARS)] = 250
    """rows that a symbol needs; with fewer it takes the class's numbers"""

    @property
    def name(self) -> str:
        """`har_symbol` or `har_class`, or `har_concentration`."""
        if self.concentration:
            return "har_concentration"
        return "har_class" if self.pooled else "har_symbol"

    def title(self) -> str:
        """Of the class, or per symbol."""
        title = "extended log-HAR of the class" if self.pooled else self.traits.title
        return f"{title} with concentration" if self.concentration else title

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLinearVariance]:
        """One regression a fold, or one a fold and symbol."""
        return fit_every(self.fit_record, folds, 1, task, jobs=task.jobs, light=True)

    def fit_record(self, fold: Fold) -> FittedLinearVariance:
        """The fit on all rows whose answers are known at the fold's cutoff; `ResidualLSTM` asks for it, too."""
        fits, key = fold.data.fit_cache, (self, fold.cutoff)
        if key not in fits:
            with one_thread():  # whoever asks first
                fits[key] = self._fit(fold)
        found: FittedLinearVariance = fits[key]
        return found

    def _fit(self, fold: Fold) -> FittedLinearVariance:
        samples, record = fold.data, fold.record
        ends = samples.ends[record]
        inputs = _inputs(samples, ends, concentrated=self.concentration)
        answer = samples.targets["volatility"].value[samples.decided[record]]
        centre, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-12
        design = np.column_stack([np.ones(len(ends)), (inputs - centre) / spread])
        symbols = [np.flatnonzero(samples.symbol[ends] == number) for number in range(len(samples.symbols))]
        fits = [
            self._weights(design, weight, answer, symbols, samples.horizon)
            for weight in _memories(fold, self.half_lives)
        ]
        table, pooled = (np.mean(parts, axis=0) for parts in zip(*fits, strict=True))
        return FittedLinearVariance(table, pooled, centre, spread, samples.symbols)

    def _weights(
        self, design: FloatArray, weight: FloatArray, answer: FloatArray, symbols: list[IntArray], horizon: int
    ) -> tuple[FloatArray, FloatArray]:
        """(symbols, inputs + 2) and the same pooled, (inputs + 2,), as in `FittedLinearVariance`."""
        penalty = np.full(design.shape[1], self.penalty * horizon)
        penalty[:4] = 1e-6  # the constant and the terms of the HAR
        weights = _solve(design, weight, answer, penalty)
        residual = answer - design @ weights
        pooled = np.append(weights, 0.5 * np.average(residual**2, weights=weight))
        table = np.tile(pooled, (len(symbols), 1))
        for number, mine in enumerate(symbols):
            if len(mine) < self.minimum:
                continue
            own, left = weights, residual[mine]
            if not self.pooled:  # what the symbol itself adds to the class's
                change = _solve(design[mine], weight[mine], left, np.full(len(weights), 0.01 * horizon))
                own, left = weights + change, left - design[mine] @ change
            table[number] = np.append(own, 0.5 * np.average(left**2, weights=weight[mine]))
        return table, pooled


@dataclass(frozen=True)
class FittedSmoothHAR:
    """(inputs,) coefficients, none below 0."""

    weights: FloatArray

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        ends = samples.ends[rows]
        total = np.zeros(len(ends))
        for column, weight in enumerate(self.weights):  # in order, as in `FittedLinearVariance`
            total = total + weight * samples.facts.smoothed[ends, column]
        return {"volatility": samples.horizon * np.maximum(total, VARIANCE_FLOOR * _scale(samples, ends))}

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        return {"weights": self.weights}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedSmoothHAR:
        """The inverse of `state`."""
        return cls(array_of(arrays, "weights", len(SMOOTHED)))


@FORECASTERS.add
class SmoothHAR(Forecaster):
    """Variance over the next h bars as a sum of `SMOOTHED` variances with coefficients >= 0, pooled over the class.

    Least squares of relative errors (each row over the geometric mean of its HAR terms, weighted .2, .4, .4), once for
    each of `half_lives` as in `LinearVariance`, and the mean of the coefficients. Falls have terms of their own.
    """

    kind: ClassVar = "har_smooth"
    traits: ClassVar = Traits(
        "HAR of smoothed variances", ("volatility",), Seconds(1e-3, 0, 1e-7, parallel=True),
        member_of=("volatility",), linear=True,
    )  # fmt: skip
    fitted: ClassVar = FittedSmoothHAR

    half_lives: HalfLives = (2.0, None)
    """years after which a row counts half, one for each fit that is averaged; None: never"""

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedSmoothHAR]:
        """One regression a fold."""
        return fit_every(self._fit, folds, 1, task, jobs=task.jobs)

    def _fit(self, fold: Fold) -> FittedSmoothHAR:
        from scipy.linalg import cholesky, solve_triangular
        from scipy.optimize import nnls

        samples = fold.data
        ends = samples.ends[fold.record]
        scale = _scale(samples, ends)
        design = samples.facts.smoothed[ends] / scale[:, None]
        answer = np.exp(samples.targets["volatility"].value[samples.decided[fold.record]]) / (samples.horizon * scale)
        fits = []
        for weight in _memories(fold, self.half_lives):
            weighted = design * weight[:, None]
            square = weighted.T @ design
            square += 1e-9 * np.trace(square) * np.eye(len(square))
            root = cholesky(square, lower=True)
            fits.append(nnls(root.T, solve_triangular(root, weighted.T @ answer, lower=True))[0])
        return FittedSmoothHAR(np.mean(fits, axis=0))


def _inputs(samples: Samples, ends: IntArray, *, concentrated: bool) -> FloatArray:
    """(bars, inputs) those of `LinearVariance`."""
    plain = samples.facts.variance[ends]
    return np.column_stack([plain, samples.facts.concentration[ends]]) if concentrated else plain


def _scale(samples: Samples, ends: IntArray) -> FloatArray:
    """(bars,) a variance of one bar that stands for a row's own size."""
    har = samples.facts.har[ends]
    size: FloatArray = np.exp(0.2 * har[:, 0] + 0.4 * har[:, 1] + 0.4 * har[:, 2])
    return size


def _memories(fold: Fold, half_lives: Sequence[float | None]) -> list[FloatArray]:
    """For each half-life how much each row of the fold's record counts."""
    age = (fold.cutoff - fold.data.times[fold.record]) / np.timedelta64(1, "D") / 365.25
    return [0.5 ** (age / (half_life or np.inf)) for half_life in half_lives]


def _solve(design: FloatArray, weight: FloatArray, answer: FloatArray, penalty: FloatArray) -> FloatArray:
    """Weighted least squares with a ridge."""
    weighted = design * weight[:, None]
    return np.asarray(np.linalg.solve(weighted.T @ design + np.diag(penalty), weighted.T @ answer), dtype=np.float64)


def _least_squares(inputs: FloatArray, answers: FloatArray) -> FloatArray:
    weights, *_ = np.linalg.lstsq(inputs, answers, rcond=None)
    return np.append(weights, 0.5 * np.var(answers - inputs @ weights))
