"""Sizing: what is wanted and what is held at a close -> trades. One function, for a backtest, a replay and orders.

In this order: the target is scaled to a volatility, the caps cut it, the bands say what is traded, the caps cut again
(with participation), units are rounded toward zero to lots, small tickets are dropped, and cash is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gatecast.errors import SettingsError, shown
from gatecast.settings import MOST_BARS, Settings
from gatecast.trading.covariance import book_variance, decay_of, places_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TARGET_CAPS = ("name", "class", "gross", "margin", "net", "spike")
"""Gates that keep the target below the volatility aimed at; the others cut trades."""
STAGES = (
    "core size", "tilt share", "volatility", "caps", "band", "volume", "caps again", "lots", "ticket", "cash",
)  # fmt: skip
"""What sizing does, in this order: scales the core to the volatility aimed at, cuts the tilt to its share, scales both
to the volatility, cuts at the caps, leaves what is within the bands, keeps within the volume and within the caps again,
rounds to lots, drops small tickets, counts the cash."""
LEVEL_HALF_LIFE = 250.0
"""Sessions after which a squared surprise of the book counts half in its level."""
LEVEL = (2 / 3, 3 / 2)
"""Least and largest multiplier of the forecast volatility."""
BAND_SESSIONS = 63
"""Sessions of targets whose mean size a symbol's band is a share of."""
SPIKE_TIMES = 1.5
"""Volatility with a class falling together, over the target, that is a finding."""
SLACK = 1e-9
"""Share of the equity that is no trade and breaks no cap: rounding of numbers."""
PATHS, SESSIONS_A_YEAR = 6000, 252
"""Simulated paths, and sessions of their years, of `stop_probability`."""

Cap = Annotated[float, Field(gt=0, le=100)]


class BookSettings(Settings):
    """How large the book is, what it may not exceed, and what is traded.

    >>> BookSettings(target_volatility=10)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: BookSettings: target_volatility = 10: input should be less than or equal to 2 \
(volatility of the book that is aimed at, a year).
    """

    capital: Annotated[float, Field(gt=0, le=1e12)] = 1_000_000.0
    """money that the book starts with, in its currency"""
    target_volatility: Annotated[float, Field(gt=0, le=2)] = 0.10
    """volatility of the book that is aimed at, a year; caps may keep it lower"""
    tilt_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """largest volatility of what forecasts of returns add to the core, as a share of the target, times the evidence"""
    gross_cap: Cap = 1.0
    """largest value held long and short together, over equity; above 1 it is paid with borrowed money"""
    net_cap: Cap = 1.0
    """largest value held long less short, or short less long, over equity"""
    class_cap: Cap | None = Field(default=None, examples=[0.6])
    """largest value held long and short in one asset class, over equity; left out: no cap"""
    name_cap: Cap | None = Field(default=None, examples=[0.25])
    """largest value held in one symbol, over equity; left out: no cap"""
    margin_cap: Annotated[float, Field(gt=0, le=1)] = 1.0
    """largest margin of all holdings, over equity"""
    participation: Annotated[float, Field(gt=0, le=1)] = 0.1
    """largest trade of a session, as a share of the mean value traded in a symbol over 21 days; halved in stress"""
    spike_sizes: bool = False
    """whether the volatility with each class falling together may not exceed 1.5 times the target; else it is told"""
    book_band: Annotated[float, Field(ge=0, lt=1)] = 0.07
    """distance of held over target volatility from 1 beyond which everything is traded"""
    symbol_band: Annotated[float, Field(ge=0, le=1)] = 0.1
    """distance of a holding from its target beyond which it is traded, as a share of the mean size of the symbol's
    targets over 63 sessions, those without a target left out; it is traded to the near edge"""
    lots: dict[str, Annotated[float, Field(ge=0, le=1e9)]] = Field(default={}, examples=[{"EURUSD": 1000.0}])
    """symbol and the units of a lot, 0 for any part of a unit; left out: 1, and any part of a coin"""
    minimum_ticket: Annotated[float, Field(ge=0, le=1e9)] = 100.0
    """smallest value of a trade, in the book's currency; a position is closed and a cap is kept with smaller ones"""
    drawdown_stop: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, examples=[0.2])
    """loss from the highest equity at which everything is sold; left out: never, see `stop_probability`"""
    stop_sessions: Annotated[int, Field(ge=1, le=MOST_BARS)] = 21
    """sessions that the drawdown stop keeps the book flat; then the highest equity counts from there"""


