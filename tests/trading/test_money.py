"""Known answers of an account, and the account against a plain loop that books one thing after the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import BarsError
from gatecast.market.actions import no_actions, read_actions
from gatecast.market.given import conversion_rates
from gatecast.trading.charges import trading_costs
from gatecast.trading.costs import MoneySettings
from gatecast.trading.events import Dividend, End, Event, Exchange, Roll, Session, events_of
from gatecast.trading.instruments import Instruments
from gatecast.trading.money import Account, Booked, book_session, to_frame

MONDAY = date(2024, 1, 1)
FREE = MoneySettings(
    commission_bps=0, commission_minimum=0, half_spread_bps=0, impact=0, benchmark_rate=0, debit_spread=0,
    borrow_bps_per_year=0, unknown_carry=0, unknown_funding=0, withholding=0, least_lent_volume=0,
)  # fmt: skip
"""Nothing costs anything, so that a test adds what it asks about."""
LENT = np.ones(1)


def one(asset_class: str, own: MoneySettings = FREE, **more: object) -> Instruments:
    return Instruments.of({"A": asset_class}, own, **more)  # type: ignore[arg-type]


def session(day: int, *prices: float, **more: object) -> Session:
    """A session so many days after a Monday, all filled at their closes of the day, each symbol's price given."""
    price = np.array(prices)
    return Session(MONDAY + timedelta(days=day), price, price, **more)  # type: ignore[arg-type]


def held(units: float, price: float, instruments: Instruments, cash: float = 0.0, rate: float = 1.0) -> Account:
    """An account that holds one symbol since a Monday."""
    opened = Account.opened(cash, len(instruments.symbols))
    return replace(opened, units=np.array([units]), price=np.array([price]), rate=np.array([rate]), day=MONDAY)


def night(account: Account, instruments: Instruments, own: MoneySettings, days: int = 1, **more: object) -> Booked:
    """What a session without an order and without a move books."""
    brings = session(days, *account.price, **more)
    return book_session(account, brings, np.zeros(len(account.units)), instruments, own)[1]


# ── single rules ─────────────────────────────────────────────────────────────────────────────────


def test_impact_of_a_hundredth_of_the_volume() -> None:
    own = FREE.replace(impact=1.0)
    costs = trading_costs(
        np.array([1e4]), np.array([1e6]), one("equity", own), own, 1.0, np.array([0.02]), None, np.array([1e8])
    )
    assert [float(cost[0]) for cost in costs] == pytest.approx([0, 0, 2000])


def test_negative_cash_pays_and_positive_never_less_than_nothing() -> None:
    etf, own = one("etf"), FREE.replace(debit_spread=0.015, credit_spread=0.005)
    paid = night(held(1.6, 1.0, etf, cash=-0.6), etf, own, benchmark=0.0533)
    assert paid.before == pytest.approx(1)
    assert paid.interest == pytest.approx(-1.138333e-4, rel=1e-6)
    earned = night(held(0, 1.0, etf, cash=1.0), etf, own, days=3, benchmark=0.0533)
    assert earned.interest == pytest.approx(0.0483 * 3 / 360)
    assert night(held(0, 1.0, etf, cash=1.0), etf, own, benchmark=0.004).interest == 0


@pytest.mark.parametrize(
    ("units", "rate", "days", "paid"), [(-0.2, 0.0175, 1, 9.916667e-6), (-0.4, 0.0025, 3, 8.5e-6), (0.4, 0.01, 3, 0.0)]
)
def test_a_short_pays_for_what_is_lent(units: float, rate: float, days: int, paid: float) -> None:
    etf = one("etf")
    booked = night(held(units, 1.0, etf, cash=1.0 - units), etf, FREE, days, borrow=np.array([rate]))
    assert booked.borrow[0] == pytest.approx(paid, rel=1e-6)


def test_a_pair_earns_the_difference_of_rates_three_times_on_wednesday() -> None:
    pair = one("fx")
    account = held(0.5, 1.0, pair, cash=1.0)
    difference = {"carry": np.array([0.02 - 0.05])}
    assert night(account, pair, FREE, **difference).carry[0] == pytest.approx(-4.166667e-5, rel=1e-6)
    wednesday = replace(account, day=MONDAY + timedelta(days=2))
    thursday = book_session(wednesday, session(3, 1.0, **difference), np.zeros(1), pair, FREE)[1]
    assert thursday.carry[0] == pytest.approx(-1.25e-4, rel=1e-6)
    unknown = night(account, pair, FREE.replace(unknown_carry=0.01)).carry[0]
    assert unknown == night(held(-0.5, 1.0, pair, cash=1.0), pair, FREE.replace(unknown_carry=0.01)).carry[0] < 0


