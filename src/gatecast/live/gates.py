"""Which gate decided what is held of a symbol: the first that closes, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gatecast.live.newest import NOT_FINITE
from gatecast.trading.strategies import FLAT

if TYPE_CHECKING:
    from gatecast.runs import Run

OPEN = "open"
"""No gate closed: a position is held."""
GATES = {
    "ended": "the symbol has ended",
    "no bar": "there is no bar of the newest session",
    "no trade": "nothing was traded in the newest session",
    "stale": "the newest bar is too old",
    "no forecast": "the window has a gap, or is too short: no forecast rather than a wrong one",
    "not finite": "a forecast is no possible number",
    "doubtful": "the record is too good to be true, or a leak was found: nothing is held until the cause is found",
    "late claim": "the claim is gone with decisions one bar late: nothing is held",
    "too good": "the class's record is better than an honest market allows",
    "flat": "no strategy's estimated return exceeds the cost of entering it",
    "evidence": "there is no evidence of skill yet: the evidence factor is 0",
    "signal": "the strategy in force has no position now",
    OPEN: "a position is held",
}
"""Gate -> why it closes, in the order in which they are asked."""


def gate_of(row: Mapping[str, Any], run: Run, model: int) -> dict[str, Any]:
    """A row of `newest_rows` -> `gate`, `gate_sentence`, `model` (number of its record) and `flags`.

    >>> from gatecast.live.gates import closed
    >>> closed({"today": "bar", "current": True, "strategy": "trend", "evidence": 0.0, "weight": 0.0}, "", False, [])
    'evidence'
    """
    flags = list(dict.fromkeys(str(problem["kind"]) for problem in row.get("data_problems") or ()))
    override = run.experiment.selection.evidence is not None
    doubt = "" if override else "doubtful" if run.doubtful else "late claim" if run.untradable else ""
    gate = closed(row, doubt, override, flags)
    return {"gate": gate, "gate_sentence": GATES[gate], "model": model, "flags": flags}


def closed(row: Mapping[str, Any], doubt: str, override: bool, flags: list[str]) -> str:
    """The first gate that closes; `doubt`: that of the whole run; `override`: whether the settings set the evidence."""
    if row["today"] in ("ended", "no bar", "no trade"):
        return str(row["today"])
    if "stale" in flags:
        return "stale"
    if not row["current"]:
        return "no forecast"
    if NOT_FINITE in flags:
        return "not finite"
    if doubt:
        return doubt
    if row.get("weight"):
        return OPEN
    if row.get("strategy") == FLAT:
        return "flat"
    if not override and not row.get("evidence"):
        return "too good" if "too good" in str(row.get("reason") or "") else "evidence"
    return "signal"
