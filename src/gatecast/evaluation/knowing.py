"""Search for leaking columns: those that explain future returns or variance much better than past ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.evaluation.encoded import Answers, Made
from gatecast.forecasting.models.hours import without_means
from gatecast.market.calendar import bars_per_session
from gatecast.metrics.many import long_run_variance
from gatecast.samples.arrays import to_unit
from gatecast.samples.features import compute_features
from gatecast.samples.features.catalogue import BAR_COLUMNS, BUILT_IN, FEATURES, NOT_FEATURES
from gatecast.samples.targets import make_targets, to_array
from gatecast.trading.plausible import r2_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

LEAST_ROWS = 250  # of a symbol, or of a third of its history, before a column is tested on it
REACH = 8.0  # robust standard deviations from the median, beyond which a cell counts as that far
SLOW_BARS, SLOW_LIMIT = 22, 0.25  # bars ahead and R² of a column that knows the coming month slowly
TRACKS, TRACKING_LIMIT = 0.9, 0.10  # correlation of steps with returns that makes a column one of prices; its R² then
SLOW_T, SLOW_ABOVE = 4.5, 1.0  # its least t, and the standard errors of its root above that of the limit
ABOVE = 3.0  # standard errors that the root of an R² must lie above its limit's
MIN_T = 8.0  # t of a column that explains the future, whatever its R², from which it is compared with the past
TIMES_THE_PAST = 4.0  # R² of the future over that of the past from which a certain column is named
LUCK = 0.001  # chance that any of a run's tests has so large a t: in a short file luck alone passes a limit of R²
VOLUME_BARS = 20
PARTS = ("first third", "second third", "last third")


@dataclass(frozen=True)
class Knowing:
    """A column, or several that only together know it, and how much of what they explain.

    `r2`: share explained of the "return" or "variance" (`of`) over the next `bars`; `past`: of the same over the last;
    `limit`: the largest R² that is believed (returns), or None; `t`: of the explanation. `symbol`: None for the class.
    `made`: "groups" or "fitted" where the column is made of the very answers (`encoded`), which needs no large R².
    """

    columns: tuple[str, ...]
    of: str
    bars: int
    r2: float
    past: float
    limit: float | None
    t: float
    symbol: str | None
    made: str = ""

    @property
    def excess(self) -> float:
        """How far beyond what is believed, to choose the worst of one column's."""
        return self.r2 / self.limit if self.limit else self.t / MIN_T

    @property
    def sentence(self) -> str:
        """What it explains, why that is not believed, and where to look."""
        if self.made:
            return self._made_of_answers
        many = len(self.columns) > 1
        what = f"{_listed(self.columns)} together explain" if many else f"{self.columns[0]!r} explains"
        where = f" of {self.symbol}" if self.symbol else ""
        ahead = "the next bar" if self.bars == 1 else f"the next {self.bars} bars"
        amount = f"{self.r2:.1%} of the {self.of}{where} over {ahead}"
        if self.limit is not None and self.r2 > self.limit:
            why = f"more than {self.limit:.0%} is not believed of anything that is known at the close"
        else:
            why = f"and only {self.past:.1%} of the past one, as nothing does that is known at the close"
        return (
            f"features: {what} {amount}; {why}. Made with later rows, joined a row early, filled backwards or revised?"
        )

    @property
    def _made_of_answers(self) -> str:
        where = f" of {self.symbol}" if self.symbol else ""
        ahead = {0: "the bar itself", 1: "the next bar"}.get(self.bars, f"the next {self.bars} bars")
        what = f"the {self.of}{where} over {ahead}"
        if self.made == "groups":
            how = f"lies on the means of {what} by its own values or by the calendar, closer than chance allows"
        else:
            how = f"is fitted to {what}: what it leaves of it is orthogonal to it, more exactly than chance allows"
        return (
            f"features: {self.columns[0]!r} {how} (R² {self.r2:.1%}). Made with the answers of the whole file? Make it "
            f"of earlier rows alone."
        )


@dataclass(frozen=True)
class _Task:
    """What is to be explained, standardised, (bars,) each: the coming one, the past one, and what is known of both."""

    of: str
    bars: int
    future: FloatArray
    past: FloatArray
    controls: FloatArray
    past_controls: FloatArray
    limit: float | None
    slow: bool = False
    steps: FloatArray | None = None  # (bars,) log returns, of a slow task of returns