def perpetual(own: MoneySettings = FREE) -> Instruments:
    table = {"symbol": ["A"], "multiplier": [1.0], "tick": [0.1], "currency": ["USD"], "margin": [0.1],
             "last_trade": [None], "funding_hours": [8.0]}  # fmt: skip
    return one("crypto", own, contracts=pl.DataFrame(table))


def test_a_perpetual_contract_pays_its_funding() -> None:
    account = held(0.5, 1.0, perpetual(), cash=1.0)
    assert account.equity(perpetual()) == 1.0
    assert night(account, perpetual(), FREE, funding=np.array([3e-4])).funding[0] == pytest.approx(1.5e-4)
    unknown = FREE.replace(unknown_funding=1e-4)
    assert night(account, perpetual(), unknown).funding[0] == pytest.approx(1.5e-4)
    assert night(held(-0.5, 1.0, perpetual(), cash=1.0), perpetual(), unknown).funding[0] == 0


def test_dividends_are_earned_at_once_paid_later_and_withheld_from_the_long_side() -> None:
    etf, own = one("etf"), FREE.replace(withholding=0.15)
    paid_on = MONDAY + timedelta(days=3)
    dividend = (Dividend("A", 0.02, paid_on),)
    account, booked = book_session(held(1.0, 1.0, etf), session(1, 0.98, events=dividend), np.zeros(1), etf, own)
    assert booked.withheld[0] == pytest.approx(0.0030)
    assert (account.cash, account.equity(etf)) == (0, pytest.approx(0.98 + 0.017))
    account, _ = book_session(account, session(3, 0.98), np.zeros(1), etf, own)
    assert (account.cash, account.due) == (pytest.approx(0.017), ())
    short = night(held(-1.0, 1.0, etf, cash=2.0), etf, own, events=dividend)
    assert (short.dividend[0], short.withheld[0]) == (-0.02, 0)


# ── futures ──────────────────────────────────────────────────────────────────────────────────────

ES = pl.DataFrame(
    {"symbol": ["A"], "multiplier": [50.0], "tick": [0.25], "currency": ["USD"], "margin": [12_000.0],
     "last_trade": [None]}
)  # fmt: skip
ROLLED = pl.DataFrame({"symbol": ["A"], "date": [MONDAY], "gap": [10.0]})


def test_a_tenth_of_a_million_is_no_lot_of_a_quarter() -> None:
    future = one("future", contracts=ES, rolls=ROLLED)
    assert future.lot_values(np.array([5000.0])).tolist() == [250_000]
    assert np.trunc(100_000 / future.lot_values(np.array([5000.0]))).tolist() == [0]


def test_a_future_uses_margin_and_no_money() -> None:
    future = one("future", contracts=ES, rolls=ROLLED)
    account, _ = book_session(Account.opened(1e6, 1), session(0, 5000.0), np.array([2.0]), future, FREE)
    assert (account.cash, account.equity(future), account.margin(future)) == (1e6, 1e6, 24_000)
    assert account.exposure(future).tolist() == [500_000]
    account, booked = book_session(account, session(1, 5010.0), np.zeros(1), future, FREE)
    assert (account.cash, booked.gain[0]) == (1_001_000, 1000)


def test_a_roll_gains_nothing_and_costs_two_sides() -> None:
    own = FREE.replace(half_spread_bps=1.0, commission_minimum=2.0)
    future = one("future", own, contracts=ES, rolls=ROLLED)
    account = held(2.0, 5000.0, future, cash=1e6)
    booked = night(replace(account, price=np.array([5000.0])), future, own, events=(Roll("A", 10.0),))
    rolled = book_session(account, session(1, 5010.0, events=(Roll("A", 10.0),)), np.zeros(1), future, own)[1]
    assert rolled.gain[0] == 0
    assert booked.gain[0] == -1000
    assert rolled.spread[0] == pytest.approx(1e-4 * (500_000 + 501_000))
    assert rolled.commission[0] == 4.0
    assert events_of(no_actions(), [MONDAY], rolls=ROLLED) == {MONDAY: (Roll("A", 10.0),)}
    assert rolled.traded[0] == 1_001_000


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "is a future: its money needs a row"),
        ({"contracts": ES}, "has no last_trade, so that its bars are a splice"),
        (
            {"contracts": ES.with_columns(last_trade=pl.lit(MONDAY)), "last_bars": {"A": date(2024, 6, 1)}},
            "trades until 2024-01-01, its bars go on to 2024-06-01",
        ),
        ({"contracts": ES.with_columns(multiplier=0.0)}, "from 1e-9 to 1e9, got 0"),
        ({"contracts": ES.drop("margin")}, "missing: margin"),
    ],
)
def test_futures_whose_money_is_not_known_are_refused(more: dict[str, object], words: str) -> None:
    with pytest.raises(BarsError, match=words):
        one("future", **more)


