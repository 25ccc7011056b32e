"""Runs on disk: a folder holds the parts of a Run, and a manifest with the SHA-256 of each. No pickle anywhere.

```
<run>/
├── manifest.json           name, size and SHA-256 of every part below
├── experiment.toml         the settings, commented; `gatecast run <run>/experiment.toml` does it again
├── provenance.json         hashes of data and settings, versions, seeds, the clock
├── scores.json             verdicts and every number of the report
├── forecasts.parquet  signals.parquet  weights.parquet  equity.parquet  bars.parquet
├── models/<asset class>/<model>.safetensors and .json     the last refit
├── scale/<asset class>.safetensors and .json              what its signals are measured against
└── report.html             drawn from the parts, may be drawn again: no part itself
```

A folder is written beside its place, brought to the disk and then renamed: it is there whole, or not at all. The run
that it replaces stays as `<run>.previous`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.experiment_file import to_toml
from gatecast.forecasting.models import from_state
from gatecast.results import ClassResult, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]

FORMAT, VERSION = "gatecast run", 1
MANIFEST, PAGE = "manifest.json", "report.html"
FRAMES = ("forecasts", "signals", "weights", "equity", "bars")
_PART = re.compile(r"[\w.~%-]{1,200}(/[\w.~%-]{1,200}){0,2}", re.ASCII)


@dataclass(frozen=True)
class Scale:
    """What a live signal of one asset class is measured against: its last refit's forecasts of its validation rows.

    Attributes
    ----------
    cutoff: close at which that refit made its first forecast, UTC, datetime64[us].
    symbols: names; `symbol`: (rows,) index into them; `time`: (rows,) closes of the validation rows, in their order.
    forecasts: model -> (rows,) log return over the whole horizon.
    """

    cutoff: np.datetime64
    symbols: tuple[str, ...]
    symbol: NDArray[np.int32]
    time: NDArray[np.datetime64]
    forecasts: dict[str, FloatArray]


# ── save ──────────────────────────────────────────────────────────────────────────────────────────


def save_run(run: Run, folder: str | Path) -> Run:
    """Writes a run into `folder` and returns it with its `path`.

    A gatecast run that is there already becomes `<folder>.previous`, in place of an older one.

    Raises `StoreError` when something else is there, or when it cannot be written; then nothing has changed.
    """
    place = check_place(folder)
    parts = run_parts(run)
    listed = {name: {"sha256": _sha256(parts[name]), "bytes": len(parts[name])} for name in sorted(parts)}
    manifest = {"format": FORMAT, "version": VERSION, "gatecast": run.provenance.get("gatecast"), "parts": listed}
    with _beside(place) as temporary:
        temporary.mkdir(parents=True)
        for name, content in {**parts, MANIFEST: _json(manifest)}.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            _write(temporary / name, content)
        for inner in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            _sync(inner)
        _swap(temporary, place)
    return replace(run, path=place)


def check_place(folder: str | Path) -> Path:
    """The folder's full path, if a run can be saved there: it is absent, empty or a gatecast run.

    Worth asking before hours of work. Raises `StoreError` that says what is in the way.
    """
    place = Path(folder).expanduser().resolve()
    undo = previous(place)
    if place.exists() and not place.is_dir():
        raise StoreError(f"{place} is a file: give a folder for the run.")
    if place.is_dir() and any(place.iterdir()) and not _is_run(place):
        raise StoreError(f"{place} holds something that is no gatecast run: give another folder, or empty this one.")
    if undo.exists():
        foreign = [] if not _is_run(undo) else _foreign(undo)
        if foreign or not _is_run(undo):
            what = foreign[0] if foreign else "something that is no gatecast run"
            raise StoreError(
                f"{undo} would be removed to keep the present run there, but holds {what}: move it away first."
            )
    ground = next(parent for parent in place.parents if parent.exists())
    if not ground.is_dir():
        raise StoreError(f"{place} cannot be made: {ground} is a file. Give another folder.")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise StoreError(f"{place} cannot be written: {ground} is read-only for you. Give another folder.")
    return place


def previous(folder: Path) -> Path:
    """Where the run stays that the one in `folder` replaced."""
    return folder.with_name(folder.name + ".previous")


def run_parts(run: Run) -> dict[str, bytes]:
    """Name -> bytes of everything that is saved; the same run gives the same bytes."""
    parts = {f"{name}.parquet": _parquet(getattr(run, name)) for name in FRAMES}
    parts["scores.json"] = _json(run.scores)
    parts["provenance.json"] = _json(run.provenance)
    parts["experiment.toml"] = to_toml(run.experiment).encode()
    for name, one in run.classes.items():
        parts |= _class_parts(name, one)
    if not run.classes and run.path is not None:  # a run that was loaded: its models come along
        parts |= _verified(run.path, "models/", "scale/")
    return parts


def write_page(folder: str | Path, html: str) -> Path:
    """Puts `report.html` into a run's folder, whole or not at all; returns its path."""
    page = Path(folder).expanduser().resolve() / PAGE
    with _beside(page) as temporary:
        _write(temporary, html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, page)
        _sync(page.parent)
    return page