@dataclass(frozen=True)
class BookView:
    """What is known of the names of a book at a close, and what is wanted of them. Arrays are (names,).

    Attributes
    ----------
    names, classes: symbol and asset class.
    core, tilt: weights, in shares of equity: what is held whatever is forecast of returns, and what the strategies
        propose before evidence. evidence: the factor of the tilt, from 0 to 1.
    covariance: (names, names) of a year, forecast at the close. spiked: the same with each class falling together, or
        None. It must be finite for all names that are wanted or held.
    equity: money in the book's currency. held: units. price: value of one unit in the book's currency.
    lot: units of a lot, 0 for any part of a unit. volume: mean value traded a session over 21 days, NaN where nobody
        knows. margin: share of a holding's value that is margin. funded: whether its value is paid for; of a future the
        margin alone is. cost: of a trade, as a fraction of its value.
    tradable: whether the name trades at the next fill; what does not is held. closing: whether it is to be sold,
        because of a limit, a stop, a delisting or a halt of the book.
    stress: whether the market is under stress. least: units that no holding may be below: 0 where a short is recalled,
        what is held where none is lent, else minus infinity; None: all can be sold short.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    core: FloatArray
    tilt: FloatArray
    evidence: FloatArray
    covariance: FloatArray
    equity: float
    held: FloatArray
    price: FloatArray
    lot: FloatArray
    volume: FloatArray
    margin: FloatArray
    funded: BoolArray
    cost: FloatArray
    tradable: BoolArray
    closing: BoolArray
    spiked: FloatArray | None = None
    stress: bool = False
    least: FloatArray | None = None

    def unit(self, equity: float) -> FloatArray:
        """(names,) the value of one unit as a share of equity, NaN without a price."""
        return np.where(self.price > 0, self.price, np.nan) / equity


@dataclass(frozen=True)
class BookState:
    """What sizing remembers from session to session; each session makes another one.

    `targets`: (up to 63, names) targets of the last sessions, 0 before a name was there. `surprise`: mean square of
    the book's returns over their forecast deviations, 1 at the start. `peak`: the highest equity since the last stop;
    `flat_left`: sessions that the drawdown stop still keeps the book flat.
    """

    names: tuple[str, ...]
    targets: FloatArray = field(repr=False)
    surprise: float = 1.0
    peak: float = 0.0
    flat_left: int = 0

    @classmethod
    def start(cls, names: Sequence[str]) -> Self:
        """Before the first session."""
        return cls(tuple(names), np.zeros((0, len(names))))

    def among(self, names: Sequence[str]) -> Self:
        """The same for these names in this order; one that is new has no target yet."""
        at = places_of(names, self.names)
        targets = np.where(at >= 0, self.targets[:, at], 0.0)
        return replace(self, names=tuple(names), targets=targets)

    @property
    def level(self) -> float:
        """What the forecast volatility of the book is multiplied by, from 2/3 to 3/2."""
        return min(max(math.sqrt(self.surprise), LEVEL[0]), LEVEL[1])

    @property
    def mean_target(self) -> FloatArray:
        """(names,) mean size of each name's targets over the last 63 sessions, of those in which it had one."""
        size = np.abs(self.targets)
        added = size.cumsum(axis=0)[-1]  # one after the other, so that sessions before a name was there change no bit
        return np.asarray(added / np.maximum((size > 0).sum(axis=0), 1), np.float64)

    def after_return(self, earned: float, variance: float) -> Self:
        """After a session: the book's return, and the variance of it forecast with what was held after its fill.

        `variance`: `covariance.book_variance` of one session, of the names that trade in it, without the level; a
        session in which nothing was held changes nothing.

        >>> BookState.start(("A",)).after_return(0.02, 0.0001).surprise
        1.0083062459437915
        """
        if not variance > 0:
            return self
        decay = decay_of(LEVEL_HALF_LIFE)
        return replace(self, surprise=decay * self.surprise + (1 - decay) * earned**2 / variance)

    def after_equity(self, equity: float, settings: BookSettings, decided: bool = True) -> Self:
        """After a session: whether the drawdown stop fires, or ends. At its end the peak is the equity there.

        `decided`: whether anybody decided at its close; else the stop does not fire there.
        """
        if self.flat_left > 1:
            return replace(self, flat_left=self.flat_left - 1)
        if self.flat_left == 1:
            return replace(self, flat_left=0, peak=equity)
        peak = max(self.peak, equity)
        fires = settings.drawdown_stop is not None and equity <= peak * (1 - settings.drawdown_stop)
        return replace(self, peak=peak, flat_left=settings.stop_sessions if fires and decided else 0)

    def after_target(self, target: FloatArray) -> Self:
        """With the targets of one more close."""
        return replace(self, targets=np.vstack([self.targets, target])[-BAND_SESSIONS:])


