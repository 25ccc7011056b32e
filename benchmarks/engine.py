"""Seconds per monthly refit: gatecast's engine and plain torch, one after the other on the same job.

The job: S&P 500 daily, five features, windows of 30 bars, an LSTM of 2 x 64 with dropout 0.2, the return over the next
5 bars, a sliding window of 504 bars, a refit every 21 bars, 20 epochs, no early stopping, then the 21 bars that follow
are forecast. Plain torch trains on windows in batches of 64, as everybody does; gatecast on chunks of 32 labels, four
at a time, a refit a core. Run: `make bench`, or `python benchmarks/engine.py --json`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import CompiledEngine, initial_weights, make_chunks, predict_windows
from gatecast.market.sources import read_bars
from gatecast.samples.features import DEFAULT_FEATURES, compute_features

LOOKBACK, HORIZON, WINDOW, STEP, BATCH = 30, 5, 504, 21, 64


def read_job() -> tuple[np.ndarray, np.ndarray]:
    """(bars, 5) features and (bars,) returns over the next 5 bars of the S&P 500."""
    bars = read_bars("embedded", symbols=("SP500",))
    table = compute_features(bars).select(DEFAULT_FEATURES).to_numpy()
    log_close = np.log(bars["close"].to_numpy())
    answer = np.full(len(bars), np.nan)
    answer[:-HORIZON] = log_close[HORIZON:] - log_close[:-HORIZON]
    return np.nan_to_num(table), answer


def fold(features: np.ndarray, answer: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled features, scaled answers and training rows of the refit at bar `start`: nothing later is used."""
    first, last = start - WINDOW, start - HORIZON
    centre, spread = features[first:last].mean(0), features[first:last].std(0)
    scaled = ((features - centre) / spread).astype(np.float32)
    return scaled, (answer / answer[first:last].std()).astype(np.float32), np.arange(first + LOOKBACK - 1, last)


def gatecast(job: tuple[np.ndarray, np.ndarray], starts: list[int], epochs: int, *, burn_in: bool, cores: int) -> dict:
    """Seconds per refit and the last epoch's mean loss."""
    settings = LSTM(horizon=1, heads=("return",), burn_in_gradient=burn_in, epochs=epochs)

    def refit(start: int) -> float:
        inputs, answers, rows = fold(*job, start)
        low = rows[0] - LOOKBACK + 1
        inputs, answers, rows = inputs[low : start + STEP], answers[low : start + STEP, None], rows - low
        draw = np.random.default_rng(start)
        engine = CompiledEngine(settings, inputs, answers, initial_weights(settings, 5, 1, start), start)
        for _ in range(epochs):
            chunks = make_chunks(rows, LOOKBACK, settings.chunk, int(draw.integers(settings.chunk)))
            loss = engine.epoch(chunks, draw.permutation(len(chunks)))
        engine.average(0.0)
        predict_windows(engine.weights(), settings, inputs, np.arange(start, start + STEP) - low, 1)
        return loss

    refit(starts[0])  # compiles, or reads the cache
    begin = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        losses = list(pool.map(refit, starts))
    return {"seconds": (time.perf_counter() - begin) / len(starts), "loss": float(np.mean(losses))}


