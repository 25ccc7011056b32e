"""What is shown of decisions, in the words of the pages: by `update` and `today`, on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatecast.notebook import interval_text, moment_text, share_text, trade_text

DECIDED = (
    "symbol", "close", "held", "target", "trade", "tilt", "of risk", "limited by", "expected", "s.d.", "80% interval",
    "P(rise)", "signal", "strategy", "strategies' gate",
)  # fmt: skip
"""What is shown of a decision."""
SELDOM = ("tilt", "of risk")
"""Columns that are left out where they say nothing of any symbol."""


def decided(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Decisions as a table, column -> cell; `titles`: strategy -> title."""
    cells = [dict(zip(DECIDED, _cells(row, titles), strict=True)) for row in rows]
    said = [name for name in DECIDED if name not in SELDOM or any(one[name] not in ("-", "0.0%") for one in cells)]
    return [{name: one[name] for name in said} for one in cells]


def _cells(row: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[Any, ...]:
    strategy = row.get("strategy")
    return (
        row["symbol"], moment_text(row.get("class_newest_bar") or row.get("time")), share_text(row.get("held"), "+.1%"),
        share_text(row.get("target"), "+.1%"), trade_text(row.get("trade")), share_text(row.get("tilt"), "+.1%"),
        share_text(row.get("risk_share"), ".1%"), row.get("limited_by") or None,
        share_text(row.get("expected_return_log"), "+.2%"), share_text(row.get("standard_deviation"), ".2%"),
        interval_text(row.get("low_80"), row.get("high_80")), share_text(row.get("probability_up"), ".1%"),
        _signal(row.get("signal")), titles.get(str(strategy), strategy), row.get("gate"),
    )  # fmt: skip


def _signal(value: int | None) -> str:
    return "-" if value is None else {1: "bullish", -1: "bearish"}.get(value, "none")
