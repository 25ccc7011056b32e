"""The study of cadences: a market that changes must show what refits are worth, and none may be counted twice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.errors import HistoryTooShortError
from gatecast.evaluation.ledger import ledger_path, read_trials
from gatecast.evaluation.paired import Paired
from gatecast.evaluation.record import Days
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.report.cadence import cadences_data, render_cadences
from gatecast.studies.cadence import (
    AGAINST,
    MONTHLY,
    MONTHS,
    NEVER,
    QUARTERLY,
    WARM,
    YEARLY,
    Cadences,
    cadence,
    difference,
    monthly,
)
from gatecast.trials import configuration

QUICK: dict[str, Any] = {
    "features": ("x",), "schedule": Schedule(train="1Y"),
    "model": {
        "lstm": LSTM(units=16, layers=1, seeds=2, epochs=4, learning_rate=5e-3),
    },
}  # fmt: skip
PLANTED = synthetic.b1(1400, seed=4, r2=0.15, symbols=3)
HALF = pl.col("time") > PLANTED["time"][600]
CHANGING = PLANTED.with_columns(x=pl.when(HALF).then(-pl.col("x")).otherwise(pl.col("x")))


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Cadences:
    """A market whose one pattern turns round half way."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        return cadence(Experiment(bars=CHANGING, **QUICK))


def without_seconds(found: Cadences) -> Cadences:
    return replace(found, costs={name: replace(cost, seconds=0.0) for name, cost in found.costs.items()})


def days_of(other: np.ndarray, own: np.ndarray) -> Days:
    day = np.datetime64("2010-01-01") + np.arange(len(own))
    nothing = np.full(len(own), np.nan)
    return Days(day, other, own, nothing, nothing)


# ── what it finds ─────────────────────────────────────────────────────────────────────────────────


def test_where_the_market_changes_refits_pay(changing: Cadences) -> None:
    found = {(one.head, one.cadence, one.against): one for one in changing.differences}
    for head in ("return", "direction"):
        for name in (MONTHLY, QUARTERLY, YEARLY, WARM):
            assert found[head, name, NEVER].low > 0
        assert found[head, MONTHLY, NEVER].statistic > 3
        assert found[head, MONTHLY, NEVER].pvalue_holm < 0.05
        assert found[head, MONTHLY, YEARLY].gain > 0
        assert found[head, MONTHLY, NEVER].sentence in changing.sentences[head]
        assert "less than a fit that is never renewed" in changing.sentences[head]


def test_gains_are_shares_of_the_losses_beside_them(changing: Cadences) -> None:
    loss = {(score.head, score.cadence): score.loss for score in changing.scores}
    assert {(one.cadence, one.against) for one in changing.differences} == set(AGAINST)
    for one in changing.differences:
        assert one.gain == pytest.approx(1 - loss[one.head, one.cadence] / loss[one.head, one.against])
        assert one.low < one.gain < one.high
        assert one.days == changing.days
        assert one.comparisons == 4 * len(AGAINST)
        assert one.pvalue <= one.pvalue_holm <= 1
    assert all(0 < score.seed_spread < 1 for score in changing.scores)


