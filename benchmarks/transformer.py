"""gatecast's Temporal Fusion Transformer against neuralforecast's: the same series, size, updates and quantiles.

    python benchmarks/transformer.py [--seeds 5] [--data b1 sp500] [--json]

`sp500`: the log of the embedded S&P 500's daily Garman-Klass variance, with the return and its size as further inputs.
`b1`: a planted return of which the input x explains 5 %. Both networks forecast the next five values of the series,
their quantiles .1, .5 and .9, from the last 30 bars. The loss is the pinball loss on the last quarter, summed over the
quantiles, mean over steps and origins, in standard deviations of the training part. Both are trained on the first part
and stopped on the next; neuralforecast keeps its last weights, gatecast its best.

neuralforecast is no dependency of gatecast: install it beside it to run this.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import polars as pl
from scipy import stats

from gatecast import read_bars
from gatecast.forecasting.models.tft import TFT
from gatecast.forecasting.schedule import Fold
from gatecast.market import synthetic
from gatecast.samples.targets import Target
from gatecast.samples.windows import Samples, make_samples

LOOKBACK, HORIZON, QUANTILES = 30, 5, (0.1, 0.5, 0.9)
TFT_SETTINGS = TFT(lookback=LOOKBACK, horizon=HORIZON, quantiles=QUANTILES)


def series(name: str) -> tuple[pl.DataFrame, list[str]]:
    """Bars with the series `y` and further inputs, and the names of all inputs."""
    if name == "b1":
        bars = synthetic.b1(4000, seed=0, r2=0.05)
        return bars.with_columns(y=pl.col("close").log().diff().fill_null(0.0)), ["y", "x"]
    bars = read_bars("embedded", symbols=("SP500",)).tail(4000)
    own = pl.col("close") / pl.col("open")
    variance = 0.5 * (pl.col("high") / pl.col("low")).log() ** 2 - float(2 * np.log(2) - 1) * own.log() ** 2
    change = pl.col("close").log().diff().fill_null(0.0)
    inputs = {"y": variance.clip(lower_bound=1e-7).log(), "change": change, "size": change.abs()}
    return bars.with_columns(**inputs), list(inputs)


def scaled(bars: pl.DataFrame, inputs: list[str], train: int) -> pl.DataFrame:
    """Inputs in standard deviations of the first `train` bars."""
    first = pl.col(*inputs).head(train)
    return bars.with_columns((pl.col(*inputs) - first.mean()) / first.std())


def parts(bars: int) -> tuple[int, int]:
    """Bars that are trained on, and those before the test."""
    return bars * 6 // 10, bars * 3 // 4


def samples_of(bars: pl.DataFrame, inputs: list[str]) -> Samples:
    """The series itself as the path to forecast, with a scale of 1 and no other head."""
    (samples,) = make_samples(bars, tuple(inputs), lookback=LOOKBACK, horizon=HORIZON).values()
    y = bars["y"].to_numpy()
    steps = np.arange(1, HORIZON + 1)
    at = np.arange(len(y))[:, None] + steps
    path = np.where(at < len(y), y[np.minimum(at, len(y) - 1)], np.nan) * np.sqrt(steps)
    known_at = samples.targets["return"].known_at
    nothing = Target(np.full(len(y), np.nan), known_at)
    targets = {"return": Target(path, known_at)} | dict.fromkeys(("direction", "volatility", "regime"), nothing)
    return replace(samples, targets=targets, facts=replace(samples.facts, sigma=np.ones(len(y))))


def ours(bars: pl.DataFrame, inputs: list[str], seed: int) -> np.ndarray:
    """(origins, steps, quantiles) for every origin from which all steps are in the test part."""
    samples = samples_of(bars, inputs)
    train, test = parts(len(bars))
    last = samples.ends + HORIZON  # the last bar of each sample's answers
    rows = np.arange(len(samples))
    fold = Fold(
        0, rows[last < train], rows[(samples.ends >= train - 1) & (last < test)],
        rows[(samples.ends >= test - 1) & (last < len(bars))], samples.time[test - 1], samples,
    )  # fmt: skip
    (fitted,) = TFT_SETTINGS.replace(seed=seed).fit_many([fold])
    return fitted.quantiles(samples, fold.test) / np.sqrt(np.arange(1, HORIZON + 1))[:, None]


def theirs(bars: pl.DataFrame, inputs: list[str], seed: int) -> np.ndarray:
    """The same from neuralforecast."""
    import pandas as pd
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import TFT as Other

    torch.set_num_threads(1)
    train, test = parts(len(bars))
    own = TFT_SETTINGS
    an_epoch = -(-(train - LOOKBACK - HORIZON + 1) // own.batch)
    model = Other(
        h=HORIZON, input_size=LOOKBACK, hidden_size=own.units, n_head=own.attention_heads, dropout=own.dropout,
        hist_exog_list=inputs[1:], loss=MQLoss(quantiles=list(QUANTILES)), learning_rate=own.learning_rate,
        max_steps=own.epochs * an_epoch, val_check_steps=an_epoch, early_stop_patience_steps=own.patience,
        batch_size=1, windows_batch_size=own.batch, scaler_type="identity", random_seed=seed, alias="tft",
        gradient_clip_val=own.clip, accelerator="cpu", enable_progress_bar=False, logger=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    frame = pd.DataFrame({"unique_id": "a", "ds": np.arange(len(bars)), **{n: bars[n].to_numpy() for n in inputs}})
    found = NeuralForecast([model], freq=1).cross_validation(
        frame, n_windows=None, val_size=test - train, test_size=len(bars) - test, step_size=1
    )
    found = found.sort_values(["cutoff", "ds"])
    columns = [name for name in found.columns if name.startswith("tft")]
    return np.sort(found[columns].to_numpy().reshape(-1, HORIZON, len(QUANTILES)), axis=2)


def pinball(bars: pl.DataFrame, quantiles: np.ndarray) -> float:
    """Summed over the quantiles, mean over steps and origins."""
    y, (_, test) = bars["y"].to_numpy(), parts(len(bars))
    answer = np.lib.stride_tricks.sliding_window_view(y[test:], HORIZON)
    error = answer[:, :, None] - quantiles
    share = np.array(QUANTILES)
    return float(np.maximum(share * error, (share - 1) * error).sum(2).mean())


def compare(name: str, seeds: int) -> dict[str, object]:
    """Mean losses of both over the seeds with standard errors, ours less theirs (Welch), and the constant's loss."""
    bars, inputs = series(name)
    train, test = parts(len(bars))
    bars = scaled(bars, inputs, train)
    constant = np.quantile(bars["y"].to_numpy()[:train], QUANTILES)
    origins = len(bars) - test - HORIZON + 1
    figures: dict[str, object] = {
        "constant": pinball(bars, np.broadcast_to(constant, (origins, HORIZON, len(QUANTILES))))
    }
    losses: dict[str, list[float]] = {}
    for label, forecast in (("gatecast", ours), ("neuralforecast", theirs)):
        begin = time.perf_counter()
        losses[label] = [pinball(bars, forecast(bars, inputs, seed)) for seed in range(seeds)]
        seconds = (time.perf_counter() - begin) / seeds
        error = float(stats.sem(losses[label]))
        figures[label] = {"loss": float(np.mean(losses[label])), "error": error, "seconds": seconds}
    gap = stats.ttest_ind(losses["gatecast"], losses["neuralforecast"], equal_var=False)
    low, high = gap.confidence_interval()
    figures["difference"] = {"low": float(low), "high": float(high), "pvalue": float(gap.pvalue)}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", choices=["b1", "sp500"], default=["b1", "sp500"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.seeds < 2:
        sys.exit(f"--seeds {given.seeds}: an interval needs two or more.")
    warnings.filterwarnings("ignore")
    try:
        import neuralforecast  # noqa: F401
    except ImportError:
        sys.exit("neuralforecast is not installed here: `pip install neuralforecast` beside gatecast, and run again.")
    logging.disable(logging.WARNING)
    found = {name: compare(name, given.seeds) for name in given.data}
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        print(f"{name}: pinball loss, mean of {given.seeds} seeds ± its standard error")
        print(f"  constant quantiles  {figures['constant']:.4f}")
        for label in ("gatecast", "neuralforecast"):
            one = figures[label]
            print(f"  {label:<18}  {one['loss']:.4f} ± {one['error']:.4f}   {one['seconds']:.1f} s a fit")
        gap = figures["difference"]
        print(f"  difference          {gap['low']:+.4f} to {gap['high']:+.4f} (95 %), p = {gap['pvalue']:.2f}")


if __name__ == "__main__":
    main()
