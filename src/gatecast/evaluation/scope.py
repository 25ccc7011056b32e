"""Whether the answers of a head can tell anything at all: enough days, and enough that moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.panel import RIVAL
from gatecast.metrics import significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record

    FloatArray = NDArray[np.float64]

LEAST_INDEPENDENT = 30
"""Independent days that a head of two outcomes must have of each."""
SAME = 1e-9
"""Answers that differ by less than this share of the largest never varied."""
OUTCOMES = {"direction": ("rises", "falls"), "regime": ("turbulence", "calm")}


def too_little(record: Record, model: str) -> str:
    """Why nothing can be said of a head, in a sentence; empty where something can.

    In: a record with the rival in force among its forecasts. Nothing can be said where no price moved, where the
    answers never varied, with fewer than 15 days for each that an answer spans, and of two outcomes with fewer than
    `LEAST_INDEPENDENT` independent days of either (a day counts the share of its symbols that had the outcome, divided
    by the overlap).
    """
    answered = ~np.isnat(record.known_at)
    waiting = len(set(np.unique(record.number[answered]))) < len(record.classes)  # of one nothing is known yet
    if not (waiting or np.any(np.nan_to_num(record.change[answered]) != 0)):
        return "Nothing moved: there is nothing to judge."
    scored = np.flatnonzero(np.isfinite(record.losses(model)) & np.isfinite(record.losses(RIVAL)))
    answer = record.answer[scored]
    if record.head in ("return", "volatility") and len(scored) and not _varied(answer, record.symbol[scored]):
        return "The answers never varied: there is nothing to judge."
    every, place = np.unique(record.day[scored], return_inverse=True)
    least = significance.BARS_PER_HORIZON * record.overlap
    if len(every) < least:
        return f"{len(every)} days are too few for any verdict: {least} are the least."
    if record.head in OUTCOMES:
        share = np.bincount(place, answer) / np.bincount(place)
        counts = (share.sum() / record.overlap, (1 - share).sum() / record.overlap)
        for name, count in zip(OUTCOMES[record.head], counts, strict=True):
            if count < LEAST_INDEPENDENT:
                return (
                    f"There were {count:.0f} independent days of {name}, too few for any verdict: "
                    f"{LEAST_INDEPENDENT} are the least."
                )
    return ""


def _varied(answer: FloatArray, symbol: NDArray[np.int64]) -> bool:
    """Whether any symbol's answers differed by more than rounding."""
    for number in np.unique(symbol):
        mine = answer[symbol == number]
        if np.ptp(mine) > SAME * max(float(np.abs(mine).max()), 1e-300):
            return True
    return False
