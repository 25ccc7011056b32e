"""The verdict: is there any evidence of skill, in plain words, one a head and one for the strategy.

The unit of evidence is the day: the mean over symbols of volatility-standardised losses, at the one horizon that was
declared before the run. P-values are corrected for the number of verdicts (Holm) and for the number of trials that
were made on the same instruments and span; beside them stands what the claim rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.compare import (
    RIVALS,
    best_rival,
    day_means,
    lag_of,
    overlap_of,
    per_session,
    sessions_spanned,
)
from gatecast.metrics import significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.evaluation.compare import Days
    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

SKILL, NOTHING, CANNOT_TELL = "evidence of skill", "nothing worth trading", "cannot tell"
LEVEL = 0.05
BOUND = 1.645  # standard errors to either end of the 90 % interval
POWER = 1.645 + 0.842  # standard errors that an effect must be away from 0: 5 % one-sided, 80 % power
LEAST_TRADED = 60  # days of profit or loss, before the strategy can be judged
LEAST_REST = 60  # days that must be left when a year is dropped
NAMES = {
    "return": "The return forecast",
    "direction": "The probability of a rise",
    "volatility": "The volatility forecast",
    "regime": "The probability of turbulence",
    "strategy": "The strategy",
}
RIVAL_NAMES = {
    "zero": "forecasting no change", "mean": "the historical mean", "base_rate": "the past share",
    "har": "the log-HAR", "constant": "a constant variance", "threshold": "the distance to the level alone",
    "har_regime": "the logistic regression on the HAR's terms",
    "bayes": "the Bayesian ridge regression",
    "ridge": "the ridge regression", "logistic": "the logistic regression",
    "ridge_long": "the ridge regression on everything known",
    "logistic_long": "the logistic regression on everything known",
    "har_symbol": "the extended log-HAR per symbol", "har_class": "the extended log-HAR of the class",
    "har_smooth": "the HAR of smoothed variances",
}  # fmt: skip
MEASURES = {
    "return": "R²", "direction": "gain in Brier score", "volatility": "gain in QLIKE", "regime": "gain in Brier score",
    "strategy": "alpha a year",
}  # fmt: skip
HELD = "buy and hold at the same average exposure"
SIMPLER = {
    "return": ("bayes", "ridge", "ridge_long"),
    "direction": ("logistic", "logistic_long"),
    "volatility": ("har_symbol", "har_class", "har_smooth", "ridge"),
    "regime": ("logistic", "logistic_long"),
}
"""The linear models of each head: where the model does not beat the best of them, that is the one to use."""


@dataclass(frozen=True)
class Verdict:
    """One answer.

    Attributes
    ----------
    effect, low, high: gain over the rival and its 90 % interval, as a share of the rival's loss (for returns an R²;
        for the strategy: yearly alpha, and `beta` is its exposure to buy and hold).
    pvalue: one-sided; pvalue_holm: corrected over the run's verdicts; pvalue_trials: that, corrected for
        `effective_trials`, what the `trials` so far are worth as independent ones (see `judge`).
    n: days; n_effective: as many independent ones; detectable: the smallest effect that they could have shown (80 %
        power); n_needed: days that it would take at this effect (None where it is not above 0).
    break_even: effect that costs swallow, and n_break_even the days in which one of that size would show.
    diebold_mariano, non_overlapping: one-sided p-values of the gain by the correction of Harvey, Leybourne and
        Newbold, and from every h-th day alone, which share no bar.
    best_days: share of the whole gain that the best 1 % of days brought (NaN where there is no gain).
    best_year: the year that brought most; without_best_year: the effect of the others; survives: whether a claim is
        still one without it (None where nothing is claimed).
    seed_spread: standard deviation over the LSTM's seeds of its gain over the rival (NaN where seeds are unknown).
    simpler: a linear model that is as good, else empty.
    pvalue_watched: one-sided, of the same days, valid for a page that is looked at every day (see `sequential_mean`).
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
    trials: int
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined numbers are None."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Estimate:
    """An effect with its standard error, the statistic of the test, and how the days speak for it.

    `series`: (days,) contributions to the effect; `tested`: those that the test looks at, whose long-run variance
    reaches up to `lag`; `detectable`: see `Verdict`.
    """

    effect: float
    error: float
    statistic: float
    series: FloatArray
    n_effective: float
    detectable: float
    lag: int
    tested: FloatArray
    beta: float = np.nan

    @property
    def pvalue(self) -> float:
        """One-sided."""
        from scipy.special import ndtr

        return float(ndtr(-self.statistic))

    @property
    def low(self) -> float:
        """Lower end of the 90 % interval."""
        return self.effect - BOUND * self.error

    @property
    def high(self) -> float:
        """Upper end of the 90 % interval."""
        return self.effect + BOUND * self.error


