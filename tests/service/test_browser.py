"""Every page in a browser, wide and narrow, light and dark: nothing from elsewhere, no error, no sideways scrolling.

Needs Chromium; where there is none on the path the tests are skipped.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
import uvicorn
from browsing import Seen, browser, needs_chromium, violations
from clerks import Clerk
from served import FIRST, HOUR, SYMBOLS

from gatecast.live import halt, reconcile, update
from gatecast.service.app import make_app

pytestmark = needs_chromium
SYMBOL = f"/symbols/{quote(SYMBOLS[0], safe='')}"
__all__ = ["browser"]  # a fixture
PAGES = ("/", SYMBOL, "/orders", "/risk", "/models", "/health", "/symbols/nothing")


@contextmanager
def serving(store: Path, now: datetime) -> Iterator[str]:
    """A server in a thread, on a free port."""
    config = uvicorn.Config(make_app(store, now=now), host="127.0.0.1", port=0, log_level="error", ws="none")
    socket = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def address(made: Path, now: datetime) -> Iterator[str]:
    with serving(made, now) as found:
        yield found


@pytest.fixture(scope="module")
def ordered(
    made: Path, closes: list[datetime], bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server on a store with orders of two sessions: of two accounts, exported and in part filled, and approved;
    a difference that nobody explained, and a halt."""
    folder = tmp_path_factory.mktemp("ordered")
    shutil.copytree(made, folder / "store")
    clerk = Clerk(folder / "store", folder, closes[FIRST])
    done = clerk.exported(capital=4e6)
    clerk.fills(done, 0.5)
    close = closes[FIRST + 1]
    update(clerk.store, bars.filter(pl.col("time") <= close), now=close + HOUR)
    clerk = clerk._replace(close=close)
    held = {row["symbol"]: row["units"] * 0.5 for row in done.rows}
    clerk.approve(clerk.propose(held, capital=4e6))
    clerk.propose(account="an account with a long name", new_account=True)
    reconcile(clerk.store, clerk.held({name: count + 7 for name, count in held.items()}), by="dee", now=clerk.now)
    halt(clerk.store, by="tom", reason="odd feed", now=clerk.now)
    with serving(clerk.store, clerk.now) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_every_page_is_whole(browser: Any, address: str, width: int, scheme: str) -> None:
    for path in PAGES:
        seen = Seen(browser, address + path, width, scheme)
        if path in (SYMBOL, "/models"):
            seen.page.wait_for_selector(".js-plotly-plot .main-svg")
        if path == SYMBOL:  # filled once the answer is there
            seen.page.wait_for_selector("#explained-steps tbody tr")
        assert [one for one in seen.asked if not one.startswith(address)] == []
        assert [one for one in seen.complaints if "404" not in one] == []
        wide = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} scrolls sideways by {wide} px at {width}"
        assert violations(seen.page) == [], path
        seen.page.close()


STICK_OUT = """() => { const box = document.getElementById("candles").getBoundingClientRect();
  return [...document.querySelectorAll("#candles text")].map((one) => [one.textContent, one.getBoundingClientRect()])
    .filter(([, at]) => at.width && (at.left < box.left || at.right > box.right)).map(([text]) => text); }"""
"""The texts of a symbol's chart that are cut at its sides."""
DRAWN = """(button) => new Promise((done) => {
  document.getElementById("candles").addEventListener("drawn", () => done(true), { once: true }); button.click(); })"""


def test_no_text_of_a_chart_is_cut_on_a_small_screen(browser: Any, address: str) -> None:
    page = Seen(browser, address + SYMBOL, 390).page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    buttons = page.query_selector_all("[data-bars]")
    assert len(buttons) == 4
    for button in buttons:
        page.evaluate(DRAWN, button)
        assert "the strategies alone" in page.text_content("#candles")
        assert page.evaluate(STICK_OUT) == [], button.text_content()
    page.close()


