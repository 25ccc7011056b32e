"""The book of a store: what its newest sessions decide, what it holds now, and why a holding is not what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.files import jsonable
from gatecast.market.bars import session_of
from gatecast.store.schema import HOLDINGS
from gatecast.trading.book import carry_on

if TYPE_CHECKING:
    from gatecast.chain import Chain
    from gatecast.store.store import Store
    from gatecast.trading.book import Book, Carried, Course

CAUSES = {
    "volatility": "forecast volatility", "core": "a new core", "tilt": "the tilt", "cap": "a cap",
    "band": "what is not traded", "halt": "a session without a trade",
}  # fmt: skip
"""Part of a change of a holding -> what it is due to."""


def course_of(carried: Sequence[Carried], chain: Chain, *, again: bool = False) -> Course:
    """What the book of a store decides at the sessions of a chain that are new.

    `carried`: what it goes on from, see `trading.book.carry_on`; nothing: it begins at the newest session. `again`: the
    newest session is decided again, as its orders cannot be filled yet. What was issued before it stays.
    """
    close = chain.bars["time"].max()
    assert isinstance(close, datetime)
    newest = session_of(close)
    kept = [one for one in carried if not again or one.day < newest]
    settled = bool(kept) and kept[-1].day < newest
    return carry_on(chain.classes, chain.facts, chain.book, kept, newest, settled=settled)


def figures_of(course: Course, settings: Book) -> dict[str, Any]:
    """What a record says of the book at its newest session, see `store.schema.BookOfRecord`."""
    step, carried = course.steps[-1], course.carried[-1]
    found: dict[str, Any] = jsonable(
        {
            "session": str(carried.day), "close": carried.close.isoformat(), "equity": step.booked.equity,
            "cash": step.cash, "gross": float(np.abs(step.weights).sum()), "net": float(step.weights.sum()),
            "volatility": step.volatility, "spiked": step.spiked, "target_volatility": settings.size.target_volatility,
            "reached": step.reached, "currency": settings.money.currency,
            "earned": step.earned, "expected": step.expected, "level": step.level,
            "findings": [one.sentence for one in step.findings], "kinds": [one.kind for one in step.findings],
        }
    )  # fmt: skip
    return found


@dataclass(frozen=True)
class HeldNow:
    """What the book holds at its newest session.

    `figures`: of the whole, see `store.schema.BookOfRecord`. `rows`: symbol -> row of `trading.book.holdings_of`;
    `before`: the same of the session before.
    """

    figures: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: the figures, and `holdings`, a row a symbol."""
        return {**self.figures, "holdings": [dict(row) for _, row in sorted(self.rows.items())]}

    @property
    def sentence(self) -> str:
        """The whole in words."""
        told = self.figures
        long = sum(max(float(row["held"]), 0.0) for row in self.rows.values())
        short = sum(max(-float(row["held"]), 0.0) for row in self.rows.values())
        volatility, aimed = told.get("volatility"), told.get("target_volatility") or 0.0
        risk = "nothing is forecast" if volatility is None else f"forecast volatility {volatility:.1%} a year"
        reached = "" if told.get("reached") else " (not reached)"
        return (
            f"The book after the close of {self.session}: {long:.1%} long and {short:.1%} short of "
            f"{told.get('equity') or 0.0:,.0f} {told.get('currency')}, {risk}, {aimed:.1%} aimed at{reached}."
        )

    @property
    def session(self) -> str:
        """The newest session that was decided, YYYY-MM-DD."""
        return str(self.figures["session"])


def book_now(store: Store) -> HeldNow | None:
    """What the book of a store holds; None where it has none yet. Raises `StoreError` where it cannot be read."""
    newest = next((one for one in reversed(store.state.issued) if one.book), None)
    if newest is None:
        return None
    record = next(store.journal.records(since=newest.record))
    sessions = list(_two_newest(store))
    rows = [{row["symbol"]: row for row in one.iter_rows(named=True)} for one in sessions]
    return HeldNow(record.body["book"], rows[0] if rows else {}, rows[1] if len(rows) > 1 else {})


