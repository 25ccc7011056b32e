"""A store's newest closes, cut where a chain cannot follow by itself: at a rollback, and where a symbol or class joins.

Within a span all follows from its past by the rules of the chain and what was asked for; the journal says where it
ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from gatecast.audits.tables import up_to
from gatecast.chain import Past
from gatecast.live.kept import book_begins, carried_before, serve
from gatecast.market.bars import session_of
from gatecast.store.state import ISSUED

if TYPE_CHECKING:
    from gatecast.forecasting.drift import Alarms
    from gatecast.forecasting.walkforward import Issued
    from gatecast.store.issued import Piece
    from gatecast.store.journal import Record
    from gatecast.store.state import Model
    from gatecast.store.store import Store

Pieces = Mapping[int, Mapping[str, "Piece"]]
"""Number of a record -> asset class -> what it issued."""


@dataclass(frozen=True)
class Span:
    """Closes from `since` to before `until` (None: to the newest), and what a chain needs to make them again.

    `bars`: as known now, of the symbols that the store had then. `classes`: that were forecast. `asked`: asset class ->
    closes of refits that somebody asked for.
    """

    since: datetime
    until: datetime | None
    past: Past
    bars: pl.DataFrame
    classes: Collection[str]
    asked: Mapping[str, Sequence[np.datetime64]]

    def within(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of a table with symbol and time that are of its closes, and of symbols that were forecast."""
        symbols = self.bars.filter(pl.col("asset_class").is_in(list(self.classes)))["symbol"].unique().to_list()
        inside = pl.col("symbol").is_in(symbols) & (pl.col("time") >= self.since)
        return table.filter(inside if self.until is None else inside & (pl.col("time") < self.until))


@dataclass(frozen=True)
class _Change:
    """Another model in force: asset class -> the first close (or a moment before it) from which it counts.

    `starts`: moments at which a span starts by it. `lasting`: whether classes that the model lacks stay as they are.
    """

    record: int
    model: Model
    begins: Mapping[str, datetime]
    starts: Collection[datetime] = ()
    lasting: bool = True


def spans_of(
    store: Store, since: datetime, now: datetime, pieces: Pieces, withheld: Collection[datetime] = ()
) -> list[Span]:  # fmt: skip
    """The spans of a store's closes from `since` on; `pieces`: all that it has issued, see `pieces_by_record`.

    `withheld`: closes at which a forecast was withheld, which a chain that knows more makes: each is a span by itself.
    """
    records = list(store.journal.records())
    changes, asked = _changes(store, records, pieces)
    joined = _joined(records, pieces, store.state.symbols)
    starts: dict[datetime, _Change | None] = {since: None, **dict.fromkeys(joined.values())}
    bars, spans = store.bars.for_chain(now), list[Span]()
    after = [bars.filter(pl.col("time") > one)["time"].min() for one in withheld if one >= since]
    starts |= dict.fromkeys([*withheld, *(one for one in after if isinstance(one, datetime))])
    for change in changes:
        starts |= dict.fromkeys(change.starts, change)  # of two at one close the later one counts
    inside = sorted(moment for moment in starts if moment >= since)
    for start, until in zip(inside, [*inside[1:], None], strict=True):
        past = _past_at(store, start, starts[start], changes)
        here = bars
        if until is not None:
            here = up_to(here, np.datetime64(until.replace(tzinfo=None), "us") - np.timedelta64(1, "us"))
        here = here.filter(~pl.col("symbol").is_in([one for one, begun in joined.items() if begun > start]))
        spans.append(Span(start, until, past, here, tuple(past.forecasts), asked))
    return spans


