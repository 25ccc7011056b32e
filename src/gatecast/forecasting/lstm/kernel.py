"""The compiled engine: forward, backward, dropout, clipping and Adam for one network at a time, weights in cache.

Everything is float32 and time-major. A network is one flat parameter vector; per layer Wx (inputs, 4 units), Wh (units,
4 units), b (4 units), with the gates in the order i, f, o, u so that the three sigmoids are one run; then the head's
(units, outputs) and its bias. Variable selection, where there is any, comes before all.

`Shape` pads inputs to a multiple of 4 (16 with selection), units and outputs to 16 and a batch to 4; what is padded
starts at zero, has no gradient and stays at zero.

No function here allocates or touches Python objects: one fit runs on one thread without the interpreter's lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gatecast.compute.machine_code import compiled
from gatecast.forecasting.lstm.gemm import PANEL, gemm, pack, transpose
from gatecast.forecasting.lstm.selection import PACE
from gatecast.forecasting.lstm.vectors import LANES, cell, cell_back, fma, of_integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Sizes of a network, as asked for and as padded for the kernel."""

    inputs: int
    units: int
    layers: int
    outputs: int
    selection: bool = False

    @cached_property
    def wide_inputs(self) -> int:
        """Inputs in memory."""
        multiple = 16 if self.selection else 4
        return -(-self.inputs // multiple) * multiple

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
        if self.selection:
            shapes += [("select.w", (self.wide_inputs, self.wide_inputs)), ("select.b", (self.wide_inputs,))]
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
        if name.startswith("select"):
            return whole[(slice(self.inputs),) * whole.ndim]
        if name.endswith(".b"):
            return whole.reshape(4, -1)[:, : self.units]
        rows = self.inputs if name == "0.wx" else self.units
        return whole.reshape(len(whole), 4, -1)[:rows, :, : self.units]


class Network(NamedTuple):
    """What learns: the weights, the last gradient of the summed loss, and Adam's two moments, all flat."""

    flat: FloatArray
    gradient: FloatArray
    first: FloatArray
    second: FloatArray


class Work(NamedTuple):
    """All buffers of one fit, allocated once. Time-major; `above` is the gradient that reaches a layer from above."""

    raw: FloatArray  # (steps, batch, wide inputs); without selection `inputs` itself
    inputs: FloatArray  # (steps, batch, wide inputs), what is left of `raw` after selection
    share: FloatArray  # (steps, batch, real inputs) weights of selection; empty without it
    flowing: FloatArray  # (steps, batch, wide inputs) the gradient that reaches the inputs; empty without selection
    gates: FloatArray  # (layers, steps, batch, 4 units)
    cell: FloatArray  # (layers, steps, batch, units), as the next three
    squashed: FloatArray
    hidden: FloatArray
    passed: FloatArray  # hidden after dropout
    above: FloatArray  # (steps, batch, units)
    carry: FloatArray  # (batch, units)
    nothing: FloatArray  # (batch, units) of zeros
    forecast: FloatArray  # (labels, batch, outputs)
    error: FloatArray  # (labels, batch, outputs)
    answers: FloatArray  # (labels, batch, real outputs)
    weights: FloatArray  # (labels, batch, real outputs)
    panels: FloatArray  # the right-hand matrix of the product at hand
    partial: FloatArray


def workspace(shape: Shape, steps: int, batch: int, labels: int) -> Work:
    """Buffers for `batch` runs of `steps` bars, the last `labels` of which have forecasts."""
    units, outputs = shape.wide_units, shape.wide_outputs
    inner = (shape.layers, steps, batch, units)
    wide = (steps, batch, shape.wide_inputs)
    widest = max(4 * units, shape.wide_inputs)
    sizes: dict[str, tuple[int, ...]] = {
        "inputs": wide, "share": (steps, batch, shape.inputs) if shape.selection else (0, 0, 0),
        "flowing": wide if shape.selection else (0, 0, 0), "gates": (*inner[:3], 4 * units),
        "cell": inner, "squashed": inner, "hidden": inner, "passed": inner, "above": inner[1:],
        "carry": (batch, units), "nothing": (batch, units),
        "forecast": (labels, batch, outputs), "error": (labels, batch, outputs),
        "answers": (labels, batch, shape.outputs), "weights": (labels, batch, shape.outputs),
        "panels": (widest * max(steps * batch, units, shape.wide_inputs, outputs),), "partial": (64,),
    }  # fmt: skip
    buffers = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    return Work(np.zeros(wide, np.float32) if shape.selection else buffers["inputs"], **buffers)


@compiled(of_integers(7))
def _step(gates, before, after, squashed, hidden, batch, units):  # type: ignore[no-untyped-def]
    """The cell at one step of all runs; addresses of contiguous (batch, units) and (batch, 4 units)."""
    for r in range(batch):
        for j in range(0, units, LANES):
            place = 4 * (r * units + j)
            cell(
                gates + 4 * (4 * r * units + j), units, before + place, after + place, squashed + place, hidden + place
            )


@compiled(of_integers(8))
def _step_back(gates, before, squashed, above, carry, bias, batch, units):  # type: ignore[no-untyped-def]
    """`_step` backward."""
    for r in range(batch):
        for j in range(0, units, LANES):
            place = 4 * (r * units + j)
            line = gates + 4 * (4 * r * units + j)
            cell_back(line, units, before + place, squashed + place, above + place, carry + place, bias + 4 * j)


@compiled(inline=True)
def _mask(n, key, limit, scale):  # type: ignore[no-untyped-def]
    """1/keep with probability keep, else 0: a hash of key and position, so that there is no state to save."""
    x = np.uint32(n) ^ key
    x = np.uint32(x * np.uint32(0x9E3779B1))
    x ^= x >> np.uint32(16)
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x ^= x >> np.uint32(13)
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    x ^= x >> np.uint32(16)
    return scale if x < limit else np.float32(0.0)


@compiled()
def _drop(source, target, begin, keep, key):  # type: ignore[no-untyped-def]
    """target = source · mask from position `begin` on, both flat."""
    limit, scale = np.uint32(keep * 4294967295.0), np.float32(1.0 / keep)
    left, right = target[begin:], source[begin:]  # slices, not a range from `begin`: six times as fast
    for n in range(left.size):
        left[n] = right[n] * _mask(n + begin, key, limit, scale)


@compiled()
def _drop_back(flowing, begin, keep, key):  # type: ignore[no-untyped-def]
    """`_drop` of a gradient, in place."""
    limit, scale = np.uint32(keep * 4294967295.0), np.float32(1.0 / keep)
    part = flowing[begin:]
    for n in range(part.size):
        part[n] *= _mask(n + begin, key, limit, scale)


@compiled()
def _select(flat, work):  # type: ignore[no-untyped-def]
    """`work.raw` into `work.inputs`: each feature times its share and the number of features."""
    steps, batch, wide = work.inputs.shape
    count, pace = work.share.shape[2], np.float32(PACE)
    bias = flat[wide * wide : wide * wide + count]
    panels, rows = work.panels.ctypes.data, steps * batch
    pack(flat.ctypes.data, wide, wide, panels)
    gemm(work.raw.ctypes.data, wide, 1, panels, wide, work.inputs.ctypes.data, wide, rows, wide, wide, 0, 0)
    for s in range(steps):
        for r in range(batch):
            logits, share, raw = work.inputs[s, r], work.share[s, r], work.raw[s, r]
            for j in range(count):
                logits[j] += pace * bias[j]
            most = logits[0]
            for j in range(1, count):
                most = max(most, logits[j])
            total = np.float32(0.0)
            for j in range(count):
                share[j] = np.exp(logits[j] - most)
                total += share[j]
            for j in range(count):
                share[j] /= total
                logits[j] = np.float32(count) * share[j] * raw[j]


@compiled()
def _select_back(gradient, work, first):  # type: ignore[no-untyped-def]
    """`_select` backward from step `first` on: `work.flowing`, the gradient by its inputs, becomes that by the logits.

    What is padded has no gradient, and gets none.
    """
    steps, batch, wide = work.inputs.shape
    count, pace = work.share.shape[2], np.float32(PACE)
    place = wide * wide
    gradient[place : place + wide] = np.float32(0.0)
    for s in range(first, steps):
        for r in range(batch):
            flowing, share, raw = work.flowing[s, r], work.share[s, r], work.raw[s, r]
            mean = np.float32(0.0)
            for j in range(count):
                flowing[j] *= np.float32(count) * raw[j]
                mean += share[j] * flowing[j]
            for j in range(count):
                flowing[j] = share[j] * (flowing[j] - mean)
                gradient[place + j] += pace * flowing[j]
    rows, panels = (steps - first) * batch, work.panels.ctypes.data
    pack(work.flowing[first].ctypes.data, rows, wide, panels)
    gemm(work.raw[first].ctypes.data, 1, wide, panels, rows, gradient.ctypes.data, wide, wide, wide, rows, 0, 0)


@compiled()
def forward(flat, work, layers, labels, keep, key):  # type: ignore[no-untyped-def]
    """Forecasts of the last `labels` steps of `work.raw` into `work.forecast`, from a zero state.

    With keep < 1 every layer's output passes a dropout mask.
    """
    _, steps, batch, units = work.hidden.shape
    outputs, wide_inputs = work.forecast.shape[2], work.inputs.shape[2]
    four, rows, size = 4 * units, steps * batch, batch * units
    flat_at, panels = flat.ctypes.data, work.panels.ctypes.data
    source, width, place = work.inputs.ctypes.data, wide_inputs, 0
    if work.share.size > 0:
        _select(flat, work)
        place = wide_inputs * (wide_inputs + 1)
    for layer in range(layers):
        wx, wh, b = place, place + width * four, place + width * four + units * four
        place = b + four
        gates, cells = work.gates[layer].ctypes.data, work.cell[layer].ctypes.data
        squashed, hidden = work.squashed[layer].ctypes.data, work.hidden[layer].ctypes.data
        pack(flat_at + 4 * wx, width, four, panels)
        gemm(source, width, 1, panels, width, gates, four, rows, four, width, flat_at + 4 * b, 0)
        pack(flat_at + 4 * wh, units, four, panels)
        before = work.nothing.ctypes.data
        for s in range(steps):
            now, place_now = gates + 16 * s * size, 4 * s * size
            if s > 0:
                earlier = hidden + place_now - 4 * size
                gemm(earlier, units, 1, panels, units, now, four, batch, four, units, now, four)
                before = cells + place_now - 4 * size
            _step(now, before, cells + place_now, squashed + place_now, hidden + place_now, batch, units)
        source, width = work.hidden[layer].ctypes.data, units
        if keep < 1.0:
            begin = (steps - labels) * batch * units if layer == layers - 1 else 0
            _drop(work.hidden[layer].reshape(-1), work.passed[layer].reshape(-1), begin, keep, _key(key, layer))
            source = work.passed[layer].ctypes.data
    gemm(
        source + 4 * (steps - labels) * batch * units, units, 1, flat_at + 4 * place, units,
        work.forecast.ctypes.data, outputs, labels * batch, outputs, units, flat_at + 4 * (place + units * outputs), 0,
    )  # fmt: skip


@compiled(inline=True)
def _key(key, layer):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(key) + np.uint32(layer) * np.uint32(0x68E31DA4))


