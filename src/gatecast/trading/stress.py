"""Today's weights and past returns -> betas, stress, the smallest move that loses so much, days to sell.

Arrays are (sessions, symbols) in order of time, NaN where a symbol had no bar; returns are simple, weights are signed
shares of the equity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from gatecast.market.classes import currencies_of
from gatecast.trading.covariance import book_variance
from gatecast.trading.risk import filtered, mean_of, with_proxies

FloatArray = NDArray[np.float64]
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
NAMED = {
    "equity": ("SP500", "^GSPC", "SPX", "SPY", "VOO", "IVV", "VTI", "ACWI", "VT", "QQQ", "IWM", "EFA", "EEM"),
    "dollar": ("DX-Y.NYB", "DXY", "UUP"),
    "commodity": ("^BCOM", "DBC", "PDBC", "GSG"),
    "oil": ("CL=F", "BZ=F", "USO", "BNO", "WTI", "BRENT"),
}
"""Factor -> symbols that stand for it, the first of them that has bars today."""
SHOCKS = {
    "equity -20 %": ("equity", -0.2), "rates +100 bps": ("duration", -0.01), "rates -100 bps": ("duration", 0.01),
    "dollar +10 %": ("dollar", 0.1), "dollar -10 %": ("dollar", -0.1), "oil -40 %": ("oil", -0.4),
    "coins -50 %": ("coins", -0.5),
}  # fmt: skip
"""Name of a shock -> its factor, and how far the factor moves."""
NO_EQUITIES = {*DURATIONS, *NAMED["dollar"], *NAMED["commodity"], *NAMED["oil"], "GLD", "IAU", "SLV", "UNG", "HYG"}
"""Funds that are no funds of equities."""


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
    """Factor -> the beta of today's book to it, of those that the universe has (`find_factors`), and to momentum.

    Of weights (symbols,) and returns (sessions, symbols) up to today; a symbol without a beta of its own counts as 0.
    """
    newest = returns[-(2 * BETA_SESSIONS) - 1 :]
    found = find_factors(symbols, classes, newest)
    momentum = momentum_of(newest[:, np.array(classes) == "equity"])
    found |= {} if momentum is None else {"momentum": Factor(momentum, "equities")}
    slopes = {name: betas(newest, factor.returns) for name, factor in found.items()}
    held = weights != 0
    return {name: float(weights @ np.nan_to_num(one)) for name, one in slopes.items() if not np.isnan(one[held]).all()}


@dataclass(frozen=True)
class Factor:
    """Returns (sessions,) of a factor, and what of the universe stands for it: "SPY", "the mean of 12 equities"."""

    returns: FloatArray
    stands_for_it: str


def find_factors(symbols: Sequence[str], classes: Sequence[str], returns: FloatArray) -> dict[str, Factor]:
    """Factor -> what it is of those that the universe has; all are made of its symbols.

    A symbol of `NAMED` where there is one, else a mean: equity of indices, else of equities, else of funds that are no
    others; dollar of pairs with the dollar, turned so that it rises with it; commodity of commodities; coins of coins.
    duration: the first fund or future of bonds, over its duration, so that a beta to it is a duration in years. Oil is
    a symbol or nothing. Of symbols that have enough bars among the newest sessions for a beta.
    """
    alive = (~np.isnan(returns[-BETA_SESSIONS:])).sum(axis=0) >= LEAST_BETA_SESSIONS
    names, found = np.array(classes), dict[str, Factor]()
    funds = (names == "etf") & ~np.isin(symbols, sorted(NO_EQUITIES))
    groups = {
        "equity": {"indices": names == "index", "equities": names == "equity", "funds": funds},
        "commodity": {"commodities": names == "commodity"},
        "coins": {"coins": names == "crypto"},
    }
    for factor, choices in groups.items():
        for kind, one in choices.items():
            if (group := one & alive).any():
                found[factor] = _mean_factor(symbols, group, kind, returns)
                break
    pairs = zip(symbols, classes, strict=True)
    turned = np.array([dollar_side(symbol) if name == "fx" else 0 for symbol, name in pairs]) * alive
    if turned.any():
        found["dollar"] = _mean_factor(symbols, turned != 0, "pairs with the dollar", returns * turned)
    place = {symbol: number for number, symbol in enumerate(symbols) if alive[number]}
    for factor, known in NAMED.items():
        column = next((place[one] for one in known if one in place), None)
        if column is not None:
            found[factor] = Factor(returns[:, column], symbols[column])
    bond = next((symbol for symbol in place if symbol in DURATIONS), None)
    if bond is not None:
        found["duration"] = Factor(returns[:, place[bond]] / DURATIONS[bond], bond)
    return found


def _mean_factor(symbols: Sequence[str], group: NDArray[np.bool_], kind: str, returns: FloatArray) -> Factor:
    """The mean of a group of symbols, which is said to be one symbol where it is."""
    places = np.flatnonzero(group)
    of = f"the mean of {len(places)} {kind}" if len(places) > 1 else f"{symbols[places[0]]} alone"
    return Factor(mean_of(returns[:, group]), of)


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
    """Shocks, and crises that have begun, on today's weights (symbols,), each with the return of the book in it.

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
    for name, (factor, move) in SHOCKS.items():
        if factor not in factors:
            made.append(Stress(name, math.nan, "no data: no symbol stands for it"))
            continue
        beta = betas(returns, factors[factor].returns)
        unknown = tuple(symbol for symbol, odd in zip(symbols, held & np.isnan(beta), strict=True) if odd)
        if held.any() and len(unknown) == held.sum():
            made.append(Stress(name, math.nan, "no data: nothing that is held has a beta to it"))
            continue
        words = f"by betas to {factor} over {BETA_SESSIONS} sessions; {factors[factor].stands_for_it} stands for it"
        made.append(Stress(name, float(weights @ np.nan_to_num(beta)) * move, words, left_out=unknown))
    tail = filtered(returns, with_proxies(residuals, classes), deviation, weights, level)
    now, tight = (volatility_of(weights, one) for one in (covariance, one_within_classes(covariance, classes)))
    of_one = f"the expected shortfall of one session at {100 * (1 - level):g} %"
    shortfall = tail.shortfall if held.any() else 0.0
    kinds = [kind for kind, some in zip(classes, held, strict=True) if some]
    alone = "" if len(kinds) > len(set(kinds)) else ", as it is: no two symbols that are held are of one class"
    made += [
        Stress("volatilities doubled", 2 * shortfall, of_one),
        Stress("correlations 1 within classes", shortfall * tight / now if now > 0 else shortfall, of_one + alone),
    ]
    if held.any():
        largest = int(np.argmax(np.abs(weights)))
        side = "falls" if weights[largest] > 0 else "rises"
        words = f"{symbols[largest]} {side} by 30 %"
        made.append(Stress("the largest name 30 % against the book", -0.3 * abs(float(weights[largest])), words))
    equity = factors["equity"].returns if "equity" in factors else np.full(len(returns), np.nan)
    begun = [name for name, (first, _) in CRISES.items() if first <= days[-1]]
    return made + [replay(name, symbols, classes, weights, returns, days, equity) for name in begun]


