"""Records of forecasts, returns of the book -> a test, an outcome and a sentence for each head.

The unit of evidence is the day: the mean over symbols of volatility-standardised losses, at the one horizon that was
declared before the run. Each head is tested against the simple rival in force, the best so far at each refit (see
`rivals`), and against its fixed forecasts: skill must beat them all (see `estimate.estimate_gain`). T statistics of
answers that overlap have fixed-b critical values. P-values are corrected for the number of verdicts (Holm) and for the
number of trials that were made on the same instruments and span; beside them stands what the claim rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gatecast.arguments import checked
from gatecast.errors import SettingsError
from gatecast.evaluation.conclusion import claims, conclude
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.estimate import Estimate, Tilt, differing, estimate_alpha, estimate_gain, yardsticks
from gatecast.evaluation.hindsight import best_simple, gain_of
from gatecast.evaluation.ledger import ledger_path, trials_are_missing, trials_on
from gatecast.evaluation.luck import overlap_of
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.record import Record, day_means, gain_over, set_aside
from gatecast.evaluation.rivals import most_in_force
from gatecast.evaluation.scope import SAME, too_little
from gatecast.evaluation.trial import Trial
from gatecast.evaluation.verdict import CANNOT_TELL, CORE, HELD, SKILL, Verdict
from gatecast.forecasting.panel import ENSEMBLE, NETWORK, PLAIN, RIVAL
from gatecast.metrics import significance
from gatecast.metrics.returns import per_session

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LEAST_TRADED = 60  # days on which something was held, before the strategy can be judged
LEAST_REST = 60  # days that must be left when a year is dropped


@checked
def judge(
    records: Mapping[str, Record],
    strategy: FloatArray,
    benchmark: FloatArray,
    *,
    round_trip: float,
    periods_per_year: float,
    trials: int = 1,
    model: str = ENSEMBLE,
    effective_trials: float | None = None,
    sessions: NDArray[np.datetime64] | None = None,
    beside: Sequence[float] = (),
    tilt: Tilt | None = None,
) -> dict[str, Verdict]:
    """All verdicts of a run.

    Parameters
    ----------
    records: head -> record with `model` and the rival in force in it, see `record.records_of`; heads that are not there
        are not judged.
    strategy, benchmark: (bars,) net simple returns of the book and of buy and hold; `sessions`: (bars,) their dates,
        by which bars within a day are put together; periods_per_year: bars a year.
    round_trip: mean cost in and out, a fraction: what an R² must bring in to be worth trading.
    trials: configurations tried on these instruments so far, this one included; where the ledger cannot be read no
        verdict is evidence of skill. The ledger's trials on this market and span count where they are more
        (`ledger.trials_on`), and every sentence says so. `effective_trials`: what their books are worth as independent
        ones (None: all of it, see `counted.independent_trials`). It corrects a strategy's verdict alone: books can be
        alike with other forecasts behind them, and other with the same, so that for the forecasts every trial counts.
    beside: p-values of other tests of the same run, which are corrected together with these.
    tilt: what strategies added to a core, by which they are judged in place of `strategy` and `benchmark`; None: there
        is no core.
    """
    if not records:
        raise SettingsError("judge: records has no head; expected head -> record. Give records_of(forecasts).")
    for head, record in records.items():
        if len(record) and model in record.forecasts and RIVAL not in record.forecasts:
            raise SettingsError(
                f"judge: the record of {head!r} has no rival in force to judge {model!r} against; it has forecasts of "
                f"{', '.join(record.forecasts)}. Give records_of(forecasts), or add the rivals with record.beside()."
            )
    with problems() as unread:
        on_file = trials_on(tuple(next(iter(records.values())).samples.values()))
    count = max(trials, len(on_file), 1)
    if len(on_file) > trials:
        effective_trials = _worth(on_file, benchmark, sessions, effective_trials)
    found = {head: _judge_head(record, model, round_trip) for head, record in records.items()}
    if tilt is None:
        found["strategy"] = _judge_strategy(strategy, benchmark, periods_per_year, sessions)
    else:
        found["strategy"] = _judge_tilt(tilt)
    worth = dict.fromkeys(found, float(count))
    if effective_trials is not None:
        worth["strategy"] = float(np.clip(effective_trials, 1, count))
    verdicts = _corrected(found, count, worth, beside)
    if len(on_file) > trials:
        said = f"The ledger has {len(on_file):,} trials on this market and {trials:,} was given: {count:,} count."
        verdicts = {head: replace(one, sentence=f"{one.sentence} {said}") for head, one in verdicts.items()}
    return with_trials_unknown(verdicts) if trials_are_missing(unread) else verdicts


def strategy_verdict(
    strategy: FloatArray, benchmark: FloatArray, sessions: NDArray[np.datetime64], sessions_per_year: float, *,
    trials: int = 1, effective_trials: float = 1.0,
) -> Verdict:  # fmt: skip
    """The verdict on daily net returns alone, of anybody's book: see `judge`, whose arguments these are."""
    found = {"strategy": _judge_strategy(strategy, benchmark, sessions_per_year, sessions)}
    worth = {"strategy": float(np.clip(effective_trials, 1, trials))}
    return _corrected(found, trials, worth, ())["strategy"]


