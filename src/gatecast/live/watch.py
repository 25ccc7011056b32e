"""A source that is watched: each new or changed file of a folder, or what a vendor has, is an update; refits are made.

What `gatecast live` does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import BarsError, GatecastError, SettingsError, StoreError
from gatecast.experiment import Experiment
from gatecast.files import full_path, opened
from gatecast.live.alerts import Alert
from gatecast.live.episodes import conditions, episodes, open_episodes
from gatecast.live.health import health
from gatecast.live.retrain import Retrained, retrain
from gatecast.live.update import Updated, update
from gatecast.machine import ONE_CORE, Machine
from gatecast.market.facts import facts_of
from gatecast.market.sessions import feed_age
from gatecast.market.vendors import VENDORS, fetched, vendor_of
from gatecast.store.identity import is_store
from gatecast.store.store import Store

ENDINGS = (".csv", ".parquet", ".gz", ".txt")
"""Endings of the files that are read."""
ASKED_EVERY = timedelta(minutes=10)
"""How often a vendor is asked for a bar that should be there and is not."""
AFTER_CLOSE = timedelta(minutes=5)
"""How long after a close a vendor is asked for its bar first."""
OVERLAP = timedelta(days=30)
"""Bars that a vendor is asked for once more: they show corrections, and whether its history was re-based."""


@dataclass(frozen=True)
class Round:
    """One look at the source: what was taken, the last update and refit, what was refused, and what was alerted."""

    now: datetime
    files: tuple[str, ...] = ()
    updated: Updated | None = None
    retrained: Retrained | None = None
    refused: tuple[str, ...] = ()
    alerted: tuple[str, ...] = ()


class Watched(ABC):
    """Where bars come from; `wrong`: name -> what was said of it, of what was refused when it was last taken."""

    wrong: dict[str, str]

    @abstractmethod
    def fresh(self, store: Path, now: datetime) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Name of each new thing, and what gives its bars as `update` takes them; `BarsError` for what has none."""


