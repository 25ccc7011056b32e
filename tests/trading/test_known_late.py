"""Actions that become known after their date: who held before the date is paid, later, and to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gatecast.market.actions import read_actions
from gatecast.trading.costs import MoneySettings
from gatecast.trading.events import End, Exchange, Session, events_of
from gatecast.trading.instruments import Instruments
from gatecast.trading.money import LATE_DAYS, Account, Booked, book_session

FREE = MoneySettings(
    commission_bps=0, commission_minimum=0, half_spread_bps=0, impact=0, benchmark_rate=0, debit_spread=0,
    borrow_bps_per_year=0, withholding=0.15, least_lent_volume=0,
)  # fmt: skip
DAYS = [
    date(2024, 3, 1) + timedelta(days=day) for day in range(14) if (date(2024, 3, 1) + timedelta(day)).weekday() < 5
]
NAMES = ("A", "B", "CHILD", "OLD", "BUYER")
OWN = Instruments.of(dict.fromkeys(NAMES, "index"), FREE)


def table(*rows: dict[str, object]) -> pl.DataFrame:
    """A table of actions; `known`: the number of the session at whose noon a row becomes known."""
    columns = ("symbol", "kind", "date", "value", "known_at", "pay_date", "into", "ratio")
    made = [
        {
            **dict.fromkeys(columns),
            **{name: one for name, one in row.items() if name != "known"},
            "known_at": datetime.combine(DAYS[int(str(row["known"]))], time(12), UTC),
        }
        for row in rows
    ]
    return read_actions(
        pl.DataFrame(made, schema_overrides={"pay_date": pl.Date, "into": pl.String, "ratio": pl.Float64})
    )


def held_through(
    actions: pl.DataFrame, closes: list[list[float]], orders: dict[int, list[float]], start: list[float]
) -> list[tuple[Account, Booked]]:
    """The account of units that are held at the first session, after each of the later ones; filled at the closes."""
    ends = [datetime.combine(day, time(21), UTC) for day in DAYS]
    events = events_of(actions, DAYS, closes=ends)
    opened = Account.opened(0.0, len(NAMES))
    account = replace(opened, units=np.array(start), price=np.array(closes[0]), rate=np.ones(len(NAMES)), day=DAYS[0])
    found = []
    for number in range(1, len(closes)):
        price = np.array(closes[number])
        session = Session(DAYS[number], price, price, events=events.get(DAYS[number], ()))
        wanted = np.array(orders.get(number, [0.0] * len(NAMES)))
        account, booked = book_session(account, session, wanted, OWN, FREE)
        assert abs(booked.difference) < 1e-9 * max(booked.equity, 1.0)
        found.append((account, booked))
    return found


NO = float("nan")
CLOSES = [  # A splits two for one in session 5, CHILD one for two in session 4
    #  A      B     CHILD  OLD    BUYER
    [100.00, 50.0, 10.00, 20.00, 80.00],
    [101.00, 50.5, 10.10, 21.00, 81.00],
    [99.50, 51.0, 10.00, NO, 82.00],
    [100.00, 50.0, 9.90, NO, 82.50],
    [102.00, 50.0, 20.00, NO, 83.00],
    [51.50, 49.5, 20.20, NO, 84.00],
    [52.00, 49.0, 20.00, NO, 85.00],
    [52.50, 49.0, 19.50, NO, 86.00],
]
TOLD = table(
    {"symbol": "A", "kind": "dividend", "date": DAYS[2], "value": 0.8, "pay_date": DAYS[3], "known": 6},
    {"symbol": "B", "kind": "return_of_capital", "date": DAYS[2], "value": 1.5, "pay_date": DAYS[7], "known": 4},
    {"symbol": "B", "kind": "spin_off", "date": DAYS[3], "value": 0.5, "into": "CHILD", "known": 6},
    {"symbol": "OLD", "kind": "merger", "date": DAYS[2], "value": 5.25, "into": "BUYER", "ratio": 0.5, "known": 5},
    {"symbol": "CHILD", "kind": "split", "date": DAYS[4], "value": 0.5, "known": 0},
    {"symbol": "A", "kind": "split", "date": DAYS[5], "value": 2.0, "known": 0},
)
ORDERS = {2: [-40.0, 0, 0, 0, 0], 3: [0, -200.0, 0, 0, 0], 4: [30.0, 50.0, 0, 0, 0]}
START = [100.0, -200.0, 0.0, 300.0, 0.0]
BY_HAND = [  # session: profit; A from 100 to 60 units, 90, 180; B from -200 to -400, then -350
    round(100 * 1.00 - 200 * 0.50 + 300 * 1.00, 2),
    round(100 * -1.50 - 200 * 0.50, 2),
    round(60 * 0.50 - 200 * -1.00, 2),
    round(60 * 2.00 - 400 * 0.00 + -200 * 1.50, 2),  # who was short 200 before its date pays 1.50 on each
    round(90 * 1.00 - 350 * -0.50 + 300 * (5.25 + 0.5 * 84.00 - 21.00), 2),
    # 0.80 on 100 units, of which 15 % is withheld; of 200 short 0.5 CHILD each, which are 50 since two became one
    round(180 * 0.50 - 350 * -0.50 + 150 * 1.00 + 100 * 0.80 * 0.85 - 50 * 20.00, 2),
    round(180 * 0.50 - 350 * 0.00 + 150 * 1.00 - 50 * -0.50, 2),
]


def test_what_becomes_known_late_is_right_to_the_cent() -> None:
    booked = held_through(TOLD, CLOSES, ORDERS, START)
    assert [round(one.equity - one.before, 2) for _, one in booked] == BY_HAND
    dividends = [one.dividend[:2].round(2).tolist() for _, one in booked]
    assert dividends == [[0, 0]] * 3 + [[0, -300]] + [[0, 0]] + [[80, 0]] + [[0, 0]]
    before, after = booked[5][0], booked[6][0]
    assert before.due == ((DAYS[7], -300.0),)  # the day of payment of A's is past: at once
    assert after.due == ()
    assert after.units.tolist() == [180.0, -350.0, -50.0, 0.0, 150.0]


def test_terms_that_are_known_after_an_end_was_booked_take_its_place() -> None:
    account = replace(
        Account.opened(0.0, 5), units=np.array([0, 0, 0, 100.0, 0]), price=np.array([NO, NO, NO, 20.0, 80.0]),
        rate=np.ones(5), day=DAYS[0],
    )  # fmt: skip
    price, nothing = np.array([NO, NO, NO, NO, 80.0]), np.zeros(5)
    lost = replace(OWN, end_return=np.full(5, -0.3))
    account, booked = book_session(
        account, Session(DAYS[1], price, price, events=(End("OLD", None),)), nothing, lost, FREE
    )
    assert booked.gain[3] == pytest.approx(-600)
    late = Exchange("OLD", cash=5.0, into="BUYER", ratio=0.25, ex_date=DAYS[0])
    account, booked = book_session(account, Session(DAYS[2], price, price, events=(late,)), nothing, lost, FREE)
    assert booked.gain[3] == pytest.approx(500 + 25 * 80 - 1400)
    assert abs(booked.difference) < 1e-9
    assert (account.units[4], account.cash, account.parked[3]) == (25.0, pytest.approx(500), 0.0)


def test_what_is_known_years_late_is_not_booked() -> None:
    later = DAYS[0] + timedelta(days=LATE_DAYS)
    account = replace(
        Account.opened(0.0, 1), units=np.ones(1), price=np.ones(1), rate=np.ones(1), day=later,
        changes=((DAYS[1], 0, 5.0), (DAYS[3], 0, 7.0)),
    )  # fmt: skip
    assert [account.units_before(0, day) for day in (DAYS[0], DAYS[1], DAYS[2], DAYS[4])] == [0.0, 5.0, 7.0, 1.0]


@settings(max_examples=60, deadline=None, phases=[Phase.generate])
@given(st.data())
def test_being_late_moves_money_in_time_and_changes_no_sum(data: st.DataObject) -> None:
    """The same orders, splits and prices: once all is known and paid the same equity, and the same units."""
    count, whole = len(DAYS), st.integers(-50, 50).map(float)
    place = st.integers(1, count - 2)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    closes = (50 * np.exp(np.cumsum(0.05 * rng.standard_normal((count, 5)), axis=0))).tolist()
    orders = {number: [*data.draw(st.tuples(whole, whole, whole)), 0.0, 0.0] for number in range(1, count - 1)}
    rows, lates = list[dict[str, object]](), list[int]()
    for kind in data.draw(st.lists(st.sampled_from(["dividend", "rights", "spin_off", "split"]), max_size=5)):
        day, late = data.draw(place), data.draw(st.integers(0, 5))
        into = {"into": "CHILD"} if kind == "spin_off" else {}
        symbol = data.draw(st.sampled_from(["A", "B", "CHILD"] if kind == "split" else ["A", "B"]))
        if (symbol, kind, DAYS[day]) in {(row["symbol"], row["kind"], row["date"]) for row in rows}:
            continue
        rows.append({"symbol": symbol, "kind": kind, "date": DAYS[day], "value": 2.0, **into, "known": day})
        lates.append(min(day + late, count - 1))
    if not rows:
        return
    start = [*data.draw(st.tuples(whole, whole, whole)), 0.0, 0.0]
    in_time = held_through(table(*rows), closes, orders, start)[-1][0]
    known = [{**row, "known": late} for row, late in zip(rows, lates, strict=True)]
    in_the_end = held_through(table(*known), closes, orders, start)[-1][0]
    np.testing.assert_allclose(in_the_end.units, in_time.units)
    assert in_the_end.equity(OWN) == pytest.approx(in_time.equity(OWN), abs=1e-6)
