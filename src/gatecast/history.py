"""Length of history: schedule and samples -> the classes long enough for a first refit, and what the others lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import HistoryTooShortError
from gatecast.forecasting.schedule import Schedule
from gatecast.market.calendar import OLDEST_SESSIONS, periods_of
from gatecast.samples.features import DEFAULT_FEATURES, find_feature
from gatecast.samples.known import delays
from gatecast.samples.targets import to_times
from gatecast.samples.windows import Samples, Sampling

SIGMA_WARMUP = 22  # returns that a trailing volatility takes
Span = tuple[NDArray[np.datetime64], NDArray[np.datetime64]]
"""(rows,) times of forecasts, and (rows,) when their answers are known."""


def enough_history(
    samples: dict[str, Samples], bars: pl.DataFrame, schedule: Schedule, sampling: Sampling
) -> dict[str, Samples]:
    """The classes that can be fitted at least once; the others are left out, and the run's warnings name them.

    `sampling`: what the samples were made with. Raises `HistoryTooShortError` when there is none, with what it would
    take.
    """
    found = {name: one for name, one in samples.items() if schedule.folds(one.times, one.known_at)}
    if not found and not any(one.names for one in samples.values()):
        reasons = "; ".join(f"{name}: {why}" for one in samples.values() for name, why in one.left_out.items())
        raise HistoryTooShortError(
            f"Nothing moved: there is nothing to judge. No feature has values that vary: {reasons}."
        )
    if not found:
        raise HistoryTooShortError(history_needed(bars, schedule, sampling))
    return found


def history_lacking(bars: pl.DataFrame, schedule: Schedule, sampling: Sampling) -> dict[str, str]:
    """Asset class -> what it would take, of the classes of which no symbol has bars enough for a first refit.

    By the number of bars alone: gaps and rows that come late take more.

    >>> from gatecast.market import synthetic
    >>> short = synthetic.a1(500, seed=1)
    >>> list(history_lacking(short, Schedule(), Sampling(None, 30, 5, "garman_klass", 30)))
    ['index']
    """
    classes = {str(name): own for (name,), own in bars.group_by("asset_class", maintain_order=True)}
    first = {name: _first_refit(own, schedule, sampling) for name, own in classes.items()}
    return {
        name: history_needed(classes[name], schedule, sampling)
        for name, one in first.items() if one.need > len(one.bars)
    }  # fmt: skip


def history_needed(bars: pl.DataFrame, schedule: Schedule, sampling: Sampling) -> str:
    """What the symbol with the most bars has, and what it would take to fit it once: more bars, or a longer window."""
    first = _first_refit(bars, schedule, sampling)
    own, have, need = first.bars, len(first.bars), first.need
    symbol = own["symbol"][0]
    if not all(_window_does(schedule, *span) for span in first.spans):
        return window_needed(schedule, first.spans, sampling.horizon)
    wait = own.select((pl.col("known_at") - pl.col("time")).filter(pl.Series(delays(own) > 0))).to_series()
    if have >= need and len(wait) > have / 10:
        days = cast(timedelta, wait.median()) / timedelta(days=1)
        return (
            f"{symbol!r} has {have} bars, but {len(wait)} of them became known after the next fill, half of these "
            f"{days:.3g} days or more after their close. A forecast needs every bar of its window, and a newest one "
            f"that is at most {OLDEST_SESSIONS} sessions old. Correct known_at, or get the bars sooner."
        )
    enough = (
        f"{need} are needed, around {np.datetime_as_string(first.cutoff, 'D')} at its pace" if need > have
        else f"{need} would do if they were in one piece: gaps or missing values are between them"
    )  # fmt: skip
    return (
        f"{symbol!r} has {have} bars; {enough}: {first.warmup} for the features to settle, "
        f"{sampling.context} for a window, then {schedule.minimum} to learn from, until the next refit "
        f"(one every {schedule.refit}). A longer file or features that settle sooner help, or a smaller minimum under "
        "[schedule] in a settings file."
    )


@dataclass(frozen=True)
class _FirstRefit:
    """Of the symbol with the most bars, as if it went on at its pace: when the first refit is, and with how many bars.

    `spans`: times and known_at of its forecasts, with the bars that it has and with those that it would have.
    """

    bars: pl.DataFrame
    warmup: int
    spans: list[Span]
    cutoff: np.datetime64
    need: int


def _first_refit(bars: pl.DataFrame, schedule: Schedule, sampling: Sampling) -> _FirstRefit:
    symbol, have = bars.group_by("symbol").len().sort("len", "symbol").row(-1)
    own = bars.filter(pl.col("symbol") == symbol)
    times, horizon = to_times(own, "time"), sampling.horizon
    names = sampling.features or DEFAULT_FEATURES
    warmup = max(SIGMA_WARMUP, *(find_feature(name, bars.columns).warmup for name in names))
    first = warmup + sampling.context - 1
    pace = np.timedelta64(round(365.25 * 86_400_000_000 / periods_of(own)), "us")
    more = 5 * horizon + sum(_bars(length, pace) for length in (schedule.minimum, schedule.refit)) + 60
    times = np.r_[times, times[-1] + pace * np.arange(1, first + more)]  # as if the symbol went on at its pace
    known_at = np.r_[times[horizon:], np.full(horizon, np.datetime64("NaT"))]
    folds = schedule.folds(times[first:], known_at[first:])
    spans = [(times[first:last], known_at[first:last]) for last in (have, len(times))]
    cutoff = folds[0].cutoff if folds else times[-1]
    return _FirstRefit(own, warmup, spans, cutoff, int(np.searchsorted(times, cutoff)) + 1)


def window_needed(schedule: Schedule, spans: Sequence[Span], horizon: int) -> str:
    """That the training window is too short for answers over `horizon` bars, and the shortest that would do.

    `spans`: times and known_at as in `Schedule.folds`, of a symbol that has rows enough. The shortest is in the unit of
    `schedule.train`; with it at least half of the refits of each span have rows to train and to validate on.

    >>> times = np.arange("2015-01-01T21", "2017-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    >>> known_at = np.r_[times[5:], np.full(5, np.datetime64("NaT"))]
    >>> window_needed(Schedule(train="1W"), [(times, known_at)], 5)[-87:-43]
    'shortest that would do is 2W: --train 2W, or'
    """
    given = schedule.train
    short, unit = (given, "") if isinstance(given, int) else (int(given[:-1]), given[-1])

    def does(count: int) -> bool:
        longer = schedule.replace(train=f"{count}{unit}" if unit else count)
        return all(_window_does(longer, *span) for span in spans)

    long = 2 * short
    while not does(long) and long < len(spans[-1][0]):  # as many of any unit as there are bars hold them all
        short, long = long, 2 * long
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (short, middle) if does(middle) else (middle, long)
    return (
        f"A training window of {given} is too short: with answers over {horizon} bar{'s' * (horizon != 1)} no row is "
        f"left to train on and another to validate on. The shortest that would do is {long}{unit}: "
        f"--train {long}{unit}, or train under [schedule] in a settings file."
    )


def _window_does(schedule: Schedule, times: NDArray[np.datetime64], known_at: NDArray[np.datetime64]) -> bool:
    """Whether at least half of the refits that have a past have rows to train and to validate on."""
    everything = schedule.replace(expanding=True)
    return 2 * len(schedule.folds(times, known_at)) >= len(everything.folds(times, known_at))


def _bars(length: str | int, pace: np.timedelta64) -> int:
    """How many bars a length of the schedule holds."""
    if isinstance(length, int):
        return length
    days = int(length[:-1]) * {"D": 1, "W": 7, "M": 31, "Y": 366}[length[-1]]
    return int(np.timedelta64(days, "D") / pace)
