"""What forecasts of variance are worth to a book of many symbols: control, money, tails, caps, with and without bands.

The chain runs without networks and forest: the variance in force is that of the linear members, and positions for
returns are not looked at. Each line of the book (`gatecast.trading.book`) is made at the largest gross exposures that
are asked for. `spread` is the standard deviation of 21-session volatility over its mean. `lag` is what is lost a year
because a decision at a close is filled at the next open or close. QLIKE is that of the core's variance, one session
ahead; `plain EWMA` is a covariance of returns with decay .94.

Run: `python benchmarks/book.py --bars daily.parquet --symbols-file symbols.csv --start 2006-01-01 --end 2017-12-31
--classes equity,index,etf [--gross 1 2] [--last-after 2020-01-01] [--json]`. The first two years train.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from gatecast.chain import Chain, make_chain
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.risk import Answer, control_of
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.market import read_bars
from gatecast.metrics.forecast import qlike
from gatecast.scores import line_scores
from gatecast.trading.book import Book, Line, Sessions, core_path, deviations_of, lines_of, run_line, sessions_by
from gatecast.trading.covariance import Ewma
from gatecast.trading.sizing import BookSettings
from gatecast.verdicts import risk_of

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
HALF_LIFE = float(np.log(0.5) / np.log(0.94))
CHEAP: dict[str, Any] = {
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"},
    "features": ("ret_log_1", "rv_5"), "control": None, "schedule": {"minimum": "2Y"},
}  # fmt: skip
"""A chain whose variance is that of the linear members, and that wastes little on returns."""


def plain_variances(sessions: Sessions, core: FloatArray) -> FloatArray:
    """(sessions,) variance of the core's next session by a plain EWMA covariance; NaN where it is not known."""
    state, found = Ewma.start(sessions.names, HALF_LIFE), np.full(len(core), np.nan)
    for row, (returns, weights) in enumerate(zip(sessions.returns, core, strict=True)):
        state = state.after(returns)
        held = np.flatnonzero(weights)
        if len(held) and (state.sessions[held] > 10).all():
            found[row] = weights[held] @ state.covariance(held) @ weights[held]
    return found


def qlike_of(line: Line, variance: FloatArray) -> float:
    """Mean QLIKE of variances said at each close, against the square of the core's next session."""
    square, said = line.core_return[1:] ** 2, variance[:-1]
    good = np.isfinite(said) & np.isfinite(line.core_variance[:-1])
    return float(qlike(np.maximum(square[good], 1e-4 * square[good].mean()), said[good]))


def lag_loss(line: Line, sessions: Sessions, per_year: float) -> float:
    """What the book lost a year because what is decided at a close is filled later, as a share of the equity."""
    begin = len(sessions.days) - len(line.frame)
    at_once = np.nansum(line.held[:-1] * sessions.returns[begin + 1 :], axis=1)
    gained = line.frame["gain"].to_numpy() / line.frame["before"].to_numpy()
    return float((at_once - gained[1:]).mean() * per_year)


def in_brief(answer: Answer) -> dict[str, Any]:
    """An answer without what does not vary."""
    return {name: getattr(answer, name) for name in ("effect", "low", "high", "pvalue", "detectable", "n")}


