"""Pages: what they say is what the dictionaries say, and nothing on them comes from elsewhere or is markup."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import shutil
import zlib
from datetime import datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.experiment import Experiment
from gatecast.live import add_action, update
from gatecast.live.exposure import cut_in_words
from gatecast.report.book import to_trade
from gatecast.report.candles import past_data
from gatecast.report.scripts import plotly_script
from gatecast.report.words import number as number_of
from gatecast.report.words import percent
from gatecast.service.app import make_app
from gatecast.service.pages import morning, render, risk_page
from gatecast.service.view import View
from gatecast.store import Store

PAGES = ("/", "/orders", "/risk", "/models", "/health", *(f"/symbols/{quote(one, safe='')}" for one in SYMBOLS))


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br", "i"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open[-1:]:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def text_of(markup: str) -> str:
    """The text of a page or a part of one, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


@pytest.fixture(scope="module")
def pages(client: TestClient) -> dict[str, Elements]:
    answers = {path: client.get(path) for path in PAGES}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(PAGES, 200)
    return {path: Elements(answer.text) for path, answer in answers.items()}


@pytest.mark.parametrize("path", PAGES)
def test_everything_comes_from_the_service_itself(pages: dict[str, Elements], path: str) -> None:
    page = pages[path]
    for _, attributes in page.found:
        for name in ("src", "href", "action"):
            address = attributes.get(name)
            assert address is None or address == "" or address.startswith(("/", "#")), address
            assert not (address or "").startswith("//")
        assert not [name for name in attributes if name.startswith("on")], "a script in an attribute"
    for script in page.of("script"):
        assert script.get("src") or script.get("type") == "application/json", "a script in the page"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_by_a_screen_reader(pages: dict[str, Elements], path: str) -> None:
    page = pages[path]
    assert page.of("html")[0]["lang"] == "en"
    assert page.of("meta")[1]["content"] == "width=device-width, initial-scale=1"
    assert len(page.of("h1")) == len(page.of("main")) == 1
    current = [one["href"] for one in page.of("a") if "aria-current" in one]
    assert current == ([path] if "/symbols" not in path else [])
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= before + 1 or before == 1 for before, later in pairwise(levels))
    for tag, attributes in page.found:
        if tag == "div" and "plot" in (attributes.get("class") or "").split():
            assert attributes.get("aria-label")
            assert attributes.get("role") == "img"


def test_no_symbol_is_markup(client: TestClient) -> None:
    for path in PAGES:
        text = client.get(path).text
        assert "<b>&" not in text
    assert html.escape(SYMBOLS[1], quote=False)[:9] in client.get("/").text


def test_the_first_page_says_what_the_api_says(client: TestClient, pages: dict[str, Elements]) -> None:
    text = " ".join(pages["/"].text.split())
    told = client.get("/api/today").json()
    for row in told["decisions"]:
        assert row["symbol"] in text
        for number in (row["held"], row["target"]):
            assert percent(number, 1, True) in text
        assert (f"{row['close']:,.2f}" if row["close"] >= 10 else number_of(row["close"], 5)) in text
        assert percent(row["standard_deviation"], 2) in text
        assert percent(row["expected_return_log"], 2, True) in text
    assert f"{told['book']['equity']:,.0f}" in text
    trades = [row for row in told["decisions"] if row["trade"]]
    assert {0: "The book has nothing to trade", 1: "One trade for the next session"}.get(
        len(trades), f"{len(trades)} trades"
    ) in text


def test_the_page_of_a_symbol_says_why(client: TestClient, pages: dict[str, Elements]) -> None:
    for symbol in SYMBOLS:
        path = f"/symbols/{quote(symbol, safe='')}"
        row = client.get(f"/api{path}/forecast").json()["decision"]
        text = " ".join(pages[path].text.split())
        assert symbol in text
        assert row["gate_sentence"] in text
        assert row["reason"][:60].replace("-", "−")[10:] in text.replace("-", "−")
        assert percent(row["core"], 2, True) in text


