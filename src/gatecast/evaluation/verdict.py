"""Verdicts: records of forecasts, returns of the book -> a test, an outcome and a sentence for each head.

The unit of evidence is the day: the mean over symbols of volatility-standardised losses, at the one horizon that was
declared before the run. Each head is tested against the simple rival in force, the best so far at each refit (see
`rivals`); returns must also beat zero by Clark-West. T statistics of answers that overlap have fixed-b critical values.
P-values are corrected for the number of verdicts (Holm) and for the number of trials that were made on the same
instruments and span; beside them stands what the claim rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gatecast.arguments import checked
from gatecast.errors import SettingsError
from gatecast.evaluation.counted import independent_trials
from gatecast.evaluation.hindsight import best_simple, gain_of
from gatecast.evaluation.ledger import ledger_path, trials_are_missing, trials_on
from gatecast.evaluation.luck import overlap_of
from gatecast.evaluation.on_file import problems
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.record import Days, Record, day_means, gain_over, set_aside
from gatecast.evaluation.rivals import CAP, most_in_force
from gatecast.evaluation.scope import SAME, too_little
from gatecast.evaluation.trial import Trial
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE, NETWORK, PLAIN, RIVAL, forecaster_of, model_phrase
from gatecast.metrics import significance
from gatecast.metrics.returns import per_session
from gatecast.metrics.significance import BOUND
from gatecast.notebook import Shown, draw_intervals

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SKILL, NOTHING, CANNOT_TELL = "evidence of skill", "nothing worth trading", "cannot tell"
BEYOND = 0.842  # standard errors beyond the critical value at which an effect is found in 80 of 100 cases
POWER = BOUND + BEYOND  # standard errors that an effect must be away from 0: 5 % one-sided, 80 % power
EQUAL = 1e-9  # a difference of losses, in units of the mean loss, of no more is rounding
LEAST_TRADED = 60  # days on which something was held, before the strategy can be judged
LEAST_REST = 60  # days that must be left when a year is dropped
FLOOR = 1e-4
"""The least gain that can be skill, in units of the loss, however certain it is: what moving a probability by one
percentage point to where it belongs brings, or a variance by 1.4 %; of returns an R² of .01 %."""
NAMES = {
    "return": "The return forecast",
    "direction": "The probability of a rise",
    "volatility": "The volatility forecast",
    "regime": "The probability of turbulence",
    "strategy": "The strategy",
    "risk": "The forecast of the book's risk",
}
MEASURES = {
    "return": "R²", "direction": "gain in Brier score", "volatility": "gain in QLIKE", "regime": "gain in Brier score",
    "strategy": "alpha a year", "risk": "gain in QLIKE",
}  # fmt: skip
HELD = "buy and hold at the same average exposure"
CORE = "the core alone"
"""Rivals of the strategy: without a core, and with one."""
ADDED = "The core with its tilt"
"""The strategy's name where there is a core."""


