"""What operators get wrong: each ends in its refusal, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gatecast.errors import StoreError
from gatecast.live import add_action
from gatecast.store import Store
from gatecast.store.desks import bytes_of_desk
from gatecast.store.schema import PositionsFile
from gatecast.trading.desk import Desk as Kept
from tests.live.conftest import HOUR, Answer
from tests.live.desk import NEXT_OPEN, Desk, approved_and_exported, text_of

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
    "units that are no number": (lambda d: d.orders(d.held({"B1_0": "NaN"})), "stands for a missing value"),
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
    "a capital beyond all": (lambda d: d.orders(d.held(), capital=1e16), "from 1 to 1e15"),
    "a restricted list of another account": (
        lambda d: d.orders(d.held(), "--restricted", d.write("no.csv", ["# account: B7", "symbol", "B1_0"])),
        "not of 'A1'",
    ),
    "explained twice": (
        lambda d: d.do("reconcile", "--positions", d.held(), *("--explain", "B1_0", "a", "--explain", "B1_0", "b")),
        "--explain is given twice",
    ),
    "a capital of nothing": (lambda d: d.orders(d.held(), capital=1e-300), "from 1 to 1e15"),
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

    store = Store.open(desk.store)
    issued = store.state.issued[-1]
    kept, limits = store.desk_of(str(issued.desk))
    unknown = np.array([np.nan, 1.0])

    view = replace(kept.view, price=kept.view.price * unknown, tradable=kept.view.tradable & np.isfinite(unknown))
    fixed = replace(kept.instruments, currency=("EUR", "USD"))
    made: Kept = replace(kept, view=view, rate=kept.rate * unknown, instruments=fixed)
    record = next(store.journal.records(since=issued.record))
    parts = {**record.parts, "desk": store.put(bytes_of_desk(made, limits), ".safetensors")}
    store.append("issued", {**record.body, "parts": parts}, desk.close + HOUR)
    answer = desk.orders(desk.held({"B1_0": 10}))
    assert answer.status == 2
    assert "'B1_0' is held, and there is no rate from EUR to USD" in " ".join(answer.err.split())