def judge(
    forecasts: Mapping[str, Forecasts],
    strategy: FloatArray,
    benchmark: FloatArray,
    *,
    round_trip: float,
    periods_per_year: float,
    trials: int = 1,
    model: str = "ensemble",
    effective_trials: float | None = None,
    sessions: NDArray[np.datetime64] | None = None,
) -> dict[str, Verdict]:
    """All verdicts of a run.

    Parameters
    ----------
    forecasts: asset class -> forecasts with the ensemble in them.
    strategy, benchmark: (bars,) net simple returns of the book and of buy and hold; `sessions`: (bars,) their dates,
        by which bars within a day are put together; periods_per_year: bars a year.
    round_trip: mean cost in and out, a fraction: what an R² must bring in to be worth trading.
    trials: configurations tried on these instruments so far, this one included; `effective_trials` what their books
        are worth as independent ones (None: all of it, see `ledger.independent_trials`). It corrects the strategy's
        verdict alone: books can be alike with other forecasts behind them, and other with the same, so that for the
        forecasts every trial counts.
    """
    count = max(trials, 1)
    found = {head: _judge_head(forecasts, head, model, round_trip) for head in RIVALS}
    found["strategy"] = _judge_strategy(strategy, benchmark, periods_per_year, sessions)
    worth = dict.fromkeys(found, float(count))
    if effective_trials is not None:
        worth["strategy"] = float(np.clip(effective_trials, 1, count))
    heads = list(found)
    raw = np.array([found[head][0].pvalue for head in heads])
    verdicts = {}
    for place, head in enumerate(heads):
        verdict, without = found[head]
        holm, rest = significance.holm(raw)[place], np.nan
        if without is not None:  # the claim as it would stand without its best year, all else equal
            holm_without = significance.holm(np.r_[raw[:place], without.pvalue, raw[place + 1 :]])[place]
            rest = _after_trials(holm_without, worth[head])
        verdict = replace(
            verdict, pvalue_holm=float(holm), pvalue_trials=_after_trials(holm, worth[head]),
            trials=count, effective_trials=worth[head],
        )  # fmt: skip
        if _claims(verdict.pvalue_trials, verdict.low):
            verdict = replace(verdict, survives=None if without is None else _claims(rest, without.low))
        verdicts[head] = _conclude(verdict)
    return verdicts


def _claims(pvalue: float, low: float) -> bool:
    return bool(pvalue < LEVEL and low > 0)


def _after_trials(pvalue: float, trials: float) -> float:
    """The chance that the best of so many independent trials has so small a p-value (Šidák 1967)."""
    return float(-np.expm1(trials * np.log1p(-pvalue))) if trials > 1 and pvalue < 1 else float(pvalue)


# ── one head, one strategy ────────────────────────────────────────────────────────────────────────


def _judge_head(
    forecasts: Mapping[str, Forecasts], head: str, model: str, round_trip: float
) -> tuple[Verdict, Estimate | None]:
    rival, days = best_rival(forecasts, head, model)
    horizon, n = next(iter(forecasts.values())).samples.horizon, len(days.day)
    name = "Clark-West" if head == "return" else "Diebold-Mariano"
    blank = _blank(head, name, n, _break_even(forecasts, head, round_trip), horizon, rival, "share of the rival's loss")
    overlap = sessions_spanned(forecasts)
    least = significance.BARS_PER_HORIZON * overlap
    if n < least:
        text = f"{n} days are too few for any verdict: {least} are the least."
        return replace(blank, test="none", sentence=text), None
    whole = estimate_gain(days, head, overlap)
    if not np.isfinite(whole.statistic) or np.abs(days.gain).max() <= 1e-9 * days.rival.mean():  # equal but rounding
        return replace(blank, effect=whole.effect, sentence="The forecasts are the rival's own."), None
    years = days.day.astype("datetime64[Y]").astype(np.int64) + 1970
    tests = overlap_of(days, overlap)
    verdict = replace(
        blank,
        diebold_mariano=tests["diebold_mariano"],
        non_overlapping=tests["non_overlapping"],
        seed_spread=_seed_spread(forecasts, head, rival),
        simpler=_as_good(forecasts, head, model, overlap),
    )
    return _measured(verdict, whole, years, lambda rows: estimate_gain(days.of(rows), head, overlap))


