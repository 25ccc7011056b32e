"""A delisting that a store is told after it has decided on its symbol: whenever it is told, its end is booked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gatecast.live import Updated, add_action, parity, replay_store, update
from gatecast.live.actions import known_since_told
from gatecast.live.book import book_now, holdings_by_record
from gatecast.market.actions import read_actions, with_known_at
from gatecast.store import Store

LOSS = -0.3
GONE = "B1_1"


@pytest.fixture
def told(
    trained: Path, tmp_path: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> Callable[..., tuple[Path, Updated]]:
    """A store and its newest update, two sessions after the last bar of a symbol whose delisting is told so long after
    that close; `stated`: since when it says it was known; `by_table`: with an update instead of a command.
    """
    last = closes[month - 2]
    given = bars.filter((pl.col("symbol") != GONE) | (pl.col("time") <= last))

    def fed(after: timedelta, *, by_table: bool = False, stated: datetime | None = None) -> tuple[Path, Updated]:
        folder = tmp_path / f"{after} {by_table} {stated}".replace(":", ".")
        shutil.copytree(trained, folder)
        moment, done = last + after, None
        for number in range(month - 3, month + 1):
            now = closes[number] + timedelta(minutes=10)
            if moment is not None and moment < now:
                if by_table:
                    row = {"symbol": [GONE], "kind": ["delisting"], "date": [last.date()], "value": [LOSS]}
                    update(folder, given.filter(pl.col("time") == last), now=moment, actions=pl.DataFrame(row))
                else:
                    add_action(
                        folder, symbol=GONE, day=last.date(), kind="delisting", last_return=LOSS, known_at=stated,
                        now=moment,
                    )  # fmt: skip
                moment = closes[-1] + timedelta(days=99)
            done = update(folder, given.filter(pl.col("time") == closes[number]), now=now)
        assert done is not None
        return folder, done

    return fed


def units_held(store: Path, close: datetime) -> float:
    """Of the symbol that is gone, after its last bar; its orders wait for a next one in vain."""
    rows = holdings_by_record(Store.open(store)).filter(pl.col("symbol") == GONE, pl.col("session") == close.date())
    return float(rows["units"].item())


def test_an_end_is_booked_whenever_it_is_told(
    told: Callable[..., tuple[Path, Updated]], bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    """After the decision and before the fill of its orders, after the fill, with a table, and as known long before."""
    lost, now = [], closes[month] + timedelta(hours=1)
    opens = closes[month - 1] - closes[month - 2]
    ways = (
        {"after": timedelta(minutes=20)},
        {"after": opens - timedelta(minutes=5)},
        {"after": timedelta(minutes=20), "by_table": True},
        {"after": timedelta(minutes=20), "stated": closes[month - 4]},
    )
    for way in ways:
        folder, done = told(**way)
        held = book_now(Store.open(folder))
        assert held is not None
        assert held.before or held.rows
        assert not held.rows.get(GONE, {}).get("units"), way
        lost.append(done.book.figures["equity"] if done.book else None)
        for checked in (parity(folder, now=now), replay_store(folder, now=now)):
            assert checked.equal, checked.message
    assert len(set(lost)) == 1
    assert done.book is not None
    booked = [one.body["book"] for one in Store.open(folder).journal.records() if one.body.get("book")]
    before = next(one["equity"] for one in booked if one["session"] == str(closes[month - 2].date()))
    price = bars.filter(pl.col("symbol") == GONE, pl.col("time") == closes[month - 2])["close"].item()
    loss = -LOSS * price * units_held(folder, closes[month - 2])
    assert lost[0] == pytest.approx(before - loss, rel=0.02)  # the other symbol moves, too
    assert loss > 0.05 * before


def test_of_two_delistings_the_one_that_the_symbol_returned_from_stays_in_the_past(
    feed: Callable[..., Updated], store: Path, closes: list[datetime], month: int
) -> None:
    feed(month - 3)
    opened, now = Store.open(store), closes[month - 3] + timedelta(hours=2)
    days = [closes[100], closes[month - 3]]
    rows = {
        "symbol": [GONE] * 2,
        "kind": ["delisting"] * 2,
        "date": [day.date() for day in days],
        "value": [-0.9, LOSS],
    }
    table = with_known_at(read_actions(pl.DataFrame(rows)), opened.bars.as_of(now))
    told = known_since_told(opened, table, now, table.clear())
    assert told.sort("date")["known_at"].to_list() == [days[0], now]
