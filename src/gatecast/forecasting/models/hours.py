"""The intraday pattern of variance: past rows -> a factor an hour, and rivals that use it.

The variance of a bar is a U over the session (Wood, McInish and Ord 1985, Journal of Finance 40): large after the open
and before the close. A rival that does not know the hour loses to every model that reads it, which is no skill.
Andersen and Bollerslev (1997), Journal of Empirical Finance 4: one factor for each hour, and forecasts without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gatecast.forecasting.attribution import Attributable, Attribution
from gatecast.forecasting.forecaster import (
    ALONE,
    FORECASTERS,
    FittedForecaster,
    Forecaster,
    Task,
    Traits,
    fit_every,
    from_state,
)
from gatecast.forecasting.models.naive import match_symbols
from gatecast.forecasting.stored import array_of, symbols_in
from gatecast.samples.targets import VARIANCE_FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class HourEffects:
    """What each place in the session adds to logs of variance: of the facts (the columns of `_logs`), then the answer.

    `minutes` (places,) ascending, see `Facts.minutes`; `pooled` (places, columns) of the class; `table` (symbols,
    places, columns) of each symbol. A place or a symbol that was not seen adds nothing of its own.
    """

    minutes: FloatArray
    pooled: FloatArray
    table: FloatArray
    symbols: tuple[str, ...]

    @classmethod
    def learned(cls, fold: Fold) -> HourEffects:
        """From all rows whose answers are known at the fold's cutoff; kept with the samples."""
        fits, key = fold.data.fit_cache, (cls, fold.cutoff, fold.oldest)
        if key not in fits:
            fits[key] = cls._learned(fold)
        found: HourEffects = fits[key]
        return found

    @classmethod
    def _learned(cls, fold: Fold) -> HourEffects:
        samples, rows = fold.data, fold.record
        answer = samples.targets["volatility"].value[samples.decided[rows]]
        values = np.column_stack([_logs(samples, samples.ends[rows]), answer])
        complete = np.isfinite(values).all(axis=1)
        values, ends = values[complete], samples.ends[rows[complete]]
        minutes, place = np.unique(samples.facts.minutes[ends], return_inverse=True)
        seen, symbol = np.unique(samples.symbol[ends], return_inverse=True)
        overlap = samples.horizon_sessions
        one = np.zeros(len(ends), np.int64)
        values = values - _means(values, symbol, len(seen))[symbol]
        pooled = hour_effects(values, one, place, overlap * max(len(seen), 1))[0]
        own = hour_effects(values - pooled[place], symbol, place, overlap)
        table = np.tile(pooled, (len(samples.symbols), 1, 1))
        table[seen] += own
        return cls(minutes, pooled, table, samples.symbols)

    def place_of(self, samples: Samples, ends: IntArray) -> IntArray:
        """(bars,) the row of `flat` that belongs to each bar-level row."""
        places, last = len(self.minutes), len(self.symbols)  # a symbol that was not seen takes the class's row
        number = match_symbols(samples, self.symbols, ends)
        minutes = samples.facts.minutes[ends]
        place = np.searchsorted(self.minutes, minutes)
        seen = np.append(self.minutes, np.nan)[place] == minutes
        return np.where(seen, np.where(number >= 0, number, last) * places + place, (last + 1) * places)

    @property
    def flat(self) -> FloatArray:
        """(rows, columns) every symbol's places one after the other, then the class's, then 0 for a place not seen."""
        columns = self.pooled.shape[1]
        return np.vstack([self.table.reshape(-1, columns), self.pooled, np.zeros((1, columns))])

    def season(self, samples: Samples, ends: IntArray) -> FloatArray:
        """(bars,) what the hour adds to the log variance to come, at bar-level rows."""
        season: FloatArray = self.flat[self.place_of(samples, ends), -1]
        return season

    def removed(self, samples: Samples) -> Samples:
        """The samples without the hour in their facts about variance and in its answers; `Facts.season` has it."""
        facts, place = samples.facts, self.place_of(samples, np.arange(len(samples.time)))
        har, recent, variance, peaks, smoothed, baseline, season = np.split(self.flat, _bounds(samples), axis=1)
        facts = replace(
            facts,
            har=facts.har - har[place],
            recent=facts.recent - recent[place, 0],
            variance=facts.variance - variance[place],
            concentration=facts.concentration - peaks[place],
            smoothed=facts.smoothed * np.exp(-smoothed)[place],
            baseline=facts.baseline * np.exp(-baseline[:, 0])[place],
            season=season[place, 0],
        )
        target = samples.targets["volatility"]
        value = target.value.copy()
        value[samples.decided] -= facts.season[samples.ends]
        return replace(samples, facts=facts, targets=samples.targets | {"volatility": replace(target, value=value)})


