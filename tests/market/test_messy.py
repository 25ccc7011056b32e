"""Files with the faults that vendors' files really have: each is read correctly, or refused with its place.

Every file here is invented, with the shape of one that was met. The table `OUTCOMES` is the one of docs/data.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsFileError
from gatecast.market import findings, read_bars, read_with_findings

DAYS = [date(2019, 1, 1) + timedelta(days=n) for n in range(420) if n % 7 < 4 or n % 7 == 6][:280]  # weekdays
EVERY_DAY = [date(2019, 1, 1) + timedelta(days=n) for n in range(280)]


def prices(count: int, level: float = 50.0, seed: int = 3) -> list[tuple[float, float, float, float]]:
    """Open, high, low, close of a quiet walk, to four decimals."""
    noise = np.random.default_rng(seed)
    close = level * np.exp(np.cumsum(noise.normal(0, 0.005, count)))
    open_ = close * np.exp(noise.normal(0, 0.003, count))
    low, high = np.minimum(open_, close) * 0.995, np.maximum(open_, close) * 1.005
    return [tuple(row) for row in np.round(np.column_stack([open_, high, low, close]), 4).tolist()]


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join(([header] if header else []) + rows) + "\n")
    return path


def ohlc(days: list[date], level: float = 50.0) -> list[list[Any]]:
    return [[day, *row, 1000 + n] for n, (day, row) in enumerate(zip(days, prices(len(days), level), strict=True))]


def joined(rows: list[list[Any]]) -> list[str]:
    return [",".join("" if cell is None else str(cell) for cell in row) for row in rows]


HEADER = "Date,Open,High,Low,Close,Volume"


def newest_first_with_index(folder: Path) -> Path:
    """RELIANCE: an index column, newest first, a split that only adjusted_close contains."""
    lines = []
    for n, (day, o, h, l, c, v) in enumerate(reversed(ohlc(DAYS))):
        factor = 1 if day >= DAYS[100] else 2
        lines.append([n, day, *(round(x * factor, 4) for x in (o, h, l, c)), c, v, 0.0, 1.0])
    header = ",timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient"
    return write(folder / "RELIANCE.csv", header, joined(lines))


def wrong_instrument(folder: Path) -> Path:
    """M&M: sound bars of something else."""
    return write(folder / "M&M.csv", HEADER, joined(ohlc(DAYS, level=20.0)))


def changing_offsets(folder: Path) -> Path:
    """XRPUSDT: hours over the end of summer time, with the offsets of the clock on the wall."""
    start = datetime(2020, 10, 24, 20, tzinfo=UTC)
    lines = []
    for n, row in enumerate(prices(60, 0.25)):
        opened = start + timedelta(hours=n)
        ahead = 3 if opened < datetime(2020, 10, 25, 1, tzinfo=UTC) else 2
        wall = (opened + timedelta(hours=ahead)).replace(tzinfo=None)
        ended = wall + timedelta(hours=1, milliseconds=-1)
        closed = f"{ended:%Y-%m-%d %H:%M:%S}.999000+0{ahead}:00"
        lines.append([f"{wall}+0{ahead}:00", *row, 1000.5, closed, 0.001])
    return write(folder / "XRPUSDT.csv", "open_time,open,high,low,close,volume,close_time,returns", joined(lines))


def bid_and_ask(folder: Path) -> Path:
    """GBPUSD: no header, bid and ask with sizes of 0, bars on Sundays."""
    days = [day for day in EVERY_DAY if day.weekday() != 5]
    lines = [
        [f"{day:%Y%m%d} 00:00", *row, 0, *(round(x + 0.02, 4) for x in row), 0]
        for day, row in zip(days, prices(len(days), 1.9), strict=True)
    ]
    return write(folder / "GBPUSD.csv", "", joined(lines))


def lean(path: Path, rows: list[list[Any]]) -> Path:
    lines = [[f"{day:%Y%m%d} 00:00", *(round(x * 10_000) for x in row), v] for day, *row, v in rows]
    return write(path, "", joined(lines))


def erroneous_prints(folder: Path) -> Path:
    """GOOG: a low of one cent on one day."""
    rows = ohlc(DAYS, level=400.0)
    rows[200][3], rows[200][4] = 0.01, rows[200][4] * 0.8
    return lean(folder / "GOOG.csv", rows)


def unadjusted_splits(folder: Path) -> Path:
    """AAPL: a true crash to .526, then a seven-for-one split that the prices do not contain."""
    rows = ohlc(DAYS, level=100.0)
    crash = 0.5257 * rows[79][4] / rows[80][1]
    for row in rows[80:]:
        row[1:5] = [x * crash for x in row[1:5]]
    for row in rows[200:]:
        row[1:5] = [x / 7 for x in row[1:5]]
    return lean(folder / "AAPL.csv", rows)


def ticker_reused(folder: Path) -> Path:
    """WM: a company ends, 315 days later another one trades under its ticker."""
    rows = ohlc(DAYS, level=0.5)
    for n, row in enumerate(ohlc(DAYS, level=30.0)[150:], start=150):
        rows[n] = [row[0] + timedelta(days=315), *row[1:]]
    return lean(folder / "WM.csv", rows)


def missing_cells(folder: Path) -> Path:
    """DIS: empty cells on two days, one with no volume."""
    rows = [[*row, "DIS"] for row in ohlc(DAYS)]
    rows[50][1:4], rows[50][5] = [None, None, None], 0
    rows[70][1] = None
    return write(folder / "any.csv", HEADER + ",Name", joined(rows))


def symbol_partly_empty(folder: Path) -> Path:
    """SHY: the symbol column ends before the rows do."""
    rows = [["SHY" if n < 270 else None, *row] for n, row in enumerate(ohlc(DAYS))]
    return write(folder / "any.csv", "symbol,date,open,high,low,close,volume", joined(rows))


def leading_empty_rows(folder: Path) -> Path:
    """ETH-USD: years of dates without prices in front."""
    rows = [[day, *([None] * 6)] for day in EVERY_DAY[:100]]
    rows += [[day, c, c, h, l, o, v] for day, o, h, l, c, v in ohlc(EVERY_DAY)[100:]]
    return write(folder / "ETH-USD.csv", "Date,Adj Close,Close,High,Low,Open,Volume", joined(rows))


def negative_adjusted(folder: Path) -> Path:
    """IF.MI: so many dividends taken off that the early prices are negative."""
    rows = ohlc(DAYS)
    for row in rows[:45]:
        row[1:5] = [x - 80 for x in row[1:5]]
    return write(folder / "IF.MI.csv", HEADER, joined(rows))


def settlement_outside(folder: Path) -> Path:
    """SI=F: the close is the settlement, a little outside what was traded; flat days without volume."""
    rows = ohlc(DAYS, level=17.0)
    rows[10][4] = round(rows[10][3] * 0.98, 4)
    rows[20][1:6] = [17.0, 17.0, 17.0, 17.0, 0]
    return write(folder / "SI=F.csv", HEADER, joined(rows))


def three_header_lines(folder: Path) -> Path:
    """A downloader's table: field, ticker and index name in three lines, one quarter of a year."""
    lines = [[day, c, h, l, o, v] for day, o, h, l, c, v in ohlc(DAYS[:60])]
    head = "Price,Close,High,Low,Open,Volume\nTicker,ITA,ITA,ITA,ITA,ITA\nDate,,,,,"
    return write(folder / "download.csv", head, joined(lines))


