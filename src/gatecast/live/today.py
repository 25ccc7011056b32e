"""What to hold today, and why it is not what was held yesterday: `gatecast today`.

Each cause is measured by making decisions again with one thing as it was: the model before on today's bars (the rest
of the change is the refit's, or the rollback's), the new model with the settings before (the rest is that of the
settings). Where nothing is held as the model is too old, the decision is made again as if it were not, and the rest is
due to its age. Where a gate closes before there is a forecast, the change is the gate's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.arguments import checked
from gatecast.chain import make_chain
from gatecast.live.blotter import Blotter
from gatecast.live.book import HeldNow, book_now, change_in_words, course_of, models_of_book, of_symbol, why_changed
from gatecast.live.gates import DOUBTFUL_BAR, WITHOUT_FORECAST, decided_soon_after, say_gate
from gatecast.live.issuing import with_awaited_of
from gatecast.live.kept import alarms_said, first_decision, serve
from gatecast.live.morning import Morning, morning
from gatecast.live.newest import OLD_MODEL
from gatecast.live.retrain import due_in_words, newest_of
from gatecast.live.shown import decided
from gatecast.live.spans import AWAITED
from gatecast.live.stages import superseded
from gatecast.market.calendar import OLDEST_SESSIONS
from gatecast.market.merging import names_of
from gatecast.market.reading import as_utc
from gatecast.market.sessions import feed_age
from gatecast.notebook import Shown, html
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.store.state import Model

    Rows = Mapping[str, Mapping[str, Any]]
    Parts = Mapping[str, float]

UNCHANGED = "the strategies' weight is unchanged."
"""Why a position is what it was."""
WAITS = (DOUBTFUL_BAR, "no bar", "no trade", "late")
"""Gates of a symbol that has no price of the newest session to trade at: what is held of it stays."""
SHOWN = 5e-4
"""Change of a weight that is worth a word."""
MUCH = 0.05
"""Change of a weight by which one decision takes the place of another, as long as the gate is the same."""
SAME = 1e-12
"""Weights that differ by no more are the same."""
NEEDED = ("asset_class", "strategy", "gate")
"""Texts that each decision has."""
CAUSES = {
    "data": "new bars", "refit": "the refit", "rollback": "the rollback", "threshold": "other settings",
    "age": "the model's age", "gate": "no forecast", "model": "new bars and the other model together",
}  # fmt: skip
"""Cause of a change -> how it is called. `model`: the model before was pruned, so that the two cannot be told apart."""


@dataclass(frozen=True)
class Today(Shown):
    """A row a symbol: its newest decision, the one before, and what changed the position. `undecided`: symbols without.
    `behind`: in words, symbols whose newest decision is of an older session than their calendar has; `stale`: sessions
    that the least of them is behind, where all are; else 0; `out_of_date`: how far they are behind, in words, where all
    are. `due`: refits that are due and were not made, in words.

    `book`: what the book holds, `morning`: what it may lose and what is to be looked at; None without one. `halts`,
    `restricted`: what orders are not made of, see `blotter.Blotter.halted` and `restricted`. `superseded`: a sentence
    on each exported file that is out of date, see `stages.superseded`. `titles`: strategy -> title. `lost`: that
    records of the journal were lost, see `Store.lost`.

    `rows`: the columns of the newest decision, and what the book holds
    of the symbol (see `book.of_symbol`), `held_before`, `held_because` (see `book.why_changed`), `held_by`: cause ->
    its part of the same change, where another model decided, `held_why` in words;
    `before` (weight, book, signal, strategy, gate and time of the newest one of a close at which the symbol could be
    traded, None where there is none), `change` of the weight (None where it cannot be traded now), and `because`: cause
    (see `CAUSES`) -> its part of the change; `replaced`: what another model had decided at the same close, None where
    none had; `risk_share`: of the variance of the book; `why` in words. `alarms`: of drift that are on, see
    `forecasting.drift.Alarm`.
    """

    store: Path
    now: datetime
    model: int | None
    rows: Sequence[Mapping[str, Any]]
    alarms: Sequence[Mapping[str, Any]] = ()
    undecided: Sequence[str] = ()
    behind: str = ""
    stale: int = 0
    out_of_date: str = ""
    due: str = ""
    book: HeldNow | None = None
    morning: Morning | None = None
    halts: Sequence[Mapping[str, Any]] = ()
    restricted: Sequence[Mapping[str, Any]] = ()
    lost: str = ""
    superseded: Sequence[str] = ()
    titles: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def reasons(self) -> list[str]:
        """A line a symbol: why the book and the strategies hold what they do."""
        found = []
        for row in self.rows:
            held, why = row.get("held_why") or "", row["why"]
            told = held if why == UNCHANGED else f"{held} {why[:1].upper()}{why[1:]}" if held else why
            found.append(f"{row['symbol']}: {told or why}")
        return found

    def _repr_html_(self) -> str:
        """As `gatecast today` shows it."""
        told, stopped = self.morning, [*self.halts, *self.restricted]
        said = [
            self.lost, self.behind, *(told.risk.sentences if told else ()), *self.reasons,
            *(told.sentences if told else ()), *(f"halt: {one['sentence']}" for one in stopped), *self.superseded,
            self.due, *(f"alarm since {one['time'][:10]}: {one['sentence']}" for one in self.alarms),
        ]  # fmt: skip
        return html(type(self).__name__, "\n".join(filter(None, said)), {"": decided(self.rows, self.titles)})

    def __str__(self) -> str:
        told = [f"{row['symbol']}: {row['why']}" for row in self.rows] or [first_decision(self.store, self.model)]
        return "\n".join([*([self.sentence] if self.sentence else []), *told])

    __repr__ = __str__

    @property
    def sentence(self) -> str:
        """See `said_first`."""
        return said_first({"lost": self.lost, "behind": self.behind})

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "model": self.model, "decisions": list(self.rows),
            "alarms": list(self.alarms), "undecided": list(self.undecided),
            "behind": self.behind, "stale": self.stale, "out_of_date": self.out_of_date, "due": self.due,
            "book": self.book.to_dict() if self.book else None,
            "halts": list(self.halts), "restricted": list(self.restricted), "superseded": list(self.superseded),
            "lost": self.lost,
            **(self.morning.to_dict() if self.morning else {}),
        }  # fmt: skip


def said_first(told: Mapping[str, Any]) -> str:
    """What is said before all of `Today.to_dict`: that records were lost, that it is not of today; "" mostly."""
    return " ".join(told[name] for name in ("lost", "behind") if told[name])


@checked
def today(store: str | Path, *, now: datetime | None = None) -> Today:
    """The newest decision of every symbol beside the one before, and why the position changed.

    `now`: the moment as of which the store is read (default: its newest record, with bars up to the clock). Nothing is
    written. Raises `StoreError` where the
    store cannot be read.
    """
    moment = None if now is None else as_utc(now, "now")
    return today_of(Store.open(store).as_of(moment), moment or datetime.now(UTC))


def today_of(opened: Store, moment: datetime) -> Today:
    """As `today`, of a store that is open, after the newest record that it has read."""
    said, blotter = _Said.of(opened), Blotter(opened)
    if not said.newest:
        return Today(
            opened.folder, moment, opened.state.serving, [], halts=blotter.halted, restricted=blotter.restricted,
            lost=opened.lost,
        )  # fmt: skip
    again = _Again(opened, said.newest, moment)
    causes, book = _causes(again, said), said.of_book(book_now(opened))
    held_by, told = _held_by(again, book), morning(opened, book, moment)
    shares = told.risk.shares if told else {}
    serving = opened.state.serving
    rows = [
        {
            **said.row(symbol, causes.get(symbol, {}), book, serving),
            **_of_book(book, symbol, held_by.get(symbol, {})), "risk_share": shares.get(symbol),
        }
        for symbol in sorted(said.newest)
    ]  # fmt: skip
    due = due_in_words(opened, opened.bars.for_chain(moment))
    undecided = sorted(opened.state.symbols.keys() - said.newest.keys())
    return Today(
        opened.folder, moment, serving, rows, alarms_said(opened), undecided,
        *_behind(opened, said.newest, moment), due, book, told, blotter.halted, blotter.restricted, opened.lost,
        superseded(opened, moment), opened.experiment.strategy_titles,
    )  # fmt: skip


def sessions_behind(least: int, most: int) -> str:
    """How far decisions are behind, of which the newest and the oldest are so many sessions behind, in words.

    >>> sessions_behind(2, 2), sessions_behind(2, 1_003)
    ('2 sessions behind', '2 to 1,003 sessions behind')
    """
    return f"{f'{least:,} to ' * (least < most)}{most:,} sessions behind"


def _behind(store: Store, newest: Rows, now: datetime) -> tuple[str, int, str]:
    """A sentence on symbols whose newest decision is more than a session behind their calendar, "" without any; and
    `Today.stale` and `Today.out_of_date`."""
    closes = pl.DataFrame(
        [{"symbol": symbol, "asset_class": row["asset_class"], "time": row["time"]} for symbol, row in newest.items()],
        schema={"symbol": pl.String, "asset_class": pl.String, "time": pl.Datetime("us", "UTC")},
    )
    if now < closes["time"].max():  # type: ignore[operator]
        return "", 0, ""
    ages = feed_age(closes.sort("symbol"), now, store.state.calendars)
    ages = ages.filter(~pl.col("symbol").is_in(list(store.state.waiting)))
    late = ages.filter(pl.col("sessions_behind") > 1)
    if late.is_empty():
        return "", 0, ""
    counts = late["sessions_behind"].to_numpy()
    least, most = int(counts.min()), int(counts.max())
    every = late.height == ages.height
    said = (
        f"{'What' if every else 'Not all that'} stands here is{' not' * every} of today: the newest decision of "
        f"{names_of(late['symbol'].to_list())} is {sessions_behind(least, most)} the calendar. "
        "Bring the bars since with `gatecast update`."
    )
    return said, least * every, sessions_behind(least, most) * every


@dataclass(frozen=True)
class _Said:
    """Symbol -> its newest decision; that of the newest close before at which it could be traded; and what another
    model had decided at the newest close before that decision was made again. Each with the number of its `model`."""

    newest: Rows
    before: Rows
    replaced: Rows

    @classmethod
    def of(cls, store: Store) -> _Said:
        """From the latest records of a store."""
        newest: dict[str, dict[str, Any]] = {}
        before: dict[str, dict[str, Any]] = {}
        replaced: dict[str, dict[str, Any]] = {}
        known = len(store.state.symbols)
        for one in reversed(store.state.issued):
            for row in store.decisions_of(one.decisions, NEEDED).iter_rows(named=True):
                symbol, row = row["symbol"], {**row, "model": one.model}
                last = newest.setdefault(symbol, row)
                if row["time"] == last["time"] and row["model"] != last["model"]:
                    replaced.setdefault(symbol, row)
                if row["time"] < last["time"] and row["gate"] not in WAITS:
                    before.setdefault(symbol, row)
            if len(newest) >= known and len(before) >= known:
                break
        return cls(newest, before, replaced)

    def of_book(self, book: HeldNow | None) -> HeldNow | None:
        """What the book holds, with the symbols whose newest decision has no forecast."""
        without = {symbol for symbol, row in self.newest.items() if row["gate"] in WITHOUT_FORECAST}
        return book and replace(book, unforecast=without)

    def row(self, symbol: str, causes: Parts, book: HeldNow | None, serving: int | None) -> dict[str, Any]:
        """The newest decision of a symbol beside the one before, and why it changed. `serving`: the model in force."""
        row, before, replaced = (one.get(symbol) for one in (self.newest, self.before, self.replaced))
        assert row is not None
        kept = ("time", "weight", "book", "signal", "strategy", "gate", "model")
        was, other = (one and {name: one.get(name) for name in kept} for one in (before, replaced))
        stays, other_model = _stays(book, symbol), _of_other_model(row["model"], serving)
        why = " ".join(filter(None, [_in_words(row, before, causes, stays), _instead_of(row, replaced), other_model]))
        return {
            **row, "before": was, "replaced": other, "change": _change(row, before), "because": dict(causes),
            "why": why, "gate_sentence": say_gate(row["gate"]),
        }  # fmt: skip


def _change(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> float | None:
    """Of the weight; None where there is nothing to compare, or no price of the newest session to trade at."""
    return None if before is None or row["gate"] in WAITS else _weight(row) - _weight(before)


# ── causes, each measured ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Remade:
    """Decisions that were made again: symbol -> its row, and the share of the book that it would have."""

    rows: Rows
    held: Mapping[str, float]


class _Again:
    """Makes the decisions of the newest closes again, by the fits of one model and the settings of another."""

    def __init__(self, store: Store, newest: Rows, now: datetime) -> None:
        self.store, self.now = store, now
        self.closes: dict[str, datetime] = {}
        for row in newest.values():
            name, time = row["asset_class"], row["time"]
            self.closes[name] = max(self.closes.get(name, time), time)
        self._made: dict[tuple[int, int], _Remade] = {}

    def can(self, number: int | None) -> bool:
        """Whether a model is there with all its files."""
        model = self.store.state.model(number)
        return model is not None and all(map(self.store.artefacts.has, model.parts.values()))

    def by(self, fits: int, settings: int) -> _Remade:
        """What the store would have said; whatever was issued at these closes."""
        if (fits, settings) not in self._made:
            self._made[fits, settings] = self.made(self.closes, fits, settings)
        return self._made[fits, settings]

    def made(self, closes: Mapping[str, datetime], fits: int, settings: int) -> _Remade:
        """The same of the newest rows up to these closes."""
        store = self.store
        bars = store.bars.for_chain(self.now).filter(pl.col("time") <= max(closes.values()))
        served, other = (serve(store, self._model(number), before=closes) for number in (fits, settings))
        bars, awaited = with_awaited_of(other.run.experiment, bars, store.actions, store.state.calendars)
        experiment = other.run.experiment.replace(bars=bars)
        served = replace(served, run=replace(served.run, experiment=experiment))
        chain = make_chain(experiment, bars, actions=store.actions, past=served.past, refit="never", watch=False)
        held = course_of(served.past.carried(), chain, again=True).holdings
        newest = held.filter(pl.col("session") == pl.col("session").max())
        return _Remade(newest_of(served, chain, awaited), dict(newest.select("symbol", "held").iter_rows()))

    def same_settings(self, old: int, new: int) -> bool:
        """Whether two models have the same settings, but for the bars."""
        ours, theirs = (serve(self.store, self._model(number)).run.experiment for number in (old, new))
        return bool(ours == theirs.replace(bars=ours.bars))

    def steps(self, old: int, new: int) -> tuple[_Remade, _Remade]:
        """The model before on today's bars, and the new one with the settings of before."""
        return self.by(old, old), self.by(new, old)

    def named(self, old: int, new: int, parts: Sequence[float]) -> dict[str, float]:
        """Parts of a change (bars, fits, the rest) -> cause -> part; the rest is the settings' where they differ."""
        bars, fits, rest = parts
        named = {"data": bars, "rollback" if new < old else "refit": fits}
        named["data" if self.same_settings(old, new) else "threshold"] = rest
        if "threshold" not in named:
            named["data"] = bars + rest
        return {name: part for name, part in named.items() if abs(part) > SAME}

    def _model(self, number: int) -> Model:
        found = self.store.state.model(number)
        assert found is not None
        return found


