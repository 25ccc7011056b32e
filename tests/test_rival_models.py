"""The models that run only where the settings name them: one chain with all of them, stored, live and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast import store
from gatecast.experiment import Experiment
from gatecast.forecasting.panel import MODELS, known_names
from gatecast.live import forecast_newest
from gatecast.market import synthetic
from gatecast.report.page import render, report_data
from gatecast.runs import Run, run
from gatecast.settings import to_toml

NAMED = ("lstm", "forest", "logistic", "tft", "garch", "gjr", "markov")
HEADS = {
    "tft": {"return", "direction", "volatility", "regime"}, "garch": {"volatility"}, "gjr": {"volatility"},
    "markov": {"regime"}, "har_regime": {"regime"},
}  # fmt: skip


def experiment(bars: pl.DataFrame) -> Experiment:
    return Experiment(
        bars=bars, features=("ret_log_1", "x"), too_good=("planted",), models=NAMED,
        schedule={"refit": "3M", "minimum": "2Y"},
        model={
            "lstm": {"units": 16, "layers": 1, "seeds": 1, "epochs": 1}, "forest": {"trees": 3},
            "tft": {"units": 4, "epochs": 1, "attention_heads": 1}, "garch": {"minimum": 400, "every": 1},
            "gjr": {"minimum": 400, "every": 1}, "markov": {"starts": 1},
        },
        ensemble={"members": ("lstm", "forest", "logistic", "tft"), "volatility_members": ("tft", "har", "gjr"),
                  "volatility_base": ("tft", "gjr"), "minimum_days": 20},
    )  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(900, seed=1, r2=0.05, symbols=2)


@pytest.fixture(scope="module")
def done(bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATECAST_DATA", str(tmp_path_factory.mktemp("data")))
        first, last = bars["time"].unique().sort().gather([0, 860])
        finished = run(experiment(bars.filter(pl.col("time").is_between(first, last))))
        yield store.save_run(finished, tmp_path_factory.mktemp("runs") / "all")


def test_every_model_forecasts_its_heads_and_nothing_leaks(done: Run) -> None:
    found = done.forecasts.group_by("model").agg(pl.col("head").unique()).rows()
    assert {model: set(heads) for model, heads in found if model in HEADS} == HEADS
    assert set(NAMED) <= {model for model, _ in found}
    assert done.scores["audit"]["clean"], done.scores["audit"]
    assert (done.forecasts.filter(pl.col("head") == "volatility")["value"] > 0).all()


def test_the_ensemble_hears_the_transformer(done: Run) -> None:
    (forecasts,) = (one.forecasts for one in done.classes.values())
    three = done.experiment.ensemble.replace(members=("lstm", "forest", "logistic"), volatility_members=("har", "gjr"))
    without = three.combine(forecasts)
    for model, head in (("equal_weight", "direction"), ("ensemble", "volatility")):
        ours, others = (one.values[model][head][one.rows] for one in (forecasts, without))
        assert (ours != others).any(), head


def test_the_same_settings_give_the_same_bytes(done: Run) -> None:
    again, parts = run(done.experiment), store.run_parts(done)
    for name, content in store.run_parts(again).items():
        if name != "provenance.json":
            assert content == parts[name], name
    assert again.provenance.keys() == done.provenance.keys()


def test_a_forecast_made_live_is_that_of_the_models_of_the_last_refit(done: Run, bars: pl.DataFrame) -> None:
    assert done.path is not None
    newest = forecast_newest(done.path, bars)
    assert {row["symbol"] for row in newest} == set(bars["symbol"])
    for row in newest:
        assert row["time"] == bars["time"].max()
        assert np.isfinite([row["volatility"], row["regime_probability"], row["probability_up"]]).all()
    models = store.load_models(done.path)["index"]
    assert set(NAMED) <= models.keys()


def test_the_report_says_what_each_model_gained_and_cost(done: Run) -> None:
    costs = report_data(done)["costs"]
    assert [row["model"] for row in costs["rows"]] == list(NAMED)
    loss = {(row["model"], row["head"]): row["loss"] for row in done.scores["models"]}
    of = {row["model"]: row for row in costs["rows"]}
    assert of["lstm"]["gains"] == {}
    for model in NAMED[1:]:
        for head, gain in of[model]["gains"].items():
            assert gain == pytest.approx((loss["lstm", head] - loss[model, head]) / loss["lstm", head])
    assert of["markov"]["gains"].keys() == {"regime"}
    assert of["tft"]["gains"].keys() == HEADS["tft"]
    assert all(row["seconds"] == done.provenance["seconds"][row["model"]] >= 0 for row in costs["rows"])
    assert of["tft"]["seconds"] > 0
    page = render(done)
    assert "and training time" in page
    assert "Temporal Fusion Transformer" in page
    assert "seconds" not in str(done.scores.keys())


def test_they_are_no_part_of_the_defaults() -> None:
    assert Experiment().models == MODELS
    assert set(known_names()) - set(MODELS) == {"tft", "gjr", "markov"}
    names = set(Experiment().panel)
    assert not names & {"tft", "gjr", "markov"}
    assert {"har_regime", "garch"} <= names


def test_their_settings_are_said_once_and_come_back(tmp_path: Path) -> None:
    one = Experiment(
        models=NAMED,
        horizon=3,
        lookback=20,
        seed=7,
        model={"garch": {"every": 6}, "gjr": {"every": 6}, "tft": {"window": "4Y"}},
    )
    file = tmp_path / "one.toml"
    file.write_text(to_toml(one), encoding="utf-8")
    assert Experiment.from_toml(file) == one
    of = one.panel
    assert (of["tft"].horizon, of["tft"].lookback, of["tft"].seed, of["markov"].seed) == (3, 20, 7, 7)
    assert (of["garch"].asymmetric, of["gjr"].asymmetric, of["gjr"].every) == (False, True, 6)
