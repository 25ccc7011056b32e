"""Tables of scores, each number by its formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import made_up, with_values
from scipy.stats import norm, t, ttest_1samp
from sklearn.metrics import brier_score_loss, log_loss

from gatecast.evaluation.luck import best_of_coins, illusions, many_models, overlap_of
from gatecast.evaluation.record import Days, Record, day_means, gain_over, records_of, sessions_spanned
from gatecast.evaluation.rivals import losses, with_rival
from gatecast.evaluation.tables import gains_without, score_tables
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.panel import RIVAL, RIVALS
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market import synthetic
from gatecast.metrics.returns import per_session
from gatecast.samples.windows import Samples, make_samples


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3)))


def row_of(tables: list[dict[str, Any]], head: str, model: str) -> dict[str, Any]:
    (row,) = [row for row in tables if row["head"] == head and row["model"] == model]
    return row


def test_every_number_by_its_formula(forecasts: Forecasts, samples: Samples) -> None:
    tables, _ = score_tables(records_of({"index": forecasts}))
    rows = np.array([row for row in forecasts.rows if not np.isnat(samples.known_at[row])])
    ends = samples.ends[rows]
    answer, forecast = samples.targets["return"].value[ends, -1], forecasts.values["lstm"]["return"][rows, -1]
    found = row_of(tables, "return", "lstm")
    assert found["n"] == len(rows)
    assert found["step"] == 5
    assert found["r2_zero"] == pytest.approx(1 - ((answer - forecast) ** 2).sum() / (answer**2).sum())
    mean = samples.facts.mean[ends] * 5
    assert found["r2_mean"] == pytest.approx(1 - ((answer - forecast) ** 2).sum() / ((answer - mean) ** 2).sum())
    assert found["hit_rate"] == pytest.approx(np.mean((answer > 0) == (forecast > 0)))

    variance = forecasts.values["lstm"]["volatility"][rows]
    ratio = np.exp(samples.targets["volatility"].value[ends]) / variance
    found = row_of(tables, "volatility", "lstm")
    assert found["qlike"] == pytest.approx(np.mean(ratio - np.log(ratio) - 1))
    assert found["log_mse"] == pytest.approx(np.mean(np.log(ratio) ** 2))

    up, chance = samples.targets["direction"].value[ends], forecasts.values["logistic"]["direction"][rows]
    found = row_of(tables, "direction", "logistic")
    assert found["brier"] == pytest.approx(brier_score_loss(up, chance))
    assert found["log_loss"] == pytest.approx(log_loss(up, chance))
    assert found["hit_rate"] == pytest.approx(np.mean((chance > 0.5) == (up == 1)))


def test_gains_are_against_the_rival_in_force(forecasts: Forecasts) -> None:
    tables, _ = score_tables(records_of({"index": forecasts}))
    for head in RIVALS:
        base = row_of(tables, head, "rival")["loss"]
        assert base == pytest.approx(np.nanmean(losses(with_rival(forecasts), head, RIVAL)))
        assert [row["model"] for row in tables if row["head"] == head and row["rival"]] == ["rival"]
        for row in tables:
            if row["head"] == head:
                assert row["gain"] == pytest.approx(1 - row["loss"] / base)


def test_every_model_is_scored_on_the_rows_that_all_have(forecasts: Forecasts) -> None:
    path = forecasts.values["forest"]["return"].copy()
    path[forecasts.rows[:100]] = np.nan
    tables, _ = score_tables(records_of({"index": with_values(forecasts, "forest", **{"return": path})}))
    whole, _ = score_tables(records_of({"index": forecasts}))
    assert {row["n"] for row in tables if row["head"] == "return"} == {row_of(whole, "return", "lstm")["n"] - 100}


def test_years_add_up(forecasts: Forecasts, samples: Samples) -> None:
    tables, years = score_tables(records_of({"index": forecasts}))
    rival = next(row["model"] for row in tables if row["head"] == "direction" and row["rival"])
    model, base = losses(forecasts, "direction", "lstm"), losses(with_rival(forecasts), "direction", rival)
    scored = np.isfinite(model) & np.isfinite(base)
    calendar = samples.sessions.astype("datetime64[Y]").astype(int) + 1970
    for row in years:
        if row["head"] == "direction" and row["model"] == "lstm":
            rows = scored & (calendar == row["year"])
            assert row["value"] == pytest.approx(1 - model[rows].mean() / base[rows].mean())
    assert {row["year"] for row in years} == set(calendar[scored].tolist())
    assert not {"zero", "mean", "har"} & {row["model"] for row in years}


def test_classes_are_pooled(forecasts: Forecasts) -> None:
    one, _ = score_tables(records_of({"index": forecasts}))
    two, _ = score_tables(records_of({"index": forecasts, "again": replace(forecasts)}))
    assert row_of(two, "return", "lstm")["n"] == 2 * row_of(one, "return", "lstm")["n"]
    assert row_of(two, "return", "lstm")["r2_zero"] == pytest.approx(row_of(one, "return", "lstm")["r2_zero"])


def test_a_wild_symbol_does_not_decide_the_standardised_loss(forecasts: Forecasts, samples: Samples) -> None:
    wild = np.where(samples.symbol == 1, 100.0, 1.0)
    facts = replace(samples.facts, sigma=samples.facts.sigma * wild)
    targets = dict(samples.targets)
    targets["return"] = replace(targets["return"], value=targets["return"].value * wild[:, None])
    changed = replace(forecasts, samples=replace(samples, facts=facts, targets=targets))
    scaled = forecasts.values["lstm"]["return"] * wild[samples.ends, None]
    np.testing.assert_allclose(
        losses(with_values(changed, "lstm", **{"return": scaled}), "return", "lstm"),
        losses(forecasts, "return", "lstm"),
    )


def test_a_model_without_the_head_has_no_loss(forecasts: Forecasts) -> None:
    assert np.isnan(losses(forecasts, "volatility", "logistic")).all()
    assert np.isnan(losses(forecasts, "volatility", "nobody")).all()


# ── what luck and persistence show ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("n", "count"), [(250, 100), (250, 1), (40, 7), (1, 3)])
def test_the_best_of_many_coins_by_simulation(n: int, count: int) -> None:
    best = np.random.default_rng(n).binomial(n, 0.5, (20_000, count)).max(1) / n
    assert best_of_coins(n, count) == pytest.approx(best.mean(), abs=4 * best.std() / 20_000**0.5)


def test_a_hundred_coins_are_right_58_percent_of_the_time() -> None:
    assert best_of_coins(250, 100) == pytest.approx(0.579, abs=5e-4)
    assert np.isnan(best_of_coins(0, 3))
    assert 0.5 < best_of_coins(250, 2.5) < best_of_coins(250, 3)


def test_overlap_makes_luck_look_certain() -> None:
    """A gain of 20 bars taken every bar: the naive p-value is far too small, the other two know better."""
    rng, h, n, runs = np.random.default_rng(0), 20, 2000, 60
    found = []
    for _ in range(runs):
        gain = np.convolve(rng.standard_normal(n + h - 1), np.ones(h), "valid")
        found.append(overlap_of(days_with(gain), h))
    wrong = {name: np.mean([one[name] < 0.05 for one in found]) for name in found[0] if name != "sessions"}
    assert wrong["naive"] > 0.2
    assert wrong["diebold_mariano"] < 0.15
    assert wrong["non_overlapping"] < 0.15
    assert {one["sessions"] for one in found} == {20}


def test_the_pvalues_of_overlapping_gains_are_those_of_others() -> None:
    gain = np.convolve(np.random.default_rng(3).standard_normal(604), np.ones(5), "valid") + 0.5
    found = overlap_of(days_with(gain), 5)
    assert found["naive"] == pytest.approx(norm.sf(gain.mean() / gain.std() * 600**0.5))
    assert found["non_overlapping"] == pytest.approx(ttest_1samp(gain[::5], 0, alternative="greater").pvalue)
    n, h, off = 600, 5, gain - gain.mean()
    variance = (off @ off + 2 * sum(off[lag:] @ off[:-lag] for lag in range(1, h))) / n
    statistic = gain.mean() / np.sqrt(variance / n) * np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    assert found["diebold_mariano"] == pytest.approx(t.sf(statistic, n - 1))


def days_with(gain: np.ndarray[Any, Any]) -> Days:
    blank = np.zeros(len(gain))
    return Days(np.arange(len(gain)).astype("datetime64[D]"), gain, blank, blank, blank)


def test_prices_correlate_and_changes_do_not() -> None:
    bars = synthetic.a1(1500, seed=3)
    samples = make_samples(bars, ("ret_log_1",))["index"]
    walk = made_up(samples, seed=5)
    walk = walk.with_model("ensemble", walk.values["lstm"])  # the ensemble itself would forecast next to nothing
    found = illusions(records_of({"index": walk})["return"], {"index": bars["close"].to_numpy()}, tries=4)
    assert found["levels"]["forecast_price"] > 0.97
    assert found["levels"]["todays_price"] > 0.97
    assert abs(found["levels"]["change"]) < 0.15
    assert found["overlap"]["sessions"] == 5
    best = found["best_of"]
    assert best["independent"] == pytest.approx(len(walk.rows) / 5, abs=2)
    assert best["coins"] == pytest.approx(best_of_coins(best["independent"], best["models"] * 4))
    answer = samples.targets["return"].value[samples.ends[walk.rows], -1]
    assert best["always_up"] == pytest.approx(np.mean(answer[np.isfinite(answer)] > 0))


def test_there_is_nothing_to_show_without_forecasts(forecasts: Forecasts) -> None:
    none = {
        model: {head: np.full_like(array, np.nan) for head, array in heads.items()}
        for model, heads in forecasts.values.items()
    }
    silent = {"index": replace(forecasts, values=none)}
    found = illusions(records_of(silent)["return"], {"index": np.ones(len(forecasts.samples.time))})
    assert found["best_of"] is None
    assert found["levels"] is None
    assert score_tables(records_of(silent)) == ([], [])
    assert many_models(records_of(silent)) == {}


# ── days ──────────────────────────────────────────────────────────────────────────────────────────


def test_days_are_means_over_symbols(forecasts: Forecasts, samples: Samples) -> None:
    found = day_means(Record.of({"index": forecasts}, "return"), "lstm", "mean")
    answer = samples.targets["return"].value[samples.ends, -1]
    base, model = (forecasts.values[name]["return"][:, -1] for name in ("mean", "lstm"))
    unit = samples.facts.sigma[samples.ends] ** 2 * 5
    table = pl.DataFrame(
        {
            "day": samples.sessions.astype("datetime64[D]"), "size": (model - base) ** 2 / unit,
            "gain": ((answer - base) ** 2 - (answer - model) ** 2) / unit,
            "adjusted": 2 * (answer - base) * (model - base) / unit,
        }
    )  # fmt: skip
    expected = table.drop_nans().group_by("day").mean().sort("day")
    np.testing.assert_array_equal(found.day, expected["day"].to_numpy())
    for name in ("gain", "adjusted", "size"):
        np.testing.assert_allclose(getattr(found, name), expected[name].to_numpy())


def test_bars_of_a_session_are_compounded() -> None:
    days = np.array(["2024-01-02T10", "2024-01-02T11", "2024-01-03T10"], "datetime64[h]").astype("datetime64[D]")
    day, returns = per_session(np.array([0.1, -0.1, 0.02]), days)
    assert day.astype(str).tolist() == ["2024-01-02", "2024-01-03"]
    np.testing.assert_allclose(returns, [1.1 * 0.9 - 1, 0.02])


def test_an_answer_spans_more_days_beside_a_market_that_never_closes(forecasts: Forecasts) -> None:
    one = (forecasts.samples.sessions, 5)
    assert Record.of({"index": forecasts}, "return").overlap == 5
    assert Record.of({"index": forecasts, "again": forecasts}, "return").overlap == 5
    first, last = (getattr(one[0], end)().astype("datetime64[D]") for end in ("min", "max"))
    assert sessions_spanned([one, (np.arange(first, last + 1), 5)]) in (7, 8)  # five sessions are a week


def test_the_gain_without_a_symbol_is_that_of_a_run_without_it() -> None:
    """By a plain group-by of each day's losses; a symbol that is badly forecast turns the sign."""
    samples = make_samples(synthetic.b1(700, seed=4, r2=0.05, symbols=3), ("ret_log_1", "x"))["index"]
    forecasts = made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3))
    path = forecasts.values["lstm"]["return"].copy()
    path[samples.symbol[samples.ends] == 1] *= -4
    forecasts = with_rival(with_values(forecasts, "ensemble", **{**forecasts.values["lstm"], "return": path}))
    found = gains_without(Record.of({"index": forecasts}, "return"), "ensemble")
    frame = pl.DataFrame(
        {
            "symbol": np.array(samples.symbols)[samples.symbol[samples.ends]],
            "day": samples.sessions.astype("datetime64[D]"),
            "rival": losses(forecasts, "return", RIVAL),
            "model": losses(forecasts, "return", "ensemble"),
        }
    ).filter(pl.col("rival").is_finite() & pl.col("model").is_finite())
    assert list(found) == sorted(samples.symbols)
    for symbol, gain in found.items():
        rest = frame.filter(pl.col("symbol") != symbol).group_by("day").agg(pl.col("rival", "model").mean())
        assert gain == pytest.approx(1 - rest["model"].mean() / rest["rival"].mean(), rel=1e-9)
    days = day_means(Record.of({"index": forecasts}, "return"), "ensemble", RIVAL)
    whole = gain_over(float(days.rival.mean()), float(days.model.mean()))
    assert whole < 0 < found[samples.symbols[1]]
    assert all(found[symbol] < 0 for symbol in (samples.symbols[0], samples.symbols[2]))


