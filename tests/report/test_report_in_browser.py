"""The report in a browser, wide and narrow, light and dark: whole, offline, nothing wider than the screen.

Needs Chromium; where there is none on the path the tests are skipped.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from browsing import Seen, browser, needs_chromium, violations

from gatecast.report import render, render_data, report_data
from gatecast.report.offline import style_sheet
from tests.report.test_book_section import UNSURE, scores
from tests.report.test_report import fake_run

__all__ = ["browser"]  # a fixture
pytestmark = needs_chromium
SYMBOLS = ["NASDAQ", "=SUM(A1)", "S&P <500>"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with a book, as a file."""
    run = fake_run(SYMBOLS, n=700)
    holds = [{"session": "2010-09-01", "symbol": one, "held": 0.1, "trade": 2.0} for one in SYMBOLS]
    run.scores["book"] = {**scores(UNSURE)["book"], "holds": holds}
    regime = run.forecasts.filter(model="lstm", head="regime").with_columns(model=pl.lit("ensemble"))
    run = replace(run, forecasts=pl.concat([run.forecasts, regime]))
    page: Path = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(render(run), encoding="utf-8")
    return page.as_uri()


def opened(browser: Any, address: str, width: int = 1400, scheme: str = "light") -> Seen:
    """The page with its chart drawn and everything unfolded."""
    seen = Seen(browser, address, width, scheme)
    seen.page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    seen.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    seen.page.wait_for_function("!document.querySelector('[data-figure]:not(.js-plotly-plot)')")
    return seen


TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter((one) => !one.closest('.skip, svg') && one.getBoundingClientRect().width)
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
  .map((one) => `${one.tagName}.${one.className} ${one.textContent.slice(0, 40)}`)"""
SIDEWAYS = """() => [...document.querySelectorAll('body *')]
  .filter((one) => ['auto', 'scroll'].includes(getComputedStyle(one).overflowX))
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => `${one.className} ${one.textContent.trim().slice(0, 40)}`)"""


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_the_page_is_whole_offline_and_no_wider_than_the_screen(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    seen = opened(browser, address, width, scheme)
    assert [one for one in seen.asked if one != address] == []
    assert seen.complaints == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    assert seen.page.evaluate(TOO_WIDE) == []
    if width == 390:
        assert seen.page.evaluate(SIDEWAYS) == []
    assert violations(seen.page) == []
    seen.page.close()


def test_a_chapter_is_unfolded_by_its_link_and_its_pictures_are_drawn_then(browser: Any, address: str) -> None:
    page = Seen(browser, address).page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    assert page.locator("#money [data-figure].js-plotly-plot").count() == 0
    page.click('nav a[href="#money"]')
    page.wait_for_selector("#money [data-figure].js-plotly-plot .main-svg")
    assert page.locator("#money > details[open]").count() == 1
    assert page.locator("#scores > details[open]").count() == 0
    page.close()
    linked = Seen(browser, f"{address}#scores").page
    linked.wait_for_selector("#scores > details[open]")
    linked.close()


def test_what_to_trade_is_the_first_thing_and_stands_open_on_a_telephone(browser: Any, address: str) -> None:
    for width in (390, 1400):
        page = Seen(browser, address, width).page
        page.wait_for_selector("#candles.js-plotly-plot .main-svg")
        tables = page.locator("#today > details")
        assert tables.count() == 2
        assert tables.evaluate_all("(all) => all.map((one) => one.open)") == [True, True]
        assert tables.first.bounding_box()["y"] < 300
        assert tables.first.bounding_box()["y"] < page.locator("#chart").bounding_box()["y"]
        page.close()


def test_the_chart_of_one_symbol_fills_its_card(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "one.html"
    file.write_text(render(fake_run(["A"], n=400)), encoding="utf-8")
    page = Seen(browser, file.as_uri()).page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    card, chart = (page.locator(one).bounding_box()["width"] for one in ("#chart", "#candles"))
    assert chart > 0.9 * card
    page.close()


def test_what_was_decided_is_drawn_until_the_next_decision(browser: Any, tmp_path: Path) -> None:
    """Closes without a decision of their own, as between two updates; not those before the first and after the last."""
    data = report_data(fake_run(["A"], n=400))
    chart = data["figures"]["candles"]["A"]
    count = len(chart["time"])
    decided = {5: 0.2, 40: 0.3, count - 20: 0.1}
    chart["held"] = [decided.get(place) for place in range(count)]
    chart["strategy"] = [{5: "trend", 40: "flat"}.get(place) for place in range(count)]
    file = tmp_path / "gaps.html"
    file.write_text(render_data(data), encoding="utf-8")
    page = Seen(browser, file.as_uri()).page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    page.click("[data-bars='0']")
    of = "name => document.querySelector('#candles').data.find(one => one.name === name)"
    held, trend = (page.evaluate(of, name) for name in ("held", "trend"))
    expected = [None] * 5 + [0.2] * 35 + [0.3] * (count - 60) + [0.1] + [None] * 19
    assert held["y"] == expected
    assert trend["x"] == chart["time"][5:40]
    page.close()


PAPER = {"width": 695, "height": 1000}
"""Pixels of a page of A4 within its margins."""


def test_what_is_printed_is_short_light_and_within_the_page(browser: Any, address: str) -> None:
    """What is folded stays away, as do the navigation and buttons; no table or chart is wider than the paper."""
    page = Seen(browser, address, scheme="dark").page
    page.wait_for_selector("#candles.js-plotly-plot .main-svg")
    screen = page.locator("#candles .main-svg").first.get_attribute("width")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size(PAPER)
    assert page.locator("details:not([open])").first.count() == 1
    for hidden in ("details:not([open])", "nav", "button.csv", ".picks", ".chapter:has(> details:not([open]))"):
        assert not any(one.is_visible() for one in page.locator(hidden).all()), hidden
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER["width"]
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"
    assert page.locator("#candles .main-svg").first.get_attribute("width") == "660"
    assert page.evaluate("document.querySelector('#candles')._fullLayout.font.color") == "#1d2430"
    page.emulate_media(media="screen", color_scheme="dark")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_selector(f"#candles .main-svg[width='{screen}']")
    assert page.evaluate("document.querySelector('#candles')._fullLayout.font.color") == "#e6e4de"
    page.close()


def printed(browser: Any, body: str) -> int:
    """Pages of A4 that a body takes with the report's style sheet."""
    page = browser.new_page()
    page.set_content(f"<style>{style_sheet()}</style><main>{body}</main><footer>Made</footer>")
    paper = page.pdf(format="A4", prefer_css_page_size=True)
    page.close()
    return len(re.findall(rb"/Type\s*/Page\b", paper))


