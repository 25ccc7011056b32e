"""How far orders have come at a moment and what comes next: one rule for the commands, the page and the API.

Nothing here writes. What a command would refuse is said here with the sentence that it is refused with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatecast.errors import GatecastError, SettingsError, StoreError
from gatecast.live.blotter import Blotter, rest_of
from gatecast.live.ordered import Orders, command, reconciling
from gatecast.live.positions import Fill
from gatecast.market.merging import names_of
from gatecast.store.about import counted

if TYPE_CHECKING:
    from gatecast.store.state import Issued
    from gatecast.store.store import Store

Event = Mapping[str, Any]
Row = dict[str, Any]
NOTHING_FILLED = "nothing of it was filled"
LONGEST_OPEN = timedelta(days=14)
"""From a session to the next open of any exchange, at most."""


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


def refuse_withdrawn(blotter: Blotter, open_orders: Collection[str]) -> None:
    """Raises `SettingsError` where an order that counts as open was withdrawn: what is ordered would be other than what
    is sent."""
    for name in open_orders:
        if taken := blotter.withdrawal_of(name):
            raise SettingsError(
                f"the open order {name} was withdrawn by {taken['by']} at {taken['now'][:16]} UTC: cancel it where it "
                "was sent, and make the orders again without it."
            )


def refuse_acted_on(blotter: Blotter, made: Orders, since: int, now: datetime) -> None:
    """Raises where something has followed the export of orders, whose first record is `since`, or may have."""
    account, rows, name = made.account, made.rows, made.orders_id
    filled = blotter.filled(account)
    for row in rows:
        if row["order_id"] in filled:
            raise StoreError(
                f"of the order {row['order_id']} of {row['symbol']!r} {filled[row['order_id']]:g} units are filled: "
                f"orders {name} cannot be withdrawn. Cancel what is left, and say what is open with --open-orders."
            )
    later = [one for one in blotter.of("approved", account=account) if one["record"] > since and one["id"] != name]
    if later:
        raise StoreError(
            f"orders {later[-1]['id']} of the account {account!r} were approved by {later[-1]['by']} after the export "
            f"of {name}, and count with it: it cannot be withdrawn."
        )
    if made.has_passed(now):
        raise SettingsError(
            f"the open that orders {name} are for has passed: they cannot be withdrawn. Tell what came of them with "
            "`gatecast fills`; without a fill they bind nothing."
        )


def refuse_over(blotter: Blotter, made: Orders, now: datetime) -> None:
    """Raises where orders that were not exported can be no more, or not now: a session has one file, an order that they
    count as open was withdrawn, there is a halt, or the open that they are for has passed."""
    _refuse_exported(blotter, made)
    refuse_withdrawn(blotter, made.content["open"])
    _refuse_halted(blotter, made)
    if made.has_passed(now):
        raise SettingsError(
            f"the open that orders {made.orders_id} are for has passed: make those of the next session."
        )


def _refuse_exported(blotter: Blotter, made: Orders) -> None:
    """Raises `StoreError` where a file of the session and account of orders was exported before, whatever the halt.

    Orders that close what is held may follow the session's own file, once.
    """
    closes = made.content["halt"] is not None
    for one in blotter.exports(account=made.account, session=made.session):
        if closes and one["halt"] is None:
            continue
        raise StoreError(
            f"orders of {made.session} for the account {made.account!r} were exported already "
            f"({one['id']}, {one['now'][:16].replace('T', ' ')} UTC): a session has one file. Wait for the next "
            "session, or take that file back, where nothing of it was sent: "
            f"`{withdrawing(blotter.store.folder, one['id'])}`."
        )


def _refuse_halted(blotter: Blotter, made: Orders) -> None:
    """Raises `StoreError` while a halt is there, but for the orders that close what is held at it; for those, after
    it was released."""
    halts, number = blotter.halts, made.content["halt"]
    closes = blotter.flattens is not None and number in {one.record for one in halts}
    if halts and not closes:
        but = " but orders that close what is held" if blotter.flattens else ""
        raise StoreError(f"{blotter.store.folder} is {'; '.join(map(str, halts))}: nothing{but} is exported.")
    if not halts and number is not None:
        raise StoreError("these orders close what was held at a halt that was released: make those of the book.")


# ── where they stand ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stage:
    """Orders with all that the journal says of them, whatever the moment.

    `number`: of the record that proposed them. `steps`: its records, and those of fills, the oldest first. `fills`: id
    of each order -> its fills. `instead`: of newer orders of the account and session, where these were not approved.
    `broken`: differences of the account that came after the export, and that nobody has explained.
    """

    made: Orders
    number: int
    steps: Sequence[Event]
    fills: Mapping[str, Sequence[Fill]]
    instead: str
    broken: int

    @classmethod
    def of(cls, blotter: Blotter, event: Event, fills: Sequence[tuple[Event, Sequence[Fill]]]) -> Stage:
        """Of the record that proposed them, and all fills since."""
        name = event["id"]
        made = Orders(blotter.store.folder, name, blotter.content(event), status_of(blotter, name))
        ids = {row["order_id"] for row in made.rows} if made.status == "exported" else set()
        own = [(record, [one for one in rows if one.order_id in ids]) for record, rows in fills]
        filled = dict[str, list[Fill]]()
        for one in (one for _, rows in own for one in rows):
            filled.setdefault(one.order_id, []).append(one)
        later = [
            one["id"] for one in blotter.of("proposed", account=made.account, session=event["session"])
            if one["record"] > event["record"]
        ]  # fmt: skip
        steps = [one for one in blotter.events if one.get("id") == name] + [record for record, rows in own if rows]
        return cls(
            made, int(event["record"]), sorted(steps, key=lambda one: int(one["record"])), filled,
            later[-1] if later and made.status == "proposed" else "", _broken_since(blotter, made),
        )  # fmt: skip

    @property
    def overrides(self) -> dict[str, datetime]:
        """Limit that may be exceeded -> up to when."""
        told = [one for step in self.steps if step["kind"] == "approved" for one in step["overrides"]]
        return {one["limit"]: datetime.fromisoformat(one["until"]) for one in told}

    def to_dict(self, blotter: Blotter, now: datetime) -> Row:
        """As JSON holds it, at a moment."""
        made, told = self.made, self.made.content
        status, sentence, after = self.what_next(blotter, now)
        kept = ("account", "session", "currency", "capital", "halt", "breaches")
        return {
            "id": made.orders_id, **{name: told[name] for name in kept}, "notes": told.get("notes", []),
            "value": sum(row["value"] for row in made.rows), "cost": sum(row["cost"] for row in made.rows),
            "status": status, "sentence": sentence, "has_passed": made.has_passed(now), "instead": self.instead,
            "next": after, "steps": [_step(one) for one in self.steps], "rows": [self._row(row) for row in made.rows],
        }  # fmt: skip

    def is_good(self, blotter: Blotter) -> bool:
        """Whether their file was exported, and the book has not decided anew since they were made. Orders that close
        what is held follow no target."""
        desks = desks_of(blotter.store.state.issued)
        own = [part for _, one, part in desks if one.record < self.number]
        same = not own or own[-1] == desks[-1][2]
        return self.made.status == "exported" and (same or self.made.content["halt"] is not None)

    def superseded(self, blotter: Blotter, now: datetime) -> str:
        """That the book has decided anew since orders were made whose file may still be open at a moment; "" where it
        has not, or nothing of them is open."""
        made = self.made
        rows = [row for row in map(self._row, made.rows) if row["left"]]
        opens = [one for one in (datetime.fromisoformat(row["send_before"]) for row in rows) if one >= now]
        if made.status != "exported" or not opens or self.is_good(blotter):
            return ""
        last = desks_of(blotter.store.state.issued)[-1][1]
        exported = blotter.exports(id=made.orders_id)[0]["now"]
        symbols = names_of(sorted({row["symbol"] for row in rows}))
        new = "" if self.fills else f", then `{withdrawing(made.store, made.orders_id)}` makes room for new orders"
        return (
            f"The exported file is out of date: orders {made.orders_id} of the account {made.account!r} were exported "
            f"at {exported[:16].replace('T', ' ')} UTC, and at {last.now[:16].replace('T', ' ')} UTC the book decided "
            f"anew. What of them is open ({symbols}) can be filled until {max(opens):%Y-%m-%d %H:%M} UTC: cancel it "
            f"where it no longer fits{new}."
        )

    def _row(self, row: Event) -> Row:
        own = self.fills.get(row["order_id"], ())
        filled = sum((one.units for one in own), 0.0)
        price = sum(one.units * one.price for one in own) / filled if filled else None
        return {
            **row, "filled": filled, "left": rest_of(row, {row["order_id"]: filled}), "filled_price": price,
            **({} if own else {"missing": {"filled_price": NOTHING_FILLED}}),
        }  # fmt: skip

    def what_next(self, blotter: Blotter, now: datetime) -> tuple[str, str, list[Row]]:
        """Status, a sentence, and what can be done."""
        status, sentence, after = self._what_next(blotter, now)
        counted_open = len(self.made.content["open"])
        counts = f" They take {counted(counted_open, 'open order')} as filled." if counted_open else ""
        return status, " ".join(filter(None, [f"{sentence}{counts}", self.superseded(blotter, now)])), after

    def _what_next(self, blotter: Blotter, now: datetime) -> tuple[str, str, list[Row]]:
        made = self.made
        if not made.rows:
            return "nothing to trade", "Nothing is to be traded, so that nothing needs to be exported.", []
        if made.status == "exported":
            return self._exported(blotter, now)
        status = "replaced" if self.instead else made.status
        try:
            refuse_over(blotter, made, now)
        except GatecastError as error:
            return status, _sentence(error), []
        if self.instead:
            said = f"Orders {self.instead} came in their place before anybody approved these."
            return status, said, [does("approves them all the same", made.approval)]
        first = account_row(blotter, made.account)["next"] if _has_differences(blotter, made) else []
        before = " The differences of its account come first, which nobody has explained." if first else ""
        late = [name for name, until in self.overrides.items() if until < now]
        if made.status == "proposed" or late:
            why = f"The override of {late[0]} has expired: they have to be approved again." if late else ""
            said = why or "Nobody has approved them yet."
            return status, said + before, [*first, does("approves them", made.approval)]
        said = "They are approved, and not exported."
        if made.status == "withdrawn":
            by = next(one["by"] for one in reversed(self.steps) if one["kind"] == "withdrawn")
            said = f"{by} withdrew their export: their approval stands, so that they may be exported again."
        said += before
        return status, said, [*first, does("exports them, once", made.exporting)]

    def _exported(self, blotter: Blotter, now: datetime) -> tuple[str, str, list[Row]]:
        """The same of orders that were exported."""
        made, store = self.made, self.made.store
        rows = [self._row(row) for row in made.rows]
        done, begun = sum(not row["left"] for row in rows), any(row["filled"] for row in rows)
        fills = does("tells what was filled", command("fills", store, "--file", "FILE"))
        if self.broken:
            said = f"After them the account held something else than was expected: {counted(self.broken, 'difference')}"
            return "broken", f"{said} that nobody has explained.", account_row(blotter, made.account)["next"]
        if done == len(rows):
            return "filled", "All of them are filled.", account_row(blotter, made.account)["next"]
        if begun:
            over = " The open has passed: what is left is not expected any more." if made.has_passed(now) else ""
            return (
                "filled in part",
                f"{done} of {counted(len(rows), 'order')} filled, others in part or not.{over}",
                [fills],
            )
        if made.has_passed(now):
            return "exported", "The open that they were for has passed, and no fill was told.", [fills]
        back: list[Row] = []
        said = "Their file is written, and no fill was told."
        try:
            refuse_acted_on(blotter, made, int(blotter.exports(id=made.orders_id)[0]["record"]), now)
        except GatecastError as error:
            said = f"{said} {_sentence(error)}"
        else:
            back.append(does("takes the file back, where nothing of it was sent", withdrawing(store, made.orders_id)))
        return "exported", said, [fills, *back]


def _sentence(error: GatecastError) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}"


def fills_since(blotter: Blotter, first: int) -> list[tuple[Event, Sequence[Fill]]]:
    """The records of fills from a number on, each with its fills."""
    return [(one, blotter.fills_of(one)) for one in blotter.of("fills") if one["record"] > first]


def _broken_since(blotter: Blotter, made: Orders) -> int:
    """Differences that nobody has explained of the account whose newest export these orders are, seen after it."""
    exports = blotter.exports(account=made.account)
    if not exports or exports[-1]["id"] != made.orders_id:
        return 0
    newest = blotter.of("reconciled", account=made.account)[-1:]
    return sum(
        not one.get("reason") for event in newest if event["record"] > exports[-1]["record"] for one in event["breaks"]
    )


def _step(event: Event) -> Row:
    """A record of a step, in short: who, when, and what is to be known of it."""
    return {
        "kind": event["kind"], "by": event["by"], "now": event["now"], "record": event["record"],
        "note": "; ".join(_notes(event)),
    }  # fmt: skip


def _notes(event: Event) -> Iterator[str]:
    if event.get("again"):
        yield "once more"
    if event["kind"] == "fills":
        yield f"{event['new']} new"
    for one in event.get("overrides", ()):
        yield f"{one['limit']} overridden until {one['until'][:16].replace('T', ' ')} UTC ({one['reason']})"
    if event.get("reason"):
        yield event["reason"]


def status_of(blotter: Blotter, orders_id: str) -> str:
    """exported, withdrawn, approved, proposed, or computed for orders that were not proposed."""
    if blotter.exports(id=orders_id):
        return "exported"
    kinds = ("withdrawn", "approved", "proposed")
    return next((kind for kind in kinds if blotter.of(kind, id=orders_id)), "computed")


def with_stage(blotter: Blotter, made: Orders, now: datetime, first: str = "") -> Orders:
    """Orders with their status, and where they stand and what comes next as their message, after what is said `first`;
    of orders that were not proposed that alone."""
    status = status_of(blotter, made.orders_id)
    if status == "computed":
        return replace(made, status=status, message=first)
    ahead = traded_by(blotter, made.account, made.session)
    good = ahead.made.orders_id if ahead and ahead.is_good(blotter) else ""
    event = blotter.proposed(made.orders_id)
    status, sentence, after = Stage.of(blotter, event, fills_since(blotter, event["record"])).what_next(blotter, now)
    commands = "; ".join(f"`{one['command']}` {one['does']}" for one in after)
    said = " ".join(filter(None, [first, sentence, f"Next: {commands}." if commands else ""]))
    return replace(made, status=status, message=said, next=tuple(after), exported=good)


def foremost(blotter: Blotter, stages: Iterable[Stage]) -> list[Stage]:
    """The same in the order in which they are told: the newest session first, in it what was exported and is still
    good, which is what an account trades by, then the newest proposals."""
    return sorted(stages, key=lambda one: (one.made.session, one.is_good(blotter), one.number), reverse=True)


def traded_by(blotter: Blotter, account: str, session: str) -> Stage | None:
    """The first of an account's orders of a session, see `foremost`; None without any."""
    found = [Stage.of(blotter, one, ()) for one in blotter.of("proposed", account=account, session=session)]
    return next(iter(foremost(blotter, found)), None)


