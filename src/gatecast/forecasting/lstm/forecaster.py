"""The LSTM as a forecaster: one network for all heads, a seed ensemble, pooled over the symbols of a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from weakref import ref

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.compute.parallel import stream_out
from gatecast.errors import SettingsError, did_you_mean
from gatecast.forecasting.attribution import RECURRENT, Attribution
from gatecast.forecasting.forecaster import (
    ALONE,
    FORECASTERS,
    Forecaster,
    Task,
    Traits,
    centre_and_spread,
    in_force,
    seed_of,
)
from gatecast.forecasting.lstm.gradients import Gradients, integrated_gradients
from gatecast.forecasting.lstm.lesson import PreparedFold, bars_read, read_windows
from gatecast.forecasting.lstm.recipe import Recipe
from gatecast.forecasting.lstm.selection import shares
from gatecast.forecasting.lstm.training import Fit, compile_early, initial_weights, predict_windows, train_network
from gatecast.forecasting.lstm.unfinished import keep, key_of, recall
from gatecast.forecasting.scaling import Scaler, smearing_factor
from gatecast.forecasting.schedule import Fold, HalfLife, Schedule, Window, warm_starts
from gatecast.forecasting.stored import array_of, number_in, scaler_of, spread_of
from gatecast.samples.targets import HEADS, columns_of, decode
from gatecast.settings import LARGEST_SEED, SHARED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingJob:
    """One network to train: all that it takes, and no more than that."""

    lesson: PreparedFold
    seed: int
    start: dict[str, NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class TrainedNetwork:
    """One network of an ensemble: its fit, its `outputs` on the validation rows, and the scales that it learned on.

    `outputs`: (rows, outputs) as the network says them, in no unit.
    """

    fit: Fit
    outputs: NDArray[np.float32]
    scaler: Scaler
    centre: FloatArray
    spread: FloatArray


@dataclass(frozen=True)
class Said:
    """What networks have said of windows already, so that the walk need not ask them again: it follows every fit by
    its forecasts of the same rows. It is neither stored nor sent to other processes, and keeps no bars in memory.

    `features`: the bars' features, while they are in memory; `ends`: (windows,) the row of them at which each ends,
    ascending; `outputs`: (networks, windows, outputs).
    """

    features: ref[FloatArray]
    ends: IntArray
    outputs: NDArray[np.float32]

    def places(self, samples: Samples, ends: IntArray) -> IntArray:
        """(windows,) where each window stands, -1 for one that was not asked."""
        if self.features() is not samples.features or len(self.ends) == 0:
            return np.full(len(ends), -1)
        place = np.minimum(np.searchsorted(self.ends, ends), len(self.ends) - 1)
        return np.where(self.ends[place] == ends, place, -1)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


@dataclass(frozen=True)
class FittedLSTM:
    """A seed ensemble with its scaler: `members` weights by name, `centre` and `spread` (outputs,) of the answers.

    `smear` turns the exponential of a mean log variance into a mean variance (Duan 1983), from the rows of the fit.
    `epochs`: of each member, the one that was kept; `trained`: how many it went through.
    `selected`: (refits so far, features) mean selection weights on each refit's validation rows, None without any.
    `searches`: what `tuning` found at each date so far, JSON-able; () for settings that were given.
    `said`: of the validation rows, where it was fitted here.
    """

    settings: LSTM
    scaler: Scaler
    centre: FloatArray
    spread: FloatArray
    members: tuple[dict[str, NDArray[np.float32]], ...]
    epochs: tuple[int, ...]
    smear: float = 1.0
    selected: FloatArray | None = None
    trained: tuple[int, ...] = ()
    searches: tuple[dict[str, Any], ...] = ()
    said: Said | None = field(default=None, repr=False, compare=False)

    @classmethod
    def assemble(cls, settings: LSTM, fold: Fold, members: Sequence[TrainedNetwork]) -> FittedLSTM:
        """The members of one fold together, with the variance's smearing factor from its validation rows."""
        first = members[0]
        rows = fold.data.first_of_end(fold.validation)  # of samples that end at one bar the network reads one
        outputs = np.stack([one.outputs for one in members])
        fitted = cls(
            settings, first.scaler, first.centre, first.spread,
            tuple(one.fit.weights for one in members), tuple(one.fit.best_epoch for one in members),
            trained=tuple(len(one.fit.train_loss) for one in members),
            said=Said(ref(fold.data.features), fold.data.ends[rows], outputs),
        )  # fmt: skip
        if "volatility" not in settings.heads:
            return fitted
        column = columns_of(settings.horizon)["volatility"].start
        position = int(np.flatnonzero(settings.output_columns == column)[0])
        forecast = np.mean([fitted._in_unit(one)[:, position] for one in outputs], axis=0)
        answer = fold.data.answers[rows, column]
        return replace(fitted, smear=smearing_factor(answer - forecast))

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; the mean over the members."""
        return self.predict_members(samples, rows)[0]

    def predict_members(
        self, samples: Samples, rows: IntArray
    ) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
        """The forecasts of all members together, and those that each would make alone."""
        if len(rows) == 0:
            return {}, []
        each = [self._in_unit(one) for one in self._outputs(samples, samples.ends[rows])]
        together: FloatArray = np.mean(each, axis=0)
        return self._decoded(samples, rows, together), [self._decoded(samples, rows, one) for one in each]

    def _outputs(self, samples: Samples, ends: IntArray) -> NDArray[np.float32]:
        """(networks, windows, outputs) as the networks say them; those that they have said are not asked again."""
        place = np.full(len(ends), -1) if self.said is None else self.said.places(samples, ends)
        new, outputs = place < 0, np.zeros((len(self.members), len(ends), len(self.centre)), np.float32)
        if self.said is not None:
            outputs[:, ~new] = self.said.outputs[:, place[~new]]
        if new.any():
            read = self.settings.reads(samples)
            inputs, rows = read_windows(self.scaler, read, ends[new], self.settings.lookback)
            for own, member in zip(outputs, self.members, strict=True):
                own[new] = predict_windows(member, self.settings, inputs, rows, len(self.centre))
        return outputs

    def _in_unit(self, outputs: NDArray[np.float32]) -> FloatArray:
        """(rows, outputs) of one network, in the encoded table's unit; probabilities, not log-odds."""
        raw = outputs.astype(np.float64)
        chance = 1 / (1 + np.exp(-np.clip(raw, -30, 30)))
        return np.where(self.settings.binary_columns, chance, raw * self.spread + self.centre)

    def _decoded(self, samples: Samples, rows: IntArray, outputs: FloatArray) -> dict[str, FloatArray]:
        """Head -> forecasts, of (rows, outputs) in the encoded table's unit; probabilities, not log-odds."""
        ends = samples.ends[rows]
        forecasts: dict[str, FloatArray] = {}
        begin = 0
        for head in self.settings.heads:
            width = self.settings.horizon if head == "return" else 1
            part = outputs[:, begin : begin + width]
            begin += width
            if head == "volatility":
                part = part + np.log(self.smear)
            forecasts[head] = decode(head, part, samples.facts.sigma[ends], samples.facts.baseline[ends])
        return forecasts

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """See `Attributable`: integrated gradients of every network, from a window in which each feature is usual.

        That is the mean of its training rows, or with `scaling = "minmax"` the middle between its least and its most.
        """
        if head not in self.settings.heads or len(rows) == 0:
            return ()
        samples = self.settings.reads(samples)
        ends = samples.ends[rows]
        inputs, places = read_windows(self.scaler, samples, ends, self.settings.lookback)
        windows = inputs[places[:, None] + np.arange(1 - self.settings.lookback, 1)].astype(np.float64)
        middle = 0.0 if self.settings.scaling == "zscore" else 0.5
        usual = np.where(np.isfinite(self.scaler.spread), middle, 0.0)
        column = columns_of(self.settings.horizon)[head].stop - 1  # of a path its last step
        output = int(np.flatnonzero(self.settings.output_columns == column)[0])
        each = [
            integrated_gradients(Gradients(one, self.settings, windows.shape[2]), windows, usual, output)
            for one in self.members
        ]
        scale, level = np.ones(len(rows)), np.zeros(len(rows))
        if head in ("return", "volatility"):
            scale, level = scale * self.spread[output], level + self.centre[output]
        if head == "return":
            unit = samples.facts.sigma[ends] * np.sqrt(self.settings.horizon)
            scale, level = scale * unit, level * unit
        if head == "volatility":
            level = level + np.log(self.smear) + np.log(samples.facts.baseline[ends])
        seeds = np.array([one[0][:, ::-1] * scale[:, None, None] for one in each])
        base, whole = (np.mean([one[place] for one in each], axis=0) * scale + level for place in (1, 2))
        return (
            Attribution(RECURRENT, head, samples.names, samples.names, seeds.mean(axis=0), base, whole, seeds),
        )  # fmt: skip

    def selection(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(rows, features) how much of each feature gets in at each row's bar: the members' mean; a row adds up to 1.

        Raises `SettingsError` for a network without selection.
        """
        if not self.settings.selection:
            raise SettingsError("this LSTM selects no features: fit one with selection = true.")
        samples = self.settings.reads(samples)
        inputs = self.scaler.transform(samples.features[samples.ends[rows]]).astype(np.float32)
        mean: FloatArray = np.mean([shares(one, inputs) for one in self.members], axis=0, dtype=np.float64)
        return mean

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays: dict[str, NDArray[Any]] = {
            "scaler.centre": self.scaler.centre, "scaler.spread": self.scaler.spread,
            "centre": self.centre, "spread": self.spread,
        }  # fmt: skip
        for i, member in enumerate(self.members):
            arrays |= {f"member.{i}.{name}": weight for name, weight in member.items()}
        if self.selected is not None:
            arrays["selected"] = self.selected
        return arrays, {
            "settings": self.settings.model_dump(mode="json"),
            "epochs": list(self.epochs), "trained": list(self.trained), "smear": self.smear,
            **({"searches": list(self.searches)} if self.searches else {}),
        }  # fmt: skip

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedLSTM:
        """The inverse of `state`."""
        lstm = LSTM(**settings["settings"])
        members: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(lstm.seeds)]
        for name, array in arrays.items():
            if name.startswith("member."):
                _, i, weight = name.split(".", 2)
                members[int(i)][weight] = array_of(arrays, name, *array.shape, dtype=np.float32)
        scaler, centre = scaler_of(arrays), array_of(arrays, "centre", len(lstm.output_columns))
        blank = initial_weights(lstm, len(scaler.centre), len(centre), 0)
        shapes = {weight: array.shape for weight, array in blank.items()}
        for member in members:
            if {weight: array.shape for weight, array in member.items()} != shapes:
                raise ValueError("weights that its settings ask for")
        return cls(
            lstm,
            scaler,
            centre,
            spread_of(arrays, "spread", len(centre)),
            tuple(members),
            tuple(settings["epochs"]),
            number_in(settings, "smear", 0.5, 2.0),
            array_of(arrays, "selected", None, len(scaler.centre), nan=True) if "selected" in arrays else None,
            tuple(settings.get("trained", ())),
            tuple(settings.get("searches", ())),
        )


@FORECASTERS.add
class LSTM(Recipe, Forecaster):
    """Seed ensembles of stacked LSTMs, refitted on schedule, trained on chunks of bars.

    Examples
    --------
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.b1(600, seed=1), ("x",))["index"]
    >>> fitted = LSTM(units=16, layers=1, seeds=1, epochs=2).fit(samples)
    >>> fitted.predict(samples, np.array([400, 401]))["return"].shape
    (2, 5)
    """

    kind: ClassVar = "lstm"
    traits: ClassVar = Traits("LSTM", HEADS, Seconds(0.015, 1.95e-4, parallel=True), member_of=HEADS)
    fitted: ClassVar = FittedLSTM

    scaling: Literal["zscore", "minmax"] = "zscore"
    """scale of inputs, fitted on training rows only"""
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, examples=[["ret_log_1", "rsi_14"]]
    )
    """features of the samples that it reads; left out: all"""
    window: Window | None = None
    """what it learns from: 4Y, a number of bars, expanding; left out: the schedule's"""
    half_life: HalfLife | None = None
    """years of age that halve a label's weight in the loss; left out: none do"""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """networks in the ensemble"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), SHARED] = 0
    """what the networks begin from"""
    every: Annotated[int, Field(ge=1, le=1200)] = 1
    """refits from one training to the next"""
    warm_start: bool = False
    """begin with the weights of the newest fit that saw no answer of the new validation block, member by member;
    without such a fit, cold; inputs and answers are scaled anew, and the weights go on in the new scales"""

    def output_heads(self) -> tuple[str, ...]:
        """Its `heads`."""
        return self.heads

    def relative_work(self) -> float:
        """By networks, their size, and how seldom they are trained."""
        size = self.layers / 2 * max((self.units / 64) ** 2, 0.1) * min(self.epochs / 12, 1)
        return self.seeds / 3 * size / self.every

    def packages(self) -> tuple[str, ...]:
        """torch, an extra of gatecast's, where its twin of the kernel is asked for."""
        return ("torch",) if self.engine == "torch" else ()

    def begin(self) -> bool:
        """Has the kernel compiled, or read from its cache, where it is the engine."""
        if self.engine == "compiled":
            compile_early()
        return self.engine == "compiled"

    def lightened(self) -> LSTM:
        """One small network, two epochs."""
        light: LSTM = self.replace(units=16, layers=1, seeds=1, epochs=2)
        return light

    def fit_count(self, folds: int) -> int:
        """Networks that are trained."""
        return len(range(0, folds, self.every)) * self.seeds

    def reads(self, samples: Samples) -> Samples:
        """The samples with the features that it reads and no others. Raises `SettingsError` for one that is absent."""
        if self.features is None or self.features == samples.names:
            return samples
        for name in self.features:
            if name not in samples.names:
                raise SettingsError(f"the LSTM reads {name!r}. {did_you_mean(name, samples.names)}")
        columns = [samples.names.index(name) for name in self.features]
        return replace(samples, features=np.ascontiguousarray(samples.features[:, columns]), names=self.features)

    def fit(self, samples: Samples, schedule: Schedule | None = None) -> FittedLSTM:
        """A fit on all samples whose answers are known, the latest share of them kept for early stopping."""
        rows = np.flatnonzero(~np.isnat(samples.known_at))
        schedule = schedule or Schedule()
        train, validation = schedule.split(samples.times, samples.known_at, rows)
        fold = Fold(0, train, validation, rows[:0], samples.times.max(), samples, schedule.validation)
        return self.fit_many([fold])[0]

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLSTM]:
        """One seed ensemble at every `every`-th fold, for it and those that follow; a (fold, member) is a job.

        Warm starts need earlier fits than the last: with them all are trained again, whatever `task.since` says.
        """
        due = [number for number in range(0, len(folds), self.every) if self.warm_start or number >= task.since]
        own = [folds[number].windowed(self.window) for number in due]
        starts = warm_starts(own) if self.warm_start else [None] * len(own)
        members: dict[tuple[int, int], TrainedNetwork] = {}

        for wave in _waves(starts):
            members |= self._fit_wave({number: own[number] for number in wave}, starts, members, task)
        fits = [
            FittedLSTM.assemble(self, fold, [members[number, member] for member in range(self.seeds)])
            for number, fold in enumerate(own)
        ]
        past = task.past if isinstance(task.past, FittedLSTM) else None
        if self.selection:
            before = past.selected if past and past.selected is not None and not self.warm_start else None
            means = [one.selection(fold.data, fold.validation).mean(0) for one, fold in zip(fits, own, strict=True)]
            rows = np.array([*([] if before is None else before), *means])
            fits = [replace(one, selected=rows[: len(rows) - len(fits) + i + 1]) for i, one in enumerate(fits)]
        own_fits = dict(zip(due, fits, strict=True))
        if past is None:
            return in_force(own_fits, None, range(len(folds)))[task.since :]
        fresh = {number: one for number, one in own_fits.items() if number >= task.since}  # the past's own stays
        return in_force(fresh, past, range(task.since, len(folds)))

    def _fit_wave(
        self, folds: dict[int, Fold], starts: Sequence[int | None], known: dict[tuple[int, int], TrainedNetwork],
        task: Task,
    ) -> dict[tuple[int, int], TrainedNetwork]:  # fmt: skip
        """(fold, member) -> network, for folds whose starts are `known`; those that an interrupted run kept are taken.

        Kept by the machine that asks, wherever they are trained.
        """

        def train(job: TrainingJob) -> TrainedNetwork:
            lesson = job.lesson
            fit = train_network(
                self, lesson.inputs, lesson.table, lesson.train, lesson.validation, job.seed, lesson.counts, job.start
            )
            return self._with_validation_outputs(fit, lesson)

        found: dict[tuple[int, int], TrainedNetwork] = {}
        begun: list[tuple[tuple[int, int], str]] = []  # each network that is not kept yet, and its key, as it sets out

        def missing() -> Iterator[TrainingJob]:
            for number, fold in folds.items():
                lesson, earlier = self._prepare(fold), starts[number]
                for member in range(self.seeds):
                    start = None if earlier is None else known[earlier, member].fit.weights
                    job = TrainingJob(lesson, seed_of(self.seed, fold.data.asset_class, fold.cutoff, member), start)
                    key = key_of(self, lesson, job.seed, start) if task.resume else ""
                    fit = recall(task.resume, key, self, lesson) if task.resume else None
                    if fit is None:
                        begun.append(((number, member), key))
                        yield job
                    else:
                        found[number, member] = self._with_validation_outputs(fit, lesson)

        reported = 0

        def report() -> None:
            nonlocal reported
            more = len(found) - reported
            reported += more
            if task.on_fit and more:
                task.on_fit(more)

        for network, (place, key) in zip(stream_out(train, missing(), jobs=task.jobs), begun, strict=False):
            found[place] = network
            if task.resume:
                keep(task.resume, key, network.fit)
            report()
        report()
        return found

    def _with_validation_outputs(self, fit: Fit, lesson: PreparedFold) -> TrainedNetwork:
        outputs = predict_windows(fit.weights, self, lesson.inputs, lesson.validation, len(lesson.centre))
        return TrainedNetwork(fit, outputs, lesson.scaler, lesson.centre, lesson.spread)

    def _prepare(self, fold: Fold) -> PreparedFold:
        samples = self.reads(fold.data)
        if samples.context < self.lookback or samples.horizon != self.horizon:
            raise SettingsError(
                f"the samples have {samples.context} bars of context and horizon {samples.horizon}, the LSTM lookback "
                f"{self.lookback} and horizon {self.horizon}: make samples with as much, or give both the same."
            )
        train, validation = (samples.ends[samples.first_of_end(rows)] for rows in (fold.train, fold.validation))
        scaler = Scaler.fit(samples.features[bars_read(train, self.lookback, len(samples.features))], self.scaling)
        inputs, rows = read_windows(scaler, samples, np.r_[train, validation], self.lookback)
        table = samples.table[:, self.output_columns]
        centre, spread = centre_and_spread(table[train])
        # paths keep their zero (the mean of two years is noise), log-odds their unit
        log_variance = np.zeros(len(spread), bool)
        if "volatility" in self.heads:
            log_variance[self.output_columns == columns_of(self.horizon)["volatility"].start] = True
        centre = np.where(log_variance, centre, 0.0)
        spread = np.where(self.binary_columns, 1.0, spread)
        read = bars_read(np.r_[train, validation], self.lookback, len(table))
        scaled = ((table[read] - centre) / spread).astype(np.float32)
        counts = np.ones(len(inputs), np.float32)
        counts[rows[: len(train)]] = fold.recency(self.half_life)[np.isin(fold.train, samples.first_of_end(fold.train))]
        return PreparedFold(scaler, centre, spread, inputs, scaled, rows[: len(train)], rows[len(train) :], counts)


def _waves(starts: Sequence[int | None]) -> list[list[int]]:
    """Numbers of fits that wait for none of their own wave, only for earlier ones.

    >>> _waves([None, None, 0, 1, 2])
    [[0, 1], [2, 3], [4]]
    """
    depth: list[int] = []
    for start in starts:
        depth.append(0 if start is None else depth[start] + 1)
    return [[number for number, own in enumerate(depth) if own == wave] for wave in range(max(depth, default=-1) + 1)]
