"""What the weights would have earned, after costs: the one place where a decision moves to the next bar.

A weight decided at close t is filled at the open or at the close of bar t + 1. It is a share of the equity
at close t, in the close's prices, and is brought back to its value at each fill, so that constant weights
cost nothing to hold:

    fill     bar t + 1 earns with it        bar t + 2 earns with it
    open     from the open to the close     up to the open, where the next decision is filled
    close    nothing yet                    all of it

All returns here are simple and per bar. Nothing is held over a gap: a position is closed at the last close
before it, and the cost of that is booked on the first bar after it, when the gap is known. What is open at
the end of the bars stays open, at its last price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.market.bars import session_date
from gatecast.trading.costs import BASIS_POINT, Costs
from gatecast.trading.portfolio import make_book

FloatArray = NDArray[np.float64]
Fill = Literal["open", "close"]
FILLS: tuple[Fill, ...] = ("open", "close")
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Backtest:
    """What weights would have earned.

    Attributes
    ----------
    bars: frame symbol, time, weight (decided at that close), gross, cost, net, turnover: each symbol by
        itself, as if all of the money were in it; then book (its weight in the portfolio) and book_net (its
        part of the profit).
    equity: frame time, gross, net, equity, benchmark: the portfolio, one row a session of daily bars (at
        its latest close) or a moment of intraday bars. gross and net are simple returns of that row; equity
        and benchmark are levels that start from 1, the benchmark being buy and hold of the symbols alive,
        equally weighted, which pays the same costs.
    turnover_per_year: one-sided: half of all changes of weight, so that replacing the whole portfolio once
        counts 1.
    break_even_cost_bps: the cost per side at which the net returns sum to 0, borrowing paid; NaN without
        trades, negative where trading loses before costs.
    fills: symbol -> "open" or "close".
    """

    bars: pl.DataFrame
    equity: pl.DataFrame
    turnover_per_year: float
    break_even_cost_bps: float
    fills: dict[str, Fill]

    def to_frame(self) -> pl.DataFrame:
        """The equity frame."""
        return self.equity

    def summary(self) -> dict[str, float]:
        """Totals of the whole backtest, as fractions of the first equity where no unit is named."""
        last = self.equity.row(-1, named=True)
        return {
            "total_return": last["equity"] - 1,
            "benchmark_total_return": last["benchmark"] - 1,
            "sum_of_gross_returns": float(self.equity["gross"].sum()),
            "sum_of_costs": float((self.equity["gross"] - self.equity["net"]).sum()),
            "turnover_per_year": self.turnover_per_year,
            "break_even_cost_bps": self.break_even_cost_bps,
        }

    def returns_of(self, symbol: str) -> FloatArray:
        """Net simple returns of one symbol by itself, (bars,)."""
        return self.bars.filter(pl.col("symbol") == symbol)["net"].to_numpy()


def net_returns(
    weight: FloatArray,
    open: FloatArray,
    close: FloatArray,
    segment: NDArray[np.integer[Any]],
    cost_per_side: float,
    borrow_per_bar: float | FloatArray,
    fills: Fill = "open",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Profit of one symbol, bar by bar: (gross, cost, net), each of the shape of `weight`.

    Parameters
    ----------
    weight: decided at each close, (bars,), or (bars, strategies) for many strategies at once; NaN is 0.
    open, close: prices, (bars,); segment: (bars,), nothing is held from one to the next.
    cost_per_side: fraction of the value traded; borrow_per_bar: fraction of a short position, paid for each
        bar into which it is carried, a number or (bars,).
    fills: "open" or "close" of the next bar.

    Row i is the profit that is realised and known at close i, as a fraction of the equity at close i - 1.

    >>> weight, segment = np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4, int)
    >>> open, close = np.array([10.0, 10.0, 11.0, 12.0]), np.array([10.0, 11.0, 11.0, 12.0])
    >>> gross, cost, net = net_returns(weight, open, close, segment, cost_per_side=0.001, borrow_per_bar=0.0)
    >>> gross.round(4).tolist(), cost.tolist()
    ([0.0, 0.1, 0.0, 0.0909], [0.0, 0.001, 0.0, 0.001])

    Bought at the second open for 10, sold at the fourth open for 12.
    """
    if fills not in FILLS:
        raise SettingsError(f"fills = {fills!r}: expected 'open' or 'close'. {did_you_mean(str(fills), FILLS)}")
    carried, held, turnover = _positions(weight, segment)
    before = _earlier(close, close[:1])
    overnight, whole = (open - before) / before, (close - before) / before
    if fills == "open":
        gross = carried * _column(overnight, carried) + held * _column(whole - overnight, carried)
    else:
        gross = carried * _column(whole, carried)
    borrow = np.maximum(-carried, 0.0) * _column(np.broadcast_to(borrow_per_bar, close.shape), carried)
    cost = turnover * cost_per_side + borrow
    return gross, cost, gross - cost


