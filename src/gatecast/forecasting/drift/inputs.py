"""Alarms of the inputs: samples of a class -> changes of its features and returns, before any fold is fitted.

Three things are looked at. **Features**, every few sessions: the latest block against the training window of the refit
in force, by the population stability index and by Kolmogorov and Smirnov's distance. Sessions that hang together count
as fewer; Holm's rule holds over features and both distances within a date; over time the level of a date is such that
the number of false alarms is the stated one. **The last window**, at each close: its distance from the training rows.
**Returns**, session by session: Page's chart of normal scores of the residuals of an own GARCH, one for each symbol
that the class has by then, whose false alarms together are as many as stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.forecasting.drift.alarms import Alarm, Alarms, Drift, Kind
from gatecast.forecasting.drift.residuals import ResidualModel, fit_residuals, scores_of
from gatecast.forecasting.scaling import robust_spread
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market.bars import session_date
from gatecast.metrics.change import (
    cusum,
    ks_distance,
    ks_pvalue,
    psi,
    psi_pvalue,
    rows_that_hang_together,
    tail_threshold,
    variance_steps,
    variance_threshold,
)
from gatecast.metrics.many import holm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    TimeArray = NDArray[np.datetime64]

MOST_ROWS = 20_000  # of a training window that distances are computed with
BINS = 10  # of the population stability index
LEAST_INDEPENDENT = 4.0  # sessions of a block that a feature must have to be compared
FAR = 8.0  # robust standard deviations that a value counts as at most
PARTS = 4  # of a training window; each part's distances are from the others
SHRINK = 0.1  # of correlations towards 0
DISTANCE = {"psi": "the population stability index", "ks": "the distance of the distributions"}
WHOLE = ""  # the name of the series of a class's mean return


def watch_inputs(
    samples: Samples, settings: Drift | None = None, schedule: Schedule | None = None, past: Alarms | None = None
) -> Alarms:
    """Samples of a class -> its alarms of the inputs, and the refits that they add where the settings say so.

    Parameters
    ----------
    past: what was found up to an earlier close. It stays as it is, and only later closes are looked at; the result is
        that without it, to the bit, if its samples were of the same bars.

    An alarm at a close is made from what that close's forecasts are made from, so that later bars change none.

    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> bars = synthetic.a1(1200, seed=1)
    >>> alarms = watch_inputs(make_samples(bars, ("ret_log_1",))["index"])
    >>> len(alarms) < 8, alarms.refits
    (True, ())
    """
    settings, schedule = settings or Drift(), schedule or Schedule()
    watch = _Watch(samples, settings, schedule, past)
    if settings.watch and len(samples):
        watch.run()
    return watch.found


@dataclass
class _Series:
    """A series of returns on its way: the filter in force and the sums of its chart."""

    model: ResidualModel | None = None
    refits: int = 0
    variance: float = 1.0
    before: float = 0.0
    total: float = 0.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> _Series:
        model = values["model"]
        return cls(**{**values, "model": None if model is None else ResidualModel(*model)})

    def state(self) -> dict[str, Any]:
        return {**vars(self), "model": None if self.model is None else self.model.to_list()}


@dataclass
class _Reference:
    """What the training window of the refit in force is like."""

    rows: IntArray
    centre: FloatArray = field(default_factory=lambda: np.zeros(0))
    spread: FloatArray = field(default_factory=lambda: np.zeros(0))
    inverse: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    threshold: float = float("nan")


class _Watch:
    """One pass over the closes of a class, from the first that the past has not seen."""

    def __init__(self, samples: Samples, settings: Drift, schedule: Schedule, past: Alarms | None) -> None:
        self.samples, self.settings, self.schedule = samples, settings, schedule
        past = Alarms() if past is None else past  # one without a single alarm has a state as well
        self.alarms, self.refits, self.until = list(past.alarms), list(past.refits), past.until
        self.series = {name: _Series.of(one) for name, one in past.state.get("series", {}).items()}
        self.on = {kind: list(names) for kind, names in past.state.get("on", {}).items()}
        self.last = {name: str(moment) for name, moment in past.state.get("last", {}).items()}
        self.moments, self.place = np.unique(samples.times, return_inverse=True)
        self.order = np.argsort(self.place, kind="stable")
        self.bounds = np.searchsorted(self.place[self.order], np.arange(len(self.moments) + 1))
        self.sessions = session_date(self.moments)
        self.day = np.unique(self.sessions, return_inverse=True)[1]

    @property
    def found(self) -> Alarms:
        """The result."""
        state = {"series": {name: one.state() for name, one in self.series.items()}, "on": self.on, "last": self.last}
        return Alarms(tuple(self.alarms), tuple(self.refits), self.until, state)

    def run(self) -> None:
        begin = 0 if self.until is None else int(np.searchsorted(self.moments, self.until, side="right"))
        if begin == len(self.moments):
            return
        self.folds = self._folds()
        self.returns = _returns(self.samples, self.moments, self.place)
        self.vectors = _Vectors(self.samples)
        self.first = np.full(len(self.samples.symbols), len(self.moments))
        np.minimum.at(self.first, self.samples.symbol[self.samples.decided], self.place)
        self.symbols = np.searchsorted(np.sort(self.first), np.arange(len(self.moments)), side="right")
        number, reference = -1, None
        for now in range(begin, len(self.moments)):
            moment, count = self.moments[now], len(self.alarms)
            if (latest := self._in_force(now)) > number:
                number, reference = latest, self._reference(self.folds[latest])
                if self._cutoffs[latest] == moment:
                    self._fit_series(now)
            self._watch_returns(now)
            if reference is not None:
                self._watch_window(now, reference)
                if now == 0 or self.day[now] != self.day[now - 1]:
                    self._watch_features(now, reference)
            if len(self.alarms) > count and self._may_refit(now):
                self.refits.append(moment)
                self.folds = self._folds()
                if (latest := self._in_force(now)) > number:
                    number, reference = latest, self._reference(self.folds[latest])
                    self._fit_series(now)
        self.until = self.moments[-1]

    # ── refits ────────────────────────────────────────────────────────────────────────────────────

    def _folds(self) -> list[Fold]:
        folds = self.schedule.folds(self.samples.times, self.samples.known_at, alarms=self.refits)
        self._cutoffs = np.array([fold.cutoff for fold in folds], "datetime64[us]")
        return folds

    def _in_force(self, now: int) -> int:
        """Number of the refit in force at a close; -1: none yet."""
        return int(np.searchsorted(self._cutoffs, self.moments[now], side="right")) - 1

    def _may_refit(self, now: int) -> bool:
        if not self.settings.adds_refits or not len(self._cutoffs) or self.moments[now] <= self._cutoffs[0]:
            return False
        if self.moments[now] in self._cutoffs:
            return False  # one is due at this close anyway
        return not self.refits or self._sessions_since(self.refits[-1], now) >= self.settings.least_sessions

    def _sessions_since(self, moment: np.datetime64, now: int) -> int:
        """Sessions with a forecast from that of an earlier close to that of the close `now`."""
        return int(self.day[now] - self.day[np.searchsorted(self.moments, moment)])

    # ── alarms ────────────────────────────────────────────────────────────────────────────────────

    def _raise(
        self, now: int, symbol: str | None, kind: Kind, statistic: float, threshold: float, sentence: str, of: str = ""
    ) -> None:
        """Adds an alarm; none where one of the same kind and symbol (and feature `of`) was raised a while ago."""
        key = f"{kind} {symbol or WHOLE} {of}"
        last = self.last.get(key)
        if last and self._sessions_since(np.datetime64(last, "us"), now) < self.settings.least_sessions:
            return
        self.last[key] = str(self.moments[now])
        name = self.samples.asset_class
        self.alarms.append(Alarm(self.moments[now], name, symbol, kind, float(statistic), float(threshold), sentence))

    # ── returns ───────────────────────────────────────────────────────────────────────────────────

    def _fit_series(self, now: int) -> None:
        """At a refit: the filters that are old, or not there, are fitted on the returns known before this close."""
        for name in self._watched(now):
            values, at = self.returns[name]
            one = self.series.setdefault(name, _Series())
            known = int(np.searchsorted(at, now, side="left"))
            one.refits += 1
            if one.model is not None and one.refits < self.settings.filter_every:
                continue
            if np.isfinite(values[:known]).sum() < self.settings.filter_minimum:
                continue
            model = fit_residuals(values[:known])
            if model is not None:
                one.model, one.refits = model, 0
                _, one.variance, one.before = model.filtered(values[:known])

    def _watched(self, now: int) -> list[str]:
        """Names of the series that have a chart at this close."""
        if self.symbols[now] > self.settings.most_symbols:
            return [WHOLE]
        return [name for name, first in zip(self.samples.symbols, self.first.tolist(), strict=True) if first <= now]

    def _watch_returns(self, now: int) -> None:
        count = 1 if self.symbols[now] > self.settings.most_symbols else int(self.symbols[now])
        limit = variance_threshold(self.settings.rows * count, self.settings.growth)
        seen: list[tuple[str, _Series, ResidualModel, float]] = []
        for name in self._watched(now):
            one = self.series.get(name)
            if one is None or one.model is None:
                continue
            values, at = self.returns[name]
            begin, end = np.searchsorted(at, [now, now + 1])
            for value in values[begin:end].tolist():
                if value != value:
                    continue  # no return over a gap
                residual, one.variance = one.model.step(value, one.before, one.variance)
                one.before = value
                seen.append((name, one, one.model, residual))
        if not seen:
            return
        of_each = np.array([(residual, model.degrees, model.scale) for _, _, model, residual in seen])
        steps = variance_steps(scores_of(*of_each.T), self.settings.growth)
        for (name, one, *_), step in zip(seen, steps.tolist(), strict=True):
            sums, alarms, one.total = cusum([step], limit, one.total)
            if len(alarms):
                symbol = None if name == WHOLE else name
                whose = f"of {name}" if symbol else f"of the mean of {self.samples.asset_class}"
                self._raise(
                    now, symbol, "variance", sums[0], limit,
                    f"The returns {whose} have become larger than their own past says: the chart of their "
                    f"variance stands at {sums[0]:.1f}, the limit is {limit:.1f}.",
                )  # fmt: skip

    # ── features ──────────────────────────────────────────────────────────────────────────────────

    def _reference(self, fold: Fold) -> _Reference:
        """The training window of a refit, validation included, and the distances of its rows."""
        rows = np.sort(np.concatenate([fold.train, fold.validation]))
        thin = rows[:: max(1, -(-len(rows) // MOST_ROWS))]
        made = _Reference(thin)
        vectors = self.vectors[thin]
        if len(thin) < 20 * PARTS or not np.isfinite(vectors).all():
            return made
        made.centre, made.spread, made.inverse = _shape(vectors)
        moment = self.place[thin]
        part = np.searchsorted(np.quantile(moment, np.arange(1, PARTS) / PARTS), moment, side="left")
        apart = np.full(len(thin), np.nan)
        for one in range(PARTS):
            mine = part == one
            if mine.any() and (~mine).sum() >= 20:
                apart[mine] = _distance(vectors[mine], *_shape(vectors[~mine]))
        made.threshold = tail_threshold(_medians(apart, moment), 1 / self.settings.rows)
        return made

    def _watch_window(self, now: int, reference: _Reference) -> None:
        if not np.isfinite(reference.threshold):
            return
        rows = self.order[self.bounds[now] : self.bounds[now + 1]]
        ordered = np.sort(_distance(self.vectors[rows], reference.centre, reference.spread, reference.inverse))
        score = 0.5 * float(ordered[(len(rows) - 1) // 2] + ordered[len(rows) // 2])
        was_on = bool(self.on.get("window"))
        self.on["window"] = ["window"] if score > reference.threshold else []
        if self.on["window"] and not was_on:
            self._raise(
                now, None, "window", score, reference.threshold,
                f"The last window of {self.samples.asset_class} is unlike those that the models learned from: its "
                f"distance is {score:.1f}, and {reference.threshold:.1f} is passed once in {self.settings.rows:,.0f} "
                "sessions.",
            )  # fmt: skip

    def _watch_features(self, now: int, reference: _Reference) -> None:
        session = int(self.day[now])
        if session % self.settings.every or session < self.settings.block:
            return
        samples = self.samples
        begin = int(np.searchsorted(self.day, session - self.settings.block, side="right"))
        block = np.sort(self.order[self.bounds[begin] : self.bounds[now + 1]])
        block = block[:: max(1, -(-len(block) // MOST_ROWS))]
        before = reference.rows[self.place[reference.rows] < begin]
        if len(before) == 0 or len(block) == 0:
            return
        days, day = np.unique(samples.day[before], return_inverse=True)
        sessions = [len(days), len(np.unique(samples.day[block]))]
        level = min(0.5, self.settings.every / self.settings.rows)
        tests: list[tuple[str, Kind, float, float]] = []
        values = (np.ascontiguousarray(samples.features[samples.ends[rows]].T) for rows in (before, block))
        for name, was, now_is in zip(samples.names, *values, strict=True):
            index, distance = psi(was, now_is, BINS), ks_distance(was, now_is)
            found = _pvalues(index, distance, *sessions)
            if min(found) <= level:  # else sessions that hang together only make it more likely
                hang_together = rows_that_hang_together(np.bincount(day, was) / np.bincount(day))
                old, new = (count / hang_together for count in sessions)
                slow = new < LEAST_INDEPENDENT  # to be judged from a block of this length
                found = (np.nan, np.nan) if slow else _pvalues(index, distance, old, new)
            tests += [(name, "psi", index, found[0]), (name, "ks", distance, found[1])]
        adjusted = holm([one[3] for one in tests])  # NaN counts as a test that was made
        now_on: dict[Kind, list[str]] = {"psi": [], "ks": []}
        for (name, kind, statistic, _), pvalue in zip(tests, adjusted.tolist(), strict=True):
            if not pvalue <= level:
                continue
            now_on[kind].append(name)
            if name not in self.on.get(kind, []):
                self._raise(
                    now, None, kind, -np.log10(max(pvalue, 1e-300)), -np.log10(level),
                    f"The feature {name!r} of {samples.asset_class} is distributed otherwise over the last "
                    f"{self.settings.block} sessions than where the models learned: {DISTANCE[kind]} is "
                    f"{statistic:.2f}, which chance has with a probability of {pvalue:.1g} (for all features).",
                    name,
                )  # fmt: skip
        self.on |= now_on


def _pvalues(index: float, distance: float, old: float, new: float) -> tuple[float, float]:
    """Of the stability index and of the distance, from so many independent sessions before and in a block."""
    return psi_pvalue(index, old, new, BINS), ks_pvalue(distance, old, new)


class _Vectors:
    """(rows, 2 · features) of some samples, for distances: the last row of each window, and the mean of its rows."""

    def __init__(self, samples: Samples) -> None:
        self.samples, self.features = samples, np.nan_to_num(samples.features)
        self.sums = np.zeros((len(self.features) + 1, self.features.shape[1]))
        self.begins = np.diff(samples.symbol, prepend=-1) != 0
        starts = np.flatnonzero(self.begins)
        with np.errstate(over="ignore", invalid="ignore"):
            for begin, end in pairwise([*starts, len(self.features)]):  # no symbol's rounding is another's
                np.cumsum(self.features[begin:end], axis=0, out=self.sums[begin + 1 : end + 1])

    def __getitem__(self, rows: IntArray) -> FloatArray:
        ends, back = self.samples.ends[rows], self.samples.lookback
        first = ends + 1 - back
        with np.errstate(over="ignore", invalid="ignore"):
            before = np.where(self.begins[first][:, None], 0.0, self.sums[first])
            return np.hstack([self.features[ends], (self.sums[ends + 1] - before) / back])


def _shape(vectors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre, robust spread and inverse correlation (shrunk to 0) of (rows, columns) vectors."""
    centre, spread = robust_spread(vectors)
    scaled = _scaled(vectors, centre, spread)
    covariance = np.atleast_2d(np.cov(scaled, rowvar=False))
    diagonal = np.maximum(np.diag(covariance), 0.01)
    shrunk = (1 - SHRINK) * covariance
    np.fill_diagonal(shrunk, diagonal)
    return centre, spread, np.asarray(np.linalg.inv(shrunk), np.float64)


