"""Do intervals of the return path hold what they promise? On any bars, overall, by year and by regime.

    python benchmarks/intervals.py --bars FILE [--symbols-file FILE] [--start DATE] [--end DATE] [--horizon H]

The path forecast is no change, the variance the linear blend of `benchmarks/volatility.py`; around them the adaptive
conformal intervals of every run. For each level and the first and the last step: the share of all answers inside, and
the year and the regime that are furthest off. `--json` prints one line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import polars as pl
from volatility import linear_blend, linear_models

from gatecast.forecasting.combining.intervals import Intervals, coverage, make_intervals
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market.sources import read_bars
from gatecast.samples.windows import make_samples

LEAST_DAYS = 100  # of a year, before it counts


def forecasts_of(bars: pl.DataFrame, horizon: int, jobs: int) -> dict[str, Forecasts]:
    """Asset class -> forecasts of the path (no change) and of variance (the linear blend), monthly refits."""
    found = {}
    for name, samples in make_samples(bars, ("ret_log_1",), horizon=horizon).items():
        schedule = Schedule(minimum="1Y")
        if not schedule.folds(samples.times, samples.known_at):
            continue
        made = walk_forward([Naive(rule="zero"), *linear_models()], samples, schedule, Task(jobs=jobs))
        blend = linear_blend(made)
        found[name] = made.with_model("ensemble", {**made.values["zero"], "volatility": blend})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of the return path.")
    parser.add_argument("--bars", required=True, help="CSV or Parquet file, or embedded")
    parser.add_argument("--symbols-file", help="CSV with symbol and asset_class")
    parser.add_argument("--asset-class", default="index", help="of symbols that nothing else classifies")
    parser.add_argument("--start", help="first year that is scored, as a date")
    parser.add_argument("--end", help="last session that is read")
    parser.add_argument("--horizon", type=int, default=5, help="bars ahead")
    parser.add_argument("--rate", type=float, default=Intervals().rate, help="0: normal quantiles")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    bars = read_bars(given.bars, symbols_file=given.symbols_file, asset_class=given.asset_class, end=given.end)
    tables = [
        coverage(one, make_intervals(one, Intervals(rate=given.rate)))
        for one in forecasts_of(bars, given.horizon, given.jobs).values()
    ]
    first = (given.start or "0000")[:4]
    weight = pl.col("forecasts")
    table = (
        pl.concat(tables)
        .filter(pl.col("step").is_in([1, given.horizon]), (pl.col("scope") != "year") | (pl.col("part") >= first))
        .group_by("scope", "part", "step", "level")
        .agg(
            days=pl.col("days").max(),
            forecasts=weight.sum(),
            coverage=(pl.col("coverage") * weight).sum() / weight.sum(),
        )
        .filter((pl.col("scope") != "year") | (pl.col("days") >= LEAST_DAYS))
        .with_columns(off=pl.col("coverage") - pl.col("level"))
        .sort("step", "level", "scope", "part")
    )
    answer = []
    for (step, level), rows in table.group_by("step", "level", maintain_order=True):
        worst = {
            scope: rows.filter(scope=scope).sort(pl.col("off").abs()).select("part", "coverage").tail(1).to_dicts()
            for scope in ("year", "regime")
        }
        whole = rows.filter(scope="overall").row(0, named=True)
        answer.append(
            {"step": step, "level": level, "coverage": whole["coverage"], "forecasts": whole["forecasts"],
             "worst_year": worst["year"], "worst_regime": worst["regime"]}
        )  # fmt: skip
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps(answer) if given.json else json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
