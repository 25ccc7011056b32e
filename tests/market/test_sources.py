"""Reading bars: columns, symbols, times, numbers, files and frames, and what is refused with its place."""

from __future__ import annotations

import gzip
import inspect
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError, SettingsError
from gatecast.market import read_bars, read_with_findings, synthetic, tables
from gatecast.market.reading import BarsSettings
from gatecast.settings import words

HEADER = "date,open,high,low,close,volume"
NOON = datetime(2024, 3, 4, 12, tzinfo=UTC)


def day_rows(count: int = 6) -> list[str]:
    """Monday to Friday from 2024-03-04, over the start of summer time on 2024-03-10."""
    days = [date(2024, 3, 4) + timedelta(days=7 * (n // 5) + n % 5) for n in range(count)]
    return [f"{day},10,12,9,{10 + n % 10 / 10},{100 + n}" for n, day in enumerate(days)]


def stamped(times: list[str], symbol: str | None = None) -> list[str]:
    return [f"{symbol + ',' if symbol else ''}{time},10,12,9,{10 + n / 10},100" for n, time in enumerate(times)]


def write(path: Path, rows: list[str], header: str = HEADER, newline: str = "\n") -> Path:
    path.write_bytes(newline.join([header, *rows, ""]).encode())
    return path


def refusal(source: Any, **settings: Any) -> BarsFileError:
    with pytest.raises(BarsFileError) as caught:
        read_bars(source, **settings)
    return caught.value


# --- columns and symbols --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "Date,Open,High,Low,Close,Volume",
        "timestamp,o,h,l,c,v",
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "ts,1. open,2. high,3. low,4. close,5. volume",
        "TRADE DATE,Open Price,High Price,Low Price,Price,Vol.",
        ",Open,High,Low,Close,Volume",
    ],
)
def test_vendors_spellings(tmp_path: Path, header: str) -> None:
    bars = read_bars(write(tmp_path / "KO.csv", day_rows(), header))
    assert_frame_equal(bars, read_bars(write(tmp_path / "KO.csv", day_rows())))
    assert set(bars["symbol"]) == {"KO"}
    assert bars["close"].to_list() == [10.0, 10.1, 10.2, 10.3, 10.4, 10.5]


def test_date_stands_for_the_session_of_its_class(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    assert [time.hour for time in read_bars(path)["time"]] == [21] * 5 + [20]
    assert [time.hour for time in read_bars(path, asset_class="fx")["time"]] == [22] * 5 + [21]
    coin = read_bars(path, asset_class="crypto")["time"]
    assert coin[0] == datetime(2024, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize("symbol", ["NA", "NAN", "TRUE", "1E5", "007", "BRK/A", "../../etc/x", "=SUM(A1)"])
def test_symbols_stay_text(tmp_path: Path, symbol: str) -> None:
    rows = stamped(["2024-03-04", "2024-03-05"], symbol)
    bars = read_bars(write(tmp_path / "x.csv", rows, "Ticker," + HEADER))
    assert bars["symbol"].to_list() == [symbol, symbol]


def test_several_symbols_and_their_classes(tmp_path: Path) -> None:
    rows = stamped(["2024-03-04", "2024-03-05"], "DAX") + stamped(["2024-03-04", "2024-03-05"], "BTC")
    path = write(tmp_path / "all.csv", rows, "symbol," + HEADER)
    classes = tmp_path / "symbols.csv"
    classes.write_text("symbol,class,close,note\nDAX,index,17:30 Europe/Berlin,x\nBTC,crypto,,y\nZZZ,fx,,\n")
    bars = read_bars(path, symbols_file=classes)
    assert bars["asset_class"].to_list() == ["crypto"] * 2 + ["index"] * 2
    assert bars["time"].to_list()[1:3] == [datetime(2024, 3, 6, tzinfo=UTC), datetime(2024, 3, 4, 16, 30, tzinfo=UTC)]
    assert set(read_bars(path, symbols=["BTC"])["symbol"]) == {"BTC"}
    with pytest.raises(BarsError, match="Did you mean 'DAX'"):
        read_bars(path, symbols=["DAXX"])


def test_a_symbol_that_the_symbols_file_lacks_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    classes = tmp_path / "symbols.csv"
    classes.write_text("symbol,asset_class\nPEP,equity\n")
    reading = read_with_findings(path, symbols_file=classes, asset_class="etf")
    assert [(found.rule, found.symbol) for found in reading.findings] == [("not_listed", "KO")]
    assert set(reading.bars["asset_class"]) == {"etf"}


@pytest.mark.parametrize(
    ("line", "column", "value"),
    [("KO,equty", "asset_class", "equty"), ("KO,equity,25 o'clock", "close", "25 o'clock")],
)
def test_symbols_file_is_refused_with_its_line(tmp_path: Path, line: str, column: str, value: str) -> None:
    classes = tmp_path / "symbols.csv"
    classes.write_text(f"symbol,asset_class,close\nPEP,equity,\n{line}\n")
    error = refusal(write(tmp_path / "KO.csv", day_rows()), symbols_file=classes)
    assert (error.file, error.line, error.column, error.value) == (classes, 3, column, value)


def test_a_symbols_file_without_columns_is_refused_in_few_words(tmp_path: Path) -> None:
    (tmp_path / "symbols.csv").write_text("x" * 4000 + "\nA\n")
    with pytest.raises(BarsFileError, match="no symbols file") as found:
        read_bars(tmp_path / "bars.csv", symbols_file=tmp_path / "symbols.csv")
    assert len(str(found.value)) < 1000


def test_a_symbols_currency_comes_from_the_symbols_file(tmp_path: Path) -> None:
    rows = [row for name in ("SIE", "VOD", "KO") for row in stamped(["2024-03-04", "2024-03-05"], name)]
    path, classes = write(tmp_path / "all.csv", rows, "symbol," + HEADER), tmp_path / "symbols.csv"
    classes.write_text("symbol,asset_class,Currency\nSIE,equity,EUR\nVOD,equity,GBX\nKO,equity,\n")
    reading = read_with_findings(path, symbols_file=classes)
    assert reading.currencies == {"SIE": "EUR", "VOD": "GBX"}
    classes.write_text("symbol,asset_class,currency\nSIE,crypto,USDT\nVOD,crypto,C98\nKO,equity,GBp\n")
    assert read_with_findings(path, symbols_file=classes).currencies == {"SIE": "USDT", "VOD": "C98", "KO": "GBp"}
    for odd in ("pence", "usdt", "US", "U$D", "A" * 11, "USDT\u00a0x"):
        classes.write_text(f"symbol,asset_class,currency\nSIE,equity,EUR\nVOD,equity,{odd}\n")
        error = refusal(path, symbols_file=classes)
        assert (error.file, error.line, error.column, error.value) == (classes, 3, "currency", odd)
    classes.write_text("symbol,asset_class,currency\nSIE,equity,EUR\nSIE,equity,USD\n")
    assert "another class, close, calendar or currency" in str(refusal(path, symbols_file=classes))


def test_a_symbols_calendar_comes_from_the_symbols_file(tmp_path: Path) -> None:
    rows = [row for name in ("DAX", "KO", "BTC") for row in stamped(["2024-03-04", "2024-03-05"], name)]
    path, classes = write(tmp_path / "all.csv", rows, "symbol," + HEADER), tmp_path / "symbols.csv"
    classes.write_text("symbol,asset_class,Calendar\nDAX,index,FWB\nKO,equity,\nBTC,crypto,24/7\n")
    reading = read_with_findings(path, symbols_file=classes)
    assert dict(reading.classes.select("symbol", "calendar").iter_rows()) == {
        "BTC": "24/7", "DAX": "XFRA", "KO": "XNYS",
    }  # fmt: skip
    assert reading.calendars == {"DAX": "XFRA"}
    assert reading.bars.equals(read_bars(path, symbols_file=write_classes(tmp_path / "plain.csv")))
    for name, advice in (("XNYY", "Did you mean 'XNYS'?"), ("XTAE", "fails to make the calendar XTAE")):
        classes.write_text(f"symbol,asset_class,calendar\nDAX,index,\nKO,equity,{name}\n")
        error = refusal(path, symbols_file=classes)
        assert (error.file, error.line, error.column, error.value) == (classes, 3, "calendar", name)
        assert advice in str(error)
    classes.write_text("symbol,asset_class,calendar\nKO,equity,XETR\nKO,equity,XLON\n")
    assert "another class, close, calendar or currency" in str(refusal(path, symbols_file=classes))


def write_classes(path: Path) -> Path:
    path.write_text("symbol,asset_class\nDAX,index\nKO,equity\nBTC,crypto\n")
    return path


def test_further_numbers_are_kept_and_text_is_dropped(tmp_path: Path) -> None:
    rows = [f"{row},{n},USD,5pm" for n, row in enumerate(day_rows())]
    bars = read_bars(write(tmp_path / "KO.csv", rows, HEADER + ",Realised Var.(5m),currency,Change %"))
    assert bars.columns[-1] == "realised_var_5m"
    assert bars["realised_var_5m"].to_list() == [0, 1, 2, 3, 4, 5]
    assert len(bars.columns) == 11


@pytest.mark.parametrize("name", ["line", "table", "step", "rule", "stamp", "period", "over", "ratio", "gap"])
def test_any_name_serves_a_further_column(tmp_path: Path, name: str) -> None:
    rows = [f"{row},{n}" for n, row in enumerate(day_rows(10))]
    path = write(tmp_path / "KO.csv", rows, f"{HEADER},{name}")
    assert read_bars(path)[name].to_list() == list(range(10))
    assert read_bars(path, resample="1w")[name].to_list() == [4, 9]


def test_missing_and_repeated_columns_are_named(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "KO.csv", day_rows(), "date,opening,high,low,close,volume"))
    assert "no column for open; found: 'date', 'opening'" in str(error)
    error = refusal(write(tmp_path / "KO.csv", day_rows(), "date,open,high,low,Close,close"))
    assert (error.line, error.column) == (None, "close")
    error = refusal(write(tmp_path / "KO.csv", day_rows(), "date,open,high,low,close,close"))
    assert (error.line, error.column) == (1, "close")


def test_empty_symbols_of_several_are_refused(tmp_path: Path) -> None:
    rows = [*stamped(["2024-03-04"], "A"), *stamped(["2024-03-04"], "B"), ",2024-03-05,10,12,9,10,100"]
    error = refusal(write(tmp_path / "x.csv", rows, "symbol," + HEADER))
    assert (error.line, error.column) == (4, "symbol")


# --- times ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        ["2024-03-04T14:00:00Z", "2024-03-04T15:00:00Z", "2024-03-04T16:00:00Z"],
        ["2024-03-04 09:00:00-05:00", "2024-03-04 16:00:00+0100", "2024-03-04 16:00:00.000 UTC"],
        ["1709560800", "1709564400", "1709568000"],
        ["1709560800000", "1709564400000", "1709568000000"],
        ["1709560800000000", "1709564400000000", "1709568000000000"],
        ["1709560800000000000", "1709564400000000000", "1709568000000000000"],
    ],
)
def test_moments_with_a_zone(tmp_path: Path, times: list[str]) -> None:
    path = write(tmp_path / "KO.csv", stamped(times))
    close = [datetime(2024, 3, 4, hour, tzinfo=UTC) for hour in (14, 15, 16)]
    assert read_bars(path, stamp="close")["time"].to_list() == close
    assert read_bars(path, stamp="open")["time"].to_list() == [time + timedelta(hours=1) for time in close]
    error = refusal(path)
    assert (error.line, error.column) == (2, "time")
    assert "stamp=" in str(error)


