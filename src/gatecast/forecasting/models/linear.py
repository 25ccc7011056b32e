"""Linear models on summaries of the window: ridge for returns and variance, logistic for direction and regime.

Both are stored as plain arrays and predict through `FittedLinear`, which needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from gatecast.compute.estimate import Seconds
from gatecast.forecasting.attribution import LINEAR, Attribution, slope_between
from gatecast.forecasting.forecaster import ALONE, FORECASTERS, Forecaster, Task, Traits, fit_every
from gatecast.forecasting.scaling import Scaler, far_limits, smearing_factor
from gatecast.forecasting.schedule import EXPANDING, Fold, HalfLife, Window
from gatecast.forecasting.stored import array_of, number_in, scaler_of, text_in
from gatecast.samples.targets import HEADS, columns_of, decode
from gatecast.samples.variance import VARIANCE_INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

INPUTS = ("summaries", "distance", "har", "har_falls")
FALLS = [VARIANCE_INPUTS.index("fall"), VARIANCE_INPUTS.index("fall_5")]
"""Columns of `facts.variance`: the fall of a bar and the mean fall of five, in trailing volatilities."""


@dataclass(frozen=True)
class FittedLinear:
    """A scaler of the inputs and head -> (intercept in the first row, weights below), (1 + inputs, outputs).

    Heads that are probabilities pass through the logistic function. `smear` as in the LSTM. `inputs` names what it
    reads: `summaries` of the window, the `distance` of recent variance to the regime's level, or with it that of the
    mean variance over 1, 5 and 22 bars (`har`), and with these the falls of 1 and 5 bars (`har_falls`). All
    but the summaries have what the hour adds to the variance to come, where a session has several bars. `limits`: the
    values of each feature that count in a window, (2, features), see `scaling.far_limits`; None: all.
    """

    inputs: str
    scaler: Scaler
    weights: dict[str, FloatArray]
    smear: float = 1.0
    limits: FloatArray | None = None

    def predict(self, samples: Samples, rows: IntArray) -> dict[str, FloatArray]:
        """See `FittedForecaster.predict`; only the heads that it was fitted for."""
        ends = samples.ends[rows]
        scaled = self.scaler.transform(design(samples, rows, self.inputs, self.limits))
        forecasts = {}
        for head, weights in self.weights.items():
            encoded = np.tile(weights[0], (len(rows), 1))
            for column, weight in zip(np.nan_to_num(scaled).T, weights[1:], strict=True):
                encoded += column[:, None] * weight  # a matrix product's last bits depend on the number of rows
            if head in ("direction", "regime"):
                encoded = 1 / (1 + np.exp(-np.clip(encoded, -30, 30)))
            elif head == "volatility":
                encoded = encoded + np.log(self.smear)
            forecasts[head] = decode(head, encoded, samples.facts.sigma[ends], samples.facts.baseline[ends])
        return forecasts

    def attributions(self, samples: Samples, rows: IntArray, head: str) -> tuple[Attribution, ...]:
        """See `Attributable`: weight times scaled input; of a probability by its slope on the way from the base."""
        if head not in self.weights or len(rows) == 0:
            return ()
        ends, weights = samples.ends[rows], self.weights[head][:, -1]
        values = np.nan_to_num(self.scaler.transform(design(samples, rows, self.inputs, self.limits))) * weights[1:]
        base, whole = np.full(len(rows), weights[0]), weights[0] + values.sum(axis=1)
        if head == "return":
            unit = samples.facts.sigma[ends] * np.sqrt(samples.horizon)
            values, base, whole = values * unit[:, None], base * unit, whole * unit
        elif head == "volatility":
            level = np.log(self.smear) + np.log(samples.facts.baseline[ends])
            base, whole = base + level, whole + level
        else:
            values = values * slope_between(base, whole)[:, None]
            base, whole = (1 / (1 + np.exp(-np.clip(one, -30, 30))) for one in (base, whole))
        inputs, features = input_names(samples, self.inputs)
        return (Attribution(LINEAR, head, inputs, features, values[:, None], base, whole),)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings for the store."""
        arrays = {f"weights.{head}": weights for head, weights in self.weights.items()}
        arrays |= {"scaler.centre": self.scaler.centre, "scaler.spread": self.scaler.spread}
        arrays |= {} if self.limits is None else {"limits": self.limits}
        return arrays, {"inputs": self.inputs, "smear": self.smear}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], settings: dict[str, Any]) -> FittedLinear:
        """The inverse of `state`."""
        scaler = scaler_of(arrays)
        rows = 1 + len(scaler.centre)
        weights = {
            text_in({"head": name.split(".")[1]}, "head", among=HEADS): array_of(arrays, name, rows, None)
            for name in arrays if name.startswith("weights.")
        }  # fmt: skip
        if any(head != "return" and one.shape[1] != 1 for head, one in weights.items()) or not weights:
            raise ValueError("the number of outputs")
        limits = array_of(arrays, "limits", 2, None, inf=True) if "limits" in arrays else None
        inputs = text_in(settings, "inputs", among=INPUTS)
        return cls(inputs, scaler, weights, number_in(settings, "smear", 0.5, 2.0), limits)


