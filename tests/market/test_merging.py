"""Two readings of a symbol: what one file would be refused for is refused between two, and one factor is undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl
import pytest

from gatecast.errors import BarsError
from gatecast.market.bars import make_bars, resample
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


def test_a_step_like_a_split_is_refused_where_the_class_never_splits_as_well() -> None:
    bars = walk(asset_class="index")
    halved = pl.concat([bars[RUN - 1 : RUN], scaled(bars[RUN:], 0.5)])
    with pytest.raises(BarsError, match="a split, 2 for 1"):
        merge_bars(bars[:RUN], halved)
    assert [problem.kind for problem in merge_bars(bars[:RUN], halved, False).problems] == ["odd"]  # it is named


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
        merge_bars(bars[:RUN], resample(bars, "1w").with_columns(news=pl.lit(0.0)))
    few = bars[:RUN:5].with_columns(pl.col("high") * 1.001)
    assert merge_bars(bars[:RUN], few).problems[0].kind == "revised"  # corrections have any spacing
    with pytest.raises(BarsError, match="have the columns news"):
        merge_bars(bars[:RUN], bars.drop("news"))
    with pytest.raises(BarsError, match="none of the run's symbols"):
        merge_bars(bars[:RUN], walk("ZZZ"))


# ── another market under a symbol of the run ──────────────────────────────────────────────────────


def other_market(kind: str, bars: pl.DataFrame) -> pl.DataFrame:
    """Bars of another market that a file calls by the run's symbol, at the run's level or not."""
    other = walk(seed=9)
    last = bars["close"][RUN - 1]
    alike = np.exp(0.9 * np.log(bars["close"] / 100).to_numpy() + 0.3 * np.log(other["close"] / 100).to_numpy())
    level = {
        "other": other["close"].to_numpy(),
        "other that meets at the end": (other["close"] * (last / other["close"][RUN - 1])).to_numpy(),
        "one that moves alike": 40 * alike,
        "the other way round": (last**2 / bars["close"]).to_numpy(),
        "a session late": np.r_[bars["close"][0], bars["close"].to_numpy()[:-1]],
        "backwards": bars["close"].to_numpy()[::-1],
        "other from the latest 100 on": np.r_[
            bars["close"].to_numpy()[: RUN - 100], other["close"].to_numpy()[RUN - 100 :]
        ],
        "made up of noise": 100 * np.exp(np.random.default_rng(5).normal(0, 0.1, len(bars))),
    }[kind]
    close = pl.Series(level)
    return make_bars(
        bars.with_columns(open=close, high=close * 1.004, low=close / 1.004, close=close)
    )  # fmt: skip


KINDS = (
    "other", "other that meets at the end", "one that moves alike", "the other way round", "a session late",
    "backwards", "other from the latest 100 on", "made up of noise",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asset_class", ["equity", "index"])
@pytest.mark.parametrize("splits", [None, False])
def test_another_market_under_the_runs_symbol_is_refused(
    kind: str, asset_class: str, splits: Literal[False] | None
) -> None:
    bars = walk(asset_class=asset_class)
    with pytest.raises(BarsError, match="are another market's than the run's: of 300 common bars") as refused:
        merge_bars(bars[:RUN], other_market(kind, bars), splits)
    said = str(refused.value)
    assert "the run has" in said
    assert "leave the symbol out with --symbols" in said
    assert "unchanged bars" not in said  # what 300 common bars show is no correction
    with pytest.raises(BarsError, match="are another market's"):  # nor without a newer bar
        merge_bars(bars[:RUN], other_market(kind, bars)[:RUN], splits)


@pytest.mark.parametrize("common", [1, 2])
def test_one_common_bar_at_another_level_is_enough(common: int) -> None:
    bars = walk(asset_class="index")
    with pytest.raises(BarsError, match=f"of {common} common bars {common} disagree") as refused:
        merge_bars(bars[:RUN], scaled(bars[RUN - common :], 1.4))
    assert "give 2 or more unchanged bars" in str(refused.value)
    finished = bars.with_columns(close=pl.when(pl.int_range(pl.len()) == RUN - 1).then("high").otherwise("close"))
    assert kinds(bars[:RUN], finished[RUN - 1 :]) == ["revised"]  # a bar that was not finished when the run saw it


@pytest.mark.parametrize("wrong", [1, 2])
def test_a_true_correction_is_refused_alone_and_taken_with_two_unchanged_bars(wrong: int) -> None:
    bars, factor = walk(asset_class="index"), pl.when(pl.int_range(pl.len()) >= RUN - wrong).then(1.2).otherwise(1.0)
    seen = bars[:RUN].with_columns((pl.col(name) * factor) for name in ("open", "high", "low", "close"))
    with pytest.raises(BarsError, match="Where they are corrections, give 2 or more unchanged bars"):
        merge_bars(seen, bars[RUN - wrong : RUN])
    merged = merge_bars(seen, bars[RUN - wrong - 2 : RUN])
    assert [problem.kind for problem in merged.problems] == ["revised", "no newer bar"]
    assert merged.news["close"].to_list() == bars[RUN - wrong : RUN]["close"].to_list()


def test_a_file_with_nothing_in_common_is_left_to_the_seam() -> None:
    bars = walk(asset_class="index")
    assert kinds(bars[:RUN], bars[RUN:]) == []
    assert kinds(bars[:RUN], scaled(bars[RUN:], 1.01)) == []


def test_swapped_symbols_are_refused_and_all_are_named() -> None:
    one, two = walk("AAA"), walk("BBB", seed=2)
    known = pl.concat([one[:RUN], two[:RUN]])
    swapped = make_bars(pl.concat([one, two]).with_columns(pl.col("symbol").replace({"AAA": "BBB", "BBB": "AAA"})))
    with pytest.raises(
        BarsError, match=r"of 'AAA' are another market's than the run's \(2 symbols are: 'AAA', 'BBB'\)"
    ):
        merge_bars(known, swapped)


def test_corrections_and_other_adjustments_are_no_other_market() -> None:
    bars = walk()
    random = np.random.default_rng(4)
    third = pl.Series(np.where(random.random(len(bars)) < 0.3, np.exp(random.normal(0, 0.05, len(bars))), 1.0))
    corrected = make_bars(bars.with_columns(pl.col(PRICES) * third))
    assert merge_bars(bars[:RUN], pl.concat([corrected[:RUN], bars[RUN:]])).problems[0].kind == "revised"
    dividends = pl.Series(0.99 ** (np.arange(len(bars))[::-1] // 60))  # one a quarter, in the new file alone
    (revised,) = merge_bars(bars[:RUN], bars.with_columns(pl.col(PRICES) * dividends)).problems[-1:]
    assert revised.kind == "revised"
    still = walk().with_columns(pl.lit(50.0).alias(name) for name in PRICES)
    assert kinds(still[:RUN], still) == []


def test_prices_in_cents_of_a_small_stock_still_prove_a_split() -> None:
    bars = walk().with_columns((pl.col(PRICES) / 5).round(2))
    merged = merge_bars(bars[:RUN], make_bars(bars.with_columns((pl.col(PRICES) / 10).round(2))))
    assert merged.problems[0].kind == "rescaled"
    np.testing.assert_allclose(merged.bars["close"][RUN:], bars["close"][RUN:], rtol=0.011)


@pytest.mark.parametrize("times", [0.6, 1.3])
def test_bars_without_a_common_one_that_begin_at_another_level_are_refused(times: float) -> None:
    bars = walk()
    newer = bars[RUN:].with_columns(pl.col("open", "high", "low", "close") * times)
    with pytest.raises(BarsError, match=r"begin at .* no bar is common: that is \d+ standard deviations of a step"):
        merge_bars(bars[:RUN], newer)
    day = newer["time"][0].date()
    true = pl.DataFrame({"symbol": newer["symbol"][0], "date": [day], "ratio": [1.0]})
    for splits in (true, False):
        assert len(merge_bars(bars[:RUN], newer, splits).bars) == RUN + 20
    assert len(merge_bars(bars[:RUN], bars[RUN:]).bars) == RUN + 20


def test_news_have_the_segments_of_their_own_file() -> None:
    """A row that nothing had read yet lies after a gap of the known bars, which the file does not have."""
    bars = walk()
    known_at = pl.when(pl.int_range(pl.len()) == 260).then(pl.col("time").max()).otherwise("time")
    known = make_bars(pl.concat([bars[:100], bars[200:RUN]]).drop("segment"))
    late = make_bars(bars.with_columns(known_at=known_at).drop("segment"))
    unread = known.with_columns(
        known_at=pl.when(pl.col("time") == bars["time"][260]).then(bars["time"][-1]).otherwise("known_at")
    )
    news = merge_bars(unread, late[250:]).news
    assert news["time"].to_list() == [bars["time"][260], *bars["time"][RUN:]]
    assert news["segment"].n_unique() == 1
