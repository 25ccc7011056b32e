"""One answer to one question: a verdict with its test, its numbers, and its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gatecast.files import jsonable
from gatecast.notebook import Shown, draw_intervals

SKILL, NOTHING, CANNOT_TELL = "evidence of skill", "nothing worth trading", "cannot tell"
FLOOR = 1e-4
"""The least gain that can be skill, in units of the loss, however certain it is: what moving a probability by one
percentage point to where it belongs brings, or a variance by 1.4 %; of returns an R² of .01 %."""
NAMES = {
    "return": "The return forecast",
    "direction": "The probability of a rise",
    "volatility": "The volatility forecast",
    "regime": "The probability of turbulence",
    "strategy": "The strategy",
    "risk": "The forecast of the book's risk",
}
MEASURES = {
    "return": "R²", "direction": "gain in Brier score", "volatility": "gain in QLIKE", "regime": "gain in Brier score",
    "strategy": "alpha a year", "risk": "gain in QLIKE",
}  # fmt: skip
HELD = "buy and hold at the same average exposure"
CORE = "the core alone"
"""Rivals of the strategy: without a core, and with one."""
ADDED = "The core with its tilt"
"""The strategy's name where there is a core."""


@dataclass(frozen=True)
class Verdict(Shown):
    """One answer.

    Attributes
    ----------
    effect, low, high: gain over the rival and its 90 % interval, as a share of the rival's loss (for returns an R²;
        for the strategy: yearly alpha, and `beta` is its exposure to buy and hold). The rival is the one in force at
        each refit; `most_in_force` is its name at most of them; `rival_loss` its mean standardised loss.
    plain_gain, plain_low, plain_high: the gain over the plain yardstick, `plain`, likewise; simple_gain, simple_low,
        simple_high: over `simple`, the simple model that lost least, chosen with hindsight.
    pvalue: one-sided, fixed-b, the largest one of the gain over the rival and of those over the head's fixed forecasts
        (see `estimate.yardsticks`), of returns `clark_west` against no change; least_certain: the fixed forecast whose
        p-value it is, empty where it is the rival's; pvalue_holm: corrected over the run's verdicts; pvalue_trials:
        that, corrected for
        `effective_trials`, what the `trials` so far are worth as independent ones (see `judge`). Where the ledger of
        trials cannot be read, `trials` is None and pvalue_trials NaN (see `with_trials_unknown`).
    n: days (of the strategy those on which something was held; `days`: all); n_effective: as many independent ones;
        detectable: the smallest effect that they could have shown (80 % power); n_needed: days that it would take at
        this effect (None where it is not above 0).
    break_even: effect that costs swallow, and n_break_even the days in which one of that size would show.
    diebold_mariano, non_overlapping: one-sided p-values of the gain by the correction of Harvey, Leybourne and
        Newbold, and from every h-th day alone, which share no bar.
    best_days: share of the whole gain that the best 1 % of days brought (NaN where there is no gain).
    best_year: the year that brought most; without_best_year: the effect of the others; survives: whether a claim is
        still one without it (None where nothing is claimed).
    seed_spread: standard deviation over the LSTM's seeds of its gain over the rival (NaN where seeds are unknown).
    simpler: `simple`, where the gain over it is not above 0 for certain, else empty.
    forecast, control, money, shortfall: of the verdict on risk, its answers, see `evaluation.risk`; None of the others.
    ties, capped: forecasts that are not scored because the price stood still; whose loss counts as `rivals.CAP`.
    pvalue_watched: one-sided, of the same days, valid for a page that is looked at every day (see `sequential_mean`).
        It decides nothing: the verdict goes by `pvalue_trials`, and what is held by the evidence factor, a sequential
        test of its own (see `gatecast.trading.selection.evidence_factor`).
    """

    head: str
    verdict: str
    effect: float
    low: float
    high: float
    test: str
    statistic: float
    pvalue: float
    pvalue_holm: float
    n: int
    n_needed: int | None
    break_even: float
    trials: int | None
    horizon: int
    rival: str
    unit: str
    sentence: str
    pvalue_trials: float = np.nan
    effective_trials: float = 1.0
    n_effective: float = np.nan
    detectable: float = np.nan
    n_break_even: int | None = None
    beta: float = np.nan
    diebold_mariano: float = np.nan
    non_overlapping: float = np.nan
    best_days: float = np.nan
    best_year: int | None = None
    without_best_year: float = np.nan
    survives: bool | None = None
    seed_spread: float = np.nan
    simpler: str = ""
    pvalue_watched: float = np.nan
    clark_west: float = np.nan
    least_certain: str = ""
    most_in_force: str = ""
    rival_loss: float = np.nan
    plain: str = ""
    plain_gain: float = np.nan
    plain_low: float = np.nan
    plain_high: float = np.nan
    simple: str = ""
    simple_gain: float = np.nan
    simple_low: float = np.nan
    simple_high: float = np.nan
    forecast: Mapping[str, Any] | None = None
    control: Mapping[str, Any] | None = None
    money: Mapping[str, Any] | None = None
    shortfall: Mapping[str, Any] | None = None
    days: int = 0
    ties: int = 0
    capped: int = 0

    @property
    def simple_is_as_good(self) -> bool:
        """Whether what was gained over the plain yardstick, or is claimed, a simple model gains as well."""
        return bool(self.simpler) and (self.verdict == SKILL or self.plain_low > 0)

    def plot(self) -> Any:
        """A Plotly figure: the gains over the rival in force, the plain yardstick and the best simple model."""
        rows = [
            ("over the rival in force", self.effect, self.low, self.high),
            (f"over {self.plain or 'the plain yardstick'}", self.plain_gain, self.plain_low, self.plain_high),
            (f"over {self.simple or 'the best simple model'}", self.simple_gain, self.simple_low, self.simple_high),
        ]
        return draw_intervals(rows, f"{self.head}: {self.verdict}", self.unit)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined numbers are None."""
        found: dict[str, Any] = jsonable(asdict(self))
        return found
