"""Tails of a book: known answers, and tails that come true."""

from __future__ import annotations

import numpy as np
import pytest

from gatecast.errors import SettingsError
from gatecast.metrics.risk import binomial_coverage, fz0_losses
from gatecast.trading.risk import (
    METHODS,
    filtered_outcomes,
    over_sessions,
    symbol_tails,
    tail_of,
    tail_paths,
    tails_of,
    with_proxies,
)

CLASSES = ("equity", "equity", "etf")


def market(sessions: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns and the true deviations (sessions, 3): fat tails that fall together, and calm and wild years."""
    random = np.random.default_rng(seed)
    common = random.standard_t(5, (sessions, 1)) / np.sqrt(5 / 3)
    own = random.standard_t(5, (sessions, 3)) / np.sqrt(5 / 3)
    level = 0.01 * np.exp(0.7 * np.sin(np.arange(sessions) / 60))[:, None] * np.array([1.0, 1.5, 0.7])
    return level * (0.8 * common + 0.6 * own), level


# ── tails ────────────────────────────────────────────────────────────────────────────────────────


def test_a_tail_takes_the_part_of_a_return_that_belongs_to_it() -> None:
    outcomes = np.arange(-10.0, 0.0)
    assert tail_of(outcomes, 0.1) == (-10, -10)
    assert tail_of(outcomes, 0.2) == (-9, -9.5)
    value_at_risk, shortfall = tail_of(outcomes, 0.25)
    assert value_at_risk == -8
    assert shortfall == pytest.approx((-10 - 9 + 0.5 * -8) / 2.5)
    assert tail_of([np.nan, -1.0], 0.5) == (-1, -1)
    assert np.isnan(tail_of([])).all()
    with pytest.raises(SettingsError, match=r"97\.5 % is 0\.025"):
        tail_of(outcomes, 97.5)


def test_whole_vectors_are_drawn_so_that_a_hedge_stays_one() -> None:
    z = np.random.default_rng(1).standard_normal(500)
    outcomes = filtered_outcomes(np.column_stack([z, z]), np.array([0.01, 0.02]), np.array([0.8, -0.4]))
    assert np.abs(outcomes).max() < 1e-12
    over_five = filtered_outcomes(np.column_stack([z, z]), np.array([0.01, 0.01]), np.array([0.5, -0.5]), 5)
    assert np.abs(over_five).max() < 1e-12


def test_paths_grow_with_the_root_of_time_and_are_the_same_again() -> None:
    z = np.random.default_rng(2).standard_normal((1000, 1))
    one = filtered_outcomes(z, np.array([0.01]), np.array([1.0]))
    five = filtered_outcomes(z, np.array([0.01]), np.array([1.0]), 5, seed=3)
    assert len(one) == 1000
    assert five.std() / one.std() == pytest.approx(np.sqrt(5), rel=0.05)
    assert (five == filtered_outcomes(z, np.array([0.01]), np.array([1.0]), 5, seed=3)).all()
    assert filtered_outcomes(np.full((300, 1), -60.0), np.array([0.05]), np.array([1.0]), 5).min() == -1


def test_vectors_without_a_held_symbol_are_left_out() -> None:
    residuals = np.array([[1.0, np.nan], [2.0, 1.0]])
    assert filtered_outcomes(residuals, np.ones(2) / 100, np.array([1.0, 1.0])).tolist() == [pytest.approx(0.03)]
    assert len(filtered_outcomes(residuals, np.ones(2) / 100, np.array([1.0, 0.0]))) == 2


def test_filtered_tails_come_true_and_lose_less_than_their_rivals() -> None:
    returns, deviations = market()
    weights = np.broadcast_to(np.array([0.4, 0.3, 0.3]), returns.shape)
    paths = tail_paths(returns, deviations, weights, CLASSES, since=500)
    book = (returns * weights).sum(axis=1)
    found = {name: fz0_losses(book[500:], *path[500:].T).mean() for name, path in paths.items()}
    assert set(found) == set(METHODS)
    assert min(found, key=lambda name: found[name]) == "filtered"
    assert binomial_coverage(book[500:] <= paths["filtered"][500:, 0], 0.025).pvalue > 0.05
    assert np.isnan(paths["filtered"][:500]).all()


def test_what_comes_later_changes_no_tail() -> None:
    returns, deviations = market(320)
    returns[200, 1] = np.nan
    weights = np.abs(np.random.default_rng(4).standard_normal(returns.shape))
    whole = tail_paths(returns, deviations, weights, CLASSES, since=300)
    cut = tail_paths(returns[:310], deviations[:310], weights[:310], CLASSES, since=300)
    changed = returns.copy()
    changed[309:] = -0.5
    other = tail_paths(changed, deviations, weights, CLASSES, since=300)
    for name in METHODS:
        assert whole[name][:310].tobytes() == cut[name].tobytes()
        assert whole[name][:310].tobytes() == other[name][:310].tobytes()


def test_too_short_a_past_says_nothing_and_no_holding_risks_nothing() -> None:
    returns, deviations = market(260)
    weights = np.ones_like(returns)
    weights[255] = 0
    path = tail_paths(returns, deviations, weights, CLASSES)["filtered"]
    assert np.isnan(path[:250]).all()
    assert (path[250:255] < 0).all()
    assert path[255].tolist() == [0, 0]
    with pytest.raises(SettingsError, match="must be"):
        tail_paths(returns, deviations[:-1], weights, CLASSES)


def test_symbols_have_tails_of_their_own() -> None:
    residuals = np.random.default_rng(5).standard_normal((2000, 2))
    residuals[:1500, 1] = np.nan
    tails = symbol_tails(residuals, np.array([0.01, 0.03]))
    assert [tail.value_at_risk for tail in tails] == pytest.approx([-0.0196, -0.0588], rel=0.15)
    assert all(tail.shortfall < tail.value_at_risk for tail in tails)


def test_proxies_are_as_wide_as_a_symbol_and_known_then() -> None:
    random = np.random.default_rng(6)
    values = 0.6 * random.standard_normal((4000, 1)) + 0.8 * random.standard_normal((4000, 5))
    values[:3000, 4] = np.nan
    filled = with_proxies(values, ["equity"] * 5)
    assert filled[500:3000, 4].std() == pytest.approx(values[:, 0].std(), rel=0.06)
    assert (filled[3000:] == values[3000:]).all()
    assert filled[:2000].tobytes() == with_proxies(values[:2000], ["equity"] * 5).tobytes()
    assert np.isnan(with_proxies(values[:5], [*["equity"] * 4, "fx"])[:, 4]).all()


def test_the_tails_of_today_are_those_of_numpy_by_hand() -> None:
    returns, deviations = market(700, seed=3)
    residuals, weights, today = returns / deviations, np.array([0.4, 0.3, 0.0]), deviations[-1]
    said = {(one.method, one.sessions, one.level): one.tail for one in tails_of(returns, residuals, today, weights, 5)}
    assert len(said) == len(METHODS) * 2 * 2

    def by_hand(outcomes: np.ndarray, level: float) -> tuple[float, float]:
        ordered, meant = np.sort(outcomes), level * len(outcomes)
        whole = int(np.ceil(meant)) - 1
        return ordered[whole], (ordered[:whole].sum() + (meant - whole) * ordered[whole]) / meant

    book = returns @ weights
    of_five = (np.prod([1 + returns[place : 696 + place] for place in range(5)], axis=0) - 1) @ weights
    of_filtered = (residuals * today) @ weights
    for level in (0.025, 0.01):
        assert said["filtered", 1, level] == pytest.approx(by_hand(of_filtered, level))
        assert said["historical_250", 1, level] == pytest.approx(by_hand(book[-250:], level))
        assert said["historical_500", 5, level] == pytest.approx(by_hand(of_five[-500:], level))
        one, five = said["normal", 1, level], said["normal", 5, level]
        assert five == pytest.approx([np.sqrt(5) * value for value in one])
    share = 0.94 ** np.arange(700)[::-1]
    sigma = np.sqrt(share @ book**2 / share.sum())
    assert said["normal", 1, 0.01].value_at_risk == pytest.approx(-2.326348 * sigma, rel=1e-6)
    assert said["normal", 1, 0.01].shortfall == pytest.approx(-2.665214 * sigma, rel=1e-6)
    five, one = said["filtered", 5, 0.025], said["filtered", 1, 0.025]
    assert five.shortfall / one.shortfall == pytest.approx(np.sqrt(5), rel=0.2)


def test_few_vectors_say_no_tail_over_several_sessions_either_and_holidays_count_for_none() -> None:
    returns, deviations = market(240)
    for one in tails_of(returns, returns / deviations, deviations[-1], np.array([0.4, 0.3, 0.3]), 5):
        assert np.isnan(one.tail.shortfall) == (one.method != "historical_250")
    with_weekends = np.full((700, 1), np.nan)
    with_weekends[::2, 0] = np.random.default_rng(14).standard_normal(350) / 100
    found = {
        (one.method, one.level): one.tail
        for one in tails_of(with_weekends, with_weekends * 100, np.array([0.01]), np.array([1.0]))
    }
    assert found["historical_250", 0.025] == tail_of(with_weekends[::2, 0][-250:], 0.025)
    assert found["filtered", 0.025].shortfall == pytest.approx(tail_of(with_weekends[::2, 0], 0.025).shortfall)
    assert over_sessions(returns[:3], 5).shape == (0, 3)
