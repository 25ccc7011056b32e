"""Forecasts and profits of others, through the command: skill is found, noise is not, and later bars are noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from gatecast.cli.app import execute
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.power import UNDECIDABLE, power_of
from gatecast.evaluation.verdict import BEYOND
from gatecast.market import synthetic
from gatecast.metrics.significance import BOUND
from gatecast.studies.judging import Judgement, judge_forecasts

BARS = synthetic.b1(1500, seed=3, r2=0.01)
X = BARS["x"].to_numpy()
TRUE = X * 0.45 * 0.1 * 0.1  # near the expected return over 5 bars
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def table_of(values: FloatArray, bars: pl.DataFrame = BARS, head: str = "return") -> pl.DataFrame:
    """A forecast at each close."""
    return bars.select("symbol", "time", **{head: pl.Series(values)})


def judged(values: FloatArray, **options: Any) -> Judgement:
    """What is said of forecasts of returns over five bars, which is no trial."""
    with unrecorded():
        return judge_forecasts(table_of(values), BARS, **{"horizon": 5, "copies": 0, "name": "mine", **options})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bars and forecasts as files."""
    folder = tmp_path_factory.mktemp("files")
    BARS.select("symbol", "open", "high", "low", "close", "volume", "x", date=pl.col("time").dt.date()).write_csv(
        folder / "bars.csv"
    )
    table_of(TRUE).write_csv(folder / "forecasts.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return folder


def command(files: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON of `gatecast judge`."""
    status = execute(["judge", str(files / words[0]), "--bars", str(files / "bars.csv"), *words[1:],
                      "--asset-class", "index", "--json"])  # fmt: skip
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_true_forecast_is_evidence_of_skill(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = command(files, "forecasts.csv", "--horizon", "5", "--copies", "19", capsys=capsys)
    mine = said["models"]["forecasts"]
    assert status == 0
    assert not said["doubtful"]
    assert mine["verdicts"]["return"]["verdict"] == "evidence of skill"
    assert mine["placebo"]["return"]["beaten"] == 19
    assert mine["planted"]["seen"], mine["planted"]
    assert mine["costs"]["gross"] > mine["costs"]["net"] > 0


def test_a_model_counts_as_a_trial_once(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path))
    table_of(np.roll(TRUE, 300)).write_csv(files / "other.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    counts = [
        command(files, name, "--horizon", "5", "--copies", "0", capsys=capsys)[1]["trials"]
        for name in ("forecasts.csv", "forecasts.csv", "other.csv")
    ]
    assert counts == [1, 1, 2]


def test_noise_is_no_skill() -> None:
    found = judged(np.random.default_rng(1).standard_normal(len(BARS)) * TRUE.std()).models["mine"]
    assert "evidence of skill" not in {one.verdict for one in found.verdicts.values()}
    assert not found.leaks


def test_dates_a_bar_early_are_noticed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = table_of(np.r_[TRUE[1:], np.nan])
    early.write_csv(files / "early.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ", null_value="")
    status, said = command(files, "early.csv", "--horizon", "5", "--copies", "0", capsys=capsys)
    assert status == 3
    assert said["doubtful"]
    assert any("one bar early" in one for one in said["models"]["early"]["leaks"])
    assert said["models"]["early"]["verdicts"]["return"]["verdict"] == "void: a leak was found"


def test_a_shift_by_a_calendar_day_meets_no_bar(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = table_of(TRUE).with_columns(time=pl.col("time").dt.date() - pl.duration(days=1))
    days.write_csv(files / "days.csv")
    status, said = command(files, "days.csv", "--horizon", "5", capsys=capsys)
    assert status == 2
    assert "has no bar on" in said["error"]


def test_a_reversal_of_the_last_move_is_no_leak() -> None:
    move = np.r_[np.nan, np.diff(np.log(BARS["close"].to_numpy()))]
    assert not judged(-0.05 * move).models["mine"].leaks


def test_nothing_up_to_the_cutoff_is_judged() -> None:
    cutoff = BARS["time"][900].date()
    found = judged(np.where(np.arange(len(BARS)) <= 900, 0.0, TRUE), cutoff=cutoff)
    whole = judged(TRUE, cutoff=cutoff)
    assert found.first > str(cutoff)
    one, other = (each.models["mine"].verdicts["return"].to_dict() for each in (found, whole))
    assert one == other  # what was forecast before it changes nothing
    assert whole.models["mine"].before_cutoff["return"] > found.models["mine"].before_cutoff["return"]


def test_a_record_too_short_for_any_effect_is_undecidable() -> None:
    found = judged(TRUE, cutoff=BARS["time"][1440].date()).models["mine"].verdicts["return"]
    assert found.verdict == UNDECIDABLE


def test_profits_of_holding_the_market_have_no_alpha() -> None:
    move = np.r_[0.0, np.diff(BARS["close"].to_numpy()) / BARS["close"].to_numpy()[:-1]]
    days = BARS.select(day=pl.col("time").dt.date())
    with unrecorded():
        held, knowing = (
            judge_forecasts(days.with_columns(net=pl.Series(net)), BARS, name="mine").models["mine"]
            for net in (0.5 * move + 1e-4 * np.cos(np.arange(len(move))), 0.2 * np.abs(move))
        )
    assert held.verdicts["strategy"].verdict in ("cannot tell", UNDECIDABLE)
    assert held.verdicts["strategy"].beta == pytest.approx(0.5, abs=0.01)
    assert knowing.verdicts["strategy"].verdict == "too good: look for a leak"
    assert knowing.doubtful


def test_quantiles_around_the_true_mean_beat_those_of_the_past() -> None:
    levels = (0.1, 0.5, 0.9)
    spread = float(np.std(np.diff(np.log(BARS["close"].to_numpy())))) * np.sqrt(5)
    rows = [
        table_of(TRUE + stats.norm.ppf(level) * spread, head="value").with_columns(quantile=level) for level in levels
    ]
    with unrecorded():
        found = judge_forecasts(pl.concat(rows), BARS, horizon=5, name="mine").models["mine"].quantiles
    assert found is not None
    assert found.gain > 0
    for one in found.coverage:  # the limits are the binomial's
        low, high = stats.binom.ppf([0.025, 0.975], one["n"], one["level"]) / one["n"]
        assert (one["low"], one["high"]) == pytest.approx((low, high))


def test_power_is_as_the_normal_says() -> None:
    verdict = judged(TRUE).models["mine"].verdicts["strategy"]
    own = {(row["years"], row["effect"]): row["power"] for row in power_of(verdict, 252.0)}
    error = verdict.detectable / (BOUND + BEYOND) * np.sqrt(verdict.n / (10 * 252.0))
    assert own[10.0, 0.05] == pytest.approx(stats.norm.cdf(0.05 / error - BOUND))
    assert stats.norm.cdf(verdict.detectable / (verdict.detectable / (BOUND + BEYOND)) - BOUND) == pytest.approx(
        0.8, abs=0.001
    )
