"""Good bytes in, bad bytes out: mutations by format, each drawn with a seed."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl

Bytes = Callable[[bytes, Random], bytes]

STRANGE_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e308", "-1", "0", "1.5", str(2**63), str(2**80), "9" * 4400,
    "1e-320", "-0.0", "0x10", "1_000", "٣", "", " ",
)  # fmt: skip
STRANGE_TEXTS = (
    "", "x" * 100_000, "../../etc/passwd", "/etc/passwd", "a\x00b", "\x1b[2J", "CON", "NA", "007", "１", "\ufffd",
    "=cmd()", "é" * 300, "a/b/c", "\u202eabc", "nan", "True",
)  # fmt: skip
STRANGE_TIMES = (
    "1970-01-01", "0001-01-01", "9999-12-31", "2262-04-12", "-0001-01-01", "2024-13-01", "2024-02-30", "03/04/2024",
    "1700000000", "1700000000000", "99999999999999999999", "2024-01-02T99:99:99", "2024-01-02T00:00:00+99:99",
    "2024-01-02T00:00:00+05:30", "2024-03-31T02:30:00 Europe/Berlin", "today", "2024-W53-7", "2024-01-02T23:59:60Z",
)  # fmt: skip


# ── any bytes ─────────────────────────────────────────────────────────────────────────────────────


def flipped(content: bytes, draw: Random) -> bytes:
    """One to eight bits flipped."""
    changed = bytearray(content or b"\0")
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: Random) -> bytes:
    """Cut short."""
    return content[: draw.randrange(max(len(content), 1))]


def grown(content: bytes, draw: Random) -> bytes:
    """Something behind it, or in its middle."""
    more = draw.choice((b"\0" * 100, b"}", b"\n", bytes(draw.randrange(256) for _ in range(64)), content))
    place = draw.choice((len(content), draw.randrange(len(content) + 1)))
    return content[:place] + more + content[place:]


def zeroed(content: bytes, draw: Random) -> bytes:
    """A block of zeros, as a disk leaves it after a loss of power."""
    start = draw.randrange(max(len(content), 1))
    length = min(draw.choice((1, 64, 4096)), len(content) - start)
    return content[:start] + b"\0" * length + content[start + length :]


def emptied(content: bytes, draw: Random) -> bytes:
    """Nothing left."""
    return b""


def noise(content: bytes, draw: Random) -> bytes:
    """Bytes of chance."""
    return bytes(draw.randrange(256) for _ in range(draw.choice((10, 1000))))


ANY: tuple[Bytes, ...] = (flipped, flipped, cut, grown, zeroed, emptied, noise)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


MARK = "\uf8ffhere\uf8ff"


def json_value(content: bytes, draw: Random) -> bytes:
    """One value somewhere in a JSON file becomes another one."""
    try:
        value = json.loads(content)
    except ValueError:
        return flipped(content, draw)
    places = _places(value)
    path = draw.choice(places)
    raw = draw.choice(
        (
            *STRANGE_NUMBERS[:12], "null", "true", "{}", "[]", "[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 2000,
            '"' + "x" * 1_000_000 + '"', json.dumps(draw.choice(STRANGE_TEXTS)), json.dumps(draw.choice(STRANGE_TIMES)),
            '{"a": 1, "a": 2}', "[" + "0," * 100_000 + "0]", "[NaN]", "[[1], [2, 3]]",
        )
    )  # fmt: skip
    if not path:
        return raw.encode()
    owner = value
    for key in path[:-1]:
        owner = owner[key]
    action = draw.random()
    if action < 0.15:
        del owner[path[-1]]
        return json.dumps(value).encode()
    if action < 0.25 and isinstance(owner, dict):
        owner[draw.choice(("__class__", "extra", "../x", "x" * 1000))] = owner[path[-1]]
        return json.dumps(value).encode()
    owner[path[-1]] = MARK
    return json.dumps(value).replace(json.dumps(MARK), raw, 1).encode()


# ── TOML ──────────────────────────────────────────────────────────────────────────────────────────


def toml_line(content: bytes, draw: Random) -> bytes:
    """One line of settings becomes another one, or one is added."""
    lines = content.decode().splitlines()
    settings = [at for at, line in enumerate(lines) if "=" in line]
    at = draw.choice(settings)
    key = lines[at].lstrip("# ").split("=")[0].strip()
    value = draw.choice(
        (
            *STRANGE_NUMBERS, "inf", "-inf", "nan", "true", "[]", "{}", "[[]]", "1979-05-27", '"x"',
            "'" + "x" * 100_000 + "'",
            "[" + '"a",' * 50_000 + "]", "[" * 3_000, '["a", "a"]', json.dumps(draw.choice(STRANGE_TEXTS)),
            json.dumps(draw.choice(STRANGE_TIMES)), "1000000000000", "1e300", "-5",
            '["ridge", "ridge"]', '"/etc/passwd"',
        )
    )  # fmt: skip
    action = draw.random()
    if action < 0.7:
        lines[at] = f"{key} = {value}"
    elif action < 0.8:
        lines.insert(at, lines[at])
    elif action < 0.9:
        strange = draw.choice(
            (
                ".".join(["a"] * 100_000), "x" * 100_000, '"\\u0000"', "[model.x]\nkind", "[a.b.c]\nd", '"[bars]"',
                "[model." + "y" * 500 + "]\nkind", "unfinished", "studies", "storage",
                "[[models]]\na", "__class__", "jobs",
            )
        )  # fmt: skip
        lines.insert(at, f"{strange} = {value}")
    else:
        del lines[at]
    return "\n".join(lines).encode()


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────


def csv_cell(content: bytes, draw: Random) -> bytes:
    """A cell, a row or a column of a table becomes strange."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    action = draw.random()
    at, column = draw.randrange(1, len(rows)), draw.randrange(len(rows[0]))
    strange = draw.choice((*STRANGE_NUMBERS, *STRANGE_TEXTS, *STRANGE_TIMES))
    if action < 0.4:
        rows[at][column] = strange
    elif action < 0.5:
        for row in rows[1:]:
            row[column] = strange
    elif action < 0.58:
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif action < 0.66:
        rows[0][column] = draw.choice((*STRANGE_TEXTS, rows[0][0], "known_at", "open", "Adj Close", "symbol"))
    elif action < 0.72:
        rows[at] = rows[at] * draw.choice((2, 50_000))
    elif action < 0.78:
        rows[at][column] = '"' + rows[at][column]
    elif action < 0.84:
        rows = [rows[0], *sorted(rows[1:], key=lambda row: draw.random())]
    elif action < 0.9:
        rows = rows[:1]
    else:
        number = float(draw.choice((1e-12, 1e12, 100, 0.01, -1)))
        for row in rows[at:]:
            for place, cell in enumerate(row):
                try:
                    row[place] = repr(float(cell) * number)
                except ValueError:
                    continue
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def csv_whole(content: bytes, draw: Random) -> bytes:
    """The whole of a table in another dress, of which some are fine."""
    text = content.decode()
    return draw.choice(
        (
            lambda: b"\xef\xbb\xbf" + content,
            lambda: text.encode("utf-16"),
            lambda: text.replace("\n", "\r\n").encode(),
            lambda: text.replace("\n", "\r").encode(),
            lambda: text.replace(",", ";").replace(".", ",").encode(),
            lambda: text.replace(",", "\t").encode(),
            lambda: gzip.compress(content),
            lambda: b"\n\n\n" + content,
            lambda: content + b"\n" + content,
            lambda: text.encode("utf-8").replace(b"A", b"\xff"),
            lambda: ("a," * 200_000 + "\n" + "1," * 200_000).encode(),
            lambda: content + b"x" * 20_000_000,
            lambda: gzip.compress(content + b"\n" * 300_000_000, 1),
            lambda: b'"' * 100_001,
        )
    )()


