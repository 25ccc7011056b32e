"""A record: forecasts of one head beside their answers, whoever made them. All of evaluation reads records.

`Record.of` makes one from walk-forward forecasts, `Record.from_table` from a table of anybody's. `day_means` makes the
unit of evidence from a record: one row a day, the mean over symbols of each day's standardised losses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.errors import SettingsError, did_you_mean
from gatecast.evaluation.rivals import CAP, each_with_rival
from gatecast.forecasting.panel import RIVAL, RIVALS, model_title
from gatecast.forecasting.walkforward import Forecasts
from gatecast.samples.targets import HEADS, standardised_loss
from gatecast.samples.windows import make_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.forecaster import Forecaster
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

LONGEST_HORIZON = 22  # bars, as everywhere
TABLE_COLUMNS = ("symbol", "time", "model", "head", "step", "value")
"""Columns of a table of forecasts, as in a run's forecasts.parquet."""


class ByModel(Mapping[str, "FloatArray"]):
    """Model -> (rows,) forecasts, made each time they are asked for: of finished classes they lie on disk."""

    def __init__(self, models: Collection[str], make: Callable[[str], FloatArray]) -> None:
        self._models, self._make = dict.fromkeys(models), make

    def __getitem__(self, model: str) -> FloatArray:
        if model not in self._models:
            raise KeyError(model)
        return self._make(model)

    def __contains__(self, model: object) -> bool:
        return model in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


