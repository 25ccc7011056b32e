"""A chain -> its verdicts, corrected for all that was tried; what they rest on stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl

from gatecast.audits.leaks import Audit
from gatecast.audits.quick import audit_of
from gatecast.chain import Chain
from gatecast.compute.parallel import side_by_side
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.delay import DIES, Later, one_bar_later, without_repeated_ranges, without_what_dies
from gatecast.evaluation.estimate import Tilt
from gatecast.evaluation.gate import gate_of
from gatecast.evaluation.judge import judge, with_trials_unknown
from gatecast.evaluation.knowing import most_to_blame
from gatecast.evaluation.ledger import trials_are_missing, unrecorded
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.plausible import TOO_GOOD, too_good, without_what_is_too_good
from gatecast.evaluation.record import Record, records_of
from gatecast.evaluation.risk import Risk, judge_risk, verdict_on
from gatecast.evaluation.shortfall import LEVEL as TAIL
from gatecast.evaluation.shortfall import judge_shortfall
from gatecast.evaluation.trial import Trial
from gatecast.evaluation.verdict import Verdict
from gatecast.experiment import Experiment
from gatecast.forecasting.panel import ENSEMBLE, EWMA_OF_RETURNS, RIVAL
from gatecast.market.stale import repeated_ranges, untradable
from gatecast.metrics.returns import per_session
from gatecast.trading.book import (
    TILTED,
    Book,
    Line,
    Sessions,
    core_path,
    lines_of,
    sessions_by,
    tail_paths_of,
    tilted_at,
)
from gatecast.trading.costs import Costs
from gatecast.trading.plausible import PLANTED, too_good_so_far
from gatecast.trials import record_chain


@dataclass(frozen=True)
class Conclusion:
    """What is said of a chain: its verdicts, and what they rest on.

    `sessions`, `lines`: of the book; `risk`: of it, None without lines; `later`: effects with decisions one bar late;
    `without_default_ends`: the verdicts with nothing lost where a symbol ends on unknown terms, None where none did.
    """

    verdicts: dict[str, Verdict]
    sessions: Sessions
    lines: dict[str, Line]
    risk: Risk | None
    later: list[Later]
    without_default_ends: dict[str, Verdict] | None
    audit: Audit

    @property
    def doubted(self) -> bool:
        """Whether a leak was found, or an outcome is too good to be true or gone with the next bar."""
        return not self.audit.clean or any(one.verdict in (TOO_GOOD, DIES) for one in self.verdicts.values())


def conclude(
    experiment: Experiment, chain: Chain, trials: Sequence[Trial], *, unread: bool = False, jobs: int = 1,
    goes_on: bool = False,
) -> Conclusion:  # fmt: skip
    """A chain and all trials on its market -> what is said of it.

    `unread`: see `judge_chain`. `jobs`: cores. `goes_on`: see `audit_of`.
    """
    sessions = sessions_by(chain.facts, experiment.book, level="newest")

    def judged() -> Callable[[Audit], Conclusion]:
        lines = lines_of(chain.classes, sessions, experiment.book, jobs=jobs)
        risk = risk_of(experiment, chain, lines, sessions)
        tilts = Tilts(experiment.book, chain, lines)
        later = later_of(chain, experiment.costs, tilts)
        verdicts = judge_chain(experiment, chain, trials, later, unread=unread, risk=risk, tilts=tilts)
        without = None
        if chain.takes_default_terms:
            without = judge_chain(experiment, chain.without_default_ends(), trials, later, unread=unread)
        return partial(Conclusion, verdicts, sessions, lines, risk, later, without)

    audited = partial(audit_of, experiment, chain, goes_on=goes_on)  # on one core
    parts: tuple[Callable[[], Any], ...] = (judged, audited)
    with_audit, audit = side_by_side(lambda part, _: part(), parts, jobs=min(2, jobs))
    concluded: Conclusion = with_audit(audit)
    return concluded


def judge_chain(
    experiment: Experiment,
    chain: Chain,
    trials: Sequence[Trial] | None = None,
    later: Sequence[Later] | None = None,
    *,
    unread: bool = False,
    risk: Risk | None = None,
    tilts: Tilts | None = None,
) -> dict[str, Verdict]:
    """The verdicts of a chain, corrected for all that was tried on the same market and span.

    A claim that one bar of delay ends, and one that is too good to be true, is none.

    This is where a judgement is made, and so where a trial counts: whoever judges a chain has tried it. `make_chain`
    and `walk_forward` alone claim nothing and leave no trial.

    Parameters
    ----------
    trials: what `record_chain` returned; None: the chain is recorded here. Copies and planted markets are judged
        inside `ledger.unrecorded`, where there are no other trials.
    later: what `later_of` returned; None: found here.
    unread: whether the ledger could not be read when `trials` was made: no verdict is evidence of skill then.
    risk: what `risk_of` said of the book, which is judged with the rest. tilts: of the chain; None: made here.
    """
    with problems() as found:
        trials = record_chain(experiment, chain) if trials is None else trials
    tilts = Tilts(experiment.book.with_file_read(), chain) if tilts is None else tilts
    verdicts = _judged(experiment, chain, [one for one in trials if not one.nested], later, risk, tilts)
    return with_trials_unknown(verdicts) if unread or trials_are_missing(found) else verdicts


def _judged(
    experiment: Experiment, chain: Chain, trials: Sequence[Trial], later: Sequence[Later] | None, risk: Risk | None,
    tilts: Tilts,
) -> dict[str, Verdict]:  # fmt: skip
    """See `judge_chain`; `trials` without those of searches."""
    costs, allowed = experiment.costs, experiment.too_good
    days, held = per_session(chain.benchmark, chain.sessions)
    records, tilt = records_of(chain.forecasts), tilts.of()
    with unrecorded():  # the trials on file are counted above
        verdicts = judge(
            records, chain.net, chain.benchmark,
            round_trip=float(np.mean([costs.round_trip(name) for name in chain.classes])),
            periods_per_year=chain.result.rows_per_year, sessions=chain.sessions, trials=max(len(trials), 1),
            effective_trials=independent_trials(trials, days, held) if trials else None,
            beside=() if risk is None else risk.pvalues, tilt=tilt,
        )  # fmt: skip
        if risk is not None:
            verdicts["risk"] = verdict_on(risk, verdicts)
    if PLANTED in allowed:  # its truth is known, and may end with the next bar
        return verdicts
    verdicts = without_repeated_ranges(verdicts, list(repeated_ranges(chain.bars.sort("symbol", "time"))))
    found = too_good(
        records, chain.net, chain.benchmark, chain.sessions, chain.facts.sessions_per_year,
        _at_some_time(chain, allowed), allowed, tilt,
    )  # fmt: skip
    blamed = [one for name in chain.classes for one in _blamed(chain, name, experiment.horizon)] if found else []
    later = later_of(chain, costs, tilts, records) if later is None else later
    if untradable(chain.bars.sort("symbol", "time")):  # stale prices explain what is too good, and not a leak
        return without_what_is_too_good(without_what_dies(verdicts, later), found, blamed, stale=True)
    return without_what_dies(without_what_is_too_good(verdicts, found, blamed), later)


@dataclass(frozen=True)
class Tilts:
    """What strategies added to the core of a chain's book: as decided, and with their part some bars late.

    `made`: the lines of the book, where they are there already.
    """

    book: Book
    chain: Chain
    made: Mapping[str, Line] | None = None

    @cached_property
    def sessions(self) -> Sessions:
        """The chain's bars by session, ends of symbols booked as the chain books them."""
        ends = self.chain.default_ends
        return sessions_by(self.chain.facts, self.book, level="newest", default_ends=ends)

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        """The core's line, and that of core and tilt where strategies had any evidence."""
        if self.made is not None and self.chain.default_ends:
            return self.made
        return self._lines(ENSEMBLE, TILTED) if tilted_at(self.chain.classes, self.sessions).any() else {}

    def of(self, late: int = 0) -> Tilt | None:
        """The tilt, so many bars late; None where there is no core, or where the core never holds anything."""
        if self.book.core.kind == "none":
            return None
        if TILTED not in self.lines:
            return Tilt.nothing() if core_path(self.sessions, self.book.core).any() else None
        core = self.lines[ENSEMBLE]
        if not core.held.any():
            return None
        both = self._lines(TILTED, late=late).get(TILTED) if late else self.lines[TILTED]
        if both is None:
            return Tilt.nothing()
        before = tilted_at(self.chain.classes, self.sessions, late)[-len(core.days) : -1]
        return Tilt(both.excess[1:], core.excess[1:], before, core.days[1:], _per_year(core, self.chain))

    def _lines(self, *only: str, late: int = 0) -> dict[str, Line]:
        return lines_of(self.chain.classes, self.sessions, self.book, only=only, late=late)


