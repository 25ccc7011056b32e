"""Sessions that an update brings together: each is booked by its own bars, with what was expected of it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.market import synthetic
from gatecast.market.facts import facts_of
from gatecast.trading.book import Book, Line, Sessions, core_path, past_deviations, run_line, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.line import LineState
from gatecast.trading.sizing import BookSettings


def held_from(bars: pl.DataFrame, book: Book | None = None, *, rebalanced: bool = False) -> tuple[Sessions, Line]:
    """A line over bars, by the same core and deviations whenever the bars became known."""
    sessions = sessions_by(facts_of(bars), Book())
    own = sessions_by(facts_of(bars.with_columns(known_at="time")), Book())
    core, deviations = core_path(own, Core()), past_deviations(own.returns)
    return sessions, run_line(sessions, core, deviations, book or Book(), begin=140, rebalanced=rebalanced)


def in_weeks(bars: pl.DataFrame, weeks: Sequence[tuple[int, int]], symbols: Sequence[str]) -> pl.DataFrame:
    """The bars as an update after each of these weeks brings them; a week: its first session and its length."""
    closes = bars["time"].unique().sort()
    for first, count in weeks:
        late = pl.col("time").is_in(closes[first : first + count - 1].implode()) & pl.col("symbol").is_in(symbols)
        came = closes[first + count - 1] + timedelta(hours=3)
        bars = bars.with_columns(known_at=pl.when(late).then(pl.lit(came)).otherwise("known_at"))
    return bars


@pytest.fixture(scope="module")
def timely() -> pl.DataFrame:
    return synthetic.g1(260, seed=3, symbols=3)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(2, 10)), min_size=1, unique_by=lambda one: one[0]))
@settings(max_examples=5)
def test_what_is_held_is_counted_session_by_session_however_many_an_update_brings(
    timely: pl.DataFrame, weeks: list[tuple[int, int]]
) -> None:
    """Equity, return, the variance expected of it and the level, where nothing is traded: to the bit."""
    own = [(150 + 13 * place, count) for place, count in weeks]
    sessions, late = held_from(in_weeks(timely, own, timely["symbol"].unique().to_list()))
    assert (~sessions.known.any(axis=1)).sum() == sum(count - 1 for _, count in own)
    assert late.frame.equals(held_from(timely)[1].frame)


def test_orders_of_before_are_filled_and_none_are_made_in_sessions_that_are_caught_up_with(
    timely: pl.DataFrame,
) -> None:
    names = timely["symbol"].unique().to_list()
    weekly = in_weeks(timely, [(150 + 5 * week, 5) for week in range(20)], names)
    always = Book(size=BookSettings(symbol_band=0, book_band=0, minimum_ticket=0))
    sessions, line = held_from(weekly, always, rebalanced=True)
    ordered = line.holdings.group_by("session").agg(pl.col("trade").abs().sum()).sort("session")["trade"].to_numpy()
    late = ~sessions.known.any(axis=1)[140:]
    assert (ordered[late] == 0).all()
    assert (ordered[~late] > 0).sum() > 20
    filled = line.frame["traded"].to_numpy()
    assert (filled[1:] > 0).tolist() == (ordered[:-1] > 0).tolist()
    ratio = (line.earned**2 / (line.expected * line.level**2))[1:]
    assert ratio.mean() == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("sessions_flat", [3, 20])
def test_a_stop_fires_where_somebody_decides_and_then_counts_all_sessions(
    timely: pl.DataFrame, sessions_flat: int
) -> None:
    """Against the rule said once more, of a book that is decided every eighth session and, at last, in each."""
    names = timely["symbol"].unique().to_list()
    weekly = in_weeks(timely, [(150 + 8 * week, 8) for week in range(10)], names)
    stopping = Book(size=BookSettings(drawdown_stop=0.01, stop_sessions=sessions_flat, symbol_band=0, book_band=0))
    sessions, line = held_from(weekly, stopping, rebalanced=True)
    targets = line.holdings.group_by("session").agg(pl.col("target").abs().sum())
    days = line.frame.select("equity", session="day").join(targets, on="session", how="left", maintain_order="left")
    decided = sessions.known.any(axis=1)[140:]
    peak, left, fired = 0.0, 0, []
    for place, (equity, target) in enumerate(days.select("equity", pl.col("target").fill_null(0)).rows()):
        left = max(left - 1, 0)
        peak = equity if left == 0 and fired and place == fired[-1] + sessions_flat else max(peak, equity)
        if left == 0 and decided[place] and equity <= 0.99 * peak:
            left = sessions_flat
            fired.append(place)
        if decided[place]:
            assert (target == 0) == (left > 0), place
    assert any(place < 90 for place in fired)


def test_of_a_return_over_several_sessions_as_many_variances_are_expected(timely: pl.DataFrame) -> None:
    """One symbol's bars come once a week, those of the others each day, so that its sessions cannot be told apart."""
    names = sorted(timely["symbol"].unique())
    both = in_weeks(timely, [(150, 5), (155, 5)], names[:1])
    sessions = sessions_by(facts_of(both), Book())
    assert sessions.spans[:, 1:].max() == 1
    assert np.flatnonzero(sessions.spans[:, 0] > 1).tolist() == [154, 159]
    assert sessions.spans[[154, 159], 0].tolist() == [5, 5]
    core = np.zeros(sessions.returns.shape)
    core[:, 0] = 1
    deviations = np.full(core.shape, 0.01)
    line = run_line(sessions, core, deviations, Book(), begin=140, rebalanced=False)
    worth = 1 - line.frame["cash"].to_numpy() / line.frame["equity"].to_numpy()
    for row in (14, 19):  # what is held of it, at the prices of its last bar before
        assert line.expected[row] == pytest.approx(5 * (0.01 * worth[row - 1]) ** 2, rel=1e-9)
    assert line.expected[15] == 0
    assert line.expected[13] == 0


