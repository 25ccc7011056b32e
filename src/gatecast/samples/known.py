"""Rows known at each decision: bars with `known_at` -> the row at which each window ends."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gatecast.market.bars import session_date
from gatecast.market.calendar import OLDEST_SESSIONS, fill_times
from gatecast.samples.arrays import to_times

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]
    IntArray = NDArray[np.int64]

NEVER = np.int64(2**31)


def delays(bars: pl.DataFrame) -> IntArray:
    """(bars,) how many bars after its own each row is known: 0 at its own fill, `NEVER` where no bar comes after it.

    `bars` sorted by symbol and time; see `market.calendar.fill_times`.

    >>> from datetime import timedelta
    >>> import polars as pl
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> late = pl.when(pl.int_range(pl.len()) == 10).then(timedelta(days=2)).otherwise(timedelta())
    >>> delays(bars.with_columns(known_at=pl.col("known_at") + late))[9:12].tolist()
    [0, 2, 0]
    """
    known_at, fill = to_times(bars, "known_at"), to_times(bars.with_columns(fill=fill_times(bars)), "fill")
    delay = np.zeros(len(bars), np.int64)
    if (known_at <= fill).all():
        return delay
    starts = np.flatnonzero(bars["symbol"].is_first_distinct().to_numpy())
    for first, last in zip(starts.tolist(), [*starts[1:].tolist(), len(bars)], strict=True):
        at = np.searchsorted(fill[first:last], known_at[first:last], side="left")
        delay[first:last] = np.where(at < last - first, np.maximum(at - np.arange(last - first), 0), NEVER)
    return delay


def read_rows(bars: pl.DataFrame, delay: IntArray, context: int) -> BoolArray:
    """(bars,) whether a row is ever read: not where it becomes known after the `context` bars that follow it.

    Of a row that is not known at the end of the bars that is not certain before so many have followed.
    """
    if not delay.any():
        return np.ones(len(bars), np.bool_)
    number = np.arange(len(bars))
    symbol = bars["symbol"].rle_id().to_numpy()
    following = np.searchsorted(symbol, symbol, side="right") - number
    used: BoolArray = np.minimum(delay, following) <= context
    return used


def window_ends(bars: pl.DataFrame, delay: IntArray, context: int) -> IntArray:
    """(bars,) the row at which the window of the decision at each bar ends: the newest known by then; -1 for none.

    None is given where that row is more than three sessions older or of another segment, and where a row among the
    `context` that end there is not known yet.
    """
    count = len(bars)
    number = np.arange(count)
    if not delay.any():
        return number
    symbol = bars["symbol"].rle_id().to_numpy().astype(np.int64)
    piece = symbol * (int(bars["segment"].max() or 0) + 1) + bars["segment"].to_numpy()  # type: ignore[arg-type]
    session = session_date(to_times(bars, "time")).astype(np.int64)
    ordinal = np.cumsum(np.r_[0, (np.diff(session) != 0) | (np.diff(symbol) != 0)])
    ever = delay < NEVER
    newest = np.full(count, -1)
    np.maximum.at(newest, number[ever] + delay[ever], number[ever])
    newest = np.maximum.accumulate(newest)
    newest[(newest < 0) | (piece[newest] != piece) | (ordinal - ordinal[newest] > OLDEST_SESSIONS)] = -1
    reach = context + int((number - newest)[newest >= 0].max(initial=0))
    hidden = np.zeros(count, np.bool_)
    for back in range(1, min(reach, count - 1) + 1):
        row = number[back:] - back
        inside = (row < newest[back:]) & (row > newest[back:] - context)
        hidden[back:] |= inside & (delay[row] > back)
    newest[hidden] = -1
    return newest


def known_so_far(bars: pl.DataFrame, used: BoolArray | None = None, context: int = 0) -> NDArray[np.datetime64]:
    """(bars,) when all rows of the symbol up to each one are known; those not `used` count for `context` bars alone."""
    known_at = to_times(bars, "known_at")
    symbol = bars["symbol"].rle_id().to_numpy()
    latest = known_at.copy() if used is None else np.where(used, known_at, np.datetime64("1678-01-01", "us"))
    for first, last in pairwise(np.flatnonzero(np.diff(symbol.astype(np.int64), prepend=-1, append=-1)).tolist()):
        latest[first:last] = np.maximum.accumulate(latest[first:last])
    for row in [] if used is None else np.flatnonzero(~used).tolist():
        near = slice(row, min(row + context, int(np.searchsorted(symbol, symbol[row], side="right"))))
        latest[near] = np.maximum(latest[near], known_at[row])
    return latest
