"""The interface of everything that forecasts: settings that fit, and fitted numbers that predict.

A model is one class: its settings, its title, the heads that it forecasts, what it costs, and how it is fitted. Adding
one takes this class and `@FORECASTERS.add`; see docs/plugins.md.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

from gatecast.compute.estimate import Seconds
from gatecast.compute.parallel import fan_out
from gatecast.errors import PluginError, SettingsError, StoreError
from gatecast.plugins import Registry, subclass_of
from gatecast.samples.targets import HEADS
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

USUAL = Seconds()
"""What a model takes that says nothing of it."""

Fitted = TypeVar("Fitted", bound="FittedForecaster")
Item = TypeVar("Item")


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

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedForecaster:
        """The inverse of `state`; raises `KeyError`, `TypeError` or `ValueError` for what is not a state of it."""
        ...


@runtime_checkable
class SeedEnsemble(FittedForecaster, Protocol):
    """A fitted forecaster made of several that differ by their seed alone."""

    def predict_members(
        self, samples: Samples, rows: IntArray
    ) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
        """What `predict` returns, and what each seed by itself would have."""
        ...


@dataclass(frozen=True)
class Traits:
    """What is true of a model whatever its settings.

    `title`: for tables, sentences and pages. `heads`: what it forecasts, of `return`, `direction`, `volatility`,
    `regime`. `seconds`: what a refit with the default settings takes. `member_of`: heads whose ensemble it joins unless
    the settings name the members. `linear`: a linear model, which needs the least record to be trusted. `learns_slope`:
    False for rules that fit no slope.
    """

    title: str
    heads: tuple[str, ...]
    seconds: Seconds = USUAL
    member_of: tuple[str, ...] = ()
    linear: bool = False
    learns_slope: bool = True


@dataclass(frozen=True)
class Task:
    """What a fit is told beside its settings; nothing here changes a number.

    `name`: under which the forecasts are kept. `jobs`: cores. `on_fit`: called with how many more fits are done.
    `on_search`: hears how many candidates of a search were tried, of how many, and the best so far in words.
    `resume`: folder that keeps an interrupted run's networks. `studies`: address of the file or server that keeps
    searches. `since`, `past`: the number of folds that were fitted before, and the last fit of these: only the folds
    from `since` on are fitted, and where none is due yet, `past` stays.
    """

    name: str = ""
    jobs: int = 1
    on_fit: Callable[[int], None] | None = None
    on_search: Callable[[int, int, str], None] | None = None
    resume: Path | None = None
    studies: str | None = None
    since: int = 0
    past: FittedForecaster | None = None


ALONE = Task()
"""One core, nothing heard and nothing kept."""


class Forecaster(Settings, ABC):
    """Settings of a model, which can be fitted. A concrete model is final, says `kind`, `traits` and `fitted`."""

    kind: ClassVar[str]
    """its name in settings files"""
    traits: ClassVar[Traits]
    fitted: ClassVar[type[FittedForecaster]]
    """what `fit_many` returns, and what a stored model is rebuilt as"""

    @property
    def name(self) -> str:
        """The name under which it forecasts where no other is given."""
        return self.kind

    def traits_with_settings(self) -> Traits:
        """What is true of it whatever its settings."""
        return self.traits

    def title(self) -> str:
        """What a reader calls it."""
        return self.traits.title

    def phrase(self) -> str:
        """The title within a sentence."""
        return f"the {self.title()}"

    @classmethod
    def is_named(cls) -> bool:
        """Whether settings may make one by its kind: not one that is made around another."""
        return True

    def output_heads(self) -> tuple[str, ...]:
        """The heads that it forecasts with these settings."""
        return self.traits.heads

    def member_heads(self) -> tuple[str, ...]:
        """The heads whose ensemble it joins unless the settings name the members."""
        return self.traits.member_of

    def packages(self) -> tuple[str, ...]:
        """Packages that it needs and that gatecast does without, each by the name of the extra that has it."""
        return ()

    def relative_work(self) -> float:
        """How many times the work of the default settings a fit takes, about."""
        return 1.0

    def kind_of(self, fitted: FittedForecaster) -> str:
        """The kind as which a fit of it is stored."""
        return self.kind

    def usual_seconds(self) -> Seconds:
        """What it usually takes on one core, with these settings."""
        return self.traits_with_settings().seconds.times(self.relative_work())

    def begin(self) -> bool:
        """Starts, beside other work, what its fits wait for; returns whether they wait for anything.

        Called as a run begins, and before any model is fitted: models that wait are fitted after those that do not.
        """
        return False

    def lightened(self) -> Self:
        """The same with as little work as it can do: a leak of the chain shows in any model."""
        return self

    def fit_count(self, folds: int) -> int:
        """What `Task.on_fit` is told in all for so many folds."""
        return folds

    @abstractmethod
    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> Sequence[FittedForecaster]:
        """One fitted forecaster a fold from `task.since` on, each from its own train and validation rows."""


def _fault(thing: object) -> str:
    """What is wrong with a class that is offered as a model; "" where it can be one."""
    if fault := subclass_of(Forecaster)(thing):
        return fault
    traits, fitted = getattr(thing, "traits", None), getattr(thing, "fitted", None)
    if not isinstance(traits, Traits) or not traits.heads or not set(traits.heads) <= set(HEADS):
        return f"expected `traits = Traits(title, heads)` with heads of {', '.join(HEADS)}, got {traits!r}"
    if not all(callable(getattr(fitted, name, None)) for name in ("predict", "state", "from_state")):
        return f"expected `fitted`, the class of its fits with predict, state and from_state, got {fitted!r}"
    return ""


FORECASTERS: Registry[type[Forecaster]] = Registry("model", "gatecast.forecasters", fault=_fault)
"""Kinds of models: built in, added by `@FORECASTERS.add`, or offered by an installed package's entry point."""

