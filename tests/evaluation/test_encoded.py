"""Columns made of the answers are named however little they explain; honest ones with few values are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from gatecast.audits.leaks import knowing_columns
from gatecast.evaluation.encoded import Answers
from gatecast.evaluation.knowing import knowing
from gatecast.market import synthetic
from gatecast.samples.features import DEFAULT_FEATURES, compute_features
from gatecast.samples.targets import to_array

Array = np.ndarray
Maker = Callable[[Array, Array, Array, np.random.Generator], Array]
NAMES = ("ret_log_1", "x")


def with_x(bars: pl.DataFrame, make: Maker) -> pl.DataFrame:
    """Bars with a column made of each symbol's log returns, months (0-11) and years."""
    parts = []
    for number, part in enumerate(bars.partition_by("symbol", maintain_order=True)):
        returns = np.diff(np.log(part["close"].to_numpy()), prepend=np.log(part["close"][0]))
        returns[0] = np.nan
        month, year = part["time"].dt.month().to_numpy() - 1, part["time"].dt.year().to_numpy()
        x = make(returns, month, year, np.random.default_rng([number, len(bars)]))
        parts.append(part.with_columns(pl.Series("x", x)))
    return pl.concat(parts)


def ahead(returns: Array, bars: int = 1) -> Array:
    """(bars,) sum of the next so many returns, NaN at the end."""
    windows = np.lib.stride_tricks.sliding_window_view(returns[1:], bars).sum(1)
    return np.r_[windows, np.full(bars, np.nan)]


def mean_by(group: Array, answers: Array, weight: float = 0.0) -> Array:
    """(bars,) mean answer of each group, drawn to 0 by so many further answers of 0."""
    there = np.isfinite(answers)
    total = np.bincount(group[there], answers[there], minlength=group.max() + 1)
    return (total / (np.bincount(group[there], minlength=group.max() + 1) + weight))[group]


def decile(values: Array) -> Array:
    return np.searchsorted(np.quantile(values, np.arange(1, 10) / 10), values)


def fitted(returns: Array, rng: np.random.Generator) -> Array:
    """(bars,) fitted values of a regression of the next return on ten columns of noise, over the whole sample."""
    table = np.column_stack([np.ones(len(returns)), rng.standard_normal((len(returns), 10))])
    return table @ np.linalg.lstsq(table[:-1], ahead(returns)[:-1], rcond=None)[0]


def of_past_years(answers: Array, month: Array, year: Array) -> Array:
    value = np.zeros(len(answers))
    for one in np.unique(year)[1:]:
        for k in range(12):
            value[(year == one) & (month == k)] = answers[(year < one) & (month == k)].mean()
    return value


