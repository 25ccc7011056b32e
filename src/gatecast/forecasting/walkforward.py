"""Walk-forward: every refit forecasts the block that follows it, and nothing is kept but those forecasts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal
from weakref import ReferenceType, ref

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.compute.memory import give_back
from gatecast.compute.parallel import side_by_side
from gatecast.errors import BarsError, SettingsError
from gatecast.forecasting.checks import fits_of, predictions_of, refuse_impossible
from gatecast.forecasting.forecaster import ALONE, Forecaster, Task
from gatecast.forecasting.guard import Block, served
from gatecast.forecasting.panel import MADE_OF_OTHERS
from gatecast.forecasting.schedule import Fold, Schedule, known_by, work_of
from gatecast.libraries import require
from gatecast.market.merging import ALIKE
from gatecast.notebook import Shown, draw_lines
from gatecast.samples.windows import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.compute.disk import Disk
    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Fold", "Forecasts", "Issued", "Schedule", "known_by", "walk_forward"]

LEAST_COMMON = 60  # rows of a symbol that it takes to tell whether a past is of the same market
FEW_COMMON = 3  # rows below which nothing is said
OTHER_MARKET = 0.5  # correlation of returns below which it is not

Progress = Callable[[str, int], None]
"""Called with a model's name and how many more of its fits are done."""


Keys = tuple[Any, Any]
"""Symbols (rows,) and times (rows,) datetime64[us] of samples."""


@dataclass(frozen=True)
class Fits:
    """What became of one model's folds: a fit for each, and the wall-clock seconds that they took."""

    name: str
    folds: tuple[Fold, ...]
    fits: Sequence[FittedForecaster]
    seconds: float


class NoRecordError(Exception):
    """Something is to be learned from the record, and the forecasts are those of some samples alone."""