@compiled()
def backward(flat, gradient, work, layers, labels, keep, key, first):  # type: ignore[no-untyped-def]
    """The gradient of the loss whose derivative by the forecasts is `work.error`, after `forward`.

    `first` is the earliest step that gradients reach: 0, or steps - labels to cut them off at the burn-in.
    """
    _, steps, batch, units = work.hidden.shape
    outputs, wide_inputs = work.forecast.shape[2], work.inputs.shape[2]
    four, size, top = 4 * units, batch * units, layers - 1
    last = steps - labels
    head = flat.size - outputs - units * outputs
    flat_at, grad = flat.ctypes.data, gradient.ctypes.data
    error, above, panels = work.error.ctypes.data, work.above.ctypes.data, work.panels.ctypes.data
    passed = work.passed if keep < 1.0 else work.hidden
    # the head
    gemm(
        passed[top, last].ctypes.data, 1, units, error, labels * batch, grad + 4 * head, outputs,
        units, outputs, labels * batch, 0, 0,
    )  # fmt: skip
    gradient[head + units * outputs :] = np.float32(0.0)
    for s in range(labels):
        for r in range(batch):
            for j in range(outputs):
                gradient[head + units * outputs + j] += work.error[s, r, j]
    transpose(flat_at + 4 * head, units, outputs, panels)
    gemm(
        error, outputs, 1, panels, outputs, above + 4 * last * size, units, labels * batch, units, outputs, 0, 0
    )  # fmt: skip
    end, reached = head, last  # gradients from above reach a layer's steps from `reached` on
    for back in range(layers):
        layer = top - back
        width = wide_inputs if layer == 0 else units
        wx = end - four - units * four - width * four
        wh, b = wx + width * four, end - four
        end = wx
        if keep < 1.0:
            _drop_back(work.above.reshape(-1), reached * size, keep, _key(key, layer))
        transpose(flat_at + 4 * wh, units, four, panels)
        work.carry[:] = np.float32(0.0)
        gradient[b : b + four] = np.float32(0.0)
        gates, cells = work.gates[layer].ctypes.data, work.cell[layer].ctypes.data
        squashed, carry = work.squashed[layer].ctypes.data, work.carry.ctypes.data
        for s in range(steps - 1, first - 1, -1):
            now, flowing = gates + 16 * s * size, above + 4 * s * size
            if s < steps - 1:
                add = flowing if s >= reached else 0
                gemm(now + 16 * size, four, 1, panels, four, flowing, units, batch, units, four, add, units)
            before = cells + 4 * (s - 1) * size if s > 0 else work.nothing.ctypes.data
            _step_back(now, before, squashed + 4 * s * size, flowing, carry, grad + 4 * b, batch, units)
        rows, begin = (steps - first) * batch, max(first, 1)
        gates = work.gates[layer, first].ctypes.data
        pack(gates, rows, four, panels)
        gemm(
            work.hidden[layer, begin - 1].ctypes.data, 1, units, panels + 4 * PANEL * (begin - first) * batch, rows,
            grad + 4 * wh, four, units, four, (steps - begin) * batch, 0, 0,
        )  # fmt: skip
        source = work.inputs[first].ctypes.data if layer == 0 else passed[layer - 1, first].ctypes.data
        gemm(source, 1, width, panels, rows, grad + 4 * wx, four, width, four, rows, 0, 0)
        if layer > 0:
            transpose(flat_at + 4 * wx, units, four, panels)
            gemm(gates, four, 1, panels, four, above + 4 * first * size, units, rows, units, four, 0, 0)
            reached = first
        elif work.share.size > 0:
            transpose(flat_at + 4 * wx, width, four, panels)
            gemm(gates, four, 1, panels, four, work.flowing[first].ctypes.data, width, rows, width, four, 0, 0)
            _select_back(gradient, work, first)


