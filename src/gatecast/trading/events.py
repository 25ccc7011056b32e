"""What a session brings to an account: prices, and the events of actions, ends and rolls that are booked in it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.market.actions import GIVES, GOES, with_terms
from gatecast.market.bars import UTC_TIME, session_date
from gatecast.trading.instruments import ROLLS, rows_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NEAR = 10
"""Days between a merger and the end of its symbol, within which they are one."""


@dataclass(frozen=True)
class Dividend:
    """Money a unit, in the symbol's currency, earned by who held at the close before the session (the ex-date).

    `paid_on`: None: at once. `withheld`: share of it that a long holding does not get; None: that of the settings. A
    return of capital, or rights that are sold, has 0. `ex_date`: of one that became known after its session, earned by
    who held at the close before that date; None: the session.
    """

    symbol: str
    amount: float
    paid_on: date | None = None
    withheld: float | None = None
    ex_date: date | None = None


@dataclass(frozen=True)
class Exchange:
    """Of each unit held at the close before: `keep` units stay, `cash` is paid, `ratio` units of `into` are given.

    A split of two for one keeps 2; a spin-off keeps 1 and gives units; a merger keeps 0 and gives units, cash or both;
    a symbol that changes keeps 0 and gives 1. `into` that has no price before takes over what the old one was worth
    less cash, and 0 where the old one stays. `ex_date`: see `Dividend`; where the old one goes, what ended on unknown
    terms before is given for, too.
    """

    symbol: str
    keep: float = 0.0
    cash: float = 0.0
    into: str = ""
    ratio: float = 1.0
    ex_date: date | None = None


@dataclass(frozen=True)
class Roll:
    """The next contract of a future: its close of the session before minus the old one's."""

    symbol: str
    gap: float


@dataclass(frozen=True)
class End:
    """The end of a symbol; `value`: simple return on its last close, None where the terms are unknown.

    Unknown terms are the worse for the holder: the class's for a long holding, 0 for a short one. `vendor`: the source
    ended, not the symbol, which is sold at its last close and pays for it. A symbol that trades again after either is
    sold at its first fill, and what was booked is taken back. `at_close`: after the session's fill, on its close.
    """

    symbol: str
    value: float | None = None
    vendor: bool = False
    at_close: bool = False


Event = Dividend | Exchange | Roll | End


@dataclass(frozen=True)
class Session:
    """What one session brings, arrays (symbols,) in the order of the `Instruments`; None: nothing is known.

    Attributes
    ----------
    fill, close: prices in the symbol's currency, NaN without a bar; raw, so that dividends and splits are events.
    at_open: whether orders are filled at the open, else at the close. None: at the open.
    rate: money of the book for one unit of the symbol's currency, at the close. None: 1 where that is the book's.
    deviation, usual_deviation: forecast standard deviation a session, and its mean over 63 sessions.
    volume, usual_volume: money traded in the session, and its mean over 21, in the symbol's currency.
    carry: of a pair the interest rate of its first currency less that of its second, a fraction a year.
    funding: of a perpetual contract the sum of its rates since the last session, paid by the long side.
    borrow: fraction a year that a short pays. lent: whether shorts can be borrowed, 1 or 0, NaN where nobody says.
    recalled: whether lent units are wanted back; they are bought at the session's fill.
    benchmark: interest on cash without spread, a fraction a year. None: that of the settings.
    events: booked in this order on what was held at the close before.
    """

    day: date
    fill: FloatArray
    close: FloatArray
    at_open: BoolArray | None = None
    rate: FloatArray | None = None
    deviation: FloatArray | None = None
    usual_deviation: FloatArray | None = None
    volume: FloatArray | None = None
    usual_volume: FloatArray | None = None
    carry: FloatArray | None = None
    funding: FloatArray | None = None
    borrow: FloatArray | None = None
    lent: FloatArray | None = None
    recalled: BoolArray | None = None
    benchmark: float | None = None
    events: tuple[Event, ...] = ()


