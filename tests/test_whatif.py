"""What if: other settings on stored forecasts are a run with these settings to the bit, and each is a trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import ledger_path, read_trials, unrecorded
from gatecast.experiment import Experiment
from gatecast.market import synthetic
from gatecast.runs import Run, run
from gatecast.store import load_run, save_run

BARS = synthetic.b1(1100, seed=5, r2=0.1, symbols=2)
FEW: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None,
    "schedule": {"refit": "1Y"}, "horizon": 1, "features": ("ret_log_1", "x"), "bars": BARS,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def planted() -> Run:
    """A run whose strategies hold something, on a market whose truth is known."""
    with unrecorded():
        return run(Experiment(name="planted", too_good=("planted",), **FEW))


@pytest.fixture(scope="module")
def doubtful() -> Run:
    """The same where what is too good is not allowed: nothing of the strategies is held."""
    with unrecorded():
        return run(Experiment(name="doubtful", **FEW))


CHANGES: list[dict[str, Any]] = [
    {"target": 0.05, "band": 0.2},
    {"costs": {"slippage_bps": 30.0}, "book.money.half_spread_bps": 8.0},
    {"selection": {"minimum_days": 300}, "strategies.target_volatility": 0.05, "signals.threshold": 1.0},
]


def assert_same(found: Any, full: Run) -> None:
    """Decisions, book and money of a what-if are those of a run, to the bit."""
    assert found.weights.equals(full.weights)
    assert found.equity.equals(full.equity)
    assert found.book.equals(full.book)
    assert found.signals.equals(full.signals)
    own = full.scores["book"]["risk"]["today"]["line"]
    (line,) = [one for one in full.scores["book"]["lines"] if one["line"] == own]
    assert found.scores["line"] == {name: value for name, value in line.items() if name not in ("line", "title")}
    assert found.scores["backtest"] == full.scores["backtest"]
    assert found.verdicts == full.scores["verdicts"]


@pytest.mark.parametrize("changes", CHANGES, ids=["book", "costs", "strategies"])
@pytest.mark.parametrize("name", ["planted", "doubtful"])
def test_a_what_if_is_the_run_with_these_settings(
    name: str, changes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    base: Run = request.getfixturevalue(name)
    with unrecorded():
        found = base.with_(**changes)
        full = run(found.experiment)
        assert_same(found, full)
    assert (full.weights["weight"] != 0).any() == (name == "planted")
    assert not full.book.equals(base.book)
