"""Opening a hold-out, from the settings to the folder of the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError, SettingsError
from gatecast.evaluation.holdout import openings_path
from gatecast.experiment import Experiment, run
from gatecast.forecasting.forest import Forest
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.live import forecast_newest
from gatecast.results import Run
from gatecast.store import load_run, save_run
from gatecast.studies.unseal import unseal

DAY = "2004-01-01"
QUICK = {
    "features": ("ret_log_1", "x"),
    "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
    "forest": Forest(trees=5),
    "schedule": Schedule(refit="6M"),
}


@pytest.fixture
def sealed(market: pl.DataFrame) -> Run:
    return run(Experiment(bars=market, holdout=DAY, **QUICK))


def test_nothing_reads_the_sessions_that_are_sealed(market: pl.DataFrame, sealed: Run) -> None:
    late = pl.col("time") >= pl.lit(DAY).str.to_datetime(time_zone="UTC")
    noise = pl.Series(1 + np.random.default_rng(0).random(len(market)))
    other = market.with_columns(
        pl.when(late).then(pl.col(name) * noise).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
    ).with_columns(
        high=pl.max_horizontal("open", "high", "low", "close"), low=pl.min_horizontal("open", "low", "close")
    )
    again = run(Experiment(bars=other, holdout=DAY, **QUICK))
    short = run(Experiment(bars=market.filter(~late), **QUICK))
    for one in (again, short):
        assert one.forecasts.equals(sealed.forecasts)
        assert one.weights.equals(sealed.weights)
    assert sealed.bars["time"].max() < market["time"].max()
    assert sealed.scores["trials"]["count"] == 1  # sealed or not, it is the same configuration


def test_it_is_opened_once_and_the_run_remembers(market: pl.DataFrame, sealed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    save_run(sealed, folder)
    with pytest.raises(SettingsError, match="were a frame"):
        unseal(load_run(folder))
    opened = save_run(unseal(load_run(folder), bars=market), folder)
    found = load_run(folder).scores["holdout"]
    assert found == opened.scores["holdout"]
    assert found["same_past"] == 1.0
    assert [one["head"] for one in found["heads"]] == ["return", "direction", "volatility", "regime", "strategy"]
    assert found["heads"][0]["after"] is not None
    (line,) = openings_path().read_text().splitlines()
    assert json.loads(line)["first"] == DAY
    assert load_run(folder).forecasts.equals(sealed.forecasts)  # all else stays as it was
    with pytest.raises(SettingsError, match="a second look is none"):
        unseal(load_run(folder), bars=market)
    again = unseal(load_run(folder), bars=market, again=True)
    assert "This is no first look" in again.scores["holdout"]["sentence"]
    assert len(again.scores["holdout"]["opened"]) == 2


def test_a_rerun_that_fails_opens_nothing(market: pl.DataFrame, sealed: Run) -> None:
    with pytest.raises(BarsError, match=r"nowhere\.csv"):
        unseal(sealed, bars="nowhere.csv")
    assert not openings_path().exists()


def test_a_run_without_a_seal_has_nothing_to_open(market: pl.DataFrame) -> None:
    whole = run(Experiment(bars=market, **QUICK))
    assert whole.scores["holdout"] is None
    with pytest.raises(SettingsError, match="has no hold-out"):
        unseal(whole)


def test_forecasting_from_sealed_bars_is_refused(market: pl.DataFrame, sealed: Run, tmp_path: Path) -> None:
    save_run(sealed, tmp_path / "run")
    with pytest.raises(SettingsError, match="are sealed"):
        forecast_newest(tmp_path / "run", market)
    assert forecast_newest(tmp_path / "run", market.filter(pl.col("time") <= sealed.bars["time"].max()))
