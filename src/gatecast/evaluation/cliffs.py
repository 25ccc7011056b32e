"""A grid of settings and the chosen one -> whether the choice stands on a cliff: good there, and nowhere beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
