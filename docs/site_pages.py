"""Pages of the documentation site that are made when it is built: the commands and the reference of the library."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import gatecast
from gatecast.cli.app import app

STAGES = {
    "experiment": ("experiment", "runs", "machine", "whatif"),
    "market": ("market", "market.sources", "market.vendors", "market.synthetic"),
    "samples": ("samples.features", "samples.windows", "samples.targets"),
    "forecasting": (
        "forecasting.forecaster",
        "forecasting.lstm",
        "forecasting.models.forest",
        "forecasting.models.linear",
        "forecasting.models.logistic",
        "forecasting.schedule",
        "forecasting.tuning.tuned",
        "forecasting.walkforward",
        "forecasting.combining.ensemble",
        "forecasting.combining.intervals",
        "forecasting.panel",
    ),
    "trading": (
        "trading.signals",
        "trading.strategies",
        "trading.selection",
        "trading.costs",
        "trading.backtest",
    ),
    "evaluation": ("evaluation.record", "evaluation.judge", "evaluation.verdict"),
    "metrics": ("metrics.forecast", "metrics.returns", "metrics.overfitting", "metrics.significance"),
    "studies": (
        "audits.full",
        "studies.cadence",
        "studies.comparing",
        "studies.judging",
        "studies.placebo",
        "studies.sensitivity",
        "studies.truth",
        "studies.tune",
        "studies.unseal",
    ),
    "store": ("store", "live", "explanations"),
    "report": ("report",),
    "errors": ("errors", "plugins"),
}
"""Page of the reference -> the modules whose public names stand on it."""


def public(module: ModuleType) -> list[str]:
    """The public names of a module, sorted: those of `__all__`, else its own functions and classes."""
    if (named := getattr(module, "__all__", None)) is not None:
        return sorted(named)
    own = vars(module).items()
    return sorted(
        name
        for name, value in own
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    )


def home(module: ModuleType, name: str) -> str:
    """The full name of a public name where it is written, as far as that can be told from the object."""
    value = getattr(module, name)
    written = getattr(value, "__module__", None) if inspect.isfunction(value) or inspect.isclass(value) else None
    return f"{written or module.__name__}.{getattr(value, '__qualname__', name) if written else name}"


def reference() -> dict[str, list[str]]:
    """Page -> the full names of what it documents; each stands on one page, the first that has it."""
    seen: set[str] = set()
    pages: dict[str, list[str]] = {}
    for page, modules in STAGES.items():
        names = []
        for path in modules:
            module = importlib.import_module(f"gatecast.{path}")
            names += [one for one in (home(module, name) for name in public(module)) if one not in seen]
            seen |= set(names)
        pages[page] = list(dict.fromkeys(names))
    return pages


def front_door() -> Iterator[tuple[str, str]]:
    """Each name of `gatecast.__all__` that is no module, and its full name."""
    for name in gatecast.__all__:
        if not inspect.ismodule(value := getattr(gatecast, name)):
            yield name, f"{value.__module__}.{value.__qualname__}"


def reference_pages() -> dict[str, str]:
    """File -> text of the reference."""
    pages = reference()
    lines = [
        "# The library",
        "",
        "What `import gatecast` offers; the pages of this section have everything else that is public.",
        "",
        "| name | what it is |",
        "|---|---|",
    ]
    for name, full in front_door():
        said = (inspect.getdoc(getattr(gatecast, name)) or "").split("\n\n")[0].replace("\n", " ").replace("|", r"\|")
        lines.append(f"| [`gatecast.{name}`][{full}] | {said} |")
    texts = {"reference/index.md": "\n".join(lines) + "\n"}
    for page, names in pages.items():
        blocks = "\n".join(f"::: {name}\n" for name in names)
        texts[f"reference/{page}.md"] = f"# {page.capitalize()}\n\n{blocks}"
    return texts


def commands_page() -> str:
    """Every command, its arguments and options with their words and defaults."""
    lines = [
        "# Commands",
        "",
        "`gatecast COMMAND --help` says the same. Results go to standard output, everything else to standard error.",
        "Exit status 0: done; 1: done, and something is wrong, see the command; 2: refused, with one sentence on",
        "standard error; 130: interrupted.",
    ]
    for words, command in every_command():
        lines += ["", f"## gatecast {words}", "", (command.help or "").strip()]
        rows = [_row(one) for one in command.params if not one.hidden]
        lines += ["", "| argument or option | default | what it is |", "|---|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def every_command() -> Iterator[tuple[str, Any]]:
    """The words of each command -> the command; of a group its commands alone."""
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {word}", one) for word, one in inner.items())


def _row(one: Any) -> str:
    names = [one.name.upper()] if one.param_type_name == "argument" else one.opts
    if one.required:
        default = "required"
    elif one.default in (None, False, [], ()) or callable(one.default):
        default = ""
    else:
        default = f"`{one.default}`"
    said = (getattr(one, "help", None) or "").replace("|", r"\|")
    return f"| {', '.join(f'`{name}`' for name in names)} | {default} | {said} |"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs' hook: adds the pages that are made."""
    for name, text in {"commands.md": commands_page(), **reference_pages()}.items():
        files.append(File.generated(config, name, content=text))
    return files
