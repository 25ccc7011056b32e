"""What forecasts know of the bars after their own: a search of each, and of a copy in which some was planted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.knowing import knowing
from gatecast.evaluation.plausible import too_good
from gatecast.evaluation.record import Record, day_means
from gatecast.forecasting.panel import ENSEMBLE, RIVAL
from gatecast.market.bars import COLUMNS
from gatecast.samples.targets import HEADS
from gatecast.trading.plausible import r2_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

ABOUT_SIGNS = ("return", "direction")
"""Heads whose forecasts say to which side the price goes."""
MOST_GAIN = 0.5
"""Of the rival's loss that a forecast of variance or turbulence is believed to save."""
PLANTED_R2 = 4.0
"""R² of the next bar's return that the planted leak has, in units of the largest that is believed."""
LAGS = 5
"""Bars up to the forecast's own whose returns, ranges and volumes it may follow, when later ones are looked for."""
FOLLOWS, FOLLOWS_T = 0.3, 8.0
"""R² beyond what the past explains, and its t, from which a forecast is said to follow the bar after its own."""
OWN_LAGS = (1, 2)
"""Bars before at which the forecast itself counts as known."""
LEAST_ROWS = 250
"""Forecasts of a symbol before what they follow is looked for."""
COLUMN = "judged_forecast"


def leaks_of(records: Mapping[str, Record], bars: pl.DataFrame) -> tuple[str, ...]:
    """Head -> record with the forecast in force, and Bars -> sentences on what it knows of later bars.

    A forecast of returns or direction is searched as a column of the bars is (`evaluation.knowing`). Every forecast is
    searched for whether it follows the bar after its own: that bar's return, range, volume or further columns explain
    more than 30 % of what earlier bars and forecasts leave unexplained, as they do where a file's dates are
    a bar early; so may what it is compared with, the return over the horizon or its size.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(600, seed=1)
    >>> momentum = bars["close"].log().diff()
    >>> table = bars.select("symbol", "time", model=pl.lit("ensemble"), head=pl.lit("return"), step=1, value=momentum)
    >>> leaks_of(Record.from_table(table.drop_nulls(), bars), bars)
    ()
    >>> early = table.with_columns(value=momentum.shift(-1)).drop_nulls()
    >>> leaks_of(Record.from_table(early, bars), bars)[-1].startswith("the return forecast of A1 follows the return")
    True
    """
    found = list[str]()
    for head, record in records.items():
        for number, kind in enumerate(record.classes):
            own = bars.filter(pl.col("asset_class") == kind).sort("symbol", "time")
            column = _at_bars(own, record.of_rows(record.number == number))
            if head in ABOUT_SIGNS:
                known = knowing(own.with_columns(pl.Series(COLUMN, column)), [COLUMN], record.horizon)
                found += [
                    one.sentence.replace(repr(COLUMN), f"the {head} forecast") for one in known if one.of == "return"
                ]
            found += follows(own, column, f"the {head} forecast", record.horizon)
    return tuple(dict.fromkeys(one.removeprefix("features: ") for one in found))


def planted_leak(records: Mapping[str, Record], bars: pl.DataFrame, seed: int) -> dict[str, Any]:
    """What comes of a copy of the forecasts that knows a part of what comes: `head`, `seen` and a sentence.

    Into forecasts of returns or direction the next bar's return enters with noise, so that it explains `PLANTED_R2`
    times what is believed of one bar; those of variance and turbulence are replaced by the answers themselves.
    """
    head = next(one for one in HEADS if one in records)
    record = records[head]
    given = np.asarray(record.forecasts[ENSEMBLE])
    if head not in ABOUT_SIGNS:
        answer = np.exp(record.answer) if head == "volatility" else record.answer
        days = day_means(record.with_forecasts(ENSEMBLE, np.where(np.isfinite(given), answer, np.nan)), ENSEMBLE, RIVAL)
        gain = float(days.gain.mean() / days.rival.mean()) if len(days.day) else 0.0
        seen = gain > MOST_GAIN
        said = f"the answers themselves as {head} forecasts save {gain:.0%} of the rival's loss"
        how = f"more than the {MOST_GAIN:.0%} that is believed: seen." if seen else "which is believed: NOT seen."
        return {"head": head, "seen": seen, "sentence": f"{said}, {how}"}
    r2 = PLANTED_R2 * r2_limit(1, float(np.median([one.session_bars for one in record.samples.values()])))
    draws = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(len(record),)))
    noisy = np.sqrt(r2) * _next_returns(record) / record.sigma + np.sqrt(1 - r2) * draws.standard_normal(len(record))
    noisy = np.where(np.isfinite(noisy), noisy, 0.0)
    unit = np.sqrt(record.unit)
    copy = given + noisy * unit * max(3 * float(np.nanstd(given / unit)), 0.1)
    copy = copy if head == "return" else np.clip(given + 0.15 * noisy, 0.01, 0.99)
    changed = {head: record.with_forecasts(ENSEMBLE, copy)}
    nothing, no_days = np.zeros(0), np.zeros(0, "datetime64[D]")
    found = [*leaks_of(changed, bars), *(one.sentence for one in too_good(changed, nothing, nothing, no_days, 252.0))]
    said = f"the next bar's return, mixed into the {head} forecast with an R² of {r2:.0%},"
    few = f"was NOT seen: {int(np.isfinite(given).sum())} forecasts are too few to see such a leak in."
    return {"head": head, "seen": bool(found), "sentence": f"{said} {f'was seen: {found[0]}' if found else few}"}