def knowing(bars: pl.DataFrame, names: Iterable[str], horizon: int = 5) -> list[Knowing]:
    """The columns and registered functions of a run that know too much of the next bars; the worst of each.

    Tested are the columns of the bars and the functions of the user's own among `names`, the columns that these need,
    and volume where a feature needs it; features of the catalogue are recomputed at every cut instead. Each is tested
    per symbol, on its whole history, on thirds of it and, if it mostly stays the same, at the bars where it changes.
    What is left is tested together in one regression over all symbols, beyond the catalogue's features of the run.

    A column is named when it explains more of the returns over the next 1 to `horizon` bars than `r2_limit` allows (by
    more than luck over all tests: the t of a chance of .001), or when its t is above 8 and its R² of the future more
    than four times that of the past. The variance of the next `horizon` bars is explained beyond the terms of the HAR
    and how prices moved, that of the past beyond those before, without what the hour says where a session has
    several bars. Over 22 bars R² may not lie above .25 for certain (.10 where its steps go with the returns): of
    returns not at all, of squared returns not where it is more than four times that of the past. However little it
    explains, a column is named that fits the answers better than their noise allows: means of the answers by group,
    values fitted to them (`encoded`).
    A column that honestly knows of coming events (a calendar of announcements) passes for one that knows too much:
    allow it by name. `bars`: of one asset class, sorted by symbol and time. t statistics are of the product of the two,
    with a long-run variance (Bartlett, twice the bars ahead).
    """
    names = list(dict.fromkeys(names))
    tested = _tested(bars, names)
    if not tested:
        return []
    columns = _values(bars, tested)
    tasks = list(_tasks(bars, horizon))
    number = bars["symbol"].rle_id().to_numpy()
    symbols = [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]
    stepwise = sum(len(_set_anew(value, rows)) > 0 for value in columns.values() for rows in symbols)
    luck = beyond_luck((len(columns) * len(symbols) * len(("whole", *PARTS)) + stepwise) * len(tasks))
    found: dict[str, Knowing] = {}
    for name, value in columns.items():
        for rows in symbols:
            for task in tasks:
                for one in _single_column(name, value, task, rows, str(bars["symbol"][int(rows[0])]), luck):
                    if name not in found or one.excess > found[name].excess:
                        found[name] = one
    rest = {name: value for name, value in columns.items() if name not in found}
    built_in = [name for name in names if name in BUILT_IN]
    base = _values(bars, built_in) if rest and built_in else {}
    found |= {one.columns[0]: one for one in _made_of_answers(rest, base, bars, horizon)}
    rest = {name: value for name, value in rest.items() if name not in found}
    together = max(
        (one for task in tasks for one in _together(rest, base, task, symbols, bars)),
        key=lambda one: one.excess,
        default=None,
    )
    return [*found.values(), *([together] if together else [])]


def most_to_blame(bars: pl.DataFrame, names: Iterable[str], horizon: int) -> list[tuple[str, float]]:
    """The features with the largest R² of the return over the next `horizon` bars over all symbols, at most three."""
    values = _values(bars, list(names))
    task = next(one for one in _tasks(bars, horizon) if one.of == "return" and one.bars == horizon)
    found = [(name, _explained(value, task.future, horizon)[0]) for name, value in values.items()]
    return sorted((one for one in found if one[1] > 0.01), key=lambda one: -one[1])[:3]


# ── what is tested, on what ──────────────────────────────────────────────────────────────────────


def _tested(bars: pl.DataFrame, names: list[str]) -> list[str]:
    """The user's own among the features, the columns that their functions need, and volume where it is needed."""
    own = [name for name in names if name not in BUILT_IN]
    needs = [need for name in own if name in FEATURES for need in FEATURES.find(name).needs]
    own += [need for need in needs if need not in BAR_COLUMNS and need in bars.columns]
    needs += [need for name in names if name in BUILT_IN for need in FEATURES.find(name).needs]
    return list(dict.fromkeys([*own, *(["volume"] if "volume" in needs else [])]))


def _values(bars: pl.DataFrame, names: list[str]) -> dict[str, FloatArray]:
    """Name -> (bars,), NaN where there is none; volume as the log of its ratio to the mean of 20 bars."""
    features = [name for name in names if name != "volume"]
    frame = compute_features(bars, features) if features else bars
    found = {name: to_array(frame, name) for name in features}
    if "volume" in names:
        mean = pl.col("volume").rolling_mean(VOLUME_BARS).over("symbol", "segment")
        value = to_array(bars.select(ratio=(pl.col("volume") / mean).log()), "ratio")
        found["volume"] = np.where(np.isfinite(value), value, np.nan)
    return found


