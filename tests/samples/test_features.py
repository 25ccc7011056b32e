"""Features: each number against somebody else's, and the test at the cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib

from gatecast.errors import FeatureError
from gatecast.samples.features import (
    DEFAULT_FEATURES,
    EQUALITY_BARS,
    FEATURES,
    available_features,
    compute_features,
    register,
)

EVERY = list(FEATURES)


def some_bars(
    symbol: str, count: int, seed: int, segments: tuple[int, ...] = (), zero_volume: float = 0.0
) -> pl.DataFrame:
    """Bars of one symbol; `segments` are the rows at which a new segment starts, 60 days later."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.standard_t(5, count) * 0.01))
    open_ = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.003, count))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.004, count)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.004, count)))
    volume = np.where(rng.random(count) < zero_volume, 0.0, np.exp(rng.normal(10, 0.5, count)))
    segment = np.searchsorted(np.array(segments), np.arange(count), side="right")
    days = np.arange(count) + 60 * segment
    time = [datetime(2010, 1, 4, 21, tzinfo=UTC) + timedelta(days=int(day)) for day in days]
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "asset_class": ["equity"] * count,
            "time": pl.Series(time, dtype=pl.Datetime("us", "UTC")),
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "known_at": pl.Series(time, dtype=pl.Datetime("us", "UTC")),
            "segment": pl.Series(segment, dtype=pl.Int32),
        }
    )


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Two symbols, three and one segments, one with days without trade."""
    return pl.concat([some_bars("AAA", 900, 1, (300, 310)), some_bars("BBB", 700, 2, zero_volume=0.1)])


def values(frame: pl.DataFrame, name: str) -> np.ndarray:
    return frame[name].fill_null(float("nan")).to_numpy()


def table(frame: pl.DataFrame) -> np.ndarray:
    """Every feature, null as NaN."""
    return frame.drop("symbol", "time").fill_null(float("nan")).to_numpy()


# each number against somebody else's


def test_the_default_five_and_their_rows(bars: pl.DataFrame) -> None:
    features = compute_features(bars)
    assert features.columns == ["symbol", "time", *DEFAULT_FEATURES]
    assert DEFAULT_FEATURES == ("ret_log_1", "rsi_14", "macd_hist", "volume_ratio_20", "atr_14")
    assert features.select("symbol", "time").equals(bars.select("symbol", "time"))
    assert set(features.dtypes[2:]) == {pl.Float64}


def test_indicators_are_those_of_talib() -> None:
    bars = some_bars("AAA", 600, 3)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    features = compute_features(bars, ["rsi_14", "macd_hist", "atr_14"])
    expected = {
        "rsi_14": talib.RSI(close, 14),
        "macd_hist": talib.MACD(close, 12, 26, 9)[2] / close,
        "atr_14": talib.ATR(high, low, close, 14) / close,
    }
    for name, right in expected.items():
        np.testing.assert_array_equal(values(features, name)[250:], right[250:])


def test_rsi_and_atr_follow_wilders_recursion() -> None:
    bars = some_bars("AAA", 400, 4)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    change = np.diff(close)
    gain, loss = np.maximum(change[:14], 0).mean(), np.maximum(-change[:14], 0).mean()
    for step in change[14:]:
        gain, loss = (13 * gain + max(step, 0)) / 14, (13 * loss + max(-step, 0)) / 14
    true = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    average = true[:14].mean()
    for step in true[14:]:
        average = (13 * average + step) / 14
    last = compute_features(bars, ["rsi_14", "atr_14"]).row(-1, named=True)
    assert last["rsi_14"] == pytest.approx(100 * gain / (gain + loss), rel=1e-10)
    assert last["atr_14"] == pytest.approx(average / close[-1], rel=1e-10)


def test_macd_is_that_of_pandas_exponential_means() -> None:
    bars = some_bars("AAA", 900, 5)
    close = bars["close"].to_pandas()
    macd = close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()
    expected = (macd - macd.ewm(span=9, adjust=False).mean()) / close
    computed = values(compute_features(bars, ["macd_hist"]), "macd_hist")
    np.testing.assert_allclose(computed[500:], expected[500:], rtol=0, atol=1e-12)


def test_windows_are_those_of_pandas_rolling() -> None:
    bars = some_bars("AAA", 400, 6)
    day = bars.to_pandas()
    r = np.log(day.close / day.close.shift(1))
    squared_range = np.log(day.high / day.low) ** 2
    klass = 0.5 * squared_range - (2 * np.log(2) - 1) * np.log(day.close / day.open) ** 2
    gap = np.log(day.open / day.close.shift(1))
    expected = {
        "gap_log": gap,
        "volume_ratio_20": day.volume / day.volume.rolling(20).mean(),
        **{f"ret_log_{n}": np.log(day.close).diff(n) for n in (1, 2, 3, 5, 10, 22, 66, 132, 252)},
        **{f"sma_distance_{n}": day.close / day.close.rolling(n).mean() - 1 for n in (20, 50, 200)},
        **{f"rv_{n}": np.sqrt((r**2).rolling(n).mean()) for n in (1, 5, 22)},
        **{f"parkinson_{n}": np.sqrt(squared_range.rolling(n).mean() / (4 * np.log(2))) for n in (1, 5, 22)},
        **{f"garman_klass_{n}": np.sqrt(klass.rolling(n).mean()) for n in (1, 5, 22)},
        **{f"har_{n}": np.log((gap**2 + klass).rolling(n).mean()) for n in (1, 5, 22)},
        **{f"downside_semivariance_{n}": (r.clip(upper=0) ** 2).rolling(n).mean() for n in (5, 22)},
    }
    assert set(EVERY) - set(expected) == {"rsi_14", "macd_hist", "atr_14", "day_of_week", "turn_of_month"}
    features = compute_features(bars, expected)
    for name, right in expected.items():
        # pandas' rolling sums carry their rounding along; the null rows must be the same ones
        np.testing.assert_allclose(values(features, name), right, rtol=1e-7, atol=1e-11, err_msg=name)


def test_calendar_is_by_session_date() -> None:
    """A coin's bar of Sunday 31 March closes at 00:00 of Monday 1 April and still is Sunday's."""
    closes = [datetime(2024, 4, 1, tzinfo=UTC) + timedelta(days=day) for day in range(30)]
    bars = some_bars("BTC", 30, 7).with_columns(time=pl.Series(closes, dtype=pl.Datetime("us", "UTC")))
    features = compute_features(bars, ["day_of_week", "turn_of_month"])
    sessions = [close - timedelta(days=1) for close in closes]
    assert features["day_of_week"].to_list() == [session.weekday() for session in sessions]
    # Sunday 31 March, Monday 1 to Wednesday 3 April; then only 30 April would be, after these bars
    assert [i for i, on in enumerate(features["turn_of_month"]) if on] == [0, 1, 2, 3]


# warm-up, gaps, neighbours


@pytest.mark.parametrize("name", EVERY)
def test_null_exactly_during_the_warm_up_of_each_segment(bars: pl.DataFrame, name: str) -> None:
    column = compute_features(bars, [name])[name]
    assert column.is_nan().sum() == 0
    assert column.drop_nulls().is_finite().all()
    row_of_segment = bars.select(pl.int_range(pl.len()).over("symbol", "segment")).to_series()
    assert (column.is_null() == (row_of_segment < FEATURES.find(name).warmup)).all()


def test_segments_are_never_joined(bars: pl.DataFrame) -> None:
    last = bars.filter(pl.col("symbol") == "AAA", pl.col("segment") == 2)
    alone = compute_features(last, EVERY)
    together = compute_features(bars, EVERY).join(last.select("symbol", "time"), on=["symbol", "time"], how="semi")
    assert alone.equals(together)
    assert alone["rsi_14"].drop_nulls().len() > 300


def test_order_and_presence_of_other_symbols_change_nothing(bars: pl.DataFrame) -> None:
    computed = compute_features(bars, EVERY)
    alone = compute_features(bars.filter(pl.col("symbol") == "BBB"), EVERY)
    assert alone.equals(computed.filter(pl.col("symbol") == "BBB"))
    shuffled = bars.sample(fraction=1.0, shuffle=True, seed=1)
    by_time = compute_features(shuffled, EVERY)
    assert by_time.select("symbol", "time").equals(shuffled.select("symbol", "time"))
    assert by_time.sort("symbol", "time").equals(computed)


# the test at the cut


@pytest.mark.parametrize("garbage_after", [False, True])
def test_at_the_cut_every_feature_is_the_same_to_the_bit(garbage_after: bool) -> None:
    own = np.random.default_rng(9).normal(size=900)
    bars = some_bars("AAA", 900, 8, (300, 310), zero_volume=0.05).with_columns(own=pl.Series(own))
    names = [*EVERY, "own"]
    whole = table(compute_features(bars, names))
    rng = np.random.default_rng(10)
    cuts = np.unique(np.r_[0, 1, 19, 20, 250, 251, 299, 300, 309, 310, 311, 899, rng.integers(0, 900, 200)])
    for t in cuts:
        past = bars[: t + 1]
        if garbage_after:
            wild = bars[t + 1 :].with_columns(
                pl.col("open", "high", "low", "close", "volume", "own") * pl.lit(rng.uniform(1e-6, 1e6))
            )
            past = pl.concat([past, wild])
        assert table(compute_features(past, names))[t].tobytes() == whole[t].tobytes()


def test_live_equals_batch_to_the_bit_after_the_stated_bars() -> None:
    bars = some_bars("AAA", 2000, 11)
    whole = table(compute_features(bars, EVERY))
    for t in range(EQUALITY_BARS, 2000, 13):
        live = table(compute_features(bars[t - EQUALITY_BARS + 1 : t + 1], EVERY))
        assert live[-1].tobytes() == whole[t].tobytes()


# no volume, no movement


def test_volume_that_is_missing_leaves_the_feature_out_by_name(bars: pl.DataFrame) -> None:
    none = bars.with_columns(volume=pl.lit(None, pl.Float64))
    kept, left_out = available_features(none)
    assert kept == ["ret_log_1", "rsi_14", "macd_hist", "atr_14"]
    assert left_out == {"volume_ratio_20": "no volume"}
    assert compute_features(none)["volume_ratio_20"].null_count() == len(none)
    half = bars.with_columns(volume=pl.when(pl.col("symbol") == "AAA").then("volume"))
    assert available_features(half)[1] == {"volume_ratio_20": "no volume in BBB"}
    assert available_features(bars) == (list(DEFAULT_FEATURES), {})


def test_a_named_feature_stays_while_one_symbol_has_it(bars: pl.DataFrame) -> None:
    """Named features belong to the user: of the default five one symbol without volume still drops the class's."""
    half = bars.with_columns(volume=pl.when(pl.col("symbol") == "AAA").then("volume"), y=pl.lit(None, pl.Float64))
    assert available_features(half, DEFAULT_FEATURES) == (list(DEFAULT_FEATURES), {})
    assert available_features(half)[1] == {"volume_ratio_20": "no volume in BBB"}
    assert available_features(half, ["y", "volume_ratio_20"]) == (["volume_ratio_20"], {"y": "no y"})


