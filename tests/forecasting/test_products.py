"""The kernel's products against NumPy's, and that all of it is compiled before it is needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm import training as t
from gatecast.forecasting.lstm.gemm import PANEL, gemm, pack, transpose
from gatecast.forecasting.models.naive import Naive
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

TINY = LSTM(units=16, layers=1, seeds=1, epochs=2, lookback=10)
SIXTEENS = st.integers(1, 9).map(lambda count: 16 * count)


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    """Small enough for their products and sums to be exact in float32."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def packed(matrix: np.ndarray) -> np.ndarray:
    """The matrix in panels, by NumPy."""
    return np.concatenate([matrix[:, at : at + PANEL].ravel() for at in range(0, matrix.shape[1], PANEL)])


@given(fours=st.integers(1, 6), columns=SIXTEENS, steps=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_product_is_numpys(fours: int, columns: int, steps: int, seed: int) -> None:
    rows = 4 * fours
    a, b, bias = whole_numbers(seed, rows, steps), whole_numbers(seed + 1, steps, columns), whole_numbers(2, columns)
    panels, c, turned = packed(b), np.full((rows, columns), np.nan, np.float32), np.ascontiguousarray(a.T)
    places = panels.ctypes.data, steps, c.ctypes.data, columns, rows, columns, steps
    gemm(a.ctypes.data, steps, 1, *places, bias.ctypes.data, 0)
    np.testing.assert_array_equal(c, a @ b + bias)
    gemm(turned.ctypes.data, 1, rows, *places, c.ctypes.data, columns)  # added to what is there
    np.testing.assert_array_equal(c, 2 * (a @ b) + bias)


def test_a_product_may_begin_at_a_later_row_of_the_panels() -> None:
    a, b = whole_numbers(0, 8, 20), whole_numbers(1, 24, 128)
    panels, c = packed(b), np.zeros((8, 128), np.float32)
    gemm(a.ctypes.data, 20, 1, panels.ctypes.data + 4 * 4 * PANEL, 24, c.ctypes.data, 128, 8, 128, 20, 0, 0)
    np.testing.assert_array_equal(c, a @ b[4:])


@given(rows=SIXTEENS, columns=SIXTEENS)
def test_panels_are_numpys(rows: int, columns: int) -> None:
    matrix, found = whole_numbers(3, rows, columns), np.full(rows * columns, np.nan, np.float32)
    pack(matrix.ctypes.data, rows, columns, found.ctypes.data)
    np.testing.assert_array_equal(found, packed(matrix))
    transpose(matrix.ctypes.data, rows, columns, found.ctypes.data)
    np.testing.assert_array_equal(found, packed(matrix.T))


@pytest.fixture(scope="module")
def samples() -> Samples:
    return make_samples(synthetic.b1(900, seed=1), ("ret_log_1", "x"), lookback=10)["index"]


def test_nothing_is_left_to_compile_when_a_network_is_trained(samples: Samples) -> None:
    t._use_all()
    entries = [getattr(t.kernel(), name) for name in ("train_epoch", "check", "predict")]
    before = [len(one.signatures) for one in entries]
    TINY.fit(samples).predict(samples, np.arange(400, 411))
    assert [len(one.signatures) for one in entries] == before


def test_networks_are_fitted_last_and_forecasts_stay_in_order(samples: Samples) -> None:
    models = {"first": Naive(rule="constant"), "network": TINY, "last": Naive(rule="zero")}
    fitted: list[str] = []
    made = walk_forward(models, samples, Schedule(refit="1Y"), progress=lambda name, _: fitted.append(name))
    assert list(dict.fromkeys(fitted)) == ["first", "last", "network"]
    assert list(made.values) == list(made.fitted) == list(models)


def test_the_first_loss_is_that_of_the_mean_and_of_the_share_of_ones() -> None:
    settings = TINY.replace(heads=("return", "direction"), horizon=1)
    draw = np.random.default_rng(0)
    inputs, ones = draw.standard_normal((60, 3)).astype(np.float32), (draw.random(60) < 0.3).astype(np.float32)
    table, rows = np.column_stack([draw.standard_normal(60), ones]).astype(np.float32), np.arange(12, 55)
    share = (ones[rows].sum() + 0.5) / (len(rows) + 1)
    entropy = -(ones[rows] * np.log(share) + (1 - ones[rows]) * np.log(1 - share)).mean()
    expected = (table[rows, 0] ** 2).mean() + entropy
    assert t.first_loss(settings, inputs, table, rows) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.5])
def test_forget_gates_begin_with_their_bias_and_the_other_gates_with_none(bias: float) -> None:
    weights = t.initial_weights(TINY.replace(layers=2, forget_bias=bias), 3, 1, seed=0)
    for layer in range(2):
        np.testing.assert_array_equal(weights[f"{layer}.b"], np.outer([0, bias, 0, 0], np.ones(16)))


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.5])
def test_a_network_at_rest_keeps_of_an_old_bar_what_its_forget_gate_lets_through(bias: float) -> None:
    settings = TINY.replace(forget_bias=bias, lookback=12, heads=("return",), horizon=1)
    weights = t.initial_weights(settings, 1, 1, seed=0)
    weights["0.wh"][:] = 0  # nothing goes round but the cell
    weights["head.w"][:] = 1
    bars = np.zeros((23, 1), np.float32)
    bars[11] = 2  # of the windows that end at rows 11 to 22 it is the newest bar, ..., the oldest
    forecast = t.predict_windows(weights, settings, bars, np.arange(11, 23), 1)[:, 0]

    def gate(x: np.ndarray | float) -> np.ndarray:
        return 1 / (1 + np.exp(-np.asarray(x, float)))

    opened, _, output, candidate = 2 * weights["0.wx"][0].astype(float)
    age = np.arange(12)
    cell = gate(opened) * np.tanh(candidate) * gate(bias) ** age[:, None]
    let_out = np.where(age[:, None] == 0, gate(output), 0.5)
    np.testing.assert_allclose(forecast, (let_out * np.tanh(cell)).sum(axis=1), rtol=1e-4, atol=1e-6)
