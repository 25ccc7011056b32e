"""The book of a store: what its newest sessions decide, what it holds now, and why a holding is not what it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import BarsError, GatecastError
from gatecast.evaluation.findings import NEWEST_OF
from gatecast.files import jsonable
from gatecast.market.bars import session_date, session_of
from gatecast.market.merging import names_of
from gatecast.market.sessions import feed_age, orders_until
from gatecast.store.carried import bytes_of_carried, changes_of
from gatecast.store.desks import bytes_of_desk
from gatecast.store.journal import moment_of as moment_of_text
from gatecast.store.schema import HOLDINGS
from gatecast.trading.book import carry_on
from gatecast.trading.by_session import not_countable
from gatecast.trading.cuts import CALLED, Limit, cut_by, limit_of, limit_of_row
from gatecast.trading.desk import micros_of, moment_of
from gatecast.trading.money import LATE_DAYS
from gatecast.trading.sizing import trades_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.chain import Chain
    from gatecast.store.carried import Changes
    from gatecast.store.store import Store
    from gatecast.trading.book import Book, Carried, Course
    from gatecast.trading.desk import Desk
    from gatecast.trading.line import Step
    from gatecast.trading.orders import OrderSettings
    from gatecast.trading.sizing import BookSettings

CAUSES = {
    "volatility": "forecast volatility", "others": "the scale of the core, in which other shares changed",
    "core": "its share of the core", "tilt": "the tilt", "cap": "caps", "band": "what is not traded",
    "halt": "its price while it could not be traded", "prices": "prices alone, nothing is traded",
    "forecast": "its forecast is lost", "universe": "it has left its universe",
    "stop": "the drawdown stop closes it", "ruined": "no equity is left: everything is closed",
    "ended": "it ended, and what it was worth was paid out",
}  # fmt: skip
"""Part of a change of a holding -> what it is due to; of caps which one, see `HeldNow.cause`."""


def course_of(carried: Sequence[Carried], chain: Chain, *, again: bool = False) -> Course:
    """What the book of a store decides at the sessions of a chain that are new.

    `carried`: what it goes on from, see `trading.book.carry_on`; nothing: it begins at the newest session. `again`: the
    newest session is decided again, as its orders cannot be filled yet. What was issued before it stays.

    Raises `BarsError` where money becomes larger than any number: an action gives what no holder can get.
    """
    close = chain.bars["time"].max()
    assert isinstance(close, datetime)
    newest = session_of(close)
    kept = [one for one in carried if not again or one.day < newest]
    settled = bool(kept) and kept[-1].day < newest
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            course = carry_on(chain.classes, chain.facts, chain.book, kept, newest, settled=settled)
        for one in course.carried[-1:]:
            bytes_of_carried(one)
    except GatecastError:
        raise
    except (OverflowError, ValueError) as error:  # of NumPy's linear algebra too
        raise BarsError(
            f"the money of the book at {newest} is no finite number ({error}): an action gives more than anybody can "
            "hold. `gatecast actions list STORE` shows them all, `gatecast actions remove STORE` takes one back."
        ) from None
    return course


def desk_bytes(desk: Desk, chain: Chain, orders: OrderSettings, calendars: Mapping[str, str]) -> bytes:
    """What orders of a session are made of, with what calendars say at its close: the next open of each name that has a
    bar in it, and how old the price of each is.

    `calendars`: symbol -> calendar, where it is not that of its class.
    """
    bars = chain.bars.filter(session_date(pl.col("time")) <= desk.day)
    until = bars.select("symbol", "time", until=orders_until(bars, calendars))
    until = until.filter(session_date(pl.col("time")) == desk.day).group_by("symbol").agg(pl.col("until").max())
    opens, traded = dict(until.iter_rows()), desk.view.tradable.tolist()
    cut_offs = micros_of([opens.get(name) if there else None for name, there in zip(desk.names, traded, strict=True)])
    return bytes_of_desk(replace(desk, until=cut_offs, age=ages_of(desk, calendars)), orders)


def ages_of(desk: Desk, calendars: Mapping[str, str]) -> NDArray[np.int64]:
    """(names,) sessions that have closed since the newest bar of each; 0 for a name without one."""
    newest = {
        name: (kind, moment_of(bar))
        for name, kind, bar in zip(desk.names, desk.view.classes, desk.bars.tolist(), strict=True) if bar
    }  # fmt: skip
    schema: dict[str, Any] = {"symbol": pl.String, "asset_class": pl.String, "time": pl.Datetime("us", "UTC")}
    bars = pl.DataFrame([(name, *one) for name, one in newest.items()], schema=schema, orient="row")
    found = feed_age(bars, moment_of(int(desk.bars.max(initial=0))), calendars, grace=timedelta())
    behind = dict(found.select("symbol", "sessions_behind").iter_rows())
    return np.array([behind.get(name, 0) for name in desk.names], np.int64)


def figures_of(course: Course, settings: Book) -> dict[str, Any]:
    """What a record says of the book at its newest session, see `store.schema.BookOfRecord`."""
    *before, newest = (_figures_at(step) for step in course.steps)
    found: dict[str, Any] = jsonable(
        {
            **newest, "close": course.carried[-1].close.isoformat(),
            "target_volatility": settings.size.target_volatility, "currency": settings.money.currency,
            "caught_up": before,
        }
    )  # fmt: skip
    return found


def _figures_at(step: Step) -> dict[str, Any]:
    """See `store.schema.SessionOfBook`."""
    return {
        "session": str(step.booked.day), "equity": step.booked.equity, "cash": step.cash,
        "gross": float(np.abs(step.weights).sum()), "net": float(step.weights.sum()),
        "volatility": step.volatility, "held_volatility": step.held_volatility, "spiked": step.spiked,
        "reached": step.reached, "earned": step.earned, "expected": step.expected, "level": step.level,
        "findings": [one.sentence for one in step.findings], "kinds": [one.kind for one in step.findings],
    }  # fmt: skip


@dataclass(frozen=True)
class HeldNow:
    """What the book holds at its newest session.

    `figures`: of the whole, see `store.schema.BookOfRecord`. `rows`: symbol -> row of `trading.book.holdings_of`;
    `before`: the same of the session before; `traded`: of the newest session before in which it could be traded.
    `missed`: sessions that were first decided together with the newest, once the opens that their orders are for had
    passed, YYYY-MM-DD.
    `left_out`: symbol -> why it is not in the book, of those whose money cannot be counted. `limits`: symbol -> what
    kept it from what was wanted, see `cuts.Limit`: at the newest session, or where it could not be traded, at the last
    in which it could; `limits_before`: the same at the session before; of stores of earlier versions, which keep no
    desk, of none. `size`: the settings by which it was sized; None where no desk is kept. `unforecast`: symbols whose
    newest decision had no forecast. `waiting`: see `bars_waiting`.
    """

    figures: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    traded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missed: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict, repr=False)
    size: BookSettings | None = field(default=None, repr=False)
    limits_before: Mapping[str, Limit] = field(default_factory=dict, repr=False)
    unforecast: Collection[str] = field(default=(), repr=False)
    waiting: Mapping[str, str] = field(default_factory=dict, repr=False)

    def limit(self, symbol: str) -> Limit | None:
        """What keeps a holding from what was wanted of it: by its desk, else by its row; None where there is none."""
        row = self.rows.get(symbol)
        return self.limits.get(symbol, None if row is None else limit_of_row(row, self.size))

    def cause(self, name: str, symbol: str) -> str:
        """A part of `CAUSES` in words; where caps are the cause, the one that cut the target of now, else of before."""
        sides = (self.rows, self.limits), (self.before, self.limits_before)
        told = (limits.get(symbol) or limit_of_row(rows.get(symbol, {}), self.size) for rows, limits in sides)
        caps = [cut_by(one.cap, self.size) for one in told if one.cap]
        return caps[0] if name == "cap" and caps else CAUSES[name]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: the figures, `holdings`, a row a symbol, `missed` and `left_out`.

        The `gate` of a row is the one that binds, see `limit`.
        """
        rows = [
            {**row, **({"gate": limit.gate} if (limit := self.limit(symbol)) else {})}
            for symbol, row in sorted(self.rows.items())
        ]
        given = {"missed": list(self.missed), "left_out": dict(self.left_out)}
        return {**self.figures, "holdings": rows, **given}

    @property
    def missed_sentence(self) -> str:
        """The missed sessions in words; "" without any."""
        if not self.missed:
            return ""
        first, last, count = self.missed[0], self.missed[-1], len(self.missed)
        which = f"the session {first} was" if count == 1 else f"{count} sessions from {first} to {last} were"
        whose = f"that of {first}" if count == 1 else f"those of {first} to {last}"
        return (
            f"Caught up: {which} decided together with {self.session}, after the opens that their orders were for: no "
            f"account could trade on {whose}. This does not concern the orders of {self.session}. "
            "Run `gatecast update` after each close."
        )

    @property
    def sentence(self) -> str:
        """The whole in words."""
        told = self.figures
        long = sum(max(float(row["held"]), 0.0) for row in self.rows.values())
        short = sum(max(-float(row["held"]), 0.0) for row in self.rows.values())
        volatility, aimed = told.get("held_volatility"), told.get("target_volatility") or 0.0
        risk = "forecast volatility not known" if volatility is None else f"forecast volatility {volatility:.1%} a year"
        reached = "" if told.get("reached") else " (not reached)"
        return (
            f"The book after the close of {self.session}, if its orders are filled: {long:.1%} long and {short:.1%} "
            f"short of {told.get('equity') or 0.0:,.0f} {told.get('currency')}, {risk}, {aimed:.1%} aimed at{reached}."
        )

    @property
    def booked_late(self) -> list[str]:
        """What actions of earlier sessions gave, that became known for the newest one, a sentence each."""
        told = zip(self.figures.get("kinds") or (), self.figures.get("findings") or (), strict=False)
        return [f"{sentence}." for kind, sentence in told if kind in NEWEST_OF]

    @property
    def session(self) -> str:
        """The newest session that was decided, YYYY-MM-DD."""
        return str(self.figures["session"])


