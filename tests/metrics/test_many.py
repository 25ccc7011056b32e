"""Many models at once, and tests that are looked at again and again: against arch, by simulation, at their edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from arch.bootstrap import MCS, StepM
from scipy.signal import lfilter
from scipy.special import ndtr

from gatecast.metrics.many import bootstrap_means, losing_less, model_confidence_set, step_m
from gatecast.metrics.overfitting import effective_trials
from gatecast.metrics.significance import hac_mean, sequential_mean, spa


def losses(seed: int, models: int = 6, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, models))


# ── StepM and MCS ─────────────────────────────────────────────────────────────────────────────────


def test_step_m_names_the_better_models_and_no_other() -> None:
    table = losses(0)
    table[:, [2, 4]] -= 0.3
    assert step_m(table[:, 0], table[:, 1:]).models == (1, 3)


def test_step_m_is_archs_on_gains_over_their_standard_errors() -> None:
    table = losses(1) * np.array([1, 5, 0.2, 1, 1, 3])
    table[:, 2] -= 0.03
    gain = table[:, [0]] - table[:, 1:]
    scaled = gain / gain.std(axis=0)  # independent rows: the long-run variance is near the variance
    test = StepM(np.zeros(len(gain)), -scaled, size=0.05, block_size=1, reps=1000, studentize=False, seed=0)
    test.compute()
    assert step_m(table[:, 0], table[:, 1:], block=1).models == tuple(sorted(test.superior_models))


def test_a_noisy_model_does_not_hide_a_good_one() -> None:
    table = losses(8, 3, 1000)
    table[:, 1] = table[:, 0] - 0.05 + 0.1 * table[:, 1]
    table[:, 2] *= 50
    assert step_m(table[:, 0], table[:, 1:]).models == (0,)


def test_step_m_keeps_its_size() -> None:
    false = sum(bool(step_m(one[:, 0], one[:, 1:], block=1, draws=300).models) for one in map(losses, range(200)))
    assert false <= 0.09 * 200  # two standard errors above 5 %


def test_the_confidence_set_is_archs() -> None:
    table = losses(3)
    table[:, 5] += 0.4
    found = model_confidence_set(table, block=4, seed=7)
    test = MCS(table, size=0.1, reps=1000, block_size=4, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test.compute()
    assert found.included == tuple(sorted(test.included))
    assert found.pvalues[5] == pytest.approx(test.pvalues.loc[5, "Pvalue"])
    assert 5 not in found.included


def test_models_with_the_same_losses_share_an_answer() -> None:
    table = losses(4, 3)
    table[:, 2] += 0.5
    found = model_confidence_set(np.column_stack([table, table[:, 0], table[:, 2]]))
    assert found.pvalues[3] == found.pvalues[0]
    assert found.pvalues[4] == found.pvalues[2]
    assert found.included == (0, 1, 3)
    assert model_confidence_set(table[:, [0, 0]]).included == (0, 1)


def test_hits_and_misses_that_tie_are_no_error() -> None:
    """Losses of 0 and 1 often have the same mean, of which arch's elimination makes an error."""
    missed = (losses(5, 1) > 0).astype(float)
    table = np.column_stack([missed, np.roll(missed, 7), np.roll(missed, 31), np.ones(len(missed))])
    found = model_confidence_set(table)
    assert found.included == (0, 1, 2)
    assert found.pvalues[3] < 0.01


def test_a_model_that_always_loses_the_same_amount_more_cannot_be_the_best() -> None:
    base = losses(6, 2)
    found = model_confidence_set(np.column_stack([base[:, 0] + 1, base, base[:, 0] + 2]))
    assert found.pvalues[[0, 3]].tolist() == [0, 0]
    assert found.included == (1, 2)
    assert model_confidence_set(np.ones((50, 3)) * [2, 1, 1]).pvalues.tolist() == [0, 1, 1]
    assert model_confidence_set(losses(6, 1)[:, 0]).included == (0,)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_many_models_have_no_unit(scale: float) -> None:
    table = losses(7, 4)
    table[:, 2] -= 0.3
    assert model_confidence_set(scale * table).included == model_confidence_set(table).included
    assert step_m(scale * table[:, 0], scale * table[:, 1:]) == step_m(table[:, 0], table[:, 1:])
    one, scaled = spa(table[:, 0], table[:, 1:]), spa(scale * table[:, 0], scale * table[:, 1:])
    assert (scaled.statistic, scaled.pvalue) == pytest.approx((one.statistic, one.pvalue), rel=1e-9)