def three_header_lines_partial(folder: Path) -> Path:
    """The same, downloaded while the last day was still traded."""
    path = three_header_lines(folder)
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last.rsplit(",", 1)[0] + ",12"]).replace("ITA", "000001.SS") + "\n")
    return path


def zero_low(folder: Path) -> Path:
    """HD: one low is 0."""
    rows = ohlc(DAYS)
    rows[33][3] = 0.0
    return write(folder / "HD.csv", HEADER, joined(rows))


@dataclass(frozen=True)
class Outcome:
    """Either the bars and findings expected, or the place of the refusal."""

    symbol: str = ""
    bars: int = 280
    done: dict[str, int | None] = field(default_factory=dict)  # rule of the reading -> line of its first row
    seen: tuple[str, ...] = ()  # rules of `findings` on the bars
    segments: int = 1
    refused: tuple[int, str, str] | None = None  # line, column, a word of the advice
    settings: dict[str, Any] = field(default_factory=dict)


OUTCOMES: list[tuple[Callable[[Path], Path], Outcome]] = [
    (newest_first_with_index, Outcome("RELIANCE", done={"adjusted": 281})),
    (wrong_instrument, Outcome("M&M")),
    (changing_offsets, Outcome("XRPUSDT", 60, seen=("short_history",), settings={"asset_class": "crypto"})),
    (bid_and_ask, Outcome("GBPUSD", 240, done={"sunday": 5}, seen=("weekend", "volume_missing", "short_history"),
                          settings={"asset_class": "fx"})),
    (erroneous_prints, Outcome("GOOG", 279, done={"scaled": 1, "spike": 201})),
    (unadjusted_splits, Outcome(refused=(201, "open", "splits="))),
    (ticker_reused, Outcome("WM", done={"scaled": 1}, seen=("gap", "level_jump"), segments=2)),
    (missing_cells, Outcome("DIS", 278, done={"missing_price": 52})),
    (symbol_partly_empty, Outcome("SHY", done={"symbol_filled": 272})),
    (leading_empty_rows, Outcome("ETH-USD", 180, done={"empty_row": 2}, seen=("short_history",),
                                 settings={"asset_class": "crypto"})),
    (negative_adjusted, Outcome(refused=(2, "open", "start="))),
    (settlement_outside, Outcome("SI=F", done={"range_widened": 12}, seen=("flat", "zero_volume"),
                                 settings={"asset_class": "metal"})),
    (three_header_lines_partial, Outcome("000001.SS", 60, seen=("short_history", "partial_last"))),
    (three_header_lines, Outcome("ITA", 60, seen=("short_history",))),
    (zero_low, Outcome("HD", 279, done={"non_positive": 35})),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), OUTCOMES, ids=[make.__name__ for make, _ in OUTCOMES])
