"""The section on the book: its numbers are those of the scores; scores without a book, or hostile ones, do no harm."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from gatecast.evaluation.findings import short_of_target
from gatecast.evaluation.risk import Answer, Risk, verdict_on
from gatecast.evaluation.verdict import Verdict
from gatecast.files import jsonable
from gatecast.report import drawing, figures, render, report_data
from gatecast.report.drawing import draw_book
from gatecast.report.words import decimals, percent, typeset
from gatecast.store.schema import Scores, fault_of
from tests.report.fakes import FakeRun
from tests.report.test_report import HOSTILE, Tags

NAN = float("nan")
LINES = {
    "constant": "constant variance", "ewma": "EWMA", "rival": "best simple forecast so far",
    "har_falls": "log-HAR with falls", "ensemble": "gatecast", "tilted": "gatecast, with what strategies add",
    "bought_and_held": "bought and held",
}  # fmt: skip


VISIONS = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
"""What an eye sees of linear red, green and blue: Machado, Oliveira and Fernandes (2009), table 1, severity 1."""
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


def seen(colour: str, vision: str) -> Any:
    """A colour as an eye sees it, in CIE L*a*b*."""
    part = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = np.array(TO_XYZ) @ np.clip(np.array(VISIONS[vision]) @ linear, 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_the_book_are_told_apart_by_dashes_and_by_colours_of_every_eye(vision: str, scheme: str) -> None:
    """CIE76 distances of 12 and more; with and without the tilt gatecast's line has one colour."""
    names = [*LINES, "cash"]
    series = [{"line": name, "title": name, "equity": [1.0, 1.1]} for name in names]
    looks = {one.name: one.line for one in drawing.draw_book({"day": ["a", "b"], "series": series}).data}
    assert len({one.dash for one in looks.values()}) == len(names)
    swapped = dict(zip(drawing.LIGHT.values(), drawing.DARK.values(), strict=True)) if scheme == "dark" else {}
    colours = [swapped.get(looks[name].color, looks[name].color) for name in names if name != "tilted"]
    near = min(
        float(np.linalg.norm(seen(one, vision) - seen(two, vision))) for one, two in itertools.combinations(colours, 2)
    )
    assert near > 12


def risk(forecast: tuple[float, float], control: tuple[float, float], money: tuple[float, float]) -> Risk:
    """Answers with these intervals, p .001 where they are above 0 and .4 elsewhere."""
    made = [
        Answer("m", (low + high) / 2, low, high, 0.001 if low > 0 else 0.999 if high < 0 else 0.4, 0.0123, 900)
        for low, high in (forecast, control, money)
    ]
    lines = {name: {"spread": 0.2 + 0.001 * place, "worst": 1.5 + 0.01 * place} for place, name in enumerate(LINES)}
    return Risk("rival", *made, lines=lines)


def other(pvalue: float = 0.5, trials: int = 1) -> Verdict:
    """Another verdict of the same run."""
    return Verdict(
        "return", "cannot tell", 0.0, -0.1, 0.1, "t", 0.0, pvalue, 1.0, 900, None, NAN, trials, 5, "zero", "R²", "No."
    )


