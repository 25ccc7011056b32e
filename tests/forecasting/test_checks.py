"""A model that fails, or forecasts what cannot be, is refused by its name in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gatecast.errors import ForecasterError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Traits, fit_every, from_state
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

Predict = Callable[[Samples, np.ndarray], Any]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return make_samples(synthetic.a1(700, seed=1), ("ret_log_1",))["index"]


def path(samples: Samples, rows: np.ndarray) -> np.ndarray:
    return np.zeros((len(rows), samples.horizon))


@dataclass(frozen=True)
class FittedOne:
    make: Predict
    stored: Any = ({}, {})

    def predict(self, samples: Samples, rows: np.ndarray) -> Any:
        return self.make(samples, rows)

    def state(self) -> Any:
        return self.stored

    @classmethod
    def from_state(cls, arrays: Any, settings: Any) -> FittedOne:
        return cls(lambda samples, rows: {"return": path(samples, rows)})


def model(make: Predict, stored: Any = ({}, {}), fits: Callable[[list[Any]], Any] = list) -> Forecaster:
    """A user's model with such forecasts, such a state and such fits."""

    class One(Forecaster):
        """A model of a user."""

        kind, fitted = "one", FittedOne
        traits = Traits("one of mine", ("return",))

        def fit_many(self, folds: Any, task: Any = ALONE) -> Any:
            return fits(fit_every(lambda fold: FittedOne(make, stored), folds, 1, task))

    return One()


def fails(_: Samples, __: np.ndarray) -> Any:
    raise RuntimeError("no connection " * 100)


def ends(_: Samples, __: np.ndarray) -> Any:
    raise SystemExit("goodbye")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda s, r: {"return": path(s, r)[:-1]}, "its return is float64"),
        (lambda s, r: {"return": path(s, r)[:, :-1]}, "expected an array of floats"),
        (lambda s, r: {"return": path(s, r)[:, 0]}, "expected an array of floats"),
        (lambda s, r: {"return": path(s, r).tolist()}, "its return is list, expected an array of floats"),
        (lambda s, r: {"return": path(s, r) + np.inf}, "its return is inf in"),
        (lambda s, r: {"return": path(s, r) + 1e300}, "is 1e+300 in size, and no market's is above"),
        (lambda s, r: {"return": path(s, r) - 1e6 * s.unit[r]}, "and no market's is above"),
        (lambda s, r: {"return": path(s, r), "volatility": np.full(len(r), 1e9)}, "its volatility of 'A1' at"),
        (lambda s, r: {"return": path(s, r), "gold": path(s, r)}, "forecasts 'gold': expected heads of return"),
        (lambda s, r: {"return": path(s, r), "volatility": path(s, r)[:, 0]}, "its volatility is 0 in"),
        (lambda s, r: {"return": path(s, r), "direction": path(s, r)[:, 0] + 1.7}, "its direction is 1.7 in"),
        (lambda s, r: {"direction": path(s, r)[:, 0]}, "forecasts no return, which its traits promise"),
        (lambda s, r: path(s, r), "predict returned a ndarray, expected a dictionary"),
        (lambda s, r: None, "predict returned a NoneType"),
        (fails, "cannot forecast: RuntimeError: no connection"),
        (ends, "it wants to end the program (goodbye)"),
    ],
)
def test_forecasts_that_cannot_be_are_refused(samples: Samples, make: Predict, text: str) -> None:
    with pytest.raises(ForecasterError, match=re.escape(text)) as caught:
        walk_forward({"mine": model(make)}, samples, Schedule(refit="6M"))
    assert "'mine'" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("fits", "text"),
    [
        (lambda made: made[:-1], "expected"),
        (lambda made: [*made, made[0]], "fits, one a fold"),
        (lambda made: None, "fit_many returned 'NoneType'"),
        (lambda made: [None] * len(made), "fit_many returned a NoneType, expected a FittedOne"),
    ],
)
def test_fits_that_are_not_one_a_fold_are_refused(samples: Samples, fits: Any, text: str) -> None:
    mine = model(lambda s, r: {"return": path(s, r)}, fits=fits)
    with pytest.raises(ForecasterError, match=re.escape(text)):
        walk_forward({"mine": mine}, samples, Schedule(refit="6M"))


