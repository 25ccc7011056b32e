"""Artefacts of a store: files named by the SHA-256 of their content, written whole or not at all, checked when read.

```
parts/ab/abcdef... .parquet    the name is the hash and the ending; two equal contents are one file
```

An artefact that no record of the journal names does not exist for a reader: a killed process left it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatecast.errors import StoreError, cut, hint_of, remedy_of
from gatecast.files import PART, opened, read, remove, sha256_of, sweep, sync_folder, write_whole
from gatecast.formats import arrays_of, json_of, table_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
    from polars._typing import PolarsDataType

FOLDER = "parts"
MOST_BYTES = {".json": 200_000_000, ".toml": 2_000_000, ".safetensors": 1_000_000_000, ".parquet": 1_000_000_000}
"""Ending of an artefact -> bytes that it may have."""
NAME = r"[0-9a-f]{64}\.(?:json|toml|safetensors|parquet)"
"""The name of an artefact, as a regular expression."""
ZEROS = 16
"""Bytes at the end of a file by which one whose content never came to the disk is told."""
REMEDY = "Restore it from a copy of the store; `gatecast store check` lists all that is damaged."


class Artefacts:
    """The artefacts of a store's folder.

    >>> import tempfile
    >>> artefacts = Artefacts(Path(tempfile.mkdtemp()))
    >>> name = artefacts.put(b"{}", ".json")
    >>> name[:8], artefacts.get(name), list(artefacts.unreferenced({name}))
    ('44136fa3', b'{}', [])
    """

    def __init__(self, store: Path) -> None:
        self.folder = store / FOLDER

    def put(self, content: bytes, suffix: str) -> str:
        """Writes a content and returns its name. Raises `StoreError` where it cannot be written; then nothing changed.

        `suffix`: .json, .toml, .safetensors or .parquet. Where a file of this content is there nothing is written; one
        of this name with another content is replaced.
        """
        if suffix not in MOST_BYTES or len(content) > MOST_BYTES[suffix]:
            raise StoreError(f"no artefact can be {suffix!r} of {len(content):,} bytes: expected one of {MOST_BYTES}.")
        name = sha256_of(content) + suffix
        path = self.path(name)
        self._refuse_link(path)
        try:
            if not self._has(name, content):
                new = not path.parent.exists()
                write_whole(path, content)
                if new:
                    sync_folder(self.folder)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror or error}. The store is as it was; {hint_of(error)}, then "
                "do the same again."
            ) from None
        return name

    def _has(self, name: str, content: bytes) -> bool:
        path = self.path(name)
        try:
            return path.lstat().st_size == len(content) and read(path, at_most=len(content), follow=False) == content
        except OSError:
            return False

    def path(self, name: str) -> Path:
        """Where an artefact is. Raises `StoreError` for what is no name of one."""
        if not re.fullmatch(NAME, name):
            raise StoreError(f"{cut(name)!r} is no name of an artefact: expected a SHA-256 and an ending.")
        return self.folder / name[:2] / name

    def get(self, name: str) -> bytes:
        """The content of an artefact, whose hash was checked. Raises `StoreError` where it is missing or another."""
        path = self.path(name)
        self._refuse_link(path)
        try:
            content = read(path, at_most=MOST_BYTES[path.suffix], follow=False)
        except FileNotFoundError:
            raise StoreError(f"{path} is missing. {REMEDY}") from None
        except OSError as error:
            why = f"{error.strerror or error}. {remedy_of(error, REMEDY)}"
            raise StoreError(f"{path} cannot be read: {why}") from None
        if sha256_of(content) != path.stem:
            raise StoreError(f"{path} is damaged or was changed: its content has not the hash in its name. {REMEDY}")
        return content

    def has(self, name: str) -> bool:
        """Whether a regular file is in an artefact's place, to which no link leads."""
        path = self.path(name)
        try:
            self._refuse_link(path)
            return stat.S_ISREG(path.lstat().st_mode)
        except (OSError, StoreError):
            return False

    def is_whole(self, name: str) -> bool:
        """Whether an artefact is there and has the content of its name."""
        try:
            self.get(name)
        except StoreError:
            return False
        return True

    def is_lost(self, name: str) -> bool:
        """Whether an artefact is what a loss of power leaves of a file that never came to the disk.

        That is no file, an empty one, or one that ends in zeros and has not the content of its name.
        """
        path = self.path(name)
        try:
            self._refuse_link(path)
            with opened(path, at_most=MOST_BYTES[path.suffix], follow=False) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - ZEROS))
                end = file.read(ZEROS)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return not end.strip(b"\0") and not self.is_whole(name)

    def _refuse_link(self, path: Path) -> None:
        """Raises `StoreError` where a link leads to the folder of an artefact."""
        if os.path.islink(self.folder) or os.path.islink(path.parent):
            raise StoreError(f"{path} leads out of the store through a link, and is neither read nor written.")

    def json(self, name: str) -> Any:
        """The value of an artefact that is JSON."""
        content = self.get(name)
        try:
            return json_of(content)
        except ValueError as error:
            raise self.fault(name, str(error)) from None

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]]:
        """The arrays of an artefact, by name."""
        content = self.get(name)
        try:
            return arrays_of(content)
        except ValueError as error:
            raise self.fault(name, str(error)) from None

    def table(self, name: str, columns: Mapping[str, PolarsDataType], **limits: Any) -> pl.DataFrame:
        """An artefact that is a table of these columns. `limits`: see `formats.table_of`."""
        content = self.get(name)
        try:
            return table_of(content, columns, **limits)
        except ValueError as error:
            raise self.fault(name, str(error)) from None

    def fault(self, name: str, what: str) -> StoreError:
        """The error for an artefact that is not what it must be."""
        return StoreError(f"{self.path(name)} cannot be used: {what}. {REMEDY}")

    def names(self) -> Iterator[str]:
        """The names of all artefacts that are there, sorted; files and folders of other names are left out."""
        for folder in _inside(self.folder):
            for name in _inside(self.folder / folder):
                if re.fullmatch(NAME, name) and name[:2] == folder:
                    yield name

    def unreferenced(self, named: Collection[str]) -> Iterator[tuple[str, int]]:
        """Name and bytes of each artefact that is not among `named`."""
        for name in self.names():
            if name not in named and self.has(name):
                try:
                    yield name, self.path(name).lstat().st_size
                except OSError:
                    continue  # removed meanwhile

    def strangers(self) -> list[Path]:
        """Files and folders among the artefacts that are none, but for what a process writes or left half written."""
        found = []
        for folder in _inside(self.folder):
            inner = self.folder / folder
            if not re.fullmatch("[0-9a-f]{2}", folder) or os.path.islink(inner) or not os.path.isdir(inner):
                found.append(inner)
                continue
            found += [
                inner / name for name in _inside(inner)
                if not (re.fullmatch(NAME, name) and name[:2] == folder and self.has(name))
                and not re.fullmatch(PART, name)
            ]  # fmt: skip
        return found

    def discard(self, names: Collection[str]) -> None:
        """Removes artefacts. Raises `StoreError` where one cannot be removed; those before it are gone then.

        Nothing is removed through a link, and nothing that is no regular file.
        """
        for name in sorted(names):
            self._refuse_link(self.path(name))
            if not self.has(name):
                continue
            try:
                remove(self.path(name))
            except OSError as error:
                raise StoreError(f"{self.path(name)} cannot be removed: {error.strerror or error}.") from None

    def sweep(self) -> None:
        """Removes what processes that run no more left half written."""
        for folder in _inside(self.folder):
            if not os.path.islink(self.folder / folder):
                sweep(self.folder / folder)


def _inside(folder: Path) -> list[str]:
    """The names in a folder, sorted; of a link none."""
    if os.path.islink(folder):
        return []
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
