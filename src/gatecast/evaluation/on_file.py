"""Records on file, one line each, in the user's data folder; what cannot be read or written stops no run and is said.

Lines that were taken out of a file, up to all of them, are said: a file of the same name, `.count`, has how many were
written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from gatecast.compute.notices import reason
from gatecast.files import append_lines, read, write_whole

Record = TypeVar("Record")
MAX_LEDGER_BYTES = 2**28  # of the file of trials, or of openings: some hundred thousand lines
MAX_COUNT_BYTES = 64  # of the number of lines
_PROBLEMS: ContextVar[list[str] | None] = ContextVar("gatecast_ledger_problems", default=None)


@contextmanager
def problems() -> Iterator[list[str]]:
    """Collects a sentence on everything on file that could not be read or written inside, each once.

    It holds for the thread that entered it. Of two inside each other, both have what the inner one found.

    >>> import tempfile
    >>> from gatecast.evaluation.ledger import read_trials
    >>> file = Path(tempfile.mkdtemp()) / "trials.jsonl"
    >>> file.write_text("no trial")
    8
    >>> with problems() as found:
    ...     read_trials(file)
    []
    >>> found[0].startswith("1 line of "), found[0].endswith("Mend or remove what cannot be read.")
    (True, True)
    """
    found: list[str] = []
    token = _PROBLEMS.set(found)
    try:
        yield found
    finally:
        _PROBLEMS.reset(token)
        for sentence in found:
            say(sentence)


def say(sentence: str) -> None:
    """Tells a sentence to who collects `problems`, once."""
    found = _PROBLEMS.get()
    if found is not None and sentence not in found:
        found.append(sentence)


def say_unread(what: str, why: object, follows: str, advice: str = "Mend or remove what cannot be read.") -> None:
    """As `say`, that something cannot be read, why, and what follows."""
    say(f"{what} cannot be read ({reason(why)}): {follows}. {advice}")


def data_folder() -> Path:
    """Where trials and openings are kept."""
    root = os.environ.get("GATECAST_DATA")
    if root:
        return Path(root)
    from platformdirs import user_data_path

    try:
        folder = user_data_path("gatecast")
    except RuntimeError:
        folder = Path("~")
    return folder if folder.is_absolute() else Path(os.devnull) / "gatecast"  # a user without a home has no place


def read_records(path: Path, make: Callable[[dict[str, Any]], Record], follows: str) -> list[Record]:
    """What `make` makes of a file's JSON objects, one a line; what is none, or was cut short, is passed over.

    `make` raises `KeyError`, `TypeError` or `ValueError` for an object that it cannot use. `problems` has what was
    passed over, and what `follows` from it.
    """
    found, wrong = [], 0
    try:
        lines = [line for line in read(path, at_most=MAX_LEDGER_BYTES).split(b"\n") if line.strip()]
    except FileNotFoundError:
        lines = []
    except OSError as error:
        say_unread(str(path), error, follows)
        return []
    written = lines_written(path) or 0
    if len(lines) < written:
        say(
            f"{path} has {len(lines)} of the {written} lines that were written to it: {follows}. Restore it from a "
            f"copy, or remove {_count_file(path)} if they were taken out on purpose."
        )
    for line in lines:
        try:
            found.append(make(json.loads(line)))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            wrong += 1
    if wrong:
        say_unread(f"{wrong} {'line' if wrong == 1 else 'lines'} of {path}", "damaged or cut short", follows)
    return found


def symbols_in(line: dict[str, Any]) -> tuple[str, ...]:
    """The symbols of a record. Raises as `read_records` wants it."""
    if not isinstance(line["symbols"], list):
        raise TypeError("symbols are a list")
    return tuple(_text(symbol) for symbol in line["symbols"])


def text_in(line: dict[str, Any], name: str) -> str:
    """A text of a record. Raises as `read_records` wants it."""
    return _text(line[name])


def _text(value: object) -> str:
    """Text that can be written as UTF-8: half of a surrogate pair cannot (UnicodeEncodeError is a `ValueError`)."""
    if not isinstance(value, str):
        raise TypeError("expected text")
    value.encode()
    return value


def day_in(line: dict[str, Any], name: str) -> str:
    """A date of a record, ISO. Raises as `read_records` wants it."""
    return date.fromisoformat(line[name]).isoformat()


def append_records(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """See `append_lines`; how many lines were ever written is kept beside the file. Raises `OSError`."""
    if lines:
        append_lines(path, lines)
        have = sum(1 for line in read(path, at_most=MAX_LEDGER_BYTES).split(b"\n") if line.strip())
        keep_count(path, max((lines_written(path) or 0) + len(lines), have))


def _count_file(path: Path) -> Path:
    return path.with_suffix(".count")


def keep_count(path: Path, lines: int) -> None:
    """How many lines were written to a file, in a file beside it; where that fails no line is missed later."""
    with suppress(OSError):
        write_whole(_count_file(path), f"{lines}\n".encode())


def lines_written(path: Path) -> int | None:
    """How many lines were written to a file; None where it is not known."""
    try:
        return int(read(_count_file(path), at_most=MAX_COUNT_BYTES))
    except (OSError, ValueError):
        return None
