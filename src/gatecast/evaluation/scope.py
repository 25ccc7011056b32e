"""Whether the answers of a head can tell anything at all: enough days, and enough that moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatecast.evaluation.rivals import RIVAL, losses
from gatecast.metrics import significance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]

LEAST_INDEPENDENT = 30
"""Independent days that a head of two outcomes must have of each."""
SAME = 1e-9
"""Answers that differ by less than this share of the largest never varied."""
OUTCOMES = {"direction": ("rises", "falls"), "regime": ("turbulence", "calm")}


def too_little(forecasts: Mapping[str, Forecasts], head: str, model: str, overlap: int) -> str:
    """Why nothing can be said of a head, in a sentence; empty where something can.

    In: asset class -> forecasts with the rival in force among them; `overlap`: days that an answer spans. Nothing can
    be said where no price moved, where the answers never varied, with fewer than 15 days for each that an answer spans,
    and of two outcomes with fewer than `LEAST_INDEPENDENT` independent days of either (a day counts the share of its
    symbols that had the outcome, divided by the overlap).
    """
    answers, days, moved = [], [], False
    for one in forecasts.values():
        samples = one.samples
        answer = samples.targets[head].value[samples.decided]
        answer = answer if answer.ndim == 1 else answer[:, -1]
        issued = one.rows[~np.isnat(samples.known_at[one.rows])]
        moved |= bool(np.any(np.nan_to_num(samples.targets["return"].value[samples.decided[issued], -1]) != 0))
        scored = np.flatnonzero(np.isfinite(losses(one, head, model)) & np.isfinite(losses(one, head, RIVAL)))
        days.append(samples.sessions[scored].astype("datetime64[D]").astype(np.int64))
        answers.append((answer[scored], samples.symbol[samples.ends[scored]]))
        if len(issued) == 0:
            moved = True  # nothing was answered yet, so nothing is known about it
    if not moved:
        return "Nothing moved: there is nothing to judge."
    scored_any = any(len(each) for each in days)
    if head in ("return", "volatility") and scored_any and not any(_varied(*each) for each in answers):
        return "The answers never varied: there is nothing to judge."
    every, place = np.unique(np.concatenate(days), return_inverse=True)
    least = significance.BARS_PER_HORIZON * overlap
    if len(every) < least:
        return f"{len(every)} days are too few for any verdict: {least} are the least."
    if head in OUTCOMES:
        share = np.bincount(place, np.concatenate([values for values, _ in answers])) / np.bincount(place)
        for name, count in zip(OUTCOMES[head], (share.sum() / overlap, (1 - share).sum() / overlap), strict=True):
            if count < LEAST_INDEPENDENT:
                return (
                    f"There were {count:.0f} independent days of {name}, too few for any verdict: "
                    f"{LEAST_INDEPENDENT} are the least."
                )
    return ""


def _varied(answer: FloatArray, symbol: NDArray[np.int32]) -> bool:
    """Whether any symbol's answers differed by more than rounding."""
    for number in np.unique(symbol):
        mine = answer[symbol == number]
        if np.ptp(mine) > SAME * max(float(np.abs(mine).max()), 1e-300):
            return True
    return False
