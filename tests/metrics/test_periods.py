"""A record by months and years against pandas, drawdowns against quantstats, the rolling ratio against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.metrics.periods import POINTS, course, months, rolling_ends, rolling_sharpe, worst_drawdowns
from gatecast.metrics.returns import comp, max_drawdown

WINDOW = 252


@pytest.fixture(scope="module")
def series() -> pd.Series:
    values = np.random.default_rng(11).standard_t(4, 1700) * 0.009 + 0.0002
    return pd.Series(values, pd.bdate_range("2012-03-14", periods=values.size))


def days_of(series: pd.Series) -> np.ndarray:
    return series.index.to_numpy().astype("datetime64[D]")


def test_months_and_years_equal_pandas(series: pd.Series) -> None:
    rows = months(days_of(series), series.to_numpy())
    by_month = (1 + series).resample("ME").prod() - 1
    by_year = (1 + series).resample("YE").prod() - 1
    shown = {
        (row["year"], place + 1): one for row in rows for place, one in enumerate(row["months"]) if one is not None
    }
    assert shown.keys() == {(day.year, day.month) for day in by_month.index}
    for day, value in by_month.items():
        assert shown[day.year, day.month] == pytest.approx(value, abs=1e-6)
    assert [row["whole"] for row in rows] == pytest.approx(by_year.to_list(), abs=1e-6)


def test_drawdowns_equal_quantstats(series: pd.Series) -> None:
    import quantstats as qs

    theirs = qs.stats.drawdown_details(qs.stats.to_drawdown_series(series)).sort_values("max drawdown")
    ours = worst_drawdowns(days_of(series), series.to_numpy(), most=5)
    for own, (_, row) in zip(ours, theirs.head(5).iterrows(), strict=True):
        assert own["depth"] == pytest.approx(row["max drawdown"] / 100, abs=1e-5)
        assert own["deepest"] == row["valley"][:10]
        assert own["first"] == row["start"][:10]


def test_a_drawdown_that_is_not_over_has_no_end() -> None:
    days = np.arange("2024-01-01", "2024-01-06", dtype="datetime64[D]")
    found = worst_drawdowns(days, np.array([0.1, -0.2, 0.5, -0.1, 0.05]))
    assert [(one["first"], one["back"], one["sessions"]) for one in found] == [
        ("2024-01-02", "2024-01-03", 1), ("2024-01-04", None, 2),
    ]  # fmt: skip
    assert worst_drawdowns(days, np.full(5, 0.01)) == []


def test_the_rolling_ratio_equals_pandas(series: pd.Series) -> None:
    ends = rolling_ends(len(series), WINDOW)
    window = series.rolling(WINDOW)
    theirs = (window.mean() / window.std() * np.sqrt(252)).iloc[ends]
    assert rolling_sharpe(series.to_numpy(), ends, WINDOW, 252.0) == pytest.approx(theirs.to_list(), abs=1e-4)
    assert rolling_sharpe(np.zeros(WINDOW), np.array([WINDOW - 1]), WINDOW, 252.0) == [None]


@settings(deadline=None)
@given(st.integers(0, 5000))
def test_windows_end_at_the_newest_session_and_lie_inside(sessions: int) -> None:
    ends = rolling_ends(sessions, WINDOW)
    assert len(ends) == min(POINTS, max(0, sessions - WINDOW + 1))
    assert not len(ends) or (ends[0] == WINDOW - 1 and ends[-1] == sessions - 1 and (np.diff(ends) > 0).all())


@settings(deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=300), st.integers(0, 400))
def test_months_add_up_to_the_year_and_the_worst_is_the_deepest(values: list[float], start: int) -> None:
    returns = np.array(values)
    days = np.datetime64("2019-06-01", "D") + start + np.arange(len(values))
    for row in months(days, returns):
        parts = [one for one in row["months"] if one is not None]
        assert comp(parts) == pytest.approx(row["whole"], abs=1e-4)
    found = worst_drawdowns(days, returns)
    assert (found[0]["depth"] if found else 0.0) == pytest.approx(max_drawdown(returns), abs=1e-6)


def test_cash_is_taken_from_the_ratio_alone(series: pd.Series) -> None:
    values, days = series.to_numpy(), days_of(series)
    plain, excess = (course(days, {"own": values}, 252.0, cash)["lines"]["own"] for cash in (0.0, 0.0001))
    assert plain["months"] == excess["months"]
    assert plain["drawdowns"] == excess["drawdowns"]
    assert all(one > other for one, other in zip(plain["sharpe"], excess["sharpe"], strict=True))


def test_the_window_of_the_rolling_ratio_is_a_year_of_the_book_with_coins_too() -> None:
    days = np.arange("2020-01-01", "2022-01-01", dtype="datetime64[D]")
    returns = np.random.default_rng(3).normal(0.0, 0.01, len(days))
    found = course(days, {"own": returns}, 365.25)
    assert found["window"] == 365
    assert found["day"][0] == "2020-12-30"  # the 365th session; 2020 has 366 days
    first = returns[:365]
    assert found["lines"]["own"]["sharpe"][0] == pytest.approx(
        first.mean() / first.std(ddof=1) * np.sqrt(365.25), abs=1e-4
    )
