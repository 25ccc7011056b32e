"""The charts' own filter of returns: AR(1), GARCH(1,1) and t innovations -> normal scores, one session at a time.

It is no model of the run. A change of the variance shows in its scores until it has adapted; it is fitted before.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from gatecast.forecasting.models.garch import fit_garch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

INVERSE_DEGREES = np.linspace(0.005, 0.45, 24)  # of freedom of the t distribution that residuals are given
SMALLEST = 1e-30  # variance that a residual is measured with
ROUNDS = 25  # of the climb to a scale's likelihood


@dataclass(frozen=True)
class ResidualModel:
    """A session's return is mean + slope · the one before + e, and e over the root of its variance is t distributed.

    The variance is omega + alpha e² + beta · variance, of the session before; the first has `start`. The t distribution
    has `degrees` of freedom and is multiplied with `scale`.
    """

    slope: float
    mean: float
    omega: float
    alpha: float
    beta: float
    start: float
    degrees: float
    scale: float

    def step(self, value: float, before: float, variance: float) -> tuple[float, float]:
        """A return, the one before it and its variance -> its residual, and the variance of the next return.

        >>> ResidualModel(0.5, 0.0, 0.1, 0.1, 0.8, 1.0, 5.0, 1.0).step(2.5, 1.0, 4.0)
        (1.0, 3.7)
        """
        error = value - self.mean - self.slope * before
        following = self.omega + self.alpha * error * error + self.beta * variance
        return error / math.sqrt(max(variance, SMALLEST)), following

    def filtered(self, returns: FloatArray) -> tuple[FloatArray, float, float]:
        """(n,) returns -> their residuals, the variance of the next return, and the last return. NaN are left out."""
        values = returns[np.isfinite(returns)]
        before = np.concatenate([[0.0], values])
        error = values - self.mean - self.slope * before[:-1]  # the sums of `step`, in its order
        shock, beta = self.omega + self.alpha * error * error, self.beta
        variance = [*accumulate(shock.tolist(), lambda last, more: more + beta * last, initial=self.start)]
        residuals = error / np.sqrt(np.maximum(variance[:-1], SMALLEST))
        return residuals, variance[-1], float(before[-1])

    def scores(self, residuals: FloatArray) -> FloatArray:
        """(n,) residuals -> the standard normal numbers that are as far out, without their signs.

        >>> ResidualModel(0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 5.0, 1.0).scores(np.array([0.0, -4.0])).round(2).tolist()
        [0.0, 2.56]
        """
        return scores_of(residuals, self.degrees, self.scale)

    def to_list(self) -> list[float]:
        """The numbers, in the order of the fields."""
        return list(astuple(self))


def scores_of(residuals: FloatArray, degrees: FloatArray | float, scale: FloatArray | float) -> FloatArray:
    """(n,) residuals, each of t with its degrees of freedom and scale -> the normal numbers as far out, no signs."""
    from scipy.special import ndtri, stdtr

    tail = np.maximum(stdtr(degrees, -np.abs(residuals) / scale), 1e-300)
    return np.abs(np.asarray(ndtri(tail), np.float64))


def fit_residuals(returns: FloatArray) -> ResidualModel | None:
    """(n,) returns of sessions in time order -> the filter; None where they do not vary. NaN are left out.

    The slope is least squares', the variance is `arch`'s maximum likelihood (constant where that finds no top), and the
    t distribution is fitted to the residuals.

    >>> model = fit_residuals(0.01 * np.random.default_rng(0).standard_normal(1000))
    >>> model.degrees > 10, 0.9 < model.scale < 1.1
    (True, True)
    """
    values = returns[np.isfinite(returns)]
    if len(values) < 3 or np.ptp(values) == 0:
        return None
    before, after = values[:-1], values[1:]
    centred = before - before.mean()
    spread = float(centred @ centred)
    if not np.isfinite(spread) or spread <= 0:
        return None
    slope = float(np.clip(centred @ (after - after.mean()) / spread, -0.95, 0.95))
    error = after - slope * before
    found = fit_garch(error)
    if found is not None:
        numbers = (found.mean, found.omega, found.alpha, found.beta, found.start)
    else:
        variance = float(error.var())
        if float(np.median(np.abs(error - np.median(error)))) < 1e-6 * math.sqrt(variance) or variance < 1e-18:
            return None  # all the variance is in a few jumps
        numbers = (float(error.mean()), variance, 0.0, 0.0, variance)
    model = ResidualModel(slope, *numbers, degrees=5.0, scale=1.0)
    residuals, _, _ = model.filtered(values)
    degrees, scale = _fit_t(residuals[1:])
    return ResidualModel(slope, *numbers, degrees=degrees, scale=scale)


def _fit_t(residuals: FloatArray) -> tuple[float, float]:
    """Degrees of freedom and scale of a t distribution around 0: the likeliest of a grid of degrees."""
    from scipy.special import gammaln

    degrees = 1 / INVERSE_DEGREES
    square = residuals[:, None] ** 2
    scale = np.full(len(degrees), square.mean())
    weight = np.empty((len(square), len(degrees)))
    for _ in range(ROUNDS):
        np.add(degrees, np.divide(square, scale, out=weight), out=weight)
        np.multiply(np.divide(degrees + 1, weight, out=weight), square, out=weight)
        scale = weight.mean(0)
    constant = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * np.log(degrees * np.pi * scale)
    fit = constant - ((degrees + 1) / 2 * np.log1p(square / scale / degrees)).mean(0)
    best = int(fit.argmax())
    return float(degrees[best]), float(np.sqrt(scale[best]))
