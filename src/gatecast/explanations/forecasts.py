"""Why a forecast is what it is: what each model says and adds to the ensemble, and what each input adds to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.compute.parallel import side_by_side
from gatecast.forecasting.attribution import UNITS, Attributable
from gatecast.forecasting.panel import CORRECTION, ENSEMBLE, PLAIN, STARTS, forecaster_of
from gatecast.forecasting.walkforward import at_rows
from gatecast.notebook import share_text
from gatecast.samples.targets import HEADS, as_probability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.chain import ClassResult
    from gatecast.experiment import Experiment
    from gatecast.explanations.moments import Moment, Refit
    from gatecast.forecasting.attribution import Attribution
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

MOST_INPUTS = 12
"""Inputs of a part that are told, those that add most."""
SAME = 1e-6
"""Distance of a forecast that is made again from that which was issued, as a share of it or of 1, up to which they are
the same: bars that were corrected since would show."""


@dataclass(frozen=True)
class InputPart:
    """What one part of a model adds to one forecast.

    `base`, `output`: see `Attribution`; `gap`: what the inputs' sum leaves of their difference. `features`: feature ->
    what all that is made of it adds. `lags`: what all features add, the newest bar first; empty for a linear part.
    `inputs`: (input, lag, what it adds), the largest first.
    """

    part: str
    base: float
    output: float
    gap: float
    features: Mapping[str, float]
    lags: tuple[float, ...]
    inputs: tuple[tuple[str, int, float], ...]

    @classmethod
    def each(cls, one: Attribution) -> list[InputPart]:
        """The part of each forecast of an attribution."""
        sums, gaps = one.by_feature(), one.gap.tolist()
        told = zip(one.values, one.base.tolist(), one.output.tolist(), gaps, strict=True)
        return [
            cls(
                one.part, base, output, gap, {name: float(own[place]) for name, own in sums.items()},
                tuple(values.sum(axis=1).tolist()) if len(values) > 1 else (), _most(one.inputs, values),
            )
            for place, (values, base, output, gap) in enumerate(told)
        ]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        inputs = [{"input": name, "lag": lag, "adds": adds} for name, lag, adds in self.inputs]
        return {
            "part": self.part, "base": self.base, "output": self.output, "gap": self.gap,
            "features": dict(self.features), "lags": list(self.lags), "inputs": inputs,
        }  # fmt: skip


def _most(names: Sequence[str], values: FloatArray) -> tuple[tuple[str, int, float], ...]:
    """Input, lag and what it adds of the (lags, inputs) that add most, the largest first."""
    order = np.argsort(-np.abs(values), axis=None, kind="stable")[:MOST_INPUTS]
    lags, columns = np.unravel_index(order, values.shape)
    return tuple(
        (names[column], int(lag), float(values[lag, column]))
        for lag, column in zip(lags, columns, strict=True) if values[lag, column] != 0
    )  # fmt: skip


@dataclass(frozen=True)
class ModelSays:
    """What a model says of one head: `value` in the unit of `UNITS`; `adds`: to the ensemble's, in the same unit, None
    of probabilities, which are no sums.

    `parts`: see `InputPart`; () for a model that cannot tell. `same`: whether its parts add up to the forecast that was
    issued: where they do not, bars were corrected since; None without parts.
    """

    model: str
    value: float
    adds: float | None = None
    parts: tuple[InputPart, ...] = ()
    same: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "model": self.model, "value": self.value, "adds": self.adds, "same": self.same,
            "parts": [one.to_dict() for one in self.parts],
        }  # fmt: skip


@dataclass(frozen=True)
class HeadSays:
    """What is forecast of one head: the ensemble's `value` in `unit`, what it starts from, and what the models say.

    Where there is a start it is the first of the models, and what they add is the ensemble's value, to rounding.
    `base_rate_up`: of the direction the share of rises so far, beside which votes are for a rise or a fall; else None.
    `standard_deviation`: of the volatility that of the return over the horizon, from close to close, as everywhere
    else; the root of the variance itself is in the unit of its proxy, of the range of each bar mostly; else None.
    `simple`: of the return the expected simple return, half the variance included, whose side is traded; else None.
    """

    head: str
    unit: str
    value: float
    starts_from: str | None
    models: tuple[ModelSays, ...] = field(repr=False)
    base_rate_up: float | None = None
    standard_deviation: float | None = None
    simple: float | None = None

    @property
    def simple_words(self) -> str:
        """The expected simple return beside the log return; "" of another head."""
        if self.simple is None or self.simple != self.simple:
            return ""
        return (
            f"The expected simple return is {share_text(self.simple, '+.2%')}, above the log return of "
            f'{share_text(self.value, "+.2%")} by half the variance: its side is that of the step "ensemble".'
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "head": self.head, "unit": self.unit, "value": self.value, "starts_from": self.starts_from,
            "base_rate_up": self.base_rate_up, "standard_deviation": self.standard_deviation,
            "simple": self.simple, "simple_words": self.simple_words,
            "models": [one.to_dict() for one in self.models],
        }  # fmt: skip


def forecasts_of(
    moments: Sequence[Moment], refit: Refit, experiment: Experiment, heads: Sequence[str] = HEADS, *, jobs: int = 1
) -> dict[tuple[str, datetime], tuple[HeadSays, ...]]:
    """Symbol and close -> why its forecasts are what they are; of moments of one class, model and fold.

    `jobs`: models that are asked at a time; changes no result.
    """
    result, known = moments[0].result, [one for one in moments if one.row >= 0]
    rows = np.array([one.row for one in known], np.int64)
    if len(rows) == 0:
        return {}
    sums = {
        head: _sum(result, refit, experiment, rows, head)
        for head in heads if head in result.forecasts.values.get(ENSEMBLE, {})
    }  # fmt: skip
    asked = [(head, name) for head, one in sums.items() for name in one.models]

    def tell(key: tuple[str, str], _: object) -> tuple[Attribution, ...]:
        head, name = key
        return attributions_of(refit, name, result, rows, head)

    told = dict(zip(asked, side_by_side(tell, asked, jobs=jobs), strict=True))
    found: dict[tuple[str, datetime], list[HeadSays]] = {(one.symbol, one.time): [] for one in known}
    for head, own in sums.items():
        parts = {name: told[head, name] for name in own.models}
        for one, said in zip(known, _head(result, rows, head, own, parts), strict=True):
            found[one.symbol, one.time].append(said)
    return {key: tuple(each) for key, each in found.items()}


@dataclass(frozen=True)
class _Sum:
    """A head of some rows as a sum: what it starts from, the models that are told, and (rows,) what each adds to it."""

    starts_from: str | None
    models: tuple[str, ...]
    adds: Mapping[str, FloatArray]


def _sum(result: ClassResult, refit: Refit, experiment: Experiment, rows: IntArray, head: str) -> _Sum:
    forecasts = result.forecasts
    order = np.argsort(rows, kind="stable")  # samples and folds are ascending
    starts_from: str | None = None
    adds: dict[str, FloatArray] = {}
    parts_of = {"return": experiment.ensemble.parts_of_return, "volatility": experiment.ensemble.parts_of_variance}
    if head in parts_of:
        starts_from, found = parts_of[head](forecasts, rows[order], refit.fold)
        for name, values in found.items():
            adds[name] = np.empty(len(rows))
            adds[name][order] = values
    names = [name for name in told_models(forecasts, head) if name in adds or name in refit.fits]
    members = () if head == "volatility" else experiment.ensemble.opinions_on(head, forecasts)
    own = [name for name in members if head in forecasts.values[name]]  # of a return there are probabilities, too
    start = starts_from or next((name for name in STARTS.get(head, ()) if head in forecasts.values.get(name, {})), None)
    models = dict.fromkeys([*([start] if start else []), *adds, *names, *own])
    return _Sum(starts_from, tuple(models), adds)


def _head(
    result: ClassResult, rows: IntArray, head: str, own: _Sum, parts: Mapping[str, Sequence[Attribution]]
) -> list[HeadSays]:
    """One head at each of the rows; `parts`: of each model."""
    forecasts = result.forecasts
    whole = _values(forecasts, ENSEMBLE, head, rows)
    issued = {name: _values(forecasts, name, head, rows) for name in own.models}
    told = {name: [InputPart.each(one) for one in parts[name]] for name in own.models}
    plain = _values(forecasts, PLAIN[head], head, rows) if head == "direction" else None
    simple = _values(forecasts, ENSEMBLE, "return_simple", rows) if head == "return" else None
    samples, spread = forecasts.samples, None
    if head == "volatility":
        spread = np.exp(whole / 2) * np.sqrt(samples.facts.ratio[samples.ends[rows]])  # close to close
    return [
        HeadSays(
            head, UNITS[head], float(whole[place]), own.starts_from,
            tuple(
                _model(head, name, values, own.adds.get(name), told[name], place) for name, values in issued.items()
            ),
            None if plain is None else float(plain[place]),
            None if spread is None else float(spread[place]),
            None if simple is None else float(simple[place]),
        )
        for place in range(len(rows))
    ]  # fmt: skip


def _model(
    head: str, name: str, issued: FloatArray, adds: FloatArray | None, parts: Sequence[Sequence[InputPart]], place: int
) -> ModelSays:
    """What a model says at a place of the rows; `parts`: each with what it adds there."""
    own, value, same = tuple(one[place] for one in parts), float(issued[place]), None
    if own:
        whole = sum(one.output for one in own)
        if head in ("direction", "regime"):  # what is issued is clipped
            whole = float(as_probability(np.array(whole)))
        same = math.isclose(whole, value, rel_tol=SAME, abs_tol=SAME)
    return ModelSays(name, value, None if adds is None else float(adds[place]), own, same)


def told_models(forecasts: Forecasts, head: str) -> list[str]:
    """The models whose forecasts of a head make the one in force: those that join its ensemble, and its correction."""
    names = []
    for name in forecasts.panel:
        one = forecaster_of(name, forecasts.panel)
        joins = one is not None and head in one.member_heads()
        if head in forecasts.values.get(name, {}) and (joins or (name == CORRECTION and head == "volatility")):
            names.append(name)
    return names


def attributions_of(
    refit: Refit, model: str, result: ClassResult, rows: IntArray, head: str
) -> tuple[Attribution, ...]:  # fmt: skip
    """The parts of a model's forecasts at some rows; () for a model that cannot tell."""
    fit = refit.fits.get(model)
    return fit.attributions(result.samples, rows, head) if isinstance(fit, Attributable) else ()


def _values(forecasts: Forecasts, model: str, head: str, rows: IntArray) -> FloatArray:
    """(rows,) what was issued, in the unit of `UNITS`; NaN where the model does not forecast the head."""
    heads = forecasts.values.get(model, {})
    if head not in heads:
        return np.full(len(rows), np.nan)
    found = at_rows(heads, head, rows)
    found = found[:, -1] if found.ndim == 2 else found
    with np.errstate(divide="ignore", invalid="ignore"):
        values: FloatArray = np.log(found) if head == "volatility" else found
    return values