@FORECASTERS.add
class Ridge(Forecaster):
    """Ridge regression of the standardised return path and log variance on the window's summaries.

    The penalty is the one of `penalties` with the smaller validation error; returns have no intercept. Hoerl and
    Kennard (1970), Technometrics 12.
    """

    kind: ClassVar = "ridge"
    traits: ClassVar = Traits(
        "ridge regression", ("return", "volatility"), Seconds(1e-3, 3e-7), member_of=("return",), linear=True
    )
    fitted: ClassVar = FittedLinear

    penalties: tuple[Annotated[float, Field(ge=0, le=1e12)], ...] = (0.01, 0.1, 1.0, 10.0)
    """penalties to choose from on the validation block, head by head; in units of rows"""
    window: Window | None = None
    """what it learns from; left out: the schedule's"""
    half_life: HalfLife | None = None
    """years of age that halve a row's weight; left out: none do"""
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    """refits from one training to the next"""

    def traits_with_settings(self) -> Traits:
        """The time that it takes hangs on how far back it reads."""
        return replace(self.traits, seconds=Seconds(1e-3, 0, 1.2e-7)) if self.window == EXPANDING else self.traits

    def title(self) -> str:
        """With what it learns from, where that is everything."""
        return with_memory(self.traits.title, self.window)

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLinear]:
        """One fit a fold: weights from its training rows, the penalty from its validation rows."""
        return fit_every(self._fit, folds, self.every, task, light=True)

    def _fit(self, fold: Fold) -> FittedLinear:
        fold = fold.windowed(self.window)
        samples, where = fold.data, columns_of(fold.data.horizon)
        scaler, limits, train = scaled_inputs(fold, "summaries")
        validation = scaler.transform(design(samples, fold.validation, "summaries", limits))
        weights, smear, counts = {}, 1.0, fold.recency(self.half_life)
        root = np.sqrt(counts)[:, None]
        rows = train * root
        for head in ("return", "volatility"):
            answers = samples.answers[:, where[head]]
            target, check = answers[fold.train], answers[fold.validation]
            centre = (counts[:, None] * target).mean(0) if head == "volatility" else np.zeros(target.shape[1])
            gram, moment = rows.T @ rows, rows.T @ (root * (target - centre))
            fits = [
                np.linalg.solve(gram + penalty * len(train) * np.eye(len(gram)), moment) for penalty in self.penalties
            ]
            errors = [float(((check - centre - validation @ fit) ** 2).mean()) for fit in fits]
            best = fits[int(np.argmin(errors))]
            weights[head] = np.vstack([centre, best])
            if head == "volatility":
                smear = smearing_factor((check - centre - validation @ best).reshape(-1))
        return FittedLinear("summaries", scaler, weights, smear, limits)


