"""What stands beside a verdict: gains over the plain yardstick and over the best simple model, found with hindsight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatecast.evaluation.compare import Days, day_means, gain_over
from gatecast.evaluation.rivals import REGRESSIONS, RIVALS
from gatecast.metrics import significance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatecast.forecasting.walkforward import Forecasts


@dataclass(frozen=True)
class Gain:
    """The gain over the model `over` as a share of its loss, and the 90 % interval (fixed-b)."""

    over: str
    gain: float
    low: float
    high: float


def gain_of(forecasts: Mapping[str, Forecasts], head: str, model: str, over: str, overlap: int) -> Gain | None:
    """The gain of a model over another on the days that both have, answers overlapping by so many days.

    None where there is no such day, or the other lost nothing.
    """
    days = day_means(forecasts, head, model, over)
    return _gain(days, over, overlap) if len(days.day) and days.rival.mean() > 0 else None


def best_simple(forecasts: Mapping[str, Forecasts], head: str, model: str, overlap: int) -> Gain | None:
    """The gain over the simple model that lost least, among the head's rivals and gatecast's own linear models.

    It is chosen with hindsight, on the very days of the comparison, and is so the strongest that could be asked for.
    None where there is none, or it lost nothing.
    """
    able = [
        name for name in (*RIVALS[head], *REGRESSIONS[head])
        if name != model and all(head in one.values.get(name, {}) for one in forecasts.values())
    ]  # fmt: skip
    compared = {name: day_means(forecasts, head, model, name) for name in able}
    compared = {name: days for name, days in compared.items() if len(days.day)}
    if not compared:
        return None
    best = min(compared, key=lambda name: float(compared[name].rival.mean()))
    return _gain(compared[best], best, overlap) if compared[best].rival.mean() > 0 else None


def _gain(days: Days, over: str, overlap: int) -> Gain:
    base, test = float(days.rival.mean()), significance.fixed_b_mean(days.gain, overlap)
    return Gain(over, gain_over(base, float(days.model.mean())), test.low / base, test.high / base)
