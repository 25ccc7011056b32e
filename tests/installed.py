"""Packages as an installer would leave them: a module and its metadata, in a folder of `sys.path`."""

from __future__ import annotations

from pathlib import Path


def package(folder: Path, name: str, points: dict[str, str], code: str) -> None:
    """Writes the module `name` with `code`, and the metadata of its version 1.5.

    `points`: group of entry points -> its lines, `name = module:object`.
    """
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    about = folder / f"{name}-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
    text = "".join(f"[{group}]\n{lines}\n" for group, lines in points.items())
    (about / "entry_points.txt").write_text(text, encoding="utf-8")
