"""Forecasts of variance on any bars: the log-HAR, the linear blend, and the blend with the LSTM's correction.

    python benchmarks/volatility.py --bars FILE [--symbols-file FILE] [--proxy COLUMN] [--start DATE] [--end DATE]
    python benchmarks/volatility.py --bars FILE --timezone UTC --stamp open --linear    bars within the day

For each horizon three lines. `yardstick`: mean QLIKE of the log-HAR, one a symbol, refitted monthly on all that is
known. `linear` and `final`: the mean over symbols of each one's ratio to it, in QLIKE and in the mean squared error of
the log; Diebold-Mariano's t (HLN) of the daily mean loss against the log-HAR; the share of symbols that are better.
`lstm`: what the correction adds to the linear blend; with `--linear` there is none. `beyond`: the share of the last of
these forecasts of which what came is more than a factor of e² away, and the ten that were furthest off. `--json` prints
one line. A file may hold closes and a column of realised variances alone. Models are those of a run: within the day
they know the hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gatecast.forecasting.combining.choice import Learning
from gatecast.forecasting.combining.variance import correct_variance, correction_of, mix_variances
from gatecast.forecasting.forecaster import Task
from gatecast.forecasting.models.residual_lstm import ResidualLSTM
from gatecast.forecasting.panel import EWMA_OF_RETURNS, PANEL
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import Forecasts, walk_forward
from gatecast.market.bars import session_date
from gatecast.market.sources import read_bars
from gatecast.metrics.significance import diebold_mariano
from gatecast.samples.windows import Samples, make_samples

HORIZONS = (1, 5, 22)
LEAST = 200  # forecasts of a symbol before it counts
LINEAR = ("har_symbol", "har_class", "har_concentration", "har_smooth", "har")
BASE = np.full(len(LINEAR), 1 / len(LINEAR))
FAR = 2.0  # in logs, of a forecast from what came


def read(given: argparse.Namespace) -> pl.DataFrame:
    """The bars; of a file that has closes alone, opens, highs and lows are the closes, so that ranges say nothing."""
    source: Any = given.bars
    path = Path(given.bars)
    if path.suffix in (".parquet", ".csv") and path.is_file():
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, try_parse_dates=True)
        names = {name.lower(): name for name in frame.columns}
        close = next((names[name] for name in ("close", "close_price", "price") if name in names), None)
        if close is not None and not names.keys() & {"open", "high", "low"}:
            frame = with_moving_closes(frame.rename({close: "close"}), given.proxy)
            source = frame.with_columns(open=pl.col("close"), high=pl.col("close"), low=pl.col("close"))
            print("closes alone: ranges and gaps are taken as 0", file=sys.stderr)
    stamps = {name: value for name in ("timezone", "stamp") if (value := getattr(given, name))}
    return read_bars(source, symbols_file=given.symbols_file, asset_class=given.asset_class, end=given.end, **stamps)


def with_moving_closes(frame: pl.DataFrame, proxy: str) -> pl.DataFrame:
    """Where no close moves at all, as of a file of variances alone: returns of one deviation, in turn up and down."""
    if proxy not in frame.columns or frame["close"].n_unique() > 1:
        return frame
    print("closes that never move: returns are taken as the root of the variance, up and down in turn", file=sys.stderr)
    symbol = next((name for name in frame.columns if name.lower() in ("symbol", "ticker")), None)
    turn = 1 - 2 * (pl.int_range(pl.len()) % 2)
    close = 100 * (pl.col(proxy).clip(lower_bound=0).sqrt().fill_null(0) * turn).cum_sum().exp()
    return frame.with_columns(close=close.over(symbol) if symbol else close)


def linear_blend(made: Forecasts) -> np.ndarray:
    """(samples,) the mixture of `LINEAR` as a run makes it."""
    members = {name: made.values[name]["volatility"] for name in LINEAR}
    return mix_variances(made, members, BASE, np.full(len(made.samples), np.nan), Learning())


def forecasts_of(samples: Samples, horizon: int, seeds: int, jobs: int) -> dict[str, np.ndarray]:
    """Line -> (samples,) variance forecast out of sample, monthly refits; without `final` where `seeds` is 0."""
    models = [PANEL[name].forecaster for name in (*LINEAR, EWMA_OF_RETURNS)]
    if seeds:
        models.append(ResidualLSTM(lookback=samples.lookback, horizon=horizon, seeds=seeds))
    made = walk_forward(models, samples, Schedule(minimum="1Y"), Task(jobs=jobs))
    values = {name: heads["volatility"] for name, heads in made.values.items()}
    linear = linear_blend(made)
    found = {"har": values["har"], "ewma": values[EWMA_OF_RETURNS], "linear": linear}
    if seeds:
        correction = correction_of(values["residual_lstm"], values["har_symbol"], values["har_class"])
        found["final"] = correct_variance(made, linear, correction, np.full(len(samples), np.nan))
    return found


def losses(bars: pl.DataFrame, proxy: str, horizon: int, first: np.datetime64, seeds: int, jobs: int) -> pl.DataFrame:
    """symbol, class, day, for each line its QLIKE and squared error of the log, and logs of forecast and answer."""
    parts = []
    for name, samples in make_samples(bars, ("ret_log_1",), horizon=horizon, volatility_proxy=proxy).items():
        if not Schedule(minimum="1Y").folds(samples.times, samples.known_at):
            continue
        made = forecasts_of(samples, horizon, seeds, jobs)
        answer = samples.targets["volatility"].value[samples.ends]
        days = session_date(samples.times).astype("datetime64[D]")
        good = np.isfinite(answer) & (days >= first)
        for forecast in made.values():
            good &= np.isfinite(forecast)
        columns: dict[str, Any] = {
            "symbol": np.array(samples.symbols, dtype=object)[samples.symbol[samples.ends]][good],
            "class": np.full(int(good.sum()), name, dtype=object), "day": days[good],
        }  # fmt: skip
        for line, forecast in made.items():
            ratio = (answer - np.log(forecast))[good]
            columns |= {f"{line}_qlike": np.exp(ratio) - ratio - 1, f"{line}_log": ratio**2}
        columns |= {"forecast": np.log(made["final" if seeds else "linear"][good]), "came": answer[good]}
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def compared(table: pl.DataFrame, line: str, against: str, horizon: int) -> dict[str, float]:
    """One line's ratios to the log-HAR, its t against another line, the share of symbols better than the log-HAR."""
    enough = table.group_by("symbol").agg(pl.len(), pl.exclude("class", "day").mean()).filter(pl.col("len") >= LEAST)
    found: dict[str, float] = {}
    for name, key in (("qlike", "qlike"), ("log", "log_mse")):
        found[key] = float((enough[f"{line}_{name}"] / enough[f"har_{name}"]).mean())  # type: ignore[arg-type]
    days = table.group_by("day").agg(pl.exclude("symbol", "class").mean()).sort("day")
    for name, key in (("qlike", "dm_t"), ("log", "dm_t_log")):
        a, b = (days[f"{one}_{name}"].to_numpy() for one in (against, line))
        found[key] = diebold_mariano(a, b, horizon, loss="identity").statistic
    found["improved"] = float((enough[f"{line}_qlike"] < enough["har_qlike"]).mean())  # type: ignore[arg-type]
    return found


