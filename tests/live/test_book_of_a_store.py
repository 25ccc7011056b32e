"""The book of a store: it goes on from what was issued, is what a run says, and says what it holds and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gatecast.errors import StoreError
from gatecast.explanations import explain
from gatecast.live import Updated, parity, replay_store, retrain, rollback, today, update
from gatecast.live.book import holdings_of
from gatecast.market import synthetic
from gatecast.market.bars import make_bars, session_of
from gatecast.store import Store
from gatecast.trading.sizing import TARGET_CAPS
from tests.live.conftest import HOUR, Command, settings

Feed = Callable[..., Updated]


def test_the_book_begins_with_the_first_decision_and_each_session_has_one_record(
    feed: Feed, store: Path, month: int, closes: list[datetime]
) -> None:
    begun = holdings_of(Store.open(store))
    assert begun["session"].unique().to_list() == [closes[month - 4].date()]
    assert (begun["units"] == 0).all()
    assert (begun["trade"] != 0).all()
    for number in range(month - 3, month):
        feed(number)
    found = holdings_of(Store.open(store))
    assert found["session"].unique().sort().to_list() == [one.date() for one in closes[month - 4 : month]]
    own = found.filter(symbol="B1_0")
    assert own["units"][1:].to_list() == (own["units"] + own["trade"])[:-1].to_list()


def test_decisions_say_what_the_book_holds_aims_at_and_trades(
    feed: Feed, store: Path, month: int, gatecast: Command, closes: list[datetime]
) -> None:
    done = feed(month - 3)
    assert done.book is not None
    tilted = sum(row["weight"] not in (None, 0) for row in done.decisions)
    held = sum(row["held"] != 0 for row in done.decisions)
    assert done.message == f"2 decisions: {tilted} with a position of a strategy, {held} held by the book."
    told = done.to_dict()["book"]
    assert told["session"] == str(closes[month - 3].date())
    assert told["gross"] == pytest.approx(sum(abs(row["held"]) for row in told["holdings"]))
    assert told["net"] == pytest.approx(sum(row["held"] for row in told["holdings"]))
    assert told["volatility"] > 0
    for row, kept in zip(done.decisions, told["holdings"], strict=True):
        assert {name: row[name] for name in ("held", "target", "trade", "core", "tilt")} == {
            name: kept[name] for name in ("held", "target", "trade", "core", "tilt")
        }
        assert row["cut_by"] == kept["gate"]
        capped, idle = kept["gate"] in TARGET_CAPS, kept["trade"] == 0 and abs(kept["held"] - kept["target"]) > 1e-3
        assert ("target: " in row["limited_by"]) >= capped
        assert ("trade: " in row["limited_by"]) >= idle
        if kept["gate"] == "":
            assert row["core"] + row["tilt"] == pytest.approx(row["target"])
    now = f"{closes[month - 3] + HOUR:%Y-%m-%dT%H:%M}+00:00"
    risk = gatecast("today", store, "--now", now, "--json").json["risk"]
    assert risk["volatility"] == pytest.approx(told["volatility"], rel=0.08)  # of what is held within the bands
    shown = gatecast("today", store, "--now", now).out
    assert "The book after the close of" in shown
    assert f"{risk['volatility']:.1%} a year" in shown
    table = [line for line in shown.splitlines() if not line.startswith(("B1_0: ", "B1_1: "))]  # reasons are wrapped
    assert max(map(len, table)) <= 200


def test_today_says_why_a_holding_changed_and_the_parts_add_up(
    feed: Feed, store: Path, month: int, closes: list[datetime]
) -> None:
    feed(month - 3)
    feed(month - 2)
    rows = today(store, now=closes[month - 2] + HOUR).rows
    for row in rows:
        assert sum(row["held_because"].values()) == pytest.approx(row["held"] - row["held_before"], abs=1e-12)
        assert row["held_why"].startswith(("held from", "still", "nothing"))
    assert any(abs(part) > 1e-4 for row in rows for part in row["held_because"].values())


def test_an_update_that_was_killed_after_its_bars_ends_in_the_same_book(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    killed, now = tmp_path / "killed", closes[month - 3] + HOUR
    shutil.copytree(store, killed)
    feed(month - 3)
    news = bars.filter(pl.col("time") == closes[month - 3])
    Store.open(killed).add_bars(news, now)
    update(killed, news, now=now)
    ours, theirs = (Store.open(one).state.issued[-1] for one in (store, killed))
    assert (ours.book, ours.carried, ours.session) == (theirs.book, theirs.carried, theirs.session)


def test_what_was_issued_stays_after_a_correction_and_the_book_goes_on_from_it(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    feed(month - 3)
    before = holdings_of(Store.open(store))
    other = pl.when(pl.col("time") == closes[month - 3]).then(1.004).otherwise(1.0)
    corrected = bars.with_columns(pl.col(name) * other for name in ("high", "close"))
    feed(month - 3, month - 2, given=corrected)
    after = holdings_of(Store.open(store))
    assert after.filter(pl.col("session") <= before["session"].max()).equals(before)
    assert len(after) == len(before) + 2
    assert Store.open(store).check() == []


def test_a_late_bar_is_not_traded_and_live_is_still_batch(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    without = bars.filter((pl.col("symbol") != "B1_1") | (pl.col("time") != closes[month - 3]))
    feed(month - 3, given=without)
    feed(month - 3, month - 2)
    feed(month - 1)
    found = holdings_of(Store.open(store)).filter(symbol="B1_1")
    missed = found.filter(pl.col("session") == closes[month - 3].date())
    assert missed["time"].to_list() == [None]
    assert missed["gate"].to_list() in (["halt"], [""])
    assert parity(store, last=3, now=closes[month - 1] + HOUR).difference is None


def test_a_rollback_decides_the_newest_session_again_from_what_was_held_before(
    feed: Feed, store: Path, month: int, closes: list[datetime], gatecast: Command
) -> None:
    feed(month - 3, month - 1)
    feed(month)
    old = holdings_of(Store.open(store))
    now = closes[month] + HOUR
    retrain(store, now=now)
    new = holdings_of(Store.open(store))
    done = rollback(store, now=now)
    for row in done.changes:
        for table, when in ((new, "before"), (old, "after")):
            own = table.filter(pl.col("symbol") == row["symbol"], pl.col("session") == table["session"].max()).row(
                0, named=True
            )
            assert (row[f"held_{when}"], row[f"target_{when}"]) == (own["held"], own["target"])
    assert "What the book holds stays" not in done.message
    back = holdings_of(Store.open(store))
    shown = gatecast("rollback", store, "--now", now.isoformat()).out
    assert "book holds, was" in shown
    assert all(f"{one:+.1%}" in shown for one in new.filter(pl.col("session") == new["session"].max())["target"])
    assert not new["target"].equals(old["target"])
    assert back.equals(old)
    assert new.filter(pl.col("session") < new["session"].max()).equals(
        old.filter(pl.col("session") < old["session"].max())
    )


def test_what_the_book_carries_is_read_as_it_was_written_or_not_at_all(
    feed: Feed, store: Path, month: int, closes: list[datetime]
) -> None:
    feed(month - 3)
    opened = Store.open(store)
    path = opened.artefacts.path(str(opened.state.issued[-1].carried))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert any(path.name in fault.sentence for fault in Store.open(store).check())
    with pytest.raises(StoreError, match="damaged or was changed"):
        feed(month - 2)


def test_pruning_leaves_what_the_newest_sessions_go_on_from(
    feed: Feed, store: Path, month: int, closes: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatecast.store.pruning.KEPT_CARRIED", 2)
    first = Store.open(store).state.issued[-1].carried
    feed(month - 3)
    feed(month - 2)
    now = closes[month - 2] + HOUR
    assert list(Store.open(store).prune(now).superseded) == [first]
    assert Store.open(store).check() == []
    feed(month - 1)
    assert parity(store, last=1, now=closes[month - 1] + HOUR).equal
    with pytest.raises(StoreError, match="was pruned"):
        parity(store, last=3, now=closes[month - 1] + HOUR)


def test_a_session_is_decided_again_when_symbols_that_close_later_come(tmp_path: Path) -> None:
    """An index, and a coin that closes four hours after it: live, replay and batch are the same to the bit."""
    index = synthetic.g1(360, seed=2, symbols=1)
    later = pl.col("time").dt.truncate("1d") + timedelta(days=1)
    coin = synthetic.g1(360, seed=5, symbols=1)
    coin = coin.with_columns(symbol=pl.lit("COIN"), asset_class=pl.lit("crypto"), time=later, known_at=later)
    bars = make_bars(pl.concat([index, coin]).drop("segment"))
    closes = bars["time"].unique().sort().to_list()
    store, soon, begins = tmp_path / "two", timedelta(minutes=10), len(closes) - 5
    cheap = settings(features=("ret_log_1",), too_good=())
    update(store, bars.filter(pl.col("time") <= closes[begins]), now=closes[begins] + soon, experiment=cheap)
    retrain(store, now=closes[begins] + soon)
    told = []
    for close in closes[begins + 1 :]:
        news = bars.filter(pl.col("time").is_between(close - timedelta(days=5), close))
        told.append(update(store, news, now=close + soon).book)
        if told[-1] is not None and told[-1].rows["COIN"]["time"] is None:  # it trades no more: as it was decided last
            waits = told[-1].limit("COIN")
            (one,) = explain(store, "COIN", now=close + soon).explanations
            assert waits is not None
            assert waits.gate == one.decision.to_dict()["gate"]
            assert waits.kept == "halt"
            assert waits.words.endswith(f"closed market or no bar since {session_of(one.time)}")
    assert sum(one is not None and one.rows["COIN"]["time"] is None for one in told) > 1
    first, again = told[-2:]
    assert first is not None
    assert again is not None
    assert first.session == again.session
    assert (first.rows["COIN"]["gate"], again.rows["COIN"]["gate"]) != ("halt", "halt")
    assert first.rows["COIN"]["time"] is None
    assert again.rows["COIN"]["time"] == closes[-1]
    for compare in (parity, replay_store):
        assert compare(store, last=4, now=closes[-1] + soon).difference is None


def test_update_shows_what_today_shows_and_explains_its_own_columns_alone(
    feed: Feed, store: Path, month: int, gatecast: Command, closes: list[datetime], bars: pl.DataFrame, tmp_path: Path
) -> None:
    day = closes[month - 3]
    bars.filter(pl.col("time") == day).write_parquet(tmp_path / "day.parquet")
    now = f"{day + HOUR:%Y-%m-%dT%H:%M}+00:00"
    update_shown = gatecast("update", store, "--bars", tmp_path / "day.parquet", "--now", now)
    assert update_shown.status == 0
    today_shown = gatecast("today", store, "--now", now)
    rows = gatecast("today", store, "--now", now, "--json").json["decisions"]
    for row in rows:
        interval = f"{row['low_80']:+.2%} to"
        assert interval in update_shown.out
        assert interval in today_shown.out
    for shown in (update_shown, today_shown):
        for name, heading in (("Held", "held"), ("Tilt", "tilt"), ("Of risk", "risk"), ("Limited by", "limited")):
            assert (f"{name}: " in shown.err) == (f" {heading} " in shown.out)
    assert "Of risk: " not in update_shown.err
    again = gatecast("update", store, "--bars", tmp_path / "day.parquet", "--now", now, "--json").json["decisions"]
    for row, told in zip(again, rows, strict=True):
        narrow = row["intervals"][0]
        assert (row["low_80"], row["high_80"]) == (narrow["low"][-1], narrow["high"][-1])
        assert (row["low_80"], row["high_80"]) == pytest.approx((told["low_80"], told["high_80"]))