@dataclass(frozen=True)
class Forecasts(Shown):
    """Out-of-sample forecasts of one asset class.

    Attributes
    ----------
    values: model -> head -> array over the samples, (samples,) or (samples, horizon), NaN where nothing was forecast.
    scale: model -> one array a fold: the same fit's forecasts of the last step's return on the fold's validation rows,
        in their order. Signals take their scale from it; nothing else may.
    fitted: model -> the fitted forecaster in force at the end: the last refit's unless the guard refused it.
    refused: model -> cutoff of each refit that the guard refused -> the reason, one sentence; see `forecasting.guard`.
    refused_fits: model -> the last refit's fitted forecaster, where it is not in force: the next fits go on from it.
    panel: model -> the forecaster that was fitted: what a model is called, and what is true of it, stands there.
    members: model -> for each of its seeds, head -> what that seed alone forecast, of a path the last step.
    in_force: head -> for each fold the name of the forecast that the ensemble passes on.
    rivals: head -> for each fold the name of the simple rival in force, see `evaluation.rivals`.
    learned: part -> the numbers that the ensemble has learned at the last refit, see `combining.choice.Learning`.
    passed: cutoff of the newest refit that was made and is out of force again, see `Schedule.folds`; None: of none.
    has_record: whether the samples are all that there are; of some alone nothing can be learned, see `of`.

    Of a class that is finished, beside others, arrays are on disk and read when they are asked for, see `compute.disk`.
    """

    samples: Samples
    folds: tuple[Fold, ...]
    values: Mapping[str, Mapping[str, FloatArray]]
    scale: Mapping[str, tuple[FloatArray, ...]] = field(default_factory=dict)
    fitted: dict[str, FittedForecaster] = field(default_factory=dict)
    members: Mapping[str, tuple[Mapping[str, FloatArray], ...]] = field(default_factory=dict)
    in_force: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rivals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    panel: Mapping[str, Forecaster] = field(default_factory=dict)
    refused: Mapping[str, Mapping[np.datetime64, str]] = field(default_factory=dict)
    refused_fits: Mapping[str, FittedForecaster] = field(default_factory=dict)
    learned: Mapping[str, FloatArray] = field(default_factory=dict)
    passed: np.datetime64 | None = None
    has_record: bool = True

    @cached_property
    def rows(self) -> IntArray:
        """Rows that were forecast out of sample, ascending."""
        if not self.folds:
            return np.zeros(0, np.int64)
        return np.sort(np.concatenate([fold.test for fold in self.folds]))

    @property
    def sentence(self) -> str:
        """How many rows were forecast out of sample, in how many refits, by which models."""
        return (
            f"{len(self.rows):,} rows of {len(self.samples.symbols)} symbols, forecast out of sample in "
            f"{len(self.folds)} refits by {', '.join(self.values)}."
        )

    def plot(self, head: str = "volatility", symbol: str | None = None) -> Any:
        """A Plotly figure: each model's out-of-sample forecasts of one head, of a path the last step.

        `symbol`: the first one if None. Raises `SettingsError` for a head that no model forecasts or an unknown symbol.
        """
        there = {model: heads[head] for model, heads in _in_memory(self.values) if head in heads}
        names, times = self.keys_of(self.rows)
        symbol = self.samples.symbols[0] if symbol is None else symbol
        if not there or symbol not in self.samples.symbols:
            heads = sorted({name for _, one in _in_memory(self.values) for name in one})
            raise SettingsError(
                f"no forecast of {head!r} for {symbol!r}: heads are {', '.join(heads)}, symbols "
                f"{', '.join(self.samples.symbols[:12])}."
            )
        own = self.rows[names == symbol]
        lines = {model: (values[own, -1] if values.ndim > 1 else values[own]) for model, values in there.items()}
        return draw_lines(times[names == symbol].tolist(), lines, f"{symbol}: {head}, out of sample", head)

    def issued(self, rows: IntArray | None = None) -> Issued:
        """What was issued, by symbol and time of decision: the past of a walk over more bars; `rows`: no others."""
        rows = self.rows if rows is None else rows
        samples = self.samples
        values = {
            model: {head: at_rows(heads, head, rows) for head in heads} for model, heads in _in_memory(self.values)
        }
        members = {
            model: tuple({head: at_rows(heads, head, rows) for head in heads} for heads in map(_read, each))
            for model, each in self.members.items()
        }
        return Issued(
            tuple(samples.symbols[number] for number in samples.symbol[samples.decided[rows]]), samples.times[rows],
            tuple(fold.cutoff for fold in self.folds), values, dict(self.scale), self.fitted, members,
            self.in_force, self.rivals, samples.targets["return"].value[samples.decided[rows], 0],
            self.refused, self.refused_fits, learned=self.learned, passed=self.passed,
        )  # fmt: skip

    def keys_of(self, rows: IntArray) -> Keys:
        """Symbols and times of samples."""
        samples = self.samples
        names = np.array(samples.symbols, dtype=object)
        return names[samples.symbol[samples.decided[rows]]], samples.times[rows]

    def of(self, rows: IntArray) -> Forecasts:
        """The forecasts of some samples of the last refit alone, ascending: what follows from them and nothing else."""
        samples, none = self.samples, np.zeros(0, np.int64)
        own = replace(samples, decided=samples.decided[rows], ends=samples.ends[rows])
        folds = [replace(one, train=none, validation=none, test=none, samples=own) for one in self.folds]
        folds[-1] = replace(folds[-1], test=np.arange(len(rows)))
        values = {
            model: {head: at_rows(heads, head, rows) for head in heads} for model, heads in _in_memory(self.values)
        }
        return replace(
            self, samples=own, folds=tuple(folds), values=values, scale={}, members={}, has_record=False
        )  # fmt: skip

    def refuse_some(self) -> None:
        """Raises `NoRecordError` where these are the forecasts of some samples alone."""
        if not self.has_record:
            raise NoRecordError

    def as_issued(self, past: Issued | None) -> Forecasts:
        """The forecasts, with the values that a past has issued in its rows, for models and heads that both have.

        Without corrected bars this changes nothing, since every value is made from the record alone.
        """
        if past is None or not self.folds:
            return self
        values: dict[str, Mapping[str, FloatArray]] = {}
        for model, heads in _in_memory(self.values):
            before = past.values.get(model, {}) if model not in past.fitted else {}  # what goes on was taken over
            values[model] = (
                heads
                if not before or isinstance(heads, Laid)
                else {
                    head: past.laid_on(self.samples, before[head], array) if head in before else array
                    for head, array in heads.items()
                }
            )
        return replace(
            self, values=values,
            in_force={head: (*past.in_force.get(head, ()), *names[len(past.in_force.get(head, ())) :])
                      for head, names in self.in_force.items()},
            rivals={head: (*past.rivals.get(head, ()), *names[len(past.rivals.get(head, ())) :])
                    for head, names in self.rivals.items()},
        )  # fmt: skip

    def with_model(self, name: str, heads: Mapping[str, FloatArray]) -> Forecasts:
        """The same with one more model."""
        return replace(self, values={**self.values, name: heads})

    def stored_on(self, disk: Disk, samples: Samples) -> Forecasts:
        """The same with its arrays on disk, but for the rows of test blocks; its samples become those given."""
        return replace(
            self,
            samples=samples,
            folds=tuple(disk.store(fold.on(samples), "train", "validation") for fold in self.folds),
            values={model: disk.arrays(heads) for model, heads in self.values.items()},
            scale=disk.blocks(self.scale),
            members={model: tuple(disk.arrays(one) for one in each) for model, each in self.members.items()},
        )

    def to_frame(self) -> pl.DataFrame:
        """`symbol, time, model, head, step, value, known_at`, sorted by symbol, time, model, head and step."""
        return self._frame_of(self.rows, self._in_memory())

    def frames(self) -> Iterator[pl.DataFrame]:
        """The parts of `to_frame`, one symbol after the other: a long frame has ten times the bytes of its numbers."""
        rows, values = self.rows, self._in_memory()
        number = self.samples.symbol[self.samples.ends[rows]]
        for place in range(len(self.samples.symbols)):
            yield self._frame_of(rows[number == place], values)

    def _in_memory(self) -> dict[str, Mapping[str, FloatArray]]:
        """The values, read from disk once."""
        return dict(_in_memory(self.values))

    def _frame_of(self, rows: IntArray, values: dict[str, Mapping[str, FloatArray]]) -> pl.DataFrame:
        samples = self.samples
        decided = samples.decided[rows]
        time, number = samples.time[decided], samples.symbol[decided]
        known_at: dict[int, NDArray[np.datetime64]] = {}  # of a step
        names: list[tuple[str, str, int]] = []  # model, head and step of each part, in their order
        there, value, known = [], [], []
        for model, heads in sorted(values.items()):
            for head in sorted(heads):
                found = at_rows(heads, head, rows)
                table = found.reshape(len(rows), math.prod(found.shape[1:]))
                for column in range(table.shape[1]):
                    step = column + 1 if table.shape[1] > 1 else samples.horizon
                    if step not in known_at:
                        known_at[step] = samples.answered_at(decided, step)
                    issued = np.flatnonzero(~np.isnan(table[:, column]))
                    names.append((model, head, step))
                    there.append(issued)
                    value.append(table[issued, column])
                    known.append(known_at[step][issued])
        part, row = np.repeat(np.arange(len(names)), [len(one) for one in there]), np.concatenate(there)
        order = np.lexsort((part, time[row], number[row]))
        part = part[order]
        model_of, head_of, step_of = (list(one) for one in zip(*names, strict=True))
        return pl.DataFrame(
            {
                "symbol": pl.Series(samples.symbols, dtype=pl.String).gather(number[row[order]]),
                "time": pl.Series(time[row[order]]).dt.replace_time_zone("UTC"),
                "model": pl.Series(model_of, dtype=pl.String).gather(part),
                "head": pl.Series(head_of, dtype=pl.String).gather(part),
                "step": pl.Series(step_of, dtype=pl.Int32).gather(part),
                "value": pl.Series(np.concatenate(value)[order]),
                "known_at": pl.Series(np.concatenate(known)[order]).dt.replace_time_zone("UTC"),
            }
        )


