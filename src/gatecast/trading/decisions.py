"""Decisions: what was expected, chosen and held of every symbol at every close, and why, in one sentence.

They are made once, of the classes' forecasts, signals, proposals and selections; the tables of a saved run, the newest
rows and pages are views of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, did_you_mean
from gatecast.forecasting.combining.intervals import HIGH, LOW
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.trading.portfolio import make_book
from gatecast.trading.strategies import FLAT, strategy_titles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.market.facts import Facts
    from gatecast.samples.windows import Samples
    from gatecast.trading.selection import Selection
    from gatecast.trading.signals import Signals
    from gatecast.trading.strategies import Proposals

KEYS = ("symbol", "time")
FORECAST = ("return_log", "return_simple", "probability_up", "variance", "regime_probability")
"""Columns of what the ensemble expects over the horizon; those of its intervals follow them."""
SIGNAL = ("z", "signal", "consensus")
CHOICE = ("strategy", "evidence")
FLAGS = ("above_noise", "worth_its_cost", "too_good")
SIGNALS_TABLE = (*KEYS, *SIGNAL, *CHOICE, "reason")
"""Columns of the table of signals of a saved run."""
MADE = ("signal", *CHOICE, "score_bps", "expected", "left", *FLAGS)
"""Columns that a reason is made of."""


class Decided(Protocol):
    """One asset class whose strategies have been chosen: arrays over its samples and bars."""

    @property
    def samples(self) -> Samples: ...
    @property
    def forecasts(self) -> Forecasts: ...
    @property
    def signals(self) -> Signals: ...
    @property
    def proposals(self) -> Proposals: ...
    @property
    def selection(self) -> Selection: ...


@dataclass(frozen=True)
class Decisions:
    """One row a symbol and close with a forecast out of sample, sorted; every column is known at that close.

    Columns are made when they are asked for, since a run of thousands of symbols has millions of rows. See `columns`.

    `weights`: symbol, time, weight (of the symbol by itself, in [-1, 1]) and book (its share of the portfolio).
    `titles`: strategy -> title. `override`: the evidence factor that the settings set, None where the record decides.
    """

    classes: Mapping[str, Decided] = field(repr=False)
    weights: pl.DataFrame = field(repr=False)
    titles: Mapping[str, str] = field(repr=False)
    override: float | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns.

        - symbol, time: the close, UTC.
        - return_log, return_simple: the ensemble's expected return over the horizon; probability_up: of a rise;
          variance: over the horizon, close to close; regime_probability: of high volatility. low_80, high_80, ...:
          ends of the intervals of the log return over the horizon, one pair a level.
        - z: the forecast of the signalling model in standard deviations of its own past; signal: -1, 0 or 1; consensus:
          whether the second model agrees.
        - strategy: the one in force; score_bps: its score in basis points a bar; evidence: the factor from 0 to 1.
        - weight, book: see `weights`.
        - above_noise, worth_its_cost: see `View`; too_good: whether the record so far is better than an honest market
          allows. reason: a sentence.
        """
        levels = {level for one in self.classes.values() for level in _interval_ends(one)}
        return (
            *KEYS, *FORECAST, *sorted(levels), *SIGNAL, *CHOICE, "score_bps", "weight", "book", *FLAGS, "reason",
        )  # fmt: skip

    def select(self, columns: Iterable[str]) -> pl.DataFrame:
        """The decisions with these columns alone. Raises `SettingsError` for one that there is not."""
        wanted, known = tuple(columns), self.columns
        for name in wanted:
            if name not in known:
                raise SettingsError(f"decisions have no column {name!r}. {did_you_mean(name, known)}")
        parts = [self._of_class(one, wanted) for one in self.classes.values()]
        frame = pl.concat(parts, how="diagonal_relaxed").sort(KEYS)
        return frame.hstack(self.weights.select("weight", "book")).select(wanted)

    @property
    def frame(self) -> pl.DataFrame:
        """The decisions with all columns."""
        return self.select(self.columns)

    @property
    def signals(self) -> pl.DataFrame:
        """The table of signals that a run is saved with."""
        return self.select(SIGNALS_TABLE)

    def newest(self) -> pl.DataFrame:
        """Each symbol's last decision, all columns."""
        return self.frame.group_by("symbol", maintain_order=True).last()

    def of(self, classes: Mapping[str, Decided]) -> Self:
        """The decisions of some rows alone: of the same classes, with fewer forecasts."""
        kept = pl.concat([keys_of(one.samples, one.samples.decided[one.forecasts.rows]) for one in classes.values()])
        weights = self.weights.join(kept, on=KEYS, how="semi", maintain_order="left")
        return replace(self, classes=classes, weights=weights)

    def with_nothing_held(self, classes: Mapping[str, Decided]) -> Self:
        """The same with every weight 0; `classes`: those whose selections say so."""
        return replace(self, classes=classes, weights=self.weights.with_columns(pl.col("weight", "book") * 0.0))

    def _of_class(self, one: Decided, wanted: tuple[str, ...]) -> pl.DataFrame:
        """Keys and the wanted columns of one class, without weights."""
        made = _makers(one)
        needed = [*wanted, *(MADE if "reason" in wanted else ())]
        at = one.samples.decided[one.forecasts.rows]
        frame = keys_of(one.samples, at).with_columns(
            made[name]().alias(name) for name in dict.fromkeys(needed) if name in made
        )
        if "reason" in wanted:
            frame = frame.with_columns(reason=reason(self.titles, self.override))
        return frame.select(*KEYS, *(name for name in wanted if name in frame.columns and name not in KEYS))


