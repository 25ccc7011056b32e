"""Today's book -> what it may lose, in numbers that a file can hold: tails, contributions, betas, stress, days to sell.

Today is the newest close; what is held is what the trades decided there lead to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatecast.trading.book import Line, Sessions, past_deviations
from gatecast.trading.covariance import Correlations, covariance_of
from gatecast.trading.grid import forward_filled
from gatecast.trading.risk import symbol_tails, tails_of, with_proxies
from gatecast.trading.stress import book_betas, days_to_sell, smallest_move, stress, volatility_of

FloatArray = NDArray[np.float64]
SILENT = 5
"""Sessions without a bar after which it is said of a symbol that is held."""
LOSS = 0.2
"""Loss of the book whose likeliest moves are said."""
SHARES = (0.5, 0.9, 1.0)
"""Shares of the book whose days to sell are said."""


@dataclass(frozen=True)
class Today:
    """A book at its newest close, and the past that says what it may lose.

    Attributes
    ----------
    symbols, classes: (symbols,) names and asset classes. days: (sessions,) dates up to today.
    weights: (symbols,) signed shares of `equity`, which is money. volumes: (symbols,) money traded a session, the mean
        of 21 up to its newest, NaN where nobody knows. per_year: (symbols,) sessions a year.
    returns: (sessions, symbols) simple, NaN without a bar. deviations: the same shape, standard deviation of the next
        session's return, forecast at each close; where nothing was forecast, of past returns.
    covariance: (symbols, symbols) of the next session's returns.
    """

    symbols: tuple[str, ...]
    classes: tuple[str, ...]
    days: Sequence[date]
    weights: FloatArray
    equity: float
    volumes: FloatArray
    per_year: FloatArray
    returns: FloatArray
    deviations: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, sessions: Sessions, line: Line, deviations: FloatArray) -> Today:
        """The newest close of a line that was sized by `deviations`, see `book.deviations_of`."""
        return cls.of_weights(sessions, line.held[-1], float(line.frame["equity"][-1]), deviations)

    @classmethod
    def of_weights(cls, sessions: Sessions, weights: FloatArray, equity: float, deviations: FloatArray) -> Today:
        """The newest close of a book that holds these weights, (symbols,) signed shares of its equity."""
        returns = sessions.total
        scales = np.where(np.isfinite(deviations), deviations, past_deviations(returns))
        correlations = Correlations.start(sessions.names, sessions.classes)
        for earned, expected in zip(returns[1:], scales[:-1], strict=True):
            correlations = correlations.after(earned, expected)
        scales = forward_filled(scales)
        which = np.flatnonzero(scales[-1] > 0)
        covariance = np.full((len(sessions.names), len(sessions.names)), np.nan)
        covariance[np.ix_(which, which)] = covariance_of(correlations.correlation(which), scales[-1][which])
        return cls(
            sessions.names, sessions.classes, sessions.days, weights, equity,
            forward_filled(sessions.usual_volume)[-1], sessions.per_year, returns,
            scales, covariance,
        )  # fmt: skip

    @property
    def covariance_of_year(self) -> FloatArray:
        """(symbols, symbols) the covariance of returns over a year of such sessions."""
        return covariance_of(self.covariance, np.sqrt(self.per_year))

    @property
    def residuals(self) -> FloatArray:
        """(sessions, symbols) returns over the deviations of the close before; NaN where either is missing, or 0."""
        before = np.concatenate([np.full((1, len(self.symbols)), np.nan), self.deviations[:-1]])
        found = np.full(self.returns.shape, np.nan)
        np.divide(self.returns, before, out=found, where=before > 0)
        return found

    @property
    def past(self) -> tuple[FloatArray, FloatArray, int]:
        """Returns and `residuals`, (sessions, symbols), where a symbol was missing those of its class
        (`risk.with_proxies`); and how many sessions have one of all that is held."""
        moves, wide = (with_proxies(one, self.classes) for one in (self.returns, self.residuals))
        return moves, wide, int(np.isfinite(wide[:, self.weights != 0]).all(axis=1).sum())


def risk_today(today: Today, horizon: int = 1) -> dict[str, Any]:
    """What today's book may lose, as the scores keep it; `horizon`: sessions of the longer tails.

    All results are shares of the equity: returns, below 0 where they are losses. Where nothing is held there are the
    day, gross and net alone.
    """
    weights, held = today.weights, today.weights != 0
    said: dict[str, Any] = {
        "day": today.days[-1].isoformat(), "gross": float(np.abs(weights).sum()), "net": float(weights.sum()),
        "horizon": horizon,
    }  # fmt: skip
    if not held.any():
        return said
    deviation, residuals = today.deviations[-1], today.residuals
    moves, wide, vectors = today.past
    stresses = stress(
        today.symbols, today.classes, weights, today.returns, today.days, today.covariance, residuals, deviation
    )
    days = days_to_sell(weights * today.equity, today.volumes, SHARES)
    return said | {
        "volatility": volatility_of(weights, today.covariance_of_year),
        "silent": silent_of(today),
        "vectors": vectors,
        "tails": [
            {"method": one.method, "sessions": one.sessions, "level": 1 - one.level, **one.tail._asdict()}
            for one in tails_of(moves, wide, deviation, weights, horizon)
        ],
        "symbols": contributions(today),
        "betas": book_betas(today.symbols, today.classes, weights, today.returns),
        "stress": [asdict(one) for one in stresses],
        "smallest_move": _smallest(today),
        "days_to_sell": {
            **{f"{share:.0%}": float(one) for share, one in zip(SHARES, days, strict=True)},
            "unknown": [
                name for name, odd in zip(today.symbols, held & ~(today.volumes > 0), strict=True) if odd
            ],
        },
    }  # fmt: skip


def contributions(today: Today) -> list[dict[str, Any]]:
    """What is held, most of the risk first: weight, share of the book's variance, and the symbol's own tail.

    The share is w (Σw) / w'Σw, below 0 where a holding hedges the others; all add up to 1. The tail is that of one
    session at 97.5 %, held as it is held, on one unit of value.
    """
    at = np.flatnonzero(today.weights)
    weights, covariance = today.weights[at], today.covariance[np.ix_(at, at)]
    variance = float(weights @ covariance @ weights)
    part = weights * (covariance @ weights)
    shares = part / variance if variance > 0 else np.full(len(at), np.nan)
    side = np.sign(weights)
    tails = symbol_tails(today.residuals[:, at] * side, today.deviations[-1, at])
    rows = [
        {"symbol": today.symbols[place], "asset_class": today.classes[place], "weight": float(weight),
         "share": float(share), **tail._asdict()}
        for place, weight, share, tail in zip(at, weights, shares, tails, strict=True)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["share"])


def silent_of(today: Today) -> dict[str, str]:
    """Symbol -> day of its newest bar, of what is held and had none in the newest sessions."""
    there = ~np.isnan(today.returns)
    newest = len(there) - 1 - np.argmax(there[::-1], axis=0)
    late = (today.weights != 0) & there.any(axis=0) & (newest < len(there) - SILENT)
    return {today.symbols[place]: today.days[newest[place]].isoformat() for place in np.flatnonzero(late)}


def _smallest(today: Today) -> dict[str, Any]:
    """The likeliest moves by which the book loses `LOSS`, most of the loss first, and how many deviations of a year."""
    at = np.flatnonzero(today.weights)
    weights = today.weights[at]
    moves, far = smallest_move(weights, today.covariance_of_year[np.ix_(at, at)], LOSS)
    order = np.argsort(weights * moves, kind="stable")
    named = {today.symbols[at[place]]: float(moves[place]) for place in order}
    return {"loss": -LOSS, "deviations": far, "moves": named}
