"""Columns and functions that know what is to come are named; those that do not are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest

from gatecast.audits.leaks import Audit, Leak, knowing_columns, with_knowing
from gatecast.evaluation.knowing import beyond_luck, knowing, most_to_blame
from gatecast.market import read_bars, synthetic
from gatecast.samples.features import DEFAULT_FEATURES, register
from gatecast.samples.features.catalogue import FEATURES

Array = np.ndarray
NAMES = ("ret_log_1", "x")


Maker = Callable[[Array, np.random.Generator], Array]


def with_column(bars: pl.DataFrame, make: Maker, name: str = "x") -> pl.DataFrame:
    """Bars with one more column, made of each symbol's log returns."""
    parts = []
    for number, part in enumerate(bars.partition_by("symbol", maintain_order=True)):
        returns = np.diff(np.log(part["close"].to_numpy()), prepend=np.log(part["close"][0]))
        rng = np.random.default_rng([number, len(bars)])
        parts.append(part.with_columns(pl.Series(name, make(returns, rng))))
    return pl.concat(parts)


def coming(returns: Array, bars: int) -> Array:
    """(bars,) sum of the next so many returns, fewer at the end."""
    total, at = np.r_[0, np.cumsum(returns)], np.arange(len(returns))
    return total[np.minimum(at + 1 + bars, len(returns))] - total[np.minimum(at + 1, len(returns))]


def unit(values: Array) -> Array:
    return values / np.std(values)


def figure(returns: Array, rng: np.random.Generator) -> Array:
    """(bars,) of the last five returns, and noise."""
    past = np.convolve(returns, np.ones(5))[: len(returns)]
    return 0.5 * unit(past) + np.sqrt(0.75) * rng.standard_normal(len(returns))


