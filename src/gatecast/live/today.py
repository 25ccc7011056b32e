"""What to hold today, and why it is not what was held yesterday: `gatecast today`.

Each cause is measured by making decisions again with one thing as it was: the model before on today's bars (the rest
of the change is the refit's), the new model with the settings before (the rest is that of the thresholds). Where
nothing is held as the model is too old, the decision is made again as if it were not, and the rest is due to its age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gatecast.arguments import checked
from gatecast.chain import make_chain
from gatecast.live.book import HeldNow, book_now, change_in_words, of_symbol, why_changed
from gatecast.live.gates import DOUBTFUL_BAR, GATES
from gatecast.live.kept import alarms_said, serve
from gatecast.live.newest import OLD_MODEL
from gatecast.live.retrain import newest_of
from gatecast.market.merging import names_of
from gatecast.market.reading import as_utc
from gatecast.market.sessions import feed_age
from gatecast.store.store import Store

if TYPE_CHECKING:
    from gatecast.store.state import Model

    Rows = Mapping[str, Mapping[str, Any]]

WAITS = ("no bar", "no trade", DOUBTFUL_BAR)
"""Gates of a symbol that has no price of the newest session to trade at."""
SHOWN = 5e-4
"""Change of a weight that is worth a word."""
SAME = 1e-12
"""Weights that differ by no more are the same."""
NEEDED = ("asset_class", "strategy", "gate")
"""Texts that each decision has."""
CAUSES = {"data": "new bars", "refit": "the refit", "threshold": "other settings", "age": "the model's age"}


@dataclass(frozen=True)
class Today:
    """A row a symbol: its newest decision, the one before, and what changed the position. `undecided`: symbols without.
    `behind`: in words, symbols whose newest decision is of an older session than their calendar has.

    `book`: what the book holds; None without one. `rows`: the columns of the newest decision, and what the book holds
    of the symbol (see `book.of_symbol`), `held_before`, `held_because` (see `book.why_changed`), `held_why` in words;
    `before` (weight, book, signal, strategy, gate and time of the one
    before, None where there is none), `change` of the weight, and `because`: cause (data, refit, threshold, age) -> its
    part of the change; `why` in words. `alarms`: of drift that are on, see `forecasting.drift.Alarm`.
    """

    store: Path
    now: datetime
    model: int | None
    rows: Sequence[Mapping[str, Any]]
    alarms: Sequence[Mapping[str, Any]] = ()
    undecided: Sequence[str] = ()
    behind: str = ""
    book: HeldNow | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "model": self.model, "decisions": list(self.rows),
            "alarms": list(self.alarms), "undecided": list(self.undecided),
            "behind": self.behind, "book": self.book.to_dict() if self.book else None,
        }  # fmt: skip


@checked
def today(store: str | Path, *, now: datetime | None = None) -> Today:
    """The newest decision of every symbol beside the one before, and why the position changed.

    `now`: the moment up to which bars count (default: the clock). Nothing is written. Raises `StoreError` where the
    store cannot be read.
    """
    return today_of(Store.open(store), datetime.now(UTC) if now is None else as_utc(now, "now"))


def today_of(opened: Store, moment: datetime) -> Today:
    """As `today`, of a store that is open, after the newest record that it has read."""
    newest, before = _two_newest(opened)
    if not newest:
        return Today(opened.folder, moment, opened.state.serving, [])
    causes = _causes(opened, newest, before, moment)
    book = book_now(opened)
    rows = [
        {**_row(row, before.get(symbol), causes.get(symbol, {})), **_of_book(book, symbol)}
        for symbol, row in sorted(newest.items())
    ]
    undecided = sorted(opened.state.symbols.keys() - newest.keys())
    return Today(
        opened.folder, moment, opened.state.serving, rows, alarms_said(opened), undecided,
        _behind(opened, newest, moment), book,
    )  # fmt: skip


def _behind(store: Store, newest: Rows, now: datetime) -> str:
    """A sentence on symbols whose newest decision is more than a session behind their calendar; "" without any."""
    closes = pl.DataFrame(
        [{"symbol": symbol, "asset_class": row["asset_class"], "time": row["time"]} for symbol, row in newest.items()],
        schema={"symbol": pl.String, "asset_class": pl.String, "time": pl.Datetime("us", "UTC")},
    )
    if now < closes["time"].max():  # type: ignore[operator]
        return ""
    ages = feed_age(closes.sort("symbol"), now, store.state.calendars)
    late = ages.filter((pl.col("sessions_behind") > 1) & ~pl.col("symbol").is_in(list(store.state.waiting)))
    if late.is_empty():
        return ""
    most = int(late["sessions_behind"].to_numpy().max())
    return (
        f"What stands here is not of today: the newest decision of {names_of(late['symbol'].to_list())} is up to "
        f"{most} sessions behind the calendar. Bring the bars since with `gatecast update`."
    )


def _two_newest(store: Store) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Symbol -> its newest decision, and that of the close before, each with `model`, from the latest records."""
    newest: dict[str, dict[str, Any]] = {}
    before: dict[str, dict[str, Any]] = {}
    known = len(store.state.symbols)
    for one in reversed(store.state.issued):
        for row in store.decisions_of(one.decisions, NEEDED).iter_rows(named=True):
            row = {**row, "model": one.model}
            if row["symbol"] not in newest:
                newest[row["symbol"]] = row
            elif row["symbol"] not in before and row["time"] < newest[row["symbol"]]["time"]:
                before[row["symbol"]] = row
        if len(newest) >= known and len(before) >= known:
            break
    return newest, before


