"""Daily profits of a file -> the verdict on them beside the market they were earned in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from gatecast.errors import SettingsError
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.following import LEAST_ROWS
from gatecast.evaluation.knowing import ABOVE
from gatecast.evaluation.ledger import record_trials
from gatecast.evaluation.outside import PROFITS, Outside
from gatecast.evaluation.plausible import TOO_GOOD, too_good, void, without_what_is_too_good
from gatecast.evaluation.power import power_of, undecidable
from gatecast.evaluation.verdict import CANNOT_TELL, Verdict, strategy_verdict
from gatecast.market.bars import session_date
from gatecast.market.facts import Facts
from gatecast.metrics.returns import sharpe
from gatecast.studies.judgement import Judged, Judgement
from gatecast.studies.question import Question
from gatecast.trading.charges import cash_rates, earned_on_cash
from gatecast.trading.plausible import PLANTED, r2_limit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

GIVES_CASH = ("dividend", "special_dividend", "return_of_capital")
"""Kinds of actions whose value a holder gets in cash."""
LEAST_VOLATILITY = 0.002
"""Deviation a year of profits beyond cash and the market, below which they are interest and no position."""
LEAST_EXPOSED = 0.25
"""Of the median move of the market: days with smaller ones do not show how much of it was held."""
KNOWN_SIDES = 0.25
"""Share of the market's moves that the planted leak puts on the right side of profits."""


def profits_judged(asked: Question, theirs: Outside) -> Judgement:
    """Daily profits beyond cash beside the mean of the symbols' returns beyond cash."""
    rows = theirs.rows if asked.cutoff is None else theirs.rows.filter(pl.col("day") > asked.cutoff)
    both = rows.join(_held(asked.facts), on="day", how="inner").sort("day")
    if both.is_empty():
        raise SettingsError("no day of the profits is a session of the bars: give bars of their market and span.")
    sessions, per_year = both["day"].to_numpy().astype("datetime64[D]"), asked.facts.sessions_per_year
    cash = _cash(asked, both["day"].to_list())
    net, held = both["net"].to_numpy() - cash, both["held"].to_numpy() - cash
    trials = record_trials([asked.trial_of(theirs.rows, (), both.select("net", session="day"))])
    effective = independent_trials(trials, sessions, held) if trials else 1.0
    verdict = strategy_verdict(
        net, held, sessions, per_year, trials=max(len(trials), 1), effective_trials=effective
    )  # fmt: skip
    found = too_good({}, net, held, sessions, per_year, allowed=asked.allowed)
    leaks = () if {"strategy", PLANTED} & {*asked.allowed} else _knows_the_day(net, held)
    verdict = without_what_is_too_good({"strategy": verdict}, found)["strategy"]
    verdict = void({"strategy": verdict}, leaks[0])["strategy"] if leaks else verdict
    verdict = _of_interest(undecidable(verdict, asked.most_believed(verdict, {}, net)), net, held, per_year)
    knows = too_good({}, net + KNOWN_SIDES * np.abs(held), held, sessions, per_year)
    said = f"profits with {KNOWN_SIDES:.0%} of the market's moves on the right side"
    few = f"were NOT seen: {len(net)} days are too few."
    planted = {
        "head": "strategy", "seen": bool(knows),
        "sentence": f"{said} {f'were seen: {knows[0].sentence}.' if knows else few} Days that were left out with "
        "hindsight, or the best of many tries, are not seen in profits alone.",
    }  # fmt: skip
    judged = Judged(
        theirs.name, {"strategy": verdict}, leaks=leaks, planted=planted,
        power={"strategy": power_of(verdict, per_year)},
    )  # fmt: skip
    ratio = float(np.nan_to_num(sharpe(net, periods_per_year=per_year)))
    whole, beyond, rate = (each.mean() * per_year for each in (both["net"].to_numpy(), net, cash))
    notes = [
        f"The file: {whole:+.1%} a year, beyond cash ({rate:.1%} a year) {beyond:+.1%}, Sharpe ratio {ratio:.2f}, "
        f"on {len(net):,} days. It is compared with the symbols in equal shares each day, dividends that are known "
        "included."
    ]
    if lost := len(rows) - len(both):
        notes.append(f"{lost} days of the file are no session of the bars, and are left out.")
    return Judgement(
        PROFITS, {theirs.name: judged}, None, str(sessions.min()), str(sessions.max()), verdict.trials,
        tuple(notes),
    )  # fmt: skip


