"""Forecasts of variance become one: a weighted geometric mean with weights learned from the past, then a correction."""

from __future__ import annotations

from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.combining.choice import MIN_RECORD_DAYS, Learning, are_weights, daily_losses, is_share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

MIXTURE_STEPS = 3  # a member's weight in a mixture that is tried is a multiple of 1 / MIXTURE_STEPS
SHARE_STEPS = 4  # a share of a correction that is tried is a multiple of 1 / SHARE_STEPS
MEMORY_DAYS = 500  # a day of the record counts half after so many more
FEWEST_ANSWERS = 100  # that do not overlap, before weights are learned, or MIN_RECORD_DAYS of record
LARGEST_MIXTURE = 10  # members: the sets of weights that are tried grow with every one
FULL_TRUST_DAYS = 2500  # length of a record whose losses count in full; of a shorter one less, where answers overlap
FARTHEST = 1.0  # log of a variance over the members' median beyond which a member says no more
MIXTURE, SHARE = "volatility/", "correction"
"""Parts of what is learned: weights, after it the members' names; and the share of the correction."""
PRIOR_LOG_ODDS_AGAINST_CORRECTION = 3.0  # log odds against all of a correction, before there is a record


def mix_variances(
    forecasts: Forecasts, members: Mapping[str, FloatArray], base: FloatArray, mixed: FloatArray, learning: Learning,
    since: int = 0,
) -> FloatArray:  # fmt: skip
    """(samples,) weighted geometric means of forecasts of variance, weights learned at each refit from the past alone.

    In: name -> (samples,) forecast, (members,) weights before there is a record (`FEWEST_ANSWERS` that do not overlap,
    or two years of days), `mixed` (samples,) what stays as it is before fold `since`. All weights in thirds, and
    `base`, are averaged; each counts by how near it is to `base` and, exponentially, by its mean QLIKE over the days
    whose answers are known, later days counting more and overlapping ones once; over more than one session all the less
    while the record is short. So weights never jump, and stay near `base` until the record says otherwise. A member
    counts as `FARTHEST` from the members' median where it is farther. NaN where a member that has a weight has no
    forecast.

    References
    ----------
    Yang (2004), Econometric Theory 20: combining by exponential re-weighting.
    """

    def logs_of(rows: IntArray | slice) -> FloatArray:
        return _logs_of([one[rows] for one in members.values()])

    @cache
    def learned() -> list[FloatArray]:
        grid = np.vstack([base, _simplex(len(members), MIXTURE_STEPS)])
        distance = np.abs(grid - base).sum(1) / 2
        found, sessions = [], forecasts.samples.horizon_sessions
        for _, loss in _past_losses(forecasts, logs_of(slice(None)), grid):
            trust = min(1.0, len(loss) / FULL_TRUST_DAYS) if sessions > 1 else 1.0
            enough = len(loss) >= min(MIN_RECORD_DAYS, FEWEST_ANSWERS * sessions)
            found.append(_exponential_weights(forecasts, loss, distance, trust) @ grid if enough else base)
        return found

    def learn(number: int) -> FloatArray:
        return learned()[number]

    for number, fold in list(enumerate(forecasts.folds))[since:]:
        weights = learning.at(MIXTURE + ",".join(members), number, (len(members),), partial(learn, number), are_weights)
        used = weights > 0
        mixed[fold.test] = np.exp(_weighted(logs_of(fold.test)[:, used], weights[None, used])[:, 0])
    return mixed


def parts_of_mixture(
    members: Mapping[str, FloatArray], weights: FloatArray, base: FloatArray
) -> tuple[str, dict[str, FloatArray]]:  # fmt: skip
    """Of the log of `mix_variances` whose forecast it starts from, and name -> (rows,) what each member adds to that.

    In: name -> (rows,) forecasts of variance; (members,) the weights in force, which add up to 1, and those before
    there was a record. A member adds its weight times its distance from the start, which is the first member of the
    base that has a weight; the start adds its own log, too. What is added is the log of the mixture.

    >>> start, parts = parts_of_mixture(
    ...     {"a": np.array([1.0]), "b": np.exp([0.5])}, np.array([0.75, 0.25]), np.array([1.0, 0.0])
    ... )
    >>> start, {name: one.tolist() for name, one in parts.items()}
    ('a', {'a': [0.0], 'b': [0.125]})
    """
    names, near = list(members), _logs_of(list(members.values()))
    first = next(place for place in np.argsort(-base, kind="stable") if weights[place] > 0)
    with np.errstate(divide="ignore"):
        start = np.log(members[names[first]])
    found = {
        name: share * (logs - start) if share > 0 else np.zeros(len(start))
        for name, logs, share in zip(names, near.T, weights, strict=True)
    }
    return names[first], {**found, names[first]: start + found[names[first]]}


