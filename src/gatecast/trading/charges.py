"""What trading, borrowing and cash cost or earn: one rule each, from numbers to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gatecast.libraries import shipped_table
from gatecast.trading.costs import MoneySettings
from gatecast.trading.instruments import Instruments

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DAYS_OF_RATES = 360
"""Days of the year by which interest, borrowing and carry are counted (actual/360)."""
UNKNOWN_BENCHMARK = 0.02
"""Interest a year on cash without spread, where neither a series nor the settings say it."""
UNKNOWN_DEVIATION = 0.02
"""Standard deviation a session, for the impact of an order whose symbol has no forecast."""


def can_be_lent(
    instruments: Instruments, settings: MoneySettings, usual_volume: FloatArray | None, told: FloatArray | None = None
) -> BoolArray:
    """(symbols,) whether units can be sold short; what takes no money always can.

    `told`: 1 or 0, NaN where nobody says. There it is assumed by the class and `usual_volume`, the mean value traded a
    session in the currency of the book (NaN where it is not known).
    """
    assumed = instruments.lendable & ~instruments.has_volume
    if usual_volume is not None:
        known, large = ~np.isnan(usual_volume), usual_volume >= settings.least_lent_volume
        assumed = instruments.lendable & np.where(known, large, ~instruments.has_volume)
    if told is not None:
        assumed = np.where(np.isnan(told), assumed, told > 0)
    return np.asarray(assumed | ~instruments.funded, np.bool_)


def trading_costs(
    units: FloatArray,
    value: FloatArray,
    instruments: Instruments,
    settings: MoneySettings,
    rate: FloatArray | float = 1.0,
    deviation: FloatArray | None = None,
    usual_deviation: FloatArray | None = None,
    volume: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Commission, half spread and impact of orders, (symbols,) each, in the currency of the book.

    `units` and `value` (in the currency of the book) of the orders, at or above 0; the rest as in `Session`. The
    commission of an order is at least the minimum. The spread widens with the forecast deviation over its mean, and
    does not become narrower. Without a volume the order is taken to be `unknown_share_of_volume` of one, or, of a class
    that has volumes, `unknown_share_of_small`.
    """
    traded = units > 0
    commission = value * instruments.commission
    if settings.commission_per_unit is not None:
        commission = units * settings.commission_per_unit * rate
    commission = np.where(traded, np.maximum(commission, settings.commission_minimum), 0.0)
    wider = np.ones(len(units))
    if deviation is not None and usual_deviation is not None:
        ratio = np.divide(deviation, usual_deviation, out=np.ones(len(units)), where=usual_deviation > 0)
        wider = np.fmax(ratio, 1.0)
    spread = value * instruments.half_spread * wider
    sigma = np.full(len(units), UNKNOWN_DEVIATION)
    if deviation is not None:
        sigma = np.where(np.isnan(deviation), sigma, deviation)
    share = np.where(instruments.has_volume, settings.unknown_share_of_small, settings.unknown_share_of_volume)
    if volume is not None:
        money = volume * rate
        np.divide(value, money, out=share, where=money > 0)
    impact = settings.impact * market_impact(value, share, sigma)
    return (
        np.asarray(np.where(traded, commission, 0.0), np.float64),
        np.asarray(np.where(traded, spread, 0.0), np.float64),
        np.asarray(np.where(traded, impact, 0.0), np.float64),
    )


def margin_shares(instruments: Instruments, price: FloatArray) -> FloatArray:
    """(symbols,) the margin of a holding as a share of its value; `price` in the symbol's currency, NaN where unknown.

    >>> table = {"symbol": ["A"], "multiplier": [50.0], "tick": [0.25], "currency": ["USD"], "margin": [12500.0]}
    >>> last = pl.DataFrame({**table, "last_trade": [date(2024, 6, 21)]})
    >>> own = Instruments.of({"A": "future"}, MoneySettings(), contracts=last, last_bars={"A": date(2024, 6, 3)})
    >>> margin_shares(own, np.array([5000.0])).tolist()
    [0.05]
    """
    value = instruments.multiplier * price
    return np.divide(instruments.margin, value, out=np.zeros(len(value)), where=(instruments.margin > 0) & (value > 0))


def market_impact(value: Any, share: Any, deviation: Any) -> Any:
    """Cost of an order by its value, its share of the session's volume and the deviation of returns a session.

    The square root law σ |x| sqrt(x / V) = σ |x|^1.5 / sqrt(V). Sato and Kanazawa (2024), arXiv 2411.13965.

    >>> round(market_impact(1e6, 1e6 / 1e8, 0.02), 6)
    2000.0
    """
    return deviation * value * share**0.5


def interest_of(cash: float, benchmark: float, days: int, settings: MoneySettings) -> float:
    """Interest on cash for so many calendar days, in its unit; negative where cash is.

    >>> round(interest_of(-0.6, 0.0533, 1, MoneySettings()), 10)
    -0.0001138333
    """
    credit = max(benchmark - settings.credit_spread, 0.0)
    return cash * (benchmark + settings.debit_spread if cash < 0 else credit) * days / DAYS_OF_RATES


def carry_nights(since: date, until: date) -> int:
    """Nights of interest that a currency pair held from one day to another earns: three for that of a Wednesday.

    The nights after weekdays count, that of a Wednesday for the weekend, as spot is settled two days later.

    >>> [carry_nights(date(2024, 1, day), date(2024, 1, day + 1)) for day in range(1, 8)]
    [1, 1, 3, 1, 1, 0, 0]
    """
    nights = (since + timedelta(days=number) for number in range((until - since).days))
    return sum((1, 1, 3, 1, 1, 0, 0)[night.weekday()] for night in nights)


def earned_on_cash(days: Sequence[date], rates: FloatArray) -> FloatArray:
    """(days,) simple return of cash since the day before, 0 on the first, from the interest a year at each.

    >>> earned_on_cash([date(2024, 1, 5), date(2024, 1, 8)], np.array([0.036, 0.036])).round(6).tolist()
    [0.0, 0.0003]
    """
    dates = np.array(days, dtype="datetime64[D]")
    nights = np.diff(dates, prepend=dates[:1]).astype(np.float64)
    return np.asarray(rates * nights / DAYS_OF_RATES, np.float64)


def cash_rates(days: Sequence[date]) -> FloatArray:
    """(days,) interest a year on bills of one month, known at each day: Kenneth French's, and their last one after.

    The months from July 1926 to November 2018 that `arch` ships, a month's rate twelve times; `benchmark_rate` of the
    settings is for other currencies. Before the first month its rate.

    >>> cash_rates([date(2008, 10, 1), date(2024, 1, 2)]).round(4).tolist()
    [0.0096, 0.0216]
    """
    months, rates = _bills()
    wanted = np.array([100 * day.year + day.month for day in days], np.int64)
    place = np.clip(np.searchsorted(months, wanted, side="right") - 1, 0, len(months) - 1)
    return np.asarray(rates[place] * 12 / 100, np.float64)


@cache
def _bills() -> tuple[NDArray[np.int64], FloatArray]:
    """(months,) year times 100 and month, and the rate of one-month bills in per cent a month."""
    table = shipped_table("arch", "data", "frenchdata", "frenchdata.csv.gz", columns=["Date", "RF"])
    return table["Date"].cast(pl.Int64).to_numpy(), table["RF"].cast(pl.Float64).to_numpy()
