"""`explain`: of a run and of a store; what it says adds up and is what was issued; what is not there is refused."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.errors import SettingsError, StoreError
from gatecast.evaluation.ledger import unrecorded
from gatecast.experiment import Experiment
from gatecast.explanations import Explained, Explanation, StoreOrigin, explain, explained, origin_of
from gatecast.explanations.explanation import ONE_REFIT
from gatecast.explanations.forecasts import InputPart
from gatecast.explanations.forecasts import _model as says
from gatecast.explanations.words import brief
from gatecast.explanations.words import told as told_of
from gatecast.forecasting.attribution import Attribution
from gatecast.live import add_action, retrain, update
from gatecast.live.gates import GATES
from gatecast.market import synthetic
from gatecast.report.book import book
from gatecast.runs import Run, run
from gatecast.service.view import View
from gatecast.store import Store, load_run, save_run
from gatecast.store.state import ISSUED
from gatecast.trading.cuts import OF_TRADE, ROUNDING, cut_by
from gatecast.trading.waterfall import Step, Waterfall
from tests.live.conftest import HOUR, settings

BARS = pl.concat(
    [synthetic.b1(760, seed=5, r2=0.08, symbols=2), synthetic.a1(760, seed=6).with_columns(asset_class=pl.lit("etf"))],
    how="diagonal",
)
"""Two classes, whose arrays wait on disk."""
SMALL: dict[str, Any] = {
    "models": ("lstm", "forest", "logistic", "ridge", "residual_lstm"), "schedule": {"refit": "6M", "minimum": "1Y"},
    "model": {
        "lstm": {"units": 16, "layers": 1, "epochs": 3, "seeds": 2}, "forest": {"trees": 5},
        "residual_lstm": {"epochs": 2, "seeds": 2},
    },
    "control": None, "too_good": ("planted",), "selection": {"evidence": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def done() -> Run:
    """A run in memory."""
    with unrecorded():
        return run(Experiment(name="explained", bars=BARS, features=("ret_log_1", "ret_log_5"), **SMALL))


@pytest.fixture(scope="module")
def folder(done: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_run(done, tmp_path_factory.mktemp("explained") / "run").path or "")


@pytest.fixture(scope="module")
def newest(done: Run) -> Explained:
    return explain(done)


def first(found: Explained) -> Explanation:
    return found.explanations[0]


def assert_adds_up(one: Explanation) -> None:
    """Models to the ensemble, inputs to models, steps to what is held."""
    sums = {"return", "volatility"}
    assert {head.head for head in one.heads if head.starts_from} == sums.intersection(head.head for head in one.heads)
    for head in one.heads:
        adds = [model.adds for model in head.models if model.adds is not None]
        if head.starts_from:
            assert head.models[0].model == head.starts_from
            assert math.fsum(adds) == pytest.approx(head.value, abs=1e-12)
        else:
            assert not adds
        for model in head.models:
            if not model.parts:
                continue
            assert model.same
            inputs = math.fsum(part.base + math.fsum(part.features.values()) for part in model.parts)
            most = max(abs(part.output - part.base) for part in model.parts)
            assert inputs == pytest.approx(model.value, abs=2e-3 * most + 1e-5)
    assert math.fsum(step.change for step in one.decision.steps) == pytest.approx(one.decision.held, abs=1e-12)


def test_all_newest_forecasts_of_a_run_add_up_and_are_what_was_issued(done: Run, newest: Explained) -> None:
    assert [one.symbol for one in newest.explanations] == ["A1", "B1_0", "B1_1"]
    ensemble = done.forecasts.filter(pl.col("model") == "ensemble")
    for one in newest.explanations:
        assert_adds_up(one)
        assert [head.head for head in one.heads] == ["return", "direction", "volatility", "regime"]
        issued = ensemble.filter(pl.col("symbol") == one.symbol, pl.col("time") == one.time)
        said = {head.head: head.value for head in one.heads}
        for head in ("direction", "regime"):
            assert said[head] == issued.filter(pl.col("head") == head)["value"].item()
        path = issued.filter(pl.col("head") == "return").sort("step")["value"]
        assert said["return"] == path[-1]
    held = done.book.filter(pl.col("session") == pl.col("session").max())
    for one in newest.explanations:
        row = held.filter(pl.col("symbol") == one.symbol)
        if len(row):
            assert one.same
            assert one.decision.held == pytest.approx(row["held"].item(), abs=1e-12)
            assert one.decision.units == pytest.approx(row["trade"].item())


def test_progress_goes_class_by_class(done: Run) -> None:
    told = list[tuple[str, int, int]]()
    explain(done, heads=["return"], progress=lambda *step: told.append(step))
    assert {stage for stage, _, _ in told} == {"explaining"}
    assert [(count, of) for _, count, of in told[1:]] in ([(0, 3), (2, 3), (3, 3)], [(0, 3), (1, 3), (3, 3)])


def test_networks_and_linear_models_stand_apart(newest: Explained) -> None:
    parts = {
        (model.model, part.part) for one in newest.explanations for head in one.heads for model in head.models
        for part in model.parts
    }  # fmt: skip
    assert {("lstm", "recurrent"), ("ridge", "linear"), ("residual_lstm", "linear")} <= parts
    assert ("residual_lstm", "recurrent") in parts
    assert not any(name == "forest" for name, _ in parts)


def test_a_folder_says_what_the_run_says(done: Run, folder: Path) -> None:
    one, other = explain(done, "B1_0"), explain(folder, "B1_0")
    assert other.path == folder
    assert {**one.to_dict(), "path": None} == {**other.to_dict(), "path": None}
    assert explain(load_run(folder), "B1_0").to_dict() == other.to_dict()


def test_an_earlier_close_is_explained_by_the_fit_that_was_in_force_there(done: Run) -> None:
    forecasts = done.classes["index"].forecasts
    fold = forecasts.folds[1]
    row = fold.test[len(fold.test) // 2]
    symbol, time = (one[0] for one in forecasts.keys_of(np.array([row])))
    moment = time.astype("datetime64[us]").item().replace(tzinfo=UTC)
    found = explain(done, str(symbol), moment)
    one = first(found)
    assert one.time == moment
    assert one.refit == str(fold.cutoff)
    assert_adds_up(one)
    assert one.same
    assert one.came == pytest.approx(forecasts.samples.targets["return"].value[forecasts.samples.decided[row], -1])
    assert {change.before for change in found.changes} == {str(forecasts.folds[0].cutoff)}
    assert first(explain(done, str(symbol), moment.replace(hour=0, minute=0))).time == moment  # a day is enough


def test_what_changed_since_the_refit_before(done: Run) -> None:
    found = explain(done, "B1_0", refits=3, heads=["return", "volatility"])
    told = {(one.model, one.head, one.part) for one in found.changes}
    assert {("lstm", "return", "recurrent"), ("residual_lstm", "volatility", "linear")} <= told
    cutoffs = [str(one.cutoff) for one in done.classes["index"].forecasts.folds[-3:]]
    of_lstm = [one for one in found.changes if (one.model, one.head) == ("lstm", "return")]
    pairs = [(cutoffs[1], cutoffs[2]), (cutoffs[0], cutoffs[1]), (cutoffs[0], cutoffs[2])]  # the last, the whole way
    assert [(one.before, one.refit) for one in of_lstm] == pairs
    for one in found.changes:
        assert 0 <= one.stability <= 1 + 1e-12
        assert (one.between_seeds is None) == (one.part == "linear")
        sizes = [each.now + each.before if each.turned else abs(each.now - each.before) for each in one.moved]
        assert sizes == sorted(sizes, reverse=True)
    correction = [one for one in found.changes if (one.model, one.part) == ("residual_lstm", "recurrent")]
    assert not correction[0].refitted  # the network is trained at every twelfth refit
    assert {one.refitted for one in found.changes if one.model != "residual_lstm"} == {True}


@pytest.fixture(scope="module")
def turning() -> dict[bool, Explained]:
    """Whether the effect of x turns -> what the last refit has changed, made of the year after it; the one before, of
    the year until then."""
    bars, found = synthetic.b1(840, seed=2, r2=0.15), dict[bool, Explained]()
    late = pl.col("time") > datetime(2002, 1, 1, tzinfo=UTC)
    for turns in (False, True):
        asked = settings(
            bars=bars.with_columns(x=pl.when(late).then(-pl.col("x")).otherwise("x")) if turns else bars,
            models=("lstm", "ridge", "logistic"), schedule={"train": "1Y", "minimum": "1Y", "refit": "1Y"},
            control=None,
            model={"lstm": {"units": 16, "layers": 1, "epochs": 8, "seeds": 2}},
        )  # fmt: skip
        with unrecorded():
            found[turns] = explain(run(asked), "B1", heads=["return"])
    return found


@pytest.mark.parametrize("model", ["lstm", "ridge"])
def test_an_effect_that_turned_between_two_refits_is_seen_and_one_that_stayed_is_not(
    turning: dict[bool, Explained], model: str
) -> None:
    """The share of x is large in both; its sign alone tells. No bar is in the windows of both refits."""
    assert [one.refit[:4] for one in turning[True].changes] == ["2003"] * len(turning[True].changes)
    stayed, gone = (next(one for one in turning[turns].changes if one.model == model) for turns in (False, True))
    of_x = {
        turns: [each for each in one.moved if each.input.startswith("x")]
        for turns, one in ((False, stayed), (True, gone))
    }
    assert max(of_x[True], key=lambda each: each.now + each.before).turned
    assert gone.moved[0].turned
    assert not any(each.turned and min(each.now, each.before) > 0.1 for each in of_x[False])
    assert gone.stability < 0.5 * stayed.stability
    assert stayed.stability > 0.4


def test_importance_is_out_of_sample_and_the_same_again(done: Run) -> None:
    once, again = (explain(done, "B1_0", heads=["return"], importance=True).importance for _ in range(2))
    assert once == again
    models = {one["model"] for one in once}
    assert {"lstm", "forest", "ridge"} <= models
    blocks = done.classes["index"].forecasts.folds[-2:]
    answers = done.classes["index"].samples.targets["return"].value[done.classes["index"].samples.decided, -1]
    assert once[0]["rows"] == sum(int(np.isfinite(answers[fold.test]).sum()) for fold in blocks)


def test_evidence_and_gates_of_the_strategies(done: Run, newest: Explained) -> None:
    decided = done.signals.group_by("symbol").last()
    for one in newest.explanations:
        reached = {step.name: step.after for step in one.decision.steps}
        assert reached["evidence"] == pytest.approx(0.5 * reached["tilt"], abs=1e-15)
        strategy = decided.filter(pl.col("symbol") == one.symbol)["strategy"].item()
        gates = [step.gate for step in one.decision.steps if step.gate]
        assert ("flat" in gates) == (strategy == "flat")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"symbol": "B1_9"}, r"the run has no symbol 'B1_9'. Did you mean 'B1_[01]'"),
        ({"symbol": "B1_0", "time": datetime(1999, 5, 1, tzinfo=UTC)}, "Decisions are of .* closes .*; the nearest"),
        ({"heads": ["returns"]}, "unknown head 'returns'. Did you mean 'return'"),
        ({"symbol": "B1_0", "refits": 0}, "refits = 0: expected a number from 1 to 120"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_what_is(done: Run, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        explain(done, **asked)


def test_of_all_symbols_those_without_that_close_are_left_out(done: Run) -> None:
    alone = [one for one in done.signals.filter(pl.col("symbol") == "A1")["time"] if one.hour != 0]
    time = max({*alone} & {*done.signals.filter(pl.col("symbol") == "B1_0")["time"]})
    found = explain(done, time=time, heads=["direction"])
    assert {one.time for one in found.explanations} == {time}
    assert {one.symbol for one in found.explanations} | {*found.left_out} == {"A1", "B1_0", "B1_1"}
    with pytest.raises(SettingsError, match=r"nothing can be explained: .* nothing was decided at 1999"):
        explain(done, time=datetime(1999, 1, 4, tzinfo=UTC))


def test_a_folder_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither a run nor a store: expected a folder with"):
        explain(tmp_path)


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        capsys.readouterr()
        assert execute(["explain", str(folder), *words]) == 0
        return capsys.readouterr().out

    found = json.loads(said("--symbol", "B1_0", "--head", "return", "--json").splitlines()[-1])
    assert found["kind"] == "run"
    one = found["explanations"][0]
    assert math.fsum(step["change"] for step in one["decision"]["steps"]) == pytest.approx(one["decision"]["held"])
    assert [head["head"] for head in one["heads"]] == ["return"]
    shown = said("--symbol", "B1_0", "--importance")
    for words in (
        "What is forecast",
        "From the models to the forecast",
        "extended log-HAR per symbol, the start",
        "From votes to what is held",
        "vote of the LSTM",
        "What changed since the refit",
        "What inputs are worth",
    ):
        assert words in shown
    brief = said()
    assert [name in brief for name in ("A1", "B1_0", "B1_1")] == [True] * 3
    assert execute(["explain", str(folder), "--symbol", "B2", "--json"]) == 2
    assert "has no symbol 'B2'" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


# ── a store ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[datetime]]:
    """A store with two models, decisions of three closes by the first and of two by the second; and these closes."""
    bars = synthetic.b1(560, seed=1, r2=0.08, symbols=2)
    closes = bars["time"].unique().sort().to_list()
    month = next(number for number in range(520, 560) if closes[number].month != closes[number - 1].month)
    folder = tmp_path_factory.mktemp("explained") / "store"
    asked = settings(
        models=("lstm", "ridge", "logistic"), model={"lstm": {"units": 16, "layers": 1, "epochs": 2, "seeds": 2}}
    )
    for place in range(month - 3, month + 2):
        now = closes[place] + HOUR
        update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=asked)
        if place in (month - 3, month):
            retrain(folder, now=now)
    return folder, closes[month - 3 : month + 2]


def test_the_newest_close_of_a_store(kept: tuple[Path, list[datetime]]) -> None:
    folder, closes = kept
    found = explain(folder, "B1_0", now=closes[-1] + HOUR)
    one = first(found)
    assert one.time == closes[-1]
    assert_adds_up(one)
    assert one.same
    state = Store.open(folder).state
    assert one.model == state.serving
    numbers = [model.record for model in state.models]
    assert {(change.model_before, change.model_now) for change in found.changes} == {tuple(numbers)}


def test_what_came_too_late_is_explained_as_what_nobody_could_trade_on(
    kept: tuple[Path, list[datetime]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, closes = tmp_path / "store", kept[1]
    shutil.copytree(kept[0], folder)
    bars = synthetic.b1(560, seed=1, r2=0.08, symbols=2)
    later = bars.filter(pl.col("time") > closes[-1])["time"].unique().sort().to_list()
    late = next(one for one, then in pairwise(later) if then - one == timedelta(days=1))
    now = late + timedelta(hours=20)
    update(folder, bars.filter(pl.col("time") <= late), now=now)
    found = explain(folder, "B1_0", now=now)
    assert first(found).not_issued.startswith("the newest bar came after its fill")
    assert f"nothing was issued: {first(found).not_issued}" in repr(found)
    (direction,) = (one for one in first(found).heads if one.head == "direction")
    assert direction.base_rate_up is not None
    capsys.readouterr()
    assert execute(["explain", str(folder), "--symbol", "B1_0", "--now", now.isoformat()]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.index("Nobody could trade on what follows") < said.index("What is forecast")
    assert f"(base rate {direction.base_rate_up:.2%})" in said
    (volatility,) = (one for one in first(found).heads if one.head == "volatility")
    assert volatility.standard_deviation is not None
    assert f"(s.d. {volatility.standard_deviation:.2%})" in said
    assert f"its root is {math.exp(volatility.value / 2):.2%}" in said
    assert execute(["explain", str(folder), "--now", now.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["explanations"]
    assert {one["caution"][:39] for one in told} == {"Nobody could trade on what follows: the"}
    issued = View(Store.open(folder).as_of(now), now).rows["B1_0"]
    assert (issued["expected_return_log"], brief(first(found), {})[2:4]) == (None, ("-", ""))
    assert brief(replace(first(found), not_issued=""), {})[2] != "-"


def test_a_result_says_in_short_what_was_found(done: Run) -> None:
    found = explain(done, "B1_0")
    assert first(found).not_issued == ""
    assert repr(found).startswith("Explained: 1 symbol")
    assert f"return {first(found).heads[0].value:.4g}" in repr(found)
    assert len(repr(found)) < 400


def test_earlier_closes_of_a_store_by_the_model_that_decided_there(kept: tuple[Path, list[datetime]]) -> None:
    folder, closes = kept
    origin = origin_of(folder, closes[-1] + HOUR)
    models = [model.record for model in Store.open(folder).state.models]
    for close in closes[1:]:
        one = first(explained(origin, "B1_1", close))
        assert_adds_up(one)
        assert one.same
        assert one.model == (models[1] if close >= closes[3] else models[0])
    whole = explained(origin)
    assert [one.symbol for one in whole.explanations] == ["B1_0", "B1_1"]
    assert whole.changes == ()


def test_a_close_is_explained_by_what_was_known_there_and_says_what_was_corrected_since(
    kept: tuple[Path, list[datetime]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A correction of the bar before the close changes its newest log return by its own log, then and never before."""
    shutil.copytree(kept[0], folder := tmp_path / "store")
    closes, bars = kept[1], synthetic.b1(560, seed=1, r2=0.08, symbols=2)
    before = first(explain(folder, "B1_0", closes[2], refits=1, now=closes[-1] + HOUR))
    assert (before.corrected, before.since) == ((), "")
    wrong = (pl.col("symbol") == "B1_0") & (pl.col("time") == closes[2])
    known = bars.filter(pl.col("time") <= closes[-1])
    up = {name: pl.when(wrong).then(pl.col(name) * 1.01).otherwise(name) for name in ("close", "high")}
    moment = closes[-1] + 2 * HOUR
    update(folder, known.with_columns(**up), now=moment)
    (raw,) = known.filter(wrong)["close"]
    for asked in (closes[2], closes[3]):  # the first and the second model
        found = first(explain(folder, "B1_0", asked, refits=1, now=moment))
        assert_adds_up(found)
        assert found.same
        assert {one.same for head in found.heads for one in head.models if one.parts} == {True}
        (one,) = found.corrected
        assert (one.symbol, one.time, one.known_at, one.column) == ("B1_0", closes[2], moment, "close")
        assert (one.before, one.now) == pytest.approx((raw, raw * 1.01), rel=1e-12)
    now = first(explain(folder, "B1_0", closes[2], refits=1, now=moment))
    assert now.known == before.known
    for head, was in zip(now.heads, before.heads, strict=True):
        assert (head.value, head.standard_deviation) == (was.value, was.standard_deviation)
        for model, its in zip(head.models, was.models, strict=True):
            assert model.model == its.model
            assert model.value == pytest.approx(its.value, rel=0, abs=0, nan_ok=True)
            for part, then in zip(model.parts, its.parts, strict=True):
                assert part.features == pytest.approx(then.features, rel=1e-6, abs=1e-9)
    assert first(explain(folder, "B1_0", closes[1], refits=1, now=moment)).since == ""  # of a close before it
    beside = first(explain(folder, "B1_1", closes[2], refits=1, now=moment))  # forecasts of variance know the class
    assert beside.corrected == now.corrected
    assert {each.same for head in beside.heads for each in head.models if each.parts} == {True}
    assert first(explain(folder, "B1_0", closes[2], refits=1, now=closes[-1] + HOUR)).since == ""  # not yet known
    capsys.readouterr()
    asked = ["explain", str(folder), "--symbol", "B1_0", "--time", closes[2].isoformat(), "--now", moment.isoformat()]
    assert execute(asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"1 bar was corrected since: B1_0 {closes[2]:%Y-%m-%d %H:%M} UTC (close {raw:.6g}, since" in said
    view = View(Store.open(folder).as_of(moment), moment)
    told = view.explain("B1_0", closes[2])["explanation"]
    assert told["since"] in said
    assert told["corrected"][0]["now"] == one.now


def test_what_does_not_add_up_to_what_was_issued_is_said(newest: Explained) -> None:
    one = first(newest)
    assert one.since == ""
    head = one.heads[0]
    other = replace(head, models=tuple(replace(each, same=False) for each in head.models))
    said = replace(one, heads=(other,), same=False).since
    assert said.startswith(f"The inputs of return of {head.models[0].model}")
    assert "do not add up to what was issued" in said
    assert "another holding" in said


def test_a_desk_is_what_the_waterfall_is_made_of(kept: tuple[Path, list[datetime]]) -> None:
    folder, closes = kept
    store = Store.open(folder)
    desk, _ = store.desk_of(str(store.state.issued[-1].desk))
    sized = desk.sized(desk.view.held, desk.view.equity)
    for one in explain(folder, now=closes[-1] + HOUR).explanations:
        place = desk.names.index(one.symbol)
        assert one.decision.held == sized.weights[place]
        assert one.decision.units == sized.trades[place]


def test_what_came_after_a_missing_bar_is_what_the_service_says(
    kept: tuple[Path, list[datetime]], tmp_path: Path
) -> None:
    """One symbol has no bar of the session after the newest decision, the other has: its own bars count."""
    shutil.copytree(kept[0], folder := tmp_path / "store")
    bars, close = synthetic.b1(560, seed=1, r2=0.08, symbols=2), kept[1][-1]
    after = bars.filter(pl.col("time") > close)["time"].unique().sort().to_list()
    horizon = Store.open(folder).experiment.horizon
    until = after[horizon + 1]
    known = bars.filter((pl.col("time") <= until) & ((pl.col("symbol") != "B1_0") | (pl.col("time") != after[0])))
    update(folder, known, now=until + HOUR)
    price = dict(known.filter(pl.col("symbol") == "B1_0").select("time", "close").iter_rows())
    origin, view = origin_of(folder, until + HOUR), View(Store.open(folder).as_of(until + HOUR), until + HOUR)
    for symbol in ("B1_0", "B1_1"):
        came = first(explained(origin, symbol, close, refits=1)).came
        (row,) = (one for one in view.decisions(symbol, close, close, 1)["decisions"])
        assert came is not None
        assert came == row["came_return_log"]
        if symbol == "B1_0":  # the bar that is missing is none
            assert came == pytest.approx(math.log(price[after[horizon]] / price[close]))


def test_what_came_after_a_close_without_a_forecast_and_why_its_numbers_are_missing(
    kept: tuple[Path, list[datetime]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a session without a bar of its own, and of a close with a bar and no forecast; and of a symbol that ended."""
    shutil.copytree(kept[0], folder := tmp_path / "store")
    bars, close = synthetic.b1(560, seed=1, r2=0.08, symbols=2), kept[1][-1]
    after = bars.filter(pl.col("time") > close)["time"].unique().sort().to_list()
    last = after[Store.open(folder).experiment.horizon + 1]
    own = bars.filter((pl.col("symbol") != "B1_0") | (pl.col("time") != after[0]))
    for until in (after[0], after[1], last):
        update(folder, own.filter(pl.col("time") <= until), now=until + HOUR)
    price = dict(own.filter(pl.col("symbol") == "B1_0").select("time", "close").iter_rows())
    origin, view = origin_of(folder, last + HOUR), View(Store.open(folder).as_of(last + HOUR), last + HOUR)
    told, moments = {}, origin.moments
    monkeypatch.setattr(origin, "moments", lambda keys: [replace(one, row=-1) for one in moments(keys)])
    for time in (after[0], after[1]):
        (row,) = view.decisions("B1_0", time, time, 1)["decisions"]
        one = first(explained(origin, "B1_0", time, refits=1))
        assert (one.came, row["expected_return_log"], one.heads) == (row["came_return_log"], None, ())
        told[row["gate"]] = row
        assert {row["missing"][name] for name in ("z", "low_80", "volatility")} == {GATES[row["gate"]]}
    assert list(told) == ["no bar", "no forecast"]
    assert told["no bar"]["missing"]["came_return_log"] == "it has no bar of this close"
    assert told["no forecast"]["came_return_log"] == pytest.approx(math.log(price[last] / price[after[1]]))
    (newest,) = view.decisions("B1_0", last, last, 1)["decisions"]
    assert newest["missing"]["came_return_log"] == "not all bars of the horizon have come"
    assert first(explained(origin, "B1_0", last, refits=1)).not_come == "not all bars of the horizon have come"
    never, now = "it ended before all bars of the horizon had come", last + 2 * HOUR
    add_action(folder, symbol="B1_0", day=last.date(), kind="delisting", last_return=-0.3, now=now)
    view = View(Store.open(folder).as_of(now), now)
    (newest,) = view.decisions("B1_0", last, last, 1)["decisions"]
    assert newest["missing"]["came_return_log"] == never
    (one,) = explain(folder, "B1_0", now=now, refits=1).explanations
    assert one.not_come == never
    assert f"What came is not known: {never}." in told_of(one, {})


def test_the_deviation_is_that_of_update(kept: tuple[Path, list[datetime]]) -> None:
    folder, closes = kept
    view = View(Store.open(folder).as_of(closes[-1] + HOUR), closes[-1] + HOUR)
    for one in explain(folder, now=closes[-1] + HOUR).explanations:
        (volatility,) = (head for head in one.heads if head.head == "volatility")
        issued = view.rows[one.symbol]["standard_deviation"]
        assert volatility.standard_deviation == pytest.approx(issued, rel=1e-9)
        assert [head.standard_deviation for head in one.heads if head.head != "volatility"] == [None] * 3


def test_forests_of_earlier_refits_are_asked_for_the_worth_of_their_inputs(done: Run) -> None:
    found = explain(done, "A1", heads=["direction"], refits=2, importance=True)
    rows = {(one["model"], one["rows"]) for one in found.importance}
    forest = {count for model, count in rows if model == "forest"}
    assert forest == {count for model, count in rows if model == "logistic"}
    (count,) = forest
    folds = done.classes["etf"].forecasts.folds
    assert count > len(folds[-1].test)


def test_every_member_of_a_probability_is_shown(newest: Explained, done: Run) -> None:
    for one in newest.explanations:
        forecasts = done.classes[one.asset_class].forecasts
        for head in one.heads:
            if head.head in ("direction", "regime"):
                shown = [model.model for model in head.models]
                assert {*done.experiment.ensemble.opinions_on(head.head, forecasts)} <= {*shown}
                assert ("density" in shown) == (head.head == "regime")


def test_a_store_of_one_refit_says_why_nothing_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = synthetic.b1(560, seed=1, r2=0.08, symbols=1)
    times = bars["time"].unique().sort().to_list()
    folder, now = tmp_path / "store", times[529] + HOUR
    update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=settings(models=("ridge", "logistic")))
    retrain(folder, now=now)
    now = times[530] + HOUR
    update(folder, bars.filter(pl.col("time") <= now), now=now)
    found = explain(folder, "B1", now=now)
    assert found.changes == ()
    assert found.unchanged == {"index": ONE_REFIT}
    assert found.to_dict()["unchanged"] == found.unchanged
    capsys.readouterr()
    assert execute(["explain", str(folder), "--symbol", "B1", "--now", now.isoformat()]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ONE_REFIT in out
    assert "ret_log_1 (log of the close" in out


@pytest.mark.parametrize(("sums", "value", "same"), [(-0.2, 0.001, True), (1.4, 0.999, True), (0.4, 0.5, False)])
def test_a_probability_that_was_clipped_is_the_same(sums: float, value: float, same: bool) -> None:
    part = Attribution("linear", "regime", ("x",), ("x",), np.full((1, 1, 1), sums), np.zeros(1), np.full(1, sums))
    issued, told = np.array([value]), [InputPart.each(part)]
    assert says("regime", "har_regime", issued, None, told, 0).same is same
    assert says("return", "ridge", issued, None, told, 0).same is False


def test_a_model_whose_files_are_gone_is_named(kept: tuple[Path, list[datetime]], tmp_path: Path) -> None:
    folder, closes = kept
    shutil.copytree(folder, copy := tmp_path / "store")
    store = Store.open(copy)
    old, new = (model.record for model in store.state.models)
    own, others = ({*model.parts.values()} for model in store.state.models)
    gone = sorted(own - others - {store.state.models[0].parts[ISSUED]})  # what was issued is never removed
    with store.locked():  # as `prune` does it, which keeps two models
        store.append("pruned", {"removed": gone, "count": len(gone), "bytes": 1, "keep": 1}, closes[-1] + HOUR)
    store.artefacts.discard(gone)
    origin = StoreOrigin(store, closes[-1] + HOUR)
    with pytest.raises(StoreError, match=f"model {old}, which decided there, are gone.*are there: {new}"):
        explained(origin, "B1_0", closes[1])
    found = explained(origin, "B1_0")
    assert found.changes == ()  # nothing to compare with
    assert first(found).model == new


def test_a_run_says_what_cut_each_holding_as_its_explanation_does(done: Run, newest: Explained) -> None:
    """The scores and the report name one gate, never one of two."""
    holds = {row["symbol"]: row for row in done.scores["book"]["holds"]}
    shown = {row["symbol"]: row["limited"] for row in (book(done.scores, done.experiment.book.size) or {})["holds"]}
    for one in newest.explanations:
        gate = one.decision.gate
        assert holds[one.symbol]["gate"] == ("" if gate is None else gate.gate.split(", ")[-1])
        assert shown[one.symbol] == holds[one.symbol]["limited_by"]
        assert " or " not in shown[one.symbol]
        of_trade = [step.gate for step in one.decision.steps if step.gate and step.name in (*OF_TRADE, "caps again")]
        for name in {part for each in of_trade for part in each.split(", ")} - {ROUNDING}:
            assert cut_by(name, done.experiment.book.size) in shown[one.symbol].partition("trade: ")[2]


def test_in_brief_a_model_that_adds_nothing_is_not_named_and_gates_say_whose_they_are(newest: Explained) -> None:
    one = first(newest)
    head = one.heads[0]
    for added, named in ((4e-5, False), (-6e-5, True)):
        models = tuple(replace(model, adds=added if place == 0 else 0.0) for place, model in enumerate(head.models))
        said = str(brief(replace(one, heads=(replace(head, models=models),)), newest.titles)[3])
        assert said == (f"{newest.titles[head.models[0].model]} -0.01%" if named else "")
    step = Step("evidence", -0.2, 0.0, gate="evidence", sentence="why")
    for binds, said in ((step, "strategies: evidence"), (replace(step, name="caps", gate="name"), "name")):
        assert brief(replace(one, decision=Waterfall((binds,), 0.0, gate=binds)), newest.titles)[-1] == said
    unmoved = Waterfall((replace(step, change=0.0), Step("cash", 0.0, 0.0)), 0.0)
    assert brief(replace(one, decision=unmoved), newest.titles)[-1] == "strategies: evidence"


def test_the_simple_return_whose_side_is_traded_stands_beside_the_log_return(done: Run, newest: Explained) -> None:
    one = first(newest)
    head = one.heads[0]
    assert (head.head, head.simple) == ("return", pytest.approx(np.exp(head.value) - 1, abs=0.01))
    assert head.simple is not None
    assert head.simple > head.value
    assert f"{head.simple:+.2%}" in head.simple_words
    assert head.simple_words in list(told_of(one, newest.titles))
    assert head.to_dict()["simple_words"] == head.simple_words
    assert all(other.simple is None and not other.simple_words for other in one.heads[1:])
