"""The verdict on risk, of lines of the book: better forecasts, better control, more money; three answers, never merged.

(a) forecast: QLIKE of the core's variance by a line's own covariance, against the square of its next session's return.
(b) control: how much the volatility of the book still varies, and how far it lay from what was forecast.
(c) money: what the book is worth beyond the rival's at equal volatility, in certainty equivalents.

Beside them stands the one declared test of tails, of the expected shortfall, see `evaluation.shortfall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gatecast.evaluation.judge import after_trials
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.verdict import CANNOT_TELL, FLOOR, NOTHING, SKILL, Verdict
from gatecast.files import jsonable
from gatecast.forecasting.panel import SIZED_BY, model_phrase
from gatecast.metrics import significance
from gatecast.metrics.risk import certainty_equivalent_gain, realised_by_forecast, spread_of_volatility
from gatecast.metrics.significance import FixedB

FloatArray = NDArray[np.float64]
WINDOW = 21
"""Sessions of a window of volatility."""
LEAST_SESSIONS = 250
"""Sessions of a book before its risk is judged."""
TESTS = 8
"""Tests of a run that a loss is corrected for, as a gain is."""
SHORTFALL = "gain in FZ0"
"""Measure of the test of expected shortfall."""
LEAST_SQUARE = 1e-4
"""Least square of a session's return, as a share of the mean square: the loss of a session without a move is finite."""


class Held(Protocol):
    """What a line of the book held and earned, see `gatecast.trading.book.Line`."""

    @property
    def net(self) -> FloatArray: ...
    @property
    def excess(self) -> FloatArray: ...
    @property
    def core_variance(self) -> FloatArray: ...
    @property
    def core_return(self) -> FloatArray: ...


@dataclass(frozen=True)
class Answer:
    """One line of the verdict: an effect with its 90 % interval, one-sided p-value and what could have been seen.

    `effect`: above 0 is better than the rival. `detectable`: the least effect that so many sessions show in 80 of 100
    cases. `reason`: why there is none; "" where there is. `pvalue_corrected`: for a run's other tests and trials, NaN
    before that and of what is no test.
    """

    measure: str
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    pvalue: float = np.nan
    detectable: float = np.nan
    n: int = 0
    reason: str = ""
    pvalue_corrected: float = np.nan

    @classmethod
    def of(cls, measure: str, test: FixedB, scale: float = 1.0) -> Answer:
        """A test's numbers, its effect over `scale`."""
        return cls(
            measure, test.effect / scale, test.low / scale, test.high / scale, test.pvalue,
            test.detectable / scale, test.n, test.reason,
        )  # fmt: skip

    @property
    def better(self) -> bool:
        """Whether the interval lies above 0, and the corrected p-value, where there is one, is significant."""
        return bool(self.low > 0 and not self.pvalue_corrected >= LEVEL)

    @property
    def worse(self) -> bool:
        """Whether the interval lies below 0, and as surely after the correction that a gain would need."""
        ratio = self.pvalue_corrected / self.pvalue if self.pvalue > 0 else np.nan
        corrected = (1 - self.pvalue) * max(ratio, TESTS) if np.isfinite(self.pvalue_corrected) else 0.0
        return bool(self.high < 0 and corrected < LEVEL)


