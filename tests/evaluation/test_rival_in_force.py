"""The rival in force: the best so far at each refit, from the past alone; and what is neither scored nor judged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_up import made_up, with_answers, with_values

from gatecast.evaluation.credit import credit_of
from gatecast.evaluation.judge import judge
from gatecast.evaluation.luck import illusions, many_models
from gatecast.evaluation.record import Record, day_means, records_of, set_aside
from gatecast.evaluation.rivals import (
    CAP,
    RECORD_DAYS,
    RIVAL,
    losses,
    most_in_force,
    with_rival,
)
from gatecast.evaluation.tables import score_tables
from gatecast.evaluation.verdict import CANNOT_TELL, NOTHING, SKILL
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.panel import PLAIN, RIVALS
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic
from gatecast.samples.windows import Samples, make_samples
from gatecast.scores import headline

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
WALK = 0.01 * np.random.default_rng(0).standard_normal(1000)


def judged(forecasts: Forecasts, strategy: FloatArray | None = None, **settings: Any) -> dict[str, Any]:
    book = np.zeros(1000) if strategy is None else strategy
    return judge(
        records_of({"index": forecasts}), book, WALK, **({"round_trip": 0.001, "periods_per_year": 252.0} | settings)
    )


def simple_models(
    bars: pl.DataFrame, schedule: Schedule, features: tuple[str, ...] | None = ("ret_log_1",)
) -> Forecasts:
    """Walk-forward forecasts of every head's rivals."""
    wanted = {name for names in RIVALS.values() for name in names}
    models = {name: one for name, one in Experiment(bars=bars).panel.items() if name in wanted}
    assert set(models) == wanted
    return walk_forward(models, make_samples(bars, features, horizon=5)["index"], schedule)


@pytest.fixture(scope="module")
def gjr() -> pl.DataFrame:
    """A market whose variance rises after falls."""
    return synthetic.MARKETS["g4"](2200, 3)


# ── which is in force ─────────────────────────────────────────────────────────────────────────────


def test_the_best_so_far_is_in_force_by_its_plain_formula(gjr: pl.DataFrame) -> None:
    forecasts = simple_models(gjr, Schedule(refit="6M", minimum="1Y"))
    found, samples = with_rival(forecasts), forecasts.samples
    for head, names in RIVALS.items():
        tables = {name: losses(forecasts, head, name) for name in names}
        scored = np.isfinite(np.column_stack(list(tables.values()))).all(1)
        for fold, name in zip(found.folds, found.rivals[head], strict=True):
            known = scored & (samples.known_at <= fold.cutoff)
            past = {rival: loss[known].mean() if known.any() else np.nan for rival, loss in tables.items()}
            best = min(names, key=past.__getitem__) if known.sum() >= RECORD_DAYS else PLAIN[head]
            assert name == best
            ours, theirs = found.values[RIVAL][head][fold.test], forecasts.values[best][head][fold.test]
            assert ours.tobytes() == theirs.tobytes()
    assert found.rivals["volatility"][0] == "har"
    assert most_in_force("volatility", found.rivals["volatility"]) in RIVALS["volatility"]


def test_the_symbols_of_a_day_count_as_one(samples: Samples) -> None:
    forecasts = made_up(samples, seed=3)
    found = with_rival(forecasts)
    names = [name for name in RIVALS["volatility"] if name in forecasts.values]
    record = Record.of({"index": forecasts}, "volatility")
    days = {name: day_means(record, name, name) for name in names}
    cutoff = forecasts.folds[-1].cutoff
    known = np.unique(samples.sessions[samples.known_at <= cutoff]).astype("datetime64[D]")
    mean = {name: one.model[np.isin(one.day, known)].mean() for name, one in days.items()}
    assert found.rivals["volatility"][-1] == min(mean, key=mean.__getitem__)


def test_of_equal_rivals_the_simpler_is_in_force(samples: Samples) -> None:
    forecasts = made_up(samples, seed=1)
    alike = with_values(forecasts, "constant", volatility=forecasts.values["har"]["volatility"])
    assert set(with_rival(alike).rivals["volatility"][6:]) == {"constant"}


def test_the_rival_is_the_same_at_the_cut(gjr: pl.DataFrame) -> None:
    """Whether later bars are there, missing or garbage; at cuts around refits and between them."""
    schedule = Schedule(refit="6M", minimum="1Y")
    whole = with_rival(simple_models(gjr, schedule))
    moments = np.unique(whole.samples.times)
    refit = int(np.searchsorted(moments, whole.folds[3].cutoff))
    for place in (refit - 1, refit, refit + 41):
        limit = pl.lit(moments[place]).dt.replace_time_zone("UTC")
        later = pl.col("time") > limit
        garbage = gjr.with_columns(
            pl.when(later).then(pl.col(name) * 7.3).otherwise(pl.col(name)) for name in ("open", "high", "low", "close")
        )
        for bars in (gjr.filter(~later), garbage):
            other = with_rival(simple_models(bars, schedule))
            for head in RIVALS:
                ours = whole.values[RIVAL][head][whole.samples.times <= moments[place]]
                theirs = other.values[RIVAL][head][other.samples.times <= moments[place]]
                assert ours.tobytes() == theirs.tobytes(), head


