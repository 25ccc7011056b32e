"""Too good to be true: outcomes that no honest market gives, as a verdict of their own.

The limits stand in `trading.plausible`, which also says when a record passes them while it runs; here the whole record
is held against them, and the verdicts say so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gatecast.evaluation.compare import day_means, per_session
from gatecast.evaluation.verdict import SKILL, Verdict, estimate_alpha
from gatecast.trading.plausible import (
    HITS,
    LEAST_HITS,
    LEAST_INDEPENDENT,
    LEAST_SESSIONS,
    PLANTED,
    YARDSTICKS,
    bars_a_day,
    hits_of,
    r2_limit,
    sharpe_limit,
    too_good_so_far,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]

TOO_GOOD = "too good: look for a leak"
VOID = "void: a leak was found"
ABOUT_RETURNS = ("return", "direction", "strategy")
"""Heads that may be too good; their names allow it."""


@dataclass(frozen=True)
class TooGood:
    """One measure above its limit: of which head, in which class (None: the book), what, how much, how much at most."""

    head: str
    asset_class: str | None
    measure: str
    value: float
    limit: float

    @property
    def sentence(self) -> str:
        """The measure beside its limit, in words."""
        if np.isnan(self.value):  # the whole record is within the limit
            digits = ".1f" if self.head == "strategy" else ".1%"
            limit = f"the {self.limit:{digits}} that honest markets allow"
            return f"{self.measure} ({self.asset_class}) was at some time above {limit}"
        digits = ".1f" if self.measure.startswith("Sharpe") else ".1%"
        where = f" ({self.asset_class})" if self.asset_class else ""
        limit = f"above the {self.limit:{digits}} that honest markets allow"
        return f"{self.measure}{where} is {self.value:{digits}}, {limit}"


def too_good(
    forecasts: Mapping[str, Forecasts],
    strategy: FloatArray,
    benchmark: FloatArray,
    sessions: NDArray[np.datetime64],
    sessions_per_year: float,
    so_far: Mapping[str, BoolArray] | None = None,
    allowed: Collection[str] = (),
) -> list[TooGood]:
    """What is above its limit in the whole record, or was at some time, by the heads of `ABOUT_RETURNS`.

    - return: R² of the ensemble over the horizon above `r2_limit`, against no change and against the historical mean,
      in units of volatility, over at least 60 answers that do not overlap;
    - return, direction: hits more than 10 points above always saying the more frequent side (60 % where both are as
      frequent), on at least 250 answers that do not overlap;
    - strategy: the information ratio of its alpha (its t over the root of years, long-run variance) from the first
      session on which something was held to the last above `sharpe_limit`, on at least 250 such sessions.

    Parameters
    ----------
    forecasts: asset class -> forecasts with the ensemble in them.
    strategy, benchmark: (bars,) net simple returns of the book and of buy and hold; sessions: (bars,) their dates.
    so_far: asset class -> (bars,) where its record was above a limit while it ran, see `trading.plausible`; such a one
        is too good even if the whole record is not.
    allowed: heads that the user has allowed to be too good; "planted" for all.
    """
    if PLANTED in allowed:
        return []
    found = []
    for name, one in forecasts.items():
        own = [*_returns(name, one), *_hits(name, one)]
        found += [each for each in own if each.head not in allowed]
        if so_far is not None and so_far[name].any():
            head = "return" if too_good_so_far(one, allowed).any() else "strategy"
            found.append(_at_some_time(head, name, one))
    if "strategy" not in allowed:
        day = max((bars_a_day(one.samples) for one in forecasts.values()), default=1.0)
        found += _money(strategy, benchmark, sessions, sessions_per_year, sharpe_limit(day))
    return found


def _at_some_time(head: str, name: str, forecasts: Forecasts) -> TooGood:
    """A record that was above a limit while it ran."""
    samples = forecasts.samples
    day = bars_a_day(samples)
    if head == "strategy":
        return TooGood(head, name, "The yearly Sharpe ratio of the strategies' alpha", np.nan, sharpe_limit(day))
    return TooGood(
        head, name, f"The R² of returns over {samples.horizon} bars (or the share of hits)", np.nan,
        r2_limit(samples.horizon, day),
    )  # fmt: skip


def _returns(name: str, forecasts: Forecasts) -> list[TooGood]:
    samples, r2 = forecasts.samples, []
    for rival in YARDSTICKS:
        if rival not in forecasts.values:
            continue
        days = day_means({name: forecasts}, "return", "ensemble", rival)
        if len(days.day) < LEAST_INDEPENDENT * samples.horizon_sessions:
            return []
        r2.append(float(days.gain.mean() / days.rival.mean()))
    limit = r2_limit(samples.horizon, bars_a_day(samples))
    if not r2 or min(r2) <= limit:
        return []
    return [TooGood("return", name, f"R² of returns over {samples.horizon} bars", min(r2), limit)]


def _hits(name: str, forecasts: Forecasts) -> list[TooGood]:
    found = []
    for head in ("return", "direction"):
        days, hits, rises = hits_of(forecasts, head)
        if len(days) < LEAST_HITS:
            continue
        share, up = float(hits.mean()), float(rises.mean())
        limit = max(up, 1 - up) + HITS
        if share > limit:
            measure = "Share of hits of the expected return" if head == "return" else "Share of hits"
            found.append(TooGood(head, name, measure, share, limit))
    return found


def _money(
    strategy: FloatArray, benchmark: FloatArray, sessions: NDArray[np.datetime64], per_year: float, limit: float
) -> list[TooGood]:
    (_, net), (_, market) = (per_session(returns, sessions) for returns in (strategy, benchmark))
    held = np.flatnonzero(net)
    if len(held) < LEAST_SESSIONS:
        return []
    since = slice(int(held[0]), int(held[-1]) + 1)
    found = estimate_alpha(net[since], market[since], per_year)
    ratio = found.statistic * float(np.sqrt(per_year / (since.stop - since.start)))
    return [TooGood("strategy", None, "Sharpe ratio of the alpha", ratio, limit)] if ratio > limit else []


def without_what_is_too_good(
    verdicts: Mapping[str, Verdict],
    found: Collection[TooGood],
    blamed: Collection[tuple[str, float]] = (),
    *,
    stale: bool = False,
) -> dict[str, Verdict]:
    """The verdicts, in which a head that is too good, and every claim beside it, is "too good: look for a leak".

    `blamed`: features with the largest R² of the answer, and these. `stale`: prices that nobody can trade explain what
    is too good; then only what is still a claim is looked at.
    """
    heads = set() if stale else {one.head for one in found}
    return {
        head: _too_good(verdict, found, blamed) if found and (head in heads or verdict.verdict == SKILL) else verdict
        for head, verdict in verdicts.items()
    }


def _too_good(verdict: Verdict, found: Collection[TooGood], blamed: Collection[tuple[str, float]]) -> Verdict:
    own = [one for one in found if one.head == verdict.head] or list(found)
    said = [f"Too good to be true: {own[0].sentence}."]
    if blamed:
        names = ", ".join(f"{name!r} (R² {r2:.0%})" for name, r2 in blamed)
        said.append(f"Most to blame: {names}.")
    said.append('If it is real, allow it by name: too_good = ["' + own[0].head + '"].')
    return replace(verdict, verdict=TOO_GOOD, sentence=" ".join(said))


def void(verdicts: Mapping[str, Verdict], leak: str) -> dict[str, Verdict]:
    """The verdicts, all void because of a leak that was found (`leak`: its sentence); what is too good stays that."""
    found = {}
    for head, one in verdicts.items():
        if one.verdict == TOO_GOOD:
            found[head] = replace(one, sentence=f"{one.sentence} A leak was found: {leak}")
        else:
            found[head] = replace(one, verdict=VOID, sentence=f"Void, since a leak was found: {leak}")
    return found
