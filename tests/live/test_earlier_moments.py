"""What commands that only read say of a store with `--now` of before its newest record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.service.watching import Watched
from gatecast.store import Store
from tests.live.conftest import HOUR, Command


def test_an_earlier_now_shows_the_store_as_it_was_then(
    store: Path, feed: Callable[..., Any], closes: list[datetime], month: int, gatecast: Command
) -> None:
    """Whoever asks again for a moment is told what was said at it, whatever came since."""
    feed(month - 3)
    moment = (closes[month - 3] + HOUR).isoformat()
    asked = [
        ("today", store, "--json"), ("health", store, "--json"), ("explain", store, "--symbol", "B1_0", "--json"),
        ("actions", "list", store, "--json"),
    ]  # fmt: skip
    before = [gatecast(*words, "--now", moment) for words in asked]
    feed(month - 2, month - 1)
    opened = Store.open(store)
    with opened.locked():
        opened.append("halted", {"by": "tom", "reason": "odd"}, closes[month - 1] + HOUR)
    for words, one in zip(asked, before, strict=True):
        assert gatecast(*words, "--now", moment) == one, words
    gatecast("store", "export", store, "--out", store.parent / "out", "--now", moment)
    newest = pl.read_csv(store.parent / "out" / "decisions.csv")["time"].max()
    assert str(newest)[:10] == str(closes[month - 3].date())
    view = Watched(store, closes[month - 3] + HOUR).view
    assert {row["time"] for row in view.today()["decisions"]} == {row["time"] for row in before[0].json["decisions"]}
    assert view.findings()["findings"] == [one for one in view.findings()["findings"] if one["kind"] != "halt"]
    assert {row["time"][:10] for row in gatecast("today", store, "--json").json["decisions"]} == {
        str(closes[month - 1].date())
    }
    for words in asked:
        early = gatecast(*words, "--now", "1999-01-01")
        assert early.status == 2, words
        assert "had no record by 1999-01-01" in " ".join(early.err.split())
