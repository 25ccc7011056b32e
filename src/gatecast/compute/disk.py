"""Arrays on disk: the samples and forecasts of a finished asset class, stored in files while the run goes on.

Arrays lie as plain .npy in a private temporary folder and are read anew each time they are asked for: never kept, and
never mapped, since mapped pages count as memory. What is held is what was held before, number for number.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import numpy as np

from gatecast.errors import StoreError
from gatecast.files import sweep
from gatecast.processes import MARK, mark

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Kind = TypeVar("Kind")
NO_ROOM = "it took a part of a file alone"
"""What NumPy's error says, whose kind is none, where a disk takes less than it was given."""
LEFT = rf"gatecast-({MARK})-\w+"
"""The name of a disk's folder, with the mark of its process."""


class Disk:
    """A private temporary folder, removed with the last of what lies in it, at the latest when the program ends.

    A killed program leaves it in the system's folder of temporary files (`TMPDIR`), as `gatecast-*`; the next disk
    that is made there removes it. Raises `StoreError` where it cannot be made or written to.

    >>> disk = Disk()
    >>> stored = disk.arrays({"a": np.arange(3)})
    >>> stored["a"].tolist(), len(list(disk.folder.iterdir()))
    ([0, 1, 2], 1)
    """

    def __init__(self) -> None:
        with _written():
            sweep(Path(tempfile.gettempdir()), LEFT)
            self.folder = Path(tempfile.mkdtemp(prefix=f"gatecast-{mark()}-"))
        self._number, self._borrowers = count(), 0
        weakref.finalize(self, _remove, self.folder, os.getpid())

    @classmethod
    def for_classes(cls, classes: int) -> Disk | None:
        """The one rule: a disk for a run of several classes. With one, what is finished is all that there is."""
        return cls() if classes > 1 else None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Meanwhile a copy in another process reads these files, as the original does, and holds no array in memory.

        For processes of this machine, which end or let go of the copy before it is over.
        """
        self._borrowers += 1
        try:
            yield
        finally:
            self._borrowers -= 1

    @property
    def is_lent(self) -> bool:
        """Whether anybody has it on loan."""
        return self._borrowers > 0

    def file(self, ending: str) -> StoredFile:
        """A new file, not yet there."""
        return StoredFile(self, self.folder / f"{next(self._number)}.{ending}")

    def arrays(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """The same names and arrays, on disk."""
        return StoredArrays({name: self._write(array) for name, array in arrays.items()})

    def blocks(self, blocks: Mapping[str, tuple[Array, ...]]) -> Mapping[str, tuple[Array, ...]]:
        """The same names and arrays of rows, those of a name in one file."""
        return StoredBlocks(
            {name: self._write(np.concatenate(own)) for name, own in blocks.items()},
            {name: np.cumsum([len(one) for one in own])[:-1] for name, own in blocks.items()},
        )

    def store(self, one: Kind, *names: str) -> Kind:
        """The same dataclass, the arrays of these fields (of all, if none is named) on disk.

        A copy of it, by `copy.deepcopy` or in another process, is in memory, unless the disk is lent; so is what
        `dataclasses.replace` makes.
        """
        held = {field.name: getattr(one, field.name) for field in fields(cast("Any", one))}
        away = {name: held.pop(name) for name in names or tuple(held) if isinstance(held[name], np.ndarray)}
        return cast("Kind", _read_from_disk(cast("Any", type(one)), held, self.arrays(away)))

    def _write(self, array: Array) -> StoredFile:
        file = self.file("npy")
        with file.new() as sink:
            np.save(sink, array, allow_pickle=False)
        return file


@contextmanager
def _written() -> Iterator[None]:
    """A fault of the disk becomes a StoreError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            "what a finished class leaves cannot be put into the folder of temporary files: "
            f"{error.strerror or NO_ROOM}. Make room there, or set TMPDIR to a folder on a disk with room."
        ) from None


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the folder's name, not the folder
        shutil.rmtree(folder, ignore_errors=True)


class StoredFile:
    """A file on a disk, which stays for as long as anyone has this. A copy in another process is its bytes; of a disk
    that is lent it is the file itself, which does not stay for the copy.

    `disk`: None of such a copy, see `Disk.lent`.
    """

    def __init__(self, disk: Disk | None, path: Path) -> None:
        self.disk, self.path = disk, path

    @contextmanager
    def new(self) -> Iterator[BinaryIO]:
        """To write it. Raises `StoreError` where that cannot be done."""
        with _written(), self.path.open("xb") as file:
            yield file

    def read(self) -> bytes:
        """All of it."""
        return self.path.read_bytes()

    def array(self) -> Array:
        """The array of an .npy file."""
        found: Array = np.load(self.path, allow_pickle=False)
        return found

    @property
    def is_lent(self) -> bool:
        """Whether a copy reads the file, too."""
        return self.disk is not None and self.disk.is_lent

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoredFile, (None, self.path)) if self.is_lent else (bytes, (self.read(),))


class StoredArrays(Mapping[str, Any]):
    """Name -> array, read from disk each time. A copy in another process is a dict, unless the disk is lent."""

    def __init__(self, files: Mapping[str, StoredFile]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> Any:
        return self._files[name].array()

    def __contains__(self, name: object) -> bool:
        return name in self._files  # the mixin's would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def is_lent(self) -> bool:
        """Whether a copy reads the files, too."""
        return any(file.is_lent for file in self._files.values())

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoredArrays, (self._files,)) if self.is_lent else (dict, (dict(self),))


class StoredBlocks(StoredArrays):
    """Name -> arrays that follow each other in one file, cut at `bounds`."""

    def __init__(self, files: Mapping[str, StoredFile], bounds: Mapping[str, Array]) -> None:
        super().__init__(files)
        self._bounds = bounds

    def __getitem__(self, name: str) -> tuple[Array, ...]:
        return tuple(np.split(super().__getitem__(name), self._bounds[name]))

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoredBlocks, (self._files, self._bounds)) if self.is_lent else super().__reduce__()


class _OnDisk:
    """Mixed into a dataclass: a field that the instance does not hold is read from disk."""

    def __getattr__(self, name: str) -> Any:
        stored = self.__dict__.get("_stored", {})
        if name not in stored:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return stored[name]

    def __reduce__(self) -> tuple[Any, ...]:
        own, held = type(self).__bases__[1], dict(self.__dict__)
        if (stored := held.pop("_stored", None)) and stored.is_lent:  # what `replace` makes has all in memory
            return _read_from_disk, (own, held, stored)
        return own, tuple(getattr(self, field.name) for field in fields(cast("Any", self)))


def _read_from_disk(kind: type, held: dict[str, Any], stored: Mapping[str, Array]) -> Any:
    """One of a dataclass, of which some fields are held and the others are stored."""
    twin: Any = object.__new__(_class_read_from_disk(kind))
    twin.__dict__.update(held, _stored=stored)
    return twin


@cache
def _class_read_from_disk(kind: type) -> type:
    if issubclass(kind, _OnDisk):
        return kind
    return type(kind.__name__, (_OnDisk, kind), {"__doc__": kind.__doc__})
