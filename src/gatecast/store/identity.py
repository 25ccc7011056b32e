"""What a folder says of its store: `store.json`, its id and schema version, and how an older version becomes this one.

No store is where `refuse_taken` lets one be made; a folder is one where `about_of` reads it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatecast.errors import StoreError, remedy_of
from gatecast.files import read, write_whole
from gatecast.formats import json_of
from gatecast.store.journal import Journal
from gatecast.store.lock import locked
from gatecast.store.schema import Count, Name, Schema, fault_of

FORMAT, VERSION = "gatecast store", 2
ABOUT = "store.json"
ABOUT_BYTES = 100_000
UPGRADES: dict[int, Callable[[Path], None]] = {1: lambda place: None}
"""Schema version -> what brings a store's folder from it to the next one. It must bear being begun twice.

2 has orders, what they are made of, and changes of units in what the book goes on from: a gatecast that knows 1 alone
cannot read that. What is there of 1 stays as it is, and `carried` reads it.
"""


class About(Schema):
    """`store.json`."""

    format: Name
    version: Count
    id: Name
    gatecast: Name | None = None


def is_store(place: Path) -> bool:
    """Whether a folder says of itself that it is a store; False where this user may not look."""
    return os.path.exists(place / ABOUT)


def refuse_taken(place: Path) -> None:
    """Raises `StoreError` where no store can be made at a path: it is a file, or a folder that holds something."""
    try:
        if is_store(place):
            raise StoreError(f"{place} is a store already: open it, or give another folder.")
        if place.exists() and not place.is_dir():
            raise StoreError(f"{place} is a file: give a folder for the store.")
        if place.is_dir() and any(place.iterdir()):
            raise StoreError(f"{place} holds something that is no store: give another folder, or empty this one.")
    except PermissionError as error:
        raise StoreError(f"{place} cannot be read: {error.strerror}. Give another folder.") from None


def indented(value: Any) -> bytes:
    """JSON as it stands in `store.json`, the heartbeat and snapshots: sorted, one key a line."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def about_of(place: Path, newest: int = VERSION) -> dict[str, Any]:
    """The content of `store.json`. Raises `StoreError` for a folder that is no store, or of a newer version."""
    path = place / ABOUT
    try:
        about = json_of(read(path, at_most=ABOUT_BYTES, follow=False))
    except (FileNotFoundError, NotADirectoryError):
        why = f"it has no {ABOUT}" if place.is_dir() else "there is no such folder"
        raise StoreError(f"{place} is no gatecast store: {why}. Give a store's folder.") from None
    except OSError as error:
        why = f"{error.strerror or error}. {remedy_of(error, 'Restore it from a copy.')}"
        raise StoreError(f"{path} cannot be read: {why}") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. Restore it from a copy.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise StoreError(f"{path} is not of a gatecast store. Give a store's folder.")
    if fault := fault_of(About, about):
        raise StoreError(f"{path} is damaged: {fault}. Restore it from a copy.")
    if about["version"] > newest:
        raise StoreError(
            f"{place} is a store of schema version {about['version']}, this gatecast reads up to {newest}: use the "
            f"version that wrote it ({str(about.get('gatecast'))[:40]}) or a newer one."
        )
    return dict(about)


def upgrade(
    place: Path, *, steps: Mapping[int, Callable[[Path], None]] = UPGRADES, newest: int = VERSION
) -> dict[str, Any]:  # fmt: skip
    """Brings a store's folder to the newest schema version, one step after the other; its `store.json` then.

    `steps`: see `UPGRADES`. After each step a record says so, then `store.json`. Raises `StoreError` for a version
    from which no step leads on, and where another process writes to the store.
    """
    from importlib.metadata import version

    with locked(place):
        about = about_of(place, newest)  # another process may have done it meanwhile
        before = int(about["version"])
        while about["version"] < newest:
            if about["version"] not in steps:
                raise StoreError(
                    f"{place} is a store of schema version {about['version']}, which this gatecast no longer reads: "
                    "open it with an older version first."
                )
            try:
                steps[about["version"]](place)
                body = {"before": about["version"], "after": about["version"] + 1, "gatecast": version("gatecast")}
                journal = Journal.open(place)
                moment = journal.last.now if journal.last else datetime.now(UTC)  # no command's moment: time stays
                journal.append("upgraded", body, moment)
                about |= {"version": body["after"], "gatecast": body["gatecast"]}
                write_whole(place / ABOUT, indented(about))
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                raise StoreError(f"{place} cannot be upgraded: {error.strerror or error}.") from None
        if before < newest:
            warnings.warn(f"{place} was brought from schema version {before} to {newest}.", stacklevel=3)
    return about