def _tasks(bars: pl.DataFrame, horizon: int) -> Iterator[_Task]:
    """Returns over the next 1 to `horizon` bars beside as many past ones, and variances over `horizon` and a month.

    All in units of what is known at the bar: returns of the trailing volatility, variances as logs.
    """
    targets, facts = make_targets(bars, horizon)
    day = bars_per_session(bars)
    none = np.zeros((len(bars), 0))
    close = pl.col("close").log()
    for k in range(1, horizon + 1):
        past = to_array(bars.select(past=(close - close.shift(k)).over("symbol", "segment")), "past")
        unit = facts.sigma * np.sqrt(k)
        yield _Task("return", k, targets["return"].value[:, k - 1] / unit, past / unit, none, none, r2_limit(k, day))
    if horizon < SLOW_BARS:
        k, over = SLOW_BARS, ("symbol", "segment")
        ahead, past = (
            to_array(bars.select(x=move.over(over)), "x") for move in (close.shift(-k) - close, close - close.shift(k))
        )
        unit = facts.sigma * np.sqrt(k)
        steps = to_array(bars.select(x=close.diff().over(over)), "x")
        yield _Task("return", k, ahead / unit, past / unit, none, none, SLOW_LIMIT, slow=True, steps=steps)
    group = bars.select(pl.struct("symbol", "segment").rle_id()).to_series().to_numpy()
    known = np.column_stack([facts.har, _moves(bars, facts.sigma)])
    earlier = np.full_like(known, np.nan)
    same = group[horizon:] == group[:-horizon]
    earlier[horizon:] = np.where(same[:, None], known[:-horizon], np.nan)
    variances = [targets["volatility"].value, facts.recent, known, earlier, *_squares(bars, SLOW_BARS)]
    if day > 1:  # the hour is known in advance: a column that says which it is knows nothing of what is to come
        place = bars.select(pl.struct("symbol", minutes=pl.Series(facts.minutes)).rank("dense") - 1)
        variances = [without_means(values, place.to_series().to_numpy()) for values in variances]
    future, recent, terms, terms_before, coming, gone = variances
    yield _Task("variance", horizon, future, recent, terms, terms_before, None)
    yield _Task("variance", SLOW_BARS, coming, gone, none, none, None, slow=True)


def _moves(bars: pl.DataFrame, sigma: FloatArray) -> FloatArray:
    """(bars, 5) the last return and that of a week, in units of volatility, and where they are falls; the sign.

    Variance rises after falls: a column that says how prices moved knows no more of it than these.
    """
    close = pl.col("close").log()
    one, week = (
        to_array(bars.select(x=(close - close.shift(k)).over("symbol", "segment")), "x") / (sigma * np.sqrt(k))
        for k in (1, 5)
    )
    one, week = (np.where(np.isfinite(move), move, 0.0) for move in (one, week))
    return np.column_stack([one, week, np.minimum(one, 0.0), np.minimum(week, 0.0), np.sign(one)])


def _squares(bars: pl.DataFrame, k: int) -> tuple[FloatArray, FloatArray]:
    """(bars,) log of the sum of squared returns over the next k bars, and over the last k; NaN where it is 0."""
    square = pl.col("close").log().diff().pow(2).rolling_sum(k).log().over("symbol", "segment")
    frame = bars.select("symbol", "segment", gone=square).with_columns(
        coming=pl.col("gone").shift(-k).over("symbol", "segment")
    )
    coming, gone = (to_array(frame, name) for name in ("coming", "gone"))
    return np.where(np.isfinite(coming), coming, np.nan), np.where(np.isfinite(gone), gone, np.nan)


# ── one column, all columns ──────────────────────────────────────────────────────────────────────


def beyond_luck(tests: int) -> float:
    """Number of tests -> the absolute t that the largest of them exceeds by luck with a chance of at most .001.

    >>> round(beyond_luck(1), 2), round(beyond_luck(60), 2), round(beyond_luck(1000), 2)
    (3.29, 4.31, 4.89)
    """
    from scipy.special import ndtri

    return float(-ndtri(LUCK / (2 * tests)))


