"""Known answers, and the definition of PBO written out as loops."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest

from gatecast.metrics.overfitting import (
    deflated_sharpe,
    effective_trials,
    expected_max_sharpe,
    min_track_record_length,
    pbo,
    probabilistic_sharpe,
)


def test_deflated_sharpe_known_answers() -> None:
    sharpe, variance = 2.5 / 250**0.5, 0.5 / 250
    assert expected_max_sharpe(100, variance) == pytest.approx(0.113172, abs=1e-6)
    assert deflated_sharpe(sharpe, 1250, -3, 10, 100, variance) == pytest.approx(0.900397, abs=1e-6)
    assert deflated_sharpe(sharpe, 1250, -3, 10, 46, variance) == pytest.approx(0.950502, abs=1e-6)


def test_one_trial_deflates_nothing() -> None:
    assert expected_max_sharpe(1, 0.01) == 0
    assert deflated_sharpe(0.1, 500, -1, 5, 1, 0.01) == probabilistic_sharpe(0.1, 500, -1, 5)


@pytest.mark.parametrize("trials", [10, 100, 1000])
def test_expected_max_is_that_of_gaussian_draws(trials: int) -> None:
    draws = np.random.default_rng(trials).normal(0, 0.3, (4000, trials)).max(axis=1)
    assert expected_max_sharpe(trials, 0.09) == pytest.approx(draws.mean(), rel=0.03)


def test_probabilistic_sharpe_is_one_half_at_the_benchmark() -> None:
    assert probabilistic_sharpe(0.05, 400, -1, 6, benchmark=0.05) == 0.5


def test_min_track_record_length() -> None:
    daily = 252**0.5
    assert min_track_record_length(2 / daily, 1 / daily) / 252 == pytest.approx(2.7310, abs=5e-5)
    bars = min_track_record_length(0.1, 0.02, skew=-2, kurtosis=9, confidence=0.9)
    assert probabilistic_sharpe(0.1, bars, -2, 9, benchmark=0.02) == pytest.approx(0.9)  # type: ignore[arg-type]


NAN, INF = float("nan"), float("inf")
NOISE = np.random.default_rng(8).standard_normal((64, 4))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (expected_max_sharpe(0, 1), "trials"),
        (expected_max_sharpe(0.5, 1), "trials"),
        (expected_max_sharpe(INF, 1), "trials"),
        (expected_max_sharpe(NAN, 1), "trials"),
        (expected_max_sharpe(10, -0.1), "variance"),
        (expected_max_sharpe(10, NAN), "variance"),
        (probabilistic_sharpe(0.1, 1), "too few"),
        (probabilistic_sharpe(0.1, 0), "too few"),
        (probabilistic_sharpe(1.0, 100, skew=5, kurtosis=3), "moments"),
        (probabilistic_sharpe(0.1, 100, kurtosis=0), "not excess"),
        (probabilistic_sharpe(NAN, 100), "finite"),
        (probabilistic_sharpe(0.1, 100, INF), "finite"),
        (probabilistic_sharpe(1e200, 100), "moments"),
        (probabilistic_sharpe(0.1, 100, benchmark=NAN), "exceed"),
        (deflated_sharpe(0.1, 100, 0, 3, 0, 0.1), "trials"),
        (deflated_sharpe(0.1, 100, 0, 3, 10, -1), "variance"),
        (min_track_record_length(0.1, 0.1), "no record"),
        (min_track_record_length(0.1, NAN), "no record"),
        (min_track_record_length(NAN, 0), "finite"),
        (min_track_record_length(1.0, 0, skew=5), "moments"),
        (min_track_record_length(0.1, 0, confidence=1), "confidence"),
        (min_track_record_length(1e-200, 0), "too near"),
        (effective_trials([]), "no trials"),
        (effective_trials(np.zeros((9, 0))), "no trials"),
        (effective_trials([[1, INF], [2, 3]]), "infinite"),
        (pbo([]), "no profits"),
        (pbo(np.zeros((10, 3)), blocks=16), "16 rows"),
        (pbo(NOISE[:, :1]), "1 configurations"),
        (pbo(np.full((64, 3), NAN)), "0 rows"),
        (pbo(np.zeros((64, 3))), "all the same"),
        (pbo(NOISE[:, [0, 0, 0]]), "all the same"),
        (pbo(np.tile([1.0, 2.0], (64, 1))), "no configuration varies"),
        (pbo(np.where(np.eye(64, 4) > 0, INF, 1.0)), "infinite"),
    ],
)
def test_undefined_says_why(value: float, reason: str) -> None:
    assert np.isnan(value)
    assert reason in value.reason  # type: ignore[attr-defined]
    assert value.__class__(value.reason).reason == copy.deepcopy(value).reason  # type: ignore[attr-defined]


def test_a_confidence_of_one_half_takes_one_bar() -> None:
    assert min_track_record_length(0.1, 0, confidence=0.5) == min_track_record_length(0.1, 0, confidence=0.2) == 1


def test_a_million_trials_have_their_expected_best() -> None:
    assert expected_max_sharpe(1e6, 1) == pytest.approx(4.86, abs=0.01)  # Gaussian: 4.8633
    assert np.isfinite(expected_max_sharpe(1e30, 1))


HAND = np.array([[3, 0.1, -1], [2, 0, 1.2], [-1, 0.2, 2], [1, -0.1, -1.1]])


def test_pbo_by_hand() -> None:
    assert pbo(HAND, blocks=4, statistic="mean") == pytest.approx(0.666667, abs=1e-6)
    assert pbo(HAND, blocks=4) == 1.0


@pytest.mark.parametrize("statistic", ["mean", "sharpe"])
def test_pbo_is_its_definition(statistic: str) -> None:
    table = np.random.default_rng(5).standard_normal((67, 7)) + np.linspace(0, 0.2, 7)
    kept, blocks, below = table[67 % 6 :].reshape(6, 11, 7), 6, []
    for inside in combinations(range(blocks), 3):
        train = np.concatenate([kept[b] for b in inside])
        test = np.concatenate([kept[b] for b in range(blocks) if b not in inside])
        score = (lambda x: x.mean(0) / x.std(0)) if statistic == "sharpe" else (lambda x: x.mean(0))
        rank = 1 + np.argsort(np.argsort(score(test)))[np.argmax(score(train))]
        omega = rank / (7 + 1)
        below.append(np.log(omega / (1 - omega)) <= 0)
    assert pbo(table, blocks=6, statistic=statistic) == pytest.approx(np.mean(below))  # type: ignore[arg-type]


def test_pbo_drops_times_from_the_start() -> None:
    table = np.random.default_rng(6).standard_normal((103, 5))
    assert pbo(table, blocks=10) == pbo(table[3:], blocks=10)
    assert pbo(np.vstack([[np.nan] * 5, table]), blocks=10) == pbo(table, blocks=10)


def test_pbo_on_noise_and_on_skill() -> None:
    rng = np.random.default_rng(7)
    noise = [pbo(rng.standard_normal((400, 20)), blocks=8) for _ in range(60)]
    assert 0.4 < np.mean(noise) < 0.6
    skilled = rng.standard_normal((400, 20))
    skilled[:, 4] += 0.5
    assert pbo(skilled, blocks=8) == 0


@pytest.mark.parametrize("statistic", ["mean", "sharpe"])
def test_pbo_of_ties_and_units(statistic: str) -> None:
    """A copy of a configuration ties with it in whatever column it stands; and profits have no unit."""
    doubled = np.column_stack([NOISE, NOISE])
    share = pbo(doubled, blocks=8, statistic=statistic)  # type: ignore[arg-type]
    for order in (np.r_[4:8, 0:4], np.random.default_rng(9).permutation(8)):
        assert pbo(doubled[:, order], blocks=8, statistic=statistic) == share  # type: ignore[arg-type]
    for scale in (1e-12, 1e12, 1e-160, 1e160):
        assert pbo(scale * doubled, blocks=8, statistic=statistic) == share  # type: ignore[arg-type]
        assert effective_trials(scale * doubled) == pytest.approx(effective_trials(NOISE))


def test_pbo_refuses_what_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="even"):
        pbo(HAND, blocks=3)
    with pytest.raises(ValueError, match="from 2 to 20"):
        pbo(np.zeros((100, 3)), blocks=40)
    with pytest.raises(ValueError, match="statistic"):
        pbo(HAND, blocks=4, statistic="median")  # type: ignore[arg-type]