def test_a_future_by_its_name_is_one_in_any_class() -> None:
    with pytest.raises(BarsError, match="'GC=F' is a future"):
        Instruments.of({"GC=F": "metal"}, FREE)


# ── shorts, ends, currencies ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asset_class", "volume", "lent", "filled"),
    [
        ("etf", 1e8, np.nan, -2.0),
        ("etf", 1e6, np.nan, 0.0),
        ("equity", np.nan, np.nan, 0.0),
        ("equity", np.nan, 1.0, -2.0),
        ("etf", 1e9, 0.0, 0.0),
        ("crypto", 1e9, np.nan, 0.0),
        ("index", np.nan, np.nan, -2.0),
        ("fx", np.nan, np.nan, -2.0),
    ],
)
def test_shorts_that_nobody_lends_are_not_made(asset_class: str, volume: float, lent: float, filled: float) -> None:
    own = FREE.replace(least_lent_volume=1e7)
    brings = session(0, 10.0, usual_volume=np.array([volume]), lent=np.array([lent]))
    account, booked = book_session(Account.opened(100.0, 1), brings, np.array([-2.0]), one(asset_class, own), own)
    assert booked.units.tolist() == account.units.tolist() == [filled]


def test_what_is_recalled_is_bought_and_a_long_holding_can_be_sold() -> None:
    etf = one("etf")
    back = session(1, 10.0, recalled=np.array([True]), lent=LENT)
    account, booked = book_session(held(-3.0, 9.0, etf, cash=100.0), back, np.array([-1.0]), etf, FREE)
    assert (account.units[0], booked.units[0], booked.gain[0]) == (0, 3, -3)
    account, _ = book_session(held(3.0, 9.0, etf), back, np.array([-5.0]), etf, FREE)
    assert account.units[0] == 0


@pytest.mark.parametrize(
    ("asset_class", "exchange", "units", "terms", "gain"),
    [
        ("equity", "", 10, None, -30.0),
        ("equity", "NASDAQ", 10, None, -55.0),
        ("crypto", "", 10, None, -90.0),
        ("etf", "NASDAQ", 10, None, 0.0),
        ("equity", "", -10, None, 0.0),
        ("equity", "", -10, -1.0, 100.0),
        ("equity", "", 10, 0.2, 20.0),
    ],
)
def test_ends(asset_class: str, exchange: str, units: float, terms: float | None, gain: float) -> None:
    known = one(asset_class, exchanges={"A": exchange})
    brings = session(1, np.nan, events=(End("A", terms),))
    account, booked = book_session(held(units, 10.0, known, cash=500.0), brings, np.array([1.0]), known, FREE)
    assert booked.gain[0] == pytest.approx(gain)
    assert (account.units[0], account.cash) == (0, pytest.approx(500 + 10 * units + gain))
    nothing = book_session(
        held(units, 10.0, known, cash=500.0), brings, np.zeros(1), known.without_default_ends(), FREE
    )[1]
    assert nothing.gain[0] == pytest.approx(0.0 if terms is None else gain)


def test_a_symbol_that_trades_again_after_unknown_terms_is_sold_there() -> None:
    equity = one("equity")
    account, _ = book_session(
        held(10, 10.0, equity), session(90, np.nan, events=(End("A"),)), np.zeros(1), equity, FREE
    )
    assert account.cash == 70
    account, booked = book_session(account, session(100, 8.0), np.zeros(1), equity, FREE)
    assert (account.cash, booked.gain[0], booked.traded[0]) == (80, 10, 80)
    assert account.parked[0] == 0


