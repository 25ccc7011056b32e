"""Targets: bars -> outcomes over the horizon, the time each is known, and the scale that models learn on.

Returns are learned over the trailing volatility and variances over the trailing variance, so that no wild symbol and no
wild year decides what a model learns. `encode` and `decode` apply and undo that scale; `return_scale` and
`standardised_loss` are its only other homes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, did_you_mean
from gatecast.market.bars import COLUMNS, runs_of
from gatecast.market.calendar import listings, session_minutes
from gatecast.samples.arrays import to_array as to_array
from gatecast.samples.arrays import to_times as to_times
from gatecast.samples.known import known_so_far
from gatecast.samples.variance import concentration, implied_terms, smoothed_variances, variance_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]

HEADS = ("return", "direction", "volatility", "regime")
PROXIES = ("close_to_close", "parkinson", "garman_klass")
DECAY = 0.94  # RiskMetrics' daily decay
VARIANCE_FLOOR = 0.01  # a realised variance below this share of the trailing one is raised to it, and counted
STANDS_STILL = 1e-12  # a log return of no more is rounding: the price is where it was
CAP = 25.0
"""The most that a single forecast can lose, in units of the loss: five standard deviations of a return."""
LEVEL_QUANTILE = 2 / 3  # turbulent: the upper tercile
LEVEL_MINIMUM = 250  # answers known before a level means anything


@dataclass(frozen=True)
class Target:
    """One head's answers: `value` (bars,) or (bars, horizon), NaN where there is none; `known_at` (bars,).

    `known_at` is when the answer exists, once every bar up to its end is known (NaT where it never does).
    """

    value: FloatArray
    known_at: NDArray[np.datetime64]


@dataclass(frozen=True)
class Facts:
    """What is known at each bar beside the features; every array is (bars,) but `har` and the last three.

    Rows that become known too late to be used have none: NaN. `step`: log return of the bar, NaN for a segment's first.
    `sigma`: trailing volatility of one bar's log return (EWMA, decay .94), NaN for the first 22 bars of a segment.
    `ratio`: mean squared return over mean variance proxy so far: turns the proxy's unit into close-to-close variance.
    `baseline`: trailing variance over the horizon in the proxy's unit, horizon * sigma² / ratio.
    `har`: (bars, 3) logs of the mean proxy over 1, 5 and 22 bars. `recent`: log variance over the last horizon bars.
    `level`: the class's expanding upper-tercile level of log variance, from answers known at the bar.
    `past_return`: log return over the last horizon bars. `mean`: mean log return of one bar so far.
    `minutes`: the bar's place in its session, see `market.calendar.session_minutes`. `season`: what the hour alone adds
    to the log variance to come: 0 but where `forecasting.models.hours` has learned it.
    `variance`, `concentration`, `smoothed`: (bars, inputs) what else is known about variance, the last not in logs, see
    `samples.variance`.
    """

    step: FloatArray
    sigma: FloatArray
    ratio: FloatArray
    baseline: FloatArray
    har: FloatArray
    recent: FloatArray
    level: FloatArray
    past_return: FloatArray
    mean: FloatArray
    minutes: FloatArray
    season: FloatArray
    variance: FloatArray
    concentration: FloatArray
    smoothed: FloatArray
    floored: int


def make_facts(
    bars: pl.DataFrame,
    horizon: int,
    volatility_proxy: str,
    known_by: NDArray[np.datetime64],
    implied: str | None = None,
) -> Facts:
    """What is known at each bar of one asset class, but for the regime's level, which its answers make.

    In: Bars of one asset class, sorted by symbol and time; horizon in bars; see `make_targets`; `known_by` (bars,) when
    a row and all before it are known. All of it stays inside a segment, but `ratio` and `mean`, which run on over a
    symbol's segments.
    """
    group = "_piece"
    log_close = pl.col("close").log()
    own = [pl.col(volatility_proxy).alias("_own")] if volatility_proxy not in PROXIES else []
    own += [pl.col(implied).cast(pl.Float64).alias("implied")] if implied else []
    known_at = pl.Series(known_by).dt.replace_time_zone("UTC")  # a value hangs on the rows before it, too
    bars = bars.with_columns(runs_of("symbol", "segment").alias(group))
    frame = bars.select(
        "symbol", group, "time", known_at.alias("known_at"), pl.col("open", "high", "low", "close", "volume"),
        (log_close - log_close.shift(1)).over(group).alias("r"), *own,
    ).with_columns(proxy=_proxy(volatility_proxy))  # fmt: skip
    frame = frame.with_columns(
        variance=pl.col("r").pow(2).ewm_mean(alpha=1 - DECAY, adjust=True, min_samples=22).over(group),
        ratio=(
            pl.col("r").pow(2).fill_null(0.0).cum_sum()
            / pl.when(pl.col("r").is_not_null()).then("proxy").fill_null(0.0).cum_sum()
        ).over("symbol"),
        count=pl.col("r").is_not_null().cum_sum().over("symbol"),
    )
    # before 60 returns the ratio is noise: the proxy is taken as it is
    frame = (
        frame.with_columns(
            ratio=pl.when((pl.col("count") >= 60) & pl.col("ratio").is_finite() & (pl.col("ratio") > 0))
            .then("ratio")
            .otherwise(1.0)
        )
        .with_columns(sigma=pl.col("variance").sqrt().clip(lower_bound=1e-6))
        .with_columns(unit=pl.col("sigma").pow(2) / pl.col("ratio"))
    )
    floor = VARIANCE_FLOOR * pl.col("unit")
    har = [
        pl.max_horizontal(pl.col("proxy").rolling_mean(n), floor).log().over(group).alias(f"har_{n}")
        for n in (1, 5, 22)
    ]
    frame = frame.with_columns(
        *har,
        recent=pl.max_horizontal(pl.col("proxy").rolling_sum(horizon).over(group), horizon * floor).log(),
        mean=(pl.col("r").fill_null(0.0).cum_sum() / pl.col("count").clip(lower_bound=1)).over("symbol"),
        past_return=(log_close - log_close.shift(horizon)).over(group),
    )
    frame = frame.with_columns(floor=floor)
    inputs = variance_inputs(frame)
    peaks = concentration(frame, inputs)
    return Facts(
        step=to_array(frame, "r"),
        sigma=to_array(frame, "sigma"),
        ratio=to_array(frame, "ratio"),
        baseline=horizon * to_array(frame, "unit"),
        har=to_array(frame, "har_1", "har_5", "har_22"),
        recent=to_array(frame, "recent"),
        level=np.full(len(frame), np.nan),
        past_return=to_array(frame, "past_return"),
        mean=to_array(frame, "mean"),
        minutes=session_minutes(bars).to_numpy(),
        season=np.zeros(len(frame)),
        variance=inputs,
        concentration=np.column_stack([peaks, implied_terms(frame, inputs)]) if implied else peaks,
        smoothed=smoothed_variances(frame, inputs),
        floored=0,
    )


def make_targets(
    bars: pl.DataFrame,
    horizon: int = 5,
    volatility_proxy: str = "garman_klass",
    used: BoolArray | None = None,
    context: int = 0,
    implied: str | None = None,
) -> tuple[dict[str, Target], Facts]:
    """The answers of all four heads for the bars of one asset class, and what is known at each bar.

    Parameters
    ----------
    bars: Bars frame of one asset class, sorted by symbol and time.
    horizon: bars ahead, 1-22.
    volatility_proxy: close_to_close, parkinson, garman_klass, or a column of the bars that holds a variance.
    used: (bars,) the rows that facts are made from (None: all); the others have none, and no window passes them for
        `context` bars. Answers are made from all rows.
    implied: a column of the bars that holds an implied volatility, which forecasts of variance may read.

    Returns
    -------
    `return`: cumulative log returns over the next 1..horizon bars, (bars, horizon); `direction`: 1.0 where the last of
    them is above 0, 0.0 below, NaN where the price is where it was; `volatility`: log of the proxy summed over the next
    horizon bars; `regime`: 1.0 where that exceeds the class's level known at the bar. An answer goes on over a gap, and
    is known at the reopening; it never passes the end of a listing, see `market.calendar.listings`.

    References
    ----------
    Parkinson (1980), Journal of Business 53; Garman and Klass (1980), Journal of Business 53.

    >>> from gatecast.market import synthetic
    >>> targets, facts = make_targets(synthetic.a1(600, seed=1), horizon=5)
    >>> targets["return"].value.shape, bool(np.isnan(targets["direction"].value[-1]))
    ((600, 5), True)
    """
    if volatility_proxy not in PROXIES and volatility_proxy not in _numeric(bars):
        kind = "one of the bars' own columns, which hold no variance" if volatility_proxy in bars.columns else "unknown"
        raise SettingsError(
            f"volatility proxy {volatility_proxy!r} is {kind}: expected a range proxy, or a further column of the bars "
            f"with a variance. {did_you_mean(volatility_proxy, [*PROXIES, *_numeric(bars)])}"
        )
    if implied is not None and implied not in _numeric(bars):
        raise SettingsError(
            f"volatility.implied = {implied!r} is no further column of the bars: expected a column of numbers, one of "
            f"{', '.join(_numeric(bars)) or 'none that the bars have'}. {did_you_mean(implied, _numeric(bars))}"
        )
    used = np.ones(len(bars), np.bool_) if used is None else used
    latest = known_so_far(bars, used, context)
    facts = make_facts(bars.filter(pl.Series(used)), horizon, volatility_proxy, latest[used], implied)
    facts = facts if used.all() else _spread_over(facts, used)
    group = "_listing"
    log_close = pl.col("close").log()
    own = [pl.col(volatility_proxy).alias("_own")] if volatility_proxy not in PROXIES else []
    frame = (
        bars.select(*COLUMNS, *own)
        .with_columns(listing=listings(bars), latest=pl.Series(latest), floor=pl.Series(facts.baseline))
        .with_columns(runs_of("symbol", "listing").alias(group))
        .with_columns(
            r=(log_close - log_close.shift(1)).over(group),
            floor=(VARIANCE_FLOOR * pl.col("floor").fill_nan(None)).forward_fill().over("symbol"),
        )
    )
    frame = frame.with_columns(proxy=_proxy(volatility_proxy)).with_columns(
        *((log_close.shift(-k) - log_close).over(group).alias(f"ahead_{k}") for k in range(1, horizon + 1)),
        total=pl.col("proxy").rolling_sum(horizon).shift(-horizon).over(group),
        answered_at=pl.max_horizontal(  # every row that facts are made from, and every row on the way
            pl.col("latest").dt.replace_time_zone("UTC").shift(-horizon),
            *(pl.col("known_at").shift(-k) for k in range(horizon + 1)),
        ).over(group),
        closes=pl.col("close").shift(-horizon).over(group).is_not_null(),
    )
    frame = frame.with_columns(
        answered_at=pl.when("closes").then("answered_at"),
        log_variance=pl.when(pl.col("total").is_not_null()).then(pl.max_horizontal("total", "floor").log()),
    )
    floored = frame.select(((pl.col("total") < pl.col("floor")) & pl.col("total").is_not_null()).sum()).item()
    path = to_array(frame, *(f"ahead_{k}" for k in range(1, horizon + 1))).reshape(len(frame), horizon)
    log_variance = to_array(frame, "log_variance")
    times, known_at = to_times(frame, "time"), to_times(frame, "answered_at")
    level = expanding_level(log_variance, known_at, times)
    last = path[:, -1]
    direction = np.where(np.abs(last) > STANDS_STILL, (last > 0).astype(float), np.nan)
    regime = np.where(np.isnan(log_variance) | np.isnan(level), np.nan, (log_variance > level).astype(float))
    values = {"return": path, "direction": direction, "volatility": log_variance, "regime": regime}
    facts = replace(facts, level=level, floored=int(floored))
    return {head: Target(value, known_at) for head, value in values.items()}, facts


def _spread_over(facts: Facts, used: BoolArray) -> Facts:
    """Facts of some rows laid over all of them, NaN between."""
    arrays: dict[str, Any] = {}
    for field in fields(facts):
        value = getattr(facts, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = np.full((len(used), *value.shape[1:]), np.nan)
            arrays[field.name][used] = value
    return replace(facts, **arrays)


def expanding_level(
    value: FloatArray,
    known_at: NDArray[np.datetime64],
    times: NDArray[np.datetime64],
    quantile: float = LEVEL_QUANTILE,
    minimum: int = LEVEL_MINIMUM,
) -> FloatArray:
    """For each time, the quantile of all values whose answer was known by then; NaN before `minimum` of them.

    The quantile is the order statistic with ceil(quantile * n) values at or below it. Values are counted in buckets of
    their ranks, so that it takes O(buckets) a time.

    >>> day = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[us]")
    >>> expanding_level(np.array([3.0, 1.0, 2.0, 9.0]), day, day, quantile=0.5, minimum=1).tolist()
    [3.0, 1.0, 2.0, 2.0]
    """
    answered = np.flatnonzero(np.isfinite(value) & ~np.isnat(known_at))
    answered = answered[np.argsort(known_at[answered], kind="stable")]
    stamps, inverse = np.unique(times, return_inverse=True)
    at_stamp = np.full(len(stamps), np.nan)
    ready = np.searchsorted(known_at[answered], stamps, side="right")
    order = np.argsort(value[answered], kind="stable")
    ordered, rank = value[answered][order], np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    width = max(int(np.sqrt(len(order))), 1)
    there, counts = np.zeros(len(order), np.bool_), np.zeros(len(order) // width + 1, np.int64)
    done = 0
    for place, until in enumerate(ready.tolist()):
        there[rank[done:until]] = True
        counts += np.bincount(rank[done:until] // width, minlength=len(counts))
        done = until
        if until < max(minimum, 1):
            continue
        wanted, below = int(np.ceil(quantile * until)), counts.cumsum()
        bucket = int(np.searchsorted(below, wanted))
        before = wanted - int(below[bucket] - counts[bucket])
        first = bucket * width
        at_stamp[place] = ordered[first + np.flatnonzero(there[first : first + width])[before - 1]]
    level: FloatArray = at_stamp[inverse]
    return level


def encode(
    targets: dict[str, Target], facts: Facts, decided: NDArray[np.int64], ends: NDArray[np.int64], unit: FloatArray
) -> FloatArray:
    """What a model learns, (samples, horizon + 3): path over its unit, direction, log variance over trailing, regime.

    In: bar-level rows at whose closes forecasts are made, the rows of what was known then, and `Samples.unit`.
    """
    return np.column_stack(
        [
            targets["return"].value[decided] / unit,
            targets["direction"].value[decided],
            targets["volatility"].value[decided] - np.log(facts.baseline[ends]),
            targets["regime"].value[decided],
        ]
    )


def columns_of(horizon: int) -> dict[str, slice]:
    """Where each head stands in the table of `encode`."""
    return {
        "return": slice(0, horizon),
        "direction": slice(horizon, horizon + 1),
        "volatility": slice(horizon + 1, horizon + 2),
        "regime": slice(horizon + 2, horizon + 3),
    }


def return_scale(sigma: FloatArray, horizon: int) -> FloatArray:
    """(rows,) standard deviation of one bar's return -> (rows, horizon) those of returns over 1 to horizon bars.

    As known at a forecast. `Samples.unit`, in which answers are measured, also counts the sessions of a gap.

    >>> return_scale(np.array([0.01]), 4).round(4).tolist()
    [[0.01, 0.0141, 0.0173, 0.02]]
    """
    scale: FloatArray = sigma[:, None] * np.sqrt(np.arange(1, horizon + 1))
    return scale


def standardised_loss(head: str, answer: FloatArray, forecast: FloatArray, unit: FloatArray) -> FloatArray:
    """(rows,) what each forecast of one head loses, without a unit; NaN where either is NaN.

    Parameters
    ----------
    answer: (rows,) of "return" the log return over the horizon, of "volatility" the log of the realised variance, of
        "direction" and "regime" 1 or 0.
    forecast: (rows,) the log return, the variance (not its log), or the probability.
    unit: (rows,) variance of the return over the horizon as known at the forecast; read for "return" alone.

    Returns
    -------
    `return`: squared error over the unit; `volatility`: QLIKE; `direction`, `regime`: Brier.

    References
    ----------
    Patton (2011), Journal of Econometrics 160; Brier (1950), Monthly Weather Review 78.

    >>> standardised_loss("return", np.array([0.02]), np.array([0.0]), np.array([0.0001])).round(6).tolist()
    [4.0]
    """
    if head == "return":
        error: FloatArray = answer - forecast
        return error**2 / unit
    if head == "volatility":
        ratio = answer - np.log(forecast)
        return np.exp(np.minimum(ratio, 50.0)) - ratio - 1
    return (answer - forecast) ** 2


def decode(head: str, encoded: FloatArray, sigma: FloatArray, baseline: FloatArray) -> FloatArray:
    """A model's output for one head, back in the head's own unit.

    `return`: cumulative log returns (n, horizon); `direction`, `regime`: probabilities (n,), clipped to [.001, .999];
    `volatility`: variance over the horizon (n,), in the proxy's unit, never 0 (`encoded` is the log over trailing).
    """
    if head == "return":
        return encoded * sigma[:, None] * np.sqrt(np.arange(1, encoded.shape[1] + 1))
    if head == "volatility":
        return np.exp(np.clip(encoded.reshape(-1), -6.0, 6.0)) * baseline
    return as_probability(encoded.reshape(-1))


def as_probability(value: FloatArray) -> FloatArray:
    """A model's output as a probability: clipped to [.001, .999]."""
    return np.clip(value, 1e-3, 1 - 1e-3)


