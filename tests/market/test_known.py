"""What is known when: versions of rows, columns with their own known times, late rows, the hold-out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError
from gatecast.experiment import Experiment
from gatecast.market import make_bars, read_bars, read_with_findings, synthetic
from gatecast.market.bars import session_date
from gatecast.market.calendar import fill_times
from gatecast.market.known import join_known
from gatecast.market.reading import BarsSettings
from gatecast.samples.known import delays

WALK = synthetic.a1(80, seed=1).drop("known_at", "segment")


def with_x(**columns: Any) -> pl.DataFrame:
    """Eighty days with x = 0, 1, 2, ..."""
    return WALK.with_row_index("x").with_columns(pl.col("x").cast(pl.Float64), **columns)


def read(frame: pl.DataFrame, **options: Any) -> pl.DataFrame:
    return read_bars(frame, stamp="close", **options)


def rules(frame: pl.DataFrame, **options: Any) -> list[tuple[str, str, object]]:
    found = read_with_findings(frame, stamp="close", **options).findings
    return [(one.severity, one.rule, one.value) for one in found]


def versions(days: int) -> pl.DataFrame:
    """Each row again, `days` later, with x + 100."""
    first = with_x(known_at=pl.col("time"))
    later = first.with_columns(x=pl.col("x") + 100, known_at=pl.col("time") + timedelta(days=days))
    return pl.concat([later, first])


# ── versions ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_version_known_is_read() -> None:
    frame = versions(5)
    assert_frame_equal(read(frame), read(with_x()))
    assert rules(frame) == [("info", "revised", 80)]


def test_the_newest_version_is_read_when_asked_for_and_told() -> None:
    bars = read(versions(5), versions="newest")
    assert bars["x"].to_list() == [100.0 + n for n in range(80)]
    assert rules(versions(5), versions="newest") == [("warning", "revised", 80), ("warning", "late", 80)]
    with pytest.raises(BarsError, match="versions = 'latest': input should be 'first' or 'newest'"):
        read(versions(5), versions="latest")


@given(st.integers(0, 79), st.integers(0, 8))
@settings(max_examples=20, deadline=None)
def test_as_of_reads_the_newest_version_known_then(row: int, days: int) -> None:
    moment = WALK["time"][row] + timedelta(days=days)
    bars = read(versions(5), as_of=moment)
    known = [(n, 100.0 + n if time + timedelta(days=5) <= moment else n) for n, time in enumerate(WALK["time"])]
    assert bars["x"].to_list() == [x for (_, x), time in zip(known, WALK["time"], strict=True) if time <= moment]


def test_a_late_first_version_is_late() -> None:
    frame = with_x(known_at=pl.col("time") + timedelta(days=14))
    assert rules(frame) == [("warning", "late", 80)]
    soon = with_x(known_at=pl.col("time") + timedelta(hours=11))
    assert rules(soon) == []


# ── columns with their own known time ─────────────────────────────────────────────────────────────


def test_a_delay_a_named_column_and_a_suffix_say_the_same(tmp_path: Path) -> None:
    later = (pl.col("time") + timedelta(days=16)).alias("published")
    expected = read(with_x(), known_at={"x": "16d"})
    assert expected["x"].to_list()[:14] == [None] * 12 + [0.0, 1.0]
    assert_frame_equal(read(with_x(published=later), known_at={"x": "published"}), expected)
    assert_frame_equal(read(with_x(x_known_at=later)), expected)
    with_x(x_known_at=later).write_parquet(tmp_path / "bars.parquet")
    with_x(x_known_at=later).write_csv(tmp_path / "bars.csv")
    for name in ("bars.parquet", "bars.csv"):
        assert_frame_equal(read(tmp_path / name, columns=["x"]), expected)
        assert read(tmp_path / name, columns=[]).columns == expected.columns[:-1]


def test_a_date_means_its_end_and_a_clock_needs_a_zone() -> None:
    dated = with_x(x_known_at=pl.col("time").dt.date())
    assert read(dated)["x"].to_list() == read(with_x())["x"].to_list()
    tomorrow = with_x(x_known_at=pl.col("time").dt.date() + timedelta(days=1))
    assert read(tomorrow)["x"].to_list()[:3] == [None, 0.0, 1.0]
    clock = with_x(x_known_at=pl.col("time").dt.strftime("%Y-%m-%d %H:%M"))
    with pytest.raises(BarsFileError, match="no zone"):
        read(clock)
    assert read(clock, timezone="UTC")["x"].to_list()[:2] == [0.0, 1.0]


def test_values_without_a_known_time_are_never_known() -> None:
    frame = with_x(x_known_at=pl.when(pl.col("x") != 3).then("time"))
    assert read(frame)["x"].to_list()[:5] == [0.0, 1.0, 2.0, 2.0, 4.0]


def test_symbols_do_not_lend_each_other_values() -> None:
    other = with_x(symbol=pl.lit("ZZ")).with_columns(x=pl.lit(7.0))
    bars = read(pl.concat([with_x(), other.select(with_x().columns)]), known_at={"x": "3d"})
    assert set(bars.filter(symbol="ZZ")["x"].drop_nulls()) == {7.0}
    assert bars.filter(symbol="ZZ")["x"].null_count() > 0


@pytest.mark.parametrize(
    ("known_at", "text"),
    [
        ({"x": "publ"}, "Did you mean 'published'"),
        ({"y": "2d"}, "'y', which no file has"),
        ({"close": "2d"}, "known with their row"),
        ({"x": "2 fortnights"}, "no delay such as '16d'"),
    ],
)
def test_known_times_that_cannot_be_are_refused(known_at: dict[str, str], text: str) -> None:
    with pytest.raises(BarsError, match=text):
        read(with_x(published=pl.col("time")), known_at=known_at)
    with pytest.raises(BarsFileError, match="no known time of their own"):
        read(with_x(volume_known_at=pl.col("time")))


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 20 * 24), st.booleans()), max_size=40))
@settings(max_examples=60, deadline=None)
def test_joined_values_are_those_of_a_loop(entries: list[tuple[int, int, bool]]) -> None:
    """Any number of versions a row, any delay in hours: the newest row known by the fill, its version known last."""
    rows = WALK.head(30)
    close = rows["time"].to_list()
    events = {(n, hours): float(100 * n + hours) for n, hours, _ in entries}
    moment = pl.Datetime("us", "UTC")
    table = pl.DataFrame(
        {
            "symbol": pl.Series([rows["symbol"][0]] * len(events), dtype=pl.String),
            "row": pl.Series([close[n] for n, _ in events], dtype=moment),
            "known": pl.Series([close[n] + timedelta(hours=hours) for n, hours in events], dtype=moment),
            "value": pl.Series(list(events.values()), dtype=pl.Float64),
        }
    )
    expected = []
    for fill in fill_times(rows):
        known = [(n, hours) for n, hours in events if close[n] + timedelta(hours=hours) <= fill]
        expected.append(events[max(known)] if known else None)
    assert join_known(rows, {"x": table})["x"].to_list() == expected


HOURLY = [datetime(2024, 1, day, hour, tzinfo=UTC) for day in range(2, 12) for hour in range(15, 22)]
DAILY = [datetime(2024, 1, 2, tzinfo=UTC) + timedelta(days=day) for day in range(40)]
WEEKLY = [datetime(2024, 1, 5, 21, tzinfo=UTC) + timedelta(weeks=n) for n in range(40)]
MOMENT = pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("asset_class", "times", "hours"),
    [
        ("crypto", DAILY, 0), ("fx", DAILY, 0), ("crypto", HOURLY, 0), ("fx", WEEKLY, 0),  # the next bar opens at once
        ("equity", HOURLY, 0), ("future", HOURLY, 0),  # within a session, too
        ("equity", DAILY, 12), ("index", DAILY, 12), ("etf", WEEKLY, 15),  # before the open of the next session
        ("future", DAILY, 1), ("metal", WEEKLY, 1), ("commodity", DAILY, 1),  # Globex opens after an hour
    ],
)  # fmt: skip
def test_what_becomes_known_after_the_next_open_is_not_used(
    asset_class: str, times: list[datetime], hours: int
) -> None:
    """A value known a minute after the fill belongs to the next row; one known at it to its own. First bars decide."""
    frame = pl.DataFrame({"symbol": "A", "asset_class": asset_class, "time": times}, schema_overrides={"time": MOMENT})
    assert set(fill_times(frame) - frame["time"]) == {timedelta(hours=hours)}
    assert fill_times(frame.head(25)).to_list() == fill_times(frame).head(25).to_list()
    for late, expected in ((timedelta(), 5), (timedelta(minutes=1), 6)):
        known = times[5] + timedelta(hours=hours) + late
        event = pl.DataFrame({"symbol": "A", "row": [times[5]], "known": [known], "value": [1.0]})
        event = event.with_columns(pl.col("row", "known").cast(MOMENT))
        joined = join_known(frame, {"x": event})["x"]
        assert joined.is_not_null().arg_max() == expected
    bars = frame.with_columns(known_at=pl.col("time") + timedelta(hours=hours))
    assert not delays(bars).any()
    assert (delays(bars.with_columns(pl.col("known_at") + timedelta(minutes=1)))[:-1] == 1).all()


def test_a_coin_is_not_decided_on_what_is_published_after_its_fill() -> None:
    frame = with_x(asset_class=pl.lit("crypto"))
    at_once, later = (read(frame, known_at={"x": delay})["x"].to_list() for delay in ("0h", "11h"))
    assert at_once == frame["x"].to_list()
    assert later == [None, *at_once[:-1]]


@given(st.integers(20, 79), st.sampled_from(["0d", "7h", "16d", "2w"]))
@settings(max_examples=25, deadline=None)
def test_a_joined_column_does_not_change_when_later_rows_come(rows: int, delay: str) -> None:
    whole = read(with_x(), known_at={"x": delay})
    assert_frame_equal(read(with_x().head(rows), known_at={"x": delay}), whole.head(rows))


# ── the hold-out ──────────────────────────────────────────────────────────────────────────────────

SEAL = "2000-03-01"


@pytest.mark.parametrize("asset_class", ["index", "crypto"])
def test_nothing_that_became_known_in_the_hold_out_is_read(asset_class: str) -> None:
    first = with_x(asset_class=pl.lit(asset_class), known_at=pl.col("time"))
    if asset_class == "crypto":
        first = first.with_columns(pl.col("time", "known_at").dt.truncate("1d") + timedelta(days=1))
    later = first.with_columns(x=pl.col("x") + 100, known_at=pl.col("time") + timedelta(days=10))
    settings = BarsSettings(source="frame", frame=pl.concat([first, later]), stamp="close", versions="newest")
    bars = Experiment(bars=settings, holdout=SEAL).read().bars
    sealed = pl.lit(date.fromisoformat(SEAL))
    assert bars.filter(session_date(pl.col("known_at")) >= sealed).height == 0
    assert bars.height == first.filter(session_date(pl.col("time")) < sealed).height
    assert bars["x"][-1] < 100 <= bars["x"][0]


def test_values_known_in_the_hold_out_are_not_read() -> None:
    frame = with_x()
    settings = BarsSettings(source="frame", frame=frame, stamp="close", known_at={"x": "5d"})
    open_, sealed = (Experiment(bars=settings, holdout=day).read().bars for day in (None, SEAL))
    assert_frame_equal(sealed, open_.head(sealed.height))
    first = datetime.combine(date.fromisoformat(SEAL), datetime.min.time(), UTC)
    values = {row: time + timedelta(days=5) for row, time in enumerate(frame["time"])}
    assert all(values[int(x)] < first for x in sealed["x"].drop_nulls())


def test_rows_known_only_in_the_hold_out_are_sealed() -> None:
    frame = with_x(known_at=pl.col("time") + timedelta(days=400))
    settings = BarsSettings(source="frame", frame=frame, stamp="close")
    with pytest.raises(BarsError, match="no bars are left"):
        Experiment(bars=settings, holdout=SEAL).read()


def test_settings_of_known_times_go_through_toml(tmp_path: Path) -> None:
    from gatecast.settings import to_toml

    settings = BarsSettings(source="a.csv", known_at={"x": "16d", "y z": "published"}, versions="newest", splits=False)
    experiment = Experiment(bars=settings)
    (tmp_path / "settings.toml").write_text(to_toml(experiment))
    assert Experiment.from_toml(tmp_path / "settings.toml").bars == settings
    (tmp_path / "own.toml").write_text('[bars]\nsource = "a.csv"\n[bars.known_at]\nx = "16d"\n')
    assert Experiment.from_toml(tmp_path / "own.toml").bars.known_at == {"x": "16d"}


# ── volume ────────────────────────────────────────────────────────────────────────────────────────


def test_volume_does_not_change_when_later_rows_come() -> None:
    volume = np.r_[np.zeros(30), np.ones(50)]
    frame = with_x(volume=pl.Series(volume))
    whole = read(frame)
    assert whole["volume"].null_count() == 30
    for rows in (10, 30, 31, 60):
        assert_frame_equal(read(frame.head(rows)), whole.head(rows))


def test_reading_bars_again_changes_nothing() -> None:
    bars = read(versions(5), known_at={"x": "3d"})
    assert_frame_equal(make_bars(bars), bars)
    assert_frame_equal(read_bars(bars), bars)


def test_the_whole_reading_does_not_change_when_more_becomes_known() -> None:
    """Idle rows, versions and a delayed column together: what was known at each close reads the same for ever."""
    long = synthetic.a1(300, seed=4).drop("segment")
    noise = np.random.default_rng(4).standard_normal(300)
    idle = pl.int_range(pl.len()).is_between(100, 120)
    names = ("open", "high", "low", "close")
    still = [pl.when(idle).then(long["close"][99]).otherwise(name).alias(name) for name in names]
    first = long.with_columns(*still, volume=pl.when(idle).then(0.0).otherwise(5.0), x=pl.Series(noise))
    later = first.gather_every(7).with_columns(x=pl.col("x") + 9, known_at=pl.col("known_at") + timedelta(days=3))
    rows = pl.concat([later, first])
    options = {"known_at": {"x": "2d"}, "splits": False}
    whole = read(rows, **options)
    assert whole.height == 279
    for moment in long["time"][20::13]:
        part = read(rows.filter(pl.col("known_at") <= moment), **options)
        assert_frame_equal(part, whole.filter(pl.col("time") <= moment))


def test_known_times_of_text_and_of_keys_are_refused() -> None:
    bars = synthetic.a1(60, seed=1)
    at = pl.col("time").dt.offset_by("1d")
    with pytest.raises(BarsFileError, match=r"is asked for, but 60 .* are text") as caught:
        read_bars(bars.with_columns(x=pl.lit("abc"), x_known_at=at))
    assert caught.value.column == "x"
    for name in ("symbol", "time", "segment", "asset_class"):
        with pytest.raises(BarsFileError, match="known with its row") as caught:
            read_bars(bars.with_columns(at.alias(f"{name}_known_at")))
        assert caught.value.column == f"{name}_known_at"
