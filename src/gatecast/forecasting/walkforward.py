"""Walk-forward: every refit forecasts the block that follows it, and nothing is kept but those forecasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.compute.parallel import fan_out
from gatecast.forecasting.forecaster import ALONE, Forecaster, SeedEnsemble, Task
from gatecast.forecasting.schedule import Fold, Schedule, known_by
from gatecast.samples.windows import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.compute.disk import Disk
    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

__all__ = ["Fold", "Forecasts", "Schedule", "known_by", "walk_forward"]

Progress = Callable[[str, int], None]
"""Called with a model's name and how many more of its fits are done."""


@dataclass(frozen=True)
class Fits:
    """What became of one model's folds: a fit for each, and the wall-clock seconds that they took."""

    name: str
    folds: tuple[Fold, ...]
    fits: Sequence[FittedForecaster]
    seconds: float


@dataclass(frozen=True)
class Forecasts:
    """Out-of-sample forecasts of one asset class.

    Attributes
    ----------
    values: model -> head -> array over the samples, (samples,) or (samples, horizon), NaN where nothing was forecast.
    scale: model -> one array a fold: the same fit's forecasts of the last step's return on the fold's validation rows,
        in their order. Signals take their scale from it; nothing else may.
    fitted: model -> the last refit's fitted forecaster.
    panel: model -> the forecaster that was fitted: what a model is called, and what is true of it, stands there.
    members: model -> for each of its seeds, head -> what that seed alone forecast, of a path the last step.
    in_force: head -> for each fold the name of the forecast that the ensemble passes on.
    rivals: head -> for each fold the name of the simple rival in force, see `evaluation.rivals`.

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

    @property
    def rows(self) -> IntArray:
        """Rows that were forecast out of sample, ascending."""
        if not self.folds:
            return np.zeros(0, np.int64)
        return np.sort(np.concatenate([fold.test for fold in self.folds]))

    def with_model(self, name: str, heads: Mapping[str, FloatArray]) -> Forecasts:
        """The same with one more model."""
        return replace(self, values={**self.values, name: heads})

    def kept_on(self, disk: Disk, samples: Samples) -> Forecasts:
        """The same with its arrays on disk, but for the rows of test blocks; its samples become those given."""
        return replace(
            self,
            samples=samples,
            folds=tuple(disk.put(fold.on(samples), "train", "validation") for fold in self.folds),
            values={model: disk.arrays(heads) for model, heads in self.values.items()},
            scale=disk.blocks(self.scale),
            members={model: tuple(disk.arrays(one) for one in each) for model, each in self.members.items()},
        )

    def to_frame(self) -> pl.DataFrame:
        """`symbol, time, model, head, step, value, known_at`, sorted by symbol, time, model, head and step."""
        return pl.concat(list(self.frames()))

    def frames(self) -> Iterator[pl.DataFrame]:
        """The parts of `to_frame`, one symbol after the other: a long frame has ten times the bytes of its numbers."""
        rows = self.rows
        number = self.samples.symbol[self.samples.ends[rows]]
        values = {model: dict(heads) for model, heads in self.values.items()}  # from disk once, not for each symbol
        for place, symbol in enumerate(self.samples.symbols):
            yield self._frame_of(symbol, rows[number == place], values)

    def _frame_of(self, symbol: str, rows: IntArray, values: dict[str, dict[str, FloatArray]]) -> pl.DataFrame:
        samples = self.samples
        decided = samples.decided[rows]
        keys = pl.DataFrame(
            {
                "symbol": pl.Series([symbol], dtype=pl.String).new_from_index(0, len(rows)),
                "time": pl.Series(samples.time[decided]).dt.replace_time_zone("UTC"),
            }
        )
        parts = []
        for model, heads in values.items():
            for head, array in heads.items():
                table = array[rows].reshape(len(rows), array[0].size)
                for column in range(table.shape[1]):
                    step = column + 1 if table.shape[1] > 1 else samples.horizon
                    parts.append(
                        keys.with_columns(
                            model=pl.lit(model), head=pl.lit(head), step=pl.lit(step, pl.Int32),
                            value=pl.Series(table[:, column]),
                            known_at=pl.Series(samples.answered_at(decided, step)).dt.replace_time_zone("UTC"),
                        ).filter(pl.col("value").is_not_nan())
                    )  # fmt: skip
        order = ["symbol", "time", "model", "head", "step"]
        return pl.concat(parts).sort(order).select(*order, "value", "known_at")


@checked
def walk_forward(
    forecasters: Mapping[str, Forecaster] | Sequence[Forecaster],
    samples: Samples,
    schedule: Schedule,
    task: Task = ALONE,
    *,
    progress: Progress | None = None,
    on_fits: Callable[[Fits], None] | None = None,
) -> Forecasts:
    """Every forecaster refitted on schedule, its forecasts of each block made by the fit that precedes it.

    Parameters
    ----------
    forecasters: by name; of a sequence each goes by its own.
    task: cores, and where interrupted work is kept. progress: called after n more of a model's fits.
    on_fits: called with the fits of each model, all folds, once they are done.

    Returns forecasts for every sample from the first refit on; without a refit (too short a history) none.
    """
    if not isinstance(forecasters, Mapping):
        forecasters = {one.name: one for one in forecasters}
    folds = tuple(fold.on(samples) for fold in schedule.folds(samples.times, samples.known_at))
    result = Forecasts(samples, folds, {}, panel=dict(forecasters))
    if not folds:
        return result
    for name, forecaster in forecasters.items():
        began = perf_counter()
        fits = forecaster.fit_many(
            folds, replace(task, name=name, on_fit=partial(progress, name) if progress else None)
        )
        if on_fits:
            on_fits(Fits(name, folds, fits, perf_counter() - began))
        heads: dict[str, FloatArray] = {}
        scale = []
        members: list[dict[str, FloatArray]] = []
        both_of = fan_out(
            lambda pair: _predictions(pair[1], samples, np.r_[pair[0].validation, pair[0].test]),
            list(zip(folds, fits, strict=True)), jobs=task.jobs, light=True,
        )  # fmt: skip
        for fold, (both, each) in zip(folds, both_of, strict=True):
            count = len(fold.validation)
            for head, values in both.items():
                table = heads.setdefault(head, np.full((len(samples), *values.shape[1:]), np.nan))
                table[fold.test] = values[count:]
            if "return" in both:
                scale.append(both["return"][:count, -1].copy())  # a view would keep the whole block alive
            members = members or [{} for _ in each]
            for seed, alone in zip(members, each, strict=True):
                for head, values in alone.items():
                    last = values[count:] if values.ndim == 1 else values[count:, -1:]
                    seed.setdefault(head, np.full((len(samples), *last.shape[1:]), np.nan))[fold.test] = last
        result = replace(
            result.with_model(name, heads),
            scale={**result.scale, name: tuple(scale)} if scale else result.scale,
            fitted={**result.fitted, name: fits[-1]},
            members={**result.members, name: tuple(members)} if members else result.members,
        )
    return result


def _predictions(
    fitted: FittedForecaster, samples: Samples, rows: IntArray
) -> tuple[dict[str, FloatArray], list[dict[str, FloatArray]]]:
    """The forecasts, and those of each seed alone where there are several."""
    if isinstance(fitted, SeedEnsemble):
        return fitted.predict_members(samples, rows)
    return fitted.predict(samples, rows), []
