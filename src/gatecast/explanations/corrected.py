"""Bars that were corrected after a decision: which, from what to what, and when that became known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.market.bars import COLUMNS, PRICES

if TYPE_CHECKING:
    from gatecast.store.state import Issued
    from gatecast.store.store import Store

KEYS = ("symbol", "time")
SHOWN = 3
"""Corrections that a sentence names, the last."""


@dataclass(frozen=True)
class Correction:
    """A bar that says something else than at a decision: its `symbol` and close `time`, the moment `known_at` of what
    it says now, and the first column that differs (of close, open, high, low, volume and further ones), `before` and
    `now`; None where there is no number."""

    symbol: str
    time: datetime
    known_at: datetime
    column: str
    before: float | None
    now: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "symbol": self.symbol, "time": self.time, "known_at": self.known_at, "column": self.column,
            "before": self.before, "now": self.now,
        }  # fmt: skip

    def __str__(self) -> str:
        before, now = ("none" if one is None else f"{one:.6g}" for one in (self.before, self.now))
        since = f"since {self.known_at:%Y-%m-%d %H:%M} UTC {now}"
        return f"{self.symbol} {self.time:%Y-%m-%d %H:%M} UTC ({self.column} {before}, {since})"


def say_corrected(found: Sequence[Correction]) -> str:
    """A sentence on the bars that were corrected since a decision; "" where none were.

    >>> from datetime import UTC
    >>> at, known = datetime(2024, 1, 2, 21, tzinfo=UTC), datetime(2024, 2, 1, 7, tzinfo=UTC)
    >>> say_corrected([Correction("SPY", at, known, "close", 100.0, 101.0)])  # doctest: +ELLIPSIS
    '1 bar was corrected since: SPY 2024-01-02 21:00 UTC (close 100, since 2024-02-01 07:00 UTC 101). What is ...'
    """
    if not found:
        return ""
    named = ", ".join(map(str, found[-SHOWN:]))
    those = f"{len(found):,} bars were" if len(found) > 1 else "1 bar was"
    some = ", among them" if len(found) > SHOWN else ""
    return f"{those} corrected since{some}: {named}. What is explained is of the bars as they were known then."


def versions_that_came_later(versions: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Of all versions of bars known by a moment (`History.versions`) those that are not the first of their row."""
    known = versions.filter(pl.col("known_at") <= moment)
    return known.filter(pl.int_range(pl.len()).over(KEYS) > 0)


def corrections_since(
    issued: Issued, symbol: str, time: datetime, store: Store, later: pl.DataFrame, bars: pl.DataFrame
) -> tuple[Correction, ...]:
    """The bars up to a close that say something else now than when a record was issued, by time, the symbol's own last.

    Those of all symbols of its class count, as forecasts of variance know the whole class.
    `later`: see `versions_that_came_later`; `bars`: those of now, on the level of `History.for_chain`.
    """
    own = pl.col("asset_class") == store.state.symbols[symbol], pl.col("time") <= time
    came = later.filter(*own, pl.col("record") > issued.record)
    if came.is_empty():
        return ()
    moment = datetime.fromisoformat(issued.now)
    then = store.as_of(moment).bars.for_chain(moment, issued.record).filter(*own)
    names = ["close", *(one for one in PRICES if one != "close"), "volume"]
    names += [one for one in bars.columns if one not in COLUMNS]
    known = came.group_by(KEYS).agg(_since=pl.col("known_at").last())
    both = then.join(bars, on=KEYS, suffix="_now").join(known, on=KEYS)
    both = both.sort(pl.col("symbol") == symbol, "time", "symbol")
    found = []
    for row in both.iter_rows(named=True):
        other = next((one for one in names if row[one] != row[f"{one}_now"]), None)
        if other is not None:
            found.append(Correction(row["symbol"], row["time"], row["_since"], other, row[other], row[f"{other}_now"]))
    return tuple(found)
