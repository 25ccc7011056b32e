"""Imports go one way, in the order that ARCHITECTURE.md lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gatecast"


def layers() -> dict[str, int]:
    """module or folder -> its line in ARCHITECTURE.md's list."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = {}
    for number, names in re.findall(r"^(\d+)\. (.+)$", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            found[name] = int(number)
    return found


def imported(path: Path) -> set[str]:
    """First-level names of ours that a file imports when it runs; type-checking blocks do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "gatecast":
                names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("gatecast.")}
    return names


def test_every_module_is_in_the_list() -> None:
    present = {p.stem if p.is_file() else p.name for p in SOURCE.iterdir() if p.name[0] != "_" and p.name != "py.typed"}
    assert present == set(layers())


def test_imports_go_one_way() -> None:
    order = layers()
    wrong = []
    for path in SOURCE.rglob("*.py"):
        inside = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if inside == "__init__":
            continue  # the front door offers everything
        wrong += [f"{path.name} imports {name}" for name in imported(path) if order.get(name, 0) > order[inside]]
    assert wrong == []


def test_the_checker_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from gatecast.report import render\n", encoding="utf-8")
    assert imported(file) == {"report"}
