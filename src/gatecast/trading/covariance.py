"""Covariance of names: returns and forecast deviations of sessions -> correlations of the past, volatility of a book.

Volatility comes from the forecasts, correlation from the past (Johansson and others 2023, arXiv 2305.19484): returns in
units of the deviation that was forecast the close before, and the weighted mean of their products. A session is a date,
all asset classes together; a name without a bar in it is missing, never 0.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gatecast.errors import SettingsError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HALF_LIFE = 125.0
"""Sessions after which a product counts half, of correlations."""
LARGEST = 4.2
"""Forecast deviations that a return counts as at most."""
SHRINK, YOUNG = 0.1, 60.0
"""Share of the class mean in a correlation of a long record, and the sessions at which a young pair is half of it."""
LEAST_OWN = 0.25
"""Least sum of a name's own means, over that of one session: prices that bounce leave less."""
FLOOR = 0.001
"""Least eigenvalue, as a share of their mean."""
SPIKE = 0.8
"""Least correlation within a class when all fall together."""


def decay_of(half_life: float) -> float:
    """Sessions after which a product counts half -> what one session leaves of its weight.

    >>> [round(decay_of(sessions), 6) for sessions in (11, 40, 125)]
    [0.938931, 0.982821, 0.99447]
    """
    return float(2.0 ** (-1.0 / half_life))


def running_sums(start: FloatArray, added: NDArray[Any], decay: Iterable[FloatArray | float]) -> FloatArray:
    """(sessions, ...) sums after each session: what it adds, and what it leaves of the sum before, `start` at first.

    >>> running_sums(np.zeros(1), np.array([[8.0], [1.0], [0.0]]), (0.5, 0.5, 1.0)).tolist()
    [[8.0], [5.0], [5.0]]
    """
    sums, before = added.astype(np.float64), start
    for now, left in zip(sums, decay, strict=False):
        now += before * left
        before = now
    return sums


@dataclass(frozen=True)
class Sums:
    """Weighted sums of products of names, each over the sessions in which both values exist.

    `total`: (names, names) sum of weight times product. `weight`: (names, names) sum of weights, the effective number
    of sessions of a pair.
    """

    total: FloatArray
    weight: FloatArray

    @classmethod
    def none(cls, count: int) -> Self:
        """The sums of so many names before the first session."""
        return cls(np.zeros((count, count)), np.zeros((count, count)))

    def after(self, left: FloatArray, right: FloatArray, decay: float) -> Self:
        """The sums one session later; `left`, `right`: (names,) values, NaN where missing."""
        products = np.multiply.outer(left, right)
        there = ~np.isnan(products)
        return type(self)(self.total * decay + np.where(there, products, 0.0), self.weight * decay + there)

    def after_each(self, left: FloatArray, right: FloatArray, decay: float) -> Self:
        """(sessions, names) of both, see `after` -> the sums after each session, its number the first axis."""
        products = left[:, :, None] * right[:, None, :]
        there = ~np.isnan(products)
        return type(self)(
            running_sums(self.total, np.where(there, products, 0.0), repeat(decay)),
            running_sums(self.weight, there, repeat(decay)),
        )

    @property
    def mean(self) -> FloatArray:
        """(names, names) each total over its own weight; NaN without a common session."""
        return np.divide(self.total, self.weight, out=np.full_like(self.total, np.nan), where=self.weight > 0)

    def part(self, places: IntArray) -> Self:
        """The sums of the names at these places, each known."""
        if len(places) == self.total.shape[-1] and (np.diff(places) == 1).all():
            return self
        return type(self)(*(one[..., places[:, None], places] for one in (self.total, self.weight)))

    def among(self, places: IntArray) -> Self:
        """The sums of the names at these places, in this order; -1: a name without a session yet."""
        known = (places >= 0)[:, None] & (places >= 0)
        at = np.ix_(places, places)
        return type(self)(np.where(known, self.total[at], 0.0), np.where(known, self.weight[at], 0.0))


