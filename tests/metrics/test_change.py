"""Distances against scipy and formulas by hand; run lengths against published tables; charts that can be cut in two."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from gatecast.metrics.change import (
    bets,
    cusum,
    detect_by_bets,
    ks_distance,
    ks_pvalue,
    mean_run_length,
    mean_threshold,
    psi,
    psi_pvalue,
    rows_that_hang_together,
    tail_threshold,
    variance_run_length,
    variance_steps,
    variance_threshold,
)


def test_psi_is_the_formula() -> None:
    """Siddiqi's (2006) sum over bins: ten of the reference's deciles, counted here by hand."""
    rng = np.random.default_rng(0)
    old, new = rng.standard_normal(500), 0.5 + rng.standard_normal(300)
    edges = np.sort(old)[[int(np.ceil(500 * k / 10)) - 1 for k in range(1, 10)]]
    expected = 0.0
    for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True):
        p = (((old > low) & (old <= high)).sum() + 0.5) / (500 + 5)
        q = (((new > low) & (new <= high)).sum() + 0.5) / (300 + 5)
        expected += (q - p) * np.log(q / p)
    assert psi(old, new) == pytest.approx(expected, rel=1e-12)
    assert psi(old, old) == 0.0
    assert np.isnan(psi(old, []))
    assert psi(np.zeros(50), np.zeros(9)) == 0.0


def test_psi_has_the_size_that_its_pvalue_says() -> None:
    rng = np.random.default_rng(1)
    draws = [psi(rng.standard_normal(500), rng.standard_normal(200)) for _ in range(2000)]
    found = np.array([psi_pvalue(one, 500, 200) for one in draws])
    assert 0.03 < (found < 0.05).mean() < 0.07
    assert psi_pvalue(0.1, 500, 200) == pytest.approx(stats.chi2.sf(0.1 / (1 / 500 + 1 / 200), 9), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_ks_is_scipys(ties: bool) -> None:
    rng = np.random.default_rng(2)
    old, new = rng.standard_normal(120), 0.4 + rng.standard_normal(70)
    if ties:
        old, new = old.round(1), new.round(1)
    found = stats.ks_2samp(old, new, method="asymp")
    assert ks_distance(old, new) == pytest.approx(found.statistic, rel=1e-12)
    assert ks_pvalue(found.statistic, 120, 70) == pytest.approx(found.pvalue, rel=0.25)
    limit = stats.kstwobign.sf(found.statistic * np.sqrt(120 * 70 / 190))
    assert ks_pvalue(found.statistic, 120, 70) == pytest.approx(limit, rel=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_rows_of_an_autoregression_hang_together_as_theory_says(phi: float) -> None:
    """Of the median's event the correlation is 2/π arcsin(φ^k) (Sheppard, 1899); other levels hang together less."""
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((40, 4000))
    for k in range(1, 4000):
        draws[:, k] = phi * draws[:, k - 1] + np.sqrt(1 - phi**2) * draws[:, k]
    expected = 1 + 2 * (2 / np.pi * np.arcsin(phi ** np.arange(1, 300))).sum()
    found = np.mean([rows_that_hang_together(one) for one in draws])
    assert expected == pytest.approx(found, rel=0.35)
    assert found > 0.95 * expected  # the largest of five events: never fewer


def test_what_never_moves_is_one_row() -> None:
    assert rows_that_hang_together(np.ones(500)) == 500.0
    assert rows_that_hang_together([1.0, np.nan]) == 1.0


def test_a_tail_beyond_the_sample_is_extrapolated() -> None:
    draw = stats.t(4).rvs(size=(200, 500), random_state=4)
    found = [tail_threshold(np.abs(one), 0.001) for one in draw]
    assert np.median(found) == pytest.approx(stats.t(4).isf(0.0005), rel=0.25)
    assert np.isnan(tail_threshold(np.ones(10), 0.1))
    assert tail_threshold(np.arange(1.0, 101.0), 0.5) == pytest.approx(50.5)


@pytest.mark.parametrize(
    ("threshold", "shift", "expected"),
    [(4.0, 0.0, 335.4), (4.0, 1.0, 8.38), (5.0, 0.0, 930.9), (5.0, 1.0, 10.38), (5.0, 0.5, 38.0), (4.0, 2.0, 3.34)],
)
def test_run_lengths_are_the_published_ones(threshold: float, shift: float, expected: float) -> None:
    """One-sided, allowance .5: Hawkins and Olwell (1998), Cumulative Sum Charts, and Lucas and Crosier (1982)."""
    assert mean_run_length(threshold, shift=shift) == pytest.approx(expected, rel=0.006)


@pytest.mark.parametrize(("threshold", "shift"), [(4.0, 0.0), (5.0, 0.0), (5.0, 1.0), (6.0, 0.75)])
def test_run_lengths_are_near_siegmunds(threshold: float, shift: float) -> None:
    """Siegmund (1985), Sequential Analysis: (exp(-2 d b) + 2 d b - 1) / (2 d²), d = shift - .5, b = h + 1.166."""
    d, b = shift - 0.5, threshold + 1.166
    expected = (np.exp(-2 * d * b) + 2 * d * b - 1) / (2 * d * d)
    assert mean_run_length(threshold, shift=shift) == pytest.approx(expected, rel=0.03)


def test_thresholds_are_the_inverse_of_run_lengths() -> None:
    assert mean_run_length(mean_threshold(500.0)) == pytest.approx(500, rel=1e-3)
    for growth in (1.5, 4.0):
        assert variance_run_length(variance_threshold(300.0, growth), growth) == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize("variance", [1.0, 2.0])
def test_the_chart_of_variance_alarms_as_often_as_it_says(variance: float) -> None:
    rng = np.random.default_rng(5)
    threshold = variance_threshold(100.0, 2.0)
    first = []
    for _ in range(1500):
        _, alarms, _ = cusum(variance_steps(np.sqrt(variance) * rng.standard_normal(900), 2.0), threshold)
        first.append(alarms[0] + 1 if len(alarms) else 900)
    assert np.mean(first) == pytest.approx(variance_run_length(threshold, 2.0, variance), rel=0.08)


def test_charts_go_on_to_the_bit() -> None:
    rng = np.random.default_rng(6)
    steps = np.where(rng.random(400) < 0.05, np.nan, rng.standard_normal(400) - 0.1)
    won = bets(rng.random(400))
    for chart, numbers, threshold in ((cusum, steps, 3.0), (detect_by_bets, won, 40.0)):
        sums, alarms, last = chart(numbers, threshold)
        assert len(alarms)
        for cut in rng.integers(1, 400, 20).tolist():
            early, first, state = chart(numbers[:cut], threshold)
            late, second, end = chart(numbers[cut:], threshold, state)
            assert np.array_equal(sums, np.r_[early, late])
            assert np.array_equal(alarms, np.r_[first, second + cut])
            assert end == last


def test_bets_against_honest_pvalues_win_nothing_and_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(7)
    mean, _ = integrate.quad(lambda x: 2 * x**19 * 10 * bets([x**20])[0], 0, 1)  # p = x^20, which tames it at 0
    assert mean == pytest.approx(1.0, rel=1e-6)
    runs = [detect_by_bets(bets(rng.random(5000)), 200.0)[1] for _ in range(40)]
    assert sum(map(len, runs)) <= 40 * 5000 / 200
    assert len(detect_by_bets(bets(np.full(30, 0.02)), 200.0)[1])
