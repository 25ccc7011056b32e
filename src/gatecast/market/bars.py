"""The Bars frame: its columns, its checks, what was known when, and coarser bars.

Columns: `symbol` (String), `asset_class` (String), `time` (Datetime[us, UTC], the bar's close), `open high
low close` (Float64, > 0), `volume` (Float64, null where there is none), `known_at` (Datetime[us, UTC]),
`segment` (Int32), then any further numeric columns (Float64). Sorted by symbol and time, one row a bar.
Nothing may be computed across two segments of a symbol.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.errors import BarsError, cut
from gatecast.market.classes import ASSET_CLASSES, asset_class
from gatecast.market.reading import as_utc, period_unit

PRICES = ("open", "high", "low", "close")
COLUMNS = ("symbol", "asset_class", "time", *PRICES, "volume", "known_at", "segment")
UTC_TIME = pl.Datetime("us", "UTC")
INTERNAL = "_"  # begins the names of helper columns, and of no further column: the two never meet
FURTHER_LIMITS = (1e-13, 1e30)  # of a column's largest number: what lies beyond is rounded to 0, or overflows squared
FURTHER_LEAST = 20  # numbers that are not 0, before a column is called too small
USUAL_SPACINGS = 20  # a symbol's usual spacing is the median of so many first ones

REPEATS_BARS, REPEATS_MIN_BARS, REPEATS_LIMIT = 250, 20, 0.2  # when opens that repeat the previous close are not real
SPLIT_RATIOS = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 100.0)
SPLIT_TOLERANCE = 0.035  # how far, relative to the ratio, a step may be from it
EXTREME_SIGMAS, SIGMA_BARS = 20.0, 100
PARTIAL_VOLUME = 0.25  # of the median of the twenty bars before
SHORT_HISTORY = 252
WEEKEND_SHARE = 0.2  # of a symbol's bars at weekends, from which on its market never closes (2 days of 7 are .29)

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed: info (done as asked), warning (look at it), error (a row was left out).

    `time` is the bar's close, of the first bar where a rule speaks of many; `value` what was found there;
    `line` the 1-based line of the file, or row of the frame.
    """

    severity: Severity
    symbol: str | None
    time: datetime | None
    rule: str
    value: object
    advice: str
    file: str | None = None
    line: int | None = None


def refuse_lacking(bars: pl.DataFrame) -> None:
    """Raises `BarsError` for a frame that lacks a column of Bars."""
    missing = [name for name in COLUMNS if name not in bars.columns]
    if missing:
        raise BarsError(
            f"this frame is no Bars frame: it has the columns {', '.join(bars.columns[:10]) or 'none'}, and lacks "
            f"{', '.join(missing)}. Read it with gatecast.read_bars."
        )