def test_a_vendors_end_is_a_sale_at_the_last_close_that_is_paid_for() -> None:
    own = FREE.replace(commission_minimum=2.0)
    equity = one("equity", own)
    brings = session(1, np.nan, events=(End("A", vendor=True),))
    account, booked = book_session(held(10, 10.0, equity), brings, np.zeros(1), equity, own)
    assert (booked.gain[0], booked.commission[0], booked.traded[0], account.cash) == (0, 2, 100, 98)
    account, booked = book_session(account, session(90, 12.0), np.zeros(1), equity, own)
    assert (booked.gain[0], account.cash) == (20, 98 + 20 - 2)


def test_currencies_move_what_is_funded_and_convert_what_is_gained() -> None:
    etf, pair = one("etf", currencies={"A": "EUR"}), one("fx", currencies={"A": "EUR"})
    brings = session(1, 11.0, rate=np.array([1.2]))
    funded = book_session(held(10, 10.0, etf, rate=1.1), brings, np.zeros(1), etf, FREE)[1]
    assert (funded.currency[0], funded.gain[0]) == (pytest.approx(10), pytest.approx(12))
    margined = book_session(held(10, 10.0, pair, cash=9.0, rate=1.1), brings, np.zeros(1), pair, FREE)[1]
    assert (margined.currency[0], margined.gain[0]) == (0, pytest.approx(12))


def test_a_missing_rate_refuses_what_is_held_or_traded_alone() -> None:
    etf = one("etf", currencies={"A": "EUR"})
    missing = session(1, 11.0, rate=np.array([np.nan]))
    with pytest.raises(BarsError, match="'A' on 2024-01-02: no rate from EUR to USD"):
        book_session(held(1, 10.0, etf), missing, np.zeros(1), etf, FREE)
    with pytest.raises(BarsError, match="no rate from EUR"):
        book_session(Account.opened(5.0, 1), missing, np.ones(1), etf, FREE)
    assert book_session(Account.opened(5.0, 1), missing, np.zeros(1), etf, FREE)[0].cash == 5.0


def test_a_currency_that_nobody_converts_is_not_taken_for_the_books() -> None:
    yen = Instruments.of({"USDJPY": "fx"}, FREE)
    with pytest.raises(BarsError, match="'USDJPY' on 2024-01-01: no rate from JPY to USD"):
        book_session(Account.opened(5.0, 1), session(0, 150.0), np.ones(1), yen, FREE)


def test_rates_come_from_pairs_either_way_round() -> None:
    rates = conversion_rates(["EUR", "JPY", "USD"], "USD", {"EURUSD": np.array([1.1]), "USDJPY": np.array([125.0])}, 1)
    assert rates.tolist() == [[1.1, 0.008, 1.0]]
    with pytest.raises(BarsError, match="no rate from CHF to USD"):
        conversion_rates(["CHF"], "USD", {}, 1)


def test_sessions_go_forward_and_orders_are_numbers() -> None:
    etf = one("etf")
    with pytest.raises(BarsError, match="stands at 2024-01-01: a session after it is expected, got 2024-01-01"):
        book_session(held(1, 10.0, etf), session(0, 11.0), np.zeros(1), etf, FREE)
    with pytest.raises(BarsError, match="that of 'A' is nan"):
        book_session(held(1, 10.0, etf), session(1, 11.0), np.array([np.nan]), etf, FREE)
    with pytest.raises(BarsError, match="has no symbol 'B'"):
        book_session(held(1, 10.0, etf), session(1, 11.0, events=(End("B"),)), np.zeros(1), etf, FREE)


# ── a planted history ────────────────────────────────────────────────────────────────────────────


