"""The sealed hold-out: nothing reads it, it is opened once, and what it showed is measured and written down."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from made_up import made_up

from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation import holdout
from gatecast.evaluation.holdout import (
    Opening,
    measure,
    read_openings,
    record_opening,
    refuse_second,
    sharpe_error,
    state_of,
)
from gatecast.evaluation.ledger import record_trial
from gatecast.evaluation.record import records_of
from gatecast.evaluation.rivals import with_rival
from gatecast.evaluation.trial import Data, Trial, market_of
from gatecast.evaluation.verdict import CORE, Tilt
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.market import synthetic
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
    found = measure(records_of({"index": skilled}), equity(samples, 0.002), DAY, periods_per_year=252)
    by_head = {one["head"]: one for one in found["heads"]}
    assert set(by_head) == {"return", "direction", "volatility", "regime", "strategy"}
    for one in by_head.values():
        assert one["n_before"] > 100 < one["n_after"]
        assert one["shrinkage"] == pytest.approx(1 - one["after"] / one["before"])
    assert by_head["return"]["after_low"] > 0
    assert by_head["return"]["sentence"].endswith("and the whole interval is above 0.")
    assert by_head["strategy"]["shrinkage"] > 0.6
    frame = equity(samples, 0.002)
    late = frame.filter(pl.col("time") >= pl.lit(DAY).str.to_datetime(time_zone="UTC"))["net"].to_numpy()
    assert found["sharpe"]["after"] == pytest.approx(late.mean() / late.std(ddof=1) * 252**0.5, rel=1e-6)
    assert found["years"] == pytest.approx(len(late) / 252)


def test_the_gains_are_those_of_the_rows_on_either_side(samples: Samples) -> None:
    """Direction, against the base rate, by hand."""
    skilled = Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.1)))
    found = measure(records_of({"index": skilled}), equity(samples, 0.0), DAY, periods_per_year=252)
    by_head = {one["head"]: one for one in found["heads"]}
    answer = samples.targets["direction"].value[samples.ends]
    known = samples.targets["direction"].known_at[samples.ends]
    rival, model = ((answer - skilled.values[name]["direction"]) ** 2 for name in ("base_rate", "ensemble"))
    scored, day = np.isfinite(rival) & np.isfinite(model), np.datetime64(DAY)
    for side, rows in (("before", scored & (known < day)), ("after", scored & (samples.sessions >= day))):
        days = samples.sessions[rows]
        gain, base = (
            np.array([values[rows][days == one].mean() for one in np.unique(days)]) for values in (rival - model, rival)
        )
        width = max(10, min(50, len(gain) // 10))
        lag, b = width - 1, width / len(gain)
        bound = 1.6449 + 2.1859 * b + 0.3142 * b**2 - 0.3427 * b**3  # Kiefer and Vogelsang
        fit = sm.OLS(gain, np.ones(len(gain))).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})
        assert by_head["direction"][side] == pytest.approx(gain.mean() / base.mean())
        low = (gain.mean() - bound * fit.bse[0]) / base.mean()
        assert by_head["direction"][f"{side}_low"] == pytest.approx(low, rel=1e-4)
        assert by_head["direction"][f"n_{side}"] == len(gain)
    frame = equity(samples, 0.0)
    wealth, net = np.r_[1.0, frame["benchmark"].to_numpy()], frame["net"].to_numpy()
    late = frame["time"].dt.replace_time_zone(None).to_numpy() >= day
    alpha = sm.OLS(net[late], sm.add_constant((np.diff(wealth) / wealth[:-1])[late])).fit().params[0]
    assert by_head["strategy"]["after"] == pytest.approx(252 * alpha)


def test_several_bars_a_session_are_one_day(samples: Samples) -> None:
    skilled = Ensemble().combine(made_up(samples, seed=1))
    whole = equity(samples, 0.002)
    hours = [
        whole.with_columns(pl.col("time") - pl.duration(hours=k), net=(1 + pl.col("net")).sqrt() - 1) for k in (1, 0)
    ]
    hourly = pl.concat(hours).sort("time")
    daily, found = (
        measure(records_of({"index": skilled}), frame, DAY, periods_per_year=periods)
        for frame, periods in ((whole, 252), (hourly, 504))
    )
    assert found["years"] == pytest.approx(daily["years"])
    assert found["heads"][-1]["n_after"] == daily["heads"][-1]["n_after"]
    assert found["sharpe"]["after"] == pytest.approx(daily["sharpe"]["after"])


def test_too_little_to_measure_is_said(samples: Samples) -> None:
    skilled = Ensemble().combine(made_up(samples, seed=1))
    last = str(samples.sessions.max().astype("datetime64[D]") - 20)
    found = measure(records_of({"index": skilled}), equity(samples, 0.0), last, periods_per_year=252)
    for one in found["heads"]:
        assert np.isnan(one["after"])
        assert "too little in the hold-out to measure" in one["sentence"]
    flat = equity(samples, 0.0).with_columns(net=pl.lit(0.0))
    found = measure(records_of({"index": skilled}), flat, DAY, periods_per_year=252)
    assert np.isnan(found["heads"][-1]["after"])
    assert "held almost no position in the hold-out" in found["heads"][-1]["sentence"]
    days = pl.Series(flat["time"]).dt.date().to_numpy().astype("datetime64[D]")
    core = 0.01 * np.random.default_rng(1).standard_normal(len(days))
    added = Tilt(core + 0.001, core, np.ones(len(days), bool), days, 252.0)
    words = {"periods_per_year": 252, "tilt": replace(added, both=added.both + 0.01 * np.roll(core, 7))}
    tilted = measure(records_of({"index": skilled}), flat, DAY, **words)["heads"][-1]  # type: ignore[arg-type]
    assert tilted["rival"] == CORE
    assert tilted["after"] == pytest.approx(0.252, rel=0.1)
    assert tilted["sentence"].startswith("The core with its tilt against the core alone: ")
    words["tilt"] = replace(added, held=days < np.datetime64(DAY))
    tilted = measure(records_of({"index": skilled}), flat, DAY, **words)["heads"][-1]  # type: ignore[arg-type]
    assert tilted["sentence"] == "Almost nothing was added to the core in the hold-out: no gain can be measured."
    same = skilled.with_model(
        "ensemble", {**skilled.values["ensemble"], "volatility": with_rival(skilled).values["rival"]["volatility"]}
    )
    found = measure(records_of({"index": same}), flat, DAY, periods_per_year=252)
    assert found["heads"][2]["rival"] == "rival"
    assert "that of the rival, the best simple forecast so far, throughout" in found["heads"][2]["sentence"]
    nothing = measure(records_of({"index": skilled}), flat, "1999-01-01", periods_per_year=252)
    assert all(np.isnan(one["before"]) for one in nothing["heads"])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((0.10, 0.05, 0.15), (0.06, 0.01, 0.11), "40% of it is gone, and the whole interval is above 0"),
        (
            (0.10, 0.05, 0.15),
            (-0.02, -0.1, 0.06),
            "all of it is gone; the gain before the hold-out is outside",
        ),
        ((0.10, 0.05, 0.15), (0.04, -0.1, 0.18), "60% of it is gone; the hold-out is too short to decide"),
        ((0.10, 0.05, 0.15), (0.12, -0.1, 0.34), "none of it is gone; the hold-out is too short to decide"),
        ((-0.1, -0.2, 0.01), (0.12, -0.1, 0.34), "there was nothing to confirm"),
        ((np.nan,) * 3, (0.12, -0.1, 0.34), "before it no gain could be measured"),
        ((0.10, 0.05, 0.15), (np.nan,) * 3, "held almost no position in the hold-out"),
    ],
)
def test_what_is_left_in_words(before: tuple[float, ...], after: tuple[float, ...], said: str) -> None:
    assert said in holdout._in_words("The strategy", "buy and hold", before, after, 500)


def test_an_opening_says_what_speaks_against_it(samples: Samples) -> None:
    earlier = [Opening(SYMBOLS, DAY, DAY, f"202{year}-01-02T03:04:05+00:00", "a") for year in (5, 6)]
    assert holdout.reservations([], 0, 1.0) == []
    assert "opened 2 times before, last on 2026-01-02" in holdout.reservations(earlier, 3, 1.0)[0]
    assert "3 earlier trials had read it" in holdout.reservations([], 3, 1.0)[0]
    assert "3 earlier trials had read it" in holdout.reservations(earlier, 3, 1.0)[1]
    forecasts = made_up(samples, seed=1)
    frame = forecasts.to_frame()
    assert holdout.same_past(frame, forecasts.to_frame()) == 1.0
    other = frame.with_columns(pl.when(pl.int_range(pl.len()) % 10 == 0).then(9.0).otherwise("value").alias("value"))
    same = holdout.same_past(other, forecasts.to_frame())
    assert same == pytest.approx(0.9, abs=1e-4)
    assert holdout.reservations([], 0, same) == [
        "Of the sealed run's forecasts 90.0% are the same: its bars or the program have changed."
    ]


def test_an_answer_that_reaches_into_the_holdout_is_on_neither_side(samples: Samples) -> None:
    skilled = Ensemble().combine(made_up(samples, seed=1))
    found = measure(records_of({"index": skilled}), equity(samples, 0.0), DAY, periods_per_year=252)
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
        refuse_second(["B1_1", "GOLD"], "2018-06-01", path=file)
    with pytest.raises(SettingsError, match="only the first opening is a test on unseen data"):
        refuse_second(SYMBOLS, "2015-01-01", path=file)  # an earlier seal would show them again
    assert not refuse_second(["GOLD"], "2017-01-01", path=file)
    assert not refuse_second(SYMBOLS, "2019-01-01", path=file)
    assert len(refuse_second(SYMBOLS, "2017-01-01", again=True, path=file)) == 1
    refuse_second(SYMBOLS, "2019-01-01", path=file)


@pytest.mark.parametrize("wrong", ["{", "[]", "null", {"symbols": "B1_0"}, {"first": 3}, {"last": "soon"}])
def test_openings_that_cannot_be_read_are_passed_over(tmp_path: Path, wrong: str | dict[str, object]) -> None:
    file = tmp_path / "openings.jsonl"
    opening = Opening(SYMBOLS, "2017-01-01", "2018-12-31", "2026-01-02T03:04:05+00:00", "a")
    record_opening(opening, file)
    line = wrong if isinstance(wrong, str) else json.dumps(json.loads(file.read_text()) | wrong)
    file.write_text(file.read_text() + line)  # cut short: no end of line
    record_opening(opening, file)
    assert read_openings(file) == [opening, opening]


def test_an_opening_that_cannot_be_recorded_shows_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="only where that can be recorded"):
        record_opening(Opening(SYMBOLS, DAY, DAY, "now", ""), blocked / "openings.jsonl")


def test_a_sealed_run_says_who_has_looked_already(tmp_path: Path) -> None:
    openings, trials = tmp_path / "openings.jsonl", tmp_path / "trials.jsonl"
    state = state_of(SYMBOLS, DAY, path=openings, ledger=trials)
    assert "can be opened once" in state["sentence"]
    assert state_of(SYMBOLS, date(2004, 1, 1), path=openings, ledger=trials) == state
    trial = Trial(SYMBOLS, "2000-01-03", "2003-12-31", "a", 0.0)
    record_trial(trial, trials)  # sealed
    assert state_of(SYMBOLS, DAY, path=openings, ledger=trials)["seen"] == 0
    record_trial(replace(trial, settings_hash="b", last="2005-12-30"), trials)
    state = state_of(SYMBOLS, DAY, path=openings, ledger=trials)
    assert state["seen"] == 1
    assert "one earlier trial read them without a seal" in state["sentence"]
    record_trial(replace(trial, settings_hash="b", first="2000-02-03", last="2006-01-31"), trials)  # it slid on
    assert state_of(SYMBOLS, DAY, path=openings, ledger=trials)["seen"] == 1
    record_opening(Opening(SYMBOLS, DAY, "2005-12-30", "2026-01-02T03:04:05+00:00", "a"), openings)
    assert "opened on 2026-01-02" in state_of(SYMBOLS, DAY, path=openings, ledger=trials)["sentence"]


@pytest.mark.parametrize("name", ["openings.jsonl", "trials.jsonl"])
def test_a_record_that_cannot_be_read_promises_no_first_look(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{garbage\n")
    state = state_of(SYMBOLS, DAY, path=tmp_path / "openings.jsonl", ledger=tmp_path / "trials.jsonl")
    assert "It cannot be known whether they were read or opened before: 1 line of" in state["sentence"]
    assert name in state["sentence"]
    (said,) = holdout.reservations([], 0, 1.0, ["1 line of it cannot be read."])
    assert said == "It cannot be known whether this hold-out was read or opened before: 1 line of it cannot be read."


@pytest.mark.parametrize("wrong", ["2017", "2017-13-01", "soon", 2017])
def test_what_is_no_date_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match="expected a date from 1700 to 2200, such as 2017-01-01"):
        Experiment(holdout=wrong)


def test_a_holdout_is_seen_under_any_name_and_by_no_namesake(tmp_path: Path) -> None:
    """What was seen goes by the returns before the seal, in the ledger and among the openings."""
    openings, trials = tmp_path / "openings.jsonl", tmp_path / "trials.jsonl"
    bars = synthetic.a1(900, seed=1)
    day = str(bars["time"][600].date())
    own = market_of(bars.filter(pl.col("time") < bars["time"][600]))  # what a sealed run has
    names, last = ("A1",), str(bars["time"].max().date())

    def ledger_with(seed: int, name: str) -> None:
        market = market_of(synthetic.a1(900, seed=seed).with_columns(symbol=pl.lit(name)))
        record_trial(
            Trial((name,), "2000-01-03", last, "a", 0.0, data=Data("", market_key=market.key, market=market)), trials
        )

    def seen() -> int:
        return int(state_of(names, day, market=own, path=openings, ledger=trials)["seen"])

    ledger_with(2, "A1")  # another market of the same name
    ledger_with(3, "OTHER")
    assert seen() == 0
    assert state_of(names, day, path=openings, ledger=trials)["seen"] == 1  # by name, where returns are not known
    ledger_with(1, "RENAMED")
    assert seen() == 1
    opening = Opening(("RENAMED",), day, last, "2026-01-02T03:04:05+00:00", "a")
    namesake = Opening(names, day, last, "2026-01-01T03:04:05+00:00", "a")
    record_opening(namesake, openings, market_of(synthetic.a1(900, seed=2)))
    assert not refuse_second(names, day, market=own, path=openings)
    record_opening(opening, openings, market_of(bars.with_columns(symbol=pl.lit("RENAMED"))))
    with pytest.raises(SettingsError, match="was opened on 2026-01-02 03:04 UTC, for RENAMED"):
        refuse_second(names, day, market=own, path=openings)
    assert "opened on 2026-01-02" in state_of(names, day, market=own, path=openings, ledger=trials)["sentence"]


def test_openings_that_were_emptied_promise_no_first_look(tmp_path: Path) -> None:
    openings, trials = tmp_path / "openings.jsonl", tmp_path / "trials.jsonl"
    record_opening(Opening(SYMBOLS, DAY, DAY, "2026-01-02T03:04:05+00:00", "a"), openings)
    openings.write_bytes(b"")
    said = state_of(SYMBOLS, DAY, path=openings, ledger=trials)["sentence"]
    assert f"It cannot be known whether they were read or opened before: {openings} has 0 of the 1 lines" in said


@pytest.mark.parametrize("name", ["holdout", "start", "end", "as_of"])
@pytest.mark.parametrize("day", ["0000-01-01", "0001-01-01", "0001-01-02", "1699-12-31", "2201-01-01", "9999-12-31"])
def test_a_day_without_markets_is_refused_with_what_is_expected(name: str, day: str) -> None:
    settings = {name: day} if name == "holdout" else {"bars": {name: day}}
    with pytest.raises(SettingsError, match=f"{name} = '{day}': expected a date from 1700 to 2200"):
        Experiment(**settings)


@pytest.mark.parametrize("found", [3, {}, {"heads": [{}]}, {"heads": [], "sharpe": {}, "last": "2018-12-31"}])
def test_what_an_opening_showed_is_passed_over_where_it_is_nothing_of_the_kind(tmp_path: Path, found: object) -> None:
    file = tmp_path / "openings.jsonl"
    opening = Opening(SYMBOLS, "2017-01-01", "2018-12-31", "2026-01-02T03:04:05+00:00", "a")
    record_opening(opening, file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"found": found}) + "\n")
    assert read_openings(file) == []