def make_decisions(
    classes: Mapping[str, Decided],
    facts: Facts,
    *,
    titles: Mapping[str, str] | None = None,
    override: float | None = None,
    issued: pl.DataFrame | None = None,
) -> Decisions:
    """The decisions of all classes, and the book that divides the money among them.

    `facts`: of the bars of all classes, as the money is not divided among symbols that have ended. `titles`,
    `override`: see `Decisions`; None: the titles of the built-in strategies. `issued`: symbol, time and book of what
    was issued before: these shares stay.
    """
    parts = []
    for one in classes.values():
        at = one.samples.decided[one.forecasts.rows]
        parts.append(keys_of(one.samples, at).with_columns(weight=pl.Series(one.selection.weight[at])))
    weights = pl.concat(parts).sort(KEYS)
    known = weights.clear() if issued is None else issued.filter(pl.col("book").is_not_null())
    fresh = weights.join(known, on=KEYS, how="anti", maintain_order="left")
    made = fresh.select(*KEYS, book=make_book(fresh, facts, among=weights)["weight"])
    book = made if issued is None else pl.concat([known.select(*KEYS, "book"), made])
    weights = weights.join(book, on=KEYS, how="left", maintain_order="left")
    return Decisions(classes, weights, titles or strategy_titles(), override)


def keys_of(samples: Samples, at: NDArray[np.int64]) -> pl.DataFrame:
    """symbol and time of bar-level rows."""
    names = np.array(samples.symbols, dtype=object)[samples.symbol[at]]
    return pl.DataFrame(
        {
            "symbol": pl.Series(names, dtype=pl.String),
            "time": pl.Series(samples.time[at]).dt.replace_time_zone("UTC"),
        }
    )


def _interval_ends(one: Decided) -> dict[str, str]:
    """low_80, high_80, ... -> the ensemble's head with these ends of the intervals."""
    heads = one.forecasts.values[ENSEMBLE]
    return {head.removeprefix("return_"): head for head in heads if head.startswith((LOW, HIGH))}