def test_a_history_of_a_split_a_dividend_a_change_a_halt_a_merger_and_an_end_is_right_to_the_cent() -> None:
    """Seven symbols; each line of the table is the profit of a session by hand, in dollars."""
    names = ["SPLIT", "PAYS", "OLD", "NEW", "HALT", "TARGET", "BUYER", "GONE"]
    known = Instruments.of(dict.fromkeys(names, "equity"), FREE)
    x = np.nan
    closes = [
        #  SPLIT   PAYS  OLD   NEW  HALT TARGET BUYER GONE
        [100.00, 50.00, 20.0, x, 30.0, 40.00, 80.0, 10.0],
        [104.00, 50.50, 21.0, x, x, 41.00, 82.0, 9.0],
        [26.50, 49.75, x, 22.0, x, 41.50, 81.0, 8.0],
        [27.00, 50.25, x, 22.5, 24.0, x, 83.0, x],
        [26.00, 50.00, x, 23.0, 25.0, x, 84.0, x],
    ]
    actions = {
        "symbol": ["SPLIT", "PAYS", "OLD", "TARGET", "GONE"],
        "kind": ["split", "dividend", "symbol change", "merger", "delisting"],
        "date": ["2024-01-03", "2024-01-03", "2024-01-03", "2024-01-04", "2024-01-03"],
        "value": [4.0, 0.80, 1.0, 5.25, -0.75],
        "pay_date": [None, "2024-01-05", None, None, None],
        "into": [None, None, "NEW", "BUYER", None],
        "ratio": [None, None, None, 0.5, None],
    }
    sessions = [MONDAY + timedelta(days=day) for day in range(len(closes))]
    events = events_of(read_actions(pl.DataFrame(actions)), sessions)
    account, units, profits = Account.opened(100_000.0, len(names)), [100, 200, 300, 0, 100, 200, 0, 500], []
    for day, row in enumerate(closes):
        orders = np.array(units if day == 0 else [0] * len(names), float)
        brings = session(day, *row, events=events.get(sessions[day], ()))
        account, booked = book_session(account, brings, orders, known, FREE)
        assert abs(booked.difference) < 1e-9 * booked.before
        profits.append(round(booked.equity - booked.before, 2))
    by_hand = [
        #   SPLIT     PAYS  OLD, NEW    HALT  TARGET, BUYER   GONE
        [    0.00,    0.00,    0.00,    0.00,          0.00,     0.00],
        [  400.00,  100.00,  300.00,    0.00,        200.00,  -500.00],
        [  200.00,   10.00,  300.00,    0.00,        100.00,  -500.00],
        [  200.00,  100.00,  150.00, -600.00,       1050.00, -3000.00],
        [ -400.00,  -50.00,  150.00,  100.00,        100.00,     0.00],
    ]  # fmt: skip
    assert profits == [sum(row) for row in by_hand] == [0.00, 500.00, 110.00, -2100.00, -100.00]
    assert dict(zip(names, account.units.tolist(), strict=True)) == {
        "SPLIT": 400, "PAYS": 200, "OLD": 0, "NEW": 300, "HALT": 100, "TARGET": 0, "BUYER": 100, "GONE": 0,
    }  # fmt: skip
    spent = 100 * 100 + 200 * 50 + 300 * 20 + 100 * 30 + 200 * 40 + 500 * 10
    assert account.cash == pytest.approx(100_000 - spent + 200 * 0.80 + 200 * 5.25 + 500 * 2.0)


def test_a_spin_off_moves_value_and_makes_none() -> None:
    known = Instruments.of({"PARENT": "equity", "CHILD": "equity"}, FREE)
    account, _ = book_session(Account.opened(1000.0, 2), session(0, 100.0, np.nan), np.array([10.0, 0]), known, FREE)
    spun = Exchange("PARENT", keep=1, into="CHILD", ratio=0.5)
    account, booked = book_session(account, session(1, 80.0, 42.0, events=(spun,)), np.zeros(2), known, FREE)
    assert account.equity(known) == pytest.approx(10 * 80 + 5 * 42)
    assert booked.gain.sum() == pytest.approx(10)


def test_actions_are_booked_in_the_first_session_at_their_date_and_ends_after_it() -> None:
    days = [date(2024, 1, 5), date(2024, 1, 8), date(2024, 1, 9)]
    table = pl.DataFrame({
        "symbol": ["A", "A", "B", "B", "C", "D", "E"],
        "kind": ["rights", "split", "delisting", "merger", "delisting", "spin_off", "dividend"],
        "date": ["2024-01-06", "2024-01-06", "2024-01-05", "2024-01-08", "2024-01-05", "2024-01-09", "2024-01-10"],
        "value": [0.3, 0.01, 0.05, 42.0, -0.5, 0.25, 1.0],
        "into": [None, None, None, None, None, "F", None],
    })  # fmt: skip
    assert events_of(read_actions(table), days) == {
        days[1]: (
            Exchange("A", keep=0.01), Dividend("A", 0.3, withheld=0.0), Exchange("B", cash=42.0), End("C", -0.5),
        ),
        days[2]: (Exchange("D", keep=1, into="F", ratio=0.25),),
    }  # fmt: skip


