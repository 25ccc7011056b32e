"""Errors that nobody foresaw: one line, the traceback in a file of its own, exit status 70.

An error of the domain never comes here, nor does an interruption. Whatever does is a fault of gatecast's, or of a
package that it uses, and the line says so.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from gatecast.cli.show import complain

STATUS = 70
"""Exit status of an unforeseen error, EX_SOFTWARE of sysexits.h."""
UNREAD, UNWRITTEN = 141, 74
"""Exit status where nobody reads the output any more (as of a command that SIGPIPE ended), and where it cannot be
written (EX_IOERR of sysexits.h)."""
KEPT = 20  # tracebacks at most in the folder; older ones are removed
LONGEST = 300  # characters of an error's own words in the line


def status_of(error: BaseException) -> int:
    """Tells the user of an error that is none of the domain's, and returns the exit status that goes with it."""
    if isinstance(error, OutputError):
        let_go_of_output()
        if error.errno == errno.EPIPE:
            return UNREAD
        complain(f"the output cannot be written: {error.strerror}.")
        return UNWRITTEN
    complain(sentence_of(error))
    return STATUS


def sentence_of(error: BaseException) -> str:
    """One line about an unforeseen error: what it was, where its traceback is, and what to do."""
    what = without_addresses(" ".join(str(error).split()))
    what = f"{type(error).__name__}{f': {what[:LONGEST]}' if what else ''}{'...' if len(what) > LONGEST else ''}"
    if isinstance(error, MemoryError):
        return f"memory ran out ({what}). Give fewer symbols, models or jobs, or a machine with more of it."
    place = keep_traceback(error)
    if place is None:
        where = "Its traceback could not be kept: set GATECAST_DATA to a folder that can be written, and try again."
    else:
        where = f"Its traceback is in {place}."
    return (
        f"something that gatecast did not foresee: {what}. {where} Please report it with the traceback and the "
        "command; what was saved before is as it was."
    )


def keep_traceback(error: BaseException) -> Path | None:
    """Writes the traceback of an error to `errors/` of the user's data folder; None where it cannot be written."""
    from gatecast.evaluation.on_file import data_folder
    from gatecast.files import write_whole

    folder = data_folder() / "errors"
    place = folder / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%f}-{os.getpid()}.txt"
    try:
        with suppress(OSError):
            for older in sorted(folder.glob("*.txt"))[: -KEPT + 1]:
                older.unlink()
        command = " ".join(map(repr, sys.argv[1:]))
        text = without_addresses(f"gatecast {command}\n\n{''.join(traceback.format_exception(error))}")
        write_whole(place, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return None
    return place


def without_addresses(text: str) -> str:
    """A text without what follows the scheme of an address: a password or a token may be in it.

    >>> without_addresses("POST 'https://hooks.example.com/T0/secret' failed")
    "POST 'https://***' failed"
    """
    return re.sub(r"\b([a-zA-Z][\w+.-]*://)[^\s'\"]+", r"\1***", text)


class OutputError(Exception):
    """Standard output cannot be written: its reader is gone, or the disk that it goes to is full.

    No `OSError`: what catches those of files, typer among it, shall not take it for one of theirs.
    """

    def __init__(self, error: OSError) -> None:
        self.errno, self.strerror = error.errno, error.strerror
        super().__init__(str(error))


class Output(io.TextIOWrapper):
    """Standard output, whose faults are told from those of any other file; what its encoding lacks is written out."""

    @classmethod
    def of(cls, stream: TextIO | None) -> TextIO:
        """The same stream; one that goes nowhere for a stream that was closed before the start."""
        if stream is None:
            return open(os.devnull, "w", encoding="utf-8")  # open as long as the process
        binary = getattr(stream, "buffer", None)
        if binary is None:
            return stream
        return cls(binary, stream.encoding, "backslashreplace", line_buffering=stream.isatty())

    def write(self, text: str, /) -> int:
        with _told_apart():
            return super().write(text)

    def flush(self) -> None:
        with _told_apart():
            super().flush()


class Notices(Output):
    """Standard error: what cannot be written there is lost, and ends nothing."""

    def write(self, text: str, /) -> int:
        with suppress(OutputError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OutputError):
            super().flush()


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error) from None


def let_go_of_output() -> None:
    """Standard output goes nowhere from here on, so that the interpreter's last flush fails no more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
