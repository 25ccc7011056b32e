"""Unbroken histories of returns: what models with a state of their own filter, bar by bar and never across a gap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.models.naive import match_symbols

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def histories_between(samples: Samples, first: int, last: int) -> Iterator[tuple[int, FloatArray]]:
    """First bar-level row and log returns of each segment within the rows `first` to `last` (exclusive) of one symbol.

    A segment's first return is NaN, that of a bar which became known too late to be read 0.
    """
    step = samples.facts.step
    breaks = np.flatnonzero(np.diff(samples.segment[first:last])) + first + 1
    for begin, end in zip([first, *breaks], [*breaks, last], strict=True):
        if end > begin:
            yield int(begin), np.r_[np.nan, np.nan_to_num(step[begin + 1 : end])]


def histories_until(
    samples: Samples, ends: IntArray, symbols: tuple[str, ...]
) -> Iterator[tuple[int, int, FloatArray]]:
    """The histories that lead to the bar-level rows `ends`, from each symbol's first bar to the last of its rows.

    Yields the symbol's number in `symbols`, the history's first bar-level row, and its returns. Symbols that are not
    among `symbols` are left out.

    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.a1(400, seed=1), ("ret_log_1",))["index"]
    >>> [(number, first, len(returns)) for number, first, returns in histories_until(samples, np.array([99]), ("A1",))]
    [(0, 0, 100)]
    """
    for symbol in np.unique(samples.symbol[ends]):
        mine = ends[samples.symbol[ends] == symbol]
        (number,) = match_symbols(samples, symbols, mine[:1])
        if number >= 0:
            first = int(np.searchsorted(samples.symbol, symbol))
            for begin, returns in histories_between(samples, first, int(mine.max()) + 1):
                yield int(number), begin, returns
