"""Tables of scores: every model of a record on the same rows, by model and head, by year, and without each symbol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.record import gain_over
from gatecast.forecasting.panel import BY_YEAR, PAST_MEAN, RIVAL
from gatecast.metrics import forecast as metric

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record

    FloatArray = NDArray[np.float64]


def score_tables(records: Mapping[str, Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Head -> record in, (rows by model and head, rows by year) out, over all asset classes together.

    Rows have `model, head, step, n` and the head's metrics; the yearly ones `year, head, model, metric, value`, the
    metric being the gain over the head's rival in force, in standardised loss. Every model is scored on the rows that
    all models have. `loss` and `gain` are means over days, as those of the verdict and of `many_models`, so that a
    model has one gain; the other metrics count every row alike.
    """
    tables: list[dict[str, Any]] = []
    years: list[dict[str, Any]] = []
    for head, record in records.items():
        models = list(record.forecasts)
        if RIVAL not in models:
            continue
        loss_table = np.column_stack([record.losses(name) for name in models])
        scored = np.asarray(np.isfinite(loss_table).all(axis=1), np.bool_)
        if not scored.any():
            continue
        by_day, day = _daily(record.day[scored], loss_table[scored])
        totals = dict(zip(models, by_day.mean(0), strict=True))
        answered = record.of_rows(scored)
        mean = answered.forecasts[PAST_MEAN] if head == "return" and PAST_MEAN in models else None
        for name in models:
            row = {"model": name, "head": head, "step": record.horizon, "n": int(scored.sum())}
            tables.append(
                row
                | _metrics(answered, answered.forecasts[name], mean)
                | {"loss": totals[name], "gain": gain_over(totals[RIVAL], totals[name]), "rival": name == RIVAL}
            )
        stamp = day.astype("datetime64[Y]").astype(np.int64) + 1970
        for year in np.unique(stamp):
            rows = stamp == year
            for column, name in enumerate(models):
                if name in BY_YEAR:
                    base = float(by_day[rows, models.index(RIVAL)].mean())
                    gain = gain_over(base, float(by_day[rows, column].mean()))
                    row = {"year": int(year), "head": head, "model": name, "metric": "gain", "value": gain}
                    years.append(row)
    return tables, years


def _daily(day: NDArray[np.datetime64], table: FloatArray) -> tuple[FloatArray, NDArray[np.datetime64]]:
    """(days, models) means of the rows of a table of losses, and the days."""
    days, place = np.unique(day, return_inverse=True)
    sums = np.column_stack([np.bincount(place, column) for column in table.T])
    return sums / np.bincount(place)[:, None], days


def _metrics(record: Record, forecast: FloatArray, mean: FloatArray | None) -> dict[str, float]:
    """Metrics of (rows,) forecasts that are all answered; `mean`: (rows,) the historical mean's, of returns."""
    head, answer = record.head, record.answer
    if head == "return":
        return {
            "r2_zero": metric.r2_zero(answer, forecast),
            "r2_mean": np.nan if mean is None else metric.r2_against(answer, forecast, mean),
            "hit_rate": metric.hit_rate(answer, forecast) if np.any(forecast) else np.nan,  # no change has no direction
            "information_coefficient": metric.information_coefficient(answer, forecast),
            "information_coefficient_monthly": _monthly_coefficient(
                answer, forecast, record.day.astype("datetime64[M]")
            ),
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


def _monthly_coefficient(answer: FloatArray, forecast: FloatArray, day: NDArray[np.datetime64]) -> float:
    """Mean over months of the rank correlation within the month; months in which either is constant are left out."""
    found, month = [], day.astype("datetime64[M]")
    for number in np.unique(month):
        rows = month == number
        if rows.sum() >= 10 and np.ptp(forecast[rows]) > 0 and np.ptp(answer[rows]) > 0:
            found.append(metric.information_coefficient(answer[rows], forecast[rows]))
    return float(np.mean(found)) if found else float("nan")


def gains_without(record: Record, model: str, rival: str = RIVAL) -> dict[str, float]:
    """Symbol -> the model's gain over the rival, a share of its loss, if that symbol were not there.

    The gain is that of a verdict: means over symbols by day, then over days. Of one symbol alone nothing is left: no
    row. A symbol stands in every asset class for itself.
    """
    base, loss = record.losses(rival), record.losses(model)
    rows = np.flatnonzero(np.isfinite(base) & np.isfinite(loss))
    base, loss = base[rows], loss[rows]
    symbols = np.array(record.symbols, dtype=object)[record.symbol[rows]]
    _, day = np.unique(record.day[rows], return_inverse=True)
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
