"""Money in a run's results: ends of symbols, where orders are filled, rows a year; nothing of it from later bars."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.evaluation.leaks import Audit
from gatecast.evaluation.verdict import NOTHING, SKILL, Verdict
from gatecast.experiment import Experiment, judge_chain, make_chain
from gatecast.market import synthetic
from gatecast.market.actions import SCHEMA as ACTIONS
from gatecast.market.actions import no_actions
from gatecast.market.bars import make_bars
from gatecast.results import Chain, ends_in_words, ends_of, fill_in_words, headline, stops_in_words
from gatecast.trading.strategies import STRATEGIES

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
    samples, held = one.samples, STRATEGIES.index("buy_and_hold")
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
        "Symbols that ended: 1 with the last return that a table of actions gives, 2 on unknown terms"
    )
    assert said.endswith("1 came back: the move to their first fill counts instead.")


def test_a_verdict_that_hangs_on_unknown_ends_is_the_headline(chain: Chain) -> None:
    planted = Experiment(bars=chain.bars, too_good=("planted",), **LINEAR)
    verdicts: dict[str, Verdict] = judge_chain(planted, chain)
    clean = Audit((), (), (), ())
    skilled = {**verdicts, "strategy": replace(verdicts["strategy"], verdict=SKILL)}
    none = {**verdicts, "strategy": replace(verdicts["strategy"], verdict=NOTHING)}
    assert "hangs on what is assumed of symbols that stopped" in headline(skilled, True, clean, (), none)["headline"]
    assert "hangs" in headline(none, True, clean, (), skilled)["headline"]
    assert headline(skilled, True, clean, (), skilled) == headline(skilled, True, clean)


def test_a_year_has_as_many_rows_as_the_equity(chain: Chain) -> None:
    equity = chain.result.equity
    years = (equity["time"][-1] - equity["time"][0]).total_seconds() / 86_400 / 365.25
    assert chain.result.rows_per_year == pytest.approx(len(equity) / years, rel=1e-12)


def test_where_orders_are_filled_in_words() -> None:
    assert fill_in_words(1.0) == {"fill": "open", "reason": "opens are real"}
    assert fill_in_words(0.0)["fill"] == "close"
    assert fill_in_words(0.625)["fill"] == "open on 62.5 % of bars"


def test_symbols_that_stop_are_named_with_how_to_give_their_last_return() -> None:
    bars = synthetic.a1(400, seed=2, symbols=8).with_columns(asset_class=pl.lit("equity"))
    names = sorted(bars["symbol"].unique())
    stops = {names[0]: 150, **dict.fromkeys(names[1:4], 200), names[4]: 370}
    kept = bars.filter(
        pl.int_range(pl.len()).over("symbol")
        < pl.col("symbol").replace_strict(stops, default=400, return_dtype=pl.Int64)
    )
    last = dict(kept.group_by("symbol").agg(pl.col("time").max().dt.date()).iter_rows())
    alone, waits, vendor = stops_in_words(kept, no_actions())
    assert alone.startswith(f"{names[0]}: It ends on {last[names[0]]}")
    assert f"{names[0]},delisting,{last[names[0]]},-0.3" in alone
    assert waits.startswith(f"{names[4]}: No bar since {last[names[4]]}, 30 sessions: no end is booked yet.")
    assert vendor.startswith(f"{', '.join(names[1:4])}: they end together on {last[names[1]]}")
    assert stops_in_words(bars, no_actions()) == []