@dataclass(frozen=True)
class FittedByHour:
    """The hour's effects, and a forecaster that was fitted without them, of a kind."""

    effects: HourEffects
    fitted: FittedForecaster
    kind: str

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; the variance has the hour's effect again."""
        forecasts = self.fitted.predict(self.effects.removed(samples), rows)
        if "volatility" in forecasts:
            season = self.effects.season(samples, samples.ends[rows])
            forecasts = forecasts | {"volatility": forecasts["volatility"] * np.exp(season)}
        return forecasts

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """See `Attributable`: the forecaster's own, the hour's effect on a variance in the base."""
        if not isinstance(self.fitted, Attributable):
            return ()
        parts = self.fitted.attributions(self.effects.removed(samples), rows, head)
        if head != "volatility" or not parts:
            return parts
        season = self.effects.season(samples, samples.ends[rows])
        return (replace(parts[0], base=parts[0].base + season, output=parts[0].output + season), *parts[1:])

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays, settings = self.fitted.state()
        hours = {"minutes": self.effects.minutes, "pooled": self.effects.pooled, "table": self.effects.table}
        arrays = {f"of/{name}": array for name, array in arrays.items()}
        return hours | arrays, {"of": {"kind": self.kind, **settings}, "symbols": list(self.effects.symbols)}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedByHour:
        """The inverse of `state`."""
        own = {name.removeprefix("of/"): array for name, array in arrays.items() if name.startswith("of/")}
        symbols, of, minutes = symbols_in(settings), dict(settings["of"]), array_of(arrays, "minutes", None)
        pooled = array_of(arrays, "pooled", len(minutes), None)
        effects = HourEffects(minutes, pooled, array_of(arrays, "table", len(symbols), *pooled.shape), symbols)
        if of.get("kind") == ByHour.kind:
            raise ValueError("'of', which is the same kind again")
        if not (np.diff(minutes) > 0).all():
            raise ValueError("'minutes', which do not ascend")
        return cls(effects, from_state(own, of), str(of["kind"]))


@FORECASTERS.add
class ByHour(Forecaster):
    """A simple forecaster of variance or regime that knows the hour of the session.

    It is fitted to, and predicts from, samples without the hour's effect on variance, which is then put back. Where a
    session has one bar it is the forecaster itself.

    >>> from gatecast.forecasting.models.har import LogHAR
    >>> ByHour(of=LogHAR()).name
    'har'
    """

    kind: ClassVar = "by_hour"
    traits: ClassVar = Traits("forecaster that knows the hour", ("volatility", "regime"))
    fitted: ClassVar = FittedByHour

    of: Forecaster
    """the forecaster that is told the hour"""

    @classmethod
    def is_named(cls) -> bool:
        """No: the panel makes it around its rivals."""
        return False

    @property
    def name(self) -> str:
        """The forecaster's own, as are all its facts."""
        return self.of.name

    def traits_with_settings(self) -> Traits:
        """The forecaster's own."""
        return self.of.traits_with_settings()

    def title(self) -> str:
        """The forecaster's own."""
        return self.of.title()

    def phrase(self) -> str:
        """The forecaster's own."""
        return self.of.phrase()

    def output_heads(self) -> tuple[str, ...]:
        """The forecaster's own."""
        return self.of.output_heads()

    def member_heads(self) -> tuple[str, ...]:
        """The forecaster's own."""
        return self.of.member_heads()

    def kind_of(self, fitted: FittedForecaster) -> str:
        """Its own, or the forecaster's where a session has one bar."""
        return self.kind if isinstance(fitted, FittedByHour) else self.of.kind_of(fitted)

    def packages(self) -> tuple[str, ...]:
        """The forecaster's own."""
        return self.of.packages()

    def begin(self) -> bool:
        """The forecaster's own."""
        return self.of.begin()

    def relative_work(self) -> float:
        """The forecaster's own."""
        return self.of.relative_work()

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> Sequence[FittedForecaster]:
        """One fit a fold; the hour's effect is learned from what is known at its cutoff."""
        if not folds or folds[0].data.session_bars <= 1:
            return self.of.fit_many(folds, task)
        return fit_every(self._fit, folds, 1, task, jobs=task.jobs, light=True)

    def _fit(self, fold: Fold) -> FittedByHour:
        effects = HourEffects.learned(fold)
        (fitted,) = self.of.fit_many([fold.on(effects.removed(fold.data))])
        return FittedByHour(effects, fitted, self.of.kind_of(fitted))


