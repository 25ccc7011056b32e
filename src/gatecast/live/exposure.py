"""What the book of a store may lose from its newest close on: its holdings, on the chain of all that was issued."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.chain import make_chain
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.live.book import book_now
from gatecast.live.kept import refuse_unserved, serve
from gatecast.scores import horizon_in_sessions
from gatecast.trading.book import deviations_of, sessions_by
from gatecast.trading.exposure import Today, risk_today

if TYPE_CHECKING:
    from gatecast.store.store import Store


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
    held = np.array([float(book.rows.get(name, {}).get("held") or 0.0) for name in sessions.names])
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