def _cash(asked: Question, days: Sequence[date]) -> FloatArray:
    """(days,) what cash earned since the day before, 0 on the first."""
    return earned_on_cash(days, cash_rates(days) if asked.cash is None else np.full(len(days), asked.cash))


def _of_interest(verdict: Verdict, net: FloatArray, held: FloatArray, per_year: float) -> Verdict:
    """The verdict; of profits that hardly vary beyond a share of the market, what that means."""
    beta = float(np.cov(net, held)[0, 1] / held.var()) if len(net) > 1 and held.var() > 0 else 0.0
    rest = net - beta * held
    if rest.std() * np.sqrt(per_year) >= LEAST_VOLATILITY:
        return verdict
    gain = float(rest.mean()) * per_year
    about = f"Beyond cash and {beta:.2f} times the market these profits hardly vary, and earn {gain:+.1%} a year"
    if gain > 5 * LEAST_VOLATILITY:
        return replace(verdict, verdict=TOO_GOOD, sentence=f"{about}: no position does that.")
    same = f"{about}: they are cash and a constant share of the market, so that there is no skill to judge."
    return replace(verdict, verdict=CANNOT_TELL, test="none", sentence=same)


def _knows_the_day(net: FloatArray, held: FloatArray) -> tuple[str, ...]:
    """Whether the share of the market that profits imply goes with the same day's move, in a sentence.

    A share that was decided before cannot know the side: its R² is that of a forecast of the day, see `r2_limit`.
    """
    moved = np.abs(held) > LEAST_EXPOSED * np.median(np.abs(held))
    if moved.sum() < LEAST_ROWS or not np.ptp(net[moved]) > 0:
        return ()
    share = net[moved] / held[moved]
    low, high = np.quantile(share, (0.01, 0.99))
    share = np.clip(share, low, high)
    if share.std() <= 1e-9:
        return ()
    correlation = float(np.corrcoef(share, held[moved])[0, 1])
    r2, surely = correlation**2, abs(correlation) - ABOVE / np.sqrt(moved.sum())
    if surely <= np.sqrt(r2_limit(1)) or correlation < 0:
        return ()
    return (
        f"the share of the market that these profits imply goes with the same day's move (R² {r2:.0%}; more than "
        f"{r2_limit(1):.0%} is not believed of a share that was decided before): were days chosen with hindsight, "
        "or is it the profit of options?",
    )


def _held(facts: Facts) -> pl.DataFrame:
    """`day` and `held`: the mean over symbols of each session's simple return, dividends that are known included."""
    move = (pl.col("close") / pl.col("close").shift(1)).over("symbol").fill_null(1.0)
    before = pl.col("close").shift(1).over("symbol")
    days = facts.bars.sort("symbol", "time").with_columns(day=session_date(pl.col("time")), move=move, before=before)
    daily = days.group_by("symbol", "day", maintain_order=True).agg(
        pl.col("move").product() - 1, pl.col("before").first()
    )
    gifts = (
        facts.actions.filter(pl.col("kind").is_in(GIVES_CASH)).group_by("symbol", day="date").agg(pl.col("value").sum())
    )
    daily = daily.join(gifts, on=["symbol", "day"], how="left")
    total = pl.col("move") + (pl.col("value") / pl.col("before")).fill_null(0.0)
    return daily.group_by("day").agg(held=total.mean()).sort("day")
