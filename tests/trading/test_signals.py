"""Signals against the formula, one forecast after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up import made_up, with_values

from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.windows import Samples
from gatecast.trading.signals import SignalSettings, make_signals

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def forecasts(samples: Samples) -> Forecasts:
    return made_up(samples, seed=1)


def plain_z(forecasts: Forecasts, number: int, model: str = "lstm", minimum: int = 60) -> dict[int, float]:
    """row -> z within one fold, by a slow loop over the fit's own forecasts."""
    fold, samples = forecasts.folds[number], forecasts.samples
    symbol = samples.symbol[samples.ends]
    issued = forecasts.values[model]["return"][:, -1]
    found = {}
    for one in np.unique(symbol[fold.test]):
        past = list(forecasts.scale[model][number][symbol[fold.validation] == one])
        for row in fold.test[symbol[fold.test] == one]:
            found[int(row)] = (issued[row] - np.mean(past)) / np.std(past, ddof=1) if len(past) >= minimum else np.nan
            past.append(issued[row])
    return found


@pytest.mark.parametrize("number", [0, 1, 5, -1])
def test_z_is_the_distance_from_the_same_fits_earlier_forecasts(forecasts: Forecasts, number: int) -> None:
    number %= len(forecasts.folds)
    signals = make_signals(forecasts)
    for z, model in ((signals.z, "lstm"), (signals.z_confirming, "forest")):
        expected = plain_z(forecasts, number, model)
        np.testing.assert_allclose(z[list(expected)], list(expected.values()), rtol=1e-8, atol=1e-10)


def test_a_refit_that_changes_the_scale_changes_no_z(forecasts: Forecasts) -> None:
    """Every fit's forecasts times a number of its own, and moved: without a scale of its own, signals would bunch."""
    values, scale = forecasts.values["lstm"]["return"].copy(), list(forecasts.scale["lstm"])
    for number, fold in enumerate(forecasts.folds):
        factor, shift = 10.0 ** (number % 5 - 2), 0.003 * number
        values[fold.test] = factor * values[fold.test] + shift
        scale[number] = factor * scale[number] + shift
    changed = replace(
        with_values(forecasts, "lstm", **{"return": values}), scale={**forecasts.scale, "lstm": tuple(scale)}
    )
    before, after = make_signals(forecasts), make_signals(changed)
    np.testing.assert_allclose(after.z, before.z, rtol=1e-6, atol=1e-8)
    assert (np.nan_to_num(after.z) != 0).any()


def test_only_the_same_fits_forecasts_count(forecasts: Forecasts) -> None:
    number = 4
    values, scale = forecasts.values["lstm"]["return"].copy(), list(forecasts.scale["lstm"])
    for other, fold in enumerate(forecasts.folds):
        if other != number:
            values[fold.test] += 1.0
            scale[other] = scale[other] + 1.0
    changed = replace(
        with_values(forecasts, "lstm", **{"return": values}), scale={**forecasts.scale, "lstm": tuple(scale)}
    )
    test = forecasts.folds[number].test
    np.testing.assert_array_equal(make_signals(changed).z[test], make_signals(forecasts).z[test])


def test_symbols_do_not_mix(forecasts: Forecasts) -> None:
    samples = forecasts.samples
    other = samples.symbol[samples.ends] == 1
    values = np.where(other[:, None], 7.0, forecasts.values["lstm"]["return"])
    scale = tuple(
        np.where(other[fold.validation], -3.0, one)
        for fold, one in zip(forecasts.folds, forecasts.scale["lstm"], strict=True)
    )
    changed = replace(with_values(forecasts, "lstm", **{"return": values}), scale={**forecasts.scale, "lstm": scale})
    np.testing.assert_array_equal(make_signals(changed).z[~other], make_signals(forecasts).z[~other])


def test_nothing_comes_from_the_future(forecasts: Forecasts) -> None:
    samples = forecasts.samples
    before = make_signals(forecasts)
    for moment in np.unique(samples.times[forecasts.rows])[::97]:
        later = samples.times > moment
        values = np.where(
            later[:, None], np.random.default_rng(0).normal(size=(len(samples), 1)), forecasts.values["lstm"]["return"]
        )
        after = make_signals(with_values(forecasts, "lstm", **{"return": values}))
        for name in ("z", "signal", "consensus"):
            np.testing.assert_array_equal(getattr(after, name)[~later], getattr(before, name)[~later])


def test_before_sixty_forecasts_there_is_no_z(forecasts: Forecasts) -> None:
    samples = forecasts.samples
    few = replace(
        forecasts,
        folds=tuple(replace(fold, validation=fold.validation[:40]) for fold in forecasts.folds),
        scale={name: tuple(one[:40] for one in parts) for name, parts in forecasts.scale.items()},
    )
    signals = make_signals(few)
    symbol = samples.symbol[samples.ends]
    for fold in few.folds:
        for number in (0, 1):
            past = np.count_nonzero(symbol[fold.validation] == number)
            own = fold.test[symbol[fold.test] == number]
            defined = np.isfinite(signals.z[own])
            assert not defined[: max(60 - past, 0)].any()
            assert defined[max(60 - past, 0) :].all()
    undefined = np.isnan(signals.z)
    assert (signals.signal[undefined] == 0).all()
    assert not signals.consensus[undefined].any()
    assert np.isfinite(make_signals(few, SignalSettings(minimum=20)).z).sum() > np.isfinite(signals.z).sum()


def test_a_constant_forecast_gives_no_signal(forecasts: Forecasts) -> None:
    flat = with_values(forecasts, "lstm", **{"return": np.zeros_like(forecasts.values["lstm"]["return"])})
    flat = replace(flat, scale={**flat.scale, "lstm": tuple(np.zeros_like(one) for one in flat.scale["lstm"])})
    signals = make_signals(flat)
    assert np.isnan(signals.z).all()
    assert (signals.signal == 0).all()


@pytest.mark.parametrize("threshold", [1.0, 2.0])
def test_bullish_bearish_and_consensus(forecasts: Forecasts, threshold: float) -> None:
    signals = make_signals(forecasts, SignalSettings(threshold=threshold))
    for z, confirming, signal, consensus in zip(
        signals.z, signals.z_confirming, signals.signal, signals.consensus, strict=True
    ):
        assert signal == (1 if z > threshold else -1 if z < -threshold else 0)
        both = (z > threshold and confirming > threshold) or (z < -threshold and confirming < -threshold)
        assert consensus == both
    assert {-1, 0, 1} == set(signals.signal.tolist())
    assert 0 < signals.consensus.sum() < np.count_nonzero(signals.signal)