@pytest.mark.parametrize(
    "times",
    [
        ["2024-03-04 09:30", "2024-03-04 10:30"],
        ["20240304 09:30:00", "20240304 10:30:00"],
        ["2024/3/4 9:30:00", "2024/3/4 10:30:00"],
        ["03/13/2024 09:30:00 AM", "03/13/2024 10:30:00 AM"],
    ],
)
def test_clock_times_need_a_zone(tmp_path: Path, times: list[str]) -> None:
    path = write(tmp_path / "KO.csv", stamped(times))
    error = refusal(path, stamp="close")
    assert (error.line, error.column) == (2, "time")
    assert "timezone=" in str(error)
    hours = [time.hour for time in read_bars(path, stamp="close", timezone="America/New_York")["time"]]
    assert hours in ([14, 15], [13, 14])  # winter, summer


def test_a_date_and_a_time_column_are_one(tmp_path: Path) -> None:
    rows = [f"2024.03.04,{hour}:00,1,2,1,1" for hour in (10, 11, 12)]
    path = write(tmp_path / "EURUSD.csv", rows, "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>")
    bars = read_bars(path, stamp="close", timezone="UTC", asset_class="fx")
    assert [time.hour for time in bars["time"]] == [10, 11, 12]


@pytest.mark.parametrize("clock", ["2024-11-03 01:30:00", "2024-03-10 02:30:00"])
def test_clock_times_that_are_twice_or_never(tmp_path: Path, clock: str) -> None:
    times = ["2024-03-04 01:30:00", "2024-03-04 02:30:00", clock]
    path = write(tmp_path / "KO.csv", stamped(times))
    error = refusal(path, stamp="close", timezone="America/New_York")
    assert (error.line, error.column, error.value) == (4, "time", clock)


