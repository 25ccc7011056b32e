"""Strategies of a user's own: named in the settings, sized and judged like the built-in ones, refused where faulty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import made_up

from gatecast.audits.full import Cuts, audit
from gatecast.chain import make_chain
from gatecast.errors import PluginError, SettingsError, StrategyError
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.samples.windows import Samples
from gatecast.settings import to_toml
from gatecast.trading.signals import make_signals
from gatecast.trading.strategies import (
    STRATEGIES,
    Proposals,
    Strategy,
    Trend,
    View,
    load_strategies,
    propose,
    strategy_titles,
)
from gatecast.trials import configuration

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
CHEAP: dict[str, Any] = {
    "models": ("ridge", "logistic"),
    "features": ("ret_log_1",),
    "schedule": {"refit": "6M"},
    "ensemble": {"volatility_members": ("har", "constant"), "minimum_days": 10},
    "signals": {"model": "ridge", "confirmed_by": "ridge", "minimum": 20},
    "selection": {"minimum_days": 20, "evidence": 0.5},
    "too_good": ("planted",),
}


@pytest.fixture
def add() -> Iterator[Callable[..., type[Strategy]]]:
    """Registers a strategy of one's own, made of its `side`, for the time of a test."""
    added = []

    def register(name: str, side: Callable[[View], Any], **more: Any) -> type[Strategy]:
        methods = {"kind": name, "side": lambda self, view: side(view), "__module__": __name__, **more}
        cls = STRATEGIES.add(type("Own", (Strategy,), methods))
        added.append(name)
        return cls

    yield register
    for name in added:
        STRATEGIES.remove(name)


@pytest.fixture(scope="module")
def ask(samples: Samples, market: pl.DataFrame) -> Callable[..., Proposals]:
    """What strategies propose on a made-up market."""
    forecasts: Forecasts = Ensemble().combine(made_up(samples, seed=1, skill={"lstm": 0.5, "forest": 0.5}))
    signals = make_signals(forecasts)

    def asked(*names: str, **tables: Any) -> Proposals:
        chosen = load_strategies(("flat", "held_long", *names), tables)
        return propose(forecasts, signals, market, 0.001, 252.0, strategies=chosen)

    return asked


Add = Callable[..., type[Strategy]]
Ask = Callable[..., Proposals]


def test_a_side_is_sized_like_every_other(add: Add, ask: Ask, market: pl.DataFrame) -> None:
    side = np.sign(np.sin(np.arange(len(market))))
    add("waves", lambda view: side / 2)
    add("twice", lambda view: side, relative_size=lambda self, view: 2.0)
    found = ask("waves", "twice")
    assert found.names == ("flat", "held_long", "waves", "twice")
    at, full = found.forecast_at, found.of("held_long")
    np.testing.assert_allclose(found.of("waves")[at], full[at] * side[at] / 2, rtol=1e-12)
    np.testing.assert_allclose(found.of("twice"), np.clip(2 * full * side, -1, 1), rtol=1e-12)
    assert (np.delete(found.of("waves"), at) == 0).all()


def test_one_kind_may_take_part_under_several_names(ask: Ask, market: pl.DataFrame) -> None:
    found = ask("trend", "slow", trend={"bars": 20}, slow={"kind": "trend", "bars": 200})
    close, at = market["close"].to_numpy(), found.forecast_at
    at = at[at % 1400 >= 200]
    for name, bars in (("trend", 20), ("slow", 200)):
        np.testing.assert_array_equal(np.sign(found.of(name)[at]), np.sign(close[at] / close[at - bars] - 1))


def broken(_: View) -> FloatArray:
    raise ZeroDivisionError("no bars")


@pytest.mark.parametrize(
    ("side", "told"),
    [
        (lambda view: np.zeros(3), r"side must return one number a bar, shape \(2800,\), got \(3,\)"),
        (lambda view: np.zeros((2800, 2)), r"got \(2800, 2\)"),
        (lambda view: np.full(2800, np.nan), "side is nan for B1_0 at .*: expected a number from -1 to 1"),
        (lambda view: np.full(2800, 1.01), "side is 1.01 for B1_0 at"),
        (lambda view: np.full(2800, -np.inf), "side is -inf for"),
        (lambda view: ["long"] * 2800, "failed in side: ValueError: could not convert"),
        (broken, "failed in side: ZeroDivisionError: no bars"),
    ],
)
def test_what_is_no_side_is_refused_by_the_strategys_name(
    add: Add, ask: Ask, side: Callable[[View], Any], told: str
) -> None:
    add("faulty", side)
    with pytest.raises(StrategyError, match=f"the strategy 'faulty'.*{told}"):
        ask("faulty")
    with pytest.raises(StrategyError, match=r"the strategy 'mine' \(kind 'faulty'\)"):
        ask("mine", mine={"kind": "faulty"})