def test_outcome(make: Callable[[Path], Path], expected: Outcome, tmp_path: Path) -> None:
    path = make(tmp_path)
    if expected.refused is not None:
        line, column, advice = expected.refused
        with pytest.raises(BarsFileError) as caught:
            read_bars(path, **expected.settings)
        error = caught.value
        assert (error.file, error.line, error.column) == (str(path), line, column)
        assert error.value is not None
        assert advice in str(error)
        return
    reading = read_with_findings(path, **expected.settings)
    assert set(reading.bars["symbol"]) == {expected.symbol}
    assert reading.bars.height == expected.bars
    assert reading.bars["segment"].n_unique() == expected.segments
    first_lines: dict[str, int | None] = {}
    for found in reading.findings:
        assert found.file == str(path)
        first_lines.setdefault(found.rule, found.line)
    assert first_lines == expected.done
    assert {found.rule for found in findings(reading.bars)} == set(expected.seen)


def test_the_table_of_the_docs_has_all_fifteen(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    names = [outcome.symbol or make(tmp_path).stem for make, outcome in OUTCOMES]
    assert len(names) == 15
    assert [name for name in rows if name in names] == names


# --- what the bars must be once read --------------------------------------------------------------------------


def test_adjusted_close_removes_the_split(tmp_path: Path) -> None:
    bars = read_bars(newest_first_with_index(tmp_path))
    plain = [row for _, *row, _ in ohlc(DAYS)]
    np.testing.assert_allclose(bars.select("open", "high", "low", "close").to_numpy(), plain, rtol=1e-5)
    assert bars["time"].is_sorted()
    assert bars.columns[-2:] == ["dividend_amount", "split_coefficient"]


def test_hours_over_the_clock_change_are_an_hour_apart(tmp_path: Path) -> None:
    bars = read_bars(changing_offsets(tmp_path), asset_class="crypto")
    assert bars["time"][0] == datetime(2020, 10, 24, 21, tzinfo=UTC)
    assert set(bars["time"].diff().drop_nulls()) == {timedelta(hours=1)}


def test_bid_and_ask_are_averaged_and_days_end_at_midnight(tmp_path: Path) -> None:
    bars = read_bars(bid_and_ask(tmp_path), asset_class="fx")
    first = prices(240, 1.9)[0]
    np.testing.assert_allclose(bars.select("open", "high", "low", "close").row(0), np.add(first, 0.01))
    assert bars["volume"].null_count() == 240
    assert bars["time"][0] == datetime(2019, 1, 2, tzinfo=UTC)
    joined_days = read_bars(bid_and_ask(tmp_path), asset_class="fx", resample="1d")
    assert set((joined_days["time"] - timedelta(days=1)).dt.weekday()) == {1, 2, 3, 4, 5}


def test_listed_splits_are_applied_and_true_moves_kept(tmp_path: Path) -> None:
    path = unadjusted_splits(tmp_path)
    table = write(tmp_path / "splits.txt", "symbol,date,ratio", [f"AAPL,{DAYS[200]},7"])
    reading = read_with_findings(path, splits=table)
    assert "split_applied" in {found.rule for found in reading.findings}
    returns = (reading.bars["close"] / reading.bars["close"].shift()).drop_nulls()
    assert returns[199] == pytest.approx(1.0, abs=0.05)
    assert returns.min() == pytest.approx(0.526, abs=0.02)
    assert reading.bars["volume"][0] == 7000
    raw = read_bars(path, splits=False)
    assert raw["close"][0] == pytest.approx(7 * reading.bars["close"][0])


def test_a_split_applied_twice_is_seen(tmp_path: Path) -> None:
    path = wrong_instrument(tmp_path)
    table = pl.DataFrame({"symbol": ["M&M"], "date": [DAYS[100]], "ratio": [4.0]})
    with pytest.raises(BarsFileError, match=r"ratio 0\.25"):
        read_bars(path, splits=table)


def test_another_instrument_is_seen_by_a_reference(tmp_path: Path) -> None:
    path = wrong_instrument(tmp_path)
    reference = read_bars(path).with_columns(pl.col("open", "high", "low", "close") * 12)
    (found,) = read_with_findings(path, reference=reference).findings
    assert (found.rule, found.symbol) == ("other_level", "M&M")


def test_settlement_widens_the_range(tmp_path: Path) -> None:
    bars = read_bars(settlement_outside(tmp_path), asset_class="metal")
    assert bars["low"][10] == bars["close"][10]
    path = settlement_outside(tmp_path)
    text = path.read_text().splitlines()
    cells = text[12].split(",")
    text[12] = ",".join([*cells[:4], str(float(cells[3]) * 0.9), cells[5]])  # ten per cent outside
    path.write_text("\n".join(text))
    reading = read_with_findings(path, asset_class="metal")
    assert reading.bars.height == 279
    rules = {found.rule: found.line for found in reading.findings}
    assert rules == {"outside_range": 13, "range_widened": 12}


def test_the_bad_years_can_be_cut(tmp_path: Path) -> None:
    bars = read_bars(negative_adjusted(tmp_path), start=DAYS[45])
    assert bars.height == 235


def test_a_negative_close_is_left_out_and_nothing_is_computed_across_it(tmp_path: Path) -> None:
    """Crude oil closed at -37.63 on 2020-04-20: a true event with no log return."""
    rows = ohlc(DAYS)
    rows[100][1:5] = [17.73, 17.85, -40.32, -37.63]
    path = write(tmp_path / "CL=F.csv", HEADER, joined(rows))
    reading = read_with_findings(path, asset_class="commodity")
    assert reading.bars["segment"].to_list() == [0] * 100 + [1] * 179
    assert [(found.rule, found.line, found.value) for found in reading.findings] == [("non_positive", 102, -40.32)]
