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
from gatecast.market.actions import SCHEMA as ACTIONS
from gatecast.market.bars import make_bars
from gatecast.market.classes import ASSET_CLASSES
from gatecast.market.facts import Facts
from gatecast.trading.backtest import backtest, net_returns
from gatecast.trading.costs import Costs
from gatecast.trading.portfolio import make_book

YEAR = timedelta(days=365)
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
    result = backtest(with_weights(bars, [1, 1, 0.5, -1, 0]), bars, FREE, {"A": "open"})
    at_3 = 104 / 106  # wealth at the third fill, over that at the close before
    half = 1 + 0.5 * (108 / 104 - 1)
    kept = 0.5 * (108 / 104) / half  # the half as it has become
    at_4 = 1 + kept * (110 / 108 - 1)
    expected = [0, 104 / 102 - 1, 106 / 104 - 1, at_3 * half - 1, at_4 * (1 - (99 / 110 - 1)) - 1]
    np.testing.assert_allclose(result.bars["gross"], expected, rtol=1e-12, atol=1e-15)
    traded = [0, 1, 0, 0.5 * at_3, at_4 + kept * 110 / 108]
    np.testing.assert_allclose(result.bars["turnover"], traded, rtol=1e-12, atol=1e-15)
    assert result.equity["net"].to_list() == pytest.approx(result.bars["net"].to_list(), abs=1e-15)


def test_filled_at_the_next_close_by_hand() -> None:
    """Bought at the close of bar 1 (104), half sold at that of bar 3, turned short at that of bar 4."""
    bars = some_bars("A", [100, 102, 105, 104, 110, 98], [101, 104, 106, 108, 99, 95])
    costs = Costs(slippage_bps=10.0, borrow_bps_per_year=0.0)
    result = backtest(with_weights(bars, [1, 1, 0.5, -1, 0, 0]), bars, FREE, {"A": "close"})
    returns = np.diff([101, 104, 106, 108, 99, 95]) / [101, 104, 106, 108, 99]
    np.testing.assert_allclose(result.bars["gross"], [0, 0, *(returns[1:] * [1, 1, 0.5, -1])], rtol=1e-12)
    wealth = 1 + np.array([0, *returns[1:] * [1, 1, 0.5, -1]])  # of bars 1 to 5, over the close before
    holding = np.array([0, *(1 + returns[1:]) * [1, 1, 0.5, -1]])  # before the fill
    traded = np.abs(wealth * [1, 1, 0.5, -1, 0] - holding)
    np.testing.assert_allclose(result.bars["turnover"], [0, *traded], rtol=1e-12, atol=1e-15)
    paid = backtest(with_weights(bars, [1, 1, 0.5, -1, 0, 0]), bars, costs, {"A": "close"}).bars["cost"]
    np.testing.assert_allclose(paid, [0, *traded * 0.001], rtol=2e-3, atol=3e-6)  # less what costs have taken


def test_buy_and_hold_earns_the_price_from_the_fill_on() -> None:
    bars = random_bars("A", 300, 3)
    ones = with_weights(bars, np.ones(300))
    for fill, price in (("open", bars["open"][1]), ("close", bars["close"][1])):
        equity = backtest(ones, bars, FREE, {"A": fill}).equity
        assert equity["equity"][-1] == pytest.approx(bars["close"][-1] / price, rel=1e-12)
        np.testing.assert_allclose(equity["equity"], equity["benchmark"], rtol=1e-12)


def test_what_drifts_is_brought_back_and_paid_for() -> None:
    """+-2 % a day: a constant -1 trades 4 % a day (2 |r| and a little), 1 nothing, 0.5 half of r."""
    move = np.where(np.random.default_rng(1).random(1500) < 0.5, 0.02, -0.02)
    close = 100 * np.cumprod(1 + move)
    bars = some_bars("A", np.r_[100.0, close[:-1]], close)
    for weight, expected in ((-1.0, 2 * 0.02), (1.0, 0.0), (0.5, 0.5 * 0.5 * 0.02)):
        traded = backtest(with_weights(bars, np.full(1500, weight)), bars, FREE, {"A": "open"}).bars["turnover"]
        held = weight * (1 + move[1:-1]) / (1 + weight * move[1:-1])  # before each fill, with equal open and close
        np.testing.assert_allclose(traded[2:], np.abs(weight - held), atol=1e-12)
        assert traded[2:].mean() == pytest.approx(expected, rel=0.03, abs=1e-12)
        own = net_returns(
            np.full(1500, weight), bars["open"].to_numpy(), close, np.zeros(1500, int), 0.001, 0.0, at_open=True
        )[1]
        assert own[2:].sum() == pytest.approx(0.001 * traded[2:].sum(), rel=2e-3, abs=2e-6)


# a trader who counts shares


