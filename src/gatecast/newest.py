"""The newest forecast of each symbol: frames of a run -> one row a symbol with numbers, notes and the base rate.

`gatecast forecast` and the report's table of newest bars are made of the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.verdict import SKILL
from gatecast.forecasting.combining.intervals import HIGH, LOW
from gatecast.forecasting.panel import ENSEMBLE, NETWORK, PLAIN, RIVAL, RIVALS, SECOND, model_title
from gatecast.market.bars import session_date, session_of
from gatecast.market.calendar import usual_spacing
from gatecast.market.classes import asset_class
from gatecast.market.sessions import named_calendars, sessions_missed
from gatecast.market.universe import is_inside
from gatecast.trading.strategies import strategy_titles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.market.ends import Ended

    FloatArray = NDArray[np.float64]

SAME = 1e-3  # of a standard deviation: a return forecast so near to its rival's is the rival's
SAME_CHANCE = 5e-4  # a probability so near to the base rate is shown as the same
NARROWEST = 1.2816  # half width of an 80 % interval in standard deviations, where there are no intervals
DENSITY = 1 / math.sqrt(2 * math.pi)  # of the normal distribution at 0: from a shift in s.d. to one in probability
SIDES = {1: "bullish", -1: "bearish"}
NOTHING = "no forecast beyond the base rate"
TODAY = ("bar", "no trade", "no bar", "ended")
"""What a symbol may have today, in the order in which symbols are shown."""
BEHIND = 1  # sessions that a symbol may be behind its class before it is stale, and a class behind the others

Values = Mapping[tuple[str, str], Mapping[int, float]]
"""(model, head) -> step -> value, of one symbol and time."""


def variance_ratios(forecasts: pl.LazyFrame) -> pl.LazyFrame:
    """symbol, time, `ratio`: what turns a variance forecast in the proxy's unit into one from close to close.

    A range proxy has no overnight gaps. The ensemble's simple return contains half the variance close to close,
    exp(r + variance / 2) - 1, from which the ratio of each forecast follows: `Facts.ratio` at the row it was made from.
    In: columns `symbol, time, model, head, step, value`. Rows without the ensemble's three heads are left out.
    """
    own = forecasts.filter(pl.col("model") == ENSEMBLE, pl.col("value").is_finite())
    last = pl.col("step") == pl.col("step").max().over("symbol", "time", "head")
    heads = [
        own.filter(pl.col("head") == head).filter(last).select("symbol", "time", pl.col("value").alias(head))
        for head in ("return", "return_simple", "volatility")
    ]
    keys = ["symbol", "time"]
    return (
        heads[0]
        .join(heads[1], on=keys)
        .join(heads[2], on=keys)
        .select(*keys, ratio=2 * (pl.col("return_simple").log1p() - pl.col("return")) / pl.col("volatility"))
        .filter(pl.col("ratio") > 0)
    )


def newest_rows(
    bars: pl.DataFrame,
    forecasts: pl.LazyFrame | None,
    signals: pl.DataFrame | None,
    weights: pl.DataFrame | None,
    verdicts: Mapping[str, Mapping[str, Any]],
    *,
    signal_model: str = NETWORK,
    confirmed_by: str = SECOND,
    abstain: float = 0.05,
    titles: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    ended: Mapping[str, Ended] | None = None,
    calendars: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One row a symbol, sorted: the newest forecast, and whether it is of today's bar.

    Parameters
    ----------
    bars: Bars frame, or at least `symbol, time, close`. forecasts, signals, weights: frames of a run; None: unknown.
    verdicts: head -> verdict of the run. signal_model: whose forecast signals; confirmed_by: whose agreement makes
        a consensus. abstain: share of the narrowest interval's half width below which an expected return says nothing.
        titles: strategy -> title, see `strategy_titles`; None: those of the built-in ones. names: model -> title.
        ended: see `market.ends.symbols_ended`. calendars: symbol -> calendar, where it is not its class's: sessions in
        which its exchange was closed do not count as behind.

    Returns
    -------
    Of the bar: `symbol, asset_class, close, newest_bar` (its time), `today` ("ended" where the symbol is known to have
    ended, "bar", "no bar" where others of the class have a later session or the class is more than one session of its
    calendar behind the newest bar of all, "no trade" where volume and range are 0), `end` (how it ended, in words, or
    None), `sessions_behind` (of its class, and of its class behind the others where that is more than one), `time` (the
    close at which the forecast was made), `current` (whether the forecast is of today's bar).

    Of `signal_model`, `signal_title` (in words): `signal, z, consensus, signal_return_log` (its own expected log return
    over the horizon).

    Of the ensemble, `forecast_model`: `probability_up`, `base_rate_up` (the past share of rises, as in an explanation;
    the rival in force may say something else), `probability_beyond_base_rate`;
    `expected_return_log` (the return head's), `half_variance` (what the conversion adds), `expected_return_simple`,
    `beyond_base_rate`; `volatility` (variance over the horizon, close to close) and `standard_deviation`, its root;
    `regime_probability`; `path` (expected cumulative log returns over 1..h bars), `sigma_path` (their standard
    deviations, close to close), `intervals` (one a level: `level`, `low` and `high` of the path).

    Of the book: `strategy`, `strategy_title` (in words), `evidence, reason, weight` (of the symbol by itself), `book`
    (in the portfolio). Both are None where they were not decided at a bar of today: the sum of `book` is what is
    invested now.

    `disagree`: whether the signal and the ensemble point to different sides; `notes`: sentences to show with the row.
    """
    rows = _bars_today(bars, ended or {}, calendars)
    at = _forecast_times(forecasts, signals)
    found = _values_at(forecasts, at)
    tables, decided = [_last_rows(frame) for frame in (signals, weights)], _last_rows(weights)
    titles = titles or strategy_titles(signal_model, confirmed_by, names=names)
    signal_title = (names or {}).get(signal_model) or model_title(signal_model)
    last = bars.sort("symbol", "time").group_by("symbol", maintain_order=True).last()
    outside = set(last.filter(~is_inside(last))["symbol"])
    result = []
    for row in rows:
        symbol = row["symbol"]
        merged: dict[str, Any] = {**row, "time": at.get(symbol)}
        for table in tables:
            merged |= {key: value for key, value in table.get(symbol, {}).items() if key not in ("symbol", "time")}
        merged["current"] = merged["today"] == "bar" and merged["time"] == merged["newest_bar"]
        if "strategy" in merged:
            merged["strategy_title"] = titles.get(merged["strategy"], merged["strategy"])
        if merged["today"] != "bar" or decided.get(symbol, {}).get("time") != merged["newest_bar"]:
            merged |= {name: None for name in ("weight", "book") if name in merged}
        merged |= _numbers(found.get(symbol, {}), verdicts, signal_model, abstain) | {"signal_title": signal_title}
        merged["disagree"] = bool(_sides_against(merged))
        gone = (ended or {}).get(symbol)
        ending = [] if gone is None else [f"{gone.sentence} Nothing is forecast, and there is no position."]
        result.append({**merged, "notes": ending or _notes(merged, symbol in outside)})
    return result


