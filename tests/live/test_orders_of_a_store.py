"""Orders of a store are proposed, approved and exported, once."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gatecast.live import proposed_orders, update
from gatecast.live.book import holdings_of
from gatecast.live.settling import fills as store_fills
from gatecast.live.settling import halt
from gatecast.store import Store
from gatecast.store.desks import bytes_of_desk
from gatecast.trading.desk import micros_of
from tests.live.conftest import HOUR
from tests.live.desk import NEXT_OPEN, Desk, text_of
from tests.live.test_book_of_a_store import Feed


def test_orders_are_proposed_approved_and_exported_once(desk: Desk) -> None:
    held, out = desk.held(), desk.folder / "orders.csv"
    first, second = (desk.orders(held, "--format", "csv") for _ in range(2))
    assert first.out == second.out
    assert "never trades" in first.err
    made = desk.orders(held, "--json").json
    assert made["status"] == "proposed"
    early = desk.orders(held, "--out", out)
    assert early.status == 2
    assert "proposed and not approved" in early.err
    assert not out.exists()
    assert desk.do("approve", made["id"], "--by", "ann").status == 0
    assert desk.orders(held, "--out", out).status == 0
    assert out.read_text() == first.out
    again = desk.orders(held, "--out", desk.folder / "twice.csv")
    assert again.status == 2
    assert "exported by ann at" in " ".join(again.err.split())
    assert not (desk.folder / "twice.csv").exists()
    assert desk.orders(held, "--out", desk.folder / "twice.csv", "--again", after=NEXT_OPEN).status == 0
    assert (desk.folder / "twice.csv").read_bytes() == out.read_bytes()
    kinds = [one["kind"] for one in Store.open(desk.store).state.orders]
    assert kinds == ["proposed", "approved", "exported", "exported"]
    assert [one["by"] for one in Store.open(desk.store).state.orders] == ["unnamed", "ann", "ann", "ann"]
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []


def test_a_first_session_buys_what_the_book_buys(desk: Desk) -> None:
    made = desk.orders(desk.held(), "--json").json
    book = holdings_of(Store.open(desk.store)).filter(pl.col("session") == desk.close.date())
    trades = {row["symbol"]: row["trade"] for row in book.to_dicts()}
    found = {row["symbol"]: row["units"] * (1 if row["side"] == "buy" else -1) for row in made["orders"]}
    assert found == trades
    assert made["cost"] == pytest.approx(sum(row["cost"] for row in made["orders"]))
    for row in made["orders"]:
        assert row["target_units"] == row["held"] + row["open_units"] + found[row["symbol"]]
        assert row["limit_price"] == pytest.approx(
            row["last_close"] * (1.05 if row["side"] == "buy" else 0.95), rel=1e-5
        )


def test_orders_day_by_day_lead_to_the_holdings_of_the_book(
    desk: Desk, feed: Feed, closes: list[datetime], month: int
) -> None:
    """Positions, orders, fills and positions again, with the book's equity as capital, from update to update."""
    held: dict[str, float] = {}
    for number in range(month - 4, month + 3):
        if number > month - 4:
            feed(number)
        today, store = desk._replace(close=closes[number]), Store.open(desk.store)
        book = holdings_of(store).filter(pl.col("session") == closes[number].date())
        assert {row["symbol"]: row["units"] for row in book.to_dicts() if row["units"]} == held
        equity = [one for one in store.journal.records() if one.kind == "issued"][-1].body["book"]["equity"]
        rows = today.export(today.held(dict(held)), f"{number}.csv", capital=equity)
        at = closes[number] + NEXT_OPEN
        assert (
            not rows
            or today.do("fills", "--file", today.fills(rows, at, name=f"f{number}"), after=NEXT_OPEN).status == 0
        )
        for row in rows:
            signed = float(row["units"]) * (1 if row["side"] == "buy" else -1)
            held[row["symbol"]] = held.get(row["symbol"], 0.0) + signed
    assert len({one["session"] for one in Store.open(desk.store).state.orders if one["kind"] == "exported"}) == 7


