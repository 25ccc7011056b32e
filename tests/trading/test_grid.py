"""The grid of a book: bars of several classes by session, nothing filled, nothing known too early."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.market import synthetic
from gatecast.market.facts import Facts
from gatecast.trading.costs import MoneySettings
from gatecast.trading.events import Dividend
from gatecast.trading.grid import Grid, carry_of, forward_filled, grid_of, loans_of, mean_of_last
from gatecast.trading.instruments import Instruments
from gatecast.trading.money import Account, book_session

BARS = synthetic.a1(60, seed=3, symbols=3)
NAMES = BARS["symbol"].unique().sort().to_list()


def grid(bars: pl.DataFrame = BARS) -> Grid:
    return grid_of(bars, Facts(bars).fills)


def test_a_missing_bar_is_missing_and_the_next_return_is_of_both() -> None:
    days = BARS["time"].unique().sort()
    found = grid(BARS.filter((pl.col("symbol") != NAMES[1]) | (pl.col("time") != days[20])))
    whole = grid()
    assert found.close.shape == (60, 3)
    assert np.isnan(found.close[20, 1])
    assert np.isnan(found.fill[20, 1])
    assert np.isnan(found.returns[20, 1])
    assert found.returns[21, 1] == pytest.approx(whole.close[21, 1] / whole.close[19, 1] - 1)
    assert (found.close[:, 0] == whole.close[:, 0]).all()
    assert whole.fill[1:, 0].tolist() == BARS.filter(symbol=NAMES[0])["open"][1:].to_list()


def test_what_comes_later_changes_no_bit() -> None:
    days = BARS["time"].unique().sort()
    part, whole = grid(BARS.filter(pl.col("time") <= days[39])), grid()
    for name in ("fill", "close", "volume", "usual_volume", "returns"):
        assert getattr(part, name).tobytes() == getattr(whole, name)[:40].tobytes()


def test_a_usual_volume_is_known_before_the_session() -> None:
    found = grid(BARS.with_columns(volume=pl.int_range(pl.len()).over("symbol") / pl.col("close")))
    assert np.isnan(found.usual_volume[0]).all()
    assert found.usual_volume[30] == pytest.approx(np.full(3, np.arange(9, 30).mean()))
    unknown = grid(BARS.with_columns(volume=pl.lit(None, pl.Float64)))
    assert np.isnan(unknown.volume).all()


def test_several_bars_of_a_session_are_one() -> None:
    at = pl.col("time").min()
    one = BARS.filter(symbol=NAMES[0]).head(3).with_columns(time=at + pl.duration(hours=pl.int_range(pl.len())))
    found = grid_of(one, np.ones(3, bool))
    assert found.close.ravel().tolist() == [one["close"][-1]]
    assert found.fill.ravel().tolist() == [one["open"][0]]
    assert found.volume.ravel()[0] == pytest.approx((one["volume"] * one["close"]).sum())


def test_the_sessions_of_a_grid_go_through_an_account() -> None:
    found, own = grid(), MoneySettings()
    known = Instruments.of(dict.fromkeys(found.symbols, "index"), own)
    deviation = np.full(found.close.shape, 0.01)
    paid = {found.days[5]: (Dividend(NAMES[0], 0.5),)}
    sessions = found.sessions(deviation=deviation, events=paid, benchmark=np.full(60, 0.05), lent=np.ones((60, 3)))
    account = Account.opened(1e5, 3)
    for row, session in enumerate(sessions):
        orders = np.where(row == 1, [100.0, -50.0, 10.0], 0.0)
        account, booked = book_session(account, session, orders, known, own)
        assert abs(booked.difference) < 1e-9 * booked.before
        assert (booked.dividend[0] > 0) == (row == 5)
        assert (booked.impact > 0).all() == (row == 1)
    assert account.exposure(known) == pytest.approx([100, -50, 10] * found.close[-1])


def test_empty_bars_have_an_empty_grid() -> None:
    found = grid_of(BARS.clear(), np.zeros(0, bool))
    assert (found.days, found.returns.shape, found.sessions()) == ((), (0, 0), [])
    assert forward_filled(np.zeros((0, 2))).shape == mean_of_last(np.zeros((0, 2)), 5).shape == (0, 2)


def test_rates_come_from_the_pairs_of_the_grid() -> None:
    names = dict(zip(NAMES, ["EURUSD", "USDJPY", "SIE"], strict=True))
    found = grid(BARS.with_columns(pl.col("symbol").replace(names)))
    classes = {symbol: "equity" if symbol == "SIE" else "fx" for symbol in found.symbols}
    known = Instruments.of(classes, MoneySettings(), currencies={"SIE": "EUR"})
    assert dict(zip(known.symbols, known.currency, strict=True)) == {"EURUSD": "USD", "SIE": "EUR", "USDJPY": "JPY"}
    rates = found.rates(known, tuple(classes.values()), "USD")
    column = {symbol: found.close[:, place] for place, symbol in enumerate(found.symbols)}
    expected = np.column_stack([np.ones(60), column["EURUSD"], 1 / column["USDJPY"]])
    assert rates == pytest.approx(expected)


def test_a_recall_is_bought_at_the_next_fill_and_a_row_holds_until_the_next() -> None:
    found, day = grid(), grid().days
    table = pl.DataFrame({
        "symbol": [NAMES[0], NAMES[0], NAMES[1]], "date": [day[3], day[7], day[5]],
        "available": [True, True, False], "rate": [0.02, 0.03, None], "recall": [False, True, False],
    })  # fmt: skip
    loans = loans_of(table, found)
    assert loans["lent"][:, 0].tolist()[:5] == pytest.approx([np.nan] * 4 + [1.0], nan_ok=True)
    assert loans["borrow"][[4, 7, 8], 0].tolist() == [0.02, 0.02, 0.03]
    assert np.flatnonzero(loans["recalled"][:, 0]).tolist() == list(range(8, 60))
    assert loans["lent"][[5, 6], 1].tolist() == pytest.approx([np.nan, 0.0], nan_ok=True)
    assert np.isnan(loans["borrow"][:, 1:]).all()
    own = MoneySettings()
    known = Instruments.of(dict.fromkeys(found.symbols, "equity"), own)
    account = Account.opened(1e5, 3)
    for row, session in enumerate(found.sessions(**loans)):
        orders = np.array([-10.0 if row in (2, 5) else 0.0, 0, 0])
        account, _ = book_session(account, session, orders, known, own)
        assert account.units[0] == (-10 if 5 <= row < 8 else 0)
    with pytest.raises(BarsError, match=r"a table of loans needs the columns .* missing: recall"):
        loans_of(table.drop("recall"), found)


def test_carry_is_the_difference_of_rates_that_were_known() -> None:
    names = dict(zip(NAMES, ["EURUSD", "USDJPY", "SIE"], strict=True))
    found = grid(BARS.with_columns(pl.col("symbol").replace(names)))
    classes = {symbol: "equity" if symbol == "SIE" else "fx" for symbol in found.symbols}
    known = Instruments.of(classes, MoneySettings())
    table = pl.DataFrame({
        "currency": ["EUR", "USD", "USD"], "date": [found.days[0], found.days[0], found.days[9]],
        "rate": [0.02, 0.05, 0.04],
    })  # fmt: skip
    carry = carry_of(table, known, found)
    euro = known.place("EURUSD")
    assert np.isnan(carry[0]).all()
    assert carry[[1, 9, 10], euro] == pytest.approx([-0.03, -0.03, -0.02])
    assert np.isnan(carry[:, [known.place("USDJPY"), known.place("SIE")]]).all()
