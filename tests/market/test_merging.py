"""Two readings of a symbol: what one file would be refused for is refused between two, and one factor is undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.market.bars import make_bars
from gatecast.market.merging import merge_bars
from gatecast.market.sources import read_bars

PRICES = ("open", "high", "low", "close")
RUN = 300


def walk(symbol: str = "AAA", bars: int = 320, seed: int = 1, asset_class: str = "equity") -> pl.DataFrame:
    """Weekday bars of a walk whose opens are not the closes before, with volume and a further column."""
    random = np.random.default_rng(seed)
    days = [datetime(2020, 1, 1, 21, tzinfo=UTC) + timedelta(days=n) for n in range(2 * bars)]
    days = [day for day in days if day.weekday() < 5][:bars]
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.012, bars)))
    opens = close * np.exp(random.normal(0, 0.003, bars))
    return make_bars(
        pl.DataFrame(
            {
                "symbol": symbol, "asset_class": asset_class, "time": days, "open": opens,
                "high": np.maximum(opens, close) * 1.004, "low": np.minimum(opens, close) / 1.004, "close": close,
                "volume": random.integers(1, 9, bars) * 1e5, "news": random.normal(size=bars),
            }
        )
    )  # fmt: skip


def scaled(bars: pl.DataFrame, price: float, volume: float = 1.0) -> pl.DataFrame:
    return bars.with_columns(pl.col(PRICES) * price, pl.col("volume") * volume)


def kinds(known: pl.DataFrame, newer: pl.DataFrame) -> list[str]:
    return [problem.kind for problem in merge_bars(known, newer).problems]


@pytest.mark.parametrize("ratio", [2.0, 3.0, 0.1, 1.5, 7.0])
def test_a_history_re_based_by_a_split_is_brought_to_the_runs_level(ratio: float) -> None:
    bars = walk()
    merged = merge_bars(bars[:RUN], scaled(bars, 1 / ratio, ratio))
    for name in (*PRICES, "volume"):
        np.testing.assert_allclose(merged.bars[name], bars[name], rtol=1e-12)
    assert [problem.kind for problem in merged.problems] == ["rescaled"]
    assert f"{1 / ratio:.6g} times the run's" in merged.problems[0].sentence


def test_a_split_by_two_is_undone_to_the_bit() -> None:
    bars = walk()
    assert merge_bars(bars[:RUN], scaled(bars, 0.5, 2.0)).bars.equals(bars)


def test_a_dividend_re_bases_prices_and_leaves_volume() -> None:
    bars = walk()
    merged = merge_bars(bars[:RUN], scaled(bars, 0.9931))
    np.testing.assert_allclose(merged.bars["close"], bars["close"], rtol=1e-12)
    assert merged.bars["volume"].equals(bars["volume"])


def test_prices_rounded_after_the_split_still_prove_it() -> None:
    bars = walk()
    cents = bars.with_columns((pl.col(PRICES) / 4).round(2))
    merged = merge_bars(bars[:RUN], cents)
    assert [problem.kind for problem in merged.problems] == ["rescaled"]
    np.testing.assert_allclose(merged.bars["close"][RUN:], bars["close"][RUN:], rtol=1e-3)


def test_a_last_bar_that_was_finished_since_does_not_hide_the_split() -> None:
    bars = walk()
    known = bars[:RUN].with_columns(close=pl.when(pl.int_range(RUN) == RUN - 1).then(pl.col("open")).otherwise("close"))
    merged = merge_bars(known, scaled(bars, 0.5, 2.0))
    assert [problem.kind for problem in merged.problems] == ["rescaled", "revised"]
    assert "1 bars differ" in merged.problems[1].sentence
    assert merged.bars["close"][RUN:].equals(bars["close"][RUN:])


def test_a_listed_split_serves_where_the_common_bars_are_too_few() -> None:
    bars = walk()
    listed = pl.DataFrame({"symbol": "AAA", "date": [bars["time"][RUN].date()], "ratio": [2.0]})
    newer = read_bars(pl.concat([bars[RUN - 1 : RUN], scaled(bars[RUN:], 0.5, 2.0)]), splits=listed)
    merged = merge_bars(bars[:RUN], newer.select(bars.columns), listed)
    assert merged.bars.equals(bars)


def test_only_the_symbol_that_was_re_based_is_scaled() -> None:
    bars = pl.concat([walk("AAA"), walk("BBB", seed=2)])
    known = pl.concat([walk("AAA")[:RUN], walk("BBB", seed=2)[:RUN]])
    newer = pl.concat([walk("AAA"), scaled(walk("BBB", seed=2), 0.25, 4.0)])
    merged = merge_bars(known, newer)
    assert merged.bars.equals(bars)
    assert merged.problems[0].symbols == ("BBB",)


@pytest.mark.parametrize("overlap", [0, 1, 2])
@pytest.mark.parametrize("ratio", [2.0, 0.2])
def test_a_step_like_a_split_that_no_common_bar_explains_is_refused_as_in_one_file(overlap: int, ratio: float) -> None:
    bars = walk()
    newer = scaled(bars[RUN - overlap :], 1 / ratio, ratio)
    with pytest.raises(BarsError, match="looks like a split"):
        merge_bars(bars[:RUN], newer)
    with pytest.raises(BarsError, match="looks like a split"):
        read_bars(pl.concat([bars[:RUN], newer[overlap:]]))
    assert kinds(bars[:RUN], bars[RUN - overlap :]) == []


def test_a_split_later_in_the_new_bars_is_refused_too() -> None:
    bars = walk()
    newer = pl.concat([bars[:310], scaled(bars[310:], 0.5, 2.0)])
    with pytest.raises(BarsError, match="ratio 2 "):
        merge_bars(bars[:RUN], newer)


def test_listed_splits_and_true_moves_are_accepted() -> None:
    bars = walk()
    day = bars["time"][RUN].date()
    newer = scaled(bars[RUN:], 0.5, 2.0)
    listed = pl.DataFrame({"symbol": "AAA", "date": [day], "ratio": [2.0]})
    merged = merge_bars(bars[:RUN], newer, listed)
    assert merged.bars.equals(bars)
    assert [problem.kind for problem in merged.problems] == ["rescaled"]
    for splits in (listed.with_columns(ratio=pl.lit(1.0)), False):
        true_move = merge_bars(bars[:RUN], newer, splits)
        assert true_move.bars["close"][RUN] == newer["close"][0]


def test_a_split_needs_no_list_where_the_class_never_splits() -> None:
    bars = walk(asset_class="index")
    assert kinds(bars[:RUN], scaled(bars[RUN:], 0.5)) == ["odd"]  # an extreme return is named, as in one file


def test_changes_that_are_no_factor_stay_revisions() -> None:
    bars = walk()
    random = np.random.default_rng(3)
    noise = pl.Series(np.exp(random.normal(0, 0.002, len(bars))))
    merged = merge_bars(bars[:RUN], bars.with_columns(pl.col(PRICES) * noise))
    assert merged.bars["close"][:RUN].equals(bars["close"][:RUN])
    (revised,) = merged.problems
    assert (revised.kind, revised.symbols) == ("revised", ("AAA",))
    assert f"{RUN} bars differ" in revised.sentence


@pytest.mark.parametrize("column", ["open", "volume", "news"])
def test_a_revision_of_any_column_is_named(column: str) -> None:
    bars = walk()
    factor = pl.when(pl.int_range(pl.len()) == 200).then(1.002).otherwise(1.0)
    (revised,) = merge_bars(bars[:RUN], bars.with_columns(pl.col(column) * factor)).problems
    assert revised.kind == "revised"
    assert f"1 bars differ from those the run saw ({column})" in revised.sentence


def test_bars_that_came_in_or_went_are_named() -> None:
    bars = walk()
    gone, later = bars.filter(pl.int_range(pl.len()) != 200), bars
    assert kinds(bars[:RUN], gone) == ["missing"]
    assert kinds(gone[: RUN - 1], later) == ["revised"]
    assert kinds(bars[:RUN], bars.filter(~pl.int_range(pl.len()).is_between(300, 310))) == ["missing", "odd"]


def test_a_symbol_without_new_bars_is_missing_and_a_strange_one_is_named() -> None:
    both = pl.concat([walk("AAA")[:RUN], walk("BBB", seed=2)[:RUN]])
    assert kinds(both, walk("AAA")) == ["missing"]
    assert kinds(walk("AAA")[:RUN], pl.concat([walk("AAA"), walk("CCC")])) == ["new symbol"]
    ended = pl.concat([walk("AAA")[:RUN], walk("BBB", seed=2)[:100]])
    assert kinds(ended, walk("AAA")) == []  # it ended long before the run did


def test_no_news() -> None:
    bars = walk()
    merged = merge_bars(bars[:RUN], bars[:RUN])
    assert merged.bars.equals(bars[:RUN])
    assert [problem.kind for problem in merged.problems] == ["no newer bar"]


def test_bars_that_were_read_in_another_way_are_refused() -> None:
    bars = walk()
    with pytest.raises(BarsError, match="of the class equity in the run and crypto in the new bars"):
        merge_bars(bars[:RUN], bars.with_columns(asset_class=pl.lit("crypto")))
    hour = pl.duration(hours=1)
    with pytest.raises(BarsError, match="closes at"):
        merge_bars(bars[:RUN], bars.with_columns(pl.col("time", "known_at") - hour))
    with pytest.raises(BarsError, match="the run's 1 day"):
        merge_bars(bars[:RUN], bars[::5])
    with pytest.raises(BarsError, match="have the columns news"):
        merge_bars(bars[:RUN], bars.drop("news"))
    with pytest.raises(BarsError, match="none of the run's symbols"):
        merge_bars(bars[:RUN], walk("ZZZ"))