def events_of(
    actions: pl.DataFrame,
    sessions: Sequence[date],
    ends: pl.DataFrame | None = None,
    rolls: pl.DataFrame | None = None,
    closes: Sequence[datetime] | None = None,
    first: Sequence[datetime] | None = None,
) -> dict[date, tuple[Event, ...]]:
    """A table of actions (`market.actions`) -> session -> the events that are booked in it, for raw bars.

    `sessions`: rising. An action is booked in the first session at or after its date, a delisting in the first after
    it; what comes after the last session is left out. `first`, `closes`: the first and the last close of each session,
    UTC. No action but a split is booked before the session by whose first close it is known, so that it is the same
    session after whichever of its closes a store decides; where that is later, who held before its date is paid.
    Splits come first, ends last. A `unit` is no event: prices are in one unit. `ends`: those that
    `market.facts.Facts.ends` finds, in place of the delistings of the table, booked in the session by whose last close
    each is known: one that is told between a close and its fill, in the next, as who decided at the close has booked
    the session already. An end that is that of a merger or of a change of symbol is none. `rolls`: columns of `ROLLS`.

    >>> table = pl.DataFrame({"symbol": ["A"], "kind": ["split"], "date": [date(2024, 1, 6)], "value": [2.0]})
    >>> table = table.with_columns(known_at=None)
    >>> events_of(table, [date(2024, 1, 5), date(2024, 1, 8)])
    {datetime.date(2024, 1, 8): (Exchange(symbol='A', keep=2.0, cash=0.0, into='', ratio=1.0, ex_date=None),)}
    """
    rows = with_terms(actions).sort("date", "symbol", "kind").to_dicts()
    gone = [(row["symbol"], row["date"]) for row in rows if row["kind"] in GOES]
    splits = [(row["symbol"], row["date"], row["value"]) for row in rows if row["kind"] == "split"]
    booked: list[tuple[date, int, Event, datetime | None]] = [
        (row["date"], 1, Roll(row["symbol"], row["gap"]), None) for row in rows_of(rolls, ROLLS, "rolls")
    ]
    for row in rows:
        if row["kind"] == "split":
            booked.append((row["date"], 0, _event_of(row), None))  # prices are on one level, whoever knew it
        elif row["kind"] == "delisting":
            if ends is None:
                booked.append((row["date"] + timedelta(days=1), 2, End(row["symbol"], row["value"]), row["known_at"]))
        elif row["kind"] != "unit":
            booked.append((row["date"], 1, _event_of(row), row["known_at"]))
    if ends is not None:
        told = ends.select(
            "symbol", "kind", "value", day=session_date(pl.col("time")), at=pl.col("known_at").cast(UTC_TIME)
        )
        for symbol, kind, value, day, at in told.sort("day", "symbol").iter_rows():
            booked.append((day, 2, End(symbol, value if kind == "known" else None, kind == "vendor"), at))
    found: dict[date, list[tuple[int, Event]]] = {}
    for day, rank, event, known_at in booked:
        place = in_time = bisect_left(sessions, day)
        by = closes if isinstance(event, End) or first is None else first
        if by is not None and known_at is not None:
            place = max(place, bisect_left(by, known_at))
        if in_time < place < len(sessions):
            event = _late(event, day, sessions[place], splits)
        merged = isinstance(event, End) and not event.vendor and event.value is not None
        if merged and any(event.symbol == symbol and abs(day - then).days <= NEAR for symbol, then in gone):
            continue
        if place < len(sessions):
            found.setdefault(sessions[place], []).append((rank, event))
    return {day: tuple(one for _, one in sorted(events, key=itemgetter(0))) for day, events in sorted(found.items())}


def _event_of(row: Mapping[str, Any]) -> Event:
    symbol, kind, value, into = row["symbol"], row["kind"], row["value"], row["into"] or ""
    if kind == "split":
        return Exchange(symbol, keep=value)
    if kind == "merger":
        return Exchange(symbol, cash=value, into=into, ratio=row["ratio"] or 1.0)
    if kind in GIVES:
        return Exchange(symbol, keep=0.0 if kind in GOES else 1.0, into=into, ratio=value)
    taxed = kind in ("dividend", "special_dividend")
    return Dividend(symbol, value, row["pay_date"], None if taxed else 0.0)


def _late(event: Event, day: date, booked: date, splits: Sequence[tuple[str, date, float]]) -> Event:
    """An event of a day that became known later, as it is booked: of the units held before the day.

    What is given is given in units of the session in which it is booked.
    """
    if isinstance(event, Dividend):
        return replace(event, ex_date=day)
    if not isinstance(event, Exchange):
        return event
    since = (value for symbol, split, value in splits if symbol == event.into and day < split <= booked)
    return replace(event, ex_date=day, ratio=event.ratio * math.prod(since))
