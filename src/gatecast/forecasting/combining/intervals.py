"""Intervals of the return path: forecasts and past errors -> adaptive conformal quantiles, updated daily.

An end is the forecast plus a quantile of past standardised errors times the model's own volatility, so that the width
follows the regime. The quantile begins at the normal one and is tracked online: after each day it moves against the
day's share of answers beyond it, which holds coverage in the long run whatever the errors' distribution. It moves once
for the class and once more for the regime that the answers were forecast in.

Gibbs and Candès (2021), NeurIPS 34; Angelopoulos, Candès and Tibshirani (2023), NeurIPS 36 (the quantile tracker);
ends that cross are put in order as in Chernozhukov, Fernández-Val and Galichon (2010), Econometrica 78.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from gatecast.errors import SettingsError, did_you_mean
from gatecast.forecasting.walkforward import Laid
from gatecast.market.bars import numbered_days
from gatecast.market.calendar import LONGEST_HALT
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts, Issued
    from gatecast.samples.windows import Samples

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    TimeArray = NDArray[np.datetime64]

REGIMES = ("calm", "turbulent")
LOW, HIGH = "return_low_", "return_high_"
"""How the heads of an interval's ends begin; its level in percent follows."""
TRACK = "intervals"
"""What is learned of intervals at a refit: where their quantiles stand, see `Standing`."""


class Intervals(Settings):
    """How intervals of the return path are made."""

    levels: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (0.8, 0.95)
    """shares of the answers that should lie inside, ascending"""
    rate: Annotated[float, Field(ge=0, le=1)] = 0.05
    """standard deviations that an end moves after a day on which every answer lay beyond it; for the class and once
    more for the regime; of step k, whose answers overlap, a √k-th of it"""
    minimum_days: Annotated[int, Field(ge=1, le=MOST_BARS)] = 60
    """days of record before an end leaves the normal quantile"""

    @property
    def heads(self) -> set[str]:
        """The names of the ends, see `IntervalForecasts.heads`."""
        return {f"{start}{100 * level:g}" for level in self.levels for start in (LOW, HIGH)}

    @field_validator("levels")
    @classmethod
    def _ascends(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)):
            raise ValueError(f"expected levels in ascending order, each once, got {levels}")
        return levels


@dataclass(frozen=True)
class IntervalForecasts:
    """Intervals of cumulative log returns over 1..horizon bars, made at each sample's close from what was known then.

    `low`, `high`: (samples, horizon, levels), NaN where nothing was forecast; `levels`: shares inside, ascending.
    """

    low: FloatArray
    high: FloatArray
    levels: tuple[float, ...]

    @property
    def deviation(self) -> FloatArray:
        """(samples,) standard deviation of the last step's return that a normal one has with the narrowest interval."""
        from scipy.special import ndtri

        width: FloatArray = self.high[:, -1, 0] - self.low[:, -1, 0]
        return width / (2 * ndtri(0.5 + self.levels[0] / 2))

    def heads(self) -> dict[str, FloatArray]:
        """Head -> (samples, horizon): `return_low_80`, `return_high_80`, ..., to stand beside a model's `return`."""
        return {
            f"{start}{100 * level:g}": ends[:, :, number]
            for number, level in enumerate(self.levels)
            for start, ends in ((LOW, self.low), (HIGH, self.high))
        }

    @classmethod
    def of_heads(cls, heads: Mapping[str, FloatArray], most: int | None = None) -> IntervalForecasts | None:
        """The inverse of `heads`, of the `most` narrowest levels; None where a model has no intervals."""
        levels = sorted(float(name.removeprefix(LOW)) for name in heads if name.startswith(LOW))[:most]
        if not levels:
            return None
        parts = ([heads[f"{start}{level:g}"] for level in levels] for start in (LOW, HIGH))
        low, high = (np.stack(part, axis=-1) if len(part) > 1 else part[0][..., None] for part in parts)
        return cls(low, high, tuple(round(level / 100, 9) for level in levels))


