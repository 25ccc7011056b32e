"""Money in a run's results: ends of symbols, where orders are filled, rows a year; nothing of it from later bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from gatecast.audits.leaks import Audit
from gatecast.chain import Chain, make_chain
from gatecast.evaluation.trial import Trial
from gatecast.evaluation.verdict import NOTHING, SKILL, Verdict
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.market.actions import SCHEMA as ACTIONS
from gatecast.market.bars import make_bars
from gatecast.market.facts import Facts
from gatecast.runs import run
from gatecast.scores import deflation, ends_in_words, ends_of, fill_in_words, headline, names_of, stops_in_words
from gatecast.verdicts import judge_chain

LINEAR: dict[str, Any] = {
    "features": ("x", "ret_log_1"),
    "models": ("ridge", "logistic"),
    "schedule": {"refit": "6M"},
    "signals": {"model": "ridge", "confirmed_by": "ridge"},
    "ensemble": {
        "members": ("ridge", "logistic"),
        "volatility_members": ("har_symbol", "har_class", "har_smooth", "constant"),
    },
    "selection": {"evidence": 1.0},
}


def wild_market() -> pl.DataFrame:
    """Five planted equities: one stops, one returns after a hundred sessions, one halts with a loss."""
    bars = synthetic.b1(1200, seed=3, r2=0.08, symbols=5).with_columns(asset_class=pl.lit("equity"))
    row, name = pl.int_range(pl.len()).over("symbol"), pl.col("symbol")
    names = bars["symbol"].unique().sort().to_list()
    gone = (name == names[0]) & (row > 800)
    away = (name == names[1]) & row.is_between(850, 949)
    halt = (name == names[2]) & row.is_between(900, 911)
    fall = pl.when((name == names[2]) & (row > 911)).then(0.7).otherwise(1.0)
    bars = bars.with_columns(pl.col("open", "high", "low", "close") * fall).filter(~(gone | away | halt))
    return make_bars(bars.drop("segment"))


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    return wild_market()


@pytest.fixture(scope="module")
def told(market: pl.DataFrame) -> pl.DataFrame:
    """The first symbol's last return, known sixty-five sessions after its last bar."""
    own = market.filter(pl.col("symbol") == market["symbol"][-1])["time"]
    row = (market["symbol"][0], "delisting", own[801].date(), -0.6, own[870])
    return pl.DataFrame([row], schema=ACTIONS, orient="row")


@pytest.fixture(scope="module")
def chain(market: pl.DataFrame, told: pl.DataFrame) -> Chain:
    return make_chain(Experiment(bars=market, **LINEAR), market, actions=told)


def test_ends_and_halts_change_no_earlier_decision(market: pl.DataFrame, told: pl.DataFrame, chain: Chain) -> None:
    """Weights, the money made of them and the strategies' records are the same at each cut, to the bit."""
    times = market["time"].unique().sort()
    (whole,) = chain.classes.values()
    for cut in (times[860], times[912], times[951]):
        past = pl.col("time") <= cut
        known = told.filter(pl.col("known_at") <= cut)
        part = make_chain(Experiment(bars=market, **LINEAR), market.filter(past), actions=known)
        assert part.weights.filter(past).equals(chain.weights.filter(past))
        assert part.result.equity.equals(chain.result.equity.filter(past))
        (one,) = part.classes.values()
        until = whole.samples.time <= np.datetime64(cut.replace(tzinfo=None))
        np.testing.assert_array_equal(one.net, whole.net[until])


def test_the_records_of_strategies_hold_through_halts_and_lose_at_ends(chain: Chain, market: pl.DataFrame) -> None:
    """The move to the reopening is in the record at the reopening; an end at the next forecast of the class."""
    (one,) = chain.classes.values()
    samples, held = one.samples, one.proposals.names.index("held_long")
    names = market["symbol"].unique().sort().to_list()
    own = np.flatnonzero(samples.symbol == samples.symbols.index(names[2]))
    reopening = own[900]
    weight = one.proposals.weights[reopening - 2, held]  # held since the fill of the bar before the halt
    assert weight > 0.2
    bars = market.filter(pl.col("symbol") == names[2])
    move = bars["open"][900] / bars["close"][899] - 1
    assert move < -0.2
    assert one.net[reopening, held] == pytest.approx(weight * move, rel=0.05)
    # with the terms of the first symbol's end, and without: the class's records differ where they are known, not before
    plain = make_chain(Experiment(bars=market, **LINEAR), market)
    (other,) = plain.classes.values()
    differ = np.flatnonzero(np.abs(one.net - other.net).max(axis=1) > 0)
    assert len(differ) == 1
    assert differ[0] in one.proposals.forecast_at
    assert plain.result.ends == {"known": 0, "default": 2, "vendor": 0, "returned": 1}
    assert chain.result.ends == {"known": 1, "default": 2, "vendor": 0, "returned": 1}