def _corrected(
    found: Mapping[str, tuple[Verdict, Estimate | None]],
    count: int,
    worth: Mapping[str, float],
    beside: Sequence[float],
) -> dict[str, Verdict]:
    """Head -> its verdict, corrected for the others, for those `beside` and for trials, and concluded.

    `found`: head -> verdict, and the estimate without its best year. `count`: trials; `worth`: as how many independent
    ones they count, by head.
    """
    heads = list(found)
    raw = np.array([found[head][0].pvalue for head in heads])
    verdicts = {}

    def corrected(place: int, pvalue: float) -> tuple[float, float]:
        """A p-value in the place of a verdict's: after Holm, and after the trials, too."""
        holm = float(significance.holm(np.r_[raw[:place], pvalue, raw[place + 1 :], beside])[place])
        return holm, after_trials(holm, worth[heads[place]])

    for place, head in enumerate(heads):
        verdict, without = found[head]
        holm, after = corrected(place, verdict.pvalue)
        verdict = replace(
            verdict, pvalue_holm=holm, pvalue_trials=after, trials=count, effective_trials=worth[head]
        )  # fmt: skip
        if claims(verdict, after, verdict.low):  # as it would stand without its best year, all else equal
            rest = None if without is None else claims(verdict, corrected(place, without.pvalue)[1], without.low)
            verdict = replace(verdict, survives=rest)
        verdicts[head] = conclude(verdict, corrected(place, verdict.clark_west))
    return verdicts


