"""Limits of plausible gains: R², hit rate and Sharpe ratio, and the session since which a record exceeds one.

A record above a limit points at a leak: a column or a price that knows the answer. The limits are for daily bars and
scaled by bars a day; they hold against the better of no change and the historical mean, and of always saying the more
frequent direction, so that a market that only rises is not too good.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.forecasting.panel import ENSEMBLE, PAST_MEAN, PLAIN
from gatecast.market.bars import session_date
from gatecast.market.calendar import sessions_of
from gatecast.samples.targets import standardised_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts
    from gatecast.samples.windows import Samples

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    IntArray = NDArray[np.int64]

R2_OF_A_DAY, R2_MOST = 0.02, 0.5  # share of the variance of returns over a day, and over any horizon
HITS = 0.10  # share of hits beyond always saying the more frequent direction: 60 % where both are as frequent
LEAST_HITS = 250  # answers that do not overlap, before hits are looked at
SHARPE = 3.0  # a year, of the alpha of a book of daily bars
LEAST_SESSIONS = 250  # on which something was held, before a Sharpe ratio is looked at
LEAST_INDEPENDENT = 60  # answers that do not overlap, before an R² is looked at by itself
FEWEST_INDEPENDENT = 20  # answers that do not overlap, before a running R² is looked at
BEYOND_LUCK = 3.0  # standard errors that a running R² must lie above its limit: it is looked at every day
PLANTED = "planted"  # allows everything: a market whose optimum is known
YARDSTICKS = (PLAIN["return"], PAST_MEAN)


def r2_limit(horizon: int, bars_a_day: float = 1.0) -> float:
    """The largest R² of returns over so many bars that is believed, a share of their variance.

    >>> r2_limit(1), r2_limit(5), r2_limit(20, 2.0), r2_limit(60)
    (0.02, 0.1, 0.2, 0.5)
    """
    return min(R2_MOST, R2_OF_A_DAY * horizon / bars_a_day)


def sharpe_limit(bars_a_day: float = 1.0) -> float:
    """The largest yearly Sharpe ratio of an alpha that is believed.

    >>> sharpe_limit(), sharpe_limit(4.0)
    (3.0, 6.0)
    """
    return SHARPE * float(np.sqrt(bars_a_day))


def bars_a_day(samples: Samples) -> float:
    """Bars of a usual session of the class, from its first sessions."""
    return samples.session_bars


def _stamps(samples: Samples) -> pl.DataFrame:
    times = pl.Series(samples.time.astype("datetime64[us]")).dt.replace_time_zone("UTC")
    frame = pl.DataFrame({"symbol": pl.Series(samples.symbol), "time": times})
    return frame.with_columns(asset_class=pl.lit(samples.asset_class))


def too_good_so_far(forecasts: Forecasts, allowed: Collection[str] = ()) -> BoolArray:
    """Where the ensemble's record of returns is better than an honest market allows, from answers known by then.

    In: the forecasts of one class with the ensemble in them; `allowed`: names that the user has allowed ("return",
    "direction", "planted" for all). Out: (bars,) True, for good, from the session after the one at which the R² so far
    is above its limit (of 60 answers that do not overlap, or of 20 by three standard errors), or the share of hits of
    250 answers that do not overlap above its own. At each close only answers that became known in earlier sessions are
    looked at.
    """
    samples = forecasts.samples
    found = np.zeros(len(samples.time), bool)
    if not forecasts.folds or PLANTED in allowed:
        return found
    since = np.array(
        [
            *([] if "return" in allowed else [_since_r2(forecasts)]),
            *([] if "direction" in allowed else [_since_hits(forecasts)]),
        ],
        "datetime64[D]",
    )
    since = since[~np.isnat(since)]
    return session_date(samples.time) > since.min() if len(since) else found


def too_much_money_so_far(
    samples: Samples, net: FloatArray, market: FloatArray, forecast_at: IntArray, allowed: Collection[str] = ()
) -> BoolArray:
    """Where the record of a class's positions is better than an honest market allows, from returns known by then.

    In: (bars,) net simple returns of what was proposed and of holding every symbol, realised at each close;
    `forecast_at`: bar-level rows with a forecast; `allowed`: names, "strategy" or "planted" allow it. Out: (bars,) True
    from the session after the one at which the Sharpe ratio of the alpha so far (beyond beta times the market, the mean
    over symbols in each session) is above `sharpe_limit`, over 250 or more sessions with a profit or loss, for good.
    """
    found = np.zeros(len(samples.time), bool)
    if PLANTED in allowed or "strategy" in allowed or not len(forecast_at):
        return found
    days, day = np.unique(session_date(samples.time[forecast_at]), return_inverse=True)
    count = np.bincount(day)
    per_bar = max(bars_a_day(samples), 1.0)  # means over symbols, sums over the bars of a session
    earned, held = (np.bincount(day, of[forecast_at]) / count * per_bar for of in (net, market))
    seen = np.arange(1, len(days) + 1)
    mean, mean_held = np.cumsum(earned) / seen, np.cumsum(held) / seen
    variance = np.cumsum(earned**2) / seen - mean**2
    variance_held = np.cumsum(held**2) / seen - mean_held**2
    together = np.cumsum(earned * held) / seen - mean * mean_held
    beta = together / np.where(variance_held > 1e-16, variance_held, np.inf)
    rest = np.maximum(variance - beta * together, 1e-16)
    ratio = (mean - beta * mean_held) / np.sqrt(rest) * np.sqrt(sessions_of(_stamps(samples)))
    above = (np.cumsum(earned != 0) >= LEAST_SESSIONS) & (ratio > sharpe_limit(bars_a_day(samples)))
    return session_date(samples.time) > days[int(np.argmax(above))] if above.any() else found


def _since_r2(forecasts: Forecasts) -> np.datetime64:
    """The session at whose end the R² so far is above its limit by more than luck; NaT where it never is."""
    samples = forecasts.samples
    answer, unit = samples.targets["return"].value[samples.decided, -1], samples.unit[:, -1] ** 2
    made = [forecasts.values[name]["return"][:, -1] for name in (ENSEMBLE, *YARDSTICKS) if name in forecasts.values]
    losses = np.column_stack([standardised_loss("return", answer, forecast, unit) for forecast in made])
    rows = np.flatnonzero(np.isfinite(losses).all(1))
    if len(rows) == 0 or losses.shape[1] < 2:
        return np.datetime64("NaT")
    days, day = np.unique(session_date(samples.known_at[rows]), return_inverse=True)
    count = np.bincount(day)
    model, *rivals = (np.bincount(day, column) / count for column in losses[rows].T)
    limit, overlap = r2_limit(samples.horizon, bars_a_day(samples)), samples.horizon_sessions
    independent = np.arange(1, len(days) + 1) / overlap
    above = independent >= FEWEST_INDEPENDENT
    for rival in rivals:
        excess = (1 - limit) * rival - model
        surely = _running_t(excess, overlap) > BEYOND_LUCK
        above &= surely | ((independent >= LEAST_INDEPENDENT) & (np.cumsum(excess) > 0))
    return days[int(np.argmax(above))] if above.any() else np.datetime64("NaT")


def _running_t(values: FloatArray, overlap: int) -> FloatArray:
    """(days,) the t of the mean so far of values that each hang together with `overlap` of their neighbours.

    The variance is that of as many independent values as there are days over the overlap: the most it can be.
    """
    count = np.arange(1, len(values) + 1)
    mean = np.cumsum(values) / count
    variance = np.maximum(np.cumsum(values**2) / count - mean**2, 0.0)
    error = np.sqrt(variance * overlap / count)
    return np.where(error > 1e-12 * np.abs(mean), mean / np.maximum(error, 1e-300), 0.0)


def _since_hits(forecasts: Forecasts) -> np.datetime64:
    """The session at whose end the hits so far are above their limit; NaT where they never are."""
    since = []
    for head in ("return", "direction"):
        days, hits, rises = hits_so_far(forecasts, head)
        count = np.arange(1, len(days) + 1)
        share, up = np.cumsum(hits) / count, np.cumsum(rises) / count
        above = (count >= LEAST_HITS) & (share > np.maximum(up, 1 - up) + HITS)
        if above.any():
            since.append(days[int(np.argmax(above))])
    return min(since) if since else np.datetime64("NaT")


def hits_so_far(forecasts: Forecasts, head: str) -> tuple[NDArray[np.datetime64], FloatArray, FloatArray]:
    """`hits_of` of the ensemble's forecasts of one class, "return" or "direction"; no row where it makes none."""
    samples = forecasts.samples
    made = forecasts.values.get(ENSEMBLE, {}).get(head)
    if made is None:
        return np.zeros(0, "datetime64[D]"), np.zeros(0), np.zeros(0)
    moment = samples.times if bars_a_day(samples) > 1 else samples.sessions
    change = samples.targets["return"].value[samples.decided, -1]
    return hits_of(
        leaning(head, made if made.ndim == 1 else made[:, -1]), change, moment, samples.known_at, samples.horizon
    )


