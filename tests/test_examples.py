"""Every example runs by itself, without a warning, and leaves nothing in the current folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "hello_world.py": "return     evidence of skill",  # 5 % of each bar's variance is there to be found
    "own_data.py": "P(rise)",
    "every_stage.py": "one window: (1, 30, 3)",
    "own_strategy.py": "{'strategy/breakout': '__main__.Breakout (",
    "own_feature.py": "looks ahead: False",
    "own_vendor.py": "{'vendor/archive': '__main__.Archive (",
    "own_forecaster.py": "model/drift",
    "reading_a_verdict.py": "something to find: evidence of skill",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True, cwd=empty, check=False, encoding="utf-8",
        env={**os.environ, "GATECAST_DATA": str(tmp_path / "data"), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert done.stderr == ""
    assert re.search(r"\b(nan|inf)\b", done.stdout, re.IGNORECASE) is None
    assert list(empty.iterdir()) == []


def test_hello_world_stays_short() -> None:
    lines = (EXAMPLES / "hello_world.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20
