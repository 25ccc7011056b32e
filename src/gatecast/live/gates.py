"""Which gate decided what is held of a symbol: the first that closes, or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.forecasting.schedule import back
from gatecast.live.newest import NOT_FINITE, OLD_MODEL
from gatecast.market.bars import session_date
from gatecast.market.calendar import deadlines, fill_times
from gatecast.market.merging import DataProblem, Kind, names_of
from gatecast.market.universe import is_inside
from gatecast.samples.arrays import to_times
from gatecast.samples.windows import stands_still
from gatecast.trading.cuts import of_earlier_version
from gatecast.trading.strategies import FLAT

if TYPE_CHECKING:
    from gatecast.chain import Chain
    from gatecast.forecasting.schedule import Schedule
    from gatecast.runs import Run
    from gatecast.samples.windows import Samples

OPEN = "open"
"""No gate closed: there is a position."""
OUTSIDE: Kind = "outside"
"""A gate, and the kind of the problem of a symbol outside of its universe."""
STILL: Kind = "no variance"
"""A gate, and the kind of the problem of a price that did not move within the window."""
DOUBTFUL_BAR: Kind = "doubtful bar"
"""Kind of the problem of a bar that waits until somebody says what it is, and the gate."""
GATES = {
    "ended": "the symbol has ended",
    DOUBTFUL_BAR: "its newest bar looks like a split or another unit: nothing is decided until that is resolved",
    "no bar": "there is no bar of the newest session",
    "no trade": "nothing was traded in the newest session",
    "stale": "the newest bar is too old",
    OLD_MODEL: "the model was not refitted for three periods of the schedule: nothing is forecast with it any more",
    "late": "the newest bar came after its fill: nobody could have traded on it; "
    "an update soon after the close decides in time",
    OUTSIDE: "it is outside of its universe: nothing is forecast or held",
    STILL: "the price did not move within the window: there is nothing to forecast",
    "no forecast": "the window has a gap, or is too short: no forecast rather than a wrong one",
    "not finite": "a forecast is no possible number",
    "doubtful": "the record is too good to be true, or a leak was found: no position is taken until the cause is found",
    "late claim": "the claim is gone with decisions one bar late: no position",
    "too good": "the class's record is better than an honest market allows",
    "flat": "no strategy's estimated return exceeds the cost of entering it",
    "evidence": "there is no evidence of skill yet: the evidence factor is 0",
    "signal": "the strategy in force has no position now",
    OPEN: "there is a position",
}
"""Gate -> why it closes, in the order in which they are asked."""
WITHOUT_FORECAST = tuple(GATES)[: tuple(GATES).index("doubtful")]
"""Gates that close where there is no forecast of the newest close."""
MISSING = ("no forecast", "not finite", "stale", OLD_MODEL)
"""Gates at which a forecast that should be there is not."""
PASSED = timedelta(hours=1)
"""From so long after an open on it is said that an order is booked at a price that has passed."""
SERVED_PERIODS = 3
"""Periods of the schedule after its last refit in which a model is served."""
NOT_FORECAST = (
    "probability_up", "base_rate_up", "probability_beyond_base_rate", "expected_return_log", "half_variance",
    "expected_return_simple", "beyond_base_rate", "volatility", "standard_deviation", "regime_probability", "path",
    "sigma_path", "intervals", "signal", "z", "consensus", "signal_return_log",
)  # fmt: skip
"""Columns of `newest_rows` that are a forecast, or made of one."""


def say_gate(gate: str | None) -> str:
    """Why a stored gate closed, in words; "" for none.

    A gate that another version stored and this one does not have is never told as another one.

    >>> say_gate("flat"), say_gate("fee"), say_gate("")
    ("no strategy's estimated return exceeds the cost of entering it", "a gate of an earlier version ('fee')", '')
    """
    return GATES.get(gate) or of_earlier_version(gate) if gate else ""


def late_in_words(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of decisions: a sentence on the symbols whose newest bar came after its fill, for each hour at which they close.

    >>> from datetime import datetime
    >>> rows = [{"symbol": name, "gate": "late", "time": datetime(2024, 1, 2)} for name in "BA"]
    >>> late_in_words([*rows, {"symbol": "C", "gate": "open"}])[0][:58]
    "'A', 'B': no decision, the newest bar came after its fill."
    """
    found = dict[str, list[str]]()
    for row in rows:
        if row["gate"] == "late":
            close = row["time"] or row["class_newest_bar"]  # a symbol that was never forecast has no time
            found.setdefault(decided_soon_after(close), []).append(row["symbol"])
    return [
        f"{names_of(sorted(symbols))}: no decision, the newest bar came after its fill. {when}"
        for when, symbols in sorted(found.items())
    ]