class Finding(NamedTuple):
    """What a reader of the trades should know: its kind, under which closes are counted, and a sentence.

    `kind`: ruined, stuck, cap, lot or spike; of what actions gave (`trading.line`) late or not_booked.
    """

    kind: str
    sentence: str


class Cut(NamedTuple):
    """A gate that cut a name, and the one of `STAGES` at which it did.

    `change`: of the name's share of equity by this gate alone, where the stage has several; 0 else, see `cuts.cuts_of`.
    """

    stage: str
    gate: str
    change: float = 0.0


@dataclass(frozen=True)
class Sized:
    """The trades of one close. Arrays are (names,).

    `trades`: units to buy, below 0 to sell. `weights`: shares of equity after them; `target`: shares after the first
    caps; `core`, `tilt`: its parts before the caps, without what cannot be traded. `gate`: what cut a name last, ""
    where nothing did: name, class, gross, margin, net, spike, halt, close, stop, borrow, participation, lot, ticket or
    cash; `gates`: every `Cut` of it, in order, also of a name that is wanted, not held and not to be bought.
    `volatility`: of the target, a year, with the level in it; `spiked` with each class falling together, NaN where that
    is not given. `target_reached`: whether the volatility is the one aimed at. `state`: with the targets of this close.
    `stages`: name of `STAGES` -> shares after it.
    """

    trades: FloatArray
    weights: FloatArray
    target: FloatArray
    core: FloatArray
    tilt: FloatArray
    gate: tuple[str, ...]
    gates: tuple[tuple[Cut, ...], ...]
    volatility: float
    spiked: float
    target_reached: bool
    findings: tuple[Finding, ...]
    state: BookState
    stages: Mapping[str, FloatArray]