def _causes(again: _Again, said: _Said) -> dict[str, dict[str, float]]:
    """Symbol -> cause -> its part of the change of the weight, of those whose weight changed."""
    found: dict[str, dict[str, float]] = {}
    for symbol, row in said.newest.items():
        before = said.before.get(symbol)
        change = _change(row, before) or 0.0
        if before is None or abs(change) <= SAME:
            continue
        old, new = before["model"], row["model"]
        if {row["gate"], before["gate"]} & {*WITHOUT_FORECAST} - {OLD_MODEL}:
            found[symbol] = {"gate": change}
        elif old != new and not (again.can(old) and again.can(new)):
            found[symbol] = {"model": change}
        else:
            found[symbol] = _parts(again, row, before)
    return found


def _parts(again: _Again, row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, float]:
    """Cause -> its part of the change of a symbol's weight between two decisions."""
    symbol, old, new = row["symbol"], before["model"], row["model"]
    was, now_is = _ageless(again, before), _ageless(again, row)
    age = _weight(row) - now_is + was - _weight(before)
    aged = {"age": age} if abs(age) > SAME else {}
    if old == new:
        return {"data": now_is - was, **aged} if abs(now_is - was) > SAME else aged
    bars, fits = (_weight(one.rows.get(symbol, {})) for one in again.steps(old, new))
    parts = [later - earlier for earlier, later in pairwise((was, bars, fits, now_is))]
    return {**again.named(old, new, parts), **aged}


