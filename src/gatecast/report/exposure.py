"""What today's book may lose, for the page: scores -> sentences, tables of tails and stress, shares of the risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatecast.report.figures import Data
from gatecast.report.words import MISSING, decimals, is_number, number, percent
from gatecast.trading.stress import CRISES

Scores = Mapping[str, Any]
METHODS = {
    "filtered": "simulated", "historical_all": "all past", "historical_250": "last 250", "historical_500": "last 500",
    "normal": "normal",
}  # fmt: skip
"""How a tail is said -> its words."""
SHOWN = 12
"""Symbols of the book that the page shows."""
FACTORS = {"duration": "Duration, years", "momentum": "Beta to momentum of equities"}
"""Factor -> what the book's slope on it is called, where that is not its beta to it."""


def exposure(found: Scores | None) -> Data | None:
    """The section on what today's book may lose; None where nothing is said of today.

    In: `scores["book"]["risk"]["today"]` without NaN, see `gatecast.trading.exposure.risk_today`.
    """
    if not found:
        return None
    rows = [row for row in found.get("stress") or [] if is_number(row.get("result"))]
    symbols = found.get("symbols") or []
    return {
        "said": _said(found),
        "tails": _tails(found.get("tails") or []),
        "stress": [
            {"name": f"{row['name']} again" if row["name"] in CRISES else row["name"], "result": row["result"],
             "words": _words(row)}
            for row in rows
        ],
        "no_data": _no_data(found.get("stress") or []),
        "symbols": symbols[:SHOWN],
        "more": max(len(symbols) - SHOWN, 0),
        "facts": [*_betas(found.get("betas") or {}), *_days(found.get("days_to_sell") or {})],
    }  # fmt: skip


def _said(found: Scores) -> list[str]:
    """What is held, what a bad session costs, and the smallest move that costs a fifth.

    >>> tails = [{"method": "filtered", "sessions": 1, "level": 0.975, "value_at_risk": -0.013, "shortfall": -0.017}]
    >>> move = {"loss": -0.2, "deviations": 2.0, "moves": {"A": -0.5, "B": 0.1}}
    >>> found = {"day": "2024-01-05", "gross": 0.4, "volatility": 0.1, "tails": tails, "smallest_move": move}
    >>> for line in _said(found)[1:]:
    ...     print(line)
    In one session of 40 it loses 1.3 % or more (value at risk), and 1.7 % in the mean of those (expected shortfall).
    The likeliest way to lose 20 %: A -50.0 %, B +10.0 %. That is 2.0 standard deviations of a year.
    >>> _said({"day": "2024-01-05", "gross": 0.0})
    ["After the close of 2024-01-05 gatecast's line holds nothing."]
    """
    if not found.get("gross"):
        return [f"After the close of {found.get('day')} gatecast's line holds nothing."]
    tail = _tail(found)
    held = (
        f"After the close of {found.get('day')} gatecast's line holds {percent(found['gross'], 0)} of its equity, long "
        f"plus short, with a volatility of {percent(found.get('volatility'))} a year, not scaled by the book's past "
        "errors."
    )
    worst = [tail.get(name) for name in ("value_at_risk", "shortfall")]
    if all(is_number(one) for one in worst):
        beyond, mean = (percent(-one) for one in worst if is_number(one))
        loses = (
            f"In one session of 40 it loses {beyond} or more (value at risk), and {mean} in the mean of those "
            "(expected shortfall)."
        )
    else:
        loses = (
            "How much it loses in a bad session cannot be said: that takes 250 past sessions in which all that is held "
            f"has a return, {number(found.get('vectors') or 0)} are there."
        )
    return [held, loses, *_smallest(found.get("smallest_move") or {})]


def shortfall_of(found: Scores) -> float | None:
    """The expected shortfall of a session at 97.5 %, a return, of `trading.exposure.risk_today`; None where not known.

    >>> shortfall_of({"tails": [{"method": "filtered", "sessions": 1, "level": 0.975, "shortfall": -0.017}]})
    -0.017
    """
    value = _tail(found).get("shortfall")
    return value if is_number(value) else None


def _tail(found: Scores) -> Scores:
    """What the method that counts says of a session at the first level."""
    return next((one for one in found.get("tails") or [] if one.get("method") == "filtered"), {})


