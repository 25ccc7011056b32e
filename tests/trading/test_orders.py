"""Orders: units that lead from what is held to the target, ids, prices, costs by other formulas, limits, two years."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gatecast.errors import SettingsError
from gatecast.live.book import ages_of
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.store.desks import bytes_of_desk, desk_of
from gatecast.trading.book import Book, closes_of, core_path, past_deviations, run_line, sessions_by, terms_of
from gatecast.trading.costs import MoneySettings
from gatecast.trading.desk import Desk, micros_of
from gatecast.trading.instruments import Instruments
from gatecast.trading.line import LineState
from gatecast.trading.orders import OrderSettings, breaches, limit_price, order_id, orders_of
from gatecast.trading.sizing import BookSettings, BookState, BookView
from tests.trading.test_sizing import books

FloatArray = NDArray[np.float64]
DAY, OPEN = date(2024, 6, 28), datetime(2024, 7, 1, 13, 30, tzinfo=UTC)


def desk_made_of(view: BookView, size: BookSettings, state: BookState, **changed: Any) -> Desk:
    """A desk in dollars whose prices are those of a view."""
    count, money = len(view.names), MoneySettings()
    fixed = Instruments.of(dict(zip(view.names, view.classes, strict=True)), money)
    plain = np.ones(count)
    nothing = np.zeros(count, np.int64)
    made = Desk(
        DAY, view, state, fixed, lent=plain > 0, recalled=plain < 0, price=view.price, bars=nothing, age=nothing,
        rate=plain, deviation=0.01 * plain, usual_deviation=0.008 * plain, volume=view.volume,
        until=micros_of([OPEN] * count), size=size, money=money,
    )  # fmt: skip
    return replace(made, **changed)


def two(**changed: Any) -> Desk:
    """A desk with two shares, 60 % and 40 % wanted, at 50 and 20."""
    count = np.ones(2)
    view = BookView(
        ("A", "B"), ("equity", "equity"), np.array([0.6, 0.4]), 0 * count, 0 * count, np.diag([0.04, 0.04]), 1e6,
        0 * count, np.array([50.0, 20.0]), count, np.nan * count, 0 * count, count > 0, 0 * count, count > 0, count < 0,
    )  # fmt: skip
    size = BookSettings(target_volatility=0.05)
    return replace(desk_made_of(view, size, BookState.start(view.names)), **changed)


# ── units, ids, prices ────────────────────────────────────────────────────────────────────────────


@settings(max_examples=80, deadline=None)
@given(books(), st.integers(0, 2**31))
def test_orders_lead_from_what_is_held_to_the_target(book: Any, seed: int) -> None:
    view, size, state = book
    random, desk = np.random.default_rng(seed), desk_made_of(view, size, state)
    held = np.trunc(view.held * random.uniform(0, 2, len(view.names)))
    left = np.where(random.random(len(view.names)) < 0.3, np.trunc(random.uniform(-50, 50, len(view.names))), 0.0)
    sized = desk.sized(held + left, 1e6)
    orders = orders_of(desk, sized, held, left, "main", OrderSettings())
    assert len({one.order_id for one in orders}) == len(orders)
    for one in orders:
        place = view.names.index(one.symbol)
        assert one.units > 0
        assert one.signed == pytest.approx(one.target_units - held[place] - left[place], rel=1e-9, abs=1e-9)
        assert view.tradable[place]
    every = dict.fromkeys(view.names, 0.0) | {one.symbol: one.signed for one in orders}
    np.testing.assert_array_equal(list(every.values()), sized.trades)
    again = orders_of(desk, desk.sized(held + left, 1e6), held, left, "main", OrderSettings())
    assert again == orders


@settings(max_examples=80, deadline=None)
@given(books(), st.floats(0.05, 1.0))
def test_no_limit_is_exceeded_that_the_orders_do_not_say(book: Any, most: float) -> None:
    """Sums by another formula: whatever exceeds a limit after whole units, and exceeds what was held, is said."""
    view, size, state = book
    desk, limits = desk_made_of(view, size, state), OrderSettings(gross=most, net=most, name=most / 2, turnover=most)
    sized = desk.sized(view.held, 1e6)
    orders = orders_of(desk, sized, view.held, 0 * view.held, "main", limits)
    said = {(one.name, one.symbol) for one in breaches(desk, orders, view.held, 1e6, limits)}
    before = view.held * view.price / 1e6
    after = (view.held + sized.trades) * view.price / 1e6
    wanted = set()
    for name, was, is_then, cap in (
        ("gross", np.abs(before).sum(), np.abs(after).sum(), most), ("net", abs(before.sum()), abs(after.sum()), most),
    ):  # fmt: skip
        wanted |= {(name, "")} if is_then > max(cap, was) + 1e-8 else set()
    for place, symbol in enumerate(view.names):
        wanted |= {("name", symbol)} if abs(after[place]) > max(most / 2, abs(before[place])) + 1e-8 else set()
    if (np.abs(sized.trades) * view.price).sum() / 1e6 > most * (1 + 1e-8):
        wanted.add(("turnover", ""))
    assert {one for one in said if one[0] in ("gross", "net", "name", "turnover")} == wanted


def test_the_id_is_that_of_account_session_symbol_and_target() -> None:
    text = "main\0" + "2024-06-28\0A\0" + "120.0\0"
    assert order_id("main", DAY, "A", 120.0) == hashlib.sha256(text.encode()).hexdigest()[:16]
    others = [("main", DAY, "A", 121.0), ("main", DAY, "B", 120.0), ("other", DAY, "A", 120.0)]
    others += [("main", date(2024, 7, 1), "A", 120.0)]
    assert len({order_id("main", DAY, "A", 120.0), *(order_id(*one) for one in others)}) == 5


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-6, 1e5), st.booleans(), st.floats(1e-6, 0.5), st.sampled_from([0.0, 0.01, 0.25, 5.0]))
def test_a_limit_price_lies_within_the_collar(close: float, buys: bool, collar: float, tick: float) -> None:
    """The step next to the worst price, between it and the close; refused only where no multiple of the tick is."""
    worst = close * (1 + collar) if buys else close * (1 - collar)
    low, high = sorted((close, worst))
    steps = math.ceil(low / tick * (1 - 1e-13)) if tick else 0
    assume(not tick or steps == math.ceil(low / tick * (1 - 1e-8)))  # as near as that either is right
    assume(abs(steps * tick - high) > 1e-8 * high)
    if steps * tick > high:
        with pytest.raises(SettingsError, match="no limit price is within the collar"):
            limit_price(close, buys, collar, tick)
        return
    price = limit_price(close, buys, collar, tick)
    assert price > 0
    assert low * (1 - 2e-9) <= price <= high * (1 + 2e-9)
    assert abs(price - worst) <= max(tick, worst * 1e-5) * (1 + 1e-6)
    assert not tick or abs(price / tick - round(price / tick)) < 1e-6


@pytest.mark.parametrize("close", [-37.63, 0.0, math.nan, math.inf])
@pytest.mark.parametrize("tick", [0.0, 0.01])
def test_a_close_that_is_no_price_has_no_limit_price(close: float, tick: float) -> None:
    with pytest.raises(SettingsError, match="expected a price above 0"):
        limit_price(close, True, 0.05, tick)


def test_a_tick_that_is_too_wide_is_refused_with_its_symbol() -> None:
    desk = two()
    desk = replace(desk, instruments=replace(desk.instruments, tick=np.array([0.0, 500.0])))
    with pytest.raises(SettingsError, match="'B': no step of 500 lies between the close 20 and 21"):
        orders_of(desk, desk.sized(np.zeros(2), 1e6), np.zeros(2), np.zeros(2), "main", OrderSettings())


def test_a_session_closes_with_the_last_of_its_names() -> None:
    first, last = datetime(2024, 6, 28, 20, tzinfo=UTC), datetime(2024, 6, 29, tzinfo=UTC)
    desk = two(bars=micros_of([first, last]))
    assert desk.close == last
    assert replace(desk, until=micros_of([OPEN, None])).close == first
    assert replace(desk, until=micros_of([None, None])).close is None


def test_costs_are_those_of_the_book_each_by_itself() -> None:
    desk = two(volume=np.array([2e7, 1e7]))
    sized = desk.sized(np.zeros(2), 1e6)
    one, other = orders_of(desk, sized, np.zeros(2), np.zeros(2), "main", OrderSettings())
    assert (one.value, other.value) == (one.units * 50.0, other.units * 20.0)
    known = desk.instruments
    assert one.commission == pytest.approx(max(one.value * known.commission[0], 1.0), abs=1e-4)
    assert one.spread == pytest.approx(one.value * known.half_spread[0] * 0.01 / 0.008, abs=1e-4)
    assert one.impact == pytest.approx(0.01 * one.value * math.sqrt(one.value / 2e7), abs=1e-4)
    assert one.cost == pytest.approx(one.commission + one.spread + one.impact, abs=2e-4)
    assert one.cost_bps == pytest.approx(one.cost / one.value * 1e4, abs=1e-4)


# ── what is not traded, and limits ────────────────────────────────────────────────────────────────


def test_flattening_closes_all_and_opens_nothing() -> None:
    held = np.array([100.0, -40.0])
    orders = orders_of(two(), two().sized(held, 1e6, flatten=True), held, np.zeros(2), "main", OrderSettings())
    assert [(one.symbol, one.signed, one.target_units) for one in orders] == [("A", -100.0, 0.0), ("B", 40.0, 0.0)]


def test_a_symbol_that_is_left_out_is_not_traded() -> None:
    sized = two().sized(np.zeros(2), 1e6, without=["A"])
    assert [one.symbol for one in orders_of(two(), sized, np.zeros(2), np.zeros(2), "m", OrderSettings())] == ["B"]


def test_a_holding_without_a_price_or_a_rate_is_refused() -> None:
    view, held = two().view, np.array([1.0, 0.0])
    nothing = replace(view, price=np.array([np.nan, 20.0]))
    with pytest.raises(SettingsError, match="'A' is held, and there is no rate from USD to USD"):
        two(view=nothing).sized(held, 1e6)
    with pytest.raises(SettingsError, match="'A' is held, and there is no price of 2024-06-28"):
        two(view=nothing, price=np.array([np.nan, 20.0])).sized(held, 1e6)


@pytest.mark.parametrize(
    ("limits", "name", "soft"),
    [
        ({"order_value": 1000.0}, "order_value", True), ({"turnover": 0.01}, "turnover", True),
        ({"share_of_volume": 0.001}, "share_of_volume", True), ({"gross": 0.1}, "gross", False),
        ({"net": 0.1}, "net", False), ({"name": 0.05}, "name", False), ({"asset_class": 0.1}, "asset_class", False),
        ({"restricted": ("B",)}, "restricted", False), ({"gross": 0.1, "soft": ("gross",)}, "gross", True),
    ],
)  # fmt: skip
def test_each_limit_is_seen(limits: dict[str, Any], name: str, soft: bool) -> None:
    desk, given = two(volume=np.array([2e7, 1e7])), OrderSettings(**limits)
    orders = orders_of(desk, desk.sized(np.zeros(2), 1e6), np.zeros(2), np.zeros(2), "main", given)
    found = breaches(desk, orders, np.zeros(2), 1e6, given)
    assert {one.name for one in found} == {name}
    assert {one.soft for one in found} == {soft}
    assert all(one.value > one.limit and f"limit {name}" in one.sentence for one in found)
    assert not breaches(desk, orders, np.zeros(2), 1e6, OrderSettings())


def test_an_old_price_of_what_is_held_is_seen() -> None:
    found = breaches(two(age=np.array([3, 0])), (), np.array([10.0, 10.0]), 1e6, OrderSettings(price_age=2))
    assert [(one.name, one.symbol, one.value) for one in found] == [("price_age", "A", 3)]


def test_a_price_is_as_old_as_its_calendar_says() -> None:
    """At Sunday's close of a coin, Friday's price of a share is the newest; Wednesday's is two sessions old."""
    closes = [datetime(2024, 6, day, 21, tzinfo=UTC) for day in (28, 26)]
    coin = datetime(2024, 7, 1, 0, tzinfo=UTC)
    view = replace(two().view, classes=("equity", "equity"))
    assert ages_of(replace(two(view=view), bars=micros_of(closes)), {}).tolist() == [0, 2]
    view = replace(view, classes=("equity", "crypto"))
    assert ages_of(replace(two(view=view), bars=micros_of([closes[0], coin])), {}).tolist() == [0, 0]
    assert ages_of(replace(two(view=view), bars=micros_of([None, coin])), {}).tolist() == [0, 0]


