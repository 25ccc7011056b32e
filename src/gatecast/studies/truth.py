"""The study of planted truths: measured scores on simulated markets beside the best attainable ones.

Three kinds of line, named in each: the "whole chain" from bars to verdicts, "one model" out of sample on bars, and a
"statistic" alone on simulated series. Nothing of it enters the ledger of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import polars as pl

from gatecast.arguments import checked
from gatecast.chain import Chain, Progress, forecast_class, make_chain
from gatecast.compute.parallel import fan_out
from gatecast.compute.progress import shown
from gatecast.errors import SettingsError, did_you_mean
from gatecast.evaluation.judge import judge
from gatecast.evaluation.ledger import unrecorded
from gatecast.evaluation.paired import LEVEL
from gatecast.evaluation.plausible import TOO_GOOD
from gatecast.evaluation.record import records_of
from gatecast.evaluation.risk import ANSWERS
from gatecast.evaluation.verdict import SKILL
from gatecast.experiment import Experiment
from gatecast.files import jsonable
from gatecast.forecasting.combining.ensemble import Ensemble
from gatecast.forecasting.forecaster import Forecaster
from gatecast.forecasting.lstm import LSTM
from gatecast.forecasting.models.forest import Forest
from gatecast.forecasting.models.garch import Garch
from gatecast.forecasting.models.linear import Ridge
from gatecast.forecasting.models.logistic import Logistic
from gatecast.forecasting.models.markov import MarkovModel, filter_states, fit_markov, predict_states
from gatecast.forecasting.panel import ENSEMBLE, MODELS, NETWORK, PANEL, PLAIN, RIVAL, RIVALS, SIDE_BY_SIDE, entry
from gatecast.forecasting.schedule import Schedule
from gatecast.forecasting.walkforward import walk_forward
from gatecast.market import synthetic
from gatecast.metrics import significance as test
from gatecast.metrics.forecast import brier, qlike, r2_zero
from gatecast.notebook import Shown, draw_bars
from gatecast.samples.features import DEFAULT_FEATURES
from gatecast.samples.features.catalogue import RECURSIVE_WARMUP
from gatecast.samples.windows import make_samples
from gatecast.studies.placebo import verdicts_of
from gatecast.trading.book import Book, lines_of, sessions_by
from gatecast.trading.core import Core
from gatecast.trading.plausible import PLANTED
from gatecast.trading.signals import SignalSettings
from gatecast.verdicts import judge_chain, risk_of

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Kind = Literal["whole chain", "one model", "statistic"]
Found = dict[str, float]
"""What one run found, by name."""

KINDS: dict[Kind, str] = {
    "whole chain": "Whole chain: from bars to verdicts, refits, ensemble and selection included",
    "one model": "One model: out of sample on bars; optimum is the best that any forecast can reach",
    "statistic": "Statistic: share of simulated series on which a test rejects at 5 % though its null holds",
}
WALK_BARS = 2000
WINDOW = 29  # bars that a window needs before its last one
WARMUP = 22 + WINDOW  # bars before the first sample of features without a warm-up: those of a trailing volatility
NULL_HEADS = {
    "a1": ("return", "direction", "volatility", "regime", "strategy"),
    "a2": ("return", "direction", "strategy"),  # its variance can be forecast
    "a3": ("return", "direction", "volatility", "regime", "strategy"),
    "a4": ("return", "direction", "volatility", "regime", "strategy"),
}
NOT_COVERED = (
    "D1, alarms when a market changes: gatecast raises none yet.",
    "C, leaks: `gatecast audit` looks for them.",
)


@dataclass(frozen=True)
class Line:
    """One thing that was measured, over `runs` runs.

    `optimum` is the best attainable (None: there is none). `gate` was made for `gate_runs` runs; `passed` says whether
    it holds, None where there is no gate or the runs are fewer.
    """

    market: str
    kind: Kind
    measure: str
    measured: float
    optimum: float | None
    runs: int
    gate: str = ""
    gate_runs: int | None = None
    passed: bool | None = None
    note: str = ""

    def gated(self, gate: str, held: bool, runs: int | None = None) -> Line:
        """The line with a gate that was made for so many runs (None: for any number)."""
        needed = self.runs if runs is None else runs
        return replace(self, gate=gate, gate_runs=needed, passed=bool(held) if self.runs >= needed else None)

    @property
    def ratio(self) -> float | None:
        """Measured over optimum; None where that says nothing."""
        return self.measured / self.optimum if self.optimum else None

    @property
    def outcome(self) -> str:
        """What became of the gate, in a word or two."""
        few = "too few" if self.gate else ""
        return few if self.passed is None else "held" if self.passed else "MISSED"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain: dict[str, Any] = jsonable({**asdict(self), "ratio": self.ratio})
        return plain


@dataclass(frozen=True)
class Truth(Shown):
    """The bench's lines, and what it does not cover."""

    long: bool
    lines: tuple[Line, ...]
    not_covered: tuple[str, ...] = NOT_COVERED

    @property
    def passed(self) -> bool:
        """Whether every gate that was asked held."""
        return all(line.passed is not False for line in self.lines)

    @property
    def sentence(self) -> str:
        """What became of the gates."""
        count = {state: sum(line.passed is state and line.gate != "" for line in self.lines) for state in (True, False)}
        few = sum(line.outcome == "too few" for line in self.lines)
        text = f"{count[True]} gates held, {count[False]} missed"
        return f"{text}; {few} were made for more runs than these: see the long form." if few else f"{text}."

    def summary(self) -> str:
        """Plain text of at most 100 columns: a table a kind, and what became of the gates."""
        titles = ("runs", "measured", "optimum", "ratio", "gate (runs)")
        said = []
        for kind, title in KINDS.items():
            lines = [line for line in self.lines if line.kind == kind]
            if lines:
                said += [title, _row("", "", *titles, ""), *(text for line in lines for text in _rows(line)), ""]
        return "\n".join([*said, "Not covered:", *(f"  {text}" for text in self.not_covered), "", self.sentence])

    def plot(self) -> Any:
        """A Plotly figure: what was measured over the best attainable, where there is one; 1 is all of it."""
        ratios = {f"{line.market} {line.measure}": line.ratio for line in self.lines}
        return draw_bars(ratios, "Measured over attainable", "ratio", line=1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "form": "long" if self.long else "short", "passed": self.passed, "sentence": self.sentence,
            "lines": [line.to_dict() for line in self.lines], "not_covered": list(self.not_covered),
        }  # fmt: skip


