"""Each symbol's own past share of rises or of turbulent spells, as far as its record bears it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LEAST_STRENGTH = 10.0
"""Independent answers of its own after which a symbol's share counts as much as its class's, at the fewest."""


def symbol_shares(
    answer: FloatArray, symbol: NDArray[np.int32], symbols: int, overlap: int
) -> tuple[FloatArray, float]:
    """Shares of 1 among answers: (symbols,) of each symbol, shrunk to its class's, and the class's own.

    Parameters
    ----------
    answer: (rows,) 1, 0, or NaN where there is none; all known at the moment the shares are for.
    symbol: (rows,) the number of each row's symbol, below `symbols`.
    overlap: sessions that an answer spans: so many rows count as one independent answer.

    Returns
    -------
    The class's share has one hit in two answers added, so that nothing known means one half. A symbol's is the mean of
    its own and the class's; the class's counts as many answers as the spread of the symbols' shares says (moments of a
    beta distribution), at least `LEAST_STRENGTH`: where symbols differ by no more than luck, all have the class's.

    References
    ----------
    Casella (1985), American Statistician 39: empirical Bayes; DerSimonian and Laird (1986), Controlled Clinical Trials
    7: the spread between groups.

    >>> rose, number = np.r_[np.zeros(600), np.tile([0.0, 1.0], 300)], np.repeat([0, 1], 600)
    >>> shares, of_class = symbol_shares(rose, number, 2, 1)
    >>> shares.round(2).tolist(), round(of_class, 2)
    ([0.0, 0.5], 0.25)
    """
    known = np.isfinite(answer)
    count = np.bincount(symbol[known], minlength=symbols) / overlap
    hits = np.bincount(symbol[known], answer[known], minlength=symbols) / overlap
    of_class = float((hits.sum() + 1) / (count.sum() + 2))
    strength = _strength(hits, count, of_class)
    if np.isinf(strength):
        return np.full(symbols, of_class), of_class
    shares: FloatArray = (hits + strength * of_class) / (count + strength)
    return shares, of_class


def _strength(hits: FloatArray, count: FloatArray, of_class: float) -> float:
    """How many answers the class's share counts for; infinite where the symbols' shares differ by luck alone."""
    own = count > 0
    if own.sum() < 2:
        return np.inf
    total, luck = count.sum(), of_class * (1 - of_class)
    spread = float(count[own] @ (hits[own] / count[own] - of_class) ** 2)
    between = (spread - (own.sum() - 1) * luck) / (total - (count**2).sum() / total)
    return max(LEAST_STRENGTH, luck / between - 1) if between > 0 else np.inf
