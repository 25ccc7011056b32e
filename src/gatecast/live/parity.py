"""What two chains say of each close, stage by stage -> the first bar, symbol and stage at which they differ.

Live, replay and batch are one chain over the same bars; where they differ, the stage tells what to look at first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from gatecast.forecasting.combining.intervals import HIGH, LOW
from gatecast.forecasting.panel import ENSEMBLE, MADE_OF_OTHERS
from gatecast.market.bars import session_date, session_of
from gatecast.store.issued import issued_keys
from gatecast.trading.decisions import CHOICE, KEYS, SIGNAL, keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.chain import Chain, ClassResult
    from gatecast.store.issued import Piece

    FloatArray = NDArray[np.float64]

Stage = Literal["bar", "feature", "model", "forecast", "signal", "strategy", "size"]
STAGES: tuple[Stage, ...] = ("bar", "feature", "model", "forecast", "signal", "strategy", "size")
"""In the order of the chain: what differs at one stage makes all that follow differ."""


@dataclass(frozen=True)
class Difference:
    """The first place at which two chains differ: close, symbol, stage, column, and both values as text."""

    time: datetime
    symbol: str
    stage: Stage
    column: str
    ours: str
    theirs: str

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"{self.symbol!r} at {self.time:%Y-%m-%d %H:%M} UTC: the {self.stage} is the first to differ, "
            f"{self.column} is {self.ours} and should be {self.theirs}."
        )


Stages = dict[Stage, pl.DataFrame]
"""Stage -> symbol, time and what was so at that stage, a row a symbol and close."""


def stages_of(chain: Chain, since: datetime | None = None) -> Stages:
    """What a chain says of each close from `since` on (None: of all), stage by stage.

    "bar": the bars; "feature": the newest row that each forecast read; "model": what each model forecast; "forecast":
    what the ensemble did; "signal", "strategy": columns of the decisions; "size": their weights, and the book.
    """
    found = {stage: make(chain) for stage, make in TABLES.items()}
    return found if since is None else since_of(found, since)


def since_of(stages: Stages, since: datetime) -> Stages:
    """The stages of the closes from `since` on."""
    return {stage: table.filter(pl.col("time") >= since) for stage, table in stages.items()}


def decided_at(chain: Chain, close: datetime) -> Stages:
    """What a chain says from a close on, and of the book also what it decided again of the closes before it."""
    found = stages_of(chain)
    again = pl.any_horizontal(pl.col(*OF_THE_BOOK).is_not_null())
    return {**since_of(found, close), "size": found["size"].filter((pl.col("time") >= close) | again)}


def joined(parts: Sequence[Stages]) -> Stages:
    """The stages of several pieces of time, one after the other; of the book what was decided last counts."""
    found = {stage: pl.concat([part[stage] for part in parts], how="diagonal_relaxed") for stage in STAGES}
    said = found["size"].group_by(KEYS, maintain_order=True)
    last = [pl.col(name).drop_nulls().last() for name in OF_THE_BOOK]
    return {**found, "size": said.agg(pl.exclude(*KEYS, *OF_THE_BOOK).drop_nulls().first(), *last)}


def first_difference(ours: Stages, theirs: Stages) -> Difference | None:
    """The first difference in time; of one close, at the earliest stage. None where all is the same, bit for bit.

    A row that only one of them has differs at the stage at which it is missing.

    >>> from gatecast.chain import make_chain
    >>> from gatecast.experiment import Experiment
    >>> from gatecast.market import synthetic
    >>> cheap = {"models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"}}
    >>> experiment, bars = Experiment(schedule={"refit": "1Y"}, **cheap), synthetic.a1(800, seed=1)
    >>> one = stages_of(make_chain(experiment, bars))
    >>> first_difference(one, one) is None
    True
    >>> other = stages_of(make_chain(experiment, bars.with_columns(pl.col("high") * 1.001)))
    >>> first_difference(other, one).stage
    'bar'
    """
    earliest: Difference | None = None
    for stage in STAGES:
        found = _first(stage, ours[stage], theirs[stage])
        if found is not None and (earliest is None or found.time < earliest.time):
            earliest = found
    return earliest


def _first(stage: Stage, ours: pl.DataFrame, theirs: pl.DataFrame) -> Difference | None:
    """The first row, by time and symbol, in which two tables differ."""
    columns = [name for name in theirs.columns if name not in KEYS]
    lost = [name for name in columns if name not in ours.columns]
    here = ours.with_columns(pl.lit(None).alias(name) for name in lost).select(*KEYS, *columns, _here=pl.lit(True))
    both = here.join(theirs.with_columns(_there=pl.lit(True)), on=KEYS, how="full", coalesce=True, suffix=":theirs")
    differs = pl.any_horizontal(
        pl.col("_here").is_null(), pl.col("_there").is_null(),
        *(pl.col(name).ne_missing(pl.col(f"{name}:theirs")) for name in columns),
    )  # fmt: skip
    wrong = both.filter(differs).sort("time", "symbol").head(1)
    if wrong.is_empty():
        return None
    row = wrong.row(0, named=True)
    if row["_here"] is None or row["_there"] is None:
        said = [("there" if one else "missing") for one in (row["_here"], row["_there"])]
        return Difference(row["time"], row["symbol"], stage, "the row", *said)
    name = next(name for name in columns if row[name] != row[f"{name}:theirs"])
    return Difference(
        row["time"], row["symbol"], stage, name.removeprefix("_"), repr(row[name]), repr(row[f"{name}:theirs"])
    )


def newest_difference(pieces: Mapping[str, Piece], chain: Chain) -> Difference | None:
    """What was issued last and a chain over later bars: the first feature of its newest close that differs, or None.

    In: asset class -> piece. Only rows that both have are compared.
    """
    for name, piece in pieces.items():
        one = chain.classes.get(name)
        if one is None or not len(piece.issued.time):
            continue
        rows, mine = piece.issued.rows_in(one.samples)
        newest = piece.issued.time[rows] == piece.issued.time.max()
        rows, mine = rows[newest], mine[newest]
        keys, table = issued_keys(piece.issued)[rows], one.samples.features[one.samples.ends[mine]]
        ours = keys.with_columns(pl.Series(label, values[rows]) for label, values in piece.features.items())
        theirs = keys.with_columns(pl.Series(label, table[:, at]) for at, label in enumerate(one.samples.names))
        without_nan = pl.selectors.float().fill_nan(None)
        found = _first("feature", ours.with_columns(without_nan), theirs.with_columns(without_nan))
        if found is not None:
            return found
    return None


def corrected_since(found: Difference, then: pl.DataFrame, now: pl.DataFrame) -> Difference | None:
    """A difference of what was issued at a close -> that of the newest bar up to the end of its session, in which
    another class may close later, which was corrected since.

    `then`, `now`: the bars as they were when it was issued, and as they are. None where none was corrected: then the
    difference has another cause.
    """
    values = [name for name in now.columns if name not in (*KEYS, "asset_class", "known_at", "segment")]
    both = now.join(then, on=KEYS, suffix=":then")
    both = both.filter(session_date(pl.col("time")) <= session_of(found.time))
    other = both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}:then")) for name in values))
    if other.is_empty():
        return None
    row = other.sort("time", "symbol").row(-1, named=True)
    name = next(name for name in values if row[name] != row[f"{name}:then"])
    return Difference(row["time"], row["symbol"], "bar", name, repr(row[f"{name}:then"]), repr(row[name]))


# ── what was issued ───────────────────────────────────────────────────────────────────────────────


def stages_of_issued(
    pieces: Sequence[Piece], bars: pl.DataFrame, decisions: pl.DataFrame, holdings: pl.DataFrame
) -> Stages:  # fmt: skip
    """The stages of what a store has issued: pieces of all classes in the order in which they count, and decisions.

    `bars`: as they were known when it was issued; `holdings` of the book, see `trading.book.holdings_of`. The first
    piece that has a symbol and close counts.
    """
    keys = [issued_keys(piece.issued) for piece in pieces]

    def table(columns: Callable[[Piece], Mapping[str, FloatArray]]) -> pl.DataFrame:
        parts = [
            key.with_columns(pl.Series(name, values) for name, values in columns(piece).items())
            for key, piece in zip(keys, pieces, strict=True)
        ]
        found = pl.concat(parts, how="diagonal").with_columns(pl.selectors.float().fill_nan(None))
        return found.unique(KEYS, keep="first", maintain_order=True)

    return {
        "bar": _in_time(bars),
        "feature": table(lambda piece: piece.features),
        "model": table(lambda piece: _values(piece.issued.values, _is_a_model)),
        "forecast": table(lambda piece: _values(piece.issued.values, _is_the_ensemble)),
        "signal": decisions.select(*KEYS, *SIGNAL),
        "strategy": decisions.select(*KEYS, *CHOICE),
        "size": with_book(table(lambda piece: piece.weights), holdings),
    }


# ── a table a stage ───────────────────────────────────────────────────────────────────────────────


def _bars(chain: Chain) -> pl.DataFrame:
    return _in_time(chain.bars)


def _in_time(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars that were known at their close: of the others nobody knew the numbers there."""
    return bars.filter(pl.col("known_at") <= pl.col("time")).drop("known_at", "segment")


