"""What the forest's speed costs in score: summaries of the window against all its bars, rows a tree, trees.

One forest for all heads against what it could be, on the embedded indices (half-yearly refits) and the planted B1.
Gains over the simple rival in percent: return against zero, direction and regime against the base rate (log loss),
volatility against its mean (squared error of logs). Run: `python benchmarks/forest.py`.
"""

from __future__ import annotations

import time

import numpy as np

from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.market import synthetic
from gatecast.market.sources import read_bars
from gatecast.samples.windows import Samples, make_samples

VARIANTS: dict[str, tuple[bool, dict]] = {
    "default": (False, {}),
    "all rows a tree": (False, {"rows": 1.0}),
    "a quarter of the rows": (False, {"rows": 0.25}),
    "100 trees": (False, {"trees": 100}),
    "300 trees, all rows": (False, {"trees": 300, "rows": 1.0}),
    "every bar of the window, all rows": (True, {"rows": 1.0}),
}


def gain(loss: np.ndarray, rival: np.ndarray) -> float:
    return 100 * (1 - float(loss.sum() / rival.sum()))


def log_loss(chance: np.ndarray, actual: np.ndarray) -> np.ndarray:
    chance = np.clip(chance, 1e-6, 1 - 1e-6)
    return -(actual * np.log(chance) + (1 - actual) * np.log(1 - chance))


def measure(samples: Samples, settings: Forest, schedule: Schedule) -> tuple[float, dict[str, float]]:
    """Seconds a refit on one core, and the gain of each head."""
    folds = [fold.on(samples) for fold in schedule.folds(samples.times, samples.known_at)]
    begin = time.perf_counter()
    fits = settings.fit_many(folds)
    seconds = (time.perf_counter() - begin) / len(folds)
    tests = [fold.test[~np.isnat(samples.known_at[fold.test])] for fold in folds]
    forecast: dict[str, list[np.ndarray]] = {}
    for fitted, test in zip(fits, tests, strict=True):
        for head, values in fitted.predict(samples, test).items():
            forecast.setdefault(head, []).append(values[:, -1] if head == "return" else values)
    ends = samples.ends[np.concatenate(tests)]
    found = {}
    for head, parts in forecast.items():
        values, actual = np.concatenate(parts), samples.targets[head].value[ends]
        actual = actual[:, -1] if head == "return" else actual
        good = np.isfinite(actual)
        values, actual = values[good], actual[good]
        if head in ("direction", "regime"):
            found[head] = gain(log_loss(values, actual), log_loss(np.full(len(actual), actual.mean()), actual))
        elif head == "volatility":
            level = np.mean(np.log(values) - actual)  # a mean of variances lies above the mean of their logs
            found[head] = gain((np.log(values) - level - actual) ** 2, (actual - actual.mean()) ** 2)
        else:
            found[head] = gain((values - actual) ** 2, actual**2)
    return seconds, found


def main() -> None:
    markets = {
        "indices": (make_samples(read_bars("embedded"))["index"], Schedule(refit="6M")),
        "planted B1": (
            make_samples(synthetic.b1(3000, seed=5, r2=0.05, symbols=2), ("ret_log_1", "x"))["index"],
            Schedule(refit="6M"),
        ),
    }
    for name, (samples, schedule) in markets.items():
        summaries = samples.summaries
        raw = samples.windows[samples.ends - samples.lookback + 1].reshape(len(samples), -1)
        print(f"{name}: {summaries.shape[1]} summaries, {raw.shape[1]} numbers in a window")
        for variant, (every_bar, changes) in VARIANTS.items():
            samples.__dict__["summaries"] = raw if every_bar else summaries
            seconds, found = measure(samples, Forest(**changes), schedule)
            told = "  ".join(f"{head} {value:+6.2f}" for head, value in found.items())
            print(f"  {variant:<36}{1000 * seconds:7.0f} ms   {told}", flush=True)


if __name__ == "__main__":
    main()