def backtest(
    weights: Any, bars: pl.DataFrame, costs: Costs | None = None, fills: Mapping[str, Fill] | None = None
) -> Backtest:
    """Weights decided at closes -> what they would have earned, per symbol and as a portfolio of `make_book`.

    Parameters
    ----------
    weights: frame symbol, time, weight in [-1, 1], decided at the close `time` of a bar, Polars or pandas;
        a bar without a row, or with a missing weight, has weight 0. The backtest starts at its first row.
    bars: the Bars.
    costs: None: each class's default.
    fills: symbol -> "open" or "close" of the next bar; "open" for symbols that it does not name.

    Symbols that close at different hours of one session are put together by session date where bars are
    daily or longer, and by exact time where they are intraday.

    Raises
    ------
    BarsError: weights at a time at which their symbol has no bar, or two for one bar.
    SettingsError: a weight outside [-1, 1], an unknown fill, fills of a symbol that the bars lack.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> result = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars)
    >>> bool(np.allclose(result.equity["equity"], result.equity["benchmark"]))
    True
    """
    costs = costs or Costs()
    table = _with_weights(weights, bars)
    table = table.with_columns(
        book=make_book(table.select("symbol", "time", "weight"), bars)["weight"],
        hold=make_book(table.select("symbol", "time", weight=pl.lit(1.0)), bars)["weight"],
    )
    chosen = _fills(table["symbol"].unique(maintain_order=True).to_list(), fills or {}, bars)
    parts = table.partition_by("symbol", maintain_order=True)
    table = pl.concat([_one_symbol(part, costs, chosen[part["symbol"][0]]) for part in parts])
    equity = _portfolio(table)
    years = (equity["time"][-1] - equity["time"][0]) / YEAR
    traded, earned = float(table["book_turnover"].sum()), float(table["book_earned"].sum())
    return Backtest(
        bars=table.select("symbol", "time", "weight", "gross", "cost", "net", "turnover", "book", "book_net"),
        equity=equity,
        turnover_per_year=traded / 2 / years if years > 0 else math.nan,
        break_even_cost_bps=earned / traded / BASIS_POINT if traded > 0 else math.nan,
        fills=chosen,
    )