def test_a_size_below_0_is_refused(add: Add, ask: Ask) -> None:
    add("faulty", lambda view: np.zeros(2800), relative_size=lambda self, view: -0.5)
    with pytest.raises(StrategyError, match=r"'faulty': relative_size is -0.5 for B1_0 at"):
        ask("faulty")


def test_nothing_need_be_known_where_nothing_is_decided(add: Add, ask: Ask) -> None:
    add("careful", lambda view: np.where(view.decided, 1.0, np.nan))
    found = ask("careful")
    np.testing.assert_array_equal(found.of("careful"), found.of("held_long"))


# ── in the settings ───────────────────────────────────────────────────────────────────────────────


def test_settings_name_them_and_read_back(add: Add, tmp_path: Path) -> None:
    add("mine", lambda view: np.ones(len(view.decided)))
    experiment = Experiment(strategies={"names": ["mine", "slow"]}, strategy={"slow": {"kind": "trend", "bars": 250}})
    assert list(experiment.strategy) == ["flat", "held_long", "mine", "slow"]
    assert experiment.strategy["slow"] == Trend(bars=250)
    file = tmp_path / "own.toml"
    file.write_text(to_toml(experiment), encoding="utf-8")
    assert Experiment.from_toml(file) == experiment
    assert Experiment(**experiment.to_dict()) == experiment
    titles = experiment.strategy_titles
    assert (titles["mine"], titles["slow"], titles["trend"]) == ("mine", "slow", "trend")
    assert strategy_titles()["buy_and_hold"] == "held long, sized by volatility"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": {"mine": {"kind": "trend"}}}, "strategy.mine has settings, but takes no part: add 'mine' to"),
        ({"strategies": {"names": ["trned"]}}, "there is no strategy 'trned'. Did you mean 'trend'"),
        ({"strategies": {"names": ["trend", "trend"]}}, "names has 'trend' twice"),
        ({"strategies": {"names": ["a b"]}}, "'a b' needs a name of letters"),
        ({"strategy": {"trend": {"brs": 20}}}, "unknown setting 'brs'. Did you mean 'bars'"),
        ({"strategy": {"trend": {"bars": 1}}}, "bars = 1: input should be greater than or equal to 2"),
        ({"strategy": {"trend": 20}}, "strategy.trend = 20: expected a table of settings"),
        ({"strategy": {"flat": {"kind": "trend"}}}, "strategy.flat is of the kind 'trend': give another name"),
        ({"strategies": {"trend_brs": 20}}, "unknown setting 'trend_brs'"),
    ],
)
def test_faults_in_the_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        Experiment(**settings)