def trader(
    bars: pl.DataFrame, shares_of_wealth: pl.DataFrame, costs: Costs, at_open: dict[str, bool]
) -> dict[datetime, float]:
    """Wealth after every moment of a trader with cash and shares: the slow way, one symbol and one moment at a time.

    Orders are shares of wealth, cut to what no other symbol holds or waits to hold.
    """
    wanted = dict(zip(shares_of_wealth.select("symbol", "time").rows(), shares_of_wealth["weight"], strict=True))
    cash, shares, last, seen, order, path = 1.0, {}, {}, {}, {}, {}
    for moment in bars["time"].unique().sort():
        rows = {row["symbol"]: row for row in bars.filter(pl.col("time") == moment).iter_rows(named=True)}
        due = sum(
            -shares[s] * last[s] * costs.borrow_per_bar(row["asset_class"], 1) * ((moment - seen[s]) / YEAR)
            for s, row in rows.items() if shares.get(s, 0.0) < 0
        )  # fmt: skip
        marks = last | {symbol: row["open"] for symbol, row in rows.items() if at_open[symbol]}
        worth = cash + sum(shares[s] * marks[s] for s in shares)
        for phase in ("open", "close"):
            if phase == "close":
                cash -= due
                last |= {symbol: row["close"] for symbol, row in rows.items()}
                worth = cash + sum(shares[s] * last[s] for s in shares)
            for symbol, row in rows.items():
                if (phase == "open") == at_open[symbol]:
                    new = order.get(symbol, 0.0) * worth / row[phase]
                    traded = (new - shares.get(symbol, 0.0)) * row[phase]
                    cash -= traded + abs(traded) * costs.per_side(row["asset_class"])
                    shares[symbol] = new
        seen |= dict.fromkeys(rows, moment)
        wealth = cash + sum(shares[s] * last[s] for s in shares)
        taken = sum(max(abs(shares[s] * last[s]) / wealth, abs(order[s])) for s in order if s not in rows)
        asked = {symbol: wanted.get((symbol, moment), 0.0) for symbol in rows}
        total, free = sum(map(abs, asked.values())), max(1 - taken, 0.0)
        order |= {symbol: share * (free / total if total > free else 1.0) for symbol, share in asked.items()}
        path[moment] = wealth
    return path


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), late=st.booleans(), at_open=st.lists(st.booleans(), min_size=3, max_size=3))
def test_the_money_of_a_trader_who_counts_shares(seed: int, late: bool, at_open: list[bool]) -> None:
    """Halts, holidays, shorts, costs and borrowing: the same wealth after each session, and each row's identity."""
    rng = np.random.default_rng(seed)
    frames = [
        random_bars(
            name, 60, seed + i,
            asset_class=("equity", "crypto", "index")[i],
            start=datetime(2020, 1, 7, 0, tzinfo=UTC) if late and i == 1 else datetime(2020, 1, 6, 21, tzinfo=UTC),
        ).filter(pl.Series(rng.random(60) < (1.0, 0.9, 0.6)[i]))
        for i, name in enumerate("ABC")
    ]  # fmt: skip
    bars = pl.concat(frames)
    weights = with_weights(bars, np.where(rng.random(len(bars)) < 0.2, 0, rng.uniform(-1, 1, len(bars))))
    which = dict(zip("ABC", at_open, strict=True))
    result = backtest(weights, bars, fills={name: "open" if real else "close" for name, real in which.items()})
    path = trader(bars, make_book(weights, Facts(bars)), Costs(), which)
    equity = result.equity
    np.testing.assert_allclose(equity["equity"], [path[time] for time in equity["time"]], rtol=1e-10)
    before = np.r_[1.0, equity["equity"].to_numpy()[:-1]]
    gains, paid = before * equity["gross"].to_numpy(), before * (equity["gross"] - equity["net"]).to_numpy()
    np.testing.assert_allclose(before + gains - paid, equity["equity"], rtol=0, atol=1e-12)
    parts = result.bars.group_by("time").agg(pl.col("book_net").sum()).sort("time")
    wealth = np.array([1.0, *path.values()])
    np.testing.assert_allclose(parts["book_net"], wealth[1:] / wealth[:-1] - 1, atol=1e-10)
    for name in "ABC":  # each by itself, as if all of the money were in it
        own, theirs = bars.filter(pl.col("symbol") == name), weights.filter(pl.col("symbol") == name)
        alone = trader(own, theirs, Costs(), which)
        np.testing.assert_allclose(np.cumprod(1 + result.returns_of(name)), list(alone.values()), rtol=1e-10)


# halts


@pytest.mark.parametrize("fill", ["open", "close"])
@pytest.mark.parametrize("hourly", [False, True])
def test_what_is_held_through_a_halt_earns_the_move_to_the_reopening(fill: str, hourly: bool) -> None:
    """-15 % at each of ten reopenings; opens equal closes, so that nobody could have sold before."""
    rng = np.random.default_rng(2)
    move = 0.0006 + 0.01 * rng.standard_normal(700)
    halts = np.arange(60, 700, 64)
    move[halts] += np.log(0.85)
    close = 100 * np.exp(np.cumsum(move))
    step = timedelta(hours=1) if hourly else timedelta(days=1)
    late = np.cumsum(np.isin(np.arange(700), halts))
    bars = make_bars(
        some_bars("A", close, close, step=step)
        .with_columns(pl.col("time") + pl.duration(days=14) * pl.Series(late))
        .with_columns(known_at="time")
        .drop("segment")
    )
    assert bars["segment"].max() == len(halts)
    result = backtest(with_weights(bars, np.ones(700)), bars, FREE, {"A": fill})
    truth = close[-1] / close[1]
    assert result.equity["equity"][-1] == pytest.approx(truth, rel=1e-12)
    assert result.equity["benchmark"][-1] == pytest.approx(truth, rel=1e-12)
    assert np.prod(1 + result.returns_of("A")) == pytest.approx(truth, rel=1e-12)
    assert result.ends == {"known": 0, "default": 0, "vendor": 0, "returned": 0}


