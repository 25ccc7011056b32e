"""Covariance of names, against plain sums and planted markets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatecast.errors import SettingsError
from gatecast.trading.covariance import (
    FLOOR,
    Correlations,
    Ewma,
    book_variance,
    class_means,
    covariance_of,
    covariance_path,
    decay_of,
    floored,
    spiked,
)

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
NAMES, CLASSES = ("A", "B", "C", "D", "E"), ("equity", "equity", "etf", "etf", "fx")


def market(sessions: int = 120, names: int = 5, seed: int = 0, holes: float = 0.1) -> tuple[FloatArray, FloatArray]:
    """Returns with a common part and holes, and deviations that vary; the last name begins late."""
    rng = np.random.default_rng(seed)
    deviations = 0.01 * np.exp(0.3 * rng.standard_normal((sessions, names)))
    returns = deviations * (0.6 * rng.standard_normal((sessions, 1)) + 0.8 * rng.standard_normal((sessions, names)))
    returns[rng.random((sessions, names)) < holes] = np.nan
    returns[: sessions // 2, -1] = np.nan
    return returns, deviations


def last(state: Correlations, returns: FloatArray, deviations: FloatArray) -> Correlations:
    for one, expected in zip(returns, deviations, strict=True):
        state = state.after(one, expected)
    return state


def test_sums_are_those_of_a_plain_loop() -> None:
    returns, deviations = market(60)
    state = last(Correlations.start(NAMES, CLASSES), returns, deviations)
    scaled, decay = np.clip(returns / deviations, -4.2, 4.2), decay_of(125)
    for i in range(5):
        for j in range(5):
            same = [(decay ** (59 - t), scaled[t, i] * scaled[t, j]) for t in range(60)]
            late = [(decay ** (59 - t), scaled[t, i] * scaled[t - 1, j]) for t in range(1, 60)]
            for found, pairs in ((state.same, same), (state.lagged, late)):
                there = [(weight, product) for weight, product in pairs if not np.isnan(product)]
                assert found.weight[i, j] == pytest.approx(sum(weight for weight, _ in there))
                assert found.total[i, j] == pytest.approx(sum(weight * product for weight, product in there))


def test_a_correlation_is_made_as_it_is_said() -> None:
    returns, deviations = market(60, holes=0.0)
    state = last(Correlations.start(NAMES, CLASSES), returns, deviations)
    same, late = state.same.mean, state.lagged.mean
    whole = same + late + late.T
    raw = whole / np.sqrt(np.outer(np.diag(whole), np.diag(whole)))
    count = state.same.weight
    share = 0.1 + 0.9 * 60 / (60 + count[0, 2])
    four = [(0, 2), (0, 3), (1, 2), (1, 3)]
    mean = np.average([raw[pair] for pair in four], weights=[count[pair] for pair in four])
    assert state.correlation()[0, 2] == pytest.approx((1 - share) * raw[0, 2] + share * mean)
    np.testing.assert_array_equal(np.diag(state.correlation()), 1.0)


@pytest.mark.parametrize("cut", [1, 67, 119])
def test_a_path_goes_on_from_a_state_to_the_bit(cut: int) -> None:
    returns, deviations = market()
    start = Correlations.start(NAMES, CLASSES)
    whole = [covariance for _, covariance in covariance_path(start, returns, deviations, deviations)]
    first = list(covariance_path(start, returns[:cut], deviations[:cut], deviations[:cut]))
    rest = covariance_path(first[-1][0], returns[cut:], deviations[cut:], deviations[cut:])
    parts = [covariance for _, covariance in [*first, *rest]]
    np.testing.assert_array_equal(whole, parts)


def test_names_that_begin_later_change_no_bit_of_what_was_before() -> None:
    returns, deviations = market(200, names=4)
    alone = last(Correlations.start(NAMES[:4], CLASSES[:4]), returns, deviations)
    joined = alone.among(("0", *NAMES[:4]), ("crypto", *CLASSES[:4]))
    more = np.full((200, 1), np.nan)
    together = last(
        Correlations.start(joined.names, joined.classes), np.hstack([more, returns]), np.hstack([more, deviations])
    )
    for state in (joined, together):
        np.testing.assert_array_equal(state.correlation(np.arange(1, 5)), alone.correlation())
        np.testing.assert_array_equal(state.same.total, joined.same.total)


def test_a_later_return_changes_nothing_before() -> None:
    returns, deviations = market(50)
    start = Correlations.start(NAMES, CLASSES)
    before = [found for _, found in covariance_path(start, returns, deviations, deviations)]
    returns[40:] *= -3
    after = [found for _, found in covariance_path(start, returns, deviations, deviations)]
    np.testing.assert_array_equal(before[:40], after[:40])
    assert (before[40] != after[40]).any()


def test_what_is_shared_a_session_late_is_found() -> None:
    """One closes before the other: .3 of what they share falls into the same session, the rest into the next."""
    rng = np.random.default_rng(1)
    early, late = np.sqrt(0.3) * rng.standard_normal(3001), np.sqrt(0.7) * rng.standard_normal(3001)
    shared = np.column_stack([(early + late)[1:], early[1:] + late[:-1]])
    returns = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.standard_normal((3000, 2))
    state = last(Correlations.start(("A", "B"), ("index", "fx"), half_life=5000), returns, np.ones((3000, 2)))
    assert state.same.mean[0, 1] == pytest.approx(0.8 * 0.3, abs=0.05)
    assert state.correlation()[0, 1] == pytest.approx(0.8, abs=0.06)


def test_a_price_that_bounces_keeps_a_variance() -> None:
    rng = np.random.default_rng(4)
    returns = np.diff(rng.standard_normal((401, 2)), axis=0)  # each is followed by its opposite
    state = last(Correlations.start(("A", "B"), ("index", "index")), returns, np.ones((400, 2)))
    whole = state.same.mean + state.lagged.mean + state.lagged.mean.T
    assert np.diag(whole).max() < 0.25 * np.diag(state.same.mean).min()
    own = 0.25 * np.sqrt(state.same.mean[0, 0] * state.same.mean[1, 1])
    assert state.correlation()[0, 1] == pytest.approx(whole[0, 1] / own)


def test_a_young_name_is_divided_by_its_own_sessions() -> None:
    rng = np.random.default_rng(2)
    returns = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 1000)
    returns[:940, 1] = np.nan
    state = last(Correlations.start(("A", "B"), ("index", "index")), returns, np.ones((1000, 2)))
    pair = np.corrcoef(returns[940:].T)[0, 1]
    scale = np.sqrt(state.same.mean[0, 0] * state.same.mean[1, 1])
    assert state.same.mean[0, 1] / scale == pytest.approx(pair, abs=0.1)


def test_the_covariance_has_the_forecast_variances_and_no_eigenvalue_below_the_floor() -> None:
    returns, deviations = market(80, names=5)
    ahead = np.full((80, 5), 0.2)
    ahead[:, 2] = np.nan
    _, covariance = list(covariance_path(Correlations.start(NAMES, CLASSES), returns, deviations, ahead))[-1]
    there = [0, 1, 3, 4]
    assert np.isnan(covariance[2]).all()
    np.testing.assert_allclose(np.diag(covariance)[there], 0.04)
    assert np.linalg.eigvalsh(covariance[np.ix_(there, there)]).min() >= 0.5 * FLOOR * 0.04


@pytest.mark.parametrize("seed", range(5))
def test_a_matrix_that_is_none_becomes_a_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(-1, 1, (8, 8))
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, rng.uniform(0.5, 2, 8))
    mended = floored(matrix)
    assert np.linalg.eigvalsh(matrix).min() < 0 < np.linalg.eigvalsh(mended).min()
    np.testing.assert_allclose(np.diag(mended), np.diag(matrix))
    np.testing.assert_array_equal(mended, mended.T)


def test_prices_that_are_one_price_but_for_rounding_have_a_covariance() -> None:
    above = [
        [0, 0, 2, 2, -1, 0, 0, 2], [0, 0, 1, 2, -1, 0, 0, 1], [2, 1, 0, 4, 1, 2, 1, 1], [2, 2, 4, 0, 0, 2, 2, 4],
        [-1, -1, 1, 0, 0, -1, -1, 1], [0, 0, 2, 2, -1, 0, 0, 2], [0, 0, 1, 2, -1, 0, 0, 1], [2, 1, 1, 4, 1, 2, 1, 0],
    ]  # fmt: skip
    matrix = 1 + np.array(above) * np.finfo(float).eps  # on which LAPACK's search for some eigenvalues fails
    mended = floored(matrix)
    assert np.linalg.eigvalsh(mended).min() >= 0.9 * FLOOR
    np.testing.assert_allclose(mended, matrix, atol=2 * FLOOR)


def test_a_price_that_never_moves_has_a_variance_of_0() -> None:
    ewma = Ewma.start(("A", "B", "C"), half_life=250)
    rng = np.random.default_rng(3)
    for returns in rng.standard_normal((100, 3)) * [1.0, 0.0, 1.0]:
        ewma = ewma.after(returns)
    covariance = ewma.covariance(np.arange(3))
    assert np.isfinite(covariance).all()
    assert (covariance[1] == 0).all()
    state = Correlations.start(("A", "B"), ("index", "index")).after(np.array([0.0, 1.0]), np.ones(2))
    assert np.isfinite(state.correlation()).all()


def test_ewma_is_the_weighted_mean_over_common_sessions() -> None:
    returns, _ = market(100)
    ewma = Ewma.start(NAMES, half_life=30)
    for one in returns:
        ewma = ewma.after(one)
    weight = decay_of(30) ** np.arange(99, -1, -1)
    there = ~np.isnan(returns[:, 0] * returns[:, 1])
    expected = np.average((returns[:, 0] * returns[:, 1])[there], weights=weight[there])
    assert ewma.covariance(np.array([0, 1]))[0, 1] == pytest.approx(expected)
    assert ewma.among(("X", "A")).sessions.tolist() == [0.0, ewma.sessions[0]]


def test_before_the_first_session_nothing_is_known_to_be_shared() -> None:
    np.testing.assert_array_equal(Correlations.start(NAMES, CLASSES).correlation(), np.eye(5))
    assert Correlations.start((), ()).correlation().shape == (0, 0)


def test_a_class_without_a_common_session_takes_the_mean_of_all_pairs() -> None:
    values = np.array([[1.0, 0.4, np.nan], [0.4, 1.0, np.nan], [np.nan, np.nan, 1.0]])
    weight = np.array([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert class_means(values, weight, ("fx", "fx", "etf"))[0, 2] == 0.4


def test_volatility_of_a_book_and_of_one_whose_class_falls_together() -> None:
    covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    weights = np.array([0.5, 0.5])
    volatility = np.sqrt(book_variance(weights, covariance))
    assert volatility == pytest.approx(0.124499, abs=5e-7)
    assert 0.1 / volatility == pytest.approx(0.803219, abs=5e-7)
    assert book_variance(weights, covariance, np.array([True, False])) == pytest.approx(0.01)
    together = covariance_of(spiked(np.array([[1.0, 0.3], [0.3, 1.0]]), ("fx", "fx")), np.array([0.2, 0.1]))
    assert together[0, 1] == pytest.approx(0.016)
    apart = covariance_of(spiked(np.array([[1.0, 0.3], [0.3, 1.0]]), ("fx", "etf")), np.array([0.2, 0.1]))
    assert apart[0, 1] == pytest.approx(0.006)


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="'A' stands twice"):
        Correlations.start(("A",), ("fx",)).among(("A", "A"), ("fx", "fx"))
