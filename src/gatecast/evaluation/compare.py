"""Every model on the same rows: scores by model and head, by year and by day, and what luck alone would show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.rivals import CAP, RIVAL, each_with_rival, uncapped_losses, unit_of
from gatecast.evaluation.rivals import RIVALS as RIVALS
from gatecast.evaluation.rivals import losses as losses
from gatecast.forecasting.titles import model_title
from gatecast.metrics import forecast as metric
from gatecast.metrics import many, significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Days:
    """A model beside its rival, one row a day: means over the symbols of that day, all (days,).

    `day`: the session, datetime64[D]. `rival`, `model`: standardised losses. For returns also `adjusted`, Clark-West's
    2 · e · (f - b) with e the rival's error, at most five standard deviations of the return, and `size`, (f - b)²,
    both standardised; else NaN.
    """

    day: NDArray[np.datetime64]
    rival: FloatArray
    model: FloatArray
    adjusted: FloatArray
    size: FloatArray

    @property
    def gain(self) -> FloatArray:
        """The rival's loss minus the model's."""
        return self.rival - self.model

    def of(self, rows: BoolArray) -> Days:
        """Some of the days."""
        return Days(*(getattr(self, name)[rows] for name in ("day", "rival", "model", "adjusted", "size")))


def day_means(forecasts: Mapping[str, Forecasts], head: str, model: str, rival: str) -> Days:
    """The days on which both were forecast and answered, over all asset classes."""
    parts: list[list[NDArray[Any]]] = []
    for one in forecasts.values():
        samples = one.samples
        base, loss = losses(one, head, rival), losses(one, head, model)
        rows = np.flatnonzero(np.isfinite(base) & np.isfinite(loss))
        adjusted = size = np.full(len(samples), np.nan)
        if head == "return" and len(rows):
            answer = samples.targets[head].value[samples.decided, -1]
            benchmark, forecast = one.values[rival]["return"][:, -1], one.values[model]["return"][:, -1]
            unit = unit_of(samples)
            most = np.sqrt(CAP * unit)
            adjusted = 2 * np.clip(answer - benchmark, -most, most) * (forecast - benchmark) / unit
            size = (forecast - benchmark) ** 2 / unit
        days = samples.sessions.astype("datetime64[D]").astype(np.int64)
        parts.append([array[rows] for array in (days, base, loss, adjusted, size)])
    days, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    day, place = np.unique(days, return_inverse=True)
    count = np.bincount(place)
    means = (np.bincount(place, column) / count for column in columns)
    return Days(day.astype("datetime64[D]"), *means)


def gains_without(forecasts: Mapping[str, Forecasts], head: str, model: str, rival: str = RIVAL) -> dict[str, float]:
    """Symbol -> the model's gain over the rival, a share of its loss, if that symbol were not there.

    The gain is that of a verdict: means over symbols by day, then over days. Of one symbol alone nothing is left: no
    row. A symbol stands in every asset class for itself.
    """
    parts = []
    for one in forecasts.values():
        base, loss = losses(one, head, rival), losses(one, head, model)
        rows = np.flatnonzero(np.isfinite(base) & np.isfinite(loss))
        name = np.array(one.samples.symbols, dtype=object)[one.samples.symbol[one.samples.decided[rows]]]
        parts.append((name, one.samples.sessions[rows].astype("datetime64[D]"), base[rows], loss[rows]))
    symbols, days, base, loss = (np.concatenate(column) for column in zip(*parts, strict=True))
    _, day = np.unique(days, return_inverse=True)
    sums = [np.bincount(day, weights) for weights in (None, base, loss)]
    found = {}
    for symbol in sorted(set(symbols)):
        own = symbols == symbol
        rest = [
            every - np.bincount(day[own], weights, len(every))
            for every, weights in zip(sums, (None, base[own], loss[own]), strict=True)
        ]
        left = rest[0] > 0
        if left.any():
            found[symbol] = gain_over(*(float((one[left] / rest[0][left]).mean()) for one in rest[1:]))
    return found


@dataclass(frozen=True)
class SetAside:
    """Forecasts whose answers do not count in full: `ties`, prices that stood still, are not scored for direction;

    `capped`: the model's or the rival's loss was above `CAP`, and counts as that.
    """

    ties: int
    capped: int


def set_aside(forecasts: Mapping[str, Forecasts], head: str, model: str, rival: str = RIVAL) -> SetAside:
    """How many of a model's forecasts count not at all or not in full, over all asset classes."""
    ties = capped = 0
    for one in forecasts.values():
        at = one.samples.decided[one.rows]
        if head == "direction":
            moved, rose = one.samples.targets["return"].value[at, -1], one.samples.targets["direction"].value[at]
            ties += int(np.count_nonzero(np.isfinite(moved) & np.isnan(rose)))
        both = [uncapped_losses(one, head, name)[one.rows] > CAP for name in (model, rival)]
        capped += int(np.count_nonzero(both[0] | both[1]))
    return SetAside(ties, capped)


