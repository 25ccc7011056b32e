"""The compiled engine: forward, backward, dropout, clipping and Adam for one network at a time, weights in cache.

Everything is float32 and time-major. A network is one flat parameter vector; per layer Wx (inputs, 4 units), Wh (units,
4 units), b (4 units), with the gates in the order i, f, o, u so that the three sigmoids are one run; then the head's
(units, outputs) and its bias. `Shape` pads inputs to a multiple of 4, units and outputs to 16 and a batch to 4; what is
padded starts at zero, has no gradient and stays at zero.

No function here allocates or touches Python objects: one fit runs on one thread without the interpreter's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from gatecast.forecasting.lstm.gemm import fma, gemm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

# No fastmath: with it, the last bits depend on what LLVM inlines where, and code fresh from the compiler differs from
# the same code out of the cache. Fused products are asked for by name instead.
_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, as asked for and as padded for the kernel."""

    inputs: int
    units: int
    layers: int
    outputs: int

    @cached_property
    def wide_inputs(self) -> int:
        """Inputs in memory."""
        return -(-self.inputs // 4) * 4

    @cached_property
    def wide_units(self) -> int:
        """Units in memory."""
        return -(-self.units // 16) * 16

    @cached_property
    def wide_outputs(self) -> int:
        """Outputs in memory."""
        return -(-self.outputs // 16) * 16

    @cached_property
    def views(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """name -> (offset in the flat vector, padded shape)."""
        units, found, offset = self.wide_units, {}, 0
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for layer in range(self.layers):
            inputs = self.wide_inputs if layer == 0 else units
            shapes += [
                (f"{layer}.wx", (inputs, 4 * units)),
                (f"{layer}.wh", (units, 4 * units)),
                (f"{layer}.b", (4 * units,)),
            ]
        shapes += [("head.w", (units, self.wide_outputs)), ("head.b", (self.wide_outputs,))]
        for name, shape in shapes:
            found[name] = (offset, shape)
            offset += int(np.prod(shape))
        return found

    @cached_property
    def size(self) -> int:
        """Floats in the flat vector."""
        offset, shape = self.views["head.b"]
        return offset + int(np.prod(shape))

    def view(self, flat: FloatArray, name: str) -> FloatArray:
        """One padded part of a flat vector, writable."""
        offset, shape = self.views[name]
        return flat[offset : offset + int(np.prod(shape))].reshape(shape)

    def part(self, flat: FloatArray, name: str) -> FloatArray:
        """One part without its padding: a view where gates are the middle axis, (inputs, 4, units) or (4, units)."""
        whole = self.view(flat, name)
        if name == "head.w":
            return whole[: self.units, : self.outputs]
        if name == "head.b":
            return whole[: self.outputs]
        if name.endswith(".b"):
            return whole.reshape(4, -1)[:, : self.units]
        rows = self.inputs if name == "0.wx" else self.units
        return whole.reshape(len(whole), 4, -1)[:rows, :, : self.units]


def workspace(shape: Shape, steps: int, batch: int) -> dict[str, FloatArray]:
    """All buffers of one fit for at most `batch` runs of at most `steps` bars, allocated once."""
    layers, units, outputs = shape.layers, shape.wide_units, shape.wide_outputs
    inner = (layers, steps, batch)
    sizes: dict[str, tuple[int, ...]] = {
        "gates": (*inner, 4 * units), "cell": (*inner, units), "squashed": (*inner, units),
        "hidden": (*inner, units), "passed": (*inner, units), "mask": (*inner, units), "above": (*inner, units),
        "partial": (16,), "carry": (batch, units),
        "forecast": (steps, batch, outputs), "error": (steps, batch, outputs),
        "transposed": (layers * 2 * 4 * units * units + outputs * units,),
    }  # fmt: skip
    return {name: np.zeros(size, np.float32) for name, size in sizes.items()}


@njit(inline="always", **_options)
def _tanh(x):  # type: ignore[no-untyped-def]
    """Odd rational of degree 13 over 6 fitted to tanh on [-9, 9]: within 4e-7 everywhere in float32."""
    x = min(np.float32(9.0), max(np.float32(-9.0), x))
    s = x * x
    p = fma(np.float32(-8.488418335411153e-14), s, np.float32(5.2778348314064368e-11))
    p = fma(p, s, np.float32(-2.0224989305837423e-08))
    p = fma(p, s, np.float32(1.1154249656728391e-05))
    p = fma(p, s, np.float32(0.0031039505768782642))
    p = fma(p, s, np.float32(0.13084005037466656))
    p = fma(p, s, np.float32(0.99999999338384227))
    q = fma(np.float32(0.00025461370342405278), s, np.float32(0.024495155899308549))
    q = fma(q, s, np.float32(0.46417332137357936))
    q = fma(q, s, np.float32(1.0))
    return x * p / q


@njit(**_options)
def _activate(gates, before, cell, squashed, hidden, batch, units):  # type: ignore[no-untyped-def]
    """One step of all runs: gates in place, then the cell's state, its tanh and the hidden state."""
    half = np.float32(0.5)
    for r in range(batch):
        line = gates[r]
        for j in range(3 * units):
            line[j] = fma(half, _tanh(half * line[j]), half)
        for j in range(3 * units, 4 * units):
            line[j] = _tanh(line[j])
        i, f, o, u = line[:units], line[units : 2 * units], line[2 * units : 3 * units], line[3 * units :]
        c0, c1, t, h = before[r], cell[r], squashed[r], hidden[r]
        for j in range(units):
            c1[j] = fma(f[j], c0[j], i[j] * u[j])
            t[j] = _tanh(c1[j])
            h[j] = o[j] * t[j]


@njit(**_options)
def _activate_back(gates, before, squashed, above, carry, batch, units):  # type: ignore[no-untyped-def]
    """One step backward: gates become their gradients, `carry` the gradient of the cell's earlier state."""
    one = np.float32(1.0)
    for r in range(batch):
        line, c0, t, dh, dc = gates[r], before[r], squashed[r], above[r], carry[r]
        i, f, o, u = line[:units], line[units : 2 * units], line[2 * units : 3 * units], line[3 * units :]
        for j in range(units):
            d = dc[j] + dh[j] * o[j] * (one - t[j] * t[j])
            gi, gf, go, gu = i[j], f[j], o[j], u[j]
            i[j] = d * gu * gi * (one - gi)
            f[j] = d * c0[j] * gf * (one - gf)
            o[j] = dh[j] * t[j] * go * (one - go)
            u[j] = d * gi * (one - gu * gu)
            dc[j] = d * gf


@njit(**_options)
def _fill_mask(mask, keep, key):  # type: ignore[no-untyped-def]
    """1/keep with probability keep, else 0: a hash of key and position, so that there is no state to save."""
    flat = mask.reshape(-1)
    limit = np.uint32(keep * 4294967295.0)
    scale = np.float32(1.0 / keep)
    for n in range(flat.size):
        x = np.uint32(n) ^ np.uint32(key)
        x = np.uint32(x * np.uint32(0x9E3779B1))
        x ^= x >> np.uint32(16)
        x = np.uint32(x * np.uint32(0x85EBCA6B))
        x ^= x >> np.uint32(13)
        x = np.uint32(x * np.uint32(0xC2B2AE35))
        x ^= x >> np.uint32(16)
        flat[n] = scale if x < limit else np.float32(0.0)


@njit(**_options)
def _transpose(source, rows, columns, target):  # type: ignore[no-untyped-def]
    """target (columns, rows) = source (rows, columns), both flat."""
    for row in range(rows):
        for column in range(columns):
            target[column * rows + row] = source[row * columns + column]


@njit(**_options)
def forward(  # type: ignore[no-untyped-def]
    flat, inputs, wide_inputs, units, layers, outputs, steps, batch, labels, keep, key,
    gates, cell, squashed, hidden, passed, mask, carry, forecast,
):  # fmt: skip
    """Forecasts (labels, batch, outputs) of the last `labels` steps into `forecast`, from a zero state.

    `inputs` is (steps, batch, wide_inputs). With keep < 1 every layer's output passes a dropout mask.
    """
    four = 4 * units
    rows = steps * batch
    offset = 0
    carry[:] = np.float32(0.0)
    for layer in range(layers):
        width = wide_inputs if layer == 0 else units
        wx, wh, b = offset, offset + width * four, offset + width * four + units * four
        offset = b + four
        bias = flat[b : b + four]
        for s in range(steps):
            for r in range(batch):
                line = gates[layer, s, r]
                for j in range(four):
                    line[j] = bias[j]
        source = inputs.ctypes.data if layer == 0 else passed[layer - 1].ctypes.data
        base = flat.ctypes.data
        gemm(source, width, 1, base + 4 * wx, four, gates[layer].ctypes.data, four, rows, four, width, 1)
        for s in range(steps):
            if s > 0:
                gemm(
                    hidden[layer, s - 1].ctypes.data, units, 1, base + 4 * wh, four, gates[layer, s].ctypes.data, four,
                    batch, four, units, 1,
                )  # fmt: skip
            before = cell[layer, s - 1] if s > 0 else carry
            _activate(gates[layer, s], before, cell[layer, s], squashed[layer, s], hidden[layer, s], batch, units)
        source_hidden, target = hidden[layer].reshape(-1), passed[layer].reshape(-1)
        if keep < 1.0:
            _fill_mask(mask[layer], keep, np.uint32(key) + np.uint32(layer) * np.uint32(0x68E31DA4))
            drop = mask[layer].reshape(-1)
            for n in range(target.size):
                target[n] = source_hidden[n] * drop[n]
        else:
            for n in range(target.size):
                target[n] = source_hidden[n]
    bias = flat[offset + units * outputs : offset + units * outputs + outputs]
    for s in range(labels):
        for r in range(batch):
            for j in range(outputs):
                forecast[s, r, j] = bias[j]
    gemm(
        passed[layers - 1, steps - labels].ctypes.data, units, 1, flat.ctypes.data + 4 * offset, outputs,
        forecast.ctypes.data, outputs, labels * batch, outputs, units, 1,
    )  # fmt: skip


@njit(**_options)
def backward(  # type: ignore[no-untyped-def]
    flat, gradient, inputs, wide_inputs, units, layers, outputs, steps, batch, labels, keep, first,
    gates, cell, squashed, hidden, passed, mask, above, carry, error, transposed,
):  # fmt: skip
    """The gradient of the loss whose derivative by the forecasts is `error` (labels, batch, outputs).

    `first` is the earliest step that gradients reach: 0, or steps - labels to cut them off at the burn-in.
    """
    four = 4 * units
    head = flat.size - outputs - units * outputs
    grad = gradient.ctypes.data
    top = layers - 1
    # the head
    gemm(
        passed[top, steps - labels].ctypes.data, 1, units, error.ctypes.data, outputs, grad + 4 * head, outputs,
        units, outputs, labels * batch, 0,
    )  # fmt: skip
    for j in range(outputs):
        gradient[head + units * outputs + j] = np.float32(0.0)
    for s in range(labels):
        for r in range(batch):
            for j in range(outputs):
                gradient[head + units * outputs + j] += error[s, r, j]
    _transpose(flat[head : head + units * outputs], units, outputs, transposed[: units * outputs])
    above[top, : steps - labels] = np.float32(0.0)
    gemm(
        error.ctypes.data, outputs, 1, transposed.ctypes.data, units, above[top, steps - labels].ctypes.data, units,
        labels * batch, units, outputs, 0,
    )  # fmt: skip
    end = head
    turned = transposed[units * outputs :]
    for back in range(layers):
        layer = top - back
        width = wide_inputs if layer == 0 else units
        start = end - four - units * four - width * four
        wx, wh, b = start, start + width * four, end - four
        end = start
        if keep < 1.0:
            flowing, drop = above[layer].reshape(-1), mask[layer].reshape(-1)
            for n in range(flowing.size):
                flowing[n] *= drop[n]
        _transpose(flat[wh : wh + units * four], units, four, turned[: units * four])
        carry[:] = np.float32(0.0)
        for s in range(steps - 1, first - 1, -1):
            if s < steps - 1:
                gemm(
                    gates[layer, s + 1].ctypes.data, four, 1, turned.ctypes.data, units, above[layer, s].ctypes.data,
                    units, batch, units, four, 1,
                )  # fmt: skip
            if s > 0:
                _activate_back(
                    gates[layer, s],
                    cell[layer, s - 1],
                    squashed[layer, s],
                    above[layer, s],
                    carry,
                    batch,
                    units,
                )
            else:
                _first_back(gates[layer, s], squashed[layer, s], above[layer, s], carry, batch, units)
        begin = max(first, 1)
        gemm(
            hidden[layer, begin - 1].ctypes.data, 1, units, gates[layer, begin].ctypes.data, four, grad + 4 * wh, four,
            units, four, (steps - begin) * batch, 0,
        )  # fmt: skip
        source = inputs[first].ctypes.data if layer == 0 else passed[layer - 1, first].ctypes.data
        gemm(
            source, 1, width, gates[layer, first].ctypes.data, four, grad + 4 * wx, four,
            width, four, (steps - first) * batch, 0,
        )  # fmt: skip
        into = gradient[b : b + four]
        into[:] = np.float32(0.0)
        for s in range(first, steps):
            for r in range(batch):
                line = gates[layer, s, r]
                for j in range(four):
                    into[j] += line[j]
        if layer > 0:
            _transpose(flat[wx : wx + units * four], units, four, turned[units * four : 2 * units * four])
            above[layer - 1, :first] = np.float32(0.0)
            gemm(
                gates[layer, first].ctypes.data, four, 1, turned[units * four :].ctypes.data, units,
                above[layer - 1, first].ctypes.data, units, (steps - first) * batch, units, four, 0,
            )  # fmt: skip


@njit(**_options)
def _first_back(gates, squashed, above, carry, batch, units):  # type: ignore[no-untyped-def]
    """`_activate_back` at the first step, before which the cell is zero."""
    one = np.float32(1.0)
    for r in range(batch):
        line, t, dh, dc = gates[r], squashed[r], above[r], carry[r]
        i, f, o, u = line[:units], line[units : 2 * units], line[2 * units : 3 * units], line[3 * units :]
        for j in range(units):
            d = dc[j] + dh[j] * o[j] * (one - t[j] * t[j])
            gi, go, gu = i[j], o[j], u[j]
            i[j] = d * gu * gi * (one - gi)
            f[j] = np.float32(0.0)
            o[j] = dh[j] * t[j] * go * (one - go)
            u[j] = d * gi * (one - gu * gu)


@njit(**_options)
def loss_and_error(forecast, error, answers, weights, binary, labels, batch, outputs, real):  # type: ignore[no-untyped-def]
    """Sum of weighted losses, and its derivative by the forecasts over the sum of counted labels into `error`.

    `answers`, `weights`: (labels, batch, real outputs). Squared error, or cross entropy of log-odds where `binary`;
    a label counts where its first weight's sign bit says so: weights below 0 are labels that do not count.
    """
    total, counted = 0.0, 0.0
    for s in range(labels):
        for r in range(batch):
            for j in range(outputs):
                error[s, r, j] = np.float32(0.0)
            if weights[s, r, 0] < 0:
                continue
            counted += 1.0
            for j in range(real):
                x, y, w = forecast[s, r, j], answers[s, r, j], weights[s, r, j]
                if binary[j]:
                    chance = np.float32(0.5) + np.float32(0.5) * _tanh(np.float32(0.5) * x)
                    error[s, r, j] = w * (chance - y)
                    total += w * (max(x, np.float32(0.0)) - x * y + np.log1p(np.exp(-abs(x))))
                else:
                    error[s, r, j] = np.float32(2.0) * w * (x - y)
                    total += w * (x - y) * (x - y)
    return total, counted


@njit(**_options)
def adam(flat, gradient, first, second, partial, scale, rate, decay, clip, step):  # type: ignore[no-untyped-def]
    """One step of Adam with decoupled weight decay on gradient · scale, whose norm is cut to `clip`."""
    for j in range(partial.size):
        partial[j] = np.float32(0.0)
    for n in range(0, gradient.size, partial.size):  # the flat vector's size is a multiple of it
        for j in range(partial.size):
            partial[j] = fma(gradient[n + j], gradient[n + j], partial[j])
    norm = 0.0
    for j in range(partial.size):
        norm += partial[j]
    norm = np.sqrt(norm) * scale
    factor = np.float32(scale * (clip / (norm + 1e-6) if norm > clip else 1.0))
    b1, b2 = np.float32(0.9), np.float32(0.999)
    c1, c2 = np.float32(1.0 - 0.9**step), np.float32(1.0 - 0.999**step)
    pace, shrink, tiny = np.float32(rate) / c1, np.float32(1.0 - rate * decay), np.float32(1e-8)
    inverse = np.float32(1.0) / np.sqrt(c2)
    one = np.float32(1.0)
    for n in range(flat.size):
        g = gradient[n] * factor
        m = fma(b1, first[n], (one - b1) * g)
        v = fma(b2, second[n], (one - b2) * (g * g))
        first[n], second[n] = m, v
        flat[n] = flat[n] * shrink - pace * m / (np.sqrt(v) * inverse + tiny)


@njit(**_options)
def gather(data, answers, weights, bars, labels_at, counted, order, begin, stop, batch, inputs, labels, weighted):  # type: ignore[no-untyped-def]
    """Chunks order[begin:stop] into contiguous time-major buffers; runs missing from a full batch do not count."""
    for r in range(batch):
        here = begin + r < stop
        chunk = order[begin + r] if here else order[begin]
        for s in range(bars.shape[0]):
            row = bars[s, chunk]
            for j in range(data.shape[1]):
                inputs[s, r, j] = data[row, j]
        for s in range(labels_at.shape[0]):
            row = labels_at[s, chunk]
            for j in range(answers.shape[1]):
                labels[s, r, j] = answers[row, j]
                weighted[s, r, j] = weights[row, j]
            if not (here and counted[s, chunk]):
                weighted[s, r, 0] = np.float32(-1.0)


@njit(**_options)
def train_epoch(  # type: ignore[no-untyped-def]
    flat, gradient, first, second, data, answers, weights, binary, bars, labels_at, counted, order,
    units, layers, outputs, batch, used, keep, key, rate, decay, clip, step, cut,
    inputs, labels, weighted, gates, cell, squashed, hidden, passed, mask, above, carry, forecast, error, transposed,
    partial,
):  # fmt: skip
    """One pass over all chunks, an update every `used` of them. Returns (mean loss a label, updates done so far)."""
    steps, count = bars.shape[0], labels_at.shape[0]
    total, seen = 0.0, 0.0
    for begin in range(0, order.size, used):
        stop = min(begin + used, order.size)
        gather(
            data,
            answers,
            weights,
            bars,
            labels_at,
            counted,
            order,
            begin,
            stop,
            batch,
            inputs,
            labels,
            weighted,
        )
        step += 1
        forward(
            flat, inputs, inputs.shape[2], units, layers, outputs, steps, batch, count, keep,
            np.uint32(key) + np.uint32(step) * np.uint32(0x9E3779B1),
            gates, cell, squashed, hidden, passed, mask, carry, forecast,
        )  # fmt: skip
        loss, labelled = loss_and_error(
            forecast, error, labels, weighted, binary, count, batch, outputs, answers.shape[1]
        )
        total += loss
        seen += labelled
        backward(
            flat, gradient, inputs, inputs.shape[2], units, layers, outputs, steps, batch, count, keep,
            steps - count if cut else 0,
            gates, cell, squashed, hidden, passed, mask, above, carry, error, transposed,
        )  # fmt: skip
        adam(flat, gradient, first, second, partial, 1.0 / max(labelled, 1.0), rate, decay, clip, step)
    return total / max(seen, 1.0), step


@njit(**_options)
def check(  # type: ignore[no-untyped-def]
    flat, data, answers, weights, binary, bars, labels_at, counted, units, layers, outputs, batch,
    inputs, labels, weighted, gates, cell, squashed, hidden, passed, mask, carry, forecast, error, order,
):  # fmt: skip
    """Mean loss a label over all chunks, without dropout."""
    steps, count = bars.shape[0], labels_at.shape[0]
    total, seen = 0.0, 0.0
    for begin in range(0, order.size, batch):
        stop = min(begin + batch, order.size)
        gather(
            data,
            answers,
            weights,
            bars,
            labels_at,
            counted,
            order,
            begin,
            stop,
            batch,
            inputs,
            labels,
            weighted,
        )
        forward(
            flat, inputs, inputs.shape[2], units, layers, outputs, steps, batch, count, 1.0, np.uint32(0),
            gates, cell, squashed, hidden, passed, mask, carry, forecast,
        )  # fmt: skip
        loss, labelled = loss_and_error(
            forecast, error, labels, weighted, binary, count, batch, outputs, answers.shape[1]
        )
        total += loss
        seen += labelled
    return total / max(seen, 1.0)


@njit(**_options)
def predict(  # type: ignore[no-untyped-def]
    flat, data, ends, lookback, units, layers, outputs, batch, result,
    inputs, gates, cell, squashed, hidden, passed, mask, carry, forecast,
):  # fmt: skip
    """result (rows, outputs) from exactly the last `lookback` bars of each row and a zero state."""
    for begin in range(0, ends.size, batch):
        for r in range(batch):
            end = ends[min(begin + r, ends.size - 1)]
            for s in range(lookback):
                for j in range(data.shape[1]):
                    inputs[s, r, j] = data[end - lookback + 1 + s, j]
        forward(
            flat, inputs, inputs.shape[2], units, layers, outputs, lookback, batch, 1, 1.0, np.uint32(0),
            gates, cell, squashed, hidden, passed, mask, carry, forecast,
        )  # fmt: skip
        for r in range(min(batch, ends.size - begin)):
            for j in range(result.shape[1]):
                result[begin + r, j] = forecast[0, r, j]
