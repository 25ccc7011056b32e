"""What today's book may lose: each number is that of numpy by hand, and what is unknown is said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from gatecast.files import jsonable
from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.trading.book import Book, core_path, first_session, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.exposure import Today, risk_today
from gatecast.trading.sizing import BookSettings


@pytest.fixture(scope="module")
def today() -> Today:
    """Two indices that fall together and a fund that does not, of which the third is held short."""
    random = np.random.default_rng(1)
    covariance = np.array([[0.0004, 0.0003, 0.0], [0.0003, 0.0009, 0.0], [0.0, 0.0, 0.0001]])
    returns = random.multivariate_normal(np.zeros(3), covariance, 700) / 2
    return Today(
        symbols=("SP500", "NASDAQ", "GLD"), classes=("index", "index", "etf"),
        days=[date(2021, 1, 4) + timedelta(days=day) for day in range(700)], weights=np.array([0.5, 0.3, -0.2]),
        equity=1e6, volumes=np.array([2e6, 1e7, np.nan]), per_year=np.full(3, 252.0), returns=returns,
        deviations=np.tile(np.sqrt(np.diag(covariance)), (700, 1)), covariance=covariance,
    )  # fmt: skip


def test_today_is_the_newest_close_of_a_line() -> None:
    book = Book(size=BookSettings(target_volatility=0.04), money=MoneySettings(benchmark_rate=0.02))
    sessions = sessions_by(facts_of(synthetic.g1(300, seed=3, symbols=3)), book)
    deviations, core = past_deviations(sessions.returns), core_path(sessions, Core())
    gaps = deviations.copy()
    gaps[280:, 0] = np.nan  # forecasts of one symbol stop
    line = run_line(sessions, core, deviations, book, begin=first_session([deviations], core))
    made = Today.of(sessions, line, gaps)
    assert made.days[-1] == sessions.days[-1]
    assert made.weights.tolist() == line.held[-1].tolist()
    assert made.equity == line.frame["equity"][-1]
    np.testing.assert_array_equal(made.deviations[22:], deviations[22:])
    np.testing.assert_allclose(made.residuals[50:], sessions.returns[50:] / deviations[49:-1])
    assert np.isnan(made.residuals[0]).all()
    found = risk_today(made)
    assert found["volatility"] == pytest.approx(0.04, rel=0.08)  # the target, within the band
    assert sum(row["share"] for row in found["symbols"]) == pytest.approx(1)


def test_shares_of_the_variance_add_up_and_a_hedge_has_less_than_none(today: Today) -> None:
    found = risk_today(today)
    weights, covariance = today.weights, today.covariance
    variance = weights @ covariance @ weights
    by_hand = dict(zip(today.symbols, weights * (covariance @ weights) / variance, strict=True))
    assert {row["symbol"]: row["share"] for row in found["symbols"]} == pytest.approx(by_hand)
    assert [row["symbol"] for row in found["symbols"]] == sorted(by_hand, key=lambda name: -by_hand[name])
    assert found["volatility"] == pytest.approx(np.sqrt(252 * variance))
    assert (found["gross"], found["net"]) == (pytest.approx(1.0), pytest.approx(0.6))
    linked = covariance.copy()
    linked[0, 2] = linked[2, 0] = 0.00015
    hedge = risk_today(replace(today, covariance=linked))["symbols"][-1]
    assert (hedge["symbol"], hedge["share"] < 0) == ("GLD", True)
    short = next(row for row in found["symbols"] if row["symbol"] == "GLD")
    rises = -np.sort(-today.returns[1:, 2])  # a short loses where the price rises
    assert short["value_at_risk"] == pytest.approx(-rises[int(np.ceil(0.025 * 699)) - 1])


def test_tails_are_of_the_book_as_it_is_held(today: Today) -> None:
    found = risk_today(today, horizon=5)
    rows = {(row["method"], row["sessions"], row["level"]): row for row in found["tails"]}
    assert {key[1:] for key in rows} == {(1, 0.975), (1, 0.99), (5, 0.975), (5, 0.99)}
    assert {key[0] for key in rows} == {"filtered", "historical_all", "historical_250", "historical_500", "normal"}
    book = np.sort(today.returns[1:] @ today.weights)  # deviations are the same in all sessions
    assert rows["filtered", 1, 0.99]["value_at_risk"] == pytest.approx(book[6])
    assert rows["filtered", 1, 0.99]["shortfall"] == pytest.approx((book[:6].sum() + 0.99 * book[6]) / 6.99)
    assert all(row["shortfall"] <= row["value_at_risk"] < 0 for row in rows.values())
    assert found["vectors"] == 699


def test_stress_betas_and_days_to_sell_stand_beside_them(today: Today) -> None:
    found = risk_today(today)
    newest = today.returns[-250:]
    slopes = [np.polyfit(newest[:, 0], newest[:, place], 1)[0] for place in range(3)]
    assert found["betas"]["equity"] == pytest.approx(today.weights @ slopes)
    results = {row["name"]: row for row in found["stress"]}
    assert results["equity -20 %"]["result"] == pytest.approx(-0.2 * found["betas"]["equity"])
    assert results["2008"]["words"].startswith("no data: ")
    inside = [date(2022, 1, 4) <= day <= date(2022, 10, 12) for day in today.days]
    grown = np.prod(1 + today.returns[inside], axis=0) - 1
    assert results["2022"]["result"] == pytest.approx(today.weights @ grown)
    assert found["days_to_sell"]["50%"] == pytest.approx((5e5 - 3e5) / (0.05 * 2e6))
    assert np.isnan(found["days_to_sell"]["90%"])
    assert found["days_to_sell"]["unknown"] == ["GLD"]
    moves = found["smallest_move"]
    assert sum(moves["moves"][name] * weight for name, weight in zip(today.symbols, today.weights, strict=True)) == (
        pytest.approx(-0.2)
    )
    assert moves["deviations"] == pytest.approx(0.2 / found["volatility"])
    assert next(iter(moves["moves"])) == "SP500"


def test_a_file_can_hold_it_and_an_empty_book_says_so(today: Today) -> None:
    json.dumps(jsonable(risk_today(today, 5)), allow_nan=False)
    nothing = risk_today(replace(today, weights=np.zeros(3)), 5)
    assert nothing == {"day": "2022-12-04", "gross": 0.0, "net": 0.0, "horizon": 5}
    young = risk_today(replace(today, days=today.days[:20], returns=today.returns[:20],
                               deviations=today.deviations[:20]))  # fmt: skip
    assert young["vectors"] == 19
    assert all(np.isnan(row["shortfall"]) for row in young["tails"])
    json.dumps(jsonable(young), allow_nan=False)


def test_what_comes_later_changes_nothing_and_the_same_is_said_again(today: Today) -> None:
    first, again = (json.dumps(jsonable(risk_today(today, 5))) for _ in range(2))
    assert first == again


def test_what_is_held_without_a_bar_is_named(today: Today) -> None:
    returns = today.returns.copy()
    returns[-7:, 1] = np.nan
    returns[-2:, 0] = np.nan
    assert risk_today(replace(today, returns=returns))["silent"] == {"NASDAQ": today.days[-8].isoformat()}
    assert risk_today(today)["silent"] == {}
