"""What a store's newest records have issued, in spans that a chain can follow, as the journal tells what happened.

A span is a run of records that issued something, or decided the book again, by one model, with the refit that made it.
Another span begins where what is known of earlier closes has changed: a bar came that is no newer than what was
decided, an action, a row that may still come. What was there then, when each refit was made and by which model each
record decided says the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from gatecast.live.issuing import with_awaited_of
from gatecast.live.kept import book_begins, carried_before, serve
from gatecast.live.newest import OLD_MODEL
from gatecast.market.bars import session_of
from gatecast.store.issued import issued_keys
from gatecast.store.journal import moment_of

if TYPE_CHECKING:
    from gatecast.chain import Past
    from gatecast.runs import Run
    from gatecast.store.issued import Piece
    from gatecast.store.state import Model, Wait
    from gatecast.store.store import Store

Pieces = Mapping[int, Mapping[str, "Piece"]]
"""Number of a record -> asset class -> what it issued."""
KEYS = ("symbol", "time")
AWAITED = "awaited"
"""Flag of a decision on a symbol of which a row may still come."""


@dataclass(frozen=True)
class Span:
    """Records that issued or decided something one after the other, and what a chain needs to say it again.

    `said`: symbol and time of what they issued that counts, or decided again; `others`: of all else that the store has
    issued, and of what is not issued as a row may still come. `run`: of the model that decided, `past`: what was issued
    before, with the fits before its refit. `bars`: as known now, of what was there then; `actions`: as then. `refits`:
    asset class -> closes of the refits that were made. `old`: symbol and time of what was said with a model that was
    too old. `before`: the number of the record at which the next span begins; `first`: of its first.
    """

    said: pl.DataFrame
    others: pl.DataFrame
    run: Run
    past: Past
    bars: pl.DataFrame
    actions: pl.DataFrame
    refits: Mapping[str, Sequence[np.datetime64]]
    old: pl.DataFrame
    before: int | None
    first: int

    def issued(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of a table with symbol and time that were said here."""
        return table.join(self.said, on=KEYS, how="semi", maintain_order="left")

    def held(self, holdings: pl.DataFrame, since: datetime) -> pl.DataFrame:
        """What the book held at the sessions that were decided here, from `since` on, of what was said here.

        `holdings`: see `book.holdings_by_record`. A forecast may come later than its session: of a symbol that lacked a
        row, once its windows step over that.
        """
        own = holdings.filter(pl.col("time") >= since, pl.col("record") >= self.first)
        return own.join(self.others, on=KEYS, how="anti", maintain_order="left")

    def made(self, table: pl.DataFrame, since: datetime) -> pl.DataFrame:
        """The rows of a chain from `since` on that should have been said here."""
        return table.filter(pl.col("time") >= since).join(self.others, on=KEYS, how="anti", maintain_order="left")


def counting(pieces: Pieces) -> pl.DataFrame:
    """All that a store has issued and that counts: symbol, time, and the number of its record.

    `pieces`: see `pieces_by_record`.
    """
    parts = [
        issued_keys(piece.issued).with_columns(
            record=pl.lit(number, pl.Int64), _rank=pl.lit(-number if piece.again else number, pl.Int64)
        )
        for number, each in pieces.items() for piece in each.values()
    ]  # fmt: skip
    return pl.concat(parts).sort("_rank", maintain_order=True).unique(KEYS, keep="first").drop("_rank")


def firsts(store: Store, pieces: Pieces) -> list[int]:
    """Numbers of the refits that were the first of a class: but for its newest close they issued its history."""
    found = []
    for one in store.state.models:
        before = pieces.get(one.goes_on or 0, {})
        if one.record in pieces and not pieces[one.record].keys() <= before.keys():
            found.append(one.record)
    return found


