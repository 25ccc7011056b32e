"""What is not of today is said on every page; an older forecast is not of the coming bars; what is due is told."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from served import FIRST, SYMBOLS
from starlette.testclient import TestClient

from gatecast.cli.app import execute
from gatecast.live import health, today, update
from gatecast.live.book import HeldNow, change_in_words
from gatecast.live.gates import GATES
from gatecast.live.health import _bars
from gatecast.service.app import make_app
from gatecast.service.pages import at_close, live_equity
from gatecast.service.view import View
from gatecast.store import Store

FIRST_SYMBOL = quote(SYMBOLS[0], safe="")
PAGES = ("/", "/orders", "/risk", "/models", "/health", f"/symbols/{FIRST_SYMBOL}")


def client_of(store: Path, now: datetime) -> TestClient:
    return TestClient(make_app(store, now=now), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def late(now: datetime) -> datetime:
    """Nine years after the newest bar."""
    return now + timedelta(days=9 * 365)


@pytest.fixture(scope="module")
def stale(made: Path, late: datetime) -> TestClient:
    return client_of(made, late)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_a_stale_store_says_so(stale: TestClient, client: TestClient, path: str) -> None:
    text = stale.get(path).text
    assert re.search(r"""role="alert">What stands here is not of today: .* [0-9],[0-9]{3} sessions behind""", text)
    assert 'class="live stale"' in text
    assert "not of today" not in client.get(path).text


def test_the_headline_of_a_stale_store_is_that_it_is_stale(stale: TestClient) -> None:
    text = stale.get("/").text
    assert re.search(r"<h1>Out of date: [0-9],[0-9]{3} sessions behind</h1>", text)
    assert text.count("What stands here is not of today") == 1


def test_what_is_out_of_date_is_counted_among_what_to_look_at(stale: TestClient, client: TestClient) -> None:
    """The first page says it above the list, not in it."""

    def counted(text: str) -> tuple[int, str]:
        (found,) = re.findall(r"<dt>To look at</dt>\s*<dd>(\d+)<small>([^<]*)", text)
        return int(found[0]), found[1]

    for one, more in ((stale, ", with what stands above"), (client, "")):
        findings = one.get("/api/findings").json()["findings"]
        assert counted(one.get("/").text) == (len(findings), f"findings and alarms{more}")


def test_today_of_a_stale_store_says_so_first(
    made: Path, late: datetime, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "What stands here is not of today: the newest decision of "
    assert repr(today(made, now=late)).startswith(said)
    assert "not of today" not in repr(today(made, now=now))
    assert execute(["today", str(made), "--now", late.isoformat()]) == 0
    assert capsys.readouterr().out.startswith(said)


def test_checks_of_an_old_close_say_of_when_they_are(made: Path, late: datetime, now: datetime) -> None:
    of_newest = {"model", "decisions", "forecasts", "refit", "drift"}
    said = {one.name for one in health(made, now=late).checks if re.match(
        r"At the newest close, \d{4}-\d\d-\d\d, [1-9],\d{3} sessions ago: ", one.sentence)}  # fmt: skip
    assert said
    assert said <= of_newest
    assert {one.name for one in health(made, now=late).checks if one.level == "ok"} & of_newest == said
    assert not any("sessions ago" in one.sentence for one in health(made, now=now).checks)


def test_a_store_is_ready_where_what_it_says_is_of_today(stale: TestClient, client: TestClient) -> None:
    told, fresh = stale.get("/health/ready"), client.get("/health/ready").json()
    assert told.status_code == 200
    assert not told.json()["ready"]
    assert "not of today" in told.json()["behind"]
    assert (fresh["ready"], fresh["behind"]) == (True, "")


def test_the_age_of_a_model_is_that_of_the_clock(stale: TestClient, made: Path, late: datetime) -> None:
    state = Store.open(made).state
    cutoffs = [date.fromisoformat(one[:10]) for one in state.model(state.serving).cutoffs.values()]  # type: ignore[union-attr]
    text = " ".join(stale.get("/").text.split())
    assert f"<dd>{(late.date() - min(cutoffs)).days:,} days<small>" in text


def test_a_bar_that_came_after_its_fill_is_said_with_the_hour_that_decides(
    store: Path, bars: pl.DataFrame, closes: list[datetime]
) -> None:
    """By `update`, `health` and the first page alike."""
    close = closes[FIRST + 1]
    now = close + timedelta(hours=20)
    done = update(store, bars.filter(pl.col("time") <= close), now=now)
    assert {row["gate"] for row in done.decisions} == {"late"}
    said = f"no decision, the newest bar came after its fill. It closes at {close:%H:%M} UTC: an update soon after that"
    (check,) = (one for one in health(store, now=now).checks if one.name == "forecasts")
    found = client_of(store, now).get("/api/findings").json()["findings"]
    assert (check.level, said in check.sentence) == ("warning", True)
    assert any(said in one for one in done.warnings)
    assert any(one["kind"] == "late" and said in one["sentence"] for one in found)


def test_one_late_symbol_makes_no_store_stale(made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said of it, and the headline stays."""
    ages = pl.DataFrame({"symbol": list(SYMBOLS), "sessions_behind": [3, 0]})
    monkeypatch.setattr(import_module("gatecast.live.today"), "feed_age", lambda *_: ages)
    found = today(made, now=now)
    assert found.stale == 0
    assert found.behind.startswith(f"Not all that stands here is of today: the newest decision of {SYMBOLS[0]!r} is 3")


