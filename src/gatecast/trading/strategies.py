"""Strategies: each proposes a side for every bar from what is known at its close; sizes are made here, for all alike.

A strategy is one class: its settings, its title and `side`. Ours come through the same door as a user's:

    @STRATEGIES.add
    class Breakout(Strategy):
        kind = "breakout"
        bars: int = 55

        def side(self, view: View) -> FloatArray: ...

See docs/plugins.md.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from gatecast.errors import SettingsError, StrategyError
from gatecast.forecasting.combining.intervals import IntervalForecasts
from gatecast.forecasting.panel import ENSEMBLE, model_title
from gatecast.plugins import Registry, subclass_of
from gatecast.samples.targets import to_array
from gatecast.settings import MOST_BARS, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.samples.windows import Samples
    from gatecast.trading.signals import Signals

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

FLAT, MARKET = "flat", "held_long"
"""The strategies that every run has: nothing held, and the market that the others are compared with."""
NAMES = (FLAT, MARKET, "trend", "mean_reversion", "model_signal", "consensus_signal", "ensemble_signal")
"""The strategies that take part unless the settings name others."""
FORMER_NAMES = {"buy_and_hold": MARKET, "lstm_signal": "model_signal"}
"""Names of strategies in the folders of older runs."""
MOVED = {
    "trend_bars": ("trend", "bars"),
    "oversold": ("mean_reversion", "oversold"),
    "overbought": ("mean_reversion", "overbought"),
    "consensus_boost": ("consensus_signal", "boost"),
}
"""Settings that version 0.1 had under [strategies] -> the strategy that has them now, and their name there."""


class StrategySettings(Settings):
    """What the strategies have in common, and which take part."""

    names: tuple[str, ...] | None = Field(default=None, examples=[list(NAMES[2:4])])
    """strategies that take part beside flat and held_long, each a name of [strategy.NAME] or a kind; left out: the
    built-in ones"""
    target_volatility: Annotated[float, Field(gt=0, le=2)] = 0.15
    """yearly volatility of a full position; a weight never exceeds 1"""
    abstain: Annotated[float, Field(ge=0, le=1)] = 0.05
    """share of the narrowest interval's half width below which an expected return is not entered"""

    @field_validator("names")
    @classmethod
    def _usable_names(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if not name.isidentifier():
                raise ValueError(f"the strategy {name!r} needs a name of letters, digits and underscores")
        return names

    @property
    def in_order(self) -> tuple[str, ...]:
        """The names of all that take part: flat and held_long first, then the others as they are named.

        >>> StrategySettings(names=("trend", "held_long")).in_order
        ('flat', 'held_long', 'trend')
        """
        return tuple(dict.fromkeys((FLAT, MARKET, *(NAMES if self.names is None else self.names))))


@dataclass(frozen=True)
class View:
    """What a strategy decides from: the bars of one class, and what was forecast at each close.

    Arrays are (bars,), a row a bar, as in `bars`; a side may use rows up to its own. What is forecast is 0 or False
    where nothing is forecast out of sample.

    Attributes
    ----------
    bars: the Bars frame of the class, sorted by symbol and time. samples: made from it, the same rows. forecasts: of
        all models over the samples, the ensemble's among them. signals: over the samples.
    decided: whether something is forecast at the close, so that a weight counts there.
    newest: the newest row that is known at each decision, which is the row itself unless rows are known late; 0 where
        nothing is decided. See `as_known`.
    expected: the ensemble's expected simple return over the horizon. least: what it must exceed to mean anything beside
        the width of its interval. signal: -1, 0 or 1. consensus: whether both models of the signal agree.
    above_noise: whether the expected return exceeds `least`. worth_its_cost: whether a signal is above noise, and on
        the side of an expected return above the round trip.
    round_trip: cost in and out, as a fraction. bars_per_year: of the class.
    """

    bars: pl.DataFrame
    samples: Samples
    forecasts: Forecasts
    signals: Signals
    decided: BoolArray
    newest: IntArray
    expected: FloatArray
    least: FloatArray
    signal: FloatArray
    consensus: BoolArray
    above_noise: BoolArray
    worth_its_cost: BoolArray
    round_trip: float
    bars_per_year: float

    @property
    def horizon(self) -> int:
        """Bars ahead that are forecast."""
        return self.samples.horizon

    @property
    def group(self) -> IntArray:
        """(bars,) a number for each symbol's stretch of bars without a gap: nothing is held over its end."""
        samples = self.samples
        group: IntArray = samples.symbol.astype(np.int64) * (samples.segment.max() + 1) + samples.segment
        return group

    def as_known(self, values: FloatArray) -> FloatArray:
        """(bars,) values made of bars, row by row -> at each decision that of the newest row known then."""
        return values[self.newest]


class Strategy(Settings, ABC):
    """One rule: what is known at a close -> which side to hold from the next fill on. Settings are its fields.

    `kind` is the name that settings files call it by.
    """

    kind: ClassVar[str]

    def title(self, model: str = "", confirmed_by: str = "") -> str:
        """What a reader calls it.

        `model`, `confirmed_by`: titles of the models whose forecasts make the run's signals; empty: unknown.
        """
        return self.kind.replace("_", " ")

    @abstractmethod
    def side(self, view: View) -> FloatArray:
        """(bars,) in [-1, 1], the share of a full position and its side, from what is known at each close.

        Its size, by forecast volatility, is made afterwards; so are costs, and which strategy is in force.
        """

    def relative_size(self, view: View) -> FloatArray | float:
        """(bars,) or one number from 0 on: how large a position is beside the size that forecast volatility gives."""
        return 1.0


STRATEGIES = Registry[type[Strategy]]("strategy", "gatecast.strategies", fault=subclass_of(Strategy))
"""Kind -> class of every strategy: built in, added by `@STRATEGIES.add`, or of an installed package."""


# ── the built-in ones ─────────────────────────────────────────────────────────────────────────────


@STRATEGIES.add
class Flat(Strategy):
    """No position."""

    kind = "flat"

    def side(self, view: View) -> FloatArray:
        """0 at every bar."""
        return np.zeros(len(view.decided))


@STRATEGIES.add
class HeldLong(Strategy):
    """Always long, sized by forecast volatility: the market that others are compared with."""

    kind = "held_long"

    def title(self, model: str = "", confirmed_by: str = "") -> str:
        """Says that it is sized, as the benchmark of a run is not."""
        return "held long, sized by volatility"

    def side(self, view: View) -> FloatArray:
        """1 at every bar."""
        return np.ones(len(view.decided))


@STRATEGIES.add
class Trend(Strategy):
    """The side of the past return."""

    kind = "trend"

    bars: Annotated[int, Field(ge=2, le=MOST_BARS)] = 120
    """bars of past return whose sign is the trend"""

    def side(self, view: View) -> FloatArray:
        """The sign of the close over the close so many bars earlier, 0 in a segment's first bars."""
        before = pl.col("close").shift(self.bars).over("symbol", "segment")
        frame = view.bars.select(trend=(pl.col("close") / before - 1).sign())
        return view.as_known(np.nan_to_num(to_array(frame, "trend")))


@STRATEGIES.add
class MeanReversion(Strategy):
    """Buys what has fallen fast and sells what has risen fast, until the RSI of 14 bars crosses 50."""

    kind = "mean_reversion"

    oversold: Annotated[float, Field(gt=0, lt=50)] = 30.0
    """RSI below which it buys"""
    overbought: Annotated[float, Field(gt=50, lt=100)] = 70.0
    """RSI above which it sells"""

    def side(self, view: View) -> FloatArray:
        """1 after the RSI was below `oversold`, -1 after it was above `overbought`, 0 after it crossed 50."""
        from gatecast.samples.features import compute_features

        group = ["symbol", "segment"]
        rsi = compute_features(view.bars, ["rsi_14"])["rsi_14"]
        frame = view.bars.select(*group).with_columns(rsi=rsi)
        above = pl.col("rsi") > 50
        event = (
            pl.when(pl.col("rsi") < self.oversold)
            .then(1.0)
            .when(pl.col("rsi") > self.overbought)
            .then(-1.0)
            .when(above != above.shift(1).over(group))
            .then(0.0)
        )
        frame = frame.with_columns(event=event).select(side=pl.col("event").forward_fill().over(group))
        return view.as_known(np.nan_to_num(to_array(frame, "side")))


class _OfOneModel(Strategy):
    """What strategies that follow the signal of one model have in common."""

    def side(self, view: View) -> FloatArray:
        """The latest signal of the last horizon that was worth its cost, 0 where there was none."""
        return _held_for(view.signal * view.worth_its_cost, view.group, view.horizon)


@STRATEGIES.add
class ModelSignal(_OfOneModel):
    """Holds a model's signal for a horizon, where it is worth its cost."""

    kind = "model_signal"

    def title(self, model: str = "", confirmed_by: str = "") -> str:
        """Named after the model."""
        return f"{model} signal" if model else "signal of one model"


@STRATEGIES.add
class ConsensusSignal(_OfOneModel):
    """As `model_signal`, and larger while a second model agrees."""

    kind = "consensus_signal"

    boost: Annotated[float, Field(ge=1, le=5)] = 1.5
    """how much larger positions are when both models of the signal agree, at equal average risk"""

    def title(self, model: str = "", confirmed_by: str = "") -> str:
        """Named after both models."""
        own = ModelSignal().title(model)
        one = model and model == confirmed_by
        return f"{own}, without a second model" if one else f"{own}, larger with {confirmed_by or 'another model'}"

    def relative_size(self, view: View) -> FloatArray:
        """`boost` while both models agree, over the mean of all that was held before."""
        side = self.side(view)
        agreed = _held_for(view.signal * view.worth_its_cost * view.consensus, view.group, view.horizon) == side
        boost = np.where((side != 0) & agreed, self.boost, 1.0)
        return boost / _past_mean(boost, side != 0, view.samples.time)


@STRATEGIES.add
class EnsembleSignal(Strategy):
    """Enters where the ensemble's expected return exceeds the round trip, and leaves when its sign turns."""

    kind = "ensemble_signal"

    def side(self, view: View) -> FloatArray:
        """Side of the expected return once it is worth its cost, kept until the expectation changes sign."""
        return _until_it_turns(view.expected, np.maximum(view.round_trip, view.least), view.group)


# ── which take part ───────────────────────────────────────────────────────────────────────────────


def load_strategies(names: Iterable[str], tables: Mapping[str, Any] | None = None) -> dict[str, Strategy]:
    """Name -> strategy, in the order of `names`.

    `tables`: name -> settings, with `kind` where a strategy is of another kind than its name, or a Strategy.

    Raises `SettingsError` for a table of one's own that no name asks for, `PluginError` for a kind that nobody offers.

    >>> load_strategies(["trend", "slow"], {"slow": {"kind": "trend", "bars": 250}})
    {'trend': Trend(bars=120), 'slow': Trend(bars=250)}
    """
    names, tables = tuple(names), tables or {}
    unnamed = [name for name in tables if name not in (*names, *NAMES)]
    if unnamed:
        raise SettingsError(
            f"strategy.{unnamed[0]} has settings, but takes no part: add {unnamed[0]!r} to names under [strategies], "
            "or remove the table."
        )
    return {name: _load(name, tables.get(name, {})) for name in names}


def _load(name: str, table: Any) -> Strategy:
    if isinstance(table, Mapping):
        rest = {key: value for key, value in table.items() if key != "kind"}
        table = STRATEGIES.find(str(table.get("kind", name)))(**rest)
    if not isinstance(table, Strategy):
        raise SettingsError(f"strategy.{name} = {table!r}: expected a table of settings, [strategy.{name}].")
    kind = getattr(table, "kind", "")
    if kind not in STRATEGIES or STRATEGIES.find(kind) is not type(table):
        raise SettingsError(
            f"strategy.{name}: {type(table).__name__} is not registered as {kind!r}: put @STRATEGIES.add above the "
            "class, so that the settings of a run can name it."
        )
    if name in (FLAT, MARKET) and table.kind != name:
        raise SettingsError(f"strategy.{name} is of the kind {table.kind!r}: give another name to one of your own.")
    return table


def with_moved_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an experiment with what version 0.1 had under [strategies] moved to [strategy.NAME], with a notice.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     with_moved_settings({"strategies": {"trend_bars": 60, "abstain": 0.1}})
    {'strategies': {'abstain': 0.1}, 'strategy': {'trend': {'bars': 60}}}
    """
    section, tables = settings.get("strategies"), settings.get("strategy", {})
    tables = {} if tables is None else tables
    old = [name for name in MOVED if name in section] if isinstance(section, dict) else []
    if not isinstance(section, dict) or not old or not isinstance(tables, dict):
        return dict(settings)
    tables = dict(tables)
    for name in old:
        strategy, own = MOVED[name]
        if isinstance(tables.setdefault(strategy, {}), dict):
            tables[strategy] = {own: section[name], **tables[strategy]}
    places = ", ".join(f"{name} is now {MOVED[name][1]} under [strategy.{MOVED[name][0]}]" for name in old)
    warnings.warn(f"strategies: {places}; the old place is read for one more version.", UserWarning, stacklevel=2)
    rest = {name: value for name, value in section.items() if name not in old}
    return {**settings, "strategies": rest, "strategy": tables}


def strategy_titles(
    model: str = "",
    confirmed_by: str = "",
    strategies: Mapping[str, Strategy] | None = None,
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Strategy -> its title for a reader, former names included.

    `model`, `confirmed_by`: the models whose forecasts make a run's signals (`SignalSettings`); empty: unknown.
    `strategies`: those of the run; None: the built-in ones. `names`: model -> title, of the run's own models.

    >>> titles = strategy_titles("ridge", "forest")
    >>> titles["held_long"], titles["model_signal"], titles["consensus_signal"]
    ('held long, sized by volatility', 'ridge regression signal', 'ridge regression signal, larger with random forest')
    >>> strategy_titles()["model_signal"], strategy_titles("ridge", "ridge")["consensus_signal"]
    ('signal of one model', 'ridge regression signal, without a second model')
    """
    every = load_strategies(NAMES) | dict(strategies or {})
    of_models = [(names or {}).get(name) or model_title(name) if name else "" for name in (model, confirmed_by)]
    titles = {
        name: one.title(*of_models) if name == one.kind else name.replace("_", " ") for name, one in every.items()
    }
    return titles | {former: titles[name] for former, name in FORMER_NAMES.items()}


# ── what they propose ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Proposals:
    """(bars, strategies) weights in [-1, 1] proposed at each close, 0 where nothing is forecast out of sample.

    `names`: of the strategies, flat first. `forecast_at` are the bar-level rows that were forecast. `expected`,
    `signal`, `above_noise` and `worth_its_cost`, (bars,), are those of `View`.
    """

    names: tuple[str, ...]
    weights: FloatArray
    forecast_at: IntArray
    expected: FloatArray
    signal: FloatArray
    above_noise: BoolArray
    worth_its_cost: BoolArray

    def of(self, name: str) -> FloatArray:
        """(bars,) weights that one strategy proposes."""
        return self.weights[:, self.names.index(name)]

    def without(self, rows: BoolArray) -> Self:
        """The same with nothing proposed at some rows, (bars,)."""
        if not rows.any():
            return self
        return replace(
            self, weights=np.where(rows[:, None], 0.0, self.weights), worth_its_cost=self.worth_its_cost & ~rows
        )


def propose(
    forecasts: Forecasts,
    signals: Signals,
    bars: pl.DataFrame,
    round_trip: float,
    periods_per_year: float,
    settings: StrategySettings | None = None,
    strategies: Mapping[str, Strategy] | None = None,
) -> Proposals:
    """Weights of every strategy for the bars of one class, decided at each close.

    `bars`: the Bars frame that the samples were made from, same rows. `round_trip`: cost in and out, as a fraction.
    `strategies`: name -> strategy, flat first; None: those of the settings. A position is sized by the width of the
    narrowest interval, where there are intervals, else by forecast volatility: the same as long as the ends are the
    normal ones, smaller where answers have lain beyond them.

    Raises `StrategyError` for a strategy that fails, or whose sides or sizes are out of range.
    """
    settings = settings or StrategySettings()
    strategies = load_strategies(settings.in_order) if strategies is None else strategies
    view, size = make_view(forecasts, signals, bars, round_trip, periods_per_year, settings)
    columns = []
    for name, one in strategies.items():
        side, relative = _asked(name, one, view)
        columns.append(np.clip(size * side * relative, -1.0, 1.0))
    table = np.where(view.decided[:, None], np.column_stack(columns), 0.0)
    at = forecasts.samples.decided[forecasts.rows]
    return Proposals(
        tuple(strategies), table, at, view.expected, view.signal, view.above_noise, view.worth_its_cost
    )  # fmt: skip


def make_view(
    forecasts: Forecasts,
    signals: Signals,
    bars: pl.DataFrame,
    round_trip: float,
    periods_per_year: float,
    settings: StrategySettings,
) -> tuple[View, FloatArray]:
    """What the strategies of a class decide from, and the (bars,) size of a full position, in [0, 1]; see `propose`."""
    from scipy.special import ndtri

    samples, horizon = forecasts.samples, forecasts.samples.horizon
    rows = forecasts.rows
    at = samples.decided[rows]
    count = len(samples.time)

    def at_bars(values: FloatArray) -> FloatArray:
        table = np.zeros(count)
        table[at] = np.nan_to_num(values[rows])
        return table

    ensemble = forecasts.values[ENSEMBLE]
    intervals = IntervalForecasts.of_heads(ensemble, most=1)
    if intervals:
        deviation = np.maximum(at_bars(intervals.deviation), 1e-12)
        least = settings.abstain * ndtri(0.5 + intervals.levels[0] / 2) * deviation
    else:
        deviation = np.sqrt(at_bars(ensemble["volatility"] * samples.facts.ratio[samples.ends]))
        least = np.zeros(count)
    per_bar = settings.target_volatility / np.sqrt(periods_per_year)
    size = np.zeros(count)
    size[at] = np.minimum(1.0, per_bar * np.sqrt(horizon) / deviation[at])
    expected, signal = at_bars(ensemble["return_simple"]), at_bars(signals.signal)
    above_noise = np.abs(expected) >= least
    decided, newest = np.zeros(count, bool), np.zeros(count, np.int64)
    decided[at], newest[at] = True, samples.ends[rows]
    view = View(
        bars, samples, forecasts, signals, decided, newest, expected, least, signal,
        consensus=at_bars(signals.consensus.astype(float)) != 0, above_noise=above_noise,
        worth_its_cost=(signal != 0) & (signal * expected > round_trip) & above_noise,
        round_trip=round_trip, bars_per_year=periods_per_year,
    )  # fmt: skip
    return view, size


def _asked(name: str, strategy: Strategy, view: View) -> tuple[FloatArray, FloatArray]:
    """Sides and relative sizes of a strategy, (bars,), refused with its name where they are none."""
    made = f"the strategy {name!r}" + (f" (kind {strategy.kind!r})" if strategy.kind != name else "")
    found = []
    for what, least, most in (("side", -1.0, 1.0), ("relative_size", 0.0, np.inf)):
        try:
            values = np.asarray(getattr(strategy, what)(view), dtype=np.float64)
        except Exception as error:
            raise StrategyError(f"{made} failed in {what}: {type(error).__name__}: {error}.") from error
        shape = view.decided.shape
        if values.shape != shape and not (what == "relative_size" and values.shape == ()):
            raise StrategyError(f"{made}: {what} must return one number a bar, shape {shape}, got {values.shape}.")
        values = np.broadcast_to(values, shape)
        wrong = view.decided & ~((values >= least) & (values <= most) & np.isfinite(values))
        if wrong.any():
            row = int(np.argmax(wrong))
            symbol, time = view.bars["symbol"][row], view.bars["time"][row]
            wanted = "a number from -1 to 1" if what == "side" else "a number from 0 on"
            raise StrategyError(
                f"{made}: {what} is {values[row]} for {symbol} at {time:%Y-%m-%d %H:%M}: expected {wanted} at every "
                "bar with a forecast; 0 where it has no opinion."
            )
        found.append(np.where(view.decided, values, 0.0))
    return found[0], found[1]


# ── how long a side is held ───────────────────────────────────────────────────────────────────────


def _held_for(side: FloatArray, group: IntArray, bars: int) -> FloatArray:
    """The latest non-zero side of the last `bars` bars of the same group, 0 if there was none."""
    number = np.arange(len(side))
    latest = np.maximum.accumulate(np.where(side != 0, number, -1))
    fresh = (latest >= 0) & (number - latest < bars) & (group[np.maximum(latest, 0)] == group)
    return np.where(fresh, side[np.maximum(latest, 0)], 0.0)


def _until_it_turns(expected: FloatArray, least: FloatArray, group: IntArray) -> FloatArray:
    """Side of the expected return once it exceeds so much, kept until the expectation changes sign."""
    enters = np.where(np.abs(expected) > least, np.sign(expected), 0.0)
    number = np.arange(len(expected))
    turns = np.r_[True, (np.sign(expected[1:]) != np.sign(expected[:-1])) | (group[1:] != group[:-1])]
    since = np.maximum.accumulate(np.where(turns, number, 0))
    latest = np.maximum.accumulate(np.where(enters != 0, number, -1))
    return np.where(latest >= since, enters[np.maximum(latest, 0)], 0.0)


def _past_mean(boost: FloatArray, held: NDArray[np.bool_], time: NDArray[np.datetime64]) -> FloatArray:
    """Mean boost over the positions of all symbols held before each time: dividing by it keeps the average risk."""
    moments, inverse = np.unique(time, return_inverse=True)
    total = np.bincount(inverse[held], boost[held], len(moments))
    count = np.bincount(inverse[held], minlength=len(moments))
    before_total, before_count = np.r_[0.0, np.cumsum(total)[:-1]], np.r_[0, np.cumsum(count)[:-1]]
    prior = 100  # positions of size 1 that the mean starts from
    mean: FloatArray = (before_total + prior) / (before_count + prior)
    return mean[inverse]
