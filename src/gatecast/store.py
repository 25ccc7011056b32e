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
import typing
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, unquote

import annotated_types
import numpy as np
import polars as pl
import tomli_w
from pydantic import BaseModel

from gatecast.arguments import checked
from gatecast.errors import SettingsError, StoreError
from gatecast.experiment import SAID_ABOVE, Control, Experiment
from gatecast.forecasting.models import from_state
from gatecast.forecasting.spill import KeptFile
from gatecast.forecasting.tuning import Tuning
from gatecast.results import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydantic.fields import FieldInfo

    from gatecast.forecasting.forecaster import FittedForecaster

    FloatArray = NDArray[np.float64]

FORMAT, VERSION = "gatecast run", 1
MANIFEST, PAGE = "manifest.json", "report.html"
UNCHANGED = "What was there is unchanged; make room or give another folder, then save again."
FORECASTS, FRAMES = "forecasts.parquet", ("signals", "weights", "equity", "bars")
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
    listed = {name: {"sha256": _sha256(parts[name]), "bytes": _size(parts[name])} for name in sorted(parts)}
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


def unfinished(folder: Path) -> Path:
    """Where the networks of a run that has not ended are kept; `discard` removes them."""
    return folder.with_name(folder.name + ".unfinished")


def studies(folder: Path) -> Path:
    """The file of a run's searches for settings: kept, so that the same search is made once. Optuna's own format."""
    return folder.with_name(folder.name + ".studies.db")


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
    parts["experiment.toml"] = to_toml(run.experiment).encode()
    for name in run.classes:
        parts |= _class_parts(run, name)
    if not run.classes and run.path is not None:  # a run that was loaded: its models come along
        parts |= _verified(run.path, "models/", "scale/")
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
        _write(temporary, html.encode("utf-8", "backslashreplace"))
        os.replace(temporary, page)
        _sync(page.parent)
    return page


def _class_parts(run: Run, name: str) -> dict[str, bytes]:
    """The models of a class's last refit, and the scale of its signals at every refit."""
    forecasts = run.classes[name].forecasts
    parts: dict[str, bytes] = {}
    for model, fitted in forecasts.fitted.items():
        arrays, settings = fitted.state()
        stem = f"models/{quote(name, safe='')}/{quote(model, safe='')}"
        parts[f"{stem}.safetensors"], parts[f"{stem}.json"] = _tensors(arrays), _json(settings)
    of = (run.experiment.signals.model, run.experiment.signals.confirmed_by)
    scale = {model: np.concatenate(forecasts.scale[model]) for model in of if model in forecasts.scale}
    parts[f"scale/{quote(name, safe='')}.safetensors"] = _tensors(scale)
    return parts


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd")  # chunks would show in the bytes
    return buffer.getvalue()


