"""A small Temporal Fusion Transformer, with its weights of features and bars and its quantiles.

After Lim, Arik, Loeff and Pfister (2021), International Journal of Forecasting 37. From a window of T bars to h steps:

    static    symbol and asset class, selected, give four contexts: selection, enrichment, and the LSTM's first state
    selection a softmax over the features, bar by bar, of what a gated residual network makes of each
    LSTM      an encoder over the T bars, a decoder over the h steps ahead (their number is all that is known of them)
    attention of each step ahead to the bars and to no later step; the heads share their values, so that the mean of
              their weights says how much each bar counts
    outputs   quantiles of the return at each step; direction, variance and regime at the last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from gatecast.compute.estimate import Seconds
from gatecast.errors import SettingsError, TrainingError
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every, seed_of
from gatecast.forecasting.lstm.lesson import bars_read, read_windows
from gatecast.forecasting.scaling import Scaler, smearing_factor
from gatecast.forecasting.schedule import Fold, Schedule, Window
from gatecast.forecasting.stored import array_of, number_in, scaler_of, spread_of
from gatecast.formats import refuse_infinite
from gatecast.libraries import require
from gatecast.samples.targets import HEADS, columns_of, decode
from gatecast.settings import LARGEST_SEED, SHARED

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Weights = dict[str, NDArray[np.float32]]
    State = tuple[Tensor, Tensor]

BLOCK = 1024  # rows forecast at a time: bounds memory


def _scales(answers: FloatArray, horizon: int) -> tuple[FloatArray, FloatArray]:
    """Centre and spread of (rows, horizon + 3) answers: paths keep their zero, log-odds zero and unit."""
    centre, spread = np.zeros(answers.shape[1]), np.ones(answers.shape[1])
    variance = columns_of(horizon)["volatility"].start
    for number, column in enumerate(answers.T):
        known = column[np.isfinite(column)]
        if len(known) and (number < horizon or number == variance):
            spread[number] = known.std() or 1.0
            centre[number] = known.mean() if number == variance else 0.0
    return centre, spread


@dataclass(frozen=True)
class PreparedFold:
    """One fit's data, beside the network as it begins: see `FittedTFT.read` for `inputs`, `symbol` and `windows`.

    `answers` (windows, horizon + 3) are encoded and scaled, NaN where there is none; the first `train` windows are
    learned, the others validate.
    """

    blank: FittedTFT
    inputs: NDArray[np.float32]
    symbol: IntArray
    windows: IntArray
    answers: NDArray[np.float32]
    train: int
    seed: int


@dataclass(frozen=True)
class Outputs:
    """What a pass gives for n windows over b bars.

    `path` (n, horizon, quantiles) of returns, `last` (n, 3) direction, variance and regime, in the scaled answers'
    unit, log-odds of the first and the last; `selection` (b, features), `attention` (n, horizon, lookback + horizon).
    """

    path: Tensor
    last: Tensor
    selection: Tensor
    attention: Tensor


@dataclass(frozen=True)
class Network:
    """The network as a function of its weights; with a generator for `dropout` it drops, as in training."""

    settings: TFT
    weights: dict[str, Tensor]
    dropout: Generator | None = None

    def forward(self, inputs: Tensor, symbol: Tensor, windows: Tensor) -> Outputs:
        """Of scaled inputs (b, features) with their symbols' numbers (b,), the windows (n, lookback), rows of b."""
        import torch

        horizon = self.settings.horizon
        own = symbol[windows[:, -1]]
        selecting, enriching, hidden, cell = self.contexts()
        features = inputs.T[:, :, None] * self.weights["feature"] + self.weights["feature_bias"]
        selected, selection = self.select("temporal", features, selecting[symbol])
        steps = self.residual("step", self.weights["steps"][:, None].expand(-1, len(own), -1))
        layers = torch.cat([selected[windows.T], steps])
        past, state = self.lstm("encoder", layers[:-horizon], (hidden[own][None], cell[own][None]))
        future, _ = self.lstm("decoder", steps, state)
        local = self.gate("local", self.drop(torch.cat([past, future])), layers)
        enriched = self.residual("enrich", local, enriching[own])
        mixed, attention = self.attend(enriched)
        attended = self.gate("attention", self.drop(mixed), enriched[-horizon:])
        final = self.gate("final", self.residual("forward", attended), local[-horizon:])
        path = self.dense("path", final).transpose(0, 1)
        return Outputs(path, self.dense("last", final[-1]), selection, attention)

    def contexts(self) -> Tensor:
        """(4, symbols + 1, units) for selection, enrichment and the LSTM's two states; symbol 0 is any other."""
        import torch

        symbol = self.weights["symbol"]
        static = torch.stack([symbol, self.weights["class"].expand_as(symbol)])
        selected, _ = self.select("static", static)
        return self.residual("context", selected.expand(4, -1, -1))

    def select(self, name: str, variables: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(variables, n, units) -> their weighted sum (n, units), and the weights (n, variables), which sum to 1."""
        import torch

        flat = variables.transpose(0, 1).flatten(1)
        weights = torch.softmax(self.residual(f"{name}.weight", flat, context), -1)
        return torch.einsum("nv,vnu->nu", weights, self.residual(f"{name}.each", variables)), weights

    def residual(self, name: str, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """A gated residual network; a stack of them where the weights have a further axis."""
        from torch.nn.functional import elu

        hidden = self.dense(f"{name}.in", inputs)
        if context is not None:
            hidden = hidden + context @ self.weights[f"{name}.context"]
        skip = inputs @ self.weights[f"{name}.skip"] if f"{name}.skip" in self.weights else inputs
        return self.gate(name, self.drop(self.dense(f"{name}.out", elu(hidden))), skip)

    def gate(self, name: str, inputs: Tensor, skip: Tensor) -> Tensor:
        """LayerNorm(skip + GLU(inputs)): a gate that can close on what it adds."""
        from torch.nn.functional import glu, layer_norm

        total = skip + glu(self.dense(f"{name}.glu", inputs), -1)
        normal = layer_norm(total, total.shape[-1:])
        return normal * self.weights[f"{name}.norm"] + self.weights[f"{name}.norm_bias"]

    def lstm(self, name: str, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """(steps, n, units) and a first state -> the same shape and the last state."""
        import torch

        own = [self.weights[f"{name}.{part}"] for part in ("wx", "wh", "bx", "bh")]
        outputs, *last = torch.lstm(inputs, [one.contiguous() for one in state], own, True, 1, 0.0, False, False, False)
        return outputs, (last[0], last[1])

    def attend(self, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Of (T + h, n, units): what the h last positions take from all up to themselves, and their weights.

        The weights (n, h, T + h) are the mean over the heads, which share their values.
        """
        import torch

        horizon, heads = self.settings.horizon, self.settings.attention_heads
        steps, n, _ = layers.shape
        queries = (layers[-horizon:] @ self.weights["query"]).view(horizon, n, heads, -1)
        keys = (layers @ self.weights["key"]).view(steps, n, heads, -1)
        score = torch.einsum("qnhd,knhd->nhqk", queries, keys) * keys.shape[-1] ** -0.5
        later = torch.ones(score.shape[-2:], dtype=torch.bool).triu(steps - horizon + 1)
        weights = torch.softmax(score.masked_fill(later, -torch.inf), -1).mean(1)
        taken = torch.einsum("nqk,knd->qnd", weights, layers @ self.weights["value"])
        return taken @ self.weights["mix"], weights

    def dense(self, name: str, inputs: Tensor) -> Tensor:
        """Inputs times weights plus bias."""
        return inputs @ self.weights[name] + self.weights[f"{name}_bias"]

    def drop(self, inputs: Tensor) -> Tensor:
        """Dropout from the network's own generator: what runs beside it changes nothing."""
        import torch

        if self.dropout is None or not self.settings.dropout:
            return inputs
        kept = torch.rand(inputs.shape, generator=self.dropout) >= self.settings.dropout
        return inputs * kept / (1 - self.settings.dropout)


def initial_weights(settings: TFT, features: int, symbols: int, seed: int) -> Weights:
    """Uniform in ±1/√inputs; the outputs and the symbols begin at zero, so that a symbol never seen is the usual one.

    >>> sum(one.size for one in initial_weights(TFT(), 5, 1, 0).values())
    26514
    """
    draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    units = settings.units
    weights: dict[str, FloatArray] = {}

    def matrix(name: str, rows: int, columns: int, *stack: int) -> None:
        weights[name] = draw.uniform(-(rows**-0.5), rows**-0.5, (*stack, rows, columns))

    def dense(name: str, rows: int, columns: int, *stack: int) -> None:
        matrix(name, rows, columns, *stack)
        weights[f"{name}_bias"] = np.zeros((*stack, 1, columns))

    def gate(name: str, columns: int, *stack: int) -> None:
        dense(f"{name}.glu", units, 2 * columns, *stack)
        weights[f"{name}.norm"] = np.ones((*stack, 1, columns))
        weights[f"{name}.norm_bias"] = np.zeros((*stack, 1, columns))

    def residual(name: str, rows: int = units, columns: int = units, *stack: int, context: bool = False) -> None:
        dense(f"{name}.in", rows, units, *stack)
        dense(f"{name}.out", units, units, *stack)
        if context:
            matrix(f"{name}.context", units, units)
        if rows != columns:
            matrix(f"{name}.skip", rows, columns)
        gate(name, columns, *stack)

    weights["symbol"] = np.zeros((symbols + 1, units))
    weights["class"] = draw.standard_normal(units)
    weights["steps"] = draw.standard_normal((settings.horizon, units))
    weights["feature"] = draw.standard_normal((features, 1, units))
    weights["feature_bias"] = np.zeros((features, 1, units))
    for name, variables in (("static", 2), ("temporal", features)):
        residual(f"{name}.weight", variables * units, variables, context=name == "temporal")
        residual(f"{name}.each", units, units, variables)
    residual("context", units, units, 4)
    residual("step")
    for name in ("encoder", "decoder"):
        matrix(f"{name}.wx", 4 * units, units)
        matrix(f"{name}.wh", 4 * units, units)
        weights[f"{name}.bx"], weights[f"{name}.bh"] = np.zeros(4 * units), np.zeros(4 * units)
        weights[f"{name}.bx"][units : 2 * units] = 1.0  # the forget gate begins open
    residual("enrich", context=True)
    for name in ("query", "key"):
        matrix(name, units, units)
    matrix("value", units, units // settings.attention_heads)
    matrix("mix", units // settings.attention_heads, units)
    residual("forward")
    for name in ("local", "attention", "final"):
        gate(name, units)
    for name, columns in (("path", len(settings.quantiles)), ("last", 3)):
        weights[name], weights[f"{name}_bias"] = np.zeros((units, columns)), np.zeros((1, columns))
    return {name: array.astype(np.float32) for name, array in weights.items()}


def network_loss(settings: TFT, outputs: Outputs, answers: Tensor) -> Tensor:
    """Pinball loss of the path, summed over quantiles, plus both log losses, plus half the squared error of variance.

    Each is the mean over the answers that there are; `answers` (n, horizon + 3) are NaN where there is none.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

    known = torch.isfinite(answers)
    answers = torch.where(known, answers, 0.0)
    quantiles = torch.tensor(settings.quantiles, dtype=answers.dtype)
    error = answers[:, : settings.horizon, None] - outputs.path
    path = torch.maximum(quantiles * error, (quantiles - 1) * error).sum(-1)
    direction, variance, regime = answers[:, settings.horizon :].unbind(1)
    last = [
        log_loss(outputs.last[:, 0], direction, reduction="none"),
        0.5 * (outputs.last[:, 1] - variance) ** 2,
        log_loss(outputs.last[:, 2], regime, reduction="none"),
    ]
    every = torch.cat([path, torch.stack(last, 1)], 1) * known
    mean = every.sum(0) / known.sum(0).clamp(min=1)
    return mean[: settings.horizon].mean() + mean[settings.horizon :].sum()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread a network, and the user's number again afterwards: more would change the last digits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_network(prepared: PreparedFold) -> FittedTFT:
    """The network with the weights of the epoch that had the least validation loss.

    Raises `TrainingError` when the loss is no longer finite.
    """
    import torch

    settings, start = prepared.blank.settings, prepared.blank.weights
    weights = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in start.items()}
    path, last = _usual(prepared.answers[: prepared.train], settings)
    with torch.no_grad():
        weights["path_bias"].copy_(torch.from_numpy(path))
        weights["last_bias"].copy_(torch.from_numpy(last))
    inputs, symbol, windows, answers = (
        torch.from_numpy(array) for array in (prepared.inputs, prepared.symbol, prepared.windows, prepared.answers)
    )
    adam = torch.optim.Adam(list(weights.values()), settings.learning_rate)
    order = np.random.default_rng(prepared.seed)
    learning = Network(settings, weights, torch.Generator().manual_seed(prepared.seed))
    checking = Network(settings, weights)
    best, best_loss = prepared.blank, np.inf

    def outputs_of(network: Network, rows: Tensor) -> Outputs:
        bars, places = torch.unique(windows[rows], return_inverse=True)
        return network.forward(inputs[bars], symbol[bars], places)

    later = torch.arange(prepared.train, len(answers))
    for epoch in range(1, settings.epochs + 1):
        shuffled = torch.from_numpy(order.permutation(prepared.train))
        for begin in range(0, prepared.train, settings.batch):
            rows = shuffled[begin : begin + settings.batch]
            adam.zero_grad()
            network_loss(settings, outputs_of(learning, rows), answers[rows]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights.values(), settings.clip)
            adam.step()
        with torch.no_grad():
            outputs = outputs_of(checking, later)
            loss = float(network_loss(settings, outputs, answers[later]))
        if not np.isfinite(loss):
            raise TrainingError(
                f"the TFT's loss is no longer finite in epoch {epoch}: lower the learning rate "
                f"(now {settings.learning_rate:g}) or look for extreme values in the features."
            )
        if loss < best_loss:
            column = columns_of(settings.horizon)["volatility"].start
            error = (answers[later, column] - outputs.last[:, 1]).double().numpy() * best.spread[column]
            smear = smearing_factor(error) if np.isfinite(error).any() else 1.0
            kept = {name: one.detach().numpy().copy() for name, one in weights.items()}
            best, best_loss = replace(best, weights=kept, epoch=epoch, smear=smear), loss
        if epoch - best.epoch >= settings.patience:
            break
    return best


def _usual(answers: NDArray[np.float32], settings: TFT) -> tuple[FloatArray, FloatArray]:
    """The outputs that know nothing but the training answers: quantiles of the return, shares as log-odds."""
    path, last = answers[:, : settings.horizon], answers[:, settings.horizon :]
    some = path[np.isfinite(path)].astype(np.float64)
    quantiles = np.quantile(some, settings.quantiles) if len(some) else np.zeros(len(settings.quantiles))
    odds = np.zeros(3)
    for number in (0, 2):
        known = last[np.isfinite(last[:, number]), number]
        odds[number] = np.log((known.sum() + 1) / (len(known) - known.sum() + 1))
    return np.asarray(quantiles), odds


@dataclass(frozen=True)
class FittedTFT:
    """A trained network with its scales: `centre` and `spread` (horizon + 3,) of the answers; the features' `names`.

    A symbol that is not among `symbols` is forecast as the class's usual one. `smear` turns the exponential of a mean
    log variance into a mean variance. Forecasts are computed in double precision and rounded to single, so that they do
    not depend on which other rows are forecast with them.
    """

    settings: TFT
    scaler: Scaler
    centre: FloatArray
    spread: FloatArray
    weights: Weights
    names: tuple[str, ...]
    symbols: tuple[str, ...]
    epoch: int = 0
    smear: float = 1.0

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; all heads."""
        path, last = self._encoded(samples, rows)
        encoded = {
            "return": path.mean(2), "direction": last[:, 0], "volatility": last[:, 1] + np.log(self.smear),
            "regime": last[:, 2],
        }  # fmt: skip
        sigma, baseline = samples.facts.sigma[samples.ends[rows]], samples.facts.baseline[samples.ends[rows]]
        return {head: decode(head, part, sigma, baseline) for head, part in encoded.items()}

    def quantiles(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(rows, horizon, quantiles) of the cumulative log return, ascending (Chernozhukov et al. 2010)."""
        path, _ = self._encoded(samples, rows)
        sigma, baseline = samples.facts.sigma[samples.ends[rows]], samples.facts.baseline[samples.ends[rows]]
        return np.stack([decode("return", path[:, :, i], sigma, baseline) for i in range(path.shape[2])], 2)

    def selection(self, samples: Samples, rows: IntArray) -> dict[str, float]:
        """Feature -> its mean weight in the selection over the bars that these windows read; they sum to 1."""
        parts = [part.selection.numpy() for part, _ in self._passes(samples, rows)]
        return dict(zip(self.names, np.concatenate(parts).mean(0).tolist(), strict=True))

    def attention(self, samples: Samples, rows: IntArray) -> FloatArray:
        """(horizon, lookback + horizon) mean weight that each step ahead gives to each bar, oldest first, and step.

        Rows sum to 1; no step sees a later one.
        """
        total = sum(part.attention.numpy().sum(0) for part, _ in self._passes(samples, rows))
        mean: FloatArray = total / len(rows)
        return mean

    def _encoded(self, samples: Samples, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """(rows, horizon, quantiles) and (rows, 3) in the encoded table's unit; probabilities, not log-odds."""
        settings = self.settings
        path = np.zeros((len(rows), settings.horizon, len(settings.quantiles)))
        last = np.zeros((len(rows), 3))
        for part, where in self._passes(samples, rows):
            path[where], last[where] = part.path.float().numpy(), part.last.float().numpy()
        path = np.sort(path, 2) * self.spread[: settings.horizon, None]
        centre, spread = self.centre[settings.horizon + 1], self.spread[settings.horizon + 1]
        binary = np.array([True, False, True])
        return path, np.where(binary, 1 / (1 + np.exp(-np.clip(last, -30, 30))), last * spread + centre)

    def _passes(self, samples: Samples, rows: IntArray) -> Iterator[tuple[Outputs, slice]]:
        """The network over blocks of the rows, in double precision."""
        require("torch", "a forecast of the TFT")
        import torch

        network = Network(
            self.settings, {name: torch.from_numpy(one.astype(float)) for name, one in self.weights.items()}
        )
        for begin in range(0, len(rows), BLOCK):
            where = slice(begin, begin + BLOCK)
            inputs, symbol, windows = (torch.from_numpy(one) for one in self.read(samples, samples.ends[rows[where]]))
            yield network.forward(inputs.double(), symbol, windows), where

    def read(self, samples: Samples, ends: IntArray) -> tuple[NDArray[np.float32], IntArray, IntArray]:
        """What the network sees of the windows that end at these bar-level rows, and nothing beside it.

        Scaled features (b, features) of the b bars that they read, the symbols' numbers (b,) from 1, 0 for one that is
        not known, and the windows (len(ends), lookback) as rows of b.
        """
        lookback = self.settings.lookback
        inputs, places = read_windows(self.scaler, samples, ends, lookback)
        number = {symbol: i for i, symbol in enumerate(self.symbols, 1)}
        own = np.array([number.get(symbol, 0) for symbol in samples.symbols], np.int64)
        symbol = own[samples.symbol[bars_read(ends, lookback, len(samples.features))]]
        return inputs, symbol, places[:, None] + np.arange(1 - lookback, 1)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays: dict[str, NDArray[Any]] = {
            "scaler.centre": self.scaler.centre, "scaler.spread": self.scaler.spread,
            "centre": self.centre, "spread": self.spread,
        }  # fmt: skip
        arrays |= {f"weights.{name}": array for name, array in self.weights.items()}
        return arrays, {
            "settings": self.settings.model_dump(mode="json"), "names": list(self.names),
            "symbols": list(self.symbols), "epoch": self.epoch, "smear": self.smear,
        }  # fmt: skip

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedTFT:
        """The inverse of `state`; refuses weights that are not of these settings."""
        tft, names, symbols = TFT(**settings["settings"]), tuple(settings["names"]), tuple(settings["symbols"])
        own = {name.removeprefix("weights."): one for name, one in arrays.items() if name.startswith("weights.")}
        shapes = {name: one.shape for name, one in initial_weights(tft, len(names), len(symbols), 0).items()}
        if {name: one.shape for name, one in own.items()} != shapes:
            raise ValueError("weights that its settings ask for")
        refuse_infinite(own)
        centre = array_of(arrays, "centre", None)
        return cls(
            tft, scaler_of(arrays, len(names)), centre, spread_of(arrays, "spread", len(centre)),
            own, names, symbols, number_in(settings, "epoch", 0), number_in(settings, "smear", 0.5, 2.0),
        )  # fmt: skip


@FORECASTERS.add
class TFT(Forecaster):
    """A Temporal Fusion Transformer for all heads, pooled over the symbols of a class; torch, one thread a network.

    Only every `every`-th fold is fitted, and its fit kept for the folds that follow: with monthly refits a forecast is
    made by numbers learned at a cutoff up to a year earlier, never at a later one. One network a year, where the LSTM
    trains three a month, keeps the whole below the LSTM's cost.

    Examples
    --------
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.b1(600, seed=1), ("ret_log_1", "x"))["index"]
    >>> fitted = TFT(units=8, epochs=1).fit(samples)
    >>> fitted.predict(samples, np.array([400, 401]))["return"].shape
    (2, 5)
    >>> sorted(fitted.selection(samples, np.array([400])))
    ['ret_log_1', 'x']
    """

    kind: ClassVar = "tft"
    traits: ClassVar = Traits("Temporal Fusion Transformer", HEADS, Seconds(0.5, 1e-3, parallel=True))
    fitted: ClassVar = FittedTFT

    lookback: Annotated[int, Field(ge=10, le=100), SHARED] = 30
    """bars in a window, T"""
    horizon: Annotated[int, Field(ge=1, le=22), SHARED] = 5
    """bars ahead, h"""
    units: Annotated[int, Field(ge=4, le=256)] = 16
    """width of every layer"""
    attention_heads: Annotated[int, Field(ge=1, le=16)] = 2
    """attention heads, a divisor of the units"""
    dropout: Annotated[float, Field(ge=0, lt=0.9)] = 0.1
    """share dropped in the gated residual networks and before the gates"""
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)
    """quantiles of the return, ascending and around .5; their mean is the forecast"""
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 3e-3
    """step size of Adam"""
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """largest norm of the gradient"""
    batch: Annotated[int, Field(ge=1, le=4096)] = 128
    """windows in an update, in random order"""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 15
    """passes through the training rows, at most"""
    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """epochs without a better validation loss before it stops"""
    every: Annotated[int, Field(ge=1, le=1000)] = 12
    """refits from one training to the next"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), SHARED] = 0
    """what the network begins from"""

    @field_validator("quantiles")
    @classmethod
    def _around_the_median(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        mirrored = 1 - np.array(quantiles[::-1])
        if not quantiles or np.any(np.diff(quantiles) <= 0) or not np.allclose(quantiles, mirrored):
            raise ValueError(f"expected ascending shares around .5 such as (.1, .5, .9), got {quantiles}")
        return quantiles

    @model_validator(mode="after")
    def _whole_heads(self) -> TFT:
        if self.units % self.attention_heads:
            raise ValueError(
                f"units = {self.units} do not divide into {self.attention_heads} attention heads: give a multiple."
            )
        return self

    def fit(self, samples: Samples, schedule: Schedule | None = None) -> FittedTFT:
        """A fit on all samples whose answers are known, the latest share of them kept for early stopping."""
        rows = np.flatnonzero(~np.isnat(samples.known_at))
        train, validation = (schedule or Schedule()).split(samples.times, samples.known_at, rows)
        return self.fit_many([Fold(0, train, validation, rows[:0], samples.times.max(), samples)])[0]

    def packages(self) -> tuple[str, ...]:
        """torch, an extra of gatecast's."""
        return ("torch",)

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedTFT]:
        """A fit of every `every`-th fold, kept for those that follow it."""
        with one_thread():
            return fit_every(self._train, folds, self.every, task, jobs=task.jobs)

    def _train(self, fold: Fold) -> FittedTFT:
        import torch

        torch.set_num_threads(1)  # said again for a process of the cluster's
        return train_network(self._prepare(fold))

    def _prepare(self, fold: Fold) -> PreparedFold:
        fold, samples = fold.windowed(self.window), fold.data
        if samples.lookback != self.lookback or samples.horizon != self.horizon:
            raise SettingsError(
                f"the samples have lookback {samples.lookback} and horizon {samples.horizon}, the TFT "
                f"{self.lookback} and {self.horizon}: give both the same."
            )
        train, ends = samples.ends[fold.train], samples.ends[np.r_[fold.train, fold.validation]]
        scaler = Scaler.fit(samples.features[bars_read(train, self.lookback, len(samples.features))])
        centre, spread = _scales(samples.answers[fold.train], self.horizon)
        seed = seed_of(self.seed, samples.asset_class, fold.cutoff)
        weights = initial_weights(self, len(samples.names), len(samples.symbols), seed)
        blank = FittedTFT(self, scaler, centre, spread, weights, samples.names, samples.symbols)
        answers = ((samples.answers[np.r_[fold.train, fold.validation]] - centre) / spread).astype(np.float32)
        return PreparedFold(blank, *blank.read(samples, ends), answers, len(train), seed)
