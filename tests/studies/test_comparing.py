"""Two runs side by side through the command: itself, a worse one, other settings, data and horizons."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from gatecast.cli.app import execute
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.runs import Run, run
from gatecast.store import save_run
from gatecast.studies.comparing import BETTER, NO_DIFFERENCE, THE_SAME, WORSE, compare

BARS = synthetic.b1(1100, seed=5, r2=0.1)
FEW: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None,
    "schedule": {"refit": "1Y"}, "horizon": 1, "too_good": ("planted",), "book": {"core": {"kind": "none"}},
}  # fmt: skip


def made(name: str) -> Run:
    """A run of cheap models."""
    with unrecorded():
        return run(Experiment(name=name, bars=BARS, features=("ret_log_1", "x"), **FEW))


@pytest.fixture(scope="module")
def knowing() -> Run:
    """A run that reads the column which knows."""
    return made("knowing")


def spoiled(run: Run) -> Run:
    """The same run with noise of a bar's deviation in its forecasts of returns."""
    noise = pl.Series(np.random.default_rng(0).standard_normal(len(run.forecasts)) * 0.01)
    of_returns = pl.col("head") == "return"
    worse = run.forecasts.with_columns(value=pl.when(of_returns).then(pl.col("value") + noise).otherwise("value"))
    kept = io.BytesIO()
    worse.write_parquet(kept)
    return replace(run, forecasts_parquet=kept.getvalue())


def test_a_run_is_the_same_as_itself(knowing: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(knowing, tmp_path / "a")
    save_run(knowing, tmp_path / "b")
    assert execute(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not said["differs"]
    assert {one["outcome"] for one in said["differences"] if not one["reason"]} == {THE_SAME}
    assert said["settings"] == {}


def test_a_run_whose_forecasts_are_spoiled_is_worse(knowing: Run) -> None:
    found = compare(knowing, spoiled(knowing))
    by_head = {one.of: one for one in found.differences}
    assert found.differs
    assert by_head["return"].outcome == WORSE
    assert by_head["return"].high < 0
    assert by_head["volatility"].outcome == THE_SAME
    back = {one.of: one for one in compare(spoiled(knowing), knowing).differences}["return"]
    assert back.outcome == BETTER
    assert back.pvalue == pytest.approx(by_head["return"].pvalue)


def test_the_interval_of_money_is_that_of_a_mean(knowing: Run) -> None:
    noise = np.random.default_rng(0).standard_normal(len(knowing.equity)) * 1e-3
    other = knowing.equity.with_columns(net=pl.col("net") + pl.Series(noise))
    found = {one.of: one for one in compare(knowing, replace(knowing, equity=other)).differences}["money"]
    net, more = knowing.equity["net"].to_numpy(), other["net"].to_numpy()
    steps = (more - more**2) - (net - net**2)
    days = knowing.equity["time"]
    per_year = len(days) / ((days[-1] - days[0]).days / 365.25)
    assert found.effect == pytest.approx(steps.mean() * per_year, rel=0.01)
    assert found.outcome == NO_DIFFERENCE
    plain = stats.ttest_1samp(steps, 0.0).pvalue
    assert found.pvalue == pytest.approx(plain, abs=0.25)  # fixed-b against the normal of independent days


def test_other_horizons_have_nothing_to_pair(knowing: Run) -> None:
    found = compare(knowing, replace(knowing, experiment=knowing.experiment.replace(horizon=5)))
    reasons = {one.of: one.reason for one in found.differences}
    assert "the horizons differ" in reasons["return"]
    assert found.settings == {"horizon": (1, 5)}


def test_runs_on_other_bars_are_compared_where_both_have_the_same(knowing: Run) -> None:
    found = compare(knowing, replace(knowing, bars=BARS[:1000], provenance={**knowing.provenance, "data_hash": ""}))
    assert found.data["common"] == 1000
    assert {one.outcome for one in found.differences if not one.reason} <= {THE_SAME, NO_DIFFERENCE}
    assert "compared on the 1,000 that both have" in found.summary()


def test_another_market_is_refused(knowing: Run) -> None:
    with pytest.raises(SettingsError, match="no bar in common"):
        compare(knowing, replace(knowing, bars=synthetic.b1(1100, seed=6, r2=0.1)))
