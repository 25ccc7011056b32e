"""All that a store has issued: pieces of its refits and updates, in the order in which they count, and as a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from gatecast.store.artefacts import Artefacts
from gatecast.store.issued import VALUE, WEIGHT, Piece, issued_keys, joined, pieces_of
from gatecast.store.schema import TABLES
from gatecast.store.state import ISSUED, State

WEIGHTS = ("weight", "book")
"""What was decided of each row: of the symbol by itself, and its share of the portfolio."""


def read_pieces(artefacts: Artefacts, part: str, horizon: int) -> dict[str, Piece]:
    """Asset class -> piece, of an artefact. Raises `StoreError` for what is none, or has no forecasts or weights."""
    try:
        found = pieces_of(artefacts.get(part), horizon)
        for name, piece in found.items():
            lacks = [f"{WEIGHT}/{one}" for one in WEIGHTS if one not in piece.weights]
            lacks += [] if piece.issued.values else [VALUE]
            if lacks:
                raise ValueError(f"the arrays {', '.join(lacks)} of {name[:80]!r} are missing")
    except ValueError as error:
        raise artefacts.fault(part, str(error)) from None
    return found


def pieces_by_record(
    artefacts: Artefacts, state: State, horizon: int, model: int | None = None
) -> dict[int, dict[str, Piece]]:
    """Number of a record -> asset class -> what it issued, in order; of updates, and of refits that were accepted.

    Of a candidate, which a killed process left, only where decisions were issued with it, or it is `model`. Raises
    `StoreError` as `read_pieces` does.
    """
    decided = {model, *(one.model for one in state.issued)}
    records = [
        (one.record, one.parts[ISSUED]) for one in state.models
        if ISSUED in one.parts
        and (one.status == "accepted" or (one.status == "candidate" and one.record in decided))
    ]  # fmt: skip
    records += [(one.record, one.pieces) for one in state.issued if one.pieces is not None]
    return {number: read_pieces(artefacts, part, horizon) for number, part in sorted(records)}


def in_order(pieces: Sequence[tuple[int, Piece]]) -> list[Piece]:
    """Pieces with the numbers of their records -> pieces, of which the first that has a row counts.

    What was issued first counts, but for what took its place, of which the newest does.
    """
    return [piece for _, piece in numbered_in_order(pieces)]


def numbered_in_order(pieces: Sequence[tuple[int, Piece]]) -> list[tuple[int, Piece]]:
    """As `in_order`, each with the number of its record."""
    return sorted(pieces, key=lambda one: -one[0] if one[1].again else one[0])


def forecasts_in_force(
    artefacts: Artefacts, state: State, horizon: int, models: Collection[str] | None = None
) -> pl.DataFrame:  # fmt: skip
    """symbol, time, model, head, step (sessions ahead) and value of every forecast that counts, sorted.

    Forecasts over the whole horizon have its step. `models`: of these alone. Raises `StoreError` as `read_pieces` does.
    """
    return table_of(pieces_by_record(artefacts, state, horizon), horizon, models)


def table_of(
    read: Mapping[int, Mapping[str, Piece]], horizon: int, models: Collection[str] | None = None
) -> pl.DataFrame:
    """As `forecasts_in_force`, of pieces that were read: number of a record -> asset class -> piece."""
    kinds = {name: kind for name, kind in TABLES["forecasts"].items() if name != "known_at"}
    frames = [pl.DataFrame(schema=kinds)]
    for name in sorted({name for each in read.values() for name in each}):
        ordered = in_order([(number, each[name]) for number, each in read.items() if name in each])
        whole = joined([piece.issued for piece in ordered])
        keys = issued_keys(whole)
        for model, heads in whole.values.items():
            if models is not None and model not in models:
                continue
            for head, array in heads.items():
                table = array.reshape(len(array), array.size // max(len(array), 1))
                for place in range(table.shape[1]):
                    step = place + 1 if table.shape[1] > 1 else horizon
                    issued = np.flatnonzero(~np.isnan(table[:, place]))
                    frames.append(
                        keys[issued].select(
                            "symbol", "time", model=pl.lit(model), head=pl.lit(head), step=pl.lit(step, pl.Int32),
                            value=pl.Series(table[issued, place], dtype=pl.Float64),
                        )
                    )  # fmt: skip
    return pl.concat(frames).sort("symbol", "time", "model", "head", "step")
