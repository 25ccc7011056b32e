"""A desk's days on a store: propose, approve, export, fill, reconcile, halt; and what operators get wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from gatecast.live import add_action, proposed_orders
from gatecast.live.blotter import Blotter
from gatecast.live.book import holdings_of
from gatecast.live.settling import fills as store_fills
from gatecast.live.settling import halt
from gatecast.store import Store
from gatecast.store.journal import canonical
from tests.live.conftest import HOUR, Answer, Command
from tests.live.test_book_of_a_store import Feed


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
        """`gatecast orders`, an hour after the close."""
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
        assert done.json["status"] == "exported"
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


@pytest.fixture
def desk(store: Path, gatecast: Command, tmp_path: Path, closes: list[datetime], month: int) -> Desk:
    return Desk(store, gatecast, tmp_path, closes[month - 4])


NEXT_OPEN = timedelta(hours=18)
"""From a close to a moment after the next open."""


# ── a morning ─────────────────────────────────────────────────────────────────────────────────────


def test_orders_are_proposed_approved_and_exported_once(desk: Desk) -> None:
    held, out = desk.held(), desk.folder / "orders.csv"
    first, second = (desk.orders(held, "--format", "csv") for _ in range(2))
    assert first.out == second.out
    assert "never trades" in first.err
    made = desk.orders(held, "--json").json
    assert made["status"] == "proposed"
    early = desk.orders(held, "--out", out)
    assert early.status == 2
    assert "proposed and not approved" in early.err
    assert not out.exists()
    assert desk.do("approve", made["id"], "--by", "ann").status == 0
    assert desk.orders(held, "--out", out).status == 0
    assert out.read_text() == first.out
    again = desk.orders(held, "--out", desk.folder / "twice.csv")
    assert again.status == 2
    assert "exported by unnamed at" in " ".join(again.err.split())
    assert not (desk.folder / "twice.csv").exists()
    assert desk.orders(held, "--out", desk.folder / "twice.csv", "--again", after=NEXT_OPEN).status == 0
    assert (desk.folder / "twice.csv").read_bytes() == out.read_bytes()
    kinds = [one["kind"] for one in Store.open(desk.store).state.orders]
    assert kinds == ["proposed", "approved", "exported", "exported"]
    assert [one["by"] for one in Store.open(desk.store).state.orders] == ["unnamed", "ann", "unnamed", "unnamed"]
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []


def test_a_first_session_buys_what_the_book_buys(desk: Desk) -> None:
    made = desk.orders(desk.held(), "--json").json
    book = holdings_of(Store.open(desk.store)).filter(pl.col("session") == desk.close.date())
    trades = {row["symbol"]: row["trade"] for row in book.to_dicts()}
    found = {row["symbol"]: row["units"] * (1 if row["side"] == "buy" else -1) for row in made["orders"]}
    assert found == trades
    assert made["cost"] == pytest.approx(sum(row["cost"] for row in made["orders"]))
    for row in made["orders"]:
        assert row["target_units"] == row["held"] + row["open_units"] + found[row["symbol"]]
        assert row["limit_price"] == pytest.approx(
            row["last_close"] * (1.05 if row["side"] == "buy" else 0.95), rel=1e-5
        )


def test_orders_day_by_day_lead_to_the_holdings_of_the_book(
    desk: Desk, feed: Feed, closes: list[datetime], month: int
) -> None:
    """Positions, orders, fills and positions again, with the book's equity as capital, from update to update."""
    held: dict[str, float] = {}
    for number in range(month - 4, month + 3):
        if number > month - 4:
            feed(number)
        today, store = desk._replace(close=closes[number]), Store.open(desk.store)
        book = holdings_of(store).filter(pl.col("session") == closes[number].date())
        assert {row["symbol"]: row["units"] for row in book.to_dicts() if row["units"]} == held
        equity = [one for one in store.journal.records() if one.kind == "issued"][-1].body["book"]["equity"]
        rows = today.export(today.held(dict(held)), f"{number}.csv", capital=equity)
        at = closes[number] + NEXT_OPEN
        assert (
            not rows
            or today.do("fills", "--file", today.fills(rows, at, name=f"f{number}"), after=NEXT_OPEN).status == 0
        )
        for row in rows:
            signed = float(row["units"]) * (1 if row["side"] == "buy" else -1)
            held[row["symbol"]] = held.get(row["symbol"], 0.0) + signed
    assert len({one["session"] for one in Store.open(desk.store).state.orders if one["kind"] == "exported"}) == 7


def test_a_past_session_gives_its_file_byte_for_byte(
    desk: Desk, feed: Feed, closes: list[datetime], month: int, bars: pl.DataFrame
) -> None:
    held, out = desk.held(), desk.folder / "orders.csv"
    desk.export(held)
    feed(month - 3)
    before = Store.open(desk.store).state.number
    later = desk.orders(held, "--as-of", desk.day, "--format", "csv", after=timedelta(days=9))
    assert later.out == out.read_text()
    assert Store.open(desk.store).state.number == before