def _ageless(again: _Again, row: Mapping[str, Any]) -> float:
    """The weight of a decision; of one that the model's age decided that which it would have if it were young."""
    if row["gate"] != OLD_MODEL or not again.can(row["model"]):
        return _weight(row)
    made = again.made({row["asset_class"]: row["time"]}, row["model"], row["model"])
    return _weight(made.rows.get(row["symbol"], {}))


def _held_by(again: _Again, book: HeldNow | None) -> dict[str, dict[str, float]]:
    """Symbol -> cause -> its part of the change of what the book holds, where another model decided than before."""
    old, new = models_of_book(again.store)
    if book is None or old is None or new is None or old == new or not (again.can(old) and again.can(new)):
        return {}
    found = {}
    for symbol, row in book.rows.items():
        held = [again_held.held.get(symbol, 0.0) for again_held in again.steps(old, new)]
        steps = (float(book.before.get(symbol, {}).get("held") or 0.0), *held, float(row["held"]))
        found[symbol] = again.named(old, new, [later - earlier for earlier, later in pairwise(steps)])
    return found


def _weight(row: Mapping[str, Any]) -> float:
    return float(row.get("weight") or 0.0)


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def _of_book(book: HeldNow | None, symbol: str, held_by: Parts) -> dict[str, Any]:
    """What the book holds of a symbol, what it held the session before, and why that is not the same."""
    if book is None:
        return of_symbol(None, symbol)
    before = book.before.get(symbol, {}).get("held")
    others = [f"{CAUSES[name]} {part:+.1%}" for name, part in held_by.items() if abs(part) >= SHOWN and name != "data"]
    why = change_in_words(book, symbol) + (f" Of this, {', '.join(others)}." if others else "")
    return {
        **of_symbol(book, symbol), "held_before": before, "held_because": why_changed(book, symbol),
        "held_by": dict(held_by), "held_why": why,
    }  # fmt: skip


