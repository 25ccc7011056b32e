"""The artefacts of a store as the things that they are: settings, tables, decisions, the book, documents, models."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.errors import InfiniteError, SettingsError
from gatecast.experiment import Experiment
from gatecast.formats import NotFinite
from gatecast.market.universe import UNIVERSE
from gatecast.store.artefacts import Artefacts
from gatecast.store.carried import carried_of
from gatecast.store.desks import desk_of
from gatecast.store.history import History, actions_of
from gatecast.store.identity import indented
from gatecast.store.journal import SNAPSHOT, Record, parts_named
from gatecast.store.parts import Parts, models_of
from gatecast.store.pieces import read_pieces
from gatecast.store.schema import (
    HOLDINGS,
    KEYS,
    TABLES,
    TIME,
    AlarmsOfClasses,
    FillsFile,
    OrdersFile,
    PositionsFile,
    Provenance,
    Schema,
    Scores,
    fault_of,
)
from gatecast.store.state import ALARMS, ISSUED, Model, State

if TYPE_CHECKING:
    from gatecast.store.carried import ChangesOf
    from gatecast.store.issued import Piece
    from gatecast.trading.book import Carried
    from gatecast.trading.desk import Desk
    from gatecast.trading.orders import OrderSettings

SYMBOLS_FILE, UNIVERSE_FILE = "symbols_file", "universe"
SYMBOLS = dict.fromkeys(("symbol", "asset_class", "close", "calendar"), pl.String)
"""Columns of a symbols file that is kept; one of an earlier version has no currencies."""
DOCUMENTS: dict[str, type[Schema]] = {"orders": OrdersFile, "fills": FillsFile, "positions": PositionsFile}
"""Role of an artefact of a record about orders -> what it must be."""


class Contents:
    """What lies in a store's folder, by the names of its artefacts; each is read and checked when it is asked for.

    Whatever is not what it must be raises a `StoreError` that names its file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.artefacts = folder, Artefacts(folder)

    def settings_of(self, name: str) -> Experiment:
        """Settings of an experiment."""
        try:
            return Experiment(**tomllib.loads(self.artefacts.get(name).decode()))
        except (SettingsError, TypeError, ValueError, RecursionError) as error:
            raise self.artefacts.fault(name, f"these are no settings of this gatecast: {str(error)[:300]}") from None

    def table_of(self, name: str, part: str) -> pl.DataFrame:
        """A table that was given beside the bars, by the name of its option; see `Store.table`."""
        if name == SYMBOLS_FILE:
            return self.artefacts.table(part, SYMBOLS, further=(pl.String,))
        if name == UNIVERSE_FILE:
            return self.artefacts.table(part, UNIVERSE)
        return actions_of(self.artefacts, part)

    def decisions_of(self, name: str, texts: Collection[str] = ()) -> pl.DataFrame:
        """Decisions, one a symbol and time; a table that lacks one of the columns `texts` is none."""
        kinds = (pl.Float64, pl.Int8, pl.Int32, pl.Int64, pl.Boolean, pl.String, TIME)
        frame = self.artefacts.table(name, {**KEYS, **dict.fromkeys(texts, pl.String)}, further=kinds)
        if frame.select(
            pl.struct(*KEYS).is_duplicated().any() | pl.any_horizontal(pl.col(*KEYS).is_null()).any()
        ).item():
            raise self.artefacts.fault(name, "it has two decisions of one symbol and time, or one without")
        return frame

    def forecasts_of(self, name: str) -> pl.DataFrame:
        """Forecasts that were issued."""
        return self.artefacts.table(name, TABLES["forecasts"])

    def _pieces_of(self, state: State, name: str) -> dict[str, Piece]:
        return read_pieces(self.artefacts, name, self.settings_of(str(state.settings)).horizon)

    def holdings_of(self, name: str) -> pl.DataFrame:
        """What the book holds, see `trading.book.holdings_of`."""
        return self.artefacts.table(name, HOLDINGS)

    def carried_of(self, name: str, changes: ChangesOf | None = None) -> Carried:
        """What the book goes on from; `changes`: see `carried.carried_of`. Numbers that are not finite raise an
        `InfiniteError`."""
        try:
            return carried_of(self.artefacts.get(name), changes)
        except NotFinite as error:
            raise InfiniteError(
                f"{self.artefacts.path(name)}: {error}. An earlier gatecast wrote it where an action gave more than "
                f"anybody can hold. `gatecast update {self.folder}` decides again from a session before it."
            ) from None
        except ValueError as error:
            raise self.artefacts.fault(name, str(error)) from None

    def _check_carried(self, name: str, *, is_newest: bool) -> None:
        """Raises `StoreError` for what the book cannot go on from; numbers that are not finite are no fault once a
        later record has others."""
        with contextlib.suppress(*([] if is_newest else [InfiniteError])):
            self.carried_of(name)

    def desk_of(self, name: str) -> tuple[Desk, OrderSettings]:
        """What orders of a session are made of, and their limits."""
        try:
            return desk_of(self.artefacts.get(name))
        except ValueError as error:
            raise self.artefacts.fault(name, str(error)) from None

    def document(self, name: str, schema: type[Schema]) -> Any:
        """JSON of a schema."""
        value = self.artefacts.json(name)
        if fault := fault_of(schema, value):
            raise self.artefacts.fault(name, fault)
        return value

    def _check_model(self, model: Model) -> None:
        """Reads settings, scores and fits of a model, as far as none of them was pruned."""
        names = {role: name for role, name in model.parts.items() if role != ISSUED}
        if not all(self.artefacts.has(name) for name in names.values()):
            return
        parts = Parts.of_content(self.folder, {role: self.artefacts.get(name) for role, name in names.items()})
        for role, schema in (("scores.json", Scores), ("provenance.json", Provenance), (ALARMS, AlarmsOfClasses)):
            if role in parts:
                parts.json(role, schema)
        if "experiment.toml" in parts:
            self.settings_of(names["experiment.toml"])
        for within in ("models/", "refused/"):
            models_of(parts, within)

    def state_of(self, snapshot: Record) -> State:
        """The state of a snapshot; one of an earlier version lacks fields, which then are empty."""
        part = snapshot.parts["state"]
        try:
            return State.of_json(self.artefacts.json(part), snapshot)
        except ValueError as error:
            raise self.artefacts.fault(part, str(error)) from None

    def check_snapshots(self, records: list[Record]) -> None:
        """Raises `StoreError` for a snapshot that is not what the records before it add up to."""
        folded, named = State(), parts_named(records)
        for record in records:
            folded = folded.after(record)
            if record.kind == SNAPSHOT and (part := record.parts["state"]) in named:
                state = self.state_of(record)
                if indented(state.to_json()) != indented(folded.to_json()):
                    raise self.artefacts.fault(part, "it is not what the records before it add up to")

    def looks(self, state: State, before: State) -> Iterator[Callable[[], object]]:
        """Each thing to read of a state that the one before it has not, but for bars: settings, actions and other
        tables, what was issued, orders, models."""
        if state.settings != before.settings:
            yield partial(self.settings_of, str(state.settings))
        if state.actions != before.actions:
            yield lambda: History(self.artefacts, lambda: state, tuple).actions
        for name, part in state.tables.items():
            if part != before.tables.get(name):
                yield partial(self.table_of, name, part)
        for one in state.issued[len(before.issued) :]:
            yield partial(self.decisions_of, one.decisions)
            if one.forecasts:
                yield partial(self.forecasts_of, one.forecasts)
            if one.pieces:
                yield partial(self._pieces_of, state, one.pieces)
            if one.book:
                yield partial(self.holdings_of, one.book)
            if one.carried and self.artefacts.has(one.carried):  # an older one may have been pruned
                yield partial(self._check_carried, one.carried, is_newest=one is state.issued[-1])
            for name in one.desks.values():
                yield partial(self.desk_of, name)
        for event in state.orders[len(before.orders) :]:
            for role, part in (event.get("parts") or {}).items():
                if role in DOCUMENTS:
                    yield partial(self.document, part, DOCUMENTS[role])
        for model in state.models[len(before.models) :]:
            if ISSUED in model.parts:
                yield partial(self._pieces_of, state, model.parts[ISSUED])
            yield partial(self._check_model, model)