def make_bars(frame: pl.DataFrame) -> pl.DataFrame:
    """The canonical Bars frame from clean columns.

    In: `symbol`, `time` (the close, with a time zone), `open high low close`, and optionally `volume` (null
    where there is none), `asset_class` ("equity" where it is left out), `known_at` (the close where it is
    left out), `segment`, further numeric columns. Out: the columns of this module, sorted.

    A new segment starts after a gap longer than the class's limit, or than five times the symbol's usual
    spacing if that is longer (the median of its first twenty spacings, so that later bars never change
    earlier segments), and wherever a `segment` column that came in changes.

    Raises BarsError for a missing column, a time without zone, a price that is not finite and positive,
    high and low that do not enclose open and close, a negative volume, two rows at one time, an unknown
    class, a bar known before its close, a further column whose name begins with an underscore (helper columns
    do) or whose numbers lie beyond 1e-13 to 1e30.

    >>> from datetime import datetime, timezone
    >>> day = lambda d: datetime(2024, 1, d, 21, tzinfo=timezone.utc)
    >>> bars = make_bars(pl.DataFrame({
    ...     "symbol": ["A", "A", "A"], "time": [day(2), day(3), day(30)],
    ...     "open": [1.0, 2.0, 3.0], "high": [2.0, 3.0, 4.0],
    ...     "low": [1.0, 2.0, 3.0], "close": [2.0, 2.5, 3.5],
    ... }))
    >>> bars["segment"].to_list()
    [0, 0, 1]
    """
    missing = [name for name in ("symbol", "time", *PRICES) if name not in frame.columns]
    if missing:
        raise BarsError(
            f"bars need the columns symbol, time, open, high, low, close; missing: {', '.join(missing)};"
            f" found: {cut(', '.join(map(cut, frame.columns)), 500)}."
        )
    time_type = frame.schema["time"]
    if not isinstance(time_type, pl.Datetime) or time_type.time_zone is None:
        raise BarsError(
            f"the column time must be the bar's close with a time zone (Datetime[us, UTC]), got {time_type}."
            " Use .dt.replace_time_zone(...), or read_bars(..., timezone=...)."
        )
    further = [name for name in frame.columns if name not in COLUMNS]
    schema = frame.schema
    text = [name for name in further if not (schema[name].is_numeric() or schema[name] == pl.Boolean)]
    if text:
        raise BarsError(f"further columns must be numeric, these are not: {', '.join(text)}. Drop them.")

    ours = [name for name in further if name.startswith(INTERNAL)]
    if ours:
        raise BarsError(f"names that begin with {INTERNAL!r} are kept for helper columns: rename {', '.join(ours)}.")

    optional: list[pl.Expr] = []
    if "asset_class" not in frame.columns:
        optional.append(pl.lit("equity").alias("asset_class"))
    if "volume" not in frame.columns:
        optional.append(pl.lit(None, pl.Float64).alias("volume"))
    if "known_at" not in frame.columns:
        optional.append(pl.col("time").alias("known_at"))
    if "segment" not in frame.columns:
        optional.append(pl.lit(0, pl.Int32).alias("segment"))
    bars = (
        frame.with_columns(optional)
        .select(
            pl.col("symbol", "asset_class").cast(pl.String),
            pl.col("time").cast(UTC_TIME),
            pl.col(*PRICES, "volume", *further).cast(pl.Float64),
            pl.col("known_at").cast(UTC_TIME),
            pl.col("segment").cast(pl.Int32),
        )
        .with_columns(
            pl.col("volume", *further).fill_nan(None),
            pl.coalesce("known_at", "time").alias("known_at"),
        )
        .sort("symbol", "time", maintain_order=True)
    )
    _refuse_unsound(bars)
    for name in further:
        problem = odd_scale(bars[name])
        if problem:
            raise BarsError(f"the further column {name!r} {problem}")
    return _with_segments(bars).select(*COLUMNS, *further)


def odd_scale(values: pl.Series) -> str:
    """What is wrong with the scale of a further column, as the rest of a sentence with what to do; "" for nothing.

    Its largest finite number must be at most 1e30 in size and, where 20 numbers are not 0, at least 1e-13.

    >>> odd_scale(pl.Series([1e200, 1.0]))
    'reaches 1e+200, beyond 1e+30: divide it by a power of ten, or leave it out.'
    """
    sizes = values.abs().filter(values.is_finite() & (values != 0))
    largest = sizes.max()
    if not isinstance(largest, float):
        return ""
    if largest > FURTHER_LIMITS[1]:
        return f"reaches {largest:.3g}, beyond {FURTHER_LIMITS[1]:g}: divide it by a power of ten, or leave it out."
    if largest < FURTHER_LIMITS[0] and len(sizes) >= FURTHER_LEAST:
        return (
            f"reaches no more than {largest:.3g}, under {FURTHER_LIMITS[0]:g}: multiply it by a power of ten, or leave"
            " it out."
        )
    return ""


