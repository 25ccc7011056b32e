"""A store with two symbols of difficult names, a model, and decisions of two closes; and a client of its service."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from served import FIRST, HOUR, SYMBOLS
from starlette.testclient import TestClient

from gatecast.experiment import Experiment
from gatecast.live import retrain, update
from gatecast.market import synthetic
from gatecast.service.app import make_app


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    names = dict(zip(("B1_0", "B1_1"), SYMBOLS, strict=True))
    made = synthetic.b1(FIRST + 3, seed=1, r2=0.08, symbols=2)
    return made.with_columns(pl.col("symbol").replace_strict(names)).sort("symbol", "time")


@pytest.fixture(scope="session")
def closes(bars: pl.DataFrame) -> list[datetime]:
    found: list[datetime] = bars["time"].unique().sort().to_list()
    return found


@pytest.fixture(scope="session")
def made(bars: pl.DataFrame, closes: list[datetime], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("served") / "store"
    experiment = Experiment(
        features=("x", "ret_log_1"), lookback=10, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"}, schedule={"train": "1Y", "minimum": "1Y", "refit": "3M"},
        selection={"evidence": 1.0, "minimum_days": 20}, too_good=("planted",),
    )  # fmt: skip
    for place in (FIRST - 1, FIRST):
        now = closes[place] + HOUR
        update(folder, bars.filter(pl.col("time") <= now), now=now, experiment=experiment)
        if place == FIRST - 1:
            retrain(folder, now=now)
    return folder


@pytest.fixture(scope="session")
def now(closes: list[datetime]) -> datetime:
    """An hour after the newest close."""
    return closes[FIRST] + HOUR


@pytest.fixture(scope="session")
def client(made: Path, now: datetime) -> TestClient:
    """A client of the service on this machine; answers are as another process would get them."""
    return TestClient(make_app(made, now=now), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"