def test_unknown_zone_and_stamp(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    with pytest.raises(BarsError, match="Mars/Olympus"):
        read_bars(path, timezone="Mars/Olympus")
    with pytest.raises(BarsError, match="stamp = 'middle': input should be 'open' or 'close'"):
        read_bars(path, stamp="middle")  # type: ignore[arg-type]


def test_dates_whose_order_is_unknown(tmp_path: Path) -> None:
    unclear = [row.replace("2024-03-04", "03/04/2024").replace("2024-03-05", "03/05/2024") for row in day_rows(2)]
    path = write(tmp_path / "KO.csv", unclear)
    error = refusal(path)
    assert (error.line, error.column, error.value) == (2, "time", "03/04/2024")
    assert "date_format=" in str(error)
    assert read_bars(path, date_format="%m/%d/%Y")["time"].dt.month().to_list() == [3, 3]
    assert read_bars(path, date_format="%d/%m/%Y")["time"].dt.month().to_list() == [4, 5]
    path = write(tmp_path / "KO.csv", [*unclear, "13/04/2024,10,12,9,10,1"])
    assert read_bars(path)["time"].dt.day().to_list() == [3, 13, 3]
    error = refusal(write(tmp_path / "KO.csv", [*unclear, "13/04/2024,1,1,1,1,1", "04/13/2024,1,1,1,1,1"]))
    assert "changes" in str(error)


@pytest.mark.parametrize(
    ("times", "line", "text"),
    [
        (["1709560800", "1709564400000", "1709568000"], 3, "milliseconds"),
        (["2024-03-04", "yesterday", "2024-03-06"], 3, "not a time"),
        (["2024-03-04", "", "2024-03-06"], 3, "missing"),
        (["2024-03-04", "2024-02-30", "2024-03-06"], 3, "not a time"),
        (["2024-03-04", "٢٠٢٤-03-05"], 3, "not a time"),
        (["١٢", "١٣"], 2, "not a time"),
        (["0", "1", "2"], 2, "neither"),
        (["45355", "45356", "45357"], 2, "neither"),
        (["3024-03-04", "3024-03-05"], 2, "not a time"),
    ],
)
def test_times_that_are_none(tmp_path: Path, times: list[str], line: int, text: str) -> None:
    error = refusal(write(tmp_path / "KO.csv", stamped(times)))
    assert (error.line, error.column) == (line, "time")
    assert text in str(error)


def test_open_and_close_times_tell_the_stamp(tmp_path: Path) -> None:
    rows = [f"{1709560800000 + n * 3600000},10,12,9,10,5,{1709564399999 + n * 3600000}" for n in range(3)]
    path = write(tmp_path / "BTCUSDT.csv", rows, "Open time,Open,High,Low,Close,Volume,Close time")
    hours = [time.hour for time in read_bars(path, asset_class="crypto")["time"]]
    assert hours == [15, 16, 17]
    only_open = [row.rsplit(",", 1)[0] for row in rows]
    path = write(tmp_path / "BTCUSDT.csv", only_open, "Open time,Open,High,Low,Close,Volume")
    assert [time.hour for time in read_bars(path, asset_class="crypto")["time"]] == hours


def test_bar_length_is_the_usual_spacing(tmp_path: Path) -> None:
    """Seven hourly bars a day: the night is no bar length."""
    times = [f"2024-03-{day:02} {hour}:00:00Z" for day in (4, 5, 6) for hour in range(14, 21)]
    bars = read_bars(write(tmp_path / "KO.csv", stamped(times)), stamp="open")
    assert bars["time"].to_list() == [
        datetime(2024, 3, day, hour, tzinfo=UTC) for day in (4, 5, 6) for hour in range(15, 22)
    ]


def test_weekly_and_monthly_dates_need_a_stamp(tmp_path: Path) -> None:
    """A week dated with its Monday would be known five days before it is over."""
    mondays = [str(date(2024, 1, 1) + timedelta(days=7 * n)) for n in range(8)]
    path = write(tmp_path / "KO.csv", stamped(mondays))
    error = refusal(path)
    assert (error.line, error.value) == (2, "2024-01-01")
    sundays = read_bars(path, stamp="open")["time"].dt.date().to_list()
    assert sundays == [date(2024, 1, 7) + timedelta(days=7 * n) for n in range(8)]
    assert read_bars(path, stamp="close")["time"][0] == datetime(2024, 1, 1, 21, tzinfo=UTC)
    firsts = [str(date(2023, month, 1)) for month in range(1, 13)]
    path = write(tmp_path / "KO.csv", stamped(firsts))
    assert read_bars(path, stamp="open")["time"].dt.day().to_list() == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def test_two_lengths_of_bars_are_refused(tmp_path: Path) -> None:
    hours = [f"2024-03-04 {hour:02}:00:00Z" for hour in range(24)]
    days = [f"2024-03-{day:02} 00:00:00Z" for day in range(5, 15)]
    error = refusal(write(tmp_path / "BTC.csv", stamped(hours + days)), stamp="close")
    assert error.line is not None
    assert error.line in range(25, 28)
    minutes = [f"2024-03-05 12:{minute:02}:00Z" for minute in range(30)]
    error = refusal(write(tmp_path / "BTC.csv", stamped([*hours, *minutes[:10]])), stamp="close")
    assert "long" in str(error)


def test_a_live_last_bar_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    live = datetime(2024, 3, 11, 19, 59, tzinfo=UTC)
    reading = read_with_findings(path, now=live)
    assert reading.bars.height == 5
    assert [(found.rule, found.line) for found in reading.findings] == [("unfinished", 7)]
    assert read_bars(path, now=live + timedelta(minutes=1)).height == 6
    error = refusal(write(tmp_path / "KO.csv", day_rows(40)), now=NOON)
    assert "in the future" in str(error)


def test_bars_of_sessions_that_are_open_are_left_out_however_many(tmp_path: Path) -> None:
    """In the evening coins and currencies of a store of several classes have not closed, shares have."""
    days = [f"2024-03-{day:02}" for day in (7, 8)]
    names = [("KO", "equity"), *((f"C{number}-USD", "crypto") for number in range(9))]
    lines = [f"{name},{kind},{day},10,11,9,10,100" for name, kind in names for day in days]
    path = write(tmp_path / "day.csv", lines, f"symbol,asset_class,{HEADER}")
    evening = datetime(2024, 3, 8, 21, 30, tzinfo=UTC)
    reading = read_with_findings(path, now=evening)
    closed = reading.bars.group_by("symbol").len()
    assert dict(closed.iter_rows()) == {name: 2 if kind == "equity" else 1 for name, kind in names}
    assert [found.rule for found in reading.findings].count("unfinished") == 9
    error = refusal(path, now=evening - timedelta(days=2))
    assert "more than a day after now" in str(error)


def test_start_end_and_as_of(tmp_path: Path) -> None:
    rows = [f"{row},{row[:10]}" for row in day_rows()]
    rows.append("2024-03-05,10,12,9,11,101,2024-03-07")  # the bar of the fifth, corrected on the seventh
    path = write(tmp_path / "KO.csv", rows, HEADER + ",known_at")
    reading = read_with_findings(path)
    assert {found.rule: found.value for found in reading.findings} == {"revised": 1}
    assert reading.bars["close"][1] == 10.1
    assert read_bars(path, versions="newest")["close"][1] == 11.0
    assert read_bars(path, as_of="2024-03-06")["close"].to_list() == [10.0, 10.1, 10.2]
    assert read_bars(path, as_of="2024-03-07")["close"].to_list() == [10.0, 11.0, 10.2, 10.3]
    assert read_bars(path, as_of="2024-03-06T12:00:00+00:00")["close"].to_list() == [10.0, 10.1]
    assert read_bars(path, start="2024-03-06", end=date(2024, 3, 8)).height == 3
    with pytest.raises(BarsError, match="no bars are left with start=2025-01-01"):
        read_bars(path, start="2025-01-01")
    with pytest.raises(BarsError, match="start must be a date"):
        read_bars(path, start="soon")
    with pytest.raises(BarsError, match="offset"):
        read_bars(path, as_of="2024-03-06T12:00:00")


def test_known_before_the_close_is_refused(tmp_path: Path) -> None:
    rows = [f"{row},2024-03-03" for row in day_rows()]
    error = refusal(write(tmp_path / "KO.csv", rows, HEADER + ",known_at"))
    assert (error.line, error.column) == (2, "known_at")


# --- rows and numbers -----------------------------------------------------------------------------------------


def test_repeats_are_dropped_and_counted_and_clashes_refused(tmp_path: Path) -> None:
    rows = day_rows()
    reading = read_with_findings(write(tmp_path / "KO.csv", [*rows, rows[2], rows[2]]))
    (found,) = reading.findings
    assert (found.rule, found.value, found.line) == ("duplicate", 2, 8)
    assert reading.bars.height == 6
    error = refusal(write(tmp_path / "KO.csv", [*rows, "2024-03-06,10,12,9,11,102"]))
    assert (error.line, error.column, error.value) == (8, "close", 11.0)
    assert "line 4" in str(error)


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ("nan,12,9,10,1", "missing_price"),
        ("10,inf,9,10,1", "not_finite"),
        ("10,12,0,10,1", "non_positive"),
        ("10,12,9,-10,1", "non_positive"),
        ("1e-12,1e-12,1e-12,1e-12,1", "out_of_bounds"),
        ("10,9,12,10,1", "high_below_low"),
        ("10,12,9,14,1", "outside_range"),
        ("10,12,0.5,10,1", "spike"),
        ("10,99,9,10,1", "spike"),
        ("10,12,9,10,-1", "bad_volume"),
    ],
)
def test_bars_that_cannot_be_true_are_left_out(tmp_path: Path, cells: str, rule: str) -> None:
    rows = day_rows()
    rows[3] = f"2024-03-07,{cells}"
    reading = read_with_findings(write(tmp_path / "KO.csv", rows))
    (found,) = reading.findings
    assert (found.severity, found.rule, found.line) == ("error", rule, 5)
    assert found.time == datetime(2024, 3, 7, 21, tzinfo=UTC)
    assert reading.bars.height == 5


