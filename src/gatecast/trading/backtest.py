"""The backtest: weights and bars -> returns net of costs. Here alone a decision is shifted to the next fill.

A weight decided at close t is an order for a holding: that share of the wealth at the fill. It is filled at the open or
at the close of the symbol's next bar, however far away that is:

    fill     bar t + 1 earns with it        bar t + 2 earns with it
    open     from the open to the close     up to the open, where the next order is filled
    close    nothing yet                    all of it

Between fills a holding moves with its price. What is traded at a fill is the order minus the holding as it has become,
so that a constant weight other than 1 is brought back at each fill, and pays for it. What is held through a halt is
held: it earns the move to the next fill. All returns here are simple.

An end of a symbol (see `gatecast.market.ends`) closes what is held at its booked return: known terms for either side,
default terms for a long holding alone (a short one is not paid for what nobody knows); a vendor's end at the last
close, where the sale is paid for. Where the symbol returns the booking is replaced by the move to the fill at the
reopening, where all is sold; bars that clear last trades after known terms are no return. A price at another level
after a gap (five times the last, or a fifth) is another instrument's: the holder of the old one gets the worse of the
move and the default terms. What is open at the end of the bars stays open, at its last price.

Wealth stops at 0: a loss of more is a loss of all. What was lost before a fill is not traded at it, and costs nothing.
The book then holds nothing more; a symbol's own record goes on with new money.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.arguments import checked
from gatecast.errors import BarsError, SettingsError, did_you_mean
from gatecast.market.bars import COLUMNS, refuse_lacking, session_date
from gatecast.market.calendar import OTHER_LEVEL, sessions_of
from gatecast.market.classes import asset_class
from gatecast.market.facts import ClassFacts, Facts, facts_of
from gatecast.notebook import Shown, draw_wealth
from gatecast.samples.targets import to_times
from gatecast.trading.costs import BASIS_POINT, Costs
from gatecast.trading.portfolio import make_book

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Fill = Literal["open", "close"]
FILLS: tuple[Fill, ...] = ("open", "close")
YEAR = timedelta(days=365)
DAYS_A_YEAR = 365.25
LEAST_ROWS, LEAST_SPAN = 20, timedelta(days=30)  # of an equity that says by itself how many rows a year has
BAR, KNOWN, DEFAULT, VENDOR = range(4)
KINDS = {"known": KNOWN, "default": DEFAULT, "vendor": VENDOR}
ROUNDING = 1e-9  # by which orders may exceed what there is
KEEP = np.nan  # an order to leave the holding as it is


@dataclass(frozen=True)
class Backtest(Shown):
    """What weights would have earned.

    Attributes
    ----------
    bars: frame symbol, time, weight (decided at that close), gross, cost, net, turnover: each symbol by itself, as if
        all of the money were in it; then book (its weight in the portfolio) and book_net (its part of the profit, as a
        share of the portfolio before). An end without a bar of the symbol has a row of its own.
    equity: frame time, gross, net, equity, benchmark: the portfolio, one row a session, at its latest close. gross and
        net are simple returns of that session; equity and benchmark are levels that start from 1. The benchmark is
        bought once, equally weighted, and held; where the number of symbols alive changes each symbol is brought to an
        equal share at its next fill. It pays the same costs for what it trades.
    turnover_per_year: one-sided: half of the value traded over wealth, so that replacing the whole portfolio once
        counts 1.
    break_even_cost_bps: the cost per side at which the net returns would sum to 0, borrowing paid, if it did not change
        what is held; NaN without trades, negative where trading loses before costs.
    fills: symbol -> share of its bars at whose open orders are filled, at the close of the others.
    rows_per_year: rows of `equity` a year.
    ends: how many ends of symbols were booked on `known` terms, on `default` ones (another level after a gap included)
        and with their `vendor`, and how many symbols `returned`.
    equity_without_default_ends: the equity if all default terms were 0; None where there were none.
    """

    bars: pl.DataFrame
    equity: pl.DataFrame
    turnover_per_year: float
    break_even_cost_bps: float
    fills: dict[str, float]
    rows_per_year: float
    ends: dict[str, int]
    equity_without_default_ends: pl.DataFrame | None = None

    def to_frame(self) -> pl.DataFrame:
        """The equity frame."""
        return self.equity

    def without_default_ends(self) -> Backtest:
        """The same with 0 for the default terms of all ends: its `equity` is that of `equity_without_default_ends`."""
        other = self.equity_without_default_ends
        return self if other is None else replace(self, equity=other)

    def plot(self) -> Any:
        """A Plotly figure: wealth net of costs, and of the benchmark."""
        return draw_wealth(self.equity, "Backtest, net of costs")

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
        """Net simple returns of one symbol by itself, one a row of `bars`."""
        return self.bars.filter(pl.col("symbol") == symbol)["net"].to_numpy()


def net_returns(
    weight: FloatArray,
    open: FloatArray,
    close: FloatArray,
    listing: NDArray[np.integer[Any]],
    cost_per_side: float,
    borrow_per_bar: float | FloatArray,
    at_open: bool | BoolArray = True,
    end_return: float = 0.0,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Profit of one symbol, bar by bar: (gross, cost, net), each of the shape of `weight`.

    Parameters
    ----------
    weight: decided at each close, (bars,), or (bars, strategies) for many strategies at once; NaN is 0.
    open, close: prices, (bars,). listing: (bars,), see `gatecast.market.calendar.listings`: what is held is held
        through all gaps within one, and sold at the first fill of the next.
    cost_per_side: fraction of the value traded; borrow_per_bar: fraction of a short position, paid for each
        bar into which it is carried, a number or (bars,).
    at_open: whether orders are filled at the bar's open, else at its close, one for all or (bars,).
    end_return: simple return of a long holding whose symbol is another instrument's after a gap.

    Row i is the profit that is realised and known at close i, as a fraction of the equity at close i - 1.

    >>> weight, listing = np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4, int)
    >>> open, close = np.array([10.0, 10.0, 11.0, 12.0]), np.array([10.0, 11.0, 11.0, 12.0])
    >>> gross, cost, net = net_returns(weight, open, close, listing, cost_per_side=0.001, borrow_per_bar=0.0)
    >>> gross.round(4).tolist(), cost.round(4).tolist()
    ([0.0, 0.1, 0.0, 0.0909], [0.0, 0.001, 0.0, 0.0011])

    Bought at the second open for 10, sold at the fourth open for 12.
    """
    count, starts = len(close), np.diff(listing, prepend=listing[:1]) != 0
    before = np.r_[close[:1], close[:-1]]
    whole, nothing = close / before, np.zeros(count)
    rows = _Rows(
        np.zeros(count, np.int64), np.arange(count), np.zeros(count, np.int64), np.broadcast_to(at_open, count),
        np.where(at_open, open, close) / before, whole, starts, starts & is_other_level(whole), nothing,
        nothing + end_return, nothing + cost_per_side, nothing + borrow_per_bar, nothing > 0, nothing > 0,
    )  # fmt: skip
    settled = settle(rows, np.nan_to_num(weight.reshape(count, -1), nan=0.0), shared=False)
    gross, cost = (part.reshape(weight.shape) for part in (settled.gross, settled.cost))
    return gross, cost, gross - cost