@dataclass(frozen=True)
class Verdict(Shown):
    """One answer.

    Attributes
    ----------
    effect, low, high: gain over the rival and its 90 % interval, as a share of the rival's loss (for returns an R²;
        for the strategy: yearly alpha, and `beta` is its exposure to buy and hold). The rival is the one in force at
        each refit; `most_in_force` is its name at most of them; `rival_loss` its mean standardised loss.
    plain_gain, plain_low, plain_high: the gain over the plain yardstick, `plain`, likewise; simple_gain, simple_low,
        simple_high: over `simple`, the simple model that lost least, chosen with hindsight.
    pvalue: one-sided, fixed-b; of returns the larger one of `clark_west`, against forecasting no change, and of the
        gain over the rival; pvalue_holm: corrected over the run's verdicts; pvalue_trials: that, corrected for
        `effective_trials`, what the `trials` so far are worth as independent ones (see `judge`). Where the ledger of
        trials cannot be read, `trials` is None and pvalue_trials NaN (see `with_trials_unknown`).
    n: days (of the strategy those on which something was held; `days`: all); n_effective: as many independent ones;
        detectable: the smallest effect that they could have shown (80 % power); n_needed: days that it would take at
        this effect (None where it is not above 0).
    break_even: effect that costs swallow, and n_break_even the days in which one of that size would show.
    diebold_mariano, non_overlapping: one-sided p-values of the gain by the correction of Harvey, Leybourne and
        Newbold, and from every h-th day alone, which share no bar.
    best_days: share of the whole gain that the best 1 % of days brought (NaN where there is no gain).
    best_year: the year that brought most; without_best_year: the effect of the others; survives: whether a claim is
        still one without it (None where nothing is claimed).
    seed_spread: standard deviation over the LSTM's seeds of its gain over the rival (NaN where seeds are unknown).
    simpler: `simple`, where the gain over it is not above 0 for certain, else empty.
    forecast, control, money, shortfall: of the verdict on risk, its answers, see `evaluation.risk`; None of the others.
    ties, capped: forecasts that are not scored because the price stood still; whose loss counts as `rivals.CAP`.
    pvalue_watched: one-sided, of the same days, valid for a page that is looked at every day (see `sequential_mean`).
        It decides nothing: the verdict goes by `pvalue_trials`, and what is held by the evidence factor, a sequential
        test of its own (see `gatecast.trading.selection.evidence_factor`).
    """

    head: str
    verdict: str
    effect: float
    low: float
    high: float
    test: str
    statistic: float
    pvalue: float
    pvalue_holm: float
    n: int
    n_needed: int | None
    break_even: float
    trials: int | None
    horizon: int
    rival: str
    unit: str
    sentence: str
    pvalue_trials: float = np.nan
    effective_trials: float = 1.0
    n_effective: float = np.nan
    detectable: float = np.nan
    n_break_even: int | None = None
    beta: float = np.nan
    diebold_mariano: float = np.nan
    non_overlapping: float = np.nan
    best_days: float = np.nan
    best_year: int | None = None
    without_best_year: float = np.nan
    survives: bool | None = None
    seed_spread: float = np.nan
    simpler: str = ""
    pvalue_watched: float = np.nan
    clark_west: float = np.nan
    most_in_force: str = ""
    rival_loss: float = np.nan
    plain: str = ""
    plain_gain: float = np.nan
    plain_low: float = np.nan
    plain_high: float = np.nan
    simple: str = ""
    simple_gain: float = np.nan
    simple_low: float = np.nan
    simple_high: float = np.nan
    forecast: Mapping[str, Any] | None = None
    control: Mapping[str, Any] | None = None
    money: Mapping[str, Any] | None = None
    shortfall: Mapping[str, Any] | None = None
    days: int = 0
    ties: int = 0
    capped: int = 0

    @property
    def simple_is_as_good(self) -> bool:
        """Whether what was gained over the plain yardstick, or is claimed, a simple model gains as well."""
        return bool(self.simpler) and (self.verdict == SKILL or self.plain_low > 0)

    def plot(self) -> Any:
        """A Plotly figure: the gains over the rival in force, the plain yardstick and the best simple model."""
        rows = [
            ("over the rival in force", self.effect, self.low, self.high),
            (f"over {self.plain or 'the plain yardstick'}", self.plain_gain, self.plain_low, self.plain_high),
            (f"over {self.simple or 'the best simple model'}", self.simple_gain, self.simple_low, self.simple_high),
        ]
        return draw_intervals(rows, f"{self.head}: {self.verdict}", self.unit)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined numbers are None."""
        found: dict[str, Any] = jsonable(asdict(self))
        return found


@dataclass(frozen=True)
class Estimate:
    """An effect with its standard error, the statistic and p-value of the test, and how the days speak for it.

    `series`: (days,) contributions to the effect; `tested`: series that must all be above 0 on average, without days
    on which the forecasts are equal but for rounding, whose variance is watched over `lag`; `n`: days that tell;
    `share`: of them, those that the error's variance spans (b of fixed-b); `clark_west`: the p-value against
    forecasting no change; `detectable`: see `Verdict`.
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
        verdict is evidence of skill. The ledger's trials on this market and
        span count where they are more (`ledger.trials_on`), and every sentence says so. `effective_trials`: what their
        books are worth as independent ones (None: all of it, see `ledger.independent_trials`). It corrects a strategy's
        verdict alone: books can be alike with other forecasts behind them, and other with the same, so that for the
        forecasts every trial counts.
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
        if _claims(verdict, after, verdict.low):  # as it would stand without its best year, all else equal
            rest = None if without is None else _claims(verdict, corrected(place, without.pvalue)[1], without.low)
            verdict = replace(verdict, survives=rest)
        verdicts[head] = _conclude(verdict, corrected(place, verdict.clark_west))
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


def _claims(verdict: Verdict, pvalue: float, low: float) -> bool:
    return bool(pvalue < LEVEL and low > 0) and not _too_small(verdict) and not _below_plain(verdict)


def _below_plain(verdict: Verdict) -> bool:
    """Whether the gain over the plain yardstick is not certain: a rival that was the best once can fall behind it.

    Not asked of returns, which Clark-West tests against no change, the plain yardstick.
    """
    return bool(verdict.head != "return" and verdict.plain_low <= 0)


def _too_small(verdict: Verdict) -> bool:
    """Whether a gain is below what can matter, see `FLOOR`; of a strategy, which is money already, never."""
    return bool(verdict.effect * verdict.rival_loss < FLOOR)


def after_trials(pvalue: float, trials: float) -> float:
    """The chance that the best of so many independent trials has so small a p-value (Šidák 1967)."""
    return float(-np.expm1(trials * np.log1p(-pvalue))) if trials > 1 and pvalue < 1 else float(pvalue)


