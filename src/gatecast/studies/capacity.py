"""What the book earns where trading costs more or less, and with more or less money: its held line, run with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatecast.chain import Chain
from gatecast.compute.parallel import fan_out
from gatecast.errors import SettingsError
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.market.merging import names_of
from gatecast.notebook import Shown, draw_lines
from gatecast.scores import BOOK_TITLES, line_held, line_scores
from gatecast.trading.book import TILTED, Book, Sessions, Shared, Work, sessions_by
from gatecast.trading.sizing import BookSettings

FloatArray = NDArray[np.float64]
COSTS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Multiples of commission, spread and market impact."""
MOST_TIMES = 100
"""Largest multiple of the costs."""
CAPITALS = (1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
"""Money that the book starts with."""

NO_ACTIONS = (
    "An older version saved this run without its actions of companies: dividends and splits are not counted here, so "
    "that figures may differ from the report. Run it again to have them."
)


@dataclass(frozen=True)
class Point:
    """The book at one multiple of the costs and one capital. All but `costs` and `capital` are of a year.

    `result`: net of all costs and interest, `excess`: what of it exceeds cash, both a share of the equity. `cost`:
    commission, spread and impact. `gross`: mean value held, long plus short, over equity.
    """

    costs: float
    capital: float
    result: float
    excess: float
    volatility: float
    sharpe: float
    cost: float
    impact: float
    turnover: float
    gross: float


@dataclass(frozen=True)
class Capacity(Shown):
    """Net results over multiples of the costs, and over the capital, of the same forecasts since the same session.

    `without_volume`: symbols of which no volume is known, so that their impact does not grow with the capital.
    `actions_known`: whether the actions of companies that the run was made with are known. `line`: that of the book
    which is held: with what strategies add, where they add anything.
    """

    since: date
    currency: str
    costs: tuple[Point, ...]
    capital: tuple[Point, ...]
    without_volume: tuple[str, ...] = ()
    actions_known: bool = True
    line: str = ENSEMBLE

    @property
    def best(self) -> float:
        """The capital at which most money beyond cash is earned; 0 where none is earned at any."""
        most = max(self.capital, key=lambda one: one.excess * one.capital)
        return most.capital if most.excess > 0 else 0.0

    @property
    def sentences(self) -> list[str]:
        """At what costs nothing is left, and at which capital most is earned.

        >>> points = [Point(0, size, 0.05, gain, 0.1, 0.5, 0.01, 0, 1, 1) for size, gain in ((1e6, 0.03), (1e9, 0.01))]
        >>> dear = [Point(times, 1e6, 0.05, 0.03 - 0.01 * times, 0.1, 0.5, 0.01, 0, 1, 1) for times in (1, 5)]
        >>> print(*Capacity(date(2020, 1, 2), "USD", tuple(dear), tuple(points)).sentences, sep="\\n")
        At 5 times the costs the book earns no more than cash.
        Most money beyond cash is earned with 1,000,000,000 USD, of the amounts tried: 10,000,000 a year.
        """
        gone = next((one.costs for one in self.costs if not one.excess > 0), None)
        times = self.costs[-1].costs if gone is None else gone
        told = (
            "With its own costs" if times == 1 else "Without costs" if times == 0 else f"At {times:g} times the costs"
        )
        first = f"{told} the book {'still earns more' if gone is None else 'earns no more'} than cash."
        unknown = names_of(list(self.without_volume))
        why = (
            f"What is traded a session is not known of {unknown}: an order of them counts as the same small share of "
            "it at every capital and is never too large for it, so that less can be held than is told here. Bring a "
            "`volume` in units of equities and ETFs; for other classes raise `unknown_share_of_volume` of [book.money]."
        )
        last = [f"The line is that which is held: {BOOK_TITLES[self.line]}."] if self.line != ENSEMBLE else []
        last += [why] if unknown else []
        last += [] if self.actions_known else [NO_ACTIONS]
        most = max(self.capital, key=lambda one: one.excess * one.capital)
        if self.best == 0:
            return [first, "It earns more than cash with none of the amounts tried.", *last]
        return [
            first,
            f"Most money beyond cash is earned with {most.capital:,.0f} {self.currency}, of the amounts tried: "
            f"{most.excess * most.capital:,.0f} a year.",
            *last,
        ]

    def plot(self) -> Any:
        """A Plotly figure: what the book earns beyond cash a year, over its capital."""
        size = [one.capital for one in self.capital]
        lines = {"beyond cash": [one.excess for one in self.capital], "cost": [one.cost for one in self.capital]}
        axis = {"type": "log", "title": f"capital, {self.currency}"}
        return draw_lines(size, lines, "Capacity", "share of the equity a year", xaxis=axis)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: since, currency, line, costs and capital (rows of points), best, sentences."""
        found: dict[str, Any] = jsonable(asdict(self) | {"best": self.best, "sentences": self.sentences})
        return found


def capacity(
    experiment: Experiment,
    chain: Chain,
    *,
    costs: Sequence[float] = COSTS,
    capitals: Sequence[float] = CAPITALS,
    since: date | None = None,
    jobs: int = 1,
    actions_known: bool = True,
) -> Capacity:
    """The book of a chain at multiples of its costs and at other capitals; forecasts, core, tilt and settings stay.

    Caps, lots, least commissions, the share of volume that may be traded, and impact are those of each capital; nothing
    is scaled from one result to another. `since`: session of the first close; None: the first with a forecast. `jobs`:
    processes at once. Each point takes as long as one line of the run's book. `actions_known`: see `Capacity`.

    Raises `SettingsError` where there is no book, as without a forecast of what it would hold, and for a multiple or
    capital out of range.
    """
    odd = [times for times in costs if not 0 <= times <= MOST_TIMES]
    if odd or not costs or not capitals:
        got = f"got {odd[0]:g}" if odd else "got none"
        raise SettingsError(f"costs and capitals must be one number each or more, costs from 0 to {MOST_TIMES}; {got}.")
    settings = experiment.book
    sessions = sessions_by(chain.facts, settings, level="newest")
    shared = Shared.of(chain.classes, sessions, settings.core)
    begin = shared.begin
    if begin < 0:
        raise SettingsError(
            'this run has no book: its core is empty (book.core.kind = "none") and strategies add nothing, or nothing '
            "of it was ever forecast. Give a core, or more history."
        )
    if since is not None and since in sessions.days:
        begin = max(begin, sessions.days.index(since))
    held = line_held(chain, [TILTED] if shared.is_tilted else [])
    tilt = shared.tilt if held == TILTED else None
    own = settings.size.capital
    places = list(dict.fromkeys([*((times, own) for times in costs), *((1.0, capital) for capital in capitals)]))
    work = []
    for times, capital in places:
        scaled, priced = at_costs(sessions, settings, times)
        size = BookSettings(**{**priced.size.model_dump(exclude_unset=True), "capital": capital})
        work.append(Work(scaled, shared.core, shared.forecasts[ENSEMBLE], priced.replace(size=size), begin, tilt))
    lines = fan_out(Work.run, work, jobs=jobs, processes=jobs > 1)
    points = {}
    for place, line in zip(places, lines, strict=True):
        found = line_scores(line, chain.bars)
        points[place] = Point(
            *place, found["return"], float(np.sum(line.excess)) / found["years"], found["volatility"], found["sharpe"],
            found["cost"], found["impact"], found["turnover"], found["gross"],
        )  # fmt: skip
    return Capacity(
        sessions.days[begin], settings.money.currency, tuple(points[times, own] for times in costs),
        tuple(points[1.0, capital] for capital in capitals),
        without_volume(sessions, (shared.core if tilt is None else shared.wanted)[begin:]), actions_known, held,
    )  # fmt: skip


def without_volume(sessions: Sessions, wanted: FloatArray) -> tuple[str, ...]:
    """Symbols that are `wanted` (sessions, names) and of which no volume is known at any session."""
    unknown = np.isnan(sessions.grid.volume).all(axis=0) & (wanted != 0).any(axis=0)
    return tuple(name for name, odd in zip(sessions.names, unknown, strict=True) if odd)


def at_costs(sessions: Sessions, settings: Book, times: float) -> tuple[Sessions, Book]:
    """The same where commission, spread and market impact are so many times what they are; the rest stays."""
    fixed, money = sessions.instruments, settings.money
    dear = replace(fixed, commission=fixed.commission * times, half_spread=fixed.half_spread * times)
    a_unit = money.commission_per_unit
    paid = money.replace(
        commission_minimum=money.commission_minimum * times, impact=money.impact * times,
        commission_per_unit=None if a_unit is None else a_unit * times,
    )  # fmt: skip
    return replace(sessions, instruments=dear), settings.replace(money=paid)