def risk_of(experiment: Experiment, chain: Chain, lines: Mapping[str, Line], sessions: Sessions) -> Risk | None:
    """The verdict on risk of a chain's book, gatecast's line against the best rival's; None without lines or core."""
    if experiment.book.core.kind == "none" or not {ENSEMBLE, RIVAL} <= lines.keys():
        return None
    own, target = lines[ENSEMBLE], experiment.book.size.target_volatility
    risk = judge_risk(lines, ENSEMBLE, RIVAL, target=target, sessions_per_year=_per_year(own, chain))
    shortfall, tails = judge_shortfall(own.earned, tail_paths_of(chain.classes, sessions, own, TAIL), own.days)
    return replace(risk, shortfall=shortfall, tails=tails, gate=gate_of(own, lines.get(EWMA_OF_RETURNS)))


def _per_year(line: Line, chain: Chain) -> float:
    """Sessions a year of a line of the book."""
    days = line.days
    years = float((days[-1] - days[0]) / np.timedelta64(1, "D")) / 365.25
    return len(days) / years if years > 0 else chain.facts.sessions_per_year


def _blamed(chain: Chain, name: str, horizon: int) -> list[tuple[str, float]]:
    bars = chain.bars.filter(pl.col("asset_class") == name).sort("symbol", "time")
    return most_to_blame(bars, chain.classes[name].samples.names, horizon)


def _at_some_time(chain: Chain, allowed: Sequence[str]) -> dict[str, str]:
    """Asset class -> whose record was above a limit while it ran: that of "return", or else that of the "strategy".

    `allowed`: outcomes that may be too good.
    """
    return {
        name: "return" if too_good_so_far(one.forecasts, allowed).any() else "strategy"
        for name, one in chain.classes.items()
        if one.selection.too_good.any()
    }


def later_of(chain: Chain, costs: Costs, tilts: Tilts, records: Mapping[str, Record] | None = None) -> list[Later]:
    """The effects of a chain's forecasts of returns, and of its strategies, with decisions one bar late.

    `records`: those of the chain's forecasts, where they are made already.
    """
    records = records_of(chain.forecasts) if records is None else records
    weights = chain.weights.select("symbol", "time", "weight")
    tilted = None if tilts.of() is None else (lambda late: tilts.of(late) or Tilt.nothing())
    return one_bar_later(records, weights, chain.facts, costs, tilted)
