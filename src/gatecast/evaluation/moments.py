"""Regressions of moments: sums of answers, their covariance -> what a line explains, and whether it fits too well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

CHANCE = 1e-6  # that a column which is not made of the answers lies so close to them, in each test
NOISE_LEFT = 0.2  # share of the noise that a column may leave at most; persistent answers take away less than the rest
SMALLEST = 0.05  # eigenvalue of the correlation of moments, below which a direction is left out


@dataclass(frozen=True)
class Fit:
    """Chi-squares of one unit's moments: what the column explains, and what it leaves, of so many degrees."""

    explained: float
    left: float
    degrees: int


def too_close(explained: float, left: float, degrees: float, share: float, columns: int = 1) -> bool:
    """Whether a regression of moments leaves less than noise allows, and less than its explained part allows.

    `explained`, `left`: chi-squares, the second of so many `degrees`, of which a `share` is independent; `columns`:
    degrees of the first.

    The second test does not need the size of the noise, which the first takes from single bars.
    """
    if degrees < 1 or left > NOISE_LEFT * min(degrees, explained + left):
        return False
    from scipy import stats

    if stats.chi2.cdf(left * share, degrees * share) > CHANCE:
        return False
    ratio = (explained / columns) / max(left / degrees, 1e-300)
    return bool(stats.f.sf(ratio, columns * share, degrees * share) < CHANCE)


def _whitened(moments: FloatArray, spread: FloatArray) -> FloatArray:
    """(k, q) moments in directions of unit variance; those without noise of their own are left out."""
    size = np.sqrt(np.diag(spread))
    there = size > 1e-7 * size.max(initial=0.0)
    if not there.any():
        return np.zeros((0, *moments.shape[1:]))
    size = size[there]
    values, vectors = np.linalg.eigh(spread[np.ix_(there, there)] / np.outer(size, size))
    kept = values > SMALLEST
    scaled = moments[there] / (size[:, None] if moments.ndim > 1 else size)
    root = np.sqrt(values[kept])
    return np.asarray((vectors[:, kept].T @ scaled) / (root[:, None] if moments.ndim > 1 else root))


def chi_square(moments: FloatArray, spread: FloatArray) -> tuple[float, int]:
    """The chi-square of moments, (k,), with covariance `spread`, (k, k), and its degrees.

    >>> chi_square(np.array([2.0, 0.0]), np.diag([4.0, 1.0]))
    (1.0, 2)
    """
    white = _whitened(moments, spread)
    return float(white @ white), len(white)


def on_a_line(table: FloatArray, value: FloatArray, answer: FloatArray, spread: FloatArray) -> Fit | None:
    """What a line in the column explains of the moments, and what it leaves; None where that says nothing.

    `table`: (rows, k) weights of the moments; `value`, `answer`: (rows,); `spread`: (k, k) covariance of the moments of
    the answers.
    """
    weights = np.column_stack([np.ones(len(value)), value - value.mean(), answer - answer.mean()])
    white = _whitened(np.asarray(table.T @ weights), spread)
    if len(white) < 3:
        return None
    left = []
    for columns in (1, 2):
        known = white[:, :columns]
        rest = white[:, 2] - known @ np.linalg.lstsq(known, white[:, 2], rcond=None)[0]
        left.append(float(rest @ rest))
    return Fit(left[0] - left[1], left[1], len(white) - 2)