def _smallest(move: Scores) -> list[str]:
    moves, far = move.get("moves") or {}, move.get("deviations")
    named = [f"{name} {100 * one:+.1f} %" for name, one in [*moves.items()][:4] if is_number(one)]
    if not named or not is_number(far):
        return []
    rest = f", and {len(moves) - 4} more" if len(moves) > 4 else ""
    return [
        f"The likeliest way to lose {percent(-(move.get('loss') or 0), 0)}: {', '.join(named)}{rest}. That is "
        f"{decimals(far, 1)} standard deviations of a year."
    ]


def _tails(rows: Sequence[Scores]) -> list[Data]:
    """A table for each number of sessions: a row a method, two cells a level."""
    tables = []
    for count in dict.fromkeys(row.get("sessions") for row in rows):
        own = [row for row in rows if row.get("sessions") == count]
        levels = list(dict.fromkeys(row.get("level") for row in own))
        cells: dict[Any, list[Any]] = {}
        for row in own:
            cells.setdefault(row.get("method"), []).extend(
                100 * value if is_number(value) else None for value in (row.get("value_at_risk"), row.get("shortfall"))
            )
        tables.append(
            {
                "over": "One session" if count == 1 else f"{count} sessions",
                "levels": [f"{100 * level:g}" if is_number(level) else MISSING for level in levels],
                "rows": [
                    {"method": METHODS.get(name, name), "cells": values, "mine": name == "filtered"}
                    for name, values in cells.items()
                ],
            }
        )
    return tables


def _words(row: Scores) -> str:
    """What a stress is, how deep it went on the way, and what was taken for symbols without bars.

    >>> _words({"words": "2008-09-15 to 2008-11-20", "result": -0.1, "worst": -0.25, "proxied": ["A"], "left_out": []})
    '2008-09-15 to 2008-11-20; deepest on the way -25.0 %; by beta to class or equities, without bars then: A'
    """
    worst, result = row.get("worst"), row.get("result")
    deeper = is_number(worst) and is_number(result) and worst < result - 0.0005
    return "; ".join(
        [
            *([row["words"]] if row.get("words") else []),
            *([f"deepest on the way {100 * worst:.1f} %"] if deeper and is_number(worst) else []),
            *(
                [f"by beta to class or equities, without bars then: {_first(row['proxied'])}"]
                if row.get("proxied")
                else []
            ),
            *([f"taken as unmoved: {_first(row['left_out'])}"] if row.get("left_out") else []),
        ]
    )


def _first(names: Sequence[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _no_data(rows: Sequence[Scores]) -> list[str]:
    """The stresses that cannot be said, a sentence for each reason.

    >>> _no_data([{"name": "2020", "words": "no data: none"}, {"name": "2022", "words": "no data: none"}])
    ['2020, 2022: no data: none.']
    """
    names: dict[str, list[str]] = {}
    for row in rows:
        if not is_number(row.get("result")):
            names.setdefault(row.get("words") or "no data", []).append(str(row.get("name")))
    return [f"{', '.join(own)}: {why.rstrip('.')}." for why, own in names.items()]


def _betas(found: Scores) -> list[tuple[str, str]]:
    return [(FACTORS.get(name, f"Beta to {name}"), decimals(value)) for name, value in found.items()]


UNCOUNTED = (
    "a volume is money where it counts shares, so those of equities and ETFs alone are read: that of an index is its "
    "members', and of coins, futures and currencies each vendor counts another unit"
)
"""Why what a chart draws as volume is not used."""


def _days(found: Scores) -> list[tuple[str, str]]:
    """Sessions to sell shares of the book, and of what no volume can be used.

    >>> for row in _days({"50%": 0.02, "100%": None, "unknown": ["A"]}):
    ...     print(*row, sep=": ")
    Sessions to sell 50 %: 0.1
    Sessions to sell 100 %: –
    No volume in money of: A: a volume is money where it counts shares, so those of equities and ETFs alone are read: that of an index is its members', and of coins, futures and currencies each vendor counts another unit
    """  # noqa: E501
    shares = [(name, value) for name, value in found.items() if name != "unknown"]
    given = found.get("unknown")
    unknown = given if isinstance(given, list) else []
    if unknown and not any(is_number(value) for _, value in shares):
        return [("Sessions to sell", f"cannot be said of {_first(unknown)}: {UNCOUNTED}")]
    said = [
        (f"Sessions to sell {name.replace('%', ' %')}", decimals(max(value, 0.1), 1) if is_number(value) else MISSING)
        for name, value in shares
    ]
    return [*said, *([("No volume in money of", f"{_first(unknown)}: {UNCOUNTED}")] if unknown else [])]
