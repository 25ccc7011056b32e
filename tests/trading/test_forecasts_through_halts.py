"""Through which sessions a forecast of volatility stands, and what the findings count."""

from __future__ import annotations

import numpy as np

from gatecast.evaluation.findings import unforecast
from gatecast.trading.wanted import HALTED, through_halts


def test_a_forecast_stands_through_a_halt_and_not_at_a_bar_without_one() -> None:
    """20 bars with a forecast, 12 sessions without a bar, 30 bars without a forecast, a halt of 5, and a forecast."""
    traded = np.ones((68, 1), np.bool_)
    traded[20:32] = traded[62:67] = False
    forecasts = np.full((68, 1), np.nan)
    forecasts[:20], forecasts[67] = 0.01, 0.02
    found = through_halts(forecasts, traded)[:, 0]
    assert (found[:32] == 0.01).all()
    assert np.isnan(found[32:67]).all()
    assert found[67] == 0.02
    (said,) = unforecast(["A"], traded, found[:, None], np.where(np.isfinite(found), 0.5, 0.0)[:, None])
    assert said.sentence.startswith("A had no forecast of volatility at 30 of 51 closes: nothing of it is held then")


def test_a_forecast_does_not_stand_through_a_halt_without_end() -> None:
    traded = np.zeros((HALTED + 2, 1), np.bool_)
    traded[0] = True
    found = through_halts(np.where(traded, 0.01, np.nan), traded)[:, 0]
    assert np.isfinite(found).tolist() == [True] * (HALTED + 1) + [False]