def test_the_former_places_of_settings_are_read_with_a_notice() -> None:
    old = {"trend_bars": 60, "oversold": 20.0, "overbought": 80.0, "consensus_boost": 2.0, "abstain": 0.1}
    with pytest.warns(UserWarning, match=r"trend_bars is now bars under \[strategy.trend\]"):
        experiment = Experiment(strategies=old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert experiment == Experiment(
            strategies={"abstain": 0.1},
            strategy={
                "trend": {"bars": 60},
                "mean_reversion": {"oversold": 20.0, "overbought": 80.0},
                "consensus_signal": {"boost": 2.0},
            },
        )
        assert Experiment(**experiment.to_dict()) == experiment


def test_a_built_in_name_and_an_unfinished_class_are_refused(add: Add) -> None:
    with pytest.raises(PluginError, match="'trend' is taken by a built-in strategy"):
        add("trend", lambda view: view.signal)
    with pytest.raises(PluginError, match="that defines side, which Idea does not"):

        @STRATEGIES.add
        class Idea(Strategy):
            kind = "idea"


def test_a_class_that_is_not_registered_cannot_take_part() -> None:
    class Quiet(Strategy):
        kind = "quiet"

        def side(self, view: View) -> FloatArray:
            return view.signal

    with pytest.raises(SettingsError, match=r"strategy.quiet: Quiet is not registered as 'quiet': put @STRATEGIES.add"):
        Experiment(strategies={"names": ["quiet"]}, strategy={"quiet": Quiet()})


def test_changed_code_is_another_trial_and_known_to_this_process_alone() -> None:
    experiments = []
    try:

        @STRATEGIES.add
        class First(Strategy):
            kind = "changing"

            def side(self, view: View) -> FloatArray:
                return view.signal

        experiments.append(Experiment(strategies={"names": ["changing"]}))
        before = configuration(experiments[0])

        @STRATEGIES.add
        class Second(Strategy):
            kind = "changing"

            def side(self, view: View) -> FloatArray:
                return -view.signal

        experiments.append(Experiment(strategies={"names": ["changing"]}))
        assert configuration(experiments[1]) != before
        assert not experiments[1].is_importable
        assert list(experiments[1].plugins) == ["strategy/changing"]
    finally:
        STRATEGIES.remove("changing")
    assert Experiment().is_importable
    assert Experiment().plugins == {}


# ── in the chain ──────────────────────────────────────────────────────────────────────────────────


def momentum(view: View) -> FloatArray:
    past = pl.col("close") / pl.col("close").shift(10).over("symbol", "segment") - 1
    return view.as_known(view.bars.select(past.sign().fill_null(0.0)).to_series().to_numpy())


def tomorrow(view: View) -> FloatArray:
    """Looks ahead by one bar."""
    later = pl.col("close").shift(-1).over("symbol", "segment") / pl.col("close") - 1
    return view.bars.select(later.sign().fill_null(0.0)).to_series().to_numpy()


WALK = synthetic.a1(560, seed=1)


@pytest.mark.parametrize(("side", "clean"), [(momentum, True), (tomorrow, False)])
def test_the_audit_finds_a_strategy_that_looks_ahead(add: Add, side: Callable[[View], FloatArray], clean: bool) -> None:
    add("mine", side)
    experiment = Experiment(bars=WALK, strategies={"names": ["mine"]}, **CHEAP)
    found = audit(experiment, cuts=Cuts(samples=1, fits=2))
    assert found.clean == clean
    if not clean:
        assert found.guilty == ("strategy",)
        assert found.findings[0].column == "proposed of mine"  # before all that follows from it


def test_decisions_are_one_row_a_close_with_its_reason(add: Add) -> None:
    add("mine", momentum)
    experiment = Experiment(bars=WALK, strategies={"names": ["mine"]}, **CHEAP)
    chain = make_chain(experiment, experiment.read().bars)
    (one,) = chain.classes.values()
    found = chain.decisions.frame
    assert found.columns == list(chain.decisions.columns)
    assert len(found) == len(one.forecasts.rows) == found.select("symbol", "time").n_unique()
    ensemble, rows = one.forecasts.values["ensemble"], one.forecasts.rows
    order = np.argsort(one.samples.times[rows], kind="stable")  # one symbol: rows are in the order of time
    np.testing.assert_array_equal(found["return_log"].to_numpy(), ensemble["return"][rows[order], -1])
    np.testing.assert_array_equal(found["probability_up"].to_numpy(), ensemble["direction"][rows[order]])
    log, simple = (found[name].to_numpy() for name in ("return_log", "return_simple"))
    np.testing.assert_allclose(2 * (np.log1p(simple) - log), found["variance"].to_numpy(), rtol=1e-6)
    low, high = (found[name].to_numpy() for name in ("low_80", "high_80"))
    assert (low < high).all()
    assert (found["low_95"].to_numpy() < low).all()
    assert set(found["strategy"]) <= {"flat", "held_long", "mine"}
    assert found["strategy"].eq("mine").any()
    own = found.filter(pl.col("strategy") == "mine")
    assert own["reason"].str.starts_with("in force: mine, the highest score of the strategies (").all()
    assert chain.decisions.signals.equals(found.select(chain.decisions.signals.columns))
    assert chain.weights.equals(found.select("symbol", "time", "weight", "book"))
    assert chain.decisions.newest().equals(found.tail(1))
    empty = chain.with_nothing_held().decisions
    assert (empty.frame.select("weight", "book", "evidence").to_numpy() == 0).all()
    with pytest.raises(SettingsError, match=r"no column 'wait'. Did you mean 'weight'"):
        chain.decisions.select(["symbol", "wait"])