MADE: dict[str, Maker] = {
    "mean by month": lambda r, m, y, g: mean_by(m, ahead(r)),
    "in other units": lambda r, m, y, g: 3 - 1e4 * mean_by(m, ahead(r)),
    "drawn to 0": lambda r, m, y, g: mean_by(m, ahead(r), 100),
    "of the bar itself": lambda r, m, y, g: mean_by(m, r),
    "simple, over 5 bars": lambda r, m, y, g: mean_by(m, np.expm1(ahead(r, 5))),
    "share of rises": lambda r, m, y, g: mean_by(m, np.where(np.isfinite(ahead(r)), ahead(r) > 0, np.nan)),
    "variance": lambda r, m, y, g: mean_by(m, ahead(r) ** 2),
    "log variance": lambda r, m, y, g: np.log(mean_by(m, ahead(r) ** 2)),
    "size": lambda r, m, y, g: mean_by(m, np.abs(ahead(r))),
    "mean by decile of a feature": lambda r, m, y, g: mean_by(
        decile(np.convolve(np.nan_to_num(r), np.ones(20))[: len(r)]), ahead(r, 5)
    ),
    "fitted": lambda r, m, y, g: fitted(r, g),
}
HONEST: dict[str, Maker] = {
    "month": lambda r, m, y, g: m.astype(float),
    "a number for each month": lambda r, m, y, g: g.standard_normal(12)[m],
    "random category": lambda r, m, y, g: g.standard_normal(10)[g.integers(0, 10, len(r))],
    "mean by month of past years": lambda r, m, y, g: of_past_years(ahead(r), m, y),
    "mean by month of the first half": lambda r, m, y, g: mean_by(
        m, np.where(np.arange(len(r)) < len(r) // 2, ahead(r), np.nan)
    ),
    "decile of a feature": lambda r, m, y, g: decile(np.convolve(np.nan_to_num(r), np.ones(20))[: len(r)]).astype(
        float
    ),
    "rounded return": lambda r, m, y, g: np.round(np.nan_to_num(r), 3),
    "share of the whole sample's deviation": lambda r, m, y, g: np.nan_to_num(r) / np.nanstd(r),
}


@pytest.mark.parametrize("symbols", [1, 3])
@pytest.mark.parametrize("name", MADE)
def test_a_column_made_of_the_answers_is_named(name: str, symbols: int) -> None:
    bars = with_x(synthetic.a1(1750, 3, symbols=symbols), MADE[name])
    (one,) = knowing(bars, NAMES)
    assert one.columns == ("x",)
    assert one.made in ("groups", "fitted")
    assert one.r2 < 0.05  # no limit of R² shows it


@pytest.mark.parametrize("market", [synthetic.a1, synthetic.a2])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_column_with_few_values_is_not(name: str, market: Callable[..., pl.DataFrame]) -> None:
    assert knowing(with_x(market(1750, 4, symbols=3), HONEST[name]), NAMES) == []


def left_out(group: Array, answers: Array) -> Array:
    """(bars,) mean answer of the other rows of each row's group."""
    answers = np.nan_to_num(answers)
    return (np.bincount(group, answers)[group] - answers) / (np.bincount(group)[group] - 1)


def smoothed(answers: Array, width: float = 10.0) -> Array:
    """(bars,) mean answer of near days of the year, so many business days wide."""
    day = np.arange(len(answers)) % 261
    apart = np.abs(day[:, None] - day[None, :])
    near = np.exp(-0.5 * (np.minimum(apart, 261 - apart) / width) ** 2)
    return near @ np.nan_to_num(answers) / near.sum(1)


HIDDEN: dict[str, Maker] = {
    "means that leave each row out": lambda r, m, y, g: left_out(m, ahead(r)),
    "a mean by month under as much noise": lambda r, m, y, g: (
        mean_by(m, ahead(r)) + np.std(mean_by(m, ahead(r))) * g.standard_normal(len(r))
    ),
    "a mean by month and momentum": lambda r, m, y, g: (
        mean_by(m, ahead(r)) + 0.05 * np.convolve(np.nan_to_num(r), np.ones(20))[: len(r)]
    ),
    "a smoothed season": lambda r, m, y, g: smoothed(ahead(r)),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_sums_by_the_calendar_show_what_has_many_values(name: str) -> None:
    (one,) = knowing(with_x(synthetic.a1(1750, 3, symbols=4), HIDDEN[name]), NAMES)
    assert (one.columns, one.made) == (("x",), "groups")


@pytest.mark.parametrize("market", [synthetic.a1, synthetic.a2])
def test_features_of_the_past_have_no_such_sums(market: Callable[..., pl.DataFrame]) -> None:
    bars = market(1750, 12, symbols=3)
    answers, features = Answers(bars, 5), compute_features(bars, DEFAULT_FEATURES)
    assert [name for name in DEFAULT_FEATURES if answers.made(to_array(features, name))] == []


def test_a_mean_over_all_symbols_is_named() -> None:
    bars = synthetic.a1(1750, 5, symbols=4).with_columns(month=pl.col("time").dt.month())
    coming = (pl.col("close").log().shift(-1) - pl.col("close").log()).over("symbol")
    bars = bars.with_columns(y=coming).with_columns(x=2 * pl.col("y").mean().over("month")).drop("y", "month")
    (one,) = knowing(bars, NAMES)
    assert (one.made, one.symbol, one.bars) == ("groups", None, 1)


def test_a_forecast_of_true_skill_by_decile_is_left_in_peace() -> None:
    for seed in range(3):
        bars = synthetic.b1(1750, seed=seed, r2=0.01, symbols=3)
        x = bars["x"].to_numpy()
        means = np.array([x[decile(x) == k].mean() for k in range(10)])
        assert knowing(bars.with_columns(x=pl.Series(means[decile(x)])), NAMES) == []


def test_fitted_values_in_other_units_are_named_beside_their_inputs() -> None:
    bars = synthetic.a1(1750, 6)
    rng = np.random.default_rng(6)
    inputs = rng.standard_normal((len(bars), 6))
    coming = np.diff(np.log(bars["close"].to_numpy()))
    table = np.column_stack([np.ones(len(bars)), inputs])
    value = table @ np.linalg.lstsq(table[:-1], coming, rcond=None)[0]
    bars = bars.with_columns(pl.Series(f"input_{k}", inputs[:, k]) for k in range(6))
    made = bars.with_columns(x=pl.Series(5 + value / value.std()))
    assert [(one.columns, one.made) for one in knowing(made, ("rsi_14", "x"))] == [(("x",), "fitted")]
    honest = bars.with_columns(x=pl.Series(inputs @ rng.standard_normal(6)))
    assert knowing(honest, ("rsi_14", "x")) == []


def test_symbols_that_move_together_are_no_further_evidence() -> None:
    """Ten copies of one market: a weekday number that fits one of them well fits all, and is named for none."""
    one = synthetic.a1(1750, 8)
    for seed in range(8):
        copies = pl.concat(
            one.with_columns(pl.lit(f"S{k}").alias("symbol")) for k in range(10)
        )  # the same closes ten times
        value = np.random.default_rng(seed).standard_normal(5)[copies["time"].dt.weekday().to_numpy() - 1]
        assert Answers(copies, 1).made(value) is None


def test_a_bounce_between_bid_and_ask_is_no_exact_answer() -> None:
    """Returns that take each other back have sums with less noise than their own: a column is not closer for that."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        walk, bounce = 0.002 * rng.standard_normal(1750), 0.01 * rng.standard_normal(1750)
        bars = synthetic.a1(1750, 9).with_columns(close=pl.Series(100 * np.exp(np.cumsum(walk) + bounce)))
        returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
        assert Answers(bars, 5).made(np.round(returns, 3)) is None


def test_what_is_said_of_it_and_that_a_name_allows_it() -> None:
    bars = with_x(synthetic.a1(1750, 3), MADE["in other units"])
    (leak,) = knowing_columns(bars, NAMES, 5)
    assert leak.column == "x"
    assert "lies on the means of the return of A1 over the next bar by its own values" in leak.sentence
    assert knowing_columns(bars, NAMES, 5, ("x",)) == []
