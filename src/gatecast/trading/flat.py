"""A line's sessions as plain arrays: what they bring, what goes from one to the next, and what is said of each.

So they are read and written by `kernel`, and by `lines` for sessions that `line.LineState.after` makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatecast.trading.by_session import Sessions
from gatecast.trading.charges import DAYS_OF_RATES, UNKNOWN_DEVIATION, carry_nights
from gatecast.trading.covariance import decay_of
from gatecast.trading.grid import QUARTER, mean_of_last
from gatecast.trading.line import Learned, LineState, Step
from gatecast.trading.line import Terms as LineTerms
from gatecast.trading.money import LATE_DAYS
from gatecast.trading.sizing import BAND_SESSIONS, LEVEL, LEVEL_HALF_LIFE, BookState

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

GATES = (
    "", "name", "class", "gross", "net", "halt", "close", "stop", "borrow", "participation", "lot", "ticket", "cash",
    "margin", "spike",
)  # fmt: skip
"""What cut a name last, by its number in `Told.gate`; see `sizing.Sized`."""
KINDS = (
    "gain", "currency", "dividend", "carry", "withheld", "commission", "spread", "impact", "borrow", "funding",
    "traded", "lag",
)  # fmt: skip
"""Columns of `Told.money`, see `money.Booked`."""
NUMBERS = (
    "before", "equity", "interest", "late", "cash", "volatility", "spiked", "reached", "earned", "expected", "level",
    "variance", "core_return",
)  # fmt: skip
"""Columns of `Told.number`, see `line.Step` and `money.Booked`."""


class Market(NamedTuple):
    """What sessions bring, arrays (sessions, names) unless said otherwise; see `events.Session` and `line.Close`.

    `ordinary`: (sessions,) whether it may be one; `bounded`: (sessions,) whether a short cannot be borrowed at the next
    fill, or is recalled there. `days`, `nights`: (sessions,) since the session before, nights those of carry. `usual`:
    mean volume in the symbol's currency, `value`: in that of the book. `deviations`: forecast at the close;
    `usual_deviations`: their mean. `earns`: whether the name has a return.
    """

    ordinary: BoolArray
    bounded: BoolArray
    days: IntArray
    nights: IntArray
    benchmark: FloatArray
    fill: FloatArray
    close: FloatArray
    rate: FloatArray
    volume: FloatArray
    usual: FloatArray
    value: FloatArray
    carry: FloatArray
    returns: FloatArray
    earns: BoolArray
    listed: BoolArray
    tradable: BoolArray
    closing: BoolArray
    lent: BoolArray
    recalled: BoolArray
    deviations: FloatArray
    usual_deviations: FloatArray
    core: FloatArray
    tilt: FloatArray
    evidence: FloatArray


class Known(NamedTuple):
    """What is known of returns after sessions from `first` on: (sessions, names) newest forecast deviations, and
    (sessions, names, names) correlations, NaN where a name has no deviation."""

    first: int
    ahead: FloatArray
    correlation: FloatArray


class Fixed(NamedTuple):
    """What is the same at each session, arrays (names,), see `instruments.Instruments`.

    `per_year`: root of the sessions a year.
    """

    multiplier: FloatArray
    lot: FloatArray
    funded: BoolArray
    pair: BoolArray
    lendable: BoolArray
    has_volume: BoolArray
    commission: FloatArray
    half_spread: FloatArray
    borrow: FloatArray
    per_year: FloatArray
    caps: Caps
    terms: Terms
    rules: Rules


class Caps(NamedTuple):
    """See `sizing._Caps`: `shares`: (sums, names) of names in sums of weights; `most`, `gates`: (sums,) their caps and
    gates; `name`, `net`: the caps on one weight, which may be infinite, and on the sum of all."""

    shares: FloatArray
    most: FloatArray
    gates: IntArray
    name: float
    net: float


class Terms(NamedTuple):
    """Numbers of `costs.MoneySettings`; `per_unit`: NaN where the commission is in basis points. `unknown`: deviation
    of a name without a forecast. `year`: days of the year of rates."""

    per_unit: float
    minimum: float
    impact: float
    share: float
    small_share: float
    debit: float
    credit: float
    collateral: float
    least_lent: float
    carry: float
    unknown: float
    year: float


class Rules(NamedTuple):
    """Numbers of `sizing.BookSettings`; `stop`: 0 for none. `limit`: see `sizing._Caps`.

    `decay` of the level, `least_level`, `most_level`; `band_sessions`; `two`, `half`: exponents that no compiler knows,
    so that powers are those of the C library. `rebalanced`: False: what was bought first is held.
    """

    target: float
    tilt_share: float
    limit: float
    participation: float
    book_band: float
    symbol_band: float
    ticket: float
    stop: float
    stop_sessions: int
    decay: float
    least_level: float
    most_level: float
    band_sessions: int
    two: float
    half: float
    rebalanced: bool


class State(NamedTuple):
    """What goes from session to session, changed in place. `units`, `price`, `rate`, `orders`: (names,).

    `covariance`: (names, names). `number`: (5,) cash, surprise, peak, sessions of the stop left, equity.
    """

    units: FloatArray
    price: FloatArray
    rate: FloatArray
    orders: FloatArray
    covariance: FloatArray
    number: FloatArray


class Told(NamedTuple):
    """What is said of each session: arrays (sessions, names), or (sessions,) where that is said.

    `money`: (sessions, `KINDS`) sums over names. `number`: (sessions, `NUMBERS`). `gate`: see `GATES`. `over`:
    (sessions,) whether a cap is exceeded. `lotless`: (sessions,) place of the last name whose target is less than a
    lot, -1 for none; `lot`: (sessions,) that lot, as a share of equity.
    """

    money: FloatArray
    number: FloatArray
    units: FloatArray
    trades: FloatArray
    weights: FloatArray
    target: FloatArray
    core: FloatArray
    tilt: FloatArray
    share: FloatArray
    gate: IntArray
    over: BoolArray
    lotless: IntArray
    lot: FloatArray


# ── from a line, and back ─────────────────────────────────────────────────────────────────────────


def market_of(
    sessions: Sessions, core: FloatArray, deviations: FloatArray, tilt: FloatArray | None, evidence: FloatArray | None,
    *, plain: bool,
) -> Market:  # fmt: skip
    """What the sessions bring to a line, see `lines.run_line`; `plain`: whether any of them may be ordinary."""
    grid, count = sessions.grid, len(sessions.days)
    nothing = np.zeros(grid.close.shape)
    ordinary = np.full(count, plain)
    ordinary[1:] &= (sessions.split[1:] == sessions.split[:-1]).all(axis=1)
    ordinary &= (sessions.spans == 1).all(axis=1) & sessions.known.any(axis=1)
    ordinary[[day in sessions.events for day in sessions.days]] = False
    ordinary[:1] = ordinary[-1:] = False  # of the newest more is told
    days = np.array(sessions.days, "datetime64[D]")
    nights = [0] * count
    if sessions.instruments.pair.any():
        nights[1:] = [carry_nights(*pair) for pair in zip(sessions.days[:-1], sessions.days[1:], strict=True)]
    return Market(
        ordinary=ordinary, bounded=np.asarray(~sessions.lent.all(axis=1) | sessions.recalled.any(axis=1), np.bool_),
        days=np.diff(days, prepend=days[:1]).astype(np.int64), nights=np.array(nights, np.int64),
        benchmark=sessions.benchmark, fill=grid.fill, close=grid.close, rate=sessions.rate, volume=grid.volume,
        usual=grid.usual_volume, value=sessions.usual_volume,
        carry=np.full(nothing.shape, np.nan) if sessions.carry is None else sessions.carry,
        returns=sessions.returns, earns=np.isfinite(sessions.returns), listed=sessions.listed,
        tradable=sessions.listed & sessions.known, closing=~(sessions.listed & sessions.inside), lent=sessions.lent,
        recalled=sessions.recalled, deviations=deviations, usual_deviations=mean_of_last(deviations, QUARTER),
        core=core, tilt=nothing if tilt is None else tilt, evidence=nothing if evidence is None else evidence,
    )  # fmt: skip


def is_plain(sessions: Sessions, terms: LineTerms) -> bool:
    """Whether a line has sessions that are ordinary: without perpetual contracts, margin, a table of loans, and sizes
    that classes falling together decide."""
    instruments = terms.instruments
    return not (sessions.loans or terms.size.spike_sizes or instruments.intervals.any() or instruments.margin.any())


def fixed_of(terms: LineTerms) -> Fixed:
    """What is the same at each session of a line."""
    own, size, money = terms.instruments, terms.size, terms.money
    every, kinds = np.ones(len(terms.names)), np.array(terms.classes, dtype=object)
    sums = [(every, size.gross_cap, "gross")]
    if size.class_cap is not None:
        shares = [np.where(kinds == kind, 1.0, 0.0) for kind in sorted(set(terms.classes))]
        sums = [*((share, size.class_cap, "class") for share in shares), *sums]
    nan, inf = float("nan"), float("inf")
    return Fixed(
        multiplier=own.multiplier, lot=own.lot, funded=own.funded, pair=own.pair, lendable=own.lendable,
        has_volume=own.has_volume, commission=own.commission, half_spread=own.half_spread, borrow=own.borrow,
        per_year=np.sqrt(terms.per_year),
        caps=Caps(
            np.array([share for share, _, _ in sums]), np.array([cap for _, cap, _ in sums]),
            np.array([GATES.index(gate) for _, _, gate in sums]),
            inf if size.name_cap is None else float(size.name_cap), float(size.net_cap),
        ),
        terms=Terms(
            nan if money.commission_per_unit is None else float(money.commission_per_unit),
            float(money.commission_minimum), float(money.impact), float(money.unknown_share_of_volume),
            float(money.unknown_share_of_small), float(money.debit_spread), float(money.credit_spread),
            float(money.borrow_collateral), float(money.least_lent_volume), float(money.unknown_carry),
            UNKNOWN_DEVIATION, float(DAYS_OF_RATES),
        ),
        rules=Rules(
            target=float(size.target_volatility), tilt_share=float(size.tilt_share),
            limit=float(max(1.0, min(size.net_cap, size.gross_cap))), participation=float(size.participation),
            book_band=float(size.book_band), symbol_band=float(size.symbol_band), ticket=float(size.minimum_ticket),
            stop=float(size.drawdown_stop or 0.0), stop_sessions=int(size.stop_sessions),
            decay=decay_of(LEVEL_HALF_LIFE), least_level=LEVEL[0], most_level=LEVEL[1], band_sessions=BAND_SESSIONS,
            two=2.0, half=0.5, rebalanced=terms.rebalanced,
        ),
    )  # fmt: skip


def nothing_told(sessions: int, names: int) -> Told:
    """Room for what is said of so many sessions."""
    cells = [np.zeros((sessions, names)) for _ in range(7)]
    units, trades, weights, target, core, tilt, share = cells
    return Told(
        money=np.zeros((sessions, len(KINDS))), number=np.zeros((sessions, len(NUMBERS))), units=units, trades=trades,
        weights=weights, target=target, core=core, tilt=tilt, share=share, gate=np.zeros((sessions, names), np.int64),
        over=np.zeros(sessions, np.bool_), lotless=np.full(sessions, -1), lot=np.zeros(sessions),
    )  # fmt: skip


def tell(told: Told, place: int, step: Step) -> None:
    """Writes what a step says of its session."""
    booked = step.booked
    told.money[place] = [float(getattr(booked, kind).sum()) for kind in KINDS]
    told.number[place] = [
        getattr(booked, name) if hasattr(booked, name) else getattr(step, name) for name in NUMBERS
    ]  # fmt: skip
    told.units[place], told.trades[place], told.weights[place] = step.units, step.trades, step.weights
    told.target[place], told.core[place], told.tilt[place] = step.target, step.core, step.tilt
    told.share[place] = step.share
    told.gate[place] = [GATES.index(gate) for gate in step.gate]
    told.over[place], told.lotless[place] = False, -1  # its findings are sentences


def may_go_on(state: LineState) -> bool:
    """Whether an ordinary session may follow: something was decided, and no money or symbol waits."""
    return state.covariance is not None and not state.account.due and not state.account.parked.any()


def state_of(line: LineState) -> State:
    """What goes on from a line, in arrays of its own."""
    assert line.covariance is not None
    sizing, account = line.sizing, line.account
    numbers = [account.cash, sizing.surprise, sizing.peak, float(sizing.flat_left), line.equity]
    return State(
        account.units.copy(), account.price.copy(), account.rate.copy(), np.array(line.orders, np.float64),
        line.covariance.copy(), np.array(numbers, np.float64),
    )  # fmt: skip


def line_of(
    line: LineState, state: State, told: Told, begin: int, first: int, last: int, sessions: Sessions,
    core: FloatArray, learned: Learned, rebalanced: bool,
) -> LineState:  # fmt: skip
    """A line after the sessions from place `first` to `last`, which said what is told; `begin`: its first session."""
    cash, surprise, peak, left, equity = state.number.tolist()
    day = sessions.days[last]
    sizing = BookState(line.names, line.sizing.targets, surprise, peak, int(left))
    if rebalanced:
        targets = told.target[max(begin, last + 1 - BAND_SESSIONS) : last + 1].copy()
        sizing = replace(sizing, targets=targets)
    account = replace(
        line.account, cash=cash, units=state.units, price=state.price, rate=state.rate, day=day,
        changes=_changes(line, told, first, last, sessions.days),
    )  # fmt: skip
    return replace(
        line, account=account, sizing=sizing, correlations=learned.correlations, squares=learned.squares,
        ahead=learned.ahead, scale=learned.scale, orders=state.orders, core=core[last], equity=equity,
        bars=sessions.bars[last], split=sessions.split[last], covariance=state.covariance,
    )  # fmt: skip


def _changes(
    line: LineState, told: Told, first: int, last: int, days: Sequence[date]
) -> tuple[tuple[date, int, float], ...]:  # fmt: skip
    """See `money.Account`: those before, and those of the sessions."""
    oldest = days[last] - timedelta(days=LATE_DAYS)
    units = np.vstack([line.account.units, told.units[first : last + 1]])
    row, column = np.nonzero(units[1:] != units[:-1])
    more = [
        (days[first + at], of, float(units[at, of])) for at, of in zip(row.tolist(), column.tolist(), strict=True)
    ]  # fmt: skip
    return tuple(one for one in (*line.account.changes, *more) if one[0] > oldest)
