"""Permutation importance: what forecasts out of sample lose where one input is put out of its order, in blocks of time.

It asks nothing of a model but forecasts, so that it is the same for all of them, forests among them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gatecast.forecasting.forecaster import seed_of
from gatecast.samples.targets import standardised_loss
from gatecast.samples.variance import CONCENTRATION, IMPLIED, VARIANCE_INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

BLOCK = 10
"""Bars of a symbol that stay in their order."""
REPEATS = 5
"""Orders that are drawn for each input."""


@dataclass(frozen=True)
class OutOfSample:
    """A fit and rows that it forecast out of sample: those of its block, after `cutoff`, with their answers."""

    fit: FittedForecaster
    samples: Samples
    rows: IntArray
    cutoff: np.datetime64


@dataclass(frozen=True)
class Importance:
    """What an input is worth to one head of a model.

    `loss`: mean of `standardised_loss` over the rows as they are; `rise`: what is added to it where the input is out of
    order, the mean over the orders that were drawn, and `spread` their standard deviation. A rise below 0 is luck, or
    an input that does harm.
    """

    input: str
    loss: float
    rise: float
    spread: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def permutation_importance(
    blocks: Sequence[OutOfSample], head: str, *, block: int = BLOCK, repeats: int = REPEATS, seed: int = 0
) -> list[Importance]:
    """The importance of every input of a model to one head, the largest first; of inputs that change nothing, none.

    `blocks`: of one or more refits of the model. An input is a feature, or for a variance one of the model's past
    variances. Its values are cut into blocks of so many bars of a symbol, and the blocks change places; all else stays.
    The same rows, fits and seed give the same numbers; what other inputs there are changes none of them.

    References
    ----------
    Breiman (2001), Machine Learning 45; Fisher, Rudin and Dominici (2019), Journal of Machine Learning Research 20.
    """
    known = [_Scored.of_rows(one, head) for one in blocks]
    known = [one for one in known if len(one.of.rows) and head in one.of.fit.predict(one.of.samples, one.of.rows[:1])]
    if not known:
        return []
    found, plain = list[Importance](), np.concatenate([one.losses(one.of.samples) for one in known])
    for name in _inputs(known[0].of.samples, head):
        drawn = []
        for number in range(repeats):
            losses = [one.losses(_out_of_order(one.of, name, block, number, seed)) for one in known]
            drawn.append(float(np.concatenate(losses).mean() - plain.mean()))
        if any(drawn):
            found.append(Importance(name, float(plain.mean()), float(np.mean(drawn)), float(np.std(drawn)), len(plain)))
    return sorted(found, key=lambda one: -one.rise)


def _inputs(samples: Samples, head: str) -> tuple[str, ...]:
    if head != "volatility":
        return samples.names
    more = (*CONCENTRATION, *IMPLIED)[: samples.facts.concentration.shape[1]]
    return (*samples.names, *(name for name in (*VARIANCE_INPUTS, *more) if name not in samples.names))


@dataclass(frozen=True)
class _Scored:
    """Rows with their answers to one head, and the unit of a return's error."""

    of: OutOfSample
    head: str
    answers: FloatArray
    unit: FloatArray

    @classmethod
    def of_rows(cls, one: OutOfSample, head: str) -> Self:
        samples = one.samples
        value = samples.targets[head].value[samples.decided[one.rows]]
        answers = value[:, -1] if value.ndim == 2 else value
        there = np.isfinite(answers)
        own = replace(one, rows=one.rows[there])
        return cls(own, head, answers[there], samples.unit[own.rows, -1] ** 2)

    def losses(self, samples: Samples) -> FloatArray:
        """(rows,) of the fit's forecasts from these samples, with the answers that came."""
        forecast = self.of.fit.predict(samples, self.of.rows)[self.head]
        own = forecast[:, -1] if forecast.ndim == 2 else forecast
        return standardised_loss(self.head, self.answers, own, self.unit)


def _out_of_order(one: OutOfSample, name: str, block: int, number: int, seed: int) -> Samples:
    """The samples with one input out of its order in the bars up to the last row."""
    samples = one.samples
    ends = samples.ends[one.rows]
    read = np.zeros(len(samples.time), bool)
    for step in range(samples.context):
        read[ends - step] = True
    place = zlib.crc32(name.encode()) % 2**20 * 1000 + number
    draw = np.random.default_rng(seed_of(seed, samples.asset_class, one.cutoff, place))
    order = np.arange(len(samples.time))
    for symbol in np.unique(samples.symbol[read]):
        own = np.flatnonzero(read & (samples.symbol == symbol))
        parts = [own[begin : begin + block] for begin in range(0, len(own), block)]
        order[own] = np.concatenate([parts[turn] for turn in draw.permutation(len(parts))])
    return with_input(samples, name, lambda column: column[order])


def with_input(samples: Samples, name: str, change: Callable[[FloatArray], FloatArray]) -> Samples:
    """The samples with (bars,) other values of one input: a feature, or one of the past variances.

    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.b1(500, seed=1), ("ret_log_1", "x"))["index"]
    >>> other = with_input(samples, "x", lambda column: 0 * column)
    >>> float(np.nanmax(other.features[:, 1])), np.array_equal(other.features[:, 0], samples.features[:, 0], True)
    (0.0, True)
    """
    facts = samples.facts
    tables: Mapping[str, tuple[tuple[str, ...], FloatArray]] = {
        "features": (samples.names, samples.features), "variance": (VARIANCE_INPUTS, facts.variance),
        "concentration": ((*CONCENTRATION, *IMPLIED), facts.concentration),
    }  # fmt: skip
    for part, (names, table) in tables.items():
        if name in names:
            other = table.copy()
            place = names.index(name)
            other[:, place] = change(other[:, place])
            if part == "features":
                return replace(samples, features=other)
            own = replace(facts, variance=other) if part == "variance" else replace(facts, concentration=other)
            return replace(samples, facts=own)
    raise KeyError(name)
