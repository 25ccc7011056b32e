"""A hidden Markov model of the returns, for the regime head and for users who want states.

Each symbol's returns are Gaussian given a hidden state, and the state is a Markov chain. States are ordered by their
variance: 0 is the calmest. Whatever is said of bar t comes from the filter of Hamilton (1989), Econometrica 57, which
reads bars up to t alone; the smoother, which reads later ones, serves the fit on past bars and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.errors import SettingsError, TrainingError
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every, seed_of
from gatecast.forecasting.models.histories import histories_between, histories_until
from gatecast.forecasting.models.naive import match_symbols, share
from gatecast.forecasting.schedule import Fold, Window
from gatecast.forecasting.stored import array_of, number_in, symbols_in
from gatecast.samples.targets import decode
from gatecast.settings import LARGEST_SEED, MOST_BARS, SHARED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

BEGINNING = 20  # iterations after which only the best start goes on
VARIANCE_FLOOR = 0.01  # of the returns' variance: a state that holds a few equal returns has no likelihood to offer


@dataclass(frozen=True)
class MarkovModel:
    """States ordered by variance: `mean` and `deviation` (states,) of one bar's return, `transition` (states, states).

    `transition[i, j]` is the probability that state i is followed by state j.
    """

    mean: FloatArray
    deviation: FloatArray
    transition: FloatArray

    def __post_init__(self) -> None:
        states = len(self.mean)
        if self.mean.shape != (states,) or self.deviation.shape != (states,):
            shapes = f"{self.mean.shape} and {self.deviation.shape}"
            raise SettingsError(f"mean and deviation must be one number a state, got the shapes {shapes}.")
        if not (self.deviation > 0).all():
            raise SettingsError(f"deviation must be above 0 in every state, got {self.deviation.tolist()}.")
        rows = self.transition.sum(axis=-1) if self.transition.shape == (states, states) else np.zeros(1)
        if not (np.abs(rows - 1) < 1e-6).all() or (self.transition < 0).any():
            raise SettingsError(
                f"transition must be {states} rows of {states} probabilities that sum to 1, "
                f"got {self.transition.tolist()}."
            )

    @property
    def stationary(self) -> FloatArray:
        """(states,) the share of bars in each state in the long run: what is known before the first bar."""
        states = len(self.mean)
        equations = (1 + 1e-12) * np.eye(states) - self.transition.T + 1  # the bit more is for states never left
        shares = np.linalg.solve(equations, np.ones(states))
        shares = np.maximum(shares, 0.0)
        stationary: FloatArray = shares / shares.sum()
        return stationary

    def expected_square(self, horizon: int) -> FloatArray:
        """(states,) the mean sum of squared returns over the next `horizon` bars, given the state of this one.

        >>> calm = MarkovModel(np.zeros(2), np.array([1.0, 2.0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
        >>> calm.expected_square(1).round(6).tolist()
        [1.3, 3.4]
        """
        total, ahead = np.zeros(len(self.mean)), self.mean**2 + self.deviation**2
        for _ in range(horizon):
            ahead = self.transition @ ahead
            total += ahead
        return total


def filter_states(returns: FloatArray, model: MarkovModel) -> FloatArray:
    """(bars, states) probabilities of the state of each bar, given the returns up to and including it.

    `returns` is (bars,) of one unbroken history, in the model's unit. Of a bar whose return is NaN nothing is learned.

    >>> model = MarkovModel(np.zeros(2), np.array([1.0, 3.0]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    >>> filter_states(np.array([0.0, 3.0]), model).round(3).tolist()
    [[0.75, 0.25], [0.114, 0.886]]
    """
    return _filter(np.asarray(returns, dtype=np.float64), model)[0]


def predict_states(returns: FloatArray, model: MarkovModel) -> FloatArray:
    """(bars, states) probabilities of the state of the **next** bar, given the returns up to and including each.

    >>> model = MarkovModel(np.zeros(2), np.array([1.0, 3.0]), np.array([[0.9, 0.1], [0.1, 0.9]]))
    >>> predict_states(np.array([0.0, 3.0]), model).round(3).tolist()
    [[0.7, 0.3], [0.191, 0.809]]
    """
    filtered = filter_states(returns, model)
    ahead: FloatArray = (filtered[:, :, None] * model.transition).sum(axis=1)
    return ahead


def log_likelihood(returns: FloatArray, model: MarkovModel) -> float:
    """Log density of the returns of one unbroken history, (bars,), under the model; NaN returns count nothing."""
    return _filter(np.asarray(returns, dtype=np.float64), model)[1]


def fit_markov(
    histories: Sequence[FloatArray],
    states: int = 2,
    *,
    starts: int = 4,
    seed: int = 0,
    minimum: int = 250,
    iterations: int = 200,
    tolerance: float = 1e-6,
) -> MarkovModel:
    """Maximum likelihood by expectation-maximisation from the best of several seeded starts.

    Parameters
    ----------
    histories: one (bars,) array of returns for each unbroken history; a model's state is forgotten between them.
    states: how many; `starts`: how many beginnings are tried, drawn with `seed`.
    minimum: finite returns below which nothing is fitted.
    iterations, tolerance: the climb ends after so many, or when one gains less log likelihood than this a bar.

    Raises `TrainingError` for fewer returns than `minimum`, and for returns that do not vary.

    References
    ----------
    Baum, Petrie, Soules and Weiss (1970), Annals of Mathematical Statistics 41.

    >>> draw = np.random.default_rng(0)
    >>> model = fit_markov([np.r_[draw.normal(0, 1, 500), draw.normal(0, 3, 500), draw.normal(0, 1, 500)]])
    >>> model.deviation.round(1).tolist()
    [1.0, 2.8]
    """
    finite = np.concatenate([history[np.isfinite(history)] for history in histories] or [np.zeros(0)])
    if len(finite) < max(minimum, 2 * states):
        raise TrainingError(f"a hidden Markov model needs {max(minimum, 2 * states)} returns, got {len(finite)}.")
    centre, spread = float(finite.mean()), float(finite.std())
    if not spread > 1e-9 * max(1.0, abs(centre)) or len(np.unique(finite)) < 2 * states:
        raise TrainingError(f"a hidden Markov model needs returns that vary, got {len(np.unique(finite))} values.")
    scaled = [(np.asarray(history, dtype=np.float64) - centre) / spread for history in histories]
    draw = np.random.default_rng(seed)
    least = tolerance * len(finite)
    begun = [_climb(scaled, _beginning(draw, states), BEGINNING, least) for _ in range(starts)]
    best, _ = _climb(scaled, max(begun, key=lambda fit: fit[1])[0], iterations, least)
    order = np.argsort(best.deviation, kind="stable")
    transition = best.transition[np.ix_(order, order)]
    return MarkovModel(centre + spread * best.mean[order], spread * best.deviation[order], transition)


def _beginning(draw: np.random.Generator, states: int) -> MarkovModel:
    """States that differ in variance and stay, of returns with mean 0 and variance 1."""
    deviation = np.geomspace(0.5, 2.0, states) * np.exp(0.25 * draw.standard_normal(states))
    stay = draw.uniform(0.8, 0.99, states)
    leave = ((1 - stay) / max(states - 1, 1))[:, None] * (1 - np.eye(states))
    return MarkovModel(0.1 * draw.standard_normal(states), deviation, np.diag(stay) + leave)


def _climb(
    histories: Sequence[FloatArray], model: MarkovModel, iterations: int, least: float
) -> tuple[MarkovModel, float]:
    """From one start to the top of the likelihood next to it, and its log likelihood there."""
    returns = np.concatenate(histories)
    known = np.isfinite(returns)
    values = returns[known, None]
    before = -np.inf
    for _ in range(iterations):
        filtered, reached = zip(*(_filter(history, model) for history in histories), strict=True)
        if sum(reached) - before < least:
            break
        before = sum(reached)
        smoothed, moves = zip(*(_compiled(_smooth)(part, model.transition) for part in filtered), strict=True)
        weight = np.concatenate(smoothed)[known] + 1e-12
        mean = (weight * values).sum(axis=0) / weight.sum(axis=0)
        variance = (weight * (values - mean) ** 2).sum(axis=0) / weight.sum(axis=0)
        counts = sum(moves) + 1e-6  # a state that is never left still has a way out
        transition = counts / counts.sum(axis=1, keepdims=True)
        model = MarkovModel(mean, np.sqrt(np.maximum(variance, VARIANCE_FLOOR)), transition)
    return model, float(sum(log_likelihood(history, model) for history in histories))


def _filter(returns: FloatArray, model: MarkovModel) -> tuple[FloatArray, float]:
    """Filtered probabilities (bars, states) and the log likelihood."""
    distance = (returns[:, None] - model.mean) / model.deviation
    density = -0.5 * distance**2 - np.log(model.deviation) - 0.5 * np.log(2 * np.pi)
    density[~np.isfinite(returns)] = 0.0
    filtered, log_density = _compiled(_forward)(density, model.transition, model.stationary)
    return filtered, log_density


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, made at its first use."""
    from numba import njit

    machine_code: Callable[..., Any] = njit(nogil=True)(function)
    return machine_code


def _forward(density: FloatArray, transition: FloatArray, start: FloatArray) -> tuple[FloatArray, float]:
    """The filter: log densities (bars, states) -> probabilities (bars, states) and the log likelihood."""
    bars, states = density.shape
    filtered, prior, total = np.empty((bars, states)), start.copy(), 0.0
    for t in range(bars):
        top, mass = density[t].max(), 0.0
        for j in range(states):
            filtered[t, j] = max(prior[j], 1e-300) * np.exp(density[t, j] - top)
            mass += filtered[t, j]
        total += top + np.log(mass)
        for j in range(states):
            filtered[t, j] /= mass
        for j in range(states):
            prior[j] = 0.0
            for i in range(states):
                prior[j] += filtered[t, i] * transition[i, j]
    return filtered, total


def _smooth(filtered: FloatArray, transition: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Probabilities given all bars, later ones too: of the states (bars, states), and the moves between them, summed.

    Kim (1994), Journal of Econometrics 60.
    """
    bars, states = filtered.shape
    smoothed, moves, ratio = filtered.copy(), np.zeros((states, states)), np.empty(states)
    for t in range(bars - 2, -1, -1):
        for j in range(states):
            prior = 0.0
            for i in range(states):
                prior += filtered[t, i] * transition[i, j]
            ratio[j] = smoothed[t + 1, j] / max(prior, 1e-300)
        for i in range(states):
            total = 0.0
            for j in range(states):
                move = filtered[t, i] * transition[i, j] * ratio[j]
                moves[i, j] += move
                total += move
            smoothed[t, i] = total
    return smoothed, moves


@dataclass(frozen=True)
class FittedMarkov:
    """A model a symbol (None where there was too little to learn from), and the line that turns distance into a chance.

    `line` (2,): constant and slope of the log odds; `rate`: the share of turbulent spells, where a model is missing.
    """

    models: tuple[MarkovModel | None, ...]
    line: FloatArray
    rate: float
    symbols: tuple[str, ...]
    number_of_states: int

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; regime only."""
        ends, distance = samples.ends[rows], self.distance(samples, rows)
        odds = np.clip(self.line[0] + self.line[1] * distance, -30, 30)
        chance = np.where(np.isnan(distance), self.rate, 1 / (1 + np.exp(-odds)))
        return {"regime": decode("regime", chance, samples.facts.sigma[ends], samples.facts.baseline[ends])}

    def states(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(rows, states) filtered probabilities at the close of each row, calmest state first; NaN without a model."""
        ends = samples.ends[rows]
        table = np.full((len(samples.time), self.number_of_states), np.nan)
        for number, begin, returns in histories_until(samples, ends, self.symbols):
            model = self.models[number]
            if model is not None:
                table[begin : begin + len(returns)] = filter_states(returns, model)
        return table[ends]

    def distance(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(rows,) log of the variance to expect over the horizon minus the class's level; NaN where one is missing."""
        ends, states = samples.ends[rows], self.states(samples, rows)
        none = np.full(self.number_of_states, np.nan)
        ahead = np.array([none if m is None else m.expected_square(samples.horizon) for m in self.models] + [none])
        variance = (states * ahead[match_symbols(samples, self.symbols, ends)]).sum(axis=1) / samples.facts.ratio[ends]
        distance: FloatArray = np.log(variance) - samples.facts.level[ends]
        return distance

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store; a missing model is NaN."""
        size = self.number_of_states
        none = {"mean": np.full(size, np.nan), "deviation": np.full(size, np.nan)}
        none["transition"] = np.full((size, size), np.nan)
        arrays = {
            name: np.array([missing if model is None else getattr(model, name) for model in self.models])
            for name, missing in none.items()
        }
        return arrays | {"line": self.line}, {"rate": self.rate, "symbols": list(self.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedMarkov:
        """The inverse of `state`."""
        symbols, line = symbols_in(settings), array_of(arrays, "line", 2)
        mean = array_of(arrays, "mean", len(symbols), None, nan=True)
        deviation = array_of(arrays, "deviation", *mean.shape, nan=True)
        transition = array_of(arrays, "transition", *mean.shape, mean.shape[1], nan=True)
        models = tuple(
            None if np.isnan(parts[0]).any() else MarkovModel(*parts)
            for parts in zip(mean, deviation, transition, strict=True)
        )
        return cls(models, line, float(number_in(settings, "rate", 0.0, 1.0)), symbols, mean.shape[1])


@FORECASTERS.add
class HiddenMarkov(Forecaster):
    """The chance of a turbulent spell from a hidden Markov model of each symbol's returns.

    A model a symbol, of the bars between the fold's first and last row, or those of `window`. The filtered state gives
    the variance to expect over the horizon; how far its log is above the class's level gives the chance, by a logistic
    line that is fitted on the same rows of all symbols. A symbol with fewer than `minimum` returns, or without
    variation, takes the share of turbulent spells among those rows.

    >>> HiddenMarkov(states=3).name
    'markov'
    """

    kind: ClassVar = "markov"
    traits: ClassVar = Traits("hidden Markov model", ("regime",), Seconds(5e-3, 2e-5, parallel=True))
    fitted: ClassVar = FittedMarkov

    states: Annotated[int, Field(ge=2, le=6)] = 2
    """states of the market, ordered by variance"""
    starts: Annotated[int, Field(ge=1, le=1000)] = 4
    """beginnings of the fit, of which the best is kept"""
    minimum: Annotated[int, Field(ge=50, le=MOST_BARS)] = 250
    """returns that a symbol needs; with fewer it takes the share of turbulent spells"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), SHARED] = 0
    """the beginnings follow from it"""

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedMarkov]:
        """One model a fold and symbol, and one line a fold."""
        return fit_every(self._fit, folds, 1, task, jobs=task.jobs)

    def _fit(self, fold: Fold) -> FittedMarkov:
        fold, samples = fold.windowed(self.window), fold.data
        rows = np.r_[fold.train, fold.validation]
        models: list[MarkovModel | None] = []
        for number in range(len(samples.symbols)):
            mine = samples.ends[rows[samples.symbol[samples.ends[rows]] == number]]
            first, last = (int(mine.min()), int(mine.max()) + 1) if len(mine) else (0, 0)
            histories = [returns for _, returns in histories_between(samples, first, last)]
            try:
                seed = seed_of(self.seed, samples.asset_class, fold.cutoff)
                models.append(
                    fit_markov(histories, self.states, starts=self.starts, seed=seed, minimum=self.minimum)
                )  # fmt: skip
            except TrainingError:  # too short, or constant
                models.append(None)
        answer = samples.targets["regime"].value[samples.decided[rows]]
        rate = share(answer == 1, np.isfinite(answer))
        raw = FittedMarkov(tuple(models), np.array([0.0, 1.0]), rate, samples.symbols, self.states)
        distance = raw.distance(samples, rows)
        return FittedMarkov(raw.models, _line(distance, answer, rate), rate, samples.symbols, self.states)


def _line(distance: FloatArray, answer: FloatArray, rate: float) -> FloatArray:
    """(2,) constant and slope of the log odds of an answer of 1, by logistic regression; flat where all are alike."""
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(distance) & np.isfinite(answer)
    if len(np.unique(answer[known])) < 2:
        return np.array([np.log(rate / (1 - rate)), 0.0])
    model = LogisticRegression(C=1.0, solver="newton-cholesky").fit(distance[known, None], answer[known])
    line: FloatArray = np.r_[model.intercept_, model.coef_[0]]
    return line