# ── Parquet and safetensors ───────────────────────────────────────────────────────────────────────


def parquet_column(content: bytes, draw: Random) -> bytes:
    """One column of a Parquet file with other values, another type, or gone."""
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except Exception:  # it was mutated before
        return flipped(content, draw)
    name = draw.choice(table.columns)
    column = pl.col(name)
    rows = max(len(table), 1)
    value = draw.choice(
        (None, float("nan"), float("inf"), -1.0, 0.0, 1e300, "x", "x" * 10_000, True, [1.0, 2.0], {"a": 1})
    )
    one = pl.Series(name, [value] * len(table))
    some = pl.when(pl.int_range(pl.len()) == draw.randrange(rows))
    changed = draw.choice(
        (
            lambda: table.with_columns(one),
            lambda: table.with_columns(some.then(None).otherwise(column).alias(name)),
            lambda: table.drop(name),
            lambda: table.rename({name: draw.choice(STRANGE_TEXTS) or "e"}),
            lambda: table.with_columns(column.cast(pl.String).alias(name)),
            lambda: table.with_columns(column.cast(pl.Categorical) if table[name].dtype == pl.String else one),
            lambda: table.head(draw.choice((0, 1, rows // 2))),
            lambda: pl.concat([table, table]),
            lambda: table.reverse(),
            lambda: table.with_columns(pl.lit(1).alias("extra")),
            lambda: table.sample(fraction=1.0, shuffle=True, seed=draw.randrange(99)),
            lambda: table.with_columns(pl.lit(b"\0").alias(name)),
            lambda: table.with_columns(_scaled(table, name, draw)),
        )
    )
    sink = io.BytesIO()
    try:
        changed().write_parquet(sink)
    except Exception:  # Polars has no such cast
        table.drop(name).write_parquet(sink)
    return sink.getvalue()


def parquet_bomb(content: bytes, draw: Random) -> bytes:
    """A small file of very many rows: constant columns, a million rows a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        row = pq.read_table(io.BytesIO(content)).slice(0, 1)
    except Exception:  # it was mutated before
        return flipped(content, draw)
    group = row.take(pa.array(np.zeros(1_000_000, int)))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, group.schema, compression="zstd") as writer:
        for _ in range(draw.choice((20, 60))):
            writer.write_table(group)
    return sink.getvalue()


def _scaled(table: pl.DataFrame, name: str, draw: Random) -> pl.Series:
    if not table[name].dtype.is_numeric():
        return table[name].reverse()
    return (table[name].cast(pl.Float64) * draw.choice((-1.0, 1e300, float("nan"), float("inf")))).alias(name)


def tensors(content: bytes, draw: Random) -> bytes:
    """A safetensors file with another header, or other numbers."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    except (ValueError, struct.error):
        return flipped(content, draw)
    names = [name for name in header if name != "__metadata__"]
    if not names:
        return flipped(content, draw)
    entry = header[draw.choice(names)]
    action = draw.randrange(10)
    if action < 4:
        start, end = entry["data_offsets"]
        width = {"F32": 4, "F64": 8}.get(entry["dtype"], 0)
        if width and end > start:
            strange = np.array(draw.choice((np.nan, np.inf, -np.inf, 1e30, -1.0)), f"f{width}").tobytes()
            places = range(start, end, width) if draw.random() < 0.3 else [draw.randrange(start, end, width)]
            for place in places:
                data[place : place + width] = strange
        elif end > start:
            data[draw.randrange(start, end)] ^= 1 << draw.randrange(8)
    elif action == 4:
        entry["shape"] = draw.choice(
            ([2**40, 2**40], [0], [-1], [1], entry["shape"][::-1], [*entry["shape"], 1], ["a"], 5)
        )
    elif action == 5:
        entry["dtype"] = draw.choice(("F64", "F32", "I64", "BOOL", "X", "F16", "F8_E4M3"))
    elif action == 6:
        entry["data_offsets"] = draw.choice(([0, 2**62], [5, 1], [0, 0], [-8, 8], "x", [0, len(data) + 1]))
    elif action == 7:
        del header[draw.choice(names)]
    elif action == 8:
        header |= {f"t{number}": entry for number in range(draw.choice((1, 100_000)))}
    else:
        text = json.dumps(header).encode()
        return struct.pack("<Q", draw.choice((0, 2**62, len(text) - 1, len(text) + 10**9))) + text + data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


BY_FORMAT: dict[str, tuple[Bytes, ...]] = {
    ".json": (json_value, json_value, json_value, *ANY),
    ".jsonl": (json_value, *ANY),
    ".toml": (toml_line, toml_line, toml_line, *ANY),
    ".csv": (csv_cell, csv_cell, csv_cell, csv_whole, *ANY),
    ".parquet": (*[parquet_column] * 5, *ANY, parquet_bomb),
    ".safetensors": (tensors, tensors, tensors, *ANY),
}


def mutation(suffix: str, draw: Random) -> Bytes:
    """A mutation for files of this kind."""
    return draw.choice(BY_FORMAT.get(suffix, ANY))


# ── what stands where a file is expected ──────────────────────────────────────────────────────────


def irregular(place: Path, draw: Random, canary: Path) -> str:
    """Puts something that is no regular file at a place; returns what."""
    if place.is_dir():
        return "a folder"
    place.unlink(missing_ok=True)
    what = draw.choice(
        ("pipe", "folder", "link to /dev/zero", "link outside", "link to itself", "gone", "huge", "no rights")
    )
    match what:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "link to /dev/zero":
            place.symlink_to("/dev/zero")
        case "link outside":
            place.symlink_to(canary)
        case "link to itself":
            place.symlink_to(place.name)
        case "huge":
            with place.open("wb") as file:
                file.truncate(50 * 2**30)
        case "no rights":
            place.write_bytes(b"x")
            place.chmod(0)
    return what
