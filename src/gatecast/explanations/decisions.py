"""Why a position is what it is: a decided close -> the waterfall from the models' votes to the order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.panel import PLAIN
from gatecast.forecasting.walkforward import at_rows
from gatecast.trading.strategies import MARKET
from gatecast.trading.waterfall import Proposed, Waterfall, waterfall_of

if TYPE_CHECKING:
    from gatecast.experiment import Experiment
    from gatecast.explanations.moments import BookAt, Moment


def decision_of(moment: Moment, experiment: Experiment, book: BookAt | None) -> Waterfall:
    """The steps from what the models vote for to what is held of a symbol at a close."""
    view, sized = (None, None) if book is None else (book.desk.view, book.sized)
    return waterfall_of(proposed_of(moment, experiment), view, sized, moment.symbol)


def proposed_of(moment: Moment, experiment: Experiment) -> Proposed:
    """What the strategies' side decided; nothing where nothing was forecast.

    A vote is a full position, sized by the forecast of variance, for the side that a model's own forecast is on, over
    the number of models; the ensemble's side counts as a whole one.
    """
    if moment.row < 0:
        return Proposed({}, 0.0, "", 0.0, 0.0, 0.0, moment.gate, moment.sentence)
    result = moment.result
    at = int(result.samples.decided[moment.row])
    choice, proposals = result.selection, result.proposals
    size = float(proposals.of(MARKET)[at])  # held long is a full position at every close
    sides = sides_of(moment, experiment)
    strategy = proposals.names[choice.chosen[at]]
    proposed = float(choice.proposed[at])
    return Proposed(
        {name: size * side / len(sides) for name, side in sides.items()},
        size * float(np.sign(proposals.expected[at])), strategy, proposed, proposed * float(choice.left[at]),
        float(choice.evidence[at]), moment.gate, moment.sentence,
    )  # fmt: skip


def sides_of(moment: Moment, experiment: Experiment) -> dict[str, float]:
    """Model -> 1, 0 or -1: the side of its own forecast of the return, or of its probability beside the base rate."""
    forecasts, row = moment.result.forecasts, np.array([moment.row])
    found = {}
    for name in experiment.ensemble.opinions_on("return", forecasts):
        heads = forecasts.values[name]
        if "return" in heads:
            value = at_rows(heads, "return", row)[0, -1]
        else:
            base = at_rows(forecasts.values[PLAIN["direction"]], "direction", row)[0]
            value = at_rows(heads, "direction", row)[0] - base
        found[name] = float(np.sign(np.nan_to_num(value)))
    return found
