"""The morning: what the book of a store may lose, whether it does what was expected, and what somebody must look at.

Nothing is forecast and no model is read: all of it follows from what was issued and from the bars that are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.findings import (
    LEAST_CLOSES,
    Finding,
    concentrated,
    correlation_spike,
    counted,
    cut_by,
    gone,
    heaviest_first,
    in_words,
    of_sizing,
    short_of_target,
    too_coarse,
    too_wide,
    unforecast,
)
from gatecast.files import jsonable
from gatecast.live.blotter import Blotter
from gatecast.live.book import HeldNow, book_now, holdings_of
from gatecast.live.scored import LiveRecord, live_record
from gatecast.market.bars import session_of
from gatecast.market.facts import facts_of
from gatecast.store.parts import Parts
from gatecast.store.schema import Scores
from gatecast.trading.book import past_deviations, sessions_by
from gatecast.trading.covariance import places_of
from gatecast.trading.exposure import Today as Exposure
from gatecast.trading.exposure import contributions, silent_of
from gatecast.trading.risk import LEVELS, filtered, with_proxies
from gatecast.trading.sizing import Finding as Sizing
from gatecast.trading.stress import volatility_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.store.store import Store
    from gatecast.trading.book import Carried, Sessions

    FloatArray = NDArray[np.float64]
    Figures = Mapping[str, Any]

RECENT = timedelta(days=1461)
"""Of the past that tails are made of: four years, some thousand vectors of returns."""
SHOWN = 5e-4
"""Volatility below the target that is not seen in a tenth of a per cent."""
NEWEST = 250
"""Records of decisions that findings of a store are made of, the newest: a year of daily ones."""
OF_RECORD = ("crisis", "cost", "stale", "cliff")
"""Kinds of findings that a record of years shows: those of the refit in force are told."""


@dataclass(frozen=True)
class Risk:
    """What the book of the newest session may lose; shares of the equity.

    `gross`, `net`: of what is held once its trades are filled. `volatility`: of that, a year, by the forecasts, the
    past correlations and the level; `target`: what is aimed at; `reached`: whether it is; `bound`: what cut symbols ->
    how many. `value_at_risk`, `shortfall`: of one session at 97.5 %, by `vectors` past vectors of returns over their
    past deviations (exponential, decay .94) times the deviations forecast now, see `trading.risk.filtered`; None below
    250. `shares`: symbol -> share of the variance. `equity` in `currency`.
    """

    session: str
    gross: float
    net: float
    volatility: float | None
    target: float | None
    reached: bool
    bound: Mapping[str, int]
    value_at_risk: float | None
    shortfall: float | None
    vectors: int
    shares: Mapping[str, float]
    equity: float
    currency: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found: dict[str, Any] = jsonable(dict(vars(self)))
        return found

    @property
    def sentences(self) -> list[str]:
        """The whole in lines.

        >>> risk = Risk("2024-01-05", 0.9, 0.5, 0.08, 0.1, False, {"gross_cap": 3}, -0.012, -0.016, 900, {}, 1e6, "USD")
        >>> print(*risk.sentences, sep="\\n")
        The book after the close of 2024-01-05, 1,000,000 USD: gross 90.0%, net +50.0%, forecast volatility 8.0% a year.
        Expected shortfall of one session at 97.5 %: 1.6% of the equity.
        The target of 10.0% is not reached: gross_cap limits 3.
        """
        book = f"The book after the close of {self.session}, {self.equity:,.0f} {self.currency}"
        if self.gross == 0:
            return [f"{book}: nothing is held.{self._missed}"]
        volatility = "unknown" if self.volatility is None else f"{self.volatility:.1%} a year"
        loss = (
            f"not known, of {self.vectors} past sessions with a return of all that is held 250 are needed"
            if self.shortfall is None else f"{-self.shortfall:.1%} of the equity"
        )  # fmt: skip
        first = [
            f"{book}: gross {self.gross:.1%}, net {self.net:+.1%}, forecast volatility {volatility}.",
            f"Expected shortfall of one session at 97.5 %: {loss}.",
        ]
        return [*first, *(one for one in [self._reached or self._missed.strip()] if one)]

    @property
    def _cut(self) -> str:
        return ", ".join(f"{name} limits {count}" for name, count in self.bound.items())

    @property
    def _reached(self) -> str:
        if not (self.target and self.reached):
            return ""
        if self.volatility is None or self.volatility >= self.target - SHOWN:
            return f"The target of {self.target:.1%} is reached."
        short = f"What is held has {self.volatility:.1%} of the {self.target:.1%} aimed at, which is within the band"
        return f"{short}: {self._cut}." if self._cut else f"{short}."

    @property
    def _missed(self) -> str:
        if self.target is None:
            return ""
        cut = self._cut
        return f" The target of {self.target:.1%} is not reached: {cut or 'forecasts or bands keep it lower'}."


@dataclass(frozen=True)
class Morning:
    """See `morning`. `findings`: see `evaluation.findings.Finding.to_dict`; of those of the record up to the refit in
    force `until` is its cutoff. `breaks`: account, symbol, units `expected` and `found`, of positions that are not what
    was expected and that nobody has explained. `closes`: of the book on record, of which findings are made.
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
            f"break: {one['account']}: {one['symbol']} should be {one['expected']:,.6g} units and is "
            f"{one['found']:,.6g}. Explain it with `gatecast reconcile` before new orders."
            for one in self.breaks
        ]
        return [*self.record.sentences, *(said or [self._none]), *breaks]

    @property
    def _none(self) -> str:
        """What stands in place of findings."""
        if self.closes >= LEAST_CLOSES:
            return "No findings."
        return f"No findings yet: most take {LEAST_CLOSES} closes of the book, {self.closes} on record."


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
    return list(told.findings) if told else list(_of_record(store, _scores(store)))


