"""Intervals on the page: what was promised beside what held, and the fan."""

from __future__ import annotations

from typing import Any

from gatecast.report.figures import coverage_data
from gatecast.report.intervals import intervals
from gatecast.report.page import render
from tests.report.fakes import FakeRun


def row(scope: str, part: str, level: float, coverage: float, step: int = 5, days: int = 250) -> dict[str, Any]:
    return {
        "scope": scope, "part": part, "step": step, "level": level, "days": days, "forecasts": 2500,
        "coverage": coverage, "width": 0.0812,
    }  # fmt: skip


ROWS = [
    row("overall", "all", 0.8, 0.793), row("overall", "all", 0.95, 0.947), row("overall", "all", 0.8, 0.9, step=1),
    row("year", "2008", 0.8, 0.744), row("year", "2009", 0.8, 0.82), row("year", "2010", 0.8, 0.2, days=20),
    row("year", "2008", 0.95, 0.94), row("regime", "calm", 0.8, 0.79), row("regime", "turbulent", 0.8, 0.81),
]  # fmt: skip


def test_the_page_says_what_held_and_names_the_year_that_did_not() -> None:
    found = intervals(ROWS)
    assert found is not None
    assert found["says"] == [
        "The 80 % intervals contain 79.3 % of 2,500 outcomes; worst year 2008 with 74.4 %; calm 79.0 %, turbulent "
        "81.0 %. More than 5 points off: 2008.",
        "The 95 % intervals contain 94.7 % of 2,500 outcomes; worst year 2008 with 94.0 %.",
    ]
    assert found["levels"] == "80 and 95 %"
    page = render(FakeRun(scores={"coverage": ROWS}))
    assert found["says"][0] in page
    assert "Coverage and width of the intervals" in page
    assert 'data-figure="coverage"' in page
    assert intervals([]) is None
    assert "Coverage and width of the intervals" not in render(FakeRun(scores={}))


def test_the_picture_has_a_line_a_level_over_the_years() -> None:
    data = coverage_data(FakeRun(scores={"coverage": ROWS}))
    assert data is not None
    assert data["horizon"] == 5
    assert [(one["level"], one["year"], one["coverage"]) for one in data["series"]] == [
        (0.8, [2008, 2009, 2010], [0.744, 0.82, 0.2]),
        (0.95, [2008], [0.94]),
    ]
    assert coverage_data(FakeRun(scores={"coverage": []})) is None
