"""The verdict: three outcomes, the right unit, and the right tests."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from made_up import made_up, with_values
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from gatecast.chain import make_chain
from gatecast.evaluation.conclusion import _not_seen
from gatecast.evaluation.estimate import Estimate, estimate_gain
from gatecast.evaluation.hindsight import best_simple
from gatecast.evaluation.judge import _blank, judge
from gatecast.evaluation.record import Days, Record, day_means, records_of
from gatecast.evaluation.rivals import losses, with_rival
from gatecast.evaluation.verdict import CANNOT_TELL, NOTHING, SKILL, Verdict
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.panel import PANEL, PLAIN, REGRESSIONS, RIVAL, RIVALS
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.metrics.significance import sequential_mean
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
    return judge(records_of(forecasts), strategy, MARKET_RETURNS[: len(strategy)], **settings)


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
    assert "no gain worth trading" in found.sentence


def test_too_little_to_tell_says_how_much_it_would_take(faint: Forecasts) -> None:
    """Answers so faint in a forecast of noise that the gain is a standard error or two."""
    samples, noise = faint.samples, faint.values["lstm"]["return"]
    answer = np.nan_to_num(samples.targets["return"].value[samples.ends])
    low, high = -0.5, 0.5
    for _ in range(16):
        share = (low + high) / 2
        forecast = with_values(faint, "ensemble", **{"return": 0.01 * (noise + share * answer)})
        found = verdicts(forecast, round_trip=0.0)["return"]
        low, high = (share, high) if found.statistic < 1.3 else (low, share)
    assert found.verdict == CANNOT_TELL
    assert found.effect > 0
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
    assert "too small to trade" in found.sentence
    assert "too small to trade" not in verdicts(skilled)["return"].sentence


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
        records_of({"index": skilled}),
        0.6 * rising + noise - noise.mean(),
        rising,
        round_trip=0.001,
        periods_per_year=252,
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
        assert "at least 300 are needed" in found[head].sentence
        assert found[head].to_dict()["pvalue"] is None


def test_a_book_that_was_never_held_is_not_judged(skilled: Forecasts) -> None:
    found = verdicts(skilled)["strategy"]
    assert found.verdict == CANNOT_TELL
    assert found.sentence.startswith("No position was ever held")
    assert found.to_dict()["effect"] == 0.0  # nothing held, nothing earned


def test_a_handful_of_lucky_days_is_no_record(skilled: Forecasts) -> None:
    lucky = np.zeros(1000)
    lucky[500:530] = 0.02
    found = verdicts(skilled, lucky)["strategy"]
    assert found.verdict == CANNOT_TELL
    assert "held on 30 of 1,000 days, too few" in found.sentence


def test_a_forecast_that_is_its_rivals_own_is_no_evidence(skilled: Forecasts) -> None:
    same = with_values(skilled, "ensemble", volatility=with_rival(skilled).values[RIVAL]["volatility"])
    found = verdicts(same)["volatility"]
    assert found.verdict == CANNOT_TELL
    assert found.rival == "rival"
    assert found.most_in_force in RIVALS["volatility"]
    assert found.sentence == "The forecasts equal the rival's."


# ── the numbers ───────────────────────────────────────────────────────────────────────────────────


def hac(values: FloatArray, horizon: int, regressor: FloatArray | None = None) -> Any:
    lag = max(10, min(10 * horizon, len(values) // 10)) - 1
    inputs = np.ones(len(values)) if regressor is None else sm.add_constant(regressor)
    return sm.OLS(values, inputs).fit(cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False})


def mean_a_day(forecasts: Forecasts, values: FloatArray) -> FloatArray:
    days = forecasts.samples.sessions
    known = np.isfinite(values)
    return np.array([values[known & (days == day)].mean() for day in np.unique(days[known])])


def five_percent(n: int, horizon: int) -> float:
    """Kiefer and Vogelsang's critical value for Bartlett weights over ten horizons, at most a tenth of the rows."""
    b = max(10, min(10 * horizon, n // 10)) / n
    return float(1.6449 + 2.1859 * b + 0.3142 * b**2 - 0.3427 * b**3)


@pytest.mark.parametrize("head", ["direction", "volatility", "regime"])
def test_gains_are_tested_as_day_means_with_overlap(skilled: Forecasts, head: str) -> None:
    found, skilled = verdicts(skilled)[head], with_rival(skilled)
    both = [losses(skilled, head, name) for name in (found.rival, "ensemble")]
    gain = mean_a_day(skilled, both[0] - both[1])
    reference = hac(gain, 5)
    scale = mean_a_day(skilled, np.where(np.isfinite(both[1]), both[0], np.nan)).mean()
    assert found.n == len(gain)
    over_fixed = [
        hac(mean_a_day(skilled, losses(skilled, head, name) - both[1]), 5).tvalues[0]
        for name in {RIVALS[head][0], PLAIN[head]}
    ]
    assert found.statistic == pytest.approx(min(reference.tvalues[0], *over_fixed), rel=1e-6)
    assert bool(found.least_certain) == (min(over_fixed) < reference.tvalues[0])
    assert found.effect == pytest.approx(gain.mean() / scale, rel=1e-9)
    width = five_percent(found.n, 5) * reference.bse[0] / scale
    assert found.effect - found.low == pytest.approx(width, rel=1e-4)
    assert found.high - found.effect == pytest.approx(width, rel=1e-4)
    assert (found.pvalue < 0.05) == (found.statistic > five_percent(found.n, 5))
    assert found.pvalue > norm.sf(found.statistic)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_returns_must_beat_zero_by_clark_west_and_the_rival_in_loss(
    skilled: Forecasts, samples: Samples, scale: float
) -> None:
    """Whichever of the two says less decides: Clark-West does not mind a forecast that is too large."""
    path = scale * skilled.values["ensemble"]["return"]
    forecasts = with_rival(with_values(skilled, "ensemble", **{"return": path}))
    found = verdicts(forecasts)["return"]
    unit, answer = samples.facts.sigma[samples.ends] * np.sqrt(5), samples.targets["return"].value[samples.ends, -1]
    zero, own = ((answer - forecasts.values[name]["return"][:, -1]) / unit for name in ("zero", "ensemble"))
    rival, capped = (np.sqrt(losses(forecasts, "return", name)) for name in ("rival", "ensemble"))
    signal = hac(mean_a_day(forecasts, zero**2 - (own**2 - (zero - own) ** 2)), 5).tvalues[0]
    gain = hac(mean_a_day(forecasts, rival**2 - capped**2), 5).tvalues[0]
    assert found.test == "Clark-West and Diebold-Mariano"
    assert found.statistic == pytest.approx(min(signal, gain), rel=1e-6)
    assert found.clark_west <= found.pvalue


def test_zero_beside_a_noisy_rival_is_no_skill(skilled: Forecasts) -> None:
    """Where the mean is in force and loses, no change gains on it; but no change is no forecast."""
    noise = skilled.values["lstm"]["return"]
    rival = {**with_rival(skilled).values[RIVAL], "return": -3 * noise}
    nothing = with_values(skilled, "ensemble", **{"return": np.where(np.isfinite(noise), 0.0, np.nan)})
    found = verdicts(nothing.with_model(RIVAL, rival))["return"]
    assert found.effect > 0
    assert found.verdict == CANNOT_TELL
    assert found.sentence.startswith("All forecasts are 0")


def test_signal_that_the_model_wastes_is_said_to_be_wasted(skilled: Forecasts) -> None:
    loud = with_values(skilled, "ensemble", **{"return": 8 * skilled.values["ensemble"]["return"]})
    found = verdicts(loud)["return"]
    assert found.clark_west < 0.01
    assert found.effect < 0
    assert found.verdict != SKILL
    assert "The return forecast has a larger loss than the best simple forecast so far" in found.sentence
    assert "R² worse than -100%" in found.sentence
    assert "the forecasts contain signal and are too large" in found.sentence


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
    nulls = nulls.with_model(RIVAL, nulls.values["ensemble"])
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


@pytest.mark.parametrize("head", ["return", "direction"])
def test_costs_and_losses_beyond_a_hundred_percent_are_said_in_words(hopeless: Forecasts, head: str) -> None:
    """A round trip that costs more than the price moves asks for no R² of 1,099 %."""
    wild = {**hopeless.values["lstm"], "return": 30 * hopeless.values["lstm"]["return"]}
    for forecasts in (hopeless, hopeless.with_model("ensemble", wild)):
        found = verdicts(forecasts, round_trip=0.5)[head]
        assert found.verdict == NOTHING
        assert found.break_even > 1
        assert "a round trip costs more than the usual price change" in found.sentence
        numbers = [float(number.replace(",", "")) for number in re.findall(r"([\d.,]+) ?%", found.sentence)]
        assert all(number <= 100 for number in numbers), found.sentence
    if head == "return":
        assert found.effect < -1
        assert "R² worse than -100% (a loss more than twice as large)" in found.sentence


def test_numbers_are_plain(skilled: Forecasts) -> None:
    for one in verdicts(skilled, MARKET_RETURNS * 0.0).values():
        for value in one.to_dict().values():
            assert value is None or type(value) in (str, float, int, bool)
        assert isinstance(pl.DataFrame([one.to_dict()]), pl.DataFrame)


# ── what a claim rests on ─────────────────────────────────────────────────────────────────────────


def days_of(n: int, r2: float, rng: np.random.Generator) -> Days:
    """Days of one symbol without overlap: returns of variance 1 whose calibrated forecast has this R²."""
    forecast = np.sqrt(r2) * rng.standard_normal(n)
    answer = forecast + np.sqrt(1 - r2) * rng.standard_normal(n)
    day = np.datetime64("2001-01-01") + np.arange(n)
    return Days(day, answer**2, (answer - forecast) ** 2, 2 * answer * forecast, forecast**2)


def returns_estimate(days: Days, overlap: int) -> Estimate:
    """The estimate where the rival in force is no change itself."""
    return estimate_gain(days, overlap, {"zero": days})


def test_the_smallest_r2_that_days_can_show_and_the_days_that_an_r2_takes() -> None:
    """The gain of a calibrated forecast: 24.7 / n, and at that size it is seen in 80 of 100 cases.

    Clark-West alone, which skill also needs, sees 6.2 / n as often.
    """
    rng, n = np.random.default_rng(0), 1000
    found = [returns_estimate(days_of(n, 24.7 / n, rng), 1) for _ in range(400)]
    assert np.median([one.detectable for one in found]) == pytest.approx(24.7 / n, rel=0.1)
    assert np.mean([one.pvalue < 0.05 for one in found]) == pytest.approx(0.8, abs=0.06)
    assert np.median([one.effect for one in found]) == pytest.approx(24.7 / n, rel=0.15)
    other = [returns_estimate(days_of(n, 6.18 / n, rng), 1) for _ in range(400)]
    assert np.median([one.detectable for one in other]) == pytest.approx(24.7 / n, rel=0.1)  # whatever it was worth
    assert np.mean([one.clark_west < 0.05 for one in other]) == pytest.approx(0.8, abs=0.06)


def test_overlapping_answers_ask_for_more_days() -> None:
    """By the long-run variance over the plain one, which of sums over five bars is 2.9 with Bartlett's weights."""
    rng, n, h = np.random.default_rng(1), 2000, 5
    lag = 10 * h - 1
    inflation = sum((1 - abs(k) / (lag + 1)) * (1 - abs(k) / h) ** 2 for k in range(-h + 1, h))
    found = []
    for _ in range(40):
        shocks = rng.standard_normal((2, n + h - 1))
        answer, forecast = (np.convolve(one, np.ones(h), "valid") / h**0.5 for one in shocks)
        day, f = np.datetime64("2001-01-01") + np.arange(n), 0.1 * forecast
        found.append(returns_estimate(Days(day, answer**2, (answer - f) ** 2, 2 * answer * f, f**2), h))
    reach = (five_percent(n, h) + 0.842) ** 2
    assert np.mean([one.detectable for one in found]) == pytest.approx(4 * reach / n * inflation, rel=0.1)
    assert np.mean([n / one.n_effective for one in found]) == pytest.approx(inflation, rel=0.1)


def test_days_equal_but_for_rounding_are_not_in_the_sequential_test() -> None:
    """The first 300 days hold rounding of one sign only: as evidence they would be significant by themselves."""
    rng = np.random.default_rng(0)
    n = 500
    model, day = np.full(n, 0.25), np.datetime64("2001-01-01") + np.arange(n)
    rival = model + np.where(np.arange(n) < 300, 5.6e-17 * (1 + rng.random(n)), 0.01 * rng.standard_normal(n))
    found = estimate_gain(Days(day, rival, model, np.full(n, np.nan), np.full(n, np.nan)), 1)
    (tested,) = found.tested
    assert sequential_mean(rival - model).pvalue < 0.001
    assert np.array_equal(tested, (rival - model)[300:])
    assert sequential_mean(tested).pvalue > 0.2


def test_days_needed_and_days_for_the_costs_by_their_formulas(faint: Forecasts) -> None:
    found = verdicts(faint, round_trip=0.0005)
    for head, one in found.items():
        power = 1 if head == "return" else 2  # an R² shrinks with 1 / n, as the detectable one does
        if one.n_needed:
            assert one.n_needed == pytest.approx(one.n * (one.detectable / one.effect) ** power, abs=1)
            assert (one.n_needed > one.n) == (one.detectable > one.effect)
        if one.n_break_even:
            assert one.n_break_even == pytest.approx(one.n * (one.detectable / one.break_even) ** power, abs=1)
    assert found["return"].n_break_even
    assert found["volatility"].n_break_even is None
    for head in ("direction", "volatility", "regime"):
        bound = five_percent(found[head].n, 5)
        width = (found[head].high - found[head].effect) / bound
        assert found[head].detectable == pytest.approx((bound + 0.842) * width, rel=1e-3)


def test_small_numbers_are_not_rounded_away(faint: Forecasts) -> None:
    found = verdicts(faint, round_trip=2e-5)["return"]
    assert found.break_even < 1e-4
    assert "0.0%" not in found.sentence
    assert "0.00%" not in found.sentence


def test_the_year_that_brought_most_is_left_out(skilled: Forecasts, faint: Forecasts) -> None:
    found = verdicts(skilled)["direction"]
    gain = day_means(records_of({"index": skilled})["direction"], "ensemble", RIVAL)
    year = gain.day.astype("datetime64[Y]").astype(int) + 1970
    total = {one: gain.gain[year == one].sum() for one in np.unique(year)}
    best = max(total, key=total.__getitem__)
    assert found.best_year == best
    assert found.without_best_year == pytest.approx(gain.gain[year != best].mean() / gain.rival[year != best].mean())
    assert found.survives is True
    assert verdicts(faint)["direction"].survives is None  # nothing is claimed
    largest = np.sort(gain.gain)[-int(np.ceil(len(gain.gain) / 100)) :]
    assert found.best_days == pytest.approx(largest.sum() / gain.gain.sum())


def test_a_claim_that_rests_on_one_year_says_so(skilled: Forecasts) -> None:
    days = np.datetime64("2001-01-01") + np.arange(1000)
    noise = 0.005 * np.random.default_rng(1).standard_normal(1000)
    noise -= noise.mean()
    lucky = noise + np.where(days.astype("datetime64[Y]") == np.datetime64("2002"), 0.003, 0.0)
    found = verdicts(skilled, lucky, sessions=days)["strategy"]
    assert (found.verdict, found.best_year, found.survives) == (SKILL, 2002, False)
    assert "Without 2002 the gain is -3.8% and no longer significant" in found.sentence
    rest = days.astype("datetime64[Y]") != np.datetime64("2002")
    reference = hac(lucky[rest], 1, MARKET_RETURNS[rest])
    assert found.without_best_year == pytest.approx(252 * reference.params[0], rel=1e-6)
    steady = verdicts(skilled, noise + 0.002, sessions=days)["strategy"]
    assert steady.survives is True
    one_year = verdicts(skilled, noise + 0.002, sessions=np.datetime64("2001-01-01") + np.arange(1000) % 365)
    assert one_year["strategy"].survives is None


def test_the_claim_without_its_best_year_is_held_to_the_same_corrections(skilled: Forecasts) -> None:
    """What is left is significant by itself and among five verdicts, and no more after many trials."""
    days = np.datetime64("2001-01-01") + np.arange(1000)
    noise = 0.005 * np.random.default_rng(1).standard_normal(1000)
    noise -= noise.mean()
    good = noise + np.where(days.astype("datetime64[Y]") == np.datetime64("2002"), 0.003, 0.0007)
    few, many = (verdicts(skilled, good, sessions=days, trials=count)["strategy"] for count in (1, 300))
    assert few.without_best_year == many.without_best_year
    assert few.verdict == many.verdict == SKILL
    assert (few.survives, many.survives) == (True, False)


def test_the_bars_of_a_session_are_one_day(skilled: Forecasts) -> None:
    days = np.repeat(np.datetime64("2001-01-01") + np.arange(200), 5)
    noise = 0.005 * np.random.default_rng(1).standard_normal(1000)
    found = verdicts(skilled, noise + 0.001, sessions=days, periods_per_year=5 * 252.0)["strategy"]
    strategy, market = ((1 + each).reshape(200, 5).prod(1) - 1 for each in (noise + 0.001, MARKET_RETURNS))
    reference = hac(strategy, 1, market)
    assert found.n == 200
    assert found.effect == pytest.approx(252 * reference.params[0])
    assert found.statistic == pytest.approx(reference.tvalues[0])


# ── trials ────────────────────────────────────────────────────────────────────────────────────────


def test_one_trial_changes_nothing_and_more_are_corrected_for(skilled: Forecasts, faint: Forecasts) -> None:
    strategy = 0.005 * np.random.default_rng(6).standard_normal(1000) + 0.0004
    alone, tried = verdicts(faint, strategy), verdicts(faint, strategy, trials=20, effective_trials=6.5)
    for head, one in tried.items():
        assert alone[head].pvalue_trials == alone[head].pvalue_holm == one.pvalue_holm
        worth = 6.5 if head == "strategy" else 20
        assert one.pvalue_trials == pytest.approx(1 - (1 - one.pvalue_holm) ** worth)
        assert (one.trials, one.effective_trials) == (20, worth)
    assert verdicts(faint, strategy, trials=3, effective_trials=99)["strategy"].effective_trials == 3
    assert verdicts(faint, strategy, trials=0)["return"].trials == 1
    assert verdicts(skilled, trials=20)["return"].verdict == SKILL
    assert "and the 20 trials so far" in verdicts(skilled, trials=20)["return"].sentence


def test_the_best_of_many_trials_is_held_against_their_number(skilled: Forecasts) -> None:
    noise = 0.005 * np.random.default_rng(1).standard_normal(1000)
    good = noise - noise.mean() + 0.0005
    first, last = (verdicts(skilled, good, trials=count)["strategy"] for count in (1, 200))
    assert first.verdict == SKILL
    assert last.verdict == CANNOT_TELL
    assert "As a first trial it would be significant" in last.sentence
    assert verdicts(skilled, good, trials=200, effective_trials=1.2)["strategy"].verdict == SKILL


# ── seeds, and when there is next to nothing ──────────────────────────────────────────────────────


def test_the_spread_over_seeds_is_that_of_each_network_alone() -> None:
    small = {"units": 16, "layers": 1, "epochs": 2}
    schedule = Schedule(refit="1Y")
    settings = Experiment(
        bars=synthetic.b1(900, seed=2, r2=0.05), features=("ret_log_1", "x"), schedule=schedule,
        model={"lstm": LSTM(seeds=2, **small), "forest": Forest(trees=5)},
    )  # fmt: skip
    chain = make_chain(settings, settings.read().bars)
    (forecasts,) = chain.forecasts.values()
    alone = walk_forward([LSTM(seeds=1, **small)], forecasts.samples, schedule).values["lstm"]
    for head, first in forecasts.members["lstm"][0].items():
        values = alone[head] if first.ndim == 1 else alone[head][:, -1:]
        np.testing.assert_allclose(first, values, rtol=0.01 if head == "volatility" else 1e-5)
    found, forecasts = verdicts(forecasts), with_rival(forecasts)
    judged = [head for head in RIVALS if np.isfinite(found[head].statistic)]  # the others are their rival's own
    assert len(judged) >= 2
    for head in judged:
        rival = losses(forecasts, head, found[head].rival)
        gains = []
        for member in forecasts.members["lstm"]:
            loss = losses(forecasts.with_model("one", member), head, "one")
            both = np.isfinite(loss) & np.isfinite(rival)
            gains.append(1 - loss[both].mean() / rival[both].mean())
        assert found[head].seed_spread == pytest.approx(abs(gains[0] - gains[1]) / 2**0.5, rel=1e-6)
        assert found[head].seed_spread > 0


def test_seeds_are_unknown_of_forecasts_that_are_not_networks(skilled: Forecasts) -> None:
    assert np.isnan(verdicts(skilled)["return"].seed_spread)


def test_nothing_at_all_is_no_crash(skilled: Forecasts) -> None:
    silent = {
        model: {head: np.full_like(array, np.nan) for head, array in heads.items()}
        for model, heads in skilled.values.items()
    }
    for nothing in (replace(skilled, values=silent), replace(skilled, values=silent, folds=())):
        for head, one in verdicts(nothing, np.zeros(0), sessions=np.zeros(0, "datetime64[D]")).items():
            assert one.verdict == CANNOT_TELL
            assert one.n == 0
            assert ("0 days are too few" if head != "strategy" else "No position was ever held") in one.sentence
    half = {**skilled.values, "ensemble": {**skilled.values["ensemble"], "regime": silent["ensemble"]["regime"]}}
    found = verdicts(replace(skilled, values=half))
    assert found["regime"].verdict == CANNOT_TELL
    assert found["direction"].verdict == SKILL  # and the verdict that could not be made counts in Holm's correction
    assert found["direction"].pvalue_holm == pytest.approx(verdicts(skilled)["direction"].pvalue_holm, rel=2)


def test_signal_whose_gain_is_not_certain_yet_is_said_to_be_that(skilled: Forecasts) -> None:
    """The skilled forecast, ever louder until its R² is no longer above 0 for certain."""
    path, quiet, loud = skilled.values["ensemble"]["return"], 1.0, 8.0
    for _ in range(16):
        scale = (quiet + loud) / 2
        found = verdicts(with_values(skilled, "ensemble", **{"return": scale * path}))["return"]
        quiet, loud = (scale, loud) if found.low > 0 else (quiet, scale)
    found = verdicts(with_values(skilled, "ensemble", **{"return": 1.01 * loud * path}))["return"]
    assert found.low < 0 < found.effect
    assert found.clark_west < 0.01
    assert found.verdict == CANNOT_TELL
    assert "The Clark-West test against no change is significant" in found.sentence
    assert "but the gain over the rival is not." in found.sentence


def test_every_rival_and_every_simpler_model_has_a_name() -> None:
    assert {name for names in (*RIVALS.values(), *REGRESSIONS.values()) for name in names} <= set(PANEL)


def test_the_best_of_the_linear_models_is_the_one_to_use(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    answer = samples.targets["volatility"].value[samples.ends]
    known = np.exp(np.nan_to_num(answer, nan=-7.7))
    noise = np.random.default_rng(0).standard_normal(len(samples))
    for name, size in (("har_symbol", 0.1), ("har_class", 0.05), ("ridge", 1.0)):
        forecasts = forecasts.with_model(name, {"volatility": known * np.exp(size * noise)})
    found = best_simple(Record.of({"index": forecasts}, "volatility"), "ensemble")
    assert found.over == "har_class"
    assert found.high < 0
    against = best_simple(Record.of({"index": forecasts}, "volatility"), "har_class")
    assert against.over == "har_symbol"
    assert against.low > 0


def test_a_gain_that_could_have_been_seen_says_why_it_is_not_enough() -> None:
    said = _not_seen(replace(_blank("regime", "", 500, 0.0, 1, RIVAL, ""), effect=0.054, detectable=0.052,
                             pvalue=0.02, pvalue_holm=0.1, pvalue_trials=0.1))  # fmt: skip
    assert "it is significant alone (p 0.02) and not significant after correction (p 0.1 after Holm)" in said
    assert "above the smallest detectable one" in said
    above = replace(_blank("regime", "", 500, 0.0, 1, RIVAL, ""), effect=0.03, low=0.001, detectable=0.052,
                    pvalue=0.04, pvalue_holm=0.12, pvalue_trials=0.12)  # fmt: skip
    assert "above 0 in all its interval" in _not_seen(above)
    assert not _not_seen(replace(above, low=-0.001))
    assert not _not_seen(_blank("regime", "", 500, 0.0, 1, RIVAL, ""))
