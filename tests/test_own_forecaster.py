"""A user's forecaster takes part in all that ours do: run, audit, saved run, forecast, page, provenance."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.audits.full import Cuts, audit
from gatecast.audits.quick import quick_audit
from gatecast.chain import make_chain
from gatecast.errors import PluginError, SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import FORECASTERS, of_kind
from gatecast.forecasting.panel import PANEL, panel_of
from gatecast.live import forecast_newest
from gatecast.market import synthetic
from gatecast.report import render
from gatecast.runs import run
from gatecast.store import load_models, load_run, past_of, save_run

CODE = '''
from dataclasses import dataclass
import numpy as np
from gatecast.forecasting.forecaster import ALONE, Forecaster, Traits, fit_every
from gatecast.samples.targets import decode


@dataclass(frozen=True)
class FittedDrift:
    path: np.ndarray

    def predict(self, samples, rows):
        ends, paths = samples.ends[rows], np.tile(self.path, (len(rows), 1))
        return {"return": decode("return", paths, samples.facts.sigma[ends], samples.facts.baseline[ends])}

    def state(self):
        return {"path": self.path}, {}

    @classmethod
    def from_state(cls, arrays, settings):
        return cls(arrays["path"])


class Drift(Forecaster):
    """Half the mean of the answers that are known, or of all: a look ahead."""

    kind, fitted = "drift", FittedDrift
    traits = Traits("recent drift", heads=("return",), member_of=("return",))
    ahead: bool = False
    """whether it also learns from answers that nobody knows yet"""

    def fit_many(self, folds, task=ALONE):
        return fit_every(self.fit_fold, folds, 1, task)

    def fit_fold(self, fold):
        rows = np.arange(len(fold.data)) if self.ahead else fold.record
        return FittedDrift(np.nanmean(fold.data.answers[rows, : fold.data.horizon], axis=0) / 2)
'''


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that offers the kind `drift`."""
    site = tmp_path / "site"
    info = site / "driftpackage-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: driftpackage\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[gatecast.forecasters]\ndrift = driftpackage:Drift\n")
    (site / "driftpackage.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(site))
    yield
    FORECASTERS.remove("drift")
    sys.modules.pop("driftpackage", None)


def small(bars: pl.DataFrame, **changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "bars": bars, "features": ("ret_log_1",), "schedule": {"refit": "1Y"}, "models": ("ridge", "logistic", "drift"),
        "signals": {"model": "drift", "confirmed_by": "ridge"}, "book": {"core": {"kind": "none"}},
    }  # fmt: skip
    return Experiment(**settings | changes)


@pytest.mark.usefixtures("offered")
def test_a_package_brings_a_model_that_runs_is_saved_forecasts_and_is_named(tmp_path: Path) -> None:
    bars = synthetic.a1(900, seed=1)
    experiment = small(
        bars.head(890), models=("ridge", "logistic", "drift", "other"), model={"other": {"kind": "drift"}}
    )
    done = run(experiment)
    one = done.classes["index"].forecasts
    rows = one.rows
    assert np.array_equal(one.values["drift"]["return"][rows], one.values["other"]["return"][rows])
    assert "drift" in experiment.ensemble.spelled(one).members
    assert done.provenance["plugins"]["model/drift"].startswith("driftpackage==1.2, driftpackage.Drift (")
    assert {"drift", "other"} <= {row["model"] for row in done.scores["models"]}
    folder = tmp_path / "runs" / "one"
    save_run(done, folder)
    again = load_run(folder)
    assert again.experiment.model["other"] == done.experiment.model["other"]
    fitted = load_models(folder)["index"]["other"]
    assert fitted.state()[0]["path"].tobytes() == one.fitted["other"].state()[0]["path"].tobytes()
    newest = forecast_newest(folder, bars)
    assert newest[0]["signal_model"] == "drift"
    assert newest[0]["signal_return_log"] is not None
    assert "recent drift" in render(again)


@pytest.mark.usefixtures("offered")
def test_the_audit_names_a_model_that_looks_ahead() -> None:
    bars = synthetic.a1(700, seed=2)
    cuts = Cuts(samples=5, fits=4)
    assert audit(small(bars), cuts=cuts).clean
    found = audit(small(bars, model={"drift": {"ahead": True}}), cuts=cuts)
    assert any("drift" in leak.column for leak in found.findings)


@pytest.mark.usefixtures("offered")
def test_settings_of_a_users_model_are_checked_like_ours() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'ahead'"):
        small(synthetic.a1(700, seed=2), model={"drift": {"ahed": True}})
    with pytest.raises(SettingsError, match="a forecast that every run has goes by this name"):
        small(synthetic.a1(700, seed=2), models=("ridge", "logistic", "har"), model={"har": {"kind": "drift"}})


def test_an_unknown_kind_is_refused_with_what_there_is() -> None:
    with pytest.raises(SettingsError, match=r"no model 'boosting'.*garch"):
        Experiment(models=("lstm", "forest", "mine"), model={"mine": {"kind": "boosting"}})
    with pytest.raises(PluginError, match="taken by a built-in"):
        FORECASTERS.add("garch", PANEL["garch"].forecaster.__class__)


def test_entries_of_one_kind_differ_by_their_settings_alone() -> None:
    panel = panel_of(("ridge", "slow"), {"slow": {"kind": "ridge", "window": "4Y"}})
    assert panel["slow"] == of_kind({"kind": "ridge", "window": "4Y"})
    assert panel["ridge"].title() == panel["slow"].title()


def test_sections_of_version_0_1_are_read_with_a_notice() -> None:
    with pytest.warns(UserWarning, match=r"\[ridge\], \[garch\], \[lstm\] is read for one more version"):
        old = Experiment(
            models=("lstm", "forest", "logistic", "ridge", "gjr"), ridge={"penalties": [0.5], "label": "ridge"},
            garch={"every": 6}, lstm={"units": 32},
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = Experiment(
            models=("lstm", "forest", "logistic", "ridge", "gjr", "logistic_long", "ridge_long"),
            model={
                "lstm": {"units": 32}, "ridge": {"penalties": [0.5]}, "gjr": {"every": 6},
                "ridge_long": {"penalties": [0.5]},
            },
        )  # fmt: skip
    assert {name: old.panel[name] for name in new.panel} == new.panel


def test_a_model_of_another_name_is_audited_and_goes_on_as_it_ran(tmp_path: Path) -> None:
    bars = synthetic.a1(900, seed=3)
    settings: dict[str, Any] = {
        "features": ("ret_log_1",), "schedule": {"refit": "6M"}, "models": ("ridge", "logistic", "slow"),
        "model": {"slow": {"kind": "ridge", "window": "expanding"}},
        "signals": {"model": "ridge", "confirmed_by": "slow"},
    }  # fmt: skip
    experiment = Experiment(bars=bars.head(895), **settings)
    chain = make_chain(experiment, bars.head(895))
    assert "slow" in experiment.ensemble.spelled(chain.forecasts["index"]).members
    assert quick_audit(experiment, chain).clean
    done = run(experiment)
    assert {one["verdict"] for one in done.scores["verdicts"].values()}.isdisjoint({"void"})
    save_run(done, tmp_path / "run")
    newest = forecast_newest(tmp_path / "run", bars)
    whole = make_chain(Experiment(bars=bars, **settings), bars).forecasts["index"]
    assert newest[0]["expected_return_log"] == whole.values["ensemble"]["return"][whole.rows[-1], -1]


def test_a_past_goes_on_without_a_model_that_no_longer_runs_and_in_the_order_of_the_settings(tmp_path: Path) -> None:
    bars = synthetic.a1(900, seed=4)
    slow, fast = {"kind": "ridge", "window": "expanding"}, {"kind": "ridge", "window": "6M"}
    settings: dict[str, Any] = {
        "features": ("ret_log_1",), "schedule": {"refit": "6M"}, "models": ("ridge", "logistic", "slow", "fast"),
        "model": {"slow": slow, "fast": fast}, "signals": {"model": "ridge", "confirmed_by": "ridge"},
    }  # fmt: skip
    save_run(run(Experiment(bars=bars.head(880), **settings)), tmp_path / "run")
    whole = make_chain(Experiment(bars=bars, **settings), bars).forecasts["index"]
    on = make_chain(Experiment(bars=bars, **settings), bars, past=past_of(tmp_path / "run")).forecasts["index"]
    for head, values in whole.values["ensemble"].items():
        assert np.array_equal(values, on.values["ensemble"][head], equal_nan=True), head
    fewer = settings | {"models": ("ridge", "logistic", "fast"), "model": {"fast": fast}}
    left = make_chain(Experiment(bars=bars, **fewer), bars, past=past_of(tmp_path / "run")).forecasts["index"]
    assert np.isfinite(left.values["ensemble"]["return"][left.rows]).all()


def test_a_model_of_a_script_is_credited_on_two_cores_as_on_one(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "own_forecaster.py"
    text, said = script.read_text(), []
    assert text.count("gatecast.run(experiment)") == 1
    for jobs in (1, 2):
        own = tmp_path / f"own_{jobs}.py"
        own.write_text(
            text.replace(
                "gatecast.run(experiment)", f"gatecast.run(experiment, machine=gatecast.Machine(jobs={jobs}))"
            ).replace('print(run.provenance["plugins"])', 'print(repr(run.scores["credit"]))')
        )
        surroundings = {**os.environ, "GATECAST_DATA": str(tmp_path / f"data_{jobs}")}
        done = subprocess.run([sys.executable, own], env=surroundings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1]
    assert "drift" in said[0]
