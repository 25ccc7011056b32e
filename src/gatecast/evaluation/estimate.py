"""What a gain or an alpha is estimated as: effect, error, test, and what could have been detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gatecast.evaluation.record import Days, Record, day_means
from gatecast.forecasting.panel import PLAIN, RIVALS
from gatecast.metrics import significance
from gatecast.metrics.significance import BEYOND, BOUND

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

POWER = BOUND + BEYOND  # standard errors that an effect must be away from 0: 5 % one-sided, 80 % power
EQUAL = 1e-9  # a difference of losses, in units of the mean loss, of no more is rounding


@dataclass(frozen=True)
class Estimate:
    """An effect with its standard error, the statistic and p-value of the test, and how the days speak for it.

    `series`: (days,) contributions to the effect; `tested`: series that must all be above 0 on average, without days
    on which the forecasts are equal but for rounding, whose variance is watched over `lag`; `n`: days that tell;
    `share`: of them, those that the error's variance spans (b of fixed-b); `clark_west`: the p-value against
    forecasting no change; `detectable`, `least_certain`: see `Verdict`.
    """

    effect: float
    error: float
    statistic: float
    pvalue: float
    series: FloatArray
    n: int
    n_effective: float
    detectable: float
    share: float
    lag: int
    tested: tuple[FloatArray, ...]
    beta: float = np.nan
    clark_west: float = np.nan
    least_certain: str = ""

    @property
    def low(self) -> float:
        """Lower end of the 90 % interval."""
        return self.effect - significance.fixed_b_critical(BOUND, self.share) * self.error

    @property
    def high(self) -> float:
        """Upper end of the 90 % interval."""
        return self.effect + significance.fixed_b_critical(BOUND, self.share) * self.error


@dataclass(frozen=True)
class Tilt:
    """What strategies added to the core of a book: arrays (sessions,), the returns in excess of cash.

    `both`: of core and tilt together, `core`: of the core alone; `held`: whether anything was added, decided the close
    before. `sessions`: dates. `per_year`: sessions a year.
    """

    both: FloatArray
    core: FloatArray
    held: BoolArray
    sessions: NDArray[np.datetime64]
    per_year: float

    @classmethod
    def nothing(cls) -> Self:
        """Of a core to which nothing was ever added."""
        none = np.zeros(0)
        return cls(none, none, np.zeros(0, np.bool_), np.zeros(0, "datetime64[D]"), 252.0)

    def alpha(self, rows: BoolArray | slice = slice(None)) -> Estimate:
        """The yearly alpha of core and tilt on the core and cash, of some sessions: of more core alone it is 0."""
        return estimate_alpha(self.both[rows], self.core[rows], self.per_year, self.held[rows])


def yardsticks(record: Record, model: str) -> dict[str, Days]:
    """A head's fixed forecasts, by name: its simplest (no change, the past share, a constant) and the plain yardstick.

    Which rival is in force is learned from a short record, and can be learned wrongly; these are never chosen.
    """
    names = dict.fromkeys((RIVALS[record.head][0], PLAIN[record.head]))
    return {name: day_means(record, model, name) for name in names if name in record.forecasts}


def estimate_gain(days: Days, overlap: int, fixed: Mapping[str, Days] = MappingProxyType({})) -> Estimate:
    """The gain over the rival as a share of its loss, tested by Diebold-Mariano with fixed-b critical values.

    Skill needs a gain over each of the `fixed` forecasts, too (see `yardsticks`), for returns by Clark-West: the
    largest p-value counts. Such an intersection-union test needs no correction for their number.

    What is `detectable` of returns is the R² of a calibrated forecast, whose gain is found last: with one symbol and no
    overlap 24.7 / n. Otherwise it is the gain at the standard error that there is.

    References
    ----------
    Berger (1982), Technometrics 24: intersection-union tests; Kiefer and Vogelsang (2005), Econometric Theory 21.
    """
    n, scale = len(days.day), float(days.rival.mean())
    gain = significance.fixed_b_mean(days.gain, overlap)
    statistic, pvalue, clark_west, least_certain = gain.statistic, gain.pvalue, np.nan, ""
    tested: tuple[FloatArray, ...] = (days.gain[differing(days.gain, days.rival)],)
    detectable = gain.detectable / scale if scale > 0 else np.nan
    for name, every in fixed.items():
        against = every.of(np.isin(every.day, days.day))
        of_returns = bool(np.isfinite(against.adjusted).any())
        series = against.adjusted if of_returns else against.gain
        told = differing(series, against.rival)
        signal = significance.fixed_b_mean(series, overlap)
        chance = signal.statistic, signal.pvalue
        if of_returns:
            clark_west = signal.pvalue
            base, size = float(against.rival.mean()), float(against.size.mean())
            detectable = signal.detectable**2 / max(base * size, 1e-300)
        elif not told.any():  # the same forecasts, no gain
            chance = 0.0, 0.5
        tested += (series[told],)
        if not chance[1] <= pvalue:  # it is larger, or undefined
            (statistic, pvalue), least_certain = chance, name
    return Estimate(
        gain.effect / scale if scale > 0 else np.nan, gain.standard_error / scale if scale > 0 else 0.0,
        statistic, pvalue, days.gain / scale if scale > 0 else days.gain, n,
        _effective(days.gain, gain.standard_error), detectable, gain.share, lag_of(n, overlap), tested,
        clark_west=clark_west, least_certain=least_certain,
    )  # fmt: skip


def differing(rows: FloatArray, losses: FloatArray) -> BoolArray:
    """(days,) which rows exceed rounding at the scale of the losses they come from: equal forecasts are no evidence."""
    return np.asarray(np.abs(rows) > EQUAL * losses.mean()) if len(rows) else np.zeros(0, bool)


def estimate_alpha(
    strategy: FloatArray, benchmark: FloatArray, periods: float, tells: BoolArray | None = None
) -> Estimate:
    """The yearly return beyond beta times buy and hold: what its average exposure to the market does not explain.

    Only days on which something was held tell, or those that `tells` names; the variance of alpha spans so much of
    them.
    """
    held = int(np.count_nonzero(strategy if tells is None else tells))
    width = significance.bandwidth_of(len(strategy))
    line = significance.hac_alpha(strategy, benchmark, width - 1)
    test = significance.FixedB.of(line, width / max(held, 1))
    beyond = strategy - line.slope * benchmark if np.isfinite(line.slope) else strategy
    return Estimate(
        test.effect * periods, test.standard_error * periods, test.statistic, test.pvalue, beyond * periods, held,
        min(_effective(beyond, test.standard_error), held), test.detectable * periods, test.share,
        lag_of(len(strategy)), (beyond,), line.slope,
    )  # fmt: skip


def lag_of(n: int, overlap: int = 1) -> int:
    """Lags of a variance that is watched as days come in: the overlap, and at least 4 (n / 100)^(2/9).

    A test made once uses `significance.bandwidth_of`, whose critical values know the bandwidth.
    """
    return max(overlap - 1, int(4 * (n / 100) ** (2 / 9)))


def _effective(series: FloatArray, error: float) -> float:
    """As many independent days as these are worth: their variance over the squared error of their mean."""
    return float(min(len(series), series.var() / error**2)) if error > 0 else float("nan")
