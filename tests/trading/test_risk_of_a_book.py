"""Tails, betas, stress, days to sell and capacity of a book: known answers, and tails that come true."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.optimize import minimize

from gatecast.errors import SettingsError
from gatecast.metrics.risk import binomial_coverage, fz0_losses
from gatecast.trading.risk import (
    CRISES,
    METHODS,
    Stress,
    betas,
    book_betas,
    capacity_of,
    days_to_sell,
    filtered_outcomes,
    find_factors,
    momentum_of,
    one_within_classes,
    replay,
    smallest_move,
    stress,
    symbol_tails,
    tail_of,
    tail_paths,
    volatility_of,
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


# ── betas and factors ────────────────────────────────────────────────────────────────────────────


def test_betas_are_slopes_of_the_newest_sessions_both_have() -> None:
    random = np.random.default_rng(7)
    factor = random.standard_normal(400)
    returns = np.column_stack([1.5 * factor, -factor, factor]) + 0.1 * random.standard_normal((400, 3))
    returns[:200, 0] = np.nan
    returns[:-50, 2] = np.nan
    found = betas(returns, factor)
    assert found[0] == pytest.approx(np.polyfit(factor[200:], returns[200:, 0], 1)[0])
    assert found[1] == pytest.approx(np.polyfit(factor[-250:], returns[-250:, 1], 1)[0])
    assert np.isnan(found[2])


def test_factors_are_what_the_universe_has() -> None:
    symbols = ["SPY", "TLT", "EURUSD", "USDJPY", "CL=F", "BTC-USD"]
    classes = ["etf", "etf", "fx", "fx", "commodity", "crypto"]
    returns = np.arange(12.0).reshape(2, 6)
    found = find_factors(symbols, classes, returns)
    assert set(found) == {"equity", "duration", "dollar", "commodity", "oil", "coins"}
    assert found["equity"].tolist() == [0, 6]
    assert found["dollar"].tolist() == [0.5, 0.5]
    assert find_factors(["A"], ["equity"], np.ones((3, 1))).keys() == {"equity"}


def test_a_book_has_the_betas_of_what_it_holds() -> None:
    move = np.random.default_rng(10).standard_normal(300)
    returns = np.column_stack([move, 2 * move, np.full(300, np.nan)])
    found = book_betas(["A", "B", "TLT"], ["index", "equity", "etf"], np.array([0.5, -0.1, 0.3]), returns)
    assert found["equity"] == pytest.approx(0.5 - 0.1 * 2)
    assert found["duration"] == 0


def test_momentum_is_known_before_the_session() -> None:
    random = np.random.default_rng(8)
    drift = np.linspace(-0.01, 0.01, 9)
    returns = drift + 0.0001 * random.standard_normal((300, 9))
    factor = momentum_of(returns)
    assert factor is not None
    assert np.isnan(factor[:250]).all()
    assert factor[250:] == pytest.approx(drift[-3:].mean() - drift[:3].mean(), abs=1e-3)
    later = returns.copy()
    later[280:] = 0.0
    assert (momentum_of(later)[250:280] == factor[250:280]).all()  # type: ignore[index]
    assert momentum_of(returns[:, :8]) is None


# ── stress ───────────────────────────────────────────────────────────────────────────────────────

SYMBOLS = ("^GSPC", "TLT", "BTC-USD")
OF = ("index", "etf", "crypto")


def by_name(weights: list[float]) -> dict[str, Stress]:
    random = np.random.default_rng(9)
    move = random.standard_normal(600)
    returns = np.column_stack([move, -0.3 * move, 2 * move]) / 100 + 0.0001 * random.standard_normal((600, 3))
    days = [date(2019, 6, 3) + timedelta(days=day) for day in range(600)]
    deviation = returns.std(axis=0)
    covariance = np.diag(deviation**2)
    made = stress(SYMBOLS, OF, np.array(weights), returns, days, covariance, returns / deviation, deviation)
    return {one.name: one for one in made}


def test_shocks_move_every_symbol_by_its_beta() -> None:
    found = by_name([0.5, 0.4, 0.1])
    assert found["equity -20 %"].result == pytest.approx(-0.2 * (0.5 - 0.3 * 0.4 + 2 * 0.1), rel=0.01)
    assert found["coins -50 %"].result == pytest.approx(-0.5 * (0.5 / 2 - 0.15 * 0.4 + 0.1), rel=0.01)
    assert found["rates +100 bps"].result == -found["rates -100 bps"].result
    assert found["rates +100 bps"].result == pytest.approx(-0.165 * (-0.5 / 0.3 + 0.4 - 0.1 * 2 / 0.3), rel=0.02)
    assert np.isnan(found["oil -40 %"].result)
    assert found["oil -40 %"].words == "no symbol of the universe stands for oil"


def test_volatilities_correlations_and_the_largest_name() -> None:
    found = by_name([0.5, 0.4, 0.1])
    tail = found["correlations 1 within classes"].result  # three classes of one symbol: as today
    assert found["volatilities doubled"].result == pytest.approx(2 * tail)
    assert tail < 0
    assert found["volatilities doubled"].words == "the expected shortfall of one session at 97.5 %"
    largest = by_name([0.1, -0.4, 0.1])["the largest name 30 % against the book"]
    assert (largest.result, largest.words) == (pytest.approx(-0.12), "TLT rises by 30 %")
    flat = by_name([0.0, 0.0, 0.0])
    assert flat["equity -20 %"].result == flat["volatilities doubled"].result == 0


def test_a_crisis_is_replayed_and_what_was_not_there_is_proxied() -> None:
    first, last = CRISES["2020"]
    days = [first + timedelta(days=day) for day in range(-10, 60)]
    days = [day for day in days if day.weekday() < 5]
    returns = np.full((len(days), 4), -0.01)
    returns[:, 0] = np.where(np.arange(len(days)) % 2, 0.02, -0.03)
    returns[:, 1] = np.nan
    returns[12, 0] = np.nan
    returns[:, 3] = np.nan
    weights, classes = np.array([0.5, 0.2, 0.0, 0.3]), ["equity", "equity", "equity", "fx"]
    found = replay("2020", ["A", "B", "C", "D"], classes, weights, returns, days)
    inside = [first <= day <= last for day in days]
    own = np.prod(1 + np.nan_to_num(returns[inside, 0])) - 1
    peers = np.prod(1 + np.nanmean(returns[inside][:, [0, 2]], axis=1)) - 1
    assert found.result == pytest.approx(0.5 * own + 0.2 * peers)
    assert (found.proxied, found.left_out) == (("B",), ("D",))
    assert found.worst == pytest.approx(found.result)  # it ends at its deepest
    missing = replay("2008", ["A", "B", "C", "D"], classes, weights, returns, days)
    assert np.isnan(missing.result)
    assert missing.words == "the bars have less than half of the sessions from 2008-09-15 to 2008-11-20"


def test_what_has_no_peer_in_a_crisis_moves_by_its_beta_of_today() -> None:
    first, _ = CRISES["2020"]
    days = [first + timedelta(days=day) for day in range(300)]
    move = 0.01 * np.random.default_rng(11).standard_normal(300)
    returns = np.column_stack([move, 0.5 * move])
    returns[:60, 1] = np.nan
    found = replay("2020", ["A", "C"], ["equity", "commodity"], np.array([0.0, 1.0]), returns, days)
    inside = [day <= CRISES["2020"][1] for day in days]
    assert found.result == pytest.approx(np.prod(1 + 0.5 * move[inside]) - 1)
    assert found.proxied == ("C",)


def test_correlations_of_one_within_a_class() -> None:
    covariance = np.array([[0.04, 0.001, 0.002], [0.001, 0.09, 0.003], [0.002, 0.003, 0.01]])
    tight = one_within_classes(covariance, ["equity", "equity", "fx"])
    assert tight[0, 1] == pytest.approx(0.06)
    assert tight[:, 2] == pytest.approx(covariance[:, 2])


def test_the_smallest_move_is_the_likeliest_that_loses_so_much() -> None:
    covariance = np.array([[0.04, 0.012, 0], [0.012, 0.09, -0.009], [0, -0.009, 0.01]])
    weights = np.array([0.5, -0.2, 0.7])
    moves, far = smallest_move(weights, covariance)
    assert moves @ weights == pytest.approx(-0.2)
    precision = np.linalg.inv(covariance)
    oracle = minimize(
        lambda move: move @ precision @ move, np.zeros(3),
        constraints={"type": "eq", "fun": lambda move: move @ weights + 0.2},
    )  # fmt: skip
    assert moves == pytest.approx(oracle.x, abs=1e-4)
    assert far == pytest.approx(np.sqrt(oracle.fun), rel=1e-6)
    assert far == pytest.approx(0.2 / volatility_of(weights, covariance))
    assert smallest_move(np.zeros(3), covariance)[1] == np.inf


# ── size ─────────────────────────────────────────────────────────────────────────────────────────


def test_days_to_sell_at_a_tenth_of_half_the_volume() -> None:
    assert days_to_sell(np.array([5e6]), np.array([1e7])).tolist() == pytest.approx([5, 9, 10])
    both = days_to_sell(np.array([1e6, -9e6]), np.array([1e9, 6e7]))
    assert both[2] == pytest.approx(3)
    assert both[0] == pytest.approx((5e6 - 1e6) / 3e6)
    unknown = days_to_sell(np.array([6e6, 4e6]), np.array([4e7, np.nan]))
    assert unknown[0] == pytest.approx(2.5)
    assert np.isnan(unknown[1:]).all()
    assert days_to_sell(np.zeros(2), np.ones(2)).tolist() == [0, 0, 0]


def test_capacity_falls_with_capital_and_most_is_earned_at_its_best() -> None:
    found = capacity_of(0.05, 0.004, 2e6)
    assert (np.diff(found.net) < 0).all()
    at = {
        size: size * (0.05 - 0.004 * np.sqrt(size / 2e6)) for size in (0.9 * found.best, found.best, 1.1 * found.best)
    }
    assert max(at, key=lambda size: at[size]) == found.best
    assert 0.05 - 0.004 * np.sqrt(found.largest / 2e6) == pytest.approx(0)
    assert (capacity_of(-0.01, 0.004, 2e6).best, capacity_of(0.05, 0, 1.0).largest) == (0, np.inf)
    with pytest.raises(SettingsError, match="above 0"):
        capacity_of(0.05, 0.01, 0.0)
