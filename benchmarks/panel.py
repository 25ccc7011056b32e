"""A pooled panel: 30 symbols, 60 monthly refits of the default network on two years, 25 epochs each, no early stopping.

Prints seconds and peak memory. Run: `python benchmarks/panel.py`.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import make_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=30)
    parser.add_argument("--refits", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    begin = time.perf_counter()
    bars = synthetic.a1(820 + 22 * options.refits, seed=0, symbols=options.symbols)
    samples = make_samples(bars)["index"]
    prepared = time.perf_counter() - begin
    lstm = LSTM(epochs=options.epochs, patience=options.epochs, seeds=options.seeds)
    schedule = Schedule(minimum="2Y", refit="1M")
    begin = time.perf_counter()
    forecasts = walk_forward([lstm], samples, schedule, Task(jobs=os.cpu_count() or 1))
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = sum(len(fold.train) for fold in forecasts.folds) * options.epochs * options.seeds
    print(
        f"{options.symbols} symbols, {len(forecasts.folds)} refits, {options.seeds} network(s) each: "
        f"{seconds:.0f} s, {seconds / len(forecasts.folds):.2f} s a refit, {rows / seconds:,.0f} labels a second, "
        f"peak {memory:.0f} MB; bars and features {prepared:.1f} s"
    )


if __name__ == "__main__":
    main()