def test_a_halted_holding_stays_in_the_book_and_new_money_is_shared_without_it() -> None:
    """B halts with half of the money while A halves and C begins: no more than all of the money is ever invested."""
    halves = np.r_[np.full(20, 100.0), np.linspace(100, 50, 20), np.full(10, 50.0)]
    bars = pl.concat(
        [
            some_bars("A", halves, halves),
            some_bars("B", np.full(20, 100.0), np.full(20, 100.0)),
            some_bars("C", np.full(20, 100.0), np.full(20, 100.0), start=datetime(2020, 2, 5, 21, tzinfo=UTC)),
        ]
    )
    result = backtest(with_weights(bars, np.ones(len(bars))), bars, FREE)
    wealth = dict(zip(result.equity["time"], result.equity["equity"], strict=True))
    b = 0.5  # shares of B in money, whose price stands still
    for time in result.equity["time"].to_list()[25:]:
        book = result.bars.filter((pl.col("time") == time) & (pl.col("symbol") != "B"))["book"].abs().sum()
        assert book + b / wealth[time] <= 1 + 1e-9
    last = result.bars.filter((pl.col("time") == result.equity["time"][-1]) & (pl.col("symbol") == "A"))["book"].item()
    assert last == pytest.approx(min(1 / 3, (1 - b / wealth[result.equity["time"][-1]]) / 2), rel=1e-9)


# the ends of symbols


def equities(lengths: dict[str, int | list[int]], seed: int = 31, count: int = 300, **more: object) -> pl.DataFrame:
    """Random bars of each symbol: its first so many, or all but those of a range."""
    frames = []
    for n, (name, length) in enumerate(lengths.items()):
        row = pl.int_range(pl.len())
        kept = row < length if isinstance(length, int) else ~row.is_between(*length, closed="left")
        frames.append(random_bars(name, count, seed + n, **more).filter(kept))
    return make_bars(pl.concat(frames).drop("segment"))


def last_return(bars: pl.DataFrame, symbol: str, weight: float, **more: object) -> float:
    """What constant weights of a symbol by itself have earned after its last bar, to the end of the backtest."""
    ones = bars.select("symbol", "time", weight=pl.lit(weight))
    own = backtest(ones, bars, FREE, **more).bars.filter(pl.col("symbol") == symbol)
    bars_of_it = bars.filter(pl.col("symbol") == symbol)
    assert len(own) == len(bars_of_it) + 1
    return float(own["net"][-1])


def test_an_end_on_unknown_terms_costs_the_long_and_pays_the_short_nothing() -> None:
    bars = equities({"A": 300, "B": 100})
    assert last_return(bars, "B", 1.0) == pytest.approx(-0.3, abs=1e-12)
    held = backtest(bars.select("symbol", "time", weight=pl.lit(-1.0)), bars, FREE, {"B": "close"})
    drift = bars.filter(pl.col("symbol") == "B")["close"].to_numpy()[-2:]
    assert drift[0] > 0
    assert last_return(bars, "B", -1.0) == 0.0
    assert last_return(bars, "B", 0.0) == 0.0
    coins = bars.with_columns(asset_class=pl.lit("crypto"))
    assert last_return(coins, "B", 0.5) == pytest.approx(-0.45, rel=0.05)  # half, as it has drifted
    funds = bars.with_columns(asset_class=pl.lit("etf"))
    assert last_return(funds, "B", 1.0) == 0.0
    assert held.ends == {"known": 0, "default": 1, "vendor": 0, "returned": 0}


def test_an_end_on_known_terms_is_what_holders_got() -> None:
    bars = equities({"A": 300, "B": 100})
    last = bars.filter(pl.col("symbol") == "B")["time"][-1]
    for value in (-1.0, -0.8, 0.25):
        told = pl.DataFrame([("B", "delisting", last.date(), value, None)], schema=ACTIONS, orient="row")
        assert last_return(bars, "B", 1.0, actions=told) == pytest.approx(value, abs=1e-12)
        short = backtest(bars.select("symbol", "time", weight=pl.lit(-1.0)), bars, FREE, actions=told)
        own = short.bars.filter(pl.col("symbol") == "B")
        weight = np.full(100, -1.0)
        price = bars.filter(pl.col("symbol") == "B").select("open", "close").to_numpy()
        assert len(net_returns(weight, price[:, 0], price[:, 1], np.zeros(100, int), 0.0, 0.0)[2]) == len(own) - 1
        kept = (price[-1, 1] / price[-1, 0]) / (2 - price[-1, 1] / price[-1, 0])  # short since the last open
        assert own["net"][-1] == pytest.approx(max(-value * kept, -1.0), rel=1e-9)
        assert short.ends["known"] == 1
        assert short.ends["default"] == 0


