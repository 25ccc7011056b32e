"""Orders of a session: what they are, the file of them, what became of them, and the command that comes next."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gatecast.live.blotter import Blotter
from gatecast.notebook import Shown

Form = Literal["csv", "json"]
COLUMNS = (
    "order_id", "symbol", "side", "units", "order_type", "limit_price", "currency", "time_in_force", "send_before",
    "last_close", "held", "open_units", "target_units", "value", "commission", "spread", "impact", "cost", "cost_bps",
    "gate", "reason",
)  # fmt: skip
"""Columns of a file of orders."""
NEVER_SENT = "nothing was sent to a market"


def command(name: str, store: Path, *words: str) -> str:
    """A command of gatecast on a store, as a shell takes it; words in capitals stand for what the reader gives.

    >>> command("reconcile", Path("my store"), "--positions", "FILE")
    "gatecast reconcile 'my store' --positions FILE"
    """
    return shlex.join(["gatecast", name, str(store), *words])


@dataclass(frozen=True)
class Orders(Shown):
    """Orders of a session.

    `orders_id`: of all together. `content`: what they were made of and what they are, see `store.schema.OrdersFile`.
    `status`: how far they have come, see `stages.Stage`, or computed for those of an earlier session. `wrote`: the
    file, if one was written. `message`: where they stand and what comes next, `next` the same as what each command
    `does` and the `command`. `exported`: the id of the orders of this account and session whose exported file is
    still good, "" without one; it may be another.
    """

    store: Path
    orders_id: str
    content: Mapping[str, Any]
    status: str
    message: str = ""
    wrote: Path | None = None
    next: Sequence[Mapping[str, str]] = ()
    exported: str = ""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """A row an order, see `trading.orders.Order`."""
        rows: Sequence[Mapping[str, Any]] = self.content["orders"]
        return rows

    @property
    def account(self) -> str:
        """Whose they are."""
        return str(self.content["account"])

    @property
    def session(self) -> str:
        """The day of the session whose targets they lead to."""
        return str(self.content["session"])

    def has_passed(self, now: datetime) -> bool:
        """Whether the open has passed that one of them is for."""
        return any(datetime.fromisoformat(one["send_before"]) < now for one in self.rows)

    @property
    def approval(self) -> str:
        """The command that approves them, with an override for each limit that they exceed."""
        soft = dict.fromkeys(one["name"] for one in self.content.get("breaches", ()))
        words = [word for name in soft for word in ("--override", name)]
        why = ["--reason", "TEXT", "--until", "MOMENT"] if soft else []
        return command("approve", self.store, self.orders_id, "--by", "WHO", *words, *why)

    @property
    def exporting(self) -> str:
        """The command that writes the file of them, from the same positions, once they are approved."""
        told = self.content
        words = ["--positions", "FILE", "--capital", f"{told['capital']:.15g}", "--account", self.account]
        words += ["--open-orders", "FILE"] if told["open"] else []
        words += ["--restricted", "FILE"] if told.get("restricted") else []
        words += [word for symbol in told.get("without", ()) for word in ("--without", symbol)]
        return command("orders", self.store, *words, "--as-of", self.session, "--out", "FILE", "--by", "WHO")

    def file(self, form: Form = "csv") -> bytes:
        """The orders as a file; the same orders give the same bytes."""
        told = self.content
        if form == "json":
            whole = {"id": self.orders_id, **told}
            return json.dumps(whole, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
        text = io.StringIO()
        text.write(
            f"# gatecast orders {self.orders_id}: account {told['account']}, session {told['session']}, "
            f"{len(self.rows)} orders; {NEVER_SENT}\n"
        )
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            writer.writerow([f"{one:.15g}" if isinstance(one := row[name], float) else one for name in COLUMNS])
        return text.getvalue().encode()

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "id": self.orders_id, "status": self.status, "message": self.message,
            "next": [dict(one) for one in self.next], "wrote": str(self.wrote) if self.wrote else None,
            "exported": self.exported or None, **self.content,
        }  # fmt: skip


def releasing(store: Path, record: int) -> str:
    """The command that releases the halt of a record."""
    return command("halt", store, "--by", "WHO", "--reason", "TEXT", "--release", "--record", str(record))


def reconciling(blotter: Blotter, account: str) -> str:
    """The command that compares what an account holds with what was expected, and explains the first difference that
    nobody has."""
    left = [one.symbol for name, one in blotter.unexplained if name == account]
    why = ["--explain", left[0], "REASON", "--by", "WHO"] if left else []
    return command("reconcile", blotter.store.folder, "--positions", "FILE", "--account", account, *why)
