"""The tails of a book: weights, deviations and past vectors of returns -> value at risk and expected shortfall.

Arrays are (sessions, symbols) in order of time, NaN where a symbol had no bar: a holiday is missing, never 0. Returns
are simple, weights are signed shares of the equity, deviations those that were forecast the close before, a session.
A value at risk and an expected shortfall are returns, negative where they are losses; `level` is the share of sessions
beyond: 0.025 for "97.5 %". Where a row says something of session t it has used rows before t alone.

>>> tail_of([-0.04, -0.02, 0.0, 0.01], level=0.5)
Tail(value_at_risk=-0.02, shortfall=-0.03)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.errors import SettingsError

FloatArray = NDArray[np.float64]
LEAST_SESSIONS = 250
"""Past sessions below which no tail is said."""
DECAY = 0.94
"""Weight of the session before, of the plain EWMA variance of RiskMetrics (1996)."""
DRAWS = 5000
"""Simulated paths over several sessions."""


# ── tails ─────────────────────────────────────────────────────────────────────────────────────────


class Tail(NamedTuple):
    """Of one distribution of returns the value at risk, and the mean of the share `level` at or below it."""

    value_at_risk: float
    shortfall: float


NO_TAIL = Tail(math.nan, math.nan)


def tail_of(outcomes: ArrayLike, level: float = 0.025) -> Tail:
    """Equally likely returns -> their value at risk and expected shortfall; NaN without any. NaN returns are left out.

    The value at risk is one of the returns; where `level` falls within one, the shortfall takes that part of it.
    """
    if not 0 < level < 1:
        raise SettingsError(
            f"level is the share of sessions beyond, above 0 and below 1, got {level}: 97.5 % is 0.025."
        )
    values = np.asarray(outcomes, np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return NO_TAIL
    meant = level * values.size
    whole = min(math.ceil(meant - 1e-9), values.size) - 1  # the place of the value at risk
    lowest = np.sort(np.partition(values, whole)[: whole + 1])
    shortfall = (lowest[:whole].sum() + (meant - whole) * lowest[whole]) / meant
    return Tail(float(lowest[whole]), float(min(shortfall, lowest[whole])))


def filtered_outcomes(
    residuals: FloatArray,
    deviation: FloatArray,
    weights: FloatArray,
    horizon: int = 1,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> FloatArray:
    """(outcomes,) what a book may return over `horizon` sessions, by filtered historical simulation; equally likely.

    Parameters
    ----------
    residuals: (sessions, symbols) past returns over the deviations forecast for them. Whole vectors are drawn, so that
        what fell together falls together; one in which a held symbol is missing is left out.
    deviation, weights: (symbols,) today's. Of several sessions the deviation is the one forecast for each.
    draws: paths over several sessions, of which each session draws one vector; what is held is not traded on the way,
        and loses no more than all of its price. One session has no draws: each vector is an outcome.

    Barone-Adesi, Giannopoulos and Vosper (1999), Journal of Futures Markets 19.

    >>> residuals = np.array([[1.0, -1.0], [-2.0, 0.5]])
    >>> filtered_outcomes(residuals, np.array([0.01, 0.02]), np.array([0.5, 0.5])).round(4).tolist()
    [-0.005, -0.005]
    """
    held = weights != 0
    moves = np.maximum(residuals[:, held] * deviation[held], -1.0)
    moves = moves[~np.isnan(moves).any(axis=1)]
    if horizon == 1 or len(moves) == 0:
        return np.asarray(moves @ weights[held], np.float64)
    drawn = np.random.default_rng(seed).integers(len(moves), size=(draws, horizon))
    grown = np.ones((draws, int(held.sum())))
    for step in range(horizon):
        grown *= 1 + moves[drawn[:, step]]
    return np.asarray((grown - 1) @ weights[held], np.float64)


def symbol_tails(residuals: FloatArray, deviation: FloatArray, level: float = 0.025) -> list[Tail]:
    """Of each symbol by itself, held long, the tail of one session; `residuals` and `deviation` as above."""
    tails = (tail_of(column, level) for column in residuals.T)
    return [Tail(tail[0] * sigma, tail[1] * sigma) for tail, sigma in zip(tails, deviation.tolist(), strict=True)]


def with_proxies(values: FloatArray, classes: Sequence[str]) -> FloatArray:
    """(sessions, symbols) with missing cells filled by the class: its mean in that session, as wide as one symbol is.

    The mean of a class varies less than a symbol of it, so that it is scaled by root mean squares up to the session:
    that of single cells over that of means. A cell of a class that has none in the session stays NaN.

    >>> with_proxies(np.array([[0.01, np.nan, 0.5]]), ["equity", "equity", "fx"]).tolist()
    [[0.01, 0.01, 0.5]]
    """
    filled = values.copy()
    names = np.array(classes)
    for name in sorted(set(classes)):
        own = np.flatnonzero(names == name)
        cells = values[:, own]
        there = ~np.isnan(cells)
        count = there.sum(axis=1)
        mean = mean_of(cells)
        of_cells = np.cumsum(np.nansum(cells**2, axis=1)), np.cumsum(count)
        of_means = np.cumsum(np.nan_to_num(mean) ** 2), np.cumsum(count > 0)
        scale = np.sqrt(_over(*of_cells) / np.where((wide := _over(*of_means)) > 0, wide, 1.0))
        filled[:, own] = np.where(there, cells, (mean * scale)[:, None])
    return filled


def mean_of(returns: FloatArray) -> FloatArray:
    """(sessions,) the mean over symbols that have a bar, NaN where none has."""
    count, total = (~np.isnan(returns)).sum(axis=1), np.nansum(returns, axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


def _over(total: FloatArray, count: NDArray[np.int64]) -> FloatArray:
    return np.divide(total, count, out=np.zeros(len(total)), where=count > 0)


Method = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, float], Tail]
"""Past returns and residuals (sessions, symbols), today's deviation and weights (symbols,), level -> a tail."""


