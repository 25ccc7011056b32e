"""Runs on disk: a folder holds the parts of a Run, and a manifest with the SHA-256 of each. No pickle anywhere.

```
<run>/
├── manifest.json           name, size and SHA-256 of every part below
├── experiment.toml         the settings, commented; `gatecast run <run>/experiment.toml` does it again
├── provenance.json         hashes of data and settings, versions, seeds, the clock
├── scores.json             verdicts and every number of the report
├── forecasts.parquet  signals.parquet  weights.parquet  equity.parquet  bars.parquet
├── models/<asset class>/<model>.safetensors and .json     the last refit
├── scale/<asset class>.safetensors                        what signals are measured against
├── issued/<asset class>.safetensors and .json             what each seed forecast, refits, what was in force
└── report.html             drawn from the parts, may be drawn again: no part itself
```

A folder is written beside its place, brought to the disk and then renamed: it is there whole, or not at all. The run
that it replaces stays as `<run>.previous`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Chain, Past, make_chain
from gatecast.compute.disk import KeptFile
from gatecast.errors import SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import beside, sha256_of, sync_folder, write
from gatecast.forecasting.combining.intervals import HIGH, LOW
from gatecast.forecasting.forecaster import from_state, state_of
from gatecast.forecasting.panel import FORMER_NAMES
from gatecast.forecasting.walkforward import Issued
from gatecast.market.actions import recorded_delistings
from gatecast.runs import Run
from gatecast.settings import to_toml

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]

FORMAT, VERSION = "gatecast run", 1
MANIFEST, PAGE = "manifest.json", "report.html"
UNCHANGED = "What was there is unchanged; make room or give another folder, then save again."
FORECASTS, FRAMES = "forecasts.parquet", ("signals", "weights", "equity", "bars")
IN_MEMORY = "These bars were handed over in memory; they are in bars.parquet, beside this file."
TIME = "time"  # the name of the array of times beside those of the seeds
_PART = re.compile(r"[\w.~%-]{1,200}(/[\w.~%-]{1,200}){0,2}", re.ASCII)


# ── save ──────────────────────────────────────────────────────────────────────────────────────────


@checked
def save_run(run: Run, folder: str | Path) -> Run:
    """Writes a run into `folder` and returns it with its `path`.

    A gatecast run that is there already becomes `<folder>.previous`, in place of an older one.

    Raises `StoreError` when something else is there, or when it cannot be written; then nothing has changed.
    """
    place = check_place(folder)
    parts = _parts(run)
    listed = {name: {"sha256": sha256_of(_content(parts[name])), "bytes": _size(parts[name])} for name in sorted(parts)}
    manifest = {"format": FORMAT, "version": VERSION, "gatecast": run.provenance.get("gatecast"), "parts": listed}
    with _beside(place) as temporary:
        temporary.mkdir(parents=True)
        for name, part in {**parts, MANIFEST: _json(manifest)}.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            write(temporary / name, _content(part))
        for inner in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
            sync_folder(inner)
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


def unfinished(folder: Path) -> Path:
    """Where the networks of a run that has not ended are kept; `discard` removes them."""
    return folder.with_name(folder.name + ".unfinished")


def studies(folder: Path) -> str:
    """Address of the file of a run's searches for settings: kept, so that the same search is made once. Optuna's own
    format.
    """
    return f"sqlite:///{folder.with_name(folder.name + '.studies.db')}"


def discard(kept: Path) -> None:
    """Removes kept networks, and nothing else that may lie in the same folder."""
    for file in (*kept.glob("*.safetensors"), *kept.glob("*.part")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        kept.rmdir()


def previous(folder: Path) -> Path:
    """Where the run stays that the one in `folder` replaced."""
    return folder.with_name(folder.name + ".previous")


def run_parts(run: Run) -> dict[str, bytes]:
    """Name -> bytes of everything that is saved; the same run gives the same bytes."""
    return {name: part if isinstance(part, bytes) else part.read() for name, part in _parts(run).items()}


def _parts(run: Run) -> dict[str, bytes | KeptFile]:
    """The parts of `run_parts`, of which the largest may be a file."""
    parts: dict[str, bytes | KeptFile] = {FORECASTS: run.forecasts_parquet}
    parts |= {f"{name}.parquet": _parquet(getattr(run, name)) for name in FRAMES}
    parts["scores.json"] = _json(run.scores)
    parts["provenance.json"] = _json(run.provenance)
    notes = {"bars": IN_MEMORY} if run.experiment.bars.source == "frame" else {}
    parts["experiment.toml"] = to_toml(run.experiment, notes).encode()
    for name in run.classes:
        parts |= _class_parts(run, name)
    if run.path is not None and run.is_loaded:  # its models come along
        parts |= _verified(run.path, "models/", "scale/", "issued/")
    return parts


def replacement(run: Run) -> str:
    """In words, where the run stays that a run which was just saved replaced, how it differs and how to go back.

    Empty where none is there.
    """
    if run.path is None or not (undo := previous(run.path)).is_dir():
        return ""
    try:
        before = json.loads((undo / "provenance.json").read_bytes())
        own = {"settings": "settings_hash", "bars": "data_hash"}
        other = [name for name, key in own.items() if before[key] != run.provenance[key]]
    except (OSError, ValueError, KeyError, TypeError):
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
    page = Path(folder).expanduser().resolve() / PAGE
    follows = f"The run itself is saved; make room, then `gatecast report {folder}` draws the page."
    with _beside(page, follows) as temporary:
        write(temporary, html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, page)
        sync_folder(page.parent)
    return page


def _class_parts(run: Run, name: str) -> dict[str, bytes]:
    """The models of a class's last refit, the scale of its signals at every refit, and what else was issued."""
    forecasts = run.classes[name].forecasts
    parts: dict[str, bytes] = {}
    for model, fitted in forecasts.fitted.items():
        arrays, settings = state_of(forecasts.panel[model], fitted)
        stem = f"models/{quote(name, safe='')}/{quote(model, safe='')}"
        parts[f"{stem}.safetensors"], parts[f"{stem}.json"] = _tensors(arrays), _json(settings)
    parts[f"scale/{quote(name, safe='')}.safetensors"] = _tensors(_scale(run, name))
    issued = forecasts.issued()
    members = {
        f"{model}/{seed}/{head}": array
        for model, each in issued.members.items() for seed, one in enumerate(each) for head, array in one.items()
    }  # fmt: skip
    stem = f"issued/{quote(name, safe='')}"
    parts[f"{stem}.safetensors"] = _tensors({**members, TIME: _microseconds(issued.time)})
    parts[f"{stem}.json"] = _json(
        {
            "refits": [str(one) for one in issued.cutoffs],
            "in_force": {head: list(names) for head, names in issued.in_force.items()},
            "rivals": {head: list(names) for head, names in issued.rivals.items()},
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


def _json(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode()


def _content(part: bytes | KeptFile) -> bytes | Path:
    return part if isinstance(part, bytes) else part.path


def _size(content: bytes | KeptFile) -> int:
    return len(content) if isinstance(content, bytes) else content.path.stat().st_size


@contextlib.contextmanager
def _beside(place: Path, follows: str = UNCHANGED) -> Iterator[Path]:
    """See `files.beside`; a fault of the disk becomes a StoreError. `follows`: what is so then, and what to do."""
    try:
        with beside(place) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{place} cannot be written: {error.strerror or error}. {follows}") from None


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
    sync_folder(place.parent)


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


@checked
def load_run(folder: str | Path) -> Run:
    """The run of a folder, every part checked against the manifest before it is read.

    `classes` is empty and `control` None: their numbers are in `scores`. `chain_of` makes the classes again without a
    fit; see `load_models` for the fitted models.

    Raises `StoreError` with the file and what to do, for what is missing, damaged or was changed.
    """
    place = Path(folder).expanduser().resolve()
    parts = _verified(place)
    try:
        signals, weights, equity, bars = (
            pl.read_parquet(io.BytesIO(_part(place, parts, f"{name}.parquet"))) for name in FRAMES
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise StoreError(f"{place}: a table cannot be read: {error}. {_remedy(place)}") from None
    try:
        experiment = Experiment(**tomllib.loads(_part(place, parts, "experiment.toml").decode()))
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        made_with = _table(place, parts, "provenance.json").get("plugins")
        hint = f" The run was made with {', '.join(map(str, made_with.values()))}: install it." if made_with else ""
        raise StoreError(
            f"{place / 'experiment.toml'}: written by another version of gatecast, or with parts that are not here: "
            f"{error}{hint}"
        ) from None
    scores, provenance = (_table(place, parts, f"{name}.json") for name in ("scores", "provenance"))
    forecasts = _part(place, parts, FORECASTS)
    return Run(experiment, bars, forecasts, signals, weights, equity, scores, provenance, path=place)


@checked
def load_models(folder: str | Path) -> dict[str, dict[str, FittedForecaster]]:
    """Asset class -> model -> the fitted forecaster of the last refit. Raises `StoreError` as `load_run` does."""
    place = Path(folder).expanduser().resolve()
    parts = _verified(place, "models/")
    models: dict[str, dict[str, FittedForecaster]] = {}
    for stem in (name.removesuffix(".json") for name in parts if name.endswith(".json")):
        if stem.count("/") != 2:
            raise StoreError(f"{place / stem}.json is no model of a class. {_remedy(place)}")
        _, asset_class, model = (unquote(part) for part in stem.split("/"))
        arrays, settings = _arrays(_part(place, parts, f"{stem}.safetensors")), _table(place, parts, f"{stem}.json")
        models.setdefault(asset_class, {})[FORMER_NAMES.get(model, model)] = from_state(arrays, settings)
    return models


def load_scale(folder: str | Path) -> dict[str, dict[str, FloatArray]]:
    """Asset class -> model -> forecasts of each refit's validation rows, one refit after the other.

    They are what signals are measured against (`Forecasts.scale`, joined). Raises `StoreError` as `load_run` does.
    """
    parts = _verified(Path(folder).expanduser().resolve(), "scale/")
    return {unquote(name[len("scale/") : -len(".safetensors")]): _arrays(content) for name, content in parts.items()}


@checked
def chain_of(run: Run | str | Path) -> Chain:
    """The chain of a run, or of the run of a folder, made again from what it issued: nothing is fitted.

    Its classes have samples, forecasts with their models, signals, proposals and choices as the run had them. Raises
    `StoreError` as `past_of` does.

    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=synthetic.b1(900, seed=1), features=("x",), schedule={"refit": "1Y"}, **few))
    >>> again = chain_of(done).classes["index"].selection
    >>> np.array_equal(again.weight, done.classes["index"].selection.weight)
    True
    """
    run = run if isinstance(run, Run) else load_run(run)
    actions = recorded_delistings(run.scores.get("delistings"))
    chain = make_chain(run.experiment, run.bars, actions=actions, past=past_of(run), refit="never")
    emptied = (run.doubtful or run.untradable) and run.experiment.selection.evidence is None
    return chain.with_nothing_held(run.experiment.costs) if emptied else chain


def past_of(run: Run | str | Path) -> Past:
    """What a run, or the run of a folder, has issued: the `past` of a chain over its bars and newer ones.

    In: a run with its classes, or with the folder that it was read from. Out: see `chain.Past`; of what the seeds of a
    model forecast alone nothing where a version before 0.2 wrote the folder. Raises `StoreError` as `load_run` does,
    and where the parts do not fit together.

    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> done = run(Experiment(bars=synthetic.b1(900, seed=1), features=("x",), schedule={"refit": "1Y"}, **few))
    >>> past_of(done).forecasts["index"].cutoffs == tuple(one.cutoff for one in done.classes["index"].forecasts.folds)
    True
    """
    if not isinstance(run, Run):
        run = load_run(run)
    features = {name: tuple(names) for name, names in (run.provenance.get("features") or {}).items()}
    if run.classes:
        issued = {name: one.forecasts.issued() for name, one in run.classes.items()}
        return Past(issued, features, run.weights, run.experiment.forecasting)
    if run.path is None:
        raise StoreError("this run has neither its classes nor a folder: load it with load_run(folder).")
    models, scales = load_models(run.path), load_scale(run.path)
    more = _verified(run.path, "issued/")
    found = {name: _issued(run, name, models[name], scales.get(name, {}), more) for name in features if name in models}
    return Past(found, features, run.weights, run.experiment.forecasting)


def _issued(
    run: Run, name: str, fitted: dict[str, FittedForecaster], scale: dict[str, FloatArray], more: dict[str, bytes]
) -> Issued:
    """What a run on disk has issued of one class. Raises `StoreError` where its parts do not fit together."""
    symbols = run.bars.filter(pl.col("asset_class") == name)["symbol"].unique()
    table = run.scan_forecasts().filter(pl.col("symbol").is_in(symbols.implode())).collect()
    keys = table.select("symbol", "time").unique().sort("symbol", "time")
    time = keys["time"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
    stem = f"issued/{quote(name, safe='')}"
    own = json.loads(more[f"{stem}.json"]) if f"{stem}.json" in more else {}
    rows = [one for one in run.scores.get("folds") or () if one["asset_class"] == name]
    cutoffs = own.get("refits") or [one["refit"] for one in rows]
    bounds = np.cumsum([one["validation"] for one in rows])[:-1]
    if len(keys) == 0 or not cutoffs or len(cutoffs) != len(rows):
        raise StoreError(f"{run.path}: the forecasts or the refits of {name} are missing. Run the experiment again.")
    arrays = _arrays(more[f"{stem}.safetensors"]) if f"{stem}.safetensors" in more else {}
    if arrays and not np.array_equal(arrays.pop(TIME, np.zeros(0)), _microseconds(time)):
        raise StoreError(f"{run.path}: {stem}.safetensors is not of these forecasts. Run the experiment again.")
    members: dict[str, tuple[dict[str, FloatArray], ...]] = {}
    for model in dict.fromkeys(key.rsplit("/", 2)[0] for key in arrays):
        seeds = [key.rsplit("/", 2)[1:] for key in arrays if key.rsplit("/", 2)[0] == model]
        members[FORMER_NAMES.get(model, model)] = tuple(
            {head: arrays[f"{model}/{seed}/{head}"] for number, head in seeds if number == str(seed)}
            for seed in range(1 + max(int(number) for number, _ in seeds))
        )
    return Issued(
        tuple(keys["symbol"]), time, tuple(np.datetime64(one, "us") for one in cutoffs),
        _tables(table, keys, run.experiment.horizon),
        {model: tuple(np.split(values, bounds)) for model, values in scale.items()}, fitted, members,
        {head: tuple(names) for head, names in (own.get("in_force") or {}).items()},
        {head: tuple(names) for head, names in (own.get("rivals") or {}).items()},
    )  # fmt: skip


def _tables(issued: pl.DataFrame, keys: pl.DataFrame, horizon: int) -> dict[str, dict[str, FloatArray]]:
    """Model -> head -> array over the keys, as `Forecasts.values` has them; of a path (keys, horizon)."""
    table = issued.join(keys.with_row_index("row"), on=["symbol", "time"], how="inner")
    values: dict[str, dict[str, FloatArray]] = {}
    for (model, head), part in table.group_by("model", "head", maintain_order=True):
        wide = head == "return" or str(head).startswith((LOW, HIGH))
        array = np.full((len(keys), horizon) if wide else len(keys), np.nan)
        rows = part["row"].to_numpy()
        if wide:
            array[rows, part["step"].to_numpy() - 1] = part["value"].to_numpy()
        else:
            array[rows] = part["value"].to_numpy()
        values.setdefault(FORMER_NAMES.get(str(model), str(model)), {})[str(head)] = array
    return values


def _microseconds(time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return time.astype("datetime64[us]").astype(np.int64)


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"a stored model cannot be read: {error}. It was written by another version.") from None


def _table(folder: Path, parts: dict[str, bytes], name: str) -> dict[str, Any]:
    """A part that is a JSON object. Raises `StoreError` for anything else."""
    try:
        table = json.loads(_part(folder, parts, name))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{folder / name} is no JSON: {type(error).__name__}. {_remedy(folder)}") from None
    if not isinstance(table, dict):
        raise StoreError(f"{folder / name} is no table but {type(table).__name__}. {_remedy(folder)}")
    return table


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
        if len(content) != size or sha256_of(content) != sha256:
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
    except NotADirectoryError:
        raise StoreError(f"{folder} is a file: give the folder of a run, as `gatecast run` wrote it.") from None
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
