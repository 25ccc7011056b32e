"""How many configurations have been tried on the same instruments over an overlapping span: counted, not confessed.

One line a trial in `trials.jsonl` in the user's data folder (or `$GATECAST_DATA`). The same data and settings again add
nothing. The file is outside every run, so that deleting a run does not forget a trial.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """One configuration on one data set: symbols, first and last session (ISO), hash of the settings, daily Sharpe."""

    symbols: tuple[str, ...]
    first: str
    last: str
    settings_hash: str
    sharpe: float | None


def ledger_path() -> Path:
    """Where trials are kept."""
    root = os.environ.get("GATECAST_DATA")
    if root:
        return Path(root) / "trials.jsonl"
    from platformdirs import user_data_path

    return user_data_path("gatecast") / "trials.jsonl"


def record_trial(trial: Trial, path: Path | None = None) -> list[Trial]:
    """Adds the trial unless it is known, and returns all trials on its instruments and span, itself included.

    A folder that cannot be written is no reason to lose a run: the trial is then counted for this call only.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "trials.jsonl"
    >>> one = Trial(("SP500",), "2001-01-02", "2018-12-31", "a1", 0.02)
    >>> len(record_trial(one, file)), len(record_trial(one, file))
    (1, 1)
    """
    path = path or ledger_path()
    known = read_trials(path)
    same = {(t.symbols, t.settings_hash, t.first, t.last) for t in known}
    if (trial.symbols, trial.settings_hash, trial.first, trial.last) not in same:
        known.append(trial)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(trial), sort_keys=True) + "\n")
        except OSError:
            pass
    related = [
        t for t in known if set(t.symbols) & set(trial.symbols) and t.first <= trial.last and trial.first <= t.last
    ]
    # one configuration on the same instruments from the same day counts once, however often its data grew
    return list({(t.symbols, t.first, t.settings_hash): t for t in related}.values())


def read_trials(path: Path) -> list[Trial]:
    """All trials on file; lines that a crash cut short are passed over."""
    trials = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            fields = json.loads(line)
            trials.append(Trial(**fields | {"symbols": tuple(fields["symbols"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return trials
