"""Judging forecasts, quantiles or daily profits from anywhere: verdicts, costs, power, copies, a planted leak.

Nothing is fitted but the simple rivals. What the author of the forecasts knew cannot be seen; what a forecast knows of
later bars can: each is searched for it, and so is a copy in which some is planted, to show what would have been found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError
from gatecast.evaluation.ledger import trials_are_missing
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.outside import PROFITS, read_outside
from gatecast.evaluation.record import LONGEST_HORIZON
from gatecast.evaluation.verdict import with_trials_unknown
from gatecast.forecasting.schedule import Schedule
from gatecast.market.bars import refuse_lacking
from gatecast.market.facts import facts_of
from gatecast.market.reading import as_day
from gatecast.studies.judgement import Judgement
from gatecast.studies.judging_forecasts import forecasts_judged
from gatecast.studies.judging_profits import profits_judged
from gatecast.studies.placebo import MOST_COPIES
from gatecast.studies.question import Question
from gatecast.trading.costs import Costs


@checked
def judge_forecasts(
    source: str | Path | Any,
    bars: pl.DataFrame,
    *,
    horizon: int | None = None,
    name: str | None = None,
    cutoff: str | date | None = None,
    copies: int = 199,
    seed: int = 0,
    costs: Costs | None = None,
    schedule: Schedule | None = None,
    volatility_proxy: str = "garman_klass",
    too_good: Collection[str] = (),
    actions: pl.DataFrame | None = None,
    cash: float | None = None,
    progress: Progress | bool | None = None,
) -> Judgement:
    """Anybody's forecasts or daily profits -> verdicts against the simple rivals, and what these rest on.

    Parameters
    ----------
    source, horizon, name: see `evaluation.outside.read_outside`. bars: Bars with the closes and what follows them;
        they should begin two years before the forecasts, since the rivals learn from them.
    cutoff: the last session that the model was trained on: forecasts up to its close are not judged.
    copies: of the forecasts, moved in time, which real ones must beat. seed: decides these.
    costs: of the plain trade of return forecasts or probabilities (None: the usual ones of each class).
    schedule: of the rivals' refits (None: the usual one). volatility_proxy: what answers of variance are made of.
    too_good: heads that may be too good to be true, or "planted" for all, see `Experiment`.
    actions: those that are known. cash: interest a year that profits are judged beyond, 0 where they are excess
        returns already (None: that of one-month bills in dollars). progress: as in `run`.

    Each model is a trial on this market, and is recorded in the ledger of trials.

    Raises
    ------
    SettingsError, BarsFileError for a file that cannot be judged.

    >>> from gatecast.evaluation.ledger import unrecorded
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(900, seed=1)
    >>> guess = bars.select("symbol", "time", direction=0.5 + 0.1 * (pl.col("volume") > pl.col("volume").median()))
    >>> with unrecorded():
    ...     found = judge_forecasts(guess, bars, horizon=1, name="guess", copies=19)
    >>> found.models["guess"].verdicts["direction"].verdict
    'cannot tell'
    """
    if not 0 <= copies <= MOST_COPIES:
        raise SettingsError(f"copies = {copies}: expected 0 to {MOST_COPIES:,}.")
    refuse_lacking(bars)
    if horizon is not None and not 1 <= horizon <= LONGEST_HORIZON:
        raise SettingsError(f"horizon = {horizon}: expected bars ahead, 1 to {LONGEST_HORIZON}.")
    theirs = read_outside(source, bars, horizon=horizon, name=name)
    asked = Question(
        facts_of(bars, actions), None if cutoff is None else as_day(cutoff, "cutoff"), copies, seed, costs or Costs(),
        schedule or Schedule(), volatility_proxy, tuple(too_good), cash,
    )  # fmt: skip
    with shown(progress) as told, problems() as unread:
        made = (
            profits_judged(asked, theirs) if theirs.kind == PROFITS else forecasts_judged(asked, theirs, horizon, told)
        )
    if trials_are_missing(unread):
        models = {key: replace(one, verdicts=with_trials_unknown(one.verdicts)) for key, one in made.models.items()}
        made = replace(made, models=models, trials=None)
    notes = [*made.notes, *dict.fromkeys(unread)]
    if cutoff is None:
        notes.append("What a model was trained on is not known; with a cutoff only what came after it is judged.")
    return replace(made, notes=tuple(notes))
