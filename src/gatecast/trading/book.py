"""The book: forecasts of variance, a core and a tilt -> what is held session by session, and what it earned.

Every line of a comparison goes through the same loop: the same core, caps, band, lots, fills and costs. Lines differ in
the forecasts of variance alone, which say how large the core is; and one has a tilt, what strategies add to it.

    decided at a session's close      filled at the next session's open or close      valued at its close
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.compute.parallel import fan_out
from gatecast.errors import BarsError
from gatecast.forecasting.panel import ENSEMBLE, SIZED_BY
from gatecast.market.bars import session_date
from gatecast.market.calendar import sessions_of
from gatecast.samples.targets import DECAY
from gatecast.settings import Settings
from gatecast.trading.core import Core, CoreState
from gatecast.trading.costs import MoneySettings
from gatecast.trading.covariance import Correlations, book_variance, covariance_of, spiked
from gatecast.trading.money import Account, Booked, End, Event, Instruments, book_session, to_frame
from gatecast.trading.money import Session as MoneySession
from gatecast.trading.sizing import BookSettings, BookState, trades_of
from gatecast.trading.sizing import Session as SizingSession
from gatecast.trading.strategies import MARKET

if TYPE_CHECKING:
    from gatecast.market.facts import Facts
    from gatecast.trading.decisions import Decided

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CARRIED = 60
"""Sessions for which a forecast of variance stands while no newer one comes, as through a halt."""
LEAST_RETURNS = 22
"""Returns of a name before its past deviation is known."""
USUAL_SESSIONS, VOLUME_SESSIONS = 63, 21
"""Sessions of the mean of forecast deviations, and of the value traded."""


class Book(Settings):
    """What the book holds, how large it is, and what it pays."""

    core: Core = Core()
    """What is held whatever is forecast of returns."""
    size: BookSettings = BookSettings()
    """How large the book is, and what it may not exceed."""
    money: MoneySettings = MoneySettings()
    """What an account of units pays and earns."""


@dataclass(frozen=True)
class Sessions:
    """The bars of all classes by session. Arrays are (sessions, names), NaN where a name has no bar.

    Attributes
    ----------
    days: date of each session. ends: its latest close, UTC. names, classes: (names,) symbol and asset class.
    fill, close: price at which orders of the close before are filled, and the last price. at_open: whether that is the
    open. volume: money traded, of classes whose volumes are counted in units. returns: simple, from close to close; NaN
    where a listing begins.
    listed: whether the name has begun and its end is not known. events: session -> ends of symbols.
    per_year: (names,) sessions a year of the name's class. left_out: symbol -> why its money cannot be counted.
    instruments: of the names.
    """

    days: tuple[date, ...]
    ends: NDArray[np.datetime64]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    fill: FloatArray
    close: FloatArray
    at_open: BoolArray
    volume: FloatArray
    returns: FloatArray
    listed: BoolArray
    events: Mapping[int, tuple[Event, ...]]
    per_year: FloatArray
    left_out: Mapping[str, str]
    instruments: Instruments

    @cached_property
    def usual_volume(self) -> FloatArray:
        """(sessions, names) mean money traded in the last 21 sessions of a name; NaN where nobody knows."""
        return mean_of_last(np.where(self.volume > 0, self.volume, np.nan), VOLUME_SESSIONS)

    @cached_property
    def place(self) -> dict[str, int]:
        """Symbol -> its column."""
        return {name: place for place, name in enumerate(self.names)}


def sessions_by(facts: Facts, settings: Book) -> Sessions:
    """The bars of all classes, session by session, of the symbols whose money can be counted.

    A session with several bars of a symbol is filled in its first one and valued at the close of its last.
    """
    bars = facts.bars.with_columns(
        day=session_date(pl.col("time")), at_open=pl.Series(facts.fills), starts=pl.Series(facts.starts),
        ended=pl.Series(facts.ended), money=pl.col("close") * pl.col("volume"),
    )  # fmt: skip
    classes = dict(bars.group_by("symbol").agg(pl.col("asset_class").first()).sort("symbol").iter_rows())
    last_bars = dict(bars.group_by("symbol").agg(pl.col("day").max()).iter_rows())
    classes, left_out = _countable(classes, settings, last_bars)
    lots = {name: settings.size.lot_of(name, kind) for name, kind in classes.items()}
    instruments = Instruments.of(classes, settings.money, last_bars=last_bars, lots=lots)
    names, bars = tuple(classes), bars.filter(pl.col("symbol").is_in(list(classes)))
    days = bars.group_by("day").agg(pl.col("time").max()).sort("day")
    row, column = (
        {one: place for place, one in enumerate(values)} for values in (days["day"].to_list(), names)
    )  # fmt: skip
    each = bars.group_by("symbol", "day", maintain_order=True).agg(
        fill=pl.when(pl.col("at_open")).then("open").otherwise("close").first(), at_open=pl.col("at_open").first(),
        close=pl.col("close").last(), money=pl.col("money").sum(), starts=pl.col("starts").any(),
        ended=pl.col("ended").last(),
    )  # fmt: skip
    at = (
        each["day"].replace_strict(row, return_dtype=pl.Int64).to_numpy(),
        each["symbol"].replace_strict(column, return_dtype=pl.Int64).to_numpy(),
    )

    def table(name: str, nothing: float = np.nan) -> FloatArray:
        values = np.full((len(days), len(names)), nothing)
        values[at] = each[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return values

    close = table("close")
    starts = table("starts", 0.0) > 0
    begun = np.maximum.accumulate(np.isfinite(close), axis=0)
    events, gone = _events(facts, row, column, starts, instruments)
    returns = close / _before(_filled(close)) - 1
    returns[starts] = np.nan
    return Sessions(
        days=tuple(days["day"].to_list()), ends=days["time"].dt.replace_time_zone(None).to_numpy(), names=names,
        classes=tuple(classes.values()), fill=table("fill"), close=close, at_open=table("at_open", 0.0) > 0,
        volume=np.where(instruments.has_volume, table("money"), np.nan), returns=returns, listed=begun & ~gone,
        events=events,
        per_year=np.array([_sessions_a_year(facts, kind) for kind in classes.values()]), left_out=left_out,
        instruments=instruments,
    )  # fmt: skip


def _countable(
    classes: Mapping[str, str], settings: Book, last_bars: Mapping[str, date]
) -> tuple[dict[str, str], dict[str, str]]:
    """Symbol -> class of those whose money can be counted, and symbol -> why of the others."""
    kept, left_out = dict[str, str](), dict[str, str]()
    for name, kind in classes.items():
        try:
            Instruments.of({name: kind}, settings.money, last_bars=last_bars)
            kept[name] = kind
        except BarsError as error:
            left_out[name] = str(error)
    return kept, left_out


def _sessions_a_year(facts: Facts, kind: str) -> float:
    return sessions_of(facts.bars.filter(pl.col("asset_class") == kind))


def _events(
    facts: Facts, row: Mapping[date, int], column: Mapping[str, int], starts: BoolArray, instruments: Instruments
) -> tuple[dict[int, tuple[Event, ...]], BoolArray]:
    """Session -> ends of symbols, and (sessions, names) whether an end is known at the session's close.

    Another instrument under a name (a new listing) ends the old one on the class's terms.
    """
    days = np.array(list(row), dtype="datetime64[D]")
    found = dict[int, list[Event]]()
    gone = np.zeros((len(days), len(column)), np.bool_)
    for symbol, time, kind, value, back in facts.ends.select("symbol", "time", "kind", "value", "back").iter_rows():
        if symbol not in column:
            continue
        first = int(np.searchsorted(days, np.datetime64(session_of_time(time), "D")))
        if first >= len(days):
            continue
        found.setdefault(first, []).append(End(symbol, None if kind == "default" else float(value or 0.0)))
        until = len(days) if back is None else int(np.searchsorted(days, np.datetime64(back, "D")))
        gone[first:until, column[symbol]] = True
    for place, name in zip(*np.nonzero(starts), strict=True):
        symbol = instruments.symbols[name]
        if not gone[max(place - 1, 0), name]:
            found.setdefault(int(place), []).append(End(symbol, float(instruments.end_return[name])))
    return {place: tuple(events) for place, events in found.items()}, gone


def session_of_time(time: object) -> date:
    """The session of a close."""
    found: date = pl.select(session_date(pl.lit(time))).item()
    return found


def _before(values: FloatArray) -> FloatArray:
    """Each row's values a session earlier."""
    return np.vstack([np.full((1, values.shape[1]), np.nan), values[:-1]])