def gain_over(base: float, loss: float) -> float:
    """The share of a loss that a smaller one saves, 1 - loss / base; NaN where there was nothing to lose.

    >>> gain_over(0.5, 0.4), gain_over(0.0, 0.0)
    (0.19999999999999996, nan)
    """
    return float(1 - loss / base) if base > 0 else float("nan")


def per_session(returns: FloatArray, sessions: NDArray[np.datetime64]) -> tuple[NDArray[np.datetime64], FloatArray]:
    """The days, datetime64[D], and the simple return of each, compounded from those of its bars in order of time.

    >>> days = np.array(["2024-01-02", "2024-01-02", "2024-01-03"], "datetime64[D]")
    >>> per_session(np.array([0.1, 0.1, 0.5]), days)[1].round(6).tolist()
    [0.21, 0.5]
    """
    day, first = np.unique(sessions.astype("datetime64[D]"), return_index=True)
    if len(day) == len(returns):
        return day, returns
    return day, np.multiply.reduceat(np.maximum(1 + returns, 0.0), first) - 1  # wealth stops at 0


def sessions_spanned(forecasts: Mapping[str, Forecasts]) -> int:
    """Days that an answer spans among those of all classes together: the days that overlap.

    Five sessions of an index are seven days beside a market that never closes.
    """
    days = np.unique(np.concatenate([one.samples.sessions for one in forecasts.values()]))
    spans = []
    for samples in (one.samples for one in forecasts.values()):
        own = np.unique(samples.sessions)
        among = np.count_nonzero((days >= own[0]) & (days <= own[-1])) if len(own) else 0
        spans.append(int(np.ceil(samples.horizon_sessions * among / max(len(own), 1))))
    return max(1, *spans)


def lag_of(n: int, overlap: int = 1) -> int:
    """Lags of a variance that is watched as days come in: the overlap, and at least 4 (n / 100)^(2/9).

    A test made once uses `significance.bandwidth_of`, whose critical values know the bandwidth.
    """
    return max(overlap - 1, int(4 * (n / 100) ** (2 / 9)))


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
    forecasts: Mapping[str, Forecasts], closes: Mapping[str, FloatArray], *, tries: float = 1, model: str = "ensemble"
) -> dict[str, Any]:
    """What a chart would make of the return forecasts, and what luck and persistence alone explain of it.

    In: asset class -> forecasts, asset class -> close of each of its bars; `tries`: effective number of trials.
    Out: `best_of`: the best hit rate of the models, of as many coins times `tries`, and of always saying up, over
    `independent` days that share no bar. `overlap`: p-values of a positive gain taking every day for independent
    (`naive`), by Diebold-Mariano with HLN and by every h-th day alone. `levels`: median over symbols of the
    correlation with the price h bars later of the forecast price and of today's price, and of the forecast change
    with the change. None where there is nothing to show.
    """
    days = day_means(each_with_rival(forecasts), "return", model, RIVAL)
    overlap = sessions_spanned(forecasts)
    return {
        "best_of": _best_of(forecasts, len(days.day), overlap, tries),
        "overlap": None if overlap == 1 else overlap_of(days, overlap),
        "levels": _levels(forecasts, closes, model),
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


def _best_of(forecasts: Mapping[str, Forecasts], days: int, overlap: int, tries: float) -> dict[str, Any] | None:
    first = next(iter(forecasts.values()))
    hits: dict[str, float] = {}
    for name, heads in first.values.items():
        if "return" in heads and name not in (*RIVALS["return"], RIVAL):
            part = _pooled(forecasts, "return", name)
            known = np.isfinite(part["answer"]) & np.isfinite(part["forecast"])
            hits[name] = metric.hit_rate(part["answer"][known], part["forecast"][known])
    known_hits = {name: share for name, share in hits.items() if np.isfinite(share)}
    if not known_hits or not days:
        return None
    answer = _pooled(forecasts, "return", next(iter(known_hits)))["answer"]
    best = max(known_hits, key=lambda name: known_hits[name])
    independent = days // overlap
    return {
        "model": best, "hit_rate": known_hits[best], "models": len(known_hits), "tries": tries,
        "independent": independent, "coins": best_of_coins(independent, len(known_hits) * max(tries, 1)),
        "always_up": float(np.mean(answer[np.isfinite(answer)] > 0)),
    }  # fmt: skip


def _levels(
    forecasts: Mapping[str, Forecasts], closes: Mapping[str, FloatArray], model: str
) -> dict[str, float] | None:
    found = []
    for name, one in forecasts.items():
        samples, rows = one.samples, one.rows
        at = samples.decided[rows]
        now = np.log(closes[name][at])
        change, forecast = samples.targets["return"].value[at, -1], one.values[model]["return"][rows, -1]
        for number in range(len(samples.symbols)):
            own = (samples.symbol[at] == number) & np.isfinite(change) & np.isfinite(forecast)
            if own.sum() >= 100 and np.ptp(forecast[own]) > 0:
                pairs = ((now + forecast, now + change), (now, now + change), (forecast, change))
                if all(np.ptp(one[own]) > 0 for pair in pairs for one in pair):
                    found.append([float(np.corrcoef(a[own], b[own])[0, 1]) for a, b in pairs])
    if not found:
        return None
    return dict(zip(("forecast_price", "todays_price", "change"), np.median(found, axis=0).tolist(), strict=True))


def many_models(forecasts: Mapping[str, Forecasts], *, draws: int = 500) -> dict[str, dict[str, Any]]:
    """Head -> all its models in one test, on the days that all have: which can be the best, which beat the rival.

    One test answers all (`many.losing_less`: studentised, each question corrected for all models of the head), with
    the same draws, so that no two answers can contradict each other. `models`: gain over the rival in loss,
    `pvalue_best` and `can_be_best` (no other model is better at 10 %), `pvalue_beats` and `beats_rival` (at 5 %);
    `pvalue_spa`: whether any of them beats the rival, the smallest `pvalue_beats`; a `sentence`.
    """
    found = {}
    forecasts, overlap = each_with_rival(forecasts), sessions_spanned(forecasts)
    for head in RIVALS:
        names, table = daily_losses(forecasts, head)
        if RIVAL not in names or len(table) < significance.BARS_PER_HORIZON * overlap:
            continue
        mean, base = table.mean(axis=0), names.index(RIVAL)
        if mean[base] <= 0:  # nothing moved: no model can lose less
            continue
        others = [place for place in range(len(names)) if place != base]
        block = max(float(overlap), significance.block_length(table[:, others] - table[:, [base]]))
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
            "sentence": _said_of(rows),
        }
    return found


