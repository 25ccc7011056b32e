"""A line of the book and its sessions -> the findings of both, see `evaluation.findings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.evaluation.findings import (
    Fills,
    Finding,
    concentrated,
    correlation_spike,
    gone,
    of_sizing,
    one_crisis,
    short_of_target,
    stale_fills,
    too_coarse,
    too_costly,
    too_thin,
    too_wide,
    unforecast,
)
from gatecast.trading.book import Book, Line, Sessions
from gatecast.trading.cuts import cut_by
from gatecast.trading.risk import mean_of

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
DAYS_A_YEAR = 365.25


def findings_of_line(
    line: Line, sessions: Sessions, deviations: FloatArray, settings: Book, ended: Mapping[str, str],
    today: Mapping[str, Any], caps: Mapping[str, int] | None = None,
) -> list[Finding]:  # fmt: skip
    """What is to be said of a line of the book, in no order.

    `deviations`: (sessions, names) by which it was sized. `ended`: symbol -> how it ended, in words. `today`: see
    `trading.exposure.risk_today`. `caps`: gate -> closes at which it kept the book below its target.
    """
    begin, frame = len(sessions.days) - len(line.frame), line.frame
    held = dict(zip(sessions.names, line.held[-1].tolist(), strict=True))
    cost = float((frame.select("commission", "spread", "impact").sum_horizontal() / frame["before"]).sum())
    years = float((line.days[-1] - line.days[0]) / np.timedelta64(1, "D")) / DAYS_A_YEAR
    excess, target = line.excess, settings.size.target_volatility
    market = line.core_return if np.any(line.core_return) else mean_of(sessions.returns[begin:])
    shares = {row["symbol"]: row["share"] for row in today.get("symbols") or []}
    named = {cut_by(gate): closes for gate, closes in (caps or {}).items()}
    return [
        *too_coarse(line.holdings),
        *too_thin(line.holdings, traded_a_session(sessions)),
        *too_wide(line.holdings),
        *gone(held, ended, today.get("silent") or {}),
        *one_crisis(excess, market, line.days),
        *too_costly(float(excess.sum()) + cost, cost, years, len(frame)),
        *stale_fills(fills_of(line.holdings, sessions)),
        *concentrated(shares),
        *short_of_target(frame["reached"].to_numpy(), frame["volatility"].to_numpy(), target, named),
        *correlation_spike(float(frame["spiked"].to_numpy()[-1]), target),
        *of_sizing(line.findings, len(frame)),
        *_unforecast(line, sessions, deviations, settings, begin),
    ]


def traded_a_session(sessions: Sessions) -> dict[str, tuple[float, float]]:
    """Symbol -> units, and money of the book, traded a session: medians of the sessions with a volume.

    Symbols alone whose class counts units.
    """
    money = sessions.grid.volume
    there = np.isfinite(money) & (money > 0)
    return {
        name: (
            float(np.median((money / sessions.grid.close)[own, place])),
            float(np.median((money * sessions.rate)[own, place])),
        )
        for place, (name, own) in enumerate(zip(sessions.names, there.T, strict=True)) if own.any()
    }  # fmt: skip


def fills_of(holdings: pl.DataFrame, sessions: Sessions) -> Fills:
    """The trades that a line ordered, filled at the next session; what waits is told by the bar that it waits for.

    A fill is stale where its price, and the close of its session, are those of the close before, or the symbol had no
    volume.
    """
    grid, days = sessions.grid, {day: place for place, day in enumerate(sessions.days)}
    ordered = holdings.filter(pl.col("trade") != 0)
    day = np.array([days[one] for one in ordered["session"]], np.int64)
    name = np.array([sessions.place[one] for one in ordered["symbol"]], np.int64)
    here = day + 1 < len(sessions.days)
    day, name = day[here], name[here]
    before, fill, close = grid.close[day, name], grid.fill[day + 1, name], grid.close[day + 1, name]
    stale = ((fill == before) & (close == before)) | (grid.volume[day + 1, name] == 0)
    filled = np.isfinite(fill)
    value = np.abs(ordered["trade"].to_numpy()[here]) * fill * sessions.rate[day + 1, name]
    symbols = [sessions.names[place] for place in name[filled].tolist()]
    return Fills(symbols, np.nan_to_num(value[filled]), stale[filled])


def _unforecast(
    line: Line, sessions: Sessions, deviations: FloatArray, settings: Book, begin: int
) -> list[Finding]:  # fmt: skip
    if settings.core.kind != "equal_risk":
        holds = np.array([bool((settings.core.weights or {}).get(name)) for name in sessions.names])
    else:
        holds = settings.core.may_hold(sessions.names, sessions.classes, sessions.converts)
    wanted = sessions.known & sessions.listed & sessions.inside & holds
    core = np.zeros(wanted.shape)
    rows = line.holdings.filter(pl.col("share") != 0)
    days = {day: place for place, day in enumerate(sessions.days)}
    core[[days[one] for one in rows["session"]], [sessions.place[one] for one in rows["symbol"]]] = rows["share"]
    return unforecast(sessions.names, wanted[begin:], deviations[begin:], core[begin:])