def with_intervals(
    forecasts: Forecasts, settings: Intervals | None = None, model: str = "ensemble", issued: Issued | None = None
) -> Forecasts:  # fmt: skip
    """The same forecasts, the model's intervals among its heads; without a refit as they are.

    `issued`: what a past has issued; where it has these heads, they are NaN in its rows, see `Forecasts.as_issued`, and
    the quantiles go on from where they stood at its last refit. Where they stand at the last one is `learned`.
    """
    if not forecasts.folds:
        return forecasts
    settings = settings or Intervals()
    rows, heads = np.arange(len(forecasts.samples)), forecasts.values.get(model, {})
    goes_on = issued is not None and settings.heads <= issued.values.get(model, {}).keys()
    if issued is not None and goes_on:
        rows = np.flatnonzero(issued.places_in(forecasts.samples) < 0)
    rows, made, standing = _made(forecasts, settings, model, rows, issued)
    learned = {**forecasts.learned, TRACK: standing.numbers}
    if goes_on and isinstance(heads, Laid):
        for name, values in made.heads().items():
            heads.put(name, rows, values)
        return replace(forecasts, learned=learned)
    whole = _over(made, rows, len(forecasts.samples)).heads()
    return replace(forecasts.with_model(model, {**heads, **whole}), learned=learned)


def make_intervals(
    forecasts: Forecasts, settings: Intervals | None = None, model: str = "ensemble",
    rows: IntArray | slice = slice(None),
) -> IntervalForecasts:  # fmt: skip
    """Intervals around a model's return path, as wide as its variance and the errors known at the time say.

    Parameters
    ----------
    forecasts: of one class, where `model` has the heads `return` (samples, horizon) and `volatility` (samples,), the
        latter in the proxy's unit.
    rows: samples that are given intervals; the others have NaN.

    A session's intervals use the answers known at the session's first forecast, pooled over the class: a day weighs
    one, whatever the number of symbols. Raises SettingsError for a model without these heads.

    >>> from gatecast.forecasting.models.naive import Naive
    >>> from gatecast.forecasting.walkforward import Schedule, walk_forward
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.g1(900, seed=1))["index"]
    >>> made = walk_forward([Naive(rule="zero"), Naive(rule="ewma")], samples, Schedule())
    >>> made = made.with_model("both", {**made.values["zero"], **made.values["ewma"]})
    >>> intervals = make_intervals(made, model="both")
    >>> intervals.low.shape == (len(samples), 5, 2), bool((intervals.low < intervals.high)[made.rows].all())
    (True, True)
    >>> coverage(made, intervals).filter(scope="overall", step=5)["level"].to_list()
    [0.8, 0.95]
    """
    rows, made, _ = _made(forecasts, settings or Intervals(), model, np.arange(len(forecasts.samples))[rows])
    return _over(made, rows, len(forecasts.samples))


def _over(made: IntervalForecasts, rows: IntArray, count: int) -> IntervalForecasts:
    """Intervals of some of `count` samples, over all of them."""
    low, high = (np.full((count, *one.shape[1:]), np.nan) for one in (made.low, made.high))
    low[rows], high[rows] = made.low, made.high
    return replace(made, low=low, high=high)