def test_the_headline_and_the_alert_tell_the_same_sessions(
    made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = pl.DataFrame({"symbol": list(SYMBOLS), "sessions_behind": [3, 2]})
    monkeypatch.setattr(import_module("gatecast.live.today"), "feed_age", lambda *_: ages)
    found, text = today(made, now=now), client_of(made, now).get("/").text
    assert (found.stale, found.out_of_date) == (2, "2 to 3 sessions behind")
    assert "<h1>Out of date: 2 to 3 sessions behind</h1>" in text
    assert re.search(r"""role="alert">[^<]* is 2 to 3 sessions behind the calendar""", text)


def test_a_forecast_of_an_older_close_is_no_forecast_of_the_coming_bars(
    made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, path = client_of(made, now), f"/api/symbols/{FIRST_SYMBOL}"
    told = client.get(f"{path}/forecast").json()
    assert len(told["path"]) == 5
    assert told["path_time"] == told["decision"]["forecast_time"] == told["decision"]["time"]
    assert client.get(f"{path}/chart").json()["chart"]["fan"]
    said = View.today

    def without(view: View) -> Any:
        """The newest decision has no forecast; its newest one is of an earlier close."""
        found = said(view)
        rows = [{**row, "expected_return_log": None, "gate": "no forecast"} for row in found["decisions"]]
        return {**found, "decisions": rows}

    monkeypatch.setattr(View, "today", without)
    client = client_of(made, now)
    told = client.get(f"{path}/forecast").json()
    assert (told["path"], told["path_time"], told["reason"]) == ([], None, GATES["no forecast"])
    assert client.get(f"{path}/chart").json()["chart"]["fan"] is None
    text = client.get(f"/symbols/{FIRST_SYMBOL}").text
    assert "The path that is forecast" not in text
    assert "After the newest bar nothing is drawn" in text


def test_a_fan_that_begins_before_the_newest_bar_is_not_drawn(
    made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gatecast.service.view.candles_data",
        lambda run, symbol, **_: {"time": ["1", "2"], "fan": {"origin": 0}},
    )
    view = View(Store.open(made).as_of(now), now)
    assert view.candles(SYMBOLS[0])["fan"] is None  # type: ignore[index]


def test_a_refit_that_is_due_is_told_wherever_somebody_looks(
    made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert today(made, now=now).due == ""
    due = {"index": ["2001-12-31 21:00:00", "2002-01-31 21:00:00"]}
    monkeypatch.setattr(import_module("gatecast.live.retrain"), "due_closes", lambda *_: due)
    assert today(made, now=now).due == "2 refits are due since 2001-12-31"
    checks = {one.name: one for one in health(made, now=now).checks}
    assert checks["refit"].level == "warning"
    assert checks["refit"].sentence.startswith("2 refits are due since 2001-12-31: `gatecast retrain")
    client = client_of(made, now)
    assert "refit" in [one["kind"] for one in client.get("/api/findings").json()["findings"]]
    assert "2 refits are due since 2001-12-31." in re.sub(r"<[^>]+>", "", client.get("/").text)


def test_the_age_of_bars_is_said_of_those_that_have_it() -> None:
    said = _bars({"AAPL": 2, "BAC": 2, "BTC-USD": 3, "SPY": 1}).sentence
    assert said == "no bar of 'BTC-USD' for 3 sessions; of 'AAPL', 'BAC' for 2 sessions. Is the feed alive?"


def test_risk_has_the_numbers_of_the_first_page(client: TestClient) -> None:
    facts = re.compile(r"<dt>(Forecast volatility|Expected shortfall)</dt><dd>([^<]*)")
    first, risk = (dict(facts.findall(client.get(path).text)) for path in ("/", "/risk"))
    assert first
    assert risk == first
    assert "not scaled by the book" not in client.get("/risk").text


def test_what_is_held_at_a_close_is_what_is_held_after_the_order_without_it() -> None:
    """900 units of 100 in an equity of 1,000,000, of which 83 are sold."""
    after = {"units": 900.0, "trade": -83.0, "held": 817.0 * 100 / 1e6}
    assert at_close(after) == pytest.approx(0.09)
    assert at_close({"units": 5.0, "trade": -5.0, "held": 0.0}) is None


def test_an_order_that_keeps_a_share_is_told() -> None:
    close = {"time": datetime(2024, 1, 2), "core": 1.0, "share": 1.0, "target": 1.0}
    rows = ({"A": {**close, "held": 0.9998, "trade": -83.0}}, {"A": {**close, "held": 0.9995}})
    assert change_in_words(HeldNow({}, *rows), "A") == "still +100.0% after an order of -83, as prices had moved it."


def test_sessions_that_came_too_late_are_not_those_that_orders_are_for() -> None:
    said = HeldNow({"session": "2018-01-05"}, {}, missed=["2018-01-03", "2018-01-04"]).missed_sentence
    assert "no account could trade on those of 2018-01-03 to 2018-01-04." in said
    assert "This does not concern the orders of 2018-01-05." in said


def test_the_profit_of_the_session_is_that_of_the_equity_on_record(made: Path, now: datetime) -> None:
    opened = Store.open(made).as_of(now)
    equity = [one.body["book"]["equity"] for one in opened.records() if one.body.get("book")]
    told = live_equity(View(opened, now))
    assert told["sessions"] == len(equity) - 1 == 1 == today(made, now=now).to_dict()["record"]["book_passed"]
    assert told["money"] == pytest.approx(equity[1] - equity[0])
    assert told["share"] == told["whole"] == pytest.approx(equity[1] / equity[0] - 1)


def test_closes_of_the_table_are_those_that_the_api_takes(client: TestClient) -> None:
    text = client.get(f"/symbols/{FIRST_SYMBOL}").text
    closes = re.findall(r'data-close="([^"]*)"', text)
    assert len(closes) == 2
    for close in closes:
        asked = {"symbol": SYMBOLS[0], "from": close, "to": close}
        assert [row["time"] for row in client.get("/api/decisions", params=asked).json()["decisions"]] == [close]


def test_charts_are_drawn_of_what_the_book_holds(made: Path, now: datetime) -> None:
    """And not of the strategies' weights alone, which are 0 without evidence while the book holds its core."""
    opened = Store.open(made).as_of(now)
    book, rows = View(opened, now).recent.book, View(opened, now).rows
    for symbol in SYMBOLS:
        newest = book.filter(pl.col("symbol") == symbol).sort("session").row(-1, named=True)
        assert newest["held"] == rows[symbol]["held"]
        assert str(newest["time"]) == rows[symbol]["time"]
        chart = View(opened, now).candles(symbol)
        assert chart
        assert chart["held"][-1] == pytest.approx(rows[symbol]["held"], abs=1e-4)