def _class_parts(name: str, one: ClassResult) -> dict[str, bytes]:
    """The models of a class's last refit and their scale."""
    forecasts, samples = one.forecasts, one.samples
    parts: dict[str, bytes] = {}
    for model, fitted in forecasts.fitted.items():
        arrays, settings = fitted.state()
        stem = f"models/{quote(name, safe='')}/{quote(model, safe='')}"
        parts[f"{stem}.safetensors"], parts[f"{stem}.json"] = _tensors(arrays), _json(settings)
    if forecasts.folds:
        fold = forecasts.folds[-1]
        times = samples.times[fold.validation].astype("datetime64[us]").astype(np.int64)
        arrays = {"symbol": samples.symbol[samples.ends[fold.validation]], "time": times}
        arrays |= {f"forecasts.{model}": values[-1] for model, values in forecasts.scale.items()}
        settings = {"cutoff": str(fold.cutoff.astype("datetime64[us]")), "symbols": list(samples.symbols)}
        stem = f"scale/{quote(name, safe='')}"
        parts[f"{stem}.safetensors"], parts[f"{stem}.json"] = _tensors(arrays), _json(settings)
    return parts


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd")  # chunks would show in the bytes
    return buffer.getvalue()


def _tensors(arrays: dict[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.array(array, order="C", copy=True) for name, array in arrays.items()})  # it ignores strides


