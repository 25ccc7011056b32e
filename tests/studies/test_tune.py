"""`gatecast tune` as a user meets it: killed and gone on with, used by the run, counted, and drawn."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from filelock import FileLock

from gatecast.audits.full import Cuts, audit
from gatecast.cli.app import execute
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path, read_trials
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.tuning.tuned import Tuning
from gatecast.live import forecast_newest
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.report import render
from gatecast.runs import run
from gatecast.settings import to_toml
from gatecast.store import save_run
from gatecast.studies.tune import tune

QUICK: dict[str, Any] = {
    "features": ("ret_log_1", "x"), 
    "model": {"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
    "schedule": Schedule(refit="6M"), "models": ("lstm", "forest", "logistic", "ridge"),
    "tuning": Tuning(trials=6, units=(16, 32), layers=(1, 2), lookback=(10, 40), margin=0.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(900, seed=5, r2=0.05)


def test_a_run_makes_the_searches_that_tune_made_and_counts_them(bars: pl.DataFrame, tmp_path: Path) -> None:
    experiment = Experiment(bars=bars, **QUICK)
    machine = Machine(studies=f"sqlite:///{tmp_path}/studies.db")
    found = tune(experiment, machine=machine)
    before = (tmp_path / "studies.db").read_bytes()
    result = run(experiment, machine=machine)
    assert (tmp_path / "studies.db").read_bytes() == before
    assert list(result.scores["tuning"]["classes"]) == found.to_dict()["classes"]
    heads = {row["head"]: row for row in result.scores["tuning"]["heads"]}
    assert heads == {row["head"]: row for row in found.to_dict()["heads"]}
    again = run(experiment)
    assert again.forecasts.equals(result.forecasts)
    models = set(result.forecasts["model"].unique())
    assert {"lstm", "lstm_default"} <= models

    every = {json.dumps(one["params"]) for s in found.searches["index"] for one in s["trials"]}
    nested = [trial for trial in read_trials(ledger_path()) if trial.nested]
    assert len({trial.settings_hash for trial in nested}) == len(every)
    counted = result.scores["trials"]
    assert counted["nested"] == len(every)
    assert counted["count"] == len(every) + 1
    assert {verdict["trials"] for verdict in result.verdicts.values()} == {1}  # what was not chosen by its luck there

    page = render(save_run(result, tmp_path / "run"))
    assert "At each date settings are searched for on the bars known then" in page
    assert f"{found.scores['classes'][0]['tried']} candidates" in page
    newest = forecast_newest(tmp_path / "run", bars)
    last = result.forecasts.filter(model="ensemble", head="direction")["value"][-1]
    assert newest[0]["probability_up"] == pytest.approx(last, abs=1e-12)


def test_settings_that_were_replaced_make_other_forecasts_and_those_that_were_not_the_same(bars: pl.DataFrame) -> None:
    found = tune(Experiment(bars=bars, **QUICK))
    assert any(row["replaced"] for row in found.scores["classes"][0]["dates"])
    assert any(row["gain"] != 0 for row in found.scores["heads"])
    kept = tune(Experiment(bars=bars, **{**QUICK, "tuning": QUICK["tuning"].replace(margin=60.0)}))
    assert {row["worth"] for row in kept.scores["heads"]} == {"nothing changed"}
    assert "nothing changed" in kept.summary()


def test_a_larger_budget_on_the_same_file_is_as_good_as_new(bars: pl.DataFrame, tmp_path: Path) -> None:
    """The first guesses of a date are the best of the one before, which may be others now."""
    small, large = (Experiment(bars=bars, **{**QUICK, "tuning": QUICK["tuning"].replace(trials=n)}) for n in (3, 7))
    machine = Machine(studies=f"sqlite:///{tmp_path}/studies.db")
    tune(small, machine=machine)
    assert tune(large, machine=machine).searches == tune(large).searches


def test_the_future_changes_nothing_of_a_tuned_run(bars: pl.DataFrame) -> None:
    experiment = Experiment(bars=bars, **{**QUICK, "models": ("lstm", "forest"), "too_good": ("planted",)})
    found = audit(experiment.replace(tuning=QUICK["tuning"].replace(trials=4)), cuts=Cuts(samples=20, fits=4))
    assert found.clean


def test_tuning_needs_the_lstm_and_its_settings_are_written_down(bars: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="have it among models"):
        Experiment(bars=bars, models=("forest", "logistic", "ridge"), tuning=Tuning())
    with pytest.raises(SettingsError, match=r"tuning\.head = 'regime', which the LSTM does not forecast"):
        Experiment(model={"lstm": LSTM(heads=("return", "direction"))}, tuning=Tuning(head="regime"))
    experiment = Experiment(**QUICK)
    file = tmp_path / "settings.toml"
    file.write_text(to_toml(experiment))
    assert Experiment.from_toml(file).tuning == experiment.tuning
    plain = to_toml(Experiment())
    assert "# [tuning]" in plain
    file.write_text(plain.replace("# [tuning]", "[tuning]"))
    assert Experiment.from_toml(file).tuning == Tuning()


# ── the command ───────────────────────────────────────────────────────────────────────────────────

SETTINGS = """
name = "killed"
features = ["ret_log_1", "x"]
[bars]
source = "market.parquet"
asset_class = "index"
[model.lstm]
units = 16
layers = 1
seeds = 1
epochs = 12
[schedule]
refit = "6M"
[tuning]
trials = 8
units = [16, 64]
lookback = [10, 60]
"""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gatecast.cli", "tune", "settings.toml", "--jobs", "1", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])  # type: ignore[no-any-return]


def tried(file: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_killed_and_started_again_it_has_the_same_trials_and_no_point_twice(bars: pl.DataFrame, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        bars.write_parquet(folder / "market.parquet")
        (folder / "settings.toml").write_text(SETTINGS)
    uninterrupted = start(whole, "--json")
    process, studies = start(killed), killed / "runs" / "killed.studies.db"
    deadline = time.monotonic() + 120
    while tried(studies) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert tried(studies) < 20  # of 24
    again, first = answer(start(killed, "--json")), answer(uninterrupted)
    assert again["searches"] == first["searches"]
    for search in again["searches"]["index"]:
        points = [json.dumps(trial["params"], sort_keys=True) for trial in search["trials"]]
        assert len(set(points)) == len(points) == 8
    assert again["heads"] == first["heads"]
    assert not (killed / "runs" / "killed.unfinished").exists()


def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (("--every", "3Q"), "expected a period such as"),
        (("--storage", "nonsense"), "no address of studies"),
        (("--trials", "0"), "greater than or equal to 1"),
    ):
        assert execute(["tune", *words, "--end", "2001-12-31"]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert "Traceback" not in told


def test_a_folder_that_another_process_writes_to_is_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with FileLock(tmp_path / ".r.lock"):
        assert execute(["tune", "--out", "r", "--end", "2001-12-31"]) == 2
    assert "another process writes a run to" in capsys.readouterr().err
