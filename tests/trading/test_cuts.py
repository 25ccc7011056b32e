"""What cut a trade last, and what orders say of it: the band is named where it ends a trade off its target."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings

from gatecast.trading.cuts import (
    BAND,
    CALLED,
    GATES,
    KEEP_FROM_TRADE,
    OF_TRADE,
    cut_by,
    gate_of_trade,
    kept_off,
    limit_of,
    sentences_of,
)
from gatecast.trading.orders import OrderSettings, orders_of
from gatecast.trading.sizing import SLACK, STAGES, trades_of
from gatecast.trading.waterfall import Proposed, waterfall_of
from tests.trading.test_orders import desk_made_of
from tests.trading.test_sizing import FREE, after, books, sized, view_of

NEAR = 1e-6
"""Distance from the target up to which nothing keeps a trade from it."""


def test_an_order_to_the_edge_of_the_band_names_the_band_beside_the_cap_of_its_target() -> None:
    """Target .5 each after the cap on the gross value, band of a tenth of its mean: 44 % is brought to 45 %."""
    size = FREE.replace(gross_cap=1.0, name_cap=1.0)
    view = view_of([0.5, 0.5], np.eye(2) * 0.002, held=[440_000.0, 500_000.0])
    desk = desk_made_of(view, size, after(0.5, names=2))
    found = desk.sized(view.held, 1e6)
    np.testing.assert_allclose(found.weights, [0.45, 0.5])
    assert found.gate == ("gross", "gross")
    (order,) = orders_of(desk, found, view.held, np.zeros(2), "main", OrderSettings())
    assert order.gate == gate_of_trade(found, 0) == BAND
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
        assert gate in ("", BAND, *(one.gate for one in found.gates[place]))
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
        moved = dict(zip(STAGES[1:], np.abs(np.diff(shares)), strict=True))
        said = {one.stage for one in found.gates[place] if one.stage in OF_TRADE}
        if moved[BAND] > SLACK:
            said.add(BAND)
        if said:
            assert step is not None
            assert moved[step.name] >= max(moved[stage] for stage in said) - SLACK


def test_what_limits_a_holding_is_told_with_the_number_of_its_cap() -> None:
    """Half of each is wanted under a cap of 80 % on the gross value; 39 % is held, which is within the band."""
    size = FREE.replace(gross_cap=0.8, name_cap=1.0)
    view = view_of([0.5, 0.5], np.eye(2) * 0.002, held=[390_000.0, 400_000.0])
    found = trades_of(view, after(0.4, names=2), size)
    assert limit_of(found, 0, size) == (BAND, "target: gross cap of 80%; trade: band")
    assert found.gate[0] == "gross"  # the last that was noted
    assert cut_by("participation", size.replace(participation=0.125)) == "volume limit of 12.5%"
    assert {*CALLED} == {*GATES}


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
        counted = kept_off(limit.gate, float(found.weights[place]), float(found.target[place]))
        assert bool(counted) >= ("trade: " in limit.words)
        assert limit.gate in counted or limit.gate not in (BAND, *KEEP_FROM_TRADE)
