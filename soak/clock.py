"""Years of a simulated clock over four exchanges: each month is trained once and in order, missed ones are listed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from gatecast.experiment import Experiment
from gatecast.live import retrain, update
from gatecast.market.sessions import Calendar, calendar_of
from gatecast.store import Store
from soak.cases import Case

MARKETS = {"XNYS": "equity", "XLON": "equity", "XASX": "equity", "24/7": "crypto"}
"""Calendar -> asset class."""
FIRST, BEGIN, END = datetime(2018, 6, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
"""Bars begin; the clock begins to tick, before a leap day; it ends."""
ASLEEP = (
    (datetime(2020, 3, 31, tzinfo=UTC), timedelta(days=3)),
    (datetime(2020, 7, 20, tzinfo=UTC), timedelta(days=80)),
)
"""When the machine sleeps, and how long: over the first session of a month, and over three of them."""
AROUND = 1
"""Sessions before and after the turn of a month at which the store is updated; between them bars come at once."""


def bars_of(calendar: Calendar, kind: str, seed: int) -> pl.DataFrame:
    """A random walk with a bar a session, whose close is that of the exchange."""
    sessions = calendar.between(FIRST, END)
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(sessions))))
    start = np.r_[100.0, close[:-1]]
    return pl.DataFrame(
        {
            "symbol": "A", "time": sessions["close"], "open": start, "high": np.maximum(start, close) * 1.002,
            "low": np.minimum(start, close) / 1.002, "close": close,
            "volume": 1e6 * np.exp(0.3 * rng.standard_normal(len(sessions))),
        }
    )  # fmt: skip


def turns(calendar: Calendar, end: datetime) -> list[datetime]:
    """Moments an hour after the closes of the sessions around each turn of a month, at which the machine is awake."""
    sessions = calendar.between(BEGIN, end)
    month = sessions["session"].dt.month_start()
    last = (month != month.shift(-1)).fill_null(True)
    near = last.clone()
    for step in range(1, AROUND):
        near = near | last.shift(-step, fill_value=False)
    for step in range(1, AROUND + 1):
        near = near | last.shift(step, fill_value=False)
    moments = [close + timedelta(hours=1) for close in sessions.filter(near)["close"].to_list()]
    return [one for one in moments if not any(begin <= one < begin + length for begin, length in ASLEEP)]


def clock_of(name: str, work: Path, seed: int, end: datetime) -> Case:
    """Years at one exchange: the months in which its store was trained, and those that were missed."""
    calendar = calendar_of(name, END)
    bars = bars_of(calendar, MARKETS[name], seed)
    folder = work / name.replace("/", "-")
    folder.mkdir(parents=True)
    (folder / "symbols.csv").write_text(f"symbol,asset_class,calendar\nA,{MARKETS[name]},{name}\n")
    experiment = Experiment(
        features=("ret_log_1",), lookback=10, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"},
        schedule={"train": "1Y", "minimum": "1Y"}, book={"core": {"kind": "none"}},
    )  # fmt: skip
    trained: list[str] = []
    missed: list[str] = []
    come: datetime = FIRST
    for now in turns(calendar, end):
        new = bars.filter(pl.col("time") > come, pl.col("time") <= now)
        new.with_columns(pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).write_csv(folder / "new.csv")
        update(
            folder / "store", folder / "new.csv", now=now, experiment=experiment, stamp="close",
            asset_class=MARKETS[name], symbols_file=folder / "symbols.csv",
        )  # fmt: skip
        come = now
        done = retrain(folder / "store", now=now)
        while done.verdicts:  # a model was made: the next time nothing is due
            missed += [one.split()[1][:10] for one in done.missed]
            trained.append(Store.open(folder / "store").state.models[-1].cutoffs[MARKETS[name]])
            done = retrain(folder / "store", now=now)
    faults = [one.sentence for one in Store.open(folder / "store").check()]
    said = f"{name}: {len(trained)} months trained, {len(missed)} missed"
    return Case("clock", said, wrong(calendar, trained, missed, end) or "; ".join(faults[:3]))


def clock(work: Path, seed: int, share: float, jobs: int = 2) -> Iterator[Case]:
    """All exchanges for five years; for a small share New York for one."""
    whole = share >= 1
    names, end = (list(MARKETS), END) if whole else (list(MARKETS)[:1], BEGIN.replace(year=BEGIN.year + 1))
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(partial(clock_of, work=work, seed=seed, end=end), names)


def wrong(calendar: Calendar, trained: list[str], missed: list[str], end: datetime) -> str:
    """What does not fit: each month after the first model's is trained once, at its first session that was met."""
    months = [one[:7] for one in trained]
    sessions = calendar.between(BEGIN, end)["session"]
    expected = [f"{month:%Y-%m}" for month in sessions.dt.month_start().unique().sort()]
    if months != sorted(set(months)):
        return f"months are trained twice or out of order: {months}"
    both = sorted([*months[1:], *(one[:7] for one in missed)])
    if both != [one for one in expected if one > months[0]]:
        return f"trained {months}, missed {missed}, but there were {expected}"
    return ""
