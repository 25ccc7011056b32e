"""Inputs of the linear variance forecasts: bars -> past variances, falls, calendar and class averages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

VARIANCE_INPUTS = (
    "har_1", "har_5", "har_22", "har_66", "fall", "fall_5", "gap", "gap_5", "range_1", "range_5",
    "close_5", "close_22", "volume", "volume_5", "class_1", "class_5",
)  # fmt: skip
"""The columns of `variance_inputs`; the first three are those of the HAR."""
CONCENTRATION = ("largest_5", "largest_22", "spike", "spread_22")
"""The columns of `concentration`."""
IMPLIED = ("implied_5", "implied_22", "implied_250")
"""The columns of `implied_terms`, which follow those of `concentration` where there is an implied volatility."""
SMOOTHED = (
    "smooth_1", "smooth_5", "smooth_25", "smooth_125", "mean", "fall_1", "fall_5", "fall_25", "class_1", "class_5",
)  # fmt: skip
"""The columns of `smoothed_variances`; a number is an age in bars, of the HAR's terms a length."""
STALE = np.timedelta64(7, "D")  # after which a symbol's last bar says nothing of its class any more


def variance_inputs(frame: pl.DataFrame) -> FloatArray:
    """(bars, inputs) of one asset class, NaN in the first bars of a segment.

    In: `symbol, time, known_at, open, high, low, close, volume`, the number `_piece` of the row's segment, the bar's
    log return `r`, the variance `proxy`, the trailing volatility `sigma` and the `floor` of a variance. Out, in the
    order of `VARIANCE_INPUTS`:
    logs of the mean proxy over 1, 5, 22 and (over the 22) 66 bars; the fall of the bar and its mean over 5, and the
    overnight gap and its mean, in trailing volatilities; Parkinson's range over the proxy, 1 and 5 bars; squared
    returns over the proxy, 5 and 22; volume over its mean of 22 bars, and the mean of that; and how far the class's
    variance of 1 and 5 bars is above that of 22, over all its symbols, of bars that were known at this bar's close.
    """
    group = "_piece"
    sigma = pl.col("sigma")
    step = (pl.col("open").log() - pl.col("close").log().shift(1)).over(group)
    frame = frame.with_columns(
        squared=pl.col("r").pow(2),
        parkinson=(pl.col("high") / pl.col("low")).log().pow(2) / float(4 * np.log(2)),
        fall=-pl.min_horizontal(pl.col("r"), 0.0) / sigma,
        gap=(step.abs() / sigma).clip(0, 6).fill_null(0.0),
        volume=(pl.col("volume") / pl.col("volume").rolling_mean(22).over(group)).log(),
    ).with_columns(
        volume=pl.when(pl.col("volume").is_finite()).then(pl.col("volume").clip(-4, 4)).otherwise(0.0),
    )

    def log_mean(name: str, bars: int) -> pl.Expr:
        return pl.max_horizontal(pl.col(name).rolling_mean(bars, min_samples=min(bars, 22)), "floor").log().over(group)

    def mean(name: str) -> pl.Expr:
        return pl.col(name).rolling_mean(5, min_samples=1).over(group)

    frame = frame.with_columns(
        har_1=log_mean("proxy", 1), har_5=log_mean("proxy", 5), har_22=log_mean("proxy", 22),
    ).with_columns(
        har_66=log_mean("proxy", 66) - pl.col("har_22"),
        fall_5=mean("fall"), gap_5=mean("gap"), volume_5=mean("volume"),
        range_1=log_mean("parkinson", 1) - pl.col("har_1"), range_5=log_mean("parkinson", 5) - pl.col("har_5"),
        close_5=log_mean("squared", 5) - pl.col("har_5"), close_22=log_mean("squared", 22) - pl.col("har_22"),
        excess_1=pl.col("har_1") - pl.col("har_22"), excess_5=pl.col("har_5") - pl.col("har_22"),
    )  # fmt: skip
    for name, of in (("class_1", "excess_1"), ("class_5", "excess_5")):
        values = frame[of].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        frame = frame.with_columns(pl.Series(name, class_mean(frame, values)))
    columns = frame.select(pl.col(*VARIANCE_INPUTS).cast(pl.Float64).fill_null(float("nan")))
    table: FloatArray = columns.to_numpy(order="c", writable=True)
    table[~np.isfinite(table).all(axis=1)] = np.nan
    return table


