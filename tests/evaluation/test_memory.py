"""A longer window against the sliding one: the test is statsmodels' mean test, the answer follows it."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import made_up, with_values
from scipy import stats

from gatecast.evaluation.memory import longer_windows
from gatecast.evaluation.record import records_of
from gatecast.evaluation.rivals import losses
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.runs import run
from gatecast.samples.windows import Samples


def test_the_row_is_the_mean_losses_and_the_corrected_test(samples: Samples) -> None:
    forecasts = made_up(samples, seed=2)
    noise = np.random.default_rng(0).standard_normal(len(samples))
    worse = forecasts.values["har"]["volatility"] * np.exp(0.5 * noise)
    both = with_values(
        with_values(forecasts, "ridge", volatility=worse),
        "ridge_long",
        volatility=forecasts.values["har"]["volatility"],
    )
    (row,) = longer_windows(records_of({"index": both}))
    sliding, everything = (losses(both, "volatility", name) for name in ("ridge", "ridge_long"))
    scored = np.isfinite(sliding)
    days, place = np.unique(samples.sessions[scored], return_inverse=True)
    each = [np.bincount(place, loss[scored]) / np.bincount(place) for loss in (sliding, everything)]
    assert (row["head"], row["model"], row["n"]) == ("volatility", "ridge", len(days))
    assert row["sliding"] == pytest.approx(each[0].mean())
    assert row["everything"] == pytest.approx(each[1].mean())
    gain, n, h = each[0] - each[1], len(days), samples.horizon_sessions
    centred = gain - gain.mean()
    spread = sum((1 if k == 0 else 2) * (centred[k:] @ centred[: n - k]) / n for k in range(h))
    correction = (n + 1 - 2 * h + h * (h - 1) / n) / n  # Harvey, Leybourne and Newbold
    statistic = gain.mean() / np.sqrt(spread / n) * np.sqrt(correction)
    assert row["statistic"] == pytest.approx(statistic)
    assert row["pvalue"] == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1))
    assert row["longer"] == "better"
    assert row["since"] == int(str(samples.times.min())[:4])


def test_the_answer_turns_with_the_sides_and_the_same_forecast_is_no_difference(samples: Samples) -> None:
    forecasts = made_up(samples, seed=2)
    good = forecasts.values["har"]["volatility"]
    bad = good * np.exp(0.5 * np.random.default_rng(0).standard_normal(len(samples)))
    found = []
    for sliding, everything in ((good, bad), (good, good)):
        both = with_values(with_values(forecasts, "ridge", volatility=sliding), "ridge_long", volatility=everything)
        found.append(longer_windows(records_of({"index": both}))[0]["longer"])
    assert found == ["worse", "no difference"]


def test_without_a_rival_on_everything_known_there_is_nothing_to_say(samples: Samples) -> None:
    assert longer_windows(records_of({"index": made_up(samples)})) == []


def test_cheap_models_run_on_everything_known_unless_they_do_already() -> None:
    def names(**settings: object) -> set[str]:
        return set(Experiment(**settings).panel)

    assert {"ridge_long", "logistic_long"} <= names()
    assert not {"ridge_long", "logistic_long"} & names(schedule=Schedule(expanding=True))
    without = names(model={"ridge": {"window": "expanding"}})
    assert "ridge_long" not in without
    assert "logistic_long" in without
    assert "ridge_long" not in names(models=("lstm", "forest", "logistic"))


def test_a_run_says_what_a_longer_window_does_and_what_the_lstm_takes_in() -> None:
    experiment = Experiment(
        bars=synthetic.b1(900, seed=1, r2=0.05), features=("ret_log_1", "x"), schedule=Schedule(refit="6M"),
        model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2, selection=True), "forest": Forest(trees=5)},
        models=("lstm", "forest", "logistic", "ridge", "logistic_long", "ridge_long"),
    )  # fmt: skip
    found = run(experiment)
    rows = {(row["head"], row["model"]) for row in found.scores["windows"]}
    linear = {("return", "ridge"), ("volatility", "ridge")}
    assert rows == linear | {("direction", "logistic"), ("regime", "logistic")}
    assert all(row["window"] == "2Y" for row in found.scores["windows"])
    shares = found.scores["selection"]["index"]
    selected = found.classes["index"].forecasts.fitted["lstm"].selected
    assert {row["feature"] for row in shares} == {"ret_log_1", "x"}
    assert sum(row["mean"] for row in shares) == pytest.approx(1)
    by_name = dict(zip(("ret_log_1", "x"), zip(selected.min(0), selected.max(0), strict=True), strict=True))
    assert all((row["low"], row["high"]) == pytest.approx(by_name[row["feature"]]) for row in shares)
    assert len(selected) == len(found.classes["index"].forecasts.folds)