def test_too_many_bad_bars_refuse_the_file(tmp_path: Path) -> None:
    rows = day_rows(100)
    for n in range(40, 46):
        rows[n] = rows[n][:10] + ",10,9,12,10,1"
    error = refusal(write(tmp_path / "KO.csv", rows))
    assert (error.line, error.column) == (42, "high")
    assert "6 of the 100 bars" in str(error)
    rows[45] = day_rows(100)[45]
    assert read_bars(write(tmp_path / "KO.csv", rows)).height == 95


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("date;open;high;low;close;volume\n2024-03-04;1.010,5;1.020,25;1.000;1.015,5;1.000\n", 1015.5),
        ("date;open;high;low;close;volume\n2024-03-04;1,05;1,0725;1;1,06;1000\n", 1.06),
        ('date,open,high,low,close,volume\n2024-03-04,"1,010.5","1,020.0",999.5,"1,015.5","1,000"\n', 1015.5),
        ("date\topen\thigh\tlow\tclose\tvolume\n2024-03-04\t10\t11\t9\t10.5\t1K\n", 10.5),
        ('date,open,high,low,close,volume\n"2024-03-04",10,11,9,10.5,1.0k\n', 10.5),
    ],
)
def test_notations_of_numbers(tmp_path: Path, text: str, close: float) -> None:
    path = tmp_path / "KO.csv"
    path.write_text(text)
    bars = read_bars(path)
    assert (bars["close"][0], bars["volume"][0]) == (close, 1000.0)


