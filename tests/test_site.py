"""The documentation site is built without a warning or a request, and leaves out no command and no public name."""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from browsing import Seen, browser, needs_chromium

import gatecast
from gatecast import live, market, report, store
from gatecast.cli.app import app
from gatecast.samples import features

__all__ = ["browser"]  # a fixture
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import site_docstrings  # noqa: E402
import site_pages  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@needs_chromium
def test_no_line_of_code_is_cut_on_a_wide_screen(browser: Any, site: Path) -> None:
    cut = "[...document.querySelectorAll('pre > code')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    for page in ("index.html", "live.html", "orders.html", "tutorial/own_data.html"):
        shown = Seen(browser, (site / page).as_uri()).page
        assert shown.evaluate(cut) == 0, page
        shown.close()


def test_every_public_name_has_its_place_in_the_reference(site: Path) -> None:
    anchors = {
        anchor
        for page in (site / "reference").glob("*.html")
        for anchor in re.findall(r'<h\d id="(gatecast\.[^"]+)"', page.read_text(encoding="utf-8"))
    }
    for name, full in site_pages.front_door():
        assert full in anchors, name
    for module in (market, features, store, live, report):
        missing = {site_pages.home(module, name) for name in module.__all__} - anchors
        assert missing == set(), module.__name__
    assert {name for names in site_pages.reference().values() for name in names} <= anchors


def test_the_front_door_is_all_that_gatecast_offers() -> None:
    own = {name for name in gatecast.__all__ if not inspect.ismodule(getattr(gatecast, name))}
    assert {name for name, _ in site_pages.front_door()} == own


def test_every_page_is_in_the_navigation_and_linked_from_the_first_page() -> None:
    pages = {str(one.relative_to(ROOT / "docs")) for one in (ROOT / "docs").rglob("*.md")}
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"[\w/]+\.md$", settings.split("\nnav:")[1], re.MULTILINE)
    assert pages - set(named) == set()
    linked = re.findall(r"\]\(([\w/]+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert pages - {"index.md"} - set(linked) == set()


def test_the_front_page_says_which_commands_have_no_json() -> None:
    def without(command: Any, name: str = "") -> list[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [] if any("--json" in one.opts for one in command.params) else [name]
        return [found for one, own in inner.items() for found in without(own, one)]

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    said = text.split("Every command but ")[1].split(" takes `--json`")[0]
    assert re.findall(r"`(\w+)`", said) == without(typer.main.get_command(app))


def test_no_page_asks_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)="(https?:)?//', text), page.name
    assert not re.search(r"url\((https?:)?//", (site / "site.css").read_text(encoding="utf-8"))


def test_examples_and_tutorials_are_on_the_pages(site: Path) -> None:
    page = (site / "tutorial" / "verdict.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    for part in ("runs", "verdicts", "figures"):
        said = (ROOT / "examples" / "reading_a_verdict.py").read_text(encoding="utf-8")
        lines = said.split(f"[start:{part}]")[1].split("# --8<--")[0].strip().splitlines()
        assert all(line.strip() in text for line in lines), part
    settings = (site / "settings.html").read_text(encoding="utf-8")
    assert "target_volatility" in settings


def test_every_command_and_option_is_on_its_page_with_its_words() -> None:
    page = site_pages.commands_page()
    commands = dict(site_pages.every_command())
    assert {"run", "judge", "store check", "actions resolve", "serve"} <= commands.keys()
    for words, command in commands.items():
        part = page.split(f"## gatecast {words}\n")[1].split("\n## ")[0]
        for one in command.params:
            name = one.name.upper() if one.param_type_name == "argument" else one.opts[0]
            (row,) = [line for line in part.splitlines() if re.match(rf"\| [^|]*`{re.escape(name)}`", line)]
            assert row.split(" | ")[-1].rstrip(" |"), f"{words} {name} has no words"


def test_examples_of_docstrings_become_blocks_of_code() -> None:
    text = "One.\n\n>>> 1 + 1\n2\n\nTwo, with a > sign:\n>>> f(1)"
    fenced = "One.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nTwo, with a > sign:\n\n```pycon\n>>> f(1)\n```"
    assert site_docstrings.fenced(text) == fenced
    assert site_docstrings.fenced("a >>> b is no example") == "a >>> b is no example"
