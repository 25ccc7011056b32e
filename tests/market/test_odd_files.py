"""Files whose columns have odd types, or whose text is odd: read as what they say, or refused by what is wrong."""

from __future__ import annotations

import decimal
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gatecast.cli.app import execute
from gatecast.errors import BarsError
from gatecast.market import read_bars

DAYS = [day for n in range(42) if (day := date(2019, 1, 7) + timedelta(days=n)).weekday() < 5]
ROWS = len(DAYS)
PRICES = ("open", "high", "low", "close")
PLAIN = pl.DataFrame(
    {"date": DAYS, "open": 50.0, "high": 52.0, "low": 48.0, "close": [50.0 + n % 2 for n in range(ROWS)]}
)
LINES = PLAIN.write_csv().splitlines()
TEXT = pl.lit("AB")


def typed(kind: Any, *names: str) -> pl.DataFrame:
    return PLAIN.with_columns(pl.col(names).cast(kind))


def arrow(name: str, values: pa.Array) -> pa.Table:
    table = PLAIN.to_arrow()
    place = table.schema.get_field_index(name)
    return table.append_column(name, values) if place < 0 else table.set_column(place, name, values)


def with_line(number: int, line: str) -> str:
    return "\n".join([*LINES[:number], line, *LINES[number + 1 :], ""])


def written(content: pl.DataFrame | pa.Table | str | bytes, folder: Path) -> Path:
    """A file of this content."""
    if isinstance(content, str | bytes):
        (folder / "AB.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / "AB.csv"
    if isinstance(content, pa.Table):
        pq.write_table(content, folder / "AB.parquet")
    else:
        content.write_parquet(folder / "AB.parquet")
    return folder / "AB.parquet"


READ: dict[str, pl.DataFrame | pa.Table] = {
    "prices of UInt64": typed(pl.UInt64, *PRICES), "prices of UInt8": typed(pl.UInt8, *PRICES),
    "prices of Decimal": typed(pl.Decimal(20, 4), *PRICES), "prices of Float32": typed(pl.Float32, *PRICES),
    "times of UInt64": PLAIN.with_columns(pl.col("date").cast(pl.Datetime).dt.epoch("ms").cast(pl.UInt64)),
    "dates beside dates": PLAIN.with_columns(time=pl.col("date")),
    "a symbol from a dictionary": PLAIN.with_columns(symbol=TEXT.cast(pl.Categorical)),
    "dates from a dictionary": arrow("date", pa.array(map(str, DAYS)).dictionary_encode()),
    "prices from a dictionary": PLAIN.with_columns(pl.col("close").cast(pl.String).cast(pl.Categorical)),
    "an asset class without a value": PLAIN.with_columns(asset_class=None),
}  # fmt: skip
REFUSED: dict[str, tuple[pl.DataFrame | pa.Table | str | bytes, str]] = {
    "prices of Int128": (typed(pl.Int128, "close"), r"'close': not a .* than 64 bits .*Write it anew, with"),
    "prices of UInt128": (typed(pl.UInt128, "low"), r"'low': not a readable Parquet file .* more than 64 bits"),
    "prices of Decimal256": (
        arrow("close", pa.array([decimal.Decimal(50)] * ROWS, pa.decimal256(50, 2))),
        r"'close', value 'decimal256.*only plain text",
    ),
    "lists": (PLAIN.with_columns(close=pl.concat_list("close")), r"'close', value '.*list.*only plain text"),
    "bytes": (PLAIN.with_columns(symbol=pl.lit(b"AB")), "'symbol': the column holds Binary"),
    "times of day alone": (PLAIN.with_columns(date=time(9)), "the column holds Time. Give dates, or dates with times"),
    "dates as closes": (PLAIN.rename({"date": "close_time"}), "a date without a time of day, where times were"),
    "dates of hours": (
        PLAIN.with_columns(date=DAYS[0], open=pl.int_range(50, 80)),
        "for the same symbol .* Where bars are shorter than a day",
    ),
    "no time": (PLAIN.with_columns(date=None), "'time': the time is missing"),
    "no close": (PLAIN.with_columns(close=None), "'close': 30 of the 30 bars .* A price is missing"),
    "no symbol": (PLAIN.with_columns(symbol=None), "'symbol': no row has a symbol. Fill the column, or leave it out"),
    "no rows": (PLAIN.head(0), "the source has no rows"),
    "no rows of Arrow's": (PLAIN.to_arrow().slice(0, 0), "the source has no rows"),
    "no columns": (pa.table({}), "the source has no rows"),
    "a column twice": (arrow("x", pa.nulls(ROWS)).rename_columns(["date", *PRICES, "low"]), "'low': .* there twice"),
    "no Parquet": (PLAIN.to_arrow(), r"not a readable Parquet file .* Write it anew"),
    "an open quote in front": (with_line(9, f'"{LINES[9]}'), "line 10, .*a quote is opened and not closed. Close it"),
    "an open quote": (with_line(9, LINES[9].replace(",", ',"', 1)), "line 10, .*a quote is opened and not closed"),
    "a quote in a cell": (with_line(9, LINES[9].replace(".", '".', 1)), "line 10, .*a quote is opened and not closed"),
    "an open quote at the end": (with_line(ROWS, f'{LINES[-1]}"'), f"line {ROWS + 1}, .*a quote is opened"),
    "an open quote in the header": (with_line(0, f'"{LINES[0]}'), "line 1, .*a quote is opened and not closed"),
    "NUL bytes": (b"\n".join(line.encode() for line in LINES) + b"\0\0", f"line {ROWS + 1}: a zero byte"),
    "a header alone": (LINES[0], "no row has a price. Give a file with bars"),
    "a name twice": (with_line(0, "date,open,high,low,close,close"), "line 1, column 'close': .* there twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_odd_types_are_read_as_what_they_say(name: str, tmp_path: Path) -> None:
    found = read_bars(written(READ[name], tmp_path))
    assert found.select("symbol", *PRICES).equals(PLAIN.select(TEXT.alias("symbol"), *PRICES))
    assert found["time"].dt.date().to_list() == DAYS


@pytest.mark.parametrize("name", REFUSED)
def test_odd_files_are_refused_by_what_is_wrong(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, said = REFUSED[name]
    file = written(content, tmp_path)
    if name == "no Parquet":
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BarsError, match=said):
        read_bars(file)
    assert execute(["check", str(file)]) == 2
    told = capfd.readouterr().err
    assert told.startswith("error: ")
    assert "panicked" not in told
