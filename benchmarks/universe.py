"""What many symbols cost: the same `gatecast run` on 5, 20 and 61 of them, each in a process of its own.

Prints time, peak memory and bars a second of each size, how time and memory grow with the bars, and what each model
takes per refit and per row of its window. Symbols are spread evenly over the classes.

With `--units` no run is made: one refit of each model on 1, 5 and all symbols of the largest class, in CPU time, which
a busy neighbour does not change.

Run: `python benchmarks/universe.py daily.parquet symbols.csv [--sizes 5,20,61] [--json] [options of gatecast run]`, for
instance `--refit 1Y --seeds 1` for a look that takes minutes instead of hours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gatecast.experiment import Experiment
from gatecast.market import read_bars
from gatecast.samples.windows import make_samples


def spread(bars: pl.DataFrame, count: int) -> list[str]:
    """So many of the symbols, evenly over the classes."""
    ordered = bars.select("asset_class", "symbol").unique().sort("asset_class", "symbol")["symbol"].to_list()
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)]


def measure(bars: str, symbols_file: str, symbols: list[str], options: list[str]) -> dict[str, Any]:
    """One run in a fresh process: what it says of its cost, and what its models took."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        named = ["--bars", bars, "--symbols-file", symbols_file, "--symbols", ",".join(symbols), "--out", str(place)]
        command = [sys.executable, "-m", "gatecast.cli", "run", *options, *named, "--json", "--quiet"]
        before = cpu_seconds()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        busy = cpu_seconds() - before
        said = json.loads(done.stdout.splitlines()[-1])
        provenance = json.loads((place / "provenance.json").read_text(encoding="utf-8"))
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        page = (place / "report.html").stat().st_size
    rows = sum(fold["train"] + fold["validation"] for fold in said["folds"])
    refits = len(said["folds"])
    return {
        "symbols": len(symbols), "bars": provenance["bars"], "refits": refits, "window_rows": rows, **said["cost"],
        "cpu_seconds": round(busy, 1), "cpu_seconds_per_symbol": round(busy / len(symbols), 2),
        "folder_bytes": size, "report_bytes": page,
        "models": {
            name: {"seconds": took, "ms_per_refit": 1e3 * took / refits, "us_per_window_row": 1e6 * took / rows}
            for name, took in provenance["seconds"].items()
        },
    }  # fmt: skip


def units(bars: pl.DataFrame, sizes: tuple[int, ...] = (1, 5, 1000)) -> list[dict[str, Any]]:
    """CPU seconds of one refit of each model on a window of two years, in the middle of the class's history."""
    largest = bars.group_by("asset_class").agg(pl.col("symbol").n_unique()).sort("symbol").row(-1)[0]
    bars = bars.filter(asset_class=largest)
    names = bars.group_by("symbol").len().sort("len", "symbol")["symbol"].to_list()  # like lengths side by side
    rows = []
    for size in sizes:
        experiment = Experiment(model={"lstm": {"seeds": 1}})
        samples = make_samples(bars.filter(pl.col("symbol").is_in(names[:size])))[largest]
        folds = [fold.on(samples) for fold in experiment.schedule.folds(samples.times, samples.known_at)]
        fold = folds[len(folds) * 2 // 3]
        for name, forecaster in experiment.panel.items():
            begun = []
            for _ in range(2):  # the first time compiles
                samples.fit_cache.clear()
                begun.append(time.process_time())
                (fitted,) = forecaster.fit_many([fold])
            took = time.process_time() - begun[1]
            window, asked = len(fold.train) + len(fold.validation), np.r_[fold.validation, fold.test]
            begun.append(time.process_time())
            fitted.predict(samples, asked)
            told = time.process_time() - begun[2]
            rows.append(
                {"model": name, "symbols": len(samples.symbols), "window_rows": window,
                 "record_rows": len(fold.record), "cpu_seconds": took, "us_per_window_row": 1e6 * took / window,
                 "us_per_forecast": 1e6 * told / len(asked)}
            )  # fmt: skip
    return rows


def cpu_seconds() -> float:
    """What child processes that ended took of all cores: a busy neighbour makes a run longer, not this."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def growth(found: list[dict[str, Any]]) -> dict[str, float]:
    """The power of CPU time in bars and in symbols (1 is proportional), and memory as a line: fixed, and each bar's."""
    bars, symbols, seconds, memory = (
        np.array([float(one[name] or np.nan) for one in found])
        for name in ("bars", "symbols", "cpu_seconds", "peak_memory_bytes")
    )
    each, fixed = np.polyfit(bars, memory, 1)
    return {
        "power_of_bars": float(np.polyfit(np.log(bars), np.log(seconds), 1)[0]),
        "power_of_symbols": float(np.polyfit(np.log(symbols), np.log(seconds), 1)[0]),
        "memory_fixed_bytes": float(fixed),
        "memory_bytes_per_bar": float(each),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bars")
    parser.add_argument("symbols_file")
    parser.add_argument("--sizes", default="5,20,61")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--units", action="store_true")
    own, options = parser.parse_known_args()
    every = read_bars(own.bars, symbols_file=own.symbols_file)
    if own.units:
        measured = units(every)
        if own.json:
            print(json.dumps(measured))
            return
        print("model            symbols  rows of the window  of the record   CPU ms   µs a row   µs a forecast")
        for row in measured:
            print(
                f"{row['model']:16}{row['symbols']:8}{row['window_rows']:20,}{row['record_rows']:15,}"
                f"{1e3 * row['cpu_seconds']:9.1f}{row['us_per_window_row']:11.1f}"
                f"{row['us_per_forecast']:16.1f}"
            )
        return
    found, sizes = [], sorted({int(part) for part in own.sizes.split(",")})
    measure(own.bars, own.symbols_file, spread(every, 1), options)  # the first run on a machine compiles
    for size in sizes:
        one = measure(own.bars, own.symbols_file, spread(every, size), options)
        found.append(one)
        print(
            f"{one['symbols']:3} symbols, {one['bars']:,} bars, {one['refits']} refits: {one['seconds']:,.0f} s "
            f"({one['cpu_seconds']:,.0f} s of CPU), "
            f"{(one['peak_memory_bytes'] or 0) / 1e9:.2f} GB, {one['bars_per_second']:,.0f} bars a second; "
            f"folder {one['folder_bytes'] / 1e6:.0f} MB, report {one['report_bytes'] / 1e6:.1f} MB",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    grown = growth(found) if len(found) > 1 else {}
    if own.json:
        print(json.dumps({"options": options, "runs": found, "growth": grown}))
        return
    if grown:
        print(
            f"CPU time grows with bars to the power of {grown['power_of_bars']:.2f}, with symbols to that of "
            f"{grown['power_of_symbols']:.2f}; memory is {grown['memory_fixed_bytes'] / 1e6:.0f} MB and "
            f"{grown['memory_bytes_per_bar']:,.0f} bytes a bar"
        )
    print("\nmodel              seconds   ms a refit   µs a row of the window")
    for name, took in found[-1]["models"].items():
        print(f"{name:16}{took['seconds']:10.1f}{took['ms_per_refit']:13.1f}{took['us_per_window_row']:14.1f}")


if __name__ == "__main__":
    main()
