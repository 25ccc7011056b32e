"""A claim that lives on stale, smoothed or bouncing prices dies one bar later; one on a lasting signal does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from gatecast.evaluation.delay import DIES, Later, one_bar_later, without_what_dies
from gatecast.evaluation.record import records_of
from gatecast.evaluation.rivals import with_rival
from gatecast.evaluation.verdict import SKILL, Verdict
from gatecast.market import synthetic
from gatecast.market.facts import Facts
from gatecast.samples.windows import make_samples
from gatecast.trading.backtest import backtest
from gatecast.trading.costs import Costs
from tests.made_up import made_up, with_values

CLAIM = Verdict(
    "return", SKILL, 0.1, 0.05, 0.2, "t", 3.0, 0.001, 0.001, 900, None, 0.0, 1, 5, "zero", "unit", "It beats."
)


def test_the_forecast_of_a_bar_earlier_stands_against_the_answer_that_begins_now() -> None:
    bars = synthetic.a1(1400, 1)
    samples = make_samples(bars, ("ret_log_1",), horizon=1)["index"]
    one = with_rival(made_up(samples))
    answer = samples.targets["return"].value[samples.decided]
    knows = np.where(np.isfinite(one.values["zero"]["return"]), answer, np.nan)
    earlier = np.r_[answer[1:], [[np.nan]]]  # knows the bar after the next one
    earlier = np.where(np.isfinite(one.values["zero"]["return"]), earlier, np.nan)
    flat = bars.select("symbol", "time", weight=pl.lit(0.0))
    half = np.full(len(samples), 0.5)
    found = {}
    for name, made in (("now", knows), ("later", earlier)):
        model = with_values(one, "ensemble", **{"return": made, "direction": half})
        (found[name],) = [
            x for x in one_bar_later(records_of({"index": model}), flat, Facts(bars), Costs()) if x.head == "return"
        ]
    assert found["now"].effect < -0.5  # the answer of one bar says nothing of the next: R² near -1
    assert not found["now"].lives
    assert found["later"].effect == pytest.approx(1.0)
    assert found["later"].lives


def test_the_book_one_bar_later_is_the_backtest_of_shifted_weights() -> None:
    bars = synthetic.a1(900, 2)
    side = np.sign(np.diff(np.log(bars["close"].to_numpy()), append=0.0))
    later = np.r_[side[1:], 0.0]  # known two bars ahead: what is decided late still earns
    one = with_rival(made_up(make_samples(bars, ("ret_log_1",))["index"]))
    half = np.full(len(one.samples), 0.5)
    model = with_values(one, "ensemble", **{"return": one.values["zero"]["return"], "direction": half})
    costs, found = Costs(), {}
    for name, weight in (("next", side), ("second", later)):
        weights = bars.select("symbol", "time", weight=pl.Series(weight))
        (found[name],) = [
            x for x in one_bar_later(records_of({"index": model}), weights, Facts(bars), costs) if x.head == "strategy"
        ]
    shifted = bars.select("symbol", "time", weight=pl.Series(np.r_[0.0, later[:-1]]))
    result = backtest(shifted, bars, costs)
    equity = result.equity
    wealth = np.r_[1.0, equity["benchmark"].to_numpy()]
    exogenous = sm.add_constant(np.diff(wealth) / wealth[:-1])
    alpha = sm.OLS(equity["net"].to_numpy(), exogenous).fit().params[0]
    assert found["second"].effect == pytest.approx(result.rows_per_year * alpha)
    assert found["next"].effect < found["second"].effect


def test_a_claim_that_dies_is_none_and_says_what_is_left() -> None:
    verdicts = {"return": CLAIM, "volatility": replace(CLAIM, head="volatility")}
    dead = Later("return", 1, 0.001, -0.01, 0.02, 0.4, 900)
    after = without_what_dies(verdicts, [dead])
    assert after["return"].verdict == DIES
    assert "one bar later the gain is +0.10%" in after["return"].sentence
    assert after["volatility"].verdict == SKILL
    alive = replace(dead, low=0.0005, pvalue=0.01)
    assert without_what_dies(verdicts, [alive])["return"].verdict == SKILL
    assert without_what_dies(verdicts, [alive, replace(dead, bars=2)])["return"].verdict == DIES
