"""What the searches for settings found and were worth: `evaluation.search_worth` -> sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.evaluation.search_worth import said_of, searched, setting_named, value_named
from gatecast.report.words import is_number

Data = dict[str, Any]


def tuning(found: Mapping[str, Any] | None, seconds: Mapping[str, float] | None = None) -> Data | None:
    """`says` (sentences), `heads` (rows), `classes` (name, sentence, rows of dates); None without a search.

    In: `evaluation.search_worth.search_worth`, and model -> seconds of training.
    """
    if not found:
        return None
    return {
        "says": said_of(found, seconds),
        "heads": found["heads"],
        "classes": [
            {"asset_class": one["asset_class"], "says": searched(one), "rows": [_date(row) for row in one["dates"]]}
            for one in found["classes"]
        ],
    }  # fmt: skip


def _date(row: Mapping[str, Any]) -> Data:
    """One search as a row of text."""
    chosen = ", ".join(f"{setting_named(name)} {value_named(value)}" for name, value in row["chosen"].items())
    return {
        "date": row["date"][:10], "chosen": chosen if row["replaced"] else "as given",
        "given": row["given_loss"], "best": row["loss"],
        "statistic": row["statistic"] if is_number(row["statistic"]) else None,
    }  # fmt: skip
