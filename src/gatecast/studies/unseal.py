"""Opening a run's hold-out: the chain once more without the seal, and what is left of each gain beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from gatecast.errors import SettingsError
from gatecast.evaluation import holdout
from gatecast.experiment import Progress, make_chain
from gatecast.provenance import hash_of
from gatecast.results import Run, periods_of

if TYPE_CHECKING:
    from gatecast.forecasting.walkforward import Forecasts


def unseal(
    run: Run, *, bars: str | pl.DataFrame | None = None, again: bool = False, jobs: int = 1,
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """A sealed run with what its hold-out shows, once for these instruments and sessions; the opening is recorded.

    Parameters
    ----------
    run: made with `holdout` set. bars: where its bars are now, a file or a frame (None: where the run read them).
    again: open it although it was opened before, which the report will say.
    jobs: cores; changes no result. progress: as in `gatecast.run`.

    Returns the run with `scores["holdout"]`: each head's and the strategy's gain before and in the hold-out, how much
    of it is gone, and how little so many years can confirm. All else in the run stays sealed.

    Raises `SettingsError` where there is nothing to open or it was opened before, `StoreError` when the opening
    cannot be recorded, and what reading and the chain raise.
    """
    sealed = run.experiment
    if sealed.holdout is None:
        raise SettingsError(
            'this run has no hold-out: it has read all of its bars. Set holdout = "2017-01-01" (a first day of your '
            "own) in the settings before a run, and nothing will read the sessions from then on."
        )
    source = sealed.bars
    if bars is not None:
        source = source.replace(source=bars, frame=None) if isinstance(bars, str) else source.replace(frame=bars)
    elif source.source == "frame" and source.frame is None:
        raise SettingsError("the run's bars were a frame, which is not kept: give bars=, or --bars FILE.")
    opened = sealed.replace(holdout=None, control=None, bars=source, jobs=jobs)

    def rerun() -> tuple[Mapping[str, Forecasts], pl.DataFrame, float]:
        chain = make_chain(opened, opened.read().bars, progress)
        return chain.forecasts, chain.result.equity, periods_of(chain.bars)

    symbols = run.bars["symbol"].unique().sort().to_list()
    found = holdout.unseal(
        symbols, sealed.holdout, rerun, settings_hash=hash_of(sealed.to_dict()), sealed=run.forecasts, again=again
    )
    return replace(run, scores={**run.scores, "holdout": found})
