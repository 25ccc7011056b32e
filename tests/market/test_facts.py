"""Facts of bars: of a class they are those of all bars, and those up to a moment are the same with later bars."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from gatecast.market import synthetic
from gatecast.market.actions import SCHEMA as ACTIONS
from gatecast.market.bars import make_bars
from gatecast.market.facts import Facts, facts_of


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Indices and an equity: the one stops for a while and for good, the other is delisted and goes on."""
    row = pl.int_range(pl.len()).over("symbol")
    index = synthetic.a1(400, seed=1, symbols=3).filter((pl.col("symbol") != "A1_0") | ~row.is_between(100, 190))
    index = index.filter((pl.col("symbol") != "A1_1") | (row < 300))
    equity = synthetic.a1(400, seed=2).with_columns(symbol=pl.lit("B"), asset_class=pl.lit("equity"))
    bars = make_bars(pl.concat([index, equity]).drop("segment"))
    day = bars.filter(symbol="B")["time"][250].date()
    return Facts(bars, pl.DataFrame([("B", "delisting", day, -0.4, None)], schema=ACTIONS, orient="row"))


def test_facts_of_a_class_are_those_of_its_own_bars(facts: Facts) -> None:
    for name in ("index", "equity"):
        own = facts.of_class(name)
        alone = Facts(own.bars, facts.actions)
        assert own.bars["asset_class"].unique().to_list() == [name]
        np.testing.assert_array_equal(own.fills, alone.fills)
        np.testing.assert_array_equal(own.starts, alone.starts)
        np.testing.assert_array_equal(own.ended, alone.ended)
        assert own.bars_per_year == alone.bars_per_year
        np.testing.assert_array_equal(np.sort(own.class_starts), np.sort(facts.class_starts))
    assert facts.starts.sum() == 1
    assert facts.ended.sum() > 1
    assert sorted(facts.symbols_ended) == ["A1_1"]  # the others have come back
    assert facts_of(facts.bars).actions.height == 0


@pytest.mark.parametrize("number", [120, 180, 251, 254, 300, 380])
def test_no_fact_of_a_bar_depends_on_later_bars(facts: Facts, number: int) -> None:
    cut = facts.bars["time"].unique().sort()[number]
    assert isinstance(cut, datetime)
    until = pl.col("time") <= cut
    part, rows = Facts(facts.bars.filter(until), facts.actions), (facts.bars["time"] <= cut).to_numpy()
    np.testing.assert_array_equal(part.fills, facts.fills[rows])
    np.testing.assert_array_equal(part.starts, facts.starts[rows])
    np.testing.assert_array_equal(part.ended, facts.ended[rows])
    said = ("symbol", "time", "kind", "value")
    assert part.ends.filter(until).select(said).equals(facts.ends.filter(until).select(said))
