"""Measures of returns against quantstats, to five decimals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gatecast.metrics import returns as measures

OURS_ALONE = {"time_in_market", "longest_drawdown"}


@pytest.fixture(scope="module")
def series() -> pd.Series:
    values = np.random.default_rng(42).standard_t(5, 1500) * 0.008 + 0.0004
    values[::17] = 0
    return pd.Series(values, pd.bdate_range("2010-01-04", periods=values.size))


@pytest.mark.parametrize("name", sorted(measures.tear_sheet([0.01, -0.01, 0.02, -0.03, 0.01]).keys() - OURS_ALONE))
def test_equals_quantstats(series: pd.Series, name: str) -> None:
    import quantstats as qs

    theirs = float(getattr(qs.stats, name)(series))
    assert measures.tear_sheet(series.to_numpy())[name] == pytest.approx(theirs, abs=5e-6)


@pytest.mark.parametrize("name", ["sharpe", "sortino", "volatility", "cagr", "calmar"])
def test_annualises_like_quantstats(series: pd.Series, name: str) -> None:
    import quantstats as qs

    theirs = float(getattr(qs.stats, name)(series, periods=365))
    assert getattr(measures, name)(series, 365) == pytest.approx(theirs, abs=5e-6)


def test_drawdown_series_equals_quantstats(series: pd.Series) -> None:
    import quantstats as qs

    theirs = qs.stats.to_drawdown_series(series).to_numpy()
    np.testing.assert_allclose(measures.drawdown(series), theirs, atol=1e-12)


def test_longest_drawdown_counts_bars(series: pd.Series) -> None:
    wealth = np.concatenate([[1], (1 + series).cumprod()])
    below = wealth < np.maximum.accumulate(wealth) * (1 - 1e-15)
    longest = max(len(run) for run in "".join("x" if b else " " for b in below).split())
    assert measures.longest_drawdown(series) == longest
    assert measures.longest_drawdown([0.1, 0.1]) == 0


def test_a_loss_on_the_first_bar_is_a_drawdown() -> None:
    assert measures.max_drawdown([-0.2, 0.1]) == pytest.approx(-0.2)
    assert measures.max_drawdown([-1.0, 0.1]) == -1.0


@pytest.mark.parametrize("returns", [[0.0, -1.9, 0.01, -1.86, 0.0], [-1.0, 5.0], [0.5, -3.0, -3.0]])
def test_wealth_stops_at_nothing(returns: list[float]) -> None:
    """Two losses of more than everything are no gain; quantstats multiplies on."""
    wealth = [1.0]
    for value in returns:  # by hand: what is lost is lost
        wealth.append(wealth[-1] * (1 + value) if wealth[-1] > 0 and value > -1 else 0.0)
    sheet = measures.tear_sheet(returns)
    assert measures.levels(returns).tolist() == pytest.approx(wealth[1:])
    assert (sheet["comp"], sheet["cagr"], sheet["max_drawdown"], sheet["calmar"]) == (-1.0, -1.0, -1.0, -1.0)
    earned = measures.returns_of_levels(wealth[1:])
    assert measures.comp(earned) == -1.0
    np.testing.assert_allclose(np.cumprod(1 + earned), wealth[1:], atol=1e-15)


def test_missing_bars_are_left_out(series: pd.Series) -> None:
    holed = series.to_numpy().copy()
    holed[[3, 77]] = np.nan
    assert measures.tear_sheet(holed) == measures.tear_sheet(holed[~np.isnan(holed)])


@pytest.mark.parametrize("values", [[], [0.01], [0.0, 0.0, 0.0, 0.0], [0.01, 0.01, 0.01, 0.01]])
def test_undefined_is_nan(values: list[float]) -> None:
    for name in ("sharpe", "sortino", "calmar"):
        assert np.isnan(getattr(measures, name)(values))
    sheet = measures.tear_sheet(values)
    assert not any(np.isinf(value) for value in sheet.values())
    assert np.isnan(sheet["profit_factor"])


def test_win_rate_ignores_flat_bars() -> None:
    assert measures.win_rate([0.0, 0.1, -0.1, 0.1, 0.0]) == pytest.approx(2 / 3)
    assert np.isnan(measures.win_rate([0.0]))


def test_turnover_counts_both_sides_and_the_first_purchase() -> None:
    weights = np.array([[0.5, 0.5], [0.5, -0.5], [np.nan, -0.5]])
    assert measures.turnover(weights, periods_per_year=3) == pytest.approx(1 + 1 + 0.5)
    assert measures.turnover([0.5] * 252) == pytest.approx(0.5)
    assert np.isnan(measures.turnover([]))
