"""The risk of a book: today's weights, deviations and past vectors of returns -> tails, stress, betas, days to sell.

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
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.errors import SettingsError
from gatecast.market.classes import currencies_of
from gatecast.trading.covariance import book_variance

FloatArray = NDArray[np.float64]
LEAST_SESSIONS = 250
"""Past sessions below which no tail is said."""
DECAY = 0.94
"""Weight of the session before, of the plain EWMA variance of RiskMetrics (1996)."""
DRAWS = 5000
"""Simulated paths over several sessions."""
BETA_SESSIONS, LEAST_BETA_SESSIONS = 250, 60
"""Sessions that a beta is read from, and how many of them it needs at least."""
CRISES: dict[str, tuple[date, date]] = {
    "2008": (date(2008, 9, 15), date(2008, 11, 20)),
    "2011": (date(2011, 7, 25), date(2011, 10, 3)),
    "2015": (date(2015, 8, 11), date(2015, 8, 25)),
    "2018": (date(2018, 9, 21), date(2018, 12, 24)),
    "2020": (date(2020, 2, 20), date(2020, 3, 23)),
    "2022": (date(2022, 1, 4), date(2022, 10, 12)),
}
"""Falls of the S&P 500 -> their first and their last session."""
DURATIONS = {
    "TLT": 16.5, "TLH": 12.5, "IEF": 7.3, "IEI": 4.4, "SHY": 1.9, "AGG": 6.1, "BND": 6.1, "LQD": 8.4, "TIP": 6.6,
    "ZB=F": 12.0, "ZN=F": 6.2, "ZF=F": 4.1, "ZT=F": 1.9,
}  # fmt: skip
"""Funds and futures of bonds -> years by which their price falls where rates rise (rounded, of 2024)."""
OIL = ("CL=F", "BZ=F", "USO", "BNO", "WTI", "BRENT")
"""Symbols that follow the price of oil, the first of them that there is stands for it."""


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
        mean = _mean_of(cells)
        of_cells = np.cumsum(np.nansum(cells**2, axis=1)), np.cumsum(count)
        of_means = np.cumsum(np.nan_to_num(mean) ** 2), np.cumsum(count > 0)
        scale = np.sqrt(_over(*of_cells) / np.where((wide := _over(*of_means)) > 0, wide, 1.0))
        filled[:, own] = np.where(there, cells, (mean * scale)[:, None])
    return filled


def _over(total: FloatArray, count: NDArray[np.int64]) -> FloatArray:
    return np.divide(total, count, out=np.zeros(len(total)), where=count > 0)


Method = Callable[[FloatArray, FloatArray, FloatArray, FloatArray, float], Tail]
"""Past returns and residuals (sessions, symbols), today's deviation and weights (symbols,), level -> a tail."""


def filtered(
    returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, level: float
) -> Tail:
    """The tail of one session by filtered historical simulation, from all past vectors."""
    return _of_enough(filtered_outcomes(residuals, deviation, weights), level, LEAST_SESSIONS)


def historical(sessions: int) -> Method:
    """The tail of historical simulation: today's weights on the returns of past sessions, of which 90 % are needed.

    Sessions in which a holding has no return are none, as a coin's Sundays for shares; at most twice as many are looked
    through.
    """

    def tail(
        returns: FloatArray, residuals: FloatArray, deviation: FloatArray, weights: FloatArray, level: float
    ) -> Tail:
        held = weights != 0
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
    residuals = with_proxies(returns / deviations, classes)
    moves = with_proxies(returns, classes)
    paths = {name: np.full((len(returns), 2), np.nan) for name in methods}
    for row in range(since, len(returns)):
        today = weights[row]
        flat = not np.any(today)
        for name, method in methods.items():
            tail = (0.0, 0.0) if flat else method(moves[:row], residuals[:row], deviations[row], today, level)
            paths[name][row] = tail
    return paths


# ── betas ─────────────────────────────────────────────────────────────────────────────────────────


def betas(returns: FloatArray, factor: FloatArray) -> FloatArray:
    """(symbols,) the slopes of returns (sessions, symbols) on a factor (sessions,), from the newest 250 sessions.

    NaN for a symbol that shares fewer than 60 of them with the factor, or where the factor does not move.

    >>> move = np.sin(np.arange(100.0))
    >>> betas(np.column_stack([2 * move, -move]), move).round(6).tolist()
    [2.0, -1.0]
    """
    y, x = returns[-BETA_SESSIONS:], factor[-BETA_SESSIONS:, None]
    there = ~np.isnan(y) & ~np.isnan(x)
    count = there.sum(axis=0)
    size = np.maximum(count, 1)
    y, x = np.where(there, y, 0.0), np.where(there, x, 0.0)
    x = np.where(there, x - x.sum(axis=0) / size, 0.0)
    spread = (x**2).sum(axis=0)
    slope = np.divide((x * y).sum(axis=0), spread, out=np.full(y.shape[1], np.nan), where=spread > 0)
    return np.asarray(np.where(count >= LEAST_BETA_SESSIONS, slope, np.nan), np.float64)


