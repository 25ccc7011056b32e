"""Steps of newest bars that look like a split, or like pence for pounds; and splits as factors beside raw bars.

Nothing is repaired: who lives from day to day lets such a bar wait until somebody says what it is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import polars as pl

from gatecast.market.actions import LEVELS, PAYS
from gatecast.market.bars import (
    COLUMNS,
    PRICES,
    SIGMA_BARS,
    SPLIT_RATIOS,
    SPLIT_TOLERANCE,
    make_bars,
    session_date,
    session_of,
)

RATIOS = (1.5, *SPLIT_RATIOS)
"""Ratios of splits, and their inverses, that a step of newest bars is compared with."""
ROOM_SIGMAS, ROOM_LARGEST = 2.0, 0.10
"""Standard deviations, and log return, by which the open may miss a ratio; the least room is `SPLIT_TOLERANCE`."""
LASTS = 0.7
"""Share of the step, in logs, by which each of the bar's prices has moved."""
FAR_SIGMAS = 6.0
"""Standard deviations of the hundred bars before by which each of the bar's prices has moved."""
FEWEST_BARS = 20
"""Bars from which on a standard deviation is known."""
MARKET_LARGEST = math.log(4)
"""Log return that no whole market moves by in a bar; a symbol's own step beyond it waits whatever its ratio."""
MARKET_SHARE, MARKET_LEAST, MARKET_ALIKE = 0.25, 2, 0.5
"""Share and number of the class's other symbols that show a move of the market, by this share of the step."""
PENCE = 100.0
Level = Literal["newest", "first"]
"""Which of a symbol's bars is on the level that splits and other units brought all to: that of a file, of a store."""


@dataclass(frozen=True)
class Step:
    """A bar that looks like the first after a split: symbol, close (UTC), the close before, and its open.

    `ratio`: of the split that it looks like: 2 is two for one, 0.1 one for ten.
    """

    symbol: str
    time: datetime
    ratio: float
    was: float
    opens: float

    @property
    def day(self) -> date:
        """The session."""
        return session_of(self.time)

    @property
    def sentence(self) -> str:
        """What it looks like, in words.

        >>> Step("A", datetime(2024, 1, 2, 21), 10.0, 50.0, 5.1).sentence
        "'A' opens at 5.1 on 2024-01-02 after a close of 50, the 0.102-fold: a split, 10 for 1?"
        """
        fold = self.opens / self.was
        return (
            f"{self.symbol!r} opens at {self.opens:g} on {self.day} after a close of {self.was:g}, "
            f"the {fold:.3g}-fold: {_question(self.ratio)}"
        )


def _question(ratio: float) -> str:
    many = max(ratio, 1 / ratio)
    words = "3 for 2" if math.isclose(many, 1.5) else f"{many:g} for 1"
    if ratio < 1:
        words = " for ".join(reversed(words.split(" for ")))
    return "pence and pounds, or a split?" if math.isclose(many, PENCE) else f"a split, {words}?"


def doubtful_steps(known: pl.DataFrame, newer: pl.DataFrame) -> list[Step]:
    """The first bar of each symbol after its last known one that looks like a split and not like a move; sorted.

    In: two Bars frames, of which `newer` has rows after the last ones of `known`; symbols that are not known have none.
    A bar looks like a split where

    - its open is a ratio of `RATIOS`, or an inverse, away from the close before: within two standard deviations of the
      log returns of the hundred bars before, at least 3.5 and at most 10 %; or four-fold away and more, whatever the
      ratio;
    - its high, low and close have moved with it, each by 70 % of the step, so that the bar does not overlap the close
      before, and each by six of these standard deviations;
    - the market has not moved: fewer than a quarter of the class's other symbols (or two) have moved the same way at
      the same close by half the step. No market moves four-fold.

    An open that repeats the close before is no price of its own, and the close stands for all four. Bars across a gap
    are not compared.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> halved = bars[299:].with_columns(pl.col("open", "high", "low", "close") / 2)
    >>> [step.ratio for step in doubtful_steps(bars[:299], halved)], doubtful_steps(bars[:299], bars[299:])
    ([2.0], [])
    """
    tail = known.select(COLUMNS).group_by("symbol", maintain_order=True).tail(SIGMA_BARS + 1)
    last = tail.group_by("symbol").agg(_last=pl.col("time").max())
    fresh = newer.select(COLUMNS).join(last, on="symbol").filter(pl.col("time") > pl.col("_last")).drop("_last")
    if fresh.is_empty():
        return []
    over = ("symbol", "segment")
    previous = pl.col("close").shift().over(over)
    move = (pl.col("close") / previous).log()
    rows = make_bars(pl.concat([tail, fresh])).with_columns(_was=previous, _move=move)
    rows = rows.with_columns(
        _sigma=pl.col("_move").rolling_std(SIGMA_BARS, min_samples=FEWEST_BARS).shift().over(over)
    ).join(last, on="symbol", maintain_order="left")
    new = rows.filter(pl.col("time") > pl.col("_last"), pl.col("_sigma") > 0)
    ratios = _ratios(new)
    found = new.with_columns(_ratio=pl.Series(ratios, dtype=pl.Float64)).filter(pl.col("_ratio").is_finite())
    steps: dict[str, Step] = {}
    for row in found.iter_rows(named=True):
        if row["symbol"] not in steps and not _market_moved(rows, row):
            steps[row["symbol"]] = Step(row["symbol"], row["time"], row["_ratio"], row["_was"], row["open"])
    return [steps[symbol] for symbol in sorted(steps)]


