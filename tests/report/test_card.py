"""The card of a store: it says what the journal says, in the same bytes each time, and nothing in it is markup."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attack.readers import make_live
from gatecast.cli.app import execute
from gatecast.errors import StoreError
from gatecast.live import add_action, update
from gatecast.report import card
from gatecast.report.card import Card, Section, _better, _changes, _currencies, _orders, _overridden
from gatecast.store import Store
from gatecast.trading.book import Book

TITLES = (
    "Purpose", "Data and licences", "Assumptions", "Rivals, and where it loses", "Known failures", "Limits", "Changes",
    "Orders", "Overrides",
)  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    make_live(folder)
    return folder


@pytest.fixture(scope="module")
def told(live: Path) -> dict[str, dict[str, Any]]:
    return {one["title"]: one for one in card(live / "live_rollback").to_dict()["sections"]}


def test_every_part_is_there_and_says_what_the_journal_says(live: Path, told: dict[str, dict[str, Any]]) -> None:
    store = Store.open(live / "live_rollback")
    assert tuple(told) == TITLES
    rows = told["Data and licences"]["rows"]
    assert [(row["asset class"], row["symbols"], row["names"]) for row in rows] == [("index", "2", "B1_0, B1_1")]
    versions = sum(one.body["counts"]["new"] for one in store.journal.records() if one.kind == "bars")
    assert f"{versions:,} versions of bars of 2 symbols" in told["Data and licences"]["said"][0]
    hashes = [one.body["data_hash"] for one in store.journal.records() if one.kind == "refit"]
    assert hashes[-1] in told["Data and licences"]["said"][2]
    scores = json.loads(store.artefacts.get(store.state.models[-1].parts["scores.json"]))
    rivals = told["Rivals, and where it loses"]
    assert [row["head"] for row in rivals["rows"]] == list(scores["verdicts"])
    assert [row["verdict"] for row in rivals["rows"]] == [one["verdict"] for one in scores["verdicts"].values()]
    assert any(scores["verdicts"]["volatility"]["sentence"] in said for said in rivals["said"])
    changes = [(row["record"], row["what"]) for row in told["Changes"]["rows"]]
    kinds = ("refit", "accepted", "refused", "rollback", "settings", "actions")
    assert changes == [(str(one.number), one.kind) for one in store.journal.records() if one.kind in kinds]
    assert f"Model {store.state.serving} is in force." in told["Changes"]["said"][0]
    assert any("evidence to 1" in said for said in told["Overrides"]["said"])
    assert any("planted" in said for said in told["Overrides"]["said"])


def test_the_models_that_lose_less_are_named_the_best_first() -> None:
    rows = [
        {"model": "ensemble", "head": "volatility", "step": 5, "loss": 0.5},
        {"model": "ridge", "head": "volatility", "step": 5, "loss": 0.4},
        {"model": "har", "head": "volatility", "step": 5, "loss": 0.3},
        {"model": "mean", "head": "volatility", "step": 5, "loss": 0.6},
        {"model": "mean", "head": "volatility", "step": 1, "loss": 0.1},
    ]
    assert _better({"models": rows}, "volatility", None) == "log-HAR, ridge regression"
    assert _better({"models": rows[3:]}, "volatility", None) == "–"
    assert _better({"models": [rows[0], rows[3]]}, "volatility", None) == "none"


def test_the_same_journal_gives_the_same_bytes_and_writes_nothing(live: Path, tmp_path: Path) -> None:
    first = card(live / "live_update")
    before = {path: path.read_bytes() for path in (live / "live_update").rglob("*") if path.is_file()}
    shutil.copytree(live / "live_update", tmp_path / "elsewhere")
    again = card(tmp_path / "elsewhere")
    assert first.markdown() == again.markdown()
    assert first.html() == again.html()
    assert {path: path.read_bytes() for path in (live / "live_update").rglob("*") if path.is_file()} == before


def test_what_changes_the_journal_changes_the_card(live: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(live / "live_update", store)
    when = datetime.fromisoformat("2001-12-28T23:30:00+00:00")
    add_action(store, symbol="B1_0", day=when.date(), kind="dividend", cash=0.5, now=when)
    found = {one["title"]: one for one in card(store).to_dict()["sections"]}
    assert found["Changes"]["rows"][-1]["what"] == "actions"
    assert "B1_0 2001-12-28" in found["Changes"]["rows"][-1]["of"]
    assert "dividend 1" in found["Data and licences"]["said"][1]


def test_currencies_are_named_with_the_rates_that_convert_them() -> None:
    symbols = {"VOD": "equity", "GBPUSD": "fx", "BTC-USDT": "crypto", "USDT-USD": "crypto", "SIE": "equity"}
    book = Book().priced_in(
        {"VOD": "GBX", "BTC-USDT": "USDT", "SIE": "EUR"}
    )  # of EUR there is no rate: not in the book

    def said(book: Book) -> list[str]:
        told: Any = SimpleNamespace(
            store=SimpleNamespace(experiment=SimpleNamespace(book=book), state=SimpleNamespace(symbols=symbols))
        )
        return _currencies(told)

    rates = "GBX by GBPUSD, USDT by USDT-USD"
    assert said(book) == [f"Prices that are not in USD are converted by the newest close of a rate: {rates}."]
    home = book.replace(money=book.money.replace(currency="GBP", currencies={"VOD": "GBX", "SIE": "GBP"}))
    assert "GBX as a hundredth of GBP" in said(home)[0]
    assert said(Book().priced_in({"SIE": "USD"})) == []


def test_a_store_without_a_model_has_a_card(live: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    update(store, live / "live_next.csv", asset_class="index", now=datetime.fromisoformat("2001-12-31T23:00:00+00:00"))
    found = {one["title"]: one for one in card(store).to_dict()["sections"]}
    assert "No model is in force" in found["Rivals, and where it loses"]["said"][0]
    assert found["Overrides"]["said"] == ["None."]


def test_overrides_name_who_and_why() -> None:
    def record(kind: str, **body: Any) -> Any:
        return SimpleNamespace(kind=kind, body=body)

    limit = {"limit": "turnover", "reason": "new money", "until": "2024-01-05T21:00"}
    assert list(_overridden(record("approved", by="kim", overrides=[limit]))) == [
        "limit turnover: new money (until 2024-01-05T21:00)"
    ]
    rows = [{"symbol": "A", "reason": "a gift"}, {"symbol": "B", "reason": None}]
    assert list(_overridden(record("reconciled", by="kim", breaks=rows))) == ["break of A explained: a gift"]
    assert list(_overridden(record("halted", by="kim", reason="holiday"))) == ["holiday"]
    assert list(_overridden(record("exported", again=True))) == ["orders were exported again"]
    assert list(_overridden(record("issued", model=3))) == []


def test_fits_that_the_guard_refused_are_counted_over_all_refits_as_the_pages_count_them() -> None:
    refused = [{"asset_class": "fx", "model": "ridge", "refit": "2020-01-02", "reason": "Worse."}]
    state = SimpleNamespace(models=[], serving=3)
    told: Any = SimpleNamespace(scores={"refused": refused}, of_kind=lambda *_: [], store=SimpleNamespace(state=state))
    assert "refused in all refits since the history began: 1;" in _changes(told).said[0]


def test_orders_that_went_out_name_who_approved_and_exported_them() -> None:
    def records(*kinds: str) -> Any:
        now = datetime.fromisoformat("2024-01-05T21:00:00+00:00")
        every = [
            SimpleNamespace(number=7 + place, now=now, kind=kind, body={"id": "ab12", "by": "kim"})
            for place, kind in enumerate(("proposed", "approved", "exported"))
        ]
        return [one for one in every if one.kind in kinds]

    told: Any = SimpleNamespace(of_kind=records)
    found = _orders(told).to_dict()
    assert found["said"] == ["Orders: approved 1, exported 1, proposed 1."]
    assert [(row["record"], row["by"], row["what"], row["orders"]) for row in found["rows"]] == [
        ("8", "kim", "approved", "ab12"), ("9", "kim", "exported", "ab12"),
    ]  # fmt: skip
    nothing: Any = SimpleNamespace(of_kind=lambda *_: [])
    assert _orders(nothing).said == ["No orders were made from it."]


def test_numbers_and_commands_are_set_as_on_the_other_pages() -> None:
    section = Section("Data", ["Lost -0.1%, as `gatecast today` says."], ["x", "y"], [["a", "-2.5%"]])
    page = Card("id", 1, "0" * 64, "2024-01-05T21:00", [section]).html()
    assert "Lost −0.1\N{NO-BREAK SPACE}%, as <code>gatecast today</code> says." in page
    assert "−2.5\N{NO-BREAK SPACE}%</td>" in page


def test_nothing_in_a_card_is_markup() -> None:
    evil = "<script>alert(1)</script> | a\n# b & c"
    made = Card("id", 1, "0" * 64, "2024-01-05T21:00", [Section("Data", [evil], ["x"], [[evil]])])
    assert "<script>" not in made.html()
    assert "<script>" not in made.markdown()
    assert "# b" not in [line.strip() for line in made.markdown().splitlines()]
    table = [line for line in made.markdown().splitlines() if line.startswith("| ")]
    assert table[-1].replace("\\|", "").count("|") == 2


def test_the_command_prints_writes_and_refuses(live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(live / "live_update")
    assert execute(["card", store]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Card")
    assert execute(["card", store, "--out", str(tmp_path / "card.md"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (tmp_path / "card.md").read_text(encoding="utf-8").split() == text.split()
    assert [one["title"] for one in whole["sections"]] == list(TITLES)
    assert execute(["card", store, "--out", str(tmp_path / "card.html")]) == 0
    assert (tmp_path / "card.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert execute(["card", store, "--out", str(tmp_path / "card.pdf")]) == 2
    assert "ends in .md or .html" in capsys.readouterr().err
    assert execute(["card", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "card.pdf").exists()


def test_the_card_of_an_earlier_moment_has_the_bytes_of_then(live: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(live / "live_update", folder)
    store, then = Store.open(folder), card(folder)
    last = datetime.fromisoformat(store.state.now)
    when = last + timedelta(days=2)
    add_action(folder, symbol="B1_0", day=when.date(), kind="dividend", cash=0.5, now=when)
    store = Store.open(folder)
    store.snapshot(when)
    store.prune(when)
    assert card(folder).number > then.number
    assert card(folder, now=last).markdown() == then.markdown()
    assert card(folder, now=last).html() == then.html()
    out = tmp_path / "card.md"
    day = f"{when - timedelta(days=1):%Y-%m-%d}"
    assert execute(["card", str(folder), "--as-of", day, "--out", str(out)]) == 0
    assert out.read_text() == then.markdown()
    with pytest.raises(StoreError, match="had no record by"):
        card(folder, now=last - timedelta(days=9999))
    assert execute(["card", str(folder), "--as-of", day, "--now", day]) == 2