def _refuse_unsound(bars: pl.DataFrame) -> None:
    for name in bars["asset_class"].unique().to_list():
        asset_class(str(name))
    body_low, body_high = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    faults = {
        "symbol and time must not be missing": pl.any_horizontal(pl.col("symbol", "time").is_null()),
        "prices must be finite and positive": ~pl.all_horizontal(
            (pl.col(PRICES).is_finite() & (pl.col(PRICES) > 0)).fill_null(False)
        ),
        "high and low must enclose open and close": (pl.col("low") > body_low) | (pl.col("high") < body_high),
        "volume must not be negative": pl.col("volume") < 0,
        "a bar cannot be known before it closes": pl.col("known_at") < pl.col("time"),
        "one symbol has two bars at one time": (pl.col("time") == pl.col("time").shift())
        & (pl.col("symbol") == pl.col("symbol").shift()),
    }
    for rule, fault in faults.items():
        bad = bars.filter(fault)
        if bad.height:
            raise BarsError(
                f"{rule}; {bad.height} of {bars.height} bars do not, the first: {bad.row(0, named=True)}."
                " Clean the rows, or let read_bars do it."
            )


def _with_segments(bars: pl.DataFrame) -> pl.DataFrame:
    """Number the segments of each symbol anew, from 0; `bars` must be sorted."""
    limit = pl.col("asset_class").replace_strict(
        {name: known.gap_limit for name, known in ASSET_CLASSES.items()}, return_dtype=pl.Duration("us")
    )
    spacing = pl.col("time").diff().over("symbol")
    usual = pl.col("time").head(USUAL_SPACINGS + 1).diff().quantile(0.5, "lower").over("symbol")
    starts = (spacing > pl.max_horizontal(limit, usual * 5)) | (pl.col("segment").diff().over("symbol") != 0)
    return bars.with_columns(starts.fill_null(False).cum_sum().over("symbol").cast(pl.Int32).alias("segment"))


def runs_of(*names: str) -> pl.Expr:
    """Columns of rows in order -> a number, 0, 1, ..., for each run of rows that are alike in them.

    Over it a window is made several times as fast as over the columns themselves: the key is known to ascend.

    >>> frame = pl.DataFrame({"symbol": ["A", "A", "B"], "segment": [0, 1, 1]})
    >>> frame.select(runs_of("symbol", "segment"))["symbol"].to_list()
    [0, 1, 2]
    """
    return pl.struct(*names).rle_id().set_sorted().alias(names[0])


@overload
def session_date(time: pl.Expr) -> pl.Expr: ...
@overload
def session_date(time: NDArray[np.datetime64]) -> NDArray[np.datetime64]: ...
def session_date(time: pl.Expr | NDArray[np.datetime64]) -> pl.Expr | NDArray[np.datetime64]:
    """The session that a bar closing at `time` (UTC) belongs to: the date one microsecond before the close.

    A coin's bar that closes at 00:00 belongs to the day before. A Polars expression of times gives one of
    dates, an array datetime64[us] one of datetime64[D].

    >>> closes = np.array(["2024-01-03T00:00", "2024-01-03T21:00"], "datetime64[us]")
    >>> session_date(closes).astype(str).tolist()
    ['2024-01-02', '2024-01-03']
    """
    if isinstance(time, pl.Expr):
        return (time - pl.duration(microseconds=1)).dt.date()
    return (time.astype("datetime64[us]") - np.timedelta64(1, "us")).astype("datetime64[D]")


def session_of(time: datetime) -> date:
    """The `session_date` of one close (UTC)."""
    return (time - timedelta(microseconds=1)).date()


def distinct(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """(n,) times without NaT -> those that there are, ascending: as `numpy.unique`, in half of its time.

    >>> distinct(np.array(["2024-01-05", "2024-01-02", "2024-01-05"], "datetime64[D]")).astype(str).tolist()
    ['2024-01-02', '2024-01-05']
    """
    ordered = np.sort(times.view(np.int64))
    found: NDArray[np.datetime64] = ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0].view(times.dtype)
    return found


def numbered_days(dates: NDArray[np.datetime64]) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """Dates of any shape -> those that there are, in order, and the place of each among them; -1 where it is NaT.

    As `numpy.unique` with its inverse, but counted and not sorted.

    >>> days, place = numbered_days(np.array(["2024-01-05", "NaT", "2024-01-02", "2024-01-05"], "datetime64[D]"))
    >>> days.astype(str).tolist(), place.tolist()
    (['2024-01-02', '2024-01-05'], [1, -1, 0, 1])
    """
    there, number = ~np.isnat(dates), dates.astype("datetime64[D]").astype(np.int64)
    known = number[there]
    first = known.min() if known.size else 0
    found = np.bincount(known - first) > 0
    place = np.full(dates.shape, -1)
    place[there] = (np.cumsum(found) - 1)[known - first]
    return (np.flatnonzero(found) + first).astype("datetime64[D]"), place


