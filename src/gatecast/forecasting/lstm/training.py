"""Training one network: chunks instead of windows, early stopping on a later block, the best weights restored.

Two engines run the same updates on the same chunks, from the same weights, with the same dropout masks: the compiled
kernel, and its torch twin.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gatecast.errors import TrainingError
from gatecast.forecasting.lstm.recipe import Recipe

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from gatecast.forecasting.lstm.network import Network

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Weights = dict[str, FloatArray]


PLATEAU = 0.998  # of the first forecast's loss: a training loss above it has learned nothing yet
PLATEAU_DECAY = 1e-2  # weight decay at most, while nothing is learned: more can keep a network there for good


@dataclass(frozen=True)
class Chunks:
    """Runs of bars with a loss at their last K positions.

    `start`, `stop`: (chunks,) first and last row that has a label here; `limit`: the last row that may be read, which
    stands in for all later ones. A chunk reads T + K - 1 bars, from `lookback` - 1 before its first label.
    """

    start: IntArray
    stop: IntArray
    limit: IntArray
    lookback: int
    length: int

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def bars(self) -> IntArray:
        """(steps, chunks) rows to read, time-major."""
        rows: IntArray = np.minimum(self.start + np.arange(1 - self.lookback, self.length)[:, None], self.limit)
        return rows

    @cached_property
    def labels(self) -> IntArray:
        """(K, chunks) rows of the labels."""
        rows: IntArray = np.minimum(self.start + np.arange(self.length)[:, None], self.limit)
        return rows

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """(K, chunks) whether a label counts."""
        return self.start + np.arange(self.length)[:, None] <= self.stop


def make_chunks(ends: IntArray, lookback: int, length: int, offset: int = 0) -> Chunks:
    """Every labelled bar in exactly one chunk, with at least `lookback` bars of context and nothing read after it.

    Parameters
    ----------
    ends: ascending rows of the labels; consecutive rows form a run (a gap or another symbol ends it).
    lookback: bars that the first label of a chunk sees, itself included (T).
    length: labels in a chunk (K).
    offset: 0..K-1, how much shorter each run's first chunk is; a fresh one each epoch moves the boundaries.

    >>> chunks = make_chunks(np.arange(100, 107), lookback=10, length=3, offset=1)
    >>> chunks.bars.shape, chunks.labels[chunks.counted].size, int(chunks.bars.max())
    ((12, 3), 7, 106)
    """
    breaks = np.flatnonzero(np.diff(ends) != 1) + 1
    first, last = ends[np.r_[0, breaks]], ends[np.r_[breaks - 1, len(ends) - 1]]
    count = 1 + np.maximum(0, -((first + length - offset - last - 1) // length))  # of chunks in each run
    run = np.repeat(np.arange(len(first)), count)
    number = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    start = np.where(number == 0, first[run], first[run] + number * length - offset)
    stop = np.minimum(first[run] + (number + 1) * length - offset - 1, last[run])
    return Chunks(start, stop, last[run], lookback, length)


@dataclass(frozen=True)
class Fit:
    """What training one network leaves: the best weights, the epoch they are from, and both losses of every epoch."""

    weights: Weights
    best_epoch: int
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]


class Engine(Protocol):
    """One network in training. Losses are means over counted labels of the weighted sum over outputs."""

    def epoch(self, chunks: Chunks, order: IntArray, weight_decay: float | None = None) -> float:
        """One pass in the given order of chunks; `weight_decay`: None for that of the settings."""
        ...

    def average(self, share: float) -> None:
        """Running mean = share · running mean + (1 - share) · the weights as they are now; it begins as the start."""
        ...

    def check(self, chunks: Chunks) -> float:
        """The loss of the running mean, without dropout and without learning."""
        ...

    def weights(self) -> Weights:
        """A copy of the running mean."""
        ...


def train_network(
    settings: Recipe, inputs: FloatArray, table: FloatArray, train: IntArray, validation: IntArray, seed: int,
    counts: FloatArray | None = None, start: Weights | None = None,
) -> Fit:  # fmt: skip
    """One network on one fold, on one thread.

    Parameters
    ----------
    inputs: (bars, features) scaled. table: (bars, outputs) encoded and scaled, NaN where a head has no answer.
    train, validation: ascending rows of the labels. seed: decides weights, offsets, order and dropout.
    counts: (bars,) how much each label counts in the loss; None: all the same.
    start: weights to begin with, an earlier fit's of the same shape; None: drawn anew. Adam's moments begin at zero.

    Raises `TrainingError` when the loss is no longer finite.
    """
    chunk = settings.labels(len(train))
    cold = initial_weights(settings, inputs.shape[1], table.shape[1], seed)
    cold["head.b"] = first_forecasts(table[train], settings)
    kind = CompiledEngine if settings.engine == "compiled" else TorchEngine
    engine: Engine = kind(settings, inputs, table, cold if start is None else start, seed, counts)
    shuffle = np.random.default_rng(seed)
    checks = make_chunks(validation, settings.lookback, chunk)
    unlearned = PLATEAU * first_loss(settings, inputs, table, train, counts)
    length = chunk if settings.training == "chunks" else 1
    best, best_loss, best_epoch, waiting = cold, np.inf, -1, -1
    train_losses: list[float] = []
    validation_losses: list[float] = []
    for epoch in range(settings.epochs):
        chunks = make_chunks(train, settings.lookback, length, int(shuffle.integers(length)))
        decay = min(settings.weight_decay, PLATEAU_DECAY) if waiting == epoch - 1 else None
        learned = engine.epoch(chunks, shuffle.permutation(len(chunks)), decay)
        engine.average(settings.averaging if epoch else 0.0)
        checked = engine.check(checks)
        if not (np.isfinite(learned) and np.isfinite(checked)):
            raise TrainingError(
                f"the LSTM's loss is no longer finite in epoch {epoch + 1}: lower the learning rate "
                f"(now {settings.learning_rate:g}) or look for extreme values in the features."
            )
        train_losses.append(learned)
        validation_losses.append(checked)
        if checked < best_loss:
            best, best_loss, best_epoch = engine.weights(), checked, epoch
        if learned > unlearned:
            waiting = epoch  # nothing learned, so nothing overfitted: patience does not count yet
        if epoch - max(best_epoch, waiting) >= settings.patience:
            break
    return Fit(best, best_epoch + 1, tuple(train_losses), tuple(validation_losses))


def first_loss(
    settings: Recipe, inputs: FloatArray, table: FloatArray, train: IntArray, counts: FloatArray | None = None
) -> float:
    """The mean loss a label of `first_forecasts`: a head's weights begin at zero, so that the smallest network says it.

    Its rows are summed in the order of the chunks of the network itself.
    """
    smallest = settings.replace(units=16, layers=1, selection=False)
    weights = initial_weights(smallest, inputs.shape[1], table.shape[1], 0)
    weights["head.b"] = first_forecasts(table[train], settings)
    kind = CompiledEngine if settings.engine == "compiled" else TorchEngine
    engine = kind(smallest, inputs, table, weights, 0, counts)
    return engine.check(make_chunks(train, settings.lookback, settings.labels(len(train))))


def first_forecasts(answers: FloatArray, settings: Recipe) -> NDArray[np.float32]:
    """(outputs,) what the heads begin with: the share of ones as log-odds, elsewhere 0, which is the mean.

    Were it .5, learning the share alone would look like learning, and end the patience with a plateau.
    """
    ones = np.nansum(answers, axis=0) + 0.5
    shares = ones / (np.isfinite(answers).sum(axis=0) + 1.0)
    binary = np.array(settings.binary_columns)
    shares = np.where(binary, shares, 0.5)
    return np.asarray(np.log(shares / (1 - shares)), dtype=np.float32)


def initial_weights(settings: Recipe, inputs: int, outputs: int, seed: int) -> Weights:
    """Uniform in ±1/√units, the forget gates' biases as set, heads from zero: the first forecast is the mean.

    A forget bias of 1 is that of Jozefowicz, Zaremba and Sutskever (2015), ICML 32.
    """
    draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    units = settings.units
    bound = units**-0.5
    weights: Weights = {}
    if settings.selection:
        weights["select.w"] = np.zeros((inputs, inputs), np.float32)
        weights["select.b"] = np.zeros(inputs, np.float32)
    for layer in range(settings.layers):
        width = inputs if layer == 0 else units
        weights[f"{layer}.wx"] = draw.uniform(-bound, bound, (width, 4, units)).astype(np.float32)
        weights[f"{layer}.wh"] = draw.uniform(-bound, bound, (units, 4, units)).astype(np.float32)
        weights[f"{layer}.b"] = np.zeros((4, units), np.float32)
        weights[f"{layer}.b"][1] = settings.forget_bias
    weights["head.w"] = np.zeros((units, outputs), np.float32)
    weights["head.b"] = np.zeros(outputs, np.float32)
    return weights


def head_weights(table: FloatArray, settings: Recipe, counts: FloatArray | None) -> FloatArray:
    """(bars, outputs) weight of each answer: 0 where there is none; the steps of the return path share one weight.

    `counts`: (bars,) multiplies those of each bar.
    """
    share = np.ones(table.shape[1], np.float32)
    if "return" in settings.heads:
        share[: settings.horizon] = 1.0 / settings.horizon
    if counts is not None:
        share = share * counts[:, None].astype(np.float32)
    return np.where(np.isfinite(table), share, np.float32(0))


def dropout_mask(shape: tuple[int, int, int], keep: float, key: int, layer: int) -> FloatArray:
    """(steps, batch, units) the kernel's mask: a hash of key and position, 1/keep with probability keep."""
    with np.errstate(over="ignore"):
        x = np.arange(np.prod(shape), dtype=np.uint32) ^ (np.uint32(key) + np.uint32(layer) * np.uint32(0x68E31DA4))
        x = x * np.uint32(0x9E3779B1)
        x ^= x >> np.uint32(16)
        x = x * np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x = x * np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    return np.where(x < np.uint32(keep * 4294967295.0), np.float32(1 / keep), np.float32(0)).reshape(shape)