def scores(found: Risk, *, trials: int = 1, **changed: Any) -> dict[str, Any]:
    days = [f"2020-01-{day:02}" for day in range(1, 31)]
    rows = [
        {"line": name, "title": title, "return": 0.01 * place, "volatility": 0.09 + 0.001 * place,
         "sharpe": 0.5 - 0.1 * place, "drawdown": -0.1 - 0.01 * place, "gross": 0.8 + 0.01 * place,
         "turnover": 1.0 + place, "cost": 0.001 * (place + 1), "reached": 0.75, "sessions": 400,
         "caps": {"gross": 90}, "findings": [{"kind": "lot", "closes": 3, "newest": "K: one lot is too large"}]}
        for place, (name, title) in enumerate(LINES.items())
    ]  # fmt: skip
    curve = {name: (1e6 * (1 + 0.01 * place) ** np.arange(30)).tolist() for place, name in enumerate([*LINES, "cash"])}
    book = {
        "target_volatility": 0.1, "capital": 1e6, "currency": "USD", "cash_rate": 0.02,
        "left_out": {"ES": "ES: a future needs a contract."}, "lines": rows, "risk": found.to_dict(),
        "curve": {"day": days, **curve},
    }  # fmt: skip
    verdict = verdict_on(found, {"return": other(trials=trials)}).to_dict()
    whole: dict[str, Any] = jsonable({"verdicts": {"risk": verdict}, "book": {**book, **changed}})
    assert fault_of(Scores, whole) == ""
    return whole


@pytest.fixture(autouse=True)
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly */")


UNSURE = risk((-0.01, 0.02), (-0.01, 0.02), (-0.003, 0.006))


def text_of(given: dict[str, Any]) -> str:
    return Tags(render(FakeRun(scores=given))).text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_table_and_the_picture_have_the_numbers_of_the_scores() -> None:
    given = scores(UNSURE)
    page = Tags(render(FakeRun(scores=given)))
    for row in given["book"]["lines"]:
        own = UNSURE.lines[row["line"]]
        cells = [
            row["title"], percent(row["return"]), percent(row["volatility"]), decimals(row["sharpe"]),
            percent(row["drawdown"]), decimals(own["spread"], 3), decimals(own["worst"]), decimals(row["gross"]),
            decimals(row["turnover"]), percent(row["cost"], 2),
        ]  # fmt: skip
        assert " ".join(cells) in page.text
    drawn = page.drawings["figures"]["book"]
    assert drawn["layout"]["yaxis"]["type"] == "log"
    assert [trace["name"] for trace in drawn["data"]][-1] == "gatecast"  # drawn last, on top
    assert {trace["name"] for trace in drawn["data"]} == {*LINES.values(), "cash"}
    titles = {title: name for name, title in LINES.items()} | {"cash": "cash"}
    for trace in drawn["data"]:
        equity = given["book"]["curve"][titles[trace["name"]]]
        np.testing.assert_allclose(trace["y"], np.array(equity) / 1e6, rtol=1e-5)
        assert trace["x"] == given["book"]["curve"]["day"]


def test_what_the_book_holds_now_is_a_table_with_the_gate() -> None:
    rows = [
        {"session": "2024-01-02", "symbol": f"S{place:02}", "held": 0.02 - 4e-4 * place, "target": 0.025, "core": 0.03,
         "tilt": -0.005, "trade": 12.0, "gate": "participation" if place else ""}
        for place in range(40)
    ]  # fmt: skip
    text = text_of(scores(UNSURE, holds=rows))
    assert "40 trades for the next session" in text
    assert (
        text.index("What the book holds and trades")
        < text.index("What the record says")
        < text.index("Three answers, and the tails")
    )
    assert "S00 buy 12 +2.0 % +2.5 % +3.0 % −0.5 % trade: band or whole lots" in text
    assert "S01 buy 12 +2.0 % +2.5 % +3.0 % −0.5 % trade: volume limit of 10 %" in text
    assert all(row["symbol"] in text for row in rows)
    mixed = text_of(scores(UNSURE, holds=[{**rows[0], "trade": 0.0}, {**rows[1], "trade": -3.0}]))
    assert mixed.index("S01 sell 3 +2.0 %") < mixed.index("S00 – +2.0 %")
    assert "What the book holds and trades" not in text_of(scores(UNSURE))


