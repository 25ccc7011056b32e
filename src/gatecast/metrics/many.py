"""Which of many models beat the benchmark, and which can be the best? Both through `arch`, on bootstrapped rows.

Losses are (times, models), rows in order of time, one a bar or day; a row with a NaN is left out. `significance.spa`
asks the question before these: whether any of them is better at all.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.metrics.forecast import FloatArray
from gatecast.metrics.significance import block_length, hac_mean

LEAST_ROWS = 30


@dataclass(frozen=True)
class Superior:
    """`models`: the columns that beat the benchmark, ascending; `reason` says why where nothing could be tested."""

    models: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class ConfidenceSet:
    """`pvalues` (models,) that each is the best, `included` the columns that can be; NaN, none and a `reason` else."""

    pvalues: FloatArray
    included: tuple[int, ...]
    reason: str = ""


def step_m(
    benchmark_losses: ArrayLike,
    model_losses: ArrayLike,
    *,
    level: float = 0.05,
    block: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Superior:
    """Which models beat the benchmark, with at most `level` of a chance that any of them does not.

    `benchmark_losses` (times,), `model_losses` (times, models). Gains are divided by their standard errors first, so
    that a noisy model does not hide a good one. Romano and Wolf (2005), Econometrica 73.

    >>> losses = np.random.default_rng(0).standard_normal((500, 6))
    >>> losses[:, 2] -= 0.3
    >>> step_m(losses[:, 0], losses[:, 1:]).models
    (1,)
    """
    benchmark, models = np.asarray(benchmark_losses, np.float64), np.asarray(model_losses, np.float64)
    models = models[:, None] if models.ndim == 1 else models
    if benchmark.ndim != 1 or models.ndim != 2 or len(benchmark) != len(models):
        raise ValueError(
            f"expected losses (times,) and (times, models), got shapes {benchmark.shape} and {models.shape}."
        )
    gain = benchmark[:, None] - models
    gain = gain[~np.isnan(gain).any(axis=1)]
    if reason := _unusable(gain):
        return Superior((), reason)
    differing = np.flatnonzero(np.ptp(gain, axis=0) > 1e-13 * max(1e-300, float(np.abs(gain).max())))
    if not len(differing):
        return Superior((), "no model differs from the benchmark")
    gain = gain[:, differing]
    block = block_length(gain) if block is None else block
    error = np.array([hac_mean(column, int(np.ceil(block))).standard_error for column in gain.T])
    known = np.isfinite(error)
    if not known.any():
        return Superior((), "no gain has a positive variance estimate")
    from arch.bootstrap import StepM

    # the last column is the benchmark itself: arch fails once all columns are found to be better
    scaled = np.column_stack([gain[:, known] / error[known] / np.sqrt(len(gain)), np.zeros(len(gain))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = StepM(
            np.zeros(len(scaled)), -scaled, size=level, block_size=max(1, round(block)), reps=draws,
            studentize=False, seed=seed,
        )  # fmt: skip
        test.compute()
    found = differing[known][np.asarray(test.superior_models, np.int64)]
    return Superior(tuple(sorted(int(column) for column in found)))


def model_confidence_set(
    losses: ArrayLike, *, level: float = 0.1, block: float | None = None, draws: int = 1000, seed: int = 0
) -> ConfidenceSet:
    """Which models can be the best, given how noisy their losses are: a set that holds it with 1 - `level`.

    Models whose losses are the same share one answer. Hansen, Lunde and Nason (2011), Econometrica 79.

    >>> losses = np.random.default_rng(1).standard_normal((500, 3))
    >>> losses[:, 2] += 0.5
    >>> model_confidence_set(losses).included
    (0, 1)
    """
    table = np.asarray(losses, np.float64)
    if table.ndim != 2:
        raise ValueError(f"expected losses (times, models), got shape {table.shape}.")
    count = table.shape[1]
    table = table[~np.isnan(table).any(axis=1)]
    if reason := _unusable(table):
        return ConfidenceSet(np.full(count, np.nan), (), reason)
    twin = _twins(table)
    own = np.unique(twin)
    if len(own) == 1:
        return ConfidenceSet(np.ones(count), tuple(range(count)))
    from arch.bootstrap import MCS

    block = block_length(table - table.mean(axis=1, keepdims=True)) if block is None else block
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = MCS(table[:, own], size=level, reps=draws, block_size=max(1, round(block)), seed=seed)
        test.compute()
        order = test.pvalues.index.to_numpy().astype(np.int64)
        of_own = np.empty(len(own))
        of_own[order] = test.pvalues["Pvalue"].to_numpy()
    pvalues = of_own[np.searchsorted(own, twin)]
    return ConfidenceSet(pvalues, tuple(int(column) for column in np.flatnonzero(pvalues > level)))


def _unusable(table: FloatArray) -> str:
    if table.shape[1] == 0:
        return "there are no models"
    if len(table) < LEAST_ROWS:
        return f"{len(table)} rows are too few, at least {LEAST_ROWS} are needed"
    return "a loss is infinite" if np.isinf(table).any() else ""


def _twins(table: FloatArray) -> NDArray[np.int64]:
    """For each column the first one that differs from it by a constant no larger than rounding."""
    scale = max(float(np.abs(table).max()), 1e-300)
    first = np.arange(table.shape[1])
    for column in range(table.shape[1]):
        for earlier in range(column):
            if np.abs(table[:, column] - table[:, earlier]).max() <= 1e-12 * scale:
                first[column] = first[earlier]
                break
    return first
