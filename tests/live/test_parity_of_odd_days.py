"""Parity where not all went by the clock: what was right for what was known and possible then is no difference."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gatecast.live import Updated
from tests.live.conftest import HOUR, Command

Feed = Callable[..., Updated]
SLEPT = timedelta(days=2, hours=20)


def same(gatecast: Command, store: Path, now: datetime, closes: int) -> None:
    done = gatecast("parity", store, "--last", closes, "--now", now.isoformat(), "--json")
    assert (done.status, done.json["closes"], done.json["difference"]) == (0, closes, None), done.out + done.err


def test_a_refit_that_is_made_later_than_it_was_due(
    feed: Feed, gatecast: Command, store: Path, closes: list[datetime], month: int
) -> None:
    feed(month - 3, month)
    feed(month + 1)
    now = closes[month + 1] + HOUR
    done = gatecast("retrain", store, "--if-due", "--now", now.isoformat(), "--json", "--quiet")
    assert done.json["due"] == {"index": [f"{closes[month]:%Y-%m-%dT%H:%M:%S.%f}"]}
    feed(month + 2)
    same(gatecast, store, closes[month + 2] + HOUR, 6)


def test_closes_that_were_decided_late(
    feed: Feed, gatecast: Command, store: Path, closes: list[datetime], month: int
) -> None:
    feed(month - 3, month - 2, after=SLEPT)
    same(gatecast, store, closes[month - 2] + SLEPT, 2)
    late = next(number for number in range(month - 1, month + 5) if closes[number] > closes[month - 2] + SLEPT)
    feed(month - 1, late)
    same(gatecast, store, closes[late] + HOUR, late - month + 4)


def test_between_what_a_bar_is_and_the_next_update(
    feed: Feed, gatecast: Command, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    since = (pl.col("symbol") == "B1_1") & (pl.col("time") >= closes[month - 3])
    split = bars.with_columns(
        pl.when(since).then(pl.col(name) / 4).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    )
    feed(month - 3, month - 2, given=split)
    now = closes[month - 2] + 2 * HOUR
    words = ("--symbol", "B1_1", "--date", f"{closes[month - 3]:%Y-%m-%d}", "--as", "split", "--ratio", 4)
    assert gatecast("actions", "resolve", store, *words, "--now", now.isoformat()).status == 0
    same(gatecast, store, now, 2)
    feed(month - 1, given=split)
    same(gatecast, store, closes[month - 1] + HOUR, 3)
