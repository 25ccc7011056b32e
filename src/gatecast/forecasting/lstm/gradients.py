"""Integrated gradients of one network: what each bar and feature of a window adds to an output, by the kernel's own
gradients.

    a(t, j) = (x(t, j) - b(j)) · ∫ ∂output / ∂x(t, j) at b + u (x - b), u from 0 to 1

after Sundararajan, Taly and Yan (2017), Proceedings of Machine Learning Research 70. The integral is Gauss and
Legendre's, with twice as many nodes where the attributions do not add up to the difference of the outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.lstm.training import flatten, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.lstm.recipe import Recipe
    from gatecast.forecasting.lstm.training import Weights

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

NODES = 8
"""Nodes of the integral, at first."""
MOST_NODES = 128
BATCH = 32
"""Windows that are passed through a network at once."""
SHARE, LEAST = 1e-3, 1e-5
"""What the sum may miss: a share of the difference of the outputs, or so much where that is less."""


class Gradients:
    """One network's forward and backward pass; buffers are made once.

    `windows`: (n, T, features) scaled, of any n.
    """

    def __init__(self, weights: Weights, settings: Recipe, features: int) -> None:
        self.kernel, self.settings, self.features = kernel(), settings, features
        self.binary = np.array(settings.binary_columns)
        shape = self.kernel.Shape(features, settings.units, settings.layers, len(self.binary), settings.selection)
        self.flat, self.weights = flatten(shape, weights), weights
        self.work = self.kernel.workspace(shape, settings.lookback, BATCH, 1)
        self.gradient = np.zeros_like(self.flat)
        wide = -(-features // 16) * 16
        first = shape.view(self.flat, "0.wx")[:features]
        self.turned = np.zeros((first.shape[1], wide), np.float32)  # of the first layer, so that a product reads rows
        self.turned[:, :features] = first.T
        self.flowing = np.zeros((settings.lookback, BATCH, wide), np.float32)

    def outputs(self, windows: FloatArray, output: int) -> FloatArray:
        """(n,) one output of each window; a probability where it is one, not log-odds."""
        found = np.zeros(len(windows))
        for begin in range(0, len(windows), BATCH):
            part = windows[begin : begin + BATCH]
            raw = self._forward(part, output)
            found[begin : begin + len(part)] = _chance(raw) if self.binary[output] else raw
        return found

    def of(self, windows: FloatArray, output: int) -> FloatArray:
        """(n, T, features) the derivatives of one output by every input of each window."""
        found = np.zeros(windows.shape)
        for begin in range(0, len(windows), BATCH):
            part = windows[begin : begin + BATCH]
            raw = self._forward(part, output)
            slope = _chance(raw) * (1 - _chance(raw)) if self.binary[output] else np.ones(len(part))
            self.work.error[...] = np.float32(0)
            self.work.error[0, : len(part), output] = slope
            layers, key = self.settings.layers, np.uint32(0)
            self.kernel.backward(self.flat, self.gradient, self.work, layers, 1, 1.0, key, 0)
            found[begin : begin + len(part)] = self._by_inputs()[:, : len(part)].transpose(1, 0, 2)
        return found

    def _forward(self, windows: FloatArray, output: int) -> FloatArray:
        self.work.raw[:, : len(windows), : self.features] = windows.transpose(1, 0, 2)
        self.kernel.forward(self.flat, self.work, self.settings.layers, 1, 1.0, np.uint32(0))
        raw: FloatArray = self.work.forecast[0, : len(windows), output].astype(np.float64)
        return raw

    def _by_inputs(self) -> NDArray[np.float32]:
        """(T, batch, features) after a backward pass, which leaves the gradients of the gates in their place."""
        gates, steps, wide = self.work.gates[0], len(self.flowing) * BATCH, self.turned.shape[1]
        four = gates.shape[2]
        self.kernel.gemm(
            gates.ctypes.data, four, 1, self.turned.ctypes.data, wide, self.flowing.ctypes.data, wide,
            steps, wide, four, 0, 0,
        )  # fmt: skip
        by_input = self.flowing[:, :, : self.features]
        if not self.settings.selection:
            return by_input
        # x' = F s x with s = softmax(x W + PACE b): what flows to x' reaches x by the product and by the shares
        share, raw = self.work.share, self.work.raw[:, :, : self.features]
        through = by_input * np.float32(self.features) * raw
        logits = share * (through - (share * through).sum(axis=2, keepdims=True))
        selected: NDArray[np.float32] = by_input * np.float32(self.features) * share
        back = self.weights["select.w"]
        for column in range(self.features):  # one after the other: a product's last bits depend on the rows beside it
            selected = selected + logits[:, :, column, None] * back[:, column]
        return selected


def integrated_gradients(
    gradients: Gradients, windows: FloatArray, base: FloatArray, output: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What each input of each window adds to one output of a network.

    In: (rows, T, features) scaled windows, the (features,) scaled values that count as usual, and the number of the
    output. Out: (rows, T, features) attributions, oldest bar first; (rows,) the output at the base and that of each
    window. The attributions of a row add up to the difference of its two outputs, within a thousandth of it or 1e-5.
    """
    usual = np.broadcast_to(base, windows.shape[1:])
    at_base = np.repeat(gradients.outputs(usual[None], output), len(windows))
    at_window = gradients.outputs(windows, output)
    wanted = at_window - at_base
    found = np.zeros(windows.shape)
    left, nodes = np.arange(len(windows)), NODES
    while len(left):
        found[left] = _integrated(gradients, windows[left], usual, output, nodes)
        missed = np.abs(wanted[left] - found[left].sum(axis=(1, 2)))
        if nodes >= MOST_NODES:
            break
        left = left[missed > np.maximum(SHARE * np.abs(wanted[left]), LEAST)]
        nodes *= 2
    return found, at_base, at_window


def _integrated(
    gradients: Gradients, windows: FloatArray, base: FloatArray, output: int, nodes: int
) -> FloatArray:  # fmt: skip
    place, weight = np.polynomial.legendre.leggauss(nodes)
    place, weight = (place + 1) / 2, weight / 2
    away = windows - base
    total = np.zeros(windows.shape)
    for begin in range(0, len(windows), BATCH):  # all nodes of some windows at a time: memory stays small
        part = away[begin : begin + BATCH]
        path = base + place[:, None, None, None] * part
        slopes = gradients.of(path.reshape(-1, *base.shape), output).reshape(path.shape)
        for one, share in zip(slopes, weight, strict=True):
            total[begin : begin + BATCH] += share * one
    return away * total


def _chance(odds: FloatArray) -> FloatArray:
    chance: FloatArray = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    return chance
