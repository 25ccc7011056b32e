"""How the cost of a refit grows: with bars, symbols, lookback, units, layers, features and the number of refits.

One quantity at a time is moved from the default network (2 x 64, 30 bars, 5 features, a window of 504 bars of one
symbol), 20 epochs, best of three. Writes docs/cost.md and docs/cost.svg. Run: `python benchmarks/growth.py`.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import CompiledEngine, initial_weights, make_chunks

DOCS = Path(__file__).parent.parent / "docs"
EPOCHS = 20
GROWTH: dict[str, tuple[int, ...]] = {
    "bars": (252, 504, 1008, 2016, 4032),
    "symbols": (1, 2, 5, 10, 30),
    "lookback": (10, 20, 30, 60, 100),
    "units": (16, 32, 64, 128, 256),
    "layers": (1, 2, 3),
    "features": (1, 5, 15, 30, 60),
    "refits": (1, 2, 4, 8, 16),
}
DEFAULT = {"bars": 504, "symbols": 1, "lookback": 30, "units": 64, "layers": 2, "features": 5, "refits": 1}


def seconds(bars: int, symbols: int, lookback: int, units: int, layers: int, features: int, refits: int) -> float:
    """Wall time of so many refits over the cores, on noise (what is computed does not depend on the values)."""
    settings = LSTM(lookback=lookback, units=units, layers=layers, horizon=1, heads=("return",))
    draw = np.random.default_rng(0)
    whole = bars * symbols
    inputs = draw.standard_normal((whole, features)).astype(np.float32)
    answers = draw.standard_normal((whole, 1)).astype(np.float32)
    rows = np.concatenate([np.arange(lookback - 1, bars - 5) + number * bars for number in range(symbols)])

    def refit(seed: int) -> None:
        engine = CompiledEngine(settings, inputs, answers, initial_weights(settings, features, 1, seed), seed)
        own = np.random.default_rng(seed)
        for _ in range(EPOCHS):
            chunks = make_chunks(
                rows, lookback, settings.labels(len(rows)), int(own.integers(settings.labels(len(rows))))
            )
            engine.epoch(chunks, own.permutation(len(chunks)))

    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(refit, range(refits)))
        best = min(best, time.perf_counter() - begin)
    return best


def draw(found: dict[str, list[float]], place: Path) -> None:
    """One small panel a quantity, logarithmic, with the line of proportional growth."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gatecast"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(2.3 * len(found), 2.5), sharey=True, layout="constrained")
    for axis, (name, times) in zip(axes, found.items(), strict=True):
        sizes = np.array(GROWTH[name], float)
        axis.loglog(sizes, 1000 * np.array(times), "o-", color="#2f5d8c", markersize=4)
        axis.loglog(sizes, 1000 * times[-1] * sizes / sizes[-1], ":", color="#a3a9b3")
        axis.set_title(name, fontsize=10)
        axis.set_xticks(sizes, [f"{int(size)}" for size in sizes], fontsize=7)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("milliseconds")
    figure.savefig(place, metadata={"Date": None})


def main() -> None:
    seconds(**DEFAULT)
    found: dict[str, list[float]] = {}
    for name, sizes in GROWTH.items():
        found[name] = [seconds(**{**DEFAULT, name: size}) for size in sizes]
        print(name, dict(zip(sizes, (round(1000 * one, 1) for one in found[name]), strict=True)), flush=True)
    lines = [
        "# What a refit costs, and how that grows", "",
        f"Milliseconds of wall time for {EPOCHS} epochs of one network on one core (several refits: all cores).",
        "One quantity at a time is moved from the default: " + ", ".join(f"{k} {v}" for k, v in DEFAULT.items()) + ".",
        "`power` is the growth's exponent from the second size to the last: 1 is proportional. Made by",
        "`python benchmarks/growth.py` on one machine: take the shape from it, and your own times from a run.", "",
        "![growth of cost](cost.svg)", "", "| moved | cost, ms | power |", "|---|---|---|",
    ]  # fmt: skip
    for name, times in found.items():
        sizes = GROWTH[name]
        power = np.log(times[-1] / times[1]) / np.log(sizes[-1] / sizes[1]) if len(sizes) > 1 else 0.0
        cells = ", ".join(f"{size}: {1000 * one:.0f}" for size, one in zip(sizes, times, strict=True))
        lines.append(f"| {name} | {cells} | {power:.2f} |")
    lines += [
        "", "Cost is proportional to bars, symbols, layers and refits. A chunk of 32 labels reads lookback + 31 bars,",
        "so that twice the lookback costs less than twice; the recurrent products grow with the square of the units,",
        "from about 64 on, when they no longer hide behind the elementwise work; features only enter the first layer.",
        "A run makes (bars after the first year / bars a month) refits x seeds of the ensemble, each of about ten to",
        "fifteen epochs with early stopping, shared over the cores without loss: no refit waits for another.",
    ]  # fmt: skip
    (DOCS / "cost.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(found, DOCS / "cost.svg")


if __name__ == "__main__":
    main()