def net_of_class(
    weight: FloatArray, facts: ClassFacts, costs: Costs
) -> tuple[FloatArray, list[tuple[np.datetime64, FloatArray]]]:
    """Net simple returns of strategies, each symbol by itself, and what ends without a bar have brought.

    In: weights (bars, strategies) decided at each close of the Bars of one class, and the facts of these. Out: (bars,
    strategies) net, known at that row's close; and the time and (strategies,) net of each end, which has no row among
    the bars.
    """
    table = _with_facts(facts, facts.fills).with_row_index("row")
    table = _with_ends(table, facts.ends)
    settled = settle(_rows_of(table, costs), _at_rows(table, weight), shared=False)
    is_bar = table["kind"].to_numpy() == BAR
    net = settled.net[is_bar]
    times = to_times(table.filter(~pl.Series(is_bar)), "time")
    return net, list(zip(times, settled.net[~is_bar], strict=True))


@checked
def backtest(
    weights: Any,
    bars: pl.DataFrame,
    costs: Costs | None = None,
    fills: Mapping[str, Fill] | None = None,
    actions: pl.DataFrame | None = None,
) -> Backtest:
    """Weights decided at closes -> what they would have earned, per symbol and as a portfolio of `make_book`.

    Parameters
    ----------
    weights: frame symbol, time, weight in [-1, 1], decided at the close `time` of a bar, Polars or pandas;
        a bar without a row, or with a missing weight, has weight 0. The backtest starts at its first row.
    bars: the Bars.
    costs: None: each class's default.
    fills: symbol -> "open" or "close" of the next bar; for symbols that it does not name what
        `gatecast.market.bars.open_fills` says of each bar.
    actions: the delistings that are known, see `gatecast.market.ends`.

    A decision never needs more money than there is: what is held in symbols without a bar at that close, halted ones
    among them, is left out of the money that is divided. At the close at which the end of a symbol is known its weight
    is 0, and what its end leaves is divided among the others.

    Raises
    ------
    BarsError: weights at a time at which their symbol has no bar, or two for one bar.
    SettingsError: a weight outside [-1, 1], an unknown fill, fills of a symbol that the bars lack.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> result = backtest(bars.select("symbol", "time", weight=pl.lit(1.0)), bars)
    >>> bool(np.allclose(result.equity["equity"], result.equity["benchmark"], rtol=1e-3))
    True
    """
    refuse_lacking(bars)
    return backtest_of(weights, facts_of(bars, actions), costs or Costs(), fills)