@dataclass(frozen=True)
class Issued:
    """What a walk-forward has issued of one asset class: forecasts by symbol and time, and the last fits.

    It has no samples: a past of years is as large as its forecasts.

    Attributes
    ----------
    symbol, time: (rows,) whose forecast each is, and the close at which it was made. cutoffs: of the refits, in time
        order. values, members: as in `Forecasts`, arrays over these rows.
    scale, fitted, in_force, rivals, refused, refused_fits, learned, passed: as in `Forecasts`.
    moves: (rows,) log return over the bar that follows, NaN where it was not known; empty: not known at all. They tell
        whether longer bars are those of the same market.
    validation: for each refit the rows that `scale` is of; empty: those of the same refit. A past that has them may be
        gone on from by bars with rows that came later.
    """

    symbol: tuple[str, ...]
    time: NDArray[np.datetime64]
    cutoffs: tuple[np.datetime64, ...]
    values: Mapping[str, Mapping[str, FloatArray]]
    scale: Mapping[str, tuple[FloatArray, ...]]
    fitted: Mapping[str, FittedForecaster]
    members: Mapping[str, tuple[Mapping[str, FloatArray], ...]] = field(default_factory=dict)
    in_force: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    moves: FloatArray = field(default_factory=lambda: np.zeros(0))
    refused: Mapping[str, Mapping[np.datetime64, str]] = field(default_factory=dict)
    refused_fits: Mapping[str, FittedForecaster] = field(default_factory=dict)
    validation: tuple[Keys, ...] = ()
    learned: Mapping[str, FloatArray] = field(default_factory=dict)
    passed: np.datetime64 | None = None

    @cached_property
    def _found(self) -> list[tuple[ReferenceType[Samples], tuple[IntArray, IntArray], IntArray]]:
        """The samples that were asked for last, their rows, and `places_in` them."""
        return []

    @property
    def until(self) -> np.datetime64:
        """The newest close at which something was issued."""
        newest: np.datetime64 = self.time.max()
        return newest

    def laid_on(self, samples: Samples, array: FloatArray, beneath: FloatArray | None = None) -> FloatArray:
        """An array of these rows -> over the samples; in those without a row `beneath`, NaN where it is left out."""
        source = self.places_in(samples)
        laid = _taken(array, source)
        without = np.flatnonzero(source < 0)
        if beneath is not None:
            laid[without] = beneath[without]
        return laid

    def places_in(self, samples: Samples) -> IntArray:
        """(samples,) the row here of each sample, -1 where there is none."""
        self.rows_in(samples)
        return self._found[0][2]

    def rows_in(self, samples: Samples) -> tuple[IntArray, IntArray]:
        """Rows here, and the samples of the same symbol and time of decision; ascending in the samples."""
        if not self._found or self._found[0][0]() is not samples:
            rows, mine = self._rows_in(samples)
            places = np.full(len(samples), -1)
            places[mine] = rows
            self._found[:] = [(ref(samples), (rows, mine), places)]
        return self._found[0][1]

    def _rows_in(self, samples: Samples) -> tuple[IntArray, IntArray]:
        number = {symbol: i for i, symbol in enumerate(samples.symbols)}
        mine = np.array([number.get(symbol, -1) for symbol in self.symbol], np.int64)
        theirs = samples.symbol[samples.decided].astype(np.int64)
        span = np.int64(1) << 58  # microseconds of nine thousand years
        keys, wanted = (
            one * span + time.astype("datetime64[us]").astype(np.int64)
            for one, time in ((mine, self.time), (theirs, samples.times))
        )
        _, rows, found = np.intersect1d(keys, wanted, assume_unique=True, return_indices=True)
        return rows, found