def test_what_is_open_counts_at_what_is_left_of_it(desk: Desk) -> None:
    whole = {row["symbol"]: row for row in desk.orders(desk.held(), "--json").json["orders"]}
    left = desk.write("open.csv", ["order_id,symbol,side,remaining", "x1,B1_0,buy,100", "x2,B1_1,sell,10"])
    found = {row["symbol"]: row for row in desk.orders(desk.held(), "--open-orders", left, "--json").json["orders"]}
    assert found["B1_0"]["units"] == whole["B1_0"]["units"] - 100
    assert found["B1_1"]["units"] == whole["B1_1"]["units"] + 10
    assert {row["target_units"] for row in found.values()} == {row["target_units"] for row in whole.values()}


def test_partial_fills_are_added_and_the_same_again_is_seen(desk: Desk) -> None:
    rows, at = desk.export(), desk.close + NEXT_OPEN
    first = desk.fills(rows, at, share=0.5)
    assert desk.do("fills", "--file", first, "--json", after=NEXT_OPEN).json["new"] == 2
    again = desk.do("fills", "--file", first, "--json", after=NEXT_OPEN).json
    assert (again["new"], again["seen"]) == (0, 2)
    rest = desk.do("fills", "--file", desk.fills(rows, at, share=0.5, name="g"), "--json", after=NEXT_OPEN).json
    assert [one["left"] for one in rest["orders"]] == [0.0, 0.0]
    assert [one["kind"] for one in Store.open(desk.store).state.orders][-2:] == ["fills", "fills"]


def test_a_stale_fill_is_told(desk: Desk) -> None:
    rows, late = desk.export(), timedelta(days=5)
    done = desk.do("fills", "--file", desk.fills(rows, desk.close + late), "--json", after=late)
    assert done.status == 0
    assert "stale" in done.json["warnings"][0]


def test_a_break_is_refused_until_it_is_explained(desk: Desk, feed: Feed, closes: list[datetime], month: int) -> None:
    rows = desk.export()
    desk.do("fills", "--file", desk.fills(rows, desk.close + NEXT_OPEN), after=NEXT_OPEN)
    units: dict[str, object] = {row["symbol"]: float(row["units"]) for row in rows}
    feed(month - 3)
    today = desk._replace(close=closes[month - 3])
    units["B1_0"] = float(str(units["B1_0"])) - 7
    held = today.held(units)
    refused = today.orders(held)
    assert refused.status == 2
    assert "Nobody has explained it" in refused.err
    told = today.do("reconcile", "--positions", held, "--json")
    assert told.status == 1
    assert [(one["symbol"], one["found"] - one["expected"]) for one in told.json["breaks"]] == [("B1_0", -7.0)]
    assert [(one, gap.symbol) for one, gap in Blotter(Store.open(desk.store)).unexplained] == [("A1", "B1_0")]
    explained = today.do("reconcile", "--positions", held, "--explain", "B1_0", "given away", "--by", "ann", "--json")
    assert explained.status == 0
    assert explained.json["breaks"][0]["reason"] == "given away"
    assert Blotter(Store.open(desk.store)).unexplained == []
    assert today.orders(held).status == 0


def test_a_split_between_is_part_of_what_is_expected(desk: Desk) -> None:
    desk.do("reconcile", "--positions", desk.held({"B1_0": 100}))
    later = desk.close + timedelta(days=4)
    add_action(desk.store, symbol="B1_0", day=later.date(), kind="split", ratio=4.0, now=desk.close + 2 * HOUR)
    day = later.date()
    one = desk.held({"B1_0": 400}, as_of=day, splits_until=day)
    assert desk.do("reconcile", "--positions", one, "--json", after=timedelta(days=5)).json["clean"]
    other = desk.do("reconcile", "--positions", desk.held({"B1_0": 100}, as_of=day), "--json", after=timedelta(days=6))
    assert [(one["expected"], one["found"]) for one in other.json["breaks"]] == [(400.0, 100.0)]


def test_a_halt_stops_everything_and_flattening_closes_all(desk: Desk) -> None:
    held = desk.held({"B1_0": 300, "B1_1": -50})
    assert desk.do("halt", "--by", "ann", "--reason", "odd feed", "--json").json["halted"]
    assert "is halted by ann" in desk.orders(held).err
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    rows = desk.export(held)
    assert {row["symbol"]: (row["side"], float(row["units"])) for row in rows} == {
        "B1_0": ("sell", 300.0), "B1_1": ("buy", 50.0),
    }  # fmt: skip
    assert desk.do("halt", "--by", "bob", "--reason", "over", "--release").status == 0
    assert desk.orders(held, "--open-orders", desk.none_open()).status == 0
    assert desk.do("halt", "--by", "bob", "--reason", "over", "--release").status == 2


