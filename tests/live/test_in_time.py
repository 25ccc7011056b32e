"""What comes the next morning, does not come, or comes no more: what was decided is neither lost nor changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.live.conftest import HOUR, Answer

Feed = Callable[..., Answer]


@pytest.fixture
def given(store: Path, gatecast: Callable[..., Answer], tmp_path: Path) -> Feed:
    """`gatecast update --json` with bars at a moment."""

    def command(bars: pl.DataFrame, now: datetime) -> Answer:
        bars.drop("segment", "known_at").write_parquet(tmp_path / "next.parquet")
        words = ("--bars", tmp_path / "next.parquet", "--stamp", "close", "--now", now.isoformat(), "--json")
        return gatecast("update", store, *words)

    return command


def morning(close: datetime, days: int) -> datetime:
    """13:00 UTC, before New York opens, some days after a close."""
    return datetime(close.year, close.month, close.day, 13, tzinfo=UTC) + timedelta(days=days)


def test_a_bar_of_friday_is_in_time_until_the_next_open(
    store: Path, given: Feed, gatecast: Callable[..., Answer], bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    at = next(number for number in range(month - 3, len(closes)) if closes[number].weekday() == 4)
    for number in range(month - 3, at):
        given(bars.filter(pl.col("time") == closes[number]), closes[number] + HOUR)
    friday = bars.filter(pl.col("time") == closes[at])
    done = given(friday, morning(closes[at], 3))
    assert (done.status, done.json["bars"]["late"]) == (0, 0)
    assert {row["gate"] for row in done.json["decisions"]} <= {"open", "signal", "flat"}
    after = given(bars.filter(pl.col("time") == closes[at + 1]), closes[at + 1] + HOUR)
    assert after.status == 0
    found = gatecast("parity", store, "--now", (closes[at + 1] + HOUR).isoformat())
    assert found.status == 0, found.out + found.err


def test_a_bar_that_comes_after_the_open_is_late(
    given: Feed, bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    done = given(bars.filter(pl.col("time") == closes[month - 3]), morning(closes[month - 3], 5))
    assert {row["gate"] for row in done.json["decisions"]} <= {"late", "stale"}
    assert done.json["bars"]["late"] == 2


def test_live_stays_batch_where_one_bar_is_missing_for_ever_or_comes_after_three_sessions(
    store: Path, given: Feed, gatecast: Callable[..., Answer], bars: pl.DataFrame, closes: list[datetime], month: int
) -> None:
    """It is awaited for two sessions after its own, then a window steps over it; when it comes it is read."""

    def kinds_at(number: int, rows: pl.DataFrame) -> tuple[set[str], str]:
        done = given(rows, closes[number] + HOUR)
        assert done.status == 0
        gates = {row["symbol"]: row["gate"] for row in done.json["decisions"]}
        return {problem["kind"] for problem in done.json["data_problems"]}, gates["B1_1"]

    gone = (pl.col("symbol") == "B1_1") & (pl.col("time") == closes[month - 3])
    for number in range(month - 3, month + 2):
        kinds, gate = kinds_at(number, bars.filter(~gone, pl.col("time") == closes[number]))
        assert ("awaited" in kinds) == (number in (month - 2, month - 1))
        expected = (
            {"no bar"} if number == month - 3 else {"no forecast"} if number < month else {"open", "signal", "flat"}
        )
        assert gate in expected
    late = bars.filter(gone | (pl.col("time") == closes[month + 2]))
    assert kinds_at(month + 2, late)[1] in {"open", "signal", "flat"}
    found = gatecast("parity", store, "--now", (closes[month + 2] + HOUR).isoformat())
    assert found.status == 0, found.out + found.err


def test_closes_of_another_class_make_no_bar_late(
    gatecast: Callable[..., Answer], bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    at = next(number for number in range(100, len(closes)) if closes[number].weekday() == 4)
    saturday = closes[at] + timedelta(hours=3)
    days = pl.datetime_range(saturday - timedelta(days=60), saturday, "1d", time_unit="us", eager=True)
    coins = bars.head(len(days)).with_columns(days.alias("time"), symbol=pl.lit("C"), asset_class=pl.lit("crypto"))
    plain = pl.concat([bars, coins]).drop("segment", "known_at")

    def late(rows: pl.DataFrame, now: datetime) -> int:
        rows.write_parquet(tmp_path / "next.parquet")
        words = ("--bars", tmp_path / "next.parquet", "--stamp", "close", "--now", now.isoformat(), "--json")
        done = gatecast("update", tmp_path / "mixed", *words)
        assert done.status == 0, done.err
        return int(done.json["bars"].get("late", 0))

    late(plain.filter(pl.col("time") < closes[at]), closes[at - 1] + HOUR)
    late(plain.filter(pl.col("time") == saturday), saturday + HOUR)
    friday = plain.filter(pl.col("time") == closes[at])
    assert late(friday.filter(pl.col("symbol") == "B1_0"), morning(closes[at], 3)) == 0
    assert late(friday.filter(pl.col("symbol") == "B1_1"), morning(closes[at], 5)) == 1
