"""Groups of bars: by the values of a column, and by month, weekday, hour and the waves of the year."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

LEAST_ROWS = 250  # of a symbol
LEAST_OF_GROUP, LEAST_COVERED = 5, 0.8  # rows of a group, and the share of all rows in such groups
MOST_GROUPS, MOST_CELLS = 400, 20_000_000
SAME_DIGITS = 11  # decimals, in units of the largest value, to which two values of a column are the same
HARMONICS = 3  # of the year


def rows_by_value(value: FloatArray, rows: IntArray) -> tuple[IntArray, FloatArray] | None:
    """Rows in groups that are large enough, and (rows, groups) 1 where a row is of a group; None: too few rows.

    `value`: (bars,) the column, NaN where it has none; `rows`: those that are looked at.

    >>> rows, table = rows_by_value(np.arange(300.0) % 3, np.arange(300))
    >>> len(rows), table.sum(axis=0).tolist()
    (300, [100.0, 100.0, 100.0])
    """
    rows = rows[np.isfinite(value[rows])]
    if len(rows) < LEAST_ROWS:
        return None
    largest = float(np.abs(value[rows]).max())
    if largest == 0:
        return None
    group, count = np.unique(np.round(value[rows] / largest, SAME_DIGITS), return_inverse=True, return_counts=True)[1:]
    large = count >= LEAST_OF_GROUP
    kept = large[group]
    if not 3 <= large.sum() <= MOST_GROUPS or kept.mean() < LEAST_COVERED:
        return None
    if int(kept.sum()) * int(large.sum()) > MOST_CELLS:
        return None
    place = np.cumsum(large) - 1
    return rows[kept], (place[group[kept]][:, None] == np.arange(int(large.sum()))).astype(float)


def calendars(bars: pl.DataFrame) -> list[FloatArray]:
    """(bars, groups) each: 1 where a bar is of a month, a weekday, an hour; the waves of the year."""
    time = pl.col("time")
    parts = bars.select(
        month=time.dt.month(), weekday=time.dt.weekday(), hour=time.dt.hour(), day=time.dt.ordinal_day()
    )
    found = []
    for name in ("month", "weekday", "hour"):
        group = np.unique(parts[name].to_numpy(), return_inverse=True)[1]
        if group.max() > 2:
            found.append((group[:, None] == np.arange(group.max() + 1)).astype(float))
    angle = 2 * np.pi * parts["day"].to_numpy()[:, None] / 365.25 * np.arange(1, HARMONICS + 1)
    return [*found, np.column_stack([np.ones(len(bars)), np.cos(angle), np.sin(angle)])]


def share_of_groups(table: FloatArray, answer: FloatArray) -> float:
    """Share of the variance of the answers, (rows,), that lies between groups, `table` (rows, groups).

    >>> share_of_groups(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([1.0, 1.0, 3.0, 3.0]))
    1.0
    """
    middle = answer - answer.mean()
    between = ((table.T @ middle) ** 2 / np.maximum(table.sum(0), 1)).sum()
    return float(between / (middle @ middle)) if middle @ middle > 0 else 1.0
