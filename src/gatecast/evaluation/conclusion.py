"""A verdict in words: its outcome, its sentence, and what stands beside it, once all p-values are corrected."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.rivals import CAP
from gatecast.evaluation.verdict import ADDED, CANNOT_TELL, CORE, FLOOR, MEASURES, NAMES, NOTHING, SKILL, Verdict
from gatecast.forecasting.panel import forecaster_of, model_phrase
from gatecast.notebook import NOT_KNOWN, number_text

SAME = 1e-12
"""Share of a loss below which a gain is nothing but rounding."""


def claims(verdict: Verdict, pvalue: float, low: float) -> bool:
    """Whether a verdict claims skill at a p-value and a lower end of the gain, corrected for all that was tried."""
    return bool(pvalue < LEVEL and low > 0) and not _too_small(verdict)


def _too_small(verdict: Verdict) -> bool:
    """Whether a gain is below what can matter, see `FLOOR`; of a strategy, which is money already, never."""
    return bool(verdict.effect * verdict.rival_loss < FLOOR)


def conclude(verdict: Verdict, signal: tuple[float, float] = (np.nan, np.nan)) -> Verdict:
    """The outcome and its sentence, once all p-values are corrected.

    `signal`: Clark-West's p-value against no change in the place of the verdict's, after Holm, and after the trials.
    """
    if verdict.sentence or not np.isfinite(verdict.pvalue_holm):
        said = [verdict.sentence or "There is nothing to test.", *_set_aside(verdict)]
        return replace(verdict, sentence=" ".join(said))
    name, rival = ADDED if verdict.rival == CORE else NAMES[verdict.head], _rival(verdict)
    gain = f"{MEASURES[verdict.head]} {in_percent(verdict.effect, verdict.low, verdict.high)}"
    if verdict.effect < -1 and verdict.head != "strategy":
        gain += " (a loss more than twice as large)"
    claimed = claims(verdict, verdict.pvalue_trials, verdict.low)
    verdict = replace(verdict, verdict=SKILL) if claimed else verdict
    after = [*_gains_beside(verdict), *_set_aside(verdict)]
    if claimed:
        text = f"{name} beats {rival} out of sample: {gain}, {_odds(verdict)}{_but_simple(verdict)}."
        return replace(verdict, sentence=" ".join([text, *_reservations(verdict), *after]))
    outcome = NOTHING if verdict.high < verdict.break_even else CANNOT_TELL
    first = [f"{name} gains {_plain(verdict)}{_but_simple(verdict)}."] if verdict.simple_is_as_good else []
    if verdict.pvalue_trials < LEVEL and verdict.low > 0:  # but for its size it would be a claim
        outcome = NOTHING
        text = f"{name}: {gain} over {rival}, whose loss is {verdict.rival_loss:.1g}."
        said = [f"{text} The gain is significant ({_odds(verdict)}) but too small to matter."]
    elif signal[1] < LEVEL and verdict.effect < 0:
        said = [
            f"{name} has a larger loss than {rival}: {gain}. But the Clark-West test against no change is significant "
            f"({_odds(verdict, signal)}): the forecasts contain signal and are too large. Smaller ones may do better."
        ]
    elif outcome == NOTHING:
        needed = f", below the break-even gain of {_percent(verdict.break_even)}"
        if verdict.break_even > 1:
            needed = ". No forecast could pay the costs: a round trip costs more than the usual price change"
        text = f"{name} has no gain worth trading: {gain} over {rival}{needed if verdict.break_even > 0 else ''}."
        said = [text]
    else:
        said = _undecided(verdict, name, rival, gain, signal)
    return replace(verdict, verdict=outcome, sentence=" ".join([*first, *said, *after]))


def _rival(verdict: Verdict) -> str:
    """The rival in words, with its name at most refits."""
    if verdict.head == "strategy":
        return verdict.rival
    mostly = f" (mostly {model_phrase(verdict.most_in_force)})" if verdict.most_in_force else ""
    return model_phrase(verdict.rival) + mostly


def _plain(verdict: Verdict) -> str:
    gain = in_percent(verdict.plain_gain, verdict.plain_low, verdict.plain_high)
    return f"{gain} over the plain yardstick, {model_phrase(verdict.plain)}"


def _but_simple(verdict: Verdict) -> str:
    """That a simple model is better, or not shown to be worse, and which; empty where none is."""
    if not verdict.simpler:
        return ""
    simple = forecaster_of(verdict.simpler)
    kind = "regression" if simple is None or simple.traits_with_settings().learns_slope else "rule"
    better = f"forecasts {verdict.head} better"
    how = better if verdict.simple_high < 0 else f"is not shown to forecast {verdict.head} worse"
    return f", but a simple {kind} {how}: {model_phrase(verdict.simpler)}"


def _gains_beside(verdict: Verdict) -> list[str]:
    """Sentences on the gains over the plain yardstick (where no other sentence has it) and the best simple model."""
    said = []
    if verdict.plain and (verdict.verdict == SKILL or not verdict.simple_is_as_good):
        said.append(f"{NAMES[verdict.head]} gains {_plain(verdict)}.")
        if verdict.plain == verdict.most_in_force and verdict.effect > 0 >= verdict.plain_gain:
            said.append("The gain over the rival comes from the refits at which the rival was another model.")
    if verdict.simple:
        gain = in_percent(verdict.simple_gain, verdict.simple_low, verdict.simple_high)
        if not np.isfinite(verdict.simple_low) and abs(verdict.simple_gain) < SAME:
            gain = f"{NOT_KNOWN}, as both have the same loss on each day"
        said.append(f"Over the best simple model with hindsight, {model_phrase(verdict.simple)}: {gain}.")
    return said


def _set_aside(verdict: Verdict) -> list[str]:
    """How many answers were not scored, or not in full."""
    said = []
    if verdict.ties:
        said.append(f"{_count(verdict.ties, 'forecast')} not scored: the price did not change.")
    if verdict.capped:
        said.append(f"{_count(verdict.capped, 'loss', 'losses')} capped at {CAP:g} times the usual loss.")
    return said


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one} was" if count == 1 else f"{count:,} {many or f'{one}s'} were"


def in_percent(effect: float, low: float, high: float) -> str:
    """An effect and its interval, with as many decimals as the interval's width can carry; beyond 100 % in words.

    An interval that is not known is said to be so: there are too few days, or no two days differ.

    >>> in_percent(0.118, 0.083, 0.152), in_percent(-0.0001, -0.0004, 0.0002)
    ('+11.8% (+8.3% to +15.2%)', '-0.010% (-0.040% to +0.020%)')
    >>> in_percent(-0.0001, -0.02, 0.02)
    '0.0% (-2.0% to +2.0%)'
    >>> in_percent(-0.685, -1.2, -0.1), in_percent(-2.9, -3.5, -2.2)
    ('-68.5% (worse than -100% to -10.0%)', 'worse than -100%')
    >>> in_percent(0.012, math.nan, math.nan), in_percent(math.nan, math.nan, math.nan)
    ('+1.2% (interval not known: too few days, or the same difference on each)', 'not known')
    """
    if math.isnan(effect):
        return NOT_KNOWN
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{_signed(effect, 1)} (interval not known: too few days, or the same difference on each)"
    middle, *ends = (_signed(share, _decimals(high - low)) for share in (effect, low, high))
    return middle if abs(effect) > 1 else f"{middle} ({' to '.join(ends)})"


def _signed(share: float, digits: int) -> str:
    if math.isnan(share):
        return NOT_KNOWN
    if abs(share) > 1:
        return "worse than -100%" if share < 0 else "better than +100%"
    return f"{share:+.{digits}%}" if round(100 * share, digits) else f"{0:.{digits}%}"


def _percent(share: float) -> str:
    if math.isnan(share):
        return NOT_KNOWN
    return "more than 100%" if share > 1 else f"{share:.{_decimals(share)}%}"


def _decimals(share: float) -> int:
    """Of a percentage: two digits where it is below 1 %, else one decimal."""
    return int(np.clip(1 - np.floor(np.log10(100 * share)), 1, 6)) if 0 < share < 0.01 else 1


def _p(value: float) -> str:
    return "p below .0001" if value < 1e-4 else f"p {number_text(value, '.2g')}"


def _days(count: int) -> str:
    """A number of days to two digits."""
    digits = max(0, int(np.floor(np.log10(max(count, 1)))) - 1)
    return f"{round(count, -digits):,} days"


def _odds(verdict: Verdict, pvalues: tuple[float, float] | None = None) -> str:
    """A p-value in words: the verdict's own, or others after Holm and after the trials."""
    holm, trials = pvalues or (verdict.pvalue_holm, verdict.pvalue_trials)
    if verdict.trials is None or verdict.trials <= 1:
        return f"{_p(holm)} after Holm"
    return f"{_p(trials)} after Holm and the {verdict.trials:,} trials so far"


