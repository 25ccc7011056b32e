"""What is imported of other libraries, and what is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from gatecast.cli.app import execute
from gatecast.forecasting.lstm import LSTM
from gatecast.market import synthetic
from gatecast.provenance import libraries_of, other_versions

Torch = Callable[[str], None]
USES_OF_ARCH = """
import sys
import numpy as np
from gatecast.forecasting.models.garch import fit_garch
from gatecast.metrics.many import block_length
draw = np.random.default_rng(0).standard_normal((300, 2))
fit_garch(draw[:, 0])
block_length(draw)
assert "arch" in sys.modules
print("matplotlib" in sys.modules)
import matplotlib.figure
"""


def test_matplotlib_and_its_search_for_fonts_are_not_imported_with_arch() -> None:
    ran = subprocess.run([sys.executable, "-c", USES_OF_ARCH], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Torch:
    """Puts a file in the place of torch."""

    def put(code: str) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        del sys.modules["torch"]
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "torch.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return put


BROKEN = [
    ("raise ModuleNotFoundError(name='torch')", "which is not installed. Install it: pip"),
    ("raise ImportError('libcudart.so.12: no such file\\nand more')", "(ImportError: libcudart.so.12: no such file)"),
    ("raise OSError('WinError 126')", "which cannot be imported (OSError: WinError 126). Install it again: pip"),
    ("import torsh", "(ModuleNotFoundError: No module named 'torsh')"),
    ("raise SystemExit(3)", "(SystemExit: 3)"),
    ("", "which is there without '__version__'"),
]
TFT_RUN = 'models = ["logistic", "tft"]\n[signals]\nmodel = "tft"\nconfirmed_by = "tft"\n'
TWIN_RUN = 'models = ["logistic", "lstm"]\n[signals]\nconfirmed_by = "lstm"\n[model.lstm]\nengine = "torch"\n'


@pytest.mark.parametrize(
    ("settings", "code", "why"), [*((TFT_RUN, *one) for one in BROKEN), *((TWIN_RUN, *one) for one in BROKEN[:2])]
)
def test_a_model_whose_package_cannot_be_imported_names_the_extra_before_anything_is_fitted(
    settings: str, code: str, why: str, torch: Torch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch(code)
    bars, file = tmp_path / "bars.csv", tmp_path / "settings.toml"
    synthetic.a1(800, seed=1).select("open", "high", "low", "close", "volume", date=pl.col("time").dt.date()).write_csv(
        bars
    )
    file.write_text(settings)
    assert execute(["run", str(file), "--bars", str(bars), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"the model '{'tft' if settings is TFT_RUN else 'lstm'}' needs the package torch" in said
    assert why in said
    assert "and more" not in said
    assert "pip install 'gatecast[torch]'" in said
    assert not (tmp_path / "run").exists()


def test_the_provenance_names_torch_only_where_a_model_needs_it() -> None:
    plain, with_twin = (libraries_of([{"lstm": LSTM(engine=engine)}]) for engine in ("compiled", "torch"))
    assert "torch" not in plain
    assert "torch" in with_twin
    assert other_versions({"libraries": {**plain, "torch": "0.0"}})["torch"][0] == "0.0"