def test_the_book_and_the_benchmark_lose_what_they_held() -> None:
    """Against a trader whose shares lose 30 % of their last price on the sixtieth session without a bar."""
    bars = equities({"A": 300, "B": 100, "C": 300})
    result = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars, FREE, dict.fromkeys("ABC", "close"))
    close = {n: bars.filter(pl.col("symbol") == n)["close"].to_numpy() for n in "ABC"}
    held = result.equity["benchmark"].to_numpy()
    shares = {n: 1 / 3 / close[n][1] for n in "ABC"}
    worth = [sum(shares[n] * close[n][min(t, len(close[n]) - 1)] for n in "ABC") for t in range(159)]
    np.testing.assert_allclose(held[1:159], worth[1:], rtol=1e-12)
    after = sum(shares[n] * close[n][159] for n in "AC") + shares["B"] * close["B"][-1] * 0.7
    assert held[159] == pytest.approx(after, rel=1e-12)
    # what B brought is shared by the other two: decided at the close of its end, filled at the next
    grown = after + sum(shares[n] * (close[n][160] - close[n][159]) for n in "AC")
    np.testing.assert_allclose(held[-1], grown / 2 * sum(close[n][-1] / close[n][160] for n in "AC"), rtol=1e-12)
    without = result.equity_without_default_ends
    assert without is not None
    assert without["benchmark"][159] - held[159] == pytest.approx(shares["B"] * close["B"][-1] * 0.3, rel=1e-9)
    assert without["equity"][158] == result.equity["equity"][158]
    assert without["equity"][159] > result.equity["equity"][159]
    assert result.without_default_ends().summary()["total_return"] == without["equity"][-1] - 1


def test_an_end_known_at_a_close_leaves_all_the_money_to_the_others() -> None:
    """Known terms on B's last close: no weight of B is decided there, and A is bought with all that is left."""
    bars = equities({"A": 300, "B": 100})
    last = bars.filter(pl.col("symbol") == "B")["time"][-1]
    told = pl.DataFrame([("B", "delisting", last.date(), -0.5, None)], schema=ACTIONS, orient="row")
    ones = bars.select("symbol", "time", weight=pl.lit(1.0))
    result = backtest(ones, bars, FREE, dict.fromkeys("AB", "close"), told)
    at = result.bars.filter(pl.col("time") == last)
    assert at.select("symbol", "weight", "book").rows() == [("A", 1.0, 1.0), ("B", 0.0, 0.0), ("B", 0.0, 0.0)]
    close = {n: bars.filter(pl.col("symbol") == n)["close"].to_numpy() for n in "AB"}
    after = 0.5 * (close["A"][99] / close["A"][1] + 0.5 * close["B"][99] / close["B"][1])
    moved = after + 0.5 * (close["A"][100] - close["A"][99]) / close["A"][1]  # the order is filled at the next close
    for name in ("equity", "benchmark"):
        wealth = result.equity[name].to_numpy()
        if name == "benchmark":  # bought once; the book is brought back to equal shares at each fill
            assert wealth[99] == pytest.approx(after, rel=1e-12)
            assert wealth[100] == pytest.approx(moved, rel=1e-12)
        np.testing.assert_allclose(wealth[101:] / wealth[100], close["A"][101:] / close["A"][100], rtol=1e-12)


@pytest.mark.parametrize("away", [70, 100, 150])
def test_a_symbol_that_returns_has_earned_the_move_to_its_reopening(away: int) -> None:
    """The default is booked on the sixtieth session and taken back: all in all the holder has the reopening's price."""
    bars = equities({"A": 300, "B": [100, 100 + away]})
    result = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars, FREE, dict.fromkeys("AB", "open"))
    own = result.bars.filter(pl.col("symbol") == "B")
    b = bars.filter(pl.col("symbol") == "B")
    assert own["net"][100] == pytest.approx(-0.3, abs=1e-12)
    assert np.prod(1 + own["net"].to_numpy()[:102]) == pytest.approx(b["open"][100] / b["open"][1], rel=1e-12)
    assert result.ends == {"known": 0, "default": 1, "vendor": 0, "returned": 1}
    paying = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars, Costs(), dict.fromkeys("AB", "open"))
    sale = paying.bars.filter(pl.col("symbol") == "B")["cost"][101]
    before = np.prod(1 + own["net"].to_numpy()[:101])
    assert sale == pytest.approx(5e-4 * b["open"][100] / b["open"][1] / before, rel=2e-3)


