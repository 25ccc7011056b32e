"""A split between a close and the next fill: orders are in the units and prices that they are filled in."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.live import add_action
from gatecast.trading.orders import in_lots
from tests.live.conftest import HOUR
from tests.live.desk import NEXT_OPEN, Desk


def comes(desk: Desk, kind: str = "split", ratio: float = 4.0, symbol: str = "B1_0") -> date:
    """An action of the next session, known after the close."""
    day = (desk.close + timedelta(days=1)).date()
    add_action(desk.store, symbol=symbol, day=day, kind=kind, ratio=ratio, now=desk.close + HOUR)
    return day


def orders(desk: Desk, held: dict[str, object]) -> dict[str, Any]:
    made = desk.orders(desk.held(held), "--json")
    assert made.status == 0, made.err
    return {row["symbol"]: row for row in made.json["orders"]}


@pytest.mark.parametrize("held", [{}, {"B1_0": 400}])
@pytest.mark.parametrize("ratio", [4.0, 0.1])
def test_an_order_is_in_units_and_prices_after_the_split(desk: Desk, held: dict[str, object], ratio: float) -> None:
    before = orders(desk, held)
    comes(desk, ratio=ratio)
    after = orders(desk, held)
    assert after["B1_1"] == before["B1_1"]
    was, now = before["B1_0"], after["B1_0"]
    assert now["units"] == np.floor(was["units"] * ratio + 1e-9)
    assert now["held"] == was["held"] * ratio
    assert now["target_units"] == now["held"] + now["units"] * (1 if now["side"] == "buy" else -1)
    for name in ("last_close", "limit_price"):
        assert now[name] == pytest.approx(was[name] / ratio, rel=1e-5)
    assert now["value"] == pytest.approx(was["value"], rel=max(1e-9, 10 / was["units"]))
    assert now["reason"].endswith(f"in units after a split of {ratio:g} that comes before the fill")


def test_fills_after_the_split_lead_to_what_the_account_holds(desk: Desk) -> None:
    day = comes(desk)
    rows = desk.export(desk.held({"B1_0": 400}))
    own = next(row for row in rows if row["symbol"] == "B1_0")
    assert desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN).status == 0
    units = {row["symbol"]: float(row["target_units"]) for row in rows}
    assert float(own["held"]) == 1600
    found = desk.held(units, as_of=day, splits_until=day)
    assert desk.do("reconcile", "--positions", found, "--json", after=timedelta(days=2)).json["clean"]


def test_limits_count_what_is_held_in_one_unit(desk: Desk) -> None:
    """Four times the units at a quarter of the price are no larger holding."""
    before = desk.orders(desk.held({"B1_0": 400}), "--json").json["breaches"]
    comes(desk)
    assert desk.orders(desk.held({"B1_0": 400}), "--json").json["breaches"] == before == []


def test_what_is_not_known_after_an_action_is_not_traded_and_the_notes_say_why(desk: Desk) -> None:
    comes(desk)
    left = desk.write("open.csv", ["order_id,symbol,side,remaining", "x1,B1_0,buy,100"])
    made = desk.orders(desk.held({"B1_0": 400}), "--open-orders", left, "--json").json
    assert {row["symbol"] for row in made["orders"]} == {"B1_1"}
    assert "what it makes of the open orders is not known: not traded today" in made["notes"][0]


def test_positions_of_the_day_of_the_split_may_have_it_or_not(desk: Desk) -> None:
    day = comes(desk)
    held = desk.held({"B1_0": 400}, as_of=f"{day}T10:00+00:00")
    made = desk.orders(held, "--json", after=timedelta(hours=14)).json
    assert {row["symbol"] for row in made["orders"]} == {"B1_1"}
    assert f"whether the units of {day} have it is not known" in made["notes"][0]


@pytest.mark.parametrize("until", [False, True])
def test_an_evening_in_new_york_is_before_the_split_of_the_next_day(desk: Desk, until: bool) -> None:
    """Though its date in UTC is that of the split: it is ordered after it, and shares that are lost are seen."""
    day = comes(desk)
    more = {"splits_until": desk.day} if until else {}
    rows = desk.export(desk.held({"B1_0": 400}, as_of=f"{day}T00:10", **more), after=timedelta(hours=4))
    units = {row["symbol"]: float(row["target_units"]) for row in rows}
    assert {row["symbol"]: float(row["held"]) for row in rows}["B1_0"] == 1600
    assert desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN).status == 0
    lost = desk.held(units | {"B1_0": units["B1_0"] - 1200}, as_of=day, splits_until=day)
    told = desk.do("reconcile", "--positions", lost, "--json", after=timedelta(days=2)).json
    assert [(one["symbol"], one["found"] - one["expected"]) for one in told["breaks"]] == [("B1_0", -1200)]
    found = desk.held(units, as_of=day, splits_until=day)
    assert desk.do("reconcile", "--positions", found, "--json", after=timedelta(days=2)).json["clean"]


def test_a_share_that_is_not_held_is_not_bought_before_it_changes_its_unit(desk: Desk) -> None:
    comes(desk, kind="unit", ratio=100.0)
    made = desk.orders(desk.held(), "--json").json
    assert {row["symbol"] for row in made["orders"]} == {"B1_1"}
    assert "a unit comes on" in made["notes"][0]


@given(st.floats(-1e9, 1e9), st.floats(0.001, 1e6))
def test_lots_are_whole_and_never_more_than_what_was_asked_for(units: float, lot: float) -> None:
    found = in_lots(units, lot)
    assert abs(found) <= abs(units) * (1 + 1e-8) + 1e-8 * lot
    assert abs(units) - abs(found) < lot * (1 + 1e-8) + 1e-8 * abs(units)
    assert found * units >= 0
    assert found / lot == pytest.approx(round(found / lot), abs=1e-6 * max(1.0, abs(found / lot)))