@compiled()
def loss_and_error(work, binary):  # type: ignore[no-untyped-def]
    """Sum of weighted losses of `work.forecast`, and its derivative over the sum of counted labels into `work.error`.

    Squared error, or cross entropy of log-odds where `binary`. A label with a first weight below 0 does not count.
    """
    forecast, error, answers, weights = work.forecast, work.error, work.answers, work.weights
    labels, batch, outputs = error.shape
    real = answers.shape[2]
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
                    chance = np.float32(1.0) / (np.float32(1.0) + np.exp(-x))
                    error[s, r, j] = w * (chance - y)
                    total += w * (max(x, np.float32(0.0)) - x * y + np.log1p(np.exp(-abs(x))))
                else:
                    error[s, r, j] = np.float32(2.0) * w * (x - y)
                    total += w * (x - y) * (x - y)
    return total, counted


@compiled()
def adam(network, partial, scale, rate, decay, clip, step):  # type: ignore[no-untyped-def]
    """One step of Adam with decoupled weight decay on gradient · scale, whose norm is cut to `clip`."""
    flat, gradient, first, second = network
    partial[:] = np.float32(0.0)
    whole = gradient.size // partial.size * partial.size
    for n in range(0, whole, partial.size):  # many sums side by side, in an order that no compiler changes
        for j in range(partial.size):
            partial[j] = fma(gradient[n + j], gradient[n + j], partial[j])
    norm = 0.0
    for j in range(partial.size):
        norm += partial[j]
    for n in range(whole, gradient.size):
        norm += gradient[n] * gradient[n]
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


