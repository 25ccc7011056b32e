"""Seconds per monthly refit: gatecast's engine and plain torch, one after the other on the same job.

The job: S&P 500 daily, five features, windows of 30 bars, an LSTM of 2 x 64 with dropout 0.2, the return over the next
5 bars, a sliding window of 504 bars, a refit every 21 bars, 20 epochs, no early stopping, then the 21 bars that follow
are forecast. Plain torch trains on windows in batches of 64, as everybody does; gatecast on chunks of 32 labels, four
at a time, a refit a core. `--peers` adds neuralforecast, darts and Keras where they are installed, each by its own
walk-forward. Everything runs one after the other, each in a process of its own. Epochs are not the same work on both
sides, since chunks make fewer updates of each: what a forecast as good costs is `until_equal.py`, which runs last.
Run: `make bench`, or `python benchmarks/engine.py --json --peers`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import peers
import until_equal
from job import LABELS, LOOKBACK, STEP, fold, read_job, starts

from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import CompiledEngine, initial_weights, make_chunks, predict_windows

ROUNDS = 5  # the median counts, as the median refit of plain torch does: the machine has other work


def gatecast(first: list[int], epochs: int, burn_in: bool) -> peers.Figures:
    """The same by gatecast's engine: seconds per refit, the last epoch's mean loss, and the share of the GEMM peak."""
    settings, cores = LSTM(horizon=1, heads=("return",), burn_in_gradient=burn_in), os.cpu_count() or 1
    job = read_job()

    def refit(start: int) -> float:
        inputs, answers, rows = fold(*job, start)
        low = rows[0] - LOOKBACK + 1
        inputs, answers, rows = inputs[low : start + STEP], answers[low : start + STEP, None], rows - low
        draw = np.random.default_rng(start)
        engine = CompiledEngine(settings, inputs, answers, initial_weights(settings, 5, 1, start), start)
        for _ in range(epochs):
            chunks = make_chunks(rows, LOOKBACK, settings.labels(0), int(draw.integers(settings.labels(0))))
            loss = engine.epoch(chunks, draw.permutation(len(chunks)))
        engine.average(0.0)
        predict_windows(engine.weights(), settings, inputs, np.arange(start, start + STEP) - low, 1)
        return loss

    refit(first[0])  # compiles, or reads the cache
    rounds = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(ROUNDS):  # the peak is of all cores at once, just before and after
            before = sum(pool.map(gemm_peak, range(cores)))
            begin = time.perf_counter()
            losses = list(pool.map(refit, first))
            seconds = (time.perf_counter() - begin) / len(first)
            peak = (before + sum(pool.map(gemm_peak, range(cores)))) / 2
            rounds.append((seconds, operations(settings, epochs) / seconds / peak))
    seconds, share = sorted(rounds)[ROUNDS // 2]
    return {"seconds": seconds, "loss": float(np.mean(losses)), "gemm_share": share}


def gemm_peak(_: int = 0) -> float:
    """Float32 operations a second of one core: the engine's own tile on packed matrices in cache, best of ten."""
    from gatecast.forecasting.lstm.gemm import gemm

    a, b, c = (np.ones(shape, np.float32) for shape in ((176, 64), (64, 256), (176, 256)))
    places = (a.ctypes.data, 64, 1, b.ctypes.data, 64, c.ctypes.data, 256, 176, 256, 64, 0, 0)
    gemm(*places)
    best = np.inf
    for _ in range(10):
        begin = time.perf_counter()
        for _ in range(200):
            gemm(*places)
        best = min(best, time.perf_counter() - begin)
    return 200 * 2 * 176 * 64 * 256 / best


