"""For tests and docstrings alike: a data folder of their own, and the marker of the slow ones."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SLOW = ROOT / "tests" / "slow.txt"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that tests/slow.txt lists as slow."""
    lines = [line for line in SLOW.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    folders, names = tuple(line for line in lines if line[-1] == "/"), set(lines)
    for item in items:
        test = f"{item.path.relative_to(ROOT).as_posix()}::{item.nodeid.partition('::')[2]}".partition("[")[0]
        if test in names or test.partition("::")[0] in names or test.startswith(folders):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """So that the ledger of trials is not the user's."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("GATECAST_DATA", str(folder))
    return folder
