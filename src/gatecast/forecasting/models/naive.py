"""Simple rules as rivals: no change, the past mean, the last value, EWMA, the past share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import polars as pl

from gatecast.forecasting.forecaster import (
    ALONE,
    FORECASTERS,
    Forecaster,
    Task,
    Traits,
    fit_every,
)
from gatecast.forecasting.models.shares import symbol_shares
from gatecast.forecasting.schedule import Fold
from gatecast.forecasting.stored import array_of, number_in, symbols_in, text_in
from gatecast.samples.targets import DECAY, decode, to_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Rule = Literal["zero", "mean", "last", "ewma", "ewma_range", "base_rate", "constant"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""Every simple rule."""
ABOUT: dict[Rule, tuple[str, str, tuple[str, ...]]] = {
    "zero": ("no change", "forecasting no change", ("return",)),
    "mean": ("historical mean", "the historical mean", ("return",)),
    "last": ("last value", "the last value", ("return", "volatility", "regime")),
    "ewma": ("EWMA", "the EWMA of squared returns", ("volatility",)),
    "ewma_range": ("EWMA of the range", "the EWMA of the range", ("volatility",)),
    "base_rate": ("past share", "the past share", ("direction", "regime")),
    "constant": ("constant variance", "a constant variance", ("volatility",)),
}
"""Rule -> its title, the title within a sentence, and the heads that it forecasts."""


@dataclass(frozen=True)
class FittedNaive:
    """The counted shares, and a row a symbol where the rule has one: (symbols,), of `base_rate` (symbols, 2)."""

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
        if self.rule == "ewma_range":
            return {"volatility": samples.horizon * range_average(samples)[ends]}
        if self.rule == "base_rate":
            of_class = np.array([self.learned["rise"], self.learned["turbulent"]])
            shares = numbers_of(samples, self.symbols, ends, self.per_symbol, of_class)
            return {"direction": shares[:, 0], "regime": shares[:, 1]}
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
            "rule": self.rule,
            "learned": self.learned,
            "symbols": list(self.symbols),
        }
        return {"per_symbol": self.per_symbol}, settings

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedNaive:
        """The inverse of `state`."""
        rule, symbols = text_in(settings, "rule", among=RULES), symbols_in(settings)
        wanted = {"base_rate": ("rise", "turbulent"), "constant": ("pooled",), "last": ("stays", "turns")}
        learned = settings["learned"]
        shares = {
            name: number_in(learned, name, 0.0, 1e6 if rule == "constant" else 1.0) for name in wanted.get(rule, ())
        }
        shape = (len(symbols), 2) if rule == "base_rate" else (len(symbols),)
        return cls(rule, {**learned, **shares}, array_of(arrays, "per_symbol", *shape, nan=True), symbols)


@FORECASTERS.add
class Naive(Forecaster):
    """One of the simple rules, by name.

    - `zero`: return 0. `mean`: the symbol's mean return so far, times the steps.
    - `last`: the last return, variance and regime go on (the regime's chance to stay is counted on the past).
    - `ewma`: the exponentially weighted variance of returns, decay .94, goes on (RiskMetrics 1996); `ewma_range`: that
      of the variance proxy itself.
    - `base_rate`: the symbol's past share of rises and of turbulent spells, see `shares`.
    - `constant`: the symbol's past mean variance.

    >>> Naive(rule="zero").name
    'zero'
    """

    kind: ClassVar = "naive"
    traits: ClassVar = Traits("simple rule", ("return", "direction", "volatility", "regime"), learns_slope=False)
    fitted: ClassVar = FittedNaive

    rule: Rule
    """name of the rule"""

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule

    def title(self) -> str:
        """What a reader calls the rule."""
        return ABOUT[self.rule][0]

    def phrase(self) -> str:
        """The rule within a sentence."""
        return ABOUT[self.rule][1]

    def member_heads(self) -> tuple[str, ...]:
        """The constant alone: the level that a variance returns to."""
        return ("volatility",) if self.rule == "constant" else ()

    def output_heads(self) -> tuple[str, ...]:
        """The heads that the rule speaks about."""
        return ABOUT[self.rule][2]

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedNaive]:
        """Counts on all rows known at each fold's cutoff, however old: a rival deserves its whole memory."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedNaive:
        samples = fold.data
        rows = fold.record
        ends, decided = samples.ends[rows], samples.decided[rows]
        learned: dict[str, float] = {}
        symbol, count = samples.symbol[ends], len(samples.symbols)
        per_symbol = np.full(count, np.nan)
        rise, turbulent = (samples.targets[head].value[decided] for head in ("direction", "regime"))
        if self.rule == "base_rate":
            both = [symbol_shares(one, symbol, count, samples.horizon_sessions) for one in (rise, turbulent)]
            learned = {"rise": both[0][1], "turbulent": both[1][1]}
            per_symbol = np.column_stack([both[0][0], both[1][0]])
        elif self.rule == "last":
            was = samples.facts.recent[ends] > samples.facts.level[ends]
            known = np.isfinite(turbulent)
            learned = {
                "stays": share(turbulent == 1, known & was),
                "turns": share(turbulent == 1, known & ~was),
            }
        elif self.rule == "constant":
            variance = np.exp(samples.targets["volatility"].value[decided])
            symbol, variance = symbol[np.isfinite(variance)], variance[np.isfinite(variance)]
            for number in range(count):
                of_symbol = variance[symbol == number]
                per_symbol[number] = of_symbol.mean() if len(of_symbol) >= 20 else np.nan
            learned = {"pooled": float(variance.mean())}
        return FittedNaive(self.rule, learned, per_symbol, samples.symbols)


def range_average(samples: Samples) -> FloatArray:
    """(bars,) exponentially weighted mean of the variance proxy of one bar, decay .94, within each segment."""
    key = "range_average"
    if key not in samples.fit_cache:
        frame = pl.DataFrame(
            {"symbol": samples.symbol, "segment": samples.segment, "proxy": np.exp(samples.facts.har[:, 0])}
        )
        average = pl.col("proxy").fill_nan(None).ewm_mean(alpha=1 - DECAY, ignore_nulls=True)
        samples.fit_cache[key] = to_array(frame.select(average.over("symbol", "segment")), "proxy")
    found: FloatArray = samples.fit_cache[key]
    return found


def share(hit: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    """Share of `of` rows that hit, one hit in two rows added (so that nothing known means one half)."""
    return float((np.count_nonzero(hit & of) + 1) / (np.count_nonzero(of) + 2))


def match_symbols(samples: Samples, symbols: tuple[str, ...], ends: IntArray) -> IntArray:
    """For each bar-level row, the number that its symbol has in `symbols`; -1 where it is not among them."""
    known = {symbol: i for i, symbol in enumerate(symbols)}
    return np.array([known.get(symbol, -1) for symbol in samples.symbols])[samples.symbol[ends]]


def numbers_of(
    samples: Samples, symbols: tuple[str, ...], ends: IntArray, table: FloatArray, of_class: FloatArray
) -> FloatArray:
    """(bars, numbers) of each bar-level row the numbers of its symbol, or of its class for any other symbol.

    `table`: (symbols, numbers) in the order of `symbols`; `of_class`: (numbers,).
    """
    number = match_symbols(samples, symbols, ends)
    numbers: FloatArray = np.where((number >= 0)[:, None], table[number], of_class)
    return numbers
