"""When models are refitted, and which rows each refit may see: the one home of the purge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, Field

from gatecast.compute.estimate import Work
from gatecast.errors import TrainingError
from gatecast.market.bars import distinct, session_date
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    BoolArray = NDArray[np.bool_]
    IntArray = NDArray[np.int64]
    FloatArray = NDArray[np.float64]
    TimeArray = NDArray[np.datetime64]


LONGEST = 10_000
"""The largest count of a calendar length, in any unit."""


def _a_length(value: str | int) -> str | int:
    if isinstance(value, str) and not re.fullmatch(r"[1-9]\d*[DWMY]", value):
        raise ValueError(f"expected a length such as '2Y', '3M', '1W' or a number of bars, got {value!r}")
    return value if isinstance(value, int) else _bounded(value)


def _bounded(value: str) -> str:
    """The calendar length; a count beyond `LONGEST`, or a length beyond 200 years, is refused."""
    days = {"D": 1, "W": 7, "M": 31, "Y": 366}
    count = value[:-1]
    if len(count) > len(str(LONGEST)) or int(count) > LONGEST or int(count) * days[value[-1]] > days["Y"] * 200:
        raise ValueError(f"a length is at most {LONGEST:,} of its unit and 200 years, got {value!r}: use a shorter one")
    return value


def _a_window(value: str | int) -> str | int:
    return value if value == "expanding" else _a_length(value)


Length = Annotated[str | Annotated[int, Field(ge=20, le=MOST_BARS)], AfterValidator(_a_length)]
"""A calendar length such as "2Y", "18M", "60W", "500D", or a number of bars."""
Window = Annotated[
    str | Annotated[int, Field(ge=20, le=MOST_BARS)], Field(examples=["expanding"]), AfterValidator(_a_window)
]
"""What a model learns from: a `Length`, or "expanding" for everything known."""


def _a_period(value: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[DWMY]", value):
        raise ValueError(f"expected a period such as '1Y', '3M' or '1M', got {value!r}")
    return _bounded(value)


Period = Annotated[str, AfterValidator(_a_period)]
"""A calendar length such as "1Y" or "3M"."""
HalfLife = Annotated[float, Field(gt=0, le=1000, examples=[4.0])]
"""Years of age at which a row weighs half as much as one of today."""
EXPANDING = "expanding"


def known_by(known_at: TimeArray, moment: np.datetime64) -> BoolArray:
    """The purge: a row may be fitted on iff its answer is known at the first forecast of the block that follows.

    >>> day = np.array(["2020-01-02", "2020-01-03", "NaT"], "datetime64[us]")
    >>> known_by(day, np.datetime64("2020-01-02")).tolist()
    [True, False, False]
    """
    return known_at <= moment


def warm_starts(folds: Sequence[Fold]) -> list[int | None]:
    """Folds -> for each the number of the newest earlier fold whose fit its training may start from; None: of none.

    The purge once more: an earlier fit counts as known at its cut-off, which must not be later than the first forecast
    of the block that the new fit is validated on. A later one has seen answers of that block, in its early stopping at
    the least, so that the block could no longer tell the new fit when to stop. `folds` are in time order.
    """
    cutoffs = np.array([fold.cutoff for fold in folds], "datetime64[us]")
    starts: list[int | None] = []
    for number, fold in enumerate(folds):
        clean = np.flatnonzero(known_by(cutoffs[:number], fold.data.times[fold.validation].min()))
        starts.append(int(clean[-1]) if len(clean) else None)
    return starts


@dataclass(frozen=True)
class Fold:
    """One refit: row numbers of `train`, `validation` (later in time) and `test`, and the moments between them.

    `cutoff` is the time of the first forecast of the test block; `index` counts refits from 0. `samples` is what the
    rows count in, once bound with `on`; `share` of a window, the latest in time, validates. `oldest`: no row before
    that moment is used, where a fold lies inside the slice of another. `counts`: (train rows,) how much each counts
    beside its age; None: all the same.
    """

    index: int
    train: IntArray
    validation: IntArray
    test: IntArray
    cutoff: np.datetime64
    samples: Samples | None = None
    share: float = 0.2
    oldest: np.datetime64 | None = None
    counts: FloatArray | None = None

    def on(self, samples: Samples) -> Fold:
        """The same fold, bound to the samples that its rows count in."""
        return replace(self, samples=samples)

    @property
    def data(self) -> Samples:
        """The samples; a fold that is not bound to any has none."""
        if self.samples is None:
            raise ValueError("this fold is not bound to samples: use fold.on(samples) first")
        return self.samples

    @property
    def record(self) -> IntArray:
        """All rows whose answers are known at the cutoff, however old: what rivals with a long memory may use."""
        known = known_by(self.data.known_at, self.cutoff)
        return np.flatnonzero(known if self.oldest is None else known & (self.data.times >= self.oldest))

    def answered(self, head: str) -> tuple[IntArray, FloatArray]:
        """Those rows of `record` that have an answer to a head of one number, and the answers."""
        samples, rows = self.data, self.record
        answers = samples.targets[head].value[samples.decided[rows]]
        there = np.isfinite(answers)
        return rows[there], answers[there]

    def since(self, window: str | int) -> np.datetime64:
        """The first moment of a window of this length that ends at the cutoff."""
        moments = self.data.moments
        return _since(moments, session_date(moments), int(np.searchsorted(moments, self.cutoff)), window)

    def windowed(self, window: str | int | None) -> Fold:
        """The fold with the training rows of a window of another length; None: the fold unchanged.

        It is the fold that `Schedule(train=window)` has at this cutoff. Raises `TrainingError` where the window has
        no rows to train or to validate on.
        """
        if window is None:
            return self
        times, rows = self.data.times, self.record
        since = self.since(window)
        train, validation = _split(times, self.data.known_at, rows[times[rows] >= since], self.share)
        if len(train) == 0 or len(validation) == 0:
            raise TrainingError(f"a window of {window} has too few rows before {self.cutoff}: use a longer window.")
        return replace(self, train=train, validation=validation, counts=None)

    def inner(self, window: str | int, count: int, share: float) -> list[Fold]:
        """Walk-forward folds inside a slice, the window of this length that ends at the cutoff.

        The latest `share` of the slice's moments is cut into `count` blocks; each is scored (its rows are `test`) by
        what is fitted on the slice's rows whose answers are known at the block's first moment. Blocks that leave
        nothing to train or to validate on are left out.
        """
        times, known_at, oldest = self.data.times, self.data.known_at, self.since(window)
        rows = self.record
        rows = rows[times[rows] >= oldest]
        moments = distinct(times[rows])
        bounds = np.linspace(np.floor(len(moments) * (1 - share)), len(moments), count + 1).astype(np.int64)
        folds: list[Fold] = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if begin == end:
                continue
            cutoff, last = moments[begin], moments[end - 1]
            fittable = rows[known_by(known_at[rows], cutoff)]
            train, validation = _split(times, known_at, fittable, self.share)
            test = rows[(times[rows] >= cutoff) & (times[rows] <= last)]
            if len(train) and len(validation):
                folds.append(Fold(len(folds), train, validation, test, cutoff, self.samples, self.share, oldest))
        return folds

    def recency(self, half_life: float | None) -> FloatArray:
        """(train rows,) how much each row counts: half as much for every `half_life` years of age, 1 in the mean.

        None: whatever its age. Beside it by `counts`.
        """
        weight = np.ones(len(self.train)) if self.counts is None else self.counts
        if half_life is not None:
            years = (self.cutoff - self.data.times[self.train]) / np.timedelta64(1, "D") / 365.25
            weight = weight * 0.5 ** (years / half_life)
        mean: FloatArray = weight / weight.mean()
        return mean


class Schedule(Settings):
    """Walk-forward refits: at the first session of each period, on a window of what is known by then.

    >>> times = np.arange("2015-01-01T21", "2018-01-01T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
    >>> folds = Schedule(train="1Y").folds(times, times + np.timedelta64(5, "D"))
    >>> len(folds), str(folds[0].cutoff)[:10], len(folds[0].train), len(folds[0].validation)
    (24, '2016-01-01', 284, 73)
    """

    train: Length = "2Y"
    """window of what is known: 2Y, 18M, 60W, 500D, or a number of bars"""
    refit: Annotated[str | Annotated[int, Field(ge=1, le=MOST_BARS)], AfterValidator(_a_length)] = "1M"
    """period between refits: 1M, 1W, 3M, 1Y, or a number of bars"""
    expanding: bool = False
    """keep all since the first bar, instead of sliding"""
    validation: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """latest share of the window, for early stopping"""
    minimum: Length = "1Y"
    """history before the first refit, a length like the window's; what features need to warm up comes before it"""

    def folds(
        self,
        times: TimeArray,
        known_at: TimeArray,
        done: Sequence[np.datetime64] = (),
        until: np.datetime64 | None = None,
        alarms: Sequence[np.datetime64] = (),
        passed: np.datetime64 | None = None,
    ) -> list[Fold]:
        """The refits of a history.

        Parameters
        ----------
        times: (rows,) close at which each row's forecast is made, in any order (several symbols share times).
        known_at: (rows,) close at which its answers are known; NaT rows are never fitted on but can be forecast.
        done: cutoffs of the refits that were made before, in time order: they stay, whatever rows came since.
        until: with `done`, the newest close of the history that these were made on: refits due after it are added, and
            one that was due before and not made is made up for at the next close; None: refits are added at `alarms`
            alone.
        alarms: moments of alarms of the inputs: each adds a refit at the first close at or after it, beside those that
            are due, see `drift.watch_inputs`; so does a moment for which somebody asked.
        passed: with `until`, the cutoff of a refit that was made and is out of force again: none up to it is made up
            for.

        Returns
        -------
        One fold a refit whose window has training and validation rows, in time order. Row numbers are ascending.
        """
        times, known_at = times.astype("datetime64[us]"), known_at.astype("datetime64[us]")
        if len(times) == 0:
            return []
        in_time = np.argsort(times, kind="stable")
        ordered = times[in_time]
        moments: TimeArray = ordered[np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])]
        added = np.searchsorted(moments, np.array(alarms, "datetime64[us]"))
        asked: TimeArray = moments[np.unique(added[added < len(moments)])]
        planned: TimeArray = np.union1d(moments[self.due(moments)], asked)
        blocks = partial(self._blocks, times, known_at, in_time, moments)
        if len(done) == 0:
            return blocks(planned)
        cutoffs = [one.astype("datetime64[us]") for one in done]
        if until is not None:
            last = cutoffs[-1] if passed is None else max(cutoffs[-1], passed)
            planned = planned[planned > last]  # those of the last refit's period end
            missed = planned[planned <= until]
            possible = {one.cutoff for one in blocks(missed)}
            cutoffs += [one for one in missed if one not in possible]  # nothing to fit on: no block either
            later = moments[moments > until]
            cutoffs += dict.fromkeys([*later[: bool(possible)], *planned[planned > until]])
        else:
            cutoffs += [*asked[asked > cutoffs[-1]]]
        return blocks(np.array(cutoffs, "datetime64[us]"), kept=len(done))

    def _blocks(
        self, times: TimeArray, known_at: TimeArray, in_time: IntArray, moments: TimeArray, cutoffs: TimeArray,
        kept: int = 0,
    ) -> list[Fold]:  # fmt: skip
        """The folds whose test blocks begin at these moments; the first `kept` even where nothing can be fitted.

        `in_time`: the rows in time order, of which a fold looks at those of its window alone.
        """
        sessions, begins = session_date(moments), np.searchsorted(moments, cutoffs)
        ordered, instant = times[in_time], np.timedelta64(1, "us")
        until = np.r_[cutoffs[1:], moments[-1:] + instant][: len(cutoffs)]

        def rows_from(first: np.datetime64, end: np.datetime64) -> IntArray:
            return np.sort(in_time[slice(*np.searchsorted(ordered, np.array([first, end], ordered.dtype)))])

        folds: list[Fold] = []
        for number, (begin, cutoff, end) in enumerate(zip(begins.tolist(), cutoffs, until, strict=True)):
            if number >= kept and not self._reaches_back(begin, sessions):
                continue
            since = _since(moments, sessions, begin, EXPANDING if self.expanding else self.train)
            window = rows_from(since, cutoff + instant)  # no answer is known before its forecast
            fittable = window[known_by(known_at[window], cutoff)]
            train, validation = self.split(times, known_at, fittable)
            if number >= kept and (len(train) == 0 or len(validation) == 0):
                continue
            folds.append(Fold(len(folds), train, validation, rows_from(cutoff, end), cutoff, share=self.validation))
        return folds

    def due(self, moments: TimeArray) -> IntArray:
        """Numbers of the moments at which a refit is due: the first of each period by the calendar of the sessions.

        In: (moments,) closes of a class at which forecasts are made, ascending and each once. A period in which there
        is no session has no refit; one whose first session has none is due at the first that has.

        >>> closes = np.arange("2020-01-30T21", "2020-02-04T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
        >>> Schedule().due(closes).tolist()
        [0, 2]
        """
        period = self._period(session_date(moments))
        return np.flatnonzero(np.r_[True, np.diff(period) != 0])

    def due_at(self, now: np.datetime64, done: Sequence[np.datetime64], sessions: TimeArray) -> TimeArray:
        """The refits that are due at a moment and not made: of each period the close of its first session, ascending.

        The latest is the one to make, at the first decision at or after that close, whose close is its cutoff; the
        earlier ones were missed. It is the rule of `due`, asked of the sessions that should be there instead of the
        bars that are: a refit falls due also where no bar has come.

        Parameters
        ----------
        now: UTC. done: cutoffs of the refits made so far, ascending. sessions: (n,) closes, ascending, of the class's
            sessions (`market.sessions.Calendar.close`; of several calendars those of all), from the first at which
            forecasts can be made. Closes of the bars that came count as well and may be among them: bars within a
            session are decided at before it closes. Where the period is a number of bars, closes of bars alone.

        Returns
        -------
        (m,) closes. Before the first refit, only of periods from `minimum` on; then of periods after the last one's.

        >>> closes = np.arange("2020-01-30T21", "2020-04-04T21", 24, dtype="datetime64[h]").astype("datetime64[us]")
        >>> now, done = np.datetime64("2020-03-01T22:00", "us"), [np.datetime64("2020-01-30T21:00", "us")]
        >>> Schedule().due_at(now, done, closes).astype("datetime64[D]").astype(str).tolist()
        ['2020-02-01', '2020-03-01']
        """
        closes = sessions[sessions <= now].astype("datetime64[us]")
        due = self.due(closes) if len(closes) else np.array([], np.int64)
        if len(done) == 0:
            days = session_date(closes)
            return closes[[place for place in due.tolist() if self._reaches_back(place, days)]]
        last = np.asarray(done[-1:], "datetime64[us]")
        if isinstance(self.refit, int):
            later = due > np.searchsorted(closes, last, side="right") - 1
        else:
            later = self._period(session_date(closes[due])) > self._period(session_date(last))
        return closes[due[later]]

    def split(self, times: TimeArray, known_at: TimeArray, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Rows -> (train, validation): the latest share in time validates; train is purged against its first moment."""
        return _split(times, known_at, rows, self.validation)

    def _period(self, sessions: TimeArray) -> IntArray:
        if isinstance(self.refit, int):
            return np.arange(len(sessions)) // self.refit
        count, unit = int(self.refit[:-1]), self.refit[-1]
        if unit in "MY":
            return sessions.astype("datetime64[M]").astype(np.int64) // (count * (12 if unit == "Y" else 1))
        day = sessions.astype("datetime64[D]").astype(np.int64)
        return ((day + 3) // 7 if unit == "W" else day) // count  # weeks begin on Monday

    def _reaches_back(self, begin: int, sessions: TimeArray) -> bool:
        if isinstance(self.minimum, int):
            return begin >= self.minimum
        return bool(sessions[0] <= back(sessions[begin], self.minimum))


def _split(times: TimeArray, known_at: TimeArray, rows: IntArray, share: float) -> tuple[IntArray, IntArray]:
    """See `Schedule.split`."""
    moments = distinct(times[rows])
    if len(moments) < 2:
        return rows[:0], rows[:0]
    first = moments[min(len(moments) - 1, int(np.floor(len(moments) * (1 - share))))]
    later = times[rows] >= first
    return rows[~later & known_by(known_at[rows], first)], rows[later]


def _since(moments: TimeArray, sessions: TimeArray, begin: int, window: str | int) -> np.datetime64:
    """The first moment (UTC) of the training window of the refit at `moments[begin]`.

    `sessions`: the session date of each moment. Where the history begins later, the first moment of the history.
    """
    if window == EXPANDING:
        start = 0
    elif isinstance(window, int):
        start = max(0, begin - window)
    else:
        start = int(np.searchsorted(sessions, back(sessions[begin], window)))
    moment: np.datetime64 = moments[start]
    return moment


def back(day: np.datetime64, length: str) -> np.datetime64:
    """The day that lies a calendar length earlier; month ends are kept inside the month.

    >>> back(np.datetime64("2024-02-29"), "1Y")
    np.datetime64('2023-02-28')
    """
    count, unit = int(length[:-1]), length[-1]
    if unit in "DW":
        return day - np.timedelta64(count * (7 if unit == "W" else 1), "D")
    month = day.astype("datetime64[M]")
    target = month - np.timedelta64(count * (12 if unit == "Y" else 1), "M")
    offset = day - month.astype("datetime64[D]")
    last = (target + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
    earlier: np.datetime64 = min(target.astype("datetime64[D]") + offset, last)
    return earlier


def work_of(samples: Samples, folds: Sequence[Fold]) -> Work:
    """The work of a class's refits, before anything is fitted."""
    known_at = np.sort(samples.known_at[~np.isnat(samples.known_at)])
    record = np.searchsorted(known_at, [fold.cutoff for fold in folds], side="right")
    rows = sum(len(fold.train) + len(fold.validation) for fold in folds)
    return Work(len(samples.time), len(samples.symbols), len(folds), rows, int(record.sum()))