@pytest.mark.parametrize(
    ("cell", "text"),
    [('"1,010"', "may be a decimal point"), ('"1,01"', "decimal point"), ("ten", "not a number"), ("$10", "not a")],
)
def test_numbers_that_are_none_or_two(tmp_path: Path, cell: str, text: str) -> None:
    error = refusal(write(tmp_path / "KO.csv", ["2024-03-04,10,12,9,10,1", f"2024-03-05,10,12,9,{cell},100"]))
    assert error.line == 3
    assert text in str(error)


def test_prices_can_be_scaled(tmp_path: Path) -> None:
    bars = read_bars(write(tmp_path / "VOD.csv", day_rows()), scale=0.01)
    assert bars["close"][1] == pytest.approx(0.101)


# --- files and frames -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: ("\n\n" + text + "\n,,,,,\n\n").encode(),
        lambda text: ("# vendor's remark\n" + text).encode(),
    ],
    ids=["bom", "utf16", "crlf", "cr", "blank lines", "remark"],
)
def test_text_in_any_dress(tmp_path: Path, encode: Any) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    plain = read_bars(path)
    path.write_bytes(encode(path.read_text()))
    assert_frame_equal(read_bars(path), plain)


def test_lines_are_counted_over_blank_ones(tmp_path: Path) -> None:
    rows = [*day_rows(2), "", "", "2024-03-06,10,12,9,x,100"]
    assert refusal(write(tmp_path / "KO.csv", rows, newline="\r\n")).line == 6


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"date,open,high,low,close\n", "no row has a price"),
        (b"date,open,high,low,close\n2024-03-04,,,,\n", "no row has a price"),
        (b"date,open,high,low,close\n2024-03-04,1,1,1,1,1,1\n", "7 cells"),
        (b"2024-03-04,1,1,1,1\n", "header="),
        (b"date,open\xff,high,low,close\n", "UTF-8"),
        (b"PK\x03\x04\x00\x00\x00", "zero byte"),
        (b"date,open,high,low,close\n2024-03-04,1,1,1,1\n2024-03-05,-1,1,1,1\n" + b"x,1,1,1,1\n", "not a time"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "KO.csv"
    path.write_bytes(content)
    error = refusal(path)
    assert str(path) in str(error)
    assert text in str(error)


def test_a_file_without_header_line(tmp_path: Path) -> None:
    path = tmp_path / "KO.csv"
    path.write_text("\n".join(day_rows()))
    bars = read_bars(path, header=HEADER.split(","))
    assert bars.height == 6
    assert "header= names 5" in str(refusal(path, header=HEADER.split(",")[:5]))


def test_limits_hold_before_parsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "KO.csv", day_rows(200))
    packed = tmp_path / "KO.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    parquet = tmp_path / "KO.parquet"
    read_bars(path).with_columns(pl.lit(1.0).alias("x")).write_parquet(parquet)
    assert read_bars(packed)["symbol"][0] == "KO"
    monkeypatch.setenv("GATECAST_MAX_BYTES", "3000")
    assert packed.stat().st_size < 3000
    for big in (path, packed, parquet):
        assert "bytes" in str(refusal(big))
        assert "if it is your own, set GATECAST_MAX_BYTES to more than 3,000" in str(refusal(big))
    for wrong in ("3 GB", "0", "-1", "1" * 5000):
        monkeypatch.setenv("GATECAST_MAX_BYTES", wrong)
        with pytest.raises(SettingsError, match=r"GATECAST_MAX_BYTES = .*: expected a whole number of bytes"):
            read_bars(path)
    monkeypatch.setenv("GATECAST_MAX_BYTES", str(2**40))
    assert len(read_bars(parquet)) == 200
    monkeypatch.setattr(tables, "MAX_COLUMNS", 5)
    for wide in (path, parquet):
        assert "columns" in str(refusal(wide))
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 10)
    assert "longer than" in str(refusal(path))


