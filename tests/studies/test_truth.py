"""The bench of planted truths: what it counts, what it would flag, and a few of its runs."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatecast.chain import forecast_class
from gatecast.errors import SettingsError
from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.samples.windows import Samples
from gatecast.studies import truth as bench
from gatecast.studies.truth import GROUPS, NULL_HEADS, PARTS, STATISTICS, Line, Truth, allowed, truth

QUIET = {"return": 0.0, "direction": 0.0, "volatility": 0.0, "regime": 0.0, "strategy": 0.0}

HEAD = dict.fromkeys(bench.RETURN_MODELS, 0.5) | {f"realised, {name}": 0.0 for name in bench.RETURN_MODELS}
STATES = {"filtered, fitted": 0.4, "filtered, oracle": 0.4, "predicted, fitted": 0.3, "predicted, oracle": 0.3}


def lines_of(group: str, found: list[dict[str, float]], number: int = 0) -> list[Line]:
    """What the bench says of these findings of a group's part."""
    return [part for part in PARTS if part.group == group][number].lines(found)


# ── what counts, and what would be flagged ────────────────────────────────────────────────────────


def test_a_run_counts_once_and_four_of_25_are_the_most() -> None:
    both, one = QUIET | {"return": 1.0, "direction": 1.0}, QUIET | {"strategy": 1.0}
    (line,) = lines_of("walks", [both, one, one, one, *[QUIET] * 21])
    assert (line.measured, line.runs, line.passed, line.ratio) == (4, 25, True, None)
    assert line.note == "return 1, direction 1, strategy 3"
    (line,) = lines_of("walks", [both] * 5 + [QUIET] * 20)
    assert (line.measured, line.passed) == (5, False)


def test_each_answer_of_the_book_has_a_line_and_a_bound() -> None:
    quiet = dict.fromkeys(("forecast", "control", "money", "shortfall"), 0.0)
    lines = lines_of("book", [quiet | {"money": 1.0}] * 5 + [quiet] * 20)
    assert [(line.market, line.measured, line.passed) for line in lines] == [
        ("A1", 0, True), ("A1", 0, True), ("A1", 5, False), ("A1", 0, True)
    ]  # fmt: skip
    (money,) = lines_of("book", [{"money": 1.0}] * 4 + [{"money": 0.0}] * 21, number=2)
    assert (money.market, money.measure, money.passed) == ("A2", "book: claims in money, alone", True)


def test_a_book_of_a_market_without_skill_is_judged_and_repeats() -> None:
    found = bench.book_of("a1", 3, 700)
    assert {*found} == {"forecast", "control", "money", "shortfall"}
    assert sum(found.values()) <= 1


def test_the_four_markets_are_summed_and_the_sum_is_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    def claims_often(market: str, seed: int) -> dict[str, float]:
        return dict.fromkeys(NULL_HEADS[market], float(seed < 103))

    parts = [
        bench.Part("walks", partial(claims_often, market), partial(bench._walk_lines, market), 2, 25)
        for market in NULL_HEADS
    ]
    monkeypatch.setattr(bench, "PARTS", tuple(parts))
    result = truth(seed=100, long=True)
    assert [(line.market, line.measured, line.passed) for line in result.lines] == [
        ("A1", 3, True), ("A2", 3, True), ("A3", 3, True), ("A4", 3, True), ("A1-A4", 12, False),
    ]  # fmt: skip
    assert not result.passed


def test_as_many_may_claim_as_the_published_bounds_say() -> None:
    assert [allowed(runs) for runs in (25, 100, 200, 400)] == [4, 11, 18, 31]


@pytest.mark.parametrize(
    ("group", "runs", "good", "bad"),
    [
        ("b1", 100, {"found": 0.95, "r2": 0.01}, {"found": 0.94}),
        ("return", 20, HEAD | {"ensemble": 0.239}, {"ensemble": 0.24}),
        ("states", 5, STATES, {"filtered, fitted": 0.319}),
        ("states", 5, STATES, {"predicted, fitted": 0.31}),
        ("b2", 20, {"lstm": 0.05, "ridge": 0.001, "logistic": 0.001}, {"lstm": 0.049}),
        ("b2", 20, {"lstm": 0.05, "ridge": 0.001, "logistic": 0.001}, {"ridge": 0.003}),
        ("b2", 20, {"lstm": 0.05, "ridge": 0.001, "logistic": 0.001}, {"logistic": 0.003}),
        ("statistics", 10, {"rejected": 0.08}, {"rejected": 0.081}),
    ],
)
def test_gates_hold_up_to_their_bound_and_not_beyond(
    group: str, runs: int, good: dict[str, float], bad: dict[str, float]
) -> None:
    assert Truth(False, tuple(lines_of(group, [good] * runs))).passed
    missed = Truth(False, tuple(lines_of(group, [good | bad] * runs)))
    assert not missed.passed
    assert "1 missed" in missed.sentence