# ── one head, one strategy ────────────────────────────────────────────────────────────────────────


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
    zero = day_means(record, model, PLAIN[head]) if head == "return" else None
    whole = estimate_gain(days, overlap, zero)
    blank = replace(blank, effect=whole.effect, rival_loss=float(days.rival.mean()))
    if not np.isfinite(whole.error) or not _differing(days.gain, days.rival).any():
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
    return _measured(verdict, whole, years, lambda rows: estimate_gain(days.of(rows), overlap, zero))


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


def estimate_gain(days: Days, overlap: int, zero: Days | None = None) -> Estimate:
    """The gain over the rival as a share of its loss, tested by Diebold-Mariano with fixed-b critical values.

    With `zero`, the same returns beside forecasting no change, skill needs Clark-West against that, too: the larger
    p-value counts. What is `detectable` then is the R² of a calibrated forecast, whose gain is found last: with one
    symbol and no overlap 24.7 / n. Otherwise it is the gain at the standard error that there is.
    """
    n, scale = len(days.day), float(days.rival.mean())
    gain = significance.fixed_b_mean(days.gain, overlap)
    statistic, pvalue, clark_west = gain.statistic, gain.pvalue, np.nan
    tested: tuple[FloatArray, ...] = (days.gain[_differing(days.gain, days.rival)],)
    reach = significance.fixed_b_critical(BOUND, gain.share) + BEYOND
    detectable = reach * gain.standard_error / scale if scale > 0 else np.nan
    if zero is not None:
        against = zero.of(np.isin(zero.day, days.day))
        signal = significance.fixed_b_mean(against.adjusted, overlap)
        clark_west = signal.pvalue
        tested += (against.adjusted[_differing(against.adjusted, against.rival)],)
        if not signal.pvalue <= pvalue:  # it is larger, or undefined
            statistic, pvalue = signal.statistic, signal.pvalue
        base, size = float(against.rival.mean()), float(against.size.mean())
        detectable = (reach * signal.standard_error) ** 2 / max(base * size, 1e-300)
    return Estimate(
        gain.effect / scale if scale > 0 else np.nan, gain.standard_error / scale if scale > 0 else 0.0,
        statistic, pvalue, days.gain / scale if scale > 0 else days.gain, n,
        _effective(days.gain, gain.standard_error), detectable, gain.share, lag_of(n, overlap), tested,
        clark_west=clark_west,
    )  # fmt: skip


def _differing(rows: FloatArray, losses: FloatArray) -> BoolArray:
    """(days,) which rows exceed rounding at the scale of the losses they come from: equal forecasts are no evidence."""
    return np.asarray(np.abs(rows) > EQUAL * losses.mean()) if len(rows) else np.zeros(0, bool)


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
    reach = significance.fixed_b_critical(BOUND, test.share) + BEYOND
    return Estimate(
        test.effect * periods, test.standard_error * periods, test.statistic, test.pvalue, beyond * periods, held,
        min(_effective(beyond, test.standard_error), held), reach * test.standard_error * periods, test.share,
        lag_of(len(strategy)), (beyond,), line.slope,
    )  # fmt: skip


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
        clark_west=whole.clark_west,
        n_effective=whole.n_effective, detectable=whole.detectable, beta=whole.beta,
        n_needed=_days_for(whole.effect, whole.detectable, n, "return") if verdict.head == "return"
        else _days_needed(whole.statistic, n),
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


def lag_of(n: int, overlap: int = 1) -> int:
    """Lags of a variance that is watched as days come in: the overlap, and at least 4 (n / 100)^(2/9).

    A test made once uses `significance.bandwidth_of`, whose critical values know the bandwidth.
    """
    return max(overlap - 1, int(4 * (n / 100) ** (2 / 9)))


def _effective(series: FloatArray, error: float) -> float:
    """As many independent days as these are worth: their variance over the squared error of their mean."""
    return float(min(len(series), series.var() / error**2)) if error > 0 else float("nan")


