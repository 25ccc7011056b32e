"""Errors that gatecast raises; each says what was expected, what came, and what to do.

Every error says what was expected, what came, and what to do about it.

GatecastError
├── SettingsError          a setting is unknown, missing or out of its range
├── BarsError              bars that cannot be read or trusted
│   ├── BarsFileError          a file that is not what it says: carries file, line, column and value
│   └── HistoryTooShortError   not enough bars: carries how many are needed and when there will be enough
├── FeatureError           a feature that does not exist or cannot be computed on these bars
├── StrategyError          a strategy that fails, or whose sides or sizes are out of range
├── PluginError            a name that is taken, that nobody offers, or whose package cannot be imported
├── StoreError             a run or model on disk that cannot be read safely
│   └── StudiesError           studies of a search that cannot be read or written
├── TrainingError          a fit that exploded or had nothing to learn from
└── ClusterError           machines that do not answer, or would not give the same results
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class GatecastError(Exception):
    """Base of everything gatecast raises on purpose; the command prints its text and exits with 2."""


class SettingsError(GatecastError, ValueError):
    """A setting is unknown, missing or out of its range."""


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
                str(file) if file is not None else "",
                f"line {line}" if line is not None else "",
                f"column {column!r}" if column is not None else "",
                f"value {value!r}" if value is not None else "",
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


class StudiesError(StoreError):
    """Studies of a search that cannot be read or written: a full disk, a damaged file, a silent server."""


class TrainingError(GatecastError, RuntimeError):
    """A fit that exploded or had nothing to learn from."""


class ClusterError(GatecastError, RuntimeError):
    """Machines that do not answer, or would not give the same results."""


class InterruptedRunError(GatecastError):
    """Ctrl-C in a run, whose finished networks are kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known name, or the known names when none is close.

    >>> did_you_mean("lookbak", ["lookback", "units"])
    "Did you mean 'lookback'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(sorted(known))}."
