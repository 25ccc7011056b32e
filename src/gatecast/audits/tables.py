"""Comparison at a cut t: tables of two chains -> the first stage, column and row that differ at or before t.

`quick_audit` looks at a finished run without a refit; `gatecast.audits.full` reruns the whole chain. Both use the
tables made here: one a stage, with a row for each symbol and time, so that two runs can be laid side by side.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.audits.leaks import (
    PRICES,
    Kind,
    Leak,
    moment_of,
    number_or_none,
)
from gatecast.forecasting.scaling import Scaler
from gatecast.forecasting.schedule import Fold
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.features import compute_features
from gatecast.samples.known import known_so_far
from gatecast.samples.targets import to_array, to_times
from gatecast.trading.signals import Signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import FittedForecaster
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    TimeArray = NDArray[np.datetime64]

NOT_NUMBERS = ("symbol", "asset_class", "time")

# ── tables, one a stage ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Table:
    """What a stage says: `value` (rows, columns) of each `symbol` and `time`, sorted by both, one row of each.

    `part` tells tables of one stage apart. A row counts once `since` (its time, if there is none) has come.
    """

    stage: str
    part: str
    columns: tuple[str, ...]
    symbol: NDArray[np.str_]
    time: TimeArray
    value: FloatArray
    since: TimeArray | None = None

    def until(self, moment: np.datetime64) -> Table:
        """The rows that count at a moment."""
        return self._of((self.time if self.since is None else self.since) <= moment)

    def after(self, moment: np.datetime64) -> Table:
        """The rows that count later than a moment."""
        return self._of(~((self.time if self.since is None else self.since) <= moment))

    def same_rows(self, other: Table) -> bool:
        """Whether both have the same symbols and times."""
        return np.array_equal(self.time, other.time) and np.array_equal(self.symbol, other.symbol)

    def rows_of(self, other: Table) -> Table:
        """The rows that another table has, too."""
        return self._of(self._in(other))

    def without(self, other: Table) -> Table:
        """The rows that another table does not have."""
        return self._of(~self._in(other)) if len(other.time) else self

    def _in(self, other: Table) -> NDArray[np.bool_]:
        theirs = {*zip(other.symbol.tolist(), other.time.tolist(), strict=True)}
        rows = [key in theirs for key in zip(self.symbol.tolist(), self.time.tolist(), strict=True)]
        return np.array(rows, np.bool_)

    def _of(self, rows: NDArray[np.bool_]) -> Table:
        if rows.all():
            return self
        since = None if self.since is None else self.since[rows]
        return replace(self, symbol=self.symbol[rows], time=self.time[rows], value=self.value[rows], since=since)

    def at(self, symbol: str | None, time: datetime | None, column: str) -> float | None:
        """One value, None where it is missing."""
        if time is None:
            return None
        rows = (self.symbol == symbol) & (self.time == np.datetime64(time.replace(tzinfo=None)))
        found = self.value[rows, self.columns.index(column)]
        return number_or_none(found[0]) if len(found) else None


def bars_table(bars: pl.DataFrame) -> Table:
    """The bars themselves."""
    names = tuple(name for name in bars.columns if name not in NOT_NUMBERS)
    bars = bars.sort("symbol", "time")
    numbers = bars.select(pl.col(names).exclude("known_at"), pl.col("known_at").dt.epoch("us"))
    known_at = to_times(bars, "known_at")
    return Table("bars", "", tuple(numbers.columns), _names(bars), to_times(bars, "time"), _matrix(numbers), known_at)


def features_table(bars: pl.DataFrame, names: tuple[str, ...]) -> Table:
    """Features of one asset class, straight from its bars."""
    bars = bars.sort("symbol", "time")
    value = _matrix(compute_features(bars, names).select(names))
    part = f"{bars['asset_class'][0]} features"
    return Table("features", part, names, _names(bars), to_times(bars, "time"), value, known_so_far(bars))


def samples_tables(samples: Samples) -> Iterator[Table]:
    """Features, what is known beside them, answers once they are known, and the regime's level; one after the other."""
    name, symbol = samples.asset_class, np.array(samples.symbols)[samples.symbol]

    def table(
        stage: str, part: str, columns: Mapping[str, NDArray[Any]], since: NDArray[np.datetime64] | None = None
    ) -> Table:
        value = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
        return Table(stage, f"{name} {part}", tuple(columns), symbol, samples.time, value, since)

    facts = {
        f"{field.name}{'' if array.ndim == 1 else f'_{k + 1}'}": column
        for field in fields(samples.facts)
        if isinstance(array := getattr(samples.facts, field.name), np.ndarray)
        for k, column in enumerate(np.atleast_2d(array.T))
    }
    level = {"level": facts.pop("level")}
    known = np.maximum(samples.time, samples.known_by_bar)
    yield table("features", "features", dict(zip(samples.names, samples.features.T, strict=True)), known)
    yield table("features", "facts", facts, known)
    yield table("regimes", "level", level)
    for head, target in samples.targets.items():
        answers = {
            head if target.value.ndim == 1 else f"{head}_{k + 1}": column
            for k, column in enumerate(np.atleast_2d(target.value.T))
        }
        moment = np.where(np.isnat(target.known_at), np.nan, target.known_at.astype(np.int64))
        stage = "regimes" if head == "regime" else "targets"  # its answers are what they are by the level
        yield table(stage, head, answers, target.known_at)
        yield table("targets", f"{head} known_at", {f"{head} known_at": moment}, target.known_at)