class Laid(Mapping[str, "FloatArray"]):
    """Head -> array over the samples, what a past has issued and new rows over it, laid when it is first asked for.

    Most heads of most models are asked for a few rows alone, see `at_rows`. A copy in another process is a dict.
    """

    def __init__(self, past: Issued, samples: Samples, issued: Mapping[str, FloatArray]) -> None:
        self._past, self._samples, self._issued = past, samples, dict(issued)
        self._new: dict[str, list[tuple[IntArray, FloatArray]]] = {}
        self._made: dict[str, FloatArray] = {}

    def put(self, head: str, rows: IntArray, values: FloatArray) -> None:
        """Other values in some rows, ascending, of a head that was issued or is new."""
        if head not in self._issued:
            self._made.setdefault(head, np.full((len(self._samples), *values.shape[1:]), np.nan))
        self._new.setdefault(head, []).append((rows, values.copy()))  # a view would keep the whole block alive
        if head in self._made:
            self._made[head][rows] = values

    def at(self, head: str, rows: IntArray) -> FloatArray:
        """The values of a head in some rows."""
        if head in self._made:
            return self._made[head][rows]
        found = _taken(self._issued[head], self._past.places_in(self._samples)[rows])
        for new, values in self._new.get(head, ()) if len(rows) else ():
            place = np.minimum(np.searchsorted(new, rows), len(new) - 1)
            there = (new[place] == rows) if len(new) else np.zeros(len(rows), bool)
            found[there] = values[place[there]]
        return found

    def __getitem__(self, head: str) -> FloatArray:
        if head not in self._made:
            made = self._past.laid_on(self._samples, self._issued[head])
            for rows, values in self._new.get(head, ()):
                made[rows] = values
            self._made[head] = made
        return self._made[head]

    def __contains__(self, head: object) -> bool:
        return head in self._issued or head in self._made  # the mixin's would lay the array

    def __iter__(self) -> Iterator[str]:
        return iter({**self._issued, **self._made})

    def __len__(self) -> int:
        return len({**self._issued, **self._made})

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def at_rows(heads: Mapping[str, FloatArray], head: str, rows: IntArray | slice) -> FloatArray:
    """The values of a head in some rows; where it is not laid yet, these are all that is."""
    return heads.at(head, rows) if isinstance(heads, Laid) and not isinstance(rows, slice) else heads[head][rows]


