"""Two years of ten symbols, bar by bar through the chain as live feeds it, beside one chain over all bars."""

from __future__ import annotations

from collections.abc import Iterator

from gatecast.experiment import Experiment
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.live.replay import replay
from gatecast.market import synthetic
from soak.cases import Case

SYMBOLS, BEFORE, CLOSES = 10, 600, 504
"""Symbols, bars before the first close that is made by itself, and closes that are: two years."""


def replayed(seed: int, share: float) -> Iterator[Case]:
    """Forecasts, signals, strategies and sizes of each close, monthly refits among them, equal to the bit."""
    closes = max(25, round(share * CLOSES))
    bars = synthetic.b1(BEFORE + closes, seed=seed + 1, r2=0.05, symbols=SYMBOLS)
    experiment = Experiment(
        models=("lstm", "forest", "ridge", "logistic"), features=("x", "ret_log_1"), lookback=10,
        model={"lstm": LSTM(units=16, layers=1, seeds=1, epochs=2), "forest": Forest(trees=5)},
        too_good=("planted",),
    )  # fmt: skip
    found = replay(experiment, bars, since=bars["time"].unique().sort()[-closes])
    wrong = "" if found.equal and found.closes == closes else found.message
    yield Case("replay", f"{found.closes} closes of {SYMBOLS} symbols bar by bar", wrong)
