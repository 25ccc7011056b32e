"""A run -> its folder: written beside its place, brought to the disk and then renamed, whole or not at all.

The run that it replaces stays as `<run>.previous`.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.compute.disk import StoredFile
from gatecast.errors import MAKE_ROOM, StoreError
from gatecast.files import full_path, sha256_of, sync_folder, write
from gatecast.forecasting.forecaster import state_of
from gatecast.market.actions import with_terms
from gatecast.runs import Run
from gatecast.settings import to_toml
from gatecast.store.folders import check_place, locked, previous, swap, written_beside
from gatecast.store.parts import ACTIONS, BOOK, FORECASTS, FORMAT, FRAMES, MANIFEST, PAGE, VERSION, Parts
from gatecast.store.schema import Provenance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.experiment import Experiment
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]

IN_MEMORY = "These bars were handed over in memory; they are in bars.parquet, beside this file."
OF_CLASSES = ("models/", "refused/", "scale/", "issued/")
"""What the names of a class's parts begin with."""
TIME = "time"  # the name of the array of times beside those of the seeds


@checked
def save_run(run: Run, folder: str | Path) -> Run:
    """Writes a run into `folder` and returns it with its `path`.

    A gatecast run that is there already becomes `<folder>.previous`, in place of an older one.
    `report.html` is no part of it: `gatecast.save_run` draws it as well, `gatecast report <folder>` draws it again.

    Raises `StoreError` when something else is there, another process writes there, or it cannot be written; then
    nothing has changed.
    """
    place = check_place(folder)
    parts = _parts(run)
    listed = {name: {"sha256": sha256_of(_content(parts[name])), "bytes": _size(parts[name])} for name in sorted(parts)}
    manifest = {"format": FORMAT, "version": VERSION, "gatecast": run.provenance.get("gatecast"), "parts": listed}
    with locked(place), written_beside(place) as temporary:
        temporary.mkdir(parents=True)
        for name, part in {**parts, MANIFEST: json_part(manifest)}.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            write(temporary / name, _content(part))
        for inner in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            sync_folder(inner)
        swap(temporary, place)
    return replace(run, path=place)


def run_parts(run: Run) -> dict[str, bytes]:
    """Name -> bytes of everything that is saved; the same run gives the same bytes."""
    return {name: part if isinstance(part, bytes) else part.read() for name, part in _parts(run).items()}


def _parts(run: Run) -> dict[str, bytes | StoredFile]:
    """The parts of `run_parts`, of which the largest may be a file."""
    parts: dict[str, bytes | StoredFile] = {FORECASTS: run.forecasts_parquet}
    parts |= {f"{name}.parquet": _parquet(getattr(run, name)) for name in FRAMES}
    if run.actions is not None:
        parts[ACTIONS] = _parquet(with_terms(run.actions))
    parts |= {BOOK: _parquet(run.book)} if len(run.book) else {}
    parts["scores.json"] = json_part(run.scores)
    parts["provenance.json"] = json_part(run.provenance)
    parts["experiment.toml"] = settings_part(run.experiment)
    for name in run.classes:
        parts |= _class_parts(run, name)
    if run.path is not None and run.is_loaded:  # a run that was loaded: its models come along
        parts |= Parts(run.path, *OF_CLASSES).content
    return parts


def replacement(run: Run) -> str:
    """In words, where the run stays that a run which was just saved replaced, how it differs and how to go back.

    Empty where none is there.
    """
    if run.path is None or not (undo := previous(run.path)).is_dir():
        return ""
    try:
        before = Parts(undo, "provenance.json").json("provenance.json", Provenance)
        own = {"settings": "settings_hash", "bars": "data_hash"}
        other = [name for name, key in own.items() if before[key] != run.provenance[key]]
    except (StoreError, KeyError):
        other = []
    differs = f" (other {' and other '.join(other)})" if other else ""
    return (
        f"The run that was in {run.path} before{differs} is now in {undo}, in place of any older one there. To go "
        f"back, move {run.path.name} elsewhere and rename {undo.name} to {run.path.name}."
    )


def write_page(folder: str | Path, html: str) -> Path:
    """Puts `report.html` into a run's folder, whole or not at all; returns its path.

    Raises `StoreError` where it cannot be written; the run is whole without it.
    """
    page = full_path(folder) / PAGE
    follows = f"The run itself is saved; {MAKE_ROOM}, then `gatecast report {folder}` draws the page."
    with written_beside(page, follows) as temporary:
        write(temporary, html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, page)
        sync_folder(page.parent)
    return page


def settings_part(experiment: Experiment) -> bytes:
    """The settings as a commented file."""
    notes = {"bars": IN_MEMORY} if experiment.bars.source == "frame" else {}
    return to_toml(experiment, notes).encode()


def model_parts(forecasts: Mapping[str, Forecasts]) -> dict[str, bytes]:
    """Name -> content of the fits of each class, `models/CLASS/MODEL.safetensors` and `.json`; `refused/` as well."""
    parts: dict[str, bytes] = {}
    for name, one in forecasts.items():
        for folder, fits in (("models", one.fitted), ("refused", one.refused_fits)):
            for model, fitted in fits.items():
                arrays, settings = state_of(one.panel[model], fitted)
                stem = f"{folder}/{quote(name, safe='')}/{quote(model, safe='')}"
                parts[f"{stem}.safetensors"], parts[f"{stem}.json"] = _tensors(arrays), json_part(settings)
    return parts


def _class_parts(run: Run, name: str) -> dict[str, bytes]:
    """The models in force of a class, the scale of its signals at every refit, and what else was issued."""
    forecasts = run.classes[name].forecasts
    parts = model_parts({name: forecasts})
    parts[f"scale/{quote(name, safe='')}.safetensors"] = _tensors(_scale(run, name))
    issued = forecasts.issued()
    members = {
        f"{model}/{seed}/{head}": array
        for model, each in issued.members.items() for seed, one in enumerate(each) for head, array in one.items()
    }  # fmt: skip
    stem = f"issued/{quote(name, safe='')}"
    parts[f"{stem}.safetensors"] = _tensors({**members, TIME: issued.time.astype("datetime64[us]").astype(np.int64)})
    parts[f"{stem}.json"] = json_part(
        {
            "refits": [str(one) for one in issued.cutoffs],
            "in_force": {head: list(names) for head, names in issued.in_force.items()},
            "rivals": {head: list(names) for head, names in issued.rivals.items()},
            "refused": {
                model: {str(cutoff): reason for cutoff, reason in refits.items()}
                for model, refits in issued.refused.items()
            },
        }
    )
    return parts


def _scale(run: Run, name: str) -> dict[str, FloatArray]:
    """Model -> forecasts of each refit's validation rows, of the models that signals of the class are made from."""
    scale = run.classes[name].forecasts.scale
    of = (run.experiment.signals.model, run.experiment.signals.confirmed_by)
    return {model: np.concatenate(scale[model]) for model in of if model in scale}


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd")  # chunks would show in the bytes
    return buffer.getvalue()


def _tensors(arrays: dict[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.array(array, order="C", copy=True) for name, array in arrays.items()})  # it ignores strides


def json_part(value: Any) -> bytes:
    """A value as the content of a JSON file."""
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode()


def _content(part: bytes | StoredFile) -> bytes | Path:
    return part if isinstance(part, bytes) else part.path


def _size(content: bytes | StoredFile) -> int:
    return len(content) if isinstance(content, bytes) else content.path.stat().st_size