def measure(table: pl.DataFrame, horizon: int) -> dict[str, Any]:
    """The lines of a horizon, the exponential average beside them, and what the LSTM adds to the linear blend."""
    enough = (
        table.group_by("symbol").agg(pl.len(), pl.col("har_qlike", "har_log").mean()).filter(pl.col("len") >= LEAST)
    )
    lines: dict[str, Any] = {
        "yardstick": {"qlike": enough["har_qlike"].mean(), "log_mse": enough["har_log"].mean(), "symbols": len(enough)},
        "linear": (linear := compared(table, "linear", "har", horizon)),
    }  # fmt: skip
    if "final_qlike" in table.columns:
        own = compared(table, "final", "linear", horizon)
        lines["final"] = compared(table, "final", "har", horizon)
        lines["lstm"] = {
            "qlike": own["qlike"] / linear["qlike"], "log_mse": own["log_mse"] / linear["log_mse"],
            "dm_t": own["dm_t"], "dm_t_log": own["dm_t_log"],
        }  # fmt: skip
    return lines | {"ewma": compared(table, "ewma", "har", horizon), "beyond": beyond(table)}


def beyond(table: pl.DataFrame) -> dict[str, Any]:
    """Final forecasts that what came is more than a factor of e² above or below: their share, and the ten worst."""
    off = table.select("symbol", "day", "forecast", "came", off=pl.col("came") - pl.col("forecast"))
    worst = off.sort(pl.col("off").abs(), descending=True).head(10)
    return {
        "above": float((off["off"] > FAR).mean()), "below": float((off["off"] < -FAR).mean()), "rows": len(off),  # type: ignore[arg-type]
        "worst": [{**row, "day": str(row["day"])} for row in worst.to_dicts()],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Forecasts of variance beside the log-HAR.")
    parser.add_argument("--bars", required=True, help="CSV or Parquet file, or embedded")
    parser.add_argument("--symbols-file", help="CSV with symbol and asset_class")
    parser.add_argument("--asset-class", default="index", help="of symbols that nothing else classifies")
    parser.add_argument("--proxy", default="garman_klass", help="or parkinson, close_to_close, a column of variances")
    parser.add_argument("--start", help="first session that is scored")
    parser.add_argument("--end", help="last session that is read")
    parser.add_argument("--horizons", type=int, nargs="+", default=HORIZONS, help="bars ahead")
    parser.add_argument("--seeds", type=int, default=ResidualLSTM().seeds)
    parser.add_argument("--linear", action="store_true", help="without the LSTM")
    parser.add_argument("--timezone", help="of the stamps, where the file does not say")
    parser.add_argument("--stamp", choices=("open", "close"), help="what a bar is stamped with")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    bars = read(given)
    first = np.datetime64(given.start or "1900-01-01", "D")
    answer: dict[str, Any] = {"horizons": {}, "proxy": given.proxy}
    for horizon in given.horizons:
        began = time.monotonic()
        table = losses(bars, given.proxy, horizon, first, 0 if given.linear else given.seeds, given.jobs)
        found = answer["horizons"][str(horizon)] = measure(table, horizon)
        years = table.group_by(year=pl.col("day").dt.year()).agg(pl.col("symbol").n_unique()).sort("year")
        answer["symbols_by_year"] = dict(years.iter_rows())
        line = " ".join(
            f"{name} {one['qlike']:.3f}/{one['log_mse']:.3f}" for name, one in found.items() if "qlike" in one
        )
        print(f"h {horizon}: {line} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
    print(json.dumps(answer) if given.json else json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
