"""What a run costs: the time that each model's training takes, what there is to do, and how long that will take.

All of it is kept beside the forecasts and never among them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """What there is to do for one asset class, known before anything is fitted.

    `bars`, `symbols`; `refits`; `rows`: of all refits' windows together, training and validation; `record`: rows that
    all refits together have behind them, which everything with a long memory reads.
    """

    bars: int
    symbols: int
    refits: int
    rows: int
    record: int


PRIOR: dict[str, tuple[float, float, float]] = {
    "lstm": (0.005, 6.5e-5, 0), "lstm_default": (0.005, 6.5e-5, 0), "tuning": (0.005, 6.5e-5, 0),
    "forest": (0.02, 7e-5, 0), "logistic": (0.015, 4.5e-6, 0), "ridge": (1e-3, 3e-7, 0),
    "highway": (5e-3, 0, 1.6e-6), "garch": (1e-3, 0, 7e-7), "gjr": (1e-3, 0, 7e-7), "tft": (0.5, 1e-3, 0),
    "markov": (5e-3, 2e-5, 0), "ridge_long": (1e-3, 0, 1.2e-7), "logistic_long": (7e-3, 0, 1.3e-6),
    "har": (1e-3, 0, 1.5e-7), "har_symbol": (1e-3, 0, 1e-7), "har_class": (1e-3, 0, 1e-7),
    "har_falls": (1e-3, 0, 2e-7), "har_levels": (1e-3, 0, 3e-7), "ridge_lag": (5e-4, 0, 1e-7),
    "logistic_lag": (1e-3, 0, 5e-7), "har_regime_falls": (3e-3, 0, 7e-7),
    "threshold": (1.5e-3, 4e-7, 0), "har_regime": (3e-3, 0, 5e-7), "ensemble": (0.01, 0, 1.2e-6),
    "scores": (0.05, 0, 8e-6),
}  # fmt: skip
"""Seconds a refit, a row of its window and a row of its record, as `benchmarks/universe.py --units` measured them; what
is trained or searched at some refits only, spread over all. Once anything was timed, their ratios are all that matters.
`ensemble` is the combination, `scores` all that is counted afterwards."""
PER_BAR = {"scores": 1.5e-4}
"""Seconds a bar, whatever the refits: of scores, which store and draw, too."""


@dataclass
class Estimate:
    """How long a run will still take, from the work of each class and from what its stages took so far.

    What a model has left is the usual cost of that work times how much longer the model took than usual so far; of a
    model that has not run yet, how much longer all others took. Its very first fit is left out of that: it loads and
    compiles. `models`: name -> how many times the default settings' work it has.

    >>> ticks = iter([0.0, 0.0, 10.0])
    >>> estimate = Estimate({"lstm": 1.0}, clock=lambda: next(ticks))
    >>> estimate.plan({"small": Work(500, 1, 10, 1_000, 1_000), "large": Work(5_000, 10, 10, 10_000, 10_000)})
    >>> estimate.done("small", "lstm", 10, 10)
    >>> 5 < estimate.left < 50
    True
    """

    models: dict[str, float]
    clock: Callable[[], float] = time.monotonic
    work: dict[str, Work] = field(default_factory=dict)
    parts: dict[tuple[str, str], float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The clock starts."""
        self.last = self.began = self.clock()

    def plan(self, work: dict[str, Work]) -> None:
        """Says what there is to do; said again it is added. The time until then is no stage's."""
        self.work.update(work)
        self.last = self.clock()

    def done(self, asset_class: str, model: str, done: int, total: int) -> None:
        """So much of a stage is done; what has passed since the last call was spent on it."""
        now = self.clock()
        before = self.parts.get((asset_class, model), 0.0)
        self.parts[asset_class, model] = share = done / max(total, 1)
        first = model not in self.spent
        if first:
            self.spent[model] = self.ready[model] = 0.0
        if not first or share == 1:
            self.spent[model] += now - self.last
            self.ready[model] += (share - before) * self._usual(asset_class, model)
        self.last = now

    def _usual(self, asset_class: str, model: str) -> float:
        work = self.work.get(asset_class)
        if work is None:
            return 0.0
        refit, row, record = PRIOR.get(model, (0.0, 0.0, 0.0))
        once = PER_BAR.get(model, 0.0) * work.bars
        return self.models.get(model, 0.0) * (refit * work.refits + row * work.rows + record * work.record + once)

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds still to go; a guess from the usual costs before anything was timed."""
        timed = [model for model, usual in self.ready.items() if usual > 0]
        others = _slower(sum(self.spent[model] for model in timed), sum(self.ready[model] for model in timed))
        left = 0.0
        for model in self.models:
            open_work = sum((1 - self.parts.get((name, model), 0.0)) * self._usual(name, model) for name in self.work)
            left += open_work * (_slower(self.spent[model], self.ready[model]) if model in timed else others)
        return left


def _slower(spent: float, usual: float) -> float:
    """How many times longer than usual; a second as usual goes before, so that hardly anything says hardly anything."""
    return (spent + 1) / (usual + 1)


def peak_memory() -> int | None:
    """Bytes of memory that this process held at most so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@dataclass(frozen=True)
class Cost:
    """What a run took: wall-clock `seconds`, `peak_memory_bytes` of its process, `bars_per_second`."""

    seconds: float
    peak_memory_bytes: int | None
    bars_per_second: float

    @classmethod
    def since(cls, began: float, bars: int) -> Cost:
        """The cost of so many bars since a moment of `time.monotonic`."""
        seconds = time.monotonic() - began
        return cls(round(seconds, 1), peak_memory(), round(bars / max(seconds, 1e-9), 1))