@dataclass(frozen=True)
class Risk:
    """The three answers of a line against a rival's, the test of its tails, and the control of every line.

    `lines`: line -> `spread` (standard deviation of 21-session volatility over its mean), `worst` (the largest
    volatility of such a window over the mean of all) and `fifths` (realised over forecast variance of the core, from
    the lowest forecasts to the highest). `tails`: numbers beside the test of shortfall, see `evaluation.shortfall`;
    `gate`: see `evaluation.gate`.
    """

    rival: str
    forecast: Answer
    control: Answer
    money: Answer
    lines: Mapping[str, Mapping[str, Any]]
    shortfall: Answer = Answer(SHORTFALL, reason="no tails were said")
    tails: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: rival, forecast, control, money, lines, shortfall, tails, gate."""
        found: dict[str, Any] = jsonable(asdict(self))
        return found

    @property
    def pvalues(self) -> tuple[float, ...]:
        """Of the answers that are tests, see `TESTED`."""
        return tuple(getattr(self, name).pvalue for name in TESTED)

    @property
    def sentence(self) -> str:
        """What is better controlled, and what it earned or cost; never the one for the other."""
        reasons = {getattr(self, name).reason for name in ANSWERS[:3]}
        if len(reasons) == 1 and self.forecast.reason:
            return f"The book's risk cannot be judged: {self.forecast.reason}."
        first = ["It forecasts risk better, and earned less."] if self.forecast.better and self.money.worse else []
        return " ".join([*first, *self.sentences])

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answers, a sentence each, see `ANSWERS`."""
        others = {"shortfall": str(self.tails.get("against", "the plainest"))}
        return tuple(
            _in_words(name, getattr(self, name), others.get(name) or model_phrase(self.rival)) for name in ANSWERS
        )  # fmt: skip


def judge_risk(lines: Mapping[str, Held], model: str, rival: str, *, target: float, sessions_per_year: float) -> Risk:
    """The line of `model` against that of `rival`, over the same sessions.

    `target`: volatility a year at which money is compared. A better forecast must be better than the constant one, too,
    where that has a line (see `estimate.estimate_gain`): the larger p-value counts.
    """
    mine, other = lines[model], lines[rival]
    n = len(mine.net)
    control = {name: control_of(one) for name, one in lines.items()}
    if n < LEAST_SESSIONS:
        reason = f"it has {n} sessions, {LEAST_SESSIONS} are needed"
        forecast, spread, money = (Answer(name, n=n, reason=reason) for name in MEASURES)
        return Risk(rival, forecast, spread, money, control)
    forecast = gain_in_forecast(mine, other)
    if forecast.effect > 0 and (constant := lines.get(SIZED_BY[0])):
        over = gain_in_forecast(mine, constant).pvalue
        forecast = replace(forecast, pvalue=max(forecast.pvalue, over if np.isfinite(over) else 0.5))
    return Risk(
        rival, forecast, gain_in_control(mine.net, other.net),
        Answer.of(MEASURES[2], certainty_equivalent_gain(mine.excess[1:], other.excess[1:], target, sessions_per_year)),
        control,
    )  # fmt: skip


ANSWERS = ("forecast", "control", "money", "shortfall")
"""The answers of a verdict on risk, in the order in which they are told; the last is the test of tails."""
TESTED = ("forecast", "money", "shortfall")
"""The answers that are tests, which a run's Holm counts."""
QUOTED = ("control", "money")
"""The answers that the first screen quotes."""
MEASURES = ("gain in QLIKE", "fall of the variation of volatility", "certainty equivalent a year")


def gain_in_forecast(mine: Held, other: Held) -> Answer:
    """(a): by how much the mean QLIKE of the core's variance is lower, as a share of the rival's; one-sided."""
    squares = mine.core_return[1:] ** 2
    forecasts = np.column_stack([one.core_variance[:-1] for one in (mine, other)])
    good = np.isfinite(forecasts).all(axis=1) & (forecasts > 0).all(axis=1)
    if np.count_nonzero(good) < LEAST_SESSIONS or not squares[good].any():
        return Answer(MEASURES[0], n=int(good.sum()), reason="the core was held in too few sessions")
    squares = np.maximum(squares[good], LEAST_SQUARE * squares[good].mean())
    ratio = squares[:, None] / forecasts[good]
    loss = ratio - np.log(ratio) - 1
    test = significance.fixed_b_mean(loss[:, 1] - loss[:, 0])
    return Answer.of(MEASURES[0], test, float(loss[:, 1].mean()))