def test_a_column_that_is_not_there_at_first_leaves_its_feature_out_whatever_comes_later(bars: pl.DataFrame) -> None:
    place = pl.int_range(pl.len()).over("symbol")
    own = bars.with_columns(same=pl.lit(3.0), empty=pl.lit(None, pl.Float64), late=pl.when(place >= 60).then("close"))
    for part in (own, own.filter(place < 50), own.filter(place < 100)):
        assert available_features(part, ["same", "empty", "late", "rsi_14"]) == (
            ["same", "rsi_14"],
            {"empty": "no empty", "late": "no late"},
        )


def test_a_symbol_that_begins_later_without_volume_changes_nothing_for_the_others(bars: pl.DataFrame) -> None:
    first = bars.filter(pl.col("symbol") == "AAA")
    other = first[100:].with_columns(symbol=pl.lit("CCC"), volume=pl.lit(None, pl.Float64))
    assert available_features(pl.concat([first, other])) == available_features(first) == (list(DEFAULT_FEATURES), {})


def test_bars_without_movement_or_trade_stay_finite() -> None:
    flat = some_bars("AAA", 400, 12).with_columns(pl.lit(5.0).alias(name) for name in ("open", "high", "low", "close"))
    last = compute_features(flat.with_columns(volume=pl.lit(0.0)), EVERY).row(-1, named=True)
    assert last["rsi_14"] == 50
    assert last["volume_ratio_20"] == 1
    assert last["har_1"] == pytest.approx(np.log(1e-10))
    assert all(np.isfinite(last[name]) for name in EVERY)
    untraded = some_bars("AAA", 60, 12).with_columns(
        volume=pl.when(pl.int_range(pl.len()) == 40).then(0.0).otherwise("volume")
    )
    assert compute_features(untraded, ["volume_ratio_20"])["volume_ratio_20"][40] == 0


