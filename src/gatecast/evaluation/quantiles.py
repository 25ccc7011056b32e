"""Quantile forecasts of returns beside the past's own quantiles: pinball loss, coverage, a verdict.

The rival's quantile is that of past returns in units of the volatility known at each forecast, times that volatility.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gatecast.evaluation.judge import after_trials
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.verdict import CANNOT_TELL, SKILL
from gatecast.files import jsonable
from gatecast.metrics import significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record

    FloatArray = NDArray[np.float64]

LEAST_PAST = 250
"""Answers that must be known before the rival has a quantile."""


@dataclass(frozen=True)
class Quantiles:
    """What quantile forecasts were worth.

    `gain`: share of the rival's pinball loss that they save, `low` and `high` its 90 % interval, `pvalue` one-sided,
    corrected for trials; `n`: days. `coverage`: rows of level, below (share of answers below the quantile), low, high
    (exact 95 % limits of that share where the level is right, from answers that share no bar) and n.
    """

    verdict: str
    gain: float
    low: float
    high: float
    pvalue: float
    n: int
    coverage: tuple[dict[str, float], ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found: dict[str, Any] = jsonable(asdict(self))
        return found


def pinball(level: float, quantile: FloatArray, answer: FloatArray) -> FloatArray:
    """The loss of a quantile of a level for answers (Koenker and Bassett 1978, Econometrica 46).

    >>> pinball(0.1, np.array([0.0, 0.0]), np.array([1.0, -1.0])).tolist()
    [0.1, 0.9]
    """
    miss = answer - quantile
    return np.asarray(np.maximum(level * miss, (level - 1) * miss))


def judge_quantiles(rows: pl.DataFrame, record: Record, trials: int = 1) -> Quantiles:
    """One model's quantiles over the record's horizon, beside those of the past.

    `rows`: symbol, time, quantile, value. `record`: of the head "return", whose rows these are. `trials`: on this
    market so far, for which the p-value is corrected. Losses are in units of
    the volatility known at each forecast, the mean over levels, symbols and then days.
    """
    levels = sorted(rows["quantile"].unique().to_list())
    table = _table(rows, record, levels)
    unit = np.sqrt(record.unit)
    standard = np.where(unit > 0, record.change / unit, np.nan)
    rival = _rival(record, standard, levels) * unit[:, None]
    answer = record.change
    whole = np.isfinite(table).all(axis=1) & np.isfinite(rival).all(axis=1) & np.isfinite(answer) & (unit > 0)
    coverage = tuple(_covered(level, table[whole, place], record, whole) for place, level in enumerate(levels))
    days, place = np.unique(record.day[whole], return_inverse=True)
    nan = float("nan")
    if len(days) < significance.BARS_PER_HORIZON * record.overlap:
        said = f"{len(days)} days with quantiles at all levels and a rival beside them are too few for a verdict."
        return Quantiles(CANNOT_TELL, nan, nan, nan, nan, len(days), coverage, said)
    counts = np.bincount(place)
    ours, theirs = (
        np.bincount(
            place,
            np.mean([pinball(one, values[whole, k], answer[whole]) for k, one in enumerate(levels)], axis=0)
            / unit[whole],
        )
        / counts
        for values in (table, rival)
    )
    test = significance.fixed_b_mean(theirs - ours, record.overlap)
    base = float(theirs.mean())
    gain, low, high = test.effect / base, test.low / base, test.high / base
    pvalue = after_trials(test.pvalue, trials)
    skill = pvalue < LEVEL and low > 0
    off = [one for one in coverage if not one["low"] <= one["below"] <= one["high"]]
    said = (
        f"Against the past's own quantiles: gain in pinball loss {gain:+.1%} ({low:+.1%} to {high:+.1%}), p "
        f"{pvalue:.3f} after {trials} trial{'s' * (trials != 1)}, {len(days):,} days, {len(levels)} levels. "
    )
    wrong = ", ".join(f"{one['level']:g} ({one['below']:.1%})" for one in off)
    said += "The share of answers below is " + (f"wrong at {wrong}." if off else "as it should be at every level.")
    return Quantiles(SKILL if skill else CANNOT_TELL, gain, low, high, pvalue, len(days), coverage, said)


def _table(rows: pl.DataFrame, record: Record, levels: list[float]) -> FloatArray:
    """(rows, levels) quantiles at the record's rows, NaN where there is none."""
    keys = pl.DataFrame(
        {
            "symbol": np.array(record.symbols, dtype=object)[record.symbol].tolist(),
            "time": pl.Series(record.time).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "_row": np.arange(len(record)),
        }
    )
    table = np.full((len(record), len(levels)), np.nan)
    found = rows.join(keys, on=["symbol", "time"])
    place = np.searchsorted(levels, found["quantile"].to_numpy())
    table[found["_row"].to_numpy(), place] = found["value"].to_numpy()
    return table


def _rival(record: Record, standard: FloatArray, levels: list[float]) -> FloatArray:
    """(rows, levels) quantiles of the standardised returns whose answers were known at the month's first forecast."""
    found = np.full((len(record), len(levels)), np.nan)
    month = record.day.astype("datetime64[M]")
    for number in range(len(record.classes)):
        own = np.flatnonzero(record.number == number)
        for one in np.unique(month[own]):
            rows = own[month[own] == one]
            past = own[record.known_at[own] <= record.time[rows].min()]
            past = past[np.isfinite(standard[past])]
            if len(np.unique(record.day[past])) >= LEAST_PAST:
                found[rows] = np.quantile(standard[past], levels)
    return found


def _covered(level: float, quantile: FloatArray, record: Record, whole: NDArray[np.bool_]) -> dict[str, float]:
    """The share of answers below a quantile beside the exact limits of a right one."""
    from scipy.stats import binom

    below = record.change[whole] < quantile
    days = len(np.unique(record.day[whole])) // record.overlap  # those of several symbols go together
    low, high = (binom.ppf(chance, days, level) / days if days else np.nan for chance in (0.025, 0.975))
    share = float(below.mean()) if len(below) else float("nan")
    return {"level": level, "below": share, "low": float(low), "high": float(high), "n": float(days)}
