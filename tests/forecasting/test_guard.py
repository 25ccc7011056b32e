"""A refit that fails is refused, the fit before it stays in force everywhere, and a longer walk says the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from gatecast.chain import make_chain
from gatecast.compute.parallel import AHEAD
from gatecast.errors import ForecasterError
from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.guard import LEVEL, MOST_TIMES, Block, compare, fault_of, served
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.models.residual_lstm import ResidualLSTM
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.tuning.tuned import TunedLSTM, Tuning
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.report import render
from gatecast.runs import run
from gatecast.samples.targets import Target
from gatecast.samples.windows import Samples, make_samples
from gatecast.store import chain_of, load_run, past_of, save_run

AT = 3
"""Number of the refit whose fit is damaged."""
SCHEDULE = Schedule(refit="3M")
FEATURES = ("ret_log_1", "rsi_14", "atr_14", "x")
NETWORK: dict[str, Any] = {"units": 16, "layers": 1, "seeds": 2, "epochs": 2}


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return synthetic.b1(900, seed=1, r2=0.1, symbols=4)


@pytest.fixture(scope="module")
def samples(bars: pl.DataFrame) -> Samples:
    return make_samples(bars, FEATURES)["index"]


def damaged(fold: Fold, how: str) -> Fold:
    """The fold with columns in another order, features a hundred times as large, or such answers."""
    one = fold.data
    if how == "swapped":
        return fold.on(replace(one, features=np.roll(one.features, 1, axis=1)))
    if how == "scale":
        return fold.on(replace(one, features=100 * one.features))
    path, variance = one.targets["return"], one.targets["volatility"]
    targets = {
        "return": Target(100 * path.value, path.known_at),
        "volatility": Target(variance.value + np.log(100.0), variance.known_at),
    }
    return fold.on(replace(one, targets=one.targets | targets))


class Damaged(Forecaster):
    """A model one of whose fits is damaged."""

    how: ClassVar[str]
    numbers: ClassVar[tuple[int, ...]]

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> Any:
        return super().fit_many([damaged(one, self.how) if one.index in self.numbers else one for one in folds], task)


def damaged_model(model: type[Forecaster], how: str, *numbers: int, **settings: Any) -> Any:
    """A model with settings, whose fits of these numbers are damaged."""
    own = {"how": how, "numbers": numbers, "__module__": __name__}
    return type(f"Damaged{model.__name__}", (Damaged, model), own)(**settings)


# ── two fits' forecasts ───────────────────────────────────────────────────────────────────────────


def forecasts_of(samples: Samples, rows: np.ndarray, turbulent: float = 0.3) -> dict[str, np.ndarray]:
    ends = samples.ends[rows]
    return {
        "return": np.zeros((len(rows), samples.horizon)),
        "direction": np.full(len(rows), 0.5),
        "volatility": samples.facts.baseline[ends].copy(),
        "regime": np.full(len(rows), turbulent),
    }


@pytest.fixture(scope="module")
def rows(samples: Samples) -> np.ndarray:
    return SCHEDULE.folds(samples.times, samples.known_at)[AT].validation


def test_losses_are_means_over_days_of_means_over_symbols(samples: Samples, rows: np.ndarray) -> None:
    new, old = forecasts_of(samples, rows), forecasts_of(samples, rows, 0.6)
    new["volatility"] *= 3.0
    found = {one.head: one for one in compare(new, old, samples, rows)}
    decided = samples.decided[rows]
    ratio = samples.targets["volatility"].value[decided] - np.log(new["volatility"])
    by_day = pl.DataFrame({"day": samples.sessions[rows], "loss": np.exp(ratio) - ratio - 1})
    wanted = by_day.group_by("day").agg(pl.col("loss").mean())["loss"]
    assert found["volatility"].new == pytest.approx(wanted.mean())
    assert found["volatility"].old == found["volatility"].plain
    assert found["volatility"].days == len(wanted)
    assert found["volatility"].pvalue < LEVEL
    assert found["return"].pvalue == 1  # no worse, and one of the heads that are tested
    assert np.isnan(found["regime"].pvalue)  # a state that lasts is not tested
    assert found["direction"].new == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0, 0.0])
def test_a_number_that_cannot_be_is_refused_where_the_fit_in_force_has_one(
    samples: Samples, rows: np.ndarray, wrong: float
) -> None:
    new, old = forecasts_of(samples, rows), forecasts_of(samples, rows)
    new["volatility"][5:8] = wrong
    said = fault_of(new, old, samples, rows)
    assert said == f"volatility: no possible number in 3 of {len(rows)} validation rows."
    old["volatility"][5:8] = np.nan
    assert fault_of(new, old, samples, rows) == ""


def test_a_head_that_is_gone_is_refused(samples: Samples, rows: np.ndarray) -> None:
    old = forecasts_of(samples, rows)
    new = {head: values for head, values in old.items() if head != "regime"}
    assert fault_of(new, old, samples, rows).startswith("regime: no possible number")
    assert fault_of(old, new, samples, rows) == ""


def test_a_head_that_loses_far_more_is_refused_and_one_that_is_as_good_is_not(
    samples: Samples, rows: np.ndarray
) -> None:
    new, old = forecasts_of(samples, rows), forecasts_of(samples, rows)
    assert fault_of(new, old, samples, rows) == ""
    new["volatility"] *= 30.0
    assert f"more than {MOST_TIMES:g} times that of the fit in force" in fault_of(new, old, samples, rows)
    assert fault_of(old, new, samples, rows) == ""


def test_the_right_state_with_less_certainty_is_no_disaster(samples: Samples, rows: np.ndarray) -> None:
    regime = samples.targets["regime"]
    calm = replace(samples, targets=samples.targets | {"regime": Target(0 * regime.value, regime.known_at)})
    old, new, opposite = (forecasts_of(calm, rows, share) for share in (0.01, 0.1, 0.99))
    found = {one.head: one for one in compare(new, old, calm, rows)}
    assert found["regime"].new > 50 * found["regime"].old
    assert fault_of(new, old, calm, rows) == ""
    assert fault_of(opposite, old, calm, rows).startswith("regime: the mean loss")


def test_a_small_loss_on_every_day_is_refused_by_the_test(samples: Samples, rows: np.ndarray) -> None:
    new, old = forecasts_of(samples, rows), forecasts_of(samples, rows)
    variance = np.exp(samples.targets["volatility"].value[samples.decided[rows]])
    old["volatility"], new["volatility"] = variance * 1.3, variance * (1.4 + 0.05 * np.sin(np.arange(len(rows))))
    assert "with p = " in fault_of(new, old, samples, rows)
    few = np.flatnonzero(samples.day[rows] < samples.day[rows].min() + 40)  # too few for answers over five bars
    few_new, few_old = ({head: values[few] for head, values in one.items()} for one in (new, old))
    assert fault_of(few_new, few_old, samples, rows[few]) == ""


# ── damaged fits of real models ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["swapped", "scale", "answers"])
@pytest.mark.parametrize(
    ("model", "settings"), [(Ridge, {}), (Forest, {"trees": 20}), (LSTM, NETWORK | {"seeds": 1, "epochs": 8})]
)
def test_a_damaged_fit_is_refused_and_only_it(
    samples: Samples, model: type[Forecaster], settings: dict[str, Any], how: str
) -> None:
    one = damaged_model(model, how, AT, **settings)
    found = walk_forward({"own": one}, samples, SCHEDULE)
    assert list(found.refused["own"]) == [found.folds[AT].cutoff]


# ── what is in force ──────────────────────────────────────────────────────────────────────────────


def test_the_fit_before_forecasts_the_block_its_scale_and_its_seeds(samples: Samples) -> None:
    kept: list[Any] = []
    one = damaged_model(LSTM, "answers", AT, **NETWORK)
    found = walk_forward({"own": one}, samples, SCHEDULE, on_fits=kept.append)
    fits, fold = kept[0].fits, found.folds[AT]
    together, alone = fits[AT - 1].predict_members(samples, np.r_[fold.validation, fold.test])
    count = len(fold.validation)
    for head, values in together.items():
        assert np.array_equal(found.values["own"][head][fold.test], values[count:])
    assert np.array_equal(found.scale["own"][AT], together["return"][:count, -1])
    for seed, own in zip(found.members["own"], alone, strict=True):
        assert np.array_equal(seed["volatility"][fold.test], own["volatility"][count:])
    assert found.fitted["own"] is fits[-1]
    assert not found.refused_fits


def test_nothing_else_changes_where_one_fit_is_refused(samples: Samples) -> None:
    found = walk_forward({"own": damaged_model(Ridge, "answers", AT)}, samples, SCHEDULE)
    usual = walk_forward({"own": Ridge()}, samples, SCHEDULE)
    assert not usual.refused
    for number, fold in enumerate(usual.folds):
        mine, theirs = (one.values["own"]["return"][fold.test] for one in (found, usual))
        assert np.array_equal(mine, theirs) == (number != AT)


def test_the_last_fit_is_in_force_until_another_is_not_refused(samples: Samples) -> None:
    last = len(SCHEDULE.folds(samples.times, samples.known_at)) - 1
    kept: list[Any] = []
    found = walk_forward(
        {"own": damaged_model(Ridge, "answers", last - 1, last)}, samples, SCHEDULE, on_fits=kept.append
    )
    assert len(found.refused["own"]) == 2
    assert found.fitted["own"] is kept[0].fits[last - 2]
    assert found.refused_fits["own"] is kept[0].fits[last]
    assert np.array_equal(
        found.values["own"]["return"][found.folds[last].test],
        kept[0].fits[last - 2].predict(samples, found.folds[last].test)["return"],
    )


def test_a_fit_that_goes_on_is_asked_about_once(samples: Samples) -> None:
    found = walk_forward({"own": damaged_model(Ridge, "answers", 2, every=2)}, samples, SCHEDULE)
    assert list(found.refused["own"]) == [found.folds[2].cutoff]
    usual = walk_forward({"own": Ridge(every=2)}, samples, SCHEDULE)
    for number, fold in enumerate(found.folds):
        mine, theirs = (one.values["own"]["return"][fold.test] for one in (found, usual))
        assert np.array_equal(mine, theirs) == (number not in (2, 3))


def test_a_rule_that_learns_no_slope_is_never_refused(samples: Samples) -> None:
    rules = walk_forward({"own": Rule(bad=(AT,))}, samples, SCHEDULE)
    assert not rules.refused
    slopes = walk_forward({"own": Jump(bad=(AT,))}, samples, SCHEDULE)
    assert list(slopes.refused["own"]) == [slopes.folds[AT].cutoff]


# ── the law: a walk goes on from its past ─────────────────────────────────────────────────────────

TUNED = TunedLSTM(lstm=LSTM(**NETWORK), tuning=Tuning(trials=2, every="6M", folds=1, units=(16, 32), layers=(1, 1)))
GO_ON: dict[str, Any] = {
    "ridge": damaged_model(Ridge, "answers", AT),
    "ridge, every second": damaged_model(Ridge, "answers", 2, every=2),
    "ridge, twice": damaged_model(Ridge, "answers", 2, AT),
    "lstm": damaged_model(LSTM, "answers", AT, **NETWORK, selection=True),
    "lstm, every second": damaged_model(LSTM, "answers", 2, every=2, **NETWORK),
    "lstm with warm starts": damaged_model(LSTM, "answers", 2, every=2, warm_start=True, **NETWORK),
    "residual_lstm": damaged_model(ResidualLSTM, "answers", 2, every=2, units=16, seeds=1, epochs=1),
    "tuned": damaged_model(TunedLSTM, "answers", 2, lstm=TUNED.lstm.replace(every=2), tuning=TUNED.tuning),
}  # fmt: skip


def same(one: Forecasts, other: Forecasts) -> None:
    assert one.refused == other.refused
    assert {*one.refused_fits} == {*other.refused_fits}
    for model, heads in one.values.items():
        for head, values in heads.items():
            assert np.array_equal(values, other.values[model][head], equal_nan=True)
    for model, blocks in other.scale.items():  # a run on disk has those of the models that make signals
        assert all(np.array_equal(*two) for two in zip(one.scale[model], blocks, strict=True))
    for model, seeds in one.members.items():
        for mine, theirs in zip(seeds, other.members[model], strict=True):
            assert all(np.array_equal(mine[head], theirs[head], equal_nan=True) for head in mine)


@pytest.mark.parametrize("name", GO_ON)
def test_a_walk_goes_on_from_its_past_whatever_was_refused(name: str, bars: pl.DataFrame, samples: Samples) -> None:
    models = {"own": GO_ON[name]}
    whole = walk_forward(models, samples, SCHEDULE)
    assert whole.refused["own"], "nothing is refused: the test says nothing"
    for number in (2, AT, AT + 1):
        cutoff = whole.folds[number].cutoff
        moments = np.unique(samples.times[samples.times >= cutoff])[[0, 20] if name.startswith("ridge") else [20]]
        for moment in moments:
            until = pl.lit(moment).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
            part = make_samples(bars.filter(pl.col("time") <= until), FEATURES)["index"]
            past = walk_forward(models, part, SCHEDULE)
            fitted: list[Any] = []
            same(whole, walk_forward(models, samples, SCHEDULE, past=past, on_fits=fitted.append))
            assert sum(len(one.fits) for one in fitted) == len(whole.folds) - len(past.folds)


# ── a model of the user's, from the run to its page ───────────────────────────────────────────────


@dataclass(frozen=True)
class FittedJump:
    size: float

    def predict(self, samples: Samples, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"return": np.full((len(rows), samples.horizon), self.size)}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"size": np.array([self.size])}, {}

    @classmethod
    def from_state(cls, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> FittedJump:
        return cls(float(arrays["size"][0]))


class Jump(Forecaster):
    """Forecasts next to nothing, at some refits a rise of 100 %."""

    kind: ClassVar = "jump"
    fitted: ClassVar = FittedJump
    traits: ClassVar = Traits("jump", heads=("return",))
    bad: tuple[int, ...] = ()
    """numbers of the refits at which it fails"""
    size: str = "1"
    """what it then forecasts"""

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> Any:
        return fit_every(self.fit_fold, folds, 1, task)

    def fit_fold(self, fold: Fold) -> FittedJump:
        return FittedJump(float(self.size) if fold.index in self.bad else fold.index * 1e-6)


class Rule(Jump):
    """The same, as a rule that learns no slope."""

    traits: ClassVar = Traits("rule", heads=("return",), learns_slope=False)


@pytest.mark.parametrize("size", ["inf", "nan"])
def test_a_refit_without_numbers_is_refused_and_a_first_fit_is_an_error(samples: Samples, size: str) -> None:
    found = walk_forward({"own": Jump(bad=(AT,), size=size)}, samples, SCHEDULE)
    assert "no possible number" in found.refused["own"][found.folds[AT].cutoff]
    if size == "inf":
        with pytest.raises(ForecasterError, match="expected finite log returns"):
            walk_forward({"own": Jump(bad=(0,), size=size)}, samples, SCHEDULE)


@pytest.fixture
def jump() -> Iterator[None]:
    FORECASTERS.add(Jump)
    yield
    FORECASTERS.remove("jump")


@pytest.mark.usefixtures("jump")
def test_what_was_refused_is_saved_read_and_said_and_the_chain_goes_on_from_it(tmp_path: Path) -> None:
    bars = synthetic.b1(700, seed=1, r2=0.1)
    cut = bars["time"].unique().sort()[630]
    experiment = Experiment(
        bars=bars, features=("x",), schedule={"refit": "3M"}, models=("ridge", "logistic", "jump"),
        model={"jump": {"bad": (1, 4, 5)}}, signals={"model": "ridge", "confirmed_by": "jump"},
        too_good="planted",
    )  # fmt: skip
    said: list[tuple[str, int, int]] = []
    whole = make_chain(experiment, bars, lambda *told: said.append(told))
    assert ("index: guard", 3, 3) in said
    done = run(experiment.replace(bars=bars.filter(pl.col("time") <= cut)))
    one = done.classes["index"].forecasts
    assert one.folds[-1].index == 4
    assert one.refused_fits
    refused = done.scores["refused"]
    assert [(row["asset_class"], row["model"]) for row in refused] == [("index", "jump")] * 2
    assert refused[0]["reason"].startswith("return: the mean loss on")
    save_run(done, tmp_path / "r")
    assert "2 refits refused: jump (index, " in render(load_run(tmp_path / "r"))
    past = past_of(load_run(tmp_path / "r"))
    assert past.forecasts["index"].refused == one.refused
    assert past.forecasts["index"].refused_fits["jump"] == one.refused_fits["jump"]
    assert past.forecasts["index"].fitted["jump"] == one.fitted["jump"]
    again = chain_of(load_run(tmp_path / "r"))
    assert again.weights.equals(done.weights)
    longer = make_chain(experiment, bars, past=past)
    same(whole.forecasts["index"], longer.forecasts["index"])
    assert whole.weights.equals(longer.weights)


@pytest.mark.parametrize("jobs", [1, 2])
def test_few_answers_wait_to_be_judged(jobs: int) -> None:
    """Of hundreds of refits, forecasts of validation rows alone are gigabytes."""
    asked = 0

    def ask(fit: Any, rows: np.ndarray) -> Any:
        nonlocal asked
        asked += 1
        return {"direction": np.full(len(rows), 0.5)}, []

    rows = np.arange(5)
    blocks = [Block(object(), rows, rows + 5, np.datetime64("2020-01-01")) for _ in range(50)]  # type: ignore[arg-type]
    for number, _ in enumerate(served(blocks, ask, None, None, guarded=False, jobs=jobs)):  # type: ignore[arg-type]
        time.sleep(0.001)
        assert asked <= number + 2 + (jobs > 1) * jobs * AHEAD
    assert asked == 50
