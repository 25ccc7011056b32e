"""Cross-validation of labels that live on intervals: the purge and the embargo where test blocks lie in the middle.

Walk-forward needs none of it, since there the future is never trained on (`schedule.known_by`). Positions are anything
that can be ordered: bar numbers or times. López de Prado (2018), Advances in Financial Machine Learning, chapters 7
and 12; the purge here is by the labels of every test block itself, not by their hull.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]


def purged_train_rows(
    start: ArrayLike, end: ArrayLike | None, test: ArrayLike, embargo: float | np.timedelta64 = 0
) -> IntArray:
    """Rows that may be trained on while `test` is forecast: their labels share no moment with a test block's.

    `start`, `end`: (rows,) closed intervals on which labels live; `test`: row numbers. A row is left out where its
    interval touches that of any test row, starts within `embargo` after the end of a block's last label, or never ends
    (NaT or NaN: its answer is not known).

    Raises `ValueError` where no ends are given: without them nothing can be purged.

    >>> day = np.arange(10)
    >>> purged_train_rows(day, day + 2, range(5)).tolist(), purged_train_rows(day, day + 2, range(5, 10)).tolist()
    ([7, 8, 9], [0, 1, 2])
    """
    if end is None:
        raise ValueError("no label ends are given: without knowing when an answer is known, nothing can be purged.")
    start, end = np.asarray(start), np.asarray(end)
    if start.shape != end.shape or start.ndim != 1 or (end < start).any():
        raise ValueError(f"expected starts and later ends of the same rows, got shapes {start.shape} and {end.shape}.")
    rows = np.unique(np.asarray(list(np.asarray(test).ravel()), dtype=np.int64))
    if len(rows) and not 0 <= rows[0] <= rows[-1] < len(start):
        raise ValueError(f"test rows reach from {rows[0]} to {rows[-1]}, there are {len(start)}.")
    allowed = end == end  # NaT and NaN are not
    allowed[rows] = False
    for block in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else ():
        last = end[block].max()
        for row in block:
            allowed &= (end < start[row]) | (start > end[row])
        allowed &= ~((start > last) & (start <= last + embargo)) if embargo else True
    return np.flatnonzero(allowed)


def purged_folds(
    start: ArrayLike, end: ArrayLike | None, folds: int, embargo: float | np.timedelta64 = 0
) -> Iterator[tuple[IntArray, IntArray]]:
    """(train, test) row numbers of `folds` blocks in order of time, purged and with an embargo."""
    for test in _blocks(len(np.asarray(start)), folds):
        yield purged_train_rows(start, end, test, embargo), test


def combinatorial_folds(
    start: ArrayLike, end: ArrayLike | None, groups: int, test_groups: int, embargo: float | np.timedelta64 = 0
) -> Iterator[tuple[IntArray, IntArray]]:
    """(train, test) row numbers of every choice of `test_groups` out of `groups` blocks, purged block by block.

    >>> day = np.arange(60)
    >>> len(list(combinatorial_folds(day, day + 1, 6, 2))), paths(6, 2)
    (15, 5)
    """
    if not 1 <= test_groups < groups:
        raise ValueError(f"test_groups must be from 1 to {groups - 1} of {groups} groups, got {test_groups}.")
    for chosen in combinations(_blocks(len(np.asarray(start)), groups), test_groups):
        test = np.concatenate(chosen)
        yield purged_train_rows(start, end, test, embargo), test


def paths(groups: int, test_groups: int) -> int:
    """How many whole histories the choices of `combinatorial_folds` make up."""
    return comb(groups, test_groups) * test_groups // groups


def _blocks(rows: int, count: int) -> list[IntArray]:
    if not 2 <= count <= rows:
        raise ValueError(f"expected from 2 blocks to one of each row, got {count} blocks of {rows} rows.")
    return np.array_split(np.arange(rows), count)
