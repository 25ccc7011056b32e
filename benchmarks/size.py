"""How often does each test claim something where there is nothing, at a nominal 5 %?

- fixed: the tests of `gatecast truth` on its nulls, one look at the end; SPA, StepM and the confidence set with them.
- watched: `sequential_mean` and a fixed one-sided 5 % test, both looked at on each of 756 days; and their power.

Run: `python benchmarks/size.py`, or with `--parts watched --runs 200`. Gates: 8 % fixed, 5 % watched.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from gatecast.metrics import many, significance
from gatecast.studies.truth import STATISTICS

Draw = np.random.Generator
LEVEL, DAYS, LEARNING = 0.05, 756, 60


def autoregressive(draw: Draw, n: int, phi: float = 0.5) -> np.ndarray:
    return lfilter([1.0], [1.0, -phi], draw.standard_normal(n + 100))[100:]


def sums(draw: Draw, n: int, horizon: int) -> np.ndarray:
    return np.convolve(draw.standard_normal(n + horizon - 1), np.ones(horizon), "valid")


# ── one look ─────────────────────────────────────────────────────────────────────────────────────


def mincer_zarnowitz(draw: Draw, n: int = 1000) -> float:
    """Answers over 5 bars that overlap, of which a persistent forecast knows a part without bias."""
    forecast = autoregressive(draw, n, 0.9)
    return significance.mincer_zarnowitz(forecast + sums(draw, n, 5), forecast, 5).pvalue


def alpha(draw: Draw, n: int = 1000) -> float:
    """Profits over 5 bars that overlap, half of them the market's."""
    market = sums(draw, n, 5)
    return significance.hac_alpha(0.5 * market + sums(draw, n, 5), market, 10).pvalue


def model_losses(null: str, draw: Draw) -> np.ndarray:
    """(250, 11) losses of a benchmark and of ten models, none of them better."""
    losses = draw.standard_normal((250, 11))
    if null == "seven worse":
        losses[:, 4:] += 0.3
    if null == "skewed, dependent":
        losses = np.column_stack([autoregressive(draw, 250) ** 2 for _ in range(11)])
    if null == "noise of many sizes":
        losses[:, 1:] = losses[:, [0]] + losses[:, 1:] * np.geomspace(0.1, 10, 10)
    return losses


def step_m(null: str, draw: Draw) -> float:
    losses = model_losses(null, draw)
    return 0.0 if many.step_m(losses[:, 0], losses[:, 1:], draws=300, seed=int(draw.integers(2**31))).models else 1.0


def left_out(null: str, draw: Draw) -> float:
    """The p-value that the benchmark is the best, which it is."""
    losses = model_losses(null, draw)
    return float(many.model_confidence_set(losses, draws=300, seed=int(draw.integers(2**31))).pvalues[0])


NULLS = ("equal", "seven worse", "skewed, dependent", "noise of many sizes")
FIXED: dict[str, Callable[[Draw], float]] = {
    **STATISTICS,
    "Mincer-Zarnowitz, h = 5": mincer_zarnowitz,
    "alpha, overlapping profits": alpha,
    **{f"StepM, {null}": partial(step_m, null) for null in NULLS},
    **{f"confidence set, {null}": partial(left_out, null) for null in NULLS[:3]},
}


def fixed(runs: int) -> None:
    print(f"{'one look: share of p-values below 5 %':44}{'runs':>6}{'size':>8}")
    for number, (name, pvalue) in enumerate(FIXED.items()):
        count = runs if number < len(STATISTICS) and "SPA" not in name else runs // 2
        claims = [pvalue(np.random.default_rng([number, seed])) < LEVEL for seed in range(count)]
        print(f"{name:44}{count:6}{np.mean(claims):8.3f}", flush=True)


# ── looked at every day ──────────────────────────────────────────────────────────────────────────


