"""The meta-ensemble: a forecaster whose features are past out-of-sample forecasts.

Each head starts from its strongest simple rival and adds to it what the members' forecasts have been worth: equal
weight with one slope, and beside it one slope a member (stacked). The slopes' prior is 0 and their evidence the whole
record. Which is in force, equal weight, stacked or the rival alone, the record decides too, see `choice.choose`. The
base|meta boundary is the one purge: at a refit's cutoff, only rows whose answers are known by then are learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gatecast.compute.threads import one_thread
from gatecast.errors import SettingsError
from gatecast.forecasting.combining.choice import Learning, are_slopes, choose, is_density, is_share
from gatecast.forecasting.combining.variance import (
    LARGEST_MIXTURE,
    MIXTURE,
    SHARE,
    correct_variance,
    correction_of,
    mix_variances,
    parts_of_mixture,
)
from gatecast.forecasting.panel import CORRECTED, CORRECTION, STARTS, forecaster_of, in_order, is_linear
from gatecast.forecasting.schedule import known_by
from gatecast.forecasting.walkforward import at_rows
from gatecast.samples.targets import return_scale
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from numpy.typing import NDArray

    from gatecast.forecasting.schedule import Fold
    from gatecast.forecasting.walkforward import Forecasts, Issued

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

EQUAL, STACKED = "equal_weight", "stacked"
DENSITY_DAYS = 60  # of record, before the spread of the forecasts' errors means anything
LARGEST_LOG_RETURN = 20.0  # a variance that has lost its scale is no expected return beyond it
DENSITY = "density"  # the probability of turbulence that follows from the forecast of variance


class Ensemble(Settings):
    """How the members' forecasts become one."""

    members: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, examples=[["lstm", "forest", "logistic", "ridge"]]
    )
    """models that are combined, those of them that run and forecast the head; a probability of a rise stands for a
    return; a head that none of them forecasts is its rival's; left out: those that are made for it"""
    volatility_members: Annotated[tuple[str, ...], Field(min_length=1, max_length=LARGEST_MIXTURE)] | None = Field(
        default=None, examples=[["har_symbol", "har_class", "har_smooth", "lstm"]]
    )
    """forecasts of variance whose weighted geometric mean is in force; each mixture counts by its past out-of-sample
    QLIKE, and what residual_lstm learned corrects it as far as that has paid; left out: those that are made for it"""
    volatility_base: tuple[str, ...] | None = Field(default=None, examples=[["har_symbol", "har_class", "har_smooth"]])
    """those that share the weight before there is a record; left out: the linear ones"""
    prior_sd: Annotated[float, Field(gt=0, le=1e6)] = 0.5
    """standard deviation of the prior around 0, of a slope on a mean or of the sum of stacked ones"""
    minimum_days: Annotated[int, Field(ge=1, le=MOST_BARS)] = 60
    """days of record before a slope leaves 0"""

    def combine(
        self,
        forecasts: Forecasts,
        since: int = 0,
        volatility: FloatArray | None = None,
        heads: Container[str] = ("return", "direction", "regime"),
        issued: Issued | None = None,
    ) -> Forecasts:
        """The same forecasts with the model `ensemble` added; folds before `since` keep the one they already hold.

        In: `volatility` (samples,) is the variance in force, where it is known already; `heads` are those to be made
        beside it; `issued` is what a past has issued: where it says of every refit which candidate was in force, that
        stays, and so does what was learned at its last refit.

        Its heads: `return` (samples, horizon) expected cumulative log returns; `return_simple` (samples,) expected
        simple return over the horizon, half the variance included; `direction` and `regime` calibrated probabilities;
        `volatility` the variance in force. It also adds those it is chosen from, `equal_weight` and `stacked`, and
        `density`, the probability of turbulence that the forecast of variance implies; `in_force` says which it was.
        """
        samples = forecasts.samples
        if not forecasts.folds:
            return forecasts
        learning = Learning(since, issued.learned if issued and since == len(issued.cutoffs) - 1 else {})
        with one_thread():
            if volatility is None:
                volatility = self._volatility(forecasts, learning)
            known, found, names = forecasts, {}, issued.in_force if issued else {}
            if "return" in heads:
                found["return"] = self._returns(known, learning, names.get("return", ()))
            if "direction" in heads:
                found["direction"] = self._probability(known, "direction", learning, names.get("direction", ()))
            if "regime" in heads:
                density = turbulence(
                    forecasts, volatility, _already_issued(forecasts, DENSITY, "regime", since), learning
                )
                known = forecasts.with_model(DENSITY, {"regime": density})
                found["regime"] = self._probability(known, "regime", learning, names.get("regime", ()))
        beside = {"volatility": volatility}
        if "return" in found:
            variance = volatility * samples.facts.ratio[samples.ends]  # close to close
            expected = found["return"].values["ensemble"][:, -1] + variance / 2
            beside = {"return_simple": np.expm1(np.minimum(expected, LARGEST_LOG_RETURN)), **beside}
        for name in (EQUAL, STACKED, "ensemble"):
            own = {head: one.values[name] for head, one in found.items()}
            known = known.with_model(name, own | beside if name == "ensemble" else own)
        return replace(known, in_force={head: one.in_force for head, one in found.items()}, learned=learning.found)

    def opinions_on(self, head: str, forecasts: Forecasts) -> tuple[str, ...]:
        """The models whose forecasts make a head."""
        able = {"return": ("return", "direction")}.get(head, (head,))
        return tuple(
            name for name in (*(self.spelled(forecasts).members or ()), *((DENSITY,) if head == "regime" else ()))
            if not set(able).isdisjoint(forecasts.values.get(name, {}))
        )  # fmt: skip

    def spelled(self, forecasts: Forecasts) -> Ensemble:
        """The same with every member named: where the settings leave them out, the models that join."""
        names = [*(name for name in forecasts.panel if name in forecasts.values), *forecasts.values]  # as settings say
        known = {name: forecaster_of(name, forecasts.panel) for name in names}
        models = {name: one for name in in_order(known) if (one := known[name])}
        members = self.members or tuple(
            name for name, one in models.items() if {"return", "direction", "regime"}.intersection(one.member_heads())
        )
        variances = self.volatility_members or tuple(
            name for name, one in models.items() if "volatility" in one.member_heads()
        )
        linear = tuple(name for name in variances if name in models and models[name].traits_with_settings().linear)
        base = linear if self.volatility_base is None else self.volatility_base
        if len(variances) > LARGEST_MIXTURE:
            raise SettingsError(
                f"{len(variances)} models join the ensemble of volatility ({', '.join(variances)}): name at most "
                f"{LARGEST_MIXTURE} of them, ensemble.volatility_members = [...]."
            )
        return type(self).model_construct(
            members=members, volatility_members=variances, volatility_base=base, prior_sd=self.prior_sd,
            minimum_days=self.minimum_days,
        )  # fmt: skip

    def _returns(self, forecasts: Forecasts, learning: Learning, known: Sequence[str]) -> InForce:
        """Slopes of what the members' standardised forecasts add to the rival's; a probability counts as its quantile.

        Equal weight has two: of the mean of all members, and of the linear ones, which need the least to be learned.
        """
        samples, since = forecasts.samples, learning.since
        rival = next(name for name in STARTS["return"] if "return" in forecasts.values.get(name, {}))
        names = self.opinions_on("return", forecasts)
        if not names:
            return _rivals_own(forecasts, "return", rival, since, samples.horizon)

        def inputs_of(rows: IntArray | slice) -> _Inputs:
            return _return_inputs(forecasts, rival, names, rows)

        whole = cache(lambda: inputs_of(slice(None)))
        answer = cache(lambda: samples.answers[:, samples.horizon - 1])
        record_at = _records(forecasts, lambda: whole().of[STACKED][:, -1].sum(1) + answer(), self.minimum_days)
        spreads = {EQUAL: self.prior_sd, STACKED: self.prior_sd / np.sqrt(len(names))}

        def learn(name: str, fold: Fold) -> FloatArray:
            record, weight = record_at(fold)
            start, inputs = whole().start[record, -1], whole().of[name][record, -1]
            return _slopes(inputs, answer()[record] - start, weight, spreads[name])

        made = {name: _already_issued(forecasts, name, "return", since, samples.horizon) for name in (EQUAL, STACKED)}
        for number, fold in list(enumerate(forecasts.folds))[since:]:
            now = inputs_of(fold.test)
            for name, table in made.items():
                slopes = learning.at(
                    _part("return", name, names),
                    number,
                    now.of[name].shape[-1:],
                    partial(learn, name, fold),
                    are_slopes,
                )
                table[fold.test] = (now.start + (now.of[name] * slopes).sum(-1)) * now.unit

        def loss_of(one: FloatArray) -> FloatArray:
            loss: FloatArray = (one[:, -1] / whole().unit[:, -1] - answer()) ** 2
            return loss

        values = {**made, rival: forecasts.values[rival]["return"]}
        return _in_force(forecasts, "return", values, loss_of, since, known)

    def parts_of_return(self, forecasts: Forecasts, rows: IntArray, fold: int) -> tuple[str, dict[str, FloatArray]]:
        """Of the expected return over the horizon at some rows of a fold: whose forecast it starts from, and what each
        adds, that one among them: name -> (rows,) log returns, which add up to the ensemble's.

        What was learned at the newest refit is taken as it is, at an earlier one it is learned again from the answers
        that were known there.
        """
        rival = next(name for name in STARTS["return"] if "return" in forecasts.values.get(name, {}))
        names, chosen = self.opinions_on("return", forecasts), forecasts.in_force["return"][fold]
        if not names or chosen == rival:
            return rival, {rival: at_rows(forecasts.values[rival], "return", rows)[:, -1]}
        inputs, part = _return_inputs(forecasts, rival, names, rows), _part("return", chosen, names)
        (slopes,), unit = self._learned_at(forecasts, fold, "return", part), inputs.unit[:, -1]
        every = inputs.of[STACKED][:, -1]
        if chosen == STACKED:
            weights = slopes
        else:  # slopes of the mean of all members, and of that of the linear ones
            linear = np.array([is_linear(name, forecasts.panel) for name in names], np.float64)
            weights = np.full(len(names), slopes[0] / len(names))
            weights = weights + (slopes[1] * linear / linear.sum() if len(slopes) > 1 else 0.0)
        found = {name: every[:, place] * weights[place] * unit for place, name in enumerate(names)}
        start = inputs.start[:, -1] * unit
        return rival, {**found, rival: start + found[rival] if rival in found else start}

    def parts_of_variance(self, forecasts: Forecasts, rows: IntArray, fold: int) -> tuple[str, dict[str, FloatArray]]:
        """As `parts_of_return`, of the log of the variance in force: what the members of the mixture add to the one
        that it starts from, see `parts_of_mixture`, and the share of the correction that is taken.
        """
        names, base = self._mixture(forecasts)
        mixture, corrected = MIXTURE + ",".join(names), CORRECTION in forecasts.values
        weights, *share = self._learned_at(forecasts, fold, "volatility", mixture, *((SHARE,) if corrected else ()))

        def own(name: str) -> FloatArray:
            return at_rows(forecasts.values[name], "volatility", rows)

        start, found = parts_of_mixture({name: own(name) for name in names}, weights, base)
        if corrected:
            adds = share[0][0] * correction_of(own(CORRECTION), *map(own, CORRECTED))
            found[CORRECTION] = found.get(CORRECTION, 0.0) + adds
        return start, found

    def _learned_at(self, forecasts: Forecasts, fold: int, head: str, *parts: str) -> list[FloatArray]:
        """The numbers of some parts that were in force at a fold, which are learned again where it is not the last."""
        learned = forecasts.learned if fold == len(forecasts.folds) - 1 else {}
        if not set(parts) <= learned.keys():
            until = replace(forecasts, folds=forecasts.folds[: fold + 1], learned={})
            variance = None
            if head != "volatility":
                variance = at_rows(forecasts.values["ensemble"], "volatility", np.arange(len(forecasts.samples)))
            learned = self.combine(until, fold, variance, heads=(head,)).learned
        return [learned[part] for part in parts]

    def _mixture(self, forecasts: Forecasts) -> tuple[list[str], FloatArray]:
        """The members of the variance in force, and their weights before there is a record."""
        spelled = self.spelled(forecasts)
        given, first = spelled.volatility_members or (), spelled.volatility_base or ()
        names = [name for name in given if "volatility" in forecasts.values.get(name, {})]
        if not names:
            able = [name for name, heads in forecasts.values.items() if "volatility" in heads]
            raise SettingsError(
                f"ensemble.volatility_members = {', '.join(given)}: expected at least one that forecasts volatility "
                f"here. Those that do: {', '.join(able) or 'none'}."
            )
        base = np.array([float(name in first) for name in names])
        if not base.any():
            base[0] = 1.0
        return names, base / base.sum()

    def _volatility(self, forecasts: Forecasts, learning: Learning) -> FloatArray:
        """(samples,) the members' weighted geometric mean, see `mix_variances`."""
        names, base = self._mixture(forecasts)
        members, since = {name: forecasts.values[name]["volatility"] for name in names}, learning.since
        held = _already_issued(forecasts, "ensemble", "volatility", since)
        if CORRECTION not in forecasts.values:
            return mix_variances(forecasts, members, base, held, learning, since)
        taken_over = (
            learning.has(SHARE, (1,), is_share) and since == len(forecasts.folds) - 1
        )  # else all mixtures are its record
        mixed = mix_variances(
            forecasts, members, base, np.full_like(held, np.nan), learning, since if taken_over else 0
        )
        own = (forecasts.values[name]["volatility"] for name in (CORRECTION, *CORRECTED))
        return correct_variance(forecasts, mixed, correction_of(*own), held, learning)

    def _probability(self, forecasts: Forecasts, head: str, learning: Learning, known: Sequence[str]) -> InForce:
        """Slopes of what the members' log-odds add to the rival's."""
        samples, since = forecasts.samples, learning.since
        rival = next(name for name in STARTS[head] if head in forecasts.values.get(name, {}))
        names = self.opinions_on(head, forecasts)
        if not names:
            return _rivals_own(forecasts, head, rival, since)

        def inputs_of(rows: IntArray | slice) -> _Inputs:
            base = _odds(at_rows(forecasts.values[rival], head, rows))
            opinions = np.column_stack([_odds(at_rows(forecasts.values[name], head, rows)) - base for name in names])
            return _Inputs(base, {EQUAL: opinions.mean(1, keepdims=True), STACKED: opinions})

        whole = cache(lambda: inputs_of(slice(None)))
        answer = samples.targets[head].value[samples.decided]
        record_at = _records(forecasts, lambda: whole().of[STACKED].sum(1) + answer, self.minimum_days)

        def learn(name: str, fold: Fold) -> FloatArray:
            record, weight = record_at(fold)
            inputs = whole().of[name][record]
            spread = self.prior_sd / np.sqrt(inputs.shape[1])
            return _slopes_with_offset(inputs, answer[record], whole().start[record], weight, spread)

        made = {name: _already_issued(forecasts, name, head, since) for name in (EQUAL, STACKED)}
        for number, fold in list(enumerate(forecasts.folds))[since:]:
            now = inputs_of(fold.test)
            for name, table in made.items():
                slopes = learning.at(
                    _part(head, name, names), number, now.of[name].shape[-1:], partial(learn, name, fold), are_slopes
                )
                table[fold.test] = _chance(now.start + (now.of[name] * slopes).sum(1))
        values = {**made, rival: forecasts.values[rival][head]}
        return _in_force(forecasts, head, values, lambda one: (one - answer) ** 2, since, known)


