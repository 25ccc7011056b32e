"""A new bar in, a forecast out: the run's own stages on the newest bars, with the models of its last refit.

Whatever the run has said stays as it was said; only rows after its last forecast are new. They pass through the same
functions as in `experiment.run`, so that a forecast made live is the forecast that a later run makes of that bar.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.experiment import decide
from gatecast.forecasting.conformal import HIGH, LOW, IntervalForecasts
from gatecast.forecasting.walkforward import Forecasts
from gatecast.market.bars import make_bars, session_date
from gatecast.results import Run, fills_of, keys_of, signals_frame, weights_frame
from gatecast.samples.targets import to_times
from gatecast.samples.windows import Samples
from gatecast.store import load_models, load_run, load_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def forecast_newest(folder: str | Path, bars: pl.DataFrame) -> list[dict[str, Any]]:
    """The newest forecast of every symbol of a saved run, one dictionary a symbol.

    Parameters
    ----------
    folder: a run on disk. bars: Bars frame with the newest bars; it may repeat those of the run, and what it has beyond
        them is added. Symbols that the run does not know are left out and named in `warnings`.

    Returns
    -------
    symbol, time (close at which the forecast is made), signal, z, consensus, strategy, weight (the symbol's own),
    evidence, reason, probability_up, expected_return_simple, volatility (variance over the horizon, close to close),
    regime_probability, path (expected cumulative log returns over 1..h bars), sigma_path (their standard deviations),
    intervals (one a level: `level`, `low` and `high` of the path), warnings.

    Raises `BarsError` when no symbol of the run is among the bars, `StoreError` for a run that cannot be trusted,
    `SettingsError` for bars of a sealed hold-out.
    """
    run = load_run(folder)
    models, scales = load_models(folder), load_scale(folder)
    experiment = run.experiment
    refuse_sealed(run, bars)
    merged, warnings = merge_bars(run.bars, bars)
    samples = experiment.make_samples(merged)
    fills = fills_of(merged)
    classes = {}
    for name, one in samples.items():
        if name not in models:
            warnings.append(f"{name}: the run has no fitted models of this asset class.")
            continue
        forecasts, due = continue_forecasts(run, one, models[name], scales[name])
        if due:
            warnings.append(f"{name}: {due} refit(s) are due since the run; its last models forecast on.")
        combined = experiment.combine(forecasts, since=len(forecasts.folds) - 1)
        classes[name] = decide(experiment, combined, merged, fills)
    if not classes:
        raise StoreError(f"{folder}: no asset class of the run could be forecast.")
    table = signals_frame(classes).join(weights_frame(classes, merged), on=["symbol", "time"])
    newest = table.group_by("symbol", maintain_order=True).last()
    details = {
        symbol: found for one in classes.values() for symbol, found in _details(one.samples, one.forecasts).items()
    }
    rows = []
    for row in newest.iter_rows(named=True):
        late = merged.filter(pl.col("symbol") == row["symbol"])["time"][-1]
        own = (
            [] if late == row["time"] else [f"no forecast at the newest bar, {late.isoformat()}: its window has gaps."]
        )
        rows.append({**row, **details[row["symbol"]], "warnings": warnings + own})
    return rows


def refuse_sealed(run: Run, bars: pl.DataFrame) -> None:
    """A forecast that reads the sealed hold-out would open it bar by bar. Raises `SettingsError`."""
    first = run.experiment.holdout
    if first is None or (run.scores.get("holdout") or {}).get("heads"):
        return
    if bars.select((session_date(pl.col("time")) >= pl.lit(first).str.to_date()).any()).item():
        raise SettingsError(
            f"the sessions from {first} on are sealed, and these bars have some: open them with `gatecast unseal`, or "
            "make a run without holdout to forecast from today's bars."
        )


def merge_bars(known: pl.DataFrame, newer: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The run's bars and what is newer, and what must be said about the two.

    The run's rows win: a forecast that was made is never changed by a later correction, which is named.
    """
    symbols = known["symbol"].unique()
    strange = newer.filter(~pl.col("symbol").is_in(symbols.implode()))["symbol"].unique().sort().to_list()
    newer = newer.filter(pl.col("symbol").is_in(symbols.implode()))
    if len(newer) == 0:
        raise BarsError(
            f"none of the run's symbols ({', '.join(symbols.sort().to_list()[:10])}) is among the bars"
            + (f" ({', '.join(strange[:10])})" if strange else "")
            + ": give a file with the same symbols, or name the symbol with --symbols."
        )
    warnings = [f"{symbol!r} is not in the run and was left out." for symbol in strange]
    both = newer.join(known.select("symbol", "time", was="close"), on=["symbol", "time"], how="inner")
    changed = both.filter((pl.col("close") / pl.col("was") - 1).abs() > 1e-9)
    if len(changed):
        symbol, time = changed.row(0, named=True)["symbol"], changed.row(0, named=True)["time"]
        warnings.append(
            f"{len(changed)} bars differ from those the run saw, the first {symbol!r} {time.isoformat()}: "
            "the run's are kept (revised_input). Run again to learn from the corrected ones."
        )
    last = known.group_by("symbol").agg(last=pl.col("time").max(), before=pl.col("segment").max())
    added = newer.join(last, on="symbol").filter(pl.col("time") > pl.col("last"))
    first = pl.col("segment").first().over("symbol")  # segments go on counting where the run's end
    added = added.with_columns(segment=(pl.col("before") + pl.col("segment") - first).cast(pl.Int32))
    if len(added) == 0:
        return known, [*warnings, "the file has no bar that is newer than the run's."]
    missing = [name for name in known.columns if name not in added.columns]
    if missing:
        raise BarsError(f"the run's bars have the columns {', '.join(missing)}, the new ones do not: add them.")
    return make_bars(pl.concat([known, added.select(known.columns)])), warnings


def continue_forecasts(
    run: Run, samples: Samples, models: dict[str, Any], scale: dict[str, FloatArray]
) -> tuple[Forecasts, int]:
    """The run's forecasts of a class on longer samples, later rows forecast by its last models; and refits now due."""
    every = run.experiment.schedule.folds(samples.times, samples.known_at)
    issued = run.scan_forecasts().filter(pl.col("symbol").is_in(list(samples.symbols))).collect()
    if len(issued) == 0:
        raise StoreError("the run has no forecasts to continue.")
    until = to_times(issued, "time").max()
    folds = [fold for fold in every if fold.cutoff <= until]
    later = np.flatnonzero(samples.times > until)
    last = replace(folds[-1], test=np.unique(np.r_[folds[-1].test, later]))
    folds = [fold.on(samples) for fold in (*folds[:-1], last)]
    values = _stored(issued, samples)
    for name, fitted in models.items():
        for head, fresh in (fitted.predict(samples, later) if len(later) else {}).items():
            values[name][head][later] = fresh
    bounds = np.cumsum([len(fold.validation) for fold in folds])[:-1]
    scales = {name: tuple(np.split(values, bounds)) for name, values in scale.items()}
    return Forecasts(samples, tuple(folds), values, scales, models), len(every) - len(folds)


def _stored(issued: pl.DataFrame, samples: Samples) -> dict[str, dict[str, FloatArray]]:
    """Stored forecasts as arrays over the samples."""
    keys = keys_of(samples, samples.decided).with_row_index("row")
    table = issued.join(keys, on=["symbol", "time"], how="inner")
    values: dict[str, dict[str, FloatArray]] = {}
    for (model, head), part in table.group_by("model", "head", maintain_order=True):
        wide = head == "return" or str(head).startswith((LOW, HIGH))
        array = np.full((len(samples), samples.horizon) if wide else len(samples), np.nan)
        rows = part["row"].to_numpy()
        if wide:
            array[rows, part["step"].to_numpy() - 1] = part["value"].to_numpy()
        else:
            array[rows] = part["value"].to_numpy()
        values.setdefault(str(model), {})[str(head)] = array
    return values


def _details(samples: Samples, forecasts: Forecasts) -> dict[str, dict[str, Any]]:
    """symbol -> the ensemble's numbers at its newest forecast."""
    found = {}
    ensemble, rows = forecasts.values["ensemble"], forecasts.rows
    made = IntervalForecasts.of_heads(ensemble)
    steps = np.arange(1, samples.horizon + 1)
    for number, symbol in enumerate(samples.symbols):
        own = rows[samples.symbol[samples.ends[rows]] == number]
        if len(own) == 0:
            continue
        row = own[-1]
        variance = float(ensemble["volatility"][row] * samples.facts.ratio[samples.ends[row]])
        found[symbol] = {
            "probability_up": float(ensemble["direction"][row]),
            "expected_return_simple": float(ensemble["return_simple"][row]),
            "volatility": variance,
            "regime_probability": float(ensemble["regime"][row]),
            "path": ensemble["return"][row].tolist(),
            "sigma_path": np.sqrt(variance * steps / samples.horizon).tolist(),
            "intervals": [
                {"level": level, "low": made.low[row, :, i].tolist(), "high": made.high[row, :, i].tolist()}
                for i, level in enumerate(made.levels)
            ]
            if made
            else [],
        }
    return found