def morning(store: Store, held: HeldNow | None, now: datetime) -> Morning | None:
    """What is to be looked at before somebody trades; None of a store without a book, or without bars known by then.

    `held`: see `book.book_now`. `now`: the moment up to which bars count. Raises `StoreError` where the store cannot be
    read.
    """
    newest = next((one for one in reversed(store.state.issued) if one.book and one.carried), None)
    if held is None or newest is None:
        return None
    told = _figures(store)
    bars = store.bars.for_chain(now)
    if bars.is_empty() or session_of(bars["time"].min()) > date.fromisoformat(held.session[:10]):  # type: ignore[arg-type]
        return None
    recent = bars.filter(pl.col("time") > bars["time"].max() - RECENT)  # type: ignore[operator]
    facts, book = facts_of(recent, store.actions), store.experiment.book
    book = book.replace(size=book.size.replace(lots={}))  # may name symbols without a recent bar; not read here
    sessions, carried = sessions_by(facts, book), store.carried_of(str(newest.carried))
    exposed = _exposed(sessions, carried, held)
    risk = _risk(exposed, held, carried)
    scores = _scores(store)
    verdict = (scores.get("verdicts") or {}).get("volatility") or {}
    ended = {name: one.state for name, one in facts.symbols_ended.items()}
    holdings = holdings_of(store, last=NEWEST)
    found = [
        *_of_holdings(holdings, carried),
        *gone({name: float(row["held"]) for name, row in held.rows.items()}, ended, silent_of(exposed)),
        *concentrated(risk.shares),
        *_of_figures(told, holdings),
    ]
    every = [*(one.to_dict() for one in heaviest_first(found)), *_of_record(store, scores)]
    breaks = [{"account": account, **one.to_dict()} for account, one in Blotter(store).unexplained]
    return Morning(risk, live_record(store, bars, verdict, told), every, breaks, len(told))


# ── what the book may lose ────────────────────────────────────────────────────────────────────────