@pytest.mark.parametrize("bars_after", [0, 3, 30])
def test_a_delisting_of_a_symbol_that_goes_on_trading_is_taken_back_at_its_reopening(bars_after: int) -> None:
    """Known terms are booked on their session, and are what the holder has until the symbol trades again for good."""
    away = 40 if bars_after < 30 else 0
    bars = equities({"A": 300, "B": [100 + bars_after, 100 + bars_after + away]})
    own = bars.filter(pl.col("symbol") == "B")
    told = pl.DataFrame([("B", "delisting", own["time"][99].date(), -0.8, None)], schema=ACTIONS, orient="row")
    ones, fills = bars.select("symbol", "time", weight=pl.lit(1.0)), dict.fromkeys("AB", "open")
    result = backtest(ones, bars, FREE, fills, actions=told)
    assert result.ends == {"known": 1, "default": 0, "vendor": 0, "returned": 1}
    found = result.bars.filter(pl.col("symbol") == "B")
    end = found.with_row_index().filter(pl.col("time") == own["time"][99])["index"].to_list()[-1]
    assert found["net"][end] == pytest.approx(-0.8, abs=1e-12)
    day = pl.col("time").dt.date()
    back = own.with_row_index().filter(day > own["time"][99].date() + timedelta(days=7))["index"][0]
    between = found["net"].to_numpy()[end + 1 : back + 1]  # rows after the end, of bars that clear last trades
    assert (between == 0).all()
    wealth = np.prod(1 + found["net"].to_numpy()[: back + 2])  # the end has a row of its own
    assert wealth == pytest.approx(own["open"][int(back)] / own["open"][1], rel=1e-9)
    before = pl.col("time") < own["time"][int(back)]
    cut = backtest(ones.filter(before), bars.filter(before), FREE, fills, actions=told)  # that it returns is not known
    assert cut.equity.equals(result.equity.filter(before))


def test_symbols_that_end_with_their_vendor_are_sold_at_their_last_close() -> None:
    bars = equities({"A": 300, **dict.fromkeys("BCD", 100)})
    costs = Costs(slippage_bps=20.0, commission_bps=0.0)
    ones = bars.select("symbol", "time", weight=pl.lit(1.0))
    result = backtest(ones, bars, costs)
    assert result.ends == {"known": 0, "default": 0, "vendor": 3, "returned": 0}
    own = result.bars.filter(pl.col("symbol") == "B")
    assert own["gross"][-1] == 0
    assert own["cost"][-1] == pytest.approx(0.002, rel=1e-2)  # of what its own money has become
    assert result.equity_without_default_ends is None
    assert result.without_default_ends() is result
    late = result.bars.filter((pl.col("symbol") == "A") & (pl.col("time") > own["time"][-1]))
    assert late["book"].to_list() == [1.0] * 140  # all money is A's again


def test_another_level_after_a_gap_is_the_worse_of_the_move_and_the_default() -> None:
    for factor, long, short in ((10.0, -0.3, -1.0), (0.1, -0.9, 0.0)):
        bars = equities({"A": 300, "B": [100, 130]})
        other = (pl.col("symbol") == "B") & (pl.int_range(pl.len()).over("symbol") >= 100)
        price = bars.filter(pl.col("symbol") == "B").select("open", "close")
        scale = factor * price["close"][99] / price["open"][100]
        bars = bars.with_columns(
            pl.when(other).then(pl.col(name) * scale).otherwise(name).alias(name)
            for name in ("open", "high", "low", "close")
        )
        for weight, expected in ((1.0, long), (-1.0, short)):
            result = backtest(bars.select("symbol", "time", weight=pl.lit(weight)), bars, FREE, {"B": "open"})
            found = result.bars.filter(pl.col("symbol") == "B")["net"][100]
            assert found == pytest.approx(expected, abs=1e-9)
            assert result.ends["default"] == 1


def test_silence_at_the_end_of_the_file_books_nothing() -> None:
    bars = equities({"A": 300, "B": 245})
    result = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars, FREE)
    assert result.ends == {"known": 0, "default": 0, "vendor": 0, "returned": 0}
    assert len(result.returns_of("B")) == 245


def test_two_classes_with_other_holidays_are_one_account() -> None:
    """Coins trade at weekends, equities do not: nothing is lost or gained by it."""
    every = random_bars("X", 200, 40, asset_class="crypto", start=datetime(2020, 1, 7, 0, tzinfo=UTC))
    stock = random_bars("A", 200, 41).filter(pl.col("time").dt.weekday() <= 5)
    bars = pl.concat([stock, every])
    ones = bars.select("symbol", "time", weight=pl.lit(1.0))
    both = ones.filter(pl.col("time") >= stock["time"][1])
    result = backtest(both, bars, FREE, {"A": "close", "X": "close"})
    assert len(result.equity) == 199
    assert result.rows_per_year == pytest.approx(365.25, rel=0.01)
    a, x = stock["close"].to_numpy(), every["close"].to_numpy()
    assert result.equity["benchmark"][-1] == pytest.approx(a[-1] / a[2] / 2 + x[-1] / x[2] / 2, rel=0.01)
    # where the coin begins three hours later, money is made for it first
    late = backtest(ones, bars, FREE, {"A": "close", "X": "close"}).equity["benchmark"]
    assert np.corrcoef(np.diff(np.log(late))[5:], np.diff(np.log(result.equity["benchmark"]))[4:])[0, 1] > 0.99
    assert len(late) == 200


