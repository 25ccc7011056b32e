"""Imports go one way, in the order that ARCHITECTURE.md lists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gatecast.forecasting.forecaster import FORECASTERS
from gatecast.forecasting.panel import MADE_OF_OTHERS, PANEL

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
    """First-level names of ours that a file imports, for its types alone as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "gatecast":
                names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("gatecast.")}
    return names


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """Full names of ours that a file imports, for its types alone as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gatecast":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found - {"gatecast"}


def test_every_module_is_in_the_list() -> None:
    present = {p.stem if p.is_file() else p.name for p in SOURCE.iterdir() if p.name[0] != "_" and p.name != "py.typed"}
    assert present == set(layers())


def test_imports_go_one_way() -> None:
    order = layers()
    wrong = []
    for path in SOURCE.rglob("*.py"):
        inside = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if inside.startswith("_"):
            continue  # the front doors offer everything
        wrong += [f"{path.name} imports {name}" for name in imported(path) if order.get(name, 0) > order[inside]]
    assert wrong == []


def test_the_checker_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from gatecast.report import render\n", encoding="utf-8")
    assert imported(file) == {"report"}


def test_no_module_knows_one_that_knows_it() -> None:
    """No circle of imports, type imports counted; a package's own door may offer what is inside."""
    modules = {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    imports = {name: imported_modules(path, set(modules)) - {name} for name, path in modules.items()}
    imports.pop("gatecast")
    left = dict(imports)
    while free := [name for name, uses in left.items() if not uses & set(left)]:
        for name in free:
            del left[name]
    assert sorted(left) == []


ORDINARY = {"evaluation": {"last", "naive"}}
"""Folder -> names of models that stand in it as ordinary words: the last day, the naive p-value."""


def models_spelled(path: Path) -> set[str]:
    """Names of models and kinds that stand in a file as text of their own."""
    known = {*PANEL, *FORECASTERS, *MADE_OF_OTHERS}
    constants = (
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    )
    return {node.value for node in constants if isinstance(node.value, str)} & known


@pytest.mark.parametrize("folder", sorted(ORDINARY))
def test_no_file_but_the_panel_spells_a_models_name(folder: str) -> None:
    found = {path.name: models_spelled(path) - ORDINARY[folder] for path in (SOURCE / folder).rglob("*.py")}
    assert {name: spelled for name, spelled in found.items() if spelled} == {}


def test_the_checker_sees_a_models_name(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""The lstm."""\nif name in ("lstm", "other", "ensemble"):\n    pass\n', encoding="utf-8")
    assert models_spelled(file) == {"lstm", "ensemble"}