def test_orders_that_bring_a_book_nearer_to_a_limit_are_let_pass() -> None:
    desk, held = two(), np.array([16_000.0, 20_000.0])  # 80 % and 40 %
    orders = orders_of(desk, desk.sized(held, 1e6), held, np.zeros(2), "main", OrderSettings(gross=0.1))
    assert all(one.side == "sell" for one in orders)
    assert not breaches(desk, orders, held, 1e6, OrderSettings(gross=0.1, turnover=5))


# ── through the disk, and through two years ───────────────────────────────────────────────────────


def test_a_desk_comes_back_from_the_disk_to_the_bit() -> None:
    desk, limits = two(), OrderSettings(gross=0.5, restricted=("A",))
    content = bytes_of_desk(desk, limits)
    found, given_limits = desk_of(content)
    assert given_limits == limits
    assert bytes_of_desk(found, given_limits) == content
    np.testing.assert_array_equal(found.sized(np.ones(2), 1e6).trades, desk.sized(np.ones(2), 1e6).trades)


def test_replayed_orders_over_two_years_lead_to_the_holdings_of_the_backtest() -> None:
    """Positions -> orders -> fills at the next fill price -> positions, session by session, beside the account's."""
    bars = synthetic.g1(650, seed=3, symbols=3)
    sessions, begin, settings = sessions_by(facts_of(bars), Book()), 120, Book()
    core, deviations = core_path(sessions, settings.core), past_deviations(sessions.returns)
    whole = run_line(sessions, core, deviations, settings, begin=begin)
    state, terms = LineState.start(sessions.names, sessions.classes, 1e6), terms_of(sessions, settings)
    held, traded = np.zeros(3), 0
    for place, close in enumerate(closes_of(sessions, core, deviations)):
        if place < begin:
            state = state.watched(close)
            continue
        state, step = state.after(replace(close, told=True), terms)
        np.testing.assert_array_equal(held, step.units)
        assert step.booked.equity == whole.frame["equity"][place - begin]
        assert step.view is not None
        assert step.sizing is not None
        desk = desk_made_of(
            step.view, settings.size, step.sizing, instruments=sessions.instruments, day=close.session.day
        )
        desk, limits = desk_of(bytes_of_desk(desk, OrderSettings()))
        orders = orders_of(desk, desk.sized(held, step.booked.equity), held, np.zeros(3), "main", limits)
        traded += len(orders)
        assert not [one for one in breaches(desk, orders, held, step.booked.equity, limits) if not one.soft]
        for one in orders:  # filled at the next fill, whole
            held[desk.names.index(one.symbol)] += one.signed
    assert len(whole.frame) > 504
    assert traded > 100