FORMER_KINDS = {"linear": "ridge", "lag": "ridge_lag", "smooth_har": "har_smooth", "highway": "residual_lstm"}
"""Kinds in the folders of older runs -> a kind whose fitted forecaster is the same."""


def of_kind(table: Mapping[str, Any]) -> Forecaster:
    """The forecaster of a table of settings, its `kind` among them.

    Raises `SettingsError` where there is no such kind, or a setting is none of it.

    >>> import gatecast.forecasting.models.garch
    >>> of_kind({"kind": "garch", "every": 6})
    Garch(every=6, minimum=500, asymmetric=False)
    """
    settings = dict(table)
    kind = str(settings.pop("kind", ""))
    try:
        cls = FORECASTERS.find(FORMER_KINDS.get(kind, kind))
    except PluginError as error:
        raise SettingsError(str(error)) from None
    if not cls.is_named():
        raise SettingsError(f"kind = {kind!r} is made around another model, and cannot be named in settings.")
    return cls(**settings)


def from_state(arrays: dict[str, NDArray[Any]], settings: Mapping[str, Any]) -> FittedForecaster:
    """The fitted forecaster whose `state()` gave these arrays and settings, `kind` beside them.

    Raises `StoreError` for an unknown kind, and for arrays or settings that do not make up such a model.

    >>> import numpy as np
    >>> from gatecast.forecasting.models.naive import FittedNaive
    >>> arrays, settings = FittedNaive("zero", {}, np.array([np.nan]), ("SP500",)).state()
    >>> from_state(arrays, {"kind": "naive", **settings}).rule
    'zero'
    """
    own = dict(settings)
    kind = str(own.pop("kind", None))
    try:
        cls = FORECASTERS.find(FORMER_KINDS.get(kind, kind))
    except PluginError as error:
        raise StoreError(f"a stored model is of the unknown kind {kind!r}: {error}") from None
    try:
        return cls.fitted.from_state(arrays, own)
    except Exception as error:  # a plug-in's own may be any
        raise StoreError(
            f"a stored model of kind {kind!r} lacks or mangles {str(error)[:200]}: it was written by another "
            "version, or damaged."
        ) from None


def state_of(forecaster: Forecaster, fitted: FittedForecaster) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and JSON-able settings, `kind` among them, from which `from_state` rebuilds a forecaster's fit."""
    arrays, settings = fitted.state()
    return arrays, {"kind": forecaster.kind_of(fitted), **settings}


def fit_every(
    fit: Callable[[Item], Fitted], folds: Sequence[Fold], every: int, task: Task, *,
    from_fold: Callable[[Fold], Item] | None = None, jobs: int = 1, processes: bool = False, light: bool = False,
) -> list[Fitted]:  # fmt: skip
    """A fit at every `every`-th fold, kept for those that follow it; a fold is the same whatever came before it.

    `from_fold`: what `fit` takes of a fold, where that is less than the fold. `jobs`, `processes`, `light`: see
    `compute.parallel.fan_out`.

    >>> fit_every(lambda fold: fold * 10, [0, 1, 2, 3], 2, Task(since=1, past=0))
    [0, 20, 20]
    """
    due = [number for number in range(task.since, len(folds)) if number % every == 0]
    ends = iter([*due[1:], len(folds)])
    begins = iter(due)
    report = task.on_fit
    items: list[Any] = [from_fold(folds[number]) if from_fold else folds[number] for number in due]
    fits = fan_out(
        fit, items, jobs=jobs, processes=processes, light=light,
        progress=(lambda _: report(next(ends) - next(begins))) if report else None,
    )  # fmt: skip
    return in_force(dict(zip(due, fits, strict=True)), task.past, range(task.since, len(folds)))


def in_force(fits: Mapping[int, Fitted], past: Any, folds: Iterable[int]) -> list[Fitted]:
    """The fit that each fold is served by: its own, else the latest before it, else the past's.

    `fits`: by the number of their fold. `past`: the fit that is in force before `folds`, ascending.

    >>> in_force({2: "second", 4: "third"}, "first", range(1, 6))
    ['first', 'second', 'second', 'third', 'third']
    """
    served, current = [], past
    for number in folds:
        current = fits.get(number, current)
        served.append(current)
    return served


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