def gain_in_control(mine: FloatArray, other: FloatArray) -> Answer:
    """(b): by how much the variation of the volatility of separate windows is lower than the rival's; one-sided.

    By the delta method, from windows that share no session.
    """
    windows = [_separate(values[1:]) for values in (mine, other)]
    if min(float(one.mean()) for one in windows) <= 0:
        return Answer(MEASURES[1], reason="nothing was held in a whole window")
    (first, steps), (second, others) = (_spread(one) for one in windows)
    test = significance.fixed_b_mean(second - first + others - steps)
    return Answer.of(MEASURES[1], test)


def _separate(net: FloatArray) -> FloatArray:
    """(windows,) volatility of each window, the newest last."""
    count = len(net) // WINDOW
    return np.asarray(net[len(net) - count * WINDOW :].reshape(count, WINDOW).std(axis=1, ddof=1), np.float64)


def _spread(volatility: FloatArray) -> tuple[float, FloatArray]:
    """Standard deviation over mean, and (windows,) what each window adds to it beyond its share."""
    mean, deviation = float(volatility.mean()), float(volatility.std())
    away = volatility - mean
    if deviation == 0:
        return 0.0, np.zeros(len(volatility))
    return deviation / mean, (away**2 - deviation**2) / (2 * deviation * mean) - away * deviation / mean**2


def control_of(line: Held) -> dict[str, Any]:
    """The numbers of control of one line, see `Risk`."""
    square, forecast = line.core_return[1:] ** 2, line.core_variance[:-1]
    good = np.isfinite(forecast) & (forecast > 0)
    fifths = realised_by_forecast(square[good], forecast[good]).tolist() if good.sum() >= LEAST_SESSIONS else []
    windows = _separate(line.net[1:])
    mean = float(windows.mean()) if len(windows) else np.nan
    return {
        "spread": spread_of_volatility(line.net[1:]), "worst": float(windows.max()) / mean if mean > 0 else np.nan,
        "fifths": fifths,
    }  # fmt: skip


def verdict_on(risk: Risk, others: Mapping[str, Verdict]) -> Verdict:
    """The verdict on risk, beside a run's others, whose number and trials correct it.

    Its effect is that of the forecast: evidence of skill where that is better for certain. The other answers stand
    beside it, those that are tests with p-values corrected alike.
    """
    first = next(iter(others.values()))
    trials = float(first.trials or 1)
    holm = significance.holm(np.array([*(one.pvalue for one in others.values()), *risk.pvalues]))
    corrected = dict(zip(TESTED, holm[len(others) :].tolist(), strict=True))
    risk = replace(
        risk,
        **{name: replace(getattr(risk, name), pvalue_corrected=after_trials(one, trials))
           for name, one in corrected.items()},
    )  # fmt: skip
    forecast = risk.forecast
    outcome = CANNOT_TELL
    if forecast.pvalue_corrected < LEVEL and forecast.better:
        outcome = SKILL
    elif forecast.high < FLOOR:
        outcome = NOTHING
    answers = {
        name: {**asdict(getattr(risk, name)), "sentence": said}
        for name, said in zip(ANSWERS, risk.sentences, strict=True)
    }
    for name, one in corrected.items():
        answers[name]["pvalue_holm"] = one
    return Verdict(
        "risk", outcome, forecast.effect, forecast.low, forecast.high, "Diebold-Mariano", np.nan, forecast.pvalue,
        corrected["forecast"], forecast.n, None, np.nan, first.trials, 1, risk.rival, "share of the rival's loss",
        risk.sentence, pvalue_trials=forecast.pvalue_corrected, effective_trials=trials,
        detectable=forecast.detectable, days=forecast.n, forecast=answers["forecast"], control=answers["control"],
        money=answers["money"], shortfall=answers["shortfall"],
    )  # fmt: skip


# ── in words ──────────────────────────────────────────────────────────────────────────────────────


