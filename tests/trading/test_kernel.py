"""A line's ordinary sessions as machine code are those of `line.LineState.after`, to the bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.facts import facts_of
from gatecast.trading import lines
from gatecast.trading.book import Book, Line, Sessions, core_path, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.covariance import book_variance
from gatecast.trading.kernel_sums import added, exact, variance
from gatecast.trading.sizing import BookSettings

BEGIN = 100


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    """Nine symbols of three classes: one joins late, one halts, one is a pair, one has an action."""
    bars = synthetic.g1(260, seed=5, symbols=9)
    names, days = bars["symbol"].unique().sort().to_list(), bars["time"].unique().sort()
    kinds = dict(zip(names, ["etf"] * 3 + ["equity"] * 3 + ["fx"] + ["index"] * 2, strict=True))
    named = {name: name for name in names} | {names[6]: "EURUSD"}
    bars = bars.with_columns(asset_class=pl.col("symbol").replace_strict(kinds))
    joins = (pl.col("symbol") == names[0]) & (pl.col("time") < days[160])
    halts = (pl.col("symbol") == names[4]) & pl.col("time").is_between(days[180], days[190])
    bars = bars.filter(~joins, ~halts).with_columns(symbol=pl.col("symbol").replace_strict(named))
    bars = bars.sort("symbol", "time")
    given = {"symbol": [names[1]], "kind": ["dividend"], "date": [days[200].date()], "value": [0.5]}
    return sessions_by(facts_of(bars, with_known_at(read_actions(pl.DataFrame(given)), bars)), Book())


def both(sessions: Sessions, book: Book, **more: Any) -> Iterator[Line]:
    """A line with and without machine code."""
    core, deviations = core_path(sessions, book.core), past_deviations(sessions.returns)
    for least in (1, len(sessions.days)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "LEAST_SESSIONS", least)
            yield run_line(sessions, core, deviations, book, begin=BEGIN, **more)


def assert_same(one: Line, other: Line) -> None:
    assert one.frame.equals(other.frame)
    assert one.holdings.equals(other.holdings)
    assert one.gates == other.gates
    assert list(one.findings.items()) == list(other.findings.items())
    for name in ("held", "core_variance", "core_return"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=8, deadline=None)
@given(
    size=st.fixed_dictionaries(
        {"target_volatility": st.sampled_from([0.05, 0.1, 0.4]), "gross_cap": st.sampled_from([0.5, 1.0, 2.0])},
        optional={
            "capital": st.sampled_from([2e3, 1e5, 1e8]), "net_cap": st.sampled_from([0.1, 0.6]),
            "class_cap": st.sampled_from([0.2, 0.5]), "name_cap": st.sampled_from([0.05, 0.2]),
            "book_band": st.sampled_from([0.0, 0.3]), "symbol_band": st.sampled_from([0.0, 0.5]),
            "participation": st.sampled_from([1e-7, 1e-3]), "minimum_ticket": st.sampled_from([0.0, 2e4]),
            "drawdown_stop": st.just(0.02), "tilt_share": st.sampled_from([0.0, 1.0]),
        },
    ),
    money=st.fixed_dictionaries(
        {},
        optional={
            "commission_per_unit": st.just(0.01), "half_spread_bps": st.just(30.0), "benchmark_rate": st.just(0.05),
            "least_lent_volume": st.sampled_from([0.0, 1e15]),
        },
    ),
    core=st.sampled_from([Core(), Core(kind="none"), Core(also=("EURUSD",))]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_machine_code_is_the_line_to_the_bit(
    sessions: Sessions, size: dict[str, Any], money: dict[str, Any], core: Core, seed: int
) -> None:
    shape, random = sessions.grid.close.shape, np.random.default_rng(seed)
    tilt = np.round(random.normal(size=shape).cumsum(axis=0) / 40, 2)
    evidence = np.clip(random.normal(size=shape).cumsum(axis=0) / 30, 0, 1)
    book = Book(core=core, size=BookSettings(**size), money=MoneySettings(**money))
    assert_same(*both(sessions, book, tilt=tilt, evidence=evidence))


def test_what_is_bought_first_and_held_is_the_same(sessions: Sessions) -> None:
    quick, slow = both(sessions, Book(), rebalanced=False)
    assert_same(quick, slow)
    assert (quick.held != 0).any()


def test_most_sessions_are_machine_code(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the other tests would hold a line against itself."""
    monkeypatch.setattr(lines, "LEAST_SESSIONS", 1)
    made, told = [], lines.tell
    monkeypatch.setattr(lines, "tell", lambda *given: (made.append(given[1]), told(*given)))
    core, deviations = core_path(sessions, Core()), past_deviations(sessions.returns)
    found = run_line(sessions, core, deviations, Book(), begin=BEGIN)
    assert (found.frame["traded"] > 0).sum() > 20
    assert {BEGIN, len(sessions.days) - 1} <= set(made)
    assert len(made) < 10


@settings(deadline=None)
@given(arrays(np.float64, st.integers(0, 600), elements=st.floats(-1e12, 1e12)))
def test_sums_are_those_of_numpy_and_of_python(values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    assert added(values, len(values)) == values.sum()
    assert exact(values, np.empty(len(values) + 1)) == math.fsum(values.tolist())


@settings(deadline=None)
@given(arrays(np.float64, 17, elements=st.floats(-2, 2)), arrays(np.float64, (17, 17), elements=st.floats(-1, 1)))
def test_the_variance_of_a_book_is_the_same(weights: Any, covariance: Any) -> None:
    found = variance(weights, covariance, np.empty(17, np.int64), np.empty(17 * 17))
    assert found == book_variance(weights, covariance)