def test_a_session_has_one_file_whatever_the_halts(desk: Desk) -> None:
    """Everything would be sold twice."""
    held = desk.held({"B1_0": 300, "B1_1": -50})
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    rows = desk.export(held)
    desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    desk.do("halt", "--by", "bob", "--reason", "out again", "--flatten")
    unsaid = desk.orders(held)
    assert unsaid.status == 2
    assert "say what is open now with --open-orders" in " ".join(unsaid.err.split())
    lines = [f"{row['order_id']},{row['symbol']},{row['side']},{row['units']}" for row in rows]
    still = desk.write("open.csv", ["order_id,symbol,side,remaining", *lines])
    assert desk.orders(held, "--open-orders", still, "--json").json["orders"] == []
    same = desk.orders(held, "--open-orders", desk.none_open(), "--json").json["orders"]
    assert [one["order_id"] for one in same] == [row["order_id"] for row in rows]
    for _ in ("flattened once more", "released"):
        answer = approved_and_exported(desk, held, "more.csv")
        assert answer.status == 2
        assert "a session has one file" in " ".join(answer.err.split())
        desk.do("halt", "--by", "ann", "--reason", "mended", "--release")
    assert not (desk.folder / "more.csv").exists()
    assert len([one for one in Store.open(desk.store).state.orders if one["kind"] == "exported"]) == 1


def test_flattening_after_an_export_needs_what_is_open_and_counts_it(desk: Desk) -> None:
    held = desk.held({"B1_0": 300})
    bought = {row["symbol"]: float(row["units"]) * (1 if row["side"] == "buy" else -1) for row in desk.export(held)}
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert "was exported and may be open until" in " ".join(desk.orders(held).err.split())
    cancelled = desk.orders(held, "--open-orders", desk.none_open(), "--json").json["orders"]
    assert [(one["symbol"], one["side"], one["units"]) for one in cancelled] == [("B1_0", "sell", 300.0)]
    row = desk.orders(held, "--open-orders", desk.none_open(), "--json").json
    left = desk.write("open.csv", ["order_id,symbol,side,remaining", f"x,B1_0,buy,{bought['B1_0']:g}"])
    (both,) = desk.orders(held, "--open-orders", left, "--json").json["orders"]
    assert (both["side"], both["units"]) == ("sell", 300.0 + bought["B1_0"])
    desk.do("approve", row["id"], "--by", "ann")
    out = ("--open-orders", desk.none_open(), "--out", desk.folder / "flat.csv")
    assert desk.orders(held, *out).status == 0


def test_nothing_need_be_said_of_orders_that_are_filled(desk: Desk) -> None:
    rows = desk.export(desk.held(as_of=text_of(desk.close)))
    units: dict[str, object] = {row["symbol"]: float(row["units"]) for row in rows if row["side"] == "buy"}
    assert len(units) == len(rows)
    half, whole = desk.close + timedelta(minutes=30), desk.close + timedelta(minutes=60)
    assert desk.do("fills", "--file", desk.fills(rows, half, share=0.5)).status == 0
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    assert "may be open until" in desk.orders(desk.held(units, as_of=text_of(half))).err
    assert desk.do("fills", "--file", desk.fills(rows, whole, share=0.5, name="g")).status == 0
    early = desk.orders(desk.held(units, as_of=text_of(half)), after=2 * HOUR)
    assert early.status == 2
    assert "before the fill g" in " ".join(early.err.split())
    sold = desk.orders(desk.held(units, as_of=text_of(whole)), "--json", after=2 * HOUR)
    assert sold.status == 0, sold.err
    assert {one["symbol"]: one["units"] for one in sold.json["orders"]} == units


def test_an_order_that_was_exported_twice_is_filled_up_to_the_more_units(desk: Desk) -> None:
    """Cancelled, and sold to the same target when more was held: one id."""
    row = desk.export()[0]
    store, more = Store.open(desk.store), float(row["units"]) + 10
    proposed, exported = (store.state.orders[place] for place in (0, -1))
    content = Blotter(store).content(proposed)
    content["orders"] = [{**one, "units": more} for one in content["orders"] if one["order_id"] == row["order_id"]]
    part = store.put(canonical(content), ".json")
    body = {name: value for name, value in proposed.items() if name not in ("kind", "now", "record")}
    store.append("proposed", {**body, "id": "0" * 16, "parts": {"orders": part}}, desk.close + HOUR)
    body = {name: value for name, value in exported.items() if name not in ("kind", "now", "record")}
    store.append("exported", {**body, "id": "0" * 16}, desk.close + 2 * HOUR)
    account, order, when = Blotter(Store.open(desk.store)).exported()[row["order_id"]]
    assert (account, order["units"], when) == ("A1", more, desk.close + HOUR)


