"""What is forecast live is what a later run says of that bar, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.experiment import Experiment, run
from gatecast.forecasting.forest import Forest
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.live import forecast_newest, merge_bars
from gatecast.store import save_run

SETTINGS = {
    "features": ("ret_log_1", "x"),
    "lstm": LSTM(units=16, layers=1, seeds=1, epochs=2),
    "forest": Forest(trees=5),
    "schedule": Schedule(refit="3M"),
}


@pytest.fixture(scope="module")
def saved(market: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    """A run on all but the last bars, and the bars that come after it, still before the next refit."""
    moments = market["time"].unique().sort()
    until = moments[-1]
    start = until.replace(day=1)
    early = market.filter(pl.col("time") <= moments[moments.search_sorted(start) + 2])
    folder = tmp_path_factory.mktemp("live") / "run"
    save_run(run(Experiment(bars=early, **SETTINGS)), folder)
    return folder, early, market


def test_live_is_what_a_later_run_says(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, market = saved
    rows = {row["symbol"]: row for row in forecast_newest(folder, market)}
    later = run(Experiment(bars=market, **SETTINGS))
    assert len(later.scores["folds"]) == len(run(Experiment(bars=early, **SETTINGS)).scores["folds"])
    newest = later.signals.join(later.weights, on=["symbol", "time"]).group_by("symbol", maintain_order=True).last()
    for expected in newest.iter_rows(named=True):
        got = rows[expected["symbol"]]
        assert got["time"] > early["time"].max()
        for name in ("time", "z", "signal", "consensus", "strategy", "evidence", "reason", "weight"):
            assert got[name] == expected[name], name
        chance = later.forecasts.filter(
            (pl.col("symbol") == expected["symbol"]) & (pl.col("time") == expected["time"]),
            (pl.col("model") == "ensemble") & (pl.col("head") == "direction"),
        )["value"].item()
        assert got["probability_up"] == chance


def test_the_path_widens_with_the_root_of_time(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, _, market = saved
    row = forecast_newest(folder, market)[0]
    assert len(row["path"]) == 5
    np.testing.assert_allclose(np.array(row["sigma_path"]) ** 2, row["volatility"] * np.arange(1, 6) / 5)


def test_a_strange_symbol_is_refused_or_left_out(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, _, market = saved
    strange = market.with_columns(symbol=pl.lit("ELSE") + pl.col("symbol"))
    with pytest.raises(BarsError, match="none of the run's symbols"):
        forecast_newest(folder, strange)
    rows = forecast_newest(folder, pl.concat([market, strange]))
    assert {row["symbol"] for row in rows} == set(market["symbol"])
    assert any("ELSE" in warning for warning in rows[0]["warnings"])


def test_a_correction_changes_no_forecast_that_was_made(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    _, early, market = saved
    corrected = market.with_columns(pl.col("open", "high", "low", "close") * 1.01)
    merged, warnings = merge_bars(early, corrected)
    assert merged.filter(pl.col("time") <= early["time"].max())["close"].equals(early["close"])
    assert any("revised_input" in warning for warning in warnings)


def test_a_file_without_news_says_so(saved: tuple[Path, pl.DataFrame, pl.DataFrame]) -> None:
    folder, early, _ = saved
    rows = forecast_newest(folder, early)
    assert any("no bar that is newer" in warning for warning in rows[0]["warnings"])
