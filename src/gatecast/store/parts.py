"""The parts of a run's folder, each as its manifest lists it; and what a part must be before it is used.

```
<run>/
├── manifest.json           name, size and SHA-256 of every part below
├── experiment.toml         the settings, commented; `gatecast run <run>/experiment.toml` does it again
├── provenance.json         hashes of data and settings, versions, seeds, the clock
├── scores.json             verdicts and every number of the report
├── forecasts.parquet  signals.parquet  weights.parquet  equity.parquet  bars.parquet  actions.parquet
├── forecasts.parquet  signals.parquet  weights.parquet  equity.parquet  bars.parquet
├── book.parquet            what the book held, where there is one
├── models/<asset class>/<model>.safetensors and .json     the fit in force
├── refused/<asset class>/<model>.safetensors and .json    the last refit where the guard refused it
├── scale/<asset class>.safetensors                        what signals are measured against
├── issued/<asset class>.safetensors and .json             what each seed forecast, refits, what was in force
└── report.html             drawn from the parts, may be drawn again: no part itself
```

Nothing is read through a link, and nothing that is no regular file. No pickle anywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import polars as pl

from gatecast.errors import StoreError
from gatecast.files import is_regular, read, sha256_of
from gatecast.forecasting.forecaster import from_state
from gatecast.forecasting.panel import FORMER_NAMES
from gatecast.formats import arrays_of, json_of, table_of
from gatecast.store.schema import Manifest, Model, fault_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from polars._typing import PolarsDataType

    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.store.schema import Schema

FORMAT, VERSION = "gatecast run", 1
MANIFEST, PAGE = "manifest.json", "report.html"
FORECASTS, FRAMES = "forecasts.parquet", ("signals", "weights", "equity", "bars")
ACTIONS = "actions.parquet"
BOOK = "book.parquet"
"""What the book held; a run without a book has none."""
MANIFEST_BYTES = 10_000_000
MOST_BYTES = {".json": 100_000_000, ".toml": 2_000_000, ".safetensors": 2_000_000_000, ".parquet": 20_000_000_000}
"""Ending of a part -> bytes that it may have."""
_PART = re.compile(r"[\w.~%-]{1,200}(/[\w.~%-]{1,200}){0,2}", re.ASCII)


class Parts:
    """The parts of a run's folder whose names begin with one of `within`, read once and as the manifest says.

    Raises `StoreError` with the file and what to do, for what is missing, damaged, changed, a link or no file.
    """

    def __init__(self, folder: Path, *within: str) -> None:
        self.folder = folder
        listed = read_manifest(folder)
        self.content = {
            name: _read_part(folder, name, *entry)
            for name, entry in listed.items() if not within or name.startswith(within)
        }  # fmt: skip

    @classmethod
    def of_content(cls, folder: Path, content: Mapping[str, bytes]) -> Self:
        """Parts that were read, and checked, already; `folder`: where they are, for what is said of them."""
        made = cls.__new__(cls)
        made.folder, made.content = folder, dict(content)
        return made

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def names(self, begin: str, ending: str) -> list[str]:
        """The names of parts that begin and end like this, in order."""
        return sorted(name for name in self.content if name.startswith(begin) and name.endswith(ending))

    def bytes_of(self, name: str) -> bytes:
        """The content of a part. Raises `StoreError` where the manifest does not list it."""
        if name not in self.content:
            raise StoreError(
                f"{self.folder / MANIFEST} does not list {name}: the folder is no whole run. {remedy(self.folder)}"
            )
        return self.content[name]

    def json(self, name: str, schema: type[Schema]) -> dict[str, Any]:
        """A part that is a JSON object of this schema, as it stands in the file."""
        content = self.bytes_of(name)
        try:
            value = json_of(content)
        except ValueError as error:
            raise self.fault(name, str(error)) from None
        if fault := fault_of(schema, value):
            raise self.fault(name, fault)
        table: dict[str, Any] = value
        return table

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """A part that holds arrays, by name."""
        content = self.bytes_of(name)
        try:
            return arrays_of(content)
        except ValueError as error:
            raise self.fault(name, str(error)) from None

    def table(self, name: str, columns: Mapping[str, PolarsDataType], **limits: Any) -> pl.DataFrame:
        """A part that is a table of these columns. `limits`: see `formats.table_of`."""
        content = self.bytes_of(name)
        try:
            return table_of(content, columns, **limits)
        except ValueError as error:
            raise self.fault(name, str(error)) from None

    def fault(self, name: str, what: str) -> StoreError:
        """The error for a part that is not what it must be."""
        return StoreError(f"{self.folder / name} cannot be used: {what}. {remedy(self.folder)}")


def _read_part(folder: Path, name: str, sha256: str, size: int) -> bytes:
    path = folder / name
    most = MOST_BYTES[path.suffix]
    if size > most:
        raise StoreError(f"{folder / MANIFEST} lists {name} with {size:,} bytes, expected at most {most:,}.")
    try:
        if os.path.realpath(path) != str(path):  # that of pathlib fails at links that lead to each other
            raise StoreError(f"{path} leads out of the run's folder through a link, and is not read.")
        content = read(path, at_most=size, follow=False) if path.lstat().st_size == size else b""
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. {remedy(folder)}") from None
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {error.strerror or error}. {remedy(folder)}") from None
    if len(content) != size or sha256_of(content) != sha256:
        raise StoreError(f"{path} is damaged or was changed: it is not what the manifest lists. {remedy(folder)}")
    return content


def read_manifest(folder: Path) -> dict[str, tuple[str, int]]:
    """Part -> SHA-256 and size in bytes. Raises `StoreError` for a folder that is no run."""
    path = folder / MANIFEST
    try:
        manifest = json_of(read(path, at_most=MANIFEST_BYTES, follow=False))
    except FileNotFoundError:
        undo = folder.with_name(folder.name + ".previous")
        hint = f" The run before is in {undo}." if is_regular(undo / MANIFEST) else ""
        why = f"it has no {MANIFEST}" if folder.is_dir() else "there is no such folder"
        raise StoreError(f"{folder} is no gatecast run: {why}. Give a run's folder.{hint}") from None
    except NotADirectoryError:
        raise StoreError(f"{folder} is a file: give the folder of a run, as `gatecast run` wrote it.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}. {remedy(folder)}") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. {remedy(folder)}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is not the manifest of a gatecast run. Give a run's folder.")
    if manifest.get("version") != VERSION:
        raise StoreError(
            f"{path} is of version {str(manifest.get('version'))[:20]}, this gatecast reads {VERSION}: use the version "
            f"that wrote it ({str(manifest.get('gatecast'))[:20]})."
        )
    if fault := fault_of(Manifest, manifest):
        raise StoreError(f"{path} is damaged: its list of parts cannot be read ({fault}). {remedy(folder)}")
    for name in manifest["parts"]:
        if not _PART.fullmatch(name) or {".", ".."} & set(name.split("/")) or Path(name).suffix not in MOST_BYTES:
            raise StoreError(f"{path} lists {name[:200]!r}, which is no part of a run. {remedy(folder)}")
    return {name: (entry["sha256"], entry["bytes"]) for name, entry in manifest["parts"].items()}


def models_of(parts: Parts, within: str = "models/") -> dict[str, dict[str, FittedForecaster]]:
    """Asset class -> model -> fitted forecaster, of the models in force or, within "refused/", of refused ones."""
    stems = [name.removesuffix(".json") for name in parts.names(within, ".json")]
    if odd := sorted({name.removesuffix(".safetensors") for name in parts.names(within, ".safetensors")} - {*stems}):
        raise parts.fault(f"{odd[0]}.safetensors", "there is no .json beside it")
    models: dict[str, dict[str, FittedForecaster]] = {}
    for stem in stems:
        if stem.count("/") != 2:
            raise parts.fault(f"{stem}.json", "it is no model of a class")
        _, asset_class, model = (unquote(part) for part in stem.split("/"))
        settings, arrays = parts.json(f"{stem}.json", Model), parts.arrays(f"{stem}.safetensors")
        try:
            fitted = from_state(arrays, settings)
        except StoreError as error:
            raise parts.fault(f"{stem}.safetensors", str(error).rstrip(".")) from None
        models.setdefault(asset_class, {})[FORMER_NAMES.get(model, model)] = fitted
    return models


def remedy(folder: Path) -> str:
    """What to do about a run that cannot be read, in words."""
    undo = folder.with_name(folder.name + ".previous")
    again = "Restore it from a copy, or run the experiment again."
    return f"{again} The run before is in {undo}." if is_regular(undo / MANIFEST) else again
