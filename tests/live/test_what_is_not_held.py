"""What is said of symbols that are not held, of bars that came late, and of windows that are too short yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gatecast.live.book import CAUSES, HeldNow, change_in_words, of_symbol, why_changed
from gatecast.live.exposure import risk_of
from gatecast.live.gates import GATES
from gatecast.live.today import UNCHANGED, _in_words, _stays
from gatecast.trading.book import Book
from gatecast.trading.by_session import not_countable
from gatecast.trading.cuts import Limit
from gatecast.trading.exposure import Today
from gatecast.trading.sizing import BookSettings

MIDNIGHT = datetime(2021, 3, 29, tzinfo=UTC)
ROW = {"time": MIDNIGHT, "held": 0.0, "target": 0.0, "core": 0.0, "share": 0.0}


def test_a_future_without_a_contract_is_left_out_and_says_so_and_a_name_outside_of_the_core_too() -> None:
    why = not_countable(Book(), {"HG=F": "commodity", "SPY": "etf", "EURUSD": "fx"})
    assert list(why) == ["HG=F"]
    now = HeldNow({}, {"EURUSD": ROW}, {"EURUSD": ROW}, left_out=why)
    assert change_in_words(now, "HG=F") == f"nothing is held: it is not in the book. {why['HG=F']}"
    assert "contracts" in why["HG=F"]
    assert change_in_words(now, "EURUSD") == "nothing is held: the core has none of it."
    assert change_in_words(now, "BTC-USD") == "nothing is held: it has no bar in the newest session of the book."
    assert now.to_dict()["left_out"] == why


def test_a_cap_that_changed_a_holding_is_named_with_its_number() -> None:
    """The gross cap begins to cut, and then no more; of a file of an earlier version the settings are not known."""
    free = {**ROW, "core": 0.4, "share": 0.4, "target": 0.4, "held": 0.4, "gate": ""}
    cut = {**free, "target": 0.3, "held": 0.3, "gate": "gross"}
    size = BookSettings(gross_cap=0.75)
    for before, after, said in ((free, cut, "-10.0%"), (cut, free, "+10.0%")):
        now = HeldNow({}, {"A": after}, {"A": before}, {"A": before}, size=size)
        assert change_in_words(now, "A").endswith(f": gross cap of 75% {said}.")
    older = HeldNow({}, {"A": cut}, {"A": free}, {"A": free})
    assert change_in_words(older, "A").endswith(": gross cap -10.0%.")
    assert of_symbol(older, "A")["limited_by"] == "target: gross cap"


def test_what_prices_had_made_of_a_holding_stands_beside_its_order() -> None:
    was = {**ROW, "core": 0.4, "share": 0.4, "target": 0.4, "held": 0.4, "gate": "", "units": 90.0, "trade": 10.0}
    is_now = {**was, "core": 0.33, "target": 0.33, "held": 0.33, "units": 100.0, "trade": -25.0}
    said = "held from +40.0% to +33.0%: forecast volatility -7.0%."
    moved = " Prices had moved it to +44.0% before, so that the order is -11.0% of equity."
    assert change_in_words(HeldNow({}, {"A": is_now}, {"A": was}, {"A": was}), "A") == said + moved
    unfilled = {**was, "units": 100.0}
    assert change_in_words(HeldNow({}, {"A": is_now}, {"A": unfilled}, {"A": unfilled}), "A") == said
    same = {**is_now, "held": 0.4 * 0.75, "core": 0.4 * 0.75, "target": 0.4 * 0.75}
    assert "Prices" not in change_in_words(HeldNow({}, {"A": same}, {"A": was}, {"A": was}), "A")


def test_a_cap_is_named_though_lots_cut_the_trade_after_it_and_the_words_say_what_keeps_it_off() -> None:
    """A row has the last gate alone, lots: the cap is told by the desk, of now or of the session before."""
    free = {**ROW, "core": 0.4, "share": 0.4, "target": 0.4, "held": 0.4, "gate": ""}
    cut = {**free, "target": 0.3, "held": 0.29, "gate": "lot"}
    size, limits = BookSettings(gross_cap=0.75), {"A": Limit("gross", "target: gross cap of 75%", "gross", "lot")}
    now = HeldNow({}, {"A": cut}, {"A": free}, {"A": free}, limits=limits, size=size)
    assert change_in_words(now, "A").endswith(": gross cap of 75% -10.0%, what is not traded -1.0%.")
    then = HeldNow(
        {}, {"A": free}, {"A": cut}, {"A": cut}, limits={"A": Limit("", "")}, limits_before=limits, size=size
    )
    assert change_in_words(then, "A").endswith(": gross cap of 75% +10.0%, what is not traded +1.0%.")
    still = HeldNow({}, {"A": cut}, {"A": cut}, {"A": cut}, limits=limits, size=size)
    assert change_in_words(still, "A") == "still +29.0%, +30.0% aimed at (target: gross cap of 75%)."
    assert of_symbol(now, "A")["kept_by"] == "lot"


def test_a_target_that_is_missed_names_what_took_most_of_the_positions_first() -> None:
    """Two symbols: lots are the last gate of both, the cap took 40 and 30 points; a band that adds takes nothing."""
    costs = (
        {"symbol cap of 25%": 0.4, "whole lots": 0.003, "band": -0.02},
        {"symbol cap of 25%": 0.3, "whole lots": 1e-5},
    )
    limits = {name: Limit("name", "", "name", "lot", one) for name, one in zip("AB", costs, strict=True)}
    rows = {name: {**ROW, "held": 0.25, "gate": "lot"} for name in "AB"}
    figures = {"session": "2021-03-28", "target_volatility": 0.1, "reached": False, "equity": 1e6, "currency": "USD"}
    nothing = np.zeros((2, 2))
    exposed = Today(
        ("A", "B"), ("etf", "etf"), [date(2021, 3, 28)] * 2, np.full(2, 0.25), 1e6, np.full(2, np.nan),
        np.full(2, 252.0), nothing, nothing, np.eye(2) * 1e-4,
    )  # fmt: skip
    carried = SimpleNamespace(line=SimpleNamespace(sizing=SimpleNamespace(level=1.0)))
    risk = risk_of(exposed, HeldNow(figures, rows, limits=limits), carried)  # type: ignore[arg-type]
    assert list(risk.bound.items()) == [("symbol cap of 25%", 2), ("whole lots", 1)]
    assert risk.costs == {"symbol cap of 25%": pytest.approx(0.7), "whole lots": 0.003}
    assert risk.sentences[-1] == (
        "The target of 10.0% is not reached: symbol cap of 25% at 2 symbols (-70.0% of equity), "
        "whole lots at 1 symbol (-0.3% of equity)."
    )


HELD = {
    **ROW, "units": 100.0, "trade": 0.0, "share": 0.4, "core": 0.2, "target": 0.2, "held": 0.2, "gate": "",
}  # fmt: skip


def test_what_prices_alone_an_end_a_closing_and_other_shares_changed_is_named_by_what_it_is() -> None:
    """A forecast that changed too is not the cause where nothing was traded, or where the holding went."""
    other = {"B": {**HELD, "share": 0.6}}
    moved = {**HELD, "core": 0.22, "target": 0.22, "held": 0.21}
    gone = {**HELD, "share": 0.0, "core": 0.0, "target": 0.0, "held": 0.0}
    cases: dict[str, dict[str, Any]] = {
        "prices": {"A": moved},
        "ended": {"A": {**gone, "units": 0.0}},
        "universe": {"A": {**gone, "trade": -100.0, "gate": "close"}},
        "stop": {"A": {**gone, "share": 0.4, "trade": -100.0, "gate": "stop"}},
    }
    for cause, rows in cases.items():
        now = HeldNow({}, {**rows, **other}, {"A": HELD, **other}, {"A": HELD, **other})
        assert why_changed(now, "A") == {cause: pytest.approx(rows["A"]["held"] - 0.2)}
        assert CAUSES[cause] in change_in_words(now, "A")
    now = HeldNow({"kinds": ["ruined"]}, cases["universe"], {"A": HELD}, {"A": HELD})
    assert why_changed(now, "A") == {"ruined": -0.2}
    sold = {"A": {**HELD, "target": 0.0, "core": 0.0, "held": 0.1, "trade": -50.0, "gate": "participation"}}
    limits = {"A": Limit("participation", "", "", "participation", {}, "stop")}  # more than a session's volume is left
    assert why_changed(HeldNow({}, sold, {"A": HELD}, {"A": HELD}, limits=limits), "A") == {"stop": -0.1}
    now = HeldNow({}, other, {"A": HELD, **other})
    assert why_changed(now, "A") == {"ended": -0.2}
    assert change_in_words(now, "A") == f"held from +20.0% to +0.0%: {CAUSES['ended']}."
    traded = {**moved, "held": 0.22, "trade": 10.0}
    for rows, cause in ((other, "volatility"), ({}, "others")):
        now = HeldNow({}, {"A": traded, **other}, {"A": HELD, **rows}, {"A": HELD, **rows})
        parts = {name: part for name, part in why_changed(now, "A").items() if part}
        assert parts == {cause: pytest.approx(0.02)}
    unfilled = {**HELD, "units": 50.0, "trade": 50.0}
    now = HeldNow({}, {"A": {**moved, "units": 50.0}, **other}, {"A": unfilled, **other}, {"A": unfilled, **other})
    assert "prices" not in why_changed(now, "A")


def test_what_went_with_a_forecast_that_is_lost_is_told_as_that() -> None:
    """What the strategies held of it, and after 60 sessions its share of the core; not what changed beside it."""
    tilted = {**HELD, "tilt": 0.1, "target": 0.3, "held": 0.3}
    flat = {**HELD, "core": 0.22, "tilt": 0.0, "target": 0.22, "held": 0.22, "trade": -40.0}
    gone = {**flat, "share": 0.0, "core": 0.0, "target": 0.0, "held": 0.0, "trade": -100.0}
    more = "forecast volatility +2.0%"
    cases = (
        (tilted, flat, {"volatility": 0.02, "forecast": -0.1}, f"{more}, its forecast is lost -10.0%"),
        (tilted, gone, {"forecast": -0.3}, "its forecast is lost -30.0%"),
        (HELD, flat, {"volatility": 0.02}, more),
    )
    for before, after, parts, said in cases:
        now = HeldNow({}, {"A": after}, {"A": before}, {"A": before}, unforecast={"A"})
        found = why_changed(now, "A")
        assert {name: part for name, part in found.items() if abs(part) > 1e-9} == pytest.approx(parts)
        assert f": {said}." in change_in_words(now, "A")
        told = why_changed(replace(now, unforecast=()), "A")
        assert "forecast" not in told
        assert sum(told.values()) == pytest.approx(after["held"] - before["held"])


def test_another_strategy_of_the_same_weight_is_not_told_as_unchanged() -> None:
    before = {"gate": "signal", "weight": 0.0, "strategy": "reversal"}
    assert _in_words(before, before, {}, "") == UNCHANGED
    row = {**before, "strategy": "trend"}
    assert _in_words(row, before, {}, "") == "unchanged in weight. The strategy is trend now."


def test_a_late_bar_says_when_an_update_decides_and_what_stays_only_where_something_is_held() -> None:
    row: dict[str, Any] = {"gate": "late", "time": MIDNIGHT}
    held = HeldNow({}, {"A": {**ROW, "held": 0.1}, "B": ROW})
    said = {name: _in_words(row, None, {}, _stays(held, name)) for name in "ABC"}
    assert all("It closes at 00:00 UTC: an update soon after that decides on it." in one for one in said.values())
    assert ["What is held stays" in one for one in said.values()] == [True, False, False]
    waits = {**row, "gate": "no bar"}
    assert _in_words(waits, None, {}, _stays(held, "B")) == f"no decision: {GATES['no bar']}."