def book_now(store: Store) -> HeldNow | None:
    """What the book of a store holds; None where it has none yet. Raises `StoreError` where it cannot be read."""
    newest = next((one for one in reversed(store.state.issued) if one.book), None)
    if newest is None:
        return None
    record = store.journal.record(newest.record)
    sessions = _newest_sessions(store)
    rows, before = ({row["symbol"]: row for row in next(sessions, [])} for _ in range(2))
    traded = {symbol: row for symbol, row in before.items() if not _waits(row)}
    while len(traded) < len(before) and (table := next(sessions, None)):
        traded = {row["symbol"]: row for row in table if row["symbol"] in before and not _waits(row)} | traded
    every, left_out = dict(sorted(store.state.symbols.items())), dict[str, str]()
    if every.keys() - rows.keys():
        told = not_countable(store.experiment.book, every)  # of all: one symbol's price may convert another's
        left_out = {symbol: why for symbol, why in told.items() if symbol not in rows}
    missed = _missed(store, newest.session)
    limits = _limits(store, rows, before, traded)
    return HeldNow(record.body["book"], rows, before, traded, missed, left_out, *limits, waiting=bars_waiting(store))


def bars_waiting(store: Store) -> dict[str, str]:
    """Symbol -> that its bar waits, in words, of those that cannot be traded until somebody says what it is."""
    return {
        symbol: f"its bar of {session_of(moment_of_text(one.time))} waits to be resolved (gatecast actions)"
        for symbol, one in store.state.waiting.items()
    }


