"""The verdict: three outcomes, the right unit, and the right tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from made_up import made_up, with_values
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from gatecast.evaluation.compare import RIVALS, losses
from gatecast.evaluation.verdict import CANNOT_TELL, NOTHING, SKILL, Verdict, judge
from gatecast.forecasting.ensemble import Ensemble
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
MEMBERS = ("lstm", "forest", "logistic")
RNG = np.random.default_rng(0)
MARKET_RETURNS = 0.01 * RNG.standard_normal(1000)
NOT_TRADED = np.zeros(1000)


def verdicts(
    forecasts: dict[str, Forecasts] | Forecasts, strategy: FloatArray = NOT_TRADED, **settings: Any
) -> dict[str, Verdict]:
    if isinstance(forecasts, Forecasts):
        forecasts = {"index": forecasts}
    settings = {"round_trip": 0.001, "periods_per_year": 252.0} | settings
    return judge(forecasts, strategy, MARKET_RETURNS[: len(strategy)], **settings)


@pytest.fixture(scope="module")
def skilled(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(MEMBERS, 0.3)))


@pytest.fixture(scope="module")
def hopeless(samples: Samples) -> Forecasts:
    """The members' noise as it is, nothing calibrated away."""
    forecasts = made_up(samples, seed=2)
    return forecasts.with_model("ensemble", forecasts.values["lstm"])


@pytest.fixture(scope="module")
def faint(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=2, skill=dict.fromkeys(MEMBERS, 0.004)))


# ── three outcomes ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", RIVALS)
def test_skill_is_found_in_every_head(skilled: Forecasts, head: str) -> None:
    found = verdicts(skilled)[head]
    assert found.verdict == SKILL
    assert 0 < found.low < found.effect < found.high
    assert found.pvalue_holm < 0.05
    assert "out of sample" in found.sentence


@pytest.mark.parametrize("head", RIVALS)
def test_noise_is_worth_nothing(hopeless: Forecasts, head: str) -> None:
    found = verdicts(hopeless)[head]
    assert found.verdict == NOTHING
    assert found.high < found.break_even if head in ("return", "direction") else found.high < 0
    assert "nothing worth trading" in found.sentence


def test_too_little_to_tell_says_how_much_it_would_take(faint: Forecasts) -> None:
    found = verdicts(faint, round_trip=0.0)["return"]
    assert found.verdict == CANNOT_TELL
    assert found.n_needed is not None
    assert found.n_needed > found.n
    assert f"{round(found.n_needed, -2):,} days" in found.sentence


def test_dear_trading_turns_cannot_tell_into_nothing_worth_trading(faint: Forecasts) -> None:
    """The interval that reaches above 0 stays below what a dear round trip would take."""
    cheap, dear = (verdicts(faint, round_trip=cost)["return"] for cost in (0.0, 0.02))
    assert cheap.verdict == CANNOT_TELL
    assert dear.verdict == NOTHING
    assert (cheap.effect, cheap.high, cheap.pvalue) == (dear.effect, dear.high, dear.pvalue)
    sigma = np.median(faint.samples.facts.sigma[faint.samples.ends[faint.rows]])
    assert dear.break_even == pytest.approx((0.02 / (sigma * np.sqrt(5))) ** 2)


def test_skill_that_costs_swallow_is_said_to_be_too_little(skilled: Forecasts) -> None:
    found = verdicts(skilled, round_trip=0.03)["return"]
    assert found.high < found.break_even
    assert found.verdict == SKILL
    assert "too little to trade" in found.sentence
    assert "too little to trade" not in verdicts(skilled)["return"].sentence


def test_the_three_outcomes_of_a_strategy(skilled: Forecasts) -> None:
    noise = 0.005 * np.random.default_rng(1).standard_normal(1000)
    noise -= noise.mean()
    gain, loss, nothing = (
        verdicts(skilled, strategy)["strategy"]
        for strategy in (noise + 0.002, noise - 0.002, noise + 0.5 * MARKET_RETURNS)
    )
    assert (gain.verdict, loss.verdict, nothing.verdict) == (SKILL, NOTHING, CANNOT_TELL)
    assert gain.effect == pytest.approx(0.002 * 252, rel=0.1)


def test_exposure_to_a_rising_market_is_no_skill(skilled: Forecasts) -> None:
    rising = MARKET_RETURNS + 0.002
    noise = 0.003 * np.random.default_rng(3).standard_normal(1000)
    found = judge(
        {"index": skilled}, 0.6 * rising + noise - noise.mean(), rising, round_trip=0.001, periods_per_year=252
    )
    assert found["strategy"].verdict == CANNOT_TELL


