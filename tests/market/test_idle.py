"""Sessions without a trade are no observations: which rows they are, and what is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError
from gatecast.experiment import Experiment
from gatecast.market import read_bars, read_with_findings, synthetic
from gatecast.market.bars import without_idle

WALK = synthetic.a1(100, seed=3)


def suspended(first: int, last: int, **columns: Any) -> pl.DataFrame:
    """A hundred days, of which those from first to last copy the close before them."""
    at = pl.int_range(pl.len()).is_between(first, last)
    price = pl.when(at).then(WALK["close"][first - 1])
    names = ("open", "high", "low", "close")
    return WALK.with_columns(
        *(price.otherwise(name).alias(name) for name in names), volume=pl.when(at).then(0.0).otherwise(5.0)
    ).with_columns(**columns)


def plain_rule(bars: pl.DataFrame) -> list[bool]:
    """Row by row and in words: kept unless the price copies the row before and nothing was traded."""
    kept, before = [], None
    for row in bars.iter_rows(named=True):
        idle = row["high"] == row["low"] and row["close"] == before and row["volume"] in (None, 0.0)
        kept.append(not idle)
        before = row["close"]
    return kept


BAR = st.tuples(st.sampled_from([10.0, 11.0]), st.sampled_from([0.0, 0.5]), st.sampled_from([None, 0.0, 3.0]))


def bars_of(rows: list[tuple[float, float, float | None]]) -> pl.DataFrame:
    price, spread, volume = (pl.Series([row[n] for row in rows], dtype=pl.Float64) for n in range(3))
    ours = WALK.head(len(rows))
    return ours.with_columns(open=price, close=price, high=price + spread, low=price - spread, volume=volume)


@given(st.lists(BAR, min_size=3, max_size=40))
@settings(max_examples=100, deadline=None)
def test_the_rule_is_that_of_a_loop_twice_changes_nothing_and_later_rows_neither(rows: list[Any]) -> None:
    bars = bars_of([(12.0, 0.5, 3.0), *rows])  # a first row that was traded
    kept, counts = without_idle(bars)
    expected = plain_rule(bars)
    assert_frame_equal(kept, bars.filter(pl.Series(expected)))
    assert counts["bars"].sum() == expected.count(False)
    assert_frame_equal(without_idle(kept)[0], kept)
    for cut in range(1, len(bars), 5):
        assert_frame_equal(without_idle(bars.head(cut))[0], kept.filter(pl.col("time") <= bars["time"][cut - 1]))


@given(st.lists(st.tuples(BAR, st.sampled_from([None, 0.0, 1.0])), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_with_marks_doing_it_twice_changes_nothing(rows: list[Any]) -> None:
    bars = bars_of([(12.0, 0.5, 3.0), *(bar for bar, _ in rows)])
    bars = bars.with_columns(traded=pl.Series([1.0, *(mark for _, mark in rows)], dtype=pl.Float64))
    kept, _ = without_idle(bars)
    assert (kept["traded"] == 0).sum() == 0
    assert_frame_equal(without_idle(kept)[0], kept)


def test_a_suspension_is_left_out_and_counted_once() -> None:
    reading = read_with_findings(suspended(40, 59))
    assert reading.bars.height == 80
    (found,) = [one for one in reading.findings if one.rule == "no_trade"]
    assert (found.severity, found.value, found.time) == ("warning", 20, WALK["time"][40])
    assert f"{WALK['time'][40]:%Y-%m-%d} to {WALK['time'][59]:%Y-%m-%d}" in found.advice
    assert_frame_equal(read_bars(reading.bars), reading.bars)
    assert read_bars(suspended(40, 59).with_columns(volume=None)).height == 80


@pytest.mark.parametrize(
    ("column", "idle", "other"),
    [
        ("traded", 0, 1), ("is_trading", False, True), ("TradeStatus", "0", "1"), ("suspended", 1, 0),
        ("Is Suspended", True, False), ("halted", "yes", "no"),
    ],
)  # fmt: skip
def test_marks_of_vendors(column: str, idle: Any, other: Any) -> None:
    """The prices of these rows move: only the mark tells."""
    marks = pl.Series([idle if 40 <= n < 60 else other for n in range(100)])
    raw = WALK.drop("known_at", "segment").with_columns(marks.alias(column))
    bars = read_bars(raw, stamp="close")
    assert bars["time"].to_list() == [*WALK["time"][:40], *WALK["time"][60:]]
    assert not {"traded", "suspended"} & set(read_bars(raw, stamp="close", columns=[]).columns)


def test_a_traded_value_is_no_mark() -> None:
    bars = read_bars(WALK.with_columns(traded=pl.Series(np.arange(100) + 5.0)))
    assert bars.height == 100
    assert bars["traded"][3] == 8.0


def test_a_symbol_without_any_trade_is_left_out_and_a_file_of_them_refused() -> None:
    price = pl.col("close").first()
    dead = WALK.with_columns(open=price, high=price, low=price, close=price, volume=pl.lit(0.0), symbol=pl.lit("DEAD"))
    reading = read_with_findings(pl.concat([WALK, dead]))
    assert reading.bars["symbol"].unique().to_list() == WALK["symbol"].unique().to_list()
    (found,) = [one for one in reading.findings if one.rule == "no_trade"]
    assert (found.symbol, found.value) == ("DEAD", 100)
    assert "left out" in found.advice
    with pytest.raises(BarsError, match="nothing was traded"):
        read_bars(dead)


def test_prices_that_never_move_are_refused_by_an_experiment() -> None:
    still = WALK.with_columns(pl.col("open", "high", "low", "close").first(), volume=pl.lit(3.0))
    with pytest.raises(BarsError, match="no price moves"):
        Experiment(bars=still).read()
