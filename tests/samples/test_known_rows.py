"""Bars that become known late: absent until then, and nothing that is said before depends on what they hold."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gatecast.market import synthetic
from gatecast.market.bars import make_bars
from gatecast.samples.known import NEVER, delays, window_ends
from gatecast.samples.windows import Samples, make_samples

FEATURES = ("ret_log_1", "x")


def bars_known(days: dict[int, float] | float, seed: int = 5, count: int = 600) -> pl.DataFrame:
    """A planted market, its rows (all, or those named) known so many days after their close."""
    bars = synthetic.b1(count, seed=seed, r2=0.05)
    late = np.full(count, float(days)) if not isinstance(days, dict) else np.zeros(count)
    for row, value in days.items() if isinstance(days, dict) else ():
        late[row] = value
    spans = pl.Series([timedelta(days=float(one)) for one in late], dtype=pl.Duration("us"))
    return make_bars(bars.with_columns(known_at=pl.col("time") + spans))


def made(bars: pl.DataFrame) -> Samples:
    return make_samples(bars, FEATURES)["index"]


def test_bars_known_before_the_next_fill_are_known_in_time() -> None:
    on_time, evening = made(bars_known(0.0)), made(bars_known(0.4))
    assert np.array_equal(on_time.ends, evening.ends)
    assert np.array_equal(evening.ends, evening.decided)
    assert np.array_equal(on_time.features, evening.features, equal_nan=True)


def test_bars_known_more_than_three_sessions_late_leave_no_forecast() -> None:
    assert len(made(bars_known(14.0))) == 0


def test_a_window_ends_at_the_newest_bar_that_is_known() -> None:
    bars = bars_known(2.0)
    samples = made(bars)
    time = bars["time"].to_numpy()
    fill, known_at = time + np.timedelta64(12, "h"), bars["known_at"].to_numpy()
    assert (samples.ends < samples.decided).any()
    for decided, end in zip(samples.decided.tolist(), samples.ends.tolist(), strict=True):
        assert end == np.flatnonzero(known_at <= fill[decided]).max()
    answer = np.log(bars["close"].to_numpy())
    row = 100
    np.testing.assert_allclose(
        samples.targets["return"].value[samples.decided[row], -1],
        answer[samples.decided[row] + 5] - answer[samples.decided[row]], rtol=1e-9,
    )  # fmt: skip


def test_no_forecast_while_a_bar_inside_the_window_is_not_known() -> None:
    samples = made(bars_known({300: 9.0}))  # known after 6 or 7 bars
    bars = bars_known({300: 9.0})
    back = int(np.searchsorted(bars["time"].to_numpy() + np.timedelta64(12, "h"), bars["known_at"].to_numpy()[300]))
    issued = set(samples.decided.tolist())
    assert {299, 300, back, back + 1} <= issued  # at 300 from the window that ends at 299
    assert samples.ends[samples.decided == 300].tolist() == [299]
    assert not issued & set(range(301, back))


def test_a_bar_known_after_its_window_has_passed_is_never_read() -> None:
    samples, without = made(bars_known({300: 200.0})), made(bars_known({300: 400.0}))
    assert np.isnan(samples.features[300]).all()
    assert not np.isin(np.arange(300, 330), samples.ends).any()
    assert np.array_equal(samples.features, without.features, equal_nan=True)
    passing = samples.known_at[np.isin(samples.decided, range(295, 300))]  # answers that pass it
    assert (passing == bars_known({300: 200.0})["known_at"].to_numpy()[300]).all()


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_does_not_depend_on_what_is_not_known(seed: int) -> None:
    """Rows late at random: whatever they hold, the decisions before they are known read the same windows."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.arange(150, 590), 25, replace=False)
    bars = bars_known({int(row): float(rng.choice([1, 2, 3, 5, 20, 90])) for row in rows}, seed)
    whole = made(bars)
    for moment in rng.choice(bars["time"].to_list()[200:], 6, replace=False):
        hidden = pl.col("known_at") > moment
        other = bars.with_columns(
            pl.when(hidden).then(pl.col(name) * 1.5).otherwise(name).alias(name)
            for name in ("open", "high", "low", "close", "volume", "x")
        )
        then = made(other)
        assert np.array_equal(whole.decided, then.decided)
        counted = whole.since <= np.datetime64(moment.replace(tzinfo=None))
        assert counted.sum() > 50
        assert np.array_equal(whole.window(np.flatnonzero(counted)), then.window(np.flatnonzero(counted)))
        for name in ("sigma", "har", "variance", "smoothed", "recent", "ratio", "step"):
            mine, theirs = (getattr(one.facts, name)[one.ends[counted]] for one in (whole, then))
            assert np.array_equal(mine, theirs, equal_nan=True), name
        known = whole.known_at <= np.datetime64(moment.replace(tzinfo=None))
        for head in ("return", "direction", "volatility"):
            mine, theirs = (one.targets[head].value[one.decided[known]] for one in (whole, then))
            assert np.array_equal(mine, theirs, equal_nan=True), head


def test_delays_count_bars_and_the_last_bars_may_never_be_known() -> None:
    bars = bars_known({10: 3.0, 599: 3.0})
    found = delays(bars)
    assert found[10] in (2, 3)
    assert found[599] == NEVER
    assert not np.delete(found, [10, 599]).any()
    assert window_ends(bars, found, 30)[599] == 598
