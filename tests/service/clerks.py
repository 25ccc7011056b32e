"""Who gives the commands of a day on a store, for tests of the page of orders."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from served import HOUR
from starlette.testclient import TestClient

from gatecast.live import Orders, approve, export, fills, propose
from gatecast.live.positions import Fill
from gatecast.live.standing import standing
from gatecast.service.app import make_app
from gatecast.store import Store

PASSED = timedelta(hours=30)
"""From a close to a moment after the next open."""


class Clerk(NamedTuple):
    """Who gives the commands of a day on a store, an hour after its newest close."""

    store: Path
    folder: Path
    close: datetime

    @property
    def now(self) -> datetime:
        return self.close + HOUR

    def file(self, name: str, about: dict[str, object], columns: str, rows: list[tuple[object, ...]]) -> Path:
        text = io.StringIO()
        text.writelines(f"# {key}: {value}\n" for key, value in about.items())
        csv.writer(text, lineterminator="\n").writerows([columns.split(","), *rows])
        (self.folder / name).write_text(text.getvalue())
        return self.folder / name

    def held(self, units: dict[str, float], account: str = "A1") -> Path:
        about = {"as_of": self.close.date(), "account": account, "currency": "USD", "positions": len(units)}
        return self.file(f"held {account}.csv", about, "symbol,units", list(units.items()))

    def propose(self, units: dict[str, float] | None = None, **more: Any) -> Orders:
        held = self.held(units or {}, more.pop("account", "A1"))
        return propose(self.store, held, **{"capital": 1e6, "by": "ann", "now": self.now, **more})

    def approve(self, made: Orders) -> Orders:
        exceeded = {one["name"] for one in made.content["breaches"]}
        why: dict[str, Any] = {"override": sorted(exceeded), "reason": "first day", "until": self.now + HOUR}
        return approve(self.store, made.orders_id, by="bob", now=self.now, **why if exceeded else {})

    def export(self, made: Orders, name: str = "o.csv") -> Orders:
        return export(self.store, made.orders_id, self.folder / name, by="cy", now=self.now)

    def exported(self, units: dict[str, float] | None = None, **more: Any) -> Orders:
        return self.export(self.approve(self.propose(units, **more)))

    def fills(self, made: Orders, share: float = 1.0, name: str = "f") -> None:
        rows = [
            Fill(
                f"{name}{place}", row["order_id"], row["symbol"], row["side"], row["units"] * share,
                row["limit_price"] * 0.99, datetime.fromisoformat(row["send_before"]),
            ).to_dict()
            for place, row in enumerate(made.rows)
        ]  # fmt: skip
        columns = "fill_id,order_id,symbol,side,units,price,time"
        file = self.file("fills.csv", {}, columns, [tuple(row[one] for one in columns.split(",")) for row in rows])
        fills(self.store, file, by="dee", now=self.close + PASSED)

    def still_open(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """A file of orders of which nothing was filled."""
        open_now = [(row["order_id"], row["symbol"], row["side"], row["units"]) for row in rows]
        return self.file("open.csv", {"positions": len(rows)}, "order_id,symbol,side,remaining", open_now)

    def asked(self, after: timedelta = HOUR) -> TestClient:
        return TestClient(make_app(self.store, now=self.close + after), base_url="http://127.0.0.1")

    def told(self, after: timedelta = HOUR) -> Any:
        """What `/api/orders` says, but for its head."""
        return standing(Store.open(self.store), self.close + after).to_dict()

    def page(self, after: timedelta = HOUR) -> str:
        answer = self.asked(after).get("/orders")
        assert answer.status_code == 200, answer.text
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())
