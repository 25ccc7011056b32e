"""Settings that were tried anywhere, and their losses -> whether those that were chosen stand alone.

A grid of two settings, with errors of its values, is told by `evaluation.cliffs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gatecast.evaluation.findings import Finding

FloatArray = NDArray[np.float64]

CLIFF_TRIALS, CLIFF_STEPS = 12, 5.0
"""Settings tried below which no cliff is seen; and the step to the nearest ones, in usual steps between neighbours. Of
losses without any pattern the best stands so high in 0 to 1 of 400 simulated searches, of 12 to 60 settings."""


def cliff_among(
    points: Sequence[Mapping[str, Any]], losses: ArrayLike, chosen: Mapping[str, Any], subject: str
) -> list[Finding]:
    """Whether the settings that were chosen stand alone: those nearest to them are much worse.

    Parameters
    ----------
    points: settings that were tried, each parameter -> value. losses: (tried,) of each, smaller is better.
    chosen: one of the points. subject: whose settings they are.

    Two settings are as far apart as their parameters, by rank among the values tried (other than numbers: 0 where
    equal, else 1). The step of the chosen ones is the mean loss of their nearest ones, two a parameter, less their own;
    the usual step is the median over the others of the mean distance in loss to their nearest ones.
    """
    loss = np.asarray(losses, np.float64)
    at = next((place for place, one in enumerate(points) if one == chosen), None)
    if at is None or len(points) < CLIFF_TRIALS or not np.isfinite(loss).all():
        return []
    far = _distances(points)
    near = max(2, min(2 * len(chosen), len(points) // 3))
    apart = [loss[_nearest(far, place, near)] - loss[place] for place in range(len(points))]
    step = float(apart[at].mean())
    usual = float(np.median([np.abs(one).mean() for place, one in enumerate(apart) if place != at]))
    gain = float(np.median(loss) - loss[at])
    if not (step > CLIFF_STEPS * usual and gain > 0 and step > 0):
        return []
    lost = min(step / gain, 1.0)
    times = f"{step / usual:.0f} times the usual step" if usual > 0 else "where the others do not differ"
    return [
        Finding(
            "cliff", subject, lost, "gain of the settings", len(points), "settings",
            f"The settings chosen for {subject} stand on a cliff: the nearest ones lose {step:.3g} more, {times}, and "
            f"{lost:.0%} of what the choice gained over the median setting is gone.",
        )
    ]  # fmt: skip


def _distances(points: Sequence[Mapping[str, Any]]) -> FloatArray:
    """(points, points) sums over parameters of how far two settings are apart, each from 0 to 1."""
    names = sorted({name for one in points for name in one})
    far = np.zeros((len(points), len(points)))
    for name in names:
        values = [one.get(name) for one in points]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            _, rank = np.unique(np.array(values, np.float64), return_inverse=True)
            far += np.abs(rank[:, None] - rank[None, :]) / max(int(rank.max()), 1)
        else:
            far += np.array([[float(left != right) for right in values] for left in values])
    return far


def _nearest(far: FloatArray, place: int, count: int) -> NDArray[np.intp]:
    """The places of the nearest points, itself left out."""
    order = np.argsort(far[place], kind="stable")
    return np.asarray(order[order != place][:count], np.intp)