LEAKS: dict[str, Maker] = {
    "the next five": lambda r, _: coming(r, 5),
    "a fifth of the next bar": lambda r, g: (
        np.sqrt(0.2) * unit(coming(r, 1)) + np.sqrt(0.8) * g.standard_normal(len(r))
    ),
    "its sign, sometimes": lambda r, g: np.where(g.random(len(r)) < 0.5, np.sign(coming(r, 5)), 0.0),
    "in the last third alone": lambda r, g: np.where(
        np.arange(len(r)) > len(r) * 2 // 3, unit(coming(r, 5)), g.standard_normal(len(r))
    ),
    "the coming variance": lambda r, _: np.sqrt(coming(r**2, 5)),
    "revised by what came": lambda r, g: g.standard_normal(len(r)) + 0.4 * unit(coming(r, 5)),
    "a centred mean": lambda r, g: np.convolve(r, np.ones(7) / 7, "same"),
}
HONEST: dict[str, Maker] = {
    "every fifth bar, filled on": lambda r, g: figure(r, g)[np.arange(len(r)) // 5 * 5],
    "noise": lambda r, g: g.standard_normal(len(r)),
    "persistent noise": lambda r, g: np.convolve(g.standard_normal(len(r) + 399), 0.99 ** np.arange(400), "valid"),
    "the last five": lambda r, g: np.convolve(r, np.ones(5))[: len(r)],
    "the variance of the last five": lambda r, g: np.log(np.convolve(r**2, np.ones(5))[: len(r)] + 1e-6),
}


@pytest.mark.parametrize("market", [synthetic.a1, synthetic.a2])
@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_knows_is_named(name: str, market: Callable[..., pl.DataFrame]) -> None:
    found = knowing(with_column(market(2500, 3), LEAKS[name]), NAMES)
    assert [one.columns for one in found] == [("x",)]
    assert found[0].of == ("variance" if name == "the coming variance" else "return")


@pytest.mark.parametrize("market", [synthetic.a1, synthetic.a2])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_column_is_not(name: str, market: Callable[..., pl.DataFrame]) -> None:
    assert knowing(with_column(market(1600, 4), HONEST[name]), (*DEFAULT_FEATURES, "x")) == []


def test_a_figure_of_every_fifth_bar_that_is_filled_back_is_named() -> None:
    """Over all bars it explains too little of what comes; it does where it begins."""

    def filled_back(returns: Array, rng: np.random.Generator) -> Array:
        return figure(returns, rng)[np.minimum((np.arange(len(returns)) + 4) // 5 * 5, len(returns) - 1)]

    (found,) = knowing(with_column(synthetic.a1(2500, 3), filled_back), NAMES)
    assert (found.columns, found.of) == (("x",), "return")


def test_the_share_that_is_told_is_the_squared_correlation() -> None:
    bars = with_column(synthetic.a1(1600, 5), lambda r, _: coming(r, 1))
    (one,) = knowing(bars, NAMES, 1)
    returns = np.diff(np.log(bars["close"].to_numpy()))
    square = np.r_[np.nan, returns**2]
    sigma = np.sqrt(pl.Series(square).fill_nan(None).ewm_mean(alpha=0.06, min_samples=22).to_numpy())  # RiskMetrics
    ahead, known = returns / sigma[:-1], bars["x"].to_numpy()[:-1]
    rows = np.flatnonzero(np.isfinite(ahead))
    whole = [rows, *np.array_split(rows, 3)]
    shares = [np.corrcoef(known[part], ahead[part])[0, 1] ** 2 for part in whole]
    assert one.r2 == pytest.approx(max(shares), abs=1e-9)
    assert one.limit == pytest.approx(0.02)


def test_two_columns_whose_sum_knows_are_named_together() -> None:
    bars = with_column(synthetic.a1(1600, 6), lambda r, g: 6 * g.standard_normal(len(r)), "cover")
    cover = bars["cover"].to_numpy()
    bars = with_column(bars, lambda r, g: unit(coming(r, 5)) - cover, "rest")
    (one,) = knowing(bars, ("ret_log_1", "cover", "rest"))
    assert set(one.columns) == {"cover", "rest"}
    assert knowing(bars, ("ret_log_1", "cover")) == []
    assert {leak.column for leak in knowing_columns(bars, ("cover", "rest"), 5)} == {"cover", "rest"}


def test_one_symbol_of_three_is_enough_and_is_named() -> None:
    def first_alone(r: Array, g: np.random.Generator) -> Array:
        first_alone.count += 1
        return coming(r, 5) if first_alone.count == 2 else 0.02 * g.standard_normal(len(r))

    first_alone.count = 0
    (one,) = knowing(with_column(synthetic.a1(1000, 7, symbols=3), first_alone), NAMES)
    assert one.symbol == "A1_1"


def test_volume_that_knows_tomorrow_is_named_where_a_feature_needs_it() -> None:
    bars = synthetic.a1(1600, 8)
    moves = np.abs(np.diff(np.log(bars["close"].to_numpy()), append=np.nan))
    bars = bars.with_columns(volume=pl.Series(np.exp(10 + 60 * np.nan_to_num(moves))))
    assert [one.columns for one in knowing(bars, ("volume_ratio_20",), 1)] == [("volume",)]
    assert knowing(bars, ("ret_log_1",), 1) == []


@pytest.fixture
def registered() -> Iterator[None]:
    before = set(FEATURES)
    yield
    for name in set(FEATURES) - before:
        FEATURES.remove(name)


@pytest.mark.usefixtures("registered")
def test_a_registered_function_and_the_column_behind_it_are_named() -> None:
    bars = with_column(synthetic.a1(1600, 9), lambda r, g: unit(coming(r, 2)) + g.standard_normal(len(r)), "rating")

    @register("mood", warmup=1, needs=("rating",))
    def mood(rating: Array) -> Array:
        return np.tanh(np.convolve(rating, (0.7, 0.3))[: len(rating)])

    @register("body", warmup=0, needs=("open", "close"))
    def body(open: Array, close: Array) -> Array:
        return close / open - 1

    assert {one.columns for one in knowing(bars, ("ret_log_1", "mood", "body"))} == {("mood",), ("rating",)}


def test_limits_scale_with_bars_a_day() -> None:
    days = np.busday_offset("2020-01-06", np.arange(600)).astype("datetime64[us]")
    times = (days[:, None] + np.arange(15, 22) * np.timedelta64(1, "h")).reshape(-1)
    bars = synthetic.a1(len(times), 10).with_columns(time=pl.Series(times).dt.replace_time_zone("UTC"))
    bars = bars.with_columns(known_at="time", segment=pl.lit(0, pl.Int32))

    def weak(r: Array, g: np.random.Generator) -> Array:
        return np.sqrt(0.016) * unit(coming(r, 1)) + g.standard_normal(len(r))

    hourly = with_column(bars, weak)
    (one,) = knowing(hourly, NAMES, 1)
    assert one.limit == pytest.approx(0.02 / 7)
    daily = with_column(
        synthetic.a1(4200, 10), lambda r, g: np.sqrt(0.016) * unit(coming(r, 1)) + g.standard_normal(len(r))
    )
    assert knowing(daily, NAMES, 1) == []  # 1.6 % of the next day is believed, of the next hour not


def test_a_chance_of_one_in_a_thousand_over_all_tests() -> None:
    from scipy.stats import norm

    assert 2 * 60 * norm.sf(beyond_luck(60)) == pytest.approx(0.001)


def test_names_allow_it() -> None:
    bars = with_column(synthetic.a1(1000, 11), LEAKS["the next five"])
    assert [leak.column for leak in knowing_columns(bars, NAMES, 5)] == ["x"]
    assert knowing_columns(bars, NAMES, 5, ("x",)) == knowing_columns(bars, NAMES, 5, ("planted",)) == []
    cut = Leak("features", "x", "cut", sentence="x reacts")
    nature = Leak("features", "x", "nature", sentence="x knows")
    audit = Audit((cut, nature), (), (), ())
    assert with_knowing(audit, [], ("x",)).findings == (cut,)  # what a cut shows is never allowed
    assert with_knowing(audit, [nature]).findings == (cut, nature)


def test_the_features_most_to_blame_come_first() -> None:
    bars = with_column(synthetic.a1(1000, 12), LEAKS["the next five"])
    ((name, share), *_) = most_to_blame(bars, ("ret_log_1", "x"), 5)
    assert name == "x"
    assert share > 0.8


def test_a_column_of_the_last_move_is_no_leak_where_variance_rises_after_falls() -> None:
    """On the embedded indices: the last return, that of a week, whether the price fell."""
    bars = read_bars("embedded", start="2005-01-01", symbols=["SP500"])
    move = pl.col("close").log().diff()
    columns = {"last": move, "week": move.rolling_sum(5), "fell": (move < 0).cast(pl.Float64)}
    known = knowing(bars.with_columns(**columns), list(columns))
    assert known == []
