"""Attributions: against the torch twin's autograd, and against formulas; what they add up to; a planted market."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from gatecast.forecasting.attribution import Attributable, Attribution, overlap, slope_between, turned
from gatecast.forecasting.lstm import LSTM, FittedLSTM
from gatecast.forecasting.lstm import training as t
from gatecast.forecasting.lstm.gradients import Gradients, integrated_gradients
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.har import LinearVariance
from gatecast.forecasting.models.hours import ByHour
from gatecast.forecasting.models.linear import BayesRidge, Ridge
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.models.residual_lstm import ResidualLSTM
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

torch = pytest.importorskip("torch")  # the twin's: without it nothing here has another to be held against
FloatArray = np.ndarray


def random_network(
    seed: int, layers: int = 2, units: int = 19, features: int = 3, selection: bool = False
) -> tuple[LSTM, dict[str, FloatArray], FloatArray]:
    """Settings, weights with a live head, and windows of random inputs."""
    draw = np.random.default_rng(seed)
    lstm = LSTM(units=units, layers=layers, lookback=11, horizon=2, selection=selection)
    weights = t.initial_weights(lstm, features, len(lstm.output_columns), seed)
    for name, size in {"head.w": 0.5, "select.w": 0.1, "select.b": 0.01}.items():
        if name in weights:
            weights[name] = (draw.standard_normal(weights[name].shape) * size).astype(np.float32)
    return lstm, weights, draw.standard_normal((37, lstm.lookback, features))


def twin(lstm: LSTM, weights: dict[str, FloatArray], features: int) -> Any:
    from gatecast.forecasting.lstm.network import Network

    made = Network(features, lstm.units, lstm.layers, len(lstm.output_columns), lstm.selection)
    return made.load(weights).double()


def twins_gradient(lstm: LSTM, network: Any, windows: FloatArray, output: int) -> tuple[FloatArray, FloatArray]:
    """(n,) an output of each window and (n, T, features) its derivatives, by torch in double precision."""
    inputs = torch.from_numpy(windows.astype(np.float64)).requires_grad_(True)
    found = network(inputs.transpose(0, 1), 1)[0][:, output]
    if lstm.binary_columns[output]:
        found = torch.sigmoid(found)
    found.sum().backward()
    assert inputs.grad is not None
    return found.detach().numpy(), inputs.grad.numpy()


@pytest.mark.parametrize(
    ("layers", "units", "features", "selection"),
    [(1, 16, 1, False), (2, 19, 3, False), (3, 33, 17, False), (1, 16, 5, True), (2, 40, 18, True)],
)
def test_the_gradient_by_the_inputs_is_the_twins(layers: int, units: int, features: int, selection: bool) -> None:
    lstm, weights, windows = random_network(layers + features, layers, units, features, selection)
    network, own = twin(lstm, weights, features), Gradients(weights, lstm, features)
    for output in range(len(lstm.output_columns)):
        value, gradient = twins_gradient(lstm, network, windows, output)
        np.testing.assert_allclose(own.outputs(windows, output), value, atol=3e-6)
        np.testing.assert_allclose(own.of(windows, output), gradient, atol=2e-6 * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("selection", [False, True])
@pytest.mark.parametrize("output", [1, 2])  # a return, a probability
def test_integrated_gradients_are_the_twins_by_many_small_steps(selection: bool, output: int) -> None:
    lstm, weights, windows = random_network(4, selection=selection)
    windows, usual = windows[:3], np.array([0.5, -0.2, 0.0])
    network, steps = twin(lstm, weights, 3), 200
    total = np.zeros(windows.shape)
    for step in range(steps):  # the middle of each step
        total += twins_gradient(lstm, network, usual + (step + 0.5) / steps * (windows - usual), output)[1] / steps
    found, base, whole = integrated_gradients(Gradients(weights, lstm, 3), windows, usual, output)
    np.testing.assert_allclose(found, (windows - usual) * total, atol=1e-4 * np.abs(whole - base).max() + 1e-5)
    np.testing.assert_allclose(base, twins_gradient(lstm, network, np.tile(usual, (3, 11, 1)), output)[0], atol=3e-6)


@pytest.mark.parametrize(
    ("layers", "units", "features", "selection", "size"),
    [(1, 16, 1, False, 1.0), (2, 19, 3, True, 3.0), (3, 33, 17, False, 1.0), (2, 40, 18, True, 1.0)],
)
def test_integrated_gradients_are_those_of_captum(
    layers: int, units: int, features: int, selection: bool, size: float
) -> None:
    """Captum's of the twin in double precision, with eight times as many nodes: every lag and feature, every output."""
    captum = pytest.importorskip("captum.attr")
    lstm, weights, windows = random_network(layers + features, layers, units, features, selection)
    windows, usual = size * windows[:4], np.linspace(-0.4, 0.5, features)
    network, own = twin(lstm, weights, features), Gradients(weights, lstm, features)
    inputs = torch.from_numpy(windows)
    baselines = torch.from_numpy(np.broadcast_to(usual, windows.shape).copy())
    for output in range(len(lstm.output_columns)):

        def forecast(given: Any, output: int = output) -> Any:
            found = network(given.transpose(0, 1), 1)[0][:, output]
            return torch.sigmoid(found) if lstm.binary_columns[output] else found

        expected, missed = captum.IntegratedGradients(forecast).attribute(
            inputs, baselines, n_steps=64, method="gausslegendre", return_convergence_delta=True
        )
        found, base, whole = integrated_gradients(own, windows, usual, output)
        largest = np.abs(expected.numpy()).max(axis=(1, 2))
        assert (np.abs(found - expected.numpy()).max(axis=(1, 2)) <= 1e-4 * largest).all()
        assert float(missed.abs().max()) < 1e-8
        assert (np.abs(found.sum(axis=(1, 2)) - (whole - base)) <= 1e-4 * largest).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 8.0), selection=st.booleans())
