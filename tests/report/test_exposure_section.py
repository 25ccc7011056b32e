"""What today's book may lose, on the page: its numbers are those of the scores, and what cannot be said is said."""

from __future__ import annotations

from typing import Any

import pytest

from gatecast.files import jsonable
from gatecast.report import render, report_data
from gatecast.report.words import decimals, percent
from gatecast.store.schema import Scores, fault_of
from tests.report.fakes import FakeRun
from tests.report.test_book_section import UNSURE, scores
from tests.report.test_report import HOSTILE, Tags

NAN = float("nan")


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly */")


def today(**changed: Any) -> dict[str, Any]:
    found = {
        "line": "ensemble", "day": "2020-01-30", "gross": 0.8, "net": 0.6, "horizon": 5, "volatility": 0.1,
        "vectors": 900,
        "tails": [
            {"method": method, "sessions": count, "level": level, "value_at_risk": -0.01 * count - level / 100,
             "shortfall": -0.02 * count - level / 100}
            for count in (1, 5) for level in (0.975, 0.99) for method in ("filtered", "historical_250", "normal")
        ],
        "symbols": [
            {"symbol": f"S{place:02}", "asset_class": "equity", "weight": 0.05, "share": 0.07 - place / 1000,
             "value_at_risk": -0.03, "shortfall": -0.04}
            for place in range(15)
        ],
        "betas": {"equity": 0.55, "duration": -0.2},
        "stress": [
            {"name": "equity -20 %", "result": -0.11, "words": "by betas to equity", "worst": NAN, "proxied": [],
             "left_out": ["S03"]},
            {"name": "oil -40 %", "result": NAN, "words": "no data: no symbol stands for it", "worst": NAN,
             "proxied": [], "left_out": []},
            {"name": "2008", "result": -0.12, "words": "2008-09-15 to 2008-11-20", "worst": -0.25,
             "proxied": [f"S{place:02}" for place in range(6)], "left_out": []},
            {"name": "2020", "result": NAN, "words": "no data: none", "worst": NAN, "proxied": [], "left_out": []},
            {"name": "2022", "result": NAN, "words": "no data: none", "worst": NAN, "proxied": [], "left_out": []},
        ],
        "smallest_move": {"loss": -0.2, "deviations": 2.0, "moves": {f"S{place:02}": -0.3 for place in range(6)}},
        "days_to_sell": {"50%": 0.004, "90%": 2.5, "100%": NAN, "unknown": ["S04"]},
    }  # fmt: skip
    return found | changed


def given(found: dict[str, Any] | None) -> dict[str, Any]:
    whole = scores(UNSURE)
    whole["book"]["risk"] |= {"today": jsonable(found)}
    return whole


def text_of(found: dict[str, Any] | None) -> str:
    return Tags(render(FakeRun(scores=given(found)))).text.replace("\N{NO-BREAK SPACE}", " ")


def test_what_a_bad_session_costs_is_said_and_stands_in_the_table() -> None:
    text = text_of(today())
    held = "gatecast's line holds 80 % of its equity, long plus short, with a volatility of 10.0 % a year"
    assert f"{held}, not scaled by the book's past errors." in text
    worst = "In one session of 40 it loses 2.0 % or more (value at risk), and 3.0 % in the mean of those (expected "
    assert f"{worst}shortfall)." in text
    for count, method, words in (
        (1, "filtered", "simulated"),
        (5, "historical_250", "last 250"),
        (5, "normal", "normal"),
    ):
        own = [row for row in today()["tails"] if (row["sessions"], row["method"]) == (count, method)]
        cells = [decimals(100 * row[name], 1) for row in own for name in ("value_at_risk", "shortfall")]
        assert " ".join([words, *cells]) in text
    assert "One session, % 97.5 beyond 97.5 99 beyond 99" in text
    assert "5 sessions, % 97.5 beyond 97.5 99 beyond 99" in text


def test_stresses_stand_with_their_words_and_those_without_data_apart() -> None:
    text = text_of(today())
    assert "equity −20 % by betas to equity; taken as unmoved: S03 −11.0 %" in text
    replayed = (
        "2008 again 2008-09-15 to 2008-11-20; deepest on the way −25.0 %; "
        "by beta to class or equities, without bars then: S00, S01, S02, S03 and 2 more −12.0 %"
    )
    assert replayed in text
    assert "oil −40 %: no data: no symbol stands for it." in text
    assert "2020, 2022: no data: none." in text


def test_where_the_risk_comes_from_and_how_long_it_takes_to_sell() -> None:
    text = text_of(today())
    for row in today()["symbols"][:12]:
        cells = [row["symbol"], percent(row["weight"]), percent(row["share"], 0), percent(row["shortfall"])]
        assert " ".join(cells) in text
    assert "S12 5.0 %" not in text
    assert "And 3 more with less." in text
    assert "Beta to equity 0.55 Duration, years −0.20" in text
    assert "Sessions to sell 50 % 0.1 Sessions to sell 90 % 2.5 Sessions to sell 100 % –" in text
    assert "No volume in money of S04: a volume is money where it counts shares" in text
    assert "The likeliest way to lose 20 %: S00 −30.0 %, S01 −30.0 %, S02 −30.0 %, S03 −30.0 %, and 2 more." in text


def test_a_book_of_which_little_is_known_says_so() -> None:
    nothing = {"line": "ensemble", "day": "2020-01-30", "gross": 0.0, "net": 0.0, "horizon": 5}
    text = text_of(nothing)
    assert "After the close of 2020-01-30 gatecast's line holds nothing." in text
    assert "Stress on" not in text
    young = today(vectors=19, tails=[{**row, "value_at_risk": NAN, "shortfall": NAN} for row in today()["tails"]])
    assert "a bad session cannot be said: that takes 250 past sessions" in text_of(young)
    unsold = today(days_to_sell={"50%": NAN, "unknown": ["S04"]})
    assert "Sessions to sell cannot be said of S04: a volume is money where it counts shares" in text_of(unsold)
    assert report_data(FakeRun(scores=given(None)))["book"]["today"] is None
    assert "What today's book may lose" not in text_of(None)


def test_hostile_words_stay_text_and_other_shapes_are_refused() -> None:
    rows = [{**row, "name": HOSTILE, "words": HOSTILE, "proxied": [HOSTILE]} for row in today()["stress"]]
    found = today(
        stress=rows, symbols=[{"symbol": HOSTILE}], betas={HOSTILE: 1.0}, day=HOSTILE, days_to_sell={HOSTILE: 1.0},
        smallest_move={"loss": None, "deviations": 1.0, "moves": {HOSTILE: 1.0, "B": None}},
        tails=[{"method": HOSTILE, "sessions": HOSTILE, "level": HOSTILE, "value_at_risk": HOSTILE}],
    )  # fmt: skip
    page = Tags(render(FakeRun(scores=given(found))))
    assert report_data(FakeRun(scores=given(today(days_to_sell={"unknown": 3.0}))))["book"]["today"]["facts"]
    assert [tag for tag, _ in page.tags].count("script") == 4
    assert "img" not in {tag for tag, _ in page.tags}
    for change in ({"tails": [{"method": 1}]}, {"stress": [{"name": "a", "proxied": 3}]}, {"day": "soon"},
                   {"symbols": [{"symbol": 4}]}, {"smallest_move": {"moves": [1]}}):  # fmt: skip
        assert "book.risk.today" in fault_of(Scores, given(today(**change)))
    assert fault_of(Scores, given(today())) == ""
