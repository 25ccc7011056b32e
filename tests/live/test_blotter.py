"""What an account should hold: fills and actions since its last positions, beside sums by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.live import blotter
from gatecast.live.blotter import Baseline
from gatecast.live.positions import Fill, Positions
from gatecast.market.actions import WHOLE, no_actions
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.sessions import day_of

EVENING = datetime(2024, 6, 28, 22, tzinfo=UTC)


def later(days: int, until: date | None = None) -> Positions:
    moment = EVENING + timedelta(days=days)
    return Positions({}, moment, moment.date(), splits_until=until)


def actions(*rows: dict[str, Any]) -> pl.DataFrame:
    usual = {"value": 1.0, "known_at": None, "pay_date": None, "into": None, "ratio": None}
    return pl.DataFrame([{**usual, **row} for row in rows], schema=WHOLE)


def new_york(_symbol: str, moment: datetime) -> date:
    return day_of(moment, ASSET_CLASSES["equity"])


def expected(
    baseline: Baseline, fills: list[Fill], table: pl.DataFrame, found: Positions
) -> tuple[dict[str, float], frozenset[str]]:
    return blotter.expected(baseline, fills, table, found, new_york)


def split(day: date, ratio: float = 2.0, **more: object) -> pl.DataFrame:
    return actions({"symbol": "A", "kind": "split", "date": day, "value": ratio, **more})


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
    base = Baseline({"A": 100.0}, EVENING, agreed=EVENING)
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


@pytest.mark.parametrize("ratio", [2.0, 0.3, 3.0])
@pytest.mark.parametrize("until", [None, date(2024, 6, 30)])
def test_an_evening_in_new_york_has_not_yet_the_split_of_the_next_day(ratio: float, until: date | None) -> None:
    """Its date in UTC is that of the split already. Who has lost what was held is not taken to be as expected."""
    evening, morning = datetime(2024, 7, 1, 0, 10, tzinfo=UTC), datetime(2024, 7, 1, 13, 30, tzinfo=UTC)
    base, found = Baseline({"A": 101.0}, evening, until), later(4)
    assert expected(base, [fill(1, 200, morning)], split(date(2024, 7, 1), ratio), found)[0] == {"A": 101 * ratio + 200}
    night = fill(2, 10, evening + timedelta(minutes=30))  # before the split, though its date in UTC is that of it
    assert expected(base, [night], split(date(2024, 7, 1), ratio), found)[0] == {"A": 111 * ratio}


def test_a_split_of_the_day_is_in_units_that_agreed_when_it_was_known() -> None:
    day = date(2024, 6, 28)
    agreed = Baseline({"A": 202.0}, EVENING, agreed=EVENING)
    for known_at, held in ((None, 202.0), (EVENING, 202.0), (EVENING + timedelta(days=2), 404.0)):
        assert expected(agreed, [], split(day, known_at=known_at), later(5))[0] == {"A": held}
    assert expected(Baseline({"A": 101.0}, EVENING), [], split(day), later(5))[0] == {"A": 202.0}  # nothing is known


@pytest.mark.parametrize(("mine", "theirs", "held"), [(27, 28, 200.0), (28, 28, 100.0), (None, 28, 100.0)])
def test_positions_of_one_moment_differ_by_what_both_say(mine: int | None, theirs: int, held: float) -> None:
    base = Baseline({"A": 100.0}, EVENING, None if mine is None else date(2024, 6, mine))
    assert expected(base, [], split(date(2024, 6, 28)), later(0, date(2024, 6, theirs)))[0] == {"A": held}


@given(st.integers(0, 72), st.integers(1, 72), st.sampled_from([0.1, 0.5, 2.0, 3.0]))
def test_an_untouched_account_is_always_as_expected(first: int, after: int, ratio: float) -> None:
    """Of an account whose units change at midnight in New York, whatever the moments at which it is asked."""
    midnight = datetime(2024, 7, 1, 4, tzinfo=UTC)
    moments = [midnight + timedelta(hours=hours - 36) for hours in (first, first + after)]
    true = [100 * ratio if moment >= midnight else 100.0 for moment in moments]
    until = [new_york("A", moment) for moment in moments]  # which is what a careful file says
    base = Baseline({"A": true[0]}, moments[0], until[0])
    found = Positions({}, moments[1], moments[1].date(), splits_until=until[1])
    assert expected(base, [], split(date(2024, 7, 1), ratio), found)[0]["A"] == pytest.approx(true[1])