def _positions(weight: FloatArray, segment: NDArray[np.integer[Any]]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The one shift: what a bar carries in from the bar before, holds after its fill, and trades."""
    weight = np.where(np.isnan(weight), 0.0, weight)
    goes_on = _column(np.diff(segment, prepend=segment[:1] - 1) == 0, weight)
    held = np.where(goes_on, _earlier(weight, 0.0), 0.0)  # decided at the close before
    before = _earlier(held, 0.0)
    return np.where(goes_on, before, 0.0), held, np.abs(held - before)


def _earlier(rows: FloatArray, first: float | FloatArray) -> FloatArray:
    """Each row as the one before it."""
    shifted = np.empty_like(rows)
    shifted[1:], shifted[:1] = rows[:-1], first
    return shifted


def _column(rows: NDArray[Any], like: FloatArray) -> NDArray[Any]:
    """(bars,) as it is beside (bars,), as a column beside (bars, strategies)."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


def _with_weights(weights: Any, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars from the first decision on, each with its weight."""
    if not isinstance(weights, pl.DataFrame):
        weights = nw.from_native(weights, eager_only=True).to_polars()
    missing = [name for name in ("symbol", "time", "weight") if name not in weights.columns]
    if missing or len(weights) == 0:
        raise SettingsError(
            f"weights must be a frame with rows and the columns symbol, time, weight; "
            f"got {len(weights)} rows of {weights.columns}."
        )
    weights = weights.select(
        pl.col("symbol").cast(pl.String),
        pl.col("time").cast(bars.schema["time"]),
        pl.col("weight").cast(pl.Float64).fill_nan(None).fill_null(0.0),
    )
    stray = weights.join(bars, on=["symbol", "time"], how="anti")
    if len(stray):
        raise BarsError(
            f"{len(stray)} weights belong to no bar, the first: {stray.row(0)}. A weight is decided at the "
            "close of a bar and carries that bar's time."
        )
    twice = weights.filter(weights.select("symbol", "time").is_duplicated())
    if len(twice):
        raise BarsError(f"a bar can have one weight, {len(twice)} rows share theirs, the first: {twice.row(0)}.")
    return (
        bars.filter(pl.col("time") >= weights["time"].min())
        .join(weights, on=["symbol", "time"], how="left")
        .with_columns(pl.col("weight").fill_null(0.0))
        .sort("symbol", "time")
    )


def _fills(symbols: list[str], fills: Mapping[str, Fill], bars: pl.DataFrame) -> dict[str, Fill]:
    known = bars["symbol"].unique().to_list()
    for symbol in fills:
        if symbol not in known:
            raise SettingsError(f"fills name {symbol!r}, the bars do not. {did_you_mean(symbol, known)}")
    return {symbol: fills.get(symbol, "open") for symbol in symbols}


def _one_symbol(bars: pl.DataFrame, costs: Costs, fills: Fill) -> pl.DataFrame:
    """One symbol's bars with the profits of its own weight, its weight in the book, and buy and hold's."""
    asset_class = str(bars["asset_class"][0])
    per_side = costs.per_side(asset_class)
    years = bars["time"].diff().dt.total_microseconds().fill_null(0).to_numpy() / (YEAR / timedelta(microseconds=1))
    borrow = costs.borrow_per_bar(asset_class, periods_per_year=1) * years  # by calendar time, weekends too
    weight, segment = bars.select("weight", "book", "hold").to_numpy(), bars["segment"].to_numpy()
    gross, cost, net = net_returns(
        weight, bars["open"].to_numpy(), bars["close"].to_numpy(), segment, per_side, borrow, fills
    )
    turnover = _positions(weight, segment)[2]
    return bars.with_columns(
        gross=gross[:, 0],
        cost=cost[:, 0],
        net=net[:, 0],
        turnover=turnover[:, 0],
        book_gross=gross[:, 1],
        book_net=net[:, 1],
        book_turnover=turnover[:, 1],
        book_earned=net[:, 1] + turnover[:, 1] * per_side,  # before commission and slippage
        hold_net=net[:, 2],
    )


def _portfolio(table: pl.DataFrame) -> pl.DataFrame:
    """The sum over symbols, a row a session or, for intraday bars, a moment."""
    table = table.with_columns(moment=session_date(pl.col("time")))
    if table.select("symbol", "moment").is_duplicated().any():
        table = table.with_columns(moment="time")
    number = table["moment"].rank("dense").to_numpy().astype(np.int64) - 1

    def total(
        name: str,
    ) -> FloatArray:  # adds in the order of the rows, so that the same bars give the same bits
        sums: FloatArray = np.bincount(number, weights=table[name].to_numpy()).astype(np.float64)
        return sums

    return (
        table.group_by("moment")
        .agg(pl.col("time").max())
        .sort("moment")
        .with_columns(gross=total("book_gross"), net=total("book_net"), hold=total("hold_net"))
        .select("time", "gross", "net", equity=_level("net"), benchmark=_level("hold"))
    )


def _level(name: str) -> pl.Expr:
    """Equity from 1; what has lost everything stays at 0."""
    return (1 + pl.col(name)).clip(lower_bound=0).cum_prod()
