"""History fed bar by bar through the chain, as live feeds it: what was said at each close, and whether batch agrees."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.audits.tables import up_to
from gatecast.chain import Refit, make_chain
from gatecast.live.book import holdings_by_record, holdings_of
from gatecast.live.gates import GATES
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
    with_book,
)
from gatecast.live.spans import KEYS, Span, compared, spans_of
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.calendar import fill_times
from gatecast.market.reading import as_utc
from gatecast.notebook import Shown
from gatecast.runs import without_doubtful
from gatecast.store.issued import in_force
from gatecast.store.pieces import in_order, pieces_by_record
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.chain import Past
    from gatecast.experiment import Experiment

Heard = Callable[[int, int], None]
"""Called with the closes that are done and those there are."""
AT_ONCE = "bar by bar against all bars at once"
ISSUED_ONES = "what was issued against a chain over all bars"
FIRST_WITH_FORECAST = "not finite"
"""Gate from which on there is a forecast of the newest close."""


@dataclass(frozen=True)
class Replayed(Shown):
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
    refit: Refit = "due",
    progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:
    """The chain made anew at each close from `since` on, its past what it said before, against all bars at once.

    Parameters
    ----------
    bars: Bars frame; at each close the chain sees what had closed and was known by its fill. actions: delistings that
    are known.
    since: the first close that is made by itself; what came before is made at once, or is `past`.
    classes, asked, refit: see `make_chain`. progress: called with the closes that are done and those there are.

    Raises as `make_chain` does.
    """
    filled = bars.with_columns(fill=fill_times(bars)).filter(pl.col("time") >= since)
    filled = filled.group_by("time").agg(pl.col("fill").max()).sort("time")
    moments = filled.select("time", pl.col("fill").cum_max())
    closes = moments["time"].to_list()
    before = past
    said: list[Stages] = []
    for number, (close, fill) in enumerate(moments.iter_rows()):
        known = up_to(bars, np.datetime64(fill.replace(tzinfo=None), "us")).filter(pl.col("time") <= close)
        chain = make_chain(
            experiment, known, actions=actions, past=before, classes=classes, asked=asked, refit=refit, machine=machine
        )  # fmt: skip
        before = chain.past
        said.append(decided_at(chain, close))
        if progress:
            progress(number + 1, len(closes))
    if not said:
        return Replayed(0, None, AT_ONCE)
    batch = make_chain(
        experiment, bars, actions=actions, past=past, classes=classes, asked=asked, refit=refit, machine=machine
    )  # fmt: skip
    whole = since_of(joined(said), since)
    return Replayed(len(closes), first_difference(whole, stages_of(batch, since)), AT_ONCE, whole)


# ── of a store ────────────────────────────────────────────────────────────────────────────────────


@checked
def replay_store(
    store: str | Path, *, last: int = 20, now: datetime | None = None, progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:  # fmt: skip
    """Feeds the newest closes of a store bar by bar through the chain, and compares each with all bars at once.

    Refits are made anew where the journal says that they were made. `last`: closes; fewer where the store has not
    issued so many. Both begin anew where what was known of earlier closes has changed, see `spans`. Raises `StoreError`
    where the store cannot be read or has no model. Nothing is written.
    """
    issued = _issued(Store.open(store, machine=machine), last, now)
    parts = []
    for one in issued.spans:
        newest = np.max([each.until for each in one.past.forecasts.values()]).item().replace(tzinfo=UTC)
        times = one.said.filter(pl.col("time") > newest)["time"].sort()
        if len(times):
            bars = one.bars.filter(pl.col("time") <= times[-1])
            parts.append(
                replay(
                    one.run.experiment.replace(bars=bars), bars, one.actions, since=times[0], past=one.past,
                    asked=one.refits, refit="asked", progress=progress, machine=machine,
                )
            )  # fmt: skip
    different = [one for one in parts if one.difference is not None]
    said = joined([one.said for one in parts if one.closes]) if parts else {}
    return Replayed(sum(one.closes for one in parts), different[0].difference if different else None, AT_ONCE, said)


@checked
def parity(
    store: str | Path, *, last: int = 20, now: datetime | None = None, machine: Machine = ONE_CORE
) -> Replayed:  # fmt: skip
    """Compares what a store issued at its newest closes with a chain over all its bars, refits made anew.

    The journal tells the chain when each refit was made, by which model each record decided and what was there then,
    see `spans`. Raises `StoreError` where the store cannot be read or has no model. Nothing is written.
    """
    opened = Store.open(store, machine=machine)
    issued = _issued(opened, last, now)
    earliest: Difference | None = None
    for one in issued.spans:
        chain = make_chain(
            one.run.experiment.replace(bars=one.bars), one.bars, actions=one.actions, past=one.past,
            refit="asked", asked=one.refits, watch=False, machine=machine,
        )  # fmt: skip
        said = {stage: one.issued(table) for stage, table in issued.said.items()}
        batch = {
            stage: one.made(table, issued.since) for stage, table in stages_of(without_doubtful(one.run, chain)).items()
        }
        batch["bar"] = one.issued(batch["bar"])
        said["size"] = with_book(said["size"], one.held(holdings_by_record(opened, one.before), issued.since))
        for stage in TOLD:  # decisions are issued of the newest close of an update alone
            batch[stage] = batch[stage].join(said[stage], on=KEYS, how="semi")
        for tables in (said, batch):  # nothing is held by a model that is too old
            tables["size"] = tables["size"].join(one.old, on=KEYS, how="anti")
        found = first_difference(said, batch)
        if found is not None and found.stage != "bar" and found.time in issued.records:
            found = corrected_since(found, _bars_by(opened, issued.records[found.time]), one.bars) or found
        if found is not None and (earliest is None or found.time < earliest.time):
            earliest = found
    return Replayed(issued.closes, earliest, ISSUED_ONES, issued.said)


TOLD: tuple[Stage, ...] = ("signal", "strategy")
"""Stages of decisions."""


def _bars_by(store: Store, record: int) -> pl.DataFrame:
    """The bars that were there at a record that issued something."""
    moments = {one.record: one.now for one in store.state.issued} | {one.record: one.now for one in store.state.models}
    moment = moments[record]
    return store.bars.for_chain(datetime.fromisoformat(moment), record=record)


@dataclass(frozen=True)
class _Issued:
    """What a store issued at its newest closes: how many, since when, in which spans, and what was said by stage.

    `records`: close -> the number of the last record that issued it.
    """

    closes: int
    since: datetime
    spans: Sequence[Span]
    said: Stages
    records: Mapping[datetime, int]


def _issued(store: Store, last: int, now: datetime | None) -> _Issued:
    """The newest `last` closes that a store issued once a class's first model was there; 0 where there is none."""
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    experiment = serve(store, refuse_unserved(store)).run.experiment
    pieces = pieces_by_record(store.artefacts, store.state, experiment.horizon)
    issued = compared(store, pieces)
    newest = issued.group_by("time").agg(pl.col("record").max()).sort("time").tail(last)
    if newest.is_empty():
        return _Issued(0, moment, (), {}, {})
    since = newest["time"][0]
    decisions = store.decisions().filter(pl.col("forecast_time") == pl.col("time"))
    decisions = decisions.filter(in_force(decisions)).with_columns(pl.col("signal").cast(pl.Int8))
    gates = [*GATES]
    before_forecast = gates[: gates.index(FIRST_WITH_FORECAST)]
    decisions = decisions.filter(~pl.col("gate").is_in(before_forecast))  # a gate of an earlier version counts
    ordered = in_order([(number, piece) for number, each in pieces.items() for piece in each.values()])
    said = stages_of_issued(ordered, store.bars.first_known(since), decisions, holdings_of(store))
    return _Issued(len(newest), since, spans_of(store, since, moment, pieces), said, dict(newest.iter_rows()))