@dataclass(frozen=True)
class Files(Watched):
    """A folder: its files in the order of their names, each when it is new or has changed.

    One that does not end as a whole file does may still be growing: it is taken once it is the same at two looks, or
    was not changed for `seconds`.
    """

    folder: Path
    seconds: float = 0.0
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    grows: dict[Path, tuple[int, int]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def fresh(self, store: Path, now: datetime) -> Iterator[tuple[str, Callable[[], Any]]]:
        """See `Watched.fresh`."""
        there = sorted(self.folder.iterdir())
        for name in self.wrong.keys() - {file.name for file in there}:
            del self.wrong[name]
        for file in there:
            if file.suffix not in ENDINGS or file.name.startswith("."):
                continue
            try:
                about = file.stat()
            except OSError:
                continue  # gone since
            mark = (about.st_size, about.st_mtime_ns)
            if self.seen.get(file) == mark:
                continue
            if self.grows.get(file) != mark and time.time() - about.st_mtime < self.seconds and not _is_ended(file):
                self.grows[file] = mark  # taken at the next look, unless it has grown
                continue
            yield file.name, lambda file=file: str(file)  # type: ignore[misc]
            self.seen[file] = mark
            self.grows.pop(file, None)


def _is_ended(file: Path) -> bool:
    """Whether a file ends with a line's end, or as Parquet does."""
    try:
        with opened(file, at_most=sys.maxsize) as content:
            content.seek(-min(4, content.seek(0, os.SEEK_END)), os.SEEK_END)
            end = content.read(4)
    except OSError:
        return True  # what it is, the one who reads it says
    return end.endswith((b"\n", b"\r")) or end == b"PAR1"


@dataclass
class Asked(Watched):
    """A vendor, which is asked when a bar should be there by the calendar and is not."""

    source: str
    symbols: Sequence[str] | None = None
    asked: datetime | None = None
    wrong: dict[str, str] = field(default_factory=dict)

    def fresh(self, store: Path, now: datetime) -> Iterator[tuple[str, Callable[[], Any]]]:
        """See `Watched.fresh`."""
        if self.asked is not None and timedelta(0) <= now - self.asked < ASKED_EVERY:
            return
        symbols, since = self.symbols, None
        if is_store(store):
            opened = Store.open(store)
            known, bars = opened.state.symbols, opened.bars.as_of(now)
            symbols = symbols or sorted(known)
            if set(symbols) <= known.keys() and len(bars):  # else the whole history of those that are new
                ended = facts_of(bars, opened.actions).symbols_ended
                ages = feed_age(bars, now, opened.state.calendars, grace=AFTER_CLOSE)
                if not ages.filter(~pl.col("symbol").is_in(list(ended)), pl.col("sessions_behind") > 0).height:
                    return
                newest: datetime = bars["time"].max()  # type: ignore[assignment]
                since = (newest - OVERLAP).date()
        if not symbols:
            raise SettingsError(f"{self.source} is asked for symbols by name, and the store has none: give --symbols.")
        self.asked = now
        yield self.source, lambda: fetched(self.source, symbols, since, None)


def watched(source: str | Path, symbols: Sequence[str] | None = None, seconds: float = 0.0) -> Watched:
    """The folder, or the vendor, that a source names: "yfinance" stands for "yfinance:".

    `seconds`: between two looks. Raises `BarsError` where there is no such folder, and no vendor of that name.
    """
    text = str(source)
    folder = full_path(source)
    if folder.is_dir():
        return Files(folder, seconds)
    if text in VENDORS:
        text = f"{text}:"
    if vendor_of(text) is not None:
        return Asked(text, symbols)
    known = ", ".join(sorted(VENDORS))
    raise BarsError(f"{folder} is no folder: give the folder in which files with bars appear, or a vendor ({known}).")


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
    """Looks at a source every so many `seconds`, until it is interrupted; no orders are placed.

    Parameters
    ----------
    source: folder of CSV or Parquet files, taken in the order of their names; one that is new or has changed is an
        update. Or a vendor, such as "yfinance" or "ccxt:kraken": it is asked for the store's symbols, or `symbols` of
        the options, when a bar should be there by the calendar. What is refused is alerted, and the next ones go on.
        rounds: looks (None: without end).
    experiment, options: of a store that is made, see `update`. alert: see `episodes`. on_round: hears each round.
        clock: gives the moment (default: the computer's).

    A look that fails, as while another process writes to the store, where the disk is full or the folder is gone, is an
    alarm of its own, alerted once when it begins and once when it is over; the next look tries again.

    Raises `StoreError` for a store that cannot be read at the start or not be made, `BarsError` where there is no such
    folder or vendor, `PluginError` where the vendor's package is not installed.
    """
    given = dict(options or {})
    if is_store(full_path(store)):
        Store.open(store, machine=machine)
    place = watched(source, given.get("symbols"), seconds)
    if isinstance(place, Asked):
        given.pop("symbols", None)
    number, failing = 0, ""
    while rounds is None or number < rounds:
        now = clock() if clock else datetime.now(UTC)
        try:
            done = _round(full_path(store), place, now, experiment, alert, machine, given, failing)
            failing = ""
        except OSError as error:  # a `StoreError` is one
            if not is_store(full_path(store)):
                raise
            begins = not failing
            failing = failing or _why(error)
            said = _begun(full_path(store), failing, now, alert, machine) if begins else ()
            done = Round(now, alerted=said)
        if on_round:
            on_round(done)
        number += 1
        if rounds is None or number < rounds:
            time.sleep(seconds)


FAILED = "look"
"""Name of the alarm of looks that fail."""


def _why(error: OSError) -> str:
    """A sentence on a look that failed."""
    why = str(error) if isinstance(error, StoreError) else f"{error.strerror or type(error).__name__}."
    name = f" ({error.filename})" if getattr(error, "filename", None) and not isinstance(error, StoreError) else ""
    return f"a look at the source failed{name}, and the next ones try again: {why}"


def _begun(store: Path, text: str, now: datetime, alert: Alert | None, machine: Machine) -> tuple[str, ...]:
    """Records and alerts that looks fail; what cannot be recorded now is recorded once they no longer fail."""
    try:
        known = Store.open(store, machine=machine)
        with known.locked():
            return tuple(episodes(known, {**open_episodes(known), FAILED: text}, now, alert))
    except OSError:
        if alert is not None:
            with contextlib.suppress(OSError):
                alert(FAILED, text, True)
        return (text,)


def _round(
    store: Path, source: Watched, now: datetime, experiment: Experiment | None, alert: Alert | None, machine: Machine,
    options: Mapping[str, Any], failing: str = "",
) -> Round:  # fmt: skip
    """One look. `failing`: what was said of the looks before, which failed."""
    taken, refused, last = [], [], None
    for name, bars in source.fresh(store, now):
        try:
            last = update(store, bars(), now=now, experiment=experiment, machine=machine, **options)
            taken.append(name)
            source.wrong.pop(name, None)
        except BarsError as error:
            refused.append(f"{name} was refused: {error}")
            source.wrong[name] = refused[-1]
    if not is_store(store):
        return Round(now, tuple(taken), None, None, tuple(refused))
    made = None
    problem = ""
    try:
        made = retrain(store, now=now, machine=machine)
    except GatecastError as error:  # too few bars for a first model, for one
        problem = str(error)
    opened = Store.open(store, machine=machine)
    wrong = next(reversed(source.wrong.values()), "")
    found = conditions(health(store, now=now), last, wrong, open_episodes(opened))
    if problem:
        found["retrain"] = problem
    with opened.locked():
        if failing and FAILED not in open_episodes(opened):
            opened.append("alarm", {"name": FAILED, "text": failing, "open": True}, now)
        said = episodes(opened, found, now, alert)
        opened.beat(now, message="watching")
    return Round(now, tuple(taken), last, made if made and made.model else None, tuple(refused), tuple(said))
