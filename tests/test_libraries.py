"""What is imported of other libraries, and what is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.forecasting.lstm import LSTM
from gatecast.market import synthetic
from gatecast.provenance import libraries_of, other_versions

USES_OF_ARCH = """
import sys
import numpy as np
from gatecast.forecasting.models.garch import fit_garch
from gatecast.market.sources import read_bars
from gatecast.metrics.many import block_length
draw = np.random.default_rng(0).standard_normal((300, 2))
fit_garch(draw[:, 0])
block_length(draw)
read_bars("embedded")
assert "arch" in sys.modules
print("matplotlib" in sys.modules)
import matplotlib.figure
"""


def test_matplotlib_and_its_search_for_fonts_are_not_imported_with_arch() -> None:
    ran = subprocess.run([sys.executable, "-c", USES_OF_ARCH], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]


def test_a_model_whose_package_is_missing_names_the_extra_before_anything_is_fitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    bars = tmp_path / "bars.csv"
    synthetic.a1(800, seed=1).select("open", "high", "low", "close", "volume", date=pl.col("time").dt.date()).write_csv(
        bars
    )
    settings = tmp_path / "settings.toml"
    settings.write_text('models = ["logistic", "tft"]\n[signals]\nmodel = "tft"\nconfirmed_by = "tft"\n')
    assert execute(["run", str(settings), "--bars", str(bars), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "the model 'tft' needs the package torch" in said
    assert "pip install 'gatecast[torch]'" in said
    assert not (tmp_path / "run").exists()


def test_the_provenance_names_torch_only_where_a_model_needs_it() -> None:
    plain, with_twin = (libraries_of([{"lstm": LSTM(engine=engine)}]) for engine in ("compiled", "torch"))
    assert "torch" not in plain
    assert "torch" in with_twin
    assert other_versions({"libraries": {**plain, "torch": "0.0"}})["torch"][0] == "0.0"
