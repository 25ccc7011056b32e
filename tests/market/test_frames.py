"""Frames in memory and files of several header lines: read, or refused by column and row."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError
from gatecast.market import read_bars, read_with_findings

DAYS = pd.bdate_range("2019-01-02", periods=40)


def frame_of(scale: float = 1.0) -> pd.DataFrame:
    close = scale * (10 + np.arange(40) % 7 * 0.5)
    return pd.DataFrame(
        {"Date": DAYS, "Open": close, "High": close * 1.1, "Low": close * 0.9, "Close": close, "Volume": 5.0}
    )


def refusal(source: Any) -> BarsFileError:
    with pytest.raises(BarsFileError) as caught:
        read_bars(source, symbols="A")
    return caught.value


# ── columns ───────────────────────────────────────────────────────────────────────────────────────


def test_a_column_that_is_there_twice_is_named() -> None:
    frame = frame_of()
    assert refusal(pd.concat([frame, frame[["Close"]]], axis=1)).column == "Close"
    assert refusal(frame.set_index(pd.Index(range(40), name="Date"))).column == "Date"
    assert refusal(frame.rename(columns={"Open": 1, "High": "1"})).column == "1"
    two = pd.concat({"A": frame.set_index("Date"), "B": frame.set_index("Date")}, axis=1)
    assert refusal(pd.concat([two, two[[("B", "Close")]]], axis=1)).column == "B, Close"


def test_an_index_that_repeats_a_column_is_read_once() -> None:
    frame = frame_of()
    assert_frame_equal(read_bars(frame.set_index("Date", drop=False), symbols="A"), read_bars(frame, symbols="A"))


def test_a_mixed_column_is_read_as_a_file_is() -> None:
    frame = frame_of()
    mixed = frame.assign(Close=frame["Close"].astype(object), Volume=[1, "2", None, Decimal("4.5")] * 10)
    mixed.loc[5, "Close"] = "n/a"
    reading = read_with_findings(mixed, symbols="A")
    assert [(one.rule, one.line) for one in reading.findings] == [("missing_price", 6)]
    assert reading.bars["volume"].to_list()[:4] == [1.0, 2.0, None, 4.5]
    mixed.loc[7, "Close"] = "ten"
    error = refusal(mixed)
    assert (error.line, error.column, error.value) == (8, "close", "ten")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([object()] * 40),
        pd.Series([[1.0]] * 40),
        pd.Series([1j] * 40),
        pd.Series(pd.interval_range(0, 40)),
        pd.Series(pd.to_timedelta(range(40), "D")),
        pd.Series([b"10"] * 40),
    ],
    ids=["object", "list", "complex", "interval", "duration", "bytes"],
)
def test_a_price_of_a_strange_type_is_refused_and_another_column_dropped(column: pd.Series) -> None:
    error = refusal(frame_of().assign(Close=column))
    assert str(error.column).lower() == "close"
    if column.dtype.kind != "c":
        assert "other" not in read_bars(frame_of().assign(other=column), symbols="A").columns


def test_polars_objects_and_lists_are_refused_by_column() -> None:
    frame = pl.from_pandas(frame_of())
    for strange in (pl.Series([object()] * 40, dtype=pl.Object), pl.Series([[1.0]] * 40), pl.Series([b"x"] * 40)):
        assert refusal(frame.with_columns(Close=strange)).column == "close"
        assert refusal(frame.with_columns(symbol=strange)).column == "symbol"
        assert "other" not in read_bars(frame.with_columns(other=strange), symbols="A").columns


@pytest.mark.parametrize("change", [lambda f: f.set_index(f["Date"].dt.to_period("D")).drop(columns="Date")])
def test_periods_are_days(change: Any) -> None:
    assert_frame_equal(read_bars(change(frame_of()), symbols="A"), read_bars(frame_of(), symbols="A"))


def test_a_class_that_is_a_number_is_refused() -> None:
    with pytest.raises(BarsError, match="asset class '3' is unknown"):
        read_bars(frame_of().assign(asset_class=3), symbols="A")


# ── two levels of columns ─────────────────────────────────────────────────────────────────────────


def side_by_side(*tickers: str) -> pd.DataFrame:
    """Columns (ticker, field); each ticker's prices are its number times the first one's."""
    return pd.concat({name: frame_of(n + 1.0).set_index("Date") for n, name in enumerate(tickers)}, axis=1)


@pytest.mark.parametrize("tickers", [("AAPL",), ("C", "V", "KO"), ("7203", "6758")])
@pytest.mark.parametrize("fields_first", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_fields_and_tickers_in_either_order(
    tickers: tuple[str, ...], fields_first: bool, reset: bool, tmp_path: Path
) -> None:
    frame = side_by_side(*tickers)
    frame = frame.swaplevel(axis=1) if fields_first else frame
    frame = frame.reset_index() if reset else frame
    expected = pl.concat([read_bars(frame_of(n + 1.0), symbols=name) for n, name in enumerate(tickers)])
    assert_frame_equal(read_bars(frame), expected.sort("symbol", "time"))
    if reset and fields_first and tickers[0].isdigit():
        return  # in text the second line would be a row of numbers
    frame.to_csv(tmp_path / "bars.csv", index=not reset)
    assert_frame_equal(read_bars(tmp_path / "bars.csv"), expected.sort("symbol", "time"))


@pytest.mark.parametrize("names", [["Price", "Ticker"], ["Ticker", "Price"]])
def test_named_levels_in_a_file(names: list[str], tmp_path: Path) -> None:
    frame = side_by_side("AAPL", "MSFT").swaplevel(axis=1)
    frame.columns.names = ["Price", "Ticker"]
    frame = frame.reorder_levels(names, axis=1)
    frame.to_csv(tmp_path / "bars.csv")
    bars = read_bars(tmp_path / "bars.csv")
    assert_frame_equal(bars.filter(symbol="MSFT"), read_bars(frame_of(2.0), symbols="MSFT"))


def test_a_ticker_is_written_once_over_its_columns(tmp_path: Path) -> None:
    """As a spreadsheet saves merged cells."""
    rows = ["AAPL,,,,MSFT,,,", "Open,High,Low,Close,Open,High,Low,Close"]
    rows += [f"{day:%Y-%m-%d},10,11,9,{10 + n % 2},20,22,18,{20 + n % 3}" for n, day in enumerate(DAYS)]
    (tmp_path / "bars.csv").write_text("\n".join(["Ticker," + rows[0], "Date," + rows[1], *rows[2:]]))
    bars = read_bars(tmp_path / "bars.csv")
    assert bars.filter(symbol="MSFT")["close"].to_list()[:3] == [20.0, 21.0, 22.0]


def test_an_ordinary_file_has_one_header_line(tmp_path: Path) -> None:
    head = "Ticker,Date,Open,High,Low,Close"
    for rows in (["AAPL,2019-01-02,10,11,9,10", "AAPL,2019-01-03,,,,", "AAPL,2019-01-04,10,11,9,10.5"],):
        (tmp_path / "bars.csv").write_text("\n".join([head, *rows]))
        assert read_bars(tmp_path / "bars.csv")["symbol"].to_list() == ["AAPL", "AAPL"]
    (tmp_path / "bars.csv").write_text("Date,Open,High,Low,Close\n2019-01-02,,,,\n2019-01-03,10,11,9,10\n")
    assert len(read_bars(tmp_path / "bars.csv", symbols="A")) == 1


def test_three_levels_are_refused() -> None:
    with pytest.raises(BarsError, match="3 levels"):
        read_bars(pd.concat({"x": side_by_side("A")}, axis=1))


# ── several files of one symbol ───────────────────────────────────────────────────────────────────


def write(folder: Path, **parts: pd.DataFrame) -> Path:
    for name, part in parts.items():
        part.to_csv(folder / f"{name.replace('__', '-')}.csv", index=False)
    return folder


@pytest.mark.parametrize("names", [("BTC__2024", "BTC__2025"), ("2024__01", "2024__02"), ("2024_btc", "2025_btc")])
def test_files_that_follow_one_another_are_one_symbol(names: tuple[str, str], tmp_path: Path) -> None:
    frame = frame_of()
    write(tmp_path, **{names[0]: frame[:20], names[1]: frame[20:]})
    reading = read_with_findings(tmp_path, symbols="BTC")
    assert_frame_equal(reading.bars, read_bars(frame, symbols="BTC"))
    assert [(one.rule, one.value) for one in reading.findings if one.severity == "info"] == [("joined_files", 2)]


def test_files_of_others_stay_outside(tmp_path: Path) -> None:
    frame = frame_of()
    write(tmp_path, BTC__2024=frame[:20], BTC__2025=frame[20:], ETH__2024=frame_of(3.0)[:20])
    assert_frame_equal(read_bars(tmp_path, symbols="BTC"), read_bars(frame, symbols="BTC"))


def test_files_that_overlap_or_are_called_otherwise_are_not_joined(tmp_path: Path) -> None:
    frame = frame_of()
    write(tmp_path, BTC__2024=frame[:21], BTC__2025=frame[20:])
    error = refusal_of(tmp_path, "BTC")
    assert "overlaps in time" in error
    assert "named by their stem" in error
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", KO=frame[:20], PEP=frame[20:])
    assert "the symbol it is named after" in refusal_of(tmp_path / "other", "BTC")


def refusal_of(folder: Path, symbol: str) -> str:
    with pytest.raises(BarsError) as caught:
        read_bars(folder, symbols=symbol)
    return str(caught.value)


class _Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def _not_utf8() -> pa.Table:
    offsets = pa.py_buffer(np.arange(41, dtype=np.int32))
    texts = pa.Array.from_buffers(pa.string(), 40, [None, offsets, pa.py_buffer(b"\xff" * 40)])
    return pa.Table.from_pandas(frame_of()).append_column("symbol", texts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pl.DataFrame(frame_of()).lazy().with_columns(pl.col("none such")),
        lambda: pl.scan_csv("no such file.csv"),
        lambda: pl.DataFrame(frame_of()).lazy().map_batches(lambda _: 1 // 0),
        lambda: frame_of().assign(Date=pd.PeriodIndex.from_ordinals([10**9] * 40, freq="D")),
        lambda: frame_of().assign(Close=pd.Series([Decimal("sNaN")] * 40)),
        lambda: frame_of().assign(Close=pd.Series([_Unspeakable()] * 40)),
        lambda: pa.Table.from_pandas(frame_of()).append_column(
            "m", pa.array([pa.MonthDayNano([1, 1, 1])] * 40, pa.month_day_nano_interval())
        ),
        lambda: pa.Table.from_pandas(frame_of()).append_column(
            "symbol", pa.RunEndEncodedArray.from_arrays(pa.array([40], pa.int32()), pa.array(["A"]))
        ),
        _not_utf8,
    ],
)
def test_a_frame_that_its_library_cannot_hand_over_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(BarsError, match="the frame cannot be read"):
        read_bars(make())


def test_a_list_of_sources_within_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BarsError, match="has a list in it"):
        read_bars(endless)


def test_a_frame_of_too_many_columns_is_refused_at_once() -> None:
    wide = pl.DataFrame(frame_of()).with_columns(pl.lit(1.0).alias(f"c{n}") for n in range(1000))
    with pytest.raises(BarsError, match="1,006 columns"):
        read_bars(wide)
