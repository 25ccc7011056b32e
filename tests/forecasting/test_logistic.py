"""The logistic regression's weights: scikit-learn's, and where the slopes of its loss are 0, whatever the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from gatecast.forecasting.models.logistic import regression


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0, 1e3])
def test_the_weights_are_scikit_learns(strength: float) -> None:
    draw = np.random.default_rng(1)
    inputs = draw.standard_normal((500, 6))
    target = (inputs[:, 0] + draw.standard_normal(500) > 0.5).astype(float)
    counts, lacking = draw.random(500) + 0.1, np.arange(500) % 7 == 0
    theirs = LogisticRegression(C=strength, tol=1e-12, solver="newton-cholesky", max_iter=200)
    theirs.fit(inputs[~lacking], target[~lacking], counts[~lacking])
    target[lacking] = np.nan
    mine = regression(inputs, target, counts, strength)
    np.testing.assert_allclose(mine, np.r_[theirs.intercept_, theirs.coef_[0]], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(regression(inputs, target, counts, strength, start=mine + 0.3), mine, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(2, 60), columns=st.integers(1, 5), size=st.floats(0.0, 8.0),
    power=st.floats(-4, 6), separable=st.booleans(),
)  # fmt: skip
def test_the_loss_has_no_slope_where_it_ends(
    seed: int, rows: int, columns: int, size: float, power: float, separable: bool
) -> None:
    draw = np.random.default_rng(seed)
    inputs = size * draw.standard_normal((rows, columns))
    target = (inputs[:, 0] > 0).astype(float) if separable else draw.integers(0, 2, rows).astype(float)
    weights = regression(inputs, target, np.ones(rows), 10.0**power)
    if target.min() == target.max():
        assert (weights[1:] == 0).all()
        return
    chance = expit(weights[0] + inputs @ weights[1:])
    slopes = np.r_[(chance - target).sum(), inputs.T @ (chance - target) + weights[1:] / 10.0**power]
    assert np.abs(slopes).max() < 1e-5 * max(1.0, size) * rows