def book_betas(
    symbols: Sequence[str], classes: Sequence[str], weights: FloatArray, returns: FloatArray
) -> dict[str, float]:
    """Factor -> the beta of today's book to it, of those that the universe has (`find_factors`).

    Of weights (symbols,) and returns (sessions, symbols) up to today; a symbol without a beta of its own counts as 0.
    """
    found = find_factors(symbols, classes, returns)
    return {name: float(weights @ np.nan_to_num(betas(returns, factor))) for name, factor in found.items()}


def find_factors(symbols: Sequence[str], classes: Sequence[str], returns: FloatArray) -> dict[str, FloatArray]:
    """Factor -> its returns (sessions,), of those that the universe has; all are made of its symbols.

    equity: the mean of indices, else of equities, else of funds that are no bonds. duration: the first fund or future
    of bonds that there is. dollar: the mean of pairs with the dollar, turned so that it rises with it. commodity: the
    mean of commodities. oil: a symbol of it. coins: their mean. momentum: equities that rose most over 250 sessions
    but the last 21, less those that rose least, a third each.
    """
    names = np.array(classes)
    found = {}
    bonds = np.isin(symbols, list(DURATIONS))
    for group in (names == "index", names == "equity", (names == "etf") & ~bonds):
        if group.any():
            found["equity"] = _mean_of(returns[:, group])
            break
    for place, symbol in enumerate(symbols):
        if symbol in DURATIONS:
            found.setdefault("duration", returns[:, place])
    turned = np.array(
        [dollar_side(symbol) if name == "fx" else 0 for symbol, name in zip(symbols, classes, strict=True)]
    )
    if turned.any():
        found["dollar"] = _mean_of((returns * turned)[:, turned != 0])
    for factor, name in (("commodity", "commodity"), ("coins", "crypto")):
        if (names == name).any():
            found[factor] = _mean_of(returns[:, names == name])
    oil = next((symbol for symbol in OIL if symbol in symbols), None)
    if oil is not None:
        found["oil"] = returns[:, list(symbols).index(oil)]
    momentum = momentum_of(returns[:, names == "equity"])
    return found if momentum is None else {**found, "momentum": momentum}


def dollar_side(symbol: str) -> int:
    """1 for a pair whose price rises with the dollar, -1 for one whose price falls, 0 for one without it.

    >>> dollar_side("USDJPY"), dollar_side("EURUSD=X"), dollar_side("EURGBP")
    (1, -1, 0)
    """
    pair = currencies_of(symbol) or ("", "")
    return int(pair[0] == "USD") - int(pair[1] == "USD")


def momentum_of(returns: FloatArray, past: int = 250, skipped: int = 21) -> FloatArray | None:
    """(sessions,) mean return of the third of symbols that rose most before, less that which rose least.

    Known before each session: the rise is that of `past` sessions up to `skipped` before it. None for fewer than nine
    symbols, NaN until the past is there.
    """
    sessions, count = returns.shape
    if count < 9:
        return None
    rises = np.cumsum(np.log1p(np.maximum(np.nan_to_num(returns), -0.999)), axis=0)
    factor = np.full(sessions, np.nan)
    third = count // 3
    for row in range(past, sessions):
        rise = rises[row - skipped - 1] - (rises[row - past - 1] if row > past else 0.0)
        order = np.argsort(rise, kind="stable")
        high, low = returns[row, order[-third:]], returns[row, order[:third]]
        if not (np.isnan(high).all() or np.isnan(low).all()):
            factor[row] = np.nanmean(high) - np.nanmean(low)
    return factor