def _made(
    forecasts: Forecasts, settings: Intervals, model: str, rows: IntArray, issued: Issued | None = None
) -> tuple[IntArray, IntervalForecasts, Standing]:
    """Those of some samples that have a forecast, their intervals, and where the quantiles stand at the last refit."""
    samples, horizon, tails = forecasts.samples, forecasts.samples.horizon, 2 * len(settings.levels)
    heads = forecasts.values.get(model, {})
    if forecasts.folds and not {"return", "volatility"} <= set(heads):
        able = [name for name, has in forecasts.values.items() if {"return", "volatility"} <= set(has)]
        raise SettingsError(
            f"intervals need forecasts of the return and of the volatility, and {model!r} has "
            f"{sorted(heads) or 'none'}. {did_you_mean(model, able)}"
        )
    ends, standing = np.zeros((0, horizon, tails)), Standing.at_first(horizon, tails)
    rows = rows[np.isfinite(heads["return"][rows]).any(1)] if forecasts.folds else rows[:0]
    if forecasts.folds:

        def unit_of(some: IntArray) -> FloatArray:
            variance = heads["volatility"][some] * samples.facts.ratio[samples.ends[some]]
            unit: FloatArray = np.sqrt(variance[:, None] * np.arange(1, horizon + 1) / horizon)
            return unit

        def error_of(some: IntArray) -> FloatArray:
            answer = samples.targets["return"].value[samples.decided[some]]
            error: FloatArray = (answer - heads["return"][some]) / unit_of(some)
            return error

        since = None
        if issued is not None and (known := Standing.of(issued.learned.get(TRACK), horizon, tails)):
            since = known, forecasts.folds[len(issued.cutoffs) - 1].cutoff
        tracked, standing = _track(samples, error_of, settings, rows, forecasts.folds[-1].cutoff, since)
        ends = heads["return"][rows][:, :, None] + tracked * unit_of(rows)[:, :, None]
    low, high = ends[:, :, : tails // 2][:, :, ::-1], ends[:, :, tails // 2 :]
    return rows, IntervalForecasts(low, high, settings.levels), standing


@dataclass(frozen=True)
class Standing:
    """Where the quantiles of a class stand before a session: what a longer record goes on from, to the bit.

    `offset`: (regimes, horizon, tails) from the normal ones. `count`: (horizon,) days of record. `days`, `quantile`:
    (m,) the latest sessions before, and (m, regimes, horizon, tails) what was in force at them.
    """

    offset: FloatArray
    count: IntArray
    days: TimeArray
    quantile: FloatArray

    @classmethod
    def at_first(cls, horizon: int, tails: int) -> Standing:
        """Before the first session of a record."""
        shape = (len(REGIMES), horizon, tails)
        none = np.zeros(0, "datetime64[D]")
        return cls(np.zeros(shape), np.zeros(horizon, np.int64), none, np.zeros((0, *shape)))

    @property
    def numbers(self) -> FloatArray:
        """All of it in one row; `of` is the inverse."""
        days = self.days.astype(np.int64)
        return np.concatenate(
            [part.ravel().astype(np.float64) for part in (self.offset, self.count, days, self.quantile)]
        )

    @classmethod
    def of(cls, numbers: FloatArray | None, horizon: int, tails: int) -> Standing | None:
        """The inverse of `numbers`; None where there are none, or others."""
        shape = (len(REGIMES), horizon, tails)
        size = math.prod(shape)
        if numbers is None or numbers.size < size + horizon or not np.isfinite(numbers).all():
            return None
        days, rest = divmod(numbers.size - size - horizon, 1 + size)
        offset, count, on, quantile = np.split(numbers, np.cumsum([size, horizon, days]))
        if rest or not all((one == np.round(one)).all() and (np.abs(one) < 1e9).all() for one in (count, on)):
            return None
        sessions = on.astype(np.int64).astype("datetime64[D]")
        return cls(offset.reshape(shape), count.astype(np.int64), sessions, quantile.reshape(days, *shape))


def _track(
    samples: Samples, error_of: Callable[[IntArray], FloatArray], settings: Intervals, rows: IntArray,
    until: np.datetime64, since: tuple[Standing, np.datetime64] | None = None,
) -> tuple[FloatArray, Standing]:  # fmt: skip
    """(rows, horizon, tails) quantiles in force of the standardised errors, lowest tail first, and those at `until`.

    `error_of`: samples -> (samples, horizon) errors. `rows`: samples. `since`: where the quantiles stood at an earlier
    moment, and that moment; they go on from there, unless it is later than one of the rows, or an answer has come since
    whose forecast is older than what was kept.
    """
    from scipy.special import ndtri

    half = np.array(settings.levels) / 2
    chance = np.r_[0.5 - half[::-1], 0.5 + half]  # that an answer lies below
    normal, tails, horizon = ndtri(chance), len(chance), samples.horizon
    days, day = numbered_days(samples.sessions)
    opening = np.full(len(days), samples.times.max())  # the first forecast of each session
    np.minimum.at(opening, day, samples.times)
    start, begin = Standing.at_first(horizon, tails), 0
    if since is not None:
        begin = int(np.searchsorted(opening, since[1]))
        start = since[0]
        before = days[max(begin - len(start.days), 0) : begin]
        if not np.array_equal(before, start.days) or (day[rows] < begin).any():
            return _track(samples, error_of, settings, rows, until)
    first = begin - len(start.days)
    known_at, some = samples.answered, np.arange(len(samples))
    if begin:
        some = np.flatnonzero(~(known_at <= opening[begin - 1]).all(1))  # NaT: not yet, or never
    learned = np.where(np.isnat(known_at[some]), len(days), np.searchsorted(opening, known_at[some]))  # on which day
    error = error_of(some)
    row, step = np.nonzero(np.isfinite(error) & (learned < len(days)) & (learned >= begin))
    on_day = (learned[row, step] - begin).astype(np.min_scalar_type(len(days)))  # short numbers are sorted by counting
    order = np.argsort(on_day, kind="stable")
    row, step = row[order], step[order]
    bounds = np.searchsorted(on_day[order], np.arange(len(days) - begin + 1))
    regime, rate = _turbulent(samples).astype(np.int64), settings.rate / np.sqrt(np.arange(1, horizon + 1))
    error, issued, cell = error[row, step], day[some[row]] - first, regime[some[row]] * horizon + step
    if len(issued) and issued.min() < 0:
        return _track(samples, error_of, settings, rows, until)
    quantile = np.empty((len(days) - first, len(REGIMES) * horizon, tails))
    quantile[: begin - first] = start.quantile.reshape(-1, *quantile.shape[1:])
    offset, count = start.offset.copy(), start.count.copy()
    record = np.zeros((len(days) - begin, horizon), np.int64)
    at_refit, kept = int(np.searchsorted(opening, until)), samples.horizon_sessions + LONGEST_HALT
    standing = start
    for today, (low, high) in enumerate(pairwise([*bounds.tolist(), len(row)]), begin):
        if today == at_refit:
            last = slice(max(today - kept, first), today)
            old = quantile[last.start - first : today - first].reshape(-1, *offset.shape)
            standing = Standing(offset.copy(), count.copy(), days[last], old.copy())
        if today == len(days):
            break
        if high > low:
            now = cell[low:high]
            surprise = chance - (error[low:high, None] < quantile[issued[low:high], now])
            place = now[:, None] * tails + np.arange(tails)
            number = np.bincount(step[low:high], minlength=horizon)
            total = np.bincount(place.ravel(), surprise.ravel(), offset.size).reshape(offset.shape)
            move = total * (rate / np.maximum(number, 1))[:, None]
            offset += move.sum(0) + move
            count += number > 0
        quantile[today - first] = np.sort(normal + offset, axis=-1).reshape(-1, tails)
        record[today - begin] = count
    tracked = quantile.reshape(-1, *offset.shape)[day[rows] - first, regime[rows]]
    return np.where((record[day[rows] - begin] >= settings.minimum_days)[:, :, None], tracked, normal), standing


def _turbulent(samples: Samples) -> BoolArray:
    """(samples,) whether the variance of the last horizon bars is above the class's level; False without a level."""
    turbulent: BoolArray = (samples.facts.recent > samples.facts.level)[samples.ends]
    return turbulent


def coverage(forecasts: Forecasts, intervals: IntervalForecasts) -> pl.DataFrame:
    """How many answers lay inside, overall, by year of the session and by the regime known at the forecast.

    Returns
    -------
    `asset_class`, `scope` (overall, year, regime), `part` (all, the year, calm or turbulent), `step`, `level`, `days`,
    `forecasts` (answered ones), `coverage` (share inside, both ends included), `width` (mean, in log returns).
    Classes are pooled by means weighted with `forecasts`.
    """
    samples = forecasts.samples
    answer = samples.targets["return"].value[samples.decided]
    parts = []
    known = np.isfinite(samples.facts.level[samples.ends])
    keys = {
        "overall": np.full(len(samples), "all"),
        "year": samples.sessions.astype("datetime64[Y]").astype(str),
        "regime": np.where(known, np.where(_turbulent(samples), REGIMES[1], REGIMES[0]), ""),
    }
    for step in range(samples.horizon):
        for number, level in enumerate(intervals.levels):
            low, high = intervals.low[:, step, number], intervals.high[:, step, number]
            rows = np.flatnonzero(np.isfinite(answer[:, step] + low + high))
            inside = (low <= answer[:, step]) & (answer[:, step] <= high)
            table = pl.DataFrame(
                {
                    "day": samples.sessions[rows],
                    "inside": inside[rows],
                    "wide": (high - low)[rows],
                    **{key: part[rows] for key, part in keys.items()},
                }
            )
            parts += [
                table.filter(pl.col(key) != "")
                .group_by(part=key)
                .agg(
                    days=pl.col("day").n_unique(),
                    forecasts=pl.len(),
                    coverage=pl.col("inside").mean(),
                    width=pl.col("wide").mean(),
                )
                .select(
                    asset_class=pl.lit(samples.asset_class),
                    scope=pl.lit(key),
                    part="part",
                    step=pl.lit(step + 1, pl.Int32),
                    level=pl.lit(level),
                    days="days",
                    forecasts="forecasts",
                    coverage="coverage",
                    width="width",
                )
                for key in keys
            ]
    order = pl.col("scope").replace_strict({key: i for i, key in enumerate(keys)}, return_dtype=pl.Int32)
    return pl.concat(parts).sort(order, "part", "step", "level")
