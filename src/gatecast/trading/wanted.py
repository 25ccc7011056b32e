"""What is wanted at the close of each session: forecasts of variance, the core, and what strategies propose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gatecast.errors import SettingsError
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.market.bars import session_date
from gatecast.trading.by_session import Sessions
from gatecast.trading.core import Core, CoreState
from gatecast.trading.grid import (
    forward_filled,
)
from gatecast.trading.line import Squares
from gatecast.trading.strategies import MARKET

if TYPE_CHECKING:
    from gatecast.trading.decisions import Decided


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
CARRIED = 60
"""Sessions for which a forecast of variance stands while no newer one comes, as through a halt."""
WAITED = 7
"""Days for which a line waits for a class that its core wants and that has no forecast yet."""


def _carried(values: FloatArray, most: int) -> FloatArray:
    """Values with the newest that is known where there is none, at most so many sessions old."""
    known = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    age = np.arange(len(values))[:, None] - np.maximum.accumulate(known, axis=0)
    return np.asarray(np.where(age > most, np.nan, forward_filled(values)), np.float64)


def past_deviations(returns: FloatArray) -> FloatArray:
    """(sessions, names) root of the exponential mean of squared returns, see `line.Squares`.

    What returns are measured by in correlations where nothing was forecast yet.
    """
    squares, found = Squares.start(returns.shape[1]), np.full(returns.shape, np.nan)
    for place, one in enumerate(returns):
        squares = squares.after(one)
        found[place] = squares.deviation
    return found


def deviations_of(classes: Mapping[str, Decided], sessions: Sessions, model: str) -> FloatArray:
    """(sessions, names) standard deviation of a session's return that a model forecast at its close.

    The variance over the horizon, close to close, shared out over its bars; the newest forecast for up to 60 sessions.
    """
    table = np.full(sessions.grid.close.shape, np.nan)
    for one in classes.values():
        heads = one.forecasts.values.get(model, {})
        if "volatility" not in heads:
            continue
        samples, rows = one.samples, one.forecasts.rows
        variance = heads["volatility"][rows] * samples.facts.ratio[samples.ends[rows]]
        per_session = variance / samples.horizon * samples.session_bars
        _lay(table, sessions, one, np.sqrt(per_session))
    return _carried(np.where(np.isfinite(sessions.grid.close), table, np.nan), CARRIED)


def tilt_of(
    classes: Mapping[str, Decided], sessions: Sessions, market: str, late: int = 0
) -> tuple[FloatArray, FloatArray]:
    """(sessions, names) weights that strategies propose at each close, before evidence, and the evidence.

    The market held long is no tilt: where it is in force nothing is proposed. `late`: bars by which both are late.
    """
    weights, evidence = np.zeros(sessions.grid.close.shape), np.zeros(sessions.grid.close.shape)
    for one in classes.values():
        choice, at = one.selection, one.samples.decided[one.forecasts.rows]
        names = np.array(one.proposals.names, dtype=object)
        proposed = np.where(names[choice.chosen[at]] == market, 0.0, choice.proposed[at] * choice.left[at])
        factor = np.where(choice.too_good[at] & (choice.evidence[at] <= 0), 0.0, choice.evidence[at])
        symbol = one.samples.symbol[at]
        _lay(weights, sessions, one, _delayed(proposed, symbol, late))
        _lay(evidence, sessions, one, _delayed(factor, symbol, late))
    return weights, evidence


def tilted_at(classes: Mapping[str, Decided], sessions: Sessions, late: int = 0) -> BoolArray:
    """(sessions,) whether strategies add anything to the core at the close; `late`: see `tilt_of`."""
    weights, evidence = tilt_of(classes, sessions, MARKET, late)
    return np.asarray((weights * evidence != 0).any(axis=1), np.bool_)


def _delayed(values: FloatArray, symbol: NDArray[np.int32], late: int) -> FloatArray:
    """Values of rows in order of symbol and time, each so many rows of its symbol late; 0 before its first."""
    if late == 0:
        return values
    moved = np.zeros(len(values))
    same = symbol[late:] == symbol[:-late]
    moved[late:][same] = values[:-late][same]
    return moved


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


def refuse_core(sessions: Sessions, settings: Core) -> None:
    """Raises `SettingsError` for weights in a file that was not read, and for symbols that the bars do not have."""
    if settings.file is not None:
        raise SettingsError(f"the core's weights in {settings.file} were not read: use Core.with_file_read() first.")
    if settings.kind != "none":
        settings.refuse_unknown((*sessions.names, *sessions.left_out), set(sessions.classes))


def core_path(sessions: Sessions, settings: Core) -> FloatArray:
    """(sessions, names) weights of the core, decided at each close from the returns up to it; the same for every line.

    Raises `SettingsError` for a symbol or class that the settings name and the bars do not have.
    """
    refuse_core(sessions, settings)
    if settings.kind == "none":
        return np.zeros(sessions.grid.close.shape)
    state, weights = CoreState.start(sessions.names, sessions.classes, settings), []
    listed = sessions.listed & sessions.inside
    for place, day in enumerate(sessions.days):
        state = state.after(day, sessions.returns[place], listed[place], settings, sessions.converts[place])
        weights.append(state.weights)
    return np.array(weights, np.float64).reshape(sessions.grid.close.shape)


def first_session(forecasts: Sequence[FloatArray], wanted: FloatArray, sessions: Sessions | None = None) -> int:
    """The first session at whose close all lines have a forecast of something that is wanted; -1: none.

    `sessions`: a class that is wanted and has no forecast yet, as shares on a weekend of coins, is waited for a week.
    """
    known = np.ones(wanted.shape, np.bool_)
    for one in forecasts:
        known &= np.isfinite(one)
    ready = (known & (wanted != 0)).any(axis=1)
    if not ready.any():
        return -1
    first = int(np.argmax(ready))
    if sessions is None:
        return first
    days = np.array(sessions.days, "datetime64[D]")
    whole = np.ones(len(ready), np.bool_)
    for kind in set(sessions.classes):
        own = np.array([one == kind for one in sessions.classes])
        whole &= (known & (wanted != 0))[:, own].any(axis=1) | ~(wanted != 0)[:, own].any(axis=1)
    begins = ready & (whole | (days >= days[first] + WAITED))
    return int(np.argmax(begins)) if begins.any() else -1


def first_of(
    forecasts: Mapping[str, FloatArray], core: FloatArray, tilt: tuple[FloatArray, FloatArray], sessions: Sessions
) -> int:
    """The first session at whose close all lines have a forecast of what is wanted; -1: none, or none of gatecast."""
    told = {name: one for name, one in forecasts.items() if np.isfinite(one).any()}
    wanted = np.abs(core) + np.abs(tilt[0] * tilt[1])
    return first_session(list(told.values()), wanted, sessions) if ENSEMBLE in told else -1
