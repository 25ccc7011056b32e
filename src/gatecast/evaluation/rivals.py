"""The simple rivals of each head, and which of them is in force: the best so far, at each refit.

A claim of skill is made against the rival in force, never against one that was chosen with hindsight or one that is
known to be weak. Everything here uses, at each refit, only answers that were known by then.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.combining.choice import daily_losses
from gatecast.forecasting.panel import PLAIN, RIVAL, RIVALS
from gatecast.samples.targets import CAP as CAP
from gatecast.samples.targets import standardised_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts, Issued

    FloatArray = NDArray[np.float64]

RECORD_DAYS = 250
"""Days of record before the best so far replaces the plain yardstick."""


def losses(forecasts: Forecasts, head: str, model: str) -> FloatArray:
    """(samples,) standardised loss of each answered out-of-sample forecast of one class, at most `CAP`; NaN for none.

    See `samples.targets.standardised_loss`. Where the answer is NaN there is no loss: a price that stands still is
    neither a rise nor a fall.
    """
    samples = forecasts.samples
    values = forecasts.values.get(model, {}).get(head)
    if values is None:
        return np.full(len(samples), np.nan)
    answer = samples.targets[head].value[samples.decided]
    if head == "return":
        answer, values = answer[:, -1], values[:, -1]
    return np.minimum(standardised_loss(head, answer, values, samples.unit[:, -1] ** 2), CAP)


def with_rival(forecasts: Forecasts, issued: Issued | None = None) -> Forecasts:
    """The forecasts with one more model, `rival`: at each refit the head's rival that has lost least so far.

    The record is the mean standardised loss, over the days whose answers are known at the refit, of each day's mean
    over symbols. Until it has `RECORD_DAYS` days the plain yardstick is in force; of equals, the simpler one. The
    names, one a refit, are in `Forecasts.rivals`. Forecasts without a refit stay as they are. `issued`: what a past has
    issued; where it has a name for every refit, these stay.

    >>> from gatecast.forecasting.models.naive import Naive
    >>> from gatecast.forecasting.walkforward import Schedule, walk_forward
    >>> from gatecast.market import synthetic
    >>> from gatecast.samples.windows import make_samples
    >>> samples = make_samples(synthetic.a3(1800, seed=1), ("ret_log_1",))["index"]
    >>> forecasts = walk_forward([Naive(rule="zero"), Naive(rule="mean")], samples, Schedule(refit="1Y"))
    >>> with_rival(forecasts).rivals["return"]
    ('zero', 'zero', 'mean', 'mean', 'mean')
    """
    if not forecasts.folds:
        return forecasts
    known = issued.rivals if issued else {}
    found = {head: _in_force(forecasts, head, known.get(head, ())) for head in RIVALS}
    heads = {head: values for head, (values, names) in found.items() if names}
    named = {head: names for head, (_, names) in found.items() if names}
    return replace(forecasts.with_model(RIVAL, heads), rivals=named)


def each_with_rival(forecasts: Mapping[str, Forecasts]) -> dict[str, Forecasts]:
    """Asset class -> `with_rival` of its forecasts, where they have no rival yet."""
    return {name: one if RIVAL in one.values else with_rival(one) for name, one in forecasts.items()}


def most_in_force(head: str, rivals: Sequence[str]) -> str:
    """The rival that was in force at most of the refits (its name at each); of equals the simpler; "" without any.

    >>> most_in_force("return", ("zero", "mean", "mean"))
    'mean'
    """
    return max((name for name in RIVALS[head] if name in rivals), key=rivals.count, default="")


def _in_force(forecasts: Forecasts, head: str, known: Sequence[str] = ()) -> tuple[FloatArray, tuple[str, ...]]:
    """The forecasts of the rival in force, NaN where nothing was forecast, and its name at each fold; none, no name."""
    able = [name for name in RIVALS[head] if head in forecasts.values.get(name, {})]
    if not able:
        return np.zeros(0), ()
    stays = len(known) >= len(forecasts.folds) and set(known) <= set(able)
    names = tuple(known[: len(forecasts.folds)]) if stays else _names_in_force(forecasts, head, able)
    values = np.full_like(forecasts.values[names[0]][head], np.nan)
    for fold, name in zip(forecasts.folds, names, strict=True):
        values[fold.test] = forecasts.values[name][head][fold.test]
    return values, names


def _names_in_force(forecasts: Forecasts, head: str, able: Sequence[str]) -> tuple[str, ...]:
    """The name of the rival in force at each fold."""
    table = np.column_stack([losses(forecasts, head, name) for name in able])
    plain = PLAIN[head] if PLAIN[head] in able else able[0]
    names = []
    for _, record in daily_losses(forecasts, lambda rows: table[rows]):
        name = plain
        if len(record) >= RECORD_DAYS:
            mean = record.mean(axis=0)
            name = able[int(np.argmax(mean <= mean.min() * (1 + 1e-9)))]
        names.append(name)
    return tuple(names)
