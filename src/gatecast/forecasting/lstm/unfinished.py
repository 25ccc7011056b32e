"""Trained networks of an unfinished run, in files, so that an interrupted run continues from them.

A network is filed under the hash of all that decides it (settings, scaled inputs, answers, rows, seed, the weights that
it starts from where they are an earlier fit's, and the engine's own code), so that nothing else can ever be taken for
it; in the file is a hash of its numbers, so that one flipped bit is noticed and the network is trained anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.compute.notices import notice, reason
from gatecast.files import beside, read
from gatecast.forecasting.lstm.recipe import Recipe
from gatecast.forecasting.lstm.source import engine_code
from gatecast.forecasting.lstm.training import Fit, initial_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.lstm.lesson import PreparedFold

HEADER_BYTES = 2**16  # that the names, shapes and digest in a file may take


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


def recall(folder: Path, key: str, settings: Recipe, lesson: PreparedFold) -> Fit | None:
    """The network kept under this key; None, so that it is trained anew, if there is none or its file is not as kept.

    Only a regular file of about the network's own size is opened; links are not followed. Taken is what has the digest,
    the names, shapes and types of such a network, and finite numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    blank = initial_weights(settings, lesson.inputs.shape[1], lesson.table.shape[1], 0)
    shapes = {name: (one.shape, one.dtype) for name, one in blank.items()}
    at_most = sum(one.nbytes for one in blank.values()) + 16 * settings.epochs + HEADER_BYTES
    try:
        arrays = load(read(folder / f"{key}.safetensors", at_most=at_most, follow=False))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError):
        return None
    digest = arrays.pop("sha256", np.zeros(0))
    if digest.tobytes() != _digest(key, arrays):
        return None
    if {name: (one.shape, one.dtype) for name, one in arrays.items() if name in shapes} != shapes:
        return None
    try:
        best, train, validation = (arrays.pop(name) for name in ("best_epoch", "train_loss", "validation_loss"))
        losses = np.stack([train, validation])  # (2, epochs)
        sound = best.shape == (1,) and losses.ndim == 2 and 0 <= best[0] <= losses.shape[1] <= settings.epochs
    except (LookupError, ValueError):
        return None
    if not sound or len(arrays) != len(shapes) or not all(np.isfinite(one).all() for one in (losses, *arrays.values())):
        return None
    return Fit(arrays, int(best[0]), tuple(train.tolist()), tuple(validation.tolist()))


def keep(folder: Path, key: str, fit: Fit) -> None:
    """Files a network with a digest of its content, whole or not at all; that it cannot be is said by `notice`.

    It is not brought to the disk: what a power cut leaves of it has another digest.
    """
    from safetensors.numpy import save

    arrays = {
        **fit.weights, "best_epoch": np.array([fit.best_epoch]),
        "train_loss": np.array(fit.train_loss), "validation_loss": np.array(fit.validation_loss),
    }  # fmt: skip
    content = save({**arrays, "sha256": np.frombuffer(_digest(key, arrays), np.uint8)})
    place = folder / f"{key}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with beside(place) as part:
            part.write_bytes(content)
            part.replace(place)
    except OSError as error:
        notice(
            f"trained networks cannot be kept in {folder} ({reason(error)}): the run goes on, and trains them anew if "
            "it is interrupted."
        )


def _digest(key: str, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """SHA-256 of a network's numbers, and of the key that it is filed under."""
    digest = hashlib.sha256(key.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
