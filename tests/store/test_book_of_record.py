"""What a record must say of the book, so that each of its readers can read it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gatecast.service.pages import live_equity
from gatecast.store.schema import BookOfRecord, fault_of

SESSION = {"session": "2024-01-02", "equity": 1e6, "findings": []}
BOOK = {**SESSION, "close": "2024-01-02T21:00:00Z"}


@pytest.mark.parametrize("name", SESSION)
def test_what_readers_need_of_a_session_is_there(name: str) -> None:
    assert fault_of(BookOfRecord, {**BOOK, "caught_up": [SESSION]}) == ""
    less = {key: value for key, value in SESSION.items() if key != name}
    assert f"'caught_up.0.{name}'" in fault_of(BookOfRecord, {**BOOK, "caught_up": [less]})
    assert f"'{name}'" in fault_of(BookOfRecord, {**BOOK, name: None})


@pytest.mark.parametrize("equity", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (0.0, 1.0, 1.0)])
def test_a_share_of_an_equity_of_nothing_is_not_said(equity: tuple[float, ...]) -> None:
    rows = [{**SESSION, "equity": one} for one in equity]
    view: Any = SimpleNamespace(sessions_of_book=lambda: rows)
    said = live_equity(view)
    assert (said["share"] is None) == (0.0 in (equity[0], equity[-2]))
    assert said["money"] == equity[-1] - equity[-2]
