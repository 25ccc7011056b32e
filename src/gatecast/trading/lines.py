"""One line of a comparison, from its first session on: what it held and what it earned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.trading.book_settings import Book
from gatecast.trading.by_session import Sessions
from gatecast.trading.charges import earned_on_cash
from gatecast.trading.covariance import book_variance
from gatecast.trading.cuts import Limit, limit_of
from gatecast.trading.events import Session
from gatecast.trading.flat import (
    GATES,
    KINDS,
    NUMBERS,
    Known,
    Market,
    Told,
    fixed_of,
    is_plain,
    line_of,
    market_of,
    may_go_on,
    nothing_told,
    state_of,
    tell,
)
from gatecast.trading.line import Close, Learned, LineState, Past, Step, Terms
from gatecast.trading.sizing import BookSettings, Finding, no_lot, over_a_cap, trades_of

if TYPE_CHECKING:
    from types import ModuleType

FloatArray = NDArray[np.float64]
Findings = Mapping[int, Sequence[Finding]]

MOST_BYTES, BYTES_OF_A_PAIR = 2**24, 5 * 8
"""Of what is known of returns at a time (finding it takes four times as much), and of a session and pair in it."""
LEAST_SESSIONS = 1000
"""Ordinary sessions of a line from which on machine code is worth to be loaded."""


@dataclass(frozen=True)
class Line:
    """What one set of variance forecasts held and earned, from the first session on. Arrays over its sessions.

    Attributes
    ----------
    frame: one row a session: day, equity, each kind of profit and cost in money (see `money.Booked`), net, excess (net
        less what cash earns), gross exposure after it, volatility of the target a year, spiked, reached; earned,
        expected and level, see `line.Step`.
    held: (sessions, names) shares of equity after the close's trades were decided. gates: session -> names' gates.
    core_variance: (sessions,) variance of the core's next session, by the line's own covariance, of the symbols that
        trade in it (of all for the last session). core_return: (sessions,) simple return of the core that was decided
        the close before. findings: kind of `sizing.Finding` -> number of closes, and the newest sentence. holdings: see
        `holdings_of`. limits: symbol -> what kept it from what was wanted at the newest session, see `cuts.Limit`; none
        of a line that trades once.
    """

    frame: pl.DataFrame
    held: FloatArray
    gates: tuple[tuple[str, ...], ...]
    core_variance: FloatArray
    core_return: FloatArray
    findings: Mapping[str, tuple[int, str]]
    holdings: pl.DataFrame
    limits: Mapping[str, Limit] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, told: Told, findings: Findings, sessions: Sessions, begin: int, limits: Mapping[str, Limit]
    ) -> Line:  # fmt: skip
        """The line of the sessions from place `begin` on; `findings`: those of sessions, by place."""
        counted = dict[str, tuple[int, str]]()
        for place in sorted({*findings, *np.flatnonzero(told.over | (told.lotless >= 0)).tolist()}):
            said = findings[place] if place in findings else _said(told, place, sessions.names)
            for kind, sentence in dict(said).items():
                counted[kind] = (counted.get(kind, (0, ""))[0] + 1, sentence)
        number = dict(zip(NUMBERS, told.number[begin:].T.copy(), strict=True))
        money = dict(zip(KINDS, told.money[begin:].T.copy(), strict=True))
        equity, before = number["equity"], number["before"]
        net = np.where(before > 0, np.divide(equity, before, out=np.ones(len(equity)), where=before > 0) - 1, 0.0)
        frame = pl.DataFrame(
            {
                "day": pl.Series(sessions.days[begin:], dtype=pl.Date),
                **{name: number[name] for name in ("before", "equity", "interest")}, **money, "late": number["late"],
                "net": net, "cash": number["cash"], "gross": np.abs(told.weights[begin:]).sum(axis=1),
                "volatility": number["volatility"], "spiked": number["spiked"], "reached": number["reached"] > 0,
                "earned": number["earned"], "expected": number["expected"], "level": number["level"],
                "excess": net - cash_returns(sessions, begin),
            }
        )  # fmt: skip
        gates = np.array(GATES, dtype=object)[told.gate[begin:]]
        holdings = _table(
            np.array(sessions.days[begin:], "datetime64[D]"), sessions.bars[begin:], sessions.names,
            {label: getattr(told, name)[begin:] for label, name in HELD.items()}, gates,
        )  # fmt: skip
        return cls(
            frame, told.weights[begin:], tuple(map(tuple, gates.tolist())), number["variance"], number["core_return"],
            counted, holdings, limits,
        )  # fmt: skip

    @property
    def net(self) -> FloatArray:
        """(sessions,) simple return, all costs paid."""
        return self.frame["net"].to_numpy()

    @property
    def excess(self) -> FloatArray:
        """(sessions,) simple return less what cash earns."""
        return self.frame["excess"].to_numpy()

    @property
    def days(self) -> NDArray[np.datetime64]:
        """(sessions,) dates."""
        return np.asarray(self.frame["day"].to_numpy(), "datetime64[D]")

    @property
    def earned(self) -> FloatArray:
        """(sessions,) return without interest."""
        return self.frame["earned"].to_numpy()

    @property
    def expected(self) -> FloatArray:
        """(sessions,) variance of `earned` that was forecast, without the multiplier."""
        return self.frame["expected"].to_numpy()

    @property
    def level(self) -> FloatArray:
        """(sessions,) the multiplier of a volatility."""
        return self.frame["level"].to_numpy()


def run_line(
    sessions: Sessions,
    core: FloatArray,
    deviations: FloatArray,
    settings: Book,
    *,
    begin: int,
    tilt: FloatArray | None = None,
    evidence: FloatArray | None = None,
    rebalanced: bool = True,
    learned: Iterable[Past] | None = None,
) -> Line:
    """The account of one line from the close of session `begin` on, with cash alone before.

    `core`, `deviations`, `tilt`, `evidence`: (sessions, names), decided at each close. `rebalanced`: False: what is
    bought first is held. `learned`: `learned_of` these forecasts from `begin` on; None: found on the way.
    """
    terms, count = terms_of(sessions, settings, rebalanced=rebalanced), len(sessions.days)
    market = market_of(sessions, core, deviations, tilt, evidence, plain=is_plain(sessions, terms))
    fixed, told, findings = fixed_of(terms), nothing_told(count, len(sessions.names)), dict[int, tuple[Finding, ...]]()
    limits = dict[str, Limit]()
    state = LineState.start(sessions.names, sessions.classes, settings.size.capital)
    quick = int(market.ordinary[begin:].sum()) >= LEAST_SESSIONS
    for past in learned_of(sessions, deviations, begin) if learned is None else learned:
        place, known = past.first, Known(past.first, past.ahead, past.correlation)
        if place == begin > 0:
            state = state.knowing(past.before, core[begin - 1], sessions.bars[begin - 1], sessions.split[begin - 1])
        while place < past.end:
            if quick and market.ordinary[place] and place > begin and may_go_on(state):
                after = state_of(state)
                reached = machine().pass_sessions(place, past.end, begin, market, known, fixed, after, told)
                if reached > place:
                    state = line_of(
                        state, after, told, begin, place, reached - 1, sessions, core, past.after(reached - 1),
                        rebalanced,
                    )  # fmt: skip
                    place = reached
                    continue
            close = close_of(sessions, place, market, past.after(place), told=place == count - 1)
            before, (state, step) = state, state.after(close, terms)
            tell(told, place, step)
            findings[place], limits = step.findings, _limits(step, settings.size)
            if place > begin and before.covariance is not None:  # of what trades in the session, as its return is
                covariance = before.covariance_over(close.spans)
                variance = book_variance(told.share[place - 1], covariance, market.earns[place])
                told.number[place - 1, NUMBERS.index("variance")] = variance or np.nan
            place += 1
    if not rebalanced:
        for name in ("volatility", "reached"):
            told.number[begin:, NUMBERS.index(name)] = told.number[begin, NUMBERS.index(name)]
        told.gate[begin:] = told.gate[begin]
    return Line.of(told, findings, sessions, begin, limits)


def _limits(step: Step, size: BookSettings) -> dict[str, Limit]:
    """See `Line.limits`; none of a session of which no more is told."""
    if step.view is None or step.sizing is None:
        return {}
    sized = trades_of(step.view, step.sizing, size)
    return {name: limit_of(sized, place, size) for place, name in enumerate(step.view.names)}


def learned_of(sessions: Sessions, deviations: FloatArray, begin: int) -> Iterator[Past]:
    """What is known of returns after each session from `begin` on: the same for all lines with these forecasts, however
    they trade. In parts, since of many names it is large: four squares of names a session.
    """
    count = len(sessions.days)
    most = max(MOST_BYTES // (BYTES_OF_A_PAIR * max(len(sessions.names), 1) ** 2), 1)
    known = Learned.start(sessions.names, sessions.classes)
    for first in [*range(0, begin, most), *range(begin, count, most)]:
        some = slice(first, min(first + most, begin if first < begin else count))
        past = Past.of(known, sessions.returns[some], deviations[some], first)
        if first >= begin:
            yield past
        known = past.after(past.end - 1)


def terms_of(sessions: Sessions, settings: Book, *, rebalanced: bool = True) -> Terms:
    """What is the same at each session of a line."""
    return Terms(
        sessions.names, sessions.classes, sessions.instruments, sessions.per_year, settings.size, settings.money,
        rebalanced,
    )  # fmt: skip


def closes_of(
    sessions: Sessions, core: FloatArray, deviations: FloatArray, tilt: FloatArray | None = None,
    evidence: FloatArray | None = None, since: int = 0, told: int = 1,
) -> Iterator[Close]:  # fmt: skip
    """What each session from place `since` on brings to a line, see `run_line`; `core`: of these sessions alone.

    `told`: so many of the newest sessions of which what sizing saw is kept, see `Close.told`.
    """
    nothing = np.zeros((since, len(sessions.names)))
    market = market_of(sessions, np.vstack([nothing, core]), deviations, tilt, evidence, plain=False)
    for place in range(since, since + len(core)):
        yield close_of(sessions, place, market, told=place >= len(sessions.days) - told)


def close_of(
    sessions: Sessions, place: int, market: Market, learned: Learned | None = None, *, told: bool
) -> Close:  # fmt: skip
    """What a session brings to a line; `learned`, `told`: see `Close`."""
    return Close(
        session=money_session(sessions, place, market.deviations, market.usual_deviations),
        returns=sessions.returns[place],
        listed=sessions.listed[place], inside=sessions.inside[place], known=sessions.known[place],
        lent=sessions.lent[place], recalled=sessions.recalled[place], grown=sessions.grown(place),
        split=sessions.split[place], volume=sessions.usual_volume[place], deviations=market.deviations[place],
        core=market.core[place], tilt=market.tilt[place], evidence=market.evidence[place], bars=sessions.bars[place],
        told=told, learned=learned, spans=None if (sessions.spans[place] == 1).all() else sessions.spans[place],
    )  # fmt: skip


def holdings_of(steps: Sequence[Step], names: Sequence[str]) -> pl.DataFrame:
    """A row a session and symbol that has a bar or is held: what a line holds, and what it decided at its close.

    session; symbol; time: the close of its bar, null without one; units held; held: share of equity after the trade;
    target; core, tilt: its parts before the caps; share: of the core before it is scaled; trade: units ordered; gate:
    what cut it last.
    """
    day = np.array([step.booked.day for step in steps], "datetime64[D]")
    shape = len(steps), len(names)
    cells = {label: np.array([getattr(step, name) for step in steps]).reshape(shape) for label, name in HELD.items()}
    bars = np.array([step.bars for step in steps], np.int64).reshape(shape)
    return _table(day, bars, names, cells, np.array([step.gate for step in steps], dtype=object).reshape(shape))


def _table(
    day: NDArray[np.datetime64], bars: NDArray[np.int64], names: Sequence[str], cells: Mapping[str, FloatArray],
    gates: NDArray[np.object_],
) -> pl.DataFrame:  # fmt: skip
    """See `holdings_of`; `day`: (sessions,), the others (sessions, names)."""
    row, column = np.nonzero((bars > 0) | (cells["units"] != 0) | (cells["trade"] != 0))
    time = pl.Series(bars[row, column].astype("datetime64[us]")).dt.replace_time_zone("UTC")
    return pl.DataFrame(
        {
            "session": pl.Series(day[row], dtype=pl.Date),
            "symbol": pl.Series(np.array(names, dtype=object)[column], dtype=pl.String),
            "time": time.set(pl.Series(bars[row, column] == 0), None),
            **{label: pl.Series(values[row, column], dtype=pl.Float64) for label, values in cells.items()},
            "gate": pl.Series(gates[row, column], dtype=pl.String),
        }
    )


def no_holdings() -> pl.DataFrame:
    """The table of `holdings_of` without a row."""
    return holdings_of((), ())


HELD = {
    "units": "units", "held": "weights", "target": "target", "core": "core", "tilt": "tilt", "share": "share",
    "trade": "trades",
}  # fmt: skip
"""Column of `holdings_of` -> the field of a `line.Step` that it is."""


def cash_returns(sessions: Sessions, begin: int) -> FloatArray:
    """(sessions,) what cash earned since the session before, from `begin` on; 0 in the first."""
    return earned_on_cash(sessions.days[begin:], sessions.benchmark[begin:])


def money_session(sessions: Sessions, place: int, deviations: FloatArray, usual: FloatArray) -> Session:
    """What a session brings to an account; deviations are those forecast at the close before."""
    grid, last = sessions.grid, max(place - 1, 0)
    return Session(
        day=grid.days[place], fill=grid.fill[place], close=grid.close[place], at_open=grid.at_open[place],
        rate=sessions.rate[place], deviation=deviations[last], usual_deviation=usual[last], volume=grid.volume[place],
        usual_volume=grid.usual_volume[place], carry=None if sessions.carry is None else sessions.carry[place],
        funding=None if sessions.funding is None else sessions.funding[place],
        **{name: one[place] for name, one in sessions.loans.items()}, benchmark=float(sessions.benchmark[place]),
        events=sessions.events.get(grid.days[place], ()),
    )  # fmt: skip


def machine() -> ModuleType:
    """The compiled sessions; see `compute.machine_code` for where their machine code is kept."""
    from gatecast.compute.machine_code import say_again
    from gatecast.trading import kernel

    say_again(kernel)
    return kernel


def _said(told: Told, place: int, names: Sequence[str]) -> list[Finding]:
    """The findings of a session that was made as machine code."""
    found = list[Finding]()
    if told.over[place]:
        found.append(over_a_cap())
    if (of := int(told.lotless[place])) >= 0:
        found.append(no_lot(names[of], float(told.lot[place]), float(told.target[place, of])))
    return found
