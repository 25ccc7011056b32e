"""A verdict -> how often a true effect would have been found, and whether any that is believed could have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gatecast.evaluation.estimate import POWER
from gatecast.evaluation.verdict import CANNOT_TELL, Verdict
from gatecast.metrics.significance import BOUND

UNDECIDABLE = "undecidable: no record of this length could tell"
YEARS = (1, 2, 5, 10, 20, 50)
"""Lengths of records whose power is told, beside the record's own."""
EFFECTS: Mapping[str, tuple[float, ...]] = {
    "return": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05), "direction": (0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    "volatility": (0.01, 0.02, 0.05, 0.1, 0.2), "regime": (0.01, 0.02, 0.05, 0.1, 0.2),
    "strategy": (0.01, 0.02, 0.05, 0.1, 0.2),
}  # fmt: skip
"""Head -> true effects, in the unit of its verdict, whose power is told."""


def power_of(verdict: Verdict, sessions_per_year: float) -> list[dict[str, float]]:
    """Rows of `years`, `effect`, `power`: the chance that a true effect is found in so long a record.

    By the standard error that the record has, which shrinks with the root of its length; one test, 5 % one-sided, as
    `Verdict.detectable`. No row for a verdict whose effect could not be measured.
    """
    from scipy.special import ndtr

    if not (verdict.detectable > 0 and verdict.n > 0):
        return []
    rows = []
    for years in sorted({round(verdict.n / sessions_per_year, 1), *map(float, YEARS)}):
        longer = years * sessions_per_year / verdict.n
        for effect in EFFECTS[verdict.head]:
            share = effect / verdict.detectable
            errors = np.sqrt(share * longer) if verdict.head == "return" else share * np.sqrt(longer)
            rows.append({"years": years, "effect": effect, "power": float(ndtr(errors * POWER - BOUND))})
    return rows


def undecidable(verdict: Verdict, most: float) -> Verdict:
    """The verdict; where it cannot tell, and could not have seen an effect of `most` either, that is its outcome.

    `most`: the largest effect that is believed, in the unit of the verdict.
    """
    if verdict.verdict != CANNOT_TELL or not (verdict.test == "none" or verdict.detectable > most):
        return verdict
    why = "" if verdict.test == "none" else (
        f" The smallest effect that such a record shows in four of five cases is {verdict.detectable:.1%}; more than "
        f"{most:.1%} is not believed of anything."
    )  # fmt: skip
    return replace(verdict, verdict=UNDECIDABLE, sentence=f"{verdict.sentence}{why}")
