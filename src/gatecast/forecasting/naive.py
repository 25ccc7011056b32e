"""The rivals that learn next to nothing: every other forecaster must beat them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gatecast.forecasting.forecaster import Progress, fan_out
from gatecast.forecasting.schedule import Fold
from gatecast.samples.targets import decode
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Rule = Literal["zero", "mean", "last", "ewma", "base_rate", "constant"]


class Naive(Settings):
    """One of the simple rules, by name.

    - `zero`: return 0. `mean`: the symbol's mean return so far, times the steps.
    - `last`: the last return, variance and regime go on (the regime's chance to stay is counted on the past).
    - `ewma`: the exponentially weighted variance, decay .94, goes on (RiskMetrics 1996).
    - `base_rate`: the class's past share of rises and of turbulent spells. `constant`: the symbol's past mean variance.

    >>> Naive(rule="zero").name
    'zero'
    """

    rule: Rule

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule

    def fit_many(self, folds: Sequence[Fold], *, jobs: int = 1, progress: Progress | None = None) -> list[FittedNaive]:
        """Counts on all rows known at each fold's cutoff, however old: a rival deserves its whole memory."""
        return fan_out(self._fit, folds, light=True, progress=progress)

    def _fit(self, fold: Fold) -> FittedNaive:
        samples = fold.data
        rows = fold.record
        ends, decided = samples.ends[rows], samples.decided[rows]
        learned: dict[str, float] = {}
        per_symbol = np.full(len(samples.symbols), np.nan)
        rise, turbulent = (samples.targets[head].value[decided] for head in ("direction", "regime"))
        if self.rule == "base_rate":
            learned = {
                "rise": share(rise == 1, np.isfinite(rise)),
                "turbulent": share(turbulent == 1, np.isfinite(turbulent)),
            }
        elif self.rule == "last":
            was = samples.facts.recent[ends] > samples.facts.level[ends]
            known = np.isfinite(turbulent)
            learned = {
                "stays": share(turbulent == 1, known & was),
                "turns": share(turbulent == 1, known & ~was),
            }
        elif self.rule == "constant":
            variance = np.exp(samples.targets["volatility"].value[decided])
            for number in range(len(samples.symbols)):
                of_symbol = variance[samples.symbol[ends] == number]
                per_symbol[number] = of_symbol.mean() if len(of_symbol) >= 20 else np.nan
            learned = {"pooled": float(variance.mean())}
        return FittedNaive(self.rule, learned, per_symbol, samples.symbols)


@dataclass(frozen=True)
class FittedNaive:
    """The counted shares, and one number a symbol where the rule has one."""

    rule: Rule
    learned: dict[str, float]
    per_symbol: FloatArray
    symbols: tuple[str, ...]

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; only the heads that the rule speaks about."""
        ends, facts = samples.ends[rows], samples.facts
        steps = np.arange(1, samples.horizon + 1)
        if self.rule == "zero":
            return {"return": np.zeros((len(rows), samples.horizon))}
        if self.rule == "mean":
            return {"return": facts.mean[ends, None] * steps}
        if self.rule == "ewma":
            return {"volatility": facts.baseline[ends]}
        if self.rule == "base_rate":
            return {
                "direction": np.full(len(rows), self.learned["rise"]),
                "regime": np.full(len(rows), self.learned["turbulent"]),
            }
        if self.rule == "constant":
            number = match_symbols(samples, self.symbols, ends)
            mean = np.where(number >= 0, self.per_symbol[number], np.nan)
            return {"volatility": np.where(np.isnan(mean), self.learned["pooled"], mean)}
        was = facts.recent[ends] > facts.level[ends]
        stays = np.where(was, self.learned["stays"], self.learned["turns"])
        return {
            "return": facts.past_return[ends, None] * steps / samples.horizon,
            "volatility": np.exp(facts.recent[ends]),
            "regime": decode("regime", stays, facts.sigma[ends], facts.baseline[ends]),
        }

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        settings = {
            "kind": "naive",
            "rule": self.rule,
            "learned": self.learned,
            "symbols": list(self.symbols),
        }
        return {"per_symbol": self.per_symbol}, settings

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedNaive:
        """The inverse of `state`."""
        return cls(settings["rule"], settings["learned"], arrays["per_symbol"], tuple(settings["symbols"]))


def share(hit: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    """Share of `of` rows that hit, one hit in two rows added (so that nothing known means one half)."""
    return float((np.count_nonzero(hit & of) + 1) / (np.count_nonzero(of) + 2))


def match_symbols(samples: Samples, symbols: tuple[str, ...], ends: IntArray) -> IntArray:
    """For each bar-level row, the number that its symbol has in `symbols`; -1 where it is not among them."""
    known = {symbol: i for i, symbol in enumerate(symbols)}
    return np.array([known.get(symbol, -1) for symbol in samples.symbols])[samples.symbol[ends]]
