"""Kept networks: taken up if they are what was kept, to the bit; else trained anew, and nothing strange is opened."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from gatecast.compute.notices import notices
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.lstm import LSTM, FittedLSTM
from gatecast.forecasting.lstm.unfinished import keep, recall
from gatecast.forecasting.schedule import Fold, Schedule
from gatecast.samples.windows import Samples

TINY = LSTM(units=16, layers=1, seeds=1, epochs=2)


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return Schedule(refit="6M").folds(samples.times, samples.known_at)[0].on(samples)


@pytest.fixture(scope="module")
def alone(fold: Fold) -> FittedLSTM:
    return TINY.fit_many([fold])[0]


def fitted(fold: Fold, folder: Path) -> FittedLSTM:
    return TINY.fit_many([fold], Task(resume=folder))[0]


def same(one: FittedLSTM, other: FittedLSTM) -> bool:
    return all(
        {name: array.tobytes() for name, array in a.items()} == {name: array.tobytes() for name, array in b.items()}
        for a, b in zip(one.members, other.members, strict=True)
    )


@pytest.fixture
def file(fold: Fold, tmp_path: Path) -> Path:
    """A network that is kept."""
    fitted(fold, tmp_path / "kept")
    (found,) = (tmp_path / "kept").iterdir()
    return found


def test_what_is_kept_is_taken_up(fold: Fold, alone: FittedLSTM, file: Path) -> None:
    before = file.stat().st_mtime_ns, file.stat().st_ino
    assert same(fitted(fold, file.parent), alone)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_one_flipped_bit_anywhere_is_noticed(fold: Fold, file: Path) -> None:
    """Whatever bit is flipped, the network is as it was kept, or trained anew."""
    lesson, key, good = TINY._prepare(fold), file.stem, file.read_bytes()
    kept = recall(file.parent, key, TINY, lesson)
    assert kept is not None
    draw = np.random.default_rng(0)
    begin = 8 + int.from_bytes(good[:8], "little")
    places = [*range(min(begin, 400)), *draw.integers(begin, len(good), 400).tolist()]
    anew = 0
    for place in places:
        bit = 1 << int(draw.integers(8))
        file.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
        found = recall(file.parent, key, TINY, lesson)
        anew += found is None
        assert found is None or all((found.weights[name] == kept.weights[name]).all() for name in kept.weights)
        assert found is None or place < begin  # numbers are all under the hash
    assert anew > len(places) - 40


def test_a_damaged_network_is_trained_anew_and_kept_again(fold: Fold, alone: FittedLSTM, file: Path) -> None:
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert same(fitted(fold, file.parent), alone)
    assert file.read_bytes() == good


def test_another_networks_file_under_this_name_is_none(fold: Fold, file: Path) -> None:
    other = "0" * 64
    (file.parent / f"{other}.safetensors").write_bytes(file.read_bytes())
    assert recall(file.parent, other, TINY, TINY._prepare(fold)) is None


def wrong_shape(arrays: dict[str, Any]) -> None:
    arrays["head.w"] = arrays["head.w"].T


def wrong_type(arrays: dict[str, Any]) -> None:
    arrays["head.w"] = arrays["head.w"].astype(np.float64)


def not_finite(arrays: dict[str, Any]) -> None:
    arrays["head.w"] = np.where(arrays["head.w"] == arrays["head.w"][0, 0], np.float32(np.nan), arrays["head.w"])


def one_missing(arrays: dict[str, Any]) -> None:
    del arrays["0.b"]


def one_more(arrays: dict[str, Any]) -> None:
    arrays["1.b"] = arrays["0.b"]


def too_many_epochs(arrays: dict[str, Any]) -> None:
    arrays["train_loss"] = arrays["validation_loss"] = np.zeros(3)


def impossible_epoch(arrays: dict[str, Any]) -> None:
    arrays["best_epoch"] = np.array([7])


@pytest.mark.parametrize(
    "change", [wrong_shape, wrong_type, not_finite, one_missing, one_more, too_many_epochs, impossible_epoch]
)
def test_a_file_whose_hash_fits_and_whose_content_does_not(
    change: Callable[[dict[str, Any]], None], fold: Fold, alone: FittedLSTM, file: Path, tmp_path: Path
) -> None:
    from gatecast.forecasting.lstm.training import Fit

    arrays = dict(load(file.read_bytes()))
    del arrays["sha256"]
    change(arrays)
    losses = [tuple(arrays.pop(name).tolist()) for name in ("train_loss", "validation_loss")]
    fit = Fit(arrays, int(arrays.pop("best_epoch")[0]), *losses)
    keep(file.parent, file.stem, fit)
    assert recall(file.parent, file.stem, TINY, TINY._prepare(fold)) is None
    assert same(fitted(fold, file.parent), alone)


def test_other_dtypes_and_huge_headers_are_no_networks(fold: Fold, file: Path) -> None:
    lesson = TINY._prepare(fold)
    for header in (b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"[" * 5000, b"{}"):
        file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
        assert recall(file.parent, file.stem, TINY, lesson) is None
    file.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    assert recall(file.parent, file.stem, TINY, lesson) is None
    file.write_bytes(save({"a": np.zeros(2**20)}))
    assert recall(file.parent, file.stem, TINY, lesson) is None  # its size alone says so


@pytest.mark.parametrize("kind", ["link", "link to a device", "pipe", "folder", "link to nothing"])
def test_what_is_no_file_is_not_opened(kind: str, fold: Fold, alone: FittedLSTM, file: Path, tmp_path: Path) -> None:
    good = file.read_bytes()
    (tmp_path / "good").write_bytes(good)
    file.unlink()
    match kind:
        case "link":
            file.symlink_to(tmp_path / "good")
        case "link to a device":
            file.symlink_to("/dev/zero")
        case "link to nothing":
            file.symlink_to(tmp_path / "nothing")
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
    found: list[FittedLSTM] = []
    with notices() as said:
        thread = threading.Thread(target=lambda: found.append(fitted(fold, file.parent)), daemon=True)
        thread.start()
        thread.join(60)  # a pipe that is opened waits for ever
    assert found
    assert same(found[0], alone)
    if kind == "folder":  # the only one that a file cannot take the place of
        assert [one for one in said if "cannot be kept" in one] == said != []
    else:
        assert said == []
        assert stat.S_ISREG(file.lstat().st_mode)
        assert file.read_bytes() == good
    assert (tmp_path / "good").read_bytes() == good


def test_a_folder_that_cannot_be_written_ends_nothing_and_is_said(
    fold: Fold, alone: FittedLSTM, tmp_path: Path
) -> None:
    for folder, why in ((Path("/proc/no"), "No such file"), (Path(os.devnull) / "kept", "Not a directory")):
        with notices() as said:
            assert same(fitted(fold, folder), alone)
        assert len(said) == 1
        assert said[0].startswith(f"trained networks cannot be kept in {folder} ({why}")
        assert said[0].endswith("the run goes on, and trains them anew if it is interrupted.")


def test_a_full_disk_ends_nothing_and_leaves_nothing(fold: Fold, alone: FittedLSTM, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs limits on files")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with notices() as said:
            assert same(fitted(fold, tmp_path / "kept"), alone)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [one for one in said if one.startswith("trained networks cannot be kept")] == said != []
    assert list((tmp_path / "kept").iterdir()) == []
