"""Contribution of each model: the loss of the forecast in force with the model and without it, on the same days."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.compute.cluster import active
from gatecast.compute.parallel import fan_out
from gatecast.evaluation.paired import LEVEL, paired
from gatecast.evaluation.record import Record, gain_over
from gatecast.forecasting.panel import CORRECTION, ENSEMBLE, NETWORK, RIVALS
from gatecast.metrics.many import holm

if TYPE_CHECKING:
    from gatecast.compute.disk import Disk
    from gatecast.forecasting.combining.ensemble import Ensemble
    from gatecast.forecasting.walkforward import Forecasts

ALL = "all"
"""The scope of a row that rests on every asset class together."""
WITHOUT = "without"
"""What the forecast in force would have been."""
MOST_SENT = 2**29
"""Bytes of forecasts that each process is sent; of more, threads share them."""
Models = tuple[str, ...]
Place = tuple[str, str]
"""Scope and head."""
BOTH_NETWORKS = (NETWORK, CORRECTION)  # left out together: alone, each hides what the loss of the other costs


def credit_of(
    forecasts: Mapping[str, Forecasts],
    ensemble: Ensemble,
    *,
    jobs: int = 1,
    importable: bool = False,
    disk: Disk | None = None,
) -> list[dict[str, Any]]:
    """One row an asset class, head and model: the loss of the ensemble as it was, and without that model.

    In: asset class -> forecasts, those of `ensemble` among them. Everything that the ensemble learns it learns again
    without the model, at each refit from the same past. What a model does inside another is not undone: `residual_lstm`
    still starts from the linear forecasts. A model without which nothing would be left has no row. `importable`:
    whether another process finds the classes of all models, see `Experiment.is_importable`; else threads do the work.
    `disk`: where the arrays of several classes are, as other processes read them there, see `compute.disk`.

    Out: `asset_class` ("all": every class together, where there are several); `head`; `models`: those left out, one, or
    the two LSTMs together; `n`: days; `with`, `without`: mean standardised loss, the mean over
    symbols of each day; `more`: without / with - 1, the loss that the model saves; `statistic`, `pvalue`:
    Diebold-Mariano with the correction of Harvey, Leybourne and Newbold, two-sided, above 0 where the model helps;
    `pvalue_holm`: the same for all models of the class and head together; `worth`: "helps", "hurts", "unclear" where
    luck may be all of it, or "nothing" where the forecast is the same without it.

    >>> from gatecast.forecasting.combining.ensemble import Ensemble
    >>> credit_of({}, Ensemble())
    []
    """
    issued = {name: one for name, one in forecasts.items() if ENSEMBLE in one.values}
    if not issued:
        return []
    scopes = ({ALL: tuple(issued)} if len(issued) > 1 else {}) | {name: (name,) for name in issued}
    tables: dict[Place, list[dict[str, Any]]] = {(scope, head): [] for scope in scopes for head in RIVALS}
    left_out = {name: _left_out(one, ensemble) for name, one in issued.items()}
    every = list(dict.fromkeys(models for each in left_out.values() for models in each))
    # threads would wait for the interpreter's lock most of the time
    lent = disk if not active() else None  # other machines do not read it
    processes = importable and jobs > 1 and (lent is not None or sum(map(_bytes_of, issued.values())) <= MOST_SENT)
    if processes:
        issued = {name: _light(one) for name, one in issued.items()}

    def rows_of(models: Models) -> list[tuple[Place, list[dict[str, Any]]]]:
        recombined = {name: without(one, ensemble, models) for name, one in issued.items() if models in left_out[name]}
        found = []
        for scope, head in tables:
            some = {name: recombined[name] for name in scopes[scope] if name in recombined}
            if len(some) == len(scopes[scope]) and all(head in one.values[WITHOUT] for one in some.values()):
                found.append(((scope, head), credit_row(Record.of(some, head), scope, models)))
        return found

    def rows_of_some(some: list[Models]) -> list[list[tuple[Place, list[dict[str, Any]]]]]:
        return [rows_of(models) for models in some]

    parts = [part for start in range(jobs) if (part := every[start::jobs])] if processes else [[one] for one in every]
    with lent.lent() if lent and processes else nullcontext():
        made = fan_out(rows_of_some, parts, jobs=jobs, processes=processes)
    rows_by_models = {
        models: found for part, rows in zip(parts, made, strict=True) for models, found in zip(part, rows, strict=True)
    }
    for models in every:
        for place, rows in rows_by_models[models]:
            tables[place] += rows
    for rows in tables.values():
        for row, pvalue in zip(rows, holm([row["pvalue"] for row in rows]).tolist(), strict=True):
            row["pvalue_holm"] = pvalue
            if row["worth"] == "unclear" and pvalue < LEVEL:
                row["worth"] = "helps" if row["statistic"] > 0 else "hurts"
    return [row for rows in tables.values() for row in rows]


def _light(forecasts: Forecasts) -> Forecasts:
    """The forecasts with what a combination and its record read alone."""
    samples = replace(forecasts.samples, features=np.empty((0, 0)))
    return replace(forecasts, samples=samples, members={}, scale={}, fitted={}, refused_fits={})


def _bytes_of(forecasts: Forecasts) -> int:
    """About what it takes to send the forecasts and their answers."""
    rows = len(forecasts.samples)
    answers = 8 * rows * (2 * forecasts.samples.horizon + 20)
    return answers + sum(one.nbytes for heads in forecasts.values.values() for one in heads.values())


def without(forecasts: Forecasts, ensemble: Ensemble, models: tuple[str, ...]) -> Forecasts:
    """The forecasts with one more model, `without`: what the ensemble would have said had it not had `models`.

    It has the heads that `models` have a part in: where no member of a head is left, the rival's forecast.
    """
    ensemble = ensemble.spelled(forecasts)
    variances, every = _variance_members(forecasts, ensemble), ensemble.members or ()
    members = tuple(name for name in every if name not in models) or every
    others = tuple(name for name in variances if name not in models) or variances
    corrected = CORRECTION in forecasts.values and CORRECTION not in models
    in_variance = others != variances or corrected != (CORRECTION in forecasts.values)
    changed: Ensemble = ensemble.replace(members=members, volatility_members=others)
    heard = {head: ensemble.opinions_on(head, forecasts) != changed.opinions_on(head, forecasts) for head in RIVALS}
    touched = [
        head for head in RIVALS
        if (in_variance and head in ("volatility", "regime"))  # whose probability follows from the variance, too
        or (head != "volatility" and CORRECTION not in models and heard[head])
    ]  # fmt: skip
    known = None if in_variance else forecasts.values[ENSEMBLE]["volatility"]
    kept = {name: heads for name, heads in forecasts.values.items() if corrected or name != CORRECTION}
    heads = changed.combine(replace(forecasts, values=kept), volatility=known, heads=touched).values[ENSEMBLE]
    return forecasts.with_model(WITHOUT, {head: heads[head] for head in touched})


def _variance_members(forecasts: Forecasts, ensemble: Ensemble) -> tuple[str, ...]:
    """Those of the members for variance that forecast it here."""
    return tuple(
        name
        for name in ensemble.spelled(forecasts).volatility_members or ()
        if "volatility" in forecasts.values.get(name, {})
    )


def _left_out(forecasts: Forecasts, ensemble: Ensemble) -> list[tuple[str, ...]]:
    """Each model that the ensemble listens to, and the two LSTMs together where both have a part."""
    variances = _variance_members(forecasts, ensemble)
    corrections = tuple(name for name in (CORRECTION,) if name in forecasts.values)
    members = tuple(name for name in ensemble.spelled(forecasts).members or () if name in forecasts.values)
    names = dict.fromkeys((*members, *variances, *corrections))
    alone = variances == corrections  # without it there would be no variance
    found: list[tuple[str, ...]] = [(name,) for name in names if not (alone and name == CORRECTION)]
    return [*found, BOTH_NETWORKS] if corrections and BOTH_NETWORKS[0] in variances else found


def credit_row(record: Record, scope: str, models: tuple[str, ...]) -> list[dict[str, Any]]:
    """The row of one class, head and set of models, its p-value not yet adjusted; none without a day to score.

    In: a record with the models `ensemble` and `without`, the forecast in force and what it would have been.
    """
    both = paired(record, ENSEMBLE, WITHOUT)
    if both.n == 0:
        return []
    return [
        {"asset_class": scope, "head": record.head, "models": list(models), "n": both.n,
         "with": both.loss, "without": both.loss_against, "more": -gain_over(both.loss, both.loss_against),
         "statistic": both.statistic, "pvalue": both.pvalue, "worth": "nothing" if both.same else "unclear"}
    ]  # fmt: skip