def as_of(bars: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """The bars as they were known at `moment` (with a time zone): rows with `known_at` not later than it.

    `bars` needs the columns of `make_bars` and may hold several versions of one symbol and time, which
    `make_bars` refuses: of those the one known last at `moment` counts.
    """
    moment = as_utc(moment, "moment")
    return make_bars(newest_known(bars.filter(pl.col("known_at") <= moment)))


def newest_known(rows: pl.DataFrame) -> pl.DataFrame:
    """Of several versions of one symbol and time the one with the latest `known_at`."""
    ordered = rows.sort("known_at", maintain_order=True)
    return ordered.unique(["symbol", "time"], keep="last", maintain_order=True)


def without_idle(bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars without the sessions in which nothing was traded, and of each symbol that had some: how many, which.

    In: symbol, time, open, high, low, close, volume, sorted by symbol and time; optionally `traded` (0: nothing was)
    and `suspended` (1: nothing was). Out: the rows kept, and a frame with symbol, bars, first, last (closes, UTC).

    A row is idle where it is marked so, and where its range is 0, its close that of the symbol's row before (of those
    not marked) and its volume 0 or null: the price is a copy, no observation. Only the row and the row before decide,
    and doing it twice changes nothing. A symbol of which but one row without range and volume would be left has none.

    >>> from datetime import datetime, timezone
    >>> price, volume = [1.0, 1.1, 1.1, 1.2], [5.0, 6.0, 0.0, 7.0]
    >>> frame = pl.DataFrame({
    ...     "symbol": "A", "time": [datetime(2024, 1, day, 21, tzinfo=timezone.utc) for day in (2, 3, 4, 5)],
    ...     "open": price, "high": price, "low": price, "close": price, "volume": volume,
    ... })
    >>> kept, counts = without_idle(make_bars(frame))
    >>> kept["close"].to_list(), counts["bars"].to_list()
    ([1.0, 1.1, 1.2], [1])
    """
    marked = pl.lit(False)
    if "traded" in bars.columns:
        marked |= (pl.col("traded") == 0).fill_null(False)
    if "suspended" in bars.columns:
        marked |= (pl.col("suspended") == 1).fill_null(False)
    table = bars.with_columns(marked.alias("_marked"))
    previous = table.filter(~pl.col("_marked")).with_columns(pl.col("close").shift().over("symbol").alias("_before"))
    still = (pl.col("high") == pl.col("low")) & (pl.col("volume").is_null() | (pl.col("volume") == 0))
    copied = previous.select("symbol", "time", (still & (pl.col("close") == pl.col("_before"))).alias("_copied"))
    table = table.join(copied, on=["symbol", "time"], how="left", maintain_order="left")
    idle = pl.col("_marked") | pl.col("_copied").fill_null(False)
    table = table.with_columns(idle.alias("_idle"), still.alias("_still"))
    only = (~pl.col("_idle")).sum().over("symbol") == 1
    dead = only & pl.col("_idle").any().over("symbol") & (pl.col("_still") & ~pl.col("_idle")).any().over("symbol")
    table = table.with_columns((pl.col("_idle") | dead).alias("_idle"))
    counts = (
        table.filter("_idle")
        .group_by("symbol", maintain_order=True)
        .agg(pl.len().alias("bars"), pl.col("time").first().alias("first"), pl.col("time").last().alias("last"))
    )
    return table.filter(~pl.col("_idle")).select(bars.columns), counts


def resample(bars: pl.DataFrame, every: str) -> pl.DataFrame:
    """Coarser bars, each stamped with the close of its last bar: `every` is "4h", "1d", "1w", "1mo", ...

    Periods below a day are cut on the UTC clock, the others by session date, where a weekend belongs to the
    Monday after it (not for crypto); none crosses a segment. Volume is summed, further columns keep their
    last value, `known_at` is the latest of the parts. A symbol's last period is left out while it is
    unfinished: until a bar of a later period has come or its end has passed (for daily bars: its last
    weekday).

    Raises BarsError when `every` is not a whole number of m, h, d, w, mo, q or y, or longer than ten years.

    >>> from datetime import timedelta, timezone
    >>> monday = datetime(2024, 1, 1, 21, tzinfo=timezone.utc)
    >>> price = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 7.0]
    >>> days = make_bars(pl.DataFrame({
    ...     "symbol": "A", "time": [monday + timedelta(days=n) for n in (0, 1, 2, 3, 4, 7, 8)],
    ...     "open": price, "high": price, "low": price, "close": price,
    ... }))
    >>> resample(days, "1w").select("open", "high", "low", "close").rows()
    [(1.0, 5.0, 1.0, 4.0)]
    """
    unit = period_unit(every)
    time, day = pl.col("time"), _working_day()
    if unit in ("m", "h"):
        period = (time - pl.duration(microseconds=1)).dt.truncate(every)
        over = time >= period.dt.offset_by(every)
    else:
        period = day.dt.truncate(every)
        end = period.dt.offset_by(every)
        daily = time.diff().min().over("symbol") >= pl.duration(hours=20)
        next_weekday = session_date(time).dt.add_business_days(1, roll="backward")
        over = (time.dt.date() >= end) | (daily & (next_weekday >= end) & ~_every_day())
    volume = pl.when(pl.col("volume").count() > 0).then(pl.col("volume").sum())
    coarse = (
        bars.with_columns(period.alias("_period"), over.fill_null(False).alias("_over"))
        .group_by("symbol", "segment", "_period", maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            volume.alias("volume"),
            pl.col("known_at").max(),
            pl.col("asset_class", "time", "close", "_over", *bars.columns[len(COLUMNS) :]).last(),
        )
    )
    is_last = time == time.max().over("symbol")
    return make_bars(coarse.filter(~is_last | pl.col("_over")).drop("_period", "_over"))


def _every_day() -> pl.Expr:
    return pl.col("asset_class").is_in([name for name, known in ASSET_CLASSES.items() if known.periods_per_year == 365])


def _working_day() -> pl.Expr:
    """The session date; a weekend's, where weekends are not traded, is the Monday after it."""
    day = session_date(pl.col("time"))
    return pl.when(_every_day()).then(day).otherwise(day.dt.add_business_days(0, roll="forward"))


