"""What cut a trade last, and what orders say of it: the band is named where it ends a trade off its target."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings

from gatecast.trading.cuts import BAND, GATES, gate_of_trade, sentences_of
from gatecast.trading.orders import OrderSettings, orders_of
from gatecast.trading.sizing import trades_of
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


def test_what_is_traded_to_its_target_has_no_band() -> None:
    assert gate_of_trade(sized(view_of([1.0, 0.5])), 0) == ""
