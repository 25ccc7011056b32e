"""Stale, smoothed and bouncing prices are told apart, and clean ones are not named."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from gatecast.market import synthetic
from gatecast.market.bars import PRICES, make_bars
from gatecast.market.sources import read_bars
from gatecast.market.stale import repeated_ranges, stale_prices, texture, untradable, variance_ratio

Array = np.ndarray


def bars_of(closes: Array, asset_class: str = "index") -> pl.DataFrame:
    """Daily bars with these closes and narrow ranges around them."""
    days = np.busday_offset("2010-01-04", np.arange(len(closes))).astype("datetime64[us]") + np.timedelta64(21, "h")
    return make_bars(
        pl.DataFrame(
            {
                "symbol": "X", "asset_class": asset_class, "time": pl.Series(days).dt.replace_time_zone("UTC"),
                "open": closes, "high": closes * 1.001, "low": closes * 0.999, "close": closes, "volume": 1e6,
            }
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def returns() -> Array:
    return 0.01 * np.random.default_rng(0).standard_normal(1500)


@pytest.mark.parametrize("bars", [2, 5, 10])
def test_the_variance_ratio_is_that_of_arch(bars: int) -> None:
    from arch.unitroot import VarianceRatio

    draws = np.random.default_rng(bars).standard_t(4, 900) * 0.01 + 0.001
    known = VarianceRatio(np.r_[0.0, np.cumsum(draws)], lags=bars, robust=True, debiased=True)
    assert variance_ratio(draws, bars) == pytest.approx((known.vr, known.stat), rel=1e-9)


def test_smoothed_prices_and_how_far_they_reach(returns: Array) -> None:
    smooth = np.convolve(returns, (0.5, 0.3, 0.2))[: len(returns)]
    (one, kind) = untradable(bars_of(100 * np.exp(np.cumsum(smooth))))["X"]
    assert kind == "smoothed"
    assert one.autocorrelation == pytest.approx((0.5 * 0.3 + 0.3 * 0.2) / (0.25 + 0.09 + 0.04), abs=0.06)
    assert one.span == 2


def test_bouncing_prices(returns: Array) -> None:
    side = np.random.default_rng(1).choice([-1, 1], len(returns))
    (one, kind) = untradable(bars_of(100 * np.exp(np.cumsum(returns) + 0.006 * side)))["X"]
    assert kind == "bouncing"
    assert one.autocorrelation == pytest.approx(-(0.006**2) / (0.01**2 + 2 * 0.006**2), abs=0.06)  # Roll (1984)


def test_stale_prices(returns: Array) -> None:
    closes = 100 * np.exp(np.cumsum(returns))
    kept = np.maximum.accumulate(
        np.where(np.random.default_rng(2).random(len(closes)) < 0.7, np.arange(len(closes)), 0)
    )
    (one, kind) = untradable(bars_of(closes[kept]))["X"]
    assert kind == "stale"
    assert one.unchanged == pytest.approx(0.3, abs=0.04)
    (finding,) = stale_prices(bars_of(closes[kept]))
    assert (finding.severity, finding.rule) == ("warning", "stale_prices")


def test_a_class_has_its_own_norm(returns: Array) -> None:
    smooth = np.convolve(returns, (0.87, 0.13))[: len(returns)]
    closes = 100 * np.exp(np.cumsum(smooth))
    assert texture(bars_of(closes))[0].autocorrelation == pytest.approx(0.146, abs=0.06)
    assert untradable(bars_of(closes, "index")) == {}  # an index of many small shares
    assert untradable(bars_of(closes, "fx"))["X"][1] == "smoothed"


def test_clean_markets_are_not_named() -> None:
    markets = [*(synthetic.a1(1000, seed) for seed in range(10)), *(synthetic.a2(1000, seed) for seed in range(10))]
    assert [stale_prices(bars) for bars in (*markets, read_bars("embedded"))] == [[]] * 21


def test_bars_without_a_trade_do_not_count(returns: Array) -> None:
    bars = bars_of(100 * np.exp(np.cumsum(returns)))
    idle = pl.int_range(pl.len()).is_between(700, 899)
    price = bars["close"][700]
    stopped = bars.with_columns(
        *(pl.when(idle).then(price).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")),
        volume=pl.when(idle).then(0.0).otherwise("volume"),
    )
    assert untradable(stopped) == {}


def with_ranges(bars: pl.DataFrame, days: int) -> pl.DataFrame:
    """Bars whose high and low are those of blocks of so many bars."""
    block = pl.int_range(pl.len()) // days
    return bars.with_columns(pl.col("high").max().over(block), pl.col("low").min().over(block))


def test_highs_and_lows_of_several_bars_are_named() -> None:
    bars = synthetic.a1(1000, seed=2)
    assert repeated_ranges(bars) == {}
    assert repeated_ranges(with_ranges(bars, 5)) == {bars["symbol"][0]: pytest.approx(0.8, abs=0.005)}
    assert [one.rule for one in stale_prices(with_ranges(bars, 5))] == ["repeated_ranges"]


def test_coarse_ticks_repeat_by_chance_and_are_not_named() -> None:
    bars = synthetic.a1(1000, seed=2)
    tick = 0.02 * float(bars["close"].mean())  # type: ignore[arg-type]
    coarse = bars.with_columns((pl.col(name) / tick).round() * tick for name in PRICES)
    pair = (coarse["high"].diff() == 0) & (coarse["low"].diff() == 0) & (coarse["high"] > coarse["low"])
    assert pair.mean() > 0.05  # type: ignore[operator]
    assert repeated_ranges(coarse) == {}