def test_of_one_symbol_nothing_is_left() -> None:
    samples = make_samples(synthetic.b1(700, seed=4, r2=0.05), ("ret_log_1", "x"))["index"]
    forecasts = with_rival(Ensemble().combine(made_up(samples, seed=1)))
    assert gains_without(Record.of({"index": forecasts}, "return"), "ensemble") == {}


def test_a_model_has_one_gain_in_all_tables_and_no_contradiction_between_its_answers(forecasts: Forecasts) -> None:
    both = records_of({"index": forecasts})
    tables, found = score_tables(both)[0], many_models(both, draws=200)
    assert found
    for head, one in found.items():
        least = min(row["pvalue_beats"] for row in one["models"] if np.isfinite(row["pvalue_beats"]))
        assert one["pvalue_spa"] == least
        assert any(row["beats_rival"] for row in one["models"]) == (one["pvalue_spa"] < 0.05)
        rival = next(row for row in one["models"] if row["model"] == one["rival"])
        assert rival["can_be_best"] == (one["pvalue_spa"] > 0.1)
        for row in one["models"]:
            assert row_of(tables, head, row["model"])["gain"] == pytest.approx(row["gain"], abs=1e-12)


def test_no_change_has_no_direction(forecasts: Forecasts) -> None:
    row = row_of(score_tables(records_of({"index": forecasts}))[0], "return", "zero")
    assert np.isnan(row["hit_rate"])
    assert row["r2_zero"] == 0