@compiled()
def _gather(task, chunks, order, begin, stop, lookback, work):  # type: ignore[no-untyped-def]
    """Chunks order[begin:stop] into the time-major buffers; runs missing from a full batch do not count."""
    data, answers, weights = task
    start, end, limit = chunks
    steps, batch, _ = work.inputs.shape
    for r in range(batch):
        here = begin + r < stop
        chunk = order[begin + r] if here else order[begin]
        for s in range(steps):
            row = min(start[chunk] - lookback + 1 + s, limit[chunk])
            for j in range(data.shape[1]):
                work.raw[s, r, j] = data[row, j]
        for s in range(steps - lookback + 1):
            row = min(start[chunk] + s, limit[chunk])
            for j in range(answers.shape[1]):
                work.answers[s, r, j] = answers[row, j]
                work.weights[s, r, j] = weights[row, j]
            if not here or start[chunk] + s > end[chunk]:
                work.weights[s, r, 0] = np.float32(-1.0)


@compiled()
def train_epoch(  # type: ignore[no-untyped-def]
    network, work, task, binary, chunks, order, layers, lookback, used, keep, key, rate, decay, clip, step, cut
):
    """One pass over all chunks, an update every `used` of them. Returns (mean loss a label, updates done so far)."""
    labels = work.inputs.shape[0] - lookback + 1
    first = lookback - 1 if cut else 0
    total, seen = 0.0, 0.0
    for begin in range(0, order.size, used):
        _gather(task, chunks, order, begin, min(begin + used, order.size), lookback, work)
        step += 1
        now = np.uint32(np.uint32(key) + np.uint32(step) * np.uint32(0x9E3779B1))
        forward(network.flat, work, layers, labels, keep, now)
        loss, counted = loss_and_error(work, binary)
        total += loss
        seen += counted
        backward(network.flat, network.gradient, work, layers, labels, keep, now, first)
        adam(network, work.partial, 1.0 / max(counted, 1.0), rate, decay, clip, step)
    return total / max(seen, 1.0), step


