"""Time to quality: both sides stop early on the same rows, each at the best of three learning rates.

The job is that of `engine.py`, but for what is forecast: the log variance over the next 5 bars, which can be learned
(of returns, nothing to stop at is found by either), and that refits are a quarter apart, on years that no recipe was
chosen on. Of the 470 labels the last fifth validates, the 5 before it are
left out. Plain torch and gatecast take turns, refit by refit and rate by rate, on one thread, whose own CPU time
counts: what else the machine does reaches both. The rate is the one with the least validation loss over all refits, so
that nothing of the rows that follow is used; the other two are the search, and are told apart. Where a side then loses
more than a standard error on the 21 bars that follow, its patience is doubled until it does not, twice at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import peers
from job import HORIZON, LOOKBACK, STEP, fold, read_job

from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.lstm.training import predict_windows, train_network

RATES = (1e-3, 2.5e-3, 5e-3)
FIRST, APART = 3530, 58  # bars: 24 refits from 2013 to 2018; recipes were tried on refits up to 2012
EPOCHS, PATIENCE, DOUBLED = 60, 5, 2
OWN = {"forget_bias": 0.0}  # the default of 1 loses .16 more than torch here (standard error .05) in place of .035
SIDES = ("torch", "gatecast")

Refit = tuple[float, float, float, int]
"""Seconds of the thread, the best validation loss, the mean squared error on the bars that follow, and the epochs."""


def torch_refit(start: int, rate: float, patience: int) -> Refit:
    """One refit as everybody does it."""
    inputs, answers, train, validation, later = prepared(start)
    began = time.thread_time()
    check = peers.windows_of(inputs, validation), answers[validation]
    windows = peers.windows_of(inputs, train)
    fit = peers.torch_refit(windows, answers[train], EPOCHS, seed=start, rate=rate, check=check, patience=patience)
    forecast = fit.predict(peers.windows_of(inputs, later))
    return time.thread_time() - began, fit.validation_loss, error_of(forecast, answers[later]), fit.epochs


def gatecast_refit(start: int, rate: float, patience: int) -> Refit:
    """The same by gatecast's engine."""
    inputs, answers, train, validation, later = prepared(start)
    settings = LSTM(horizon=1, heads=("return",), learning_rate=rate, epochs=EPOCHS, patience=patience).replace(**OWN)
    began = time.thread_time()
    low = train[0] - LOOKBACK + 1
    near, table = inputs[low : later[-1] + 1], answers[low : later[-1] + 1, None]
    fit = train_network(settings, near, table, train - low, validation - low, start)
    forecast = predict_windows(fit.weights, settings, near, later - low, 1)
    seconds = time.thread_time() - began
    return seconds, min(fit.validation_loss), error_of(forecast, answers[later]), len(fit.train_loss)


def prepared(start: int) -> tuple[np.ndarray, ...]:
    """Scaled inputs and answers, and the rows that train, that validate and that follow."""
    features, answer = read_job("variance")
    inputs, answers, rows = fold(features, answer, start)
    cut = len(rows) * 4 // 5
    train, validation = rows[: cut - HORIZON], rows[cut:]
    return inputs, answers - answers[train].mean(), train, validation, np.arange(start, start + STEP)


def error_of(forecast: np.ndarray, answers: np.ndarray) -> float:
    """Mean squared error."""
    return float(np.mean((forecast[:, 0] - answers) ** 2))


def time_to_quality(refits: int, told: Callable[[str], None] = lambda _: None) -> dict:
    """Both sides at their best rate, `ratio_time_to_quality` being seconds a refit of torch over gatecast's."""
    import torch

    torch.set_num_threads(1)
    starts, sides = range(FIRST, FIRST + refits * APART, APART), (torch_refit, gatecast_refit)
    refit = dict(zip(SIDES, sides, strict=True))
    for side in SIDES:
        refit[side](starts[0], RATES[0], 1)  # imports, compiles, or reads the cache
    found = {side: np.zeros((len(RATES), len(starts), 4)) for side in SIDES}
    for number, start in enumerate(starts):
        for place, rate in enumerate(RATES):
            for side in SIDES:
                found[side][place, number] = refit[side](start, rate, PATIENCE)
        told(f"{number + 1} of {len(starts)} refits")
    best = {side: int(np.argmin(one[:, :, 1].mean(axis=1))) for side, one in found.items()}
    chosen = {side: found[side][best[side]] for side in SIDES}
    patience = dict.fromkeys(SIDES, PATIENCE)
    for _ in range(DOUBLED):
        gap, error = difference(chosen)
        if abs(gap) <= error:
            break
        worse = "torch" if gap < 0 else "gatecast"
        patience[worse] *= 2
        for number, start in enumerate(starts):
            chosen[worse][number] = refit[worse](start, RATES[best[worse]], patience[worse])
        told(f"{worse} with a patience of {patience[worse]}")
    gap, error = difference(chosen)
    seconds = {side: float(one[:, 0].mean()) for side, one in chosen.items()}
    return {
        "ratio_time_to_quality": seconds["torch"] / seconds["gatecast"],
        "equal_within_standard_error": bool(abs(gap) <= error),
        "loss_gatecast_minus_torch": gap,
        "standard_error": error,
        "sides": {
            side: {
                "s_per_refit": seconds[side],
                "s_of_the_search": float(found[side][:, :, 0].sum() / len(starts)),
                "learning_rate": RATES[best[side]],
                "patience": patience[side],
                "epochs": float(one[:, 3].mean()),
                "validation_loss": float(one[:, 1].mean()),
                "loss": float(one[:, 2].mean()),
            }
            for side, one in chosen.items()
        },
    }


def difference(chosen: dict[str, np.ndarray]) -> tuple[float, float]:
    """Mean of gatecast's loss minus torch's over the refits, and its standard error."""
    gaps = chosen["gatecast"][:, 2] - chosen["torch"][:, 2]
    return float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5)
