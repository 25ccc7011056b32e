"""Every public result shows itself in a notebook: HTML of its own words, and a figure of its own numbers."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gatecast
from gatecast import live
from gatecast.audits.leaks import STAGES, Audit, Leak
from gatecast.errors import SettingsError
from gatecast.evaluation.judge import judge
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.record import records_of
from gatecast.evaluation.verdict import Verdict
from gatecast.experiment import Experiment
from gatecast.explanations import Explained, Explanation
from gatecast.live.health import Check, Health
from gatecast.market import synthetic
from gatecast.notebook import MOST_ROWS, draw_intervals, draw_lines, html
from gatecast.runs import Run, run
from gatecast.store import chain_of
from gatecast.studies.capacity import capacity
from gatecast.studies.comparing import TITLES, compare
from gatecast.studies.judgement import Judged, Judgement
from gatecast.studies.placebo import Placebo, Rank
from gatecast.studies.sensitivity import Sensitivity
from gatecast.studies.truth import Line, Truth
from gatecast.studies.tune import Tuned
from gatecast.trading.waterfall import Step, Waterfall

FEW: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None,
    "schedule": {"refit": "1Y"}, "horizon": 1,
}  # fmt: skip


class Balanced(HTMLParser):
    """Raises where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("br", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(result: Any) -> str:
    """The text that a notebook shows."""
    parser = Balanced()
    parser.feed(result._repr_html_())
    assert parser.open == []
    return parser.text


def results(module: Any) -> set[type]:
    """The classes of ours that a module's public functions return."""
    found = set()
    for name in module.__all__:
        function = getattr(module, name)
        if inspect.isfunction(function):
            scope = {**vars(inspect.getmodule(function)), **vars(gatecast.runs), **vars(gatecast.chain)}
            said = function.__annotations__["return"]
            kind = scope.get(said) if isinstance(said, str) else said
            if inspect.isclass(kind) and kind.__module__.startswith("gatecast."):
                found.add(kind)
    return found


@pytest.fixture(scope="module")
def made() -> Run:
    with unrecorded():
        return run(Experiment(name="small <market>", bars=synthetic.a1(900, seed=3), **FEW))


def test_every_result_of_the_front_door_shows_and_draws_itself() -> None:
    kinds = results(gatecast)
    assert len(kinds) == 13, sorted(kind.__name__ for kind in kinds)
    for kind in {*kinds, Verdict, gatecast.whatif.WhatIf}:
        assert "_repr_html_" in dir(kind), kind
        assert callable(getattr(kind, "plot", None)), kind
    assert all("_repr_html_" in dir(kind) for kind in results(live) if hasattr(kind, "to_dict"))
    assert all(typing.get_type_hints(kind.plot)["return"] is Any for kind in kinds)


def test_no_two_lines_of_a_figure_look_alike() -> None:
    figure = draw_lines([0, 1], {str(number): [0.0, number] for number in range(20)}, "title", "unit")
    assert len({(one.line.color, one.line.dash) for one in figure.data}) == 20


def test_a_run_draws_the_equity_of_each_line_of_its_book(made: Run) -> None:
    curve = made.scores["book"]["curve"]
    figure = made.plot()
    assert isinstance(figure, go.Figure)
    titles = {line["line"]: line["title"] for line in made.scores["book"]["lines"]}
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn == {titles.get(name, name): values for name, values in curve.items() if name != "day"}
    without = replace(made, scores={**made.scores, "book": {}}).plot()
    assert list(without.data[0].y) == made.equity["equity"].to_list()
    assert "small <market>" in shown(made)


def test_a_chain_its_backtest_and_its_forecasts_draw_what_they_hold(made: Run) -> None:
    chain = chain_of(made)
    assert list(chain.result.plot().data[1].y) == chain.result.equity["benchmark"].to_list()
    assert chain.plot() == chain.result.plot()
    assert "Chain: 900 bars" in shown(chain)
    assert "total_return" in shown(chain.result)
    (one,) = chain.classes.values()
    forecasts = one.forecasts
    assert f"{len(forecasts.rows):,} rows" in shown(forecasts)
    figure = forecasts.plot("volatility")
    own = {trace.name: np.asarray(trace.y, float) for trace in figure.data}
    assert own.keys() == {model for model, heads in forecasts.values.items() if "volatility" in heads}
    for model, values in own.items():
        np.testing.assert_array_equal(values, forecasts.values[model]["volatility"][forecasts.rows])
    path = forecasts.plot("return").data[0]
    np.testing.assert_array_equal(path.y, forecasts.values[path.name]["return"][forecasts.rows, -1])
    with pytest.raises(SettingsError, match="no forecast of 'colour' for"):
        forecasts.plot("colour")


def test_what_if_starts_from_the_runs_own_wealth(made: Run) -> None:
    with unrecorded():
        other = made.with_(target=0.05)
    figure = other.plot()
    np.testing.assert_allclose(figure.data[0].y, np.cumprod(1 + other.daily))
    np.testing.assert_allclose(figure.data[1].y, np.cumprod(1 + other.stored.itself.daily))
    assert "book.size.target_volatility: 0.1 -> 0.05" in shown(other)


def test_a_verdict_a_judgement_and_a_comparison_draw_their_intervals(made: Run) -> None:
    chain = chain_of(made)
    verdicts = judge(
        records_of({name: one.forecasts for name, one in chain.classes.items()}),
        strategy=np.zeros(500), benchmark=np.zeros(500), round_trip=0.0, periods_per_year=252.0,
    )  # fmt: skip
    one = verdicts["volatility"]
    trace = one.plot().data[0]
    assert trace.x[0] == one.effect
    assert trace.error_x.array[0] == pytest.approx(one.high - one.effect)
    assert trace.error_x.arrayminus[0] == pytest.approx(one.effect - one.low)
    assert one.sentence in shown(one)
    judged = Judgement("forecasts", {"theirs": Judged("theirs", {"volatility": one})}, 1, "2020", "2021", 3)
    assert list(judged.plot().data[0].y) == ["theirs: volatility"]
    assert "trials on this market: 3" in shown(judged)
    with unrecorded():
        alike = compare(made, made)
    assert set(alike.plot().data[0].y) <= set(TITLES.values())
    assert "The settings are the same." in shown(alike)


def test_studies_draw_their_numbers() -> None:
    ranks = Placebo({name: Rank(name, 1.5, (0.0, 1.0, 2.0)) for name in ("return", "run")})
    boxes, marks = ranks.plot().data[:-1], ranks.plot().data[-1]
    assert [list(box.x) for box in boxes] == [[0.0, 1.0, 2.0]] * 2
    assert list(marks.x) == [1.5, 1.5]
    grid = Sensitivity("r", ("a", "b"), ((1, 2), (3, 4)), "sharpe", np.eye(2), np.ones((2, 2)), (1, 0), "book", 3, 3)
    figure = grid.plot()
    assert figure.data[0].z == ((1.0, 0.0), (0.0, 1.0)) or np.array_equal(figure.data[0].z, np.eye(2))
    frame = figure.layout.shapes[0]
    assert ((frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2) == (0, 1)
    truth = Truth(False, (Line("A1", "planted", "R²", 0.04, 0.05, 3), Line("A2", "planted", "R²", 0.1, None, 3)))
    assert list(truth.plot().data[0].x) == [pytest.approx(0.8)]
    assert "Not covered" in shown(truth)
    searched = {"asset_class": "etf", "importance": {"units": 0.7, "layers": 0.3}}
    assert list(Tuned("t", {"classes": [searched]}, {}, {}).plot().data[0].x) == [0.7, 0.3]
    leak = Leak("features", "x", "cut", sentence="features: x knows too much.")
    found = Audit((leak,), (), ("features",), ())
    bars = found.plot().data[0]
    assert dict(zip(bars.y, bars.x, strict=True)) == {stage: float(stage == "features") for stage in STAGES}
    assert "x knows too much" in shown(found)


def test_capacity_draws_what_is_earned_over_the_capital(made: Run) -> None:
    found = capacity(made.experiment, chain_of(made), costs=[1.0], capitals=[1e4, 1e6])
    trace = found.plot().data[0]
    assert list(trace.x) == [one.capital for one in found.capital]
    assert list(trace.y) == [one.excess for one in found.capital]
    assert "costs" in shown(found)


def test_a_result_of_a_store_shows_its_sentence_and_its_rows() -> None:
    health = Health(Path("s"), datetime(2024, 1, 2, tzinfo=UTC), [Check("bars", "ok", "<fine>")], {})
    assert "<fine>" in shown(health)


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.floats(), min_size=1))
@settings(max_examples=40, deadline=None)
def test_no_text_becomes_markup(text: str, row: dict[str, Any]) -> None:
    parser = Balanced()
    parser.feed(html(text, text, {text: [row]}))
    assert parser.open == []