def test_what_inputs_add_is_the_difference_of_the_outputs(seed: int, size: float, selection: bool) -> None:
    lstm, weights, windows = random_network(seed, selection=selection)
    found, base, whole = integrated_gradients(Gradients(weights, lstm, 3), size * windows, np.zeros(3), seed % 5)
    missed = np.abs(found.sum(axis=(1, 2)) - (whole - base))
    assert (missed <= np.maximum(1e-3 * np.abs(whole - base), 1e-5)).all()


def test_a_row_has_the_same_bytes_whatever_stands_beside_it() -> None:
    lstm, weights, windows = random_network(8, selection=True)
    own = Gradients(weights, lstm, 3)
    together = integrated_gradients(own, windows, np.zeros(3), 0)[0]
    alone = integrated_gradients(own, windows[5:6], np.zeros(3), 0)[0]
    assert np.array_equal(together[5], alone[0])


# ── planted markets ───────────────────────────────────────────────────────────────────────────────


def test_the_attribution_finds_the_lags_of_the_planted_memory() -> None:
    """r(t+1) = b · sign(z(t) · z(t-4)) + e: nothing linear, and no other lag."""
    samples = make_samples(synthetic.b2(20_000, seed=1), ("z",), lookback=10, horizon=1)["index"]
    lstm = LSTM(units=16, layers=1, seeds=2, lookback=10, horizon=1, heads=("return",), dropout=0.0, weight_decay=0.0)
    rows = np.arange(len(samples) - 300, len(samples))
    (found,) = lstm.fit(samples).attributions(samples, rows, "return")
    share = {lag: found.profile()["z", lag] for lag in range(10)}
    assert sorted(share, key=lambda lag: -share[lag])[:2] == [0, 4]
    assert share[0] + share[4] > 0.35  # of ten lags two have this much


@pytest.fixture(scope="module")
def planted() -> Samples:
    """x predicts 8 % of the next bar's variance, `ret_log_1` nothing."""
    return make_samples(synthetic.b1(1500, seed=2, r2=0.08, symbols=2), ("ret_log_1", "x"))["index"]


@pytest.fixture(scope="module")
def fold(planted: Samples) -> Fold:
    return Schedule(refit="1Y").folds(planted.times, planted.known_at)[-1].on(planted)


