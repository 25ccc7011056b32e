"""Every choice of members that the settings accept can be combined, credited and judged; the others are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from gatecast.chain import combine
from gatecast.errors import SettingsError
from gatecast.evaluation.credit import credit_of
from gatecast.evaluation.judge import judge
from gatecast.evaluation.record import records_of
from gatecast.experiment import Experiment
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market import synthetic

MODELS = ("forest", "logistic", "ridge", "garch", "markov")
SIGNALS = {"model": "ridge", "confirmed_by": "ridge"}
BARS = synthetic.a1(420, seed=1)
COMMON: dict[str, Any] = {
    "bars": BARS, "features": ("ret_log_1",), "schedule": Schedule(train="1Y", minimum=150, refit="3M"),
    "model": {
        "forest": Forest(trees=3),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def everything() -> Forecasts:
    """All models' forecasts; `lstm` and `residual_lstm` are the forest's under their names."""
    experiment = Experiment(
        **COMMON, models=MODELS, signals=SIGNALS, ensemble={"members": ("forest",), "volatility_members": ("har",)}
    )
    samples = experiment.make_samples(experiment.read().bars)["index"]
    made = walk_forward(experiment.panel, samples, experiment.schedule)
    forest = made.values["forest"]
    return made.with_model("lstm", forest).with_model("residual_lstm", {"volatility": forest["volatility"]})


def choices() -> list[tuple[tuple[str, ...], dict[str, tuple[str, ...]]]]:
    """Models, and an ensemble's members: pairs of every kind, a name that nobody has among them."""
    able = ("lstm", "forest", "logistic", "ridge", "logistic_long", "ridge_long", "markov", "zero", "nobody")
    variances = ("lstm", "forest", "ridge", "residual_lstm", "garch", "har", "constant", "har_smooth", "zero", "nobody")
    found = []
    for models in list(combinations(("lstm", "forest", "logistic", "ridge", "residual_lstm", "markov"), 3))[::3]:
        found.append((models, {}))
        found += [(models, {"members": one}) for size in (1, 2) for one in combinations(able, size)]
        found += [(models, {"volatility_members": (one,)}) for one in variances]
    return found


def test_what_the_settings_accept_runs_and_the_rest_is_refused_by_name(everything: Forecasts) -> None:
    ran, refused = 0, []
    for models, members in choices():
        signal = "ridge" if "ridge" in models else "lstm"
        signals = {"model": signal, "confirmed_by": signal}
        try:
            experiment = Experiment(**COMMON, models=models, signals=signals, ensemble=members)
        except SettingsError as error:
            refused.append(str(error))
            continue
        own = set(experiment.panel)
        known = replace(everything, values={name: heads for name, heads in everything.values.items() if name in own})
        combined = {"index": combine(known, experiment.ensemble, experiment.intervals)}
        rows = credit_of(combined, experiment.ensemble)
        assert all(np.isfinite(row["with"]) for row in rows)
        verdicts = judge(records_of(combined), np.zeros(50), np.zeros(50), round_trip=0.001, periods_per_year=252)
        assert all(verdict.sentence for verdict in verdicts.values())
        ran += 1
    assert min(ran, len(refused)) > 25
    named = ("ensemble.", "signals.", "member of the ensemble")
    assert all(any(name in text for name in named) for text in refused)


def test_without_its_only_probability_an_ensemble_is_the_base_rate(everything: Forecasts) -> None:
    experiment = Experiment(
        **COMMON, models=("ridge", "logistic"), signals=SIGNALS, ensemble={"members": ("ridge", "logistic")}
    )
    own = set(experiment.panel)
    known = replace(everything, values={name: heads for name, heads in everything.values.items() if name in own})
    combined = {"index": combine(known, experiment.ensemble, experiment.intervals)}
    rows = pl.DataFrame(credit_of(combined, experiment.ensemble), infer_schema_length=None)
    assert ("direction", ["logistic"]) in rows.select("head", "models").rows()
