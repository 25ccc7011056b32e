"""gatecast forecasts markets with LSTM networks, honestly: walk-forward, beside honest rivals, with a verdict.

    import gatecast

    run = gatecast.run(gatecast.Experiment(bars="bars.csv"))
    print(run.summary())

Every stage also works by itself, see `examples/every_stage.py`. Names are imported when they are first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatecast import (
        audits,
        compute,
        errors,
        evaluation,
        forecasting,
        market,
        metrics,
        report,
        samples,
        studies,
        trading,
    )
    from gatecast.audits.full import audit
    from gatecast.errors import GatecastError
    from gatecast.evaluation.judge import judge
    from gatecast.experiment import Control, Experiment
    from gatecast.explanations import explain
    from gatecast.forecasting.combining.ensemble import Ensemble
    from gatecast.forecasting.combining.intervals import Intervals
    from gatecast.forecasting.lstm import LSTM
    from gatecast.forecasting.models.forest import Forest
    from gatecast.forecasting.models.linear import Ridge
    from gatecast.forecasting.models.logistic import Logistic
    from gatecast.forecasting.schedule import Schedule
    from gatecast.forecasting.tuning.tuned import Tuning
    from gatecast.forecasting.walkforward import walk_forward
    from gatecast.live import forecast_newest
    from gatecast.machine import Machine
    from gatecast.market.reading import BarsSettings
    from gatecast.market.sources import read_bars
    from gatecast.report import save_run
    from gatecast.runs import Run, run
    from gatecast.samples.features import compute_features
    from gatecast.samples.windows import make_samples
    from gatecast.store import load_models, load_run
    from gatecast.studies.cadence import cadence
    from gatecast.studies.comparing import compare
    from gatecast.studies.judging import judge_forecasts
    from gatecast.studies.placebo import placebo
    from gatecast.studies.sensitivity import sensitivity
    from gatecast.studies.truth import truth
    from gatecast.studies.tune import tune
    from gatecast.studies.unseal import unseal
    from gatecast.trading.backtest import backtest
    from gatecast.trading.costs import Costs
    from gatecast.trading.selection import SelectionSettings
    from gatecast.trading.signals import SignalSettings
    from gatecast.trading.strategies import StrategySettings

__all__ = [
    "LSTM",
    "BarsSettings",
    "Control",
    "Costs",
    "Ensemble",
    "Experiment",
    "Forest",
    "GatecastError",
    "Intervals",
    "Logistic",
    "Machine",
    "Ridge",
    "Run",
    "Schedule",
    "SelectionSettings",
    "SignalSettings",
    "StrategySettings",
    "Tuning",
    "audit",
    "audits",
    "backtest",
    "cadence",
    "chain_of",
    "compare",
    "compute",
    "compute_features",
    "errors",
    "evaluation",
    "explain",
    "forecast_newest",
    "forecasting",
    "judge",
    "judge_forecasts",
    "load_models",
    "load_run",
    "make_samples",
    "market",
    "metrics",
    "placebo",
    "read_bars",
    "report",
    "run",
    "samples",
    "save_run",
    "sensitivity",
    "studies",
    "trading",
    "truth",
    "tune",
    "unseal",
    "walk_forward",
]

_HOMES = {
    "BarsSettings": "market.reading",
    "Control": "experiment",
    "Costs": "trading.costs",
    "Ensemble": "forecasting.combining.ensemble",
    "Experiment": "experiment",
    "Forest": "forecasting.models.forest",
    "GatecastError": "errors",
    "Intervals": "forecasting.combining.intervals",
    "LSTM": "forecasting.lstm",
    "Logistic": "forecasting.models.logistic",
    "Machine": "machine",
    "Ridge": "forecasting.models.linear",
    "Run": "runs",
    "Schedule": "forecasting.schedule",
    "SelectionSettings": "trading.selection",
    "SignalSettings": "trading.signals",
    "StrategySettings": "trading.strategies",
    "Tuning": "forecasting.tuning.tuned",
    "audit": "audits.full",
    "backtest": "trading.backtest",
    "cadence": "studies.cadence",
    "compare": "studies.comparing",
    "compute_features": "samples.features",
    "explain": "explanations",
    "forecast_newest": "live",
    "judge": "evaluation.judge",
    "judge_forecasts": "studies.judging",
    "load_models": "store",
    "chain_of": "store",
    "load_run": "store",
    "make_samples": "samples.windows",
    "placebo": "studies.placebo",
    "read_bars": "market.sources",
    "run": "runs",
    "save_run": "report",
    "sensitivity": "studies.sensitivity",
    "truth": "studies.truth",
    "tune": "studies.tune",
    "unseal": "studies.unseal",
    "walk_forward": "forecasting.walkforward",
}
"""Name -> the module that it lives in."""

_SUBPACKAGES = {
    "audits": (),
    "compute": (),
    "errors": (),
    "evaluation": ("verdict",),
    "forecasting": ("panel", "schedule", "walkforward"),
    "market": ("bars", "sources", "synthetic"),
    "metrics": ("forecast", "overfitting", "returns", "significance"),
    "report": (),
    "samples": ("features", "targets", "windows"),
    "studies": (),
    "trading": ("backtest", "signals", "strategies"),
}
"""Subpackage -> modules that come with it, so that `gatecast.metrics.forecast` needs no import of its own."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"gatecast.{_HOMES[name]}"), name)
    elif name in _SUBPACKAGES:
        value = import_module(f"gatecast.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("gatecast")
    else:
        raise AttributeError(f"module 'gatecast' has no attribute {name!r}")
    for package in _SUBPACKAGES.keys() & {module.removeprefix("gatecast.") for module in sys.modules}:
        for module in _SUBPACKAGES[package]:
            import_module(f"gatecast.{package}.{module}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__"})
