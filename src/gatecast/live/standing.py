"""Where the orders of a store stand: those of its last sessions, what became of each, and what its accounts lack.

Nothing here writes: of each step the command is told that somebody gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gatecast.files import jsonable
from gatecast.live.blotter import Blotter
from gatecast.live.ordered import command, releasing
from gatecast.live.stages import Row, Stage, account_row, does, fills_since, foremost
from gatecast.notebook import Shown
from gatecast.store.about import about_body

if TYPE_CHECKING:
    from gatecast.store.store import Store


SESSIONS, MOST_ORDERS, MOST_EVENTS = 10, 60, 200
"""Sessions whose orders are told, the newest; most orders, counted as they were proposed; most records."""


@dataclass(frozen=True)
class Standing(Shown):
    """Where orders stand at a moment; each row has `next`: what can be done, and the command that does it.

    `session`: the newest of the book, "" without one. `orders`: a row for all that were proposed at once, in the order
    of `stages.foremost`, with `status` (see `docs/orders.md`), `sentence`, `steps` (who did what when), `rows` (its
    orders with what was filled), and whether they are `current`: of the newest session, and without newer ones in their
    place.
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
    fills = fills_since(blotter, since)
    found = foremost(blotter, [Stage.of(blotter, event, fills) for event in shown])
    events = [one for one in blotter.events if one["record"] >= since]
    moments = {
        *(datetime.fromisoformat(row["send_before"]) for one in found for row in one.made.rows),
        *(until for one in found for until in one.overrides.values()),
    }  # fmt: skip
    halts = [
        {**one, "next": [does("releases this halt", releasing(store.folder, one["record"]))]} for one in blotter.halted
    ]
    propose = command("orders", store.folder, "--positions", "FILE", "--capital", "N")
    accounts = [account_row(blotter, one) for one in blotter.accounts]
    first = [each for one in accounts if one["unexplained"] for each in one["next"]]
    return Standing(
        session,
        [{**one.to_dict(blotter, now), "current": one.made.session == session and not one.instead} for one in found],
        accounts,
        halts,
        blotter.restricted,
        [
            {"about": about_body(one["kind"], one), **{name: one[name] for name in ("record", "now", "kind")}}
            for one in events[: -MOST_EVENTS - 1 : -1]
        ],
        [*first, does("proposes orders of the newest session", propose)] if session else [],
        sorted(moments),
    )  # fmt: skip
