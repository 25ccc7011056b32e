"""What can happen to the process of a store, planted in the real command: what is lost is said, nothing is torn."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from attack.readers import now_of
from gatecast.errors import StoreError, TrainingError
from gatecast.experiment import Experiment
from gatecast.files import write_whole
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.schedule import Fold
from gatecast.live import retrain, update, watch
from gatecast.market.sessions import calendar_of
from gatecast.samples.targets import decode
from gatecast.samples.windows import Samples
from gatecast.store import Store
from soak.clock import bars_of
from soak.kills import prepare, started, wait_for_lock
from tests.live.conftest import HOUR, Command, files, settings
from tests.live.test_odd_stores import arrays, made_up

NOW = now_of("live_update")
REFIT = now_of("live_retrain")


@pytest.fixture
def store(live: Path, tmp_path: Path) -> Path:
    """A store with a model the day before its next bars."""
    shutil.copytree(live / "live_update", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def rows(live: Path) -> pl.DataFrame:
    """The bars that come next."""
    return pl.read_csv(live / "live_next.csv")


def unwrapped(text: str) -> str:
    return " ".join(text.split())


# ── two first updates at once ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done once, while an update that makes a store reads its bars."""
    module = importlib.import_module("gatecast.live.update")
    read = module.read_new

    def once(work: Callable[[], object]) -> None:
        def reading(*given: Any, **more: Any) -> Any:
            monkeypatch.setattr(module, "read_new", read)
            work()
            return read(*given, **more)

        monkeypatch.setattr(module, "read_new", reading)

    return once