def test_falls_are_found_and_a_model_of_them_is_no_skill(gjr: pl.DataFrame) -> None:
    """What the plain log-HAR loses to the log-HAR with falls is the leverage effect, no claim of a model's."""
    forecasts = simple_models(gjr, Schedule(refit="3M", minimum="1Y"))
    mean = {name: np.nanmean(losses(forecasts, "volatility", name)) for name in RIVALS["volatility"]}
    assert mean["har_falls"] < mean["har"]
    known = forecasts.with_model("ensemble", {"volatility": forecasts.values["har_falls"]["volatility"]})
    found = judged(known)["volatility"]
    assert found.verdict != SKILL
    assert found.plain == "har"
    assert found.plain_gain == pytest.approx(1 - mean["har_falls"] / mean["har"])


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_a_forecast_no_better_than_a_constant_is_no_skill_beside_rivals_that_were_chosen_wrongly(
    samples: Samples, spread: float
) -> None:
    """Where there is nothing to find, which rival was the best so far is luck, and any average beats it."""
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    draw = np.random.default_rng(5)
    constant = forecasts.values["ensemble"]["volatility"] * np.exp(0.5 * draw.standard_normal(len(samples)))
    near = with_values(forecasts, "constant", volatility=constant)
    near = with_values(near, "har", volatility=constant * np.exp(0.5 * draw.standard_normal(len(samples))))
    own = constant * np.exp(spread * draw.standard_normal(len(samples)))
    near = with_rival(with_values(near, "ensemble", volatility=own))
    wrong = constant * np.exp(draw.standard_normal(len(samples)))
    found = judged(near.with_model(RIVAL, {**near.values[RIVAL], "volatility": wrong}))["volatility"]
    assert found.low > 0
    assert found.verdict == CANNOT_TELL
    assert found.least_certain == "constant"
    assert found.pvalue >= 0.05
    assert found.pvalue_watched >= 0.05 or spread == 0
    assert (
        "the gain over a constant variance, which skill must beat as well, is not significant alone" in found.sentence
    )


def test_a_simple_regression_that_is_as_good_is_named_in_the_first_sentence(samples: Samples) -> None:
    skilled = made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3))
    skilled = Ensemble().combine(skilled)
    noise = np.exp(0.01 * np.random.default_rng(3).standard_normal(len(samples)))
    twin = with_values(skilled, "har_smooth", volatility=noise * skilled.values["ensemble"]["volatility"])
    found = judged(twin)["volatility"]
    assert found.verdict == SKILL
    assert found.simple == found.simpler == "har_smooth"
    assert found.simple_low <= 0
    first, rest = found.sentence.split(". ", 1)
    assert first.endswith(
        "but a simple regression is not shown to forecast volatility worse: the HAR of smoothed variances"
    )
    assert "forecast gains +" in rest
    assert "over the plain yardstick, the log-HAR" in rest
    assert found.simple_is_as_good
    clean: Any = SimpleNamespace(clean=True)
    said = headline({"volatility": found, "regime": found}, False, clean)["headline"]
    best = "the HAR of smoothed variances"
    assert said.endswith(f"but {best} is not shown to be worse than the ensemble for volatility and regime.")
    two = {"volatility": found, "regime": replace(found, simpler="constant")}
    assert headline(two, False, clean)["headline"].endswith(
        f"but {best} is not shown to be worse than the ensemble for volatility, and a constant variance for regime."
    )
    alone = replace(found, verdict=CANNOT_TELL)
    assert (
        f"There is no evidence of skill in this market: {best} is not shown to be worse than the ensemble for "
        "volatility." in headline({"volatility": alone}, False, clean)["headline"]
    )
    better = replace(found, simpler="")
    assert "not shown to be worse" not in headline({"volatility": better}, False, clean)["headline"]


# ── what is not scored ────────────────────────────────────────────────────────────────────────────