def test_the_first_screen_says_what_the_book_holds_and_earned_not_the_strategies() -> None:
    holds = [{"session": "2024-01-02", "symbol": name, "held": held} for name, held in (("A", 0.6), ("B", -0.15))]
    given = scores(risk((0.01, 0.002), (0.01, 0.002), (0.0, 0.001)), holds=holds)
    rows = {row["line"]: row for row in given["book"]["lines"]}
    shown = text_of(given)
    own, core = rows["ensemble"], rows["bought_and_held"]
    assert "The book holds now 75 % of its equity, long plus short" in shown
    for name, title in (("return", "Return a year, net"), ("drawdown", "Deepest drawdown")):
        told = [f"{100 * row[name]:.1f} %".replace("-", "−") for row in (own, core)]
        assert f"{title} {told[0]} its core bought and held {told[1]}" in shown
    assert "Invested now" not in shown


def test_what_kept_the_book_from_its_target_is_said_and_what_is_not_in_it() -> None:
    text = text_of(scores(UNSURE))
    for said in (
        "The target of 10.0 % a year was reached at 300 of 400 closes. "
        "At the others (one close may count twice): gross cap at 90.",
        "Not in the book: ES: a future needs a contract.",
        "earned 2.0 % a year: the rate of one-month bills",
    ):
        assert text.count(said) == 1


def test_findings_stand_in_a_table_and_what_they_say_stands_nowhere_else() -> None:
    missed = short_of_target(np.arange(400) < 100, np.full(400, 0.08), 0.1, {"gross_cap": 300})
    given = scores(UNSURE) | {"findings": [one.to_dict() for one in missed]}
    assert fault_of(Scores, given) == ""
    given["book"]["lines"][:] = [{**line, "reached": 0.25} for line in given["book"]["lines"]]
    page = Tags(render(FakeRun(scores=given)))
    cells = {tag[1].get("data-name") for tag in page.tags if tag[0] == "td"}
    assert {"Found", "Weight", "What to do"} <= cells  # on a narrow screen each cell says what it is
    text = text_of(given)
    assert missed[0].advice in text
    assert "20.0 % target volatility 400 closes" in text
    assert text.count("was reached at") == 1
    assert "Findings" not in text_of(scores(UNSURE))


def test_the_three_answers_are_three_sentences_and_the_first_screen_quotes_control_and_money() -> None:
    given = scores(UNSURE)
    page = Tags(render(FakeRun(scores=given)))
    verdict = given["verdicts"]["risk"]
    said = [typeset(verdict[name]["sentence"]) for name in ("forecast", "control", "money")]
    assert [one.split(":")[0] for one in said] == ["Forecast", "Control", "Money"]
    hero, rest = page.text.split("no gain", 1)  # the first lane's words come after the first screen
    assert all(one.replace("\N{NO-BREAK SPACE}", " ") in hero for one in said[1:])
    assert "Forecast:" not in hero
    assert "Risk of the book" in rest
    section = rest[rest.index("Three answers") :]
    assert all(one.replace("\N{NO-BREAK SPACE}", " ") in section for one in said)
    for one in said:
        assert "cannot tell whether" in one
        assert "90\N{NO-BREAK SPACE}% interval" in one
        assert "could have been seen" in one


def test_a_better_forecast_that_earned_less_says_both() -> None:
    verdict = scores(risk((0.01, 0.03), (0.01, 0.03), (-0.02, -0.01)))["verdicts"]["risk"]
    assert verdict["verdict"] == "evidence of skill"
    assert verdict["sentence"].startswith("It forecasts risk better, and earned less. Forecast: ")
    assert "is forecast better than by the best simple forecast so far" in verdict["forecast"]["sentence"]
    assert "varies less than" in verdict["control"]["sentence"]
    assert "earned less than" in verdict["money"]["sentence"]


@pytest.mark.parametrize("low", [0.005, 0.003])
def test_control_is_a_claim_only_where_it_is_as_large_as_could_have_been_seen(low: float) -> None:
    """It is outside of the run's correction. Both intervals are above 0; of the effects .0125 and .0115 one is seen."""
    verdict = scores(risk((-0.01, 0.02), (low, 0.02), (-0.01, 0.01)))["verdicts"]["risk"]
    said = verdict["control"]["sentence"]
    assert ("the volatility of the book varies less than" in said) == (low == 0.005)
    assert ("cannot tell whether" in said) == (low == 0.003)
    assert "p 0.001 alone, not corrected for the other tests" in said
    assert "spread" not in said


