"""Whether a store is looked after: how old its bars, decisions and models are, and what waits; `gatecast health`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl

from gatecast.arguments import checked
from gatecast.errors import StoreError
from gatecast.files import full_path
from gatecast.live.actions import say_waiting
from gatecast.live.blotter import Blotter
from gatecast.live.gates import MISSING, SERVED_PERIODS, late_in_words, old_models, say_gate
from gatecast.live.issuing import latest
from gatecast.live.kept import alarms_said
from gatecast.live.retrain import due_in_words
from gatecast.live.stages import superseded
from gatecast.market.facts import facts_of
from gatecast.market.merging import names_of
from gatecast.market.reading import as_utc
from gatecast.market.sessions import feed_age
from gatecast.notebook import Shown
from gatecast.store.about import counted
from gatecast.store.identity import is_store
from gatecast.store.journal import moment_of
from gatecast.store.store import Store

Level = Literal["ok", "warning", "failure"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "failure")
"""The exit status of `gatecast health` is the place of the worst."""
LATE_SESSIONS, DEAD_SESSIONS = 1, 3
"""Sessions that a feed may be behind before it is late, and from which on it is dead."""
HEARTBEAT = timedelta(days=4)
"""After which a store that nobody looked after is one that something is wrong with: a long weekend is shorter."""

MOST_AGES = 4
"""Different ages of bars that are told, the oldest; the table has all."""
AHEAD = timedelta(days=1)
"""A heartbeat later than that is of a clock that was wrong."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, how it is, and a sentence."""

    name: str
    level: Level
    sentence: str


@dataclass(frozen=True)
class Health(Shown):
    """How a store is: its checks, worst first, and how many sessions each symbol's newest bar is behind."""

    store: Path
    now: datetime
    checks: Sequence[Check]
    behind: Mapping[str, int]

    def __str__(self) -> str:
        return "\n".join(f"{one.level:<8} {one.name:<10} {one.sentence}" for one in self.checks)

    @property
    def level(self) -> Level:
        """The worst of all checks."""
        return max((one.level for one in self.checks), key=LEVELS.index, default="ok")

    @property
    def status(self) -> int:
        """For a monitor: 0 ok, 1 warning, 2 failure."""
        return LEVELS.index(self.level)

    @property
    def sentence(self) -> str:
        """What the worst check says."""
        return self.checks[0].sentence if self.checks else "nothing was looked at."

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "store": str(self.store), "now": self.now, "level": self.level, "status": self.status,
            "checks": [asdict(one) for one in self.checks], "sessions_behind": dict(self.behind),
        }  # fmt: skip


@checked
def health(store: str | Path, *, now: datetime | None = None) -> Health:
    """How a store is, or was at `now` (default: the clock), by its records up to then. Nothing is written.

    A store that cannot be read is a failure.
    The age of bars is counted in sessions of each symbol's calendar, so that a weekend or a holiday is no alarm.
    Raises `StoreError` where there is no store, and where it had no record yet.
    """
    moment = datetime.now(UTC) if now is None else as_utc(now, "now")
    with warnings.catch_warnings(record=True, action="always") as said:
        try:
            opened = Store.open(store, upgrades=False)
        except StoreError as error:
            if not is_store(full_path(store)):
                raise
            return Health(Path(store), moment, [Check("store", "failure", str(error))], {})
    whole, lost = opened.state.number, [Check("store", "failure", opened.lost)] if opened.lost else []
    said = [one for one in said if not opened.lost or opened.lost not in str(one.message)]
    opened = opened.as_of(None if now is None else moment)
    bars = opened.bars.as_of(moment)
    if bars.is_empty():
        return Health(opened.folder, moment, [*lost, Check("bars", "warning", "there are no bars yet.")], {})
    try:
        refit = _refit(opened, bars)
    except StoreError as error:  # settings that name a plug-in which is not here
        return Health(opened.folder, moment, [*lost, Check("settings", "failure", str(error))], {})
    ended = facts_of(bars, opened.actions).symbols_ended
    ages = feed_age(bars, moment, opened.state.calendars)
    behind = {
        row["symbol"]: int(row["sessions_behind"]) for row in ages.iter_rows(named=True) if row["symbol"] not in ended
    }
    newest, least = cast(datetime, bars["time"].max()), min(behind.values(), default=0)
    of_newest = (_model(opened, bars), _issued(opened, newest), _forecasts(opened), refit, _drift(opened))
    found = [
        *lost,
        _bars(behind),
        *(_of_newest(one, newest, least) for one in of_newest),
        _waiting(opened),
        _orders(opened, moment),
        _looked(opened.state.now if opened.state.number < whole else _heartbeat(opened), moment),
        *(Check("store", "warning", str(one.message)) for one in said),
    ]
    checks = sorted(found, key=lambda one: -LEVELS.index(one.level))
    return Health(opened.folder, moment, checks, behind)


