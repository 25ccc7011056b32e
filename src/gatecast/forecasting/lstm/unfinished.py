"""Trained networks of an unfinished run, in files, so that an interrupted run continues from them.

A network is filed under the hash of all that decides it (settings, scaled inputs, answers, rows, seed, the weights that
it starts from where they are an earlier fit's, and the engine's own code), so that nothing else can ever be taken for
it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.files import beside
from gatecast.forecasting.lstm.recipe import Recipe
from gatecast.forecasting.lstm.source import engine_code
from gatecast.forecasting.lstm.training import Fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.lstm.lesson import PreparedFold


def key_of(
    settings: Recipe, lesson: PreparedFold, seed: int, start: dict[str, NDArray[np.float32]] | None = None
) -> str:
    """SHA-256 of everything that one fit depends on; `start`: an earlier fit's weights, None: a cold start."""
    digest = hashlib.sha256(engine_code())
    digest.update(settings.model_dump_json(include=set(Recipe.model_fields)).encode())
    digest.update(str(seed).encode())
    decisive: list[NDArray[Any]] = [lesson.inputs, lesson.table, lesson.train, lesson.validation, lesson.counts]
    if start is not None:
        decisive += [start[name] for name in sorted(start)]
    for array in decisive:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def recall(folder: Path, key: str) -> Fit | None:
    """The network kept under this key; None if there is none, or if its file is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / f"{key}.safetensors")
        epochs, train, validation = (arrays.pop(name) for name in ("best_epoch", "train_loss", "validation_loss"))
    except (OSError, SafetensorError, KeyError):
        return None
    return Fit(arrays, int(epochs[0]), tuple(train.tolist()), tuple(validation.tolist()))


def keep(folder: Path, key: str, fit: Fit) -> None:
    """Files a network, whole or not at all; a folder that cannot be written is no reason to lose the fit."""
    from safetensors.numpy import save_file

    place = folder / f"{key}.safetensors"
    losses = {"train_loss": np.array(fit.train_loss), "validation_loss": np.array(fit.validation_loss)}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with beside(place) as part:
            save_file({**fit.weights, "best_epoch": np.array([fit.best_epoch]), **losses}, part)
            part.replace(place)