def _stays(book: HeldNow | None, symbol: str) -> str:
    """What is said of a holding that cannot be traded; "" where a book holds nothing of the symbol."""
    there = book is None or (book.rows.get(symbol) or {}).get("held")
    return " What is held stays: it cannot be traded on." if there else ""


WHY_UNDECIDED = (
    "the model was made after the fill of the newest bar, or does not know the symbol yet; a symbol is decided on at "
    "its next bar, by an update between its close and its fill"
)
"""Why symbols have no decision, and when they will."""


def _in_words(row: Mapping[str, Any], before: Mapping[str, Any] | None, causes: Parts, stays: str) -> str:
    """Why the position is what it is beside the one before; of a bar that waits `reason` says how it is resolved.

    `stays`: see `_stays`.
    """
    gate, weight = say_gate(row["gate"]), _weight(row)
    if row["gate"] == "no forecast" and AWAITED in str(row.get("flags") or "").split(", "):
        gate = f"a bar that it lacks may still come, which is awaited for {OLDEST_SESSIONS} sessions"
    if row["gate"] == DOUBTFUL_BAR:
        return f"waits: its newest bar looks like a split (`gatecast actions list`).{stays}"
    if row["gate"] == "late":
        return f"no decision: {gate.partition(';')[0]}. {decided_soon_after(row['time'])}{stays}"
    if row["gate"] in WAITS:
        return f"no decision: {gate}.{stays}"
    if row["gate"] in WITHOUT_FORECAST:
        was = "" if before is None or abs(_weight(before)) < SHOWN else f", {_weight(before):+.3f} before"
        aged = ", ".join(f"{CAUSES[name]} {part:+.3f}" for name, part in causes.items() if row["gate"] == OLD_MODEL)
        return f"no decision: {gate}. The strategies have no position{was}{f': {aged}' if aged else ''}."
    if before is None:
        return "the first decision."
    if before["gate"] in WITHOUT_FORECAST and before["gate"] != OLD_MODEL:
        return f"the strategies' weight is {weight:+.3f} after a close without a forecast."
    switch = "" if row["strategy"] == before["strategy"] else f" The strategy is {row['strategy']} now."
    if abs(weight - _weight(before)) < SHOWN:
        if row["gate"] != before["gate"]:
            return f"the strategies still have no position: {gate}."
        return f"unchanged in weight.{switch}" if switch else UNCHANGED
    parts = ", ".join(f"{CAUSES[name]} {part:+.3f}" for name, part in causes.items() if abs(part) >= SHOWN)
    closed = "" if weight or row["gate"] == "signal" else f" Now {gate}."
    return f"the strategies' weight goes from {_weight(before):+.3f} to {weight:+.3f}: {parts}.{closed}{switch}"


def _of_other_model(decided: int | None, serving: int | None) -> str:
    """Says that a decision is of another model than the one in force, as after a rollback; "" where it is not.

    >>> _of_other_model(53, 31), _of_other_model(31, 31), _of_other_model(None, 31)
    ('Model 53 decided this; model 31, in force now, has not decided of this close.', '', '')
    """
    if None in (decided, serving) or decided == serving:
        return ""
    return f"Model {decided} decided this; model {serving}, in force now, has not decided of this close."


def _instead_of(row: Mapping[str, Any], replaced: Mapping[str, Any] | None) -> str:
    """Says that a refit or a rollback took away what was decided at the same close; "" where it is much the same."""
    if replaced is None or (row["gate"] == replaced["gate"] and abs(_weight(row) - _weight(replaced)) < MUCH):
        return ""
    return (
        f"At this close model {replaced['model']} had decided {_weight(replaced):+.3f}; model {row['model']}, in force "
        f"since, decides {_weight(row):+.3f} in its place."
    )
