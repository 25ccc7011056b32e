"""Usual seconds of the stages of a run, for the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatecast.cli.options import core_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatecast.compute.estimate import Seconds
    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.forecasting.tuning.tuned import Tuning


SLOW_ROW = 1e-6
"""Seconds a row of a window from which the end of a model's fits is worth a line."""


def slow_models(models: Mapping[str, Forecaster]) -> set[str]:
    """The names of models whose fits take long enough that their end is worth a line."""
    return {name for name, one in models.items() if one.traits_with_settings().seconds.row > SLOW_ROW}


def usual_costs(
    panel: Mapping[str, Forecaster], tuning: Tuning | None, refit: str | int, jobs: int
) -> dict[str, Seconds]:
    """Model or stage -> what it usually takes with these settings, over the `jobs` cores that share it.

    `refit`: time or bars between refits, as in `Schedule`.
    """
    from gatecast.compute.estimate import COMBINING, SCORING
    from gatecast.forecasting.panel import ENSEMBLE, NETWORK

    cores = min(jobs, core_count())
    found = {
        name: took.times(1 / cores) if took.parallel else took
        for name, one in panel.items()
        if (took := one.usual_seconds())
    }
    if tuning is not None:
        # half of a slice and half of a network's size are what a candidate takes in the mean
        fits = tuning.trials * tuning.folds * tuning.seeds / tuning.refits_between(refit)
        largest = max(tuning.layers[1] / 2 * (tuning.units[1] / 64) ** 2, 0.1)
        network = panel[NETWORK].traits_with_settings().seconds
        found["tuning"] = network.times(fits / 2 * largest / 2 / 3 / cores)  # those seconds are of three networks
    return {**found, ENSEMBLE: COMBINING, "scores": SCORING}


def seeded(seeds: int | None) -> dict[str, Any]:
    """The number of networks as a table of `model`."""
    from gatecast.forecasting.panel import NETWORK

    return {} if seeds is None else {NETWORK: {"seeds": seeds}}