def _row(*cells: str) -> str:
    """Market, measure, runs, measured, optimum, ratio, gate and outcome in columns."""
    return "  {:<6}{:<35}{:>5}{:>10}{:>8}{:>7}  {:<18}{}".format(*cells).rstrip()


def _rows(line: Line) -> list[str]:
    """The line, and its note below."""
    numbers = ("" if value is None else f"{value:.3g}" for value in (line.measured, line.optimum, line.ratio))
    gate = f"{line.gate} ({line.gate_runs})" if line.gate else ""
    row = _row(line.market, line.measure, str(line.runs), *numbers, gate, line.outcome)
    return [row, f"{'':<10}{line.note}"] if line.note else [row]


@dataclass(frozen=True)
class Part:
    """Runs of one kind: `work` makes one from its seed, `lines` says what they found together."""

    group: str
    work: Callable[[int], Found]
    lines: Callable[[list[Found]], list[Line]]
    short: int
    long: int


@checked
def truth(
    long: bool = False,
    *,
    seed: int = 0,
    runs: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    progress: Progress | bool | None = None,
) -> Truth:
    """Run the bench.

    Parameters
    ----------
    long: as many runs as the gates were made for, instead of a few; a run's data are the same.
    seed: of the first run of each part; the others count on from it. runs: of each part, instead of the form's own.
    only: some of `GROUPS`: walks, book, chain, b1, return, b2, b3, states, variance, statistics, claims, size.
    jobs: cores, one run each; changes no result. progress: called with a group, its runs done and its runs.

    Raises
    ------
    SettingsError for an unknown group, a seed below 0 or fewer than one run.

    >>> print(truth(only=("b1",), runs=2).lines[0].measure)
    Clark-West finds R² 1 %, ridge
    """
    for name in only or ():
        if name not in GROUPS:
            raise SettingsError(f"truth has no part {name!r}. {did_you_mean(name, GROUPS)}")
    if seed < 0 or (runs is not None and runs < 1):
        raise SettingsError(f"seed = {seed}, runs = {runs}: expected a seed of 0 or more, and at least one run.")
    parts = [part for part in PARTS if only is None or part.group in only]
    count = [(part.long if long else part.short) if runs is None else runs for part in parts]
    plan = [(part, one) for part, own in zip(parts, count, strict=True) for one in range(seed, seed + own)]
    groups = [part.group for part, _ in plan]
    done = 0

    def report(more: int) -> None:
        nonlocal done
        group = groups[done]
        done += more
        if told:
            told(f"truth: {group}", groups[:done].count(group), groups.count(group))

    work = [(part.work, one) for part, one in plan]
    with shown(progress) as told:
        found = iter(fan_out(_single_threaded, work, jobs=jobs, processes=True, progress=report))
    lines = [
        line
        for part, own in zip(parts, count, strict=True) if own
        for line in part.lines([next(found) for _ in range(own)])
    ]  # fmt: skip
    return Truth(long, tuple(_with_all_walks(lines)))