# the one shift


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), t=st.integers(0, 39), at_open=st.booleans())
def test_a_weight_decided_at_t_cannot_touch_a_profit_up_to_t(seed: int, t: int, at_open: bool) -> None:
    rng = np.random.default_rng(seed)
    open_, close = rng.uniform(50, 150, (2, 40))
    listing = np.cumsum(rng.random(40) < 0.1)
    weight = rng.uniform(-0.3, 0.3, (40, 3))
    costs = (0.001, rng.uniform(0, 1e-3, 40), at_open)
    whole = net_returns(weight, open_, close, listing, *costs)

    other = weight.copy()
    other[t:] = rng.uniform(-1, 1, (40 - t, 3))
    for before, after in zip(whole, net_returns(other, open_, close, listing, *costs), strict=True):
        assert before[: t + 1].tobytes() == after[: t + 1].tobytes()
    if t + 2 < 40 and (listing[t : t + 3] == listing[t]).all():
        other = weight.copy()
        other[t] = weight[t] + 0.1
        free = (0.0, 0.0, at_open)
        moved = np.abs(
            net_returns(other, open_, close, listing, *free)[2] - net_returns(weight, open_, close, listing, *free)[2]
        )
        touched = moved.max(axis=1) > 1e-12
        assert touched[t + 1 : t + 3].any()  # filled at t + 1; with either fill it still earns up to the fill at t + 2
        assert not touched[t + 3 :].any()  # nor does it outlive the trade that replaces it, at t + 2

    wild = [np.r_[part[: t + 1], rng.uniform(1e-3, 1e6, 39 - t)] for part in (open_, close)]
    other_listing = np.r_[listing[: t + 1], listing[t] + np.cumsum(rng.random(39 - t) < 0.5)]
    for before, after in zip(whole, net_returns(other, *wild, other_listing, *costs), strict=True):
        assert before[: t + 1].tobytes() == after[: t + 1].tobytes()