def concentration(frame: pl.DataFrame, inputs: FloatArray) -> FloatArray:
    """(bars, 4) how much of the past variance came in few bars, NaN where `inputs` are.

    In: the frame of `variance_inputs` with the `floor` of a variance; and what that function returned. Out, in the
    order of `CONCENTRATION`: log of the largest proxy over the mean, of 5 and of 22 bars; the square of the log of the
    bar's proxy over its mean of 22; log of the standard deviation of 22 proxies over their mean. One large day and
    twenty middling ones have the same mean, and are not followed by the same variance.
    """
    group = "_piece"
    proxy = pl.max_horizontal("proxy", "floor")

    def rolling(name: str, bars: int) -> pl.Expr:
        made: pl.Expr = getattr(proxy, f"rolling_{name}")(bars, min_samples=bars)
        return made.over(group)

    table = frame.select(
        (rolling("max", 5) / rolling("mean", 5)).log().alias("largest_5"),
        (rolling("max", 22) / rolling("mean", 22)).log().alias("largest_22"),
        (proxy / rolling("mean", 22)).log().pow(2).alias("spike"),
        (rolling("std", 22) / rolling("mean", 22)).log().clip(*SPREADS).alias("spread_22"),
    )
    made: FloatArray = table.cast(pl.Float64).fill_null(float("nan")).to_numpy(order="c", writable=True)
    made[~np.isfinite(inputs).all(axis=1)] = np.nan
    return made


def implied_terms(frame: pl.DataFrame, inputs: FloatArray) -> FloatArray:
    """(bars, 3) how high an implied volatility is beside its own past, NaN where `inputs` are.

    In: the frame of `variance_inputs` with `implied`, a volatility in any unit, null where nothing was known; and what
    that function returned. Out, in the order of `IMPLIED`: the log of its level over its mean of 5, 22 and 250 bars, or
    of those that there are; 0 where it is not known.

    References
    ----------
    Busch, Christensen and Nielsen (2011), Journal of Econometrics 160: implied volatility in the HAR.
    """
    level = pl.when(pl.col("implied") > 0).then("implied")
    over = [level.rolling_mean(bars, min_samples=1).over("_piece") for bars in (5, 22, 250)]
    table = frame.select((level / one).log().alias(name) for name, one in zip(IMPLIED, over, strict=True))
    made = np.ascontiguousarray(table.cast(pl.Float64).fill_null(0.0).to_numpy())
    made[~np.isfinite(inputs).all(axis=1)] = np.nan
    return made


SPREADS = (-4.0, 4.0)
"""Logs of a standard deviation over a mean that are told apart: of equal variances it is minus infinity."""


def smoothed_variances(frame: pl.DataFrame, inputs: FloatArray) -> FloatArray:
    """(bars, 10) variances of one bar in the proxy's unit, none below 0; NaN where `inputs` are.

    In: the frame of `variance_inputs` with `ratio`, the mean squared return over the mean proxy; and what that function
    returned. Out, in the order of `SMOOTHED`: exponentially smoothed proxies of a mean age of 1, 5, 25 and 125 bars,
    the symbol's mean so far, smoothed squares of its falls (a rise counts 0), over the ratio, and the variance that the
    symbol had if it were as far above that of its 22 bars as its class is, over 1 and over 5 bars.

    References
    ----------
    Bollerslev, Hood, Huss and Pedersen (2018), Review of Financial Studies 31: exponential terms and a long-run mean.
    """
    group = "_piece"
    proxy = pl.max_horizontal("proxy", "floor")
    fall = pl.min_horizontal(pl.col("r").fill_null(0.0), 0.0).pow(2)
    smooth = [proxy.ewm_mean(com=age).over(group).alias(f"smooth_{age}") for age in (1, 5, 25, 125)]
    falls = [(fall.ewm_mean(com=age).over(group) / pl.col("ratio")).alias(f"fall_{age}") for age in (1, 5, 25)]
    mean = (proxy.fill_null(0.0).cum_sum() / proxy.is_not_null().cum_sum().clip(lower_bound=1)).over("symbol")
    table = frame.select(*smooth, mean.alias("mean"), *falls).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = dict(zip(VARIANCE_INPUTS, inputs.T, strict=True))
    classes = [np.exp(known["har_22"] + known[name]) for name in ("class_1", "class_5")]
    table = np.column_stack([table, *classes])
    table[~np.isfinite(inputs).all(axis=1)] = np.nan
    return table


def class_mean(frame: pl.DataFrame, values: FloatArray) -> FloatArray:
    """(bars,) for each bar the mean over the class's symbols of their newest value that was known at its close.

    Symbols are joined by `known_at`, never by date: markets close at different hours. A value older than a week counts
    no more; 0 where there is none.
    """
    known_at, time = (
        frame[name].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]") for name in ("known_at", "time")
    )
    moments, place = np.unique(time, return_inverse=True)
    total, count = np.zeros(len(moments)), np.zeros(len(moments))
    starts = np.flatnonzero(frame["symbol"].is_first_distinct().to_numpy())
    for begin, end in zip(starts, np.r_[starts[1:], len(frame)], strict=True):
        of = np.flatnonzero(np.isfinite(values[begin:end])) + begin
        if not len(of):
            continue
        order = of[np.argsort(known_at[of], kind="stable")]
        newest = np.searchsorted(known_at[order], moments, side="right") - 1
        last = order[np.maximum(newest, 0)]
        fresh = (newest >= 0) & (moments - known_at[last] <= STALE)
        total += np.where(fresh, values[last], 0.0)
        count += fresh
    mean: FloatArray = (total / np.maximum(count, 1))[place]
    return mean