def _single_threaded(item: tuple[Callable[[int], Found], int]) -> Found:
    """One run that is no trial, on one thread: the last digits depend on their number."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), unrecorded():
        return item[0](item[1])


# ── A and B1: the whole chain ────────────────────────────────────────────────────────────────────


def chain(features: tuple[str, ...]) -> Experiment:
    """The experiment that walks: everything at its default but a refit a quarter, one network each, and no core.

    On one symbol a tilt is nothing but more of the core: the strategies are judged alone.
    """
    alone = Book(core=Core(kind="none"))
    return Experiment(features=features, model={NETWORK: LSTM(seeds=1)}, schedule=Schedule(refit="3M"), book=alone)


def walk(market: str, seed: int) -> Found:
    """One market with nothing to find: head -> 1 where the verdict claims skill or finds it too good, else 0."""
    bars = synthetic.MARKETS[market](WALK_BARS, seed)
    noise = tuple(name for name in bars.columns if name.startswith("noise_"))
    verdicts = verdicts_of(chain((*DEFAULT_FEATURES, *noise)), bars)
    return {head: float(verdicts[head].verdict in (SKILL, TOO_GOOD)) for head in NULL_HEADS[market]}


def allowed(runs: int) -> int:
    """How many of so many runs may claim: 99 % of honest benches have no more, each run claiming with 5 %.

    >>> [allowed(runs) for runs in (25, 100, 200, 400)]
    [4, 11, 18, 31]
    """
    from scipy.stats import binom

    return int(binom.ppf(0.99, runs, LEVEL))


def _walk_lines(market: str, found: list[Found]) -> list[Line]:
    claims = sum(any(run.values()) for run in found)
    heads = {head: int(sum(run[head] for run in found)) for head in found[0]}
    note = ", ".join(f"{head} {count}" for head, count in heads.items() if count)
    return [_claims(market.upper(), claims, len(found), note)]


def _claims(market: str, claims: int, runs: int, note: str = "") -> Line:
    most = allowed(runs)
    line = Line(market, "whole chain", "runs that claim skill, after Holm", claims, None, runs, note=note)
    return line.gated(f"<= {most}", claims <= most)


def _with_all_walks(lines: list[Line]) -> Iterator[Line]:
    """The lines, with the sum of the walks after the last of them."""
    walks = [line for line in lines if line.market.lower() in NULL_HEADS]
    for line in lines:
        yield line
        if len(walks) == len(NULL_HEADS) and line is walks[-1]:
            yield _claims("A1-A4", int(sum(one.measured for one in walks)), sum(one.runs for one in walks))


def found_in_chain(seed: int) -> Found:
    """B1 with an R² of 5 % a bar through the whole chain: is the verdict on returns evidence of skill?

    The same of an oracle that forecasts with the truth itself: on so few bars not even that always shows.
    """
    phi, r2, scale = 0.95, 0.05, 0.01
    bars = synthetic.b1(WALK_BARS, seed, scale, r2=r2, phi=phi)
    experiment = chain((*DEFAULT_FEATURES, "x")).replace(too_good=(PLANTED,))
    made = make_chain(experiment, bars)
    steps = np.arange(1, experiment.horizon + 1)
    x = bars["x"].to_numpy()[made.classes["index"].samples.ends]
    known = scale * r2**0.5 * x[:, None] * (1 - phi**steps) / (1 - phi)
    judged = {"return": made, "oracle": _with_returns(made, known)}
    with unrecorded():
        return {name: float(judge_chain(experiment, one)["return"].verdict == SKILL) for name, one in judged.items()}


def _with_returns(made: Chain, known: FloatArray) -> Chain:
    """The chain, had its ensemble forecast these returns, (samples, horizon), wherever it forecast any."""
    one = made.classes["index"]
    own = one.forecasts.values["ensemble"]
    heads = {**own, "return": np.where(np.isfinite(own["return"]), known, np.nan)}
    return replace(made, classes={"index": replace(one, forecasts=one.forecasts.with_model("ensemble", heads))})


def _chain_lines(found: list[Found]) -> list[Line]:
    share, best = _mean(found, "return"), _mean(found, "oracle")
    measure, note = "share with skill in returns, R² 5 %", "optimum: a forecast with the truth itself"
    return [Line("B1", "whole chain", measure, share, best, len(found), note=note)]


BOOK_BARS = 1500
NULL_ANSWERS = {"a1": ANSWERS, "a3": ANSWERS, "a2": ("money",)}  # the variance of A2 can be forecast
"""Market -> the answers of the verdict on risk that have nothing to find there."""


def book_of(market: str, seed: int, count: int = BOOK_BARS) -> Found:
    """The book of one market of `count` bars, by linear models: answer -> 1 where it claims by its own test, else 0."""
    bars = synthetic.MARKETS[market](count, seed)
    experiment = Experiment(
        features=("ret_log_1", "rv_5"), models=(Ridge.kind, Logistic.kind),
        schedule=Schedule(refit="3M", minimum="1Y"),
        signals=SignalSettings(model=Ridge.kind, confirmed_by=Ridge.kind),
    )  # fmt: skip
    made = make_chain(experiment, bars)
    sessions = sessions_by(made.facts, experiment.book)
    lines = lines_of(made.classes, sessions, experiment.book, only=(RIVAL, ENSEMBLE))
    risk = risk_of(experiment, made, lines, sessions)
    return {name: float(risk is not None and getattr(risk, name).pvalue < LEVEL) for name in NULL_ANSWERS[market]}


def _book_lines(market: str, found: list[Found]) -> list[Line]:
    most = allowed(len(found))
    return [
        Line(
            market.upper(), "whole chain", f"book: claims in {name}, alone", int(sum(run[name] for run in found)),
            None, len(found),
        ).gated(f"<= {most}", sum(run[name] for run in found) <= most)
        for name in found[0]
    ]  # fmt: skip


# ── B: one model ─────────────────────────────────────────────────────────────────────────────────


def returns_of(
    models: Sequence[Forecaster], bars: pl.DataFrame, features: tuple[str, ...], schedule: Schedule, last: int
) -> tuple[FloatArray, FloatArray, dict[str, dict[str, FloatArray]]]:
    """Out-of-sample forecasts of the next bar, of the last so many answered bars.

    Returns the answers (log returns; 1 for a rise) and model -> head -> forecasts, each (last,).
    """
    samples = make_samples(bars, features, horizon=1)["index"]
    forecasts = walk_forward(models, samples, schedule)
    rows = forecasts.rows[~np.isnat(samples.known_at[forecasts.rows])][-last:]
    ends = samples.ends[rows]
    values = {
        model: {head: values[rows].reshape(len(rows), -1)[:, -1] for head, values in heads.items()}
        for model, heads in forecasts.values.items()
    }
    return samples.targets["return"].value[ends, 0], samples.targets["direction"].value[ends], values


def b1(seed: int) -> Found:
    """A linear signal of R² 1 %: ridge on 2,000 bars and expanding, scored on 2,000."""
    bars = synthetic.b1(4000 + WARMUP + 1, seed, r2=0.01)
    schedule = Schedule(train=2000, minimum=2000, refit=250, expanding=True)
    answer, _, values = returns_of([Ridge()], bars, ("x",), schedule, 2000)
    forecast = values[Ridge.kind]["return"]
    found = test.clark_west(answer, np.zeros_like(answer), forecast).pvalue < LEVEL
    return {"found": float(found), "r2": r2_zero(answer, forecast)}


def _b1_lines(found: list[Found]) -> list[Line]:
    share, runs = _mean(found, "found"), len(found)
    power = Line("B1", "one model", "Clark-West finds R² 1 %, ridge", share, 1.0, runs)
    return [
        power.gated(">= 0.95", share >= 0.95, 100),
        Line("B1", "one model", "R² against zero, ridge, mean", _mean(found, "r2"), 0.01, runs),
    ]


RETURN_MODELS = SIDE_BY_SIDE["return"]


def return_head(horizon: int, seed: int) -> Found:
    """The same signal through the return head: from 2,000 bars, expanding, without a record before them.

    For each model the mean squared distance of its forecasts to the true conditional mean over the last 2,000 answered
    bars, over the variance of that mean: the noise of returns is not in it. Its realised R² is beside it.
    """
    r2, phi, scale = 0.01, 0.95, 0.01
    bars = synthetic.b1(4000 + WARMUP + 2 * horizon, seed, scale, r2=r2, phi=phi)
    schedule = Schedule(train=2000, minimum=2000, refit=250, expanding=True)
    models = tuple(name for name in MODELS if "return" in entry(name, {}).member_heads())
    experiment = Experiment(
        horizon=horizon, features=("x",), models=models, model={NETWORK: LSTM(seeds=1)},
        ensemble=Ensemble(volatility_members=(PLAIN["volatility"],)), schedule=schedule, seed=seed,
    )  # fmt: skip
    samples = make_samples(bars, ("x",), horizon=horizon)["index"]
    forecasts = forecast_class(experiment, samples)
    rows = forecasts.rows[~np.isnat(samples.known_at[forecasts.rows])][-2000:]
    ends = samples.ends[rows]
    answer = samples.targets["return"].value[ends, -1]
    slope = scale * r2**0.5 * (1 - phi**horizon) / (1 - phi)
    known = slope * bars["x"].to_numpy()[ends]
    found: Found = {}
    for name in RETURN_MODELS:
        forecast = forecasts.values[name]["return"][rows, -1]
        found[name] = float(((forecast - known) ** 2).mean() / slope**2)
        found[f"realised, {name}"] = r2_zero(answer, forecast)
    return found


def _return_lines(horizon: int, found: list[Found]) -> list[Line]:
    by_horizon = cast(dict[int, float], synthetic.truth_of("b1", r2=0.01)["r2_by_horizon"])
    best = by_horizon[horizon]
    ceiling = 1 - (1 - best) * (1 + 1 / (2000 - 1 - 1))
    lines = []
    for name in RETURN_MODELS:
        shares = [best * (1 - run[name]) / ceiling for run in found]
        realised = [run[f"realised, {name}"] / ceiling for run in found]
        share = float(np.mean(shares))
        measure = f"share of R² 1 %, h = {horizon}, {name}"
        note = f"standard error {_error(shares):.3f}; realised {np.mean(realised):.2f} ± {_error(realised):.2f}"
        line = Line("B1", "one model", measure, share, 1.0, len(found), note=note)
        lines.append(line.gated(">= 0.8", share >= 0.8, 20) if name == "ensemble" else line)
    return lines


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean; NaN of one value."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


B2_RUNS = 20  # of five, the median is luck: one network reaches .7 of the optimum, the next learns nothing


def b2(seed: int) -> Found:
    """Memory without anything linear: learned from 20,000 rows (5,000 more stop the LSTM), scored on 10,000."""
    bars = synthetic.b2(35_000 + WARMUP + 1, seed, b=0.3)
    schedule = Schedule(train=25_000, minimum=25_000, refit=25_000)
    models: list[Forecaster] = [
        LSTM(horizon=1, seeds=1, seed=seed),
        Ridge(),
        Logistic(heads=("direction",)),
        PANEL[PLAIN["direction"]].forecaster,
    ]
    answer, rose, values = returns_of(models, bars, ("z",), schedule, 10_000)
    chance = {model: brier(rose, values[model]["direction"]) for model in (Logistic.kind, PLAIN["direction"])}
    return {
        NETWORK: r2_zero(answer, values[NETWORK]["return"]),
        Ridge.kind: r2_zero(answer, values[Ridge.kind]["return"]),
        Logistic.kind: 1 - chance[Logistic.kind] / chance[PLAIN["direction"]],
    }


def _b2_lines(found: list[Found]) -> list[Line]:
    best, runs = cast(float, synthetic.truth_of("b2", b=0.3)["r2"]), len(found)
    each = sorted(run[NETWORK] for run in found)
    median, ridge = float(np.median(each)), max(run[Ridge.kind] for run in found)
    logistic = max(run[Logistic.kind] for run in found)
    spread = f"each run: {each[0] / best:.2f} to {each[-1] / best:.2f} of the optimum"
    return [
        Line("B2", "one model", "R² against zero, LSTM, median", median, best, runs, note=spread).gated(
            "ratio >= 0.6", median >= 0.6 * best, B2_RUNS
        ),
        Line("B2", "one model", "R² against zero, ridge, largest", ridge, 0.0, runs).gated("<= 0.002", ridge <= 0.002),
        Line("B2", "one model", "gain in Brier, logistic, largest", logistic, 0.0, runs).gated(
            "<= 0.002", logistic <= 0.002
        ),
    ]


def b3(seed: int) -> Found:
    """The pattern of three down bars, a spike of volume and a small recovery: from 50,000 bars, scored on 20,000."""
    bars = synthetic.b3(70_000 + WARMUP + 1, seed, c=1.0).with_columns(log_volume=pl.col("volume").log())
    schedule = Schedule(train=50_000, minimum=50_000, refit=50_000)
    models: list[Forecaster] = [LSTM(horizon=1, seeds=1, seed=seed), Forest(seed=seed), Ridge()]
    answer, _, values = returns_of(models, bars, ("ret_log_1", "log_volume"), schedule, 20_000)
    return {model: r2_zero(answer, values[model]["return"]) for model in (NETWORK, Forest.kind, Ridge.kind)}


def _b3_lines(found: list[Found]) -> list[Line]:
    best = cast(float, synthetic.truth_of("b3", c=1.0)["r2"])
    return [
        Line("B3", "one model", f"R² against zero, {model}, median", _median(found, model), best, len(found))
        for model in (NETWORK, Forest.kind, Ridge.kind)
    ]


# ── D2: hidden states ─────────────────────────────────────────────────────────────────────────────

STATES_GATE = (0.8, 1.01)  # of the oracle's gain: an honest filter has no more


def states(seed: int) -> Found:
    """The state of each bar of a hidden Markov market, said by a filter fitted on 2,500 bars, scored on 2,000.

    Gains in log likelihood a bar over the base rate, of the fitted filter and of one that knows the parameters:
    `filtered` at the bar itself, `predicted` the bar before.
    """
    bars, scale = synthetic.d2(4500, seed), 0.01
    returns = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan) / scale
    turbulent = bars["state"].to_numpy()[2500:] == 1
    stay = np.array(synthetic.STAY)
    moves = np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]])
    oracle = MarkovModel(synthetic.STATE_MEAN, synthetic.STATE_DEVIATION, moves)
    base = np.log(np.where(turbulent, oracle.stationary[1], oracle.stationary[0]))
    found = {}
    for name, model in (("fitted", fit_markov([returns[:2500]], seed=seed)), ("oracle", oracle)):
        chances = {
            "filtered": filter_states(returns, model)[2500:, 1],
            "predicted": predict_states(returns, model)[2499:-1, 1],
        }
        for when, chance in chances.items():
            right = np.where(turbulent, chance, 1 - chance)
            found[f"{when}, {name}"] = float(np.mean(np.log(np.maximum(right, 1e-12)) - base))
    return found


def _states_lines(found: list[Found]) -> list[Line]:
    least, most = STATES_GATE
    lines = []
    for when in ("filtered", "predicted"):
        gains = np.array([[run[f"{when}, {name}"] for name in ("fitted", "oracle")] for run in found])
        share = float(gains[:, 0].mean() / gains[:, 1].mean())
        error = _error(list((gains[:, 0] - share * gains[:, 1]) / gains[:, 1].mean()))
        measure = f"share of the filter's gain, {when}"
        line = Line("D2", "one model", measure, share, 1.0, len(found), note=f"standard error {error:.3f}")
        lines.append(line.gated(f"{least:.2f}-{most:.2f}", least <= share <= most, 5))
    return lines


# ── G: variance ──────────────────────────────────────────────────────────────────────────────────

VARIANCE_MODELS = SIDE_BY_SIDE["volatility"]
CONSTANT, EWMA = RIVALS["volatility"][:2]
VARIANCE_GATES = {"g1": 0.95, "g4": 0.90}
PATHS = 20  # that the gates were made for


def variance(market: str, seed: int) -> Found:
    """Forecasts of the next bar's variance, from 2,500 bars, scored on 2,000: expected QLIKE above the oracle's.

    The expectation is taken given the true variance, so that the noise of squared returns is not in it; the sums are
    those of the Mincer-Zarnowitz regressions of squared returns on the ensemble and on the true variance, and of the
    true variance on the ensemble, for the slopes over all paths. A refit is a year: GARCH is fitted at each, as in a
    run, whose refits are monthly.
    """
    bars = synthetic.MARKETS[market](4500 + RECURSIVE_WARMUP + WINDOW + 1, seed)
    schedule = Schedule(train=2500, minimum=2500, refit=250)
    yearly = {Garch.kind: Garch(every=1), NETWORK: LSTM(seeds=1)}
    experiment = Experiment(horizon=1, model=yearly, schedule=schedule, seed=seed)
    samples = make_samples(bars, horizon=1)["index"]
    forecasts = forecast_class(experiment, samples)
    rows = forecasts.rows[~np.isnat(samples.known_at[forecasts.rows])][-2000:]
    ends = samples.ends[rows]
    actual = bars["h_true"].to_numpy()[ends]
    unit = samples.facts.ratio[ends]
    found = {
        name: qlike(actual, forecasts.values[name]["volatility"][rows] * unit) for name in (*VARIANCE_MODELS, CONSTANT)
    }
    x = forecasts.values["ensemble"]["volatility"][rows] * unit * 1e4
    y = samples.targets["return"].value[ends, 0] ** 2 * 1e4
    h = actual * 1e4
    sums = {"n": len(x), "x": x.sum(), "y": y.sum(), "h": h.sum(), "xx": x @ x, "hh": h @ h}
    return found | sums | {"xy": x @ y, "xh": x @ h, "hy": h @ y}


def _variance_lines(market: str, found: list[Found]) -> list[Line]:
    known = {name: cast(float, value) for name, value in synthetic.truth_of(market).items()}
    constant, runs, name = _mean(found, CONSTANT), len(found), market.upper()
    shares = {model: 1 - _mean(found, model) / constant for model in VARIANCE_MODELS}
    lines = {
        model: Line(name, "one model", f"share of the QLIKE gap, {model}", share, 1.0, runs)
        for model, share in shares.items()
    }
    own = (known["qlike_constant"] - known["qlike_ewma"]) / (known["qlike_constant"] - known["qlike"])
    lines[EWMA] = replace(lines[EWMA], note=f"{own:.3f} is its own known share")
    slope, best = (_pooled_slope(found, of, "y") for of in "xh")
    noise = _error_of(partial(_pooled_slope, of="x", on="y"), found)
    of_truth = f"{_pooled_slope(found, 'x', 'h'):.3f} ± {_error_of(partial(_pooled_slope, of='x', on='h'), found):.3f}"
    lines["slope"] = Line(name, "one model", "Mincer-Zarnowitz slope, ensemble", slope, best, runs)
    note = f"standard error {noise:.3f}; optimum: the true variance's; of the true variance {of_truth}"
    lines["slope"] = replace(lines["slope"], note=note)
    if market in VARIANCE_GATES:
        least = VARIANCE_GATES[market]
        lines["ensemble"] = lines["ensemble"].gated(f">= {least:.2f}", shares["ensemble"] >= least, PATHS)
        lines["slope"] = lines["slope"].gated("0.85-1.15", 0.85 <= slope <= 1.15, PATHS)
    return list(lines.values())


def _pooled_slope(found: Sequence[Found], of: str, on: str) -> float:
    """The slope of a regression of `on` upon `of` over all paths, from the sums of each."""
    n, x, y, xx, xy = (sum(run[key] for run in found) for key in ("n", of, on, of * 2, of + on))
    return float((n * xy - x * y) / (n * xx - x * x))


def _error_of(statistic: Callable[[Sequence[Found]], float], found: list[Found]) -> float:
    """The standard error of what runs say together: the jackknife over them; NaN of one (Quenouille 1956)."""
    without = [statistic(found[:one] + found[one + 1 :]) for one in range(len(found))] if len(found) > 1 else [np.nan]
    return float(np.std(without) * (len(found) - 1) ** 0.5)


# ── the size of the statistics ───────────────────────────────────────────────────────────────────

SERIES, BARS = 100, 1000  # series in a run, bars in a series
SIZE_GATE = 0.08


def _summed(draw: Generator, horizon: int, bars: int = BARS) -> FloatArray:
    """(bars,) sums of the next `horizon` standard normal numbers: answers that overlap."""
    return np.convolve(draw.standard_normal(bars + horizon - 1), np.ones(horizon), "valid")


def _persistent(draw: Generator, phi: float, bars: int = BARS) -> FloatArray:
    """(bars,) an AR(1) path."""
    from scipy.signal import lfilter

    path: FloatArray = lfilter([1.0], [1.0, -phi], draw.standard_normal(bars + 200))[200:]
    return path


def _diebold_mariano(horizon: int, draw: Generator) -> float:
    return test.diebold_mariano(_summed(draw, horizon), _summed(draw, horizon), horizon).pvalue


def _clark_west(horizon: int, draw: Generator) -> float:
    """Three columns of noise, least squares on 500 bars, refitted every 50."""
    answer, inputs = _summed(draw, horizon, BARS + 500), draw.standard_normal((BARS + 500, 3))
    forecast = np.empty(BARS)
    for begin in range(0, BARS, 50):
        known = slice(begin, begin + 500 - horizon)
        weights = np.linalg.lstsq(inputs[known], answer[known], rcond=None)[0]
        forecast[begin : begin + 50] = inputs[begin + 500 : begin + 550] @ weights
    return test.clark_west(answer[500:], np.zeros(BARS), forecast, horizon).pvalue


def _pesaran_timmermann(horizon: int, draw: Generator) -> float:
    """A market that drifts, and a forecast that is bullish most of the time."""
    answer = _summed(draw, horizon) + 0.05 * horizon
    return test.pesaran_timmermann(answer, 0.5 + _persistent(draw, 0.8 if horizon > 1 else 0.0), horizon).pvalue


def _mincer_zarnowitz(draw: Generator) -> float:
    forecast = _persistent(draw, 0.9)
    return test.mincer_zarnowitz(forecast + draw.standard_normal(BARS), forecast).pvalue


def _hac_alpha(draw: Generator) -> float:
    """A book that is half the market and half a bet without reason, in size and side persistent."""
    market, other = 0.01 * draw.standard_t(5, (2, BARS)) + [[0.0005], [0.0]]
    bet = np.clip(_persistent(draw, 0.95), -1, 1)
    return test.hac_alpha(0.5 * market + bet * other, market, int(4 * (BARS / 100) ** (2 / 9))).pvalue


def _spa(null: str, draw: Generator) -> float:
    """Ten models on 250 bars: all as good as the benchmark; seven of them worse; or skewed, dependent losses."""
    losses = draw.standard_normal((250, 11))
    if null == "seven worse":
        losses[:, 4:] += 0.3
    if null == "skewed, dependent":
        losses = np.column_stack([_persistent(draw, 0.5, 250) ** 2 for _ in range(11)])
    return test.spa(losses[:, 0], losses[:, 1:], draws=250, seed=int(draw.integers(2**31))).pvalue


STATISTICS: dict[str, Callable[[Generator], float]] = {
    "Diebold-Mariano, h = 1": partial(_diebold_mariano, 1),
    "Diebold-Mariano, h = 5": partial(_diebold_mariano, 5),
    "Clark-West, h = 1": partial(_clark_west, 1),
    "Clark-West, h = 5": partial(_clark_west, 5),
    "Pesaran-Timmermann, h = 1": partial(_pesaran_timmermann, 1),
    "Pesaran-Timmermann, h = 5": partial(_pesaran_timmermann, 5),
    "Mincer-Zarnowitz": _mincer_zarnowitz,
    "alpha": _hac_alpha,
    "SPA, equal models": partial(_spa, "equal"),
    "SPA, seven worse": partial(_spa, "seven worse"),
    "SPA, skewed, dependent": partial(_spa, "skewed, dependent"),
}
"""Test -> the p-value that it gives to one simulated series on which its null holds."""


def size(name: str, seed: int) -> Found:
    """The share of `SERIES` simulated series on which a test rejects at 5 %, though its null holds."""
    number = list(STATISTICS).index(name)
    draws = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, k))) for k in range(SERIES)]
    return {"rejected": float(np.mean([STATISTICS[name](draw) < LEVEL for draw in draws]))}


def _size_lines(name: str, found: list[Found]) -> list[Line]:
    share, runs = _mean(found, "rejected"), len(found) * SERIES
    line = Line("", "statistic", f"rejects: {name}", share, LEVEL, runs)
    return [line.gated(f"<= {SIZE_GATE}", share <= SIZE_GATE, 1000)]


# ── the size of what a verdict rests on ──────────────────────────────────────────────────────────

OVERLAPS, PERSISTENCE, LENGTHS = (1, 5, 20), (0.95, 0.99), (1000, 4500)
BATCH = 500  # series in a run
SIZE_GATES = {0.05: (0.04, 0.06), 0.01: (0.007, 0.013)}


def fixed_b_size(seed: int) -> Found:
    """Shares of `BATCH` series on which a mean of 0 is rejected, by overlap, level, series' length and persistence.

    A row is a sum of the next h standard normal numbers times a forecast that has nothing to do with it, a stationary
    AR(1): what a gain or Clark-West's numbers are where there is nothing to find.
    """
    from scipy.signal import lfilter

    found = {}
    for bars, phi in product(LENGTHS, PERSISTENCE):
        draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(bars, round(100 * phi))))
        steps, shocks = draw.standard_normal((BATCH, bars + max(OVERLAPS))), draw.standard_normal((BATCH, bars))
        shocks[:, 0] /= np.sqrt(1 - phi**2)
        forecast = lfilter([1.0], [1.0, -phi], shocks, axis=1)
        total = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
        for overlap in OVERLAPS:
            table = (total[:, overlap : overlap + bars] - total[:, :bars]) * forecast
            pvalues = np.array([test.fixed_b_mean(row, overlap).pvalue for row in table])
            for level in SIZE_GATES:
                found[f"{overlap} {level} {bars} {phi}"] = float(np.mean(pvalues < level))
    return found


def _fixed_b_lines(found: list[Found]) -> list[Line]:
    """A line an overlap and level: the size that is farthest from its level, and those of all series below it."""
    lines, runs = [], len(found) * BATCH
    for overlap, (level, (least, most)) in product(OVERLAPS, SIZE_GATES.items()):
        sizes = {bars: [_mean(found, f"{overlap} {level} {bars} {phi}") for phi in PERSISTENCE] for bars in LENGTHS}
        every = np.concatenate(list(sizes.values()))
        worst = float(every[np.argmax(np.abs(every - level))])
        said = (f"{bars:,} rows {' and '.join(f'{share:.4f}' for share in shares)}" for bars, shares in sizes.items())
        note = f"AR(.95) and AR(.99): {', '.join(said)}"
        line = Line("", "statistic", f"rejects at {level:.0%}: fixed-b, h = {overlap}", worst, level, runs, note=note)
        held = bool(((every >= least) & (every <= most)).all())
        lines.append(line.gated(f"{least:g}-{most:g}".replace("0.", "."), held, 20_000))
    return lines


CLAIMS_GATE = 0.07
TRIVIAL = RIVALS["return"]
"""Forecasts of returns that are themselves rivals: as the model they must hardly ever be skill."""


def trivial_claims(seed: int) -> Found:
    """A Gaussian walk forecast by each of `TRIVIAL` as the model: 1 where the verdict on returns claims at 5 %.

    Before Holm's correction, which would hide the size of one verdict behind the number of all.
    """
    samples = make_samples(synthetic.a1(WALK_BARS, seed), ("ret_log_1",))["index"]
    models = {name: PANEL[name].forecaster for name in TRIVIAL}
    records = records_of({"index": walk_forward(models, samples, Schedule(refit="3M"))}, ("return",))
    nothing = np.zeros(0)
    found = {}
    for name in TRIVIAL:
        verdict = judge(records, nothing, nothing, round_trip=0.0, periods_per_year=252.0, model=name)["return"]
        found[name] = float(verdict.pvalue < LEVEL and verdict.low > 0)
    return found


def _trivial_lines(found: list[Found]) -> list[Line]:
    lines = []
    for name in TRIVIAL:
        share = _mean(found, name)
        line = Line("A1", "one model", f"skill in returns at 5 %: {name}", share, None, len(found))
        lines.append(line.gated(f"<= {CLAIMS_GATE}", share <= CLAIMS_GATE, 400))
    return lines


# ── the bench ────────────────────────────────────────────────────────────────────────────────────


def _mean(found: list[Found], name: str) -> float:
    return float(np.mean([run[name] for run in found]))


def _median(found: list[Found], name: str) -> float:
    return float(np.median([run[name] for run in found]))


PARTS = (
    *(Part("walks", partial(walk, name), partial(_walk_lines, name), 2, 25) for name in NULL_HEADS),
    *(Part("book", partial(book_of, name), partial(_book_lines, name), 2, 25) for name in NULL_ANSWERS),
    Part("chain", found_in_chain, _chain_lines, 2, 25),
    Part("b1", b1, _b1_lines, 100, 100),
    *(Part("return", partial(return_head, h), partial(_return_lines, h), 2, 20) for h in (1, 5)),
    Part("b2", b2, _b2_lines, 5, B2_RUNS),
    Part("b3", b3, _b3_lines, 0, 3),
    Part("states", states, _states_lines, 5, 20),
    *(
        Part("variance", partial(variance, name), partial(_variance_lines, name), short, PATHS)
        for name, short in (("g1", 2), ("g3", 0), ("g4", 2))
    ),
    *(Part("statistics", partial(size, name), partial(_size_lines, name), 10, 10) for name in STATISTICS),
    Part("claims", trivial_claims, _trivial_lines, 40, 400),
    Part("size", fixed_b_size, _fixed_b_lines, 2, 40),
)
GROUPS = tuple(dict.fromkeys(part.group for part in PARTS))
"""What `only` chooses from."""
