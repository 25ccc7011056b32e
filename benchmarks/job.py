"""The one walk-forward job that everything is timed on: fixed work, no early stopping."""

from __future__ import annotations

from functools import cache

import numpy as np

from gatecast.market.sources import read_bars
from gatecast.samples.features import DEFAULT_FEATURES, compute_features

LOOKBACK, HORIZON, WINDOW, STEP, BATCH = 30, 5, 504, 21, 64
LABELS = WINDOW - HORIZON - LOOKBACK + 1


@cache
def read_job(target: str = "return") -> tuple[np.ndarray, np.ndarray]:
    """(bars, 5) features and (bars,) returns over the next 5 bars of the S&P 500, or the log of their "variance"."""
    bars = read_bars("embedded", symbols=("SP500",))
    table = compute_features(bars).select(DEFAULT_FEATURES).to_numpy()
    log_close = np.log(bars["close"].to_numpy())
    answer = np.full(len(bars), np.nan)
    answer[:-HORIZON] = log_close[HORIZON:] - log_close[:-HORIZON]
    if target == "variance":
        moves = np.lib.stride_tricks.sliding_window_view(np.diff(log_close), HORIZON)
        answer[:-HORIZON] = np.log(np.maximum((moves**2).mean(axis=1), 1e-7))
    return np.nan_to_num(table), answer


def starts(refits: int) -> list[int]:
    """The bars at which the refits take place."""
    return [1000 + STEP * number for number in range(refits)]


def fold(features: np.ndarray, answer: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled features, scaled answers and training rows of the refit at bar `start`: nothing later is used."""
    first, last = start - WINDOW, start - HORIZON
    centre, spread = features[first:last].mean(0), features[first:last].std(0)
    scaled = ((features - centre) / spread).astype(np.float32)
    return scaled, (answer / answer[first:last].std()).astype(np.float32), np.arange(first + LOOKBACK - 1, last)