def test_ends_that_the_bars_show_take_the_place_of_the_tables() -> None:
    days = [date(2024, 1, day) for day in (4, 5, 8, 9)]
    table = pl.DataFrame({
        "symbol": ["B", "B", "C"], "kind": ["merger", "delisting", "delisting"],
        "date": ["2024-01-08", "2024-01-05", "2024-01-05"], "value": [42.0, 0.05, -0.5],
    })  # fmt: skip
    known = [datetime(2024, 1, day, 21, tzinfo=UTC) for day in (5, 5, 8, 9)]
    ends = pl.DataFrame({
        "symbol": ["B", "C", "D", "E"], "time": known, "kind": ["known", "known", "default", "vendor"],
        "value": [0.05, -0.5, -0.3, 0.0], "known_at": known,
    })  # fmt: skip
    assert events_of(read_actions(table), days, ends) == {
        days[1]: (End("C", -0.5),),
        days[2]: (Exchange("B", cash=42.0), End("D")),
        days[3]: (End("E", vendor=True),),
    }  # fmt: skip


def test_an_order_that_waits_over_a_split_is_split() -> None:
    etf = one("etf")
    split = session(1, 2.5, events=(Exchange("A", keep=4),))
    account, booked = book_session(held(1.0, 10.0, etf), split, np.array([-1.0]), etf, FREE)
    assert (account.units[0], booked.units[0], account.cash) == (0, -4, 10)


# ── against a plain loop ─────────────────────────────────────────────────────────────────────────


def plain_loop(days: list[dict[str, object]], kinds: list[str], own: MoneySettings) -> list[float]:
    """Equity after each day, booked by one loop over symbols with no arrays, for all that the drawn days have."""
    funded = [kind != "fx" for kind in kinds]
    costs = {"etf": (0.5, 1.0), "equity": (0.5, 3.0), "fx": (0.2, 0.6)}
    borrow = {"etf": 0.003, "equity": 0.005, "fx": 0.0}
    cash, units, price, rate, due = 10_000.0, [0.0] * 3, [None] * 3, [1.0] * 3, []
    last, equities = None, []
    for today in days:
        day, orders = today["day"], list(today["orders"])
        was = cash
        for paid_on, money in due:
            cash += money if paid_on <= day else 0
        due = [(paid_on, money) for paid_on, money in due if paid_on > day]
        if last is not None:
            gone = (day - last).days
            bench = today["benchmark"]
            cash += was * ((bench + 0.015) if was < 0 else max(bench - 0.005, 0)) * gone / 360
            nights = 0
            for number in range(gone):
                nights += {2: 3, 5: 0, 6: 0}.get((last + timedelta(days=number)).weekday(), 1)
            for i in range(3):
                value = units[i] * price[i] * today["rate"][i] if units[i] else 0.0
                if funded[i]:
                    cash -= max(-value, 0) * 1.02 * borrow[kinds[i]] * gone / 360
                else:
                    cash += today["carry"] * value * nights / 360
        rate = today["rate"]
        for what, i, size in today["events"]:
            if what == "split":
                units[i] *= size
                orders[i] *= size
                price[i] = price[i] / size if price[i] is not None else None
            elif what == "dividend" and units[i]:
                money = units[i] * size * rate[i]
                due.append((day + timedelta(days=2), money * (0.85 if money > 0 else 1)))
            elif what == "end":
                orders[i] = 0.0
                if units[i]:
                    value = units[i] * price[i] * rate[i]
                    cash += value * (1 + size) if funded[i] else value * size
                    units[i] = 0.0
        for i in range(3):
            fill, close = today["fill"][i], today["close"][i]
            ended = any(what == "end" and j == i for what, j, _ in today["events"])
            if fill is None:
                continue
            if price[i] is not None and not funded[i]:
                cash += units[i] * (fill - price[i]) * rate[i]
            if not ended and orders[i]:
                money = abs(orders[i]) * fill * rate[i]
                bps, spread = costs[kinds[i]]
                cash -= max(money * bps / 1e4, 1.0)
                cash -= money * spread / 1e4 * max(today["deviation"] / 0.01, 1)
                cash -= today["deviation"] * money**1.5 / (today["volume"] * rate[i]) ** 0.5
                cash -= orders[i] * fill * rate[i] if funded[i] else 0
                units[i] += orders[i]
            if not funded[i]:
                cash += units[i] * (close - fill) * rate[i]
            price[i] = close
        last = day
        value = sum(units[i] * price[i] * rate[i] for i in range(3) if funded[i] and units[i])
        equities.append(cash + value + sum(money for _, money in due))
    return equities