def _single_column(
    name: str, value: FloatArray, task: _Task, rows: IntArray, symbol: str, luck: float
) -> Iterator[Knowing]:
    """One column of one symbol -> what it knows too much of: in all of its history, long enough thirds, its changes."""
    rows = rows[np.isfinite(value[rows]) & np.isfinite(task.future[rows]) & np.isfinite(task.controls[rows]).all(1)]
    parts = [rows, *(np.array_split(rows, len(PARTS)) if len(rows) >= len(PARTS) * LEAST_ROWS else [])]
    parts.append(_set_anew(value, rows))  # a value that is filled back knows most where it begins
    for part in parts:
        if len(part) < LEAST_ROWS:
            continue
        r2, t = _explained(value[part], task.future[part], task.bars, task.controls[part])
        too_much = t > luck and _surely_above(r2, t, task.limit)
        if task.slow:  # of a column that is spread over many bars; honest ones, however persistent, have no such R²
            limit = TRACKING_LIMIT if task.steps is not None and _tracks(value[part], task.steps[part]) else SLOW_LIMIT
            surely = t > SLOW_T and np.sqrt(r2) * (1 - SLOW_ABOVE / t) > np.sqrt(limit)
            if part is not rows or not surely:
                continue
            too_much = task.of == "return"  # variance persists: what explains the past as well is honest
        elif not too_much and t <= MIN_T:
            continue
        before = part[np.isfinite(task.past[part]) & np.isfinite(task.past_controls[part]).all(1)]
        past = _explained(value[before], task.past[before], task.bars, task.past_controls[before])[0]
        if too_much or r2 > TIMES_THE_PAST * past:
            yield Knowing((name,), task.of, task.bars, r2, past, task.limit, t, symbol)


def _set_anew(value: FloatArray, rows: IntArray) -> IntArray:
    """The rows at which a column of steps has another value than at the row before; none where it has most bars."""
    rows = rows[np.isfinite(value[rows])]
    anew: IntArray = rows[1:][np.diff(value[rows]) != 0]
    return anew if len(anew) <= len(rows) / 2 else anew[:0]


def _tracks(value: FloatArray, steps: FloatArray) -> bool:
    """Whether a column's steps go with the returns: it is made of prices, as the distance to a trend is."""
    pair = np.column_stack([np.diff(value), steps[1:]])
    pair = pair[np.isfinite(pair).all(axis=1)]
    if len(pair) < LEAST_ROWS or (np.ptp(pair, axis=0) == 0).any():
        return False
    return abs(float(np.asarray(np.corrcoef(pair.T))[0, 1])) > TRACKS


def _made_of_answers(
    columns: dict[str, FloatArray], base: dict[str, FloatArray], bars: pl.DataFrame, horizon: int
) -> Iterator[Knowing]:
    """The columns that are means of the answers by group, or fitted to them; inputs: the bars' columns and features."""
    if not columns:
        return
    answers = Answers(bars, horizon)
    further = [name for name in bars.columns if name not in NOT_FEATURES and name not in columns]
    others = {name: to_array(bars, name) for name in further if bars.schema[name].is_numeric()}
    for name, value in columns.items():
        inputs = {other: given for other, given in columns.items() if other != name}
        made: Made | None = answers.made(value, {**inputs, **others, **base})
        if made:
            yield Knowing((name,), made.of, made.bars, made.r2, 0.0, None, made.t, made.symbol, made.how)


def _within_reach(values: FloatArray) -> FloatArray:
    """Values no further than 8 robust standard deviations from their median: a few wild cells hide no answer.

    Where most values are the same, as they are.
    """
    middle = np.median(values)
    spread = np.median(np.abs(values - middle)) / 0.6745
    return np.clip(values, middle - REACH * spread, middle + REACH * spread) if spread > 0 else values


def _surely_above(r2: float, t: float, limit: float | None) -> bool:
    """Whether an R² is above the limit by three standard errors of its root, of which t is the root over its own."""
    return limit is not None and t > ABOVE and bool(np.sqrt(max(r2, 0.0)) * (1 - ABOVE / t) > np.sqrt(limit))


