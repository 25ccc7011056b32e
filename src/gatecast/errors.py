"""Errors that gatecast raises; each says what was expected, what came, and what to do.

Every error says what was expected, what came, and what to do about it.

GatecastError
├── SettingsError          a setting is unknown, missing or out of its range
│   └── NotDecidedError        a close at which nothing was decided of a symbol
├── BarsError              bars that cannot be read or trusted
│   ├── BarsFileError          a file that is not what it says: carries file, line, column and value
│   └── HistoryTooShortError   not enough bars: carries how many are needed and when there will be enough
├── FeatureError           a feature that does not exist or cannot be computed on these bars
├── StrategyError          a strategy that fails, or whose sides or sizes are out of range
├── PluginError            a name that is taken, that nobody offers, or whose package cannot be imported
├── StoreError             a run or model on disk that cannot be read safely
│   ├── NotKeptError           what is asked for is not kept in a store that is whole
│   └── StudiesError           studies of a search that cannot be read or written
├── TrainingError          a fit that exploded or had nothing to learn from
├── ProcessKilledError     a process of several that a run uses was ended from outside
└── ClusterError           machines that do not answer, or would not give the same results
"""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
from collections.abc import Iterable
from pathlib import Path

LONGEST_VALUE = 200
"""Characters of a value that a message shows in full."""
LONGEST_MESSAGE = 4000
"""Characters of a message."""
MOST_NAMES = 100
"""Known names that a message lists."""


def hint_of(error: OSError) -> str:
    """What to do where the disk took no file, in words that fit the kind of the error.

    >>> import errno
    >>> hint_of(OSError(errno.ENOSPC, "full")), hint_of(PermissionError(errno.EACCES, "denied"))
    ('make room', 'allow yourself to write there')
    """
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "allow yourself to write there"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MAKE_ROOM
    return "mend that"


def remedy_of(error: OSError, remedy: str) -> str:
    """What to do where a file cannot be read, as a sentence: `remedy`, but for one that this user may not read.

    >>> [remedy_of(OSError(code, ""), "Restore it.") for code in (errno.EACCES, errno.EIO)]
    ['Allow yourself to read it.', 'Restore it.']
    """
    return "Allow yourself to read it." if error.errno in (errno.EACCES, errno.EPERM) else remedy


MAKE_ROOM = "make room"


class GatecastError(Exception):
    """Base of everything gatecast raises on purpose; the command prints its text and exits with 2.

    Control characters of the text are escaped, and a text that is too long is cut.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(escaped(cut(part, LONGEST_MESSAGE)) if isinstance(part, str) else part for part in parts))


class SettingsError(GatecastError, ValueError):
    """A setting is unknown, missing or out of its range."""


class NotDecidedError(SettingsError):
    """A close at which nothing was decided of a symbol."""


class BarsError(GatecastError, ValueError):
    """Bars that cannot be read or trusted."""


class BarsFileError(BarsError):
    """A file that is not what it says, with the place: file, line (1-based), column and value."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        column: str | None = None,
        value: object = None,
        advice: str = "",
    ) -> None:
        self.file, self.line, self.column, self.value, self.advice = file, line, column, value, advice
        place = ", ".join(
            part
            for part in (
                cut(str(file)) if file is not None else "",
                f"line {line}" if line is not None else "",
                f"column {shown(column)}" if column is not None else "",
                f"value {shown(value)}" if value is not None else "",
            )
            if part
        )
        super().__init__(": ".join(p for p in (place, problem) if p) + (f" {advice}" if advice else ""))


class HistoryTooShortError(BarsError):
    """Not enough bars: the text says how many are needed and when there will be enough."""


class FeatureError(GatecastError, ValueError):
    """A feature that does not exist or cannot be computed on these bars."""


class StrategyError(GatecastError, ValueError):
    """A strategy that fails, or whose sides or sizes are out of range."""


class ForecasterError(GatecastError, ValueError):
    """A model that fails, or whose fits or forecasts are not what was expected of it."""


class PluginError(GatecastError, ValueError):
    """A name that is taken, that nobody offers, or whose package cannot be imported."""


class StoreError(GatecastError, OSError):
    """A run or model on disk that cannot be read safely."""


class NotKeptError(StoreError):
    """What is asked for is not in a store, which is whole: it was pruned, or never was."""


class StudiesError(StoreError):
    """Studies of a search that cannot be read or written: a full disk, a damaged file, a silent server."""


class InfiniteError(StoreError):
    """What a book goes on from has numbers that are not finite: a session before it is gone on from instead."""


class TrainingError(GatecastError, RuntimeError):
    """A fit that exploded or had nothing to learn from."""