def _reservations(verdict: Verdict) -> list[str]:
    """What a reader of a claim must know."""
    found = []
    if verdict.least_certain:
        found.append(f"The p-value is that of {_least_certain(verdict)}.")
    without = _signed(verdict.without_best_year, _decimals(verdict.high - verdict.low))
    if verdict.high < verdict.break_even:
        found.append(f"It is too small to trade: the break-even gain is {_percent(verdict.break_even)}.")
    if verdict.survives is False:
        found.append(f"Without {verdict.best_year} the gain is {without} and no longer significant.")
    elif verdict.survives:
        found.append(f"It is still significant without its best year, {verdict.best_year} ({without}).")
    if verdict.best_days >= 1:
        found.append("The best 1 % of days account for all of it.")
    elif verdict.best_days > 0.5:
        found.append(f"The best 1 % of days account for {verdict.best_days:.0%} of it.")
    if verdict.n < verdict.days:
        what = "The core was tilted" if verdict.rival == CORE else "A position was held"
        found.append(f"{what} on {verdict.n:,} of {verdict.days:,} days.")
    return found


def _least_certain(verdict: Verdict) -> str:
    """The gain that decides, where it is not the one over the rival in force."""
    return f"the gain over {model_phrase(verdict.least_certain)}, which skill must beat as well"