@dataclass(frozen=True)
class Ewma:
    """Exponentially weighted covariance of returns at the end of a session; another session makes another one.

    `names`, `half_life` in sessions; `sums` of products of returns.

    >>> ewma = Ewma.start(("A", "B"), half_life=1).after(np.array([2.0, 1.0])).after(np.array([2.0, -1.0]))
    >>> ewma.covariance(np.array([0, 1])).round(4).tolist()
    [[4.0, -0.6667], [-0.6667, 1.0]]
    """

    names: tuple[str, ...]
    half_life: float
    sums: Sums

    @classmethod
    def start(cls, names: Sequence[str], half_life: float) -> Self:
        """Before the first session."""
        return cls(tuple(names), half_life, Sums.none(len(names)))

    def after(self, returns: FloatArray) -> Self:
        """One session later; `returns`: (names,) simple or log, NaN where there is no bar."""
        return type(self)(self.names, self.half_life, self.sums.after(returns, returns, decay_of(self.half_life)))

    def among(self, names: Sequence[str]) -> Self:
        """The same for these names in this order; one that is new has no session yet."""
        return type(self)(tuple(names), self.half_life, self.sums.among(places_of(names, self.names)))

    @property
    def sessions(self) -> FloatArray:
        """(names,) effective number of sessions of each name."""
        return np.diag(self.sums.weight)

    def covariance(self, which: IntArray) -> FloatArray:
        """(names, names) covariance of one session's returns of the names at these places; eigenvalues floored.

        Each pair is divided by its own weight; without a common session its covariance is 0.
        """
        return floored(np.nan_to_num(self.sums.part(which).mean, nan=0.0))