@dataclass(frozen=True)
class Record:
    """Forecasts of one head and their answers, one row a symbol and close, asset classes one after the other.

    Attributes
    ----------
    head: "return", "direction", "volatility" or "regime".
    samples: asset class -> the samples that the answers come from; `classes`: their names.
    forecasts: model -> (rows,), NaN where there is none. "return": log return over the horizon; "volatility": variance
        over the horizon; "direction", "regime": probability.
    answer: (rows,) NaN while it is not known. Of "volatility" the log of the realised variance.
    change: (rows,) log return over the horizon, whatever the head.
    unit: (rows,) variance of that return as known at the forecast; `sigma`: (rows,) standard deviation of one bar's.
    time: (rows,) the close at which the forecast was made, UTC; `day`: (rows,) its session, datetime64[D].
    known_at: (rows,) when the answer is known; NaT while it is not.
    number: (rows,) place of the row's class in `classes`; `symbol`: (rows,) place of its symbol in `symbols`, where a
        name that two classes have stands twice; `bar`, `segment`: (rows,) its bar among those of its class, sorted by
        symbol and time, and the stretch without a gap that the bar belongs to.
    rivals: the simple rival in force at each refit, all classes one after the other; () where there is none.
    members: model -> for each of its seeds (rows,) what that seed alone forecast.
    titles: model -> what a reader calls it.
    """

    head: str
    samples: Mapping[str, Samples]
    forecasts: Mapping[str, FloatArray]
    answer: FloatArray
    change: FloatArray
    unit: FloatArray
    sigma: FloatArray
    time: NDArray[np.datetime64]
    day: NDArray[np.datetime64]
    known_at: NDArray[np.datetime64]
    number: IntArray
    symbol: IntArray
    bar: IntArray
    segment: IntArray
    symbols: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    members: Mapping[str, Sequence[FloatArray]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.answer)

    @classmethod
    def of(cls, forecasts: Mapping[str, Forecasts], head: str) -> Record:
        """The record of one head of walk-forward forecasts, asset class -> forecasts.

        Rows are those that were forecast out of sample. Raises `SettingsError` for an unknown head or no class.

        >>> from gatecast.forecasting.models.naive import Naive
        >>> from gatecast.forecasting.walkforward import Schedule, walk_forward
        >>> from gatecast.market import synthetic
        >>> samples = make_samples(synthetic.a1(900, seed=1), ("ret_log_1",))["index"]
        >>> forecasts = walk_forward([Naive(rule="zero"), Naive(rule="mean")], samples, Schedule(refit="1Y"))
        >>> record = Record.of({"index": forecasts}, "return")
        >>> list(record.forecasts), record.overlap, len(record) == len(forecasts.rows)
        (['zero', 'mean'], 5, True)
        """
        return _record(_Rows.of(forecasts), head)

    @classmethod
    def from_table(
        cls,
        outside: pl.DataFrame,
        bars: pl.DataFrame,
        *,
        horizon: int | None = None,
        volatility_proxy: str = "garman_klass",
    ) -> dict[str, Record]:
        """Head -> record of anybody's forecasts, their answers computed from the bars.

        Parameters
        ----------
        outside: one row a forecast, in columns `symbol`, `time` (the close at which it was made, UTC), `model`, `head`,
            `step` (bars ahead) and `value`; further columns are not read. Values as in `forecasts`; of "return" only
            the step of the horizon is judged.
        bars: Bars with the closes and what follows them.
        horizon: bars ahead, 1-22; None: the largest step of the table.
        volatility_proxy: what the answers of "volatility" and "regime" are made of, see `samples.make_targets`.

        A forecast made before a symbol has 23 bars, or at a close that was known too late, has no unit and is left out.

        Raises
        ------
        `SettingsError` for a table that lacks a column, names an unknown head or symbol, forecasts the same twice, has
        a time that is no bar's close, or a value that its head cannot have.

        >>> from gatecast.market import synthetic
        >>> bars = synthetic.a1(300, seed=1)
        >>> theirs = bars.select("symbol", "time", model=pl.lit("theirs"), head=pl.lit("direction"), step=5, value=0.6)
        >>> record = Record.from_table(theirs, bars)["direction"]
        >>> int(np.isfinite(record.losses("theirs")).sum()), record.losses("theirs")[0].round(2)
        (273, np.float64(0.16))
        """
        if not isinstance(outside, pl.DataFrame):
            try:
                outside = pl.DataFrame(outside)
            except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
                raise SettingsError(f"expected a table of forecasts, a Polars or pandas frame: {error}") from None
        heads = _checked_table(outside, bars, horizon)
        horizon = horizon or int(outside["step"].max())  # type: ignore[arg-type]
        symbols = outside["symbol"].unique().implode()
        judged = bars.filter(pl.col("asset_class").is_in(_classes_of(bars, symbols).implode()))
        samples = make_samples(
            judged, ("ret_log_1",), lookback=1, horizon=horizon, volatility_proxy=volatility_proxy
        )  # fmt: skip
        last = outside.filter(pl.col("step") == horizon)
        made = {name: _values(one, last) for name, one in samples.items()}
        rows = _Rows(samples, {name: _issued(values, len(samples[name])) for name, values in made.items()}, made)
        if not any(len(one) for one in rows.rows.values()):
            raise SettingsError(
                f"the table has no forecast over {horizon} bars that can be judged: every one was made before its "
                "symbol has 23 bars. Give bars that begin earlier, or the horizon that the forecasts are for."
            )
        return {head: _record(rows, head) for head in heads}

    @property
    def classes(self) -> tuple[str, ...]:
        """The asset classes, in the order of the rows."""
        return tuple(self.samples)

    @property
    def horizon(self) -> int:
        """Bars that an answer spans."""
        return next(iter(self.samples.values())).horizon

    @cached_property
    def overlap(self) -> int:
        """Days that an answer spans among those of all classes together: the days that overlap."""
        return sessions_spanned([(one.sessions, one.horizon_sessions) for one in self.samples.values()])

    @property
    def baselines(self) -> tuple[str, ...]:
        """The simple rivals of the head that are among the forecasts, the simplest first."""
        return tuple(name for name in RIVALS[self.head] if name in self.forecasts)

    def uncapped_losses(self, model: str) -> FloatArray:
        """(rows,) standardised loss of a model's forecasts, see `samples.targets.standardised_loss`; NaN for none."""
        if model not in self.forecasts:
            return np.full(len(self), np.nan)
        return standardised_loss(self.head, self.answer, self.forecasts[model], self.unit)

    def losses(self, model: str) -> FloatArray:
        """(rows,) standardised loss of a model's forecasts, at most `CAP`; NaN where there is none."""
        return np.minimum(self.uncapped_losses(model), CAP)

    def with_forecasts(self, model: str, values: FloatArray) -> Record:
        """The record with (rows,) forecasts of one more model, or of that model replaced."""
        if values.shape != (len(self),):
            raise ValueError(f"expected ({len(self)},) forecasts, one a row of the record, got shape {values.shape}.")
        before = self.forecasts
        made = ByModel((*before, model), lambda name: values if name == model else before[name])
        return replace(self, forecasts=made, titles={model: model_title(model), **self.titles})

    def beside(self, other: Record) -> Record:
        """The record with the models of another record of the same head and bars, NaN where that one has no row.

        So anybody's forecasts get gatecast's rivals, of which the record takes on those in force. Raises
        `SettingsError` where the heads, classes or bars are not the same, or a model is in both.
        """
        if (self.head, set(self.classes)) != (other.head, set(other.classes)):
            raise SettingsError(
                f"expected a record of the head {self.head!r} and the classes {', '.join(self.classes)}, got "
                f"{other.head!r} and {', '.join(other.classes)}. Make both from the same bars."
            )
        if both := sorted(set(self.forecasts) & set(other.forecasts)):
            raise SettingsError(f"both records have {', '.join(both)}. Rename the model in one of them.")
        place: dict[tuple[str, int], int] = {
            (other.classes[number], bar): row
            for row, (number, bar) in enumerate(zip(other.number.tolist(), other.bar.tolist(), strict=True))
        }
        keys = zip(self.number.tolist(), self.bar.tolist(), strict=True)
        at = np.array([place.get((self.classes[number], bar), -1) for number, bar in keys], np.int64)
        if (self.time[at >= 0] != other.time[at[at >= 0]]).any() or self.horizon != other.horizon:
            raise SettingsError("the two records have other bars or horizons. Make both from the same bars.")

        def moved(values: FloatArray) -> FloatArray:
            return np.where(at >= 0, values[at], np.nan) if len(values) else np.full(len(self), np.nan)

        own, theirs = self.forecasts, other.forecasts
        made = ByModel((*own, *theirs), lambda name: own[name] if name in own else moved(theirs[name]))
        titles = {**other.titles, **self.titles}
        return replace(self, forecasts=made, rivals=self.rivals or other.rivals, titles=titles)

    def of_rows(self, rows: BoolArray) -> Record:
        """The record of some of its rows, a mask."""
        arrays = {
            name: getattr(self, name)[rows]
            for name in (
                "answer", "change", "unit", "sigma", "time", "day", "known_at", "number", "symbol", "bar", "segment"
            )
        }  # fmt: skip
        every = self.forecasts
        members = {name: [one[rows] for one in seeds] for name, seeds in self.members.items()}
        made: dict[str, Any] = {"forecasts": ByModel(every, lambda name: every[name][rows]), "members": members}
        return replace(self, **arrays, **made)

    def of_classes(self, names: Collection[str]) -> Record:
        """The record of some of its asset classes, whose days alone then count for `overlap`."""
        if set(names) == set(self.classes):
            return self
        kept = [place for place, name in enumerate(self.classes) if name in names]
        some = self.of_rows(np.isin(self.number, kept))
        number = np.searchsorted(kept, some.number)
        return replace(
            some, number=number, samples={self.classes[place]: self.samples[self.classes[place]] for place in kept}
        )

    def everywhere(self, model: str) -> bool:
        """Whether a model has a forecast in each class that has any row."""
        if model not in self.forecasts:
            return False
        issued = np.isfinite(self.forecasts[model])
        return set(np.unique(self.number)) == set(np.unique(self.number[issued]))