def test_an_explanation_explains_no_later_loss(desk: Desk) -> None:
    """Five are given away, come back, and are missing again: nobody has explained that."""

    def found(day: int, units: int, *words: str) -> Any:
        held = desk.held({"B1_0": units}, as_of=(desk.close + timedelta(days=day)).date())
        return desk.do("reconcile", "--positions", held, *words, "--json", after=timedelta(days=day + 1)).json

    found(0, 100)
    assert found(1, 95, "--explain", "B1_0", "given away")["clean"]
    assert found(2, 100, "--explain", "B1_0", "came back")["clean"]
    again = found(3, 95)
    assert not again["clean"]
    assert again["breaks"] == [{"symbol": "B1_0", "expected": 100.0, "found": 95.0, "reason": None}]


def test_differences_of_the_same_positions_are_explained_one_by_one(desk: Desk) -> None:
    later = (desk.close + timedelta(days=1)).date()

    def found(day: object, *words: str) -> Any:
        held = desk.held({"B1_0": 95, "B1_1": 20}, as_of=day)
        told = desk.do("reconcile", "--positions", held, *words, "--json", after=timedelta(days=3)).json
        return [one["reason"] for one in told["breaks"]]

    desk.do("reconcile", "--positions", desk.held({"B1_0": 100, "B1_1": 10}))
    assert found(later, "--explain", "B1_0", "given away") == ["given away", None]
    assert found(later) == ["given away", None]
    assert found(later + timedelta(days=1)) == [None, None]
    assert found(later, "--explain", "B1_1", "bought") == [None, "bought"]
    assert found(later, "--explain", "B1_0", "given away") == ["given away", "bought"]


def test_the_date_of_a_session_of_all_hours_is_its_close(desk: Desk) -> None:
    """A session that closes at midnight: the end of its date is no moment before."""
    from dataclasses import replace

    from gatecast.store.desks import bytes_of_desk
    from gatecast.trading.desk import micros_of

    store = Store.open(desk.store)
    issued = store.state.issued[-1]
    kept, limits = store.desk_of(str(issued.desk))
    midnight = desk.close + 3 * HOUR
    made = replace(kept, bars=micros_of([desk.close, midnight]))
    record = next(store.journal.records(since=issued.record))
    parts = {**record.parts, "desk": store.put(bytes_of_desk(made, limits), ".safetensors")}
    store.append("issued", {**record.body, "parts": parts}, desk.close + HOUR)
    assert desk.orders(desk.held(), after=4 * HOUR).status == 0
    early = desk.orders(desk.held(as_of=text_of(midnight - HOUR / 60)), after=4 * HOUR)
    assert "which closed at 2001-12-27 00:00 UTC" in " ".join(early.err.split())


def test_a_soft_limit_is_overridden_with_a_reason_and_an_expiry(desk: Desk, tmp_path: Path) -> None:
    held = desk.held({"B1_0": -30_000, "B1_1": -5_000})  # far from the target: more is traded than the capital
    made = desk.orders(held, "--json", capital=4e6).json
    assert {one["name"] for one in made["breaches"]} == {"turnover", "capital"}  # four times the book's equity
    refused = desk.do("approve", made["id"], "--by", "ann")
    assert refused.status == 2
    assert "soft limit turnover" in refused.err
    words = ("approve", made["id"], "--by", "ann", "--override", "turnover", "--override", "capital")
    assert "needs --reason and --until" in desk.do(*words).err
    until = text_of(desk.close + 3 * HOUR)
    assert desk.do(*words, "--reason", "first day", "--until", until).status == 0
    late = desk.orders(held, "--out", tmp_path / "a.csv", capital=4e6, after=4 * HOUR)
    assert "override has expired" in late.err
    assert desk.orders(held, "--out", tmp_path / "a.csv", capital=4e6).status == 0
    (approved,) = [one for one in Store.open(desk.store).state.orders if one["kind"] == "approved"]
    assert approved["overrides"][0]["reason"] == "first day"


def test_the_newest_orders_are_a_table(desk: Desk) -> None:
    assert proposed_orders(Store.open(desk.store)).is_empty()
    rows = desk.export()
    table = proposed_orders(Store.open(desk.store))
    assert table["order_id"].to_list() == [row["order_id"] for row in rows]
    assert set(table["status"]) == {"exported"}


def test_a_snapshot_keeps_what_happened_to_orders(desk: Desk) -> None:
    desk.export()
    store = Store.open(desk.store)
    before = store.state.orders
    store.snapshot(desk.close + 2 * HOUR)
    assert Store.open(desk.store).state.orders == before
    assert [one for one in Store.faults(desk.store) if not one.is_harmless] == []


