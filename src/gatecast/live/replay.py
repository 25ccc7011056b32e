"""History fed bar by bar through the chain, as live feeds it: what was said at each close, and whether batch agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.audits.tables import up_to
from gatecast.chain import make_chain
from gatecast.live.kept import refuse_unserved, serve
from gatecast.live.parity import (
    Difference,
    Stage,
    Stages,
    corrected_since,
    first_difference,
    joined,
    stages_of,
    stages_of_issued,
)
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.calendar import deadlines, fill_times
from gatecast.market.reading import as_utc
from gatecast.store.pieces import in_order, pieces_by_record
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.chain import Past
    from gatecast.experiment import Experiment

Heard = Callable[[int, int], None]
"""Called with the closes that are done and those there are."""
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
    progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:
    """The chain made anew at each close from `since` on, its past what it said before, against all bars at once.

    Parameters
    ----------
    bars: Bars frame; at each close the chain sees what was known by then. actions: delistings that are known.
    since: the first close that is made by itself; what came before is made at once, or is `past`.
    progress: called with the closes that are done and those there are.

    Raises as `make_chain` does.
    """
    closes = _closes_with_fills(bars, since)
    before = past
    said: list[Stages] = []
    for number, (close, fill) in enumerate(closes):
        known = up_to(bars, np.datetime64(fill.replace(tzinfo=None), "us"))
        chain = make_chain(experiment, known, actions=actions, past=before, machine=machine)
        before = chain.past
        said.append(stages_of(chain, close))
        if progress:
            progress(number + 1, len(closes))
    if not said:
        return Replayed(0, None, AT_ONCE)
    batch = make_chain(experiment, bars, actions=actions, past=past, machine=machine)
    whole = joined(said)
    return Replayed(len(closes), first_difference(whole, stages_of(batch, since)), AT_ONCE, whole)


def _closes_with_fills(bars: pl.DataFrame, since: datetime) -> list[tuple[datetime, datetime]]:
    """Each close from `since` on, and until when a row is known in time for it: its fill, before the next close."""
    fills = bars.with_columns(_fill=fill_times(bars)).group_by("time").agg(pl.col("_fill").min()).sort("time")
    following = pl.col("time").shift(-1) - pl.duration(microseconds=1)
    until = pl.min_horizontal("_fill", following)
    return fills.select("time", until).filter(pl.col("time") >= since).rows()


# ── of a store ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Span:
    """The newest closes of a store: what it can be continued from, and what it issued since.

    `records`: close -> the number of the last record that issued it.
    """

    since: datetime
    records: dict[datetime, int]
    closes: int
    experiment: Experiment
    bars: pl.DataFrame
    actions: pl.DataFrame
    past: Past
    issued: Stages


@checked
def replay_store(
    store: str | Path, *, last: int = 20, now: datetime | None = None, progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:  # fmt: skip
    """Feeds the newest closes of a store bar by bar through the chain, refits where they are due, and compares.

    Each close is compared with a chain over all bars at once. `last`: closes; fewer where the store has not issued so
    many. Raises `StoreError` where the store cannot be read or has no model. Nothing is written.
    """
    span = _span(Store.open(store, machine=machine), last, now)
    if span is None:
        return Replayed(0, None, AT_ONCE)
    return replay(
        span.experiment, span.bars, span.actions, since=span.since, past=span.past, progress=progress, machine=machine
    )


@checked
def parity(
    store: str | Path, *, last: int = 20, now: datetime | None = None, machine: Machine = ONE_CORE
) -> Replayed:  # fmt: skip
    """Compares what a store issued at its newest closes with a chain over all its bars, refits made anew.

    Raises `StoreError` where the store cannot be read or has no model. Nothing is written.
    """
    opened = Store.open(store, machine=machine)
    span = _span(opened, last, now)
    if span is None:
        return Replayed(0, None, ISSUED_ONES)
    chain = make_chain(span.experiment, span.bars, actions=span.actions, past=span.past, machine=machine)
    batch = stages_of(chain, span.since)
    decided = span.issued["signal"].select("symbol", "time")
    told: tuple[Stage, ...] = ("signal", "strategy")
    for stage in told:  # decisions are issued of the newest close of an update alone
        batch[stage] = batch[stage].join(decided, on=["symbol", "time"], how="semi")
    late = span.bars.filter(span.bars["known_at"] > deadlines(span.bars)).select("symbol", "time")
    made: tuple[Stage, ...] = ("feature", "model", "forecast", "size")
    for stage in made:  # of a bar that came after its fill nothing need be issued
        not_issued = late.join(span.issued[stage], on=["symbol", "time"], how="anti")
        batch[stage] = batch[stage].join(not_issued, on=["symbol", "time"], how="anti")
    found = first_difference(span.issued, batch)
    if found is not None and found.stage != "bar" and found.time in span.records:
        found = corrected_since(found, _bars_by(opened, span.records[found.time]), span.bars) or found
    return Replayed(span.closes, found, ISSUED_ONES, span.issued)


def _bars_by(store: Store, record: int) -> pl.DataFrame:
    """The bars that were there at a record that issued something."""
    moments = {one.record: one.now for one in store.state.issued} | {one.record: one.now for one in store.state.models}
    moment = moments[record]
    return store.bars.for_chain(datetime.fromisoformat(moment), record=record)


def _span(store: Store, last: int, now: datetime | None) -> _Span | None:
    """The newest `last` closes that the store issued after a model was there; None where there is none."""
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    serving = serve(store, refuse_unserved(store))
    experiment = serving.run.experiment
    pieces = pieces_by_record(store.artefacts, store.state, experiment.horizon)
    first = next(one for one in store.state.models if one.status != "refused")
    trained = {name: np.datetime64(piece.issued.time.max()) for name, piece in pieces[first.record].items()}
    times = {
        time: number for number, each in sorted(pieces.items()) if number != first.record
        for name, piece in each.items() for time in piece.issued.time.tolist() if np.datetime64(time) > trained[name]
    }  # fmt: skip
    if not times:
        return None
    newest = sorted(times)[-last:]
    since = newest[0].replace(tzinfo=UTC)
    model = next(
        one
        for one in reversed(store.state.models)
        if one.status != "refused" and (one is first or all(_moment(cut) < since for cut in one.cutoffs.values()))
    )
    served = serve(store, model, before=dict.fromkeys(store.state.symbols.values(), since))
    ordered = in_order([(number, piece) for number, each in pieces.items() for piece in each.values()])
    known = store.bars.first_known(since)
    decisions = store.decisions().filter(pl.col("forecast_time") == pl.col("time"))
    decisions = (
        decisions.sort("record").unique(["symbol", "time"], keep="last").with_columns(pl.col("signal").cast(pl.Int8))
    )
    issued = stages_of_issued(ordered, known, decisions)
    issued = {stage: table.filter(pl.col("time") >= since) for stage, table in issued.items()}
    bars = store.bars.for_chain(moment)
    records = {time.replace(tzinfo=UTC): times[time] for time in newest}
    return _Span(since, records, len(newest), experiment.replace(bars=bars), bars, store.actions, served.past, issued)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
