"""Search for columns made from the targets: group means of the targets, and values fitted to them.

Both explain little, so that no limit of R² shows them. They fit too exactly. The mean answer of a group of rows is
known to no honest column better than the noise of that mean; a column that lies on the means is made of them. A
regression leaves residuals that are orthogonal to its fitted values; a forecast made from the past does not.

Groups are the values of the column itself and those of the calendar. Not found are answers by other groups under
noise, the sign of a mean, fitted values in other units without their inputs, and means of so few symbols that noise
hides the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.evaluation.groups import (
    LEAST_COVERED,
    LEAST_OF_GROUP,
    LEAST_ROWS,
    calendars,
    rows_by_value,
    share_of_groups,
)
from gatecast.evaluation.moments import CHANCE, Fit, chi_square, on_a_line, too_close
from gatecast.samples.targets import to_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

MOST_INPUTS = 60
LEAST_T = 1.5  # of a fitted column: one that explains nothing is orthogonal to everything
SLOW_BARS = 22  # bars of the longest answer, beside those of the horizon
IN_SPAN = 1e-9  # share of a column that its inputs may leave, where it is a linear function of them
PAST_BARS = (1, 2, 3, 5, 10, 22, 66)  # whose returns a column may follow, before it is compared with the calendar
OWN_BAR = 0.5  # share of the variance of the own bar, from which a column is a function of that bar and no mean
SHAPES: tuple[Callable[[FloatArray], FloatArray], ...] = (  # the column of a variance may be its root or its log
    np.asarray,
    np.square,
    lambda value: np.exp(np.clip(value - value.max(), -50.0, 0.0)),
)


@dataclass(frozen=True)
class Made:
    """How a column is made of the answers: as means of "groups", or "fitted" (`how`).

    `of`: "return" or "variance", over so many `bars`, 0 for the bar itself; `r2`: share of it that the column explains;
    `t`: of the explanation; `symbol`: None for all of the class together.
    """

    how: str
    of: str
    bars: int
    r2: float
    t: float
    symbol: str | None


@dataclass(frozen=True)
class _Answer:
    """(bars,) sum of `step` over the bars at the distances `lags`, or nearly; `scales`: units that a column may use."""

    of: str
    bars: int
    value: FloatArray
    step: FloatArray
    lags: range
    scales: tuple[float, ...] = (1.0,)
    fitted_only: bool = False  # its noise is only nearly that of the steps, or its means are nearly those of another


@dataclass(frozen=True)
class _Unit:
    """Rows that are tested together: of one symbol, or of all (`symbol` None)."""

    rows: IntArray
    symbol: str | None


class Answers:
    """The answers of one class from which a column may be made, and the noise of their sums.

    In: `bars`, sorted by symbol and time; `horizon`, bars: answers over 1 to `horizon` bars and over 22 are tried,
    returns and variance, and those of the bar itself.

    >>> from gatecast.market import synthetic
    >>> bars = synthetic.a1(1000, seed=1)
    >>> month = bars["time"].dt.month().to_numpy()
    >>> coming = np.diff(np.log(bars["close"].to_numpy()), append=np.nan)
    >>> season = np.array([np.nanmean(coming[month == k]) for k in range(1, 13)])[month - 1]
    >>> answers = Answers(bars, 1)
    >>> answers.made(season).how, answers.made(1 + 2 * season).how, answers.made(month.astype(float))
    ('fitted', 'groups', None)
    """

    def __init__(self, bars: pl.DataFrame, horizon: int) -> None:
        from scipy import sparse

        number = bars["symbol"].rle_id().to_numpy()
        self._own = [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]
        self._units = [_Unit(rows, str(bars["symbol"][int(rows[0])])) for rows in self._own]
        time = np.unique(bars["time"].to_numpy(), return_inverse=True)[1]
        at_time = (np.ones(len(time)), (time, np.arange(len(time))))
        self._by_time = sparse.csr_array(at_time, shape=(int(time.max()) + 1, len(time)))
        self._move = to_array(bars.select(x=pl.col("close").log().diff().over("symbol")), "x")
        self._alike = self._correlation() ** 2
        if len(self._own) > 1:
            self._units.append(_Unit(np.arange(len(bars)), None))
        self._answers = list(self._all(bars, horizon))
        self._calendars = calendars(bars)
        log, over = pl.col("close").log(), "symbol"
        past = bars.select((log - log.shift(k)).over(over).alias(str(k)) for k in PAST_BARS)
        self._past = np.nan_to_num(np.column_stack([to_array(past, name) for name in past.columns]))

    def _all(self, bars: pl.DataFrame, horizon: int) -> Iterator[_Answer]:
        move = self._move
        changes, log = self._centred(move), pl.col("close").log()
        for k in dict.fromkeys([*range(1, horizon + 1), SLOW_BARS]):
            ahead = to_array(bars.select(x=(log.shift(-k) - log).over("symbol")), "x")
            units = tuple(dict.fromkeys((1.0, 1.0 / k, 100.0, 100.0 / k)))
            yield _Answer("return", k, np.expm1(ahead), changes, range(1, k + 1), units, True)
            yield _Answer("return", k, ahead, changes, range(1, k + 1), units)
        rises = np.where(np.isfinite(move), (move > 0).astype(float), np.nan)
        yield _Answer("return", 1, self._summed(rises, 1), self._centred(rises), range(1, 2))
        if horizon > 1:
            ahead = self._summed(move, horizon)
            up = np.where(np.isfinite(ahead), (ahead > 0).astype(float), np.nan)
            ahead_of = range(1, horizon + 1)
            yield _Answer("return", horizon, up, self._centred(rises) / np.sqrt(horizon), ahead_of, (1.0,), True)
            for size, step in ((ahead**2, move**2), (np.abs(ahead), np.abs(move) / np.sqrt(horizon))):
                yield _Answer("variance", horizon, size, self._centred(step), ahead_of, (1.0, 1 / horizon), True)
        yield _Answer("return", 0, np.expm1(move), changes, range(1))
        for size in (move**2, np.abs(move)):
            step = self._centred(size)
            for k in dict.fromkeys((1, horizon, SLOW_BARS)):
                yield _Answer("variance", k, self._summed(size, k), step, range(1, k + 1), (1.0, 1.0 / k))
            yield _Answer("variance", 0, size, step, range(1))

    def _summed(self, step: FloatArray, ahead: int) -> FloatArray:
        """(bars,) the sum over the next bars, NaN where the symbol has fewer."""
        total = np.full(len(step), np.nan)
        for rows in self._own:
            if len(rows) > ahead:
                total[rows[:-ahead]] = np.lib.stride_tricks.sliding_window_view(step[rows][1:], ahead).sum(1)
        return total

    def _centred(self, step: FloatArray) -> FloatArray:
        """(bars,) the steps minus the mean of their symbol; 0 where a step is missing.

        Smaller where the steps take each other back (a bounce between bid and ask, a peg): by the root of the ratio of
        the variance over 22 bars to 22 times that of one.
        """
        centred = np.zeros(len(step))
        for rows in self._own:
            there = rows[np.isfinite(step[rows])]
            if len(there) <= SLOW_BARS:
                continue
            own = step[there] - step[there].mean()
            total = np.cumsum(own)
            slow, fast = np.var(total[SLOW_BARS:] - total[:-SLOW_BARS]), SLOW_BARS * np.var(own)
            centred[there] = own * np.sqrt(min(1.0, slow / fast) if fast > 0 else 1.0)
        return centred

    def _correlation(self) -> FloatArray:
        """(symbols, symbols) correlation of returns on the same bars."""
        move = self._centred(self._move)
        table = np.column_stack([np.asarray(self._by_time[:, rows] @ move[rows]) for rows in self._own])
        size = np.maximum(np.sqrt((table**2).sum(0)), 1e-300)
        found = table.T @ table / np.outer(size, size)
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)

    def _spread(self, answer: _Answer, unit: _Unit, rows: IntArray, table: FloatArray) -> FloatArray:
        """(k, k) covariance of the sums over rows of answers times each column of the table, (rows, k).

        A sum of overlapping answers is a sum of single bars, each with the weights of all answers that it is part of;
        the noise of single bars is taken as they are, and that of symbols on the same bar together.
        """
        first, last = answer.lags[0], answer.lags[-1]
        added = np.zeros((len(unit.rows), table.shape[1]))
        whole = np.zeros_like(added)
        whole[np.searchsorted(unit.rows, rows)] = table
        for own in self._own if unit.symbol is None else [unit.rows]:
            place = np.searchsorted(unit.rows, own)
            total = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(whole[place], 0)])
            at = np.arange(len(own))
            weights = total[np.maximum(at + 1 - first, 0)] - total[np.maximum(at - last, 0)]
            added[place] = weights * answer.step[own][:, None]
        if unit.symbol is None:
            added = np.asarray(self._by_time @ added)
        return np.asarray(added.T @ added)

    # ── tests of one column ──────────────────────────────────────────────────────────────────────

    def made(self, value: FloatArray, inputs: Mapping[str, FloatArray] | None = None) -> Made | None:
        """How a column is made of the answers, or None.

        In: the column, (bars,); `inputs`, further columns of which it may be a linear function. Means by group are
        looked for where a column has few values; fitted values everywhere, those of `inputs` also in other units.
        """
        value = np.where(np.isfinite(value), value, np.nan)
        for find in (
            self._fitted(value),
            self._of_groups(value),
            self._of_inputs(value, inputs or {}),
            self._of_calendar(value),
        ):
            for one in find:
                return one
        return None

    def _fitted(self, value: FloatArray) -> Iterator[Made]:
        """Residuals orthogonal to the column: to itself and a constant, to it alone, to it without its mean."""
        for answer in self._answers:
            if answer.bars == 0:
                continue
            found: list[list[Fit]] = [[] for _ in answer.scales]
            for unit in self._units:
                rows = _both(value, answer, unit.rows)
                if len(rows) < LEAST_ROWS:
                    continue
                v, y = value[rows], answer.value[rows]
                middle = v - v.mean()
                if middle @ middle <= IN_SPAN * (v @ v):
                    continue
                moments = np.column_stack([np.ones(len(rows)), v, middle])
                spread = self._spread(answer, unit, rows, moments)
                t = abs(middle @ y) / np.sqrt(spread[2, 2]) if spread[2, 2] > 0 else 0.0
                if t < LEAST_T:
                    continue
                for place, scale in enumerate(answer.scales):
                    off = moments.T @ (y - v / scale)
                    both = chi_square(off[:2], spread[:2, :2])
                    if unit.symbol:
                        found[place].append(Fit(t**2, both[0], both[1]))
                    if _chance_below(both[0], max(both[1], 1)) < CHANCE or any(
                        _chance_below(off[k] ** 2 / spread[k, k], 1) < CHANCE / 10 for k in (1, 2)
                    ):
                        yield _made("fitted", answer, v, y, t, unit.symbol)
            for fits in found:
                if len(fits) > 1 and self._closer(fits)[0] < CHANCE:
                    rows = _both(value, answer, np.arange(len(value)))
                    total = float(np.sqrt(sum(fit.explained for fit in fits)))
                    yield _made("fitted", answer, value[rows], answer.value[rows], total, None)

    def _of_groups(self, value: FloatArray) -> Iterator[Made]:
        """Values on a line with the means of the answers in the rows that have them."""
        tables = [(unit, found) for unit in self._units if (found := rows_by_value(value, unit.rows))]
        for answer in self._answers if tables else []:
            if answer.fitted_only:
                continue
            fits: list[list[Fit]] = [[] for _ in SHAPES]
            for unit, (rows, table) in tables:
                there = np.isfinite(answer.value[rows])
                kept, own = rows[there], table[there]
                y = answer.value[kept]
                if len(kept) < LEAST_ROWS or (answer.bars == 0 and share_of_groups(own, y) > OWN_BAR):
                    continue
                spread = self._spread(answer, unit, kept, own)
                for place, shape in enumerate(SHAPES if answer.of == "variance" else SHAPES[:1]):
                    changed = shape(value[kept])
                    fit = on_a_line(own, changed, y, spread)
                    if fit and too_close(fit.explained, fit.left, fit.degrees, 1.0):
                        yield _made("groups", answer, value[kept], y, float(np.sqrt(fit.explained)), unit.symbol)
                    if fit and unit.symbol:
                        fits[place].append(fit)
            for own_fits in fits:
                if len(own_fits) > 1 and self._closer(own_fits)[1]:
                    rows = _both(value, answer, np.arange(len(value)))
                    total = float(np.sqrt(sum(fit.explained for fit in own_fits)))
                    yield _made("groups", answer, value[rows], answer.value[rows], total, None)

    def _of_inputs(self, value: FloatArray, inputs: Mapping[str, FloatArray]) -> Iterator[Made]:
        """A linear function of the inputs that leaves nothing of what they explain."""
        inputs = {name: given for name, given in inputs.items() if np.isfinite(given).mean() > LEAST_COVERED}
        if not inputs or len(inputs) > MOST_INPUTS:
            return
        table = np.column_stack([*inputs.values()])
        for unit in self._units:
            used = np.arange(table.shape[1])
            for _ in range(2):  # inputs of which the column is no function would add noise, and may lack other rows
                rows = unit.rows[np.isfinite(np.column_stack([value, table[:, used]])[unit.rows]).all(axis=1)]
                if len(rows) < max(LEAST_ROWS, 10 * len(used)) or not len(used):
                    break
                part, v = table[np.ix_(rows, used)], value[rows] - value[rows].mean()
                spread = part.std(0)
                part = (part - part.mean(0)) / np.where(spread > 0, spread, np.inf)
                slopes = np.linalg.lstsq(part, v, rcond=None)[0]
                rest = v - part @ slopes
                if not v @ v > 0 or rest @ rest > IN_SPAN * (v @ v):
                    break
                used = used[np.abs(slopes) > np.sqrt(IN_SPAN) * v.std()]
            else:
                yield from self._beside(value, unit, rows, np.column_stack([np.ones(len(rows)), part]))

    def _beside(self, value: FloatArray, unit: _Unit, rows: IntArray, part: FloatArray) -> Iterator[Made]:
        """A column of the span of its inputs, (rows, k), that leaves nothing of what they explain."""
        v = value[rows]
        for answer in self._answers:
            there = np.isfinite(answer.value[rows])
            if answer.bars == 0 or there.sum() < LEAST_ROWS:
                continue
            kept = rows[there]
            y = answer.value[kept]
            fit = on_a_line(part[there], v[there], y, self._spread(answer, unit, kept, part[there]))
            if fit and too_close(fit.explained, fit.left, fit.degrees, 1.0):
                yield _made("fitted", answer, v[there], y, float(np.sqrt(fit.explained)), unit.symbol)

    def _of_calendar(self, value: FloatArray) -> Iterator[Made]:
        """A column -> how its sums by month, weekday and hour, and along the year, equal those of the coming returns.

        This finds smoothed seasons, means that leave out each row itself, and both mixed with other values. A column
        that follows past returns has nearly the same sums one bar later, so its part in past returns is removed first.
        """
        rest = np.full(len(value), np.nan)
        for rows in self._own:
            kept = rows[np.isfinite(value[rows])]
            if len(kept) < LEAST_ROWS:
                continue
            known = np.column_stack([np.ones(len(kept)), self._past[kept]])
            off = value[kept] - known @ np.linalg.lstsq(known, value[kept], rcond=None)[0]
            if off @ off > IN_SPAN * float(((value[kept] - value[kept].mean()) ** 2).sum()):
                rest[kept] = off
        for answer in self._answers:
            if answer.of != "return" or answer.fitted_only or not 0 < answer.bars < SLOW_BARS:
                continue
            for calendar in self._calendars:
                fits: list[Fit] = []
                for unit in self._units:
                    rows = _both(rest, answer, unit.rows)
                    if len(rows) < LEAST_ROWS:
                        continue
                    table, y = calendar[rows], answer.value[rows]
                    table = table[:, np.abs(table).sum(0) > LEAST_OF_GROUP]
                    fit = on_a_line(table, rest[rows], y, self._spread(answer, unit, rows, table))
                    if fit and too_close(fit.explained, fit.left, fit.degrees, 1.0):
                        yield _made("groups", answer, rest[rows], y, float(np.sqrt(fit.explained)), unit.symbol)
                    if fit and unit.symbol:
                        fits.append(fit)
                if len(fits) > 1 and self._closer(fits)[1]:
                    rows = _both(rest, answer, np.arange(len(value)))
                    total = float(np.sqrt(sum(fit.explained for fit in fits)))
                    yield _made("groups", answer, rest[rows], answer.value[rows], total, None)

    def _closer(self, fits: list[Fit]) -> tuple[float, bool]:
        """Chance of so small a rest over all symbols, and whether it is too close; symbols move together."""
        degrees = np.array([fit.degrees for fit in fits], float)
        alike = self._alike if len(fits) == len(self._own) else np.ones((len(fits),) * 2)
        effective = degrees.sum() ** 2 / float(np.sqrt(degrees) @ alike @ np.sqrt(degrees))
        share = effective / degrees.sum()
        left = sum(fit.left for fit in fits)
        chance = _chance_below(left * share, degrees.sum() * share)
        explained = sum(fit.explained for fit in fits)
        return chance, too_close(explained, left, degrees.sum(), share, len(fits))


def _both(value: FloatArray, answer: _Answer, rows: IntArray) -> IntArray:
    return rows[np.isfinite(value[rows]) & np.isfinite(answer.value[rows])]


def _made(how: str, answer: _Answer, value: FloatArray, y: FloatArray, t: float, symbol: str | None) -> Made:
    r2 = float(np.corrcoef(value, y)[0, 1] ** 2)
    return Made(how, answer.of, answer.bars, r2, t, symbol)


def _chance_below(value: float, degrees: float) -> float:
    """Probability that a chi-square of so many degrees is below a value."""
    from scipy import stats  # takes as long as an update of a store

    return float(stats.chi2.cdf(value, degrees))