def measure(experiment: Experiment, chain: Chain, sessions: Sessions, gross: float, jobs: int) -> dict[str, Any]:
    """One largest gross exposure: every line, the three answers, the test of tails, the gate, and bands left out."""
    size = BookSettings(gross_cap=gross, net_cap=gross)
    experiment = experiment.replace(book=Book(size=size))
    began = time.process_time()
    lines = lines_of(chain.classes, sessions, experiment.book, jobs=jobs)
    if not lines:
        sys.exit("the core holds no symbol that has a forecast: give other --classes, or more years.")
    own, took = lines[ENSEMBLE], time.process_time() - began
    begin = len(sessions.days) - len(own.frame)
    risk = risk_of(experiment, chain, lines, sessions)
    assert risk is not None
    core = core_path(sessions, experiment.book.core)
    free = Book(size=size.replace(book_band=0.0, symbol_band=0.0))
    deviations = deviations_of(chain.classes, sessions, ENSEMBLE)
    loose = run_line(sessions, core, deviations, free, begin=begin)
    years = (own.frame["day"][-1] - own.frame["day"][0]).days / 365.25
    names = ("return", "volatility", "sharpe", "drawdown", "gross", "turnover", "cost", "reached")
    said = {}
    for name, line in {**lines, "ensemble, no bands": loose}.items():
        scores = line_scores(line, chain.bars)
        said[name] = {one: scores[one] for one in names} | {
            "lag": lag_loss(line, sessions, len(line.frame) / years),
            "largest_gross": float(np.abs(line.held).sum(axis=1).max()),
            **control_of(line),
        }  # fmt: skip
    plain = plain_variances(sessions, core)[begin:]
    return {
        "gross": gross, "first": str(own.frame["day"][0]), "last": str(own.frame["day"][-1]), "lines": said,
        "answers": {name: in_brief(getattr(risk, name)) for name in ("forecast", "control", "money", "shortfall")},
        "sentence": risk.sentence, "gate": risk.gate, "tails": risk.tails,
        "qlike": {"plain EWMA": qlike_of(own, plain)} | {
            name: qlike_of(own, line.core_variance) for name, line in lines.items()
        },
        "bars_a_second": len(own.frame) * len(sessions.names) * len(lines) / took if jobs == 1 else None,
        "caps_held": all(one["largest_gross"] <= gross * (1 + 1e-9) for one in said.values()),
    }  # fmt: skip


def main() -> None:
    """Prints the lines of each gross exposure, or all as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bars", required=True, help="CSV or Parquet file")
    parser.add_argument("--symbols-file", help="CSV with symbol and asset_class")
    parser.add_argument("--start", help="first session that is read; two years before the first forecast")
    parser.add_argument("--end", help="last session that is read")
    parser.add_argument("--classes", default="equity,index,etf")
    parser.add_argument("--last-after", help="symbols whose last bar is before this are left out")
    parser.add_argument("--gross", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    bars = read_bars(asked.bars, symbols_file=asked.symbols_file, start=asked.start, end=asked.end)
    bars = bars.filter(pl.col("asset_class").is_in(asked.classes.split(",")))
    if asked.last_after:
        last = pl.col("time").max().over("symbol").dt.date()
        bars = bars.filter(last >= date.fromisoformat(asked.last_after))
    began, experiment = time.monotonic(), Experiment(**CHEAP)
    with unrecorded():
        chain = make_chain(experiment, bars)
    print(f"{bars['symbol'].n_unique()} symbols, {len(bars):,} bars, chain {time.monotonic() - began:.0f} s",
          file=sys.stderr)  # fmt: skip
    sessions = sessions_by(chain.facts, Book())
    made = [measure(experiment, chain, sessions, gross, asked.jobs) for gross in asked.gross]
    if asked.json:
        print(json.dumps(jsonable(made), indent=1))
        return
    for one in made:
        print(f"\ngross at most {one['gross']:g}, {one['first']} to {one['last']}, caps held: {one['caps_held']}")
        columns = ("spread", "worst", "return", "volatility", "sharpe", "drawdown", "gross", "turnover", "cost", "lag")
        print(f"{'line':20}" + "".join(f"{name:>11}" for name in columns))
        for name, line in one["lines"].items():
            print(f"{name:20}" + "".join(f"{line.get(column, np.nan):11.4f}" for column in columns))
        print("QLIKE", ", ".join(f"{name} {value:.4f}" for name, value in one["qlike"].items()))
        print(one["sentence"], one["gate"].get("sentence", ""), sep="\n")
        print(", ".join(f"{row['method']} {row['loss']:.4f} ({row['beyond']} beyond)"
                        for row in one["tails"].get("methods", [])))  # fmt: skip


if __name__ == "__main__":
    main()