def test_a_gate_is_not_asked_of_fewer_runs_than_it_was_made_for() -> None:
    stuck = {"lstm": 0.0, "ridge": 0.0, "logistic": 0.0}
    for group, found in (("b1", {"found": 0.5, "r2": 0.01}), ("b2", stuck), ("statistics", {"rejected": 0.2})):
        line = lines_of(group, [found] * 9)[0]
        assert (line.passed, line.outcome) == (None, "too few")
    assert Truth(False, (line,)).passed
    assert "1 were made for more runs" in Truth(False, (line,)).sentence


def test_the_gap_in_variance_is_one_for_the_oracle_and_gated_on_twenty_paths() -> None:
    rng = np.random.default_rng(0)
    x = 1 + rng.random(4000)
    y = 0.3 + 0.9 * x + 0.2 * rng.standard_normal(4000)

    def path(ensemble: float, rows: slice) -> dict[str, float]:
        a, b, h = x[rows], y[rows], x[rows] ** 2
        sums = {"n": len(a), "x": a.sum(), "y": b.sum(), "xx": a @ a, "xy": a @ b}
        sums |= {"h": h.sum(), "hh": h @ h, "hy": h @ b, "xh": a @ h}
        return {"constant": 0.2, "ensemble": ensemble, "har": 0.2, "ewma": 0.0, "ridge": 0.1, "lstm": 0.3, **sums}

    pieces = [slice(200 * k, 200 * k + 200) for k in range(20)]
    lines = {line.measure.split()[-1]: line for line in lines_of("variance", [path(0.01, piece) for piece in pieces])}
    slope = next(line for line in lines_of("variance", [path(0.01, p) for p in pieces]) if "slope" in line.measure)
    assert slope.measured == pytest.approx(np.polyfit(x, y, 1)[0])
    assert slope.optimum == pytest.approx(np.polyfit(x**2, y, 1)[0])
    assert slope.passed is True
    rows = np.arange(len(x)) // 200  # a path
    slopes = {
        name: (np.polyfit(x, of, 1)[0], [np.polyfit(x[rows != one], of[rows != one], 1)[0] for one in range(20)])
        for name, of in (("y", y), ("h", x**2))
    }
    error = {name: np.sqrt(19 * np.var(without)) for name, (_, without) in slopes.items()}
    assert f"standard error {error['y']:.3f};" in slope.note
    assert slope.note.endswith(f"{slopes['h'][0]:.3f} ± {error['h']:.3f}")
    shares = {name: lines[name].measured for name in ("har", "ewma", "ridge", "lstm")}
    assert shares == pytest.approx({"har": 0.0, "ewma": 1.0, "ridge": 0.5, "lstm": -0.5})
    for loss, held in ((0.0099, True), (0.0101, False)):
        first = lines_of("variance", [path(loss, piece) for piece in pieces])[0]
        assert first.measured == pytest.approx(1 - loss / 0.2)
        assert first.passed is held
    assert lines_of("variance", [path(0.0101, piece) for piece in pieces[:2]])[0].passed is None  # too few to tell


def test_the_share_of_the_ceiling_is_that_of_the_expected_r2() -> None:
    """Over five bars 3.951 % can be explained, 3.903 % by one coefficient of 2,000 rows."""
    runs = [HEAD | {"ensemble": off, "realised, ensemble": r2} for off, r2 in ((0.1, 0.03), (0.3, 0.01))]
    line = lines_of("return", runs, number=1)[0]
    assert line.measured == pytest.approx((1 - 0.2) * 0.03951 / 0.03903, rel=1e-3)
    assert (line.optimum, line.passed, line.outcome) == (1.0, None, "too few")
    error = 0.1 * 0.03951 / 0.03903  # of two numbers, half their distance
    assert line.note == f"standard error {error:.3f}; realised {0.02 / 0.03903:.2f} ± {0.01 / 0.03903:.2f}"
    one = lines_of("return", runs)[0]
    assert one.measured == pytest.approx(0.8 * 0.01 / (1 - 0.99 * (1 + 1 / 1998)), rel=1e-6)
    assert "h = 1, ensemble" in one.measure


# ── its runs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_linear_signal_is_found_and_every_run_repeats() -> None:
    seen: list[tuple[str, int, int]] = []
    first = truth(only=("b1",), seed=3, runs=12, progress=lambda *now: seen.append(now))
    assert first == truth(only=("b1",), seed=3, runs=12, jobs=2)
    assert seen == [("truth: b1", done, 12) for done in range(1, 13)]
    found, r2 = first.lines
    assert found.measured >= 11 / 12
    assert found.kind == "one model"
    assert r2.optimum == 0.01
    assert 0.6 < r2.measured / 0.01 < 1.3
    assert r2.measured != truth(only=("b1",), seed=50, runs=12).lines[1].measured