def backtest_of(weights: Any, facts: Facts, costs: Costs, fills: Mapping[str, Fill] | None = None) -> Backtest:
    """The `backtest` of weights on bars whose facts are known; raises what it raises."""
    table = _with_weights(weights, _with_facts(facts, _fills_chosen(fills or {}, facts)))
    goes_on = (~table["ended"]).cast(pl.Float64)
    keys = table.select("symbol", "time", weight=pl.col("weight") * goes_on)
    table = table.with_columns(
        weight=keys["weight"],
        book=make_book(keys, facts)["weight"],
        hold=make_book(keys.with_columns(weight=goes_on), facts)["weight"],
    )
    table = _with_ends(table, facts.ends).with_columns(_only_changes("hold"))
    rows = _rows_of(table, costs)
    own = settle(rows, table.select("weight").to_numpy(), shared=False)
    rows, weight = rows.together(table), table.select("book", "hold").to_numpy()
    book = settle(rows, weight, shared=True)
    equity = _equity(table, rows, book)
    years = years_of(equity)
    traded = float(book.traded[:, 0].sum())
    earned = float((book.net[:, 0] + book.traded[:, 0] * rows.cost_per_side).sum())
    without = None
    if rows.takes_default_terms():
        without = _equity(table, rows, settle(replace(rows, default=np.zeros(len(table))), weight, shared=True))
    return Backtest(
        bars=table.select("symbol", "time", "weight").with_columns(
            gross=own.gross[:, 0], cost=own.cost[:, 0], net=own.net[:, 0], turnover=own.traded[:, 0],
            book=book.decided[:, 0], book_net=book.net[:, 0],
        ),
        equity=equity,
        turnover_per_year=traded / 2 / years if years > 0 else math.nan,
        break_even_cost_bps=earned / traded / BASIS_POINT if traded > 0 else math.nan,
        fills=dict(table.group_by("symbol", maintain_order=True).agg(pl.col("at_open").mean()).iter_rows()),
        rows_per_year=rows_per_year(equity, facts.bars),
        ends=_count_ends(table, rows),
        equity_without_default_ends=without,
    )  # fmt: skip


