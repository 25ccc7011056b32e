"""The newest view of a store: looked for once a second, made in a thread of its own, and told to who waits for it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatecast.errors import GatecastError, StoreError
from gatecast.live.health import Health, health
from gatecast.service.view import View
from gatecast.store.journal import FOLDER, Journal
from gatecast.store.store import HEARTBEAT, Store

EVERY_SECONDS = 1.0
"""Time between two looks at the journal."""
MOST_NOTICES = 100
"""Newest notices that are not said again."""
HEALTH_SECONDS = 10.0
"""Age at which the health of a store is looked at again."""

Stamp = tuple[object, ...]


class Watched:
    """A store that is looked after: `view` is what it says now, whoever writes to it.

    `now`: a moment that stands still, as of which the store is read; None: the clock, and a view is made again in each
    hour, as bars become old. Nothing is written. A store that cannot be read, or can no more, is what `view` raises,
    until it can be again. `prepare` makes what nobody is to wait for of a new view; until it has, the view before is
    what the store says.
    """

    def __init__(
        self, folder: Path, now: datetime | None = None, prepare: Callable[[View], object] = View.today
    ) -> None:
        self.folder, self.fixed, self.prepare = folder, now, prepare
        self._look, self._stop, self._changed = threading.Lock(), threading.Event(), threading.Condition()
        self._stamp: Stamp = ()
        self._view: View | None = None
        self._error: StoreError | None = None
        self._health: tuple[float, Stamp, Health] | None = None
        self._thread: threading.Thread | None = None
        self._noticed = deque[str](maxlen=MOST_NOTICES)
        self._told: list[Callable[[], None]] = []

    @property
    def now(self) -> datetime:
        """The moment up to which bars count."""
        return datetime.now(UTC) if self.fixed is None else self.fixed

    @property
    def name(self) -> str:
        """What the store is called where it is told over a connection: its folder's name."""
        return Path(os.path.abspath(self.folder)).name

    def said(self, error: Exception) -> str:
        """An error's sentence for who asks from elsewhere: without the place where the store lies on this machine."""
        if isinstance(error, OSError) and not isinstance(error, GatecastError):
            return f"a file of {self.name} cannot be read now: {error.strerror or type(error).__name__}."
        return self.without_place(str(error))

    def without_place(self, text: str) -> str:
        """A text without the place where the store lies on this machine."""
        for place in (os.path.realpath(self.folder), os.path.abspath(self.folder)):
            text = text.replace(place, self.name)
        return text

    @property
    def view(self) -> View:
        """The newest view. Raises `StoreError` where the store cannot be read."""
        if self._view is None and self._error is None:
            self.look()
        if self._error is not None:
            raise StoreError(str(self._error))
        assert self._view is not None
        return self._view

    def look(self) -> bool:
        """Makes a new view where the journal has changed; whether what is said has.

        A store that could not be read is looked at again each time: what it lacked may be any of its files.
        """
        with self._look:
            stamp = self._stamp_now()
            if stamp == self._stamp and self._error is None:
                return False
            before = self._error
            view: View | None = None
            told: StoreError | None = None
            try:
                view = View(Store.open(self.folder, upgrades=False).as_of(self.fixed), self.now)
                view.today()
                self._prepared(view)
            except Exception as error:
                view, told = None, self._as_told(error)
            is_first = not self._stamp
            self._view, self._error, self._stamp = view, told, stamp
            if before is not None and str(before) == str(told):
                return False
        for tell in () if is_first else list(self._told):
            tell()
        return True

    def is_unsettled(self) -> bool:
        """Whether the store has changed since the newest view, or cannot be read."""
        return self._error is not None or self._stamp_now() != self._stamp

    def _prepared(self, view: View) -> None:
        """Makes what nobody is to wait for; where that fails, whoever asks for it is told."""
        try:
            self.prepare(view)
        except GatecastError:
            pass
        except Exception as error:
            self._notice(error)

    def _as_told(self, error: Exception) -> StoreError:
        """The error as it is told; one that is not of the store's own, as where files vanish meanwhile, is noted."""
        if isinstance(error, StoreError):
            return error
        self._notice(error)
        return StoreError(f"{self.folder} cannot be read now: {error}")

    def _notice(self, error: BaseException) -> None:
        """Says an error on standard error, once, while it is among the newest `MOST_NOTICES`."""
        said = f"notice: {self.folder} could not be looked at: {type(error).__name__}: {error}"
        if said not in self._noticed:
            self._noticed.append(said)
            print(said, file=sys.stderr, flush=True)

    def _stamp_now(self) -> Stamp:
        """What changes when a record is written: name, size and time of the journal's newest file; and the hour."""
        hour = None if self.fixed else datetime.now(UTC).strftime("%Y-%m-%d %H")
        try:
            newest = Journal(self.folder / FOLDER, None).files()[-1]
            found = newest.stat()
            return (newest.name, found.st_size, found.st_mtime_ns, found.st_ino, hour)
        except (OSError, IndexError, StoreError) as error:
            return (str(error), hour, time.monotonic())  # never the same: it is looked at again

    def health(self) -> Health:
        """How the store is, at most ten seconds ago. Raises `StoreError` where there is no store."""
        stamp = (*self._stamp_now(), *_stamp_of(self.folder / HEARTBEAT))
        kept = self._health
        if kept is None or kept[1] != stamp or time.monotonic() - kept[0] > HEALTH_SECONDS:
            kept = (time.monotonic(), stamp, health(self.folder, now=self.now))
            self._health = kept
        return kept[2]

    def told_health(self) -> dict[str, Any]:
        """The same as JSON holds it, without the place where the store lies on this machine."""
        told = self.health().to_dict()
        checks = [{**one, "sentence": self.without_place(one["sentence"])} for one in told["checks"]]
        return {**told, "store": self.name, "checks": checks}

    def on_change(self, tell: Callable[[], None]) -> None:
        """Calls `tell`, from the watching thread, each time there is a new view."""
        self._told.append(tell)

    def start(self) -> None:
        """Begins to look, once a second."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="gatecast-watches", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except BaseException as error:  # whatever it is, the next look tries again
                self._notice(error)
            if self._stop.wait(EVERY_SECONDS):
                return


def _stamp_of(file: Path) -> Stamp:
    try:
        found = os.stat(file)
    except OSError:
        return (None,)
    return (found.st_size, found.st_mtime_ns)
