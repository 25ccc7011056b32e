"""A desk at work on a store, for tests: its files, and the commands that it gives."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.live.conftest import HOUR, Answer, Command

NEXT_OPEN = timedelta(hours=18)
"""From a close to a moment after the next open."""


def text_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}+00:00"


class Desk(NamedTuple):
    """A store with a decision, the command, and a folder for files."""

    store: Path
    command: Command
    folder: Path
    close: datetime

    @property
    def day(self) -> str:
        return str(self.close.date())

    def held(self, units: dict[str, object] | None = None, **about: object) -> Path:
        """A file of positions after the session."""
        units = units or {}
        told = {"as_of": self.day, "account": "A1", "currency": "USD", "positions": len(units), **about}
        lines = [f"# {name}: {value}" for name, value in told.items() if value is not None]
        return self.write("held.csv", [*lines, "symbol,units", *(f"{one},{count}" for one, count in units.items())])

    def write(self, name: str, lines: list[str]) -> Path:
        (self.folder / name).write_text("\n".join([*lines, ""]))
        return self.folder / name

    def orders(self, held: Path, *words: object, capital: float = 1e6, after: timedelta = HOUR) -> Answer:
        """`gatecast orders`, an hour after the close; ann exports."""
        words = (*words, "--by", "ann") if "--out" in words and "--by" not in words else words
        now = text_of(self.close + after)
        return self.command("orders", self.store, "--positions", held, "--capital", capital, "--now", now, *words)

    def do(self, *words: object, after: timedelta = HOUR) -> Answer:
        """Another command on the store."""
        return self.command(words[0], self.store, *words[1:], "--now", text_of(self.close + after))

    def export(self, held: Path | None = None, name: str = "orders.csv", **more: Any) -> list[dict[str, str]]:
        """Proposes, approves and exports; the rows of the file."""
        held = held or self.held()
        made = self.orders(held, "--json", **more)
        assert made.status == 0, made.err
        assert self.do("approve", made.json["id"], "--by", "ann").status == 0
        out = self.folder / name
        done = self.orders(held, "--out", out, "--json", **more)
        assert done.status == 0, done.err
        assert done.json["status"] == ("exported" if done.json["orders"] else "nothing to trade")
        return list(csv.DictReader(out.read_text().splitlines()[1:]))

    def none_open(self) -> Path:
        """A file that says that no order is open."""
        return self.write("none.csv", ["# positions: 0", "order_id,symbol,side,remaining"])

    def fills(self, rows: list[dict[str, str]], moment: datetime, share: float = 1.0, name: str = "f") -> Path:
        """A file that fills orders at their limit prices."""
        lines = ["fill_id,order_id,symbol,side,units,price,time"]
        lines += [
            f"{name}{row['order_id']},{row['order_id']},{row['symbol']},{row['side']},"
            f"{float(row['units']) * share:g},{row['limit_price']},{text_of(moment)}"
            for row in rows
        ]
        return self.write(f"{name}.csv", lines)


def approved_and_exported(desk: Desk, held: Path, name: str) -> Answer:
    """Orders where nothing is open, approved and exported."""
    made = desk.orders(held, "--open-orders", desk.none_open(), "--json").json
    desk.do("approve", made["id"], "--by", "ann")
    return desk.orders(held, "--open-orders", desk.none_open(), "--out", desk.folder / name)