def forecasts_tables(stage: str, forecasts: Forecasts, models: Iterable[str]) -> list[Table]:
    """The out-of-sample forecasts of some models."""
    rows, samples = forecasts.rows, forecasts.samples
    tables = []
    for model in sorted(models):
        columns = {
            f"{model} {head}{'' if values.ndim == 1 else f' step {k + 1}'}": column[rows]
            for head, values in forecasts.values[model].items()
            for k, column in enumerate(np.atleast_2d(values.T))
        }
        if columns:
            tables.append(rows_table(stage, f"{samples.asset_class} {model}", samples, rows, columns))
    return tables


def signals_tables(forecasts: Forecasts, signals: Signals) -> list[Table]:
    """z-scores, which hold the thresholds' mean and standard deviation, and the signals made of them."""
    rows, samples = forecasts.rows, forecasts.samples
    thresholds = {"z": signals.z[rows], "z_confirming": signals.z_confirming[rows]}
    decided = {"signal": signals.signal[rows], "consensus": signals.consensus[rows]}
    return [
        rows_table("thresholds", samples.asset_class, samples, rows, thresholds),
        rows_table("signals", samples.asset_class, samples, rows, decided),
    ]


def folds_table(samples: Samples, folds: Sequence[Fold], number: int = 0) -> Table:
    """Each refit's rows, without the test block: how many, the first and the last, and a checksum of them all."""
    kinds = {
        "train": [fold.train for fold in folds],
        "validation": [fold.validation for fold in folds],
        "record": [fold.on(samples).record for fold in folds],
    }
    keys = np.column_stack([np.array(samples.symbols)[samples.symbol[samples.ends]], samples.times.astype(np.str_)])
    columns = {}
    for kind, blocks in kinds.items():
        times = [samples.times[rows].astype(np.int64) for rows in blocks]
        columns[f"{kind} rows"] = np.array([len(rows) for rows in blocks], dtype=np.float64)
        columns[f"{kind} first"] = np.array([own.min(initial=2**62) for own in times], dtype=np.float64)
        columns[f"{kind} last"] = np.array([own.max(initial=-(2**62)) for own in times], dtype=np.float64)
        columns[f"{kind} checksum"] = np.array([zlib.crc32(keys[rows].tobytes()) for rows in blocks], dtype=np.float64)
    return _folds_table("folds", str(number), folds, samples, columns)


def scalers_tables(model: str, folds: Sequence[Fold], fits: Sequence[FittedForecaster]) -> list[Table]:
    """Centre and spread of every scaler inside a model's fits."""
    found = [[value for value in vars(fit).values() if isinstance(value, Scaler)] for fit in fits]
    numbers = [np.concatenate([np.r_[one.centre, one.spread] for one in scalers]) for scalers in found if scalers]
    if len(numbers) != len(fits) or len({len(one) for one in numbers}) != 1:
        return []
    half = len(numbers[0]) // 2
    labels = [f"{model} {what} of input {k + 1}" for what in ("centre", "spread") for k in range(half)]
    columns = dict(zip(labels, np.array(numbers).T, strict=True))
    return [_folds_table("scaler", model, folds, folds[0].data, columns)]