def operations(settings: LSTM, epochs: int) -> float:
    """Floating point operations of the matrix products of one refit's training, on the chunks' own shapes."""
    length, gates, units = settings.labels(0), 4 * settings.units, settings.units
    count = np.mean([1 + max(0, -(-(LABELS - length + offset) // length)) for offset in range(length)])
    burn, inputs = LOOKBACK - 1, 5
    forward = inputs * gates + (2 * settings.layers - 1) * units * gates
    weights, inside = forward, (2 * settings.layers - 1) * units * gates  # gradients of the weights, and those inside
    backward_bars = length + (burn if settings.burn_in_gradient else 0)
    return 2 * count * ((length + burn) * forward + backward_bars * (weights + inside)) * epochs


def alone(work, *arguments) -> peers.Figures:  # type: ignore[no-untyped-def]
    """In a process of its own, so that one's threads and memory do not reach the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=peers.silence) as pool:
        return pool.submit(work, *arguments).result()


def measure(refits: int, peer_refits: int, epochs: int, all_peers: bool) -> dict:
    """Everything, one after the other."""
    few = starts(peer_refits)
    ours, cut = (alone(gatecast, starts(refits), epochs, burn_in) for burn_in in (True, False))
    found = {
        "plain torch, 1 thread": alone(peers.plain_torch, few, epochs, 1),
        "plain torch, 2 threads": alone(peers.plain_torch, few, epochs, 2),
    }
    side_by_side = peers.two_processes(few, epochs)["seconds"]
    for name in ("neuralforecast", "darts", "keras") if all_peers else ():
        if importlib.util.find_spec(name):
            found[name] = alone(getattr(peers, name), few, epochs)
    fastest = min(peer["seconds"] for peer in found.values())
    return {
        "s_per_refit": ours["seconds"],
        "peers": {name: peer["seconds"] for name, peer in found.items()},
        "ratio": fastest / ours["seconds"],
        "ratio_no_burn_in_gradient": fastest / cut["seconds"],
        "ratio_to_torch_in_processes": side_by_side / ours["seconds"],
        "s_torch_in_processes": side_by_side,
        "labelled_bars_per_s": LABELS * epochs / ours["seconds"],
        "gemm_share": ours["gemm_share"],
        "loss": ours["loss"],
        "peer_loss": found["plain torch, 1 thread"]["loss"],
        **alone(until_equal.time_to_quality, refits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--peers", action="store_true", help="neuralforecast, darts and Keras too, where installed")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--refits", type=int, default=24)
    parser.add_argument("--peer-refits", type=int, default=5)
    options = parser.parse_args()
    result = measure(options.refits, options.peer_refits, options.epochs, options.peers)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'gatecast':<28}{result['s_per_refit'] * 1000:8.1f} ms a refit   loss {result['loss']:.3f}")
    for name, seconds in result["peers"].items():
        print(f"{name:<28}{seconds * 1000:8.1f} ms a refit")
    print(f"{'plain torch, a process a core':<28}{result['s_torch_in_processes'] * 1000:7.1f} ms a refit")
    print(f"loss {result['loss']:.3f} after {options.epochs} epochs, plain torch's {result['peer_loss']:.3f}")
    print(
        f"{result['ratio']:.1f} times the fastest peer, {result['ratio_no_burn_in_gradient']:.1f} without the gradient "
        f"through the burn-in, {result['ratio_to_torch_in_processes']:.1f} times torch in a process a core"
    )
    print(
        f"{result['ratio_time_to_quality']:.1f} times plain torch until both stop, at the best of "
        f"{len(until_equal.RATES)} learning rates each, one thread:"
    )
    for name, side in result["sides"].items():
        print(
            f"  {name:<12}{side['s_per_refit'] * 1000:8.1f} ms a refit, {side['epochs']:.0f} epochs at "
            f"{side['learning_rate']:g}, then a loss of {side['loss']:.3f}, search {side['s_of_the_search']:.2f} s"
        )
    print(
        f"  difference {result['loss_gatecast_minus_torch']:+.3f}, standard error {result['standard_error']:.3f}: "
        + ("equal within it" if result["equal_within_standard_error"] else "not equal")
    )
    print(f"{result['labelled_bars_per_s']:,.0f} labelled bars a second, {result['gemm_share']:.0%} of the GEMM peak")


if __name__ == "__main__":
    main()