@pytest.mark.parametrize("trials", [1, 100])
def test_money_above_0_in_one_test_is_no_claim_after_correction(trials: int) -> None:
    """A hundred trials turn a p-value of .001 into one above .05."""
    verdict = scores(risk((-0.01, 0.02), (0.01, 0.02), (0.001, 0.003)), trials=trials)["verdicts"]["risk"]
    said = verdict["money"]["sentence"]
    assert ("the book earned more than" in said) == (trials == 1)
    assert ("cannot tell whether" in said and "p 0.001 alone and" in said) == (trials == 100)


def test_scores_without_a_book_or_with_nothing_in_it_have_no_picture() -> None:
    for given in ({}, {"book": {}}, {"verdicts": {"return": {"verdict": "cannot tell", "sentence": ""}}}):
        run = FakeRun(scores=given)
        assert report_data(run)["book"] is None
        assert 'href="#book"' not in render(run)
    only = {"book": {"left_out": {"ES": "ES: a future needs a contract."}}}
    assert fault_of(Scores, {"verdicts": {}, **only}) == ""
    text = text_of(only)
    assert "Nothing is in the book Not in the book: ES: a future needs a contract." in text
    assert figures.book_data(FakeRun(scores=only)) is None


TAILS = {
    "sentence": "The returns of 12 of 400 sessions lay beyond.",
    "methods": [{"method": "filtered", "title": "filtered simulation", "loss": -4.0964, "beyond": 12, "pvalue": 0.061,
                 "exceedance": 1.04, "gain": 0.0, "low": -0.1, "high": 0.123}],
    "years": [{"year": 2020, "sessions": 253, "beyond": 7, "expected": 6.325, "pvalue": 0.88, "zone": "yellow",
               "exceedance": 1.1}],
}  # fmt: skip


def test_the_tails_and_the_gate_are_on_the_page_and_older_runs_lack_them() -> None:
    given = scores(replace(UNSURE, tails=TAILS, gate={"sentence": "Years hold 1.", "without": [1.0] * 5}))
    text = text_of(given)
    for said in (
        "The returns of 12 of 400 sessions lay beyond.", "Years hold 1.", "filtered simulation −4.096 0.000 −0.100 to",
        "2020 253 7 6.3 0.880 yellow 1.10",
    ):  # fmt: skip
        assert text.count(said) == 1
    old = scores(UNSURE)
    del old["book"]["risk"]["tails"], old["book"]["risk"]["gate"], old["verdicts"]["risk"]["shortfall"]
    old["verdicts"]["risk"]["sentence"] = " ".join(
        old["verdicts"]["risk"][name]["sentence"] for name in ("forecast", "control", "money")
    )
    data = report_data(FakeRun(scores=old))
    assert [one.split(":")[0] for one in data["book"]["answers"]] == ["Forecast", "Control", "Money"]
    assert [one.split(":")[0] for one in data["quoted"]] == ["Control", "Money"]
    assert "Tails: value at risk" not in text_of(old)


def test_a_void_verdict_is_not_quoted() -> None:
    given = scores(UNSURE)
    given["verdicts"]["risk"] |= {"verdict": "void", "sentence": "Void, since a leak was found: peek."}
    data = report_data(FakeRun(scores=given))
    assert data["quoted"] == []
    assert data["book"]["answers"] == ["Void, since a leak was found: peek."]


