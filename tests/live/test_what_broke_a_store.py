"""What once broke a store for good, or made it claim what is not so: corrections, late rows, new symbols, late bars."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gatecast.errors import SettingsError, StoreError
from gatecast.live import Updated, parity, retrain, rollback, update
from gatecast.market.calendar import deadlines
from gatecast.store import Store
from tests.live.conftest import HOUR, settings


@pytest.fixture
def refitted(feed: Callable[..., Updated], month: int, store: Path, closes: list[datetime]) -> Path:
    """The store after the refit of the new month."""
    feed(month - 3, month)
    assert retrain(store, now=closes[month] + HOUR).model is not None
    return store


def without(bars: pl.DataFrame, symbol: str, close: datetime) -> pl.DataFrame:
    return bars.filter((pl.col("symbol") != symbol) | (pl.col("time") != close))


def claims(store: Path) -> list[str]:
    opened = Store.open(store)
    model = opened.state.model(opened.state.serving)
    assert model is not None
    scores = opened.artefacts.json(model.parts["scores.json"])
    return [verdict["verdict"] for verdict in scores["verdicts"].values()]


@pytest.mark.parametrize("back", [3, 30, 200])
def test_a_correction_however_old_ends_nothing_and_is_no_leak(
    refitted: Path, feed: Callable[..., Updated], month: int, bars: pl.DataFrame, closes: list[datetime], back: int
) -> None:
    wrong = (pl.col("time") == closes[month - back]) & (pl.col("symbol") == "B1_0")
    changed = bars.with_columns(high=pl.when(wrong).then(pl.col("high") * 1.001).otherwise("high"))
    done = feed(month - back - 3, month + 1, given=changed)
    assert dict(done.counts)["corrected"] == 1
    assert {row["gate"] for row in done.decisions} <= {"open", "signal", "flat"}
    later = next(number for number in range(month + 15, len(closes)) if closes[number].month != closes[month].month)
    feed(month + 2, later, given=changed)
    made = retrain(refitted, now=closes[later] + HOUR)
    assert made.model is not None
    assert not any("void" in verdict for verdict in claims(refitted))


def test_a_row_that_comes_after_the_next_refit_ends_nothing(
    store: Path, feed: Callable[..., Updated], month: int, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    feed(month - 3, month, given=without(bars, "B1_1", closes[month - 2]))
    assert retrain(store, now=closes[month] + HOUR).model is not None
    done = feed(month - 3, month + 1)
    assert {row["symbol"] for row in done.decisions} == {"B1_0", "B1_1"}
    assert not any("void" in verdict for verdict in claims(store))


def test_a_symbol_that_comes_with_its_history_ends_nothing(
    refitted: Path, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    now = closes[month + 1] + HOUR
    another = bars.filter(pl.col("symbol") == "B1_1").with_columns(symbol=pl.lit("NEW"))
    done = update(refitted, pl.concat([bars, another]).filter(pl.col("time") <= now).sort("symbol", "time"), now=now)
    assert {row["symbol"] for row in done.decisions} == {"B1_0", "B1_1", "NEW"}


def test_of_a_bar_that_came_after_its_fill_nothing_is_decided(
    feed: Callable[..., Updated], month: int, store: Path
) -> None:
    done = feed(month - 3, after=timedelta(hours=20))
    assert {row["gate"] for row in done.decisions} == {"late"}
    assert {row["weight"] for row in done.decisions} <= {0.0, None}
    assert {row["expected_return_log"] for row in done.decisions} == {None}


def test_where_a_gate_has_closed_nothing_is_held(feed: Callable[..., Updated], month: int) -> None:
    done = feed(month - 3, month - 2, after=timedelta(days=120))
    assert all(row["gate"] == "open" or not row["weight"] for row in done.decisions)
    assert all(row["gate"] != "open" for row in done.decisions)


def test_markets_that_never_close_can_be_refitted_within_half_a_bar(bars: pl.DataFrame) -> None:
    coins = bars.with_columns(asset_class=pl.lit("crypto"))
    waits = (deadlines(coins) - coins["time"]).unique().to_list()
    assert waits == [timedelta(hours=12)]


def test_a_store_with_a_holdout_is_not_made(bars: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing can be held out"):
        update(tmp_path / "s", bars, now=bars["time"].max(), experiment=settings(holdout="2001-09-01"))
    assert not (tmp_path / "s").exists()


def test_a_clock_before_the_newest_decision_is_said(
    refitted: Path, feed: Callable[..., Updated], bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    with pytest.raises(StoreError, match="is before the store's newest decision"):
        update(refitted, bars.filter(pl.col("time") <= closes[month - 2]), now=closes[month - 2] + HOUR)


def test_parity_holds_after_a_rollback_and_back(
    refitted: Path, feed: Callable[..., Updated], closes: list[datetime], month: int, tmp_path: Path
) -> None:
    shutil.copytree(refitted, tmp_path / "twin")
    now = closes[month] + HOUR
    rollback(refitted, now=now)
    rollback(refitted, now=now)
    feed(month + 1)
    assert parity(refitted, last=1, now=closes[month + 1] + HOUR).equal


def test_history_that_comes_after_the_first_bars_is_not_late(bars: pl.DataFrame, tmp_path: Path) -> None:
    closes = bars["time"].unique().sort()
    now = closes[-1] + HOUR
    experiment = settings()
    update(tmp_path / "s", bars.filter(pl.col("time") >= closes[-3]), now=now, experiment=experiment)
    done = update(tmp_path / "s", bars, now=now)
    assert (dict(done.counts)["new"], dict(done.counts)["late"]) == (len(bars) - 6, 0)


def test_the_first_model_decides_at_once(bars: pl.DataFrame, closes: list[datetime], tmp_path: Path) -> None:
    now = closes[520] + HOUR
    update(tmp_path / "s", bars.filter(pl.col("time") <= now), now=now, experiment=settings())
    made = retrain(tmp_path / "s", now=now)
    assert {row["symbol"] for row in made.decisions} == {"B1_0", "B1_1"}
