"""What comes after an export: fills, and whether the account holds what it should."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from gatecast.live import add_action
from gatecast.live.blotter import Blotter
from gatecast.report import card
from gatecast.store import Store
from gatecast.store.journal import canonical
from tests.live.conftest import HOUR
from tests.live.desk import NEXT_OPEN, Desk, text_of
from tests.live.test_book_of_a_store import Feed


def test_partial_fills_are_added_and_the_same_again_is_seen(desk: Desk) -> None:
    rows, at = desk.export(), desk.close + NEXT_OPEN
    first = desk.fills(rows, at, share=0.5)
    assert desk.do("fills", "--file", first, "--json", after=NEXT_OPEN).json["new"] == 2
    again = desk.do("fills", "--file", first, "--json", after=NEXT_OPEN).json
    assert (again["new"], again["seen"]) == (0, 2)
    rest = desk.do("fills", "--file", desk.fills(rows, at, share=0.5, name="g"), "--json", after=NEXT_OPEN).json
    assert [one["left"] for one in rest["orders"]] == [0.0, 0.0]
    assert [one["kind"] for one in Store.open(desk.store).state.orders][-2:] == ["fills", "fills"]


def test_an_order_whose_rest_is_below_the_digits_of_its_file_is_done(desk: Desk) -> None:
    row = desk.export()[0]
    digits = f"{float(row['units']) * (1 - 3e-13):.17g}"
    line = f"1,{row['order_id']},{row['symbol']},{row['side']},{digits},{row['limit_price']}"
    head = "fill_id,order_id,symbol,side,units,price,time"
    file = desk.write("f.csv", [head, f"{line},{text_of(desk.close + NEXT_OPEN)}"])
    (order,) = desk.do("fills", "--file", file, "--json", after=NEXT_OPEN).json["orders"]
    assert order["filled"] < order["units"]
    assert order["left"] == 0.0


def test_the_card_says_what_became_of_orders(desk: Desk) -> None:
    def said() -> str:
        limits = next(one for one in card(desk.store).sections if one.title == "Limits")
        return limits.said[-1].partition("as above. ")[2]

    assert said() == "Of orders no file was exported."
    rows, export = desk.export(), Store.open(desk.store).state.orders[-1]["id"]
    assert said().startswith("Of orders 1 file was exported, and no fill was told")
    assert desk.do("withdraw", export, "--by", "bob").status == 0
    assert said() == "Of orders 1 file was exported, and withdrawn since."
    desk.export(name="again.csv")
    desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN)
    assert said().startswith("Of orders 1 file was exported, and 2 fills were told: how fills compare")


def test_a_stale_fill_is_told(desk: Desk) -> None:
    rows, late = desk.export(), timedelta(days=5)
    done = desk.do("fills", "--file", desk.fills(rows, desk.close + late), "--json", after=late)
    assert done.status == 0
    assert "stale" in done.json["warnings"][0]


def test_a_break_is_refused_until_it_is_explained(desk: Desk, feed: Feed, closes: list[datetime], month: int) -> None:
    rows = desk.export()
    desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN)
    units: dict[str, object] = {row["symbol"]: float(row["units"]) for row in rows}
    feed(month - 3)
    today = desk._replace(close=closes[month - 3])
    units["B1_0"] = float(str(units["B1_0"])) - 7
    held = today.held(units)
    refused = today.orders(held)
    assert refused.status == 2
    assert "Nobody has explained it" in refused.err
    told = today.do("reconcile", "--positions", held, "--json")
    assert told.status == 1
    assert [(one["symbol"], one["found"] - one["expected"]) for one in told.json["breaks"]] == [("B1_0", -7.0)]
    assert [(one, gap.symbol) for one, gap in Blotter(Store.open(desk.store)).unexplained] == [("A1", "B1_0")]
    explained = today.do("reconcile", "--positions", held, "--explain", "B1_0", "given away", "--by", "ann", "--json")
    assert explained.status == 0
    assert explained.json["breaks"][0]["reason"] == "given away"
    assert Blotter(Store.open(desk.store)).unexplained == []
    assert today.orders(held).status == 0


def test_a_split_between_is_part_of_what_is_expected(desk: Desk) -> None:
    desk.do("reconcile", "--positions", desk.held({"B1_0": 100}))
    later = desk.close + timedelta(days=4)
    add_action(desk.store, symbol="B1_0", day=later.date(), kind="split", ratio=4.0, now=desk.close + 2 * HOUR)
    day = later.date()
    one = desk.held({"B1_0": 400}, as_of=day, splits_until=day)
    assert desk.do("reconcile", "--positions", one, "--json", after=timedelta(days=5)).json["clean"]
    other = desk.do("reconcile", "--positions", desk.held({"B1_0": 100}, as_of=day), "--json", after=timedelta(days=6))
    assert [(one["expected"], one["found"]) for one in other.json["breaks"]] == [(400.0, 100.0)]


def test_nothing_need_be_said_of_orders_that_are_filled(desk: Desk) -> None:
    rows = desk.export(desk.held(as_of=text_of(desk.close)))
    units: dict[str, object] = {row["symbol"]: float(row["units"]) for row in rows if row["side"] == "buy"}
    assert len(units) == len(rows)
    half, whole = desk.close + timedelta(minutes=30), desk.close + timedelta(minutes=60)
    assert desk.do("fills", "--file", desk.fills(rows, half, share=0.5)).status == 0
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert "may be open until" in desk.orders(desk.held(units, as_of=text_of(half))).err
    assert desk.do("fills", "--file", desk.fills(rows, whole, share=0.5, name="g")).status == 0
    early = desk.orders(desk.held(units, as_of=text_of(half)), after=2 * HOUR)
    assert early.status == 2
    assert "before the fill g" in " ".join(early.err.split())
    sold = desk.orders(desk.held(units, as_of=text_of(whole)), "--json", after=2 * HOUR)
    assert sold.status == 0, sold.err
    assert {one["symbol"]: one["units"] for one in sold.json["orders"]} == units


def test_an_order_that_was_exported_twice_is_filled_up_to_the_more_units(desk: Desk) -> None:
    """Cancelled, and sold to the same target when more was held: one id."""
    row = desk.export()[0]
    store, more = Store.open(desk.store), float(row["units"]) + 10
    proposed, exported = (store.state.orders[place] for place in (0, -1))
    content = Blotter(store).content(proposed)
    content["orders"] = [{**one, "units": more} for one in content["orders"] if one["order_id"] == row["order_id"]]
    part = store.put(canonical(content), ".json")
    body = {name: value for name, value in proposed.items() if name not in ("kind", "now", "record")}
    store.append("proposed", {**body, "id": "0" * 16, "parts": {"orders": part}}, desk.close + HOUR)
    body = {name: value for name, value in exported.items() if name not in ("kind", "now", "record")}
    store.append("exported", {**body, "id": "0" * 16}, desk.close + 2 * HOUR)
    account, order, when = Blotter(Store.open(desk.store)).exported()[row["order_id"]]
    assert (account, order["units"], when) == ("A1", more, desk.close + HOUR)


def test_an_explanation_explains_no_later_loss(desk: Desk) -> None:
    """Five are given away, come back, and are missing again: nobody has explained that."""

    def found(day: int, units: int, *words: str) -> Any:
        held = desk.held({"B1_0": units}, as_of=(desk.close + timedelta(days=day)).date())
        return desk.do("reconcile", "--positions", held, *words, "--json", after=timedelta(days=day + 1)).json

    found(0, 100)
    assert found(1, 95, "--explain", "B1_0", "given away")["clean"]
    assert found(2, 100, "--explain", "B1_0", "came back")["clean"]
    again = found(3, 95)
    assert not again["clean"]
    assert again["breaks"] == [{"symbol": "B1_0", "expected": 100.0, "found": 95.0, "reason": None}]


def test_differences_of_the_same_positions_are_explained_one_by_one(desk: Desk) -> None:
    later = (desk.close + timedelta(days=1)).date()

    def found(day: object, *words: str) -> Any:
        held = desk.held({"B1_0": 95, "B1_1": 20}, as_of=day)
        told = desk.do("reconcile", "--positions", held, *words, "--json", after=timedelta(days=3)).json
        return [one["reason"] for one in told["breaks"]]

    desk.do("reconcile", "--positions", desk.held({"B1_0": 100, "B1_1": 10}))
    assert found(later, "--explain", "B1_0", "given away") == ["given away", None]
    assert found(later) == ["given away", None]
    assert found(later + timedelta(days=1)) == [None, None]
    assert found(later, "--explain", "B1_1", "bought") == [None, "bought"]
    assert found(later, "--explain", "B1_0", "given away") == ["given away", "bought"]
