"""Data of the figures: a run -> dictionaries of lists that JSON can hold, one function each.

How they look is in `drawing`. A figure whose parts are missing from the run is `None`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.forecasting.panel import ENSEMBLE, PICTURED, PICTURED_RIVALS, RIVAL
from gatecast.market.bars import session_date
from gatecast.newest import variance_ratios
from gatecast.report.words import Names, is_number, named
from gatecast.trading.book import BOUGHT, CASH, TILTED
from gatecast.trading.strategies import strategy_titles

if TYPE_CHECKING:
    from gatecast.runs import Run

Data = dict[str, Any]


def part(frame: pl.DataFrame, *columns: str) -> pl.DataFrame | None:
    """A frame of a run, or None where it is empty or lacks one of the columns."""
    return None if frame.is_empty() or not set(columns) <= set(frame.columns) else frame


def names_of(run: Run) -> Names:
    """Model -> title, as the run's scores have them; empty of a run that was saved without."""
    return run.scores.get("names") or {}


def titles_of(run: Run) -> dict[str, str]:
    """Strategy -> title, with the models that give the run's signals."""
    signals = run.experiment.signals
    return strategy_titles(signals.model, signals.confirmed_by, run.experiment.strategy, names_of(run))


def is_daily(times: pl.Series) -> bool:
    """Whether closes are a day or more apart (a single one counts as daily)."""
    spacing = times.diff().median()
    return not isinstance(spacing, timedelta) or spacing >= timedelta(hours=20)


def bar_labels(times: pl.Series, daily: bool | None = None) -> list[str]:
    """Closes as text: the session's date where bars are a day or longer, else date and minute (UTC)."""
    if is_daily(times) if daily is None else daily:
        return pl.select(session_date(pl.lit(times)).cast(pl.String)).to_series().to_list()
    return times.dt.strftime("%Y-%m-%d %H:%M").to_list()


def rounded(values: pl.Series, digits: int = 5) -> list[float | None]:
    """So many significant digits; None for what is not finite."""
    cleaned = values.cast(pl.Float64)
    return cleaned.round_sig_figs(digits).set(~cleaned.is_finite(), None).to_list()


