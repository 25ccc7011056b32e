"""An LSTM whose settings are searched for at each tuning date, in what was known then, and used from then on alone.

The search is nested: candidates are fitted and scored on folds inside the slice that ends at the date, each on rows
that neither its training nor its early stopping has seen. No row that the walk-forward forecasts is ever among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from gatecast.compute.cluster import active
from gatecast.compute.notices import notice
from gatecast.compute.parallel import fan_out
from gatecast.errors import GatecastError, StudiesError, did_you_mean
from gatecast.forecasting.forecaster import ALONE, Forecaster, Task, seed_of
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.forecaster import FittedLSTM
from gatecast.forecasting.lstm.source import engine_code
from gatecast.forecasting.schedule import Fold, Period, Window, back
from gatecast.forecasting.tuning.search import Budget, Params, Trial, file_of, open_storage, search
from gatecast.market.bars import session_date
from gatecast.metrics.significance import hac_mean
from gatecast.samples.targets import HEADS, return_scale
from gatecast.settings import Settings, without_moved

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

SCORED = 0.4  # share of a slice, the latest, on which candidates are scored
PASSED_ON = 2  # settings of one date that are among the first guesses of the next
DEFAULT = "_default"
"""Ends the name of the model with the settings that were given, beside the one whose settings are searched for."""


def _ordered(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] > value[1]:
        raise ValueError(f"expected the smaller end first, got {list(value)}")
    return value


MOVED = {"storage": "--storage, GATECAST_STORAGE or Machine(studies=...)"}
"""What stood among the settings up to version 0.1 -> what sets it now."""

ENDS = Field(description="from and to; widened where the given setting lies outside")
_End = Annotated[int, Field(ge=1, le=1000)]
Whole = Annotated[tuple[_End, _End], AfterValidator(_ordered), ENDS]
_Share = Annotated[float, Field(ge=0, le=1)]
Real = Annotated[tuple[_Share, _Share], AfterValidator(_ordered), ENDS]
"""Both ends of a range."""


class Tuning(Settings):
    """What is searched for, where and for how long. One study for each asset class and date.

    >>> Tuning(every="3M").trials
    8
    """

    trials: Annotated[int, Field(ge=1, le=10_000)] = 8
    """candidates a study, the settings that were given among them"""
    seconds: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = Field(default=None, examples=[3600.0])
    """instead, as many candidates as begin in so much time; cannot be repeated exactly"""
    every: Period = "1Y"
    """time from one search to the next, the first at the first refit: 1Y, 3M, 1M"""
    slice: Window = "2Y"
    """what a search sees, the latest before its date; its last two fifths are scored"""
    folds: Annotated[int, Field(ge=1, le=10)] = 2
    """blocks of the slice, one after the other, on which candidates are scored"""
    seeds: Annotated[int, Field(ge=1, le=20)] = 1
    """networks a candidate"""
    head: str = "all"
    """whose loss counts: all for the mean of the LSTM's heads, or one of them"""
    margin: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """standard errors of the daily loss by which a candidate must beat the given settings to replace them"""
    sampler: Literal["tpe", "gp"] = "tpe"
    """Parzen estimators, see Bergstra et al. 2011, or a Gaussian process"""
    prune: bool = True
    """give up candidates that are worse than the median after a block"""
    lookback: Whole = (10, 100)
    layers: Whole = (1, 3)
    units: Whole = (16, 256)
    dropout: Real = (0.2, 0.4)
    learning_rate: Real = (1e-3, 5e-3)
    weight_decay: Real = (1e-4, 1e-1)
    batch: Whole = (4, 16)
    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = ("1Y", "2Y")
    """what may be learned from; no more than the slice is seen in the search"""
    features: bool = False
    """whether each feature may be left out"""

    @model_validator(mode="before")
    @classmethod
    def _without_an_address(cls, values: Any) -> Any:
        return without_moved(values, MOVED)

    @field_validator("head")
    @classmethod
    def _known_head(cls, head: str) -> str:
        if head not in ("all", *HEADS):
            raise ValueError(f"unknown head {head!r}. {did_you_mean(head, ('all', *HEADS))}")
        return head

    @model_validator(mode="after")
    def _ranges_that_an_lstm_takes(self) -> Tuning:
        for name in ("lookback", "layers", "units", "dropout", "learning_rate", "weight_decay", "batch"):
            for end in getattr(self, name):
                LSTM(**{name: end})
        return self

    def reproducible(self, studies: str | None) -> bool:
        """Whether the same study has the same trials again; `studies`: its address."""
        return self.seconds is None and not is_shared(studies)

    def given(self, lstm: LSTM, samples: Samples) -> Params:
        """The settings that were given, as a candidate."""
        ranges = ("lookback", "layers", "units", "dropout", "learning_rate", "weight_decay", "batch")
        params: Params = {name: getattr(lstm, name) for name in ranges} | {"window": lstm.window}
        return params | {f"feature: {name}": lstm.reads(samples).names.count(name) > 0 for name in self.free(samples)}

    def space(self, lstm: LSTM, samples: Samples) -> dict[str, BaseDistribution]:
        """Name -> range or choices of each parameter; what was given lies inside."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        given = self.given(lstm, samples)
        space: dict[str, BaseDistribution] = {}
        for name in ("lookback", "layers", "units", "batch"):
            low, high = getattr(self, name)
            step = 16 if name == "units" and low % 16 == high % 16 == given[name] % 16 else 1
            space[name] = IntDistribution(min(low, given[name]), max(high, given[name]), step=step)
        for name in ("dropout", "learning_rate", "weight_decay"):
            low, high = min(getattr(self, name)[0], given[name]), max(getattr(self, name)[1], given[name])
            space[name] = FloatDistribution(low, high, log=name != "dropout" and low > 0)
        space["window"] = CategoricalDistribution(tuple(dict.fromkeys((given["window"], *self.windows))))
        return space | {f"feature: {name}": CategoricalDistribution((True, False)) for name in self.free(samples)}

    def free(self, samples: Samples) -> tuple[str, ...]:
        """The features that may be left out."""
        return samples.names if self.features and len(samples.names) > 1 else ()

    def refits_between(self, refit: str | int) -> float:
        """About how many refits there are from one search to the next; 21 bars are taken for a month.

        >>> Tuning(every="1Y").refits_between("1M"), Tuning(every="3M").refits_between("1Y")
        (12.0, 1.0)
        """
        days = {"D": 1 / 21, "W": 0.25, "M": 1.0, "Y": 12.0}
        months = refit / 21 if isinstance(refit, int) else int(refit[:-1]) * days[refit[-1]]
        return max(1.0, int(self.every[:-1]) * days[self.every[-1]] / months)

    @property
    def reach(self) -> int:
        """The longest lookback that may be chosen."""
        return self.lookback[1]


def is_shared(studies: str | None) -> bool:
    """Whether other machines may work on the studies at an address; None: they are in memory.

    >>> is_shared("sqlite:///studies.db"), is_shared("postgresql+psycopg://host/studies")
    (False, True)
    """
    return studies is not None and file_of(studies) is None


def with_params(lstm: LSTM, params: Params, samples: Samples) -> LSTM:
    """The settings with those of a candidate."""
    features = {name.removeprefix("feature: "): there for name, there in params.items() if name.startswith("feature: ")}
    plain = {name: value for name, value in params.items() if not name.startswith("feature: ")}
    if features:
        every = lstm.reads(samples).names
        plain["features"] = tuple(name for name in every if features[name]) or every  # it must read something
    tuned: LSTM = lstm.replace(**plain)
    return tuned


class GivenLSTM(LSTM):
    """The LSTM with the settings that were given, beside the one whose settings are searched for: no member."""

    def member_heads(self) -> tuple[str, ...]:
        """None: the ensemble has the other."""
        return ()


class TunedLSTM(Forecaster):
    """The LSTM, its settings those of the latest search."""

    kind: ClassVar = LSTM.kind
    traits: ClassVar = LSTM.traits
    fitted: ClassVar = FittedLSTM

    lstm: LSTM
    """settings that were given, and what is not searched for"""
    tuning: Tuning
    """what is searched for"""

    @property
    def name(self) -> str:
        """The LSTM's own."""
        return self.lstm.name

    def output_heads(self) -> tuple[str, ...]:
        """The LSTM's heads."""
        return self.lstm.output_heads()

    def packages(self) -> tuple[str, ...]:
        """The LSTM's own."""
        return self.lstm.packages()

    def begin(self) -> bool:
        """The LSTM's own."""
        return self.lstm.begin()

    def relative_work(self) -> float:
        """The LSTM's own; the searches are counted apart."""
        return self.lstm.relative_work()

    def fit_count(self, folds: int) -> int:
        """Networks that are trained with settings in force."""
        return self.lstm.fit_count(folds)

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLSTM]:
        """One fit a fold with the settings in force there; its `searches` say how they came about."""
        dated = tuning_dates(folds, self.tuning.every)
        past = task.past.searches if isinstance(task.past, FittedLSTM) else ()
        new = [folds[number] for number in dated[len(past) :]]
        searches = [*past, *self.search_all(new, task, past)]
        fits: list[FittedLSTM] = []
        for number, (begin, end) in enumerate(pairwise((*dated, len(folds)))):
            if end <= task.since:
                continue
            settings = with_params(self.lstm, searches[number]["chosen"], folds[begin].data)
            since = max(task.since - begin, 0)
            own = settings.fit_many(
                folds[begin:end], replace(task, since=since, past=task.past if since else None)
            )  # what was fitted with other settings is no past of these
            told = {id(one): replace(one, searches=tuple(searches[: number + 1])) for one in own}
            fits += [one if one is task.past else told[id(one)] for one in own]  # one fit of several folds stays one
        return fits

    def search_all(
        self, folds: Sequence[Fold], task: Task = ALONE, past: Sequence[dict[str, Any]] = ()
    ) -> list[dict[str, Any]]:
        """A search at each fold's cutoff, the best of one among the first guesses of the next; see `search_once`.

        Searches are kept at the address `task.studies`. A file may fail: the search then goes on in memory, and
        `compute.notices` has it. Raises `StoreError` where a server fails.
        """
        found: list[dict[str, Any]] = []

        def search_in(address: str | None) -> None:
            with open_storage(address) as storage:
                for number in range(len(found), len(folds)):
                    guesses = best_of([*past, *found][-1]["trials"]) if past or found else []
                    on_progress = partial(_report_search, task, number, len(folds))
                    found.append(
                        search_once(self.lstm, self.tuning, folds[number], guesses, storage, task, on_progress)
                    )

        if task.studies is None or is_shared(task.studies):
            search_in(task.studies)
            return found
        try:
            search_in(task.studies)
        except StudiesError as error:  # a file, without which the search is the same
            notice(f"{error} The search goes on in memory: if it is interrupted, it begins anew.")
            search_in(None)
        return found