def _bars(behind: Mapping[str, int]) -> Check:
    late = {symbol: sessions for symbol, sessions in sorted(behind.items()) if sessions > LATE_SESSIONS}
    if not late:
        absent = sorted(symbol for symbol, sessions in behind.items() if sessions)
        if absent:
            return Check("bars", "ok", f"of {names_of(absent)} the newest session's bar is not there yet.")
        return Check("bars", "ok", "every symbol has its newest bar.")
    level: Level = "failure" if min(behind.values()) >= DEAD_SESSIONS else "warning"
    said = [
        f"of {names_of([symbol for symbol, own in late.items() if own == count])} for {count:,} sessions"
        for count in sorted(set(late.values()), reverse=True)
    ]
    more = f"; {counted(len(said) - MOST_AGES, 'further age')}, see the table" if len(said) > MOST_AGES else ""
    return Check("bars", level, f"no bar {'; '.join(said[:MOST_AGES])}{more}. Is the feed alive?")


def _of_newest(check: Check, newest: datetime, behind: int) -> Check:
    """A check of the newest close that is in order: where all bars are late, it says of when it is.

    >>> check = _of_newest(Check("refit", "ok", "none is due."), datetime(2024, 1, 2), 3)
    >>> check.sentence
    'At the newest close, 2024-01-02, 3 sessions ago: none is due.'
    """
    if check.level != "ok" or behind <= LATE_SESSIONS:
        return check
    said = f"At the newest close, {newest:%Y-%m-%d}, {behind:,} sessions ago: {check.sentence}"
    return Check(check.name, check.level, said)


def _waiting(store: Store) -> Check:
    said = [one.sentence for one in say_waiting(store)]
    return Check("waiting", "warning", " ".join(said)) if said else Check("waiting", "ok", "no bar waits.")


def _model(store: Store, bars: pl.DataFrame) -> Check:
    model = store.state.model(store.state.serving)
    if model is None:
        return Check("model", "warning", f"there is no model yet: `gatecast retrain {store.folder}` trains one.")
    cutoffs = ", ".join(f"{name} {cutoff[:10]}" for name, cutoff in model.cutoffs.items())
    old = old_models(model.cutoffs, store.experiment.schedule, bars)
    if old:
        return Check(
            "model", "failure",
            f"model {model.record} is too old: it was refitted at {cutoffs}. Nothing is forecast of "
            f"{', '.join(sorted(old))} from {SERVED_PERIODS} periods of the schedule on: "
            f"`gatecast retrain {store.folder} --if-due`.",
        )  # fmt: skip
    return Check("model", "ok", f"model {model.record} forecasts; it was refitted at {cutoffs}.")