def test_a_desk_that_was_changed_is_found(desk: Desk) -> None:
    store = Store.open(desk.store)
    file = store.artefacts.path(str(store.state.issued[-1].desk))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    answer = desk.orders(desk.held())
    assert answer.status == 2
    assert "is damaged or was changed" in " ".join(answer.err.split())


# ── what operators get wrong ──────────────────────────────────────────────────────────────────────

Mistake = Callable[[Desk], Answer]


def split_on(desk: Desk, day: datetime) -> None:
    add_action(desk.store, symbol="B1_0", day=day.date(), kind="split", ratio=4.0, now=desk.close + HOUR)


def with_split(desk: Desk, **about: object) -> Answer:
    """A split of the session itself, told as it is known: its prices already have it."""
    store = Store.open(desk.store)
    table = pl.DataFrame(
        {
            "symbol": ["B1_0"], "kind": ["split"], "date": [desk.close.date()], "value": [4.0],
            "known_at": [desk.close], "pay_date": [None], "into": [None], "ratio": [None],
        },
        schema=store.actions.schema,
    )  # fmt: skip
    store.set_actions(table, desk.close + HOUR)
    return desk.orders(desk.held({"B1_0": 10}, **about))


def exported_then(desk: Desk, *words: str, line: str, above: str = "") -> Answer:
    """A file of one fill after an export; {id}, {symbol} and {units} are of its first order."""
    row = desk.export()[0]
    other = "sell" if row["side"] == "buy" else "buy"
    at = text_of(desk.close + NEXT_OPEN)
    text = line.format(
        id=row["order_id"], symbol=row["symbol"], side=row["side"], other=other, units=row["units"], at=at
    )
    head = [*above.splitlines(), "fill_id,order_id,symbol,side,units,price,time"]
    file = desk.write("f.csv", [*head, *text.split("|")])
    return desk.do("fills", "--file", file, *words, after=NEXT_OPEN)


def restricted(desk: Desk, *symbols: str) -> Answer:
    return desk.orders(desk.held(), "--json", "--restricted", desk.write("no.csv", ["symbol", *symbols]))


def utf16(file: Path) -> Path:
    file.write_bytes(file.read_text().encode("utf-16"))
    return file


def approved(desk: Desk) -> Path:
    """Positions of which orders were approved."""
    desk.do("approve", desk.orders(desk.held(), "--json").json["id"], "--by", "ann")
    return desk.folder / "held.csv"


def to_link(desk: Desk) -> Answer:
    (desk.folder / "link.csv").symlink_to(desk.folder / "nowhere" / "orders.csv")
    return desk.orders(approved(desk), "--out", desk.folder / "link.csv")


def to_proc(desk: Desk) -> Answer:
    """A folder that takes no file: something else is in its place."""
    (desk.folder / "taken").write_text("")
    return desk.orders(approved(desk), "--out", desk.folder / "taken" / "orders.csv")


def approved_after_halt(desk: Desk) -> Answer:
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    made = desk.orders(desk.held({"B1_0": 10}), "--json").json
    desk.do("halt", "--by", "ann", "--reason", "over", "--release")
    return desk.do("approve", made["id"], "--by", "ann")


def approved_after_export(desk: Desk) -> Answer:
    made = desk.orders(desk.held({"B1_0": 5}), "--json").json
    desk.export(second := desk.held())
    assert second.exists()
    return desk.do("approve", made["id"], "--by", "ann")


def open_order(desk: Desk, *lines: str, above: str = "") -> Answer:
    file = desk.write("open.csv", [*above.splitlines(), "order_id,symbol,side,remaining", *lines])
    return desk.orders(desk.held(), "--open-orders", file)


def second_session_file(desk: Desk) -> Answer:
    """Other orders of the same session after an export."""
    desk.export()
    held = desk.held({"B1_0": 5})
    desk.do("reconcile", "--positions", held, "--explain", "B1_0", "bought by hand")
    return approved_and_exported(desk, held, "more.csv")


def approved_and_exported(desk: Desk, held: Path, name: str) -> Answer:
    """Orders where nothing is open, approved and exported."""
    made = desk.orders(held, "--open-orders", desk.none_open(), "--json").json
    desk.do("approve", made["id"], "--by", "ann")
    return desk.orders(held, "--open-orders", desk.none_open(), "--out", desk.folder / name)


def binary(desk: Desk) -> Answer:
    desk.held().write_bytes(b"symbol,units\nB1_0,\xff\xfe\x00\x01\n")
    return desk.orders(desk.folder / "held.csv")


def approved_late(desk: Desk) -> Answer:
    made = desk.orders(desk.held(), "--json").json
    return desk.do("approve", made["id"], "--by", "ann", after=timedelta(days=4))