def test_a_past_session_gives_its_file_byte_for_byte(
    desk: Desk, feed: Feed, closes: list[datetime], month: int, bars: pl.DataFrame
) -> None:
    held, out = desk.held(), desk.folder / "orders.csv"
    desk.export(held)
    feed(month - 3)
    before = Store.open(desk.store).state.number
    later = desk.orders(held, "--as-of", desk.day, "--format", "csv", after=timedelta(days=9))
    assert later.out == out.read_text()
    assert Store.open(desk.store).state.number == before


def test_what_is_open_counts_at_what_is_left_of_it(desk: Desk) -> None:
    whole = {row["symbol"]: row for row in desk.orders(desk.held(), "--json").json["orders"]}
    left = desk.write("open.csv", ["order_id,symbol,side,remaining", "x1,B1_0,buy,100", "x2,B1_1,sell,10"])
    found = {row["symbol"]: row for row in desk.orders(desk.held(), "--open-orders", left, "--json").json["orders"]}
    assert found["B1_0"]["units"] == whole["B1_0"]["units"] - 100
    assert found["B1_1"]["units"] == whole["B1_1"]["units"] + 10
    assert {row["target_units"] for row in found.values()} == {row["target_units"] for row in whole.values()}


def test_the_date_of_a_session_of_all_hours_is_its_close(desk: Desk) -> None:
    """A session that closes at midnight: the end of its date is no moment before."""

    store = Store.open(desk.store)
    issued = store.state.issued[-1]
    kept, limits = store.desk_of(str(issued.desk))
    midnight = desk.close + 3 * HOUR
    made = replace(kept, bars=micros_of([desk.close, midnight]))
    record = next(store.journal.records(since=issued.record))
    parts = {**record.parts, "desk": store.put(bytes_of_desk(made, limits), ".safetensors")}
    store.append("issued", {**record.body, "parts": parts}, desk.close + HOUR)
    assert desk.orders(desk.held(), after=4 * HOUR).status == 0
    early = desk.orders(desk.held(as_of=text_of(midnight - HOUR / 60)), after=4 * HOUR)
    assert "which closed at 2001-12-27 00:00 UTC" in " ".join(early.err.split())


def test_a_soft_limit_is_overridden_with_a_reason_and_an_expiry(desk: Desk, tmp_path: Path) -> None:
    held = desk.held({"B1_0": -30_000, "B1_1": -5_000})  # far from the target: more is traded than the capital
    made = desk.orders(held, "--json", capital=4e6).json
    assert {one["name"] for one in made["breaches"]} == {"turnover", "capital"}  # four times the book's equity
    refused = desk.do("approve", made["id"], "--by", "ann")
    assert refused.status == 2
    assert "soft limit turnover" in refused.err
    words = ("approve", made["id"], "--by", "ann", "--override", "turnover", "--override", "capital")
    assert "needs --reason and --until" in desk.do(*words).err
    until = text_of(desk.close + 3 * HOUR)
    assert desk.do(*words, "--reason", "first day", "--until", until).status == 0
    late = desk.orders(held, "--out", tmp_path / "a.csv", capital=4e6, after=4 * HOUR)
    assert "override has expired" in late.err
    assert desk.orders(held, "--out", tmp_path / "a.csv", capital=4e6).status == 0
    (approved,) = [one for one in Store.open(desk.store).state.orders if one["kind"] == "approved"]
    assert approved["overrides"][0]["reason"] == "first day"


def test_the_newest_orders_are_a_table(desk: Desk) -> None:
    assert proposed_orders(Store.open(desk.store)).is_empty()
    rows = desk.export()
    table = proposed_orders(Store.open(desk.store))
    assert table["order_id"].to_list() == [row["order_id"] for row in rows]
    assert set(table["status"]) == {"exported"}


def test_a_snapshot_keeps_what_happened_to_orders(desk: Desk) -> None:
    desk.export()
    store = Store.open(desk.store)
    before = store.state.orders
    store.snapshot(desk.close + 2 * HOUR)
    assert Store.open(desk.store).state.orders == before
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []


def test_a_desk_that_was_changed_is_found(desk: Desk) -> None:
    store = Store.open(desk.store)
    file = store.artefacts.path(str(store.state.issued[-1].desk))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    answer = desk.orders(desk.held())
    assert answer.status == 2
    assert "is damaged or was changed" in " ".join(answer.err.split())