def _limits(
    store: Store, rows: Mapping[str, Any], before: Mapping[str, Any], traded: Mapping[str, Any]
) -> tuple[dict[str, Limit], BookSettings | None, dict[str, Limit]]:
    """See `HeldNow.limits`, `size` and `limits_before`: of the desks of the sessions, which are sized again."""
    waiting = bars_waiting(store)
    made: dict[date, tuple[dict[str, Limit], BookSettings | None]] = {}

    def at(row: Mapping[str, Any]) -> tuple[dict[str, Limit], BookSettings | None]:
        if row["session"] not in made:
            desk = desk_at(store, row["session"])
            made[row["session"]] = ({}, None) if desk is None else (limits_of(desk), desk.size)
        return made[row["session"]]

    found, size = at(next(iter(rows.values()))) if rows else ({}, None)
    found = {symbol: one for symbol, one in found.items() if symbol in rows}
    for symbol in [symbol for symbol, row in rows.items() if symbol in found and _waits(row)]:
        then = traded.get(symbol)
        if then is not None and not _waits(then) and (last := at(then)[0].get(symbol)):
            why = waiting.get(symbol, f"{CALLED['halt']} since {then['session']}")
            found[symbol] = last.halted(found[symbol], why)
    return found, size, dict(at(next(iter(before.values())))[0]) if before else {}


def limits_of(desk: Desk) -> dict[str, Limit]:
    """Symbol -> what kept the book's own holding from what was wanted of it, see `cuts.Limit`."""
    sized = trades_of(desk.view, desk.sizing, desk.size)
    return {name: limit_of(sized, place, desk.size) for place, name in enumerate(desk.names)}


