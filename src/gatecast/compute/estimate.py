"""Time estimates: models, refits and rows -> seconds of training, seconds left, and the cost of a finished run.

All of it is kept beside the forecasts and never among them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace


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


@dataclass(frozen=True)
class Seconds:
    """What a stage usually takes on one core: a refit, a row of its window, a row of its record, and a bar in all.

    As `benchmarks/universe.py --units` measured it; what is trained or searched at some refits only is spread over all.
    Once anything was timed, the ratios are all that matters. `parallel`: whether several cores make it faster.
    """

    refit: float = 1e-3
    row: float = 0.0
    record: float = 0.0
    bar: float = 0.0
    parallel: bool = False

    def of(self, work: Work) -> float:
        """Seconds of so much work."""
        each = self.refit * work.refits + self.row * work.rows + self.record * work.record
        return each + self.bar * work.bars

    def times(self, factor: float) -> Seconds:
        """So many times as long."""
        return replace(
            self, refit=self.refit * factor, row=self.row * factor, record=self.record * factor, bar=self.bar * factor
        )


COMBINING = Seconds(0.01, 0, 1.2e-6)
"""The combination of the models' forecasts."""
SCORING = Seconds(0.05, 0, 8e-6, 1.5e-4)
"""All that is counted, stored and drawn afterwards."""


@dataclass
class Estimate:
    """How long a run will still take, from the work of each class and from what its stages took so far.

    What a model has left is the usual cost of that work times how much longer the model took than usual so far; of a
    model that has not run yet, how much longer all others took. Its very first fit is left out of that: it loads and
    compiles. `models`: name of a model or stage -> what it usually takes.

    >>> ticks = iter([0.0, 0.0, 10.0])
    >>> estimate = Estimate({"mine": Seconds(0.005, 6.5e-5)}, clock=lambda: next(ticks))
    >>> estimate.plan({"small": Work(500, 1, 10, 1_000, 1_000), "large": Work(5_000, 10, 10, 10_000, 10_000)})
    >>> estimate.done("small", "mine", 10, 10)
    >>> 5 < estimate.left < 50
    True
    """

    models: Mapping[str, Seconds]
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
        usual = self.models.get(model)
        return usual.of(work) if usual else 0.0

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