def test_hostile_scores_of_a_book_stay_text_and_draw_what_they_can() -> None:
    given = scores(UNSURE)
    row = {"line": HOSTILE, "title": HOSTILE, "return": HOSTILE, "caps": {HOSTILE: 1}, "findings": [], "reached": 0.5}
    given["book"] |= {
        "lines": [row, {"line": "ensemble", "title": HOSTILE, "findings": [
            {"kind": HOSTILE, "closes": 1, "newest": HOSTILE}]}],
        "left_out": {HOSTILE: HOSTILE}, "cash_rate": HOSTILE, "target_volatility": None,
        "curve": {"day": [HOSTILE, None, 3], HOSTILE: [1e6, None, -1.0, 5.0], "ensemble": [HOSTILE, 0.0, NAN]},
    }  # fmt: skip
    given["verdicts"]["risk"]["money"] = HOSTILE
    page = Tags(render(FakeRun(scores=given)))
    assert [tag for tag, _ in page.tags].count("script") == 4
    assert "img" not in {tag for tag, _ in page.tags}
    drawn = page.drawings["figures"]["book"]["data"]
    assert [trace["y"] for trace in drawn] == [[1.0, None, None, 5e-06], [None, None, None]]
    assert not [trace for trace in drawn if "<" in trace["name"]]
    for capital in (0, None, HOSTILE):
        assert figures.book_data(replace(FakeRun(), scores={"book": {**given["book"], "capital": capital}})) is None


@pytest.mark.parametrize(
    "change",
    [{"lines": 3}, {"lines": [{"title": "x"}]}, {"curve": {"day": [[1]]}}, {"left_out": {"A": 1}},
     {"risk": {"lines": 1}}, {"risk": {"tails": {"years": [{"year": "x"}]}}}, {"risk": {"gate": 1}},
     {"lines": [{"line": "a", "title": "b", "findings": [{"kind": "lot"}]}]},
     {"capital": "much"}],
)  # fmt: skip
def test_a_book_of_another_shape_is_refused_where_a_run_is_read(change: dict[str, Any]) -> None:
    assert f"book.{next(iter(change))}" in fault_of(Scores, {"verdicts": {}, "book": change})


def test_lines_of_the_book_can_be_told_apart() -> None:
    """Of two lines with the same dashes the colours are far apart, or one of them is much wider."""
    drawn = draw_book(figures.book_data(FakeRun(scores=scores(UNSURE))) or {}).to_plotly_json()["data"]
    assert len({one["name"] for one in drawn}) == len(drawn) == len(LINES) + 1
    for one, two in combinations([each["line"] for each in drawn], 2):
        apart = math.dist(*([int(each["color"][at : at + 2], 16) for at in (1, 3, 5)] for each in (one, two)))
        assert one["dash"] != two["dash"] or abs(one["width"] - two["width"]) >= 0.8 or apart >= 80


def test_a_verdict_names_the_p_value_that_decided_it_beside_an_interval_above_0() -> None:
    given = scores(UNSURE)
    given["verdicts"] = {
        "volatility": {"head": "volatility", "verdict": "cannot tell", "effect": 0.05, "low": 0.013, "high": 0.085,
                       "pvalue_trials": 0.1656, "unit": "share of the rival's loss", "rival": "har"},
    }  # fmt: skip
    text = text_of(given)
    assert "The interval is above 0, but p, corrected for the heads and trials, is 0.17" in text
    given["verdicts"]["volatility"]["low"] = -0.01
    text = text_of(given)
    assert "p 0.17, corrected." in text
    assert "The interval is above 0, but" not in text


def test_a_row_against_itself_has_no_gain() -> None:
    own = {**TAILS["methods"][0], "low": 0.0, "high": 0.0}
    other = {**own, "method": "normal", "title": "normal tails", "gain": 0.01, "low": -0.02, "high": 0.04}
    text = text_of(scores(replace(UNSURE, tails={**TAILS, "methods": [own, other]})))
    assert "filtered simulation −4.096 – – 12" in text
    assert "normal tails −4.096 0.010 −0.020 to 0.040 12" in text