@dataclass(frozen=True)
class _Inputs:
    """Of some rows: what the ensemble starts from, candidate -> what it weighs, and the unit of a return."""

    start: FloatArray
    of: dict[str, FloatArray]
    unit: FloatArray = field(default_factory=lambda: np.ones(0))


def _return_inputs(forecasts: Forecasts, rival: str, names: Sequence[str], rows: IntArray | slice) -> _Inputs:
    """What the ensemble of returns is made from: the rival's path, and what each member's says beyond it."""
    from scipy.special import ndtri

    samples = forecasts.samples
    steps = np.sqrt(np.arange(1, samples.horizon + 1))
    linear = [i for i, name in enumerate(names) if is_linear(name, forecasts.panel)]
    unit = return_scale(samples.facts.sigma[samples.ends[rows]], samples.horizon)
    start = at_rows(forecasts.values[rival], "return", rows) / unit
    base, opinions = at_rows(forecasts.values["base_rate"], "direction", rows), []
    for name in names:
        heads = forecasts.values[name]
        if "return" in heads:
            opinions.append(at_rows(heads, "return", rows) / unit)
        else:
            quantile = ndtri(at_rows(heads, "direction", rows)) - ndtri(base)
            opinions.append(quantile[:, None] * steps / steps[-1])  # a drift grows with √k of its own s.d.
    every = np.stack(opinions, axis=-1) - start[..., None]  # (rows, horizon, members)
    means = [every.mean(-1)] + ([every[..., linear].mean(-1)] if 0 < len(linear) < every.shape[-1] else [])
    return _Inputs(start, {EQUAL: np.stack(means, axis=-1), STACKED: every}, unit)