def desk_at(store: Store, session: date) -> Desk | None:
    """The desk that counts of a session: the newest that was decided at its own, else with a later one; None where
    none is kept."""
    day = str(session)
    told = [
        (one.session[:10] == day, one.record, part)
        for one in store.state.issued for own, part in one.desks.items() if own[:10] == day
    ]  # fmt: skip
    *_, part = max(told, key=lambda one: one[:2], default=(None,))
    return store.desk_of(part)[0] if part is not None and store.artefacts.has(part) else None


def _missed(store: Store, newest: str) -> list[str]:
    """See `HeldNow.missed`. Sessions whose desk is not kept are none."""
    said = [one for one in store.state.issued if one.book]
    own = [one for one in said if one.session[:10] == newest[:10]]
    in_time = {one.session[:10] for one in said}
    return sorted(
        {
            session[:10]
            for one in own for session, part in one.desks_before.items()
            if session[:10] not in in_time and store.artefacts.has(part)
            and ((last := store.desk_of(part)[0].last_cut_off) is None or last <= moment_of_text(one.now))
        }
    )  # fmt: skip


def newly_ordered(store: Store, course: Course) -> set[str]:
    """Symbols with a bar in the newest session of a course of which it orders other units than the store does."""
    if not course.steps:
        return set()
    newest = course.holdings.filter(pl.col("session") == course.steps[-1].booked.day, pl.col("time").is_not_null())
    before = {(row["session"], row["symbol"]): row["trade"] for row in next(_newest_sessions(store), [])}
    rows = newest.select("session", "symbol", "trade").rows()
    return {symbol for session, symbol, trade in rows if trade != before.get((session, symbol), 0.0)}


def _newest_sessions(store: Store) -> Iterator[list[dict[str, Any]]]:
    """What the book held at each session, the newest first: of one that was decided again the newest."""
    said = [one for one in reversed(store.state.issued) if one.book]
    last: Any = None
    for one in said[:LOOKED_AT]:
        table = store.holdings_of(one.book or "")
        for session in table["session"].unique().sort(descending=True):
            if last is None or session < last:
                last = session
                yield table.filter(pl.col("session") == session).to_dicts()


LOOKED_AT = 60
"""Latest records of the book in which a session is looked for: a halt is no longer."""


def models_of_book(store: Store) -> tuple[int | None, int | None]:
    """The models that decided what the book holds at the session before its newest one, and at that."""
    said = [one for one in store.state.issued if one.book]
    before = next((one.model for one in reversed(said) if one.session < said[-1].session), None)
    return before, said[-1].model if said else None


def holdings_of(store: Store, before: int | None = None, last: int | None = None) -> pl.DataFrame:
    """All that the book of a store held, as it counted before a record (None: as it counts): of a session that was
    decided again the newest. `last`: so many of the newest records alone."""
    return holdings_by_record(store, before, last).drop("record")


def holdings_by_record(store: Store, before: int | None = None, last: int | None = None) -> pl.DataFrame:
    """The same with the number of the `record` that decided."""
    said = [one for one in store.state.issued if one.book and (before is None or one.record < before)]
    said = said if last is None else said[-last:]
    tables = [
        store.holdings_of(str(one.book)).with_columns(record=pl.lit(one.record, pl.Int64)) for one in said
    ]  # fmt: skip
    found = pl.concat([pl.DataFrame(schema={**HOLDINGS, "record": pl.Int64}), *tables], how="vertical_relaxed")
    return found.filter(pl.col("record") == pl.col("record").max().over("session"))


def changes_before(store: Store, before: int, names: Sequence[str], day: date) -> Changes:
    """The changes of units of the book of a store up to a session, as it counted before a record, for what it carries
    in a file of an earlier version, see `store.carried`."""
    first = day - timedelta(days=LATE_DAYS)
    said = [one for one in store.state.issued if one.book and one.record < before]
    older = sum(one.session <= str(first) for one in said)
    held = holdings_by_record(store, before, len(said) - older + 1)  # the last of the older begins with what was held
    moments = {one.record: moment_of_text(one.now) for one in said}
    sessions = sorted(
        (session, moments[record]) for session, record in held.select("session", "record").unique().rows()
    )
    splits = store.actions.filter(pl.col("kind") == "split").sort("date", "symbol")
    booked = [
        (next((session for session, now in sessions if session >= split and (known is None or now >= known)), None),
         symbol, ratio)
        for symbol, split, known, ratio in splits.select("symbol", "date", "known_at", "value").iter_rows()
    ]  # fmt: skip
    table = pl.DataFrame(booked, {"session": pl.Date, "symbol": pl.String, "ratio": pl.Float64}, orient="row")
    found = changes_of(held.filter(pl.col("session") <= day), table, names)
    last = max((session for session, _ in sessions if session < day), default=day)
    return tuple(one for one in found if one[0] > first or one[0] >= last)


