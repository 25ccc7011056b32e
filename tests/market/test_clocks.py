"""Clocks of vendors: offsets, jitter, live last rows, midnights shown in another zone, clocks beside dates."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError
from gatecast.market import Reading, read_bars, read_with_findings, session_date, synthetic

DAYS = pd.bdate_range("2019-01-02", periods=60)
EVERY_DAY = pd.date_range("2021-01-01", periods=60)


def frame_of(times: Any, **more: Any) -> pd.DataFrame:
    """Bars at these times, under the column `time`."""
    close = 10 + np.arange(len(times)) % 7 * 0.5
    return pd.DataFrame({"time": times, "open": close, "high": close + 1, "low": close - 1, "close": close, **more})


def sessions(bars: pl.DataFrame) -> list[date]:
    return bars.select(session_date(pl.col("time"))).to_series().to_list()


def dates(days: Any) -> list[date]:
    return [day.date() for day in days]


def rules(reading: Reading) -> list[tuple[str, object]]:
    return [(found.rule, found.value) for found in reading.findings]


def refusal(source: Any, **options: Any) -> BarsFileError:
    with pytest.raises(BarsFileError) as caught:
        read_bars(source, symbols="A", **options)
    return caught.value


# ── offsets ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offset", ["+05:30", "+05:45", "-03:30", "-05:00", "+13:00", "+00:00"])
def test_a_fixed_offset_is_read_from_frames_tables_and_files(offset: str, tmp_path: Path) -> None:
    text = [f"{day:%Y-%m-%d} 00:00:00{offset}" for day in DAYS]
    frame = frame_of(pd.to_datetime(text))
    frame.to_parquet(tmp_path / "bars.parquet")
    frame_of(text).to_csv(tmp_path / "bars.csv", index=False)
    for source in (
        frame, frame.set_index("time"), frame_of(text), pa.Table.from_pandas(frame), tmp_path / "bars.parquet",
        tmp_path / "bars.csv",
    ):  # fmt: skip
        assert sessions(read_bars(source, symbols="A")) == dates(DAYS)


@given(st.integers(-14 * 4, 14 * 4), st.integers(0, 23))
@settings(max_examples=30, deadline=None)
def test_a_moment_with_any_offset_is_that_moment(quarters: int, hour: int) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    times = [datetime(2021, 3, 1, hour, tzinfo=zone) + timedelta(hours=n) for n in range(5)]
    bars = read_bars(frame_of(pd.to_datetime([str(one) for one in times])), symbols="A", stamp="close")
    assert bars["time"].to_list() == times


@pytest.mark.parametrize("offset", ["+99:99", "+05:77", "-23:00"])
def test_an_offset_that_no_clock_has_is_refused(offset: str) -> None:
    error = refusal(frame_of([f"{day:%Y-%m-%d} 10:00:00{offset}" for day in DAYS]), stamp="close")
    assert (error.line, error.column) == (1, "time")


def test_a_zone_that_nobody_knows_is_refused_by_its_column(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(frame_of(DAYS), preserve_index=False)
    strange = pa.array(DAYS.as_unit("us").astype("int64"), pa.timestamp("us", "Mars/Olympus"))
    pq.write_table(table.set_column(0, "time", strange), tmp_path / "bars.parquet")
    error = refusal(tmp_path / "bars.parquet")
    assert (error.file, error.column, error.value) == (tmp_path / "bars.parquet", "time", "Mars/Olympus")


# ── jitter ────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(-1000, 1000), min_size=60, max_size=60))
@settings(max_examples=20, deadline=None)
def test_daily_stamps_that_jitter_by_a_second_are_one_session_each(jitter: list[int]) -> None:
    noisy = frame_of(EVERY_DAY + pd.to_timedelta(jitter, "ms"))
    bars = read_bars(noisy, symbols="BTC", asset_class="crypto", stamp="open")
    assert_frame_equal(bars, read_bars(frame_of(EVERY_DAY), symbols="BTC", asset_class="crypto"))


def test_two_coins_with_jitter_meet_at_each_bar_and_it_is_told() -> None:
    noise = np.random.default_rng(1)
    hours = pd.date_range("2021-01-01", periods=100, freq="h", tz="UTC")
    parts = [
        frame_of(hours + pd.to_timedelta(noise.integers(-900, 900, 100), "ms"), symbol=name) for name in ("BTC", "ETH")
    ]
    reading = read_with_findings(pd.concat(parts), asset_class="crypto", stamp="open")
    assert reading.bars["time"].n_unique() == 100
    assert [rule for rule, _ in rules(reading)] == ["rounded_time"] * 2


def test_bars_of_seconds_keep_their_seconds() -> None:
    seconds = pd.date_range("2021-01-01", periods=200, freq="s", tz="UTC")
    bars = read_bars(frame_of(seconds), symbols="BTC", asset_class="crypto", stamp="close")
    assert bars["time"].n_unique() == 200
    assert bars["time"].dt.second().n_unique() == 60


def test_a_frame_of_bars_with_jitter_keeps_what_was_known() -> None:
    clean = read_bars(frame_of(EVERY_DAY), symbols="BTC", asset_class="crypto")
    early = clean.with_columns(pl.col("time", "known_at") - timedelta(milliseconds=3))
    assert_frame_equal(read_bars(early), clean)


# ── live rows ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("zone", [None, "America/New_York", "UTC"])
@pytest.mark.parametrize("options", [{}, {"stamp": "open"}])
def test_a_live_last_row_among_dates_is_left_out_and_named(zone: str | None, options: dict[str, Any]) -> None:
    times = [*DAYS[:-1], DAYS[-1] + pd.Timedelta("13:37:21")]
    reading = read_with_findings(frame_of(pd.DatetimeIndex(times).tz_localize(zone)), symbols="A", **options)
    assert sessions(reading.bars) == dates(DAYS[:-1])
    assert [(one.rule, one.line) for one in reading.findings] == [("unfinished", 60)]


@pytest.mark.parametrize("stamp", ["open", "close"])
@pytest.mark.parametrize("live", ["37min21s", "21s", "1h17s"])
def test_a_live_last_row_among_hours_is_left_out(stamp: Any, live: str) -> None:
    hours = pd.date_range("2021-01-04", periods=100, freq="h", tz="UTC")
    options = {"symbols": "A", "asset_class": "crypto", "stamp": stamp}
    reading = read_with_findings(frame_of([*hours, hours[-1] + pd.Timedelta(live)]), **options)
    assert_frame_equal(reading.bars, read_bars(frame_of(hours), **options))
    assert [one.rule for one in reading.findings] == ["unfinished"]


def test_a_short_last_session_is_no_live_row() -> None:
    closes = [*(DAYS[:-1] + pd.Timedelta("16:00:00")), DAYS[-1] + pd.Timedelta("13:00:00")]
    bars = read_bars(frame_of(pd.DatetimeIndex(closes).tz_localize("America/New_York")), symbols="A", stamp="close")
    assert sessions(bars) == dates(DAYS)


@pytest.mark.parametrize("options", [{}, {"stamp": "open", "timezone": "UTC"}])
def test_a_clock_in_the_middle_of_dates_is_refused_at_its_row(options: dict[str, Any]) -> None:
    times = [*DAYS[:30], DAYS[30] + pd.Timedelta("13:37:21"), *DAYS[31:]]
    error = refusal(frame_of(times), **options)
    assert (error.line, error.column, error.value) == (31, "time", "2019-02-13 13:37:21")


# ── midnights shown elsewhere ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "zone", ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "Asia/Kolkata", "Australia/Sydney"]
)
def test_midnights_shown_in_utc_are_the_days_of_their_zone(zone: str) -> None:
    """Fifty weeks, over both changes of the clock."""
    days = pd.bdate_range("2019-01-02", periods=250)
    shown = days.tz_localize(zone).tz_convert("UTC")
    for times in (shown, shown.as_unit("s").astype("int64"), shown.astype(str)):
        assert sessions(read_bars(frame_of(times), symbols="A", timezone=zone)) == dates(days)
    for options in ({}, {"stamp": "open"}, {"timezone": "Africa/Lagos", "stamp": "open"}):
        error = refusal(frame_of(shown), **options)
        assert error.line == 1
        assert f"timezone={zone!r}" in str(error)


def test_a_day_that_opens_at_a_clock_is_never_moved_to_the_next() -> None:
    opens = (DAYS + pd.Timedelta("09:30:00")).tz_localize("America/New_York")
    assert "Saturday" in str(refusal(frame_of(opens), stamp="open"))


# ── clocks beside dates ───────────────────────────────────────────────────────────────────────────


def test_a_clock_of_zeros_beside_the_date_is_a_day(tmp_path: Path) -> None:
    path = tmp_path / "aaa.txt"
    rows = [f"AAA.US,D,{day:%Y%m%d},000000,10,11,9,{10 + n % 2},100,0" for n, day in enumerate(DAYS)]
    path.write_text("\n".join(["<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>", *rows]))
    for source in (path, pd.read_csv(path)):
        bars = read_bars(source)
        assert set(bars["symbol"]) == {"AAA.US"}
        assert sessions(bars) == dates(DAYS)


@pytest.mark.parametrize(
    "clocks", [["093000", "103000"], ["0930", "1030"], [93000, 103000], [930, 1030], ["9:30", "10:30"]]
)
def test_clocks_in_any_notation(clocks: list[Any]) -> None:
    frame = frame_of(clocks * 3).assign(date=[20190102 + n // 2 for n in range(6)])
    for dated in (frame, frame.assign(date=pd.to_datetime(frame["date"].astype(str)))):
        bars = read_bars(dated, symbols="A", stamp="close", timezone="UTC")
        assert [f"{one:%d %H:%M}" for one in bars["time"]][:3] == ["02 09:30", "02 10:30", "03 09:30"]


def test_the_format_of_a_date_beside_a_clock() -> None:
    frame = frame_of(["09:30", "10:30"]).assign(date="03/04/2019")
    bars = read_bars(frame, symbols="A", stamp="close", timezone="UTC", date_format="%d/%m/%Y")
    assert bars["time"][0] == datetime(2019, 4, 3, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("clock", ["99:99", "999999", "24:61"])
def test_a_clock_that_is_none_is_refused_with_what_stands_there(clock: str) -> None:
    error = refusal(frame_of(["10:00" if ":" in clock else "100000"] * 3 + [clock]).assign(date="2019-01-02"))
    assert (error.line, error.column) == (4, "time")
    assert str(error.value).startswith("2019-01-02 ")


# ── the ends of time ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_day_at_the_end_of_time_is_refused(day: str, tmp_path: Path) -> None:
    rows = [*dates(DAYS[:-1]), date.fromisoformat(day)]
    assert refusal(frame_of(rows)).line == 60
    assert refusal(pl.from_pandas(frame_of(DAYS)).with_columns(time=pl.Series(rows))).line == 60
    frame_of(DAYS).to_parquet(tmp_path / "bars.parquet")
    for source in (frame_of(DAYS), tmp_path / "bars.parquet"):
        for name in ("start", "end", "as_of"):
            for value in (day, date.fromisoformat(day)):
                with pytest.raises(BarsError, match=f"^{name} = '{day}': expected a date from 1700 to 2200"):
                    read_bars(source, symbols="A", **{name: value})
        assert len(read_bars(source, symbols="A", start="1700-01-01", end="2200-12-31", as_of="2200-12-31")) == 60
        for name, beyond in (("start", "2200-12-31"), ("end", "1700-01-01"), ("as_of", "1700-01-01")):
            with pytest.raises(BarsError, match="no bars are left"):
                read_bars(source, symbols="A", **{name: beyond})


def test_counts_of_days_beyond_any_calendar_are_refused() -> None:
    far = pl.Series([2**31 - 1] * 60, dtype=pl.Int32).cast(pl.Date)
    assert refusal(pl.from_pandas(frame_of(DAYS)).with_columns(time=far)).line == 1


def test_now_needs_a_zone() -> None:
    with pytest.raises(BarsError, match="now must be a time with a zone"):
        read_bars(frame_of(DAYS), symbols="A", now=datetime(2019, 3, 26))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("count", [2**63 - 1, -(2**63 - 1)])
def test_times_beyond_all_reckoning_are_refused(
    unit: Literal["ms", "us", "ns"], zone: str | None, count: int, tmp_path: Path
) -> None:
    bars = synthetic.a1(60, seed=1).drop("known_at", "segment")
    usual = bars["time"].dt.replace_time_zone(None)
    counts = usual.dt.timestamp(unit).to_list()
    odd = pl.Series([*counts[:7], count, *counts[8:]]).cast(pl.Datetime(unit))
    odd = odd if zone is None else odd.cast(pl.Datetime(unit, zone))
    split = pl.DataFrame({"symbol": "A", "kind": "split", "value": 1.0, "date": [usual[5].date()] * 60})
    for column in ("time", "known_at", "x_known_at", "other"):
        table = bars.with_columns(x=pl.lit(1.0)).with_columns(odd.alias(column))
        table.write_parquet(tmp_path / "bars.parquet")
        for source in (table, tmp_path / "bars.parquet"):
            if column == "other":
                assert read_bars(source, stamp="close", timezone="UTC").height == 60
                continue
            with pytest.raises(BarsFileError) as caught:
                read_bars(source, stamp="close", timezone="UTC")
            assert caught.value.column == column
            assert caught.value.line == 8
    for column in ("date", "known_at"):
        with pytest.raises(BarsFileError, match="not a time") as caught:
            read_bars(bars, actions=split.with_columns(odd.alias(column)), stamp="close")
        assert (caught.value.line, caught.value.column) == (8, column)


@pytest.mark.parametrize("zone", [None, "UTC", "+05:30"])
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("count", [2**63 - 1, -(2**63 - 1)])
def test_arrow_tables_do_not_wrap_such_times(unit: str, zone: str | None, count: int) -> None:
    bars = synthetic.a1(60, seed=1).drop("known_at", "segment", "time")
    days = pa.array([1_600_000_000 + 86_400 * day for day in range(60)], pa.timestamp("s"))
    counts = days.cast(pa.timestamp(unit)).cast(pa.int64()).to_pylist()
    counts[7] = count
    table = bars.to_arrow().append_column("time", pa.array(counts, pa.int64()).cast(pa.timestamp(unit, zone)))
    with pytest.raises(BarsFileError, match="not a time") as caught:
        read_bars(table, stamp="close", timezone="UTC")
    assert (caught.value.line, caught.value.column) == (8, "time")
