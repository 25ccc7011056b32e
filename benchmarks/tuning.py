"""Does the search for settings find what is there, and nothing where there is nothing?

    python benchmarks/tuning.py [--late N] [--walks N] [--jobs N] [--json]

`late`: planted B1 whose x acts 40 bars late, so that the default window of 30 bars is blind; searched in all that is
known, 8 candidates. For each market the lookback that was found, and out of sample the R² against zero and Clark-West's
p of the return over 5 bars, with the default settings and with those found; the optimum beside them. `walks`: pure
random walks through the whole chain, searched yearly (8 candidates, 2 folds, 1 network): how many claim skill.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from gatecast.compute.parallel import fan_out
from gatecast.evaluation.verdict import SKILL
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.tuning.tuned import Tuning
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.metrics.forecast import r2_zero
from gatecast.metrics.significance import clark_west
from gatecast.studies.placebo import verdicts_of
from gatecast.studies.truth import allowed

DELAY, PHI, R2, HORIZON = 40, 0.5, 0.3, 5


def late(seed: int) -> dict[str, Any]:
    """One market whose x acts late: what was found, and both settings out of sample."""
    bars = synthetic.b1(5000, seed, r2=R2, phi=PHI, delay=DELAY)
    experiment = Experiment(
        features=("x",), model={"lstm": LSTM(seeds=1)}, schedule=Schedule(refit="1Y", minimum="12Y", expanding=True),
        tuning=Tuning(every="10Y", slice="expanding", windows=("expanding",), units=(16, 64), head="return"),
    )  # fmt: skip
    samples = experiment.make_samples(bars)["index"]
    made = walk_forward(experiment.lstms(), samples, experiment.schedule)
    answer = samples.targets["return"].value[samples.ends, -1]
    found: dict[str, Any] = {"seed": seed, "lookback": made.fitted["lstm"].searches[0]["chosen"]["lookback"]}
    for name in ("lstm_default", "lstm"):
        forecast = made.values[name]["return"][:, -1]
        good = np.isfinite(answer) & np.isfinite(forecast)
        test = clark_west(answer[good], np.zeros(int(good.sum())), forecast[good], HORIZON)
        found[name] = {"r2": r2_zero(answer[good], forecast[good]), "clark_west_p": test.pvalue}
    return found


def walk(seed: int) -> list[str]:
    """The heads in which one random walk claims skill."""
    experiment = Experiment(model={"lstm": LSTM(seeds=1)}, schedule=Schedule(refit="3M"), tuning=Tuning())
    verdicts = verdicts_of(experiment, synthetic.a1(2000, seed))
    return [head for head, verdict in verdicts.items() if verdict.verdict == SKILL]


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches for settings on markets whose truth is known.")
    parser.add_argument("--late", type=int, default=5, help="markets with a late x")
    parser.add_argument("--walks", type=int, default=25, help="random walks")
    parser.add_argument("--seed", type=int, default=0, help="of the first market")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    answer: dict[str, Any] = {"optimum_r2": synthetic.b1_r2(R2, PHI, HORIZON)}
    began = time.monotonic()
    seeds = range(given.seed, given.seed + given.late)
    answer["late"] = fan_out(late, seeds, jobs=given.jobs, processes=True)
    print(f"{given.late} late markets: {time.monotonic() - began:.0f} s", file=sys.stderr)
    began = time.monotonic()
    seeds = range(given.seed, given.seed + given.walks)
    claims = fan_out(walk, seeds, jobs=given.jobs, processes=True)
    answer["walks"] = {
        "runs": given.walks, "claims": sum(bool(one) for one in claims), "allowed": allowed(given.walks),
        "heads": sorted(head for one in claims for head in one),
    }  # fmt: skip
    print(f"{given.walks} walks: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(json.dumps(answer) if given.json else json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