def test_a_walk_goes_through_the_whole_chain_and_leaves_the_ledger_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(features: tuple[str, ...]) -> Experiment:
        seen.append(features)
        small: dict[str, Any] = {"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)}
        return Experiment(
            features=features, schedule=Schedule(refit="1Y"), model={**small, "logistic": Logistic(strengths=(1e-2,))}
        )

    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(bench, "chain", quick)
    monkeypatch.setattr(bench, "WALK_BARS", 900)
    assert bench.walk("a4", 1) == QUIET
    assert len([name for name in seen[0] if name.startswith("noise_")]) == 30
    assert set(bench.walk("a2", 1)) == {"return", "direction", "strategy"}  # its variance can be forecast
    monkeypatch.setattr(bench, "WALK_BARS", 1600)
    planted = synthetic.b1(1600, 1, r2=0.1).rename({"x": "noise_1"})  # a walk that is none
    monkeypatch.setitem(synthetic.MARKETS, "a3", lambda count, seed: planted)
    assert bench.walk("a3", 1)["return"] == 1
    assert bench.found_in_chain(1) == {"return": 1.0, "oracle": 1.0}
    assert list(Path(os.environ["GATECAST_DATA"]).iterdir()) == []


def test_no_line_learns_what_only_memory_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LSTM", lambda **said: LSTM(units=16, layers=1, epochs=2, **said))
    found = bench.b2(0)
    assert abs(found["ridge"]) < 0.002
    assert abs(found["logistic"]) < 0.002
    assert found["lstm"] < 0.6 * 0.09 / 1.09  # two epochs are not enough: the gate can fail


def test_the_return_head_is_scored_against_the_true_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LSTM", lambda **said: LSTM(units=16, layers=1, epochs=2, **said))
    found = bench.return_head(5, 1)
    assert found["bayes"] < found["ridge"] < 0.6  # of the signal's variance is missed
    assert found["ensemble"] < 0.5
    assert set(found) == {*bench.RETURN_MODELS, *(f"realised, {name}" for name in bench.RETURN_MODELS)}

    def knows(experiment: Experiment, samples: Samples) -> Forecasts:
        forecasts = forecast_class(experiment, samples)
        x = samples.features[samples.ends, 0]
        path = 0.001 * x[:, None] * (1 - 0.95 ** np.arange(1, 6)) / 0.05
        return forecasts.with_model("ensemble", {"return": np.where(forecasts.values["zero"]["return"] == 0, path, 0)})

    monkeypatch.setattr(bench, "forecast_class", knows)
    assert bench.return_head(5, 1)["ensemble"] == pytest.approx(0, abs=1e-12)


def test_hidden_states_are_told_nearly_as_well_as_by_who_knows_the_market() -> None:
    lines = truth(only=("states",), runs=3, seed=40).lines
    assert [line.measure.split()[-1] for line in lines] == ["filtered", "predicted"]
    for line in lines:
        assert 0.95 < line.measured < 1.01
        assert "standard error 0.0" in line.note


def test_the_known_share_of_an_exponential_average_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LSTM", lambda **said: LSTM(units=16, layers=1, epochs=2, **said))
    found = [bench.variance("g1", seed) for seed in (0, 1)]
    ewma = {line.measure.split()[-1]: line for line in lines_of("variance", found)}["ewma"]
    assert ewma.measured == pytest.approx((1.4102 - 1.2837) / (1.4102 - 1.2713), abs=0.06)
    assert all(0 < run["ensemble"] < run["constant"] for run in found)


@pytest.mark.parametrize("name", [name for name in STATISTICS if "SPA" not in name])
def test_sizes_are_near_the_level(name: str) -> None:
    share = np.mean([bench.size(name, seed)["rejected"] for seed in range(3)])
    assert 0 < share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_test_that_rejects_too_often_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STATISTICS, "SPA, equal models", lambda draw: draw.random() / 2)  # a size of 10 %
    share = [bench.size("SPA, equal models", seed) for seed in range(10)]
    (line,) = lines_of("statistics", share, list(STATISTICS).index("SPA, equal models"))
    assert line.passed is False
    assert line.runs == 1000


# ── what comes out ────────────────────────────────────────────────────────────────────────────────


