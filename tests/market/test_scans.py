"""Partitioned Parquet is scanned: what is not asked for is not read, and the bars are the same."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, BarsFileError
from gatecast.market import read_bars, synthetic
from gatecast.market.bars import session_date
from gatecast.market.columns import wish_of
from gatecast.market.tables import read_tables

CLASS_OF = {"AAPL": "equity", "KO": "equity", "EURUSD": "fx"}


@pytest.fixture(scope="module")
def prices() -> pl.DataFrame:
    """Three symbols as a vendor has them: a date, prices, volume and two columns of its own."""
    parts = []
    for number, symbol in enumerate(CLASS_OF):
        bars = synthetic.a1(300, seed=number).select("time", "open", "high", "low", "close")
        own = {"volume": 1.0 + number, "mood": pl.col("close") / 7, "note": pl.lit("as said")}
        parts.append(bars.with_columns(symbol=pl.lit(symbol), date=session_date(pl.col("time")), **own).drop("time"))
    return pl.concat(parts)


def lay_out(prices: pl.DataFrame, folder: Path, *keys: str) -> Path:
    """A folder partitioned by these keys."""
    classed = prices.with_columns(asset_class=pl.col("symbol").replace_strict(CLASS_OF))
    for values, part in classed.group_by(*keys, maintain_order=True):
        place = folder.joinpath(*(f"{key}={value}" for key, value in zip(keys, values, strict=True)))
        place.mkdir(parents=True)
        part.drop(keys).write_parquet(place / "part.parquet", row_group_size=50)
    return folder


@pytest.mark.parametrize("keys", [("asset_class", "symbol"), ("symbol",), ("asset_class",)])
def test_a_partitioned_folder_reads_as_one_file(prices: pl.DataFrame, tmp_path: Path, keys: tuple[str, ...]) -> None:
    folder = lay_out(prices, tmp_path / "lake", *keys)
    table = prices.with_columns(asset_class=pl.col("symbol").replace_strict(CLASS_OF))
    table.write_parquet(tmp_path / "one.parquet")
    for chosen in ({}, {"symbols": ["KO", "EURUSD"]}, {"symbols": "KO", "start": "2000-06-01", "end": "2000-09-30"}):
        expected = read_bars(table, **chosen)
        assert_frame_equal(read_bars(folder, **chosen), expected, check_column_order=False)
        assert_frame_equal(read_bars(tmp_path / "one.parquet", **chosen), expected)
    assert read_bars(folder, symbols="EURUSD")["asset_class"].unique().to_list() == ["fx"]


def test_files_of_other_symbols_are_not_opened(prices: pl.DataFrame, tmp_path: Path) -> None:
    folder = lay_out(prices, tmp_path / "lake", "asset_class", "symbol")
    (folder / "asset_class=equity" / "symbol=AAPL" / "part.parquet").write_bytes(b"no Parquet")
    assert read_bars(folder, symbols="KO")["symbol"].unique().to_list() == ["KO"]
    with pytest.raises(BarsFileError, match="not a readable Parquet file"):
        read_bars(folder)


def test_of_a_file_only_the_rows_and_columns_asked_for_are_read(prices: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    prices.write_parquet(path)
    choose = partial(wish_of, symbols=["KO"], first=date(2001, 3, 1), last=date(2001, 3, 31), columns=["mood"])
    (table,) = read_tables(path, choose=choose)
    assert set(table.frame["symbol"]) == {"KO"}
    assert "note" not in table.frame.columns
    assert {"mood", "volume"} <= set(table.frame.columns)
    own = prices.with_row_index().filter(pl.col("date").is_in(table.frame["date"].implode()), symbol="KO")
    assert table.rows is not None
    assert table.rows.to_list() == own["index"].to_list()
    assert table.frame["date"].max() <= date(2001, 4, 7)
    assert read_tables(path, choose=partial(wish_of, symbols=["PEP"])) == []


def test_without_columns_all_numbers_stay(prices: pl.DataFrame, tmp_path: Path) -> None:
    prices = prices.with_columns(other=1.0)
    prices.write_parquet(tmp_path / "one.parquet")
    for source in (prices, tmp_path / "one.parquet"):
        assert {"mood", "other"} <= set(read_bars(source).columns)
        kept = read_bars(source, columns=["mood"]).columns
        assert "mood" in kept
        assert "other" not in kept
        assert {"mood", "other"}.isdisjoint(read_bars(source, columns=[]).columns)


def test_a_fault_has_its_line_though_rows_before_it_were_not_read(prices: pl.DataFrame, tmp_path: Path) -> None:
    at = prices.with_row_index().filter(symbol="KO")["index"][250]
    faulty = prices.with_row_index().with_columns(date=pl.when(pl.col("index") != at).then("date")).drop("index")
    faulty.write_parquet(tmp_path / "one.parquet")
    for symbols in (None, ["KO"]):
        with pytest.raises(BarsFileError, match="the time is missing") as caught:
            read_bars(tmp_path / "one.parquet", symbols=symbols)
        assert caught.value.line == at + 1


def test_what_is_spelt_otherwise_is_found_and_what_is_missing_is_named(prices: pl.DataFrame, tmp_path: Path) -> None:
    padded = prices.with_columns(symbol=pl.col("symbol") + " ")
    padded.write_parquet(tmp_path / "one.parquet")
    assert read_bars(tmp_path / "one.parquet", symbols="KO")["symbol"].unique().to_list() == ["KO"]
    folder = lay_out(prices, tmp_path / "lake", "symbol")
    with pytest.raises(BarsError, match=r"no bars of 'AAPLE'\. .*'AAPL'"):
        read_bars(folder, symbols="AAPLE")


def test_empty_cells_of_a_file_with_one_symbol_are_still_filled(prices: pl.DataFrame, tmp_path: Path) -> None:
    one = prices.filter(symbol="KO").with_row_index()
    one = one.with_columns(symbol=pl.when(pl.col("index") != 5).then("symbol")).drop("index")
    one.write_parquet(tmp_path / "one.parquet")
    assert len(read_bars(tmp_path / "one.parquet", symbols="KO")) == 300
    both = pl.concat([one, prices.filter(symbol="AAPL")])
    both.write_parquet(tmp_path / "both.parquet")
    with pytest.raises(BarsFileError, match="the symbol is empty, and the file has several"):
        read_bars(tmp_path / "both.parquet", symbols="KO")


def test_one_file_a_symbol_without_a_column_for_it(prices: pl.DataFrame, tmp_path: Path) -> None:
    for symbol in CLASS_OF:
        prices.filter(symbol=symbol).drop("symbol").write_parquet(tmp_path / f"{symbol}.parquet")
    expected = read_bars(prices.filter(symbol="AAPL"))
    assert_frame_equal(read_bars(tmp_path, symbols=["AAPL"]), expected)
    assert_frame_equal(read_bars(tmp_path / "AAPL.parquet", symbols="APPLE").drop("symbol"), expected.drop("symbol"))


def test_weekly_and_zoned_stamps_keep_their_first_bar(prices: pl.DataFrame, tmp_path: Path) -> None:
    weeks = prices.filter(symbol="KO").gather_every(5)
    for name, frame in {
        "weeks": weeks,
        "zoned": weeks.with_columns(pl.col("date").cast(pl.Datetime("ms", "Asia/Tokyo"))),
        "naive": weeks.with_columns(pl.col("date").cast(pl.Datetime("ns"))),
    }.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
        asked = {"stamp": "open", "start": "2000-08-02", "end": "2000-11-15"}
        assert_frame_equal(read_bars(tmp_path / f"{name}.parquet", **asked), read_bars(frame, **asked))
