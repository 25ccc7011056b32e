"""Targets by the formula, known at the right close, inside their segment, and windows that are views."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.errors import SettingsError
from gatecast.market import synthetic
from gatecast.market.bars import PRICES, make_bars
from gatecast.samples.targets import came_after, columns_of, decode, encode, expanding_level, make_targets
from gatecast.samples.windows import Samples, make_samples


def test_answers_are_the_formulas(market: pl.DataFrame) -> None:
    bars = market.filter(pl.col("symbol") == market["symbol"][0])
    targets, facts = make_targets(bars, horizon=4)
    logs = np.log(bars["close"].to_numpy())
    high, low, open_ = (np.log(bars[name].to_numpy()) for name in ("high", "low", "open"))
    garman_klass = 0.5 * (high - low) ** 2 - (2 * np.log(2) - 1) * (logs - open_) ** 2
    for row in (100, 777, len(bars) - 5):
        np.testing.assert_allclose(targets["return"].value[row], logs[row + 1 : row + 5] - logs[row], rtol=1e-9)
        assert targets["direction"].value[row] == (logs[row + 4] > logs[row])
        expected = np.log(garman_klass[row + 1 : row + 5].sum())
        assert targets["volatility"].value[row] == pytest.approx(expected, rel=1e-9)
        assert targets["return"].known_at[row] == bars["time"][row + 4].replace(tzinfo=None)
    assert np.isnan(targets["direction"].value[-4:]).all()
    assert np.isnat(targets["return"].known_at[-4:]).all()
    returns = np.diff(logs)
    assert facts.ratio[900] == pytest.approx((returns[:900] ** 2).sum() / garman_klass[1:901].sum(), rel=1e-9)


def _moved(bars: pl.DataFrame, row: int, days: int) -> pl.DataFrame:
    """The bars from a row on, so many days later."""
    late = pl.when(pl.int_range(pl.len()) >= row).then(timedelta(days=days)).otherwise(timedelta())
    return make_bars(bars.drop("segment").with_columns(pl.col("time", "known_at") + late))


def test_an_answer_goes_on_over_a_halt_and_is_known_at_the_reopening() -> None:
    bars = _moved(synthetic.a1(400, seed=2), 200, 28)
    targets, facts = make_targets(bars, horizon=5)
    logs = np.log(bars["close"].to_numpy())
    for row in range(190, 205):
        np.testing.assert_allclose(targets["return"].value[row], logs[row + 1 : row + 6] - logs[row], rtol=1e-9)
        assert targets["return"].known_at[row] == bars["time"][row + 5].replace(tzinfo=None)
    assert np.isfinite(targets["volatility"].value[195:200]).all()
    assert np.isnan(facts.sigma[200:221]).all()
    samples = make_samples(bars, ("ret_log_1",))["index"]
    assert not np.isin(np.arange(200, 200 + 29), samples.ends).any()


def test_an_answer_over_a_halt_is_measured_in_the_sessions_that_it_spans() -> None:
    bars = _moved(synthetic.a1(400, seed=2), 200, 28)  # twenty weekdays without a bar
    samples = make_samples(bars, ("ret_log_1",))["index"]
    sigma = samples.facts.sigma[samples.ends]
    (row,) = np.flatnonzero(samples.decided == 197)
    np.testing.assert_allclose(samples.unit[row] / sigma[row], np.sqrt([1, 2, 3 + 20, 4 + 20, 5 + 20]))
    (row,) = np.flatnonzero(samples.decided == 150)
    np.testing.assert_allclose(samples.unit[row] / sigma[row], np.sqrt([1, 2, 3, 4, 5]))


def test_no_answer_passes_the_end_of_a_listing() -> None:
    gone, other = _moved(synthetic.a1(400, seed=2), 200, 100), _moved(synthetic.a1(400, seed=2), 200, 28)
    after = pl.int_range(pl.len()) >= 200
    other = make_bars(other.with_columns(pl.when(after).then(pl.col(PRICES) * 50).otherwise(pl.col(PRICES))))
    for bars in (gone, other):
        targets, _ = make_targets(bars, horizon=5)
        assert np.isnan(targets["return"].value[195:200, -1]).all()
        assert np.isnan(targets["volatility"].value[195:200]).all()
        assert np.isnat(targets["return"].known_at[195:200]).all()
        assert np.isfinite(targets["return"].value[194]).all()


def test_a_price_that_is_where_it_was_is_neither_a_rise_nor_a_fall() -> None:
    bars = synthetic.a1(200, seed=3)
    flat = pl.when(pl.int_range(pl.len()).is_between(100, 120)).then(bars["close"][100])
    bars = bars.with_columns(flat.otherwise(pl.col(name)).alias(name) for name in PRICES)
    direction = make_targets(bars, horizon=5)[0]["direction"].value
    assert np.isnan(direction[100:116]).all()
    assert np.isfinite(direction[:95]).all()


def test_encode_and_decode_are_inverse(samples: Samples) -> None:
    rows = np.arange(100, 140)
    ends, decided = samples.ends[rows], samples.decided[rows]
    answers = encode(samples.targets, samples.facts, decided, ends, samples.unit[rows])
    where, sigma, baseline = columns_of(samples.horizon), samples.facts.sigma[ends], samples.facts.baseline[ends]
    path = decode("return", answers[:, where["return"]], sigma, baseline)
    np.testing.assert_allclose(path, samples.targets["return"].value[decided], rtol=1e-9)
    variance = decode("volatility", answers[:, where["volatility"]], sigma, baseline)
    np.testing.assert_allclose(np.log(variance), samples.targets["volatility"].value[decided], rtol=1e-9)


def test_the_level_is_the_quantile_of_what_is_known() -> None:
    draw = np.random.default_rng(0)
    times = (np.datetime64("2020-01-01") + np.repeat(np.arange(300), 2)).astype("datetime64[us]")
    known = times + np.timedelta64(5, "D")
    value = draw.standard_normal(600)
    value[draw.random(600) < 0.1] = np.nan
    level = expanding_level(value, known, times, minimum=20)
    for row in range(0, 600, 37):
        past = np.sort(value[(known <= times[row]) & np.isfinite(value)])
        if len(past) < 20:
            assert np.isnan(level[row])
        else:
            assert level[row] == past[int(np.ceil(2 / 3 * len(past))) - 1]


def test_flat_bars_are_floored_and_counted() -> None:
    bars = synthetic.a1(500, seed=1).with_columns(flat=pl.int_range(pl.len()) > 400)
    last = bars["close"][400]
    bars = bars.with_columns(
        pl.when("flat").then(last).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")
    ).drop("flat")
    targets, facts = make_targets(bars, horizon=5)
    assert facts.floored > 50
    assert np.isfinite(targets["volatility"].value[420:490]).all()


def test_an_unknown_proxy_is_refused_with_the_closest() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'parkinson'"):
        make_targets(synthetic.a1(300, seed=1), volatility_proxy="parkinsn")


def test_windows_are_views_and_summaries_are_of_the_window(samples: Samples) -> None:
    assert np.shares_memory(samples.windows, samples.features)
    window = samples.window(np.array([200]))[0]
    np.testing.assert_array_equal(window, samples.features[samples.ends[200] - 29 : samples.ends[200] + 1])
    slope = np.polyfit(np.arange(30), window, 1)[0]
    expected = np.concatenate([window[-1], window[-5:].mean(0), window[-10:].mean(0), window.mean(0), slope])
    np.testing.assert_allclose(samples.summaries[200], expected, rtol=1e-9, atol=1e-12)


def test_another_symbol_or_class_changes_no_sample(market: pl.DataFrame) -> None:
    first = market["symbol"][0]
    alone = make_samples(market.filter(pl.col("symbol") == first), ("ret_log_1", "x"))["index"]
    both = make_samples(market, ("ret_log_1", "x"))["index"]
    np.testing.assert_array_equal(alone.features, both.features[both.symbol == 0])
    np.testing.assert_array_equal(alone.facts.sigma, both.facts.sigma[both.symbol == 0])


@pytest.mark.parametrize("name", ["close", "high", "volume", "symbol", "segment", "time"])
def test_a_price_or_a_key_is_no_variance(name: str) -> None:
    with pytest.raises(SettingsError, match="own columns, which hold no variance") as caught:
        make_targets(synthetic.a1(300, seed=1), volatility_proxy=name)
    assert "Known: close_to_close, garman_klass, parkinson." in str(caught.value) or name == "close"


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_summaries_of_some_rows_are_those_of_all_to_the_bit(market: pl.DataFrame, count: int) -> None:
    samples, other = (next(iter(make_samples(market).values())) for _ in range(2))
    rows = np.arange(len(samples) - count, len(samples))
    np.testing.assert_array_equal(samples.summaries_of(rows), other.summaries[rows])
    np.testing.assert_array_equal(other.summaries_of(rows), other.summaries[rows])


def test_what_came_counts_the_symbols_own_bars_and_no_session_without_one() -> None:
    """Six closes of one symbol, the fourth session without a bar: the answer of the second is known at the fifth."""
    bars = synthetic.b1(6, seed=3, symbols=2)
    (name, other) = bars["symbol"].unique().sort()
    times = bars["time"].unique().sort().to_list()
    kept = bars.filter((pl.col("symbol") == other) | (pl.col("time") != times[3]))
    close = dict(kept.filter(pl.col("symbol") == name).select("time", "close").iter_rows())
    came = dict(came_after(kept, 2).filter(pl.col("symbol") == name).select("time", "came_return_log").iter_rows())
    assert came[times[1]] == pytest.approx(np.log(close[times[4]] / close[times[1]]))
    assert came[times[2]] == pytest.approx(np.log(close[times[5]] / close[times[2]]))
    assert (came[times[4]], came[times[5]]) == (None, None)
    whole = dict(came_after(bars, 2).filter(pl.col("symbol") == other).select("time", "came_return_log").iter_rows())
    assert whole == dict(
        came_after(kept, 2).filter(pl.col("symbol") == other).select("time", "came_return_log").iter_rows()
    )