def _ratios(bars: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(bars,) the ratio that each bar's step looks like, NaN for none; `_was` is the close before, `_sigma` its s.d."""
    was, sigma = (bars[name].to_numpy() for name in ("_was", "_sigma"))
    steps = np.log(bars.select(PRICES).to_numpy() / was[:, None])
    repeats = bars["open"].to_numpy() == was
    steps[repeats] = steps[repeats, -1:]
    named = np.array([*RATIOS, *(1 / ratio for ratio in RATIOS)])
    apart = np.abs(steps[:, :1] + np.log(named))
    nearest = named[apart.argmin(axis=1)]
    room = np.clip(ROOM_SIGMAS * sigma, SPLIT_TOLERANCE, ROOM_LARGEST)
    least = (steps * -np.sign(np.log(nearest))[:, None]).min(axis=1)  # of the way in the step's direction
    looks = (apart.min(axis=1) <= room) & (least >= LASTS * np.abs(np.log(nearest)))
    looks |= least >= MARKET_LARGEST
    return np.where(looks & (least > FAR_SIGMAS * sigma), nearest, np.nan)


def _market_moved(rows: pl.DataFrame, row: Mapping[str, Any]) -> bool:
    """Whether so many others of the class moved alike at the same close that it is no split of one symbol."""
    step = math.log(row["open"] / row["_was"])
    if abs(step) > MARKET_LARGEST:
        return False
    others = rows.filter(pl.col("asset_class") == row["asset_class"], pl.col("symbol") != row["symbol"])
    moves = others.filter(pl.col("time") == row["time"])["_move"].drop_nulls()
    alike = (moves * math.copysign(1.0, step) >= MARKET_ALIKE * abs(step)).sum()
    return alike >= max(MARKET_LEAST, MARKET_SHARE * others["symbol"].n_unique())


# ── splits as factors beside raw bars ─────────────────────────────────────────────────────────────


def on_one_level(bars: pl.DataFrame, actions: pl.DataFrame, *, back: bool = False) -> pl.DataFrame:
    """Raw bars with the prices from each split or other unit on times its value: all on the level of the first.

    `actions`: see `market.actions`; volume is divided by the ratios of splits. `back`: from that level to raw bars.

    >>> from gatecast.market import synthetic
    >>> bars, day = synthetic.a1(9, seed=1), date(2000, 1, 12)
    >>> split = pl.DataFrame({"symbol": bars["symbol"][:1], "kind": ["split"], "date": [day], "value": [2.0]})
    >>> (on_one_level(bars, split)["close"] / bars["close"]).to_list()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    price, volume = factors(bars, actions, LEVELS), factors(bars, actions, LEVELS[:1])
    if price is None and volume is None:
        return bars
    ones = pl.repeat(1.0, len(bars), eager=True)
    by = [ones if one is None else 1 / one if back else one for one in (price, volume)]
    return bars.with_columns(pl.col(PRICES) * by[0], pl.col("volume") / by[1])


def factors(bars: pl.DataFrame, actions: pl.DataFrame, kinds: Sequence[str] = LEVELS) -> pl.Series | None:
    """(bars,) the product of the values of the symbol's actions up to each bar's session; None where there are none."""
    listed = _of_level(actions, bars, kinds)
    factor = pl.lit(1.0)
    for symbol, day, ratio in listed.select("symbol", "date", "value").iter_rows():
        from_then = (pl.col("symbol") == symbol) & (session_date(pl.col("time")) >= day)
        factor = factor * pl.when(from_then).then(ratio).otherwise(1.0)
    return None if listed.is_empty() else bars.with_columns(_factor=factor)["_factor"]


def _of_level(actions: pl.DataFrame, bars: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """The actions of the symbols of bars that change the level of prices."""
    own = bars["symbol"].unique().implode()
    return actions.filter(pl.col("kind").is_in(kinds), pl.col("value") != 1, pl.col("symbol").is_in(own))


def brought_to_level(known: pl.DataFrame, newer: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Newer bars on the level of the known ones, which are on one level: see `on_one_level`.

    A vendor's file has raw bars, or a history that was re-based for the splits up to its last bar. The common bars
    before a symbol's last action tell which; where there are none, both are the same.
    """
    raw = on_one_level(newer, actions)
    if raw is newer:
        return newer
    newest = newer.with_columns(time=pl.col("time").max().over("symbol"))  # as if all were of the last session
    ends = _of_level(actions, newer, LEVELS).group_by("symbol").agg(_day=pl.col("date").max())
    rebased = newer.with_columns(on_one_level(newest, actions).select(*PRICES, "volume"))
    both = newer.select("symbol", "time", _raw=raw["close"], _rebased=rebased["close"]).join(ends, on="symbol")
    both = both.join(known.select("symbol", "time", _was="close"), on=["symbol", "time"])
    apart = [(pl.col(name) / pl.col("_was")).log().abs().median() for name in ("_raw", "_rebased")]
    told = both.filter(session_date(pl.col("time")) < pl.col("_day")).group_by("symbol").agg(other=apart[1] < apart[0])
    other = pl.col("symbol").is_in(told.filter("other")["symbol"].implode())
    return pl.concat([rebased.filter(other), raw.filter(~other)]).sort("symbol", "time")


def splits_so_far(actions: pl.DataFrame, days: Sequence[date], symbols: Sequence[str]) -> np.ndarray[Any, Any]:
    """(days + 1, symbols) the product of the ratios of each symbol's splits up to each day; in the last row of all.

    >>> split = pl.DataFrame({"symbol": ["A"], "kind": ["split"], "date": [date(2024, 1, 3)], "value": [2.0]})
    >>> splits_so_far(split, [date(2024, 1, 2), date(2024, 1, 3)], ["A"]).ravel().tolist()
    [1.0, 2.0, 2.0]
    """
    places = {symbol: place for place, symbol in enumerate(symbols)}
    found = np.ones((len(days) + 1, len(symbols)))
    splits = actions.filter(pl.col("kind") == "split").sort("date", "symbol")
    for symbol, day, ratio in splits.select("symbol", "date", "value").iter_rows():
        if symbol in places:
            found[bisect_left(days, day) :, places[symbol]] *= ratio
    return found


def in_one_unit(actions: pl.DataFrame, level: Level) -> pl.DataFrame:
    """Actions without those of the kind `unit`, and money a share in the unit of prices on one level.

    >>> told = {"symbol": ["A", "A"], "kind": ["dividend", "unit"], "value": [0.5, 0.01]}
    >>> table = pl.DataFrame({**told, "date": [date(2024, 1, 2), date(2024, 1, 3)]})
    >>> [in_one_unit(table, level)["value"].item() for level in ("newest", "first")]
    [50.0, 0.5]
    """
    money = pl.col("kind").is_in(PAYS)
    for symbol, day, value in actions.filter(kind="unit").select("symbol", "date", "value").iter_rows():
        other = pl.col("date") < day if level == "newest" else pl.col("date") >= day
        by = 1 / value if level == "newest" else value
        own = money & (pl.col("symbol") == symbol) & other
        actions = actions.with_columns(pl.when(own).then(pl.col("value") * by).otherwise("value").alias("value"))
    return actions.filter(pl.col("kind") != "unit")
