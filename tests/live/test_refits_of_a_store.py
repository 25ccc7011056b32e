"""When a store is refitted: as asked for, by an alarm of the inputs; what the record says of it, and what is on."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from attack.readers import now_of
from gatecast.cli.app import execute
from gatecast.live import Updated, health, parity, replay_store, retrain, rollback, today, update
from gatecast.store import Store
from tests.live.conftest import HOUR, Command, settings


def refits(store: Path) -> list[dict[str, Any]]:
    return [dict(one.body) for one in Store.open(store).journal.records() if one.kind == "refit"]


def same_as_batch(store: Path, close: datetime, count: int) -> None:
    """What was issued at the newest closes, and what a replay of the newest two says, is what all bars at once say."""
    found = parity(store, last=count, now=close + HOUR)
    assert (found.closes, found.difference) == (count, None)
    again = replay_store(store, last=2, now=close + HOUR)
    assert (again.closes, again.difference) == (2, None)


def test_a_refit_that_is_asked_for_is_made_in_the_middle_of_a_month_and_live_is_still_batch(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(month - 3)
    now = closes[month - 3] + HOUR
    assert retrain(store, now=now).message == "no refit is due."
    assert execute(["retrain", str(store), "--now", now.isoformat(), "--json", "--quiet"]) == 0
    done = json.loads(capsys.readouterr().out)
    asked = {"index": f"{closes[month - 3]:%Y-%m-%dT%H:%M:%S.%f}"}
    assert (done["asked"], done["due"]) == (asked, {})
    assert "asked for, not due: index" in done["message"].lower()
    assert refits(store)[-1]["asked"] == refits(store)[-1]["cutoffs"] == asked
    assert "newest close" in retrain(store, if_due=False, now=now).message
    feed(month - 2, month - 1)
    same_as_batch(store, closes[month - 1], 3)
    rollback(store, now=closes[month - 1] + HOUR)
    same_as_batch(store, closes[month - 1], 3)
    feed(month)
    made = retrain(store, now=closes[month] + HOUR)
    assert (list(made.due), made.asked) == (["index"], {})
    same_as_batch(store, closes[month], 4)


def test_a_refit_without_a_terminal_says_which_models_are_done(
    feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(month - 3)
    words = ["retrain", str(store), "--now", (closes[month - 3] + HOUR).isoformat()]
    assert execute(words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert {"index: ridge: 1 fit done", "index: logistic: 1 fit done", "index: ensemble: combined"} <= {*lines}


@pytest.fixture(scope="module")
def odd(bars: pl.DataFrame, closes: list[datetime], month: int) -> pl.DataFrame:
    """Bars whose further column is far from all that was before, from the third close before the month on."""
    far = pl.when(pl.col("time") >= closes[month - 3]).then(pl.col("x") + 60.0).otherwise("x")
    return bars.with_columns(x=far)


def test_alarms_that_are_on_are_shown_and_the_next_refit_names_them(
    feed: Callable[..., Updated], odd: pl.DataFrame, month: int, store: Path, closes: list[datetime]
) -> None:
    before = {one.name: one for one in health(store, now=closes[month - 4] + HOUR).checks}
    assert before["drift"].sentence == "no alarm is on."
    feed(month - 3, given=odd)
    now = closes[month - 3] + HOUR
    check = next(one for one in health(store, now=now).checks if one.name == "drift")
    assert check.level == "warning"
    assert f"Since {closes[month - 3]:%Y-%m-%d}: The last window of index" in check.sentence
    (shown,) = today(store, now=now).alarms
    assert (shown["kind"], shown["asset_class"]) == ("window", "index")
    assert retrain(store, now=now).message == "no refit is due."
    feed(month - 2, month, given=odd)
    made = retrain(store, now=closes[month] + HOUR)
    named = [one["kind"] for one in made.alarms["index"]]
    assert "window" in named
    assert [one["kind"] for one in refits(store)[-1]["alarms"]["index"]] == named
    opened = Store.open(store)
    provenance = opened.artefacts.json(opened.state.models[-1].parts["provenance.json"])
    assert [one["kind"] for one in provenance["alarms"]["index"]] == named


def test_an_alarm_of_the_inputs_adds_a_refit_to_a_store_and_live_is_still_batch(
    bars: pl.DataFrame, odd: pl.DataFrame, month: int, closes: list[datetime], tmp_path: Path
) -> None:
    now = closes[month - 4] + HOUR
    experiment = settings(drift={"on_inputs": "refit", "least_sessions": 5})
    update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now, experiment=experiment)
    retrain(tmp_path / "s", now=now)
    added = []
    for number in range(month - 3, month + 1):
        now = closes[number] + HOUR
        update(tmp_path / "s", odd.filter(pl.col("time") == closes[number]), now=now)
        made = retrain(tmp_path / "s", now=now)
        added += [number - month] if made.model is not None else []
    assert added == [-3, 0]
    same_as_batch(tmp_path / "s", closes[month], 4)


def test_a_row_that_is_dated_back_is_named_by_the_check_and_by_the_next_refit(
    feed: Callable[..., Updated], bars: pl.DataFrame, month: int, store: Path, closes: list[datetime]
) -> None:
    feed(month - 3)
    assert Store.open(store).check() == []
    planted = (pl.col("time") == closes[month - 6]) & (pl.col("symbol") == "B1_0")
    late = (pl.col("time") == closes[month - 5]) & (pl.col("symbol") == "B1_1")
    changed = bars.with_columns(
        high=pl.when(planted | late).then(pl.col("high") * 1.001).otherwise("high"),
        known_at=pl.when(late).then(pl.lit(closes[month - 2])).otherwise("known_at").cast(bars.schema["known_at"]),
    )
    feed(month - 8, month - 2, given=changed)
    (note,) = Store.open(store).check()
    assert note.is_harmless
    assert f"the high of B1_0 at {closes[month - 6]:%Y-%m-%d %H:%M} is a correction dated back" in note.what
    made = retrain(store, if_due=False, now=closes[month - 2] + HOUR)
    assert [one for one in made.warnings if "dated back" in one] == refits(store)[-1]["dated_back"]
    assert len(refits(store)[-1]["dated_back"]) == 1
    feed(month - 1)
    again = retrain(store, if_due=False, now=closes[month - 1] + HOUR)
    assert not [one for one in again.warnings if "dated back" in one]


def test_a_refit_that_is_due_and_not_made_is_no_difference(gatecast: Command, live: Path) -> None:
    done = gatecast("parity", live / "live_retrain", "--now", now_of("live_retrain"), "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out.splitlines()[-1])
    assert found["equal"]
    assert found["closes"] >= 1