def test_parquet_of_dates_and_of_times(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["KO"] * 3,
            "timestamp": [datetime(2024, 3, day) for day in (4, 5, 6)],
            **{name: [10.0, 11.0, 12.0] for name in ("open", "high", "low", "close")},
            "volume": [None, 1.0, 2.0],
        },
        schema_overrides={"timestamp": pl.Datetime("ms")},
    )
    frame.write_parquet(tmp_path / "days.parquet")
    assert [time.hour for time in read_bars(tmp_path / "days.parquet")["time"]] == [21] * 3
    hours = [datetime(2024, 3, 4, hour) for hour in (12, 13, 14)]
    hourly = frame.with_columns(timestamp=pl.Series(hours, dtype=pl.Datetime("ms")))
    hourly.write_parquet(tmp_path / "hours.parquet")
    assert refusal(tmp_path / "hours.parquet").line == 1
    bars = read_bars(tmp_path / "hours.parquet", timezone="UTC", stamp="open")
    assert [time.hour for time in bars["time"]] == [13, 14, 15]


def test_parquet_with_other_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"date": ["2024-03-04"], "close": pa.array([[1.0]])}), path)
    assert refusal(path).column == "close"
    path.write_bytes(b"not parquet at all")
    assert "not a readable Parquet file" in str(refusal(path))


def test_bars_written_and_read_are_the_same(tmp_path: Path) -> None:
    coin = read_bars(write(tmp_path / "BTC.csv", day_rows()), asset_class="crypto")
    share = read_bars(write(tmp_path / "KO.csv", [f"{row},7" for row in day_rows()], HEADER + ",mood"))
    bars = pl.concat([coin, share], how="diagonal")
    bars.write_parquet(tmp_path / "bars.parquet")
    bars.write_csv(tmp_path / "bars_text.csv")
    assert_frame_equal(read_bars(tmp_path / "bars.parquet"), bars)
    assert_frame_equal(read_bars(tmp_path / "bars_text.csv"), bars)
    assert_frame_equal(read_bars(bars), bars)


