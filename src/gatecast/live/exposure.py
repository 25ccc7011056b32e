"""What the book of a store may lose from its newest close on: quickly, of what it carries and recent bars; and in full,
on the chain of all that was issued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.chain import make_chain
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.live.book import HeldNow, book_now
from gatecast.live.kept import refuse_unserved, serve
from gatecast.scores import horizon_in_sessions
from gatecast.store.about import counted
from gatecast.trading.book import deviations_of, past_deviations, sessions_by
from gatecast.trading.covariance import places_of
from gatecast.trading.cuts import LEAST_OFF
from gatecast.trading.exposure import Today, contributions, risk_today
from gatecast.trading.risk import LEVELS, filtered
from gatecast.trading.stress import volatility_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.market.facts import Facts
    from gatecast.store.store import Store
    from gatecast.trading.book import Book, Carried

RECENT = timedelta(days=1461)
"""Of the past that tails are made of: four years, some thousand vectors of returns."""
SHOWN = 5e-4
"""Volatility below the target that is not seen in a tenth of a per cent."""


@dataclass(frozen=True)
class Risk:
    """What the book of the newest session may lose; shares of the equity.

    `gross`, `net`: of what is held once its trades are filled. `volatility`: of that, a year, by the forecasts, the
    past correlations and the level; `target`: what is aimed at; `reached`: whether it is; `bound`: what made positions
    smaller -> at how many symbols, that which cost most first; `costs`: the same -> what it took of the positions, as a
    share of equity, 0 where that is not known. `value_at_risk`, `shortfall`: of one session at 97.5 %, by `vectors`
    past vectors of returns over their past deviations (exponential, decay .94) times the deviations forecast now, see
    `trading.risk.filtered`; None below 250. `shares`: symbol -> share of the variance. `equity` in `currency`.
    """

    session: str
    gross: float
    net: float
    volatility: float | None
    target: float | None
    reached: bool
    bound: Mapping[str, int]
    value_at_risk: float | None
    shortfall: float | None
    vectors: int
    shares: Mapping[str, float]
    equity: float
    currency: str
    costs: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = jsonable(dict(vars(self)))
        return found

    @property
    def sentences(self) -> list[str]:
        """The whole in lines.

        >>> bound, costs = {"gross cap of 100%": 3}, {"gross cap of 100%": 0.25}
        >>> risk = Risk("2024-01-05", 0.9, 0.5, 0.08, 0.1, False, bound, -0.012, -0.016, 900, {}, 1e6, "USD", costs)
        >>> print(*risk.sentences, sep="\\n")
        The book after the close of 2024-01-05, 1,000,000 USD: gross 90.0%, net +50.0%, forecast volatility 8.0% a year.
        Expected shortfall of one session at 97.5%: 1.6% of the equity.
        The target of 10.0% is not reached: gross cap of 100% at 3 symbols (-25.0% of equity).
        """
        book = f"The book after the close of {self.session}, {self.equity:,.0f} {self.currency}"
        if self.gross == 0:
            return [f"{book}: nothing is held.{self._missed}"]
        volatility = "unknown" if self.volatility is None else f"{self.volatility:.1%} a year"
        loss = (
            f"not known, of {self.vectors} past sessions with a return of all that is held 250 are needed"
            if self.shortfall is None else f"{-self.shortfall:.1%} of the equity"
        )  # fmt: skip
        first = [
            f"{book}: gross {self.gross:.1%}, net {self.net:+.1%}, forecast volatility {volatility}.",
            f"Expected shortfall of one session at 97.5%: {loss}.",
        ]
        return [*first, *(one for one in [self._reached or self._missed.strip()] if one)]

    @property
    def _cut(self) -> str:
        return cut_in_words(self.bound, self.costs) if self.bound else ""

    @property
    def _reached(self) -> str:
        if not (self.target and self.reached):
            return ""
        if self.volatility is None or self.volatility >= self.target - SHOWN:
            return f"The target of {self.target:.1%} is reached."
        short = (
            f"What is held has a forecast volatility of {self.volatility:.1%}; {self.target:.1%} is aimed at, which is "
            "within the band"
        )
        return f"{short}: {self._cut}." if self._cut else f"{short}."

    @property
    def _missed(self) -> str:
        if self.target is None:
            return ""
        return f" The target of {self.target:.1%} is not reached: {cut_in_words(self.bound, self.costs)}."


def cut_in_words(bound: Mapping[str, int], costs: Mapping[str, float]) -> str:
    """What keeps a book from the volatility aimed at; `bound`, `costs`: see `Risk`.

    >>> cut_in_words({"gross cap of 100%": 5, "halt": 1}, {"gross cap of 100%": 0.5}), cut_in_words({}, {})
    ('gross cap of 100% at 5 symbols (-50.0% of equity), halt at 1 symbol', 'forecasts or bands keep it lower')
    """
    took = {name: f" ({-cost:.1%} of equity)" for name, cost in costs.items() if cost >= LEAST_OFF}
    said = ", ".join(f"{name} at {counted(count, 'symbol')}{took.get(name, '')}" for name, count in bound.items())
    return said or "forecasts or bands keep it lower"


# ── what the book may lose ────────────────────────────────────────────────────────────────────────


def recent_of(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars that tails are made of."""
    return bars.filter(pl.col("time") > bars["time"].max() - RECENT)  # type: ignore[operator]