@FORECASTERS.add
class BayesRidge(Forecaster):
    """A linear forecast of returns that trusts itself only as far as all that is known bears it out.

    Regressions of the standardised return path on the window's summaries, without intercept, each with a normal prior
    on its weights under which they explain a share of `shares` of the variance; beside them that nothing can be
    forecast, with the prior probability `nothing`. The forecast is the mean over all of them, each counting by its
    marginal likelihood, in the geometric mean over the steps. On a market without a linear signal that is next to
    nothing; no record of past forecasts is needed to know.

    References
    ----------
    MacKay (1992), Neural Computation 4; Hoeting, Madigan, Raftery and Volinsky (1999), Statistical Science 14.
    """

    kind: ClassVar = "bayes"
    traits: ClassVar = Traits("Bayesian ridge regression", ("return",), Seconds(1e-3, 0, 2e-7), linear=True)
    fitted: ClassVar = FittedLinear

    nothing: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """prior probability that nothing can be forecast"""
    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (
        0.0025, 0.005, 0.01, 0.02, 0.04, 0.08,
    )  # fmt: skip
    """shares of the variance that the weights explain, one for each prior"""

    def fit_many(self, folds: Sequence[Fold], task: Task = ALONE) -> list[FittedLinear]:
        """One fit a fold, from every row whose answer is known at its cutoff."""
        return fit_every(self._fit, folds, 1, task, light=True)

    def _fit(self, fold: Fold) -> FittedLinear:
        samples, rows = fold.data, fold.record
        limits = limits_of(samples, rows, "summaries")
        inputs = design(samples, rows, "summaries", limits)
        scaler = Scaler.fit(inputs)
        scaled, weight = (
            np.nan_to_num(scaler.transform(inputs), copy=False),
            samples.evidence(rows) * samples.horizon_sessions,
        )
        answers = samples.answers[rows, : samples.horizon]
        variance = np.maximum(weight @ answers**2 / weight.sum(), 1e-12)  # (horizon,)
        steps = np.arange(1, samples.horizon + 1) / samples.horizon
        noise = variance * np.maximum(1.0, samples.horizon_sessions * steps)  # answers overlap the more, the later
        weighted = scaled * weight[:, None]
        size, axes = np.linalg.eigh(weighted.T @ scaled)
        along = axes.T @ (weighted.T @ answers) / noise  # (inputs, horizon)
        total = max(float(size.sum() / weight.sum()), 1e-12)  # the variance of all inputs together
        odds, fits = [np.log(self.nothing)], [np.zeros_like(along)]
        for share in self.shares:
            prior = share * variance / total  # variance of a weight
            precision = size[:, None] / noise + 1 / prior
            fits.append(axes @ (along / precision))
            gain = 0.5 * (along**2 / precision - np.log(precision * prior)).sum(axis=0)  # (horizon,)
            odds.append(np.log((1 - self.nothing) / len(self.shares)) + float(gain.mean()))
        belief = np.exp(np.array(odds) - max(odds))
        weights = np.tensordot(belief / belief.sum(), np.array(fits), axes=1)
        weights = np.vstack([np.zeros(samples.horizon), weights])
        return FittedLinear("summaries", scaler, {"return": weights}, limits=limits)


def with_memory(title: str, window: str | int | None) -> str:
    """A title, and what the model learns from where that is everything known.

    >>> with_memory("ridge regression", "expanding")
    'ridge regression on all past bars'
    """
    return f"{title} on all past bars" if window == EXPANDING else title


def design(samples: Samples, rows: IntArray, inputs: str, limits: FloatArray | None = None) -> FloatArray:
    """(rows, inputs) what a linear model reads; `limits`: see `FittedLinear`."""
    if inputs == "summaries":
        return samples.summaries[rows] if limits is None else samples.summaries_within(rows, limits)
    ends, facts = samples.ends[rows], samples.facts
    variances = facts.recent[ends, None]
    if inputs in ("har", "har_falls"):
        variances = np.column_stack([facts.har[ends], variances])
    distances = np.nan_to_num(variances - facts.level[ends, None])
    if samples.session_bars > 1:
        distances = np.column_stack([distances, facts.season[ends]])
    return np.column_stack([distances, facts.variance[ends][:, FALLS]]) if inputs == "har_falls" else distances


def input_names(samples: Samples, inputs: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns of `design`, and the feature that each is made of."""
    if inputs == "summaries":
        span = samples.lookback
        brief = ("newest", "mean of 5 bars", "mean of 10 bars", f"mean of {span} bars", f"slope of {span} bars")
        return tuple(f"{name} ({what})" for what in brief for name in samples.names), samples.names * len(brief)
    names = (*(VARIANCE_INPUTS[:3] if inputs in ("har", "har_falls") else ()), "recent variance")
    names += ("hour",) if samples.session_bars > 1 else ()
    names += tuple(VARIANCE_INPUTS[place] for place in FALLS) if inputs == "har_falls" else ()
    return names, names


def limits_of(samples: Samples, rows: IntArray, inputs: str) -> FloatArray | None:
    """The limits of the features at the ends of some samples' windows, where a model reads summaries."""
    return far_limits(samples.features[samples.ends[rows]]) if inputs == "summaries" else None


def scaled_inputs(fold: Fold, inputs: str) -> tuple[Scaler, FloatArray | None, FloatArray]:
    """The scaler and the limits of the training rows, and the training inputs scaled by them."""
    limits = limits_of(fold.data, fold.train, inputs)
    train = design(fold.data, fold.train, inputs, limits)
    scaler = Scaler.fit(train)
    return scaler, limits, scaler.transform(train)