def records_of(forecasts: Mapping[str, Forecasts], heads: Sequence[str] = tuple(RIVALS)) -> dict[str, Record]:
    """Head -> record of walk-forward forecasts, asset class -> forecasts, the rival in force among them.

    Raises `SettingsError` where there is no class.
    """
    rows = _Rows.of(each_with_rival(forecasts))
    return {head: _record(rows, head) for head in heads}


# ── how a record is made ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a record are among the samples, and what was forecast there: asset class -> each."""

    samples: Mapping[str, Samples]
    rows: Mapping[str, IntArray]
    values: Mapping[str, Mapping[str, Mapping[str, FloatArray]]]
    rivals: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Sequence[Mapping[str, FloatArray]]]] = field(default_factory=dict)
    panel: Mapping[str, Forecaster] = field(default_factory=dict)

    @classmethod
    def of(cls, forecasts: Mapping[str, Forecasts]) -> _Rows:
        if not forecasts:
            raise SettingsError(
                "forecasts has no asset class; expected asset class -> forecasts. "
                "Give {samples.asset_class: forecasts}."
            )
        return cls(
            samples={name: one.samples for name, one in forecasts.items()},
            rows={name: one.rows for name, one in forecasts.items()},
            values={name: one.values for name, one in forecasts.items()},
            rivals={name: one.rivals for name, one in forecasts.items()},
            members={name: one.members for name, one in forecasts.items()},
            panel={model: own for one in forecasts.values() for model, own in one.panel.items()},
        )

    @cached_property
    def shared(self) -> dict[str, Any]:
        """The fields that the records of all heads have in common."""
        columns: dict[str, list[Any]] = {}
        symbols: list[str] = []
        first = 0
        for number, (name, samples) in enumerate(self.samples.items()):
            rows = self.rows[name]
            bar = samples.decided[rows]
            part = {
                "change": samples.targets["return"].value[bar, -1],
                "unit": samples.unit[rows, -1] ** 2,
                "sigma": samples.facts.sigma[samples.ends[rows]],
                "time": samples.times[rows],
                "day": samples.sessions[rows].astype("datetime64[D]"),
                "number": np.full(len(rows), number),
                "symbol": first + samples.symbol[bar].astype(np.int64),
                "bar": bar,
                "segment": samples.segment[bar].astype(np.int64),
            }
            for key, value in part.items():
                columns.setdefault(key, []).append(value)
            symbols += samples.symbols
            first += len(samples.symbols)
        return {key: np.concatenate(value) for key, value in columns.items()} | {"symbols": tuple(symbols)}


