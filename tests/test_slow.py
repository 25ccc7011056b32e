"""The list of slow tests names tests that are there, so that none is left out of `make quick` by mistake."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_line_names_a_test_that_is_there() -> None:
    lines = [line for line in (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert lines == sorted(set(lines))
    for line in lines:
        file, _, name = line.partition("::")
        assert (ROOT / file).exists(), line
        if name:
            last = re.split(r"::|\.", name)[-1]
            assert re.search(rf"^ *(def|class) {last}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), line