@pytest.fixture(scope="module")
def network(planted: Samples, fold: Fold) -> FittedLSTM:
    return LSTM(units=16, layers=1, seeds=2, epochs=8).fit_many([fold])[0]


def whole(parts: tuple[Attribution, ...]) -> FloatArray:
    """What the parts say together, from what inputs add."""
    return sum((one.base + one.values.sum(axis=(1, 2)) for one in parts), np.zeros(len(parts[0].base)))


def forecast_in_units(fit: Attributable, fold: Fold, head: str) -> FloatArray:
    value = fit.predict(fold.data, fold.test)[head]  # type: ignore[attr-defined]
    value = value[:, -1] if value.ndim == 2 else value
    return np.log(value) if head == "volatility" else value


@pytest.mark.parametrize("head", ["return", "direction", "volatility", "regime"])
def test_what_the_bars_add_is_what_the_network_forecasts(network: FittedLSTM, fold: Fold, head: str) -> None:
    parts = network.attributions(fold.data, fold.test, head)
    expected = forecast_in_units(network, fold, head)
    np.testing.assert_allclose(parts[0].output, expected, rtol=1e-12)
    np.testing.assert_allclose(whole(parts), expected, atol=2e-3 * np.abs(parts[0].output - parts[0].base).max() + 1e-5)
    assert parts[0].values.shape == (len(fold.test), 30, 2)
    np.testing.assert_allclose(parts[0].seeds.mean(axis=0), parts[0].values)  # type: ignore[union-attr]


def test_the_planted_column_adds_more_than_the_other(network: FittedLSTM, fold: Fold) -> None:
    (part,) = network.attributions(fold.data, fold.test, "return")
    by_feature = {name: np.abs(each).mean() for name, each in part.by_feature().items()}
    assert by_feature["x"] > 3 * by_feature["ret_log_1"]
    agree = part.between_seeds()
    assert agree is not None
    assert 0.3 < agree < 1.0


@pytest.mark.parametrize(
    ("forecaster", "heads"),
    [(Ridge(), ("return", "volatility")), (BayesRidge(), ("return",)), (Logistic(), ("direction", "regime")),
     (Logistic(inputs="har_falls", heads=("regime",)), ("regime",))],
)  # fmt: skip
def test_a_linear_model_is_weight_times_input(forecaster: Ridge, heads: tuple[str, ...], fold: Fold) -> None:
    (fit,) = forecaster.fit_many([fold])
    assert isinstance(fit, Attributable)
    for head in heads:
        parts = fit.attributions(fold.data, fold.test, head)
        np.testing.assert_allclose(whole(parts), forecast_in_units(fit, fold, head), rtol=1e-9, atol=1e-12)
        assert parts[0].values.shape == (len(fold.test), 1, len(parts[0].inputs))
    assert fit.attributions(fold.data, fold.test, "nothing") == ()


def test_ridge_against_the_formula(fold: Fold) -> None:
    (fit,) = Ridge().fit_many([fold])
    (part,) = fit.attributions(fold.data, fold.test[:5], "return")
    samples, rows = fold.data, fold.test[:5]
    place = part.inputs.index("x (mean of 5 bars)")
    window = samples.window(rows)[:, -5:, samples.names.index("x")].mean(axis=1)
    scaled = (window - fit.scaler.centre[place]) / fit.scaler.spread[place]
    unit = samples.facts.sigma[samples.ends[rows]] * np.sqrt(samples.horizon)
    np.testing.assert_allclose(
        part.values[:, 0, place], scaled * fit.weights["return"][1 + place, -1] * unit, rtol=1e-9
    )


def test_a_probability_is_shared_out_as_the_integral_says() -> None:
    base, weights = 0.3, np.array([1.2, -0.4, 0.1])
    slope = slope_between(np.array([base]), np.array([base + weights.sum()]))[0]
    for weight in weights:

        def along(u: float, weight: float = weight) -> float:
            chance = 1 / (1 + np.exp(-(base + u * weights.sum())))
            return weight * chance * (1 - chance)

        assert weight * slope == pytest.approx(quad(along, 0, 1)[0], abs=1e-10)