def test_a_label_that_is_taken_away_is_found(browser: Any, address: str) -> None:
    """The check of accessibility can fail."""
    page = Seen(browser, address).page
    page.evaluate("""() => { const find = document.getElementById("find"); find.placeholder = "";
      find.labels[0].replaceWith(find); }""")
    assert [one.split(":")[0] for one in violations(page)] == ["label"]
    page.close()


def test_a_chart_that_is_hovered_breaks_no_policy(browser: Any, address: str) -> None:
    seen = Seen(browser, address + SYMBOL)
    seen.page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    seen.page.hover("#candles .nsewdrag >> nth=0")
    seen.page.wait_for_selector("#candles .hoverlayer .legend")
    cursor = seen.page.evaluate("getComputedStyle(document.querySelector('#candles .main-svg')).overflow")
    assert cursor == "hidden"  # a rule of Plotly's own style sheet
    assert seen.complaints == []
    seen.page.close()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1400, "light"), (1200, "light"), (1000, "light"), (390, "light"), (390, "dark")]
)
def test_the_page_of_orders_is_whole(browser: Any, ordered: str, width: int, scheme: str) -> None:
    seen = Seen(browser, f"{ordered}/orders", width, scheme)
    assert seen.page.locator("main section").count() >= 4
    assert seen.page.locator(".commands code").count() == 3  # a halt and two accounts
    assert (seen.asked and [one for one in seen.asked if not one.startswith(ordered)], seen.complaints) == ([], [])
    wide = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"it scrolls sideways by {wide} px at {width}"
    out = """() => [...document.querySelectorAll(".panel td, .panel th")].filter((one) => one.offsetParent
      && one.getBoundingClientRect().right > one.closest(".panel").getBoundingClientRect().right + 1).length"""
    assert seen.page.evaluate(out) == 0, f"cells stick out of their card at {width}"
    assert violations(seen.page) == []
    seen.page.close()


def test_a_command_is_copied_whole_and_nothing_can_be_sent(browser: Any, ordered: str) -> None:
    page = Seen(browser, f"{ordered}/orders").page
    assert page.locator("form, input, [contenteditable]").count() == 0
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one = page.locator(".commands li").first
    one.locator("button").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == one.locator("code").text_content()
    assert page.evaluate("getComputedStyle(document.querySelector('.commands code')).userSelect") == "all"
    page.close()


def test_the_models_add_up_to_the_forecast_on_the_page_of_a_symbol(browser: Any, address: str) -> None:
    seen = Seen(browser, address + SYMBOL)
    seen.page.wait_for_selector("#explained-models tbody tr")
    rows = [
        [cell.strip() for cell in row.split("\t")] for row in seen.page.inner_text("#explained-models").split("\n")[1:]
    ]
    told = seen.page.evaluate(f"fetch('/api{SYMBOL}/explain').then((answer) => answer.json())")["explanation"]
    seen.page.close()
    value = {head["head"]: head["value"] for head in told["heads"]}
    last = {row[0]: row[4] for row in rows if row[4]}
    assert set(last) == {"return", "volatility"}
    assert last["return"] == f"{100 * value['return']:+.2f} %".replace("-", "−")
    spread = 100 * next(one["standard_deviation"] for one in told["heads"] if one["head"] == "volatility")
    said = f"{value['volatility']:.3f} (s.d. from close to close {spread:.2f} %)"
    assert last["volatility"] == said.replace("-", "−", 1)
    assert [row[3] for row in rows if row[3]].count("the start") == 2


def test_contrast_is_enough(browser: Any, address: str) -> None:
    """WCAG AA: 4.5 to 1 for the texts of both colour schemes."""
    script = """() => {
      const light = (text) => {
        const part = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
          .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
      };
      const found = {};
      const roles = ["--ink", "--quiet", "--good", "--bad", "--accent"];
      for (const card of ["--paper", "--card"]) for (const role of roles) {
        const probe = document.createElement("i");
        probe.style.color = `var(${role})`; probe.style.backgroundColor = `var(${card})`;
        document.body.append(probe);
        const style = getComputedStyle(probe), both = [light(style.color), light(style.backgroundColor)].sort();
        found[card + role] = (both[1] + 0.05) / (both[0] + 0.05);
        probe.remove();
      }
      return found;
    }"""
    for scheme in ("light", "dark"):
        seen = Seen(browser, address, scheme=scheme)
        low = {role: round(ratio, 2) for role, ratio in seen.page.evaluate(script).items() if ratio < 4.5}
        assert low == {}, scheme
        seen.page.close()