def test_the_verdict_is_repeated_without_default_losses(chain: Chain) -> None:
    assert chain.takes_default_terms
    experiment = Experiment(bars=chain.bars, **LINEAR)
    found, without = judge_chain(experiment, chain), judge_chain(experiment, chain.without_default_ends())
    assert found["strategy"].effect != without["strategy"].effect
    assert found["volatility"].pvalue == without["volatility"].pvalue  # no forecast is touched
    ends = ends_of(chain.result)
    last = chain.result.equity_without_default_ends
    assert last is not None
    assert ends["total_return_without_default"]["benchmark"] == last["benchmark"][-1] - 1
    assert ends["total_return"]["strategy"] == chain.result.equity["equity"][-1] - 1
    (said,) = ends_in_words(chain.result)
    assert said.startswith(
        "Symbols that ended: 1 with the last return given in the table of actions, 2 with the default loss"
    )
    assert said.endswith("1 resumed later and are booked at the move to their first fill.")


def test_a_verdict_that_hangs_on_unknown_ends_is_the_headline(chain: Chain) -> None:
    planted = Experiment(bars=chain.bars, too_good=("planted",), **LINEAR)
    verdicts: dict[str, Verdict] = judge_chain(planted, chain)
    clean = Audit((), (), (), ())
    skilled = {**verdicts, "strategy": replace(verdicts["strategy"], verdict=SKILL)}
    none = {**verdicts, "strategy": replace(verdicts["strategy"], verdict=NOTHING)}
    assert (
        "depends on the loss assumed for symbols that stopped" in headline(skilled, True, clean, (), none)["headline"]
    )
    assert "depends on the loss" in headline(none, True, clean, (), skilled)["headline"]
    assert headline(skilled, True, clean, (), skilled) == headline(skilled, True, clean)


def test_a_year_has_as_many_rows_as_the_equity(chain: Chain) -> None:
    equity = chain.result.equity
    years = (equity["time"][-1] - equity["time"][0]).total_seconds() / 86_400 / 365.25
    assert chain.result.rows_per_year == pytest.approx(len(equity) / years, rel=1e-12)


def test_where_orders_are_filled_in_words() -> None:
    assert fill_in_words(1.0) == {"fill": "open", "reason": "opens are real"}
    assert fill_in_words(0.0)["fill"] == "close"
    assert fill_in_words(0.625)["fill"] == "open on 62.5 % of bars"


def test_columns_that_symbols_lack_or_have_in_another_unit_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named column is the class's while one symbol has it; what cannot be used is among the warnings."""
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path))
    bars = synthetic.b1(700, seed=4, r2=0.08, symbols=4).drop("segment")
    names, own = bars["symbol"].unique().sort().to_list(), pl.col("symbol")
    x = pl.when(own == names[0]).then(None).when(own == names[1]).then(pl.col("x") * 1e-9).otherwise("x")
    bars = make_bars(bars.with_columns(x=x, y=pl.lit(None, pl.Float64)))
    told = run(Experiment(bars=bars, **{**LINEAR, "features": ("x", "y", "ret_log_1")}))
    assert told.classes["index"].samples.names == ("x", "ret_log_1")
    assert set(told.forecasts["symbol"]) == set(names[1:])
    said = told.scores["warnings"]
    assert "index: the feature 'y' is not used: no y in its first sessions." in said
    assert any(one.startswith(f"{names[0]}: nothing was forecast, because x has no value") for one in said)
    (unit,) = [one for one in said if "the same unit" in one]
    assert unit.startswith(f"{names[1]}: the spread of its values of 'x' is ")
    ratio = float(unit.split("'x' is ")[1].split(" times")[0])
    spread = [np.median(np.abs(one - np.median(one))) for one in (bars.filter(symbol=name)["x"] for name in names[1:])]
    assert ratio == pytest.approx(spread[0] / np.median(spread), rel=0.1)