def decided_soon_after(close: datetime) -> str:
    """When an update decides on a symbol whose newest bar came too late, of the close of that bar.

    >>> from datetime import datetime
    >>> decided_soon_after(datetime(2024, 1, 2))
    'It closes at 00:00 UTC: an update soon after that decides on it.'
    """
    return f"It closes at {close:%H:%M} UTC: an update soon after that decides on it."


def old_models(
    cutoffs: Mapping[str, str | datetime], schedule: Schedule, bars: pl.DataFrame
) -> dict[str, datetime]:  # fmt: skip
    """Asset class -> its last refit, of the classes whose newest close is too long after it for the model to be served.

    In: asset class -> its last refit (ISO, UTC), the schedule, a Bars frame. The age is counted to the class's newest
    close, in sessions' dates or, where the schedule counts bars, in closes.

    >>> from gatecast.forecasting.schedule import Schedule
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.b1(100, seed=1, r2=0.05, symbols=1)
    >>> list(old_models({"index": "2000-01-03T21:00"}, Schedule(refit="1M"), bars))
    ['index']
    >>> list(old_models({"index": "2000-02-22T21:00"}, Schedule(refit="1M"), bars))
    []
    """
    found = {}
    for name, text in cutoffs.items():
        cutoff = np.datetime64(str(text), "us")
        own = bars.filter(pl.col("asset_class") == name)["time"].dt.replace_time_zone(None)
        if own.is_empty():
            continue
        if isinstance(schedule.refit, int):
            is_old = own.filter(own > cutoff.item()).n_unique() > SERVED_PERIODS * schedule.refit
        else:
            last, newest = session_date(np.array([cutoff, own.max()], "datetime64[us]"))
            length = f"{SERVED_PERIODS * int(schedule.refit[:-1])}{schedule.refit[-1]}"
            is_old = bool(back(newest, length) > last)
        if is_old:
            found[name] = cutoff.item()
    return found


def say_old(old: Mapping[str, datetime], symbols: Mapping[str, str]) -> list[DataProblem]:
    """Classes of `old_models` -> a problem each; `symbols`: symbol -> asset class."""
    return [
        DataProblem(
            OLD_MODEL, tuple(sorted(symbol for symbol, own in symbols.items() if own == name)),
            f"{name}: the model was last refitted at {cutoff:%Y-%m-%d}, more than {SERVED_PERIODS} periods of the "
            "schedule ago: nothing is forecast with it. `gatecast retrain` makes a new one.",
        )
        for name, cutoff in old.items()
    ]  # fmt: skip