def test_functions_do_what_the_commands_do(desk: Desk) -> None:
    rows = desk.export()
    done = store_fills(desk.store, desk.fills(rows, desk.close + NEXT_OPEN), now=desk.close + NEXT_OPEN)
    assert (done.new, done.account) == (2, "A1")
    assert "nothing is exported" in halt(desk.store, by="ann", reason="a test", now=desk.close + NEXT_OPEN)


def test_a_store_that_caught_up_gives_the_files_of_one_updated_daily(
    desk: Desk, closes: list[datetime], month: int, bars: pl.DataFrame
) -> None:
    """Five sessions at once, a first one of a month among them, and one by one; the rows say when they were known."""
    other = desk._replace(store=desk.folder / "other")
    shutil.copytree(desk.store, other.store)
    last, held = month + 1, {"B1_0": 100, "B1_1": -20}
    own = bars.filter(pl.col("time").is_between(closes[month - 3], closes[last]))
    own = own.with_columns(known_at=pl.col("time") + HOUR / 2)
    update(desk.store, own, now=closes[last] + HOUR)
    for number in range(month - 3, last + 1):
        update(other.store, own.filter(pl.col("time") == closes[number]), now=closes[number] + HOUR)
    caught, daily = (
        {session: part for one in Store.open(of.store).state.issued for session, part in one.desks.items()}
        for of in (desk, other)
    )
    assert caught == daily  # names of files are hashes of what is in them
    assert len(caught) == 6
    before = Store.open(desk.store).state.number
    for number in range(month - 3, last):
        files = [
            of.orders(of.held(held), "--as-of", of.day, "--format", form, after=timedelta(days=30)).out
            for form in ("csv", "json")
            for of in (desk._replace(close=closes[number]), other._replace(close=closes[number]))
        ]
        assert files[0] == files[1] != ""
        assert files[2] == files[3] != ""
        assert f"session {closes[number].date()}" in files[0]
    assert Store.open(desk.store).state.number == before
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []
    store = Store.open(desk.store)
    store.snapshot(closes[last] + 2 * HOUR)
    assert Store.open(desk.store).state.issued == store.state.issued


def test_sessions_whose_bars_came_after_their_opens_have_a_file_without_orders(
    desk: Desk, feed: Feed, closes: list[datetime], month: int
) -> None:
    """Nobody knew them when they could be traded on: the book has held on."""
    done = feed(month - 3, month - 1)
    first, last_missed = (str(closes[number].date()) for number in (month - 3, month - 2))
    assert done.book is not None
    assert done.book.missed == [first, last_missed]
    shown = desk._replace(close=closes[month - 1]).do("today").out
    assert f"Caught up: 2 sessions from {first} to {last_missed} were decided together" in shown
    for number in (month - 3, month - 2):
        day = desk._replace(close=closes[number])
        made = day.orders(day.held({"B1_0": 100}), "--as-of", day.day, "--json", after=timedelta(days=30)).json
        assert (made["session"], made["status"], made["orders"]) == (day.day, "computed", [])
        assert "no bar of this close was known by the next open" in made["notes"][0]
    last = desk._replace(close=closes[month - 1])
    assert last.orders(last.held({"B1_0": 100}), "--json").json["orders"]


def test_exported_orders_whose_files_never_came_to_the_disk_stay_until_the_loss_is_accepted(desk: Desk) -> None:
    held = desk.held()
    desk.export(held)
    store = Store.open(desk.store)
    proposed = next(one for one in store.journal.records() if one.kind == "proposed")
    for part in proposed.parts.values():
        (desk.store / "parts" / part[:2] / part).write_bytes(b"")
    told = r"\(1 proposed, 1 approved, 1 exported\)\. Orders of them may be at a broker.*Nothing is written until"
    with warnings.catch_warnings(action="ignore"):
        for words in ((), ("--out", desk.folder / "second.csv")):
            answer = desk.orders(held, *words)
            assert (answer.status, bool(re.search(told, " ".join(answer.err.split())))) == (2, True)
        assert re.search(told, " ".join(desk.do("health").out.split()))
        assert [*Store.open(desk.store).journal.records()][-1].number == store.state.number
        assert desk.command("store", "check", desk.store, "--rebuild").status == 0
    lost = [*Store.open(desk.store).journal.records()][-1]
    assert (lost.kind, lost.body["count"], lost.number) == ("lost", 3, proposed.number)
    assert desk.orders(held, "--json").json["status"] == "proposed"
