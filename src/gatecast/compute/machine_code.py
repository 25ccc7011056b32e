"""Machine code on disk: from one process to the next, in a folder that nobody else can write.

Machine code is executed, and it is filed as a pickle of Numba's, so that whoever can write it runs code as its reader.
It is therefore read and written below a folder that is opened step by step from the root, without following links, at
each use, and checked as it is opened: see `open_private`. Where a check fails, code is compiled in memory, and
`compute.notices` says why; no other folder is tried.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba import njit
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from gatecast import files
from gatecast.compute.notices import notice, reason
from gatecast.compute.source import source_of
from gatecast.errors import StoreError

if TYPE_CHECKING:
    from types import ModuleType

MOST_BYTES = 2**26  # of one function's machine code
MOST_FILES = 64  # of one function: other versions, machines and types; the oldest are removed
UNUSED_SECONDS = 86_400  # after which a half written file is of a process that was killed
PART = re.compile(r"\..+\.[0-9a-f]{12}\.part")
NUMBAS_OWN = re.compile(r"lstm_[0-9a-f]{40}")  # folders of Numba's own cache, as versions before this one used it
MOST_LINKS = 40  # of the system's own, on the way to a folder
DIGEST = hashlib.sha256().digest_size


class UnsafeFolderError(Exception):
    """A folder, or a file in it, that others could have written: what is wrong, and what to do."""


def compiled(signature: Any = None, *, inline: bool = False, inner: bool = False) -> Callable[[Any], Any]:
    """A decorator that compiles a function with Numba for one thread, without the interpreter's lock.

    `inner`: it is called by compiled functions alone, which spares what Python would call it by.

    `signature`: the one that it has, compiled as its module is imported. Without it, every mix of types that it is
    called with is compiled when it first comes; of addresses and strides these are many, all with the same code.

    No fastmath: with it, the last bits depend on what LLVM inlines where, and code fresh from the compiler differs from
    the same code out of the cache. Fused products are asked for by name instead.
    """

    def compile_function(function: Any) -> Any:
        wrappers: dict[str, Any] = {"no_cpython_wrapper": inner, "no_cfunc_wrapper": inner}
        how = njit(nogil=True, error_model="numpy", inline="always" if inline else "never", **wrappers)
        dispatcher = how(function)
        if isinstance(dispatcher, Dispatcher):  # without Numba's compiler it is the function itself
            dispatcher._cache = _KernelCache(function)  # type: ignore[attr-defined]
            if signature is not None:
                dispatcher.compile(signature)
                dispatcher.disable_compile()
        return dispatcher

    return compile_function


def say_again(module: ModuleType) -> None:
    """Gives `notice` why code of a module was compiled in memory: a later run of the same process says it, too."""
    for one in vars(module).values():
        if isinstance(one, Dispatcher):
            for sentence in one._cache.said:  # type: ignore[attr-defined]
                notice(sentence)


class _KernelCache(NullCache):
    """Numba's cache of one function: machine code by the hash of all that decides it, with its own hash before it."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.said: list[str] = []

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for these types; None, so that it is compiled: there is none, it is damaged or it is not safe.

        Code that is read calls Numba's runtime and C helpers alone; all else of Numba is loaded where it compiles.
        """
        rtsys.initialize(target_context)
        with self._said_where_it_fails(), private_folder() as folder:
            found = read_private(folder, self._name(sig, target_context.codegen()))
            if found is None or hashlib.sha256(found[DIGEST:]).digest() != found[:DIGEST]:
                return None
            return CompileResult._rebuild(target_context, *pickle.loads(found[DIGEST:]))  # type: ignore[no-untyped-call]
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Files the code for these types, whole or not at all."""
        if data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
            return
        with self._said_where_it_fails(), private_folder() as folder:
            name = self._name(sig, data.codegen)
            content = dumps(data._reduce())  # type: ignore[no-untyped-call]
            write_private(folder, name, hashlib.sha256(content).digest() + content)
            _remove_oldest(folder, f"{self.function.__qualname__}.")
            sweep_private(folder, time.time() - UNUSED_SECONDS)

    def _name(self, sig: Any, codegen: Any) -> str:
        source = source_of(Path(self.function.__code__.co_filename).parent)
        decisive = (
            self.function.__module__, source.hex(), platform.python_version(), version("numba"),
            version("llvmlite"), str(sig), codegen.magic_tuple(),
        )  # fmt: skip
        return f"{self.function.__qualname__}.{hashlib.sha256(repr(decisive).encode()).hexdigest()}"

    @contextmanager
    def _said_where_it_fails(self) -> Iterator[None]:
        follows = "code is compiled in memory, which takes each process about 10 s."
        sentence = ""
        try:
            yield
        except UnsafeFolderError as error:
            sentence = f"{error} Until then {follows}"
        except OSError as error:
            sentence = (
                f"machine code cannot be kept in {cache_folder() or 'the cache folder'} ({reason(error)}): {follows}"
            )
        if sentence:
            if sentence not in self.said:
                self.said.append(sentence)
            notice(sentence)


