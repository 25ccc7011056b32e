"""What is imported of other libraries, and what is not."""

from __future__ import annotations

import subprocess
import sys

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
