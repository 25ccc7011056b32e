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
from gatecast.errors import SettingsError
from gatecast.evaluation.estimate import BEYOND
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.power import UNDECIDABLE, power_of
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
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
    assert any("follows the x of the bar after its own" in one for one in said["models"]["early"]["leaks"])
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


RANGES = synthetic.b1(1500, seed=4, r2=0.01)
RANGE = (RANGES["high"] / RANGES["low"]).log().to_numpy() ** 2 / (4 * np.log(2))


def smoothed(values: FloatArray) -> FloatArray:
    """An exponential mean."""
    return pl.Series(values).ewm_mean(alpha=0.1).to_numpy()


@pytest.mark.parametrize(
    ("values", "doubtful"),
    [
        (smoothed(RANGE), False),
        (np.r_[smoothed(RANGE)[1:], np.nan], True),
        (0.5 * smoothed(RANGE) + 0.5 * np.r_[RANGE[1:], np.nan], True),
        (np.r_[RANGE[1:], np.nan], True),
    ],
    ids=["honest", "a bar early", "half the next range", "the answer"],
)
def test_a_variance_that_knows_the_next_range_is_noticed(values: FloatArray, doubtful: bool) -> None:
    with unrecorded():
        found = judge_forecasts(
            table_of(np.maximum(values, 1e-8), RANGES, "volatility"), RANGES, horizon=1, name="mine", copies=0
        )
    assert found.doubtful == doubtful


@pytest.mark.parametrize(("power", "noted"), [(1.0, False), (0.5, True)], ids=["variances", "standard deviations"])
def test_standard_deviations_given_for_variances_are_said(power: float, noted: bool) -> None:
    values = np.maximum(smoothed(RANGE), 1e-8) ** power
    with unrecorded():
        found = judge_forecasts(table_of(values, RANGES, "volatility"), RANGES, horizon=1, name="mine", copies=0)
    assert any("another unit" in note for note in found.notes) == noted
    assert ("standard deviations. Square them." in " ".join(found.summary().split())) == noted


def test_quantiles_whose_width_knows_the_move_are_a_leak() -> None:
    coming = np.abs(pl.Series(np.log(BARS["close"].to_numpy())).diff(5).shift(-5).to_numpy())
    rows = [table_of(sign * (0.01 + 0.5 * coming), head="value").with_columns(quantile=0.5 + 0.4 * sign)
            for sign in (-1, 0, 1)]  # fmt: skip
    with unrecorded():
        found = judge_forecasts(pl.concat(rows).fill_nan(None), BARS, horizon=5, name="mine").models["mine"]
    assert found.doubtful
    assert "the distance of the quantile" in found.leaks[0]


@pytest.mark.parametrize(
    ("share", "constant", "said"),
    [(0.5, 0.0, "no skill to judge"), (0.0, 0.0, "no skill to judge"), (0.0, 0.001, "no position does that")],
)
def test_cash_and_a_constant_share_of_the_market_are_no_skill(share: float, constant: float, said: str) -> None:
    close = BARS["close"].to_numpy()
    move = np.r_[0.0, np.diff(close) / close[:-1]]
    days = BARS["time"].dt.date().to_numpy().astype("datetime64[D]")
    cash = 0.03 * np.diff(days, prepend=days[:1]).astype(float) / 360
    table = pl.DataFrame({"day": BARS["time"].dt.date(), "net": share * move + (1 - share) * cash + constant})
    with unrecorded():
        found = judge_forecasts(table, BARS, name="mine", cash=0.03).models["mine"].verdicts["strategy"]
    assert said in found.sentence


def test_days_chosen_by_their_own_move_are_noticed() -> None:
    close = BARS["close"].to_numpy()
    move = np.r_[0.0, np.diff(close) / close[:-1]]
    days = BARS.select(day=pl.col("time").dt.date())
    with unrecorded():
        early, late = (
            judge_forecasts(days.with_columns(net=pl.Series(move * side)), BARS, name="mine", cash=0.0).models["mine"]
            for side in (move > -0.01, np.r_[True, move[:-1] > -0.01])
        )
    assert early.doubtful
    assert not late.doubtful


def test_dividends_that_are_known_are_part_of_what_is_compared() -> None:
    close = BARS["close"].to_numpy()
    days = BARS["time"].dt.date()
    paid = pl.DataFrame(
        {"symbol": BARS["symbol"][0], "kind": "dividend", "date": days[50::50], "value": 0.02 * close[0]}
    )
    gift = np.zeros(len(close))
    gift[50::50] = 0.02 * close[0]
    net = np.r_[0.0, (np.diff(close) + gift[1:]) / close[:-1]]
    with unrecorded():
        found = judge_forecasts(
            pl.DataFrame({"day": days, "net": net}), BARS, name="mine", cash=0.0,
            actions=with_known_at(read_actions(paid), BARS),
        ).models["mine"].verdicts["strategy"]  # fmt: skip
    assert "no skill to judge" in found.sentence


def test_more_than_a_hundred_models_are_refused() -> None:
    rows = table_of(TRUE).join(pl.DataFrame({"model": [f"m{number}" for number in range(101)]}), how="cross")
    with pytest.raises(SettingsError, match="at most 100 are judged at once"):
        judge_forecasts(rows, BARS, horizon=5)


def test_a_model_may_go_by_the_name_of_a_rival() -> None:
    assert judged(TRUE, name="rival").models["rival"].verdicts["return"].verdict == "evidence of skill"


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
