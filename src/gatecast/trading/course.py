"""gatecast's line with what strategies add, from day to day: it goes on from what it carried."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.forecasting.panel import ENSEMBLE, SIZED_BY
from gatecast.market.bars import session_date
from gatecast.market.steps import Level
from gatecast.trading.book_settings import Book
from gatecast.trading.by_session import Sessions, first_and_last, sessions_by
from gatecast.trading.core import CoreState
from gatecast.trading.desk import Desk, without_tables
from gatecast.trading.grid import (
    QUARTER,
    mean_of_last,
)
from gatecast.trading.line import LineState, Step
from gatecast.trading.lines import (
    closes_of,
    holdings_of,
    terms_of,
)
from gatecast.trading.strategies import MARKET
from gatecast.trading.wanted import (
    core_path,
    deviations_of,
    first_of,
    refuse_core,
    tilt_of,
)

if TYPE_CHECKING:
    from gatecast.market.facts import Facts
    from gatecast.trading.decisions import Decided


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
SESSIONS_BEFORE = 130
"""Sessions before the first new one from which all that counts of bars and forecasts can be read again."""


@dataclass(frozen=True)
class Carried:
    """All that gatecast's line goes on from at the close of a session: the line's state, and that of the core."""

    line: LineState
    core: CoreState

    @property
    def day(self) -> date:
        """The session."""
        assert self.line.day is not None
        return self.line.day

    @property
    def close(self) -> datetime:
        """The newest close that was seen."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(self.line.bars.max(initial=0)))

    def among(self, names: Sequence[str], classes: Sequence[str]) -> Carried:
        """The same for these names in this order."""
        return Carried(self.line.among(names, classes), self.core.among(names, classes))


@dataclass(frozen=True)
class Course:
    """What gatecast's line decided at the newest sessions.

    `steps`: one a session that was decided; `names`: the symbols. `carried`: what the next session goes on from, and
    before it the same of the session before, from which the newest one is decided again where more of its bars come.
    `desks`: the sessions as a desk reads them: all that were decided, of a line that carries nothing the newest alone;
    what a calendar says of them is not known here.
    """

    steps: tuple[Step, ...]
    names: tuple[str, ...]
    carried: tuple[Carried, ...]
    desks: tuple[Desk, ...] = field(default=(), repr=False)

    @cached_property
    def holdings(self) -> pl.DataFrame:
        """See `holdings_of`."""
        return holdings_of(self.steps, self.names)


