"""The page of orders says where each order of a store stands, by whom and when, and which command comes next."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from clerks import PASSED, Clerk
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.live import halt, health, proposed_orders, reconcile, today, update, withdraw
from gatecast.service.app import make_app
from gatecast.store import Store


@pytest.fixture
def clerk(store: Path, closes: list[datetime], tmp_path: Path) -> Clerk:
    return Clerk(store, tmp_path, closes[FIRST])


def only(told: Any) -> Any:
    """The orders of the newest session, of which there are some of one account."""
    (found,) = [one for one in told["orders"] if one["current"]]
    return found


def commands_of(one: Any) -> list[list[str]]:
    return [shlex.split(after["command"])[1:] for after in one["next"]]


def test_before_the_first_orders_the_page_says_how_they_are_made(clerk: Clerk) -> None:
    told = clerk.told()
    assert (told["orders"], told["accounts"], told["halts"], told["history"]) == ([], [], [], [])
    assert told["sentence"] == f"No orders of {clerk.close.date()} were proposed."
    assert f"gatecast orders {clerk.store} --positions FILE --capital N" in clerk.page()
    assert told["sentence"] in " ".join(html.unescape(clerk.asked().get("/").text).split())


def test_each_step_is_told_with_its_author_and_the_next_command(clerk: Clerk) -> None:
    made = clerk.propose()
    assert [row["side"] for row in made.rows] == ["buy", "buy"]
    seen = [only(clerk.told())]
    clerk.approve(made)
    seen.append(only(clerk.told()))
    clerk.export(made)
    seen.append(only(clerk.told()))
    withdraw(clerk.store, made.orders_id, by="eve", reason="wrong broker", now=clerk.now)
    seen.append(only(clerk.told()))
    assert [one["status"] for one in seen] == ["proposed", "approved", "exported", "withdrawn"]
    assert [commands_of(one)[0][0] for one in seen] == ["approve", "orders", "fills", "orders"]
    assert commands_of(seen[2])[1][:3] == ["withdraw", str(clerk.store), made.orders_id]
    steps = [(one["kind"], one["by"], one["note"]) for one in seen[-1]["steps"]]
    assert [one[:2] for one in steps] == [
        ("proposed", "ann"), ("approved", "bob"), ("exported", "cy"), ("withdrawn", "eve"),
    ]  # fmt: skip
    assert steps[-1][2] == "wrong broker"
    assert {one["now"][:16] for one in seen[-1]["steps"]} == {f"{clerk.now:%Y-%m-%dT%H:%M}"}
    page = clerk.page()
    assert "eve, " in page
    assert "wrong broker" in page
    assert "withdrawn" in page
    assert [one["kind"] for one in clerk.told()["history"]] == ["withdrawn", "exported", "approved", "proposed"]


def test_the_api_says_the_same_of_one_record(clerk: Clerk) -> None:
    clerk.exported()
    answer = clerk.asked().get("/api/orders").json()
    assert answer.pop("head")["record"] == answer["history"][0]["record"]
    assert answer == clerk.told()


def test_the_commands_do_what_is_said(clerk: Clerk) -> None:
    """As they stand, with the words in capitals filled in."""
    made = clerk.propose(capital=1.5e6, without=[SYMBOLS[0]])
    given = {"WHO": "ann", "TEXT": "why", "FILE": str(clerk.folder / "held A1.csv")}

    def follow(place: int = 0) -> None:
        words = commands_of(only(clerk.told()))[place]
        out = words.index("--out") + 1 if "--out" in words else -1
        filled = [
            str(clerk.folder / "a.csv") if place == out else given.get(one, one) for place, one in enumerate(words)
        ]
        assert execute([*filled, "--now", clerk.now.isoformat()]) == 0

    states = []
    for place in (0, 0, 1, 0):
        follow(place)
        states.append(only(clerk.told())["status"])
    assert states == ["approved", "exported", "withdrawn", "exported"]
    assert only(clerk.told())["id"] == made.orders_id


def test_limits_that_are_exceeded_stand_in_the_command_and_their_end_is_said(clerk: Clerk) -> None:
    made = clerk.propose(capital=4e6)
    exceeded = [one["name"] for one in made.content["breaches"]]
    assert exceeded == ["capital"]
    one = only(clerk.told())
    assert [breach["name"] for breach in one["breaches"]] == exceeded
    words = commands_of(one)[0]
    assert words[words.index("--override") + 1] == "capital"
    clerk.approve(made)
    assert "capital overridden until" in only(clerk.told())["steps"][-1]["note"]
    assert commands_of(only(clerk.told()))[0][0] == "orders"
    late = only(clerk.told(3 * HOUR))
    assert "has expired" in late["sentence"]
    assert commands_of(late)[0][0] == "approve"


def test_fills_are_counted_by_order(clerk: Clerk) -> None:
    made = clerk.exported()
    clerk.fills(made, 0.5)
    one = only(clerk.told(PASSED))
    assert one["status"] == "filled in part"
    for row, order in zip(one["rows"], made.rows, strict=True):
        assert row["filled"] == order["units"] * 0.5
        assert row["left"] == order["units"] - row["filled"]
        assert row["filled_price"] == pytest.approx(order["limit_price"] * 0.99)
    clerk.fills(made, 0.5, "g")
    one = only(clerk.told(PASSED))
    assert (one["status"], [row["left"] for row in one["rows"]]) == ("filled", [0.0, 0.0])
    assert [(step["kind"], step["by"], step["note"]) for step in one["steps"][-2:]] == [("fills", "dee", "2 new")] * 2
    assert commands_of(one)[0][0] == "reconcile"
    assert "2 of 2" in clerk.page(PASSED)


def test_what_is_not_filled_has_no_price_and_says_so(clerk: Clerk) -> None:
    clerk.propose()
    for row in only(clerk.told())["rows"]:
        assert row["filled_price"] is None
        assert row["missing"] == {"filled_price": "nothing of it was filled"}


def test_the_page_changes_when_the_open_passes_without_a_record(clerk: Clerk) -> None:
    made = clerk.propose()
    app = make_app(clerk.store, now=clerk.now)
    asked = TestClient(app, base_url="http://127.0.0.1")
    assert commands_of(only(asked.get("/api/orders").json()))
    assert made.orders_id in asked.get("/orders").text
    view = app.state.watched.view
    app.state.watched.fixed = clerk.close + PASSED
    assert app.state.watched.view is view
    one = only(asked.get("/api/orders").json())
    assert (one["next"], one["has_passed"]) == ([], True)
    assert "has passed: make those of the next session" in one["sentence"]
    assert "has passed: make those of the next session" in asked.get("/orders").text


def test_a_difference_that_nobody_explained_breaks_what_was_exported(clerk: Clerk) -> None:
    made = clerk.exported()
    clerk.fills(made)
    units = {row["symbol"]: row["units"] for row in made.rows}
    late = {"now": clerk.close + PASSED, "by": "dee"}
    lost = clerk._replace(close=clerk.close + timedelta(days=1)).held({**units, SYMBOLS[1]: units[SYMBOLS[1]] - 5})
    assert not reconcile(clerk.store, lost, **late).clean
    told = clerk.told(PASSED)
    one, (account,) = only(told), told["accounts"]
    assert one["status"] == "broken"
    assert (account["account"], account["unexplained"], account["by"]) == ("A1", 1, "dee")
    assert [(row["symbol"], row["found"] - row["expected"]) for row in account["breaks"]] == [(SYMBOLS[1], -5.0)]
    words = commands_of(account)[0]
    assert words[words.index("--explain") + 1 :][0] == SYMBOLS[1]
    page = clerk.page(PASSED)
    assert "1 difference that nobody has explained" in page
    assert "−5" in page
    assert "<b>&" not in clerk.asked(PASSED).get("/orders").text
    reconcile(clerk.store, lost, explain={SYMBOLS[1]: "given away, ticket 17"}, **late)
    told = clerk.told(PASSED)
    assert (only(told)["status"], told["accounts"][0]["unexplained"]) == ("filled", 0)
    assert "given away, ticket 17" in clerk.page(PASSED)


def test_differences_that_nobody_explained_come_before_an_approval_and_an_export(clerk: Clerk) -> None:
    """Something is held that no order bought: it is seen once orders are proposed, and once they are approved."""
    held = {SYMBOLS[0]: 3.0}
    assert reconcile(clerk.store, clerk.held({}), now=clerk.now, by="dee").clean
    made = clerk.propose({})
    for approved in (False, True):
        if approved:
            said = clerk.approve(made).message
            assert "The differences of its account come first, which nobody has explained." in said
            assert said.index("`gatecast reconcile ") < said.index("--out FILE --by WHO` exports them, once.")
        assert not reconcile(clerk.store, clerk.held(held), now=clerk.now, by="dee").clean
        one = only(clerk.told())
        assert [words[0] for words in commands_of(one)] == ["reconcile", "orders" if approved else "approve"]
        assert commands_of(one)[0][-5:-1] == ["--explain", SYMBOLS[0], "REASON", "--by"]
        assert "The differences of its account come first, which nobody has explained." in one["sentence"]
        page = clerk.page()
        assert page.index("--explain") < page.index("--out" if approved else "gatecast approve")
    reconcile(clerk.store, clerk.held(held), explain={SYMBOLS[0]: "a gift"}, now=clerk.now, by="dee")
    assert [words[0] for words in commands_of(only(clerk.told()))] == ["orders"]
    assert "nobody has explained" not in only(clerk.told())["sentence"]


def test_a_command_says_what_comes_next_as_the_page_does(clerk: Clerk) -> None:
    """Also of what comes no further: other orders of the session, after its file was exported."""
    made = clerk.propose()
    for step in (lambda: clerk.approve(made), lambda: clerk.propose(), lambda: clerk.export(made)):
        done, one = step(), only(clerk.told())
        if not done.wrote:
            assert done.to_dict()["next"] == one["next"]
            assert done.message.startswith(one["sentence"])
            assert all(f"`{after['command']}` {after['does']}" in done.message for after in one["next"])
    again = clerk.propose(open_orders=clerk.still_open(made.rows[:1]))
    one = next(one for one in clerk.told()["orders"] if one["id"] == again.orders_id)
    assert one["next"] == [] == again.to_dict()["next"]
    assert again.message == one["sentence"]
    assert again.message.endswith("They take 1 open order as filled.")
    assert "a session has one file" in again.message
    assert f"gatecast withdraw {clerk.store} {made.orders_id} --by WHO" in again.message
    assert "approve" not in again.message
    assert "`" not in clerk.page()


def test_halts_in_force_are_told_with_the_command_that_ends_each(clerk: Clerk) -> None:
    clerk.propose()
    halt(clerk.store, by="tom", reason="odd feed", now=clerk.now)
    halt(clerk.store, by="ann", reason="holiday", now=clerk.now)
    told = clerk.told()
    assert [(one["by"], one["reason"]) for one in told["halts"]] == [("tom", "odd feed"), ("ann", "holiday")]
    assert only(told)["next"] == []
    assert "halted by tom" in only(told)["sentence"]
    assert "odd feed" in clerk.page()
    words = commands_of(told["halts"][0])[0]
    given = {"WHO": "tom", "TEXT": "mended"}
    assert execute([*(given.get(one, one) for one in words), "--now", clerk.now.isoformat()]) == 0
    assert [one["by"] for one in clerk.told()["halts"]] == ["ann"]


def test_newer_orders_stand_in_place_of_those_that_nobody_approved(clerk: Clerk) -> None:
    first, second = clerk.propose(), clerk.propose({SYMBOLS[0]: 10})
    told = clerk.told()
    assert only(told)["id"] == second.orders_id
    old = next(one for one in told["orders"] if one["id"] == first.orders_id)
    assert (old["status"], old["instead"]) == ("replaced", second.orders_id)
    assert [words[0] for words in commands_of(old)] == ["approve"]
    clerk.propose(account="A2", new_account=True)
    assert [one["account"] for one in clerk.told()["orders"] if one["current"]] == ["A2", "A1"]
    assert "A2 proposed, A1 proposed" in clerk.page()


def with_one_bar(clerk: Clerk, bars: pl.DataFrame, closes: list[datetime]) -> tuple[Clerk, pl.DataFrame]:
    """The clerk after an update with the next bar of one symbol, and the bars of all of them up to that close."""
    close = closes[FIRST + 1]
    there = bars.filter(pl.col("time") <= close)
    update(clerk.store, there.filter((pl.col("time") < close) | (pl.col("symbol") == SYMBOLS[0])), now=close + HOUR)
    return clerk._replace(close=close), there


def test_an_exported_file_that_is_out_of_date_is_said_until_its_open(
    clerk: Clerk, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    """The bar of one symbol came after the export: the session was decided again."""
    clerk, there = with_one_bar(clerk, bars, closes)
    made = clerk.exported()
    said = f"The exported file is out of date: orders {made.orders_id} of the account 'A1'"
    assert all(said not in one for one in everywhere(clerk, HOUR))
    assert any(said in one for one in update(clerk.store, there, now=clerk.now + HOUR).warnings)
    assert all(said in one for one in everywhere(clerk, 2 * HOUR))
    found = next(one for one in clerk.told(2 * HOUR)["orders"] if one["id"] == made.orders_id)
    assert f"gatecast withdraw {clerk.store} {made.orders_id} --by WHO" in found["sentence"]
    assert all(said not in one for one in everywhere(clerk, PASSED))


def test_an_exported_file_that_is_still_good_comes_before_later_proposals(
    clerk: Clerk, bars: pl.DataFrame, closes: list[datetime], capsys: pytest.CaptureFixture[str]
) -> None:
    """On the page, in the API, in the command and in Python; until the bar of one symbol comes and the book decides."""
    clerk, there = with_one_bar(clerk, bars, closes)
    made = clerk.exported()
    open_now, held = clerk.still_open([{**row, "units": 1} for row in made.rows]), clerk.folder / "held A1.csv"
    capsys.readouterr()
    words = ["orders", clerk.store, "--positions", held, "--capital", 1e6, "--open-orders", open_now]
    assert execute([str(one) for one in [*words, "--now", clerk.now.isoformat()]]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Orders {made.orders_id} of this account and session were exported, and their file is")
    newer = next(one["id"] for one in clerk.told()["orders"] if one["id"] != made.orders_id)
    assert f"Orders {newer} (proposed)" in said
    assert [one["id"] for one in clerk.told()["orders"]] == [made.orders_id, newer]
    assert clerk.told()["sentence"].endswith(": A1 exported, A1 proposed.")
    page = clerk.page()
    assert page.index(made.orders_id) < page.index(newer)
    assert set(proposed_orders(Store.open(clerk.store))["orders_id"]) == {made.orders_id}
    update(clerk.store, there, now=clerk.now + HOUR)
    assert [one["id"] for one in clerk.told(2 * HOUR)["orders"]] == [newer, made.orders_id]
    assert set(proposed_orders(Store.open(clerk.store))["orders_id"]) == {newer}


def everywhere(clerk: Clerk, after: timedelta) -> list[str]:
    """What `health`, `today`, the first page and the page of orders say."""
    now = clerk.close + after
    checks = " ".join(one.sentence for one in health(clerk.store, now=now).checks if one.name == "orders")
    first = " ".join(html.unescape(re.sub(r"<[^>]*>", "", clerk.asked(after).get("/").text)).split())
    return [checks, " ".join(today(clerk.store, now=now).superseded), first, clerk.page(after)]


@pytest.fixture
def next_day(clerk: Clerk, bars: pl.DataFrame, closes: list[datetime]) -> Callable[[], Clerk]:
    def go() -> Clerk:
        close = closes[FIRST + 1]
        update(clerk.store, bars.filter(pl.col("time") <= close), now=close + HOUR)
        return clerk._replace(close=close)

    return go


def test_sessions_before_stay_told(clerk: Clerk, next_day: Callable[[], Clerk]) -> None:
    made = clerk.exported()
    clerk.fills(made)
    later = next_day()
    told = later.told()
    assert told["sentence"] == f"No orders of {later.close.date()} were proposed."
    (one,) = told["orders"]
    assert (one["session"], one["status"], one["current"]) == (str(clerk.close.date()), "filled", False)
    assert "cy, " in later.page()
    later.propose({row["symbol"]: row["units"] for row in made.rows})
    assert [one["session"] for one in later.told()["orders"]] == [str(later.close.date()), str(clerk.close.date())]
    assert "Not reconciled since" not in later.page()