def _record(rows: _Rows, head: str) -> Record:
    if head not in HEADS:
        raise SettingsError(f"there is no head {head!r}. {did_you_mean(head, HEADS)}")
    targets = [(one.targets[head], one.decided[rows.rows[name]]) for name, one in rows.samples.items()]

    def pooled(of_class: Callable[[str], FloatArray | None]) -> FloatArray:
        parts = []
        for name in rows.samples:
            values, own = of_class(name), rows.rows[name]
            parts.append(np.full(len(own), np.nan) if values is None else _last(values)[own])
        return np.concatenate(parts)

    models = dict.fromkeys(model for one in rows.values.values() for model, heads in one.items() if head in heads)
    seeds = {
        model: min(len(one.get(model, ())) for one in rows.members.values())
        for model in dict.fromkeys(model for one in rows.members.values() for model in one)
    }

    def issued(model: str) -> FloatArray:
        return pooled(lambda name: rows.values[name].get(model, {}).get(head))

    def alone(model: str, seed: int) -> FloatArray:
        return pooled(lambda name: rows.members[name][model][seed][head])

    return Record(
        head, rows.samples, ByModel(models, issued),
        answer=np.concatenate([_last(target.value)[at] for target, at in targets]),
        known_at=np.concatenate([target.known_at[at] for target, at in targets]),
        rivals=tuple(rival for one in rows.rivals.values() for rival in one.get(head, ())),
        members={
            model: _Seeds(count, partial(alone, model))
            for model, count in seeds.items()
            if count and all(head in one[model][0] for one in rows.members.values())
        },
        titles={model: model_title(model, rows.panel) for model in models},
        **rows.shared,
    )  # fmt: skip


class _Seeds(Sequence["FloatArray"]):
    """Seed -> (rows,) its forecasts, made each time they are asked for."""

    def __init__(self, count: int, make: Callable[[int], FloatArray]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, seed: Any) -> Any:
        if not 0 <= seed < self._count:
            raise IndexError(seed)
        return self._make(seed)


def _last(values: FloatArray) -> FloatArray:
    """The last step of a path, (rows, steps); a head without steps as it is."""
    return values if values.ndim == 1 else values[:, -1]


# ── a table of anybody's forecasts ────────────────────────────────────────────────────────────────