def test_the_chart_has_the_bars_and_what_was_forecast(client: TestClient) -> None:
    symbol = quote(SYMBOLS[0], safe="")
    chart = client.get(f"/api/symbols/{symbol}/chart").json()["chart"]
    bars = client.get(f"/api/symbols/{symbol}/bars?limit=500").json()["bars"]
    assert np.allclose(chart["close"], [row["close"] for row in bars], rtol=1e-5)
    step, past = chart["past"]["step"], chart["past"]
    assert step == 5
    there = [place for place, low in enumerate(past["low"]) if low is not None]
    assert len(there) > 100
    for place in (there[0], there[-1]):
        middle = np.sqrt(past["low"][place] * past["high"][place])  # prices: the band is even in logs
        assert abs(np.log(middle / chart["close"][place - step])) < 0.1
        assert past["low"][place] < past["high"][place]
    page = client.get(f"/symbols/{symbol}").text
    found = re.search(r'id="drawings">"(.*?)"</script>', page, re.S)
    assert found
    assert json.loads(zlib.decompress(base64.b64decode(found[1])))["candles"] == {SYMBOLS[0]: chart}


def test_the_band_is_the_forecast_of_so_many_bars_before(client: TestClient, made: Path) -> None:
    """One s.d. to each side of the expected return; the variance from close to close is in the simple return."""
    symbol = SYMBOLS[0]
    opened = Store.open(made)
    row = opened.decisions().filter(symbol=symbol).sort("time").row(0, named=True)
    view = View(opened, opened.journal.last.now)  # type: ignore[union-attr]
    times = view.all_bars.filter(symbol=symbol)["time"]
    later = times.index_of(row["time"])
    assert later is not None
    own = view.recent.scan_forecasts().filter(symbol=symbol).collect()
    past = past_data(own, view.all_bars.filter(symbol=symbol))
    assert past
    place = later + 1  # the newest close: its own forecast was made five bars before
    low, high = past["low"][place], past["high"][place]
    close = view.all_bars.filter(symbol=symbol)["close"][place - past["step"]]
    issued = view.recent.forecasts.filter(symbol=symbol, model="ensemble", time=times[place - past["step"]])
    heads = {(one["head"], one["step"]): one["value"] for one in issued.to_dicts()}
    simple, expected = heads["return_simple", 5], heads["return", 5]
    deviation = np.sqrt(2 * (np.log1p(simple) - expected))
    assert low == pytest.approx(close * np.exp(expected - deviation), rel=1e-4)
    assert high == pytest.approx(close * np.exp(expected + deviation), rel=1e-4)


def test_the_band_does_not_move_where_a_close_is_corrected_later(made: Path, tmp_path: Path) -> None:
    """The candle is the corrected one; what was forecast from it is what was issued."""
    symbol, folder = SYMBOLS[0], tmp_path / "store"
    shutil.copytree(made, folder)
    opened = Store.open(folder)
    now = opened.journal.last.now  # type: ignore[union-attr]
    before = View(opened, now).candles(symbol)
    assert before
    step, bars = before["past"]["step"], View(opened, now).all_bars
    place = max(place for place, low in enumerate(before["past"]["low"]) if low is not None) - step
    close = datetime.fromisoformat(before["closes"][place])
    at = (pl.col("symbol") == symbol) & (pl.col("time") == close)
    higher = {name: pl.when(at).then(pl.col(name) * 1.03).otherwise(name) for name in ("close", "high")}
    moment = now + timedelta(hours=1)
    assert opened.add_bars(bars.with_columns(**higher), moment)
    after = View(opened, moment).candles(symbol)
    assert after
    assert after["close"][place] == pytest.approx(1.03 * before["close"][place], rel=1e-6)
    assert after["past"] == before["past"]
    assert View(opened, now).candles(symbol)["close"] == before["close"]  # type: ignore[index]


def test_files_are_kept_for_ever_and_change_their_address_with_their_content(client: TestClient) -> None:
    address = re.search(r'href="(/static/style.css\?v=[0-9a-f]{12})"', client.get("/").text)
    assert address
    answer = client.get(address[1])
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    assert client.get("/").headers["cache-control"] == "no-store"