def test_many_files_a_folder_a_glob_and_partitions(tmp_path: Path) -> None:
    ko, pep = write(tmp_path / "KO.csv", day_rows()), write(tmp_path / "PEP.csv", day_rows())
    both = read_bars([ko, str(pep)])
    assert both["symbol"].to_list() == ["KO"] * 6 + ["PEP"] * 6
    assert_frame_equal(read_bars(tmp_path), both)
    assert_frame_equal(read_bars(str(tmp_path / "*.csv")), both)
    assert_frame_equal(read_bars(tmp_path, symbols="PEP"), read_bars(pep))
    for symbol in ("KO", "BRK/B"):
        folder = tmp_path / "lake" / f"symbol={symbol.replace('/', '%2F')}"
        folder.mkdir(parents=True)
        pl.read_csv(ko, try_parse_dates=True).write_parquet(folder / "part-0.parquet")
    assert set(read_bars(tmp_path / "lake")["symbol"]) == {"KO", "BRK/B"}
    for nowhere in (tmp_path / "nothing.csv", str(tmp_path / "*.xyz")):
        assert refusal(nowhere).file == nowhere
    (tmp_path / "hollow").mkdir()
    assert "no data files" in str(refusal(tmp_path / "hollow"))


def test_an_error_in_one_of_many_files_names_it(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "KO.csv", day_rows()), write(tmp_path / "PEP.csv", ["2024-03-04,1,1,1,x,1"])
    error = refusal([good, bad])
    assert (error.file, error.line, error.column, error.value) == (str(bad), 2, "close", "x")


def test_frames_of_pandas_and_polars(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    bars = read_bars(path)
    plain = pd.read_csv(path)
    assert_frame_equal(read_bars(plain, symbols="KO"), bars)
    indexed = plain.assign(date=pd.to_datetime(plain["date"])).set_index("date")
    assert_frame_equal(read_bars(indexed, symbols="KO"), bars)
    assert_frame_equal(read_bars(indexed.rename_axis(None), symbols="KO"), bars)
    local = indexed.set_index(indexed.index.tz_localize("America/New_York"))
    assert_frame_equal(read_bars(local, symbols="KO"), bars)
    by_symbol = pd.concat({"KO": indexed, "PEP": indexed}, names=["symbol"])
    assert_frame_equal(read_bars(by_symbol, symbols=["KO"]), bars)
    side_by_side = pd.concat({"KO": indexed, "PEP": indexed}, axis=1)
    assert set(read_bars(side_by_side)["symbol"]) == {"KO", "PEP"}
    assert_frame_equal(read_bars(side_by_side.swaplevel(axis=1), symbols="KO"), bars)
    assert_frame_equal(read_bars(pl.read_csv(path), symbols="KO"), bars)
    assert_frame_equal(read_bars(pl.scan_csv(path), symbols="KO"), bars)
    assert set(read_bars(pl.read_csv(path))["symbol"]) == {"UNNAMED"}
    with pytest.raises(BarsError, match="got dict"):
        read_bars({"open": [1.0]})


def test_rows_of_frames_are_counted() -> None:
    frame = pl.DataFrame({"date": ["2024-03-04", "x"], **{name: [1.0, 1.0] for name in ("o", "h", "l", "c")}})
    error = refusal(frame)
    assert (error.file, error.line, error.column) == (None, 2, "time")


def test_the_embedded_market_is_that_of_arch() -> None:
    from arch.data import nasdaq, sp500

    bars = read_bars("embedded")
    assert bars.group_by("symbol", maintain_order=True).len().rows() == [("NASDAQ", 5031), ("SP500", 5031)]
    assert set(bars["asset_class"]) == {"index"}
    for symbol, theirs in (("SP500", sp500.load()), ("NASDAQ", nasdaq.load())):
        ours = bars.filter(symbol=symbol)
        for name in ("open", "high", "low", "close", "volume"):
            np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name.title()].to_numpy())
        assert ours["time"].dt.date().to_list() == [day.date() for day in theirs.index]


def test_the_embedded_market_is_read_without_what_ships_it() -> None:
    code = (
        "import sys\nfrom gatecast.market.sources import read_bars\nread_bars('embedded')\n"
        "print([name for name in ('arch', 'pandas', 'statsmodels') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_resample_on_reading(tmp_path: Path) -> None:
    bars = read_bars(write(tmp_path / "KO.csv", day_rows(10)), resample="1w")
    assert bars["close"].to_list() == [10.4, 10.9]
    assert bars["volume"].to_list() == [510.0, 535.0]


def test_read_bars_of_daily_bars_at_the_cut(tmp_path: Path) -> None:
    """What the past looked like does not change when later rows come."""
    noise = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(noise.normal(0, 0.02, 60)))
    days = [date(2024, 1, 1) + timedelta(days=n + (20 if n > 30 else 0)) for n in range(60)]
    rows = [f"{day},{c},{c * 1.01},{c * 0.99},{c},1" for day, c in zip(days, close, strict=True)]
    rows[45] = f"{days[45]},17.73,17.85,-40.32,-37.63,1"
    whole = read_bars(write(tmp_path / "BTC.csv", rows), asset_class="crypto")
    assert whole["segment"].max() == 2
    for cut in range(2, 60):
        part = read_bars(write(tmp_path / "BTC.csv", rows[:cut]), asset_class="crypto")
        assert_frame_equal(part, whole.head(part.height))