TALL = "<div><svg width='20' height='{}'></svg></div>"
ROWS = f"<table><tbody>{'<tr><td>1</td></tr>' * 40}</tbody></table>"
LANES = f"<div class='lane'>{TALL.format(80)}</div>" * 8


@pytest.mark.parametrize(
    "body",
    [
        # 480 pixels and a chart of 330 fit into the 1017 of a page, whatever heading comes after
        f"{TALL.format(480)}<figure>{TALL.format(330)}<figcaption>said</figcaption></figure>"
        f"<section><h2>Verdicts</h2><div class='panel'>{TALL.format(700)}</div></section>",
        # long tables and many lanes begin where they stand, and go on over the page
        f"{TALL.format(480)}<section><h2>Rows</h2><div class='panel'>{ROWS}</div></section>{TALL.format(350)}",
        f"{TALL.format(480)}<section id='verdicts'><h2>Lanes</h2><div class='panel'>{LANES}</div></section>"
        f"{TALL.format(350)}",
    ],
)
def test_what_is_printed_leaves_no_page_half_white(browser: Any, body: str) -> None:
    assert printed(browser, body) == 2


def test_the_last_line_is_not_printed_on_a_page_of_its_own(browser: Any) -> None:
    page = Seen(browser, "about:blank").page
    page.set_content(f"<style>{style_sheet()}</style><main><p>a</p></main><footer>Made</footer>")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('footer')).breakBefore") == "avoid"
    page.close()


