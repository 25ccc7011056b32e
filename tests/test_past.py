"""What is decided at a close is the same whatever bars come later: the chain on bars up to a moment and on all of them.

Later bars change their nature in every way that a constant of the whole span could notice: opens that are no prices,
volume that stops or begins, sessions of another length, a symbol that ends, halts or is listed, a column that moves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.chain import make_chain
from gatecast.experiment import Experiment
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.market.actions import read_actions, with_known_at
from gatecast.market.bars import PRICES, make_bars

CUT = 900
CHEAP: dict[str, Any] = {
    "models": ("forest", "ridge", "logistic"),
    "model": {
        "forest": {"trees": 3},
    },
    "signals": {"model": "ridge", "confirmed_by": "forest"},
    "ensemble": {"members": ("forest", "ridge", "logistic"), "volatility_members": ("har_symbol", "har_class", "ewma")},
    "schedule": Schedule(refit="6M"),
    "selection": {"evidence": 1.0},
}
later = pl.col("time") > pl.col("cut")


def opens_repeat(bars: pl.DataFrame) -> pl.DataFrame:
    opens = pl.when(later).then(pl.col("close").shift().over("symbol")).otherwise("open")
    bars = bars.with_columns(open=opens.fill_null(pl.col("open")))
    return bars.with_columns(high=pl.max_horizontal(*PRICES), low=pl.min_horizontal(*PRICES))


def opens_become_real(bars: pl.DataFrame) -> pl.DataFrame:
    opens = pl.when(~later).then(pl.col("close").shift().over("symbol")).otherwise("open")
    bars = bars.with_columns(open=opens.fill_null(pl.col("open")))
    return bars.with_columns(high=pl.max_horizontal(*PRICES), low=pl.min_horizontal(*PRICES))


def volume_stops(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=pl.when(later).then(None).otherwise("volume"))


def volume_begins_to_move(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(volume=pl.when(later).then("volume").otherwise(1000.0))


def column_begins_to_move(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(x=pl.when(later).then("x").otherwise(0.0))


def one_ends(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.filter(~later | (pl.col("symbol") != "B1_0"))


def one_halts(bars: pl.DataFrame) -> pl.DataFrame:
    move = pl.when(later & (pl.col("symbol") == "B1_0")).then(timedelta(days=35)).otherwise(timedelta())
    return bars.with_columns(pl.col("time", "known_at") + move)


def rows_come_late(bars: pl.DataFrame) -> pl.DataFrame:
    wait = pl.when(later & (pl.int_range(pl.len()) % 7 == 0)).then(timedelta(days=9)).otherwise(timedelta())
    return bars.with_columns(known_at=pl.col("known_at") + wait)


def another_is_listed(bars: pl.DataFrame) -> pl.DataFrame:
    other = synthetic.b1(1300, seed=77, r2=0.08, symbols=2).filter(pl.col("symbol") == "B1_1")
    other = other.join(bars.select("time", "cut").unique(), on="time", how="left").filter(later)
    return pl.concat([bars, other.with_columns(symbol=pl.lit("A_FIRST")).select(bars.columns)])


def nothing_moves(bars: pl.DataFrame) -> pl.DataFrame:
    last = pl.col("close").filter(~later).last().over("symbol")
    return bars.with_columns(pl.when(later).then(last).otherwise(name).alias(name) for name in PRICES)


@pytest.mark.parametrize(
    "change",
    [
        opens_repeat, opens_become_real, volume_stops, volume_begins_to_move, column_begins_to_move, one_ends,
        one_halts, rows_come_late, another_is_listed, nothing_moves,
    ],
)  # fmt: skip
def test_no_decision_before_a_moment_depends_on_bars_after_it(change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    bars = synthetic.b1(1300, seed=1, r2=0.08, symbols=2)
    cut = bars["time"].unique().sort()[CUT]
    changed = change(bars.with_columns(cut=pl.lit(cut))).drop("cut", "segment")
    changed = make_bars(changed)
    experiment = Experiment(bars=changed, features=("x", "ret_log_1", "volume_ratio_20"), **CHEAP)
    whole = make_chain(experiment, changed)
    part = make_chain(experiment, changed.filter(pl.col("known_at") <= cut))
    said = (one.decisions.frame for one in (whole, part))
    for mine, theirs in ((whole.weights, part.weights), tuple(said)):
        before = mine.filter(pl.col("time") <= cut)
        assert before.height > 500
        assert before.equals(theirs.filter(pl.col("time") <= cut))
    assert np.count_nonzero(part.weights["weight"]) > 100


def ends_of_a_class(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1, the only one of its class, has no bar after the 750th session: its end is known before the cut."""
    stops = bars["time"].unique().sort()[750]
    other = pl.when(pl.col("symbol") == "B1_1").then(pl.lit("fx")).otherwise("asset_class").alias("asset_class")
    return bars.with_columns(other).filter((pl.col("symbol") != "B1_1") | (pl.col("time") <= stops)), None


def ends_on_terms(bars: pl.DataFrame, cut: datetime) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """B1_1 is delisted on the cut's own session, and goes on for three that clear its last trades."""
    moments = bars["time"].unique().sort()
    told = pl.DataFrame({"symbol": ["B1_1"], "date": [cut.date().isoformat()], "value": [-0.4]})
    left = bars.filter((pl.col("symbol") != "B1_1") | (pl.col("time") <= moments[CUT + 3]))
    return left, with_known_at(read_actions(told, "delisting"), bars)


@pytest.mark.parametrize("change", [ends_of_a_class, ends_on_terms])
def test_no_decision_before_a_moment_depends_on_how_a_symbol_ended_after_it(
    change: Callable[[pl.DataFrame, datetime], tuple[pl.DataFrame, pl.DataFrame | None]],
) -> None:
    bars = synthetic.b1(1300, seed=1, r2=0.08, symbols=2)
    moments = bars["time"].unique().sort()
    changed, told = change(bars.drop("segment"), moments[CUT])
    changed = make_bars(changed)
    experiment = Experiment(bars=changed, features=("x", "ret_log_1"), **CHEAP)
    whole = make_chain(experiment, changed, actions=told)
    for cut in (moments[CUT - 1], moments[CUT], moments[CUT + 1]):
        known = None if told is None else told.filter(pl.col("known_at") <= cut)
        part = make_chain(experiment, changed.filter(pl.col("known_at") <= cut), actions=known)
        before = whole.weights.filter(pl.col("time") <= cut)
        assert before.height > 500
        assert before.equals(part.weights.filter(pl.col("time") <= cut))
        equity = (one.result.equity.filter(pl.col("time") <= cut) for one in (whole, part))
        assert next(equity).equals(next(equity))
    if told is not None:
        gone = whole.weights.filter(pl.col("symbol") == "B1_1", pl.col("time") >= moments[CUT])
        assert gone.height == 4
        assert (gone["weight"] == 0).all()
    assert whole.result.ends["default" if told is None else "known"] == 1
