"""History fed bar by bar through the chain, as live feeds it: what was said at each close, and whether batch agrees."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.audits.tables import up_to
from gatecast.chain import make_chain
from gatecast.live.book import holdings_of
from gatecast.live.kept import refuse_unserved, serve
from gatecast.live.parity import (
    Difference,
    Stage,
    Stages,
    corrected_since,
    decided_at,
    first_difference,
    joined,
    since_of,
    stages_of,
    stages_of_issued,
)
from gatecast.live.retrain import due_closes
from gatecast.live.spans import Span, spans_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.calendar import deadlines, fill_times
from gatecast.market.reading import as_utc
from gatecast.store.issued import in_force
from gatecast.store.pieces import in_order, pieces_by_record
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.chain import Past
    from gatecast.experiment import Experiment

Heard = Callable[[int, int], None]
"""Called with the closes that are done and those there are."""
INSTANT = timedelta(microseconds=1)
AT_ONCE = "bar by bar against all bars at once"
ISSUED_ONES = "what was issued against a chain over all bars"


@dataclass(frozen=True)
class Replayed:
    """A comparison: how many `closes`, and the first `difference`, None where all is the same to the bit.

    `what`: was compared with what. `said`: what was said at each close.
    """

    closes: int
    difference: Difference | None
    what: str
    said: Stages = field(default_factory=dict, repr=False)

    @property
    def equal(self) -> bool:
        """Whether all is the same, bit for bit."""
        return self.difference is None

    @property
    def message(self) -> str:
        """The outcome in a sentence."""
        if self.closes == 0:
            return f"{self.what}: nothing to compare yet."
        if self.difference is None:
            return f"{self.what}: the same to the bit at {self.closes} close{'s' * (self.closes != 1)}."
        return f"{self.what}: {self.difference.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = None if self.difference is None else asdict(self.difference)
        return {
            "closes": self.closes, "equal": self.equal, "difference": found, "compared": self.what,
            "message": self.message,
        }  # fmt: skip


def replay(
    experiment: Experiment,
    bars: pl.DataFrame,
    actions: pl.DataFrame | None = None,
    *,
    since: datetime,
    past: Past | None = None,
    classes: Collection[str] | None = None,
    asked: Mapping[str, Sequence[np.datetime64]] | None = None,
    progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:
    """The chain made anew at each close from `since` on, its past what it said before, against all bars at once.

    Parameters
    ----------
    bars: Bars frame; at each close the chain sees what was known by its fill. actions: delistings that are known.
    since: the first close that is made by itself; what came before is made at once, or is `past`.
    classes, asked: see `make_chain`. progress: called with the closes that are done and those there are.

    Raises as `make_chain` does.
    """
    filled = bars.with_columns(fill=fill_times(bars)).filter(pl.col("time") >= since)
    filled = filled.group_by("time").agg(pl.col("fill").max()).sort("time")
    moments = filled.select("time", pl.min_horizontal("fill", pl.col("time").shift(-1) - INSTANT))
    closes = moments["time"].to_list()
    before = past
    said: list[Stages] = []
    for number, (close, fill) in enumerate(moments.iter_rows()):
        known = up_to(bars, np.datetime64(fill.replace(tzinfo=None), "us"))
        chain = make_chain(
            experiment, known, actions=actions, past=before, classes=classes, asked=asked, machine=machine
        )
        before = chain.past
        said.append(decided_at(chain, close))
        if progress:
            progress(number + 1, len(closes))
    if not said:
        return Replayed(0, None, AT_ONCE)
    batch = make_chain(experiment, bars, actions=actions, past=past, classes=classes, asked=asked, machine=machine)
    whole = since_of(joined(said), since)
    return Replayed(len(closes), first_difference(whole, stages_of(batch, since)), AT_ONCE, whole)


# ── of a store ────────────────────────────────────────────────────────────────────────────────────


@checked
def replay_store(
    store: str | Path, *, last: int = 20, now: datetime | None = None, progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:  # fmt: skip
    """Feeds the newest closes of a store bar by bar through the chain, refits where they are due, and compares.

    Each close is compared with a chain over all bars at once. `last`: closes; fewer where the store has not issued so
    many. Where a refit was rolled back, or a symbol or class joined, both begin anew from what was issued. Raises
    `StoreError` where the store cannot be read or has no model. Nothing is written.
    """
    issued = _issued(Store.open(store, machine=machine), last, now)
    parts = [
        replay(
            issued.experiment.replace(bars=one.bars), one.bars, issued.actions, since=one.since, past=one.past,
            classes=one.classes, asked=one.asked, progress=progress, machine=machine,
        )
        for one in issued.spans
    ]  # fmt: skip
    different = [one for one in parts if one.difference is not None]
    said = joined([one.said for one in parts if one.closes]) if parts else {}
    return Replayed(sum(one.closes for one in parts), different[0].difference if different else None, AT_ONCE, said)


@checked
def parity(
    store: str | Path, *, last: int = 20, now: datetime | None = None, machine: Machine = ONE_CORE
) -> Replayed:  # fmt: skip
    """Compares what a store issued at its newest closes with a chain over all its bars, refits made anew.

    Where a refit was rolled back, or a symbol or class joined, the chain begins anew from what was issued. Raises
    `StoreError` where the store cannot be read or has no model. Nothing is written.
    """
    opened = Store.open(store, machine=machine)
    issued = _issued(opened, last, now)
    told: tuple[Stage, ...] = ("signal", "strategy")
    made: tuple[Stage, ...] = ("feature", "model", "forecast", "size")
    withheld = _withheld(opened)
    waits = _refit_waits(opened, as_utc(now, "now") if now else datetime.now(UTC))
    before = pl.lit(True) if waits is None else pl.col("time") < waits
    closes = len([time for time in issued.records if waits is None or time < waits])
    what = ISSUED_ONES
    if waits is not None:
        what += f" (those from {waits:%Y-%m-%d} on are left out, as a refit is due there and not made)"
    for one in issued.spans:
        said = {stage: one.within(table) for stage, table in issued.said.items()}
        chain = make_chain(
            issued.experiment.replace(bars=one.bars), one.bars, actions=issued.actions, past=one.past,
            classes=one.classes, asked=one.asked, machine=machine,
        )  # fmt: skip
        batch = {stage: one.within(table) for stage, table in stages_of(chain).items()}
        decided = said["signal"].select("symbol", "time")
        for stage in told:  # decisions are issued of the newest close of an update alone
            batch[stage] = batch[stage].join(decided, on=["symbol", "time"], how="semi")
        late = one.bars.filter(one.bars["known_at"] > deadlines(one.bars)).select("symbol", "time")
        for stage in made:  # of a bar that came after its fill nothing need be issued
            not_issued = late.join(said[stage], on=["symbol", "time"], how="anti")
            batch[stage] = batch[stage].join(not_issued, on=["symbol", "time"], how="anti")
        for stage in (*told, *made):  # where a row could still come: of other symbols only the features are the same
            keys = ["symbol", "time"] if stage == "feature" else ["time"]
            said[stage], batch[stage] = (
                table.filter(before).join(withheld, on=keys, how="anti", maintain_order="left")
                for table in (said[stage], batch[stage])
            )
        found = first_difference(said, batch)
        if found is not None:
            if found.stage != "bar" and found.time in issued.records:
                found = corrected_since(found, _bars_by(opened, issued.records[found.time]), one.bars) or found
            return Replayed(closes, found, what, issued.said)
    return Replayed(closes, None, what, issued.said)


def _refit_waits(store: Store, now: datetime) -> datetime | None:
    """The first close at which a refit was due that is not made; it decides again what is decided from there on."""
    due = due_closes(store, store.experiment.schedule, store.bars.for_chain(now))
    firsts = [datetime.fromisoformat(closes[0]).replace(tzinfo=UTC) for closes in due.values()]
    return min(firsts, default=None)


def _withheld(store: Store) -> pl.DataFrame:
    """`symbol, time`: the closes at which nothing was forecast of a symbol, as a row before it could still come."""
    decisions = store.decisions()
    if decisions.schema.get("flags") != pl.String:
        return decisions.clear().select("symbol", "time")
    awaited = decisions.filter(pl.col("flags").str.split(", ").list.contains("awaited"))
    return awaited.select("symbol", "time").unique().sort("time", "symbol")


def _bars_by(store: Store, record: int) -> pl.DataFrame:
    """The bars that were there at a record that issued something."""
    moments = {one.record: one.now for one in store.state.issued} | {one.record: one.now for one in store.state.models}
    moment = moments[record]
    return store.bars.for_chain(datetime.fromisoformat(moment), record=record)


@dataclass(frozen=True)
class _Issued:
    """What a store issued at its newest closes: how many, in which spans, and what was said stage by stage.

    `records`: close -> the number of the last record that issued it.
    """

    closes: int
    spans: Sequence[Span]
    said: Stages
    experiment: Experiment
    actions: pl.DataFrame
    records: Mapping[datetime, int]


def _issued(store: Store, last: int, now: datetime | None) -> _Issued:
    """The newest `last` closes that a store issued after a class's first model was there; 0 where there is none."""
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    experiment = serve(store, refuse_unserved(store)).run.experiment
    pieces = pieces_by_record(store.artefacts, store.state, experiment.horizon)
    trained: dict[str, np.datetime64] = {}
    for one in store.state.models:  # the first that has a class was fitted on its history
        for name, piece in pieces.get(one.record, {}).items() if one.status == "accepted" else ():
            if name not in trained and len(piece.issued.time):
                trained[name] = piece.issued.time.max()
    times = {
        time: number for number, each in sorted(pieces.items()) for name, piece in each.items() if name in trained
        for time in piece.issued.time[piece.issued.time > trained[name]].tolist()
    }  # fmt: skip
    if not times:
        return _Issued(0, (), {}, experiment, store.actions, {})
    newest = sorted(times)[-last:]
    since = newest[0].replace(tzinfo=UTC)
    decisions = store.decisions().filter(pl.col("forecast_time") == pl.col("time"))
    decisions = decisions.filter(in_force(decisions)).with_columns(pl.col("signal").cast(pl.Int8))
    ordered = in_order([(number, piece) for number, each in pieces.items() for piece in each.values()])
    said = stages_of_issued(ordered, store.bars.first_known(since), decisions, holdings_of(store))
    records = {time.replace(tzinfo=UTC): times[time] for time in newest}
    spans = spans_of(store, since, moment, pieces, _withheld(store)["time"].unique().to_list())
    return _Issued(len(newest), spans, said, experiment, store.actions, records)