FAINT = """() => {
  const parts = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    const all = text.startsWith('color(') ? found : found.map((one, i) => i < 3 ? one / 255 : one);
    return all.length < 4 ? [...all, 1] : all;
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.9) return colour;
    }
    return [1, 1, 1, 1];
  };
  const own = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll('body *')]
    .filter((one) => own(one) && one.checkVisibility() && !one.closest('svg, script, .skip'))
    .map((one) => {
      const both = [light(parts(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => a - b);
      return [one.textContent.trim().slice(0, 40), (both[1] + 0.05) / (both[0] + 0.05)];
    }).filter(([, ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser: Any, address: str, scheme: str) -> None:
    """WCAG 2.1 AA: 4.5 to 1, as the browser computed the colours."""
    seen = opened(browser, address, scheme=scheme)
    assert seen.page.evaluate(FAINT) == []
    seen.page.close()


def test_every_picture_says_what_it_shows_and_every_table_has_heads(browser: Any, address: str) -> None:
    seen = opened(browser, address)
    labels = seen.page.evaluate("[...document.querySelectorAll('.plot')].map((one) => one.getAttribute('aria-label'))")
    assert len(labels) > 5
    assert all(label and any(letter.isdigit() for letter in label) for label in labels), labels
    assert seen.page.evaluate("[...document.querySelectorAll('button')].every((one) => one.textContent.trim())")
    seen.page.close()


def test_a_symbol_is_found_and_its_chart_is_drawn(browser: Any, address: str) -> None:
    page = opened(browser, address).page
    assert sorted(page.locator("[data-pick] b").all_text_contents()) == sorted(SYMBOLS)
    page.fill("#find-symbol", "s&p")
    assert page.locator("[data-pick]:visible").count() == 1
    page.keyboard.press("Enter")
    assert page.get_attribute("#candles", "aria-label").startswith("S&P <500>: 120 bars from ")
    drawn = page.evaluate(
        """() => { const { data, layout } = document.getElementById('candles');
          const candles = data.find((one) => one.type === 'candlestick');
          const volume = data.find((one) => one.yaxis === 'y4');
          return { up: candles.increasing.line.color, down: candles.decreasing.line.color, shades: layout.shapes.length,
            volume: volume.y.length, bars: candles.x.length, names: data.map((one) => one.name) }; }"""
    )
    assert drawn["up"] != drawn["down"]
    assert drawn["volume"] == drawn["bars"] == 500
    assert drawn["shades"] > 0
    assert "forecast 5 bars before, ± 1 s.d." in drawn["names"]
    assert not [name for name in drawn["names"] if "<" in str(name)]
    page.close()


def test_arrows_are_filled_where_the_signal_was_traded(browser: Any, address: str) -> None:
    page = opened(browser, address).page
    arrows = page.evaluate(
        """document.getElementById('candles').data.filter((one) => one.mode === 'markers')
          .map((one) => [one.name, one.marker.symbol])"""
    )
    assert dict(arrows) == {
        "bullish, traded": "triangle-up", "bullish, not traded": "triangle-up-open",
        "bearish, traded": "triangle-down", "bearish, not traded": "triangle-down-open",
    }  # fmt: skip
    page.close()


def saved(page: Any, name: str) -> list[list[str]]:
    """The rows of the CSV that the button of a table saves."""
    with page.expect_download() as download:
        page.locator(f'button.csv[aria-label="Save as CSV: {name}"]').click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


def test_the_csv_is_the_table_as_numbers(browser: Any, address: str) -> None:
    page = opened(browser, address).page
    rows = saved(page, "The lines")
    assert rows[0][:5] == ["Sized by", "Return, %", "Volatility, %", "Sharpe ratio", "Deepest drawdown, %"]
    shown = page.evaluate(
        """[...document.querySelectorAll('#book h3')].find((one) => one.textContent === 'The lines')
          .closest('.panel').querySelectorAll('tbody tr').values()
          .map((row) => [...row.cells].map((one) => one.textContent)).toArray()"""
    )
    plain = [[cell.replace("−", "-").removesuffix(" %").replace("–", "") for cell in row] for row in shown]
    assert rows[1:] == plain
    holds = saved(page, "What the book holds and trades")
    assert "'=SUM(A1)" in [row[0] for row in holds]  # no formula for a spreadsheet
    page.close()


def test_the_months_are_saved_exactly(browser: Any, address: str) -> None:
    page = opened(browser, address).page
    name = page.get_attribute("table.months >> nth=0", "data-csv")
    rows = saved(page, name)
    assert len(rows[0]) == 14
    exact = page.locator("table.months").first.locator("td[data-exact]").first.get_attribute("data-exact")
    assert exact in rows[1]
    page.close()


def test_a_table_is_sorted_by_the_keyboard_and_words_stay_with_their_row(browser: Any, address: str) -> None:
    page = opened(browser, address).page
    heading = page.locator("table.newest th button[data-sort=text]").first
    heading.focus()
    page.keyboard.press("Enter")
    names = page.locator("table.newest tr:not(.why) td:first-child b").all_text_contents()
    assert names == sorted(SYMBOLS, key=str.lower)
    assert page.locator("table.newest th[aria-sort=ascending]").count() == 1
    follows = page.evaluate(
        """[...document.querySelectorAll('table.newest tr.why')]
          .every((one) => !one.previousElementSibling.matches('.why'))"""
    )
    assert follows
    page.locator("table.newest th button[data-sort=size]").click()
    sizes = [abs(float(one.replace("−", "-"))) for one in page.locator('td[data-name$=": z"]').all_text_contents()]
    assert sizes == sorted(sizes, reverse=True)
    page.close()