def _two_newest(store: Store) -> Iterator[pl.DataFrame]:
    """What the book held at its newest session and at the one before."""
    seen = set[Any]()
    for one in reversed(store.state.issued):
        table = store.holdings_of(one.book) if one.book else pl.DataFrame(schema=HOLDINGS)
        for session in table["session"].unique().sort(descending=True):
            if session not in seen and (not seen or session < min(seen)):
                seen.add(session)
                yield table.filter(pl.col("session") == session)
            if len(seen) == 2:
                return


def holdings_of(store: Store, before: int | None = None, last: int | None = None) -> pl.DataFrame:
    """All that the book of a store held, as it counted before a record (None: as it counts): of a session that was
    decided again the newest. `last`: so many of the newest records alone."""
    said = [one for one in store.state.issued if one.book and (before is None or one.record < before)]
    tables = [store.holdings_of(str(one.book)) for one in (said if last is None else said[-last:])]
    every = [one.with_columns(_record=number) for number, one in enumerate(tables)]
    found = pl.concat([pl.DataFrame(schema={**HOLDINGS, "_record": pl.Int32}), *every], how="vertical_relaxed")
    return found.filter(pl.col("_record") == pl.col("_record").max().over("session")).drop("_record")


def of_symbol(now: HeldNow | None, symbol: str) -> dict[str, Any]:
    """What is said of the book beside a decision: shares `held` and aimed at (`target`), `core` and `tilt` of the
    target, units to `trade`, and the gate that cut it (`cut_by`); None each where the book has nothing of the symbol.
    """
    row = now.rows.get(symbol, {}) if now else {}
    return {**{name: row.get(name) for name in SHOWN}, "cut_by": row.get("gate")}


SHOWN = ("held", "target", "trade", "core", "tilt")


def why_changed(now: HeldNow, symbol: str) -> dict[str, float]:
    """Cause of `CAUSES` -> its part of the change of what is held of a symbol since the session before.

    The parts add up to the change: of the core's part by its scale and by its own weights, of the tilt, of what caps
    cut off, and of how far what is held lies from its target; all of it is of a halt where one of the two had no trade.
    """
    both = [rows.get(symbol, {}) for rows in (now.before, now.rows)]
    old, new = map(_parts, both)
    if any(row.get("gate") == "halt" for row in both):
        return {"halt": float(both[1].get("held") or 0.0) - float(both[0].get("held") or 0.0)}
    scale = new["core"] / new["share"] if new["share"] else old["core"] / old["share"] if old["share"] else 0.0
    by_weights = (new["share"] - old["share"]) * scale
    return {
        "volatility": new["core"] - old["core"] - by_weights, "core": by_weights,
        **{name: new[name] - old[name] for name in ("tilt", "cap", "band")},
    }  # fmt: skip


def _parts(row: Mapping[str, Any]) -> dict[str, float]:
    """What is held of a symbol as a sum of core, tilt, cap and band; and the core's share before it is scaled."""
    core, tilt, share = (float(row.get(name) or 0.0) for name in ("core", "tilt", "share"))
    target, held = (float(row.get(name) or 0.0) for name in ("target", "held"))
    return {"core": core, "tilt": tilt, "cap": target - core - tilt, "band": held - target, "share": share}


def change_in_words(now: HeldNow, symbol: str) -> str:
    """Why the book holds another share of a symbol than at the session before, in a sentence.

    >>> was, is_now = {"core": 0.2, "share": 0.5, "target": 0.2, "held": 0.2}, {"core": 0.1, "share": 0.5}
    >>> change_in_words(HeldNow({}, {"A": {**is_now, "target": 0.1, "held": 0.12}}, {"A": was}), "A")
    'held from +20.0% to +12.0%: forecast volatility -10.0%, what is not traded +2.0%.'
    """
    before, after = (float(rows.get(symbol, {}).get("held") or 0.0) for rows in (now.before, now.rows))
    if not now.before:
        return f"held {after:+.1%}: the first session of the book." if after else "nothing is held."
    if abs(after - before) < LEAST_SAID:
        return f"still {after:+.1%}." if after else "nothing is held."
    parts = {name: part for name, part in why_changed(now, symbol).items() if abs(part) >= LEAST_SAID}
    said = ", ".join(f"{CAUSES[name]} {part:+.1%}" for name, part in parts.items())
    return f"held from {before:+.1%} to {after:+.1%}: {said}." if said else f"held from {before:+.1%} to {after:+.1%}."


LEAST_SAID = 5e-4
"""Change of a holding that is worth a word, as a share of equity."""