def of_symbol(now: HeldNow | None, symbol: str) -> dict[str, Any]:
    """What is said of the book beside a decision: shares `held` and aimed at (`target`), `core` and `tilt` of the
    target, units to `trade`, the gate that binds (`cut_by`), that which keeps it from a trade (`kept_by`), and what cut
    the target and the trade in words (`limited_by`), see `cuts.Limit`; None each where the book has nothing of the
    symbol.
    """
    row = now.rows.get(symbol, {}) if now else {}
    limit = now.limit(symbol) if now else None
    return {
        **{name: row.get(name) for name in SHOWN},
        "cut_by": limit.gate if limit else None,
        "kept_by": limit.kept if limit else None,
        "limited_by": limit.words if limit else None,
    }


SHOWN = ("held", "target", "trade", "core", "tilt")


def left_out_in_words(left_out: Mapping[str, str]) -> str:
    """A sentence on symbols that are not in the book; "" without any.

    >>> left_out_in_words({"HG=F": "'HG=F' is a future: its money needs a row in the table of contracts."})
    "Not in the book, as its money cannot be counted: 'HG=F'; `gatecast today` says why."
    """
    if not left_out:
        return ""
    whose = "its" if len(left_out) == 1 else "their"
    return (
        f"Not in the book, as {whose} money cannot be counted: {names_of(list(left_out))}; `gatecast today` says why."
    )


def why_changed(now: HeldNow, symbol: str) -> dict[str, float]:
    """Cause of `CAUSES` -> its part of the change of what is held of a symbol since the session before.

    The parts add up to the change: of the core's part by its scale and by its own weights, of the tilt, of what caps
    cut off, and of how far what is held lies from its target, since the session in which it could last be traded; and
    what prices have made of it while it could not. The scale is of forecast volatility alone while no other share of
    the core changed. Of a symbol that is not forecast any more, what went of its tilt and of its share of the core is
    the forecast's. A holding that ended or is closed, or that nothing is traded of, has one cause.
    """
    before, after = (rows.get(symbol, {}) for rows in (now.before, now.rows))
    change = float(after.get("held") or 0.0) - float(before.get("held") or 0.0)
    if _waits(after):
        return {"halt": change}
    if one := _one_cause(now, symbol):
        return {one: change}
    traded = now.traded.get(symbol, {}) if _waits(before) else before
    old, new = _parts(traded), _parts(after)
    scale = new["core"] / new["share"] if new["share"] else old["core"] / old["share"] if old["share"] else 0.0
    by_weights = (new["share"] - old["share"]) * scale
    found = {
        "others" if _others_changed(now, symbol) else "volatility": new["core"] - old["core"] - by_weights,
        "core": by_weights,
        **{name: new[name] - old[name] for name in ("tilt", "cap", "band")},
        "halt": float(traded.get("held") or 0.0) - float(before.get("held") or 0.0),
    }  # fmt: skip
    if symbol in now.unforecast:
        gone = [cause for cause, name in (("core", "share"), ("tilt", "tilt")) if old[name] and not new[name]]
        found |= {"forecast": sum(found.pop(cause) for cause in gone)} if gone else {}
    return found


def _one_cause(now: HeldNow, symbol: str) -> str:
    """What alone changed a holding; "" where it has parts, or where its units are not told."""
    before, after = (rows.get(symbol, {}) for rows in (now.before, now.rows))
    if after.get("trade") and (limit := now.limit(symbol)) and limit.closes:
        return "ruined" if "ruined" in (now.figures.get("kinds") or ()) else CLOSED_BY[limit.closes]
    if after.get("trade") or not before.get("held") or "units" not in before:
        return ""
    if not after.get("units"):
        return "ended" if before["units"] else ""
    unfilled = before["trade"] and after["units"] == before["units"]
    return "" if unfilled else "prices"


def _others_changed(now: HeldNow, symbol: str) -> bool:
    """Whether the core has other shares of other symbols than at the session before."""
    names = sorted({*now.rows, *now.before} - {symbol})
    old, new = (
        np.array([float(rows.get(name, {}).get("share") or 0.0) for name in names]) for rows in (now.before, now.rows)
    )
    return bool((np.abs(new - old) > SAME_SHARE).any())


