"""What is said of symbols that are not held, of bars that came late, and of windows that are too short yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gatecast.live.book import HeldNow, change_in_words
from gatecast.live.gates import GATES
from gatecast.live.today import _in_words, _stays
from gatecast.trading.book import Book
from gatecast.trading.by_session import not_countable

MIDNIGHT = datetime(2021, 3, 29, tzinfo=UTC)
ROW = {"time": MIDNIGHT, "held": 0.0, "target": 0.0, "core": 0.0, "share": 0.0}


def test_a_future_without_a_contract_is_left_out_and_says_so_and_a_name_outside_of_the_core_too() -> None:
    why = not_countable(Book(), {"HG=F": "commodity", "SPY": "etf", "EURUSD": "fx"})
    assert list(why) == ["HG=F"]
    now = HeldNow({}, {"EURUSD": ROW}, {"EURUSD": ROW}, left_out=why)
    assert change_in_words(now, "HG=F") == f"nothing is held: it is not in the book. {why['HG=F']}"
    assert "contracts" in why["HG=F"]
    assert change_in_words(now, "EURUSD") == "nothing is held: the core has none of it."
    assert change_in_words(now, "BTC-USD") == "nothing is held: the book has had no session with it yet."
    assert now.to_dict()["left_out"] == why


def test_a_late_bar_says_when_an_update_decides_and_what_stays_only_where_something_is_held() -> None:
    row: dict[str, Any] = {"gate": "late", "time": MIDNIGHT}
    held = HeldNow({}, {"A": {**ROW, "held": 0.1}, "B": ROW})
    said = {name: _in_words(row, None, {}, _stays(held, name)) for name in "ABC"}
    assert all("It closes at 00:00 UTC: an update soon after that decides on it." in one for one in said.values())
    assert ["What is held stays" in one for one in said.values()] == [True, False, False]
    waits = {**row, "gate": "no bar"}
    assert _in_words(waits, None, {}, _stays(held, "B")) == f"no decision: {GATES['no bar']}."