def _part(head: str, name: str, members: Sequence[str]) -> str:
    """What the slopes of a head's candidate are called among what is learned; other members have other slopes."""
    return f"{head}/{name}/{','.join(members)}"


@dataclass(frozen=True)
class InForce:
    """A head's forecasts, the candidates' and that in force (`ensemble`), and a candidate's name for each fold."""

    values: dict[str, FloatArray]
    in_force: tuple[str, ...]


def _rivals_own(forecasts: Forecasts, head: str, rival: str, since: int, *width: int) -> InForce:
    """A head on which no member has an opinion: every candidate is the rival's forecast."""
    made = {name: _already_issued(forecasts, name, head, since, *width) for name in (EQUAL, STACKED, "ensemble")}
    for fold in forecasts.folds[since:]:
        for values in made.values():
            values[fold.test] = forecasts.values[rival][head][fold.test]
    return InForce({**made, rival: forecasts.values[rival][head]}, (rival,) * len(forecasts.folds))


def _in_force(
    forecasts: Forecasts, head: str, values: dict[str, FloatArray], loss_of: Callable[[FloatArray], FloatArray],
    since: int, known: Sequence[str],
) -> InForce:  # fmt: skip
    """Of candidates and their (samples,) losses, the one in force at each fold; before `since` what they hold.

    `known`: names of those in force, which are not looked for again where there is one for every fold.
    """
    names = tuple(known[: len(forecasts.folds)])
    if len(names) < len(forecasts.folds) or not set(names) <= values.keys():
        numbers = choose(forecasts, np.column_stack([loss_of(one) for one in values.values()]))
        names = tuple(list(values)[number] for number in numbers)
    width = () if next(iter(values.values())).ndim == 1 else next(iter(values.values())).shape[1:]
    result = _already_issued(forecasts, "ensemble", head, since, *width)
    for fold, name in list(zip(forecasts.folds, names, strict=True))[since:]:
        result[fold.test] = values[name][fold.test]
    return InForce({**values, "ensemble": result}, names)


