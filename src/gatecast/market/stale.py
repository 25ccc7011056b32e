"""Stale prices: bars -> symbols whose closes are stale, smoothed or bouncing, compared with their class.

An appraisal or a fund price is a mean of old prices, a price without trades repeats the last one, a last trade is now
at the bid and now at the ask. All three make returns that forecast the next ones on paper alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.market.bars import Finding
from gatecast.market.calendar import bars_per_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LEAST = 250  # returns, before a symbol is judged
MIN_STANDARD_ERRORS = 4.0  # robust standard errors that an autocorrelation must lie beyond 0
LONGEST = 10  # bars over which prices may be smoothed
VARIANCE_RATIO_BARS = 5
REPEATED = 0.05  # share of bars with the high and low of the bar before, beyond which ranges are not the bars' own
INTRADAY_UNCHANGED = 3.0  # an hour's price stands still more often than a day's


@dataclass(frozen=True)
class Norm:
    """What is usual of a class's daily closes: share that repeat the one before, and first autocorrelations."""

    unchanged: float
    low: float
    high: float


NORMS: dict[str, Norm] = {
    "index": Norm(0.01, -0.15, 0.20),
    "etf": Norm(0.03, -0.15, 0.10),
    "equity": Norm(0.05, -0.15, 0.15),
    "future": Norm(0.05, -0.10, 0.10),
    "commodity": Norm(0.05, -0.15, 0.10),
    "metal": Norm(0.03, -0.15, 0.10),
    "fx": Norm(0.03, -0.10, 0.10),
    "crypto": Norm(0.01, -0.15, 0.10),
}
"""Assumptions, rounded up from what daily closes of liquid symbols show.

Shares repeat a close on 1 to 2 % of days since prices are in cents, indices and coins hardly ever. Autocorrelations of
a day lie within .1 of 0, those of indices with many small shares and of the years before 1990 up to .2 (Campbell, Lo
and MacKinlay, 1997, chapter 2), those of reversals and wide spreads down to -.15. Within them nothing is said. Of 61
daily symbols of seven classes none lies beyond.
"""


@dataclass(frozen=True)
class Texture:
    """How the closes of one symbol move.

    `unchanged`: share that repeat the one before; `autocorrelation`: of returns a bar apart, `statistic` its robust
    z; `variance_ratio`: variance of 5-bar returns over five times that of one bar's, `ratio_statistic` its z;
    `span`: bars after the first over which returns still go together, 0 where they do not; `n`: returns.
    """

    symbol: str
    unchanged: float
    autocorrelation: float
    statistic: float
    variance_ratio: float
    ratio_statistic: float
    span: int
    n: int


def variance_ratio(returns: FloatArray, bars: int) -> tuple[float, float]:
    """Variance of returns over so many bars over that many times the variance of one, and its z for any variance.

    In: (n,) log returns. Out: 1 and about N(0, 1) for a random walk; above 1 where returns go on, below where they
    turn. For two bars the ratio is 1 plus the first autocorrelation. NaN where nothing moves or fewer than four spans
    fit.

    References
    ----------
    Lo and MacKinlay (1988), Review of Financial Studies 1.

    >>> draws = np.random.default_rng(0).standard_normal(2000)
    >>> ratio, z = variance_ratio(np.convolve(draws, (0.6, 0.4), "valid"), 2)
    >>> round(ratio, 1), z > 10
    (1.5, True)
    """
    n = len(returns)
    centred = returns - returns.mean() if n else returns
    total = float(centred @ centred)
    if n < 4 * bars or total <= 0:
        return float("nan"), float("nan")
    sums = np.convolve(centred, np.ones(bars), "valid")
    count = bars * (n - bars + 1) * (1 - bars / n)
    ratio = float(sums @ sums) / count / (total / (n - 1))
    variance = sum(
        (2 * (bars - lag) / bars) ** 2 * float((centred[lag:] ** 2) @ (centred[:-lag] ** 2)) / total**2
        for lag in range(1, bars)
    )
    return ratio, (ratio - 1) / float(np.sqrt(variance)) if variance > 0 else float("nan")


def texture(bars: pl.DataFrame) -> list[Texture]:
    """How the closes of each symbol move; symbols with fewer than 250 returns are left out.

    `bars`: Bars, sorted by symbol and time. Returns over gaps, and bars without a trade (no volume and no range), do
    not count.
    """
    close = pl.col("close")
    idle = (pl.col("volume") == 0) & (pl.col("high") == pl.col("low"))
    step = close.log().diff().over("symbol", "segment")
    frame = bars.select("symbol", r=pl.when(~idle.fill_null(False)).then(step)).drop_nulls()
    return [
        _texture_of(str(name[0]), part["r"].to_numpy())
        for name, part in frame.group_by("symbol", maintain_order=True)
        if len(part) >= LEAST
    ]


def _texture_of(symbol: str, returns: FloatArray) -> Texture:
    ratio, ratio_z = variance_ratio(returns, VARIANCE_RATIO_BARS)
    two, z = variance_ratio(returns, 2)
    unchanged = float(np.mean(returns == 0))
    return Texture(symbol, unchanged, two - 1, z, ratio, ratio_z, _span(returns), len(returns))