def _tensors(arrays: dict[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    return save({name: np.array(array, order="C", copy=True) for name, array in arrays.items()})  # it ignores strides


def _json(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode()


def _sha256(content: bytes | KeptFile) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(content: bytes | KeptFile) -> int:
    return len(content) if isinstance(content, bytes) else content.path.stat().st_size


@contextlib.contextmanager
def _beside(place: Path, follows: str = UNCHANGED) -> Iterator[Path]:
    """A name beside `place` to write to first; removed whatever happens. A fault of the disk becomes a StoreError."""
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        yield temporary
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{place} cannot be written: {error.strerror or error}. {follows}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes | KeptFile) -> None:
    with path.open("xb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.path.open("rb") as kept:
                shutil.copyfileobj(kept, file)
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


@checked
def load_run(folder: str | Path) -> Run:
    """The run of a folder, every part checked against the manifest before it is read.

    `classes` is empty and `control` None: their numbers are in `scores`. See `load_models` for the fitted models.

    Raises `StoreError` with the file and what to do, for what is missing, damaged or was changed.
    """
    place = Path(folder).expanduser().resolve()
    parts = _verified(place)
    signals, weights, equity, bars = (
        pl.read_parquet(io.BytesIO(_part(place, parts, f"{name}.parquet"))) for name in FRAMES
    )
    try:
        experiment = Experiment(**tomllib.loads(_part(place, parts, "experiment.toml").decode()))
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        raise StoreError(f"{place / 'experiment.toml'}: written by another version of gatecast: {error}") from None
    scores, provenance = (json.loads(_part(place, parts, f"{name}.json")) for name in ("scores", "provenance"))
    forecasts = _part(place, parts, FORECASTS)
    return Run(experiment, bars, forecasts, signals, weights, equity, scores, provenance, path=place)


@checked
def load_models(folder: str | Path) -> dict[str, dict[str, FittedForecaster]]:
    """Asset class -> model -> the fitted forecaster of the last refit. Raises `StoreError` as `load_run` does."""
    place = Path(folder).expanduser().resolve()
    parts = _verified(place, "models/")
    models: dict[str, dict[str, FittedForecaster]] = {}
    for stem in (name.removesuffix(".json") for name in parts if name.endswith(".json")):
        _, asset_class, model = (unquote(part) for part in stem.split("/"))
        arrays, settings = _arrays(_part(place, parts, f"{stem}.safetensors")), json.loads(parts[f"{stem}.json"])
        models.setdefault(asset_class, {})[model] = from_state(arrays, settings)
    return models


def load_scale(folder: str | Path) -> dict[str, dict[str, FloatArray]]:
    """Asset class -> model -> forecasts of each refit's validation rows, one refit after the other.

    They are what signals are measured against (`Forecasts.scale`, joined). Raises `StoreError` as `load_run` does.
    """
    parts = _verified(Path(folder).expanduser().resolve(), "scale/")
    return {unquote(name[len("scale/") : -len(".safetensors")]): _arrays(content) for name, content in parts.items()}


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except SafetensorError as error:
        raise StoreError(f"a stored model cannot be read: {error}. It was written by another version.") from None


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


# ── settings as commented TOML ────────────────────────────────────────────────────────────────────

SECTIONS = {
    "bars": "Where the bars come from, and how they are to be understood.",
    "schedule": "Walk-forward: when models are refitted, and on what.",
    "lstm": "The LSTM; lookback, horizon and seed are said once, above.",
    "forest": "The random forest.",
    "logistic": "The logistic regression.",
    "ridge": "The ridge regression, the linear yardstick.",
    "highway": "The LSTM that corrects the linear forecasts of variance.",
    "tft": "The Temporal Fusion Transformer, where models name tft; lookback, horizon and seed are said above.",
    "garch": "GARCH and GJR-GARCH with t innovations, where models name garch or gjr.",
    "markov": "The hidden Markov model of regimes, where models name markov; its seed is said above.",
    "ensemble": "How the models' forecasts become one.",
    "intervals": "Intervals around the ensemble's path.",
    "signals": "When a forecast is a signal.",
    "strategies": "What the strategies have in common.",
    "selection": "Which strategy is in force, and how evidence reaches the money.",
    "costs": "Costs of trading in basis points; left out: those of the asset class.",
    "tuning": "Bayesian search for the LSTM's settings, one study a class and date: off until the line below is there.",
    "control": "A planted market through the same chain, to see what evidence of skill looks like.",
}

COMMENTS = {
    "name": "names the run and its folder",
    "seed": "everything random follows from it",
    "lookback": "bars in a window (T)",
    "horizon": "bars ahead (h)",
    "features": "names of the catalogue or columns of the bars; left out: the default five",
    "volatility_proxy": "close_to_close, parkinson, garman_klass, or a column of the bars",
    "models": "of lstm, forest, logistic, ridge, highway, tft, garch, gjr, markov",
    "holdout": "first session that nothing reads until `gatecast unseal`, once",
    "too_good": "heads or columns that may be too good to be true, or planted; said first",
    "bars.source": "a CSV or Parquet file, a folder, a glob, or embedded",
    "bars.symbols": "keep only these",
    "bars.symbols_file": "a CSV with symbol and asset_class",
    "bars.asset_class": "for symbols without a class of their own",
    "bars.timezone": "of times without one",
    "bars.stamp": "what an intraday time stands for: open or close of the bar",
    "bars.resample": "to coarser bars",
    "bars.start": "first session",
    "bars.end": "last session",
    "bars.as_of": "only what was known then",
    "bars.versions": "of several versions of a row: the first known, which forecasts could use, or the newest",
    "bars.known_at": "when further columns become known: a delay after the row's close, or a column of times",
    "bars.date_format": "of dates like 03/04/2024",
    "bars.splits": "a table of symbol, date, ratio; false: every step is a true move",
    "bars.actions": "a table of symbol, kind (split, delisting), date, value",
    "bars.columns": "further columns to read; left out: all that hold numbers",
    "schedule.train": "window of what is known: 2Y, 18M, 60W, or a number of bars",
    "schedule.refit": "1M, 1W, 3M, 1Y, or a number of bars",
    "schedule.expanding": "keep all since the first bar",
    "schedule.validation": "latest share of the window, for early stopping",
    "schedule.minimum": "history before the first refit",
    "lstm.lookback": "said at the top",
    "lstm.horizon": "said at the top",
    "lstm.units": "units in a layer",
    "lstm.layers": "layers",
    "lstm.dropout": "between layers and before the heads",
    "lstm.heads": "what it forecasts",
    "lstm.scaling": "of inputs, fitted on training rows only",
    "lstm.training": "on chunks of bars, or window by window as the reference",
    "lstm.engine": "the compiled kernel, or its readable twin",
    "lstm.burn_in_gradient": "gradients run through the bars before a chunk",
    "lstm.selection": "weigh the features at each bar before the first layer",
    "lstm.features": "those that it reads; left out: all",
    "lstm.window": "what it learns from: 4Y, a number of bars, expanding; left out: the schedule's",
    "lstm.half_life": "years of age that halve a label's weight in the loss",
    "lstm.learning_rate": "of Adam",
    "lstm.weight_decay": "of Adam",
    "lstm.clip": "largest norm of the gradient",
    "lstm.epochs": "at most",
    "lstm.patience": "epochs without improvement before it stops, once anything has been learned",
    "lstm.averaging": "share of the earlier epochs in the running mean of the weights that is kept",
    "lstm.chunk": "labels in a chunk; without it 32, or 16 where there are 5,000 rows or more",
    "lstm.batch": "chunks in an update",
    "lstm.seeds": "networks in the ensemble",
    "lstm.seed": "said at the top",
    "lstm.every": "refits from one training to the next",
    "lstm.warm_start": "begin with the weights of the newest fit that saw no answer of the new validation block",
    "lstm.label": "its name in the forecasts",
    "forest.trees": "number of trees",
    "forest.depth": "of a tree, at most",
    "forest.leaf": "rows in a leaf, at least",
    "forest.columns": "share of inputs tried at a split",
    "forest.rows": "share of the rows drawn for each tree",
    "forest.window": "what it learns from; left out: the schedule's",
    "forest.half_life": "years of age that halve a row's weight",
    "forest.seed": "said at the top",
    "logistic.inputs": "summaries of the window, distance of recent variance to the regime's level, or har: of three",
    "logistic.heads": "what it forecasts",
    "logistic.strengths": "inverse penalties to choose from on the validation block",
    "logistic.window": "what it learns from; left out: the schedule's",
    "logistic.half_life": "years of age that halve a row's weight",
    "logistic.every": "refits from one training to the next",
    "logistic.label": "its name in the forecasts",
    "ridge.penalties": "to choose from on the validation block",
    "ridge.window": "what it learns from; left out: the schedule's",
    "ridge.half_life": "years of age that halve a row's weight",
    "ridge.every": "refits from one training to the next",
    "highway.lookback": "said at the top",
    "highway.horizon": "said at the top",
    "highway.units": "units in a layer",
    "highway.layers": "layers",
    "highway.dropout": "between layers and before the head",
    "highway.epochs": "at most; more overfit a residual",
    "highway.learning_rate": "of Adam",
    "highway.seeds": "networks",
    "highway.every": "refits from one training to the next",
    "highway.seed": "said at the top",
    "tft.lookback": "said at the top",
    "tft.horizon": "said at the top",
    "tft.units": "width of every layer",
    "tft.attention_heads": "a divisor of the units",
    "tft.dropout": "in the gated residual networks and before the gates",
    "tft.quantiles": "of the return, ascending and around .5",
    "tft.learning_rate": "of Adam",
    "tft.clip": "largest norm of the gradient",
    "tft.batch": "windows in an update",
    "tft.epochs": "at most",
    "tft.patience": "epochs without improvement before it stops",
    "tft.every": "refits from one training to the next",
    "tft.window": "what it learns from; left out: the schedule's",
    "tft.seed": "said at the top",
    "garch.every": "refits from one fit of the parameters to the next; the variance goes on bar by bar",
    "garch.minimum": "returns of a symbol; with fewer it is forecast by its trailing variance",
    "markov.states": "of the market, ordered by variance",
    "markov.starts": "beginnings of the fit, of which the best is kept",
    "markov.minimum": "returns of a symbol; with fewer it takes the share of turbulent spells",
    "markov.window": "what it learns from; left out: the schedule's",
    "markov.seed": "said at the top",
    "ensemble.members": "models that are combined, those of them that run",
    "ensemble.volatility_members": "forecasts of variance whose weights are learned from their past",
    "ensemble.volatility_base": "those in force before there is a record",
    "ensemble.prior_sd": "of the calibration slopes, around 0",
    "ensemble.minimum_days": "of record before a slope leaves 0",
    "intervals.levels": "shares of the answers that should lie inside, ascending",
    "intervals.rate": "how fast the ends follow what came out, in standard deviations",
    "intervals.minimum_days": "days of record before the ends leave the normal quantile",
    "signals.threshold": "standard deviations of the forecast's own past",
    "signals.minimum": "earlier forecasts that a z-score needs",
    "signals.model": "whose forecast signals",
    "signals.confirmed_by": "whose agreement makes a consensus",
    "strategies.target_volatility": "yearly, of a full position",
    "strategies.consensus_boost": "larger positions when both models agree",
    "strategies.abstain": "share of an interval's half width below which an expected return is not entered",
    "strategies.trend_bars": "of past return whose sign is the trend",
    "strategies.oversold": "RSI below which mean reversion buys",
    "strategies.overbought": "RSI above which it sells",
    "selection.memory_bars": "how slowly the record forgets",
    "selection.learning_rate": "weight of one bar's net profit",
    "selection.minimum_days": "of record before anything is held",
    "selection.evidence": "0-1: overrides what the evidence allows, and the report says so",
    "costs.commission_bps": "a side",
    "costs.slippage_bps": "a side: half the spread and the impact",
    "costs.borrow_bps_per_year": "of what is held short",
    "tuning.trials": "candidates a study, the settings above among them",
    "tuning.seconds": "instead, as many as begin in so much time; cannot be repeated exactly",
    "tuning.every": "from one search to the next: 1Y, 3M, 1M",
    "tuning.slice": "what a search sees, the latest before its date",
    "tuning.folds": "blocks of the slice, one after the other, on which candidates are scored",
    "tuning.seeds": "networks a candidate",
    "tuning.head": "whose loss counts: all, or one of the LSTM's heads",
    "tuning.margin": "standard errors by which a candidate must beat the settings above to replace them",
    "tuning.sampler": "Parzen estimators, or a Gaussian process",
    "tuning.prune": "give up candidates that are worse than the median after a block",
    "tuning.lookback": "from and to",
    "tuning.layers": "from and to",
    "tuning.units": "from and to",
    "tuning.dropout": "from and to",
    "tuning.learning_rate": "from and to",
    "tuning.weight_decay": "from and to",
    "tuning.batch": "from and to",
    "tuning.windows": "what may be learned from; no more than the slice is seen in the search",
    "tuning.features": "whether each feature may be left out",
    "tuning.storage": "a file, or a PostgreSQL server that several machines share; left out: a file beside the run",
    "control.market": "a name of gatecast.market.synthetic",
    "control.r2": "share of each bar's variance that can be forecast",
    "control.bars": "its length",
    "control.seed": "of the planted path",
}  # fmt: skip

EXAMPLES: dict[str, Any] = {
    "features": ["ret_log_1", "rsi_14"], "lstm.features": ["ret_log_1", "rsi_14"], "tuning.seconds": 3600.0,
    "tuning.storage": "postgresql+psycopg://user@host/studies", "holdout": "2017-01-01", "lstm.chunk": 16,
    "bars.symbols": ["SP500"], "bars.symbols_file": "symbols.csv",
    "bars.timezone": "Europe/Berlin", "bars.stamp": "open", "bars.resample": "1w", "bars.start": "2005-01-01",
    "bars.end": "2018-12-31", "bars.as_of": "2018-12-31", "bars.date_format": "%d/%m/%Y",
    "bars.known_at": {"short_interest": "16d"}, "bars.splits": "splits.csv",
    "bars.actions": "actions.csv", "bars.columns": ["sentiment"],
    "selection.evidence": 1.0,
    **{f"{model}.window": "expanding" for model in ("lstm", "forest", "logistic", "ridge", "tft", "markov")},
    **{f"{model}.half_life": 4.0 for model in ("lstm", "forest", "logistic", "ridge")},
    "costs.commission_bps": 1.0, "costs.slippage_bps": 2.0, "costs.borrow_bps_per_year": 50.0,
}  # fmt: skip
"""What a setting that is left out could look like."""

LEFT_OUT: dict[str, BaseModel] = {"tuning": Tuning(), "control": Control()}
"""What a section would say that is not set."""

_SAID_ABOVE = {f"{model}.{name}" for model, names in SAID_ABOVE.items() for name in names}


def to_toml(experiment: Experiment) -> str:
    """Commented TOML that `Experiment.from_toml` reads back into the same settings; what is left out is commented.

    >>> tomllib.loads(to_toml(Experiment(horizon=3)))["horizon"]
    3
    """
    lines = ["# Settings of a gatecast experiment. What is commented out is not set: the line shows how.", ""]
    lines += _section("", experiment, active=True)
    if experiment.bars.source == "frame":
        lines += ["", "# These bars were handed over in memory; they are in bars.parquet, beside this file."]
    for name, comment in SECTIONS.items():
        settings = getattr(experiment, name)
        active = settings is not None
        lines += ["", f"# {comment}", f"[{name}]" if active else f"# [{name}]"]
        lines += _section(f"{name}.", settings if active else LEFT_OUT[name], active)
    return "\n".join(lines) + "\n"


def _section(prefix: str, settings: BaseModel, active: bool) -> list[str]:
    """One line a setting: `key = value  # what it is (what it may be)`."""
    lines = []
    for key, value in settings.model_dump(mode="json").items():
        place, field = prefix + key, type(settings).model_fields[key]
        if place in SECTIONS or (place in _SAID_ABOVE and value == field.default):
            continue
        shown = EXAMPLES.get(place) if value is None else value
        inner = (
            ", ".join(tomli_w.dumps({name: one}).strip() for name, one in shown.items())
            if isinstance(shown, dict)
            else ""
        )
        line = f"{key} = {{{inner}}}" if inner else tomli_w.dumps({key: shown}).strip()
        line = line.replace("[\n    ", "[").replace(",\n    ", ", ").replace(",\n]", "]")
        comment = "; ".join(part for part in (COMMENTS.get(place, ""), _allowed(field)) if part)
        lines.append(("" if active and value is not None else "# ") + line + (f"  # {comment}" if comment else ""))
    return lines


def _allowed(field: FieldInfo) -> str:
    """The range or the choices of a setting, in words."""
    if typing.get_origin(field.annotation) is Literal:
        return " or ".join(typing.get_args(field.annotation))
    low = high = ""
    for bound in field.metadata:
        match bound:
            case annotated_types.Ge(ge):
                low = f"{ge} or more"
            case annotated_types.Gt(gt):
                low = f"above {gt}"
            case annotated_types.Le(le):
                high = f"at most {le}"
            case annotated_types.Lt(lt):
                high = f"below {lt}"
    if low.endswith(" or more") and high.startswith("at most "):
        return f"{low.removesuffix(' or more')} to {high.removeprefix('at most ')}"
    return ", ".join(part for part in (low, high) if part)