def came_after(bars: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """symbol, time, `listing` and `came_return_log`: the log return over the next `horizon` bars that the symbol really
    has.

    A session without a bar counts for none, and an answer never passes the end of a listing; null while not all of the
    bars have come. `bars` sorted by symbol and time.

    >>> from gatecast.market import synthetic
    >>> came_after(synthetic.a1(30, seed=1), horizon=5)["came_return_log"].null_count()
    5
    """
    close = pl.col("close").log()
    return bars.with_columns(listing=listings(bars)).select(
        "symbol", "time", "listing", came_return_log=(close.shift(-horizon) - close).over("symbol", "listing")
    )


def _proxy(name: str) -> pl.Expr:
    high_low = (pl.col("high") / pl.col("low")).log()
    if name == "close_to_close":
        return pl.col("r").pow(2)
    if name == "parkinson":
        ranged = high_low.pow(2) / float(4 * np.log(2))
    elif name == "garman_klass":
        ranged = 0.5 * high_low.pow(2) - float(2 * np.log(2) - 1) * (pl.col("close") / pl.col("open")).log().pow(2)
    else:
        return pl.col("_own")
    # closes alone have no range: the squared return stands in, or a known number, the floor, would be the answer
    return pl.when(pl.col("high") == pl.col("low")).then(pl.col("r").pow(2).fill_null(0.0)).otherwise(ranged)


def _numeric(bars: pl.DataFrame) -> list[str]:
    """Further columns of numbers, none of prices, volume or keys."""
    own = (*COLUMNS, "traded", "suspended")
    return [name for name, kind in bars.schema.items() if kind.is_numeric() and name not in own]
