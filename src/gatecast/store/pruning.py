"""What a store no longer needs: artefacts that no record names, old snapshots, old sessions of the book, old models."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from gatecast.errors import SettingsError
from gatecast.store.artefacts import Artefacts
from gatecast.store.journal import SNAPSHOT, Record, parts_named
from gatecast.store.state import ISSUED, Model, State

KEPT_SNAPSHOTS = 2
"""Snapshots whose artefacts `prune` leaves, the newest of all."""
KEPT_CARRIED = 60
"""Newest records of which `prune` leaves what the book goes on from."""


@dataclass(frozen=True)
class Pruning:
    """What `prune` removes: artefacts no record names, those of older snapshots and sessions of the book, of models."""

    unnamed: Mapping[str, int]
    superseded: Mapping[str, int]
    models: Mapping[str, int]

    @property
    def all(self) -> dict[str, int]:
        """Name -> bytes of all of them."""
        return {**self.unnamed, **self.superseded, **self.models}

    @classmethod
    def of(cls, records: Collection[Record], state: State, artefacts: Artefacts, keep: int | None) -> Self:
        """What can be removed of a store with these records, which add up to `state`; `keep`: see `Store.prunable`."""
        if keep is not None and keep < 1:
            raise SettingsError(f"keep = {keep}: at least one model stays.")
        named = parts_named(records)
        snapshots = [one for one in records if one.kind == SNAPSHOT]
        old = {one.number for one in snapshots[:-KEPT_SNAPSHOTS]}
        gone = [] if keep is None else _old_models(state, keep)
        held = parts_named(one for one in records if one.number not in old)
        superseded = (parts_named(one for one in records if one.number in old) & named) - held
        carried = [one.carried for one in state.issued if one.carried]
        superseded |= ({*carried[:-KEPT_CARRIED]} & named) - {*carried[-KEPT_CARRIED:]}
        numbers = old | {one.record for one in gone}
        without = parts_named(one for one in records if one.number not in numbers)
        without |= {one.parts[ISSUED] for one in state.models if ISSUED in one.parts}
        models = ({name for one in gone for name in one.parts.values()} & named) - without
        unnamed = dict(artefacts.unreferenced(named))
        return cls(unnamed, _sizes(artefacts, superseded - models), _sizes(artefacts, models))


def _old_models(state: State, keep: int) -> list[Model]:
    accepted = [one.record for one in state.models if one.status == "accepted"]
    stay = {*accepted[-keep:], state.serving, state.previous}
    newest = max((one.record for one in state.models), default=0)
    return [
        one for one in state.models
        if one.record not in stay and not (one.status == "candidate" and one.record == newest)
    ]  # fmt: skip


def _sizes(artefacts: Artefacts, names: set[str]) -> dict[str, int]:
    return {name: artefacts.path(name).lstat().st_size for name in sorted(names) if artefacts.has(name)}
