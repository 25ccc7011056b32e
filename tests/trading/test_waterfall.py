"""The waterfall: its steps are those that sizing went through, they add up, and the gate that blocked is named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from gatecast.trading.cuts import GATES, ROUNDING, gate_of_trade, sentences_of
from gatecast.trading.sizing import STAGES, BookSettings, BookState, BookView, trades_of
from gatecast.trading.waterfall import SENTENCES, Proposed, Waterfall, waterfall_of
from tests.trading.test_sizing import FREE, books, view_of
from tests.trading.test_sizing import after as after_of

NOTHING = Proposed({}, 0.0, "flat", 0.0, 0.0, 0.0)


def made(view: BookView, size: BookSettings = FREE, state: BookState | None = None) -> Waterfall:
    """The waterfall of the first name."""
    found = trades_of(view, state or BookState.start(view.names), size)
    return waterfall_of(NOTHING, view, found, view.names[0])


def after(found: Waterfall) -> dict[str, float]:
    return {one.name: one.after for one in found.steps}


@settings(max_examples=150, deadline=None)
@given(books())
def test_the_steps_of_any_book_add_up_to_what_is_held(book: Any) -> None:
    view, size, state = book
    found = trades_of(view, state, size)
    for place, name in enumerate(view.names):
        proposed = Proposed({"a": 0.3, "b": -0.1}, 0.4, "trend", 0.25, float(view.tilt[place]), 1.0)
        one = waterfall_of(proposed, view, found, name)
        assert math.fsum(step.change for step in one.steps) == pytest.approx(one.held, abs=1e-12)
        assert one.held == found.weights[place]
        held = float(view.held[place] * view.price[place] / view.equity)
        assert one.before == pytest.approx(held, abs=1e-12)
        assert one.order is not None
        assert one.order == pytest.approx(found.trades[place] * view.price[place] / view.equity, abs=1e-12)
        assert (one.units == 0) == (found.trades[place] == 0)
        said = {step.name: step.gate.split(", ") for step in one.steps if step.gate}
        for stage in STAGES:  # every gate is named at the step at which it cut, in order
            own = [cut.gate for cut in dict.fromkeys(found.gates[place]) if cut.stage == stage]
            also = {"band": ["band"], "lots": [ROUNDING]}.get(stage, [])
            assert said.get(stage, []) in ([own] if own else [[], also])
        for step in one.steps:  # nothing changes after the target without a gate
            if step.name in STAGES[STAGES.index("caps") :] and abs(step.change) > 1e-6:
                assert step.gate
            if step.name in ("caps", "caps again", "band", "volume", "ticket") and step.gate:
                assert abs(step.change) > 0
        if one.units == 0 and abs(one.held - after(one)["caps"]) > 1e-6:  # it is off its target: something blocked it
            assert one.gate is not None
            assert one.gate.sentence


@settings(max_examples=60, deadline=None)
@given(books())
def test_the_stages_end_at_the_weights_and_the_target_is_among_them(book: Any) -> None:
    view, size, state = book
    found = trades_of(view, state, size)
    assert tuple(found.stages) == STAGES
    np.testing.assert_array_equal(found.stages["caps"], found.target)
    np.testing.assert_array_equal(found.stages["cash"], found.weights)


def test_each_step_by_hand() -> None:
    """Two names of 20 and 10 % a year, one vote each way; half of the tilt is believed, and a cap of 30 % cuts."""
    view = view_of([0.4, 0.6], tilt=[0.5, 0.0], evidence=[0.5, 0.5], lot=[1.0, 1.0], price=[70_000.0, 1.0])
    found = trades_of(view, BookState.start(view.names), FREE.replace(name_cap=0.3))
    votes = {"lstm": 0.5, "forest": -0.5}
    one = waterfall_of(Proposed(votes, 1.0, "trend", 0.5, 0.5, 0.5), view, found, "A")
    reached = after(one)
    assert [(step.of, step.change) for step in one.steps[:2]] == [("lstm", 0.5), ("forest", -0.5)]
    assert (reached["ensemble"], reached["strategy"], reached["tilt"], reached["evidence"]) == (1.0, 0.5, 0.5, 0.25)
    assert reached["core"] == pytest.approx(0.65)
    core = np.array([0.4, 0.6]) * 0.1 / np.sqrt(np.array([0.4, 0.6]) @ view.covariance @ np.array([0.4, 0.6]))
    tilt = np.array([min(0.25, 0.5 * 0.5 * 0.1 / 0.2), 0.0])  # half the target times the evidence, of 20 % a year
    wanted = core + tilt
    wanted = wanted * 0.1 / np.sqrt(wanted @ view.covariance @ wanted)
    assert reached["volatility"] == pytest.approx(wanted[0])
    assert reached["caps"] == pytest.approx(0.3)
    assert reached["lots"] == pytest.approx(0.28)  # four lots of 7 % each
    assert [(step.name, step.gate) for step in one.steps if step.gate] == [("caps", "name"), ("lots", ROUNDING)]
    assert one.units == 4


@pytest.mark.parametrize(
    ("changed", "size", "stage", "gate"),
    [
        ({"price": [5e6, 1.0], "lot": [1.0, 1.0]}, {}, "lots", "lot"),
        ({"volume": [1000.0, 1e9]}, {}, "volume", "participation"),
        ({"held": [1e5, 0.0], "tradable": [False, True]}, {}, "volatility", "halt"),
        ({"held": [1e5, 0.0], "closing": [True, False]}, {}, "volatility", "close"),
        ({}, {"name_cap": 0.05}, "caps", "name"), ({}, {"gross_cap": 0.1}, "caps", "gross"),
        ({"held": [399_000.0, 401_000.0]}, {"symbol_band": 0.1}, "band", "band"),
        ({"held": [380_000.0, 401_000.0]}, {"minimum_ticket": 5e4, "symbol_band": 0.0, "book_band": 0.0}, "ticket",
         "ticket"),
    ],
)  # fmt: skip
def test_the_gate_that_blocked_is_named_at_its_step(
    changed: dict[str, Any], size: dict[str, Any], stage: str, gate: str
) -> None:
    found = made(view_of([0.5, 0.5], **changed), FREE.replace(**size))
    assert found.gate is not None
    assert (found.gate.name, found.gate.gate) == (stage, gate)
    assert found.gate.sentence
    assert found.to_dict()["gate"] == gate


@pytest.mark.parametrize(
    ("changed", "stopped", "gate"),
    [({"tradable": [False, True]}, 0, "halt"), ({"closing": [True, False]}, 0, "close"), ({}, 5, "stop")],
)
def test_what_is_wanted_and_not_held_has_a_gate_where_it_cannot_be_bought(
    changed: dict[str, Any], stopped: int, gate: str
) -> None:
    """As of a bar that came after its fill: the strategies' gate lets the core through, that of the book does not."""
    view = replace(
        view_of([0.5, 0.5]), **{name: np.array(values, bool) for name, values in changed.items()}
    )  # fmt: skip
    state = replace(BookState.start(view.names), flat_left=stopped)
    found = made(view, FREE, state)
    step = next(one for one in found.steps if one.name == "volatility")
    assert (step.gate, step.sentence, step.after, found.held) == (gate, GATES[gate], 0.0, 0.0)
    assert step.change < -0.1
    assert found.to_dict()["gate"] == gate
    assert trades_of(view, state, FREE).gate[0] == ""  # of what is not held nothing is cut


