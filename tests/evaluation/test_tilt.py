"""The verdict on what strategies add to a core: more of the core is nothing, an alpha is found, and may be too good."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.chain import Chain, make_chain
from gatecast.evaluation.estimate import Tilt
from gatecast.evaluation.judge import judge
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.plausible import too_good
from gatecast.evaluation.record import Record
from gatecast.evaluation.verdict import CANNOT_TELL, CORE, HELD, SKILL, Verdict
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.report.scorecard import rival_of
from gatecast.scores import headline
from gatecast.studies.nulls import NULLS, run_of
from gatecast.trading.book import Book
from gatecast.trading.core import Core
from gatecast.verdicts import Tilts, judge_chain

ALONE = Book(core=Core(kind="none"))
DAYS = np.arange("2001-01-01", "2011-01-01", dtype="datetime64[D]")
MARKET = 0.0003 + 0.01 * np.random.default_rng(1).standard_normal(len(DAYS))


def tilt(added: np.ndarray, *, since: int = 0) -> Tilt:
    """A core of the market's returns, and what is added to it from a day on."""
    held = np.arange(len(DAYS)) >= since
    return Tilt(MARKET + np.where(held, added, 0.0), MARKET, held, DAYS, 252.0)


def verdict(one: Tilt | None) -> Verdict:
    nothing = np.zeros(len(DAYS))
    with unrecorded():
        return judge({"return": RECORD}, nothing, MARKET, round_trip=0.001, periods_per_year=252, tilt=one)["strategy"]


BARS = synthetic.a1(300, seed=1)
RECORD = Record.from_table(
    pl.concat(
        BARS.select("symbol", "time")[100:105].with_columns(
            model=pl.lit(name), head=pl.lit("return"), step=pl.lit(1), value=pl.lit(0.0)
        )
        for name in ("ensemble", "rival")
    ),
    BARS,
)["return"]
"""Forecasts that are too few to judge: the strategy alone is."""


def test_more_of_the_core_alone_is_worth_nothing() -> None:
    found = verdict(tilt(0.4 * MARKET))
    assert (found.verdict, found.effect, found.rival) == (CANNOT_TELL, 0.0, CORE)
    assert "more of the core, or less, and nothing else" in found.sentence
    paid = verdict(tilt(0.4 * MARKET - 1e-4 * (np.arange(len(DAYS)) % 21 == 0)))  # and pays for it once a month
    assert paid.effect == pytest.approx(-1e-4 * 12, rel=0.01)
    assert paid.beta == pytest.approx(1.4, rel=1e-3)
    assert paid.verdict != SKILL


def test_an_alpha_is_found_and_its_number_is_that_of_the_regression() -> None:
    own = 0.0004 + 0.004 * np.random.default_rng(2).standard_normal(len(DAYS))
    one = tilt(own - 0.3 * MARKET, since=500)
    found = verdict(one)
    slope, level = np.polyfit(one.core, one.both, 1)
    assert found.effect == pytest.approx(252 * level)
    assert found.beta == pytest.approx(slope)
    assert found.verdict == SKILL
    assert found.sentence.startswith("The core with its tilt beats the core alone out of sample: alpha a year +")
    assert "The core was tilted on 3,152 of 3,652 days." in found.sentence
    assert found.n == 3152


def test_random_tilts_are_rarely_skill() -> None:
    claims = [
        verdict(tilt(0.004 * np.random.default_rng(seed).standard_normal(len(DAYS)))).pvalue < 0.05
        for seed in range(60)
    ]
    assert sum(claims) <= 8  # 60 at 5 %: more in 1 of 300 cases


def test_nothing_added_and_too_little_are_said() -> None:
    none, few = verdict(Tilt.nothing()), verdict(tilt(0.001 * np.ones(len(DAYS)), since=len(DAYS) - 30))
    assert none.sentence.startswith("No strategy had evidence, so that nothing was added to the core")
    assert (none.n, none.effect, none.rival) == (0, 0.0, CORE)
    assert "The core was tilted on 30 of 3,652 days, too few" in few.sentence


