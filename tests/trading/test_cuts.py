"""What cut a trade last, and what orders say of it: the band is named where it ends a trade off its target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from gatecast.trading.cuts import (
    BAND,
    CALLED,
    GATES,
    KEEP_FROM_TRADE,
    LEAST_OFF,
    ROUNDING,
    cut_by,
    cuts_of,
    gate_of_trade,
    kept_off,
    limit_of,
    sentences_of,
)
from gatecast.trading.orders import OrderSettings, orders_of
from gatecast.trading.sizing import SLACK, STAGES, BookState, trades_of
from gatecast.trading.waterfall import Proposed, waterfall_of
from tests.trading.test_orders import desk_made_of
from tests.trading.test_sizing import FREE, after, books, sized, view_of

NEAR = 1e-6
"""Distance from the target up to which nothing keeps a trade from it."""


def test_an_order_to_the_edge_of_the_band_names_the_band_beside_the_cap_of_its_target() -> None:
    """Target .5 each after the cap on the gross value, band of a tenth of its mean: 44 % is brought to 45 %."""
    size = FREE.replace(gross_cap=1.0, name_cap=None)
    view = view_of([0.5, 0.5], np.eye(2) * 0.002, held=[440_000.0, 500_000.0])
    desk = desk_made_of(view, size, after(0.5, names=2))
    found = desk.sized(view.held, 1e6)
    np.testing.assert_allclose(found.weights, [0.45, 0.5])
    assert found.gate == ("gross", "gross")
    (order,) = orders_of(desk, found, view.held, np.zeros(2), "main", OrderSettings())
    assert order.gate == gate_of_trade(found, 0) == "gross"  # the cap takes far more than the band does
    assert limit_of(found, 0, size).kept == BAND
    assert order.reason.endswith(f"{GATES['gross']}; {GATES[BAND]}")
    assert sentences_of(found, 1) == [GATES["gross"]]  # at its target: the cap alone


@settings(max_examples=120, deadline=None)
@given(books())
def test_a_trade_that_ends_off_its_target_is_cut_by_the_band_or_after_it(book: Any) -> None:
    view, size, state = book
    found = trades_of(view, state, size)
    for place in range(len(view.names)):
        gate, said = gate_of_trade(found, place), sentences_of(found, place)
        off = abs(found.stages["band"][place] - found.target[place]) > NEAR
        assert (GATES[BAND] in said) >= off
        assert gate in ("", BAND, ROUNDING, *(one.gate for one in found.gates[place]))
        assert bool(said) == bool(gate)
        last = [one for one in found.gates[place] if one.stage in ("volume", "caps again", "lots", "ticket", "cash")]
        assert {GATES[one.gate].replace("cut the target", "cut the trade") for one in last} <= {*said}


@settings(max_examples=120, deadline=None)
@given(books())
def test_the_gate_that_binds_is_that_of_the_waterfall_and_changed_the_trade_most(book: Any) -> None:
    """An order, a page and an explanation name one gate: by hand, of the stages after which the share changed."""
    view, size, state = book
    found = trades_of(view, state, size)
    nothing = Proposed({}, 0.0, "", 0.0, 0.0, 0.0)
    for place, name in enumerate(view.names):
        limit = limit_of(found, place, size)
        step = waterfall_of(nothing, view, found, name).gate
        assert limit.gate == gate_of_trade(found, place) == ("" if step is None else step.gate.split(", ")[-1])
        assert bool(limit.words) == bool(limit.gate)
        assert not limit.gate or cut_by(limit.gate, size) in limit.words
        shares = [found.stages[stage][place] for stage in STAGES]
        moved = dict(zip(STAGES[1:], np.diff(shares), strict=True))
        cuts = cuts_of(found, place)
        said = {one.stage: {two.gate for two in found.gates[place] if two.stage == one.stage} for one in cuts}
        for stage in said:
            assert sum(one.change for one in cuts if one.stage == stage) == pytest.approx(moved[stage], abs=1e-12)
        if alone := [abs(moved[stage]) for stage, gates in said.items() if len(gates) < 2]:
            most = max(alone)
            assert most < LEAST_OFF or (step is not None and abs(step.change) >= most - 2 * SLACK)
        for stage in STAGES[STAGES.index("caps") :]:  # nothing is lost without a gate
            assert stage in said or abs(moved[stage]) < 1e-6


def test_what_each_of_two_caps_took_is_told_apart() -> None:
    """Three names, core .5, .3 and .2: 40 % may be held of one, 60 % of all; by hand, of what the volatility asks."""
    size = FREE.replace(gross_cap=0.6, name_cap=0.4)
    found = sized(view_of([0.5, 0.3, 0.2], np.eye(3) * 0.01), size)
    asked = np.array([0.5, 0.3, 0.2]) * 0.1 / np.sqrt(0.01 * (0.25 + 0.09 + 0.04))
    np.testing.assert_allclose(found.stages["volatility"], asked)
    capped = np.minimum(asked, 0.4)
    held = capped * 0.6 / capped.sum()
    for place in range(3):
        costs = limit_of(found, place, size).costs
        assert costs["gross cap of 60%"] == pytest.approx(capped[place] - held[place])
        assert costs.get("symbol cap of 40%", 0.0) == pytest.approx(asked[place] - capped[place])
    assert [limit_of(found, place, size).gate for place in range(3)] == ["name", "gross", "gross"]


def test_a_cap_that_took_much_is_named_where_lots_take_little_and_rounding_where_it_keeps_off_the_target() -> None:
    """Half each is wanted; 25 % may be held of a name, of which lots of 1 % reach 25 %, and lots of 7 % reach 21 %."""
    size = FREE.replace(name_cap=0.2505)
    for price, words in (
        (10_000.0, "target: symbol cap of 25.05%; trade: whole lots"),
        (1.0, "target: symbol cap of 25.05%"),
    ):
        found = sized(view_of([0.5, 0.5], np.eye(2) * 0.02, price=[price, 1.0], lot=[1.0, 1.0]), size)
        assert limit_of(found, 0, size)[:3] == ("name", words, "name")
    size, view = (
        FREE.replace(name_cap=1.0),
        view_of([0.5, 0.5], np.eye(2) * 0.02, price=[70_000.0, 1.0], lot=[1.0, 1.0]),
    )
    found = sized(view, size)
    off = float(found.target[0]) - 0.49
    costs = {"whole lots": pytest.approx(off)}
    assert limit_of(found, 0, size) == (ROUNDING, "trade: whole lots", "", ROUNDING, costs, "")
    assert kept_off(ROUNDING, 0.49, float(found.target[0])) == (ROUNDING,)
    assert found.trades[0] == 7


def test_what_limits_a_holding_is_told_with_the_number_of_its_cap() -> None:
    """Half of each is wanted under a cap of 80 % on the gross value; 39 % is held, which is within the band."""
    size = FREE.replace(gross_cap=0.8, name_cap=None)
    view = view_of([0.5, 0.5], np.eye(2) * 0.002, held=[390_000.0, 400_000.0])
    found = trades_of(view, after(0.4, names=2), size)
    wanted = 0.5 * 0.1 / np.sqrt(0.002 * 2 * 0.25)  # 10 % a year
    costs = {"gross cap of 80%": pytest.approx(wanted - 0.4), "band": pytest.approx(0.01)}
    assert limit_of(found, 0, size) == ("gross", "target: gross cap of 80%; trade: band", "gross", BAND, costs, "")
    assert found.gate[0] == "gross"  # the last that was noted
    assert cut_by("participation", size.replace(participation=0.125)) == "volume limit of 12.5%"
    assert {*CALLED} == {*GATES}


def test_what_closes_a_position_is_known_where_its_volume_cuts_the_trade_after_it() -> None:
    """Nine tenths are left after a session: the row has the volume as its gate."""
    view = view_of([0.5], np.eye(1) * 0.02, held=[500_000.0], volume=[500_000.0])
    stopped = replace(BookState.start(view.names), flat_left=5)
    left = replace(view, closing=np.array([True]))
    for found, closes in ((trades_of(view, stopped, FREE), "stop"), (sized(left), "close"), (sized(view), "")):
        assert limit_of(found, 0, FREE).closes == closes
        assert (found.gate[0] == "participation") or not closes


def test_what_is_traded_to_its_target_has_no_band() -> None:
    assert gate_of_trade(sized(view_of([1.0, 0.5])), 0) == ""


@settings(max_examples=120, deadline=None)
@given(books())
def test_what_keeps_a_holding_off_its_target_is_counted_where_its_words_say_so(book: Any) -> None:
    """The first page counts the gates of what is not traded; `today` names them a symbol at a time."""
    view, size, state = book
    found = trades_of(view, state, size)
    for place in np.flatnonzero(found.trades == 0).tolist():
        limit = limit_of(found, place, size)
        counted = kept_off(limit.kept, float(found.weights[place]), float(found.target[place]))
        assert bool(counted) >= ("trade: " in limit.words)
        assert limit.kept in counted or limit.kept not in (BAND, *KEEP_FROM_TRADE)


def test_a_cap_that_leaves_nothing_of_a_target_is_named() -> None:
    """What cannot be sold fills the cap on the gross value: of the other name nothing is left."""
    size = FREE.replace(gross_cap=0.3, name_cap=None)
    view = view_of([0.5, 0.5], np.eye(2) * 0.002, held=[300_000.0, 0.0], tradable=[False, True])
    found = sized(view, size)
    assert found.target.tolist() == [0.3, 0.0]
    limit = limit_of(found, 1, size)
    assert (limit.gate, limit.words) == ("gross", "target: gross cap of 30%")
    assert limit.costs["gross cap of 30%"] == pytest.approx(found.stages["volatility"][1])
