"""How fast are changes found, and how many alarms are false? Charts of `gatecast.forecasting.drift` on planted markets.

    python benchmarks/drift.py [--runs N] [--whole N] [--json]

First the chart of the returns' variance: filters fitted at bar 1,000 (and, where nothing changes, again at 1,500), each
of `--runs` paths up to bar 2,000. `changed`: returns are doubled from bar 1,000 on (D1 where they are normal). `best`:
the chart that knows the distribution and both variances, its limit found by simulation. Then all kinds of alarms at
once: `--whole` markets of 1,500 sessions through samples, forecasts (no change, EWMA) and both watches, without a
change and with one. The nominal number is one false alarm in 1,000 sessions, of each kind; `calibration` is a test at
5 % for good.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from gatecast.forecasting.combining.intervals import with_intervals
from gatecast.forecasting.drift import Drift, watch_inputs, watch_losses
from gatecast.forecasting.drift.alarms import INPUTS, LOSSES, Alarm
from gatecast.forecasting.drift.residuals import fit_residuals
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import make_bars, synthetic
from gatecast.metrics.change import variance_steps, variance_threshold
from gatecast.samples.windows import make_samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
TimeArray = np.ndarray[Any, np.dtype[np.datetime64]]
CHANGE, AGAIN, END = 1000, 1500, 2000
SETTINGS = Drift()


def normal(rng: np.random.Generator, runs: int, count: int) -> FloatArray:
    return rng.standard_normal((runs, count))


def t4(rng: np.random.Generator, runs: int, count: int) -> FloatArray:
    return rng.standard_t(4, (runs, count)) / np.sqrt(2)


def ar(rng: np.random.Generator, runs: int, count: int) -> FloatArray:
    made = rng.standard_normal((runs, count + 100))
    for k in range(1, count + 100):
        made[:, k] += 0.3 * made[:, k - 1]
    return made[:, 100:]


def garch_t(rng: np.random.Generator, runs: int, count: int) -> FloatArray:
    """A2: h = .02 + .08 e² + .90 h, t innovations with 5 degrees of freedom."""
    made = rng.standard_t(5, (runs, count + 300)) / np.sqrt(5 / 3)
    variance = np.ones(runs)
    for k in range(count + 300):
        made[:, k] *= np.sqrt(variance)
        variance = 0.02 + 0.08 * made[:, k] ** 2 + 0.90 * variance
    return made[:, 300:]


KINDS: dict[str, Callable[[np.random.Generator, int, int], FloatArray]] = {
    "normal": normal, "t(4)": t4, "AR(1) .3": ar, "GARCH-t": garch_t,
}  # fmt: skip


def charted(steps: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:
    """(runs, bars) steps -> (runs,) alarms, and the bars up to the first of each run (infinite: none)."""
    total, count, first = np.zeros(len(steps)), np.zeros(len(steps)), np.full(len(steps), np.inf)
    for k in range(steps.shape[1]):
        total = np.maximum(0.0, total + steps[:, k])
        alarm = total > limit
        count += alarm
        first = np.where(alarm & np.isinf(first), k + 1, first)
        total[alarm] = 0.0
    return count, first


def scores_of(path: FloatArray, refits: tuple[int, ...]) -> FloatArray:
    """A path of returns -> normal scores from bar `CHANGE` on, each by the last filter that was fitted before."""
    found = []
    for begin, end in zip(refits, [*refits[1:], len(path)], strict=True):
        model = fit_residuals(path[:begin])
        assert model is not None
        residuals, _, _ = model.filtered(path[:end])
        found.append(model.scores(residuals[begin:]))
    return np.concatenate(found)


def best(name: str, rng: np.random.Generator, runs: int) -> FloatArray | None:
    """Bars up to the first alarm of the chart of the true likelihood ratio, at the nominal rate."""
    from scipy import stats

    law = {"normal": stats.norm(), "t(4)": stats.t(4, scale=np.sqrt(0.5))}.get(name)
    if law is None:
        return None

    def steps(values: FloatArray) -> FloatArray:
        return np.asarray(law.logpdf(values / 2) - np.log(2) - law.logpdf(values))

    calm = steps(KINDS[name](rng, 100, 5000))
    low, high = 1.0, 8.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if charted(calm, middle)[0].mean() < 5000 / SETTINGS.rows else (middle, high)
    return charted(steps(2 * KINDS[name](rng, runs, 500)), high)[1]


def variance_chart(runs: int) -> list[dict[str, Any]]:
    """A row for each kind of returns: false alarms of the chart of variance, and how fast it finds a change."""
    limit = variance_threshold(SETTINGS.rows, SETTINGS.growth)
    rows = []
    for number, (name, draw) in enumerate(KINDS.items()):
        rng = np.random.default_rng([16, number])
        paths = draw(rng, runs, END)
        still = variance_steps(np.array([scores_of(one, (CHANGE, AGAIN)) for one in paths]), SETTINGS.growth)
        count, _ = charted(still, limit)
        changed = paths.copy()
        changed[:, CHANGE:] *= 2
        moved = variance_steps(np.array([scores_of(one, (CHANGE,)) for one in changed]), SETTINGS.growth)
        _, first = charted(moved, limit)
        optimum = best(name, rng, runs)
        rows.append(
            {
                "returns": name,
                "false_to_nominal": float(count.mean() / ((END - CHANGE) / SETTINGS.rows)),
                "standard_error": float(count.std() / np.sqrt(runs)),
                "median": float(np.median(first)),
                "within_12": float((first <= 12).mean()),
                "within_25": float((first <= 25).mean()),
                "best_median": None if optimum is None else float(np.median(optimum)),
                "best_within_25": None if optimum is None else float((optimum <= 25).mean()),
            }
        )
    return rows


def bars_of(returns: FloatArray, seed: int) -> pl.DataFrame:
    """Bars with these closes: each opens at the close before, and its range is a normal walk's of this variance."""
    frame = synthetic.a1(len(returns), seed=seed)
    close = 100 * np.exp(np.cumsum(0.01 * returns))
    start = np.r_[100.0, close[:-1]]
    reach = np.exp(0.005 * np.abs(np.random.default_rng([seed, 1]).standard_normal((2, len(returns)))))
    return make_bars(
        frame.drop("segment").with_columns(
            open=start, close=close, high=np.maximum(start, close) * reach[0], low=np.minimum(start, close) / reach[1]
        )
    )


