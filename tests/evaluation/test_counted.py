"""Whoever judges a chain has tried it: from Python as from `run`; planted markets and copies are no trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from gatecast.evaluation.ledger import ledger_path, read_trials, unrecorded
from gatecast.experiment import Control, Experiment, judge_chain, make_chain, run
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.samples.features.catalogue import CATALOGUE, register
from gatecast.studies.placebo import verdicts_of

QUICK: dict[str, Any] = {
    "features": ("ret_log_1",), "models": ("ridge", "logistic"), "schedule": Schedule(refit="1Y"),
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
}  # fmt: skip


def market(seed: int = 1, **columns: Any) -> pl.DataFrame:
    return synthetic.a1(800, seed).with_columns(**columns)


def tried(experiment: Experiment) -> int:
    """How many trials a judgement of the experiment's chain counts."""
    return judge_chain(experiment, make_chain(experiment, experiment.read().bars))["return"].trials


def test_a_judgement_counts_and_a_chain_alone_does_not() -> None:
    experiment = Experiment(bars=market(), **QUICK)
    chain = make_chain(experiment, experiment.read().bars)
    assert not ledger_path().exists()
    assert judge_chain(experiment, chain)["return"].trials == 1
    assert judge_chain(experiment, chain)["return"].trials == 1
    assert run(experiment).verdicts["return"]["trials"] == 1
    assert run(experiment.replace(horizon=3)).verdicts["return"]["trials"] == 2
    assert tried(experiment.replace(horizon=2)) == 3
    assert len(read_trials(ledger_path())) == 3


def test_three_columns_and_three_functions_of_one_name_are_three_trials() -> None:
    for seed in range(3):
        x = pl.Series(np.random.default_rng(seed).standard_normal(800))
        assert tried(Experiment(bars=market(x=x), **QUICK | {"features": ("ret_log_1", "x")})) == seed + 1


def test_functions_of_one_name_are_told_apart_by_what_they_make() -> None:
    for number in range(3):
        CATALOGUE.pop("mine", None)

        @register("mine", warmup=9)
        def lagged(close: np.ndarray, days: int = number + 1) -> np.ndarray:
            return np.r_[np.full(days + 1, np.nan), np.diff(np.log(close))[:-days]]

        assert tried(Experiment(bars=market(), **QUICK | {"features": ("ret_log_1", "mine")})) == number + 1
    CATALOGUE.pop("mine")


def test_another_name_for_the_market_hides_no_trial() -> None:
    assert tried(Experiment(bars=market(), **QUICK)) == 1
    renamed = market().with_columns(symbol=pl.lit("renamed"))
    assert tried(Experiment(bars=renamed, horizon=3, **QUICK)) == 2
    assert tried(Experiment(bars=market(seed=2), **QUICK)) == 1  # the same name, another market


def test_planted_markets_and_copies_are_no_trials() -> None:
    experiment = Experiment(bars=market(), control=Control(bars=800), **QUICK)
    run(experiment)
    assert [trial.symbols for trial in read_trials(ledger_path())] == [("A1",)]
    before = ledger_path().read_bytes()
    verdicts_of(experiment.replace(control=None, horizon=2), market())
    with unrecorded():
        assert tried(experiment.replace(horizon=4)) == 1
    assert ledger_path().read_bytes() == before