def leaning(head: str, forecast: FloatArray) -> FloatArray:
    """(rows,) forecasts of "return" or "direction" -> above 0 where a rise is expected, below where a fall is."""
    return forecast if head == "return" else forecast - 0.5


def hits_of(
    lean: FloatArray,
    change: FloatArray,
    moment: NDArray[np.datetime64],
    known_at: NDArray[np.datetime64],
    horizon: int,
) -> tuple[NDArray[np.datetime64], FloatArray, FloatArray]:
    """Hits on answers that share no bar: the session each was known in, share of hits, share of rises.

    Parameters
    ----------
    lean: (rows,) see `leaning`; change: (rows,) log return over `horizon` bars.
    moment: (rows,) when each forecast was made: its session, or its time where a session has several bars.
    known_at: (rows,) when each answer was known.

    Returns
    -------
    One row for every `horizon`-th moment at which forecasts were made, in the order in which answers became known:
    means over the symbols. A price that stands still is left out.
    """
    rows = np.flatnonzero(np.isfinite(change) & np.isfinite(lean) & (change != 0) & (lean != 0))
    number = np.unique(moment[rows], return_inverse=True)[1]
    rows, number = (array[number % horizon == 0] for array in (rows, number))
    number = np.unique(number, return_inverse=True)[1]
    count = np.maximum(np.bincount(number), 1)
    rose = change[rows] > 0
    known = np.full(len(count), np.datetime64("0001-01-01"))
    np.maximum.at(known, number, session_date(known_at[rows]))
    order = np.argsort(known, kind="stable")
    hits, rises = (np.bincount(number, one) / count for one in ((lean[rows] > 0) == rose, rose))
    return known[order], hits[order], rises[order]