def replay(
    crisis: str,
    symbols: Sequence[str],
    classes: Sequence[str],
    weights: FloatArray,
    returns: FloatArray,
    days: Sequence[date],
    equity: FloatArray,
) -> Stress:
    """Today's weights held through a past crisis of `CRISES`; `equity`: (sessions,) returns of equities.

    A symbol without a bar in more than half of its sessions is proxied: its beta of today to the mean of its class (1
    where it is not known) times that mean in the crisis, else the same with equities, else it is left out. A single
    missing session is a holiday. NaN where less than half of the crisis is in the returns, or all that is held is left
    out.
    """
    first, last = CRISES[crisis]
    inside = np.array([first <= day <= last for day in days], np.bool_)
    weekdays = int(np.busday_count(first, last)) + 1
    if inside.sum() < weekdays / 2:
        return Stress(crisis, math.nan, "no data: the bars have less than half of its sessions")
    moves, names = returns[inside].copy(), np.array(classes)
    held = weights != 0
    absent = np.isnan(moves).mean(axis=0) > 0.5
    proxied: list[str] = []
    left_out: list[str] = []
    for place in np.flatnonzero(held & absent).tolist():
        peers = (names == classes[place]) & ~absent
        factor = mean_of(returns[:, peers]) if peers.any() else equity
        beta = float(betas(returns[:, [place]], factor)[0])
        moves[:, place] = factor[inside] * (1.0 if peers.any() and math.isnan(beta) else beta)
        known = not np.isnan(moves[:, place]).all()
        (proxied if known else left_out).append(symbols[place])
    if held.any() and len(left_out) == held.sum():
        return Stress(crisis, math.nan, "no data: neither what is held nor its class had bars then")
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

    Of all moves with that loss they are those nearest to none, measured by the covariance: -loss Σw / w'Σw. Where that
    takes more from a symbol than all of its price, it falls by all of it and the others move as is likeliest then.
    Infinitely far for a book that cannot lose so much.

    >>> moves, far = smallest_move(np.array([0.5, 0.5]), np.array([[0.04, 0.006], [0.006, 0.01]]))
    >>> moves.round(6).tolist(), round(far, 6)
    ([-0.296774, -0.103226], 1.606439)
    """
    gone = np.zeros(len(weights), np.bool_)
    while True:
        rest = ~gone
        passed_on = np.linalg.solve(covariance[np.ix_(gone, gone)], covariance[np.ix_(gone, rest)]).T
        expected = -passed_on.sum(axis=1)  # of the others, where these fall by all of their price
        own = covariance[np.ix_(rest, rest)] - passed_on @ covariance[np.ix_(gone, rest)]
        held, still = weights[rest], float(weights[gone].sum()) - loss
        variance = float(held @ own @ held)
        if variance <= 0:
            return np.full(len(weights), np.nan), math.inf
        moves = np.full(len(weights), -1.0)
        moves[rest] = expected + own @ held * (still - float(held @ expected)) / variance
        if moves.min() >= -1:
            return moves, math.sqrt(float(moves @ np.linalg.solve(covariance, moves)))
        gone[int(np.argmin(moves))] = True


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
