"""Leaks: the result of an audit, and checks without a second run (rules of refits, price levels, leaking columns)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from gatecast.evaluation.knowing import knowing
from gatecast.forecasting.scaling import Scaler
from gatecast.forecasting.schedule import Fold
from gatecast.notebook import Shown, draw_bars
from gatecast.samples.arrays import to_unit
from gatecast.samples.features import compute_features
from gatecast.samples.targets import to_array, to_times
from gatecast.samples.windows import Samples
from gatecast.trading.plausible import PLANTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    TimeArray = NDArray[np.datetime64]

Kind = Literal["cut", "garbage", "nature"]
PRICES = ("open", "high", "low", "close")
STAGES = (
    "bars", "features", "targets", "regimes", "folds", "scaler", "tuning",
    "forecasts", "ensemble", "thresholds", "signals", "strategy", "weights",
)  # fmt: skip
"""In the order of the pipeline: a stage inherits the leaks of those before it."""
PROPOSED = "proposed of "
"""Before the name of a strategy: the column of what it proposes by itself."""
LEVEL_TOLERANCE = 1e-2  # change of a feature, in its own standard deviations, that a doubled price may bring
IMPLAUSIBLE_R2 = 0.25  # share of the next bar's variance that no column known at the close explains
LEVEL_CORRELATION = 0.95  # of a column's changes with the close's, and of the two themselves, from which it is a price


@dataclass(frozen=True)
class Leak:
    """One place where the chain knew too much.

    `stage` and `column` name it; `symbol` and `time` the row (a bar's close; of a refit its class and first forecast),
    `reacts_to` the latest later time that moves it. `value` is what the chain says, `other` what it says with another
    future. `kind`: "cut" (the future removed, or a rule of the folds broken), "garbage" (the future replaced),
    "nature" (what the column is, which no cut can show).
    """

    stage: str
    column: str
    kind: Kind
    symbol: str | None = None
    time: datetime | None = None
    reacts_to: datetime | None = None
    value: float | str | None = None
    other: float | str | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Audit(Shown):
    """What an audit found, what merely follows from it, what it looked at and what it could not see."""

    findings: tuple[Leak, ...]
    consequences: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def guilty(self) -> tuple[str, ...]:
        """The stages that leak by themselves, in the order of the pipeline."""
        return tuple(stage for stage in STAGES if any(leak.stage == stage for leak in self.findings))

    def plot(self) -> Any:
        """A Plotly figure: how many leaks were found in each stage of the chain."""
        found = {stage: float(sum(leak.stage == stage for leak in self.findings)) for stage in STAGES}
        return draw_bars(found, "Leaks by stage", "leaks")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; times in ISO format, NaN as None."""
        leaks = [{key: _plain(value) for key, value in asdict(leak).items()} for leak in self.findings]
        return {
            "clean": self.clean,
            "guilty": list(self.guilty),
            "findings": leaks,
            "consequences": list(self.consequences),
            "checked": list(self.checked),
            "not_checked": list(self.not_checked),
        }

    def summary(self) -> str:
        """The findings in sentences, or that there are none; then what was checked and what was not."""
        found = [leak.sentence for leak in self.findings] or ["No leak was found."]
        if self.consequences:
            found.append(f"As a consequence also {', '.join(self.consequences)}.")
        return "\n".join([*found, "Checked:", *self.checked, "Not checked:", *self.not_checked])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def moment_of(moment: np.datetime64 | datetime) -> datetime:
    """A time of ours (UTC without a zone) as a datetime in UTC."""
    when: datetime = moment if isinstance(moment, datetime) else moment.astype("datetime64[us]").item()
    return when.replace(tzinfo=UTC)


def number_or_none(value: float) -> float | None:
    """None for NaN."""
    return None if np.isnan(value) else float(value)


# ── rules and natures ────────────────────────────────────────────────────────────────────────────


def broken_rules(folds: Sequence[Fold], samples: Samples) -> list[Leak]:
    """Rows that a refit was given although their answers came later, and forecasts that it made of its own past.

    Said without the splitter's own functions: training rows are known by the first validation row, validation rows
    (and the record) by the cutoff, test rows begin at the cutoff. One leak a kind of rows, the worst one.
    """
    worst: dict[str, tuple[np.timedelta64, Leak]] = {}
    for fold in folds:
        first = min(*samples.times[fold.validation], fold.cutoff)
        for kind, rows, limit, what in (
            ("train", fold.train, first, "the first validation row"),
            ("validation", fold.validation, fold.cutoff, "the first forecast"),
            ("record", fold.on(samples).record, fold.cutoff, "the first forecast"),
        ):
            known = np.where(np.isnat(samples.known_at[rows]), np.datetime64("9999-01-01"), samples.known_at[rows])
            if len(rows) and known.max() > limit:
                row = rows[int(np.argmax(known))]
                never = bool(np.isnat(samples.known_at[row]))
                said = "never" if never else to_minute(known.max())
                leak = Leak(
                    "folds", kind, "cut", _symbol_of(samples, row), moment_of(samples.times[row]),
                    None if never else moment_of(known.max()), said, to_minute(limit),
                    f"folds: refit {fold.index}: the {kind} row of {to_minute(samples.times[row])} has its answer "
                    f"{said}, after {what} at {to_minute(limit)}.",
                )  # fmt: skip
                _keep_worst(worst, kind, known.max() - limit, leak)
        early = fold.test[samples.times[fold.test] < fold.cutoff]
        if len(early):
            row = early[int(np.argmin(samples.times[early]))]
            leak = Leak(
                "folds", "test", "cut", _symbol_of(samples, row), moment_of(samples.times[row]), moment_of(fold.cutoff),
                to_minute(samples.times[row]), to_minute(fold.cutoff),
                f"folds: refit {fold.index}, at {to_minute(fold.cutoff)}, forecasts the row of "
                f"{to_minute(samples.times[row])}, before it.",
            )  # fmt: skip
            _keep_worst(worst, "test", fold.cutoff - samples.times[row], leak)
    return [leak for _, leak in worst.values()]


def _keep_worst(worst: dict[str, tuple[Any, Leak]], kind: str, size: np.timedelta64, leak: Leak) -> None:
    if kind not in worst or size > worst[kind][0]:
        worst[kind] = (size, leak)


def to_minute(moment: np.datetime64) -> str:
    return str(moment)[:16]


def _symbol_of(samples: Samples, row: int) -> str:
    return samples.symbols[int(samples.symbol[samples.ends[row]])]


def early_answers(samples: Samples, bars: pl.DataFrame) -> list[Leak]:
    """Answers that claim to be known before the bar that ends their horizon is."""
    own = bars.filter(pl.col("asset_class") == samples.asset_class).sort("symbol", "time")
    bar_known = to_times(own, "known_at")
    number = np.arange(len(bar_known))
    later = np.minimum(number + samples.horizon, len(number) - 1)
    whole = (number + samples.horizon == later) & (samples.symbol == samples.symbol[later])
    whole &= samples.listing == samples.listing[later]
    leaks = []
    for head, target in samples.targets.items():
        early = ~np.isnat(target.known_at) & (~whole | (target.known_at < bar_known[later]))
        if early.any():
            row = int(np.flatnonzero(early)[-1])
            claim, due = (
                to_minute(target.known_at[row]),
                to_minute(bar_known[later[row]]) if whole[row] else "never",
            )
            text = (
                f"targets: the {head} answer of {to_minute(samples.time[row])} claims to be known at {claim}; the bar "
                f"that ends its horizon is known at {due}."
            )
            symbol, reach = samples.symbols[int(samples.symbol[row])], moment_of(samples.time[later[row]])
            time = moment_of(samples.time[row])
            leaks.append(Leak("targets", f"{head} known_at", "cut", symbol, time, reach, claim, due, text))
    return leaks


def dated_back(seen: pl.DataFrame, moment: datetime, later: pl.DataFrame) -> list[Leak]:
    """Corrections that claim to have been known before they were: one leak a column, the first row of each.

    In: the bars as they were seen at a moment (UTC), that moment, and later bars of the same symbols. A row that claims
    in its `known_at` to have been known by the moment must be there as it was seen, and each row that was seen must
    still be there or be known later. Numbers are the same within 1e-9 of their size.

    >>> from datetime import timedelta
    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(50, seed=1)
    >>> now = bars["time"][-1]
    >>> tenth = pl.int_range(pl.len()) == 9
    >>> other = bars.with_columns(close=pl.when(tenth).then(1.01 * pl.col("close")).otherwise("close"))
    >>> [leak.column for leak in dated_back(bars, now, other)]
    ['close']
    >>> honest = other.with_columns(known_at=pl.col("known_at") + timedelta(days=99))
    >>> dated_back(bars, now, honest)
    []
    """
    keys = ["symbol", "time"]
    names = [name for name, kind in seen.schema.items() if kind.is_numeric() and name != "segment"]
    names = [name for name in names if name in later.columns]
    known = seen.filter(pl.col("known_at") <= moment).select(*keys, *names, _seen=True)
    claimed = later.filter(pl.col("known_at") <= moment, pl.col("symbol").is_in(seen["symbol"].unique().implode()))
    both = known.join(claimed.select(*keys, *names, _claimed=True), on=keys, how="full", coalesce=True).sort(keys)
    gone = both.filter(pl.col("_claimed").is_null()).join(later.select(keys), on=keys, how="anti")
    added = both.filter(pl.col("_seen").is_null())
    then = f"{moment:%Y-%m-%d %H:%M}"
    leaks = []
    for rows, value, other, what in (
        (added, "there", "not there", f"claims to have been known at {then}, but was not there then"),
        (gone, "not there", "there", f"is missing, but was there at {then}"),
    ):
        for row in rows.head(1).to_dicts():
            where = f"{row['symbol']} at {row['time']:%Y-%m-%d %H:%M}"
            text = f"bars: the row of {where} {what}. Give the moment at which it became known."
            leaks.append(Leak("bars", "row", "cut", row["symbol"], row["time"], moment, value, other, text))
    both = both.drop_nulls(["_seen", "_claimed"])
    for name in names:
        new, old = pl.col(f"{name}_right"), pl.col(name)
        moved = (new - old).abs() > 1e-9 * pl.max_horizontal(new.abs(), old.abs())
        changed = both.filter((new.is_null() != old.is_null()) | moved.fill_null(False))
        for row in changed.head(1).to_dicts():
            where = f"{row['symbol']} at {row['time']:%Y-%m-%d %H:%M}"
            value, other = row[f"{name}_right"], row[name]
            text = (
                f"bars: the {name} of {where} is a correction dated back: {value} claims to have been known at {then}, "
                f"when {other} was seen. Give the moment at which it became known."
            )
            leaks.append(Leak("bars", name, "cut", row["symbol"], row["time"], moment, value, other, text))
    return leaks


def stubborn_scaler(folds: Sequence[Fold]) -> list[Leak]:
    """A scaler that does not move with the rows that it is fitted on knows others."""
    for fold in folds:
        rows = fold.data.features[fold.data.ends[fold.train]]
        try:
            one, moved = Scaler.fit(rows), Scaler.fit(4.0 * rows + 1.0)
        except Exception:  # one that asks for more than its rows is left to the comparison of the fits
            return []
        for what, expected, found in (
            ("centre", 4.0 * one.centre + 1.0, moved.centre), ("spread", 4.0 * one.spread, moved.spread),
        ):  # fmt: skip
            wrong = ~np.isclose(expected, found, rtol=1e-6, atol=1e-9)
            if wrong.any():
                k = int(np.argmax(wrong))
                name, a, b = fold.data.names[k], float(found[k]), float(expected[k])
                text = (
                    f"scaler: the {what} of {name!r} does not follow the training rows that it is given: {a:g} where "
                    f"they ask for {b:g}."
                )
                return [Leak("scaler", f"{what} of {name}", "nature", None, moment_of(fold.cutoff), None, a, b, text)]
    return []


def level_features(bars: pl.DataFrame, names: Iterable[str]) -> list[Leak]:
    """Features that are leaks by their nature: price levels, and columns of the user's that know the next return.

    Where all prices double, and where they double and volume halves as in a split, an honest feature is what it was.
    A column of the bars cannot be recomputed; it is a price when it moves with the close and stays with it. A level of
    an adjusted price knows later splits and dividends, and no cut of an adjusted file can show that.
    """
    names = list(names)
    own = [name for name in names if name in bars.columns]
    made = [name for name in names if name not in own]
    leaks = [leak for name in own if (leak := _nature_of(bars, name))]
    if not made:
        return leaks
    doubled = bars.with_columns(pl.col(PRICES) * 2.0)
    frames = [compute_features(one, made) for one in (bars, doubled, doubled.with_columns(pl.col("volume") / 2.0))]
    for name in made:
        before, *after = (to_array(frame, name) for frame in frames)
        spread = float(np.nanstd(before)) if np.isfinite(before).any() else 0.0
        moved = [np.nan_to_num(np.abs(one - before)) for one in after]
        if spread > 0 and min(one.max() for one in moved) > LEVEL_TOLERANCE * spread:
            row = int(np.argmax(moved[0]))
            text = (
                f"features: {name!r} is a price level: it changes when all prices are doubled, as an adjustment for "
                "later splits and dividends does. Use a change, or a ratio of prices."
            )
            symbol, time, two = (
                bars["symbol"][row],
                bars["time"][row],
                (number_or_none(before[row]), number_or_none(after[0][row])),
            )
            leaks.append(Leak("features", name, "nature", symbol, time, None, *two, text))
    return leaks


def _nature_of(bars: pl.DataFrame, name: str) -> Leak | None:
    """What a column of the user's must not be: a price, or nearly the next bar's return."""
    bars = bars.sort("symbol", "time")
    step = pl.col("log_close").diff().over("symbol", "segment")
    frame = bars.select("symbol", "segment", log_close=pl.col("close").log())
    frame = frame.with_columns(step=step).with_columns(next=pl.col("step").shift(-1).over("symbol", "segment"))
    value, close = to_array(bars, name), to_array(frame, "log_close")
    ahead = _r_squared(value, to_array(frame, "next"))
    if ahead > IMPLAUSIBLE_R2:
        return Leak(
            "features", name, "nature", None, None, None, ahead, IMPLAUSIBLE_R2,
            f"features: the column {name!r} explains {ahead:.0%} of the next bar's return, which nothing that is "
            "known at the close does: is it joined one row early?",
        )  # fmt: skip
    finite = value[np.isfinite(value)]
    for level in (value, np.log(value)) if len(finite) and finite.min() > 0 else (value,):
        moves = frame.with_columns(_level=pl.Series(level).fill_nan(None)).select(
            pl.col("_level").diff().over("symbol", "segment")
        )
        change = to_array(moves, "_level")
        stays = min(_r_squared(level[rows], close[rows]) for rows in _rows_by_symbol(frame))
        if _r_squared(change, to_array(frame, "step")) > LEVEL_CORRELATION**2 and stays > LEVEL_CORRELATION**2:
            return Leak(
                "features", name, "nature", None, None, None, stays, LEVEL_CORRELATION**2,
                f"features: the column {name!r} is a price level: it moves with the close and stays with it. "
                "Adjusted prices know later splits and dividends; use a change, or a ratio of prices.",
            )  # fmt: skip
    return None


def _rows_by_symbol(frame: pl.DataFrame) -> list[IntArray]:
    number = frame["symbol"].rle_id().to_numpy()
    return [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]


def _r_squared(x: FloatArray, y: FloatArray) -> float:
    """Squared correlation where both are finite; 0 where there are fewer than 100 pairs or one is constant."""
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 100:
        return 0.0
    x, y = to_unit(x[both]), to_unit(y[both])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def knowing_columns(
    bars: pl.DataFrame, names: Iterable[str], horizon: int, allowed: Collection[str] = ()
) -> list[Leak]:
    """What `knowing` finds in bars of one class, as leaks of the features: `value` is the R², `other` the limit.

    `allowed`: columns that are not named; "planted" for all.
    """
    if PLANTED in allowed:
        return []
    return [
        Leak("features", column, "nature", one.symbol, None, None, one.r2, one.limit, one.sentence)
        for one in knowing(bars.sort("symbol", "time"), names, horizon)
        if not set(one.columns) & set(allowed)
        for column in one.columns
    ]


def with_knowing(audit: Audit, leaks: Sequence[Leak], allowed: Collection[str] = ()) -> Audit:
    """The audit with columns that know too much, each named once; without those natures that the user has allowed."""
    kept = [
        leak for leak in audit.findings
        if not (leak.kind == "nature" and leak.column in allowed)
        and not (PLANTED in allowed and leak.other == IMPLAUSIBLE_R2)
    ]  # fmt: skip
    named = {leak.column for leak in leaks}
    kept = [leak for leak in kept if not (leak.column in named and leak.kind == "nature")]
    order = sorted([*kept, *leaks], key=lambda leak: STAGES.index(leak.stage))
    checked = "columns and functions of the user's for knowledge of coming returns and variance"
    return replace(audit, findings=tuple(order), checked=(*audit.checked, checked))


# ── what was found ───────────────────────────────────────────────────────────────────────────────


def first_guilty(
    reactions: Sequence[Leak], broken: Sequence[Leak], natures: Sequence[Leak]
) -> tuple[tuple[Leak, ...], tuple[str, ...]]:
    """What is to be named, each column once, and the later stages that merely react as well.

    `reactions`: differences at cuts, of which the first stage in the pipeline's order is guilty. Of the strategies,
    proposed weights come first: scores of all of them, and what is in force, follow from one that knows later bars.
    `broken`: rules, which folds inherit from bars and targets alone. `natures`: of columns; nobody inherits them.
    """
    stages = [stage for stage in STAGES if any(leak.stage == stage for leak in (*reactions, *broken))]
    guilty = set(stages[:1])
    if not {"bars", "targets"} & set(stages):
        guilty |= {leak.stage for leak in broken}
    named = [leak for leak in broken if leak.stage in guilty]
    named += [leak for leak in reactions if leak.stage in guilty - {leak.stage for leak in named}]
    found: dict[tuple[str, str], Leak] = {}
    for leak in (*named, *natures):
        found.setdefault((leak.stage, leak.column), leak)
    order = sorted(found.values(), key=lambda leak: (STAGES.index(leak.stage), not leak.column.startswith(PROPOSED)))
    return tuple(order), tuple(stage for stage in stages if stage not in guilty)


def worded(leak: Leak) -> Leak:
    """The same with a sentence that says all of it."""
    if leak.sentence:
        return leak
    how = "is missing" if leak.kind == "cut" else "is another one"
    reach = f", up to {leak.reacts_to:%Y-%m-%d %H:%M}" if leak.reacts_to else ""
    row = f"{leak.symbol} {leak.time:%Y-%m-%d %H:%M}" if leak.time else f"{leak.symbol}"
    text = (
        f"{leak.stage}: {leak.column!r} of {row} is {leak.value}, and {leak.other} when what comes later {how}: "
        f"it reacts to bars after its own{reach}."
    )
    return replace(leak, sentence=text)