def alarms_of(path: FloatArray, seed: int) -> tuple[list[Alarm], TimeArray]:
    """The alarms of both watches on a path of returns, and the closes that were forecast."""
    samples = make_samples(bars_of(path, seed), ("ret_log_1", "ret_log_5", "rv_5", "rsi_14"))["index"]
    made = walk_forward([Naive(rule="zero"), Naive(rule="ewma")], samples, Schedule())
    made = with_intervals(made.with_model("ensemble", {**made.values["zero"], **made.values["ewma"]}))
    found = [*watch_inputs(samples, SETTINGS).alarms, *watch_losses(made, SETTINGS).alarms]
    return found, samples.times[made.rows]


def all_kinds(runs: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for each kind of returns, by kind of alarm: false ones in 1,000 sessions, and how often a change is found.

    The change: returns are doubled from session 1,200 on. Found: an alarm within 25 sessions.
    """
    still, moved = [], []
    for number, (name, draw) in enumerate(KINDS.items()):
        counts, hits, sessions = Counter[str](), Counter[str](), 0
        for seed, path in enumerate(draw(np.random.default_rng([17, number]), runs, 1500)):
            alarms, closes = alarms_of(path, seed)
            sessions += len(closes)
            counts.update(one.kind for one in alarms)
            changed = path.copy()
            changed[1200:] *= 2
            alarms, closes = alarms_of(changed, seed)
            since, until = closes[[-300, -275]]
            hits.update({one.kind for one in alarms if since <= one.time < until})
        kinds = (*INPUTS, *LOSSES)
        still.append({"returns": name, "sessions": sessions} | {kind: 1000 * counts[kind] / sessions for kind in kinds})
        moved.append({"returns": name, "markets": runs} | {kind: hits[kind] / runs for kind in kinds})
    return still, moved


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of drift, and how fast a change is found.")
    parser.add_argument("--runs", type=int, default=200, help="paths of each kind of returns")
    parser.add_argument("--whole", type=int, default=12, help="markets of each kind through the whole watch")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    began = time.process_time()
    still, moved = all_kinds(given.whole) if given.whole else ([], [])
    tables = {"variance": variance_chart(given.runs), "false": still, "found": moved}
    print(f"{time.process_time() - began:.0f} s of computing", file=sys.stderr)
    if given.json:
        print(json.dumps(tables))
        return
    for table in tables.values():
        if table:
            with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True):
                print(pl.DataFrame(table).with_columns(pl.selectors.float().round(2)))


if __name__ == "__main__":
    main()