def daily_losses(forecasts: Mapping[str, Forecasts], head: str) -> tuple[list[str], FloatArray]:
    """The models of a head, and (days, models) their mean losses on the days that all have."""
    names = [name for name, heads in next(iter(forecasts.values())).values.items() if head in heads]
    days = [one.samples.sessions.astype("datetime64[D]").astype(np.int64) for one in forecasts.values()]
    every = np.unique(np.concatenate(days))
    sums, count = np.zeros((len(every), len(names))), np.zeros(len(every), np.int64)
    for one, day in zip(forecasts.values(), days, strict=True):
        table = np.column_stack([losses(one, head, name) for name in names])
        rows = np.flatnonzero(np.isfinite(table).all(1))
        place = np.searchsorted(every, day[rows])
        np.add.at(sums, place, table[rows])  # a class joins the sums of those before it, row by row
        count += np.bincount(place, minlength=len(every))
    scored = count > 0
    return names, sums[scored] / count[scored, None]


def _said_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which models no other is certain to beat, and which lose less than the rival, by their titles."""
    able = [model_title(row["model"]) for row in rows if row["can_be_best"]]
    beat = [model_title(row["model"]) for row in rows if row["beats_rival"]]
    may = "any of them" if len(able) == len(rows) else ", ".join(able)
    return (
        f"Not ruled out as the best, at 90 % confidence: {may}. "
        f"Losing less than the rival in force, at 5 % for all models together: {', '.join(beat) or 'none'}."
    )


def score_tables(forecasts: Mapping[str, Forecasts]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows by model and head, rows by year) over all asset classes together.

    Rows have `model, head, step, n` and the head's metrics; the yearly ones `year, head, model, metric, value`, the
    metric being the gain over the head's rival in force, in standardised loss. Every model is scored on the rows that
    all models have. `loss` and `gain` are means over days, as those of the verdict and of `many_models`, so that a
    model has one gain; the other metrics count every row alike.
    """
    tables: list[dict[str, Any]] = []
    years: list[dict[str, Any]] = []
    forecasts = each_with_rival(forecasts)
    first = next(iter(forecasts.values()))
    for head in RIVALS:
        models = [name for name in first.values if head in first.values[name]]
        loss_table = np.column_stack([_pooled_losses(forecasts, head, name) for name in models])
        scored = np.asarray(np.isfinite(loss_table).all(axis=1), np.bool_)
        if not scored.any() or RIVAL not in models:
            continue
        by_day, day = _daily(forecasts, loss_table, scored)
        totals = dict(zip(models, by_day.mean(0), strict=True))
        for name in models:
            row = {"model": name, "head": head, "step": first.samples.horizon, "n": int(scored.sum())}
            tables.append(
                row
                | _metrics(head, {key: value[scored] for key, value in _pooled(forecasts, head, name).items()})
                | {"loss": totals[name], "gain": gain_over(totals[RIVAL], totals[name]), "rival": name == RIVAL}
            )
        stamp = day.astype("datetime64[Y]").astype(np.int64) + 1970
        for year in np.unique(stamp):
            rows = stamp == year
            for column, name in enumerate(models):
                if name in ("lstm", "forest", "logistic", "ridge", "ensemble"):
                    base = float(by_day[rows, models.index(RIVAL)].mean())
                    gain = gain_over(base, float(by_day[rows, column].mean()))
                    row = {"year": int(year), "head": head, "model": name, "metric": "gain", "value": gain}
                    years.append(row)
    return tables, years