CLOSED_BY = {"stop": "stop", "close": "universe"}
"""Gate of the book's own that closes a position -> the cause; the other one is that no equity is left."""
SAME_SHARE = 1e-9
"""Difference of two shares of the core that is none."""


def _waits(row: Mapping[str, Any]) -> bool:
    """Whether a symbol could not be traded at a session: its bar was not there in time."""
    return bool(row) and row["time"] is None


def _parts(row: Mapping[str, Any]) -> dict[str, float]:
    """What is held of a symbol as a sum of core, tilt, cap and band; and the core's share before it is scaled."""
    core, tilt, share = (float(row.get(name) or 0.0) for name in ("core", "tilt", "share"))
    target, held = (float(row.get(name) or 0.0) for name in ("target", "held"))
    return {"core": core, "tilt": tilt, "cap": target - core - tilt, "band": held - target, "share": share}


def change_in_words(now: HeldNow, symbol: str) -> str:
    """Why the book holds another share of a symbol than at the session before, in a sentence.

    >>> close = {"time": datetime(2024, 1, 2)}
    >>> was = {**close, "core": 0.2, "share": 0.5, "target": 0.2, "held": 0.2}
    >>> is_now = {**close, "core": 0.1, "share": 0.5, "target": 0.1, "held": 0.12}
    >>> change_in_words(HeldNow({}, {"A": is_now}, {"A": was}), "A")
    'held from +20.0% to +12.0%: forecast volatility -10.0%, what is not traded +2.0%.'
    """
    row = now.rows.get(symbol, {})
    if symbol in now.left_out:
        return f"nothing is held: it is not in the book. {now.left_out[symbol]}"
    if not row:
        if held := float(now.before.get(symbol, {}).get("held") or 0.0):
            return f"held from {held:+.1%} to +0.0%: {CAUSES['ended']}."
        return "nothing is held: it has no bar in the newest session of the book."
    nothing = "nothing is held." if float(row.get("share") or 0.0) else "nothing is held: the core has none of it."
    before, after = (float(rows.get(symbol, {}).get("held") or 0.0) for rows in (now.before, now.rows))
    if _waits(row):
        order = float(row.get("trade") or 0.0)
        bar = now.waiting.get(symbol)
        waits = f" Its order of {order:+,.6g} waits {'with it' if bar else 'for its next bar'}." if order else ""
        if after or (bar and order):
            what = f"stays held, {after:+.1%} now" if after else "nothing is held"
            return f"{what}: {bar or 'it could not be traded'}.{waits}"
        return f"{nothing}{waits}"
    if not now.before:
        return f"held {after:+.1%} once its order is filled: the first session of the book." if after else nothing
    if abs(after - before) < LEAST_SAID:
        target = float(row.get("target") or 0.0)
        limit = now.limit(symbol)
        by = limit.words if limit and limit.words else "within its band, or cut"
        aimed = f", {target:+.1%} aimed at ({by})" if abs(target - after) >= LEAST_SAID else ""
        order = float(row.get("trade") or 0.0)
        ordered = f" after an order of {order:+,.6g}, as prices had moved it" if order else ""
        return f"still {after:+.1%}{ordered}{aimed}." if after or aimed else nothing
    parts = {name: part for name, part in why_changed(now, symbol).items() if abs(part) >= LEAST_SAID}
    said = ", ".join(f"{now.cause(name, symbol)} {part:+.1%}" for name, part in parts.items())
    moved = _moved(row, now.before.get(symbol, {}))
    return f"held from {before:+.1%} to {after:+.1%}{f': {said}' if said else ''}.{moved}"


def _moved(row: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """What prices had made of a holding before its order; "" where that is nothing, or not told.

    >>> _moved({"units": 100.0, "trade": -20.0, "held": 0.4}, {"units": 90.0, "trade": 10.0, "held": 0.45})
    ' Prices had moved it to +50.0% before, so that the order is -10.0% of equity.'
    """
    units, order = (float(row.get(name) or 0.0) for name in ("units", "trade"))
    unfilled = before.get("trade") and before.get("units") == row.get("units")
    if unfilled or not order or not units or not units + order:
        return ""
    part = float(row["held"]) * order / (units + order)
    moved = float(row["held"]) - part
    if abs(moved - float(before.get("held") or 0.0)) < LEAST_SAID:
        return ""
    return f" Prices had moved it to {moved:+.1%} before, so that the order is {part:+.1%} of equity."


LEAST_SAID = 5e-4
"""Change of a holding that is worth a word, as a share of equity."""
