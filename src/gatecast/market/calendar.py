"""Facts of a market's calendar that later bars never change: sessions a year, bars a session, gaps, listings.

Each is read from a symbol's or a class's first bars, or from the bars up to the one it is said of.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from gatecast.market.bars import session_date
from gatecast.market.classes import ASSET_CLASSES, asset_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST = 20  # spacings or sessions that a usual spacing or a usual session is the median of
OPENING = timedelta(days=60)  # in which most markets have that many
LONGEST_HALT = 60  # sessions without a bar; after more the symbol has ended, and what comes back is a new listing
NIGHT = timedelta(hours=4)  # a longer break inside a market's week starts a new session
ROUND_THE_CLOCK = timedelta(hours=1)  # a class that pauses no longer has no first bar of a session
WITHIN_SESSION = timedelta(hours=20)  # bars closer than that follow each other within a session
OLDEST_SESSIONS = 3  # a window may end at a row that is so many sessions older than the decision, not at an older one
OTHER_LEVEL = 5.0  # a price this many times another across a gap is another instrument's


def usual_spacing(bars: pl.DataFrame) -> timedelta | None:
    """Time between two bars of a symbol, the median of its first 20; of several that of those that begin first."""
    first = pl.col("time").bottom_k(FIRST + 1).sort()
    steps = (
        bars.group_by("symbol")
        .agg(first.diff().median(), since=pl.col("time").min())
        .filter(pl.col("since") == pl.col("since").min())
    )
    return cast(timedelta | None, steps["time"].median())


def bars_per_session(bars: pl.DataFrame) -> float:
    """Bars of a usual session: the median over the first 20 sessions, of which the last may still go on.

    >>> from gatecast.market import synthetic
    >>> bars_per_session(synthetic.a1(100, seed=1))
    1.0
    """
    day = session_date(pl.col("time"))
    opening = bars.filter(pl.col("time") < pl.col("time").min() + OPENING)
    if opening.select(day.n_unique()).item() > FIRST + 1:  # the last of them may go on
        bars = opening
    counted = bars.group_by("symbol", day.alias("day")).len()
    days = counted["day"].unique().sort().head(FIRST + 1)
    over = days.head(FIRST) if len(days) > 1 else days
    found = counted.filter(pl.col("day").is_in(over.implode()))["len"].median()
    return cast(float, found) if found is not None else 1.0


def session_minutes(bars: pl.DataFrame) -> pl.Series:
    """(bars,) the place of each bar in its session, in minutes, Float64; 0 where bars are days or longer.

    Minutes from the close of the session's first bar, so that summer time changes nothing; a break of more than four
    hours ends a session. Of a class that trades round the clock it is the time of day in its time zone. Known
    at the bar, whatever bars come later. `bars` of one asset class, sorted by symbol and time.

    >>> from datetime import datetime, timezone
    >>> from gatecast.market.bars import make_bars
    >>> closes = [datetime(2024, 3, day, hour, tzinfo=timezone.utc) for day in (7, 8) for hour in (15, 16, 18)]
    >>> closes += [datetime(2024, 3, 11, hour, tzinfo=timezone.utc) for hour in (14, 15, 17)]  # New York's summer time
    >>> bars = make_bars(pl.DataFrame({
    ...     "symbol": "A", "time": closes, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0,
    ... }))
    >>> session_minutes(bars).to_list()
    [0.0, 60.0, 180.0, 0.0, 60.0, 180.0, 0.0, 60.0, 180.0]
    """
    spacing, known = usual_spacing(bars), asset_class(bars["asset_class"][0]) if len(bars) else None
    time = pl.col("time")
    if spacing is None or known is None or spacing > WITHIN_SESSION:
        minutes = pl.lit(0.0)
    elif known.pause <= ROUND_THE_CLOCK:
        local = time.dt.convert_time_zone(known.timezone).dt.round("1m")
        minutes = local.dt.hour().cast(pl.Float64) * 60 + local.dt.minute()
    else:
        starts = (time.diff().over("symbol") > NIGHT).fill_null(True)
        first = pl.when(starts).then(time).forward_fill().over("symbol")
        minutes = ((time - first) / timedelta(minutes=1)).round()
    return bars.select(pl.repeat(0.0, pl.len()).alias("minutes") + minutes).to_series()


def sessions_of(bars: pl.DataFrame) -> float:
    """Sessions a year: the class's own number (the mean over classes), or that of weeks or months for such bars.

    >>> from gatecast.market import synthetic
    >>> daily = synthetic.a1(500, seed=1)
    >>> sessions_of(daily), sessions_of(daily[::5])
    (252.0, 52.0)
    """
    spacing = usual_spacing(bars)
    if spacing is not None and spacing > timedelta(days=4):
        return float(round(timedelta(days=365.25) / spacing))
    return float(np.mean([asset_class(name).periods_per_year for name in bars["asset_class"].unique().sort()]))


def periods_of(bars: pl.DataFrame) -> float:
    """Bars a year of one symbol: `sessions_of` times `bars_per_session`."""
    return sessions_of(bars) * bars_per_session(bars)


def missed_sessions(bars: pl.DataFrame) -> pl.Series:
    """(bars,) where a gap ends, the sessions without a bar since the symbol's bar before; elsewhere 0.

    A gap is where a segment starts. Sessions are weekdays, for markets that never close days. `bars` sorted by symbol
    and time.

    >>> from datetime import datetime, timezone
    >>> from gatecast.market.bars import make_bars
    >>> day = lambda d: datetime(2024, 1, d, 21, tzinfo=timezone.utc)
    >>> bars = make_bars(pl.DataFrame({
    ...     "symbol": "A", "time": [day(2), day(3), day(30)], "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0,
    ... }))
    >>> missed_sessions(bars).to_list()
    [0, 0, 18]
    """
    missed = np.zeros(len(bars), np.int32)
    rows = _after_gaps(bars)
    days_of = bars.select("asset_class", day=session_date(pl.col("time")))
    before, ends = days_of[rows - 1], days_of[rows]
    every_day = [name for name, known in ASSET_CLASSES.items() if known.periods_per_year == 365]
    since, day = pl.col("before"), pl.col("day")
    days = pl.when(pl.col("asset_class").is_in(every_day)).then((day - since).dt.total_days() - 1)
    counted = days.otherwise(pl.business_day_count(since.dt.offset_by("1d"), day)).clip(lower_bound=0).cast(pl.Int32)
    missed[rows] = ends.with_columns(before=before["day"]).select(counted).to_series().to_numpy()
    return pl.Series("missed", missed)


def _after_gaps(bars: pl.DataFrame) -> NDArray[np.intp]:
    """The rows at which a symbol's segment, but not its first, starts. `bars` sorted by symbol and time."""
    symbol, segment = pl.col("symbol"), pl.col("segment")
    starts = (symbol == symbol.shift()) & (segment != segment.shift())
    return np.flatnonzero(bars.select(starts.fill_null(False)).to_series().to_numpy())