def test_ties_are_counted_and_not_scored(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    rose = samples.targets["direction"].value.copy()
    tied = samples.decided[forecasts.rows[100:160]]
    rose[tied] = np.nan
    found = judged(with_answers(forecasts, "direction", rose))["direction"]
    assert found.ties == 60
    assert "60 forecasts were not scored: the price did not change." in found.sentence
    assert judged(forecasts)["direction"].ties == 0


def test_a_loss_beyond_the_cap_counts_as_the_cap(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    path = samples.targets["return"].value.copy()
    struck = forecasts.rows[200]
    path[samples.decided[struck]] = 50 * samples.facts.sigma[samples.ends[struck]]
    changed = with_answers(forecasts, "return", path)
    assert losses(changed, "return", "zero")[struck] == CAP
    assert set_aside(records_of({"index": changed})["return"], "ensemble").capped == 1
    found = judged(changed)["return"]
    assert found.capped == 1
    assert "1 loss was capped at 25 times the usual loss." in found.sentence
    assert np.nanmax(losses(changed, "return", "lstm")) <= CAP


# ── when nothing moved, or hardly ─────────────────────────────────────────────────────────────────


def cash(drift: float, n: int = 900) -> pl.DataFrame:
    """A price that stands still, or only rises."""
    price = 5 * np.exp(drift * np.arange(n))
    return synthetic.a1(n, seed=1).with_columns(
        **dict.fromkeys(("open", "high", "low", "close"), pl.Series(price)),
        volume=pl.Series(np.random.default_rng(1).integers(1, 9, n).astype(float)),
    )


def test_a_price_that_never_moves_is_not_forecast() -> None:
    samples = make_samples(cash(0.0), ("ret_log_1",))["index"]
    assert len(samples) == 0


def test_a_price_that_only_rises_is_not_judged() -> None:
    forecasts = simple_models(cash(2e-4), Schedule(refit="6M", minimum="1Y"), None)
    model = {head: forecasts.values[PLAIN[head]][head] for head in RIVALS}
    forecasts = with_rival(forecasts).with_model("ensemble", model)
    for head, found in judged(forecasts).items():
        assert found.verdict == CANNOT_TELL
        if head in ("return", "volatility"):
            assert found.sentence.startswith("The answers never varied: there is nothing to judge."), head
    records = records_of({"index": forecasts})
    tables, years = score_tables(records)
    assert all(not np.isfinite(row["gain"]) or abs(row["gain"]) <= 1 for row in tables if row["head"] == "return")
    assert isinstance(years, list)
    assert isinstance(many_models(records, draws=20), dict)
    closes = {"index": cash(2e-4)["close"].to_numpy()}
    assert illusions(records["return"], closes)["overlap"]["sessions"] == 5
    assert isinstance(credit_of({"index": forecasts}, Ensemble(members=("logistic_lag",))), list)


def test_answers_that_hardly_vary_are_too_few(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3)))
    rose = np.where(np.isnan(samples.targets["direction"].value), np.nan, 1.0)
    rose[samples.decided[forecasts.rows[::40]]] = 0.0
    found = judged(with_answers(forecasts, "direction", rose))["direction"]
    assert found.verdict == CANNOT_TELL
    assert "independent days of falls, too few for a verdict: at least 30 are needed." in found.sentence


def test_a_certain_gain_that_is_next_to_nothing_is_no_skill(samples: Samples) -> None:
    """A probability that differs from .5 in the fifth digit, always to the right side: certain, and worth nothing."""
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    rose = samples.targets["direction"].value[samples.decided]
    half = np.where(np.isfinite(forecasts.values["base_rate"]["direction"]), 0.5, np.nan)
    forecasts = with_rival(with_values(forecasts, "base_rate", direction=half))
    side = (2 * np.nan_to_num(rose, nan=0.5) - 1) * np.random.default_rng(4).random(len(rose))
    for shift, verdict in ((4e-5, NOTHING), (0.02, SKILL)):
        found = judged(with_values(forecasts, "ensemble", direction=half + shift * side))["direction"]
        assert found.pvalue_holm < 0.001
        assert found.verdict == verdict
        assert ("too small to matter" in found.sentence) == (verdict == NOTHING)


# ── the strategy's days ───────────────────────────────────────────────────────────────────────────


def test_the_strategy_counts_the_days_on_which_something_was_held(samples: Samples) -> None:
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    noise = 0.005 * np.random.default_rng(2).standard_normal(1000)
    held = np.arange(1000) < 300
    book = np.where(held, noise - noise[held].mean() + 0.0004, 0.0)
    found = judged(forecasts, book)["strategy"]
    assert (found.n, found.days) == (300, 1000)
    assert found.n_effective <= 300
    assert found.n_needed == pytest.approx(300 * (found.detectable / found.effect) ** 2, rel=1e-2)
    assert "300 days with a position, of 1,000, can detect" in found.sentence
    claimed = judged(forecasts, np.where(held, 0.2 * noise + 0.002, 0.0))["strategy"]
    assert claimed.verdict == SKILL
    assert "A position was held on 300 of 1,000 days." in claimed.sentence
    every_day = judged(forecasts, np.where(book == 0, 1e-12, book))["strategy"]
    assert every_day.statistic == pytest.approx(found.statistic, rel=1e-6)
    assert every_day.pvalue < found.pvalue  # fewer days that tell make the same statistic less certain


def test_a_strategy_beside_a_market_that_earns_the_same_every_day_is_not_judged(samples: Samples) -> None:
    """A cash fund: its returns differ by rounding alone, which explains nothing of a profit."""
    forecasts = Ensemble().combine(made_up(samples, seed=1))
    cash_fund = np.diff(5 * np.exp(2e-4 * np.arange(1001))) / (5 * np.exp(2e-4 * np.arange(1000)))
    cash_fund[0] = 0.0
    every = judge(
        records_of({"index": forecasts}), 0.5 * cash_fund, cash_fund, round_trip=0.001, periods_per_year=252.0
    )
    found = every["strategy"]
    assert found.verdict == CANNOT_TELL
    assert found.sentence == "Buy and hold earned the same every day: there is nothing to judge."
