"""The newest version of a store that is whole: what its records add up to, as far as their files are there."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path

from gatecast.errors import StoreError
from gatecast.store.artefacts import Artefacts
from gatecast.store.identity import ABOUT
from gatecast.store.journal import FOLDER, SNAPSHOT, Journal, first_number, parts_named
from gatecast.store.state import State, refuse_misfit

POWER = timedelta(minutes=10)
"""How long before its end a record's files may still have been on their way to the disk."""


def newest_whole(folder: Path, store: str, artefacts: Artefacts) -> tuple[Journal, State, int | None]:
    """The journal of the store of an id, its state, and the number of the first record whose files are lost.

    The state is that of the newest snapshot that is whole and of the records after it, up to the first lost one.
    Raises `StoreError` for a journal without a record and for one of another store.
    """
    journal = Journal.open(folder)
    if journal.last is None:
        raise StoreError(f"{folder / FOLDER} has no record. Restore the store from a copy.")
    lost = _first_lost(folder, journal, artefacts)
    state = State()
    for snapshot in journal.snapshots():
        if lost and snapshot.number >= lost:
            continue
        try:
            found = State.of_json(artefacts.json(snapshot.parts["state"]), snapshot)
        except (StoreError, ValueError, KeyError) as error:
            warnings.warn(
                f"the snapshot of record {snapshot.number} in {folder} cannot be used, the records before it "
                f"are: {error}",
                stacklevel=2,
            )
            continue
        state = found
        break
    since = journal.records(since=state.number + 1)
    state = state.after_all(one for one in since if not lost or one.number < lost)
    if state.id != store:
        raise StoreError(
            f"{folder / ABOUT} is of the store {store}, the journal of {state.id}: files of two stores were "
            "mixed. Restore the store from a copy."
        )
    return journal, state, lost


def _first_lost(folder: Path, journal: Journal, artefacts: Artefacts) -> int | None:
    """The number of the first of the newest records whose files a loss of power took, which is said; else None.

    Files come to the disk before their record. Where a disk that lost power did not keep that order, a record has
    not happened: the newest version of the store that is whole is the one before it. Files that are older than
    `POWER` before the last record were on the disk: where one of them is gone, the store is damaged.
    """
    assert journal.last is not None
    end = journal.last.time
    *before, last = journal.files()
    newest = list(journal.records(since=first_number(last)))
    if before and end - newest[0].time <= POWER:
        newest = list(journal.records(since=first_number(before[-1])))
    recent = [one for one in newest if end - one.time <= POWER and one.kind != SNAPSHOT]
    for one in recent:
        refuse_misfit(one.kind, one.body)
    named = parts_named(recent)
    first = next((one for one in recent if any(map(artefacts.is_lost, named & {*one.parts.values()}))), None)
    if first is None or first.number == 1:
        return None
    count = journal.last.number - first.number + 1
    warnings.warn(
        f"{folder}: files of record {first.number} ({first.kind}) never came to the disk, as after a loss of "
        f"power. The store is what it was before it; the last {count} of its records count no more. Give the bars "
        "of that time again.",
        stacklevel=2,
    )
    return first.number
