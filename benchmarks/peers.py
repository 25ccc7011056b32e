"""The job of `engine.py` for others: each function returns seconds a refit (and its loss).

Plain torch counts its median refit; the others, whose own walk-forward is timed as a whole, their mean.
"""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from job import BATCH, HORIZON, LOOKBACK, STEP, WINDOW, fold, read_job

Figures = dict[str, float]


@dataclass
class TorchFit:
    """A trained network of torch: (rows, bars, features) windows -> (rows, 1) forecasts, and how training went."""

    predict: Callable[[np.ndarray], np.ndarray]
    train_loss: float
    validation_loss: float
    epochs: int


def windows_of(inputs: np.ndarray, rows: Iterable[int]) -> np.ndarray:
    """(rows, bars, features) the last bars at each row."""
    return np.stack([inputs[row - LOOKBACK + 1 : row + 1] for row in rows])


def torch_refit(
    windows: np.ndarray, answers: np.ndarray, epochs: int, *, seed: int, rate: float = 1e-3,
    check: tuple[np.ndarray, np.ndarray] | None = None, patience: int = 0,
) -> TorchFit:  # fmt: skip
    """`nn.LSTM` on (rows, bars, features) windows, a DataLoader and Adam, as in every tutorial.

    With windows and answers to `check` it stops after `patience` epochs without a better loss there, and the best
    weights are kept.
    """
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(windows.shape[2], 64, 2, batch_first=True, dropout=0.2)
            self.drop, self.out = torch.nn.Dropout(0.2), torch.nn.Linear(64, 1)

        def forward(self, x):
            return self.out(self.drop(self.lstm(x)[0][:, -1]))

    def predict(some: np.ndarray) -> np.ndarray:
        net.eval()
        with torch.no_grad():
            found = net(torch.from_numpy(some)).numpy()
        net.train()
        return found

    torch.manual_seed(seed)
    data = torch.utils.data.TensorDataset(torch.from_numpy(windows), torch.from_numpy(answers[:, None]))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True)
    net = Net()
    adam = torch.optim.Adam(net.parameters(), rate)
    best, best_epoch, kept = np.inf, 0, None
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            adam.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x), y)
            loss.backward()
            adam.step()
            total += float(loss.detach()) * len(x)
        if check is None:
            continue
        now = float(np.mean((predict(check[0])[:, 0] - check[1]) ** 2))
        if now < best:
            best, best_epoch, kept = now, epoch, copy.deepcopy(net.state_dict())
        elif epoch - best_epoch >= patience:
            break
    if kept is not None:
        net.load_state_dict(kept)
    return TorchFit(predict, total / len(windows), best, epoch + 1)


def plain_torch(starts: list[int], epochs: int, threads: int) -> Figures:
    """`torch_refit` at each start, and its forecasts of the bars that follow."""
    import torch

    torch.set_num_threads(threads)
    job = read_job()
    losses, seconds = [], []
    for start in starts:
        begin = time.perf_counter()
        inputs, answers, rows = fold(*job, start)
        fit = torch_refit(windows_of(inputs, rows), answers[rows], epochs, seed=start)
        fit.predict(windows_of(inputs, range(start, start + STEP)))
        losses.append(fit.train_loss)
        seconds.append(time.perf_counter() - begin)
    return {"seconds": float(np.median(seconds)), "loss": float(np.mean(losses))}


def two_processes(starts: list[int], epochs: int, threads: int = 1) -> Figures:
    """Plain torch, one thread each, in as many processes as there are cores: wall time a refit."""
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores) as pool:
        found = list(pool.map(plain_torch, [starts] * cores, [epochs] * cores, [threads] * cores))
    return {"seconds": max(one["seconds"] for one in found) / cores, "loss": found[0]["loss"]}


def neuralforecast(starts: list[int], epochs: int) -> Figures:
    """`cross_validation(refit=True)` of its LSTM on the same bars, with the steps that the epochs make."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    features, _ = read_job()
    low, high = starts[0] - WINDOW, starts[-1] + HORIZON
    import pandas as pd

    frame = pd.DataFrame({"unique_id": "SP500", "ds": range(high - low), "y": features[low:high, 0]})
    extra = [f"x{number}" for number in range(1, features.shape[1])]
    frame[extra] = features[low:high, 1:]
    steps = epochs * -(-(WINDOW - LOOKBACK - HORIZON + 1) // BATCH)
    model = LSTM(
        h=HORIZON, input_size=LOOKBACK, encoder_n_layers=2, encoder_hidden_size=64, encoder_dropout=0.2,
        decoder_hidden_size=64, decoder_layers=1, hist_exog_list=extra, loss=MSE(), max_steps=steps, batch_size=1,
        windows_batch_size=BATCH, scaler_type="standard", random_seed=0, accelerator="cpu",
        enable_progress_bar=False, logger=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    begin = time.perf_counter()
    NeuralForecast([model], freq=1).cross_validation(frame, n_windows=len(starts), step_size=STEP, refit=True)
    return {"seconds": (time.perf_counter() - begin) / len(starts)}


def darts(starts: list[int], epochs: int) -> Figures:
    """`historical_forecasts(retrain=True)` of its block LSTM."""
    from darts import TimeSeries
    from darts.models import BlockRNNModel

    features, _ = read_job()
    low, high = starts[0] - WINDOW, starts[-1] + HORIZON
    series = TimeSeries.from_values(features[low:high, :1].astype(np.float32))
    extra = TimeSeries.from_values(features[low:high, 1:].astype(np.float32))
    quiet = dict.fromkeys(("enable_progress_bar", "logger", "enable_checkpointing", "enable_model_summary"), False)
    model = BlockRNNModel(
        LOOKBACK, HORIZON, model="LSTM", hidden_dim=64, n_rnn_layers=2, dropout=0.2, n_epochs=epochs,
        batch_size=BATCH, random_state=0, pl_trainer_kwargs={"accelerator": "cpu", **quiet},
    )  # fmt: skip
    begin = time.perf_counter()
    done = model.historical_forecasts(
        series, past_covariates=extra, train_length=WINDOW, start=WINDOW, stride=STEP, forecast_horizon=HORIZON,
        retrain=True, last_points_only=False, verbose=False,
    )  # fmt: skip
    return {"seconds": (time.perf_counter() - begin) / len(done)}


def keras(starts: list[int], epochs: int) -> Figures:
    """Two LSTM layers of Keras on torch, as in every notebook."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    job = read_job()
    begin = time.perf_counter()
    for start in starts:
        inputs, answers, rows = fold(*job, start)
        windows, later = (windows_of(inputs, some) for some in (rows, range(start, start + STEP)))
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Input((LOOKBACK, inputs.shape[1])), layers.LSTM(64, return_sequences=True), layers.Dropout(0.2),
                layers.LSTM(64), layers.Dropout(0.2), layers.Dense(1),
            ]
        )  # fmt: skip
        model.compile("adam", "mse")
        history = model.fit(windows, answers[rows, None], epochs=epochs, batch_size=BATCH, verbose=0)
        model.predict(later, verbose=0)
    return {"seconds": (time.perf_counter() - begin) / len(starts), "loss": float(history.history["loss"][-1])}


def silence() -> None:
    """The peers' loggers and warnings."""
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