def with_trials_unknown(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """The verdicts where the ledger of trials cannot be read: none is evidence of skill, since luck cannot be told."""
    why = (
        f"The ledger {ledger_path()} cannot be read, so what else was tried is unknown, and this is no evidence of "
        "skill: mend it, or set GATECAST_DATA to another folder. With the trials that could be read: "
    )
    unknown = {head: replace(one, trials=None, pvalue_trials=np.nan) for head, one in verdicts.items()}
    return {
        head: replace(one, verdict=CANNOT_TELL, survives=None, sentence=why + one.sentence)
        if one.verdict == SKILL
        else one
        for head, one in unknown.items()
    }


def _worth(
    trials: Sequence[Trial],
    benchmark: FloatArray,
    sessions: NDArray[np.datetime64] | None,
    least: float | None,
) -> float | None:
    """As how many independent trials those on file count, at least `least`; None: in full, for want of dates."""
    if sessions is None:
        return None
    return max(least or 1.0, independent_trials(trials, *per_session(benchmark, sessions)))


def after_trials(pvalue: float, trials: float) -> float:
    """The chance that the best of so many independent trials has so small a p-value (Šidák 1967)."""
    return float(-np.expm1(trials * np.log1p(-pvalue))) if trials > 1 and pvalue < 1 else float(pvalue)


def _judge_head(record: Record, model: str, round_trip: float) -> tuple[Verdict, Estimate | None]:
    head, overlap = record.head, record.overlap
    days = day_means(record, model, RIVAL)
    name = "Clark-West and Diebold-Mariano" if head == "return" else "Diebold-Mariano"
    unit, cost = "share of the rival's loss", _break_even(record, round_trip)
    blank = _blank(head, name, len(days.day), cost, record.horizon, RIVAL, unit)
    aside = set_aside(record, model)
    blank = replace(
        blank, days=len(days.day), ties=aside.ties, capped=aside.capped,
        most_in_force=most_in_force(head, record.rivals),
    )  # fmt: skip
    if reason := too_little(record, model):
        return replace(blank, test="none", sentence=reason), None
    fixed = yardsticks(record, model)
    whole = estimate_gain(days, overlap, fixed)
    blank = replace(blank, effect=whole.effect, rival_loss=float(days.rival.mean()))
    if not np.isfinite(whole.error) or not differing(days.gain, days.rival).any():
        return replace(blank, sentence="The forecasts equal the rival's."), None
    if not np.isfinite(whole.statistic):
        return replace(blank, sentence="All forecasts are 0: there is nothing to test."), None
    years = days.day.astype("datetime64[Y]").astype(np.int64) + 1970
    tests = overlap_of(days, overlap)
    verdict = replace(
        _beside(blank, record, model),
        diebold_mariano=tests["diebold_mariano"],
        non_overlapping=tests["non_overlapping"],
        seed_spread=_seed_spread(record),
    )
    return _measured(verdict, whole, years, lambda rows: estimate_gain(days.of(rows), overlap, fixed))


def _beside(verdict: Verdict, record: Record, model: str) -> Verdict:
    """The verdict with the gains over the plain yardstick and over the best simple model, where there are such."""
    plain = gain_of(record, model, PLAIN[verdict.head])
    simple = best_simple(record, model)
    if plain:
        verdict = replace(
            verdict, plain=plain.over, plain_gain=plain.gain, plain_low=plain.low, plain_high=plain.high
        )  # fmt: skip
    if simple:
        verdict = replace(
            verdict, simple=simple.over, simple_gain=simple.gain, simple_low=simple.low, simple_high=simple.high,
            simpler="" if simple.low > 0 else simple.over,
        )  # fmt: skip
    return verdict


def _judge_strategy(
    strategy: FloatArray, benchmark: FloatArray, periods: float, sessions: NDArray[np.datetime64] | None
) -> tuple[Verdict, Estimate | None]:
    if sessions is not None:
        bars = len(strategy)
        (days, strategy), (_, benchmark) = (per_session(returns, sessions) for returns in (strategy, benchmark))
        sessions, periods = days, periods * len(days) / max(bars, 1)
    held = int(np.count_nonzero(strategy))
    blank = _blank("strategy", "HAC alpha", held, 0.0, 1, HELD, "alpha a year, net of costs")
    blank = replace(blank, days=len(strategy))
    if held == 0:
        text = "No position was ever held, so there is no profit or loss to judge."
        return replace(blank, effect=0.0, sentence=text), None
    if held < LEAST_TRADED:
        text = (
            f"A position was held on {held} of {len(strategy):,} days, too few for a verdict: "
            f"at least {LEAST_TRADED} are needed."
        )
        return replace(blank, sentence=text), None
    usual = np.quantile(benchmark, [0.01, 0.99])  # entering costs on one day, and earns nothing on the first
    if np.ptp(usual) <= SAME * np.abs(usual).max():
        return replace(blank, sentence="Buy and hold earned the same every day: there is nothing to judge."), None
    whole = estimate_alpha(strategy, benchmark, periods)
    if not np.isfinite(whole.statistic):
        reason = significance.hac_alpha(strategy, benchmark, whole.lag).reason
        return replace(blank, sentence=f"There is nothing to test: {reason}."), None
    years = None if sessions is None else sessions.astype("datetime64[Y]").astype(np.int64) + 1970
    return _measured(blank, whole, years, lambda rows: estimate_alpha(strategy[rows], benchmark[rows], periods))


def _judge_tilt(tilt: Tilt) -> tuple[Verdict, Estimate | None]:
    held, days = int(np.count_nonzero(tilt.held)), len(tilt.both)
    blank = replace(_blank("strategy", "HAC alpha", held, 0.0, 1, CORE, "alpha a year, net of costs"), days=days)
    if held == 0:
        text = "No strategy had evidence, so that nothing was added to the core: there is nothing to judge."
        return replace(blank, effect=0.0, sentence=text), None
    if held < LEAST_TRADED:
        text = f"The core was tilted on {held} of {days:,} days, too few for a verdict: {LEAST_TRADED} are the least."
        return replace(blank, sentence=text), None
    whole = tilt.alpha()
    if not np.isfinite(whole.statistic):
        text = "The tilt was more of the core, or less, and nothing else: there is nothing to test."
        return replace(blank, effect=0.0, sentence=text), None
    return _measured(blank, whole, tilt.sessions.astype("datetime64[Y]").astype(np.int64) + 1970, tilt.alpha)


def _blank(head: str, test: str, n: int, break_even: float, horizon: int, rival: str, unit: str) -> Verdict:
    nan = np.nan
    return Verdict(
        head, CANNOT_TELL, nan, nan, nan, test, nan, nan, nan, n, None, break_even, 1, horizon, rival, unit, ""
    )


def _measured(
    verdict: Verdict, whole: Estimate, years: NDArray[np.int64] | None, again: Callable[[BoolArray], Estimate]
) -> tuple[Verdict, Estimate | None]:
    """The verdict with its numbers, and the estimate without the best year, where that leaves enough."""
    n, total = whole.n, float(whole.series.sum())
    best = np.sort(whole.series)[-max(1, int(np.ceil(n / 100))) :]
    verdict = replace(
        verdict,
        effect=whole.effect, low=whole.low, high=whole.high, statistic=whole.statistic, pvalue=whole.pvalue,
        pvalue_watched=float(np.max([significance.sequential_mean(one, whole.lag).pvalue for one in whole.tested])),
        clark_west=whole.clark_west, least_certain=whole.least_certain,
        n_effective=whole.n_effective, detectable=whole.detectable, beta=whole.beta,
        n_needed=_days_for(whole.effect, whole.detectable, n, verdict.head),
        n_break_even=_days_for(verdict.break_even, whole.detectable, n, verdict.head),
        best_days=float(best.sum()) / total if total > 0 else np.nan,
    )  # fmt: skip
    if years is None or len(np.unique(years)) < 2:
        return verdict, None
    of_year = {int(year): float(whole.series[years == year].sum()) for year in np.unique(years)}
    year = max(of_year, key=lambda one: of_year[one])
    without = again(years != year)
    if without.n < LEAST_REST or not np.isfinite(without.statistic):
        return replace(verdict, best_year=year), None
    return replace(verdict, best_year=year, without_best_year=without.effect), without


def _days_for(effect: float, detectable: float, n: int, head: str) -> int | None:
    """Days in which an effect of this size would show. An R² shrinks with 1 / n, a difference with 1 / sqrt(n)."""
    if not (effect > 0 and detectable > 0):
        return None
    return int(np.ceil(min(n * (detectable / effect) ** (1 if head == "return" else 2), 1e12)))


def _seed_spread(record: Record) -> float:
    """Standard deviation over the LSTM's seeds of their gain over the rival in force; NaN of fewer than two."""
    seeds = record.members.get(NETWORK, ())
    if len(seeds) < 2:
        return float("nan")
    gains = []
    for values in seeds:
        days = day_means(record.with_forecasts(NETWORK, values), NETWORK, RIVAL)
        gains.append(gain_over(float(days.rival.mean()), float(days.model.mean())))
    return float(np.std(gains, ddof=1))


def _break_even(record: Record, round_trip: float) -> float:
    """The gain that costs swallow: the forecast's spread must exceed a round trip, so R² > (cost / sigma_h)².

    A probability's Brier gain is 2/pi of that (normal returns). Volatility and regime cost nothing to use: 0.
    """
    if record.head not in ("return", "direction") or not len(record):
        return 0.0
    sigma = [np.median(record.sigma[record.number == number]) for number in np.unique(record.number)]
    share = float((round_trip / (np.mean(sigma) * np.sqrt(record.horizon))) ** 2)
    return share if record.head == "return" else share * 2 / np.pi