class ProcessKilledError(GatecastError, RuntimeError):
    """A process of several that a run uses was ended from outside."""


class ClusterError(GatecastError, RuntimeError):
    """Machines that do not answer, or would not give the same results."""


class InterruptedRunError(GatecastError):
    """Ctrl-C in a run, whose finished networks are kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known name, or the known names when none is close.

    >>> did_you_mean("lookbak", ["lookback", "units"])
    "Did you mean 'lookback'?"
    """
    names = sorted(set(known))
    near = [one for one in names if len(one) <= LONGEST_VALUE][: 10 * MOST_NAMES]
    close = difflib.get_close_matches(name, near, n=1, cutoff=0.6) if len(name) <= LONGEST_VALUE else []
    if close:
        return f"Did you mean {close[0]!r}?"
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"Known: {', '.join(cut(one) for one in names[:MOST_NAMES])}{more}."


def cut(text: str, longest: int = LONGEST_VALUE) -> str:
    """A text of at most so many characters, else its beginning and its length; what no file can hold as an escape.

    >>> cut("bars.csv"), cut("a" * 10_000, longest=5), cut("\\ud800")
    ('bars.csv', 'aaaaa… (10,000 characters)', '\\\\ud800')
    """
    rest = "" if len(text) <= longest else f"… ({len(text):,} characters)"
    return text[:longest].encode("utf-8", "backslashreplace").decode() + rest


def described(error: BaseException) -> str:
    """The kind of an error of others and the first line of its text, without what may be a secret of an address.

    >>> described(OSError("no such library\\nat all")), described(KeyError())
    ('OSError: no such library', 'KeyError')
    """
    try:
        line = hidden(str(error).strip().partition("\n")[0])
    except Exception:  # a class of others' may fail to describe itself
        line = ""
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def hidden(address: str) -> str:
    """The text without what may be a secret of an address in it: who connects, and whatever follows a question mark.

    >>> hidden("postgresql://me:secret@host/name?password=secret")
    'postgresql://***@host/name?***'
    """
    plain = re.sub(r"\?[^?=]*=.*", "?***", address, flags=re.DOTALL)
    return re.sub(r"(\S*?://)?\S*@", lambda found: f"{found[1] or ''}***@", plain)


def escaped(text: str) -> str:
    """A text whose control characters, but for new lines, are written as escapes, so that no terminal obeys them.

    >>> escaped("\x1b[31mred"), escaped("ü, 株")
    ('\\\\x1b[31mred', 'ü, 株')
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def text_fault(text: str, longest: int) -> str:
    """Why a text is no name and no sentence of one line, in words; "" where it is: not empty, no control characters.

    >>> text_fault("ann", 10), text_fault(" ", 10), text_fault("a\\x1bb", 10), text_fault("a" * 20, 10)
    ('', 'it is empty', "it holds the sign '\\\\x1b'", 'it has 20 characters, at most 10 are kept')
    """
    if not text.strip():
        return "it is empty"
    if odd := re.search(r"\n", text) or _CONTROL.search(text):
        return f"it holds the sign {odd[0]!a}"
    return f"it has {len(text):,} characters, at most {longest:,} are kept" if len(text) > longest else ""


MOST_SYMBOL = 100
"""Characters of a symbol."""


def symbol_fault(symbol: str) -> str:
    """Why a text is no symbol, in words; "" where it is one: the one rule of bars, actions, positions and all tables.

    >>> symbol_fault("BRK.B"), symbol_fault("A\\nB"), symbol_fault("x" * 101) == symbol_fault(" ")
    ('', 'a symbol is 1 to 100 printable characters', True)
    """
    fits = symbol.strip() and len(symbol) <= MOST_SYMBOL and symbol.isprintable()
    return "" if fits else f"a symbol is 1 to {MOST_SYMBOL} printable characters"


_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Signs that a terminal obeys, or that hide or turn round the text beside them; halves of surrogate pairs."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = LONGEST_VALUE


def shown(value: object) -> str:
    """A value as a message quotes it, never longer than a line or two.

    >>> shown("a"), shown("a" * 1000)[-20:], shown(10**5000)
    ("'a'", '… (1,000 characters)', 'a number of about 5,000 digits')
    """
    if isinstance(value, str | bytes):
        rest = f"… ({len(value):,} {'characters' if isinstance(value, str) else 'bytes'})"
        return repr(value) if len(value) <= LONGEST_VALUE else repr(value[:LONGEST_VALUE]) + rest
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of about {round(value.bit_length() * 0.30103, -2):,.0f} digits"
    try:
        text = repr(value) if isinstance(value, int | float) else _SHORT.repr(value)
    except Exception:  # a class of others' may fail to describe itself
        text = f"a {type(value).__name__}"
    return cut(text)
