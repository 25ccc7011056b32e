"""Bars in any order, repeated and corrected, that say when they became known: the same bars as of now as in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl

from gatecast.experiment import Experiment
from gatecast.live import update
from gatecast.market import synthetic
from gatecast.provenance import hash_of_bars
from gatecast.store import Store
from soak.cases import Case

COUNT = 100
"""Feeds when the soak is whole."""
CLOSES = 120
HOUR = timedelta(hours=1)


def readings(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three symbols as a vendor sends them first, and as he sends them later: one row in ten is corrected a day after.

    A correction is smaller than what the market moves, and says when it became known.
    """
    first = synthetic.b1(CLOSES, seed=seed, r2=0.05, symbols=3).drop("segment")
    first = first.with_columns(known_at=pl.col("time") + HOUR)
    wrong = pl.int_range(pl.len()) % 10 == 3
    second = first.with_columns(
        high=pl.when(wrong).then(pl.col("high") * 1.0005).otherwise("high"),
        known_at=pl.col("known_at") + pl.when(wrong).then(timedelta(days=1)).otherwise(timedelta()),
    )
    return first, second


def hash_after(folder: Path, parts: list[pl.DataFrame], now: datetime) -> str:
    """The hash of the bars as of `now` in a store that got these parts, one after the other."""
    folder.mkdir(parents=True)
    for part in parts:
        update(
            folder / "store", written(part, folder / "part.csv"), now=now, asset_class="index", stamp="close",
            experiment=Experiment(features=("ret_log_1",)),
        )  # fmt: skip
    store = Store.open(folder / "store")
    if faults := store.check():
        return f"the store is in pieces: {faults[0].sentence}"
    return hash_of_bars(store.bars.as_of(now))


def written(part: pl.DataFrame, file: Path) -> Path:
    """A file of bars as a vendor writes it."""
    plain = part.with_columns(pl.col("time", "known_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    plain.drop("asset_class").write_csv(file)
    return file


def feeds(work: Path, seed: int, share: float) -> Iterator[Case]:
    """Feeds of one market in many orders."""
    first, second = readings(seed)
    now = second["known_at"].max() + HOUR  # type: ignore[operator]
    straight = hash_after(work / "sorted", [*blocks_of(first, 10), second], now)
    for number in range(max(2, round(share * COUNT))):
        given = shuffled(first, second, Random(f"{seed} feeds {number}"))
        found = hash_after(work / f"feed-{number}", given, now)
        yield Case("feeds", f"feed {number}", "" if found == straight else f"{found} instead of {straight}")


def blocks_of(rows: pl.DataFrame, size: int, before: int = 0) -> list[pl.DataFrame]:
    """The rows of every so many closes; `before`: closes of the block before that each repeats."""
    closes = rows["time"].unique().sort().to_list()
    return [
        rows.filter(
            pl.col("time").is_between(closes[max(0, begin - before)], closes[min(begin + size, len(closes)) - 1])
        )
        for begin in range(0, len(closes), size)
    ]


def shuffled(first: pl.DataFrame, second: pl.DataFrame, draw: Random) -> list[pl.DataFrame]:
    """Both readings in blocks that overlap, in another order and some twice; corrections may come before the corrected.

    The first block comes first: a store's first bars say how long its bars are and where its prices lie.
    """
    blocks = blocks_of(first, draw.randint(10, 40), before=3)
    more = [*blocks[1:], *blocks_of(second, draw.randint(10, 40), before=3)]
    more += draw.sample(more, len(more) // 3)
    draw.shuffle(more)
    return [one.sample(fraction=1, shuffle=True, seed=draw.randrange(10**6)) for one in (blocks[0], *more)]
