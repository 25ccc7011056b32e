"""Orders are stopped by a halt, and taken back after an export."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from gatecast.live.blotter import Blotter
from gatecast.live.standing import standing
from gatecast.store import Store
from tests.live.conftest import HOUR, Answer
from tests.live.desk import NEXT_OPEN, Desk, approved_and_exported
from tests.live.test_book_of_a_store import Feed


def test_a_halt_stops_everything_and_flattening_closes_all(desk: Desk) -> None:
    held = desk.held({"B1_0": 300, "B1_1": -50})
    halted = desk.do("halt", "--by", "ann", "--reason", "odd feed", "--json").json
    assert halted["halted"]
    assert "`gatecast halt" in halted["message"]
    assert f"--release --record {halted['halts'][0]['record']}`" in halted["message"]
    assert "is halted by ann" in desk.orders(held).err
    assert "may be exported again" in desk.do("halt", "--by", "ann", "--reason", "to flatten", "--release").out
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    rows = desk.export(held)
    assert {row["symbol"]: (row["side"], float(row["units"])) for row in rows} == {
        "B1_0": ("sell", 300.0), "B1_1": ("buy", 50.0),
    }  # fmt: skip
    assert desk.do("halt", "--by", "bob", "--reason", "over", "--release").status == 0
    assert desk.orders(held, "--open-orders", desk.none_open()).status == 0
    assert desk.do("halt", "--by", "bob", "--reason", "more", "--release").status == 2


def in_force(desk: Desk) -> list[tuple[str, str, bool]]:
    """Who halted the store, why, and whether what is held may be closed: of each halt that is in force."""
    return [(one.by, one.reason, one.flatten) for one in Blotter(Store.open(desk.store)).halts]


def test_a_full_halt_is_not_loosened_by_one_of_another_that_flattens(desk: Desk) -> None:
    held = desk.held({"B1_0": 300})
    desk.do("halt", "--by", "tom", "--reason", "prices wrong")
    refused = desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert refused.status == 2
    assert "halted by tom" in " ".join(refused.err.split())
    assert in_force(desk) == [("tom", "prices wrong", False)]
    assert "prices wrong" in " ".join(desk.orders(held).err.split())


def test_every_halt_stays_in_force_until_it_is_released_and_the_strictest_counts(desk: Desk) -> None:
    held = desk.held({"B1_0": 300})
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    made = desk.orders(held, "--json").json
    assert desk.do("approve", made["id"], "--by", "ann").status == 0
    done = desk.do("halt", "--by", "tom", "--reason", "prices wrong", "--json").json
    assert [one["by"] for one in done["halts"]] == ["ann", "tom"]
    flatten, full = (one["record"] for one in done["halts"])
    assert "already" in desk.do("halt", "--by", "tom", "--reason", "prices wrong").out
    assert len(in_force(desk)) == 2
    refused = desk.orders(held, "--out", desk.folder / "a.csv")
    assert "halted by tom" in " ".join(refused.err.split())
    check = next(one for one in desk.do("health", "--json").json["checks"] if one["name"] == "orders")
    told = [line for line in desk.do("today").out.splitlines() if line.startswith("halt:")]
    for name, why in (("ann", "out"), ("tom", "prices wrong")):
        assert f"halted by {name}" in check["sentence"]
        assert why in check["sentence"]
    assert all(line.startswith("halt: no orders are exported") for line in told)
    assert len(told) == 2
    unsaid = desk.do("halt", "--by", "tom", "--reason", "mended", "--release")
    assert unsaid.status == 2
    assert "--record" in " ".join(unsaid.err.split())
    other = desk.do("halt", "--by", "tom", "--reason", "mended", "--release", "--record", full + 100)
    assert other.status == 2
    part = desk.do("halt", "--by", "tom", "--reason", "mended", "--release", "--record", full, "--json").json
    assert part["halted"]
    assert in_force(desk) == [("ann", "out", True)]
    assert desk.orders(held, "--out", desk.folder / "a.csv").status == 0
    listed = " ".join(desk.command("store", "list", desk.store).out.split())
    assert "by ann: out (flatten)" in listed
    assert f"(of the halt in record {full})" in listed
    last = desk.do("halt", "--by", "tom", "--reason", "over", "--release", "--record", flatten, "--json").json
    assert not last["halted"]


def test_the_same_release_again_changes_nothing(desk: Desk) -> None:
    for again in (False, True):
        for _ in range(1 + again):
            desk.do("halt", "--by", "ann", "--reason", "odd feed")
            done = desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
        number = Store.open(desk.store).state.number
        done = desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
        assert (done.status, "nothing has changed" in done.out) == (0, True)
        one = Store.open(desk.store).state.number - 1
        done = desk.do("halt", "--by", "ann", "--reason", "mended", "--release", "--record", one)
        assert (done.status, "nothing has changed" in done.out) == (0, True)
        assert Store.open(desk.store).state.number == number
    assert desk.do("halt", "--by", "bob", "--reason", "mended", "--release").status == 2


def test_a_release_of_an_older_version_ends_all_halts(desk: Desk) -> None:
    store = Store.open(desk.store)
    with store.locked():
        for name, flatten in (("tom", False), ("ann", True)):
            store.append("halted", {"by": name, "reason": "odd", "flatten": flatten}, desk.close + HOUR)
        assert [one.by for one in Blotter(store).halts] == ["tom", "ann"]
        assert Blotter(store).flattens is None
        store.append("released", {"by": "tom", "reason": "mended"}, desk.close + HOUR)
    assert in_force(desk) == []


def test_an_export_says_who_made_it(desk: Desk) -> None:
    held = desk.held()
    made = desk.orders(held, "--json").json
    desk.do("approve", made["id"], "--by", "ann")
    words = ("--positions", held, "--capital", 1e6, "--out", desk.folder / "a.csv")
    refused = desk.do("orders", *words)
    assert refused.status == 2
    assert "--out needs --by" in " ".join(refused.err.split())
    assert not (desk.folder / "a.csv").exists()
    assert desk.do("orders", *words, "--by", "bob").status == 0
    exported = [one["by"] for one in Store.open(desk.store).state.orders if one["kind"] == "exported"]
    assert exported == ["bob"]


def test_what_is_left_out_and_what_has_no_price_are_told_apart(desk: Desk) -> None:
    held = desk.held({"B1_0": 300, "B1_1": 5})
    notes = desk.orders(held, "--without", "B1_0", "--json").json["notes"]
    assert "'B1_0': left out of these orders, with --without." in notes
    assert not [one for one in notes if "was known by the next open" in one]


def test_a_session_has_one_file_whatever_the_halts(desk: Desk) -> None:
    """Everything would be sold twice."""
    held = desk.held({"B1_0": 300, "B1_1": -50})
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    rows = desk.export(held)
    desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    desk.do("halt", "--by", "bob", "--reason", "out again", "--flatten")
    unsaid = desk.orders(held)
    assert unsaid.status == 2
    assert "say what is open now with --open-orders" in " ".join(unsaid.err.split())
    lines = [f"{row['order_id']},{row['symbol']},{row['side']},{row['units']}" for row in rows]
    still = desk.write("open.csv", ["order_id,symbol,side,remaining", *lines])
    assert desk.orders(held, "--open-orders", still, "--json").json["orders"] == []
    same = desk.orders(held, "--open-orders", desk.none_open(), "--json").json["orders"]
    assert [one["order_id"] for one in same] == [row["order_id"] for row in rows]
    for _ in ("flattened once more", "released"):
        answer = approved_and_exported(desk, held, "more.csv")
        assert answer.status == 2
        assert "a session has one file" in " ".join(answer.err.split())
        desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    assert not (desk.folder / "more.csv").exists()
    assert len([one for one in Store.open(desk.store).state.orders if one["kind"] == "exported"]) == 1


def test_flattening_after_an_export_needs_what_is_open_and_counts_it(desk: Desk) -> None:
    held = desk.held({"B1_0": 300})
    bought = {row["symbol"]: float(row["units"]) * (1 if row["side"] == "buy" else -1) for row in desk.export(held)}
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert "was exported and may be open until" in " ".join(desk.orders(held).err.split())
    cancelled = desk.orders(held, "--open-orders", desk.none_open(), "--json").json["orders"]
    assert [(one["symbol"], one["side"], one["units"]) for one in cancelled] == [("B1_0", "sell", 300.0)]
    row = desk.orders(held, "--open-orders", desk.none_open(), "--json").json
    left = desk.write("open.csv", ["order_id,symbol,side,remaining", f"x,B1_0,buy,{bought['B1_0']:g}"])
    (both,) = desk.orders(held, "--open-orders", left, "--json").json["orders"]
    assert (both["side"], both["units"]) == ("sell", 300.0 + bought["B1_0"])
    desk.do("approve", row["id"], "--by", "ann")
    out = ("--open-orders", desk.none_open(), "--out", desk.folder / "flat.csv")
    assert desk.orders(held, *out).status == 0


def test_health_and_today_say_who_halted_the_orders_since_when_and_why(desk: Desk) -> None:
    def told() -> tuple[Any, Any]:
        checks = desk.do("health", "--json").json["checks"]
        return next(one for one in checks if one["name"] == "orders"), desk.do("today", "--json").json["halts"]

    assert told() == ({"name": "orders", "level": "ok", "sentence": "no halt is in force."}, [])
    desk.do("halt", "--by", "ann", "--reason", "odd feed")
    check, (halt,) = told()
    since = f"{desk.close + HOUR:%Y-%m-%d %H:%M} UTC"
    said = f"no orders are exported: halted by ann since {since} (odd feed), record {halt['record']}."
    assert check["level"] == "warning"
    assert check["sentence"].startswith(f"{said} `gatecast halt ")
    assert (halt["by"], halt["reason"], halt["flatten"], halt["sentence"]) == ("ann", "odd feed", False, said)
    assert halt["since"][:16] == f"{desk.close + HOUR:%Y-%m-%dT%H:%M}"
    assert f"halt: {said}" in desk.do("today").out.splitlines()
    desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert told()[0]["sentence"].startswith("only orders that close what is held are exported: halted by ann")
    desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    assert told()[1] == []
    assert "halt:" not in desk.do("today").out


def test_health_and_today_say_since_when_a_symbol_is_restricted(
    desk: Desk, feed: Feed, closes: list[datetime], month: int
) -> None:
    for number, listed in enumerate((["B1_1"], ["B1_0", "B1_1"]), month - 3):
        feed(number)
        settings = desk.write(f"{number}.toml", ["[orders]", f"restricted = {json.dumps(listed)}"])
        made = desk._replace(close=closes[number]).do("retrain", "--settings", settings)
        assert made.status == 0, made.err
    today = desk._replace(close=closes[month - 2])
    since = {one["symbol"]: one["since"][:10] for one in today.do("today", "--json").json["restricted"]}
    assert since == {"B1_0": str(closes[month - 2].date()), "B1_1": str(closes[month - 3].date())}
    check = next(one for one in today.do("health", "--json").json["checks"] if one["name"] == "orders")
    assert check["level"] == "ok"
    assert f"'B1_1' is left as it is: restricted by the settings since {since['B1_1']}." in check["sentence"]


# ── an export is taken back ───────────────────────────────────────────────────────────────────────


def withdrawn(desk: Desk, name: str, *words: object, **more: timedelta) -> Answer:
    return desk.do("withdraw", name, "--by", "bob", "--json", *words, **more)


def newest_id(desk: Desk) -> str:
    return str([one for one in Store.open(desk.store).state.orders if one["kind"] == "exported"][-1]["id"])


def test_an_export_is_withdrawn_and_its_orders_go_out_again(desk: Desk) -> None:
    desk.export(held := desk.held())
    first, name = (desk.folder / "orders.csv").read_bytes(), newest_id(desk)
    done = withdrawn(desk, name, "--reason", "wrong broker")
    assert done.json["message"].startswith("Their export is withdrawn")
    assert (done.status, done.json["status"]) == (0, "withdrawn")
    assert f"({done.json['status']})" in desk.do("withdraw", name, "--by", "bob").out
    assert "approved as before" not in done.json["message"]
    shown = desk.orders(held, "--json").json["status"]
    assert shown == standing(Store.open(desk.store), desk.close + HOUR).orders[0]["status"] == "withdrawn"
    assert "--out FILE" in done.json["message"]
    again = withdrawn(desk, name)
    assert again.status == 0
    assert "withdrawn by bob" in again.json["message"]
    assert [one["kind"] for one in Store.open(desk.store).state.orders].count("withdrawn") == 1
    refused = desk.orders(held, "--out", desk.folder / "b.csv", "--again")
    assert "their export was withdrawn" in " ".join(refused.err.split())
    assert desk.orders(held, "--out", desk.folder / "b.csv").status == 0
    assert (desk.folder / "b.csv").read_bytes() == first
    twice = desk.orders(held, "--out", desk.folder / "c.csv")
    assert twice.status == 2
    assert "were exported by ann" in " ".join(twice.err.split())
    kinds = [one["kind"] for one in Store.open(desk.store).state.orders]
    assert kinds == ["proposed", "approved", "exported", "withdrawn", "exported"]
    assert "wrong broker" in desk.command("store", "list", desk.store).out
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []


def test_after_a_withdrawal_nothing_is_open_and_other_orders_of_the_session_may_go_out(desk: Desk) -> None:
    desk.export(desk.held())
    withdrawn(desk, newest_id(desk))
    blotter = Blotter(Store.open(desk.store))
    assert blotter.exported() == {}
    assert blotter.baseline("A1") is None
    other = desk.held({"B1_0": 5})
    assert next(row["held"] for row in desk.export(other, "other.csv")) == "5"


def test_what_was_withdrawn_leaves_past_files_as_they_were(
    desk: Desk, feed: Feed, closes: list[datetime], month: int
) -> None:
    held = desk.held()
    desk.export(held)
    withdrawn(desk, newest_id(desk))
    feed(month - 3)
    today = desk._replace(close=closes[month - 3])
    today.export(today.held(), "next.csv")
    withdrawn(today, newest_id(today))
    feed(month - 2)
    for day, file in ((desk, "orders.csv"), (today, "next.csv")):
        past = today.orders(day.held(), "--as-of", day.day, "--format", "csv", after=timedelta(days=9))
        assert past.out == (desk.folder / file).read_text()


def test_an_export_with_a_fill_is_not_withdrawn(desk: Desk) -> None:
    rows, name = desk.export(), newest_id(desk)
    at = desk.close + timedelta(minutes=30)
    assert desk.do("fills", "--file", desk.fills(rows[:1], at, share=0.1)).status == 0
    refused = withdrawn(desk, name)
    assert refused.status == 2
    assert "units are filled" in json.loads(refused.out)["error"]


def test_an_export_is_not_withdrawn_after_its_open(desk: Desk) -> None:
    desk.export()
    refused = desk.do("withdraw", newest_id(desk), "--by", "bob", after=NEXT_OPEN)
    assert refused.status == 2
    assert "has passed: they cannot be withdrawn" in " ".join(refused.err.split())


def test_an_export_is_not_withdrawn_once_others_count_with_it(desk: Desk) -> None:
    """What closes the position was approved with the first orders open: withdrawn, too much would be sold."""
    desk.export(held := desk.held({"B1_0": 300}))
    name = newest_id(desk)
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    made = desk.orders(held, "--open-orders", desk.none_open(), "--json").json
    assert desk.do("approve", made["id"], "--by", "ann").status == 0
    refused = desk.do("withdraw", name, "--by", "bob")
    assert refused.status == 2
    assert "were approved by ann after the export" in " ".join(refused.err.split())


def test_orders_that_count_with_a_withdrawn_one_are_not_approved(desk: Desk) -> None:
    rows, name = desk.export(held := desk.held({"B1_0": 300})), newest_id(desk)
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    lines = [f"{row['order_id']},{row['symbol']},{row['side']},{row['units']}" for row in rows]
    still = desk.write("open.csv", ["order_id,symbol,side,remaining", *lines])
    made = desk.orders(held, "--open-orders", still, "--json").json
    assert withdrawn(desk, name).status == 0
    for refused in (desk.do("approve", made["id"], "--by", "ann"), desk.orders(held, "--open-orders", still)):
        assert refused.status == 2
        assert "was withdrawn by bob" in " ".join(refused.err.split())


def test_a_fill_of_a_withdrawn_order_is_refused_until_it_went_out_again(desk: Desk) -> None:
    rows, name = desk.export(held := desk.held()), newest_id(desk)
    withdrawn(desk, name)
    file = desk.fills(rows, desk.close + NEXT_OPEN)
    refused = desk.do("fills", "--file", file, after=NEXT_OPEN)
    assert refused.status == 2
    assert "which was withdrawn by bob" in " ".join(refused.err.split())
    assert desk.orders(held, "--out", desk.folder / "b.csv").status == 0
    assert desk.do("fills", "--file", file, after=NEXT_OPEN).status == 0


def test_only_an_export_is_withdrawn(desk: Desk) -> None:
    made = desk.orders(desk.held(), "--json").json
    refused = desk.do("withdraw", made["id"], "--by", "bob")
    assert refused.status == 2
    assert "were never exported" in refused.err
    assert "were proposed" in " ".join(desk.do("withdraw", "0123456789abcdef", "--by", "bob").err.split())
    assert desk.do("withdraw", made["id"], "--by", " ").status == 2