def _of_classes(chain: Chain, make: Callable[[ClassResult], dict[str, FloatArray]]) -> pl.DataFrame:
    """Keys of every forecast and the columns that `make` gives of a class, NaN as null."""
    parts = []
    for one in chain.classes.values():
        rows = one.forecasts.rows
        keys = keys_of(one.samples, one.samples.decided[rows])
        parts.append(keys.with_columns(pl.Series(name, values[rows]) for name, values in make(one).items()))
    if not parts:
        return pl.DataFrame(schema={"symbol": pl.String, "time": pl.Datetime("us", "UTC")})
    return pl.concat(parts, how="diagonal").with_columns(pl.selectors.float().fill_nan(None))


def _features(chain: Chain) -> pl.DataFrame:
    def of_class(one: ClassResult) -> dict[str, FloatArray]:
        table = one.samples.features[one.samples.ends]
        return {name: table[:, place] for place, name in enumerate(one.samples.names)}

    return _of_classes(chain, of_class)


def _models(chain: Chain) -> pl.DataFrame:
    return _of_classes(chain, lambda one: _values(one.forecasts.values, _is_a_model))


def _forecasts(chain: Chain) -> pl.DataFrame:
    return _of_classes(chain, lambda one: _values(one.forecasts.values, _is_the_ensemble))


