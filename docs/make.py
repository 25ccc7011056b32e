"""Writes what in docs/ is made by the code: the pages of all settings and of all features."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gatecast.experiment import SHARED_SETTINGS, Experiment
from gatecast.forecasting.forecaster import FORECASTERS
from gatecast.plugins import Registry
from gatecast.samples.features.catalogue import BUILT_IN, FEATURES
from gatecast.settings import Settings, allowed, first_words, holds_settings, section, shared, words
from gatecast.trading.strategies import STRATEGIES

HERE = Path(__file__).parent
REGISTRIES: dict[str, Registry[Any]] = {"model": FORECASTERS, "strategy": STRATEGIES}
"""Table of settings by name -> the kinds that there are."""


def settings_page() -> str:
    """All settings: section by section their names, defaults, ranges and words."""
    lines = [
        "# Settings",
        "",
        "`gatecast init` writes them all into a file, each with its default and these words.",
        *_table(Experiment),
    ]
    for name, field in Experiment.model_fields.items():
        if (kind := section(field)) is not None:
            lines += ["", f"## [{name}]", "", words(field), *_table(kind, SHARED_SETTINGS.get(name, set()))]
            for inner, one in kind.model_fields.items():
                if (within := section(one)) is not None:
                    lines += ["", f"### [{name}.{inner}]", "", words(one), *_table(within)]
        elif holds_settings(field):
            lines += ["", f"## [{name}.NAME]", "", words(field)]
            for one in sorted(REGISTRIES[name]):
                of_kind = REGISTRIES[name].find(one)
                if all(not part.is_required() for part in of_kind.model_fields.values()):  # the rest run on their own
                    table = _table(of_kind, shared(of_kind)) if of_kind.model_fields else []
                    lines += ["", f'### kind = "{one}"', "", first_words(of_kind), *table]
    return "\n".join(lines) + "\n"


def _table(kind: type[Settings], above: Collection[str] = ()) -> list[str]:
    head, lines = ["", "| setting | default | range | what it is |", "|---|---|---|---|"], list[str]()
    for name, value in kind().model_dump(mode="json", exclude=set(above)).items():
        field = kind.model_fields[name]
        if section(field) is None and not holds_settings(field):
            default = "not set" if value is None else f"`{json.dumps(value)}`"
            said = words(field).replace("|", r"\|")
            lines.append(f"| `{name}` | {default} | {allowed(field)} | {said} |")
    return head + lines if lines else []


def features_page() -> str:
    """The features of the catalogue: their names, units, warm-ups and words."""
    head = "# The catalogue of features\n\n| name | unit | warm-up, bars | what it is |\n|---|---|---|---|\n"
    rows = [
        f"| `{f.name}` | {f.unit} | {f.warmup} | {f.description} |"
        for f in map(FEATURES.find, FEATURES)
        if f.name in BUILT_IN
    ]
    return head + "\n".join(rows) + "\n"


PAGES = {"settings.md": settings_page, "catalogue.md": features_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