def sentences_of(verdict: Mapping[str, Any]) -> list[str]:
    """What a verdict of the scores says: its sentence, or of the one on risk the sentence of each of its answers.

    A sentence that says something else, as of a void verdict, stays one.

    >>> risk = {name: {"sentence": f"{name.title()}: no."} for name in ANSWERS[:3]}
    >>> sentences_of({"sentence": "Forecast: no. Control: no. Money: no.", **risk})
    ['Forecast: no.', 'Control: no.', 'Money: no.']
    >>> sentences_of({"sentence": "Void: a leak.", **risk}), sentences_of({"sentence": "No evidence."})
    (['Void: a leak.'], ['No evidence.'])
    """
    whole, said = str(verdict.get("sentence") or ""), list(_answers_of(verdict).values())
    if not said or not whole.endswith(" ".join(said)):
        return [whole] if whole else []
    first = whole.removesuffix(" ".join(said)).strip()
    return [first, *said] if first else said


def quoted(verdict: Mapping[str, Any]) -> list[str]:
    """What the first screen quotes of a verdict on risk: the sentences on control and on money, where it has them.

    >>> quoted({"sentence": "Void: a leak."})
    []
    """
    told, said = sentences_of(verdict), _answers_of(verdict)
    return [said[name] for name in QUOTED if said.get(name) in told]


def _answers_of(verdict: Mapping[str, Any]) -> dict[str, str]:
    """Answer -> its sentence, of those that the scores have: runs of before there was a test of tails lack it."""
    parts = {name: one for name in ANSWERS if isinstance(one := verdict.get(name), Mapping)}
    return {name: str(said) for name, one in parts.items() if (said := one.get("sentence"))}


def _in_words(name: str, answer: Answer, other: str) -> str:
    """An answer in a sentence; `other`: what it is against, as a reader calls it.

    One that is no test of the run's correction is a claim only where its effect is as large as could have been seen,
    which is about as strict as the correction.

    >>> found = Answer("fall", 0.010, 0.001, 0.019, 0.041, 0.014, 500)
    >>> _in_words("control", found, "the best simple forecast so far").partition(".")[0]
    'Control: cannot tell whether the volatility of the book varies less or more than when sized by the best simple \
forecast so far'
    >>> "varies less than" in _in_words("control", replace(found, detectable=0.009), "rival")
    True
    """
    title, (claim, better, worse, unit, digits) = name.title(), _WORDS[name]
    if answer.reason:
        return f"{title}: cannot be judged, {answer.reason}."
    plain = name in TESTED or not abs(answer.effect) < answer.detectable
    sure = plain and (answer.better or answer.worse)
    how = f"{better} or {worse}" if not sure else better if answer.better else worse
    told, unit = claim.format(how=how.format(other=other), other=other), unit.format(other=other)
    if not sure:
        told = f"cannot tell whether {told}"
    form = f"+.{digits}" + ("%" if name in ("forecast", "money") else "f")
    effect, low, high, seen = (
        format(value, form) for value in (answer.effect, answer.low, answer.high, answer.detectable)
    )
    alone = "" if name in TESTED else f", p {answer.pvalue:.2g} alone, not corrected for the other tests"
    if answer.low > 0 and not answer.better:
        over = " over a constant variance" if name == "forecast" and answer.pvalue >= LEVEL else ""
        alone = f", p {answer.pvalue:.2g}{over} alone and {answer.pvalue_corrected:.2g} after correction"
    return (
        f"{title}: {told}. {unit} {effect} (90 % interval {low} to {high}){alone}; "
        f"{seen.lstrip('+')} could have been seen."
    )


_WORDS = {
    "forecast": ("the variance of the core is forecast {how} than by {other}", "better", "worse", "Gain in QLIKE", 1),
    "control": (
        "the volatility of the book varies {how} than when sized by {other}",
        "less", "more", "Fall of the variation (standard deviation over mean) of 21-session volatility", 3,
    ),
    "money": (
        "the book earned {how} than when sized by {other}, at equal volatility and net of costs",
        "more", "less", "Difference a year", 2,
    ),
    "shortfall": (
        "the expected shortfall of the book is said {how}", "better than by each of the plain methods",
        "worse than by {other}",
        "Gain in FZ0 (a loss of value at risk and expected shortfall) over the method beaten least surely, {other},", 3,
    ),
}  # fmt: skip
"""Answer -> what it says, how where it is better and where it is worse, what its number is, and digits."""