def listings(bars: pl.DataFrame) -> pl.Series:
    """(bars,) the number of each bar's listing, 0, 1, ... per symbol: within one, what is held is held through gaps.

    A new listing begins after more than 60 sessions without a bar, and where the price after a gap is five times the
    one before or a fifth of it: that is another instrument under the name. `bars` sorted by symbol and time.
    """
    rows = _after_gaps(bars)
    close = bars["close"]
    jump = (close[rows] / close[rows - 1]).log().abs() > float(np.log(OTHER_LEVEL))
    starts = np.zeros(len(bars), np.int32)
    starts[rows] = (missed_sessions(bars).to_numpy()[rows] > LONGEST_HALT) | jump.to_numpy()
    number = np.cumsum(starts, dtype=np.int32)
    first = np.flatnonzero(bars.select(pl.col("symbol").ne_missing(pl.col("symbol").shift())).to_series().to_numpy())
    of_symbol = np.repeat(number[first], np.diff(np.r_[first, len(bars)])) if len(bars) else number
    return pl.Series("listing", number - of_symbol)


def deadlines(bars: pl.DataFrame) -> pl.Series:
    """(bars,) until when a decision at each close can be issued: the fill, where that is the close half a bar later.

    `bars` sorted by symbol and time.

    >>> from gatecast.market import synthetic
    >>> coins = synthetic.a1(30, seed=1).with_columns(asset_class=pl.lit("crypto"))
    >>> deadlines(coins)[0] - coins["time"][0]
    datetime.timedelta(seconds=43200)
    """
    usual = pl.col("time").head(FIRST + 1).diff().median().over("symbol").fill_null(timedelta())
    half = pl.when(pl.col("_fill") > pl.col("time")).then("_fill").otherwise(pl.col("time") + usual / 2)
    return bars.with_columns(_fill=fill_times(bars)).select(half.alias("deadline")).to_series()


def fill_times(bars: pl.DataFrame) -> pl.Series:
    """(bars,) by when a row must be known to take part in the decision at its close: no later than the next open.

    Where trading goes on at the close (markets that never close; bars within a session) that is the close itself. Where
    a session ends it is half a bar later, or the class's `pause` where that is shorter. A bar's length is the symbol's
    usual spacing, the median of its first 20. `bars` sorted by symbol and time.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> fill_times(bars)[0] - bars["time"][0]
    datetime.timedelta(seconds=43200)
    >>> coins = bars.with_columns(asset_class=pl.lit("crypto"))
    >>> fill_times(coins)[0] - coins["time"][0]
    datetime.timedelta(0)
    """
    usual = pl.col("time").head(FIRST + 1).diff().median().over("symbol")
    pause = pl.col("asset_class").replace_strict(
        {name: known.pause for name, known in ASSET_CLASSES.items()}, return_dtype=pl.Duration("us")
    )
    wait = pl.when(usual > WITHIN_SESSION).then(pl.min_horizontal(usual / 2, pause)).otherwise(timedelta())
    return bars.select((pl.col("time") + wait).alias("fill")).to_series()
