"""Tables beside the bars of a store: symbols, splits, actions, delistings, a universe. A store keeps what it is given.

Their content is kept, not their place on a machine, and used at every later update until others are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.errors import SettingsError
from gatecast.market.actions import join_actions, misnamed, read_actions
from gatecast.market.reading import TABLES
from gatecast.market.symbols import read_symbols
from gatecast.market.universe import read_universe
from gatecast.store.contents import SYMBOLS_FILE, UNIVERSE_FILE
from gatecast.store.history import parquet
from gatecast.store.store import Store

KINDS = {"splits": "split", "actions": None, "delisting": "delisting"}
"""Table of actions -> the kind of all of its rows; None: it says the kind of each."""
FILES = {SYMBOLS_FILE: read_symbols, UNIVERSE_FILE: read_universe}
"""Table that is read as a file when bars are -> what reads it to be kept."""


@dataclass(frozen=True)
class Beside:
    """The tables of an update: `given` now, by the name of their option, as they are kept; `options` of `read_bars`.

    `actions`: splits and delistings of all tables, those that the store kept among them. `names` of all tables.
    """

    given: Mapping[str, pl.DataFrame]
    options: Mapping[str, Any]
    actions: pl.DataFrame
    names: frozenset[str]


def beside(store: Store | None, named: Mapping[str, Any]) -> Beside:
    """The tables that are `named` (option -> path or frame), and of the others those that a store has kept.

    Raises `BarsError` for a table that is none, `StoreError` for a kept one that is damaged.
    """
    if odd := sorted(named.keys() - set(TABLES)):
        raise SettingsError(f"there is no table {odd[0]!r}: expected one of {', '.join(TABLES)}.")
    given = {name: read_actions(named[name], kind) for name, kind in KINDS.items() if name in named}
    every, options = dict(given), dict[str, Any]()
    for name, read in FILES.items():
        if name in named:
            given[name], options[name] = read(named[name]), named[name]
    for name, part in store.state.tables.items() if store is not None else ():
        if name in named or store is None:
            continue
        table = store.table(name)  # whole, or it is said
        if name in FILES:
            options[name] = store.artefacts.path(part)
        else:
            every[name] = table.join(misnamed(table), on=["symbol", "kind", "date"], how="anti", maintain_order="left")
    actions = join_actions(*every.values())
    options |= {"actions": actions} if every else {}
    return Beside(given, options, actions, frozenset([*every, *options]))


def keep(store: Store, tables: Beside, now: datetime) -> None:
    """Stores the tables that were given, where the store does not have them."""
    parts = {name: store.put(parquet(table), ".parquet") for name, table in tables.given.items()}
    if any(store.state.tables.get(name) != part for name, part in parts.items()):
        store.append("tables", {"parts": {**store.state.tables, **parts}}, now)


def kept_actions(store: Store) -> dict[str, pl.DataFrame]:
    """Name of a table of actions that a store keeps -> the table, without symbols that the store does not have."""
    own = pl.col("symbol").is_in(list(store.state.symbols))
    return {name: store.table(name).filter(own) for name in KINDS if name in store.state.tables}


def forget(store: Store, gone: pl.DataFrame, now: datetime) -> None:
    """Stores the kept tables of actions without some rows; `gone`: symbol, kind and date of each."""
    parts = dict(store.state.tables)
    for name in KINDS:
        if name in parts:
            left = store.table(name).join(gone, on=["symbol", "kind", "date"], how="anti", maintain_order="left")
            parts[name] = store.put(parquet(left), ".parquet")
    if parts != store.state.tables:
        store.append("tables", {"parts": parts}, now)


def named_in(options: Mapping[str, Any]) -> dict[str, str | Path]:
    """Options of `read_bars` -> those that name a table. `splits=False` names none."""
    return {name: options[name] for name in TABLES if options.get(name) is not None and options[name] is not False}