# ── when there is nothing to judge ────────────────────────────────────────────────────────────────


def test_too_few_days_are_refused() -> None:
    bars = synthetic.b1(420, seed=3, r2=0.05)
    samples = make_samples(bars, ("x",), horizon=20)["index"]
    forecasts = Ensemble().combine(made_up(samples, skill=dict.fromkeys(MEMBERS, 0.5), schedule=Schedule(minimum=200)))
    found = verdicts(forecasts)
    for head in RIVALS:
        assert found[head].verdict == CANNOT_TELL
        assert found[head].n < 15 * 20
        assert "300 are the least" in found[head].sentence
        assert found[head].to_dict()["pvalue"] is None


def test_a_book_that_was_never_held_is_not_judged(skilled: Forecasts) -> None:
    found = verdicts(skilled)["strategy"]
    assert found.verdict == CANNOT_TELL
    assert found.sentence.startswith("The evidence never allowed a position")
    assert found.to_dict()["effect"] is None


def test_a_handful_of_lucky_days_is_no_record(skilled: Forecasts) -> None:
    lucky = np.zeros(1000)
    lucky[500:530] = 0.02
    found = verdicts(skilled, lucky)["strategy"]
    assert found.verdict == CANNOT_TELL
    assert "30 days, too few" in found.sentence


def test_a_forecast_that_is_its_rivals_own_is_no_evidence(skilled: Forecasts) -> None:
    same = with_values(skilled, "ensemble", volatility=skilled.values["constant"]["volatility"])
    better = losses(same, "volatility", "har"), losses(same, "volatility", "constant")
    assert np.nanmean(better[1]) < np.nanmean(better[0])
    found = verdicts(same)["volatility"]
    assert found.verdict == CANNOT_TELL
    assert found.rival == "constant"
    assert found.sentence == "The forecasts are the rival's own."


# ── the numbers ───────────────────────────────────────────────────────────────────────────────────


def hac(values: FloatArray, horizon: int, regressor: FloatArray | None = None) -> Any:
    lag = max(horizon - 1, int(4 * (len(values) / 100) ** (2 / 9)))
    inputs = np.ones(len(values)) if regressor is None else sm.add_constant(regressor)
    return sm.OLS(values, inputs).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})


def day_means(forecasts: Forecasts, values: FloatArray) -> FloatArray:
    days = forecasts.samples.sessions
    known = np.isfinite(values)
    return np.array([values[known & (days == day)].mean() for day in np.unique(days[known])])


@pytest.mark.parametrize("head", ["direction", "volatility", "regime"])
def test_gains_are_tested_as_day_means_with_overlap(skilled: Forecasts, head: str) -> None:
    found = verdicts(skilled)[head]
    both = [losses(skilled, head, name) for name in (found.rival, "ensemble")]
    gain = day_means(skilled, both[0] - both[1])
    reference = hac(gain, 5)
    scale = day_means(skilled, np.where(np.isfinite(both[1]), both[0], np.nan)).mean()
    assert found.n == len(gain)
    assert found.statistic == pytest.approx(reference.tvalues[0], rel=1e-6)
    assert found.effect == pytest.approx(gain.mean() / scale, rel=1e-9)
    low, high = reference.conf_int(0.10)[0] / scale
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert found.pvalue == pytest.approx(norm.sf(reference.tvalues[0]), rel=1e-6)


def test_returns_are_tested_by_clark_west_against_the_better_rival(skilled: Forecasts, samples: Samples) -> None:
    found = verdicts(skilled)["return"]
    rival = min(RIVALS["return"], key=lambda name: np.nanmean(day_means(skilled, losses(skilled, "return", name))))
    unit = samples.facts.sigma[samples.ends] * np.sqrt(5)
    e1 = (samples.targets["return"].value[samples.ends, -1] - skilled.values[rival]["return"][:, -1]) / unit
    e2 = (samples.targets["return"].value[samples.ends, -1] - skilled.values["ensemble"]["return"][:, -1]) / unit
    reference = hac(day_means(skilled, e1**2 - (e2**2 - (e1 - e2) ** 2)), 5)
    assert found.rival == rival
    assert found.test == "Clark-West"
    assert found.statistic == pytest.approx(reference.tvalues[0], rel=1e-6)


def test_signal_that_the_model_wastes_is_said_to_be_wasted(skilled: Forecasts) -> None:
    loud = with_values(skilled, "ensemble", **{"return": 8 * skilled.values["ensemble"]["return"]})
    found = verdicts(loud)["return"]
    assert found.pvalue_holm < 0.05
    assert found.effect < 0
    assert found.verdict != SKILL
    assert found.sentence.startswith("There is signal, the model wastes it")


