"""An LSTM that predicts what linear forecasts of log variance leave; its head starts at zero, so at no correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.compute.parallel import fan_out
from gatecast.forecasting.attribution import Attribution
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, in_force
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.forecaster import FittedLSTM
from gatecast.forecasting.models.har import FittedLinearVariance, LinearVariance
from gatecast.forecasting.scaling import smearing_factor
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market.bars import session_date
from gatecast.samples.variance import CONCENTRATION, IMPLIED, VARIANCE_INPUTS
from gatecast.settings import LARGEST_SEED, SHARED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


TAILS = 4.0  # degrees of freedom of Student's t: a residual of two standard deviations counts half as much as one of 0
WEIGHT_DECAY = 1e-2  # of Adam: a few passes with a small step need little
LESSONS_AT_ONCE = 2  # at least, and one for each core: each has answers of its own for the whole class
LONG = 5  # sessions of a horizon, beyond which the correction keeps the level
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
"""What the network knows of the calendar: the weekday of each bar's session."""


@dataclass(frozen=True)
class FittedResidualLSTM:
    """The two linear forecasts and the network that corrects them."""

    linear: tuple[FittedLinearVariance, FittedLinearVariance]
    network: FittedLSTM

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; volatility only."""
        return self.predict_members(samples, rows)[0]

    def predict_members(
        self, samples: Samples, rows: IntArray
    ) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
        """See `SeedEnsemble`."""
        return self.network.predict_members(self._seen(samples, rows), rows)

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """See `Attributable`: the mean of the two linear forecasts in logs, and what the network adds to it."""
        if head != "volatility" or len(rows) == 0:
            return ()
        symbol, pooled = (one.attributions(samples, rows, head)[0] for one in self.linear)
        values, base, output = (
            (getattr(symbol, name) + getattr(pooled, name)) / 2 for name in ("values", "base", "output")
        )
        linear = replace(symbol, values=values, base=base, output=output)
        (network,) = self.network.attributions(self._seen(samples, rows), rows, head)  # with the linear forecast in it
        own = replace(network, base=network.base - output, output=network.output - output)
        return (linear, own)

    def _seen(self, samples: Samples, rows: IntArray) -> Samples:
        """The samples as the network reads them."""
        seen = with_residual_inputs(samples, self.linear, samples.ends[rows])
        if len(self.network.scaler.centre) == len(VARIANCE_INPUTS):  # a fit of an older version, which read no others
            seen = replace(seen, features=seen.features[:, : len(VARIANCE_INPUTS)], names=VARIANCE_INPUTS)
        return seen

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        parts = {"symbol": self.linear[0].state(), "class": self.linear[1].state(), "network": self.network.state()}
        arrays = {f"{part}/{name}": array for part, (own, _) in parts.items() for name, array in own.items()}
        return arrays, {part: settings for part, (_, settings) in parts.items()}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedResidualLSTM:
        """The inverse of `state`."""
        own: dict[str, dict[str, NDArray[Any]]] = {"symbol": {}, "class": {}, "network": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition("/")
            own[part][rest] = array
        linear = [FittedLinearVariance.from_state(own[part], settings[part]) for part in ("symbol", "class")]
        return cls((linear[0], linear[1]), FittedLSTM.from_state(own["network"], settings["network"]))


@FORECASTERS.add
class ResidualLSTM(Forecaster):
    """Variance over the next h bars: the log-average of `har_symbol` and `har_class`, times what an LSTM learned.

    A small LSTM, pooled over the class, is trained on the log variance that the two leave unexplained, from windows of
    the same inputs, of how much of the past variance came in few bars, and of the weekday; its head starts at zero. It
    learns from all that is known, a fixed number of times: a fifth kept back to stop at costs more than it saves. Rows
    count as with Student's t, of which far residuals decide less. The linear part is refitted at every refit, the
    network at every `every`-th.

    References
    ----------
    Lange, Little and Taylor (1989), Journal of the American Statistical Association 84: weights of Student's t.
    """

    kind: ClassVar = "residual_lstm"
    traits: ClassVar = Traits("LSTM correction", ("volatility",), Seconds(5e-3, 0, 1.6e-6, parallel=True))
    fitted: ClassVar = FittedResidualLSTM

    lookback: Annotated[int, Field(ge=10, le=100), SHARED] = 30
    """bars in a window, T"""
    horizon: Annotated[int, Field(ge=1, le=22), SHARED] = 5
    """bars ahead, h"""
    units: Annotated[int, Field(ge=16, le=256)] = 16
    """units in a layer"""
    layers: Annotated[int, Field(ge=1, le=3)] = 1
    """layers, one upon the other"""
    dropout: Annotated[float, Field(ge=0, lt=0.9)] = 0.2
    """share dropped between layers and before the head"""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 6
    """passes through the training rows; more overfit a residual"""
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    """step size of Adam"""
    seeds: Annotated[int, Field(ge=1, le=100)] = 4
    """networks"""
    every: Annotated[int, Field(ge=1, le=1000)] = 12
    """refits from one training to the next"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), SHARED] = 0
    """what the networks begin from"""

    def begin(self) -> bool:
        """The LSTM's own."""
        return self.lstm.begin()

    def relative_work(self) -> float:
        """By how seldom the network is trained."""
        return 12 / self.every

    def fit_count(self, folds: int) -> int:
        """Networks that are trained."""
        return len(range(0, folds, self.every)) * self.seeds

    @property
    def lstm(self) -> LSTM:
        """The network's settings."""
        return LSTM(
            lookback=self.lookback, horizon=self.horizon, units=self.units, layers=self.layers, dropout=self.dropout,
            chunk=32, epochs=self.epochs, learning_rate=self.learning_rate, weight_decay=WEIGHT_DECAY,
            seeds=self.seeds, seed=self.seed, heads=("volatility",),
        )  # fmt: skip

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedResidualLSTM]:
        """The linear forecasts of every fold, the network of every `every`-th and of those that follow it."""
        linear = dict(enumerate(fan_out(_linear, folds[task.since :], jobs=task.jobs, light=True), task.since))
        due = [number for number in linear if number % self.every == 0]
        networks: dict[int, FittedLSTM] = {}
        some = max(LESSONS_AT_ONCE, task.jobs)
        for first in range(0, len(due), some):
            part = due[first : first + some]
            lessons = [_lesson(folds[number], linear[number]) for number in part]
            trained = self.lstm.fit_many(lessons, replace(task, since=0, past=None))
            levelled = map(_levelled, trained, lessons)
            networks |= dict(zip(part, levelled, strict=True))
        past = task.past.network if isinstance(task.past, FittedResidualLSTM) else None
        serving = in_force(networks, past, linear)
        return [FittedResidualLSTM(pair, one) for pair, one in zip(linear.values(), serving, strict=True)]


