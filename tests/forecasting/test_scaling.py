"""Scalers: plain formulas, and wild values that count as twenty robust standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from gatecast.forecasting.scaling import FAR, OUTLIERS, Scaler, limit_far, robust_spread

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture
def values() -> FloatArray:
    """A thousand rows of a Gaussian, a column with fat tails, and one that is mostly 0."""
    rng = np.random.default_rng(1)
    rare = np.where(rng.random(1000) < 0.1, rng.standard_normal(1000), 0.0)
    return np.column_stack([3 + rng.standard_normal(1000), np.clip(rng.standard_t(4, 1000), -9, 9), rare])


def test_the_robust_spread_is_scipys(values: FloatArray) -> None:
    middle, spread = robust_spread(values)
    np.testing.assert_allclose(middle, np.median(values, axis=0))
    np.testing.assert_allclose(spread[:2], 1.4826 * median_abs_deviation(values[:, :2], axis=0), rtol=1e-12)
    rare = values[values[:, 2] != 0, 2]
    assert spread[2] == pytest.approx(1.4826 * np.median(np.abs(rare)))


def test_without_far_values_the_scaler_is_mean_and_standard_deviation_to_the_bit(values: FloatArray) -> None:
    assert limit_far(values) is values
    scaler = Scaler.fit(values)
    assert np.array_equal(scaler.centre, values.mean(0))
    assert np.array_equal(scaler.spread, values.std(0))


@pytest.mark.parametrize("kind", ["zscore", "minmax"])
@pytest.mark.parametrize("wild", [1e6, -1e12])
def test_a_wild_cell_counts_as_twenty_robust_standard_deviations(values: FloatArray, kind: Any, wild: float) -> None:
    broken = values.copy()
    broken[[5, 500, 900]] = wild
    middle, spread = robust_spread(broken)
    expected = broken.copy()
    expected[[5, 500, 900]] = middle + np.sign(wild) * FAR * spread
    np.testing.assert_allclose(limit_far(broken), expected, rtol=1e-12)
    ours, plain = Scaler.fit(broken, kind), Scaler.fit(expected, kind)
    np.testing.assert_allclose(ours.centre, plain.centre, rtol=1e-12)
    np.testing.assert_allclose(ours.spread, plain.spread, rtol=1e-12)
    usual = np.delete(np.arange(len(values)), [5, 500, 900])
    assert np.ptp(ours.transform(broken)[usual, 0]) > 0.1 * np.ptp(Scaler.fit(values, kind).transform(values)[:, 0])


def test_the_rule_follows_shift_and_unit(values: FloatArray) -> None:
    broken = np.vstack([values, values[:5] * 1e5])
    one, moved = Scaler.fit(broken), Scaler.fit(4 * broken + 1)
    np.testing.assert_allclose(moved.centre, 4 * one.centre + 1, rtol=1e-9)
    np.testing.assert_allclose(moved.spread, 4 * one.spread, rtol=1e-9)


def test_a_column_of_two_scales_and_a_constant_one_stay_as_they_are() -> None:
    """Six quiet symbols beside four others: the others' values are no outliers. Nor is rounding a scale."""
    rng = np.random.default_rng(2)
    two = np.r_[1e-5 * rng.standard_normal(600), rng.standard_normal(400)]
    rounded = np.r_[1 + 1e-16 * rng.standard_normal(800), 1 + 0.1 * rng.standard_normal(200)]
    table = np.column_stack([two, np.ones(1000), rounded])
    assert np.mean(np.abs(two) > FAR * robust_spread(table)[1][0]) > OUTLIERS
    assert limit_far(table) is table
    assert np.isinf(robust_spread(table)[1][1])
    assert Scaler.fit(table).transform(table)[:, 1].tolist() == [0.0] * 1000