def test_cost_counts_every_network_and_its_epochs(changing: Cadences) -> None:
    refits, costs = changing.refits["index"], changing.costs
    assert refits > 36
    for name, months in MONTHS.items():
        assert costs[name].fits == 2 * -(-refits // months)
        assert costs[name].fits <= costs[name].epochs <= 4 * costs[name].fits
        assert costs[name].seconds > 0
    one = next(one for one in changing.differences if (one.cadence, one.against) == (MONTHLY, YEARLY))
    assert one.cost == costs[MONTHLY].epochs / costs[YEARLY].epochs
    assert changing.rows == 3 * changing.days


def test_jobs_change_nothing_but_the_seconds() -> None:
    small = Experiment(bars=synthetic.b1(520, seed=4, r2=0.15, symbols=2), **QUICK)
    one, two = (cadence(small, machine=Machine(jobs=jobs)) for jobs in (1, 2))
    assert json.dumps(without_seconds(one).to_dict()) == json.dumps(without_seconds(two).to_dict())


def test_cadences_that_never_part_are_the_same_fits() -> None:
    """Ten refits: the yearly fit is never renewed either."""
    bars = synthetic.b1(520, seed=4, r2=0.15)
    found = cadence(Experiment(bars=bars, **QUICK | {"model": {"lstm": LSTM(units=16, layers=1, seeds=1, epochs=1)}}))
    assert found.refits["index"] < 12
    same = [one for one in found.differences if (one.cadence, one.against) == (YEARLY, NEVER)]
    assert {one.reason for one in same} == {"they are the same fits"}
    assert "nothing to tell (they are the same fits)" in same[0].sentence
    assert {one.comparisons for one in found.differences if not one.reason} == {4 * (len(AGAINST) - 1)}
    assert all(np.isnan(score.seed_spread) for score in found.scores)
    assert [note.split(":")[0] for note in found.notes] == ["Only 1 symbol(s)", "Only 1 network(s) in an ensemble"]
    json.dumps(found.to_dict(), allow_nan=False)
    assert "nan" not in found.summary()


def test_the_difference_of_two_losses_that_are_known() -> None:
    draw = np.random.default_rng(0)
    other = 1 + 0.1 * draw.standard_normal(1000)
    better = other - 0.02 + 0.05 * draw.standard_normal(1000)
    one = difference("return", Paired(MONTHLY, NEVER, days_of(other, better), 1), 5.0)
    assert one.gain == pytest.approx((other - better).mean() / other.mean())
    assert 0.015 < one.low < 0.02 < one.high < 0.025
    back = difference("return", Paired(NEVER, MONTHLY, days_of(better, other), 1), 5.0)
    assert back.statistic == pytest.approx(-one.statistic)
    assert back.high < 0
    noise = difference("return", Paired(MONTHLY, NEVER, days_of(other, draw.permutation(other)), 1), 5.0)
    assert not noise.certain
    few = difference("return", Paired(MONTHLY, NEVER, days_of(other[:70], better[:70]), 5), 5.0)
    assert few.reason == "70 days are too few, 75 are the least"
    assert np.isnan(few.statistic)


# ── what it rests on ──────────────────────────────────────────────────────────────────────────────


def test_the_first_fit_has_a_whole_window() -> None:
    made = monthly(Schedule(refit="1W", train="3Y"), LSTM())
    assert (made.refit, made.train, made.minimum) == ("1M", "3Y", "3Y")
    assert monthly(Schedule(), LSTM(window="4Y")).minimum == "4Y"
    assert monthly(Schedule(expanding=True), LSTM()).minimum == "1Y"
    with pytest.raises(HistoryTooShortError):
        cadence(Experiment(bars=synthetic.b1(300, seed=1), **QUICK))


def test_every_cadence_is_a_trial_once() -> None:
    bars = synthetic.b1(420, seed=4, r2=0.15)
    experiment = Experiment(bars=bars, **QUICK | {"model": {"lstm": LSTM(units=16, layers=1, seeds=1, epochs=1)}})
    assert cadence(experiment).trials == len(read_trials(ledger_path())) == len(MONTHS)
    assert cadence(experiment.replace(name="again")).trials == len(MONTHS)
    hashes = [trial.settings_hash for trial in read_trials(ledger_path())]
    assert len(set(hashes)) == len(hashes)
    same = experiment.replace(
        schedule=monthly(experiment.schedule, experiment.network)
    )  # a run with it is the monthly one
    assert configuration(same) == hashes[0]
    assert configuration(same.with_model("lstm", same.network.replace(every=3))) == hashes[1]
    assert configuration(same.with_model("lstm", same.network.replace(warm_start=True))) == hashes[-1]
    assert configuration(same.replace(seed=1)) not in hashes


# ── how it is shown ───────────────────────────────────────────────────────────────────────────────


def test_the_frame_has_every_score_and_comparison(changing: Cadences) -> None:
    frame = changing.to_frame()
    assert frame.select("head", "cadence", "against").n_unique() == len(frame) == 4 * (len(AGAINST) + 1)
    assert frame.filter(pl.col("against").is_null())["cadence"].unique().to_list() == [NEVER]
    told = frame.filter(pl.col("head") == "return", pl.col("cadence") == QUARTERLY, pl.col("against") == YEARLY)
    one = next(
        one for one in changing.differences if (one.head, one.cadence, one.against) == ("return", QUARTERLY, YEARLY)
    )
    assert told["gain"].item() == one.gain
    assert told["epochs"].item() == changing.costs[QUARTERLY].epochs


def test_the_summary_fits_the_page_and_says_what_is_thin(changing: Cadences) -> None:
    text = changing.summary()
    assert max(map(len, text.splitlines())) <= 100
    assert "Only 3 symbol(s)" in text
    assert "Only 2 network(s)" in text
    for name in MONTHS:
        assert text.count(f"\n  {name} ") >= 5


def test_the_page_shows_what_was_found_and_nothing_from_elsewhere(changing: Cadences) -> None:
    data = cadences_data(changing)
    assert list(data) == changing.heads
    for head, points in data.items():
        assert [point["cadence"] for point in points] == ["never", "monthly", "quarterly", "yearly", "monthly warm"]
        gains = {one.cadence: one.gain for one in changing.differences if (one.head, one.against) == (head, NEVER)}
        assert points[1]["gain"] == gains[MONTHLY]
        assert points[1]["cost"] > points[2]["cost"] > points[3]["cost"] > points[0]["cost"] == 1
    page = render_cadences(changing)
    assert "default-src 'none'" in page
    assert changing.sentences["direction"].split(" (")[0] in page
    evil = replace(changing, notes=("<script>alert(1)</script>",))
    assert "<script>alert(1)" not in render_cadences(evil)


def test_settings_of_the_cadence_are_the_studys_own() -> None:
    bars = synthetic.b1(420, seed=4, r2=0.15)
    tiny = LSTM(units=16, layers=1, seeds=1, epochs=1)
    plain, odd = (
        cadence(Experiment(bars=bars, **QUICK | {"model": {"lstm": lstm}}))
        for lstm in (tiny, tiny.replace(every=5, warm_start=True))
    )
    assert without_seconds(plain).to_dict() == without_seconds(odd).to_dict()
