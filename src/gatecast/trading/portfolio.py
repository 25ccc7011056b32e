"""The book: the weight of each symbol -> one portfolio, at most fully invested."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from gatecast.errors import SettingsError
from gatecast.market.facts import Facts

SILENCE = timedelta(days=10)  # a symbol that is not held and whose last bar is older is no longer alive
INSTANT = timedelta(microseconds=1)


def make_book(weights: Any, facts: Facts, among: pl.DataFrame | None = None) -> Any:
    """Each symbol's weight divided by the number of symbols alive when it was decided.

    In: frame symbol, time, weight (decided at the close `time`, in [-1, 1]), Polars or pandas, and the facts of the
    Bars; `among`: all weights, where these are some of them. Out: the same frame with the weight in the portfolio. What
    is decided at one close has a gross exposure of at most 1.

    Raises `SettingsError` for a weight outside [-1, 1].

    >>> from datetime import datetime, timezone
    >>> from gatecast.market.bars import make_bars
    >>> from gatecast.market.facts import Facts
    >>> days = [datetime(2024, 1, day, 21, tzinfo=timezone.utc) for day in (2, 3)]
    >>> bars = make_bars(pl.DataFrame({
    ...     "symbol": ["A", "A", "B"], "time": [*days, days[1]], "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0,
    ... }))
    >>> make_book(bars.select("symbol", "time", weight=pl.lit(1.0)), Facts(bars))["weight"].to_list()
    [1.0, 0.5, 0.5]
    """
    frame = weights if isinstance(weights, pl.DataFrame) else nw.from_native(weights, eager_only=True).to_polars()
    beyond = frame.filter(~pl.col("weight").is_between(-1, 1) & pl.col("weight").is_not_nan())
    if len(beyond):
        raise SettingsError(f"weights must lie in [-1, 1], {len(beyond)} do not, the first: {beyond.row(0)}.")
    alive = symbols_alive(frame["time"], frame if among is None else among, facts)
    book = frame.with_columns(weight=pl.col("weight") / alive.clip(1))
    return book if isinstance(weights, pl.DataFrame) else book.to_pandas()


def symbols_alive(times: pl.Series, weights: pl.DataFrame, facts: Facts) -> pl.Series:
    """At each time, among how many symbols the money is divided: those that trade and those that are held.

    A symbol is alive from its first bar on, until ten days after its last; where it was held or bought at its last two
    bars it stays alive through a halt, up to the close at which its end is booked (not at it) or to its return; bars
    that clear last trades after known terms, and those outside of its universe, are none.
    Only bars, weights and ends up to that time count: that a symbol will come back, or never will, is not known then.
    """
    if times.is_empty():
        return pl.Series(times.name, [], pl.Int64)
    held, time = pl.col("weight").fill_nan(0).fill_null(0) != 0, pl.col("time")
    bars, clock = facts.bars, facts.bars.schema["time"]
    decided = weights.select("symbol", time.cast(clock), "weight")
    trading = bars.select("symbol", "time").filter(~pl.Series(facts.ended))
    table = trading.join(decided, on=["symbol", "time"], how="left").sort("symbol", "time")
    table = table.with_columns(
        held=held | held.shift().over("symbol").fill_null(False),  # an order of the last bar waits for the next
        back=time.shift(-1).over("symbol"),
    ).filter(pl.col("back").is_null() | (pl.col("back") >= times.cast(clock).min()))  # all else was over before
    table = (
        table.sort("time")
        .join_asof(
            facts.leaves.select("symbol", end=time.cast(clock)),
            left_on="time", right_on="end", by="symbol", strategy="forward", check_sortedness=False,
        )
        .sort("symbol", "time")
    )  # fmt: skip
    ends = (pl.col("end") < pl.col("back")).fill_null(False)  # that it returns soon is not known before
    stops = pl.col("back").is_null() | (pl.col("back") - time > SILENCE) | ends
    runs = (
        table.with_columns(run=stops.shift().over("symbol").fill_null(False).cum_sum().over("symbol"))
        .group_by("symbol", "run", maintain_order=True)
        .agg(pl.col("held", "back", "end").last(), since=time.min(), last=time.max())
    )
    silent = pl.when(~pl.col("held")).then(pl.col("last") + SILENCE)
    until = runs.select(until=pl.min_horizontal(silent, pl.col("end") - INSTANT, pl.col("back") - INSTANT))["until"]
    begun = runs["since"].sort().search_sorted(times.cast(clock), side="right").cast(pl.Int64)
    ended = until.drop_nulls().sort().search_sorted(times.cast(clock), side="left").cast(pl.Int64)
    return begun - ended