def without_forecasts(
    rows: Sequence[Mapping[str, Any]], old: Collection[str], late: Collection[str]
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of `newest_rows` -> the same without forecasts, and with nothing held, where there is none of today's bar.

    `old`: the asset classes of `old_models`; `late`: the symbols of `late_symbols`. `time` stays: the close at which
    the symbol was last forecast.
    """
    found = []
    for row in rows:
        late_now = row["symbol"] in late and row["today"] == "bar"
        if row["current"] and not late_now and row["asset_class"] not in old:
            found.append(dict(row))
            continue
        nothing = {name: None for name in NOT_FORECAST if name in row} | {
            name: 0.0 for name in ("weight", "book") if row.get(name) is not None
        }
        found.append({**row, **nothing, "current": False, "late": late_now})
    return found


def late_symbols(bars: pl.DataFrame) -> set[str]:
    """Symbols whose newest bar became known after the decision at its close could have been issued."""
    placed = bars.with_columns(deadline=deadlines(bars))
    newest = placed.group_by("symbol").agg(pl.col("known_at", "deadline").sort_by("time").last())
    return set(newest.filter(pl.col("known_at") > pl.col("deadline"))["symbol"])


def opens_passed(bars: pl.DataFrame, symbols: Collection[str], now: datetime) -> list[str]:
    """A sentence on those of the symbols, ordered now, that are booked at an open of an hour or more ago.

    So it is where trading goes on at the close: coins and pairs. Not where others close later in the session, as coins
    beside a pair: its order is for its next close.
    """
    newest = bars.with_columns(_fill=fill_times(bars), _end=pl.col("time").max().over(session_date(pl.col("time"))))
    newest = newest.group_by("symbol").agg(pl.col("time", "_fill", "_end").last())
    on = newest.filter(pl.col("_fill") == pl.col("time"), pl.col("_fill") >= pl.col("_end"))
    on = on.filter(pl.col("time") <= pl.lit(now - PASSED))
    passed = sorted({*on["symbol"]} & {*symbols})
    if not passed:
        return []
    return [
        f"{names_of(passed)}: ordered {PASSED.seconds // 3600} h or more after the close, and booked at the open that "
        "followed it, which no account can have any more. Update soon after the close."
    ]


def say_no_window(
    chain: Chain, awaited: pl.DataFrame, late: Collection[str]
) -> list[DataProblem]:  # fmt: skip
    """A problem for each symbol of a chain whose newest bar has no whole window, and why; those of which more is said
    are left out: `awaited` (symbol, time), `late` (symbols), and what has ended."""
    told = {*awaited["symbol"], *late, *chain.facts.symbols_ended}
    found = []
    for name, one in chain.classes.items():
        samples = one.samples
        last = np.flatnonzero(np.diff(samples.symbol, append=-1))
        bars = chain.bars.filter(pl.col("asset_class") == name).sort("symbol", "time")
        for row in last[~np.isin(last, samples.decided)].tolist():
            symbol = samples.symbols[samples.symbol[row]]
            if symbol not in told:
                kind, why = _why_no_window(samples, row, bars)
                found.append(DataProblem(kind, (symbol,), f"{symbol!r}: {why}: nothing is forecast."))
    return found


def _why_no_window(samples: Samples, row: int, bars: pl.DataFrame) -> tuple[Kind, str]:
    """What the window that ends at a bar-level row lacks; `bars`: those of its class."""
    if not is_inside(bars)[row]:
        return OUTSIDE, f"it is outside of its universe at {_minute(samples.time[row])}"
    if stands_still(bars, samples.lookback)[row]:
        return STILL, f"the price did not move within the {samples.lookback} bars of its window (no variance)"
    same = (samples.symbol == samples.symbol[row]) & (samples.segment == samples.segment[row])
    begin = int(np.flatnonzero(same)[0])
    inside = slice(max(begin, row - samples.context + 1), row + 1)
    rows, columns = np.nonzero(~np.isfinite(samples.features[inside]))
    if len(rows):
        at, column = inside.start + int(rows[-1]), int(columns[-1])
        if np.isfinite(samples.features[begin:at, column]).any():
            return "no window", f"the feature {samples.names[column]!r} has no value at {_minute(samples.time[at])}"
    late = samples.known_at_bar[inside] > to_times(bars.with_columns(fill=fill_times(bars)), "fill")[row]
    if late.any():
        at = inside.start + int(np.flatnonzero(late)[-1])
        known = _minute(samples.known_at_bar[at])
        return "no window", f"the bar of {_minute(samples.time[at])} in its window was known at {known} only"
    there, needed = row - begin + 1, _bars_needed(samples)
    more = f": {needed} are needed, {needed - there} more" if needed > there else ""
    return "no window", (
        f"{there} bar(s) since {_minute(samples.time[begin])}, where its history begins or a gap ends, are "
        f"too few for a window of {samples.context} and for its features to settle{more}"
    )


def _bars_needed(samples: Samples) -> int:
    """Bars in one piece until the first window is whole: the fewest that a symbol of the class needed; 0 of none."""
    new = (np.diff(samples.symbol, prepend=-1) != 0) | (np.diff(samples.segment, prepend=-1) != 0)
    first = np.flatnonzero(new)[np.cumsum(new) - 1]  # of each row its segment's
    return int((samples.ends - first[samples.ends]).min()) + 1 if len(samples.ends) else 0


def _minute(moment: np.datetime64) -> str:
    return f"{moment.astype('datetime64[m]').item():%Y-%m-%d %H:%M} UTC"


def say_without_model(chain: Chain, symbols: Mapping[str, str]) -> list[DataProblem]:
    """A problem for each asset class of a store that the model in force does not know."""
    return [
        DataProblem(
            "new symbol", tuple(sorted(symbol for symbol, own in symbols.items() if own == name)),
            f"{name}: no model knows this class yet: its symbols join at the next refit.",
        )
        for name in sorted(set(symbols.values()) - set(chain.classes))
    ]  # fmt: skip


def other_zones(made_with: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What is said where a model was made with another database of time zones; nothing where it was with the same.

    In: the versions of the model's provenance (`calendars`) and those here, see `market.sessions.versions`.

    >>> other_zones({"time_zones": "2024a"}, {"time_zones": "2025b"})
    'time zones are of version 2025b, the model was made with 2024a: closes may have moved.'
    >>> other_zones({"time_zones": "2025b"}, {"time_zones": "2025b"})
    ''
    """
    then, now = (one.get("time_zones") for one in (made_with, here))
    if not then or then == now:
        return ""
    return f"time zones are of version {now}, the model was made with {then}: closes may have moved."


def with_gate(row: Mapping[str, Any], run: Run, model: int) -> dict[str, Any]:
    """A row with what `gate_of` says; nothing is held where a gate has closed."""
    found = {**row, **gate_of(row, run, model)}
    if found["gate"] != OPEN:
        found |= {name: 0.0 for name in ("weight", "book") if found.get(name)}
    return found


def gate_of(row: Mapping[str, Any], run: Run, model: int) -> dict[str, Any]:
    """A row of `newest_rows` -> `gate`, `gate_sentence`, `model` (number of its record) and `flags`.

    >>> from gatecast.live.gates import closed
    >>> closed({"today": "bar", "current": True, "strategy": "trend", "evidence": 0.0, "weight": 0.0}, "", False, [])
    'evidence'
    """
    flags = list(dict.fromkeys(str(problem["kind"]) for problem in row.get("data_problems") or ()))
    override = run.experiment.selection.evidence is not None
    doubt = "" if override else "doubtful" if run.doubtful else "late claim" if run.untradable else ""
    gate = closed(row, doubt, override, flags)
    return {"gate": gate, "gate_sentence": GATES[gate], "model": model, "flags": flags}


def closed(row: Mapping[str, Any], doubt: str, override: bool, flags: list[str]) -> str:
    """The first gate that closes; `doubt`: that of the whole run; `override`: whether the settings set the evidence."""
    if row["today"] != "ended" and DOUBTFUL_BAR in flags:
        return DOUBTFUL_BAR
    if row["today"] in ("ended", "no bar", "no trade"):
        return str(row["today"])
    if "stale" in flags:
        return "stale"
    if OLD_MODEL in flags:
        return OLD_MODEL
    if row.get("late"):
        return "late"
    if not row["current"]:
        return next((kind for kind in (OUTSIDE, STILL) if kind in flags), "no forecast")
    if NOT_FINITE in flags:
        return "not finite"
    if doubt:
        return doubt
    if row.get("weight"):
        return OPEN
    if row.get("strategy") == FLAT:
        return "flat"
    if not override and not row.get("evidence"):
        return "too good" if "too good" in str(row.get("reason") or "") else "evidence"
    return "signal"
