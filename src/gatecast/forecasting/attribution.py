"""Attributions: what each input adds to a forecast, from what the model says where every input is as usual.

A fitted forecaster that can tell has a method `attributions`; nothing is fitted, and no number of a forecast changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

LINEAR, RECURRENT = "linear", "recurrent"
"""Parts of a model: sums of inputs times weights, and LSTM networks."""
UNITS = {
    "return": "log return over the horizon", "direction": "probability of a rise",
    "volatility": "log of the variance over the horizon", "regime": "probability of high volatility",
}  # fmt: skip
"""Head -> what its attributions add up to."""
Profile = Mapping[tuple[str, int], float]
"""(input, lag in bars) -> its share of all that inputs add, signs left out; the shares add up to 1."""


@dataclass(frozen=True)
class Attribution:
    """What the inputs of one part of a model add to forecasts of one head: base + sum of the values = output.

    Attributes
    ----------
    part: LINEAR or RECURRENT. head: whose `UNITS` the numbers are in.
    inputs: names of the inputs; features: the feature that each is made of.
    values: (rows, lags, inputs), lag 0 at the newest bar; of a linear part one lag, since an input may span many bars.
    base: (rows,) what the part says where every input is as usual, which is the mean of its training rows.
    output: (rows,) what it says; the outputs of all parts of a model add up to its forecast.
    seeds: (networks, rows, lags, inputs) the values of each network, whose mean they are; None of a linear part.
    """

    part: str
    head: str
    inputs: tuple[str, ...]
    features: tuple[str, ...]
    values: FloatArray = field(repr=False)
    base: FloatArray = field(repr=False)
    output: FloatArray = field(repr=False)
    seeds: FloatArray | None = field(default=None, repr=False)

    @property
    def gap(self) -> FloatArray:
        """(rows,) output - base - sum of the values: 0, but for what the integration leaves.

        >>> whole = Attribution("linear", "return", ("x",), ("x",), np.full((1, 1, 1), 0.25), np.zeros(1), np.ones(1))
        >>> whole.gap.tolist()
        [0.75]
        """
        left: FloatArray = self.output - self.base - self.values.sum(axis=(1, 2))
        return left

    def by_feature(self) -> dict[str, FloatArray]:
        """Feature -> (rows,) what all inputs that are made of it add, at all lags."""
        sums = self.values.sum(axis=1)
        return {
            name: sums[:, [place for place, own in enumerate(self.features) if own == name]].sum(axis=1)
            for name in dict.fromkeys(self.features)
        }

    def profile(self) -> Profile:
        """The share of each input and lag, see `Profile`; nothing where no input adds anything.

        >>> values = np.array([[[3.0, 0.0], [-1.0, 0.0]]])
        >>> one = Attribution("recurrent", "return", ("a", "b"), ("a", "b"), values, np.zeros(1), np.ones(1))
        >>> one.profile()
        {('a', 0): 0.75, ('b', 0): 0.0, ('a', 1): 0.25, ('b', 1): 0.0}
        """
        size = np.abs(self.values).mean(axis=0)
        total = float(size.sum())
        if not total > 0:
            return {}
        return {
            (name, lag): float(size[lag, place] / total)
            for lag in range(len(size)) for place, name in enumerate(self.inputs)
        }  # fmt: skip

    def between_seeds(self) -> float | None:
        """Mean `overlap` of two networks that differ by their seed alone; None of fewer than two.

        It says how much two fits on the same rows differ, beside which drift from refit to refit is to be read.
        """
        if self.seeds is None or len(self.seeds) < 2:
            return None
        each = [replace(self, values=one, seeds=None) for one in self.seeds]
        pairs = [overlap(one, other) for place, one in enumerate(each) for other in each[:place]]
        return float(np.mean(pairs))


@runtime_checkable
class Attributable(Protocol):
    """A fitted forecaster that says what its inputs add."""

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """Of the forecasts of some samples the parts, which add up to the forecast in `UNITS`; () without that head."""
        ...


def overlap(one: Attribution, other: Attribution) -> float:
    """How alike two fits use their inputs for the same rows: 1 where they add the same, 0 where they share nothing.

    What an input adds at a lag and row is taken as a share of all that its fit adds, signs left out: the scale does not
    count. The smaller of two shares counts where both have the same sign, so that an input whose effect has turned
    counts for nothing. Between two refits it is the stability score.

    >>> same = (np.zeros(1), np.zeros(1))
    >>> fit = Attribution("linear", "return", ("a", "b"), ("a", "b"), np.array([[[3.0, 1.0]]]), *same)
    >>> turned = Attribution("linear", "return", ("a", "b"), ("a", "b"), np.array([[[-6.0, 2.0]]]), *same)
    >>> overlap(fit, fit), overlap(fit, turned)
    (1.0, 0.25)
    """
    _, first, second = _shared(one, other)
    alike = np.sign(first) == np.sign(second)
    return float(np.minimum(np.abs(first), np.abs(second))[alike].sum())


def turned(one: Attribution, other: Attribution) -> set[tuple[str, int]]:
    """(input, lag) of what two fits use for the same rows, but the other way round, by the mean over the rows."""
    names, first, second = _shared(one, other)
    product = (first * second).sum(axis=0)
    return {(names[place], int(lag)) for lag, place in zip(*np.nonzero(product < 0), strict=True)}


def _shared(one: Attribution, other: Attribution) -> tuple[list[str], FloatArray, FloatArray]:
    """Inputs that both have, and (rows, lags, inputs) what they add in each, as a share of all that is added there."""
    names, lags = [name for name in one.inputs if name in other.inputs], min(one.values.shape[1], other.values.shape[1])
    first, second = (
        each.values[:, :lags, [each.inputs.index(name) for name in names]] / (np.abs(each.values).sum() or 1.0)
        for each in (one, other)
    )
    return names, first, second


def slope_between(low: FloatArray, high: FloatArray) -> FloatArray:
    """(rows,) mean slope of the logistic function between two log-odds: what a unit of log-odds adds on the way.

    >>> slope_between(np.array([0.0, 1.0]), np.array([0.0, 2.0])).round(6).tolist()
    [0.25, 0.149738]
    """
    first, last = (1 / (1 + np.exp(-np.clip(one, -30, 30))) for one in (low, high))
    apart = high - low
    near = np.abs(apart) < 1e-6
    slope: FloatArray = np.where(near, first * (1 - first), (last - first) / np.where(near, 1.0, apart))
    return slope
