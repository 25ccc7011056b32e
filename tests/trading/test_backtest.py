"""The backtest: hand-computed bars, the one shift, costs, and the totals of other people's tear sheets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.errors import BarsError, SettingsError
from gatecast.market.classes import ASSET_CLASSES
from gatecast.trading.backtest import backtest, net_returns
from gatecast.trading.costs import Costs
from gatecast.trading.portfolio import make_book

FREE = Costs(commission_bps=0.0, slippage_bps=0.0, borrow_bps_per_year=0.0)


def some_bars(
    symbol: str,
    open_: list[float] | np.ndarray,
    close: list[float] | np.ndarray,
    *,
    start: datetime = datetime(2020, 1, 6, 21, tzinfo=UTC),
    step: timedelta = timedelta(days=1),
    asset_class: str = "equity",
    segment: list[int] | None = None,
) -> pl.DataFrame:
    open_, close = np.asarray(open_, float), np.asarray(close, float)
    time = pl.Series([start + i * step for i in range(len(close))], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(close),
            "asset_class": [asset_class] * len(close),
            "time": time,
            "open": open_,
            "high": np.maximum(open_, close),
            "low": np.minimum(open_, close),
            "close": close,
            "volume": pl.Series([None] * len(close), dtype=pl.Float64),
            "known_at": time,
            "segment": pl.Series(segment or [0] * len(close), dtype=pl.Int32),
        }
    )


def random_bars(symbol: str, count: int, seed: int, **more: object) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))
    open_ = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.01, count))
    return some_bars(symbol, open_, close, **more)


def with_weights(bars: pl.DataFrame, weights: list[float] | np.ndarray) -> pl.DataFrame:
    return bars.select("symbol", "time").with_columns(weight=pl.Series(weights, dtype=pl.Float64))


# hand-computed


def test_filled_at_the_next_open_by_hand() -> None:
    """Bought at the open of bar 1 (102), kept, half sold at that of bar 3, turned short at that of bar 4."""
    bars = some_bars("A", [100, 102, 105, 104, 110], [101, 104, 106, 108, 99])
    result = backtest(
        with_weights(bars, [1, 1, 0.5, -1, 0]), bars, Costs(slippage_bps=10.0, borrow_bps_per_year=0.0), {"A": "open"}
    )
    expected_gross = [
        0,
        (104 - 102) / 101,  # from the open
        (106 - 104) / 104,  # whole bar
        (104 - 106) / 106 + 0.5 * (108 - 104) / 106,  # whole until the open, half from it
        0.5 * (110 - 108) / 108 - (99 - 110) / 108,  # half until the open, short from it
    ]
    expected_cost = [0, 1 * 0.001, 0, 0.5 * 0.001, 1.5 * 0.001]
    np.testing.assert_allclose(result.bars["gross"], expected_gross, rtol=1e-12)
    np.testing.assert_allclose(result.bars["cost"], expected_cost, rtol=1e-12)
    np.testing.assert_allclose(result.bars["net"], np.subtract(expected_gross, expected_cost), rtol=1e-12)
    assert result.equity["net"].to_list() == result.bars["net"].to_list()


def test_filled_at_the_next_close_by_hand() -> None:
    """Bought at the close of bar 1 (104), half sold at that of bar 3, turned short at that of bar 4."""
    bars = some_bars("A", [100, 102, 105, 104, 110, 98], [101, 104, 106, 108, 99, 95])
    result = backtest(
        with_weights(bars, [1, 1, 0.5, -1, 0, 0]),
        bars,
        Costs(slippage_bps=10.0, borrow_bps_per_year=0.0),
        {"A": "close"},
    )
    returns = np.diff([101, 104, 106, 108, 99, 95]) / [101, 104, 106, 108, 99]
    np.testing.assert_allclose(result.bars["gross"], [0, 0, *(returns[1:] * [1, 1, 0.5, -1])], rtol=1e-12)
    np.testing.assert_allclose(result.bars["cost"], [0, 0.001, 0, 0.0005, 0.0015, 0.001], rtol=1e-12)


def test_the_money_of_a_trader_who_counts_shares() -> None:
    """Cash and shares, bar by bar, sized at the close and filled at the next open: the same equity."""
    bars = random_bars("A", 200, 1)
    weight = np.round(np.random.default_rng(2).uniform(-1, 1, 200), 2)
    open_, close = bars["open"].to_numpy(), bars["close"].to_numpy()
    cash, shares, equity = 1.0, 0.0, [1.0]
    for i in range(1, 200):
        wanted = weight[i - 1] * equity[-1] / close[i - 1]
        cash -= (wanted - shares) * open_[i]
        shares = wanted
        equity.append(cash + shares * close[i])
    # the library holds weights, not shares: it differs by the drift of a held weight until its next fill
    result = backtest(with_weights(bars, weight), bars, FREE)
    growth = np.diff(equity) / equity[:-1]
    overnight = open_[1:] / close[:-1] - 1
    kept = np.array([weight[i - 1] * close[i] / close[i - 1] * equity[i - 1] / equity[i] for i in range(1, 200)])
    drift = np.r_[0.0, (kept[:-1] - weight[:-2])] * overnight
    np.testing.assert_allclose(result.bars["gross"][1:], growth - drift, atol=1e-12)
    assert result.equity["equity"][-1] == pytest.approx(equity[-1], rel=0.02)


def test_buy_and_hold_earns_the_price_from_the_fill_on() -> None:
    bars = random_bars("A", 300, 3)
    ones = with_weights(bars, np.ones(300))
    first_open, last = bars["open"][1], bars["close"][-1]
    by_open = backtest(ones, bars, FREE).equity
    # the first bar is counted from the close at which its size was decided
    first = 1 + (bars["close"][1] - first_open) / bars["close"][0]
    assert by_open["equity"][-1] == pytest.approx(first * last / bars["close"][1], rel=1e-12)
    by_close = backtest(ones, bars, FREE, {"A": "close"}).equity
    assert by_close["equity"][-1] == pytest.approx(last / bars["close"][1], rel=1e-12)
    np.testing.assert_allclose(by_close["equity"], by_close["benchmark"], rtol=1e-12)


def test_a_position_is_closed_at_the_last_close_before_a_gap() -> None:
    """The gap from 110 to 55 is nobody's; closing costs are booked when the gap is known."""
    bars = some_bars("A", [100, 100, 105, 55, 55, 60], [100, 105, 110, 55, 60, 66], segment=[0, 0, 0, 1, 1, 1])
    for fills, gross in (
        ("open", [0, 0.05, 5 / 105, 0, 5 / 55, 6 / 60]),
        ("close", [0, 0, 5 / 105, 0, 0, 6 / 60]),
    ):
        result = backtest(
            with_weights(bars, np.ones(6)), bars, Costs(slippage_bps=10.0, borrow_bps_per_year=0.0), {"A": fills}
        )
        np.testing.assert_allclose(result.bars["gross"], gross, rtol=1e-12)
        np.testing.assert_allclose(result.bars["turnover"], [0, 1, 0, 1, 1, 0])
        np.testing.assert_allclose(result.bars["cost"], [0, 0.001, 0, 0.001, 0.001, 0])


