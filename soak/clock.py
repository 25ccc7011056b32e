"""Years of a simulated clock over four exchanges: each month is trained once and in order, missed ones are listed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from gatecast.experiment import Experiment
from gatecast.live import health, retrain, update
from gatecast.live.book import holdings_of
from gatecast.live.retrain import due_closes
from gatecast.market.bars import session_of
from gatecast.market.sessions import Calendar, calendar_of
from gatecast.store import Store
from soak.cases import Case

MARKETS = {"XNYS": "equity", "XLON": "equity", "XASX": "equity", "24/7": "crypto"}
"""Calendar -> asset class."""
FIRST, BEGIN, END = (
    datetime(2018, 11, 1, tzinfo=UTC),
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2025, 1, 1, tzinfo=UTC),
)
"""Bars begin; the clock begins to tick, before a leap day; it ends."""
ASLEEP = (
    (datetime(2020, 3, 31, tzinfo=UTC), timedelta(days=3)),
    (datetime(2020, 7, 20, tzinfo=UTC), timedelta(days=80)),
)
"""When the machine sleeps, and how long: over the first session of a month, and over three of them."""
CLOSELY = 12
"""In one month of so many the store is updated at each of `DAYS` sessions, and its book and health are looked at."""
DAYS = 4
ASLEEP_AT = pl.any_horizontal(
    (pl.col("close") + timedelta(hours=1)).is_between(begin, begin + length, closed="left") for begin, length in ASLEEP
)
"""Whether the machine sleeps an hour after the `close` of a session."""
HOLDS = datetime(2021, 1, 1, tzinfo=UTC)
"""Until then the book has a core, and holds positions; what it has held is judged anew at each refit, which lasts."""
HOUR = timedelta(hours=1)


def bars_of(calendar: Calendar, kind: str, seed: int) -> pl.DataFrame:
    """A random walk with a bar a session, whose close is that of the exchange."""
    sessions = calendar.between(FIRST, END)
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(sessions))))
    start = np.r_[100.0, close[:-1]]
    return pl.DataFrame(
        {
            "symbol": "A", "asset_class": kind, "time": sessions["close"], "open": start,
            "high": np.maximum(start, close) * 1.002, "low": np.minimum(start, close) / 1.002, "close": close,
            "volume": 1e6 * np.exp(0.3 * rng.standard_normal(len(sessions))),
        }
    )  # fmt: skip


def pauseless(calendar: Calendar) -> bool:
    """Whether the next session opens when one closes."""
    return calendar.name == "24/7"


class Clock:
    """The clock of one exchange, and a store that is looked after by it."""

    def __init__(self, name: str, work: Path, seed: int) -> None:
        self.kind, self.calendar = MARKETS[name], calendar_of(name, END)
        self.folder = work / name.replace("/", "-")
        self.folder.mkdir(parents=True)
        (self.folder / "symbols.csv").write_text(f"symbol,asset_class,calendar\nA,{self.kind},{name}\n")
        self.pauseless = pauseless(self.calendar)
        self.store, self.bars = self.folder / "store", bars_of(self.calendar, self.kind, seed)
        self.experiment = Experiment(
            features=("ret_log_1",), lookback=10, models=("ridge", "logistic"),
            signals={"model": "ridge", "confirmed_by": "ridge"}, schedule={"train": "1Y", "minimum": "1Y"},
            selection={"evidence": 0.0},
        )  # fmt: skip
        self.come, self.missed, self.wrong = FIRST, list[str](), list[str]()
        self.sold, self._opened = False, cast("Store | None", None)

    @property
    def opened(self) -> Store | None:
        """The store as it is now, read once after each change; None before there is one."""
        if self._opened is None and self.store.exists():
            self._opened = Store.open(self.store)
        return self._opened

    def bring(self, now: datetime) -> None:
        """The bars since the last time."""
        new = self.bars.filter(pl.col("time") > self.come, pl.col("time") <= now).drop("asset_class")
        new.with_columns(pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).write_csv(self.folder / "new.csv")
        update(
            self.store, self.folder / "new.csv", now=now, experiment=self.experiment, stamp="close",
            asset_class=self.kind, symbols_file=self.folder / "symbols.csv",
        )  # fmt: skip
        self.come, self._opened = now, None

    def train(self, now: datetime, *, can: bool) -> None:
        """A refit where one is due, if one `can` be made; after `HOLDS` with settings by which nothing is held."""
        holds = now < HOLDS
        settings = None if holds or self.sold else self.experiment.replace(book={"core": {"kind": "none"}})
        done = retrain(self.store, now=now, settings=settings)
        self.missed += [one.split()[1][:10] for one in done.missed]
        self.sold, self._opened = not holds, None
        self.expect(
            (done.model is not None) == can, now, f"a refit could {'' if can else 'not '}be made: {done.message}"
        )

    def is_due(self, now: datetime) -> bool:
        """Whether one is due by the bars up to now, whether or not they have come: as retrain and health ask."""
        if self.opened is None or not self.opened.state.models:
            return True
        return bool(due_closes(self.opened, self.experiment.schedule, self.bars.filter(pl.col("time") <= now)))

    def expect(self, holds: bool, now: datetime, said: str) -> None:
        """Notes what does not hold."""
        if not holds:
            self.wrong.append(f"{now:%Y-%m-%d}: {said}")

    def look(self, now: datetime) -> None:
        """Nothing is due, all is well, the book goes on from session to session, and a second refit changes nothing."""
        self.expect(retrain(self.store, now=now).model is None, now, "a second refit was made")
        told = health(self.store, now=now)
        worse = [one.sentence for one in told.checks if one.level != "ok" and one.name not in ("drift", "heartbeat")]
        self.expect(not worse, now, f"health: {worse}")
        held = holdings_of(Store.open(self.store)).sort("session")
        rows = held.tail(DAYS).rows(named=True)
        self.expect(rows[-1]["time"] == self.bars.filter(pl.col("time") <= now)["time"].max(), now, "the book is old")
        for before, after in pairwise(rows):
            carried = before["units"] + before["trade"] == after["units"] or after["time"] is None
            self.expect(
                carried, now, f"{before['units']} units and a trade of {before['trade']} became {after['units']}"
            )

    def run(self, end: datetime) -> None:
        """One session after the other: at each it is asked whether a refit is due, at some bars come."""
        closely = 0
        sessions = self.calendar.between(BEGIN, end).with_columns(asleep=ASLEEP_AT)
        before = sessions["asleep"].shift(1, fill_value=False)
        last = (sessions["session"].dt.month() != sessions["session"].dt.month().shift(-1)).fill_null(False)
        sessions = sessions.with_columns(woke=before, last=last)
        for day, close, asleep, woke, is_last in sessions.select(
            "session", "close", "asleep", "woke", "last"
        ).iter_rows():
            now = close + HOUR
            if asleep:
                continue
            models = self.opened.state.models if self.opened else ()
            cutoff = models[-1].cutoffs[self.kind] if models else ""
            due = self.is_due(now)
            first = not cutoff or f"{day:%Y-%m}" > f"{session_of(datetime.fromisoformat(cutoff)):%Y-%m}"
            self.expect(due == first, now, f"a refit is {'' if due else 'not '}due after {cutoff}")
            if due:
                self.bring(now)
                self.train(now, can=not (woke and self.pauseless))
                closely = DAYS if (day.month - 1) % CLOSELY == 1 or not models else 0
            elif closely:
                self.bring(now)
                closely -= 1
                if not closely:
                    self.look(now)
            elif is_last and self.pauseless:
                self.bring(now)


def clock_of(name: str, work: Path, seed: int, end: datetime) -> Case:
    """Years at one exchange: the months in which its store was trained, and those that were missed."""
    clock = Clock(name, work, seed)
    clock.run(end)
    store = Store.open(clock.store)
    trained = [one.cutoffs[clock.kind] for one in store.state.models]
    faults = [one.sentence for one in store.check()]
    held = holdings_of(store)
    found = [*clock.wrong, *wrong(clock.calendar, trained, clock.missed, end), *faults]
    if not (held["units"] != 0).any():
        found.append("the book never held anything")
    said = (
        f"{name}: {len(trained)} months trained, {len(clock.missed)} missed, {held['session'].n_unique()} of the book"
    )
    return Case("clock", said, "; ".join(found[:3]))


def clock(work: Path, seed: int, share: float, jobs: int = 2) -> Iterator[Case]:
    """All exchanges for five years; for a small share New York for one."""
    whole = share >= 1
    names, end = (list(MARKETS), END) if whole else (list(MARKETS)[:1], BEGIN.replace(year=BEGIN.year + 1))
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(partial(clock_of, work=work, seed=seed, end=end), names)


def wrong(calendar: Calendar, trained: list[str], missed: list[str], end: datetime) -> list[str]:
    """What does not fit: each month is trained once, at the close of the first session of it at which the machine was
    awake; of months that passed while it slept the first sessions are listed.

    Where no pause follows a close, what the machine slept over came after the fill of the first close after it: nothing
    is decided there, and the refit is made at the next.
    """
    sessions = calendar.between(BEGIN, end).with_columns(month=pl.col("session").dt.month_start(), asleep=ASLEEP_AT)
    ready = ~pl.col("asleep")
    if pauseless(calendar):
        ready &= ~pl.col("asleep").shift(1, fill_value=False)
    first = sessions.filter(ready).group_by("month").agg(pl.col("close").min()).sort("month")
    expected = first["close"].dt.strftime("%Y-%m-%dT%H:%M").to_list()
    slept = sessions.filter(~pl.col("month").is_in(first["month"].implode()))
    listed = slept.group_by("month").agg(pl.col("close").min()).sort("month")["close"].dt.strftime("%Y-%m-%d").to_list()
    found = []
    if [one[:16] for one in trained] != expected:
        found.append(f"trained at {trained}, expected {expected}")
    if missed != listed:
        found.append(f"missed {missed}, expected {listed}")
    return found
