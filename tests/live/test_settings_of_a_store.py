"""Other settings for a store that is there: what may change, from when on, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from gatecast.experiment import Experiment
from gatecast.live import Updated
from gatecast.settings import to_toml
from gatecast.store import Store
from tests.live.conftest import HOUR, Command, files, settings

Feed = Callable[..., Updated]


@pytest.fixture
def given(tmp_path: Path) -> Callable[[Experiment], Path]:
    """A file of settings."""

    def write(experiment: Experiment) -> Path:
        (tmp_path / "other.toml").write_text(to_toml(experiment))
        return tmp_path / "other.toml"

    return write


def test_other_settings_hold_from_a_refit_on_until_it_is_rolled_back(
    feed: Feed, gatecast: Command, store: Path, given: Callable[[Experiment], Path], closes: list[datetime], month: int
) -> None:
    feed(month - 3)
    now = ("--now", (closes[month - 3] + HOUR).isoformat(), "--json")
    before = Store.open(store).experiment
    file = given(settings(strategies={"target_volatility": 0.05}))
    done = gatecast("retrain", store, "--settings", file, "--if-due", *now)
    assert "The settings are NOT taken" in done.json["message"]
    assert (done.status, done.json["settings_not_taken"]) == (1, True)
    assert Store.open(store).experiment == before
    done = gatecast("retrain", store, "--settings", file, *now)
    assert done.status == 0, done.err
    opened = Store.open(store)
    assert opened.experiment.strategies.target_volatility == 0.05
    assert opened.experiment.bars == before.bars
    held, was = (
        opened.decisions().filter(pl.col("record") == one.record)["weight"].abs().sum()
        for one in reversed(opened.state.issued[-2:])
    )
    assert 0 < held < was
    again = given(settings(strategies={"target_volatility": 0.07}))
    records = len(list(opened.journal.records()))
    for close in (now, ("--now", (closes[month - 2] - HOUR).isoformat(), "--json")):  # refitted; then its fill is over
        done = gatecast("retrain", store, "--settings", again, *close)
        assert (done.status, done.json["model"], done.json["settings_not_taken"]) == (1, None, True)
        assert "The settings are NOT taken: run it again after the next close" in done.json["message"]
    assert len(list(Store.open(store).journal.records())) == records
    feed(month - 2)
    later = ("--now", (closes[month - 2] + HOUR).isoformat(), "--json")
    assert gatecast("parity", store, "--last", 2, *later).json["equal"]
    assert gatecast("rollback", store, *later).status == 0
    assert Store.open(store).experiment == before
    assert Store.open(store).check() == []


def test_a_file_with_one_setting_changes_that_alone(
    feed: Feed, gatecast: Command, store: Path, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    feed(month - 3)
    before = Store.open(store).experiment
    (tmp_path / "one.toml").write_text("[selection]\nminimum_days = 77\n")
    now = ("--now", (closes[month - 3] + HOUR).isoformat(), "--json")
    done = gatecast("retrain", store, "--settings", tmp_path / "one.toml", *now)
    assert done.status == 0, done.err
    after = Store.open(store).experiment
    assert after.selection.minimum_days == 77
    assert after == before.replace(selection=after.selection)
    (tmp_path / "one.toml").write_text("[selection]\nminimum_days = -1\n")
    assert gatecast("retrain", store, "--settings", tmp_path / "one.toml", *now).status == 2


def test_settings_of_forecasts_are_refused_and_nothing_has_changed(
    feed: Feed, gatecast: Command, store: Path, given: Callable[[Experiment], Path], closes: list[datetime], month: int
) -> None:
    feed(month - 3)
    before = files(store)
    now = ("--now", (closes[month - 3] + HOUR).isoformat())
    done = gatecast("retrain", store, "--settings", given(settings(lookback=12, horizon=3)), *now)
    assert done.status == 2
    said = " ".join(done.err.split())
    assert "others than the store's in lookback, horizon" in said
    assert "gatecast store export" in said
    done = gatecast("retrain", store, "--settings", given(settings(book={"benchmark": "NONE"})), *now)
    assert done.status == 2
    assert "book.benchmark: the bars have no symbol 'NONE'" in " ".join(done.err.split())
    after = files(store)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} <= {"lock", "heartbeat"}


def test_a_new_store_of_other_settings_has_all_bars_of_the_old_one(
    gatecast: Command, store: Path, given: Callable[[Experiment], Path], closes: list[datetime], month: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    now = ("--now", (closes[month - 4] + HOUR).isoformat())
    out = tmp_path / "out"
    assert gatecast("store", "export", store, "--out", out, "--format", "parquet").status == 0
    words = ("--bars", out / "bars.parquet", "--actions", out / "actions.parquet", "--stamp", "close")
    done = gatecast("update", tmp_path / "new", *words, "--config", given(settings(lookback=12)), *now)
    assert done.status == 0, done.err
    old, new = (Store.open(one).bars.as_of(closes[month - 4] + HOUR) for one in (store, tmp_path / "new"))
    assert new.select(sorted(new.columns)).equals(old.select(sorted(old.columns)))