def test_two_gates_of_one_step_are_both_named() -> None:
    found = made(view_of([0.5, 0.5]), FREE.replace(name_cap=0.3, gross_cap=0.1))
    step = next(one for one in found.steps if one.name == "caps")
    assert step.gate == "name, gross"
    assert step.sentence == f"{GATES['name']}; {GATES['gross']}"
    assert found.to_dict()["gate"] == "gross"  # from 30 % to 5 % each, the cap on a symbol from some 63 % to 30 %


@pytest.mark.parametrize(
    ("gate", "step"), [("evidence", "evidence"), ("too good", "evidence"), ("flat", "strategy"), ("signal", "strategy")]
)
def test_a_gate_of_the_strategies_stands_at_its_step(gate: str, step: str) -> None:
    proposed = Proposed({"a": 0.1}, 0.1, "trend", 0.1, 0.1, 0.0, gate, "why")
    found = waterfall_of(proposed, None, None, "A")
    assert found.gate is not None
    assert (found.gate.name, found.gate.gate, found.gate.sentence) == (step, gate, "why")
    assert (found.held, found.order, found.before) == (0.0, None, None)


def test_every_stage_has_a_sentence() -> None:
    assert {*STAGES} <= SENTENCES.keys()


def test_the_band_and_the_ticket_are_both_named_and_the_gate_is_the_one_that_cut_more() -> None:
    """Target .5, band of a tenth: 55.005 % held would be brought to 55 %, which is below the smallest ticket."""
    view = view_of([0.5, 0.5], np.eye(2) * 0.02, held=[550_050.0, 500_000.0])
    found = trades_of(view, after_of(0.5, names=2), FREE.replace(symbol_band=0.1, minimum_ticket=100.0, book_band=0.2))
    assert found.gate[0] == "ticket"
    one = waterfall_of(NOTHING, view, found, "A")
    assert [(step.name, step.gate) for step in one.steps if step.gate] == [("band", "band"), ("ticket", "ticket")]
    assert one.gate is not None
    assert one.gate.gate == gate_of_trade(found, 0) == "band"
    assert sentences_of(found, 0) == [GATES["band"], GATES["ticket"]]