def test_of_two_first_updates_the_second_goes_on_from_what_the_first_has_made(
    meanwhile: Callable[[Callable[[], object]], None], bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    place, now, first = tmp_path / "store", closes[99] + HOUR, list[Any]()
    given = bars.filter(pl.col("time") <= now)
    meanwhile(lambda: first.append(update(place, given, now=now, experiment=settings())))
    second = update(place, given, now=now, experiment=settings())
    assert [first[0].created, second.created] == [True, False]
    assert dict(second.counts) == {"repeated": len(given)}
    assert [one.kind for one in Store.open(place).records()] == ["created", "bars"]
    assert Store.faults(place) == []


def test_a_first_update_beside_another_says_who_makes_the_store(
    meanwhile: Callable[[Callable[[], object]], None], bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    place, now = tmp_path / "store", closes[99] + HOUR
    with contextlib.ExitStack() as first:
        meanwhile(lambda: first.enter_context(Store.create(place, settings(), now=now).locked()))
        with pytest.raises(StoreError, match=f"another process writes to .* \\(process {os.getpid()}, .*: wait until"):
            update(place, bars.filter(pl.col("time") <= now), now=now)
    assert [one.kind for one in Store.open(place).records()] == ["created"]


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_of_two_stores_that_are_made_at_once_one_is_there_and_whole(
    before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, place = importlib.import_module("gatecast.store.store"), tmp_path / "store"
    if before != "nothing":
        place.mkdir()
    put = module.Artefacts.put

    def meanwhile(self: Any, *given: Any) -> Any:
        monkeypatch.setattr(module.Artefacts, "put", put)
        Store.create(place, settings())
        return put(self, *given)

    monkeypatch.setattr(module.Artefacts, "put", meanwhile)
    with pytest.raises(StoreError, match="is a store already: open it"):
        Store.create(place, settings())
    assert [one for one in Store.faults(place) if not one.is_harmless] == []
    assert [one.name for one in tmp_path.iterdir()] == ["store"]


# ── 61: what a disk lost that lost power ──────────────────────────────────────────────────────────

LOST: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda content: None,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "an end of zeros": lambda content: content[: len(content) // 2] + bytes(4096),
}


@pytest.mark.parametrize(("kind", "how"), [("bars", "empty"), ("bars", "zeros"), ("issued", "gone"),
                                           ("issued", "an end of zeros")])  # fmt: skip
def test_files_that_never_came_to_the_disk_are_said_and_the_version_before_goes_on(
    kind: str, how: str, gatecast: Command, store: Path, live: Path
) -> None:
    words = ("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    done = gatecast(*words).json
    newest = next(one for one in reversed([*Store.open(store).journal.records()]) if one.kind == kind)
    for part in newest.parts.values():
        place = store / "parts" / part[:2] / part
        left = LOST[how](place.read_bytes())
        place.unlink() if left is None else place.write_bytes(left)
    found = gatecast("health", store, "--now", NOW)
    assert (found.status, f"record {newest.number} ({kind}) never came to the disk" in found.out) == (1, True)
    assert gatecast("store", "check", store).status == 1
    with pytest.warns(UserWarning, match="never came to the disk"):
        again = gatecast(*words).json
    assert [row["weight"] for row in again["decisions"]] == [row["weight"] for row in done["decisions"]]
    assert [one for one in Store.faults(store) if not one.is_harmless] == []
    assert [one.kind for one in Store.open(store).journal.records()].count("lost") == 1
    assert gatecast(*words).json["wrote"] == []


def test_a_model_that_never_came_to_the_disk_is_the_one_before(gatecast: Command, live: Path, tmp_path: Path) -> None:
    shutil.copytree(live / "live_rollback", tmp_path / "store")
    before, model = Store.open(tmp_path / "store").state.models
    part = model.parts["models/index/ridge.safetensors"]
    (tmp_path / "store" / "parts" / part[:2] / part).write_bytes(b"")
    with pytest.warns(UserWarning, match="never came to the disk"):
        answer = gatecast("update", tmp_path / "store", "--bars", live / "live_next.csv", "--now", REFIT, "--json")
    assert (answer.status, answer.json["model"]) == (0, before.record)
    assert [one for one in Store.faults(tmp_path / "store") if not one.is_harmless] == []
    found = gatecast("health", tmp_path / "store", "--now", REFIT, "--json").json["checks"]
    assert "is due since" in next(one["sentence"] for one in found if one["name"] == "refit")


def test_a_file_of_the_journal_that_never_came_to_the_disk_is_none(gatecast: Command, store: Path, live: Path) -> None:
    number = Store.open(store).state.number
    for content in (b"", bytes(4096)):
        (store / "journal" / f"{number + 1:09}.jsonl").write_bytes(content)
        assert Store.open(store).state.number == number
    assert gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW).status == 0
    assert Store.open(store).snapshot(datetime.fromisoformat(NOW)).number > number
    assert Store.faults(store) == []


def test_lines_of_the_journal_that_are_lost_stop_all_that_writes(
    gatecast: Command, store: Path, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    words = ("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    done = gatecast(*words).json
    file = Store.open(store).journal.files()[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    kept = file.read_bytes()
    monkeypatch.setattr(warnings, "warn", lambda *_, **__: None)  # which the suite takes as errors
    for command in (words, ("retrain", store, "--now", NOW)):
        refused = gatecast(*command)
        assert (refused.status, "records were lost (1 issued" in refused.err) == (2, True)
    assert file.read_bytes() == kept
    assert "records were lost" in gatecast("today", store, "--now", NOW, "--json").json["lost"]
    ill = gatecast("health", store, "--now", NOW)
    assert (ill.status, "records were lost" in ill.out) == (2, True)
    assert gatecast("store", "check", store, "--rebuild").status == 0
    again = gatecast(*words).json
    assert [row["weight"] for row in again["decisions"]] == [row["weight"] for row in done["decisions"]]
    assert [one.kind for one in Store.open(store).journal.records()].count("lost") == 1


# ── 79: a heartbeat that cannot be written ────────────────────────────────────────────────────────


def test_a_heartbeat_that_cannot_be_written_is_said_and_ends_nothing(
    gatecast: Command, store: Path, live: Path
) -> None:
    (store / "heartbeat").unlink()
    (store / "heartbeat").mkdir()
    (store / "heartbeat" / "kept").write_text("not removed")
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    assert (answer.status, len(answer.json["decisions"])) == (0, 2)
    assert "heartbeat cannot be written" in " ".join(answer.json["warnings"])
    with pytest.warns(UserWarning, match="heartbeat cannot be written"):
        assert gatecast("retrain", store, "--if-due", "--now", NOW, "--quiet").status == 0
    found = gatecast("health", store, "--now", NOW, "--json").json["checks"]
    assert [one["level"] for one in found if one["name"] == "heartbeat"] == ["warning"]


def test_a_heartbeat_that_is_still_to_come_is_a_warning(gatecast: Command, store: Path) -> None:
    (store / "heartbeat").write_text(json.dumps({"now": "2999-01-01T00:00:00.000000Z"}))
    answer = gatecast("health", store, "--now", NOW, "--json")
    found = {one["name"]: one for one in answer.json["checks"]}
    assert (answer.status, found["heartbeat"]["level"]) == (1, "warning")
    assert "still to come" in found["heartbeat"]["sentence"]


def test_a_disk_that_fills_between_bars_and_decisions_is_said_as_it_is(
    gatecast: Command, store: Path, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(place: Path, content: bytes) -> None:
        calls.append(place)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(place, content)

    monkeypatch.setattr("gatecast.store.artefacts.write_whole", full)
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW)
    said = " ".join(answer.err.split())
    assert answer.status == 2
    assert "The bars are stored, decisions are not issued yet: make room" in said
    assert "as it was" not in said
    monkeypatch.undo()
    again = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json").json
    assert (again["bars"].get("new", 0), len(again["wrote"])) == (0, 1)
    assert Store.open(store).check() == []


def test_a_file_whose_last_line_has_no_end_is_said_to_be_cut_perhaps(
    gatecast: Command, store: Path, live: Path, tmp_path: Path
) -> None:
    text = (live / "live_next.csv").read_text()
    (tmp_path / "whole.csv").write_text(text)
    (tmp_path / "cut.csv").write_text(text.rstrip())
    whole, cut = (
        gatecast("update", store, "--bars", tmp_path / f"{name}.csv", "--now", NOW, "--json", "--strict")
        for name in ("whole", "cut")
    )
    said = "its last line has no end"
    assert [sum(said in one for one in answer.json["warnings"]) for answer in (whole, cut)] == [0, 1]
    assert whole.status == cut.status


# ── 68, 69: other versions ────────────────────────────────────────────────────────────────────────


def with_versions(store: Path, **versions: str) -> None:
    """The provenance of a store's models names other versions of libraries."""

    def change(content: bytes) -> bytes:
        told = json.loads(content)
        return json.dumps({**told, "libraries": {**told["libraries"], **versions}}).encode()

    made_up(store, "provenance.json", change)


def test_a_model_of_other_versions_that_forecasts_the_same_goes_on(
    gatecast: Command, store: Path, live: Path
) -> None:  # fmt: skip
    with_versions(store, numpy="1.0", torch="0.1")
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    assert (answer.status, {row["gate"] for row in answer.json["decisions"]}) == (0, {"open"})


def test_a_model_that_forecasts_otherwise_under_other_versions_forecasts_nothing_until_the_next_refit(
    gatecast: Command, store: Path, live: Path, tmp_path: Path
) -> None:
    with_versions(store, numpy="1.0", scipy="0.5")
    made_up(
        store, "models/index/ridge.safetensors",
        arrays(lambda found: {name: one * (1.01 if one.dtype.kind == "f" else 1) for name, one in found.items()}),
    )  # fmt: skip
    answer = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW, "--json")
    found = answer.json
    assert (answer.status, found["decisions"], found["bars"]["new"]) == (1, [], 2)
    assert "numpy 1.0 (here 2" in found["message"]
    assert "scipy 0.5 (here" in found["message"]
    assert "ridge, return of 'B1_0' at 2001-12-" in found["message"]
    shown = gatecast("update", store, "--bars", live / "live_next.csv", "--now", NOW)
    assert (shown.status, "numpy 1.0 (here 2" in unwrapped(shown.err)) == (1, True)
    rows = pl.read_csv(live / "live_all.csv")
    rows.filter(pl.col("date").is_between(pl.lit("2001-12-20"), pl.lit("2002-01-02"))).write_csv(tmp_path / "b.csv")
    assert gatecast("update", store, "--bars", tmp_path / "b.csv", "--now", REFIT).status == 1
    made = gatecast("retrain", store, "--if-due", "--now", REFIT, "--quiet")
    assert (made.status, "warning: model 3 was fitted with numpy 1.0" in unwrapped(made.err)) == (0, True)
    assert gatecast("update", store, "--bars", tmp_path / "b.csv", "--now", REFIT).status == 0
    back = gatecast("rollback", store, "--now", REFIT)
    assert (back.status, "numpy 1.0 (here 2" in unwrapped(back.err)) == (2, True)
    assert [one for one in Store.faults(store) if not one.is_harmless] == []


def test_a_daemon_whose_model_forecasts_otherwise_alerts_once_until_there_are_decisions_again(
    gatecast: Command, store: Path, live: Path, tmp_path: Path
) -> None:
    change = arrays(lambda found: {name: one * (1.01 if one.dtype.kind == "f" else 1) for name, one in found.items()})
    with_versions(store, numpy="1.0")
    made_up(store, "models/index/ridge.safetensors", change)
    (tmp_path / "files").mkdir()
    shutil.copyfile(live / "live_next.csv", tmp_path / "files" / "next.csv")
    heard: list[tuple[str, bool]] = []
    moments = iter(datetime.fromisoformat(NOW) + timedelta(minutes=minute) for minute in range(2))
    for _ in range(2):  # as after a restart, which takes the file again, or not
        watch(
            store, tmp_path / "files", rounds=1, clock=lambda: next(moments),
            alert=lambda name, text, begins: heard.append((name, begins)),
        )  # fmt: skip
        (tmp_path / "files" / "next.csv").unlink(missing_ok=True)
    assert [begins for name, begins in heard if name == "other versions"] == [True]


@pytest.mark.parametrize(("version", "said"), [(99, "schema version 99"), (0, "no longer reads")])
def test_a_store_of_a_schema_that_no_step_leads_from_is_refused(
    version: int, said: str, gatecast: Command, store: Path, live: Path
) -> None:
    about = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**about, "version": version}))
    before = files(store)
    for words in (("update", store, "--bars", live / "live_next.csv"), ("retrain", store), ("rollback", store)):
        answer = gatecast(*words, "--now", NOW)
        assert (answer.status, said in unwrapped(answer.err)) == (2, True)
    assert {name for name, content in files(store).items() if before.get(name) != content} <= {"lock"}


# ── 64, 70, 71: refits ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class FittedTurns:
    """Forecasts one number, in trailing standard deviations."""

    level: float

    def predict(self, samples: Samples, rows: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        ends, path = samples.ends[rows], np.full((len(rows), samples.horizon), self.level)
        return {"return": decode("return", path, samples.facts.sigma[ends], samples.facts.baseline[ends])}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"level": np.array([self.level])}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, Any], settings: dict[str, Any]) -> FittedTurns:
        return cls(float(arrays["level"][0]))