def years_of(equity: pl.DataFrame) -> float:
    """Years from the first row of an equity frame to its last: in those all but the first row is earned."""
    return float((equity["time"][-1] - equity["time"][0]) / timedelta(days=DAYS_A_YEAR))


def rows_per_year(equity: pl.DataFrame, bars: pl.DataFrame) -> float:
    """Rows of an equity frame a year, so that n rows compound to level ** (1 / years) - 1 a year.

    Counted in the frame itself, whatever calendars are in it; with fewer than 20 rows, or less than a month, sessions a
    year of the classes of `bars`.

    >>> from datetime import datetime, timezone
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(300, seed=1)
    >>> equity = pl.DataFrame({"time": [datetime(2021 + year, 1, 1, tzinfo=timezone.utc) for year in range(21)]})
    >>> round(rows_per_year(equity, bars), 2), rows_per_year(equity[:19], bars)
    (1.05, 252.0)
    """
    if len(equity) < LEAST_ROWS or equity["time"][-1] - equity["time"][0] < LEAST_SPAN:
        return sessions_of(bars)
    return len(equity) / years_of(equity)


# ── the bars, as an account sees them ─────────────────────────────────────────────────────────────


def _with_facts(facts: Facts | ClassFacts, at_open: BoolArray) -> pl.DataFrame:
    """The bars with `at_open` (the bar's orders are filled at its open), `starts` and `ended`, see `Facts`."""
    return facts.bars.select(COLUMNS).with_columns(
        at_open=pl.Series(at_open), starts=pl.Series(facts.starts), ended=pl.Series(facts.ended)
    )


def _fills_chosen(fills: Mapping[str, Fill], facts: Facts) -> BoolArray:
    """(bars,) whether orders are filled at the open, where a symbol's fills are given as they are given."""
    if not fills:
        return facts.fills
    known = facts.bars["symbol"].unique().to_list()
    at_open, symbols = facts.fills, facts.bars["symbol"].to_numpy()
    for symbol, fill in fills.items():
        if symbol not in known:
            raise SettingsError(f"fills name {symbol!r}, the bars do not. {did_you_mean(symbol, known)}")
        if fill not in FILLS:
            raise SettingsError(f"fills = {fill!r}: expected 'open' or 'close'. {did_you_mean(str(fill), FILLS)}")
        at_open = np.where(symbols == symbol, fill == "open", at_open)
    return at_open