def _distance(vectors: FloatArray, centre: FloatArray, spread: FloatArray, inverse: FloatArray) -> FloatArray:
    """(rows,) root of the mean square of each vector's distance from the centre (Mahalanobis), 1 where it is usual."""
    scaled = _scaled(vectors, centre, spread)
    square = np.einsum("ij,jk,ik->i", scaled, inverse, scaled) / vectors.shape[1]
    distance: FloatArray = np.sqrt(np.maximum(square, 0.0))
    return distance


def _medians(values: FloatArray, group: IntArray) -> FloatArray:
    """Median of the (n,) values of each group, in the order of the groups' numbers."""
    order = np.lexsort((values, group))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    count = np.diff(np.r_[starts, len(values)])
    ordered = values[order]
    return np.asarray(0.5 * (ordered[starts + (count - 1) // 2] + ordered[starts + count // 2]), np.float64)


def _scaled(vectors: FloatArray, centre: FloatArray, spread: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        scaled: FloatArray = np.clip((vectors - centre) / spread, -FAR, FAR)
    return scaled


def _returns(samples: Samples, moments: TimeArray, place: IntArray) -> dict[str, tuple[FloatArray, IntArray]]:
    """Series -> its (n,) log returns of sessions, and the number of the close at which each is first known, ascending.

    Of bars of a day or more each bar is a session; of shorter ones a session's return is known at the first close of
    the next. The series `WHOLE` is the mean over the symbols that are forecast at a close.
    """
    found = {name: _own(samples, number, place) for number, name in enumerate(samples.symbols)}
    step = samples.facts.step[samples.ends]
    fresh = np.isfinite(step) & (samples.ends == samples.decided)
    count = np.bincount(place[fresh], minlength=len(moments))
    total = np.bincount(place[fresh], step[fresh], minlength=len(moments))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    found[WHOLE] = _by_session(samples, mean, session_date(moments), np.arange(len(moments)))
    return found


def _own(samples: Samples, number: int, place: IntArray) -> tuple[FloatArray, IntArray]:
    """The returns of one symbol, see `_returns`: a bar is known at the first close whose window ends at it or later."""
    mine = np.flatnonzero(samples.symbol[samples.decided] == number)
    if len(mine) == 0:
        return np.zeros(0), np.zeros(0, np.int64)
    first = int(np.searchsorted(samples.symbol, number))
    rows = np.arange(first, int(samples.ends[mine[-1]]) + 1)
    at = place[mine][np.searchsorted(samples.ends[mine], rows)]
    return _by_session(samples, samples.facts.step[rows], session_date(samples.time[rows]), at)


def _by_session(samples: Samples, values: FloatArray, sessions: TimeArray, at: IntArray) -> tuple[FloatArray, IntArray]:
    """Values of bars -> of sessions, where bars are shorter; a session is complete once the next has a bar."""
    if samples.session_bars <= 1:
        return values, at
    starts = np.flatnonzero(np.r_[True, sessions[1:] != sessions[:-1]])
    pieces: Iterator[FloatArray] = iter(np.split(values, starts[1:]))
    totals = [float(np.nansum(one)) if np.isfinite(one).any() else np.nan for one in pieces]
    return np.array(totals[:-1], np.float64), at[starts[1:]]
