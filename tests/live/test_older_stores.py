"""A store that an earlier version made goes on to the bytes that one of today has; what is damaged is still named."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load, save
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.explanations import explain
from gatecast.live import parity, replay_store, today, update
from gatecast.live.gates import GATES
from gatecast.live.kept import carried_before
from gatecast.service.app import make_app
from gatecast.service.view import View
from gatecast.store import Store
from gatecast.store.artefacts import Artefacts
from gatecast.store.carried import bytes_of_carried, carried_of
from gatecast.store.journal import Journal
from tests.live.conftest import HOUR, Answer, Command

Change = Callable[[dict[str, Any], dict[str, Any]], object]
SINCE = ("spiked", "earned", "expected", "level", "kinds", "caught_up")
"""What a record says of the book since version 2."""

pytestmark = pytest.mark.filterwarnings("ignore:.*was brought from schema version 1 to 2")


def changed(content: bytes, change: Change) -> bytes:
    """A file of what the book goes on from, with its table and arrays changed."""
    arrays = load(content)
    table = json.loads(arrays["table"].tobytes())
    change(table, arrays)
    return save({**arrays, "table": np.frombuffer(json.dumps(table, sort_keys=True).encode(), np.uint8)})


def without_changes(table: dict[str, Any], arrays: dict[str, Any]) -> None:
    del table["version"], table["changed"], arrays["changed_place"], arrays["changed_units"]


def as_version_1_made_it(store: Path, change: Change = without_changes) -> Path:
    """A copy of a store without desks, changes of units, newer figures of the book, and a version in its first record.

    `change`: of each file of what the book goes on from.
    """
    old = store.with_name("older")
    shutil.copytree(store, old, ignore=shutil.ignore_patterns("journal", "index.sqlite*"))
    (old / "journal").mkdir()
    records, kept, named = [*Store.open(store).journal.records()], Artefacts(old), set[str]()
    for record in records:
        body: dict[str, Any] = json.loads(json.dumps(dict(record.body)))
        if record.kind == "created":
            del body["version"]
        if record.kind == "issued":
            del body["parts"]["desk"]
            body["book"] = {name: one for name, one in body["book"].items() if name not in SINCE}
            body["parts"]["carried"] = kept.put(changed(kept.get(body["parts"]["carried"]), change), ".safetensors")
        named |= {*Journal.open(old).append(record.kind, body, record.now, record.time).parts.values()}
    kept.discard([name for name, _ in kept.unreferenced(named)])
    about = json.loads((store / "store.json").read_bytes())
    (old / "store.json").write_text(json.dumps({**about, "version": 1}, sort_keys=True, indent=1) + "\n")
    return old


def with_gates_named(store: Path, name: str, *, desks: bool) -> Path:
    """A copy of a store whose decisions and holdings name a gate that this version does not have; with its desks or
    without."""
    old = store.with_name("renamed")
    shutil.copytree(store, old, ignore=shutil.ignore_patterns("journal", "index.sqlite*"))
    (old / "journal").mkdir()
    kept = Artefacts(old)
    for record in Store.open(store).journal.records():
        body: dict[str, Any] = json.loads(json.dumps(dict(record.body)))
        for part in ("decisions", "book"):
            if record.kind == "issued" and (there := body["parts"].get(part)):
                sink = io.BytesIO()
                table = pl.read_parquet(io.BytesIO(kept.get(there)))
                table.with_columns(gate=pl.lit(name)).write_parquet(sink)
                body["parts"][part] = kept.put(sink.getvalue(), ".parquet")
        if record.kind == "issued" and not desks:
            del body["parts"]["desk"]
        Journal.open(old).append(record.kind, body, record.now, record.time)
    return old


@pytest.fixture(scope="module")
def made(
    trained: Path, month: int, bars: pl.DataFrame, closes: list[datetime], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, pl.DataFrame]:
    """A store that has traded, with a split in it; and the bars as they were traded."""
    store = tmp_path_factory.mktemp("used") / "store"
    shutil.copytree(trained, store)
    after = (pl.col("symbol") == "B1_1") & (pl.col("time") >= closes[month - 2])
    prices = ("open", "high", "low", "close")
    traded = bars.with_columns(pl.when(after).then(pl.col(name) / 2).otherwise(name).alias(name) for name in prices)
    for number in range(month - 3, month):
        if number == month - 2:
            day, now = f"{closes[number]:%Y-%m-%d}", closes[number - 1] + 2 * HOUR
            told = ["--symbol", "B1_1", "--date", day, "--kind", "split", "--ratio", "2", "--now", str(now)]
            assert execute(["actions", "add", str(store), *told]) == 0
        update(store, traded.filter(pl.col("time") == closes[number]), now=closes[number] + HOUR)
    return store, traded


@pytest.fixture
def used(made: tuple[Path, pl.DataFrame], tmp_path: Path) -> tuple[Path, pl.DataFrame]:
    """A copy of it."""
    shutil.copytree(made[0], tmp_path / "store")
    return tmp_path / "store", made[1]


def go_on(store: Path, traded: pl.DataFrame, closes: list[datetime], month: int, gatecast: Command) -> None:
    """Dividends from before and after the split become known late; then two closes come."""
    for ex, symbol in ((month - 2, "B1_1"), (month - 1, "B1_0")):
        day, now = f"{closes[ex]:%Y-%m-%d}", closes[month - 1] + 2 * HOUR
        told = ("--kind", "dividend", "--cash", 0.5, "--now", now)
        assert gatecast("actions", "add", store, "--symbol", symbol, "--date", day, *told).status == 0
    for number in (month, month + 1):
        update(store, traded.filter(pl.col("time") == closes[number]), now=closes[number] + HOUR)


def test_an_older_store_goes_on_to_the_bytes_of_one_of_today(
    used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int, gatecast: Command
) -> None:
    store, traded = used
    old = as_version_1_made_it(store)
    assert [one for one in Store.faults(old) if not one.is_harmless] == []  # before anybody has opened it
    for record in (None, Store.open(store).state.issued[-1].record):
        mine, theirs = (carried_before(Store.open(one), record) for one in (old, store))
        assert [*map(bytes_of_carried, mine)] == [*map(bytes_of_carried, theirs)]
    assert any(len(one.line.account.changes) > 3 for one in mine)
    for one in (old, store):
        go_on(one, traded, closes, month, gatecast)
    ours, expected = (Store.open(one).state.issued[-2:] for one in (old, store))
    for one, other in zip(ours, expected, strict=True):
        for name in ("decisions", "pieces", "book", "carried", "desk", "session", "until"):
            assert getattr(one, name) == getattr(other, name)
    record = next(Store.open(old).journal.records(since=ours[0].record))
    assert sum("units held before its date" in one for one in record.body["book"]["findings"]) == 2
    assert Store.open(old).check() == []
    now = closes[month + 1] + HOUR
    assert parity(old, last=5, now=now).equal
    assert replay_store(old, last=5, now=now).equal
    assert today(old, now=now).rows


@pytest.mark.parametrize("desks", [True, False])
def test_a_gate_of_another_version_is_told_as_such_and_never_as_another_gate(
    desks: bool, used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int
) -> None:
    """The same decisions under the name of no gate: nothing of them changes but what is said of the gate."""
    old, now = with_gates_named(used[0], "fee", desks=desks), closes[month - 1] + HOUR
    earlier = "a gate of an earlier version ('fee')"
    view, ours = View(Store.open(old), now), today(used[0], now=now)
    for row, mine in zip(view.today()["decisions"], ours.rows, strict=True):
        assert row["gate_sentence"] == earlier
        assert not any(sentence in row["why"] for sentence in GATES.values())
        assert (row["cut_by"], row["limited_by"]) == (
            (mine["cut_by"], mine["limited_by"]) if desks else ("fee", earlier)
        )
    risk = view.today()["risk"]
    assert risk["bound"] == (
        View(Store.open(used[0]), now).today()["risk"]["bound"] if desks else {earlier: len(ours.rows)}
    )
    for one in explain(old, now=now).explanations:
        said = {step.gate: step.sentence for step in one.decision.steps}
        assert said["fee"] == earlier
        assert not {*said} & {*GATES}
    assert parity(old, last=5, now=now).equal
    assert replay_store(old, last=5, now=now).equal
    client = TestClient(make_app(old, now=now), base_url="http://127.0.0.1")
    for path in ("/", "/symbols/B1_0"):
        assert escape(earlier[2:]).replace("&#x27;", "&#39;") in client.get(path).text
    assert client.get("/api/symbols").json()["symbols"][0]["gate_sentence"] == earlier


def test_of_what_an_older_store_did_not_keep_it_is_said_what_to_do(
    used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int, gatecast: Command, tmp_path: Path
) -> None:
    store, traded = used
    old = as_version_1_made_it(store)

    def orders(number: int) -> Answer:
        now = closes[number] + HOUR
        (tmp_path / "held.csv").write_text(f"# as_of: {closes[number]:%Y-%m-%dT%H:%M}+00:00\nsymbol,units\nB1_0,0\n")
        told = ("--positions", tmp_path / "held.csv", "--account", "a", "--capital", 1e6)
        return gatecast("orders", old, *told, "--now", now, "--json")

    refused = orders(month - 1)
    assert refused.status == 2
    assert "kept nothing for orders. The next `gatecast update` does" in " ".join(refused.err.split())
    update(old, traded.filter(pl.col("time") == closes[month]), now=closes[month] + HOUR)
    assert orders(month).status == 0


def infinite_since(session: str) -> Change:
    """Cash without bound in what the book goes on from, of sessions from one on."""

    def change(table: dict[str, Any], arrays: dict[str, Any]) -> None:
        if table["session"][:10] >= session:
            arrays["numbers"] = np.array([np.inf, *arrays["numbers"][1:]])

    return change


def test_a_book_without_bound_is_decided_again_from_a_session_before(
    used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int
) -> None:
    store, traded = used
    old = as_version_1_made_it(store, infinite_since(f"{closes[month - 2]:%Y-%m-%d}"))
    with pytest.raises(StoreError, match=r"`gatecast update .*decides again from a session before it"):
        today(old, now=closes[month - 1] + HOUR)
    assert any("infinity" in one.sentence for one in Store.open(old).check())
    for one in (old, store):
        told = update(one, traded.filter(pl.col("time") == closes[month]), now=closes[month] + HOUR)
        assert (one == old) == any("is decided again from the session after" in said for said in told.warnings)
        assert told.book is not None
    mine, theirs = (carried_before(Store.open(one))[-1] for one in (old, store))
    assert bytes_of_carried(mine) == bytes_of_carried(theirs)
    assert Store.open(old).check() == []
    again = update(old, traded.filter(pl.col("time") == closes[month]), now=closes[month] + 2 * HOUR)
    assert not any("decided again" in said for said in again.warnings)
    assert today(old, now=closes[month] + 2 * HOUR).book is not None
    assert parity(old, last=1, now=closes[month] + 2 * HOUR).equal


def test_a_book_without_any_bound_names_the_way_to_a_new_store(
    used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int
) -> None:
    store, traded = used
    old = as_version_1_made_it(store, infinite_since(""))
    before = Store.open(old).state.issued
    with pytest.raises(StoreError, match=r"gatecast store export .*gatecast update NEW"):
        update(old, traded.filter(pl.col("time") == closes[month]), now=closes[month] + HOUR)
    assert Store.open(old).state.issued == before


def test_a_file_without_a_version_that_has_all_of_today_is_read(used: tuple[Path, pl.DataFrame]) -> None:
    old = as_version_1_made_it(used[0], lambda table, _: table.pop("version"))
    mine, theirs = (carried_before(Store.open(one)) for one in (old, used[0]))
    assert [*map(bytes_of_carried, mine)] == [*map(bytes_of_carried, theirs)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table, arrays: (without_changes(table, arrays), arrays.pop("units")), "lacks the array 'units'"),
        (lambda _, arrays: arrays.pop("changed_units"), "lacks the array 'changed_units'"),
        (lambda table, _: table.update(version=1, changed=[]), "'changed_place' is int64"),
        (lambda table, _: table.update(version=3), "version 3, this gatecast reads up to 2"),
        (lambda table, _: table.update(version=0), "'version'"),
    ],
)
def test_what_is_damaged_is_named_and_nothing_changes(
    change: Change, said: str, used: tuple[Path, pl.DataFrame], closes: list[datetime], month: int
) -> None:
    store, traded = used
    old = as_version_1_made_it(store, change)
    assert said in " ".join(fault.sentence for fault in Store.faults(old))
    before = len(Store.open(old).state.issued)
    with pytest.raises(StoreError, match=said):
        update(old, traded.filter(pl.col("time") == closes[month]), now=closes[month] + HOUR)
    assert len(Store.open(old).state.issued) == before


def test_what_an_older_file_is_read_with_is_asked_for_once_and_only_there(used: tuple[Path, pl.DataFrame]) -> None:
    opened, asked = Store.open(used[0]), list[object]()
    content = opened.artefacts.get(str(opened.state.issued[-1].carried))
    for one in (content, changed(content, without_changes)):
        found = carried_of(one, lambda names, day: asked.append((tuple(names), day)) or ())
    assert asked == [(found.line.names, found.day)]
    assert found.line.account.changes == ()
    assert found.day - timedelta(days=1) < found.close.date()