# the one shift


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), t=st.integers(0, 39), fills=st.sampled_from(["open", "close"]))
def test_a_weight_decided_at_t_cannot_touch_a_profit_up_to_t(seed: int, t: int, fills: str) -> None:
    rng = np.random.default_rng(seed)
    open_, close = rng.uniform(50, 150, (2, 40))
    segment = np.cumsum(rng.random(40) < 0.1)
    weight = rng.uniform(-1, 1, (40, 3))
    costs = (0.001, rng.uniform(0, 1e-3, 40), fills)
    whole = net_returns(weight, open_, close, segment, *costs)

    other = weight.copy()
    other[t:] = rng.uniform(-1, 1, (40 - t, 3))
    for before, after in zip(whole, net_returns(other, open_, close, segment, *costs), strict=True):
        assert before[: t + 1].tobytes() == after[: t + 1].tobytes()
    if t + 2 < 40 and (segment[t : t + 3] == segment[t]).all():
        other = weight.copy()
        other[t] = weight[t] + 0.1
        touched = np.abs(net_returns(other, open_, close, segment, *costs)[2] - whole[2]).max(axis=1) > 0
        assert touched[t + 1 : t + 3].all()  # it costs at t + 1 and, with either fill, still earns at t + 2
        assert not touched[t + 3 :].any()  # nor does it outlive the trade that replaces it, at t + 2

    wild = [np.r_[part[: t + 1], rng.uniform(1e-3, 1e6, 39 - t)] for part in (open_, close)]
    other_segment = np.r_[segment[: t + 1], segment[t] + np.cumsum(rng.random(39 - t) < 0.5)]
    for before, after in zip(whole, net_returns(other, *wild, other_segment, *costs), strict=True):
        assert before[: t + 1].tobytes() == after[: t + 1].tobytes()


