"""Writes what in docs/ is made by the code: all settings with their defaults, and the table of features."""

from __future__ import annotations

from pathlib import Path

from gatecast.experiment import Experiment
from gatecast.samples.features import CATALOGUE
from gatecast.store import to_toml

HERE = Path(__file__).parent


def main() -> None:
    (HERE / "settings.toml").write_text(to_toml(Experiment()), encoding="utf-8")
    rows = [f"| `{f.name}` | {f.unit} | {f.warmup} | {f.description} |" for f in CATALOGUE.values()]
    head = "# The catalogue of features\n\n| name | unit | warm-up, bars | what it is |\n|---|---|---|---|\n"
    (HERE / "catalogue.md").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
