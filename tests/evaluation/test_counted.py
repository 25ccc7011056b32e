"""Whoever judges a chain has tried it: from Python as from `run`; planted markets and copies are no trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import gatecast
from gatecast.chain import make_chain
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path, read_trials, unrecorded
from gatecast.evaluation.record import records_of
from gatecast.evaluation.trial import market_of, market_of_answers
from gatecast.evaluation.verdict import CANNOT_TELL, SKILL, Verdict
from gatecast.experiment import Control, Experiment
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.runs import run
from gatecast.samples.features.catalogue import FEATURES, register
from gatecast.samples.windows import make_samples
from gatecast.studies.placebo import verdicts_of
from gatecast.verdicts import judge_chain

QUICK: dict[str, Any] = {
    "book": {"core": {"kind": "none"}},
    "features": ("ret_log_1",), "models": ("ridge", "logistic"), "schedule": Schedule(refit="1Y"),
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
}  # fmt: skip


def market(seed: int = 1, **columns: Any) -> pl.DataFrame:
    return synthetic.a1(800, seed).with_columns(**columns)


def tried(experiment: Experiment) -> int | None:
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
        FEATURES.remove("mine")

        @register("mine", warmup=9)
        def lagged(close: np.ndarray, days: int = number + 1) -> np.ndarray:
            return np.r_[np.full(days + 1, np.nan), np.diff(np.log(close))[:-days]]

        assert tried(Experiment(bars=market(), **QUICK | {"features": ("ret_log_1", "mine")})) == number + 1
    FEATURES.remove("mine")


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


def test_judge_counts_the_trials_of_the_ledger_where_they_are_more() -> None:
    experiment = Experiment(bars=market(), **QUICK)
    chain = make_chain(experiment, experiment.read().bars)
    words: dict[str, Any] = {"round_trip": 0.001, "periods_per_year": 252.0, "sessions": chain.sessions}

    def judged(**given: Any) -> dict[str, Verdict]:
        return gatecast.judge(records_of(chain.forecasts), chain.net, chain.benchmark, **words | given)

    assert {one.trials for one in judged().values()} == {1}
    for horizon in (2, 3, 4):
        tried(experiment.replace(horizon=horizon))
    tried(Experiment(bars=market(seed=2), **QUICK))  # another market of the same name
    renamed = market().with_columns(symbol=pl.lit("renamed"))
    tried(Experiment(bars=renamed, horizon=6, **QUICK))
    for given in ({}, {"trials": 2}, {"trials": 2, "effective_trials": 1.0}):
        for verdict in judged(**given).values():
            assert verdict.trials == 4
            assert f"The ledger has 4 trials on this market and {given.get('trials', 1)} was given" in verdict.sentence
            assert verdict.pvalue_trials >= verdict.pvalue_holm or np.isnan(verdict.pvalue_holm)
    raw = judged()["return"]
    assert raw.pvalue_trials == pytest.approx(1 - (1 - raw.pvalue_holm) ** 4)
    assert {one.trials for one in judged(trials=9).values()} == {9}
    assert "The ledger has" not in judged(trials=4)["return"].sentence
    with unrecorded():
        assert judged()["return"].trials == 1
    assert len(read_trials(ledger_path())) == 5  # nothing is recorded by judging alone
    with pytest.raises(SettingsError, match="records has no head"):
        gatecast.judge({}, chain.net, chain.benchmark, round_trip=0.0, periods_per_year=252.0)


def test_the_returns_of_samples_are_those_of_their_bars() -> None:
    bars = synthetic.a1(400, 3, symbols=2)
    samples = make_samples(bars, ("ret_log_1",))
    by_answers, by_bars = market_of_answers(samples.values()), market_of(bars)
    assert by_answers.names == by_bars.names
    np.testing.assert_allclose(by_answers.links(by_bars).diagonal(), 1.0, atol=1e-5)


def test_nothing_is_evidence_of_skill_where_the_ledger_cannot_be_read() -> None:
    bars = synthetic.b1(1000, seed=3, r2=0.05)
    more = {"features": ("ret_log_1", "rsi_14", "x"), "schedule": Schedule(refit="1Y", train="1Y")}
    experiment = Experiment(bars=bars, **QUICK | more)
    chain = make_chain(experiment, bars)
    words: dict[str, Any] = {"round_trip": 0.001, "periods_per_year": 252.0, "sessions": chain.sessions}

    def judged() -> dict[str, Verdict]:
        return gatecast.judge(records_of(chain.forecasts), chain.net, chain.benchmark, **words)

    assert judge_chain(experiment, chain)["return"].verdict == SKILL == judged()["return"].verdict
    ledger_path().write_bytes(b"\x00")
    done = run(experiment)
    assert "cannot be told" in done.scores["summary"]["headline"]
    assert done.scores["backtest"]["trials"] is None
    for verdicts in (judge_chain(experiment, chain), judged()):
        assert {one.trials for one in verdicts.values()} == {None}
        assert SKILL not in {one.verdict for one in verdicts.values()}
        assert np.isnan(verdicts["return"].pvalue_trials)
        assert verdicts["return"].verdict == CANNOT_TELL
        assert f"The ledger {ledger_path()} cannot be read" in verdicts["return"].sentence
    assert done.verdicts["return"]["sentence"] == judge_chain(experiment, chain)["return"].sentence
