"""Where the orders of a store stand: those of its last sessions, what became of each, and what its accounts lack.

Nothing here writes: of each step the command is told that somebody gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gatecast.errors import GatecastError
from gatecast.files import jsonable
from gatecast.live.blotter import Blotter, rest_of
from gatecast.live.ordered import Orders, command, differences_first, reconciling, with_status
from gatecast.live.orders import refuse_acted_on, refuse_over
from gatecast.live.positions import Fill
from gatecast.notebook import Shown
from gatecast.store.about import about_body, counted

if TYPE_CHECKING:
    from gatecast.store.store import Store

    Event = Mapping[str, Any]
    Row = dict[str, Any]

SESSIONS, MOST_ORDERS, MOST_EVENTS = 10, 60, 200
"""Sessions whose orders are told, the newest; most orders, counted as they were proposed; most records."""
NOTHING_FILLED = "nothing of it was filled"


@dataclass(frozen=True)
class Standing(Shown):
    """Where orders stand at a moment; each row has `next`: what can be done, and the command that does it.

    `session`: the newest of the book, "" without one. `orders`: a row for all that were proposed at once, the newest
    session first, with `status` (see `docs/orders.md`), `sentence`, `steps` (who did what when), `rows` (its orders
    with what was filled), and whether they are `current`: of the newest session, and without newer ones in their place.
    `accounts`: what was seen when each was last reconciled. `halts`, `restricted`: see `blotter.Blotter`. `history`:
    the records since the oldest of these orders, the newest first. `moments`: those at which it will be another without
    a record, ascending: opens pass and overrides expire.
    """

    session: str
    orders: Sequence[Row]
    accounts: Sequence[Row]
    halts: Sequence[Row]
    restricted: Sequence[Mapping[str, Any]]
    history: Sequence[Row]
    next: Sequence[Row]
    moments: Sequence[datetime] = field(default=(), repr=False)

    @property
    def sentence(self) -> str:
        """Where the orders of the newest session stand, whatever the moment."""
        if not self.session:
            return "The book begins at the store's first decision: there is none yet."
        current = [one for one in self.orders if one["current"]]
        if not current:
            return f"No orders of {self.session} were proposed."
        return f"Orders of {self.session}: {', '.join(' '.join([one['account'], one['status']]) for one in current)}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        parts = {name: value for name, value in self.__dict__.items() if name != "moments"}
        found: dict[str, Any] = jsonable({"sentence": self.sentence, **parts})
        return found


def standing(store: Store, now: datetime) -> Standing:
    """Where the orders of a store stand at a moment. Raises `StoreError` where they cannot be read."""
    blotter = Blotter(store)
    session = max((one.session[:10] for one in store.state.issued if one.session), default="")
    proposed = blotter.of("proposed")
    days = sorted({one["session"] for one in proposed})[-SESSIONS:]
    shown = [one for one in proposed if one["session"] in days][-MOST_ORDERS:]
    since = min((one["record"] for one in shown), default=0)
    fills = _fills(blotter, since)
    found = [_Told.of(blotter, event, fills) for event in shown]
    found.sort(key=lambda one: (one.made.session, one.number), reverse=True)
    events = [one for one in blotter.events if one["record"] >= since]
    moments = {
        *(datetime.fromisoformat(row["send_before"]) for one in found for row in one.made.rows),
        *(until for one in found for until in one.overrides.values()),
    }  # fmt: skip
    propose = command("orders", store.folder, "--positions", "FILE", "--capital", "N")
    accounts = [_account(blotter, one) for one in blotter.accounts]
    first = [each for one in accounts if one["unexplained"] for each in one["next"]]
    return Standing(
        session,
        [{**one.to_dict(blotter, now), "current": one.made.session == session and not one.instead} for one in found],
        accounts,
        [{**one, "next": [_release(store, one["record"])]} for one in blotter.halted],
        blotter.restricted,
        [
            {"about": about_body(one["kind"], one), **{name: one[name] for name in ("record", "now", "kind")}}
            for one in events[: -MOST_EVENTS - 1 : -1]
        ],
        [*first, _does("proposes orders of the newest session", propose)] if session else [],
        sorted(moments),
    )  # fmt: skip


# ── orders ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Told:
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
    def of(cls, blotter: Blotter, event: Event, fills: Sequence[tuple[Event, Sequence[Fill]]]) -> _Told:
        """Of the record that proposed them, and all fills since."""
        name = event["id"]
        made = with_status(blotter, Orders(blotter.store.folder, name, blotter.content(event), ""))
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
        status, sentence, after = self._status(blotter, now)
        kept = ("account", "session", "currency", "capital", "halt", "breaches")
        return {
            "id": made.orders_id, **{name: told[name] for name in kept}, "notes": told.get("notes", []),
            "value": sum(row["value"] for row in made.rows), "cost": sum(row["cost"] for row in made.rows),
            "status": status, "sentence": sentence, "has_passed": made.has_passed(now), "instead": self.instead,
            "next": after, "steps": [_step(one) for one in self.steps], "rows": [self._row(row) for row in made.rows],
        }  # fmt: skip

    def _row(self, row: Event) -> Row:
        own = self.fills.get(row["order_id"], ())
        filled = sum((one.units for one in own), 0.0)
        price = sum(one.units * one.price for one in own) / filled if filled else None
        return {
            **row, "filled": filled, "left": rest_of(row, {row["order_id"]: filled}), "filled_price": price,
            **({} if own else {"missing": {"filled_price": NOTHING_FILLED}}),
        }  # fmt: skip

    def _status(self, blotter: Blotter, now: datetime) -> tuple[str, str, list[Row]]:
        """Status, a sentence, and what can be done."""
        made = self.made
        if not made.rows:
            return "nothing to trade", "Nothing is to be traded, so that nothing needs to be exported.", []
        if made.status == "exported":
            return self._exported(blotter, now)
        if self.instead:
            return "replaced", f"Orders {self.instead} came in their place before anybody approved these.", []
        withdrawn = next((one for one in reversed(self.steps) if one["kind"] == "withdrawn"), None)
        status = "withdrawn" if withdrawn else made.status
        try:
            refuse_over(blotter, made, now)
        except GatecastError as error:
            return status, _sentence(error), []
        first = _account(blotter, made.account)["next"] if differences_first(blotter, made) else []
        before = " The differences of its account come first, which nobody has explained." if first else ""
        late = [name for name, until in self.overrides.items() if until < now]
        if made.status == "proposed" or late:
            why = f"The override of {late[0]} has expired: they have to be approved again." if late else ""
            said = why or "Nobody has approved them yet."
            return status, said + before, [*first, _does("approves them", made.approval)]
        said = f"{withdrawn['by']} withdrew their export: they are approved as before." if withdrawn else ""
        said = (said or "They are approved, and not exported.") + before
        return status, said, [*first, _does("exports them, once", made.exporting)]

    def _exported(self, blotter: Blotter, now: datetime) -> tuple[str, str, list[Row]]:
        """The same of orders that were exported."""
        made, store = self.made, self.made.store
        rows = [self._row(row) for row in made.rows]
        done, begun = sum(not row["left"] for row in rows), any(row["filled"] for row in rows)
        fills = _does("tells what was filled", command("fills", store, "--file", "FILE"))
        if self.broken:
            said = f"After them the account held something else than was expected: {counted(self.broken, 'difference')}"
            return "broken", f"{said} that nobody has explained.", _account(blotter, made.account)["next"]
        if done == len(rows):
            return "filled", "All of them are filled.", _account(blotter, made.account)["next"]
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
            words = command("withdraw", store, made.orders_id, "--by", "WHO", "--reason", "TEXT")
            back.append(_does("takes the file back, where nothing of it was sent", words))
        return "exported", said, [fills, *back]


def _sentence(error: GatecastError) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}"


def _fills(blotter: Blotter, first: int) -> list[tuple[Event, Sequence[Fill]]]:
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


# ── accounts and halts ────────────────────────────────────────────────────────────────────────────


def _account(blotter: Blotter, name: str) -> Row:
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
    does = "says why one differs, with the newest positions" if left else "compares what is held with what was expected"
    return {
        "account": name, "now": event["now"] if event else "", "by": event["by"] if event else "", "sentence": said,
        "breaks": breaks, "unexplained": len(left),
        "next": [_does(does, reconciling(blotter, name))],
    }  # fmt: skip


def _release(store: Store, record: int) -> Row:
    words = ("--by", "WHO", "--reason", "TEXT", "--release", "--record", str(record))
    return _does("releases this halt", command("halt", store.folder, *words))


def _does(what: str, command: str) -> Row:
    return {"does": what, "command": command}
