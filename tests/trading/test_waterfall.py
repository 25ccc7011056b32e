"""The waterfall: its steps are those that sizing went through, they add up, and the gate that blocked is named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from gatecast.trading.cuts import GATES
from gatecast.trading.sizing import STAGES, BookSettings, BookState, BookView, trades_of
from gatecast.trading.waterfall import SENTENCES, STAGE_OF_GATE, Proposed, Waterfall, waterfall_of
from tests.trading.test_sizing import FREE, books, view_of

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
        for stage in STAGES:  # every gate is named, in order
            own = [gate for gate in dict.fromkeys(found.gates[place]) if STAGE_OF_GATE[gate] == stage]
            assert own in (said.get(stage, []), []) if stage == "band" else said.get(stage, []) == own
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
    assert [(step.name, step.gate) for step in one.steps if step.gate] == [("caps", "name")]
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


def test_two_gates_of_one_step_are_both_named() -> None:
    found = made(view_of([0.5, 0.5]), FREE.replace(name_cap=0.3, gross_cap=0.1))
    step = next(one for one in found.steps if one.name == "caps")
    assert step.gate == "name, gross"
    assert step.sentence == f"{GATES['name']}; {GATES['gross']}"
    assert found.to_dict()["gate"] == "name, gross"


@pytest.mark.parametrize(
    ("gate", "step"), [("evidence", "evidence"), ("too good", "evidence"), ("flat", "strategy"), ("signal", "strategy")]
)
def test_a_gate_of_the_strategies_stands_at_its_step(gate: str, step: str) -> None:
    proposed = Proposed({"a": 0.1}, 0.1, "trend", 0.1, 0.1, 0.0, gate, "why")
    found = waterfall_of(proposed, None, None, "A")
    assert found.gate is not None
    assert (found.gate.name, found.gate.gate, found.gate.sentence) == (step, gate, "why")
    assert (found.held, found.order, found.before) == (0.0, None, None)


def test_every_gate_has_a_step_and_every_step_a_sentence() -> None:
    assert STAGE_OF_GATE.keys() == GATES.keys()
    assert {*STAGE_OF_GATE.values()} <= {*STAGES}
    assert {*STAGES} <= SENTENCES.keys()


def test_a_book_without_equity_has_no_share_beyond_all_numbers() -> None:
    found = made(view_of([0.5, 0.5], held=[10.0, 0.0], equity=0.0))
    assert found.held == 0.0
    assert found.before == 10.0