def plain_torch(job: tuple[np.ndarray, np.ndarray], starts: list[int], epochs: int, threads: int) -> dict:
    """The same with `nn.LSTM`, a DataLoader of windows and Adam."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 64, 2, batch_first=True, dropout=0.2)
            self.drop, self.out = torch.nn.Dropout(0.2), torch.nn.Linear(64, 1)

        def forward(self, x):
            return self.out(self.drop(self.lstm(x)[0][:, -1]))

    torch.set_num_threads(threads)
    losses = []
    begin = time.perf_counter()
    for start in starts:
        torch.manual_seed(start)
        inputs, answers, rows = fold(*job, start)
        windows = np.stack([inputs[row - LOOKBACK + 1 : row + 1] for row in rows])
        data = torch.utils.data.TensorDataset(torch.from_numpy(windows), torch.from_numpy(answers[rows, None]))
        loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True)
        net = Net()
        adam = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(epochs):
            total = 0.0
            for x, y in loader:
                adam.zero_grad()
                loss = torch.nn.functional.mse_loss(net(x), y)
                loss.backward()
                adam.step()
                total += float(loss.detach()) * len(x)
        net.eval()
        with torch.no_grad():
            net(
                torch.from_numpy(np.stack([inputs[row - LOOKBACK + 1 : row + 1] for row in range(start, start + STEP)]))
            )
        losses.append(total / len(rows))
    return {"seconds": (time.perf_counter() - begin) / len(starts), "loss": float(np.mean(losses))}


def gemm_peak() -> float:
    """Float32 operations a second of one core: the engine's own tile on a matrix in cache, best of ten."""
    from gatecast.forecasting.lstm.gemm import gemm

    a, b, c = (np.ones(shape, np.float32) for shape in ((176, 64), (64, 256), (176, 256)))
    places = (a.ctypes.data, 64, 1, b.ctypes.data, 256, c.ctypes.data, 256, 176, 256, 64, 0, 0)
    gemm(*places)
    best = np.inf
    for _ in range(10):
        begin = time.perf_counter()
        for _ in range(200):
            gemm(*places)
        best = min(best, time.perf_counter() - begin)
    return 200 * 2 * 176 * 64 * 256 / best


def operations(epochs: int) -> float:
    """Floating point operations of the matrix products of one refit, counted on the chunks' own shapes."""
    length, labels = LSTM().chunk, WINDOW - HORIZON - LOOKBACK + 1
    count = np.mean([1 + max(0, -(-(labels - length + offset) // length)) for offset in range(length)])
    rows = (LOOKBACK + length - 1) * count
    forward = rows * (8 * 256 + 3 * 64 * 256)  # inputs are padded to 8
    return 3 * 2 * forward * epochs  # the backward pass has two products for each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--refits", type=int, default=24)
    parser.add_argument("--peer-refits", type=int, default=3)
    options = parser.parse_args()
    job, cores = read_job(), os.cpu_count() or 1
    starts = [1000 + STEP * number for number in range(options.refits)]
    ours = gatecast(job, starts, options.epochs, burn_in=True, cores=cores)
    cut = gatecast(job, starts, options.epochs, burn_in=False, cores=cores)
    peers = {
        f"plain torch, {threads} thread{'s' * (threads > 1)}": plain_torch(
            job, starts[: options.peer_refits], options.epochs, threads
        )
        for threads in (1, 2)
    }
    fastest = min(peer["seconds"] for peer in peers.values())
    result = {
        "s_per_refit": ours["seconds"],
        "peers": {name: peer["seconds"] for name, peer in peers.items()},
        "ratio": fastest / ours["seconds"],
        "ratio_no_burn_in_gradient": fastest / cut["seconds"],
        "labelled_bars_per_s": (WINDOW - HORIZON - LOOKBACK + 1) * options.epochs / ours["seconds"],
        "gemm_share": operations(options.epochs) / ours["seconds"] / (gemm_peak() * cores),
        "loss": ours["loss"],
        "peer_loss": next(iter(peers.values()))["loss"],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'gatecast':<24}{result['s_per_refit'] * 1000:8.1f} ms a refit   loss {result['loss']:.3f}")
    for name, peer in peers.items():
        print(f"{name:<24}{peer['seconds'] * 1000:8.1f} ms a refit   loss {peer['loss']:.3f}")
    print(f"ratio {result['ratio']:.1f} ({result['ratio_no_burn_in_gradient']:.1f} without the burn-in's gradient)")
    print(f"{result['labelled_bars_per_s']:,.0f} labelled bars a second, {result['gemm_share']:.0%} of the GEMM peak")


if __name__ == "__main__":
    main()