def _thinned(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """About `most` evenly spaced rows, the last one always among them."""
    every = -(-frame.height // most) or 1
    return frame.reverse().gather_every(every).reverse()


def _horizon(forecasts: pl.LazyFrame, head: str) -> int | None:
    step: int | None = forecasts.filter(pl.col("head") == head).select(pl.col("step").max()).collect().item()
    return step


def preferred(names: list[str], order: Sequence[str], most: int) -> list[str]:
    """The first of `order` that are among the names, at most so many."""
    return [name for name in order if name in names][:most]


# ── forecasts against outcomes ────────────────────────────────────────────────────────────────────


def outcomes(bars: pl.DataFrame, step: int) -> pl.DataFrame:
    """What followed each close: `symbol, time, ret_log, variance, scale`.

    `ret_log` is the cumulative log return and `variance` the sum of squared log returns over the next `step`
    bars of the same segment (null near its end); `scale` is the s.d. of a `step`-bar return judged by the
    last 60 bars.
    """
    groups = ["symbol", "segment"] if "segment" in bars.columns else ["symbol"]
    close = pl.col("close").log()
    ret = close.diff().over(groups)
    return (
        bars.sort("symbol", "time")
        .with_columns(ret=ret)
        .select(
            "symbol",
            "time",
            ret_log=(close.shift(-step) - close).over(groups),
            variance=pl.col("ret").pow(2).rolling_sum(step).shift(-step).over(groups),
            scale=pl.col("ret").rolling_std(60, min_samples=20).over(groups) * np.sqrt(step),
        )
    )


def _against_outcomes(run: Run, head: str, models: Sequence[str]) -> tuple[int, pl.DataFrame] | None:
    """The horizon, and `symbol, time, model, value` beside what followed, for one head's longest step."""
    forecasts, bars = run.scan_forecasts(), part(run.bars, "symbol", "time", "close")
    step = _horizon(forecasts, head)
    if bars is None or step is None:
        return None
    chosen = forecasts.filter(
        pl.col("head") == head,
        pl.col("step") == step,
        pl.col("model").is_in(models),
        pl.col("value").is_finite(),
    ).collect()
    joined = chosen.join(outcomes(bars, step), on=["symbol", "time"], how="inner").drop_nulls(["ret_log", "variance"])
    return None if joined.is_empty() else (step, joined)


def binned_means(frame: pl.DataFrame, step: int, bins: int = 10) -> pl.DataFrame:
    """Means of `actual` in equally full bins of `forecast`: `forecast, actual, error, n`.

    In: `time, forecast, actual`. `error` is two standard errors of the mean over days (symbols of one day are
    averaged first), with the days divided by `step` because neighbouring answers share `step - 1` bars.

    >>> frame = pl.DataFrame({"time": range(100), "forecast": range(100), "actual": [0.0, 1.0] * 50})
    >>> binned_means(frame, step=1, bins=2)["actual"].to_list()
    [0.5, 0.5]
    """
    rank = (pl.col("forecast").rank("average") - 1) * bins / pl.len()
    days = (
        frame.with_columns(bin=rank.floor().cast(pl.Int32))
        .group_by("bin", "time", maintain_order=True)
        .agg(pl.col("forecast").mean(), pl.col("actual").mean(), n=pl.len())
    )
    return (
        days.group_by("bin", maintain_order=True)
        .agg(
            pl.col("forecast").mean(),
            pl.col("actual").mean(),
            error=2 * pl.col("actual").std() / (pl.len() / step).sqrt(),
            n=pl.col("n").sum(),
        )
        .sort("bin")
        .drop("bin")
    )


def _binned_data(step: int, frame: pl.DataFrame, models: list[str], names: Names) -> Data:
    series = []
    for model in models:
        means = binned_means(frame.filter(pl.col("model") == model), step)
        series.append(
            {"model": model, "title": named(model, names), **{c: rounded(means[c], 4) for c in means.columns}}
        )
    return {"horizon": step, "series": series}


def returns_data(run: Run) -> Data | None:
    """Return forecasts in ten bins against what followed, both in units of `outcomes`' `scale`."""
    found = _against_outcomes(run, "return", PICTURED["return"])
    if found is None:
        return None
    step, frame = found
    frame = frame.filter(pl.col("scale") > 0).with_columns(
        forecast=pl.col("value") / pl.col("scale"), actual=pl.col("ret_log") / pl.col("scale")
    )
    models = preferred(frame["model"].unique().to_list(), PICTURED["return"], 2)
    return _binned_data(step, frame, models, names_of(run)) if models else None


def reliability_data(run: Run) -> Data | None:
    """Probabilities of a rise in ten bins against the share that rose."""
    order = PICTURED["direction"]
    found = _against_outcomes(run, "direction", order)
    if found is None:
        return None
    step, frame = found
    frame = frame.with_columns(forecast=pl.col("value"), actual=(pl.col("ret_log") > 0).cast(pl.Float64))
    return _binned_data(step, frame, preferred(frame["model"].unique().to_list(), order, 2), names_of(run))


def volatility_data(run: Run) -> Data | None:
    """Forecast and realised volatility over time, close to close, annualised: the median over symbols, no overlaps.

    Forecasts in the unit of a range proxy are brought to that of the squared returns from close to close.
    """
    rival = (run.scores.get("verdicts") or {}).get("volatility", {}).get("rival")
    backtest = run.scores.get("backtest") or {}
    periods = backtest.get("bars_per_year", backtest.get("periods_per_year"))
    order = PICTURED["volatility"]
    rivals = (*((rival,) if rival else ()), *PICTURED_RIVALS)
    found = _against_outcomes(run, "volatility", order + rivals)
    if found is None or periods is None:
        return None
    step, frame = found
    ratios = variance_ratios(run.scan_forecasts()).collect()
    frame = frame.join(ratios, on=["symbol", "time"], how="inner", maintain_order="left")
    frame = frame.with_columns(value=pl.col("value") * pl.col("ratio"))
    if frame.is_empty():
        return None
    present = frame["model"].unique().to_list()
    models = preferred(present, order, 1) + preferred(present, rivals, 1)
    days = (
        frame.filter(pl.col("model").is_in(models))
        .pivot(on="model", index=["symbol", "time", "variance"], values="value", aggregate_function="first")
        .group_by("time", maintain_order=True)
        .agg((pl.col("variance", *models).median() * periods / step).sqrt())
        .sort("time")
    )
    shown = days.gather_every(max(step, -(-days.height // 1000)))
    return {
        "horizon": step,
        "time": bar_labels(shown["time"]),
        "realised": rounded(shown["variance"], 3),
        "series": [
            {"model": model, "title": named(model, names_of(run)), "volatility": rounded(shown[model], 3)}
            for model in models
        ],
    }


# ── money ─────────────────────────────────────────────────────────────────────────────────────────


def wealth_data(run: Run, most: int = 1200) -> Data | None:
    """Wealth from 1 net, gross and of the benchmark; drawdown of net and benchmark; costs added up."""
    return _wealth(part(run.equity, "time", "gross", "net", "equity", "benchmark"), most)


def _wealth(equity: pl.DataFrame | None, most: int) -> Data | None:
    if equity is None:
        return None
    days = equity.sort("time").with_columns(
        gross_wealth=(1 + pl.col("gross").fill_null(0)).clip(lower_bound=0).cum_prod(),
        drawdown=pl.col("equity") / pl.max_horizontal(pl.col("equity").cum_max(), 1.0) - 1,
        benchmark_drawdown=pl.col("benchmark") / pl.max_horizontal(pl.col("benchmark").cum_max(), 1.0) - 1,
        costs=(pl.col("gross") - pl.col("net")).fill_null(0).cum_sum(),
    )
    shown = _thinned(days, most)
    return {
        "time": bar_labels(shown["time"], is_daily(days["time"])),
        "net": rounded(shown["equity"]),
        "gross": rounded(shown["gross_wealth"]),
        "benchmark": rounded(shown["benchmark"]),
        "drawdown": rounded(shown["drawdown"], 4),
        "benchmark_drawdown": rounded(shown["benchmark_drawdown"], 4),
        "costs": rounded(shown["costs"], 4),
    }


def book_data(run: Run) -> Data | None:
    """Equity from 1 of each line of the book and of cash, net of all costs; gatecast's line last, drawn on top."""
    found = run.scores.get("book") or {}
    curve, capital = found.get("curve") or {}, found.get("capital")
    if not (curve.get("day") and is_number(capital) and capital > 0):
        return None
    titles = {line["line"]: line["title"] for line in found.get("lines") or []} | {CASH: CASH}
    return {
        "day": [str(day) for day in curve["day"]],
        "series": [
            {"line": name, "title": title, "equity": [_share_of(value, capital) for value in curve[name]]}
            for name, title in sorted(titles.items(), key=lambda one: _DRAWN.get(one[0], 2))
            if name in curve
        ],
    }


_DRAWN = {CASH: 0, BOUGHT: 1, RIVAL: 3, TILTED: 4, ENSEMBLE: 5}
"""Line of the book -> its place when drawn; the others between, as they come."""


def _share_of(value: Any, capital: float) -> float | None:
    """Equity over capital, to six digits; None where a log scale has no place for it."""
    return float(f"{value / capital:.6g}") if is_number(value) and value > 0 else None


def strategies_data(run: Run) -> Data | None:
    """Share of bars that each strategy was in force, by calendar year."""
    signals = part(run.signals, "time", "strategy")
    if signals is None:
        return None
    counts = (
        signals.drop_nulls("strategy")
        .group_by(year=session_date(pl.col("time")).dt.year(), strategy="strategy")
        .len()
        .with_columns(share=pl.col("len") / pl.col("len").sum().over("year"))
    )
    if counts.is_empty():
        return None
    years = counts["year"].unique().sort().to_list()
    shares = {(y, s): v for y, s, v in counts.select("year", "strategy", "share").iter_rows()}
    return {
        "year": years,
        "titles": titles_of(run),
        "series": [
            {"strategy": s, "share": [round(shares.get((y, s), 0.0), 4) for y in years]}
            for s in counts["strategy"].unique().sort().to_list()
        ],
    }


def bunching_data(run: Run) -> Data | None:
    """Share of bars that carry a signal, by the number of bars since the refit."""
    signals = run.scores.get("signals") or {}
    found = signals.get("by_day_of_month_bar")
    if not found:
        return None
    pairs = found.items() if isinstance(found, dict) else enumerate(found, start=1)
    points = sorted((int(bar), float(share)) for bar, share in pairs if share is not None)
    return {"bar": [p[0] for p in points], "share": [round(p[1], 4) for p in points]} if points else None


def control_data(run: Run) -> Data | None:
    """The planted market's wealth, net and benchmark."""
    control = run.scores.get("control") or {}
    equity = control.get("equity")
    if equity is None or len(equity) == 0:
        return None
    frame = equity if isinstance(equity, pl.DataFrame) else pl.DataFrame(equity)
    if not {"equity", "benchmark"} <= set(frame.columns):
        return None
    if "time" not in frame.columns:
        frame = frame.with_row_index("time")
    elif frame["time"].dtype == pl.String:
        text = pl.col("time").str.head(19).str.replace("T", " ")
        frame = frame.with_columns(text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False))
    shown = _thinned(frame, 400)
    labels = (
        bar_labels(shown["time"], is_daily(frame["time"]))
        if shown["time"].dtype.is_temporal()
        else shown["time"].to_list()
    )
    return {"time": labels, "net": rounded(shown["equity"]), "benchmark": rounded(shown["benchmark"])}


def selection_data(run: Run) -> Data | None:
    """Share of each feature in what the LSTM takes in, with its lowest and highest over the refits, by asset class."""
    found = run.scores.get("selection") or {}
    columns = ("feature", "mean", "low", "high")
    series = [{"asset_class": name, **{c: [row[c] for row in rows] for c in columns}} for name, rows in found.items()]
    return {"series": series} if series else None


def tuning_data(run: Run) -> Data | None:
    """Importance of each setting that was searched for, the largest first, by asset class."""
    found = run.scores.get("tuning") or {}
    series = [
        {"asset_class": one["asset_class"], "setting": list(shares), "share": list(shares.values())}
        for one in found.get("classes") or []
        if (shares := dict(sorted(one["importance"].items(), key=lambda item: -item[1])))
    ]
    return {"series": series} if series else None


def coverage_data(run: Run) -> Data | None:
    """Share of the answers inside the intervals of the last step, year by year."""
    rows = run.scores.get("coverage") or []
    years = [row for row in rows if row["scope"] == "year"]
    if not years:
        return None
    last = max(row["step"] for row in years)
    levels = sorted({row["level"] for row in years})
    kept = {level: [row for row in years if row["step"] == last and row["level"] == level] for level in levels}
    return {
        "horizon": last,
        "series": [
            {"level": level, "year": [int(row["part"]) for row in of], "coverage": [row["coverage"] for row in of],
             "days": [row["days"] for row in of]}
            for level, of in kept.items()
        ],
    }  # fmt: skip


FIGURES: dict[str, Callable[[Run], Data | None]] = {
    "control": control_data,
    "returns": returns_data,
    "reliability": reliability_data,
    "volatility": volatility_data,
    "coverage": coverage_data,
    "book": book_data,
    "wealth": wealth_data,
    "strategies": strategies_data,
    "bunching": bunching_data,
    "selection": selection_data,
    "tuning": tuning_data,
}
"""Name -> Run to data, in the order of the page; `candles` has the chart of each symbol."""
