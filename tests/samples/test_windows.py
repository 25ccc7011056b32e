"""Windows in brief: the same numbers, whatever rows are asked for together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast.market import synthetic
from gatecast.market.bars import distinct
from gatecast.samples.windows import Samples, make_samples


def made() -> Samples:
    """Two symbols of 300 bars each."""
    bars = synthetic.a2(300, seed=1, symbols=2)
    return make_samples(bars, ("ret_log_1", "volume_ratio_20"), lookback=20, horizon=5)["index"]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return made()


@given(limit=st.floats(0.005, 0.05), first=st.integers(0, 300), count=st.integers(1, 200))
@settings(max_examples=20, deadline=None)
def test_summaries_within_limits_are_those_of_clipped_windows(
    samples: Samples, limit: float, first: int, count: int
) -> None:
    rows = np.arange(first, min(first + count, len(samples)))
    limits = np.array([[-limit, -np.inf], [limit, np.inf]])
    windows = np.clip(samples.window(rows), limits[0], limits[1])  # (rows, lookback, features)
    ramp = np.arange(20) - 9.5
    slope = np.einsum("rtf,t->rf", windows, ramp / (ramp @ ramp))
    means = [windows[:, -span:].mean(axis=1) for span in (5, 10, 20)]
    expected = np.concatenate([windows[:, -1], *means, slope], axis=1)
    found = samples.summaries_within(rows, limits)
    assert np.allclose(found, expected, rtol=1e-10, atol=1e-13)
    alone = made().summaries_within(rows[-1:], limits)  # made of the row itself, where nothing else is there
    assert np.array_equal(found[-1:], alone)


def test_distinct_times_are_numpys() -> None:
    draw = np.random.default_rng(0)
    times = np.datetime64("2020-01-01T21", "us") + draw.integers(0, 50, 200).astype("timedelta64[D]")
    assert np.array_equal(distinct(times), np.unique(times))
    assert distinct(times[:0]).dtype == times.dtype