def _bars_today(
    bars: pl.DataFrame, ended: Mapping[str, Ended], calendars: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The last bar of each symbol, whether it traded there, and whether that is today's.

    Today is the newest session of all bars, by the calendar of the symbol's class, or its own.
    """
    frame = bars.sort("symbol", "time")
    if "asset_class" not in frame.columns:
        frame = frame.with_columns(asset_class=pl.lit("equity"))
    still = pl.lit(False)
    if {"volume", "high", "low"} <= set(frame.columns):
        traded = (pl.col("volume") > 0).any()
        still = traded & (pl.col("volume").last() == 0) & (pl.col("high").last() == pl.col("low").last())
    rows = (
        frame.group_by("symbol", maintain_order=True)
        .agg(
            pl.col("asset_class", "close").last(),
            newest_bar=pl.col("time").last(),
            still=still.fill_null(False),
        )
        .to_dicts()
    )
    sessions, spacing, named = {}, {}, named_calendars(frame, calendars)
    for (name,), own in frame.group_by("asset_class"):
        sessions[name] = own.select(session_date(pl.col("time")).unique().sort()).to_series()
        spacing[name] = usual_spacing(own)
    newest = {name: max(row["newest_bar"] for row in rows if row["asset_class"] == name) for name in sessions}
    last = max(newest.values())
    missed = {
        name: sessions_missed(newest[name], last, asset_class(str(name)), spacing[name], tolerated=BEHIND)
        for name in sessions
    }
    for row in rows:
        name, time = row["asset_class"], row["newest_bar"]
        behind = len(sessions[name]) - int(sessions[name].search_sorted(session_of(time), side="right"))
        if behind and (own_calendar := named.get(row["symbol"])):
            own_behind = sessions_missed(time, newest[name], asset_class(name), spacing[name], own_calendar)
            behind = min(behind, own_behind)
        usual = spacing[name]
        behind += missed[name] if missed[name] > BEHIND else 0
        late = usual is not None and usual < timedelta(hours=20) and newest[name] - time > 2 * usual
        row["sessions_behind"], row["class_newest_bar"] = behind, newest[name]
        row["today"] = "no bar" if behind or late else "no trade" if row["still"] else "bar"
        gone = ended.get(row["symbol"])
        row["end"] = None if gone is None else gone.state
        if gone is not None:
            row["today"] = "ended"
        del row["still"]
    return rows


def _forecast_times(forecasts: pl.LazyFrame | None, signals: pl.DataFrame | None) -> dict[str, datetime]:
    """symbol -> the close at which its newest forecast was made."""
    if signals is not None:
        return dict(signals.group_by("symbol").agg(pl.col("time").max()).iter_rows())
    if forecasts is None:
        return {}
    issued = forecasts.filter(pl.col("value").is_finite()).group_by("symbol").agg(pl.col("time").max())
    return dict(issued.collect().iter_rows())


def _values_at(forecasts: pl.LazyFrame | None, at: Mapping[str, datetime]) -> dict[str, Values]:
    """symbol -> its forecasts at those times."""
    if forecasts is None or not at:
        return {}
    keys = pl.LazyFrame({"symbol": list(at), "time": list(at.values())}).cast({"time": pl.Datetime("us", "UTC")})
    rows = forecasts.join(keys, on=["symbol", "time"], how="semi").filter(pl.col("value").is_finite())
    found: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
    columns = ("symbol", "model", "head", "step", "value")
    for symbol, model, head, step, value in rows.select(columns).sort(columns[:4]).collect().iter_rows():
        found.setdefault(symbol, {}).setdefault((model, head), {})[step] = value
    return dict(found)


def _last_rows(frame: pl.DataFrame | None) -> dict[str, dict[str, Any]]:
    """symbol -> its newest row."""
    if frame is None:
        return {}
    last = frame.sort("symbol", "time").group_by("symbol", maintain_order=True).last()
    return {row["symbol"]: row for row in last.iter_rows(named=True)}


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


def _numbers(
    values: Values, verdicts: Mapping[str, Mapping[str, Any]], signal_model: str, abstain: float
) -> dict[str, Any]:
    """What the ensemble says, beside the base rates, and the signalling model's own return."""
    horizon = max((step for steps in values.values() for step in steps), default=0)

    def last(model: str, head: str) -> float | None:
        return values.get((model, head), {}).get(horizon)

    steps = values.get((ENSEMBLE, "return")) or {}
    path = [steps[step] for step in sorted(steps)] if len(steps) in (1, horizon) else []  # no step stands for another
    log_return, simple = last(ENSEMBLE, "return"), last(ENSEMBLE, "return_simple")
    half = None if log_return is None or simple is None else float(np.log1p(simple)) - log_return
    variance = None if half is None or half <= 0 else 2 * half
    deviation = None if variance is None else math.sqrt(variance)
    intervals = _intervals(values)
    width = _half_width(intervals, deviation)
    least = None if width is None else abstain * width
    up = last(ENSEMBLE, "direction")
    base = last(PLAIN["direction"], "direction")  # the past share of rises, whatever the rival in force says
    rival = str((verdicts.get("return") or {}).get("rival") or "")
    rivals = [last(name, "return") for name in (rival, RIVAL, RIVALS["return"][1])]
    return {
        "signal_model": signal_model,
        "signal_return_log": last(signal_model, "return"),
        "forecast_model": ENSEMBLE,
        "probability_up": up,
        "base_rate_up": base,
        "probability_beyond_base_rate": _chance_tells(up, base, least, deviation, _skilled("direction", verdicts)),
        "expected_return_log": log_return,
        "half_variance": half,
        "expected_return_simple": simple,
        "beyond_base_rate": _return_tells(log_return, rivals, least, deviation, _skilled("return", verdicts)),
        "volatility": variance,
        "standard_deviation": deviation,
        "regime_probability": last(ENSEMBLE, "regime"),
        "path": path,
        "sigma_path": []
        if variance is None
        else np.sqrt(variance * np.arange(1, len(path) + 1) / max(len(path), 1)).tolist(),
        "intervals": intervals,
    }


def _skilled(head: str, verdicts: Mapping[str, Mapping[str, Any]]) -> bool:
    return (verdicts.get(head) or {}).get("verdict") == SKILL


def _return_tells(
    log_return: float | None,
    rivals: list[float | None],
    least: float | None,
    deviation: float | None,
    skilled: bool,
) -> bool:
    """Whether a return forecast says more than no change and its rivals say."""
    if log_return is None or least is None or deviation is None:
        return False
    same = any(abs(log_return - value) <= SAME * deviation for value in (0.0, *rivals) if value is not None)
    return not same and (skilled or abs(log_return) >= least)


def _chance_tells(
    up: float | None, base: float | None, least: float | None, deviation: float | None, skilled: bool
) -> bool:
    """Whether a probability of a rise says more than the base rate, by the same share of the interval as a return."""
    if up is None or base is None or abs(up - base) < SAME_CHANCE:
        return False
    return skilled or (least is not None and bool(deviation) and abs(up - base) >= DENSITY * least / (deviation or 1.0))


def _intervals(values: Values) -> list[dict[str, Any]]:
    """The ensemble's intervals, the narrowest first: `level`, and ends of the path in log returns."""
    levels = sorted(
        float(head.removeprefix(LOW)) for model, head in values if model == ENSEMBLE and head.startswith(LOW)
    )
    return [
        {
            "level": round(level / 100, 9),
            "low": list(values[ENSEMBLE, f"{LOW}{level:g}"].values()),
            "high": list(values[ENSEMBLE, f"{HIGH}{level:g}"].values()),
        }
        for level in levels
        if (ENSEMBLE, f"{HIGH}{level:g}") in values
    ]


def _half_width(intervals: list[dict[str, Any]], deviation: float | None) -> float | None:
    """Half the narrowest interval of the last step, a log return."""
    if intervals:
        return float(intervals[0]["high"][-1] - intervals[0]["low"][-1]) / 2
    return None if deviation is None else NARROWEST * deviation


# ── words ─────────────────────────────────────────────────────────────────────────────────────────


def _sides_against(row: Mapping[str, Any]) -> list[str]:
    """The ensemble's numbers beyond the base rate that point to the other side than the signal, in words."""
    signal = int(row.get("signal") or 0)
    against = []
    if row["beyond_base_rate"] and signal * row["expected_return_log"] < 0:
        against.append(f"an expected return of {row['expected_return_log']:+.2%}")
    if row["probability_beyond_base_rate"] and signal * (row["probability_up"] - 0.5) < 0:
        against.append(f"P(rise) {row['probability_up']:.1%}")
    return against


def _notes(row: Mapping[str, Any], outside: bool) -> list[str]:
    """What a reader of the row must know, in sentences; `outside`: whether the symbol is outside of its universe."""
    notes = []
    newest, time = row["newest_bar"], row["time"]
    if row["today"] == "no bar":
        behind = row["sessions_behind"]
        others = "the other classes" if newest == row["class_newest_bar"] else "its class"
        late = f"{behind} session{'s' * (behind != 1)} behind {others}" if behind else f"behind {others}"
        notes.append(f"No bar since {newest:%Y-%m-%d %H:%M}, {late}: nothing is forecast from today.")
    elif row["today"] == "no trade":
        notes.append("No trade today: the newest bar has no volume and no range.")
    if time is None:
        notes.append("Nothing was forecast for this symbol.")
    elif time != newest:
        why = "it is outside of its universe" if outside else "its window has gaps"
        notes.append(f"No forecast at the newest bar, {newest:%Y-%m-%d %H:%M}: {why}.")
    signal = int(row.get("signal") or 0)
    if not row["current"] or not signal:
        return notes
    name = row["signal_title"]
    first = name[:1].upper() + name[1:]
    if row["disagree"]:
        said = " and ".join(_sides_against(row))
        notes.append(f"{first} and ensemble disagree: the {name} is {SIDES[signal]}, the ensemble has {said}.")
    elif not row["beyond_base_rate"] and not row["probability_beyond_base_rate"]:
        notes.append(f"The {name} alone is {SIDES[signal]}: the ensemble has {NOTHING}.")
    return notes