def test_alpha_is_the_intercept_on_buy_and_hold(skilled: Forecasts) -> None:
    strategy = 0.3 * MARKET_RETURNS + 0.005 * np.random.default_rng(5).standard_normal(1000) + 0.0005
    found = verdicts(skilled, strategy)["strategy"]
    reference = hac(strategy, 1, MARKET_RETURNS)
    assert found.effect == pytest.approx(reference.params[0] * 252, rel=1e-9)
    assert found.statistic == pytest.approx(reference.tvalues[0], rel=1e-6)


def test_holm_runs_over_all_verdicts_of_a_run(faint: Forecasts) -> None:
    strategy = 0.005 * np.random.default_rng(6).standard_normal(1000) + 0.0004
    found = list(verdicts(faint, strategy).values())
    assert len(found) == 5
    expected = multipletests([one.pvalue for one in found], method="holm")[1]
    np.testing.assert_allclose([one.pvalue_holm for one in found], expected)
    assert any(one.pvalue_holm > one.pvalue for one in found)


def test_a_claim_that_holm_takes_back(skilled: Forecasts) -> None:
    """One-sided p of about .03 by itself, among five."""
    rng = np.random.default_rng(7)
    noise = 0.005 * rng.standard_normal(1000)
    beside = np.column_stack([np.ones(1000), MARKET_RETURNS])
    noise -= beside @ np.linalg.lstsq(beside, noise, rcond=None)[0]
    nulls = skilled.with_model(
        "ensemble",
        {
            "return": skilled.values["zero"]["return"], "direction": skilled.values["base_rate"]["direction"],
            "volatility": skilled.values["constant"]["volatility"], "regime": skilled.values["base_rate"]["regime"],
        },
    )  # fmt: skip
    found = verdicts(nulls, noise + 1.9 * 0.005 / np.sqrt(1000))["strategy"]
    assert found.pvalue < 0.05 < found.pvalue_holm
    assert found.verdict == CANNOT_TELL


# ── the unit is the day, and no symbol decides ────────────────────────────────────────────────────


def test_five_copies_of_a_market_are_no_more_evidence_than_one(faint: Forecasts) -> None:
    one, five = verdicts(faint), verdicts(dict.fromkeys("abcde", faint))
    for head in RIVALS:
        assert five[head].n == one[head].n
        assert five[head].pvalue == pytest.approx(one[head].pvalue, rel=1e-6)
        assert five[head].verdict == one[head].verdict


def test_a_wild_symbol_does_not_decide() -> None:
    """Returns, forecasts and volatility of one of three symbols a hundred times as large."""
    samples = make_samples(synthetic.b1(800, seed=4, r2=0.05, symbols=3), ("x",))["index"]
    forecasts = Ensemble().combine(made_up(samples, seed=4, skill=dict.fromkeys(MEMBERS, 0.05)))
    wild = np.where(samples.symbol == 2, 100.0, 1.0)
    at = wild[samples.ends]
    facts = replace(samples.facts, sigma=samples.facts.sigma * wild, mean=samples.facts.mean * wild)
    targets = dict(samples.targets)
    targets["return"] = replace(targets["return"], value=targets["return"].value * wild[:, None])
    targets["volatility"] = replace(targets["volatility"], value=targets["volatility"].value + 2 * np.log(wild))
    factor = {"return": at[:, None], "volatility": at**2}
    values = {
        model: {head: array * factor.get(head, 1.0) for head, array in heads.items()}
        for model, heads in forecasts.values.items()
    }
    changed = replace(forecasts, samples=replace(samples, facts=facts, targets=targets), values=values)
    before, after = verdicts(forecasts), verdicts(changed)
    for head in RIVALS:
        assert after[head].pvalue == pytest.approx(before[head].pvalue, rel=1e-6)
        assert after[head].effect == pytest.approx(before[head].effect, rel=1e-6)
        assert after[head].verdict == before[head].verdict


def test_the_symbols_of_a_day_are_averaged_not_counted(samples: Samples, faint: Forecasts) -> None:
    assert verdicts(faint)["direction"].n == len(np.unique(samples.sessions[faint.rows])) - 5  # the last five are open


def test_numbers_are_plain(skilled: Forecasts) -> None:
    for one in verdicts(skilled, MARKET_RETURNS * 0.0).values():
        for value in one.to_dict().values():
            assert value is None or type(value) in (str, float, int, bool)
        assert isinstance(pl.DataFrame([one.to_dict()]), pl.DataFrame)