def compared(store: Store, pieces: Pieces) -> pl.DataFrame:
    """What of `counting` a chain can say again: all but the history of each class, which may be a single close."""
    counts = counting(pieces)
    for number in firsts(store, pieces):
        times = [piece.issued.time for piece in pieces[number].values()]
        newest = [(time == time.max()) & (time.min() < time.max()) for time in times]
        each = zip(pieces[number].values(), newest, strict=True)
        kept = pl.concat([issued_keys(piece.issued).filter(pl.Series(own)) for piece, own in each])
        history = counts.filter(record=number).join(kept, on=KEYS, how="anti")
        counts = counts.join(history, on=[*KEYS, "record"], how="anti", maintain_order="left")
    return counts


def spans_of(store: Store, since: datetime, now: datetime, pieces: Pieces) -> list[Span]:
    """The spans of what a store has issued of the closes from `since` on, in the order of the journal.

    `now`: up to when bars count as known. Raises `StoreError` where the store cannot be read.
    """
    counts, again = counting(pieces), compared(store, pieces)
    models = {one.record: one for one in store.state.models}
    by_model = {number: models[number] for number in pieces if number in models}
    by_model |= {one.record: models[one.model] for one in store.state.issued if one.model in models}
    wanted = again.filter(pl.col("time") >= since)["record"].unique().sort().to_list()
    alone = [one.record for one in store.state.issued if one.book and one.pieces is None and one.model in models]
    wanted = sorted({*wanted, *(one for one in alone if one > min(wanted, default=one))})
    told = _Told(store, counts)
    groups: list[list[int]] = []
    for before, number in pairwise([0, *wanted]):
        goes_on = groups and by_model[before] == by_model[number] and number not in models
        if goes_on and not told.changed(before, number):
            groups[-1].append(number)
        else:
            groups.append([number])
    with store.bars.read_once():
        return [
            _span(store, one, by_model[one[-1]], again, since, now, pieces, told, after[0] if after else None)
            for one, after in zip_longest(groups, groups[1:])
        ]


def _span(
    store: Store, records: Sequence[int], model: Model, again: pl.DataFrame, since: datetime, now: datetime,
    pieces: Pieces, told: _Told, before: int | None,
) -> Span:  # fmt: skip
    """`again`: see `compared`. Of the first refit of a class the fits are taken as they are: only what they say is
    made again."""
    first, last = records[0], records[-1]
    base, refits = model, dict[str, list[np.datetime64]]()
    is_first = first in firsts(store, pieces)
    if first == model.record and not is_first:
        base = next(one for one in store.state.models if one.record == model.goes_on)
        for name, piece in pieces[first].items():
            done = pieces[base.record][name].issued.cutoffs[-1]
            refits[name] = [one for one in piece.issued.cutoffs if one > done]
    own = again.filter(pl.col("record").is_in(list(records)))
    earlier = _without(pieces, first + is_first, own)
    run, past = serve(store, model, pieces=pieces).run, serve(store, base, pieces=earlier).past
    decided = told.decided_again(records)
    said = pl.concat([own.select(KEYS), decided]).unique(maintain_order=True)
    anew = book_begins(store, session_of(cast(datetime, said["time"].min() or told.now[first])))
    past = replace(past, carried=partial(carried_before, store, first), begins=anew, settled=True)
    then = {"actions": told.actions_at(last), "waits": told.waits_at(last, store.state.waits)}
    history = store.bars.of_state(store.state.model_copy(update=then))
    there = history.for_chain(told.now[last], record=last)
    bars = history.for_chain(now).join(there, on=KEYS, how="semi", maintain_order="left")
    full, awaited = with_awaited_of(run.experiment, bars, history.actions, store.state.calendars)
    if first == model.record:  # a refit reads the bars that are there; what follows a row that may come is not issued
        begins = awaited.group_by("symbol").agg(_begins=pl.col("time").min())
        awaited = bars.join(begins, on="symbol").filter(pl.col("time") > pl.col("_begins")).select(KEYS)
    else:
        bars = full
    others = pl.concat([told.counts.join(said, on=KEYS, how="anti").select(KEYS), awaited.select(KEYS)])
    said = said.filter(pl.col("time") >= since)
    return Span(
        said,
        others,
        run,
        past,
        bars,
        history.actions,
        refits,
        told.old.join(said, on=KEYS, how="semi"),
        before,
        first,
    )