def test_a_symbol_that_alone_turns_the_gain_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cash fund beside planted symbols: its sure drift decides the class's R², and the run says so."""
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path))
    bars = synthetic.b1(1300, seed=1, r2=0.05, symbols=3).drop("segment")
    rng, first = np.random.default_rng(5), bars["symbol"][0]
    path = 100 * np.exp(np.cumsum(1e-4 + 2e-5 * rng.standard_normal(1300)))
    cash = bars.filter(symbol=first).with_columns(
        symbol=pl.lit("CASH"), open=path, high=path * 1.00001, low=path / 1.00001, close=path,
        x=rng.standard_normal(1300),
    )  # fmt: skip
    told = run(Experiment(bars=make_bars(pl.concat([bars, cash])), **LINEAR))
    assert told.verdicts["return"]["effect"] < -0.2
    (row,) = [row for row in told.scores["without_symbol"] if row["head"] == "return"]
    assert row["symbol"] == "CASH"
    assert row["gain"] > 0.01
    assert f"Without CASH the gain in return would be {100 * row['gain']:+.1f} %." in told.scores["warnings"]


def test_evidence_that_the_settings_set_is_said_first() -> None:
    audit, verdict = (
        Audit((), (), (), ()),
        cast("Verdict", SimpleNamespace(verdict="cannot tell", simple_is_as_good=False, trials=1)),
    )
    said = headline({"return": verdict}, True, audit, override=1.0)
    assert said["headline"].startswith("The settings set evidence = 1. There is no evidence of skill")
    assert said["subline"] == "There were positions because the settings set evidence = 1, whatever the record says."
    assert "while the evidence factor was above 0" in headline({"return": verdict}, True, audit)["subline"]
    idle = headline({"return": verdict}, False, audit)["subline"]
    assert "No strategy ever had a position" in idle
    assert "The book's core is held without them" in idle


def test_a_simple_model_is_named_as_good_only_where_something_was_gained() -> None:
    audit = Audit((), (), (), ())
    for effect, named in ((0.01, True), (-0.007, False)):
        own = SimpleNamespace(
            verdict="cannot tell", simple_is_as_good=True, trials=1, effect=effect, simpler="constant"
        )
        said = headline({"regime": cast("Verdict", own)}, False, audit)["headline"]
        assert ("a constant variance is not shown to be worse than the ensemble for regime" in said) == named


def test_what_is_held_by_the_settings_is_no_evidence_in_any_row(chain: Chain) -> None:
    for override, words in (
        (1.0, "a position because the settings set evidence = 1"),
        (0.0, "no position: the settings"),
    ):
        held = replace(chain.decisions, override=override).signals.filter(pl.col("strategy") != "flat")
        assert held["reason"].str.contains(words, literal=True).all()
        assert not held["reason"].str.contains("evidence factor").any()


def test_what_luck_gives_the_best_takes_two_that_earned_something() -> None:
    net = np.random.default_rng(0).normal(0.001, 0.01, 500)
    one, flat = (Trial(("A",), "2020-01-01", "2021-01-01", str(ratio), ratio) for ratio in (0.1, None))
    found = deflation(net, [one, flat, flat], 3.0)
    assert np.isnan(found["deflated_sharpe"])
    assert found["probabilistic_sharpe"] > 0.5
    other = Trial(("A",), "2020-01-01", "2021-01-01", "b", -0.05)
    assert deflation(net, [one, other], 2.0)["deflated_sharpe"] < found["probabilistic_sharpe"]


def test_symbols_that_stop_are_named_with_how_to_give_their_last_return() -> None:
    bars = synthetic.a1(400, seed=2, symbols=8).with_columns(asset_class=pl.lit("equity"))
    names = sorted(bars["symbol"].unique())
    stops = {names[0]: 150, **dict.fromkeys(names[1:4], 200), names[4]: 370}
    kept = bars.filter(
        pl.int_range(pl.len()).over("symbol")
        < pl.col("symbol").replace_strict(stops, default=400, return_dtype=pl.Int64)
    )
    last = dict(kept.group_by("symbol").agg(pl.col("time").max().dt.date()).iter_rows())
    alone, waits, vendor = stops_in_words(Facts(kept))
    assert alone.startswith(f"{names[0]}: It ends on {last[names[0]]}")
    assert f"{names[0]},delisting,{last[names[0]]},-0.3" in alone
    silent = f"{names[4]}: No bar since {last[names[4]]}, 30 sessions of its class"
    assert waits.startswith(f"{silent}: no end is booked yet.")
    assert vendor.startswith(f"{', '.join(names[1:4])}: their bars end together on {last[names[1]]}")
    assert stops_in_words(Facts(bars)) == []


def test_the_scores_have_the_title_of_every_forecast(chain: Chain) -> None:
    names = names_of(chain.forecasts)
    assert {name for one in chain.forecasts.values() for name in one.values} <= set(names)
    assert (names["zero"], names["rival"]) == ("no change", "best simple forecast so far")
