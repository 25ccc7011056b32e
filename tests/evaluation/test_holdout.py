"""The sealed hold-out: nothing reads it, it is opened once, and what it showed is measured and written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up import made_up

from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation import holdout
from gatecast.evaluation.holdout import Opening, measure, record_opening, refuse_second, sharpe_error, state_of
from gatecast.evaluation.ledger import Trial, record_trial
from gatecast.forecasting.ensemble import Ensemble
from gatecast.samples.windows import Samples

DAY = "2004-01-01"
SYMBOLS = ("B1_0", "B1_1")


def equity(samples: Samples, drift: float) -> pl.DataFrame:
    """A book that earns `drift` a bar before the day and nothing after it, beside a market that goes nowhere."""
    times = np.unique(samples.times)
    draws = np.random.default_rng(0)
    net = 0.005 * draws.standard_normal(len(times)) + np.where(times < np.datetime64(DAY), drift, 0.0)
    market = np.cumprod(1 + 0.01 * draws.standard_normal(len(times)))
    return pl.DataFrame({"time": pl.Series(times).dt.replace_time_zone("UTC"), "net": net, "benchmark": market})


def test_what_is_gone_is_counted_before_and_after(samples: Samples) -> None:
    skilled = Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3)))
    found = measure({"index": skilled}, equity(samples, 0.002), DAY, periods_per_year=252)
    by_head = {one["head"]: one for one in found["heads"]}
    assert set(by_head) == {"return", "direction", "volatility", "regime", "strategy"}
    for one in by_head.values():
        assert one["n_before"] > 100 < one["n_after"]
        assert one["shrinkage"] == pytest.approx(1 - one["after"] / one["before"])
    assert by_head["return"]["after_low"] > 0
    assert "above 0 beyond doubt" in by_head["return"]["sentence"]
    assert by_head["strategy"]["shrinkage"] > 0.6
    frame = equity(samples, 0.002)
    late = frame.filter(pl.col("time") >= pl.lit(DAY).str.to_datetime(time_zone="UTC"))["net"].to_numpy()
    assert found["sharpe"]["after"] == pytest.approx(late.mean() / late.std(ddof=1) * 252**0.5, rel=1e-6)
    assert found["years"] == pytest.approx(len(late) / 252)


def test_an_answer_that_reaches_into_the_holdout_is_on_neither_side(samples: Samples) -> None:
    skilled = Ensemble().combine(made_up(samples, seed=1))
    found = measure({"index": skilled}, equity(samples, 0.0), DAY, periods_per_year=252)
    one = found["heads"][0]
    scored = skilled.rows[~np.isnat(samples.known_at[skilled.rows])]
    days = len(np.unique(samples.sessions[scored]))
    assert one["n_before"] + one["n_after"] == days - samples.horizon


def test_two_years_have_a_standard_error_of_seven_tenths() -> None:
    assert sharpe_error(2) == pytest.approx(0.7071, abs=1e-4)
    assert "0.71" in holdout.how_little(2)


def test_a_second_opening_is_refused_and_a_later_span_is_not(tmp_path: Path) -> None:
    file = tmp_path / "openings.jsonl"
    record_opening(Opening(SYMBOLS, "2017-01-01", "2018-12-31", "2026-01-02T03:04:05+00:00", "a"), file)
    with pytest.raises(SettingsError, match="2026-01-02 03:04 UTC, for B1_1 from 2017-01-01 to 2018-12-31"):
        refuse_second(["B1_1", "GOLD"], "2018-06-01", "9999-12-31", path=file)
    assert not refuse_second(["GOLD"], "2017-01-01", "9999-12-31", path=file)
    assert not refuse_second(SYMBOLS, "2019-01-01", "9999-12-31", path=file)
    assert len(refuse_second(SYMBOLS, "2017-01-01", "9999-12-31", again=True, path=file)) == 1


def test_an_opening_that_cannot_be_recorded_shows_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="only where that can be recorded"):
        record_opening(Opening(SYMBOLS, DAY, DAY, "now", ""), blocked / "openings.jsonl")


def test_a_sealed_run_says_who_has_looked_already(tmp_path: Path) -> None:
    openings, trials = tmp_path / "openings.jsonl", tmp_path / "trials.jsonl"
    state = state_of(SYMBOLS, DAY, path=openings, ledger=trials)
    assert "can be opened once" in state["sentence"]
    trial = Trial(SYMBOLS, "2000-01-03", "2003-12-31", "a", 0.0)
    record_trial(trial, trials)  # sealed
    assert state_of(SYMBOLS, DAY, path=openings, ledger=trials)["seen"] == 0
    record_trial(replace(trial, settings_hash="b", last="2005-12-30"), trials)
    state = state_of(SYMBOLS, DAY, path=openings, ledger=trials)
    assert state["seen"] == 1
    assert "one earlier trial read them without a seal" in state["sentence"]
    record_opening(Opening(SYMBOLS, DAY, "2005-12-30", "2026-01-02T03:04:05+00:00", "a"), openings)
    assert "opened on 2026-01-02" in state_of(SYMBOLS, DAY, path=openings, ledger=trials)["sentence"]


@pytest.mark.parametrize("wrong", ["2017", "2017-13-01", "soon", 2017])
def test_what_is_no_date_is_refused(wrong: object) -> None:
    from gatecast.experiment import Experiment

    with pytest.raises(SettingsError, match="expected a date such as 2017-01-01"):
        Experiment(holdout=wrong)
