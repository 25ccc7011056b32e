"""One seeded market for all tests, and a data folder of their own."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ledger of trials is the test's own."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("GATECAST_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def market() -> pl.DataFrame:
    """Two planted symbols of one class, 1,400 bars each: x predicts 5 % of the next bar's variance."""
    return synthetic.b1(1400, seed=11, r2=0.05, symbols=2)


@pytest.fixture(scope="session")
def samples(market: pl.DataFrame) -> Samples:
    """Its samples with two features, T = 30, h = 5."""
    return make_samples(market, ("ret_log_1", "x"))["index"]
