"""Every forecaster goes on from its last fit as if all folds were fitted at once, and forecasts each row by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from gatecast.forecasting.forecaster import ALONE, FittedForecaster, Forecaster, Task, from_state, state_of
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.garch import Garch
from gatecast.forecasting.models.markov import HiddenMarkov
from gatecast.forecasting.models.residual_lstm import ResidualLSTM
from gatecast.forecasting.models.tft import TFT
from gatecast.forecasting.panel import PANEL
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.forecasting.tuning.tuned import TunedLSTM, Tuning
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

NETWORK = {"units": 16, "layers": 1, "seeds": 1, "epochs": 1}
SMALL: dict[str, Forecaster] = {
    name: row.forecaster for name, row in PANEL.items() if name not in ("lstm", "residual_lstm", "forest", "gjr")
} | {
    "forest": PANEL["forest"].forecaster.replace(trees=3),
    "gjr": Garch(asymmetric=True, every=2),
    "residual_lstm": ResidualLSTM(units=16, seeds=1, epochs=1, every=2),
    "lstm": LSTM(**NETWORK, every=2),
    "lstm of two features": LSTM(**NETWORK, features=("x",), selection=True),
    "lstm with warm starts": LSTM(**NETWORK, warm_start=True),
    "tuned": TunedLSTM(
        lstm=LSTM(**NETWORK, selection=True),
        tuning=Tuning(trials=2, every="6M", folds=1, units=(16, 32), layers=(1, 1)),
    ),
    "markov": HiddenMarkov(starts=1),
    "tft": TFT(units=8, epochs=1, every=2),
}  # fmt: skip


@pytest.fixture(scope="module")
def market() -> Samples:
    return make_samples(synthetic.b1(560, seed=3, r2=0.05, symbols=2), ("ret_log_1", "x"))["index"]


@pytest.fixture(scope="module")
def hourly() -> Samples:
    """Four bars a session, so that forecasters that know the hour learn it."""
    bars = synthetic.b1(900, seed=3, r2=0.05).sort("time")
    day = pl.int_range(pl.len()) // 4
    times = (
        bars["time"].gather(bars.select(day).to_series())
        + bars.select(pl.duration(hours=pl.int_range(pl.len()) % 4 - 3)).to_series()
    )
    bars = bars.with_columns(time=times, known_at=times).with_columns(pl.lit(0, pl.Int32).alias("segment"))
    samples = make_samples(bars, ("ret_log_1", "x"))["index"]
    assert samples.session_bars > 1
    return samples


def folds_of(samples: Samples, schedule: Schedule) -> list[Fold]:
    return [fold.on(samples) for fold in schedule.folds(samples.times, samples.known_at)]


def same_forecasts(mine: FittedForecaster, theirs: FittedForecaster, samples: Samples, rows: np.ndarray) -> None:  # type: ignore[type-arg]
    found, expected = mine.predict(samples, rows), theirs.predict(samples, rows)
    assert found.keys() == expected.keys()
    for head, values in expected.items():
        np.testing.assert_array_equal(found[head], values, head)


def check(forecaster: Forecaster, samples: Samples, folds: Sequence[Fold]) -> None:
    """A fit in two parts is one in one part; each row's forecast is its own; so too of a fit from disk."""
    whole = forecaster.fit_many(folds, ALONE)
    assert len(whole) == len(folds) >= 4
    rows = folds[-1].test
    for since in (1, 2, 3):
        past = whole[since - 1]
        arrays, settings = state_of(forecaster, past)
        told: list[int] = []
        task = Task(since=since, past=from_state(arrays, settings), on_fit=told.append)
        rest = forecaster.fit_many(folds, task)
        assert len(rest) == len(folds) - since
        for mine, theirs in zip(rest, whole[since:], strict=True):
            same_forecasts(mine, theirs, samples, rows)
            assert getattr(mine, "searches", ()) == getattr(theirs, "searches", ())
            np.testing.assert_array_equal(getattr(mine, "selected", None), getattr(theirs, "selected", None))
    together = whole[-1].predict(samples, rows)
    for place in (0, len(rows) // 2, len(rows) - 1):
        for some in (slice(place, place + 1), slice(max(place - 2, 0), place + 1)):
            for head, values in whole[-1].predict(samples, rows[some]).items():
                np.testing.assert_array_equal(values, together[head][some], head)


@pytest.mark.parametrize("name", SMALL)
def test_a_forecaster_goes_on_from_its_last_fit(name: str, market: Samples) -> None:
    schedule = Schedule(train="6M", refit="3M", minimum="6M")
    check(SMALL[name], market, folds_of(market, schedule)[:4])


@pytest.mark.parametrize("name", [name for name, row in PANEL.items() if row.forecaster.kind == "by_hour"])
def test_a_forecaster_that_knows_the_hour_goes_on_from_its_last_fit(name: str, hourly: Samples) -> None:
    schedule = Schedule(train="4M", refit="1M", minimum="3M")
    check(SMALL[name], hourly, folds_of(hourly, schedule)[:4])
