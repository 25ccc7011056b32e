"""Tables of scores, each number by its formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up import made_up, with_values
from sklearn.metrics import brier_score_loss, log_loss

from gatecast.evaluation.compare import RIVALS, losses, score_tables
from gatecast.forecasting.ensemble import Ensemble
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.windows import Samples


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return Ensemble().combine(made_up(samples, seed=1, skill=dict.fromkeys(("lstm", "forest", "logistic"), 0.3)))


def row_of(tables: list[dict[str, Any]], head: str, model: str) -> dict[str, Any]:
    (row,) = [row for row in tables if row["head"] == head and row["model"] == model]
    return row


def test_every_number_by_its_formula(forecasts: Forecasts, samples: Samples) -> None:
    tables, _ = score_tables({"index": forecasts})
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


def test_gains_are_against_the_better_rival(forecasts: Forecasts) -> None:
    tables, _ = score_tables({"index": forecasts})
    for head, rivals in RIVALS.items():
        loss = {name: row_of(tables, head, name)["loss"] for name in rivals}
        best = min(loss, key=loss.__getitem__)
        assert [row["model"] for row in tables if row["head"] == head and row["rival"]] == [best]
        for row in tables:
            if row["head"] == head:
                assert row["gain"] == pytest.approx(1 - row["loss"] / loss[best])


def test_every_model_is_scored_on_the_rows_that_all_have(forecasts: Forecasts) -> None:
    path = forecasts.values["forest"]["return"].copy()
    path[forecasts.rows[:100]] = np.nan
    tables, _ = score_tables({"index": with_values(forecasts, "forest", **{"return": path})})
    whole, _ = score_tables({"index": forecasts})
    assert {row["n"] for row in tables if row["head"] == "return"} == {row_of(whole, "return", "lstm")["n"] - 100}


def test_years_add_up(forecasts: Forecasts, samples: Samples) -> None:
    tables, years = score_tables({"index": forecasts})
    rival = next(row["model"] for row in tables if row["head"] == "direction" and row["rival"])
    model, base = losses(forecasts, "direction", "lstm"), losses(forecasts, "direction", rival)
    scored = np.isfinite(model) & np.isfinite(base)
    calendar = samples.sessions.astype("datetime64[Y]").astype(int) + 1970
    for row in years:
        if row["head"] == "direction" and row["model"] == "lstm":
            rows = scored & (calendar == row["year"])
            assert row["value"] == pytest.approx(1 - model[rows].mean() / base[rows].mean())
    assert {row["year"] for row in years} == set(calendar[scored].tolist())
    assert not {"zero", "mean", "har"} & {row["model"] for row in years}


def test_classes_are_pooled(forecasts: Forecasts) -> None:
    one, _ = score_tables({"index": forecasts})
    two, _ = score_tables({"index": forecasts, "again": replace(forecasts)})
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
