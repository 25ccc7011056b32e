"""Settings and the chosen ones -> whether the choice stands on a cliff: good there, and nowhere beside it.

`cliff` reads a grid of two settings whose values have errors; `cliff_among` reads settings that a search tried
anywhere, whose losses have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.evaluation.findings import Finding

FloatArray = NDArray[np.float64]
TIMES = 2.0
"""Standard errors of the chosen value by which it must lead all its neighbours."""
LEAST_NEIGHBOURS = 2


@dataclass(frozen=True)
class Grid:
    """Results over two settings: `values` (rows, columns), more is better, and their standard `errors`; NaN: unknown.

    The error of a value is that of its own estimate, not of a difference of two cells: cells share their days, so that
    their difference is known far better than either, and the gentlest slope would pass for a cliff.
    """

    values: FloatArray
    errors: FloatArray


@dataclass(frozen=True)
class Cliff:
    """A choice that is better than all its neighbours by more than luck gives: by `lead`, `errors` standard errors.

    `value`: at the chosen setting; `best`: of its best neighbour; `neighbours`: how many there are.
    """

    value: float
    best: float
    errors: float
    neighbours: int

    @property
    def lead(self) -> float:
        """By how much the chosen value is above that of its best neighbour."""
        return self.value - self.best

    @property
    def sentence(self) -> str:
        """What was found, and what to do."""
        return (
            f"A cliff at the chosen setting: it is better than each of the {self.neighbours} settings beside it by "
            f"{self.lead:.3g} or more, {self.errors:.1f} standard errors. What works at one setting alone is likely "
            "luck: choose one whose neighbours do as well."
        )


def smallest_seen(grid: Grid, chosen: tuple[int, int], *, times: float = TIMES) -> float | None:
    """The lead over its neighbours from which on `cliff` finds one at a cell; None where nothing there could be found.

    >>> values = np.array([[0.1, 0.2, 0.1], [0.2, 0.3, 0.3], [0.1, 0.2, 0.2]])
    >>> smallest_seen(Grid(values, np.full((3, 3), 0.25)), (1, 1)), smallest_seen(Grid(values[:1, :1], values), (0, 0))
    (0.5, None)
    """
    error = float(grid.errors[chosen])
    known = np.isfinite(grid.values[chosen]) and error > 0 and len(_beside(grid, chosen)) >= LEAST_NEIGHBOURS
    return times * error if known else None


def _beside(grid: Grid, chosen: tuple[int, int]) -> FloatArray:
    """The values that are known of the cells that touch one."""
    row, column = chosen
    touching = grid.values[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].copy()
    touching[min(row, 1), min(column, 1)] = np.nan
    return np.asarray(touching[np.isfinite(touching)], np.float64)


def cliff(grid: Grid, chosen: tuple[int, int], *, times: float = TIMES) -> Cliff | None:
    """The cliff at the chosen cell (row, column) of a grid, None where there is none.

    There is one where the chosen value is above that of each of the up to eight cells that touch it by more than
    `times` its standard error. Fewer than two neighbours that are known show none.

    >>> values = np.array([[0.1, 0.2, 0.1], [0.2, 1.5, 0.3], [0.1, 0.2, 0.2]])
    >>> found = cliff(Grid(values, np.full((3, 3), 0.25)), (1, 1))
    >>> found.lead, found.errors, found.neighbours
    (1.2, 4.8, 8)
    >>> cliff(Grid(values, np.full((3, 3), 0.7)), (1, 1)) is None
    True
    """
    if smallest_seen(grid, chosen, times=times) is None:
        return None
    known, value, error = _beside(grid, chosen), float(grid.values[chosen]), float(grid.errors[chosen])
    best = float(known.max())
    errors = (value - best) / error
    return Cliff(value, best, errors, len(known)) if errors > times else None


# ── settings that were tried anywhere ─────────────────────────────────────────────────────────────

CLIFF_TRIALS, CLIFF_STEPS = 12, 5.0
"""Settings tried below which no cliff is seen; and the step to the nearest ones, in usual steps between neighbours. Of
losses without any pattern the best stands so high in 0 to 1 of 400 simulated searches, of 12 to 60 settings."""


def cliff_among(
    points: Sequence[Mapping[str, Any]], losses: ArrayLike, chosen: Mapping[str, Any], subject: str
) -> list[Finding]:
    """Whether the settings that were chosen stand alone: those nearest to them are much worse.

    Parameters
    ----------
    points: settings that were tried, each parameter -> value. losses: (tried,) of each, smaller is better.
    chosen: one of the points. subject: whose settings they are.

    Two settings are as far apart as their parameters, by rank among the values tried (other than numbers: 0 where
    equal, else 1). The step of the chosen ones is the mean loss of their nearest ones, two a parameter, less their own;
    the usual step is the median over the others of the mean distance in loss to their nearest ones.
    """
    loss = np.asarray(losses, np.float64)
    at = next((place for place, one in enumerate(points) if one == chosen), None)
    if at is None or len(points) < CLIFF_TRIALS or not np.isfinite(loss).all():
        return []
    far = _distances(points)
    near = max(2, min(2 * len(chosen), len(points) // 3))
    apart = [loss[_nearest(far, place, near)] - loss[place] for place in range(len(points))]
    step = float(apart[at].mean())
    usual = float(np.median([np.abs(one).mean() for place, one in enumerate(apart) if place != at]))
    gain = float(np.median(loss) - loss[at])
    if not (step > CLIFF_STEPS * usual and gain > 0 and step > 0):
        return []
    lost = min(step / gain, 1.0)
    times = f"{step / usual:.0f} times the usual step" if usual > 0 else "where the others do not differ"
    return [
        Finding(
            "cliff", subject, lost, "gain of the settings", len(points), "settings",
            f"The settings chosen for {subject} stand on a cliff: the nearest ones lose {step:.3g} more, {times}, and "
            f"{lost:.0%} of what the choice gained over the median setting is gone.",
        )
    ]  # fmt: skip


def _distances(points: Sequence[Mapping[str, Any]]) -> FloatArray:
    """(points, points) sums over parameters of how far two settings are apart, each from 0 to 1."""
    names = sorted({name for one in points for name in one})
    far = np.zeros((len(points), len(points)))
    for name in names:
        values = [one.get(name) for one in points]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            _, rank = np.unique(np.array(values, np.float64), return_inverse=True)
            far += np.abs(rank[:, None] - rank[None, :]) / max(int(rank.max()), 1)
        else:
            far += np.array([[float(left != right) for right in values] for left in values])
    return far


def _nearest(far: FloatArray, place: int, count: int) -> NDArray[np.intp]:
    """The places of the nearest points, itself left out."""
    order = np.argsort(far[place], kind="stable")
    return np.asarray(order[order != place][:count], np.intp)