def carry_on(
    classes: Mapping[str, Decided], facts: Facts, settings: Book, carried: Sequence[Carried] = (),
    begins: date | None = None, *, settled: bool = False, level: Level = "first",
) -> Course:  # fmt: skip
    """gatecast's line, with what strategies add, from what it `carried` on, the newest last.

    Where more bars of the newest session have come, known in time, it is decided again, unless it is `settled`.
    `begins`: the first session of a line that carries nothing; None: the first at which all lines of a comparison have
    a forecast. `level`: see `sessions_by`. A session costs as much as there are pairs of names, plus what it takes to
    read the newest 130.
    """
    recent = facts.since(_before(facts, carried[0].day)) if carried else facts
    decided = {one.day: seen for one in carried if (seen := first_and_last(one.line.bars))}
    sessions = sessions_by(recent, settings, decided=decided, level=level)
    if carried and not settled and _has_more(sessions, carried[-1].line):
        if len(carried) == 1:
            return carry_on(classes, facts, settings, begins=carried[0].day, level=level)
        return carry_on(classes, facts, settings, carried[:-1], settled=True, level=level)
    sessions = sessions if (count := sessions.decided) == len(sessions.days) else sessions.until(count)
    refuse_core(sessions, settings.core)
    names, terms = sessions.names, terms_of(sessions, settings)
    tilt = tilt_of(classes, sessions, MARKET)
    deviations = deviations_of(classes, sessions, ENSEMBLE)
    if carried:
        before = carried[-1].among(names, sessions.classes)
        first = begin = sum(day <= before.day for day in sessions.days)
    else:
        before = Carried(
            LineState.start(names, sessions.classes, settings.size.capital),
            CoreState.start(names, sessions.classes, settings.core),
        )
        first, begin = 0, _beginning(classes, sessions, settings, tilt, begins)
    if begin < 0 or begin >= len(sessions.days):
        return Course((), names, tuple(carried))
    steps, desks, last = list[Step](), list[Desk](), deque(carried[-1:], maxlen=2)
    core, line = before.core, before.line
    cores, weights = list[CoreState](), list[FloatArray]()
    for place in range(first, len(sessions.days)):
        listed = sessions.listed[place] & sessions.inside[place]
        core = core.after(
            sessions.days[place], sessions.returns[place], listed, settings.core, sessions.converts[place]
        )
        cores, weights = [*cores[-1:], core], [*weights, core.weights]
    left, usual = len(sessions.days) - begin, mean_of_last(deviations, QUARTER)
    closes = closes_of(sessions, np.array(weights), deviations, *tilt, since=first, told=left if carried else 1)
    for place, close in enumerate(closes, first):
        if place < begin:
            line = line.watched(close)
            continue
        line, step = line.after(close, terms)
        if step.view is not None:
            desks.append(_desk_of(step, line, sessions, place, deviations[place], usual[place], settings))
        steps.append(replace(step, view=None, sizing=None))
        if left <= len(cores):
            last.append(Carried(line, cores[-left]))
        left -= 1
    return Course(tuple(steps), names, tuple(last), tuple(desks))


def _desk_of(
    step: Step, line: LineState, sessions: Sessions, place: int, deviation: FloatArray, usual_deviation: FloatArray,
    settings: Book,
) -> Desk:  # fmt: skip
    """What a desk needs of the session at a place, but for what a calendar says; `line`: after it."""
    assert step.view is not None
    assert step.sizing is not None
    view = step.view if settings.size.spike_sizes else replace(step.view, spiked=None)  # else no trade depends on it
    nothing = np.zeros(len(line.names), np.int64)
    return Desk(
        day=sessions.days[place], view=view, sizing=step.sizing, instruments=sessions.instruments,
        lent=sessions.lent[place], recalled=sessions.recalled[place], price=line.account.price,
        bars=sessions.bars[: place + 1].max(axis=0), age=nothing, rate=line.account.rate, deviation=deviation,
        usual_deviation=usual_deviation, volume=sessions.usual_volume[place],
        until=nothing, size=settings.size, money=without_tables(settings.money),
    )  # fmt: skip


def _before(facts: Facts, day: date) -> date:
    """The session from which bars are read where sessions after a day are new."""
    days = facts.bars.select(session_date(pl.col("time"))).to_series().unique().sort()
    return days.filter(days <= day).tail(SESSIONS_BEFORE).min() or day  # type: ignore[return-value]


def _has_more(sessions: Sessions, line: LineState) -> bool:
    """Whether more bars of a line's session are there than it has seen, of the symbols that it has."""
    if line.day not in sessions.days:
        return False
    seen = dict(zip(line.names, line.bars.tolist(), strict=True))
    there = sessions.bars[sessions.days.index(line.day)].tolist()
    return any(bar > seen.get(name, bar) for name, bar in zip(sessions.names, there, strict=True))


def _beginning(
    classes: Mapping[str, Decided], sessions: Sessions, settings: Book, tilt: tuple[FloatArray, FloatArray],
    begins: date | None,
) -> int:  # fmt: skip
    """The first session of a line, -1 where there is none; `begins`: see `carry_on`."""
    if begins is not None:
        return sum(day < begins for day in sessions.days)
    forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
    return first_of(forecasts, core_path(sessions, settings.core), tilt, sessions)