def _causes(store: Store, newest: Rows, before: Rows, now: datetime) -> dict[str, dict[str, float]]:
    """Symbol -> cause -> its part of the change of the weight, of those whose weight changed."""
    changed = {
        symbol for symbol, row in newest.items()
        if symbol in before and abs(_weight(row) - _weight(before[symbol])) > SAME
    }  # fmt: skip
    if not changed:
        return {}
    found: dict[str, dict[str, float]] = {}
    bars = store.bars.for_chain(now)
    for old, new in sorted({(before[one]["model"], newest[one]["model"]) for one in changed}):
        own = [one for one in changed if (before[one]["model"], newest[one]["model"]) == (old, new)]
        if store.state.model(old) is None or store.state.model(new) is None:
            found |= {one: {"data": _weight(newest[one]) - _weight(before[one])} for one in own}
            continue
        closes = {newest[one]["asset_class"]: newest[one]["time"] for one in own}
        was = _ageless(store, bars, {one: before[one] for one in own}, old)
        now_is = _ageless(store, bars, {one: newest[one] for one in own}, new)
        data, refit = (now_is, now_is) if old == new else [_with(store, bars, fits, old, closes) for fits in (old, new)]
        for one in own:
            steps = (was[one], data.get(one, {}), refit.get(one, {}), now_is[one])
            parts = [_weight(later) - _weight(earlier) for earlier, later in pairwise(steps)]
            parts.append(_weight(newest[one]) - _weight(now_is[one]) + _weight(was[one]) - _weight(before[one]))
            found[one] = {name: part for name, part in zip(CAUSES, parts, strict=True) if abs(part) > SAME}
    return found


def _ageless(store: Store, bars: pl.DataFrame, rows: Rows, model: int) -> Rows:
    """The same decisions of a model; those that its age decided made again as if it were young."""
    old = {symbol: row for symbol, row in rows.items() if row["gate"] == OLD_MODEL}
    if not old:
        return rows
    closes = {row["asset_class"]: row["time"] for row in old.values()}
    made = _with(store, bars.filter(pl.col("time") <= max(closes.values())), model, model, closes)
    return {**rows, **{symbol: made.get(symbol, {}) for symbol in old}}


def _with(store: Store, bars: pl.DataFrame, fits: int, settings: int, closes: Mapping[str, datetime]) -> Rows:
    """The newest rows by the fits of one model and the settings of another, whatever was issued at these closes."""
    served = serve(store, _model(store, fits), before=closes)
    experiment = serve(store, _model(store, settings), before=closes).run.experiment.replace(bars=bars)
    chain = make_chain(experiment, bars, actions=store.actions, past=served.past, refit="never", watch=False)
    return newest_of(served, chain)


def _model(store: Store, number: int) -> Model:
    found = store.state.model(number)
    assert found is not None
    return found


def _weight(row: Mapping[str, Any]) -> float:
    return float(row.get("weight") or 0.0)


def _row(row: Mapping[str, Any], before: Mapping[str, Any] | None, causes: Mapping[str, float]) -> dict[str, Any]:
    kept = ("time", "weight", "book", "signal", "strategy", "gate", "model")
    change = None if before is None else _weight(row) - _weight(before)
    return {
        **row, "before": None if before is None else {name: before.get(name) for name in kept}, "change": change,
        "because": dict(causes), "why": _in_words(row, before, causes), "gate_sentence": GATES.get(row["gate"], ""),
    }  # fmt: skip


def _of_book(book: HeldNow | None, symbol: str) -> dict[str, Any]:
    """What the book holds of a symbol, what it held the session before, and why that is not the same."""
    if book is None:
        return of_symbol(None, symbol)
    before = book.before.get(symbol, {}).get("held")
    return {
        **of_symbol(book, symbol), "held_before": before, "held_because": why_changed(book, symbol),
        "held_why": change_in_words(book, symbol),
    }  # fmt: skip


def _in_words(row: Mapping[str, Any], before: Mapping[str, Any] | None, causes: Mapping[str, float]) -> str:
    """Why the position is what it is beside the one before; of a bar that waits `reason` says how it is resolved."""
    if row["gate"] == DOUBTFUL_BAR:
        return "waits: its newest bar looks like a split (`gatecast actions list`). What is held stays."
    if row.get("weight") is None:
        stays = " What is held stays: it cannot be traded on." if row["gate"] in WAITS else ""
        return f"no decision: {GATES.get(row['gate'], row['gate'])}.{stays}"
    if before is None:
        return "the first decision."
    if before.get("weight") is None:
        return f"{_weight(row):+.3f} after a close without a decision."
    if abs(_weight(row) - _weight(before)) < SHOWN:
        return "unchanged." if row["gate"] == before["gate"] else f"still nothing held: {GATES.get(row['gate'], '')}."
    parts = ", ".join(f"{CAUSES[name]} {part:+.3f}" for name, part in causes.items())
    moved = f"from {_weight(before):+.3f} to {_weight(row):+.3f}"
    switch = "" if row["strategy"] == before["strategy"] else f" The strategy is {row['strategy']} now."
    return f"{moved}: {parts}.{switch}" if parts else f"{moved}.{switch}"