def turbulence(
    forecasts: Forecasts, volatility: FloatArray, held: FloatArray, learning: Learning
) -> FloatArray:  # fmt: skip
    """(samples,) probability that the variance of the next h bars exceeds the class's level, from a forecast of it.

    The log of the variance is taken as normal around the forecast's, with the mean and the spread of the errors whose
    answers are known at a refit's cutoff. Before there are 60 days of them it is the rival's probability.
    """
    from scipy.special import ndtr

    samples = forecasts.samples
    answer = samples.targets["volatility"].value[samples.decided]
    rival = next(name for name in STARTS["regime"] if "regime" in forecasts.values.get(name, {}))
    with np.errstate(divide="ignore", invalid="ignore"):
        forecast = np.log(volatility)
    record_at = _records(forecasts, lambda: forecast + answer, DENSITY_DAYS)

    def learn(fold: Fold) -> FloatArray:
        record, weight = record_at(fold)
        if len(record) == 0:
            return np.zeros(0)
        error = answer[record] - forecast[record]
        centre = float(weight @ error / weight.sum())
        return np.array([centre, np.sqrt(weight @ (error - centre) ** 2 / weight.sum())])

    for number, fold in list(enumerate(forecasts.folds))[learning.since :]:
        rows, errors = fold.test, learning.at(DENSITY, number, (0, 2), partial(learn, fold), is_density)
        if len(errors) == 0:
            held[rows] = forecasts.values[rival]["regime"][rows]
            continue
        centre, spread = errors
        held[rows] = ndtr((forecast[rows] + centre - samples.facts.level[samples.ends[rows]]) / spread)
    return held