MISTAKES: dict[str, tuple[Mistake, str]] = {
    "wrong account": (lambda d: d.orders(d.held(), "--account", "B2"), "are of the account 'A1'"),
    "wrong currency": (lambda d: d.orders(d.held(currency="EUR")), "the positions are in EUR, the book is in USD"),
    "positions of yesterday": (
        lambda d: d.orders(d.held(as_of=(d.close - timedelta(days=1)).date())), "give the positions after the close",
    ),
    "positions of the morning of the session": (
        lambda d: d.orders(d.held(as_of=text_of(d.close - 4 * HOUR))), "which closed at 2001-12-26 21:00 UTC",
    ),
    "positions of a minute before the close": (
        lambda d: d.orders(d.held(as_of=text_of(d.close - HOUR / 60))), "give the positions after the close",
    ),
    "positions of after the next open": (
        lambda d: d.orders(d.held(as_of=(d.close + timedelta(days=7)).date()), after=timedelta(days=8)),
        "after the next open",
    ),
    "positions without a moment": (lambda d: d.orders(d.held(as_of=None)), "does not say when it was so"),
    "a moment that is none": (lambda d: d.orders(d.held(as_of="28.06.2024")), "as_of is no moment"),
    "a split of the same day": (lambda d: with_split(d), "not known whether the units have it"),
    "a split between": (
        lambda d: with_split(d, splits_until=(d.close - timedelta(days=1)).date()), "between the positions",
    ),
    "a split that prices lack": (
        lambda d: (split_on(d, d.close + timedelta(days=3)),
                   d.orders(d.held({"B1_0": 40}, splits_until=(d.close + timedelta(days=3)).date())))[1],
        "the units have it already",
    ),
    "unknown symbol": (lambda d: d.orders(d.held({"B1_9": 1})), "has no symbol 'B1_9'. Did you mean"),
    "a symbol twice": (
        lambda d: d.orders(d.write("held.csv", [f"# as_of: {d.day}", "symbol,units", "B1_0,1", "B1_0,2"])),
        "the symbol has a row before",
    ),
    "units that are no number": (lambda d: d.orders(d.held({"B1_0": "NaN"})), "cell is empty"),
    "units with a comma": (lambda d: d.orders(d.held({"B1_0": '"1,000"'})), "expected a number of units"),
    "infinite units": (lambda d: d.orders(d.held({"B1_0": "1e999"})), "expected a number of units"),
    "an empty cell": (lambda d: d.orders(d.held({"B1_0": ""})), "the cell is empty"),
    "a file cut short": (lambda d: d.orders(d.held({"B1_0": 1}, positions=2)), "it says 2 positions and has 1"),
    "an empty file": (lambda d: d.orders(d.held(positions=None)), "there is no position in it"),
    "bytes that are no text": (binary, "not UTF-8"),
    "no such file": (lambda d: d.orders(d.folder / "none.csv"), "no such file with positions"),
    "no column of units": (
        lambda d: d.orders(d.write("held.csv", [f"# as_of: {d.day}", "symbol,shares", "B1_0,1"])), "no column units",
    ),
    "a price that is off": (
        lambda d: d.orders(d.write("held.csv", [f"# as_of: {d.day}", "symbol,units,price", "B1_0,10,7.5"])),
        "the positions say a price of 7.5",
    ),
    "a value that is off": (
        lambda d: d.orders(d.write("held.csv", [f"# as_of: {d.day}", "symbol,units,value", "B1_0,10,1e6"])),
        "the positions say a value of",
    ),
    "capital in thousands": (lambda d: d.orders(d.held({"B1_0": 4000}), capital=1000), "times the capital"),
    "no capital": (lambda d: d.orders(d.held(), capital=-5), "expected the money of the account"),
    "a restricted symbol in other letters": (lambda d: restricted(d, "b1_1"), "the restricted list has 'b1_1'"),
    "a restricted list with a header alone": (lambda d: restricted(d), "there is no symbol in it"),
    "a misspelt line above the table": (
        lambda d: d.orders(d.held(acount="B2")), "nothing is known of 'acount'. Did you mean 'account'?",
    ),
    "a currency after an equals sign": (
        lambda d: d.orders(d.write("held.csv", [f"# as_of: {d.day}", "# Currency = EUR", "symbol,units", "B1_0,1"])),
        "the positions are in EUR",
    ),
    "another currency in UTF-16": (lambda d: d.orders(utf16(d.held(currency="EUR"))), "the positions are in EUR"),
    "a file cut short in UTF-16": (lambda d: d.orders(utf16(d.held({"B1_0": 1}, positions=2))), "2 positions"),
    "many lines above the table": (
        lambda d: d.orders(d.write("held.csv", [*["#"] * 70, "symbol,units", "B1_0,1"])), "no table yet",
    ),
    "open orders of another account": (lambda d: open_order(d, "a,B1_0,buy,1", above="# account: B7"), "not of 'A1'"),
    "an id that is too long": (lambda d: open_order(d, f"{'a' * 1001},B1_0,buy,1"), "at most 200 are kept"),
    "a sign of terminals in an id": (lambda d: open_order(d, "a\x1b[2J,B1_0,buy,1"), "it holds the sign '\\x1b'"),
    "a new account": (
        lambda d: (d.orders(d.held()), d.orders(d.held(account="A11")))[1], "is new in",
    ),
    "a new account to reconcile": (
        lambda d: (d.orders(d.held()), d.do("reconcile", "--positions", d.held(account="A11")))[1], "is new in",
    ),
    "an account with a byte that is no text": (
        lambda d: d.orders(d.held(account=None), "--account", "x\udcff"), "it holds the sign '\\udcff'",
    ),
    "a blank account": (lambda d: d.orders(d.held(account=None), "--account", " "), "it is empty"),
    "a reason of two lines": (lambda d: d.do("halt", "--by", "ann", "--reason", "a\nb"), "it holds the sign '\\n'"),
    "a capital of nothing": (lambda d: d.orders(d.held(), capital=1e-300), "1 or more"),
    "a link to nothing": (lambda d: to_link(d), "is a link to"),
    "out to a hyphen": (lambda d: d.orders(d.held(), "--out", "-"), "a file was expected"),
    "out to a place that takes no file": (lambda d: to_proc(d), "Nothing was exported"),
    "approved after the halt": (approved_after_halt, "a halt that was released"),
    "approved after the export of others": (approved_after_export, "were exported already"),
    "a fill of another account": (
        lambda d: exported_then(d, line="1,{id},{symbol},{side},1,9,{at}", above="# account: B7"),
        "of the account 'B7'",
    ),
    "a fill with an id that is too long": (
        lambda d: exported_then(d, line="x" * 1001 + ",{id},{symbol},{side},1,9,{at}"), "at most 200 are kept",
    ),
    "a symbol left out that is none": (lambda d: d.orders(d.held(), "--without", "SPY"), "has no symbol 'SPY'"),
    "an open order twice": (lambda d: open_order(d, "a,B1_0,buy,1", "a,B1_0,buy,1"), "the order has a row before"),
    "an open order without a side": (lambda d: open_order(d, "a,B1_0,long,1"), "a side is buy or sell"),
    "the open has passed": (lambda d: d.orders(d.held(), after=timedelta(days=4)), "the prices are stale"),
    "approved too late": (approved_late, "has passed"),
    "approved by nobody": (
        lambda d: d.do("approve", d.orders(d.held(), "--json").json["id"], "--by", " "), "it is empty",
    ),
    "unknown orders": (lambda d: d.do("approve", "0123456789abcdef", "--by", "ann"), "were proposed"),
    "not exported, and again": (
        lambda d: d.orders(d.held(), "--out", d.folder / "a.csv", "--again"), "were never exported",
    ),
    "a second file of a session": (second_session_file, "a session has one file"),
    "a fill of an unknown order": (
        lambda d: exported_then(d, line="1,ffff,{symbol},{side},1,9,{at}"), "was not exported",
    ),
    "a fill of the other side": (
        lambda d: exported_then(d, line="1,{id},{symbol},{other},1,9,{at}"), "correct it",
    ),
    "a fill of too much": (
        lambda d: exported_then(d, line="1,{id},{symbol},{side},{units},9,{at}|2,{id},{symbol},{side},1,9,{at}"),
        "twice under two ids",
    ),
    "two fills under one id": (
        lambda d: exported_then(d, line="1,{id},{symbol},{side},1,9,{at}|1,{id},{symbol},{side},2,9,{at}"),
        "says something else",
    ),
    "a fill to come": (
        lambda d: exported_then(d, line="1,{id},{symbol},{side},1,9,2100-01-01T00:00+00:00"), "which is to come",
    ),
    "nothing to explain": (
        lambda d: d.do("reconcile", "--positions", d.held({"B1_0": 1}), "--explain", "B1_0", "why"),
        "nothing is to explain",
    ),
    "positions to come": (
        lambda d: d.do("reconcile", "--positions", d.held(as_of=(d.close + timedelta(days=9)).date())),
        "which is to come",
    ),
    "a file of something else in the way": (
        lambda d: (d.do("approve", d.orders(d.held(), "--json").json["id"], "--by", "ann"),
                   d.orders(d.held(), "--out", d.folder / "held.csv"))[1],
        "is there already and something else",
    ),
    "halted without a reason": (lambda d: d.do("halt", "--by", "ann", "--reason", " "), "it is empty"),
    "the clock went back": (lambda d: d.orders(d.held(), after=-timedelta(days=2)), "before the store's newest record"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_its_refusal_and_writes_nothing(name: str, desk: Desk) -> None:
    mistake, said = MISTAKES[name]
    answer = mistake(desk)
    assert answer.status == 2
    assert said in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert answer.err.count("error:") == 1
    exports = [one for one in Store.open(desk.store).state.orders if one["kind"] in ("exported", "fills")]
    assert len(exports) == (1 if "fill" in name or "second" in name or "export of" in name else 0)


def test_a_restricted_symbol_is_left_as_it_is_and_all_others_are_traded(desk: Desk) -> None:
    whole = {row["symbol"]: row["units"] for row in desk.orders(desk.held(), "--json").json["orders"]}
    made = restricted(desk, "B1_1", "ELSE").json
    assert {row["symbol"] for row in made["orders"]} == {"B1_0"} < set(whole)
    assert "'B1_1': on the restricted list: left as it is." in made["notes"]
    assert made["notes"][-1] == "'ELSE': on the restricted list, and not in the book."
    desk.do("halt", "--by", "ann", "--reason", "out", "--flatten")
    held = desk.held({"B1_0": 300, "B1_1": -50})
    out = desk.orders(held, "--json", "--restricted", desk.folder / "no.csv").json
    assert [(row["symbol"], row["units"]) for row in out["orders"]] == [("B1_0", 300.0)]


def test_a_digit_too_many_in_the_capital_is_overridden_or_not_approved(desk: Desk) -> None:
    made = desk.orders(desk.held(), "--json", capital=1e7).json
    (breach,) = [one for one in made["breaches"] if one["name"] == "capital"]
    assert "times the book's equity" in breach["sentence"]
    refused = desk.do("approve", made["id"], "--by", "ann")
    assert refused.status == 2
    assert "--override capital" in " ".join(refused.err.split())


def test_what_is_known_to_be_held_is_reduced_whatever_the_cap_is_now(desk: Desk) -> None:
    held = desk.held({"B1_0": 1_000_000})  # many times the capital
    assert "times the capital" in " ".join(desk.orders(held).err.split())
    assert desk.do("reconcile", "--positions", held).status == 0
    made = desk.orders(held, "--json")
    assert made.status == 0, made.err
    assert {row["symbol"]: row["side"] for row in made.json["orders"]}["B1_0"] == "sell"


def test_a_new_account_is_opened_by_name_once(desk: Desk) -> None:
    desk.orders(desk.held())
    other = desk.held(account="B7")
    assert desk.orders(other, "--new-account").status == 0
    assert desk.orders(other).status == 0


def test_what_could_not_be_read_again_is_not_written(desk: Desk) -> None:
    from gatecast.errors import StoreError
    from gatecast.store.schema import PositionsFile

    store = Store.open(desk.store)
    before = sorted(desk.store.rglob("*"))
    with pytest.raises(StoreError, match="1000 characters"):
        store.put_document({"units": {"x" * 1001: 1.0}, "as_of": "2024-01-02"}, PositionsFile)
    assert sorted(desk.store.rglob("*")) == before


def test_every_refusal_is_json_as_well(desk: Desk) -> None:
    answer = desk.orders(desk.held(currency="EUR"), "--json")
    assert json.loads(answer.out)["kind"] == "SettingsError"


def test_a_missing_rate_of_a_share_that_is_held_is_refused(desk: Desk) -> None:
    """The desk as it would be where the rate of a share's currency did not come."""
    import numpy as np

    from gatecast.store.desks import bytes_of_desk
    from gatecast.trading.desk import Desk as Kept

    store = Store.open(desk.store)
    issued = store.state.issued[-1]
    kept, limits = store.desk_of(str(issued.desk))
    unknown = np.array([np.nan, 1.0])
    from dataclasses import replace

    view = replace(kept.view, price=kept.view.price * unknown, tradable=kept.view.tradable & np.isfinite(unknown))
    fixed = replace(kept.instruments, currency=("EUR", "USD"))
    made: Kept = replace(kept, view=view, rate=kept.rate * unknown, instruments=fixed)
    record = next(store.journal.records(since=issued.record))
    parts = {**record.parts, "desk": store.put(bytes_of_desk(made, limits), ".safetensors")}
    store.append("issued", {**record.body, "parts": parts}, desk.close + HOUR)
    answer = desk.orders(desk.held({"B1_0": 10}))
    assert answer.status == 2
    assert "'B1_0' is held, and there is no rate from EUR to USD" in " ".join(answer.err.split())


def test_functions_do_what_the_commands_do(desk: Desk) -> None:
    rows = desk.export()
    done = store_fills(desk.store, desk.fills(rows, desk.close + NEXT_OPEN), now=desk.close + NEXT_OPEN)
    assert (done.new, done.account) == (2, "A1")
    assert "nothing is exported" in halt(desk.store, by="ann", reason="a test", now=desk.close + NEXT_OPEN)
