"""Files are opened by `gatecast.files`: no other module opens one on its own, but for those listed here and why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gatecast

ROOT = Path(gatecast.__file__).parent
OPENS = {"open", "read_bytes", "read_text", "fdopen"}
READS = {"scan_parquet", "read_parquet", "scan_csv", "read_csv", "read_ipc", "ParquetFile", "read_table", "memmap"}
ALLOWED = {
    "files.py": "the one place",
    "libraries.py": "a table inside an installed package",
    "market/tables.py": "Polars scans a path that files.opened has looked at",
    "compute/disk.py": "a temporary folder of its own process",
    "compute/cluster.py": "the package's own source",
    "runs.py": "a temporary file of its own process, or bytes in memory",
    "evaluation/ledger.py": "bytes in memory, which files.read has bounded",
    "studies/placebo.py": "opened to be written",
    "cli/run.py": "webbrowser.open",
    "cli/unforeseen.py": "os.devnull",
    "formats.py": "bytes in memory, which files.read has bounded",
    "store/folders.py": "os.open, which makes the file of the lock",
    "store/journal.py": "os.open of its newest file, to add a line; it follows no link",
    "store/lock.py": "os.open of the lock's file, which follows no link",
    "live/alerts.py": "the addresses of alerts, by urllib",
    "processes.py": "/proc, where a file has no size",
    "report/scripts.py": "the package's own templates and scripts",
    "compute/machine_code.py": "from the root down, folder by folder, without links",
    "compute/source.py": "the package's own source",
}


def openings(source: str) -> list[str]:
    """The calls in Python source that open a file."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = (getattr(one, "id", getattr(one, "attr", "")) for one in calls if not of_a_class(one))
    return [name for name in names if name in OPENS | READS]


def of_a_class(called: ast.expr) -> bool:
    """Whether it is a class's own method, such as Store.open, which is no file's."""
    owner = getattr(getattr(called, "value", None), "id", "")
    return owner == "cls" or owner[:1].isupper()


def test_openings_are_found() -> None:
    assert openings("Store.open('a'); Path('a').open()") == ["open"]
    assert openings("open('a'); p.read_bytes(); os.fdopen(3); pl.read_csv('a'); q.load()") == [
        "open", "read_bytes", "fdopen", "read_csv",
    ]  # fmt: skip


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_opens_a_file(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name not in ALLOWED:
        found = openings(path.read_text(encoding="utf-8"))
        assert not found, f"{name} opens a file with {found[0]}: use files.read or files.opened"
