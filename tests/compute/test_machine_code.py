"""Machine code is read from and written to a folder that nobody else can write; elsewhere it is compiled in memory."""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatecast.compute.machine_code import (
    UnsafeFolderError,
    cache_folder,
    compiled,
    open_private,
    read_private,
    write_private,
)
from gatecast.compute.notices import notices

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX folders")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of machine code, not there yet."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("GATECAST_CACHE", str(tmp_path / "own" / "cache"))
    return tmp_path / "own" / "cache" / "kernel"


def twice() -> Any:
    """A function that Numba has not compiled yet."""

    @compiled()
    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    return double


def said() -> tuple[list[str], int]:
    """What is said while a function is compiled and called, and how often its code came from the folder."""
    function = twice()
    with notices() as found:
        assert function(3) == 6
    return found, sum(function.stats.cache_hits.values())


def test_code_is_kept_for_this_user_alone_and_taken_up(place: Path) -> None:
    assert said() == ([], 0)
    assert said() == ([], 1)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (place, place.parent, place.parents[1])] == [0o700] * 3
    (file,) = place.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def link_folder(place: Path) -> None:
    other = place.parents[1] / "other"
    other.mkdir(parents=True)
    place.parent.mkdir()
    place.symlink_to(other)


def link_above(place: Path) -> None:
    (place.parents[2] / "elsewhere" / "cache").mkdir(parents=True)
    place.parents[1].symlink_to(place.parents[2] / "elsewhere")


def opened(mode: int, above: int = 0) -> Callable[[Path], None]:
    def open_to_others(place: Path) -> None:
        place.mkdir(mode=0o700, parents=True)
        [place, *place.parents][above].chmod(mode)

    return open_to_others


def another_users(above: int) -> Callable[[Path], None]:
    def give_away(place: Path) -> None:
        place.mkdir(mode=0o700, parents=True)
        os.chown([place, *place.parents][above], 12345, -1)

    return give_away


AS_ROOT = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives folders away")


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        # a link of this user's own is not followed either, wherever it is: root's links are the system's
        pytest.param(opened(0o777), "is open to others: remove it, or `chmod 700` it", id="writable"),
        pytest.param(opened(0o750), "is open to others", id="readable"),
        pytest.param(opened(0o1777), "is open to others", id="sticky"),
        pytest.param(opened(0o775, above=1), "cache can be written by others", id="above-writable-by-group"),
        pytest.param(opened(0o777, above=2), "own can be written by others", id="two-above-writable"),
        pytest.param(another_users(0), "kernel is another user's", id="another-users", marks=AS_ROOT),
        pytest.param(another_users(2), "own is another user's", id="above-another-users", marks=AS_ROOT),
    ],
)
def test_a_folder_that_others_could_write_is_not_used_and_it_is_said(
    plant: Callable[[Path], None], sentence: str, place: Path
) -> None:
    plant(place)
    found, hits = said()
    assert hits == 0
    assert len(found) == 1
    assert sentence in found[0]
    assert "compiled in memory" in found[0]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("plant", [link_folder, link_above])
def test_a_link_of_a_users_is_not_followed(plant: Callable[[Path], None], place: Path) -> None:
    plant(place)
    for path in [place, *place.parents]:
        if path.is_symlink() and os.getuid() == 0:
            os.lchown(path, 12345, -1)  # root's own links are the system's
    with pytest.raises(UnsafeFolderError, match="is a link, which is not followed: name the folder itself"):
        open_private(place)
    assert said()[1] == 0
    assert not any(path.is_file() for path in place.parents[2].rglob("*"))


@AS_ROOT
def test_a_link_of_the_systems_is_followed_and_what_it_names_is_checked(tmp_path: Path) -> None:
    (tmp_path / "var" / "home").mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    os.close(open_private(tmp_path / "home" / "kernel"))
    assert (tmp_path / "var" / "home" / "kernel").is_dir()
    (tmp_path / "var").chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="var can be written by others"):
        open_private(tmp_path / "home" / "kernel")
    (tmp_path / "turn").symlink_to("turn")
    with pytest.raises(UnsafeFolderError, match="turn is a link"):
        open_private(tmp_path / "turn" / "kernel")


