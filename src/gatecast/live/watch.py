"""A folder that is watched: each new or changed file is an update, each refit that is due is made; `gatecast live`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatecast.arguments import checked
from gatecast.errors import BarsError, GatecastError
from gatecast.experiment import Experiment
from gatecast.files import full_path
from gatecast.live.episodes import Alert, conditions, episodes
from gatecast.live.health import health
from gatecast.live.retrain import Retrained, retrain
from gatecast.live.update import Updated, update
from gatecast.machine import ONE_CORE, Machine
from gatecast.store.store import ABOUT, Store

ENDINGS = (".csv", ".parquet", ".gz", ".txt")
"""Endings of the files that are read."""


@dataclass(frozen=True)
class Round:
    """One look at the folder: files taken, the last update and refit, what was refused, and what was alerted."""

    now: datetime
    files: tuple[str, ...] = ()
    updated: Updated | None = None
    retrained: Retrained | None = None
    refused: tuple[str, ...] = ()
    alerted: tuple[str, ...] = ()


@checked
def watch(
    store: str | Path,
    source: str | Path,
    *,
    seconds: float = 60.0,
    rounds: int | None = None,
    experiment: Experiment | None = None,
    alert: Alert | None = None,
    on_round: Callable[[Round], None] | None = None,
    clock: Callable[[], datetime] | None = None,
    machine: Machine = ONE_CORE,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Looks at a folder every so many `seconds`, until it is interrupted; no orders are placed.

    Parameters
    ----------
    source: folder of CSV or Parquet files, taken in the order of their names; one that is new or has changed is an
        update. A file that is refused is alerted, and the next ones go on. rounds: looks (None: without end).
    experiment, options: of a store that is made, see `update`. alert: see `episodes`. on_round: hears each round.
        clock: gives the moment (default: the computer's).

    Raises `StoreError` where the store cannot be written or the folder cannot be read.
    """
    folder = full_path(source)
    if not folder.is_dir():
        raise BarsError(f"{folder} is no folder: give the folder in which files with bars appear.")
    seen: dict[Path, tuple[int, int]] = {}
    number = 0
    while rounds is None or number < rounds:
        now = clock() if clock else datetime.now(UTC)
        done = _round(store, folder, seen, now, experiment, alert, machine, options or {})
        if on_round:
            on_round(done)
        number += 1
        if rounds is None or number < rounds:
            time.sleep(seconds)


def _round(
    store: str | Path, folder: Path, seen: dict[Path, tuple[int, int]], now: datetime, experiment: Experiment | None,
    alert: Alert | None, machine: Machine, options: Mapping[str, Any],
) -> Round:  # fmt: skip
    taken, refused, last = [], [], None
    for file in sorted(folder.iterdir()):
        if file.suffix not in ENDINGS or file.name.startswith("."):
            continue
        try:
            about = file.stat()
        except OSError:
            continue  # gone since
        mark = (about.st_size, about.st_mtime_ns)
        if seen.get(file) == mark:
            continue
        try:
            last = update(store, str(file), now=now, experiment=experiment, machine=machine, **options)
            taken.append(file.name)
        except BarsError as error:
            refused.append(f"{file.name} was refused: {error}")
        seen[file] = mark
    place = full_path(store)
    if not (place / ABOUT).exists():
        return Round(now, tuple(taken), None, None, tuple(refused))
    made = None
    problem = ""
    try:
        made = retrain(store, now=now, machine=machine)
    except GatecastError as error:  # too few bars for a first model, for one
        problem = str(error)
    opened = Store.open(store, machine=machine)
    found = conditions(health(store, now=now), last, refused[-1] if refused else "")
    if problem:
        found["retrain"] = problem
    with opened.locked():
        said = episodes(opened, found, now, alert)
        opened.beat(now, message="watching")
    return Round(now, tuple(taken), last, made if made and made.model else None, tuple(refused), tuple(said))
