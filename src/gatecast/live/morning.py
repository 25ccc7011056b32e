"""The morning: what the book of a store may lose, whether it does what was expected, and what somebody must look at.

Nothing is forecast and no model is read: all of it follows from what was issued and from the bars that are there.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.findings import (
    LEAST_CLOSES,
    Finding,
    concentrated,
    correlation_spike,
    counted,
    gone,
    heaviest_first,
    in_words,
    of_sizing,
    short_of_target,
    too_coarse,
    too_thin,
    too_wide,
    unforecast,
)
from gatecast.live.blotter import Blotter
from gatecast.live.book import HeldNow, book_now, holdings_of
from gatecast.live.exposure import Risk, exposed_by, recent_of, risk_of
from gatecast.live.kept import scores_in_force
from gatecast.live.scored import LiveRecord, live_record
from gatecast.market.bars import session_of
from gatecast.market.facts import facts_of
from gatecast.trading.cuts import cut_by
from gatecast.trading.exposure import silent_of
from gatecast.trading.sizing import Finding as Sizing

if TYPE_CHECKING:
    from gatecast.store.store import Store
    from gatecast.trading.book import Carried

    Figures = Mapping[str, Any]

NEWEST = 250
"""Records of decisions that findings of a store are made of, the newest: a year of daily ones."""
OF_RECORD = ("crisis", "cost", "stale", "cliff")
"""Kinds of findings that a record of years shows: those of the refit in force are told."""


@dataclass(frozen=True)
class Morning:
    """See `morning`. `findings`: see `evaluation.findings.Finding.to_dict`; of those of the record up to the refit in
    force `until` is its cutoff. `breaks`: account, symbol, units `expected` and `found`, and a `sentence`, of positions
    that are not what was expected and that nobody has explained. `closes`: of the book on record, of which findings are
    made.
    """

    risk: Risk
    record: LiveRecord
    findings: Sequence[Mapping[str, Any]] = ()
    breaks: Sequence[Mapping[str, Any]] = ()
    closes: int = LEAST_CLOSES

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "risk": self.risk.to_dict(), "record": self.record.to_dict(), "findings": list(self.findings),
            "breaks": list(self.breaks), "closes": self.closes,
        }  # fmt: skip

    @property
    def sentences(self) -> list[str]:
        """The live record, findings and breaks in words."""
        said = [f"finding: {dated_in_words(one)}" for one in self.findings]
        breaks = [
            f"break: {one['sentence']} Explain it with `gatecast reconcile` before new orders." for one in self.breaks
        ]
        return [*self.record.sentences, *(said or [self._none]), *breaks]

    @property
    def _none(self) -> str:
        """What stands in place of findings."""
        if self.closes >= LEAST_CLOSES:
            return "No findings."
        return f"No findings yet: most need {LEAST_CLOSES} closes of the book; it has {self.closes} so far."


def dated_in_words(finding: Mapping[str, Any]) -> str:
    """A finding of a morning in a line; of one of the record, up to which refit.

    >>> cost = Finding("cost", "book", 0.5, "gross profit", 900, "sessions", "Costs took half.").to_dict()
    >>> dated_in_words({**cost, "until": "2024-01-05"})[:51]
    'Up to the refit of 2024-01-05: Costs took half. (50'
    """
    return (f"Up to the refit of {finding['until']}: " if "until" in finding else "") + in_words(finding)


def findings_of(store: Store, now: datetime) -> list[Mapping[str, Any]]:
    """The findings of a store as `morning` has them; of one without a book those of the record alone."""
    told = morning(store, book_now(store), now)
    return list(told.findings) if told else list(_of_record(store, scores_in_force(store)))


def morning(store: Store, held: HeldNow | None, now: datetime) -> Morning | None:
    """What is to be looked at before somebody trades; None of a store without a book, or without bars known by then.

    `held`: see `book.book_now`. `now`: the moment up to which bars count. Raises `StoreError` where the store cannot be
    read.
    """
    newest = next((one for one in reversed(store.state.issued) if one.book and one.carried), None)
    if held is None or newest is None:
        return None
    told = sessions_of_book(store, NEWEST)
    bars = store.bars.for_chain(now)
    if bars.is_empty() or session_of(bars["time"].min()) > date.fromisoformat(held.session[:10]):  # type: ignore[arg-type]
        return None
    facts, carried = facts_of(recent_of(bars), store.actions), store.carried_of(str(newest.carried))
    exposed = exposed_by(facts, store.experiment.book, carried, held)
    risk = risk_of(exposed, held, carried)
    scores = scores_in_force(store)
    verdict = (scores.get("verdicts") or {}).get("volatility") or {}
    ended = {name: one.state for name, one in facts.symbols_ended.items()}
    holdings = holdings_of(store, last=NEWEST)
    found = [
        *_of_holdings(holdings, carried),
        *gone({name: float(row["held"]) for name, row in held.rows.items()}, ended, silent_of(exposed)),
        *concentrated(risk.shares),
        *_of_figures(told, holdings),
    ]
    folder = shlex.quote(str(store.folder))
    every = [*(one.to_dict() for one in heaviest_first(found)), *_of_record(store, scores)]
    every = [{**one, "advice": str(one["advice"]).replace("STORE", folder)} for one in every]
    breaks = [
        {"account": account, **one.to_dict(), "sentence": one.sentence_of(account)}
        for account, one in Blotter(store).unexplained
    ]
    return Morning(risk, live_record(store, bars, verdict, told), every, breaks, len(told))


# ── findings ──────────────────────────────────────────────────────────────────────────────────────


def sessions_of_book(store: Store, last: int = 0) -> list[Figures]:
    """What the `last` records (0: all) say of the book, one a session, in order; of one decided again the newest.

    `spans`: of a row of an earlier version that is of several sessions at once, how many; the variance that was
    expected of it is then that of so many.
    """
    said = {one.record: str(one.book) for one in store.state.issued if one.book}
    said = dict(list(said.items())[-last:])
    if not said:
        return []
    bodies = [(one.number, one.body["book"]) for one in store.journal.records(since=min(said)) if one.number in said]
    rows: list[Figures] = []
    for number, body in bodies:
        before = body.get("caught_up")
        rows += [_at_once(store, said[number], body)] if before is None else [*before, body]
    return [one for _, one in sorted({str(one["session"]): one for one in rows}.items())]


def _at_once(store: Store, holdings: str, body: Figures) -> Figures:
    """What a record of an earlier version says of the sessions that it decided, of all but the last without a bar."""
    bars = store.holdings_of(holdings).group_by("session").agg(pl.col("time").is_not_null().any()).sort("session")
    spans = len(bars) - int(bars["time"][:-1].sum())
    expected = body.get("expected")
    return {**body, "spans": spans, "expected": expected and expected * spans} if spans > 1 else body


def _of_holdings(holdings: pl.DataFrame, carried: Carried) -> list[Finding]:
    """Findings of the table of holdings: lots, bands, and symbols of the core without a forecast."""
    core = {name for name, weight in zip(carried.core.names, carried.core.weights.tolist(), strict=True) if weight}
    days = {day: place for place, day in enumerate(holdings["session"].unique().sort())}
    names = sorted(core & set(holdings["symbol"]))
    places = {name: place for place, name in enumerate(names)}
    share, there = np.zeros((len(days), len(names))), np.zeros((len(days), len(names)), np.bool_)
    own = holdings.filter(pl.col("symbol").is_in(names))
    at = [days[day] for day in own["session"]], [places[name] for name in own["symbol"]]
    share[at], there[at] = own["share"].to_numpy(), own["time"].is_not_null().to_numpy()
    told = np.where(share != 0, 1.0, np.nan)  # without a forecast a symbol has no share of the core
    return [*too_coarse(holdings), *too_thin(holdings), *too_wide(holdings), *unforecast(names, there, told, share)]


def _of_figures(told: Sequence[Figures], holdings: pl.DataFrame) -> list[Finding]:
    """Findings of what records say of the book, see `store.schema.BookOfRecord`."""
    if not told:
        return []
    newest, target = told[-1], float(told[-1].get("target_volatility") or np.nan)
    missed = {date.fromisoformat(str(one["session"])[:10]) for one in told if not one.get("reached")}
    gates = holdings.filter((pl.col("gate") != "") & pl.col("session").is_in(sorted(missed)))
    caps = gates.group_by("gate").agg(pl.col("session").n_unique()).sort("session", "gate", descending=[True, False])
    sizing = [[Sizing(*pair) for pair in zip(one.get("kinds", ()), one["findings"], strict=False)] for one in told]
    spiked = newest.get("spiked")
    return [
        *short_of_target(
            [bool(one.get("reached")) for one in told], [float(one.get("volatility") or 0.0) for one in told], target,
            {cut_by(str(gate)): int(count) for gate, count in caps.iter_rows()},
        ),
        *correlation_spike(float(np.nan if spiked is None else spiked), target),
        *of_sizing(counted(sizing), len(told)),
    ]  # fmt: skip


def _of_record(store: Store, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Findings of the record up to the refit in force, each with its cutoff as `until`."""
    model = store.state.model(store.state.serving)
    until = max(model.cutoffs.values(), default="")[:10] if model else ""
    return [{**one, "until": until} for one in scores.get("findings") or [] if one["kind"] in OF_RECORD]
