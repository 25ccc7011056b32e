"""A record by calendar months and years, its rolling Sharpe ratio and its worst drawdowns.

`returns` are simple returns, one a session, as fractions, without NaN; `days` are their dates, in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.metrics.forecast import FloatArray
from gatecast.metrics.returns import comp, drawdown, sharpe

Days = NDArray[np.datetime64]

POINTS = 500
"""Points of the rolling Sharpe ratio that are kept, evenly spaced, the newest among them."""
WORST = 5
"""Drawdowns that are listed."""


def course(days: Days, lines: dict[str, FloatArray], per_year: float, cash: ArrayLike = 0.0) -> dict[str, Any]:
    """What each line earned month by month and year by year, its rolling Sharpe ratio and its worst drawdowns.

    lines: name -> (sessions,) returns. cash: (sessions,) returns that the Sharpe ratio is in excess of, 0 without.
    per_year: sessions a year; the rolling Sharpe ratio is of as many sessions, `window`, the nearest whole number.

    >>> days = np.array(["2024-01-30", "2024-01-31", "2024-02-01", "2025-01-02"], "datetime64[D]")
    >>> found = course(days, {"own": np.array([0.1, -0.5, 0.2, 1.0])}, 252.0)
    >>> found["lines"]["own"]["months"][0]
    {'year': 2024, 'months': [-0.45, 0.2, None, None, None, None, None, None, None, None, None, None], 'whole': -0.34}
    >>> found["lines"]["own"]["drawdowns"]  # a drawdown begins at the first session below the height before it
    [{'depth': -0.5, 'first': '2024-01-31', 'deepest': '2024-01-31', 'back': '2025-01-02', 'sessions': 2}]
    """
    window = max(round(per_year), 2)
    ends = rolling_ends(len(days), window)
    return {
        "sessions": len(days), "window": window, "day": np.datetime_as_string(days[ends], "D").tolist(),
        "lines": {
            name: {
                "months": months(days, returns), "drawdowns": worst_drawdowns(days, returns),
                "sharpe": rolling_sharpe(returns - np.asarray(cash), ends, window, per_year),
            }
            for name, returns in lines.items()
        },
    }  # fmt: skip


def months(days: Days, returns: FloatArray) -> list[dict[str, Any]]:
    """A row a calendar year: the compounded return of each of its twelve months (None: no session) and of the whole.

    The first and the last month and year hold those of their sessions that there are.
    """
    month = days.astype("datetime64[M]")
    starts = np.flatnonzero(np.r_[True, month[1:] != month[:-1]]) if len(days) else np.array([], np.int64)
    found: dict[int, list[float | None]] = {}
    for start, end in zip(starts, [*starts[1:], len(days)], strict=True):
        year, place = divmod(int(month[start].astype(np.int64)), 12)
        found.setdefault(1970 + year, [None] * 12)[place] = round(comp(returns[start:end]), 6)
    of_year = days.astype("datetime64[Y]").astype(np.int64) + 1970
    return [
        {"year": year, "months": row, "whole": round(comp(returns[of_year == year]), 6)} for year, row in found.items()
    ]


def worst_drawdowns(days: Days, returns: FloatArray, most: int = WORST) -> list[dict[str, Any]]:
    """The deepest drawdowns, the deepest first: its depth, its days, and how many sessions it lasted.

    A drawdown lasts from the first session below an earlier height to the last one below it; `back` is the session at
    which the height was reached again, None where it has not been.
    """
    depth = drawdown(returns)
    below = np.r_[False, depth < 0, False]
    starts, ends = (np.flatnonzero(below[1:] & ~below[:-1]), np.flatnonzero(below[:-1] & ~below[1:]))
    found: list[dict[str, Any]] = [
        {
            "depth": round(float(depth[start:end].min()), 6), "first": str(days[start]),
            "deepest": str(days[start + int(depth[start:end].argmin())]),
            "back": str(days[end]) if end < len(days) else None, "sessions": int(end - start),
        }
        for start, end in zip(starts, ends, strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda one: float(one["depth"]))[:most]


def rolling_ends(sessions: int, window: int) -> NDArray[np.int64]:
    """Places of the sessions at which a window ends, at most `POINTS` of them, the last one of the record included.

    >>> rolling_ends(251, 252).tolist(), rolling_ends(254, 252).tolist()
    ([], [251, 252, 253])
    """
    if sessions < window:
        return np.array([], np.int64)
    points = min(POINTS, sessions - window + 1)
    return np.unique(np.linspace(window - 1, sessions - 1, points).round().astype(np.int64))


def rolling_sharpe(
    returns: FloatArray, ends: NDArray[np.int64], window: int, per_year: float
) -> list[float | None]:  # fmt: skip
    """The Sharpe ratio a year of the `window` sessions up to each of `ends`; None where nothing moved."""
    ratios = (sharpe(returns[end - window + 1 : end + 1], per_year) for end in ends)
    return [round(ratio, 4) if np.isfinite(ratio) else None for ratio in ratios]
