"""The verdict: is there any evidence of skill, in plain words, one a head and one for the strategy.

The unit of evidence is the day: the mean over symbols of volatility-standardised losses, at the one horizon that was
declared before the run. Holm's correction runs over all verdicts of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatecast.evaluation.compare import RIVALS, losses
from gatecast.metrics import significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatecast.forecasting.walkforward import Forecasts

    FloatArray = NDArray[np.float64]

SKILL, NOTHING, CANNOT_TELL = "evidence of skill", "nothing worth trading", "cannot tell"
LEVEL = 0.05
LEAST_TRADED = 60  # days of profit or loss, before the strategy can be judged
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
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """One answer. `effect`, `low`, `high`: gain over the rival and its 90 % interval, as a share of the rival's loss
    (for the strategy: yearly alpha). `pvalue` is one-sided, `pvalue_holm` corrected over the run's verdicts; `n` days,
    `n_needed` days that 80 % power would take at this effect (None where the effect is not above 0)."""

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined numbers are None."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def judge(
    forecasts: Mapping[str, Forecasts],
    strategy: FloatArray,
    benchmark: FloatArray,
    *,
    round_trip: float,
    periods_per_year: float,
    trials: int = 1,
    model: str = "ensemble",
) -> dict[str, Verdict]:
    """All verdicts of a run.

    Parameters
    ----------
    forecasts: asset class -> forecasts with the ensemble in them.
    strategy, benchmark: (sessions,) net simple returns of the book and of buy and hold.
    round_trip: mean cost in and out, a fraction: what an R² must bring in to be worth trading.
    trials: configurations tried on these instruments so far, this one included.
    """
    verdicts = {head: _judge_head(forecasts, head, model, round_trip, trials) for head in RIVALS}
    verdicts["strategy"] = _judge_strategy(strategy, benchmark, periods_per_year, trials)
    heads = list(verdicts)
    adjusted = significance.holm([verdicts[head].pvalue for head in heads])
    return {
        head: _conclude(replace(verdicts[head], pvalue_holm=float(p))) for head, p in zip(heads, adjusted, strict=True)
    }


def daily_gain(
    forecasts: Mapping[str, Forecasts], head: str, model: str, rival: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(days,) each: mean over symbols of the rival's loss, of the model's, and of Clark-West's adjusted gain.

    The last is NaN but for returns, where it is 2 · e · (f - b) in standardised units, e the rival's error.
    """
    days, rival_loss, model_loss, adjusted = [], [], [], []
    for one in forecasts.values():
        samples = one.samples
        base, loss = losses(one, head, rival), losses(one, head, model)
        rows = np.flatnonzero(np.isfinite(base) & np.isfinite(loss))
        days.append(samples.sessions[rows].astype("datetime64[D]").astype(np.int64))
        rival_loss.append(base[rows])
        model_loss.append(loss[rows])
        if head == "return":
            answer = samples.targets[head].value[samples.ends, -1]
            benchmark, forecast = one.values[rival]["return"][:, -1], one.values[model]["return"][:, -1]
            unit = samples.facts.sigma[samples.ends] ** 2 * samples.horizon
            adjusted.append((2 * (answer - benchmark) * (forecast - benchmark) / unit)[rows])
        else:
            adjusted.append(np.full(len(rows), np.nan))
    _, day = np.unique(np.concatenate(days), return_inverse=True)
    count = np.bincount(day)
    means = [np.bincount(day, np.concatenate(part)) / count for part in (rival_loss, model_loss, adjusted)]
    return means[0], means[1], means[2]


def _judge_head(forecasts: Mapping[str, Forecasts], head: str, model: str, round_trip: float, trials: int) -> Verdict:
    horizon = next(iter(forecasts.values())).samples.horizon
    daily = {rival: daily_gain(forecasts, head, model, rival) for rival in RIVALS[head]}
    rival = min(daily, key=lambda name: float(daily[name][0].mean()) if len(daily[name][0]) else np.inf)
    base, loss, adjusted = daily[rival]
    blank = Verdict(
        head, CANNOT_TELL, np.nan, np.nan, np.nan, "none", np.nan, np.nan, np.nan, len(base), None,
        _break_even(forecasts, head, round_trip), trials, horizon, rival, "share of the rival's loss", "",
    )  # fmt: skip
    overlap = max(one.samples.horizon_sessions for one in forecasts.values())
    if len(base) < 15 * overlap:
        return replace(blank, sentence=f"{len(base)} days are too few for any verdict: {15 * overlap} are the least.")
    lag = max(overlap - 1, int(4 * (len(base) / 100) ** (2 / 9)))
    gain = significance.hac_mean(base - loss, lag)
    scale = float(base.mean())
    if head == "return":
        test, name = significance.hac_mean(adjusted, lag), "Clark-West"
    else:
        test, name = gain, "Diebold-Mariano"
    if not np.isfinite(test.statistic) or np.abs(base - loss).max() <= 1e-9 * scale:  # equal but for rounding
        return replace(blank, effect=gain.effect / scale, test=name, sentence="The forecasts are the rival's own.")
    return replace(
        blank,
        effect=gain.effect / scale,
        low=(gain.effect - 1.645 * gain.standard_error) / scale,
        high=(gain.effect + 1.645 * gain.standard_error) / scale,
        test=name,
        statistic=test.statistic,
        pvalue=_upper_tail(test.statistic),
        n_needed=_days_needed(test.statistic, len(base)),
    )