def qlike_difference(draw: Draw) -> np.ndarray:
    """Losses of two variance forecasts that are equally far off, each with noise of its own."""
    proxy = draw.standard_normal(DAYS) ** 2
    one, other = (proxy * np.exp(-error) + error for error in 0.3 * draw.standard_normal((2, DAYS)))
    return one - other


def biased_qlike_difference(draw: Draw) -> np.ndarray:
    """Of a forecast e^-.5 times the true variance, less what it costs on average: rare days lose much."""
    proxy = draw.standard_normal(DAYS) ** 2
    return -(np.exp(0.5) - 1) * (proxy - 1)


WATCHED: dict[str, tuple[Callable[[Draw], np.ndarray], int]] = {
    "Gaussian": (lambda draw: draw.standard_normal(DAYS), 0),
    "t5": (lambda draw: draw.standard_t(5, DAYS), 0),
    "squared errors": (lambda draw: draw.standard_t(5, DAYS) ** 2 - draw.standard_t(5, DAYS) ** 2, 0),
    "QLIKE, equally noisy": (qlike_difference, 0),
    "QLIKE, biased, skew -2.8": (biased_qlike_difference, 0),
    "exponential, skew -2": (lambda draw: 1 - draw.exponential(size=DAYS), 0),
    "AR(.5), lag 6": (lambda draw: autoregressive(draw, DAYS), 6),
    "squares of AR(.5), lag 6": (lambda draw: autoregressive(draw, DAYS) ** 2 - autoregressive(draw, DAYS) ** 2, 6),
    "minus squares of AR(.5), skew -2.8, lag 6": (lambda draw: 4 / 3 - autoregressive(draw, DAYS) ** 2, 6),
    "sums over 5 days, lag 4": (lambda draw: sums(draw, DAYS, 5), 4),
    "sums over 5 days, lag 8": (lambda draw: sums(draw, DAYS, 5), 8),
    "sums over 20 days, lag 19": (lambda draw: sums(draw, DAYS, 20), 19),
}


def watched_fixed(values: np.ndarray, lag: int) -> bool:
    """Does a one-sided 5 % test of all days so far reject on any day but the first 60?"""
    deviation = significance.hac_mean(values, lag).standard_error * np.sqrt(DAYS)
    statistic = np.cumsum(values) / np.sqrt(np.arange(1, DAYS + 1)) / deviation
    return bool((ndtr(-statistic[LEARNING:]) < LEVEL).any())


def watched(runs: int) -> None:
    print(f"\n{f'watched on {DAYS} days: share of false alarms':44}{'runs':>6}{'e-value':>9}{'fixed':>8}")
    for number, (name, (make, lag)) in enumerate(WATCHED.items()):
        series = [make(np.random.default_rng([100 + number, seed])) for seed in range(runs)]
        alarms = np.mean([significance.sequential_mean(values, lag).pvalue < LEVEL for values in series])
        careless = np.mean([watched_fixed(values, lag) for values in series])
        print(f"{name:44}{runs:6}{alarms:9.3f}{careless:8.3f}", flush=True)
    print(f"\n{f'found within {DAYS} days':44}{'runs':>6}{'e-value':>9}{'one test at the end':>21}")
    for mean in (0.05, 0.1, 0.15, 0.2):
        series = [mean + np.random.default_rng([200, seed]).standard_normal(DAYS) for seed in range(runs)]
        found = np.mean([significance.sequential_mean(values).pvalue < LEVEL for values in series])
        at_end = np.mean([significance.hac_mean(values, 0).statistic > -ndtri(LEVEL) for values in series])
        print(f"{f'a mean of {mean} standard deviations':44}{runs:6}{found:9.3f}{at_end:21.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("fixed", "watched"), default=("fixed", "watched"))
    parser.add_argument("--runs", type=int, default=1000, help="simulated series; half of them for many models")
    options = parser.parse_args()
    for part in options.parts:
        {"fixed": fixed, "watched": watched}[part](options.runs)


if __name__ == "__main__":
    main()
