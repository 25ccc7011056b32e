"""What a record of the journal is about, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.store.journal import Record


def about(record: Record) -> str:
    """A record in a few words; "" for a kind that says all by its name.

    >>> from datetime import UTC, datetime
    >>> now = datetime(2024, 1, 2, tzinfo=UTC)
    >>> about(Record.make(2, now, now, "bars", {"counts": {"new": 3, "late": 0}}, "0" * 64))
    'new 3'
    """
    return about_body(record.kind, record.body)


def about_body(kind: str, body: Mapping[str, Any]) -> str:
    """The same of a record's kind and body.

    >>> about_body("tables", {"parts": {"symbols_file": "1"}}), about_body("issued", {"model": 4})
    ('symbols file', 'decisions by model 4')
    >>> about_body("missed", {"months": ["2024-01", "2024-02"]})
    '2024-01, 2024-02'
    """
    match kind:
        case "bars":
            return ", ".join(f"{name} {count}" for name, count in body["counts"].items() if count)
        case "accepted" | "refused" | "rollback":
            return f"model {body['model']}" + (f": {body['reason']}" if body.get("reason") else "")
        case "actions":
            named = ", ".join(f"{one['symbol']} {one['date']}" for one in body.get("rows", ()))
            return f"{body.get('verb', '')} {named}".strip()
        case "tables":
            return ", ".join(name.replace("_", " ") for name in sorted(body["parts"]))
        case "refit" if body.get("asked"):
            return f"asked for: {', '.join(sorted(body['asked']))}"
        case "refit":
            return ", ".join(f"{name} {cutoff[:10]}" for name, cutoff in sorted(body.get("cutoffs", {}).items()))
        case "created":
            return f"by gatecast {body['gatecast']}" if body.get("gatecast") else ""
        case "missed":
            return ", ".join(body["months"])
        case "alarm":
            return f"{body['name']} {body.get('text', '')}".strip()
        case "pruned":
            return f"{counted(body['count'], 'artefact')}, {body['bytes']:,} bytes"
        case "lost":
            return f"{counted(body['count'], 'record')} that were lost here"
        case "proposed" | "approved" | "exported" | "withdrawn":
            more = ", once more" if body.get("again") else f": {body['reason']}" if body.get("reason") else ""
            return f"orders {body['id']} of {body['account']} by {body['by']}{more}"
        case "fills":
            return f"{body['new']} new, {body['seen']} there already, of {body['account']}"
        case "reconciled":
            breaks = f": {counted(len(body['breaks']), 'difference')}" if body["breaks"] else ""
            return f"{body['account']}{breaks}"
        case "halted" | "released":
            return f"by {body['by']}: {body['reason']}{halt_in_words(body)}"
        case "issued":
            return "decisions by no model" if body.get("model") is None else f"decisions by model {body['model']}"
        case _:
            return ""


def halt_in_words(body: Mapping[str, Any]) -> str:
    """What the record of a halt or of a release says beside who and why; "" for nothing.

    >>> halt_in_words({"flatten": True}), halt_in_words({"halt": 12}), halt_in_words({"flatten": False})
    (' (flatten)', ' (of the halt in record 12)', '')
    """
    if body.get("flatten"):
        return " (flatten)"
    return "" if body.get("halt") is None else f" (of the halt in record {body['halt']})"


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "order"), counted(2, "order")
    ('1 order', '2 orders')
    """
    return f"{number} {what}{'s' * (number != 1)}"
