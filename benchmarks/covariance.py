"""How well covariances forecast the variance of books: QLIKE of ours and of plain EWMA covariances, out of sample.

Deviations are forecast by the EWMA of squared returns (decay .94), the same for all, so that the lines differ in the
correlations, and in how volatility and correlation are put together. Books: the core (monthly equal risk), equal
weights, thirty random long and thirty random long-short ones; variances of one session, and of five as their mean. A
smaller QLIKE is better; `ratio` is the sum of realised over that of forecast variances. A symbol leaves five sessions
before its last bar.

Run: `python benchmarks/covariance.py daily.parquet symbols.csv [--start 2006-01-01 --end 2017-12-31] [--classes
equity,etf,index]`: about 10 s of computing for 50 symbols and ten years.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from gatecast.market import read_bars
from gatecast.market.bars import session_date
from gatecast.metrics.forecast import qlike
from gatecast.trading.core import Core, CoreState
from gatecast.trading.covariance import Correlations, Ewma, Sums, covariance_of

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
DECAY, FIRST, AHEAD = 0.94, 300, 5
HALF_LIVES = (11, 40, 125, 250)
SAME = "same session"
"""Ours without what is shared a session late."""


def returns_of(bars: pl.DataFrame) -> tuple[list[str], list[str], list[date], FloatArray]:
    """Symbols, classes, sessions and (sessions, symbols) log returns, NaN where there is no bar."""
    bars = bars.with_columns(
        session=session_date(pl.col("time")), change=pl.col("close").log().diff().over("symbol", "segment")
    )
    wide = bars.pivot(on="symbol", index="session", values="change", aggregate_function="sum").sort("session")
    kinds = dict(bars.select("symbol", "asset_class").unique().rows())
    names = sorted(kinds)
    there = bars.with_columns(one=1).pivot(on="symbol", index="session", values="one", aggregate_function="sum")
    present = there.sort("session").select(names).to_numpy() > 0
    values = wide.select(names).cast(pl.Float64).fill_null(np.nan).to_numpy()
    return names, [kinds[name] for name in names], wide["session"].to_list(), np.where(present, values, np.nan)


def deviations_of(returns: FloatArray) -> FloatArray:
    """(sessions, symbols) deviation forecast at each close for the next session; NaN before 21 returns."""
    variance, count = np.full(returns.shape[1], np.nan), np.zeros(returns.shape[1])
    found = np.full(returns.shape, np.nan)
    for number, one in enumerate(returns):
        there = ~np.isnan(one)
        count += there
        start = np.where(np.isnan(variance), one**2, DECAY * variance + (1 - DECAY) * one**2)
        variance = np.where(there, start, variance)
        found[number] = np.where(count > 20, np.sqrt(variance), np.nan)
    return found


def forecasts(
    names: list[str], kinds: list[str], days: list[date], returns: FloatArray
) -> Iterator[tuple[int, FloatArray, FloatArray, Mapping[str, FloatArray]]]:
    """Session by session: its number, the places of the names, the core's weights and the covariances."""
    settings, deviations = Core(), deviations_of(returns)
    state, core = Correlations.start(names, kinds), CoreState.start(names, kinds, settings)
    plain = {half_life: Ewma.start(names, half_life) for half_life in HALF_LIVES}
    begun = np.maximum.accumulate(~np.isnan(returns), axis=0)
    going = np.maximum.accumulate(~np.isnan(returns)[::-1], axis=0)[::-1]
    for now in range(len(returns) - AHEAD):
        expected = deviations[now - 1] if now else np.full(len(names), np.nan)
        state = state.after(returns[now], expected)
        core = core.after(days[now], returns[now], begun[now] & going[now + AHEAD], settings)
        plain = {half_life: one.after(returns[now]) for half_life, one in plain.items()}
        which = np.flatnonzero((deviations[now] > 0) & going[now + AHEAD] & (plain[250].sessions > 50))
        if now >= FIRST and len(which) > 1:
            ours = covariance_of(state.correlation(which), deviations[now][which])
            same = replace(state, lagged=Sums.none(len(names))).correlation(which)
            others = {SAME: covariance_of(same, deviations[now][which])}
            others |= {f"EWMA {half_life}": one.covariance(which) for half_life, one in plain.items()}
            yield now, which, core.weights, {"ours": ours, **others}


def main() -> None:
    """Prints one line a book and covariance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bars")
    parser.add_argument("symbols_file")
    parser.add_argument("--start", default="2006-01-01")
    parser.add_argument("--end", default="2017-12-31")
    parser.add_argument("--classes", default="equity,etf,index")
    asked = parser.parse_args()
    bars = read_bars(asked.bars, symbols_file=asked.symbols_file, start=asked.start, end=asked.end)
    names, kinds, days, returns = returns_of(bars.filter(pl.col("asset_class").is_in(asked.classes.split(","))))
    random, count = np.random.default_rng(0), len(names)
    books = {
        "equal": np.full((1, count), 1 / count), "long": random.dirichlet(np.full(count, 0.3), 30),
        "long-short": random.standard_normal((30, count)) / count,
    }  # fmt: skip
    known: dict[tuple[str, str, int], list[tuple[FloatArray, FloatArray]]] = {}
    for now, which, core, covariances in forecasts(names, kinds, days, returns):
        trades = ~np.isnan(returns[now + 1][which])
        coming = np.nan_to_num(returns[now + 1 : now + 1 + AHEAD][:, which])
        for book, weights in {"core": core[None], **books}.items():
            own = weights[:, which]
            if not own.any():
                continue
            for name, covariance in covariances.items():
                for ahead, held in ((1, own * trades), (AHEAD, own)):
                    realised = (own @ coming[:ahead].sum(0)) ** 2 / ahead
                    expected = np.einsum("ij,jk,ik->i", held, covariance, held)
                    known.setdefault((book, name, ahead), []).append((realised, expected))
    print(f"{count} symbols, {days[0]} to {days[-1]}")
    print(f"{'book':12}{'covariance':14}{'QLIKE 1':>9}{'ratio':>7}{'QLIKE 5':>9}{'ratio':>7}")
    for book in ("core", *books):
        for name in ("ours", SAME, *(f"EWMA {half_life}" for half_life in HALF_LIVES)):
            line = f"{book:12}{name:14}"
            for ahead in (1, AHEAD):
                realised, expected = (np.concatenate(part) for part in zip(*known[book, name, ahead], strict=True))
                there = expected > 0
                score = qlike(realised[there], expected[there])
                line += f"{score:9.4f}{realised[there].sum() / expected[there].sum():7.2f}"
            print(line)


if __name__ == "__main__":
    main()
