"""A package with a strategy, a feature and a vendor takes part in everything that the command does."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import package

from gatecast.cli.app import execute
from gatecast.errors import BarsError, SettingsError
from gatecast.experiment import Experiment
from gatecast.machine import Machine
from gatecast.market import read_bars
from gatecast.market.vendors import VENDORS, Vendor
from gatecast.plugins import Registry
from gatecast.samples.features import FEATURES
from gatecast.store import load_run
from gatecast.studies.placebo import placebo
from gatecast.trading.strategies import STRATEGIES

CODE = '''
import numpy as np
import polars as pl
from gatecast.market import synthetic
from gatecast.market.vendors import Vendor
from gatecast.samples.features import register
from gatecast.trading.strategies import Strategy

class Weekly(Strategy):
    """Long after a rise over so many bars."""
    kind = "weekly"
    bars: int = 5

    def side(self, view):
        past = pl.col("close") > pl.col("close").shift(self.bars).over("symbol", "segment")
        return view.as_known(view.bars.select(past=past.fill_null(False).cast(pl.Float64))["past"].to_numpy())

@register("body", warmup=0, needs=("open", "high", "low", "close"))
def body(open, high, low, close):
    """Body of the candle over its range."""
    return (close - open) / (high - low + 1e-9)

class Archive(Vendor):
    kind = "archive"

    def fetch(self, request, *, symbols, start, end):
        bars = synthetic.g1(int(request), seed=5, symbols=2)
        daily = bars.with_columns(date=pl.col("time").dt.date()).drop("time", "known_at", "segment")
        return daily.to_pandas()
'''
POINTS = {
    "gatecast.strategies": "weekly = three_things:Weekly",
    "gatecast.features": "body = three_things:body",
    "gatecast.vendors": "archive = three_things:Archive",
}
SETTINGS = """
name = "own things"
features = ["ret_log_1", "body"]
models = ["ridge", "logistic"]
[schedule]
refit = "1Y"
[signals]
model = "ridge"
confirmed_by = "ridge"
[strategies]
names = ["trend", "weekly", "monthly"]
[strategy.monthly]
kind = "weekly"
bars = 22
"""
REGISTRIES: tuple[Registry[object], ...] = (STRATEGIES, FEATURES, VENDORS)  # type: ignore[assignment]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The settings' file, in the presence of the package."""
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(tmp_path))
    package(tmp_path, "three_things", POINTS, CODE)
    file = tmp_path / "own.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    yield file
    for registry, name in zip(REGISTRIES, ("weekly", "body", "archive"), strict=True):
        registry.remove(name)
    sys.modules.pop("three_things", None)


def test_the_command_runs_reports_and_forecasts_with_them(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = ["run", str(installed), "--bars", "archive:1100", "--out", str(folder), "--quiet"]
    assert execute(words) == 0, capsys.readouterr()
    run = load_run(folder)
    said = run.provenance["plugins"]
    assert sorted(said) == ["feature/body", "strategy/weekly", "vendor/archive"]
    assert all(re.fullmatch(r"three_things==1.5, three_things\.\w+ \([0-9a-f]{12}\)", one) for one in said.values())
    assert run.provenance["features"] == {"index": ["ret_log_1", "body"]}
    rows = [row["strategy"] for row in run.scores["strategies"]]
    assert rows[:5] == ["flat", "held_long", "trend", "weekly", "monthly"]
    assert {"weekly", "monthly"} & set(run.signals["strategy"])
    assert run.experiment == Experiment.from_toml(folder / "experiment.toml")
    assert "monthly" in (folder / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert execute(["forecast", str(folder), "--bars", "archive:1110", "--json"]) == 0
    newest = json.loads(capsys.readouterr().out)
    rows = newest if isinstance(newest, list) else newest["forecasts"]
    assert {row["strategy"] for row in rows} <= {"flat", "held_long", "trend", "weekly", "monthly"}


def test_copies_run_in_processes_that_find_the_package_by_themselves(installed: Path) -> None:
    experiment = Experiment.from_toml(installed, bars={"source": "archive:1100"})
    assert experiment.is_importable
    assert placebo(experiment, copies=1, machine=Machine(jobs=2)) == placebo(experiment, copies=1)


# ── vendors ───────────────────────────────────────────────────────────────────────────────────────


def test_a_file_wins_over_a_vendor_and_a_drive_is_none(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_bars("archive:300")["symbol"].n_unique() == 2
    monkeypatch.chdir(tmp_path)
    Path("archive:300").write_text("date,close,symbol\n2024-01-02,1.5,A\n2024-01-03,1.6,A\n")
    assert read_bars("archive:300")["symbol"].to_list() == ["A", "A"]
    with pytest.raises(BarsError, match=r"C:bars.csv: there is no such file or folder"):
        read_bars("C:bars.csv")
    with pytest.raises(BarsError, match=r"no vendor 'archiv'. Did you mean 'archive'\?"):
        read_bars("archiv:300")


def test_every_check_of_a_file_applies_to_a_vendors_bars(installed: Path) -> None:
    with pytest.raises(BarsError, match="no bars of 'ELSE'"):
        read_bars("archive:300", symbols=["ELSE"])
    late = read_bars("archive:300", symbols=["G1_0"], start="2000-06-01", end="2000-06-30")
    assert late["symbol"].unique().to_list() == ["G1_0"]
    assert 15 < len(late) < 25
    with pytest.raises(BarsError, match="vendor 'archive' gave no bars for 'many': ValueError: invalid literal"):
        read_bars("archive:many")


def test_a_vendor_is_asked_for_what_is_wanted_and_for_nothing_of_a_hold_out() -> None:
    asked = []

    @VENDORS.add
    class Asked(Vendor):
        kind = "asked"

        def fetch(self, request: str, **wanted: object) -> object:
            asked.append((request, wanted))
            raise ConnectionError("nobody there")

    try:
        with pytest.raises(BarsError, match="'asked' gave no bars for 'a:b': ConnectionError: nobody there"):
            read_bars("asked:a:b", symbols="A", start="2020-01-02")
        with pytest.raises(BarsError, match="nobody there"):
            Experiment(bars="asked:x", holdout="2017-01-01").read()
    finally:
        VENDORS.remove("asked")
    (first, second) = asked
    assert first[0] == "a:b"
    assert first[1]["symbols"] == ("A",)
    assert str(first[1]["start"]) == "2020-01-02"
    assert str(second[1]["end"]) == "2016-12-31"


def test_a_kind_that_nobody_offers_is_refused_with_the_nearest(installed: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no strategy 'weekli'. Did you mean 'weekly'\?"):
        Experiment(strategies={"names": ["weekli"]})