def superseded(store: Store, now: datetime) -> list[str]:
    """A sentence on each account's exported file that is out of date at a moment, see `Stage.superseded`."""
    blotter = Blotter(store)
    events = {one["id"]: blotter.proposed(one["id"]) for one in blotter.exports()}
    newest = [one for one in events.values() if one["session"] >= str((now - LONGEST_OPEN).date())]
    fills = fills_since(blotter, min((one["record"] for one in newest), default=0)) if newest else []
    return [said for one in newest if (said := Stage.of(blotter, one, fills).superseded(blotter, now))]


def desks_of(issued: Sequence[Issued]) -> list[tuple[str, Issued, str | None]]:
    """Session, the record of its decision and its desk (None: an older version kept none) of each time that one was
    decided, the one that orders are made of now last.

    Of a session that was decided again with a later one, the desk that orders were made of at its own comes after.
    """
    decided = [
        (session[:10], session == one.session, one.record, one, part)
        for one in issued if one.book and one.session for session, part in {one.session: None, **one.desks}.items()
    ]  # fmt: skip
    return [(session, one, part) for session, _, _, one, part in sorted(decided, key=lambda row: row[:3])]


def withdrawing(store: Path, orders_id: str) -> str:
    """The command that takes an export back."""
    return command("withdraw", store, orders_id, "--by", "WHO", "--reason", "TEXT")