class Planted:
    """What an attacker would file: a pickle that runs code as it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PLANTED"],)


def test_a_planted_file_is_not_unpickled(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", str(tmp_path / "ran"))
    said()
    (file,) = place.iterdir()
    good = file.read_bytes()
    for content in (pickle.dumps(Planted()), b"", good[:-1], good[:900] + bytes([good[900] ^ 1]) + good[901:]):
        file.write_bytes(content)
        assert said() == ([], 0)  # made again
        assert said() == ([], 1)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "writable"])
def test_a_file_that_is_none_is_not_opened(kind: str, place: Path, tmp_path: Path) -> None:
    said()
    (file,) = place.iterdir()
    if kind == "writable":
        file.chmod(0o666)
    else:
        (tmp_path / "good").write_bytes(file.read_bytes())
        file.unlink()
        {"link": lambda: file.symlink_to(tmp_path / "good"), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}[
            kind
        ]()
    found, hits = said()
    assert hits == 0
    assert len(found) == 1
    assert f"{file} is {'writable by others' if kind == 'writable' else 'no regular file'}: remove it." in found[0]


@pytest.mark.parametrize("name", ["NUMBA_CACHE_DIR", "GATECAST_CACHE", "XDG_CACHE_HOME"])
def test_a_relative_place_is_refused_with_a_word(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATECAST_CACHE")
    monkeypatch.setenv(name, "near")
    found, _ = said()
    assert f"{name} is 'near', where an absolute path was expected" in found[0]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_ends_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATECAST_CACHE", os.devnull)
    found, _ = said()
    assert len(found) == 1
    assert found[0].startswith(f"machine code cannot be kept in {os.devnull}/kernel (Not a directory)")
    monkeypatch.delenv("GATECAST_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    found, _ = said()
    assert len(found) == 1
    assert found[0].startswith("machine code cannot be kept in /proc/nowhere/.cache/gatecast/kernel (")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs limits on files")
def test_a_full_disk_ends_nothing_and_leaves_nothing(place: Path) -> None:
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        found, _ = said()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(found) == 1
    assert found[0].startswith(f"machine code cannot be kept in {place} (File too large)")
    assert list(place.iterdir()) == []


def test_what_was_checked_is_what_is_read_whatever_is_renamed_meanwhile(place: Path) -> None:
    folder = open_private(place)
    try:
        write_private(folder, "a", b"ours")
        place.rename(place.with_name("away"))
        place.mkdir()
        (place / "a").write_bytes(b"theirs")
        assert read_private(folder, "a") == b"ours"
    finally:
        os.close(folder)


def test_the_places_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/a")
    monkeypatch.setenv("GATECAST_CACHE", "/b")
    assert cache_folder() == Path("/a/gatecast")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    assert cache_folder() == Path("/b/kernel")


def test_what_killed_processes_and_older_versions_left_is_removed_a_day_later(place: Path) -> None:
    folder = open_private(place)
    numbas, foreign = place / f"lstm_{'0' * 40}", place / f"lstm_{'1' * 40}"
    old = [place / f".double.{'0' * 12}.part", numbas / "a.nbi", numbas / "b.1.nbc", foreign / "mine.txt"]
    for file in (*old, place / f".double.{'1' * 12}.part"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    for path in (*old, numbas, foreign):
        os.utime(path, (1e9, 1e9))
    os.close(folder)
    assert said() == ([], 0)
    left = sorted(path.name for path in place.iterdir() if not path.name.startswith("twice"))
    assert left == [f".double.{'1' * 12}.part", foreign.name]
    assert (foreign / "mine.txt").exists()