def estimate_gain(days: Days, head: str, overlap: int) -> Estimate:
    """The gain as a share of the rival's loss; returns are tested by Clark-West, all else by Diebold-Mariano.

    What is `detectable` of returns is the R² of a calibrated forecast that Clark-West finds: with one symbol and no
    overlap 6.2 / n. Otherwise it is the gain at the standard error that there is.
    """
    lag, scale = lag_of(len(days.day), overlap), float(days.rival.mean())
    gain = significance.hac_mean(days.gain, lag)
    test = significance.hac_mean(days.adjusted, lag) if head == "return" else gain
    tested = days.adjusted if head == "return" else days.gain
    detectable = POWER * gain.standard_error / scale
    if head == "return":
        detectable = (POWER * test.standard_error) ** 2 / (4 * scale * max(float(days.size.mean()), 1e-300))
    return Estimate(
        gain.effect / scale, gain.standard_error / scale, test.statistic, days.gain / scale,
        _effective(tested, test.standard_error), detectable, lag, tested,
    )  # fmt: skip


def _judge_strategy(
    strategy: FloatArray, benchmark: FloatArray, periods: float, sessions: NDArray[np.datetime64] | None
) -> tuple[Verdict, Estimate | None]:
    if sessions is not None:
        bars = len(strategy)
        (days, strategy), (_, benchmark) = (per_session(returns, sessions) for returns in (strategy, benchmark))
        sessions, periods = days, periods * len(days) / max(bars, 1)
    blank = _blank("strategy", "HAC alpha", len(strategy), 0.0, 1, HELD, "alpha a year, net of costs")
    traded = int(np.count_nonzero(strategy))
    if traded == 0:
        text = "The evidence never allowed a position, so there is no profit or loss to judge."
        return replace(blank, sentence=text), None
    if traded < LEAST_TRADED:
        text = f"There was profit or loss on {traded} days, too few for any verdict: {LEAST_TRADED} are the least."
        return replace(blank, sentence=text), None
    whole = estimate_alpha(strategy, benchmark, periods)
    if not np.isfinite(whole.statistic):
        reason = significance.hac_alpha(strategy, benchmark, lag_of(len(strategy))).reason
        return replace(blank, sentence=f"There is nothing to test: {reason}."), None
    years = None if sessions is None else sessions.astype("datetime64[Y]").astype(np.int64) + 1970
    return _measured(blank, whole, years, lambda rows: estimate_alpha(strategy[rows], benchmark[rows], periods))