@pytest.mark.parametrize(
    "stored", [None, ({"a": [1]}, {}), ({}, {"a": float("nan")}), ({}, {"a": object()}), ({"a": np.array([None])}, {})]
)
def test_a_model_that_cannot_be_stored_is_refused_before_other_models_are_fitted(samples: Samples, stored: Any) -> None:
    with pytest.raises(ForecasterError, match=r"'mine' cannot be stored"):
        walk_forward({"mine": model(lambda s, r: {"return": path(s, r)}, stored)}, samples, Schedule(refit="6M"))


def test_an_array_that_is_used_again_changes_no_earlier_forecast(samples: Samples) -> None:
    held: dict[int, np.ndarray] = {}

    def again(samples: Samples, rows: np.ndarray) -> Any:
        array = held.setdefault(0, np.zeros((10_000, samples.horizon)))[: len(rows)]
        array += 1e-4
        return {"return": array}

    made = walk_forward({"mine": model(again)}, samples, Schedule(refit="6M"))
    first, second = (made.values["mine"]["return"][fold.test][0, 0] for fold in made.folds[:2])
    assert (first, second) == (1e-4, 2e-4)


def test_no_forecast_is_nan_and_is_kept_so(samples: Samples) -> None:
    made = walk_forward({"mine": model(lambda s, r: {"return": path(s, r) * np.nan})}, samples, Schedule(refit="6M"))
    assert np.isnan(made.values["mine"]["return"]).all()


@pytest.mark.parametrize(
    "name", ["my ridge", "a/b", "../../etc", "a.b", "1x", "é", "", "x\n", "a" * 100, "lstm_default"]
)
def test_names_that_files_could_not_hold_are_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        Experiment(models=("ridge", "logistic", name), model={name: {"kind": "ridge"}}, signals={
            "model": "ridge", "confirmed_by": "ridge"
        })  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model": {"slow": {"kind": "ridge"}}}, "has settings, but does not run"),
        ({"models": ("lstm", "forest", "slow"), "model": {"slow": {"window": "4Y"}}}, "model.slow says no kind"),
        ({"models": ("lstm", "forest", "x"), "model": {"x": {"kind": "by_hour"}}}, "made around another model"),
        ({"models": 3, "ridge": {}}, "expected a list of names"),
        ({"models": "ridge", "ridge": {}}, "expected a list of names"),
        ({"ridge": {}, "model": {"ridge": {}}}, "[ridge] and [model.ridge] are both there"),
        ({"model": {"ridge": {"self": 22}}}, "unknown setting 'self'"),
        ({"strategies": {"nams": ["trend"]}, "strategy": {"trend": {"bars": 50}}}, "unknown setting 'nams'"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        Experiment(**settings)


@pytest.mark.parametrize(
    ("traits", "fitted"), [(None, FittedOne), (Traits("x", ("gold",)), FittedOne), (Traits("x", ("return",)), int)]
)
def test_a_class_that_is_no_whole_model_cannot_be_added(traits: Any, fitted: Any) -> None:
    from gatecast.errors import PluginError

    class Half(Forecaster):
        """Half a model."""

        kind = "half"

        def fit_many(self, folds: Any, task: Any = ALONE) -> Any:
            return []

    Half.traits, Half.fitted = traits, fitted
    with pytest.raises(PluginError, match="half"):
        FORECASTERS.add(Half)
    assert "half" not in FORECASTERS


def test_a_stored_model_of_another_shape_says_so(samples: Samples) -> None:
    past = walk_forward([FORECASTERS.find("ridge")()], samples, Schedule(refit="1Y"))
    arrays, settings = past.fitted["ridge"].state()
    with pytest.raises(StoreError, match=r"'ridge' lacks or mangles 'weights.return', which is float64 \(2, 5\)"):
        from_state({**arrays, "weights.return": arrays["weights.return"][:2]}, {"kind": "ridge", **settings})