def chosen_table(samples: Samples, folds: Sequence[Fold]) -> Table:
    """Which features are in use at each refit."""
    use = {name: np.ones(len(folds)) for name in samples.names} | {
        name: np.zeros(len(folds)) for name in samples.left_out
    }
    columns = {f"{name} in use": column for name, column in sorted(use.items())}
    return _folds_table("features", "in use", folds, samples, columns)


def _folds_table(
    stage: str, part: str, folds: Sequence[Fold], samples: Samples, columns: Mapping[str, FloatArray]
) -> Table:
    cutoffs = np.array([fold.cutoff for fold in folds], dtype="datetime64[us]")
    symbol = np.full(len(folds), samples.asset_class)
    return Table(
        stage, f"{samples.asset_class} {part}", tuple(columns), symbol, cutoffs, np.column_stack(list(columns.values()))
    )


def rows_table(stage: str, part: str, samples: Samples, rows: IntArray, columns: Mapping[str, NDArray[Any]]) -> Table:
    """Columns of some samples, which count once all that these are made from is known."""
    value = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
    at = samples.decided[rows]
    symbol = np.array(samples.symbols)[samples.symbol[at]]
    return Table(stage, part, tuple(columns), symbol, samples.time[at], value, samples.since[rows])


def decisions_table(stage: str, frame: pl.DataFrame, forecasts: Iterable[Forecasts], *columns: str) -> Table:
    """Columns of a frame with symbol and time, a row for each forecast of all classes."""
    parts = []
    for one in forecasts:
        at, complete = one.samples.decided[one.rows], pl.Series(one.samples.since[one.rows])
        names = pl.Series(np.array(one.samples.symbols, dtype=object)[one.samples.symbol[at]], dtype=pl.String)
        time = pl.Series(one.samples.time[at]).dt.replace_time_zone("UTC")
        parts.append(pl.DataFrame({"symbol": names, "time": time, "since": complete.dt.replace_time_zone("UTC")}))
    frame = frame.join(pl.concat(parts), on=["symbol", "time"], how="left").sort("symbol", "time")
    value, since = _matrix(frame.select(columns)), to_times(frame, "since")
    return Table(stage, "", columns, _names(frame), to_times(frame, "time"), value, since)


def _names(frame: pl.DataFrame) -> NDArray[np.str_]:
    return frame["symbol"].to_numpy().astype(np.str_)


def _matrix(frame: pl.DataFrame) -> FloatArray:
    return to_array(frame, *frame.columns).reshape(len(frame), len(frame.columns))


# ── the comparison ───────────────────────────────────────────────────────────────────────────────


def differences(whole: Iterable[Table], other: Iterable[Table], moment: np.datetime64, kind: Kind) -> list[Leak]:
    """What two runs of the chain say differently of the rows that count at `moment`: one leak a column, its last row.

    The rows are matched by symbol and time, never by number; NaN equals NaN. A row that only one of them has is a
    difference, a column that only one of them has is not. `whole` says when a row counts that both have.
    """
    others = {(table.stage, table.part): table for table in other}
    leaks = []
    for table in whole:
        match = others.get((table.stage, table.part))
        mine = table.until(moment)
        if match is not None:
            theirs = match.until(moment)
            leaks += _compare(mine, theirs if mine.same_rows(theirs) else theirs.without(table.after(moment)), kind)
        elif len(mine.time):
            leaks.append(
                Leak(mine.stage, f"{mine.part} row", kind, str(mine.symbol[-1]), moment_of(mine.time[-1]), None,
                     "a row", "no row")
            )  # fmt: skip
    return leaks


def _compare(mine: Table, other: Table, kind: Kind) -> list[Leak]:
    if not mine.same_rows(other):
        a, b = ([*zip(table.symbol.tolist(), table.time.tolist(), strict=True)] for table in (mine, other))
        single = max(set(a) ^ set(b), key=lambda key: key[1])
        said = ("a row", "no row") if single in set(a) else ("no row", "a row")
        return [Leak(mine.stage, f"{mine.part} row".strip(), kind, single[0], moment_of(single[1]), None, *said)]
    shared = [name for name in mine.columns if name in other.columns]
    leaks = []
    for name in shared:
        x, y = (table.value[:, table.columns.index(name)] for table in (mine, other))
        rows = np.flatnonzero(~((x == y) | (np.isnan(x) & np.isnan(y))))
        if len(rows) == 0:
            continue
        row = int(rows[np.argmax(mine.time[rows])])
        leaks.append(
            Leak(mine.stage, name, kind, str(mine.symbol[row]), moment_of(mine.time[row]), None,
                 number_or_none(x[row]), number_or_none(y[row]))
        )  # fmt: skip
    return leaks


