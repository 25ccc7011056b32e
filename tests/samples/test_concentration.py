"""How much of the past variance came in few bars, against plain numpy; and the regression that reads it."""

from __future__ import annotations

import numpy as np
import polars as pl

from gatecast.forecasting.models.har import LinearVariance
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.samples.variance import CONCENTRATION, SPREADS
from gatecast.samples.windows import make_samples


def test_it_is_what_numpy_says_of_the_proxies_of_22_bars() -> None:
    samples = make_samples(synthetic.g1(400, seed=3), ("ret_log_1",))["index"]
    variance = np.exp(samples.facts.har[:, 0])
    for row in (120, 250, 399):
        last = variance[row - 21 : row + 1]
        expected = {
            "largest_5": np.log(last[-5:].max() / last[-5:].mean()),
            "largest_22": np.log(last.max() / last.mean()),
            "spike": np.log(last[-1] / last.mean()) ** 2,
            "spread_22": np.log(last.std(ddof=1) / last.mean()),
        }
        found = dict(zip(CONCENTRATION, samples.facts.concentration[row], strict=True))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def test_of_equal_variances_it_is_a_number() -> None:
    bars = synthetic.a1(300, seed=1)
    even = pl.int_range(pl.len()) % 2
    still = bars.with_columns(open=100.0 + even, high=102.0 + even, low=99.0 + even, close=100.0 + even)
    still = still.with_columns(high=pl.col("low") * 1.03)
    facts = make_samples(still, ("ret_log_1",), volatility_proxy="parkinson")["index"].facts
    made = facts.concentration[np.isfinite(facts.variance).all(axis=1)]
    assert np.isfinite(made).all()
    assert len(made) > 200
    np.testing.assert_allclose(made[:, 3], SPREADS[0])


def test_the_regression_reads_it_only_where_it_is_asked_to() -> None:
    samples = make_samples(synthetic.g1(900, seed=5), ("ret_log_1",))["index"]
    plain, with_it = LinearVariance(pooled=True), LinearVariance(pooled=True, concentration=True)
    made = walk_forward([plain, with_it], samples, Schedule(minimum="1Y"))
    one, other = (made.values[name]["volatility"] for name in ("har_class", "har_concentration"))
    assert np.isfinite(one[made.rows]).all()
    assert np.isfinite(other[made.rows]).all()
    assert np.abs(np.log(one / other)[made.rows]).max() > 1e-3