@pytest.mark.parametrize("fills", ["open", "close", None])
def test_at_the_cut_the_backtest_is_the_same_to_the_bit(fills: str | None) -> None:
    """Also of the portfolio, whose symbols come, pause, end and go; bars after t are replaced or not yet there."""
    gone = random_bars("B", 60, 5)
    late = random_bars("C", 100, 6, start=datetime(2020, 3, 20, 21, tzinfo=UTC))
    pause = random_bars("D", 220, 7).filter((pl.int_range(pl.len()) // 20) != 4)
    back = random_bars("E", 220, 8).filter(~pl.int_range(pl.len()).is_between(30, 150))
    bars = make_bars(pl.concat([random_bars("A", 220, 4), gone, late, pause, back]).drop("segment"))
    weights = with_weights(bars, np.random.default_rng(8).uniform(-1, 1, len(bars)))
    which = dict.fromkeys("ABCDE", fills) if fills else {}
    known = pl.DataFrame([("D", "delisting", date(2020, 8, 10), -0.5, None)], schema=ACTIONS, orient="row")
    whole = backtest(weights, bars, fills=which, actions=known)
    assert whole.ends == {"known": 1, "default": 2, "vendor": 0, "returned": 1}
    times = bars["time"].unique().sort()
    for t in (0, 1, 2, 39, 59, 60, 61, 75, 79, 80, 99, 100, 101, 118, 119, 120, 121, 151, 152, 160, 218, 219):
        past = pl.col("time") <= times[t]
        wild = bars.with_columns(
            pl.when(past).then(name).otherwise(7.0 + i).alias(name) for i, name in enumerate(("open", "close"))
        )
        for cut_bars, cut_weights in ((bars.filter(past), weights.filter(past)), (wild, weights)):
            here = {k: v for k, v in which.items() if k in cut_bars["symbol"]}
            cut = backtest(cut_weights, cut_bars, fills=here, actions=known)
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
    """365 bps a year are 1 bp a night; three nights from Friday to Monday; a long pays nothing.

    The share of wealth that is short grows by what was paid until the next fill: the tolerance.
    """
    days = [0, 1, 2, 3, 4, 7, 8]
    start = datetime(2020, 1, 6, 21, tzinfo=UTC)
    bars = some_bars("A", [100.0] * 7, [100.0] * 7).with_columns(
        time=pl.Series([start + timedelta(days=d) for d in days], dtype=pl.Datetime("us", "UTC"))
    )
    costs = Costs(slippage_bps=0.0, borrow_bps_per_year=365.0)
    cost = backtest(with_weights(bars, [-0.5] * 7), bars, costs).bars["cost"]
    np.testing.assert_allclose(cost, [0, 0, 0.5e-4, 0.5e-4, 0.5e-4, 1.5e-4, 0.5e-4], rtol=3e-4)
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
    earned = result.equity["gross"].sum()  # costs leave less to be held, so that it is about
    assert there.equity["net"].sum() == pytest.approx(0, abs=0.01 * earned)
    assert np.isnan(backtest(with_weights(bars, np.zeros(800)), bars).break_even_cost_bps)


def test_turnover_is_one_sided_and_per_year() -> None:
    """Long at every other close: a full purchase or sale a bar is half a portfolio replaced a bar."""
    bars = random_bars("A", 731, 11)
    result = backtest(with_weights(bars, np.arange(731) % 2), bars)
    years = 730 / 365.25
    assert result.turnover_per_year == pytest.approx(result.bars["turnover"].sum() / 2 / years, rel=1e-3)
    assert result.turnover_per_year == pytest.approx(729 / 2 / years, rel=2e-3)  # what is sold has moved a little
    assert result.summary()["sum_of_costs"] == pytest.approx(729 * 5e-4, rel=2e-3)


# the portfolio


def test_the_book_shares_the_money_among_the_living() -> None:
    bars = pl.concat(
        [
            random_bars("A", 40, 12),
            random_bars("B", 10, 13),
            random_bars("C", 20, 14, start=datetime(2020, 1, 26, 21, tzinfo=UTC)),
        ]
    )
    book = make_book(with_weights(bars, np.ones(70)), Facts(bars)).filter(pl.col("symbol") == "A")["weight"]
    assert book.to_list() == [1 / 2] * 20 + [1 / 3] * 20  # B is held through its halt; C begins at bar 20
    alone = bars.filter(pl.col("symbol") != "C")
    sold = with_weights(alone, np.r_[np.ones(40), np.ones(8), 0, 0])
    book = make_book(sold, Facts(alone)).filter(pl.col("symbol") == "A")["weight"]
    # B is not held, and counted for ten more days, as nobody knows that it will not come back
    assert book.to_list() == [1 / 2] * 20 + [1.0] * 20
    waits = with_weights(alone, np.r_[np.ones(40), np.zeros(9), 1])  # an order that was not filled before the halt
    assert make_book(waits, Facts(alone)).filter(pl.col("symbol") == "A")["weight"].to_list() == [1 / 2] * 40
    with pytest.raises(SettingsError, match=r"weights must lie in \[-1, 1\], 1 do not"):
        make_book(with_weights(bars[:2], [1.0, 1.2]), Facts(bars))


def test_alone_in_the_portfolio_a_symbol_is_the_portfolio() -> None:
    bars = pl.concat([random_bars(name, 100, i) for i, name in enumerate("ABC")])
    weights = with_weights(bars, np.random.default_rng(15).uniform(-1, 1, 300))
    by_symbol = backtest(weights, bars).returns_of("B")
    own = backtest(weights.filter(pl.col("symbol") == "B"), bars.filter(pl.col("symbol") == "B"))
    np.testing.assert_allclose(own.equity["net"], by_symbol, atol=1e-14)


def test_there_is_one_row_a_session_whatever_the_bars() -> None:
    """A coin's session ends at midnight, three hours after the stock's: one row for both, at midnight."""
    stock = random_bars("A", 5, 16)
    coin = random_bars("B", 5, 17, start=datetime(2020, 1, 7, 0, tzinfo=UTC), asset_class="crypto")
    bars = pl.concat([stock, coin])
    daily = backtest(with_weights(bars, np.ones(10)), bars, FREE).equity
    assert [time.date() for time in daily["time"]] == [date(2020, 1, 7 + i) for i in range(5)]
    assert all(time.hour == 0 for time in daily["time"])
    hourly = pl.concat([random_bars(name, 8, 18, step=timedelta(hours=1)) for name in "AB"])
    result = backtest(with_weights(hourly, np.ones(16)), hourly, FREE).equity
    assert [time.hour for time in result["time"]] == [0, 4]  # four bars close up to midnight, four after it
    moments = (
        backtest(with_weights(hourly, np.ones(16)), hourly, FREE)
        .bars.group_by("time")
        .agg(pl.col("book_net").sum())
        .sort("time")["book_net"]
        .to_numpy()
    )
    np.testing.assert_allclose(
        1 + result["net"], [np.prod(1 + part) for part in (moments[:4], moments[4:])], rtol=1e-12
    )


def test_the_benchmark_is_bought_once_and_pays_its_entry() -> None:
    bars = pl.concat([random_bars(name, 50, i) for i, name in enumerate("AB")])
    result = backtest(with_weights(bars, np.zeros(100)), bars, Costs(slippage_bps=20.0))
    close, open_ = (bars[name].to_numpy().reshape(2, 50) for name in ("close", "open"))
    wealth = (close[:, 1:] / open_[:, 1:2]).mean(0) - 0.002
    np.testing.assert_allclose(result.equity["benchmark"][1:], wealth, rtol=1e-12)
    assert result.equity["equity"].to_list() == [1.0] * 50


def test_the_benchmark_makes_room_for_a_symbol_that_begins() -> None:
    """From its first close on each of three is brought to a third, at the open after it; then they drift again."""
    late = datetime(2020, 1, 26, 21, tzinfo=UTC)
    bars = pl.concat([random_bars("A", 50, 1), random_bars("B", 50, 2), random_bars("C", 30, 3, start=late)])
    held = backtest(with_weights(bars, np.zeros(130)), bars, FREE).equity["benchmark"].to_numpy()
    close, open_ = ({n: bars.filter(pl.col("symbol") == n)[k].to_numpy() for n in "ABC"} for k in ("close", "open"))
    before = [close[n][20] / open_[n][1] / 2 for n in "AB"]
    at_open = sum(part * open_[n][21] / close[n][20] for part, n in zip(before, "AB", strict=True))
    after = at_open / 3 * sum(close[n][-1] / open_[n][1 if n == "C" else 21] for n in "ABC")
    assert held[20] == pytest.approx(sum(before), rel=1e-12)
    assert held[-1] == pytest.approx(after, rel=1e-12)


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
    bars = some_bars("A", [10, 10, 10, 10, 3], [10, 10, 30, 3, 6])
    result = backtest(with_weights(bars, [-1.0] * 5), bars, FREE)
    assert result.equity["equity"].to_list() == [1, 1, 0, 0, 0]
    assert result.equity["net"].to_list() == [0, 0, -1, 0, 0]  # not -200 %, and nothing after it
    # by itself the symbol goes on with new money: short from the open at 10 to 3, then from 3 to 6
    np.testing.assert_allclose(result.returns_of("A"), [0, 0, -1, 0.7, -1], atol=1e-12)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_who_has_lost_everything_before_the_fill_buys_nothing_back(fill: str) -> None:
    """A short of the whole wealth at 10, 30 at the next fill: no money is left to buy back with, nothing is traded."""
    open_, close = np.array([10.0, 10, 30, 30, 31, 32]), np.array([10.0, 10, 30, 31, 32, 33])
    bars = some_bars("A", open_, close)
    result = backtest(with_weights(bars, [-1.0] * 6), bars, Costs(slippage_bps=10.0, borrow_bps_per_year=0.0),
                      {"A": fill})  # fmt: skip
    # numpy: shorted at 10 for wealth 1, less the cost of that; worth 1 - (30 / 10 - 1) < 0 at the fill after
    shorted = np.array([0, 1.0, 0, 0, 0, 0])
    equity = np.clip(np.cumprod(np.r_[1.0, 1 - 0.001, 1 - (close[2] / close[1] - 1), 1, 1, 1]), 0, None)
    np.testing.assert_allclose(result.equity["equity"], equity, atol=1e-12)
    assert result.turnover_per_year == pytest.approx(shorted.sum() / 2 / (5 / 365.25), rel=1e-12)
    assert result.summary()["sum_of_costs"] == pytest.approx(0.001 * shorted.sum(), rel=1e-12)
    assert result.equity["net"][2:].to_list() == pytest.approx([-1.0, 0.0, 0.0, 0.0], abs=1e-15)
    np.testing.assert_allclose(result.bars["turnover"][:3], shorted[:3], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("fill", ["open", "close"])
def test_a_ruined_book_sells_nothing_of_its_other_symbol(fill: str) -> None:
    """Half short of A, half long of B: A goes to five times its price and takes the whole book with it."""
    a = some_bars("A", [10.0, 10, 50, 50, 51], [10.0, 10, 50, 51, 52])
    b = some_bars("B", [10.0, 10, 11, 11, 12], [10.0, 10, 11, 12, 12])
    bars = pl.concat([a, b])
    weights = pl.concat([with_weights(a, [-1.0, -1, -0.5, -1, -1]), with_weights(b, [1.0, 1, 0.2, 1, 1])])
    result = backtest(weights, bars, FREE, {"A": fill, "B": fill})
    assert 1 - 0.5 * (50 / 10 - 1) + 0.5 * (11 / 10 - 1) < 0
    assert result.equity["equity"].to_list() == pytest.approx([1, 1, 0, 0, 0])
    assert result.turnover_per_year == pytest.approx((0.5 + 0.5) / 2 / (4 / 365.25))


def test_a_trade_before_the_ruin_counts() -> None:
    """Turned from long to short at the open, ruined by the close: 2 were traded that day, the buy-back never."""
    bars = some_bars("A", [10.0, 10, 10, 10, 30], [10.0, 10, 10, 25, 30])
    result = backtest(with_weights(bars, [1.0, 1, -1, -1, -1]), bars, FREE, {"A": "open"})
    assert result.equity["equity"].to_list() == pytest.approx([1, 1, 1, 0, 0])
    assert result.turnover_per_year == pytest.approx((1 + 2) / 2 / (4 / 365.25))


# many strategies at once, other people's tear sheets, refusals


@pytest.mark.parametrize("fills", ["open", "close"])
def test_many_strategies_at_once_are_each_by_itself(fills: str) -> None:
    bars = random_bars("A", 120, 20)
    weight = np.random.default_rng(21).uniform(-1, 1, (120, 5))
    prices = (bars["open"].to_numpy(), bars["close"].to_numpy(), np.repeat([0, 1], 60), 1e-3, 1e-4, fills == "open")
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
