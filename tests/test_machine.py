"""Settings that came with a folder never decide what this machine reads, writes or connects to."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tomli_w
from typer.testing import CliRunner

from gatecast.cli.app import app
from gatecast.errors import SettingsError
from gatecast.experiment import Experiment
from gatecast.files import sha256_of
from gatecast.live import forecast_newest
from gatecast.machine import ONE_CORE, Machine
from gatecast.market import synthetic
from gatecast.market.vendors import VENDORS, Vendor
from gatecast.report import render
from gatecast.runs import run
from gatecast.store import chain_of, load_run, save_run
from gatecast.studies.unseal import unseal

BARS = synthetic.b1(1200, seed=1)
SEALED = str(BARS["time"][1000])[:10]
QUICK: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "features": ("x",),
    "schedule": {"refit": "1Y"}, "holdout": SEALED,
}  # fmt: skip
TABLES = {
    "symbols_file": "symbol,asset_class\nB1,index\n", "splits": "symbol,date,ratio\n",
    "actions": "symbol,kind,date,value\n", "delisting": "symbol,date,value\n",
}  # fmt: skip
ASKED: list[str] = []
"""What the vendor below was asked for."""
OPENED: list[str] = []
"""What was opened, and where to, since `watched` began."""
WATCHING: list[str] = []
"""The folder whose files are watched."""


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Notes connections, and what is opened below the watched folder; an audit hook stays for good."""
    if WATCHING and (event == "socket.connect" or WATCHING[0] in str(arguments[:1])):
        OPENED.append(event)


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(hear)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        folder = tmp_path_factory.mktemp("saved") / "run"
        save_run(run(Experiment(bars=BARS, **QUICK)), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside the run's, with bars and tables that are as they should be."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    BARS.drop("known_at", "segment").write_csv(place / "bars.csv")
    for name, text in TABLES.items():
        (place / f"{name}.csv").write_text(text)
    return place


@pytest.fixture
def watched(elsewhere: Path) -> Iterator[list[str]]:
    WATCHING[:], OPENED[:], ASKED[:] = [str(elsewhere)], [], []
    yield OPENED
    WATCHING.clear()


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spy(Vendor):
        kind = "spy"

        def fetch(self, request: str, **_: Any) -> pl.DataFrame:
            ASKED.append(request)
            return BARS

    if "spy" not in VENDORS:
        VENDORS.add(Spy)


def plant(folder: Path, bars: dict[str, Any], **changes: Any) -> None:
    """Other settings in a run's folder, and the manifest that says that they belong there."""
    file = folder / "experiment.toml"
    settings = tomllib.loads(file.read_text())
    text = tomli_w.dumps({**changes, **settings, "bars": {**settings["bars"], **bars}}).encode()
    file.write_bytes(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"]["experiment.toml"] = {"sha256": sha256_of(text), "bytes": len(text)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_watch_sees_a_file_that_is_opened(elsewhere: Path, watched: list[str]) -> None:
    (elsewhere / "bars.csv").read_bytes()
    assert watched == ["open"]


@pytest.mark.usefixtures("spy")
@pytest.mark.parametrize("source", ["{}/bars.csv", "{}/*.csv", "{}", "spy:secret"])
def test_the_source_in_a_runs_own_settings_is_never_read(
    folder: Path, elsewhere: Path, watched: list[str], source: str
) -> None:
    plant(folder, {"source": source.format(elsewhere)})
    loaded = load_run(folder)
    with pytest.raises(SettingsError, match=r"give the run's bars, --bars FILE .* were read from"):
        unseal(loaded)
    assert len(render(loaded)) > 1000
    assert len(chain_of(folder).bars) == len(loaded.bars)
    newer = BARS.filter(pl.col("time") < pl.lit(SEALED).str.to_datetime(time_zone="UTC"))
    assert forecast_newest(folder, newer)[0]["symbol"] == BARS["symbol"][0]
    assert (watched, ASKED) == ([], [])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_a_runs_own_settings_is_read_once_it_is_named_again(
    folder: Path, elsewhere: Path, tmp_path: Path, watched: list[str], name: str
) -> None:
    table = str(elsewhere / f"{name}.csv")
    plant(folder, {name: table})
    file = tmp_path / "newest.csv"
    BARS.filter(pl.col("time") < pl.lit(SEALED).str.to_datetime(time_zone="UTC")).drop("known_at", "segment").write_csv(
        file
    )
    for refused in (
        lambda: forecast_newest(folder, file, asset_class="index", stamp="close"),
        lambda: unseal(load_run(folder), bars=BARS),
    ):
        with pytest.raises(SettingsError, match=rf"read with {name} = .*--{name.replace('_', '-')} FILE"):
            refused()
    assert watched == []
    named: dict[str, Any] = {name: table}
    assert forecast_newest(folder, file, asset_class="index", stamp="close", **named)
    assert "open" in watched


def test_where_to_run_is_no_setting_of_a_folder(folder: Path, elsewhere: Path, watched: list[str]) -> None:
    plant(folder, {}, jobs=64, unfinished=f"{elsewhere}/kept", studies=f"{elsewhere}/studies.db")
    with pytest.warns(UserWarning, match="no setting of an experiment any more and was ignored") as told:
        loaded = load_run(folder)
    assert [str(one.message).split()[0] for one in told] == ["jobs", "unfinished", "studies"]
    assert "--jobs" in str(told[0].message)
    opened = unseal(loaded, bars=BARS)
    assert opened.scores["holdout"]["same_past"] == 1.0
    assert watched == []
    assert sorted(path.name for path in elsewhere.iterdir()) == sorted(["bars.csv", *(f"{n}.csv" for n in TABLES)])


def test_the_command_names_what_is_opened(folder: Path, elsewhere: Path, watched: list[str]) -> None:
    plant(folder, {"source": str(elsewhere / "bars.csv"), "asset_class": "index", "stamp": "close"})
    told = CliRunner().invoke(app, ["unseal", str(folder)])
    assert (told.exit_code, "--bars" in told.output) == (2, True)
    assert watched == []
    done = CliRunner().invoke(
        app, ["unseal", str(folder), "--bars", str(elsewhere / "bars.csv"), "--jobs", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert "open" in watched


def test_a_machine_changes_no_settings() -> None:
    assert ONE_CORE.task.jobs == 1
    assert Machine(jobs=2, studies="sqlite:///a.db").task.studies == "sqlite:///a.db"
    assert "secret" not in repr(Machine(studies="postgresql+psycopg://me:secret@host/studies"))
    with pytest.warns(UserWarning, match=r"jobs is no setting .* --jobs or Machine\(jobs=\.\.\.\) sets it"):
        assert Experiment(jobs=2) == Experiment()