def trades_of(view: BookView, state: BookState, settings: BookSettings) -> Sized:
    """What to trade at the next fill, from what is wanted and held at a close.

    The state is that after the session's own return and equity (`BookState.after_return`, `after_equity`), and has the
    names of the view. No trade is made of what `tradable` leaves out. After the trades no cap is exceeded, unless what
    cannot be sold in one session exceeds it by itself; a finding says so. The same targets a second time give no more
    trades, unless participation or cash cut the first.

    Raises `SettingsError` for a name that is wanted or held without a price or a covariance, and for other names.
    """
    view = _usable(view, state)
    gates, findings = _Gates([()] * len(view.names)), list[Finding]()
    ruined, stopped = not view.equity > 0, state.flat_left > 0
    if ruined:
        findings.append(Finding("ruined", "no equity is left: everything is closed"))
    equity = 1.0 if ruined else view.equity
    unit = view.unit(equity)
    held = _weights(view.held, unit)
    closing, caps = view.closing | ruined | stopped, _Caps.of(view, settings)

    stuck = np.where(view.tradable, 0.0, held)
    least = _least(view, unit)
    core, tilt, *parts = _scaled(view, settings, state.level, stuck, closing, least, gates, findings)
    wanted = core + tilt
    wanted = stuck + (wanted if least is None else np.maximum(wanted, np.where(stuck != 0, -math.inf, least)))
    gates.set(stuck != 0, "halt", "volatility")
    gates.set(closing & view.tradable & (held != 0), "stop" if stopped else "close", "volatility")
    target = caps.cut(wanted, stuck, gates)
    state = state.after_target(target)

    aimed = book_variance(target, view.covariance)

    def is_off(weights: FloatArray) -> bool:
        has = book_variance(weights, view.covariance)
        return aimed > 0 and abs(math.sqrt(has / aimed) - 1) > settings.book_band

    half = settings.symbol_band * state.mean_target
    within_bands = np.where(target == 0, 0.0, np.clip(held, target - half, target + half))
    before, off = gates.all, is_off(held)
    if not off and np.array_equal(within_bands, held) and caps.hold(held):
        units, last = view.held, [held] * 5  # nothing is traded, as in most sessions
    else:
        units, *last = _units_of(view, settings, equity, target, within_bands, caps, gates)
    if off or is_off(_weights(units, unit)):
        gates = _Gates(before)
        units, *last = _units_of(view, settings, equity, target, target, caps, gates)
    weights = _weights(units, unit)

    if not caps.hold(weights):
        findings.append(over_a_cap())
    findings += _no_lot(view.names, target, units, view.lot * unit)
    volatility = state.level * math.sqrt(aimed)
    spiked = math.nan
    if view.spiked is not None:
        spiked = state.level * math.sqrt(book_variance(target, view.spiked))
    if spiked > SPIKE_TIMES * settings.target_volatility * (1 + SLACK):
        said = (
            f"with each class falling together the volatility is {spiked:.1%} a year, more than {SPIKE_TIMES} times "
            f"the target of {settings.target_volatility:.1%}"
        )
        findings.append(Finding("spike", said))
    names = gates.names  # nothing was cut of what is not held: what was wanted of it has a gate all the same
    unheld = (held == 0) & ((view.core != 0) | (view.evidence * view.tilt != 0))
    gates.set(unheld & ~view.tradable, "halt", "volatility")
    gates.set(unheld & view.tradable & closing, "stop" if stopped else "close", "volatility")
    return Sized(
        trades=units - view.held,
        weights=weights,
        target=target,
        core=core,
        tilt=tilt,
        gate=names,
        gates=gates.all,
        volatility=volatility,
        spiked=spiked,
        target_reached=volatility >= settings.target_volatility * (1 - 1e-6),
        findings=tuple(findings),
        state=state,
        stages=dict(zip(STAGES, (*parts, wanted, target, *last, weights), strict=True)),
    )


def _usable(view: BookView, state: BookState) -> BookView:
    """The view, with 0 for the covariance of a name that is held, can be sold and is not wanted.

    Raises `SettingsError` for other names than the state's, and for a name without a price or a covariance.
    """
    if view.names != state.names:
        raise SettingsError(
            f"the view has the names {shown(view.names)}, the state {shown(state.names)}. Give BookState.among(names) "
            "the names of the view."
        )
    held = view.held != 0
    wanted = ((view.core != 0) | (view.evidence * view.tilt != 0)) & view.tradable & ~view.closing
    needed = wanted | (held & ~view.tradable)
    at = np.flatnonzero(needed)
    unpriced = (needed | held) & ~(view.price > 0)
    unknown = np.zeros(len(needed), bool)
    unknown[at] = ~np.isfinite(view.covariance[np.ix_(at, at)]).all(1)
    for lacking, what in ((unpriced, "price above 0"), (unknown, "forecast covariance")):
        if lacking.any():
            name = view.names[int(np.argmax(lacking))]
            raise SettingsError(
                f"{name!r} is wanted or held and has no {what}. Give the last one that is known, or do not want it."
            )
    rest = held & ~needed
    if rest.any() and not np.isfinite(view.covariance[np.ix_(held, held)]).all():
        known = np.where(np.isfinite(view.covariance), view.covariance, 0.0)
        return replace(view, covariance=known)
    return view


# ── 1. the target ─────────────────────────────────────────────────────────────────────────────────


def scale_of(wanted: FloatArray, stuck: FloatArray, covariance: FloatArray, target: float) -> float | None:
    """By how much what is wanted is multiplied, so that the book with what is stuck has the target volatility.

    `wanted`, `stuck`: (names,) weights. None where no multiple at or above 0 has that volatility; 0 where nothing is
    wanted.

    >>> covariance = np.array([[0.04, 0.006], [0.006, 0.01]])
    >>> round(scale_of(np.array([0.0, 1.0]), np.array([0.3, 0.0]), covariance, 0.10), 6)
    0.64
    """
    a = book_variance(wanted, covariance)
    if a == 0:
        return 0.0
    c = book_variance(stuck, covariance)
    b = (book_variance(wanted + stuck, covariance) - a - c) / 2 if c > 0 else 0.0
    root = b**2 - a * (c - target**2)
    scale = (-b + math.sqrt(root)) / a if root >= 0 else -1.0
    return scale if scale >= 0 else None


