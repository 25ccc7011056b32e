"""Usual seconds of the stages of a run, for the time left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatecast.cli.options import core_count

if TYPE_CHECKING:
    from gatecast.compute.estimate import Seconds
    from gatecast.experiment import Experiment


def usual_costs(experiment: Experiment, jobs: int) -> dict[str, Seconds]:
    """Model or stage -> what it usually takes with these settings, over the `jobs` cores that share it."""
    from gatecast.compute.estimate import COMBINING, SCORING
    from gatecast.forecasting.panel import ENSEMBLE, NETWORK

    cores = min(jobs, core_count())
    found = {
        name: one.traits_with_settings().seconds.times(
            one.relative_work() / (cores if one.traits_with_settings().seconds.parallel else 1)
        )
        for name, one in experiment.panel.items()
    }
    if (tuning := experiment.tuning) is not None:
        # half of a slice and half of a network's size are what a candidate takes in the mean
        fits = tuning.trials * tuning.folds * tuning.seeds / tuning.refits_between(experiment.schedule.refit)
        largest = max(tuning.layers[1] / 2 * (tuning.units[1] / 64) ** 2, 0.1)
        network = experiment.panel[NETWORK].traits_with_settings().seconds
        found["tuning"] = network.times(fits / 2 * largest / 2 / 3 / cores)  # those seconds are of three networks
    return {**found, ENSEMBLE: COMBINING, "scores": SCORING}


def seeded(seeds: int | None) -> dict[str, Any]:
    """The number of networks as a table of `model`."""
    from gatecast.forecasting.panel import NETWORK

    return {} if seeds is None else {NETWORK: {"seeds": seeds}}
