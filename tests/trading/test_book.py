"""The book over sessions: nothing later is known, money adds up, ends are booked, and each line is what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest

from gatecast.errors import SettingsError
from gatecast.evaluation.estimate import Tilt
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import make_bars
from gatecast.market.facts import facts_of
from gatecast.trading.book import (
    Book,
    Sessions,
    core_path,
    first_session,
    past_deviations,
    run_line,
    sessions_by,
)  # fmt: skip
from gatecast.trading.core import Core
from gatecast.trading.costs import MoneySettings
from gatecast.trading.sizing import BookSettings

FREE = MoneySettings(
    commission_bps=0, commission_minimum=0, half_spread_bps=0, impact=0, benchmark_rate=0, debit_spread=0,
    credit_spread=0, currency="EUR",
)  # fmt: skip


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return sessions_by(facts_of(synthetic.g1(420, seed=3, symbols=3)), Book())


@pytest.fixture(scope="module")
def deviations(sessions: Sessions) -> np.ndarray:
    return past_deviations(sessions.returns)


def test_a_line_knows_nothing_of_later_sessions(sessions: Sessions, deviations: np.ndarray) -> None:
    core, book = core_path(sessions, Core()), Book()
    begin = first_session([deviations], core)
    whole, cut = run_line(sessions, core, deviations, book, begin=begin), 380
    short = sessions.until(cut)
    part = run_line(short, core_path(short, Core()), past_deviations(short.returns), book, begin=begin)
    np.testing.assert_array_equal(part.held, whole.held[: cut - begin])
    np.testing.assert_array_equal(part.net, whole.net[: cut - begin])
    np.testing.assert_array_equal(part.core_variance, whole.core_variance[: cut - begin])


def test_the_money_of_a_line_adds_up_and_no_cap_is_exceeded(sessions: Sessions, deviations: np.ndarray) -> None:
    core = core_path(sessions, Core())
    book = Book(size=BookSettings(target_volatility=0.3, gross_cap=0.9, name_cap=0.35))
    frame = (line := run_line(sessions, core, deviations, book, begin=first_session([deviations], core))).frame
    earned = frame.select(pl.col("gain", "currency", "dividend", "carry")).sum_horizontal()
    paid = frame.select(pl.col("withheld", "commission", "spread", "impact", "borrow", "funding")).sum_horizontal()
    after = frame["before"] + earned - paid + frame["interest"]
    np.testing.assert_allclose(after, frame["equity"], rtol=1e-9)
    np.testing.assert_allclose((1 + line.net).prod() * book.size.capital, frame["equity"][-1], rtol=1e-9)
    assert np.abs(line.held).max() <= 0.35 + 1e-9
    assert np.abs(line.held).sum(axis=1).max() <= 0.9 + 1e-9
    assert {"gross", "name"} & {gate for gates in line.gates for gate in gates}


def test_the_share_of_volume_is_of_volume_in_the_currency_of_the_book(sessions: Sessions) -> None:
    traded = np.full(sessions.returns.shape, 4e8)
    pence = replace(sessions, grid=replace(sessions.grid, volume=traded), rate=np.full_like(traded, 0.012))
    quiet, core = np.full(traded.shape, 1e-3), np.full(traded.shape, 1.0)  # wants far more than can be traded
    book = Book(size=BookSettings(participation=0.01, capital=1e9, gross_cap=3, name_cap=3, symbol_band=0))
    first = run_line(pence, core, quiet, book, begin=30).held[0] * 1e9
    np.testing.assert_allclose(first, 0.01 * 4e8 * 0.012, rtol=0.1)


def test_the_book_has_the_volatility_that_is_asked_for(sessions: Sessions, deviations: np.ndarray) -> None:
    core = core_path(sessions, Core())
    begin = first_session([deviations], core)
    for target in (0.02, 0.04):
        book = Book(size=BookSettings(target_volatility=target))
        line = run_line(sessions, core, deviations, book, begin=begin)
        assert line.net[1:].std() * np.sqrt(252) == pytest.approx(target, rel=0.2)
        assert line.frame["reached"].mean() > 0.95
        assert line.frame["volatility"].to_numpy() == pytest.approx(target, rel=1e-6)


def test_what_is_bought_and_held_earns_its_prices(deviations: np.ndarray) -> None:
    sessions = sessions_by(facts_of(synthetic.g1(420, seed=3, symbols=3)), Book(money=FREE))
    core = core_path(sessions, Core())
    begin = first_session([deviations], core)
    line = run_line(sessions, core, deviations, Book(money=FREE), begin=begin, rebalanced=False)
    units = line.held[0] * 1e6 / sessions.grid.close[begin]
    fill, close = sessions.grid.fill[begin + 1], sessions.grid.close[-1]
    whole = np.round(units)
    assert line.frame["equity"][-1] == pytest.approx(1e6 + (whole * (close - fill)).sum(), rel=1e-9)
    assert (line.frame["traded"].to_numpy()[2:] == 0).all()


def test_a_tilt_without_evidence_is_none_and_one_with_it_is_held(sessions: Sessions, deviations: np.ndarray) -> None:
    core = core_path(sessions, Core())
    begin = first_session([deviations], core)
    tilt = np.full(core.shape, 0.5) * np.array([1, 0, 0])
    plain, none, some = (
        run_line(sessions, core, deviations, Book(), begin=begin, tilt=one, evidence=evidence)
        for one, evidence in ((None, None), (tilt, np.zeros(core.shape)), (tilt, np.ones(core.shape)))
    )
    np.testing.assert_array_equal(plain.held, none.held)
    assert some.held[:, 0].mean() > 1.2 * plain.held[:, 0].mean()


def test_a_tilt_of_more_core_is_the_core_alone(sessions: Sessions, deviations: np.ndarray) -> None:
    """Core and tilt are scaled to the same volatility, below the caps and at them."""
    core = core_path(sessions, Core())
    begin = first_session([deviations], core)
    for target in (0.03, 0.5):
        book = Book(size=BookSettings(target_volatility=target))
        plain = run_line(sessions, core, deviations, book, begin=begin)
        more = run_line(
            sessions, core, deviations, book, begin=begin, tilt=0.7 * core, evidence=np.ones(core.shape)
        )  # fmt: skip
        np.testing.assert_allclose(more.held, plain.held, atol=2e-4)  # but for a lot of a unit
        one = Tilt(more.excess[1:], plain.excess[1:], np.ones(len(plain.net) - 1, bool), plain.days[1:], 252.0)
        assert abs(np.nan_to_num(one.alpha().effect)) < 1e-4


def planted() -> pl.DataFrame:
    """Two funds; one stops trading for a week, another instrument follows under the name of the second."""
    days = pl.date_range(date(2022, 1, 3), date(2023, 6, 30), "1d", eager=True)
    days = days.filter(days.dt.weekday() < 6)
    rng = np.random.default_rng(1)
    frames = []
    for symbol in ("A", "B", "C"):
        close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(days))))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": symbol, "asset_class": "equity",
                    "time": [datetime(d.year, d.month, d.day, 21, tzinfo=UTC) for d in days], "open": close,
                    "high": close * 1.01, "low": close / 1.01, "close": close, "volume": 1e7,
                }
            )
        )  # fmt: skip
    return make_bars(pl.concat(frames))


def test_a_delisting_is_booked_once_and_a_halt_is_held() -> None:
    bars = planted()
    stop = datetime(2023, 3, 15, 21, tzinfo=UTC)
    gone = (pl.col("symbol") == "A") & (pl.col("time") > stop)
    halted = (pl.col("symbol") == "B") & pl.col("time").is_between(stop, stop + timedelta(days=7))
    bars = bars.filter(~gone, ~halted)
    told = pl.DataFrame({"symbol": ["A"], "date": [date(2023, 3, 16)], "value": [-0.4]})
    facts = facts_of(bars, with_known_at(read_actions(told, kind="delisting"), bars))
    book = Book(money=FREE)
    sessions = sessions_by(facts, book)
    deviations, core = past_deviations(sessions.returns), core_path(sessions, Core())
    line = run_line(sessions, core, deviations, book, begin=first_session([deviations], core))
    first = len(sessions.days) - len(line.held)
    place = sessions.days.index(date(2023, 3, 16)) - first
    a, b, _ = (sessions.place[name] for name in "ABC")
    assert line.held[place - 1, a] > 0.05
    assert (line.held[place:, a] == 0).all()
    assert (line.held[place : place + 3, b] > 0).all()
    assert not line.frame["gain"].is_nan().any()
    assert line.net[place] < -0.3 * line.held[place - 1, a]  # -40 % of what was held, and what the others did


def test_another_instrument_under_a_name_earns_nothing_by_its_price() -> None:
    bars = planted()
    since = pl.col("time") > datetime(2023, 3, 15, tzinfo=UTC)
    pause = pl.col("time").is_between(datetime(2023, 3, 15, tzinfo=UTC), datetime(2023, 4, 10, tzinfo=UTC))
    own = pl.col("symbol") == "A"
    level = pl.when(own & since).then(40.0).otherwise(1.0)
    prices = [pl.col(name) * level for name in ("open", "high", "low", "close")]
    bars = make_bars(bars.filter(~(own & pause)).with_columns(prices).drop("segment"))
    book = Book(money=FREE)
    sessions = sessions_by(facts_of(bars), book)
    deviations, core = past_deviations(sessions.returns), core_path(sessions, Core())
    line = run_line(sessions, core, deviations, book, begin=first_session([deviations], core))
    assert np.abs(line.net).max() < 0.3
    assert sessions.returns[~np.isnan(sessions.returns)].max() < 0.2


def test_another_instrument_after_an_end_pays_nobody() -> None:
    bars = planted()
    since = pl.col("time") > datetime(2023, 1, 1, tzinfo=UTC)
    pause = pl.col("time").is_between(datetime(2022, 10, 3, tzinfo=UTC), datetime(2023, 2, 20, tzinfo=UTC))
    own = pl.col("symbol") == "A"
    level = pl.when(own & since).then(6.0).otherwise(1.0)
    prices = [pl.col(name) * level for name in ("open", "high", "low", "close")]
    bars = make_bars(bars.filter(~(own & pause)).with_columns(prices).drop("segment"))
    facts = facts_of(bars)
    sessions = sessions_by(facts, Book(money=FREE))
    assert len(facts.ends) == 1  # it had ended on unknown terms before the other came
    weights = core_path(sessions, Core())
    deviations = past_deviations(sessions.returns)
    line = run_line(sessions, weights, deviations, Book(money=FREE), begin=120)
    assert line.net.max() < 0.1


def test_caps_hold_with_orders_that_wait_for_a_bar() -> None:
    """Shares beside a coin that trades at weekends: what waits for Monday counts as held on Saturday."""
    shares = planted()
    days = pl.date_range(date(2022, 1, 3), date(2023, 6, 30), "1d", eager=True)
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(0.012 * rng.standard_normal(len(days))))
    coin = pl.DataFrame(
        {
            "symbol": "BTC", "asset_class": "crypto",
            "time": [datetime(d.year, d.month, d.day, tzinfo=UTC) + timedelta(days=1) for d in days],
            "open": close, "high": close * 1.01, "low": close / 1.01, "close": close, "volume": 1e6,
        }
    )  # fmt: skip
    bars = make_bars(pl.concat([shares.select(coin.columns), coin]))
    sessions = sessions_by(facts_of(bars), Book(money=FREE))
    deviations, core = past_deviations(sessions.returns), core_path(sessions, Core())
    for begin in range(140, 150):
        line = run_line(sessions, core, deviations, Book(money=FREE), begin=begin)
        assert np.abs(line.held).sum(axis=1).max() <= 1 + 1e-9
        exposure = (line.frame["equity"] - line.frame["cash"]) / line.frame["equity"]
        assert exposure[2:].max() < 1.06  # what moved since it was filled


def test_a_bar_that_is_known_late_is_not_decided_on() -> None:
    bars = planted()
    day = bars.filter(symbol="A")["time"][250]
    late = (pl.col("symbol") == "A") & (pl.col("time") == day)
    known_at = pl.when(late).then(pl.col("time") + timedelta(days=9)).otherwise("known_at")
    calm, prices = bars.with_columns(known_at=known_at), ("open", "high", "close")
    bars = calm.with_columns(pl.when(late).then(pl.col(name) * 1.25).otherwise(name) for name in prices)
    found = []
    for one in (bars, calm):
        sessions = sessions_by(facts_of(one), Book(money=FREE))
        deviations = past_deviations(sessions.returns)
        deviations = np.where(np.isnan(deviations), 0.01, deviations)
        line = run_line(sessions, core_path(sessions, Core()), deviations, Book(money=FREE), begin=200)
        found.append(line.held)
    np.testing.assert_array_equal(found[0], found[1])


def test_a_symbol_that_opens_before_all_have_closed_is_filled_at_its_close() -> None:
    shares = planted().with_columns(asset_class=pl.lit("fx"))
    pairs = shares.with_columns(symbol=pl.col("symbol").replace({"A": "EURUSD", "B": "GBPUSD", "C": "AUDUSD"}))
    coin = planted().filter(symbol="A").with_columns(
        symbol=pl.lit("BTC"), asset_class=pl.lit("crypto"), time=pl.col("time").dt.truncate("1d") + timedelta(days=1)
    )  # fmt: skip
    bars = make_bars(pl.concat([pairs, coin.with_columns(known_at="time")]).drop("segment").select(pairs.columns[:-1]))
    sessions = sessions_by(facts_of(bars), Book())
    place = sessions.place["EURUSD"]
    np.testing.assert_array_equal(sessions.grid.fill[:, place], sessions.grid.close[:, place])
    assert not sessions.grid.at_open[:, place].any()


def test_a_future_without_a_contract_is_left_out_and_said() -> None:
    bars = planted().with_columns(
        symbol=pl.when(pl.col("symbol") == "C").then(pl.lit("CL=F")).otherwise("symbol"),
        asset_class=pl.when(pl.col("symbol") == "C").then(pl.lit("future")).otherwise("asset_class"),
    )
    sessions = sessions_by(facts_of(bars), Book())
    assert sessions.names == ("A", "B")
    assert "table of contracts" in sessions.left_out["CL=F"]


def test_a_core_file_that_was_not_read_is_refused(sessions: Sessions) -> None:
    with pytest.raises(SettingsError, match="were not read"):
        core_path(sessions, Core(kind="weights", file="weights.csv"))


def test_deviations_of_the_past() -> None:
    rng = np.random.default_rng(0)
    returns = rng.standard_normal((60, 2))
    returns[10, 0] = np.nan
    weight = 0.94 ** np.arange(59, -1, -1.0)
    known = ~np.isnan(returns[:, 0])
    expected = np.sqrt((weight[known] * returns[known, 0] ** 2).sum() / weight[known].sum())
    found = past_deviations(returns)
    assert found[-1, 0] == pytest.approx(expected, rel=0.02)  # a gap counts no step
    assert np.isnan(found[20, 1])


def test_what_is_forecast_of_a_session_is_of_the_symbols_that_trade_in_it() -> None:
    """Through a week without its bars a symbol adds nothing to the variance of a session, as it adds nothing to it."""
    stop = datetime(2023, 3, 15, 21, tzinfo=UTC)
    bars = planted().filter(
        ~((pl.col("symbol") == "A") & pl.col("time").is_between(stop, stop + timedelta(days=7)))
    )  # fmt: skip
    sessions = sessions_by(facts_of(bars), Book())
    own = past_deviations(sessions.returns)
    core = core_path(sessions, Core(kind="weights", weights={"A": 0.5, "B": 0.5}))
    line = run_line(sessions, core, own, Book(), begin=(begin := first_session([own], core)))
    missing = np.flatnonzero(np.isnan(sessions.returns[begin + 1 :, 0]) & ~np.isnan(sessions.returns[begin + 1 :, 1]))
    assert len(missing) > 0
    for row in missing:
        alone = (0.5 * own[begin + row, 1]) ** 2
        assert line.core_variance[row] == pytest.approx(alone, rel=1e-9)
    frame = line.frame[1:]
    ratio = (frame["earned"] ** 2 / frame["expected"])[5:]
    assert 0.5 < ratio.mean() < 2  # type: ignore[operator]
    assert frame["level"].is_between(2 / 3, 3 / 2).all()


def test_a_core_of_several_classes_begins_when_each_has_a_forecast_or_a_week_later() -> None:
    days = [date(2024, 3, 2) + timedelta(days=day) for day in range(12)]  # a Saturday
    sessions = Mock(days=days, classes=("crypto", "equity", "equity"))
    wanted = np.full((12, 3), 1 / 3)
    coin, share = np.full(12, 0.03), np.full(12, 0.01)
    share[:2] = np.nan
    forecast = np.column_stack([coin, share, np.full(12, np.nan)])
    assert [first_session([forecast], wanted), first_session([forecast], wanted, sessions)] == [0, 2]
    never = np.where(np.arange(3) == 0, forecast, np.nan)
    assert first_session([never], wanted, sessions) == 7
    wanted[:, 1:] = 0.0
    assert first_session([forecast], wanted, sessions) == 0
