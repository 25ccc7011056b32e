"""A store that is updated once a week and one that is updated daily: what is held is counted session by session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from gatecast.live import Updated, parity, replay_store, today, update
from gatecast.live.book import holdings_of
from gatecast.live.morning import sessions_of_book
from gatecast.service.pages import live_equity
from gatecast.service.view import View
from gatecast.store import Store
from gatecast.store.journal import Journal
from tests.live.conftest import HOUR

Feed = Callable[..., Updated]


def holdings_equity(store: Path, close: datetime) -> float:
    """The equity that a store says of a session."""
    return next(
        float(one["equity"]) for one in sessions_of_book(Store.open(store)) if one["session"][:10] == str(close.date())
    )


@pytest.fixture
def weekly(store: Path, feed: Feed, bars: pl.DataFrame, closes: list[datetime], month: int) -> Path:
    """The store with a session, and then the next three at once; beside it "daily", with the same one by one."""
    feed(month - 3)
    daily = store.with_name("daily")
    shutil.copytree(store, daily)
    for number in (month - 2, month - 1, month):
        update(daily, bars.filter(pl.col("time") == closes[number]), now=closes[number] + HOUR)
    feed(month - 2, month)
    return store


def test_a_store_has_as_many_sessions_however_many_an_update_brings(
    weekly: Path, closes: list[datetime], month: int
) -> None:
    found, one_by_one = (sessions_of_book(Store.open(path)) for path in (weekly, weekly.with_name("daily")))
    days = [str(close.date()) for close in closes[month - 4 : month + 1]]
    assert [one["session"][:10] for one in found] == [one["session"][:10] for one in one_by_one] == days
    held = [holdings_of(Store.open(path)) for path in (weekly, weekly.with_name("daily"))]
    first = next(
        (day for day in held[0]["session"].unique().sort()
         if held[0].filter(session=day)["trade"].to_list() != held[1].filter(session=day)["trade"].to_list()),
        closes[month].date(),
    )  # fmt: skip
    same = sum(day <= str(first) for day in days)
    assert same >= 3  # the orders of the first session are the same, so the two after it hold the same
    for ours, theirs in list(zip(found, one_by_one, strict=True))[:same]:
        assert ours["equity"] == theirs["equity"]
        assert ours["earned"] == theirs["earned"]
        assert (ours["expected"] or 1) == pytest.approx(theirs["expected"] or 1, rel=0.5)  # by forecasts of before
        assert (ours["level"] or 1) == pytest.approx(theirs["level"] or 1, rel=0.02)


def test_the_page_and_the_record_count_sessions_and_parity_sees_them(
    weekly: Path, closes: list[datetime], month: int
) -> None:
    now = closes[month] + HOUR
    told, morning = live_equity(View(Store.open(weekly), now)), today(weekly, now=now).morning
    before, newest = (holdings_equity(weekly, closes[number]) for number in (month - 1, month))
    assert (told["sessions"], told["spans"]) == (4, 1)
    assert told["share"] == pytest.approx(newest / before - 1)
    assert morning is not None
    assert morning.record.book_sessions == 4
    assert replay_store(weekly, last=4, now=now).difference is None
    assert parity(weekly, last=4, now=now).difference is None


def test_a_session_whose_bars_come_after_the_open_waits_for_the_next_one(
    store: Path, feed: Feed, closes: list[datetime], month: int
) -> None:
    """Nobody could decide it: it is booked once the next is decided, and then as any other."""
    feed(month - 3)
    feed(month - 2, after=68 * HOUR)  # over a weekend
    assert sessions_of_book(Store.open(store))[-1]["session"][:10] == str(closes[month - 3].date())
    feed(month - 1)
    newest = Store.open(store).journal.record(Store.open(store).state.issued[-1].record).body["book"]
    assert newest["session"][:10] == str(closes[month - 1].date())
    assert [one["session"][:10] for one in newest["caught_up"]] == [str(closes[month - 2].date())]
    assert newest["caught_up"][0]["expected"] > 0
    now = closes[month - 1] + HOUR
    assert replay_store(store, last=3, now=now).difference is None
    assert parity(store, last=3, now=now).difference is None


def test_a_row_of_an_earlier_version_that_is_of_several_sessions_is_told_as_such(
    weekly: Path, closes: list[datetime], month: int
) -> None:
    """Its record says nothing of the sessions that were decided with it."""
    old = weekly.with_name("older")
    shutil.copytree(weekly, old, ignore=shutil.ignore_patterns("journal", "index.sqlite*"))
    (old / "journal").mkdir()
    for record in Store.open(weekly).journal.records():
        body = dict(record.body)
        if body.get("book"):
            body["book"] = {name: one for name, one in body["book"].items() if name != "caught_up"}
        Journal.open(old).append(record.kind, body, record.now, record.time)
    opened, now = Store.open(old), closes[month] + HOUR
    *_, newest = sessions_of_book(opened)
    plain = sessions_of_book(Store.open(weekly))[-1]
    assert newest["spans"] == 3
    assert newest["expected"] == pytest.approx(3 * plain["expected"])
    told = live_equity(View(opened, now))
    assert (told["sessions"], told["spans"]) == (4, 3)
