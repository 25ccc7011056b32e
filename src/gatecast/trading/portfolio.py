"""From each symbol's weight to the book: one portfolio of all symbols, never more than fully invested."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import narwhals.stable.v2 as nw
import polars as pl

from gatecast.errors import SettingsError

SILENCE = timedelta(days=10)  # a symbol whose last bar is older is no longer counted as alive


def make_book(weights: Any, bars: pl.DataFrame) -> Any:
    """Each symbol's weight divided by the number of symbols alive when it was decided.

    In: frame symbol, time, weight (decided at the close `time`, in [-1, 1]), Polars or pandas, and the
    Bars. Out: the same frame with the weight in the portfolio. Gross exposure is at most 1, since no weight
    exceeds 1.

    Raises `SettingsError` for a weight outside [-1, 1].

    >>> from datetime import datetime, timezone
    >>> days = [datetime(2024, 1, day, 21, tzinfo=timezone.utc) for day in (2, 3)]
    >>> bars = pl.DataFrame({"symbol": ["A", "A", "B"], "time": [*days, days[1]]})
    >>> make_book(bars.with_columns(weight=pl.lit(1.0)), bars)["weight"].to_list()
    [1.0, 0.5, 0.5]
    """
    frame = weights if isinstance(weights, pl.DataFrame) else nw.from_native(weights, eager_only=True).to_polars()
    beyond = frame.filter(~pl.col("weight").is_between(-1, 1) & pl.col("weight").is_not_nan())
    if len(beyond):
        raise SettingsError(f"weights must lie in [-1, 1], {len(beyond)} do not, the first: {beyond.row(0)}.")
    alive = symbols_alive(frame["time"], bars)
    book = frame.with_columns(weight=pl.col("weight") / alive.clip(1))
    return book if isinstance(weights, pl.DataFrame) else book.to_pandas()


def symbols_alive(times: pl.Series, bars: pl.DataFrame) -> pl.Series:
    """At each time, how many symbols have begun and have shown a bar within the last ten days.

    Only bars up to that time are asked: that a symbol will come back, or never will, is not known then.
    """
    runs = (
        bars.select("symbol", "time")
        .sort("symbol", "time")
        .with_columns(run=(pl.col("time").diff() > SILENCE).fill_null(False).cum_sum().over("symbol"))
        .group_by("symbol", "run")
        .agg(since=pl.col("time").min(), until=pl.col("time").max() + SILENCE)
    )
    times = times.cast(runs.schema["since"])
    begun = runs["since"].sort().search_sorted(times, side="right").cast(pl.Int64)
    ended = runs["until"].sort().search_sorted(times, side="left").cast(pl.Int64)
    return begun - ended
