"""The meta-ensemble: a forecaster whose features are past out-of-sample forecasts.

Equal weight with one calibration slope, whose prior is 0 and whose evidence is the whole record; beside it a stacked
logistic with one slope a member, in force only while its own past out-of-sample loss has been lower. The base|meta
boundary is the one purge: at a refit's cutoff, only rows whose answers are known by then are learned from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gatecast.forecasting.mixture import correct_variance, correction_of, mix_variances
from gatecast.forecasting.schedule import known_by
from gatecast.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class Ensemble(Settings):
    """How the members' forecasts become one.

    Attributes
    ----------
    members: the models combined. prior_sd: standard deviation of the slopes' prior around 0.
    stacking: let the stacked logistic compete. minimum_days: days of record before any slope leaves 0.
    volatility_members: forecasts of variance whose weighted geometric mean is in force; the weights are those with the
        smallest past out-of-sample QLIKE, and what `highway` learned corrects it as far as that has paid.
        volatility_base: those that share the weight before there is a record.
    """

    members: Annotated[tuple[str, ...], Field(min_length=1)] = ("lstm", "forest", "logistic")
    volatility_members: Annotated[tuple[str, ...], Field(min_length=1, max_length=6)] = (
        "har", "har_symbol", "har_class", "lstm", "constant",
    )  # fmt: skip
    volatility_base: tuple[str, ...] = ("har", "har_symbol", "har_class")
    prior_sd: Annotated[float, Field(gt=0)] = 0.5
    stacking: bool = True
    minimum_days: Annotated[int, Field(ge=1)] = 60

    def combine(self, forecasts: Forecasts, since: int = 0) -> Forecasts:
        """The same forecasts with the model `ensemble` added; folds before `since` keep the one they already hold.

        Its heads: `return` (samples, horizon) expected cumulative log returns; `return_simple` (samples,) expected
        simple return over the horizon, half the variance included; `direction` and `regime` calibrated probabilities;
        `volatility` the variance in force. It also adds `equal_weight` and `stacked`, the two rivals inside, for the
        probabilities.
        """
        samples = forecasts.samples
        if not forecasts.folds:
            return forecasts
        path = self._returns(forecasts, since)
        volatility = self._volatility(forecasts, since)
        close_to_close = volatility * samples.facts.ratio[samples.ends]
        direction, equal, stacked = self._probability(forecasts, "direction", since)
        regime, equal_regime, stacked_regime = self._probability(forecasts, "regime", since)
        heads = {
            "return": path,
            "return_simple": np.expm1(path[:, -1] + close_to_close / 2),
            "direction": direction,
            "volatility": volatility,
            "regime": regime,
        }
        inside = {
            "equal_weight": {"direction": equal, "regime": equal_regime},
            "stacked": {"direction": stacked, "regime": stacked_regime},
        }
        return replace(forecasts, values={**forecasts.values, **inside, "ensemble": heads})

    def _returns(self, forecasts: Forecasts, since: int) -> FloatArray:
        """Slope · mean of the members' standardised forecasts; a probability counts as its normal quantile."""
        from scipy.special import ndtri

        samples = forecasts.samples
        steps = np.sqrt(np.arange(1, samples.horizon + 1))
        unit = samples.facts.sigma[samples.ends][:, None] * steps
        base = forecasts.values["base_rate"]["direction"]
        opinions = []
        for name in self.members:
            heads = forecasts.values[name]
            if "return" in heads:
                opinions.append(heads["return"] / unit)
            else:
                quantile = ndtri(heads["direction"]) - ndtri(base)
                opinions.append(quantile[:, None] * steps / steps[-1])  # a drift grows with √k of its own s.d.
        mean = np.mean(opinions, axis=0)
        answer = (samples.targets["return"].value / samples.facts.sigma[:, None])[samples.ends, -1] / steps[-1]
        expected = np.full_like(mean, np.nan) if since == 0 else forecasts.values["ensemble"]["return"].copy()
        for rows, record, weight in _records(forecasts, mean[:, -1] + answer, self.minimum_days)[since:]:
            x, y = mean[record, -1], answer[record]
            slope = max(0.0, float(weight @ (x * y)) / float(weight @ (x * x) + self.prior_sd**-2))
            expected[rows] = slope * mean[rows] * unit[rows]
        return expected

    def _volatility(self, forecasts: Forecasts, since: int) -> FloatArray:
        """(samples,) the members' weighted geometric mean, see `mix_variances`."""
        names = [name for name in self.volatility_members if "volatility" in forecasts.values.get(name, {})]
        members = [forecasts.values[name]["volatility"] for name in names]
        base = np.array([float(name in self.volatility_base) for name in names])
        if not base.any():
            base[0] = 1.0
        held = _held(forecasts, "ensemble", "volatility", since)
        if "highway" not in forecasts.values:
            return mix_variances(forecasts, np.column_stack(members), base / base.sum(), held, since)
        mixed = mix_variances(forecasts, np.column_stack(members), base / base.sum(), np.full_like(held, np.nan))
        own = (forecasts.values[name]["volatility"] for name in ("highway", "har_symbol", "har_class"))
        return correct_variance(forecasts, mixed, correction_of(*own), held, since)

    def _probability(self, forecasts: Forecasts, head: str, since: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(in force, equal weight, stacked) probabilities, (samples,) each."""
        samples = forecasts.samples
        base = _odds(forecasts.values["base_rate"][head])
        opinions = np.column_stack([_odds(forecasts.values[name][head]) - base for name in self.members])
        mean = opinions.mean(1, keepdims=True)
        answer = samples.targets[head].value[samples.ends]
        equal, stacked, chosen = (
            _held(forecasts, name, head, since) for name in ("equal_weight", "stacked", "ensemble")
        )
        for rows, record, weight in _records(forecasts, mean[:, 0] + answer, self.minimum_days)[since:]:
            losses = []
            for result, inputs in ((equal, mean), (stacked, opinions)):
                slopes = _slopes_with_offset(inputs[record], answer[record], base[record], weight, self.prior_sd)
                result[rows] = _chance(base[rows] + (inputs[rows] * slopes).sum(1))
                losses.append(float(weight @ _log_loss(answer[record], result[record])))  # as issued at the time
            better = self.stacking and losses[1] < losses[0]
            chosen[rows] = (stacked if better else equal)[rows]
        return chosen, equal, stacked


def _held(forecasts: Forecasts, model: str, head: str, since: int) -> FloatArray:
    """What the folds before `since` hold already; NaN elsewhere."""
    if since == 0:
        return np.full(len(forecasts.samples), np.nan)
    return forecasts.values[model][head].copy()


def _records(
    forecasts: Forecasts, paired: FloatArray, minimum_days: int
) -> list[tuple[IntArray, IntArray, FloatArray]]:
    """For each fold: its test rows, the rows with an answered out-of-sample forecast, and their weights.

    `paired` is finite where there are both a forecast and an answer. A day weighs one over the days that a horizon
    spans, whatever the number of symbols: answers overlap, and symbols move together. Before `minimum_days` the record
    is empty, so that every slope is 0.
    """
    samples = forecasts.samples
    issued = np.flatnonzero(np.isfinite(paired))
    _, day = np.unique(samples.sessions, return_inverse=True)
    records = []
    for fold in forecasts.folds:
        record = issued[known_by(samples.known_at[issued], fold.cutoff)]
        count = np.bincount(day[record], minlength=int(day.max()) + 1)
        if np.count_nonzero(count) < minimum_days:
            record = record[:0]
        weight = 1.0 / (samples.horizon_sessions * count[day[record]])
        records.append((fold.test, record, weight))
    return records


def _slopes_with_offset(
    inputs: FloatArray, answer: FloatArray, offset: FloatArray, weight: FloatArray, prior_sd: float
) -> FloatArray:
    """Most probable slopes (>= 0) of a logistic regression with a fixed offset and a normal prior around 0."""
    slopes = np.zeros(inputs.shape[1])
    if len(answer) == 0:
        return slopes
    penalty = np.eye(len(slopes)) / prior_sd**2
    for _ in range(50):  # Newton among the slopes that are not held at 0 (Bertsekas 1982); the loss is strictly convex
        chance = _chance(offset + inputs @ slopes)
        gradient = inputs.T @ (weight * (chance - answer)) + penalty @ slopes
        curvature = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + penalty
        free = (slopes > 0) | (gradient < 0)
        step = np.zeros(len(slopes))
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        before, slopes = slopes, np.maximum(slopes - step, 0.0)
        if np.abs(slopes - before).max() < 1e-8:  # its square is the error that remains
            break
    return slopes


def _odds(probability: FloatArray) -> FloatArray:
    clipped = np.clip(probability, 1e-3, 1 - 1e-3)
    return np.log(clipped / (1 - clipped))


def _chance(odds: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(odds, -30, 30)))


def _log_loss(outcome: FloatArray, probability: FloatArray) -> FloatArray:
    return -(outcome * np.log(probability) + (1 - outcome) * np.log(1 - probability))
