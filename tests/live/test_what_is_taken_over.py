"""What the ensemble has learned at a refit is stored with it: an update gets, to the bit, what it would learn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.chain import Chain, Past, make_chain
from gatecast.forecasting.walkforward import Issued
from gatecast.live import Updated, retrain, rollback, update
from gatecast.live.kept import serve
from gatecast.store import Store
from gatecast.store.pieces import read_pieces

HOUR = timedelta(hours=1)
Feed = Callable[..., Updated]


def plain(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    feed(month - 3)
    return month - 3


def late_row(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    feed(month - 3, month - 2, bars.filter((pl.col("symbol") != "B1_1") | (pl.col("time") != closes[month - 3])))
    feed(month - 3, month - 1)
    return month - 1


def new_symbol(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    now = closes[month - 3] + HOUR
    another = bars.filter(pl.col("symbol") == "B1_1").with_columns(symbol=pl.lit("NEW"))
    update(store, pl.concat([bars, another]).filter(pl.col("time") <= now).sort("symbol", "time"), now=now)
    return month - 3


def month_and_back(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    feed(month - 3, month)
    assert retrain(store, now=closes[month] + HOUR).model is not None
    rollback(store, now=closes[month] + HOUR)
    feed(month + 1)
    return month + 1


def month_turns(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    feed(month - 3, month)
    assert retrain(store, now=closes[month] + HOUR).model is not None
    feed(month + 1)
    return month + 1


def past_before(store: Store, moment: datetime) -> tuple[Past, pl.DataFrame]:
    """What the store had issued before a close, and its bars."""
    model = store.state.model(store.state.serving)
    assert model is not None
    return serve(store, model, {"index": moment}).past, store.bars.for_chain(moment + HOUR)


@pytest.mark.parametrize("day", [plain, late_row, month_turns, month_and_back])
def test_an_update_gets_what_it_would_learn_again(
    day: Callable[..., int], feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    moment = closes[day(feed, store, bars, closes, month)]
    opened = Store.open(store)
    past, known = past_before(opened, moment)
    assert past.forecasts["index"].learned
    forgotten = replace(past, forecasts={name: replace(one, learned={}) for name, one in past.forecasts.items()})
    experiment = opened.experiment.replace(bars=known)
    taken, again = (
        make_chain(experiment, known, actions=opened.actions, past=one, refit="never", watch=False)
        for one in (past, forgotten)
    )
    assert_same(taken, again)
    pieces = opened.state.issued[-1].pieces
    assert pieces is not None
    issued = read_pieces(opened.artefacts, pieces, opened.experiment.horizon)["index"].issued
    assert not issued.learned  # which is of the refit alone
    assert_issued(issued, taken)


def assert_same(one: Chain, other: Chain) -> None:
    mine, theirs = (each.classes["index"].forecasts for each in (one, other))
    assert mine.values.keys() == theirs.values.keys()
    for model, heads in mine.values.items():
        for head, array in heads.items():
            np.testing.assert_array_equal(array, theirs.values[model][head])
    assert mine.learned.keys() == theirs.learned.keys()
    for part, numbers in mine.learned.items():
        np.testing.assert_array_equal(numbers, theirs.learned[part])
    assert one.weights.equals(other.weights)


def assert_issued(issued: Issued, chain: Chain) -> None:
    one = chain.classes["index"]
    mine, rows = issued.rows_in(one.samples)
    assert len(mine) == len(issued.time)
    for head, array in dict(issued.values["ensemble"]).items():
        np.testing.assert_array_equal(array[mine], one.forecasts.values["ensemble"][head][rows])


def corrected(feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int) -> int:
    wrong = (pl.col("time") == closes[month - 40]) & (pl.col("symbol") == "B1_0")
    feed(month - 42, month - 3, bars.with_columns(high=pl.when(wrong).then(pl.col("high") * 1.02).otherwise("high")))
    return month - 3


@pytest.mark.parametrize("day", [corrected, new_symbol])
def test_rows_of_before_change_nothing_that_was_learned(
    day: Callable[..., int], feed: Feed, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    before = past_before(Store.open(store), closes[month - 4])[0].forecasts["index"].learned
    moment = closes[day(feed, store, bars, closes, month)]
    after = past_before(Store.open(store), moment)[0].forecasts["index"].learned
    assert before.keys() == after.keys()
    assert all(np.array_equal(numbers, after[part]) for part, numbers in before.items())
