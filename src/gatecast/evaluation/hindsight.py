"""What stands beside a verdict: gains over the plain yardstick and over the best simple model, found with hindsight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatecast.evaluation.paired import Paired, paired
from gatecast.forecasting.panel import REGRESSIONS, RIVALS

if TYPE_CHECKING:
    from gatecast.evaluation.record import Record


@dataclass(frozen=True)
class Gain:
    """The gain over the model `over` as a share of its loss, and the 90 % interval (fixed-b)."""

    over: str
    gain: float
    low: float
    high: float


def gain_of(record: Record, model: str, over: str) -> Gain | None:
    """The gain of a record's model over another on the days that both have.

    None where there is no such day, or the other lost nothing.
    """
    return _gain(paired(record, model, over))


def best_simple(record: Record, model: str) -> Gain | None:
    """The gain over the simple model that lost least, among the head's rivals and gatecast's own linear models.

    It is chosen with hindsight, on the very days of the comparison, and is so the strongest that could be asked for.
    None where there is none, or it lost nothing.
    """
    able = [
        name for name in (*RIVALS[record.head], *REGRESSIONS[record.head])
        if name != model and record.everywhere(name)
    ]  # fmt: skip
    compared = [both for name in able if (both := paired(record, model, name)).n]
    return _gain(min(compared, key=lambda both: both.loss_against)) if compared else None


def _gain(both: Paired) -> Gain | None:
    return Gain(both.against, both.gain, both.low, both.high) if both.n and both.loss_against > 0 else None
