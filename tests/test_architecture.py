"""Imports go one way, in the order that ARCHITECTURE.md lists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from gatecast.forecasting.forecaster import FORECASTERS
from gatecast.forecasting.panel import MADE_OF_OTHERS, PANEL

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gatecast"


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


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
    for node in nodes(path):
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
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gatecast":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found - {"gatecast"}


def rooms() -> dict[str, dict[str, int]]:
    """Folder -> module or folder in it -> its place in ARCHITECTURE.md's line of the folder."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    lines = re.findall(r"^- `(\w+)`: ((?:.|\n  )+)$", text, re.MULTILINE)
    return {
        folder: {name: place for place, part in enumerate(line.split("<")) for name in re.findall(r"`(\w+)`", part)}
        for folder, line in lines
    }


@pytest.mark.parametrize(
    "folder", sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and "_" not in path.name)
)
def test_imports_inside_a_folder_go_one_way(folder: str) -> None:
    order, wrong = rooms()[folder], []
    present = {p.stem for p in (SOURCE / folder).iterdir() if p.name[0] != "_" and p.name != "templates"}
    assert present == set(order)
    for path in (SOURCE / folder).rglob("*.py"):
        inside = path.relative_to(SOURCE / folder).parts[0].removesuffix(".py")
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:2] == ["gatecast", folder]:
                parts = (node.module or "").split(".")
                names = parts[2:3] or [alias.name for alias in node.names]
                wrong += [
                    f"{inside} imports {name}" for name in names
                    if inside in order and name in order and name != inside and order[name] >= order[inside]
                ]  # fmt: skip
    assert wrong == []


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


ORDINARY = {"last", "mean", "naive", "zero"}
"""Names of models that are ordinary words, too: the last day, a mean, the naive p-value, the place of zero."""
FEATURES_NAMED_ALIKE = {"samples/features/catalogue.py": {"har"}, "live/today.py": {"threshold"}}
"""File -> features, and a cause of a change, that have the name of a model."""


def models_spelled(path: Path) -> set[str]:
    """Names of models and kinds that stand in a file as text of their own."""
    known = {*PANEL, *FORECASTERS, *MADE_OF_OTHERS}
    constants = (node for node in nodes(path) if isinstance(node, ast.Constant))
    return {node.value for node in constants if isinstance(node.value, str)} & known


def test_no_file_but_the_panel_spells_a_models_name() -> None:
    files = [path for path in SOURCE.rglob("*.py") if "forecasting" not in path.relative_to(SOURCE).parts]
    found = {path.relative_to(SOURCE).as_posix(): models_spelled(path) - ORDINARY for path in files}
    models = {*PANEL, *FORECASTERS}
    found = {name: spelled & models - FEATURES_NAMED_ALIKE.get(name, set()) for name, spelled in found.items()}
    assert {name: spelled for name, spelled in found.items() if spelled} == {}


def test_the_checker_sees_a_models_name(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""The lstm."""\nif name in ("lstm", "other", "ensemble"):\n    pass\n', encoding="utf-8")
    assert models_spelled(file) == {"lstm", "ensemble"}
