"""Contribution of each model, on the page: plain words, a bar a model, the numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gatecast.report.credit import credit
from gatecast.report.page import render, report_data
from tests.report.fakes import FakeRun


def row(models: list[str], more: float | None, worth: str, **rest: Any) -> dict[str, Any]:
    return {
        "asset_class": "index", "head": "volatility", "models": models, "n": 900, "with": 0.25, "without": 0.2531,
        "more": more, "statistic": 2.14, "pvalue": 0.03, "pvalue_holm": 0.06, "worth": worth, **rest,
    }  # fmt: skip


ROWS = [
    row(["lstm"], 0.0123, "unclear"),
    row(["har"], 0.04, "helps", statistic=4.0, pvalue_holm=0.0002),
    row(["<b>x</b>"], -0.02, "hurts", statistic=-4.0),
    row(["residual_lstm"], 0.0, "nothing", statistic=None, pvalue=None, pvalue_holm=None),
]


def test_the_page_says_what_the_lstm_is_worth_and_who_does_harm() -> None:
    changes = [{"asset_class": "index", "head": "volatility", "since": "2001-03-01", "model": "equal_weight"}]
    run = FakeRun(scores={"credit": ROWS, "in_force": changes})
    (table,) = report_data(run)["credit"]
    assert table["says"] == [
        "In force: equal weights from 2001-03-01.",
        "Without the LSTM, the loss of the volatility forecast is 1.23 % higher (t 2.1, not significant).",
        "Without the LSTM correction, the volatility forecast is the same.",
        "Lowers the loss: log-HAR (4.00 %). Raises the loss: <b>x</b> (2.00 %).",
    ]
    page = render(run)
    assert "Contribution of each model" in page
    assert "Without the LSTM, the loss of the volatility forecast is 1.23 % higher (t 2.1, not significant)." in page
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<td>hurts</td>" in page
    assert '<td class="n">0.2500</td><td class="n">0.2531</td><td class="n">+1.23 %</td>' in page
    assert "0.0002" in page


def test_the_bars_share_a_scale_and_begin_where_nothing_is_saved() -> None:
    (table,) = credit(ROWS)
    assert [bar["value"] for bar in table["bars"]] == [0.0123, 0.04, -0.02, 0.0]
    assert [bar["text"] for bar in table["bars"]] == ["+1.23 %", "+4.00 %", "−2.00 %", "0.00 %"]
    page = render(FakeRun(scores={"credit": ROWS}))
    places = dict(re.findall(r"\.(s\d+)\{left:(.*?)%;width", page))
    wide = dict(re.findall(r"\.(s\d+)\{left:.*?;width:(.*?)%\}", page))
    drawn = [(float(places[name]), float(wide[name])) for name in re.findall(r'class="fill (s\d+)"', page)]
    scale, zero = 100 / (0.04 + 0.02), 100 * 0.02 / (0.04 + 0.02)  # from -2 % to 4 %
    expected = [(zero, 0.0123 * scale), (zero, 0.04 * scale), (0.0, zero), (zero, 0.0)]
    assert [left for left, _ in drawn] == pytest.approx([left for left, _ in expected], abs=0.01)
    assert [width for _, width in drawn] == pytest.approx([width for _, width in expected], abs=0.01)


def test_several_classes_are_told_together_and_shown_apart() -> None:
    both = [row(["lstm"], 0.01, "helps", asset_class=name) for name in ("all", "index", "crypto")]
    (table,) = credit(both)
    assert len(table["bars"]) == 1
    assert len([line for line in table["says"] if line]) == 1
    page = render(FakeRun(scores={"credit": both}))
    assert "<td>crypto</td>" in page
    assert "<th>Class</th>" in page
    assert "<th>Class</th>" not in render(FakeRun(scores={"credit": both[:1]}))


def test_without_credit_the_page_says_nothing_of_it() -> None:
    assert credit([]) == []
    assert "Contribution of each model" not in render(FakeRun(scores={}))


def test_one_table_has_each_heads_gain_and_the_lstms_part() -> None:
    verdict = {"rival": "har", "effect": 0.031, "low": -0.011, "high": 0.052, "pvalue": 0.021, "verdict": "cannot tell"}
    both = row(["lstm", "residual_lstm"], 0.0217, "helps", statistic=3.3)
    found = FakeRun(scores={"credit": [*ROWS, both], "verdicts": {"volatility": verdict, "strategy": verdict}})
    (gain,) = report_data(found)["gains"]
    assert (gain["head"], gain["rival"], gain["effect"], gain["more"], gain["worth"]) == (
        "volatility", "har", 0.031, 0.0217, "helps",
    )  # fmt: skip
    page = re.sub(r"\s+", " ", render(found))
    assert "Contribution of LSTM" in page
    assert '<td class="n">+3.10 %</td><td class="n">−1.10 % to +5.20 %</td>' in page
    assert '<td class="n">+2.17 %</td>' in page


def test_a_model_of_the_users_has_the_title_that_the_run_saved() -> None:
    own = row(["mine"], 0.01, "helps")
    verdict = {"rival": "mine", "effect": 0.031, "low": -0.011, "high": 0.052, "verdict": "cannot tell"}
    scores = {"credit": [own], "verdicts": {"volatility": verdict}, "names": {"mine": "forest of mine"}}
    page = render(FakeRun(scores=scores))
    assert "Lowers the loss: forest of mine (1.00 %)." in page
    assert "the forest of mine" in page
    assert "Forest of mine" in page
    without = render(FakeRun(scores={key: value for key, value in scores.items() if key != "names"}))
    assert "Lowers the loss: mine (1.00 %)." in without