def _days_needed(statistic: float, n: int) -> int | None:
    """Days for 80 % power at 5 % one-sided, if a difference of losses, or an alpha, is as estimated."""
    return int(np.ceil(n * (POWER / statistic) ** 2)) if statistic > 0.01 else None


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


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def _conclude(verdict: Verdict, signal: tuple[float, float] = (np.nan, np.nan)) -> Verdict:
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
    claimed = _claims(verdict, verdict.pvalue_trials, verdict.low)
    verdict = replace(verdict, verdict=SKILL) if claimed else verdict
    after = [*_gains_beside(verdict), *_set_aside(verdict)]
    if claimed:
        text = f"{name} beats {rival} out of sample: {gain}, {_odds(verdict)}{_but_simple(verdict)}."
        return replace(verdict, sentence=" ".join([text, *_reservations(verdict), *after]))
    outcome = NOTHING if verdict.high < verdict.break_even else CANNOT_TELL
    first = [f"{name} gains {_plain(verdict)}{_but_simple(verdict)}."] if verdict.simple_is_as_good else []
    if verdict.pvalue_trials < LEVEL and verdict.low > 0 and not _too_small(verdict):
        said = [
            f"{name} beats {rival}: {gain}, {_odds(verdict)}. That is no evidence of skill, because the gain "
            f"over the plain yardstick, {model_phrase(verdict.plain)}, is not significant: the rival was best earlier "
            f"and has become worse."
        ]
    elif verdict.pvalue_trials < LEVEL and verdict.low > 0:  # but for its size it would be a claim
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
    """That a simple model is as good, or better, and which; empty where none is."""
    if not verdict.simpler:
        return ""
    simple = forecaster_of(verdict.simpler)
    kind = "regression" if simple is None or simple.traits_with_settings().learns_slope else "rule"
    how = "better" if verdict.simple_high < 0 else "as well"
    return f", but a simple {kind} forecasts {verdict.head} {how}: {model_phrase(verdict.simpler)}"


def _gains_beside(verdict: Verdict) -> list[str]:
    """Sentences on the gains over the plain yardstick (where no other sentence has it) and the best simple model."""
    said = []
    if verdict.plain and (verdict.verdict == SKILL or not verdict.simple_is_as_good):
        said.append(f"{NAMES[verdict.head]} gains {_plain(verdict)}.")
        if verdict.plain == verdict.most_in_force and verdict.effect > 0 >= verdict.plain_gain:
            said.append("The gain over the rival comes from the refits at which the rival was another model.")
    if verdict.simple:
        gain = in_percent(verdict.simple_gain, verdict.simple_low, verdict.simple_high)
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

    >>> in_percent(0.118, 0.083, 0.152), in_percent(-0.0001, -0.0004, 0.0002)
    ('+11.8% (+8.3% to +15.2%)', '-0.010% (-0.040% to +0.020%)')
    >>> in_percent(-0.0001, -0.02, 0.02)
    '0.0% (-2.0% to +2.0%)'
    >>> in_percent(-0.685, -1.2, -0.1), in_percent(-2.9, -3.5, -2.2)
    ('-68.5% (worse than -100% to -10.0%)', 'worse than -100%')
    """
    middle, *ends = (_signed(share, _decimals(high - low)) for share in (effect, low, high))
    return middle if abs(effect) > 1 else f"{middle} ({' to '.join(ends)})"


def _signed(share: float, digits: int) -> str:
    if abs(share) > 1:
        return "worse than -100%" if share < 0 else "better than +100%"
    return f"{share:+.{digits}%}" if round(100 * share, digits) else f"{0:.{digits}%}"


def _percent(share: float) -> str:
    return "more than 100%" if share > 1 else f"{share:.{_decimals(share)}%}"


def _decimals(share: float) -> int:
    """Of a percentage: two digits where it is below 1 %, else one decimal."""
    return int(np.clip(1 - np.floor(np.log10(100 * share)), 1, 6)) if 0 < share < 0.01 else 1


def _p(value: float) -> str:
    return "p below .0001" if value < 1e-4 else f"p {value:.2g}"


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


def _not_seen(verdict: Verdict) -> str:
    """Why a gain above the smallest detectable one, or with an interval above 0, is no evidence; empty otherwise."""
    large = (
        "above the smallest detectable one" if verdict.effect >= verdict.detectable else "above 0 in all its interval"
    )
    if not (verdict.effect >= verdict.detectable or verdict.low > 0):
        return ""
    if verdict.pvalue_holm < LEVEL <= verdict.pvalue_trials:  # which is said already
        return ""
    if verdict.pvalue_trials >= LEVEL:
        alone = "significant" if verdict.pvalue < LEVEL else "not significant"
        return (
            f"The gain is {large}, but that refers to a single test: it is {alone} alone ({_p(verdict.pvalue)}) "
            f"and not significant after correction ({_odds(verdict)})."
        )
    return f"The gain is {large}, but its interval or that of the gain over the plain yardstick contains 0."


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
        longer = verdict.n * ((verdict.high - verdict.effect) * POWER / BOUND / max(verdict.effect, 1e-9)) ** 2
        said.append(
            f"The Clark-West test against no change is significant ({_odds(verdict, signal)}), but the gain over the "
            f"rival is not: at this gain about {_days(int(longer))} would be needed."
        )
    position = "tilt" if verdict.rival == CORE else "position"
    held = f" with a {position}, of {verdict.days:,}," if verdict.n < verdict.days else ""
    seen = f"{verdict.n:,} days{held} can detect {what} {_percent(verdict.detectable)}{year} (80 % power)"
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