def _daily(
    forecasts: Mapping[str, Forecasts], table: FloatArray, scored: BoolArray
) -> tuple[FloatArray, NDArray[np.datetime64]]:
    """(days, models) means of the scored rows of a table of losses, in the order of `_pooled`, and the days."""
    sessions = np.concatenate([one.samples.sessions[one.rows] for one in forecasts.values()]).astype("datetime64[D]")
    day, place = np.unique(sessions[scored], return_inverse=True)
    sums = np.column_stack([np.bincount(place, column) for column in table[scored].T])
    return sums / np.bincount(place)[:, None], day


def _pooled(forecasts: Mapping[str, Forecasts], head: str, model: str) -> dict[str, FloatArray]:
    """Answers, forecasts, the mean's forecasts, years and months of all classes, one after the other."""
    parts: dict[str, list[FloatArray]] = {key: [] for key in ("answer", "forecast", "mean", "year", "month")}
    for one in forecasts.values():
        samples, rows = one.samples, one.rows
        answer, forecast = samples.targets[head].value[samples.decided], one.values[model][head]
        parts["answer"].append((answer[:, -1] if answer.ndim == 2 else answer)[rows])
        parts["forecast"].append((forecast[:, -1] if forecast.ndim == 2 else forecast)[rows])
        parts["mean"].append(one.values["mean"]["return"][rows, -1])
        months = samples.sessions[rows].astype("datetime64[M]").astype(np.int64)
        parts["month"].append(months.astype(float))
        parts["year"].append((months // 12 + 1970).astype(float))
    return {key: np.concatenate(value) if value else np.zeros(0) for key, value in parts.items()}


def _pooled_losses(forecasts: Mapping[str, Forecasts], head: str, model: str) -> FloatArray:
    """Losses of all classes, in the order of `_pooled`."""
    return np.concatenate([losses(one, head, model)[one.rows] for one in forecasts.values()])


def _metrics(head: str, part: dict[str, FloatArray]) -> dict[str, float]:
    answer, forecast = part["answer"], part["forecast"]
    if head == "return":
        return {
            "r2_zero": metric.r2_zero(answer, forecast),
            "r2_mean": metric.r2_against(answer, forecast, part["mean"]),
            "hit_rate": metric.hit_rate(answer, forecast) if np.any(forecast) else np.nan,  # no change has no direction
            "information_coefficient": metric.information_coefficient(answer, forecast),
            "information_coefficient_monthly": _monthly_coefficient(answer, forecast, part["month"]),
        }
    if head == "volatility":
        return {
            "qlike": metric.qlike(np.exp(answer), forecast),
            "log_mse": float(np.mean((answer - np.log(forecast)) ** 2)),
        }
    return {
        "brier": metric.brier(answer, forecast),
        "log_loss": metric.log_loss(answer, forecast),
        "hit_rate": float(np.mean((forecast > 0.5) == (answer > 0.5))),
        "calibration_error": metric.calibration_error(answer, forecast),
    }


def _monthly_coefficient(answer: FloatArray, forecast: FloatArray, month: FloatArray) -> float:
    """Mean over months of the rank correlation within the month; months in which either is constant are left out."""
    found = []
    for number in np.unique(month):
        rows = month == number
        if rows.sum() >= 10 and np.ptp(forecast[rows]) > 0 and np.ptp(answer[rows]) > 0:
            found.append(metric.information_coefficient(answer[rows], forecast[rows]))
    return float(np.mean(found)) if found else float("nan")