def _judge_strategy(strategy: FloatArray, benchmark: FloatArray, periods: float, trials: int) -> Verdict:
    blank = Verdict(
        "strategy", CANNOT_TELL, np.nan, np.nan, np.nan, "HAC alpha", np.nan, np.nan, np.nan, len(strategy), None,
        0.0, trials, 1, "buy_and_hold at the same average exposure", "alpha a year, net of costs", "",
    )  # fmt: skip
    traded = int(np.count_nonzero(strategy))
    if traded == 0:
        return replace(blank, sentence="The evidence never allowed a position, so there is no profit or loss to judge.")
    if traded < LEAST_TRADED:
        text = f"There was profit or loss on {traded} days, too few for any verdict: {LEAST_TRADED} are the least."
        return replace(blank, sentence=text)
    alpha = significance.hac_alpha(strategy, benchmark, int(4 * (len(strategy) / 100) ** (2 / 9)))
    if not np.isfinite(alpha.statistic):
        return replace(blank, sentence=f"There is nothing to test: {alpha.reason}.")
    return replace(
        blank,
        effect=alpha.effect * periods,
        low=(alpha.effect - 1.645 * alpha.standard_error) * periods,
        high=(alpha.effect + 1.645 * alpha.standard_error) * periods,
        statistic=alpha.statistic,
        pvalue=_upper_tail(alpha.statistic),
        n_needed=_days_needed(alpha.statistic, len(strategy)),
    )


def _conclude(verdict: Verdict) -> Verdict:
    """The outcome and its sentence, once all p-values are corrected."""
    if verdict.sentence or not np.isfinite(verdict.pvalue_holm):
        return replace(verdict, sentence=verdict.sentence or "There is nothing to test.")
    name, rival = (
        NAMES[verdict.head],
        RIVAL_NAMES.get(verdict.rival, "buy and hold at the same average exposure"),
    )
    gain = f"{verdict.effect:+.1%} ({verdict.low:+.1%} to {verdict.high:+.1%})"
    unit = "alpha a year" if verdict.head == "strategy" else "in loss"
    significant = verdict.pvalue_holm < LEVEL
    if significant and verdict.low > 0:
        outcome = SKILL
        text = f"{name} beats {rival} out of sample: {gain} {unit}, p {verdict.pvalue_holm:.3g} after Holm."
        if verdict.high < verdict.break_even:
            text += f" It is too little to trade: costs ask for {verdict.break_even:.2%}."
    elif verdict.high < verdict.break_even:
        outcome = NOTHING
        text = (
            f"{name} brings nothing worth trading: {gain} {unit} against {rival}, "
            f"below the {verdict.break_even:.2%} that it would have to bring. Use {rival}."
        )
    else:
        outcome = CANNOT_TELL
        need = (
            f"; at this effect it would take about {verdict.n_needed:,} days to tell"
            if verdict.n_needed and verdict.n_needed > verdict.n
            else ""
        )
        text = f"{name} against {rival}: {gain} {unit} over {verdict.n:,} days. That is not enough to tell{need}."
    if significant and verdict.effect < 0:
        text = f"There is signal, the model wastes it: {name[0].lower() + name[1:]} is {gain} {unit} against {rival}."
    return replace(verdict, verdict=outcome, sentence=text)


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


def _upper_tail(statistic: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(-statistic))


def _days_needed(statistic: float, n: int) -> int | None:
    """Days for 80 % power at 5 % one-sided, if the effect is as estimated."""
    return int(np.ceil(n * ((1.645 + 0.842) / statistic) ** 2)) if statistic > 0.01 else None