def test_caps_that_cut_what_the_band_left_are_a_step_of_their_own() -> None:
    """Targets of .5 each at the cap; 54 % of the first stay within its band, which with the second is too much."""
    view = view_of([0.5, 0.5], np.eye(2) * 0.02, held=[540_000.0, 490_000.0])
    found = trades_of(view, after_of(0.5, names=2), FREE.replace(gross_cap=1.0, symbol_band=0.1, book_band=0.2))
    one = waterfall_of(NOTHING, view, found, "A")
    steps = {step.name: step for step in one.steps}
    assert steps["caps"].gate == ""
    assert abs(steps["caps"].change) < 1e-9
    assert steps["volume"].change == pytest.approx(0.0, abs=1e-12)
    assert steps["volume"].gate == ""
    assert steps["caps again"].change == pytest.approx(-0.03)
    assert (steps["caps again"].gate, steps["caps again"].sentence) == (
        "gross", "the cap on the gross value cut the trade",
    )  # fmt: skip


def test_the_cut_of_the_tilt_is_a_step_of_its_own_and_scaling_turns_no_side() -> None:
    view = view_of([0.3, 0.3], np.eye(2) * 0.04, tilt=[-0.9, 0.0], evidence=[1.0, 1.0])
    found = trades_of(view, BookState.start(view.names), FREE.replace(tilt_share=0.5))
    reached = after(waterfall_of(Proposed({}, 0.0, "trend", -0.9, -0.9, 1.0), view, found, "A"))
    core = 0.1 / math.sqrt(2 * 0.04)  # 10 % a year of two names of 20 % each
    assert reached["core"] == pytest.approx(-0.6)
    assert reached["core size"] == pytest.approx(core - 0.9)
    assert reached["tilt share"] == pytest.approx(core - 0.5 * 0.1 / 0.2)
    scale = 0.1 / math.sqrt(0.04 * (core**2 + (core - 0.25) ** 2))
    assert reached["volatility"] == pytest.approx(scale * (core - 0.25))


def test_evidence_that_changes_nothing_is_named_at_its_step_and_cuts_nothing() -> None:
    """The strategies' gate of a decision stands in its explanation, whatever is left for it to change."""
    found = waterfall_of(Proposed({"a": 0.1}, 0.1, "held_long", 0.1, 0.0, 0.0, "evidence", "why"), None, None, "A")
    assert [(step.name, step.gate, step.sentence) for step in found.steps if step.gate] == [
        ("evidence", "evidence", "why")
    ]
    assert found.gate is None


@pytest.mark.parametrize(("price", "binds"), [(70_000.0, True), (400.0, False)])
def test_rounding_to_lots_is_named_and_binds_where_it_is_seen(price: float, binds: bool) -> None:
    """Of .4016 lots of 7 % reach 35 %; lots of .04 % reach all but less than a twentieth of a per cent."""
    found = made(view_of([0.5, 0.5], lot=[1.0, 1.0], price=[price, 1.0]))
    assert [(step.name, step.gate) for step in found.steps if step.gate] == [("lots", ROUNDING)]
    assert (found.gate is not None) == binds
    assert found.to_dict()["gate"] == (ROUNDING if binds else "")


def test_a_book_without_equity_has_no_share_beyond_all_numbers() -> None:
    found = made(view_of([0.5, 0.5], held=[10.0, 0.0], equity=0.0))
    assert found.held == 0.0
    assert found.before == 10.0