@pytest.mark.parametrize("fills", ["open", "close"])
def test_at_the_cut_the_backtest_is_the_same_to_the_bit(fills: str) -> None:
    """Also of the portfolio, whose symbols come, pause and go; bars after t are replaced or not yet there."""
    gone = random_bars("B", 60, 5)
    late = random_bars("C", 40, 6, start=datetime(2020, 3, 20, 21, tzinfo=UTC))
    pause = random_bars("D", 100, 7, segment=[0] * 50 + [1] * 50).filter((pl.int_range(pl.len()) // 10) != 4)
    bars = pl.concat([random_bars("A", 100, 4), gone, late, pause])
    weights = with_weights(bars, np.random.default_rng(8).uniform(-1, 1, len(bars)))
    which = dict.fromkeys("ABCD", fills)
    whole = backtest(weights, bars, fills=which)
    times = bars["time"].unique().sort()
    for t in (0, 1, 2, 39, 40, 49, 50, 51, 59, 60, 61, 75, 98, 99):
        past = pl.col("time") <= times[t]
        wild = bars.with_columns(
            pl.when(past).then(name).otherwise(7.0 + i).alias(name) for i, name in enumerate(("open", "close"))
        )
        for cut_bars, cut_weights in ((bars.filter(past), weights.filter(past)), (wild, weights)):
            cut = backtest(cut_weights, cut_bars, fills={k: v for k, v in which.items() if k in cut_bars["symbol"]})
            assert cut.bars.filter(past).equals(whole.bars.filter(past))
            assert cut.equity.filter(past).equals(whole.equity.filter(past))


# costs


def test_costs_come_from_the_class_unless_told() -> None:
    for name, known in ASSET_CLASSES.items():
        assert Costs().per_side(name) == pytest.approx(known.cost_bps / 1e4)
        assert Costs().per_side(name) > 0
        assert Costs().borrow_per_bar(name, 252) == pytest.approx(known.borrow_bps_per_year / 1e4 / 252)
    assert Costs(commission_bps=1, slippage_bps=2).round_trip("fx") == pytest.approx(6e-4)
    assert Costs(slippage_bps=2).per_side("fx") == pytest.approx(2e-4)
    assert Costs(commission_bps=1).per_side("crypto") == pytest.approx(1e-4 + ASSET_CLASSES["crypto"].cost_bps / 1e4)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=r"slippage_bps = .* (greater|finite)"):
            Costs(slippage_bps=wrong)
    with pytest.raises(BarsError, match="Did you mean 'equity'"):
        Costs().per_side("equit")


def test_a_short_pays_for_each_night_by_the_calendar() -> None:
    """365 bps a year are 1 bp a night; three nights from Friday to Monday; a long pays nothing."""
    days = [0, 1, 2, 3, 4, 7, 8]
    start = datetime(2020, 1, 6, 21, tzinfo=UTC)
    bars = some_bars("A", [100.0] * 7, [100.0] * 7).with_columns(
        time=pl.Series([start + timedelta(days=d) for d in days], dtype=pl.Datetime("us", "UTC"))
    )
    costs = Costs(slippage_bps=0.0, borrow_bps_per_year=365.0)
    cost = backtest(with_weights(bars, [-0.5] * 7), bars, costs).bars["cost"]
    np.testing.assert_allclose(cost, [0, 0, 0.5e-4, 0.5e-4, 0.5e-4, 1.5e-4, 0.5e-4], rtol=1e-12)
    assert backtest(with_weights(bars, [0.5] * 7), bars, costs).bars["cost"].sum() == 0


def test_at_the_break_even_cost_nothing_is_left() -> None:
    bars = pl.concat([random_bars("A", 400, 9), random_bars("B", 400, 10, asset_class="crypto")])
    foresight = bars.select(
        "symbol",
        "time",
        weight=(pl.col("close").shift(-1) / pl.col("close") - 1).over("symbol").sign().fill_null(0),
    )
    result = backtest(foresight, bars)
    assert result.break_even_cost_bps > 20
    there = backtest(foresight, bars, Costs(slippage_bps=result.break_even_cost_bps))
    assert there.equity["net"].sum() == pytest.approx(0, abs=1e-12)
    assert np.isnan(backtest(with_weights(bars, np.zeros(800)), bars).break_even_cost_bps)


def test_turnover_is_one_sided_and_per_year() -> None:
    """Long at every other close: a full purchase or sale a bar is half a portfolio replaced a bar."""
    bars = random_bars("A", 731, 11)
    result = backtest(with_weights(bars, np.arange(731) % 2), bars)
    assert result.turnover_per_year == pytest.approx(729 / 2 / 2)
    assert result.summary()["sum_of_costs"] == pytest.approx(729 * 5e-4)


# the portfolio


def test_the_book_shares_the_money_among_the_living() -> None:
    bars = pl.concat(
        [
            random_bars("A", 40, 12),
            random_bars("B", 10, 13),
            random_bars("C", 20, 14, start=datetime(2020, 1, 26, 21, tzinfo=UTC)),
        ]
    )
    book = make_book(with_weights(bars, np.ones(70)), bars).filter(pl.col("symbol") == "A")["weight"]
    # B is counted for ten more days, as nobody knows that it will not come back; C begins at bar 20
    assert book.to_list() == [1 / 2] * 20 + [1 / 2] * 20
    alone = bars.filter(pl.col("symbol") != "C")
    book = make_book(with_weights(alone, np.ones(50)), alone).filter(pl.col("symbol") == "A")["weight"]
    assert book.to_list() == [1 / 2] * 20 + [1.0] * 20
    with pytest.raises(SettingsError, match=r"weights must lie in \[-1, 1\], 1 do not"):
        make_book(with_weights(bars[:2], [1.0, 1.2]), bars)


def test_the_portfolio_is_the_sum_over_symbols_of_the_book() -> None:
    bars = pl.concat([random_bars(name, 100, i) for i, name in enumerate("ABC")])
    weights = with_weights(bars, np.random.default_rng(15).uniform(-1, 1, 300))
    result = backtest(weights, bars)
    by_symbol = np.array([result.returns_of(name) for name in "ABC"])
    np.testing.assert_allclose(result.equity["net"], by_symbol.mean(0), atol=1e-15)
    np.testing.assert_allclose(result.equity["equity"], np.cumprod(1 + by_symbol.mean(0)), rtol=1e-12)
    alone = bars.filter(pl.col("symbol") == "B")
    own = backtest(weights.filter(pl.col("symbol") == "B"), alone)
    np.testing.assert_array_equal(own.equity["net"], by_symbol[1])


def test_daily_bars_meet_by_session_and_intraday_bars_by_time() -> None:
    """A coin's session ends at midnight, three hours after the stock's: one row for both, at midnight."""
    stock = random_bars("A", 5, 16)
    coin = random_bars("B", 5, 17, start=datetime(2020, 1, 7, 0, tzinfo=UTC), asset_class="crypto")
    bars = pl.concat([stock, coin])
    daily = backtest(with_weights(bars, np.ones(10)), bars, FREE).equity
    assert [time.date() for time in daily["time"]] == [date(2020, 1, 7 + i) for i in range(5)]
    assert all(time.hour == 0 for time in daily["time"])
    hourly = pl.concat([random_bars(name, 8, 18, step=timedelta(hours=1)) for name in "AB"])
    assert len(backtest(with_weights(hourly, np.ones(16)), hourly, FREE).equity) == 8


def test_the_benchmark_holds_all_and_pays_its_entry() -> None:
    bars = pl.concat([random_bars(name, 50, i) for i, name in enumerate("AB")])
    costs = Costs(slippage_bps=20.0)
    result = backtest(with_weights(bars, np.zeros(100)), bars, costs)
    close, open_ = (bars[name].to_numpy().reshape(2, 50) for name in ("close", "open"))
    change = close[:, 1:] / close[:, :-1] - 1
    change[:, 0] = (close[:, 1] - open_[:, 1]) / close[:, 0] - 0.002
    np.testing.assert_allclose(result.equity["benchmark"][1:], np.cumprod(1 + change.mean(0)), rtol=1e-12)
    assert result.equity["equity"].to_list() == [1.0] * 50


def test_it_begins_with_the_first_weight_and_a_missing_weight_is_none() -> None:
    bars = random_bars("A", 50, 19)
    weights = with_weights(bars, np.ones(50))
    assert len(backtest(weights[20:], bars).equity) == 30
    holes = weights.with_columns(weight=pl.when(pl.int_range(50) % 3 > 0).then("weight"))
    zeros = holes.with_columns(pl.col("weight").fill_null(0.0))
    expected = backtest(zeros, bars).equity
    assert backtest(holes, bars).equity.equals(expected)
    gone = holes.with_row_index().filter((pl.col("index") == 0) | pl.col("weight").is_not_null()).drop("index")
    assert backtest(gone, bars).equity.equals(expected)
    assert backtest(holes.to_pandas(), bars).equity.equals(expected)


def test_what_has_lost_everything_stays_at_nothing() -> None:
    bars = some_bars("A", [10, 10, 10, 10], [10, 10, 30, 3])
    equity = backtest(with_weights(bars, [-1.0] * 4), bars, FREE).equity["equity"]
    assert equity.to_list() == [1, 1, 0, 0]


# many strategies at once, other people's tear sheets, refusals


@pytest.mark.parametrize("fills", ["open", "close"])
def test_many_strategies_at_once_are_each_by_itself(fills: str) -> None:
    bars = random_bars("A", 120, 20)
    weight = np.random.default_rng(21).uniform(-1, 1, (120, 5))
    prices = (bars["open"].to_numpy(), bars["close"].to_numpy(), np.repeat([0, 1], 60), 1e-3, 1e-4, fills)
    together = net_returns(weight, *prices)
    for k in range(5):
        for one, all_ in zip(net_returns(weight[:, k], *prices), together, strict=True):
            np.testing.assert_array_equal(one, all_[:, k])


def test_totals_are_those_of_quantstats() -> None:
    import quantstats

    bars = pl.concat([random_bars(name, 600, i) for i, name in enumerate("ABC")])
    result = backtest(with_weights(bars, np.random.default_rng(22).uniform(-1, 1, 1800)), bars)
    index = pd.DatetimeIndex(result.equity["time"].dt.replace_time_zone(None).to_list())
    net = pd.Series(result.equity["net"].to_numpy(), index=index)
    equity = result.equity["equity"].to_numpy()
    assert result.summary()["total_return"] == pytest.approx(quantstats.stats.comp(net), abs=1e-5)
    drawdown = (equity / np.maximum.accumulate(np.maximum(equity, 1.0)) - 1).min()
    assert drawdown == pytest.approx(quantstats.stats.max_drawdown(net), abs=1e-5)
    np.testing.assert_allclose(equity - 1, quantstats.stats.compsum(net), atol=1e-5)


def test_faulty_weights_and_fills_are_refused() -> None:
    bars = random_bars("A", 10, 23)
    weights = with_weights(bars, np.ones(10))
    with pytest.raises(BarsError, match="1 weights belong to no bar"):
        backtest(weights.with_columns(pl.col("time").dt.offset_by("1d")), bars)
    with pytest.raises(BarsError, match="a bar can have one weight, 2 rows"):
        backtest(pl.concat([weights, weights[:1]]), bars)
    with pytest.raises(SettingsError, match=r"weights must lie in \[-1, 1\]"):
        backtest(weights.with_columns(weight=pl.lit(2.0)), bars)
    with pytest.raises(SettingsError, match="columns symbol, time, weight; got 10 rows"):
        backtest(weights.drop("weight"), bars)
    with pytest.raises(SettingsError, match="got 0 rows"):
        backtest(weights[:0], bars)
    with pytest.raises(SettingsError, match=r"expected 'open' or 'close'. Did you mean 'close'"):
        backtest(weights, bars, fills={"A": "closed"})
    with pytest.raises(SettingsError, match="fills name 'B', the bars do not"):
        backtest(weights, bars, fills={"B": "open"})
