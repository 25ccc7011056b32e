"""The quick audit: a finished chain, recomputed at a few cuts without refitting, and its refits against the rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from gatecast.audits.leaks import (
    Audit,
    Leak,
    broken_rules,
    early_answers,
    first_guilty,
    knowing_columns,
    level_features,
    stubborn_scaler,
    to_minute,
    with_knowing,
    worded,
)
from gatecast.audits.tables import (
    Table,
    chosen_table,
    differences,
    forecasts_tables,
    rows_table,
    samples_tables,
    signals_tables,
    up_to,
)
from gatecast.chain import Chain, ClassResult, combine
from gatecast.compute.memory import give_back
from gatecast.errors import GatecastError
from gatecast.experiment import Experiment
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.combining.intervals import Intervals
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.windows import Samples, Sampling
from gatecast.trading.signals import SignalSettings, make_signals


def quick_audit(experiment: Experiment, chain: Chain, *, cuts: int = 2) -> Audit:
    """A finished run looked at without a refit, in a small part of its time.

    At `cuts` moments its features, answers, levels, ensemble and signals are made again from the bars, samples and
    forecasts up to then, and the newest models asked again; all refits are held against the rules; features are
    examined for price levels. `gatecast.audits.full` does all of it, refits included.

    >>> from gatecast.chain import make_chain
    >>> from gatecast.market import synthetic
    >>> from gatecast.forecasting.schedule import Schedule
    >>> walk = Experiment(
    ...     bars=synthetic.a1(500, seed=1), features=("ret_log_1",), schedule=Schedule(refit="6M"),
    ...     models=("forest", "ridge"), signals={"model": "ridge"},
    ...     ensemble={"members": ("forest",), "volatility_members": ("har",)},
    ... )
    >>> quick_audit(walk, make_chain(walk, walk.read().bars)).clean
    True
    """
    reactions, broken, natures = [], [], []
    for name, one in chain.classes.items():
        samples, folds = one.samples, one.forecasts.folds
        own = chain.bars.filter(pl.col("asset_class") == name)
        broken += early_answers(samples, chain.bars) + broken_rules(folds, samples)
        natures += level_features(own, samples.names) + stubborn_scaler(folds[-1:])
        reactions += _reactions(
            one, own, cuts, experiment.sampling, experiment.ensemble, experiment.intervals, experiment.signals
        )
        samples.forget()
        give_back()
    findings, consequences = first_guilty(reactions, broken, natures)
    return Audit(
        tuple(worded(leak) for leak in findings),
        consequences,
        (
            f"features, answers, regime levels, ensemble and signals at {cuts} cuts, with the future removed",
            "the newest models' forecasts of the last moment but one, with the last bar removed",
            "every refit's rows against the rules: known by the first validation row, by the first forecast",
            "features for price levels, columns of the bars for knowledge of the next return",
        ),
        (
            "whether a refit depends on later bars: `gatecast audit` refits at every cut",
            "reading and resampling of the bars, the strategy in force and the weights",
            *NEVER_SEEN,
        ),
    )


NEVER_SEEN = (
    "what was decided outside the chain: features, symbols or settings chosen by looking at these bars",
    "columns of the file that were made with later rows, unless they explain the next return or are prices",
    "survivorship, restated and back-adjusted values inside the file: they are what the file says at every cut",
)


def _reactions(
    one: ClassResult, bars: pl.DataFrame, cuts: int, sampling: Sampling, ensemble: Ensemble, intervals: Intervals,
    signals: SignalSettings,
) -> list[Leak]:  # fmt: skip
    """What is said differently of a class at each of the cuts; `bars`: those of the class."""
    whole = signals_tables(one.forecasts, one.signals)
    found: list[Leak] = []
    for moment in _spread(one.forecasts, cuts):
        try:
            samples = sampling.make(up_to(bars, moment))[one.samples.asset_class]
            found += _replayed(one.forecasts, samples, whole, moment, ensemble, intervals, signals)
        except GatecastError as error:  # a feature that fails without later bars
            text = f"features: without the bars after {to_minute(moment)} they cannot be made: {error}"
            found.append(Leak("features", "all of it", "cut", None, None, None, None, None, text))
        give_back()
    return found


def _spread(forecasts: Forecasts, cuts: int) -> list[np.datetime64]:
    """The newest moment but one, and refits spread evenly: what is learned there may know the least."""
    refits = np.array([fold.cutoff for fold in forecasts.folds])
    at = np.linspace(0, len(refits), cuts + 1)[1:-1].astype(int)
    return sorted({*refits[at], *np.unique(forecasts.samples.times[forecasts.rows])[-2:-1]})


def _replayed(
    issued: Forecasts, samples: Samples, whole: list[Table], moment: np.datetime64, ensemble: Ensemble,
    intervals: Intervals, signals: SignalSettings,
) -> list[Leak]:  # fmt: skip
    """What is said differently when all but the fits is made again, on samples of the bars up to the moment."""
    # tables of samples are large: two of them at a time
    of_samples = zip(samples_tables(issued.samples), samples_tables(samples), strict=True)
    leaks = [leak for was, now in of_samples for leak in differences([was], [now], moment, "cut")]
    past = _past_of(issued, samples, moment)
    if past is None or samples.names != issued.samples.names:
        in_use = [chosen_table(one, issued.folds[:1]) for one in (issued.samples, samples)]
        return differences(in_use[:1], in_use[1:], moment, "cut") + leaks
    combined = combine(past, ensemble, intervals)
    made = [model for model, heads in combined.values.items() if heads is not past.values.get(model)]
    tables = forecasts_tables("ensemble", combined, made) + signals_tables(combined, make_signals(combined, signals))
    parts = {(table.stage, table.part) for table in tables}
    said = whole + forecasts_tables("ensemble", issued, [model for model in made if model in issued.values])
    mine = [table for table in said if (table.stage, table.part) in parts]
    return _asked_again(issued, samples, moment) + leaks + differences(mine, tables, moment, "cut")


def _asked_again(forecasts: Forecasts, samples: Samples, moment: np.datetime64) -> list[Leak]:
    """What the newest models say of the moment on samples that end there, beside what they said in the run."""
    if moment < forecasts.folds[-1].cutoff:
        return []
    leaks = []
    before, now = (np.flatnonzero(one.times == moment) for one in (forecasts.samples, samples))
    for model, fitted in forecasts.fitted.items():
        tables = []
        said = {head: values[before] for head, values in forecasts.values[model].items()}
        for of, rows, heads in ((forecasts.samples, before, said), (samples, now, fitted.predict(samples, now))):
            columns = {f"{model} {head}": np.reshape(values, (len(rows), -1))[:, -1] for head, values in heads.items()}
            tables.append(rows_table("forecasts", model, of, rows, columns))
        leaks += differences(tables[:1], tables[1:], moment, "cut")
    return leaks


def _past_of(forecasts: Forecasts, samples: Samples, moment: np.datetime64) -> Forecasts | None:
    """The forecasts issued up to a moment, on samples that end there; None where rows do not match."""
    kept = np.flatnonzero(forecasts.samples.times <= moment)
    folds = [fold for fold in forecasts.folds if fold.cutoff <= moment]
    if not folds or not np.array_equal(forecasts.samples.times[kept], samples.times):
        return None
    place = np.full(len(forecasts.samples), -1)
    place[kept] = np.arange(len(kept))
    cut = tuple(
        replace(
            fold, samples=samples, train=place[fold.train], validation=place[fold.validation],
            test=place[fold.test[place[fold.test] >= 0]],
        )
        for fold in folds
    )  # fmt: skip
    values = {model: {head: array[kept] for head, array in heads.items()} for model, heads in forecasts.values.items()}
    scale = {model: blocks[: len(cut)] for model, blocks in forecasts.scale.items()}
    return Forecasts(samples, cut, values, scale, forecasts.fitted, panel=forecasts.panel)


NOT_AUDITED = "what was issued from day to day: `gatecast parity` compares it with a chain over all bars"


def audit_of(experiment: Experiment, chain: Chain, *, goes_on: bool = False) -> Audit:
    """The quick audit of a chain, and the user's columns and functions that know what is to come, unless allowed.

    `goes_on`: whether the chain continues a past whose bars may have been corrected since: it is then not made again on
    earlier bars, as what was issued then is not what the corrected bars say.
    """
    allowed, leaks, implied = experiment.too_good, [], experiment.volatility.implied
    for name, one in chain.classes.items():
        own = chain.bars.filter(pl.col("asset_class") == name)
        read = dict.fromkeys((*one.samples.names, *([implied] if implied else [])))
        leaks += knowing_columns(own, read, experiment.horizon, allowed)
    found = Audit((), (), (), (NOT_AUDITED,)) if goes_on else quick_audit(experiment, chain)
    return with_knowing(found, leaks, allowed)