@dataclass(frozen=True)
class Correlations:
    """Correlations of names at the end of a session; another session makes another one.

    `names` and `classes`: (names,) symbol and asset class. `same`, `lagged`: sums of products of standardised returns,
    of one session, and of each row's name with the column's a session earlier. `last`: (names,) standardised returns of
    the last session, NaN where there was no bar. A session costs as much as there are pairs.

    >>> rng = np.random.default_rng(0)
    >>> state = Correlations.start(("A", "B"), ("equity", "equity"), half_life=2000)
    >>> for returns in rng.multivariate_normal([0, 0], [[4, 1.2], [1.2, 1]], 1000):
    ...     state = state.after(returns, np.array([2.0, 1.0]))
    >>> bool(abs(state.among(("A", "B")).correlation()[0, 1] - 0.6) < 0.1)
    True
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    half_life: float
    same: Sums
    lagged: Sums
    last: FloatArray

    @classmethod
    def start(cls, names: Sequence[str], classes: Sequence[str], half_life: float = HALF_LIFE) -> Self:
        """Before the first session."""
        count = len(names)
        return cls(tuple(names), tuple(classes), half_life, Sums.none(count), Sums.none(count), np.full(count, np.nan))

    def after(self, returns: FloatArray, deviations: FloatArray) -> Self:
        """One session later.

        `returns`: (names,) of the session, simple or log, NaN where there is no bar. `deviations`: (names,) standard
        deviation of these returns, forecast at the close before; NaN where nothing was forecast.
        """
        usable = deviations > 0
        scaled = np.divide(returns, deviations, out=np.full(len(returns), np.nan), where=usable)
        now = np.clip(scaled, -LARGEST, LARGEST)
        decay = decay_of(self.half_life)
        same, lagged = self.same.after(now, now, decay), self.lagged.after(now, self.last, decay)
        return type(self)(self.names, self.classes, self.half_life, same, lagged, now)

    def after_each(self, returns: FloatArray, deviations: FloatArray) -> Self:
        """(sessions, names) of both, see `after` -> the states after each session, its number the first axis."""
        scaled = np.divide(returns, deviations, out=np.full(returns.shape, np.nan), where=deviations > 0)
        now = np.clip(scaled, -LARGEST, LARGEST)
        before, decay = np.vstack([self.last, now])[:-1], decay_of(self.half_life)
        same, lagged = self.same.after_each(now, now, decay), self.lagged.after_each(now, before, decay)
        return type(self)(self.names, self.classes, self.half_life, same, lagged, now)

    def at(self, sessions: IntArray | int) -> Self:
        """Of the states after each session those after some, or after one."""
        same, lagged = (Sums(one.total[sessions], one.weight[sessions]) for one in (self.same, self.lagged))
        return type(self)(self.names, self.classes, self.half_life, same, lagged, self.last[sessions])

    def among(self, names: Sequence[str], classes: Sequence[str] | None = None) -> Self:
        """The same for these names in this order; one that is new has no session yet, and needs its class."""
        at = places_of(names, self.names)
        found = tuple(classes) if classes is not None else tuple(self.classes[place] for place in at)
        last = np.where(at >= 0, self.last[at], np.nan)
        return type(self)(tuple(names), found, self.half_life, self.same.among(at), self.lagged.among(at), last)

    def correlation(self, which: IntArray | None = None) -> FloatArray:
        """(names, names) correlations of the names at these places, all by default; eigenvalues floored.

        The means over one session, and over each name with the other a session earlier, are added up: where names close
        at different hours much of what they share shows a session late (Scholes and Williams 1977, Journal of Financial
        Economics 5). So are those of a name with itself, down to a quarter of its own mean. Each pair has its own
        weight and is shrunk to the mean of its two classes, a young pair more. Names that are not asked for change
        nothing.
        """
        at = np.arange(len(self.names)) if which is None else which
        return correlations_of(self.same.part(at), self.lagged.part(at), [self.classes[place] for place in at])


def correlations_of(same: Sums, lagged: Sums, classes: Sequence[str]) -> FloatArray:
    """(..., names, names) correlations of sums, see `Correlations.correlation`; of many sessions as of each alone."""
    late, own = lagged.mean, np.arange(len(classes))
    late = np.where(np.isnan(late), 0.0, late)
    whole = same.mean + late + late.swapaxes(-1, -2)
    deviation = np.sqrt(np.maximum(whole[..., own, own], LEAST_OWN * same.mean[..., own, own]))
    scale = deviation[..., :, None] * deviation[..., None, :]
    found = np.divide(whole, scale, out=np.full_like(whole, np.nan), where=scale > 0)
    known = ~np.isnan(found)
    known[..., own, own] = False
    common = class_means(found, np.where(known, same.weight, 0.0), classes)
    share = SHRINK + (1 - SHRINK) * YOUNG / (YOUNG + same.weight)
    mixed = np.where(known, (1 - share) * np.where(known, found, 0.0) + share * common, common)
    mixed[..., own, own] = 1.0
    return floored(mixed)


def covariance_path(
    state: Correlations, returns: FloatArray, deviations: FloatArray, ahead: FloatArray
) -> Iterator[tuple[Correlations, FloatArray]]:
    """Sessions -> after each the state and the (names, names) covariance that holds from its close on.

    `returns`, `deviations`: (sessions, names), see `Correlations.after`. `ahead`: (sessions, names) deviations forecast
    at each close, a year or a bar; NaN where nothing is forecast, and the covariance is NaN there. A later part of the
    sessions goes on from the state of the earlier part, to the bit.
    """
    for earned, expected, coming in zip(returns, deviations, ahead, strict=True):
        state = state.after(earned, expected)
        which = np.flatnonzero(coming > 0)
        covariance = np.full((len(coming), len(coming)), np.nan)
        covariance[np.ix_(which, which)] = covariance_of(state.correlation(which), coming[which])
        yield state, covariance


def covariance_of(correlation: FloatArray, deviations: FloatArray) -> FloatArray:
    """(names, names) correlations and (names,) deviations -> covariance, in the square of their unit."""
    return correlation * np.multiply.outer(deviations, deviations)


def yearly(variance: FloatArray, horizon: int, bars_per_year: FloatArray | float) -> FloatArray:
    """Variance forecast over `horizon` bars -> standard deviation a year of the class's bars.

    >>> float(yearly(np.array([0.0005]), 5, 252.0)[0].round(6))
    0.158745
    """
    return np.asarray(np.sqrt(variance / horizon * bars_per_year), np.float64)


def book_variance(weights: FloatArray, covariance: FloatArray, trades: NDArray[np.bool_] | None = None) -> float:
    """(names,) weights -> the variance of the book, in the unit of the covariance.

    `trades`: (names,) whether each name trades in the session; those that do not add nothing. Names without a weight
    are left out, so that it does not matter whether they are there.

    >>> round(book_variance(np.array([0.5, 0.5]), np.array([[0.04, 0.006], [0.006, 0.01]])) ** 0.5, 6)
    0.124499
    """
    held = weights if trades is None else weights * trades
    (at,) = held.nonzero()
    if len(at) < len(held):
        held, covariance = held[at], covariance[at[:, None], at]
    return max(float((held[:, None] * covariance * held).sum()), 0.0)


def spiked(correlation: FloatArray, classes: Sequence[str], least: float = SPIKE) -> FloatArray:
    """Correlations when a class falls together: within a class at least `least`, eigenvalues floored.

    >>> spiked(np.array([[1.0, 0.2], [0.2, 1.0]]), ("equity", "equity")).tolist()
    [[1.0, 0.8], [0.8, 1.0]]
    """
    kinds = np.array(classes, dtype=object)
    return floored(np.where(kinds[:, None] == kinds, np.maximum(correlation, least), correlation))


def class_means(values: FloatArray, weight: FloatArray, classes: Sequence[str]) -> FloatArray:
    """(..., names, names) the weighted mean over all pairs of the same two classes; over all pairs, or 0, where none
    counts.

    >>> class_means(np.array([[1.0, 0.4], [0.4, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), ("fx", "fx"))[0].tolist()
    [0.4, 0.4]
    """
    kinds, number = np.unique(np.array(classes, dtype=str), return_inverse=True)
    pair = (np.minimum.outer(number, number) * len(kinds) + np.maximum.outer(number, number)).ravel()
    sessions, pairs = math.prod(weight.shape[:-2]), len(kinds) ** 2
    place = (np.arange(sessions)[:, None] * pairs + pair).ravel()
    counted = np.where(weight > 0, values * weight, 0.0).ravel()
    total = np.bincount(place, counted, sessions * pairs).reshape(sessions, pairs)  # adds in order, so that the same
    among = np.bincount(place, weight.ravel(), sessions * pairs).reshape(sessions, pairs)  # names give the same bits
    every = among.sum(axis=1)
    whole = np.divide(total.sum(axis=1), every, out=np.zeros(sessions), where=every > 0)
    means = np.divide(total, among, out=np.tile(whole[:, None], pairs), where=among > 0)
    return np.asarray(means[:, pair].reshape(weight.shape), np.float64)


def floored(matrix: FloatArray) -> FloatArray:
    """Symmetric matrices with no eigenvalue below a thousandth of their mean, each brought back to its diagonal.

    >>> floored(np.array([[1.0, 1.2], [1.2, 1.0]])).round(4).tolist()
    [[1.0, 0.9991], [0.9991, 1.0]]
    """
    if not matrix.size:
        return matrix
    own = np.arange(matrix.shape[-1])
    deviation = np.sqrt(matrix[..., own, own])
    scale = np.where(deviation > 0, deviation, 1.0)
    unit = matrix / (scale[..., :, None] * scale[..., None, :])
    least = FLOOR * unit[..., own, own].mean(axis=-1)
    with contextlib.suppress(np.linalg.LinAlgError):  # mostly no eigenvalue is so small, which this tells sooner
        np.linalg.cholesky(unit - least[..., None, None] * np.eye(len(own)))
        return matrix
    if matrix.ndim > 2:
        return np.array([floored(one) for one in matrix])
    values, vectors = _below(unit, least)
    if not len(values):
        return matrix
    mended = unit + (vectors * (least - values)) @ vectors.T
    back = deviation / np.sqrt(np.diag(mended))
    return np.asarray((mended + mended.T) / 2 * np.multiply.outer(back, back), np.float64)


def _below(matrix: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:
    """The eigenvalues of a symmetric matrix up to a limit, and their vectors in columns."""
    from scipy.linalg import eigh  # which an update does without, as a rule

    try:
        values, vectors = eigh(matrix, subset_by_value=(-np.inf, limit), check_finite=False)
    except np.linalg.LinAlgError:  # a part of them alone is not found where many are the same, as of one price in units
        values, vectors = np.linalg.eigh(matrix)
        values, vectors = values[values <= limit], vectors[:, values <= limit]
    return values, vectors


def places_of(names: Sequence[str], known: Sequence[str]) -> IntArray:
    """(names,) the place of each name among the known ones, -1 where it is new. Raises `SettingsError` for one twice.

    >>> places_of(("B", "C"), ("A", "B")).tolist()
    [1, -1]
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsError(f"the name {twice!r} stands twice among the names of a book. Give each name once.")
    place = {name: number for number, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in names], np.int64)
