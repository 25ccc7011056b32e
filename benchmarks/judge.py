"""How often `gatecast judge` claims skill: of the best forecast there can be, of noise, and of dates a bar early.

On the planted market B1 (1 % of each bar's variance can be forecast) the true forecast should be evidence of skill,
noise should not be, at most 7 of 100 times, and the true forecast dated one bar early should be called a leak.

Run: `python benchmarks/judge.py`, with `--runs 100`, `--bars 3000`.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import polars as pl

from gatecast.compute.parallel import fan_out
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.verdict import SKILL
from gatecast.market import synthetic
from gatecast.studies.judging import judge_forecasts

HORIZON, PERSISTENCE, R2, DAY = 5, 0.95, 0.01, 0.01
"""Bars ahead; of the planted market: how the column x persists, the share of a bar's variance, a bar's deviation."""


def truth_of(bars: pl.DataFrame) -> np.ndarray:
    """(bars,) the expected log return over the horizon of B1, from its column x."""
    together = (1 - PERSISTENCE**HORIZON) / (1 - PERSISTENCE)
    deviation = float(np.diff(np.log(bars["close"].to_numpy())).std())
    return together * bars["x"].to_numpy() * np.sqrt(R2) * deviation


def outcome(kind: str, seed: int, count: int) -> tuple[bool, bool]:
    """Whether a file of a kind is evidence of skill in anything, and whether it is called a leak."""
    bars = synthetic.b1(count, seed=seed, r2=R2)
    values = truth_of(bars)
    if kind == "noise":
        values = np.random.default_rng(seed).standard_normal(count) * values.std()
    if kind == "early":
        values = np.r_[values[1:], np.nan]
    table = bars.select("symbol", "time", **{"return": pl.Series(values)})
    with unrecorded():
        found = judge_forecasts(table, bars, horizon=HORIZON, name=kind, copies=0).models[kind]
    return any(one.verdict == SKILL for one in found.verdicts.values()), bool(found.leaks)


def main() -> None:
    """A line a kind."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=100, help="of noise; a fifth as many of the others")
    asked.add_argument("--bars", type=int, default=3000)
    asked.add_argument("--jobs", type=int, default=2)
    given = asked.parse_args()
    said = {}
    for kind, runs in (("true", given.runs // 5), ("noise", given.runs), ("early", given.runs // 5)):
        work = [(kind, seed, given.bars) for seed in range(runs)]
        found = list(fan_out(lambda one: outcome(*one), work, jobs=given.jobs, processes=True))
        said[kind] = {"runs": runs, "skill": sum(one[0] for one in found), "leak": sum(one[1] for one in found)}
        print(json.dumps({kind: said[kind]}), flush=True)


if __name__ == "__main__":
    main()