def _mean_of(returns: FloatArray) -> FloatArray:
    """(sessions,) the mean over symbols that have a bar, NaN where none has."""
    count, total = (~np.isnan(returns)).sum(axis=1), np.nansum(returns, axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


# ── stress ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stress:
    """A stress on today's weights: `result` is the return of the book in it, NaN where it cannot be said, and why.

    `worst` is the deepest fall on the way, of a history. `proxied` symbols moved as their class did, `left_out` ones
    not at all.
    """

    name: str
    result: float
    words: str = ""
    worst: float = math.nan
    proxied: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def shocks_of(symbols: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Name of a shock -> its factor and the factor's move; rates move the factor of bonds by its duration."""
    bond = next((symbol for symbol in symbols if symbol in DURATIONS), None)
    years = DURATIONS.get(bond or "", 0.0)
    return {
        "equity -20 %": ("equity", -0.2),
        "rates +100 bps": ("duration", -0.01 * years),
        "rates -100 bps": ("duration", 0.01 * years),
        "dollar +10 %": ("dollar", 0.1),
        "dollar -10 %": ("dollar", -0.1),
        "oil -40 %": ("oil", -0.4),
        "coins -50 %": ("coins", -0.5),
    }


def stress(
    symbols: Sequence[str],
    classes: Sequence[str],
    weights: FloatArray,
    returns: FloatArray,
    days: Sequence[date],
    covariance: FloatArray,
    residuals: FloatArray,
    deviation: FloatArray,
    level: float = 0.025,
) -> list[Stress]:
    """Shocks and past crises on today's weights (symbols,), each with the return of the book in it.

    Parameters
    ----------
    returns, residuals: (sessions, symbols) up to today. days: (sessions,) dates of them.
    covariance: (symbols, symbols) today's, a session. deviation: (symbols,) today's, a session.

    A shock moves its factor, and every symbol by its beta to it (`betas`, one factor at a time; 0 where there is none,
    which is said). Of doubled volatilities and of correlations of 1 within classes the result is the expected shortfall
    of one session.
    """
    held = weights != 0
    factors = find_factors(symbols, classes, returns)
    made = []
    for name, (factor, move) in shocks_of(symbols).items():
        if factor not in factors:
            made.append(Stress(name, math.nan, f"no symbol of the universe stands for {factor}"))
            continue
        beta = betas(returns, factors[factor])
        unknown = tuple(symbol for symbol, odd in zip(symbols, held & np.isnan(beta), strict=True) if odd)
        words = f"by betas to {factor} over {BETA_SESSIONS} sessions"
        made.append(Stress(name, float(weights @ np.nan_to_num(beta)) * move, words, left_out=unknown))
    tail = _of_enough(filtered_outcomes(with_proxies(residuals, classes), deviation, weights), level, LEAST_SESSIONS)
    now, tight = (volatility_of(weights, one) for one in (covariance, one_within_classes(covariance, classes)))
    of_one = f"the expected shortfall of one session at {100 * (1 - level):g} %"
    shortfall = tail.shortfall if held.any() else 0.0
    made += [
        Stress("volatilities doubled", 2 * shortfall, of_one),
        Stress("correlations 1 within classes", shortfall * tight / now if now > 0 else shortfall, of_one),
    ]
    if held.any():
        largest = int(np.argmax(np.abs(weights)))
        side = "falls" if weights[largest] > 0 else "rises"
        words = f"{symbols[largest]} {side} by 30 %"
        made.append(Stress("the largest name 30 % against the book", -0.3 * abs(float(weights[largest])), words))
    return made + [replay(name, symbols, classes, weights, returns, days) for name in CRISES]


def replay(
    crisis: str,
    symbols: Sequence[str],
    classes: Sequence[str],
    weights: FloatArray,
    returns: FloatArray,
    days: Sequence[date],
) -> Stress:
    """Today's weights held through a past crisis of `CRISES`.

    A symbol without a bar in more than half of its sessions is proxied by the mean of its class, else by its beta of
    today to equities, else left out; a single missing session is a holiday. NaN where less than half of the crisis is
    in the returns.
    """
    first, last = CRISES[crisis]
    inside = np.array([first <= day <= last for day in days], np.bool_)
    weekdays = int(np.busday_count(first, last)) + 1
    if inside.sum() < weekdays / 2:
        return Stress(crisis, math.nan, f"the bars have less than half of the sessions from {first} to {last}")
    moves, names = returns[inside].copy(), np.array(classes)
    held = weights != 0
    absent = np.isnan(moves).mean(axis=0) > 0.5
    proxied: list[str] = []
    left_out: list[str] = []
    equity = find_factors(symbols, classes, returns).get("equity", np.full(len(returns), np.nan))
    beta = betas(returns, equity)
    for place in np.flatnonzero(held & absent).tolist():
        peers = (names == classes[place]) & ~absent
        moves[:, place] = _mean_of(moves[:, peers]) if peers.any() else beta[place] * equity[inside]
        known = not np.isnan(moves[:, place]).all()
        (proxied if known else left_out).append(symbols[place])
    grown = np.cumprod(1 + np.maximum(np.nan_to_num(moves[:, held]), -1.0), axis=0) - 1
    path = grown @ weights[held]
    wealth = np.concatenate([[1.0], 1 + path])
    worst = float((wealth / np.maximum.accumulate(wealth) - 1).min())
    words = f"{first} to {last}, held without trading"
    return Stress(crisis, float(path[-1]), words, worst, tuple(proxied), tuple(left_out))


def one_within_classes(covariance: FloatArray, classes: Sequence[str]) -> FloatArray:
    """The covariance (symbols, symbols) with correlations of 1 within each class, and between classes as they are."""
    names, sigma = np.array(classes), np.sqrt(np.diag(covariance))
    return np.asarray(np.where(names[:, None] == names, np.outer(sigma, sigma), covariance), np.float64)


def volatility_of(weights: FloatArray, covariance: FloatArray) -> float:
    """The standard deviation of a book, in the unit of the covariance; at least 0.

    >>> round(volatility_of(np.array([0.5, 0.5]), np.array([[0.04, 0.006], [0.006, 0.01]])), 6)
    0.124499
    """
    return math.sqrt(book_variance(weights, covariance))


def smallest_move(weights: FloatArray, covariance: FloatArray, loss: float = 0.2) -> tuple[FloatArray, float]:
    """The likeliest moves (symbols,) by which the book loses so much, and how many of its deviations that is.

    Of all moves with that loss they are those nearest to none, measured by the covariance: -loss Σw / w'Σw. Infinitely
    far for a book without risk.

    >>> moves, far = smallest_move(np.array([0.5, 0.5]), np.array([[0.04, 0.006], [0.006, 0.01]]))
    >>> moves.round(6).tolist(), round(far, 6)
    ([-0.296774, -0.103226], 1.606439)
    """
    volatility = volatility_of(weights, covariance)
    if volatility == 0:
        return np.full(len(weights), np.nan), math.inf
    return np.asarray(-loss * (covariance @ weights) / volatility**2, np.float64), loss / volatility


# ── size ──────────────────────────────────────────────────────────────────────────────────────────


def days_to_sell(
    values: FloatArray,
    volumes: FloatArray,
    shares: Sequence[float] = (0.5, 0.9, 1.0),
    *,
    participation: float = 0.1,
    volume_left: float = 0.5,
) -> FloatArray:
    """(shares,) sessions until such shares of a book's gross value are sold.

    `values`: (symbols,) signed, `volumes`: money traded a session, one currency; sold at most at `participation` of
    `volume_left` of it, all symbols at once. NaN where what has no volume, or an unknown one, keeps it from that share.

    >>> days_to_sell(np.array([10.0, -30.0]), np.array([200.0, 200.0])).tolist()
    [1.0, 2.6, 3.0]
    """
    size = np.abs(values)
    total = float(size.sum())
    if total == 0:
        return np.zeros(len(shares))
    a_day = np.nan_to_num(volumes) * participation * volume_left
    needed = np.divide(size, a_day, out=np.full(len(size), np.inf), where=a_day > 0)
    needed = np.where(size > 0, needed, 0.0)
    ends = np.unique(np.concatenate([[0.0], needed[np.isfinite(needed)]]))
    sold = np.minimum(a_day[None, :] * ends[:, None], size).sum(axis=1) / total
    found = [np.interp(share, sold, ends) if share <= sold[-1] + 1e-12 else np.nan for share in shares]
    return np.array(found, np.float64)


@dataclass(frozen=True)
class Capacity:
    """What a book earns at more capital: `capital` and `net` a year as a fraction of it, (points,) each.

    `best`: the capital at which most money is earned, `largest`: from which on nothing is left; 0 where nothing is
    earned at any, infinite where trading moves no price.
    """

    capital: FloatArray
    net: FloatArray
    best: float
    largest: float


def capacity_of(earned: float, impact: float, capital: float, points: int = 25) -> Capacity:
    """A year's result at one capital -> the result over capital, from a hundredth of it to ten thousand times.

    `earned`: net of all costs but the market's impact, `impact`: its cost, both a fraction of `capital` a year. All but
    impact grow with the capital, impact by its power of 1.5: net = earned - impact sqrt(capital / this one).

    >>> found = capacity_of(earned=0.06, impact=0.01, capital=1e6)
    >>> round(found.best), round(found.largest), round(float(found.net[8]), 4)
    (16000000, 36000000, 0.05)
    """
    if not capital > 0:
        raise SettingsError(f"capital must be money above 0, got {capital}.")
    times = np.logspace(-2, 4, points)
    net = earned - impact * np.sqrt(times)
    if earned <= 0:
        return Capacity(capital * times, net, 0.0, 0.0)
    largest = capital * (earned / impact) ** 2 if impact > 0 else math.inf
    return Capacity(capital * times, net, largest * 4 / 9, largest)
