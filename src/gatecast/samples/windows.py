"""Samples: bar-level arrays of one asset class and the row at which each window ends. Windows are views, not copies."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.market.bars import distinct, numbered_days, refuse_lacking, session_date
from gatecast.market.calendar import bars_per_session, listings, missed_sessions
from gatecast.market.universe import is_inside
from gatecast.samples.features import available_features, compute_features
from gatecast.samples.known import delays, known_so_far, read_rows, window_ends
from gatecast.samples.targets import Facts, Target, encode, make_targets, to_array, to_times

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

ROWS_AT_ONCE = 2048  # whose windows are copied together
FEW = 16  # rows are few where all samples are more than so many times as many


@dataclass(frozen=True)
class Samples:
    """What a model sees of one asset class. Bar-level arrays hold its symbols one after the other, each in time order.

    A sample is a forecast to be made: at the close of bar-level row `decided[i]` (its time and its targets), from the
    window of `lookback` bars and the facts that end at row `ends[i]`, the newest row known by then. They are one row
    where bars are known in time. Forecasters, folds and forecasts count in samples.

    Attributes
    ----------
    asset_class: name of the class; `symbols`: its symbols in order.
    features: (bars, features) float64, NaN during warm-up; `names`: their names; `left_out`: name -> reason.
    symbol: (bars,) index into `symbols`; `time`: (bars,) close, UTC, datetime64[us].
    segment, listing: (bars,) features never cross a segment, answers never a listing; `missed`: (bars,) sessions
        without a bar before it, where a gap ends; `session_bars`: bars of a usual session.
    known_at_bar: (bars,) when each row became known; `known_by_bar`: when it and all rows before it that are read were.
    targets, facts: see `samples.targets`; `ends`, `decided`: (samples,) bar-level rows; `lookback`, `horizon`: in bars.
    context: bars in one piece, with every feature, that end at each sample: at least `lookback`.
    """

    asset_class: str
    symbols: tuple[str, ...]
    features: FloatArray
    names: tuple[str, ...]
    left_out: dict[str, str]
    symbol: NDArray[np.int32]
    segment: NDArray[np.int32]
    listing: NDArray[np.int32]
    missed: NDArray[np.int32]
    session_bars: float
    time: NDArray[np.datetime64]
    known_at_bar: NDArray[np.datetime64]
    known_by_bar: NDArray[np.datetime64]
    targets: dict[str, Target]
    facts: Facts
    ends: IntArray
    decided: IntArray
    lookback: int
    horizon: int
    context: int

    def __len__(self) -> int:
        return len(self.ends)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the fields alone; a copy of the cached windows is `lookback` times as large."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def times(self) -> NDArray[np.datetime64]:
        """(samples,) the close at which each sample's forecast is made."""
        return self.time[self.decided]

    @cached_property
    def moments(self) -> NDArray[np.datetime64]:
        """(moments,) the closes at which forecasts are made, ascending and each once."""
        return distinct(self.times)

    @cached_property
    def sessions(self) -> NDArray[np.datetime64]:
        """(samples,) session dates."""
        return session_date(self.times)

    @cached_property
    def day(self) -> IntArray:
        """(samples,) the number of each sample's session, from 0."""
        return numbered_days(self.sessions)[1]

    def evidence(self, rows: IntArray) -> FloatArray:
        """(rows,) how much each tells: a day one over the days that a horizon spans, whatever the number of symbols.

        Answers overlap, and symbols move together.
        """
        weight: FloatArray = 1.0 / (self.horizon_sessions * np.bincount(self.day[rows])[self.day[rows]])
        return weight

    @cached_property
    def horizon_sessions(self) -> int:
        """Sessions that a horizon spans: fewer than bars where a session has several."""
        return max(1, int(np.ceil(self.horizon / self.session_bars)))

    @cached_property
    def unit(self) -> FloatArray:
        """(samples, horizon) standard deviation that each step's answer is measured in: trailing volatility · √bars.

        Each session of a gap that an answer passes counts like a session of bars: in what is learned and scored, never
        in a forecast, for which no gap is known.
        """
        steps = np.arange(1, self.horizon + 1)
        gaps = np.cumsum(self.missed, dtype=np.int64)
        later = np.minimum(self.decided[:, None] + steps, len(gaps) - 1)
        spanned = steps + self.session_bars * np.maximum(gaps[later] - gaps[self.decided, None], 0)
        unit: FloatArray = self.facts.sigma[self.ends, None] * np.sqrt(spanned)
        return unit

    @cached_property
    def known_at(self) -> NDArray[np.datetime64]:
        """(samples,) the close at which all of a sample's answers are known; NaT where they never are."""
        latest: NDArray[np.datetime64] = np.maximum.reduce([target.known_at for target in self.targets.values()])
        return latest[self.decided]

    @cached_property
    def windows(self) -> FloatArray:
        """(bars - lookback + 1, features, lookback) read-only view; sample i is `windows[ends[i] - lookback + 1]`."""
        return np.lib.stride_tricks.sliding_window_view(self.features, self.lookback, axis=0)

    @cached_property
    def answers(self) -> FloatArray:
        """(samples, horizon + 3) the encoded targets, see `samples.targets.encode`."""
        return encode(self.targets, self.facts, self.decided, self.ends, self.unit)

    @cached_property
    def table(self) -> FloatArray:
        """(bars, horizon + 3) the encoded targets at the row where each window ends: of the first decision from it."""
        table = np.full((len(self.time), self.horizon + 3), np.nan)
        table[self.ends[::-1]] = self.answers[::-1]
        return table

    @cached_property
    def answered(self) -> NDArray[np.datetime64]:
        """(samples, horizon) `answered_at` of each sample and step."""
        return np.column_stack([self.answered_at(self.decided, step) for step in range(1, self.horizon + 1)])

    def answered_at(self, decided: IntArray, step: int) -> NDArray[np.datetime64]:
        """When the answer `step` bars after bar-level rows is known; NaT where there is none yet."""
        later = np.minimum(decided + step, len(self.time) - 1)
        same = (later == decided + step) & (self.symbol[later] == self.symbol[decided])
        same &= self.listing[later] == self.listing[decided]
        latest = self.known_by_bar[later]
        for ahead in range(step + 1):  # the answer is known once every bar on its way is
            latest = np.maximum(latest, self.known_at_bar[np.minimum(decided + ahead, later)])
        return np.where(same, latest, np.datetime64("NaT"))

    @cached_property
    def since(self) -> NDArray[np.datetime64]:
        """(samples,) when all that a forecast is made from is known: its time, or later where a row came after it."""
        return np.maximum(self.times, self.known_by_bar[self.ends])

    @cached_property
    def fit_cache(self) -> dict[Hashable, Any]:
        """What was fitted on these samples and will be asked for again; the key says all that it depends on."""
        return {}

    def forget(self) -> None:
        """Lets go of what is made again when it is asked for."""
        for name in ("windows", "summaries", "_unlimited", "unit", "answers", "answered", "table", "fit_cache"):
            self.__dict__.pop(name, None)

    def first_of_end(self, rows: IntArray) -> IntArray:
        """Of samples whose windows end at the same row, as late bars make them, the first alone: one answer a row."""
        first: IntArray = rows[np.diff(self.ends, prepend=-1)[rows] != 0]
        return first

    def window(self, rows: IntArray) -> FloatArray:
        """(rows, lookback, features) the windows of the given samples, copied out of the view."""
        return np.ascontiguousarray(self.windows[self.ends[rows] - self.lookback + 1].transpose(0, 2, 1))

    @cached_property
    def summaries(self) -> FloatArray:
        """(samples, 5 * features) each window in brief: last value, means over 5, 10 and T bars, slope over T bars."""
        return self._in_brief(self.ends)

    def summaries_of(self, rows: IntArray) -> FloatArray:
        """(rows, 5 * features) the `summaries` of some samples; made of these alone where they are not there yet."""
        if "summaries" in self.__dict__:
            return self.summaries[rows]
        return self._in_brief(self.ends[rows])

    @cached_property
    def _unlimited(self) -> FloatArray:
        """(samples, 5 * features) as `summaries_within` has them of windows with no value beyond the limits."""
        return self._in_brief(self.ends, np.array([[-np.inf], [np.inf]]).repeat(self.features.shape[1], axis=1))

    def summaries_within(self, rows: IntArray, limits: FloatArray) -> FloatArray:
        """(rows, 5 * features) the summaries of windows whose values are kept within `limits`, (2, features).

        Made anew of the windows that have a value beyond them, and of few rows where the others are not there yet; the
        last bits of sums hang on how windows lie in memory.
        """
        if len(rows) * FEW < len(self) and "_unlimited" not in self.__dict__:
            return self._in_brief(self.ends[rows], limits)
        beyond = np.r_[0, np.cumsum(((self.features < limits[0]) | (self.features > limits[1])).any(axis=1))]
        found, ends = self._unlimited[rows], self.ends[rows]
        far = np.flatnonzero(beyond[ends + 1] > beyond[ends + 1 - self.lookback])
        found[far] = self._in_brief(ends[far], limits)
        return found

    def _in_brief(self, ends: IntArray, limits: FloatArray | None = None) -> FloatArray:
        """Some rows at a time: copied out of the view, windows are many times as large as what is said of them."""
        ramp = np.arange(self.lookback) - (self.lookback - 1) / 2
        found = np.empty((len(ends), 5 * self.features.shape[1]))
        for first in range(0, len(ends), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            cut = self.windows[ends[part] - self.lookback + 1]
            if limits is not None:
                cut = np.ascontiguousarray(np.clip(cut, *limits[:, :, None]))
            found[part] = np.concatenate(
                [
                    cut[:, :, -1],
                    cut[:, :, -5:].mean(2),
                    cut[:, :, -10:].mean(2),
                    cut.mean(2),
                    cut @ (ramp / (ramp @ ramp)),
                ],
                axis=1,
            )
        return found


@dataclass(frozen=True)
class Sampling:
    """What samples are made with, the arguments of `make_samples`: an experiment's own are `Experiment.sampling`.

    >>> from gatecast.market import synthetic
    >>> Sampling(("ret_log_1",), 20, 5, "garman_klass", 20).make(synthetic.a1(500, seed=1))["index"].lookback
    20
    """

    features: tuple[str, ...] | None
    lookback: int
    horizon: int
    volatility_proxy: str
    context: int
    implied: str | None = None

    def make(self, bars: pl.DataFrame) -> dict[str, Samples]:
        """Asset class -> samples of these bars."""
        return make_samples(
            bars, self.features, lookback=self.lookback, horizon=self.horizon,
            volatility_proxy=self.volatility_proxy, context=self.context, implied=self.implied,
        )  # fmt: skip


@checked
def make_samples(
    bars: pl.DataFrame,
    features: tuple[str, ...] | None = None,
    *,
    lookback: int = 30,
    horizon: int = 5,
    volatility_proxy: str = "garman_klass",
    context: int = 0,
    implied: str | None = None,
) -> dict[str, Samples]:
    """Bars -> asset class -> Samples; a class is made from its own bars alone.

    `features` are names of the catalogue or columns of the bars (None: the default five). `implied`: see
    `make_targets`. A sample exists where the
    last `lookback` bars (`context`, if that is more) are in one segment and have every feature, the trailing volatility
    is known, the price moved within `lookback` bars (`stands_still`), and all of them are known by the fill of the
    decision, and the symbol is inside of its universe there; see `samples.known` for bars that come late.

    >>> from gatecast.market import synthetic
    >>> samples = make_samples(synthetic.b1(500, seed=1), ("ret_log_1", "x"), lookback=30)["index"]
    >>> samples.window(np.array([0])).shape, samples.names
    ((1, 30, 2), ('ret_log_1', 'x'))
    """
    refuse_lacking(bars)
    classes = bars["asset_class"].unique().sort().to_list()
    return {
        name: _make_class(
            name,
            bars.filter(pl.col("asset_class") == name),
            features,
            lookback,
            horizon,
            volatility_proxy,
            max(lookback, context),
            implied,
        )
        for name in classes
    }


def _make_class(
    asset_class: str,
    bars: pl.DataFrame,
    features: tuple[str, ...] | None,
    lookback: int,
    horizon: int,
    volatility_proxy: str,
    context: int,
    implied: str | None,
) -> Samples:
    bars = bars.sort("symbol", "time")
    names, left_out = available_features(bars, features)
    delay = delays(bars)
    used = read_rows(bars, delay, context)
    table = np.full((len(bars), len(names)), np.nan)
    if names:  # else no feature ever has a value here, and no window is usable
        table[used] = to_array(compute_features(bars.filter(pl.Series(used)), names), *names).reshape(-1, len(names))
    targets, facts = make_targets(bars, horizon, volatility_proxy, used, context, implied)
    symbols = tuple(bars["symbol"].unique(maintain_order=True).to_list())
    number = {symbol: i for i, symbol in enumerate(symbols)}
    symbol = bars["symbol"].replace_strict(number, return_dtype=pl.Int32).to_numpy()
    segment = bars["segment"].to_numpy().astype(np.int32)
    usable = np.isfinite(table).all(1) & np.isfinite(facts.sigma) & np.isfinite(facts.har).all(1)
    usable &= np.isfinite(facts.recent) & np.isfinite(facts.variance).all(1) & bool(names)
    usable &= np.isfinite(facts.smoothed).all(1) & np.isfinite(facts.concentration).all(1)
    still = stands_still(bars, lookback)
    fresh = np.ones(len(bars), bool)  # a bar that does not continue the run of usable bars before it
    fresh[1:] = (np.diff(symbol) != 0) | (np.diff(segment) != 0) | ~usable[:-1]
    start = np.maximum.accumulate(np.where(fresh, np.arange(len(bars)), 0))
    run = np.arange(len(bars)) - start + 1
    newest = window_ends(bars, delay, context)
    whole = usable & (run >= context) & ~still
    decided = np.flatnonzero((newest >= 0) & whole[newest] & is_inside(bars))
    ends = newest[decided]
    return Samples(
        asset_class, symbols, table, tuple(names), left_out, symbol, segment, listings(bars).to_numpy(),
        missed_sessions(bars).to_numpy(), bars_per_session(bars), to_times(bars, "time"), to_times(bars, "known_at"),
        known_so_far(bars, used, context), targets, facts,
        ends.astype(np.int64), decided.astype(np.int64), lookback, horizon, context,
    )  # fmt: skip


OF_A_BAR = ("high", "low", "volume")
"""What beside the close is another number in each bar of a price that moves."""


def stands_still(bars: pl.DataFrame, lookback: int) -> NDArray[np.bool_]:
    """(bars,) whether the price did not move at all within the window of `lookback` bars that ends at each bar.

    No bar of the window after its first has another close than the bar before, or a range, unless high, low and volume
    are those of the bar before as well, as where a feed repeats a bar: there is no variance, and nothing to forecast.
    `bars` sorted by symbol and time.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(30, seed=1)
    >>> price = pl.when(pl.int_range(pl.len()) < 20).then("close").otherwise(pl.lit(100.0))
    >>> stopped = bars.with_columns(price.alias(name) for name in ("open", "high", "low", "close"))
    >>> np.flatnonzero(stands_still(stopped, 5))
    array([24, 25, 26, 27, 28, 29])
    """
    first = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in ("symbol", "segment"))
    same = {name: pl.col(name).eq_missing(pl.col(name).shift()) for name in ("close", *OF_A_BAR)}
    repeated = pl.all_horizontal(same[name] for name in OF_A_BAR)
    moved = first | ~same["close"] | ((pl.col("high") > pl.col("low")) & ~repeated)
    number = np.arange(len(bars))
    latest = np.maximum.accumulate(np.where(bars.select(moved).to_series().to_numpy(), number, 0))
    still: NDArray[np.bool_] = number - latest >= max(lookback - 1, 1)  # of one bar, itself
    return still
