"""What one `gatecast update` costs by the length of the history: a store of 60 symbols, a new bar of each.

Makes stores of 60 symbols with 1,250 and 5,000 bars each and cheap models (ridge, logistic, forest), then runs the
command on a copy with the next close: wall-clock and CPU seconds, start of the program included, best of three, and the
seconds of its parts from a run under cProfile. The program has its byte code, as an installed one has. The machine
should be idle.

Run: `python benchmarks/update.py FOLDER`, with `--bars 2500` or `--symbols 10` for other sizes. Stores that are in the
folder already are used again.
"""

from __future__ import annotations

import argparse
import os
import pstats
import resource
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from gatecast.experiment import Experiment
from gatecast.live import retrain, update
from gatecast.market import synthetic

HOUR = timedelta(hours=1)
CHEAP = {
    "models": ("ridge", "logistic", "forest"), "signals": {"model": "ridge", "confirmed_by": "forest"},
    "schedule": {"refit": "2Y", "train": "2Y"},
}  # fmt: skip
SHARES = 1e6
"""Shares in a unit of the market's volume: so many that the book can trade."""
PARTS = (
    ("open the store", "store.py", "open"),
    ("bars as of now", "history.py", "for_chain"),
    ("read the new bars", "sources.py", "read_with_findings"),
    ("merge them", "update.py", "_to_store"),
    ("write them", "store.py", "add_bars"),
    ("read models and what was issued", "kept.py", "serve"),
    ("rows that may still come", "awaited.py", "with_awaited"),
    ("the chain", "chain.py", "make_chain"),
    ("  samples", "windows.py", "make"),
    ("  facts of the bars", "facts.py", "facts_of"),
    ("  models", "walkforward.py", "walk_forward"),
    ("  ensemble and intervals", "chain.py", "combine"),
    ("  decide", "chain.py", "decide"),
    ("  book", "portfolio.py", "make_book"),
    ("what was issued, as rows", "newest.py", "told_of"),
    ("write it", "update.py", "issue_chain"),
)
"""What is said of a part, the file that its function is in, and the function."""


def made_store(folder: Path, symbols: int, bars: int) -> tuple[Path, Path, datetime]:
    """A store with a model, a file with the next bar of every symbol, and the moment at which it came."""
    parts = [
        synthetic.a1(bars + 1, seed=number).with_columns(
            symbol=pl.lit(f"S{number:02d}"), asset_class=pl.lit("equity"), volume=pl.col("volume") * SHARES
        )
        for number in range(symbols)
    ]  # fmt: skip
    every = pl.concat(parts).sort("symbol", "time")
    last = every["time"].max()
    assert isinstance(last, datetime)
    place, news = folder / f"{symbols}x{bars}", folder / f"{symbols}x{bars}.csv"
    newest = every.filter(pl.col("time") == last).with_columns(pl.col("time").dt.date())
    newest.select("symbol", "time", "open", "high", "low", "close", "volume").write_csv(news)
    if not place.exists():
        before = every.filter(pl.col("time") < last)
        now = before["time"].max() + HOUR  # type: ignore[operator]
        update(place, before, now=now, experiment=Experiment(**CHEAP))
        retrain(place, now=now)
    return place, news, last + HOUR


def command(store: Path, news: Path, now: datetime, *profile: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of the command, in a process of its own, on a copy of the store."""
    copy = store.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    compiled = {"PYTHONPYCACHEPREFIX": str(store.with_name("bytecode")), "PYTHONDONTWRITEBYTECODE": ""}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [
            sys.executable, *profile, "-m", "gatecast", "update", str(copy), "--bars", str(news),
            "--asset-class", "equity", "--now", now.isoformat(), "--json",
        ],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, **compiled},
    )  # fmt: skip
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_of_parts(store: Path, news: Path, now: datetime) -> list[tuple[str, float]]:
    """Cumulated seconds of each of the parts, under the profiler."""
    record = store.with_name("profile")
    command(store, news, now, "-m", "cProfile", "-o", str(record))
    found = pstats.Stats(str(record)).stats  # type: ignore[attr-defined]
    return [
        (said, sum(one[3] for key, one in found.items() if key[0].endswith(f"{os.sep}{file}") and key[2] == name))
        for said, file, name in PARTS
    ]


def main() -> None:
    """The table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--symbols", type=int, default=60)
    asked.add_argument("--bars", type=int, nargs="+", default=[1250, 5000])
    asked.add_argument("--repeat", type=int, default=3)
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for bars in given.bars:
        made = made_store(given.folder, given.symbols, bars)
        each = [command(*made) for _ in range(given.repeat)]
        wall, cpu = (min(one) for one in zip(*each, strict=True))
        print(f"{given.symbols} symbols x {bars} bars: {wall:.2f} s, {cpu:.2f} s of CPU", flush=True)
        for said, seconds in seconds_of_parts(*made):
            print(f"  {said:36} {seconds:7.2f}")


if __name__ == "__main__":
    main()