def _json(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A name beside `place` to write to first; removed whatever happens. A fault of the disk becomes a StoreError."""
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield temporary
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{place} cannot be written: {error.strerror or error}. What was there is unchanged; "
            "make room or give another folder, then save again."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Brings a folder's entries to the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(temporary: Path, place: Path) -> None:
    """The new folder takes the place of the old, which becomes the previous one."""
    undo = previous(place)
    if place.exists() and not any(place.iterdir()):
        place.rmdir()
    replaces = place.exists()
    if replaces:
        if undo.exists():
            shutil.rmtree(undo)
        os.replace(place, undo)
    try:
        os.replace(temporary, place)
    except OSError:
        if replaces:
            os.replace(undo, place)
        raise
    _sync(place.parent)


def _is_run(folder: Path) -> bool:
    try:
        _manifest(folder)
    except StoreError:
        return False
    return True


def _foreign(folder: Path) -> list[str]:
    """Files in a run's folder that gatecast did not write; hidden ones do not count."""
    ours = {MANIFEST, PAGE, *_manifest(folder)}
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(name for name in names if name not in ours and not Path(name).name.startswith("."))


# ── load ──────────────────────────────────────────────────────────────────────────────────────────


def load_run(folder: str | Path) -> Run:
    """The run of a folder, every part checked against the manifest before it is read.

    `classes` is empty and `control` None: their numbers are in `scores`. See `load_models` for the fitted models.

    Raises `StoreError` with the file and what to do, for what is missing, damaged or was changed.
    """
    place = Path(folder).expanduser().resolve()
    parts = _verified(place)
    forecasts, signals, weights, equity, bars = (
        pl.read_parquet(io.BytesIO(_part(place, parts, f"{name}.parquet"))) for name in FRAMES
    )
    try:
        experiment = Experiment(**tomllib.loads(_part(place, parts, "experiment.toml").decode()))
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        raise StoreError(f"{place / 'experiment.toml'}: written by another version of gatecast: {error}") from None
    scores, provenance = (json.loads(_part(place, parts, f"{name}.json")) for name in ("scores", "provenance"))
    return Run(experiment, bars, forecasts, signals, weights, equity, scores, provenance, path=place)


def load_models(folder: str | Path) -> dict[str, dict[str, FittedForecaster]]:
    """Asset class -> model -> the fitted forecaster of the last refit. Raises `StoreError` as `load_run` does."""
    models: dict[str, dict[str, FittedForecaster]] = {}
    for stem, arrays, settings in _states(folder, "models/"):
        name, model = (unquote(part) for part in stem.split("/"))
        models.setdefault(name, {})[model] = from_state(arrays, settings)
    return models


def load_scale(folder: str | Path) -> dict[str, Scale]:
    """Asset class -> the scale of its signals. Raises `StoreError` as `load_run` does."""
    return {
        unquote(stem): Scale(
            np.datetime64(settings["cutoff"], "us"), tuple(settings["symbols"]), arrays["symbol"],
            arrays["time"].astype("datetime64[us]"),
            {name.removeprefix("forecasts."): values for name, values in arrays.items() if "." in name},
        )
        for stem, arrays, settings in _states(folder, "scale/")
    }  # fmt: skip


def _states(folder: str | Path, within: str) -> Iterator[tuple[str, dict[str, NDArray[Any]], dict[str, Any]]]:
    """(name, arrays, settings) of each pair of files."""
    from safetensors.numpy import load

    place = Path(folder).expanduser().resolve()
    parts = _verified(place, within)
    for name in parts:
        if name.endswith(".safetensors"):
            stem = name.removesuffix(".safetensors")
            yield stem.removeprefix(within), load(parts[name]), json.loads(_part(place, parts, f"{stem}.json"))


def _part(folder: Path, parts: dict[str, bytes], name: str) -> bytes:
    if name not in parts:
        raise StoreError(f"{folder / MANIFEST} does not list {name}: the folder is no whole run. {_remedy(folder)}")
    return parts[name]


def _verified(folder: Path, *within: str) -> dict[str, bytes]:
    """Name -> bytes of the parts (whose names begin with one of `within`), each as the manifest says."""
    parts = {}
    for name, (sha256, size) in _manifest(folder).items():
        if within and not name.startswith(within):
            continue
        path = folder / name
        try:
            if path.resolve() != path:
                raise StoreError(f"{path} leads out of the run's folder through a link, and is not read.")
            content = path.read_bytes() if path.stat().st_size == size else b""
        except FileNotFoundError:
            raise StoreError(f"{path} is missing. {_remedy(folder)}") from None
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from None
        if len(content) != size or _sha256(content) != sha256:
            raise StoreError(f"{path} is damaged or was changed: it is not what the manifest lists. {_remedy(folder)}")
        parts[name] = content
    return parts


def _manifest(folder: Path) -> dict[str, tuple[str, int]]:
    """Part -> SHA-256 and size in bytes."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        undo = previous(folder)
        hint = f" The run before is in {undo}." if (undo / MANIFEST).is_file() else ""
        raise StoreError(f"{folder} is no gatecast run: it has no {MANIFEST}. Give a run's folder.{hint}") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        raise StoreError(f"{path} is damaged: it is no JSON. {_remedy(folder)}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StoreError(f"{path} is not the manifest of a gatecast run. Give a run's folder.")
    if manifest.get("version") != VERSION:
        raise StoreError(
            f"{path} is of version {manifest.get('version')!r}, this gatecast reads {VERSION}: use the version that "
            f"wrote it ({manifest.get('gatecast')})."
        )
    try:
        parts = {name: (str(entry["sha256"]), int(entry["bytes"])) for name, entry in manifest["parts"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StoreError(f"{path} is damaged: its list of parts cannot be read. {_remedy(folder)}") from None
    for name in parts:
        if not _PART.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise StoreError(f"{path} lists {name!r}, which is no part of a run.")
    return parts


def _remedy(folder: Path) -> str:
    undo = previous(folder)
    again = "Restore it from a copy, or run the experiment again."
    return f"{again} The run before is in {undo}." if (undo / MANIFEST).is_file() else again