def _taken(array: FloatArray, source: IntArray) -> FloatArray:
    """Rows of an array, NaN where the row is -1."""
    if len(array) == 0:
        return np.full((len(source), *array.shape[1:]), np.nan)
    found = np.take(array, source, axis=0)
    found[source < 0] = np.nan
    return found


@checked
def walk_forward(
    forecasters: Mapping[str, Forecaster] | Sequence[Forecaster],
    samples: Samples,
    schedule: Schedule,
    task: Task = ALONE,
    *,
    past: Forecasts | Issued | None = None,
    refit: Literal["due", "asked", "never"] = "due",
    alarms: Sequence[np.datetime64] = (),
    progress: Progress | None = None,
    on_fits: Callable[[Fits], None] | None = None,
) -> Forecasts:
    """Every forecaster refitted on schedule, its forecasts of each block made by the fit that precedes it.

    Parameters
    ----------
    forecasters: by name; of a sequence each goes by its own.
    task: cores, and where interrupted work is kept. progress: called after n more of a model's fits; with several cores
        from two threads.
    past: what was issued on the bars up to an earlier moment. It is taken over as it is, and no fit of it is made
        again: its last fits forecast the rows that came since, until a refit is due. A model that it does not have is
        fitted at every refit. refit: with a past, "asked" adds refits at `alarms` alone, and "never" none: the last
        fits forecast on, and a model that the past does not have is left out.
    alarms: moments at which a refit is added, see `Schedule.folds`.
    on_fits: called with the fits of each model, all folds (with a past the new ones), once they are done.

    Returns
    -------
    Forecasts for every sample from the first refit on; without a refit (too short a history) none. With a past they are
    those without one, to the bit, if the past is that of the same bars up to a moment (`audits.tables.up_to`). What it
    issued of models that do not go on is left out; what was made of all, as the ensemble, is there. A row that the past
    did not issue though a later refit has followed it has no forecast: bars came late that nothing foretold.

    Raises `BarsError` where the bars are not those that the past was made on.

    >>> from gatecast.forecasting.models.naive import Naive
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> bars, rules = synthetic.a1(900, seed=1), [Naive(rule="constant")]
    >>> whole, part = (make_samples(one, ("ret_log_1",))["index"] for one in (bars, bars[:800]))
    >>> past = walk_forward(rules, part, Schedule())
    >>> mine, theirs = walk_forward(rules, whole, Schedule(), past=past), walk_forward(rules, whole, Schedule())
    >>> variances = (one.values["constant"]["volatility"] for one in (mine, theirs))
    >>> np.array_equal(*variances, equal_nan=True)
    True
    """
    if not isinstance(forecasters, Mapping):
        forecasters = {one.name: one for one in forecasters}
    before = past.issued() if isinstance(past, Forecasts) else past
    before = before if before is not None and before.cutoffs else None
    result = Forecasts(samples, _folds(samples, schedule, before, refit, alarms), {}, panel=dict(forecasters))
    if not result.folds:
        return result
    if before is not None:
        result = _taken_over(result, before)
    if refit == "due":
        for name, forecaster in forecasters.items():
            for package in forecaster.packages():
                require(package, f"the model {name!r}")
    begun, named = result, list(forecasters)
    if before is not None and refit == "never":
        named = [name for name in named if name in before.fitted]

    def of_model(name: str, go_on: Callable[[], None]) -> Forecasts:
        """What has begun with one model's forecasts; `go_on`: see `side_by_side`."""
        forecaster, own = forecasters[name], before if before is not None and name in before.fitted else None
        since = len(own.cutoffs) if own else 0

        def report(count: int) -> None:
            go_on()
            if progress:
                progress(name, count)

        fits: Sequence[FittedForecaster] = ()
        if since < len(begun.folds):
            began = perf_counter()
            newest = own.refused_fits.get(name, own.fitted[name]) if own else None
            work = replace(task, name=name, on_fit=report, since=since, past=newest)
            fits = fits_of(name, forecaster, begun.folds, work)
            if on_fits:
                on_fits(Fits(name, begun.folds[since:], fits, perf_counter() - began))
        made = _with_forecasts(begun, name, own, fits, task)
        del fits  # hundreds of forests, of which the last is kept
        if refit == "due":
            give_back()
        return made

    waiting = {name for name in named if refit != "never" and forecasters[name].begin()}
    order = sorted(named, key=lambda name: name in waiting)
    lanes = min(2, task.jobs) if refit != "never" else 1
    if lanes > 1 and order:  # most models use one core: the one that takes longest is fitted beside them
        work = work_of(samples, begun.folds)
        longest = max(order, key=lambda name: forecasters[name].usual_seconds().of(work))
        order = [longest, *(name for name in order if name != longest)]
    made = side_by_side(of_model, order, jobs=lanes)
    each = dict(zip(order, made, strict=True))
    return _together(begun, {name: each[name] for name in named})


