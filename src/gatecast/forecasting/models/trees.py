"""Regression trees on inputs in bins, grown by compiled code: a random forest in some milliseconds.

A split is looked for between the bins of an input, quantiles of the training rows, instead of between all its values
(Ke et al. 2017, NeurIPS 30): each row is added to the sums of its bin, and nothing is sorted. The split is that of
Breiman, Friedman, Olshen and Stone (1984), for several answers at once: where the sum of squares within is smallest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatecast.compute.machine_code import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

BINS = 64
LEAST_GAIN = 1e-9  # share of a node's own squared mean, below which what a split gains is rounding


@dataclass(frozen=True)
class Tree:
    """The nodes of a tree, the first of them its root; children come after their parents.

    `feature` (-1 in a leaf), `threshold` (at most goes left), `left`, `right` (-1 in a leaf): (nodes,). `value`:
    (nodes, answers) the mean answer of its rows.
    """

    feature: NDArray[np.int32]
    threshold: FloatArray
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: FloatArray


def bagged(
    inputs: NDArray[np.float32], answers: FloatArray, weight: FloatArray, draw: np.random.Generator, *,
    trees: int, drawn: int, columns: int, depth: int, leaf: int,
) -> list[Tree]:  # fmt: skip
    """Trees of a random forest (Breiman 2001, Machine Learning 45), each on rows drawn with replacement.

    Parameters
    ----------
    inputs: (rows, inputs), finite; answers: (rows, answers), finite; weight: (rows,) >= 0, a row is drawn in proportion
        to it. drawn: rows a tree. columns: inputs that are tried at a split, more only where none of them splits.
        depth: at most. leaf: different rows in a leaf, at least.

    >>> x = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
    >>> step = np.where(x > 0.5, 1.0, -1.0)
    >>> drawn = np.random.default_rng(0)
    >>> (tree,) = bagged(x, step, np.ones(400), drawn, trees=1, drawn=400, columns=1, depth=1, leaf=20)
    >>> [round(float(one), 1) for one in (tree.threshold[0], *tree.value[1:, 0])]
    [0.5, -1.0, 1.0]
    """
    edges, bins = in_bins(inputs)
    bounds = np.cumsum(weight)
    grown = []
    for _ in range(trees):
        places = np.searchsorted(bounds, draw.random(drawn) * bounds[-1], side="right")
        times = np.bincount(np.minimum(places, len(weight) - 1), minlength=len(weight))
        rows = np.flatnonzero(times)
        most = min(2 ** (depth + 1) - 1, max(2 * (len(rows) // leaf) - 1, 1))
        order = draw.permuted(np.tile(np.arange(inputs.shape[1], dtype=np.int32), (most, 1)), axis=1)
        feature, left, right = (np.full(most, -1, np.int32) for _ in range(3))
        cut, value = np.zeros(most, np.int32), np.zeros((most, answers.shape[1]))
        own = times[rows].astype(np.float64)[:, None]
        sums = np.concatenate([answers[rows] * own, own], axis=1)
        count = grow(bins[:, rows], sums, order, columns, depth, leaf, feature, cut, left, right, value)
        feature, cut = feature[:count], cut[:count]
        threshold = np.where(feature >= 0, edges[np.maximum(feature, 0), np.minimum(cut, edges.shape[1] - 1)], 0.0)
        grown.append(Tree(feature, threshold, left[:count], right[:count], value[:count]))
    return grown


def in_bins(inputs: NDArray[np.float32]) -> tuple[FloatArray, NDArray[np.uint8]]:
    """(rows, inputs) -> (inputs, bins - 1) ascending edges halfway between values, and (inputs, rows) numbers of bins.

    A value is in bin b where it is above edge b - 1, and at most edge b.

    >>> edges, bins = in_bins(np.arange(256, dtype=np.float32)[:, None])
    >>> edges[0, :2].tolist(), bins[0, [0, 3, 4, 255]].tolist()
    ([3.5, 7.5], [0, 0, 1, 63])
    """
    ordered = np.sort(inputs.astype(np.float64), axis=0)
    place = np.arange(1, BINS) * len(inputs) // BINS
    edges = ((ordered[np.maximum(place - 1, 0)] + ordered[place]) / 2).T
    bins = [np.searchsorted(*each) for each in zip(edges, inputs.T.astype(np.float64), strict=True)]
    return edges, np.array(bins, np.uint8)


@compiled()
def grow(  # type: ignore[no-untyped-def]
    bins, sums, order, columns, depth, leaf, feature, cut, left, right, value
):
    """Grows one tree into `feature`, `cut` (the last bin that goes left), `left`, `right`, `value`; returns its nodes.

    In: `bins` (inputs, rows); `sums` (rows, answers + 1) answers times how often each row was drawn, and that number;
    `order` (nodes, inputs) the order in which each node tries the inputs.
    """
    inputs, count = bins.shape
    width = sums.shape[1]
    answers = width - 1
    rows, other = np.empty(count, np.int64), np.empty(count, np.int64)
    begin, end, level = np.empty(len(cut), np.int64), np.empty(len(cut), np.int64), np.empty(len(cut), np.int64)
    table, number = np.empty((BINS, width)), np.empty(BINS, np.int64)
    whole, low = np.empty(width), np.empty(width)
    for place in range(count):
        rows[place] = place
    begin[0], end[0], level[0], nodes, node = 0, count, 0, 1, 0
    while node < nodes:
        first, last = begin[node], end[node]
        for one in range(width):
            whole[one] = 0.0
        for place in range(first, last):
            for one in range(width):
                whole[one] += sums[rows[place], one]
        nothing = 0.0
        for one in range(answers):
            value[node, one] = whole[one] / whole[answers]
            nothing += whole[one] * whole[one] / whole[answers]
        best, best_input, best_bin = nothing * (1 + LEAST_GAIN), -1, -1
        if level[node] < depth and last - first >= 2 * leaf and nodes + 2 <= len(feature):
            for tried in range(inputs):
                if tried >= columns and best_input >= 0:
                    break
                column = order[node, tried]
                for inside in range(BINS):
                    number[inside] = 0
                    for one in range(width):
                        table[inside, one] = 0.0
                for place in range(first, last):
                    row = rows[place]
                    inside = bins[column, row]
                    number[inside] += 1
                    for one in range(width):
                        table[inside, one] += sums[row, one]
                for one in range(width):
                    low[one] = 0.0
                below = 0
                for inside in range(BINS - 1):
                    if number[inside] == 0:
                        continue
                    below += number[inside]
                    for one in range(width):
                        low[one] += table[inside, one]
                    if last - first - below < leaf:
                        break
                    if below < leaf:
                        continue
                    under, over = 0.0, 0.0
                    for one in range(answers):
                        under += low[one] * low[one]
                        over += (whole[one] - low[one]) * (whole[one] - low[one])
                    found = under / low[answers] + over / (whole[answers] - low[answers])
                    if found > best:
                        best, best_input, best_bin = found, column, inside
        if best_input >= 0:
            lower, upper = first, 0
            for place in range(first, last):
                row = rows[place]
                if bins[best_input, row] <= best_bin:
                    rows[lower] = row
                    lower += 1
                else:
                    other[upper] = row
                    upper += 1
            for place in range(upper):
                rows[lower + place] = other[place]
            feature[node], cut[node], left[node], right[node] = best_input, best_bin, nodes, nodes + 1
            begin[nodes], end[nodes], level[nodes] = first, lower, level[node] + 1
            begin[nodes + 1], end[nodes + 1], level[nodes + 1] = lower, last, level[node] + 1
            nodes += 2
        node += 1
    return nodes