@compiled()
def check(flat, work, task, binary, chunks, order, layers, lookback):  # type: ignore[no-untyped-def]
    """Mean loss a label over all chunks, without dropout."""
    steps, batch, _ = work.inputs.shape
    total, seen = 0.0, 0.0
    for begin in range(0, order.size, batch):
        _gather(task, chunks, order, begin, min(begin + batch, order.size), lookback, work)
        forward(flat, work, layers, steps - lookback + 1, 1.0, np.uint32(0))
        loss, counted = loss_and_error(work, binary)
        total += loss
        seen += counted
    return total / max(seen, 1.0)


@compiled()
def predict(flat, work, data, ends, layers, result):  # type: ignore[no-untyped-def]
    """Result (rows, outputs) from exactly the last `work.inputs.shape[0]` bars of each row and a zero state."""
    lookback, batch, _ = work.inputs.shape
    labels = work.forecast.shape[0]  # 1, and no literal, for which `forward` would be compiled once more
    for begin in range(0, ends.size, batch):
        for r in range(batch):
            end = ends[min(begin + r, ends.size - 1)]
            for s in range(lookback):
                for j in range(data.shape[1]):
                    work.raw[s, r, j] = data[end - lookback + 1 + s, j]
        forward(flat, work, layers, labels, 1.0, np.uint32(0))
        for r in range(min(batch, ends.size - begin)):
            for j in range(result.shape[1]):
                result[begin + r, j] = work.forecast[0, r, j]