def test_the_answer_is_json_and_a_table() -> None:
    lines = (*lines_of("b1", [{"found": 0.5, "r2": 0.004}] * 100), *lines_of("walks", [QUIET]))
    result = Truth(False, lines)
    answer = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (answer["form"], answer["passed"]) == ("short", False)
    assert answer["lines"][1] == {
        "market": "B1", "kind": "one model", "measure": "R² against zero, ridge, mean",
        "measured": pytest.approx(0.004), "optimum": 0.01, "ratio": pytest.approx(0.4),
        "runs": 100, "gate": "", "gate_runs": None, "passed": None, "note": "",
    }  # fmt: skip
    text = result.summary()
    assert ">= 0.95 (100)" in text
    assert "MISSED" in text
    assert text.index("Whole chain") < text.index("A1") < text.index("One model") < text.index("B1")
    assert "Statistic" not in text  # it has no line
    assert "D1" in text
    assert text.endswith("1 gates held, 1 missed.")


def test_no_line_of_the_table_is_wider_than_100() -> None:
    runs: dict[str, list[dict[str, float]]] = {
        "walks": [dict.fromkeys(QUIET, 1.0)] * 25,
        "book": [dict.fromkeys(("forecast", "control", "money", "shortfall"), 1.0)] * 25,
        "chain": [{"return": 0.123456, "oracle": 0.98765}] * 25,
        "b1": [{"found": 1 / 3, "r2": -0.000123456}] * 100,
        "return": [HEAD | {"realised, lstm": -0.123456}] * 20,
        "states": [STATES | {"filtered, fitted": 0.412345}] * 20,
        "b2": [{"lstm": -0.000123456, "ridge": -0.000123456, "logistic": -1.23456e-7}] * 20,
        "b3": [{"lstm": -0.000123456, "forest": 1.2e-5, "ridge": 0.1}] * 3,
        "variance": [
            {"n": 9, "x": 1, "y": 2, "xx": 3, "xy": 4, "h": 1, "hh": 3, "hy": 4, "xh": 4}
            | dict.fromkeys((*bench.VARIANCE_MODELS, "constant"), 1.1)
        ] * 20,
        "statistics": [{"rejected": 0.0123456}] * 10,
        "claims": [dict.fromkeys(bench.TRIVIAL, 0.0123456)] * 400,
        "size": [SIZES] * 40,
    }  # fmt: skip
    lines = [line for part in PARTS for line in part.lines(runs[part.group])]
    assert max(map(len, Truth(True, tuple(lines)).summary().splitlines())) <= 100
    assert all(line.kind in bench.KINDS for line in lines)


SIZES = {
    f"{overlap} {level} {bars} {phi}": level * 1.0123
    for overlap in bench.OVERLAPS for level in bench.SIZE_GATES for bars in bench.LENGTHS for phi in bench.PERSISTENCE
}  # fmt: skip


def test_the_gate_of_sizes_asks_every_series() -> None:
    """One size outside the bounds is enough, and it is the one that is shown."""
    (part,) = (part for part in PARTS if part.group == "size")
    assert all(line.passed for line in part.lines([SIZES] * 40))
    assert [line.gate for line in part.lines([SIZES] * 40)] == [".04-.06", ".007-.013"] * 3
    wrong = SIZES | {"20 0.05 4500 0.99": 0.061}
    (missed,) = (line for line in part.lines([wrong] * 40) if line.passed is False)
    assert missed.measure == "rejects at 5%: fixed-b, h = 20"
    assert missed.measured == pytest.approx(0.061)
    assert all(line.passed is None for line in part.lines([wrong] * 2))  # too few series


def test_rivals_as_the_model_hardly_ever_claim() -> None:
    """Twelve walks of the 400 on which the gate of 7 % rests."""
    found = [bench.trivial_claims(seed) for seed in range(12)]
    assert all(sum(one[name] for one in found) <= 2 for name in bench.TRIVIAL)
    assert {line.gate for line in bench._trivial_lines(found)} == {"<= 0.07"}


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'variance'"):
        truth(only=("varianse",))
    for wrong in ({"seed": -1}, {"runs": 0}):
        with pytest.raises(SettingsError, match="expected a seed of 0 or more, and at least one run"):
            truth(**wrong)


def test_every_kind_is_in_the_bench_with_the_runs_that_its_gates_were_made_for() -> None:
    assert GROUPS == (
        "walks",
        "book",
        "chain",
        "b1",
        "return",
        "b2",
        "b3",
        "states",
        "variance",
        "statistics",
        "claims",
        "size",
    )
    walks = [part for part in PARTS if part.group == "walks"]
    assert [(part.short, part.long) for part in walks] == [(2, 25)] * 4
    (b1,) = (part for part in PARTS if part.group == "b1")
    assert b1.long == 100
    assert {part.long for part in PARTS if part.group == "variance"} == {20}
