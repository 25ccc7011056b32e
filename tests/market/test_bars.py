"""The Bars frame: columns, segments, sessions, what was known when, coarser bars, findings."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from gatecast.errors import BarsError, SettingsError
from gatecast.live import forecast
from gatecast.market import (
    ASSET_CLASSES,
    as_of,
    asset_class,
    compare_levels,
    findings,
    make_bars,
    open_fills,
    opens_are_real,
    resample,
    session_date,
    synthetic,
)
from gatecast.market.reading import BarsSettings
from gatecast.market.sources import read_bars

START = datetime(2023, 1, 2, 21, tzinfo=UTC)  # a Monday


def weekdays(count: int) -> list[datetime]:
    return [START + timedelta(days=7 * (n // 5) + n % 5) for n in range(count)]


def walk(times: list[datetime], symbol: str = "A", seed: int = 0, **columns: object) -> pl.DataFrame:
    """Clean columns of a random walk whose opens are not the previous closes."""
    noise = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(noise.normal(0, 0.01, len(times))))
    open_ = close * np.exp(noise.normal(0, 0.005, len(times)))
    frame = pl.DataFrame(
        {
            "symbol": symbol,
            "time": times,
            "open": open_,
            "high": np.maximum(open_, close) * 1.003,
            "low": np.minimum(open_, close) * 0.997,
            "close": close,
            "volume": noise.integers(1_000, 2_000, len(times)).astype(float),
        }
    )
    return frame.with_columns(pl.lit(value).alias(name) for name, value in columns.items())


# --- make_bars ------------------------------------------------------------------------------------------------


def test_columns_order_types_and_defaults() -> None:
    frame = walk(weekdays(4), mood=1).drop("volume").reverse()
    bars = make_bars(frame)
    utc = pl.Datetime("us", "UTC")
    assert bars.schema == {
        "symbol": pl.String, "asset_class": pl.String, "time": utc,
        "open": pl.Float64, "high": pl.Float64, "low": pl.Float64, "close": pl.Float64,
        "volume": pl.Float64, "known_at": utc, "segment": pl.Int32, "mood": pl.Float64,
    }  # fmt: skip
    assert bars["time"].to_list() == weekdays(4)
    assert bars["volume"].null_count() == 4
    assert bars["known_at"].equals(bars["time"])
    assert set(bars["asset_class"]) == {"equity"}


def test_make_bars_of_bars_changes_nothing() -> None:
    times = weekdays(30)[:12] + weekdays(30)[26:]
    bars = make_bars(pl.concat([walk(times, x=1.0), walk(weekdays(9), "B", 1, x=2.0)]))
    assert bars["segment"].max() == 1
    assert_frame_equal(make_bars(bars), bars)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"close": pl.lit(-1.0)}, "positive"),
        ({"open": pl.lit(float("nan"))}, "finite"),
        ({"high": pl.lit(None, pl.Float64)}, "finite"),
        ({"high": pl.col("low") * 0.9}, "enclose"),
        ({"volume": pl.lit(-5.0)}, "volume"),
        ({"time": pl.lit(START)}, "two bars at one time"),
        ({"known_at": pl.col("time") - timedelta(hours=1)}, "before it closes"),
        ({"asset_class": pl.lit("equty")}, "Did you mean 'equity'"),
        ({"time": pl.col("time").dt.replace_time_zone(None)}, "time zone"),
        ({"remark": pl.lit("text")}, "remark"),
    ],
)
def test_make_bars_refuses(change: dict[str, pl.Expr], text: str) -> None:
    with pytest.raises(BarsError, match=text):
        make_bars(walk(weekdays(5)).with_columns(**change))


def test_make_bars_names_missing_columns() -> None:
    with pytest.raises(BarsError, match="missing: low"):
        make_bars(walk(weekdays(5)).drop("low"))


def test_nan_in_further_columns_and_volume_is_null() -> None:
    frame = walk(weekdays(3), mood=float("nan")).with_columns(volume=pl.lit(float("nan")))
    assert make_bars(frame).select("volume", "mood").null_count().row(0) == (3, 3)


# --- segments -------------------------------------------------------------------------------------------------


def test_a_gap_starts_a_segment_per_symbol() -> None:
    times = weekdays(20)
    late = [time + timedelta(days=14) for time in times[10:]]
    bars = make_bars(pl.concat([walk(times[:10] + late), walk(times, "B")]))
    assert bars.filter(symbol="A")["segment"].to_list() == [0] * 10 + [1] * 10
    assert set(bars.filter(symbol="B")["segment"]) == {0}


def test_crypto_has_a_shorter_limit() -> None:
    times = [START + timedelta(days=d) for d in (0, 1, 2, 3, 9, 10)]
    assert make_bars(walk(times, asset_class="crypto"))["segment"].to_list() == [0, 0, 0, 0, 1, 1]
    assert set(make_bars(walk(times))["segment"]) == {0}


def test_monthly_bars_are_one_segment() -> None:
    times = [datetime(2015 + n // 12, n % 12 + 1, 28, 21, tzinfo=UTC) for n in range(40)]
    assert set(make_bars(walk(times))["segment"]) == {0}


def test_segments_at_the_cut() -> None:
    times = [time + timedelta(days=28 * (n // 17)) for n, time in enumerate(weekdays(80))]
    frame = walk(times)
    whole = make_bars(frame)
    for cut in range(1, 80):
        assert_frame_equal(make_bars(frame.head(cut)), whole.head(cut))


def test_a_given_segment_change_is_kept() -> None:
    frame = walk(weekdays(4)).with_columns(segment=pl.Series([3, 3, 7, 7]))
    assert make_bars(frame)["segment"].to_list() == [0, 0, 1, 1]


# --- sessions and classes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "winter", "summer"),
    [
        ("equity", datetime(2024, 1, 15, 21, tzinfo=UTC), datetime(2024, 7, 15, 20, tzinfo=UTC)),
        ("fx", datetime(2024, 1, 15, 22, tzinfo=UTC), datetime(2024, 7, 15, 21, tzinfo=UTC)),
        ("crypto", datetime(2024, 1, 16, 0, tzinfo=UTC), datetime(2024, 7, 16, 0, tzinfo=UTC)),
    ],
)
def test_closes_of_classes(name: str, winter: datetime, summer: datetime) -> None:
    days = pl.Series("day", [date(2024, 1, 15), date(2024, 7, 15)])
    closes = days.to_frame().select(ASSET_CLASSES[name].close_of(pl.col("day"))).to_series()
    assert closes.to_list() == [winter, summer]
    assert closes.to_frame().select(session_date(pl.col("day"))).to_series().to_list() == days.to_list()


def test_session_date_of_arrays_equals_that_of_expressions() -> None:
    times = [START + timedelta(hours=h) for h in range(72)]
    series = pl.Series("time", times, pl.Datetime("us", "UTC"))
    by_array = session_date(series.dt.replace_time_zone(None).to_numpy())
    by_expression = series.to_frame().select(session_date(pl.col("time"))).to_series().to_numpy()
    np.testing.assert_array_equal(by_array, by_expression)
    assert by_array.dtype == np.dtype("datetime64[D]")


def test_unknown_class_suggests() -> None:
    with pytest.raises(BarsError, match="Did you mean 'crypto'"):
        asset_class("cripto")


def test_every_class_costs_something() -> None:
    assert set(ASSET_CLASSES) == {"index", "etf", "equity", "future", "commodity", "metal", "fx", "crypto"}
    assert all(known.cost_bps > 0 for known in ASSET_CLASSES.values())
    assert {name: known.periods_per_year for name, known in ASSET_CLASSES.items() if known.periods_per_year != 252} == {
        "fx": 260, "crypto": 365,
    }  # fmt: skip


# --- as_of ----------------------------------------------------------------------------------------------------


def test_as_of_reads_the_version_known_then() -> None:
    first = walk(weekdays(5)).with_columns(known_at=pl.col("time"))
    revised = first[2:3].with_columns(close=pl.col("close") * 1.001, known_at=pl.col("time") + timedelta(days=2))
    rows = pl.concat([revised, first])
    times = weekdays(5)
    assert as_of(rows, times[1])["time"].to_list() == times[:2]
    assert as_of(rows, times[3])["close"][2] == first["close"][2]
    assert as_of(rows, times[4])["close"][2] == revised["close"][0]
    assert as_of(rows, times[4]).height == 5
    with pytest.raises(BarsError, match="two bars at one time"):
        make_bars(rows)
    with pytest.raises(BarsError, match="with a zone"):
        as_of(rows, datetime(2024, 1, 1))


# --- resample -------------------------------------------------------------------------------------------------


def test_weekly_bars_equal_pandas() -> None:
    frame = walk(weekdays(50))
    weekly = resample(make_bars(frame), "1w")
    theirs = (
        frame.to_pandas()
        .set_index("time")
        .resample("W-FRI")
        .agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    )
    assert weekly["time"].to_list() == weekdays(50)[4::5]
    np.testing.assert_allclose(weekly.select(theirs.columns.to_list()).to_numpy(), theirs.to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("every", ["1w", "1mo", "2w"])
@pytest.mark.parametrize("name", ["equity", "crypto"])
def test_resample_at_the_cut(every: str, name: str) -> None:
    """Bars of finished periods never change when later bars come; on Fridays the week is already there."""
    if name == "crypto":
        times = [datetime(2023, 1, 3, tzinfo=UTC) + timedelta(days=n) for n in range(90)]
    else:
        times = [time for n, time in enumerate(weekdays(90)) if n % 11 != 4]  # some Fridays are holidays
    frame = walk(times, asset_class=name)
    whole = resample(make_bars(frame), every)
    for cut in range(1, frame.height + 1):
        part = resample(make_bars(frame.head(cut)), every)
        assert_frame_equal(part, whole.head(part.height))
        ended = whole.filter(pl.col("time") <= times[cut - 1]).height
        assert ended - part.height in (0, 1)


def test_a_week_is_there_at_its_last_close() -> None:
    frame = walk(weekdays(10))
    assert resample(make_bars(frame.head(4)), "1w").height == 0
    assert resample(make_bars(frame.head(5)), "1w").height == 1
    coin = walk([datetime(2023, 1, 3, tzinfo=UTC) + timedelta(days=n) for n in range(7)], asset_class="crypto")
    assert resample(make_bars(coin.head(6)), "1w").height == 0
    assert resample(make_bars(coin), "1w")["time"].to_list() == [datetime(2023, 1, 9, tzinfo=UTC)]


@pytest.mark.parametrize("every", ["4h", "1d"])
def test_hours_at_the_cut(every: str) -> None:
    times = [datetime(2023, 1, 2, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(60)]
    frame = walk(times, asset_class="crypto")
    whole = resample(make_bars(frame), every)
    assert whole["time"][0] == datetime(2023, 1, 2, 4 if every == "4h" else 0, tzinfo=UTC) + timedelta(
        days=0 if every == "4h" else 1
    )
    for cut in range(1, 61):
        part = resample(make_bars(frame.head(cut)), every)
        assert_frame_equal(part, whole.filter(pl.col("time") <= times[cut - 1]))


def test_resample_keeps_symbols_segments_and_missing_volume_apart() -> None:
    times = weekdays(60)[:22] + weekdays(60)[40:]
    no_volume = walk(weekdays(10), "B").with_columns(volume=pl.lit(None, pl.Float64))
    monthly = resample(make_bars(pl.concat([walk(times), no_volume])), "1mo")
    assert monthly.filter(symbol="B")["volume"].null_count() == monthly.filter(symbol="B").height
    own = monthly.filter(symbol="A")
    assert own["segment"].is_sorted()
    assert own["segment"].n_unique() == 2


def test_sunday_bars_join_monday() -> None:
    """620 short Sunday bars of a currency: a day of trading is what starts on Sunday evening."""
    midnight = datetime(2023, 1, 2, tzinfo=UTC)
    times = [midnight + timedelta(days=n) for n in range(1, 15) if n % 7 != 6]  # Monday's close to Sunday's
    frame = walk(times, asset_class="fx")
    days = resample(make_bars(frame), "1d")
    assert days["time"].to_list() == [t for t in times if (t - timedelta(days=1)).weekday() != 6]
    sunday, monday = frame.row(5, named=True), frame.row(6, named=True)
    joined = days.row(5, named=True)
    assert (joined["open"], joined["close"]) == (sunday["open"], monday["close"])
    assert joined["high"] == max(sunday["high"], monday["high"])


def test_resample_refuses_what_is_no_length() -> None:
    with pytest.raises(BarsError, match="'1d'"):
        resample(make_bars(walk(weekdays(5))), "weekly")


# --- opens and findings ---------------------------------------------------------------------------------------


def with_repeats(bars: pl.DataFrame, repeats: pl.Expr) -> pl.DataFrame:
    """Bars whose opens are the close before on some rows."""
    opens = pl.when(repeats).then(pl.col("close").shift().fill_null(pl.col("open"))).otherwise("open")
    return bars.with_columns(open=opens).with_columns(
        high=pl.max_horizontal("open", "high"), low=pl.min_horizontal("open", "low")
    )


def test_whether_an_order_is_filled_at_the_open_is_asked_of_the_bars_before() -> None:
    times, row = weekdays(520), pl.int_range(pl.len())
    real = walk(times)
    early = with_repeats(walk(times, "B", 1), row < 60)
    few = with_repeats(walk(times[:21], "C", 2), row >= 0)
    bars = make_bars(pl.concat([real, early, few]))
    repeats = np.zeros(520, bool)
    repeats[1:60] = True  # the first bar has no close before
    by_hand = [i < 20 or repeats[max(0, i - 250) : i].mean() <= 0.2 for i in range(520)]
    found = open_fills(bars)
    assert found[:520].all()
    assert found[520:1040].tolist() == by_hand
    assert found[1040:].tolist() == [True] * 20 + [False]
    assert opens_are_real(bars) == {"A": True, "B": True, "C": False}  # of the next bar
    for cut in (19, 20, 21, 100, 299, 310, 519):
        known = make_bars(bars.filter(pl.col("time") <= times[cut]).drop("segment"))
        assert open_fills(known).tolist() == found[(bars["time"] <= times[cut]).to_numpy()].tolist()
    named = [one for one in findings(bars) if one.rule == "open_repeats_close"]
    assert [(one.symbol, one.value) for one in named] == [("B", by_hand.count(False)), ("C", 1)]


def rules_of(bars: pl.DataFrame) -> dict[str, object]:
    return {found.rule: found.value for found in findings(bars)}


def test_sound_bars_have_no_findings() -> None:
    assert findings(make_bars(walk(weekdays(400)))) == []


def test_findings_of_planted_faults() -> None:
    frame = walk(weekdays(400))
    prices = ["open", "high", "low", "close"]
    row = pl.int_range(pl.len())
    jumped = frame.with_columns(pl.when(row >= 300).then(pl.col(prices) * 1.6).otherwise(pl.col(prices)))
    (found,) = findings(make_bars(jumped))
    assert (found.rule, found.severity, found.time) == ("extreme", "warning", weekdays(400)[300])
    expected = jumped["close"][300] / jumped["close"][299] - 1
    assert found.value == pytest.approx(expected, rel=1e-12)

    split = frame.with_columns(pl.when(row < 300).then(pl.col(prices) * 7).otherwise(pl.col(prices)))
    assert rules_of(make_bars(split))["split"] == 7.0
    assert "split" not in rules_of(make_bars(split.with_columns(asset_class=pl.lit("crypto"))))

    flat = frame.with_columns(pl.when(row < 5).then(100.0).otherwise(pl.col(prices)).name.keep())
    assert rules_of(make_bars(flat))["flat"] == 5
    still = frame.with_columns(volume=pl.when(row < 3).then(0.0).otherwise("volume"))
    assert rules_of(make_bars(still)) == {"zero_volume": 3}
    assert rules_of(make_bars(frame.drop("volume"))) == {"volume_missing": 400}
    assert rules_of(make_bars(frame.head(100))) == {"short_history": 100}
    live = frame.with_columns(volume=pl.when(row == 399).then(20.0).otherwise("volume"))
    assert rules_of(make_bars(live)) == {"partial_last": 1}


def test_a_true_crash_is_no_split() -> None:
    """An open at .526 of the previous close, as on a famous day in 2000, is not near one half."""
    frame = walk(weekdays(300))
    prices = ["open", "high", "low", "close"]
    factor = frame["close"][199] / frame["open"][200] * 0.5257
    row = pl.int_range(pl.len())
    crash = frame.with_columns(pl.when(row >= 200).then(pl.col(prices) * factor).otherwise(pl.col(prices)))
    rules = rules_of(make_bars(crash))
    assert "extreme" in rules
    assert "split" not in rules


def test_another_company_after_a_gap() -> None:
    before, after = walk(weekdays(300)), walk([t + timedelta(days=313) for t in weekdays(600)[300:]], seed=1)
    after = after.with_columns(pl.col("open", "high", "low", "close") * 50)
    rules = rules_of(make_bars(pl.concat([before, after])))
    assert rules["gap"] == 316.0
    assert rules["level_jump"] == pytest.approx(after["close"][0] / before["close"][-1])


def test_levels_are_compared_with_a_reference() -> None:
    bars = make_bars(walk(weekdays(100)))
    assert compare_levels(bars, bars) == []
    rupees = bars.with_columns(pl.col("open", "high", "low", "close") * 80)
    (level,) = compare_levels(bars, rupees)
    assert (level.rule, level.value) == ("other_level", pytest.approx(1 / 80))
    other = make_bars(walk(weekdays(100), seed=5))
    assert "other_moves" in {found.rule for found in compare_levels(bars, other)}
    assert [found.rule for found in compare_levels(bars, make_bars(walk(weekdays(9), "B")))] == ["no_reference"]


def test_weekend_advice_goes_by_the_calendar_of_the_class() -> None:
    days = [datetime(2023, 1, 2, 21, tzinfo=UTC) + timedelta(days=n) for n in range(300)]
    close = 100 + np.sin(np.arange(300.0))
    coin = pl.DataFrame({"symbol": "C", "time": days, "open": close, "high": close, "low": close, "close": close})

    def advice(asset_class: str, bars: pl.DataFrame) -> list[str]:
        made = make_bars(bars.with_columns(asset_class=pl.lit(asset_class)))
        return [one.advice for one in findings(made) if one.rule == "weekend"]

    assert advice("crypto", coin) == []
    (said,) = advice("equity", coin)
    assert "a market that never closes" in said
    assert "asset_class='crypto'" in said
    assert "Monday" not in said
    few = coin.filter((pl.col("time").dt.weekday() < 6) | (pl.int_range(pl.len()) % 50 == 5))
    assert advice("fx", few) == ["Short weekend bars; resample='1d' joins them to Monday."]


@pytest.mark.parametrize(
    "every", ["99999999d", "9999999999999999999999d", "100000w", "999999999mo", "2147483648m", "11y"]
)
def test_a_period_of_more_than_ten_years_is_refused(every: str) -> None:
    with pytest.raises(BarsError, match="ten years"):
        resample(synthetic.a1(30, seed=1), every)
    with pytest.raises(SettingsError, match="ten years"):
        BarsSettings(resample=every)


@pytest.mark.parametrize("year", [1, 9999])
def test_a_moment_at_the_ends_of_time_is_refused(year: int) -> None:
    bars = synthetic.a1(30, seed=1)
    month, day = (1, 1) if year == 1 else (12, 31)
    for hours in (-14, 14):
        moment = datetime(year, month, day, 12, tzinfo=timezone(timedelta(hours=hours)))
        with pytest.raises(BarsError, match="1700 to 2200"):
            as_of(bars, moment)
        with pytest.raises(BarsError, match="1700 to 2200"):
            read_bars(bars, now=moment)
        with pytest.raises(BarsError, match="1700 to 2200"):
            forecast("no run", bars, now=moment)