def _values(
    values: Mapping[str, Mapping[str, FloatArray]], wanted: Callable[[str], bool]
) -> dict[str, FloatArray]:  # fmt: skip
    """ "MODEL HEAD", of a path with its step -> (rows,) forecast."""
    found: dict[str, FloatArray] = {}
    for model, heads in values.items():
        if wanted(model):
            for head, array in dict(heads).items():
                label = head.replace(LOW, "low ").replace(HIGH, "high ")
                table = array.reshape(len(array), array.size // max(len(array), 1))
                many = table.shape[1] > 1
                found |= {f"{model} {label}{f' {step + 1}' * many}": table[:, step] for step in range(table.shape[1])}
    return found


def _is_a_model(name: str) -> bool:
    return name not in MADE_OF_OTHERS


def _is_the_ensemble(name: str) -> bool:
    return name == ENSEMBLE


def _decided(*columns: str) -> Callable[[Chain], pl.DataFrame]:
    return lambda chain: chain.decisions.select((*KEYS, *columns))


def _sizes(chain: Chain) -> pl.DataFrame:
    return with_book(_decided("weight", "book")(chain), chain.course.holdings)


def with_book(weights: pl.DataFrame, holdings: pl.DataFrame) -> pl.DataFrame:
    """Weights of the strategies, and what the book holds, aims at and orders of each symbol that has a bar.

    What the weights say of the book already is left out.
    """
    weights = weights.drop(OF_THE_BOOK, strict=False)
    own = holdings.filter(pl.col("time").is_not_null()).select(*KEYS, *OF_THE_BOOK)
    return weights.join(own, on=KEYS, how="full", coalesce=True, maintain_order="left_right")


OF_THE_BOOK = ("units", "held", "target", "trade")
"""What is compared of the book."""
TABLES: dict[Stage, Callable[[Chain], pl.DataFrame]] = {
    "bar": _bars,
    "feature": _features,
    "model": _models,
    "forecast": _forecasts,
    "signal": _decided(*SIGNAL),
    "strategy": _decided(*CHOICE),
    "size": _sizes,
}
