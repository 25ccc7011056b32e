"""What an account should hold: fills and actions since its last positions, beside sums by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.live.blotter import Baseline, expected
from gatecast.live.positions import Fill, Positions
from gatecast.market.actions import WHOLE, no_actions

EVENING = datetime(2024, 6, 28, 22, tzinfo=UTC)


def later(days: int, until: date | None = None) -> Positions:
    moment = EVENING + timedelta(days=days)
    return Positions({}, moment, moment.date(), splits_until=until)


def actions(*rows: dict[str, Any]) -> pl.DataFrame:
    usual = {"value": 1.0, "known_at": None, "pay_date": None, "into": None, "ratio": None}
    return pl.DataFrame([{**usual, **row} for row in rows], schema=WHOLE)


def fill(number: int, units: float, moment: datetime, symbol: str = "A") -> Fill:
    return Fill(f"f{number}", "a1", symbol, "buy" if units > 0 else "sell", abs(units), 10.0, moment)


@given(st.lists(st.tuples(st.integers(-100, 100).filter(bool), st.integers(-72, 200)), max_size=20))
def test_fills_between_two_moments_are_added(trades: list[tuple[int, int]]) -> None:
    rows = [fill(place, units, EVENING + timedelta(hours=hours)) for place, (units, hours) in enumerate(trades)]
    found, rounded = expected(Baseline({"A": 50.0}, EVENING), rows, no_actions(), later(3))
    assert found.get("A", 0.0) == 50 + sum(units for units, hours in trades if 0 < hours <= 72)
    assert not rounded


@pytest.mark.parametrize(
    ("row", "held"),
    [
        ({"kind": "split", "value": 4.0}, {"A": 400.0, "B": 10.0}),
        ({"kind": "unit", "value": 0.01}, {"A": 100.0, "B": 10.0}),
        ({"kind": "dividend", "value": 0.5}, {"A": 100.0, "B": 10.0}),
        ({"kind": "delisting", "value": -0.3}, {"B": 10.0}),
        ({"kind": "symbol_change", "into": "C"}, {"C": 100.0, "B": 10.0}),
        ({"kind": "spin_off", "value": 0.2, "into": "C"}, {"A": 100.0, "B": 10.0, "C": 20.0}),
        ({"kind": "merger", "value": 5.0, "into": "B", "ratio": 0.5}, {"B": 60.0}),
        ({"kind": "merger", "value": 5.0}, {"B": 10.0}),
    ],
)  # fmt: skip
def test_what_an_action_makes_of_a_holding(row: dict[str, Any], held: dict[str, float]) -> None:
    table = actions({"symbol": "A", "date": date(2024, 7, 1), **row})
    assert expected(Baseline({"A": 100.0, "B": 10.0}, EVENING), [], table, later(5))[0] == held


def test_the_delisting_that_a_merger_was_takes_nothing_away() -> None:
    merger = {"symbol": "A", "kind": "merger", "date": date(2024, 7, 1), "value": 0.0, "into": "B", "ratio": 2.0}
    end = {"symbol": "A", "kind": "delisting", "date": date(2024, 6, 30), "value": 0.1}
    assert expected(Baseline({"A": 100.0}, EVENING), [], actions(end, merger), later(5))[0] == {"B": 200.0}


def test_actions_count_from_the_day_after_up_to_the_day_that_the_units_have() -> None:
    def split(day: date) -> pl.DataFrame:
        return actions({"symbol": "A", "kind": "split", "date": day, "value": 2.0})

    base = Baseline({"A": 100.0}, EVENING)
    assert expected(base, [], split(date(2024, 6, 28)), later(5))[0] == {"A": 100.0}
    assert expected(base, [], split(date(2024, 7, 1)), later(5))[0] == {"A": 200.0}
    assert expected(base, [], split(date(2024, 7, 3)), later(5, date(2024, 7, 2)))[0] == {"A": 100.0}
    assert expected(base, [], split(date(2024, 7, 9)), later(5))[0] == {"A": 100.0}


def test_what_was_bought_before_a_split_is_split() -> None:
    table = actions({"symbol": "A", "kind": "split", "date": date(2024, 7, 2), "value": 2.0})
    rows = [fill(1, 10, EVENING + timedelta(days=3, hours=-6)), fill(2, 10, EVENING + timedelta(days=4))]
    found, rounded = expected(Baseline({"A": 100.0}, EVENING), rows, table, later(5))
    assert found == {"A": 2 * 110.0 + 10}
    assert rounded == {"A"}