def _checked_table(outside: pl.DataFrame, bars: pl.DataFrame, horizon: int | None) -> list[str]:
    """The heads of a table of forecasts, in the order of `HEADS`. Raises `SettingsError` for what is wrong with it."""
    if missing := [name for name in TABLE_COLUMNS if name not in outside.columns]:
        raise SettingsError(
            f"the table of forecasts has no column {', '.join(missing)}; expected {', '.join(TABLE_COLUMNS)}, it has "
            f"{', '.join(outside.columns) or 'none'}. Rename its columns."
        )
    if outside.is_empty():
        raise SettingsError("the table of forecasts has no row; expected one a symbol, time, model, head and step.")
    _check_types(outside)
    for head in outside["head"].unique().sort().to_list():
        if head not in HEADS:
            raise SettingsError(f"the table of forecasts has a head {head!r}. {did_you_mean(str(head), HEADS)}")
    have = bars["symbol"].unique().sort().to_list()
    if unknown := sorted(set(outside["symbol"].unique()) - set(have)):
        raise SettingsError(
            f"the table forecasts {', '.join(map(str, unknown))}, of which there are no bars. "
            f"{did_you_mean(str(unknown[0]), have)}"
        )
    if horizon is not None and not (outside["step"] == horizon).any():
        raise SettingsError(
            f"the table has no forecast {horizon} bars ahead; its steps are "
            f"{', '.join(map(str, outside['step'].unique().sort()))}. Give horizon as one of them."
        )
    keys = ["symbol", "time", "model", "head", "step"]
    again = outside.filter(outside.select(keys).is_duplicated())
    if len(again):
        raise SettingsError(f"the table has more than one value of {_named(again, keys)}. Keep one row of each.")
    strange = outside.join(bars.select("symbol", "time"), on=["symbol", "time"], how="anti")
    if len(strange):
        raise SettingsError(
            f"the table has {len(strange)} forecasts at times that are no bar's close, such as "
            f"{_named(strange, ['symbol', 'time'])}. `time` must be the close (UTC) of the bar that it was made at."
        )
    value = pl.col("value")
    wrong = outside.filter(
        ~value.is_finite().fill_null(False)
        | (pl.col("head").is_in(["direction", "regime"]) & ~value.is_between(0, 1))
        | ((pl.col("head") == "volatility") & (value <= 0))
    )
    if len(wrong):
        raise SettingsError(
            f"the table has {len(wrong)} values that cannot be, such as {_named(wrong, [*keys, 'value'])}; expected "
            "finite numbers, probabilities from 0 to 1 of direction and regime, variances above 0 of volatility. "
            "Leave out rows without a forecast."
        )
    found = set(outside["head"].unique())
    return [head for head in HEADS if head in found]


TYPES: dict[str, tuple[Callable[[pl.DataType], bool], str]] = {
    "symbol": (lambda kind: kind == pl.String, "text"),
    "time": (lambda kind: kind == pl.Datetime("us", "UTC"), "moments in UTC, in microseconds (Datetime[us, UTC])"),
    "model": (lambda kind: kind == pl.String, "text"),
    "head": (lambda kind: kind == pl.String, "text"),
    "step": (lambda kind: kind.is_integer(), "whole numbers"),
    "value": (lambda kind: kind.is_float() or kind.is_integer(), "numbers"),
}
"""Column of a table of forecasts -> whether a type will do, and what is expected."""


def _check_types(outside: pl.DataFrame) -> None:
    """Raises `SettingsError` for a column of another type, an empty cell, or a step that is none."""
    for name, (does, wanted) in TYPES.items():
        kind = outside.schema[name]
        if not does(kind):
            raise SettingsError(f"the table of forecasts has {name} as {kind}; expected {wanted}. Convert the column.")
        if name != "value" and outside[name].null_count():
            raise SettingsError(f"the table of forecasts has rows without a {name}. Leave them out.")
    low, high = outside["step"].min(), outside["step"].max()
    if not 1 <= low <= high <= LONGEST_HORIZON:  # type: ignore[operator]
        raise SettingsError(
            f"the table of forecasts has steps from {low!r} to {high!r}; expected bars ahead, 1 to {LONGEST_HORIZON}."
        )


def _named(table: pl.DataFrame, columns: Sequence[str]) -> str:
    """The first row of a table, in words."""
    return ", ".join(f"{name} {table[name][0]}" for name in columns)


def _classes_of(bars: pl.DataFrame, symbols: pl.Series) -> pl.Series:
    return bars.filter(pl.col("symbol").is_in(symbols))["asset_class"].unique()


def _values(samples: Samples, table: pl.DataFrame) -> dict[str, dict[str, FloatArray]]:
    """model -> head -> (samples,) the values of a table of forecasts over the horizon, NaN where it has none."""
    keys = pl.DataFrame(
        {
            "symbol": np.array(samples.symbols, dtype=object)[samples.symbol[samples.decided]].tolist(),
            "time": pl.Series(samples.times).dt.replace_time_zone("UTC"),
            "row": np.arange(len(samples)),
        }
    )
    found: dict[str, dict[str, FloatArray]] = {}
    for (model, head), part in (
        table.join(keys, on=["symbol", "time"]).sort("row").group_by("model", "head", maintain_order=True)
    ):
        values = np.full(len(samples), np.nan)
        values[part["row"].to_numpy()] = part["value"].to_numpy()
        found.setdefault(str(model), {})[str(head)] = values
    return found