def _open_repeats() -> pl.Expr:
    """Whether a bar's open is the close before; of the bars of one symbol."""
    return (pl.col("open") == pl.col("close").shift()).fill_null(False)


def open_fills(bars: pl.DataFrame) -> NDArray[np.bool_]:
    """(bars,) whether an order decided at the close before is filled at this bar's open; else at its close.

    An order is filled at the open where opens are prices of their own: where at most a fifth of the opens of the
    symbol's 250 bars before this one repeat the close before them (the S&P 500 index: 95-100 % in 1999-2005).
    With fewer than 20 bars before it the open is taken for real, unless all bars so far are closes alone, without a
    range: their open is no price of its own either. Later bars change nothing. `bars` sorted by
    symbol and time.

    >>> from gatecast.market import synthetic
    >>> bool(open_fills(synthetic.a1(300, seed=1)).all())
    True
    """
    real = bars.select(_opens_real_so_far().shift().over("symbol").fill_null(True).alias("real"))["real"]
    return np.asarray(real.to_numpy(), np.bool_)


def opens_are_real(bars: pl.DataFrame) -> dict[str, bool]:
    """symbol -> whether an order decided at its newest close will be filled at an open, see `open_fills`."""
    real = bars.select("symbol", real=_opens_real_so_far().over("symbol"))
    return dict(real.group_by("symbol", maintain_order=True).agg(pl.col("real").last()).iter_rows())