# ── the folder ────────────────────────────────────────────────────────────────────────────────────


def cache_folder() -> Path | None:
    """Where machine code is kept: below $NUMBA_CACHE_DIR, $GATECAST_CACHE or the user's cache folder; None: nowhere.

    Raises `UnsafeFolderError` for a place that is not an absolute path: it would depend on the current folder.
    """
    place = os.environ.get("NUMBA_CACHE_DIR")
    if place and not os.path.isabs(place):
        raise UnsafeFolderError(f"NUMBA_CACHE_DIR is {place[:80]!r}, where an absolute path was expected: give one.")
    if place:
        return Path(place) / "gatecast"
    try:
        return files.cache_folder("kernel")
    except StoreError as error:
        raise UnsafeFolderError(str(error)) from None


@contextmanager
def private_folder() -> Iterator[int]:
    """The open folder of machine code, made where there is none. Raises `UnsafeFolderError` and `OSError`."""
    place = cache_folder()
    if place is None:
        raise UnsafeFolderError("there is no home folder to keep machine code in: name a folder in GATECAST_CACHE.")
    folder = open_private(place)
    try:
        yield folder
    finally:
        os.close(folder)


def open_private(place: Path) -> int:
    """The descriptor of an open folder that nobody but this user can write, as is none of the folders above it.

    Opened from the root on, each from the one before: what was checked is what is open, whatever is renamed meanwhile.
    Links are not followed, but for the system's own (root's, in a folder that root alone can write). A folder that is
    missing is made, for this user alone.

    Parameters
    ----------
    place: an absolute path. It must belong to this user with mode 0700; the folders above it to this user or root, and
        be writable by neither group nor others (but root's with the sticky bit, such as /tmp).

    Raises
    ------
    UnsafeFolderError with what is wrong and what to do; `OSError` for a folder that cannot be made or opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.close(open_private(Path(folder) / "kernel"))
    ...     oct(stat.S_IMODE((Path(folder) / "kernel").stat().st_mode))
    '0o700'
    """
    if not hasattr(os, "getuid") or os.mkdir not in os.supports_dir_fd:
        raise UnsafeFolderError("this system has no way to open a folder step by step.")
    parts = list(place.parts[1:])
    path, links = Path("/"), 0
    here = os.open("/", _SEARCH)
    try:
        while parts:
            name = parts.pop(0)
            _refuse_writable(here, path)
            state = _state_of(here, name)
            if state is not None and stat.S_ISLNK(state.st_mode):
                links += 1
                if state.st_uid != 0 or os.fstat(here).st_uid != 0 or links > MOST_LINKS:
                    raise UnsafeFolderError(
                        f"{path / name} is a link, which is not followed: name the folder itself in GATECAST_CACHE."
                    )
                target = Path(os.readlink(name, dir_fd=here))
                parts = [*target.parts[target.is_absolute() :], *parts]
                if target.is_absolute():
                    os.close(here)
                    here, path = os.open("/", _SEARCH), Path("/")
                continue
            if state is None:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=here)
            below = os.open(name, _SEARCH if parts else _FOLDER, dir_fd=here)
            os.close(here)
            here, path = below, path / name
        state = os.fstat(here)
        if state.st_uid != os.getuid():
            raise UnsafeFolderError(f"{path} is another user's: remove it, or name another folder in GATECAST_CACHE.")
        if stat.S_IMODE(state.st_mode) & 0o077:
            raise UnsafeFolderError(f"{path} is open to others: remove it, or `chmod 700` it if all in it is yours.")
    except BaseException:
        os.close(here)
        raise
    return here


