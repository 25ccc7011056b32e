"""Two settings of a run over their values: what the money would have been in each cell, on the stored forecasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatecast.arguments import checked
from gatecast.chain import Progress
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError, did_you_mean
from gatecast.evaluation.cliffs import Cliff, Grid, cliff, smallest_seen
from gatecast.files import jsonable
from gatecast.metrics import significance
from gatecast.metrics.risk import certain_values, sharpe_influence
from gatecast.notebook import Shown, draw_grid
from gatecast.runs import Run
from gatecast.whatif import WhatIf, value_of

FloatArray = NDArray[np.float64]
METRICS = {
    "sharpe": "Sharpe ratio a year, beyond cash", "certainty_equivalent": "certainty equivalent a year, beyond cash",
    "turnover": "one-sided turnover a year, times the equity; less is better",
}  # fmt: skip
"""Metric -> what it is."""
MOST_CELLS = 400
LESS_IS_BETTER = ("turnover",)


@dataclass(frozen=True)
class Sensitivity(Shown):
    """A map: rows are values of the first setting, columns those of the second; the run's own are among them.

    `values`: (rows, columns) of the metric, a year; `errors`: the standard error of each by itself (HAC). `chosen`: the
    cell of the run. `own`: what the money is of, "book" or "strategies". `added`: cells that are no settings of the
    run, each a trial; `trials`: all on this market, None where the ledger cannot be read. `unread`: what of it.
    """

    run: str
    settings: tuple[str, str]
    axes: tuple[tuple[Any, ...], tuple[Any, ...]]
    metric: str
    values: FloatArray
    errors: FloatArray
    chosen: tuple[int, int]
    own: str
    added: int
    trials: int | None
    unread: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """Values, more of which is better, and their errors."""
        return Grid(-self.values if self.metric in LESS_IS_BETTER else self.values, self.errors)

    @property
    def cliff(self) -> Cliff | None:
        """The cliff at the chosen setting, None where there is none; see `evaluation.cliffs.cliff`."""
        return cliff(self.grid, self.chosen)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Whether the chosen setting is a cliff, and what the map has cost."""
        found, seen = self.cliff, smallest_seen(self.grid, self.chosen)
        value, metric = float(self.values[self.chosen]), self.metric.replace("_", " ")
        first = (
            "Whether the chosen setting is a cliff cannot be told: that takes its standard error and two neighbours."
            if seen is None
            else f"No cliff at the chosen setting that could be seen: its {metric} of {value:.3g} does not lead all "
            f"its neighbours by {seen:.2g}, two standard errors; a smaller cliff cannot be told from luck."
        )
        known = "an unknown number" if self.trials is None else f"{self.trials:,}"
        spent = (
            f"{self.added} cells are trials on this market, of which there are {known} now: a run that takes the best "
            "of them is judged as the best of so many."
        )
        return (found.sentence if found else first, spent, *self.unread)

    def plot(self) -> Any:
        """A Plotly figure: the metric over both settings, the run's own cell framed."""
        return draw_grid(self.values.tolist(), self.axes, self.settings, self.metric.replace("_", " "), self.chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: settings and axes, values and errors by row, chosen, cliff, sentences."""
        found: dict[str, Any] = jsonable(
            {
                "run": self.run, "of": self.own, "metric": self.metric, "settings": list(self.settings),
                "axes": [list(one) for one in self.axes], "values": self.values.tolist(),
                "errors": self.errors.tolist(), "chosen": list(self.chosen),
                "cliff": None if (one := self.cliff) is None else {"lead": one.lead, "errors": one.errors},
                "added": self.added, "trials": self.trials, "sentences": list(self.sentences),
            }
        )  # fmt: skip
        return found


@checked
def sensitivity(
    run: Run, over: Mapping[str, Sequence[Any]], *, metric: str = "sharpe", progress: Progress | bool | None = None
) -> Sensitivity:
    """The money of a run over the values of two settings, without a fit; every cell is a trial on its market.

    Parameters
    ----------
    run: made or loaded. over: two settings, as `Run.with_` names them -> values of each; the run's own is added where
        it is not among them. metric: sharpe, certainty_equivalent or turnover, of the book; without a book of the
        strategies. progress: as in `run`.

    Raises `SettingsError` for other than two settings, for one that comes before the forecasts, and for a value out of
    range; nothing is recorded then.

    >>> from gatecast.evaluation.ledger import unrecorded
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> from gatecast.runs import run
    >>> few = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> with unrecorded():
    ...     done = run(Experiment(bars=synthetic.a1(800, seed=1), schedule={"refit": "1Y"}, **few))
    ...     found = sensitivity(done, {"target": [0.05, 0.15], "half_spread_bps": [2.0]}, metric="turnover")
    >>> found.axes, found.chosen
    (((0.05, 0.1, 0.15), (None, 2.0)), (1, 0))
    """
    if metric not in METRICS:
        raise SettingsError(f"unknown metric {metric!r}. {did_you_mean(metric, METRICS)}")
    if len(over) != 2:
        raise SettingsError(f"a map has two settings, got {len(over)}: give two, each with its values.")
    (first, own_first), (second, own_second) = (value_of(run.experiment, name) for name in over)
    if first == second:
        raise SettingsError(f"{first} is given twice: a map has two settings.")
    rows, columns = (
        _axis(name, values, own) for (name, values), own in zip(over.items(), (own_first, own_second), strict=True)
    )  # fmt: skip
    if len(rows) * len(columns) > MOST_CELLS:
        raise SettingsError(
            f"the map would have {len(rows) * len(columns)} cells, at most {MOST_CELLS} are made: each is a trial. "
            "Give fewer values."
        )
    cells = [{first: one, second: other} for one in rows for other in columns]
    values, errors = np.full(len(cells), np.nan), np.full(len(cells), np.nan)
    with shown(progress) as told:
        tried = run.stored.tries(cells)
        for place, one in enumerate(tried):
            if told:
                told("cells", place, len(cells))
            values[place], errors[place] = one.figures[metric], _error(one, metric)
        if told:
            told("cells", len(cells), len(cells))
    shape = (len(rows), len(columns))
    last = tried[-1].to_dict()
    return Sensitivity(
        run.experiment.name, (first, second), (rows, columns), metric, values.reshape(shape), errors.reshape(shape),
        (rows.index(own_first), columns.index(own_second)), last["of"], len({one.hash for one in tried if one.changes}),
        last["trials"], tuple(last["unread"]),
    )  # fmt: skip


def _axis(name: str, values: Sequence[Any], own: Any) -> tuple[Any, ...]:
    """The values of a setting, the run's own among them; numbers from the smallest, what is left out first."""
    if not values or isinstance(values, str):
        raise SettingsError(f"{name} has no values: give a list of them.")
    found = list(dict.fromkeys([*values, own]))
    numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) + (None in found) == len(found):
        return (*([None] if None in found else []), *sorted(numbers))
    return tuple(found)


def _error(one: WhatIf, metric: str) -> float:
    """The standard error of a metric a year, by itself: that of the mean of what each session adds to it."""
    scale, series = one.per_year, one.turnover if metric == "turnover" else one.daily
    if len(series) < 3 or not np.ptp(series) > 0:
        return math.nan
    if metric == "sharpe":
        scale, series = math.sqrt(scale), sharpe_influence(series).steps
    elif metric == "certainty_equivalent":
        series = certain_values(series)
    return significance.fixed_b_mean(series).standard_error * scale
