"""The paired test, each number by its formula."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import made_up
from scipy import stats

from gatecast.evaluation.paired import Paired, paired
from gatecast.evaluation.record import Days, Record, day_means
from gatecast.metrics import significance
from gatecast.samples.windows import Samples


def two(losses: np.ndarray, against: np.ndarray, overlap: int = 1) -> Paired:
    blank = np.full(len(losses), np.nan)
    return Paired(
        "a", "b", Days(np.arange(len(losses)).astype("datetime64[D]"), against, losses, blank, blank), overlap
    )


def test_every_number_is_that_of_the_daily_losses(samples: Samples) -> None:
    record = Record.of({"index": made_up(samples, seed=1, skill={"lstm": 0.2})}, "direction")
    both, days = paired(record, "lstm", "base_rate"), day_means(record, "lstm", "base_rate")
    gain, n, h = days.rival - days.model, len(days.day), record.overlap
    assert (both.model, both.against, both.n, both.overlap) == ("lstm", "base_rate", n, 5)
    assert both.gain == pytest.approx(1 - days.model.mean() / days.rival.mean())
    centred = gain - gain.mean()
    spread = sum((1 if k == 0 else 2) * (centred[k:] @ centred[: n - k]) / n for k in range(h))
    statistic = gain.mean() / np.sqrt(spread / n) * np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    assert both.statistic == pytest.approx(statistic)
    assert both.pvalue == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1))
    width = significance.bandwidth_of(n, h)
    covered = sum((1 if k == 0 else 2) * (1 - k / width) * (centred[k:] @ centred[: n - k]) / n for k in range(width))
    reach = significance.fixed_b_critical(significance.BOUND, width / n) * np.sqrt(covered / n)
    assert both.low == pytest.approx((gain.mean() - reach) / days.rival.mean())
    assert both.high == pytest.approx((gain.mean() + reach) / days.rival.mean())
    assert both.mean.pvalue == pytest.approx(significance.fixed_b_pvalue(gain.mean() / np.sqrt(covered / n), width / n))


def test_the_outcome_turns_with_the_sides() -> None:
    draw = np.random.default_rng(1)
    other = 1 + 0.1 * draw.standard_normal(300)
    better = other - 0.05 + 0.05 * draw.standard_normal(300)
    words = ("better", "worse", "unclear")
    assert two(better, other).outcome(*words) == "better"
    assert two(other, better).outcome(*words) == "worse"
    assert two(other, draw.permutation(other)).outcome(*words) == "unclear"
    assert two(better, other).gain == pytest.approx(-two(other, better).gain, rel=0.2)


def test_the_same_losses_have_no_test() -> None:
    loss = np.random.default_rng(2).random(300)
    both = two(loss * (1 + 1e-15), loss)
    assert both.same
    assert np.isnan([both.statistic, both.pvalue]).all()
    assert both.outcome("better", "worse", "unclear") == "unclear"


def test_too_few_days_for_their_overlap_say_nothing() -> None:
    draw = np.random.default_rng(3)
    loss = draw.random(70)
    few = two(loss, loss + 1 + 0.1 * draw.standard_normal(70), overlap=5)
    assert np.isnan(few.pvalue)
    assert few.outcome("better", "worse", "unclear") == "unclear"
    assert two(np.zeros(0), np.zeros(0)).n == 0
    assert np.isnan(two(np.zeros(0), np.zeros(0)).gain)
