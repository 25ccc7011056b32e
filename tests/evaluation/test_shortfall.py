"""The test of tails and the gate of control: true ones pass, false ones are named, and nothing later is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from gatecast.evaluation.gate import gate_of
from gatecast.evaluation.risk import ANSWERS, TESTED, judge_risk, verdict_on
from gatecast.evaluation.shortfall import LEVEL, RIVALS, TITLES, judge_shortfall
from gatecast.evaluation.verdict import CANNOT_TELL, Verdict
from gatecast.files import jsonable
from gatecast.metrics.risk import fz0_losses
from gatecast.metrics.significance import fixed_b_mean
from gatecast.store.schema import Scores, fault_of
from gatecast.trading.risk import METHODS, tail_paths

N = 1500
DAYS = np.busday_offset("2001-01-01", np.arange(N), roll="forward").astype("datetime64[D]")
NAN = float("nan")


def market(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns whose volatility moves, and the deviation of each."""
    rng = np.random.default_rng(seed)
    log = np.zeros(N)
    for day in range(1, N):
        log[day] = 0.97 * log[day - 1] + 0.15 * rng.standard_normal()
    sigma = 0.01 * np.exp(log / 2)
    return sigma * rng.standard_normal(N), sigma


def tails(returns: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
    """What each method says of a book of one symbol."""
    column = returns[:, None]
    return tail_paths(column, sigma[:, None], np.ones((N, 1)), ["index"], LEVEL, since=1)


@pytest.fixture(scope="module")
def true() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    returns, sigma = market(3)
    return returns, tails(returns, sigma)


def test_true_deviations_say_the_tails_better_than_the_best_plain_method(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    returns, said = true
    answer, table = judge_shortfall(returns, said, DAYS)
    assert answer.low > 0
    assert answer.pvalue < 0.01
    assert table["zone"] == "green"
    assert min(table[name] for name in ("pvalue", "independence", "kupiec")) > 0.01
    assert table["exceedance"] == pytest.approx(1, abs=0.15)
    good = np.isfinite(np.column_stack([*said.values()])).all(axis=1)
    assert table["sessions"] == good.sum() == sum(row["sessions"] for row in table["years"])
    beyond = int((returns[good] <= said["filtered"][good, 0]).sum())
    assert table["beyond"] == beyond == sum(row["beyond"] for row in table["years"])
    loss = fz0_losses(returns[good], *said["filtered"][good].T)
    own = next(row for row in table["methods"] if row["method"] == "filtered")
    assert own["loss"] == pytest.approx(loss.mean())


def test_half_the_deviation_is_caught_by_coverage_and_by_z2(true: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    returns, said = true
    half = {**said, "filtered": said["filtered"] / 2}
    answer, table = judge_shortfall(returns, half, DAYS)
    assert table["zone"] == "red"
    assert table["pvalue"] < 1e-6
    assert table["z2"]["pvalue"] < 0.001
    assert answer.effect < 0


def test_methods_that_say_the_same_are_not_told_apart_and_short_books_are_not_judged(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    returns, said = true
    same = {**said, **dict.fromkeys(RIVALS, said["filtered"])}
    answer, _ = judge_shortfall(returns, same, DAYS)
    assert answer.reason == "the values are constant"
    assert not answer.better
    short, table = judge_shortfall(returns[:300], {name: one[:300] for name, one in said.items()}, DAYS[:300])
    assert "250 are needed" in short.reason
    assert table == {}


def test_the_claim_is_that_every_plain_method_loses_more(true: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    """The p-value is the largest of one test a rival; a rival that says what gatecast says leaves no claim."""
    returns, said = true
    answer, table = judge_shortfall(returns, said, DAYS)
    good = np.isfinite(np.column_stack([*said.values()])).all(axis=1)
    loss = {name: fz0_losses(returns[good], *path[good].T) for name, path in said.items()}
    tests = {name: fixed_b_mean(loss[name] - loss["filtered"]) for name in RIVALS}
    hardest = max(tests, key=lambda name: tests[name].pvalue)
    assert (answer.pvalue, answer.effect) == (tests[hardest].pvalue, tests[hardest].effect)
    assert table["against"] == TITLES[hardest]
    for name in RIVALS:
        equal, _ = judge_shortfall(returns, {**said, name: said["filtered"]}, DAYS)
        assert not equal.better


def test_where_volatility_never_changes_a_longer_past_is_no_gain() -> None:
    """Nine walks: there is a gain over 250 sessions, and none over the hardest rival, which has the whole past too."""
    claims, effects, over_250 = 0, [], []
    for seed in range(9):
        returns = 0.01 * np.random.default_rng(seed).standard_normal(N)
        sigma = np.sqrt(np.cumsum(returns**2) / np.arange(1, N + 1))
        answer, table = judge_shortfall(returns, tails(returns, np.r_[NAN, sigma[:-1]]), DAYS)
        claims += answer.pvalue < 0.05
        effects.append(answer.effect)
        over_250.append({row["method"]: row["gain"] for row in table["methods"]}["historical_250"])
    assert claims == 0
    assert np.mean(over_250) > 0.01
    assert np.mean(effects) < 0.001


def test_all_of_the_past_is_what_historical_simulation_by_hand_says(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    returns, said = true
    past = np.sort(returns[:1000])  # 25 of 1,000 lie at or below the value at risk
    np.testing.assert_allclose(said["historical_all"][1000], [past[24], past[:25].mean()])
    assert np.isnan(said["historical_all"][249]).all()
    assert np.isfinite(said["historical_all"][250]).all()


def test_the_test_of_tails_is_the_eighth_of_holm(true: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    line = sized(1.0, 1)
    answer, table = judge_shortfall(*true, DAYS)
    risk = replace(
        judge_risk({"mine": line, "rival": line}, "mine", "rival", target=0.1, sessions_per_year=252),
        shortfall=answer, tails=table,
    )  # fmt: skip
    assert risk.pvalues == tuple(getattr(risk, name).pvalue for name in TESTED)
    others = {
        name: Verdict(name, CANNOT_TELL, NAN, NAN, NAN, "", NAN, 0.5, NAN, 1, None, NAN, 1, 5, "", "", "")
        for name in ("return", "direction", "volatility", "regime", "strategy")
    }
    verdict = verdict_on(risk, others)
    assert verdict.shortfall is not None
    assert verdict.shortfall["pvalue_holm"] == pytest.approx(min(1.0, 6 * answer.pvalue), rel=0.4)
    assert verdict.sentence.endswith(verdict.shortfall["sentence"])
    assert "the expected shortfall of the book is said better than by each of the plain methods" in verdict.sentence
    assert f"over the method beaten least surely, {table['against']}, " in verdict.sentence
    assert list(ANSWERS[:3]) == ["forecast", "control", "money"]
    kept = {
        "verdicts": {"risk": verdict.to_dict()},
        "book": {"risk": {**risk.to_dict(), "gate": jsonable(gate_of(line))}},
    }
    assert fault_of(Scores, jsonable(kept)) == ""


def test_what_the_tests_beside_it_found_is_said_with_what_follows(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    earned, said = true
    sentence = judge_shortfall(earned, said, DAYS)[1]["sentence"]
    assert "luck may be all of the difference" in sentence
    assert "Nothing shows that they come in runs" in sentence
    assert "not shown to be larger than said" in sentence
    half = judge_shortfall(earned, said | {"filtered": 0.5 * said["filtered"]}, DAYS)[1]
    assert ": more than luck would make" in half["sentence"]
    assert "losses are larger than said" in half["sentence"]
    twice = judge_shortfall(earned, said | {"filtered": 2.0 * said["filtered"]}, DAYS)[1]
    assert ": fewer than luck would make" in twice["sentence"]


def test_nothing_is_said_of_runs_where_nothing_lay_beyond_and_fewer_neighbours_are_no_runs(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    earned, said = true
    none = judge_shortfall(np.abs(earned), said, DAYS)[1]
    assert none["beyond"] == 0
    assert "runs" not in none["sentence"]
    assert "nan" not in none["sentence"]
    often = np.where(np.arange(N) % 9 == 0, -1.0, 0.0)
    apart = judge_shortfall(often, said, DAYS)[1]
    assert apart["independence"] < 0.05
    assert "They follow each other less often than luck would make" in apart["sentence"]
    pairs = np.where(np.arange(N) % 40 < 2, -1.0, 0.0)
    assert "They come in runs" in judge_shortfall(pairs, said, DAYS)[1]["sentence"]
    one_pair = np.where(np.isin(np.arange(N), (1000, 1001)), -1.0, 0.0)
    told = judge_shortfall(one_pair, said, DAYS)[1]
    assert (told["beyond"], told["independence"] < 0.05) == (2, True)
    assert "They are too few to tell whether they come in runs." in told["sentence"]


def test_worse_than_one_plain_method_is_not_called_worse_than_each(
    true: tuple[np.ndarray, dict[str, np.ndarray]],
) -> None:
    earned, said = true
    best = "ewma_normal" if "ewma_normal" in said else RIVALS[-1]
    others = {name: 6.0 * path for name, path in said.items() if name in RIVALS and name != best}
    answer, table = judge_shortfall(earned, said | others | {"filtered": 2.0 * said["filtered"]}, DAYS)
    assert answer.worse
    line = sized(1.0, 1)
    risk = replace(
        judge_risk({"mine": line, "rival": line}, "mine", "rival", target=0.1, sessions_per_year=252),
        shortfall=answer, tails=table,
    )  # fmt: skip
    assert f"the expected shortfall of the book is said worse than by {TITLES[best]}. " in risk.sentences[-1]


def test_the_plain_method_that_loses_least_is_named_beside_the_one_that_is_beaten_least_surely() -> None:
    returns, sigma = market(4)
    table = judge_shortfall(returns, tails(returns, sigma), DAYS)[1]
    least = min((row for row in table["methods"] if row["method"] in RIVALS), key=lambda row: row["loss"])
    assert table["against"] != least["title"]
    assert f"Of the plain methods {least['title']} loses least" in table["sentence"]
    assert f"gain in FZ0 is {least['gain']:+.3f}" in table["sentence"]


@dataclass(frozen=True)
class Sized:
    """A line of a book."""

    net: np.ndarray
    excess: np.ndarray
    core_variance: np.ndarray
    core_return: np.ndarray
    days: np.ndarray
    earned: np.ndarray
    expected: np.ndarray
    level: np.ndarray


def sized(times: float, seed: int, level: float = 1.0) -> Sized:
    """A line whose forecast variance is so many times the true one."""
    returns, sigma = market(seed)
    said = times * sigma**2
    net = returns * 0.1 / np.sqrt(252 * said)
    return Sized(
        net, net, np.r_[said[1:], NAN], returns, DAYS, np.r_[NAN, returns[1:]], np.r_[NAN, said[1:]],
        np.full(N, level),
    )  # fmt: skip


def test_the_gate_holds_for_the_truth_and_names_what_is_wrong() -> None:
    true, wide = sized(1.0, 2), sized(2.0, 2)
    found = gate_of(true, wide)
    assert found["passed"], found
    assert found["sentence"].endswith("All four conditions hold.")
    assert found["without"] == pytest.approx([1] * 5, abs=0.25)
    assert [row["year"] for row in found["years"]] == list(range(2001, 2007))[: len(found["years"])]
    missed = gate_of(wide, true)
    assert not any(missed["conditions"].values())
    assert missed["sentence"].endswith(
        "Not held: fifths without the multiplier, fifths with it, years with it, QLIKE better than by EWMA."
    )
    mended = gate_of(sized(2.0, 2, level=0.5**0.5), true)["conditions"]
    assert mended["fifths with it"]
    assert mended["years with it"]
    assert not mended["fifths without the multiplier"]


def test_sessions_that_a_holding_lacks_shorten_no_window() -> None:
    """A coin trades on Sundays: for a share beside it the last 250 sessions are those of the share."""
    returns, sigma = market(4)
    both = np.column_stack([returns, np.where(np.arange(N) % 7 < 5, returns, np.nan)])
    said = tail_paths(
        both, np.column_stack([sigma, sigma]), np.where(np.isnan(both), 0.0, 0.5), ["crypto", "equity"], since=1
    )
    assert np.isfinite(said["historical_250"][800:]).all()
    short = tail_paths(
        both[:, 1:], sigma[:, None], np.ones((N, 1)), ["equity"], methods={"historical_250": METHODS["historical_250"]},
        since=1,
    )["historical_250"]  # fmt: skip
    kept = ~np.isnan(both[:, 1])
    dense = tail_paths(
        both[kept][:, 1:], sigma[kept][:, None], np.ones((int(kept.sum()), 1)), ["equity"],
        methods={"historical_250": METHODS["historical_250"]}, since=1,
    )["historical_250"]  # fmt: skip
    np.testing.assert_array_equal(short[kept][400:], dense[400:])