def _at_bars(bars: pl.DataFrame, record: Record) -> FloatArray:
    """(bars,) the forecasts at their bars, those of variance as logs; NaN where there is none."""
    values = np.full(len(bars), np.nan)
    given = np.asarray(record.forecasts[ENSEMBLE])
    values[record.bar] = np.log(given) if record.head == "volatility" else given
    return values


def _next_returns(record: Record) -> FloatArray:
    """(rows,) log return over the bar after each forecast's own."""
    values = np.full(len(record), np.nan)
    for number, samples in enumerate(record.samples.values()):
        own = record.number == number
        values[own] = samples.targets["return"].value[record.bar[own], 0]
    return values


def follows(bars: pl.DataFrame, column: FloatArray, name: str, horizon: int) -> list[str]:
    """Whether a column of forecasts follows what comes after its bar, symbol by symbol: the first, in a sentence.

    `bars`: of one class, by symbol and time; `column`: (bars,), NaN where nothing was forecast; `horizon`: bars ahead.
    """
    close, over = pl.col("close").log(), ("symbol", "segment")
    ranges = (pl.col("high") / pl.col("low")).log()
    news = {
        "return": close.diff(),
        "range": pl.when(ranges > 0).then(ranges.log()),
        "squared range": ranges**2,
        "volume": (pl.col("volume") + 1).log(),
    }
    news |= {name: pl.col(name) for name in bars.columns if name not in COLUMNS and bars.schema[name].is_numeric()}
    frame = bars.with_columns(pl.Series(COLUMN, column).fill_nan(None))
    table = frame.select(
        *(
            one.cast(pl.Float64).shift(lag).over(over).fill_null(np.nan).alias(f"{name}/{lag}")
            for name, one in news.items()
            for lag in range(-1, LAGS)
        ),
        *(pl.col(COLUMN).shift(lag).over(over).fill_null(np.nan).alias(f"{COLUMN}/{lag}") for lag in OWN_LAGS),
    )
    coming = frame.select(x=(close.shift(-horizon) - close).over(over))["x"].fill_null(np.nan).to_numpy()
    ahead = {f"{name} of the bar after its own": table[f"{name}/-1"].to_numpy() for name in news}
    ahead |= {"return over its horizon": coming, "size of the return over its horizon": np.abs(coming)}
    own_past = [f"{COLUMN}/{lag}" for lag in OWN_LAGS]
    known = table.select(*(f"{name}/{lag}" for name in news for lag in range(LAGS)), *own_past).to_numpy()
    symbols = bars["symbol"].to_numpy()
    for what, values in ahead.items():
        for symbol in np.unique(symbols):
            rows = np.flatnonzero((symbols == symbol) & np.isfinite(column) & np.isfinite(values))
            own = known[rows][:, np.isfinite(known[rows]).mean(axis=0) > 0.5]
            whole = np.isfinite(own).all(axis=1)
            rows, own = rows[whole], own[whole]
            if len(rows) < LEAST_ROWS:
                continue
            r2 = _beyond(column[rows], values[rows], own)
            independent = len(rows) / (horizon if "horizon" in what else 1) - own.shape[1] - 2
            t = np.sqrt(r2 / max(1 - r2, 1e-12) * max(independent, 0.0))
            if r2 > FOLLOWS and t > FOLLOWS_T:
                return [
                    f"{name} of {symbol} follows the {what} (R² {r2:.0%} of what the bars up to its own leave "
                    "unexplained). Are its dates early, or was it made with what came later?"
                ]
    return []


def _beyond(values: FloatArray, ahead: FloatArray, known: FloatArray) -> float:
    """R² of a column for values, beyond known columns; 0 where these explain all there is to explain."""
    base = np.column_stack([np.ones(len(values)), known])
    base = base / np.maximum(np.abs(base).max(axis=0), 1e-300)
    pair = np.column_stack([values, ahead])
    left = pair - base @ np.linalg.lstsq(base, pair, rcond=None)[0]
    size, whole = np.linalg.norm(left, axis=0), np.linalg.norm(pair - pair.mean(axis=0), axis=0)
    if (size <= 1e-6 * whole).any():
        return 0.0
    return float((left[:, 0] @ left[:, 1] / (size[0] * size[1])) ** 2)