def _together(begun: Forecasts, made: Mapping[str, Forecasts]) -> Forecasts:
    """What has begun, with each model's forecasts as they were made by itself: name -> where they are.

    The models of `begun` come first, then the others as they are named: others add them up in this order.
    """

    def of_all(part: str) -> dict[str, Any]:
        before = getattr(begun, part)
        found = {**before, **{name: getattr(one, part).get(name) for name, one in made.items()}}
        return {name: value for name, value in found.items() if value is not None}

    return replace(
        begun, values=of_all("values"), scale=of_all("scale"), fitted=of_all("fitted"), members=of_all("members"),
        refused=of_all("refused"), refused_fits=of_all("refused_fits"),
    )  # fmt: skip


def _folds(
    samples: Samples, schedule: Schedule, past: Issued | None, refit: str, alarms: Sequence[np.datetime64]
) -> tuple[Fold, ...]:
    """The refits on these samples; those of a past keep the rows that it issued, the last of them those since."""
    if past is None:
        return tuple(fold.on(samples) for fold in schedule.folds(samples.times, samples.known_at, alarms=alarms))
    if len(samples) == 0 or samples.times.max() < past.until:
        raise BarsError(
            f"{samples.asset_class}: the past has forecasts up to {past.until}, these bars end before: give the bars "
            "that the past was made on, and after them newer ones."
        )
    _refuse_other_market(samples, past)
    until, added = (past.until if refit == "due" else None), (() if refit == "never" else alarms)
    found = schedule.folds(samples.times, samples.known_at, past.cutoffs, until, added, past.passed)
    folds = [one.on(samples) for one in found]
    issued = np.zeros(len(samples), bool)
    issued[past.rows_in(samples)[1]] = True
    last = len(past.cutoffs) - 1
    return tuple(
        replace(one, test=one.test[issued[one.test]]) if one.index < last else one for one in folds
    )  # fmt: skip


