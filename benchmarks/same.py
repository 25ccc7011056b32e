"""Are two saved runs the same? Forecasts, signals, weights and equity cell by cell, scores number by number.

For changes that only move code: run the same settings before and after, then compare the two folders. Clocks, costs in
seconds and versions of libraries (`provenance.json`) are not compared; hashes of bars are.

Run: `python benchmarks/same.py BEFORE AFTER`, with `--renamed highway=residual_lstm` for a model that has a new name.
Exit status 0: the same; 1: each difference on a line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

TABLES = {
    "forecasts": ["symbol", "time", "model", "head", "step"],
    "signals": ["symbol", "time"],
    "weights": ["symbol", "time"],
    "equity": [],
    "bars": ["symbol", "time"],
}
"""Name of a saved table -> the columns that tell its rows apart; none: rows are compared in their order."""
SHOWN = 20  # differences of the scores that are printed


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Scores with old names of models replaced, as keys and as values.

    >>> renamed({"highway": ["highway", 1.0]}, {"highway": "residual_lstm"})
    {'residual_lstm': ['residual_lstm', 1.0]}
    """
    if isinstance(value, dict):
        return {names.get(key, key): renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Every leaf of two JSON values that is not the same; numbers are compared to the bit.

    >>> list(differences({"a": [1.0, 2.0]}, {"a": [1.0, 2.5], "b": 0}))
    ['a.1: 2.0 -> 2.5', 'b: absent -> 0']
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{place}.{key}".lstrip(".")
            if key not in before or key not in after:
                yield f"{inner}: {_short(before.get(key, 'absent'))} -> {_short(after.get(key, 'absent'))}"
            else:
                yield from differences(before[key], after[key], inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{place}.{number}".lstrip("."))
    elif before != after and not (_is_nan(before) and _is_nan(after)):
        yield f"{place}: {_short(before)} -> {_short(after)}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def compare_tables(name: str, before: pl.DataFrame, after: pl.DataFrame) -> Iterator[str]:
    """What differs between two tables: columns, rows, and for each column the cells, with the largest difference."""
    if set(before.columns) != set(after.columns):
        yield f"{name}: columns {sorted(set(before.columns) ^ set(after.columns))} are in one of them alone"
    columns = [column for column in before.columns if column in after.columns]
    keys = [key for key in TABLES[name] if key in columns]
    before, after = (frame.select(columns).sort(keys) if keys else frame.select(columns) for frame in (before, after))
    if len(before) != len(after):
        yield f"{name}: {len(before)} rows -> {len(after)}"
        return
    for column in columns:
        one, other = before[column], after[column]
        unequal = one.ne_missing(other)
        if one.dtype.is_float() and other.dtype.is_float():
            unequal &= ~(one.is_nan().fill_null(False) & other.is_nan().fill_null(False))
        if count := int(unequal.sum()):
            far = ""
            if one.dtype.is_float() and other.dtype.is_float():
                largest = (one - other).abs().filter(unequal).max()
                far = f", by {largest} at most"
            yield f"{name}.{column}: {count} of {len(one)} cells differ{far}"


def compare_runs(before: Path, after: Path, names: dict[str, str]) -> list[str]:
    """All differences of two run folders. `names`: old name of a model -> its name in `after`."""
    found = []
    for name in TABLES:
        frames = [pl.read_parquet(folder / f"{name}.parquet") for folder in (before, after)]
        if names and "model" in frames[0].columns:
            frames[0] = frames[0].with_columns(pl.col("model").replace(names))
        found += compare_tables(name, *frames)
    scores = [json.loads((folder / "scores.json").read_text(encoding="utf-8")) for folder in (before, after)]
    found += differences(renamed(scores[0], names), scores[1], "scores")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--renamed", action="append", default=[], metavar="OLD=NEW")
    given = parser.parse_args()
    names = dict(pair.split("=", 1) for pair in given.renamed)
    found = compare_runs(given.before, given.after, names)
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    print("the same" if not found else f"{len(found)} differences")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
