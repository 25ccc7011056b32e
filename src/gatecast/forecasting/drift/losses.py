"""Alarms of the losses: answered forecasts of a class -> changes of their errors and of their calibration.

The error of the first bar of each path, in units of the deviation that was forecast for it: errors of single bars do
not overlap, and a forecast variance takes the volatility's own swings out. A session's value is the root of the mean
square over what became known in it, in logs, less what follows from the session before (AR(1), learned at each refit).
**Loss**: Page's chart of its normal score, by rank among the sessions before the refit in force. **Bets**: an
e-detector on its rank among all sessions before, whose rate of false alarms does not depend on the distribution.
**Calibration**: a sequential test of the share of answers outside the narrowest interval, which may be asked at every
close.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.forecasting.combining.intervals import IntervalForecasts
from gatecast.forecasting.drift.alarms import Alarm, Alarms, Drift, Kind
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.market.bars import session_date
from gatecast.metrics.change import bets, cusum, detect_by_bets, mean_threshold
from gatecast.metrics.significance import sequential_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    TimeArray = NDArray[np.datetime64]

FAR = 1e6  # deviations that an error counts as at most
ALLOWANCE = 0.5  # of the chart of losses, in standard deviations: half the shift that it looks for
LEAST_REFERENCE = 60  # sessions of record before losses are looked at
EVIDENCE = 40.0  # of the test of calibration, on either side: ever false in 1 of 20 classes
LAG = 10  # sessions whose misses may hang together
MOST_SLOPE = 0.9  # of what follows from the session before


def watch_losses(
    forecasts: Forecasts, settings: Drift | None = None, past: Alarms | None = None, model: str = ENSEMBLE
) -> Alarms:
    """Forecasts of a class by a model with return, volatility and intervals -> its alarms of the losses.

    `past`: what was found up to an earlier close; it stays, and only later closes are looked at. An alarm at a close is
    made from the answers known at it. Empty for forecasts without a refit, or of a model without these heads.

    >>> from gatecast.forecasting.models.naive import Naive
    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.forecasting.walkforward import walk_forward
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.a1(900, seed=1), ("ret_log_1",))["index"]
    >>> made = walk_forward([Naive(rule="zero"), Naive(rule="ewma")], samples, Schedule())
    >>> made = made.with_model("both", {**made.values["zero"], **made.values["ewma"]})
    >>> len(watch_losses(made, model="both")) < 3
    True
    """
    settings, past = settings or Drift(), past or Alarms()
    heads = forecasts.values.get(model, {})
    if not (settings.watch and forecasts.folds and {"return", "volatility"} <= set(heads)):
        return past
    return _Watch(forecasts, settings, past, heads).run()


class _Watch:
    """One pass over the sessions of a class's record, from the first that the past has not seen."""

    def __init__(self, forecasts: Forecasts, settings: Drift, past: Alarms, heads: Mapping[str, FloatArray]) -> None:
        self.forecasts, self.settings, self.past = forecasts, settings, past
        samples = forecasts.samples
        self.moments = np.unique(samples.times)
        self.days = np.unique(session_date(self.moments), return_inverse=True)[1]
        self.alarms: list[Alarm] = list(past.alarms)
        answer = samples.targets["return"].value[samples.decided, 0]
        spanned = samples.unit[:, 0] / samples.facts.sigma[samples.ends]  # root of the sessions, more over a gap
        variance = heads["volatility"] * samples.facts.ratio[samples.ends] / samples.horizon
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.clip((answer - heads["return"][:, 0]) / (np.sqrt(variance) * spanned), -FAR, FAR)
        known_at = samples.answered[:, 0]
        usable = np.isfinite(error) & ~np.isnat(known_at)
        self.at, mean_square = self._by_session(known_at, error**2, usable)
        self.values = 0.5 * np.log(np.maximum(mean_square, 1e-12))
        self.misses, self.missed_at, self.level = np.zeros(0), np.zeros(0, np.int64), 0.0
        intervals = IntervalForecasts.of_heads(heads, most=1)
        if intervals is not None:
            low, high = intervals.low[:, 0, 0], intervals.high[:, 0, 0]
            outside = ((answer < low) | (answer > high)).astype(np.float64)
            self.level = intervals.levels[0]
            usable = np.isfinite(answer + low + high) & ~np.isnat(known_at)
            self.missed_at, share = self._by_session(known_at, outside, usable)
            self.misses = share - (1 - self.level)

    def _by_session(
        self, known_at: TimeArray, values: FloatArray, usable: NDArray[np.bool_]
    ) -> tuple[IntArray, FloatArray]:
        """Means over what becomes known in each session -> (sessions,) number of the close that has all of it, mean."""
        place = np.searchsorted(self.moments, known_at[usable])
        inside = place < len(self.moments)
        place, mine = place[inside], values[usable][inside]
        if self.forecasts.samples.session_bars > 1:  # complete at the first close of the next session
            opening = np.searchsorted(self.days, np.arange(self.days[-1] + 2))
            place = opening[self.days[place] + 1]
            place, mine = place[place < len(self.moments)], mine[place < len(self.moments)]
        at, number = np.unique(place, return_inverse=True)
        return at, np.bincount(number, mine, minlength=len(at)) / np.bincount(number, minlength=len(at))

    def run(self) -> Alarms:
        """The alarms of the past and those since."""
        begin = 0
        if self.past.until is not None:
            begin = int(np.searchsorted(self.moments, self.past.until, side="right"))
        state = dict(self.past.state)
        self._watch_errors(begin, state)
        self._watch_calibration(begin, state)
        until = self.moments[-1] if len(self.moments) > begin else self.past.until
        order = sorted(self.alarms, key=lambda one: (one.time, one.kind))
        return Alarms(tuple(order), (), until, state)

    def _watch_errors(self, begin: int, state: dict[str, Any]) -> None:
        settings, values, at, first = self.settings, self.values, self.at, int(np.searchsorted(self.at, begin))
        cutoffs = np.searchsorted(self.moments, np.array([fold.cutoff for fold in self.forecasts.folds]))
        latest = np.searchsorted(cutoffs, at[first:], side="right") - 1  # the refit in force at each session
        rows, scores, chances = [np.zeros(0, np.int64)], [np.zeros(0)], list[float]()
        starts = first + np.flatnonzero(np.diff(latest, prepend=-2))
        for since, until in pairwise([*starts.tolist(), len(at)]):
            cutoff = cutoffs[max(int(latest[since - first]), 0)]
            before = values[max(0, int(np.searchsorted(at, cutoff)) - settings.reference) : np.searchsorted(at, cutoff)]
            slope = _slope(before)
            reference = np.sort(_innovations(before, slope))
            if len(reference) < LEAST_REFERENCE:
                continue
            record = np.sort(_innovations(values[:since], slope)).tolist()
            own = _innovations(values[since - 1 : until], slope)
            for value in own.tolist():
                chances.append((1 + len(record) - bisect_left(record, value)) / (1 + len(record)))
                insort(record, value)
            rows.append(np.arange(since, until))
            scores.append(_normal_scores(reference, own))
        when, limit = at[np.concatenate(rows)], mean_threshold(settings.rows, ALLOWANCE)
        sums, alarms, state["loss"] = cusum(np.concatenate(scores) - ALLOWANCE, limit, float(state.get("loss", 0.0)))
        for row in alarms.tolist():
            self._raise(
                int(when[row]), "loss", sums[row], limit,
                f"The errors of the forecasts of {self._name} have become larger than before the last refit: "
                f"their chart stands at {sums[row]:.1f}, the limit is {limit:.1f}.",
            )  # fmt: skip
        won = bets(np.array(chances))
        grown, alarms, state["bets"] = detect_by_bets(won, settings.rows, float(state.get("bets", 0.0)))
        for row in alarms.tolist():
            self._raise(
                int(when[row]), "bets", grown[row], settings.rows,
                f"The errors of the forecasts of {self._name} are larger than in their whole record: bets on that "
                f"have won {grown[row]:,.0f} times their stakes, the limit is {settings.rows:,.0f}.",
            )  # fmt: skip

    def _watch_calibration(self, begin: int, state: dict[str, Any]) -> None:
        since = int(state.get("calibration", 0))
        while since < len(self.misses):
            evidence = np.array([sequential_mean(sign * self.misses[since:], LAG).evidence for sign in (1.0, -1.0)])
            above = (evidence.max(0) > EVIDENCE) & (self.missed_at[since:] >= begin)
            if not above.any():
                break
            row = int(above.argmax())
            side, strength = int(evidence[:, row].argmax()), float(evidence[:, row].max())
            word, nominal = "more" if side == 0 else "fewer", f"{1 - self.level:.0%}"
            self._raise(
                int(self.missed_at[since + row]), "calibration", strength, EVIDENCE,
                f"The intervals of {self._name} do not hold what they promise: {word} answers than {nominal} "
                f"lie outside; the evidence is {strength:.0f}, the limit is {EVIDENCE:.0f}.",
            )  # fmt: skip
            since += row + 1
        state["calibration"] = since

    @property
    def _name(self) -> str:
        return self.forecasts.samples.asset_class

    def _raise(self, now: int, kind: Kind, statistic: float, threshold: float, sentence: str) -> None:
        """Adds an alarm; none where one of the same kind was raised less than `least_sessions` sessions before."""
        for one in reversed(self.alarms):
            if one.kind == kind:
                before = int(self.days[np.searchsorted(self.moments, one.time)])
                if self.days[now] - before < self.settings.least_sessions:
                    return
                break
        self.alarms.append(
            Alarm(self.moments[now], self._name, None, kind, float(statistic), float(threshold), sentence)
        )


def _slope(values: FloatArray) -> float:
    """Least squares' slope of (n,) values on the one before; 0 to `MOST_SLOPE`, 0 for few."""
    if len(values) < LEAST_REFERENCE:
        return 0.0
    before = values[:-1] - values[:-1].mean()
    spread = float(before @ before)
    return float(np.clip(before @ values[1:] / spread, 0.0, MOST_SLOPE)) if spread > 0 else 0.0


def _innovations(values: FloatArray, slope: float) -> FloatArray:
    """(n - 1,) what does not follow from the value before."""
    made: FloatArray = values[1:] - slope * values[:-1]
    return made


def _normal_scores(reference: FloatArray, values: FloatArray) -> FloatArray:
    """The ranks of (n,) values among sorted (m,) others, as standard normal numbers."""
    from scipy.special import ndtri

    below = 0.5 * (np.searchsorted(reference, values, "left") + np.searchsorted(reference, values, "right"))
    return np.asarray(ndtri((below + 0.5) / (len(reference) + 1)), np.float64)