def _changes(
    store: Store, records: Sequence[Record], pieces: Pieces
) -> tuple[list[_Change], dict[str, list[np.datetime64]]]:  # fmt: skip
    """Each model that came into force, in the order of the journal, and the closes of refits that were asked for."""
    changes, asked = list[_Change](), dict[str, list[np.datetime64]]()
    bodies: dict[int, Mapping[str, Any]] = {}
    for record in records:
        if record.kind == "refit":
            bodies[record.number] = record.body
        if record.kind not in ("accepted", "rollback"):
            continue
        model = store.state.model(int(record.body["model"]))
        if model is None or ISSUED not in model.parts:
            continue
        if record.kind == "rollback":
            given = {name: _moment(text) for name, text in record.body.get("since", {}).items()}
            begins = {name: given.get(name, record.now) for name in model.cutoffs}
            changes.append(_Change(record.number, model, begins, (min(begins.values()),), lasting=False))
            continue
        before = store.state.model(model.goes_on)
        for name, text in bodies[model.record].get("asked", {}).items():
            asked.setdefault(name, []).append(np.datetime64(text, "us"))
        begins, starts = {}, list[datetime]()
        for name, text in model.cutoffs.items():
            if before is None or name not in before.cutoffs:
                begins[name] = _close(pieces[model.record][name].issued.time.max())
                starts.append(begins[name])
            else:
                begins[name] = _moment(text) if text != before.cutoffs[name] else record.now
        changes.append(_Change(record.number, model, begins, starts))
    return changes, asked


def _joined(records: Sequence[Record], pieces: Pieces, classes: Mapping[str, str]) -> dict[str, datetime]:
    """Symbol -> the first close that was decided on with it, of those that came after the first decisions."""
    found: dict[str, datetime] = {}
    waiting: list[str] = []
    decided: set[str] = set()
    for record in records:
        if record.kind == "bars":
            waiting += [symbol for symbol in record.body.get("symbols", {}) if decided]
        fresh = [piece.issued for piece in pieces.get(record.number, {}).values()]
        if waiting:
            again = [one.time[[symbol in decided for symbol in one.symbol]] for one in fresh]
            if times := [time.min() for time in again if len(time)]:
                found |= dict.fromkeys(waiting, _close(min(times)))
                waiting = []
        decided |= {symbol for one in fresh for symbol in one.symbol}
    return found


def _past_at(store: Store, start: datetime, change: _Change | None, changes: Sequence[_Change]) -> Past:
    """All that was issued before a span, each class with the model that was in force there."""
    force, refits = dict[str, _Change](), list[tuple[str, str]]()
    for one in changes:
        if change is not None and not change.lasting:  # a rollback: what came before it has passed
            own = set(one.begins) if one.record <= change.record else set()
        else:
            own = {name for name, begun in one.begins.items() if begun < start or (one is change and begun == start)}
        if not one.lasting and own:
            force = {name: other for name, other in force.items() if name in one.begins}
        force |= dict.fromkeys(own, one)
        refits += [(name, one.model.cutoffs[name]) for name in own if one.lasting]
    begins = dict.fromkeys(force, start) if change is None or change.lasting else change.begins
    passed = {name: np.datetime64(text, "us") for name, text in sorted(refits)}
    forecasts: dict[str, Issued] = {}
    features: dict[str, tuple[str, ...]] = {}
    weights: list[pl.DataFrame] = []
    settings: Mapping[str, Any] = {}
    alarms: dict[str, Alarms] = {}
    for one in {one.record: one for one in force.values()}.values():
        names = [name for name, other in force.items() if other is one]
        past = serve(store, one.model, before={name: begins[name] for name in names}).past
        forecasts |= {name: replace(past.forecasts[name], passed=passed.get(name)) for name in names}
        features |= {name: past.features[name] for name in names if name in past.features}
        alarms |= {name: past.alarms[name] for name in names if name in past.alarms}
        symbols = {symbol for name in names for symbol in past.forecasts[name].symbol}
        weights.append(past.weights.filter(pl.col("symbol").is_in(list(symbols))))
        settings = past.settings
    table = pl.concat(weights).sort("symbol", "time")
    return Past(
        dict(sorted(forecasts.items())), features, table, settings, alarms, partial(carried_before, store, start),
        book_begins(store, session_of(start)),
    )  # fmt: skip


def _close(time: np.datetime64) -> datetime:
    return cast(datetime, time.astype("datetime64[us]").item()).replace(tzinfo=UTC)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
