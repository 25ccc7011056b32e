"""`gatecast today` says why a position is not what it was, and nothing that is not so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gatecast.live import Updated, parity, retrain, rollback, today
from gatecast.live.today import UNCHANGED
from gatecast.store import Store
from tests.live.conftest import HOUR, Command, settings

Feed = Callable[..., Updated]
LATE = "B1_1"


def rows_at(store: Path, now: datetime) -> dict[str, Any]:
    return {row["symbol"]: row for row in today(store, now=now).rows}


def add_up(row: Any) -> None:
    """The parts of each change make the whole of it."""
    if row["change"] is not None:
        assert sum(row["because"].values()) == pytest.approx(row["change"], abs=1e-9)
    held = row["held"] - row["held_before"]
    assert sum(row["held_because"].values()) == pytest.approx(held, abs=1e-9)
    if row["held_by"]:
        assert sum(row["held_by"].values()) == pytest.approx(held, abs=1e-9)


def test_a_late_bar_is_no_order_to_sell(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime], gatecast: Command
) -> None:
    feed(month - 3)
    before = rows_at(store, closes[month - 3] + HOUR)
    days = timedelta(days=3)
    feed(month - 2, given=bars.filter(pl.col("symbol") != LATE))
    feed(month - 2, after=days)
    row = rows_at(store, closes[month - 2] + days)[LATE]
    assert (row["gate"], row["change"], row["because"]) == ("late", None, {})
    assert row["trade"] == before[LATE]["trade"] != 0  # which waits
    assert f"order of {row['trade']:+,.6g} waits" in row["held_why"]
    assert row["held"] == pytest.approx(before[LATE]["held"], abs=0.01)
    assert row["held_why"].startswith("stays held")
    said = gatecast("today", store, "--now", (closes[month - 2] + days).isoformat()).out
    (line,) = [one for one in said.splitlines() if one.startswith(f"{LATE}: ")]
    assert "stays held" in line
    assert "new bars" not in line


def test_after_a_halt_a_holding_is_compared_with_the_last_session_in_which_it_could_be_traded(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    feed(month - 3)
    last = rows_at(store, closes[month - 3] + HOUR)[LATE]
    feed(month - 2, given=bars.filter(pl.col("symbol") != LATE))
    halted = rows_at(store, closes[month - 2] + HOUR)[LATE]
    assert (halted["gate"], halted["because"]) == ("no bar", {})
    assert set(halted["held_because"]) == {"halt"}
    feed(month - 2, month - 1)
    row = rows_at(store, closes[month - 1] + HOUR)[LATE]
    add_up(row)
    assert row["before"]["time"] == closes[month - 3]
    assert row["held_because"]["halt"] == pytest.approx(last["held"] - halted["held"])
    assert row["held_because"]["tilt"] == pytest.approx(row["tilt"] - last["tilt"])


def test_only_other_settings_are_called_other_settings(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    """A bar that is awaited, a refit and a rollback are none."""
    last = rows_at(store, closes[month - 4] + HOUR)[LATE]
    assert last["tilt"]
    feed(month - 3, given=bars.filter(pl.col("symbol") != LATE))
    feed(month - 2)
    now = closes[month - 2] + HOUR
    retrain(store, if_due=False, now=now)
    rows = rows_at(store, now)
    for row in rows.values():
        add_up(row)
        assert set(row["because"]) <= {"data", "refit", "gate"}
    assert any("refit" in row["because"] for row in rows.values())
    assert "may still come, which is awaited" in rows[LATE]["why"]
    assert rows[LATE]["held_because"]["forecast"] == pytest.approx(-last["tilt"])
    assert "its forecast is lost" in rows[LATE]["held_why"]
    feed(month - 1)
    now = closes[month - 1] + HOUR
    rollback(store, now=now)
    rows = rows_at(store, now)
    for row in rows.values():
        add_up(row)
        assert set(row["because"]) <= {"data", "rollback", "gate"}
        assert set(row["held_by"]) <= {"data", "rollback"}
    assert any("rollback" in row["because"] for row in rows.values())
    feed(month, after=HOUR)
    assert not any("rollback" in row["because"] for row in rows_at(store, closes[month] + HOUR).values())


def test_a_decision_that_a_refit_took_away_is_named_with_what_took_it(
    feed: Feed, store: Path, month: int, closes: list[datetime]
) -> None:
    feed(month - 3)
    now = closes[month - 3] + HOUR
    decided = rows_at(store, now)
    retrain(store, if_due=False, settings=settings(selection={"evidence": 0.0, "minimum_days": 20}), now=now)
    rows = rows_at(store, now)
    assert any(row["weight"] for row in decided.values())
    for symbol, row in rows.items():
        add_up(row)
        assert row["weight"] == 0
        if was := decided[symbol]["weight"]:
            assert row["replaced"]["weight"] == was
            assert f"model {decided[symbol]['model']} had decided {was:+.3f}" in row["why"]
    changed = [row for row in rows.values() if row["because"]]
    assert changed
    assert all("threshold" in row["because"] for row in changed)
    assert any("other settings" in row["why"] for row in changed)


def test_what_the_strategies_changed_is_said_beside_what_is_held(
    feed: Feed, store: Path, month: int, closes: list[datetime], gatecast: Command
) -> None:
    feed(month - 3)
    feed(month - 2)
    now = closes[month - 2] + HOUR
    said = gatecast("today", store, "--now", now.isoformat()).out.splitlines()
    for symbol, row in rows_at(store, now).items():
        (line,) = [one for one in said if one.startswith(f"{symbol}: ")]
        assert row["held_why"] in line
        assert (row["why"][:1].upper() + row["why"][1:] in line) == (row["why"] != UNCHANGED)


def test_where_the_model_before_was_pruned_no_cause_is_made_up(
    feed: Feed, store: Path, month: int, closes: list[datetime]
) -> None:
    feed(month - 3)
    now = closes[month - 3] + HOUR
    opened = Store.open(store)
    with opened.locked():  # as if two refits more had been made
        for goes_on in range(2):
            model = opened.state.models[-1]
            scores = opened.put(f'{{"of": {goes_on}}}'.encode(), ".json")
            body = {"parts": {**model.parts, "more.json": scores}, "cutoffs": dict(model.cutoffs)}
            number = opened.append("refit", {**body, "goes_on": model.record}, now).number
            opened.append("accepted", {"model": number}, now)
    feed(month - 2)
    opened = Store.open(store)
    gone = opened.state.models[0].parts["provenance.json"]
    opened.append("pruned", {"removed": [gone], "count": 1, "bytes": 1}, closes[month - 2] + HOUR)
    opened.artefacts.path(gone).unlink()
    for row in rows_at(store, closes[month - 2] + HOUR).values():
        assert set(row["because"]) <= {"model"}
        assert row["held_by"] == {}


def test_the_newest_close_of_the_first_refit_is_compared_as_well(
    feed: Feed, store: Path, month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    found = parity(store, now=closes[month - 4] + HOUR)
    assert (found.closes, found.difference) == (1, None)
    wrong = pl.col("time") == closes[month - 4]
    corrected = bars.with_columns(high=pl.when(wrong).then(pl.col("high") * 1.001).otherwise("high"))
    feed(month - 4, month - 3, given=corrected)
    different = parity(store, now=closes[month - 3] + HOUR).difference
    assert different is not None
    assert (different.stage, different.time) == ("bar", closes[month - 4])