def _issued(store: Store, newest: datetime) -> Check:
    if store.state.serving is None:
        return Check("decisions", "ok", "none are issued without a model.")
    if not store.state.issued:
        return Check("decisions", "warning", "none were issued yet: the next `gatecast update` issues some.")
    last = cast("datetime | None", store.decisions_of(store.state.issued[-1].decisions)["time"].max())
    if last is None or last < newest:
        return Check("decisions", "warning", f"none were issued at the newest close, {newest:%Y-%m-%d %H:%M} UTC.")
    return Check("decisions", "ok", f"the newest are of {last:%Y-%m-%d %H:%M} UTC.")


def _forecasts(store: Store) -> Check:
    """Symbols of which a forecast that should be there is not, by their newest decision, and those without one."""
    if store.state.serving is None or not store.state.issued:
        return Check("forecasts", "ok", "none are issued without a model or a decision.")
    try:
        newest = latest(store)
    except StoreError as error:  # a file of an older decision
        return Check("forecasts", "failure", str(error))
    told = newest.filter(pl.col("gate").is_in(MISSING)).sort("gate", "symbol")
    said = [
        f"{names_of(own['symbol'].to_list())}: {say_gate(str(gate))}"
        for (gate,), own in told.group_by("gate", maintain_order=True)
    ]
    if undecided := sorted(store.state.symbols.keys() - set(newest["symbol"]) - store.state.waiting.keys()):
        said.append(f"{names_of(undecided)}: nothing was decided yet")
    late = late_in_words(newest.iter_rows(named=True))
    if not said and not late:
        return Check("forecasts", "ok", "every symbol has the forecast that it should have.")
    without = [f"there is no forecast of {'; of '.join(said)}."] if said else []
    return Check("forecasts", "warning", " ".join([*without, *late]))


def _refit(store: Store, bars: Any) -> Check:
    due = due_in_words(store, bars)
    if not due:
        return Check("refit", "ok", "none is due.")
    return Check("refit", "warning", f"{due}: `gatecast retrain {store.folder} --if-due` makes up for it.")


def _drift(store: Store) -> Check:
    on = alarms_said(store)
    if not on:
        return Check("drift", "ok", "no alarm is on.")
    return Check("drift", "warning", " ".join(f"Since {one['time'][:10]}: {one['sentence']}" for one in on))


def _orders(store: Store, now: datetime) -> Check:
    """A halt is a warning until it is released, and an exported file that is out of date while it may be open; symbols
    that the settings restrict are told."""
    blotter = Blotter(store)
    halts, restricted = ([str(one["sentence"]) for one in rows] for rows in (blotter.halted, blotter.restricted))
    old = superseded(store, now)
    if not halts:
        return Check("orders", "warning" if old else "ok", " ".join([*(old or ["no halt is in force."]), *restricted]))
    which, it = (" --record NUMBER", "one of them") if len(halts) > 1 else ("", "it")
    release = f"`gatecast halt {store.folder} --release{which} --by WHO --reason TEXT` ends {it}."
    return Check("orders", "warning", " ".join([*halts, release, *old, *restricted]))


def _heartbeat(store: Store) -> str | None:
    found = store.heartbeat()
    return None if found is None else str(found.get("now", ""))


def _looked(heartbeat: str | None, now: datetime) -> Check:
    """`heartbeat`: when a command last looked after the store; None: none did."""
    if heartbeat is None:
        return Check("heartbeat", "warning", "nobody looked after the store yet.")
    try:
        last = moment_of(heartbeat)
    except ValueError as error:
        return Check("heartbeat", "warning", f"the file of the heartbeat cannot be read: {error}.")
    if last - now > AHEAD:
        return Check(
            "heartbeat", "warning",
            f"the last command that looked after the store was at {last:%Y-%m-%d %H:%M} UTC, which is still to come: "
            "was the computer's clock ahead?",
        )  # fmt: skip
    level: Level = "failure" if now - last > 3 * HEARTBEAT else "warning" if now - last > HEARTBEAT else "ok"
    return Check("heartbeat", level, f"the last command that looked after the store was at {last:%Y-%m-%d %H:%M} UTC.")
