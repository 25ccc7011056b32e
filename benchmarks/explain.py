"""What explanations of 60 symbols' newest forecasts cost: a store with the usual models, LSTMs of the usual size.

Makes the store, then explains all symbols' newest closes three times: seconds of reading and making the chain again, of
the explanations themselves (every head, every model, the waterfalls), and of the command in a process of its own. It
prints what the attributions leave of the forecasts, too. The machine should be idle.

Run: `python benchmarks/explain.py FOLDER`, with `--bars 1250` and `--symbols 60` for other sizes. A store that is in
the folder already is used again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl

from gatecast.experiment import Experiment
from gatecast.explanations import explained, origin_of
from gatecast.live import retrain, update
from gatecast.market import synthetic

SETTINGS = {
    "schedule": {"refit": "2Y", "train": "2Y"}, "model": {"lstm": {"epochs": 3}},
}  # fmt: skip
"""The usual models; few epochs, which change no cost of an explanation."""


def made_store(folder: Path, symbols: int, bars: int) -> tuple[Path, datetime]:
    """A store with a model and decisions of its newest close, and the moment after it."""
    place = folder / f"explained{symbols}x{bars}"
    markets = (synthetic.b1(bars, seed=number, r2=0.02) for number in range(symbols))
    every = pl.concat(
        one.with_columns(symbol=pl.lit(f"S{number:02d}"), asset_class=pl.lit("equity"))
        for number, one in enumerate(markets)
    ).sort("symbol", "time")
    times = every["time"].unique().sort()
    if not place.exists():
        for last, fits in ((times[-2], True), (times[-1], False)):
            now = last + timedelta(hours=1)
            update(place, every.filter(pl.col("time") <= last), now=now, experiment=Experiment(**SETTINGS))
            if fits:
                retrain(place, now=now)
    return place, times[-1] + timedelta(hours=1)


def clocks() -> tuple[float, float]:
    """Seconds on the wall and of CPU: a busy machine changes the first alone."""
    return time.perf_counter(), time.process_time()


def main() -> None:
    """The figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--symbols", type=int, default=60)
    asked.add_argument("--bars", type=int, default=1250)
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    place, now = made_store(given.folder, given.symbols, given.bars)
    for _ in range(3):
        begin = clocks()
        origin = origin_of(place, now)
        origin.moments(list(origin.newest().items()))
        made = clocks()
        found = explained(origin)
        done = clocks()
        wall, cpu = ([last - first for first, last in pairwise(each)] for each in zip(begin, made, done, strict=True))
        print(
            f"{len(found.explanations)} symbols: chain {wall[0]:.2f} s ({cpu[0]:.2f} s of CPU), "
            f"explanations {wall[1]:.2f} s ({cpu[1]:.2f} s of CPU)", flush=True,
        )  # fmt: skip
    parts = [part for one in found.explanations for head in one.heads for model in head.models for part in model.parts]
    told = [model for one in found.explanations for head in one.heads for model in head.models if model.parts]
    worst = max(abs(part.gap) / max(abs(part.output - part.base), 1e-2) for part in parts)
    steps = max(abs(sum(step.change for step in one.decision.steps) - one.decision.held) for one in found.explanations)
    print(
        f"{len(told)} forecasts of models in {len(parts)} parts, {sum(bool(one.same) for one in told)} as issued; "
        f"largest gap {worst:.1e} of what inputs add; steps and held differ by {steps:.1e} at most"
    )
    begin = time.perf_counter()
    words = ["explain", str(place), "--now", now.isoformat(), "--json"]
    subprocess.run([sys.executable, "-m", "gatecast", *words], check=True, stdout=subprocess.DEVNULL)
    print(f"`gatecast explain STORE --json`: {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