def _already_issued(forecasts: Forecasts, model: str, head: str, since: int, *width: int) -> FloatArray:
    """What the folds before `since` hold already; NaN elsewhere."""
    if since == 0:
        return np.full((len(forecasts.samples), *width), np.nan)
    return at_rows(forecasts.values[model], head, np.arange(len(forecasts.samples)))


def _records(
    forecasts: Forecasts, paired: Callable[[], FloatArray], minimum_days: int
) -> Callable[[Fold], tuple[IntArray, FloatArray]]:
    """Fold -> rows with an answered out-of-sample forecast, and their weights, those of `Samples.evidence`.

    `paired` gives what is finite where there are both a forecast and an answer. Before `minimum_days` the record is
    empty, so that every slope is 0.
    """
    samples = forecasts.samples
    issued = cache(lambda: np.flatnonzero(np.isfinite(paired())))

    @cache
    def at(cutoff: np.datetime64) -> tuple[IntArray, FloatArray]:
        forecasts.refuse_some()
        record = issued()[known_by(samples.known_at[issued()], cutoff)]
        if np.count_nonzero(np.bincount(samples.day[record])) < minimum_days:
            record = record[:0]
        return record, samples.evidence(record)

    return lambda fold: at(fold.cutoff)


def _slopes(inputs: FloatArray, answer: FloatArray, weight: FloatArray, spread: float) -> FloatArray:
    """Most probable slopes (>= 0) of a regression without constant; the prior of each is normal around 0."""
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import nnls

    weighted = inputs * weight[:, None]
    root = cholesky(weighted.T @ inputs + np.eye(inputs.shape[1]) / spread**2, lower=True)
    slopes: FloatArray = nnls(root.T, solve_triangular(root, weighted.T @ answer, lower=True))[0]
    return slopes


def _slopes_with_offset(
    inputs: FloatArray, answer: FloatArray, offset: FloatArray, weight: FloatArray, spread: float
) -> FloatArray:
    """Most probable slopes (>= 0) of a logistic regression with a fixed offset; the prior is as in `_slopes`."""
    slopes = np.zeros(inputs.shape[1])
    if len(answer) == 0:
        return slopes
    penalty, columns = np.eye(len(slopes)) / spread**2, np.ascontiguousarray(inputs.T)
    for _ in range(50):  # Newton among the slopes that are not held at 0 (Bertsekas 1982); the loss is strictly convex
        chance = _chance(offset + inputs @ slopes)
        gradient = inputs.T @ (weight * (chance - answer)) + penalty @ slopes
        curvature = (columns * (weight * chance * (1 - chance))) @ inputs + penalty
        free = (slopes > 0) | (gradient < 0)
        if free.all():
            step = np.linalg.solve(curvature, gradient)
        else:
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