_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_SEARCH = _FOLDER | getattr(os, "O_PATH", 0)  # a folder above may be passed by who may not list it


def _state_of(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refuse_writable(folder: int, path: Path) -> None:
    state = os.fstat(folder)
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid not in (0, os.getuid()):
        raise UnsafeFolderError(f"{path} is another user's, who could replace what is in it: use a folder of your own.")
    if mode & 0o022 and not (mode & stat.S_ISVTX and state.st_uid == 0):
        raise UnsafeFolderError(f"{path} can be written by others, who could replace what is in it: `chmod go-w` it.")


def read_private(folder: int, name: str) -> bytes | None:
    """The bytes of a file in an open folder; None: there is none, or one that is too large.

    Raises `UnsafeFolderError` for what is no regular file of this user's, or can be written by others; nothing else is
    opened.
    """
    if (state := _state_of(folder, name)) is None:
        return None
    _refuse_file(state, name)  # before it is opened: opening a device may do something
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:
        state = os.fstat(handle)
        _refuse_file(state, name)
        if state.st_size > MOST_BYTES:
            return None
        return file.read(state.st_size)


def write_private(folder: int, name: str, content: bytes) -> None:
    """Writes or replaces a file of an open folder, whole or not at all. Raises `UnsafeFolderError` and `OSError`."""
    if (state := _state_of(folder, name)) is not None:
        _refuse_file(state, name)
    part = f".{name}.{uuid.uuid4().hex[:12]}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(part, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(content)
        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise


def _refuse_file(state: os.stat_result, name: str) -> None:
    wrong = ""
    if not stat.S_ISREG(state.st_mode):
        wrong = "no regular file"
    elif state.st_uid != os.getuid():
        wrong = "another user's"
    elif stat.S_IMODE(state.st_mode) & 0o022:
        wrong = "writable by others"
    if wrong:
        raise UnsafeFolderError(f"{cache_folder()}/{name} is {wrong}: remove it.")


def _remove_oldest(folder: int, begin: str) -> None:
    """Keeps the newest files whose name begins so."""
    names = [name for name in os.listdir(folder) if name.startswith(begin)]
    if len(names) <= MOST_FILES:
        return
    states = {name: state for name in names if (state := _state_of(folder, name)) is not None}
    for name in sorted(states, key=lambda one: states[one].st_mtime_ns)[:-MOST_FILES]:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def sweep_private(folder: int, before: float) -> None:
    """Removes from an open folder half written files and folders of Numba's own cache that are older than a moment.

    `before`: seconds since 1970. A folder goes if it holds Numba's files alone; nothing is said of what stays.
    """
    for name in os.listdir(folder):
        state = _state_of(folder, name)
        if state is None or state.st_mtime >= before:
            continue
        if PART.fullmatch(name) and stat.S_ISREG(state.st_mode):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        elif NUMBAS_OWN.fullmatch(name) and stat.S_ISDIR(state.st_mode):
            with suppress(OSError):
                _remove_numbas(folder, name)


def _remove_numbas(folder: int, name: str) -> None:
    below = os.open(name, _FOLDER, dir_fd=folder)
    try:
        held = os.listdir(below)
        if not all(one.endswith((".nbi", ".nbc")) for one in held):
            return
        for one in held:
            os.unlink(one, dir_fd=below)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=folder)
