"""The newest version of a store that is whole: what its records add up to, as far as their files are there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gatecast.errors import StoreError
from gatecast.store.artefacts import Artefacts
from gatecast.store.identity import ABOUT
from gatecast.store.indexed import is_of_broker, told_kinds
from gatecast.store.journal import FOLDER, SNAPSHOT, Journal, first_number, parts_named
from gatecast.store.state import State, refuse_misfit

POWER = timedelta(minutes=10)
"""How long before its end a record's files may still have been on their way to the disk."""


@dataclass(frozen=True)
class Lost:
    """The newest records, whose files are lost: the number of the first, and what is said of them.

    `must_be_accepted`: nothing is written until a user accepts the loss.
    """

    first: int
    sentence: str
    must_be_accepted: bool


def newest_whole(folder: Path, store: str, artefacts: Artefacts) -> tuple[Journal, State, Lost | None]:
    """The journal of the store of an id, its state, and the newest records, where their files are lost.

    The state is that of the newest snapshot that is whole and of the records after it, up to the first lost one.
    Raises `StoreError` for a journal without a record and for one of another store.
    """
    journal = Journal.open(folder)
    if journal.last is None:
        raise StoreError(f"{folder / FOLDER} has no record. Restore the store from a copy.")
    lost = _lost(folder, journal, artefacts)
    state = State()
    for snapshot in journal.snapshots():
        if lost and snapshot.number >= lost.first:
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
    state = state.after_all(one for one in since if not lost or one.number < lost.first)
    if state.id != store:
        raise StoreError(
            f"{folder / ABOUT} is of the store {store}, the journal of {state.id}: files of two stores were "
            "mixed. Restore the store from a copy."
        )
    return journal, state, lost


def _lost(folder: Path, journal: Journal, artefacts: Artefacts) -> Lost | None:
    """The newest records, where a loss of power took files of the first of them, which is said; else None.

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
    kinds = [one.kind for one in newest if one.number >= first.number]
    is_of_orders = is_of_broker(kinds)
    goes_on = (
        "Nothing is written until the files are restored from a copy of the store, or the loss is accepted: `gatecast "
        "store check --rebuild`."
        if is_of_orders
        else "Give the bars of that time again."
    )
    sentence = (
        f"files of record {first.number} ({first.kind}) never came to the disk, as after a loss of power. The store is "
        f"what it was before it; the last {len(kinds)} of its records count no more {told_kinds(kinds)} {goes_on}"
    )
    warnings.warn(f"{folder}: {sentence}", stacklevel=3)
    return Lost(first.number, sentence, is_of_orders)