def _refuse_other_market(samples: Samples, past: Issued) -> None:
    """Raises `BarsError` where a symbol's returns in the rows of the past are others; a few may have been corrected.

    Of 60 common rows and more the correlation tells; of fewer, whether half of them are within a quarter of the usual
    move, as in `market.merging`. A symbol of the past and of the bars has rows in common.
    """
    theirs, mine = past.rows_in(samples)
    advice = "give the bars that the past was made on, and after them newer ones."
    if len(theirs) == 0:
        raise BarsError(f"{samples.asset_class}: the past and these bars have no row of a symbol in common: {advice}")
    decided = samples.decided[mine]
    number = samples.symbol[decided]
    both_have = [
        name for name, count in Counter(past.symbol).items() if count >= FEW_COMMON and name in samples.symbols
    ]
    common = {samples.symbols[place] for place in np.unique(number)}
    if apart := [name for name in both_have if name not in common]:
        raise BarsError(
            f"{samples.asset_class}: the past has forecasts of {apart[0]!r}, and none of them at a close of these "
            f"bars: {advice}"
        )
    if len(past.moves) == 0:
        return
    now, then = samples.targets["return"].value[decided, 0], past.moves[theirs]
    both = np.isfinite(now) & np.isfinite(then)
    number, now, then = number[both], now[both], then[both]  # sorted by symbol, as samples are
    for place in np.unique(number):
        rows = slice(*np.searchsorted(number, [place, place + 1]))
        x, y = now[rows], then[rows]
        if FEW_COMMON <= len(x) < LEAST_COMMON and np.abs(y).max() > 1e-9:
            agree = np.abs(x - y) <= ALIKE * np.abs(y).mean()
            if agree.mean() < 0.5:
                raise BarsError(
                    f"{samples.asset_class}: the returns of {samples.symbols[place]!r} in {len(x)} rows of the past "
                    f"are another market's ({int(agree.sum())} agree): {advice}"
                )
        if len(x) < LEAST_COMMON or min(x.std(), y.std()) <= 1e-9:
            continue
        if (correlation := float(np.corrcoef(x, y)[0, 1])) < OTHER_MARKET:
            raise BarsError(
                f"{samples.asset_class}: the returns of {samples.symbols[place]!r} in {len(x)} rows of the past are "
                f"another market's (correlation {correlation:.2f}): {advice}"
            )


def _taken_over(forecasts: Forecasts, past: Issued) -> Forecasts:
    """The forecasts with what a past has issued of the models that go on, and of what was made of all."""
    laid = partial(Laid, past, forecasts.samples)
    scales = dict(past.scale)
    if past.validation:
        scales = {model: _realigned(forecasts, past.validation, blocks) for model, blocks in past.scale.items()}
    for model, blocks in scales.items():
        for fold, block in zip(forecasts.folds, blocks, strict=False):
            if len(fold.validation) != len(block):
                raise BarsError(
                    f"{forecasts.samples.asset_class}: at the refit of {fold.cutoff} the past of {model!r} has "
                    f"{len(block)} validation rows, these bars have {len(fold.validation)}: give the bars that the "
                    "past was made on, and after them newer ones."
                )
    goes_on = [*(name for name in forecasts.panel if name in past.values), *MADE_OF_OTHERS]

    def kept(parts: Mapping[str, Any]) -> dict[str, Any]:
        return {model: parts[model] for model in goes_on if model in parts}

    return replace(
        forecasts,
        values={model: laid(heads) for model, heads in kept(past.values).items()},
        scale=kept(scales),
        fitted=kept(past.fitted),
        members={model: tuple(map(laid, each)) for model, each in kept(past.members).items()},
        in_force=dict(past.in_force),
        rivals=dict(past.rivals),
        refused=kept(past.refused),
        refused_fits=kept(past.refused_fits),
        passed=past.passed,
    )


def _realigned(
    forecasts: Forecasts, validation: Sequence[Keys], blocks: Sequence[FloatArray]
) -> tuple[FloatArray, ...]:  # fmt: skip
    """Forecasts of validation rows, laid by symbol and time on the rows that these bars have; NaN where one is new."""
    laid = []
    for fold, (symbols, times), block in zip(forecasts.folds, validation, blocks, strict=False):
        mine = forecasts.keys_of(fold.validation)
        if len(mine[0]) == len(symbols) and (mine[0] == symbols).all() and (mine[1] == times).all():
            laid.append(block)
            continue
        known = dict(zip(zip(symbols, times.tolist(), strict=True), block.tolist(), strict=True))
        laid.append(np.array([known.get(key, np.nan) for key in zip(mine[0], mine[1].tolist(), strict=True)]))
    return tuple(laid)