def test_a_late_sunday_does_not_move_earlier_closes() -> None:
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 3, 1), eager=True)
    rows = pl.DataFrame({"date": days.filter(days.dt.weekday() <= 5)}).with_columns(
        open=1.1, high=1.2, low=1.0, close=1.1, volume=1.0
    )
    sunday = rows.tail(1).with_columns(date=pl.date(2024, 3, 3))
    short, longer = (
        read_bars(frame, symbols=["EURUSD"], asset_class="fx", end="2024-02-15")
        for frame in (rows, pl.concat([rows, sunday]))
    )
    assert short["time"].equals(longer["time"])
    whole = read_bars(pl.concat([rows, sunday]), symbols=["EURUSD"], asset_class="fx")["time"]
    assert whole.head(len(short)).equals(short["time"])
    assert whole[-1] == datetime(2024, 3, 4, tzinfo=UTC)


def test_a_symbol_has_one_class_in_all_rows() -> None:
    bars = synthetic.a1(60, seed=1).drop("asset_class")
    kinds = ["equity", None, "fx"] * 20
    with pytest.raises(BarsFileError, match="of the class equity in its first row") as caught:
        read_bars(bars.with_columns(asset_class=pl.Series(kinds)))
    assert (caught.value.line, caught.value.column, caught.value.value) == (3, "asset_class", "fx")
    some = pl.Series([None if kind == "equity" else "fx" for kind in kinds])
    assert read_bars(bars.with_columns(asset_class=some))["asset_class"].unique().to_list() == ["fx"]


@pytest.mark.parametrize("mark", ["2", "maybe", "-1", "nan?"])
def test_a_mark_that_is_neither_yes_nor_no_is_refused(mark: str) -> None:
    bars = synthetic.a1(60, seed=1)
    marks = ["1", "true", "Yes", "0", mark, *["1"] * 55]
    for name in ("traded", "suspended"):
        with pytest.raises(BarsFileError, match="Expected 1, true or yes") as caught:
            read_bars(bars.with_columns(pl.Series(name, marks)))
        assert (caught.value.line, caught.value.column, caught.value.value) == (5, name, mark)


def test_columns_that_no_file_has_are_refused() -> None:
    bars = synthetic.a1(60, seed=1).with_columns(sentiment=pl.lit(1.0), note=pl.lit("x"))
    assert "sentiment" in read_bars(bars, columns=["sentiment"]).columns
    for name, advice in (("sentimant", "Did you mean 'sentiment'?"), ("nope", "Known: sentiment.")):
        with pytest.raises(BarsError, match=f"columns names '{name}'") as caught:
            read_bars(bars, columns=[name])
        assert advice in str(caught.value)
    with pytest.raises(BarsError, match="It has none"):
        read_bars(bars.drop("sentiment"), columns=["nope"])


def test_codes_for_missing_values_in_further_columns_are_told_and_infinite_cells_emptied() -> None:
    bars = synthetic.a1(60, seed=1)
    wave = [float(np.sin(n)) for n in range(60)]
    cells = pl.Series([*wave[:7], -9999.0, float("inf"), *wave[9:]])
    reading = read_with_findings(bars.with_columns(x=cells, flag=pl.Series([0.0] * 59 + [1.0])))
    told = {one.rule: one for one in reading.findings}
    assert (told["far_out"].value, told["far_out"].line, told["far_out"].severity) == (-9999.0, 8, "warning")
    assert "'x'" in told["far_out"].advice
    assert told["not_finite"].line == 9
    assert reading.bars["x"].to_list()[6:10] == [wave[6], -9999.0, None, wave[9]]
    assert len(reading.findings) == 2
    assert not read_with_findings(bars.with_columns(x=cells, y=pl.Series(wave)), columns=["y"]).findings


def test_options_in_an_object_read_as_options_given_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path / "KO.csv", day_rows())
    settings = BarsSettings(source=str(path), asset_class="index", scale=2.0)
    assert read_bars(settings).equals(read_bars(path, asset_class="index", scale=2.0))
    assert read_bars(settings, scale=3.0).equals(read_bars(path, asset_class="index", scale=3.0))
    with pytest.raises(BarsError, match=r"unknown setting 'asset_clas'\. Did you mean 'asset_class'"):
        read_bars(path, asset_clas="index")


def test_every_setting_of_bars_is_an_option_of_the_reader_with_its_words() -> None:
    own = set(BarsSettings.model_fields) - {"source", "frame"}
    assert own <= set(inspect.signature(read_bars).parameters)
    said = " ".join(str(read_bars.__doc__).split())
    for name in own - {"splits", "actions", "delisting"}:
        assert f"{name}: {words(BarsSettings.model_fields[name])}" in said
