"""One seeded market for all tests."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings

from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def market() -> pl.DataFrame:
    """Two planted symbols of one class, 1,400 bars each: x predicts 5 % of the next bar's variance."""
    return synthetic.b1(1400, seed=11, r2=0.05, symbols=2)


@pytest.fixture(scope="session")
def samples(market: pl.DataFrame) -> Samples:
    """Its samples with two features, T = 30, h = 5."""
    return make_samples(market, ("ret_log_1", "x"))["index"]


@pytest.fixture
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of trials of the test's own."""
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path / "data"))
