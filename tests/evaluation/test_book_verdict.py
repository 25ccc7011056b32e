"""The verdict on risk: better forecasts are found, equal ones are not, and money is told apart from both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gatecast.evaluation.risk import gain_in_control, judge_risk, verdict_on
from gatecast.evaluation.verdict import CANNOT_TELL, SKILL, Verdict


@dataclass(frozen=True)
class Planted:
    """A line whose core has variance `core_variance`, sized to one volatility."""

    net: np.ndarray
    excess: np.ndarray
    core_variance: np.ndarray
    core_return: np.ndarray


def lines(seed: int, n: int = 2500, noise: float = 0.6, drift: float = 0.0) -> dict[str, Planted]:
    """The true variance, and one with noise in its log: both size the same returns to 10 % a year."""
    rng = np.random.default_rng(seed)
    log = np.zeros(n)
    for day in range(1, n):
        log[day] = 0.98 * log[day - 1] + 0.15 * rng.standard_normal()
    truth = 1e-4 * np.exp(log)
    returns = np.sqrt(truth) * rng.standard_normal(n) + drift * truth
    made = {}
    for name, scatter in (("mine", 0.0), ("rival", noise)):
        forecast = truth * np.exp(scatter * rng.standard_normal(n) - scatter**2 / 2)
        net = np.r_[0.0, returns[1:] * 0.1 / np.sqrt(252 * forecast[1:])]
        # forecast[t] is said at t of the session t + 1
        said = np.r_[forecast[1:], np.nan]
        made[name] = Planted(net, net, said, returns)
    return made


def other(pvalue: float = 0.5, trials: int = 1) -> dict[str, Verdict]:
    """The verdicts of a run beside that on risk."""
    nan = np.nan
    one = Verdict("return", CANNOT_TELL, nan, nan, nan, "", nan, pvalue, nan, 1, None, nan, trials, 5, "", "", "")
    return {"return": one}


def test_a_better_forecast_is_found_in_forecast_and_control_and_not_in_money() -> None:
    risk = judge_risk(lines(1), "mine", "rival", target=0.1, sessions_per_year=252)
    assert risk.forecast.low > 0
    assert risk.control.low > 0
    assert risk.money.low < 0 < risk.money.high
    assert risk.lines["mine"]["spread"] < risk.lines["rival"]["spread"]
    assert risk.forecast.detectable < risk.forecast.effect
    verdict = verdict_on(risk, other())
    assert verdict.verdict == SKILL
    assert "forecast better" in verdict.sentence
    assert "Money: cannot tell" in verdict.sentence
    assert verdict.to_dict()["money"]["effect"] == risk.money.effect
    assert verdict_on(risk, other(trials=10**9)).verdict == SKILL or risk.forecast.pvalue > 1e-12
    weak = judge_risk(lines(1, n=300, noise=0.1), "mine", "rival", target=0.1, sessions_per_year=252)
    assert verdict_on(weak, other(trials=10**6)).verdict == CANNOT_TELL


def test_a_forecast_no_better_than_a_constant_is_no_skill_whatever_its_rival() -> None:
    both = lines(1)
    risk = judge_risk(both | {"constant": both["mine"]}, "mine", "rival", target=0.1, sessions_per_year=252)
    assert risk.forecast.low > 0
    assert risk.forecast.pvalue >= 0.5
    verdict = verdict_on(risk, other())
    assert verdict.verdict == CANNOT_TELL
    assert "over a constant variance alone and" in verdict.sentence
    beaten = judge_risk(both | {"constant": both["rival"]}, "mine", "rival", target=0.1, sessions_per_year=252)
    assert beaten.forecast == judge_risk(both, "mine", "rival", target=0.1, sessions_per_year=252).forecast


def test_qlike_and_its_gain_are_those_of_the_formula() -> None:
    both = lines(2)
    risk = judge_risk(both, "mine", "rival", target=0.1, sessions_per_year=252)
    square = both["mine"].core_return[1:] ** 2
    square = np.maximum(square, 1e-4 * square.mean())
    loss = {
        name: np.mean(square / one.core_variance[:-1] - np.log(square / one.core_variance[:-1]) - 1)
        for name, one in both.items()
    }
    assert risk.forecast.effect == pytest.approx(1 - loss["mine"] / loss["rival"])
    mine, rival = (one.excess[1:] for one in both.values())
    sharpe = mine.mean() / mine.std() - rival.mean() / rival.std()
    assert risk.money.effect == pytest.approx(0.1 * np.sqrt(252) * sharpe)


def test_equal_lines_are_no_evidence() -> None:
    both = lines(3)
    risk = judge_risk({"mine": both["mine"], "rival": both["mine"]}, "mine", "rival", target=0.1, sessions_per_year=252)
    assert not risk.forecast.better
    assert risk.money.reason == "the two returns are the same"
    assert verdict_on(risk, other()).verdict != SKILL


def test_two_forecasts_that_are_as_good_are_rarely_told_apart() -> None:
    claims = np.zeros(3)
    for seed in range(60):
        rng, both = np.random.default_rng(seed), lines(seed, n=900, noise=0.3)
        one = both["rival"]
        noise = np.exp(0.3 * rng.standard_normal(len(one.net)) - 0.045)
        truth = both["mine"].core_variance * noise
        net = np.r_[0.0, one.core_return[1:] * 0.1 / np.sqrt(252 * truth[:-1])]
        risk = judge_risk(
            {"mine": Planted(net, net, truth, one.core_return), "rival": one}, "mine", "rival", target=0.1,
            sessions_per_year=252,
        )  # fmt: skip
        claims += [answer.low > 0 for answer in (risk.forecast, risk.control, risk.money)]
    assert (claims <= 9).all()  # 60 at 5 %: 9 or more of one in 1 of 400 cases


def test_the_spread_of_volatility_has_the_error_of_a_bootstrap() -> None:
    both = lines(5, n=5000)
    mine, rival = both["mine"].net, both["rival"].net
    found = gain_in_control(mine, rival)
    rng = np.random.default_rng(0)
    windows = [one[1:][-(4999 // 21) * 21 :].reshape(-1, 21).std(axis=1, ddof=1) for one in (mine, rival)]

    def gain(rows: np.ndarray) -> float:
        (a, b) = (one[rows] for one in windows)
        return float(b.std() / b.mean() - a.std() / a.mean())

    count = len(windows[0])
    draws = [gain(rng.integers(0, count, count)) for _ in range(1000)]
    assert found.effect == pytest.approx(gain(np.arange(count)), abs=1e-3)
    assert (found.high - found.low) / 2 == pytest.approx(1.645 * np.std(draws), rel=0.25)


def test_a_short_book_is_not_judged() -> None:
    risk = judge_risk(lines(1, n=200), "mine", "rival", target=0.1, sessions_per_year=252)
    assert "it has 200 sessions, 250 are needed" in risk.sentence
    assert verdict_on(risk, other()).verdict == CANNOT_TELL


def test_a_better_forecast_that_earned_less_says_so() -> None:
    both = lines(7)
    mine = both["mine"]
    poor = Planted(mine.net - 0.0004, mine.excess - 0.0004, mine.core_variance, mine.core_return)
    risk = judge_risk({"mine": poor, "rival": both["rival"]}, "mine", "rival", target=0.1, sessions_per_year=252)
    assert risk.sentence.startswith("It forecasts risk better, and earned less.")