def test_long_tables_say_how_many_rows_there_are() -> None:
    assert f"{MOST_ROWS} of 99 rows." in html("t", "", {"rows": [{"a": 1}] * 99})


def test_intervals_leave_out_what_is_undefined() -> None:
    figure = draw_intervals([("a", 1.0, None, 2.0), ("b", float("nan"), 0.0, 1.0), ("c", None, None, None)], "t", "u")
    assert list(figure.data[0].y) == ["a"]
    assert list(figure.data[0].error_x.arrayminus) == [0.0]


def test_an_explanation_draws_and_shows_the_steps_of_its_decision() -> None:
    steps = (
        Step("vote", 0.2, 0.2, "forest"), Step("tilt", 0.0, 0.2), Step("caps", -0.1, 0.1, "", "name", "the cap cut it"),
        Step("cash", 0.0, 0.1),
    )  # fmt: skip
    decision = Waterfall(steps, 0.1, 0.02, 0.08, 5.0)
    one = Explanation("A", "etf", datetime(2024, 1, 2, tzinfo=UTC), None, "", 1, {}, (), decision, not_issued="late")
    found = Explained(None, "run", (one,), titles={"forest": "random forest"})
    trace = found.plot().data[0]
    assert list(trace.y) == ["vote of the random forest", "caps", "cash", "held after the order"]
    assert list(trace.base) == pytest.approx([0.0, 0.2, 0.1, 0.0])
    assert sum(trace.x[:-1]) == pytest.approx(decision.held)
    assert trace.text[-1] == "10.00%"
    assert trace.textposition == "none"  # beside a short bar it would lie over others, beside a long one be cut
    ticks = found.plot().layout.yaxis.ticktext
    assert (ticks[1], ticks[-1]) == ("caps: -10.00%, then 10.00%", "held after the order: 10.00%")
    page = found._repr_html_()
    for said in (
        "Nobody could trade on what follows", "vote of the random forest", "caps on symbol, class, gross",
        "name: the cap cut it", "Held before +2.00%, order +8.00% of equity (+5 units), held after it +10.00%.",
    ):  # fmt: skip
        assert said in page
    both = replace(found, explanations=(one, replace(one, symbol="B", decision=Waterfall(steps, 0.1))))
    assert [name for name in both.plot().data[0].y if "caps" in name] == ["A: caps", "B: caps"]
    assert "<th>cut by</th>" in both._repr_html_()
