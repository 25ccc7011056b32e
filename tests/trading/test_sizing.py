"""Sizing: known answers, and what holds of every book."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import SettingsError
from gatecast.trading.core import Core, CoreState
from gatecast.trading.covariance import Correlations, book_variance, covariance_of
from gatecast.trading.sizing import (
    BookSettings,
    BookState,
    BookView,
    Sized,
    ideal_half_width,
    scale_of,
    stop_probability,
    trades_of,
)

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
TWO = np.array([[0.04, 0.006], [0.006, 0.01]])
FREE = BookSettings(gross_cap=10, net_cap=10, minimum_ticket=0)


def view_of(core: Any, covariance: FloatArray = TWO, **changed: Any) -> BookView:
    """A session of names that trade in any part of a unit of 1, without costs, with nothing held."""
    core = np.array(core, float)
    zero, ones = np.zeros(len(core)), np.ones(len(core))
    plain = BookView(
        tuple("ABCDEFGH"[: len(core)]), ("etf",) * len(core), core, zero, ones, covariance, 1e6, zero, ones, zero,
        np.full(len(core), np.nan), zero, ones.astype(bool), zero, ones.astype(bool), zero.astype(bool),
    )  # fmt: skip
    return replace(plain, **{name: np.array(one) if isinstance(one, list) else one for name, one in changed.items()})


def sized(one: BookView, given: BookSettings = FREE, state: BookState | None = None) -> Sized:
    return trades_of(one, state or BookState.start(one.names), given)


def sentences(found: Sized) -> tuple[str, ...]:
    return tuple(one.sentence for one in found.findings)


def volatility(weights: FloatArray, covariance: FloatArray = TWO) -> float:
    return math.sqrt(book_variance(weights, covariance))


# ── known answers ─────────────────────────────────────────────────────────────────────────────────


def test_a_core_is_scaled_to_the_target() -> None:
    found = sized(view_of([0.5, 0.5]))
    np.testing.assert_allclose(found.weights, 0.5 * 0.803219, atol=5e-7)
    assert found.volatility == pytest.approx(0.1)
    assert found.target_reached
    assert found.gate == ("", "")
    assert found.findings == ()


def test_what_is_stuck_counts_in_the_volatility() -> None:
    found = sized(view_of([0.0, 1.0], held=[300_000.0, 0.0], tradable=[False, True]))
    np.testing.assert_allclose(found.weights, [0.3, 0.64])
    assert found.gate == ("halt", "")
    assert volatility(found.weights) == pytest.approx(0.1)


def test_nothing_beside_what_is_stuck_where_it_is_too_much_already() -> None:
    one = view_of([0.0, 1.0], held=[800_000.0, 0.0], tradable=[False, True])
    assert scale_of(one.core, np.array([0.8, 0.0]), TWO, 0.1) is None
    found = sized(one)
    assert found.trades.tolist() == [0.0, 0.0]
    assert sentences(found) == ("what cannot be traded is beyond the target volatility: nothing else is held",)
    assert found.gate == ("halt", "halt")


def test_one_lot_of_a_large_contract_is_too_much() -> None:
    one = view_of([1.0], np.array([[1.0]]), price=[5000.0 * 50], lot=[1.0], funded=[False])
    found = sized(one)
    assert found.target.tolist() == pytest.approx([0.1])
    assert found.trades.tolist() == [0.0]
    assert found.gate == ("lot",)
    assert sentences(found) == ("A: one lot is 25.00% of the equity, more than the target of 10.00%: nothing is held",)


def test_the_band_that_costs_least() -> None:
    assert ideal_half_width(1.0, 0.0002, 5.0, 0.01, 0.05) == pytest.approx(0.114471, abs=5e-7)
    assert ideal_half_width(0.5, 0.0002, 5.0, 0.01, 0.05) == pytest.approx(0.072352, abs=5e-7)


@pytest.mark.parametrize(("limit", "known"), [(0.15, 0.91), (0.2, 0.65), (0.3, 0.18)])
def test_how_likely_a_stop_fires(limit: float, known: float) -> None:
    assert stop_probability(0.4, 0.1, limit, 10) == pytest.approx(known, abs=0.02)


# ── core and tilt ─────────────────────────────────────────────────────────────────────────────────


def test_a_tilt_has_at_most_its_share_of_the_target() -> None:
    large = sized(view_of([0.0, 1.0], tilt=[5.0, 0.0]))
    tilt = np.array([0.25, 0.0])  # of 5 % a year, beside a core of 10 %
    expected = np.array([0.0, 1.0]) + tilt
    np.testing.assert_allclose(large.weights, expected * 0.1 / volatility(expected))
    half = sized(view_of([0.0, 1.0], tilt=[5.0, 0.0], evidence=[0.5, 0.0]))
    expected = np.array([0.0, 1.0]) + tilt / 2
    np.testing.assert_allclose(half.weights, expected * 0.1 / volatility(expected))


def test_without_evidence_the_core_stays() -> None:
    with_tilt = sized(view_of([0.5, 0.5], tilt=[1.0, -1.0], evidence=[0.0, 0.0]))
    assert with_tilt.weights.tolist() == sized(view_of([0.5, 0.5])).weights.tolist()


def test_a_tilt_alone_is_not_enlarged() -> None:
    found = sized(view_of([0.0, 0.0], tilt=[0.1, 0.0]))
    assert found.weights.tolist() == pytest.approx([0.1, 0.0])
    assert not found.target_reached


# ── caps ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "gate", "weights"),
    [
        ({"gross_cap": 0.6}, "gross", [0.3, 0.3]),
        ({"net_cap": 0.5}, "net", [0.25, 0.25]),
        ({"class_cap": 0.4}, "class", [0.2, 0.2]),
        ({"name_cap": 0.1}, "name", [0.1, 0.1]),
        ({"margin_cap": 0.1}, "margin", [0.1, 0.1]),
    ],
)
def test_caps_cut_and_are_named(changed: dict[str, float], gate: str, weights: list[float]) -> None:
    found = sized(view_of([0.5, 0.5], margin=[0.5, 0.5]), FREE.replace(**changed))
    np.testing.assert_allclose(found.weights, weights)
    assert set(found.gate) == {gate}
    assert not found.target_reached


def test_trades_take_part_of_the_volume_and_half_of_that_in_stress() -> None:
    one = view_of([0.5, 0.5], volume=[2e6, np.nan])
    found = sized(one)
    assert found.trades[0] == pytest.approx(200_000)
    assert found.gate == ("participation", "")
    assert sized(replace(one, stress=True)).trades[0] == pytest.approx(100_000)


def test_where_the_volume_leaves_less_than_a_lot_the_gate_is_the_volume() -> None:
    one = view_of([0.5, 0.5], volume=[5.0, np.nan], lot=[1.0, 1.0])
    found = sized(one)
    assert found.trades[0] == 0
    assert found.gate == ("participation", "")
    assert sized(replace(one, lot=np.array([1e7, 1.0]))).gate[0] == "lot"  # no volume would do


def test_cash_pays_for_purchases_and_their_costs() -> None:
    given = FREE.replace(gross_cap=1.0, net_cap=1.0, target_volatility=0.2)
    found = sized(view_of([0.5, 0.5], cost=[0.01, 0.01]), given)
    assert found.weights.sum() * 1.01 == pytest.approx(1.0)
    assert set(found.gate) == {"cash"}
    future = sized(view_of([0.5, 0.5], funded=[False, False], margin=[0.1, 0.1]), given)
    assert future.weights.sum() == pytest.approx(1.0)
    assert set(future.gate) == {"gross"}


def test_what_cannot_be_sold_is_told_where_it_exceeds_a_cap() -> None:
    one = view_of([0.5, 0.5], held=[0.0, 500_000.0], volume=[np.nan, 1e6])
    found = sized(one, FREE.replace(name_cap=0.3))
    assert found.weights.tolist() == pytest.approx([0.3, 0.4])
    assert sentences(found) == ("a cap is exceeded by what cannot be sold in this session",)


def test_a_class_falling_together_is_told_or_sizes_the_book() -> None:
    spiked = np.array([[0.04, 0.016], [0.016, 0.01]]) * 4
    one = view_of([0.5, 0.5], spiked=spiked)
    found = sized(one)
    assert found.spiked == pytest.approx(volatility(found.target, spiked))
    assert "with each class falling together the volatility is 23.0% a year" in sentences(found)[0]
    smaller = sized(one, FREE.replace(spike_sizes=True))
    assert volatility(smaller.target, spiked) == pytest.approx(0.15)
    assert smaller.gate == ("spike", "spike")
    assert smaller.findings == ()


# ── bands ─────────────────────────────────────────────────────────────────────────────────────────


def after(target: float, sessions: int = 63, names: int = 1) -> BookState:
    state = BookState.start(tuple("ABCDEFGH"[:names]))
    for _ in range(sessions):
        state = state.after_target(np.full(names, target))
    return state


@pytest.mark.parametrize(
    ("held", "bought"), [(0.96, 0.0), (1.05, 0.0), (0.94, 0.0), (0.92, 0.08), (1.08, -0.08), (0.0, 1.0)]
)
def test_the_book_is_traded_where_its_volatility_is_off(held: float, bought: float) -> None:
    one = view_of([1.0], np.array([[0.01]]), held=[held * 1e6])
    assert sized(one, state=after(1.0)).trades / 1e6 == pytest.approx(bought, abs=1e-9)


def test_a_symbol_is_traded_to_the_near_edge_of_its_band() -> None:
    one = view_of([0.5, 0.5], np.eye(2) * 0.02, held=[440_000.0, 560_000.0])
    found = sized(one, state=after(0.5, names=2))
    np.testing.assert_allclose(found.weights, [0.45, 0.55])
    wide = sized(one, FREE.replace(symbol_band=0.2), after(0.5, names=2))
    assert wide.trades.tolist() == [0.0, 0.0]


def test_a_target_of_0_has_no_band() -> None:
    one = view_of([1.0, 0.0], np.eye(2) * 0.01, held=[999_000.0, 1000.0])
    assert sized(one, state=after(0.5, names=2)).trades.tolist() == [0.0, -1000.0]
    closing = sized(replace(one, core=np.array([0.9, 0.1]), closing=np.array([False, True])))
    assert closing.weights[1] == 0.0
    assert closing.gate[1] == "close"


def test_the_mean_target_is_that_of_63_sessions() -> None:
    state = after(0.9, 100).after_target(np.array([0.27]))
    assert state.targets.shape == (63, 1)
    assert state.mean_target[0] == pytest.approx((62 * 0.9 + 0.27) / 63)
    assert state.among(("0", "A")).mean_target.tolist() == [0.0, state.mean_target[0]]
    joined = state.among(("0", "A")).after_target(np.array([-0.4, 0.9])).after_target(np.array([0.0, 0.9]))
    assert joined.mean_target[0] == 0.4  # of the sessions in which it had a target


# ── units ─────────────────────────────────────────────────────────────────────────────────────────


def test_units_are_rounded_toward_zero() -> None:
    found = sized(view_of([0.5, -0.5], price=[300.0, 300.0], lot=[100.0, 1.0]))
    wanted = found.target * 1e6 / 300
    assert found.trades.tolist() == [math.floor(wanted[0] / 100) * 100, math.ceil(wanted[1])]


def test_the_net_is_kept_where_the_other_side_is_rounded() -> None:
    found = sized(view_of([0.5, -0.5], np.eye(2) * 0.02, lot=[1.0, 200_000.0]), FREE.replace(net_cap=0.05))
    assert found.target.tolist() == pytest.approx([0.5, -0.5])
    assert found.weights.tolist() == pytest.approx([0.45, -0.4], abs=1e-6)


def test_small_tickets_are_dropped_unless_they_close_a_position() -> None:
    given = FREE.replace(minimum_ticket=2000.0, symbol_band=0.0)
    held = view_of([1.0, 0.0], np.eye(2) * 0.01, held=[999_000.0, 1000.0])
    assert sized(held, given).trades.tolist() == [0.0, -1000.0]
    assert sized(held, given).gate == ("ticket", "")
    assert sized(held, FREE.replace(symbol_band=0.0)).trades.tolist() == pytest.approx([1000.0, -1000.0])


def test_a_small_ticket_keeps_a_cap() -> None:
    one = view_of([1.0], np.eye(1) * 0.01, held=[1_001_000.0])
    found = sized(one, FREE.replace(gross_cap=1.0, minimum_ticket=2000.0))
    assert found.trades.tolist() == pytest.approx([-1000.0])


def test_small_purchases_are_dropped_where_small_sales_keep_a_cap() -> None:
    one = view_of([0.5, 0.5], np.eye(2) * 0.02, held=[503_000.0, 498_000.0])
    found = sized(one, FREE.replace(gross_cap=1.0, symbol_band=0.0, minimum_ticket=5000.0))
    np.testing.assert_allclose(found.trades, [-3000.0, 0.0])


def test_no_equity_closes_everything() -> None:
    found = sized(view_of([1.0, 0.0], held=[10.0, -3.0], equity=-5.0))
    assert found.trades.tolist() == [-10.0, 3.0]
    assert sentences(found) == ("no equity is left: everything is closed",)


# ── state ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_level_is_kept_between_two_thirds_and_three_halves() -> None:
    state = BookState.start(("A",))
    assert state.level == 1
    calm, wild = state, state
    for _ in range(1000):
        calm, wild = calm.after_return(0.0, 1e-4), wild.after_return(0.1, 1e-4)
    assert (calm.level, wild.level) == (2 / 3, 3 / 2)
    assert calm.after_return(0.5, 0.0) is calm
    one = view_of([1.0], np.array([[0.01]]))
    assert sized(one, state=calm).weights.tolist() == pytest.approx([1.5])
    assert sized(one, state=wild).volatility == pytest.approx(0.1)


def test_the_stop_sells_everything_for_its_sessions_and_then_counts_from_there() -> None:
    given = FREE.replace(drawdown_stop=0.2, stop_sessions=3)
    state, flat = BookState.start(("A",)), []
    for equity in (100.0, 110.0, 88.0, 88.0, 88.0, 88.0, 80.0, 70.0):
        state = state.after_equity(equity, given)
        flat.append(state.flat_left > 0)
    assert flat == [False, False, True, True, True, False, False, True]
    found = sized(view_of([1.0], np.array([[0.01]]), held=[10.0]), given, state)
    assert (found.trades.tolist(), found.gate) == ([-10.0], ("stop",))
    assert not BookState.start(("A",)).after_equity(1.0, FREE).after_equity(0.1, FREE).flat_left


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"price": [np.nan, 1.0]}, "'A' is wanted or held and has no price above 0"),
        ({"covariance": np.full((2, 2), np.nan)}, "'A' is wanted or held and has no forecast covariance"),
        ({"names": ("A", "C")}, r"names \('A', 'C'\), the state \('A', 'B'\)"),
    ],
)
def test_what_cannot_be_sized_is_refused(changed: dict[str, Any], said: str) -> None:
    one = view_of([0.5, 0.5], **changed)
    with pytest.raises(SettingsError, match=said):
        trades_of(one, BookState.start(("A", "B")), FREE)


def test_what_is_held_without_a_forecast_is_sold() -> None:
    covariance = np.array([[0.01, np.nan], [np.nan, np.nan]])
    one = view_of([1.0, 0.0], covariance, held=[1e6, 500.0])
    assert sized(one).trades.tolist() == [0.0, -500.0]
    unpriced = view_of([1.0, 0.0], covariance, price=[1.0, np.nan])
    assert sized(unpriced).trades.tolist() == [1e6, 0.0]


# ── what holds of every book ──────────────────────────────────────────────────────────────────────


@st.composite
def books(draw: st.DrawFn, limited: bool = True) -> tuple[BookView, BookSettings, BookState]:
    """A session, settings and a state with some past; `limited`: most with halts, volumes and costs."""
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    count, long_alone = int(random.integers(1, 11)), bool(random.random() < 0.5)
    limited, netted = limited and bool(random.random() < 0.6), limited
    x = random.standard_normal((count + 4, count)) * random.uniform(0.05, 0.4, count)
    sign = 1.0 if long_alone else random.choice([-1.0, 1.0], count)
    names, few = tuple("ABCDEFGHIJ"[:count]), (lambda share: random.random(count) < share)
    core = random.dirichlet(np.ones(count)) * sign * ~few(0.2)
    price, lot = random.uniform(1, 500, count), random.choice([0.0, 0.0, 1.0, 100.0], count)
    near = core * random.uniform(0.5, 1.5, count) * 1e6 * random.choice([0.0, 0.4, 1.0])
    held = np.trunc(near / price / np.where(lot > 0, lot, 1)) * np.where(lot > 0, lot, 1)
    one = BookView(
        names, tuple(random.choice(["etf", "fx", "equity"], count).tolist()), core,
        random.uniform(-1, 1, count) * ~few(0.5), few(0.5).astype(float), x.T @ x / len(x), 1e6, held, price, lot,
        np.where(few(0.5) & limited, random.uniform(1e4, 1e7, count), np.nan), random.uniform(0, 0.5, count),
        few(0.8), np.where(limited, random.uniform(0, 0.002, count), 0.0), ~(few(0.1) & limited), few(0.1),
    )  # fmt: skip
    given = BookSettings(
        gross_cap=random.uniform(0.3, 2), net_cap=random.uniform(0.2, 2) if netted else 50,
        margin_cap=random.uniform(0.1, 1), class_cap=random.choice([None, 0.5]), name_cap=random.choice([None, 0.2]),
        minimum_ticket=random.choice([0, 5000]),
        symbol_band=random.choice([0.0, 0.1, 0.3]),
    )  # fmt: skip
    state = BookState.start(names)
    for _ in range(int(random.integers(0, 5))):
        state = state.after_target(core * random.uniform(0.5, 2))
    return one, given, replace(state, surprise=float(random.uniform(0.3, 3)))


def exceeded(weights: FloatArray, one: BookView, given: BookSettings) -> bool:
    size, kinds = np.abs(weights), np.array(one.classes)
    return bool(
        size.sum() > given.gross_cap + 1e-8
        or abs(weights.sum()) > given.net_cap + 1e-8
        or (size * one.margin).sum() > given.margin_cap + 1e-8
        or (given.name_cap is not None and size.max() > given.name_cap + 1e-8)
        or (given.class_cap is not None and any(size[kinds == kind].sum() > given.class_cap + 1e-8 for kind in kinds))
    )


@settings(max_examples=80, deadline=None)
@given(books())
def test_no_cap_is_exceeded_unless_it_is_told(book: tuple[BookView, BookSettings, BookState]) -> None:
    one, given, state = book
    found = trades_of(one, state, given)
    told = "a cap is exceeded by what cannot be sold in this session" in sentences(found)
    assert exceeded(found.weights, one, given) == told
    if told:  # there is what could not be sold
        assert (~one.tradable | ~np.isnan(one.volume)).any()
    assert (found.trades[~one.tradable] == 0).all()
    np.testing.assert_allclose(found.weights, (one.held + found.trades) * one.price / 1e6, atol=1e-12)
    room = np.where(np.isnan(one.volume), np.inf, one.volume * given.participation)
    assert (np.abs(found.trades * one.price) <= room * (1 + 1e-6) + 1).all()
    lots = found.trades[one.lot > 0] / one.lot[one.lot > 0]
    np.testing.assert_allclose(lots, np.round(lots), atol=1e-9)
    assert (found.weights[(found.target == 0) & np.isnan(one.volume)] == 0).all()


@settings(max_examples=80, deadline=None)
@given(books(limited=False))
def test_a_second_time_nothing_is_traded(book: tuple[BookView, BookSettings, BookState]) -> None:
    one, given, state = book
    found = trades_of(one, state, given)
    again = trades_of(replace(one, held=one.held + found.trades), state, given)
    if "cash" not in found.gate:
        np.testing.assert_array_equal(again.trades, 0.0)
        np.testing.assert_array_equal(again.target, found.target)


@settings(max_examples=30, deadline=None)
@given(books(), st.sampled_from([0.5, 2.0, 1024.0]))
def test_twice_the_money_trades_twice_the_units(book: tuple[BookView, BookSettings, BookState], times: float) -> None:
    one, given, state = book
    found = trades_of(one, state, given)
    more = replace(
        one, equity=one.equity * times, held=one.held * times, lot=one.lot * times, volume=one.volume * times
    )
    larger = trades_of(more, state, given.replace(minimum_ticket=given.minimum_ticket * times))
    np.testing.assert_array_equal(larger.trades, found.trades * times)
    assert larger.gate == found.gate


@settings(max_examples=25, deadline=None)
@given(books())
def test_names_that_are_neither_wanted_nor_held_change_no_bit(book: tuple[BookView, BookSettings, BookState]) -> None:
    one, given, state = book
    found = trades_of(one, state, given)
    names, count = ("0", *one.names), len(one.names)
    covariance = np.full((count + 1, count + 1), np.nan)
    covariance[1:, 1:] = one.covariance
    arrays = {
        name: np.r_[np.array(0, value.dtype), value]
        for name, value in vars(one).items() if isinstance(value, np.ndarray) and name != "covariance"
    }  # fmt: skip
    more = replace(one, **arrays, names=names, classes=("index", *one.classes), covariance=covariance)
    joined = trades_of(more, state.among(names), given)
    np.testing.assert_array_equal(joined.trades, np.r_[0.0, found.trades])


# ── day by day ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Day:
    """What a book carries from one close to the next, and what the session earned."""

    correlations: Correlations
    core: CoreState
    book: BookState
    held: dict[str, float]
    cash: float
    earned: float = 0.0

    def after(self, today: date, names: tuple[str, ...], returns: FloatArray, price: FloatArray) -> Day:
        """One close later: all deviations are forecast as .01 a session, fills are at the close and free."""
        there, kinds = ~np.isnan(returns), ("index",) * len(names)
        correlations = self.correlations.among(names, kinds).after(returns, np.full(len(names), 0.01))
        core = self.core.among(names, kinds).after(today, returns, there, SHORT_CORE)
        held = np.array([self.held.get(name, 0.0) for name in names])
        value = np.where(held == 0, 0.0, held * price)
        equity, which = self.cash + value.sum(), np.flatnonzero(there)
        before = equity - np.where(held == 0, 0.0, value * returns / (1 + returns)).sum()
        bar = np.full((len(names), len(names)), np.nan)
        bar[np.ix_(which, which)] = covariance_of(correlations.correlation(which), np.full(len(which), 0.01))
        book = self.book.among(names).after_return(equity / before - 1, book_variance(value / before, bar))
        view = replace(
            view_of(core.weights, bar * 252), names=names, classes=kinds, equity=equity, held=held, price=price,
            lot=np.ones(len(names)),
        )  # fmt: skip
        found = trades_of(view, book.after_equity(equity, PLAIN), PLAIN)
        units = zip(names, (held + found.trades).tolist(), strict=True)
        after = {name: count for name, count in units if count}
        spent = float(np.where(found.trades == 0, 0.0, found.trades * price).sum())
        return Day(correlations, core, found.state, after, self.cash - spent, equity / before - 1)


PLAIN, SHORT_CORE = BookSettings(gross_cap=2, net_cap=2), Core(minimum_sessions=10)
BEGINS, DAYS = 70, 140


def walk(known: bool, days: list[Day]) -> list[Day]:
    """The days of a market after those given; A begins at session 70, and is `known` before or not."""
    rng = np.random.default_rng(8)
    returns = 0.01 * (rng.standard_normal((DAYS, 1)) + rng.standard_normal((DAYS, 4))) / np.sqrt(2)
    price = 50 * np.cumprod(1 + returns, axis=0)
    returns[:BEGINS, 0] = price[:BEGINS, 0] = np.nan
    names, kinds = ("B", "C", "D"), ("index",) * 3
    none = Correlations.start(names, kinds), CoreState.start(names, kinds, SHORT_CORE), BookState.start(names)
    for number in range(len(days), DAYS):
        which = slice(0 if known or number >= BEGINS else 1, 4)
        before = days[-1] if days else Day(*none, {}, 1e6)
        today = date(2024, 1, 1) + timedelta(days=number)
        days = [*days, before.after(today, ("A", "B", "C", "D")[which], returns[number, which], price[number, which])]
    return days


@pytest.fixture(scope="module")
def book() -> list[Day]:
    return walk(False, [])


@pytest.mark.parametrize("kept", [0, 33, BEGINS, BEGINS + 1, 120])
def test_a_book_goes_on_from_any_day_to_the_bit(book: list[Day], kept: int) -> None:
    """Also where a name that sorts first joins later, and where it is known before it begins."""
    again = walk(True, book[:kept])
    for one, other in zip(again, book, strict=True):
        assert (one.held, one.cash, one.book.surprise) == (other.held, other.cash, other.book.surprise)


def test_a_book_has_about_the_volatility_that_is_aimed_at(book: list[Day]) -> None:
    earned = np.array([one.earned for one in book[40:]])
    assert earned.std() * math.sqrt(252) == pytest.approx(0.1, rel=0.2)
    assert "A" in book[-1].held
    kept = [one.held == before.held for before, one in itertools.pairwise(book[40:])]
    assert sum(kept) > 50  # within the bands