def test_the_sharpe_ratio_of_the_alpha_is_what_is_too_good() -> None:
    """Not that of the core, which is none of the strategies' doing."""
    noise = 0.004 * np.random.default_rng(3).standard_normal(len(DAYS))
    core = 0.002 + 0.004 * np.random.default_rng(4).standard_normal(len(DAYS))  # a Sharpe ratio of 8
    honest = Tilt(core + noise, core, np.ones(len(DAYS), bool), DAYS, 252.0)
    leaky = replace(honest, both=honest.both + 0.001)  # 4 a year
    words: tuple[Any, ...] = ({}, noise, core, DAYS, 252.0)
    assert too_good(*words, tilt=honest) == []
    (found,) = too_good(*words, tilt=leaky)
    assert (found.head, found.measure) == ("strategy", "Sharpe ratio of the alpha")
    assert 3 < found.value < 5
    assert too_good(*words, allowed=("strategy",), tilt=leaky) == []


SETTINGS: dict[str, Any] = {
    "features": ("x", "ret_log_1"), "models": ("ridge", "logistic"), "schedule": {"refit": "1Y", "minimum": "1Y"},
    "signals": {"model": "ridge", "confirmed_by": "ridge"}, "too_good": ("planted",),
    "ensemble": {"volatility_members": ("har_class", "constant")},
}  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    made = synthetic.b1(700, seed=3, r2=0.08, symbols=2)
    return made.with_columns(pl.col("volume") * 1e4, asset_class=pl.lit("equity"))


@pytest.fixture(scope="module")
def chain(bars: pl.DataFrame) -> Chain:
    return make_chain(Experiment(bars=bars, selection={"evidence": 1.0}, **SETTINGS), bars)


def test_a_chain_is_judged_by_its_tilt_where_there_is_a_core(chain: Chain) -> None:
    experiment = Experiment(bars=chain.bars, selection={"evidence": 1.0}, **SETTINGS)
    tilts = Tilts(experiment.book, chain)
    made = tilts.of()
    assert made is not None
    assert {*tilts.lines} == {"ensemble", "tilted"}
    with unrecorded():
        found = judge_chain(experiment, chain, tilts=tilts)["strategy"]
        alone = judge_chain(experiment.replace(book=ALONE), chain)["strategy"]
    assert (found.rival, alone.rival) == (CORE, HELD)
    assert found.effect == pytest.approx(made.alpha().effect)
    assert found.n == made.held.sum()
    late = tilts.of(1)
    assert late is not None
    np.testing.assert_array_equal(late.core, made.core)
    np.testing.assert_array_equal(late.held[1:], made.held[:-1])
    assert late.alpha().effect < made.alpha().effect  # the truth of the market ends with the next bars
    assert Tilts(ALONE, chain).of() is None


def test_without_evidence_nothing_is_added(chain: Chain) -> None:
    flat = chain.with_nothing_held()
    tilts = Tilts(Book(), flat)
    made = tilts.of()
    assert made is not None
    assert not made.held.any()
    assert tilts.lines == {}  # nothing is sized for that
    scarce = replace(chain, facts=replace(chain.facts, bars=chain.bars.with_columns(volume=pl.lit(1e-6))))
    assert Tilts(Book(), scarce).of() is None  # a core that nobody can buy is none


def test_page_and_headline_name_the_core(chain: Chain) -> None:
    found = replace(verdict(tilt(0.001 * np.ones(len(DAYS)))), verdict=SKILL)
    clean = SimpleNamespace(clean=True, findings=())
    said = headline({"strategy": found}, True, clean, ())["headline"]  # type: ignore[arg-type]
    assert said == "What strategies add to the core beats the core alone, net of costs."
    assert rival_of({"head": "strategy", "rival": CORE}) == CORE
    assert rival_of({"head": "strategy", "rival": "?"}) == HELD


def test_a_null_holds_where_the_core_is_tilted(monkeypatch: pytest.MonkeyPatch) -> None:
    null = NULLS["h = 20"]
    monkeypatch.setattr("gatecast.studies.nulls.make_chain", lambda *_: "chain")
    for held in (0, 3):
        answer = SimpleNamespace(verdict=CANNOT_TELL, n=held)
        monkeypatch.setattr("gatecast.studies.nulls.judge_chain", lambda *_, one=answer: {"strategy": one})
        assert run_of(null, 1) == {"strategy": False, "held": held > 0}
