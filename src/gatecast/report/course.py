"""A record by months and years, its worst drawdowns and its rolling Sharpe ratio, for the page.

`course` reads what `metrics.periods.course` gives, one line's beside another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.report.figures import Data
from gatecast.report.words import is_number
from gatecast.trading.book import BOUGHT

DEEPEST = 45
"""Percent of the colour in the deepest shade: text on it keeps a contrast above 4.5 to 1."""
BESIDE = (BOUGHT, "benchmark")
"""The lines that others are shown beside."""


def course(found: Mapping[str, Any] | None, own: str, beside: str) -> Data | None:
    """`months` and `drawdowns` of a line, and what figures show of it beside another: `years` and `rolling`.

    own, beside: what the page calls the two lines. None where there is no record, or one in which nothing moved.
    """
    lines = (found or {}).get("lines") or {}
    line = next((one for name, one in lines.items() if name not in BESIDE), None)
    months = (line or {}).get("months") or []
    full = max((abs(one) for row in months for one in row.get("months") or [] if is_number(one)), default=0.0)
    if found is None or line is None or full == 0:
        return None
    other: Mapping[str, Any] = next((lines[name] for name in lines if name in BESIDE), {})
    whole = {row["year"]: row.get("whole") for row in other.get("months") or []}
    names = {"own": own, "beside": beside}
    return {
        "names": names,
        "months": [{**row, "shades": [shade(value, full) for value in row.get("months") or []]} for row in months],
        "drawdowns": line.get("drawdowns") or [],
        "window": found.get("window"),
        "figures": {
            "years": {
                "names": names, "year": [row["year"] for row in months], "own": [row.get("whole") for row in months],
                "beside": [whole.get(row["year"]) for row in months] if whole else None,
            },
            "rolling": {
                "names": names, "day": found["day"], "own": line.get("sharpe") or [], "beside": other.get("sharpe"),
            } if found.get("day") else None,
        },
    }  # fmt: skip


def shade(value: Any, full: float) -> Data | None:
    """How deep a month's shade is, in percent of the colour, and whether it lost; `full`: the return of the deepest.

    >>> shade(0.04, 0.08), shade(-0.08, 0.08), shade(None, 0.08)
    ({'part': 22, 'lost': False}, {'part': 45, 'lost': True}, None)
    """
    if not is_number(value):
        return None
    return {"part": round(DEEPEST * abs(value) / full) if full else 0, "lost": value < 0}