def test_prices_of_any_size_are_finite(bars: pl.DataFrame) -> None:
    for size in (1e-10, 1e10):
        scaled = bars.with_columns(pl.col("open", "high", "low", "close") * size)
        frame = compute_features(scaled, EVERY)
        assert all(frame[name].drop_nulls().is_finite().all() for name in EVERY)


# one's own columns and functions


def test_own_columns_are_features_by_name(bars: pl.DataFrame) -> None:
    own = bars.with_columns(x=pl.Series(np.arange(len(bars))), holes=pl.Series([None, 1.0] * (len(bars) // 2)))
    features = compute_features(own, ["x", "holes"])
    assert features["x"].to_list() == [float(i) for i in range(len(bars))]
    assert features["holes"].equals(own["holes"])


def test_own_functions_get_one_segment_at_a_time(bars: pl.DataFrame) -> None:
    @register("since_start", warmup=2, needs=("close", "x"))
    def since_start(close: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Close over the segment's first, plus x."""
        return close / close[0] + x

    try:
        own = bars.with_columns(x=pl.lit(1.0))
        computed = values(compute_features(own, ["since_start"]), "since_start")
        first = own.select(pl.col("close").first().over("symbol", "segment")).to_series().to_numpy()
        row = own.select(pl.int_range(pl.len()).over("symbol", "segment")).to_series().to_numpy()
        expected = np.where(row < 2, np.nan, own["close"].to_numpy() / first + 1)
        np.testing.assert_array_equal(computed, expected)
        assert FEATURES.find("since_start").description == "Close over the segment's first, plus x."
        with pytest.raises(FeatureError, match="needs the column 'x'"):
            compute_features(bars, ["since_start"])
    finally:
        FEATURES.remove("since_start")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda close: close[1:], r"one number a bar, shape \(700,\), got \(699,\)"),
        (lambda close: close / 0.0, "is inf at bar 1"),
        (lambda close: close.missing, "AttributeError"),
        (lambda close: close.sort(), "ValueError: .*read-only"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_faulty_function_is_refused_with_the_place(bars: pl.DataFrame, function: object, told: str) -> None:
    register("faulty", warmup=1)(function)
    try:
        with pytest.raises(FeatureError, match=f"'faulty'.*{told}.*Symbol BBB, segment from 2010-01-04"):
            compute_features(bars.filter(pl.col("symbol") == "BBB"), ["faulty"])
    finally:
        FEATURES.remove("faulty")


def test_names_that_do_not_exist_or_are_taken(bars: pl.DataFrame) -> None:
    with pytest.raises(FeatureError, match="Did you mean 'volume_ratio_20'"):
        compute_features(bars, ["volume_ratio"])
    with pytest.raises(FeatureError, match="'close' of the bars cannot be a feature"):
        compute_features(bars, ["close"])
    with pytest.raises(FeatureError, match="rename the column"):
        compute_features(bars.with_columns(rsi_14=pl.lit(1.0)))
    with pytest.raises(FeatureError, match="taken"):
        register("rsi_14", warmup=0)
    with pytest.raises(FeatureError, match="warmup must be a number of bars"):
        register("mine", warmup=-1)
    with pytest.raises(FeatureError, match="Polars or pandas frame, got list"):
        compute_features([1, 2])


def test_pandas_in_pandas_out(bars: pl.DataFrame) -> None:
    computed = compute_features(bars.to_pandas(), ["ret_log_1", "rsi_14", "volume_ratio_20", "day_of_week"])
    assert isinstance(computed, pd.DataFrame)
    expected = compute_features(bars, ["ret_log_1", "rsi_14", "volume_ratio_20", "day_of_week"]).to_pandas()
    pd.testing.assert_frame_equal(computed, expected)
    plain = bars.select("symbol", "time", "open", "high", "low", "close").to_pandas()
    assert compute_features(plain)["volume_ratio_20"].isna().all()


def test_every_feature_says_what_it_is() -> None:
    for name in EVERY:
        feature = FEATURES.find(name)
        assert feature.name == name
        assert feature.unit
        assert feature.description
    assert [name for name in EVERY if "volume" in FEATURES.find(name).needs] == ["volume_ratio_20"]