def filtered(
    returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, level: float
) -> Tail:
    """The tail of one session by filtered historical simulation, from all past vectors."""
    return _of_enough(filtered_outcomes(residuals, deviation, weights), level, LEAST_SESSIONS)


def historical(sessions: int | None = None) -> Method:
    """The tail of historical simulation: today's weights on the returns of past sessions, of which 90 % are needed.

    None: all past sessions, 250 at least. Sessions in which a holding has no return are none, as a coin's Sundays for
    shares; at most twice as many as `sessions` are looked through.
    """

    def tail(
        returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, level: float
    ) -> Tail:
        held = weights != 0
        if sessions is None:
            return _of_enough(returns[:, held] @ weights[held], level, LEAST_SESSIONS)
        values = returns[-2 * sessions :, held] @ weights[held]
        return _of_enough(values[~np.isnan(values)][-sessions:], level, sessions * 9 // 10)

    return tail


def normal(
    returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, level: float
) -> Tail:
    """The tail of a Gaussian whose variance is an EWMA of squared returns of today's weights."""
    from scipy.special import ndtri

    held = weights != 0
    values = returns[:, held] @ weights[held]
    values = values[~np.isnan(values)]
    if values.size < LEAST_SESSIONS:
        return NO_TAIL
    share = DECAY ** np.arange(values.size)[::-1]
    sigma = math.sqrt(float(share @ values**2 / share.sum()))
    z = float(ndtri(level))
    return Tail(z * sigma, -sigma * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / level)


def _of_enough(outcomes: FloatArray, level: float, least: int) -> Tail:
    return tail_of(outcomes, level) if np.count_nonzero(~np.isnan(outcomes)) >= least else NO_TAIL


METHODS: dict[str, Method] = {
    "filtered": filtered,
    "historical_all": historical(),
    "historical_250": historical(250),
    "historical_500": historical(500),
    "normal": normal,
}
"""Ways to say a tail: the one in use, and its rivals."""


def tail_paths(
    returns: FloatArray,
    deviations: FloatArray,
    weights: FloatArray,
    classes: Sequence[str],
    level: float = 0.025,
    methods: Mapping[str, Method] = METHODS,
    since: int = 0,
) -> dict[str, FloatArray]:
    """Method -> (sessions, 2) the value at risk and shortfall that it says of each session, the close before.

    `returns`: (sessions, symbols) of the session; `deviations`, `weights`: what the close before had said of it, and
    what was held over it. A book without a holding has a tail of 0, one of too short a past NaN. Symbols that had no
    bar in a past session are proxied, see `with_proxies`. `since`: sessions before it are not said, and NaN.
    """
    shapes = {np.shape(one) for one in (returns, deviations, weights)}
    if len(shapes) > 1 or returns.shape[1] != len(classes):
        raise SettingsError(
            f"returns, deviations and weights must be (sessions, symbols), of {len(classes)} symbols; got "
            f"{', '.join(str(shape) for shape in sorted(shapes))}."
        )
    residuals = np.full(returns.shape, np.nan)
    np.divide(returns, deviations, out=residuals, where=deviations > 0)
    residuals, moves = with_proxies(residuals, classes), with_proxies(returns, classes)
    paths = {name: np.full((len(returns), 2), np.nan) for name in methods}
    for row in range(since, len(returns)):
        today = weights[row]
        flat = not np.any(today)
        for name, method in methods.items():
            tail = (0.0, 0.0) if flat else method(moves[:row], residuals[:row], deviations[row], today, level)
            paths[name][row] = tail
    return paths


LEVELS = (0.025, 0.01)
"""Shares of sessions beyond, of the tails that are said of today's book: 97.5 and 99 %."""


class Said(NamedTuple):
    """The tail of a book over so many sessions, and the method that says it."""

    method: str
    sessions: int
    level: float
    tail: Tail


def tails_of(
    returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, horizon: int = 1
) -> list[Said]:
    """The tails of today's book over one session and over `horizon` sessions, by each of `METHODS`.

    `returns`, `residuals`: (sessions, symbols), proxied where a symbol was missing (`with_proxies`). `deviation`,
    `weights`: (symbols,) today's. Over several sessions "filtered" simulates paths, "historical" takes windows that
    overlap, and the deviation of "normal" grows with the root of their number.
    """
    said = []
    enough = len(filtered_outcomes(residuals, deviation, weights)) >= LEAST_SESSIONS
    for sessions in sorted({1, horizon}):
        moves = over_sessions(returns, sessions)
        outcomes = filtered_outcomes(residuals, deviation, weights, sessions)
        for level in LEVELS:
            for name, method in METHODS.items():
                if name == "filtered":
                    tail = tail_of(outcomes, level) if enough else NO_TAIL
                elif name == "normal":
                    tail = Tail(*(sessions**0.5 * one for one in method(returns, residuals, deviation, weights, level)))
                else:
                    tail = method(moves, residuals, deviation, weights, level)
                said.append(Said(name, sessions, level, tail))
    return said


def over_sessions(returns: FloatArray, count: int) -> FloatArray:
    """(windows, symbols) simple returns over each window of so many sessions; NaN where a symbol had no bar in it.

    >>> over_sessions(np.array([[0.1], [0.1], [np.nan], [np.nan]]), 2).round(4).tolist()
    [[0.21], [0.1], [nan]]
    """
    if count == 1 or len(returns) < count:
        return returns[: max(len(returns) - count + 1, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(returns, count, axis=0)
    grown = np.prod(1 + np.nan_to_num(windows), axis=-1) - 1
    return np.asarray(np.where(np.isnan(windows).all(axis=-1), np.nan, grown), np.float64)
