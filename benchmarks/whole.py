"""CPU seconds of a run by stage, on one core: the embedded market, and sixteen symbols over sixteen years.

The run is that of `gatecast run`, read, judged, saved and drawn, with the planted market beside the embedded one. Each
stage is a function of the chain; what it calls is its own, unless that is a stage itself. The unit in which all that is
not the networks' training is also told is one refit of plain torch on the same rows, windows of the run's own fold in
batches of 64 over 20 epochs, timed just after the run: a slow machine makes both longer. It needs the extra
`gatecast[torch]`, and is left out without it.

Run: `python benchmarks/whole.py --json`, `--only embedded` for one of the two. Sixteen symbols are random walks
(`market.synthetic`); `--data FOLDER` reads them from `daily.parquet` and `symbols.csv` there instead, by `--symbols`,
`--start` and `--end`. `--refit 3M` refits less often, for a look.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import peers

from gatecast import report, runs, store
from gatecast.compute.estimate import peak_memory
from gatecast.experiment import Control, Experiment
from gatecast.forecasting import walkforward
from gatecast.market import synthetic
from gatecast.runs import Run
from gatecast.samples.windows import Sampling

SYMBOLS, BARS, SEED = 16, 16 * 252, 5
TORCH_EPOCHS = 4  # that are timed; a refit has 20
NETWORKS = ("lstm", "residual_lstm")
CLOSED = ("audit", "credit")
"""Stages that repeat others: what they call is theirs."""
STAGES = {
    "reading": ["Experiment.read"],
    "samples": ["Sampling.make"],
    "drift": ["watch_inputs", "watch_losses"],
    "combining": ["combine"],
    "decisions": ["decide", "make_decisions"],
    "book": ["sessions_by", "lines_of"],
    "verdicts": ["risk_of", "later_of", "judge_chain"],
    "audit": ["audit_of"],
    "credit": ["credit_of"],
    "scores": ["scores_of", "book_scores", "findings_of"],
    "saving": ["finish", "save_run"],
    "report": ["render"],
}
"""Stage -> the functions that are it. Training and predicting are stages of each model."""


class Stages:
    """CPU seconds of this process by stage: of several that run inside each other, the innermost."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        self.open = ["other"]
        self.since = time.process_time()

    def _count(self) -> None:
        now = time.process_time()
        self.seconds[self.open[-1]] = self.seconds.get(self.open[-1], 0.0) + now - self.since
        self.since = now

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """What is done inside is this stage's, but for what is done inside a stage that is closed."""
        self._count()
        self.open.append(self.open[-1] if self.open[-1] in CLOSED else stage)
        try:
            yield
        finally:
            self._count()
            self.memory[self.open.pop()] = peak_memory() or 0

    def timed(self, work: Callable[..., Any], stage: Callable[..., str]) -> Callable[..., Any]:
        """The same function, its time counted; `stage` says of its arguments which it is."""

        @wraps(work)
        def call(*given: Any, **named: Any) -> Any:
            with self.at(stage(*given, **named)):
                return work(*given, **named)

        return call

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The functions of `STAGES`, and the models', are timed in every module that has them."""
        modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "gatecast"]
        named = {name: stage for stage, names in STAGES.items() for name in names}
        replaced: list[tuple[Any, str, Any]] = []

        def replace(holder: Any, name: str, stage: Callable[..., str]) -> None:
            own = vars(holder)[name]
            replaced.append((holder, name, own))
            setattr(holder, name, self.timed(own, stage))

        for holder in modules:
            for name, stage in named.items():
                own = vars(holder).get(name)
                if callable(own) and getattr(own, "__module__", "").startswith("gatecast"):
                    replace(holder, name, lambda *_, stage=stage, **__: stage)
        replace(Experiment, "read", lambda *_, **__: "reading")
        replace(Sampling, "make", lambda *_, **__: "samples")
        replace(walkforward, "fits_of", lambda name, *_, **__: f"training {name}")
        replace(walkforward, "_with_forecasts", lambda _, name, *__, **___: f"predicting {name}")
        try:
            yield
        finally:
            for holder, name, own in reversed(replaced):
                setattr(holder, name, own)


def measure(experiment: Experiment) -> dict[str, Any]:
    """One run: CPU seconds by stage, of them those outside the networks' training, and the same in refits of torch."""
    stages = Stages()
    with tempfile.TemporaryDirectory() as folder, stages.watched():
        began = time.process_time()
        done = runs.run(experiment)
        store.save_run(done, Path(folder) / "run")
        page = report.render(done)
        stages._count()
        total = time.process_time() - began
    training = sum(stages.seconds.get(f"training {name}", 0.0) for name in NETWORKS)
    unit = plain_torch_refit(done) if importlib.util.find_spec("torch") else None
    return {
        "cpu_seconds": total, "training": training, "outside_training": total - training,
        "torch_refit": unit, "outside_training_in_torch_refits": (total - training) / unit if unit else None,
        "peak_memory_bytes": peak_memory(), "report_bytes": len(page),
        "stages": dict(sorted(stages.seconds.items(), key=lambda one: -one[1])),
        "peak_after": stages.memory,
    }  # fmt: skip


def plain_torch_refit(done: Run) -> float:
    """CPU seconds of one refit of plain torch on the rows of a fold in the middle of the largest class."""
    one = max(done.classes.values(), key=lambda each: len(each.samples))
    samples, fold = one.samples, one.forecasts.folds[len(one.forecasts.folds) // 2]
    windows = samples.window(fold.train).astype(np.float32)
    windows = (windows - windows.mean((0, 1))) / windows.std((0, 1))
    answers = np.nan_to_num(samples.answers[fold.train, samples.horizon - 1]).astype(np.float32)
    began = time.process_time()
    peers.torch_refit(windows, answers, TORCH_EPOCHS, seed=0)
    return (time.process_time() - began) * 20 / TORCH_EPOCHS


def experiments(given: argparse.Namespace) -> dict[str, Experiment]:
    """The two runs, by name."""
    schedule = {"refit": given.refit}
    if given.data is None:
        bars = {"source": "frame", "frame": synthetic.g1(BARS, SEED, symbols=SYMBOLS)}
    else:
        bars = {
            "source": str(given.data / "daily.parquet"), "symbols_file": str(given.data / "symbols.csv"),
            "symbols": given.symbols or None, "start": given.start, "end": given.end,
        }  # fmt: skip
    return {
        "embedded": Experiment(name="embedded", schedule=schedule, control=Control(market="b1")),
        "sixteen": Experiment(name="sixteen", schedule=schedule, bars=bars),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--only", choices=("embedded", "sixteen"))
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--symbols", type=lambda text: tuple(text.split(",")), default=())
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--refit", default="1M")
    given = parser.parse_args()
    found = {name: measure(experiment) for name, experiment in experiments(given).items() if given.only in (None, name)}
    if given.json:
        print(json.dumps(found))
        return
    for name, one in found.items():
        unit = one["outside_training_in_torch_refits"]
        said = f"{unit:.1f} refits of plain torch" if unit else "torch is not there: pip install 'gatecast[torch]'"
        print(
            f"{name}: {one['cpu_seconds']:.1f} s of CPU, {one['outside_training']:.1f} s of them outside the networks' "
            f"training ({said}); {(one['peak_memory_bytes'] or 0) / 1e9:.2f} GB"
        )
        for stage, seconds in one["stages"].items():
            print(f"  {stage:28}{seconds:8.2f}  {one['peak_after'].get(stage, 0) / 1e9:6.2f} GB")


if __name__ == "__main__":
    main()
