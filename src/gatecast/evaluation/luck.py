"""What luck and persistence alone would show: the best of many coins, overlapping answers, many models in one test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.record import day_means, gain_over
from gatecast.forecasting.panel import ENSEMBLE, RIVAL, RIVALS
from gatecast.metrics import forecast as metric
from gatecast.metrics import many, significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Days, Record

    FloatArray = NDArray[np.float64]


def best_of_coins(n: float, count: float) -> float:
    """The share of hits to expect of the best of `count` coins, each thrown n times.

    >>> round(best_of_coins(250, 100), 3), best_of_coins(250, 1)
    (0.579, 0.5)
    """
    from scipy.special import bdtr

    throws = int(n)
    if throws < 1 or not count >= 1:
        return float("nan")
    at_most = bdtr(np.arange(throws), throws, 0.5)
    return float(1 - np.sum(at_most**count) / throws)


def illusions(
    record: Record, closes: Mapping[str, FloatArray], *, tries: float = 1, model: str = ENSEMBLE
) -> dict[str, Any]:
    """What a chart would make of the return forecasts, and what luck and persistence alone explain of it.

    In: the record of "return"; asset class -> close of each of its bars; `tries`: effective number of trials.
    Out: `best_of`: the best hit rate of the models, of as many coins times `tries`, and of always saying up, over
    `independent` days that share no bar. `overlap`: p-values of a positive gain taking every day for independent
    (`naive`), by Diebold-Mariano with HLN and by every h-th day alone. `levels`: median over symbols of the
    correlation with the price h bars later of the forecast price and of today's price, and of the forecast change
    with the change. None where there is nothing to show.
    """
    days, overlap = day_means(record, model, RIVAL), record.overlap
    return {
        "best_of": _best_of(record, len(days.day), tries),
        "overlap": None if overlap == 1 else overlap_of(days, overlap),
        "levels": _levels(record, closes, model),
    }


def overlap_of(days: Days, overlap: int) -> dict[str, Any]:
    """One-sided p-values of a gain above 0, by how the overlap of answers is dealt with."""
    tests = {"naive": significance.hac_mean(days.gain, 0)}
    both = significance.diebold_mariano(days.rival, days.model, overlap, loss="identity")
    tests |= {"diebold_mariano": both}
    if both.non_overlapping is not None:
        tests |= {"non_overlapping": both.non_overlapping}
    names = ("naive", "diebold_mariano", "non_overlapping")
    return {"sessions": overlap} | {name: upper_tail(tests[name]) if name in tests else np.nan for name in names}


def upper_tail(test: significance.Test) -> float:
    """The one-sided p-value of a positive effect, from a two-sided test; NaN where it is undefined or refused.

    A test with too few rows for its horizon is refused.
    """
    if not test.enough or not np.isfinite(test.statistic):
        return float("nan")
    return test.pvalue / 2 if test.statistic > 0 else 1 - test.pvalue / 2


def _best_of(record: Record, days: int, tries: float) -> dict[str, Any] | None:
    hits: dict[str, float] = {}
    for name in record.forecasts:
        if name not in (*RIVALS["return"], RIVAL):
            forecast = record.forecasts[name]
            known = np.isfinite(record.answer) & np.isfinite(forecast)
            hits[name] = metric.hit_rate(record.answer[known], forecast[known])
    known_hits = {name: share for name, share in hits.items() if np.isfinite(share)}
    if not known_hits or not days:
        return None
    best = max(known_hits, key=lambda name: known_hits[name])
    independent = days // record.overlap
    return {
        "model": best, "hit_rate": known_hits[best], "models": len(known_hits), "tries": tries,
        "independent": independent, "coins": best_of_coins(independent, len(known_hits) * max(tries, 1)),
        "always_up": float(np.mean(record.answer[np.isfinite(record.answer)] > 0)),
    }  # fmt: skip


def _levels(record: Record, closes: Mapping[str, FloatArray], model: str) -> dict[str, float] | None:
    found, forecasts = [], record.forecasts[model]
    for place, name in enumerate(record.classes):
        rows = np.flatnonzero(record.number == place)
        now = np.log(closes[name][record.bar[rows]])
        change, forecast = record.answer[rows], forecasts[rows]
        for symbol in np.unique(record.symbol[rows]):
            own = (record.symbol[rows] == symbol) & np.isfinite(change) & np.isfinite(forecast)
            if own.sum() >= 100 and np.ptp(forecast[own]) > 0:
                pairs = ((now + forecast, now + change), (now, now + change), (forecast, change))
                if all(np.ptp(one[own]) > 0 for pair in pairs for one in pair):
                    found.append([float(np.corrcoef(a[own], b[own])[0, 1]) for a, b in pairs])
    if not found:
        return None
    return dict(zip(("forecast_price", "todays_price", "change"), np.median(found, axis=0).tolist(), strict=True))


def many_models(records: Mapping[str, Record], *, draws: int = 500) -> dict[str, dict[str, Any]]:
    """Head -> all its models in one test, on the days that all have: which can be the best, which beat the rival.

    In: head -> record with the rival in force.

    One test answers all (`many.losing_less`: studentised, each question corrected for all models of the head), with
    the same draws, so that no two answers can contradict each other. `models`: gain over the rival in loss,
    `pvalue_best` and `can_be_best` (no other model is better at 10 %), `pvalue_beats` and `beats_rival` (at 5 %);
    `pvalue_spa`: whether any of them beats the rival, the smallest `pvalue_beats`; a `sentence`.
    """
    found = {}
    for head, record in records.items():
        names, table = daily_losses(record)
        if RIVAL not in names or len(table) < significance.BARS_PER_HORIZON * record.overlap:
            continue
        mean, base = table.mean(axis=0), names.index(RIVAL)
        if mean[base] <= 0:  # nothing moved: no model can lose less
            continue
        others = [place for place in range(len(names)) if place != base]
        block = max(float(record.overlap), significance.block_length(table[:, others] - table[:, [base]]))
        less = many.losing_less(table, block=block, draws=draws)
        best = [float(np.min(row[np.isfinite(row)], initial=1.0)) for row in less]
        rows: list[dict[str, Any]] = [
            {"model": name, "gain": gain_over(mean[base], mean[place]), "pvalue_best": best[place],
             "can_be_best": best[place] > 0.1, "pvalue_beats": float(less[base, place]),
             "beats_rival": bool(less[base, place] < 0.05)}
            for place, name in enumerate(names)
        ]  # fmt: skip
        found[head] = {
            "models": sorted(rows, key=lambda row: -float(row["gain"])),
            "rival": RIVAL,
            "pvalue_spa": best[base],
            "sentence": _said_of(rows, record.titles),
        }
    return found


def daily_losses(record: Record) -> tuple[list[str], FloatArray]:
    """The models of a record, and (days, models) their mean losses on the days that all have."""
    names = list(record.forecasts)
    if not names:
        return names, np.zeros((0, 0))
    table = np.column_stack([record.losses(name) for name in names])
    rows = np.flatnonzero(np.isfinite(table).all(1))
    every, place = np.unique(record.day[rows], return_inverse=True)
    sums = np.zeros((len(every), len(names)))
    np.add.at(sums, place, table[rows])
    return names, sums / np.bincount(place, minlength=len(every))[:, None]


def _said_of(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Which models no other is certain to beat, and which lose less than the rival, by their titles."""
    able = [titles[row["model"]] for row in rows if row["can_be_best"]]
    beat = [titles[row["model"]] for row in rows if row["beats_rival"]]
    may = "any of them" if len(able) == len(rows) else ", ".join(able)
    return (
        f"Not ruled out as the best, at 90 % confidence: {may}. "
        f"Losing less than the rival in force, at 5 % for all models together: {', '.join(beat) or 'none'}."
    )