def _without(pieces: Pieces, first: int, own: pl.DataFrame) -> dict[int, dict[str, Piece]]:
    """What was issued before a record, without what took the place of it there."""
    replaced = own.select(KEYS)
    begins = own["time"].min()
    found = dict[int, dict[str, "Piece"]]()
    for number, each in pieces.items():
        if number >= first:
            continue
        found[number] = {}
        for name, piece in each.items():
            keys = issued_keys(piece.issued)
            if len(replaced) and len(keys) and cast(datetime, keys["time"].max()) >= cast(datetime, begins):
                stays = keys.with_row_index("_at").join(replaced, on=KEYS, how="anti", maintain_order="left")["_at"]
                if len(stays) < len(keys):
                    piece = piece.of_rows(np.isin(np.arange(len(keys)), stays.to_numpy()))
            found[number][name] = piece
    return found


class _Told:
    """What the journal and the decisions tell: what changed between two records, and what each knew.

    In: the store, and what it has issued, see `counting`.
    """

    def __init__(self, store: Store, counts: pl.DataFrame) -> None:
        self.counts = counts
        self.records = {one.number: one for one in store.journal.records()}
        self.now = {number: one.now for number, one in self.records.items()}
        decided = counts.group_by("record").agg(pl.col("time").max()).sort("record")
        self.decided = decided.with_columns(pl.col("time").cum_max())
        oldest = store.bars.versions().group_by("record").agg(pl.col("time").min())
        self.oldest = dict(oldest.iter_rows())
        decisions = store.decisions()
        flags = pl.lit([], pl.List(pl.String))
        if decisions.schema.get("flags") == pl.String:
            flags = pl.col("flags").str.split(", ")
        flagged = decisions.select(*KEYS, "record", flags=flags)
        self.awaited = set(flagged.filter(pl.col("flags").list.contains(AWAITED))["record"])
        old = flagged.filter(pl.col("flags").list.contains(OLD_MODEL))["record"].unique()
        self.old = counts.filter(pl.col("record").is_in(old.to_list())).select(KEYS)
        self.store = store

    def decided_again(self, records: Sequence[int]) -> pl.DataFrame:
        """Symbol and time of what was issued by then of sessions of the book that these records decided, which issued
        nothing themselves."""
        found = [self.counts.clear().select(KEYS)]
        for one in self.store.state.issued:
            if one.book and one.pieces is None and one.record in records:
                held = self.store.holdings_of(one.book).filter(pl.col("time").is_not_null())
                issued = self.counts.filter(pl.col("record") < one.record)
                found.append(issued.join(held, on=KEYS, how="semi").select(KEYS))
        return pl.concat(found)

    def changed(self, before: int, number: int) -> bool:
        """Whether what is known of closes up to a record is another at a later one."""
        if before in self.awaited or number in self.awaited:
            return True
        newest = cast(datetime, self.decided.filter(pl.col("record") <= before)["time"].max())
        for place in range(before + 1, number):
            record = self.records.get(place)
            if record is None or record.kind in ("actions", "clock"):
                return True
            if record.kind == "bars" and (record.body.get("waits") or self.oldest.get(place, newest) <= newest):
                return True
        return False

    def waits_at(self, number: int, waits: Sequence[Wait]) -> tuple[Wait, ...]:
        """Bars that waited by a record: one of which something was said at the same moment, but after it, waits on."""
        before = [one for place, one in self.records.items() if place < number]
        said = {
            (wait["symbol"], wait["time"]) for one in before for wait in one.body.get("waits", ()) if wait.get("until")
        }
        late = [one for one in waits if one.until is not None and moment_of(one.until) >= self.now[number]]
        return tuple(
            one.model_copy(update={"until": None}) if one in late and (one.symbol, one.time) not in said else one
            for one in waits
        )

    def actions_at(self, number: int) -> str | None:
        """The artefact of actions that was in force at a record."""
        told = [one for place, one in self.records.items() if place < number and one.kind == "actions"]
        return told[-1].parts["actions"] if told else None
