"""Verdicts on implausible gains: R², hit rate or Sharpe ratio above a limit gives "too good: look for a leak".

The limits stand in `trading.plausible`, which also says when a record passes them while it runs; here the whole record
is held against them, and the verdicts say so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gatecast.evaluation.estimate import Tilt
from gatecast.evaluation.paired import paired
from gatecast.evaluation.verdict import SKILL, Verdict
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.metrics.returns import per_session
from gatecast.trading.plausible import (
    HITS,
    LEAST_HITS,
    LEAST_INDEPENDENT,
    LEAST_SESSIONS,
    PLANTED,
    YARDSTICKS,
    bars_a_day,
    hits_of,
    leaning,
    r2_limit,
    sharpe_limit,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.record import Record
    from gatecast.samples.windows import Samples

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
    records: Mapping[str, Record],
    strategy: FloatArray,
    benchmark: FloatArray,
    sessions: NDArray[np.datetime64],
    sessions_per_year: float,
    so_far: Mapping[str, str] | None = None,
    allowed: Collection[str] = (),
    tilt: Tilt | None = None,
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
    records: head -> record with the ensemble in it.
    strategy, benchmark: (bars,) net simple returns of the book and of buy and hold; sessions: (bars,) their dates.
    so_far: asset class -> "return" or "strategy", whose record was above a limit while it ran, see
        `trading.plausible`; such a class is too good even if the whole record is not.
    allowed: heads that the user has allowed to be too good; "planted" for all.
    tilt: what strategies added to a core, whose alpha is looked at in place of the book's; None: there is no core.
    """
    if PLANTED in allowed:
        return []
    found = []
    classes = {name: samples for record in records.values() for name, samples in record.samples.items()}
    for name, samples in classes.items():
        own = [each for head, record in records.items() for each in _above(head, name, record.of_classes((name,)))]
        found += [each for each in own if each.head not in allowed]
        if so_far is not None and name in so_far:
            found.append(_at_some_time(so_far[name], name, samples))
    if "strategy" not in allowed:
        day = max((bars_a_day(samples) for samples in classes.values()), default=1.0)
        if tilt is None:
            (days, net), (_, market) = (per_session(returns, sessions) for returns in (strategy, benchmark))
            tilt = Tilt(net, market, net != 0, days, sessions_per_year)
        found += _money(tilt, sharpe_limit(day))
    return found


def _above(head: str, name: str, record: Record) -> list[TooGood]:
    """What is above its limit in the record of one class and head."""
    if head == "return":
        return [*_returns(name, record), *_hits(name, record)]
    return _hits(name, record) if head == "direction" else []


def _at_some_time(head: str, name: str, samples: Samples) -> TooGood:
    """A record that was above a limit while it ran."""
    day = bars_a_day(samples)
    if head == "strategy":
        return TooGood(head, name, "The yearly Sharpe ratio of the strategies' alpha", np.nan, sharpe_limit(day))
    return TooGood(
        head, name, f"The R² of returns over {samples.horizon} bars (or the share of hits)", np.nan,
        r2_limit(samples.horizon, day),
    )  # fmt: skip


def _returns(name: str, record: Record) -> list[TooGood]:
    (samples,), r2 = record.samples.values(), []
    for rival in YARDSTICKS:
        if rival not in record.forecasts:
            continue
        both = paired(record, ENSEMBLE, rival)
        if both.n < LEAST_INDEPENDENT * samples.horizon_sessions:
            return []
        r2.append(float(both.days.gain.mean() / both.loss_against))
    limit = r2_limit(samples.horizon, bars_a_day(samples))
    if not r2 or min(r2) <= limit:
        return []
    return [TooGood("return", name, f"R² of returns over {samples.horizon} bars", min(r2), limit)]


def _hits(name: str, record: Record) -> list[TooGood]:
    (samples,), head = record.samples.values(), record.head
    if ENSEMBLE not in record.forecasts:
        return []
    moment = record.time if bars_a_day(samples) > 1 else record.day
    lean = leaning(head, record.forecasts[ENSEMBLE])
    days, hits, rises = hits_of(lean, record.change, moment, record.known_at, record.horizon)
    if len(days) < LEAST_HITS:
        return []
    share, up = float(hits.mean()), float(rises.mean())
    limit = max(up, 1 - up) + HITS
    if share <= limit:
        return []
    measure = "Share of hits of the expected return" if head == "return" else "Share of hits"
    return [TooGood(head, name, measure, share, limit)]


def _money(tilt: Tilt, limit: float) -> list[TooGood]:
    """The alpha from the first session with a position to the last, where it is above its limit."""
    held = np.flatnonzero(tilt.held)
    if len(held) < LEAST_SESSIONS:
        return []
    since = slice(int(held[0]), int(held[-1]) + 1)
    ratio = tilt.alpha(since).statistic * float(np.sqrt(tilt.per_year / (since.stop - since.start)))
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
