"""How much work the models of an experiment are, compared with their default settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatecast.cli.options import core_count

if TYPE_CHECKING:
    from gatecast.experiment import Experiment


def usual_costs(experiment: Experiment) -> dict[str, float]:
    """Model -> how many times the default settings' work it has, over the cores that share it."""
    from gatecast.compute.estimate import PRIOR
    from gatecast.experiment import KNOWN_MODELS
    from gatecast.forecasting.schedule import LONG
    from gatecast.forecasting.tuning import DEFAULT

    cores, lstm, forest = min(experiment.jobs, core_count()), experiment.lstm, experiment.forest
    size = lstm.layers / 2 * max((lstm.units / 64) ** 2, 0.1) * min(lstm.epochs / 12, 1)
    own = {"lstm": lstm.seeds * size, "forest": forest.trees / 60, "highway": 12 / experiment.highway.every}
    shared = {"lstm", "forest", "highway", "garch", "gjr", "tft", "markov", "har_symbol", "har_class"}
    left_out = set(KNOWN_MODELS) - set(experiment.models)
    if experiment.tuning is None:
        left_out |= {"tuning", "lstm" + DEFAULT}
    else:  # half of a slice and half of a network's size are what a candidate takes in the mean
        tuning = experiment.tuning
        fits = tuning.trials * tuning.folds * tuning.seeds / tuning.refits_between(experiment.schedule.refit)
        largest = max(tuning.layers[1] / 2 * (tuning.units[1] / 64) ** 2, 0.1)
        own |= {"lstm" + DEFAULT: lstm.seeds * size, "tuning": fits / 2 * largest / 2}
        shared |= {"tuning", "lstm" + DEFAULT}
    models = [name for name in PRIOR if name.removesuffix(LONG) not in left_out]
    return {name: own.get(name, 1.0) / (cores if name in shared else 1) for name in models}