def hour_effects(values: FloatArray, group: IntArray, place: IntArray, overlap: int) -> FloatArray:
    """(groups, places, columns) mean of each group's values at each place over its mean, as far as it is no luck.

    Parameters
    ----------
    values: (rows, columns) known at the moment the effects are for. group, place: (rows,) numbers from 0.
    overlap: rows that count as one independent value.

    Returns
    -------
    Each mean shrunk to 0 by what its spread over the places says (moments, as in `shares.symbol_shares`): where places
    differ by no more than luck, 0.

    >>> draw = np.random.default_rng(0).standard_normal((7000, 1))
    >>> place = np.arange(7000) % 7
    >>> u = np.array([1.0, 0, -1, -1, -1, 0, 2])
    >>> hour_effects(draw + u[place, None], np.zeros(7000, int), place, 1)[0, [0, 2, 6], 0].round(1).tolist()
    [1.0, -1.0, 2.0]
    """
    groups, places = int(group.max(initial=0)) + 1, int(place.max(initial=-1)) + 1
    cell = group * places + place
    count = np.bincount(cell, minlength=groups * places)
    mean = _means(values, cell, groups * places)
    off = mean.reshape(groups, places, values.shape[1]) - _means(values, group, groups)[:, None]
    luck = ((values - mean[cell]) ** 2).sum(axis=0) / max(len(values) - np.count_nonzero(count), 1)
    independent = count.reshape(groups, places, 1) / overlap
    total = independent.sum(axis=1)
    spread = (independent * off**2).sum(axis=(0, 1)) - luck * (np.count_nonzero(count) - groups)
    between = spread / max(float((total - (independent**2).sum(axis=1) / np.maximum(total, 1e-12)).sum()), 1e-12)
    kept = np.where(between > 0, independent * between / np.maximum(independent * between + luck, 1e-300), 0.0)
    effects: FloatArray = kept * off
    return effects


def without_means(values: FloatArray, cell: IntArray) -> FloatArray:
    """Values, (rows,) or (rows, columns), less the mean of those of the same cell; NaN stays NaN and counts nowhere.

    >>> without_means(np.array([1.0, 3.0, 5.0, np.nan]), np.array([0, 0, 1, 1])).tolist()
    [-1.0, 1.0, 0.0, nan]
    """
    table = values.reshape(len(values), -1)
    made = np.empty_like(table)
    for column in range(table.shape[1]):
        known = np.isfinite(table[:, column])
        mean = _means(table[known, column, None], cell[known], int(cell.max(initial=0)) + 1)
        made[:, column] = table[:, column] - mean[cell, 0]
    return made.reshape(values.shape)


def _means(values: FloatArray, cell: IntArray, cells: int) -> FloatArray:
    """(cells, columns) means, 0 of none."""
    count = np.maximum(np.bincount(cell, minlength=cells), 1)
    sums = [np.bincount(cell, column, minlength=cells) for column in values.T]
    return np.column_stack(sums) / count[:, None]


def _logs(samples: Samples, ends: IntArray) -> FloatArray:
    """(bars, columns) the facts about variance from which the hour is removed, in logs."""
    facts = samples.facts
    floor = VARIANCE_FLOOR * np.exp(facts.har[ends, -1:])
    smoothed = np.log(np.maximum(facts.smoothed[ends], floor))
    baseline = np.log(facts.baseline[ends])
    logs = (facts.har[ends], facts.recent[ends], facts.variance[ends], facts.concentration[ends])
    return np.column_stack([*logs, smoothed, baseline])


def _bounds(samples: Samples) -> list[int]:
    """Where the parts of `_logs` begin, the first left out, and the answer's column."""
    facts = samples.facts
    widths = [facts.har.shape[1], 1, facts.variance.shape[1], facts.concentration.shape[1], facts.smoothed.shape[1], 1]
    return list(accumulate(widths))
