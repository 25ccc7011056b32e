"""A run that the report can read, of which a test gives the parts that it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from gatecast.experiment import Experiment
from gatecast.forecasting.forecaster import Forecaster
from gatecast.forecasting.schedule import Schedule
from gatecast.trading.book import Book, no_holdings
from gatecast.trading.selection import SelectionSettings
from gatecast.trading.signals import SignalSettings
from gatecast.trading.strategies import Strategy, StrategySettings

NO_FORECASTS = pl.DataFrame(
    schema={
        "symbol": pl.String, "time": pl.Datetime("us", "UTC"), "model": pl.String, "head": pl.String, "step": pl.Int64,
        "value": pl.Float64,
    }
)  # fmt: skip


@dataclass(frozen=True)
class FakeExperiment:
    """The settings that the report reads; `settings` is what it lists."""

    name: str = "two indices"
    signals: SignalSettings = field(default_factory=SignalSettings)
    settings: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    model: dict[str, Forecaster] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    strategies: StrategySettings = field(default_factory=StrategySettings)
    book: Book = field(default_factory=Book)
    strategy: dict[str, Strategy] = field(default_factory=lambda: Experiment().strategy)

    def to_dict(self) -> dict[str, Any]:
        return self.settings


@dataclass(frozen=True)
class FakeRun:
    """The parts of a `Run` that the report reads, empty unless given."""

    experiment: FakeExperiment = field(default_factory=FakeExperiment)
    bars: pl.DataFrame = field(default_factory=pl.DataFrame)
    forecasts: pl.DataFrame = field(default_factory=NO_FORECASTS.clone)
    signals: pl.DataFrame = field(default_factory=pl.DataFrame)
    weights: pl.DataFrame = field(default_factory=pl.DataFrame)
    equity: pl.DataFrame = field(default_factory=pl.DataFrame)
    scores: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    book: pl.DataFrame = field(default_factory=no_holdings)

    def scan_forecasts(self) -> pl.LazyFrame:
        return self.forecasts.lazy()