def _span(returns: FloatArray) -> int:
    """How many lags in a row have an autocorrelation above 0 by four robust standard errors, at most ten."""
    centred = returns - returns.mean()
    for lag in range(1, LONGEST + 1):
        product = centred[lag:] * centred[:-lag]
        error = float(np.sqrt(product @ product))
        if error <= 0 or product.sum() <= MIN_STANDARD_ERRORS * error:
            return lag - 1
    return LONGEST


def untradable(bars: pl.DataFrame) -> dict[str, tuple[Texture, str]]:
    """Symbols whose closes nobody can trade as they stand, with how they move and why: "stale", "smoothed", "bouncing".

    Stale: more closes repeat the one before than in the class, three times as many for intraday bars. Smoothed,
    bouncing: the first autocorrelation lies beyond the class's norm and four robust standard errors from 0. `bars`:
    Bars, sorted by symbol and time.
    """
    classes = dict(bars.select("symbol", "asset_class").unique().iter_rows())
    intraday = bars_per_session(bars) > 1
    found = {}
    for one in texture(bars):
        norm = NORMS[classes[one.symbol]]
        more = INTRADAY_UNCHANGED if intraday else 1.0
        surely = one.unchanged - norm.unchanged * more > MIN_STANDARD_ERRORS * np.sqrt(norm.unchanged * more / one.n)
        if surely:
            found[one.symbol] = (one, "stale")
        elif one.autocorrelation > norm.high and one.statistic > MIN_STANDARD_ERRORS:
            found[one.symbol] = (one, "smoothed")
        elif one.autocorrelation < norm.low and one.statistic < -MIN_STANDARD_ERRORS:
            found[one.symbol] = (one, "bouncing")
    return found


def repeated_ranges(bars: pl.DataFrame) -> dict[str, float]:
    """Symbols of which more than 5 % of bars repeat the high and low of the bar before, not its close; and that share.

    A week's high and low on each of its days make a range that its first day could not know. Bars without a range,
    and those without a trade, do not count, nor do symbols whose usual range is under twenty of their smallest steps:
    there both repeat by chance. `bars`: Bars, sorted by symbol and time.
    """
    high, low = pl.col("high"), pl.col("low")
    group = ("symbol", "segment")
    same = {name: pl.col(name) == pl.col(name).shift(1).over(group) for name in ("high", "low", "close")}
    repeats = same["high"] & same["low"] & ~same["close"]
    ranged = bars.with_columns(repeats=repeats).filter((high > low) & (pl.col("volume") != 0).fill_null(True))
    shares = (
        ranged.group_by("symbol", maintain_order=True)
        .agg(
            share=pl.col("repeats").mean(),
            n=pl.len(),
            range=(high - low).median(),
            step=high.unique().sort().diff().drop_nulls().min(),
        )
        .filter(pl.col("n") >= LEAST, pl.col("share") > REPEATED, pl.col("range") >= 20 * pl.col("step"))
    )
    return dict(shares.select("symbol", "share").iter_rows())


def stale_prices(bars: pl.DataFrame) -> list[Finding]:
    """One warning a symbol whose closes are stale, smoothed or bouncing, or whose highs and lows repeat.

    The rules are those of `untradable` and `repeated_ranges`.

    >>> from gatecast.market import synthetic
    >>> stale_prices(synthetic.a1(600, seed=1))
    []
    """
    return [
        Finding("warning", symbol, _first(bars, symbol), f"{kind}_prices", *_words(kind, one))
        for symbol, (one, kind) in untradable(bars).items()
    ] + [
        Finding(
            "warning", symbol, _first(bars, symbol), "repeated_ranges", round(share, 4),
            f"High and low are those of the bar before on {share:.0%} of bars: they belong to several bars, and the "
            "first of these could not know them. Volatility and turbulence cannot be judged. Give each bar its own.",
        )
        for symbol, share in repeated_ranges(bars).items()
    ]  # fmt: skip


def _first(bars: pl.DataFrame, symbol: str) -> Any:
    return bars.filter(pl.col("symbol") == symbol)["time"].min()


def _words(kind: str, one: Texture) -> tuple[float, str]:
    """The number that is out of the class's norm, and what it means."""
    moves = (
        f"first autocorrelation of returns {one.autocorrelation:+.2f}, variance ratio over "
        f"{VARIANCE_RATIO_BARS} bars {one.variance_ratio:.2f}, {one.unchanged:.1%} of closes unchanged"
    )
    means = {
        "stale": "Many closes repeat the one before: old prices, at which nobody trades.",
        "smoothed": "Prices look smoothed (appraisals, fund prices, means): they can be forecast and not traded.",
        "bouncing": "Prices bounce, as between bid and ask: the reversal is the spread and cannot be earned.",
    }
    value = one.unchanged if kind == "stale" else one.autocorrelation
    return round(value, 4), f"{means[kind]} {moves[0].upper() + moves[1:]}. Look at the verdicts one bar later."
