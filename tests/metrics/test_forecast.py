"""Scores against hand-worked cases, scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gatecast.metrics.forecast import (
    brier,
    calibration_error,
    calibration_noise_floor,
    hit_rate,
    information_coefficient,
    known_mean,
    log_loss,
    log_mse,
    qlike,
    qlike_losses,
    r2_against,
    r2_mean,
    r2_zero,
)

NAN = float("nan")


def test_r2_by_hand() -> None:
    actual, forecast = [1, -2, 3], [0.5, -0.5, 1]
    assert r2_zero(actual, forecast) == pytest.approx(0.535714, abs=1e-6)
    assert known_mean(actual, [0, 2]).tolist() == [1, 1, 0.25]
    assert r2_mean(actual, forecast, [0, 2]) == pytest.approx(0.607547, abs=1e-6)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_known_mean_waits_until_the_answer_exists(horizon: int) -> None:
    rng = np.random.default_rng(3)
    actual, history = rng.standard_normal(30), rng.standard_normal(4)
    expected = [np.mean([*history, *actual[: max(t - horizon + 1, 0)]]) for t in range(30)]
    np.testing.assert_allclose(known_mean(actual, history, horizon), expected, rtol=1e-12)


def test_known_mean_without_history_starts_when_an_answer_is_known() -> None:
    np.testing.assert_array_equal(known_mean([4.0, 6.0, NAN, 1.0], [], 2), [NAN, NAN, 4.0, 5.0])
    assert r2_mean([4, 6, 8], [0, 0, 8], []) == pytest.approx(1 - 36 / (2**2 + 3**2))


def test_r2_needs_something_to_explain() -> None:
    assert np.isnan(r2_zero([0, 0], [1, 1]))
    assert np.isnan(r2_against([], [], []))


def test_r2_pools_without_demeaning() -> None:
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(5)
    actual, forecast = rng.normal(2, 1, 100), rng.normal(2, 1, 100)
    assert r2_against(actual, forecast, np.full(100, actual.mean())) == pytest.approx(
        r2_score(actual, forecast), abs=1e-12
    )
    assert r2_zero(actual, actual / 2) == pytest.approx(0.75)


def test_rows_with_nan_are_left_out() -> None:
    assert hit_rate([1.0, NAN, -1.0, 2.0], [1.0, 1.0, NAN, -2.0]) == 0.5
    assert hit_rate(pl.Series([1.0, None, -1.0]), pl.Series([1.0, 1.0, -1.0])) == 1.0


def test_hit_rate_counts_zero_as_down() -> None:
    assert hit_rate([0, 0, 1, -1], [0, 1, 0, 0]) == 0.5


def test_information_coefficient_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(7)
    actual, forecast = rng.integers(0, 9, 200), rng.integers(0, 9, 200)
    assert information_coefficient(actual, forecast) == pytest.approx(spearmanr(actual, forecast).statistic, abs=1e-12)
    assert np.isnan(information_coefficient([1, 2, 3], [1, 1, 1]))


def test_qlike_by_hand() -> None:
    assert qlike([1, 2, 4], [1, 1, 2]) == pytest.approx(0.204569, abs=1e-6)
    assert log_mse([1, 2, 4], [1, 1, 2]) == pytest.approx(2 * np.log(2) ** 2 / 3)


def test_qlike_of_the_true_variance_has_its_floor() -> None:
    rng = np.random.default_rng(11)
    variance = rng.uniform(0.5, 2, 400_000)
    assert qlike(variance * rng.standard_normal(variance.size) ** 2, variance) == pytest.approx(1.270363, abs=0.01)


def test_qlike_of_an_unchanged_price_is_finite_and_the_same_for_every_forecast() -> None:
    wide, narrow = qlike_losses([0.0, 1e-4], [4e-4, 1e-4]), qlike_losses([0.0, 1e-4], [1e-4, 1e-4])
    assert np.isfinite(wide).all()
    assert wide[0] - narrow[0] == pytest.approx(np.log(4))


def test_qlike_refuses_what_is_no_variance() -> None:
    with pytest.raises(ValueError, match="above 0"):
        qlike([1, 1], [1, 0])
    with pytest.raises(ValueError, match="negative"):
        qlike([-1, 1], [1, 1])


def test_probability_scores_are_scikit_learns() -> None:
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as sk_log_loss

    rng = np.random.default_rng(13)
    probability = rng.random(300)
    outcome = (rng.random(300) < probability).astype(int)
    assert brier(outcome, probability) == pytest.approx(brier_score_loss(outcome, probability), abs=1e-12)
    assert log_loss(outcome, probability) == pytest.approx(sk_log_loss(outcome, probability), abs=1e-12)
    assert log_loss([1, 0], [0, 1]) == pytest.approx(12 * np.log(10), rel=1e-3)


@pytest.mark.parametrize("score", [brier, log_loss, calibration_error])
def test_probability_scores_refuse_what_is_neither(score) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        score([1, 0], [1.5, 0.5])
    with pytest.raises(ValueError, match="0 or 1"):
        score([2, 0], [0.5, 0.5])
    assert np.isnan(score([], []))


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.9, 0.2, 0.8])  # bins (0.1, 0.2) and (0.8, 0.9)
    assert calibration_error([0, 1, 1, 1], probability, bins=2) == pytest.approx((0.35 + 0.15) / 2)


def test_calibration_error_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(17)
    probability, outcome = rng.integers(3, 7, 500) / 10, rng.integers(0, 2, 500)
    order = rng.permutation(500)
    assert calibration_error(outcome, probability) == pytest.approx(
        calibration_error(outcome[order], probability[order]), abs=1e-12
    )
    assert calibration_error([0, 1, 0, 1], [0.5] * 4) == 0


@pytest.mark.parametrize(("n", "expected"), [(250, 0.080), (1000, 0.039), (5000, 0.018)])
def test_noise_floor_of_true_probabilities(n: int, expected: float) -> None:
    probability = np.random.default_rng(n).normal(0.5, 0.05, n)
    assert calibration_noise_floor(probability, draws=300) == pytest.approx(expected, abs=0.0015)


def test_noise_floor_is_exceeded_by_what_is_badly_calibrated() -> None:
    rng = np.random.default_rng(19)
    truth = rng.uniform(0.3, 0.7, 1000)
    outcome = rng.random(1000) < truth
    limit = calibration_noise_floor(truth, quantile=0.99, draws=300)
    assert calibration_error(outcome, truth) < limit < calibration_error(outcome, truth + 0.1)


def test_arguments_that_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="3, 2 rows"):
        r2_zero([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="one dimension"):
        brier(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="infinite"):
        hit_rate([1, np.inf], [1, 1])
    with pytest.raises(ValueError, match="horizon"):
        r2_mean([1], [1], [1], horizon=0)
