"""Intervals of the return path: forecasts and past errors -> adaptive conformal quantiles, updated daily.

An end is the forecast plus a quantile of past standardised errors times the model's own volatility, so that the width
follows the regime. The quantile begins at the normal one and is tracked online: after each day it moves against the
day's share of answers beyond it, which holds coverage in the long run whatever the errors' distribution. It moves once
for the class and once more for the regime that the answers were forecast in.

Gibbs and Candès (2021), NeurIPS 34; Angelopoulos, Candès and Tibshirani (2023), NeurIPS 36 (the quantile tracker);
ends that cross are put in order as in Chernozhukov, Fernández-Val and Galichon (2010), Econometrica 78.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from gatecast.errors import SettingsError, did_you_mean
from gatecast.market.bars import numbered_days
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    def of_heads(cls, heads: Mapping[str, FloatArray]) -> IntervalForecasts | None:
        """The inverse of `heads`; None where a model has no intervals."""
        levels = sorted(float(name.removeprefix(LOW)) for name in heads if name.startswith(LOW))
        if not levels:
            return None
        low, high = (np.stack([heads[f"{start}{level:g}"] for level in levels], axis=-1) for start in (LOW, HIGH))
        return cls(low, high, tuple(round(level / 100, 9) for level in levels))


def with_intervals(
    forecasts: Forecasts, settings: Intervals | None = None, model: str = "ensemble", issued: Issued | None = None
) -> Forecasts:  # fmt: skip
    """The same forecasts, the model's intervals among its heads; without a refit as they are.

    `issued`: what a past has issued; where it has these heads, they are NaN in its rows, see `Forecasts.as_issued`.
    """
    if not forecasts.folds:
        return forecasts
    settings = settings or Intervals()
    rows: IntArray | slice = slice(None)
    if issued is not None and settings.heads <= issued.values.get(model, {}).keys():
        rows = np.flatnonzero(np.bincount(issued.rows_in(forecasts.samples)[1], minlength=len(forecasts.samples)) == 0)
    made = make_intervals(forecasts, settings, model, rows)
    return forecasts.with_model(model, {**forecasts.values[model], **made.heads()})


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
    settings = settings or Intervals()
    samples, horizon = forecasts.samples, forecasts.samples.horizon
    heads = forecasts.values.get(model, {})
    if forecasts.folds and not {"return", "volatility"} <= set(heads):
        able = [name for name, has in forecasts.values.items() if {"return", "volatility"} <= set(has)]
        raise SettingsError(
            f"intervals need forecasts of the return and of the volatility, and {model!r} has "
            f"{sorted(heads) or 'none'}. {did_you_mean(model, able)}"
        )
    shape = (len(samples), horizon, len(settings.levels))
    if not forecasts.folds:
        return IntervalForecasts(np.full(shape, np.nan), np.full(shape, np.nan), settings.levels)
    variance = heads["volatility"] * samples.facts.ratio[samples.ends]
    unit = np.sqrt(variance[:, None] * np.arange(1, horizon + 1) / horizon)
    error = (samples.targets["return"].value[samples.decided] - heads["return"]) / unit
    ends = np.full((*shape[:2], 2 * shape[2]), np.nan)
    ends[rows] = heads["return"][rows, :, None] + _track(samples, error, settings, rows) * unit[rows, :, None]
    return IntervalForecasts(ends[:, :, : shape[2]][:, :, ::-1], ends[:, :, shape[2] :], settings.levels)


def _track(samples: Samples, error: FloatArray, settings: Intervals, rows: IntArray | slice) -> FloatArray:
    """(rows, horizon, tails) quantiles in force of the standardised errors (samples, horizon), lowest tail first."""
    from scipy.special import ndtri

    half = np.array(settings.levels) / 2
    chance = np.r_[0.5 - half[::-1], 0.5 + half]  # that an answer lies below
    normal, tails, horizon = ndtri(chance), len(chance), samples.horizon
    days, day = numbered_days(samples.sessions)
    opening = np.full(len(days), samples.times.max())  # the first forecast of each session
    np.minimum.at(opening, day, samples.times)
    known_at = samples.answered
    learned = np.where(np.isnat(known_at), len(days), np.searchsorted(opening, known_at))  # on which day
    row, step = np.nonzero(np.isfinite(error) & (learned < len(days)))
    on_day = learned[row, step].astype(np.min_scalar_type(len(days)))  # short numbers are sorted by counting
    order = np.argsort(on_day, kind="stable")
    row, step = row[order], step[order]
    bounds = np.searchsorted(on_day[order], np.arange(len(days) + 1))
    regime, rate = _turbulent(samples).astype(np.int64), settings.rate / np.sqrt(np.arange(1, horizon + 1))
    error, issued, cell = error[row, step], day[row], regime[row] * horizon + step
    quantile = np.empty((len(days), len(REGIMES) * horizon, tails))
    offset = np.zeros((len(REGIMES), horizon, tails))
    record = np.zeros((len(days), horizon), np.int64)
    count = np.zeros(horizon, np.int64)
    for today, (begin, end) in enumerate(pairwise(bounds.tolist())):
        if end > begin:
            now = cell[begin:end]
            surprise = chance - (error[begin:end, None] < quantile[issued[begin:end], now])
            place = now[:, None] * tails + np.arange(tails)
            number = np.bincount(step[begin:end], minlength=horizon)
            total = np.bincount(place.ravel(), surprise.ravel(), offset.size).reshape(offset.shape)
            move = total * (rate / np.maximum(number, 1))[:, None]
            offset += move.sum(0) + move
            count += number > 0
        quantile[today] = np.sort(normal + offset, axis=-1).reshape(-1, tails)
        record[today] = count
    day, regime = day[rows], regime[rows]
    tracked = quantile.reshape(len(days), len(REGIMES), horizon, tails)[day, regime]
    return np.where((record[day] >= settings.minimum_days)[:, :, None], tracked, normal)


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