def _with_forecasts(
    forecasts: Forecasts, name: str, past: Issued | None, fits: Sequence[FittedForecaster], task: Task
) -> Forecasts:
    """The forecasts of a model at the rows that are not issued yet: of its past's last fit, then of each new one.

    A new fit that the guard refuses forecasts nothing, see `forecasting.guard`.
    """
    samples, folds = forecasts.samples, forecasts.folds
    forecaster = forecasts.panel.get(name)
    heads = _read(forecasts.values.get(name, {}))
    scale = list(forecasts.scale.get(name, ()))
    members = [_read(one) for one in forecasts.members.get(name, ())]
    blocks = [
        Block(one, fold.validation, fold.test, fold.cutoff)
        for fold, one in zip(folds[len(folds) - len(fits) :], fits, strict=True)
    ]
    measured = past is None or name in past.scale  # a scale, or members, that begin in the middle are none
    newest = past.refused_fits.get(name) if past else None
    if past is not None:
        last = folds[len(past.cutoffs) - 1]
        rows = last.test[~np.isin(last.test, past.rows_in(samples)[1])]
        blocks.insert(0, Block(past.fitted[name], rows[:0], rows, last.cutoff))
    refused: dict[np.datetime64, str] = {}
    in_force = None
    for block, in_force, reason in served(
        blocks, lambda fit, rows: predictions_of(name, forecaster, fit, samples, rows), samples, newest,
        guarded=forecaster is None or forecaster.traits_with_settings().learns_slope, jobs=task.jobs,
    ):  # fmt: skip
        if reason:
            refused[block.cutoff] = reason
        asked = np.r_[block.validation, block.test]
        both, each = in_force.at(asked)
        refuse_impossible(name, in_force.fit, both, samples, asked)
        count, test = len(block.validation), block.test
        for head, values in both.items():
            _put(heads, head, test, values[count:], len(samples))
        if "return" in both and count and measured:
            scale.append(both["return"][:count, -1].copy())  # a view would keep the whole block alive
        if (past is not None and name not in past.members) or not both:
            continue
        members = members or [{} for _ in each]
        for seed, alone in zip(members, each, strict=True):
            for head, values in alone.items():
                step = values[count:] if values.ndim == 1 else values[count:, -1:]
                _put(seed, head, test, step, len(samples))
    if fits and in_force is not None:
        forecasts = _with_fits(forecasts, name, in_force.fit, fits[-1])
    return replace(
        forecasts.with_model(name, heads),
        scale={**forecasts.scale, name: tuple(scale)} if scale else forecasts.scale,
        members={**forecasts.members, name: tuple(members)} if members else forecasts.members,
        refused={**forecasts.refused, name: {**forecasts.refused.get(name, {}), **refused}}
        if refused else forecasts.refused,
    )  # fmt: skip


def _with_fits(forecasts: Forecasts, name: str, in_force: FittedForecaster, newest: FittedForecaster) -> Forecasts:
    """The forecasts with the fit in force of a model and, where that is refused, the one that was made last."""
    others = {model: one for model, one in forecasts.refused_fits.items() if model != name}
    return replace(
        forecasts,
        fitted={**forecasts.fitted, name: in_force},
        refused_fits=others if newest is in_force else {**others, name: newest},
    )


def _put(heads: Laid | dict[str, FloatArray], head: str, rows: IntArray, values: FloatArray, count: int) -> None:
    """Values into rows of a head's array, which is made over `count` samples where it is not there."""
    if isinstance(heads, Laid):
        heads.put(head, rows, values)
        return
    if head not in heads:
        heads[head] = np.full((count, *values.shape[1:]), np.nan)
    heads[head][rows] = values


def _read(heads: Mapping[str, FloatArray]) -> Laid | dict[str, FloatArray]:
    """Heads with their arrays read from disk, or laid once they are asked for."""
    return heads if isinstance(heads, Laid) else dict(heads)


def _in_memory(values: Mapping[str, Mapping[str, FloatArray]]) -> list[tuple[str, Mapping[str, FloatArray]]]:
    """Model and its heads, arrays read from disk once each."""
    return [(model, _read(heads)) for model, heads in values.items()]