def _exposed(sessions: Sessions, carried: Carried, held: HeldNow) -> Exposure:
    """The book at its newest session, with the past that says what it may lose."""
    sessions = sessions.until(sum(day <= carried.day for day in sessions.days))
    line, names = carried.line, sessions.names
    at = places_of(names, line.names)
    ahead = np.where(at >= 0, line.deviation[at], np.nan)
    covariance = np.full((len(names), len(names)), np.nan)
    if line.covariance is not None:
        there = np.flatnonzero(at >= 0)
        covariance[np.ix_(there, there)] = line.covariance[np.ix_(at[there], at[there])]
    deviations = past_deviations(sessions.returns)
    deviations[-1] = ahead
    weights = np.array([float(held.rows.get(name, {}).get("held") or 0.0) for name in names])
    return Exposure(
        names, sessions.classes, sessions.days, weights, line.equity, np.full(len(names), np.nan), sessions.per_year,
        sessions.returns, deviations, covariance,
    )  # fmt: skip


def _risk(exposed: Exposure, held: HeldNow, carried: Carried) -> Risk:
    weights = exposed.weights
    own, residuals = weights != 0, exposed.residuals
    wide, moves = with_proxies(residuals, exposed.classes), with_proxies(exposed.returns, exposed.classes)
    tail = filtered(moves, wide, exposed.deviations[-1], weights, LEVELS[0]) if own.any() else (0.0, 0.0)
    known = bool(np.isfinite(exposed.covariance[np.ix_(own, own)]).all())
    cut = Counter(cut_by(row["gate"]) for row in held.rows.values() if row.get("gate"))
    shares = {row["symbol"]: row["share"] for row in contributions(exposed, residuals)} if known and own.any() else {}
    return Risk(
        held.session, float(np.abs(weights).sum()), float(weights.sum()),
        carried.line.sizing.level * volatility_of(weights, exposed.covariance_of_year) if known else None,
        held.figures.get("target_volatility"), bool(held.figures.get("reached")),
        dict(sorted(cut.items(), key=lambda one: (-one[1], one[0]))), *_known(*tail),
        vectors=int(np.isfinite(wide[:, own]).all(axis=1).sum()), shares=shares,
        equity=float(held.figures.get("equity") or 0.0), currency=str(held.figures.get("currency") or ""),
    )  # fmt: skip


def _known(value_at_risk: float, shortfall: float) -> tuple[float | None, float | None]:
    return (value_at_risk, shortfall) if np.isfinite(shortfall) else (None, None)


# ── findings ──────────────────────────────────────────────────────────────────────────────────────


def _figures(store: Store) -> list[Figures]:
    """What the newest records say of the book, one a session, in order; of one decided again the newest."""
    said = [one for one in store.state.issued if one.book][-NEWEST:]
    if not said:
        return []
    numbers = {one.record for one in said}
    bodies = [one.body["book"] for one in store.journal.records(since=said[0].record) if one.number in numbers]
    return [one for _, one in sorted({str(one["session"]): one for one in bodies}.items())]


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
    return [*too_coarse(holdings), *too_wide(holdings), *unforecast(names, there, told, share)]


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


def _scores(store: Store) -> dict[str, Any]:
    """The scores of the refit in force; nothing without one, or where its files were removed."""
    model = store.state.model(store.state.serving)
    if model is None or not store.artefacts.has(part := model.parts["scores.json"]):
        return {}
    return Parts.of_content(store.folder, {"scores.json": store.artefacts.get(part)}).json("scores.json", Scores)


def _of_record(store: Store, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Findings of the record up to the refit in force, each with its cutoff as `until`."""
    model = store.state.model(store.state.serving)
    until = max(model.cutoffs.values(), default="")[:10] if model else ""
    return [{**one, "until": until} for one in scores.get("findings") or [] if one["kind"] in OF_RECORD]