def up_to(bars: pl.DataFrame, moment: np.datetime64) -> pl.DataFrame:
    """The bars that have closed by a moment; what is not known of them by then has another value.

    That a session was there is known at its close, what happened in it once the row is known.
    """
    hidden = pl.Series(to_times(bars, "known_at") > moment)
    bars = _hidden(bars, hidden) if hidden.any() else bars
    return bars.filter(pl.Series(to_times(bars, "time") <= moment))


def _hidden(bars: pl.DataFrame, hidden: pl.Series) -> pl.DataFrame:
    """The same with other numbers in some rows."""
    names = [name for name, kind in bars.schema.items() if kind.is_numeric() and name != "segment"]
    other = [pl.col(name) * 1.03 if name in (*PRICES, "volume") else 1.0 - 2.0 * pl.col(name) for name in names]
    return bars.with_columns(
        pl.when(hidden).then(new).otherwise(name).alias(name) for name, new in zip(names, other, strict=True)
    )


class Garbage:
    """Bars whose future can be replaced by another one: finite and plausible, with nothing of the true one left.

    Each symbol's close goes on from the cut as a random walk of twice its own volatility; opens that repeat the
    previous close go on doing so. Volumes are scaled at random, other columns are drawn anew from their own values.
    Missing values stay missing. The same bar is the same garbage wherever the cut is, up to the price's level.
    """

    def __init__(self, bars: pl.DataFrame, seed: int = 0) -> None:
        self.bars = bars.sort("symbol", "time")
        frames = [self._of_symbol(own, seed) for own in self.bars.partition_by("symbol", maintain_order=True)]
        self.other = pl.concat(frames)

    @staticmethod
    def _of_symbol(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
        draw = np.random.default_rng([seed, zlib.crc32(str(bars["symbol"][0]).encode())])
        count, close = len(bars), bars["close"].to_numpy()
        steps = np.diff(np.log(close))
        size = 2 * float(np.median(np.abs(steps[steps != 0]))) / 0.6745 if (steps != 0).any() else 0.01
        size = min(size, 0.1)
        walk = close[0] * np.exp(np.cumsum(np.clip(size * draw.standard_normal(count), -0.3, 0.3)))
        before = np.r_[walk[0], walk[:-1]]
        repeats = np.r_[False, bars["open"].to_numpy()[1:] == close[:-1]]
        open_ = np.where(repeats, before, before * np.exp(0.3 * size * draw.standard_normal(count)))
        reach = np.exp(0.5 * size * np.abs(draw.standard_normal((2, count))))
        new: dict[str, FloatArray] = {
            "open": open_, "high": np.maximum(open_, walk) * reach[0],
            "low": np.minimum(open_, walk) / reach[1], "close": walk,
        }  # fmt: skip
        for name in bars.columns:
            if name in (*NOT_NUMBERS, *PRICES, "known_at", "segment"):
                continue
            values = to_array(bars, name).copy()
            known = np.flatnonzero(~np.isnan(values))
            if name == "volume":
                values = values * np.exp(0.5 * draw.standard_normal(count))
            elif len(known):
                values[known] = values[draw.permutation(known)]
            new[name] = values
        return bars.with_columns(pl.Series(name, values).fill_nan(None) for name, values in new.items())

    def after(self, moment: np.datetime64) -> pl.DataFrame:
        """The bars with all rows after the moment replaced."""
        later = pl.Series(to_times(self.bars, "time") > moment)
        late = pl.Series(to_times(self.bars, "known_at") > moment)
        last = pl.col("close").filter(~pl.col("later")).last().over("symbol")
        true, walk = (frame.with_columns(later=later).select(last).to_series() for frame in (self.bars, self.other))
        new = self.other.with_columns(pl.col(PRICES) * (true / walk).fill_null(1.0))
        names = [name for name in self.bars.columns if name not in NOT_NUMBERS]
        true_bars = _hidden(self.bars, late) if (late & ~later).any() else self.bars
        return true_bars.with_columns(
            pl.when(later).then(new[name]).otherwise(true_bars[name]).alias(name) for name in names
        )