def _issued(values: Mapping[str, Mapping[str, FloatArray]], count: int) -> IntArray:
    """The samples of which there is any forecast."""
    any_of = np.zeros(count, bool)
    for heads in values.values():
        for array in heads.values():
            any_of |= np.isfinite(array)
    return np.flatnonzero(any_of)


# ── days ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Days:
    """A model beside its rival, one row a day: means over the symbols of that day, all (days,).

    `day`: the session, datetime64[D]. `rival`, `model`: standardised losses. For returns also `adjusted`, Clark-West's
    2 · e · (f - b) with e the rival's error, at most five standard deviations of the return, and `size`, (f - b)²,
    both standardised; else NaN.
    """

    day: NDArray[np.datetime64]
    rival: FloatArray
    model: FloatArray
    adjusted: FloatArray
    size: FloatArray

    @property
    def gain(self) -> FloatArray:
        """(days,) the rival's loss minus the model's."""
        return self.rival - self.model

    def of(self, rows: BoolArray) -> Days:
        """Some of the days, a mask."""
        return Days(*(getattr(self, name)[rows] for name in ("day", "rival", "model", "adjusted", "size")))


def day_means(record: Record, model: str, rival: str) -> Days:
    """A record -> the days on which both models were forecast and answered, means over the symbols of each day."""
    base, loss = record.losses(rival), record.losses(model)
    rows = np.flatnonzero(np.isfinite(base) & np.isfinite(loss))
    adjusted = size = np.full(len(rows), np.nan)
    if record.head == "return" and len(rows):
        answer, unit = record.answer[rows], record.unit[rows]
        benchmark, forecast = record.forecasts[rival][rows], record.forecasts[model][rows]
        most = np.sqrt(CAP * unit)
        adjusted = 2 * np.clip(answer - benchmark, -most, most) * (forecast - benchmark) / unit
        size = (forecast - benchmark) ** 2 / unit
    day, place = np.unique(record.day[rows], return_inverse=True)
    count = np.bincount(place)
    means = (np.bincount(place, column) / count for column in (base[rows], loss[rows], adjusted, size))
    return Days(day, *means)


def gain_over(base: float, loss: float) -> float:
    """The share of a loss that a smaller one saves, 1 - loss / base; NaN where there was nothing to lose.

    >>> gain_over(0.5, 0.4), gain_over(0.0, 0.0)
    (0.19999999999999996, nan)
    """
    return float(1 - loss / base) if base > 0 else float("nan")


@dataclass(frozen=True)
class SetAside:
    """Forecasts whose answers do not count in full: `ties`, prices that stood still, are not scored for direction;

    `capped`: the model's or the rival's loss was above `CAP`, and counts as that.
    """

    ties: int
    capped: int


def set_aside(record: Record, model: str, rival: str = RIVAL) -> SetAside:
    """How many of a model's forecasts count not at all or not in full."""
    ties = 0
    if record.head == "direction":
        ties = int(np.count_nonzero(np.isfinite(record.change) & np.isnan(record.answer)))
    above = [record.uncapped_losses(name) > CAP for name in (model, rival)]
    return SetAside(ties, int(np.count_nonzero(above[0] | above[1])))


def sessions_spanned(classes: Sequence[tuple[NDArray[np.datetime64], int]]) -> int:
    """Days that an answer spans among those of all classes together.

    In: of each class its sessions and how many of them an answer spans. Five sessions of an index are seven days beside
    a market that never closes.

    >>> index = np.busday_offset("2024-01-01", np.arange(100))
    >>> crypto = np.arange(index[0], index[-1])
    >>> sessions_spanned([(index, 5)]), sessions_spanned([(index, 5), (crypto, 5)])
    (5, 7)
    """
    days = np.unique(np.concatenate([sessions for sessions, _ in classes]))
    spans = []
    for sessions, spanned in classes:
        own = np.unique(sessions)
        among = np.count_nonzero((days >= own[0]) & (days <= own[-1])) if len(own) else 0
        spans.append(int(np.ceil(spanned * among / max(len(own), 1))))
    return max(1, *spans)
