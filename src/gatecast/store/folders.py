"""The place of a run: whether one can be saved there, who writes to it now, how a new one replaces the old.

Whatever a killed process left behind stops no later one: temporary names say whose they are, and are removed at the
next start; a run that makes room is renamed before it is removed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gatecast.errors import MAKE_ROOM, StoreError, cut, hint_of
from gatecast.files import beside, free_name, full_path, is_regular, read, remove, sweep, sync_folder, write
from gatecast.store.parts import MANIFEST, PAGE, read_manifest

if TYPE_CHECKING:
    from filelock import BaseFileLock

UNCHANGED = f"What was there is unchanged; {MAKE_ROOM} or give another folder, then save again."
HOLDER_BYTES = 1_000
_held: set[Path] = set()
"""Places whose lock this process has."""


def unfinished(folder: Path) -> Path:
    """Where the networks of a run that has not ended are kept; `discard` removes them."""
    return folder.with_name(folder.name + ".unfinished")


def studies(folder: Path) -> str:
    """Address of the file of a run's searches for settings, in Optuna's own format: the same search is made once."""
    return f"sqlite:///{folder.with_name(folder.name + '.studies.db')}"


def previous(folder: Path) -> Path:
    """Where the run stays that the one in `folder` replaced."""
    return folder.with_name(folder.name + ".previous")


def discard(kept: Path) -> None:
    """Removes kept networks, and nothing else that may lie in the same folder."""
    for file in (*kept.glob("*.safetensors"), *kept.glob("*.part")):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        kept.rmdir()


def check_place(folder: str | Path) -> Path:
    """The folder's full path, if a run can be saved there: it is absent, empty or a gatecast run.

    Worth asking before hours of work. Raises `StoreError` that says what is in the way. What killed processes left
    there is removed.
    """
    place = full_path(folder)
    try:
        return _free_of_others(place)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        why = error.strerror or error
        raise StoreError(f"{cut(str(place))} cannot be written: {why}. Give another folder.") from None


def _free_of_others(place: Path) -> Path:
    """The same path; see `check_place`. Raises `OSError` as the disk does."""
    undo = previous(place)
    for where in (place.parent, place, undo):
        sweep(where)
    if place.exists() and not place.is_dir():
        raise StoreError(f"{place} is a file: give a folder for the run.")
    if place.is_dir() and any(place.iterdir()) and not _is_run(place):
        raise StoreError(f"{place} holds something that is no gatecast run: give another folder, or empty this one.")
    if undo.exists() or undo.is_symlink():
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


def acquired(file: Path) -> BaseFileLock:
    """The lock that a file stands for, taken at once; the system gives it back when this process ends.

    Raises `filelock.Timeout` where another process has it, `OSError` where the file cannot be made or opened, and
    `StoreError` where something else is in its place.
    """
    from filelock import FileLock

    if (file.exists() or file.is_symlink()) and (file.is_symlink() or not is_regular(file)):
        raise StoreError(f"{file} is no file: it is where {file.parent} is locked. Move it away first.")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(file, flags, 0o644))  # a folder that takes no file is told from a lock
    lock = FileLock(file, timeout=0)
    lock.acquire()
    return lock


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """For as long as it lasts no other process may write a run to `place`; inside itself it does nothing.

    Raises `StoreError` that says which process has it. One that was killed has it no longer.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp()) / "run") as _:
    ...     pass
    """
    from filelock import Timeout

    if place in _held:
        yield
        return
    file = place.with_name(f".{place.name}.lock")
    new = [folder for folder in place.parents if not folder.exists()]  # the innermost first
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = acquired(file)
    except Timeout:
        raise StoreError(
            f"another process writes a run to {place} ({_holder(place)}): wait until it ends, stop it, or give "
            "another folder."
        ) from None
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{place} cannot be locked: {error.strerror or error}. {UNCHANGED.replace(MAKE_ROOM, hint_of(error))}"
        ) from None
    _held.add(place)
    try:
        with contextlib.suppress(OSError):
            _holder_file(place).unlink(missing_ok=True)
            write(_holder_file(place), f"{os.getpid()} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}\n".encode())
        yield
    finally:
        _held.discard(place)
        for name in (_holder_file(place), file):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # where nothing was saved, nothing is left
            for folder in new:
                folder.rmdir()


def _holder_file(place: Path) -> Path:
    return place.with_name(f".{place.name}.locked-by")


def _holder(place: Path) -> str:
    """Who has the lock, in words."""
    try:
        text = read(_holder_file(place), at_most=HOLDER_BYTES).decode("ascii", "replace").strip()
    except OSError:
        text = ""
    found = re.fullmatch(r"(\d{1,10}) ([\d: -]{19})", text)
    return f"process {found[1]}, since {found[2]} UTC" if found else "which one is not known"


@contextlib.contextmanager
def written_beside(place: Path, follows: str = UNCHANGED) -> Iterator[Path]:
    """See `files.beside`; a fault of the disk becomes a StoreError. `follows`: what is so then, and what to do."""
    try:
        with beside(place) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        follows = follows.replace(MAKE_ROOM, hint_of(error))
        raise StoreError(f"{place} cannot be written: {error.strerror or error}. {follows}") from None


def swap(temporary: Path, place: Path) -> None:
    """The new folder takes the place of the old, which becomes the previous one. Raises `OSError`; all is as before.

    An older previous run is renamed out of the way and removed last, so that at no moment a half removed one is there.
    """
    undo, away = previous(place), None
    if place.exists() and not any(place.iterdir()):
        place.rmdir()
    replaces = place.exists()
    if replaces and undo.exists():
        away = free_name(undo)
        os.replace(undo, away)
    try:
        if replaces:
            os.replace(place, undo)
        try:
            os.replace(temporary, place)
        except OSError:
            if replaces:
                os.replace(undo, place)
            raise
    except OSError:
        if away is not None:
            os.replace(away, undo)
        raise
    sync_folder(place.parent)
    if away is not None:
        remove(away)


def _is_run(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except StoreError:
        return False
    return not folder.is_symlink()


def _foreign(folder: Path) -> list[str]:
    """Files in a run's folder that gatecast did not write; hidden ones do not count."""
    ours = {MANIFEST, PAGE, *read_manifest(folder)}
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
    return sorted(name for name in names if name not in ours and not Path(name).name.startswith("."))
