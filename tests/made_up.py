"""Runs and forecasts for tests: settings that fit little, and forecasts made up of the answer and noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.targets import Target
from gatecast.samples.windows import Samples

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
FEW: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}, "control": None,
    "schedule": {"refit": "1Y"}, "horizon": 1,
}  # fmt: skip
"""Settings of a run with two simple models, refitted once a year."""


def made_up(
    samples: Samples, seed: int = 0, *, skill: dict[str, float] | None = None, schedule: Schedule | None = None
) -> Forecasts:
    """Out-of-sample forecasts of every model that the ensemble and the verdict ask for.

    `skill`: model -> how much of the standardised answer is in its forecast, beside noise of the same size for all.
    """
    skill = skill or {}
    folds = tuple(
        fold.on(samples) for fold in (schedule or Schedule(refit="3M")).folds(samples.times, samples.known_at)
    )
    rows = np.sort(np.concatenate([fold.test for fold in folds]))
    rng = np.random.default_rng(seed)
    ends, steps = samples.ends, np.sqrt(np.arange(1, samples.horizon + 1))
    unit = samples.facts.sigma[ends, None] * steps
    path = np.nan_to_num(samples.targets["return"].value[ends]) / unit
    variance = np.nan_to_num(samples.targets["volatility"].value[ends], nan=-7.7)
    turbulent = np.nan_to_num(samples.targets["regime"].value[ends], nan=0.5) - 0.5
    issued = np.zeros(len(samples), bool)
    issued[rows] = True

    def only(values: FloatArray) -> FloatArray:
        return np.where(issued if values.ndim == 1 else issued[:, None], values, np.nan)

    def chance(answer: FloatArray, share: float) -> FloatArray:
        return only(1 / (1 + np.exp(-(share * answer + 0.3 * rng.standard_normal(len(samples))))))

    values: dict[str, dict[str, FloatArray]] = {}
    scale = {}
    for name in ("lstm", "forest", "logistic"):
        share = skill.get(name, 0.0)
        values[name] = {
            "direction": chance(2 * path[:, -1], share),
            "regime": chance(4 * turbulent, share),
        }
        if name == "logistic":
            continue
        every = (share * path + 0.3 * rng.standard_normal((len(samples), 1)) * steps / steps[-1]) * unit
        values[name]["return"] = only(every)
        log_variance = -7.7 + min(3 * share, 1.0) * (variance + 7.7) + 0.1 * rng.standard_normal(len(samples))
        values[name]["volatility"] = only(np.exp(log_variance))
        scale[name] = tuple(every[fold.validation, -1] for fold in folds)
    half = only(np.full(len(samples), 0.5))
    values |= {
        "zero": {"return": only(np.zeros((len(samples), samples.horizon)))},
        "mean": {"return": only(samples.facts.mean[ends, None] * np.arange(1, samples.horizon + 1))},
        "base_rate": {"direction": half + 0.02, "regime": half - 0.15},
        "har": {"volatility": only(np.exp(-7.7 + 0.1 * rng.standard_normal(len(samples))))},
        "constant": {"volatility": only(np.full(len(samples), np.exp(-7.7)))},
        "threshold": {"regime": chance(turbulent, 0.1)},
        "har_regime": {"regime": chance(turbulent, 0.1)},
    }
    values["har_smooth"] = values["har"]  # what the mixture of variances starts from
    return Forecasts(samples, folds, values, scale)


def with_values(forecasts: Forecasts, model: str, **heads: FloatArray) -> Forecasts:
    """The same with some heads of a model replaced."""
    return forecasts.with_model(model, {**forecasts.values.get(model, {}), **heads})


def with_answers(forecasts: Forecasts, head: str, value: FloatArray) -> Forecasts:
    """The same with other answers of one head, over the bars."""
    samples = forecasts.samples
    target = Target(value, samples.targets[head].known_at)
    changed = replace(samples, targets={**samples.targets, head: target})
    return replace(forecasts, samples=changed, folds=tuple(fold.on(changed) for fold in forecasts.folds))