def test_two_returns_over_several_sessions_share_those_that_are_common() -> None:
    """Against sums of random returns: of one name over five sessions, of the other over the last three of them."""
    covariance = np.array([[4.0, 1.2], [1.2, 1.0]])
    state = replace(LineState.start(("A", "B"), ("etf", "etf"), 1e6), covariance=covariance)
    draws = np.random.default_rng(1).multivariate_normal([0, 0], covariance, size=(200_000, 5))
    sums = np.stack([draws[:, :, 0].sum(axis=1), draws[:, 2:, 1].sum(axis=1)])
    np.testing.assert_allclose(state.covariance_over(np.array([5, 3])), np.cov(sums), rtol=0.02)


def test_a_bar_that_comes_after_the_next_session_was_decided_is_of_no_session(timely: pl.DataFrame) -> None:
    """Those of its session that came until then are: it is decided with the next one, by what is there."""
    closes, names = timely["time"].unique().sort(), timely["symbol"].unique().sort().to_list()
    at = pl.col("time") == closes[200]
    in_hand, too_late = closes[201] + timedelta(hours=1), closes[201] + timedelta(hours=13)
    for symbols, came, seen in (
        (names, closes[203], []),
        (names[:1], too_late, names[1:]),
        (names[:1], in_hand, names),
    ):
        known = pl.when(at).then(pl.lit(closes[200] + timedelta(hours=20))).otherwise("known_at")
        bars = timely.with_columns(known_at=known)
        some = at & pl.col("symbol").is_in(symbols)
        bars = bars.with_columns(known_at=pl.when(some).then(pl.lit(came)).otherwise("known_at"))
        found = sessions_by(facts_of(bars), Book())
        assert not found.known[200].any()
        assert [name for name, close in zip(names, found.grid.close[200], strict=True) if np.isfinite(close)] == seen


def test_a_symbol_whose_bars_are_always_late_has_none_on_the_days_that_it_has_alone(timely: pl.DataFrame) -> None:
    """As coins of a store that is updated after the close of shares."""
    names = timely["symbol"].unique().sort().to_list()
    closes = timely["time"].unique().sort()
    coin = pl.col("symbol") == names[0]
    alone = pl.col("time").is_in(closes[200:210:5].implode())
    bars = timely.filter(coin | ~alone)
    bars = bars.with_columns(known_at=pl.when(coin).then(pl.col("time") + timedelta(hours=40)).otherwise("known_at"))
    assert np.isnan(sessions_by(facts_of(bars), Book()).grid.close[:, 0]).all()


def test_a_session_with_late_bars_alone_waits_though_none_of_them_counts_yet(timely: pl.DataFrame) -> None:
    """One symbol's bars come late for a second session, the others have none in it: they may still come in time."""
    closes, one = timely["time"].unique().sort(), timely["symbol"].min()
    late = (pl.col("symbol") == one) & pl.col("time").is_in(closes[-2:].implode())
    bars = timely.filter((pl.col("symbol") == one) | (pl.col("time") < closes[-1]))
    bars = bars.with_columns(known_at=pl.when(late).then(pl.col("time") + timedelta(days=3)).otherwise("known_at"))
    sessions = sessions_by(facts_of(bars), Book())
    assert len(sessions.days) == len(closes)
    assert sessions.decided == len(closes) - 1


def test_of_an_order_that_waited_for_late_bars_one_variance_is_expected(timely: pl.DataFrame) -> None:
    """What is bought is held from its fill on; what is sold there was held in the sessions before it."""
    names = sorted(timely["symbol"].unique())
    sessions = sessions_by(facts_of(in_weeks(timely, [(150, 5)], names[:1])), Book())
    core = np.zeros(sessions.returns.shape)
    core[149:154, 0] = 1  # bought on the bar that comes with four late ones
    deviations = np.full(core.shape, 0.01)
    line = run_line(sessions, core, deviations, Book(), begin=149)
    assert sessions.spans[154, 0] == 5
    held = line.holdings.filter(pl.col("symbol") == names[0]).select("session", "units")
    bought = dict(held.iter_rows())
    assert bought[sessions.days[153]] == 0
    after = bought[sessions.days[154]] * sessions.grid.close[149, 0] / line.frame["equity"][4]
    assert after > 0.1
    assert line.expected[5] == pytest.approx((0.01 * after) ** 2, rel=1e-9)

    core = np.zeros(sessions.returns.shape)
    core[:149, 0] = 1  # sold on that bar
    line = run_line(sessions, core, deviations, Book(), begin=140)
    before = 1 - line.frame["cash"][13] / line.frame["equity"][13]
    assert before > 0.1
    assert line.expected[14] == pytest.approx(4 * (0.01 * before) ** 2, rel=1e-9)
