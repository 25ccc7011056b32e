"""A store with several asset classes: each has its own refits, comes and goes, and live stays what batch says."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from gatecast.live import Updated, parity, replay_store, retrain, rollback, update
from gatecast.store import Store
from gatecast.store.issued import in_force
from tests.live.conftest import HOUR, settings


@pytest.fixture(scope="module")
def both(bars: pl.DataFrame) -> pl.DataFrame:
    """One symbol of an index, one of a class that sorts first."""
    return bars.with_columns(
        asset_class=pl.when(pl.col("symbol") == "B1_1").then(pl.lit("equity")).otherwise("asset_class")
    )


@pytest.fixture(scope="module")
def trained_on_both(
    both: pl.DataFrame, closes: list[datetime], month: int, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store of two classes with a model, a close before a new month."""
    return made(tmp_path_factory.mktemp("both") / "store", both, closes[month - 2])


def made(folder: Path, bars: pl.DataFrame, close: datetime) -> Path:
    now = close + HOUR
    update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=settings())
    assert retrain(folder, now=now).model is not None
    return folder


@pytest.fixture
def two(trained_on_both: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained_on_both, tmp_path / "store")
    return tmp_path / "store"


def cutoffs(store: Path) -> dict[str, str]:
    opened = Store.open(store)
    model = opened.state.model(opened.state.serving)
    assert model is not None
    return dict(model.cutoffs)


def day(close: datetime) -> str:
    return f"{close:%Y-%m-%dT%H:%M}"


def lived(store: Path, bars: pl.DataFrame, closes: list[datetime], first: int, last: int) -> Updated:
    """Each close of some brought in, and the refits that are due made."""
    for number in range(first, last + 1):
        now = closes[number] + HOUR
        done = update(store, bars.filter(pl.col("time").is_between(closes[number - 3], now)), now=now)
        retrain(store, now=now)
    return done


def same_as_batch(store: Path, close: datetime, count: int, last: int = 2) -> None:
    """What was issued at the newest closes, and what a replay of two of the newest says, is what all bars at once say.

    The close of a class's first refit has no past from which a replay could begin.
    """
    found = parity(store, last=count, now=close + HOUR)
    assert (found.closes, found.difference) == (count, None)
    again = replay_store(store, last=last, now=close + HOUR)
    assert (again.closes, again.difference) == (2, None)


def test_a_refit_that_was_rolled_back_stays_out_of_force_where_another_class_is_due(
    two: Path, both: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    late = both.filter((pl.col("asset_class") != "equity") | (pl.col("time") != closes[month]))
    old = cutoffs(two)
    lived(two, late, closes, month - 1, month)
    assert cutoffs(two) | {"index": ""} == old | {"index": ""}
    assert cutoffs(two)["index"][:16] == day(closes[month])
    rollback(two, now=closes[month] + HOUR)
    assert cutoffs(two) == old
    lived(two, late, closes, month + 1, month + 1)
    assert cutoffs(two)["equity"][:16] == day(closes[month + 1])
    assert cutoffs(two)["index"] == old["index"]
    same_as_batch(two, closes[month + 1], 3)


def test_a_class_that_comes_after_the_first_model_is_compared_from_its_first_model_on(
    bars: pl.DataFrame, both: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    alone = both.filter(pl.col("asset_class") == "index")
    store = made(tmp_path / "s", alone, closes[month - 3])
    lived(store, alone, closes, month - 2, month - 2)
    now = closes[month - 1] + HOUR
    update(store, both.filter(pl.col("time") <= now), now=now)
    lived(store, both, closes, month, month + 1)
    assert set(cutoffs(store)) == {"index", "equity"}
    same_as_batch(store, closes[month + 1], 3, last=3)  # what the first refit of a class issued is its history


def test_a_symbol_that_comes_later_and_sorts_first_changes_nothing_that_was_issued(
    store: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    lived(store, bars, closes, month - 3, month - 3)
    first = bars.filter(pl.col("symbol") == "B1_1").with_columns(symbol=pl.lit("A"), known_at=pl.col("time"))
    every = pl.concat([first, bars]).sort("symbol", "time")
    now = closes[month - 2] + HOUR
    done = update(store, every.filter(pl.col("time") <= now), now=now)
    assert [row["symbol"] for row in done.decisions] == ["A", "B1_0", "B1_1"]
    lived(store, every, closes, month - 1, month)
    same_as_batch(store, closes[month], 4)


def test_a_class_that_goes_away_changes_nothing_of_the_others(
    two: Path, both: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    gone = both.filter((pl.col("asset_class") != "equity") | (pl.col("time") <= closes[month - 2]))
    lived(two, gone, closes, month - 1, month)
    same_as_batch(two, closes[month], 2)


def test_what_was_traded_stays_in_force_where_its_class_stops(
    two: Path, both: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    gone = both.filter((pl.col("asset_class") != "equity") | (pl.col("time") <= closes[month - 1]))
    lived(two, gone, closes, month - 1, month + 3)
    decisions = Store.open(two).decisions().filter(pl.col("symbol") == "B1_1", pl.col("time") == closes[month - 1])
    assert decisions["weight"][0]
    assert decisions.filter(in_force(decisions))["weight"].to_list() == decisions["weight"].to_list()[:1]