def correction_of(corrected: FloatArray, *start: FloatArray) -> FloatArray:
    """(samples,) what a forecast of variance adds to the geometric mean of those it started from, in logs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change: FloatArray = np.log(corrected) - np.mean([np.log(one) for one in start], axis=0)
    return change


def correct_variance(
    forecasts: Forecasts,
    variance: FloatArray,
    correction: FloatArray,
    held: FloatArray,
    learning: Learning | None = None,
) -> FloatArray:
    """(samples,) the variance times a share of a correction, the share learned at each refit from the past alone.

    The share is 0 until two years of days are on record. Then it is the mean of none, a quarter, a half, three quarters
    and all of it, each counting less the larger it is and, exponentially, by its mean squared error of the log over the
    days whose answers are known: QLIKE hangs on a few days, and sees later whether a correction has substance.
    """
    learning, shares = learning or Learning(), np.arange(SHARE_STEPS + 1) / SHARE_STEPS

    @cache
    def learned() -> list[FloatArray]:
        answer = forecasts.samples.targets["volatility"].value[forecasts.samples.decided]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(variance)

        def losses_of(rows: IntArray) -> FloatArray:
            error: FloatArray = answer[rows, None] - (logs[rows, None] + shares * correction[rows, None])
            return error**2

        distance = PRIOR_LOG_ODDS_AGAINST_CORRECTION * shares
        return [
            np.atleast_1d(
                _exponential_weights(forecasts, loss, distance) @ shares if len(loss) >= MIN_RECORD_DAYS else 0.0
            )
            for _, loss in daily_losses(forecasts, losses_of)
        ]

    def learn(number: int) -> FloatArray:
        return learned()[number]

    for number, fold in list(enumerate(forecasts.folds))[learning.since :]:
        share = float(learning.at(SHARE, number, (1,), partial(learn, number), is_share)[0])
        held[fold.test] = variance[fold.test] * np.exp(share * correction[fold.test])
    return held


def _logs_of(members: Sequence[FloatArray]) -> FloatArray:
    """(rows, members) logs of forecasts of variance as the mixture takes them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _near_the_median(np.log(np.column_stack(members)))


def _near_the_median(logs: FloatArray) -> FloatArray:
    """(samples, members) logs of variance, none farther than `FARTHEST` from the median of its row; NaN stays."""
    finite = np.isfinite(logs)
    ordered, count = np.sort(np.where(finite, logs, np.inf), axis=1), finite.sum(axis=1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(place, 0), axis=1) for place in ((count - 1) // 2, count // 2)]
    centre = np.where(count > 0, (middle[0] + middle[1]) / 2, np.nan)
    near: FloatArray = np.clip(logs, centre - FARTHEST, centre + FARTHEST)
    return near


def _exponential_weights(
    forecasts: Forecasts, loss: FloatArray, distance: FloatArray, trust: float = 1.0
) -> FloatArray:
    """(candidates,) weights from (days, candidates) past losses and how far each is from what is there without it.

    Later days count more, overlapping answers once, and all losses by `trust`.
    """
    recency = 0.5 ** (np.arange(len(loss))[::-1] / MEMORY_DAYS)
    mean = recency @ loss / recency.sum()
    evidence = trust * recency.sum() / forecasts.samples.horizon_sessions * (1 - mean / max(mean.min(), 1e-12))
    odds = np.exp(evidence - distance)
    weights: FloatArray = odds / odds.sum()
    return weights


def _past_losses(forecasts: Forecasts, logs: FloatArray, grid: FloatArray) -> Iterator[tuple[Fold, FloatArray]]:
    """For each fold (days, sets) past mean QLIKE of each set of weights on (samples, members) logs of variance."""
    answer = forecasts.samples.targets["volatility"].value[forecasts.samples.decided]

    def losses_of(rows: IntArray) -> FloatArray:
        ratio = answer[rows, None] - _weighted(logs[rows], grid)
        loss: FloatArray = np.exp(np.minimum(ratio, 50.0)) - ratio - 1
        return loss

    return daily_losses(forecasts, losses_of)


def _weighted(logs: FloatArray, weights: FloatArray) -> FloatArray:
    """(rows, sets) of (rows, members) and (sets, members), member by member: rows decide nothing about each other."""
    result = np.zeros((len(logs), len(weights)))
    for column, share in zip(logs.T, weights.T, strict=True):
        result += column[:, None] * share
    return result


def _simplex(members: int, steps: int) -> FloatArray:
    """All ways to share 1 among the members in equal steps."""
    shares = [one for one in product(range(steps + 1), repeat=members - 1) if sum(one) <= steps]
    return np.array([(*one, steps - sum(one)) for one in shares], dtype=np.float64) / steps