def test_the_table_is_found_and_sorted_by_keyboard(browser: Any, address: str) -> None:
    page = Seen(browser, address).page
    page.fill("#find", "a/b")
    assert page.locator("#all tbody tr:visible").count() == 1
    assert page.text_content("#found") == "1 symbol"
    page.fill("#find", "")
    first = page.locator("[data-sort=text]").first
    first.focus()
    page.keyboard.press("Enter")
    up = page.locator("#all tbody tr td:first-child a").all_text_contents()
    assert up == sorted(up, key=str.lower)
    page.keyboard.press("Enter")
    assert page.locator("#all tbody tr td:first-child a").all_text_contents() == up[::-1]
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.close()


def test_a_click_on_a_bar_says_what_was_decided_there(browser: Any, address: str) -> None:
    page = Seen(browser, address + SYMBOL).page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    label = page.evaluate("document.getElementById('candles').data.find((one) => one.type === 'candlestick').x.at(-1)")
    page.evaluate("(x) => document.getElementById('candles').emit('plotly_click', {points: [{x}]})", label)
    page.wait_for_selector("#clicked.said")
    assert "expected over 5 bars" in page.text_content("#clicked")
    assert page.text_content("#clicked").startswith(label)
    assert ". Strategy in force: " in page.text_content("#clicked")
    page.wait_for_function("(x) => document.getElementById('explained-said').textContent.includes(x)", arg=label)
    first = page.evaluate("document.getElementById('candles').data.find((one) => one.type === 'candlestick').x.at(0)")
    page.evaluate("(x) => document.getElementById('candles').emit('plotly_click', {points: [{x}]})", first)
    page.wait_for_function(
        "() => document.getElementById('explained-said').textContent.includes('nothing was decided at')"
    )
    assert page.is_hidden("#explained-parts")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/symbols/%3Cb%3E*")
    page.close()


def test_an_earlier_close_is_explained_by_keyboard_and_the_newest_again(browser: Any, address: str) -> None:
    page = Seen(browser, address + SYMBOL).page
    page.wait_for_selector("#explained-steps tbody tr")
    newest, unclicked = page.text_content("#explained-said"), page.text_content("#clicked")
    choose = page.locator("#closes td button").nth(1)
    close = choose.text_content()
    assert close not in newest
    assert page.is_hidden("#newest")
    choose.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#clicked.said")
    assert page.text_content("#clicked").startswith(close)
    page.wait_for_function("(x) => document.getElementById('explained-said').textContent.includes(x)", arg=close)
    assert page.evaluate("document.activeElement.id") == "newest"
    page.keyboard.press("Enter")
    page.wait_for_function("(x) => document.getElementById('explained-said').textContent === x", arg=newest)
    assert page.text_content("#clicked") == unclicked
    assert page.evaluate("document.activeElement.textContent") == close
    page.close()


def test_the_dot_of_a_stale_store_is_not_that_of_a_fresh_one(browser: Any, made: Path, now: datetime) -> None:
    dot = "getComputedStyle(document.querySelector('#live i')).backgroundColor"
    colours = []
    for moment in (now, now + timedelta(days=400)):
        with serving(made, moment) as found:
            page = Seen(browser, found).page
            page.wait_for_selector("#live.on")
            colours.append(page.evaluate(dot))
            page.close()
    assert colours[0] != colours[1]


def test_an_open_page_says_that_something_new_was_decided(browser: Any, address: str) -> None:
    page = Seen(browser, address).page
    page.wait_for_selector("#live.on")
    assert page.is_hidden("#news")
    page.evaluate("document.body.dataset.record = 1")
    page.reload()
    page.wait_for_selector("#live.on")
    page.close()