def _opens_real_so_far() -> pl.Expr:
    """Whether at most a fifth of the opens of a symbol's last 250 bars, this one included, repeat the close before, and
    not all of these bars are closes alone."""
    share = _open_repeats().cast(pl.Float64).rolling_mean(REPEATS_BARS, min_samples=REPEATS_MIN_BARS)
    alone = (pl.col("high") == pl.col("low")).cast(pl.Int32).rolling_min(REPEATS_BARS, min_samples=1) == 1
    return (share <= REPEATS_LIMIT + 1e-9).fill_null(True) & ~alone


def split_ratio() -> pl.Expr:
    """The split ratio (2 = two for one, 0.5 = one for two) that the step onto each bar looks like, else null.

    The step is from the previous close to the open (to the close where the open repeats it), and has to
    last to the close. Only equities and etfs split. The bars must be sorted.
    """
    previous = pl.col("close").shift().over("symbol", "segment")
    step = previous / pl.when(pl.col("open") == previous).then("close").otherwise("open")
    lasts = (previous / pl.col("close")).log() / step.log() > 0.7
    nearest = pl.lit(None, pl.Float64)
    for ratio in (*SPLIT_RATIOS, *(1 / ratio for ratio in SPLIT_RATIOS)):
        nearest = pl.when((step / ratio - 1).abs() < SPLIT_TOLERANCE).then(ratio).otherwise(nearest)
    return pl.when(lasts & pl.col("asset_class").is_in(["equity", "etf"])).then(nearest)


def findings(bars: pl.DataFrame) -> list[Finding]:
    """What is odd in bars that are sound: nothing is changed.

    One finding per bar: `extreme` (a log return beyond 20 standard deviations of the hundred before it),
    `gap`, `level_jump` (a price several times another across a gap: another instrument under the symbol?),
    `split` (the step looks like an unadjusted split). One per symbol, with the first time and the number of
    bars: `flat`, `zero_volume`, `volume_missing`, `weekend`, `open_repeats_close`, `late` (known after the
    close), `partial_last`, `short_history`.
    """
    over = ("symbol", "segment")
    ret = _log_return("close").over(over)
    previous = pl.col("close").shift().over("symbol")
    volume = pl.col("volume")
    table = (
        bars.select(COLUMNS)
        .with_columns(ret.alias("ret"), (pl.col("close") / previous).alias("jump"))
        .with_columns(
            pl.col("ret").rolling_std(SIGMA_BARS, min_samples=20).shift().over(over).alias("sigma"),
            (pl.col("segment").diff().over("symbol") != 0).fill_null(False).alias("gap"),
            pl.col("time").diff().over("symbol").alias("spacing"),
            split_ratio().alias("split"),
        )
    )
    new_level = pl.col("gap") & (pl.col("jump").log().abs() > np.log(3))
    sigmas = pl.col("ret").abs() / pl.col("sigma")
    per_bar: list[tuple[Severity, str, pl.Expr, pl.Expr, str]] = [
        (
            "warning",
            "extreme",
            (sigmas > EXTREME_SIGMAS) & sigmas.is_not_nan(),  # 0 / 0 of a price that stands still
            pl.col("ret").exp() - 1,
            "A simple return beyond 20 standard deviations: compare with a second source.",
        ),
        (
            "warning",
            "gap",
            pl.col("gap"),
            pl.col("spacing").dt.total_seconds() / 86400,
            "Days since the bar before: a new segment starts, nothing is computed across it.",
        ),
        (
            "warning",
            "level_jump",
            new_level,
            pl.col("jump"),
            "The price is this multiple of the one before the gap: another instrument under the symbol?"
            " Cut with start= or end=, or rename one part.",
        ),
        (
            "warning",
            "split",
            pl.col("split").is_not_null(),
            pl.col("split"),
            "Looks like an unadjusted split of this ratio: give a table of splits.",
        ),
    ]
    found: list[Finding] = []
    for severity, rule, fault, value, advice in per_bar:
        rows = table.filter(fault.fill_null(False)).select("symbol", "time", value.alias("value"))
        found += [Finding(severity, symbol, time, rule, amount, advice) for symbol, time, amount in rows.iter_rows()]

    no_volume = volume.is_null().all().over("symbol")
    usual = volume.rolling_median(20).shift().over("symbol")
    last = pl.col("time") == pl.col("time").max().over("symbol")
    at_weekend = session_date(pl.col("time")).dt.weekday() > 5
    never_closes = (at_weekend.mean() >= WEEKEND_SHARE).over("symbol")
    weekend = at_weekend & ~_every_day()
    table = table.with_columns(at_open=pl.Series(open_fills(bars)))
    per_symbol: list[tuple[Severity, str, pl.Expr, str]] = [
        (
            "info",
            "flat",
            pl.col("high") == pl.col("low"),
            "Bars without a range: range volatility is 0 there.",
        ),
        ("info", "zero_volume", volume == 0, "Bars without trades: fills there are doubtful."),
        ("info", "volume_missing", volume.is_null(), "Volume features are left out where a symbol has none."),
        ("warning", "volume_gaps", volume.is_null() & ~no_volume, "Volume is missing on some bars only."),
        ("warning", "weekend", weekend & ~never_closes, "Short weekend bars; resample='1d' joins them to Monday."),
        (
            "warning",
            "weekend",
            weekend & never_closes,
            "As many bars at weekends as on other days: a market that never closes, such as a coin, in a class that"
            " does. Give its class: asset_class='crypto', or a symbols file.",
        ),
        (
            "warning",
            "open_repeats_close",
            ~pl.col("at_open"),
            "Opens before these bars are no prices of their own (the close before, or closes alone): orders are"
            " filled at these bars' closes.",
        ),
        (
            "info",
            "late",
            pl.col("known_at") > pl.col("time"),
            "Known only after the close; as_of= reads what was known.",
        ),
        (
            "warning",
            "partial_last",
            last & (volume < PARTIAL_VOLUME * usual),
            "The last bar has little volume: unfinished? Cut it with end=.",
        ),
        (
            "warning",
            "short_history",
            pl.len().over("symbol") < SHORT_HISTORY,
            "Under 252 bars: too few to fit and judge a model.",
        ),
    ]
    for severity, rule, fault, advice in per_symbol:
        rows = table.filter(fault.fill_null(False))
        counted = rows.group_by("symbol", maintain_order=True).agg(pl.col("time").first(), pl.len())
        found += [Finding(severity, symbol, time, rule, count, advice) for symbol, time, count in counted.iter_rows()]
    return found