@pytest.mark.parametrize("rows", [0, 1, 29])
def test_too_few_rows_say_so(rows: int) -> None:
    table = losses(0, 3, rows)
    assert "too few" in step_m(table[:, 0], table[:, 1:]).reason
    found = model_confidence_set(table)
    assert "too few" in found.reason
    assert np.isnan(found.pvalues).all()
    assert not found.included


def test_what_cannot_be_tested_says_so() -> None:
    table = losses(0, 2)
    assert step_m(table[:, 0], table[:, [0]]).reason == "no model differs from the benchmark by more than a constant"
    assert step_m(table[:, 0], np.zeros((400, 0))).reason == "there are no models"
    table[3, 1] = np.inf
    assert step_m(table[:, 0], table[:, 1]).reason == model_confidence_set(table).reason == "a value is infinite"
    with pytest.raises(ValueError, match="shapes"):
        step_m(table[:5, 0], table)


# ── the number of trials ──────────────────────────────────────────────────────────────────────────


def test_copies_are_one_trial_and_strangers_are_many() -> None:
    profits = losses(5, 4, 5000)
    assert effective_trials(profits) == pytest.approx(4, rel=0.01)
    assert effective_trials(np.repeat(profits, 5, axis=1)) == pytest.approx(4, rel=0.01)
    assert effective_trials(profits[:, [0, 0, 0]]) == pytest.approx(1)
    assert effective_trials(np.column_stack([profits[:, 0], -profits[:, 0]])) == pytest.approx(1)


def test_the_best_of_correlated_trials_claims_no_more_than_the_level() -> None:
    """Šidák with the effective number, on the best of 50 trials without skill that share half of their variance."""
    random = np.random.default_rng(0)
    claims = []
    for _ in range(300):
        profits = random.standard_normal((250, 50)) + random.standard_normal((250, 1))
        best = (profits.mean(0) / profits.std(0)).max() * np.sqrt(250)
        claims.append(1 - (1 - ndtr(-best)) ** effective_trials(profits) < 0.05)
    assert 0.01 < np.mean(claims) < 0.09


def test_flat_books_count_one_each() -> None:
    profits = np.column_stack([np.zeros((400, 3)), losses(7, 1)])
    assert effective_trials(profits) == 4
    assert effective_trials(np.zeros((400, 2))) == 2
    assert np.isnan(effective_trials(np.zeros((400, 0))))
    profits[5, 0] = np.nan
    assert effective_trials(profits) == 4


# ── looked at every day ───────────────────────────────────────────────────────────────────────────

DAYS = 756


