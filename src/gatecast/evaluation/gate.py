"""The gate of control: a line of the book -> whether its volatility came out as it was forecast.

Ratios are means of a session's squared return over the variance of it that was forecast of what was held; 1 is right.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatecast.evaluation.risk import LEAST_SESSIONS, Held, gain_in_forecast
from gatecast.metrics import significance
from gatecast.notebook import number_text

FloatArray = NDArray[np.float64]
FIFTHS = 5
WITHIN = (0.8, 1.25)
"""Least and largest ratio of each fifth of the forecasts, without the multiplier."""
FIFTHS_WITHIN, YEARS_WITHIN = 4, 0.8
"""Fifths, and share of the years, whose 90 % limits must hold 1 with the multiplier."""
LEAST_OF_YEAR = 60
"""Sessions of a year that counts."""


class Sized(Held, Protocol):
    """A line of the book with what was forecast of it, see `gatecast.trading.book.Line`."""

    @property
    def days(self) -> NDArray[np.datetime64]: ...
    @property
    def earned(self) -> FloatArray: ...
    @property
    def expected(self) -> FloatArray: ...
    @property
    def level(self) -> FloatArray: ...


def gate_of(line: Sized, ewma: Held | None = None) -> dict[str, Any]:
    """The gate of a line; empty for fewer than 250 sessions.

    `without`: ratio of each fifth of the sessions, from the lowest forecast to the highest, without the multiplier.
    `with_level`, `years`: ratio, low and high (90 % limits) of each fifth and year, with it. `qlike`: gain of the
    core's variance over that of the line sized by EWMA. `conditions`: which of the four hold; `passed`: whether all do;
    `sentence`: that in words.
    """
    good = np.isfinite(line.earned) & (line.expected > 0)
    if good.sum() < LEAST_SESSIONS:
        return {}
    square, plain = line.earned[good] ** 2, line.expected[good]
    scaled = plain * line.level[good] ** 2
    without = [float((square[at] / plain[at]).mean()) for at in _fifths(plain)]
    with_level = [limits(square[at] / scaled[at]) for at in _fifths(scaled)]
    year = line.days[good].astype("datetime64[Y]").astype(np.int64) + 1970
    years = {
        int(one): limits((square / scaled)[year == one])
        for one in np.unique(year) if np.count_nonzero(year == one) >= LEAST_OF_YEAR
    }  # fmt: skip
    qlike = None if ewma is None else gain_in_forecast(line, ewma)
    conditions = {
        "fifths without the multiplier": all(WITHIN[0] <= one <= WITHIN[1] for one in without),
        "fifths with it": sum(_holds_1(one) for one in with_level) >= FIFTHS_WITHIN,
        "years with it": sum(map(_holds_1, years.values())) >= YEARS_WITHIN * len(years),
        "QLIKE better than by EWMA": bool(qlike is not None and qlike.effect > 0),
    }
    found = {
        "without": without, "with_level": with_level, "years": [{"year": one, **of} for one, of in years.items()],
        "qlike": None if qlike is None else {"effect": qlike.effect, "low": qlike.low, "high": qlike.high},
        "conditions": conditions, "passed": all(conditions.values()),
    }  # fmt: skip
    return {**found, "sentence": _in_words(found)}


def limits(ratios: FloatArray) -> dict[str, float]:
    """The mean of ratios in order of time, and its 90 % limits.

    >>> limits(np.tile([0.0, 2.0], 100))["ratio"]
    1.0
    """
    test = significance.fixed_b_mean(ratios)
    return {"ratio": test.effect, "low": test.low, "high": test.high}


def _fifths(forecast: FloatArray) -> list[NDArray[np.int64]]:
    """The rows of each fifth, from the lowest forecast to the highest, in order of time."""
    return [np.sort(part) for part in np.array_split(np.argsort(forecast, kind="stable"), FIFTHS)]


def _holds_1(found: dict[str, float]) -> bool:
    return found["low"] <= 1 <= found["high"]


def _in_words(found: dict[str, Any]) -> str:
    fifths = ", ".join(number_text(one, ".2f") for one in found["without"])
    held, inside = (sum(map(_holds_1, found[name])) for name in ("with_level", "years"))
    missed = [name for name, holds in found["conditions"].items() if not holds]
    qlike = found["qlike"] and f" QLIKE of the core is lower than by EWMA by {100 * found['qlike']['effect']:+.1f} %."
    return (
        f"Squared returns over forecast variance of the book, from the lowest fifth of forecasts to the highest: "
        f"{fifths} (wanted: {WITHIN[0]:g} to {WITHIN[1]:g}). With the multiplier the 90 % limits of {held} of {FIFTHS} "
        f"fifths and of {inside} of {len(found['years'])} years hold 1 (wanted: {FIFTHS_WITHIN}, and "
        f"{100 * YEARS_WITHIN:.0f} % of the years).{qlike or ''} "
        f"{'All four conditions hold.' if not missed else 'Not held: ' + ', '.join(missed) + '.'}"
    )