def kernel() -> ModuleType:
    """The compiled kernel; see `machine_code` for where its machine code is kept."""
    from gatecast.compute.machine_code import say_again
    from gatecast.forecasting.lstm import kernel as module

    say_again(module)
    return module


@cache
def compile_early() -> None:
    """Starts to compile the kernel in a thread, or to read it from its cache; once a process.

    For who does other work before a network is trained. What fails there fails again, and is said, at its first use;
    whoever uses the kernel before it is ready waits.
    """
    threading.Thread(target=_use_all, name="gatecast-kernel").start()


def _use_all() -> None:
    """Uses each entry of the kernel once; none any more where the program has ended meanwhile."""
    recipe = Recipe(units=16, layers=1, dropout=0, lookback=10)
    rows, outputs = np.arange(9, 12), len(recipe.binary_columns)
    inputs, table = np.zeros((12, 1), np.float32), np.zeros((12, outputs), np.float32)
    weights = initial_weights(recipe, 1, outputs, 0)
    chunks = make_chunks(rows, recipe.lookback, recipe.labels(len(rows)))
    with suppress(Exception):
        engine = CompiledEngine(recipe, inputs, table, weights, 0)
        for use in (
            lambda: engine.check(chunks),
            lambda: engine.epoch(chunks, np.arange(len(chunks))),
            lambda: predict_windows(weights, recipe, inputs, rows, outputs),
        ):
            if not threading.main_thread().is_alive():
                return
            use()