def _with_weights(weights: Any, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars from the first decision on, each with its weight."""
    if not isinstance(weights, pl.DataFrame):
        try:
            weights = nw.from_native(weights, eager_only=True).to_polars()
        except TypeError:
            raise SettingsError(
                "backtest: weights must be a frame of Polars or pandas with symbol, time and weight; got "
                f"{type(weights).__name__}. Make one, such as bars.select('symbol', 'time', weight=polars.lit(1.0))."
            ) from None
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


def _with_ends(table: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """The bars with `kind` BAR and `before` (the symbol's close before, its own on the first); a row for each end."""
    before = pl.col("close").shift().over("symbol").fill_null(pl.col("close"))
    table = table.with_columns(before=before, kind=pl.lit(BAR, pl.Int64), value=pl.lit(0.0), returns=pl.lit(False))
    first = table.group_by("symbol").agg(pl.col("asset_class").first(), since=pl.col("time").min())
    booked = (
        ends.join(first, on="symbol", how="inner")
        .filter(pl.col("time") >= pl.col("since"))
        .select(
            "symbol", "asset_class", pl.col("time").cast(table.schema["time"]), "value",
            kind=pl.col("kind").replace_strict(KINDS, return_dtype=pl.Int64), starts=pl.lit(False), ended=pl.lit(False),
            returns=pl.col("back").is_not_null(),
        )
    )  # fmt: skip
    decided = [pl.lit(0.0).alias(name) for name in ("weight", "book", "hold") if name in table.columns]
    both = pl.concat([table, booked.with_columns(decided)], how="diagonal")
    return both.sort("symbol", "time", "kind", maintain_order=True)


def _only_changes(name: str) -> pl.Expr:
    """Weights of which each that equals the one of the symbol's row before is no order, so that drift is left alone."""
    same = (pl.col(name) == pl.col(name).shift().over("symbol")).fill_null(False)
    return pl.when(same & (pl.col("kind") == BAR) & ~pl.col("starts")).then(KEEP).otherwise(name).alias(name)


def _at_rows(table: pl.DataFrame, weight: FloatArray) -> FloatArray:
    """(rows, strategies) weights of bars at the rows of a table of bars and ends; 0 at ends."""
    wanted = np.zeros((len(table), weight.shape[1]))
    row = table["row"]
    wanted[row.is_not_null().to_numpy()] = weight[row.drop_nulls().to_numpy()]
    return wanted


def _rows_of(table: pl.DataFrame, costs: Costs) -> _Rows:
    """The rows of a table of bars and ends, of one account a symbol."""
    classes = table["asset_class"].unique().sort().to_list()
    years = pl.col("time").diff().over("symbol").dt.total_microseconds().fill_null(0) / (
        YEAR / timedelta(microseconds=1)
    )
    of_class = {
        "default": {name: asset_class(name).end_return for name in classes},
        "cost_per_side": {name: costs.per_side(name) for name in classes},
        "borrow": {name: costs.borrow_per_bar(name, periods_per_year=1) for name in classes},
    }
    price = pl.when("at_open").then("open").otherwise("close")
    facts = table.select(
        symbol=pl.col("symbol").rank("dense").cast(pl.Int64) - 1,
        step=pl.int_range(pl.len()).over("symbol"),
        at_open=pl.col("at_open").fill_null(False),
        fill=(price / pl.col("before")).fill_null(1.0),
        close=(pl.col("close") / pl.col("before")).fill_null(1.0),
        years=years,
        **{
            name: pl.col("asset_class").replace_strict(known, return_dtype=pl.Float64)
            for name, known in of_class.items()
        },
    )
    arrays = {name: facts[name].to_numpy() for name in facts.columns}
    starts, kind, value, ended, returns = (
        table[name].to_numpy() for name in ("starts", "kind", "value", "ended", "returns")
    )
    return _Rows(
        arrays["symbol"], arrays["step"], kind, arrays["at_open"], arrays["fill"], arrays["close"], starts,
        starts & is_other_level(arrays["close"]), value, arrays["default"], arrays["cost_per_side"],
        arrays["borrow"] * arrays["years"],  # by calendar time, weekends and halts too
        ended, returns,
    )  # fmt: skip


def is_other_level(ratio: FloatArray) -> BoolArray:
    """Whether a price over the one before is so far from 1 that it is another instrument's."""
    return np.asarray(np.abs(np.log(ratio)) > np.log(OTHER_LEVEL), np.bool_)


def _count_ends(table: pl.DataFrame, rows: _Rows) -> dict[str, int]:
    before = pl.col("kind").shift().over("symbol").is_in([DEFAULT, VENDOR])
    return {
        "known": int((rows.kind == KNOWN).sum()),
        "default": int((rows.kind == DEFAULT).sum() + rows.other_level.sum()),
        "vendor": int((rows.kind == VENDOR).sum()),
        "returned": int(table.select(((pl.col("kind") == BAR) & before).sum()).item())
        + int(((rows.kind == KNOWN) & rows.returns).sum()),
    }


def _equity(table: pl.DataFrame, rows: _Rows, settled: _Settled) -> pl.DataFrame:
    """One row a session: gross and net of the book, its wealth and the benchmark's after the session's last close."""
    sessions, session = np.unique(session_date(to_times(table, "time")), return_inverse=True)
    last = np.zeros(len(sessions), np.int64)
    np.maximum.at(last, session, rows.step)
    wealth = settled.wealth[last]
    start = np.r_[1.0, wealth[:-1, 0]]
    share = np.divide(1.0, start, out=np.zeros(len(start)), where=start > 0)
    # adds in the order of the rows, so that the same bars give the same bits
    gain, paid = (np.bincount(session, weights=money[:, 0]) for money in (settled.gain, settled.paid))
    times = table.group_by(session_date(pl.col("time")).alias("session")).agg(pl.col("time").max()).sort("session")
    return times.select("time").with_columns(
        gross=gain * share, net=(gain - paid) * share, equity=wealth[:, 0], benchmark=wealth[:, 1]
    )


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Rows:
    """Bars and ends as accounts see them, all (rows,).

    `symbol` is a number, `step` says which rows are settled together, in which order. `kind`: BAR, KNOWN, DEFAULT or
    VENDOR. `at_open`: orders are filled at the open; `fill` and `close` are ratios to the symbol's close before.
    `starts`: a listing begins, `other_level` at another level of price. `terms`: the return of an end on known terms,
    `default` the class's on unknown ones. `borrow`: fraction of a short holding that is carried into the row. `ended`:
    the symbol's end is known at the bar, which clears last trades; `returns`: an end after which the symbol returns.
    `ends_follow`: whether the ends of the next step are known at the close of the row; of shared accounts alone.
    """

    symbol: IntArray
    step: IntArray
    kind: IntArray
    at_open: BoolArray
    fill: FloatArray
    close: FloatArray
    starts: BoolArray
    other_level: BoolArray
    terms: FloatArray
    default: FloatArray
    cost_per_side: FloatArray
    borrow: FloatArray
    ended: BoolArray
    returns: BoolArray
    ends_follow: BoolArray | None = None

    def together(self, table: pl.DataFrame) -> _Rows:
        """The same with the steps of one account for all symbols: moments, the ends of each after its bars."""
        ended = pl.col("kind") != BAR
        step = table.select(pl.struct("time", ended=ended).rank("dense"))["time"].to_numpy().astype(np.int64) - 1
        follow = table.select(~ended & ended.any().over("time")).to_series().to_numpy()
        return replace(self, step=step, ends_follow=follow)

    def takes_default_terms(self) -> bool:
        """Whether any default terms other than 0 are booked."""
        return bool((((self.kind == DEFAULT) | self.other_level) & (self.default != 0)).any())


@dataclass(frozen=True)
class _Settled:
    """What accounts did: (rows, accounts) gross, cost and value traded, as fractions of the wealth before the row.

    `decided` is the share of wealth ordered at the row. `gain` and `paid` are gross and cost in money, `wealth`
    (steps, accounts) is what there is after each step; both of shared accounts alone.
    """

    gross: FloatArray
    cost: FloatArray
    traded: FloatArray
    decided: FloatArray
    gain: FloatArray
    paid: FloatArray
    wealth: FloatArray

    @property
    def net(self) -> FloatArray:
        """(rows, accounts) gross less cost."""
        return self.gross - self.cost


def settle(rows: _Rows, weight: FloatArray, *, shared: bool) -> _Settled:
    """Runs accounts through the rows, step by step: orders are filled, holdings move, ends are booked, costs are paid.

    `weight` (rows, accounts): the share of wealth decided at each row; KEEP, in shared accounts, leaves the holding as
    it is. Accounts are columns; with `shared` all symbols are in one account, else each symbol has its own.
    """
    count, accounts = weight.shape
    order = np.argsort(rows.step, kind="stable")
    bounds = np.flatnonzero(np.diff(rows.step[order], prepend=-1, append=-1)).tolist()
    symbols = rows.symbol[order]
    at_opens, starts, other_levels, clears, returns = (
        part[order][:, None] for part in (rows.at_open, rows.starts, rows.other_level, rows.ended, rows.returns)
    )
    fills, laters, defaults, terms, sides, borrows = (
        part[order][:, None]
        for part in (
            rows.fill, rows.close / rows.fill, rows.default, rows.terms, rows.cost_per_side, rows.borrow,
        )
    )  # fmt: skip
    kinds = rows.kind[order][:, None]
    plain = ~(clears | starts | other_levels | (kinds != BAR))[:, 0]
    ordinary = np.logical_and.reduceat(plain, bounds[:-1]).tolist()  # steps of bars alone, in listings that go on
    all_open = np.logical_and.reduceat(rows.at_open[order], bounds[:-1]).tolist()
    may_wait = False  # whether an end was booked so far: without one nothing is parked
    shape = (int(rows.symbol.max()) + 1, accounts)
    wealth = np.ones((1, accounts) if shared else shape)
    value, wanted = np.zeros(shape), np.zeros(shape)  # holdings in money at the last close, orders as shares of wealth
    parked, booked = np.zeros(shape), np.zeros(shape)  # holdings whose end was booked, and what it has brought
    cut_off = np.full(shape, KEEP)  # orders for which there was not the money
    decisions, lengths = np.take(weight, order, axis=0), np.diff(bounds)
    in_order = symbols == np.arange(count) - np.repeat(bounds[:-1], lengths)
    of_all = ((lengths == shape[0]) & np.logical_and.reduceat(in_order, bounds[:-1])).tolist()  # steps of all symbols
    gross, cost, turnover = np.empty((3, count, accounts))  # in the order of the steps
    ordered, gained, charged = np.empty((3, count if shared else 0, accounts))
    path = np.zeros((len(bounds) - 1, accounts))
    follow = np.zeros(count, np.bool_) if rows.ends_follow is None else rows.ends_follow[order]

    def together(money: FloatArray) -> FloatArray:
        return np.add.reduce(money, axis=0, keepdims=True) if shared else money

    for number, (first, last) in enumerate(pairwise(bounds)):
        part = slice(first, last)
        at_open, fill, later, side = at_opens[part], fills[part], laters[part], sides[part]
        simple = ordinary[number] and not may_wait  # most steps: what follows below would change nothing
        symbol = slice(None) if simple and of_all[number] else symbols[part]
        whose = slice(0, 1) if shared else symbol
        before = wealth[whose]
        if simple:
            held, share = value[symbol] + 0.0, wanted[symbol]
            moved = held * fill
            gain = moved - held
        else:
            clear, waiting, old = clears[part], parked[symbol], booked[symbol]
            held = value[symbol] + np.where(clear, 0.0, waiting)
            share = np.where(starts[part], 0.0, wanted[symbol])
            moved, worst = held * fill, np.minimum(held * defaults[part], 0.0)
            move = np.where(other_levels[part], np.minimum(moved - held, worst), moved - held)
            after = np.where(clear, waiting * fill * later, 0.0)  # parked, it moves with bars that clear last trades
            parked[symbol], booked[symbol] = after, np.where(clear, old - (after - waiting), 0.0)
            old = np.where(clear, 0.0, old)
        borrow = np.maximum(-held, 0.0) * borrows[part]
        if not simple and (kind := kinds[part]).any():
            may_wait = True
            vendor = kind == VENDOR
            ended = np.where(kind == KNOWN, held * terms[part], np.where(vendor, 0.0, worst))
            waits = np.isin(kind, (DEFAULT, VENDOR)) | returns[part]
            parked[symbol] = np.where(waits, held, parked[symbol])
            booked[symbol] = np.where(waits, ended - np.where(vendor, np.abs(held) * side, 0.0), booked[symbol])
            move, share = np.where(kind == BAR, move, ended), np.where(kind == BAR, share, 0.0)
            moved = np.where((kind == BAR) | vendor, moved, 0.0)  # only a vendor's end is a sale
        if not simple:
            gain = move - old
        at_fill = gain if all_open[number] else np.where(at_open, gain, 0.0 if shared else gain - borrow)
        means = before + together(at_fill)
        aim = _aim(share, moved, means)
        if shared and not all_open[number]:  # orders at the close are filled after those at the open have earned
            opened = np.where(at_open, gain + aim * (later - 1) - np.abs(aim - moved) * side, gain) - borrow
            means = np.where(at_open, means, before + together(opened))
            aim = np.where(at_open, aim, _aim(share, moved, means))
        traded = np.abs(aim - moved)
        gain, paid = gain + aim * (later - 1), traded * side + borrow
        value[symbol] = aim * later
        now = before + together(gain - paid)
        if np.count_nonzero(ruined := now <= 0):  # of a shared account also later, when it holds nothing
            traded = np.where(ruined & (means <= 0), 0.0, traded)  # no money is left at the fill: nothing is traded
            paid = traded * side + borrow
            now = before + together(gain - paid)
            gain = np.where(ruined, gain - now / (last - first if shared else 1), gain)
            now = np.where(ruined, 0.0 if shared else 1.0, now)
            for kept in (value, wanted, parked, booked):
                kept[slice(None) if shared else symbol] *= ~ruined
        decided = decisions[part]
        if shared:  # an order that was cut is repeated where there is no other
            asked = np.where(np.isnan(decided), cut_off[symbol], decided)
            leaving = symbols[last : bounds[number + 2]] if follow[first] else symbols[:0]
            decided = _within_means(asked, value, wanted, symbol, leaving, now)
            cut_off[symbol] = np.where(decided != asked, asked, KEEP)
        wanted[symbol] = decided
        unit = np.divide(1.0, before, out=np.zeros_like(before), where=before > 0)
        gross[part], cost[part], turnover[part] = gain * unit, paid * unit, traded * unit
        if shared:
            ordered[part], gained[part], charged[part] = decided, gain, paid
        wealth[whose], path[number] = now, now[0]
    back = np.empty_like(order)
    back[order] = np.arange(count)
    gross, cost, turnover, ordered, gained, charged = (
        np.take(one, back, axis=0) if len(one) else one for one in (gross, cost, turnover, ordered, gained, charged)
    )
    return _Settled(gross, cost, turnover, ordered if shared else weight, gained, charged, path)


def _aim(share: FloatArray, moved: FloatArray, means: FloatArray) -> FloatArray:
    """Holdings in money after a fill: the share of the wealth at the fill, or what is held where there is no order."""
    return np.asarray(np.where(np.isnan(share), moved, share * np.maximum(means, 0.0)), np.float64)


def _within_means(
    decided: FloatArray,
    value: FloatArray,
    wanted: FloatArray,
    symbol: IntArray | slice,
    leaving: IntArray,
    wealth: FloatArray,
) -> FloatArray:
    """(symbols, accounts) orders, cut to the share of wealth that no other symbol holds, or waits to hold.

    What symbols hold whose end is known (`leaving`) is free at the next fill.
    """
    held = np.divide(np.abs(value), wealth, out=np.zeros_like(value), where=wealth > 0)
    taken = np.fmax(held, np.abs(wanted))
    taken[leaving] = 0.0
    keeps = np.isnan(decided)
    taken[symbol] = np.where(keeps, held[symbol], 0.0)
    free = np.maximum(1 - taken.sum(axis=0, keepdims=True), 0.0)
    asked = np.abs(np.where(keeps, 0.0, decided)).sum(axis=0, keepdims=True)
    cut = np.divide(free, asked, out=np.ones_like(asked), where=asked > free * (1 + ROUNDING))
    within: FloatArray = decided * cut
    return within
