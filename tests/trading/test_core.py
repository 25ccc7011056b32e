"""The core: equal risk against a plain optimiser, monthly refreshes, what leaves and what is left out."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from gatecast.errors import BarsFileError, SettingsError
from gatecast.trading.core import Core, CoreState, core_weights, equal_risk, equal_risk_by_class, read_weights

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
TWO = np.array([[0.04, 0.006], [0.006, 0.01]])
THREE = np.array([[0.04, 0.012, 0], [0.012, 0.09, -0.009], [0, -0.009, 0.01]])


def days(count: int, first: date = date(2023, 1, 2)) -> list[date]:
    every = (first + timedelta(days=day) for day in range(2 * count + 10))
    return [day for day in every if day.weekday() < 5][:count]


def made(returns: FloatArray, listed: FloatArray | None = None, core: Core | None = None, **given: Any) -> list[Any]:
    """The states after each session of a made-up record."""
    core = core or Core(**given)
    names = tuple("ABCDE"[: returns.shape[1]])
    state, found = CoreState.start(names, ("equity",) * len(names), core), []
    for number, session in enumerate(days(len(returns))):
        state = state.after(
            session, returns[number], np.ones(len(names), bool) if listed is None else listed[number], core
        )
        found.append(state)
    return found


@pytest.mark.parametrize(
    ("covariance", "weights"), [(TWO, (1 / 3, 2 / 3)), (THREE, (0.225474, 0.182787, 0.591740)), (TWO[:1, :1], (1.0,))]
)
def test_known_answers_of_equal_risk(covariance: FloatArray, weights: tuple[float, ...]) -> None:
    np.testing.assert_allclose(equal_risk(covariance), weights, atol=5e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10**6), st.floats(-6, 3))
def test_all_contribute_the_same(count: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count + 3, count)) * np.exp(spread * rng.standard_normal(count) / 3)
    covariance = x.T @ x + 1e-3 * np.diag((x**2).sum(0))
    weights = equal_risk(covariance)
    contribution = weights * (covariance @ weights)
    np.testing.assert_allclose(contribution, contribution.mean(), rtol=1e-8)
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(equal_risk(covariance * 7), weights, rtol=1e-9)


def test_equal_risk_is_what_an_optimiser_finds() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 6)) * [1, 2, 3, 1, 0.5, 1]
    covariance = x.T @ x / 40

    def objective(logarithm: FloatArray) -> float:
        x = np.exp(logarithm)
        return float(x @ covariance @ x / 2 - logarithm.mean())

    found = np.exp(minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-9}).x)
    np.testing.assert_allclose(equal_risk(covariance), found / found.sum(), atol=1e-5)


def test_classes_contribute_the_same_whatever_their_number_of_names() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((60, 5)) * 0.5 + rng.standard_normal((60, 1))
    covariance, kinds = x.T @ x / 60, np.array(["equity", "equity", "equity", "etf", "index"])
    weights = equal_risk_by_class(covariance, kinds.tolist())
    contribution = weights * (covariance @ weights)
    by_class = [contribution[kinds == kind].sum() for kind in ("equity", "etf", "index")]
    np.testing.assert_allclose(by_class, np.mean(by_class))
    own = weights[:3] * (covariance[:3, :3] @ weights[:3])
    np.testing.assert_allclose(own, own.mean())


def test_weights_change_at_the_first_session_of_a_month_alone() -> None:
    returns = np.random.default_rng(3).standard_normal((150, 3)) * 0.01
    states = made(returns)
    months, weights = [day.month for day in days(150)], [state.weights.tolist() for state in states]
    for number in range(1, 150):
        assert (weights[number] == weights[number - 1]) or months[number] != months[number - 1]
    assert weights[60] == [0.0, 0.0, 0.0]  # no month has begun since there were sixty sessions
    assert sum(weights[-1]) == pytest.approx(1)


def test_a_symbol_that_ended_leaves_at_once_and_the_others_stay() -> None:
    returns, listed = np.random.default_rng(4).standard_normal((140, 3)) * 0.01, np.ones((140, 3), bool)
    listed[101:, 1] = False
    states = made(returns, listed)
    assert states[100].weights[1] > 0
    assert states[101].weights.tolist() == [states[100].weights[0], 0.0, states[100].weights[2]]
    assert states[139].weights.sum() == pytest.approx(1)


def test_the_core_goes_on_from_a_state_and_new_names_change_nothing_before() -> None:
    returns = np.random.default_rng(5).standard_normal((130, 2)) * 0.01
    whole, core = made(returns), Core()
    state = whole[99].among(("0", "A", "B"), ("etf", "equity", "equity"))
    for number, session in list(enumerate(days(130)))[100:]:
        state = state.after(session, np.r_[np.nan, returns[number]], np.array([False, True, True]), core)
    assert state.weights.tolist() == [0.0, *whole[-1].weights]


def test_currencies_and_single_commodities_are_held_where_they_are_named() -> None:
    returns = np.random.default_rng(6).standard_normal((80, 4)) * 0.01
    ewma = made(returns)[-1].ewma
    kinds, listed = ("equity", "fx", "metal", "metal"), np.ones(4, bool)
    assert np.flatnonzero(core_weights(ewma, kinds, listed, Core())).tolist() == [0]
    assert np.flatnonzero(core_weights(ewma, kinds, listed, Core(also=("B", "metal")))).tolist() == [0, 1, 2, 3]
    assert core_weights(ewma, kinds, listed, Core(kind="none")).tolist() == [0.0] * 4
    assert core_weights(ewma, kinds, ~listed, Core()).tolist() == [0.0] * 4


def test_a_symbol_that_is_the_rate_of_anothers_currency_is_held_where_it_is_named() -> None:
    returns = np.random.default_rng(6).standard_normal((80, 3)) * np.array([0.02, 0.02, 0.0001])
    ewma, kinds = made(returns)[-1].ewma, ("equity", "crypto", "crypto")
    listed, rate = np.ones(3, bool), np.array([False, False, True])
    assert core_weights(ewma, kinds, listed, Core())[2] > 0.4  # what hardly moves takes over
    assert np.flatnonzero(core_weights(ewma, kinds, listed, Core(), rate)).tolist() == [0, 1]
    for also in ("C", "crypto"):
        assert np.flatnonzero(core_weights(ewma, kinds, listed, Core(also=(also,)), rate)).tolist() == [0, 1, 2]
    assert core_weights(ewma, kinds, listed, Core(kind="weights", weights={"C": 0.5}), rate).tolist() == [0, 0, 0.5]


def test_a_price_that_never_moves_is_not_held() -> None:
    returns = np.random.default_rng(7).standard_normal((80, 2)) * [0.01, 0.0]
    assert made(returns)[-1].weights.tolist() == [1.0, 0.0]


def test_weights_of_the_user_are_held_from_the_first_session() -> None:
    states = made(np.zeros((3, 2)), kind="weights", weights={"B": -0.4})
    assert [state.weights.tolist() for state in states] == [[0.0, -0.4]] * 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "weights"}, "needs either"),
        ({"weights": {"A": 0.5}}, "no other kind takes them"),
        ({"kind": "weights", "weights": {"A": 0.9, "B": -0.2}}, "add up to 1.1"),
        ({"kind": "weights", "weights": {"A": 2.0}}, "less than or equal to 1"),
        ({"kind": "all"}, "equal_risk"),
    ],
)
def test_settings_that_make_no_core_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Core(**given)


def test_a_symbol_that_the_bars_lack_is_refused() -> None:
    core = Core(kind="weights", weights={"SPI": 0.5})
    with pytest.raises(SettingsError, match=r"no symbol 'SPI'.*SPY"):
        core.refuse_unknown(("SPY", "TLT"), ("etf",))
    Core(also=("SPY", "fx")).refuse_unknown(("SPY",), ("etf",))


def test_weights_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("Symbol,Weight\nSPY,0.6\nNA,-0.1\n\n", encoding="utf-8")
    core = Core(kind="weights", file=str(file)).with_file_read()
    assert core.weights == {"SPY": 0.6, "NA": -0.1}
    assert core.file is None
    assert Core().with_file_read() == Core()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbol,share\nA,1\n", "line 1.*found: symbol, share.*columns symbol and weight"),
        ("symbol,weight\nA,0.2\nB,half\n", "line 3, column 'weight', value 'half': expected a symbol and a number"),
        ("symbol,weight\nA,0.2\nB,nan\n", "line 3, column 'weight', value 'nan'"),
        ("symbol,weight\nA,1.5\n", "line 2, column 'weight', value '1.5'"),
        ("symbol,weight\nA,0.2\nA,0.3\n", "line 3, column 'symbol', value 'A': 'A' has a weight in a line before"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "weights.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BarsFileError, match=said):
        read_weights(file)


def test_a_file_that_is_not_there_or_adds_up_to_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarsFileError, match="no such file of weights"):
        read_weights(tmp_path / "none.csv")
    file = tmp_path / "weights.csv"
    file.write_text("symbol,weight\nA,0.7\nB,0.7\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"add up to 1\.4"):
        Core(kind="weights", file=str(file)).with_file_read()