def _scaled(
    view: BookView,
    settings: BookSettings,
    level: float,
    stuck: FloatArray,
    closing: BoolArray,
    least: FloatArray | None,
    gates: _Gates,
    findings: list[Finding],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(names,) core and (names,) tilt, which with what is stuck have the target volatility; and what was wanted on the
    way: once the core alone has that volatility, and once the tilt is cut to its share.

    Neither has a name that may only be bought, and is wanted short: `least` are weights that no holding may be below.
    """
    free, aim, covariance = view.tradable & ~closing, settings.target_volatility / level, view.covariance
    core = np.where(free, view.core, 0.0)
    tilt = np.where(free, view.evidence * view.tilt, 0.0)
    core = core * (scale_of(core, np.zeros_like(core), covariance, aim) or 0.0)
    core_sized = np.where(free, core + tilt, view.core + view.evidence * view.tilt)
    most = settings.tilt_share * aim * float(np.max(view.evidence, where=tilt != 0, initial=0.0))
    size = math.sqrt(book_variance(tilt, covariance))
    tilt = tilt * min(1.0, most / size) if size > 0 else np.zeros_like(core)
    wanted, alone = core + tilt, not core.any()
    tilt_cut = np.where(free, wanted, core_sized)
    if least is not None:
        gates.set((wanted < 0) & (least > -math.inf), "borrow", "volatility")
        none = (wanted < 0) & (least == 0)
        core, tilt, wanted = (np.where(none, 0.0, one) for one in (core, tilt, wanted))
    scale = scale_of(wanted, stuck, covariance, aim)
    if scale is None:
        findings.append(Finding("stuck", "what cannot be traded is beyond the target volatility: nothing else is held"))
        gates.set(wanted != 0, "halt", "volatility")
        scale = 0.0
    if alone:  # a tilt alone is not enlarged beyond its evidence
        scale = min(scale, 1.0)
    if settings.spike_sizes and view.spiked is not None:
        most_spiked = scale_of(wanted, stuck, view.spiked, SPIKE_TIMES * aim) or 0.0
        if most_spiked < scale:
            gates.set(wanted != 0, "spike", "volatility")
            scale = most_spiked
    return scale * core, scale * tilt, core_sized, tilt_cut


def _least(view: BookView, unit: FloatArray) -> FloatArray | None:
    """(names,) weights that no holding may be below; None where there are none."""
    if view.least is None:
        return None
    bounded = np.isfinite(view.least)
    return np.where(bounded, _weights(np.where(bounded, view.least, 0.0), unit), -math.inf)


# ── 2. caps ───────────────────────────────────────────────────────────────────────────────────────


class _Gates:
    """What cut each name, in order."""

    def __init__(self, cut: Sequence[Sequence[Cut]]) -> None:
        self._cut = [list(one) for one in cut]

    def set(self, cut: BoolArray, gate: str, stage: str, change: FloatArray | None = None) -> None:
        """Notes the gate for the names that it cut, at which of `STAGES`, and (names,) by how much, see `Cut`."""
        for place in np.flatnonzero(cut).tolist():
            self._cut[place].append(Cut(stage, gate, 0.0 if change is None else float(change[place])))

    @property
    def names(self) -> tuple[str, ...]:
        """The last gate of each, "" where there is none."""
        return tuple(one[-1].gate if one else "" for one in self._cut)

    @property
    def all(self) -> tuple[tuple[Cut, ...], ...]:
        """The cuts of each."""
        return tuple(map(tuple, self._cut))


@dataclass(frozen=True)
class _Caps:
    """The caps of a book.

    `sums`: (share, cap, gate) of sums of |weight| times a (names,) share. `name`, `net`: the caps on one weight and on
    the sum of all. `limit`: cash that may be used, over equity; `funded`, `margin`, `cost`: see `BookView`.
    """

    sums: tuple[tuple[FloatArray, float, str], ...]
    name: float
    net: float
    limit: float
    funded: BoolArray
    margin: FloatArray
    cost: FloatArray

    @classmethod
    def of(cls, view: BookView, settings: BookSettings) -> Self:
        """The caps that the settings put on the names of a view."""
        every, kinds = np.ones(len(view.names)), np.array(view.classes, dtype=object)
        sums = [(every, settings.gross_cap, "gross"), (view.margin, settings.margin_cap, "margin")]
        if (cap := settings.class_cap) is not None:
            own = [np.where(kinds == kind, 1.0, 0.0) for kind in sorted(set(view.classes))]
            sums = [*((share, cap, "class") for share in own), *sums]
        limit = max(1.0, min(settings.net_cap, settings.gross_cap))
        return cls(
            tuple(sums), settings.name_cap or math.inf, settings.net_cap, limit, view.funded, view.margin,
            view.cost,
        )  # fmt: skip

    def hold(self, weights: FloatArray) -> bool:
        """Whether no cap is exceeded, but for rounding of numbers."""
        size = np.abs(weights)
        return (
            bool((size <= self.name + SLACK).all())
            and all(total(size * share) <= cap + SLACK for share, cap, _ in self.sums)
            and abs(total(weights)) <= self.net + SLACK
        )

    def cut(self, wanted: FloatArray, fixed: FloatArray, gates: _Gates | None = None) -> FloatArray:
        """(names,) weights within the caps: what is wanted beyond what is fixed is made smaller.

        Where something is fixed, what is wanted lies beyond it on the same side. What is fixed and exceeds a cap by
        itself stays, and nothing beside it that the cap counts.
        """
        gates = gates or _Gates([()] * len(wanted))
        bound = np.maximum(np.abs(fixed), self.name)
        weights = np.clip(wanted, -bound, bound)
        gates.set(np.abs(wanted) > bound + SLACK, "name", "caps", weights - wanted)
        for share, cap, gate in self.sums:
            held, more = total(np.abs(fixed) * share), total(np.abs(weights - fixed) * share)
            if more > 0 and held + more > cap + SLACK:
                smaller = fixed + max(cap - held, 0.0) / more * (weights - fixed)
                change = np.where(share > 0, smaller - weights, 0.0)
                gates.set((share > 0) & (weights != fixed), gate, "caps", change)
                weights = np.where(share > 0, smaller, weights)
        held, more = total(fixed), total(weights - fixed)
        if abs(held + more) > self.net + SLACK and more * (held + more) > 0:
            left = max(self.net - math.copysign(held, held * more), 0.0) / abs(more)
            gates.set(weights != fixed, "net", "caps", (left - 1) * (weights - fixed))
            weights = fixed + left * (weights - fixed)
        return weights

    def toward(self, goal: FloatArray, weights: FloatArray, gates: _Gates) -> FloatArray:
        """(names,) weights within the caps: where they exceed one, names above their goal are brought nearer to it.

        The goal is within the caps, so that names stay within their bands.
        """
        if self.hold(weights):
            return weights
        above = np.abs(weights) > np.abs(goal)
        lowest = np.where(above, goal, weights)
        left, gate = 1.0, "name"
        for share, cap, name in self.sums:
            most, least = total(np.abs(weights) * share), total(np.abs(lowest) * share)
            if most > cap + SLACK and most > least and max(cap - least, 0.0) / (most - least) < left:
                left, gate = max(cap - least, 0.0) / (most - least), name
        nearer = np.clip(lowest + left * (weights - lowest), -self.name, self.name)
        nearer = np.where(np.abs(nearer) < np.abs(lowest), lowest, nearer)
        if not self.hold(nearer):
            nearer, gate = goal, "net" if abs(total(nearer)) > self.net + SLACK else gate
        gates.set(np.abs(nearer - weights) > SLACK, gate, "caps again")
        return nearer

    def net_again(self, weights: FloatArray, fixed: FloatArray) -> FloatArray:
        """(names,) weights with the net that lots of the other side were needed for: its own side is made smaller."""
        net = total(weights)
        excess = abs(net) - self.net
        side = weights * net > 0
        more = total(np.where(side, np.abs(weights - fixed), 0.0))
        if excess <= SLACK or more <= 0:
            return weights
        return np.where(side, fixed + max(1 - excess / more, 0.0) * (weights - fixed), weights)

    def within_cash(self, weights: FloatArray, held: FloatArray, gates: _Gates) -> FloatArray:
        """(names,) weights that can be paid for, costs included: purchases that enlarge a holding are made smaller."""
        use, used = (
            np.where(self.funded, one, np.abs(one) * self.margin) for one in (weights, held)
        )  # of the cash, after and before
        need = use - used + np.abs(weights - held) * self.cost
        buys = (np.abs(weights) > np.abs(held)) & (need > 0)
        asked, left = total(np.where(buys, need, 0.0)), self.limit - total(used) - total(np.where(buys, 0.0, need))
        if asked <= max(left, 0.0) + SLACK:
            return weights
        gates.set(buys, "cash", "cash")
        return np.where(buys, held + max(left, 0.0) / asked * (weights - held), weights)


def total(values: FloatArray) -> float:
    """The sum of (names,) values, rounded once: names that add 0, and their order, change no bit."""
    return math.fsum(values.tolist())


# ── 3. bands ──────────────────────────────────────────────────────────────────────────────────────


def ideal_half_width(weight: float, cost: float, aversion: float, volatility: float, target_volatility: float) -> float:
    """Half-width of a band about a moving target that costs least, as a share of the target.

    (3 cost / (2 aversion) w² [(ν / σ)² + (1 - w)²]) ** (1/3), with `cost` one way, `volatility` σ of the price a day,
    and `target_volatility` ν, the standard deviation of the log target a day.

    >>> [round(ideal_half_width(weight, 0.0002, 5.0, 0.01, 0.05), 6) for weight in (1.0, 0.5)]
    [0.114471, 0.072352]
    """
    moves = (target_volatility / volatility) ** 2 + (1 - weight) ** 2
    return float((1.5 * cost / aversion * weight**2 * moves) ** (1 / 3))


# ── 4. units ──────────────────────────────────────────────────────────────────────────────────────


def _units_of(
    view: BookView,
    settings: BookSettings,
    equity: float,
    target: FloatArray,
    wanted: FloatArray,
    caps: _Caps,
    gates: _Gates,
) -> tuple[FloatArray, ...]:
    """(names,) weights wanted after trades -> units: within volume and caps, in lots, without small tickets, paid for.

    The target is what caps are kept by, where what is wanted within the bands exceeds them. After the units the weights
    that were wanted, and those within volume, within caps, in lots and without small tickets: the `STAGES` from "band"
    on.
    """
    unit, least = view.unit(equity), settings.minimum_ticket / equity
    held = _weights(view.held, unit)
    room = settings.participation * (0.5 if view.stress else 1.0) * view.volume / equity
    room = np.where(view.tradable, np.where(np.isnan(room), np.inf, room), 0.0)
    reached = np.clip(wanted, held - room, held + room)
    gates.set((np.abs(reached - wanted) > SLACK) & view.tradable, "participation", "volume")
    fixed = np.sign(held) * np.maximum(np.abs(held) - room, 0.0)  # what cannot be sold in one session
    goal = caps.cut(np.clip(target, held - room, held + room), fixed)
    weights = caps.toward(goal, reached, gates)

    def whole(weights: FloatArray) -> FloatArray:
        same = (np.abs(weights - held) <= SLACK) & (weights != 0)
        units = np.where(weights == 0, 0.0, weights / unit)
        return np.where(same, view.held, _whole(units, view.held, view.lot, room / unit))

    units = whole(caps.net_again(_weights(whole(weights), unit), fixed))
    less = (units == view.held) & (np.abs(weights - held) > SLACK)
    gates.set(less, "lot", "lots")
    thin = less & (np.abs(reached - wanted) > SLACK) & (np.abs(wanted - held) >= view.lot * unit)
    gates.set(thin & view.tradable, "participation", "lots")  # a lot was wanted: the volume left less
    in_lots = _weights(units, unit)
    units = _without_small(units, view.held, unit, least, caps, gates, "ticket")
    without_small = _weights(units, unit)
    units = whole(caps.within_cash(without_small, held, gates))
    units = _without_small(units, view.held, unit, least, caps, gates, "cash")
    return units, wanted, reached, weights, in_lots, without_small


def _weights(units: FloatArray, unit: FloatArray) -> FloatArray:
    """(names,) units in shares of equity; a name that is not held needs no price."""
    return np.asarray(np.where(units == 0, 0.0, units * unit), np.float64)


def _whole(wanted: FloatArray, held: FloatArray, lot: FloatArray, room: FloatArray) -> FloatArray:
    """(names,) units wanted and held -> units after trades in lots, rounded toward a holding of 0.

    A lot of 0 is any part of a unit. A sale is rounded up, unless `room`, the units that can be traded, is less; all
    that is held can always be sold.

    >>> ones = np.ones(4)
    >>> _whole(np.array([2.7, -2.7, 10.7, 8.2]), np.array([0.0, 0.0, 10.5, 10.0]), ones, 9 * ones).tolist()
    [2.0, -2.0, 10.5, 8.0]
    """
    step, same = np.where(lot > 0, lot, 1.0), wanted * held >= 0
    change = np.abs(wanted) - np.where(same, np.abs(held), 0.0)
    more, less = np.floor(change / step + SLACK), np.ceil(-change / step - SLACK)
    less = np.where(less * step > np.maximum(room, -change) * (1 + SLACK), less - 1, less)
    size = np.where(change >= 0, more * step, -less * step) + np.where(same, np.abs(held), 0.0)
    side = np.where(wanted != 0, np.sign(wanted), np.sign(held))
    rounded = side * np.maximum(size, 0.0)
    return np.asarray(np.where((lot > 0) & (wanted != 0), rounded, wanted), np.float64)


def _without_small(
    units: FloatArray, held: FloatArray, unit: FloatArray, least: float, caps: _Caps, gates: _Gates, stage: str
) -> FloatArray:
    """(names,) units without trades below the least value, but for those that close a position or keep a cap."""
    small = (units != held) & (units != 0) & (np.abs(_weights(units - held, unit)) < least)
    if not small.any():
        return units
    for dropped in (small, small & (np.abs(units) > np.abs(held))):
        result = np.where(dropped, held, units)
        if caps.hold(_weights(result, unit)):
            gates.set(dropped, "ticket", stage)
            return result
    return units


def _no_lot(names: Sequence[str], target: FloatArray, units: FloatArray, lot: FloatArray) -> list[Finding]:
    """A finding for each name whose target is less than a lot, so that nothing is held; `lot` in shares of equity."""
    none = (target != 0) & (units == 0) & (np.abs(target) < lot)
    return [
        no_lot(names[place], float(lot[place]), float(target[place])) for place in np.flatnonzero(none).tolist()
    ]  # fmt: skip


def no_lot(name: str, lot: float, target: float) -> Finding:
    """That a target is less than a lot; both in shares of equity."""
    said = f"{name}: one lot is {lot:.2%} of the equity, more than the target of {target:.2%}: nothing is held"
    return Finding("lot", said)


def over_a_cap() -> Finding:
    """That a cap is exceeded after the trades."""
    return Finding("cap", "a cap is exceeded by what cannot be sold in this session")


# ── 5. the drawdown stop ──────────────────────────────────────────────────────────────────────────


def stop_probability(sharpe: float, volatility: float, limit: float, years: float) -> float:
    """How likely a drawdown stop fires at least once, by simulation of independent days.

    `sharpe` and `volatility` are of a year, `limit` the loss from the highest equity. Simulated with 6,000
    paths, in pairs of opposite days, so that the standard error is about .005; the same numbers give the same answer.
    """
    count, random = max(round(years * SESSIONS_A_YEAR), 1), np.random.default_rng(0)
    mean, deviation = sharpe * volatility / SESSIONS_A_YEAR, volatility / math.sqrt(SESSIONS_A_YEAR)
    equity, peak, fired = np.ones(PATHS), np.ones(PATHS), np.zeros(PATHS, bool)
    for _ in range(count):
        half = random.standard_normal(PATHS // 2)
        equity = equity * (1 + mean + deviation * np.concatenate([half, -half]))
        peak = np.maximum(peak, equity)
        fired |= equity <= peak * (1 - limit)
    return float(fired.mean())