def with_residual_inputs(
    samples: Samples, linear: tuple[FittedLinearVariance, FittedLinearVariance], ends: IntArray, corrected: bool = True
) -> Samples:
    """The samples as the network sees them: the linear inputs as features, the linear forecast as what it starts from.

    `ends` are the bar-level rows at which a forecast is needed.
    """
    start = np.full(len(samples.features), np.nan)
    start[ends] = np.sqrt(np.prod([one.at(samples, ends, corrected=corrected) for one in linear], axis=0))
    inputs, names = _inputs_of(samples)
    return replace(samples, features=inputs, names=names, facts=replace(samples.facts, baseline=start))


def _inputs_of(samples: Samples) -> tuple[FloatArray, tuple[str, ...]]:
    """(bars, inputs) what the network reads, and the names; made once, for every refit asks."""
    kept, key = samples.fit_cache, "what the LSTM correction reads"
    if key not in kept:
        facts = samples.facts
        weekday = (session_date(samples.time).astype(np.int64) + 3) % 7  # the first day of 1970 was a Thursday
        days = (weekday[:, None] == np.arange(len(WEEKDAYS))).astype(np.float64)
        names = (*VARIANCE_INPUTS, *(*CONCENTRATION, *IMPLIED)[: facts.concentration.shape[1]], *WEEKDAYS)
        kept[key] = np.column_stack([facts.variance, facts.concentration, days]), names
    found: tuple[FloatArray, tuple[str, ...]] = kept[key]
    return found


def _linear(fold: Fold) -> tuple[FittedLinearVariance, FittedLinearVariance]:
    return LinearVariance().fit_record(fold), LinearVariance(pooled=True).fit_record(fold)


def _lesson(fold: Fold, linear: tuple[FittedLinearVariance, FittedLinearVariance]) -> Fold:
    """The fold on all that is known, its answers the part of log variance that the linear forecasts leave.

    The rows that validate are among those that train: what is kept is in effect the last epoch's.
    """
    samples, record = fold.data, fold.record
    _, validation = Schedule().split(samples.times, samples.known_at, record)
    ends = samples.ends[record]
    seen = with_residual_inputs(samples, linear, ends, corrected=False)
    residual = samples.targets["volatility"].value[samples.decided[record]] - np.log(seen.facts.baseline[ends])
    far = (residual - residual.mean()) ** 2 / max(residual.var(), 1e-12)
    return replace(fold, train=record, validation=validation, samples=seen, counts=TAILS / (TAILS + far))


def _levelled(network: FittedLSTM, lesson: Fold) -> FittedLSTM:
    """The network with what it learned as the correction, no level of the answers added.

    Of a horizon of more than `LONG` sessions the correction is 1 in the mean over the newest rows: sums of many
    sessions have a long upper tail, which Student's t leaves out, and the level stays the linear forecasts' own.
    """
    own = replace(network, smear=1.0, centre=np.zeros_like(network.centre))
    samples, rows = lesson.data, lesson.validation
    if samples.horizon_sessions <= LONG:
        return own
    start = samples.facts.baseline[samples.ends[rows]]
    return replace(own, smear=1 / smearing_factor(np.log(own.predict(samples, rows)["volatility"] / start)))
