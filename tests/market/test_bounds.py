"""Files of bars that are small and unpack to much, or are no files: refused in a sentence, at once."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gatecast.errors import BarsFileError
from gatecast.market.sources import read_bars

HEADER = b"date,open,high,low,close\n"


def _packed(folder: Path) -> Path:
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(HEADER + b"2020-01-01,1,1,1,1\n" * 5_000_000, 9))
    return path


def _blank_lines(folder: Path) -> Path:
    path = folder / "a.csv"
    path.write_bytes(b",".join(b"c%d" % n for n in range(900)) + b"\n" * 10_000_000)
    return path


def _a_long_cell(folder: Path) -> Path:
    path = folder / "a.csv"
    path.write_bytes(HEADER + b'"' + b"x" * 500_000 + b'",1,1,1,1\n')
    return path


def _many_columns(folder: Path) -> Path:
    path = folder / "a.csv"
    path.write_bytes(b"a," * 100_000 + b"\n")
    return path


def _a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.csv")
    return folder / "a.csv"


def _zeros(folder: Path) -> Path:
    (folder / "a.parquet").symlink_to("/dev/zero")
    return folder / "a.parquet"


def _table(folder: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), folder / "a.parquet", compression="zstd")
    return folder / "a.parquet"


def _long_texts(folder: Path) -> Path:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["x" * 2_000_000]))
    return _table(folder, symbol=texts, close=[1.0] * 10_000)


def _swollen_pages(folder: Path) -> Path:
    path = folder / "a.parquet"
    table = pa.table({"close": pa.array([0.0]).take(pa.array([0] * 12_000_000))})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    return path


def _many_cells(folder: Path) -> Path:
    rows = pa.array([1.0]).take(pa.array([0] * 2_000_000))
    return _table(folder, **{f"c{n}": rows for n in range(10)})


def _shared_texts(folder: Path, zone: str | None = None) -> Path:
    """100,000 rows that share a text of 1,000 bytes: 100 MB of text once each row has its own."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1000]))
    times = pa.array(range(100_000), pa.timestamp("s", zone))
    path = folder / "a.parquet"
    pq.write_table(pa.table({"date": times, "note": texts}), path, compression="zstd", store_schema=False)
    return path


def _shared_texts_beside_an_offset(folder: Path) -> Path:
    return _shared_texts(folder, "+05:30")


def _wide_and_packed(folder: Path) -> Path:
    path = folder / "a.csv.gz"
    names = b",".join(b"c%d" % n for n in range(900))
    path.write_bytes(gzip.compress(names + b"\n" + (b"," * 899 + b"\n") * 10_000, 9))
    return path


def _fixed_bytes(folder: Path) -> Path:
    return _table(folder, time=pa.array([b"ab"], pa.binary(2)), close=[1.0])


def _footer(pages: bytes, starts: list[tuple[int, int]]) -> bytes:
    """A Parquet file of these pages, with a column of int32 for each (begin, length) of `starts`, in compact Thrift."""

    def number(value: int) -> bytes:
        parts = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
        return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])

    def text(value: str) -> bytes:
        return number(len(value)) + value.encode()

    def items(kind: int, values: list[bytes]) -> bytes:
        return bytes([0xF0 | kind]) + number(len(values)) + b"".join(values)

    names = ["date", "open", "high", "low", "close", *(f"c{n}" for n in range(len(starts)))][: len(starts)]
    root = b"\x48" + text("schema") + b"\x15" + number(2 * len(names)) + b"\x00"
    schema = [root, *(b"\x15\x02\x25\x00\x18" + text(name) + b"\x00" for name in names)]
    chunks = [
        b"\x26" + number(2 * begin) + b"\x1c"
        + b"\x15\x02\x19" + items(5, [b"\x00"]) + b"\x19" + items(8, [text(name)])
        + b"\x15\x00\x16\x00\x16\x00\x16" + number(2 * length) + b"\x26" + number(2 * begin) + b"\x00\x00"
        for name, (begin, length) in zip(names, starts, strict=True)
    ]  # fmt: skip
    group = b"\x19" + items(12, chunks) + b"\x16\x00\x16\x00\x00"
    footer = b"\x15\x02\x19" + items(12, schema) + b"\x16\x00\x19" + items(12, [group]) + b"\x00"
    return b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1"


EMPTY_PAGE = bytes([0x15, 0, 0x15, 0, 0x15, 0, 0x2C, 0x15, 0, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0])


def _shared_bytes(folder: Path) -> Path:
    (folder / "a.parquet").write_bytes(_footer(EMPTY_PAGE * 10, [(4, 170), (4, 170)]))
    return folder / "a.parquet"


def _many_pages(folder: Path) -> Path:
    (folder / "a.parquet").write_bytes(_footer(EMPTY_PAGE * 200_001, [(4, 17 * 200_001)]))
    return folder / "a.parquet"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_shared_bytes, "share the same bytes"), (_many_pages, "200,001 pages"),
        (_packed, "bytes"), (_blank_lines, "cells"), (_a_long_cell, "is not UTF|not a|no column|time"),
        (_many_columns, "columns"), (_a_pipe, "no such file"), (_zeros, "no such file"), (_long_texts, "a text of"),
        (_swollen_pages, "unpacked bytes"), (_many_cells, "cells"),
        (_shared_texts, "bytes of text"), (_shared_texts_beside_an_offset, "bytes of text"),
        (_wide_and_packed, "cells"), (_fixed_bytes, "only plain text"),
    ],
)  # fmt: skip
def test_a_small_file_that_unpacks_to_much_is_refused(make: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    with pytest.raises(BarsFileError, match=said) as caught:
        read_bars(make(tmp_path))
    assert len(str(caught.value)) < 1500