class Turns(Forecaster):
    """A model whose refits go wrong once they are told to."""

    kind, fitted = "turns", FittedTurns
    traits = Traits("what turns", heads=("return",))
    level: ClassVar[float] = 0.01

    def fit_many(self, folds: list[Fold], task: Task = ALONE) -> list[FittedTurns]:  # type: ignore[override]
        def fit(fold: Fold) -> FittedTurns:
            if self.level < 0:
                raise TrainingError("the loss is no longer finite in epoch 3.")
            return FittedTurns(self.level)

        return fit_every(fit, folds, 1, task)


@pytest.fixture(scope="module")
def turns() -> Iterator[None]:
    FORECASTERS.add(Turns)
    yield
    FORECASTERS.remove("turns")


@pytest.fixture(scope="module")
def turning(
    turns: None, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with a model that will turn, with the bars of a first session of a month: a refit is due."""
    folder = tmp_path_factory.mktemp("turning") / "store"
    for last in (month - 1, month):
        now = closes[last] + HOUR
        experiment = settings(models=("ridge", "logistic", "turns"))
        update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=experiment)
        if last < month:
            retrain(folder, now=now)
    return folder


@pytest.fixture
def due(turning: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(turning, tmp_path / "store")
    usual = Turns.level
    yield tmp_path / "store"
    Turns.level = usual


@pytest.mark.parametrize(("level", "why"), [(40.0, "times that of the fit in force"), (float("nan"), "no possible")])
def test_a_refit_that_is_worse_is_refused_and_the_reason_is_kept(
    level: float, why: str, gatecast: Command, due: Path, closes: list[datetime], month: int
) -> None:
    Turns.level = level
    now = (closes[month] + HOUR).isoformat()
    answer = gatecast("retrain", due, "--if-due", "--now", now, "--json", "--quiet")
    assert answer.status == 0
    assert why in answer.json["refused"]["index/turns"]
    assert "index/turns, whose fits before stay in force" in answer.json["message"]
    opened = Store.open(due)
    record = [one for one in opened.journal.records() if one.kind == "refit"][-1]
    assert why in record.body["refused"]["index/turns"]
    model = opened.state.models[-1]
    assert opened.artefacts.arrays(model.parts["models/index/turns.safetensors"])["level"].tolist() == [
        Turns.__dict__["level"] if False else 0.01
    ]
    assert opened.check() == []


def test_a_refit_that_explodes_fails_with_its_reason_and_the_model_before_stays(
    gatecast: Command, due: Path, closes: list[datetime], month: int
) -> None:
    Turns.level = -1.0
    before = Store.open(due).state
    now = (closes[month] + HOUR).isoformat()
    answer = gatecast("retrain", due, "--if-due", "--now", now, "--quiet")
    assert (answer.status, "the loss is no longer finite in epoch 3" in unwrapped(answer.err)) == (2, True)
    assert Store.open(due).state.serving == before.serving
    assert Store.faults(due) == []
    Turns.level = 0.01
    assert gatecast("retrain", due, "--if-due", "--now", now, "--json", "--quiet").json["model"] is not None


def test_months_that_were_missed_are_listed_and_the_latest_alone_is_trained(
    gatecast: Command, store: Path, live: Path
) -> None:
    now = "2002-02-20T23:00:00+00:00"
    assert gatecast("update", store, "--bars", live / "live_all.csv", "--now", now).status == 0
    answer = gatecast("retrain", store, "--if-due", "--now", now, "--json", "--quiet")
    assert [one[:16] for one in answer.json["missed"]] == ["index 2002-01-01"]
    assert [one[:10] for one in answer.json["due"]["index"]] == ["2002-01-01", "2002-02-01"]
    assert len(Store.open(store).state.models) == 2
    assert "index 2002-01-01" in " ".join(Store.open(store).state.missed)


# ── 74: days of the calendar ──────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, pl.DataFrame]]:
    """Period of refits, last day -> a store with a model, trained on that day, and bars of each day, weekends too."""
    bars = bars_of(calendar_of("24/7", datetime(2025, 1, 1, tzinfo=UTC)), "crypto", 5)
    bars = bars.with_columns(pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
    made: dict[tuple[str, str], Path] = {}

    def store(refit: str, day: str) -> tuple[Path, pl.DataFrame]:
        if (refit, day) not in made:
            folder = tmp_path_factory.mktemp("coins")
            experiment = Experiment(
                features=("ret_log_1",), lookback=10, models=("ridge", "logistic"),
                signals={"model": "ridge", "confirmed_by": "ridge"}, selection={"evidence": 1.0, "minimum_days": 20},
                schedule={"train": "1Y", "minimum": "1Y", "refit": refit}, bars={"asset_class": "crypto"},
            )  # fmt: skip
            first = (datetime.fromisoformat(day) - timedelta(days=425)).strftime("%Y-%m-%d")
            now = datetime.fromisoformat(f"{day}T00:30:00+00:00") + timedelta(days=1)
            bars.filter(pl.col("time").is_between(pl.lit(first), pl.lit(f"{now:%Y-%m-%dT%H:%M}"))).write_csv(
                folder / "b.csv"
            )
            update(folder / "store", folder / "b.csv", now=now, experiment=experiment, stamp="close")
            retrain(folder / "store", now=now)
            made[refit, day] = folder / "store"
        return made[refit, day], bars

    return store


CALENDAR = {
    "leap day": ("1M", "2020-02-28", {"2020-02-29": False, "2020-03-01": True}),
    "week 53": ("1W", "2020-12-26", {"2020-12-27": False, "2020-12-28": True}),
    "week 53 over the year's end": ("1W", "2020-12-31", {"2021-01-01": False, "2021-01-04": True}),
    "year's end": ("1M", "2020-12-30", {"2020-12-31": False, "2021-01-01": True}),
}


@pytest.mark.parametrize("case", CALENDAR)
def test_a_refit_is_due_on_its_day_over_odd_days_of_the_calendar(
    case: str, gatecast: Command, coins: Callable[[str, str], tuple[Path, pl.DataFrame]], tmp_path: Path
) -> None:
    refit, trained, days = CALENDAR[case]
    made, bars = coins(refit, trained)
    shutil.copytree(made, tmp_path / "store")
    found = {}
    first, last = (date.fromisoformat(day) for day in (trained, max(days)))
    for number in range(1, (last - first).days + 1):
        day = str(first + timedelta(days=number))
        now = datetime.fromisoformat(f"{day}T00:30:00+00:00") + timedelta(days=1)
        since = (now - timedelta(days=9)).strftime("%Y-%m-%d")
        new = bars.filter(pl.col("time").is_between(pl.lit(since), pl.lit(f"{now:%Y-%m-%dT%H:%M}")))
        new.write_csv(tmp_path / "new.csv")
        words = ("update", tmp_path / "store", "--bars", tmp_path / "new.csv", "--stamp", "close", "--now", now)
        assert gatecast(*words).status == 0
        if day in days:
            done = gatecast("retrain", tmp_path / "store", "--if-due", "--now", now, "--json", "--quiet")
            found[day] = done.json["model"] is not None
    assert found == days


# ── 55, 72, 73: the process ───────────────────────────────────────────────────────────────────────


def test_a_process_that_lives_with_a_dead_feed_is_stale_by_the_calendar(
    gatecast: Command, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert gatecast("live", store, "--source", tmp_path / "empty", "--rounds", 1).status == 0
    answer = gatecast("health", store, "--json")
    levels = {one["name"]: one["level"] for one in answer.json["checks"]}
    assert (answer.status, levels["bars"], levels["heartbeat"]) == (2, "failure", "ok")
    assert {one["name"] for one in Store.open(store).state.alarms} >= {"bars"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["update", "retrain"])
def test_a_command_that_sigterm_ends_leaves_a_whole_store(name: str, live: Path, tmp_path: Path) -> None:
    prepare(live, tmp_path / "work", name)
    process = started(name, tmp_path / "work")
    wait_for_lock(process, tmp_path / "work")
    process.terminate()
    assert process.wait(10) in (0, 143)
    said = (tmp_path / "work" / "said.txt").read_text()
    assert "Traceback" not in said
    assert process.returncode == 0 or "interrupted" in said
    assert [one for one in Store.faults(tmp_path / "work" / "store") if not one.is_harmless] == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_daemon_that_sigterm_ends_stops_at_once_and_leaves_a_whole_store(store: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    before = (store / "heartbeat").read_bytes()
    words = [sys.executable, "-m", "gatecast", "live", store, "--source", tmp_path / "files"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and (store / "heartbeat").read_bytes() == before:
            time.sleep(0.02)
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "ended; what is stored is whole."
    assert Store.faults(store) == []


STRANGE = """
import locale, os, sys
locale.setlocale(locale.LC_ALL, "")
from gatecast.cli import main
main()
"""


@pytest.mark.skipif(os.name != "posix", reason="a home and a terminal of POSIX")
def test_a_comma_locale_a_narrow_output_no_home_and_no_terminal_change_nothing(
    gatecast: Command, store: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    locales = tmp_path / "locales"
    locales.mkdir()
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", locales / "de_DE"], capture_output=True
    )
    rows.with_columns(symbol=pl.col("symbol").replace("B1_1", "é株")).write_csv(tmp_path / "next.csv")
    shutil.copytree(store, tmp_path / "twin")
    words = ("update", "--bars", tmp_path / "next.csv", "--now", NOW, "--json")
    there = {name: value for name, value in os.environ.items() if name not in ("GATECAST_DATA", "GATECAST_CACHE")}
    strange = {
        **there, "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "XDG_DATA_HOME": "/proc/nowhere",
        "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "TERM": "dumb",
        **({"LC_ALL": "de_DE", "LOCPATH": str(locales)} if made and not made.returncode else {}),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", STRANGE, words[0], store, *words[1:]], env=strange, stdin=subprocess.DEVNULL,
        capture_output=True, start_new_session=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    told = json.loads(done.stdout.decode("ascii").splitlines()[-1])
    usual = gatecast(words[0], tmp_path / "twin", *words[1:]).json
    for one in (told, usual):
        del one["store"]
    assert told == usual
