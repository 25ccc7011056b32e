"""Do chunks learn what windows learn? Out-of-sample R² of both, paired by seed, on four tasks.

- volatility: log variance of the S&P 500 over the next 5 bars, yearly refits on four years, scored 2005-2018.
- return: its return over the next 5 bars, the same refits, against zero.
- b2: the planted market whose next return is .3 sign(z_t · z_{t-4}) plus noise; 20,000 rows to learn from.
- selection: B1 of R² 5 % with twenty features of noise beside it, 8,000 rows; for `--set selection=true`.
- memory: an answer planted on bars t-29..t-16, which the gradient reaches only through a chunk's burn-in.

Run: `python benchmarks/quality.py`, or with `--tasks b2 --set chunk=30 --set learning_rate=0.001`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np

from gatecast.compute.parallel import fan_out
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import predict_windows, train_network
from gatecast.forecasting.schedule import Schedule
from gatecast.market.sources import read_bars
from gatecast.samples.windows import make_samples

LOOKBACK, HORIZON = 30, 5
Score = Callable[[dict, int], tuple[float, int]]


def planted(inputs: np.ndarray, answer: np.ndarray, train: int, validation: int) -> Score:
    """R² on the rows after `train` + `validation`, of one network on one fit; and the epoch that it is from."""
    inputs, answer = inputs.astype(np.float32), answer.astype(np.float32)[:, None]
    rows = np.arange(LOOKBACK - 1, len(inputs))
    first, test = rows[:train], rows[train + validation :]

    def score(changes: dict, seed: int) -> tuple[float, int]:
        settings = LSTM(**({"horizon": 1, "heads": ("return",), "lookback": LOOKBACK} | changes))
        fit = train_network(settings, inputs, answer, first, rows[train : train + validation], seed)
        forecast = predict_windows(fit.weights, settings, inputs, test, 1)
        error = np.sum((answer[test] - forecast) ** 2) / np.sum((answer[test] - answer[first].mean()) ** 2)
        return 1 - float(error), fit.best_epoch

    return score


def b2(seed: int) -> Score:
    """r_{t+1} = .3 sign(z_t z_{t-4}) + e, as `market.synthetic.b2` without the bars around it. Optimum .0826."""
    draw = np.random.default_rng(1000 + seed)
    z, shock = draw.standard_normal(30_034), draw.standard_normal(30_034)
    answer = shock.copy()
    answer[4:] += 0.3 * np.sign(z[4:] * z[:-4])
    return planted(z[5:, None], answer[5:], 20_000, 5_000)


def selection(seed: int) -> Score:
    """r_{t+1} = √.05 x_t + √.95 e, x among twenty features of noise. Optimum .05."""
    draw = np.random.default_rng(3000 + seed)
    x, shock = draw.standard_normal((16_040, 21)), draw.standard_normal(16_040)
    return planted(x, np.sqrt(0.05) * x[:, 0] + np.sqrt(0.95) * shock, 6_400, 1_600)


def memory(seed: int) -> Score:
    """The mean of z over bars t-29..t-16, and as much noise again. Optimum .49."""
    draw = np.random.default_rng(2000 + seed)
    z, shock = draw.standard_normal(6_060), draw.standard_normal(6_060)
    old = np.convolve(z, np.ones(14), "full")[: len(z)]  # ends at t
    answer = np.zeros(len(z))
    answer[16:] = 0.7 * old[:-16] / np.sqrt(14)
    return planted(z[30:, None], (answer + np.sqrt(0.51) * shock)[30:], 3_200, 800)


def sp500(head: str) -> Score:
    """R² of yearly refits on four years, out of sample: of log variance against its mean, of returns against zero."""
    bars = read_bars("embedded", symbols=("SP500",))
    samples = make_samples(bars, lookback=LOOKBACK, horizon=HORIZON)["index"]
    folds = [
        fold.on(samples)
        for fold in Schedule(train="4Y", refit="1Y", minimum="4Y").folds(samples.times, samples.known_at)
    ]
    tests = np.concatenate([fold.test for fold in folds])
    tests = tests[~np.isnat(samples.known_at[tests])]
    value = samples.targets[head].value[samples.ends[tests]]

    def score(changes: dict, seed: int) -> tuple[float, int]:
        settings = LSTM(**({"heads": (head,), "seeds": 1, "seed": seed} | changes))
        found: dict[int, float] = {}
        epochs = []
        for fold, fitted in zip(folds, settings.fit_many(folds), strict=True):
            forecast = fitted.predict(samples, fold.test)[head]
            found |= dict(zip(fold.test.tolist(), forecast, strict=True))
            epochs.append(fitted.epochs[0])
        forecast = np.array([found[row] for row in tests.tolist()])
        if head == "volatility":
            error = np.sum((value - np.log(forecast)) ** 2) / np.sum((value - value.mean()) ** 2)
        else:
            error = np.sum((value[:, -1] - forecast[:, -1]) ** 2) / np.sum(value[:, -1] ** 2)
        return 1 - float(error), int(np.mean(epochs))

    return score


TASKS: dict[str, Callable[[int], Score]] = {
    "volatility": lambda seed: sp500("volatility"),
    "return": lambda seed: sp500("return"),
    "b2": b2,
    "memory": memory,
    "selection": selection,
}
OPTIMUM = {"b2": 0.09 / 1.09, "memory": 0.49, "selection": 0.05}


def compare(task: str, variants: dict[str, dict], seeds: range, jobs: int) -> dict[str, list[tuple[float, int]]]:
    """variant -> (R², epochs) of each seed; variants share data and initial weights."""
    work = [(name, seed) for name in variants for seed in seeds]
    scores = fan_out(lambda item: TASKS[task](item[1])(variants[item[0]], item[1]), work, jobs=jobs)
    return {name: [s for (n, _), s in zip(work, scores, strict=True) if n == name] for name in variants}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=("chunks", "windows"), help="one way of training instead of both")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the LSTM")
    parser.add_argument("--json", action="store_true", help="one JSON object a task")
    options = parser.parse_args()
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in options.set)}
    ways = [options.only] if options.only else ["chunks", "windows"]
    for task in options.tasks:
        seeds = range(options.first, options.first + options.seeds)
        scores = compare(task, {way: {"training": way, **changes} for way in ways}, seeds, options.jobs)
        if options.json:
            print(json.dumps({"task": task, **scores}), flush=True)
            continue
        print(f"{task}" + (f", optimum R² {OPTIMUM[task]:.4f}" if task in OPTIMUM else ""))
        for way, found in scores.items():
            values = [r2 for r2, _ in found]
            line = " ".join(f"{value:.4f}" for value in values)
            print(f"  {way:<8} R² median {np.median(values):.4f}, mean {np.mean(values):.4f}   {line}   "
                  f"epochs {[epochs for _, epochs in found]}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