def draws(kind: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "gaussian":
        return random.standard_normal(DAYS)
    if kind == "t5":
        return random.standard_t(5, DAYS)
    if kind == "skewed":
        return 1 - random.exponential(size=DAYS)
    if kind == "AR(.5)":
        return lfilter([1], [1, -0.5], random.standard_normal(DAYS + 50))[50:]
    return random.standard_normal(DAYS) ** 2 - random.standard_normal(DAYS) ** 2


@pytest.mark.parametrize(
    ("kind", "lag"), [("gaussian", 0), ("t5", 0), ("skewed", 0), ("squared errors", 0), ("AR(.5)", 6)]
)
def test_a_page_that_is_watched_for_three_years_rarely_alarms(kind: str, lag: int) -> None:
    runs = [draws(kind, seed) for seed in range(200)]
    alarms = np.mean([sequential_mean(run, lag).pvalue < 0.05 for run in runs])
    root = np.sqrt(np.arange(60, DAYS + 1))
    fixed = np.mean(
        [
            np.any(ndtr(-np.cumsum(run)[59:] / root / (hac_mean(run, lag).standard_error * DAYS**0.5)) < 0.05)
            for run in runs
        ]
    )
    assert alarms <= 0.08  # two standard errors of 200 runs above 5 %
    assert fixed > 0.15


def test_skill_is_seen_in_time() -> None:
    seen = [sequential_mean(draws("gaussian", seed) + 0.2).pvalue < 0.05 for seed in range(100)]
    assert np.mean(seen) > 0.95


def test_the_evidence_is_the_half_normal_mixture_and_looks_at_no_later_row() -> None:
    values = draws("gaussian", 1) + 0.1
    test = sequential_mean(values)
    n, first = 500, 60
    z = values[first:n].sum() / values[:n].std()
    means = np.linspace(0, 1.5, 20001)
    prior = 2 * np.exp(-0.5 * (means / 0.1) ** 2) / np.sqrt(2 * np.pi) / 0.1
    mixture = np.trapezoid(np.exp(means * z - 0.5 * means**2 * (n - first)) * prior, means)
    assert test.evidence[n - 1] == pytest.approx(mixture, rel=1e-6)
    assert np.array_equal(sequential_mean(values[:n]).evidence, test.evidence[:n])
    assert test.pvalue == pytest.approx(min(1, 1 / test.evidence.max()))
    assert (test.evidence[:first] == 1).all()


def test_dependent_rows_need_their_lag() -> None:
    noise = np.random.default_rng(3).standard_normal((200, DAYS + 4))
    sums = np.array([np.convolve(row, np.ones(5), "valid") for row in noise])
    careless, careful = (np.mean([sequential_mean(run, lag).pvalue < 0.05 for run in sums]) for lag in (0, 6))
    assert careless > 0.2
    assert careful <= 0.07


def test_running_variance_is_newey_wests() -> None:
    values = np.convolve(draws("gaussian", 2), np.ones(3), "valid")
    n, lag, first = 300, 4, 75  # fifteen rows for each of the five that hang together
    deviation = hac_mean(values[:n], lag).standard_error * np.sqrt(n)
    z, spread = values[first:n].sum() / deviation, 1 + 0.01 * (n - first)
    score = 0.1 * z / np.sqrt(spread)
    expected = 2 / np.sqrt(spread) * np.exp(score**2 / 2) * ndtr(score)
    assert sequential_mean(values, lag).evidence[n - 1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_evidence_has_no_unit(scale: float) -> None:
    values = draws("gaussian", 1) + 0.1
    np.testing.assert_allclose(sequential_mean(scale * values, 3).evidence, sequential_mean(values, 3).evidence)


def test_no_evidence_before_anything_moves() -> None:
    """A hundred equal gains have no variance to be judged by: they are no proof, whatever their size."""
    values = np.r_[np.full(100, 0.01), draws("gaussian", 3)]
    test = sequential_mean(values)
    assert (test.evidence[:100] == 1).all()
    assert test.pvalue > 0.05


def test_a_bet_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="effect"):
        sequential_mean(np.arange(100.0), effect=0)


@pytest.mark.parametrize("values", [[], [1.0], np.ones(100), np.r_[np.inf, np.ones(99)], np.arange(50.0)])
def test_undefined_evidence_says_so(values: list[float]) -> None:
    test = sequential_mean(values)
    assert np.isnan(test.pvalue)
    assert test.reason
    assert (test.evidence == 1).all()


def test_one_set_of_draws_answers_every_question_alike() -> None:
    """The smallest p-value of a row is the test of superior predictive ability against it; steps never go down."""
    table = losses(3, 6)
    table[:, 4] -= 0.15
    found = losing_less(table, block=3, draws=1000)
    assert np.isnan(np.diag(found)).all()
    for row in range(6):
        whole = spa(table[:, row], np.delete(table, row, 1), block=3, draws=1000, seed=5).pvalue
        assert np.nanmin(found[row]) == pytest.approx(whole, abs=0.05)
        others = np.delete(np.arange(6), row)
        gain = table[:, [row]] - table[:, others]
        drawn, _ = bootstrap_means(gain, 3, 1000, 1)
        best = others[np.argmax(gain.mean(axis=0) / drawn.std(axis=0))]
        assert found[row, best] == pytest.approx(np.nanmin(found[row]), abs=0.05)


def test_a_model_that_always_loses_more_cannot_be_the_best_and_twins_are_not_compared() -> None:
    table = losses(1, 3)
    found = losing_less(np.column_stack([table, table[:, 0], table[:, 1] + 1]), block=1, draws=300)
    assert np.isnan(found[0, 3])
    assert np.isnan(found[3, 0])
    assert found[4, 1] == pytest.approx(1 / 301)
    assert found[1, 4] == 1
    assert np.isnan(losing_less(table[:10])).all()


def test_no_model_is_said_to_beat_the_rival_where_luck_gives_the_best_as_much() -> None:
    """Of 60 walks with one question each at most 8 % of them are claims, with skewed and dependent losses."""
    claims = 0
    for seed in range(60):
        noise = np.random.default_rng(seed).standard_normal((300, 5)) ** 2
        table = noise[1:] + 0.5 * noise[:-1]
        claims += bool((losing_less(table, block=4, draws=200)[0] < 0.05).any())
    assert claims <= 8