def _not_seen(verdict: Verdict) -> str:
    """Why a gain above the smallest detectable one, or with an interval above 0, is no evidence; empty otherwise."""
    large = (
        "above the smallest detectable one" if verdict.effect >= verdict.detectable else "above 0 in all its interval"
    )
    if not (verdict.effect >= verdict.detectable or verdict.low > 0):
        return ""
    if verdict.pvalue_holm < LEVEL <= verdict.pvalue_trials:  # which is said already
        return ""
    alone = "significant" if verdict.pvalue < LEVEL else "not significant"
    which = _least_certain(verdict) + ", is" if verdict.least_certain else "it is"
    return (
        f"The gain is {large}, but that refers to a single test: {which} {alone} alone ({_p(verdict.pvalue)}) "
        f"and not significant after correction ({_odds(verdict)})."
    )


def _undecided(verdict: Verdict, name: str, rival: str, gain: str, signal: tuple[float, float]) -> list[str]:
    """Sentences of an undecided verdict: the gain, the smallest detectable one, the days needed."""
    what = {"return": "an R² of", "strategy": "an alpha of"}.get(verdict.head, "a gain of")
    year = " a year" if verdict.head == "strategy" else ""
    said = [f"{name} against {rival}: {gain}. Not significant."]
    if verdict.pvalue_holm < LEVEL <= verdict.pvalue_trials:
        said.append(
            f"As a first trial it would be significant ({_p(verdict.pvalue_holm)}), "
            f"after {verdict.trials or 1:,} trials it is not ({_p(verdict.pvalue_trials)})."
        )
    elif signal[1] < LEVEL:
        said.append(
            f"The Clark-West test against no change is significant ({_odds(verdict, signal)}), but the gain over the "
            f"rival is not."
        )
    position = "tilt" if verdict.rival == CORE else "position"
    held = f" with a {position}, of {verdict.days:,}," if verdict.n < verdict.days else ""
    can = f"can detect {what} {_percent(verdict.detectable)}{year} (80 % power)"
    seen = f"{verdict.n:,} days{held} {'do not tell what they can detect' if math.isnan(verdict.detectable) else can}"
    if verdict.effect > 0 and verdict.n_needed and verdict.n_needed > verdict.n:
        seen += f"; for this gain about {_days(verdict.n_needed)} are needed"
    elif not verdict.n_needed and verdict.n_break_even and verdict.n_break_even > verdict.n:
        seen += (
            f"; for the break-even gain, {_percent(verdict.break_even)}, about {_days(verdict.n_break_even)} are needed"
        )
    said.append(f"{seen}. {_not_seen(verdict)}".strip())
    if verdict.effect <= 0:
        said.append("The rival is at least as good.")
    return said
