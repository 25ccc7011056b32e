"""Simulated markets without predictability: dead and halted symbols, stale prices, irregular calendars.

Every function gives a Bars frame of about `bars` sessions (`hourly`: bars) from a seed, which decides everything. Where
a market has variants, the seed's remainder chooses: runs of many seeds have each as often. They are made of
`synthetic.a1`, a walk of 1 % a day, and of a second stream of random numbers for what is done to it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from gatecast.market import synthetic
from gatecast.market.bars import make_bars
from gatecast.market.classes import asset_class

FloatArray = NDArray[np.float64]

BARS = 1750  # seven years of business days
SCALE = 0.01  # standard deviation of a session's log return
HOURLY_BARS = 3000
HOURLY_SCALE = 0.004  # standard deviation of an hour's log return, in the root mean square over the session
U_SHAPE = (2.2, 1.1, 0.6, 0.4, 0.5, 0.8, 1.4)  # variance of each bar of a session, 1 in the mean


def dead(seed: int, bars: int = BARS) -> pl.DataFrame:
    """Two walks beside a symbol whose price stands still, with or without volume; or one of five, still from bar 500.

    >>> dead(0)["volume"].filter(dead(0)["symbol"] == "DEAD").unique().to_list()
    [0.0]
    """
    variant = seed % 3
    walks = synthetic.a1(bars, seed, SCALE, symbols=5 if variant == 2 else 3)
    last = walks["symbol"].unique().sort()[-1]
    begin = 500 if variant == 2 else 0
    own = walks.filter(pl.col("symbol") == last).with_row_index("row")
    still = pl.col("row") >= begin
    price = own["close"][max(begin - 1, 0)]
    prices = [pl.when(still).then(price).otherwise(name).alias(name) for name in ("open", "high", "low", "close")]
    volume = pl.col("volume") if variant == 1 else pl.when(still).then(0.0).otherwise("volume").alias("volume")
    own = own.with_columns(*prices, volume, symbol=pl.lit("DEAD")).drop("row")
    return make_bars(pl.concat([walks.filter(pl.col("symbol") != last), own]))


def halts(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A walk with 20 halts of 8 to 20 sessions, that reopens 15 % lower (odd seeds) or where the walk has come to."""
    rng = _draws("halts", seed)
    walk = synthetic.a1(bars, seed, SCALE)
    space = bars // 21
    begins = space * np.arange(1, 21) + rng.integers(-space // 8, space // 8 + 1, 20)
    lengths = rng.integers(8, 21, 20)
    row = np.arange(bars)
    gone = ((row[:, None] >= begins) & (row[:, None] < begins + lengths)).any(1)
    fall = 0.85 if seed % 2 else 1.0
    factor = fall ** (row[:, None] >= begins + lengths).sum(1)
    prices = [(pl.col(name) * pl.Series(factor)).alias(name) for name in ("open", "high", "low", "close")]
    return make_bars(walk.with_columns(*prices).filter(pl.Series(~gone)).drop("segment"))


def pegged(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A price that stands at its peg on 70 % of days and moves by one tick of .02 % up or down on the others."""
    rng = _draws("pegged", seed)
    moves = 2e-4 * rng.choice([-1, 0, 1], bars, p=[0.15, 0.7, 0.15])
    return _flat(moves, seed, asset_class_name="fx")


def coarse(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A walk of 1 % a day near 10, quoted in ticks of .1 (even seeds) or .05."""
    walk = synthetic.a1(bars, seed, SCALE)
    tick = 0.05 if seed % 2 else 0.1
    closes = np.maximum(np.round(walk["close"].to_numpy() / 10 / tick), 1) * tick
    return _flat(np.diff(np.log(closes), prepend=np.log(closes[0])), seed, first=float(closes[0]))


def cash(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A fund that accrues 3 % a year, with noise of .0002 % a day."""
    moves = 0.03 / 252 + 2e-6 * _draws("cash", seed).standard_normal(bars)
    return _flat(moves, seed, asset_class_name="equity")


def smoothed(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A fund priced by appraisal: .7 of a walk's return now and .3 a day later (even seeds), or .5, .3 and .2."""
    walk = synthetic.a1(bars, seed, SCALE)
    shares = (0.5, 0.3, 0.2) if seed % 2 else (0.7, 0.3)
    return _with_closes(walk, np.cumsum(np.convolve(_returns(walk), shares)[:bars]))


def bounced(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A walk whose last trade is at the bid or the ask, half a per cent (even seeds) or a quarter from the middle."""
    walk = synthetic.a1(bars, seed, SCALE)
    half = 0.0025 if seed % 2 else 0.005
    side = _draws("bounced", seed).choice([-1.0, 1.0], bars)
    return _with_closes(walk, np.cumsum(_returns(walk)) + half * side)


def stale(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A walk whose close is repeated on 30 % of days and catches up on the next day with a trade."""
    walk = synthetic.a1(bars, seed, SCALE)
    traded = _draws("stale", seed).random(bars) >= 0.3
    traded[0] = True
    last = np.maximum.accumulate(np.where(traded, np.arange(bars), 0))
    moved = _with_closes(walk, np.cumsum(_returns(walk))[last])
    flat = [pl.when(pl.Series(~traded)).then("close").otherwise(name).alias(name) for name in ("open", "high", "low")]
    return moved.with_columns(*flat)


def rolls(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A future spliced without adjustment: every 63 bars the price jumps by 1 % on average, give or take 1 %."""
    walk = synthetic.a1(bars, seed, SCALE)
    jump = np.where(np.arange(bars) % 63 == 62, 0.01 + 0.01 * _draws("rolls", seed).standard_normal(bars), 0.0)
    return _with_closes(walk, np.cumsum(_returns(walk) + jump)).with_columns(asset_class=pl.lit("commodity"))


def asynchronous(seed: int, bars: int = BARS) -> pl.DataFrame:
    """Two symbols of one factor, of which the first closes seven hours earlier: it has 70 % of the day's news."""
    rng = _draws("asynchronous", seed)
    early, late = (rng.standard_normal(bars) * np.sqrt(part) for part in (0.7, 0.3))
    own = 0.6 * rng.standard_normal((2, bars))
    moves = (early + np.r_[0.0, late[:-1]] + own[0], early + late + own[1])
    frames = [
        _with_closes(synthetic.a1(bars, seed, SCALE, symbols=2).filter(pl.col("symbol") == f"A1_{number}"), path)
        for number, path in enumerate(SCALE * np.cumsum(one) for one in moves)
    ]
    shift = pl.duration(hours=7)
    frames[0] = frames[0].with_columns(pl.col("time") - shift, pl.col("known_at") - shift)
    return make_bars(pl.concat(frames))


def missing_days(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A currency pair with short sessions on Sundays, of whose days one in twenty is missing."""
    rng = _draws("missing", seed)
    days = np.datetime64("2000-01-03") + np.arange(int(bars * 1.3))
    weekday = (days.astype(np.int64) + 3) % 7  # Monday is 0
    days = days[weekday != 5][: int(bars * 1.05)]
    sunday = (days.astype(np.int64) + 3) % 7 == 6
    moves = np.where(sunday, 0.002, 0.006) * rng.standard_normal(len(days))
    made = _flat(moves, seed, asset_class_name="fx", days=days, wide=True)
    return make_bars(made.filter(pl.Series(rng.random(len(made)) >= 0.05)).drop("segment"))


def trend(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A walk that drifts by .15 standard deviations a bar."""
    return synthetic.a3(bars, seed, SCALE, drift=0.15)


def walk(seed: int, bars: int = BARS) -> pl.DataFrame:
    """A plain walk."""
    return synthetic.a1(bars, seed, SCALE)


def garch(seed: int, bars: int = BARS) -> pl.DataFrame:
    """GARCH with t5 innovations: the variance can be forecast, returns cannot."""
    return synthetic.a2(bars, seed, SCALE).drop("h_true")


def hourly(seed: int, bars: int = HOURLY_BARS, market: Callable[..., pl.DataFrame] = synthetic.a1) -> pl.DataFrame:
    """Two walks in seven bars a session whose variance is a U over the session, half-days without the last four bars.

    The clock is New York's, so that the hours of UTC change twice a year; a column `hour` counts the session's bars
    from 0. `bars` of each symbol before half-days; `market` is what the U is laid over.

    References
    ----------
    Wood, McInish and Ord (1985), Journal of Finance 40; Andersen and Bollerslev (1997), Journal of Empirical Finance 4.

    >>> made = hourly(0, bars=700)
    >>> made["hour"].max(), made.filter(pl.col("symbol") == "A1_0").height <= 700
    (6.0, True)
    """
    hour = np.arange(bars) % len(U_SHAPE)
    session = np.arange(bars) // len(U_SHAPE)
    half = _draws("hourly", seed).random(session[-1] + 1) < 0.02
    days = np.busday_offset(synthetic.FIRST_SESSION, session)
    clock = pl.col("day").cast(pl.Datetime("us")) + pl.duration(hours=10 + pl.col("hour"))
    frames = []
    for _, own in market(bars, seed, HOURLY_SCALE, symbols=2).group_by("symbol", maintain_order=True):
        logs = np.log(own.select("open", "high", "low", "close").to_numpy())
        before = np.r_[np.log(synthetic.FIRST_CLOSE), logs[:-1, 3]]
        stretched = (logs - before[:, None]) * np.sqrt(np.array(U_SHAPE)[hour, None])
        path = np.cumsum(stretched[:, 3])
        new = synthetic.FIRST_CLOSE * np.exp(np.r_[0.0, path[:-1]][:, None] + stretched)
        moved = own.with_columns(
            *(pl.Series(name, new[:, at]) for at, name in enumerate(("open", "high", "low", "close"))),
            day=pl.Series(days), hour=pl.Series(hour.astype(float)),
        ).with_columns(time=clock.dt.replace_time_zone("America/New_York").dt.convert_time_zone("UTC"))  # fmt: skip
        moved = moved.filter(pl.Series(~(half[session] & (hour >= 3)))).with_columns(known_at=pl.col("time"))
        frames.append(moved.drop("day", "segment"))
    return make_bars(pl.concat(frames))


# ── what they are made of ─────────────────────────────────────────────────────────────────────────


def _draws(name: str, seed: int) -> Generator:
    return np.random.default_rng(SeedSequence(seed, spawn_key=(int.from_bytes(name.encode()),)))


def _returns(bars: pl.DataFrame) -> FloatArray:
    """(bars,) log returns of one symbol from close to close, the first from 100."""
    return np.diff(np.log(bars["close"].to_numpy()), prepend=np.log(synthetic.FIRST_CLOSE))


def _with_closes(bars: pl.DataFrame, path: FloatArray) -> pl.DataFrame:
    """One symbol's bars with closes 100 exp(path): opens and ranges stay as far from them as they were."""
    open_, high, low, close = bars.select("open", "high", "low", "close").to_numpy().T
    new = synthetic.FIRST_CLOSE * np.exp(path)
    before, new_before = np.r_[synthetic.FIRST_CLOSE, close[:-1]], np.r_[synthetic.FIRST_CLOSE, new[:-1]]
    new_open = new_before * open_ / before
    return bars.with_columns(
        open=pl.Series(new_open),
        high=pl.Series(np.maximum(new_open, new) * high / np.maximum(open_, close)),
        low=pl.Series(np.minimum(new_open, new) * low / np.minimum(open_, close)),
        close=pl.Series(new),
    )


def _flat(
    moves: FloatArray,
    seed: int,
    asset_class_name: str = "index",
    first: float = 1.0,
    days: NDArray[np.datetime64] | None = None,
    wide: bool = False,
) -> pl.DataFrame:
    """Bars that open at the close before and range no further than the two; `wide`: a third of a move further."""
    rng = _draws("flat", seed)
    count = len(moves)
    close = first * np.exp(np.cumsum(moves))
    before = np.r_[first, close[:-1]]
    further = np.abs(rng.standard_normal((2, count))) * np.abs(moves) / 3 if wide else np.zeros((2, count))
    if days is None:
        days = np.busday_offset(synthetic.FIRST_SESSION, np.arange(count))
    frame = pl.DataFrame(
        {
            "symbol": np.full(count, "NULL"),
            "asset_class": np.full(count, asset_class_name),
            "session": days,
            "open": before,
            "high": np.maximum(before, close) * np.exp(further[0]),
            "low": np.minimum(before, close) * np.exp(-further[1]),
            "close": close,
            "volume": np.exp(rng.standard_normal(count)),
        }
    )
    closes = asset_class(asset_class_name).close_of(pl.col("session")).alias("time")
    return make_bars(frame.with_columns(closes).drop("session"))