def _filled(values: FloatArray, most: int | None = None) -> FloatArray:
    """Values with the last that is known where there is none, at most so many sessions old."""
    known = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    last = np.maximum.accumulate(known, axis=0)
    found = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    age = np.arange(len(values))[:, None] - last
    lost = (last < 0) | (age > (len(values) if most is None else most))
    return np.asarray(np.where(lost, np.nan, found), np.float64)


def mean_of_last(values: FloatArray, count: int) -> FloatArray:
    """(sessions, names) mean of each name's known values in the last `count` sessions; NaN without any.

    >>> mean_of_last(np.array([[1.0], [np.nan], [3.0], [5.0]]), 2)[:, 0].tolist()
    [1.0, 1.0, 3.0, 4.0]
    """
    padded = np.vstack([np.full((count - 1, values.shape[1]), np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, count, axis=0)
    known = np.isfinite(windows)
    total, number = np.where(known, windows, 0.0).sum(axis=2), known.sum(axis=2)
    return np.asarray(np.divide(total, number, out=np.full(values.shape, np.nan), where=number > 0), np.float64)


def past_deviations(returns: FloatArray) -> FloatArray:
    """(sessions, names) root of the exponential mean of squared returns, decay .94; NaN before 22 of them.

    What returns are measured by in correlations where nothing was forecast yet.
    """
    square = pl.DataFrame(returns**2).fill_nan(None)
    mean = square.select(pl.all().ewm_mean(alpha=1 - DECAY, adjust=True, min_samples=LEAST_RETURNS, ignore_nulls=True))
    return np.asarray(np.sqrt(mean.fill_null(np.nan).to_numpy()), np.float64)


# ── forecasts, by session ─────────────────────────────────────────────────────────────────────────


def deviations_of(classes: Mapping[str, Decided], sessions: Sessions, model: str) -> FloatArray:
    """(sessions, names) standard deviation of a session's return that a model forecast at its close.

    The variance over the horizon, close to close, shared out over its bars; the newest forecast for up to 60 sessions.
    """
    table = np.full(sessions.close.shape, np.nan)
    for one in classes.values():
        heads = one.forecasts.values.get(model, {})
        if "volatility" not in heads:
            continue
        samples, rows = one.samples, one.forecasts.rows
        variance = heads["volatility"][rows] * samples.facts.ratio[samples.ends[rows]]
        per_session = variance / samples.horizon * samples.session_bars
        _lay(table, sessions, one, np.sqrt(per_session))
    return _filled(table, CARRIED)


def tilt_of(classes: Mapping[str, Decided], sessions: Sessions, market: str) -> tuple[FloatArray, FloatArray]:
    """(sessions, names) weights that strategies propose at each close, before evidence, and the evidence.

    The market held long is no tilt: where it is in force nothing is proposed.
    """
    weights, evidence = np.zeros(sessions.close.shape), np.zeros(sessions.close.shape)
    for one in classes.values():
        choice, at = one.selection, one.samples.decided[one.forecasts.rows]
        names = np.array(one.proposals.names, dtype=object)
        proposed = np.where(names[choice.chosen[at]] == market, 0.0, choice.proposed[at] * choice.left[at])
        _lay(weights, sessions, one, proposed)
        _lay(
            evidence,
            sessions,
            one,
            np.where(choice.too_good[at] & (choice.evidence[at] <= 0), 0.0, choice.evidence[at]),
        )
    return weights, evidence


def _lay(table: FloatArray, sessions: Sessions, one: Decided, values: FloatArray) -> None:
    """Puts values of a class's forecasts where their sessions and names are; of several a session the last."""
    at = one.samples.decided[one.forecasts.rows]
    days = np.array(sessions.days, dtype="datetime64[D]")
    own = np.array([sessions.place.get(name, -1) for name in one.samples.symbols])[one.samples.symbol[at]]
    day = session_date(one.samples.time[at]).astype("datetime64[D]")
    row = np.searchsorted(days, day)
    here = (own >= 0) & (row < len(days))
    here[here] &= days[row[here]] == day[here]
    table[row[here], own[here]] = values[here]


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────


def core_path(sessions: Sessions, settings: Core) -> FloatArray:
    """(sessions, names) weights of the core, decided at each close from the returns up to it; the same for every line.

    Raises `SettingsError` for a symbol or class that the settings name and the bars do not have.
    """
    settings.refuse_unknown((*sessions.names, *sessions.left_out), set(sessions.classes))
    state, weights = CoreState.start(sessions.names, sessions.classes, settings), []
    for day, returns, listed in zip(sessions.days, sessions.returns, sessions.listed, strict=True):
        state = state.after(day, returns, listed, settings)
        weights.append(state.weights)
    return np.array(weights)


@dataclass(frozen=True)
class Line:
    """What one set of variance forecasts held and earned, from the first session on. Arrays over its sessions.

    Attributes
    ----------
    frame: one row a session: day, equity, each kind of profit and cost in money (see `money.Booked`), net, excess (net
        less what cash earns), gross exposure after it, volatility of the target a year, target_reached.
    held: (sessions, names) shares of equity after the close's trades were decided. gates: session -> names' gates.
    core_variance: (sessions,) variance of the core's next session, by the line's own covariance. core_return:
        (sessions,) simple return of the core that was decided the close before. findings: kind of `sizing.Finding` ->
        number of closes, and the newest sentence.
    """

    frame: pl.DataFrame
    held: FloatArray
    gates: tuple[tuple[str, ...], ...]
    core_variance: FloatArray
    core_return: FloatArray
    findings: Mapping[str, tuple[int, str]]

    @property
    def net(self) -> FloatArray:
        """(sessions,) simple return, all costs paid."""
        return self.frame["net"].to_numpy()

    @property
    def excess(self) -> FloatArray:
        """(sessions,) simple return less what cash earns."""
        return self.frame["excess"].to_numpy()


def first_session(forecasts: Sequence[FloatArray], core: FloatArray) -> int:
    """The first session at whose close all lines have a forecast of something that the core holds; -1: none."""
    known = np.ones(core.shape, np.bool_)
    for one in forecasts:
        known &= np.isfinite(one)
    ready = (known & (core != 0)).any(axis=1)
    return int(np.argmax(ready)) if ready.any() else -1


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
) -> Line:
    """The account of one line from the close of session `begin` on, with cash alone before.

    `core`, `deviations`, `tilt`, `evidence`: (sessions, names), decided at each close. `rebalanced`: False: what is
    bought first is held.
    """
    names, instruments, size = sessions.names, sessions.instruments, settings.size
    usual = mean_of_last(deviations, USUAL_SESSIONS)
    scales = np.where(np.isfinite(deviations), deviations, past_deviations(sessions.returns))
    correlations = Correlations.start(names, sessions.classes)
    for place in range(1, begin + 1):
        correlations = correlations.after(sessions.returns[place], scales[place - 1])
    account, state = Account.opened(size.capital, len(names)), BookState.start(names)
    orders, covariance, weights = np.zeros(len(names)), None, np.zeros(len(names))
    nothing, price = np.zeros(len(names)), _filled(sessions.close)
    booked, rows, held, gates = list[Booked](), list[dict[str, float | bool]](), list[FloatArray](), []
    variances, earned, findings = [], [], dict[str, tuple[int, str]]()
    for place in range(begin, len(sessions.days)):
        session = money_session(sessions, place, deviations, usual)
        before = account
        account, done = book_session(account, session, orders, instruments, settings.money)
        net = done.equity / done.before - 1 if done.before > 0 else 0.0
        if place > begin:
            correlations = correlations.after(sessions.returns[place], scales[place - 1])
            if covariance is not None and done.before > 0:
                filled = (
                    np.where(account.units == 0, 0.0, account.units * before.price)
                    * instruments.multiplier
                    / done.before
                )
                trades = np.isfinite(sessions.returns[place])
                earned_net = net - done.interest / done.before
                state = state.after_return(earned_net, book_variance(filled, covariance, trades))
        equity = account.equity(instruments)
        state = state.after_equity(equity, size)
        which = np.flatnonzero(deviations[place] > 0)
        ahead = deviations[place]
        correlation = np.full((len(names), len(names)), np.nan)
        own = correlations.correlation(which)
        correlation[np.ix_(which, which)] = own
        covariance = covariance_of(correlation, ahead)
        year = covariance_of(correlation, ahead * np.sqrt(sessions.per_year))
        wide = None
        if size.spike_sizes or place == len(sessions.days) - 1:  # else nobody reads it
            wide = np.full_like(correlation, np.nan)
            wide[np.ix_(which, which)] = spiked(own, [sessions.classes[one] for one in which])
        tradable = sessions.listed[place] & np.isfinite(sessions.close[place])
        wanted = np.where(ahead > 0, core[place], 0.0)
        if rebalanced or place == begin:
            sized = trades_of(
                SizingSession(
                    names=names, classes=sessions.classes, core=wanted,
                    tilt=nothing if tilt is None else np.where(ahead > 0, tilt[place], 0.0),
                    evidence=nothing if evidence is None else evidence[place], covariance=year, equity=equity,
                    held=account.units, price=price[place] * instruments.multiplier, lot=instruments.lot,
                    volume=sessions.usual_volume[place], margin=nothing, paid=instruments.funded,
                    cost=instruments.commission + instruments.half_spread, tradable=tradable,
                    closing=~sessions.listed[place],
                    spiked=None if wide is None else covariance_of(wide, ahead * np.sqrt(sessions.per_year)),
                ),
                state, size,
            )  # fmt: skip
            state, orders, weights = sized.state, sized.trades, sized.weights
            volatility, reached, gate = sized.volatility, sized.target_reached, sized.gate
            for kind, sentence in dict(sized.findings).items():
                findings[kind] = (findings.get(kind, (0, ""))[0] + 1, sentence)
        else:
            orders, weights = nothing, account.exposure(instruments) / max(equity, 1e-12)
        booked.append(done)
        rows.append({"net": net, "gross": float(np.abs(weights).sum()), "volatility": volatility, "reached": reached})
        held.append(weights)
        gates.append(gate)
        variances.append(book_variance(wanted, covariance) or np.nan)
        past = core[place - 1] if place else nothing
        earned.append(float(np.nansum(past * np.nan_to_num(sessions.returns[place]))))
    frame = pl.concat([to_frame(booked), pl.DataFrame(rows)], how="horizontal")
    cash = np.array([cash_return(one, settings.money, previous) for previous, one in _steps(sessions.days[begin:])])
    frame = frame.with_columns(excess=pl.col("net") - pl.Series(cash))
    return Line(frame, np.array(held), tuple(gates), np.array(variances), np.array(earned), findings)


def _steps(days: Sequence[date]) -> list[tuple[date, date]]:
    """Each session with the one before it, the first with itself."""
    return list(zip([days[0], *days[:-1]], days, strict=True))


def cash_return(day: date, settings: MoneySettings, before: date) -> float:
    """What cash earns from one session to another, the benchmark rate."""
    return settings.benchmark_rate * (day - before).days / 360


def money_session(sessions: Sessions, place: int, deviations: FloatArray, usual: FloatArray) -> MoneySession:
    """What a session brings to an account; deviations are those forecast at the close before."""
    last = max(place - 1, 0)
    return MoneySession(
        day=sessions.days[place], fill=sessions.fill[place], close=sessions.close[place],
        at_open=sessions.at_open[place], deviation=deviations[last], usual_deviation=usual[last],
        volume=sessions.volume[place], usual_volume=sessions.usual_volume[last], events=sessions.events.get(place, ()),
    )  # fmt: skip


# ── lines of a comparison ─────────────────────────────────────────────────────────────────────────

TILTED, BOUGHT, CASH = "tilted", "bought_and_held", "cash"
"""Lines beside those of `SIZED_BY`: with what strategies add, without any trade after the first, and nothing held."""


@dataclass(frozen=True)
class Work:
    """What one line is made of, see `run_line`."""

    sessions: Sessions
    core: FloatArray
    deviations: FloatArray
    settings: Book
    begin: int
    tilt: tuple[FloatArray, FloatArray] | None = None
    rebalanced: bool = True

    def run(self) -> Line:
        """The line."""
        weights, evidence = self.tilt or (None, None)
        return run_line(
            self.sessions, self.core, self.deviations, self.settings, begin=self.begin, tilt=weights,
            evidence=evidence, rebalanced=self.rebalanced,
        )  # fmt: skip


def lines_of(classes: Mapping[str, Decided], sessions: Sessions, settings: Book, *, jobs: int = 1) -> dict[str, Line]:
    """Line -> what it held and earned, all from the same session on; none where nothing was ever forecast of the core.

    `tilted` is there where strategies had any evidence.
    """
    core = core_path(sessions, settings.core)
    forecasts = {name: deviations_of(classes, sessions, name) for name in SIZED_BY}
    forecasts = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
    begin = first_session(list(forecasts.values()), core) if ENSEMBLE in forecasts else -1
    if begin < 0:
        return {}
    work = {name: Work(sessions, core, one, settings, begin) for name, one in forecasts.items()}
    own = work[ENSEMBLE]
    tilt = tilt_of(classes, sessions, MARKET)
    if (tilt[0] * tilt[1])[begin:].any():
        work[TILTED] = replace(own, tilt=tilt)
    work[BOUGHT] = replace(own, rebalanced=False)
    made = fan_out(Work.run, work.values(), jobs=jobs, processes=jobs > 1)
    return dict(zip(work, made, strict=True))