def _explained(
    value: FloatArray, answer: FloatArray, ahead: int, controls: FloatArray | None = None
) -> tuple[float, float]:
    """R² and the absolute t of a column for answers over so many bars, beyond controls; 0, 0 where undefined.

    In: (rows,) in order of time; controls (rows, k). Rows in which a number is missing are left out.
    """
    both = np.isfinite(value) & np.isfinite(answer)
    if both.sum() < 30:
        return 0.0, 0.0
    known = np.column_stack([np.ones(both.sum()), *([] if controls is None else [controls[both]])])
    value = to_unit(value[both])
    pair = np.column_stack([_within_reach(value), answer[both]])
    x, y = (pair - known @ np.linalg.lstsq(known, pair, rcond=None)[0]).T
    size = float(np.sqrt((x @ x) * (y @ y)))
    if x @ x <= 1e-18 * (value @ value) or size <= 0:
        return 0.0, 0.0
    product = x * y
    variance = long_run_variance(product, 2 * ahead)
    t = abs(product.mean()) * np.sqrt(len(product) / variance) if variance > 0 else 0.0
    return float((x @ y / size) ** 2), float(t)


def _together(
    columns: dict[str, FloatArray],
    base: dict[str, FloatArray],
    task: _Task,
    symbols: list[IntArray],
    bars: pl.DataFrame,
) -> Iterator[Knowing]:
    """The smallest set of columns that together explain too much in one regression over all symbols, if there is one.

    R² is adjusted for the number of columns, each answer counted once for the bars that it spans, and each moment once
    for all symbols.
    """
    if not columns or task.slow:
        return
    others = [*base.values(), *task.controls.T]
    table = np.column_stack([task.future, *columns.values(), *others])
    rows = np.concatenate([np.flatnonzero(np.isfinite(table[own]).all(1)) + own[0] for own in symbols])
    independent = len(np.unique(bars["time"].to_numpy()[rows])) / task.bars
    if independent * task.bars < LEAST_ROWS or independent < 4 * table.shape[1]:
        return
    answer, known, made = (
        _within(values, symbols, rows)
        for values in (task.future[:, None], table[:, 1 + len(columns) :], np.column_stack([*columns.values()]))
    )
    chosen: list[int] = []
    names = list(columns)
    while len(chosen) < len(names):
        left = [place for place in range(len(names)) if place not in chosen]
        gains = [_beyond(answer, known, made[:, [*chosen, place]], independent) for place in left]
        chosen.append(left[int(np.argmax(gains))])
        r2, t = max(gains), float(np.sqrt(max(max(gains), 0.0) * independent))
        too_much = t > beyond_luck(len(names)) + np.sqrt(len(chosen)) and _surely_above(r2, t, task.limit)
        if not too_much and t <= MIN_T:
            continue
        past_rows = rows[np.isfinite(task.past[rows]) & np.isfinite(task.past_controls[rows]).all(1)]
        before, held = (
            _within(values, symbols, past_rows)
            for values in (task.past[:, None], np.column_stack([task.past_controls, np.zeros(len(bars))]))
        )
        past = _beyond(before, held, _within(np.column_stack([*columns.values()]), symbols, past_rows)[:, chosen],
                       independent)  # fmt: skip
        if too_much or r2 > TIMES_THE_PAST * max(past, 0.0):
            yield Knowing(tuple(names[place] for place in chosen), task.of, task.bars, r2, max(past, 0.0), task.limit,
                          t, None)  # fmt: skip
            return


def _within(values: FloatArray, symbols: list[IntArray], rows: IntArray) -> FloatArray:
    """(rows, columns) each symbol's own in its standard deviations from its mean; 0 for what never changes."""
    table = np.zeros((len(rows), values.shape[1]))
    for own in symbols:
        place = np.flatnonzero(np.isin(rows, own))
        part = values[rows[place]]
        for k in range(part.shape[1] if len(part) else 0):
            part[:, k] = to_unit(_within_reach(part[:, k]))
        if len(part):
            spread = part.std(0)
            table[place] = np.where(spread > 1e-12, (part - part.mean(0)) / np.where(spread > 1e-12, spread, 1.0), 0.0)
    return table


def _beyond(answer: FloatArray, known: FloatArray, made: FloatArray, independent: float) -> float:
    """The adjusted share of what `known` leaves unexplained that `made` explains as well."""
    residuals = []
    for table in (known, np.column_stack([known, made])):
        rest = answer - table @ np.linalg.lstsq(table, answer, rcond=None)[0] if table.shape[1] else answer
        residuals.append(float((rest**2).sum()) / max(independent - 1 - table.shape[1], 1.0))
    return 1 - residuals[1] / residuals[0] if residuals[0] > 0 else 0.0


def _listed(names: tuple[str, ...]) -> str:
    quoted = [repr(name) for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
