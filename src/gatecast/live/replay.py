"""History fed bar by bar through the chain, as live feeds it: what was said at each close, and whether batch agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.audits.tables import up_to
from gatecast.chain import make_chain
from gatecast.live.parity import Difference, Stages, first_difference, joined, stages_of
from gatecast.machine import ONE_CORE, Machine

if TYPE_CHECKING:
    from gatecast.chain import Chain, Past
    from gatecast.experiment import Experiment

Heard = Callable[[int, int], None]
"""Called with the closes that are done and those there are."""


@dataclass(frozen=True)
class Replayed:
    """A replay: `said` at each close as live would have said it, the last `chain`, and the `difference` from batch."""

    closes: int
    said: Stages
    chain: Chain
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """Whether batch says the same, bit for bit."""
        return self.difference is None


def replay(
    experiment: Experiment,
    bars: pl.DataFrame,
    actions: pl.DataFrame | None = None,
    *,
    since: datetime,
    batch: Chain | None = None,
    progress: Heard | None = None,
    machine: Machine = ONE_CORE,
) -> Replayed:
    """The chain made anew at each close from `since` on, each time with what it said before as its past.

    Parameters
    ----------
    bars: Bars frame; at each close the chain sees what was known by then. actions: delistings that are known.
    since: the first close that is made by itself; what came before is made at once.
    batch: the chain of all bars; None: it is made here.

    Raises as `make_chain` does.
    """
    closes = bars.filter(pl.col("time") >= since)["time"].unique().sort().to_list()
    past: Past | None = None
    said: list[Stages] = []
    chain: Chain | None = None
    for number, close in enumerate(closes):
        known = up_to(bars, np.datetime64(close.replace(tzinfo=None), "us"))
        chain = make_chain(experiment, known, actions=actions, past=past, machine=machine)
        past = chain.past
        said.append(stages_of(chain, close))
        if progress:
            progress(number + 1, len(closes))
    if chain is None:
        raise ValueError(f"there is no close from {since} on")
    whole = joined(said)
    batch = make_chain(experiment, bars, actions=actions, machine=machine) if batch is None else batch
    return Replayed(len(closes), whole, chain, first_difference(whole, stages_of(batch, since)))
