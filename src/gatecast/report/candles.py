"""Data of the charts of symbols: recent bars, what was held, signals, what was forecast of each close and is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.forecasting.panel import ENSEMBLE, PICTURED
from gatecast.newest import variance_ratios
from gatecast.report.figures import Data, bar_labels, names_of, part, preferred, rounded, titles_of
from gatecast.report.words import named

if TYPE_CHECKING:
    from gatecast.runs import Run

MOST_BARS, FEWEST_BARS, ALL_BARS = 500, 60, 7_500
"""Bars of one chart at most and at least, and of all charts of a page together as far as the least allows."""


def charts_data(run: Run, since: Mapping[str, str | None]) -> dict[str, Data]:
    """Symbol -> the data of its chart, in the order of `since`, which says since when a symbol has no bar, if so.

    The more symbols, the fewer bars each chart has: a page stays readable on a telephone.
    """
    bars = part(run.bars, "symbol", "time", *PRICES)
    if bars is None or not since:
        return {}
    most = min(MOST_BARS, max(FEWEST_BARS, ALL_BARS // len(since)))
    recent = bars.sort("symbol", "time").group_by("symbol", maintain_order=True).tail(most)
    shown = PICTURED["return"][:2]
    starts = recent.group_by("symbol").agg(start=pl.col("time").min())
    forecasts = (
        run.scan_forecasts().filter(pl.col("model").is_in({ENSEMBLE, *shown}))
        .join(starts.lazy(), on="symbol").filter(pl.col("time") >= pl.col("start")).drop("start").collect()
    )  # fmt: skip
    found: dict[str, Data] = {}
    for symbol, ended in since.items():
        own = forecasts.filter(pl.col("symbol") == symbol)
        data = candles_data(run, symbol, most, since=ended, forecasts=own)
        found |= {symbol: data} if data else {}
    return found


PRICES = ("open", "high", "low", "close")


def candles_data(
    run: Run,
    symbol: str,
    most: int = MOST_BARS,
    *,
    since: str | None = None,
    forecasts: pl.DataFrame | None = None,
    known: pl.DataFrame | None = None,
) -> Data | None:
    """The last bars of one symbol with signals, weight and strategy, what was forecast, and the newest forecast's fan.

    `held`: share of its equity that the book holds after each close, once the trade is filled; `weight`: what the
    strategies have by themselves; None each where the run has none. A signal counts as traded where the weight decided
    at that close is on its side; `z` is there where there is a signal. `since`: since when the symbol has no bar, in
    words; it then has no fan. `forecasts`: those of the symbol, where they were read already. `known`: see `past_data`.
    """
    bars = part(run.bars, "symbol", "time", *PRICES)
    if bars is None:
        return None
    bars = bars.filter(pl.col("symbol") == symbol).sort("time").tail(most)
    if bars.is_empty():
        return None
    own = run.scan_forecasts().filter(pl.col("symbol") == symbol).collect() if forecasts is None else forecasts
    volume = bars["volume"] if "volume" in bars.columns else pl.Series([None] * bars.height, dtype=pl.Float64)
    keys = ["symbol", "time"]
    for whole, columns in (
        (run.weights, ["weight"]),
        (run.book.drop_nulls("time"), ["held"]),
        (run.signals, ["z", "signal", "consensus", "strategy", "evidence"]),
    ):
        frame = part(whole, *keys, *columns)
        bars = (
            bars.with_columns(pl.lit(None).alias(c) for c in columns)
            if frame is None
            else bars.join(frame.select(*keys, *columns), on=keys, how="left", maintain_order="left")
        )
    side = bars["signal"].cast(pl.Float64) * bars["weight"].cast(pl.Float64)
    return {
        "symbol": symbol,
        "time": bar_labels(bars["time"]),
        **{c: rounded(bars[c], 6) for c in PRICES},
        "volume": rounded(volume, 4) if volume.sum() > 0 else None,
        "held": rounded(bars["held"], 4),
        "weight": rounded(bars["weight"], 3),
        "signal": bars["signal"].fill_null(0).cast(pl.Int8).to_list(),
        "z": rounded(bars["z"].set(bars["signal"].fill_null(0) == 0, None), 3),
        "consensus": bars["consensus"].fill_null(False).to_list(),
        "traded": (side > 0).fill_null(False).to_list(),
        "strategy": bars["strategy"].to_list(),
        "titles": titles_of(run),
        "since": since,
        "fan": None if since else _fan(run, own, bars),
        "past": past_data(own, bars, known),
    }


def past_data(own: pl.DataFrame, bars: pl.DataFrame, known: pl.DataFrame | None = None) -> Data | None:
    """What was forecast for each close, and the regime that was forecast at it: `low`, `high`, `turbulent`, `step`.

    own: forecasts of a symbol. bars: its closes, in order. `low`, `high`: prices one standard deviation around the path
    that was forecast `step` bars before, the last step; `turbulent`: whether a turbulent regime of the coming
    bars was the likelier one; None each where nothing was forecast, and None where nothing ever was. `known`: symbol,
    time and close as it was known when its forecast was issued, where bars may have been corrected since: the path
    begins there.
    """
    own = own.filter(pl.col("model") == ENSEMBLE)
    if own.is_empty():
        return None
    last = own.filter(pl.col("step") == pl.col("step").max().over("head"))
    table = bars.select("symbol", "time", "close")
    if known is not None:
        table = table.join(known, on=["symbol", "time"], how="left", maintain_order="left", suffix="_then")
        table = table.with_columns(close=pl.coalesce("close_then", "close"))
    for head in ("return", "volatility", "regime"):
        of_head = last.filter(pl.col("head") == head).select("time", pl.col("value").alias(head))
        table = table.join(of_head, on="time", how="left", maintain_order="left")
    table = table.join(variance_ratios(own.lazy()).select("time", "ratio").collect(), on="time", how="left")
    table = table.sort("time")
    step = int(last.filter(pl.col("head") == "return")["step"].max() or 1)  # type: ignore[arg-type]
    spread = (pl.col("volatility") * pl.col("ratio")).sqrt()
    ends = table.select(
        low=(pl.col("close") * (pl.col("return") - spread).exp()).shift(step),
        high=(pl.col("close") * (pl.col("return") + spread).exp()).shift(step), turbulent=pl.col("regime") > 0.5,
    )  # fmt: skip
    sides = {name: rounded(ends[name], 5) for name in ("low", "high")}
    return {"step": step, **sides, "turbulent": ends["turbulent"].to_list()}


def _fan(run: Run, own: pl.DataFrame, bars: pl.DataFrame) -> Data | None:
    """Expected price and its intervals (or s.d. close to close) at steps 0..h after the newest forecast's bar.

    Without the ensemble, from which the unit of a variance close to close follows, there is no width.
    """
    own = own.filter(pl.col("value").is_finite())
    paths = own.filter(pl.col("head") == "return", pl.col("model").is_in(PICTURED["return"][:2]))
    if paths.is_empty():
        return None
    origin = paths["time"].max()
    paths = paths.filter(pl.col("time") == origin)
    lengths = dict(paths.group_by("model").len().iter_rows())
    model = max(lengths, key=lambda name: (lengths[name], name == ENSEMBLE))
    path = paths.filter(pl.col("model") == model).sort("step")
    at = bars["time"].index_of(origin)
    if at is None:
        return None
    steps = [0, *path["step"].to_list()]
    mid = np.array([0.0, *path["value"].to_list()])
    close = bars["close"][at]
    spread, width_from = None, None
    ratio = variance_ratios(own.lazy()).filter(pl.col("time") == origin).collect()
    variances = own.filter(pl.col("head") == "volatility", pl.col("time") == origin, pl.col("value") > 0)
    for width_from in preferred(variances["model"].to_list(), (ENSEMBLE,), ratio.height):
        row = variances.filter(pl.col("model") == width_from).sort("step").tail(1)
        spread = np.sqrt(row["value"][0] * ratio["ratio"][0] * np.array(steps) / row["step"][0])

    def price(log_move: np.ndarray[Any, Any]) -> list[float | None]:
        return rounded(pl.Series(close * np.exp(log_move)), 6)

    bands = (
        {}
        if spread is None
        else {
            f"{side}_{n}": price(mid + sign * n * spread) for n in (1, 2) for side, sign in (("low", -1), ("high", 1))
        }
    )
    names = ["± 1 s.d., close to close", "± 2 s.d., close to close"]
    ends = own.filter(
        pl.col("time") == origin, pl.col("model") == model, pl.col("head").str.contains("^return_(low|high)_")
    ).sort("step")
    levels = sorted({float(head.rsplit("_", 1)[1]) for head in ends["head"]})
    if len(levels) >= 2:
        names = [f"{level:g} % interval" for level in (levels[0], levels[-1])]
        for n, level in ((1, levels[0]), (2, levels[-1])):
            for side in ("low", "high"):
                at_step = ends.filter(pl.col("head") == f"return_{side}_{level:g}")["value"].to_list()
                bands[f"{side}_{n}"] = price(np.array([0.0, *at_step]))
    return {
        "origin": at,
        "step": steps,
        "path": price(mid),
        "model": model,
        "title": named(model, names_of(run)),
        "width_from": width_from if spread is not None else None,
        "bands": names,
        **bands,
    }