def estimate_alpha(strategy: FloatArray, benchmark: FloatArray, periods: float) -> Estimate:
    """The yearly return beyond beta times buy and hold: what its average exposure to the market does not explain."""
    lag = lag_of(len(strategy))
    test = significance.hac_alpha(strategy, benchmark, lag)
    beyond = strategy - test.slope * benchmark if np.isfinite(test.slope) else strategy
    return Estimate(
        test.effect * periods, test.standard_error * periods, test.statistic, beyond * periods,
        _effective(beyond, test.standard_error), POWER * test.standard_error * periods, lag, beyond, test.slope,
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
    n = len(whole.series)
    total = float(whole.series.sum())
    best = np.sort(whole.series)[-max(1, int(np.ceil(n / 100))) :]
    verdict = replace(
        verdict,
        effect=whole.effect, low=whole.low, high=whole.high, statistic=whole.statistic, pvalue=whole.pvalue,
        pvalue_watched=significance.sequential_mean(whole.tested, whole.lag).pvalue,
        n_effective=whole.n_effective, detectable=whole.detectable, beta=whole.beta,
        n_needed=_days_needed(whole.statistic, n),
        n_break_even=_days_for(verdict.break_even, whole.detectable, n, verdict.head),
        best_days=float(best.sum()) / total if total > 0 else np.nan,
    )  # fmt: skip
    if years is None or len(np.unique(years)) < 2:
        return verdict, None
    of_year = {int(year): float(whole.series[years == year].sum()) for year in np.unique(years)}
    year = max(of_year, key=lambda one: of_year[one])
    rest = years != year
    if rest.sum() < LEAST_REST:
        return replace(verdict, best_year=year), None
    without = again(rest)
    return replace(verdict, best_year=year, without_best_year=without.effect), without


def _effective(series: FloatArray, error: float) -> float:
    """As many independent days as these are worth: their variance over the squared error of their mean."""
    return float(min(len(series), series.var() / error**2)) if error > 0 else float("nan")


def _days_needed(statistic: float, n: int) -> int | None:
    """Days for 80 % power at 5 % one-sided, if the effect is as estimated."""
    return int(np.ceil(n * (POWER / statistic) ** 2)) if statistic > 0.01 else None


def _days_for(effect: float, detectable: float, n: int, head: str) -> int | None:
    """Days in which an effect of this size would show. An R² shrinks with 1 / n, a difference with 1 / sqrt(n)."""
    if not (effect > 0 and detectable > 0):
        return None
    return int(np.ceil(min(n * (detectable / effect) ** (1 if head == "return" else 2), 1e12)))


def _seed_spread(forecasts: Mapping[str, Forecasts], head: str, rival: str) -> float:
    """Standard deviation over the LSTM's seeds of their gain over the rival."""
    members = {name: one.members.get("lstm", ()) for name, one in forecasts.items()}
    seeds = min(len(each) for each in members.values())
    if seeds < 2 or any(head not in each[0] for each in members.values()):
        return float("nan")
    gains = []
    for seed in range(seeds):
        alone = {name: one.with_model("lstm", members[name][seed]) for name, one in forecasts.items()}
        days = day_means(alone, head, "lstm", rival)
        gains.append(float(days.gain.mean() / days.rival.mean()))
    return float(np.std(gains, ddof=1))


def _as_good(forecasts: Mapping[str, Forecasts], head: str, model: str, overlap: int) -> str:
    """The best linear model of the head, if the model's gain over it is not above 0 for certain."""
    able = [
        name for name in SIMPLER[head]
        if name != model and all(head in one.values.get(name, {}) for one in forecasts.values())
    ]  # fmt: skip
    compared = {name: day_means(forecasts, head, model, name) for name in able}
    compared = {name: days for name, days in compared.items() if len(days.day)}
    if not compared:
        return ""
    linear = min(compared, key=lambda name: float(compared[name].rival.mean()))
    days = compared[linear]
    gain = significance.hac_mean(days.gain, lag_of(len(days.day), overlap))
    better = np.isfinite(gain.statistic) and gain.effect > BOUND * gain.standard_error
    return "" if better else linear


def _break_even(forecasts: Mapping[str, Forecasts], head: str, round_trip: float) -> float:
    """The gain that costs swallow: the forecast's spread must exceed a round trip, so R² > (cost / sigma_h)².

    A probability's Brier gain is 2/pi of that (normal returns). Volatility and regime cost nothing to use: 0.
    """
    if head not in ("return", "direction"):
        return 0.0
    sigma = [np.median(f.samples.facts.sigma[f.samples.ends[f.rows]]) for f in forecasts.values() if len(f.rows)]
    if not sigma:
        return 0.0
    horizon = next(iter(forecasts.values())).samples.horizon
    share = float((round_trip / (np.mean(sigma) * np.sqrt(horizon))) ** 2)
    return share if head == "return" else share * 2 / np.pi


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def _conclude(verdict: Verdict) -> Verdict:
    """The outcome and its sentence, once all p-values are corrected."""
    if verdict.sentence or not np.isfinite(verdict.pvalue_holm):
        return replace(verdict, sentence=verdict.sentence or "There is nothing to test.")
    name, rival = NAMES[verdict.head], HELD if verdict.head == "strategy" else RIVAL_NAMES[verdict.rival]
    gain = f"{MEASURES[verdict.head]} {in_percent(verdict.effect, verdict.low, verdict.high)}"
    if _claims(verdict.pvalue_trials, verdict.low):
        text = f"{name} beats {rival} out of sample: {gain}, {_odds(verdict)}."
        return replace(verdict, verdict=SKILL, sentence=" ".join([text, *_reservations(verdict)]))
    outcome = NOTHING if verdict.high < verdict.break_even else CANNOT_TELL
    if verdict.pvalue_trials < LEVEL and verdict.effect < 0:  # of returns alone: all else is tested by the gain itself
        text = (
            f"There is signal, the model wastes it: {name[0].lower() + name[1:]} has {gain} against {rival}, but "
            f"{verdict.test} finds signal, {_odds(verdict)}. Smaller forecasts would do better; use {rival} until then."
        )
        return replace(verdict, verdict=outcome, sentence=text)
    if outcome == NOTHING:
        needed = f", below the {_percent(verdict.break_even)} that it would have to bring"
        text = f"{name} brings nothing worth trading: {gain} against {rival}{needed if verdict.break_even > 0 else ''}."
        return replace(verdict, verdict=outcome, sentence=f"{text} Use {rival}.")
    return replace(verdict, verdict=outcome, sentence=" ".join(_undecided(verdict, name, rival, gain)))


def in_percent(effect: float, low: float, high: float) -> str:
    """An effect and its interval, with as many decimals as the interval's width can carry.

    >>> in_percent(0.118, 0.083, 0.152), in_percent(-0.0001, -0.0004, 0.0002)
    ('+11.8% (+8.3% to +15.2%)', '-0.010% (-0.040% to +0.020%)')
    """
    digits = _decimals(high - low)
    return f"{effect:+.{digits}%} ({low:+.{digits}%} to {high:+.{digits}%})"


def _percent(share: float) -> str:
    return f"{share:.{_decimals(share)}%}"


def _decimals(share: float) -> int:
    """Of a percentage: two digits where it is below 1 %, else one decimal."""
    return int(np.clip(1 - np.floor(np.log10(100 * share)), 1, 6)) if 0 < share < 0.01 else 1


def _p(value: float) -> str:
    return "p below .0001" if value < 1e-4 else f"p {value:.2g}"


def _days(count: int) -> str:
    """A number of days to two digits."""
    digits = max(0, int(np.floor(np.log10(max(count, 1)))) - 1)
    return f"{round(count, -digits):,} days"


def _odds(verdict: Verdict) -> str:
    if verdict.trials <= 1:
        return f"{_p(verdict.pvalue_holm)} after Holm"
    return f"{_p(verdict.pvalue_trials)} after Holm and the {verdict.trials:,} trials so far"


def _reservations(verdict: Verdict) -> list[str]:
    """What a reader of a claim must know."""
    found = []
    if verdict.high < verdict.break_even:
        found.append(f"It is too little to trade: costs ask for {_percent(verdict.break_even)}.")
    if verdict.survives is False:
        found.append(
            f"It rests on {verdict.best_year}: without that year the effect is {verdict.without_best_year:+.1%}, "
            "which is no evidence."
        )
    elif verdict.survives:
        found.append(f"It survives without its best year, {verdict.best_year} ({verdict.without_best_year:+.1%}).")
    if verdict.best_days >= 1:
        found.append("Without the best 1 % of days nothing is left of it.")
    elif verdict.best_days > 0.5:
        found.append(f"The best 1 % of days brought {verdict.best_days:.0%} of it.")
    if verdict.simpler:
        simple = RIVAL_NAMES[verdict.simpler]
        found.append(f"{simple[0].upper() + simple[1:]} alone is as good: use that, it is simpler.")
    return found


def _undecided(verdict: Verdict, name: str, rival: str, gain: str) -> list[str]:
    """Why it cannot be told, what could have been seen, what it would take, and what to use until then."""
    what = {"return": "an R² of", "strategy": "an alpha of"}.get(verdict.head, "a gain of")
    year = " a year" if verdict.head == "strategy" else ""
    said = [f"{name} against {rival}: {gain}. That is not enough to tell."]
    if verdict.pvalue_holm < LEVEL <= verdict.pvalue_trials:
        said.append(
            f"As a first try it would count ({_p(verdict.pvalue_holm)}), "
            f"as the best of {verdict.trials:,} trials it does not ({_p(verdict.pvalue_trials)})."
        )
    elif verdict.pvalue_trials < LEVEL:
        longer = verdict.n * ((verdict.high - verdict.effect) * POWER / BOUND / max(verdict.effect, 1e-9)) ** 2
        said.append(
            f"{verdict.test} finds signal ({_odds(verdict)}), but the gain's own interval includes 0: at this effect "
            f"it would take about {_days(int(longer))} until it does not."
        )
    seen = f"With {verdict.n:,} days you could have seen {what} {_percent(verdict.detectable)}{year}"
    if verdict.effect > 0 and verdict.n_needed and verdict.n_needed > verdict.n:
        seen += f"; at this effect you would need about {_days(verdict.n_needed)}"
    elif not verdict.n_needed and verdict.n_break_even and verdict.n_break_even > verdict.n:
        seen += (
            f"; for the {_percent(verdict.break_even)} that costs ask for you would need about "
            f"{_days(verdict.n_break_even)}"
        )
    said.append(seen + ".")
    if verdict.effect <= 0:
        said.append(f"Until more is known use {rival}: it is as good.")
    return said
