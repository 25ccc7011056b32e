"""Options of the command, and the settings that they become."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatecast.errors import SettingsError

if TYPE_CHECKING:
    from gatecast.experiment import Experiment

Symbols = Annotated[str | None, typer.Option(help="Keep only these, separated by commas.")]
SymbolsFile = Annotated[Path | None, typer.Option(help="CSV with symbol and asset_class.")]
AssetClass = Annotated[str | None, typer.Option(help="For symbols without their own: index, equity, fx, ...")]
Timezone = Annotated[str | None, typer.Option(help="Of times without one, such as Europe/Berlin.")]
Stamp = Annotated[str | None, typer.Option(help="Whether an intraday time is the bar's open or close.")]
Resample = Annotated[str | None, typer.Option(help="To coarser bars: 4h, 1d, 1w, 1mo.")]
DateFormat = Annotated[str | None, typer.Option(help="Of dates like 03/04/2024, such as %d/%m/%Y.")]
Splits = Annotated[str | None, typer.Option(help="CSV with symbol, date, ratio; false: all such steps are true moves.")]
Actions = Annotated[Path | None, typer.Option(help="CSV with symbol, kind (split, delisting), date, value.")]
Versions = Annotated[str | None, typer.Option(help="Of several versions of a row: first (known) or newest.")]
Start = Annotated[str | None, typer.Option(help="First session, 2005-01-31.")]
End = Annotated[str | None, typer.Option(help="Last session.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of standard output.")]
Backend = Annotated[str, typer.Option(help="Where the jobs are done: local, dask, ray; changes no result.")]
Scheduler = Annotated[str | None, typer.Option(help="Of the backend dask, such as tcp://10.0.0.1:8786.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


def reading_options(
    symbols: str | None,
    symbols_file: Path | None,
    asset_class: str | None,
    timezone: str | None,
    stamp: str | None,
    resample: str | None,
    date_format: str | None,
    splits: str | None = None,
    actions: Path | None = None,
    versions: str | None = None,
) -> dict[str, Any]:
    """How bars are to be understood, as `read_bars` takes it."""
    return {
        "symbols": [part.strip() for part in symbols.split(",") if part.strip()] if symbols else None,
        "symbols_file": str(symbols_file) if symbols_file else None,
        "asset_class": asset_class, "timezone": timezone, "stamp": stamp, "resample": resample,
        "date_format": date_format, "splits": False if splits in ("false", "False") else splits,
        "actions": str(actions) if actions else None, "versions": versions,
    }  # fmt: skip


def with_options(text: str, known: Collection[str]) -> str:
    """A text that speaks of arguments (timezone='UTC') with a command's options instead (--timezone UTC).

    Arguments that are no reading option of the command, whose options are `known`, stay as they are; so does a text
    that names options itself.

    >>> with_options("Say timezone='UTC' or scale=2.", ["timezone"])
    'Say --timezone UTC or scale=2.'
    """
    if "--" in text:
        return text
    reading = {*signature(reading_options).parameters, "start", "end", "reference", "now"}

    def spelt(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        if name not in reading & {*known} or (name == "asset_class" and "/" in value):  # else a folder's name
            return found[0]
        value = value.strip("'") if re.fullmatch(r"'[\w/:.+-]+'", value) else value
        return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")

    return re.sub(r"(?<![\w/-])([a-z_]+)=('[^']*'|[^\s,;.)('\[]+)?", spelt, text)


def experiment_of(config: Path | None, changes: dict[str, Any]) -> Experiment:
    """The experiment of a settings file, or the default one, with the changes that are not None."""
    from gatecast.experiment import Experiment

    given = only_given(changes)
    return Experiment.from_toml(config, **given) if config else Experiment(**given)


def only_given(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, through all levels; sections without any are left out."""
    inner = {key: only_given(value) if isinstance(value, dict) else value for key, value in options.items()}
    return {key: value for key, value in inner.items() if value is not None and value != {}}


def as_moment(text: str | None) -> datetime | None:
    """A date or a time, UTC where it has no zone; raises `SettingsError` for anything else."""
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--now must be a date or a time such as 2024-01-31T21:00, got {text!r}.") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def as_length(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() else text


def core_count() -> int:
    from joblib import cpu_count

    return int(cpu_count())


def as_folder(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