def _log_return(name: str) -> pl.Expr:
    return (pl.col(name) / pl.col(name).shift()).log()


def compare_levels(bars: pl.DataFrame, reference: pl.DataFrame) -> list[Finding]:
    """Whether the closes are those of the same symbol in other bars, by session date.

    A finding `other_level` where the median close is more than 5 % off (value: the ratio), one
    `other_moves` where log returns correlate below 0.5 (value: the correlation), one `no_reference` where
    no session is common to both.
    """
    day = session_date(pl.col("time")).alias("day")
    theirs = reference.group_by("symbol", day).agg(pl.col("close").last().alias("theirs"))
    ours = bars.group_by("symbol", day, maintain_order=True).agg(pl.col("time", "close").last())
    pairs = ours.join(theirs, on=["symbol", "day"], how="left", maintain_order="left")
    compared = pairs.group_by("symbol", maintain_order=True).agg(
        pl.col("time").first(),
        (pl.col("close") / pl.col("theirs")).median().alias("ratio"),
        pl.corr(_log_return("close"), _log_return("theirs")).alias("correlation"),
    )
    found: list[Finding] = []
    for symbol, time, ratio, correlation in compared.iter_rows():
        if ratio is None:
            found.append(Finding("warning", symbol, time, "no_reference", None, "The reference has no such session."))
        elif abs(np.log(ratio)) > np.log(1.05):
            found.append(
                Finding(
                    "warning",
                    symbol,
                    time,
                    "other_level",
                    ratio,
                    "Closes are this multiple of the reference: another instrument or adjustment?",
                )
            )
        if correlation is not None and correlation < 0.5:
            found.append(
                Finding(
                    "warning",
                    symbol,
                    time,
                    "other_moves",
                    correlation,
                    "Returns hardly correlate with the reference: another instrument?",
                )
            )
    return found
