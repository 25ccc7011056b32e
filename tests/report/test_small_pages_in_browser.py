"""Cards and the pages of studies in a browser: offline, no wider than the screen, nothing that axe finds.

Needs Chromium; where there is none on the path the tests are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browsing import Seen, browser, needs_chromium, violations

from gatecast.report.cadence import render_cadences
from gatecast.report.card import Card, Section
from gatecast.report.sensitivity import render_sensitivity
from gatecast.studies.sensitivity import Sensitivity

__all__ = ["browser"]  # a fixture
pytestmark = needs_chromium


def card() -> str:
    """A card with a long word, and a table of nine columns."""
    columns = [f"column {place} of the table" for place in range(9)]
    said = ["of one word: " + "d52d74b77767428e" * 5, "<b>no markup</b>"]
    return Card("abc", 3, "f" * 64, "2024-01-05T21:00", [Section("Data", said, columns, [columns, columns])]).html()


def map_of_two_settings() -> str:
    values = np.array([[0.1, 0.2, 0.1], [0.0, 1.6, 0.3], [0.1, -0.2, np.nan]])
    axes: Any = ((None, 1, 2), (True, "a<b", 0.5))
    found = Sensitivity(
        "<run>", ("book.one", "book.two"), axes, "sharpe", values, np.full((3, 3), 0.3), (1, 1), "book", 8, 9
    )  # fmt: skip
    return render_sensitivity(found)


def cadences() -> str:
    others = ("monthly", "quarterly", "yearly", "monthly_warm")
    differences = [
        SimpleNamespace(against="never", cadence=name, head=head, reason="", gain=0.02, low=-0.01, high=0.05)
        for head in ("return", "volatility")
        for name in others
    ]
    study: Any = SimpleNamespace(
        heads=["return", "volatility"], differences=differences, rests="Of 3 symbols.",
        costs={name: SimpleNamespace(epochs=4.0) for name in ("never", *others)},
        sentences={"return": "No difference that can be told."}, summary=lambda: "cost  epochs\n" * 20,
    )  # fmt: skip
    return render_cadences(study)


@pytest.mark.parametrize("page", [card, map_of_two_settings, cadences])
def test_the_page_is_whole(page: Callable[[], str], browser: Any, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    place.write_text(page(), encoding="utf-8")
    for width in (1400, 390):
        for scheme in ("light", "dark"):
            seen = Seen(browser, place.as_uri(), width, scheme)
            if page is cadences:
                seen.page.wait_for_selector(".js-plotly-plot .main-svg")
            assert (seen.asked, seen.complaints) == ([place.as_uri()], [])
            assert seen.page.evaluate("document.documentElement.scrollWidth") == width
            assert violations(seen.page) == []
            seen.page.close()
