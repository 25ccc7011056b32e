"""What changed since the refit before: the inputs' shares of two fits on the same rows, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.explanations.forecasts import attributions_of, told_models
from gatecast.forecasting.attribution import overlap, turned
from gatecast.forecasting.importance import OutOfSample, permutation_importance
from gatecast.samples.targets import HEADS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.explanations.moments import Moment, Refit
    from gatecast.forecasting.attribution import Attribution

    IntArray = NDArray[np.int64]

COMPARED = 60
"""Forecasts of a class on which two fits are compared, evenly over the newest `AMONG`."""
AMONG = 1_000
MOVED = 5
"""Inputs that are told, those whose share changed most."""


@dataclass(frozen=True)
class Moved:
    """An input and lag, and its share of all that the inputs add, in the fit before and now.

    `turned`: whether it now adds where it took away, mostly.
    """

    input: str
    lag: int
    before: float
    now: float
    turned: bool = False

    @property
    def size(self) -> float:
        """How far the share moved: across 0 where it turned."""
        return self.now + self.before if self.turned else abs(self.now - self.before)


@dataclass(frozen=True)
class Change:
    """How what the inputs add to one part of a model differs from an earlier refit's, on the same forecasts.

    `stability`: 1 where it is the same, 0 where no input adds in the same direction, see `attribution.overlap`.
    `between_seeds`:
    the same of two networks of one fit that differ by their seed alone, None of a linear part: a stability near it says
    that the refit changed no more than another seed would have. `refit`, `before`: cutoffs; `model_now`,
    `model_before`: numbers of the records in a store. `refitted`: False where this part was not fitted at the refit, as
    of a model that is fitted once a year: its inputs add the same, to the bit.
    """

    asset_class: str
    model: str
    head: str
    part: str
    refit: str
    before: str
    stability: float
    between_seeds: float | None
    moved: tuple[Moved, ...]
    rows: int
    model_now: int | None = None
    model_before: int | None = None
    refitted: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def changes_of(moment: Moment, refits: Sequence[Refit], heads: Sequence[str] = HEADS) -> list[Change]:
    """Each refit beside the one before it, the newest first, and of three or more the newest beside the oldest.

    Of every part of every model that can tell.
    """
    rows, found = compared_rows(moment), list[Change]()
    if len(rows) == 0 or len(refits) < 2:
        return found
    last = len(refits) - 1
    pairs = [*((place, place + 1) for place in range(last)), *([(0, last)] if last > 1 else [])]
    for head in heads:
        for model in told_models(moment.result.forecasts, head):
            each = [attributions_of(one, model, moment.result, rows, head) for one in refits]
            for now, before in pairs:
                for new, old in zip(each[now], each[before], strict=False):
                    if new.values.any() and old.values.any():
                        found.append(
                            Change(
                                moment.asset_class, model, head, new.part, str(refits[now].cutoff),
                                str(refits[before].cutoff), overlap(new, old), new.between_seeds(),
                                tuple(_moved(new, old)[:MOVED]), len(rows), refits[now].model, refits[before].model,
                                not _same(new, old),
                            )
                        )  # fmt: skip
    return found


def _moved(new: Attribution, old: Attribution) -> list[Moved]:
    """Every input and lag of either fit, those that moved most first."""
    now, before, turns = new.profile(), old.profile(), turned(new, old)
    moved = [Moved(*key, before.get(key, 0.0), now.get(key, 0.0), key in turns) for key in sorted({*now, *before})]
    return sorted(moved, key=lambda one: -one.size)


def _same(one: Attribution, other: Attribution) -> bool:
    """Whether the inputs of two parts add the same to the same forecasts, to the bit, so that they are one fit."""
    return one.inputs == other.inputs and np.array_equal(one.values, other.values)


def compared_rows(moment: Moment) -> IntArray:
    """Rows of the class that were forecast up to a moment: `COMPARED` of the newest `AMONG`, evenly."""
    forecasts = moment.result.forecasts
    rows = forecasts.rows
    times = forecasts.samples.times[rows]
    until = np.datetime64(moment.time.replace(tzinfo=None), "us")
    order = np.argsort(times, kind="stable")
    newest = rows[order][times[order] <= until][-AMONG:]
    if len(newest) == 0:
        return newest
    places = np.unique(np.linspace(0, len(newest) - 1, min(COMPARED, len(newest))).round().astype(np.int64))
    return np.sort(newest[places])


def importances_of(moment: Moment, refits: Sequence[Refit], heads: Sequence[str] = HEADS) -> list[dict[str, Any]]:
    """Permutation importance of the inputs of every model that makes the forecasts in force, out of sample.

    Each refit forecasts the block after it, up to the moment. A dictionary a model, head and input.
    """
    result, found = moment.result, list[dict[str, Any]]()
    until = np.datetime64(moment.time.replace(tzinfo=None), "us")
    for head in heads:
        for model in told_models(result.forecasts, head):
            blocks = []
            for one in refits:
                rows = result.forecasts.folds[one.fold].test
                rows = rows[result.samples.times[rows] <= until]
                if model in one.fits and len(rows):
                    blocks.append(OutOfSample(one.fits[model], result.samples, rows, one.cutoff))
            found += [
                {"asset_class": moment.asset_class, "model": model, "head": head, **each.to_dict()}
                for each in permutation_importance(blocks, head)
            ]  # fmt: skip
    return found