class CompiledEngine:
    """The kernel with its buffers."""

    def __init__(
        self, settings: Recipe, inputs: FloatArray, table: FloatArray, start: Weights, seed: int,
        counts: FloatArray | None = None,
    ) -> None:  # fmt: skip
        self.kernel = kernel()
        self.settings, self.key = settings, np.uint32(seed & 0xFFFFFFFF)
        self.shape = self.kernel.Shape(
            inputs.shape[1], settings.units, settings.layers, table.shape[1], settings.selection
        )
        flat = flatten(self.shape, start)
        self.mean = flat.copy()
        self.network = self.kernel.Network(flat, *(np.zeros_like(flat) for _ in range(3)))
        self.task = np.ascontiguousarray(inputs), np.nan_to_num(table), head_weights(table, settings, counts)
        self.binary = np.array(settings.binary_columns)
        self.used = settings.batch if settings.training == "chunks" else settings.batch * settings.labels(0)
        self.step = 0
        self.works: dict[int, Any] = {}

    def work(self, length: int) -> Any:
        """Buffers for chunks with so many labels."""
        if length not in self.works:
            batch = -(-self.used // 4) * 4
            self.works[length] = self.kernel.workspace(self.shape, self.settings.lookback + length - 1, batch, length)
        return self.works[length]

    def epoch(self, chunks: Chunks, order: IntArray, weight_decay: float | None = None) -> float:
        """See `Engine`."""
        s = self.settings
        decay = s.weight_decay if weight_decay is None else weight_decay
        loss, self.step = self.kernel.train_epoch(
            self.network, self.work(chunks.length), self.task, self.binary, (chunks.start, chunks.stop, chunks.limit),
            order, s.layers, s.lookback, self.used, 1.0 - s.dropout, self.key, s.learning_rate, decay, s.clip,
            self.step, not s.burn_in_gradient,
        )  # fmt: skip
        return float(loss)

    def average(self, share: float) -> None:
        """See `Engine`."""
        self.mean *= np.float32(share)
        self.mean += np.float32(1 - share) * self.network.flat

    def check(self, chunks: Chunks) -> float:
        """See `Engine`."""
        return float(
            self.kernel.check(
                self.mean, self.work(chunks.length), self.task, self.binary, (chunks.start, chunks.stop, chunks.limit),
                np.arange(len(chunks)), self.settings.layers, self.settings.lookback,
            )
        )  # fmt: skip

    def weights(self) -> Weights:
        """See `Engine`."""
        return {name: self.shape.part(self.mean, name).copy() for name in self.shape.views}


class TorchEngine:
    """The same updates with `torch.nn.LSTM` and autograd."""

    def __init__(
        self, settings: Recipe, inputs: FloatArray, table: FloatArray, start: Weights, seed: int,
        counts: FloatArray | None = None,
    ) -> None:  # fmt: skip
        import torch

        from gatecast.forecasting.lstm.network import Network

        torch.set_num_threads(1)
        self.settings, self.key = settings, seed & 0xFFFFFFFF
        self.network, self.mean = (
            Network(inputs.shape[1], settings.units, settings.layers, table.shape[1], settings.selection).load(start)
            for _ in range(2)
        )
        self.trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, settings.learning_rate)
        self.data, self.answers = torch.from_numpy(inputs), torch.from_numpy(np.nan_to_num(table))
        self.label_weights = torch.from_numpy(head_weights(table, settings, counts))
        self.binary = torch.tensor(settings.binary_columns)
        self.used = settings.batch if settings.training == "chunks" else settings.batch * settings.labels(0)
        self.step = 0

    def epoch(self, chunks: Chunks, order: IntArray, weight_decay: float | None = None) -> float:
        """See `Engine`."""
        import torch

        decay = self.settings.weight_decay if weight_decay is None else weight_decay
        self.optimiser.param_groups[0]["weight_decay"] = decay
        total, seen = 0.0, 0
        for begin in range(0, len(order), self.used):
            part = order[begin : begin + self.used]
            self.step += 1
            self.optimiser.zero_grad(set_to_none=True)
            loss, counted = self._loss(self.network, chunks, part, learning=True)
            (loss / max(counted, 1)).backward()
            torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip)
            self.optimiser.step()
            total, seen = total + float(loss.detach()), seen + counted
        return total / max(seen, 1)

    def average(self, share: float) -> None:
        """See `Engine`."""
        import torch

        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.mul_(share).add_(now, alpha=1 - share)

    def check(self, chunks: Chunks) -> float:
        """See `Engine`."""
        import torch

        with torch.no_grad():
            loss, counted = self._loss(self.mean, chunks, np.arange(len(chunks)), learning=False)
        return float(loss) / float(max(counted, 1))

    def weights(self) -> Weights:
        """See `Engine`."""
        return self.mean.weights()

    def _loss(self, network: Network, chunks: Chunks, part: IntArray, *, learning: bool):  # type: ignore[no-untyped-def]
        import torch

        counted = chunks.counted[:, part]
        inputs = self.data[chunks.bars[:, part]]
        masks = self._masks(len(inputs), len(part)) if learning and self.settings.dropout > 0 else None
        forecast = network(inputs, len(counted), masks)
        answer = self.answers[chunks.labels[:, part]]
        weight = self.label_weights[chunks.labels[:, part]] * torch.from_numpy(counted[:, :, None])
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(forecast, answer, reduction="none")
        loss = torch.where(self.binary, entropy, (forecast - answer) ** 2) * weight
        return loss.sum(), int(counted.sum())

    def _masks(self, steps: int, batch: int):  # type: ignore[no-untyped-def]
        import torch

        wide = -(-self.settings.units // 16) * 16
        padded = -(-self.used // 4) * 4
        with np.errstate(over="ignore"):
            key = int(np.uint32(self.key) + np.uint32(self.step) * np.uint32(0x9E3779B1))
        keep = 1.0 - self.settings.dropout
        return [
            torch.from_numpy(
                dropout_mask((steps, padded, wide), keep, key, layer)[:, :batch, : self.settings.units].copy()
            )
            for layer in range(self.settings.layers)
        ]


def flatten(shape, weights: Weights) -> FloatArray:  # type: ignore[no-untyped-def]
    """Weights by name as the kernel's padded flat vector."""
    flat = np.zeros(shape.size, np.float32)
    for name in shape.views:
        shape.part(flat, name)[...] = weights[name]
    return flat


def predict_windows(weights: Weights, settings: Recipe, inputs: FloatArray, ends: IntArray, outputs: int) -> FloatArray:
    """(rows, outputs) from exactly the last T bars of each row; a row's bytes depend on nothing else."""
    module = kernel()
    shape = module.Shape(inputs.shape[1], settings.units, settings.layers, outputs, settings.selection)
    batch = 4 if len(ends) <= 4 else 8  # wider gains nothing, and pads more
    work = module.workspace(shape, settings.lookback, batch, 1)
    result = np.zeros((len(ends), outputs), np.float32)
    module.predict(flatten(shape, weights), work, np.ascontiguousarray(inputs), ends, settings.layers, result)
    return result
