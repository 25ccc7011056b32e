"""What a longer window does, and what the LSTM takes in, on the page."""

from __future__ import annotations

import pytest

from gatecast.report.drawing import draw_selection
from gatecast.report.figures import selection_data
from gatecast.report.page import render, report_data
from tests.report.fakes import FakeRun

ROW = {
    "head": "volatility", "model": "ridge", "since": 1999, "window": "2Y", "n": 900, "statistic": 3.9,
    "sliding": 0.2882, "everything": 0.2156,
}  # fmt: skip
SHARES = {
    "index": [
        {"feature": "<b>x</b>", "mean": 0.7, "low": 0.5, "high": 0.8},
        {"feature": "noise", "mean": 0.3, "low": 0.2, "high": 0.5},
    ]
}


@pytest.mark.parametrize(
    ("longer", "pvalue", "end"),
    [
        ("better", 0.0001, "the longer window is better (p 0.0001)."),
        ("worse", 0.01, "the longer window is worse (p 0.010)."),
        ("no difference", 0.31, "the difference is not significant (p 0.31)."),
        ("no difference", None, "the difference is not significant."),
    ],
)
def test_each_head_gets_a_sentence(longer: str, pvalue: float | None, end: str) -> None:
    run = FakeRun(scores={"windows": [{**ROW, "longer": longer, "pvalue": pvalue}]})
    (found,) = report_data(run)["scorecard"]["windows"]
    begin = "Ridge regression: loss 0.216 if trained on all bars since 1999, 0.288 if on the last 2 years; "
    assert found["says"] == begin + end
    page = render(run)
    assert found["says"] in page
    assert "A longer training window" in page


def test_the_picture_of_selection_has_a_bar_a_feature_and_its_range() -> None:
    data = selection_data(FakeRun(scores={"selection": SHARES}))
    (bars,) = draw_selection(data).data
    assert list(bars.x) == [0.7, 0.3]
    assert list(bars.y) == ["&lt;b&gt;x&lt;/b&gt;", "noise"]
    assert list(bars.error_x.array) == pytest.approx([0.1, 0.2])
    assert list(bars.error_x.arrayminus) == pytest.approx([0.2, 0.1])
    assert 'data-figure="selection"' in render(FakeRun(scores={"selection": SHARES}))


def test_without_them_the_page_says_nothing() -> None:
    page = render(FakeRun(scores={}))
    assert "longer training window" not in page
    assert 'data-figure="selection"' not in page
    assert selection_data(FakeRun(scores={"selection": {}})) is None