def test_linear_and_recurrent_parts_of_the_correction_stand_apart(fold: Fold) -> None:
    (fit,) = ResidualLSTM(units=16, epochs=3, seeds=2).fit_many([fold])
    linear, recurrent = fit.attributions(fold.data, fold.test, "volatility")
    assert (linear.part, recurrent.part) == ("linear", "recurrent")
    expected = forecast_in_units(fit, fold, "volatility")
    np.testing.assert_allclose(linear.output + recurrent.output, expected, rtol=1e-9)
    each = [np.log(one.predict(fold.data, fold.test)["volatility"]) for one in fit.linear]
    np.testing.assert_allclose(linear.output, np.mean(each, axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole((linear, recurrent)), expected, atol=1e-4)


def test_the_hour_is_in_the_base() -> None:
    bars = synthetic.a1(3000, seed=4)
    hours = np.datetime64("2020-01-06T15:00", "us") + np.arange(3000) // 6 * np.timedelta64(1, "D")
    time = (hours + np.arange(3000) % 6 * np.timedelta64(1, "h")).astype("datetime64[us]")
    stamps = pl.Series(time).dt.replace_time_zone("UTC")
    samples = make_samples(bars.with_columns(time=stamps, known_at=stamps), ("ret_log_1",))["index"]
    fold = Schedule(refit="6M", train="6M", minimum="6M").folds(samples.times, samples.known_at)[-1].on(samples)
    (fit,) = ByHour(of=LinearVariance(pooled=True)).fit_many([fold])
    assert isinstance(fit, Attributable)
    expected = np.log(fit.predict(samples, fold.test)["volatility"])
    np.testing.assert_allclose(whole(fit.attributions(samples, fold.test, "volatility")), expected, rtol=1e-9)


def test_a_forest_cannot_tell(fold: Fold) -> None:
    assert not isinstance(Forest(trees=3).fit_many([fold])[0], Attributable)


def test_stability_is_one_for_the_same_and_less_for_another_fit(network: FittedLSTM, fold: Fold) -> None:
    (one,) = network.attributions(fold.data, fold.test, "return")
    assert overlap(one, one) == pytest.approx(1.0)
    assert turned(one, one) == set()
    (other,) = LSTM(units=16, layers=1, seeds=2, epochs=8, seed=5).fit_many([fold])
    (second,) = other.attributions(fold.data, fold.test, "return")
    assert 0.3 < overlap(one, second) < 1.0
    swapped = replace(one, inputs=("x", "ret_log_1"))  # another feature in the same column
    assert overlap(one, swapped) < 0.7


def made_of(values: FloatArray, inputs: tuple[str, ...]) -> Attribution:
    nothing = np.zeros(len(values))
    return Attribution("recurrent", "return", inputs, inputs, values, nothing, nothing)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_stability_is_the_sum_of_the_smaller_shares_of_one_sign(seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.standard_normal((5, 3, 2)), draw.standard_normal((5, 4, 2))
    one, other = made_of(a, ("x", "y")), made_of(b, ("y", "z"))
    expected = 0.0
    for row in range(5):
        for lag in range(3):  # y is the second of the one and the first of the other
            first, second = a[row, lag, 1] / np.abs(a).sum(), b[row, lag, 0] / np.abs(b).sum()
            expected += min(abs(first), abs(second)) if first * second > 0 else 0.0
    assert overlap(one, other) == pytest.approx(expected, abs=1e-12)
    assert overlap(other, one) == pytest.approx(expected, abs=1e-12)
    assert overlap(one, made_of(scale * a, ("x", "y"))) == pytest.approx(1.0)
    assert overlap(one, made_of(-a, ("x", "y"))) == 0
    half = made_of(a * np.array([1.0, -1.0]), ("x", "y"))
    assert overlap(one, half) == pytest.approx(sum(share for (name, _), share in one.profile().items() if name == "x"))
    assert turned(one, half) == {("y", lag) for lag in range(3)}