def _report_search(task: Task, before: int, searches: int, done: int, of: int, best: str) -> None:
    if task.on_search:
        task.on_search(before * of + done, searches * of, best)


def tuning_dates(folds: Sequence[Fold], every: str) -> list[int]:
    """Numbers of the folds at whose cutoff a search is due: the first, and each that lies a period after the last.

    Months and years are counted by the calendar: the first session of a month may be its first or its third day.

    >>> monthly = [Fold(i, *[np.zeros(0, np.int64)] * 3, np.datetime64("2020-01") + i) for i in range(30)]
    >>> tuning_dates(monthly, "1Y")
    [0, 12, 24]
    """
    unit = "datetime64[M]" if every[-1] in "MY" else "datetime64[D]"
    days = session_date(np.array([fold.cutoff for fold in folds], "datetime64[us]"))
    due: list[int] = []
    for number, day in enumerate(days):
        if not due or back(day, every).astype(unit) >= days[due[-1]].astype(unit):
            due.append(number)
    return due


def search_once(
    lstm: LSTM, tuning: Tuning, fold: Fold, guesses: Sequence[Params], storage: BaseStorage, task: Task = ALONE,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The search of one date.

    In: `fold.cutoff` is the date; nothing but rows whose answers are known by then is looked at. Out: JSON-able
    `asset_class`, `date` and `since` (UTC, the end and the beginning of what was seen), `chosen` (parameters in force
    from the date on), `given_loss` and `loss` (mean daily loss of the given and of the best settings, as a share of
    what a constant forecast loses), `statistic` (standard errors by which the best beats the given), `replaced`
    (whether it did by the margin), `reproducible`, `trials` (number, params, state, loss, reason).
    """
    samples = fold.data
    given, space = tuning.given(lstm, samples), tuning.space(lstm, samples)
    inner = fold.inner(tuning.slice, tuning.folds, SCORED)
    first = list({repr(sorted(one.items(), key=str)): one for one in (given, *guesses)}.values())
    heads = lstm.heads if tuning.head == "all" else (tuning.head,)

    alone = Task(resume=None if active() else task.resume)  # a folder of this machine, not of a cluster's

    def evaluate(candidates: Sequence[tuple[int, Params]], step: int) -> list[FloatArray | str]:
        def tried(candidate: tuple[int, Params]) -> FloatArray | str:
            number, params = candidate
            try:
                settings: LSTM = with_params(lstm, params, samples).replace(
                    seeds=tuning.seeds, seed=seed_of(lstm.seed, samples.asset_class, fold.cutoff, number),
                )  # fmt: skip
                return relative_losses(settings.fit_many([inner[step]], alone)[0], inner[step], heads)
            except (GatecastError, ArithmeticError, MemoryError, ValueError) as error:
                return f"{type(error).__name__}: {error}"

        return fan_out(tried, candidates, jobs=task.jobs)

    repeats = tuning.reproducible(task.studies)
    day, key = np.datetime_as_string(fold.cutoff, "D"), key_of(lstm, tuning, fold, inner, first if repeats else ())
    trials = search(
        storage, f"{samples.asset_class} {day} {key}",
        space, first, evaluate, steps=len(inner), budget=Budget(tuning.trials, tuning.seconds),
        sampler=tuning.sampler, prune=tuning.prune, shared=is_shared(task.studies),
        seed=lambda number: seed_of(lstm.seed, samples.asset_class, fold.cutoff, number),
        progress=on_progress and (
            lambda known: on_progress(min(len(known), tuning.trials), tuning.trials, _best(known, given))
        ),
    ) if inner else []  # fmt: skip
    return _judged(tuning, fold, given, trials, repeats)


def _best(trials: Sequence[Trial], given: Params) -> str:
    """The best loss so far beside that of the settings given."""
    losses = [one.loss for one in trials if one.state == "complete" and one.loss is not None]
    own = next((one.loss for one in trials if one.params == given and one.loss is not None), None)
    return f"best {min(losses):.4f}" + (f", given {own:.4f}" if own is not None else "") if losses else ""


def best_of(trials: Sequence[Mapping[str, Any]]) -> list[Params]:
    """The best settings of one search: among the first guesses of the next."""
    done = sorted((one for one in trials if one["state"] == "complete"), key=lambda one: (one["loss"], one["number"]))
    return [dict(one["params"]) for one in done[:PASSED_ON]]


def _judged(tuning: Tuning, fold: Fold, given: Params, trials: Sequence[Trial], repeats: bool) -> dict[str, Any]:
    """See `search_once`: the best of the trials, where it beats the settings given by the margin.

    `repeats`: whether the same search has the same trials again.
    """
    done = sorted((one for one in trials if one.state == "complete"), key=lambda one: (one.loss, one.number))
    own = next((one for one in done if one.params == given), None)
    best, statistic = (done[0] if done else None), None
    if best and own and best is not own:
        statistic = hac_mean(np.subtract(own.days, best.days), 2 * fold.data.horizon_sessions).statistic
    replaced = best is not None and best is not own and (own is None or (statistic or 0.0) > tuning.margin)
    return {
        "asset_class": fold.data.asset_class, "date": str(np.datetime_as_string(fold.cutoff, "s")),
        "since": str(np.datetime_as_string(fold.since(tuning.slice), "s")),
        "chosen": best.params if replaced and best else given,
        "given_loss": own.loss if own else None, "loss": best.loss if best else None,
        "statistic": statistic, "replaced": replaced, "reproducible": repeats,
        "trials": [
            {"number": one.number, "params": one.params, "state": one.state, "loss": one.loss, "reason": one.reason}
            for one in trials
        ],
    }  # fmt: skip


def relative_losses(fitted: FittedLSTM, fold: Fold, heads: Sequence[str]) -> FloatArray:
    """(days,) mean loss over symbols and heads on the fold's test rows, as a share of what a constant loses there.

    Squared errors: of the path in trailing volatilities against no change, of probabilities against the share of the
    training rows, of log variance against their mean.
    """
    samples, rows = fold.data, fold.test
    forecast, ends = fitted.predict(samples, rows), samples.ends[rows]
    decided, known = samples.decided[rows], samples.decided[fold.train]
    total, count = np.zeros(len(rows)), np.zeros(len(rows))
    for head in heads:
        answer, made = samples.targets[head].value, forecast[head]
        if head == "return":
            unit = return_scale(samples.facts.sigma[ends], samples.horizon)
            loss, constant = (((answer[decided] - one) / unit) ** 2 for one in (made, 0.0))
            loss, constant = loss.mean(1), constant.mean(1)
        else:
            learned = answer[known][np.isfinite(answer[known])]
            made = np.log(made) if head == "volatility" else made
            centre = learned.mean() if len(learned) else np.nan  # early on the class has no level of turbulence yet
            loss, constant = ((answer[decided] - one) ** 2 for one in (made, centre))
        there = np.isfinite(constant)
        if there.any():
            total[there] += loss[there] / constant[there].mean()
            count += there
    rows, total, count = rows[count > 0], total[count > 0], count[count > 0]
    if not len(rows) or not np.isfinite(total).all():
        raise ArithmeticError("a forecast is not finite, or nothing has an answer")
    _, day = np.unique(samples.sessions[rows], return_inverse=True)
    means: FloatArray = np.bincount(day, total / count) / np.bincount(day)
    return means


def key_of(lstm: LSTM, tuning: Tuning, fold: Fold, inner: Sequence[Fold], guesses: Sequence[Params]) -> str:
    """Short hash of what a study depends on beside its budget: engine, settings, ranges and every number that it reads.

    The first guesses are the outcome of another study: where that one has grown, this one begins anew. Not so where
    outcomes hang on who was how fast: there all must meet in one study.
    """
    samples = fold.data
    digest = hashlib.sha256(engine_code() + lstm.model_dump_json().encode())
    digest.update(repr(guesses).encode() if guesses else b"")
    digest.update(tuning.model_dump_json(exclude={"trials", "seconds", "every", "margin"}).encode())
    for one in inner:
        rows = np.r_[one.train, one.validation, one.test]
        ends = samples.ends[rows]
        for array in (ends, samples.time[ends], samples.features[ends], samples.answers[rows]):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
