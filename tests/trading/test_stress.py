"""Betas, stress and days to sell of a book: known answers."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.optimize import minimize

from gatecast.trading.stress import (
    CRISES,
    Stress,
    betas,
    book_betas,
    days_to_sell,
    find_factors,
    momentum_of,
    one_within_classes,
    replay,
    smallest_move,
    stress,
    volatility_of,
)

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
    returns = np.arange(360.0).reshape(60, 6)
    found = find_factors(symbols, classes, returns)
    assert set(found) == {"equity", "duration", "dollar", "commodity", "oil", "coins"}
    assert found["equity"].returns[:2].tolist() == [0, 6]
    assert found["duration"].returns[:2].tolist() == [1 / 16.5, 7 / 16.5]
    assert found["dollar"].returns[:2].tolist() == [0.5, 0.5]
    assert {name: one.stands_for_it for name, one in found.items()} == {
        "equity": "SPY", "duration": "TLT", "dollar": "the mean of 2 pairs with the dollar", "commodity": "CL=F alone",
        "oil": "CL=F", "coins": "BTC-USD alone",
    }  # fmt: skip
    assert find_factors(["A"], ["equity"], np.ones((60, 1))).keys() == {"equity"}
    named = find_factors(["A", "SPY", "DBC"], ["index", "etf", "etf"], np.arange(180.0).reshape(60, 3))
    assert {name: one.returns[:2].tolist() for name, one in named.items()} == {"equity": [1, 4], "commodity": [2, 5]}
    returns[10:, 0] = np.nan  # a symbol that has ended stands for nothing
    assert find_factors(symbols, classes, returns).keys() == {"duration", "dollar", "commodity", "oil", "coins"}
    funds = find_factors(["SPY", "XLE", "GLD"], ["etf"] * 3, np.where(np.arange(3) > 0, returns[:, 1:4], np.nan))
    # the mean of funds that are none of gold, oil or bonds
    assert funds["equity"].returns.tolist() == returns[:, 2].tolist()


def test_a_book_has_the_betas_of_what_it_holds() -> None:
    move = np.random.default_rng(10).standard_normal(300)
    returns = np.column_stack([move, 2 * move, np.full(300, np.nan)])
    found = book_betas(["A", "B", "TLT"], ["index", "equity", "etf"], np.array([0.5, -0.1, 0.3]), returns)
    assert found["equity"] == pytest.approx(0.5 - 0.1 * 2)
    assert "duration" not in found  # the fund has no bar in the newest sessions


def test_a_book_of_what_rose_most_has_a_beta_to_momentum() -> None:
    random = np.random.default_rng(12)
    winners = random.standard_normal((600, 1)) / 100
    returns = np.concatenate([np.tile(winners + 0.003, 3), np.zeros((600, 3)), np.full((600, 3), -0.003)], axis=1)
    names = [f"S{place}" for place in range(9)]
    found = book_betas(names, ["equity"] * 9, np.array([0.2] * 3 + [0.0] * 6), returns)
    assert found["momentum"] == pytest.approx(0.6, abs=1e-6)


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
    assert found["oil -40 %"].words == "no data: no symbol stands for it"


def test_a_crisis_that_begins_after_the_newest_session_is_not_listed() -> None:
    """The sessions end in January 2021; those before them, of which there are no bars, are told as such."""
    found = by_name([0.5, 0.4, 0.1])
    assert [name for name in CRISES if name in found] == ["2008", "2011", "2015", "2018", "2020"]
    assert found["2018"].words.startswith("no data: ")
    assert not np.isnan(found["2020"].result)


def test_volatilities_correlations_and_the_largest_name() -> None:
    found = by_name([0.5, 0.4, 0.1])
    tail = found["correlations 1 within classes"].result  # three classes of one symbol: as today
    assert found["volatilities doubled"].result == pytest.approx(2 * tail)
    assert tail < 0
    plain = "the expected shortfall of one session at 97.5 %"
    alone = f"{plain}, as it is: no two symbols that are held are of one class"
    assert found["correlations 1 within classes"].words == alone
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
    found = replay("2020", ["A", "B", "C", "D"], classes, weights, returns, days, returns[:, 0])
    inside = [first <= day <= last for day in days]
    own = np.prod(1 + np.nan_to_num(returns[inside, 0])) - 1
    peers = np.prod(1 + np.nanmean(returns[inside][:, [0, 2]], axis=1)) - 1
    assert found.result == pytest.approx(0.5 * own + 0.2 * peers)
    assert (found.proxied, found.left_out) == (("B",), ("D",))
    assert found.worst == pytest.approx(found.result)  # it ends at its deepest
    missing = replay("2008", ["A", "B", "C", "D"], classes, weights, returns, days, returns[:, 0])
    assert np.isnan(missing.result)
    assert missing.words == "no data: the bars have less than half of its sessions"


def test_what_has_no_peer_in_a_crisis_moves_by_its_beta_of_today() -> None:
    first, _ = CRISES["2020"]
    days = [first + timedelta(days=day) for day in range(300)]
    move = 0.01 * np.random.default_rng(11).standard_normal(300)
    returns = np.column_stack([move, 0.5 * move])
    returns[:60, 1] = np.nan
    found = replay("2020", ["A", "C"], ["equity", "commodity"], np.array([0.0, 1.0]), returns, days, returns[:, 0])
    inside = [day <= CRISES["2020"][1] for day in days]
    assert found.result == pytest.approx(np.prod(1 + 0.5 * move[inside]) - 1)
    assert found.proxied == ("C",)


def test_a_proxy_is_as_steep_as_its_symbol_is_today_and_what_nothing_stands_for_is_said() -> None:
    first, last = CRISES["2020"]
    days = [first + timedelta(days=day) for day in range(300)]
    move = 0.01 * np.random.default_rng(13).standard_normal(300)
    returns = np.column_stack([move, 2.0 * move, 0.5 * move])
    returns[:60, 1:] = np.nan
    names, classes, none = ["A", "B", "C"], ["equity", "equity", "fx"], np.full(300, np.nan)
    found = replay("2020", names, classes, np.array([0.0, 1.0, 0.0]), returns, days, move)
    inside = [day <= last for day in days]
    assert found.result == pytest.approx(np.prod(1 + 2.0 * move[inside]) - 1)
    alone = replay("2020", names, classes, np.array([0.0, 0.0, 1.0]), returns, days, none)
    assert np.isnan(alone.result)
    assert alone.words.startswith("no data: neither what is held nor its class")


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


def test_nothing_falls_by_more_than_all_of_its_price() -> None:
    covariance = np.array([[1.0, 0.02, 0.03], [0.02, 0.01, 0.002], [0.03, 0.002, 0.02]])
    weights = np.array([0.12, 0.6, 0.2])
    moves, far = smallest_move(weights, covariance)
    assert moves[0] == -1
    precision = np.linalg.inv(covariance)
    oracle = minimize(
        lambda move: move @ precision @ move, np.full(3, -0.2), bounds=[(-1, None)] * 3,
        constraints={"type": "eq", "fun": lambda move: move @ weights + 0.2},
    )  # fmt: skip
    assert moves == pytest.approx(oracle.x, abs=1e-4)
    assert far == pytest.approx(np.sqrt(oracle.fun), rel=1e-4)
    assert smallest_move(np.array([0.1, 0.05, 0.0]), covariance)[1] == np.inf
    short, _ = smallest_move(np.array([-0.1, 0.0, 0.0]), covariance)
    assert short[0] == pytest.approx(2.0)


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
