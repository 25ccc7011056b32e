"""Every model on the same rows: one table of scores a model and head, and the same by year."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.metrics import forecast as metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]

RIVALS: dict[str, tuple[str, ...]] = {
    "return": ("zero", "mean"),
    "direction": ("base_rate",),
    "volatility": ("har", "constant"),
    "regime": ("threshold", "base_rate"),
}


def losses(forecasts: Forecasts, head: str, model: str) -> FloatArray:
    """(samples,) volatility-standardised loss of each answered out-of-sample forecast over the horizon, else NaN.

    `return`: squared error over sigma² · horizon; `direction`, `regime`: Brier; `volatility`: QLIKE.
    """
    samples = forecasts.samples
    answer = samples.targets[head].value[samples.ends]
    if model not in forecasts.values or head not in forecasts.values[model]:
        return np.full(len(samples), np.nan)
    forecast = forecasts.values[model][head]
    if head == "return":
        error: FloatArray = answer[:, -1] - forecast[:, -1]
        return error**2 / (samples.facts.sigma[samples.ends] ** 2 * samples.horizon)
    if head == "volatility":
        ratio = answer - np.log(forecast)
        return np.exp(ratio) - ratio - 1
    return (answer - forecast) ** 2


def score_tables(forecasts: Mapping[str, Forecasts]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows by model and head, rows by year) over all asset classes together.

    Rows have `model, head, step, n` and the head's metrics; the yearly ones `year, head, model, metric, value`, the
    metric being the gain over the head's rival in standardised loss. Every model is scored on the rows all models have.
    """
    tables: list[dict[str, Any]] = []
    years: list[dict[str, Any]] = []
    first = next(iter(forecasts.values()))
    for head in RIVALS:
        models = [name for name in first.values if head in first.values[name]]
        parts = {name: _pooled(forecasts, head, name) for name in models}
        loss_table = np.column_stack([parts[name]["loss"] for name in models])
        scored = np.isfinite(loss_table).all(1)
        if not scored.any():
            continue
        totals = dict(zip(models, loss_table[scored].mean(0), strict=True))
        rival = min((name for name in RIVALS[head] if name in totals), key=lambda name: totals[name])
        for name in models:
            row = {"model": name, "head": head, "step": first.samples.horizon, "n": int(scored.sum())}
            tables.append(
                row
                | _metrics(head, {key: value[scored] for key, value in parts[name].items()})
                | {"loss": totals[name], "gain": 1 - totals[name] / totals[rival], "rival": name == rival}
            )
        stamp = parts[models[0]]["year"]
        for year in np.unique(stamp[scored]):
            rows = scored & (stamp == year)
            for column, name in enumerate(models):
                if name in ("lstm", "forest", "logistic", "ridge", "ensemble"):
                    gain = 1 - loss_table[rows, column].mean() / loss_table[rows, models.index(rival)].mean()
                    row = {"year": int(year), "head": head, "model": name, "metric": "gain", "value": float(gain)}
                    years.append(row)
    return tables, years


def _pooled(forecasts: Mapping[str, Forecasts], head: str, model: str) -> dict[str, FloatArray]:
    """Answers, forecasts, losses, the mean's forecasts and years of all classes, one after the other."""
    parts: dict[str, list[FloatArray]] = {key: [] for key in ("answer", "forecast", "loss", "mean", "year", "month")}
    for one in forecasts.values():
        samples, rows = one.samples, one.rows
        answer, forecast = samples.targets[head].value[samples.ends], one.values[model][head]
        parts["answer"].append((answer[:, -1] if answer.ndim == 2 else answer)[rows])
        parts["forecast"].append((forecast[:, -1] if forecast.ndim == 2 else forecast)[rows])
        parts["loss"].append(losses(one, head, model)[rows])
        parts["mean"].append(one.values["mean"]["return"][rows, -1])
        months = samples.sessions[rows].astype("datetime64[M]").astype(np.int64)
        parts["month"].append(months.astype(float))
        parts["year"].append((months // 12 + 1970).astype(float))
    return {key: np.concatenate(value) if value else np.zeros(0) for key, value in parts.items()}


def _metrics(head: str, part: dict[str, FloatArray]) -> dict[str, float]:
    answer, forecast = part["answer"], part["forecast"]
    if head == "return":
        return {
            "r2_zero": metric.r2_zero(answer, forecast),
            "r2_mean": metric.r2_against(answer, forecast, part["mean"]),
            "hit_rate": metric.hit_rate(answer, forecast),
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