def exposed_by(facts: Facts, book: Book, carried: Carried, held: HeldNow) -> Today:
    """The book at its newest session, with the past that says what it may lose; no chain is made.

    `facts`: of recent bars, see `recent_of`. `carried`: what the book goes on from after that session.
    """
    book = book.replace(size=book.size.replace(lots={}))  # may name symbols without a recent bar; not read here
    sessions = sessions_by(facts, book)
    sessions = sessions.until(sum(day <= carried.day for day in sessions.days))
    line, names = carried.line, sessions.names
    at = places_of(names, line.names)
    ahead = np.where(at >= 0, line.deviation[at], np.nan)
    covariance = np.full((len(names), len(names)), np.nan)
    if line.covariance is not None:
        there = np.flatnonzero(at >= 0)
        covariance[np.ix_(there, there)] = line.covariance[np.ix_(at[there], at[there])]
    deviations = past_deviations(sessions.returns)
    deviations[-1] = ahead
    return Today(
        names, sessions.classes, sessions.days, _weights(held, names), line.equity, np.full(len(names), np.nan),
        sessions.per_year, sessions.returns, deviations, covariance,
    )  # fmt: skip


def risk_of(exposed: Today, held: HeldNow, carried: Carried) -> Risk:
    """What the book may lose, of `exposed_by`."""
    weights = exposed.weights
    own, (moves, wide, vectors) = weights != 0, exposed.past
    tail = filtered(moves, wide, exposed.deviations[-1], weights, LEVELS[0]) if own.any() else (0.0, 0.0)
    known = bool(np.isfinite(exposed.covariance[np.ix_(own, own)]).all())
    limits = [limit for symbol in held.rows if (limit := held.limit(symbol))]
    took = [one for limit in limits for one in limit.costs.items() if one[1] == 0 or one[1] >= LEAST_OFF]
    cut, costs = Counter(name for name, _ in took), dict[str, float]()
    for name, cost in sorted(took):
        costs[name] = costs.get(name, 0.0) + cost
    order = sorted(cut, key=lambda name: (-round(costs[name], 9), -cut[name], name))
    shares = {row["symbol"]: row["share"] for row in contributions(exposed)} if known and own.any() else {}
    return Risk(
        held.session, float(np.abs(weights).sum()), float(weights.sum()),
        carried.line.sizing.level * volatility_of(weights, exposed.covariance_of_year) if known else None,
        held.figures.get("target_volatility"), bool(held.figures.get("reached")),
        {name: cut[name] for name in order}, *_known(*tail),
        vectors=vectors, shares=shares,
        equity=float(held.figures.get("equity") or 0.0), currency=str(held.figures.get("currency") or ""),
        costs={name: costs[name] for name in order},
    )  # fmt: skip


def _known(value_at_risk: float, shortfall: float) -> tuple[float | None, float | None]:
    return (value_at_risk, shortfall) if np.isfinite(shortfall) else (None, None)


# ── in full ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Exposure:
    """What a book may lose: `figures` as `trading.exposure.risk_today` has them, and `correlations` of what is held.

    `correlations`: symbol -> symbol -> correlation of the next session's returns, of what is held.
    """

    figures: dict[str, Any]
    correlations: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**self.figures, "correlations": self.correlations}


def exposure_now(store: Store, now: datetime) -> Exposure | None:
    """What the book of a store may lose; None where it has no book yet. Nothing is fitted and nothing is written.

    The chain of all that was issued is made again, which takes as long as an update. Raises `StoreError` where the
    store cannot be read or has no model.
    """
    book = book_now(store)
    if book is None:
        return None
    served, bars = serve(store, refuse_unserved(store)), store.bars.for_chain(now)
    experiment = served.run.experiment.replace(bars=bars)
    chain = make_chain(experiment, bars, actions=store.actions, past=served.past, refit="never", watch=False)
    sessions = sessions_by(chain.facts, chain.book)
    held = _weights(book, sessions.names)
    equity = float(book.figures.get("equity") or 0.0)
    today = Today.of_weights(sessions, held, equity, deviations_of(chain.classes, sessions, ENSEMBLE))
    return Exposure(risk_today(today, horizon_in_sessions(chain)), _correlations(today))


def _correlations(today: Today) -> dict[str, dict[str, float]]:
    at = np.flatnonzero((today.weights != 0) & (np.diagonal(today.covariance) > 0))
    covariance = today.covariance[np.ix_(at, at)]
    deviation = np.sqrt(np.diagonal(covariance))
    table = covariance / np.outer(deviation, deviation)
    names = [today.symbols[place] for place in at]
    return {
        name: {other: float(value) for other, value in zip(names, row, strict=True)}
        for name, row in zip(names, table, strict=True)
    }


def _weights(held: HeldNow, names: Sequence[str]) -> NDArray[np.float64]:
    """(names,) shares of the equity that are held."""
    return np.array([float(held.rows.get(name, {}).get("held") or 0.0) for name in names])