def _has_differences(blotter: Blotter, made: Orders) -> bool:
    """Whether differences of the account come first, which nobody has explained; orders that close what is held for a
    halt are made in spite of them."""
    return made.content["halt"] is None and any(account == made.account for account, _ in blotter.unexplained)


def account_row(blotter: Blotter, name: str) -> Row:
    """An account: when it was last reconciled, by whom, and what differed."""
    event = next(iter(blotter.of("reconciled", account=name)[-1:]), None)
    breaks = [dict(one) for one in event["breaks"]] if event else []
    left = [one for one in breaks if not one.get("reason")]
    exports = blotter.exports(account=name)
    if event is None:
        said = "It was never reconciled."
    elif left:
        count = counted(len(left), "difference")
        said = f"{count} that nobody has explained: orders are not made of positions that have them."
    else:
        said = "What differed is explained." if breaks else "It held what was expected."
    if event and exports and exports[-1]["record"] > event["record"]:
        said += f" Not reconciled since its export of {exports[-1]['now'][:10]}."
    what = "says why one differs, with the newest positions" if left else "compares what is held with what was expected"
    return {
        "account": name, "now": event["now"] if event else "", "by": event["by"] if event else "", "sentence": said,
        "breaks": breaks, "unexplained": len(left),
        "next": [does(what, reconciling(blotter, name))],
    }  # fmt: skip


def does(what: str, command: str) -> Row:
    """What a command does, and the command."""
    return {"does": what, "command": command}