def test_plotly_is_the_one_of_the_report(client: TestClient) -> None:
    plain = client.get("/static/plotly.js", headers={"accept-encoding": "identity"})
    assert plain.text == plotly_script()
    packed = client.get("/static/plotly.js", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert len(gzip.compress(plain.content, 6)) < 500_000


def test_a_choice_leads_to_the_page_of_a_symbol(client: TestClient) -> None:
    answer = client.get("/symbols", params={"symbol": SYMBOLS[0]}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/symbols/A%2FB")


def test_errors_of_pages_are_pages(client: TestClient) -> None:
    answer = client.get("/symbols/nothing")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_pages_are_small(client: TestClient) -> None:
    for path in PAGES:
        size: Any = len(client.get(path).content)
        assert size < 400_000, path


@pytest.fixture
def changed(made: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A client of a store that leaves its first symbol out of the book, with two alarms and one fit refused."""
    told, kept = View.today, View.refits
    why = {SYMBOLS[0]: f"'{SYMBOLS[0]}' is a future without a contract."}
    alarms = [{"symbol": one, "time": "2001-12-28", "sentence": f"drift of {one}"} for one in SYMBOLS[:2]]
    refused = [{"asset_class": "index", "model": "ridge", "refit": "2001-12-03", "reason": "Worse."}]

    def today(view: View) -> Any:
        said = told(view)
        return {**said, "alarms": alarms, "book": {**said["book"], "left_out": why}}

    monkeypatch.setattr(View, "today", today)
    monkeypatch.setattr(View, "refits", lambda view: {**kept(view), "refused": refused})
    return TestClient(make_app(made, now=now), base_url="http://127.0.0.1")


def test_alarms_of_what_the_book_leaves_out_are_on_every_list(changed: TestClient) -> None:
    """As `gatecast health` and `gatecast today` have them."""
    said = [one["sentence"] for one in changed.get("/api/findings").json()["findings"]]
    text = " ".join(Elements(changed.get("/").text).text.split())
    for symbol in SYMBOLS[:2]:
        assert f"drift of {symbol}" in said
        assert f"drift of {symbol}" in text
    assert f"Not in the book, as its money cannot be counted: '{SYMBOLS[0]}'" in text


def test_fits_that_the_guard_refused_are_counted_over_all_refits(changed: TestClient) -> None:
    text = " ".join(Elements(changed.get("/models").text).text.split())
    assert "1 fit was refused in all refits since the history began" in text
    assert "refused no refit" not in text


def test_a_symbol_named_as_a_folder_has_a_page_and_answers(
    bars: pl.DataFrame, closes: list[datetime], tmp_path: Path
) -> None:
    """A browser resolves /symbols/.. to / before it asks: the address of such a symbol ends with %2F."""
    own = bars.filter(pl.col("symbol") == SYMBOLS[0], pl.col("time") <= closes[30]).with_columns(symbol=pl.lit(".."))
    update(tmp_path / "store", own, now=closes[30] + HOUR, experiment=Experiment(lookback=10))
    asked = TestClient(make_app(tmp_path / "store", now=closes[30] + HOUR), base_url="http://127.0.0.1")
    assert asked.get("/symbols?symbol=..", follow_redirects=False).headers["location"] == "/symbols/..%2F"
    page = asked.get("/symbols/..%2F")
    assert page.status_code == 200
    assert "<h1>.. " in page.text
    found = asked.get("/api/symbols/..%2F/bars?limit=1").json()
    assert (found["symbol"], len(found["bars"])) == ("..", 1)


def test_why_the_target_is_not_reached_stands_beside_it(made: Path, now: datetime) -> None:
    view = View(Store.open(made), now)
    told = morning(view)
    assert told["missed"] == cut_in_words(*(view.today()["risk"][name] for name in ("bound", "costs")))
    for reached in (True, False):
        given = {**told, "book": {**told["book"], "reached": reached}, "missed": "gross cap of 100% at 5 symbols"}
        text = text_of(render("morning.html.j2", "t", "/", view.head, {}, given))
        assert ("10.0 % aimed at, not reached: gross cap of 100 % at 5 symbols" in text) == (not reached)


def test_without_a_trade_of_the_book_an_account_may_still_have_orders(made: Path, now: datetime) -> None:
    view = View(Store.open(made), now)
    told = morning(view)
    rows = [{**row, "trade": 0.0} for row in told["rows"]]
    for trades in ([], told["trades"]):
        text = text_of(render("morning.html.j2", "t", "/", view.head, {}, {**told, "rows": rows, "trades": trades}))
        assert "The book takes every order of its own as filled." in text
        assert "An account that holds something else has other orders: gatecast orders proposes them" in text
    assert to_trade(rows) == "The book has nothing to trade"


def test_no_forecast_is_not_the_word_of_no_signal_and_one_symbol_needs_no_search(made: Path, now: datetime) -> None:
    view = View(Store.open(made), now)
    told = morning(view)
    for signal, word in ((0, "none"), (None, "–"), (1, "bullish"), (-1, "bearish")):
        page = render(
            "morning.html.j2", "t", "/", view.head, {}, {**told, "rows": [{**told["rows"][0], "signal": signal}]}
        )
        cell = re.search(r'<td data-name="Signal"[^>]*>(.*?)(<small|</td>)', page, re.S)
        assert cell is not None
        assert text_of(cell[1]) == word
        assert 'id="find"' not in page
    assert 'id="find"' in render("morning.html.j2", "t", "/", view.head, {}, told)


def test_the_two_gates_have_two_names(client: TestClient, pages: dict[str, Elements]) -> None:
    """What decided on the strategies' position stands apart from what cut the book's trade."""
    for path in ("/", f"/symbols/{quote(SYMBOLS[0], safe='')}"):
        text = " ".join(pages[path].text.split())
        assert "Strategies’ gate" in text
        assert "Decided by" not in text
    assert not re.search(r">Gate<|Gate:", client.get(f"/symbols/{quote(SYMBOLS[0], safe='')}").text)


def test_a_rollback_is_advised_where_a_model_before_is_there(client: TestClient) -> None:
    assert not any(one["before"] for one in client.get("/api/models").json()["models"])
    text = client.get("/models").text
    assert "gatecast rollback" not in text
    assert "no model before the one in force" in text


def test_times_of_records_have_their_zone(client: TestClient) -> None:
    for path in ("/health", "/models"):
        heads = re.findall(r"<th>((?:When|Made)[^<]*)</th>", client.get(path).text)
        assert heads
        assert all(head.endswith(", UTC") for head in heads)


def test_every_record_says_what_it_is_about(client: TestClient) -> None:
    rows = {row["kind"]: row["about"] for row in client.get("/api/runs").json()["runs"]}
    assert all(rows.values())
    assert rows["created"].startswith("by gatecast ")
    assert re.fullmatch(r"\S+ \d{4}-\d\d-\d\d", rows["refit"])


def test_a_symbol_that_has_ended_says_so(
    store: Path, bars: pl.DataFrame, closes: list[datetime], now: datetime
) -> None:
    """What came after its last closes is never known, from the end on; its close is its last, once that is decided."""

    def page(at: datetime) -> str:
        client = TestClient(make_app(store, now=at), base_url="http://127.0.0.1")
        return client.get(f"/symbols/{quote(SYMBOLS[1], safe='')}").text

    came, last = re.compile(r'data-name="Came"><span class="quiet">([^<]*)<'), "its last: the symbol has ended"
    assert {*came.findall(page(now))} == {"not yet"}
    add_action(store, symbol=SYMBOLS[1], day=closes[FIRST].date(), kind="delisting", last_return=-0.3, now=now + HOUR)
    told = page(now + HOUR)
    assert {*came.findall(told)} == {"never"}
    assert last not in told
    later = closes[FIRST + 1]
    update(store, bars.filter((pl.col("time") <= later) & (pl.col("symbol") == SYMBOLS[0])), now=later + HOUR)
    told = page(later + HOUR)
    assert {*came.findall(told)} == {"never"}
    price = bars.filter(symbol=SYMBOLS[1], time=closes[FIRST])["close"][0]
    assert f"<dt>Closing price</dt><dd>{number_of(price, 5)}" in told
    assert last in told


def test_the_two_expected_shortfalls_of_the_risk_page_stand_together(made: Path, now: datetime) -> None:
    """That of the newest four years, as on the first page, and that of all bars, which is bold in the table."""
    view = View(Store.open(made), now)
    told = risk_page(view)
    table = (view.risk()["today"] or {})["tails"]
    (of_all,) = [row["shortfall"] for row in table if (row["method"], row["sessions"], row["level"]) == OF_ALL]
    given = {**told, "risk": {**told["risk"], "shortfall": -0.022}}
    text = text_of(render("risk.html.j2", "t", "/risk", view.head, {}, given))
    assert "Expected shortfall 2.2 %" in text
    assert f"in the worst 1 session of 40, by the newest four years; {percent(-of_all)} by all bars" in text
    assert "97.5 beyond 97.5 99 beyond 99" in text


OF_ALL = ("filtered", 1, 0.975)