prices = st.floats(5, 50)
events = st.lists(
    st.one_of(
        st.tuples(st.just("split"), st.integers(0, 1), st.sampled_from([0.125, 2.0, 7.0])),
        st.tuples(st.just("dividend"), st.integers(0, 1), st.floats(0.01, 1)),
        st.tuples(st.just("end"), st.integers(0, 2), st.floats(-1, 0.5)),
    ),
    max_size=2,
)
drawn_days = st.lists(
    st.fixed_dictionaries({
        "gap": st.integers(1, 4),
        "orders": st.lists(st.sampled_from([0.0, 0.0, 40.0, -25.0, 130.5]), min_size=3, max_size=3),
        "fill": st.lists(st.one_of(prices, prices, st.none()), min_size=3, max_size=3),
        "move": st.lists(st.floats(0.8, 1.2), min_size=3, max_size=3),
        "rate": st.lists(st.floats(0.5, 2), min_size=3, max_size=3),
        "events": events, "benchmark": st.floats(0, 0.1), "carry": st.floats(-0.1, 0.1),
        "deviation": st.floats(0.002, 0.05), "volume": st.floats(1e5, 1e9),
    }),
    min_size=2, max_size=6,
)  # fmt: skip


def as_events(drawn: list[tuple[str, int, float]], day: date) -> tuple[Event, ...]:
    names = "ABC"
    made: dict[str, object] = {
        "split": lambda i, size: Exchange(names[i], keep=size),
        "dividend": lambda i, size: Dividend(names[i], size, day + timedelta(days=2)),
        "end": lambda i, size: End(names[i], size),
    }
    return tuple(made[what](i, size) for what, i, size in drawn)  # type: ignore[operator]


@settings(max_examples=25, deadline=None)
@given(drawn_days)
def test_the_account_is_that_of_a_plain_loop_and_its_books_close(drawn: list[dict[str, object]]) -> None:
    own = MoneySettings()
    kinds = ["etf", "equity", "fx"]
    known = Instruments.of(dict(zip("ABC", kinds, strict=True)), own)
    day, days = MONDAY, []
    for one_day in drawn:
        day += timedelta(days=one_day["gap"])
        close = [None if f is None else f * m for f, m in zip(one_day["fill"], one_day["move"], strict=True)]
        orders = [0.0 if f is None else o for f, o in zip(one_day["fill"], one_day["orders"], strict=True)]
        days.append({**one_day, "day": day, "close": close, "orders": orders})
    expected = plain_loop(days, kinds, own)
    account = Account.opened(10_000.0, 3)
    for today, equity in zip(days, expected, strict=True):
        three = np.ones(3)
        brings = Session(
            today["day"], np.array(today["fill"], float), np.array(today["close"], float), rate=np.array(today["rate"]),
            deviation=today["deviation"] * three, usual_deviation=0.01 * three, volume=today["volume"] * three,
            carry=today["carry"] * three, lent=three, benchmark=today["benchmark"],
            events=as_events(today["events"], today["day"]),
        )  # fmt: skip
        account, booked = book_session(account, brings, np.array(today["orders"]), known, own)
        scale = max(abs(booked.before), abs(booked.equity), 1.0)
        assert abs(booked.difference) <= 1e-9 * scale
        assert booked.equity == pytest.approx(equity, rel=1e-9, abs=1e-6)
        assert all((getattr(booked, name) >= 0).all() for name in ("commission", "spread", "impact", "borrow"))


def test_the_frame_adds_up() -> None:
    etf = one("etf", MoneySettings())
    account, books = Account.opened(1000.0, 1), []
    for day, price in enumerate([10.0, 11.0, 12.0]):
        account, booked = book_session(account, session(day, price), np.array([20.0]), etf, MoneySettings())
        books.append(booked)
    frame = to_frame(books)
    gains, costs = ["gain", "currency", "dividend", "carry", "interest"], ["withheld", "commission", "spread", "impact"]
    total = frame.select(pl.sum_horizontal(*gains) - pl.sum_horizontal(*costs, "borrow", "funding")).to_series()
    assert (frame["before"] + total - frame["equity"]).abs().max() < 1e-9
    assert frame["before"][1:].to_list() == pytest.approx(frame["equity"][:-1].to_list())
    assert frame["lag"].to_list() == [0, 20, 20]