def _makers(one: Decided) -> dict[str, Callable[[], pl.Series]]:
    """Column -> what makes it, of one class."""
    samples, rows = one.samples, one.forecasts.rows
    at = samples.decided[rows]
    ensemble, choice, proposals = one.forecasts.values[ENSEMBLE], one.selection, one.proposals

    def number(values: NDArray[np.float64]) -> pl.Series:
        return pl.Series(values).fill_nan(None)

    def forecast(head: str) -> Callable[[], pl.Series]:
        if head not in ensemble:
            return lambda: pl.Series(np.full(len(rows), np.nan)).fill_nan(None)
        return lambda: number(ensemble[head][rows] if ensemble[head].ndim == 1 else ensemble[head][rows, -1])

    return {
        "return_log": forecast("return"),
        "return_simple": forecast("return_simple"),
        "probability_up": forecast("direction"),
        "variance": lambda: number(ensemble["volatility"][rows] * samples.facts.ratio[samples.ends[rows]]),
        "regime_probability": forecast("regime"),
        **{name: forecast(head) for name, head in _interval_ends(one).items()},
        "z": lambda: number(one.signals.z[rows]),
        "signal": lambda: pl.Series(one.signals.signal[rows].astype(np.int8)),
        "consensus": lambda: pl.Series(one.signals.consensus[rows]),
        "strategy": lambda: pl.Series(np.array(proposals.names, dtype=object)[choice.chosen[at]], dtype=pl.String),
        "evidence": lambda: pl.Series(choice.evidence[at]),
        "score_bps": lambda: pl.Series(choice.score[at, choice.chosen[at]] * 1e4),
        "above_noise": lambda: pl.Series(proposals.above_noise[at]),
        "worth_its_cost": lambda: pl.Series(proposals.worth_its_cost[at]),
        "expected": lambda: pl.Series(proposals.expected[at]),
        "too_good": lambda: pl.Series(choice.too_good[at]),
        "left": lambda: pl.Series(choice.left[at]),
    }


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def reason(titles: Mapping[str, str], override: float | None = None) -> pl.Expr:
    """One sentence a row: why this strategy, by its title, and whether it is held, by the evidence or by `override`.

    An expression over the columns `MADE` of decisions.
    """
    name = pl.col("strategy").replace(dict(titles))
    force = (
        pl.when(pl.col("strategy") == FLAT)
        .then(pl.lit("in force: flat, because no other strategy's estimated return exceeds the cost of entering it"))
        .otherwise(
            pl.format(
                "in force: {}, the highest score of the strategies ({} bps a bar from past record and forecast; "
                "it ranks them and is no expected profit)",
                name,
                pl.col("score_bps").round(2),
            )
        )
    )
    held = (
        pl.when(pl.col("strategy") == FLAT)
        .then(pl.lit(""))
        .when(pl.lit(override is not None))
        .then(pl.lit("" if override is None else f"; {why_position(override)}"))
        .when(pl.col("too_good") & (pl.col("evidence") <= 0))
        .then(pl.lit("; no position: too good to be true, a leak was found, or the gain vanishes with delay"))
        .when(pl.col("evidence") <= 0)
        .then(pl.lit("; evidence factor 0: no position"))
        .when(pl.col("evidence") < 1)
        .then(pl.format("; evidence factor {}: the position is scaled by it", pl.col("evidence").round(2)))
        .otherwise(pl.lit("; evidence factor 1: full position"))
    )
    small = (
        pl.when((pl.col("signal") == 0) | pl.col("worth_its_cost"))
        .then(pl.lit(""))
        .when(~pl.col("above_noise"))
        .then(pl.lit("; the ensemble's expected return is small relative to its interval"))
        .when(pl.col("signal") * pl.col("expected") < 0)
        .then(pl.lit("; the ensemble's expected return has the opposite sign of the signal"))
        .otherwise(pl.lit("; the ensemble's expected return is below the cost of a round trip"))
    )
    alarm = (
        pl.when((pl.col("left") >= 1) | (pl.col("strategy") == FLAT))
        .then(pl.lit(""))
        .otherwise(pl.format("; an alarm of the losses leaves {} of the position", pl.col("left").round(2)))
    )
    return pl.concat_str([force, held, alarm, small])


def why_position(override: float) -> str:
    """Why a strategy has a position where the settings set the evidence factor, whatever the record says.

    >>> why_position(1.0), why_position(0.0)
    ('a position because the settings set evidence = 1', 'no position: the settings set evidence = 0')
    """
    share = "" if override == 1 else ", so much of it"
    return (
        f"a position because the settings set evidence = {override:g}{share}" if override > 0
        else f"no position: the settings set evidence = {override:g}"
    )  # fmt: skip
